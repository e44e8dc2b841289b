"""How long the skin follows the muscle: consensus cross-correlation over channels and coefficients, with a
grade and a drift.

Each pair of a muscle and a face value that move together votes with the lag at which they correlate best; the
weighted median of the votes is the lag, their agreement the grade (as the README of the MMM dataset grades
its clips). Votes taken in windows over the recording show how the lag wanders, which is the drift between the
two clocks.

The lag is the mean delay of everything between muscle and skin. Tissue does not only delay, it smears, with a
tail towards late; that skews the correlation and pulls its peak early, by more than 10 ms where the lag is
long. Movement that is slow beside the smear sees only the mean (the group delay at low frequency), so both
sides are low-passed at `SLOW_HZ`, without phase, before they are compared. The windows of the muscle are then
compared with the face around them and not with a cut-out of it: the shrinking overlap of two cut-outs pulls
slow peaks towards zero. Lids have muscles of their own, faster than the rest and under no electrode; they do
not vote.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import fft, signal
from scipy.ndimage import uniform_filter1d

from ..errors import InputError
from ..types import F32, F64, Floats
from .series import Series, interpolate

SEARCH_S = (-0.2, 0.4)
"""Lags looked at; the envelope's own delay makes early ones possible."""
WINDOW_S = 30.0
SLOW_S = 4.0
"""Movement slower than this is taken out: posture and fatigue carry no timing."""
SLOW_HZ = 1.2
"""Movement faster than this is taken out: it sees less than the mean delay."""
NO_VOTE = ("eyeLook", "eyeBlink", "eyeWide", "eyelid")
"""Gaze has no electrode; lids follow their own muscles within 5-15 ms, not the skin's lag."""
MIN_CORRELATION = 0.4
MIN_MOTION = 0.02


@dataclass(frozen=True)
class Lag:
    """Skin behind muscle.

    Parameters
    ----------
    lag_s : float
        At mid-recording, whatever the filter's delay.
    grade : int
        1 sure, 2 fair, 3 doubtful, 0 unknown.
    spread_s : float
        Weighted median distance of the votes from the lag.
    drift_ppm : float
        How the face's clock runs against the muscles', positive where the face falls behind.
    votes : int
        Pairs that took part.
    """

    lag_s: float
    grade: int
    spread_s: float
    drift_ppm: float
    votes: int

    @staticmethod
    def unknown() -> Lag:
        """Nothing moved together.

        Returns
        -------
        Lag
            Grade 0.
        """
        return Lag(float("nan"), 0, float("nan"), float("nan"), 0)


def estimate(series: Series, filter_delay_s: float = 0.0) -> Lag:
    """The lag of a recording.

    Parameters
    ----------
    series : Series
        Activity and faces on one time base.
    filter_delay_s : float, optional
        Mean delay of the envelope filter, which hides that much of the lag.

    Returns
    -------
    Lag
        Lag, grade and drift; the drift is 0 where the recording is too short to see it (below 75 s).

    Raises
    ------
    InputError
        Less than 5 s.
    """
    if len(series.times) * series.period_s < 5.0:
        raise InputError(
            f"{len(series.times) * series.period_s:.1f} s of data; the lag needs at least 5 s of movement"
        )
    muscle, face = _grid(series)
    centres = []
    lags = []
    spreads = []
    counts = []
    weights = []
    for start, stop in _windows(len(muscle), round(WINDOW_S / series.period_s)):
        vote, weight = _votes(muscle, face, start, stop, series.period_s)
        if weight.sum() > 0:
            middle = weighted_median(vote, weight)
            centres.append((start + stop) / 2 * series.period_s)
            lags.append(middle)
            spreads.append(weighted_median(np.abs(vote - middle), weight))
            weights.append(float(weight.sum()))
            counts.append(len(vote))
    if not lags:
        return Lag.unknown()
    time = np.array(centres)
    value = np.array(lags)
    weight = np.array(weights)
    drift = _slope(time, value, weight)
    middle = weighted_median(value - drift * (time - time.mean()), weight)
    spread = float(np.average(spreads, weights=weight))
    votes = round(float(np.mean(counts)))
    grade = 1 if spread <= 0.015 and votes >= 10 else 2 if spread <= 0.04 and votes >= 4 else 3
    return Lag(middle + filter_delay_s, grade, spread, drift * 1e6, votes)


def _grid(series: Series) -> tuple[F64, F64]:
    """Muscles and face on an even grid, without slow and without fast movement, 0 where unknown."""
    voters = [place for place, name in enumerate(series.face_names) if not name.startswith(NO_VOTE)]
    count = round((series.times[-1] - series.times[0]) / series.period_s) + 1
    place = np.rint((series.times - series.times[0]) / series.period_s).astype(int)
    muscle = np.zeros((count, series.activation.shape[1]))
    face = np.zeros((count, len(voters)))
    valid = np.zeros(count, bool)
    tracked = ~np.isnan(series.face).any(axis=1)
    muscle[place] = series.activation * (series.quality > 0.5)
    face[place[tracked]] = series.face[tracked][:, voters]
    valid[place[tracked]] = True
    width = max(3, round(SLOW_S / series.period_s))
    share = np.maximum(uniform_filter1d(valid.astype(float), width), 1e-6)[:, None]
    sections = signal.butter(2, SLOW_HZ, fs=1.0 / series.period_s, output="sos")
    out = []
    for values in (muscle, face):
        values *= valid[:, None]
        values -= uniform_filter1d(values, width, axis=0) / share
        values *= valid[:, None]
        out.append(signal.sosfiltfilt(sections, values, axis=0))
    return out[0], out[1]


