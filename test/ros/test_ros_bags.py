"""A bag that eifer writes without ROS and one recorded from the topics of a node are the same in kind, and
each is read by the other side.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ros_peer import ACTIVATE, CONFIGURE, Peer, same, wait_for
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from eifer_ros import topics
from eifer_ros.emg.emg_processing import EmgProcessing
from eifer_ros.head import projection
from eifer_ros.hosts.ros_part import Part
from eifer_ros.recording.reader import Bag
from eifer_ros.recording.recorder import Recorder
from eifer_ros.recording.source import BagSource
from eifer_ros.recording.writer import BagWriter
from eifer_ros.types import (
    NS,
    EmgChannelInfo,
    EmgChunk,
    FaceDisplacement,
    FaceEvent,
    FaceOrigin,
    FaceState,
    Frame,
    Item,
    Marker,
    MuscleActivity,
)
from eifer_ros.wire import conversions, messages

T0 = 1_760_000_000 * NS
NAMES = tuple(f"F{i + 1}" for i in range(4))


def session() -> list[tuple[str, Item]]:
    """A second of everything, in the order of stamps; what is latched first."""
    rng = np.random.default_rng(3)
    items: list[tuple[str, Item]] = [
        (
            "emg/raw_channels",
            EmgChannelInfo(T0, NAMES, NAMES, "fridlund", "bipolar", 1000.0, np.zeros((4, 2), np.float32)),
        ),
        ("truth/movement", Marker(T0 + 1, "Smile-Open", "start")),
    ]
    for index in range(20):
        stamp = T0 + index * 50_000_000
        samples = rng.normal(0, 2e-5, (50, 4)).astype(np.float32)
        items.append(("emg/raw", EmgChunk(stamp, 1000.0, NAMES, samples, index * 50)))
        items.append(
            (
                "emg/activity",
                MuscleActivity(stamp, "fridlund", NAMES, np.full(4, 1e-5), np.full(4, np.nan), np.ones(4)),
            )
        )
        items.append(
            (
                "face/vision",
                FaceState(
                    stamp,
                    "open_head",
                    FaceOrigin.VISION,
                    np.zeros(80),
                    rng.random(52),
                    np.full(52, 0.1),
                    np.zeros(3),
                    np.zeros(3),
                    np.zeros((2, 3)),
                    np.zeros(2),
                    projection.facing_pose(0.6),
                    0.75,
                ),
            )
        )
        image = np.full((48, 64, 3), 40 + 8 * index, np.uint8)
        items.append(
            (
                "face/displacement",
                FaceDisplacement(stamp, "open_head", FaceOrigin.VISION, rng.normal(0, 1e-4, (6, 3)), 0.5),
            )
        )
        items.append(
            (
                "face/events",
                FaceEvent(
                    stamp,
                    stamp,
                    stamp + NS // 10,
                    "lips_left",
                    ("lips_left",),
                    "happiness",
                    ("happiness", "others"),
                    np.array([0.75, 0.25]),
                    2.0,
                    FaceOrigin.FUSED,
                    0.0625,
                ),
            )
        )
        items.append(
            ("camera/image_raw", Frame(stamp, image, np.array([[60.0, 0, 32], [0, 60.0, 24], [0, 0, 1.0]])))
        )
    return items


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The bag written without ROS."""
    with BagWriter(tmp_path / "own") as bag:
        for port, item in session():
            bag.write(port, item)
    return tmp_path / "own"


def contents(path: Path) -> tuple[dict[str, str], dict[str, list[bytes]], dict[str, Connection]]:
    """(type by topic, message bytes by topic, connection by topic), the session record left out."""
    data: dict[str, list[bytes]] = defaultdict(list)
    with Reader(path) as reader:
        kept = {
            connection.topic: connection
            for connection in reader.connections
            if not connection.topic.endswith("/session")
        }
        for connection, _, raw in reader.messages(connections=list(kept.values())):
            data[connection.topic].append(bytes(raw))
    return {topic: connection.msgtype for topic, connection in kept.items()}, data, kept


