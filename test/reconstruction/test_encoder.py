"""The encoder's file, its crop, and following a face with it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")

from encoder_files import blob, blob_encoder, resting_layout

from eifer_ros.errors import MissingExtra, ModelError
from eifer_ros.head import projection
from eifer_ros.head.model import load_head
from eifer_ros.reconstruction.encoder.encoder_tracker import (
    SHIFTS,
    EncoderTracker,
    exposed,
    inside,
    mean_of,
    shifted,
)
from eifer_ros.reconstruction.encoder.face_crop import POINTS, crop_of
from eifer_ros.reconstruction.encoder.face_encoder import FaceEncoder, Reading, cut, ray_rotation
from eifer_ros.reconstruction.landmarks.attention_mesh import Crop
from eifer_ros.reconstruction.landmarks.detector import Detection


class Blind:
    """A detector that never finds anything."""

    def detect(self, image):
        return []


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return blob_encoder(tmp_path_factory.mktemp("encoder") / "encoder.onnx")


@pytest.fixture(scope="module")
def encoder(path):
    return FaceEncoder(load_head(), str(path))


# --- files


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "face_restorer"}, "face_restorer"),
        ({"kind": None}, "unknown kind"),
        ({"head_fingerprint": "0" * 32}, "another version of head model"),
        ({"head_model": "flame"}, "flame"),
        ({"points": [1, 2, 3]}, "points"),
        ({"margin": 2.0}, "margin"),
        ({"size": 64}, "size"),
        ({"size": None}, "does not say its 'size'"),
        ({"sizes": {"expression": 50}}, "50"),
        ({"sizes": {"shape": 3}}, "'shape' is 3"),
        ({"drop": ("rotation",)}, "another architecture"),
    ],
)
def test_a_network_of_another_make_is_refused_with_the_reason(tmp_path, changes, message):
    with pytest.raises(ModelError, match=message):
        FaceEncoder(load_head(), str(blob_encoder(tmp_path / "other.onnx", **changes)))


def test_a_damaged_or_missing_file_is_refused(tmp_path, path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ModelError, match="broken"):
        FaceEncoder(load_head(), str(broken))
    broken.write_bytes(b"")
    with pytest.raises(ModelError, match="broken"):
        FaceEncoder(load_head(), str(broken))
    with pytest.raises(ModelError, match="not installed"):
        FaceEncoder(load_head(), str(tmp_path / "none.onnx"))


def test_without_openvino_the_error_says_what_to_install(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)  # its import raises
    with pytest.raises(MissingExtra, match=r"eifer_ros\[openvino\]"):
        FaceEncoder(load_head(), str(path), "openvino")


def test_openvino_gives_the_same_numbers(path, encoder):
    pytest.importorskip("openvino", reason="needs the extra 'openvino'")
    other = FaceEncoder(load_head(), str(path), "openvino")
    crop = Crop(160.0, 120.0, 150.0, 0.1)
    a, b = encoder.read(blob(), [crop])[0], other.read(blob(), [crop])[0]
    # pixels: this network is a sum of 49,152 float32 values, whose order differs; bfloat16 would be off by 0.3
    np.testing.assert_allclose(a.points, b.points, atol=1e-2)


# --- geometry


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_ray_rotation_takes_the_axis_to_the_ray_by_the_smallest_turn(x, y):
    turn = ray_rotation((x, y))
    ray = np.array([x, y, 1.0]) / np.linalg.norm([x, y, 1.0])
    np.testing.assert_allclose(turn @ [0, 0, 1], ray, atol=1e-12)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    angle = np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))
    assert angle == pytest.approx(np.arccos(np.clip(ray[2], -1, 1)), abs=1e-6), (
        "the angle between axis and ray, no twist"
    )


@given(
    st.floats(-0.4, 0.4),
    st.floats(-0.4, 0.4),
    st.floats(-0.6, 0.6),
    st.floats(-0.2, 0.2),
    st.floats(-0.15, 0.15),
)
@settings(max_examples=25, deadline=None)
def test_the_head_rotation_comes_back_from_the_crop_of_any_view(yaw, pitch, roll, aside, above):
    head = load_head()
    K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    pose = projection.facing_pose(
        0.6, yaw=yaw, pitch=pitch, roll=roll, centre=head.points(head.template)[4], offset=(aside, above)
    )
    flat = projection.project(head.points(head.template)[list(POINTS)].astype(np.float64), pose, K)[:, :2]
    crop = crop_of(flat)
    cos, sin = np.cos(crop.angle), np.sin(crop.angle)
    ray = ray_rotation(((crop.x - 320) / 500, (crop.y - 240) / 500))
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) @ ray.T @ pose[:3, :3]
    reading = Reading(crop, flat, np.zeros(52), np.zeros(52), turn, np.zeros(80), 1.0)
    np.testing.assert_allclose(reading.rotation(K), pose[:3, :3], atol=1e-9)


@pytest.mark.parametrize("side", [60.0, 128.0, 200.0, 500.0, 900.0])
def test_a_cut_shows_what_lies_under_the_crop_at_every_size(side):
    """A smooth ramp: every pixel of the cut is the ramp at the place that the crop's matrix names."""
    y, x = np.mgrid[:700, :700]
    image = np.stack([x * (250.0 / 700), y * (250.0 / 700), np.full((700, 700), 90.0)], axis=-1)
    crop = Crop(350.0, 340.0, side * 0.7, 0.3)
    patch = cut(np.round(image).astype(np.uint8), crop)
    v, u = np.mgrid[:128, :128]
    places = np.stack([u, v], axis=-1) @ crop.matrix(128)[:, :2].T + crop.matrix(128)[:, 2]
    inner = ((places > 8) & (places < 692)).all(axis=-1)
    assert inner.mean() > 0.8
    np.testing.assert_allclose(patch[inner][:, :2], places[inner] * (250.0 / 700), atol=1.2)


