"""The simulated participant as sources: an amplifier, a camera, or both at once, live or as fast as they are
taken.

Live, the participant has been performing since 2026-01-01 00:00 UTC and never stops: whoever looks at the
same moment sees the same performance, so that camera and amplifier may run in different processes and need
not be started together.
"""

from __future__ import annotations

import functools
import heapq
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from .. import topics
from ..component import Emission, Health, Level, Port, Source
from ..config import DeviceConfig, parameter
from ..errors import ConfigError
from ..types import (
    NS,
    EmgChunk,
    FaceEvent,
    Marker,
    Stamp,
    nanoseconds,
)
from .artefacts import BURST_S, USUAL, choose, dropped
from .participant import START, Participant

IMAGE = topics.CAMERA_IMAGE.port
HEAD = topics.HEAD_MODEL.port
TRUE_FACE = topics.TRUE_FACE.port
TRUE_EVENTS = topics.TRUE_EVENTS.port
RAW = topics.EMG_RAW.port
CHANNELS = topics.EMG_RAW_CHANNELS.port
TRUE_MUSCLES = topics.TRUE_MUSCLES.port
MOVEMENT = topics.TRUE_MOVEMENT.port

_FAR = 400 * 365 * 86400.0
_WINDOW_S = 10.0


class PerformerConfig(DeviceConfig):
    """Parameters of the simulated participant.

    Two processes with the same values show the same performance.
    """

    url_field: ClassVar[str] = "seed"

    seed: int = parameter(7, "who performs", ge=0, le=2**31 - 1)
    session: int = parameter(
        0, "which session of that person: other timing, repeats and noise", ge=0, le=2**31 - 1
    )
    program: Literal[
        "session",
        "calibration",
        "emotions",
        "conversation",
        "free",
        "rest",
        "maximum",
        "micro",
        "micro_talking",
    ] = parameter(
        "session",
        "what is performed; session holds the 11 functional and 6 emotional movements, conversation and grimaces in 120 s; "
        "micro and micro_talking hold micro-expressions over rest and over conversation",
    )
    speed: int = parameter(
        1, "1 in real time with stamps of the clock, 0 as fast as items are taken", ge=0, le=1
    )
    duration_s: float = parameter(0.0, "length of the performance; 0 without end", unit="s", ge=0)
    start_s: float = parameter(
        0.0, "where in the performance to begin; live, the clock says where", unit="s", ge=0
    )
    start_stamp: int = parameter(
        0, "stamp of the performance's time 0; 0 is 2026-01-01 00:00 UTC", unit="ns", ge=0
    )
    lag_s: float = parameter(0.07, "how long the skin follows after the muscle", unit="s", ge=0.03, le=0.15)
    sensors: bool = parameter(True, "electrodes and cables on the face")
    width: int = parameter(640, "picture width", unit="px", ge=16, le=4096)
    height: int = parameter(480, "picture height", unit="px", ge=16, le=4096)
    fps: float = parameter(30.0, "pictures per second", unit="Hz", gt=0, le=1000)
    draw_threads: int = parameter(2, "threads that draw one picture together", ge=1, le=16)
    scheme: str = parameter(
        "fridlund",
        "electrodes: fridlund (22 bipolar), kuramoto (19 monopolar), both (63 contacts) or a scheme file",
    )
    rate_hz: float = parameter(2048.0, "EMG sampling rate", unit="Hz", ge=200, le=20000)
    chunk_samples: int = parameter(32, "EMG samples per packet", ge=1, le=4096)
    emg_mode: Literal["fast", "units"] = parameter("fast", "fast: shaped noise; units: every motor unit")
    artefacts: tuple[str, ...] = parameter(
        USUAL,
        "what spoils the signal: white, mains, wander, motion, blink, liftoff, drops, drift, bursts; usual, all",
    )
    mains_hz: Literal[50, 60] = parameter(50, "mains frequency", unit="Hz")
    truth_hz: float = parameter(100.0, "rate of truth/muscles", unit="Hz", gt=0, le=1000)


class Clock(Protocol):
    """What a live source needs of time; injected, so that tests need not wait."""

    def now(self) -> Stamp:
        """The present as a stamp."""
        ...

    def wait_until(self, stamp: Stamp, stop: threading.Event) -> None:
        """Return at `stamp`, or earlier when `stop` is set."""
        ...


