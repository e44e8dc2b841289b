"""A recording, read once and thinned, for the report: ten minutes must not take ten minutes.

Only what is shown is decoded: envelopes at 25 Hz (they are low-passed at 6 Hz), faces at 15 Hz, one EMG chunk
per second, and pictures only around the moments that are shown, which the recording's index finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import topics
from ..emg.emg_processing import EmgConfig, EmgProcessing
from ..emg.protocol import REST, Span, spans
from ..errors import InputError, WireError
from ..head.model import load_head
from ..mapping import lag as lagging
from ..mapping.series import assemble
from ..recording import diagnostics
from ..recording.diagnostics import Latency
from ..recording.reader import Bag
from ..recording.streams import Role
from ..recording.sync import CAMERA_CLOCK, Sync, items_synced
from ..types import (
    F32,
    F64,
    I64,
    NS,
    EmgChunk,
    FaceEvent,
    FaceOrigin,
    FaceState,
    FaceStatus,
    Frame,
    Item,
    Marker,
    MuscleActivity,
    Stamp,
)
from ..wire import messages
from ..wire.conversions import from_wire

Progress = Callable[[int, int, str], None]
ACTIVITY = topics.EMG_ACTIVITY.name
ESTIMATED = topics.MUSCLES_ESTIMATED.name
RAW = topics.EMG_RAW.name
CAMERA = topics.CAMERA_IMAGE.name
RESTORED = topics.FACE_RESTORED.name
EVENTS = topics.FACE_EVENTS.name
TRUE_EVENTS = topics.TRUE_EVENTS.name
FACES = topics.faces(truth=True)
CHART_S = 0.0399
"""Muscle activity is charted this often."""
CURVE_S = 0.0599
"""Curves of the face, and what is estimated from it."""
GLANCE_S = 0.99
"""What is only sampled: raw EMG and the faces made at its rate."""


def _thinned_s(topic: topics.Topic) -> float | None:
    """Of a stream that the report reads, so often one item is taken; None for one that it does not read."""
    if topic.name == ACTIVITY:
        return CHART_S
    if topic.item in ("Marker", "FaceEvent"):
        return 0.0
    if topic.name == ESTIMATED or topic.prefer:
        return GLANCE_S if topic.clock is topics.Clock.AMPLIFIER else CURVE_S
    return GLANCE_S if topic.name == RAW else None


NEAR_NS = 120_000_000


@dataclass
class Topic:
    """Stamps of one topic and how late each was recorded (s; all 0 where the recorder logs acquisition
    stamps).
    """

    stamps: I64
    late: F64

    @property
    def rate_hz(self) -> float:
        """From the median step."""
        steps = np.diff(self.stamps)
        return float(NS / np.median(steps)) if len(steps) > 1 and np.median(steps) > 0 else float("nan")

    @property
    def gaps(self) -> F64:
        """Silences of more than three usual steps, s."""
        steps = np.diff(self.stamps) / NS
        return np.asarray(steps[steps > 3 * np.median(steps)]) if len(steps) > 2 else np.zeros(0)


@dataclass
class Muscles:
    """A thinned stream of muscle activity: times (T,) s since the start, envelope (T, M) V, activation (T,
    M), quality (T, M).
    """

    scheme: str
    muscles: tuple[str, ...]
    times: F64
    envelope: F32
    activation: F32
    quality: F32


@dataclass
class Moment:
    """Something to show pictures of: a movement and its peak.

    index: row of `Muscles` at the peak, -1 where there is no EMG.
    """

    label: str
    start_s: float
    end_s: float
    peak_s: float
    index: int = -1
    camera: Frame | None = None
    restored: Frame | None = None
    face: FaceState | None = None
    emg_face: FaceState | None = None


@dataclass
class SessionData:
    """Everything a report shows."""

    path: Path
    session: dict[str, Any]
    start: Stamp
    duration_s: float
    size_bytes: int
    topics: dict[str, Topic] = field(default_factory=dict)
    measured: Muscles | None = None
    estimated: Muscles | None = None
    faces: dict[str, list[FaceState]] = field(default_factory=dict)
    markers: list[Marker] = field(default_factory=list)
    events: dict[str, list[FaceEvent]] = field(default_factory=dict)
    """Micro-expressions by port: found, and true where the recording knows them."""
    chunks: list[tuple[Stamp, int, float, int]] = field(default_factory=list)
    """Of one EMG chunk per second: stamp, first index, rate, samples lost before it."""
    moments: list[Moment] = field(default_factory=list)
    latencies: dict[str, Latency] = field(default_factory=dict)
    """By port, as the run wrote them down."""
    clocks: Sync | None = None
    """What `eifer sync` found; the faces here are corrected by it."""
    lag: lagging.Lag | None = None
    notes: list[str] = field(default_factory=list)

    def seconds(self, stamp: Stamp) -> float:
        """Seconds since the start."""
        return (stamp - self.start) / NS


def read_session(path: Path, progress: Progress | None = None) -> SessionData:
    """Read the recording at `path`.

    Raises RecordingError, and InputError where nothing in it can be reported on.
    """
    report_progress = progress or (lambda done, total, words: None)
    with Bag(path) as bag:
        start, end = bag.span
        size = (
            sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
            if path.is_dir()
            else path.stat().st_size
        )
        data = SessionData(path, bag.session, start, (end - start) / NS, size, clocks=Sync.load(path))
        _scan(bag, data, report_progress)
        data.latencies = diagnostics.latencies(_diagnostics(bag))
        if (
            data.measured is None
            and data.estimated is None
            and not any(data.faces.values())
            and not any(data.events.values())
        ):
            raise InputError(
                f"{path}: neither EMG nor faces in this recording; eifer replay {path} --out DIR makes faces of pictures"
            )
        report_progress(70, 100, "movements")
        _find_moments(data)
        _fetch_pictures(bag, data, report_progress)
    report_progress(90, 100, "synchrony")
    _synchronise(data)
    return data


def _diagnostics(bag: Bag) -> Iterator[Any]:
    connections = [connection for connection in bag.foreign if connection.msgtype == diagnostics.TYPE]
    for message in bag.messages(connections) if connections else ():
        try:
            yield messages.deserialise(message.data, message.connection.msgtype)
        except WireError:
            continue  # a report does without the one that is damaged


def _scan(bag: Bag, data: SessionData, report_progress: Progress) -> None:
    streams = [(c, s) for c, s in bag.streams if s.role in (Role.ITEM, Role.PICTURE)]
    ports = {(c.topic, c.msgtype): (s.port, s.role) for c, s in streams}
    has = {stream.port for _, stream in streams}
    make = EmgProcessing(EmgConfig()) if RAW in has and ACTIVITY not in has else None
    if make is not None:
        make.setup()
    stamps: dict[str, list[int]] = {}
    late: dict[str, list[float]] = {}
    due: dict[str, int] = {}
    rows: dict[str, list[MuscleActivity]] = {ACTIVITY: [], ESTIMATED: []}
    total = max(data.duration_s, 1e-3)
    for count, message in enumerate(bag.messages([c for c, _ in streams])):
        port, role = ports[(message.connection.topic, message.connection.msgtype)]
        stamps.setdefault(port, []).append(message.stamp)
        late.setdefault(port, []).append((message.log_time - message.stamp) / NS)
        if count % 2000 == 0:
            report_progress(round(65 * min(data.seconds(message.stamp) / total, 1.0)), 100, "reading")
        if role is Role.PICTURE or (
            message.stamp < due.get(port, 0) and not (port == RAW and make is not None)
        ):
            continue
        topic = topics.TOPICS.get(port)
        period_s = None if topic is None else _thinned_s(topic)
        if period_s is None:
            continue
        due[port] = message.stamp + round(period_s * NS)
        try:
            item = from_wire(
                messages.deserialise(message.data, message.connection.msgtype), message.connection.msgtype
            )
        except WireError as error:
            data.notes.append(f"{port} at {data.seconds(message.stamp):.1f} s left out: {error}")
            continue
        _sort_in(data, port, item, rows, make)
    data.topics = {
        port: Topic(np.sort(np.array(stamps[port], np.int64)), np.array(late[port]))
        for port in sorted(stamps)
    }
    data.measured, data.estimated = _stack(rows[ACTIVITY], data.start), _stack(rows[ESTIMATED], data.start)
    data.markers.sort(key=lambda marker: marker.stamp)
    for events in data.events.values():
        events.sort(key=lambda event: event.stamp)


def _sort_in(
    data: SessionData,
    port: str,
    item: Item,
    rows: dict[str, list[MuscleActivity]],
    make: EmgProcessing | None,
) -> None:
    if isinstance(item, MuscleActivity):
        rows[port].append(item)
    elif isinstance(item, FaceState):
        if data.clocks is not None and port in CAMERA_CLOCK:
            item = replace(item, stamp=data.clocks.correct(item.stamp))
        data.faces.setdefault(port, []).append(item)
    elif isinstance(item, Marker) and (
        port == topics.MARKERS.name
        or not any(m.phase != "note" for m in data.markers)
        or port == topics.TRUE_MOVEMENT.name
    ):
        data.markers.append(item)
    elif isinstance(item, FaceEvent):
        if data.clocks is not None and item.origin == FaceOrigin.VISION:
            correct = data.clocks.correct
            item = replace(
                item, stamp=correct(item.stamp), onset=correct(item.onset), offset=correct(item.offset)
            )
        data.events.setdefault(port, []).append(item)
    elif isinstance(item, EmgChunk):
        if not data.chunks or item.stamp - data.chunks[-1][0] >= NS:
            data.chunks.append((item.stamp, item.first_index, item.rate_hz, item.lost))
        if make is not None:
            activities = [e.item for e in make.handle(RAW, item) if isinstance(e.item, MuscleActivity)]
            rows[ACTIVITY] += activities[::3]


def _stack(rows: list[MuscleActivity], start: Stamp) -> Muscles | None:
    if not rows:
        return None
    rows = [row for row in rows if row.muscles == rows[-1].muscles]
    times = np.array([(row.stamp - start) / NS for row in rows])
    order = np.argsort(times, kind="stable")
    return Muscles(
        rows[-1].scheme,
        rows[-1].muscles,
        times[order],
        np.stack([row.envelope for row in rows])[order],
        np.stack([row.activation for row in rows])[order],
        np.stack([row.quality for row in rows])[order],
    )


def strength(muscles: Muscles) -> F64:
    """(T, M) envelope above rest as a share of each channel's 99th percentile: comparable between channels,
    calibrated or not.
    """
    envelope = np.nan_to_num(np.asarray(muscles.envelope, np.float64))
    rest = np.percentile(envelope, 10, axis=0)
    # a channel that never left the noise is not stretched to full scale
    full = np.maximum(np.percentile(envelope, 99, axis=0) - rest, 15e-6)
    return np.asarray(np.clip((envelope - rest) / full, 0.0, 1.3))


def _find_moments(data: SessionData) -> None:
    movements: list[Span] = [
        span
        for span in spans(data.markers)
        if span.movement != REST and not span.movement.startswith("rejected")
    ]
    level = strength(data.measured).mean(axis=1) if data.measured is not None else None
    times = data.measured.times if data.measured is not None else None
    if level is None or times is None:
        port = next((p for p in (topics.FACE_VISION.name, *FACES) if data.faces.get(p)), None)
        if port is not None:
            tracked = [state for state in data.faces[port] if state.status != FaceStatus.LOST]
            times = np.array([data.seconds(state.stamp) for state in tracked])
            level = np.array([float(np.abs(state.expression).sum()) for state in tracked])
    if times is None or level is None or not len(times):
        return
    if movements:
        windows = [(span.movement, data.seconds(span.start), data.seconds(span.end)) for span in movements]
    else:
        data.notes.append("no movement is marked in this recording; the strongest moments are shown instead")
        windows = _strongest(times, level)
    for label, begin, end in windows[:40]:
        inside = np.flatnonzero((times >= begin) & (times <= end + 0.3))
        if len(inside):
            best = int(inside[np.argmax(level[inside])])
            data.moments.append(
                Moment(label, begin, end, float(times[best]), best if data.measured is not None else -1)
            )


def _strongest(
    times: F64, level: F64, count: int = 8, apart_s: float = 4.0
) -> list[tuple[str, float, float]]:
    peaks: list[float] = []
    for index in np.argsort(level)[::-1]:
        if all(abs(times[index] - other) > apart_s for other in peaks):
            peaks.append(float(times[index]))
        if len(peaks) == count:
            break
    return [(f"at {int(t // 60)}:{t % 60:04.1f}", t - 0.5, t + 0.5) for t in sorted(peaks)]


def _fetch_pictures(bag: Bag, data: SessionData, report_progress: Progress) -> None:
    ports = [port for port in (CAMERA, RESTORED, *FACES) if port in data.topics]
    for number, moment in enumerate(data.moments):
        report_progress(70 + round(20 * number / len(data.moments)), 100, "pictures")
        at = data.start + round(moment.peak_s * NS)
        nearest: dict[str, Item] = {}
        for stamp, port, item in items_synced(bag, data.clocks, topics=ports, start=at - NEAR_NS):
            if stamp >= at + NEAR_NS:
                break
            if isinstance(item, FaceState) and item.status == FaceStatus.LOST:
                continue
            if port not in nearest or abs(stamp - at) < abs(nearest[port].stamp - at):
                nearest[port] = item
        camera = nearest.get(CAMERA)
        restored = nearest.get(RESTORED)
        moment.camera = camera if isinstance(camera, Frame) else None
        moment.restored = restored if isinstance(restored, Frame) else None
        face = next((nearest[p] for p in FACES if p in nearest and p != topics.FACE_EMG.name), None)
        moment.face = face if isinstance(face, FaceState) else None
        emg = nearest.get(topics.FACE_EMG.name)
        moment.emg_face = emg if isinstance(emg, FaceState) else None


def _synchronise(data: SessionData) -> None:
    port = next(
        (p for p in (topics.FACE_VISION.name, topics.TRUE_FACE.name) if len(data.faces.get(p, ())) > 20), None
    )
    muscles = data.measured
    if port is None or muscles is None or len(muscles.times) < 50:
        data.notes.append("muscles and face cannot be compared in time: one of them is not in this recording")
        return
    level = strength(muscles).astype(np.float32)
    unknown = np.full(len(muscles.muscles), np.nan, np.float32)
    rows = [
        MuscleActivity(data.start + round(float(t) * NS), muscles.scheme, muscles.muscles, unknown, a, q)
        for t, a, q in zip(muscles.times, level, muscles.quality, strict=True)
    ]
    try:
        head = load_head(data.faces[port][0].head_model)
        data.lag = lagging.estimate(assemble(rows, data.faces[port], head.expression_names), 0.038)
    except InputError as error:
        data.notes.append(f"lag between muscles and skin: {error}")


def sample_clock(data: SessionData) -> tuple[F64, F64, float, float] | None:
    """(times s, residual ms, rate Hz, drift ppm) of the amplifier's sample counter against the recording's
    clock; None below 5 s.
    """
    if len(data.chunks) < 6:
        return None
    stamps = np.array([data.seconds(chunk[0]) for chunk in data.chunks])
    index = np.array([chunk[1] for chunk in data.chunks], np.float64)
    if (np.diff(index) <= 0).any():
        return None  # the source started again; one line does not describe it
    slope, offset = np.polyfit(index, stamps, 1)
    residual = 1e3 * (stamps - (slope * index + offset))
    nominal = data.chunks[0][2]
    return stamps, residual, float(1 / slope), float((1 / slope / nominal - 1) * 1e6)


def agreement(data: SessionData) -> list[tuple[str, float, float]]:
    """Per muscle (name, r, lag s) of the estimated envelope against the measured one; lag > 0: the estimate
    is late.
    """
    measured = data.measured
    estimated = data.estimated
    if measured is None or estimated is None or len(measured.times) < 50 or len(estimated.times) < 50:
        return []
    step = 0.03
    grid = np.arange(
        max(measured.times[0], estimated.times[0]), min(measured.times[-1], estimated.times[-1]), step
    )
    if len(grid) < 60:
        return []
    out = []
    reach = 13
    for name in measured.muscles:
        if name not in estimated.muscles:
            continue
        a = np.interp(grid, measured.times, np.nan_to_num(measured.envelope[:, measured.muscles.index(name)]))
        b = np.interp(
            grid, estimated.times, np.nan_to_num(estimated.envelope[:, estimated.muscles.index(name)])
        )
        if a.std() < 1e-7 or b.std() < 1e-9:
            out.append((name, float("nan"), float("nan")))
            continue
        best = -2.0
        at = 0
        for shift in range(-reach, reach + 1):
            left, right = (
                (a[: len(a) - shift], b[shift:]) if shift >= 0 else (a[-shift:], b[: len(b) + shift])
            )
            r = float(np.corrcoef(left, right)[0, 1])
            if r > best:
                best = r
                at = shift
        out.append((name, float(np.corrcoef(a, b)[0, 1]), at * step))
    return out
