"""One table of topics: wholly described, and read by everything that knows topics."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from eifer_ros import topics, types
from eifer_ros.recording.streams import PORTS
from eifer_ros.recording.sync import CAMERA_CLOCK, Sync, restamped
from eifer_ros.topics import TOPICS, Clock, Kept, Topic
from eifer_ros.types import NS, Blendshapes, FaceDisplacement, FaceEvent, FaceOrigin, Marker
from eifer_ros.wire import conversions

PACKAGE = Path(topics.__file__).parent
CLOCKS = Sync("led", 2.0, 0.0, 10 * NS, 0.001, 0.001, 0.001, 9, 0, 1)


def event(origin: FaceOrigin) -> FaceEvent:
    return FaceEvent(
        11 * NS, 10 * NS, 12 * NS, "lips_left", ("lips_left",), "unknown", (), np.zeros(0), 1.0, origin
    )


def test_a_topic_that_lacks_a_field_does_not_import() -> None:
    complete = {field.name: getattr(topics.FACE_VISION, field.name) for field in fields(Topic)}
    for name in complete:
        with pytest.raises(TypeError, match=name):
            Topic(**{key: value for key, value in complete.items() if key != name})


def test_every_item_is_a_type_of_its_own_module_and_crosses_the_wire() -> None:
    for topic in topics.items():
        assert topic.item_type.__module__ == types.__name__, topic.name
        assert topic.item_type is types.Frame or conversions.wire_type(topic.item_type)
        assert topic.port.name == topic.name and topic.port.item is topic.item_type


def test_every_type_of_item_flows_on_some_topic() -> None:
    assert {topic.item_type for topic in topics.items()} == set(types.Item.__args__)


def test_the_order_of_faces_is_strict_and_names_faces_alone() -> None:
    ranks = [topic.prefer for topic in TOPICS.values() if topic.prefer]
    assert sorted(ranks) == list(range(1, len(ranks) + 1))
    assert all(TOPICS[name].item == "FaceState" for name in topics.faces(truth=True))
    assert topics.faces() == ("face/fused", "face/vision", "face/emg")
    assert topics.preferred(["face/emg", "face/vision", "emg/raw"]) == "face/vision"
    assert topics.preferred(["truth/face"]) == "truth/face"
    assert topics.preferred(["truth/face"], truth=False) is None


def test_emg_and_what_is_marked_is_never_dropped_without_a_word() -> None:
    assert {topic.name for topic in topics.items() if topic.keep_all} == {
        "emg/raw",
        "emg/activity",
        "face/events",
        "markers",
        "truth/movement",
        "truth/events",
    }


def test_what_is_read_from_the_picture_carries_the_cameras_clock() -> None:
    """The displacement, the events and the fine face once stayed behind when a synced replay moved the face."""
    assert {"face/displacement", "face/events", "face/vision_fine", "muscles/estimated"} <= CAMERA_CLOCK
    for topic in topics.items():
        if topic.name.startswith("camera/"):
            assert topic.synced, topic.name
        if topic.name.startswith(("emg/", "truth/")) or topic is topics.FACE_FUSED:
            assert not topic.synced, topic.name


def test_an_event_moves_with_its_onset_and_offset_and_what_emg_alone_saw_stays() -> None:
    moved = restamped(event(FaceOrigin.VISION), CLOCKS)
    assert isinstance(moved, FaceEvent)
    assert (moved.onset, moved.stamp, moved.offset) == (12 * NS, 13 * NS, 14 * NS)
    felt = event(FaceOrigin.EMG)
    assert restamped(felt, CLOCKS) is felt


def test_a_displacement_moves_with_its_face() -> None:
    skin = FaceDisplacement(10 * NS, "open_head", FaceOrigin.VISION, np.zeros((3, 3)))
    assert restamped(skin, CLOCKS).stamp == 12 * NS
    assert restamped(Blendshapes(10 * NS, np.zeros(52)), CLOCKS).stamp == 12 * NS
    assert restamped(Marker(10 * NS, "smile", "note"), CLOCKS).stamp == 12 * NS


def test_pictures_that_are_drawn_for_whoever_looks_are_not_recorded_by_ros() -> None:
    never = {topic.name for topic in TOPICS.values() if topic.kept is Kept.NEVER}
    assert {"camera/image_raw", "face/restored", "face/occlusion"} <= never
    sensed = {topic.name for topic in TOPICS.values() if topic.kept is Kept.SENSED}
    assert sensed == {
        "camera/image_raw/compressed",
        "camera/camera_info",
        "camera/depth/image_raw",
        "emg/raw",
        "emg/raw_channels",
    }
    assert all(TOPICS[name].clock in (Clock.CAMERA, Clock.AMPLIFIER) for name in sensed)


def test_bags_of_version_0_1_that_hold_the_fine_face_are_still_read() -> None:
    assert "face/vision_fine" in {port.name for port in PORTS}


def tables(path: Path) -> list[str]:
    """Collections of two or more topic names that a module writes down."""
    names = set(TOPICS)
    listed = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        entries = (
            node.keys
            if isinstance(node, ast.Dict)
            else getattr(node, "elts", ())
            if isinstance(node, (ast.Tuple, ast.List, ast.Set))
            else ()
        )
        words = [entry.value for entry in entries if isinstance(entry, ast.Constant)]
        if sum(word in names for word in words) >= 2:
            listed.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    return listed


def test_no_other_module_holds_a_table_of_topics() -> None:
    rows = [row for path in PACKAGE.rglob("*.py") if path.name != "topics.py" for row in tables(path)]
    assert rows == []
