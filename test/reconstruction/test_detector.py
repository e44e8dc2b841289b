"""Face detection and landmarks on a real face, against TensorFlow Lite and by construction."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.errors import InputError, ModelError
from eifer_ros.inference.network import open_shipped
from eifer_ros.reconstruction.landmarks import detector
from eifer_ros.reconstruction.landmarks.attention_mesh import (
    COUNT,
    IRIS_LEFT,
    IRIS_RIGHT,
    Crop,
    FaceLandmarker,
    crop_from_detection,
    crop_from_landmarks,
)
from eifer_ros.reconstruction.landmarks.detector import FaceDetector


@pytest.fixture(scope="module")
def astronaut():
    return pytest.importorskip("skimage.data").astronaut()


@pytest.fixture(scope="module")
def face_detector():
    return FaceDetector()


@pytest.fixture(scope="module")
def landmarker():
    return FaceLandmarker()


def test_the_astronaut_is_found_where_she_is(astronaut, face_detector):
    faces = face_detector.detect(astronaut)
    assert len(faces) == 1
    x, y, width, height = faces[0].box
    assert x < 190 < 260 < x + width, "the box spans both eyes"
    assert y < 110 < 160 < y + height, "and reaches from the eyes to the mouth"
    right_eye, left_eye, nose = faces[0].keypoints[:3]
    assert right_eye[0] < nose[0] < left_eye[0] and right_eye[1] < nose[1]


@pytest.mark.parametrize("shift", [(0, 0), (150, 40), (-60, 90)])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_moved_and_scaled_face_is_found_at_the_moved_place(astronaut, face_detector, shift, scale):
    reference = face_detector.detect(astronaut)[0].keypoints
    matrix = np.array([[scale, 0.0, shift[0] * scale], [0.0, scale, shift[1] * scale]])
    moved = cv2.warpAffine(astronaut, matrix, (round(700 * scale), round(600 * scale)))
    found = face_detector.detect(moved)
    assert found
    expected = (reference + shift) * scale
    eyes = np.linalg.norm(expected[0] - expected[1])
    assert np.linalg.norm(found[0].keypoints - expected, axis=1).mean() < 0.35 * eyes


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (128, 128), (480, 640)])
def test_a_black_picture_of_any_size_holds_no_face(face_detector, size):
    assert face_detector.detect(np.zeros((*size, 3), np.uint8)) == []


def test_anchors_cover_both_grids_evenly():
    grid = detector.anchors()
    assert grid.shape == (896, 2)
    np.testing.assert_allclose(grid.mean(axis=0), 0.5, atol=1e-6)
    assert len(np.unique(grid[:512], axis=0)) == 256 and len(np.unique(grid[512:], axis=0)) == 64


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_merging_keeps_every_separate_face_and_averages_copies(seed, copies):
    rng = np.random.default_rng(seed)
    centres = np.array([[20.0, 20.0], [90.0, 30.0], [50.0, 100.0]])
    values, scores = [], []
    for centre in centres:
        for _ in range(copies):
            box = np.zeros((8, 2))
            box[0], box[1] = centre + rng.uniform(-1, 1, 2), 20.0
            values.append(box)
            scores.append(rng.uniform(0.5, 1.0))
    order = np.argsort(-np.array(scores))
    merged = detector.merge(np.array(values)[order], np.array(scores)[order])
    assert len(merged) == 3
    for value, _ in merged:
        assert np.abs(centres - value[0]).max(axis=1).min() <= 1.0


def test_letterbox_keeps_proportions_and_points_return_to_the_picture():
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[50, 240] = 255
    square, scale, corner = detector.letterbox(cv2.dilate(picture, np.ones((5, 5), np.uint8)))
    row, column = np.unravel_index(square[:, :, 0].argmax(), square.shape[:2])
    assert abs((column - corner[0] + 0.5) * scale - 240) < 4 and abs((row - corner[1] + 0.5) * scale - 50) < 4


def test_a_missing_or_damaged_network_says_which_file(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"models/missing\.onnx"):
        open_shipped("missing.onnx")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.onnx").write_bytes(b"not a network")
    monkeypatch.setenv("EIFER_SHARE", str(tmp_path))
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        open_shipped("bad.onnx")


def test_a_file_of_the_same_name_in_the_working_directory_is_no_network(tmp_path, monkeypatch):
    (tmp_path / detector.DETECTOR).write_bytes(b"something else")
    monkeypatch.chdir(tmp_path)
    assert list(open_shipped(detector.DETECTOR).inputs) == ["image"]


def test_landmarks_of_the_astronaut_lie_on_her_features(astronaut, face_detector, landmarker):
    face = face_detector.detect(astronaut)[0]
    seen = landmarker.locate(astronaut, crop_from_detection(face))
    assert seen.points.shape == (COUNT, 3) and seen.presence > 0.99
    apart = np.linalg.norm(face.keypoints[0] - face.keypoints[1])
    assert np.linalg.norm(seen.points[IRIS_RIGHT, :2] - face.keypoints[0]) < 0.25 * apart
    assert np.linalg.norm(seen.points[IRIS_LEFT, :2] - face.keypoints[1]) < 0.25 * apart
    # the irises are the darkest thing between the lids
    grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    for iris in (IRIS_RIGHT, IRIS_LEFT):
        x, y = np.rint(seen.points[iris, :2]).astype(int)
        around = grey[y - 1 : y + 2, x - 1 : x + 2].mean()
        assert around < grey[y - 2 : y + 3, x - 12 : x + 13].mean()
    # she smiles: mouth corners stand above the middle of the lower lip
    assert seen.points[[61, 291], 1].max() < seen.points[17, 1]


@given(st.floats(-0.6, 0.6), st.floats(0.6, 1.6))
@settings(max_examples=12, deadline=None)
def test_landmarks_follow_a_turned_and_scaled_picture(angle, scale):
    picture = pytest.importorskip("skimage.data").astronaut()
    landmarker = FaceLandmarker()
    crop = Crop(222.0, 115.0, 200.0, 0.0)
    reference = landmarker.locate(picture, crop)
    crop = crop_from_landmarks(reference.points)
    reference = landmarker.locate(picture, crop)
    matrix = cv2.getRotationMatrix2D((222.0, 115.0), np.degrees(-angle), scale)
    matrix[:, 2] += (100.0, 150.0)
    turned = cv2.warpAffine(picture, matrix, (900, 900))
    expected = reference.points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    at = matrix[:, :2] @ (crop.x, crop.y) + matrix[:, 2]
    seen = landmarker.locate(turned, Crop(at[0], at[1], crop.side * scale, crop.angle + angle))
    eyes = np.linalg.norm(expected[33] - expected[263])
    assert np.linalg.norm(seen.points[:, :2] - expected, axis=1).mean() < 0.02 * eyes


def test_a_crop_maps_its_corners_as_a_turned_square():
    crop = Crop(100.0, 50.0, 40.0, np.pi / 2)
    matrix = crop.matrix(192)
    np.testing.assert_allclose(matrix @ [96, 96, 1], [100, 50], atol=1e-9)
    np.testing.assert_allclose(matrix @ [192, 96, 1], [100, 70], atol=1e-9)


def test_a_wall_has_no_presence(landmarker):
    rng = np.random.default_rng(0)
    wall = rng.integers(100, 140, (300, 300, 3)).astype(np.uint8)
    assert landmarker.locate(wall, Crop(150, 150, 200, 0.0)).presence < 0.5


def test_landmarks_agree_with_mediapipe_itself(astronaut, landmarker):
    """Reference: FaceMesh of mediapipe 0.10.21, refined landmarks, tracked until it settled on the same
    picture.
    """
    reference = np.load(Path(__file__).parent / "mediapipe_astronaut.npz")["landmarks"]
    seen = landmarker.locate(astronaut, crop_from_landmarks(reference))
    distance = np.linalg.norm((seen.points - reference)[:, :2], axis=1)
    eyes = np.linalg.norm(reference[33] - reference[263])
    assert distance.mean() < 0.01 * eyes and distance.max() < 0.03 * eyes


def test_the_detector_agrees_with_tensorflow_lite(astronaut, recordings):
    """Needs the original file, which is not part of the repository."""
    interpreter_type = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    original = recordings / "face_detection_short_range.tflite"
    if not original.exists():
        spec = importlib.util.find_spec("mediapipe")
        folder = Path(spec.origin).parent if spec is not None and spec.origin else recordings
        original = folder / "modules" / "face_detection" / "face_detection_short_range.tflite"
    if not original.exists():
        pytest.skip(
            "face_detection_short_range.tflite is neither in EIFER_TEST_DATA nor in an installed mediapipe"
        )
    interpreter = interpreter_type(str(original), num_threads=1)
    interpreter.allocate_tensors()
    square, _, _ = detector.letterbox(astronaut)
    interpreter.set_tensor(
        interpreter.get_input_details()[0]["index"], (square[None] / 127.5 - 1.0).astype(np.float32)
    )
    interpreter.invoke()
    ours = open_shipped(detector.DETECTOR).run(["regressors", "classificators"], {"image": square[None]})
    theirs = {tuple(d["shape"]): interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}
    assert len(ours) == 2
    for value in ours:
        reference = theirs[value.shape]
        np.testing.assert_allclose(value, reference, atol=1e-4 * np.abs(reference).max())
