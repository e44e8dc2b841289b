"""What buttons of the page do.

Each control is an object with a state to show and commands to obey; none knows of the page.

A command that cannot be obeyed raises an EiferError whose message the page shows.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from .. import topics
from ..emg.calibration import Calibration
from ..emg.calibration_session import CalibrationSession
from ..emg.emg_processing import EmgProcessing
from ..emg.protocol import PROTOCOL
from ..errors import EiferError, InputError
from ..recording.diagnostics import LatencyDiary
from ..recording.writer import BagWriter
from ..types import Item, Marker, MuscleActivity, Stamp, seconds

NOTE_LENGTH = 200


class Control(Protocol):
    """A group of buttons."""

    def state(self) -> dict[str, Any]:
        """JSON values for the page."""
        ...

    def command(self, verb: str, values: Mapping[str, Any]) -> str:
        """Obey; returns a sentence for the page, or an empty one. Raises EiferError."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


def _unknown(name: str, verb: str, commands: str) -> InputError:
    return InputError(f"{name}: '{verb}' is not a command; known are {commands}")


class RecordControl:
    """Starts and stops recordings and sets markers. `take` is a tap.

    folder: where recordings go, each in a new folder named after the time.
    """

    def __init__(
        self,
        folder: Path,
        session: Mapping[str, object] | None = None,
        clock: Callable[[], Stamp] = time.time_ns,
    ) -> None:
        self.folder = folder
        self._session = dict(session or {})
        self._clock = clock
        self._writer: BagWriter | None = None
        self._diary: LatencyDiary | None = None
        self._since: Stamp = 0
        self._count = 0
        self._latched: dict[str, Item] = {}
        self._last = ""
        self._lock = threading.Lock()
        self.written: list[str] = []
        self.emit: Callable[[str, Item], None] | None = None
        """Where markers are shown besides being recorded."""

    def take(self, port: str, item: Item) -> None:
        """Write an item where a recording runs."""
        if port in topics.LATCHED:
            self._latched[port] = item
        writer = self._writer
        if writer is None:
            return
        try:
            writer.write(port, item)
            if self._diary is not None:
                self._diary.take(port, item)
        except EiferError as error:
            if self._writer is writer:  # else it was just stopped, and this item came too late
                self._writer = None
                self._last = str(error)

    def state(self) -> dict[str, Any]:
        """Whether it records, for how long, where, and what went wrong."""
        writer = self._writer
        out: dict[str, Any] = {"recording": writer is not None, "message": self._last, "markers": self._count}
        if writer is not None:
            stats = writer.stats
            out |= {
                "seconds": round(seconds(self._clock() - self._since), 1),
                "path": str(writer.path),
                "megabytes": round(stats.bytes / 1e6, 1),
                "items": sum(stats.written.values()),
                "dropped": sum(stats.dropped.values()) + stats.rejected,
            }
        return out

    def command(self, verb: str, values: Mapping[str, Any]) -> str:
        """`start`, `stop`, `mark` (values: label)."""
        with self._lock:
            if verb == "start":
                return self._start()
            if verb == "stop":
                return self._stop()
            if verb == "mark":
                return self._mark(str(values.get("label", "") or "note"))
        raise _unknown("record", verb, "start, stop, mark")

    def _start(self) -> str:
        if self._writer is not None:
            raise InputError(f"recording already, to {self._writer.path}")
        moment = time.strftime("%Y%m%d_%H%M%S", time.localtime(self._clock() / 1e9))
        path = self.folder / f"eifer_{moment}"
        number = 1
        while path.exists():
            number += 1
            path = self.folder / f"eifer_{moment}_{number}"
        self.folder.mkdir(parents=True, exist_ok=True)
        writer = BagWriter(path, session=self._session)
        for port, item in self._latched.items():
            writer.write(port, item)  # said once, before this recording began
        self._since = self._clock()
        self._count = 0
        self._last = ""
        self._diary = LatencyDiary(writer.write_message, {}, live=True, wall=self._clock)
        self._writer = writer
        return f"recording to {path}"

    def _stop(self) -> str:
        writer = self._writer
        self._writer = None
        if writer is None:
            raise InputError("nothing is being recorded")
        self._last = "saving"
        writer.close()
        self.written.append(str(writer.path))
        self._last = f"saved {writer.path}"
        return self._last

    def _mark(self, label: str) -> str:
        self.mark(Marker(self._clock(), label[:NOTE_LENGTH], "note"))
        return f"marked: {label[:NOTE_LENGTH]}"

    def mark(self, marker: Marker) -> None:
        """Record a marker and show it."""
        if self._writer is not None:
            self._writer.write(topics.MARKERS.name, marker)
            self._count += 1
        if self.emit is not None:
            self.emit(topics.MARKERS.name, marker)

    def close(self) -> None:
        """Finish a recording that still runs."""
        with self._lock:
            if self._writer is not None:
                self._stop()


