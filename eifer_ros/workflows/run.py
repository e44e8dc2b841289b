"""Camera or video -> reconstruction -> bag, overlay video and summary."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..component import Component, Level, Source
from ..errors import EiferError
from ..head.model import load_head
from ..hosts.local import LocalHost
from ..micro.event_spotter import Spotter, SpotterConfig
from ..reconstruction.face_reconstruction import Reconstruction, ReconstructionConfig
from ..recording.diagnostics import LatencyDiary
from ..recording.writer import BagWriter
from ..registry import CAMERAS
from ..types import FaceEvent, FaceState, FaceStatus, Item, seconds
from ..viewer.overlay import OverlayWriter
from .common import Progress, new_folder

FACE_PORT = "face/vision"


@dataclass
class RunSummary:
    """What a run of the camera path came to.

    Times in milliseconds, residual in per cent of the inter-ocular distance.

    estimator_used: faces read by each way. events: micro-expressions seen, None where nobody looked for them.
    """

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
    estimator_used: dict[str, int] = field(default_factory=dict)
    events: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: NaN becomes null."""
        values = asdict(self)
        return {
            key: None if isinstance(value, float) and np.isnan(value) else value
            for key, value in values.items()
        }


def run_camera(
    camera: str | Source,
    out: Path,
    config: ReconstructionConfig | None = None,
    *,
    overlay: bool = True,
    duration_s: float | None = None,
    view: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> RunSummary:
    """Camera -> reconstruction -> bag, overlay video and summary in `out`; with `config.micro`
    micro-expressions are spotted as well.

    camera: a URL (`video:FILE`, `webcam:0`, `folder:DIR`, `realsense`) or a source. duration_s: end a live
    camera after so long. view: serve the live page beside the run; called with its address. stop: set it from
    another thread to end early; what was recorded is kept. Errors: EiferError; the bag is closed properly
    first.
    """
    source = CAMERAS.open(camera) if isinstance(camera, str) else camera
    component = Reconstruction(config or ReconstructionConfig())
    components: dict[str, Component] = {"camera": source, "reconstruction": component}
    spotter = (
        Spotter(SpotterConfig(head=component.config.head_model, use_emg=False))
        if component.config.micro
        else None
    )
    if spotter is not None:
        components["spotter"] = spotter
    host = LocalHost(components)
    name = camera if isinstance(camera, str) else type(camera).__name__
    summary = RunSummary(name, component.config.estimator, component.config.head_model)
    summary.events = 0 if spotter is not None else None
    head = load_head(component.config.head_model)
    page = None
    if view is not None:
        from .view import attach  # the page needs an extra, and most runs do without it

        page = attach(host, title=name, live=source.live)
    # a camera that cannot be opened must not leave an empty folder behind
    try:
        host.setup()
    except EiferError:
        if page is not None:
            page.close()
        raise
    if page is not None and view is not None:
        view(page.url)
    new_folder(out)
    residuals: list[float] = []
    stamps: list[int] = []

    def watch(port: str, item: Item) -> None:
        if stop is not None and stop.is_set():
            host.stop()
        if port == "camera/image_raw":
            summary.frames += 1
            stamps.append(item.stamp)
        elif isinstance(item, FaceEvent):
            summary.events = (summary.events or 0) + 1
        elif isinstance(item, FaceState):
            if item.status == FaceStatus.LOST:
                summary.lost += 1
            else:
                summary.tracked += 1
                health = component.health().values
                residuals.append(float(health["residual_pct_iod"]))
                used = str(health["estimator_used"])
                summary.estimator_used[used] = summary.estimator_used.get(used, 0) + 1
            if progress is not None:
                progress(
                    summary.tracked + summary.lost,
                    getattr(source, "frame_count", 0),
                    f"{summary.tracked} tracked",
                )
            if duration_s is not None and seconds(stamps[-1] - stamps[0]) >= duration_s:
                host.stop()

    host.tap(watch)
    pictures = None
    start = time.perf_counter()
    try:
        session = {"camera": summary.camera, "head_model": summary.head_model, "estimator": summary.estimator}
        with BagWriter(out / "bag", session=session, wait=not source.live) as bag:
            host.tap(bag.write)
            host.tap(LatencyDiary(bag.write_message, host.latency, live=source.live).take)
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
        if page is not None:
            page.close()
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
        summary.notes.append(
            "no face was found in any picture: is one in sight, upright and at least a tenth of the picture wide?"
        )
    if spotter is not None and spotter.health().level >= Level.WARN:
        summary.notes.append(f"micro-expressions: {spotter.health().message}")
    (out / "summary.json").write_text(json.dumps(summary.as_dict(), indent=2) + "\n", encoding="utf-8")
    return summary
