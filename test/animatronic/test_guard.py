"""Arming, stop, silence: what is sent and when, over streams with gaps, freezes, jumps and broken numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.animatronic.guard import SENDING, Guard, State
from eifer_ros.animatronic.limiter import Limiter
from eifer_ros.types import NS

T0 = 1_760_000_000 * NS
DT = 0.02
PERIOD = NS // 50
LOWER, UPPER = np.array([-0.6, 0.0]), np.array([0.6, 0.45])
SPEED, ACCELERATION = np.array([3.0, 6.0]), np.array([40.0, 120.0])
NEUTRAL = np.array([0.1, 0.02])


def guard(**changes: object) -> Guard:
    values: dict = {"hold_s": 0.15, "ease_s": 0.9, "slew_s": 0.0, "slew_share": 0.25}
    return Guard(Limiter(LOWER, UPPER, SPEED, ACCELERATION, DT, 0.1), NEUTRAL, **(values | changes))


def run(
    made: Guard, start: int, seconds: float, wish: np.ndarray | None = None, every: int = 1
) -> list[tuple[int, np.ndarray]]:
    out = []
    for i in range(round(seconds / DT)):
        if wish is not None and i % every == 0:
            made.offer(wish)
        due = made.step(start + i * PERIOD)
        if due is not None:
            out.append(due)
    return out


def test_nothing_is_sent_before_arming_and_the_first_command_is_near_the_start() -> None:
    made = guard()
    assert run(made, T0, 1.0, UPPER) == []
    assert made.arm()
    stamp, position = run(made, T0 + NS, 0.02, UPPER)[0]
    assert stamp == T0 + NS
    assert np.abs(position - NEUTRAL).max() <= (ACCELERATION * DT**2).max() + 1e-12


def test_arming_starts_from_where_the_servos_are() -> None:
    made = guard()
    present = np.array([0.4, 0.3])
    made.arm(present)
    (_, position), *_ = run(made, T0, 0.1, present)
    assert position == pytest.approx(present, abs=1e-9)


def test_the_first_seconds_after_arming_are_slow() -> None:
    made = guard(slew_s=0.5)
    made.arm()
    track = np.array([p for _, p in run(made, T0, 0.5, np.array([0.6, 0.45]))])
    velocity = np.abs(np.diff(track, axis=0)) / DT
    assert (velocity <= 0.25 * SPEED * (1 + 1e-9)).all()
    assert track[-1, 0] > NEUTRAL[0] + 0.05


def test_silence_is_held_for_150_ms_then_eased_to_neutral_within_a_second_then_released() -> None:
    made = guard()
    made.arm()
    goal = np.array([-0.6, 0.45])
    run(made, T0, 1.0, goal)
    last = T0 + NS - PERIOD  # the last good input
    silent = run(made, T0 + NS, 3.0)
    since = np.array([(stamp - last) / NS for stamp, _ in silent])
    track = np.array([p for _, p in silent])
    held = since < 0.149
    assert np.abs(track[held] - goal).max() < 1e-6
    away = np.abs(track - NEUTRAL).max(axis=1) > 0.005
    assert since[np.flatnonzero(away)[-1] + 1] <= 1.2
    assert made.state == State.RELEASED
    assert since[-1] <= 1.25  # and nothing is sent after that
    # a minimum-jerk way back: no faster than twice its mean speed
    velocity = np.abs(np.diff(track, axis=0)) / DT
    assert (velocity.max(axis=0) <= 2.0 * np.abs(goal - NEUTRAL) / 0.9).all()


def test_faces_that_come_back_are_followed_again_only_when_that_is_wanted() -> None:
    for resume in (True, False):
        made = guard(resume=resume)
        made.arm()
        run(made, T0, 0.2, UPPER)
        run(made, T0 + NS, 3.0)
        assert made.state == State.RELEASED
        made.offer(UPPER)
        assert made.can_resume is resume
        assert made.step(T0 + 5 * NS) is None  # whoever powers the servos arms again
        made.arm()
        assert len(run(made, T0 + 6 * NS, 0.2, UPPER)) == 10


def test_release_eases_to_neutral_and_disarms() -> None:
    made = guard()
    made.arm()
    run(made, T0, 1.0, UPPER)
    made.release()
    track = run(made, T0 + NS, 2.0, UPPER)  # faces go on: they do not matter
    assert track[-1][1] == pytest.approx(NEUTRAL, abs=2e-3)
    assert made.state == State.DISARMED


def test_a_stop_is_latched_until_cleared_and_then_needs_arming() -> None:
    made = guard()
    made.arm()
    moving = run(made, T0, 0.12, UPPER)
    made.stop()
    braking = run(made, T0 + round(0.12 * NS), 2.0, UPPER)
    positions = np.array([p for _, p in moving + braking])
    assert np.abs(np.diff(positions, axis=0)[-1]).max() < 1e-12
    assert len(braking) <= math.ceil((SPEED / ACCELERATION).max() / DT) + 2
    assert made.state == State.STOPPED
    assert not made.arm()
    made.release()
    assert made.state == State.STOPPED
    assert made.clear_stop()
    assert run(made, T0 + 4 * NS, 0.2, UPPER) == []
    assert made.arm()
    assert run(made, T0 + 5 * NS, 0.2, UPPER)


def test_what_was_wished_for_long_before_arming_is_not_done() -> None:
    made = guard()
    made.offer(UPPER)
    made.arm()
    track = np.array([p for _, p in run(made, T0, 0.5)])
    assert np.abs(track - NEUTRAL).max() < 1e-9


@pytest.mark.parametrize("wish", [np.array([np.nan, 0.0]), np.array([0.0, np.inf]), np.zeros(3)])
def test_a_wish_that_is_not_two_finite_numbers_is_refused(wish: np.ndarray) -> None:
    made = guard()
    made.arm()
    assert not made.offer(wish)


def test_late_calls_catch_up_and_long_stalls_count_as_standing_still() -> None:
    made = guard()
    made.arm()
    run(made, T0, 0.1, UPPER)
    made.offer(UPPER)
    late = made.step(T0 + round(0.14 * NS))  # 0.10 and 0.12 were missed
    assert late is not None
    assert late[0] == T0 + round(0.14 * NS)
    made.offer(UPPER)
    before = made.limiter.position.copy()
    stalled = made.step(T0 + 3 * NS)
    assert stalled is not None
    assert (np.abs(stalled[1] - before) <= ACCELERATION * DT**2 + 1e-12).all()  # from rest


event = st.one_of(
    st.tuples(
        st.just("wish"),
        st.lists(st.one_of(st.floats(-3, 3), st.just(math.nan), st.just(math.inf)), min_size=2, max_size=2),
    ),
    st.tuples(st.just("tick"), st.integers(1, 60)),  # milliseconds to the next call
    st.tuples(st.just("ticks"), st.integers(1, 40)),  # a run of regular calls
    st.tuples(st.just("gap"), st.integers(60, 3000)),
    st.tuples(st.just("back"), st.integers(1, 2000)),
    st.tuples(st.sampled_from(["arm", "release", "stop", "clear"]), st.none()),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(event, min_size=5, max_size=60), st.floats(0, 0.5))
def test_no_stream_of_events_ever_breaks_a_limit_or_sends_while_disarmed(events: list, slew: float) -> None:
    made = guard(slew_s=slew)
    made.arm()
    now, track = T0, []  # runs of commands on one unbroken grid
    last: tuple[int, np.ndarray] | None = None

    def step() -> None:
        nonlocal last
        allowed = made.state in SENDING
        due = made.step(now)
        if due is None:
            if not allowed:
                last = None
            return
        assert allowed, "a command left although nothing may be sent"
        stamp, position = due
        assert np.isfinite(position).all()
        assert (position >= LOWER).all()
        assert (position <= UPPER).all()
        joined = last is not None and 0 < stamp - last[0] <= 3 * PERIOD
        if not joined:
            track.append([])
            if last is not None:  # after a stall the first move starts from rest at the last command
                assert (np.abs(position - last[1]) <= ACCELERATION * DT**2 * (1 + 1e-9) + 1e-12).all()
        track[-1].append((stamp, position))
        last = due

    for kind, value in events:
        if kind == "wish":
            made.offer(np.array(value))
        elif kind == "ticks":
            for _ in range(value):
                now += PERIOD
                step()
        elif kind in ("tick", "gap"):
            now += value * NS // 1000
            step()
        elif kind == "back":
            now -= value * NS // 1000
            step()
        else:
            {"arm": made.arm, "release": made.release, "stop": made.stop, "clear": made.clear_stop}[kind]()
            if kind == "arm":
                last = None
    for run_ in track:
        stamps = np.array([s - T0 for s, _ in run_]) / NS
        positions = np.array([p for _, p in run_])
        if len(run_) < 2:
            continue
        h = np.diff(stamps)[:, None]
        velocity = np.diff(positions, axis=0) / h
        assert (np.abs(velocity) <= SPEED * (1 + 1e-6)).all()
        # mean speeds of neighbouring intervals may differ by the acceleration times the distance of their
        # middles
        change = np.abs(np.diff(velocity, axis=0))
        assert (change <= ACCELERATION * (h[1:] + h[:-1]) / 2 * (1 + 1e-6) + 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(-3, 3), min_size=2, max_size=2), min_size=1, max_size=12),
    st.integers(1, 30),
    st.lists(st.integers(4, 24), min_size=8, max_size=8),
)
def test_neutral_is_reached_within_1200_ms_of_the_last_good_input(
    wishes: list, every: int, jitter: list[int]
) -> None:
    made = guard()
    made.arm()
    now = T0
    for wish in wishes:
        made.offer(np.array(wish))
        for _ in range(every):
            made.step(now)
            now += PERIOD
    made.offer(np.array(wishes[-1]))
    last_good, at_neutral = now, None
    i = 0
    while now < last_good + 2 * NS:
        i += 1
        if i % 7 == 3:
            made.offer(np.array([math.nan, 0.0]))  # broken input is no input
        due = made.step(now)
        if due is not None:
            at_neutral = None if np.abs(due[1] - NEUTRAL).max() > 0.005 else (at_neutral or now)
        now += jitter[i % len(jitter)] * NS // 1000  # an uneven host
    assert at_neutral is not None
    assert (at_neutral - last_good) / NS <= 1.2
