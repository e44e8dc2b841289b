"""Each sender, heard by an independent receiver over a real UDP socket."""

from __future__ import annotations

import csv
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import receivers
from hypothesis import given, settings
from hypothesis import strategies as st
from receivers import Receiver
from scipy.spatial.transform import Rotation

from eifer_ros.avatar.face import AvatarFace, quaternion
from eifer_ros.avatar.sender import Sender
from eifer_ros.component import Level
from eifer_ros.errors import ConfigError, DeviceError, InputError
from eifer_ros.registry import AVATARS
from eifer_ros.types import ARKIT_52, NS

T0 = 1_760_000_000 * NS + 123_456_789


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def face(seed: int = 0, stamp: int = T0, **changes: object) -> AvatarFace:
    rng = np.random.default_rng(seed)
    values: dict = {
        "weights": rng.uniform(0, 1, 52).astype(np.float32),
        "head": rng.uniform(-0.7, 0.7, 3),
        "gaze": rng.uniform(-0.5, 0.5, (2, 2)),
        "position": rng.normal(size=3),
    }
    return AvatarFace(stamp, **(values | changes))


def opened(protocol: str, receiver: Receiver, query: str = "") -> Sender:
    return AVATARS.open(f"{protocol}://127.0.0.1:{receiver.port}{query}")


def test_vmc_carries_all_channels_head_and_eyes(receiver: Receiver) -> None:
    sent = face()
    opened("vmc", receiver).send(sent)
    heard = receivers.read_vmc(receiver.waiting())
    assert set(heard["weights"]) == set(ARKIT_52)
    assert receivers.worst(sent.weights, ARKIT_52, heard["weights"]) < 1e-6
    assert heard["ok"] == 1
    assert heard["time"] == 0.0
    for bone, angles in (
        ("Head", sent.head),
        ("LeftEye", [*sent.gaze[0], 0]),
        ("RightEye", [*sent.gaze[1], 0]),
    ):
        # where the bone looks, in Unity's left-handed axes (x to the avatar's right)
        x, y, z, w = heard["bones"][bone][3:]
        ahead = np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
        yaw, pitch = angles[0], angles[1]
        wanted = [-np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)]
        assert ahead == pytest.approx(wanted, abs=1e-5)


def test_vmc_says_when_the_face_is_lost_and_can_write_pascal_names(receiver: Receiver) -> None:
    opened("vmc", receiver, "?case=pascal").send(face(tracked=False))
    heard = receivers.read_vmc(receiver.waiting())
    assert heard["ok"] == 0
    assert {name[0].lower() + name[1:] for name in heard["weights"]} == set(ARKIT_52)
    assert "BrowInnerUp" in heard["weights"]


def test_vrchat_carries_all_channels_as_unified_expressions(receiver: Receiver) -> None:
    sent = face(1)
    opened("vrchat", receiver).send(sent)
    parameters, eyes = receivers.read_vrchat(receiver.waiting())
    assert receivers.worst(sent.weights, ARKIT_52, receivers.arkit_from_unified(parameters)) < 1e-6
    assert parameters["JawX"] == pytest.approx(sent.weight("jawRight") - sent.weight("jawLeft"), abs=1e-6)
    assert parameters["SmileFrownLeft"] == pytest.approx(
        sent.weight("mouthSmileLeft") - sent.weight("mouthFrownLeft"), abs=1e-6
    )
    assert all(-1.0 <= value <= 1.0 for value in parameters.values())
    pitch_l, yaw_l, pitch_r, yaw_r = eyes["LeftRightPitchYaw"]
    assert np.deg2rad([-yaw_l, pitch_l, -yaw_r, pitch_r]) == pytest.approx(sent.gaze.ravel(), abs=1e-5)


def test_vrchat_eyes_look_the_same_way_when_the_wearer_looks_right(receiver: Receiver) -> None:
    weights = np.zeros(52, np.float32)
    for name in ("eyeLookInLeft", "eyeLookOutRight"):  # both eyes to the wearer's right
        weights[ARKIT_52.index(name)] = 0.5
    opened("vrchat", receiver, "?prefix=FT").send(face(weights=weights))
    parameters, _ = receivers.read_vrchat(receiver.waiting(), "FT/")
    assert parameters["EyeLeftX"] == parameters["EyeRightX"] == 0.5
    assert parameters["EyeLidLeft"] == 0.75


