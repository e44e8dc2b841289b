import numpy as np
import pytest

from eifer_ros.errors import InputError
from eifer_ros.evaluation import restoration
from eifer_ros.evaluation.pictures import SAME_DB
from eifer_ros.reconstruction.encoder.face_crop import SIZE
from eifer_ros.reconstruction.encoder.face_encoder import cut
from eifer_ros.reconstruction.restore import FaceRestorer, Restored
from eifer_ros.simulation.script import MOVEMENTS
from eifer_ros.simulation.seeds import HELD_OUT_FROM


class Untouched:
    """A restorer that leaves everything as it is."""

    def restore(self, patch, crop):
        return Restored(crop, patch.copy(), np.zeros((SIZE, SIZE), np.float32))


class Oracle:
    """A restorer that knows the truth of the moments it will be shown."""

    def __init__(self, people):
        self.truth = {}
        for seed in people:
            for moment in restoration.moments(seed):
                bare = cut(moment.bare, moment.crop)
                self.truth[cut(moment.sensors, moment.crop).tobytes()] = self.truth[bare.tobytes()] = bare

    def restore(self, patch, crop):
        bare = self.truth[patch.tobytes()]
        changed = np.any(patch != bare, axis=2).astype(np.float32)
        return Restored(crop, bare, changed)


def test_people_that_a_network_may_have_seen_are_refused():
    with pytest.raises(InputError, match="900000"):
        next(restoration.moments(HELD_OUT_FROM - 1))
    with pytest.raises(InputError, match="at least one person"):
        restoration.evaluate(Untouched(), participants=0)


def test_a_moment_is_the_same_each_time_and_differs_only_by_the_sensors():
    first, again = (next(restoration.moments(HELD_OUT_FROM + 3)) for _ in range(2))
    assert np.array_equal(first.bare, again.bare)
    assert np.array_equal(first.sensors, again.sensors)
    differs = np.any(first.bare != first.sensors, axis=2)
    assert 0.02 < differs.mean() < 0.6
    assert first.face.shape == (SIZE, SIZE)
    assert 0.2 < first.face.mean() < 0.8
    assert np.abs(first.landmarks.mean(axis=0) - (first.crop.x, first.crop.y)).max() < first.crop.side / 5


def test_every_movement_of_the_protocol_is_judged_once():
    found = [moment.movement for moment in restoration.moments(HELD_OUT_FROM, size=(64, 48))]
    assert sorted(found) == sorted(MOVEMENTS)


def test_leaving_the_picture_as_it_is_scores_what_the_sensors_score_and_the_truth_scores_all():
    shown = []
    nothing = restoration.evaluate(
        Untouched(), participants=1, on_moment=lambda moment, restored: shown.append((moment, restored))
    )
    assert nothing.frames == len(shown) == len(MOVEMENTS)
    assert nothing.psnr_db == nothing.sensors_psnr_db < 24.0
    assert nothing.ssim == nothing.sensors_ssim < 0.85
    assert nothing.detect_pct == nothing.sensors_detect_pct
    assert nothing.unchanged_db == SAME_DB
    assert nothing.covered == nothing.covered_bare == 0.0
    assert restoration.side_by_side(*shown[0]).shape == (SIZE, 4 * SIZE, 3)
    everything = restoration.evaluate(Oracle([HELD_OUT_FROM]), participants=1)
    assert everything.psnr_db == np.inf
    assert everything.ssim == pytest.approx(1.0)
    assert everything.detect_pct >= nothing.sensors_detect_pct
    assert everything.covered > 0.2
    assert everything.covered_bare == 0.0
    assert everything.sensors_psnr_db == nothing.sensors_psnr_db


def test_the_figures_are_those_of_the_shipped_restorer():
    scores = restoration.evaluate(FaceRestorer(), participants=1)  # not what `shipped` keeps
    assert restoration.restored_psnr_db(1) == (pytest.approx(scores.psnr_db), len(MOVEMENTS))
    assert restoration.restored_ssim(1) == (pytest.approx(scores.ssim), len(MOVEMENTS))
    assert restoration.restored_detect_pct(1) == (pytest.approx(scores.detect_pct), len(MOVEMENTS))
    assert scores.psnr_db > scores.sensors_psnr_db + 3.0
    assert scores.unchanged_db > 35.0
