"""What the camera must know once per head model: skin map coordinates, visibility of the surroundings, where
lips and brows lie.

The skin map is a cylinder round the vertical axis of the head: u runs once round the head (0.5 at the nose,
larger to the subject's left), v from crown (0) to neck (1). Works for every head model that has the 478
landmarks.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ...errors import ModelError
from ...head.model import HeadModel
from ...render import rasteriser as raster
from ...render import shade
from ...render.triples import cross, dot, minus, three
from ...types import F32, F64, I32, U8, Array, Bools

SKIN, EYE, TEETH, MOUTH, PAD, CABLE, CLOTH, HAIR, SHADOW = range(9)
"""Materials of the shading kernel."""

# indices of MediaPipe's 478 landmarks
LIPS_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
BROW_UPPER = {"right": (55, 107, 66, 105, 63, 70), "left": (285, 336, 296, 334, 293, 300)}
BROW_LOWER = {"right": (55, 65, 52, 53, 46, 46), "left": (285, 295, 282, 283, 276, 276)}
LID_UPPER = {
    "right": (133, 173, 157, 158, 159, 160, 161, 246, 33),
    "left": (362, 398, 384, 385, 386, 387, 388, 466, 263),
}
LID_LOWER = {
    "right": (133, 155, 154, 153, 145, 144, 163, 7, 33),
    "left": (362, 382, 381, 380, 374, 373, 390, 249, 263),
}


@raster.compiled
def cast(origins: Any, directions: Any, v: Any, faces: Any, furthest: bool, hit: Any, weights: Any) -> None:
    """Rays (N, 3) against triangles (Moeller and Trumbore 1997): nearest, or furthest, hit per ray; hit -1
    where there is none.
    """
    for n in range(origins.shape[0]):
        best = -1.0 if furthest else 1e9
        hit[n] = -1
        direction = three(directions[n], 0)
        for f in range(faces.shape[0]):
            corner = v[faces[f, 0]]
            u = minus(v[faces[f, 1]], corner)
            w = minus(v[faces[f, 2]], corner)
            across = cross(direction, w)
            det = dot(u, across)
            if abs(det) < 1e-14:
                continue
            to_origin = minus(origins[n], corner)
            p = dot(to_origin, across) / det
            if p < 0.0 or p > 1.0:
                continue
            turned = cross(to_origin, u)
            q = dot(direction, turned) / det
            if q < 0.0 or p + q > 1.0:
                continue
            s = dot(w, turned) / det
            if s > 1e-6 and ((s > best) if furthest else (s < best)):
                best = s
                hit[n] = f
                weights[n, 0] = 1.0 - p - q
                weights[n, 1] = p
                weights[n, 2] = q


@dataclass(frozen=True)
class Points:
    """N points glued to the surface: corners (N, 3) vertex indices, weights (N, 3)."""

    corners: I32
    weights: F32

    def on(self, values: Array) -> Array:
        """(N, k) values (V, k) interpolated at the points."""
        return np.asarray(np.einsum("nc,ncd->nd", self.weights, values[self.corners]))


@dataclass(frozen=True, eq=False)
class Surface:
    """A head model prepared for the camera. All in template coordinates."""

    head: HeadModel
    faces: I32
    skin_faces: I32
    material: U8
    """(F,) material per face."""
    uv: F32
    """(V, 2) skin map coordinates."""
    local: F32
    """(V, 3) kernel inputs: place on the template for skin, direction from the eye's centre for eyes, colour
    for the mouth.
    """
    openness: F32
    """(4, V) how much of its surroundings a vertex sees: at rest, jaw open, left eye closed, right eye
    closed.
    """
    centre: F64
    """(3,) middle of the skull, from which directions are counted."""
    eye_line: float
    """Height of the eyes, m."""
    unit: float
    """Distance between the eyes' centres, m."""

    def landmarks(self, indices: Any) -> F64:
        """(N, 3) template positions of landmarks."""
        embedding = self.head.embedding("landmarks_478")
        index = np.asarray(indices)
        corners = self.head.template[self.faces[embedding.triangles[index]]]
        return np.asarray(np.einsum("lc,lcd->ld", embedding.weights[index], corners), np.float64)

    def face(self, *indices: int) -> F64:
        """(N, 2) landmarks in face units: x, y from the middle between the eyes, 1 = distance between them."""
        return np.asarray((self.landmarks(indices)[:, :2] - [0.0, self.eye_line]) / self.unit)

    def glue(
        self, origins: npt.ArrayLike, directions: npt.ArrayLike, *, furthest: bool = False
    ) -> tuple[Points, Bools]:
        """Where rays meet the skin; the second result is False where they miss (such a point is put on
        triangle 0).
        """
        start = np.ascontiguousarray(np.broadcast_to(np.asarray(origins, np.float64), np.shape(directions)))
        rays = np.ascontiguousarray(directions, np.float64)
        hit = np.empty(len(rays), np.int64)
        weights = np.zeros((len(rays), 3))
        cast(start, rays, self.head.template.astype(np.float64), self.skin_faces, furthest, hit, weights)
        on_surface = hit >= 0
        weights[~on_surface] = (1.0, 0.0, 0.0)
        return Points(self.skin_faces[np.maximum(hit, 0)], weights.astype(np.float32)), on_surface

    def front(self, xy: npt.ArrayLike) -> Points:
        """Points of the face straight behind (N, 2) template x, y (metres), seen from the front."""
        flat = np.asarray(xy, np.float64).reshape(-1, 2)
        origins = np.column_stack([flat, np.full(len(flat), 1.0)])
        points, on_surface = self.glue(origins, np.broadcast_to([0.0, 0.0, -1.0], origins.shape))
        if not on_surface.all():  # beyond the outline: from the skull's centre outwards
            outward = np.column_stack([flat - self.centre[:2], np.full(len(flat), 0.02)])
            again, _ = self.around(outward[~on_surface])
            points.corners[~on_surface], points.weights[~on_surface] = again.corners, again.weights
        return points

    def around(self, directions: npt.ArrayLike) -> tuple[Points, Bools]:
        """Outermost points of the skin in (N, 3) directions from the skull's centre."""
        return self.glue(self.centre, np.asarray(directions, np.float64).reshape(-1, 3), furthest=True)

    def map_coordinates(self, positions: npt.ArrayLike) -> F64:
        """(N, 2) skin map u, v of template positions (N, 3)."""
        p = np.asarray(positions, np.float64)
        low, high = self._span
        return np.column_stack(
            [
                0.5 + np.arctan2(p[:, 0], p[:, 2] - self.centre[2]) / (2.0 * np.pi),
                (high - p[:, 1]) / (high - low),
            ]
        )

    @functools.cached_property
    def _span(self) -> tuple[float, float]:
        skin = np.unique(self.skin_faces)
        y = self.head.template[skin, 1]
        return float(y.min()), float(y.max())

    @property
    def height(self) -> float:
        """Metres covered by v."""
        low, high = self._span
        return high - low

    @functools.lru_cache(maxsize=4)  # noqa: B019 - surfaces are few and live as long as the process
    def positions(self, width: int) -> F32:
        """(width * 3 / 4, width, 3) template position of every texel of the skin map, nearest filled where
        there is no skin.
        """
        height = width * 3 // 4
        # the outermost layer wins: distance from the axis plays the part of nearness; one copy more across
        # the seam
        p = self.head.template
        radius = np.hypot(p[:, 0], p[:, 2] - self.centre[2])
        px = np.column_stack(
            [self.uv[:, 0] * width - 0.5, self.uv[:, 1] * height - 0.5, 1.0 / (0.05 + radius)]
        )
        whole = self.skin_faces[np.ptp(self.uv[self.skin_faces, 0], axis=1) < 0.5]
        index, bary, _ = raster.rasterise(px, whole, width, height)
        flat = np.einsum("hwc,hwcd->hwd", bary, p[whole[np.maximum(index, 0)]])
        nearest = ndimage.distance_transform_edt(index < 0, return_distances=False, return_indices=True)
        return np.asarray(flat[tuple(nearest)], np.float32)


