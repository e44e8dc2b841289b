"""Values at exact instants: multiples of the output period on the stamp clock, never every n-th sample.

Decimating 2048 Hz by 20 gives 102.4 Hz, 160 ms wrong after seven seconds (emg2face, arXiv 2610.09304,
appendix). Here each output instant lies between two samples of known time and is interpolated there, so
streams of different rates share one grid.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ..errors import InputError
from ..types import F64, I64, NS, Stamp

_SAME_CLOCK_NS = 2.0
"""A chunk whose stamp is this near to the prediction continues the old time base: stamps are rounded to a
nanosecond.
"""


@numba.njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _interpolate(values: Any, previous: Any, before: Any, first: Any, step: Any, out: Any) -> None:
    """Rows of `values` (N, C) at positions first + k step; row `previous` stands at position `before` < 0."""
    for k in range(out.shape[0]):
        position = first + k * step
        low = int(np.floor(position))
        if low < 0:
            left = previous
            right = values[0]
            weight = (position - before) / -before
        else:
            low = min(low, values.shape[0] - 1)
            left = values[low]
            right = values[min(low + 1, values.shape[0] - 1)]
            weight = position - low
        # the neighbour that has no part in an instant must not let its NaN in
        if weight <= 0.0:
            out[k] = left
        elif weight >= 1.0:
            out[k] = right
        else:
            for c in range(out.shape[1]):
                out[k, c] = left[c] + weight * (right[c] - left[c])


class GridSampler:
    """Streaming linear interpolation of (N, C) values, taken at `rate_hz`, to instants k / out_hz on the
    stamp clock.

    The result does not depend on how the stream is cut into chunks. Raises InputError where `out_hz` has no
    whole number of nanoseconds per period.
    """

    def __init__(self, rate_hz: float, channels: int, out_hz: float = 100.0) -> None:
        period = NS / out_hz if out_hz > 0 else 0.5
        if abs(period - round(period)) > 1e-6:
            raise InputError(
                f"output rate {out_hz} Hz has no period of whole nanoseconds; take 50, 100, 200 or 250"
            )
        self.rate_hz = rate_hz
        self.period_ns = round(period)
        self._channels = channels
        self._previous = np.zeros(channels)
        self.restart()

    def restart(self) -> None:
        """Forget the last sample and the time base; no output instant will lie before the next sample."""
        self._started = False
        self._anchor: Stamp = 0
        self._count = 0
        self._next: Stamp = 0

    @property
    def expected(self) -> float | None:
        """Stamp, ns, at which the next chunk should begin; None before the first."""
        return self._anchor + self._count / self.rate_hz * NS if self._started else None

    def push(self, values: F64, stamp: Stamp) -> tuple[I64, F64]:
        """Take (N, C) values whose first row was taken at `stamp`; return (K,) stamps and (K, C) values.

        A chunk that starts a little late or early (clock correction) shifts the time base from there on.
        Instants never repeat.
        """
        count = len(values)
        if count == 0:
            return np.zeros(0, np.int64), np.zeros((0, self._channels))
        before = -1.0  # position of the previous row, in samples relative to the first row of this chunk
        if not self._started:
            self._anchor = stamp
            self._count = 0
            self._started = True
            self._next = -(-stamp // self.period_ns) * self.period_ns
            self._previous = values[0]
        else:
            # relative to the anchor, because a float cannot hold an epoch stamp to the nanosecond
            early_ns = self._count / self.rate_hz * NS - (stamp - self._anchor)
            if abs(early_ns) > _SAME_CLOCK_NS:
                before += early_ns * self.rate_hz / NS
                self._anchor = stamp
                self._count = 0
        last_ns = (self._count + count - 1) / self.rate_hz * NS
        due = int((last_ns - (self._next - self._anchor)) // self.period_ns) + 1
        if due <= 0:
            stamps = np.zeros(0, np.int64)
            out = np.zeros((0, self._channels))
        else:
            stamps = self._next + self.period_ns * np.arange(due, dtype=np.int64)
            out = np.empty((due, self._channels))
            first = (self._next - self._anchor) * (self.rate_hz / NS) - self._count
            _interpolate(values, self._previous, before, first, self.period_ns * (self.rate_hz / NS), out)
            self._next += due * self.period_ns
        self._count += count
        self._previous = values[-1].copy()
        return stamps, out
