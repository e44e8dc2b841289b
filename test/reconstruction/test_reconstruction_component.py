"""Pictures in, FaceState out: the component as a host uses it."""

from __future__ import annotations

import numpy as np
import pytest

from eifer_ros.component import Level
from eifer_ros.config import build
from eifer_ros.errors import ConfigError, InputError, ModelError
from eifer_ros.head import projection
from eifer_ros.head.model import load_head
from eifer_ros.reconstruction.face_reconstruction import (
    CAMERA,
    HEAD_MODEL,
    VISION,
    Reconstruction,
    ReconstructionConfig,
)
from eifer_ros.types import FaceOrigin, FaceStatus, Frame, HeadModelInfo

STEP = 33_000_000


@pytest.fixture(scope="module")
def portrait():
    return np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut()[:300, 60:400])


@pytest.fixture(scope="module")
def shared():
    component = Reconstruction()
    component.setup()
    return component


@pytest.fixture()
def component(shared):
    shared.reset()
    return shared


def states(component, images, start=0, step=STEP):
    out = []
    for number, image in enumerate(images):
        out += [
            e.item for e in component.handle(CAMERA, Frame(start + number * step, image)) if e.port == VISION
        ]
    return out


def test_the_head_model_is_announced_once_before_the_first_face(portrait):
    fresh = Reconstruction()
    fresh.setup()
    first = list(fresh.handle(CAMERA, Frame(5, portrait)))
    assert [e.port for e in first] == [HEAD_MODEL, VISION]
    assert isinstance(first[0].item, HeadModelInfo) and first[0].item.head_model == first[1].item.head_model
    assert [e.port for e in fresh.handle(CAMERA, Frame(6, portrait))] == [VISION]


def test_the_astronaut_smiles_and_lies_under_the_mesh(component, portrait):
    state = states(component, [portrait] * 8)[-1]
    assert (
        state.status == FaceStatus.TRACKING and state.origin == FaceOrigin.VISION and state.confidence > 0.7
    )
    head = load_head()
    names = head.expression_names
    smile = state.expression[[names.index("mouthSmileLeft"), names.index("mouthSmileRight")]]
    assert smile.min() > 0.25, "she smiles on both sides"
    assert state.expression[[names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]].max() < 0.5, (
        "with open eyes"
    )
    K = projection.default_intrinsics(portrait.shape[1], portrait.shape[0])
    drawn = projection.project(head.points(head.state_vertices(state)), state.head_pose, K)
    seen = component.landmarks.points
    eyes = np.linalg.norm(seen[33] - seen[263])
    assert np.linalg.norm((drawn - seen)[:468, :2], axis=1).mean() < 0.04 * eyes


def test_stamps_are_copied_and_values_are_within_bounds(component, portrait):
    found = states(component, [portrait] * 4, start=10**18)
    assert len(found) == 4
    for number, state in enumerate(found):
        assert state.stamp == 10**18 + number * STEP
        assert ((state.expression >= 0) & (state.expression <= 1)).all() and (state.expression_std >= 0).all()
        np.testing.assert_allclose(state.head_pose[:3, :3] @ state.head_pose[:3, :3].T, np.eye(3), atol=1e-6)


def test_intrinsics_scale_the_distance(component, portrait):
    K = projection.default_intrinsics(portrait.shape[1], portrait.shape[0])
    near = next(e.item for e in component.handle(CAMERA, Frame(0, portrait, K)) if e.port == VISION)
    component.reset()
    K[0, 0] = K[1, 1] = 2 * K[0, 0]
    far = next(e.item for e in component.handle(CAMERA, Frame(0, portrait, K)) if e.port == VISION)
    assert far.head_pose[2, 3] / near.head_pose[2, 3] == pytest.approx(2.0, rel=0.1)


def test_no_face_is_a_lost_state_and_a_warning(component):
    state = states(component, [np.zeros((240, 320, 3), np.uint8)])[0]
    assert state.status == FaceStatus.LOST and state.confidence == 0 and np.isnan(state.expression).all()
    assert component.health().level == Level.WARN


