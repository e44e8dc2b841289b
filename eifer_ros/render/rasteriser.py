"""The z-buffer: which triangle does each pixel see, where on it, and how far away.

Everything that draws a mesh on a CPU draws through `fill`: pictures of a head, the page, the simulated camera.

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
from ..types import F32, I32, I64

NEAR_M = 0.01
LAST = 0x7FFFFFFF
"""Low part of a sample: this minus the number of the triangle."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
compiled: Callable[[_Function], _Function] = numba.njit(cache=True, nogil=True, error_model="numpy")
"""Numba without fast-math, so that every machine gives the same picture; division by zero gives inf as in
numpy.
"""


@compiled
def _edge(x0: float, y0: float, x1: float, y1: float, forwards: bool) -> tuple[float, float, float]:
    """x, y, dx/dy of an edge.

    Both triangles that share it start from the same end, so they leave no gap between them.
    """
    if forwards:
        return x0, y0, (x1 - x0) / (y1 - y0)
    return x1, y1, (x0 - x1) / (y0 - y1)


@compiled
def fill(v: Any, faces: Any, near: float, samples: Any, spans: Any, first: int, cull: int) -> None:
    """Draw triangles into samples, row by row between their edges.

    A sample is one number: the bits of the inverse depth above LAST - the number of the triangle. Of two such
    numbers the larger is the nearer triangle, and at equal depth the earlier one; 0 is nothing.

    Parameters
    ----------
    v : (V, 3) float32
        [u px, v px, depth m].
    faces : (F, 3) int32
        Corners of the triangles.
    near
        Triangles with a corner nearer than this, m, are left out.
    samples : (H, W) int64
        0 everywhere, or what was drawn before.
    spans : (H, 2) int64
        Made wider where needed: the first column of a row that may hold something and the one after the last.
    first
        Number given to faces[0].
    cull
        0 draws all, 1 only triangles that run clockwise in the picture (y down), -1 the others.
    """
    height, width = samples.shape
    inverse = np.empty(v.shape[0])
    for i in range(v.shape[0]):
        inverse[i] = 1.0 / v[i, 2] if v[i, 2] > near else 0.0
    for f in range(faces.shape[0]):
        a = faces[f, 0]
        b = faces[f, 1]
        c = faces[f, 2]
        ay = np.float64(v[a, 1])
        by = np.float64(v[b, 1])
        cy = np.float64(v[c, 1])
        low = min(ay, by, cy)
        high = max(ay, by, cy)
        if (
            not (high >= 0.0 and low <= height - 1) or np.ceil(low) > high
        ):  # outside, or between two rows; NaN ends here too
            continue
        ax = np.float64(v[a, 0])
        bx = np.float64(v[b, 0])
        cx = np.float64(v[c, 0])
        if not (max(ax, bx, cx) >= 0.0 and min(ax, bx, cx) <= width - 1):
            continue
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0.0 or not np.isfinite(area) or area * cull < 0.0:
            continue
        az = inverse[a]
        bz = inverse[b]
        cz = inverse[c]
        if not (az > 0.0 and bz > 0.0 and cz > 0.0):
            continue
        share = 1.0 / area
        zx = ((bz - az) * (cy - ay) - (cz - az) * (by - ay)) * share
        zy = ((cz - az) * (bx - ax) - (bz - az) * (cx - ax)) * share
        start = az - zy * ay - zx * ax
        nearest = max(az, bz, cz)
        furthest = min(az, bz, cz)
        # from the highest to the lowest corner: one edge runs all the way, two share the other side
        if ay > by:
            a, b, ax, ay, bx, by = b, a, bx, by, ax, ay
        if by > cy:
            b, c, bx, by, cx, cy = c, b, cx, cy, bx, by
        if ay > by:
            a, b, ax, ay, bx, by = b, a, bx, by, ax, ay
        long_x, long_y, long_slope = _edge(ax, ay, cx, cy, a < c)
        upper_x, upper_y, upper_slope = _edge(ax, ay, bx, by, a < b)
        lower_x, lower_y, lower_slope = _edge(bx, by, cx, cy, b < c)
        tag = LAST - (f + first)
        for row in range(max(int(np.ceil(low)), 0), int(np.floor(min(high, height - 1.0))) + 1):
            y = np.float64(row)
            left = long_x + (y - long_y) * long_slope
            right = left
            if y <= by and ay != by:
                x = upper_x + (y - upper_y) * upper_slope
                left = min(left, x)
                right = max(right, x)
            if y >= by and by != cy:
                x = lower_x + (y - lower_y) * lower_slope
                left = min(left, x)
                right = max(right, x)
            base = start + zy * y
            line = samples[row]
            from_ = max(int(np.ceil(left)), 0)
            to = int(np.floor(min(right, width - 1.0))) + 1
            if from_ < to:
                spans[row, 0], spans[row, 1] = min(spans[row, 0], from_), max(spans[row, 1], to)
            for column in range(from_, to):
                z = np.float32(min(max(base + zx * column, furthest), nearest))
                line[column] = max(line[column], (np.int64(z.view(np.int32)) << 32) | tag)