def test_live_link_carries_all_channels_angles_and_time(receiver: Receiver) -> None:
    sent = face(2)
    opened("livelink", receiver, "?subject=Änne&fps=30").send(sent)
    (packet,) = receiver.waiting()
    heard = receivers.read_livelink(packet)
    assert (heard["version"], heard["subject"], heard["fps"], heard["denominator"], heard["count"]) == (
        6,
        "Änne",
        30,
        1,
        61,
    )
    assert receivers.worst(sent.weights, ARKIT_52, heard["values"]) < 1e-6
    assert [heard["values"][name] for name in ("headYaw", "headPitch", "headRoll")] == pytest.approx(
        sent.head, abs=1e-6
    )
    assert heard["values"]["leftEyeYaw"] == pytest.approx(sent.gaze[0, 0], abs=1e-6)
    assert heard["values"]["rightEyePitch"] == pytest.approx(sent.gaze[1, 1], abs=1e-6)
    assert (heard["frame"] + heard["subframe"]) / 30 == pytest.approx(T0 / NS % 86400, abs=1e-3)


def test_live_link_keeps_the_device_of_a_subject(receiver: Receiver) -> None:
    for query in ("?subject=A", "?subject=A", "?subject=B", "?uuid=12345678-1234-1234-1234-123456789abc"):
        opened("livelink", receiver, query).send(face())
    devices = [receivers.read_livelink(packet)["device"] for packet in receiver.waiting()]
    assert devices[0] == devices[1] != devices[2]
    assert devices[3] == "$12345678-1234-1234-1234-123456789abc"


def test_ifacialmocap_carries_all_channels_to_the_percent_it_can_hold(receiver: Receiver) -> None:
    sent = face(3)
    opened("ifacialmocap", receiver).send(sent)
    opened("ifacialmocap", receiver, "?decimals=2").send(sent)
    whole, fine = receiver.waiting()
    weights, turns = receivers.read_ifacialmocap(whole)
    assert receivers.worst(sent.weights, ARKIT_52, weights) <= 0.005 + 1e-6  # whole percents
    assert receivers.worst(sent.weights, ARKIT_52, receivers.read_ifacialmocap(fine)[0]) < 1e-4
    assert np.deg2rad(turns["head"][:3]) == pytest.approx(sent.head[[1, 0, 2]], abs=1e-5)
    assert np.deg2rad(turns["leftEye"][:2]) == pytest.approx(sent.gaze[0, ::-1], abs=1e-5)
    assert np.deg2rad(turns["rightEye"][:2]) == pytest.approx(sent.gaze[1, ::-1], abs=1e-5)


