"""Recording sources as they come, and playing a recording by its stamps."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

from ..config import ConfigFile, build
from ..errors import InputError
from ..pipeline import Pipeline, Request
from ..recording.diagnostics import LatencyDiary
from ..recording.recorder import Recorder
from ..recording.source import BagSource, ReplayConfig
from ..types import Item, seconds
from .common import Progress


def record(
    camera: str | None,
    emg: str | None,
    out: Path,
    config: ConfigFile | Path | None = None,
    *,
    duration_s: float | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Record sources as they come into a bag. At least one of camera and EMG.

    Parameters
    ----------
    camera : str or None
        URL of the camera; None for none.
    emg : str or None
        URL of the EMG source; None for none.
    out : Path
        The bag; must not exist.
    config : ConfigFile or Path, optional
        Parameters.
    duration_s : float, optional
        Seconds; None until `stop` or the end of the sources.
    progress : Progress, optional
        See `common.Progress`.
    stop : threading.Event, optional
        Set it from another thread to end; what was recorded is kept.

    Returns
    -------
    dict[str, object]
        What was written.

    Raises
    ------
    InputError
        Neither camera nor EMG.
    """
    if camera is None and emg is None:
        raise InputError("nothing to record: give --camera, --emg or both")
    request = Request(camera=camera, emg=emg, reconstruct=False, process=False)
    pipeline = Pipeline.from_config(config, request)
    host = pipeline.host
    pipeline.setup()
    count = 0
    first = 0
    last = 0

    def watch(port: str, item: Item) -> None:
        nonlocal count, first, last
        count += 1
        first = first or item.stamp
        last = max(last, item.stamp)
        if progress is not None and count % 25 == 0:
            progress(count, 0, f"{seconds(last - first):.1f} s")

    host.tap(watch)
    try:
        session = {"camera": camera or "", "emg": emg or ""}
        recorder = Recorder.at(out, pipeline.file, session, wait=not pipeline.live)
        try:
            host.tap(recorder.take)
            if pipeline.live:
                host.tap(LatencyDiary(recorder.writer.write_message, host.latency, live=True).take)
            pipeline.run(duration_s=duration_s, stop=stop)
        finally:
            recorder.close()
    finally:
        pipeline.close()
    stats = recorder.writer.stats
    return {
        "bag": str(out),
        "seconds": round(seconds(last - first), 3),
        "written": stats.written,
        "dropped": stats.dropped,
        "rejected": stats.rejected,
        "bytes": stats.bytes,
        "notes": pipeline.notes,
    }


def play(
    bag: Path,
    *,
    speed: float = 1.0,
    loop: bool = False,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> dict[str, int]:
    """Play a recording by its stamps.

    Parameters
    ----------
    bag : Path
        Folder or .mcap file.
    speed : float, optional
        1 real time, 2 twice as fast, 0 as fast as possible.
    loop : bool, optional
        Start again at the end.
    progress : Progress, optional
        See `common.Progress`.
    stop : threading.Event, optional
        Set it from another thread to end.

    Returns
    -------
    dict[str, int]
        Items by port.
    """
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
