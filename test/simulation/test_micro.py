from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.errors import InputError
from eifer_ros.simulation.micro_expressions import (
    INTENSITY,
    MICRO_CLASSES,
    OFFSET_LIMIT_M,
    PATTERNS,
    VISIBLE,
    regions_of,
)
from eifer_ros.simulation.muscles import ACTUATORS, HIDDEN, MUSCLES, follow, muscle_index
from eifer_ros.simulation.participant import Participant
from eifer_ros.simulation.script import PROGRAMS, Script
from eifer_ros.types import EVENT_REGIONS

RESTING = Participant(7, program="micro", size=(96, 96), sensors=False)


def full(label: str) -> np.ndarray:
    """(A,) the most that any form of the class asks of each actuator."""
    out = np.zeros(len(ACTUATORS))
    for pattern in PATTERNS[label]:
        for name, level in pattern.items():
            places = (
                [ACTUATORS.index(name)]
                if name in HIDDEN
                else [muscle_index(name, "right"), muscle_index(name, "left")]
            )
            out[places] = np.maximum(out[places], level)
    return out


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31 - 1),
    st.integers(0, 20),
    st.sampled_from(["micro", "micro_talking"]),
    st.floats(-100.0, 3e7),
)
def test_events_are_short_small_and_two_to_five_seconds_apart(
    seed: int, session: int, program: str, begin: float
) -> None:
    events = Script(seed, session, program).micro_events(begin, begin + 30.0)
    assert len(events) >= 5
    for one, after in pairwise(events):
        assert 2.0 - 1e-6 <= after.apex_s - one.apex_s <= 5.0 + 1e-6
    for event in events:
        assert event.onset_s < event.apex_s < event.offset_s
        assert event.offset_s - event.onset_s < 0.45
        assert 0.05 <= event.apex_s - event.onset_s <= 0.25
        assert event.label in MICRO_CLASSES
        assert set(event.regions) <= set(EVENT_REGIONS)
        # never more than the share says of what the full movement asks of any muscle, and at least one muscle
        # reaches it
        assert INTENSITY[0] <= event.intensity <= INTENSITY[1]
        most = full(event.label)
        assert (event.levels <= event.intensity * most + 1e-12).all()
        assert event.levels.max() >= 0.3 * event.intensity * most.max()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.0, 60.0), min_size=3, max_size=6))
def test_however_time_is_cut_every_event_is_told_once(cuts: list[float]) -> None:
    edges = sorted(cuts)
    for who in (RESTING.script.micro_events, RESTING.micro_events):
        parts = [event.apex_s for a, b in pairwise(edges) for event in who(a, b)]
        assert parts == [event.apex_s for event in who(edges[0], edges[-1])]


@pytest.mark.parametrize("program", ["micro", "micro_talking"])
def test_an_event_is_what_the_excitation_gains_over_the_programme_beneath(program: str) -> None:
    script, beneath = (
        Script(3, 1, program),
        Script(3, 1, {"micro": "rest", "micro_talking": "conversation"}[program]),
    )
    times = np.arange(0.0, 30.0, 0.002)
    gained = script.excitation(times) - beneath.excitation(times)
    still = np.ones(len(times), bool)
    for event in script.micro_events(0.0, 30.0):
        here = (times >= event.start_s - 0.01) & (
            times <= event.start_s + event.rise_s + event.plateau_s + event.fall_s + 0.01
        )
        still &= ~here
        peak = gained[here][np.abs(times[here] - event.apex_s).argmin()]
        used = beneath.excitation(np.array([event.apex_s]))[0] + event.levels < 0.999
        assert np.allclose(peak[used], event.levels[used], atol=0.02 * event.levels.max())
        ends = np.array([event.onset_s, event.offset_s])
        at_ends = (
            (script.excitation(ends) - beneath.excitation(ends))
            @ event.levels
            / (event.levels @ event.levels)
        )
        assert np.allclose(at_ends, VISIBLE, atol=0.002)
    assert np.abs(gained[still & (times > 1.0)]).max() < 1e-12


def test_while_talking_events_show_around_the_eyes_because_the_mouth_is_busy() -> None:
    regions = {
        region
        for seed in range(5)
        for event in Script(seed, 0, "micro_talking").micro_events(0, 60)
        for region in event.regions
    }
    assert regions == {"eye_left", "eye_right"}
    assert Script(1, 0, "micro_talking").speech(np.array([13.0]))[0] == 1.0


