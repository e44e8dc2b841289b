"""The fit to encoder readings, against exact projections of known heads: no network in the loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.head import projection
from eifer_ros.head.model import load_head
from eifer_ros.reconstruction.encoder.face_crop import POINTS, crop_of
from eifer_ros.reconstruction.encoder.face_encoder import Reading, ray_rotation
from eifer_ros.reconstruction.encoder.sensor_fit import PersonShape, SensorFit, SensorFitSettings
from eifer_ros.reconstruction.gaze import eye_turn
from eifer_ros.reconstruction.landmarks.landmark_model import LandmarkModel

K = np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]])
FUSED, ALONE = SensorFitSettings(point_sigma=2e-3), SensorFitSettings(point_sigma=np.inf)


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def model(head):
    return LandmarkModel.of(head)


def view(head, yaw=0.0, pitch=0.0, roll=0.0, distance=0.6, offset=(0.0, 0.0)):
    return projection.facing_pose(
        distance, yaw=yaw, pitch=pitch, roll=roll, centre=head.points(head.template)[4], offset=offset
    )


def read(head, pose, shape, expression, eyes=None, std=0.05, said=None):
    """What a perfect encoder says; `said`: an expression that it says instead of the true one."""
    vertices = head.vertices(shape, expression, eyes=eyes)
    flat = projection.project(head.points(vertices)[list(POINTS)].astype(np.float64), pose, K)[:, :2]
    crop = crop_of(flat)
    cos, sin = np.cos(crop.angle), np.sin(crop.angle)
    ray = ray_rotation(((crop.x - K[0, 2]) / K[0, 0], (crop.y - K[1, 2]) / K[1, 1]))
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ ray.T @ pose[:3, :3]
    size = head.expression_size
    return Reading(
        crop,
        flat,
        np.asarray(expression if said is None else said, np.float64),
        np.full(size, std),
        turn,
        np.asarray(shape, np.float64),
        1.0,
    )


def moment(head, rng):
    out = np.zeros(head.expression_size)
    for name in (
        "jawOpen",
        "mouthSmileLeft",
        "mouthSmileRight",
        "browInnerUp",
        "eyeBlinkLeft",
        "noseSneerRight",
    ):
        out[head.expression_names.index(name)] = rng.uniform(0, 0.9)
    return out


@given(
    st.integers(0, 10**6),
    st.floats(-0.5, 0.5),
    st.floats(-0.3, 0.3),
    st.floats(-0.5, 0.5),
    st.floats(-0.15, 0.15),
)
@settings(max_examples=12, deadline=None)
def test_a_perfect_reading_gives_pose_and_expression_in_metres_and_radians(
    head, model, seed, yaw, pitch, roll, aside
):
    rng = np.random.default_rng(seed)
    shape, expression = rng.normal(size=head.shape_size) * 0.7, moment(head, rng)
    pose = view(head, yaw, pitch, roll, rng.uniform(0.4, 1.2), (aside, 0.03))
    for fitting in (ALONE, FUSED):
        fit = SensorFit(model, fitting).fit(read(head, pose, shape, expression), K, 0.03)
        np.testing.assert_allclose(fit.pose[:3, :3], pose[:3, :3], atol=2e-3)
        np.testing.assert_allclose(fit.pose[:3, 3], pose[:3, 3], atol=3e-3)
        np.testing.assert_allclose(fit.face, expression, atol=0.03)
        assert fit.residual < 1e-3


def test_points_correct_an_expression_that_the_encoder_got_wrong(head, model):
    rng = np.random.default_rng(3)
    shape, expression = rng.normal(size=head.shape_size) * 0.5, moment(head, rng)
    said = np.clip(expression + rng.normal(0, 0.15, expression.shape), 0, 1)
    seen = read(head, view(head, 0.2, 0.1), shape, expression, std=0.15, said=said)
    alone, fused = SensorFit(model, ALONE).fit(seen, K, 1.0), SensorFit(model, FUSED).fit(seen, K, 1.0)
    metric = np.sqrt((head.expression_basis[head.regions["face"]] ** 2).sum(axis=1).mean(axis=0))

    def miss(fit):
        return np.linalg.norm((fit.face - expression) * metric)

    assert miss(fused) < 0.5 * miss(alone)
    assert (fused.std <= alone.std + 1e-9).all(), "a measurement never makes it less sure"


def test_a_hand_over_a_third_of_the_points_does_not_turn_the_head(head, model):
    """Robust weights: points pushed aside by 3 cm lose their say."""
    shape, expression = np.zeros(head.shape_size), np.zeros(head.expression_size)
    pose = view(head)
    seen = read(head, pose, shape, expression)
    points = seen.points.copy()
    points[::3] += (30.0, 0.0)
    moved = Reading(seen.crop, points, seen.expression, seen.expression_std, seen.turn, seen.shape, 1.0)
    fit = SensorFit(model).fit(moved, K, 1.0)
    angle = np.arccos(np.clip((np.trace(fit.pose[:3, :3] @ pose[:3, :3].T) - 1) / 2, -1, 1))
    assert np.degrees(angle) < 3.0 and np.abs(fit.pose[:2, 3] - pose[:2, 3]).max() < 0.01


def test_gaze_follows_the_irises(head, model):
    rest = np.zeros(head.expression_size)
    for yaw, pitch in ((0.0, 0.0), (0.25, 0.0), (-0.2, 0.1), (0.1, -0.15)):
        turn = eye_turn(yaw, pitch)
        fit = SensorFit(model).fit(
            read(head, view(head), np.zeros(head.shape_size), rest, eyes=np.stack([turn, turn])), K, 1.0
        )
        np.testing.assert_allclose(fit.gaze[:, 0], yaw, atol=0.06)
        np.testing.assert_allclose(fit.gaze[:, 1], pitch, atol=0.06)


def test_one_person_has_one_shape(head, model):
    """Noisy shape readings: after a few pictures the shape stands still, near the mean."""
    rng = np.random.default_rng(5)
    true = rng.normal(size=head.shape_size)
    expression = np.zeros(head.expression_size)
    fit, shapes, said = SensorFit(model), [], []
    for _ in range(120):
        seen = read(head, view(head), true, expression)
        said.append(true + rng.normal(0, 0.5, true.shape))
        shapes.append(fit.fit(Reading(**{**seen.__dict__, "shape": said[-1]}), K, 0.03).shape)
    assert np.std(shapes, axis=0).mean() < 0.4 * np.std(said, axis=0).mean()
    assert np.linalg.norm(shapes[-1] - true) < 0.2 * np.linalg.norm(said[-1] - true)
    fit.reset()
    assert not fit.shape.any()


def test_a_few_strange_shapes_hardly_move_the_mean():
    rng = np.random.default_rng(6)
    person = PersonShape(20, 200.0)
    true = rng.normal(size=20)
    for number in range(80):
        person.add(true + rng.normal(0, 0.1, 20) + (8.0 if number % 10 == 7 else 0.0), 1.0)
    assert np.abs(person.value - true).max() < 0.25, "the plain mean would be 0.8 off"


def test_unsure_readings_count_less():
    person = PersonShape(3, 200.0)
    person.add(np.ones(3), 1.0)
    person.add(np.zeros(3), 0.0)
    np.testing.assert_array_equal(person.value, np.ones(3))


def test_a_depth_camera_says_how_large_the_head_is(head, model):
    """A head 8 % larger than its reading, seen at 0.7 m: without depth it seems nearer, with it the distance
    is right.
    """
    expression, shape = np.zeros(head.expression_size), np.zeros(head.shape_size)
    pose = view(head, distance=0.7)
    scaled = pose.copy()
    scaled[:3, 3] = (
        pose[:3, 3] / 1.08
    )  # the same picture as a head 1.08 times as large at 1.08 times the distance
    seen = read(head, scaled, shape, expression)
    depth = np.full(478, np.nan, np.float32)
    points = projection.project(head.points(head.template).astype(np.float64), scaled, K)
    depth[list(POINTS)] = (1.08 * points[:, 2])[list(POINTS)]
    fit = SensorFit(model)
    for _ in range(10):
        with_depth = fit.fit(seen, K, 0.03, depth)
    without = SensorFit(model).fit(seen, K, 0.03)
    assert without.pose[2, 3] == pytest.approx(scaled[2, 3], abs=0.01)
    assert with_depth.pose[2, 3] == pytest.approx(1.08 * scaled[2, 3], abs=0.015)
    eyes = head.points(head.vertices(with_depth.shape))[[33, 263]]
    usual = head.points(head.template)[[33, 263]]
    assert np.linalg.norm(np.diff(eyes, axis=0)) > 1.03 * np.linalg.norm(np.diff(usual, axis=0))


def test_smoothing_is_causal_and_has_no_lag_for_a_sure_encoder(head, model):
    fit = SensorFit(model)
    closed, open_ = np.zeros(head.expression_size), np.zeros(head.expression_size)
    open_[head.expression_names.index("jawOpen")] = 0.8
    jaw = head.expression_names.index("jawOpen")
    values = [
        fit.fit(read(head, view(head), np.zeros(head.shape_size), e, std=0.05), K, 0.033).face[jaw]
        for e in (closed, closed, open_, open_)
    ]
    assert values[1] < 0.02 and values[2] > 0.76, "within one picture"
