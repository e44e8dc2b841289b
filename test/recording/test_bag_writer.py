from __future__ import annotations

import errno
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosReliability

from eifer_ros.errors import RecordingError
from eifer_ros.recording.reader import Bag, read
from eifer_ros.recording.recover import recover
from eifer_ros.recording.writer import BagWriter
from eifer_ros.types import NS, EmgChunk, Frame, Item, JointTargets


def same(a: Item, b: Item) -> None:
    assert type(a) is type(b)
    for item_field in fields(a):
        left, right = getattr(a, item_field.name), getattr(b, item_field.name)
        if item_field.name == "velocity_limits":
            continue  # a JointTrajectory has no room for them
        if isinstance(left, np.ndarray):
            if item_field.name == "image":
                assert np.abs(left.astype(int) - right).max() <= 12  # JPEG
            else:
                np.testing.assert_allclose(left, right, atol=1e-6)
        else:
            assert left == (pytest.approx(right, abs=1e-6) if isinstance(left, float) else right), (
                item_field.name
            )


def test_every_kind_of_item_comes_back_as_it_was(tmp_path: Path, everything: list[tuple[str, Item]]) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for port, item in everything:
            writer.write(port, item)
    got = {recorded.topic: recorded.item for recorded in read(tmp_path / "bag")}
    assert set(got) == {port for port, _ in everything}
    for port, item in everything:
        same(item, got[port])
    assert writer.stats.written == {port: 1 for port, _ in everything}
    assert isinstance(got["animatronic/joint_trajectory"], JointTargets)


def test_depth_is_kept_to_the_millimetre_and_pictures_can_be_kept_raw(
    tmp_path: Path, frame: Callable[..., Frame]
) -> None:
    picture = frame(3, depth=True)
    with BagWriter(tmp_path / "bag", jpeg_quality=0) as writer:
        writer.write("camera/image_raw", picture)
    (got,) = (recorded.item for recorded in read(tmp_path / "bag"))
    assert np.array_equal(got.image, picture.image)
    np.testing.assert_allclose(got.depth, picture.depth, atol=1e-6)
    assert np.array_equal(got.intrinsics, picture.intrinsics)


def test_rosbags_reads_every_type_from_the_recording_alone(
    tmp_path: Path, everything: list[tuple[str, Item]]
) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for port, item in everything:
            writer.write(port, item)
    with AnyReader([tmp_path / "bag"]) as reader:  # without our type store
        types = {
            reader.deserialize(data, connection.msgtype).__msgtype__
            for connection, _, data in reader.messages()
        }
    assert {name for name in types if name.startswith("eifer_msgs")} == {
        f"eifer_msgs/msg/{name}"
        for name in (
            "EmgChunk",
            "EmgChannelInfo",
            "MuscleActivity",
            "FlameParameters",
            "Blendshapes",
            "HeadModelInfo",
            "Marker",
            "FaceDisplacement",
            "FaceEvent",
        )
    }


def test_mcap_reads_it_too_and_every_chunk_is_zstd(small_bag: Path) -> None:
    with (small_bag / "small.mcap").open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert reader.get_header().profile == "ros2"
        assert {index.compression for index in summary.chunk_indexes} == {"zstd"}
        assert summary.statistics.message_count == sum(1 for _ in reader.iter_messages()) == 60 + 60 + 200 + 1
        assert {schema.encoding for schema in summary.schemas.values()} == {"ros2msg"}


