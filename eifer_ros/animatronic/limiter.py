"""Minimum-jerk motion that obeys position, speed and acceleration limits exactly.

Each step plans a minimum-jerk move (a quintic, Flash & Hogan 1985) from the present position, speed and
acceleration to rest at the target, and takes its first 1/rate seconds. What comes out is then limited hard.
With speed v_k = (p_k - p_{k-1}) / dt the limits are

    lower <= p_k <= upper,   |v_k| <= speed,   |v_k - v_{k-1}| / dt <= acceleration

and the one thing kept true from step to step is that the joint can still stop in time: v^2 / (2 a) <=
distance to the limit ahead. From there a step v' <= -a dt + sqrt(a^2 dt^2 + 2 a d) always exists that keeps
it true, so the limits never conflict.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..types import F64


class Limiter:
    """J joints on a fixed time grid of `dt` seconds. All limits (J,)."""

    def __init__(
        self, lower: F64, upper: F64, speed: F64, acceleration: F64, dt: float, smoothing_s: float
    ) -> None:
        self.lower = lower
        self.upper = upper
        self.speed = speed
        self.acceleration = acceleration
        self.dt = dt
        self.smoothing_s = smoothing_s
        self.reset(0.5 * (lower + upper))

    def reset(self, position: npt.ArrayLike) -> None:
        """Stand still at `position` (clipped into the range)."""
        self.position = np.clip(np.asarray(position, np.float64), self.lower, self.upper)
        self.halt()

    def halt(self) -> None:
        """The joints have come to rest where they are (commands stopped coming)."""
        self.velocity = np.zeros_like(self.position)
        self._v = self.velocity
        self._a = self.velocity

    def step(self, target: F64, *, within_s: float | None = None, share: float = 1.0) -> F64:
        """The next (J,) positions towards `target`.

        within_s: take this long instead of the shortest smooth time (for easing back). share: of speed and
        acceleration that may be used; it may rise at any time, and fall only while the joints stand still.
        """
        goal = np.clip(target, self.lower, self.upper)
        speed = share * self.speed
        acceleration = share * self.acceleration
        d = goal - self.position
        shortest = np.maximum(1.875 * np.abs(d) / speed, np.sqrt(5.774 * np.abs(d) / acceleration))
        T = np.maximum(shortest, max(self.smoothing_s if within_s is None else within_s, self.dt))
        x = self.dt / T
        vT = self._v * T
        aT = self._a * T * T
        c3 = 10 * d - 6 * vT - 1.5 * aT
        c4 = -15 * d + 8 * vT + 1.5 * aT
        c5 = 6 * d - 3 * vT - 0.5 * aT
        moved = x * (vT + x * (0.5 * aT + x * (c3 + x * (c4 + x * c5))))
        wish = moved / self.dt
        velocity = self._limited(wish, speed, acceleration)
        free = velocity == wish
        v_end = (vT + x * (aT + x * (3 * c3 + x * (4 * c4 + x * 5 * c5)))) / T
        a_end = (aT + x * (6 * c3 + x * (12 * c4 + x * 20 * c5))) / T**2
        self._v = np.where(free, v_end, velocity)
        self._a = np.clip(
            np.where(free, a_end, (velocity - self.velocity) / self.dt), -acceleration, acceleration
        )
        return self._advance(velocity)

    def brake(self) -> F64:
        """The next (J,) positions of the quickest stop."""
        velocity = self._limited(np.zeros_like(self.velocity), self.speed, self.acceleration)
        self._v = velocity
        self._a = np.zeros_like(velocity)
        return self._advance(velocity)

    def _limited(self, wish: F64, speed: F64, acceleration: F64) -> F64:
        change = acceleration * self.dt
        room_up = self.upper - self.position
        room_down = self.position - self.lower
        high = np.minimum(speed, -change + np.sqrt(change**2 + 2 * acceleration * np.maximum(room_up, 0.0)))
        low = np.maximum(-speed, change - np.sqrt(change**2 + 2 * acceleration * np.maximum(room_down, 0.0)))
        velocity = np.minimum(np.maximum(wish, low), high)
        return np.minimum(np.maximum(velocity, self.velocity - change), self.velocity + change)

    def _advance(self, velocity: F64) -> F64:
        before = self.position
        # rounding may touch the limit by a few parts in 10^16; never beyond it
        self.position = np.clip(before + velocity * self.dt, self.lower, self.upper)
        self.velocity = (self.position - before) / self.dt
        return self.position.copy()
