"""Calibration as a whole: guided with a live amplifier in virtual time, and from a recording."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from eifer_ros.config import ConfigFile
from eifer_ros.emg.calibration import Calibration
from eifer_ros.emg.calibration_session import Prompt
from eifer_ros.emg.emg_processing import EmgProcessing
from eifer_ros.emg.montage import FRIDLUND
from eifer_ros.emg.protocol import PROTOCOL
from eifer_ros.errors import DeviceError, InputError
from eifer_ros.recording.reader import Bag
from eifer_ros.simulation import performer, script
from eifer_ros.simulation.script import Slot
from eifer_ros.types import NS, EmgChunk, Marker, Stamp
from eifer_ros.workflows import calibrate
from eifer_ros.workflows.calibrate import calibrate_live, calibrate_recording
from eifer_ros.workflows.simulate import simulate_recording

T0 = 1_790_000_000 * NS
AMPLIFIER = f"performer:7?program=calibration&rate_hz=1024&artefacts=white&start_stamp={T0}"
LEAD_S = 1.0
"""So much EMG flows before the guide begins."""
PATIENCE_S = 120.0
"""The longest that one step of virtual time may take on a busy machine."""


class VirtualTime:
    """One clock for amplifier and guide.

    The amplifier plays up to the present and waits; the guide's pause moves the present on and returns when
    every sample up to there has gone through the EMG processing. A minute passes in a few seconds, the same
    way each time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._now = T0 + round(LEAD_S * NS)
        self._due = self._processed = T0
        self.silent = False
        """An amplifier that is switched on and sends nothing."""

    def now(self) -> Stamp:
        """For the amplifier: where its performance begins."""
        return T0

    def wait_until(self, stamp: Stamp, stop: threading.Event) -> None:
        """For the amplifier: return when the guide has come to `stamp`."""
        with self._changed:
            self._due = stamp
            self._changed.notify_all()
            while not stop.is_set() and (self.silent or stamp > self._now):
                self._changed.wait(0.05)  # `stop` is set by somebody who does not notify

    def clock(self) -> Stamp:
        """For the guide: the present."""
        return self._now

    def pause(self, duration_s: float) -> None:
        """For the guide: let time pass."""
        with self._changed:
            self._now += round(duration_s * NS)
            self._changed.notify_all()
            # a chunk of 32 samples at 1024 Hz lasts 31.25 ms, and is processed when its last sample is there
            assert self._changed.wait_for(
                lambda: self._due > self._now and self._processed > self._now - 2 * NS // 32, PATIENCE_S
            )

    def processed(self, chunk: EmgChunk) -> None:
        """A chunk has gone through."""
        with self._changed:
            self._processed = chunk.stamp
            self._changed.notify_all()


def virtual_time(patch: pytest.MonkeyPatch) -> VirtualTime:
    """The clock of every simulated amplifier; the EMG processing reports to it what it has handled."""
    time = VirtualTime()
    handle = EmgProcessing.handle

    def reported(self: EmgProcessing, port: str, item: object) -> object:
        yield from handle(self, port, item)  # type: ignore[arg-type]
        if isinstance(item, EmgChunk):
            time.processed(item)

    patch.setattr(performer, "WallClock", lambda: time)
    patch.setattr(EmgProcessing, "handle", reported)
    return time


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    return virtual_time(monkeypatch)


def performs(patch: pytest.MonkeyPatch, *, lazy: str = "") -> None:
    """A participant whose programme follows the prompts: 2 s to prepare, 3 s (rest: 5 s) to perform, 2 s to
    relax; each movement starts within the second before its take.

    lazy: this movement is not made, in none of the three attempts.
    """
    rest, *movements = PROTOCOL
    slots = [Slot("movement", rest.name, LEAD_S + 9.0 + 1.0)]
    for movement in movements:
        slots.append(
            Slot("movement", rest.name, 21.0)
            if movement.name == lazy
            else Slot("movement", movement.name, 7.0)
        )
    patch.setitem(script.PROGRAMS, "calibration", tuple(slots))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Guided:
    """A calibration from beginning to end: where it was written, what came back, what was shown."""

    out: Path
    calibration: Calibration
    path: Path
    prompts: list[Prompt]
    lasted_s: float


