"""Brief pulses in many channels over a floor that adapts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.micro.pulses import (
    AHEAD,
    BEHIND,
    LENGTHS_S,
    NEIGHBOURS,
    WINDOW,
    Pulse,
    PulseDetector,
    kernels,
    minimum_jerk,
)

REGIONS = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])


def bump(count: int, apex: float, rise: float, fall: float) -> np.ndarray:
    t = np.arange(count, dtype=float)
    return minimum_jerk((t - apex + rise) / rise) * minimum_jerk((apex + fall - t) / fall)


def run(rows: np.ndarray, detector: PulseDetector | None = None, first: int = 0) -> list[tuple[int, Pulse]]:
    detector = detector or PulseDetector(REGIONS)
    out = []
    for index, row in enumerate(rows):
        pulse = detector.push(first + index, row)
        if pulse is not None:
            out.append((first + index, pulse))
    return out


@settings(max_examples=30, deadline=None)
@given(level=st.floats(-10, 10), slope=st.floats(-1, 1), height=st.floats(-5, 5), which=st.integers(0, 3))
def test_a_response_is_the_height_of_the_bump_whatever_level_and_slope_lie_below(
    level: float, slope: float, height: float, which: int
) -> None:
    time = np.arange(-BEHIND, AHEAD + 1)
    half = LENGTHS_S[which] * 50.0
    course = level + slope * time + height * minimum_jerk(1.0 - np.abs(time) / half)
    assert kernels()[which] @ course == pytest.approx(height, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_a_pulse_in_noise_is_found_where_it_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = 0.01 * rng.standard_normal((900, 4))
    rows[:, 0] += 0.08 * bump(900, 700.0, 15.0, 18.0)
    rows[:, 1] -= 0.05 * bump(900, 700.0, 15.0, 18.0)
    near = [(at, pulse) for at, pulse in run(rows) if abs(pulse.instant - 700) <= 8]
    assert len(near) == 1
    _, pulse = near[0]
    assert abs(pulse.instant - 700) <= 4 and abs(pulse.onset - 685) <= 6 and abs(pulse.offset - 718) <= 6
    assert pulse.energy[pulse.scale, 0] > 4 * pulse.energy[pulse.scale, 1]
    assert pulse.height[0] > 0.04 and pulse.height[1] < -0.02


def test_a_candidate_is_known_a_third_of_a_second_after_its_apex_and_what_comes_later_changes_nothing() -> (
    None
):
    rng = np.random.default_rng(1)
    rows = 0.01 * rng.standard_normal((900, 4))
    rows[:, 2] += 0.1 * bump(900, 600.0, 12.0, 12.0)
    at, pulse = next((at, pulse) for at, pulse in run(rows) if abs(pulse.instant - 600) <= 6)
    assert at - 600 <= AHEAD + NEIGHBOURS + 6
    again = run(rows[: at + 1])[-1][1]
    assert (again.instant, again.score) == (pulse.instant, pulse.score)


def test_a_channel_that_is_always_restless_does_not_hide_a_quiet_one_and_raises_no_alarm_of_its_own() -> None:
    rng = np.random.default_rng(2)
    rows = np.stack(
        [0.01 * rng.standard_normal(3000), 0.01 * rng.standard_normal(3000), np.zeros(3000), np.zeros(3000)],
        axis=1,
    )
    for apex in range(50, 3000, 24):  # a mouth that speaks four syllables a second
        rows[:, 2] += rng.uniform(0.3, 1.0) * bump(3000, apex + rng.uniform(-4, 4), 8.0, 12.0)
    rows[:, 0] += 0.06 * bump(3000, 2000.0, 14.0, 14.0)
    found = run(rows)
    assert any(abs(pulse.instant - 2000) <= 6 for _, pulse in found)
    restless = [pulse for _, pulse in found if pulse.score > 8 and pulse.energy[:, 1].max() == pulse.score]
    assert len(restless) < 5


def test_a_movement_that_stays_is_told_from_one_that_goes_back() -> None:
    rng = np.random.default_rng(3)
    rows = 0.005 * rng.standard_normal((1500, 4))
    rows[:, 0] += 0.1 * bump(1500, 700.0, 15.0, 15.0) + 0.1 * minimum_jerk((np.arange(1500) - 1100) / 12.0)
    found = [pulse for _, pulse in run(rows)]
    brief = next(pulse for pulse in found if abs(pulse.instant - 700) <= 6)
    stays = [pulse for pulse in found if abs(pulse.instant - 1110) <= 20]
    assert abs(brief.rebound) < 0.2
    assert all(pulse.fit < brief.fit and abs(pulse.rebound) > 0.4 for pulse in stays)


def test_evidence_is_what_a_candidate_would_be_and_is_given_where_there_is_none() -> None:
    rng = np.random.default_rng(4)
    rows = 0.01 * rng.standard_normal((640, 4))
    rows[:, 0] += 0.1 * bump(640, 600.0, 12.0, 12.0)
    detector = PulseDetector(REGIONS)
    ((_, pulse),) = [entry for entry in run(rows, detector) if abs(entry[1].instant - 600) <= 6]
    evidence = detector.evidence(600)
    assert evidence is not None and evidence.score == pulse.score
    weak = detector.evidence(560, slack=3)
    assert weak is not None and weak.score < pulse.score
    assert detector.evidence(100) is None and detector.evidence(640) is None


def test_memory_is_kept_across_the_turn_of_the_store() -> None:
    rng = np.random.default_rng(5)
    rows = 0.01 * rng.standard_normal((4000, 4))
    whole = [(pulse.instant, pulse.score) for _, pulse in run(rows)]
    for kept in (WINDOW + 3, 500):
        detector = PulseDetector(REGIONS)
        detector._keep = kept + WINDOW  # another length of memory must change nothing
        detector.restart()
        assert [(pulse.instant, pulse.score) for _, pulse in run(rows, detector)] == whole


def test_a_gap_forgets_the_floor_and_nothing_is_found_until_it_is_known_again() -> None:
    rng = np.random.default_rng(6)
    detector = PulseDetector(REGIONS)
    run(0.01 * rng.standard_normal((500, 4)), detector)
    assert detector.settled
    loud = rng.standard_normal((150, 4))
    assert run(loud, detector, first=600) == []
    assert not detector.settled
