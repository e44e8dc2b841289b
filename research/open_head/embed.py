"""Where the landmarks of MediaPipe's face mesh, the iBUG 68 points and the electrode sites lie on the open
head.

The landmark network looks at renders of many people made by the head itself; every landmark that hits the
skin is carried to the average head by its triangle and weights, the median over all pictures is taken, left
and right are made mirror images, and the result is dropped onto the surface. Working on a slightly opened
mouth keeps upper and lower lip apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from eifer_ros.errors import ModelError
from eifer_ros.head import projection
from eifer_ros.head.model import Embedding, HeadModel
from eifer_ros.inference.network import open_shipped
from eifer_ros.reconstruction.landmarks.attention_mesh import LANDMARKER
from eifer_ros.render import head_sheet as show
from eifer_ros.render import rasteriser as raster
from eifer_ros.render import shade
from eifer_ros.types import ARKIT_52, F32, F64, U8

I64 = npt.NDArray[np.int64]
Detector = Callable[[U8], F32 | None]
"""A square RGB picture of one upright face that fills it as the network expects -> (478, 3) pixels, or None.
"""

MESH = 468
IRIS_RIGHT = 468
IRIS_LEFT = 473  # centre, then the edge at +x, top, -x and bottom of the picture
PICTURE = 512
OPEN = 0.3

# fmt: off
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132,
    93, 234, 127, 162, 21, 54, 103, 67, 109,
)
# fmt: on
LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
BROW_RIGHT = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
LIDS_RIGHT = (226, 247, 30, 29, 27, 28, 56, 190, 243, 112, 26, 22, 23, 24, 110, 25)
NOSE_RIGHT = (8, 193, 245, 188, 174, 217, 126, 129, 64, 98, 97, 2)
LOWER_LID_RIGHT = 23
MOUTH_CORNER_RIGHT = 61
BROW_TOP_RIGHT = (70, 63, 105, 66, 107)

# fmt: off
IBUG_68 = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389, 70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305, 33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380, 61, 39, 37, 0, 267, 269, 291, 405,
    314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)
# fmt: on
"""MediaPipe indices of the iBUG 300-W points, in iBUG's order (from the subject's right ear along the jaw).
"""

FRIDLUND_RIGHT = {
    1: ((151, 108, 10), (0.13, 0.71, 0.16)),
    3: ((104, 69, 105), (0.28, 0.61, 0.11)),
    5: ((69, 108, 66), (0.06, 0.17, 0.77)),
    7: ((9, 107, 151), (0.12, 0.77, 0.11)),
    9: ((205, 36, 203), (0.19, 0.34, 0.48)),
    11: ((194, 204, 106), (0.08, 0.21, 0.70)),
    13: ((170, 211, 32), (0.40, 0.05, 0.55)),
    15: ((200, 199, 201), (0.20, 0.11, 0.69)),
    17: ((118, 228, 229), (0.50, 0.06, 0.43)),
    19: ((213, 187, 192), (0.20, 0.75, 0.06)),
    21: ((215, 138, 172), (0.21, 0.37, 0.42)),
}
"""Right-sided Fridlund channels on MediaPipe triangles, from the coordinates of the scheme
(cvjena/electromyogram).
"""
KURAMOTO_RIGHT = {1: 108, 3: 105, 5: 228, 7: 36, 9: 32, 13: 71, 15: 116, 17: 172}
KURAMOTO_MIDDLE = {19: 9, 20: 164, 24: 168}
"""Nearest MediaPipe landmark of the Kuramoto 2019 sites."""


def face_mesh() -> Detector:
    """MediaPipe's network (`models/face_landmarks.onnx`) on a picture that is already the right crop."""
    network = open_shipped(LANDMARKER)

    def detect(image: U8) -> F32 | None:
        small = cv2.resize(image, (192, 192), interpolation=cv2.INTER_AREA)
        points, presence = network.run(["landmarks", "presence"], {"image": small[None]})
        return np.asarray(points * (image.shape[0] / 192.0), np.float32) if float(presence[0]) > 0.5 else None

    return detect


def paint(head: HeadModel, rng: np.random.Generator) -> F32:
    """(V, 3) RGB 0..1: the head with skin of some tone, and brows and lips once regions say where."""
    tone = np.array([0.86, 0.68, 0.57]) * rng.uniform(0.55, 1.1)
    colours = show.colours(head, tone).copy()
    if "brows" in head.regions:
        colours[head.regions["brows"]] = tone * 0.35
    return colours.clip(0.0, 1.0)


def _expression(**weights: float) -> F32:
    values = np.zeros(len(ARKIT_52), np.float32)
    for name, weight in weights.items():
        values[ARKIT_52.index(name)] = weight
    return values


