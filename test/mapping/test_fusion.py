"""The fusion against a dense Kalman filter written another way, and its laws."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.mapping.fusion import Fusion, FusionSettings, Measurement

MS = 1_000_000
SETTINGS = FusionSettings(acceleration=5.0, bias_std=0.1)


def measurement(at_ms: int, value: float, variance: float, biased: bool) -> Measurement:
    return Measurement(at_ms * MS, np.array([value]), np.array([variance]), biased)


def stream(seed: int, count: int = 30) -> list[Measurement]:
    rng = np.random.default_rng(seed)
    at, out = 0, []
    for _ in range(count):
        at += int(rng.integers(1, 15))
        biased = bool(rng.integers(2))
        out.append(measurement(at, float(rng.uniform()), float(rng.uniform(1e-4, 0.1)), biased))
    return out


def dense(measurements: list[Measurement], at_ms: float) -> tuple[float, float]:
    """The same model with one 3x3 system, information form for the update and a plain loop."""
    first, s = measurements[0], SETTINGS
    x = np.array([first.values[0], 0.0, 0.0])
    p = np.diag([first.variance[0], 1.0, float(s.bias_std) ** 2])
    now = first.stamp

    def move(x: np.ndarray, p: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
        d, f = np.exp(-step / s.damping_s), np.exp(-step / s.bias_s)
        a = np.array([[1, s.damping_s * (1 - d), 0], [0, d, 0], [0, 0, f]])
        q, h = np.zeros((3, 3)), min(step, s.damping_s)
        density = float(s.acceleration) ** 2
        q[0, 0], q[0, 1], q[1, 1] = density * h * h * step / 3, density * h * step / 2 * d, density * h
        q[1, 0], q[2, 2] = q[0, 1], float(s.bias_std) ** 2 * (1 - f * f)
        return a @ x, a @ p @ a.T + q

    for each in measurements[1:]:
        x, p = move(x, p, (each.stamp - now) / 1e9)
        now = each.stamp
        h = np.array([1.0, 0.0, float(each.biased)])
        information = np.linalg.inv(p) + np.outer(h, h) / each.variance[0]
        new = np.linalg.inv(information)
        x = new @ (np.linalg.inv(p) @ x + h * each.values[0] / each.variance[0])
        p = new
    x, p = move(x, p, at_ms / 1e3 - now / 1e9)
    return float(x[0]), float(np.sqrt(p[0, 0]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_in_order_it_is_the_dense_kalman_filter(seed: int) -> None:
    measurements = stream(seed)
    fusion = Fusion(1, SETTINGS, -10.0, 10.0)
    for each in measurements:
        fusion.add(each)
    end = measurements[-1].stamp // MS + 20
    value, deviation = fusion.state(end * MS)
    expected = dense(measurements, end)
    np.testing.assert_allclose([value[0], deviation[0]], expected, rtol=1e-6, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_late_measurements_count_as_if_they_had_come_in_time(seed: int, late: int) -> None:
    measurements = stream(seed)
    ordered, jumbled = Fusion(1, SETTINGS, -10.0, 10.0), Fusion(1, SETTINGS, -10.0, 10.0)
    for each in measurements:
        ordered.add(each)
    rng = np.random.default_rng(seed)
    # the first stays first; every other may come up to `late` places later
    keys = [0.0] + [place + rng.uniform(0, late) for place in range(1, len(measurements))]
    for place in np.argsort(keys):
        jumbled.add(measurements[place])
    end = measurements[-1].stamp + 20 * MS
    for first, second in zip(ordered.state(end), jumbled.state(end), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-9)
    assert jumbled.late == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-9, 1e3), st.floats(0.0, 50.0))
def test_covariances_stay_symmetric_and_positive(seed: int, variance: float, acceleration: float) -> None:
    fusion = Fusion(1, FusionSettings(acceleration=acceleration, bias_std=0.2), -10.0, 10.0)
    for number, each in enumerate(stream(seed, 60)):
        fusion.add(
            Measurement(each.stamp, each.values, np.array([variance if number % 3 else 1e-9]), each.biased)
        )
    assert fusion._beliefs
    for belief in fusion._beliefs:
        np.testing.assert_allclose(
            belief.covariance,
            np.swapaxes(belief.covariance, 1, 2),
            atol=1e-9 * (1 + np.abs(belief.covariance).max()),
        )
        assert np.linalg.eigvalsh(belief.covariance).min() > -1e-9 * (1 + np.abs(belief.covariance).max())


def test_what_was_not_seen_changes_nothing() -> None:
    fusion = Fusion(2, SETTINGS, 0.0, 1.0)
    fusion.add(Measurement(0, np.array([0.5, 0.5]), np.array([1e-3, 1e-3]), False))
    before = fusion.state(10 * MS)
    fusion.add(Measurement(10 * MS, np.array([np.nan, 0.9]), np.array([1e-3, np.inf]), False))
    after = fusion.state(10 * MS)
    np.testing.assert_allclose(before, after)


def test_uncertainty_grows_while_nothing_is_measured() -> None:
    fusion = Fusion(1, SETTINGS, 0.0, 1.0)
    for at in range(0, 500, 10):
        fusion.add(measurement(at, 0.4, 1e-3, False))
    deviations = [float(fusion.state(at * MS)[1][0]) for at in (500, 600, 800, 1500)]
    assert deviations == sorted(deviations) and deviations[-1] > 2 * deviations[0]


def test_a_bias_learnt_beside_the_camera_is_taken_off_when_the_camera_is_covered() -> None:
    fusion = Fusion(1, SETTINGS, -1.0, 1.0)
    for at in range(0, 3000, 10):
        fusion.add(measurement(at, 0.5, 1e-3, True))
        if at % 30 == 0:
            fusion.add(measurement(at, 0.4, 1e-4, False))
    for at in range(3000, 3200, 10):
        fusion.add(measurement(at, 0.5, 1e-3, True))
    assert abs(float(fusion.state(3200 * MS)[0][0]) - 0.4) < 0.02


def test_older_than_the_history_is_counted_and_left_out() -> None:
    fusion = Fusion(1, SETTINGS, 0.0, 1.0)
    for at in range(0, 1000, 10):
        fusion.add(measurement(at, 0.4, 1e-3, False))
    before = fusion.state(1000 * MS)
    fusion.add(measurement(300, 1.0, 1e-6, False))
    assert fusion.late == 1
    np.testing.assert_array_equal(before, fusion.state(1000 * MS))


def test_each_value_stays_within_its_own_bounds() -> None:
    fusion = Fusion(2, SETTINGS, np.array([0.0, -1.0]), np.array([1.0, 1.0]))
    for at in range(0, 300, 10):
        # falling fast: the velocity carries both below 0
        fusion.add(Measurement(at * MS, np.full(2, 1.0 - at / 300), np.full(2, 1e-5), False))
    values, _ = fusion.state(400 * MS)
    assert values[0] == 0.0 and -1.0 <= values[1] < 0.0