def guided(patch: pytest.MonkeyPatch, out: Path, lazy: str = "") -> Guided:
    performs(patch, lazy=lazy)
    time = virtual_time(patch)
    prompts: list[Prompt] = []
    calibration, path = calibrate_live(
        AMPLIFIER, out, prompts.append, participant="anna", clock=time.clock, pause=time.pause
    )
    return Guided(out, calibration, path, prompts, (time.clock() - T0) / NS)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Guided:
    """A participant who does what the guide says."""
    with pytest.MonkeyPatch.context() as patch:
        return guided(patch, tmp_path_factory.mktemp("followed") / "anna")


@pytest.mark.xdist_group("calibration")
def test_a_participant_who_follows_the_guide_is_asked_once_for_each_movement_in_order(
    followed: Guided,
) -> None:
    phases = [(prompt.movement, prompt.phase) for prompt in followed.prompts]
    order = [phase for phase, _ in itertools.groupby(phases)]
    assert order == [
        *((movement.name, phase) for movement in PROTOCOL for phase in ("prepare", "perform", "relax")),
        ("", "done"),
    ]
    progress = [prompt.progress for prompt in followed.prompts]
    assert progress == sorted(progress) and progress[-1] == 1.0
    assert followed.lasted_s == pytest.approx(LEAD_S + 9 + 10 * 7, abs=0.1)


@pytest.mark.xdist_group("calibration")
def test_the_calibration_on_disk_is_the_one_returned_with_every_channel_alive(followed: Guided) -> None:
    calibration = followed.calibration
    assert followed.path == followed.out / "calibration.yaml"
    saved = Calibration.load(followed.path)
    assert saved.participant == "anna" and saved.muscles == FRIDLUND.muscles
    assert saved.rest == pytest.approx(calibration.rest, rel=1e-4)
    assert saved.p99 == pytest.approx(calibration.p99, rel=1e-4)
    assert calibration.dead == () and calibration.weak == ()
    assert [take.movement for take in calibration.takes if take.accepted] == [
        movement.name for movement in PROTOCOL
    ]
    assert np.all(calibration.rest > 0) and np.all(calibration.p99 > 2 * calibration.rest)


@pytest.mark.xdist_group("calibration")
def test_the_recording_of_a_calibration_holds_the_emg_and_the_markers_to_repeat_it(
    followed: Guided, tmp_path: Path
) -> None:
    samples = 0
    markers: list[Marker] = []
    with Bag(followed.out / "recording") as bag:
        for _, _, item in bag.items(topics=["emg/raw", "markers"]):
            if isinstance(item, EmgChunk):
                assert item.first_index == samples and item.lost == 0  # not one sample is missing
                samples += len(item.samples)
            elif isinstance(item, Marker):
                markers.append(item)
    assert samples / 1024 == pytest.approx(followed.lasted_s, abs=0.2)
    assert [(mark.label, mark.phase) for mark in markers] == [
        (movement.name, phase) for movement in PROTOCOL for phase in ("start", "end")
    ]
    assert [mark.stamp for mark in markers] == [
        stamp for take in followed.calibration.takes for stamp in (take.start, take.end)
    ]
    # from the recording alone the same levels come out; the simulation's own markers lie beside the guide's
    again = calibrate_recording(followed.out / "recording", tmp_path / "again.yaml")
    assert again.rest == pytest.approx(followed.calibration.rest, rel=0.1)
    assert again.p99 == pytest.approx(followed.calibration.p99, rel=0.1)


