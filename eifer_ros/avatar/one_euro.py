"""One-Euro filter: Casiez, Roussel, Vogel 2012, "1 euro filter: a simple speed-based low-pass filter for
noisy input".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..types import F64, Stamp, seconds


class OneEuro:
    """Smooths a vector: slow changes much, fast changes little.

    min_cutoff_hz: cut-off at rest, lower is smoother. beta: how many Hz the cut-off rises per unit/s of
    speed, higher is quicker. A gap longer than `gap_s`, or time going back, starts afresh.
    """

    def __init__(
        self, min_cutoff_hz: float, beta: float, derivative_cutoff_hz: float = 1.0, gap_s: float = 0.5
    ) -> None:
        self.min_cutoff_hz = min_cutoff_hz
        self.beta = beta
        self.derivative_cutoff_hz = derivative_cutoff_hz
        self.gap_s = gap_s
        self.reset()

    def reset(self) -> None:
        """Forget the past."""
        self._stamp: Stamp | None = None
        self._value: F64 | None = None
        self._slope: F64 | None = None

    def __call__(self, stamp: Stamp, value: npt.ArrayLike) -> F64:
        """The smoothed value; the first one passes unchanged.

        A repeated stamp gives the last output again.
        """
        new = np.asarray(value, np.float64)
        if (
            self._stamp is None
            or self._value is None
            or self._slope is None
            or new.shape != self._value.shape
        ):
            return self._start(stamp, new)
        step = seconds(stamp - self._stamp)
        if step == 0.0:
            return self._value.copy()
        if step < 0.0 or step > self.gap_s:
            return self._start(stamp, new)
        slope = (new - self._value) / step
        self._slope = self._slope + _alpha(self.derivative_cutoff_hz, step) * (slope - self._slope)
        cutoff = self.min_cutoff_hz + self.beta * np.abs(self._slope)
        self._value = self._value + _alpha(cutoff, step) * (new - self._value)
        self._stamp = stamp
        return self._value.copy()

    def _start(self, stamp: Stamp, value: F64) -> F64:
        self._stamp = stamp
        self._value = value.copy()
        self._slope = np.zeros_like(value)
        return value.copy()


def _alpha(cutoff_hz: npt.ArrayLike, step_s: float) -> F64:
    """Weight of the new sample of a first-order low-pass."""
    ratio = 2.0 * np.pi * np.asarray(cutoff_hz, np.float64) * step_s
    return np.asarray(ratio / (1.0 + ratio))