def test_every_class_comes_once_in_every_round_and_faces_are_often_one_sided() -> None:
    events = [event for seed in range(20) for event in Script(seed, 0, "micro").micro_events(0.0, 280.0)]
    labels = [event.label for event in events]
    counts = [labels.count(label) for label in MICRO_CLASSES]
    assert min(counts) > 0.8 * max(counts)
    sides = [{region.split("_")[1] for region in event.regions} for event in events]
    one_sided = np.mean([len(side) == 1 for side in sides])
    assert 0.2 < one_sided < 0.5
    assert 0.35 < np.mean([side == {"left"} for side in sides if len(side) == 1]) < 0.65


def test_regions_are_the_subjects_own_sides_and_the_strongest_comes_first() -> None:
    levels = np.zeros(len(ACTUATORS))
    levels[muscle_index("zygomaticus_major", "left")] = 0.10
    levels[muscle_index("lateral_frontalis", "right")] = 0.05
    levels[muscle_index("corrugator_supercilii", "left")] = 0.01
    assert regions_of(levels) == ("lips_left", "eye_right")
    assert regions_of(np.zeros(len(ACTUATORS))) == ()


@pytest.mark.parametrize("lag_s", [0.04, 0.07, 0.15])
def test_the_skin_shows_an_event_later_and_within_half_a_second(lag_s: float) -> None:
    person = Participant(7, program="micro", lag_s=lag_s)
    muscles, skin = person.script.micro_events(2.0, 40.0), person.micro_events(2.0, 40.0)
    assert abs(len(muscles) - len(skin)) <= 1
    for event in skin:
        early = next(e for e in person.script.micro_events(2.0, 40.0) if e.start_s == event.start_s)
        assert 0.2 * lag_s < event.onset_s - early.onset_s < event.offset_s - early.offset_s
        assert abs(event.apex_s - early.apex_s - lag_s) < 0.5 * lag_s
        if lag_s <= 0.07:
            assert event.offset_s - event.onset_s <= 0.5
        # an independent look: the activation on the skin of the whole programme, tone taken away
        times = event.onset_s + np.arange(-0.05, 0.75, 0.002)
        above = (person.timeline.skin(times) - person.script.tone(times - lag_s))[:, early.levels > 0].sum(
            axis=1
        )
        if not len(person.script.blinks(event.onset_s - 0.4, event.offset_s + 0.4)):
            assert abs(times[above.argmax()] - event.apex_s) <= 0.006
            assert np.interp(event.onset_s, times, above) / above.max() == pytest.approx(VISIBLE, abs=0.025)


def test_the_mean_delay_of_the_skin_is_the_lag() -> None:
    event = RESTING.script.micro_events(0.0, 5.0)[0]
    times = event.start_s - 0.1 + np.arange(800) / 500.0
    course = np.zeros((800, len(ACTUATORS)))
    RESTING.script.micro_pulse(event).add(times, course)
    seen = follow(course, RESTING.lag_s)
    strongest = int(event.levels[: len(MUSCLES)].argmax())
    centre = [float((times * w[:, strongest]).sum() / w[:, strongest].sum()) for w in (course, seen)]
    assert centre[1] - centre[0] == pytest.approx(RESTING.lag_s, abs=0.012)


# ---- the skin beside the head model ------------------------------------------------------------------------------------------


def test_local_motion_is_some_tenths_of_a_millimetre_at_events_and_none_between() -> None:
    skin = RESTING.head.part("skin")
    others = np.setdiff1d(np.arange(len(RESTING.head.template)), skin)
    seen = []
    for event in RESTING.micro_events(2.0, 60.0):
        field = RESTING.local_offsets(event.apex_s)
        assert field.shape == RESTING.head.template.shape and field.dtype == np.float32
        assert not field[others].any()
        seen.append(float(np.linalg.norm(field, axis=1).max()))
        if not len(RESTING.script.blinks(event.onset_s - 1.0, event.onset_s)):
            assert np.linalg.norm(RESTING.local_offsets(event.onset_s - 0.2), axis=1).max() < 1e-5
    assert min(seen) > 1e-4 and max(seen) <= OFFSET_LIMIT_M == 0.0006


def test_local_motion_never_exceeds_its_bound_however_many_muscles_pull() -> None:
    length = np.linalg.norm(RESTING._local_skin.offsets(np.ones(len(ACTUATORS))), axis=1)
    assert 0.0003 < length.max() <= OFFSET_LIMIT_M


