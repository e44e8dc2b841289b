"""Position, speed and acceleration limits, as promised to a servo, over anything that may be asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.animatronic.limiter import Limiter

DT = 0.02
LOWER, UPPER = np.array([-0.6, 0.0, -1.0]), np.array([0.6, 0.45, 0.2])
SPEED, ACCELERATION = np.array([3.0, 6.0, 12.0]), np.array([30.0, 120.0, 400.0])


def limiter(smoothing: float = 0.1) -> Limiter:
    made = Limiter(LOWER, UPPER, SPEED, ACCELERATION, DT, smoothing)
    made.reset(np.zeros(3))
    return made


def check(track: np.ndarray, start: np.ndarray) -> None:
    path = np.vstack([start, start, track])
    velocity = np.diff(path, axis=0) / DT
    acceleration = np.diff(velocity, axis=0) / DT
    assert (track >= LOWER).all()
    assert (track <= UPPER).all()
    assert (np.abs(velocity) <= SPEED * (1 + 1e-9)).all()
    assert (np.abs(acceleration) <= ACCELERATION * (1 + 1e-9)).all()


three = st.lists(st.floats(-5, 5), min_size=3, max_size=3)
wild = st.lists(
    st.tuples(three, st.integers(1, 12), st.sampled_from(["go", "ease", "brake"])), min_size=1, max_size=25
)


@settings(max_examples=150, deadline=None)
@given(wild, st.floats(0.04, 0.5))
def test_no_limit_is_ever_left_whatever_is_asked(plan: list, smoothing: float) -> None:
    moving = limiter(smoothing)
    track = []
    for target, steps, how in plan:
        for left in range(steps, 0, -1):
            if how == "go":
                track.append(moving.step(np.array(target)))
            elif how == "ease":
                track.append(moving.step(np.array(target), within_s=left * DT))
            else:
                track.append(moving.brake())
    check(np.array(track), np.zeros(3))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([-99.0, -1.0, 0.0, 99.0]), min_size=3, max_size=3), st.integers(1, 30)
        ),
        max_size=15,
        min_size=1,
    )
)
def test_the_last_guard_holds_even_where_the_planner_wants_full_speed_into_a_limit(plan: list) -> None:
    moving = limiter()
    track = [
        moving._advance(moving._limited(np.array(wish), SPEED, ACCELERATION))
        for wish, steps in plan
        for _ in range(steps)
    ]
    check(np.array(track), np.zeros(3))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1.2, 1.2), min_size=3, max_size=3))
def test_a_target_that_stays_is_reached_with_hardly_any_overshoot(target: list[float]) -> None:
    moving = limiter()
    goal = np.clip(np.array(target), LOWER, UPPER)
    track = np.array([moving.step(np.array(target)) for _ in range(100)])
    check(track, np.zeros(3))
    assert track[-1] == pytest.approx(goal, abs=1e-4)
    assert (np.abs(track) <= 1.03 * np.abs(goal) + 1e-3).all()


def test_a_free_move_is_the_minimum_jerk_quintic() -> None:
    # Flash & Hogan 1985: x(s) = D (10 s^3 - 15 s^4 + 6 s^5)
    moving = limiter()
    duration = 0.8
    steps = round(duration / DT)
    track = np.array([moving.step(np.full(3, 0.15), within_s=duration - i * DT) for i in range(steps)])
    s = (np.arange(steps) + 1) * DT / duration
    wanted = 0.15 * (10 * s**3 - 15 * s**4 + 6 * s**5)
    assert track == pytest.approx(np.repeat(wanted[:, None], 3, axis=1), abs=1e-9)


def test_braking_stops_in_the_shortest_time_the_acceleration_allows() -> None:
    moving = limiter()
    for _ in range(8):
        moving.step(UPPER)
    speed = np.abs(moving.velocity).copy()
    needed = np.ceil(speed / (ACCELERATION * DT) - 1e-9)
    taken = np.zeros(3)
    for _ in range(60):
        taken += moving.velocity != 0.0
        moving.brake()
    assert (moving.velocity == 0).all()
    assert (taken <= needed + 1).all()


def test_a_share_of_the_limits_is_kept_and_may_rise_in_motion() -> None:
    moving = limiter()
    track = np.array([moving.step(UPPER, share=0.25) for _ in range(10)])
    path = np.vstack([np.zeros((2, 3)), track])
    velocity = np.diff(path, axis=0) / DT
    assert (np.abs(velocity) <= 0.25 * SPEED * (1 + 1e-9)).all()
    assert (np.abs(np.diff(velocity, axis=0)) / DT <= 0.25 * ACCELERATION * (1 + 1e-9)).all()
    rest = np.array([moving.step(LOWER) for _ in range(60)])
    check(np.vstack([track, rest]), np.zeros(3))


def test_a_start_outside_the_range_is_clipped_into_it() -> None:
    moving = limiter()
    moving.reset(np.array([9.0, -9.0, 0.0]))
    assert moving.position == pytest.approx([0.6, 0.0, 0.0])
