from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.emg.sources.dejitter import Dejitter, RateCheck


def feed(
    dejitter: Dejitter, index: np.ndarray, stamps: np.ndarray, burst: int, arrived: np.ndarray | None = None
) -> list:
    """Runs from samples that carry their own number in channel 0."""
    runs = []
    for k in range(0, len(index), burst):
        part = slice(k, k + burst)
        when = None if arrived is None else float(arrived[part][-1])
        runs += dejitter.add(index[part, None].astype(np.float32), stamps[part], when)
    return runs + dejitter.flush()


def times(runs: list) -> tuple[np.ndarray, np.ndarray]:
    index = np.concatenate([run.samples[:, 0] for run in runs]).astype(int)
    return index, np.concatenate([run.first_s + np.arange(len(run.samples)) * run.step_s for run in runs])


def jittered(
    seed: int, count: int, rate: float, ppm: float, burst: int, sd: float
) -> tuple[np.ndarray, np.ndarray]:
    """(true times, stamps): every burst of stamps is off by one normal error."""
    rng = np.random.default_rng(seed)
    true = 1000.0 + np.arange(count) / rate * (1 + ppm * 1e-6)
    return true, true + np.repeat(rng.normal(0, sd, -(-count // burst)), burst)[:count]


@pytest.mark.parametrize("ppm", [-200.0, 0.0, 200.0])
def test_bursts_with_8_ms_jitter_come_out_within_half_a_millisecond(ppm: float) -> None:
    true, stamps = jittered(3, 60_000, 1000.0, ppm, 15, 8e-3)
    dejitter = Dejitter(1000.0)
    index, out = times(feed(dejitter, np.arange(60_000), stamps, 15))
    settled = index > 30_000
    assert np.std((out - true[index])[settled]) < 0.5e-3
    assert dejitter.drift * 1e6 == pytest.approx(ppm, abs=40)
    assert dejitter.jitter_s == pytest.approx(8e-3, rel=0.2)


@given(
    seed=st.integers(0, 2**31),
    rate=st.sampled_from([250.0, 1000.0, 4096.0]),
    ppm=st.floats(-300, 300),
    burst=st.integers(4, 60),
    sd=st.floats(0, 0.01),
)
@settings(max_examples=12, deadline=None)
def test_no_sample_is_invented_lost_or_moved_back_in_time(
    seed: int, rate: float, ppm: float, burst: int, sd: float
) -> None:
    count = int(3 * rate)
    _, stamps = jittered(seed, count, rate, ppm, burst, sd)
    runs = feed(Dejitter(rate), np.arange(count), stamps, burst)
    index, out = times(runs)
    assert np.array_equal(index, np.arange(count))
    assert np.all(np.diff(out) > 0)
    assert sum(run.lost for run in runs) == 0


@given(first=st.integers(2500, 6000), count=st.integers(5, 3000), burst=st.integers(4, 40))
@settings(max_examples=12, deadline=None)
def test_a_gap_in_clean_stamps_is_counted_to_the_sample(first: int, count: int, burst: int) -> None:
    index = np.concatenate((np.arange(first), np.arange(first + count, 10_000)))
    stamps = 50.0 + index / 1000.0 * (1 + 1e-4)
    runs = feed(Dejitter(1000.0), index, stamps, burst)
    losses = [(int(run.samples[0, 0]), run.lost) for run in runs if run.lost]
    assert losses == [(first + count, count)]
    got, out = times(runs)
    assert np.array_equal(got, index)
    # the first second leans on the nominal rate; by then 1e-4 may have cost 0.1 ms
    assert np.abs(out - (50.0 + got / 1000.0 * (1 + 1e-4))).max() < 3e-4


def test_samples_that_were_only_late_are_not_counted_as_lost() -> None:
    """A stalled sender pushes everything at once with the time of the push: late, nothing missing."""
    index = np.arange(8000)
    true = index / 1000.0
    stamps = true.copy()
    stamps[4000:4900] = true[4900]
    dejitter = Dejitter(1000.0)
    got, out = times(feed(dejitter, index, stamps, 10, stamps))
    assert np.array_equal(got, index)
    assert np.abs(out - true).max() < 1e-3
    assert dejitter.jumps == 0


def test_stamps_that_leap_while_samples_keep_coming_are_a_set_clock_not_a_gap() -> None:
    index = np.arange(8000)
    arrived = index / 1000.0
    stamps = arrived + np.where(index >= 4000, 3600.0, 0.0)
    dejitter = Dejitter(1000.0)
    runs = feed(dejitter, index, stamps, 10, arrived)
    assert sum(run.lost for run in runs) == 0
    assert dejitter.jumps == 1
    assert [int(run.samples[0, 0]) for run in runs if run.jumped] == [4000]
    got, out = times(runs)
    assert np.array_equal(got, index)
    assert out[-1] == pytest.approx(stamps[-1], abs=1e-3)


def test_a_clock_that_is_set_back_starts_a_new_line_without_losing_samples() -> None:
    index = np.arange(6000)
    stamps = index / 1000.0 - np.where(index >= 3000, 100.0, 0.0)
    dejitter = Dejitter(1000.0)
    runs = feed(dejitter, index, stamps, 10)
    got, out = times(runs)
    assert np.array_equal(got, index)
    assert dejitter.jumps == 1
    assert out[-1] == pytest.approx(stamps[-1], abs=1e-3)


def test_what_is_held_after_a_jump_comes_out_when_the_stream_goes_quiet() -> None:
    dejitter = Dejitter(1000.0)
    feed(dejitter, np.arange(3000), np.arange(3000) / 1000.0, 10)
    late = np.arange(3500, 3520)
    assert dejitter.add(late[:, None].astype(np.float32), late / 1000.0) == []
    runs = dejitter.flush()
    assert [run.lost for run in runs] == [500]
    assert sum(len(run.samples) for run in runs) == 20
    assert dejitter.flush() == []


def test_raw_stamps_travel_untouched() -> None:
    _, stamps = jittered(1, 5000, 1000.0, 50, 10, 1e-3)
    dejitter = Dejitter(1000.0)
    runs = []
    for k in range(0, 5000, 10):
        runs += dejitter.add(
            np.zeros((10, 1), np.float32), stamps[k : k + 10], None, stamps[k : k + 10] - 77.0
        )
    runs += dejitter.flush()
    assert np.array_equal(np.concatenate([run.raw for run in runs]), stamps - 77.0)


def test_a_wrong_declared_rate_is_noticed_and_irregular_loss_is_not_taken_for_one() -> None:
    lying = RateCheck(1000.0)
    found = [rate for k in range(0, 4000, 10) if (rate := lying.add((k + np.arange(10)) / 500.0)) is not None]
    assert found
    assert found[0] == pytest.approx(500.0, rel=0.01)

    rng = np.random.default_rng(0)
    honest = RateCheck(1000.0)
    k = 0
    for _ in range(1000):
        k += int(rng.choice([0, 400], p=[0.97, 0.03]))
        assert honest.add((k + np.arange(10)) / 1000.0) is None
        k += 10