def _windows(count: int, width: int) -> list[tuple[int, int]]:
    pieces = max(1, round(count / width))
    edges = np.linspace(0, count, pieces + 1).astype(int)
    return list(itertools.pairwise(edges))


def _votes(muscle: F64, face: F64, start: int, stop: int, period_s: float) -> tuple[F64, F64]:
    """(P,) lag in s of every pair that moves together in rows start..stop, and its weight."""
    low = round(SEARCH_S[0] / period_s)
    high = round(SEARCH_S[1] / period_s)
    first = max(start, -low)
    last = min(stop, len(face) - high)
    count = last - first
    if count < 4 * (high - low):
        return np.zeros(0), np.zeros(0)
    left = muscle[first:last]
    right = face[first + low : last + high]
    left = left[:, left.std(axis=0) > MIN_MOTION]
    right = right[:, face[first:last].std(axis=0) > MIN_MOTION]
    left = left - left.mean(axis=0)
    steps = np.arange(low, high + 1)
    # the spread of the face within each shifted window
    sums, squares = (
        np.vstack([np.zeros((1, right.shape[1])), np.cumsum(right**power, axis=0)]) for power in (1, 2)
    )
    shifts = len(steps)
    energy = (
        squares[count:][:shifts] - squares[:shifts] - (sums[count:][:shifts] - sums[:shifts]) ** 2 / count
    )
    size = fft.next_fast_len(len(right) + count, real=True)
    spectrum = np.conj(fft.rfft(left, size, axis=0))
    correlation = np.empty((shifts, left.shape[1], right.shape[1]))
    for k in range(right.shape[1]):
        product = fft.irfft(spectrum * fft.rfft(right[:, k : k + 1], size, axis=0), size, axis=0)[:shifts]
        correlation[:, :, k] = product / np.sqrt(np.maximum(energy[:, k : k + 1], 1e-12))
    flat = (correlation / np.linalg.norm(left, axis=0)[:, None]).reshape(shifts, -1)
    # a vote counts for what a muscle does: raising a value. Antagonists follow the same clock but peak on the
    # other's movement
    best = flat.argmax(axis=0) if flat.size else np.zeros(0, np.intp)
    peak = flat[best, np.arange(flat.shape[1])]
    keep = (peak > MIN_CORRELATION) & (best > 0) & (best < shifts - 1)
    best = best[keep]
    columns = np.flatnonzero(keep)
    before = flat[best - 1, columns]
    at = flat[best, columns]
    after = flat[best + 1, columns]
    curvature = before - 2 * at + after
    shift = np.where(curvature < 0, 0.5 * (before - after) / np.where(curvature < 0, curvature, -1.0), 0.0)
    weight = np.clip((at - MIN_CORRELATION) / (1 - MIN_CORRELATION), 0.0, 1.0) ** 2
    return (steps[best] + np.clip(shift, -0.5, 0.5)) * period_s, weight


def weighted_median(values: Floats, weights: Floats) -> float:
    """The value that half of the weight lies below, interpolated.

    Parameters
    ----------
    values : ndarray of float, shape (N,)
        In any order.
    weights : ndarray of float, shape (N,)
        Not negative.

    Returns
    -------
    float
        In the unit of `values`.
    """
    order = np.argsort(values)
    cumulated = np.cumsum(weights[order]) - 0.5 * weights[order]
    return float(np.interp(0.5 * weights.sum(), cumulated, values[order]))


def _slope(time: F64, value: F64, weight: F64) -> float:
    """Weighted median of the slopes between all pairs of windows (Theil-Sen); 0 where there are fewer than
    three.
    """
    if len(time) < 3:
        return 0.0
    first, second = np.triu_indices(len(time), 1)
    return weighted_median(
        (value[second] - value[first]) / (time[second] - time[first]), weight[first] * weight[second]
    )


def without_drift(series: Series, drift_ppm: float) -> F32:
    """The face as it would be seen with its clock put right about mid-recording; the lag itself stays.

    Parameters
    ----------
    series : Series
        Activity and faces on one time base.
    drift_ppm : float
        Of the face's clock.

    Returns
    -------
    ndarray of float32, shape (T, K)
        Face values.
    """
    if drift_ppm == 0.0 or not np.isfinite(drift_ppm):
        return series.face
    tracked = ~np.isnan(series.face).any(axis=1)
    middle = series.times.mean()
    stamps = series.times[tracked] - drift_ppm * 1e-6 * (series.times[tracked] - middle)
    return interpolate(stamps, series.face[tracked], series.times)
