"""The whole pipeline on a simulated participant in one process: calibrate, fit, run, compare with the truth,
leave a bag and a page.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import topics
from ..component import Component, Emission, Port
from ..config import ConfigFile
from ..errors import InputError
from ..evaluation.metrics import displacement_basis, vertex_error_mm
from ..head.model import HeadModel, load_head
from ..hosts.local import LocalHost
from ..mapping.scores import scores
from ..pipeline import Pipeline, open_config
from ..reconstruction.face_reconstruction import Reconstruction, ReconstructionConfig
from ..recording.writer import BagWriter
from ..types import F32, FaceState, FaceStatus, Frame, Item, seconds
from .common import new_folder
from .demo_page import write_page
from .demo_result import DemoResult, Log
from .fit import FitResult, fit_session
from .session import Session

StageCallback = Callable[[str, float], None]
"""Called with the stage's name and the share of it that is done."""

BLIND_S = (12.0, 17.0)
"""When the camera of the live part is covered."""
SCHEME = "fridlund"


@dataclass(frozen=True)
class DemoSettings:
    """Who performs, how long each part is, and whether electrodes are seen.

    Parameters
    ----------
    seed : int, optional
        Who performs.
    calibration_s : float, optional
        Length of the calibration, s.
    live_s : float, optional
        Length of the live part, s.
    sensors : bool, optional
        Electrodes and cables on the face.
    size : tuple[int, int], optional
        Width and height of a picture, px.
    fps : float, optional
        Pictures per second.
    rate_hz : float, optional
        EMG sampling rate.
    """

    seed: int = 7
    calibration_s: float = 62.0
    live_s: float = 30.0
    sensors: bool = True
    size: tuple[int, int] = (640, 480)
    fps: float = 30.0
    rate_hz: float = 2048.0


class Cover(Component):
    """Covers the camera for a while: what a hand or a headset does. Pictures pass unchanged otherwise.

    Parameters
    ----------
    start_s, end_s : float
        From the first picture.
    """

    inputs = (Port(topics.CAMERA_IMAGE.name, Frame),)
    outputs = (Port("camera/seen", Frame),)

    def __init__(self, start_s: float, end_s: float) -> None:
        self._span = start_s, end_s
        self._first: int | None = None

    def handle(self, port: str, item: Item) -> list[Emission]:
        """A black picture while covered."""
        assert isinstance(item, Frame)
        self._first = item.stamp if self._first is None else self._first
        covered = self._span[0] <= seconds(item.stamp - self._first) < self._span[1]
        return [Emission("camera/seen", replace(item, image=np.zeros_like(item.image)) if covered else item)]


class _Seeing(Reconstruction):
    """The reconstruction, listening to what is left of the picture behind the cover."""

    inputs = (Port("camera/seen", Frame),)

    def handle(self, port: str, item: Item) -> Any:
        return super().handle(topics.CAMERA_IMAGE.name, item)


def run_demo(
    out: Path,
    settings: DemoSettings | None = None,
    config: ConfigFile | Path | None = None,
    *,
    progress: StageCallback | None = None,
    stop: threading.Event | None = None,
) -> DemoResult:
    """Run everything on a simulated participant.

    Parameters
    ----------
    out : Path
        Folder; new or empty.
    settings : DemoSettings, optional
        None for the defaults.
    config : ConfigFile or Path, optional
        Parameters of the components.
    progress : StageCallback, optional
        Called with the stage and the share of it that is done.
    stop : threading.Event, optional
        Set it from another thread to end.

    Returns
    -------
    DemoResult
        Figures and files.
    """
    settings = settings or DemoSettings()
    report_progress: StageCallback = progress or (lambda stage, share: None)
    file = config if isinstance(config, ConfigFile) else open_config(config)
    new_folder(out)
    result = DemoResult()
    begin = time.perf_counter()
    fitted = _calibrate(out, settings, file, report_progress, stop, result)
    log, host, bag = _perform(out, settings, file, fitted, report_progress, stop)
    result.values["seconds"] = time.perf_counter() - begin
    _score(result, fitted, log, host)
    _bag_figures(result, bag)
    result.files |= {
        "calibration recording": str(out / "calibration"),
        "recording": str(out / "recording"),
        "mapping": str(out / "mapping.npz"),
        "summary": str(out / "summary.json"),
    }
    report_progress("report", 0.0)
    write_page(out / "report.html", result, log, load_head(fitted.mapping.head_model), BLIND_S)
    result.files["report"] = str(out / "report.html")
    (out / "summary.json").write_text(
        json.dumps({"values": result.values, "notes": result.notes}, indent=2) + "\n", encoding="utf-8"
    )
    report_progress("report", 1.0)
    return result


