"""The head in the key picture: which points of skin and eyes are seen where, and how the picture moves when
they do.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..head import projection
from ..head.model import HeadModel
from ..render import rasteriser as raster
from ..render import shade
from ..types import F32, F64, I32, U8, FaceState, Indices
from .flow import SIZE, window

STEP = 4
"""Distance of the observed points in the window, pixels."""
_FACING = 0.35
"""Cosine between skin and line of sight below which a point is not observed: it slips along the edge of the
face.
"""
BUMP_M = 0.009
"""Standard deviation of a local mode on the skin."""
_SPACING_M = 0.0135


@dataclass(frozen=True)
class FaceSkin:
    """The part of a head model that is watched, E expression coefficients, L local modes.

    vertices: (M,) vertices of the face's own skin: no eyeballs, no mouth, no neck. triangles: (F,) 1 in it, 2
    on the left eyeball, 3 on the right, 0 elsewhere. modes: (M, L) soft bumps spread evenly over the face,
    each at most 1.
    """

    head: HeadModel
    vertices: Indices
    triangles: U8
    modes: F32

    @staticmethod
    def of(head: HeadModel) -> FaceSkin:
        """Of any head model with a region `face` and a part `skin`."""
        skin = head.parts == head.part_names.index("skin")
        face = np.asarray(head.regions["face"], np.intp)
        face = face[skin[face]]
        inside = np.zeros(len(head.template), bool)
        inside[face] = True
        points = head.template[face].astype(np.float64)
        spread_points = [int(np.argmax(points[:, 2]))]
        nearest = np.linalg.norm(points - points[spread_points[0]], axis=1)
        while nearest.max() > _SPACING_M:
            spread_points.append(int(np.argmax(nearest)))
            nearest = np.minimum(nearest, np.linalg.norm(points - points[spread_points[-1]], axis=1))
        distance = np.linalg.norm(points[:, None] - points[spread_points][None], axis=2)
        bumps = np.maximum(np.exp(-0.5 * (distance / BUMP_M) ** 2) - 0.01, 0.0) / 0.99
        triangles = np.zeros(len(head.faces), np.uint8)
        triangles[inside[head.faces].all(axis=1)] = 1
        if head.gaze_basis is not None:
            for number, side in ((2, "left"), (3, "right")):
                ball = [
                    i
                    for i, name in enumerate(head.part_names)
                    if name in (f"eye_{side}", f"iris_{side}", f"pupil_{side}")
                ]
                triangles[np.isin(head.parts, ball)[head.faces].all(axis=1)] = number
        return FaceSkin(head, face, triangles, bumps.astype(np.float32))


@dataclass(frozen=True)
class KeyView:
    """One face at the moment of the key picture, N observed points.

    vertices: (V, 3) m, model coordinates, and normals (V, 3). pose: (4, 4). K: (3, 3) of the picture. matrix:
    (2, 3) window to picture. pixels: (N, 2) where the points lie in the window. points: (N, 3) m, model
    coordinates. corners (N, 3), weights (N, 3): the triangle of each and its place in it. rigid: (2 N, 6)
    motion in the window, pixels, for a turn (rad, about `centre`, camera axes) and a shift (m); expression:
    (2 N, E) for each coefficient; sideways: (2 N, 3) for a motion of the point itself along the model's axes.
    Rows: x of all points, then y. dense: (3, SIZE * SIZE) where every pixel of the window lies, m, camera
    axes, beside the head on a plane through its middle; inside: (SIZE, SIZE) 1 on the skin of the head, 0
    beside it, soft between.
    """

    vertices: F32
    normals: F32
    pose: F64
    K: F64
    matrix: F64
    pixels: F32
    points: F64
    corners: I32
    weights: F32
    centre: F64
    rigid: F64
    expression: F64
    sideways: F64
    dense: F32
    inside: F32

    @property
    def metres_per_pixel(self) -> float:
        """What a pixel of the window is at the face, m."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))) * self.centre[2] / self.K[0, 0])

    def placed(self, turn: F64, shift: F64) -> F64:
        """(N, 2) where the points lie in the picture after a rigid motion from the key pose; turn (3, 3)
        about `centre`, shift (3,) m.
        """
        camera = self.points @ self.pose[:3, :3].T + self.pose[:3, 3]
        return self._drawn(camera, turn, shift)

    def maps(self, turn: F64, shift: F64) -> F32:
        """(SIZE, SIZE, 2) where every pixel of the key window is to be found in a picture in which the head
        has moved rigidly.
        """
        moved = (
            turn.astype(np.float32) @ self.dense
            + (self.centre + shift - turn @ self.centre).astype(np.float32)[:, None]
        )
        out = np.empty((SIZE * SIZE, 2), np.float32)
        inverse = np.float32(1.0) / moved[2]
        for axis in range(2):
            out[:, axis] = moved[axis] * inverse * np.float32(self.K[axis, axis]) + np.float32(
                self.K[axis, 2]
            )
        return out.reshape(SIZE, SIZE, 2)

    def _drawn(self, camera: F64, turn: F64, shift: F64) -> F64:
        moved = camera @ turn.T + (self.centre + shift - turn @ self.centre)
        return np.asarray(moved[:, :2] / moved[:, 2:] * (self.K[0, 0], self.K[1, 1]) + self.K[:2, 2])


