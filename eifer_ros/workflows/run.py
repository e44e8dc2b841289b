"""Any combination of camera, EMG, mapping and outputs, in one process: a bag, an overlay video, a page, an
avatar, a robot, and a summary.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import graph, topics
from ..component import Level, Source
from ..config import ConfigFile
from ..errors import InputError
from ..head.model import load_head
from ..micro.event_spotter import Spotter
from ..pipeline import Pipeline, Request
from ..reconstruction.face_reconstruction import Reconstruction
from ..recording.diagnostics import LatencyDiary
from ..recording.recorder import Recorder
from ..types import FaceEvent, FaceState, FaceStatus, Item
from ..viewer.overlay import OverlayWriter
from .common import Progress, new_folder

FACE_PORT = topics.FACE_VISION.name


@dataclass
class RunSummary:
    """What a run came to.

    Parameters
    ----------
    camera : str
        URL of the camera, empty for none.
    estimator : str
        What the config asked for.
    head_model : str
        Id of the head model.
    emg : str, optional
        URL of the EMG source, empty for none.
    frames : int, optional
        Pictures taken.
    tracked, lost : int, optional
        Pictures with and without a face.
    dropped : int, optional
        Pictures that a full queue let go.
    residual_pct_iod : float, optional
        Mean distance of landmarks and fit, per cent of the inter-ocular distance.
    fps : float, optional
        Pictures per second.
    frame_to_face_p50_ms, frame_to_face_p99_ms : float, optional
        From picture to face, median and 99th percentile, ms.
    duration_s : float, optional
        Length of the run, s.
    files : dict[str, str], optional
        What was written, by kind.
    notes : list[str], optional
        What a user should know.
    estimator_used : dict[str, int], optional
        Faces read by each way.
    events : int, optional
        Micro-expressions seen, None where nobody looked for them.
    items : dict[str, int], optional
        How many left each port.
    emg_lost : int, optional
        EMG samples that never came, None without EMG.
    outputs : dict[str, str], optional
        How avatar and robot were doing at the end, in words.
    page : str, optional
        Address of the live page, empty for none.
    """

    camera: str
    estimator: str
    head_model: str
    emg: str = ""
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
    items: dict[str, int] = field(default_factory=dict)
    emg_lost: int | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    page: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: NaN becomes null.

        Returns
        -------
        dict[str, object]
            Every field.
        """
        values = asdict(self)
        return {
            key: None if isinstance(value, float) and np.isnan(value) else value
            for key, value in values.items()
        }