def _performer(settings: DemoSettings, session: int, program: str, duration_s: float) -> dict[str, Any]:
    """Parameters of the simulated participant."""
    return {
        "seed": settings.seed,
        "session": session,
        "program": program,
        "speed": 0,
        "duration_s": duration_s,
        "sensors": settings.sensors,
        "width": settings.size[0],
        "height": settings.size[1],
        "fps": settings.fps,
        "scheme": SCHEME,
        "rate_hz": settings.rate_hz,
    }


def _watch(
    host: LocalHost,
    stage: str,
    duration_s: float,
    report_progress: StageCallback,
    stop: threading.Event | None,
) -> None:
    first: list[int] = []

    def report_share(port: str, item: Item) -> None:
        first[:] = first or [item.stamp]
        report_progress(stage, min(1.0, seconds(item.stamp - first[0]) / duration_s))
        if stop is not None and stop.is_set():
            host.stop()

    host.tap(report_share, topics.CAMERA_IMAGE.name)


def _calibrate(
    out: Path,
    settings: DemoSettings,
    file: ConfigFile,
    report_progress: StageCallback,
    stop: threading.Event | None,
    result: DemoResult,
) -> FitResult:
    """The 11 movements, recorded, calibrated and fitted to."""
    pipeline = Pipeline.from_config(
        file,
        components=("performer", "emg", "reconstruction"),
        values={
            "performer": _performer(settings, 0, "calibration", settings.calibration_s),
            "emg": {"scheme": SCHEME},
        },
    )
    host = pipeline.host
    log = Log()
    host.tap(log.take)
    pipeline.setup()
    _watch(host, "calibration: 11 movements, camera and sEMG", settings.calibration_s, report_progress, stop)
    with BagWriter(
        out / "calibration",
        session={"participant": f"simulated {settings.seed}", "part": "calibration"},
        wait=True,
    ) as bag:
        host.tap(bag.write)
        pipeline.run()
    pipeline.close()
    if stop is not None and stop.is_set():
        raise InputError(
            f"the demo was interrupted during the calibration; {out / 'calibration'} holds what was recorded"
        )
    report_progress("fit: muscles to face and back", 0.0)
    session = Session(
        out / "calibration",
        log.muscles[topics.EMG_ACTIVITY.name],
        log.faces[topics.FACE_VISION.name],
        log.markers,
        topics.FACE_VISION.name,
    )
    start = time.perf_counter()
    session = session.calibrated(participant=f"simulated {settings.seed}").referenced()
    assert session.calibration is not None
    session.calibration.save(out / "calibration.yaml")
    fitted = fit_session(session)
    result.values["fit_s"] = time.perf_counter() - start
    fitted.mapping.save(out / "mapping.npz")
    report_progress("fit: muscles to face and back", 1.0)
    return fitted


def _perform(
    out: Path,
    settings: DemoSettings,
    file: ConfigFile,
    fitted: FitResult,
    report_progress: StageCallback,
    stop: threading.Event | None,
) -> tuple[Log, LocalHost, BagWriter]:
    """The live part: another session of the same person, everything running, the camera covered for a while."""
    reconstruction = _Seeing(file.config("reconstruction", ReconstructionConfig))
    reconstruction.use_reference(fitted.session.reference)
    pipeline = Pipeline.from_config(
        file,
        components=("performer", "emg", "reconstruction", "mapping"),
        values={
            "performer": _performer(settings, 1, "emotions", settings.live_s),
            "emg": {"scheme": SCHEME, "calibration": str(out / "calibration.yaml")},
            "mapping": {"mapping": str(out / "mapping.npz")},
        },
        instances={"cover": Cover(*BLIND_S), "reconstruction": reconstruction},
    )
    host = pipeline.host
    log = Log()
    host.tap(log.take)
    pipeline.setup()
    _watch(host, "live: reconstruction, mapping, fusion", settings.live_s, report_progress, stop)
    with BagWriter(
        out / "recording", session={"participant": f"simulated {settings.seed}", "part": "live"}, wait=True
    ) as bag:
        host.tap(lambda port, item: None if port == "camera/seen" else bag.write(port, item))
        pipeline.run()
    pipeline.close()
    return log, host, bag