def key_view(skin: FaceSkin, state: FaceState, K: F64) -> KeyView | None:
    """The view of `state` through camera matrix `K`, or None where too little of the face is seen to follow
    it.
    """
    head = skin.head
    face = skin.vertices
    vertices = head.state_vertices(state)
    pose = np.asarray(state.head_pose, np.float64)
    pixels = projection.project(vertices.astype(np.float64), pose, K)
    if not np.isfinite(pixels[face]).all():
        return None
    matrix = window(pixels[face, :2])
    inverse = np.linalg.inv(matrix[:, :2])
    flat = (pixels[:, :2] - matrix[:, 2]) @ inverse.T
    if not np.isfinite(flat).all():
        return None
    index, bary, depth = raster.rasterise(np.column_stack([flat, pixels[:, 2]]), head.faces, SIZE, SIZE)
    rows, columns = np.mgrid[STEP // 2 : SIZE : STEP, STEP // 2 : SIZE : STEP].reshape(2, -1)
    visible = index[rows, columns] >= 0
    rows = rows[visible]
    columns = columns[visible]
    kind = skin.triangles[index[rows, columns]]
    rows = rows[kind > 0]
    columns = columns[kind > 0]
    corners = head.faces[index[rows, columns]]
    weights = bary[rows, columns]
    normals = shade.vertex_normals(vertices, head.faces)
    points = np.einsum("nc,ncd->nd", weights, vertices[corners]).astype(np.float64)
    camera = points @ pose[:3, :3].T + pose[:3, 3]
    outward = np.einsum("nc,ncd->nd", weights, normals[corners]) @ pose[:3, :3].T
    facing = -np.sum(outward * camera, axis=1) / np.linalg.norm(camera, axis=1)
    good = facing > _FACING
    if good.sum() < 60:
        return None
    rows = rows[good]
    columns = columns[good]
    corners = corners[good]
    weights = weights[good]
    points = points[good]
    camera = camera[good]
    centre = camera.mean(axis=0)
    # window pixels per metre of motion in camera axes
    slope = np.zeros((len(points), 2, 3))
    slope[:, 0, 0] = K[0, 0] / camera[:, 2]
    slope[:, 1, 1] = K[1, 1] / camera[:, 2]
    slope[:, 0, 2] = -K[0, 0] * camera[:, 0] / camera[:, 2] ** 2
    slope[:, 1, 2] = -K[1, 1] * camera[:, 1] / camera[:, 2] ** 2
    slope = np.einsum("ij,njk->nik", inverse, slope)
    arm = camera - centre
    cross = np.zeros((len(points), 3, 3))  # w x arm as a matrix on w
    cross[:, 0, 1] = arm[:, 2]
    cross[:, 0, 2] = -arm[:, 1]
    cross[:, 1, 0] = -arm[:, 2]
    cross[:, 1, 2] = arm[:, 0]
    cross[:, 2, 0] = arm[:, 1]
    cross[:, 2, 1] = -arm[:, 0]
    rigid = np.concatenate([slope @ cross, slope], axis=2)
    sideways = slope @ pose[:3, :3]
    basis = np.einsum("nc,ncde->nde", weights, head.expression_basis[corners]).astype(np.float64)
    if head.gaze_basis is not None:
        kind = skin.triangles[index[rows, columns]]
        joints = head.joint_positions(state.shape, state.expression)
        for number, side in ((2, "left"), (3, "right")):
            ball = kind == number
            arms = points[ball] - joints[head.joints.index(f"eye_{side}")]
            basis[ball] = np.cross(
                head.gaze_basis[number - 2].T[None].astype(np.float64), arms[:, None]
            ).transpose(0, 2, 1)
    expression = sideways @ basis

    def stacked(array: F64) -> F64:
        return np.ascontiguousarray(array.transpose(1, 0, 2).reshape(2 * len(points), -1))

    grid = (
        np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1).reshape(-1, 2) @ matrix[:, :2].T
        + matrix[:, 2]
    )
    far = np.where(index >= 0, depth, centre[2]).reshape(-1).astype(np.float64)
    dense = np.column_stack([(grid - K[:2, 2]) / (K[0, 0], K[1, 1]), np.ones(len(grid))]) * far[:, None]
    on_head = np.where(index >= 0, 1.0, 0.0).astype(np.float32)
    inside = np.clip(
        2.0 * cv2.GaussianBlur(cv2.erode(on_head, np.ones((3, 3), np.uint8)), (0, 0), 1.5) - 1.0, 0.0, 1.0
    )

    return KeyView(
        vertices,
        normals,
        pose,
        np.asarray(K, np.float64),
        matrix,
        np.column_stack([columns, rows]).astype(np.float32),
        points,
        corners,
        weights.astype(np.float32),
        centre,
        stacked(rigid),
        stacked(expression),
        stacked(sideways),
        np.ascontiguousarray(dense.T, np.float32),
        np.asarray(inside, np.float32),
    )