@compiled
def inverse_depth(sample: int) -> Any:
    """1 / depth, 1 / m, that a sample holds.

    Parameters
    ----------
    sample : int
        As `fill` writes it.

    Returns
    -------
    object
        1 / depth, 1 / m.
    """
    return np.int32(sample >> 32).view(np.float32)


@compiled
def _resolve(v: Any, faces: Any, samples: Any, spans: Any, face_index: Any, bary: Any, depth: Any) -> None:
    """Samples into triangle, perspective-correct barycentric weights and depth."""
    for y in range(samples.shape[0]):
        for x in range(spans[y, 0], spans[y, 1]):
            if samples[y, x] == 0:
                continue
            f = LAST - (samples[y, x] & LAST)
            a = faces[f, 0]
            b = faces[f, 1]
            c = faces[f, 2]
            ax = np.float64(v[a, 0])
            ay = np.float64(v[a, 1])
            bx = np.float64(v[b, 0])
            by = np.float64(v[b, 1])
            cx = np.float64(v[c, 0])
            cy = np.float64(v[c, 1])
            wa = ((bx - x) * (cy - y) - (cx - x) * (by - y)) / v[a, 2]
            wb = ((cx - x) * (ay - y) - (ax - x) * (cy - y)) / v[b, 2]
            wc = ((ax - x) * (by - y) - (bx - x) * (ay - y)) / v[c, 2]
            total = wa + wb + wc
            bary[y, x, 0] = wa / total
            bary[y, x, 1] = wb / total
            bary[y, x, 2] = wc / total
            depth[y, x] = 1.0 / inverse_depth(samples[y, x])
            face_index[y, x] = f


def new_samples(width: int, height: int) -> tuple[I64, I64]:
    """Empty samples (height, width) and their spans (height, 2) for `fill`.

    Parameters
    ----------
    width, height : int
        Of the picture, px.

    Returns
    -------
    tuple[ndarray of int64, ndarray of int64]
        (height, width) samples and (height, 2) spans.
    """
    return np.zeros((height, width), np.int64), np.tile(np.array([width, 0]), (height, 1))


def rasterise(
    vertices_px: npt.ArrayLike, faces: npt.ArrayLike, width: int, height: int
) -> tuple[I32, F32, F32]:
    """The visible surface of a triangle mesh.

    Parameters
    ----------
    vertices_px : array_like, shape (V, 3)
        [u px, v px, depth m], as `projection.project` gives them.
    faces : array_like, shape (F, 3)
        Vertex indices.
    width, height : int
        Of the picture, px.

    Returns
    -------
    tuple[ndarray of int32, ndarray of float32, ndarray of float32]
        Face_index (H, W) int32, -1 where nothing is seen; bary (H, W, 3) float32 weights of the three corners
        on the surface itself (perspective-correct, 0 where nothing is seen); depth (H, W) float32 metres, inf
        where nothing is seen.

    Raises
    ------
    InputError
        A shape or index does not fit.
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
    depth = np.full((height, width), np.inf, np.float32)
    bary = np.zeros((height, width, 3), np.float32)
    samples, spans = new_samples(width, height)
    fill(v, triangles, NEAR_M, samples, spans, 0, 0)
    _resolve(v, triangles, samples, spans, face_index, bary, depth)
    return face_index, bary, depth