class CalibrateControl:
    """Leads through the calibration movements.

    `take` is a tap on emg/activity; `turn` must be called about twenty times a second.

    out: folder for calibration files. on_done: gets the calibration; with `processing`, its activations
    follow it at once. times: durations for `CalibrationSession` (tests).
    """

    def __init__(
        self,
        out: Path,
        processing: EmgProcessing | None = None,
        *,
        record: RecordControl | None = None,
        on_done: Callable[[Calibration, Path], None] | None = None,
        clock: Callable[[], Stamp] = time.time_ns,
        times: Mapping[str, float] | None = None,
    ) -> None:
        self.out = out
        self._processing = processing
        self._record = record
        self._on_done = on_done
        self._clock = clock
        self._times = dict(times or {})
        self._arrived: deque[MuscleActivity] = deque(maxlen=2000)
        self._session: CalibrationSession | None = None
        self._newest: MuscleActivity | None = None
        self._marked = 0
        self._state: dict[str, Any] = {"running": False, "takes": []}
        self._lock = threading.Lock()

    def take(self, port: str, item: Item) -> None:
        """Collect muscle activity."""
        if isinstance(item, MuscleActivity):
            self._newest = item
            if self._session is not None:
                self._arrived.append(item)

    def state(self) -> dict[str, Any]:
        """The prompt: movement, phase, text, remaining_s, progress, advice, takes so far, result."""
        return self._state

    def command(self, verb: str, values: Mapping[str, Any]) -> str:
        """`start` (values: participant, repetitions, movements) or `cancel`."""
        with self._lock:
            if verb == "start":
                return self._start(values)
            if verb == "cancel":
                if self._session is None:
                    raise InputError("no calibration is running")
                self._session.cancel("ended by the operator")
                return "calibration ended"
        raise _unknown("calibrate", verb, "start, cancel")

    def _start(self, values: Mapping[str, Any]) -> str:
        if self._session is not None:
            raise InputError("a calibration is running already")
        newest = self._newest
        if newest is None or seconds(self._clock() - newest.stamp) > 3.0:
            raise InputError("no EMG arrives; is the amplifier streaming?")
        movements = values.get("movements", ())
        repetitions = values.get("repetitions", 1)
        if (
            not isinstance(movements, list | tuple)
            or not isinstance(repetitions, int)
            or not 1 <= repetitions <= 10
        ):
            raise InputError("calibrate: movements must be a list of names, repetitions 1 to 10")
        self._arrived.clear()
        self._marked = 0
        self._session = CalibrationSession(
            newest.scheme,
            newest.muscles,
            newest.profile or "live",
            movements=[str(name) for name in movements],
            repetitions=repetitions,
            participant=str(values.get("participant") or "")[:NOTE_LENGTH],
            **self._times,  # type: ignore[arg-type]
        )
        self.turn()
        return "calibration started"

    def turn(self) -> None:
        """Move the running session on to the present."""
        session = self._session
        if session is None:
            return
        items = [self._arrived.popleft() for _ in range(len(self._arrived))]
        try:
            prompt = session.update(self._clock(), items)
        except InputError as error:
            session.cancel(str(error))
            prompt = session.update(self._clock())
        takes = session.takes
        for take in takes[self._marked :]:
            if self._record is not None:
                label = take.movement if take.accepted else f"rejected {take.movement}"
                self._record.mark(Marker(take.start, label, "start", take.advice))
                self._record.mark(Marker(take.end, label, "end", take.advice))
        self._marked = len(takes)
        state: dict[str, Any] = {
            "running": not session.finished,
            "movement": prompt.movement,
            "phase": prompt.phase,
            "text": prompt.text,
            "remaining_s": round(prompt.remaining_s, 2),
            "progress": round(prompt.progress, 4),
            "advice": prompt.advice,
            "takes": [
                {"movement": take.movement, "accepted": take.accepted, "advice": take.advice}
                for take in takes
            ],
        }
        if session.finished:
            self._session = None
            state |= self._finish(session) if prompt.phase == "done" else {}
        self._state = state

    def _finish(self, session: CalibrationSession) -> dict[str, Any]:
        try:
            calibration = session.result()
            self.out.mkdir(parents=True, exist_ok=True)
            number = 1
            while (path := self.out / f"calibration_{number}.yaml").exists():
                number += 1
            calibration.save(path)
            if self._processing is not None:
                self._processing.use_calibration(calibration)
        except (EiferError, OSError) as error:
            return {"phase": "failed", "text": str(error)}
        if self._on_done is not None:
            self._on_done(calibration, path)
        return {
            "file": str(path),
            "dead": list(calibration.dead),
            "weak": list(calibration.weak),
            "channels": len(calibration.muscles),
        }

    def close(self) -> None:
        """End a running session."""
        if self._session is not None:
            self._session.cancel("the page was closed")
            self._session = None


