from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import strategies

from eifer_ros import topics
from eifer_ros import types as t
from eifer_ros.errors import InputError, WireError
from eifer_ros.wire import conversions as c
from eifer_ros.wire import messages


def same(left: object, right: object) -> bool:
    if isinstance(left, np.ndarray):
        return np.allclose(left, right, rtol=0, atol=1e-9, equal_nan=True)
    if isinstance(left, float):
        return left == pytest.approx(right, rel=1e-6, nan_ok=True)
    return left == right


def assert_same(left: object, right: object) -> None:
    assert type(left) is type(right)
    for field in dataclasses.fields(left):
        assert same(getattr(left, field.name), getattr(right, field.name)), field.name


def there_and_back(item: t.Item, port: str = "face/fused") -> t.Item:
    (out,) = c.to_wire(item, port)
    return c.from_wire(messages.deserialise(messages.serialise(out.message), out.type_name), out.type_name)


@given(strategies.items)
def test_every_item_comes_back_from_its_cdr_bytes_unchanged(item: t.Item) -> None:
    assert_same(item, there_and_back(item))


@given(strategies.joints())
def test_joint_states_are_the_same_targets_as_another_message(item: t.JointTargets) -> None:
    (out,) = c.to_wire(item, "joint_states")
    assert out.type_name == "sensor_msgs/msg/JointState"
    assert_same(item, there_and_back(item, "joint_states"))


@given(strategies.frames())
def test_a_raw_frame_comes_back_bit_for_bit_with_intrinsics_and_depth(frame: t.Frame) -> None:
    assembler, done = c.FrameAssembler(), []
    for out in c.to_wire(frame, "camera/image_raw"):
        done.append(assembler.add(messages.deserialise(messages.serialise(out.message), out.type_name)))
    assert_same(frame, done[-1])
    assert done[:-1] == [None] * (len(done) - 1)


