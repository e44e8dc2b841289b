from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eifer_ros.emg.montage import FRIDLUND
from eifer_ros.errors import InputError
from eifer_ros.simulation.muscles import (
    ACTUATORS,
    GRID_HZ,
    HIDDEN,
    MUSCLES,
    MuscleMap,
    MuscleTimeline,
    follow,
    gaze_weights,
    muscle_index,
    reference_matrix,
    saturate,
)
from eifer_ros.simulation.script import Script
from eifer_ros.types import ARKIT_52

LINKS = [  # muscle, ARKit action it makes on its own side (FACS)
    ("medial_frontalis", "browInnerUp"),
    ("lateral_frontalis", "browOuterUp"),
    ("corrugator_supercilii", "browDown"),
    ("depressor_supercilii", "browDown"),
    ("levator_labii_superioris", "mouthUpperUp"),
    ("levator_labii_superioris", "noseSneer"),
    ("orbicularis_oris", "mouthPucker"),
    ("depressor_anguli_oris", "mouthFrown"),
    ("mentalis", "mouthShrugLower"),
    ("orbicularis_oculi", "eyeSquint"),
    ("zygomaticus_major", "mouthSmile"),
]


def only(**levels: float) -> np.ndarray:
    activation = np.zeros(len(ACTUATORS))
    for name, level in levels.items():
        activation[ACTUATORS.index(name)] = level
    return activation


def test_muscles_have_the_numbers_of_the_fridlund_scheme() -> None:
    assert FRIDLUND.names == MUSCLES
    assert MUSCLES[muscle_index("zygomaticus_major", "right")] == "F19"


@pytest.mark.parametrize(("muscle", "action"), LINKS)
@pytest.mark.parametrize(("side", "suffix", "other"), [("right", "Right", "Left"), ("left", "Left", "Right")])
def test_a_muscle_moves_its_own_side(muscle: str, action: str, side: str, suffix: str, other: str) -> None:
    activation = np.zeros(len(ACTUATORS))
    activation[muscle_index(muscle, side)] = 1.0
    weights = dict(zip(ARKIT_52, MuscleMap(3).expression(activation), strict=True))
    if action in weights:
        assert weights[action] > 0.3
    else:
        assert weights[action + suffix] > 0.3
        assert weights[action + other] < 0.02


def test_the_reference_matrix_is_sparse_signed_and_mirrors() -> None:
    matrix = reference_matrix()
    assert matrix.shape == (52, 26)
    assert np.mean(matrix != 0) < 0.12
    assert (matrix < 0).any()
    swap_rows = [
        ARKIT_52.index(n.replace("Left", "*").replace("Right", "Left").replace("*", "Right"))
        for n in ARKIT_52
    ]
    swap_columns = [*(i ^ 1 for i in range(len(MUSCLES))), *range(len(MUSCLES), len(ACTUATORS))]
    assert np.allclose(matrix, matrix[np.ix_(swap_rows, swap_columns)])


def test_no_muscle_moves_the_eyeballs_or_the_tongue() -> None:
    for name in ARKIT_52:
        if name.startswith("eyeLook") or name == "tongueOut":
            assert not reference_matrix()[ARKIT_52.index(name)].any()


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float64, len(ACTUATORS), elements=st.floats(0.0, 1.0)), st.integers(0, 100))
def test_every_expression_is_within_the_arkit_range(activation: np.ndarray, seed: int) -> None:
    weights = MuscleMap(seed).expression(activation)
    assert (weights >= 0.0).all()
    assert (weights < 1.0).all()


@given(st.floats(-2.0, 2.0), st.floats(0.0, 0.5))
def test_the_saturation_is_monotone_with_zero_at_rest(force: float, more: float) -> None:
    assert saturate(np.array(0.0)) == 0.0
    assert saturate(np.array(force + more)) >= saturate(np.array(force))
    assert saturate(np.array(-abs(force))) == 0.0


def test_antagonists_cancel() -> None:
    smile = MuscleMap(1).expression(only(F19=0.8, F20=0.8))
    torn = MuscleMap(1).expression(only(F19=0.8, F20=0.8, F13=1.0, F14=1.0))
    corner = ARKIT_52.index("mouthSmileLeft")
    assert torn[corner] < 0.75 * smile[corner]


def test_gravity_opens_the_jaw_with_little_muscle_and_the_masseter_holds_it() -> None:
    jaw = ARKIT_52.index("jawOpen")
    weights = MuscleMap(1)
    assert weights.expression(only(jaw_opener=0.3))[jaw] > 0.3
    assert weights.expression(only(jaw_opener=0.3, F21=0.8, F22=0.8))[jaw] == 0.0


