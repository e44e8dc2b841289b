"""Agreement of two series, column by column."""

from __future__ import annotations

import numpy as np

from ..types import F64, Floats


def scores(truth: Floats, predicted: Floats) -> tuple[F64, F64]:
    """(K,) Pearson r and R2 = 1 - SSE / SST of (T, K); NaN where a column of `truth` does not move."""
    t = truth.astype(np.float64)
    p = predicted.astype(np.float64)
    dt = t - t.mean(axis=0)
    dp = p - p.mean(axis=0)
    total = (dt**2).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (dt * dp).sum(axis=0) / np.sqrt(total * (dp**2).sum(axis=0))
        r2 = 1.0 - ((t - p) ** 2).sum(axis=0) / total
    still = total < 1e-9 * max(len(t), 1)
    return np.where(still, np.nan, r), np.where(still, np.nan, r2)
