"""Finds brief pulses in many channels at once, against a noise floor that follows what the channels do.

Each channel is compared with bumps of four lengths: the response is the height of the bump that fits best
beside a constant and a slope (a least-squares fit), so that drift, a resting level and a movement that stays
leave it near zero. Responses are measured in units of what the same channel has been doing for the last
seconds (a constant false alarm rate, as in radar): who talks has a restless mouth and a quiet forehead, and
each is judged by its own floor.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from ..types import F64, I64
from .grid import GRID_HZ

LENGTHS_S = (0.14, 0.22, 0.34, 0.50)
"""Lengths of the bumps from onset to offset."""
FLANK_S = 0.12
AHEAD = 24
"""Instants after the apex that a response needs: 0.24 s."""
BEHIND = 60
"""Instants before the apex that are looked at."""
NEIGHBOURS = 6
"""A candidate is the highest for so many instants on either side: with `AHEAD`, it is known 0.3 s after its
apex.
"""
FLOOR_S = 8.0
"""Memory of the noise floor."""
SETTLE_S = 2.0
"""So long after a start the floor is not known well enough to find anything."""
CLIP = 3.0
"""A response beyond so many floors counts as so many when the floor learns from it: events do not raise it.
"""
RECENT_S = 2.0
WINDOW = BEHIND + 1 + AHEAD


def minimum_jerk(x: npt.ArrayLike) -> F64:
    """The smooth step from 0 to 1 of Flash & Hogan (1985)."""
    t = np.clip(np.asarray(x, np.float64), 0.0, 1.0)
    return np.asarray(t**3 * (10.0 + t * (6.0 * t - 15.0)), np.float64)


@functools.cache
def kernels() -> F64:
    """(4, WINDOW) weights that give the height of a bump centred `AHEAD` instants before the newest row.

    Do not modify.
    """
    time = np.arange(-BEHIND, AHEAD + 1) / GRID_HZ
    out = np.zeros((len(LENGTHS_S), WINDOW))
    for row, length in enumerate(LENGTHS_S):
        bump = minimum_jerk(1.0 - 2.0 * np.abs(time) / length)
        used = (time >= -length / 2 - FLANK_S - 1e-9) & (time <= length / 2 + FLANK_S + 1e-9)
        nuisance = np.stack([np.ones(used.sum()), time[used]], axis=1)
        rest = bump[used] - nuisance @ np.linalg.lstsq(nuisance, bump[used], rcond=None)[0]
        out[row, used] = rest / (rest @ bump[used])
    out.flags.writeable = False
    return out


@functools.cache
def _reach() -> I64:
    """(4, 2) first row a kernel uses and the one after its last."""
    return np.array([[np.flatnonzero(row)[0], np.flatnonzero(row)[-1] + 1] for row in kernels()], np.int64)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _respond(
    weights: Any,
    reach: Any,
    window: Any,
    least: Any,
    regions: Any,
    size: Any,
    count: int,
    variance: Any,
    mean_energy: Any,
    recent: Any,
    height: Any,
    z: Any,
    over: Any,
) -> float:
    """Fill height, z (S, C) and over (S, R) from a window (WINDOW, C); update the floors in place; the
    highest energy over the floor.
    """
    scales, channels = height.shape
    parts = len(size)
    share = 1.0 / min(count + 1.0, FLOOR_S * GRID_HZ)
    top = 0.0
    for s in range(scales):
        for c in range(channels):
            height[s, c] = 0.0
        for t in range(reach[s, 0], reach[s, 1]):
            for c in range(channels):
                height[s, c] += weights[s, t] * window[t, c]
        for r in range(parts):
            over[s, r] = 0.0
        for c in range(channels):
            if count == 0:
                variance[s, c] = height[s, c] ** 2
            floor = max(variance[s, c], least[c] ** 2)
            square = height[s, c] ** 2
            z[s, c] = height[s, c] / np.sqrt(floor)
            for r in range(parts):
                over[s, r] += regions[r, c] * min(square / floor, 100.0)
            variance[s, c] = max(variance[s, c], least[c] ** 2)
            variance[s, c] += share * (min(square, CLIP * CLIP * floor) - variance[s, c])
        for r in range(parts):
            energy = over[s, r] / size[r]
            mean = max(mean_energy[s, r], 0.2)
            over[s, r] = energy / mean
            mean_energy[s, r] += share * (min(energy, CLIP * mean) - mean_energy[s, r])
            top = max(top, over[s, r])
    for r in range(parts):
        recent[r] += (min(over[1, r], 20.0) - recent[r]) / (RECENT_S * GRID_HZ)
    return top


class Shapes(NamedTuple):
    """N pulses to compare a course with: (N,) onset, apex and offset in instants from the middle; rows (N,
    WINDOW) of unit length.
    """

    onset: F64
    apex: F64
    offset: F64
    rows: F64
    nuisance: F64


@functools.cache
def shapes() -> Shapes:
    """Minimum-jerk pulses of many onset and offset times, orthogonal to constant and slope, each of unit
    length.
    """
    time = np.arange(-BEHIND, AHEAD + 1, dtype=np.float64)
    nuisance = np.linalg.qr(np.stack([np.ones(WINDOW), time], axis=1))[0]
    onset = []
    apex = []
    offset = []
    rows = []
    for shift in (-6.0, -3.0, 0.0, 3.0, 6.0):
        for rise in (5.0, 8.0, 11.0, 15.0, 19.0, 24.0, 30.0, 38.0):
            for fall in (5.0, 8.0, 11.0, 15.0, 19.0, 24.0, 30.0, 38.0):
                pulse = minimum_jerk((time - shift + rise) / rise) * minimum_jerk(
                    (shift + fall - time) / fall
                )
                rest = pulse - nuisance @ (nuisance.T @ pulse)
                onset.append(shift - rise)
                apex.append(shift)
                offset.append(shift + fall)
                rows.append(rest / np.linalg.norm(rest))
    return Shapes(np.array(onset), np.array(apex), np.array(offset), np.array(rows), nuisance)


@dataclass(frozen=True)
class Pulse:
    """A candidate: something brief stood out.

    instant: apex on the grid. onset, offset: instants, fractional. score: largest energy of a region over its
    floor. scale: which of `LENGTHS_S` fits best. height (C,): of the bump in the channels' own unit. z (C,):
    the same in floors, the sign kept. energy (S, R): over the floor, per length and region. recent (R,): how
    restless each region was in the two seconds before, 1 is usual. fit: share of the course that the best
    pulse explains, 0..1. width_s: offset minus onset. rebound: level at the end of what was seen relative to
    the apex, 0 where the movement has gone back.
    """

    instant: int
    onset: float
    offset: float
    score: float
    scale: int
    height: F64
    z: F64
    energy: F64
    recent: F64
    fit: float
    width_s: float
    rebound: float


class PulseDetector:
    """C channels on the grid -> candidates.

    regions: (R, C) 1 where a channel belongs to a region; others are only measured.

    threshold: energy over floor from which something is a candidate. floor: in the channels' own unit, below
    which no floor falls.
    """

    def __init__(self, regions: F64, threshold: float = 4.0, floor: npt.ArrayLike = 1e-3) -> None:
        self.regions = regions
        self.threshold = threshold
        self.channels = regions.shape[1]
        self.least: F64 = np.broadcast_to(np.asarray(floor, np.float64), (self.channels,)).copy()
        self._size = np.maximum(regions.sum(axis=1), 1.0)
        self._keep = WINDOW + 3 * NEIGHBOURS + 80
        self.restart()

    def restart(self) -> None:
        """Forget signal and floor."""
        count = self.channels
        lengths = len(LENGTHS_S)
        self._rows = np.zeros((2 * self._keep, count))
        self._height = np.zeros((2 * self._keep, lengths, count))
        self._z = np.zeros((2 * self._keep, lengths, count))
        self._energy = np.zeros((2 * self._keep, lengths, len(self.regions)))
        self._stir = np.ones((2 * self._keep, len(self.regions)))
        self._top = np.zeros(2 * self._keep)
        self._filled = 0
        self._newest = -1
        self._row_count = 0
        self._variance = np.zeros((lengths, count))
        self._mean_energy = np.ones((lengths, len(self.regions)))
        self._recent = np.ones(len(self.regions))
        self._last = -(1 << 62)

    @property
    def newest(self) -> int:
        """The newest instant taken, or -1."""
        return self._newest

    @property
    def settled(self) -> bool:
        """Whether the floor is known."""
        return self._row_count >= SETTLE_S * GRID_HZ + WINDOW

    def push(self, instant: int, row: F64) -> Pulse | None:
        """Take the values (C,) of one instant; the candidate whose apex lies 0.3 s back, if there is one.

        A gap begins anew.
        """
        if self._newest >= 0 and instant != self._newest + 1:
            self.restart()
        if self._filled == len(self._rows):
            for store in (self._rows, self._height, self._z, self._energy, self._stir, self._top):
                store[: self._keep] = store[self._keep :].copy()
            self._filled = self._keep
        at = self._filled
        self._rows[at] = row
        self._filled += 1
        self._newest = instant
        self._row_count += 1
        if self._row_count < WINDOW:
            return None
        self._learn(at)
        if not self.settled:
            return None
        return self._candidate(at)

    def _learn(self, at: int) -> None:
        """Responses of the window that ends at row `at`, in units of the floor, and what the floor learns
        from them.
        """
        self._stir[at] = self._recent
        self._top[at] = _respond(
            kernels(),
            _reach(),
            self._rows[at - WINDOW + 1 : at + 1],
            self.least,
            self.regions,
            self._size,
            self._row_count - WINDOW,
            self._variance,
            self._mean_energy,
            self._recent,
            self._height[at],
            self._z[at],
            self._energy[at],
        )

    def _candidate(self, at: int) -> Pulse | None:
        middle = at - NEIGHBOURS
        top = self._top[middle]
        around = self._top[middle - NEIGHBOURS : at + 1]
        if top < self.threshold or top < around.max() or int(np.argmax(around)) != NEIGHBOURS:
            return None
        return self._describe(middle)

    def evidence(self, instant: int, slack: int = 6) -> Pulse | None:
        """The strongest pulse with its apex within `slack` instants of `instant`, however weak; None where
        that is not in memory.
        """
        back = self._newest - AHEAD - instant
        at = self._filled - 1 - back
        low = at - slack
        high = min(at + slack, self._filled - 1)
        if not self.settled or high < low or low < WINDOW or low < self._filled - self._keep + WINDOW:
            return None
        return self._describe(low + int(np.argmax(self._top[low : high + 1])))

    def _describe(self, at: int) -> Pulse:
        """The pulse whose responses stand in row `at`; its apex lies AHEAD rows before."""
        energy = self._energy[at]
        z = self._z[at]
        height = self._height[at]
        scale = int(np.unravel_index(int(np.argmax(energy)), energy.shape)[0])
        starters = self.regions.any(axis=0)
        weights = np.where(
            starters,
            np.clip(z[scale], -8.0, 8.0) / np.sqrt(np.maximum(self._variance[scale], self.least**2)),
            0.0,
        )
        course = self._rows[at - WINDOW + 1 : at + 1] @ weights
        s = shapes()
        level = course - s.nuisance @ (s.nuisance.T @ course)
        match = s.rows @ level
        best = int(np.argmax(match))
        total = float(level @ level)
        fit = float(match[best] ** 2 / total) if match[best] > 0 and total > 0 else 0.0
        apex = int(np.clip(round(float(s.apex[best])), -6, 6))
        peak = float(course[BEHIND + apex])
        before = float(
            np.median(
                course[max(BEHIND + int(s.onset[best]) - 12, 0) : max(BEHIND + int(s.onset[best]), 1) + 1]
            )
        )
        rebound = (
            (float(course[-4:].mean()) - before) / (peak - before) if abs(peak - before) > 1e-12 else 1.0
        )
        here = self._newest - (self._filled - 1 - at) - AHEAD
        recent = self._stir[max(at - 40, 0)]
        return Pulse(
            here + apex,
            here + float(s.onset[best]),
            here + float(s.offset[best]),
            float(self._top[at]),
            scale,
            height[scale].copy(),
            z[scale].copy(),
            energy.copy(),
            recent.copy(),
            fit,
            float(s.offset[best] - s.onset[best]) / GRID_HZ,
            float(np.clip(rebound, -2.0, 2.0)),
        )
