"""The bytes that leave a node are those rosidl's own serialiser would have made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ros_peer import same

from eifer_ros import resources, types
from eifer_ros.wire import conversions, messages

sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))
import strategies as items

SLOW = settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ITEMS: dict[str, tuple[str, Any]] = {
    "EmgChunk": ("emg/raw", items.chunks()),
    "EmgChannelInfo": ("emg/channels", items.channel_infos()),
    "MuscleActivity": ("emg/activity", items.activities()),
    "FaceState": ("face/vision", items.faces()),
    "Blendshapes": ("face/blendshapes", items.blendshapes()),
    "FaceDisplacement": ("face/displacement", items.displacements()),
    "FaceEvent": ("face/events", items.events()),
}


def ros_bytes(message: Any) -> bytes:
    from rclpy.serialization import serialize_message

    return bytes(serialize_message(message))


@pytest.mark.parametrize("name", ITEMS)
def test_an_item_has_the_bytes_of_rclpy(eifer_msgs: None, name: str) -> None:
    port, strategy = ITEMS[name]

    @given(strategy)
    @SLOW
    def check(item: Any) -> None:
        ours = messages.serialise(conversions.to_wire(item, port)[0].message)
        theirs = conversions.to_wire(item, port, messages.rosidl())[0].message
        assert same(ours, ros_bytes(theirs))

    check()


@given(size=st.tuples(st.integers(1, 9), st.integers(1, 9)), quality=st.sampled_from([0, 90]))
@SLOW
def test_a_picture_and_all_that_goes_with_it_has_the_bytes_of_rclpy(
    eifer_msgs: None, size: tuple[int, int], quality: int
) -> None:
    height, width = size
    rng = np.random.default_rng(height * 10 + width)
    frame = types.Frame(
        123_456_789_012,
        rng.integers(0, 255, (height, width, 3)).astype(np.uint8),
        np.array([[50.0, 0, 2], [0, 51, 3], [0, 0, 1]]),
        rng.random((height, width)).astype(np.float32),
        "camera_optical",
    )
    ours = conversions.frame_to_wire(frame, "camera/image_raw", jpeg_quality=quality)
    theirs = conversions.frame_to_wire(frame, "camera/image_raw", messages.rosidl(), jpeg_quality=quality)
    assert [part.topic for part in ours] == [part.topic for part in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert same(messages.serialise(mine.message), ros_bytes(other.message)), mine.topic


@pytest.mark.parametrize("name", [name for name, _ in messages.definitions(resources.message_definitions())])
def test_every_message_service_and_action_part_reads_back_through_rclpy(eifer_msgs: None, name: str) -> None:
    """Default values through rosidl, its bytes through ours and back: nothing changes."""
    from rclpy.serialization import deserialize_message

    package, kind, leaf = name.split("/")
    if kind == "msg":
        cls = messages.ros_class(name)
    else:
        whole, part = leaf.rsplit("_", 1)
        cls = getattr(messages.ros_class(f"{package}/{kind}/{whole}"), part)
    message = cls()
    data = ros_bytes(message)
    ours = messages.store().deserialize_cdr(data, name)
    back = bytes(messages.store().serialize_cdr(ours, name))
    assert same(back, data)
    assert deserialize_message(back, cls) == message


def test_joints_and_markers_have_the_bytes_of_rclpy(eifer_msgs: None) -> None:
    targets = types.JointTargets(17 * types.NS + 3, ("jaw", "brow"), np.array([0.1, -0.2]), np.ones(2))
    marker = types.Marker(18 * types.NS, "Smile-Open", "start", "now")
    for item, port in (
        (targets, "animatronic/joint_trajectory"),
        (targets, "joint_states"),
        (marker, "markers"),
    ):
        ours = messages.serialise(conversions.to_wire(item, port)[0].message)
        assert same(ours, ros_bytes(conversions.to_wire(item, port, messages.rosidl())[0].message)), port


def test_what_rclpy_serialised_is_the_item_again(eifer_msgs: None) -> None:
    chunk = types.EmgChunk(
        5 * types.NS,
        2048.0,
        ("A", "B"),
        np.arange(6, dtype=np.float32).reshape(3, 2) * 1e-6,
        17,
        2,
        np.arange(3.0),
    )
    sent = conversions.to_wire(chunk, "emg/raw", messages.rosidl())[0].message
    got = conversions.from_wire(
        messages.deserialise(ros_bytes(sent), "eifer_msgs/msg/EmgChunk"), "eifer_msgs/msg/EmgChunk"
    )
    assert isinstance(got, types.EmgChunk)
    assert np.array_equal(got.samples, chunk.samples) and np.array_equal(got.raw_stamps, chunk.raw_stamps)
    assert (got.stamp, got.first_index, got.lost, got.channels) == (chunk.stamp, 17, 2, ("A", "B"))


def test_a_face_view_mesh_is_a_marker_to_rclpy(eifer_msgs: None) -> None:
    from rclpy.serialization import deserialize_message

    from eifer_ros.nodes._face_view import MARKER, triangle_marker

    corners, colours = np.arange(18.0).reshape(6, 3), np.linspace(0, 1, 24, dtype=np.float32).reshape(6, 4)
    marker = deserialize_message(
        triangle_marker(3 * types.NS, "face_f1", "face/mesh", corners, colours), messages.ros_class(MARKER)
    )
    assert [(p.x, p.y, p.z) for p in marker.points] == [tuple(row) for row in corners.tolist()]
    assert np.allclose([(c.r, c.g, c.b, c.a) for c in marker.colors], colours)
    assert (marker.type, marker.header.frame_id, marker.frame_locked) == (11, "face_f1", True)