MOVEMENTS: tuple[dict[str, str], ...] = tuple(
    {"name": movement.name, "prompt": movement.prompt} for movement in PROTOCOL
)
"""The movements as the page lists them."""


class Armable(Protocol):
    """An output that can hurt: an animatronic face."""

    def arm(self) -> tuple[bool, str]: ...
    def release(self) -> tuple[bool, str]: ...
    def stop(self) -> tuple[bool, str]: ...
    def clear_stop(self) -> tuple[bool, str]: ...


class ArmControl:
    """Arming of one output.

    `arm` needs a confirmation that was asked for first and is not older than `patience_s`.
    """

    def __init__(
        self,
        output: Armable,
        name: str,
        patience_s: float = 15.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output = output
        self._name = name
        self._patience_s = patience_s
        self._monotonic = monotonic
        self._requested_at: float | None = None
        self._message = "disarmed"

    def state(self) -> dict[str, Any]:
        """Name, state in a word, message."""
        guard = getattr(self._output, "guard", None)
        word = str(guard.state.value) if guard is not None else "unknown"
        return {"name": self._name, "state": word, "message": self._message}

    def command(self, verb: str, values: Mapping[str, Any]) -> str:
        """`ask` then `arm`; `release`, `stop`, `clear`."""
        if verb == "ask":
            self._requested_at = self._monotonic()
            return ""
        if verb == "arm":
            requested_at = self._requested_at
            self._requested_at = None
            if requested_at is None or self._monotonic() - requested_at > self._patience_s:
                raise InputError("arming must be confirmed: press Arm and answer the question")
            done, self._message = self._output.arm()
        elif verb == "release":
            done, self._message = self._output.release()
        elif verb == "stop":
            done, self._message = self._output.stop()
        elif verb == "clear":
            done, self._message = self._output.clear_stop()
        else:
            raise _unknown("arm", verb, "ask, arm, release, stop, clear")
        if not done:
            raise InputError(self._message)
        return self._message

    def close(self) -> None:
        """Closing a page moves nothing."""
