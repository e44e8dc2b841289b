"""The clock model against simulated devices whose true drift, offset and delays are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.clock import DeviceClock, steady_epoch
from eifer_ros.errors import InputError
from eifer_ros.types import NS

EPOCH = 1_760_000_000 * NS


def device(
    seed: int,
    rate_hz: float,
    seconds: float,
    drift_ppm: float,
    offset_s: float,
    delay_s: float,
) -> tuple[list[int], list[int]]:
    """True stamps of samples 0, 1, ...

    and the stamps at which they reach the host, late by exponential delays.
    """
    rng = np.random.default_rng(seed)
    count = int(rate_hz * seconds)
    true = [EPOCH + round((offset_s + k / rate_hz * (1 + drift_ppm * 1e-6)) * NS) for k in range(count)]
    late = rng.exponential(delay_s, count)
    return true, [t + round(d * NS) for t, d in zip(true, late, strict=True)]


@settings(max_examples=15, deadline=None)
@given(
    drift=st.floats(-200, 200),
    offset=st.floats(-1000, 1000),
    rate=st.sampled_from([30.0, 60.0, 100.0]),
    seed=st.integers(0, 2**16),
)
def test_drift_and_offset_are_recovered_under_one_sided_jitter(
    drift: float, offset: float, rate: float, seed: int
) -> None:
    true, arrivals = device(seed, rate, 40.0, drift, offset, 0.008)
    clock = DeviceClock(1 / rate)
    out = [clock.update(k, arrival) for k, arrival in enumerate(arrivals)]
    assert clock.state.drift_ppm == pytest.approx(drift, abs=40)
    settled = np.array(out[len(out) // 2 :]) - np.array(true[len(out) // 2 :])
    # The mean delay is 8 ms; its minimum envelope is far below it.
    assert np.abs(settled).max() < 1.5e-3 * NS
    last = len(out) - 1
    assert clock.state.offset_s == pytest.approx((true[last] / NS) - last / rate, abs=2e-3)
    assert clock.state.jumps == 0


def test_delay_is_no_bias_where_a_mean_would_be() -> None:
    rate = 100.0
    true, arrivals = device(3, rate, 30.0, 0.0, 0.0, 0.020)
    clock = DeviceClock(1 / rate)
    out = np.array([clock.update(k, a) for k, a in enumerate(arrivals)])
    settled = slice(len(out) // 2, None)
    assert np.mean(np.array(arrivals)[settled] - np.array(true)[settled]) > 15e6
    assert abs(np.mean(out[settled] - np.array(true)[settled])) < 1e6
    # exponential delays of mean m have the median m ln 2
    assert clock.state.residual_s == pytest.approx(0.020 * math.log(2), rel=0.25)


def test_bursts_are_spread_over_the_time_they_were_sampled_in() -> None:
    """A driver that delivers 15 samples at a time: every stamp still lies on the sampling grid."""
    rate, burst = 1000.0, 15
    clock = DeviceClock(1 / rate)
    out = []
    for first in range(0, 20_000, burst):
        arrival = EPOCH + round((first + burst) / rate * NS)
        clock.observe(first + burst, arrival)
        out.append(clock.stamp(first))
    steps = np.diff(out)
    assert np.allclose(steps, burst / rate * NS, atol=1000)
    assert out[0] == pytest.approx(EPOCH, abs=1000)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-50, 200), st.integers(-3 * NS, 3 * NS)), min_size=2, max_size=200),
    st.floats(1e-4, 0.1),
)
def test_stamps_always_increase_whatever_the_clocks_do(steps: list[tuple[float, int]], tick_s: float) -> None:
    clock = DeviceClock(tick_s)
    counter, arrival, previous = 0.0, EPOCH, -1
    for advance, wait in steps:
        counter += advance
        arrival += wait
        stamp = clock.update(counter, arrival)
        assert stamp > previous
        previous = stamp


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.001, 0.05))
def test_output_runs_within_half_and_one_and_a_half_of_device_time(seed: int, delay_s: float) -> None:
    rate = 60.0
    _, arrivals = device(seed, rate, 5.0, 0.0, 0.0, delay_s)
    clock = DeviceClock(1 / rate)
    out = np.array([clock.update(k, a) for k, a in enumerate(arrivals)])
    steps = np.diff(out) * rate / NS
    assert steps.min() > 0.499
    assert steps.max() < 1.501


def test_a_restarted_device_is_a_jump_and_the_map_holds_again_at_once() -> None:
    clock = DeviceClock(0.01)
    for k in range(500):
        clock.update(k, EPOCH + k * NS // 100)
    restart = EPOCH + 10 * NS  # the counter starts at zero again, five seconds of silence later
    assert clock.observe(0, restart)
    assert clock.stamp(0) == restart
    assert clock.state.jumps == 1
    assert clock.update(1, restart + NS // 100) == pytest.approx(restart + NS // 100, abs=10)


def test_a_counter_that_leaps_ahead_is_a_jump() -> None:
    clock = DeviceClock(0.01)
    for k in range(500):
        clock.update(k, EPOCH + k * NS // 100)
    assert clock.observe(100_500, EPOCH + 5 * NS)
    assert clock.state.jumps == 1
    assert clock.stamp(100_500) == pytest.approx(EPOCH + 5 * NS, abs=10)


def test_a_device_clock_that_stood_still_is_found_after_the_hold_time() -> None:
    clock = DeviceClock(0.01, jump_s=0.25, hold_s=1.0)
    for k in range(500):
        clock.update(k, EPOCH + k * NS // 100)
    late = EPOCH + 3 * NS  # samples were lost that the counter does not know of
    found = [k for k in range(500, 800) if clock.observe(k, late + k * NS // 100)]
    assert found == [600]
    assert clock.state.jumps == 1
    assert clock.stamp(800) == pytest.approx(late + 8 * NS, abs=10)


def test_a_host_that_was_busy_for_half_a_second_is_no_jump() -> None:
    clock = DeviceClock(0.01)
    out = []
    for k in range(2000):
        due = EPOCH + k * NS // 100
        held = EPOCH + 10 * NS
        arrival = (
            held if held - NS // 2 < due < held else due
        )  # fifty arrivals wait for the host and come at once
        out.append(clock.update(k, arrival))
    assert clock.state.jumps == 0
    assert np.abs(np.array(out) - EPOCH - np.arange(2000) * NS // 100).max() < 1000


def test_a_slow_change_of_drift_is_followed() -> None:
    """A crystal that warms up: 0 to 50 ppm over ten minutes."""
    rate = 50.0
    rng = np.random.default_rng(5)
    clock = DeviceClock(1 / rate)
    time_s, errors = 0.0, []
    for k in range(int(600 * rate)):
        error = clock.update(k, EPOCH + round((time_s + rng.exponential(0.005)) * NS)) - EPOCH - time_s * NS
        errors.append(error)
        time_s += (1 + 50e-6 * k / (600 * rate)) / rate
    assert clock.state.jumps == 0
    assert np.abs(errors[3000:]).max() < 1e6
    assert clock.state.drift_ppm == pytest.approx(47.5, abs=8)  # of the middle of the window, 30 s ago


def test_a_known_latency_is_taken_off() -> None:
    clock = DeviceClock(0.01, latency_s=0.030)
    assert clock.update(0, EPOCH) == EPOCH - 30_000_000


def test_reset_forgets_offset_and_monotone_output() -> None:
    clock = DeviceClock(0.01)
    clock.update(0, EPOCH)
    clock.reset()
    assert math.isnan(clock.state.offset_s)
    assert clock.update(0, EPOCH - NS) == EPOCH - NS


def test_bad_use_is_refused_with_a_reason() -> None:
    with pytest.raises(InputError, match="tick_s is 0"):
        DeviceClock(0)
    with pytest.raises(InputError, match="observed no arrival"):
        DeviceClock(0.01).stamp(0)
    with pytest.raises(InputError, match="counter is nan"):
        DeviceClock(0.01).observe(math.nan, EPOCH)


def test_the_steady_host_clock_only_goes_forward() -> None:
    now = steady_epoch()
    stamps = [now() for _ in range(1000)]
    assert stamps == sorted(stamps)
    assert stamps[0] > EPOCH
