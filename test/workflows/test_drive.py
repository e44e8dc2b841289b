"""Driving outputs as a whole: from a recording and from a camera, to a UDP receiver and to servos on a bus."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from eifer_ros.errors import ConfigError, InputError
from eifer_ros.head import projection
from eifer_ros.pipeline import Request
from eifer_ros.recording.writer import BagWriter
from eifer_ros.types import ARKIT_52, NS, FaceOrigin, FaceState, Item, Marker
from eifer_ros.workflows.drive import drive

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("avatar", "animatronic")]
import receivers  # noqa: E402
from servo_models import PATIENT_MS, DynamixelBus, Servo  # noqa: E402

T0 = 1_790_000_000 * NS
RATE_HZ = 50
FACES = 100
WEIGHTS = np.linspace(0.05, 0.95, 52)
"""A weight of its own for each channel, held all the time: what arrives late or is left out changes nothing."""
JAW_RAD = 0.5
"""What the joint map of these tests makes of a jaw that is wide open."""

URDF = """<robot name="one"><link name="base"/><link name="a"/>
<joint name="jaw" type="revolute"><parent link="base"/><child link="a"/><axis xyz="0 1 0"/><limit lower="-0.1" upper="0.6" velocity="9" effort="1"/></joint>
</robot>"""
MAP = """
name: one
urdf: one.urdf
slew_s: 0
smoothing_s: 0.04
joints:
  jaw: {{blendshapes: {{jawOpen: {gain}}}, range: [0, {gain}], speed: 8, acceleration: 400, servo: {{id: 1}}}}
