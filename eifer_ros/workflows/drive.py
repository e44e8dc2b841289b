"""Faces from a recording or a live source to avatars and an animatronic face."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import topics
from ..config import ConfigFile, build
from ..errors import InputError
from ..pipeline import VIDEO_SUFFIXES, Pipeline, Request
from ..recording.source import BagSource, ReplayConfig
from ..types import FaceState, Item, seconds
from .common import Progress


@dataclass
class DriveResult:
    """What was sent.

    Parameters
    ----------
    faces : int, optional
        Faces that outputs were driven by.
    commands : int, optional
        Joint targets.
    seconds : float, optional
        Length of the run.
    states : dict[str, str], optional
        Health of the outputs, in words.
    notes : list[str], optional
        What a user should know.
    """

    faces: int = 0
    commands: int = 0
    seconds: float = 0.0
    states: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def drive(
    source: str,
    request: Request,
    config: ConfigFile | Path | None = None,
    *,
    speed: float = 1.0,
    loop: bool = False,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> DriveResult:
    """Drive the avatars and the animatronic face of `request` from `source`.

    Parameters
    ----------
    source : str
        A recording with faces, a video file, or the URL of a camera.
    request : Request
        What to drive: `avatars`, `animatronic`, `armed`. From a camera also `emg`, `mapping`, ...
    config : ConfigFile or Path, optional
        Parameters.
    speed, loop : float, bool
        Of a recording.
    progress : callable, optional
        See `common.Progress`.
    stop : threading.Event, optional
        Set it from another thread to end.

    Returns
    -------
    DriveResult
        What was sent.

    Raises
    ------
    InputError
        There is nothing to drive, or no face in the recording.
    EiferError
        As `Pipeline.from_config` and its components.
    """
    if not request.avatars and request.animatronic is None:
        raise InputError("nothing to drive: give --avatar ADDRESS, --animatronic MAP or both")
    path = Path(source).expanduser()
    if path.exists() and path.suffix.lower() not in VIDEO_SUFFIXES:
        recording = _recording(path, speed, loop)
        pipeline = Pipeline.from_config(config, request, instances={"replay": recording})
    else:
        url = f"video:{source}" if path.exists() else source
        pipeline = Pipeline.from_config(config, replace(request, camera=url))
    host = pipeline.host
    outputs = [name for name in ("avatar", "animatronic") if name in host.components]
    result = DriveResult(notes=list(pipeline.notes))
    first = 0

    def count(port: str, item: Item) -> None:
        nonlocal first
        if isinstance(item, FaceState) and port in topics.faces():  # not the truth of a simulation
            first = first or item.stamp
            result.faces += 1
            result.seconds = seconds(item.stamp - first)
            if progress is not None and result.faces % 10 == 0:
                progress(result.faces, 0, f"{result.seconds:.1f} s")
        elif port == topics.JOINT_TRAJECTORY.name:
            result.commands += 1

    host.tap(count)
    pipeline.setup()
    try:
        pipeline.run(stop=stop)
    finally:
        result.states = {name: host.components[name].health().message for name in outputs}
        pipeline.close()
    return result


def _recording(path: Path, speed: float, loop: bool) -> BagSource:
    """A recording that holds a face to drive."""
    bag = BagSource(build(ReplayConfig, {"path": str(path), "speed": speed, "loop": loop}, "replay"))
    bag.setup()
    if topics.preferred(bag.available, truth=False) is None:
        present = ", ".join(bag.available)
        raise InputError(
            f"{path}: no faces in this recording; it has {present}. eifer replay {path} --out DIR makes them"
        )
    return bag