class RclpyRecorder:
    """What `ros2 bag record` does, through rclpy subscriptions: bytes as they come, types and QoS as they are
    offered.
    """

    def __init__(self, peer: Peer, path: Path, topics: dict[str, str]) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile

        self._peer, self.path, self._topics = peer, path, topics
        self.got: list[tuple[str, bytes, int]] = []
        for topic, type_name in topics.items():
            durability = (
                DurabilityPolicy.TRANSIENT_LOCAL
                if topics.profile(topics.relative(topic) or "").latched
                else DurabilityPolicy.VOLATILE
            )
            peer.node.create_subscription(
                messages.ros_class(type_name),
                topic,
                self._taker(topic),
                QoSProfile(depth=300, durability=durability),
                raw=True,
            )

    def _taker(self, topic: str) -> Any:
        return lambda data: self.got.append((topic, data, time.time_ns()))

    def count(self, topic: str) -> int:
        return sum(name == topic for name, _, _ in self.got)

    def finish(self) -> None:
        store = messages.store()
        with Writer(self.path, version=9, storage_plugin=StoragePlugin.MCAP) as bag:
            connections = {}
            for topic, type_name in self._topics.items():
                (offered,) = [
                    info.qos_profile for info in self._peer.node.get_publishers_info_by_topic(topic)
                ]
                profile = topics.Profile(
                    offered.depth or topics.profile(topics.relative(topic) or "").depth,
                    offered.reliability.name == "RELIABLE",
                    offered.durability.name == "TRANSIENT_LOCAL",
                )
                connections[topic] = bag.add_connection(
                    topic, type_name, typestore=store, offered_qos_profiles=[profile.offered()]
                )
            for topic, data, stamp in self.got:
                bag.write(connections[topic], stamp, data)


class Rosbag2Recorder:
    """`ros2 bag record` itself."""

    def __init__(self, peer: Peer, path: Path, topics: dict[str, str]) -> None:
        self.path = path
        self._process = subprocess.Popen(
            ["ros2", "bag", "record", "-s", "mcap", "-o", str(path), "--topics", *topics],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ,
            start_new_session=True,
        )
        self._peer, self._topics = peer, topics
        wait_for(
            lambda: all(peer.node.count_subscribers(topic) >= 1 for topic in topics), "rosbag2 subscribes"
        )

    def finish(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60.0)


