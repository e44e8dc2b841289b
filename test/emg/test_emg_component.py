import dataclasses
import itertools

import numpy as np
import pytest
from scipy import signal

from eifer_ros import config
from eifer_ros.component import Level
from eifer_ros.emg.calibration import Calibration
from eifer_ros.emg.emg_processing import EmgConfig, EmgProcessing
from eifer_ros.emg.filters import EnvelopeFilter
from eifer_ros.emg.montage import FRIDLUND, MMM_COLUMNS
from eifer_ros.errors import ConfigError, InputError
from eifer_ros.types import EmgChannelInfo, EmgChunk, MuscleActivity

NS = 1_000_000_000
T0 = 1_800_000_000 * NS
RATE = 1000.0
NAMES = ("F1", "F2", "F19", "F20")


def emg(seconds, channels=4, rate=RATE, seed=0):
    rng = np.random.default_rng(seed)
    return (2e-5 * rng.standard_normal((round(rate * seconds), channels)) + 0.01).astype(np.float32)


def chunks(x, start=T0, index=0, rate=RATE, names=NAMES, size=10):
    return [
        EmgChunk(start + round(i / rate * NS), rate, names, x[i : i + size], index + i)
        for i in range(0, len(x), size)
    ]


def feed(component, items):
    out = [emission for item in items for emission in component.handle("emg/raw", item)]
    return [e.item for e in out if e.port == "emg/activity"], [
        e.item for e in out if e.port == "emg/channels"
    ]


def started(**options):
    component = EmgProcessing(EmgConfig(**options))
    component.setup()
    return component


def test_raw_emg_becomes_activity_at_100_hz_with_the_schemes_muscles():
    component = started()
    activity, info = feed(component, chunks(emg(2.0)))
    assert len(info) == 1
    assert isinstance(info[0], EmgChannelInfo)
    assert info[0].channels == NAMES
    assert info[0].scheme == "fridlund"
    assert info[0].muscles == (
        "medial_frontalis_right",
        "medial_frontalis_left",
        "zygomaticus_major_right",
        "zygomaticus_major_left",
    )
    assert tuple(info[0].positions[2]) == (-53, -23)
    assert all(isinstance(item, MuscleActivity) for item in activity)
    assert [item.stamp for item in activity] == [T0 + k * 10_000_000 for k in range(200)]
    assert activity[-1].muscles == info[0].muscles
    want = EnvelopeFilter("live", RATE, 4).push(emg(2.0), T0).values
    assert np.allclose([item.envelope for item in activity], want, rtol=1e-6, equal_nan=True)
    assert np.isnan(activity[-1].activation).all()
    assert np.isnan(activity[50].quality).all()
    assert activity[-1].quality.min() > 0.9
    assert component.health().level == Level.OK


def test_channels_in_german_and_in_another_order_end_up_in_the_schemes_order():
    component = started()
    x = emg(0.5, 22)
    activity, info = feed(component, chunks(x, names=MMM_COLUMNS))
    assert info[0].channels == FRIDLUND.names
    column = next(i for i, name in enumerate(MMM_COLUMNS) if name == "Zygomaticus_l")
    alone = EnvelopeFilter("live", RATE, 1).push(x[:, [column]], T0).values[-1, 0]
    assert activity[-1].envelope[FRIDLUND.index("F20")] == pytest.approx(alone, rel=1e-6)


def test_a_loss_is_counted_shown_and_never_filled():
    component = started()
    x = emg(3.0)
    items = chunks(x)
    activity, _ = feed(component, items[:100])
    gap = EmgChunk(items[150].stamp, RATE, NAMES, items[150].samples, items[150].first_index, lost=500)
    later, _ = feed(component, [gap, *items[151:]])
    assert activity[-1].stamp < T0 + NS
    assert later[0].stamp == T0 + round(1.5 * NS)
    assert np.isnan(later[0].envelope).all()
    assert np.isfinite(later[-1].envelope).all()
    health = component.health()
    assert health.values["lost_samples"] == 500
    assert health.values["gaps"] == 1
    assert health.values["time_jumps"] == 0
    feed(component, chunks(emg(6.0), start=T0 + 3 * NS, index=3000))
    assert component.health().level == Level.OK


