"""Whole jobs, built from components: what the command line runs. No printing here; progress goes to a callback."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .camera.open import open_camera
from .component import Component, Source
from .config import build
from .emg.sources.open import open_emg
from .errors import InputError
from .head.model import load_head
from .hosts.local import LocalHost
from .reconstruction.component import Reconstruction, ReconstructionConfig
from .recording.source import BagSource, ReplayConfig
from .recording.writer import BagWriter
from .types import FaceState, FaceStatus, Item, seconds
from .viewer.overlay import OverlayWriter

FACE_PORT = "face/vision"
Progress = Callable[[int, int, str], None]
"""Called with (done, total or 0, what): total 0 where the end is not known."""


@dataclass
class RunSummary:
    """What a run of the camera path came to. Times in milliseconds, residual in per cent of the inter-ocular distance."""

    camera: str
    estimator: str
    head_model: str
    frames: int = 0
    tracked: int = 0
    lost: int = 0
    dropped: int = 0
    residual_pct_iod: float = float("nan")
    fps: float = float("nan")
    frame_to_face_p50_ms: float = float("nan")
    frame_to_face_p99_ms: float = float("nan")
    duration_s: float = 0.0
    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: NaN becomes null."""
        values = asdict(self)
        return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in values.items()}


def new_folder(path: Path) -> Path:
    """A folder for results. One that already holds something is refused: nothing recorded is ever overwritten."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: exists and is not empty; give another --out (recordings are never overwritten)")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be made ({error.strerror})") from None
    return path


def run_camera(
    camera: str | Source,
    out: Path,
    config: ReconstructionConfig | None = None,
    *,
    overlay: bool = True,
    duration_s: float | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> RunSummary:
    """Camera -> reconstruction -> bag, overlay video and summary in `out`.

    camera: a URL (`video:FILE`, `webcam:0`, `folder:DIR`, `realsense`) or a source. duration_s: end a live camera after so long.
    stop: set it from another thread to end early; what was recorded is kept. Errors: EiferError; the bag is closed properly first.
    """
    source = open_pictures(camera) if isinstance(camera, str) else camera
    component = Reconstruction(config or ReconstructionConfig())
    host = LocalHost({"camera": source, "reconstruction": component})
    name = camera if isinstance(camera, str) else type(camera).__name__
    summary = RunSummary(name, component.config.estimator, component.config.head_model)
    head = load_head(component.config.head_model)
    # a camera that cannot be opened must not leave an empty folder behind
    host.setup()
    new_folder(out)
    residuals: list[float] = []
    stamps: list[int] = []

    def watch(port: str, item: Item) -> None:
        if stop is not None and stop.is_set():
            host.stop()
        if port == "camera/image_raw":
            summary.frames += 1
            stamps.append(item.stamp)
        elif isinstance(item, FaceState):
            if item.status == FaceStatus.LOST:
                summary.lost += 1
            else:
                summary.tracked += 1
                residuals.append(float(component.health().values["residual_pct_iod"]))
            if progress is not None:
                progress(summary.tracked + summary.lost, getattr(source, "frame_count", 0), f"{summary.tracked} tracked")
            if duration_s is not None and seconds(stamps[-1] - stamps[0]) >= duration_s:
                host.stop()

    host.tap(watch)
    pictures = None
    start = time.perf_counter()
    try:
        session = {"camera": summary.camera, "head_model": summary.head_model, "estimator": summary.estimator}
        with BagWriter(out / "bag", session=session, wait=not source.live) as bag:
            host.tap(bag.write)
            if overlay:
                rate = getattr(source, "rate_hz", 0.0) or 30.0
                pictures = OverlayWriter(out / "overlay.mp4", head, FACE_PORT, rate, complete=not source.live)
                host.tap(pictures.take)
            if source.live:
                host.run_live(duration_s=duration_s)
            else:
                host.run_offline()
            summary.duration_s = time.perf_counter() - start
    finally:
        host.close()
        if pictures is not None:
            pictures.close()
    elapsed = time.perf_counter() - start
    summary.fps = summary.frames / elapsed if elapsed > 0 else float("nan")
    summary.residual_pct_iod = float(np.mean(residuals)) if residuals else float("nan")
    latency = host.latency.get(FACE_PORT)
    if latency is not None:
        summary.frame_to_face_p50_ms = 1e3 * latency.percentile(50)
        summary.frame_to_face_p99_ms = 1e3 * latency.percentile(99)
    summary.dropped = host.timing["reconstruction"].dropped
    summary.files = {"bag": str(out / "bag"), "summary": str(out / "summary.json")}
    if overlay and pictures is not None:
        summary.files["overlay"] = str(out / "overlay.mp4")
    if summary.frames and not summary.tracked:
        summary.notes.append("no face was found in any picture: is one in sight, upright and at least a tenth of the picture wide?")
    (out / "summary.json").write_text(json.dumps(summary.as_dict(), indent=2) + "\n", encoding="utf-8")
    return summary


def open_pictures(url: str) -> Source:
    """The camera that `url` names; `bag:PATH` replays the pictures of a recording."""
    if url.startswith("bag:"):
        return BagSource(build(ReplayConfig, {"path": url.removeprefix("bag:"), "topics": ["camera/image_raw"]}, "replay"))
    return open_camera(url)


def record(
    camera: str | None, emg: str | None, out: Path, *, duration_s: float | None = None, progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Record sources as they come into the bag `out`. At least one of `camera` and `emg`. Returns what was written."""
    sources: dict[str, Component] = {}
    if camera is not None:
        sources["camera"] = open_pictures(camera)
    if emg is not None:
        sources["emg"] = open_emg(emg)
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
        if (stop is not None and stop.is_set()) or (duration_s is not None and seconds(last - first) >= duration_s):
            host.stop()

    host.tap(watch)
    try:
        with BagWriter(out, session={"camera": camera or "", "emg": emg or ""}, wait=not live) as bag:
            host.tap(bag.write)
            if live:
                host.run_live()
            else:
                host.run_offline()
    finally:
        host.close()
    stats = bag.stats
    return {
        "bag": str(out), "seconds": round(seconds(last - first), 3), "written": stats.written, "dropped": stats.dropped,
        "rejected": stats.rejected, "bytes": stats.bytes,
    }


def play(
    bag: Path, *, speed: float = 1.0, loop: bool = False, progress: Progress | None = None, stop: threading.Event | None = None
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
