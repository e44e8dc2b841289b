from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from eifer_ros.errors import ConfigError
from eifer_ros.simulation.artefacts import (
    ARTEFACTS,
    MAINS_LIFTED,
    RAIL_V,
    USUAL,
    WHITE_RMS_V,
    Artefacts,
    blink_field,
    choose,
    drift_ppm,
    dropped,
)
from eifer_ros.simulation.script import Script
from eifer_ros.simulation.semg import SAMPLE_BLOCK, place_electrodes

RATE = 2048.0
SCRIPT = Script(7)


def silent(
    *names: str, seconds: float = 60.0, scheme: str = "fridlund", first: int = 0, **more: float
) -> np.ndarray:
    """(N, C) what is recorded from a face without any muscle."""
    electrodes = place_electrodes(scheme, 7)
    noise = Artefacts(7, 0, SCRIPT, electrodes, RATE, choose(names), **more)
    nothing = np.zeros((SAMPLE_BLOCK, len(electrodes.names)), np.float32)
    blocks = round(seconds * RATE / SAMPLE_BLOCK)
    return np.concatenate([noise.apply(first + n, nothing) for n in range(blocks)]).astype(np.float64)


def power(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    frequency, density = signal.welch(samples - samples.mean(axis=0), RATE, nperseg=8192, axis=0)
    return frequency, density.mean(axis=1)


def test_without_artefacts_the_signal_is_what_the_muscles_made() -> None:
    assert not silent(seconds=2.0).any()


def test_white_noise_has_two_microvolts_and_no_colour() -> None:
    samples = silent("white", seconds=10.0)
    assert samples.std(axis=0) == pytest.approx(np.full(22, WHITE_RMS_V), rel=0.03)
    frequency, density = power(samples)
    low, high = density[(frequency > 5) & (frequency < 300)].mean(), density[frequency > 700].mean()
    assert low == pytest.approx(high, rel=0.05)


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_mains_is_a_line_with_harmonics_that_drifts_a_little(mains_hz: float) -> None:
    samples = silent("mains", mains_hz=mains_hz)
    assert 1e-6 < np.median(samples.std(axis=0)) < 15e-6
    frequency, density = power(samples)
    near = np.abs(frequency[:, None] - mains_hz * np.arange(1, 6)).min(axis=1) < 1.5
    assert density[near].sum() > 0.999 * density.sum()
    for harmonic in (1, 3):
        line = np.abs(frequency - harmonic * mains_hz) < 1.5
        assert density[line].sum() > 0.005 * density.sum()
    analytic = np.unwrap(
        np.angle(
            signal.hilbert(
                signal.sosfiltfilt(
                    signal.butter(2, [mains_hz - 5, mains_hz + 5], "band", fs=RATE, output="sos"),
                    samples[:, 0],
                )
            )
        )
    )
    turned = np.diff(analytic[:: int(RATE)])[2:-2] / (2 * np.pi)
    assert np.abs(turned - mains_hz).max() < 0.07
    assert np.ptp(turned) > 0.01


def test_wander_is_slow_and_up_to_millivolts() -> None:
    samples = silent("wander", seconds=120.0)
    frequency, density = power(samples)
    assert density[frequency < 1.0].sum() > 0.99 * density.sum()
    assert 5e-5 < np.median(samples.std(axis=0)) < 2e-3
    assert np.abs(samples.mean(axis=0)).max() > 5e-4  # electrode offset


def test_motion_comes_in_bursts_below_twenty_hertz() -> None:
    samples = silent("motion", seconds=180.0)
    frequency, density = power(samples)
    assert density[(frequency > 0.5) & (frequency < 22)].sum() > 0.97 * density[frequency > 0.5].sum()
    moving = np.abs(samples).max(axis=1) > 0
    assert 0.01 < moving.mean() < 0.12
    assert 1e-4 < np.abs(samples).max() < 5e-3


def test_a_blink_is_positive_above_and_negative_below_the_eye() -> None:
    electrodes = place_electrodes("kuramoto", 7)
    samples = silent("blink", seconds=30.0, scheme="kuramoto")
    blinks = SCRIPT.blinks(0.5, 29.0)
    assert len(blinks) > 3
    at = np.round((blinks + 0.115) * RATE).astype(int)
    above, below = electrodes.names.index("K3"), electrodes.names.index("K5")
    assert (samples[at, above] > 5e-5).all()
    assert (samples[at, below] < -5e-5).all()
    assert np.abs(samples[at]).max() < 6e-4
    still = np.ones(len(samples), bool)
    for blink in blinks:
        still[int(blink * RATE) : int((blink + 0.32) * RATE) + 2] = False
    assert not samples[still & (np.arange(len(samples)) > RATE)].any()


def test_a_pair_sees_the_difference_of_its_contacts_blinks() -> None:
    pair, contacts = (
        Artefacts(7, 0, SCRIPT, place_electrodes(scheme, 7), RATE, frozenset()).blink_gain
        for scheme in ("fridlund", "both")
    )
    assert pair == pytest.approx(contacts[0:44:2] - contacts[1:44:2], abs=1e-12)


def test_the_field_of_a_blink_fades_away_from_the_eyes() -> None:
    field = blink_field(np.array([[-29.0, 24.3 + d] for d in (15.0, 30.0, 60.0)]))
    assert (np.diff(field) < 0).all()
    assert field.min() > 0
    assert blink_field(np.array([-29.0, 0.0])) < 0


def test_a_lifted_electrode_shows_mains_then_hangs_at_the_rail_and_comes_back() -> None:
    electrodes = place_electrodes("fridlund", 7)
    noise = Artefacts(7, 0, SCRIPT, electrodes, RATE, choose(["liftoff", "mains"]))
    seconds = np.arange(0.0, 400.0, 0.25)
    state = np.array([noise.lifted(t) for t in seconds])
    assert state.any()
    channel = int(np.argmax(state.any(axis=0)))
    first = seconds[np.argmax(state[:, channel])]
    samples = silent("liftoff", "mains", seconds=25.0, first=int((first - 3.0) * RATE // SAMPLE_BLOCK))
    course = samples[:, channel]
    calm = np.std(course[: int(2.0 * RATE)])
    railed = np.abs(course) >= RAIL_V
    assert railed.sum() > 2.5 * RATE
    start = int(np.argmax(railed))
    assert railed[start : start + int(2.5 * RATE)].all()
    assert np.std(course[start - int(RATE) : start]) == pytest.approx(MAINS_LIFTED * calm, rel=0.1)
    assert np.std(course[-int(RATE) :]) == pytest.approx(calm, rel=0.1)
    assert np.abs(np.delete(samples, channel, axis=1)).max() < 1e-4


def test_nothing_leaves_the_amplifiers_range() -> None:
    electrodes = place_electrodes("fridlund", 7)
    huge = np.full((SAMPLE_BLOCK, 22), 3.0, np.float32)
    assert Artefacts(7, 0, SCRIPT, electrodes, RATE, frozenset()).apply(0, huge).max() == np.float32(RAIL_V)


def test_clocks_drift_by_up_to_two_hundred_parts_per_million() -> None:
    drifts = np.array([drift_ppm(seed, 0) for seed in range(300)])
    assert np.abs(drifts).max() <= 200.0
    assert drifts.std() == pytest.approx(400.0 / np.sqrt(12.0), rel=0.1)


def test_about_one_packet_in_five_hundred_is_dropped() -> None:
    lost = sum(dropped(7, 0, packet) for packet in range(10000))
    assert 5 <= lost <= 45  # 20 expected; the same packets every time
    assert lost == sum(dropped(7, 0, packet) for packet in range(10000))


def test_names_choose_and_wrong_ones_are_explained() -> None:
    assert choose(["usual"]) == frozenset(USUAL)
    assert choose(["all"]) == frozenset(ARTEFACTS)
    assert choose([]) == frozenset()
    with pytest.raises(ConfigError, match="did you mean 'blink'"):
        choose(["blnk"])


def test_every_block_is_the_same_whenever_it_is_asked_for() -> None:
    electrodes = place_electrodes("fridlund", 7)
    one, other = (Artefacts(7, 0, SCRIPT, electrodes, RATE, choose(["all"])) for _ in range(2))
    nothing = np.zeros((SAMPLE_BLOCK, 22), np.float32)
    forward = [one.apply(n, nothing) for n in range(6)]
    assert all(np.array_equal(other.apply(n, nothing), forward[n]) for n in (5, 0, 3))
