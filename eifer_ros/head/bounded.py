"""Least squares with a lower and upper bound on every unknown, small and fast enough for every frame."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ..types import F64


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _descend(gram: Any, target: Any, lower: Any, upper: Any, x: Any, tolerance: float, sweeps: int) -> int:
    count = len(x)
    for sweep in range(sweeps):
        largest = 0.0
        for i in range(count):
            curvature = gram[i, i]
            if curvature <= 0.0:
                continue
            slope = -target[i]
            for j in range(count):
                slope += gram[i, j] * x[j]
            new = min(max(x[i] - slope / curvature, lower[i]), upper[i])
            largest = max(largest, abs(new - x[i]))
            x[i] = new
        if largest <= tolerance:
            return sweep + 1
    return sweeps


def solve(
    gram: F64,
    target: F64,
    lower: F64,
    upper: F64,
    start: F64 | None = None,
    *,
    tolerance: float = 1e-7,
    sweeps: int = 500,
) -> F64:
    """Find x in [lower, upper] that minimises 1/2 x' gram x - target' x, by cyclic coordinate descent.

    gram: (N, N) symmetric, positive semi-definite (A'A); target: (N,) (A'b). For a convex quadratic with box
    bounds the descent converges to a minimiser (Tseng 2001); an unknown with no curvature keeps its starting
    value. `start` (clipped into the bounds) makes the next frame cheap.
    """
    x = np.clip(np.zeros(len(target)) if start is None else start, lower, upper).astype(np.float64)
    _descend(
        np.ascontiguousarray(gram, np.float64),
        np.ascontiguousarray(target, np.float64),
        np.ascontiguousarray(lower, np.float64),
        np.ascontiguousarray(upper, np.float64),
        x,
        tolerance,
        sweeps,
    )
    return x
