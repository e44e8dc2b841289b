"""A recording whose camera has another clock, played with what `eifer sync` found."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eifer_ros.recording.reader import Bag
from eifer_ros.recording.source import BagSource, ReplayConfig
from eifer_ros.recording.sync import Sync, items_synced
from eifer_ros.recording.writer import BagWriter
from eifer_ros.types import NS, EmgChunk, Frame
from eifer_ros.viewer.player import BagPlayer

T0 = 1_790_000_000 * NS
LATE_S = 0.4


def clocks(grade: int = 1) -> Sync:
    return Sync("led", -LATE_S, 100.0, T0 + round(LATE_S * NS), 0.001, 0.002, 0.0003, 12, 0, grade)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Four seconds: a chunk and a picture ten times a second, of the same moments; the camera's stamps are
    late and drift.
    """
    with BagWriter(tmp_path / "apart", wait=True) as out:
        for step in range(40):
            moment = T0 + step * NS // 10
            out.write(
                "emg/raw",
                EmgChunk(moment, 100.0, ("a",), np.zeros((10, 1), np.float32), first_index=10 * step),
            )
            image = np.full((16, 16, 3), 5 * step, np.uint8)
            out.write("camera/image_raw", Frame(clocks().undo(moment), image))
    return tmp_path / "apart"


@given(st.integers(0, 3600 * NS), st.floats(-2, 2), st.floats(-300, 300))
def test_undoing_a_correction_gives_the_stamp_back(since: int, offset_s: float, drift_ppm: float) -> None:
    found = Sync("led", offset_s, drift_ppm, T0, 0.0, 0.0, 0.0, 9, 0, 1)
    assert (
        abs(found.correct(found.undo(T0 + since)) - (T0 + since)) <= 4096
    )  # a float of an hour in ns has steps of half a microsecond


def test_a_replay_brings_the_camera_onto_the_amplifiers_clock_and_keeps_the_order(bag: Path) -> None:
    clocks().save(bag)
    source = BagSource(ReplayConfig(path=str(bag)))
    source.setup()
    emitted = list(source.produce())
    assert len(emitted) == 80
    assert all(a.item.stamp <= b.item.stamp for a, b in pairwise(emitted))
    chunks = [e.item.stamp for e in emitted if e.port == "emg/raw"]
    pictures = [e.item.stamp for e in emitted if e.port == "camera/image_raw"]
    np.testing.assert_allclose(np.array(pictures) - T0, np.array(chunks) - T0, atol=1000)
    assert source.health().values["sync_grade"] == 1


@pytest.mark.parametrize("why", ["not asked for", "grade 0", "no file"])
def test_stamps_stay_where_nothing_says_better(bag: Path, why: str) -> None:
    if why != "no file":
        clocks(0 if why == "grade 0" else 1).save(bag)
    source = BagSource(ReplayConfig(path=str(bag), synced=why != "not asked for"))
    source.setup()
    first = next(e.item.stamp for e in source.produce() if e.port == "camera/image_raw")
    assert first == pytest.approx(T0 + LATE_S * NS, abs=100_000)


def test_the_recording_itself_is_never_changed(bag: Path) -> None:
    before = (bag / "apart.mcap").read_bytes()
    clocks().save(bag)
    BagSource(ReplayConfig(path=str(bag))).setup()
    assert (bag / "apart.mcap").read_bytes() == before


def test_reading_from_a_moment_on_misses_no_picture_of_it(bag: Path) -> None:
    with Bag(bag) as recording:
        found = list(items_synced(recording, clocks(), start=T0 + 2 * NS))
    assert sorted(entry.topic for entry in found) == ["camera/image_raw"] * 20 + ["emg/raw"] * 20
    with Bag(bag) as recording:
        assert {entry.topic for entry in items_synced(recording, clocks(), topics=["emg/raw"])} == {"emg/raw"}


def test_a_seek_on_the_page_shows_picture_and_muscles_of_one_moment(bag: Path) -> None:
    clocks().save(bag)
    player = BagPlayer(bag, playing=False)
    player.setup()
    player.seek(2.0)
    shown = {}
    for emission in player.produce():
        shown[emission.port] = emission.item
        if isinstance(emission.item, Frame):
            break
    player.stop()
    # the fifth of a second before the moment and the moment itself are shown; without sync the picture would
    # be of 1.6 s
    assert int(shown["camera/image_raw"].image[0, 0, 0]) // 5 in (19, 20)
    assert player.health().values["camera_clock_grade"] == 1
