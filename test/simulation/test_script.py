from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.emg.protocol import PROTOCOL
from eifer_ros.errors import InputError
from eifer_ros.simulation.muscles import ACTUATORS, HIDDEN, MUSCLES, muscle_index
from eifer_ros.simulation.script import EMOTIONAL, FUNCTIONAL, PROGRAMS, Pulse, Script, minimum_jerk

TIMES = np.arange(0.0, 125.0, 0.01)


@pytest.fixture(scope="module")
def script() -> Script:
    return Script(7)


def test_the_programme_holds_the_eleven_functional_and_six_emotional_movements_in_order(
    script: Script,
) -> None:
    labels = [take.label for take in script.takes(0.0, script.cycle_s - 0.01)]
    assert labels[:11] == [movement.name for movement in PROTOCOL] == list(FUNCTIONAL)
    assert labels[11:17] == ["Angry", "Disgusted", "Fearful", "Happy", "Sad", "Surprised"]
    assert labels[17:] == ["Conversation", "Free"]


def test_every_later_cycle_holds_the_same_movements_in_another_order(script: Script) -> None:
    def cycle(number: int) -> list[str]:
        return [
            t.label
            for t in script.takes(number * script.cycle_s + 0.01, (number + 1) * script.cycle_s - 0.01)
        ]

    assert sorted(cycle(0)) == sorted(cycle(1)) == sorted(cycle(5))
    assert cycle(1) != cycle(0)


def test_the_calibration_programme_keeps_the_protocol_order_for_ever() -> None:
    script = Script(3, program="calibration")
    assert [t.label for t in script.takes(9 * script.cycle_s + 0.01, 10 * script.cycle_s - 0.01)] == list(
        FUNCTIONAL
    )


def test_excitation_stays_between_rest_and_full(script: Script) -> None:
    excitation = script.excitation(TIMES)
    assert excitation.shape == (len(TIMES), len(ACTUATORS))
    assert excitation.min() >= 0.0
    assert excitation.max() <= 1.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 50), st.floats(-100.0, 3e7), st.floats(0.01, 5.0))
def test_any_moment_can_be_asked_for_in_any_cut(seed: int, session: int, start: float, length: float) -> None:
    times = start + np.linspace(0.0, length, 37)
    whole = Script(seed, session).excitation(times)
    parts = Script(seed, session)
    assert np.array_equal(
        whole,
        np.concatenate([parts.excitation(times[20:]), parts.excitation(times[:20])])[np.r_[17:37, 0:17]],
    )


def test_another_seed_or_session_is_another_performance() -> None:
    one, other, again = (Script(*who).excitation(TIMES) for who in ((7, 0), (8, 0), (7, 1)))
    assert not np.allclose(one, other)
    assert not np.allclose(one, again)


def test_strength_belongs_to_the_person_and_timing_to_the_session() -> None:
    peaks = []
    for session in range(3):
        script = Script(7, session)
        smile = next(take for take in script.takes(0.0, 60.0) if take.label == "Smile-Closed")
        middle = np.linspace(smile.start_s + 1.0, smile.end_s - 1.0, 100)
        peaks.append(script.excitation(middle)[:, muscle_index("zygomaticus_major", "right")].mean())
    assert len({round(peak, 6) for peak in peaks}) == 3
    assert np.ptp(peaks) / np.mean(peaks) < 0.5


@pytest.mark.parametrize("name", [name for name in [*FUNCTIONAL, *EMOTIONAL] if name != "Face-At-Rest"])
def test_a_movement_moves_its_own_muscles_and_returns_to_rest(script: Script, name: str) -> None:
    levels = {**FUNCTIONAL, **EMOTIONAL}[name]
    take = next(take for take in script.takes(0.0, 90.0) if take.label == name)
    before, held, after = script.excitation(
        np.array([take.start_s - 0.01, 0.5 * (take.start_s + take.end_s), take.end_s + 0.01])
    )
    muscle = max((m for m in levels if m not in HIDDEN), key=lambda m: levels[m])
    for side in ("right", "left"):
        index = muscle_index(muscle, side)
        assert held[index] > 0.5 * levels[muscle]
        assert max(before[index], after[index]) < 0.06 + 0.3 * (
            muscle == "orbicularis_oculi"
        )  # a blink may coincide
    unused = [
        muscle_index(m, "left")
        for m in ("medial_frontalis", "masseter", "zygomaticus_major")
        if m not in levels
    ]
    assert max((held[i] for i in unused), default=0.0) < 0.06


def test_onsets_take_three_to_eight_tenths_of_a_second() -> None:
    script = Script(5)
    measured = 0
    for take in script.takes(0.0, 80.0):
        if take.label == "Face-At-Rest":
            continue
        times = take.start_s + np.arange(0.0, 1.2, 0.005)
        levels = {**FUNCTIONAL, **EMOTIONAL}[take.label]
        muscle = max(
            (m for m in levels if m not in (*HIDDEN, "orbicularis_oculi")),
            key=lambda m: levels[m],
            default=None,
        )
        if muscle is None:
            continue
        course = script.excitation(times)[:, muscle_index(muscle, "right")]
        reached = times[np.argmax(course > 0.9 * np.median(course[-40:]))] - take.start_s
        assert 0.15 < reached < 0.8
        measured += 1
    assert measured >= 15  # of 17 movements, rest and closed eyes need no muscle