def _sky_visibility(v: F32, faces: I32, count: int = 40, size: int = 160) -> F32:
    """(V,) cosine-weighted share of the sky each vertex sees: depth pictures from `count` directions round
    the head.
    """
    normals = shade.vertex_normals(v, faces)
    centre = v.mean(axis=0)
    reach = float(np.linalg.norm(v - centre, axis=1).max()) * 1.02
    golden = np.arange(count) + 0.5
    polar = np.arccos(1.0 - 2.0 * golden / count)
    turn = np.pi * (1.0 + 5**0.5) * golden
    directions = np.column_stack([np.sin(polar) * np.cos(turn), np.cos(polar), np.sin(polar) * np.sin(turn)])
    lit_share = np.zeros(len(v))
    total = np.full(len(v), 1e-6)
    for towards in directions:
        side = np.cross(towards, [0.3, 0.9, 0.2])
        side /= np.linalg.norm(side)
        frame = np.stack([side, np.cross(towards, side), -towards])
        flat = (v - centre) @ frame.T
        px = np.column_stack(
            [
                (flat[:, 0] / reach + 1.0) * 0.5 * (size - 1),
                (flat[:, 1] / reach + 1.0) * 0.5 * (size - 1),
                flat[:, 2] + 10.0,
            ]
        )
        _, _, depth = raster.rasterise(px, faces, size, size)
        x = np.round(px[:, 0]).astype(int)
        y = np.round(px[:, 1]).astype(int)
        # a 3x3 neighbourhood keeps slanting surfaces from shading themselves
        lit = ndimage.maximum_filter(np.where(np.isfinite(depth), depth, 20.0), 3)[y, x] > px[:, 2] - 0.004
        weight = np.maximum(normals @ towards, 0.0)
        lit_share += weight * lit
        total += weight
    return np.asarray(lit_share / total, np.float32)