def test_local_motion_is_out_of_reach_of_the_head_models_coefficients() -> None:
    """The best of all expressions explains only part of it."""
    head = RESTING.head
    field = RESTING._local_skin.offsets(
        np.where(np.arange(len(ACTUATORS)) == muscle_index("zygomaticus_major", "left"), 0.1, 0.0)
    )
    basis = head.expression_basis.reshape(-1, head.expression_size).astype(np.float64)
    goal = field.reshape(-1).astype(np.float64)
    left = goal - basis @ np.linalg.lstsq(basis, goal, rcond=None)[0]
    assert np.linalg.norm(left) > 0.7 * np.linalg.norm(goal) > 0.0


def test_each_person_has_a_local_motion_of_their_own_that_does_not_change_with_the_session() -> None:
    strong = np.full(len(ACTUATORS), 0.1)
    again = Participant(7, session=4, program="micro")
    other = Participant(8, program="micro")
    assert np.array_equal(RESTING._local_skin.offsets(strong), again._local_skin.offsets(strong))
    assert not np.allclose(RESTING._local_skin.offsets(strong), other._local_skin.offsets(strong), atol=1e-5)


def test_the_true_vertices_are_the_expression_plus_the_local_motion() -> None:
    event = RESTING.micro_events(2.0, 20.0)[0]
    state = RESTING.face_at(event.apex_s)
    expected = RESTING.head.state_vertices(state) + RESTING.local_offsets(event.apex_s)
    assert np.allclose(RESTING.vertices_at(event.apex_s), expected, atol=1e-7)


def test_the_camera_draws_the_local_motion_and_nothing_else_changes() -> None:
    event = next(e for e in RESTING.micro_events(2.0, 60.0) if e.label == "happiness")
    state = RESTING.face_at(event.apex_s)
    drawn = RESTING.frame_at(event.apex_s).image.astype(int)
    arguments = (state.shape, state.expression, state.eyes, state.head_pose, event.apex_s)
    without = RESTING.camera.render(*arguments).astype(int)
    assert np.array_equal(
        drawn, RESTING.camera.render(*arguments, offsets=RESTING.local_offsets(event.apex_s))
    )
    assert np.array_equal(
        without, RESTING.camera.render(*arguments, offsets=np.zeros_like(RESTING.head.template))
    )
    changed = np.abs(drawn - without).max(axis=2) > 0
    assert 0.0 < changed.mean() < 0.5
    with pytest.raises(InputError, match="offsets have shape"):
        RESTING.camera.render(*arguments, offsets=np.zeros((3, 3)))


def test_other_programmes_have_neither_events_nor_local_motion() -> None:
    for program in PROGRAMS:
        if not program.startswith("micro"):
            person = Participant(7, program=program)
            assert person.micro_events(0.0, 60.0) == [] == person.script.micro_events(0.0, 60.0)
            assert person.face_events(0.0, 60.0) == []
    assert not Participant(7).local_offsets(33.0).any()


def test_emg_sees_an_event_before_the_skin_does() -> None:
    """Raw EMG of the leading muscle, averaged over many events, rises before the skin does."""
    person = Participant(11, program="micro", artefacts=(), rate_hz=1000.0)
    window, rate = 0.5, person.true_rate_hz
    power, skin = np.zeros(int(window * rate)), np.zeros(250)
    count = 0
    for event in person.script.micro_events(1.0, 75.0):
        strongest = int(event.levels[: len(MUSCLES)].argmax())
        first = person.sample_index(event.onset_s - 0.15)
        power += (person.samples(first, len(power))[:, strongest].astype(float) * 1e6) ** 2 / event.levels[
            strongest
        ] ** 2
        times = event.onset_s - 0.15 + np.arange(250) * 0.002
        skin += (
            person.timeline.skin(times)[:, strongest] - person.script.tone(times)[:, strongest]
        ) / event.levels[strongest]
        count += 1
    assert count >= 18
    rms = np.sqrt(np.convolve(power / count, np.ones(40) / 40, mode="same"))
    rise = rms - np.median(rms[50 : int(0.1 * rate)])
    half_emg = np.flatnonzero(rise[50:] > 0.5 * rise[50:-50].max())[0] + 50
    half_skin = np.flatnonzero(skin > 0.5 * skin.max())[0]
    lead = half_skin * 0.002 - half_emg / rate
    assert 0.03 < lead < 0.10
