"""Guides a participant through the calibration movements.

The session has no clock and no screen: the caller brings items and the time, so the command line, the ROS
action and the web page drive the same one, and a test runs it in no time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import InputError
from ..types import F64, NS, Marker, MuscleActivity, Stamp, nanoseconds
from .calibration import Calibration, fit_calibration, scheme_of
from .montage import Scheme
from .protocol import REST, REST_MOVEMENT, Movement, expected_channels, movements_named
from .takes import Take, TakeChecker, TakeStore


class Prompt(NamedTuple):
    """What the participant should see now.

    phase: `prepare`, `perform`, `relax`, `repeat` (as prepare, after a bad take), `done` or `failed`.
    remaining_s: seconds left in the phase. progress: share of the protocol done, 0..1. advice: what was wrong
    with the last take, or empty.
    """

    movement: str
    phase: str
    text: str
    remaining_s: float
    progress: float
    advice: str = ""


class CalibrationSession:
    """One run through the protocol.

        session = CalibrationSession(scheme, muscles, "live")
        while not session.finished:
            prompt = session.update(now, items_since_last_time)
            show(prompt)
        calibration = session.result()

    Each take is prepared, performed and relaxed from; it is judged at the end of `relax`, when its last items
    have arrived. A bad one is repeated up to `attempts` times, then left out. The first `reaction_s` of a
    take do not count.
    """

    def __init__(
        self,
        scheme: Scheme | str,
        muscles: Sequence[str],
        profile: str = "live",
        *,
        movements: Sequence[str] = (),
        repetitions: int = 1,
        attempts: int = 3,
        prepare_s: float = 2.0,
        perform_s: float = 3.0,
        relax_s: float = 2.0,
        rest_s: float = 5.0,
        reaction_s: float = 0.6,
        participant: str = "",
        mains_hz: float = 50.0,
    ) -> None:
        if not muscles:
            raise InputError("a calibration needs at least one channel")
        if (
            repetitions < 1
            or attempts < 1
            or min(prepare_s, perform_s, relax_s, rest_s) <= 0
            or not 0 <= reaction_s < perform_s
        ):
            raise InputError(
                "calibration: repetitions and attempts must be 1 or more, times above 0, reaction shorter than the take"
            )
        self._checker = TakeChecker(scheme_of(scheme, muscles), muscles, profile)
        self._profile = profile
        self._participant = participant
        self._mains_hz = mains_hz
        self._plan = [
            REST_MOVEMENT,
            *(movement for movement in movements_named(movements) for _ in range(repetitions)),
        ]
        self._attempts = attempts
        self._seconds = {"prepare": prepare_s, "repeat": prepare_s, "perform": perform_s, "relax": relax_s}
        self._rest_s = rest_s
        self._reaction_s = reaction_s
        self._store = TakeStore()
        self._takes: list[Take] = []
        self._index = 0
        self._attempt = 1
        self._phase = "prepare"
        self._since: Stamp | None = None
        self._take_start: Stamp = 0
        self._advice = ""
        self._failure = ""

    @property
    def finished(self) -> bool:
        """True when there is nothing more to do, for better or worse."""
        return self._phase in ("done", "failed")

    @property
    def takes(self) -> tuple[Take, ...]:
        """Every take so far, bad ones included."""
        return tuple(self._takes)

    @property
    def markers(self) -> tuple[Marker, ...]:
        """Start and end of every accepted take so far, to be recorded; `calibrate_recording` makes the same
        of them.
        """
        return tuple(
            Marker(stamp, take.movement, phase)
            for take in self._takes
            if take.accepted
            for stamp, phase in ((take.start, "start"), (take.end, "end"))
        )

    def update(self, now: Stamp, items: Iterable[MuscleActivity] = ()) -> Prompt:
        """Take the items that arrived, move on to `now`, and say what to show.

        Raises InputError for an item of other channels than the session's.
        """
        for item in items:
            if item.muscles != self._checker.muscles:
                raise InputError("the EMG channels changed during the calibration; start again")
            self._store.add(item)
        if self._since is None:
            self._since = now
        while not self.finished and now - self._since >= nanoseconds(self._length()):
            self._advance(self._since + nanoseconds(self._length()))
        return self._prompt(now)

    def cancel(self, reason: str = "cancelled") -> None:
        """End now; `result` will say why there is none."""
        if not self.finished:
            self._phase = "failed"
            self._failure = reason

    def result(self) -> Calibration:
        """The calibration.

        Raises InputError saying what is missing where the session failed or is still running.
        """
        if self._phase == "failed":
            raise InputError(f"calibration failed: {self._failure}")
        if self._phase != "done":
            raise InputError("the calibration is not finished")
        return fit_calibration(
            self._checker, self._store, self._takes, self._profile, self._participant, self._mains_hz
        )

    def _length(self) -> float:
        if self._phase == "perform" and self._plan[self._index].name == REST:
            return self._rest_s
        return self._seconds[self._phase]

    def _advance(self, at: Stamp) -> None:
        self._since = at
        if self._phase in ("prepare", "repeat"):
            self._phase = "perform"
            self._take_start = at
        elif self._phase == "perform":
            self._phase = "relax"
        else:
            self._check_take(at - nanoseconds(self._seconds["relax"]))

    def _check_take(self, end: Stamp) -> None:
        movement = self._plan[self._index]
        start = self._take_start + nanoseconds(self._reaction_s)
        envelope, quality = self._store.between(start, end)
        advice = self._checker.advice(movement, envelope, quality)
        last = self._attempt >= self._attempts
        # after the last attempt bad electrodes are given up, and the rest of the take counts
        if advice and last and len(envelope) and self._give_up_dead(movement, envelope, quality):
            advice = self._checker.advice(movement, envelope, quality)
        self._takes.append(Take(movement.name, start, end, not advice, advice))
        self._advice = advice
        if not advice and movement.name == REST:
            self._checker.learn_rest(envelope, quality)
        if advice and not last:
            self._attempt += 1
            self._phase = "repeat"
            return
        self._attempt = 1
        self._index += 1
        self._phase = "prepare"
        if advice and movement.name == REST:
            self._phase = "failed"
            self._failure = advice
        elif self._index == len(self._plan):
            self._finish()

    def _give_up_dead(self, movement: Movement, envelope: F64, quality: F64) -> bool:
        silent = set(self._checker.without_contact(envelope, quality)) - self._checker.dead
        if len(silent | self._checker.dead) == len(self._checker.muscles):
            return False
        if movement.name != REST:
            silent &= set(expected_channels(movement, self._checker.scheme, self._checker.muscles))
        self._checker.dead |= silent
        return bool(silent)

    def _finish(self) -> None:
        self._phase = "done"
        try:
            self.result()
        except InputError as error:
            self._phase = "failed"
            self._failure = str(error)

    def _prompt(self, now: Stamp) -> Prompt:
        if self._phase == "done":
            left = (
                f" Without {', '.join(self._checker.muscles[i] for i in sorted(self._checker.dead))}."
                if self._checker.dead
                else ""
            )
            return Prompt("", "done", f"Done, thank you.{left}", 0.0, 1.0, self._advice)
        if self._phase == "failed":
            return Prompt("", "failed", self._failure, 0.0, self._index / len(self._plan), self._advice)
        movement = self._plan[self._index]
        text = {
            "prepare": f"Next: {movement.prompt}",
            "repeat": f"Once more: {movement.prompt}",
            "perform": movement.prompt,
            "relax": "Relax.",
        }[self._phase]
        elapsed = (now - self._since) / NS if self._since is not None else 0.0
        return Prompt(
            movement.name,
            self._phase,
            text,
            max(self._length() - elapsed, 0.0),
            self._index / len(self._plan),
            self._advice if self._phase in ("repeat", "prepare") else "",
        )
