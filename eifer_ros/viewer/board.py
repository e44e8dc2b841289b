"""What the page shows, kept up to date by a tap: the newest item of each port, the last seconds of each
trace, and how fast things come.

The tap runs in the pipeline's threads, so `Board.take` only stores: no drawing, no encoding, no waiting.
Everything else reads.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .. import topics
from ..types import F32, NS, FaceEvent, Item, Marker, MuscleActivity, Stamp, seconds

HISTORY = 1500
"""Instants kept of each trace: 15 s at 100 Hz."""
RATE_WINDOW_S = 3.0
MARKERS = 400
EVENTS = topics.FACE_EVENTS.name


@dataclass(frozen=True)
class Rows:
    """New instants of a trace: stamps (N,) ns, envelope (N, C) V.

    epoch changes when the channels or the time line do.
    """

    epoch: int
    cursor: int
    stamps: np.ndarray[tuple[int], np.dtype[np.int64]]
    envelope: F32


class Trace:
    """The last `HISTORY` envelopes of one stream in a ring."""

    def __init__(self) -> None:
        self.muscles: tuple[str, ...] = ()
        self.scheme = ""
        self.epoch = 0
        self.count = 0
        self._stamps = np.zeros(HISTORY, np.int64)
        self._envelope = np.zeros((HISTORY, 0), np.float32)

    def add(self, item: MuscleActivity) -> None:
        """Append an instant. Other channels, or time going back, start the trace anew."""
        last = int(self._stamps[(self.count - 1) % HISTORY]) if self.count else 0
        if item.muscles != self.muscles or self.count == 0:
            self.muscles = item.muscles
            self.scheme = item.scheme
            self._envelope = np.zeros((HISTORY, len(item.muscles)), np.float32)
            self.epoch = self.epoch + 1
            self.count = 0
        elif item.stamp <= last:
            if last - item.stamp < NS // 2:
                return  # late or repeated: a trace runs forwards
            self.epoch = self.epoch + 1
            self.count = 0
        place = self.count % HISTORY
        self._stamps[place] = item.stamp
        self._envelope[place] = item.envelope
        self.count += 1

    def since(self, epoch: int, cursor: int) -> Rows:
        """Instants after `cursor` of that epoch, or all that are kept where the epoch has changed."""
        first = cursor if epoch == self.epoch else 0
        first = max(first, self.count - HISTORY, 0)
        index = np.arange(first, self.count) % HISTORY
        return Rows(self.epoch, self.count, self._stamps[index], self._envelope[index])


class Board:
    """Newest items and traces. `take` is a tap; every method may be called from any thread.

    on_change: called (from the pipeline's thread, so it must be quick) when something that moves has arrived.
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], Stamp] = time.time_ns
    ) -> None:
        self.on_change: Callable[[str], None] | None = None
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._newest: dict[str, tuple[Item, float]] = {}
        self._arrivals: dict[str, deque[float]] = {}
        self._ages: dict[str, deque[float]] = {}
        self._traces: dict[str, Trace] = {}
        self._markers: deque[Marker] = deque(maxlen=MARKERS)
        self._marked = 0
        self._events: deque[FaceEvent] = deque(maxlen=MARKERS)
        self._happened = 0

    def take(self, port: str, item: Item) -> None:
        """Remember one item."""
        now = self._monotonic()
        with self._lock:
            self._newest[port] = (item, now)
            arrivals = self._arrivals.get(port)
            if arrivals is None:
                arrivals = self._arrivals[port] = deque(maxlen=600)
                self._ages[port] = deque(maxlen=200)
            arrivals.append(now)
            self._ages[port].append(seconds(self._wall() - item.stamp))
            if isinstance(item, MuscleActivity):
                self._traces.setdefault(port, Trace()).add(item)
            elif isinstance(item, Marker):
                self._markers.append(item)
                self._marked += 1
            elif isinstance(item, FaceEvent) and port == EVENTS:
                self._events.append(item)
                self._happened += 1
        if self.on_change is not None:
            self.on_change(port)

    def newest(self, *ports: str, within_s: float | None = None) -> Item | None:
        """The newest item of the first of `ports` that has one, not older than `within_s` by arrival where
        that is given.
        """
        now = self._monotonic()
        with self._lock:
            for port in ports:
                entry = self._newest.get(port)
                if entry is not None and (within_s is None or now - entry[1] <= within_s):
                    return entry[0]
        return None

    def ports(self) -> tuple[str, ...]:
        """Ports something has come from."""
        with self._lock:
            return tuple(self._newest)

    def trace(self, port: str, epoch: int, cursor: int) -> tuple[tuple[str, ...], str, Rows] | None:
        """(muscles, scheme, new rows) of a trace, None where there is none."""
        with self._lock:
            trace = self._traces.get(port)
            return None if trace is None else (trace.muscles, trace.scheme, trace.since(epoch, cursor))

    def markers(self, after: int) -> tuple[int, list[Marker]]:
        """(how many there were, those after the first `after`)."""
        with self._lock:
            return self._marked, _fresh(self._markers, self._marked, after)

    def events(self, after: int) -> tuple[int, list[FaceEvent]]:
        """(how many micro-expressions there were, those after the first `after`)."""
        with self._lock:
            return self._happened, _fresh(self._events, self._happened, after)

    def rates(self) -> dict[str, float]:
        """Items per second of each port over the last seconds; 0 for one that fell silent."""
        now = self._monotonic()
        with self._lock:
            out = {}
            for port, arrivals in self._arrivals.items():
                recent = [moment for moment in arrivals if now - moment <= RATE_WINDOW_S]
                span = now - recent[0] if len(recent) == len(arrivals) and recent else RATE_WINDOW_S
                out[port] = (len(recent) - 1) / span if len(recent) > 1 and span > 0 else 0.0
            return out

    def age_ms(self, port: str) -> float | None:
        """Median time from acquisition to arrival here, ms: what a port is late by.

        Means something only for a live source.
        """
        with self._lock:
            ages = self._ages.get(port)
            return 1e3 * float(np.median(ages)) if ages else None

    def clear(self) -> None:
        """Forget everything: another recording, or a seek."""
        with self._lock:
            for trace in self._traces.values():
                trace.epoch = trace.epoch + 1
                trace.count = 0
            self._newest = {
                port: entry
                for port, entry in self._newest.items()
                if port in (topics.HEAD_MODEL.name, topics.EMG_CHANNELS.name)
            }
            self._arrivals.clear()
            self._ages.clear()
            self._markers.clear()
            self._events.clear()
            self._marked = 0
            self._happened = 0


_Kept = TypeVar("_Kept")


def _fresh(entries: deque[_Kept], count: int, after: int) -> list[_Kept]:
    """Those of `count` items that came after the first `after`, as far as they are kept; all where counting
    began anew.
    """
    fresh = min(count - after, len(entries)) if after <= count else len(entries)
    return list(entries)[len(entries) - fresh :] if fresh > 0 else []
