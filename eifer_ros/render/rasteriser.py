"""A z-buffer: which triangle does each pixel see, where on it, and how far away.

Perspective-correct (depth is interpolated as 1/z). A pixel belongs to a triangle when its centre, at
whole-number coordinates, lies inside or on the edge; both windings count. Where two triangles lie at equal
depth the earlier one in `faces` wins. Triangles with a corner behind `NEAR_M`, or with a coordinate that is
not finite, are left out: a head is never so close that clipping would matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..types import F32

I32 = npt.NDArray[np.int32]

NEAR_M = 0.01

_Function = TypeVar("_Function", bound=Callable[..., Any])
compiled: Callable[[_Function], _Function] = numba.njit(cache=True, nogil=True, error_model="numpy")
"""Numba without fast-math, so that every machine gives the same picture; division by zero gives inf as in
numpy.
"""


@compiled
def _cross(x0: float, y0: float, x1: float, y1: float, forwards: bool, y: float) -> float:
    """Where the edge meets row y.

    Both triangles of an edge compute it from the same end, so they leave no gap between them.
    """
    if forwards:
        return x0 + (y - y0) * ((x1 - x0) / (y1 - y0))
    return x1 + (y - y1) * ((x0 - x1) / (y0 - y1))


@compiled
def fill(v: Any, faces: Any, near: float, face_index: Any, inverse_depth: Any, first: int, cull: int) -> None:
    """Inner loop, for callers that keep their own buffers: row by row between the edges.

    At the start face_index (H, W) int32 is -1 and inverse_depth (H, W) float32 is 0 everywhere, or both hold
    an earlier picture. first: number given to faces[0]. cull: 0 draws all, 1 only triangles that run
    clockwise in the picture (y down), -1 the others.
    """
    height, width = face_index.shape
    inverse = np.empty(v.shape[0])
    for i in range(v.shape[0]):
        inverse[i] = 1.0 / v[i, 2] if v[i, 2] > near else 0.0
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ay, by, cy = np.float64(v[a, 1]), np.float64(v[b, 1]), np.float64(v[c, 1])
        low, high = min(ay, by, cy), max(ay, by, cy)
        if (
            not (high >= 0.0 and low <= height - 1) or np.ceil(low) > high
        ):  # outside, or between two rows; NaN ends here too
            continue
        ax, bx, cx = np.float64(v[a, 0]), np.float64(v[b, 0]), np.float64(v[c, 0])
        if not (max(ax, bx, cx) >= 0.0 and min(ax, bx, cx) <= width - 1):
            continue
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0.0 or not np.isfinite(area) or area * cull < 0.0:
            continue
        az, bz, cz = inverse[a], inverse[b], inverse[c]
        if not (az > 0.0 and bz > 0.0 and cz > 0.0):
            continue
        share = 1.0 / area
        zx = ((bz - az) * (cy - ay) - (cz - az) * (by - ay)) * share
        zy = ((cz - az) * (bx - ax) - (bz - az) * (cx - ax)) * share
        nearest, furthest = max(az, bz, cz), min(az, bz, cz)
        for row in range(int(np.ceil(max(low, 0.0))), int(np.floor(min(high, height - 1.0))) + 1):
            y = np.float64(row)
            left, right = 1e30, -1e30
            if ay != by and min(ay, by) <= y <= max(ay, by):
                x = _cross(ax, ay, bx, by, a < b, y)
                left, right = min(left, x), max(right, x)
            if by != cy and min(by, cy) <= y <= max(by, cy):
                x = _cross(bx, by, cx, cy, b < c, y)
                left, right = min(left, x), max(right, x)
            if cy != ay and min(cy, ay) <= y <= max(cy, ay):
                x = _cross(cx, cy, ax, ay, c < a, y)
                left, right = min(left, x), max(right, x)
            if left > right:
                continue
            base = az + zy * (y - ay) - zx * ax
            for column in range(int(np.ceil(max(left, 0.0))), int(np.floor(min(right, width - 1.0))) + 1):
                z = np.float32(min(max(base + zx * column, furthest), nearest))
                if z > inverse_depth[row, column]:
                    inverse_depth[row, column] = z
                    face_index[row, column] = f + first


@compiled
def _weights(v: Any, faces: Any, face_index: Any, depth: Any, bary: Any) -> None:
    """Perspective-correct barycentric weights; turns the inverse depth into depth in place."""
    height, width = face_index.shape
    for y in range(height):
        for x in range(width):
            f = face_index[y, x]
            if f < 0:
                bary[y, x, 0] = bary[y, x, 1] = bary[y, x, 2] = 0.0
                depth[y, x] = np.inf
                continue
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            ax, ay, bx, by = (
                np.float64(v[a, 0]),
                np.float64(v[a, 1]),
                np.float64(v[b, 0]),
                np.float64(v[b, 1]),
            )
            cx, cy = np.float64(v[c, 0]), np.float64(v[c, 1])
            wa = ((bx - x) * (cy - y) - (cx - x) * (by - y)) / v[a, 2]
            wb = ((cx - x) * (ay - y) - (ax - x) * (cy - y)) / v[b, 2]
            wc = ((ax - x) * (by - y) - (bx - x) * (ay - y)) / v[c, 2]
            total = wa + wb + wc
            bary[y, x, 0], bary[y, x, 1], bary[y, x, 2] = wa / total, wb / total, wc / total
            depth[y, x] = 1.0 / depth[y, x]


def rasterise(
    vertices_px: npt.ArrayLike, faces: npt.ArrayLike, width: int, height: int
) -> tuple[I32, F32, F32]:
    """The visible surface of a triangle mesh.

    vertices_px: (V, 3) [u px, v px, depth m], as `projection.project` gives them. faces: (F, 3) vertex
    indices. Returns face_index (H, W) int32, -1 where nothing is seen; bary (H, W, 3) float32 weights of the
    three corners on the surface itself (perspective-correct, 0 where nothing is seen); depth (H, W) float32
    metres, inf where nothing is seen.
    """
    v = np.ascontiguousarray(vertices_px, np.float32)
    triangles = np.ascontiguousarray(faces, np.int32)
    if v.ndim != 2 or v.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise InputError(
            f"rasterise needs vertices (V, 3) and faces (F, 3); got {v.shape} and {triangles.shape}"
        )
    if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(v)):
        raise InputError(f"faces point at vertices outside 0..{len(v) - 1}")
    if width < 1 or height < 1:
        raise InputError(f"a picture must be at least 1 x 1 pixels; got {width} x {height}")
    face_index = np.full((height, width), -1, np.int32)
    depth = np.zeros((height, width), np.float32)
    bary = np.empty((height, width, 3), np.float32)
    fill(v, triangles, NEAR_M, face_index, depth, 0, 0)
    _weights(v, triangles, face_index, depth, bary)
    return face_index, bary, depth
