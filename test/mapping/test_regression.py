"""Ridge and random features against independent solutions, and the laws of held-out blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping_data import series
from scipy.linalg import lstsq

from eifer_ros.mapping.features import FeatureSpec, Trust, lag_steps, lagged, training_pairs
from eifer_ros.mapping.fit import FitSettings, blocks, fit_linear
from eifer_ros.mapping.regression import Basis, Curve, Normal
from eifer_ros.mapping.scores import scores


def test_ridge_equals_least_squares_on_rows_augmented_by_the_penalty() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((300, 7)).astype(np.float32), rng.standard_normal((300, 2)).astype(np.float32)
    strength = 0.3
    model = Normal(Basis.of(x, 0, 1.0, 0), 2).add(x, y).solve(strength)
    z = (x - x.mean(0)) / x.std(0)
    penalty = np.sqrt(strength * len(x)) * np.eye(7)
    augmented = np.vstack([np.hstack([z, np.ones((300, 1))]), np.hstack([penalty, np.zeros((7, 1))])])
    weights, *_ = lstsq(augmented, np.vstack([y, np.zeros((7, 2))]))
    np.testing.assert_allclose(model.predict(x), z @ weights[:7] + weights[7], atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(5, 60), st.integers(61, 120))
def test_taking_rows_out_of_the_sums_equals_never_having_put_them_in(
    seed: int, start: int, stop: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((150, 4)).astype(np.float32), rng.standard_normal((150, 3)).astype(np.float32)
    basis = Basis.of(x, 16, 1.0, seed)
    rest = np.r_[0:start, stop:150]
    left = Normal(basis, 3).add(x, y).without(Normal(basis, 3).add(x[start:stop], y[start:stop])).solve(0.01)
    refit = Normal(basis, 3).add(x[rest], y[rest]).solve(0.01)
    np.testing.assert_allclose(left.predict(x), refit.predict(x), atol=2e-3)


def test_the_predictive_variance_is_that_of_bayesian_regression() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((80, 3)).astype(np.float32), rng.standard_normal((80, 1)).astype(np.float32)
    model = Normal(Basis.of(x, 0, 1.0, 0), 1).add(x, y).solve(0.1)
    far = np.array([4.0, -4.0, 4.0], np.float32)
    z = np.r_[(far - x.mean(0)) / x.std(0), 1.0]
    rows = np.hstack([(x - x.mean(0)) / x.std(0), np.ones((80, 1))])
    posterior = np.linalg.inv(rows.T @ rows + np.diag([8.0, 8.0, 8.0, 80e-6]))
    assert model.predict_one(far)[1] == pytest.approx(1.0 + z @ posterior @ z, rel=1e-3)


@given(st.integers(20, 2000), st.integers(2, 8), st.integers(0, 60))
def test_no_held_out_row_is_within_the_gap_of_a_training_row(count: int, folds: int, gap: int) -> None:
    seen = np.zeros(count, int)
    for held, out in blocks(count, folds, gap):
        rows = np.arange(count)
        training = np.setdiff1d(rows, rows[out])
        seen[held] += 1
        if len(training) and len(rows[held]):
            assert np.abs(training[:, None] - rows[held][None]).min() > gap
    assert (seen == 1).all()


def test_held_out_predictions_do_not_use_the_held_out_block() -> None:
    rng = np.random.default_rng(3)
    x, y = (
        rng.standard_normal((1000, 4)).astype(np.float32),
        rng.standard_normal((1000, 1)).astype(np.float32),
    )
    _, held_out, _ = fit_linear(x, y, 10, FitSettings(kind="ridge", bend=False))
    changed = y.copy()
    changed[:200] += 50.0  # the first block: others train on it, its own predictions must not
    _, again, _ = fit_linear(x, changed, 10, FitSettings(kind="ridge", bend=False))
    assert scores(held_out.truth, held_out.predicted)[1][0] < 0.05
    assert np.abs(again.predicted[:200]).max() < 5.0


def test_lagged_features_hold_earlier_rows_and_nothing_across_a_gap() -> None:
    values = np.arange(10.0)[:, None]
    segment = np.array([0] * 5 + [1] * 5)
    out = lagged(values, (0, 2), segment)
    np.testing.assert_array_equal(out[4], [4.0, 2.0])
    assert np.isnan(out[:2, 1]).all() and np.isnan(out[5:7, 1]).all()
    np.testing.assert_array_equal(out[7], [7.0, 5.0])


def test_pairs_look_ahead_within_a_stretch_only() -> None:
    data = series(4.0)
    spec = FeatureSpec((0, 5), 0.01, 0.03)
    features, targets, rows = training_pairs(data, spec, data.activation, data.face)
    np.testing.assert_array_equal(targets, data.face[rows + 3])
    np.testing.assert_array_equal(features[:, 3:], data.activation[rows - 5])
    assert rows.min() == 5 and rows.max() == 400 - 1 - 3


def test_lags_are_whole_steps_without_repetition() -> None:
    assert lag_steps(0.15, 4, 0.01) == (0, 5, 10, 15)
    assert lag_steps(0.01, 8, 0.01) == (0, 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_good_contact_changes_nothing_and_no_contact_gives_the_expectation_given_the_others(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((4, 4))
    covariance = root @ root.T + 0.5 * np.eye(4)
    trust = Trust(np.zeros(4), covariance)
    np.testing.assert_allclose(trust.gain(np.ones(4)), np.eye(4))
    gain = trust.gain([0.0, 1.0, 1.0, 1.0])
    expected = np.linalg.solve(covariance[1:, 1:], covariance[1:, 0])
    # quality 0 counts as 1e-3, a noise a million times the signal: the channel's own word weighs 1e-6 or so
    np.testing.assert_allclose(gain[0, 1:], expected, rtol=1e-3, atol=1e-4)
    assert abs(gain[0, 0]) < 1e-4
    np.testing.assert_allclose(gain[1:], np.eye(4)[1:], atol=1e-4)


def test_scores_agree_with_numpy_and_say_nan_where_nothing_moves() -> None:
    rng = np.random.default_rng(5)
    truth = np.c_[rng.standard_normal(50), np.ones(50)]
    guess = truth + 0.3 * rng.standard_normal((50, 2))
    r, r2 = scores(truth, guess)
    assert r[0] == pytest.approx(np.corrcoef(truth[:, 0], guess[:, 0])[0, 1])
    assert r2[0] == pytest.approx(1 - ((truth - guess)[:, 0] ** 2).mean() / truth[:, 0].var())
    assert np.isnan(r[1]) and np.isnan(r2[1])


def test_the_curve_is_the_conditional_median_rises_and_goes_on_with_slope_one() -> None:
    rng = np.random.default_rng(6)
    closed = rng.uniform(size=20_000) < 0.2
    hint = np.where(closed, rng.uniform(0.2, 1.0, 20_000), rng.uniform(0.0, 0.5, 20_000)).astype(np.float32)[
        :, None
    ]
    truth = closed.astype(np.float32)[:, None]
    curve = Curve.of(hint, truth)
    # below 0.5 open is likelier (0.8 / 0.5 against 0.2 / 0.8 per unit), above it only closed is left
    np.testing.assert_allclose(
        curve.apply(np.array([[0.1], [0.4], [0.6], [0.9]], np.float32))[:, 0], [0, 0, 1, 1], atol=0.02
    )
    line = curve.apply(np.linspace(-1, 2, 200, dtype=np.float32)[:, None])[:, 0]
    assert (np.diff(line) >= -1e-6).all()
    np.testing.assert_allclose(np.diff(line)[[0, -1]], 3 / 199, rtol=1e-3)


def test_a_straight_relation_stays_as_it_is() -> None:
    rng = np.random.default_rng(7)
    predicted = rng.uniform(size=(20_000, 1)).astype(np.float32)
    truth = (predicted + 0.02 * rng.standard_normal(predicted.shape)).astype(np.float32)
    inner = np.linspace(0.05, 0.95, 50, dtype=np.float32)[:, None]
    np.testing.assert_allclose(Curve.of(predicted, truth).apply(inner), inner, atol=0.005)