@pytest.mark.parametrize("size", [(1, 1), (10, 400), (33, 31)])
def test_tiny_pictures_are_lost_not_errors(component, size):
    assert states(component, [np.zeros((*size, 3), np.uint8)])[0].status == FaceStatus.LOST


def test_a_face_that_returns_is_tracked_again(component, portrait):
    wall = np.full_like(portrait, 120)
    found = states(component, [portrait, portrait, wall, wall, portrait])
    assert [s.status for s in found] == [1, 1, 2, 2, 1]


def test_another_picture_size_in_mid_stream_is_no_error(component, portrait):
    padded = np.pad(portrait, ((20, 60), (10, 90), (0, 0)))
    assert all(s.status == FaceStatus.TRACKING for s in states(component, [portrait, padded, portrait]))


def test_time_that_goes_back_starts_anew_and_gives_the_same_answer(component, portrait):
    first = states(component, [portrait] * 3, start=1000)
    again = states(component, [portrait] * 3, start=1000)
    np.testing.assert_array_equal(first[-1].expression, again[-1].expression)
    np.testing.assert_array_equal(first[-1].head_pose, again[-1].head_pose)


def test_depth_gives_the_metric_distance(component, portrait):
    """The lens alone says about 1.35 m for a head of usual size, the depth camera says 1.5 m."""
    K = projection.default_intrinsics(340, 300)
    K[0, 0] = K[1, 1] = 2.5 * K[0, 0]
    depth = np.full(portrait.shape[:2], 1.5, np.float32)
    for number in range(6):
        out = component.handle(CAMERA, Frame(number * STEP, portrait, K, depth))
    state = next(e.item for e in out if e.port == VISION)
    head = load_head()
    nose = (state.head_pose @ [*head.points(head.state_vertices(state))[4], 1.0])[2]
    assert nose == pytest.approx(1.5, abs=0.15)


def test_use_before_setup_and_wrong_items_say_so(component, portrait):
    with pytest.raises(ModelError, match="setup"):
        list(Reconstruction().handle(CAMERA, Frame(0, portrait)))
    with pytest.raises(InputError, match="camera/image_raw"):
        list(component.handle("emg/raw", Frame(0, portrait)))


def test_config_refuses_what_makes_no_sense():
    with pytest.raises(ConfigError, match="min_confidence"):
        build(ReconstructionConfig, {"min_confidence": 1.5}, "reconstruction")
    with pytest.raises(ConfigError, match="min_presence"):
        build(ReconstructionConfig, {"min_presense": 0.5}, "reconstruction")
    with pytest.raises(InputError, match="no_such_head"):
        Reconstruction(ReconstructionConfig(head_model="no_such_head")).setup()


def test_the_real_video_is_tracked_throughout(recordings, component):
    """Sixty frames from three places of the video; the whole of it is in the benchmark."""
    cv2 = pytest.importorskip("cv2")
    path = recordings / "crying_woman_pexels.mp4"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    capture = cv2.VideoCapture(str(path))
    number, residuals = 0, []
    while number < 472:
        good, image = capture.read()
        if not good:
            break
        if number % 150 < 20:
            state = states(component, [cv2.cvtColor(image, cv2.COLOR_BGR2RGB)], start=number * 41_666_667)[0]
            assert state.status == FaceStatus.TRACKING
            residuals.append(component.health().values["residual_pct_iod"])
        number += 1
    assert np.mean(residuals) < 4.0


def test_frozen_stamps_of_the_camera_are_named_in_health_and_counted(component, portrait):
    states(component, [portrait], start=STEP)
    before = component.health().values["repeated_stamps"]
    states(component, [portrait] * 6, start=2 * STEP, step=0)
    health = component.health()
    assert health.level == Level.WARN
    assert "stamps of camera/image_raw have stood still" in health.message
    assert health.values["repeated_stamps"] == before + 5
    states(component, [portrait], start=3 * STEP)
    assert component.health().level == Level.OK