def test_a_recent_loss_is_a_warning_in_words():
    component = started()
    items = chunks(emg(2.0))
    feed(component, [*items[:50], *items[60:]])
    health = component.health()
    assert health.level == Level.WARN
    assert "gap in the EMG stream (100 samples lost" in health.message


def test_a_header_that_hides_a_loss_is_found_by_the_running_counter():
    component = started()
    items = chunks(emg(2.0))
    feed(component, [*items[:50], *items[70:]])
    assert component.health().values["lost_samples"] == 200


def test_loss_told_by_an_empty_chunk_is_not_forgotten():
    component = started()
    items = chunks(emg(2.0))
    empty = EmgChunk(
        items[60].stamp, RATE, NAMES, np.zeros((0, 4), np.float32), items[60].first_index, lost=100
    )
    feed(component, [*items[:50], empty, *items[60:]])
    assert component.health().values["lost_samples"] == 100
    assert component.health().values["gaps"] == 1


@pytest.mark.parametrize("jump_s", [-0.7, 5.0])
def test_time_that_jumps_is_counted_and_starts_afresh(jump_s):
    component = started()
    feed(component, chunks(emg(1.0)))
    later, _ = feed(component, chunks(emg(1.0), start=T0 + round((1.0 + jump_s) * NS), index=1000))
    assert component.health().values["time_jumps"] == 1
    assert later[0].stamp >= T0 + round((1.0 + jump_s) * NS)
    assert np.isnan(later[0].envelope).all()
    assert [b.stamp - a.stamp for a, b in itertools.pairwise(later)] == [10_000_000] * (len(later) - 1)


def test_a_source_that_starts_over_is_noticed():
    component = started()
    feed(component, chunks(emg(1.0), index=5000))
    later, _ = feed(component, chunks(emg(1.0), start=T0 + 10 * NS, index=0))
    assert component.health().values["source_restarts"] == 1
    assert component.health().values["lost_samples"] == 0
    assert later[0].stamp >= T0 + 10 * NS


def test_a_changed_rate_or_channel_list_gives_new_filters_and_a_new_description():
    component = started()
    feed(component, chunks(emg(1.0)))
    activity, info = feed(component, chunks(emg(1.0, rate=2000.0), start=T0 + NS, index=1000, rate=2000.0))
    assert info[0].rate_hz == 2000.0
    assert component.health().values["rate_changes"] == 1
    assert len(activity) == 100
    activity, info = feed(component, chunks(emg(1.0, 2), start=T0 + 2 * NS, index=3000, names=("F5", "F6")))
    assert info[0].channels == ("F5", "F6")
    assert component.health().values["channel_changes"] == 1
    assert activity[-1].muscles == ("corrugator_supercilii_right", "corrugator_supercilii_left")


def test_a_better_estimate_of_the_same_rate_is_no_change():
    component = started()
    feed(component, chunks(emg(1.0)))
    _, info = feed(component, chunks(emg(1.0), start=T0 + NS, index=1000, rate=1000.2))
    assert info == []


def test_channels_the_scheme_does_not_know_are_refused_in_health_and_recover():
    component = started(scheme="fridlund")
    activity, _ = feed(component, chunks(emg(0.5, 2), names=("ch1", "ch2")))
    assert activity == []
    health = component.health()
    assert health.level == Level.ERROR
    assert "none of the amplifier channels (ch1, ch2)" in health.message
    assert health.values["refused_chunks"] == 50
    activity, _ = feed(component, chunks(emg(0.5), start=T0 + NS, index=500))
    assert len(activity) == 50
    assert component.health().level == Level.WARN
    assert "4 channels at 1000 Hz" in component.health().message


def test_a_rate_too_slow_for_emg_is_refused_in_health():
    component = started()
    feed(component, chunks(emg(1.0, rate=30.0), rate=30.0))
    assert "30 Hz is too slow for EMG" in component.health().message


def test_unknown_channel_names_pass_under_their_own_names():
    activity, info = feed(started(), chunks(emg(0.5, 2), names=("left arm", "right arm")))
    assert info[0].scheme == "plain"
    assert activity[-1].muscles == ("left arm", "right arm")