def has_rosbag2() -> bool:
    if shutil.which("ros2") is None:
        return False
    return (
        subprocess.run(["ros2", "bag", "record", "--help"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.parametrize("recorder", ["rclpy", "rosbag2"])
def test_a_bag_written_without_ros_and_one_recorded_under_ros_agree_in_topics_types_bytes_and_qos(
    peer: Peer, own: Path, tmp_path: Path, recorder: str
) -> None:
    if recorder == "rosbag2" and not has_rosbag2():
        pytest.skip("`ros2 bag` is not installed")
    types, data, connections = contents(own)
    host = peer.host("replay", (Part("replay", BagSource),), path=str(own), jpeg_quality=92)
    assert peer.change("replay", CONFIGURE)
    kind: Any = RclpyRecorder if recorder == "rclpy" else Rosbag2Recorder
    bag = kind(peer, tmp_path / "ros", types)
    outlets = host.outlets.topics
    names = {topic: topic.removeprefix("/eifer/") for topic in types}
    wait_for(lambda: all(outlets[name].subscribed for name in names.values()), "everything is listened to")
    assert peer.change("replay", ACTIVATE)
    if recorder == "rclpy":
        wait_for(
            lambda: all(bag.count(topic) == len(data[topic]) for topic in types),
            lambda: f"{[(t, bag.count(t)) for t in types]}",
        )
    else:
        wait_for(
            lambda: all(outlets[name].traffic.count == len(data[topic]) for topic, name in names.items()),
            "everything is published",
        )
        time.sleep(1.0)  # rosbag2 offers no way to see how far it is
    bag.finish()

    their_types, their_data, theirs = contents(tmp_path / "ros")
    assert their_types == types
    for topic in types:
        assert len(their_data[topic]) == len(data[topic]), topic
        if topic.endswith(
            "/compressed"
        ):  # decoded and encoded anew by the replay: the picture, not the bytes
            for mine, other in zip(data[topic], their_data[topic], strict=True):
                pictures = [
                    conversions.picture_of(messages.deserialise(raw, types[topic])).astype(int)
                    for raw in (mine, other)
                ]
                assert abs(pictures[0] - pictures[1]).max() <= 3
        else:
            assert all(
                same(mine, other) for mine, other in zip(data[topic], their_data[topic], strict=True)
            ), topic
        assert theirs[topic].digest == connections[topic].digest, topic
        mine, other = (
            connections[topic].ext.offered_qos_profiles[0],
            theirs[topic].ext.offered_qos_profiles[0],
        )
        assert (mine.reliability, mine.durability) == (other.reliability, other.durability), topic

    with Bag(own) as left, Bag(tmp_path / "ros") as right:
        assert {s.port for _, s in left.streams} - {"session"} == {s.port for _, s in right.streams}
        first = [(port, item.stamp) for _, port, item in left.items()]
        second = [(port, item.stamp) for _, port, item in right.items()]
    assert sorted(first) == sorted(second)


def test_a_recorded_bag_is_processed_in_a_node_as_it_is_without_ros(peer: Peer, own: Path) -> None:
    """The same EMG through the node and through the component alone gives the same activity."""
    host = peer.host(
        "pipeline",
        (Part("replay", BagSource), Part("emg", EmgProcessing)),
        ("replay", "emg"),
        **{"replay.path": str(own)},
    )
    assert peer.change("pipeline", CONFIGURE)
    heard = peer.listen("/eifer/emg/activity", "eifer_msgs/msg/MuscleActivity", raw=True)
    wait_for(lambda: host.outlets.topics["emg/activity"].subscribed, "the listener")
    assert peer.change("pipeline", ACTIVATE)
    alone = EmgProcessing()
    alone.setup()
    expected = [
        messages.serialise(conversions.to_wire(made.item, made.port)[0].message)
        for port, item in session()
        if port == "emg/raw"
        for made in alone.handle(port, item)
        if made.port == "emg/activity"
    ]
    recorded = [
        messages.serialise(conversions.to_wire(item, port)[0].message)
        for port, item in session()
        if port == "emg/activity"
    ]
    wait_for(
        lambda: len(heard) >= len(expected) + len(recorded),
        lambda: f"{len(heard)} of {len(expected) + len(recorded)}",
    )
    made = [data for data in heard if not any(same(data, each) for each in recorded)]
    assert len(made) == len(expected) and all(
        same(mine, other) for mine, other in zip(expected, made, strict=True)
    )


def test_the_recorder_node_writes_what_rosbags_reads_with_the_types_in_the_bag(
    peer: Peer, tmp_path: Path
) -> None:
    host = peer.host("recorder", (Part("recorder", Recorder),), path=str(tmp_path / "take"))
    assert peer.change("recorder", CONFIGURE) and peer.change("recorder", ACTIVATE)
    publisher = peer.publisher("/eifer/emg/raw", "eifer_msgs/msg/EmgChunk")
    sent = [item for port, item in session() if port == "emg/raw"]
    data = [messages.serialise(conversions.to_wire(item, "emg/raw")[0].message) for item in sent]
    for each in data:
        publisher.publish(each)
    wait_for(
        lambda: host.components["recorder"].health().values["items"] == len(sent), "everything is written"
    )
    assert host.trigger_shutdown().name == "SUCCESS"
    with AnyReader([tmp_path / "take"]) as reader:
        got = [bytes(raw) for connection, _, raw in reader.messages() if connection.topic == "/eifer/emg/raw"]
    assert len(got) == len(data) and all(same(mine, other) for mine, other in zip(data, got, strict=True))
