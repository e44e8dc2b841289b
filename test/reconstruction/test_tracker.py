"""Following one face: crop tracking, loss, return, other sizes, other people."""

from __future__ import annotations

import numpy as np
import pytest

from eifer_ros.reconstruction.landmarks.attention_mesh import FaceLandmarker
from eifer_ros.reconstruction.landmarks.detector import FaceDetector
from eifer_ros.reconstruction.landmarks.tracker import FaceTracker


@pytest.fixture(scope="module")
def networks():
    return FaceDetector(), FaceLandmarker()


@pytest.fixture(scope="module")
def portrait():
    return np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut()[:256, 90:346])


@pytest.fixture()
def tracker(networks):
    return FaceTracker(*networks)


def canvas(portrait, *places, size=(400, 900)):
    out = np.full((*size, 3), 60, np.uint8)
    for x, y in places:
        out[y : y + 256, x : x + 256] = portrait
    return out


def test_the_detector_runs_once_for_a_face_that_stays(tracker, portrait):
    for step in range(10):
        assert tracker.track(canvas(portrait, (100 + 4 * step, 50))) is not None
    assert tracker.counts.searched == 1 and tracker.counts.tracked == 10


def test_landmarks_move_with_the_face(tracker, portrait):
    first = tracker.track(canvas(portrait, (100, 50))).points
    for step in range(1, 8):
        last = tracker.track(canvas(portrait, (100 + 5 * step, 50 + step))).points
    np.testing.assert_allclose((last - first)[:, :2].mean(axis=0), [35, 7], atol=1.0)


def test_a_face_that_leaves_is_lost_and_found_again_where_it_comes_back(tracker, portrait):
    tracker.track(canvas(portrait, (50, 50)))
    for _ in range(6):
        assert tracker.track(canvas(portrait)) is None
    again = tracker.track(canvas(portrait, (600, 100)))
    assert again is not None and again.points[:, 0].mean() > 600
    assert (tracker.counts.tracked, tracker.counts.lost) == (2, 6)


def test_of_two_faces_the_tracked_one_is_kept_even_when_hidden_for_a_moment(tracker, portrait):
    right_only = canvas(portrait, (600, 100))
    both = canvas(portrait, (40, 20), (600, 100))
    for picture in (right_only, both, both):
        assert tracker.track(picture).points[:, 0].mean() > 600
    left_only = canvas(portrait, (40, 20))
    assert tracker.track(left_only) is None, "the followed face is hidden: nobody else takes over at once"
    assert tracker.track(both).points[:, 0].mean() > 600, "the one at the place of loss is taken"
    for _ in range(8):
        found = tracker.track(left_only)
    assert found is not None and found.points[:, 0].mean() < 400, "in the end the other one is followed"


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (20, 700), (64, 64)])
def test_tiny_and_empty_pictures_are_no_face_and_no_error(tracker, size):
    assert tracker.track(np.zeros((*size, 3), np.uint8)) is None


def test_another_picture_size_in_mid_stream_is_searched_anew(tracker, portrait):
    assert tracker.track(canvas(portrait, (100, 50))) is not None
    assert tracker.track(canvas(portrait, (20, 20), size=(300, 300))).points[:, 0].max() < 300
    assert tracker.counts.searched == 2


def test_two_runs_over_the_same_pictures_agree_to_the_bit(networks, portrait):
    pictures = [canvas(portrait, (100 + 7 * step, 50)) for step in range(4)]
    runs = []
    for _ in range(2):
        tracker = FaceTracker(*networks)
        runs.append(np.stack([tracker.track(picture).points for picture in pictures]))
    np.testing.assert_array_equal(runs[0], runs[1])
