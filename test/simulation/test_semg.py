from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from scipy import signal

from eifer_ros.errors import InputError
from eifer_ros.simulation import semg
from eifer_ros.simulation.muscles import ACTUATORS, MUSCLES, MuscleTimeline, muscle_index
from eifer_ros.simulation.semg import (
    SAMPLE_BLOCK,
    UNITS,
    Electrodes,
    Semg,
    SpikeTrains,
    firing_rates,
    motor_units,
    own_rms,
    place_electrodes,
    templates_in_volts,
    thresholds,
    unit_potential,
    unit_templates,
    variance_per_rate,
)

RATE = 2048.0


def constant(level: float) -> MuscleTimeline:
    return MuscleTimeline(lambda times: np.full((len(times), len(ACTUATORS)), level), 0.07)


@functools.cache
def recorded(mode: str, level: float, blocks: int = 16) -> np.ndarray:
    source = Semg(7, 0, constant(level), mode=mode)  # type: ignore[arg-type]
    return np.concatenate([source.block(number) for number in range(blocks)])


def median_frequency(samples: np.ndarray, rate: float) -> np.ndarray:
    frequency, power = signal.welch(samples, rate, nperseg=2048, axis=0)
    band = (frequency >= 20) & (frequency <= 450)
    share = np.cumsum(power[band], axis=0) / power[band].sum(axis=0)
    return frequency[band][(share < 0.5).sum(axis=0)]


@pytest.mark.parametrize("excitation", [0.0, 0.01, 0.1, 0.35, 0.7, 1.0])
def test_firing_rates_follow_fuglevand(excitation: float) -> None:
    rates = firing_rates(excitation)
    rte = [np.exp((i + 1) * np.log(30.0) / 60) for i in range(60)]
    pfr = [65.0 - 20.0 * r / rte[-1] for r in rte]
    full = rte[-1] + (pfr[-1] - 10.0) / 1.0
    for i in range(60):
        drive = excitation * full
        expected = 0.0 if drive < rte[i] else min(pfr[i], 10.0 + drive - rte[i])
        assert rates[i] == pytest.approx(expected)


def test_at_full_contraction_every_unit_fires_at_its_peak_and_the_first_peaks_highest() -> None:
    rates = firing_rates(1.0)
    assert rates[-1] == pytest.approx(45.0)
    assert rates[0] == pytest.approx(65.0 - 20.0 * np.exp(np.log(30) / 60) / 30.0)
    assert (np.diff(rates) < 0).all()


def test_small_units_are_recruited_first() -> None:
    counts = [(firing_rates(e) > 0).sum() for e in np.linspace(0, 1, 30)]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == UNITS
    for e in (0.05, 0.2):
        active = firing_rates(e) > 0
        assert active[: active.sum()].all()
    assert (np.diff(thresholds()) > 0).all()


@pytest.fixture(scope="module", params=[0.08, 0.5, 1.0])
def trains(request: pytest.FixtureRequest) -> tuple[float, np.ndarray, np.ndarray]:
    times, who = SpikeTrains(7, 0, constant(request.param)).between(0.0, 24.0)
    return request.param, times, who


def test_spike_trains_have_the_rates_of_the_formula(trains: tuple[float, np.ndarray, np.ndarray]) -> None:
    level, _, who = trains
    counts = np.bincount(who, minlength=len(MUSCLES) * UNITS).reshape(len(MUSCLES), UNITS)
    expected = 24.0 * firing_rates(level)
    assert counts.sum() == pytest.approx(len(MUSCLES) * expected.sum(), rel=0.005)
    on = expected > 0
    # a renewal process of CV 0.2 counts with a standard deviation of 0.2 sqrt(n)
    assert np.abs(counts[:, on] - expected[on]).max() < 2.0 + 5.0 * 0.2 * np.sqrt(expected.max())
    assert not counts[:, ~on].any()


