"""Lagged features, and what to believe of a channel whose contact is poor.

A bad channel is not dropped and not trusted: each input is seen as true activity plus noise whose variance
grows as the contact quality falls, and replaced by its expectation given all channels under the Gaussian of
the calibration recording. At quality 1 nothing changes; at quality 0 the channel is what its neighbours make
likely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..types import F32, F64, Floats, Indices
from .series import Series


def lag_steps(longest_s: float, count: int, period_s: float) -> tuple[int, ...]:
    """`count` lags from 0 to `longest_s`, in steps of the time base, without repetition."""
    return tuple(sorted({round(lag / period_s) for lag in np.linspace(0.0, longest_s, count)}))


def lagged(values: Floats, steps: tuple[int, ...], segment: Indices) -> F32:
    """(T, len(steps) M) of `values` (T, M): each row holds the values `steps` rows earlier.

    NaN where a gap lies between.
    """
    count, width = values.shape
    out = np.full((count, len(steps), width), np.nan, np.float32)
    for place, step in enumerate(steps):
        if step == 0:
            out[:, place] = values
        elif step < count:
            rows = values[: count - step].astype(np.float32)
            out[step:, place] = np.where((segment[step:] == segment[: count - step])[:, None], rows, np.nan)
    return out.reshape(count, -1)


@dataclass(frozen=True)
class Trust:
    """What the calibration recording says about the channels: mean (M,) and covariance (M, M) of activation."""

    mean: F64
    covariance: F64

    @staticmethod
    def of(activation: F32, quality: F32) -> Trust:
        """From a recording; rows in which a channel is bad count for that channel as its mean."""
        good = quality > 0.5
        weight = np.maximum(good.sum(axis=0), 1)
        mean = (activation * good).sum(axis=0) / weight
        centred = np.where(good, activation - mean, 0.0).astype(np.float64)
        pairs = np.maximum(good.T.astype(np.float64) @ good, 1.0)
        covariance = centred.T @ centred / pairs
        # pairwise estimates need not be positive definite
        values, vectors = np.linalg.eigh(covariance)
        covariance = (vectors * np.maximum(values, 1e-6)) @ vectors.T
        return Trust(mean.astype(np.float64), covariance)

    def gain(self, quality: npt.ArrayLike) -> F64:
        """(M, M) matrix G with E[true | seen] = mean + G (seen - mean) at contact `quality` (M,)."""
        share = np.clip(np.asarray(quality, np.float64), 1e-3, 1.0)
        noise = np.diag(self.covariance) * (1.0 / share**2 - 1.0)
        if not noise.any():
            return np.eye(len(share))
        gain: F64 = np.linalg.solve(self.covariance + np.diag(noise), self.covariance).T.astype(np.float64)
        return gain

    def apply(self, activation: F32, quality: F32) -> F32:
        """(T, M) activations with doubtful channels replaced; the gain is computed once per distinct row of
        quality.
        """
        out = np.array(activation, np.float32)
        coarse = np.round(quality, 2)
        doubtful = np.flatnonzero((coarse < 1.0).any(axis=1))
        if len(doubtful) == 0:
            return out
        rows, inverse = np.unique(coarse[doubtful], axis=0, return_inverse=True)
        for number, row in enumerate(rows):
            where = doubtful[inverse.reshape(-1) == number]
            out[where] = self.mean + (activation[where] - self.mean) @ self.gain(row).T
        return out


@dataclass(frozen=True)
class FeatureSpec:
    """Which lags a mapping looks at, in steps of `period_s`, and how far ahead of the muscle it predicts.

    ahead_s: the face is predicted this long after the newest input; the lag of the skin makes that possible.
    """

    steps: tuple[int, ...]
    period_s: float
    ahead_s: float = 0.0

    @property
    def context(self) -> int:
        """Rows of history needed beside the newest."""
        return max(self.steps)

    @property
    def ahead_steps(self) -> int:
        """Look-ahead in whole steps of the time base."""
        return round(self.ahead_s / self.period_s)


def training_pairs(
    series: Series, spec: FeatureSpec, inputs: Floats, targets: Floats
) -> tuple[F32, F32, Indices]:
    """(features, targets, rows): rows of the series whose whole context and target are known; targets `ahead`
    steps later.
    """
    features = lagged(inputs, spec.steps, series.segment)
    moved = np.full(targets.shape, np.nan, np.float32)
    ahead = spec.ahead_steps
    segment = series.segment
    if ahead == 0:
        moved[:] = targets
    elif ahead > 0:
        moved[:-ahead] = np.where((segment[ahead:] == segment[:-ahead])[:, None], targets[ahead:], np.nan)
    else:
        raise InputError(f"look-ahead is {spec.ahead_s} s; it must not be negative")
    rows = np.flatnonzero(~np.isnan(features).any(axis=1) & ~np.isnan(moved).any(axis=1))
    return features[rows], moved[rows], rows
