"""Between the wish and the servo: arming, stop, silence, and the limits.

A host calls `step(now)` at least as often as the command rate. Commands lie on a fixed time grid; a call that
comes late by up to `CATCH_UP` steps catches up, a longer stall counts as standing still. States:

    DISARMED --arm--> ACTIVE --silence--> HOLDING --hold_s--> EASING --at neutral--> RELEASED --faces again-->
    ACTIVE (slowly at first) any --stop--> STOPPING --at rest--> STOPPED (latched until clear_stop, then
    DISARMED) any but STOPPED --release--> EASING --at neutral--> DISARMED
"""

from __future__ import annotations

from enum import Enum

import numpy as np
import numpy.typing as npt

from ..types import F64, NS, Stamp, nanoseconds
from .limiter import Limiter

CATCH_UP = 3
AT_NEUTRAL_RAD = 1e-3


class State(Enum):
    """Whether joints are commanded, and why not."""

    DISARMED = "disarmed"
    ACTIVE = "active"
    HOLDING = "holding the last face"
    EASING = "easing to neutral"
    RELEASED = "released, no face arrives"
    STOPPING = "stopping"
    STOPPED = "stopped"


SENDING = frozenset({State.ACTIVE, State.HOLDING, State.EASING, State.STOPPING})
"""States in which commands leave."""


