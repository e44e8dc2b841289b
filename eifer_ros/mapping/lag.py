"""How long the skin follows the muscle: consensus cross-correlation over channels and coefficients, with a grade and a drift.

Each pair of a muscle and a face value that move together votes with the lag at which they correlate best; the weighted
median of the votes is the lag, their agreement the grade (as the README of the MMM dataset grades its clips). Votes taken in
windows over the recording show how the lag wanders, which is the drift between the two clocks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from ..errors import InputError
from ..types import F32, F64
from .series import Series, interpolate

SEARCH_S = (-0.2, 0.4)
"""Lags looked at; the envelope's own delay makes early ones possible."""
WINDOW_S = 30.0
SLOW_S = 2.0
"""Movement slower than this is taken out: posture and fatigue carry no timing."""
MIN_CORRELATION = 0.4
MIN_MOTION = 0.02


@dataclass(frozen=True)
class Lag:
    """lag_s: skin behind muscle at mid-recording, whatever the filter's delay. grade: 1 sure, 2 fair, 3 doubtful, 0 unknown.

    spread_s: weighted median distance of the votes from the lag. drift_ppm: how the face's clock runs against the muscles',
    positive where the face falls behind. votes: pairs that took part.
    """

    lag_s: float
    grade: int
    spread_s: float
    drift_ppm: float
    votes: int

    @staticmethod
    def unknown() -> Lag:
        """Nothing moved together."""
        return Lag(float("nan"), 0, float("nan"), float("nan"), 0)


def estimate(series: Series, filter_delay_s: float = 0.0) -> Lag:
    """The lag of a recording. filter_delay_s: by how much the filter makes the envelope late; it hides that much of the lag."""
    if len(series.times) * series.period_s < 5.0:
        raise InputError(f"{len(series.times) * series.period_s:.1f} s of data; the lag needs at least 5 s of movement")
    muscle, face, valid = _grid(series)
    centres, lags, spreads, counts = [], [], [], []
    for start, stop in _windows(len(muscle), round(WINDOW_S / series.period_s)):
        vote, weight = _votes(muscle[start:stop], face[start:stop], valid[start:stop], series.period_s)
        if weight.sum() > 0:
            middle = weighted_median(vote, weight)
            centres.append((start + stop) / 2 * series.period_s)
            lags.append(middle)
            spreads.append(weighted_median(np.abs(vote - middle), weight))
            counts.append(float(weight.sum()))
    if not lags:
        return Lag.unknown()
    time, value, weight = np.array(centres), np.array(lags), np.array(counts)
    drift = _slope(time, value, weight)
    middle = weighted_median(value - drift * (time - time.mean()), weight)
    spread = float(np.average(spreads, weights=weight))
    votes = round(float(weight.sum()))
    grade = 1 if spread <= 0.015 and votes >= 10 else 2 if spread <= 0.04 and votes >= 4 else 3
    return Lag(middle + filter_delay_s, grade, spread, drift * 1e6, votes)


def _grid(series: Series) -> tuple[F64, F64, npt.NDArray[np.bool_]]:
    """Muscles and face on an even grid without slow movement, and which rows are real."""
    count = round((series.times[-1] - series.times[0]) / series.period_s) + 1
    place = np.rint((series.times - series.times[0]) / series.period_s).astype(int)
    muscle = np.zeros((count, series.activation.shape[1]))
    face = np.zeros((count, series.face.shape[1]))
    valid = np.zeros(count, bool)
    known = ~np.isnan(series.face).any(axis=1)
    muscle[place] = series.activation * (series.quality > 0.5)
    face[place[known]] = series.face[known]
    valid[place[known]] = True
    width = max(3, round(SLOW_S / series.period_s))
    share = np.maximum(uniform_filter1d(valid.astype(float), width), 1e-6)[:, None]
    for signal in (muscle, face):
        signal *= valid[:, None]
        signal -= uniform_filter1d(signal, width, axis=0) / share
        signal *= valid[:, None]
    return muscle, face, valid


def _windows(count: int, width: int) -> list[tuple[int, int]]:
    pieces = max(1, round(count / width))
    edges = np.linspace(0, count, pieces + 1).astype(int)
    return list(itertools.pairwise(edges))


def _votes(muscle: F64, face: F64, valid: npt.NDArray[np.bool_], period_s: float) -> tuple[F64, F64]:
    """(P,) lag of every pair that moves together, s, and its weight."""
    count = len(muscle)
    low, high = round(SEARCH_S[0] / period_s), round(SEARCH_S[1] / period_s)
    if count < 4 * (high - low):
        return np.zeros(0), np.zeros(0)
    moving = face.std(axis=0) > MIN_MOTION
    active = muscle.std(axis=0) > MIN_MOTION
    if not moving.any() or not active.any():
        return np.zeros(0), np.zeros(0)
    left = muscle[:, active] / np.linalg.norm(muscle[:, active], axis=0)
    right = face[:, moving] / np.linalg.norm(face[:, moving], axis=0)
    size = 1 << int(np.ceil(np.log2(2 * count)))
    spectrum_left, spectrum_right = np.fft.rfft(left, size, axis=0), np.fft.rfft(right, size, axis=0)
    steps = np.arange(low, high + 1)
    correlation = np.empty((len(steps), left.shape[1], right.shape[1]))
    for k in range(right.shape[1]):
        full = np.fft.irfft(np.conj(spectrum_left) * spectrum_right[:, k : k + 1], size, axis=0)
        correlation[:, :, k] = full[steps % size]
    flat = correlation.reshape(len(steps), -1)
    # a vote counts for what a muscle does: raising a value. Antagonists follow the same clock but peak on the other's movement
    best = flat.argmax(axis=0)
    peak = flat[best, np.arange(flat.shape[1])]
    keep = (peak > MIN_CORRELATION) & (best > 0) & (best < len(steps) - 1)
    best, columns = best[keep], np.flatnonzero(keep)
    before, at, after = flat[best - 1, columns], flat[best, columns], flat[best + 1, columns]
    curvature = before - 2 * at + after
    shift = np.where(curvature < 0, 0.5 * (before - after) / np.where(curvature < 0, curvature, -1.0), 0.0)
    weight = np.clip((at - MIN_CORRELATION) / (1 - MIN_CORRELATION), 0.0, 1.0) ** 2
    return (steps[best] + np.clip(shift, -0.5, 0.5)) * period_s, weight


def weighted_median(values: npt.NDArray[np.floating], weights: npt.NDArray[np.floating]) -> float:
    """The value that half of the weight lies below, interpolated."""
    order = np.argsort(values)
    cumulated = np.cumsum(weights[order]) - 0.5 * weights[order]
    return float(np.interp(0.5 * weights.sum(), cumulated, values[order]))


def _slope(time: F64, value: F64, weight: F64) -> float:
    """Weighted median of the slopes between all pairs of windows (Theil-Sen); 0 where there are fewer than three."""
    if len(time) < 3:
        return 0.0
    first, second = np.triu_indices(len(time), 1)
    return weighted_median((value[second] - value[first]) / (time[second] - time[first]), weight[first] * weight[second])


def undrifted(series: Series, drift_ppm: float) -> F32:
    """(T, K) the face as it would be seen with its clock put right by `drift_ppm` about mid-recording; the lag itself stays."""
    if drift_ppm == 0.0 or not np.isfinite(drift_ppm):
        return series.face
    known = ~np.isnan(series.face).any(axis=1)
    middle = series.times.mean()
    stamps = series.times[known] - drift_ppm * 1e-6 * (series.times[known] - middle)
    return interpolate(stamps, series.face[known], series.times)
