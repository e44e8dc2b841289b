"""Every node in a process of its own, as `ros2 run` and launch start it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ros_peer import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, PATIENCE_S, Peer, Process, wait_for

from eifer_ros.head import projection
from eifer_ros.recording.writer import BagWriter
from eifer_ros.simulation.participant import Participant
from eifer_ros.types import NS, EmgChunk, FaceOrigin, FaceState, Frame, MuscleActivity
from eifer_ros.wire import conversions, messages

FLAME, CHUNK, ACTIVITY = (
    "eifer_msgs/msg/FlameParameters",
    "eifer_msgs/msg/EmgChunk",
    "eifer_msgs/msg/MuscleActivity",
)


def face(stamp: int) -> FaceState:
    weights = np.zeros(52, np.float32)
    weights[44] = 0.5
    return FaceState(
        stamp,
        "open_head",
        FaceOrigin.VISION,
        np.zeros(80),
        weights,
        np.full(52, 0.02),
        np.zeros(3),
        np.zeros(3),
        np.zeros((2, 3)),
        np.zeros(2),
        projection.facing_pose(0.6),
        0.9,
    )


def emg(index: int, stamp: int) -> EmgChunk:
    samples = np.random.default_rng(index).normal(0, 2e-5, (64, 8)).astype(np.float32)
    return EmgChunk(stamp, 1000.0, tuple(f"F{i + 1}" for i in range(8)), samples, index * 64)


def activity(stamp: int) -> MuscleActivity:
    return MuscleActivity(stamp, "fridlund", ("F1", "F2"), np.full(2, 1e-5), np.full(2, 0.5), np.ones(2))


def picture(stamp: int) -> Frame:
    return Frame(stamp, np.full((120, 160, 3), 90, np.uint8))


PERFORMER = Participant(21, program="micro")


def performed(index: int) -> FaceState:
    """Faces of a hundred pictures a second, sent faster than they were made."""
    return replace(PERFORMER.face_at(index / 100), origin=FaceOrigin.VISION)


FEEDS: dict[str, tuple[str, str, Callable[[int, int], Any], float]] = {
    "face": ("face/vision", FLAME, lambda index, stamp: face(stamp), 0.02),
    "emg": ("emg/raw", CHUNK, emg, 0.064),
    "activity": ("emg/activity", ACTIVITY, lambda index, stamp: activity(stamp), 0.02),
    "performed": ("face/vision", FLAME, lambda index, stamp: performed(index), 0.004),
    "picture": ("camera/image_raw", "sensor_msgs/msg/Image", lambda index, stamp: picture(stamp), 0.05),
}
"""What a node is fed with: topic, type, item, pause."""

# fmt: off
NODES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("camera", {"url": "performer:7", "width": 160, "height": 120}, "", "camera/image_raw", "sensor_msgs/msg/Image"),
    ("emg_source", {"url": "performer:7"}, "", "emg/raw", CHUNK),
    ("performer", {"width": 160, "height": 120}, "", "truth/face", FLAME),
    ("reconstruction", {"estimator": "landmarks"}, "picture", "face/vision", FLAME),
    ("emg", {}, "emg", "emg/activity", ACTIVITY),
    ("mapping", {}, "face", "face/fused", FLAME),
    ("spotter", {"watch_light": False}, "performed", "face/events", "eifer_msgs/msg/FaceEvent"),
    ("avatar", {}, "face", "face/blendshapes", "eifer_msgs/msg/Blendshapes"),
    ("animatronic", {"hardware": False, "preview": True}, "face", "joint_states", "sensor_msgs/msg/JointState"),
    ("face_view", {}, "face", "face/mesh", "visualization_msgs/msg/Marker"),
    ("pipeline", {"performer.width": 160, "performer.height": 120, "reconstruction.estimator": "landmarks"}, "", "face/fused", FLAME),
]
# fmt: on
"""Node, parameters, what it is fed with, and a topic that must then carry messages."""


class Feeder:
    """Publishes items until a condition holds."""

    def __init__(self, peer: Peer, kind: str) -> None:
        self._topic, type_name, self._make, self._pause = FEEDS[kind]
        self._publisher = peer.publisher(f"/eifer/{self._topic}", type_name)
        self._index = 0

    def until(self, condition: Callable[[], Any], what: str, process: Process) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"{what}\n{process.output}")
            item = self._make(self._index, time.time_ns())
            made = conversions.to_wire(item, self._topic)[-1].message
            self._publisher.publish(messages.serialise(made))
            self._index += 1
            time.sleep(self._pause)  # the rate of the stream, not synchronisation


@pytest.mark.parametrize(
    ("name", "parameters", "fed", "topic", "type_name"), NODES, ids=[node[0] for node in NODES]
)
def test_a_node_configures_publishes_and_ends_with_zero_on_ctrl_c(
    peer: Peer, name: str, parameters: dict[str, Any], fed: str, topic: str, type_name: str
) -> None:
    process = peer.start(
        name, **{key.replace(".", "__"): str(value).lower() for key, value in parameters.items()}
    )
    heard = peer.listen(f"/eifer/{topic}", type_name, raw=True)
    told = peer.diagnostics()
    assert peer.change(name, CONFIGURE), process.output
    assert peer.change(name, ACTIVATE), process.output
    if fed:
        feeder = Feeder(peer, fed)
        feeder.until(lambda: len(heard) >= 3, f"nothing on {topic}", process)
    else:
        wait_for(lambda: len(heard) >= 3, lambda: f"messages on {topic}\n{process.output}")
    wait_for(lambda: any(status.startswith(f"eifer/{name}") for status in told), "diagnostics")
    assert peer.change(name, DEACTIVATE) and peer.change(name, CLEANUP), process.output
    assert peer.change(name, CONFIGURE) and peer.change(name, ACTIVATE), process.output
    before = len(heard)
    if fed:
        feeder.until(lambda: len(heard) > before, "nothing after a second activation", process)
    else:
        wait_for(lambda: len(heard) > before, lambda: f"messages after a second activation\n{process.output}")
    assert process.interrupt() == 0, process.output
    assert "Traceback" not in process.output


def test_the_recorder_records_what_others_publish_and_the_replay_publishes_it_again(
    peer: Peer, tmp_path: Path
) -> None:
    """A bag without rosbag2 in both directions."""
    process = peer.start("recorder", path=str(tmp_path / "take"), jpeg_quality=0)
    assert peer.change("recorder", CONFIGURE) and peer.change("recorder", ACTIVATE), process.output
    publisher = peer.publisher("/eifer/emg/raw", CHUNK)
    sent = [emg(index, 1_700_000_000 * NS + index * 64_000_000) for index in range(20)]
    for item in sent:
        publisher.publish(messages.serialise(conversions.to_wire(item, "emg/raw")[0].message))
    told = peer.diagnostics()
    wait_for(
        lambda: any(
            value.key == "items" and int(value.value) >= 20
            for status in told.values()
            for value in status.values
        ),
        lambda: f"20 recorded\n{process.output}",
    )
    peer.node.destroy_publisher(publisher)
    assert process.interrupt() == 0, process.output

    replay = peer.start("replay", path=str(tmp_path / "take"))
    heard = peer.listen("/eifer/emg/raw", CHUNK, raw=True)
    assert peer.change("replay", CONFIGURE) and peer.change("replay", ACTIVATE), replay.output
    wait_for(lambda: len(heard) == 20, lambda: f"20 replayed, got {len(heard)}\n{replay.output}")
    assert [messages.deserialise(data, CHUNK).first_index for data in heard] == [
        item.first_index for item in sent
    ]
    assert replay.interrupt() == 0, replay.output


def test_a_node_without_its_model_says_which_and_stays_unconfigured(peer: Peer) -> None:
    process = peer.start("reconstruction", head_model="absent_head")
    assert not peer.change("reconstruction", CONFIGURE)
    assert "absent_head" in process.output and "cannot configure" in process.output
    assert peer.state("reconstruction") == "unconfigured"
    assert process.interrupt() == 0, process.output


def test_a_bag_that_loops_starts_the_components_afresh_each_round(peer: Peer, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "take") as bag:
        for index in range(40):
            bag.write("emg/raw", emg(index, 1_700_000_000 * NS + index * 64_000_000))
    process = peer.start(
        "pipeline",
        components="[replay,emg]",
        replay__path=str(tmp_path / "take"),
        replay__loop="true",
        replay__speed="20.0",
    )
    heard = peer.listen("/eifer/emg/activity", ACTIVITY)
    assert peer.change("pipeline", CONFIGURE) and peer.change("pipeline", ACTIVATE), process.output

    def rounds() -> int:
        stamps = [message.header.stamp.sec * NS + message.header.stamp.nanosec for message in list(heard)]
        return sum(after < before for before, after in itertools.pairwise(stamps))

    wait_for(lambda: rounds() >= 2, lambda: f"two rounds\n{process.output}")
    assert process.running
    assert process.interrupt() == 0, process.output