def test_a_large_face_is_averaged_not_sampled():
    """A checkerboard finer than the patch must come out grey."""
    fine = (np.indices((1024, 1024)).sum(axis=0) % 2 * 255).astype(np.uint8)
    patch = cut(np.repeat(fine[..., None], 3, axis=2), Crop(512.0, 512.0, 1000.0, 0.0))
    assert patch[8:-8, 8:-8].std() < 12


def test_what_lies_outside_the_picture_is_black():
    patch = cut(np.full((100, 100, 3), 200, np.uint8), Crop(0.0, 50.0, 100.0, 0.0))
    assert patch[:, :60].max() == 0 and patch[40:90, 70:].min() == 200
    assert inside(Crop(0.0, 50.0, 100.0, 0.0), 100, 100) == pytest.approx(0.5, abs=0.12)
    assert inside(Crop(-200.0, 50.0, 100.0, 0.0), 100, 100) == 0


# --- following


def test_the_crop_follows_a_moving_face_and_the_detector_stays_out(encoder):
    tracker = EncoderTracker(encoder, Blind())
    for step in range(12):
        found = tracker.track(blob(at=(140 + 5 * step, 110 + step)))
        assert found is not None
    layout, _ = resting_layout(load_head())
    middle = found.points.mean(axis=0) - found.crop.side * (layout.mean(axis=0) - 0.5)
    np.testing.assert_allclose(middle, (195, 121), atol=6)
    assert tracker.counts.searched == 1 and tracker.counts.tracked == 12


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((240, 320, 3), np.uint8),
        np.full((240, 320, 3), 255, np.uint8),
        np.full((240, 320, 3), 128, np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((20, 700, 3), np.uint8),
    ],
    ids=["black", "overexposed", "flat", "one pixel", "strip"],
)
def test_a_picture_that_shows_nothing_is_no_face(encoder, image):
    tracker = EncoderTracker(encoder)
    assert tracker.track(image) is None and tracker.counts.lost == 1


def test_a_face_is_lost_when_the_lights_go_out_and_found_again_where_it_was(encoder):
    tracker = EncoderTracker(encoder, Blind())
    first = tracker.track(blob(at=(120, 100)))
    assert [tracker.track(np.zeros((240, 320, 3), np.uint8)) for _ in range(3)] == [None] * 3
    again = tracker.track(blob(at=(122, 100)))
    assert first is not None and again is not None
    np.testing.assert_allclose(again.points, first.points, atol=8)


