"""What is in a recording: topics, rates, gaps, lost samples."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..types import I64, NS, Stamp
from ..wire import messages
from .reader import Bag
from .streams import Role

_GAP = 3.0
"""A silence of this many usual intervals counts as a gap."""
_EMG = "eifer_msgs/msg/EmgChunk"


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """One recorded topic.

    port: what it is to eifer, empty for a foreign topic. first, last: stamps in ns, 0 where there is no
    message. rate_hz: from the median interval, NaN below three messages. gaps: silences of more than three
    usual intervals, and the longest of them in s.
    """

    topic: str
    type_name: str
    port: str
    count: int
    first: Stamp
    last: Stamp
    rate_hz: float
    gaps: int
    longest_gap_s: float


@dataclass(frozen=True, slots=True)
class EmgInfo:
    """The EMG of a recording.

    samples: recorded. lost: samples the source said were missing. not_recorded: samples that the running
    counter proves missing beyond those. rate_hz: nominal; measured_hz: from first to last stamp.
    """

    topic: str
    channels: tuple[str, ...]
    samples: int
    lost: int
    not_recorded: int
    rate_hz: float
    measured_hz: float


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """Summary of a recording.

    start, end: stamps in ns; session: the session record, {} where there is none.
    """

    path: str
    bytes: int
    start: Stamp
    end: Stamp
    messages: int
    topics: tuple[TopicInfo, ...]
    emg: tuple[EmgInfo, ...]
    session: dict[str, Any] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last message."""
        return (self.end - self.start) / NS

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        plain: dict[str, Any] = _plain({**asdict(self), "duration_s": self.duration_s})
        return plain


def info(path: str | Path) -> RecordingInfo:
    """Read the whole recording once and sum it up; also of one that is not eifer's.

    Raises RecordingError for a file that is missing, cut off or damaged.
    """
    path = Path(path).expanduser()
    stamps: dict[tuple[str, str], list[Stamp]] = defaultdict(list)
    emg: dict[str, _EmgCount] = {}
    with Bag(path, accept_foreign=True) as bag:
        ports = {
            (c.topic, c.msgtype): s.port if s.role in (Role.ITEM, Role.PICTURE) else ""
            for c, s in bag.streams
        }
        for connection in bag.connections:
            stamps[(connection.topic, connection.msgtype)]
        own_topics = set(ports)
        for message in bag.messages(bag.connections):
            key = (message.connection.topic, message.connection.msgtype)
            # only a type of eifer is known to begin with a header
            stamps[key].append(message.stamp if key in own_topics else message.log_time)
            if message.connection.msgtype == _EMG:
                emg.setdefault(message.connection.topic, _EmgCount()).add(
                    messages.deserialise(message.data, _EMG), message.stamp
                )
        session = bag.session
    topics = tuple(
        _topic(*key, ports.get(key, ""), np.sort(np.array(values, np.int64)))
        for key, values in sorted(stamps.items())
    )
    filled = [topic for topic in topics if topic.count]
    size = (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if path.is_dir()
        else path.stat().st_size
    )
    return RecordingInfo(
        str(path),
        size,
        min((t.first for t in filled), default=0),
        max((t.last for t in filled), default=0),
        sum(t.count for t in topics),
        topics,
        tuple(count.summary(topic) for topic, count in sorted(emg.items())),
        session,
    )


def _topic(topic: str, type_name: str, port: str, stamps: I64) -> TopicInfo:
    if len(stamps) == 0:
        return TopicInfo(topic, type_name, port, 0, 0, 0, float("nan"), 0, 0.0)
    steps = np.diff(stamps) / NS
    usual = float(np.median(steps)) if len(steps) > 1 else float("nan")
    long = steps[steps > _GAP * usual] if usual > 0 else steps[:0]
    return TopicInfo(
        topic,
        type_name,
        port,
        len(stamps),
        int(stamps[0]),
        int(stamps[-1]),
        1.0 / usual if usual > 0 else float("nan"),
        len(long),
        float(long.max()) if len(long) else 0.0,
    )


class _EmgCount:
    """Running count of one EMG topic."""

    def __init__(self) -> None:
        self.channels: tuple[str, ...] = ()
        self.samples = 0
        self.lost = 0
        self.not_recorded = 0
        self.rate_hz = float("nan")
        self.expected: int | None = None
        self.first: Stamp = 0
        self.last: Stamp = 0
        self.first_index = 0
        self.last_index = 0

    def add(self, chunk: Any, stamp: Stamp) -> None:
        count = int(chunk.frames)
        if self.expected is None:
            self.channels = tuple(chunk.channels)
            self.rate_hz = float(chunk.rate_hz)
            self.first = stamp
            self.first_index = int(chunk.first_index)
        else:
            # a counter that went back is a source that started again, not a loss
            self.not_recorded += max(int(chunk.first_index) - self.expected - int(chunk.lost), 0)
        self.samples += count
        self.lost += int(chunk.lost)
        self.expected = int(chunk.first_index) + count
        self.last = stamp
        self.last_index = int(chunk.first_index)

    def summary(self, topic: str) -> EmgInfo:
        span_s = (self.last - self.first) / NS
        measured = (self.last_index - self.first_index) / span_s if span_s > 0 else float("nan")
        return EmgInfo(
            topic, self.channels, self.samples, self.lost, self.not_recorded, self.rate_hz, measured
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and np.isnan(value) else value