def test_the_csv_reads_back_with_the_header_of_live_link_face(tmp_path: Path) -> None:
    sender = AVATARS.open(f"livelink-csv:{tmp_path}/take.csv")
    faces = [face(i, T0 + i * NS // 30) for i in range(5)]
    for item in faces:
        assert sender.send(item)
    sender.close()
    with (tmp_path / "take.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["Timecode", "BlendShapeCount", *receivers.LIVE_LINK_HEADER]
    assert len(rows) == 6
    for item, row in zip(faces, rows[1:], strict=True):
        values = dict(zip(map(receivers.camel, receivers.LIVE_LINK_HEADER), map(float, row[2:]), strict=True))
        assert receivers.worst(item.weights, ARKIT_52, values) < 1e-6
        hours, minutes, seconds, frames = row[0].split(":")
        assert (int(hours) * 60 + int(minutes)) * 60 + int(seconds) + float(frames) / 60 == pytest.approx(
            item.stamp / NS % 86400, abs=1e-3
        )
    with pytest.raises(InputError, match="exists already"):
        AVATARS.open(f"livelink-csv:{tmp_path}/take.csv")


@pytest.mark.parametrize("protocol", ["vmc", "vrchat", "livelink", "ifacialmocap"])
def test_a_hundred_faces_a_second_leave_as_sixty(receiver: Receiver, protocol: str) -> None:
    sender = opened(protocol, receiver)
    rng = np.random.default_rng(0)
    for i in range(301):
        sender.send(face(stamp=T0 + i * NS // 100 + int(rng.uniform(0, 2e6))))
        receiver.waiting()
    assert sender.sent == pytest.approx(180, abs=3)
    assert sender.sent + sender.skipped == 301


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 200_000_000), min_size=2, max_size=80))
def test_no_second_holds_more_packets_than_the_rate(gaps: list[int]) -> None:
    sender = AVATARS.open("livelink://127.0.0.1:9?rate=20")
    stamps = T0 + np.cumsum(gaps)
    left = [int(stamp) for stamp in stamps if sender._is_due(int(stamp))]
    for stamp in left:
        assert sum(stamp <= other < stamp + NS for other in left) <= 22
    sender.close()


def test_sending_never_blocks_and_counts_when_nobody_listens() -> None:
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
    probe.close()
    sender = AVATARS.open(f"livelink://127.0.0.1:{port}")
    for i in range(6):
        sender.send(face(stamp=T0 + i * NS))
    assert sender.failed >= 2
    assert sender.health().level == Level.WARN
    assert f"nobody listens on port {port}" in sender.health().message
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", port))
    for i in range(6, 9):
        sender.send(face(stamp=T0 + i * NS))
    assert sender.health().level == Level.OK
    listener.close()


@settings(max_examples=40, deadline=None)
@given(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(-3, 3))
def test_the_quaternion_is_yaw_after_pitch_after_roll(yaw: float, pitch: float, roll: float) -> None:
    wanted = Rotation.from_euler("YXZ", [yaw, pitch, roll]).as_matrix()
    assert Rotation.from_quat(quaternion(yaw, pitch, roll)).as_matrix() == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("vnc://127.0.0.1", "unknown kind 'vnc'; did you mean 'vmc'"),
        ("127.0.0.1:39539", "unknown kind"),
        ("vmc:localhost", "must look like"),
        ("vmc://127.0.0.1:99999", "port"),
        ("vmc://127.0.0.1:0", "port"),
        ("vmc://127.0.0.1:x", "port"),
        ("vmc://127.0.0.1/face", "path"),
        ("vmc://127.0.0.1?cas=pascal", "unknown key 'cas'; did you mean 'case'"),
        ("vmc://127.0.0.1?case=upper", "case = 'upper'"),
        ("livelink://127.0.0.1?rate=0", "rate_hz = '0'"),
        ("livelink://127.0.0.1?uuid=7", "uuid"),
        ("livelink-csv:", "names no file"),
        ("livelink://127.0.0.1?fps=many", "fps = 'many'"),
    ],
)
def test_a_wrong_address_is_said_by_name(address: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AVATARS.open(address)
    assert said in str(caught.value)


def test_hosts_that_cannot_be_found_or_reached_are_named_before_anything_is_sent() -> None:
    with pytest.raises(DeviceError, match=r"no-such-host\.invalid"):
        AVATARS.open("vmc://no-such-host.invalid:39539")
    with pytest.raises(
        DeviceError, match=r"255\.255\.255\.255"
    ):  # the kernel refuses broadcast to a socket that did not ask for it
        AVATARS.open("vmc://255.255.255.255:39539")
    with pytest.raises(InputError, match="cannot be written"):
        AVATARS.open("livelink-csv:/no/such/folder/take.csv")


def test_host_and_port_default_to_loopback_and_the_usual_port() -> None:
    for address, wanted in (
        ("vmc:", 39539),
        ("vrchat://", 9000),
        ("livelink://localhost", 11111),
        ("ifacialmocap://[::1]", 49983),
    ):
        sender = AVATARS.open(address)
        assert sender.port == wanted
        assert sender._socket.getpeername()[:2] in (("127.0.0.1", wanted), ("::1", wanted))  # type: ignore[attr-defined]
        sender.close()
        sender.close()
