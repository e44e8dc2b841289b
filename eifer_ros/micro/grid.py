"""Streams of any rate onto one grid of 100 instants a second, so that one detector serves every camera and
every amplifier.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..types import F64, NS, Stamp

GRID_HZ = 100
STEP_NS = NS // GRID_HZ
"""Distance of two instants; instant k lies at k x STEP_NS."""


def instant(stamp: Stamp) -> int:
    """The nearest instant of the grid."""
    return (stamp + STEP_NS // 2) // STEP_NS


class Grid:
    """C values with stamps -> their mean over the 10 ms around each instant of the grid.

    Between two items the values are taken as linear, so that 200 pictures a second are averaged and 30
    interpolated, by one formula. An instant is given as soon as an item lies beyond its 10 ms. Two items
    further apart than `gap_s`, time that goes back, or a value that is not a number begin anew: instants in
    between do not exist.
    """

    def __init__(self, channels: int, gap_s: float = 0.12) -> None:
        self.channels = channels
        self.gap_ns = round(gap_s * NS)
        self.breaks = 0
        self.restart()

    def restart(self) -> None:
        """Forget the past."""
        self._last: tuple[Stamp, F64] | None = None
        self._sum = np.zeros(self.channels)
        self._covered = 0

    def push(self, stamp: Stamp, values: npt.ArrayLike) -> Iterator[tuple[int, F64]]:
        """Take (C,) values; yield (instant, (C,) values) of what became known, in order."""
        now = np.asarray(values, np.float64)
        if not np.isfinite(now).all():
            if self._last is not None:
                self.breaks += 1
            self.restart()
            return
        if self._last is None or not 0 < stamp - self._last[0] <= self.gap_ns:
            if self._last is not None:
                self.breaks += 1
            self.restart()
            self._last = stamp, now
            return
        begin, before = self._last
        span = stamp - begin
        at = begin
        while at < stamp:
            cell = instant(at)
            end = min(cell * STEP_NS + STEP_NS - STEP_NS // 2, stamp)
            middle = ((at - begin) + (end - begin)) / (2.0 * span)
            self._sum += (end - at) * ((1.0 - middle) * before + middle * now)
            self._covered += end - at
            if instant(end) != cell:
                # the first cell after a break is covered in part; half of it will do
                if 2 * self._covered >= STEP_NS:
                    yield cell, self._sum / self._covered
                self._sum = np.zeros(self.channels)
                self._covered = 0
            at = end
        self._last = stamp, now
