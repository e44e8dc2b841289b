"""ARKit weights from a face of any head model, and least squares within bounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fabricated_flame
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from eifer_ros.errors import ModelError
from eifer_ros.head import bounded, flame, projection
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.head.retarget import GAZE_FULL_RAD, Retarget, gaze_angles, head_angles
from eifer_ros.types import ARKIT_52, FaceOrigin, FaceState

READABLE = [i for i, name in enumerate(ARKIT_52) if not name.startswith("eyeLook") and name != "tongueOut"]


def face(head: HeadModel, expression: np.ndarray, **changes: object) -> FaceState:
    values: dict = {
        "shape": np.zeros(head.shape_size),
        "expression_std": np.zeros(head.expression_size),
        "jaw": np.zeros(3),
        "neck": np.zeros(3),
        "eyes": np.zeros((2, 3)),
        "eyelids": np.zeros(2),
        "head_pose": projection.facing_pose(0.6),
    }
    return FaceState(
        0, head.id, FaceOrigin.TRUTH, expression=expression, confidence=1.0, **(values | changes)
    )


@pytest.fixture(scope="module")
def flame_head(tmp_path_factory: pytest.TempPathFactory) -> tuple[HeadModel, np.ndarray]:
    arrays = fabricated_flame.fabricate(load_head(), seed=5)
    path = fabricated_flame.write(tmp_path_factory.mktemp("retarget") / "flame.pkl", arrays)
    return flame.import_flame(path, None, "flame").model, arrays["mixing"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_bounded_least_squares_agrees_with_scipy(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(count + 5, count)), rng.normal(size=count + 5)
    lower = rng.uniform(-0.5, 0.0, count)
    upper = lower + rng.uniform(0.1, 0.8, count)
    wanted = scipy.optimize.lsq_linear(a, b, (lower, upper), tol=1e-12).x
    got = bounded.solve(a.T @ a, a.T @ b, lower, upper, tolerance=1e-10, sweeps=20000)
    assert got == pytest.approx(wanted, abs=1e-5)


def test_an_unknown_that_nothing_depends_on_keeps_its_start() -> None:
    gram = np.diag([2.0, 0.0])
    got = bounded.solve(gram, np.array([1.0, 0.0]), np.zeros(2), np.ones(2), np.array([0.0, 0.3]))
    assert got == pytest.approx([0.5, 0.3])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=52, max_size=52))
def test_the_open_head_passes_through_unchanged(weights: list[float]) -> None:
    head = load_head()
    assert np.array_equal(
        Retarget(head)(face(head, np.array(weights, np.float32))), np.array(weights, np.float32)
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_actions_come_back_from_a_flame_face_that_makes_them(
    flame_head: tuple[HeadModel, np.ndarray], seed: int
) -> None:
    # the fabricated FLAME expression is a known mixture of the actions, on another person's face and another
    # mesh
    head, mixing = flame_head
    rng = np.random.default_rng(seed)
    wanted = np.zeros(52)
    chosen = rng.choice(READABLE, 4, replace=False)
    wanted[chosen] = rng.uniform(0.3, 0.9, 4)
    got = Retarget(head)(face(head, (np.linalg.pinv(mixing) @ wanted).astype(np.float32)))
    assert got.min() >= 0.0
    assert got.max() <= 1.0
    assert np.corrcoef(got[READABLE], wanted[READABLE])[0, 1] > 0.9
    assert np.abs(got[READABLE] - wanted[READABLE]).mean() < 0.06


def test_the_jaw_joint_of_a_flame_face_opens_the_jaw(flame_head: tuple[HeadModel, np.ndarray]) -> None:
    head, _ = flame_head
    mapped = Retarget(head)
    names = dict(zip(ARKIT_52, mapped(face(head, np.zeros(100), jaw=np.array([0.25, 0, 0]))), strict=True))
    assert names["jawOpen"] > 0.25
    assert names["jawOpen"] == max(names.values())
    mapped.reset()
    assert mapped(face(head, np.zeros(100))).max() < 0.02


def test_eyelids_blink_on_both_kinds_of_head(flame_head: tuple[HeadModel, np.ndarray]) -> None:
    for head in (flame_head[0], load_head()):
        weights = Retarget(head)(face(head, np.zeros(head.expression_size), eyelids=np.array([0.9, 0.2])))
        assert weights[ARKIT_52.index("eyeBlinkLeft")] == pytest.approx(0.9, abs=0.06)
        assert weights[ARKIT_52.index("eyeBlinkRight")] == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize(
    ("yaw", "pitch", "set_weights"),
    [
        (0.2, 0.0, {"eyeLookOutLeft", "eyeLookInRight"}),
        (-0.2, 0.0, {"eyeLookInLeft", "eyeLookOutRight"}),
        (0.0, 0.2, {"eyeLookDownLeft", "eyeLookDownRight"}),
        (0.0, -0.2, {"eyeLookUpLeft", "eyeLookUpRight"}),
    ],
)
def test_gaze_sets_the_four_look_weights_of_the_right_side(
    yaw: float, pitch: float, set_weights: set[str]
) -> None:
    head = load_head()
    turn = Rotation.from_euler("yx", [yaw, pitch]).as_rotvec()
    state = face(head, np.zeros(52), eyes=np.stack([turn, turn]))
    weights = Retarget(head)(state)
    assert {ARKIT_52[i] for i in np.flatnonzero(weights > 1e-6)} == set_weights
    wanted = pytest.approx(np.array([[yaw, pitch]] * 2), abs=1e-6)
    assert gaze_angles(state.eyes) == wanted
    assert Retarget(head).gaze(state) == wanted
    # the actions alone say the same, and saying it twice is not looking twice as far
    by_actions = face(head, weights)
    assert Retarget(head).gaze(by_actions) == wanted
    assert Retarget(head)(face(head, weights, eyes=state.eyes)) == pytest.approx(weights, abs=1e-6)


def test_gaze_of_a_head_without_eye_actions_is_scaled_to_its_full_turn(
    flame_head: tuple[HeadModel, np.ndarray],
) -> None:
    head, _ = flame_head
    weights = Retarget(head)(face(head, np.zeros(100), eyes=np.array([[0, 0.2, 0], [0, 0.2, 0]])))
    assert weights[ARKIT_52.index("eyeLookOutLeft")] == pytest.approx(0.2 / GAZE_FULL_RAD, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_head_angles_are_those_the_pose_was_made_of(yaw: float, pitch: float, roll: float) -> None:
    head = load_head()
    state = face(head, np.zeros(52), head_pose=projection.facing_pose(0.6, yaw=yaw, pitch=pitch, roll=roll))
    # -z of facing_pose's roll is our sign: both say "to the subject's right shoulder"
    assert head_angles(state) == pytest.approx([yaw, pitch, roll], abs=1e-6)


def test_a_lost_or_broken_face_has_no_weights() -> None:
    head = load_head()
    assert np.isnan(Retarget(head)(FaceState.lost(0, head.id, FaceOrigin.VISION, head.shape_size, 52))).all()
    broken = np.zeros(52, np.float32)
    broken[3] = np.inf
    assert np.isnan(Retarget(head)(face(head, broken))).all()


def test_faces_of_another_head_and_heads_without_a_map_are_refused_by_name(
    flame_head: tuple[HeadModel, np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"'flame' was given to .* 'open_head'"):
        Retarget(load_head())(face(flame_head[0], np.zeros(100)))
    with pytest.raises(ModelError, match="'flame' has neither"):
        Retarget(replace(flame_head[0], arkit=None))