def test_nan_and_rails_show_in_quality_and_do_not_last():
    component = started()
    x = emg(4.0)
    x[1000:1400, 1] = np.nan
    x[1000:2000, 2] = 3.0
    activity, _ = feed(component, chunks(x))
    assert component.health().values["refused_samples"] == 1400
    during, after = activity[210], activity[-1]
    assert during.quality[1] == 0.0
    assert during.quality[2] == 0.0
    assert during.quality[0] > 0.9
    assert np.isfinite(after.envelope).all()
    assert after.quality.min() > 0.9


def test_a_bad_channel_stays_in_place_without_value():
    component = started(bad_channels=("F19",))
    activity, _ = feed(component, chunks(emg(1.5)))
    assert np.isnan(activity[-1].envelope).tolist() == [False, False, True, False]
    assert activity[-1].quality[2] == 0.0
    assert component.health().level == Level.OK
    assert component.unusable == ("F19",)
    assert component.health().values["refused_samples"] == 0


def test_a_calibration_gives_activation_and_a_wrong_one_is_an_error(tmp_path):
    muscles = (
        "zygomaticus_major_left",
        "medial_frontalis_right",
        "medial_frontalis_left",
        "zygomaticus_major_right",
    )
    made = Calibration("fridlund", "live", muscles, np.full(4, 1e-6), np.array([1e-5, 2e-5, 4e-5, 8e-5]), T0)
    made.save(tmp_path / "c.yaml")
    component = started(calibration=str(tmp_path / "c.yaml"))
    activity, _ = feed(component, chunks(emg(1.0)))
    e = activity[-1].envelope.astype(float)
    want = np.minimum(np.sqrt(e**2 - 1e-12) / [2e-5, 4e-5, 8e-5, 1e-5], 1.0)
    assert activity[-1].activation == pytest.approx(want, rel=1e-5)
    assert "calibrated" in component.health().message
    later, _ = feed(component, chunks(emg(1.0, 2), start=T0 + NS, index=1000, names=("F5", "F6")))
    assert np.isnan(later[-1].activation).all()
    assert component.health().level == Level.ERROR
    assert "does not know corrugator_supercilii_right" in component.health().message
    with pytest.raises(InputError, match="profile 'live'; the stream uses 'rms100'"):
        started(profile="rms100", calibration=str(tmp_path / "c.yaml"))