driver: {{type: dynamixel, port: {port}}}
"""


def face(stamp: int) -> FaceState:
    return FaceState(
        stamp,
        "open_head",
        FaceOrigin.FUSED,
        np.zeros(0),
        WEIGHTS,
        np.zeros(52),
        np.zeros(3),
        np.zeros(3),
        np.zeros((2, 3)),
        np.zeros(2),
        projection.facing_pose(0.6),
        1.0,
    )


def record(path: Path, items: list[tuple[str, Item]]) -> Path:
    with BagWriter(path, wait=True) as bag:
        for port, item in items:
            bag.write(port, item)
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of one face."""
    items: list[tuple[str, Item]] = [("face/fused", face(T0 + k * NS // RATE_HZ)) for k in range(FACES)]
    return record(tmp_path_factory.mktemp("drive") / "faces", items)


@pytest.fixture
def receiver() -> Iterator[receivers.Receiver]:
    made = receivers.Receiver()
    yield made
    made.close()


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[DynamixelBus]:
    pytest.importorskip("dynamixel_sdk", reason="needs the extra 'animatronic'")
    monkeypatch.setattr("dynamixel_sdk.port_handler.LATENCY_TIMER", PATIENT_MS)
    made = DynamixelBus([Servo(1, 2048)])
    yield made
    made.close()


@pytest.fixture
def joint_map(bus: DynamixelBus, tmp_path: Path) -> str:
    """A face with a jaw, on that bus."""
    (tmp_path / "one.urdf").write_text(URDF)
    (tmp_path / "map.yaml").write_text(MAP.format(port=bus.port, gain=JAW_RAD))
    return str(tmp_path / "map.yaml")


def test_a_recording_reaches_a_vmc_avatar_with_every_channel(
    recording: Path, receiver: receivers.Receiver
) -> None:
    progress: list[int] = []
    result = drive(
        str(recording),
        Request(avatars=(f"vmc://127.0.0.1:{receiver.port}",)),
        speed=4.0,
        progress=lambda done, total, what: progress.append(done),
    )
    received = receivers.read_vmc(receiver.waiting())
    assert receivers.worst(WEIGHTS, ARKIT_52, received["weights"]) < 1e-3
    assert received["ok"] == 1
    assert result.faces == FACES
    assert result.seconds == pytest.approx((FACES - 1) / RATE_HZ)
    assert result.commands == 0
    # a picture or a face that is overtaken by the next is dropped: how many arrive depends on the machine
    assert set(result.states) == {"avatar"} and re.fullmatch(
        r"\d+ faces to 1 targets", result.states["avatar"]
    )
    assert progress == sorted(progress) and progress[-1] == FACES


def test_one_face_drives_two_avatars_of_two_protocols(
    recording: Path, receiver: receivers.Receiver, tmp_path: Path
) -> None:
    take = tmp_path / "take.csv"
    drive(
        str(recording),
        Request(avatars=(f"livelink://127.0.0.1:{receiver.port}", f"livelink-csv:{take}")),
        speed=4.0,
    )
    last = receivers.read_livelink(receiver.waiting()[-1])
    assert receivers.worst(WEIGHTS, ARKIT_52, last["values"]) < 1e-3
    header, *rows = take.read_text().splitlines()
    column = [name.lower() for name in header.split(",")].index("jawopen")
    assert len(rows) > 1
    assert float(rows[-1].split(",")[column]) == pytest.approx(WEIGHTS[ARKIT_52.index("jawOpen")], abs=1e-3)


def test_a_disarmed_animatronic_face_gets_not_one_command(
    recording: Path, bus: DynamixelBus, joint_map: str, receiver: receivers.Receiver
) -> None:
    result = drive(
        str(recording),
        Request(avatars=(f"vmc://127.0.0.1:{receiver.port}",), animatronic=joint_map),
        speed=4.0,
    )
    assert receiver.waiting()  # the faces did flow
    assert result.commands == 0
    assert "disarmed" in result.states["animatronic"]
    servo = bus.servos[1]
    assert bus.sync_writes == 0
    assert not servo.torque and servo.get(132, 4) == 2048
    assert (64, b"\x01") not in servo.written  # torque was never switched on


def test_an_armed_animatronic_face_follows_and_is_without_torque_afterwards(
    recording: Path, bus: DynamixelBus, joint_map: str
) -> None:
    result = drive(
        str(recording),
        Request(animatronic=joint_map, armed=True),
    )
    assert result.commands > 10
    bus.wait_for_sync_writes(result.commands)
    goals = [int.from_bytes(data, "little") for address, data in bus.servos[1].written if address == 116]
    # position = gain x weight; 4096 steps a turn, 2048 in the middle
    target = JAW_RAD * WEIGHTS[ARKIT_52.index("jawOpen")]
    assert max(goals) == pytest.approx(2048 + target * 4096 / (2 * math.pi), abs=2)
    assert goals[-1] == pytest.approx(2048, abs=2)  # it eased back to neutral at the end
    assert not bus.servos[1].torque
    assert bus.broken_packets == 0


def test_a_camera_drives_an_avatar_until_it_is_stopped(receiver: receivers.Receiver) -> None:
    stop = threading.Event()
    result = drive(
        "performer:7?speed=0&width=320&height=240&sensors=false",
        Request(avatars=(f"vmc://127.0.0.1:{receiver.port}",)),
        progress=lambda done, total, what: stop.set(),
        stop=stop,
    )
    assert 10 <= result.faces < 100  # faces that were read; the truth of the simulation is none
    received = receivers.read_vmc(receiver.waiting())
    weights = np.array([received["weights"][name] for name in ARKIT_52])
    assert np.all((weights >= 0) & (weights <= 1)) and weights.max() > 0
    assert received["bones"]


def test_a_loop_starts_again_and_goes_on_until_it_is_stopped(
    recording: Path, receiver: receivers.Receiver
) -> None:
    stop = threading.Event()

    def progress(done: int, total: int, what: str) -> None:
        if done >= 2 * FACES:
            stop.set()

    result = drive(
        str(recording),
        Request(avatars=(f"vmc://127.0.0.1:{receiver.port}",)),
        speed=20.0,
        loop=True,
        progress=progress,
        stop=stop,
    )
    assert result.faces >= 2 * FACES


def test_nothing_to_drive_no_faces_and_unknown_protocols_are_said(recording: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing to drive.*--avatar ADDRESS"):
        drive(str(recording), Request())
    silent = record(tmp_path / "silent", [("markers", Marker(T0, "Smile-Open", "start"))])
    with pytest.raises(InputError, match=r"no faces in this recording.*markers.*eifer replay"):
        drive(
            str(silent),
            Request(avatars=("vmc://127.0.0.1",)),
        )
    with pytest.raises(ConfigError, match=r"'vcm'.*did you mean 'vmc'"):
        drive(
            str(recording),
            Request(avatars=("vcm://127.0.0.1",)),
        )
    with pytest.raises(ConfigError, match="no-such-map"):
        drive(str(recording), Request(animatronic=str(tmp_path / "no-such-map.yaml")))


PATIENT_COMMAND = f"""
from dynamixel_sdk import port_handler
from eifer_ros.cli import main
port_handler.LATENCY_TIMER = {PATIENT_MS}
main()
"""


def run_command(root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`eifer drive` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", PATIENT_COMMAND, "drive", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_command_drives_and_prints_what_it_sent(
    recording: Path, receiver: receivers.Receiver, bus: DynamixelBus, joint_map: str, root: Path
) -> None:
    target = f"vmc://127.0.0.1:{receiver.port}"
    done = run_command(
        root, recording, "--avatar", target, "--animatronic", joint_map, "--arm", "--speed", 2, "--json"
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["faces"] == FACES and printed["commands"] > 0
    assert set(printed["states"]) == {"avatar", "animatronic"}
    assert receivers.worst(WEIGHTS, ARKIT_52, receivers.read_vmc(receiver.waiting())["weights"]) < 1e-3
    bus.wait_for_sync_writes(printed["commands"])
    assert not bus.servos[1].torque


def test_the_command_says_that_an_animatronic_face_is_disarmed(
    recording: Path, bus: DynamixelBus, joint_map: str, root: Path
) -> None:
    done = run_command(root, recording, "--animatronic", joint_map, "--speed", 4)
    assert done.returncode == 0, done.stderr
    assert "disarmed" in done.stderr and "--arm" in done.stderr
    assert bus.sync_writes == 0