def test_metadata_is_that_of_rosbag2_version_9_with_the_qos_of_each_topic(small_bag: Path) -> None:
    metadata = yaml.safe_load((small_bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["version"] == 9
    assert metadata["storage_identifier"] == "mcap"
    assert metadata["relative_file_paths"] == ["small.mcap"]
    assert metadata["message_count"] == 321
    assert '"participant": "p07"' in metadata["custom_data"]["eifer"]
    with AnyReader([small_bag]) as reader:
        offered = {
            connection.topic: connection.ext.offered_qos_profiles[0] for connection in reader.connections
        }
    assert {topic: qos.depth for topic, qos in offered.items()} == {
        "/eifer/session": 1,
        "/eifer/camera/image_raw/compressed": 2,
        "/eifer/face/vision": 10,
        "/eifer/emg/raw": 200,
    }
    assert offered["/eifer/session"].durability is QosDurability.TRANSIENT_LOCAL
    assert {qos.reliability for qos in offered.values()} == {QosReliability.RELIABLE}


def test_log_times_are_acquisition_stamps(small_bag: Path) -> None:
    with Bag(small_bag) as bag:
        messages = list(
            bag.messages([connection for connection, stream in bag.streams if stream.port != "session"])
        )
    assert len(messages) == 320
    assert all(message.log_time == message.stamp for message in messages)


def test_the_session_record_comes_back(small_bag: Path) -> None:
    with Bag(small_bag) as bag:
        assert bag.session["participant"] == "p07"
        assert bag.session["seed"] == 3
        assert bag.session["namespace"] == "/eifer"


def test_an_existing_path_is_never_overwritten(tmp_path: Path, chunk: Callable[..., EmgChunk]) -> None:
    path = tmp_path / "bag"
    with BagWriter(path) as writer:
        writer.write("emg/raw", chunk(0))
    before = (path / "bag.mcap").read_bytes()
    with pytest.raises(RecordingError, match="exists already and is never overwritten"):
        BagWriter(path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RecordingError, match="exists already"):
        BagWriter(tmp_path / "file")
    assert (path / "bag.mcap").read_bytes() == before


def test_a_recording_without_a_single_item_is_still_one(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag", session={"seed": 9}):
        pass
    assert list(read(tmp_path / "bag")) == []
    with Bag(tmp_path / "bag") as bag:
        assert bag.session["seed"] == 9


class Gate:
    """Holds the writing thread before each message until opened."""

    def __init__(self, writer: BagWriter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.waiting = threading.Event()
        store = writer._store

        def held(port: str, item: Item) -> None:
            self.waiting.set()
            assert self.open.wait(120)
            store(port, item)

        monkeypatch.setattr(writer, "_store", held)


def test_a_full_queue_drops_the_oldest_pictures_counted_and_no_emg(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    frame: Callable[..., Frame],
    chunk: Callable[..., EmgChunk],
) -> None:
    size = frame(0).image.nbytes
    with BagWriter(tmp_path / "bag", queue_bytes=5 * size) as writer:
        gate = Gate(writer, monkeypatch)
        writer.write("camera/image_raw", frame(0))
        assert gate.waiting.wait(120)  # picture 0 is in the thread's hands, the queue is empty
        for k in range(1, 21):
            writer.write("camera/image_raw", frame(k))
            writer.write("emg/raw", chunk(k))
        assert writer.stats.dropped == {"camera/image_raw": 15}
        gate.open.set()
    got = list(read(tmp_path / "bag"))
    assert [r.item.first_index for r in got if r.topic == "emg/raw"] == [20 * k for k in range(1, 21)]
    assert [r.stamp for r in got if r.topic == "camera/image_raw"] == [
        frame(k).stamp for k in (0, 16, 17, 18, 19, 20)
    ]


def test_with_wait_a_full_queue_holds_the_caller_back_and_drops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: Callable[..., Frame]
) -> None:
    writer = BagWriter(tmp_path / "bag", queue_bytes=3 * frame(0).image.nbytes, wait=True)
    gate = Gate(writer, monkeypatch)
    sent = []

    def send() -> None:
        for k in range(20):
            writer.write("camera/image_raw", frame(k))
            sent.append(k)

    thread = threading.Thread(target=send)
    thread.start()
    assert gate.waiting.wait(120)
    thread.join(0.2)
    assert thread.is_alive()  # held back
    assert len(sent) <= 4
    gate.open.set()
    thread.join(120)
    writer.close()
    assert len(list(read(tmp_path / "bag"))) == 20
    assert writer.stats.dropped == {}


def test_a_picture_larger_than_the_whole_queue_is_still_written(
    tmp_path: Path, frame: Callable[..., Frame]
) -> None:
    with BagWriter(tmp_path / "bag", queue_bytes=10, wait=True) as writer:
        for k in range(3):
            writer.write("camera/image_raw", frame(k))
    assert len(list(read(tmp_path / "bag"))) == 3


def test_an_item_that_breaks_its_contract_is_counted_and_the_rest_recorded(
    tmp_path: Path, chunk: Callable[..., EmgChunk]
) -> None:
    good = chunk(0)
    bad = EmgChunk(good.stamp + 1, 2000.0, good.channels, np.full((5, 3), np.nan, np.float32), 20)
    with BagWriter(tmp_path / "bag") as writer:
        for item in (good, bad, chunk(1)):
            writer.write("emg/raw", item)
    assert writer.stats.rejected == 1
    assert "samples" in writer.stats.last_rejection
    assert len(list(read(tmp_path / "bag"))) == 2


def test_what_was_recorded_is_safe_once_a_second_has_passed(
    tmp_path: Path, chunk: Callable[..., EmgChunk]
) -> None:
    time_s = [0.0]
    writer = BagWriter(tmp_path / "bag", monotonic=lambda: time_s[0])

    def written(count: int) -> bool:
        return writer.stats.written.get("emg/raw", 0) == count

    for k in range(5):
        writer.write("emg/raw", chunk(k))
    wait_until(lambda: written(5))
    assert writer.stats.safe == 0
    time_s[0] = 1.01
    writer.write("emg/raw", chunk(5))
    wait_until(lambda: writer.stats.safe == 6)
    # the file as a crash would leave it
    (tmp_path / "crash.mcap").write_bytes(writer.file.read_bytes())
    assert recover(tmp_path / "crash.mcap").counts["/eifer/emg/raw"] == 6
    writer.close()


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(12000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("the condition did not come true within 120 s")


_CHILD = """
import itertools, sys
import numpy as np
from eifer_ros.recording.writer import BagWriter
from eifer_ros.types import EmgChunk, Frame, NS
rng = np.random.default_rng(0)
writer = BagWriter(sys.argv[1], flush_s=0.3)
for k in itertools.count():
    stamp = 1_700_000_000 * NS + k * NS // 100
    writer.write("emg/raw", EmgChunk(stamp, 2000.0, ("a",), rng.normal(size=(20, 1)), 20 * k))
    if k % 3 == 0:
        writer.write("camera/image_raw", Frame(stamp, rng.integers(0, 255, (240, 320, 3), np.uint8)))
    while writer.stats.queued > 20:
        pass
    print(writer.stats.safe, flush=True)
"""


def test_a_killed_process_leaves_everything_up_to_its_last_flush(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "bag"
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE, text=True, cwd=root
    )
    safe = 0
    assert child.stdout is not None
    while safe < 150:
        line = child.stdout.readline()
        assert line, "the writer ended by itself"
        safe = int(line)
    child.send_signal(signal.SIGKILL)
    child.wait(120)
    for line in child.stdout:  # what it had said before it died
        safe = int(line) if line.endswith("\n") else safe
    child.stdout.close()
    with pytest.raises(RecordingError, match=r"cut off mid-write.*eifer recover"):
        next(read(path))
    before = (path / "bag.mcap").read_bytes()
    result = recover(path)
    assert (path / "bag.mcap").read_bytes() == before
    assert result.messages >= safe
    items = list(read(result.out))
    emg = [recorded.item for recorded in items if recorded.topic == "emg/raw"]
    assert [item.first_index for item in emg] == [20 * k for k in range(len(emg))]  # no hole before the cut
    assert len(items) >= safe
    with Bag(result.out) as bag:
        assert bag.session["eifer"]


def test_a_disk_with_too_little_space_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="30 MB free on that disk; at least 210 MB"):
        BagWriter(tmp_path / "a" / "bag", free_bytes=lambda path: 30_000_000)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_ends_the_recording_whole(
    tmp_path: Path, chunk: Callable[..., EmgChunk]
) -> None:
    free = [10**12]
    time_s = [0.0]
    writer = BagWriter(tmp_path / "bag", free_bytes=lambda path: free[0], monotonic=lambda: time_s[0])
    for k in range(10):
        writer.write("emg/raw", chunk(k))
    wait_until(lambda: writer.stats.written.get("emg/raw") == 10)
    free[0], time_s[0] = 1_000_000, 2.0
    writer.write("emg/raw", chunk(10))
    wait_until(lambda: bool(writer.failure))
    with pytest.raises(RecordingError, match="nearly full"):
        writer.write("emg/raw", chunk(11))
    with pytest.raises(RecordingError, match="nearly full"):
        writer.close()
    assert len(list(read(tmp_path / "bag"))) == 11


def test_a_write_error_is_told_to_the_caller_and_what_was_flushed_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: Callable[..., EmgChunk]
) -> None:
    time_s = [0.0]
    writer = BagWriter(tmp_path / "bag", monotonic=lambda: time_s[0])
    for k in range(2):
        writer.write("emg/raw", chunk(k))
    wait_until(lambda: writer.stats.written.get("emg/raw") == 2)
    time_s[0] = 2.0
    wait_until(lambda: writer.stats.safe == 2)

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer._writer, "write", full)
    writer.write("emg/raw", chunk(2))
    wait_until(lambda: bool(writer.failure))
    with pytest.raises(RecordingError, match=r"No space left on device.*eifer recover"):
        writer.write("emg/raw", chunk(3))
    with pytest.raises(RecordingError, match="No space left"):
        writer.close()
    writer.close()
    assert recover(tmp_path / "bag").counts["/eifer/emg/raw"] == 2


def test_an_error_of_the_caller_does_not_cost_the_recording(
    tmp_path: Path, chunk: Callable[..., EmgChunk]
) -> None:
    with pytest.raises(ZeroDivisionError), BagWriter(tmp_path / "bag") as writer:
        writer.write("emg/raw", chunk(0))
        raise ZeroDivisionError
    assert len(list(read(tmp_path / "bag"))) == 1


def test_a_closed_recording_refuses_more(tmp_path: Path, chunk: Callable[..., EmgChunk]) -> None:
    writer = BagWriter(tmp_path / "bag")
    writer.close()
    writer.close()
    with pytest.raises(RecordingError, match="closed"):
        writer.write("emg/raw", chunk(0))


def test_stamps_of_any_epoch_are_kept(tmp_path: Path) -> None:
    item = EmgChunk(5 * NS, 1000.0, ("a",), np.zeros((4, 1), np.float32))
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("emg/raw", item)
    assert [recorded.stamp for recorded in read(tmp_path / "bag")] == [5 * NS]
