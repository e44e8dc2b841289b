"""Faces from a recording or a live source to avatars and an animatronic face."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from .. import topics
from ..animatronic.animatronic_face import Animatronic, open_animatronic
from ..avatar.avatar_output import Avatar, AvatarConfig
from ..component import Component, Source
from ..config import build
from ..errors import InputError
from ..hosts.local import LocalHost
from ..reconstruction.face_reconstruction import Reconstruction, ReconstructionConfig
from ..recording.source import BagSource, ReplayConfig
from ..registry import CAMERAS
from ..types import FaceState, Item, seconds
from .common import Progress

FACES = topics.faces()
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm")


@dataclass
class DriveResult:
    """What was sent. commands: joint targets; states: health of the outputs, in words."""

    faces: int = 0
    commands: int = 0
    seconds: float = 0.0
    states: dict[str, str] = field(default_factory=dict)


def drive(
    source: str,
    *,
    avatars: tuple[str, ...] = (),
    animatronic: str | None = None,
    arm: bool = False,
    speed: float = 1.0,
    loop: bool = False,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> DriveResult:
    """Drive outputs from `source`, a recording or a camera URL.

    avatars: addresses such as `vmc://127.0.0.1:39539`. animatronic: joint map. arm: let the animatronic move;
    it does not otherwise.
    """
    if not avatars and animatronic is None:
        raise InputError("nothing to drive: give --avatar ADDRESS, --animatronic MAP or both")
    path = Path(source).expanduser()
    components: dict[str, Component] = {}
    if path.exists() and path.suffix.lower() not in VIDEOS:
        bag = BagSource(build(ReplayConfig, {"path": str(path), "speed": speed, "loop": loop}, "replay"))
        bag.setup()
        if not set(bag.available) & set(FACES):
            has = ", ".join(bag.available)
            raise InputError(
                f"{path}: no faces in this recording; it has {has}. eifer replay {path} --out DIR makes them"
            )
        bag.live = True  # outputs run against the clock
        components["source"] = bag
    else:
        components["source"] = CAMERAS.open(source if not path.exists() else f"video:{path}")
        components["reconstruction"] = Reconstruction(ReconstructionConfig())
    outputs: dict[str, Component] = {}
    if avatars:
        outputs["avatar"] = Avatar(build(AvatarConfig, {"targets": avatars}, "avatar"))
    machine: Animatronic | None = None
    if animatronic is not None:
        machine = open_animatronic(animatronic, armed=arm)
        outputs["animatronic"] = machine
    host = LocalHost(components | outputs)
    result = DriveResult()
    first = 0

    def show(port: str, item: Item) -> None:
        nonlocal first
        if isinstance(item, FaceState) and port in FACES:  # not the truth of a simulation
            first = first or item.stamp
            result.faces += 1
            result.seconds = seconds(item.stamp - first)
            if progress is not None and result.faces % 10 == 0:
                progress(result.faces, 0, f"{result.seconds:.1f} s")
        elif port == topics.JOINT_TRAJECTORY.name:
            result.commands += 1
        if stop is not None and stop.is_set():
            host.stop()

    host.tap(show)
    host.setup()
    try:
        source_component = components["source"]
        assert isinstance(source_component, Source)
        host.run_live()
    finally:
        result.states = {name: component.health().message for name, component in outputs.items()}
        host.close()
    return result