class Guard:
    """Decides what is sent, and when. Times are the host's stamps; nothing here reads a clock.

    Parameters
    ----------
    limiter : Limiter
        Keeps position, speed and acceleration within limits.
    neutral : ndarray of float64, shape (J,)
        Rad.
    hold_s : float
        How long the last wish holds when no new one comes.
    ease_s : float
        How long the way to neutral takes then.
    slew_s : float
        How long after arming speed is limited.
    slew_share : float
        To which share of full speed.
    resume : bool, optional
        Follow again by itself when wishes come back.
    """

    def __init__(
        self,
        limiter: Limiter,
        neutral: F64,
        *,
        hold_s: float,
        ease_s: float,
        slew_s: float,
        slew_share: float,
        resume: bool = True,
    ) -> None:
        self.limiter = limiter
        self.neutral = neutral
        self.state = State.DISARMED
        self.resume = resume
        self._hold = nanoseconds(hold_s)
        self._ease_s = ease_s
        self._slew_steps = round(slew_s / limiter.dt)
        self._slew_share = slew_share
        self._period = nanoseconds(limiter.dt)
        self._target = neutral.copy()
        self._fresh = False
        self._forget()

    def _forget(self) -> None:
        self._fresh_at: Stamp | None = None
        self._due: Stamp | None = None
        self._last_now: Stamp | None = None
        self._ease_left = 0.0
        self._slew_left = 0
        self._releasing = False

    def offer(self, target: npt.ArrayLike) -> bool:
        """A new wish.

        Parameters
        ----------
        target : array_like, shape (J,)
            Rad.

        Returns
        -------
        bool
            False, and nothing changes, where it is not finite.
        """
        wish = np.asarray(target, np.float64)
        if wish.shape != self.neutral.shape or not np.isfinite(wish).all():
            return False
        self._target = wish
        self._fresh = True
        return True

    @property
    def can_resume(self) -> bool:
        """Released for silence, and a face has arrived since: `arm` again to go on."""
        return self.state == State.RELEASED and self._fresh and self.resume

    def arm(self, present: npt.ArrayLike | None = None) -> bool:
        """Start commanding, slowly at first.

        Parameters
        ----------
        present : array_like, shape (J,), optional
            Measured positions, rad, where there are any; else the last commanded ones or neutral.

        Returns
        -------
        bool
            False while stopped: a stop is latched.
        """
        if self.state in (State.STOPPED, State.STOPPING):
            return False
        if self.state in (State.ACTIVE, State.HOLDING):
            return True
        if self.state == State.EASING:
            self.state = State.ACTIVE
            self._releasing = False
            self._slew_left = 0
            self._fresh_at = self._last_now
            return True
        start = self.limiter.position if self.state == State.RELEASED else self.neutral
        if present is not None and np.isfinite(present).all():
            start = np.asarray(present, np.float64)
        self.limiter.reset(start)
        if self.state == State.DISARMED:  # what was wished for while disarmed may be old
            self._target = self.neutral.copy()
            self._fresh = False
        self._forget()
        self._slew_left = self._slew_steps
        self.state = State.ACTIVE
        return True

    def release(self) -> None:
        """Ease to neutral, then stop commanding until armed again."""
        if self.state in (State.ACTIVE, State.HOLDING):
            self._begin_ease()
        if self.state == State.EASING:
            self._releasing = True
        elif self.state == State.RELEASED:
            self.state = State.DISARMED

    def stop(self) -> None:
        """Brake at full deceleration and stay stopped. Latched."""
        self.state = State.STOPPING if self.state in SENDING else State.STOPPED

    def clear_stop(self) -> bool:
        """Leave the latched stop; the output is disarmed then.

        Returns
        -------
        bool
            False while still braking.
        """
        if self.state == State.STOPPED:
            self.state = State.DISARMED
        return self.state != State.STOPPING

    def step(self, now: Stamp) -> tuple[Stamp, F64] | None:
        """The command due at an instant.

        Parameters
        ----------
        now : int (ns)
            The host's clock.

        Returns
        -------
        tuple[Stamp, ndarray of float64] or None
            Grid stamp and (J,) rad; None where nothing is due or nothing may be sent.
        """
        if (
            self._last_now is not None and now < self._last_now
        ):  # time went back: start a new grid, stand still
            self.limiter.halt()
            self._due = None
            self._fresh_at = None if self._fresh_at is None else min(self._fresh_at, now)
        self._last_now = now
        if self._fresh and self.state in (State.ACTIVE, State.HOLDING, State.EASING):
            self._fresh = False
            self._fresh_at = now
            if self.state == State.EASING and not self._releasing:
                self.state = State.ACTIVE
                self._slew_left = 0
            elif self.state == State.HOLDING:
                self.state = State.ACTIVE
        if self.state not in SENDING:
            self._due = None
            return None
        if self._fresh_at is None:
            self._fresh_at = now  # just armed: wait for the first face as long as for any other
        if self._due is None:
            self._due = now
        late = now - self._due
        if late < -NS // 1000:
            return None
        steps = max(late, 0) // self._period + 1
        if steps > CATCH_UP:  # nothing was commanded for so long that the joints have come to rest
            self.limiter.halt()
            self._due = now
            steps = 1
        position: F64 | None = None
        for _ in range(steps):
            if self.state not in SENDING:
                break
            position = self._advance(now)
            stamp = self._due
            self._due += self._period
        return None if position is None else (stamp, position)

    def _advance(self, now: Stamp) -> F64:
        if self.state == State.STOPPING:
            position = self.limiter.brake()
            if not np.any(self.limiter.velocity):
                self.state = State.STOPPED
            return position
        silent = now - (self._fresh_at if self._fresh_at is not None else now)
        if self.state == State.ACTIVE and silent > 2 * self._period:
            self.state = State.HOLDING
        if self.state in (State.ACTIVE, State.HOLDING) and silent >= self._hold:
            self._begin_ease()
        if self.state == State.EASING:
            return self._ease()
        share = self._slew_share if self._slew_left > 0 else 1.0
        self._slew_left = max(self._slew_left - 1, 0)
        return self.limiter.step(self._target, share=share)

    def _begin_ease(self) -> None:
        self.state = State.EASING
        self._ease_left = self._ease_s

    def _ease(self) -> F64:
        position = self.limiter.step(self.neutral, within_s=self._ease_left)
        self._ease_left = max(self._ease_left - self.limiter.dt, self.limiter.dt)
        resting = np.abs(self.limiter.velocity).max() * self.limiter.dt < AT_NEUTRAL_RAD
        if (
            self._ease_left <= self.limiter.dt
            and resting
            and np.abs(position - self.neutral).max() < AT_NEUTRAL_RAD
        ):
            self.state = State.DISARMED if self._releasing else State.RELEASED
            self._releasing = False
            self._fresh = False
        return position