def test_a_movement_that_is_not_made_is_asked_for_three_times_and_then_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lazy = "Lip-Pucker"
    run = guided(monkeypatch, tmp_path / "out", lazy)
    starts = Counter(
        after.movement
        for before, after in itertools.pairwise(run.prompts)
        if after.phase == "perform" and before.phase != "perform"
    )
    assert starts == {movement.name: 3 if movement.name == lazy else 1 for movement in PROTOCOL}
    repeats = [prompt for prompt in run.prompts if prompt.phase == "repeat"]
    assert {prompt.movement for prompt in repeats} == {lazy}
    assert all("too weak: orbicularis_oris" in prompt.advice for prompt in repeats)
    assert [take.movement for take in run.calibration.takes if not take.accepted] == [lazy] * 3
    with Bag(run.out / "recording") as bag:
        markers = [item for _, _, item in bag.items(topics=["markers"]) if isinstance(item, Marker)]
    rejected = [mark for mark in markers if mark.label.startswith("rejected")]
    assert len(rejected) == 6 and all(
        mark.label == f"rejected {lazy}" and "too weak" in mark.note for mark in rejected
    )


def test_the_operator_can_end_a_calibration(virtual: VirtualTime, tmp_path: Path) -> None:
    stop = threading.Event()

    def show(prompt: Prompt) -> None:
        if prompt.phase == "perform":
            stop.set()

    with pytest.raises(InputError, match="ended by the operator"):
        calibrate_live(AMPLIFIER, tmp_path / "out", show, stop=stop, clock=virtual.clock, pause=virtual.pause)
    assert virtual.clock() < T0 + 4 * NS
    assert not (tmp_path / "out/calibration.yaml").exists()


def test_an_amplifier_that_sends_nothing_is_named(
    virtual: VirtualTime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    virtual.silent = True
    monkeypatch.setattr(calibrate, "FIRST_EMG_S", 0.05)
    with pytest.raises(DeviceError, match=r"performer:7.*no EMG within.*is the amplifier streaming"):
        calibrate_live(AMPLIFIER, tmp_path / "out", lambda prompt: None, clock=virtual.clock)


def test_a_folder_that_holds_something_is_refused_and_left_alone(
    virtual: VirtualTime, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="never overwritten"):
        calibrate_live(AMPLIFIER, tmp_path, lambda prompt: None, clock=virtual.clock, pause=virtual.pause)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eleven movements of a simulated participant, sEMG alone."""
    out = tmp_path_factory.mktemp("calibrate") / "session"
    config = performer.PerformerConfig(seed=7, program="calibration", rate_hz=1024.0, artefacts=("white",))
    simulate_recording(out, 56.0 / 60.0, config, camera=False)
    return out


def test_the_command_calibrates_from_a_recording_and_writes_what_it_prints(
    recording: Path, tmp_path: Path, root: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eifer_ros.cli", "calibrate", recording, "--out", "anna.yaml", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    saved = Calibration.load(tmp_path / printed["calibration"])
    assert [channel["channel"] for channel in printed["channels"]] == list(FRIDLUND.muscles)
    assert [channel["p99_uv"] for channel in printed["channels"]] == pytest.approx(1e6 * saved.p99, rel=1e-3)
    assert all(channel["state"] == "good" for channel in printed["channels"])
    assert np.all(saved.p99 > 2 * saved.rest)


def test_a_calibration_from_a_recording_takes_the_signal_profile_it_is_given(
    recording: Path, tmp_path: Path
) -> None:
    live = calibrate_recording(recording, tmp_path / "live.yaml")
    other = calibrate_recording(recording, tmp_path / "50.yaml", ConfigFile({"emg": {"profile": "rms100"}}))
    assert (live.profile, other.profile) == ("live", "rms100")
    assert Calibration.load(tmp_path / "50.yaml").profile == "rms100"


def test_a_calibration_is_never_written_over_another(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "calibration.yaml").write_text("mine")
    with pytest.raises(InputError, match="never overwritten"):
        calibrate_recording(recording, tmp_path / "calibration.yaml")
    assert (tmp_path / "calibration.yaml").read_text() == "mine"