def locate(head: HeadModel, detect: Detector, people: int, seed: int) -> F64:
    """(468, 3) consensus of the mesh landmarks on the average head with the mouth a little open (`OPEN`)."""
    rng = np.random.default_rng(seed)
    reference = head.vertices(expression=_expression(jawOpen=OPEN))
    solid = np.isin(head.parts, [head.part_names.index(name) for name in ("skin", "mouth", "socket")])
    solid_faces = head.faces[solid[head.faces].all(axis=1)]
    outside = (head.parts[solid_faces] == head.part_names.index("skin")).all(axis=1)
    hits: list[list[F32]] = [[] for _ in range(MESH)]
    for person in range(people):
        shape = rng.normal(0.0, 0.8, head.shape_size) if person else np.zeros(head.shape_size)
        colours = paint(head, rng)
        for yaw, pitch in ((0.0, 0.0), (0.22, 0.05), (-0.22, 0.05), (0.0, -0.18), (0.0, 0.15)):
            jaw = float(rng.uniform(0.0, 0.6))
            vertices = head.vertices(shape, _expression(jawOpen=jaw))
            picture = _picture(head, vertices, colours, yaw, pitch, rng)
            points = detect(picture.image)
            if points is None:
                continue
            # without eyeballs and teeth, and never on what is seen from inside or through the open mouth
            face_index, bary, _ = raster.rasterise(picture.pixels, solid_faces, PICTURE, PICTURE)
            facing = _facing(picture.pixels, solid_faces) & outside
            rows, columns = np.nonzero((face_index >= 0) & facing[face_index])
            distance, nearest = cKDTree(np.c_[columns, rows]).query(points[:MESH, :2])
            for landmark in np.flatnonzero(distance < 6.0):
                pixel = rows[nearest[landmark]], columns[nearest[landmark]]
                corners = reference[solid_faces[face_index[pixel]]]
                hits[landmark].append(bary[pixel] @ corners)
    return np.array([_median(np.array(vertex_hits)) for vertex_hits in hits])


def _facing(pixels: F32, faces: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """(F,) whether a triangle shows its outer side to the camera."""
    a, b, c = (pixels[faces[:, corner], :2] for corner in range(3))
    return np.asarray(
        (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1]) < 0
    )


def _median(points: npt.NDArray[Any]) -> F64:
    """Geometric median (Weiszfeld) of (N, 3) points; NaN where there are none."""
    if len(points) == 0:
        return np.full(3, np.nan)
    centre: F64 = np.asarray(np.median(points, axis=0), np.float64)
    for _ in range(20):
        weights = 1.0 / np.maximum(np.linalg.norm(points - centre, axis=1), 2e-4)
        centre = np.asarray(weights @ points / weights.sum(), np.float64)
    return centre


class _Picture:
    def __init__(self, image: U8, pixels: F32) -> None:
        self.image = image
        self.pixels = pixels


def _picture(
    head: HeadModel, vertices: F32, colours: F32, yaw: float, pitch: float, rng: np.random.Generator
) -> _Picture:
    """The face from 0.6 m, filling the picture as MediaPipe's crop does (1.5 times the face)."""
    middle = np.array([0.0, -0.035, 0.0])
    half = float(np.abs(vertices[head.parts == 0][:, 0]).max())
    distance = 0.6
    focal = PICTURE / (3.1 * half) * distance
    K = np.array([[focal, 0.0, (PICTURE - 1) / 2], [0.0, focal, (PICTURE - 1) / 2], [0.0, 0.0, 1.0]])
    pose = projection.facing_pose(distance, yaw=yaw, pitch=pitch, centre=middle)
    light = rng.normal([0.0, -0.4, -1.0], 0.3)
    image = shade.render(vertices, head.faces, K, pose, (PICTURE, PICTURE), colour=colours, light=light)
    return _Picture(image, projection.project(vertices, pose, K).astype(np.float32))


def mirror_pairs(points: F64) -> I64:
    """(L,) which landmark lies on the other side, by the best one-to-one match of mirrored positions."""
    mirrored = points * [-1.0, 1.0, 1.0]
    cost = np.linalg.norm(mirrored[:, None] - points, axis=-1) ** 2
    cost = cost + cost.T
    _, pairs = linear_sum_assignment(cost)
    return np.asarray(pairs, np.int64)