def run(
    request: Request,
    out: Path | None = None,
    config: ConfigFile | Path | None = None,
    *,
    record: Path | None = None,
    overlay: bool = True,
    duration_s: float | None = None,
    view: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> RunSummary:
    """Run what `request` and the config file combine, until the sources end, `stop` is set or time is up.

    Parameters
    ----------
    request : Request
        What to combine.
    out : Path, optional
        Folder for a bag, the overlay video and a summary; new or empty.
    config : ConfigFile or Path, optional
        Parameters.
    record : Path, optional
        Bag to record into, where `out` is not given or the bag should lie elsewhere.
    overlay : bool
        Write the video with the head over the face, where there are pictures and `out`.
    duration_s : float, optional
        End after so many seconds: on the clock where something is live, of the recording otherwise.
    view : callable, optional
        Serve the live page; called with its address.
    progress : callable, optional
        See `common.Progress`.
    stop : threading.Event, optional
        Set it from another thread to end early; what was recorded is kept.

    Returns
    -------
    RunSummary
        What came of it.

    Raises
    ------
    EiferError
        The bag is closed properly first.
    """
    pipeline = Pipeline.from_config(config, request)
    host = pipeline.host
    outputs = [name for name in graph.HARDWARE_OUTPUTS if name in host.components]
    if out is None and record is None and view is None and not outputs:
        raise InputError("nobody would see it: give --out, --record, --view, --avatar or --animatronic")
    watch = _Watch(pipeline, request, progress)
    host.tap(watch.take)
    with ExitStack() as stack:
        stack.callback(pipeline.close)
        if view is not None:
            from ..viewer.live_page import attach  # the page needs an extra, and most runs do without it
            from ..viewer.view_config import ViewConfig

            page = attach(
                host, config=pipeline.file.config("viewer", ViewConfig), title=watch.title, live=pipeline.live
            )
            stack.callback(page.close)
            watch.summary.page = page.url
        # a device that cannot be opened must not leave an empty folder behind
        pipeline.setup()
        if view is not None:
            view(watch.summary.page)
        if out is not None:
            new_folder(out)
        bag_path = record or (out / "bag" if out is not None else None)
        if bag_path is not None:
            _record(pipeline, bag_path, watch, stack)
        if out is not None and overlay and "reconstruction" in host.components:
            _overlay(pipeline, out / "overlay.mp4", watch, stack)
        start = time.perf_counter()
        pipeline.run(duration_s=duration_s, stop=stop)
        watch.summary.duration_s = time.perf_counter() - start
        watch.summary.outputs = {name: host.components[name].health().message for name in outputs}
        emg = host.components.get("emg")
        if emg is not None:
            watch.summary.emg_lost = int(emg.health().values.get("lost_samples", 0))
    # the overlay and the bag are closed by now: writing them out counts
    watch.finish(time.perf_counter() - start)
    if out is not None:
        watch.summary.files["summary"] = str(out / "summary.json")
        text = json.dumps(watch.summary.as_dict(), indent=2) + "\n"
        (out / "summary.json").write_text(text, encoding="utf-8")
    return watch.summary


def _record(pipeline: Pipeline, path: Path, watch: _Watch, stack: ExitStack) -> None:
    summary = watch.summary
    session = {"camera": summary.camera, "head_model": summary.head_model, "estimator": summary.estimator}
    if summary.emg:
        session["emg"] = summary.emg
    recorder = Recorder.at(path, pipeline.file, session, wait=not pipeline.live)
    stack.callback(recorder.close)
    pipeline.host.tap(recorder.take)
    diary = LatencyDiary(recorder.writer.write_message, pipeline.host.latency, live=pipeline.live)
    pipeline.host.tap(diary.take)
    summary.files["bag"] = str(path)


def _overlay(pipeline: Pipeline, path: Path, watch: _Watch, stack: ExitStack) -> None:
    rates = [getattr(source, "rate_hz", 0.0) for source in pipeline.sources]
    rate_hz = next((rate for rate in rates if rate), 30.0)
    head = load_head(watch.summary.head_model)
    pictures = OverlayWriter(path, head, FACE_PORT, rate_hz, complete=not pipeline.live)
    stack.callback(pictures.close)
    pipeline.host.tap(pictures.take)
    watch.summary.files["overlay"] = str(path)


class _Watch:
    """Counts what a run makes, and tells how far it is."""

    def __init__(self, pipeline: Pipeline, request: Request, progress: Progress | None) -> None:
        self._pipeline = pipeline
        self._progress = progress
        self._residuals: list[float] = []
        self._items: Counter[str] = Counter()
        self._total = max((getattr(source, "frame_count", 0) for source in pipeline.sources), default=0)
        reconstruction = pipeline.get(Reconstruction)
        urls = [_url(source) for source in pipeline.sources]
        camera = request.camera or next(iter(urls), "")
        self.title = " + ".join(urls)
        self.summary = RunSummary(
            camera,
            reconstruction.config.estimator if reconstruction is not None else "none",
            reconstruction.config.head_model if reconstruction is not None else "",
            emg=request.emg or "",
            notes=list(pipeline.notes),
        )
        self._spotter = pipeline.get(Spotter)
        self.summary.events = 0 if self._spotter is not None else None

    def take(self, port: str, item: Item) -> None:
        """One item that left a component. Called from the threads of the components."""
        summary = self.summary
        self._items[port] += 1
        if port == topics.CAMERA_IMAGE.name:
            summary.frames += 1
        elif isinstance(item, FaceEvent):
            summary.events = (summary.events or 0) + 1
        elif isinstance(item, FaceState) and port == FACE_PORT:
            self._count(item)
        if self._progress is None:
            return
        if port == FACE_PORT:
            done = summary.tracked + summary.lost
            self._progress(done, getattr(self._camera(), "frame_count", 0), f"{summary.tracked} tracked")
        elif "reconstruction" not in self._pipeline.host.components and self._items[port] % 25 == 0:
            self._progress(self._items[port], 0, topics.TOPICS[port].label if port in topics.TOPICS else port)

    def _camera(self) -> Source | None:
        camera = self._pipeline.host.components.get("camera")
        return camera if isinstance(camera, Source) else None

    def _count(self, state: FaceState) -> None:
        if state.status == FaceStatus.LOST:
            self.summary.lost += 1
            return
        self.summary.tracked += 1
        health = self._pipeline.host.components["reconstruction"].health().values
        self._residuals.append(float(health["residual_pct_iod"]))
        method = str(health["estimator_used"])
        self.summary.estimator_used[method] = self.summary.estimator_used.get(method, 0) + 1

    def finish(self, elapsed_s: float) -> None:
        """Work out the figures."""
        summary = self.summary
        host = self._pipeline.host
        summary.items = dict(sorted(self._items.items()))
        summary.fps = summary.frames / elapsed_s if elapsed_s > 0 and summary.frames else float("nan")
        summary.residual_pct_iod = float(np.mean(self._residuals)) if self._residuals else float("nan")
        latency = host.latency.get(FACE_PORT)
        if latency is not None:
            summary.frame_to_face_p50_ms = 1e3 * latency.percentile(50)
            summary.frame_to_face_p99_ms = 1e3 * latency.percentile(99)
        if "reconstruction" in host.timing:
            summary.dropped = host.timing["reconstruction"].dropped
            if summary.frames and not summary.tracked:
                summary.notes.append(
                    "no face was found in any picture: is one in sight, upright and at least a tenth of the "
                    "picture wide?"
                )
        if self._spotter is not None and self._spotter.health().level >= Level.WARN:
            summary.notes.append(f"micro-expressions: {self._spotter.health().message}")


def _url(source: Source) -> str:
    return str(getattr(getattr(source, "config", None), "url", type(source).__name__))
