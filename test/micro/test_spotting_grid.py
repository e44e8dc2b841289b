"""Streams of any rate onto 100 instants a second."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.micro.grid import STEP_NS, Grid, instant
from eifer_ros.types import NS


def pushed(grid: Grid, stamps: list[int], values: list[np.ndarray]) -> list[tuple[int, np.ndarray]]:
    return [out for stamp, value in zip(stamps, values, strict=True) for out in grid.push(stamp, value)]


@settings(max_examples=40, deadline=None)
@given(rate=st.floats(25.0, 400.0), start=st.integers(0, 10**9), slope=st.floats(-5.0, 5.0))
def test_a_straight_line_keeps_its_values_at_any_rate(rate: float, start: int, slope: float) -> None:
    stamps = [start + round(k * NS / rate) for k in range(60)]
    lines = [np.array([slope * (stamp - start) / NS, 1.0]) for stamp in stamps]
    out = pushed(Grid(2), stamps, lines)
    assert len(out) > 5
    # the first cell is covered in part: its mean lies a little later
    for cell, value in out[1:]:
        np.testing.assert_allclose(value, [slope * (cell * STEP_NS - start) / NS, 1.0], atol=1e-6)
    assert [cell for cell, _ in out] == list(range(out[0][0], out[0][0] + len(out)))


def test_two_hundred_pictures_a_second_are_averaged() -> None:
    stamps = [k * 5_000_000 for k in range(40)]
    alternating = [np.array([float(k % 2)]) for k in range(40)]
    out = pushed(Grid(1), stamps, alternating)
    assert len(out) > 15  # 200 ms
    for _, value in out[1:]:
        # a quarter of the neighbours, half of the middle one
        np.testing.assert_allclose(value, 0.5, atol=1e-9)


def test_an_instant_is_given_as_soon_as_an_item_lies_beyond_its_ten_milliseconds() -> None:
    grid = Grid(1)
    assert pushed(grid, [0, 4_000_000], [np.zeros(1), np.zeros(1)]) == []
    assert [cell for cell, _ in grid.push(6_000_000, [0.0])] == [0]


@pytest.mark.parametrize("second", [NS, -NS])
def test_a_gap_and_time_that_goes_back_begin_anew_and_invent_nothing(second: int) -> None:
    grid = Grid(1)
    out = pushed(grid, [0, 10_000_000, 20_000_000], [np.zeros(1)] * 3)
    assert out
    assert list(grid.push(20_000_000 + second, [5.0])) == []
    later = pushed(grid, [30_000_000 + second, 40_000_000 + second], [np.full(1, 5.0)] * 2)
    assert later and all(value[0] == 5.0 for _, value in later)
    assert grid.breaks == 1


def test_a_value_that_is_not_a_number_begins_anew() -> None:
    grid = Grid(2)
    pushed(grid, [0, 10_000_000], [np.zeros(2)] * 2)
    assert list(grid.push(20_000_000, [0.0, np.nan])) == []
    assert list(grid.push(30_000_000, [1.0, 1.0])) == []
    assert grid.breaks == 1


def test_the_nearest_instant_is_within_half_a_step() -> None:
    for stamp in range(0, 50_000_000, 999_983):
        assert abs(instant(stamp) * STEP_NS - stamp) <= STEP_NS // 2
