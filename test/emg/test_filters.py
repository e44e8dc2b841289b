import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from eifer_ros.emg.filters import PROFILES, EnvelopeFilter, design, eifer_mmm_envelope, profile_named
from eifer_ros.emg.montage import FRIDLUND, build_montage
from eifer_ros.errors import InputError

LIVE = ("live", "rms100", "emg2face")
NS = 1_000_000_000
T0 = 1_800_000_000 * NS + 123_456_789


def emg(rate, seconds, channels=2, seed=0, offset=0.02):
    """Band-limited noise in bursts on an electrode offset with mains, as volts."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(rate * seconds)) / rate
    x = signal.sosfilt(signal.butter(2, 0.8, output="sos"), rng.standard_normal((len(t), channels)), axis=0)
    strength = 5e-6 + 1e-4 * (np.sin(2 * np.pi * 0.7 * t + 1.0) > 0)
    return x * strength[:, None] + offset + 2e-5 * np.sin(2 * np.pi * 50 * t)[:, None]


def reference(name, x, rate, mains):
    """The profile computed over the whole recording from its definition, filter by filter in
    transfer-function form.
    """
    top = min(450.0, 0.45 * rate)
    z, p, k = signal.butter(4, [20.0, top], "bandpass", fs=rate, output="zpk")
    sos = signal.zpk2sos(z, p, k)
    y = signal.sosfilt(sos, x - x[0], axis=0)
    harmonic = mains
    while harmonic <= min(250.0, top):
        y = signal.lfilter(*signal.iirnotch(harmonic, 30.0, fs=rate), y, axis=0)
        harmonic += mains
    if name == "rms100":
        window = round(0.1 * rate)
        return np.sqrt(np.stack([np.convolve(c**2, np.ones(window) / window)[: len(c)] for c in y.T], axis=1))
    if name == "live":
        b, a = signal.bessel(2, 6.0, norm="mag", fs=rate)
    else:
        b, a = signal.butter(4, 8.0, fs=rate)
    return np.maximum(signal.lfilter(b, a, np.abs(y), axis=0), 0.0)


@pytest.mark.parametrize("mains", [50, 60])
@pytest.mark.parametrize("rate", [4096.0, 1000.0, 200.0])
@pytest.mark.parametrize("name", LIVE)
def test_a_profile_equals_the_offline_computation_of_its_definition(name, rate, mains):
    x = emg(rate, 3.0)
    stream = EnvelopeFilter(name, rate, 2, mains_hz=mains)
    got = np.concatenate([stream.filtered(x[i : i + 37]) for i in range(0, len(x), 37)])
    want = reference(name, x, rate, mains)
    settled = np.isfinite(got)
    # 4th-order low-pass in transfer-function form loses digits at high rates, so the reference is the coarser
    # of the two
    assert np.abs(got - want)[settled].max() < 2e-6 * want.max()
    assert np.isfinite(got[round(stream.design.settle_s * rate) :]).all()


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(LIVE),
    st.lists(st.integers(1, 700), min_size=1, max_size=12),
    st.sampled_from([1000.0, 2048.0, 4000.0]),
)
def test_output_does_not_depend_on_chunk_sizes(name, sizes, rate):
    x = emg(rate, 1.2).astype(np.float32)
    whole = EnvelopeFilter(name, rate, 2).push(x, T0)
    stream = EnvelopeFilter(name, rate, 2)
    parts, start = [], 0
    while start < len(x):
        size = sizes[len(parts) % len(sizes)]
        parts.append(stream.push(x[start : start + size], T0 + round(start / rate * NS)))
        start += size
    assert np.array_equal(np.concatenate([part.stamps for part in parts]), whole.stamps)
    values = np.concatenate([part.values for part in parts])
    assert np.array_equal(np.isnan(values), np.isnan(whole.values))
    assert np.nanmax(np.abs(values - whole.values)) <= 1e-9 * np.nanmax(whole.values)
    assert stream.gaps == 0


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(LIVE), st.lists(st.integers(1, 90), min_size=1, max_size=8), st.integers(0, 2**31))
def test_chunk_invariance_holds_while_samples_are_missing_and_the_rail_is_hit(name, sizes, seed):
    rng = np.random.default_rng(seed)
    x = emg(1000.0, 0.8, channels=3)
    x[rng.random(x.shape) < 0.003] = np.nan
    x[rng.integers(len(x)), 1] = 5.0
    whole = EnvelopeFilter(name, 1000.0, 3)
    want = whole.filtered(x)
    stream = EnvelopeFilter(name, 1000.0, 3)
    parts, start = [], 0
    while start < len(x):
        size = sizes[len(parts) % len(sizes)]
        parts.append(stream.filtered(x[start : start + size]))
        start += size
    assert np.array_equal(np.concatenate(parts), want, equal_nan=True)
    assert stream.refused == whole.refused == int((~(np.abs(x) <= 1.0)).sum())


@pytest.mark.parametrize("name", LIVE)
def test_the_envelope_of_a_steady_burst_has_the_level_its_definition_predicts(name):
    sigma = 5e-5
    x = sigma * np.random.default_rng(3).standard_normal((4096 * 20, 4))
    stream = EnvelopeFilter(name, 4096.0, 4)
    values = stream.filtered(x)[4096:]
    # white noise keeps the share of its power that lies in the band; a rectified Gaussian has the mean
    # sqrt(2/pi) sigma
    _, response = signal.sosfreqz(stream.design.band, 1 << 16, fs=4096.0)
    level = sigma * np.sqrt(np.mean(np.abs(response) ** 2))
    if name != "rms100":
        level *= np.sqrt(2 / np.pi)
    assert np.mean(values) == pytest.approx(level, rel=0.02)


@pytest.mark.parametrize("name", LIVE)
def test_the_stated_delay_is_the_time_to_half_of_a_noise_step(name):
    rate = 4096.0
    rng = np.random.default_rng(5)
    stream = EnvelopeFilter(name, rate, 400)
    quiet = 1e-12 * rng.standard_normal((4096, 400))
    mean = stream.filtered(np.vstack([quiet, 1e-4 * rng.standard_normal((8192, 400))]))[4096:].mean(axis=1)
    half = np.argmax(mean >= 0.5 * mean[-4096:].mean()) / rate
    assert stream.design.delay_s == pytest.approx(half, abs=0.002)


def test_live_reaches_half_within_40_ms_at_every_usual_rate():
    for rate in (1000.0, 2000.0, 2048.0, 4000.0, 4096.0):
        assert design(PROFILES["live"], rate).delay_s <= 0.040


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_mains_and_harmonics_are_taken_out(mains):
    rate = 2048.0
    t = np.arange(round(rate * 4)) / rate
    x = sum(1e-4 * np.sin(2 * np.pi * mains * k * t) for k in (1, 2, 3, 4))[:, None]
    left = EnvelopeFilter("live", rate, 1, mains_hz=mains).filtered(x)[-2048:].max()
    wrong = EnvelopeFilter("live", rate, 1, mains_hz=110.0 - mains).filtered(x)[-2048:].max()
    assert left < 1e-7
    assert wrong > 2e-5


def test_an_electrode_offset_makes_no_step():
    x = np.full((500, 1), 0.15)
    assert np.nanmax(EnvelopeFilter("live", 1000.0, 1).filtered(x)) < 1e-9


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf, 3e38, 5.0])
def test_a_bad_sample_restarts_its_channel_and_leaves_no_trace(name, fault):
    rate = 1000.0
    x = emg(rate, 3.0)
    clean = EnvelopeFilter(name, rate, 2).filtered(x)
    hurt = x.copy()
    hurt[1000:1010, 0] = fault
    stream = EnvelopeFilter(name, rate, 2)
    got = stream.filtered(hurt)
    settle = round(stream.design.settle_s * rate)
    assert stream.refused == 10
    assert np.isnan(got[1000 : 1010 + settle - 1, 0]).all()
    assert np.array_equal(got[:, 1], clean[:, 1], equal_nan=True)
    later = slice(1010 + settle, None)
    fresh = EnvelopeFilter(name, rate, 1).filtered(hurt[1010:, :1])
    # the place in the RMS run differs, so the last digits may
    assert np.allclose(got[later, 0], fresh[settle:, 0], rtol=1e-9, atol=0)


def test_a_rail_within_limits_leaves_no_rounding_error_in_the_rms():
    rate = 1000.0
    x = emg(rate, 3.0, channels=1, offset=0.0)
    x[500:520] = 0.9
    stream = EnvelopeFilter("rms100", rate, 1, mains_hz=0)
    got = stream.filtered(x)[-200:]
    y = signal.sosfilt(stream.design.band, x - x[0], axis=0)
    want = np.sqrt(np.array([np.mean(y[i - 99 : i + 1] ** 2) for i in range(len(y) - 200, len(y))]))
    assert np.allclose(got[:, 0], want, rtol=1e-12)


def test_nothing_is_published_inside_a_gap_and_filters_restart_after_it():
    rate = 1000.0
    x = emg(rate, 2.0)
    stream = EnvelopeFilter("live", rate, 2)
    before = stream.push(x[:1000], T0)
    after = stream.push(x[1300:], T0 + 1_300_000_000, lost=300)
    assert stream.gaps == 1
    assert before.stamps[-1] < T0 + NS
    assert after.stamps[0] >= T0 + 1_300_000_000
    settle = int(stream.design.settle_s * 100)
    assert np.isnan(after.values[:settle]).all()
    assert np.isfinite(after.values[settle + 2 :]).all()
    assert (np.diff(np.concatenate([before.stamps, after.stamps])) >= 10_000_000).all()


@pytest.mark.parametrize("jump_s", [-3.0, 0.4, 3600.0])
def test_a_jump_in_time_restarts_without_being_told_of_a_loss(jump_s):
    x = emg(1000.0, 0.5)
    stream = EnvelopeFilter("live", 1000.0, 2)
    stream.push(x, T0)
    out = stream.push(x, T0 + round((0.5 + jump_s) * NS))
    assert stream.gaps == 1
    assert out.stamps[0] >= T0 + round((0.5 + jump_s) * NS)
    assert len(out.stamps) == pytest.approx(50, abs=1)


def test_emg2face_compresses_in_microvolts_after_the_grid():
    x = emg(2048.0, 2.0)
    plain = EnvelopeFilter("emg2face", 2048.0, 2)
    grid = plain.sampler.push(plain.filtered(x), T0)[1]
    got = EnvelopeFilter("emg2face", 2048.0, 2).push(x, T0).values
    assert np.allclose(got, 1e-6 * np.log(1.0 + grid / 1e-6), equal_nan=True, rtol=1e-12)


@pytest.mark.parametrize("rate", [100.0, 200.0, 250.0, 999.0])
def test_a_slow_source_is_accepted_with_a_word_about_its_band(rate):
    plan = design(PROFILES["live"], rate)
    assert plan.band_hz == (20.0, 0.45 * rate)
    assert "cut to" in plan.notes[0]
    assert all(frequency < rate / 2 for frequency in plan.notches_hz)
    assert any("below 500 Hz" in note for note in plan.notes) == (rate < 500)


def test_a_rate_without_any_emg_band_is_refused():
    with pytest.raises(InputError, match="30 Hz is too slow"):
        design(PROFILES["live"], 30.0)
    with pytest.raises(InputError, match="above 0"):
        design(PROFILES["live"], float("nan"))


def test_the_offline_profile_and_unknown_names_are_refused_live():
    with pytest.raises(InputError, match="needs the whole recording"):
        EnvelopeFilter("eifer_mmm", 4096.0, 1)
    with pytest.raises(
        InputError, match="'lives' is not known; the profiles are live, rms100, emg2face, eifer_mmm"
    ):
        profile_named("lives")
    with pytest.raises(InputError, match="made for N x 2"):
        EnvelopeFilter("live", 1000.0, 2).push(np.zeros((10, 3)), T0)


def test_eifer_mmm_is_the_published_chain():
    rate = 4096.0
    rng = np.random.default_rng(9)
    monopolar = emg(rate, 4.0, channels=4, seed=9) + 1e-3 * rng.standard_normal(round(rate * 4.0))[:, None]
    monopolar[100:120, 2] = np.nan
    montage = build_montage(["F1a", "F1b", "F2a", "F2b"], FRIDLUND)
    got = eifer_mmm_envelope(monopolar, rate, T0, montage=montage)

    # every step once more, by other means
    x = np.nan_to_num(monopolar - np.nanmean(monopolar, axis=0))
    bipolar = np.stack([x[:, 0] - x[:, 1], x[:, 2] - x[:, 3]], axis=1)
    w = 2 * np.pi * 50.0 / rate
    bandwidth = w / 2.0
    gain = 1.0 / (1.0 + np.tan(bandwidth / 2.0))
    b, a = (
        gain * np.array([1.0, -2.0 * np.cos(w), 1.0]),
        np.array([1.0, -2.0 * gain * np.cos(w), 2.0 * gain - 1.0]),
    )
    notched = signal.lfilter(b, a, bipolar, axis=0)
    k = np.arange(129) - 64
    ideal = 2 * 500 / rate * np.sinc(2 * 500 / rate * k) - 2 * 10 / rate * np.sinc(2 * 10 / rate * k)
    taps = ideal * np.hamming(129)
    middle = np.abs(np.sum(taps * np.exp(-2j * np.pi * 255.0 / rate * k)))
    band = np.stack([np.convolve(c, taps / middle, "same") for c in notched.T], axis=1)
    rms = np.sqrt(np.stack([np.convolve(c**2, np.ones(2048) / 2048, "same") for c in band.T], axis=1))
    spectrum = np.fft.rfft(rms, axis=0)[:61]
    spectrum[60] = 2 * spectrum[60].real
    want = np.maximum(np.fft.irfft(spectrum, 120, axis=0) * 120 / len(rms), 0.0)

    assert got.values.shape == (120, 2)
    assert np.abs(got.values - want).max() < 1e-3 * want.max()
    assert (got.values >= 0).all()
    assert got.stamps[0] == T0
    assert np.abs(np.diff(got.stamps) - NS / 30).max() <= 1


def test_eifer_mmm_sees_a_burst_where_it_happens():
    rate = 4096.0
    x = 1e-6 * np.random.default_rng(1).standard_normal((round(rate * 6), 1))
    x[round(rate * 2.5) : round(rate * 3.5)] *= 100
    out = eifer_mmm_envelope(x, rate)
    centre = np.sum(out.stamps / NS * out.values[:, 0] ** 2) / np.sum(out.values[:, 0] ** 2)
    assert centre == pytest.approx(3.0, abs=0.02)