def test_intervals_are_normal_and_block_borders_leave_no_trace(
    trains: tuple[float, np.ndarray, np.ndarray],
) -> None:
    level, times, who = trains
    rates = firing_rates(level)
    assert (np.diff(times) >= 0).all()
    inside, across = [], []
    for muscle in (0, 13):
        for unit in np.flatnonzero(rates):
            spikes = times[who == muscle * UNITS + unit]
            intervals = np.diff(spikes) * rates[unit]
            border = np.floor(spikes[1:] / 4.0) != np.floor(spikes[:-1] / 4.0)
            inside.append(intervals[~border])
            across.append(intervals[border])
    within, over = np.concatenate(inside), np.concatenate(across)
    assert within.mean() == pytest.approx(1.0, abs=0.02)
    assert within.std() == pytest.approx(0.2, abs=0.02)
    assert within.min() > 0.2
    assert over.mean() == pytest.approx(1.0, abs=0.06)
    assert 0.1 < over.std() < 0.32
    assert over.max() < 2.0


def test_the_tripole_is_a_tripole() -> None:
    strengths, places = np.array(semg.TRIPOLE), np.array(semg.TRIPOLE_MM)
    scale = np.abs(strengths).max()
    assert abs(strengths.sum()) < 0.001 * scale
    assert abs((strengths * places).sum()) < 0.01 * scale


def test_a_potential_is_the_sum_of_the_formula_over_poles_and_fibres() -> None:
    units, contacts = motor_units(3), np.array([[-40.0, -15.0], [10.0, 20.0]])
    step, count, muscle, unit = 0.1, 150, 18, 30
    strengths = np.array(semg.TRIPOLE) - np.sum(semg.TRIPOLE) / 3.0
    expected = np.zeros((2, count))
    for f in range(semg.FIBRES):
        offset = contacts - units.endplate[muscle, unit, f]
        z = offset @ units.direction[muscle]
        x2 = (offset**2).sum(axis=1) - z**2
        for t in range(count):
            for strength, lag in zip(strengths, semg.TRIPOLE_MM, strict=True):
                run = max(units.velocity[muscle, unit] * t * step - lag, 0.0)
                for pole in (
                    min(run, units.ahead[muscle, unit, f]),
                    -min(run, units.behind[muscle, unit, f]),
                ):
                    distance = np.sqrt(6.0 * (x2 + units.depth[muscle, unit, f] ** 2) + (z - pole) ** 2)
                    expected[:, t] += strength / (2.0 * np.pi * 0.303 * distance) / semg.FIBRES
    found = unit_potential(units, muscle, unit, contacts, step, count) / units.size[unit]
    assert (
        np.abs(found - expected).max() < 0.025 * np.abs(expected).max()
    )  # the table is interpolated linearly


def test_a_potential_begins_and_ends_at_zero() -> None:
    units = motor_units(3)
    wave = unit_potential(units, 18, 30, np.array([[-40.0, -15.0], [-47.0, -22.0]]), 0.1, 400)
    peak = np.abs(wave).max()
    assert np.abs(wave[:, 0]).max() < 1e-3 * peak
    assert np.abs(wave[:, 250:]).max() < 1e-3 * peak


def test_a_potential_between_samples_is_the_same_potential_later() -> None:
    one = Electrodes(
        ("a",),
        ("a",),
        "x",
        "bipolar",
        np.zeros((1, 2)),
        np.array([[-46.0, -19.0]]),
        np.array([[-52.0, -26.0]]),
    )
    waves = unit_templates(motor_units(3), one, RATE, (18,))[0, 30, :, :, 0]
    spectra = np.fft.rfft(waves, 128, axis=1)
    frequency = np.fft.rfftfreq(128, 1.0 / RATE)
    low = (frequency > 20) & (frequency < 400)
    for phase in range(1, semg.PHASES):
        shift = spectra[0] * np.exp(-2j * np.pi * frequency * phase / semg.PHASES / RATE)
        assert np.abs(spectra[phase] - shift)[low].max() < 0.02 * np.abs(spectra[0]).max()


