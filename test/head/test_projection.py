"""The pinhole camera: OpenCV as the independent reference, and laws."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eifer_ros.errors import InputError
from eifer_ros.head import projection

angles = st.floats(-1.2, 1.2)


@given(seed=st.integers(0, 2**32 - 1), yaw=angles, pitch=angles, roll=angles, distance=st.floats(0.4, 3.0))
def test_projection_agrees_with_opencv(seed, yaw, pitch, roll, distance):
    points = np.random.default_rng(seed).normal(0, 0.08, (20, 3))
    pose = projection.facing_pose(distance, yaw=yaw, pitch=pitch, roll=roll)
    K = projection.default_intrinsics(640, 480)
    want, _ = cv2.projectPoints(points, cv2.Rodrigues(pose[:3, :3])[0], pose[:3, 3], K, None)
    got = projection.project(points, pose, K)
    np.testing.assert_allclose(got[:, :2], want[:, 0], atol=1e-6 * 640)


def test_a_facing_head_is_upright_and_not_mirrored():
    K = projection.default_intrinsics(640, 480)
    pose = projection.facing_pose(0.7)
    left_ear, crown, nose, centre = projection.project(
        [[0.07, 0, 0], [0, 0.12, 0], [0, 0, 0.1], [0, 0, 0]], pose, K
    )
    assert left_ear[0] > centre[0] + 50  # the subject's left is at the right of the picture
    assert crown[1] < centre[1] - 50
    assert nose[2] == pytest.approx(0.6)
    np.testing.assert_allclose(centre, [319.5, 239.5, 0.7])


def test_positive_yaw_turns_to_the_subjects_left_and_positive_pitch_down():
    nose = np.array([[0, 0, 0.1]])
    assert projection.to_camera(nose, projection.facing_pose(0.7, yaw=0.3))[0, 0] > 0.02
    assert projection.to_camera(nose, projection.facing_pose(0.7, pitch=0.3))[0, 1] > 0.02
    crown = np.array([[0, 0.1, 0]])
    assert projection.to_camera(crown, projection.facing_pose(0.7, roll=0.3))[0, 0] < -0.02


@given(yaw=angles, pitch=angles, roll=angles)
def test_a_pose_is_rigid_and_puts_its_centre_where_it_says(yaw, pitch, roll):
    centre = np.array([0.01, 0.05, 0.08])
    pose = projection.facing_pose(0.9, yaw=yaw, pitch=pitch, roll=roll, centre=centre, offset=(0.02, -0.03))
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(projection.to_camera(centre[None], pose)[0], [0.02, -0.03, 0.9], atol=1e-12)


def test_points_behind_the_camera_have_no_pixel():
    pixels = projection.project(
        [[0, 0, 1.0], [0, 0, 0.0]], projection.facing_pose(0.5), projection.default_intrinsics(64, 64)
    )
    assert np.all(np.isnan(pixels[0, :2]))
    assert np.all(np.isfinite(pixels[1]))


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(InputError, match="0 x 480"):
        projection.default_intrinsics(0, 480)