def test_a_crop_that_leaves_the_picture_is_lost_not_followed(encoder):
    tracker = EncoderTracker(encoder, Blind())
    found = [tracker.track(blob(at=(160 + 24 * step, 120))) for step in range(9)]
    assert found[0] is not None and found[-1] is None


class Two:
    """A detector and a reader that know two places: a whole face, and half of it that is as readable but read
    badly.
    """

    whole, half = (160.0, 120.0, 130.0), (132.0, 116.0, 65.0)

    def __init__(self):
        head = load_head()
        self.sizes = head.expression_size, head.shape_size
        layout, _ = resting_layout(head)
        self.layout = layout - (layout.max(axis=0) + layout.min(axis=0)) / 2.0
        self.read = 0

    def detect(self, image):
        eyes = np.stack([np.arange(-1, 5), np.arange(6)], axis=1)
        return [
            Detection(
                np.array([x - side / 3, y - side / 3, side / 1.5, side / 1.5]),
                np.array([x, y]) + eyes * [1.0, 0.0],
                0.5,
            )
            for x, y, side in (self.half, self.whole)
        ]

    def read_patches(self, patches, crops):
        self.read += len(crops)
        out = []
        for crop in crops:
            x, y, side = min(
                (self.half, self.whole), key=lambda face: np.hypot(crop.x - face[0], crop.y - face[1])
            )
            std, readable, value = (0.05, 0.980, 0.5) if side == self.whole[2] else (0.2, 0.985, -0.5)
            e = np.full(self.sizes[0], value + 0.1 * np.sign(crop.x - x))
            out.append(
                Reading(
                    crop,
                    self.layout * side + (x, y),
                    e,
                    np.full_like(e, std),
                    np.eye(3),
                    np.zeros(self.sizes[1]),
                    readable,
                )
            )
        return out


def test_half_a_face_that_reads_as_well_does_not_win_over_the_whole():
    two = Two()
    rng = np.random.default_rng(0)
    picture = rng.integers(40, 200, (240, 320, 3)).astype(np.uint8)
    found = EncoderTracker(two, two).track(picture)
    assert found is not None and found.expression_std[0] == pytest.approx(0.05)


def test_a_face_just_found_is_read_in_several_crops_and_then_in_one():
    two = Two()
    picture = np.random.default_rng(0).integers(40, 200, (240, 320, 3)).astype(np.uint8)
    tracker = EncoderTracker(two, two)
    tracker.track(picture)
    first = two.read
    tracker.track(picture)
    assert first > len(SHIFTS) and two.read == first + 1
    tracker.request_redetection()
    tracker.track(picture)
    assert two.read > first + 1 + len(SHIFTS) and tracker.counts.searched == 2


def test_shifted_crops_move_along_the_axes_of_the_crop_and_their_mean_is_the_mean():
    crop = Crop(50.0, 60.0, 100.0, np.pi / 2)
    moved = shifted(crop)
    assert moved[0] == crop and len(moved) == len(SHIFTS)
    np.testing.assert_allclose((moved[1].x, moved[1].y), (50.0, 64.0), atol=1e-9)
    np.testing.assert_allclose(np.mean([(one.x, one.y) for one in moved], axis=0), (50.0, 60.0), atol=1e-9)
    readings = Two().read_patches([], [Crop(150.0, 120.0, 130.0, 0.0), Crop(170.0, 120.0, 130.0, 0.0)])
    np.testing.assert_allclose(mean_of(readings).expression, 0.5)
    assert mean_of(readings[:1]) is readings[0]


def test_exposure_is_judged_where_the_face_is():
    rng = np.random.default_rng(0)
    face = rng.integers(40, 200, (128, 128, 3)).astype(np.uint8)
    assert exposed(face)
    burnt = face.copy()
    burnt[20:-20, 20:-20] = 255
    assert not exposed(burnt)
    framed = np.zeros_like(face)
    framed[20:-20, 20:-20] = face[20:-20, 20:-20]
    assert exposed(framed)
