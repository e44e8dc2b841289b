from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.writer import Writer as McapFile
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from eifer_ros.errors import RecordingError
from eifer_ros.recording.reader import Bag, read
from eifer_ros.recording.writer import BagWriter
from eifer_ros.types import NS, EmgChunk, FaceState, Frame, Marker
from eifer_ros.wire import messages
from eifer_ros.wire.conversions import to_wire

START = 1_700_000_000 * NS


def foreign(path: Path, topic: str, type_name: str, message: Any) -> Path:
    """A recording as another project makes one."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(topic, type_name, typestore=messages.store())
        writer.write(connection, START, messages.serialise(message))
    return path


def string(text: str) -> Any:
    return messages.ROSBAGS.make("std_msgs/msg/String", data=text)


def test_items_come_in_stamp_order_whatever_order_they_were_recorded_in(tmp_path: Path) -> None:
    """As `ros2 bag record` does it: log times are arrivals, and a late topic lags behind."""
    path = tmp_path / "ros"
    rng = np.random.default_rng(1)
    arrivals = []
    for k in range(300):
        stamp = START + k * NS // 100
        late = round(float(rng.uniform(0, 0.9)) * NS)
        arrivals.append((stamp + late, "/lab/p07/markers", Marker(stamp, f"m{k}", "note")))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        (wire,) = to_wire(arrivals[0][2], "markers")
        connection = writer.add_connection("/lab/p07/markers", wire.type_name, typestore=messages.store())
        for log_time, _, item in sorted(arrivals, key=lambda arrival: arrival[0]):
            writer.write(connection, log_time, messages.serialise(to_wire(item, "markers")[0].message))
    got = list(read(path))
    assert [recorded.item.label for recorded in got] == [f"m{k}" for k in range(300)]
    assert {recorded.topic for recorded in got} == {"markers"}  # of any namespace


def test_two_readings_are_the_same(small_bag: Path) -> None:
    def digest() -> list[tuple[Any, ...]]:
        return [
            (r.stamp, r.topic, r.item.image.tobytes() if isinstance(r.item, Frame) else repr(r.item))
            for r in read(small_bag)
        ]

    assert digest() == digest()


def test_a_file_and_its_folder_read_the_same_with_or_without_metadata(
    small_bag: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "x.mcap").write_bytes((small_bag / "small.mcap").read_bytes())
    lists = [[(r.stamp, r.topic) for r in read(path)] for path in (small_bag, small_bag / "small.mcap", bare)]
    assert lists[0] == lists[1] == lists[2]
    assert len(lists[0]) == 320


def test_topics_and_times_can_be_chosen(small_bag: Path) -> None:
    got = list(read(small_bag, topics=["face/vision"], start=START + NS // 2, stop=START + NS))
    assert len(got) == 15
    assert all(isinstance(r.item, FaceState) and START + NS // 2 <= r.stamp < START + NS for r in got)
    with pytest.raises(
        RecordingError, match=r"no topic 'emg/rae'; it has camera/image_raw, emg/raw, face/vision"
    ):
        list(read(small_bag, topics=["emg/rae"]))


def test_intrinsics_and_depth_join_their_picture_even_when_recorded_after_it(
    tmp_path: Path, frame: Callable[..., Frame]
) -> None:
    picture = frame(0, depth=True)
    parts = to_wire(picture, "camera/image_raw", jpeg_quality=90)
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for k, part in enumerate(reversed(parts)):
            connection = writer.add_connection(
                f"/cam/{part.topic}", part.type_name, typestore=messages.store()
            )
            writer.write(connection, picture.stamp + k * 1_000_000, messages.serialise(part.message))
    (got,) = read(tmp_path / "bag")
    assert got.topic == "camera/image_raw"
    assert np.array_equal(got.item.intrinsics, picture.intrinsics)
    np.testing.assert_allclose(got.item.depth, picture.depth, atol=1e-6)


def test_a_picture_recorded_raw_and_compressed_comes_once_and_raw(
    tmp_path: Path, frame: Callable[..., Frame]
) -> None:
    picture = frame(0)
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for quality in (50, 0):
            (part,) = to_wire(picture, "camera/image_raw", jpeg_quality=quality)
            connection = writer.add_connection(
                f"/eifer/{part.topic}", part.type_name, typestore=messages.store()
            )
            writer.write(connection, picture.stamp, messages.serialise(part.message))
    (got,) = read(tmp_path / "bag")
    assert np.array_equal(got.item.image, picture.image)


@pytest.mark.parametrize("namespace", ["/eifer", "/a/b/c", ""])
def test_any_namespace_is_accepted(tmp_path: Path, namespace: str, everything: list[tuple[str, Any]]) -> None:
    with BagWriter(tmp_path / "bag", namespace=namespace) as writer:
        for port, item in everything:
            writer.write(port, item)
    assert {r.topic for r in read(tmp_path / "bag")} == {port for port, _ in everything}


def test_a_recording_of_another_project_is_refused_with_what_it_has_and_what_was_expected(
    tmp_path: Path,
) -> None:
    path = foreign(tmp_path / "turtle", "/turtle1/status", "std_msgs/msg/String", string("hello"))
    with pytest.raises(RecordingError) as caught:
        list(read(path))
    text = str(caught.value)
    assert "not a recording of eifer" in text
    assert "camera/image_raw, emg/raw" in text
    assert "/turtle1/status (std_msgs/msg/String)" in text
    assert "\n" not in text


def test_a_session_topic_of_another_project_is_not_ours(tmp_path: Path) -> None:
    path = foreign(tmp_path / "other", "/other/session", "std_msgs/msg/String", string('{"user": 1}'))
    with pytest.raises(RecordingError, match="not a recording of eifer"):
        list(read(path))


def test_our_topic_with_another_type_is_named(tmp_path: Path) -> None:
    path = foreign(
        tmp_path / "other",
        "/eifer/emg/raw",
        "std_msgs/msg/Float64",
        messages.ROSBAGS.make("std_msgs/msg/Float64", data=1.0),
    )
    with pytest.raises(
        RecordingError,
        match=r"/eifer/emg/raw is std_msgs/msg/Float64, eifer's emg/raw is eifer_msgs/msg/EmgChunk",
    ):
        list(read(path))


def test_a_message_defined_otherwise_is_refused_not_misread(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("std_msgs/Header header\nfloat32 rate_hz\n", "eifer_msgs/msg/EmgChunk"))
    kinds = store.types
    stamp = kinds["builtin_interfaces/msg/Time"](sec=1, nanosec=0)
    message = kinds["eifer_msgs/msg/EmgChunk"](
        header=kinds["std_msgs/msg/Header"](stamp=stamp, frame_id=""), rate_hz=2.0
    )
    with Writer(tmp_path / "old", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/eifer/emg/raw", "eifer_msgs/msg/EmgChunk", typestore=store)
        writer.write(connection, NS, store.serialize_cdr(message, "eifer_msgs/msg/EmgChunk"))
    with pytest.raises(RecordingError, match="another version of eifer_msgs/msg/EmgChunk"):
        list(read(tmp_path / "old"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"plain text, not a bag at all", "not an MCAP"),
        (b"\x89MCAP0\r\n", "cut off mid-write"),
        (b"\x89MC", "not an MCAP"),
    ],
)
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.mcap"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=reason):
        list(read(path))


def test_a_missing_recording_and_a_folder_without_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such recording"):
        list(read(tmp_path / "none"))
    with pytest.raises(RecordingError, match=r"neither metadata\.yaml nor an \.mcap file"):
        list(read(tmp_path))


@given(st.floats(0.001, 0.999))
def test_a_recording_cut_anywhere_is_refused_with_the_way_out(small_bag: Path, share: float) -> None:
    data = (small_bag / "small.mcap").read_bytes()
    path = small_bag.parent / "cut.mcap"
    path.write_bytes(data[: max(int(len(data) * share), 8)])
    with pytest.raises(RecordingError, match=r"cut off mid-write; .*eifer recover .*cut\.mcap"):
        list(read(path))


def test_damage_in_the_middle_is_refused_with_the_way_out(small_bag: Path, tmp_path: Path) -> None:
    data = bytearray((small_bag / "small.mcap").read_bytes())
    middle = len(data) // 3
    data[middle : middle + 64] = b"\xff" * 64
    path = tmp_path / "x.mcap"
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=r"damaged .*eifer recover"):
        list(read(path))


def test_a_message_that_breaks_its_contract_is_named_with_topic_and_time(
    tmp_path: Path, chunk: Callable[..., EmgChunk]
) -> None:
    good = to_wire(chunk(0), "emg/raw")[0].message
    good.samples = np.full_like(good.samples, np.inf)
    path = foreign(tmp_path / "bad", "/eifer/emg/raw", "eifer_msgs/msg/EmgChunk", good)
    with pytest.raises(RecordingError, match=r"/eifer/emg/raw at \d+ ns: EmgChunk\.samples"):
        list(read(path))


def test_an_mcap_of_another_profile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    with path.open("wb") as stream:
        writer = McapFile(stream)
        writer.start(profile="other")
        writer.finish()
    with pytest.raises(RecordingError, match="cannot be read as a rosbag2 recording"):
        list(read(path))


def test_unknown_topics_beside_ours_are_left_out_and_listed(
    tmp_path: Path, chunk: Callable[..., EmgChunk]
) -> None:
    (part,) = to_wire(chunk(0), "emg/raw")
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        ours = writer.add_connection("/eifer/emg/raw", part.type_name, typestore=messages.store())
        theirs = writer.add_connection("/rosout_like", "std_msgs/msg/String", typestore=messages.store())
        writer.write(ours, START, messages.serialise(part.message))
        writer.write(theirs, START, messages.serialise(string("x")))
    assert [r.topic for r in read(tmp_path / "bag")] == ["emg/raw"]
    with Bag(tmp_path / "bag") as bag:
        assert [connection.topic for connection in bag.foreign] == ["/rosout_like"]