class WallClock:
    """The computer's clock."""

    def now(self) -> Stamp:
        """The present as a stamp."""
        return time.time_ns()

    def wait_until(self, stamp: Stamp, stop: threading.Event) -> None:
        """Return at `stamp`, or earlier when `stop` is set."""
        while not stop.is_set() and (left := stamp - time.time_ns()) > 0:
            stop.wait(left / NS)


@dataclass(frozen=True, slots=True)
class _PlannedItem:
    """Something to emit: when it is acquired, when it arrives, and how to make it.

    optional: may be left out when late.
    """

    stamp: Stamp
    due: Stamp
    make: Callable[[], Iterable[Emission]]
    optional: bool = False


class _PerformerSource(Source):
    """What the three sources share: one participant, the merge of what was planned, and waiting for it."""

    config_type = PerformerConfig

    def __init__(self, config: PerformerConfig | None = None, clock: Clock | None = None) -> None:
        self.config = config or PerformerConfig()
        choose(self.config.artefacts)
        self.live = self.config.speed == 1
        self._clock = clock or WallClock()
        self._stop = threading.Event()
        self._participant: Participant | None = None
        self._frames = 0
        self._late = 0
        self._samples = 0
        self._lost = 0
        self._last: Stamp | None = None

    @property
    def participant(self) -> Participant:
        """Who performs."""
        if self._participant is None:
            c = self.config
            self._participant = Participant(
                c.seed,
                c.session,
                program=c.program,
                lag_s=c.lag_s,
                sensors=c.sensors,
                size=(c.width, c.height),
                scheme=c.scheme,
                rate_hz=c.rate_hz,
                emg_mode=c.emg_mode,
                artefacts=c.artefacts,
                mains_hz=float(c.mains_hz),
                start=c.start_stamp or START,
                draw_threads=c.draw_threads,
            )
        return self._participant

    def streams(self, begin_s: float, end_s: float) -> list[Iterator[_PlannedItem]]:
        """What is emitted within [begin, end), one iterator per kind, each in the order of its stamps."""
        raise NotImplementedError

    def produce(self) -> Iterator[Emission]:
        """Items until the performance ends or `stop`: in the order of their stamps, or live in the order in
        which they arrive.
        """
        return self._perform(self.streams)

    def _perform(self, streams: Callable[[float, float], list[Iterator[_PlannedItem]]]) -> Iterator[Emission]:
        """`produce` with some of the streams."""
        self._stop.clear()
        begin = self.config.start_s
        if self.live:
            begin = max(begin, self.participant.time(self._clock.now()))
        end = begin + (self.config.duration_s or _FAR)
        order: Callable[[_PlannedItem], Stamp] = (
            (lambda planned: planned.due) if self.live else (lambda planned: planned.stamp)
        )
        for planned in heapq.merge(*streams(begin, end), key=order):
            if self.live:
                self._clock.wait_until(planned.due, self._stop)
                if planned.optional and self._clock.now() - planned.due > NS / self.config.fps:
                    self._late += 1
                    continue
            if self._stop.is_set():
                return
            self._last = planned.due
            yield from planned.make()

    def stop(self) -> None:
        """End `produce` at once."""
        self._stop.set()

    def health(self) -> Health:
        """Counts of what was made; WARN where pictures come too late to be shown."""
        values: dict[str, float | int | str] = {"seed": self.config.seed, "program": self.config.program}
        if self._samples or self._lost:
            values |= {"samples": self._samples, "lost": self._lost}
        if self._frames or self._late:
            values |= {"frames": self._frames, "frames_skipped": self._late}
        if self._last is None:
            return Health(Level.STALE, "simulated participant: not started", values)
        if self._late > 0.1 * (self._frames + self._late):
            return Health(
                Level.WARN, f"this computer cannot draw {self.config.fps:g} pictures a second", values
            )
        return Health(Level.OK, f"simulated participant {self.config.seed}: performing", values)

    def close(self) -> None:
        """Stop and let go of the participant's memory."""
        self.stop()
        self._participant = None

    # --- what there is to plan -----------------------------------------------------------------------------------------

    def _once(self, begin_s: float, make: Callable[[Stamp], Emission]) -> Iterator[_PlannedItem]:
        stamp = self.participant.stamp(begin_s)
        yield _PlannedItem(stamp, stamp, lambda: (make(stamp),))

    def _pictures(self, begin_s: float, end_s: float) -> Iterator[_PlannedItem]:
        number = int(np.ceil(begin_s * self.config.fps - 1e-9))
        while (time_s := number / self.config.fps) < end_s:
            stamp = self.participant.stamp(time_s)
            yield _PlannedItem(stamp, stamp, functools.partial(self._picture, time_s), optional=True)
            number += 1

    def _picture(self, time_s: float) -> Iterator[Emission]:
        face = self.participant.face_at(time_s)
        yield Emission(TRUE_FACE.name, face)
        self._frames += 1
        yield Emission(IMAGE.name, self.participant.frame_at(time_s, face))

    def _packets(self, begin_s: float, end_s: float) -> Iterator[_PlannedItem]:
        p = self.participant
        size = self.config.chunk_samples
        origin = -(-p.sample_index(begin_s) // size) * size
        first = origin
        last = p.sample_index(end_s)
        lost = 0
        while first < last:
            count = min(size, last - first)
            if "drops" in p.artefacts and dropped(p.seed, p.session, first // size):
                lost += count
                self._lost += count
            else:
                stamp, arrival = p.stamp(first / p.true_rate_hz), p.stamp((first + count) / p.true_rate_hz)
                if "bursts" in p.artefacts:
                    arrival = -(-arrival // nanoseconds(BURST_S)) * nanoseconds(BURST_S)
                yield _PlannedItem(
                    stamp, arrival, functools.partial(self._packet, stamp, first, count, first - origin, lost)
                )
                lost = 0
            first += count

    def _packet(self, stamp: Stamp, first: int, count: int, index: int, lost: int) -> Iterator[Emission]:
        p = self.participant
        # the device counts samples of its own clock, which drifts; the stamp is when the sample was really
        # taken
        own = (first + np.arange(count)) / p.rate_hz
        self._samples += count
        yield Emission(
            RAW.name,
            EmgChunk(stamp, p.rate_hz, p.electrodes.names, p.samples(first, count), index, lost, own),
        )

    def _muscles(self, begin_s: float, end_s: float) -> Iterator[_PlannedItem]:
        number = int(np.ceil(begin_s * self.config.truth_hz - 1e-9))
        while (time_s := number / self.config.truth_hz) < end_s:
            stamp = self.participant.stamp(time_s)
            yield _PlannedItem(stamp, stamp, functools.partial(self._muscle, time_s))
            number += 1

    def _muscle(self, time_s: float) -> Iterator[Emission]:
        yield Emission(TRUE_MUSCLES.name, self.participant.muscles_at(time_s))

    def _windows(self, begin_s: float, end_s: float) -> Iterator[tuple[float, float, _PlannedItem]]:
        """Times to look for rare events in, each with a plan of nothing at its beginning: where none ever
        comes, others must not wait.
        """
        while begin_s < end_s:
            stamp = self.participant.stamp(begin_s)
            yield begin_s, min(begin_s + _WINDOW_S, end_s), _PlannedItem(stamp, stamp, tuple)
            begin_s += _WINDOW_S

    def _movements(self, begin_s: float, end_s: float) -> Iterator[_PlannedItem]:
        for begin, end, nothing in self._windows(begin_s, end_s):
            yield nothing
            for marker in self.participant.markers(begin, end):
                yield _PlannedItem(
                    marker.stamp, marker.stamp, functools.partial(_emit, MOVEMENT.name, marker)
                )

    def _micro(self, begin_s: float, end_s: float) -> Iterator[_PlannedItem]:
        """Micro-expressions as the skin shows them: with the stamp of the apex, told when they are over."""
        for begin, end, nothing in self._windows(begin_s, end_s):
            yield nothing
            for event in self.participant.face_events(begin, end):
                yield _PlannedItem(
                    event.stamp, event.offset, functools.partial(_emit, TRUE_EVENTS.name, event)
                )

    def _camera_streams(self, begin_s: float, end_s: float) -> list[Iterator[_PlannedItem]]:
        return [
            self._once(begin_s, lambda stamp: Emission(HEAD.name, self.participant.head.info(stamp))),
            self._pictures(begin_s, end_s),
            self._micro(begin_s, end_s),
        ]

    def _emg_streams(self, begin_s: float, end_s: float) -> list[Iterator[_PlannedItem]]:
        return [
            self._once(begin_s, lambda stamp: Emission(CHANNELS.name, self.participant.channel_info(stamp))),
            self._movements(begin_s, end_s),
            self._packets(begin_s, end_s),
            self._muscles(begin_s, end_s),
        ]


def _emit(port: str, item: Marker | FaceEvent) -> Iterator[Emission]:
    yield Emission(port, item)


class PerformerEmg(_PerformerSource):
    """The participant's amplifier: raw EMG, with the true muscle activity and movement markers beside it."""

    outputs: ClassVar[tuple[Port, ...]] = (RAW, CHANNELS, TRUE_MUSCLES, MOVEMENT)

    def setup(self) -> None:
        """Build motor units and potentials and compile, seconds."""
        self.participant.emg(self.config.start_s, self.config.start_s + 0.1)

    def streams(self, begin_s: float, end_s: float) -> list[Iterator[_PlannedItem]]:
        """Packets, channel description, true muscles, markers."""
        return self._emg_streams(begin_s, end_s)


class PerformerCamera(_PerformerSource):
    """The camera in front of the participant, with the true face beside each picture."""

    outputs: ClassVar[tuple[Port, ...]] = (IMAGE, HEAD, TRUE_FACE, TRUE_EVENTS)

    def setup(self) -> None:
        """Build the head and draw once."""
        self.participant.frame_at(self.config.start_s)

    def streams(self, begin_s: float, end_s: float) -> list[Iterator[_PlannedItem]]:
        """Pictures and true faces."""
        return self._camera_streams(begin_s, end_s)


class Performer(_PerformerSource):
    """Camera and amplifier of one participant in one source."""

    outputs: ClassVar[tuple[Port, ...]] = (
        IMAGE,
        HEAD,
        TRUE_FACE,
        TRUE_EVENTS,
        RAW,
        CHANNELS,
        TRUE_MUSCLES,
        MOVEMENT,
    )

    def setup(self) -> None:
        """Build everything, seconds."""
        self.participant.emg(self.config.start_s, self.config.start_s + 0.1)
        self.participant.frame_at(self.config.start_s)

    def branches(self) -> tuple[Callable[[], Iterator[Emission]], ...]:
        """Live, pictures are drawn beside the EMG: they take long, and packets must not wait for them."""
        if not self.live:
            return (self.produce,)
        return functools.partial(self._perform, self._camera_streams), functools.partial(
            self._perform, self._emg_streams
        )

    def streams(self, begin_s: float, end_s: float) -> list[Iterator[_PlannedItem]]:
        """All of both."""
        return [*self._camera_streams(begin_s, end_s), *self._emg_streams(begin_s, end_s)]


def simulate(
    minutes: float,
    config: PerformerConfig | None = None,
    *,
    progress: Callable[[float], None] | None = None,
    camera: bool = True,
    emg: bool = True,
) -> Iterator[Emission]:
    """A whole session as fast as it can be made: everything a recording with truth needs, in the order of its
    stamps.

    config: as for the sources; `speed` and `duration_s` are set here. progress: called with 0..1 about twice
    per simulated second. Raises ConfigError where nothing is left to simulate.
    """
    if not minutes > 0:
        raise ConfigError(f"minutes = {minutes}: a simulation must be longer than 0")
    if not (camera or emg):
        raise ConfigError("a simulation without camera and EMG would be empty")
    base = config or PerformerConfig()
    offline = base.model_copy(update={"speed": 0, "duration_s": 60.0 * minutes})
    kind = Performer if camera and emg else PerformerCamera if camera else PerformerEmg
    source = kind(offline)
    source.setup()
    begin = source.participant.stamp(offline.start_s)
    whole = nanoseconds(60.0 * minutes)
    step = NS // 2
    reported = begin - step
    try:
        for emission in source.produce():
            if progress is not None and emission.item.stamp - reported >= step:
                reported = emission.item.stamp
                progress((reported - begin) / whole)
            yield emission
        if progress is not None:
            progress(1.0)
    finally:
        source.close()