def test_a_compressed_frame_keeps_the_picture_within_jpeg_loss_and_depth_within_a_millimetre() -> None:
    y, x = np.mgrid[0:120, 0:160]
    image = np.stack([x, y, (x + y) // 2], axis=2).astype(np.uint8)
    depth = (0.3 + 0.005 * x + 0.0001 * y).astype(np.float32)
    frame = t.Frame(5, image, np.diag([600.0, 600.0, 1.0]), depth)
    assembler = c.FrameAssembler()
    outs = c.to_wire(frame, "camera/image_raw", jpeg_quality=90)
    assert [out.topic for out in outs] == [
        "camera/camera_info",
        "camera/depth/image_raw",
        "camera/image_raw/compressed",
    ]
    assert all(out.topic in topics.TOPICS for out in outs)
    back = [assembler.add(out.message) for out in outs][-1]
    assert back is not None and back.depth is not None
    assert np.abs(back.image.astype(int) - image).mean() < 3
    assert np.abs(back.depth - depth).max() <= 0.0005 + 1e-6


def test_depth_of_another_moment_is_not_given_to_a_frame() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    assembler = c.FrameAssembler()
    depth_message = c.to_wire(t.Frame(1, image, None, np.ones((4, 4), np.float32)), "camera/image_raw")[
        0
    ].message
    picture = c.to_wire(t.Frame(2, image), "camera/image_raw")[0].message
    assembler.add(depth_message)
    frame = assembler.add(picture)
    assert frame is not None and frame.depth is None


@pytest.mark.parametrize(
    ("encoding", "pixel"),
    [("bgr8", [3, 2, 1]), ("bgra8", [3, 2, 1, 9]), ("rgba8", [1, 2, 3, 9]), ("rgb8", [1, 2, 3])],
)
def test_foreign_encodings_and_row_padding_are_read_as_rgb(encoding: str, pixel: list[int]) -> None:
    rows = np.zeros((2, 3 * len(pixel) + 5), np.uint8)
    rows[:, : 3 * len(pixel)] = np.tile(pixel, 3)
    header = c.to_wire(t.Marker(7, "x", "note"), "markers")[0].message.header
    message = messages.ROSBAGS.make(
        "sensor_msgs/msg/Image",
        header=header,
        height=2,
        width=3,
        encoding=encoding,
        is_bigendian=0,
        step=rows.shape[1],
        data=rows.ravel(),
    )
    assert (c.picture_of(message) == [1, 2, 3]).all()


def face(**changes: object) -> t.FaceState:
    neutral = t.FaceState(
        1,
        "open_head",
        t.FaceOrigin.VISION,
        np.zeros(3),
        np.zeros(4),
        np.zeros(4),
        np.zeros(3),
        np.zeros(3),
        np.zeros((2, 3)),
        np.zeros(2),
        np.eye(4),
        1.0,
    )
    return dataclasses.replace(neutral, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"expression": [0, 0, np.nan, 0]}, ["FlameParameters.expression[2]", "NaN", "LOST"]),
        ({"shape": np.zeros(301)}, ["FlameParameters.shape", "301", "at most 300"]),
        (
            {"expression": np.zeros(101), "expression_std": np.zeros(101)},
            ["expression", "101", "at most 100"],
        ),
        ({"eyelids": [0.0, 1.2]}, ["eyelids[1]", "1.2", "0..1"]),
        ({"expression_std": [0, -1, 0, 0]}, ["expression_std[1]", "-1"]),
        ({"head_model": ""}, ["head_model", "empty"]),
        ({"head_pose": np.diag([2.0, 1, 1, 1])}, ["head_pose", "rigid"]),
        ({"jaw": [np.inf, 0, 0]}, ["jaw[0]", "inf"]),
        ({"stamp": -1}, ["stamp", "-1"]),
    ],
)
def test_a_face_that_breaks_the_contract_is_refused_by_field_and_value(
    changes: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(WireError) as error:
        c.to_wire(face(**changes), "face/vision")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_wrong_sizes_are_refused_where_the_item_is_made() -> None:
    with pytest.raises(InputError, match=r"FaceState.jaw has shape 2; it must be 3"):
        face(jaw=[0, 0])


@given(st.sampled_from(["expression", "expression_std", "shape"]), st.integers(0, 3))
def test_the_gate_also_stands_on_the_way_in(name: str, place: int) -> None:
    (out,) = c.to_wire(face(shape=np.zeros(4)), "face/vision")
    broken = np.array(getattr(out.message, name))
    broken[place] = np.inf
    setattr(out.message, name, broken)
    with pytest.raises(WireError, match=rf"{name}\[{place}\] is inf"):
        c.from_wire(out.message, out.type_name)


def test_arrays_that_disagree_in_length_are_refused_on_the_way_in() -> None:
    (out,) = c.to_wire(face(), "face/vision")
    out.message.expression_std = np.zeros(2, np.float32)
    with pytest.raises(WireError, match="expression_std has 2 elements; it must have 4 like expression"):
        c.from_wire(out.message, out.type_name)
    (chunk,) = c.to_wire(t.EmgChunk(1, 1000.0, ("a", "b"), np.zeros((3, 2), np.float32)), "emg/raw")
    chunk.message.frames = 4
    with pytest.raises(WireError, match="6 elements; it must have frames x channels = 4 x 2"):
        c.from_wire(chunk.message, chunk.type_name)


def test_unbounded_growth_beyond_a_bound_is_refused_although_the_serialiser_would_allow_it() -> None:
    (out,) = c.to_wire(face(), "face/vision")
    out.message.shape = np.zeros(301, np.float32)
    data = messages.serialise(out.message)
    with pytest.raises(WireError, match="at most 300"):
        c.from_wire(messages.deserialise(data, out.type_name), out.type_name)


def test_a_misspelt_field_is_refused_with_the_right_spelling() -> None:
    header = c.to_wire(t.Marker(7, "x", "note"), "markers")[0].message.header
    with pytest.raises(WireError, match="has no field 'labell'; did you mean 'label'"):
        messages.ROSBAGS.make("eifer_msgs/msg/Marker", header=header, labell="x", phase=1, note="")
    with pytest.raises(WireError, match="field 'note' is missing"):
        messages.ROSBAGS.make("eifer_msgs/msg/Marker", header=header, label="x", phase=1)


@given(st.binary(max_size=80))
def test_bytes_that_hold_no_message_are_refused_and_never_crash(data: bytes) -> None:
    try:
        message = messages.deserialise(b"\0\1\0\0" + data, "eifer_msgs/msg/MuscleActivity")
        c.from_wire(message, "eifer_msgs/msg/MuscleActivity")
    except WireError:
        pass


def test_an_unknown_enum_value_names_the_known_ones() -> None:
    (out,) = c.to_wire(face(), "face/vision")
    out.message.origin = 9
    with pytest.raises(WireError, match="origin is 9; it must be one of 0 UNKNOWN, 1 VISION"):
        c.from_wire(out.message, out.type_name)


def event(**changes: object) -> t.FaceEvent:
    smile = t.FaceEvent(
        20,
        10,
        30,
        "lips_left",
        ("lips_left", "lips_right"),
        "happiness",
        ("happiness", "others"),
        np.array([0.75, 0.25]),
        4.0,
        t.FaceOrigin.VISION,
    )
    return dataclasses.replace(smile, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"onset": 21}, ["onset 21", "apex 20", "offset 30"]),
        ({"offset": 19}, ["offset 19"]),
        ({"regions": ("nose",), "region": "nose"}, ["regions", "'nose'", "eye_left"]),
        ({"region": "lips_right"}, ["region is 'lips_right'", "first of regions"]),
        ({"regions": ("lips_left", "lips_left")}, ["twice"]),
        ({"label": "joy"}, ["'joy'", "unknown", "happiness"]),
        ({"probabilities": np.ones(3)}, ["probabilities", "shape 3", "must be 2"]),
    ],
)
def test_an_event_that_cannot_be_is_refused_where_it_is_made(
    changes: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(InputError) as error:
        event(**changes)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"probabilities": [np.nan, 0.5]}, ["FaceEvent.probabilities[0]", "NaN"]),
        ({"probabilities": [0.5, 1.5]}, ["FaceEvent.probabilities[1]", "0..1"]),
        ({"score": np.inf}, ["FaceEvent.score", "finite"]),
        ({"lead_s": np.inf}, ["FaceEvent.lead_s", "finite"]),
        ({"onset": -5}, ["stamp -5"]),
        (
            {"classes": tuple(f"c{k}" for k in range(33)), "probabilities": np.zeros(33), "label": "c1"},
            ["classes", "at most 32"],
        ),
    ],
)
def test_an_event_with_bad_values_does_not_leave(changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(WireError) as error:
        c.to_wire(event(**changes), "face/events")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_bad_event_does_not_come_in_either() -> None:
    def sent() -> object:
        return c.to_wire(event(), "face/events")[0].message

    late = sent()
    late.offset.nanosec = 5
    with pytest.raises(WireError, match="offset 5 ns"):
        c.from_wire(late, "eifer_msgs/msg/FaceEvent")
    odd = sent()
    odd.onset.nanosec = 10**9
    with pytest.raises(WireError, match=r"FaceEvent.onset is 0 s 1000000000 ns; nanosec"):
        c.from_wire(odd, "eifer_msgs/msg/FaceEvent")
    short = sent()
    short.probabilities = np.zeros(1, np.float32)
    with pytest.raises(WireError, match="probabilities has 1 elements; it must have 2 like classes"):
        c.from_wire(short, "eifer_msgs/msg/FaceEvent")


@given(strategies.floats((5, 3), -0.003, 0.003))
def test_a_displacement_travels_to_within_half_of_ten_micrometres(field: np.ndarray) -> None:
    back = there_and_back(
        t.FaceDisplacement(1, "open_head", t.FaceOrigin.VISION, field, 0.5), "face/displacement"
    )
    assert isinstance(back, t.FaceDisplacement)
    assert np.abs(back.displacement.astype(float) - field).max() <= 5e-6 + 1e-9


def test_a_displacement_beyond_its_contract_is_refused() -> None:
    def field(value: float) -> t.FaceDisplacement:
        made = np.zeros((4, 3), np.float32)
        made[1, 2] = value
        return t.FaceDisplacement(1, "open_head", t.FaceOrigin.VISION, made)

    with pytest.raises(WireError, match=r"FaceDisplacement.displacement\[5\] is NaN"):
        c.to_wire(field(np.nan), "face/displacement")
    with pytest.raises(WireError, match=r"displacement\[5\] is 0.4; it must be in -0.32767..0.32767"):
        c.to_wire(field(0.4), "face/displacement")
    with pytest.raises(InputError, match="displacement has shape 4 x 2; it must be any x 3"):
        t.FaceDisplacement(1, "open_head", t.FaceOrigin.VISION, np.zeros((4, 2)))
    with pytest.raises(InputError, match=r"confidence is 1\.5"):
        t.FaceDisplacement(1, "open_head", t.FaceOrigin.VISION, np.zeros((4, 3)), 1.5)
    (out,) = c.to_wire(field(0.001), "face/displacement")
    out.message.displacement = out.message.displacement[:-1]
    with pytest.raises(WireError, match="has 11 elements; it must have three per vertex"):
        c.from_wire(out.message, out.type_name)


def test_relative_topic_names_are_found_under_any_namespace() -> None:
    assert topics.relative("/eifer/camera/image_raw/compressed") == "camera/image_raw/compressed"
    assert topics.relative("/lab/p07/face/fused") == "face/fused"
    assert topics.relative("head_model") == "head_model"
    assert topics.relative("/turtle1/cmd_vel") is None