def _smooth(values: F32, faces: I32, rounds: int) -> F32:
    """Mean over neighbours, `rounds` times."""
    result = values.astype(np.float64)
    count = np.bincount(faces.reshape(-1), minlength=len(values)).astype(np.float64)
    for _ in range(rounds):
        sums = np.zeros(len(values))
        mean = result[faces].mean(axis=1)
        for corner in range(3):
            np.add.at(sums, faces[:, corner], mean)
        result = np.where(count > 0, sums / np.maximum(count, 1.0), result)
    return np.asarray(result, np.float32)


def _pose_expression(head: HeadModel, weights: dict[str, float]) -> F32:
    expression = np.zeros(head.expression_size, np.float32)
    for name, value in weights.items():
        if name in head.expression_names:
            expression[head.expression_names.index(name)] = value
    return head.vertices(expression=expression)


@functools.lru_cache(maxsize=4)
def _prepare(head_ref: _Ref) -> Surface:
    head = head_ref.head
    if "landmarks_478" not in head.embeddings:
        raise ModelError(
            f"head model '{head.id}' has no landmarks_478; the simulated camera needs them to place lips and brows"
        )
    faces = np.ascontiguousarray(head.faces, np.int32)
    template = head.template
    part = head.parts[faces[:, 0]]
    names = np.array(head.part_names)
    material = np.full(len(faces), SKIN, np.uint8)
    local = template.copy()
    colours = {
        "teeth": (0.80, 0.74, 0.62),
        "gum": (0.52, 0.20, 0.19),
        "tongue": (0.55, 0.20, 0.19),
        "mouth": (0.30, 0.08, 0.07),
        "lash": (0.02, 0.015, 0.012),
    }
    for index, name in enumerate(names):
        mine = head.parts == index
        if name.startswith(("eye_", "iris", "pupil", "sclera", "cornea", "eyeball")):
            side = "left" if "left" in name else "right"
            joint = f"eye_{side}"
            if joint in head.joints:
                centre = head.joint_template[head.joints.index(joint)]
            else:
                centre = template[mine].mean(axis=0)
            local[mine] = template[mine] - centre
            material[part == index] = EYE
        else:
            for word, colour in colours.items():
                if word in name:
                    local[mine] = colour
                    material[part == index] = TEETH if word == "teeth" else HAIR if word == "lash" else MOUTH
    skin_faces = np.ascontiguousarray(faces[material == SKIN])
    embedding = head.embedding("landmarks_478")
    marks = embedding.points(template, faces)
    right = marks[[33, 133]].mean(axis=0)
    left = marks[[263, 362]].mean(axis=0)
    skin = np.unique(skin_faces)
    eye_line = float((right[1] + left[1]) / 2.0)
    unit = float(np.linalg.norm(left - right))
    upper = template[skin][template[skin, 1] > eye_line]
    centre = np.array([0.0, eye_line, float((upper[:, 2].min() + upper[:, 2].max()) / 2.0)])
    low = float(template[skin, 1].min())
    high = float(template[skin, 1].max())
    uv = np.column_stack(
        [
            0.5 + np.arctan2(template[:, 0], template[:, 2] - centre[2]) / (2.0 * np.pi),
            (high - template[:, 1]) / (high - low),
        ]
    )
    solid = faces[material != HAIR]
    poses: tuple[dict[str, float], ...] = (
        {},
        {
            "jawOpen": 0.7,
            "mouthLowerDownLeft": 0.6,
            "mouthLowerDownRight": 0.6,
            "mouthUpperUpLeft": 0.6,
            "mouthUpperUpRight": 0.6,
        },
        {"eyeBlinkLeft": 1.0},
        {"eyeBlinkRight": 1.0},
    )
    openness = np.stack(
        [_smooth(_sky_visibility(_pose_expression(head, pose), solid), faces, 1) for pose in poses]
    )
    openness = np.clip(openness, 0.0, 1.0)
    return Surface(
        head,
        faces,
        skin_faces,
        material,
        uv.astype(np.float32),
        local.astype(np.float32),
        openness.astype(np.float32),
        centre,
        eye_line,
        unit,
    )


@dataclass(frozen=True, eq=False)
class _Ref:
    """A head as a dictionary key: by identity, because arrays do not hash."""

    head: HeadModel

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Ref) and other.head is self.head

    def __hash__(self) -> int:
        return id(self.head)


def prepare(head: HeadModel) -> Surface:
    """The surface of `head`, about a third of a second the first time, kept afterwards.

    Needs `landmarks_478` (ModelError).
    """
    return _prepare(_Ref(head))
