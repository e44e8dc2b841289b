"""Camera and EMG as one face at 100 Hz.

One Kalman filter per face value with the state [value, velocity, bias]: constant velocity driven by white
acceleration, damped so that nothing coasts for ever, and the slowly wandering bias of the EMG prediction.
Vision measures the value; EMG measures value + bias. While the camera sees the face, the bias is learnt; when
it goes blind, EMG carries on from where the two agreed and the bias fades back to nothing. Measurements
arrive late and out of order (a picture takes tens of milliseconds); each is put in its place in time and what
came after it is worked through again.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np

from ..types import F64, NS, Floats, Stamp

VALUE = 0
VELOCITY = 1
BIAS = 2
HISTORY_S = 0.5
"""How late a measurement may come and still count."""


@dataclass(frozen=True)
class FusionSettings:
    """Per face value (K,) or one for all: how fast it moves and how the EMG's bias wanders. Values in the
    coefficients' units.

    Parameters
    ----------
    acceleration : ndarray of float or float, optional
        Spectral density of white acceleration, 1/s^1.5.
    damping_s : float, optional
        Time constant after which velocity has died down without measurements.
    bias_std : ndarray of float or float, optional
        How far the EMG prediction may stand off in the long run.
    bias_s : float, optional
        Over what time it wanders.
    """

    acceleration: Floats | float = 8.0
    damping_s: float = 0.25
    bias_std: Floats | float = 0.1
    bias_s: float = 3.0


@dataclass(frozen=True)
class Measurement:
    """K values at one instant.

    Parameters
    ----------
    stamp : int (ns)
        When they were so.
    values : ndarray of float64, shape (K,)
        In the coefficients' units.
    variance : ndarray of float64, shape (K,)
        Infinite where a value was not seen.
    biased : bool
        EMG (value + bias), else vision.
    """

    stamp: Stamp
    values: F64
    variance: F64
    biased: bool


@dataclass(frozen=True)
class _Belief:
    """Mean (K, 3) and covariance (K, 3, 3) at `stamp`."""

    stamp: Stamp
    mean: F64
    covariance: F64


class Fusion:
    """K independent filters, worked on together.

    Parameters
    ----------
    count : int
        K.
    settings : FusionSettings, optional
        None for the defaults.
    lower, upper : ndarray of float or float, optional
        Bounds of the values, (K,) or one for all.
    """

    def __init__(
        self,
        count: int,
        settings: FusionSettings | None = None,
        lower: Floats | float = 0.0,
        upper: Floats | float = 1.0,
    ) -> None:
        self.settings = settings or FusionSettings()
        self.count = count
        self._lower = lower
        self._upper = upper
        self._beliefs: list[_Belief] = []
        self._measurements: list[Measurement] = []
        self.late = 0
        """Measurements that came too late to count."""

    def reset(self) -> None:
        """Forget everything."""
        self._beliefs.clear()
        self._measurements.clear()

    @property
    def started(self) -> bool:
        """Whether anything was ever measured."""
        return bool(self._beliefs)

    def add(self, measurement: Measurement) -> None:
        """Take a measurement in, at its own place in time.

        One that goes back more than `HISTORY_S` is counted and left out.

        Parameters
        ----------
        measurement : Measurement
            From the camera or from EMG.
        """
        if not self._beliefs:
            self._beliefs = [self._initial(measurement)]
            self._measurements = [measurement]
            return
        stamp = measurement.stamp
        if stamp < self._beliefs[-1].stamp - HISTORY_S * NS:
            self.late += 1
            return
        place = bisect.bisect_right([belief.stamp for belief in self._beliefs], stamp)
        if place == 0:
            self.late += 1
            return
        following = self._measurements[place:]
        del self._beliefs[place:], self._measurements[place:]
        for each in [measurement, *following]:
            self._beliefs.append(self._update(self._predict(self._beliefs[-1], each.stamp), each))
            self._measurements.append(each)
        self._forget()

    def state(self, stamp: Stamp) -> tuple[F64, F64]:
        """Values at an instant, predicted from the last belief before it.

        Parameters
        ----------
        stamp : int (ns)
            The instant.

        Returns
        -------
        tuple[ndarray of float64, ndarray of float64]
            (K,) values and (K,) standard deviations.
        """
        place = bisect.bisect_right([belief.stamp for belief in self._beliefs], stamp)
        belief = self._predict(self._beliefs[max(place - 1, 0)], stamp)
        return np.clip(belief.mean[:, VALUE], self._lower, self._upper), np.sqrt(
            np.maximum(belief.covariance[:, VALUE, VALUE], 0.0)
        )

    def _forget(self) -> None:
        horizon = self._beliefs[-1].stamp - round(HISTORY_S * NS)
        keep = max(0, bisect.bisect_left([belief.stamp for belief in self._beliefs], horizon) - 1)
        del self._beliefs[:keep], self._measurements[:keep]

    def _initial(self, measurement: Measurement) -> _Belief:
        measured = np.isfinite(measurement.variance) & np.isfinite(measurement.values)
        mean = np.zeros((self.count, 3))
        mean[measured, VALUE] = measurement.values[measured]
        covariance = np.zeros((self.count, 3, 3))
        covariance[:, VALUE, VALUE] = np.where(measured, np.where(measured, measurement.variance, 1.0), 0.25)
        covariance[:, VELOCITY, VELOCITY] = 1.0
        covariance[:, BIAS, BIAS] = np.broadcast_to(
            np.asarray(self.settings.bias_std, float) ** 2, self.count
        )
        return _Belief(measurement.stamp, mean, covariance)

    def _predict(self, belief: _Belief, stamp: Stamp) -> _Belief:
        step = (stamp - belief.stamp) / NS
        if step <= 0:
            return belief
        settings = self.settings
        decay = float(np.exp(-step / settings.damping_s))
        reach = settings.damping_s * (1.0 - decay)
        fade = float(np.exp(-step / settings.bias_s))
        move = np.array([[1.0, reach, 0.0], [0.0, decay, 0.0], [0.0, 0.0, fade]])
        mean = belief.mean @ move.T
        covariance = move @ belief.covariance @ move.T
        density = np.broadcast_to(np.asarray(settings.acceleration, float) ** 2, self.count)
        # exact integrals of the damped model are within a few per cent of these for steps below damping_s
        short = min(step, settings.damping_s)
        covariance[:, VALUE, VALUE] += density * short**2 * step / 3
        covariance[:, VALUE, VELOCITY] += density * short * step / 2 * decay
        covariance[:, VELOCITY, VALUE] += density * short * step / 2 * decay
        covariance[:, VELOCITY, VELOCITY] += density * short
        covariance[:, BIAS, BIAS] += np.asarray(settings.bias_std, float) ** 2 * (1.0 - fade**2)
        return _Belief(stamp, mean, covariance)

    def _update(self, belief: _Belief, measurement: Measurement) -> _Belief:
        measured = np.isfinite(measurement.variance) & np.isfinite(measurement.values)
        row = np.array([1.0, 0.0, 1.0 if measurement.biased else 0.0])
        across = belief.covariance @ row
        total = across @ row + np.where(measured, measurement.variance, 1.0)
        gain = np.where(measured[:, None], across / total[:, None], 0.0)
        innovation = np.where(measured, measurement.values - belief.mean @ row, 0.0)
        mean = belief.mean + gain * innovation[:, None]
        # Joseph form: stays symmetric and positive whatever the rounding
        keep = np.eye(3) - gain[:, :, None] * row
        noise = (
            np.where(measured, measurement.variance, 0.0)[:, None, None] * gain[:, :, None] * gain[:, None, :]
        )
        covariance = keep @ belief.covariance @ np.swapaxes(keep, 1, 2) + noise
        return _Belief(belief.stamp, mean, covariance)