@given(st.floats(-1.0, 2.0))
def test_a_minimum_jerk_step_is_monotone_and_symmetric(x: float) -> None:
    assert 0.0 <= minimum_jerk(x) <= 1.0
    assert minimum_jerk(x) == pytest.approx(1.0 - minimum_jerk(1.0 - x), abs=1e-12)
    assert minimum_jerk(x + 1e-3) >= minimum_jerk(x)


def test_a_pulse_is_zero_outside_its_time() -> None:
    levels = np.ones(len(ACTUATORS))
    pulse = Pulse(1.0, 0.3, 0.5, 0.4, levels, np.ones(3), np.zeros((3, len(ACTUATORS))), 0.2)
    times = np.arange(0.0, 3.0, 0.01)
    out = np.zeros((len(times), len(ACTUATORS)))
    pulse.add(times, out)
    inside = (times > 1.0) & (times < pulse.end_s)
    assert not out[~inside].any()
    assert (out[(times > 1.3) & (times < 1.8)] > 0.75).all()


def test_blinks_come_ten_to_twenty_two_times_a_minute_and_close_the_lids() -> None:
    for seed in range(4):
        script = Script(seed, program="rest")
        blinks = script.blinks(0.0, 600.0)
        assert 100 <= len(blinks) <= 220
        assert np.diff(blinks).min() > 0.3
        lids = script.excitation(blinks[:5] + 0.09)[:, ACTUATORS.index("lid_closer")]
        assert (lids > 0.9).all()


def test_blinks_are_the_same_whatever_window_is_asked_for(script: Script) -> None:
    whole = script.blinks(0.0, 60.0)
    pieces = np.concatenate([script.blinks(a, a + 7.5) for a in np.arange(0.0, 60.0, 7.5)])
    assert np.array_equal(whole, pieces)


def test_speech_moves_the_mouth_four_to_six_times_a_second() -> None:
    script = Script(2, program="conversation")
    times = np.arange(0.0, 104.0, 0.01)
    spoken = script.excitation(times)
    mouth = spoken[:, [ACTUATORS.index("jaw_opener"), muscle_index("orbicularis_oris", "right")]].sum(axis=1)
    power = np.abs(np.fft.rfft(mouth - mouth.mean())) ** 2
    frequency = np.fft.rfftfreq(len(mouth), 0.01)
    band = (frequency > 2.0) & (frequency < 8.0)
    assert power[band].sum() > 0.25 * power[frequency > 0.5].sum()
    assert script.speech(13.0) == 1.0
    assert Script(2, program="calibration").speech(times).max() == 0.0


def test_gaze_stays_on_the_camera_most_of_the_time_and_jumps_elsewhere(script: Script) -> None:
    gaze = script.gaze(np.arange(0.0, 600.0, 0.05))
    size = np.linalg.norm(gaze, axis=1)
    assert np.mean(size < 0.05) > 0.5
    assert 0.1 < size.max() < 0.35
    scalar = script.gaze(12.34)
    assert np.array_equal(scalar, script.gaze(np.array([12.34]))[0])


def test_the_head_moves_slowly_and_little(script: Script) -> None:
    times = np.arange(0.0, 600.0, 0.05)
    motion = script.head_motion(times)
    assert 0.02 < np.abs(motion[:, :3]).max() < 0.35
    assert 0.002 < np.abs(motion[:, 3:]).max() < 0.08
    assert np.abs(np.diff(motion[:, :3], axis=0)).max() / 0.05 < 0.8  # rad/s


def test_markers_alternate_between_start_and_end(script: Script) -> None:
    marks = script.markers(0.0, 400.0)
    times = [time for time, _, _ in marks]
    assert times == sorted(times)
    pieces = [mark for start in range(0, 400, 8) for mark in script.markers(start, start + 8)]
    assert pieces == marks
    for first, second in zip(marks[::2], marks[1::2], strict=False):
        assert (first[2], second[2]) == ("start", "end")
        assert first[1] == second[1]


def test_maximum_keeps_every_muscle_at_full_contraction() -> None:
    assert (Script(1, program="maximum").excitation(TIMES)[:, : len(MUSCLES)] == 1.0).all()


def test_a_wrong_programme_is_answered_with_the_right_ones() -> None:
    with pytest.raises(InputError, match="did you mean 'session'"):
        Script(1, program="sesion")
    assert set(PROGRAMS) == {
        "session",
        "calibration",
        "emotions",
        "conversation",
        "free",
        "rest",
        "maximum",
        "micro",
        "micro_talking",
    }
