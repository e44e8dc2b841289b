from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.emg.resample import GridSampler
from eifer_ros.errors import InputError

NS = 1_000_000_000
T0 = 1_800_000_000 * NS + 7


def ramp(rate, count, start=0):
    """A line in time: linear interpolation must return it exactly at every instant.

    Value = seconds since T0.
    """
    return (np.arange(start, start + count) / rate)[:, None]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([30.0, 100.0, 200.0, 1000.0, 1925.93, 2048.0, 4096.0]),
    st.lists(st.integers(1, 300), min_size=3, max_size=20),
    st.integers(0, 20_000_000),
)
def test_every_output_instant_is_a_multiple_of_ten_milliseconds_with_the_value_of_that_instant(
    rate, sizes, shift
):
    sampler = GridSampler(rate, 1)
    stamps, values, start = [], [], 0
    for size in sizes:
        s, v = sampler.push(ramp(rate, size, start), T0 + shift + round(start / rate * NS))
        stamps.append(s)
        values.append(v[:, 0])
        start += size
    stamps, values = np.concatenate(stamps), np.concatenate(values)
    first = T0 + shift
    # exact: a float cannot hold an epoch stamp to the nanosecond. Whether an instant that falls on the last
    # sample to a thousandth of a nanosecond still counts is left open.
    last, rounding = first + Fraction(start - 1) * NS / Fraction(rate), Fraction(1, 1000)
    least, most = (
        int((last + off) // 10_000_000) - (-(-first // 10_000_000)) + 1 for off in (-rounding, rounding)
    )
    assert max(least, 0) <= len(stamps) <= most
    assert np.array_equal(stamps, (-(-first // 10_000_000) + np.arange(len(stamps))) * 10_000_000)
    assert np.allclose(values, (stamps - first) / NS, atol=2e-9)


def test_a_rate_that_is_no_multiple_of_the_grid_does_not_drift():
    sampler = GridSampler(2048.0, 1)
    values = ramp(2048.0, 2048 * 60)
    stamps, out = sampler.push(values, 10 * NS)
    assert len(stamps) == 6000
    assert np.allclose(out[:, 0], (stamps - 10 * NS) / NS, atol=1e-9)


def test_slow_clock_correction_moves_the_samples_and_keeps_the_instants():
    sampler = GridSampler(1000.0, 1)
    stamps, values = [], []
    for k in range(200):
        # the source's clock runs 200 ppm slow and each chunk says so
        stamp = T0 + round(k * 0.010 * 1.0002 * NS)
        s, v = sampler.push(np.full((10, 1), (stamp - T0) / NS) + ramp(1000.0, 10), stamp)
        stamps.append(s)
        values.append(v[:, 0])
    stamps, values = np.concatenate(stamps), np.concatenate(values)
    assert (np.diff(stamps) == 10_000_000).all()
    assert np.allclose(values, (stamps - T0) / NS, atol=3e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-3_000_000, 3_000_000), min_size=5, max_size=40))
def test_jitter_of_chunk_stamps_never_repeats_or_skips_an_instant(jitter):
    sampler = GridSampler(1000.0, 1)
    stamps = [
        sampler.push(ramp(1000.0, 8, 8 * k), T0 + 8_000_000 * k + shift)[0] for k, shift in enumerate(jitter)
    ]
    assert set(np.diff(np.concatenate(stamps)).tolist()) <= {10_000_000}


def test_an_instant_on_a_sample_takes_nothing_from_its_unknown_neighbour():
    sampler = GridSampler(100.0, 1)
    values = np.array([[1.0], [np.nan], [3.0], [4.0]])
    stamps, out = sampler.push(values, 10 * NS)
    assert stamps.tolist() == [10 * NS + k * 10_000_000 for k in range(4)]
    assert np.array_equal(out[:, 0], [1.0, np.nan, 3.0, 4.0], equal_nan=True)


def test_an_unknown_sample_makes_the_instants_beside_it_unknown():
    sampler = GridSampler(50.0, 1)
    _, out = sampler.push(np.array([[1.0], [np.nan], [3.0], [4.0]]), 10 * NS)
    assert np.array_equal(out[:, 0], [1.0, np.nan, np.nan, np.nan, 3.0, 3.5, 4.0], equal_nan=True)


def test_after_a_restart_no_instant_lies_before_the_new_samples():
    sampler = GridSampler(1000.0, 1)
    sampler.push(ramp(1000.0, 100), T0)
    sampler.restart()
    assert sampler.expected is None
    stamps, _ = sampler.push(ramp(1000.0, 100), T0 - 5 * NS)
    assert stamps[0] >= T0 - 5 * NS
    assert len(stamps) == 9


def test_an_empty_chunk_changes_nothing():
    sampler = GridSampler(1000.0, 2)
    stamps, out = sampler.push(np.zeros((0, 2)), T0)
    assert stamps.shape == (0,)
    assert out.shape == (0, 2)
    assert sampler.expected is None


@pytest.mark.parametrize("rate", [30.0, 0.0, -1.0, 7.0])
def test_an_output_rate_without_a_period_of_whole_nanoseconds_is_refused(rate):
    with pytest.raises(InputError, match="whole nanoseconds"):
        GridSampler(1000.0, 1, rate)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4_000_000), min_size=3, max_size=30))
def test_a_chunk_that_comes_late_is_joined_at_the_true_times_of_both_samples(delays):
    sampler = GridSampler(1000.0, 1)
    late, stamps, values = 0, [], []
    for k, delay in enumerate(delays):
        late += delay
        stamp = T0 + 7_000_000 * k + late
        s, v = sampler.push((stamp - T0) / NS + ramp(1000.0, 7), stamp)
        stamps.append(s)
        values.append(v[:, 0])
    stamps, values = np.concatenate(stamps), np.concatenate(values)
    assert np.allclose(values, (stamps - T0) / NS, atol=2e-9)
