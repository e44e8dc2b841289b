import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.emg.quality import GOOD, ContactMonitor
from eifer_ros.errors import InputError

NS = 1_000_000_000
RATE = 2048


def resting(channels=4, seconds=1.0, seed=0):
    """Muscle noise at rest on electrode offsets, V."""
    rng = np.random.default_rng(seed)
    return 6e-6 * rng.standard_normal((round(RATE * seconds), channels)) + np.linspace(-0.05, 0.05, channels)


def judge(x, contacts=None, mixed=None, **options):
    mixed = x if mixed is None else mixed
    monitor = ContactMonitor(RATE, contacts or [(i,) for i in range(mixed.shape[1])], x.shape[1], **options)
    return monitor.push(x.astype(np.float32), mixed.astype(np.float32), 5 * NS)[0]


def test_good_contact_at_rest_and_in_action_is_perfect():
    x = resting()
    x[:, 1] += 3e-4 * np.random.default_rng(2).standard_normal(RATE)
    contact = judge(x)
    assert contact.score.min() > 0.95
    assert contact.describe(list("abcd")) == ""
    assert contact.stamp == 5 * NS


def test_usual_mains_drift_and_a_blink_are_no_fault():
    t = np.arange(RATE) / RATE
    x = resting()
    x[:, 0] += 2e-5 * np.sin(2 * np.pi * 50 * t)
    x[:, 1] += 3e-3 * t
    x[:, 2] += 3e-4 * np.exp(-(((t - 0.5) / 0.08) ** 2))
    assert judge(x).score.min() > GOOD


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda t, x: x + 5e-4 * np.sin(2 * np.pi * 50 * t), "mains"),
        (lambda t, x: x + 5e-4 * np.sign(np.sin(2 * np.pi * 50 * t)), "mains"),
        (lambda t, x: x + 4e-3 * np.sin(2 * np.pi * 6 * t), "motion"),
        (lambda t, x: np.full_like(x, 0.1875), "rail"),
        (lambda t, x: np.clip(0.02 * np.sin(2 * np.pi * 30 * t) + x, -0.012, 0.012), "rail"),
        (lambda t, x: np.zeros_like(x), "flat"),
        (lambda t, x: 1e-9 * (x - x.mean()) / x.std(), "flat"),
        (lambda t, x: np.where(t < 0.2, np.nan, x), "gap"),
    ],
)
def test_each_fault_is_found_by_name_and_in_its_channel_only(fault, reason):
    x = resting()
    t = np.arange(RATE) / RATE
    x[:, 2] = fault(t, x[:, 2])
    contact = judge(x)
    assert reason in contact.reasons(2)
    assert contact.score[2] < GOOD
    assert (np.delete(contact.score, 2) > 0.95).all()
    assert contact.describe(["F1", "F2", "F3", "F4"]).startswith("F3 (")


def test_a_known_rail_is_found_although_noise_rides_on_it():
    x = resting()
    x[:, 0] = 0.0105 + 1e-4 * np.abs(np.random.default_rng(0).standard_normal(RATE))
    assert "rail" in judge(x, rail_v=0.0105).reasons(0)
    assert "rail" not in judge(x).reasons(0)


def test_mains_common_to_both_contacts_does_no_harm_but_a_dead_contact_does():
    t = np.arange(RATE) / RATE
    x = resting(4) + 5e-4 * np.sin(2 * np.pi * 50 * t)[:, None]
    x[:, 3] = 0.0
    mixed = np.stack([x[:, 0] - x[:, 1], x[:, 2] - x[:, 3]], axis=1)
    contact = judge(x, contacts=[(0, 1), (2, 3)], mixed=mixed)
    assert contact.score[0] > 0.95
    assert "flat" in contact.reasons(1)


def test_sixty_hertz_mains_is_looked_for_where_it_is():
    x = resting() + 5e-4 * np.sin(2 * np.pi * 60 * np.arange(RATE) / RATE)[:, None]
    assert "mains" in judge(x, mains_hz=60).reasons(0)


def test_the_measured_levels_are_in_volts():
    t = np.arange(RATE) / RATE
    x = resting(2) + np.sqrt(2) * 1e-4 * np.sin(2 * np.pi * 50 * t)[:, None]
    contact = judge(x)
    assert contact.mains_v == pytest.approx([1e-4, 1e-4], rel=0.05)
    assert contact.emg_v == pytest.approx([6e-6 * np.sqrt(430 / 1024)] * 2, rel=0.1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=9))
def test_one_judgement_per_second_whatever_the_chunks(sizes):
    x = resting(3, 3.3).astype(np.float32)
    whole = ContactMonitor(RATE, [(0,), (1,), (2,)], 3).push(x, x, 10 * NS)
    monitor = ContactMonitor(RATE, [(0,), (1,), (2,)], 3)
    parts, start = [], 0
    while start < len(x):
        piece = x[start : start + sizes[start % len(sizes)]]
        start += len(piece)
        parts += monitor.push(piece, piece, 10 * NS - round((len(x) - start) / RATE * NS))
    assert len(parts) == len(whole) == 3
    for one, other in zip(parts, whole, strict=True):
        assert np.array_equal(one.score, other.score)
        assert abs(one.stamp - other.stamp) <= 1
    assert monitor.last is parts[-1]


def test_lost_samples_count_against_every_channel_of_that_second():
    x = resting(2).astype(np.float32)
    monitor = ContactMonitor(RATE, [(0,), (1,)], 2)
    contact = monitor.push(x, x, NS, lost=400)[0]
    assert contact.reasons(0) == ("gap",)
    assert monitor.push(x, x, 2 * NS)[0].score.min() > 0.95


def test_a_slow_source_is_judged_within_its_band():
    rng = np.random.default_rng(0)
    x = (1e-5 * rng.standard_normal((200, 1))).astype(np.float32)
    assert ContactMonitor(200, [(0,)], 1).push(x, x, 0)[0].score[0] > 0.9


def test_contacts_outside_the_amplifier_are_refused():
    with pytest.raises(InputError, match=r"outside 0\.\.1"):
        ContactMonitor(RATE, [(0, 2)], 2)