def test_crosstalk_falls_with_distance() -> None:
    exact = place_electrodes("fridlund", 3, jitter=False)
    muscle = muscle_index("zygomaticus_major", "right")
    units = motor_units(3)
    across = np.array([-units.direction[muscle, 1], units.direction[muscle, 0]])
    distances = np.array([0.0, 10.0, 20.0, 35.0, 60.0])
    shift = distances[:, None] * across
    row = Electrodes(
        tuple("abcde"),
        tuple("abcde"),
        "x",
        "bipolar",
        np.zeros((5, 2)),
        exact.plus[muscle] + shift,
        exact.minus[muscle] + shift,
    )
    energy = variance_per_rate(unit_templates(units, row, RATE, (muscle,)), RATE)[0].sum(axis=0)
    assert (np.diff(energy) < 0).all()
    assert energy[2] < 0.05 * energy[0]


def test_a_muscle_is_seen_best_by_its_own_pair_and_not_by_the_other_side() -> None:
    source = Semg(7, 0, constant(0.0))
    seen = source.rms(np.ones(len(MUSCLES)))
    own = np.diag(seen)
    assert (own > 0.5 * own_rms()).all()
    for base in range(11):
        assert seen[2 * base, 2 * base] > 4.0 * seen[2 * base, 2 * base + 1]
    # perioral crosstalk: Lapatki 2003 finds less than a quarter between pairs of small electrodes, ours are
    # 10 mm apart
    mouth = [muscle_index(m, "right") for m in ("orbicularis_oris", "depressor_anguli_oris", "mentalis")]
    assert np.median([seen[a, b] / seen[b, b] for a in mouth for b in mouth if a != b]) < 0.35


def test_the_measured_rms_is_campbells() -> None:
    level = 0.6
    source = Semg(7, 0, constant(level), mode="units")
    expected = np.sqrt((source.rms(np.full(len(MUSCLES), level)) ** 2).sum(axis=0))
    assert recorded("units", level).std(axis=0) == pytest.approx(expected, rel=0.12)


def test_amplitude_grows_with_the_root_of_rate_and_linearly_with_the_potential() -> None:
    templates = templates_in_volts(7, 0, "fridlund", RATE)
    rng = np.random.default_rng(1)
    seconds, measured = 20.0, {}
    for rate in (10.0, 40.0):
        for size in (1.0, 2.0):
            spikes = np.sort(rng.uniform(0.0, seconds, rng.poisson(rate * seconds)))
            out = np.zeros((int(seconds * RATE), 22), np.float32)
            wave = np.float32(size) * templates[18, 30:31]
            semg._superpose(spikes * RATE, np.zeros(len(spikes), np.int64), wave, out)
            measured[rate, size] = out[:, 18].astype(np.float64).std()
    assert measured[40.0, 1.0] / measured[10.0, 1.0] == pytest.approx(2.0, rel=0.15)
    assert measured[10.0, 2.0] / measured[10.0, 1.0] == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize("level", [0.1, 0.45, 1.0])
def test_the_fast_mode_has_the_amplitudes_of_the_motor_units(level: float) -> None:
    units, fast = (recorded(mode, level).std(axis=0) for mode in ("units", "fast"))
    assert fast == pytest.approx(units, rel=0.25)


@pytest.mark.parametrize("mode", ["units", "fast"])
def test_the_median_frequency_is_that_of_facial_emg(mode: str) -> None:
    median = median_frequency(recorded(mode, 1.0), RATE)
    assert median.min() > 60.0
    assert median.max() < 155.0
    assert np.median(median) < 150.0


