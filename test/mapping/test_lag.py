"""The lag and the drift are found again; swapped channels are named."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from mapping_data import START, movements, series
from scipy import signal

from eifer_ros.errors import InputError
from eifer_ros.mapping.lag import Lag, estimate, weighted_median, without_drift
from eifer_ros.mapping.series import EXTRA_NAMES, Series, interpolate
from eifer_ros.mapping.suspect import swapped
from eifer_ros.workflows.fit import filter_delay_s

COUPLED = {
    "zygomaticus_major_right": "mouthSmileRight",
    "zygomaticus_major_left": "mouthSmileLeft",
    "lateral_frontalis_right": "browOuterUpRight",
    "lateral_frontalis_left": "browOuterUpLeft",
    "corrugator_supercilii_right": "browDownRight",
    "orbicularis_oris_right": "mouthPucker",
}


def coupled(
    lag_s: float, drift: float = 0.0, smear: int = 3, seconds: float = 150.0, seed: int = 4
) -> Series:
    """Six muscles, each moving its own coefficient through `smear` equal first-order stages whose time
    constants add up to `lag_s`.
    """
    count = round(seconds * 100)
    muscle = movements(count, 6, seed)
    tau = lag_s / smear * 100
    face = muscle
    for _ in range(smear):
        # backward Euler: mean delay exactly tau samples
        face = signal.lfilter([1 / (1 + tau)], [1, -tau / (1 + tau)], face, axis=0)
    times = np.arange(count) * 0.01
    rng = np.random.default_rng(seed)
    face = np.clip(face + 0.01 * rng.standard_normal(face.shape), 0, 1)
    seen = interpolate(times * (1 + drift), np.hstack([face, np.zeros((count, 5))]), times)
    return Series(
        START,
        0.01,
        times,
        muscle.astype(np.float32),
        np.ones((count, 6), np.float32),
        seen,
        tuple(COUPLED),
        (*COUPLED.values(), *EXTRA_NAMES),
        "fridlund",
        "test_head",
    )


@pytest.mark.parametrize(
    ("lag_s", "drift"), list(itertools.product((0.03, 0.07, 0.15), (-200e-6, 0.0, 200e-6)))
)
def test_the_mean_delay_of_a_smearing_chain_is_found_within_10_ms_whatever_the_clocks_do(
    lag_s: float, drift: float
) -> None:
    data = coupled(lag_s, drift)
    found = estimate(data)
    assert abs(found.lag_s - lag_s - drift * 75.0) < 0.010
    assert abs(found.drift_ppm - drift * 1e6) < 80
    assert found.grade in (1, 2)


def test_the_delay_of_the_envelope_filter_is_added_and_is_its_centroid() -> None:
    data = coupled(0.07)
    assert estimate(data, 0.0416).lag_s == pytest.approx(estimate(data).lag_s + 0.0416)
    # Bessel of second order, -3 dB at 6 Hz: group delay 1.3617 / (2 pi 6), and the band-pass adds a few ms
    assert 1.3617 / (2 * np.pi * 6) < filter_delay_s("live") < 1.3617 / (2 * np.pi * 6) + 0.008
    assert filter_delay_s("rms100") == pytest.approx(
        0.05 + filter_delay_s("live") - 1.3617 / (2 * np.pi * 6), abs=1e-3
    )
    assert filter_delay_s("eifer_mmm") == 0.0


def test_undrifting_puts_the_clock_right() -> None:
    data = coupled(0.07, 200e-6)
    found = estimate(replace(data, face=without_drift(data, 200.0)))
    assert abs(found.drift_ppm) < 50


def test_faces_that_do_not_follow_the_muscles_have_no_lag() -> None:
    data = coupled(0.07)
    other = movements(len(data.times), 6, 99)
    found = estimate(replace(data, face=np.hstack([other, np.zeros((len(other), 5))]).astype(np.float32)))
    assert found.grade in (0, 3)
    still = estimate(replace(data, face=np.zeros_like(data.face)))
    assert still.grade == 0 and np.isnan(still.lag_s) and still.votes == Lag.unknown().votes


def test_holes_in_the_camera_do_not_move_the_lag() -> None:
    data = coupled(0.10)
    face = data.face.copy()
    rng = np.random.default_rng(0)
    for start in rng.integers(0, len(face), 12):
        face[start : start + 150] = np.nan
    assert abs(estimate(replace(data, face=face)).lag_s - 0.10) < 0.010


def test_a_few_seconds_are_too_little() -> None:
    with pytest.raises(InputError, match="at least 5 s"):
        estimate(series(3.0))


def test_the_weighted_median_of_equal_weights_is_the_median() -> None:
    values = np.array([5.0, 1.0, 3.0])
    assert weighted_median(values, np.ones(3)) == np.median(values)
    assert weighted_median(values, np.array([100.0, 1.0, 1.0])) == pytest.approx(5.0, abs=0.2)


@pytest.mark.parametrize("pair", list(itertools.combinations(range(6), 2)))
def test_two_swapped_channels_are_named_and_no_others(pair: tuple[int, int]) -> None:
    data = coupled(0.03, seconds=60.0)
    assert swapped(data, 0.03) == []
    activation = data.activation.copy()
    activation[:, list(pair)] = activation[:, list(pair)[::-1]]
    (found,) = swapped(replace(data, activation=activation), 0.03)
    assert {found.first, found.second} == {data.muscles[pair[0]], data.muscles[pair[1]]}
    assert found.first in str(found) and found.second in str(found)


def test_muscles_and_coefficients_of_unknown_names_are_never_called_swapped() -> None:
    data = coupled(0.03, seconds=30.0)
    assert (
        swapped(replace(data, muscles=tuple(f"K{i}" for i in range(6)), activation=data.activation[:, ::-1]))
        == []
    )
    assert (
        swapped(
            replace(
                data, face_names=tuple(f"expr{i}" for i in range(11)), activation=data.activation[:, ::-1]
            )
        )
        == []
    )