def test_people_differ_more_than_the_sides_of_one_face() -> None:
    ratio = np.array(
        [
            [
                np.log(
                    m.matrix[ARKIT_52.index(f"mouthSmile{s}"), muscle_index("zygomaticus_major", s.lower())]
                )
                for s in ("Left", "Right")
            ]
            for m in (MuscleMap(seed) for seed in range(60))
        ]
    )
    assert ratio.mean(axis=1).std() == pytest.approx(0.15, rel=0.35)
    assert (ratio[:, 0] - ratio[:, 1]).std() < 0.12
    assert np.array_equal(MuscleMap(5).matrix, MuscleMap(5).matrix)


@pytest.mark.parametrize("lag_s", [0.03, 0.07, 0.11, 0.15])
def test_the_skin_lags_by_what_was_set_as_an_independent_cross_correlation_finds(lag_s: float) -> None:
    times = np.arange(0.0, 165.0, 1.0 / GRID_HZ)
    excitation = Script(11, program="calibration").excitation(times)
    skin = follow(excitation, lag_s)
    for index in (0, 9, 18):
        a, b = excitation[:, index] - excitation[:, index].mean(), skin[:, index] - skin[:, index].mean()
        size = 2 * len(a)
        cross = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)))
        assert np.argmax(cross[:200]) / GRID_HZ == pytest.approx(lag_s, abs=0.04 * lag_s + 0.002)


@pytest.mark.parametrize("lag_s", [0.03, 0.07, 0.15])
def test_the_mean_delay_of_rise_and_fall_is_the_lag(lag_s: float) -> None:
    # the area between a step and its delayed answer is the delay, up and down together twice the lag
    steps = round(2.0 * GRID_HZ)
    course = np.concatenate([np.zeros(steps), np.ones(steps), np.zeros(steps)])
    excitation = np.tile(course[:, None], (1, len(ACTUATORS)))
    skin = follow(excitation, lag_s)[:, 0]
    rise = (course[: 2 * steps] - skin[: 2 * steps]).sum() / GRID_HZ
    fall = (skin[2 * steps :] - course[2 * steps :]).sum() / GRID_HZ
    assert 0.5 * (rise + fall) == pytest.approx(lag_s, rel=1e-6)
    assert rise < fall
    assert not skin[: steps + 5].any()


def test_lids_are_quick_whatever_the_lag() -> None:
    lid = ACTUATORS.index("lid_closer")
    excitation = np.zeros((1000, len(ACTUATORS)))
    excitation[500:] = 1.0
    for lag_s in (0.05, 0.15):
        delayed = (excitation[:, lid] - follow(excitation, lag_s)[:, lid]).sum() / GRID_HZ
        assert 0.010 < delayed < 0.025


@pytest.mark.parametrize("lag_s", [0.0, 0.029, 0.2, -0.07])
def test_a_lag_outside_its_range_is_refused(lag_s: float) -> None:
    with pytest.raises(InputError, match=r"0\.03\.\.0\.15"):
        MuscleTimeline(Script(1).excitation, lag_s)


def test_skin_at_random_times_equals_one_long_run() -> None:
    script = Script(4)
    timeline = MuscleTimeline(script.excitation, 0.15)
    times = np.arange(0.0, 40.0, 1.0 / GRID_HZ)
    whole = follow(script.excitation(times), 0.15)
    later = np.array([3.999, 4.0, 11.998, 12.0, 12.002, 27.5, 39.0])
    rows = np.round(later * GRID_HZ).astype(int)
    assert np.abs(timeline.skin(times[rows]) - whole[rows]).max() < 1e-7


def test_two_timelines_agree_bit_for_bit_in_any_order() -> None:
    one, other = (MuscleTimeline(Script(4).excitation, 0.07) for _ in range(2))
    times = np.linspace(0.0, 30.0, 50)
    forward = np.array([one.skin(t) for t in times])
    backward = np.array([other.skin(t) for t in times[::-1]])[::-1]
    assert np.array_equal(forward, backward)


@given(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
def test_gaze_uses_the_right_actions(yaw: float, pitch: float) -> None:
    weights = dict(zip(ARKIT_52, gaze_weights(yaw, pitch), strict=True))
    assert (weights["eyeLookOutLeft"] > 0) == (yaw > 0) == (weights["eyeLookInRight"] > 0)
    assert (weights["eyeLookUpLeft"] > 0) == (pitch > 0)
    assert sum(value > 0 for value in weights.values()) <= 4


def test_hidden_actuators_come_last() -> None:
    assert ACTUATORS[-len(HIDDEN) :] == HIDDEN
