"""A recording as a source with the buttons of a tape deck: play, pause, seek, loop.

Stamps stay those of the recording. While paused nothing flows; a seek shows the moment it lands on, paused or
not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ..component import Emission, Health, Level, Port, Source
from ..errors import InputError
from ..recording.reader import Bag
from ..recording.streams import PORTS, Role
from ..recording.sync import Sync, items_synced
from ..topics import LATCHED, MARKERS, TRUE_MOVEMENT
from ..types import Frame, Item, Marker, Stamp, nanoseconds, seconds

LEAD_S = 0.6
"""A seek starts reading so much earlier, so that traces and the picture are there when it lands."""


class BagPlayer(Source):
    """Plays a recording. Buttons may be pressed from any thread.

    topics: what to play; None for all. on_seek: called before items of another moment flow.
    """

    outputs: ClassVar[tuple[Port, ...]] = PORTS

    def __init__(
        self,
        path: Path,
        topics: Collection[str] | None = None,
        *,
        playing: bool = True,
        loop: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._topics = topics
        self.playing = playing
        self.loop = loop
        self.speed = 1.0
        self.on_seek: Callable[[], None] | None = None
        self.start: Stamp = 0
        self.end: Stamp = 0
        self.markers: list[Marker] = []
        self.available: tuple[str, ...] = ()
        self.session: dict[str, Any] = {}
        self.clocks: Sync | None = None
        """How the camera's clock runs, where `eifer sync` found out; playing takes it into account."""
        self._position: Stamp = 0
        self._target: Stamp | None = None
        self._ended = False
        self._stopped = False
        self._ready = False
        self._monotonic = monotonic
        self._changed = threading.Condition()

    def setup(self) -> None:
        """Read what is in the recording. Raises RecordingError."""
        if self._ready:
            return
        with Bag(self.path) as bag:
            streams = [(c, s) for c, s in bag.streams if s.role in (Role.ITEM, Role.PICTURE)]
            self.available = tuple(sorted({stream.port for _, stream in streams}))
            self.session = bag.session
            self.start, self.end = bag.span
            marked = sorted({s.port for _, s in streams if s.port in (MARKERS.name, TRUE_MOVEMENT.name)})
            self.markers = (
                [item for _, _, item in bag.items(topics=marked) if isinstance(item, Marker)]
                if marked
                else []
            )
        if self.end == 0:
            raise InputError(f"{self.path}: nothing was recorded in it")
        self.clocks = Sync.load(self.path)
        self._position = self.start
        self._ready = True

    # ---- buttons ----------------------------------------------------------------------------------------------------

    @property
    def position_s(self) -> float:
        """Where the tape is, seconds from its beginning."""
        return max(0.0, seconds(self._position - self.start))

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return seconds(self.end - self.start)

    def now(self) -> Stamp:
        """The recording's time: the clock of everything that is computed from it."""
        return self._position

    def play(self) -> None:
        """Go on, from the beginning where the end was reached."""
        with self._changed:
            if self._ended and self._target is None:
                self._target = self.start
            self.playing = True
            self._changed.notify_all()

    def pause(self) -> None:
        """Hold."""
        with self._changed:
            self.playing = False
            self._changed.notify_all()

    def seek(self, position_s: float) -> None:
        """Go to `position_s` from the beginning."""
        with self._changed:
            target_s = min(max(position_s, 0.0), self.duration_s)
            self._target = self.start + nanoseconds(target_s)
            self._changed.notify_all()

    def stop(self) -> None:
        """End `produce`."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def state(self) -> dict[str, Any]:
        """For the page."""
        return {
            "playing": self.playing and not self._ended,
            "position_s": round(self.position_s, 3),
            "duration_s": round(self.duration_s, 3),
            "loop": self.loop,
            "speed": self.speed,
            "ended": self._ended,
        }

    def command(self, verb: str, values: Mapping[str, Any]) -> str:
        """`play`, `pause`, `seek` (position_s), `loop` (on), `speed` (factor)."""
        if verb == "play":
            self.play()
        elif verb == "pause":
            self.pause()
        elif verb == "seek":
            self.seek(_number(values, "position_s"))
        elif verb == "loop":
            self.loop = bool(values.get("on"))
        elif verb == "speed":
            factor = _number(values, "factor")
            if not 0.05 <= factor <= 8:
                raise InputError(f"player: speed {factor:g} is out of range; it must be 0.05 to 8")
            with self._changed:
                self.speed = factor
                self._changed.notify_all()
        else:
            raise InputError(f"player: '{verb}' is not a command; known are play, pause, seek, loop, speed")
        return ""

    # ---- the stream -------------------------------------------------------------------------------------------------

    def produce(self) -> Iterator[Emission]:
        """Items by their stamps until `stop`; at the end it waits for a button."""
        self.setup()
        yield from self._latched()
        at = self.start
        while not self._stopped:
            self._ended = False
            yield from self._play_from(at)
            with self._changed:
                if self._target is None and not (self.loop and self.playing):
                    self._ended = True
                    self._changed.wait_for(self._called)
                at = self._target or self.start
                self._target = None
            if not self._stopped and self.on_seek is not None:
                self.on_seek()

    def _interrupted(self) -> bool:
        return self._stopped or self._target is not None

    def _called(self) -> bool:
        return self._interrupted() or (self.loop and self.playing)

    def _latched(self) -> Iterator[Emission]:
        with Bag(self.path) as bag:
            topics = [
                port
                for port in sorted(LATCHED)
                if port in self.available and (self._topics is None or port in self._topics)
            ]
            if topics:
                for _, port, item in bag.items(topics=topics):
                    yield Emission(port, item)

    def _play_from(self, at: Stamp) -> Iterator[Emission]:
        """Until the end, a seek or a stop.

        What lies before `at` comes at once, except pictures, of which only the last does.
        """
        began: tuple[float, Stamp] | None = None
        factor = self.speed
        early: dict[str, Item] = {}
        landed = False
        topics = None if self._topics is None else sorted(set(self._topics) & set(self.available))
        with Bag(self.path) as bag:
            for stamp, port, item in items_synced(
                bag, self.clocks, topics=topics, start=at - nanoseconds(LEAD_S)
            ):
                if self._interrupted():
                    return
                if port in LATCHED:
                    continue
                if stamp < at:
                    if isinstance(item, Frame):
                        early[port] = item
                    else:
                        yield Emission(port, item)
                    continue
                if not landed:
                    landed = True
                    for name, picture in early.items():
                        yield Emission(name, picture)
                    if not any(isinstance(picture, Frame) for picture in early.values()) and isinstance(
                        item, Frame
                    ):
                        yield Emission(port, item)
                        continue
                with self._changed:
                    while not self._interrupted():
                        if not self.playing:
                            began = None
                            self._changed.wait()
                            continue
                        if began is None or factor != self.speed or seconds(abs(stamp - began[1])) > 60:
                            began = (self._monotonic(), stamp)
                            factor = self.speed
                        left = began[0] + seconds(stamp - began[1]) / factor - self._monotonic()
                        if left <= 0:
                            if left < -0.5:
                                began = None  # the reader could not keep up: go on from here rather than rush
                            break
                        self._changed.wait(left)
                if self._interrupted():
                    return
                self._position = stamp
                yield Emission(port, item)

    def health(self) -> Health:
        """Where the tape is."""
        values: dict[str, float | int | str] = {
            "position_s": round(self.position_s, 2),
            "duration_s": round(self.duration_s, 2),
        }
        if self.clocks is not None and self.clocks.grade:
            clocks = self.clocks
            values |= {
                "camera_clock_offset_ms": round(1e3 * clocks.offset_s, 1),
                "camera_clock_drift_ppm": round(clocks.drift_ppm, 1),
                "camera_clock_grade": clocks.grade,
            }
        message = "playing" if self.playing and not self._ended else "at the end" if self._ended else "paused"
        return Health(Level.OK, message, values)

    def close(self) -> None:
        """Stop; nothing is held open between items."""
        self.stop()


def _number(values: Mapping[str, Any], key: str) -> float:
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > 1e9:
        raise InputError(f"player: {key} must be a number, got {value!r}")
    return float(value)
