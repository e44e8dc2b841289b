"""A z-buffer: which triangle does each pixel see, where on it, and how far away.

Perspective-correct (depth is interpolated as 1/z). A pixel belongs to a triangle when its centre, at whole-number
coordinates, lies inside or on the edge; both windings count. Where two triangles lie at equal depth the earlier one in
`faces` wins. Triangles with a corner behind `NEAR_M`, or with a coordinate that is not finite, are left out: a head is never
so close that clipping would matter.
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
compiled: Callable[[_Function], _Function] = numba.njit(cache=True, nogil=True)
"""Numba without fast-math, so that every machine gives the same picture."""


@compiled
def fill(v: Any, faces: Any, near: float, face_index: Any, inverse_depth: Any) -> None:
    """Inner loop, for callers that keep their own buffers.

    At the start face_index (H, W) int32 is -1 and inverse_depth (H, W) float32 is 0 everywhere.
    """
    height, width = face_index.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        az, bz, cz = np.float64(v[a, 2]), np.float64(v[b, 2]), np.float64(v[c, 2])
        if not (az > near and bz > near and cz > near):
            continue
        ax, ay = np.float64(v[a, 0]), np.float64(v[a, 1])
        bx, by = np.float64(v[b, 0]), np.float64(v[b, 1])
        cx, cy = np.float64(v[c, 0]), np.float64(v[c, 1])
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0.0 or not np.isfinite(area):
            continue
        x0, x1 = np.ceil(min(ax, bx, cx)), np.floor(max(ax, bx, cx))
        y0, y1 = np.ceil(min(ay, by, cy)), np.floor(max(ay, by, cy))
        if x1 < 0 or y1 < 0 or x0 > width - 1 or y0 > height - 1 or x1 < x0 or y1 < y0:
            continue
        left, right = int(max(x0, 0.0)), int(min(x1, width - 1.0))
        top, bottom = int(max(y0, 0.0)), int(min(y1, height - 1.0))
        scale = 1.0 / area
        az, bz, cz = 1.0 / az, 1.0 / bz, 1.0 / cz
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                # each weight from its own edge, so that the shared edge of two triangles gives exactly opposite signs
                wa = ((bx - x) * (cy - y) - (cx - x) * (by - y)) * scale
                wb = ((cx - x) * (ay - y) - (ax - x) * (cy - y)) * scale
                wc = ((ax - x) * (by - y) - (bx - x) * (ay - y)) * scale
                if wa >= 0.0 and wb >= 0.0 and wc >= 0.0:
                    z = np.float32(wa * az + wb * bz + wc * cz)
                    if z > inverse_depth[y, x]:
                        inverse_depth[y, x] = z
                        face_index[y, x] = f


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
            ax, ay, bx, by = np.float64(v[a, 0]), np.float64(v[a, 1]), np.float64(v[b, 0]), np.float64(v[b, 1])
            cx, cy = np.float64(v[c, 0]), np.float64(v[c, 1])
            wa = ((bx - x) * (cy - y) - (cx - x) * (by - y)) / v[a, 2]
            wb = ((cx - x) * (ay - y) - (ax - x) * (cy - y)) / v[b, 2]
            wc = ((ax - x) * (by - y) - (bx - x) * (ay - y)) / v[c, 2]
            total = wa + wb + wc
            bary[y, x, 0], bary[y, x, 1], bary[y, x, 2] = wa / total, wb / total, wc / total
            depth[y, x] = 1.0 / depth[y, x]


def rasterise(vertices_px: npt.ArrayLike, faces: npt.ArrayLike, width: int, height: int) -> tuple[I32, F32, F32]:
    """The visible surface of a triangle mesh.

    vertices_px: (V, 3) [u px, v px, depth m], as `projection.project` gives them. faces: (F, 3) vertex indices.
    Returns face_index (H, W) int32, -1 where nothing is seen; bary (H, W, 3) float32 weights of the three corners on the
    surface itself (perspective-correct, 0 where nothing is seen); depth (H, W) float32 metres, inf where nothing is seen.
    """
    v = np.ascontiguousarray(vertices_px, np.float32)
    triangles = np.ascontiguousarray(faces, np.int32)
    if v.ndim != 2 or v.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise InputError(f"rasterise needs vertices (V, 3) and faces (F, 3); got {v.shape} and {triangles.shape}")
    if len(triangles) and (triangles.min() < 0 or triangles.max() >= len(v)):
        raise InputError(f"faces point at vertices outside 0..{len(v) - 1}")
    if width < 1 or height < 1:
        raise InputError(f"a picture must be at least 1 x 1 pixels; got {width} x {height}")
    face_index = np.full((height, width), -1, np.int32)
    depth = np.zeros((height, width), np.float32)
    bary = np.empty((height, width, 3), np.float32)
    fill(v, triangles, NEAR_M, face_index, depth)
    _weights(v, triangles, face_index, depth, bary)
    return face_index, bary, depth
