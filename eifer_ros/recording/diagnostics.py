"""How late each stream was, written into the recording itself: a recording has acquisition stamps only, and
cannot tell by them.

Once a second a diagnostic_msgs/DiagnosticArray on `/diagnostics`, as ROS tools know it: one status `latency
PORT` for each stream, with `p50_ms`, `p99_ms`, `since` and `ms`, the latency of each item of that second.
since `acquisition`: until the item left its component, by the wall clock (live sources). since `entering`:
from the moment its picture or chunk entered the graph (files, simulation).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .. import topics
from ..types import F64, NS, Item, Stamp
from ..wire import messages

TOPIC = "/diagnostics"
TYPE = "diagnostic_msgs/msg/DiagnosticArray"
EVERY_NS = NS
MOST = 1000
"""Latencies of one stream that a message holds; more a second than that are thinned out."""
_PREFIX = "latency "
_NO_STREAM = frozenset(topic.name for topic in topics.items() if topic.latched or topic.item == "Marker")
"""What comes once, or when somebody marks it: its latency says nothing."""


class Timed(Protocol):
    """What a host knows of one port."""

    @property
    def durations(self) -> Any:
        """Durations in s, the newest last."""
        ...


@dataclass(frozen=True)
class Latency:
    """Latencies of one stream, ms, and what they count from: `acquisition` or `entering`."""

    since: str
    ms: F64


class LatencyDiary:
    """A tap beside the recorder's. write: `BagWriter.write_message`. durations: `LocalHost.latency`.

    live: stamps are the wall clock's.

    Ports may be tapped from several threads; each port from one.
    """

    def __init__(
        self,
        write: Callable[[str, str, Any, Stamp], None],
        durations: Mapping[str, Timed],
        *,
        live: bool,
        wall: Callable[[], Stamp] = time.time_ns,
    ) -> None:
        self._write = write
        self._durations = durations
        self._live = live
        self._wall = wall
        self._collected: dict[str, list[float]] = {}
        self._due: Stamp | None = None

    def take(self, port: str, item: Item) -> None:
        """Note how late an item is; once a second, write it down."""
        if port in _NO_STREAM:
            return
        if self._live:
            self._collected.setdefault(port, []).append((self._wall() - item.stamp) / 1e6)
        elif (timing := self._durations.get(port)) is not None and timing.durations:
            self._collected.setdefault(port, []).append(1e3 * timing.durations[-1])
        if self._due is None or abs(item.stamp - self._due) > 10 * EVERY_NS:
            self._due = item.stamp + EVERY_NS
        elif item.stamp >= self._due:
            self._due += EVERY_NS
            self.flush(item.stamp)

    def flush(self, stamp: Stamp) -> None:
        """Write what has been noted."""
        collected = self._collected
        self._collected = {}
        if collected:
            self._write(
                TOPIC,
                TYPE,
                message(stamp, {port: Latency(self.since, np.array(ms)) for port, ms in collected.items()}),
                stamp,
            )

    @property
    def since(self) -> str:
        """What the latencies count from."""
        return "acquisition" if self._live else "entering"


def message(stamp: Stamp, latencies_ms: Mapping[str, Latency]) -> Any:
    """The message of one second."""
    make = messages.ROSBAGS.make
    time_of = make("builtin_interfaces/msg/Time", sec=stamp // NS, nanosec=stamp % NS)
    statuses = []
    for port, latency in sorted(latencies_ms.items()):
        ms = latency.ms[:: -(-len(latency.ms) // MOST)]
        p50, p99 = np.percentile(latency.ms, (50, 99))
        pairs = {
            "p50_ms": f"{p50:.3f}",
            "p99_ms": f"{p99:.3f}",
            "count": str(len(latency.ms)),
            "since": latency.since,
            "ms": " ".join(f"{value:.2f}" for value in ms),
        }
        values = [make("diagnostic_msgs/msg/KeyValue", key=key, value=value) for key, value in pairs.items()]
        statuses.append(
            make(
                "diagnostic_msgs/msg/DiagnosticStatus",
                level=0,
                name=_PREFIX + port,
                message=f"{p50:.1f} ms, 99 % below {p99:.1f} ms",
                hardware_id="eifer",
                values=values,
            )
        )
    return make(
        "diagnostic_msgs/msg/DiagnosticArray",
        header=make("std_msgs/msg/Header", stamp=time_of, frame_id=""),
        status=statuses,
    )


def latencies(arrays: Iterable[Any]) -> dict[str, Latency]:
    """All latencies by port of the DiagnosticArrays of a recording; what else they hold, or cannot be read as
    numbers, is passed over.
    """
    collected: dict[str, list[F64]] = {}
    since: dict[str, str] = {}
    for array in arrays:
        for status in array.status:
            values = {pair.key: pair.value for pair in status.values}
            if not status.name.startswith(_PREFIX) or "ms" not in values:
                continue
            try:
                ms = np.array(values["ms"].split(), np.float64)
            except ValueError:
                continue
            port = status.name.removeprefix(_PREFIX)
            collected.setdefault(port, []).append(ms[np.isfinite(ms)])
            since[port] = values.get("since", "")
    return {port: Latency(since[port], np.concatenate(parts)) for port, parts in sorted(collected.items())}
