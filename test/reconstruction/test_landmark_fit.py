"""The landmark fit against exact projections of known heads: no network in the loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.errors import ModelError
from eifer_ros.head import projection
from eifer_ros.head.model import load_head
from eifer_ros.reconstruction.landmarks import landmark_fit
from eifer_ros.reconstruction.landmarks.attention_mesh import MESH, Landmarks
from eifer_ros.reconstruction.landmarks.landmark_fit import (
    FitTable,
    LandmarkFit,
    linearise,
    load_table,
)
from eifer_ros.reconstruction.landmarks.landmark_model import LandmarkModel
from research.faces.landmark_calibration import learn_people

K = np.array([[600.0, 0.0, 319.5], [0.0, 600.0, 239.5], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def model(head):
    return LandmarkModel.of(head)


def exact_table(model):
    """A table that trusts landmarks to 0.3 mm."""
    plain = FitTable.plain(model)
    sigma = plain.sigma.copy()
    sigma[:MESH] = 3e-4
    return replace(plain, sigma=sigma)


def view(yaw=0.0, pitch=0.0, distance=0.5):
    return projection.facing_pose(distance, yaw=yaw, pitch=pitch, centre=(0.0, -0.03, 0.0))


def seen(head, pose, shape, expression, noise=0.0, rng=None):
    """Landmarks as a perfect network would place them, relative depth included."""
    drawn = projection.project(head.points(head.vertices(shape, expression)).astype(np.float64), pose, K)
    middle = drawn[:MESH, 2].mean()
    drawn[:, 2] = (drawn[:, 2] - middle) * K[0, 0] / middle
    if noise:
        drawn[:, :2] += rng.normal(0.0, noise, drawn[:, :2].shape)
    return Landmarks(drawn.astype(np.float32), 1.0)


def expression_of(head, **weights):
    out = np.zeros(head.expression_size)
    for name, value in weights.items():
        out[head.expression_names.index(name)] = value
    return out


def test_landmark_model_equals_the_full_head(head, model):
    rng = np.random.default_rng(0)
    for _ in range(5):
        shape, expression = rng.normal(size=head.shape_size), rng.uniform(size=head.expression_size)
        full = head.points(head.vertices(shape, expression))
        np.testing.assert_allclose(model.points(expression, shape), full, atol=1e-5)


def test_the_jacobian_is_the_derivative_of_the_residual(model):
    """Central differences; robust weights are held by making the residual tiny against their scale."""
    rng = np.random.default_rng(1)
    count = 12
    points = rng.normal(0.0, 0.05, (count, 3))
    basis = rng.normal(0.0, 0.01, (count, 3, 4)).astype(np.float32)
    rotation = view(0.3, 0.2)[:3, :3].copy()
    pose = np.concatenate([rng.normal(0.0, 0.01, 3), [0.02, -0.01, 0.6], [0.003, 0.95]])
    camera = np.array([600.0, 590.0, 320.0, 240.0, 0.55])
    placed = (points - pose[:3]) @ rotation.T + pose[3:6]
    pixels = placed[:, :2] / placed[:, 2:] * camera[:2] + camera[2:4]
    depth = ((placed[:, 2] - pose[5]) / pose[5] * camera[4] - pose[6]) / pose[7] / camera[4]
    ones = np.ones(count)

    def residual(turn, move, face):
        moved = points + basis.astype(np.float64) @ face
        turned = landmark_fit.rotation_matrix(turn) @ rotation
        jacobian, miss = np.zeros((3 * count, 12), np.float32), np.zeros(3 * count, np.float64)
        linearise(
            moved,
            basis,
            turned,
            pose + np.concatenate([np.zeros(3), move]),
            pixels,
            depth,
            camera,
            ones,
            ones,
            True,
            4,
            jacobian,
            miss,
        )
        return miss, jacobian

    miss, jacobian = residual(np.zeros(3), np.zeros(5), np.zeros(4))
    np.testing.assert_allclose(miss, 0.0, atol=1e-9)
    step = 1e-5
    for column in range(12):
        change = np.zeros(12)
        change[column] = step
        plus, _ = residual(change[:3], change[3:8], change[8:])
        minus, _ = residual(-change[:3], -change[3:8], -change[8:])
        np.testing.assert_allclose(jacobian[:, column], -(plus - minus) / (2 * step), atol=2e-4)


@given(st.integers(0, 10**6), st.floats(-0.5, 0.5), st.floats(-0.25, 0.25))
@settings(max_examples=8, deadline=None)
def test_exact_landmarks_give_back_pose_and_expression(head, model, seed, yaw, pitch):
    rng = np.random.default_rng(seed)
    fit = LandmarkFit(model, exact_table(model))
    shape = rng.normal(size=head.shape_size) * 0.5
    for moment in range(6):
        expression = expression_of(
            head,
            jawOpen=rng.uniform(0, 0.8),
            mouthSmileLeft=rng.uniform(0, 1),
            mouthSmileRight=rng.uniform(0, 1),
            eyeBlinkLeft=rng.uniform(0, 1),
            browInnerUp=rng.uniform(0, 1),
        )
        pose = view(yaw, pitch)
        result = fit.fit(seen(head, pose, shape, expression), K, 1.0 if moment else 0.0)
    turn = result.pose[:3, :3].T @ pose[:3, :3]
    assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 3.0
    found = result.face[: head.expression_size]
    moved = [
        head.expression_names.index(n)
        for n in ("jawOpen", "mouthSmileLeft", "mouthSmileRight", "eyeBlinkLeft", "browInnerUp")
    ]
    assert np.abs(found - expression)[moved].max() < 0.2
    assert result.residual < 0.01


def test_coefficients_stay_within_their_bounds_for_impossible_landmarks(head, model):
    rng = np.random.default_rng(3)
    fit = LandmarkFit(model)
    for _ in range(4):
        result = fit.fit(
            seen(head, view(), None, np.zeros(head.expression_size), noise=25.0, rng=rng), K, 0.03
        )
        assert np.isfinite(result.pose).all() and np.isfinite(result.face).all()
        assert (result.face >= model.lower - 1e-9).all() and (result.face <= model.upper + 1e-9).all()


def test_a_hand_over_the_mouth_does_not_move_the_brows(head, model):
    fit = LandmarkFit(model, exact_table(model))
    expression = expression_of(head, browInnerUp=0.8, browOuterUpLeft=0.6)
    clean = seen(head, view(), None, expression)
    for _ in range(5):
        result = fit.fit(clean, K, 0.03)
    points = clean.points.copy()
    lower = points[:, 1] > points[164, 1]
    points[lower, 0] += 40.0
    hidden = fit.fit(Landmarks(points, 1.0), K, 0.03)
    index = head.expression_names.index("browInnerUp")
    assert abs(hidden.face[index] - result.face[index]) < 0.25


def test_a_depth_camera_gives_the_size_of_the_head(head, model):
    rng = np.random.default_rng(5)
    shape = np.zeros(head.shape_size)
    shape[0] = 2.0
    fit = LandmarkFit(model, exact_table(model))
    expression = np.zeros(head.expression_size)
    for moment in range(12):
        pose = view(0.3 * np.sin(moment), 0.1 * np.cos(moment), 0.5)
        depth = projection.to_camera(head.points(head.vertices(shape, expression)), pose)[:, 2] + rng.normal(
            0.0, 1e-3, 478
        )
        result = fit.fit(seen(head, pose, shape, expression), K, 0.03, depth.astype(np.float32))
    np.testing.assert_allclose(result.pose[:3, 3], pose[:3, 3], atol=0.008)


def test_the_shape_settles_and_is_forgotten_on_reset(head, model):
    rng = np.random.default_rng(6)
    shape = np.clip(rng.normal(size=head.shape_size), -2, 2)
    fit = LandmarkFit(model, exact_table(model))
    steps = []
    before = fit.shape.copy()
    for moment in range(30):
        fit.fit(seen(head, view(0.4 * np.sin(moment)), shape, np.zeros(head.expression_size)), K, 0.1)
        steps.append(np.linalg.norm(fit.shape - before))
        before = fit.shape.copy()
    assert np.mean(steps[-5:]) < 0.2 * np.mean(steps[:5])
    fit.reset()
    np.testing.assert_array_equal(fit.shape, 0.0)


def test_a_slow_rate_smooths_what_a_fast_rate_follows(head, model):
    jitter = {}
    for rate in (0.3, 30.0):
        fit = LandmarkFit(model, None, landmark_fit.FitSettings(expression_rate=rate))
        found = []
        noise = np.random.default_rng(8)
        for _ in range(25):
            found.append(
                fit.fit(seen(head, view(), None, np.zeros(head.expression_size), 0.8, noise), K, 1 / 30).face
            )
        jitter[rate] = np.abs(np.diff(np.array(found[5:]), axis=0)).mean()
    assert jitter[0.3] < 0.7 * jitter[30.0]


def test_gaze_follows_the_irises(head, model):
    fit = LandmarkFit(model, exact_table(model))
    for wanted in (-0.25, 0.0, 0.25):
        eyes = np.array([[0.0, wanted, 0.0]] * 2)
        vertices = head.vertices(None, head.look_weights(eyes), eyes=eyes)
        drawn = projection.project(head.points(vertices).astype(np.float64), view(), K)
        drawn[:, 2] = 0.0
        for _ in range(4):
            result = fit.fit(Landmarks(drawn.astype(np.float32), 1.0), K, 0.03)
        np.testing.assert_allclose(result.gaze[:, 0], wanted, atol=0.08)


def test_the_shipped_table_fits_the_shipped_head(head, model):
    table = load_table(head, model)
    assert table.response.shape == (478, 3, model.face_size) and table.covariance.shape == (
        model.face_size,
        model.face_size,
    )
    assert np.linalg.eigvalsh(table.covariance).min() > -1e-6
    assert table.shape_response.shape == (478, 3, model.shape_size) and np.isfinite(table.person_distance)
    assert np.abs(table.response).max() > 0, (
        "the plain table would mean that the head changed and the table was not made anew"
    )


def test_a_table_of_another_version_of_the_head_is_refused(head, model):
    moved = replace(head, template=head.template + np.float32(1e-3))
    with pytest.raises(ModelError, match="another version of head model 'open_head'"):
        load_table(moved, model)


def test_a_head_that_nothing_was_measured_for_gets_the_plain_table(head, model):
    other = load_table(replace(head, id="other"), model)
    assert not other.response.any() and not other.shape_response.any()
    person = np.arange(model.shape_size, dtype=np.float64)
    np.testing.assert_array_equal(other.likely_shape(person), person)


def test_the_regression_of_people_gives_back_a_linear_relation_and_does_not_extrapolate(model):
    """People are fitted at half their shape plus a constant: within what was learnt this is undone, far
    outside it is left.
    """
    rng = np.random.default_rng(11)
    true = rng.normal(size=(4000, model.shape_size))
    found = 0.5 * true + 0.1
    table = learn_people(FitTable.plain(model), found, true)
    guess = np.array([table.likely_shape(person) for person in found[:50]])
    before, after = np.abs(found[:50] - true[:50]).mean(), np.abs(guess - true[:50]).mean()
    assert after < 0.25 * before
    stranger = 100.0 * found[0]
    np.testing.assert_allclose(table.likely_shape(stranger), stranger, atol=0.01 * np.abs(stranger).max())


def test_faces_that_the_network_makes_alike_are_told_apart_again(head, model):
    """Landmarks that show 60 % of a person's shape: a table that knows gives back all of it."""
    rng = np.random.default_rng(12)
    shape = np.clip(rng.normal(size=head.shape_size), -2, 2)
    knows = replace(
        exact_table(model), shape_response=-0.4 * model.basis[:, :, model.face_size :].astype(np.float64)
    )
    found = {}
    for name, table in (("plain", exact_table(model)), ("knows", knows)):
        fit = LandmarkFit(model, table)
        for moment in range(12):
            fit.fit(
                seen(head, view(0.4 * np.sin(moment)), 0.6 * shape, np.zeros(head.expression_size)), K, 1.0
            )
        size = fit._size[: model.shape_size] / np.linalg.norm(fit._size[: model.shape_size])  # cannot be seen
        found[name] = fit.shape - size * (size @ fit.shape)
    true = shape - size * (size @ shape)
    gain = {name: float(value @ true / (true @ true)) for name, value in found.items()}
    assert gain["knows"] > 1.3 * gain["plain"]


def test_a_damaged_table_is_named(head, model, tmp_path, monkeypatch):
    broken = tmp_path / "landmark_fit.npz"
    broken.write_bytes(b"PK damaged")
    monkeypatch.setattr(landmark_fit.resources, "find", lambda kind, name: broken)
    with pytest.raises(ModelError, match=r"landmark_fit\.npz"):
        load_table(head, model)