def landmark_pairs(head: HeadModel, detect: Detector) -> I64:
    """(468,) the mirror partner of every landmark: what the network says about the average face and about its
    mirror image.
    """
    rng = np.random.default_rng(0)
    rows = []
    for jaw in (0.0, 0.2):
        image = _picture(
            head, head.vertices(expression=_expression(jawOpen=jaw)), paint(head, rng), 0.0, 0.0, rng
        ).image
        for flipped in (image, np.ascontiguousarray(image[:, ::-1])):
            points = detect(flipped)
            if points is None:
                raise ModelError("the landmark network does not recognise the average face")
            rows.append((points[:MESH] - [(PICTURE - 1) / 2, (PICTURE - 1) / 2, 0.0]) * [1.0, -1.0, -1.0])
    return mirror_pairs(np.mean(rows, axis=0))


def symmetric(points: F64, pairs: I64) -> F64:
    """`points` made exact mirror images in pairs."""
    return np.asarray(0.5 * (points + points[pairs] * [-1.0, 1.0, 1.0]))


def drop(
    points: F64, vertices: npt.NDArray[Any], faces: npt.NDArray[Any], candidates: I64
) -> tuple[npt.NDArray[np.int32], F32]:
    """Closest points on the triangles `candidates` (indices into `faces`): triangle index and barycentric
    weights.
    """
    corners = np.asarray(vertices, np.float64)[faces[candidates]]
    tree = cKDTree(corners.mean(axis=1))
    triangles = np.empty(len(points), np.int32)
    weights = np.empty((len(points), 3), np.float32)
    for index, point in enumerate(points):
        _, near = tree.query(point, k=min(40, len(candidates)))
        distances = [closest_on_triangle(point, *corners[k]) for k in near]
        best = int(np.argmin([distance for distance, _ in distances]))
        triangles[index] = candidates[near[best]]
        weights[index] = distances[best][1]
    return triangles, weights


def closest_on_triangle(point: F64, a: F64, b: F64, c: F64) -> tuple[float, F64]:
    """Distance and barycentric weights of the closest point of a triangle (Ericson, Real-Time Collision
    Detection, 5.1.5).
    """
    ab = b - a
    ac = c - a
    normal = np.cross(ab, ac)
    size = float(normal @ normal)
    if size > 1e-24:
        offset = point - a
        v = float(np.cross(offset, ac) @ normal) / size
        w = float(np.cross(ab, offset) @ normal) / size
        if v >= 0.0 and w >= 0.0 and v + w <= 1.0:
            return float(abs(offset @ normal)) / float(np.sqrt(size)), np.array([1.0 - v - w, v, w])
    best: tuple[float, F64] | None = None
    for first, second, p, q in ((0, 1, a, b), (1, 2, b, c), (2, 0, c, a)):
        edge = q - p
        t = float(np.clip((point - p) @ edge / max(float(edge @ edge), 1e-24), 0.0, 1.0))
        distance = float(np.linalg.norm(point - p - t * edge))
        if best is None or distance < best[0]:
            weights = np.zeros(3)
            weights[first] = 1.0 - t
            weights[second] = t
            best = distance, weights
    assert best is not None
    return best


def iris_points(head: HeadModel) -> tuple[npt.NDArray[np.int32], F32]:
    """The ten iris landmarks as corners of eyeball triangles: centre, then the iris edge at +x, top, -x,
    bottom of the picture.
    """
    triangles = []
    weights = []
    for side in ("right", "left"):
        centre = head.part(f"pupil_{side}")
        pole = centre[np.argmax(head.template[centre][:, 2])]
        rim = head.part(f"iris_{side}")
        offset = head.template[rim] - head.template[pole]
        # +x of the picture is the subject's left
        iris_vertices = [
            pole,
            *(
                rim[np.argmax(offset @ axis)]
                for axis in np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
            ),
        ]
        for vertex in iris_vertices:
            face, corner = np.argwhere(head.faces == vertex)[0]
            triangles.append(face)
            weights.append(np.eye(3)[corner])
    return np.array(triangles, np.int32), np.array(weights, np.float32)


