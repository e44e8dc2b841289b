"""Device clock -> host clock.

A device counts its own samples, ticks or milliseconds; the host sees each count only when it arrives, late by
a varying queueing delay that is never negative. The map from counter to host time is the line under all
arrivals that lies closest to them, found over a sliding window. The line touches the arrivals that queued
least, so a slow consumer, a burst or a busy host does not bias it; its slope is the drift of the device
clock.

Method: the linear programme of Moon, Skelly & Towsley, "Estimation and removal of clock skew from network
delay measurements" (INFOCOM 1999, section 4). Its solution is the edge of the lower convex hull above the
mean abscissa.

What no such method can see is the smallest delay itself (exposure, transfer): it stays in the offset. Give it
as `latency_s` where it is known.

Nothing here reads a clock: arrival stamps are passed in. `steady_epoch` makes a host clock for callers that
need one.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from .errors import InputError
from .types import NS, Stamp

_BINS = 120
"""Parts of the window that each keep their least delayed arrival."""

_MAX_SLEW = 0.5
"""Output time runs at most this fraction faster or slower than the device while it takes up a correction."""


def steady_epoch() -> Callable[[], Stamp]:
    """A host clock in ns since the epoch that no step of the system time (NTP, an operator) can move.

    Returns
    -------
    Callable[[], Stamp]
        Gives ns since the epoch.
    """
    anchor = time.time_ns() - time.monotonic_ns()
    return lambda: anchor + time.monotonic_ns()


@dataclass(frozen=True, slots=True)
class ClockState:
    """What a DeviceClock has learnt, for diagnostics.

    Parameters
    ----------
    offset_s : float
        Host time minus device time (counter x tick) at the latest observation.
    drift_ppm : float
        Above 0 where the device clock is slow, in host microseconds per device second.
    residual_s : float
        Median queueing delay of the window above the line.
    span_s : float
        Device time the estimate rests on.
    jumps : int
        Times the model had to start again.
    observations : int
        Arrivals since the last start.
    """

    offset_s: float
    drift_ppm: float
    residual_s: float
    span_s: float
    jumps: int
    observations: int

    def values(self) -> dict[str, float | int | str]:
        """Name and value pairs for `Health.values`.

        Returns
        -------
        dict[str, float or int or str]
            Offset in s, drift in ppm, residual in ms, jumps.
        """
        return {
            "clock_offset_s": round(self.offset_s, 6),
            "clock_drift_ppm": round(self.drift_ppm, 2),
            "clock_residual_ms": round(self.residual_s * 1e3, 3),
            "clock_jumps": self.jumps,
        }


class DeviceClock:
    """Maps a running device counter onto host stamps.

    Parameters
    ----------
    tick_s : float
        Nominal duration of one count (1/rate for a sample counter, 1e-3 for milliseconds).
    window_s : float, optional
        How far back arrivals count.
    max_drift_ppm : float, optional
        No crystal is worse than this; a slope beyond it is noise.
    jump_s : float, optional
        An arrival this much too early, or `hold_s` of arrivals all this much too late, means that one of the
        clocks jumped.
    hold_s : float, optional
        How long arrivals must all be late to count as a jump.
    latency_s : float, optional
        Fixed delay between acquisition and arrival, where it is known.

    Raises
    ------
    InputError
        A duration is not above 0.

    Examples
    --------
    >>> clock = DeviceClock(1 / 2000)
    >>> clock.observe(last_index + 1, arrival)
    >>> stamp = clock.stamp(first_index)
    """

    def __init__(
        self,
        tick_s: float,
        *,
        window_s: float = 60.0,
        max_drift_ppm: float = 500.0,
        jump_s: float = 0.25,
        hold_s: float = 1.0,
        latency_s: float = 0.0,
    ) -> None:
        for name, value in (
            ("tick_s", tick_s),
            ("window_s", window_s),
            ("jump_s", jump_s),
            ("hold_s", hold_s),
        ):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"DeviceClock {name} is {value}; it must be above 0")
        self.tick_s = tick_s
        self._window_s = window_s
        self._max_slope = max_drift_ppm * 1e-6
        self._jump_s = jump_s
        self._hold_s = hold_s
        self._latency_ns = round(latency_s * NS)
        self._jumps = 0
        self._last_out: Stamp | None = None
        self._restart()

    def _restart(self) -> None:
        """Forget the model. Output stamps stay monotone across it."""
        self._origin: tuple[float, Stamp] | None = None  # counter and host stamp that x = 0, y = 0 stand for
        self._bins: deque[tuple[int, float, float]] = deque()  # bin number, x (device s), y (host s minus x)
        self._late: list[tuple[float, Stamp]] = []  # the run of arrivals that are all too late
        self._slope = 0.0
        self._intercept = 0.0
        self._x = 0.0
        self._count = 0
        self._delays: deque[float] = deque(maxlen=256)
        self._follow: float | None = None  # counter of the last stamp given out by this model

    # ---- learning -------------------------------------------------------------------------------------------------------

    def observe(self, counter: float, arrival: Stamp) -> bool:
        """Learn from one arrival.

        For a chunk of samples pass the counter of its end: the last sample is the one that waited least.

        Parameters
        ----------
        counter : float
            Device count.
        arrival : int (ns)
            When it reached the host.

        Returns
        -------
        bool
            Whether this revealed a jump of either clock.

        Raises
        ------
        InputError
            The counter is not finite.
        """
        if not math.isfinite(counter):
            raise InputError(f"device counter is {counter}; it must be finite")
        if self._origin is None:
            self._begin(counter, arrival)
            return False
        x, y = self._place(counter, arrival)
        delay = y - self._line(x)
        if x < self._x or delay < -self._jump_s:
            self._jump([(counter, arrival)])
            return True
        if delay > self._jump_s:
            self._late.append((counter, arrival))
            first_counter, first_arrival = self._late[0]
            if min((counter - first_counter) * self.tick_s, (arrival - first_arrival) / NS) >= self._hold_s:
                self._jump(self._late)
                return True
        else:
            self._late.clear()
        self._learn(x, y)
        return False

    def _begin(self, counter: float, arrival: Stamp) -> None:
        self._origin = (counter, arrival)
        self._learn(0.0, 0.0)

    def _jump(self, arrivals: list[tuple[float, Stamp]]) -> None:
        """Start again from the arrivals that revealed the jump."""
        self._jumps += 1
        self._restart()
        self._begin(*arrivals[0])
        for counter, arrival in arrivals[1:]:
            self._learn(*self._place(counter, arrival))

    def _place(self, counter: float, arrival: Stamp) -> tuple[float, float]:
        """Device seconds since the origin, and host seconds since the origin minus those."""
        assert self._origin is not None
        x = (counter - self._origin[0]) * self.tick_s
        return x, (arrival - self._origin[1]) / NS - x

    def _line(self, x: float) -> float:
        return self._intercept + self._slope * x

    def _learn(self, x: float, y: float) -> None:
        self._x = x
        self._count += 1
        number = math.floor(x / self._window_s * _BINS)
        opened = not self._bins or self._bins[-1][0] != number
        if opened:
            self._bins.append((number, x, y))
            while self._bins[0][0] <= number - _BINS:
                self._bins.popleft()
        elif y - self._slope * x < self._bins[-1][2] - self._slope * self._bins[-1][1]:
            self._bins[-1] = (number, x, y)
        if opened or y < self._line(x):
            self._fit()
        self._delays.append(y - self._line(x))

    def _fit(self) -> None:
        """The supporting line of the lower hull at the mean abscissa, its slope held within what a crystal
        can do.
        """
        hull: list[tuple[float, float]] = []
        for _, x, y in self._bins:
            while len(hull) >= 2 and _turn(hull[-2], hull[-1], (x, y)) <= 0:
                hull.pop()
            hull.append((x, y))
        middle = sum(x for _, x, _ in self._bins) / len(self._bins)
        slope = self._slope
        for (x0, y0), (x1, y1) in pairwise(hull):
            if x0 <= middle <= x1 and x1 > x0:
                slope = (y1 - y0) / (x1 - x0)
                break
        self._slope = min(max(slope, -self._max_slope), self._max_slope)
        self._intercept = min(y - self._slope * x for x, y in hull)

    # ---- answering ------------------------------------------------------------------------------------------------------

    def stamp(self, counter: float) -> Stamp:
        """Host stamp of `counter`. Strictly increasing from call to call, whatever the clocks did.

        A correction of the model is taken up gradually: between two calls output time runs at most half
        faster or slower than the device. Only after a jump may it leap, and only forward.

        Parameters
        ----------
        counter : float
            Device count.

        Returns
        -------
        int (ns)
            When it was acquired.

        Raises
        ------
        InputError
            Nothing was observed yet.
        """
        if self._origin is None:
            raise InputError("a stamp was asked of a device clock that has observed no arrival yet")
        x = (counter - self._origin[0]) * self.tick_s
        target = self._origin[1] + round((x + self._line(x)) * NS) - self._latency_ns
        out = target
        if self._last_out is not None:
            if self._follow is not None:
                step = max(counter - self._follow, 0.0) * self.tick_s * NS
                slowest = math.ceil(step * (1 - _MAX_SLEW))
                fastest = math.floor(step * (1 + _MAX_SLEW))
                out = min(max(target, self._last_out + slowest), self._last_out + fastest)
            out = max(out, self._last_out + 1)
        self._follow = counter if self._follow is None else max(counter, self._follow)
        self._last_out = out
        return out

    def update(self, counter: float, arrival: Stamp) -> Stamp:
        """`observe` and `stamp` in one, for items that arrive one by one (camera frames).

        Parameters
        ----------
        counter : float
            Device count.
        arrival : int (ns)
            When it reached the host.

        Returns
        -------
        int (ns)
            When it was acquired.

        Raises
        ------
        InputError
            The counter is not finite.
        """
        self.observe(counter, arrival)
        return self.stamp(counter)

    def reset(self) -> None:
        """Forget everything, the monotone output included."""
        self._jumps = 0
        self._last_out = None
        self._restart()

    @property
    def state(self) -> ClockState:
        """What is known at present; NaN before the first arrival."""
        # health is read from other threads than the one that observes: look at each part once
        origin = self._origin
        bins = list(self._bins)
        ordered = sorted(self._delays)
        if origin is None or not bins or not ordered:
            return ClockState(math.nan, math.nan, math.nan, 0.0, self._jumps, 0)
        device_s = origin[0] * self.tick_s + self._x
        host_s = origin[1] / NS + self._x + self._line(self._x) - self._latency_ns / NS
        span = bins[-1][1] - bins[0][1]
        return ClockState(
            host_s - device_s,
            self._slope * 1e6,
            max(ordered[len(ordered) // 2], 0.0),
            span,
            self._jumps,
            self._count,
        )


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    """Above 0 where a -> b -> c turns left, as the lower hull of points in order must."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