@pytest.mark.parametrize("mode", ["units", "fast"])
def test_full_contraction_and_rest_have_the_published_amplitudes(mode: str) -> None:
    full = 1e6 * recorded(mode, 1.0).std(axis=0)
    assert 220.0 < full[:4].mean() < 420.0  # forehead: 329 at most in the table
    assert 160.0 < full[18:20].mean() < 300.0  # cheek: 230
    assert (full > 80.0).all()
    rest = np.hypot(1e6 * recorded(mode, 0.031).std(axis=0), 2.0)  # with the amplifier's noise
    assert 4.0 < np.median(rest) < 10.0


@pytest.mark.parametrize("mode", ["units", "fast"])
def test_blocks_are_the_same_in_any_order_and_join_without_a_seam(mode: str) -> None:
    one, other = (Semg(7, 0, constant(0.7), mode=mode) for _ in range(2))  # type: ignore[arg-type]
    forward = [one.block(n) for n in range(10)]
    for number in (9, 3, 8, 0):
        assert np.array_equal(other.block(number), forward[number])
    joined = np.concatenate(forward)
    seams = np.abs(
        joined[SAMPLE_BLOCK::SAMPLE_BLOCK] - joined[SAMPLE_BLOCK - 1 :: SAMPLE_BLOCK][: len(forward) - 1]
    )
    steps = np.abs(np.diff(joined, axis=0))
    assert seams.mean() < 1.5 * steps.mean()


def test_sessions_move_electrodes_by_a_millimetre_and_people_by_more() -> None:
    here, again, other = (
        place_electrodes("fridlund", 7, 0),
        place_electrodes("fridlund", 7, 1),
        place_electrodes("fridlund", 8, 0),
    )
    moved = np.linalg.norm(here.plus - again.plus, axis=1)
    assert 0.0 < moved.mean() < 2.0
    assert np.linalg.norm(here.plus - other.plus, axis=1).mean() > 2.0 * moved.mean()
    assert np.linalg.norm(here.plus - here.minus, axis=1) == pytest.approx(np.full(22, 10.0))


def test_schemes_have_their_channels() -> None:
    kuramoto, both = place_electrodes("kuramoto", 7), place_electrodes("both", 7)
    assert len(kuramoto.names) == 19
    assert not kuramoto.bipolar.any()
    assert len(both.names) == 63
    assert both.names[:2] == ("F1a", "F1b")
    assert both.kind == "monopolar"


def test_the_two_contacts_of_a_pair_subtract_to_the_bipolar_channel() -> None:
    units = motor_units(7)
    pair = unit_templates(units, place_electrodes("fridlund", 7), RATE, (18,))
    contacts = unit_templates(units, place_electrodes("both", 7), RATE, (18,))
    assert contacts[..., 36] - contacts[..., 37] == pytest.approx(
        pair[..., 18], abs=1e-4 * float(np.abs(pair).max())
    )


def test_a_drifting_clock_samples_the_same_muscle_later() -> None:
    slow = Semg(7, 0, constant(0.5), mode="units", true_rate_hz=RATE * (1 - 200e-6))
    exact = Semg(7, 0, constant(0.5), mode="units")
    late = 100  # blocks: 50 s, over which 200 ppm are 10 ms or 20 samples
    a = np.concatenate([exact.block(late), exact.block(late + 1)])[:, 0]
    b = slow.block(late)[:, 0]
    shift = np.argmax(signal.correlate(a, b, "valid"))
    assert shift == pytest.approx(100 * SAMPLE_BLOCK * 200e-6, abs=1.5)


def test_motor_units_are_not_touched_by_those_who_look() -> None:
    units = motor_units(7)
    deeper = dataclasses.replace(units, depth=units.depth + 5.0)
    wave, far = (unit_potential(u, 0, 10, np.array([[0.0, 58.0]]), 0.2, 80) for u in (units, deeper))
    assert np.abs(far).max() < np.abs(wave).max()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate_hz": 10.0}, "200 to 20000"),
        ({"mode": "slow"}, "units or fast"),
        ({"scheme": "frilund"}, "frilund"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Semg(7, 0, constant(0.5), **values)  # type: ignore[arg-type]
