from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eifer_ros import config, topics
from eifer_ros.component import Level
from eifer_ros.errors import ConfigError, RecordingError
from eifer_ros.recording.info import info
from eifer_ros.recording.reader import Bag, read
from eifer_ros.recording.recorder import RecordConfig, Recorder
from eifer_ros.recording.source import BagSource, ReplayConfig
from eifer_ros.recording.streams import PORTS
from eifer_ros.recording.writer import BagWriter
from eifer_ros.types import NS, EmgChunk, Frame

START = 1_700_000_000 * NS


def test_replay_emits_what_was_recorded_on_its_ports(small_bag: Path) -> None:
    source = BagSource(ReplayConfig(path=str(small_bag)))
    source.setup()
    got = [(emission.item.stamp, emission.port) for emission in source.produce()]
    assert got == [(r.stamp, r.topic) for r in read(small_bag)]
    assert source.available == ("camera/image_raw", "emg/raw", "face/vision")
    assert source.live is False
    assert source.health().values["items"] == 320


def test_replay_of_chosen_topics_over_and_over_until_stopped(small_bag: Path) -> None:
    source = BagSource(ReplayConfig(path=str(small_bag), topics=["face/vision"], loop=True))
    source.setup()
    stamps = []
    for emission in source.produce():
        stamps.append(emission.item.stamp)
        if len(stamps) == 150:
            source.stop()
    assert stamps[:60] == stamps[60:120]
    assert len(stamps) == 150