def aligned(
    states: list[FaceState], truth: list[FaceState]
) -> tuple[F32, F32, np.ndarray[Any, np.dtype[np.float64]]]:
    """Estimated and true expression at the stamps of the estimates; lost ones left out.

    Parameters
    ----------
    states : list[FaceState]
        Estimated faces.
    truth : list[FaceState]
        True faces.

    Returns
    -------
    tuple[ndarray of float32, ndarray of float32, ndarray of float64]
        (T, E) estimated and (T, E) true expression, and (T,) seconds since the first truth.
    """
    tracked = [state for state in states if state.status != FaceStatus.LOST]
    base = truth[0].stamp
    truth_s = np.array([seconds(state.stamp - base) for state in truth])
    values = np.stack([state.expression for state in truth])
    times = np.array([seconds(state.stamp - base) for state in tracked])
    inside = (times >= truth_s[0]) & (times <= truth_s[-1])
    true = np.stack(
        [np.interp(times, truth_s, values[:, column]) for column in range(values.shape[1])], axis=1
    )
    estimated = np.stack([state.expression for state in tracked])
    return estimated[inside], true[inside].astype(np.float32), times[inside]


def _score(result: DemoResult, fitted: FitResult, log: Log, host: LocalHost) -> None:
    head: HeadModel = load_head(fitted.mapping.head_model)
    basis = displacement_basis(head)
    truth = log.faces[topics.TRUE_FACE.name]
    values = result.values
    rest = np.median(np.stack([state.expression for state in truth]), axis=0)
    for port, name in (
        (topics.FACE_VISION.name, "vision"),
        (topics.FACE_EMG.name, "emg"),
        (topics.FACE_FUSED.name, "fused"),
    ):
        states = log.faces.get(port, [])
        if not any(state.status != FaceStatus.LOST for state in states):
            result.notes.append(f"{port}: nothing came out")
            continue
        estimated, true, times = aligned(states, truth)
        blind = (times >= BLIND_S[0]) & (times < BLIND_S[1])
        error = vertex_error_mm(basis, estimated[::3], true[::3])
        r, r2 = scores(true, estimated)
        moving = true.std(axis=0) > 0.03
        values[f"{name}_vertex_mm"] = float(error[~blind[::3]].mean())
        if blind.any():
            values[f"{name}_vertex_blind_mm"] = float(error[blind[::3]].mean())
        values[f"{name}_r"] = float(np.nanmedian(r[moving]))
        values[f"{name}_r2"] = float(np.nanmedian(r2[moving]))
        values[f"{name}_hz"] = (len(states) - 1) / max(seconds(states[-1].stamp - states[0].stamp), 1e-9)
        if port == topics.FACE_VISION.name:
            values["vision_tracked"] = sum(state.status != FaceStatus.LOST for state in states)
            values["vision_frames"] = len(states)
    true = np.stack([state.expression for state in truth])[::3]
    values["resting_face_vertex_mm"] = float(
        vertex_error_mm(basis, np.tile(rest, (len(true), 1)), true).mean()
    )
    values["cv_r"] = fitted.mapping.statistics["emg2exp"]["r"]
    values["cv_r2"] = fitted.mapping.statistics["emg2exp"]["r2"]
    values["lag_ms"] = 1e3 * fitted.mapping.lag.lag_s
    values["lag_grade"] = fitted.mapping.lag.grade
    for port in (topics.FACE_VISION.name, topics.FACE_EMG.name):
        if port in host.latency:
            values[f"{port.split('/')[1]}_latency_p50_ms"] = 1e3 * host.latency[port].percentile(50)
            values[f"{port.split('/')[1]}_latency_p99_ms"] = 1e3 * host.latency[port].percentile(99)
    health = host.health()
    values["emg_lost"] = int(health["emg"].values.get("lost_samples", 0))
    seeing = health["reconstruction"].values
    result.notes.append(f"faces were read by {seeing['estimator_used']}: {seeing['estimator_reason']}")


def _bag_figures(result: DemoResult, bag: BagWriter) -> None:
    stats = bag.stats
    result.values["recorded_items"] = sum(stats.written.values())
    result.values["recording_dropped"] = sum(stats.dropped.values()) + stats.rejected
    result.values["recording_mb"] = stats.bytes / 1e6
