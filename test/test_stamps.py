"""Streams whose stamps stand still."""

from __future__ import annotations

from eifer_ros.stamps import TOLERATED, StampWatch
from eifer_ros.types import NS

T0 = 1_760_000_000 * NS


def test_a_stream_that_stands_still_is_named_with_since_when_and_counted_until_it_moves() -> None:
    now = [100.0]
    watch = StampWatch("emg/raw", lambda: now[0])
    watch.take(T0)
    for _ in range(TOLERATED):
        watch.take(T0)
    assert watch.problem == ""
    for _ in range(10):
        watch.take(T0)
    now[0] += 12.5
    assert (
        "stamps of emg/raw have stood still at 2025-10-09 08:53:20 UTC for 12.5 s (13 items" in watch.problem
    )
    watch.take(T0 + 1)
    assert watch.problem == ""
    assert watch.repeated == TOLERATED + 10


def test_stamps_that_were_never_set_stand_still_at_0() -> None:
    watch = StampWatch("camera/image_raw")
    for _ in range(10):
        watch.take(0)
    assert "stood still at 0 for" in watch.problem
