"""The live page on a recording, on a camera and an amplifier, or beside any run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import topics
from ..animatronic.animatronic_face import open_animatronic
from ..component import Component, Emission, Health, Source
from ..emg.calibration import Calibration
from ..emg.emg_processing import EmgConfig, EmgProcessing
from ..errors import InputError
from ..hosts.local import LocalHost
from ..mapping.mapping import Mapping as FittedMapping
from ..mapping.muscle_mapping import MappingConfig, MuscleMapping
from ..micro.event_spotter import Spotter, SpotterConfig
from ..reconstruction.face_reconstruction import Reconstruction, ReconstructionConfig
from ..registry import CAMERAS, EMG_SOURCES, ESTIMATORS
from ..types import Item, Stamp
from ..viewer.controls import ArmControl, CalibrateControl, Control, RecordControl
from ..viewer.player import BagPlayer
from ..viewer.server import Viewer, status_of
from ..viewer.view_config import ViewConfig

VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm")
ACTIVITY = topics.EMG_ACTIVITY.name
RAW = topics.EMG_RAW.name
PICTURES = topics.CAMERA_IMAGE.name
VISION = topics.FACE_VISION.name
FUSED = topics.FACE_FUSED.name
RESTORED = topics.FACE_RESTORED.name
EVENTS = topics.FACE_EVENTS.name
PERFORMER_SIZE = (480, 360)
"""Drawing the participant is the most expensive part of looking at one: two thirds of what 640 x 480 take."""
RESTORED_NS = 95_000_000
"""A page shows the restored face ten times a second; restoring each picture would cost as much as reading it.
"""


@dataclass(frozen=True)
class ViewResult:
    """What a session at the page came to."""

    url: str
    shown_ms: float | None
    recordings: tuple[str, ...]


class Estimator(Component):
    """The reconstruction, with an estimator that can be changed while it runs.

    Same ports, same configuration.
    """

    config_type = ReconstructionConfig
    inputs = Reconstruction.inputs
    outputs = Reconstruction.outputs

    def __init__(self, config: ReconstructionConfig | None = None) -> None:
        self._inner = Reconstruction(config or ReconstructionConfig())
        self._subscribed: frozenset[str] = frozenset()
        self._has_pages = self._restoring = False
        self._restored: Stamp = 0
        self.tick_hz = self._inner.tick_hz

    @staticmethod
    def around(reconstruction: Reconstruction) -> Estimator:
        """One that goes on with a reconstruction that is there."""
        estimator = Estimator(reconstruction.config)
        estimator._inner = reconstruction
        return estimator

    def setup(self) -> None:
        """Load the networks."""
        self._inner.setup()

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        """A picture to the estimator of the moment."""
        restoring = self._has_pages and abs(item.stamp - self._restored) >= RESTORED_NS
        if restoring:
            self._restored = item.stamp
        if restoring != self._restoring:  # here, because a component is called from one thread
            self._restoring = restoring
            self._inner.set_subscribed(self._needed())
        return self._inner.handle(port, item)

    def set_subscribed(self, subscribed: frozenset[str]) -> None:
        """See `Component`."""
        self._subscribed = subscribed
        self._inner.set_subscribed(self._needed())

    def _needed(self) -> frozenset[str]:
        return self._subscribed | ({RESTORED} if self._restoring else frozenset())

    def set_page_count(self, pages: int) -> None:
        """Restore the face only while a page shows it, and as often as it is shown.

        From any thread; holds from the next picture on.
        """
        self._has_pages = pages > 0

    def reset(self) -> None:
        """Forget the stream."""
        self._inner.reset()

    def health(self) -> Health:
        """Of the estimator of the moment."""
        return self._inner.health()

    def close(self) -> None:
        """Release it."""
        self._inner.close()

    # ---- buttons ----

    @property
    def choices(self) -> tuple[str, ...]:
        """Names of the estimators there are."""
        return ESTIMATORS.schemes()

    def state(self) -> dict[str, Any]:
        """For the page."""
        values = self._inner.health().values
        used = {key: str(values.get(f"estimator_{key}", "")) for key in ("used", "reason")}
        return {"chosen": self._inner.config.estimator, "choices": list(self.choices), **used}

    def command(self, verb: str, values: Mapping[str, Any]) -> str:
        """`choose` (name): load the other estimator, then change over; the stream goes on meanwhile."""
        name = values.get("name")
        if verb != "choose" or name not in self.choices:
            raise InputError(f"estimator: choose one of {', '.join(self.choices)}; got {verb} {name!r}")
        if name != self._inner.config.estimator:
            other = Reconstruction(
                ReconstructionConfig.model_validate(self._inner.config.model_dump() | {"estimator": name})
            )
            other.setup()
            other.set_subscribed(self._needed())
            other.use_reference(self._inner.reference)
            self._inner = other
        return f"estimator: {name}"


def attach(
    host: LocalHost,
    *,
    config: ViewConfig | None = None,
    title: str = "",
    live: bool = True,
    controls: dict[str, Control] | None = None,
    facts: dict[str, Any] | None = None,
) -> Viewer:
    """Put the page beside a graph that is about to run (`--view`).

    Call before `host.setup`; close the viewer after the run.

    Returns the serving viewer; its `url` is what to open. Raises MissingExtra, DeviceError (port taken),
    ConfigError.
    """
    viewer = Viewer(config, title=title, live=live, controls=controls, facts=facts)
    viewer.status = lambda: status_of(host, viewer.board, live)
    host.tap(viewer.take)
    for name, component in host.components.items():
        if isinstance(component, Estimator):
            viewer.on_pages.append(component.set_page_count)
        elif isinstance(component, Reconstruction):
            host.components[name] = estimator = Estimator.around(component)
            viewer.on_pages.append(estimator.set_page_count)
    viewer.start()
    return viewer


def view(
    source: str | None = None,
    *,
    camera: str | None = None,
    emg: str | None = None,
    mapping: Path | None = None,
    calibration: Path | None = None,
    animatronic: str | None = None,
    micro: bool = False,
    out: Path | None = None,
    participant: str = "",
    config: ViewConfig | None = None,
    playing: bool = True,
    loop: bool = False,
    ready: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> ViewResult:
    """Serve the page until `stop` is set or a live source ends.

    source: a recording, a video file, or a URL that is camera and amplifier in one (`performer:7`). camera,
    emg: URLs instead of it. mapping, calibration: files of the participant. animatronic: joint map; arming is
    a button. micro: spot micro-expressions. out: folder for recordings and calibrations made from the page
    (default: `sessions` in the working directory). ready: called with the address to open. Raises EiferError.
    """
    path = Path(source).expanduser() if source is not None else None
    if path is not None and path.exists() and path.suffix.lower() not in VIDEOS:
        if camera is not None or emg is not None:
            raise InputError("give either a recording or --camera and --emg, not both")
        host, controls, clock = _recorded(path, mapping, calibration, micro, playing, loop)
        live = False
    else:
        if source is not None and path is not None:
            if path.suffix.lower() in VIDEOS:
                camera = camera or f"video:{path}"
            elif ":" in source:
                camera, emg = camera or source, emg or source
            else:
                raise InputError(f"{source}: no such recording")
        host, controls, clock = _live(
            camera, emg, mapping, calibration, animatronic, micro, out or Path("sessions"), participant
        )
        live = True
    named = path is not None and path.exists()
    title = (
        path.resolve().name
        if named and path is not None
        else source or " + ".join(part for part in (camera, emg) if part)
    )
    viewer = attach(host, config=config, title=title, live=live, controls=controls, facts=_facts(mapping))
    try:
        host.setup()
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
        if stop is not None:
            threading.Thread(target=_end, args=(stop, host), name="view stop", daemon=True).start()
        host.run_live(clock=clock)
    finally:
        viewer.close()
        host.close()
    shown = sorted(viewer.shown_ms)
    record_control = controls.get("record")
    written = tuple(record_control.written) if isinstance(record_control, RecordControl) else ()
    return ViewResult(viewer.url, shown[len(shown) // 2] if shown else None, written)


def _paced_camera(camera: str) -> Source:
    """A camera; a file plays by the clock, because a person watches.

    A simulated one is drawn as large as the page shows it.
    """
    kind = camera.partition(":")[0]
    if kind in ("video", "folder"):
        return CAMERAS.open(camera, speed=1.0)
    if kind == "performer":
        return CAMERAS.open(camera, width=PERFORMER_SIZE[0], height=PERFORMER_SIZE[1])
    return CAMERAS.open(camera)


def _end(stop: threading.Event, host: LocalHost) -> None:
    stop.wait()
    host.stop()


def _facts(mapping: Path | None) -> dict[str, Any]:
    if mapping is None:
        return {}
    fitted = FittedMapping.load(mapping)
    return {
        "lag_ms": round(1e3 * fitted.lag.lag_s, 1) if fitted.lag.grade else None,
        "lag_grade": fitted.lag.grade,
    }


def _recorded(
    path: Path, mapping: Path | None, calibration: Path | None, micro: bool, playing: bool, loop: bool
) -> tuple[LocalHost, dict[str, Control], Callable[[], Stamp]]:
    """A recording, and whatever it lacks computed from what it has."""
    player = BagPlayer(path, playing=playing, loop=loop)
    player.setup()
    has = set(player.available)
    components: dict[str, Component] = {"source": player}
    controls: dict[str, Control] = {"player": player}
    if RAW in has and ACTIVITY not in has:
        processing = EmgProcessing(EmgConfig())
        if calibration is not None:
            processing.use_calibration(Calibration.load(calibration))
        components["emg"] = processing
    if PICTURES in has and VISION not in has:
        components["reconstruction"] = controls["estimator"] = Estimator(ReconstructionConfig(micro=micro))
    if mapping is not None and FUSED not in has:
        components["mapping"] = MuscleMapping(MappingConfig(mapping=str(mapping)))
    if micro and EVENTS not in has:
        components["spotter"] = Spotter(SpotterConfig(use_emg=bool(has & {RAW, ACTIVITY})))
    return LocalHost(components), controls, player.now


def _live(
    camera: str | None,
    emg: str | None,
    mapping: Path | None,
    calibration: Path | None,
    animatronic: str | None,
    micro: bool,
    out: Path,
    participant: str,
) -> tuple[LocalHost, dict[str, Control], Callable[[], Stamp]]:
    import time

    if camera is None and emg is None:
        raise InputError("nothing to view: give a recording, --camera, --emg or performer:7")
    components: dict[str, Component] = {}
    controls: dict[str, Control] = {}
    record = RecordControl(out, {"participant": participant, "camera": camera or "", "emg": emg or ""})
    if camera is not None:
        components["camera"] = _paced_camera(camera)
        components["reconstruction"] = controls["estimator"] = Estimator(ReconstructionConfig(micro=micro))
    calibrate: CalibrateControl | None = None
    if emg is not None:
        components["amplifier"] = EMG_SOURCES.open(emg)
        components["emg"] = processing = EmgProcessing(EmgConfig())
        if calibration is not None:
            processing.use_calibration(Calibration.load(calibration))
        controls["calibrate"] = calibrate = CalibrateControl(out, processing, record=record)
    if mapping is not None:
        components["mapping"] = MuscleMapping(MappingConfig(mapping=str(mapping)))
    if micro:
        components["spotter"] = Spotter(SpotterConfig(use_emg=emg is not None))
    if animatronic is not None:
        components["animatronic"] = machine = open_animatronic(animatronic, armed=False)
        controls["arm"] = ArmControl(machine, animatronic)
    controls["record"] = record
    host = LocalHost(components)
    host.tap(record.take)
    if calibrate is not None:
        host.tap(calibrate.take, ACTIVITY)
    for component in components.values():
        if isinstance(component, Source) and not component.live:
            component.live = True  # a page is watched by a person: files play by the clock
    return host, controls, time.time_ns
