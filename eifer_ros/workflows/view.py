"""The live page on a recording, on a camera and an amplifier, or beside any run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import graph, topics
from ..animatronic.animatronic_face import Animatronic
from ..config import ConfigFile
from ..emg.emg_processing import EmgProcessing
from ..errors import InputError
from ..mapping.mapping import Mapping
from ..pipeline import VIDEO_SUFFIXES, Pipeline, PipelineConfig, Request, open_config
from ..types import Stamp
from ..viewer.controls import ArmControl, CalibrateControl, Control, RecordControl
from ..viewer.live_page import attach
from ..viewer.player import BagPlayer
from ..viewer.view_config import ViewConfig

ACTIVITY = topics.EMG_ACTIVITY.name
RAW = topics.EMG_RAW.name
PICTURES = topics.CAMERA_IMAGE.name
VISION = topics.FACE_VISION.name
FUSED = topics.FACE_FUSED.name
EVENTS = topics.FACE_EVENTS.name
PERFORMER_SIZE = (480, 360)
"""Drawing the participant is the most expensive part of looking at one: two thirds of what 640 x 480 take."""


@dataclass(frozen=True)
class ViewResult:
    """What a session at the page came to.

    Parameters
    ----------
    url : str
        Address of the page.
    shown_ms : float or None
        Median age of what was shown, ms; None where nothing was.
    recordings : tuple[str, ...]
        Made from the page.
    notes : tuple[str, ...], optional
        What a user should know.
    """

    url: str
    shown_ms: float | None
    recordings: tuple[str, ...]
    notes: tuple[str, ...] = ()


def view(
    source: str | None = None,
    request: Request | None = None,
    config: ConfigFile | Path | None = None,
    *,
    page: ViewConfig | None = None,
    out: Path | None = None,
    participant: str = "",
    playing: bool = True,
    loop: bool = False,
    ready: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> ViewResult:
    """Serve the page until `stop` is set or a live source ends.

    Parameters
    ----------
    source : str, optional
        A recording, a video file, or a URL that is camera and EMG source in one (`performer:7`).
    request : Request, optional
        Camera and EMG source where they are two, files of the participant, outputs. Arming is a button.
    config : ConfigFile or Path, optional
        Parameters.
    page : ViewConfig, optional
        Where to serve; else the section `viewer` of the config file.
    out : Path, optional
        Folder for recordings and calibrations made from the page; `sessions` in the working directory.
    participant : str
        Kept in what is recorded.
    playing, loop : bool
        Of a recording.
    ready : callable, optional
        Called with the address to open.
    stop : threading.Event, optional
        Set it from another thread to end.

    Returns
    -------
    ViewResult
        What came of it.

    Raises
    ------
    EiferError
        Nothing to look at; a device, file or port that cannot be opened.
    """
    request = request or Request()
    file = config if isinstance(config, ConfigFile) else open_config(config)
    path = Path(source).expanduser() if source is not None else None
    recording = (
        path if path is not None and path.exists() and path.suffix.lower() not in VIDEO_SUFFIXES else None
    )
    if recording is not None:
        if request.camera is not None or request.emg is not None:
            raise InputError("give either a recording or --camera and --emg, not both")
        pipeline, controls, clock = _recorded(recording, request, file, playing, loop)
    else:
        request = _with_source(request, source, path)
        pipeline, controls, clock = _live(request, file, out or Path("sessions"), participant)
    host = pipeline.host
    viewer = attach(
        host,
        config=page or file.config("viewer", ViewConfig),
        title=_title(source, path, request),
        live=recording is None,
        controls=controls,
        facts=_facts(request.mapping),
    )
    try:
        pipeline.setup()
        player = controls.get("player")
        if isinstance(player, BagPlayer):
            player.on_seek = viewer.board.clear
            for marker in player.markers:
                viewer.facts.setdefault("markers", []).append(
                    {"s": (marker.stamp - player.start) / 1e9, "label": marker.label, "phase": marker.phase}
                )
        record = controls.get("record")
        if isinstance(record, RecordControl):
            record.emit = viewer.take
        if ready is not None:
            ready(viewer.url)
        pipeline.host.run_live(clock=clock, stop=stop)
    finally:
        viewer.close()
        pipeline.close()
    shown = sorted(viewer.shown_ms)
    written = tuple(record.written) if isinstance(record, RecordControl) else ()
    return ViewResult(viewer.url, shown[len(shown) // 2] if shown else None, written, tuple(pipeline.notes))


def _with_source(request: Request, source: str | None, path: Path | None) -> Request:
    """The request with what the one argument says."""
    if source is None or path is None:
        return request
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return replace(request, camera=request.camera or f"video:{path}")
    if ":" not in source:
        raise InputError(f"{source}: no such recording")
    return replace(request, camera=request.camera or source, emg=request.emg or source)


def _title(source: str | None, path: Path | None, request: Request) -> str:
    if path is not None and path.exists():
        return path.resolve().name
    return source or " + ".join(url for url in (request.camera, request.emg) if url)


def _facts(mapping: Path | None) -> dict[str, Any]:
    if mapping is None:
        return {}
    fitted = Mapping.load(mapping)
    return {
        "lag_ms": round(1e3 * fitted.lag.lag_s, 1) if fitted.lag.grade else None,
        "lag_grade": fitted.lag.grade,
    }


def _recorded(
    path: Path, request: Request, file: ConfigFile, playing: bool, loop: bool
) -> tuple[Pipeline, dict[str, Control], Callable[[], Stamp]]:
    """A recording, and whatever it lacks computed from what it has."""
    player = BagPlayer(path, playing=playing, loop=loop)
    player.setup()
    present = set(player.available)
    micro = bool(request.micro)
    names = graph.chain(
        camera=PICTURES in present and VISION not in present,
        emg=RAW in present and ACTIVITY not in present,
        mapping=request.mapping is not None and FUSED not in present,
        micro=micro and EVENTS not in present,
    )
    values = request.values()
    values["spotter"]["use_emg"] = bool(present & {RAW, ACTIVITY})
    pipeline = Pipeline.from_config(file, names, values, instances={"replay": player})
    return pipeline, {"player": player}, player.now


def _live(
    request: Request, file: ConfigFile, out: Path, participant: str
) -> tuple[Pipeline, dict[str, Control], Callable[[], Stamp]]:
    if (
        request.camera is None
        and request.emg is None
        and not file.config("pipeline", PipelineConfig).components
    ):
        raise InputError("nothing to view: give a recording, --camera, --emg or performer:7")
    # drawn as large as the page shows it
    size = dict(zip(("width", "height"), PERFORMER_SIZE, strict=True))
    drawn = request.camera is not None and request.camera.startswith("performer")
    pipeline = Pipeline.from_config(file, request, {"camera": size} if drawn else None)
    pipeline.run_by_clock()
    session = {"participant": participant, "camera": request.camera or "", "emg": request.emg or ""}
    record = RecordControl(out, session)
    controls: dict[str, Control] = {}
    processing = pipeline.get(EmgProcessing)
    if processing is not None:
        controls["calibrate"] = calibrate = CalibrateControl(out, processing, record=record)
        pipeline.host.tap(calibrate.take, ACTIVITY)
    machine = pipeline.get(Animatronic)
    if machine is not None:
        controls["arm"] = ArmControl(machine, machine.config.joint_map)
    controls["record"] = record
    pipeline.host.tap(record.take)
    return pipeline, controls, time.time_ns
