from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.emg.sources.packets import CYCLES, PacketCounter


def feed(
    numbers: np.ndarray, block: int, rate: float = 250.0, elapsed: float = 0.004
) -> tuple[PacketCounter, list[tuple[int, int]]]:
    counter = PacketCounter(rate)
    losses = []
    for k in range(0, len(numbers), block):
        losses += [(k + place, lost) for place, lost in counter.add(numbers[k : k + block], elapsed)]
    return counter, losses


def stream(name: str, count: int, start: int) -> np.ndarray:
    cycle = np.asarray(CYCLES[name])
    return cycle[(start + np.arange(count)) % len(cycle)]


@pytest.mark.parametrize("name", [name for name in CYCLES if name != "0..65535"])
@pytest.mark.parametrize("start", [0, 1, 57])
def test_every_known_numbering_is_recognised_and_loses_nothing_after_its_first_wrap(
    name: str, start: int
) -> None:
    counter, losses = feed(stream(name, 1500, start), 7)
    assert counter.numbering == name
    assert losses == []


@given(
    name=st.sampled_from([name for name in CYCLES if name != "0..65535"]),
    at=st.integers(700, 1200),
    lost=st.integers(1, 40),
    block=st.integers(1, 30),
)
@settings(max_examples=25, deadline=None)
def test_a_loss_is_counted_where_it_happened(name: str, at: int, lost: int, block: int) -> None:
    numbers = np.delete(stream(name, 2000, 5), np.s_[at : at + lost])
    _, losses = feed(numbers, block)
    if name.startswith(
        "0, 1"
    ):  # doubled numbers: which of the two twins is missing cannot be known, how many can
        assert sum(n for _, n in losses) == lost
    else:
        assert losses == [(at, lost)]


def test_a_whole_cycle_that_vanished_is_seen_by_the_clock() -> None:
    counter = PacketCounter(250.0)
    counter.add(stream("0..255", 1000, 0), 0.0)
    after = stream("0..255", 50, 1000 + 256)
    assert counter.add(after, 257 / 250.0) == [(0, 256)]


def test_a_counter_that_never_wraps_is_followed() -> None:
    numbers = np.delete(np.arange(100_000, 300_000), np.s_[150_000:150_010])
    counter, losses = feed(numbers, 5000, rate=2000.0, elapsed=0.0005)
    assert losses == [(150_000, 10)]
    assert counter.numbering == "a counter that never wraps"


def test_numbers_that_follow_no_rule_report_no_loss() -> None:
    counter, losses = feed(np.asarray([5, 5, 3, 9, -4, 5, 5, 1]), 8)
    assert counter.numbering == ""
    assert losses == []
