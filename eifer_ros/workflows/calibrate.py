"""Calibration: guided through the movements with a live amplifier, or after the fact from a recording."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ..config import ConfigFile
from ..emg.calibration import Calibration
from ..emg.calibration_session import CalibrationSession, Prompt
from ..emg.emg_processing import EmgProcessing
from ..errors import DeviceError, InputError
from ..pipeline import Pipeline, Request
from ..recording.writer import BagWriter
from ..types import Item, Marker, MuscleActivity
from .common import Progress, new_folder
from .session import load_session

Show = Callable[[Prompt], None]
FIRST_EMG_S = 10.0
"""So long the guide waits for the first envelope."""
TURN_S = 0.05


def calibrate_recording(
    path: Path, out: Path, config: ConfigFile | None = None, progress: Progress | None = None
) -> Calibration:
    """A calibration from a recording with markers.

    Parameters
    ----------
    path : Path
        The recording.
    out : Path
        The calibration file; must not exist.
    config : ConfigFile, optional
        Section `emg` says how raw EMG becomes activity; None for the defaults.
    progress : Progress, optional
        See `common.Progress`.

    Returns
    -------
    Calibration
        What was written.

    Raises
    ------
    InputError
        The file exists, or nothing usable remains.
    """
    _require_new(out)
    session = load_session(path, faces="none", config=config, progress=progress).calibrated()
    assert session.calibration is not None
    session.calibration.save(out)
    return session.calibration


def calibrate_live(
    emg: str,
    out: Path,
    show: Show,
    *,
    camera: str | None = None,
    config: ConfigFile | Path | None = None,
    participant: str = "",
    repetitions: int = 1,
    stop: threading.Event | None = None,
    clock: Callable[[], int] = time.time_ns,
    pause: Callable[[float], object] = time.sleep,
) -> tuple[Calibration, Path]:
    """Guide a participant and record everything, pictures too where a camera is given.

    Parameters
    ----------
    emg : str
        URL of the EMG source.
    out : Path
        Folder for `recording` and `calibration.yaml`.
    show : Show
        Called with each prompt, about twenty times a second.
    camera : str, optional
        URL of the camera; None for none.
    config : ConfigFile or Path, optional
        Parameters.
    participant : str, optional
        Whose it is.
    repetitions : int, optional
        Of each movement.
    stop : threading.Event, optional
        Set it from another thread to end.
    clock : Callable[[], int], optional
        Host clock, ns since the epoch.
    pause : Callable[[float], object], optional
        Waits so many seconds.

    Returns
    -------
    tuple[Calibration, Path]
        The calibration and its file.

    Raises
    ------
    DeviceError
        No EMG arrives.
    InputError
        The movements fail.
    """
    pipeline = Pipeline.from_config(config, Request(camera=camera, emg=emg, reconstruct=False))
    pipeline.run_by_clock()
    host = pipeline.host
    processing = pipeline.get(EmgProcessing)
    assert processing is not None
    arrived: deque[MuscleActivity] = deque()
    first = threading.Event()

    def take(port: str, item: Item) -> None:
        assert isinstance(item, MuscleActivity)
        arrived.append(item)
        first.set()

    host.tap(take, "emg/activity")
    pipeline.setup()
    new_folder(out)
    runner = _Runner(pipeline)
    with BagWriter(out / "recording", session={"participant": participant, "part": "calibration"}) as bag:
        host.tap(bag.write)
        runner.start()
        try:
            if not first.wait(FIRST_EMG_S):
                runner.check()
                raise DeviceError(
                    f"{emg}: no EMG within {FIRST_EMG_S:.0f} s; is the amplifier streaming? eifer doctor lists what is found"
                )
            session = CalibrationSession(
                arrived[0].scheme,
                arrived[0].muscles,
                processing.profile.name,
                repetitions=repetitions,
                participant=participant,
                mains_hz=processing.config.mains_hz,
            )
            _guide(session, arrived, bag, show, runner, stop, clock, pause)
        finally:
            host.stop()
            runner.join()
            host.close()
    runner.check()
    calibration = session.result()
    calibration.save(out / "calibration.yaml")
    return calibration, out / "calibration.yaml"


def _guide(
    session: CalibrationSession,
    arrived: deque[MuscleActivity],
    bag: BagWriter,
    show: Show,
    runner: _Runner,
    stop: threading.Event | None,
    clock: Callable[[], int],
    pause: Callable[[float], object],
) -> None:
    marked = 0
    while not session.finished:
        if stop is not None and stop.is_set():
            session.cancel("ended by the operator")
        runner.check()
        items = [arrived.popleft() for _ in range(len(arrived))]
        show(session.update(clock(), items))
        for take in session.takes[marked:]:
            note = take.advice if not take.accepted else ""
            label = take.movement if take.accepted else f"rejected {take.movement}"
            bag.write("markers", Marker(take.start, label, "start", note))
            bag.write("markers", Marker(take.end, label, "end", note))
        marked = len(session.takes)
        pause(TURN_S)
    show(session.update(clock()))


class _Runner(threading.Thread):
    """Runs a host beside the guide, and keeps its error for it."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(name="calibration", daemon=True)
        self._pipeline = pipeline
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._pipeline.run()
        except Exception as error:  # raised again by `check`, in the thread that waits
            self._error = error

    def check(self) -> None:
        """Raise what ended the host."""
        if self._error is not None:
            raise self._error


def _require_new(out: Path) -> None:
    if out.exists():
        raise InputError(f"{out}: exists; a calibration is never overwritten, give another --out")