def regions(head: HeadModel, landmarks: F64, pairs: I64) -> dict[str, npt.NDArray[np.int32]]:
    """Vertex sets by name from landmark outlines seen from the front, on the average head with the mouth a
    little open.
    """
    vertices = head.vertices(expression=_expression(jawOpen=OPEN)).astype(np.float64)
    normals = shade.vertex_normals(vertices, head.faces)
    skin = head.parts == head.part_names.index("skin")

    def inside(outline: Sequence[int], margin_mm: float = 0.0) -> npt.NDArray[np.bool_]:
        polygon = (landmarks[list(outline)][:, :2] * 1e3).astype(np.float32)
        return np.array(
            [
                cv2.pointPolygonTest(polygon, (float(x), float(y)), True) >= -margin_mm
                for x, y in vertices[:, :2] * 1e3
            ]
        )

    def both(outline: Sequence[int], margin_mm: float = 0.0) -> npt.NDArray[np.bool_]:
        return inside(outline, margin_mm) | inside([int(pairs[index]) for index in outline], margin_mm)

    depth = vertices[:, 2]
    outer = inside(OVAL) & skin & (normals[:, 2] > -0.35) & (depth > depth[skin].mean() - 0.02)
    # vertices inside the mouth or nostrils lie well behind the landmarks around them
    lips = inside(LIPS) & skin & (depth > landmarks[list(LIPS)][:, 2].min() - 0.012)
    lids = both(LIDS_RIGHT) & (skin | (head.parts == head.part_names.index("socket")))
    brows = both(BROW_RIGHT, 1.5) & outer
    nose_half = [*NOSE_RIGHT]
    nose = inside([*nose_half, *(int(pairs[index]) for index in reversed(nose_half))]) & outer
    face = outer | lips | (lids & skin)
    eye_level = landmarks[LOWER_LID_RIGHT, 1]
    mouth_level = landmarks[MOUTH_CORNER_RIGHT, 1]
    brow_x = np.abs(landmarks[list(BROW_TOP_RIGHT), 0])
    order = np.argsort(brow_x)
    brow_line = np.interp(np.abs(vertices[:, 0]), brow_x[order], landmarks[list(BROW_TOP_RIGHT), 1][order])
    taken = lips | lids | nose | brows
    masks = {
        "face": face,
        "lips": lips,
        "brows": brows,
        "eyelids": lids,
        "nose": nose,
        "forehead": face & ~taken & (vertices[:, 1] > brow_line),
        "cheeks": face & ~taken & (vertices[:, 1] < eye_level) & (vertices[:, 1] >= mouth_level),
        "jaw": face & ~taken & (vertices[:, 1] < mouth_level),
    }
    return {name: np.flatnonzero(mask).astype(np.int32) for name, mask in masks.items()}


def embeddings(head: HeadModel, landmarks: F64, pairs: I64) -> dict[str, Embedding]:
    """All four embeddings from the mesh landmarks (468, 3) on the slightly opened average head."""
    reference = head.vertices(expression=_expression(jawOpen=OPEN)).astype(np.float64)
    candidates = np.flatnonzero((head.parts[head.faces] == head.part_names.index("skin")).all(axis=1))
    triangles, weights = drop(landmarks, reference, head.faces, candidates)
    iris_triangles, iris_weights = iris_points(head)
    triangles = np.concatenate([triangles, iris_triangles])
    weights = np.concatenate([weights, iris_weights])

    sites: dict[str, F64] = {}
    for number, (corners, shares) in FRIDLUND_RIGHT.items():
        share = np.array(shares) / sum(shares)
        sites[f"F{number}"] = share @ landmarks[list(corners)]
        sites[f"F{number + 1}"] = share @ landmarks[pairs[list(corners)]]
    kuramoto: dict[str, F64] = {}
    for number, landmark in KURAMOTO_RIGHT.items():
        kuramoto[f"K{number}"] = landmarks[landmark]
        kuramoto[f"K{number + 1}"] = landmarks[pairs[landmark]]
    for number, landmark in KURAMOTO_MIDDLE.items():
        kuramoto[f"K{number}"] = landmarks[landmark]

    def named(points: dict[str, F64]) -> Embedding:
        names = sorted(points, key=lambda name: int(name[1:]))
        return Embedding(
            tuple(names), *drop(np.array([points[name] for name in names]), reference, head.faces, candidates)
        )

    ibug = list(IBUG_68)
    return {
        "landmarks_478": Embedding(tuple(str(index) for index in range(len(triangles))), triangles, weights),
        "landmarks_68": Embedding(tuple(str(index) for index in range(68)), triangles[ibug], weights[ibug]),
        "electrodes_fridlund": named(sites),
        "electrodes_kuramoto": named(kuramoto),
    }


def place(head: HeadModel, detect: Detector, people: int, seed: int) -> HeadModel:
    """`head` with regions and embeddings: a first look at the plain head says where lips and brows are, a
    second sees them painted.
    """
    pairs = landmark_pairs(head, detect)
    plain = symmetric(locate(head, detect, max(4, people // 4), seed), pairs)
    painted = dataclasses.replace(head, regions=regions(head, plain, pairs))
    points = symmetric(locate(painted, detect, people, seed + 1), pairs)
    return dataclasses.replace(
        head, regions=regions(head, points, pairs), embeddings=embeddings(head, points, pairs)
    )
