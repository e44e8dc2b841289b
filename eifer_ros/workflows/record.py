"""Recording sources as they come, and playing a recording by its stamps."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

from ..component import Component, Source
from ..config import build
from ..errors import InputError
from ..hosts.local import LocalHost
from ..recording.diagnostics import LatencyDiary
from ..recording.source import BagSource, ReplayConfig
from ..recording.writer import BagWriter
from ..registry import CAMERAS, EMG_SOURCES
from ..types import Item, seconds
from .common import Progress


def record(
    camera: str | None,
    emg: str | None,
    out: Path,
    *,
    duration_s: float | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Record sources as they come into the bag `out`. At least one of `camera` and `emg`.

    Returns what was written.
    """
    sources: dict[str, Component] = {}
    if camera is not None:
        sources["camera"] = CAMERAS.open(camera)
    if emg is not None:
        sources["emg"] = EMG_SOURCES.open(emg)
    if not sources:
        raise InputError("nothing to record: give --camera, --emg or both")
    host = LocalHost(sources)
    host.setup()
    live = any(isinstance(source, Source) and source.live for source in sources.values())
    count, first, last = 0, 0, 0

    def watch(port: str, item: Item) -> None:
        nonlocal count, first, last
        count, first, last = count + 1, first or item.stamp, max(last, item.stamp)
        if progress is not None and count % 25 == 0:
            progress(count, 0, f"{seconds(last - first):.1f} s")
        if (stop is not None and stop.is_set()) or (
            duration_s is not None and seconds(last - first) >= duration_s
        ):
            host.stop()

    host.tap(watch)
    try:
        with BagWriter(out, session={"camera": camera or "", "emg": emg or ""}, wait=not live) as bag:
            host.tap(bag.write)
            if live:
                host.tap(LatencyDiary(bag.write_message, host.latency, live=True).take)
                host.run_live()
            else:
                host.run_offline()
    finally:
        host.close()
    stats = bag.stats
    return {
        "bag": str(out),
        "seconds": round(seconds(last - first), 3),
        "written": stats.written,
        "dropped": stats.dropped,
        "rejected": stats.rejected,
        "bytes": stats.bytes,
    }


def play(
    bag: Path,
    *,
    speed: float = 1.0,
    loop: bool = False,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> dict[str, int]:
    """Play a recording by its stamps; items by port. speed: 0 as fast as possible."""
    source = BagSource(build(ReplayConfig, {"path": str(bag), "speed": speed, "loop": loop}, "replay"))
    source.setup()
    counts: Counter[str] = Counter()
    first = 0
    for emission in source.produce():
        counts[emission.port] += 1
        first = first or emission.item.stamp
        if progress is not None and counts.total() % 10 == 0:
            progress(counts.total(), 0, f"{seconds(emission.item.stamp - first):.1f} s")
        if stop is not None and stop.is_set():
            source.stop()
    return dict(counts)
