"""Motion per vertex: flow, solver, neutral and the estimator on simulated faces."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eifer_ros.errors import ModelError
from eifer_ros.head import projection
from eifer_ros.head.model import HeadModel, load_head, rotation_matrix
from eifer_ros.micro.core import MotionPrior, MotionSolver, load_prior
from eifer_ros.micro.flow import SIZE, DenseFlow, normalised, sample_patch, window
from eifer_ros.micro.geometry import FaceSkin, KeyView, key_view
from eifer_ros.micro.motion import (
    LIMIT_M,
    MicroMotionEstimator,
    MicroResult,
    MicroSettings,
    Modules,
    settled,
)
from eifer_ros.micro.neutral import RunningNeutral
from eifer_ros.simulation.participant import Participant
from eifer_ros.simulation.script import minimum_jerk
from eifer_ros.types import F32, F64, FaceOrigin, FaceState, Frame, nanoseconds

PICTURE = (320, 320)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head()


@pytest.fixture(scope="module")
def skin(head: HeadModel) -> FaceSkin:
    return FaceSkin.of(head)


@pytest.fixture(scope="module")
def person() -> Participant:
    return Participant(290_050, program="rest", sensors=True, size=PICTURE)


def shifted(dx: float, dy: float) -> F32:
    """(SIZE, SIZE) grey levels of a sum of waves moved by (dx, dy) px: exact at any shift."""
    rng = np.random.default_rng(3)
    x, y = np.meshgrid(np.arange(SIZE) - dx, np.arange(SIZE) - dy)
    picture = np.full((SIZE, SIZE), 110.0)
    for _ in range(60):
        (u, v), phase = rng.normal(0.0, 0.35, 2), rng.uniform(0.0, 2.0 * np.pi)
        picture += 5.0 * np.sin(u * x + v * y + phase)
    return picture.astype(np.float32)


# --- flow


@pytest.mark.parametrize(("dx", "dy"), [(0.1, 0.0), (0.0, -0.3), (1.7, 0.9)])
def test_flow_tells_a_shift_to_a_fiftieth_of_a_pixel(dx: float, dy: float) -> None:
    flow = DenseFlow()
    flow.take_key(normalised(shifted(0.0, 0.0)))
    found = flow.between(normalised(shifted(dx, dy)))[16:-16, 16:-16]
    assert np.abs(np.median(found, axis=(0, 1)) - (dx, dy)).max() < 0.02


def test_light_that_flickers_is_no_motion() -> None:
    flow = DenseFlow()
    key = shifted(0.0, 0.0)
    flow.take_key(normalised(key))
    slope = np.linspace(0.9, 1.1, SIZE, dtype=np.float32)
    found = flow.between(normalised(key * 1.12 * slope - 9.0))
    assert np.sqrt((found[8:-8, 8:-8] ** 2).mean()) < 0.02


def test_a_window_holds_every_point_of_the_face() -> None:
    points = np.random.default_rng(0).uniform((100, 50), (220, 240), (50, 2))
    matrix = window(points)
    inside = (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    assert inside.min() >= 0 and inside.max() <= SIZE - 1


def test_looking_outside_the_picture_repeats_its_edge() -> None:
    image = np.full((20, 20, 3), 77, np.uint8)
    maps = np.stack(np.meshgrid(np.linspace(-30, 60, SIZE), np.linspace(-30, 60, SIZE)), axis=-1).astype(
        np.float32
    )
    assert np.abs(sample_patch(image, maps, 0.7) - 77.0).max() < 0.01


# --- geometry and solver


@pytest.fixture(scope="module")
def view(skin: FaceSkin, person: Participant) -> KeyView:
    found = key_view(skin, person.face_at(2.0), person.intrinsics)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def solver(skin: FaceSkin, view: KeyView, head: HeadModel) -> MotionSolver:
    key = np.random.default_rng(1).normal(128.0, 30.0, (SIZE, SIZE)).astype(np.float32)
    return MotionSolver(skin, view, key, load_prior(head, skin))


def test_jacobians_agree_with_a_projection_of_moved_vertices(
    head: HeadModel, view: KeyView, person: Participant
) -> None:
    face = person.face_at(2.0)
    column = head.expression_names.index("mouthSmileLeft")
    weights = face.expression.copy()
    weights[column] += 0.02
    moved = np.einsum(
        "nc,ncd->nd", view.weights, head.state_vertices(replace(face, expression=weights))[view.corners]
    )
    on_skin = np.ptp(view.expression[: len(moved), column]) > 0
    drawn = projection.project(moved.astype(np.float64), face.head_pose, person.intrinsics)[:, :2]
    still = projection.project(view.points, face.head_pose, person.intrinsics)[:, :2]
    flow = (drawn - still) @ np.linalg.inv(view.matrix[:, :2]).T
    expected = 0.02 * view.expression[:, column].reshape(2, -1).T
    assert on_skin and np.abs(flow - expected).max() < 0.01 + 0.02 * np.abs(flow).max()


def test_rigid_jacobian_agrees_with_placing_the_points_anew(view: KeyView) -> None:
    turn, shift = np.array([0.004, -0.006, 0.003]), np.array([2e-4, -3e-4, 5e-4])
    inverse = np.linalg.inv(view.matrix[:, :2]).T
    flow = (view.placed(rotation_matrix(turn), shift) - view.placed(np.eye(3), np.zeros(3))) @ inverse
    expected = (view.rigid @ np.concatenate([turn, shift])).reshape(2, -1).T
    assert np.abs(flow - expected).max() < 0.02


@given(st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6))
def test_a_head_that_moves_is_no_expression(
    solver: MotionSolver, skin: FaceSkin, head: HeadModel, unit: list[float]
) -> None:
    rigid = np.array(unit) * (0.004, 0.004, 0.004, 5e-4, 5e-4, 5e-4)
    found = solver.solve((solver.view.rigid @ rigid).reshape(2, -1))
    moved = head.expression_basis[skin.vertices] @ found.expression.astype(np.float32)
    assert 1e3 * np.sqrt((moved**2).sum(axis=1).mean()) < 0.05  # of up to 1 mm that the head moved
    assert found.misfit_px < 0.03


def test_an_expression_is_found_under_head_motion(
    solver: MotionSolver, skin: FaceSkin, head: HeadModel
) -> None:
    true = np.zeros(head.expression_size)
    true[head.expression_names.index("mouthSmileLeft")] = 0.08
    rigid = np.array([0.002, -0.002, 0.001, 2e-4, 1e-4, 0.0])
    found = solver.solve((solver.view.rigid @ rigid + solver.view.expression @ true).reshape(2, -1))
    basis = head.expression_basis[skin.vertices].astype(np.float64)
    field = basis @ found.expression + skin.modes @ found.local.T
    error, size = np.linalg.norm(field - basis @ true), np.linalg.norm(basis @ true)
    assert error < 0.2 * size


def test_a_cable_that_slides_over_the_skin_moves_little(
    solver: MotionSolver, skin: FaceSkin, head: HeadModel
) -> None:
    view = solver.view
    middle = np.median(view.pixels, axis=0)
    on_cable = np.abs((view.pixels - middle) @ (0.8, 0.6)) < 3.0  # a line across the face
    flow = np.zeros((2, len(view.points)))
    flow[:, on_cable] = np.array([[1.2], [-1.6]])  # 2 px along it, more than 2 mm
    assert on_cable.sum() > 10

    def moved(robust: bool) -> float:
        found = solver.solve(flow, robust)
        field = (
            head.expression_basis[skin.vertices] @ found.expression.astype(np.float32)
            + skin.modes @ found.local.T
        )
        return 1e3 * float(np.sqrt((field**2).sum(axis=1).mean()))

    assert moved(True) < 0.1 and moved(True) < 0.5 * moved(False)


def test_a_face_seen_from_behind_has_no_view(skin: FaceSkin, person: Participant) -> None:
    face = person.face_at(2.0)
    turned = face.head_pose.copy()
    turned[:3, :3] = turned[:3, :3] @ rotation_matrix([0.0, np.pi, 0.0])
    assert key_view(skin, replace(face, head_pose=turned), person.intrinsics) is None


def test_a_damaged_prior_is_told(
    head: HeadModel, skin: FaceSkin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "micro_motion.npz").write_bytes(b"not an archive")
    monkeypatch.setenv("EIFER_SHARE", str(tmp_path))
    with pytest.raises(ModelError, match="damaged prior"):
        load_prior(head, skin)


# --- neutral


@given(st.integers(0, 2**31), st.floats(0.3, 0.9))
def test_a_movement_shorter_than_half_the_span_hardly_moves_the_neutral(seed: int, length_s: float) -> None:
    rng = np.random.default_rng(seed)
    neutral = RunningNeutral(0.05, 2.0)
    for step in range(600):
        time_s = step / 200.0
        moves = 1.0 if 2.0 < time_s < 2.0 + length_s else 0.0
        neutral.add(np.array([3.0 + 5.0 * moves]) + 0.01 * rng.standard_normal(1), time_s)
        value = neutral.value()
        assert value is not None
        if step > 20:
            assert abs(value[0] - 3.0) < 0.05
    assert neutral.ready


def test_a_face_that_stays_changed_becomes_the_neutral() -> None:
    neutral = RunningNeutral(0.05, 2.0)
    for step in range(700):
        neutral.add(np.array([0.0 if step < 300 else 1.0]), step / 200.0)
    value = neutral.value()
    assert value is not None and value[0] == pytest.approx(1.0)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=80), st.floats(-5, 5))
def test_counting_from_another_zero_moves_the_neutral_by_as_much(values: list[float], by: float) -> None:
    one, other = RunningNeutral(0.05, 1.0), RunningNeutral(0.05, 1.0)
    for step, value in enumerate(values):
        one.add(np.array([value]), step / 50.0)
        other.add(np.array([value + by]), step / 50.0)
    one.shift(np.array([by]))
    a, b = one.value(), other.value()
    assert a is not None and b is not None and np.abs(a - b).max() < 1e-9


# --- the estimator


def clip(
    person: Participant, rate_hz: float, seconds: float, smile: float, *, gain: npt.ArrayLike | None = None
) -> tuple[list[Frame], list[FaceState], list[F64]]:
    """Pictures, the resting face that a static estimator would hold, and what the expression truly does
    (change of the coefficients).
    """
    rest = person.face_at(2.0)
    column = person.head.expression_names.index("mouthSmileLeft")
    frames, states, true = [], [], []
    for step in range(round(seconds * rate_hz)):
        time_s = 2.0 + step / rate_hz
        change = np.zeros(len(rest.expression))
        since = (step / rate_hz - 0.5 * seconds) / 0.3
        change[column] = smile * minimum_jerk(2.0 * since) * minimum_jerk(2.0 - 2.0 * since)
        pose = person.head_pose(time_s)
        face = replace(
            rest,
            stamp=person.stamp(time_s),
            head_pose=pose,
            expression=(rest.expression + change).astype(np.float32),
        )
        frame = person.frame_at(time_s, face)
        if gain is not None:
            lit = np.clip(frame.image * np.asarray(gain)[step % len(np.asarray(gain))], 0, 255).astype(
                np.uint8
            )
            frame = replace(frame, image=lit)
        frames.append(frame)
        states.append(replace(rest, stamp=frame.stamp, head_pose=pose, origin=FaceOrigin.VISION))
        true.append(change)
    return frames, states, true


def follow(
    estimator: MicroMotionEstimator, frames: list[Frame], states: list[FaceState]
) -> list[MicroResult]:
    found = [estimator.update(frame, state) for frame, state in zip(frames, states, strict=True)]
    assert all(one is not None for one in found)
    return [one for one in found if one is not None]


def rms_mm(field: npt.NDArray[np.floating]) -> float:
    return 1e3 * float(np.sqrt((field**2).sum(axis=-1).mean()))


def test_a_new_key_picture_in_the_middle_of_a_movement_does_not_end_it(
    head: HeadModel, skin: FaceSkin, person: Participant
) -> None:
    frames, states, true = clip(person, 100.0, 0.6, 0.1)
    estimator = MicroMotionEstimator(head, MicroSettings(key_s=0.445))  # renewed at the apex
    found = follow(estimator, frames, states)
    assert estimator.keys == 2
    after = found[48].motion(head)[skin.vertices]
    wanted = head.expression_basis[skin.vertices].astype(np.float64) @ true[48]
    assert np.abs(wanted).max() > 2e-4 and np.corrcoef(after.ravel(), wanted.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("rate_hz", [100.0, 200.0])
def test_a_tenth_of_a_smile_is_reconstructed(
    head: HeadModel, skin: FaceSkin, person: Participant, rate_hz: float
) -> None:
    frames, states, true = clip(person, rate_hz, 0.7, 0.1)
    found = np.array(
        [one.motion(head)[skin.vertices] for one in follow(MicroMotionEstimator(head), frames, states)]
    )
    basis = head.expression_basis[skin.vertices].astype(np.float64)
    wanted = np.array([basis @ one for one in true])
    during = np.linalg.norm(wanted, axis=(1, 2)) > 0
    assert rms_mm(found[during] - wanted[during]) < 0.5 * rms_mm(wanted[during])
    assert np.corrcoef(found[during].ravel(), wanted[during].ravel())[0, 1] > 0.85


@pytest.fixture(scope="module")
def resting(person: Participant) -> tuple[list[Frame], list[FaceState]]:
    frames, states, _ = clip(person, 100.0, 0.4, 0.0)
    return frames, states


@pytest.mark.parametrize("light", ["steady", "mains"])
def test_a_face_at_rest_does_not_move(
    head: HeadModel, skin: FaceSkin, resting: tuple[list[Frame], list[FaceState]], light: str
) -> None:
    frames, states = resting
    if light == "mains":  # 100 Hz light against 100 pictures a second beats slowly
        gains = 1.0 + 0.1 * np.sin(2.0 * np.pi * np.arange(len(frames)) / 13.0)
        frames = [
            replace(f, image=np.clip(f.image * g, 0, 255).astype(np.uint8))
            for f, g in zip(frames, gains, strict=True)
        ]
    found = follow(MicroMotionEstimator(head), frames, states)
    assert rms_mm(np.array([one.motion(head)[skin.vertices] for one in found[5:]])) < 0.05


def test_what_comes_out_is_the_estimators_face_with_another_expression(
    head: HeadModel, resting: tuple[list[Frame], list[FaceState]]
) -> None:
    frames, states = resting
    for found, frame, state in zip(
        follow(MicroMotionEstimator(head), frames[:6], states[:6]), frames[:6], states[:6], strict=True
    ):
        fine = found.fine
        assert fine.stamp == frame.stamp and fine.origin == state.origin
        assert np.array_equal(fine.shape, state.shape) and np.array_equal(fine.head_pose, state.head_pose)
        assert np.array_equal(fine.neck, state.neck) and np.array_equal(fine.eyes, state.eyes)
        assert (fine.expression >= head.expression_bounds[:, 0]).all() and (
            fine.expression <= head.expression_bounds[:, 1]
        ).all()
        field = found.field(head)
        assert (
            field.stamp == fine.stamp
            and field.origin == fine.origin
            and field.displacement.shape == head.template.shape
        )
        assert np.linalg.norm(field.displacement, axis=1).max() <= LIMIT_M


def test_what_the_bounds_of_the_coefficients_keep_out_travels_in_the_displacement(
    head: HeadModel, resting: tuple[list[Frame], list[FaceState]]
) -> None:
    """Faces and displacements as they are sent, together, are the motion that was found."""
    frames, states = resting
    count = head.expression_size
    low = [
        replace(state, expression=np.zeros(count, np.float32)) for state in states
    ]  # resting at the bound: half of every motion is cut
    found = follow(MicroMotionEstimator(head), frames, low)
    cut = 0
    for one in found[8:]:
        sent = head.expression_basis @ one.fine.expression + one.field(head).displacement
        gaze = np.array([name.startswith("eyeLook") for name in head.expression_names])
        meant = (
            head.expression_basis @ np.where(gaze, one.fine.expression, one.expression).astype(np.float32)
            + one.displacement
        )
        np.testing.assert_allclose(sent, meant, atol=2e-6)
        cut += int(one.beyond.any())
    assert cut > 3


@given(st.integers(0, 2**31), st.floats(1e-6, 0.05))
def test_displacements_are_bounded_and_what_rests_has_no_drift(seed: int, size: float) -> None:
    field = np.random.default_rng(seed).normal(0.0, size, (40, 3))
    field[:20] = np.array([8e-6, -5e-6, 3e-6])
    out = settled(field)
    assert np.linalg.norm(out, axis=1).max() <= LIMIT_M * 1.001
    quiet = np.linalg.norm(field, axis=1) < 2e-5
    assert np.abs(out[quiet].mean(axis=0)).max() < 1e-9


def test_a_head_that_turns_far_is_followed_from_a_new_picture_without_a_jump(
    head: HeadModel, skin: FaceSkin, person: Participant
) -> None:
    rest = person.face_at(2.0)
    estimator = MicroMotionEstimator(head)
    moved = []
    for step in range(40):
        turn = rotation_matrix([0.0, 0.30 * float(minimum_jerk(step / 40.0)), 0.0])
        pose = rest.head_pose.copy()
        pose[:3, :3] = pose[:3, :3] @ turn
        face = replace(rest, stamp=person.stamp(2.0 + step / 100.0), head_pose=pose)
        result = estimator.update(person.frame_at(2.0 + step / 100.0, face), face)
        assert result is not None
        moved.append(rms_mm(result.motion(head)[skin.vertices]))
    assert estimator.keys >= 2
    assert max(moved) < 0.25 and max(abs(b - a) for a, b in itertools.pairwise(moved)) < 0.12


def test_a_lost_face_is_waited_for_and_then_forgotten(
    head: HeadModel, resting: tuple[list[Frame], list[FaceState]]
) -> None:
    frames, states = resting
    estimator = MicroMotionEstimator(head)
    follow(estimator, frames[:3], states[:3])
    lost = FaceState.lost(0, head.id, FaceOrigin.VISION, head.shape_size, head.expression_size)
    assert estimator.update(frames[3], replace(lost, stamp=frames[3].stamp)) is None
    assert estimator.update(frames[4], states[4]) is not None and estimator.keys == 1
    later = replace(frames[5], stamp=frames[5].stamp + nanoseconds(2.0))
    assert estimator.update(later, replace(lost, stamp=later.stamp)) is None
    again = replace(frames[6], stamp=later.stamp + nanoseconds(0.01))
    assert estimator.update(again, states[6]) is not None and estimator.keys == 2


def test_time_that_goes_back_starts_anew(
    head: HeadModel, resting: tuple[list[Frame], list[FaceState]]
) -> None:
    frames, states = resting
    estimator = MicroMotionEstimator(head)
    first = follow(estimator, frames[:4], states[:4])
    second = follow(estimator, frames[:4], states[:4])
    assert estimator.keys == 2
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.fine.expression, other.fine.expression) and np.array_equal(
            one.displacement, other.displacement
        )


def test_the_estimator_carries_on_between_the_faces_of_a_slower_one(
    head: HeadModel, skin: FaceSkin, person: Participant
) -> None:
    frames, states, true = clip(person, 100.0, 0.6, 0.1)
    held = [states[step - step % 4] for step in range(len(states))]
    found = follow(MicroMotionEstimator(head), frames, held)
    assert [one.fine.stamp for one in found] == [frame.stamp for frame in frames]
    peak = int(np.argmax([one.max() for one in true]))
    wanted = head.expression_basis[skin.vertices].astype(np.float64) @ true[peak]
    assert np.corrcoef(found[peak].motion(head)[skin.vertices].ravel(), wanted.ravel())[0, 1] > 0.85


def test_modules_can_be_taken_out(head: HeadModel, resting: tuple[list[Frame], list[FaceState]]) -> None:
    frames, states = resting
    without = MicroMotionEstimator(head, MicroSettings(modules=Modules(deformation=False, dynamic=False)))
    for one, state in zip(follow(without, frames[:4], states[:4]), states[:4], strict=True):
        assert np.abs(one.displacement).max() == 0.0
        assert np.abs(one.fine.expression - state.expression).max() < 1e-6


def test_a_head_nothing_was_measured_for_uses_a_plain_prior(head: HeadModel, skin: FaceSkin) -> None:
    prior = load_prior(replace(head, template=head.template * np.float32(1.01)), skin)
    assert prior.factor is None
    estimator = MicroMotionEstimator(head, prior=MotionPrior.plain(head, skin))
    estimator.warm_up()
    assert estimator.keys == 0