def test_a_calibration_made_during_the_stream_takes_effect_at_once():
    component = started()
    feed(component, chunks(emg(0.5)))
    muscles = component.montage.muscles
    component.use_calibration(Calibration("fridlund", "live", muscles, np.zeros(4), np.full(4, 1e-4), T0))
    activity, _ = feed(component, chunks(emg(0.5), start=T0 + NS // 2, index=500))
    assert np.isfinite(activity[-1].activation).all()
    with pytest.raises(InputError, match="does not know"):
        component.use_calibration(
            Calibration("fridlund", "live", muscles[:2], np.zeros(2), np.full(2, 1e-4), T0)
        )


def test_envelopes_made_elsewhere_are_only_brought_to_the_grid():
    component = started(profile="eifer_mmm", contents="envelope")
    x = np.abs(np.random.default_rng(0).standard_normal((60, 22))).astype(np.float32) * 1e-5
    activity, info = feed(component, chunks(x, rate=30.0, names=MMM_COLUMNS, size=1))
    assert len(activity) in (196, 197)
    third = activity[10]  # 100 ms: exactly on the fourth row
    assert np.allclose(
        third.envelope,
        x[3][[MMM_COLUMNS.index(n) for n in sorted(MMM_COLUMNS, key=FRIDLUND.index)]],
        rtol=1e-3,
    )
    assert info[0].rate_hz == 30.0
    with pytest.raises(InputError, match="needs the whole recording"):
        started(profile="eifer_mmm")


def test_reset_forgets_the_signal_and_keeps_the_channels():
    component = started()
    first, _ = feed(component, chunks(emg(1.0)))
    component.reset()
    again, info = feed(component, chunks(emg(1.0)))
    assert info == []
    assert [item.stamp for item in again] == [item.stamp for item in first]
    assert np.allclose([i.envelope for i in again], [i.envelope for i in first], equal_nan=True)
    assert component.health().values["time_jumps"] == 0


def test_silence_shows_in_health_within_a_second_and_a_half():
    component = started()
    feed(component, chunks(emg(1.0)))
    list(component.tick(T0 + NS + NS // 2))
    assert component.health().level != Level.STALE
    list(component.tick(T0 + 2 * NS + 1))
    assert component.health().level == Level.STALE
    feed(component, chunks(emg(0.1), start=T0 + 2 * NS, index=1000))
    assert component.health().level != Level.STALE


def test_health_before_the_first_chunk_and_foreign_items():
    component = started()
    assert component.health().message == "waiting for EMG"
    with pytest.raises(InputError, match="carries EmgChunk; got str"):
        list(component.handle("emg/raw", "hello"))


def test_the_shipped_configuration_is_valid_and_holds_the_defaults(root):
    path = root / "config" / "emg.yaml"
    assert config.load(EmgConfig, "emg", path) == EmgConfig()
    assert set(config.load_yaml(path)["emg"]) == set(EmgConfig.model_fields)


def test_a_misspelt_parameter_is_explained():
    with pytest.raises(ConfigError, match="did you mean 'mains_hz'"):
        config.load(EmgConfig, "emg", mains_h=50)


def load_real(path):
    """(samples V, rate) of the public recordings, read here in the plainest way."""
    if path.name == "emg_1000hz.txt":
        return (np.loadtxt(path, comments="#").reshape(-1, 1) - 2048) * 1e-6, 1000.0
    if path.name == "facial_emg_zyg_corr_100hz.txt":
        return np.array(
            [[float(w) for w in line.split()[1:3]] for line in path.read_text().splitlines()]
        ) * 1e-3, 100.0
    rows = [line.split(",")[1:3] for line in path.read_text().splitlines() if not line.startswith("%")]
    return np.array(rows, float) * 1e-6, 200.0


@pytest.mark.parametrize("profile", ["live", "rms100"])
@pytest.mark.parametrize("name", ["emg_1000hz.txt", "facial_emg_zyg_corr_100hz.txt", "emg_openbci_200hz.txt"])
def test_the_envelope_of_real_recordings_agrees_with_an_offline_reference(recordings, name, profile):
    x, rate = load_real(recordings / name)
    x = x[: round(60 * rate)]
    names = tuple(f"ch{i}" for i in range(x.shape[1]))
    activity, _ = feed(
        started(profile=profile), chunks(x.astype(np.float32), rate=rate, names=names, size=23)
    )
    got = np.array([item.envelope for item in activity])
    times = np.array([(item.stamp - T0) / NS for item in activity])

    top = min(450.0, 0.45 * rate)
    y = signal.sosfilt(signal.butter(4, [20, top], "bandpass", fs=rate, output="sos"), x - x[0], axis=0)
    for harmonic in range(50, int(min(250.0, top)) + 1, 50):
        y = signal.lfilter(*signal.iirnotch(harmonic, 30, fs=rate), y, axis=0)
    if profile == "live":
        y = signal.lfilter(*signal.bessel(2, 6, norm="mag", fs=rate), np.abs(y), axis=0)
    else:
        window = round(0.1 * rate)
        y = np.sqrt(np.stack([np.convolve(c**2, np.ones(window) / window)[: len(c)] for c in y.T], axis=1))
    for channel in range(x.shape[1]):
        want = np.interp(times, np.arange(len(x)) / rate, y[:, channel])
        valid = np.isfinite(got[:, channel])
        assert valid.mean() > 0.97
        assert np.corrcoef(got[valid, channel], want[valid])[0, 1] >= 0.9999


@pytest.mark.parametrize("stamp", [T0, 0])
def test_frozen_stamps_of_emg_are_named_in_health_and_counted(stamp):
    component = started()
    feed(component, chunks(emg(1.0)))
    feed(component, [dataclasses.replace(chunk, stamp=stamp) for chunk in chunks(emg(1.0), index=1000)])
    component.tick(T0 + 2 * NS)
    health = component.health()
    assert health.level == Level.WARN
    assert "stamps of emg/raw have stood still at" in health.message
    assert health.values["repeated_stamps"] == 99
    feed(component, chunks(emg(1.0), start=T0 + 2 * NS, index=2000))
    assert "stood still" not in component.health().message