def test_a_recording_that_cannot_be_replayed_is_refused_at_setup(small_bag: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such recording"):
        BagSource(ReplayConfig(path=str(tmp_path / "none"))).setup()
    with pytest.raises(RecordingError, match="no topic 'face/fused'"):
        BagSource(ReplayConfig(path=str(small_bag), topics=["face/fused"])).setup()


def test_replaying_and_recording_again_gives_the_same_items(small_bag: Path, tmp_path: Path) -> None:
    recorder = Recorder(RecordConfig(path=str(tmp_path / "copy")), wait=True)
    recorder.setup()
    for port, item in BagSource(ReplayConfig(path=str(small_bag))).produce():
        recorder.handle(port, item)
    recorder.close()
    first, second = ([(r.stamp, r.topic) for r in read(path)] for path in (small_bag, tmp_path / "copy"))
    assert first == second


def test_the_recorder_takes_what_it_is_told_to_and_nothing_else(
    tmp_path: Path, frame: Callable[..., Frame], chunk: Callable[..., EmgChunk]
) -> None:
    recorder = Recorder(RecordConfig(path=str(tmp_path / "bag"), topics=["emg/raw"]), {"participant": "p1"})
    assert recorder.health().level is Level.STALE
    with pytest.raises(RecordingError, match="before its setup"):
        recorder.handle("emg/raw", chunk(0))
    recorder.setup()
    for k in range(3):
        recorder.handle("emg/raw", chunk(k))
        recorder.handle("camera/image_raw", frame(k))
    assert recorder.health().level is Level.OK
    recorder.close()
    recorder.close()
    assert {r.topic for r in read(tmp_path / "bag")} == {"emg/raw"}
    with Bag(tmp_path / "bag") as bag:
        assert bag.session["participant"] == "p1"


def test_a_refused_item_shows_in_health(tmp_path: Path, chunk: Callable[..., EmgChunk]) -> None:
    recorder = Recorder(RecordConfig(path=str(tmp_path / "bag")))
    recorder.setup()
    recorder.handle("emg/raw", EmgChunk(START, 1000.0, ("a",), np.full((2, 1), np.nan)))
    recorder.close()
    assert recorder.health().level is Level.WARN
    assert "1 items refused" in recorder.health().message


def test_the_time_goes_into_the_name_where_asked_and_other_percent_signs_stay(tmp_path: Path) -> None:
    recorder = Recorder(RecordConfig(path=f"{tmp_path}/%Y_100%_x"), now=lambda: 1_700_000_000 * NS)
    recorder.setup()
    recorder.close()
    assert recorder.path == tmp_path / "2023_100%_x"


def test_an_unknown_topic_is_refused_with_the_near_one() -> None:
    with pytest.raises(ConfigError, match=r"unknown topic 'emg/rwa'; did you mean 'emg/raw'"):
        Recorder(RecordConfig(topics=["emg/rwa"]))


def test_the_config_file_holds_the_defaults(root: Path) -> None:
    loaded = config.load(RecordConfig, "recorder", root / "config" / "record.yaml")
    assert loaded.model_copy(update={"topics": [t for t in loaded.topics if t]}) == RecordConfig()


def test_every_port_that_can_be_recorded_has_a_quality_of_service() -> None:
    assert {port.name for port in PORTS} <= set(topics.TOPICS)
    assert {port.name for port in PORTS if port.latched} == {
        n for n, q in topics.TOPICS.items() if q.qos is topics.Standard.LATCHED
    }


def test_info_counts_rates_duration_and_size(small_bag: Path) -> None:
    got = info(small_bag)
    topics = {topic.port: topic for topic in got.topics if topic.port}
    assert {port: topic.count for port, topic in topics.items()} == {
        "camera/image_raw": 60,
        "face/vision": 60,
        "emg/raw": 200,
    }
    assert topics["camera/image_raw"].rate_hz == pytest.approx(30, rel=1e-3)
    assert topics["emg/raw"].rate_hz == pytest.approx(100, rel=1e-3)
    assert got.start == START
    assert got.duration_s == pytest.approx(1.99, abs=1e-6)
    assert got.messages == 321
    assert got.bytes == sum(file.stat().st_size for file in small_bag.iterdir())
    assert got.session["participant"] == "p07"
    (emg,) = got.emg
    assert (emg.samples, emg.lost, emg.not_recorded) == (4000, 0, 0)
    assert emg.rate_hz == 2000
    assert emg.measured_hz == pytest.approx(2000, rel=1e-6)
    assert all(topic.gaps == 0 for topic in got.topics)
    assert json.loads(json.dumps(got.as_dict()))["duration_s"] == pytest.approx(1.99)


def test_info_finds_gaps_lost_samples_and_chunks_that_never_reached_the_disk(
    tmp_path: Path, chunk: Callable[..., EmgChunk], frame: Callable[..., Frame]
) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        index = 0
        for k in range(100):
            lost = 7 if k == 40 else 0
            index += lost
            if k != 70:  # chunk 70 is made but never written
                writer.write("emg/raw", chunk(k, lost=lost, first=index))
            index += 20
            if not 50 <= k < 80:
                writer.write("camera/image_raw", frame(3 * k))
    got = info(tmp_path / "bag")
    (emg,) = got.emg
    assert (emg.samples, emg.lost, emg.not_recorded) == (99 * 20, 7, 20)
    camera = next(topic for topic in got.topics if topic.port == "camera/image_raw")
    assert camera.gaps == 1
    assert camera.longest_gap_s == pytest.approx(31 * 3 / 30, rel=1e-3)


def test_info_of_another_projects_recording_lists_its_topics(tmp_path: Path) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer

    from eifer_ros.wire import messages

    with Writer(tmp_path / "other", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/chatter", "std_msgs/msg/String", typestore=messages.store())
        for k in range(5):
            data = messages.serialise(messages.ROSBAGS.make("std_msgs/msg/String", data="x"))
            writer.write(connection, START + k * NS, data)
    got = info(tmp_path / "other")
    assert [(topic.topic, topic.port, topic.count) for topic in got.topics] == [("/chatter", "", 5)]
    assert got.duration_s == 4
    assert got.session == {}


def test_info_of_a_cut_recording_says_how_to_recover_it(small_bag: Path, tmp_path: Path) -> None:
    shutil.copytree(small_bag, tmp_path / "bag")
    file = tmp_path / "bag" / "small.mcap"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(RecordingError, match="eifer recover"):
        info(tmp_path / "bag")
