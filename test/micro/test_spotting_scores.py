"""Spotting and recognition counted as the field does."""

from __future__ import annotations

import numpy as np
import pytest

from eifer_ros.micro.scores import Spotting, accuracy, confusion, iou, spotting, unweighted_f1
from eifer_ros.types import NS, FaceEvent, FaceOrigin


def event(onset: float, offset: float) -> FaceEvent:
    a, b = round(onset * NS), round(offset * NS)
    return FaceEvent(
        (a + b) // 2,
        a,
        b,
        "eye_left",
        ("eye_left",),
        "unknown",
        (),
        np.zeros(0, np.float32),
        0.0,
        FaceOrigin.VISION,
    )


def test_overlap_is_intersection_over_union() -> None:
    assert iou(event(0.0, 0.4), event(0.2, 0.6)) == pytest.approx(1 / 3)
    assert iou(event(0.0, 0.4), event(0.5, 0.6)) == 0.0
    assert iou(event(1.0, 1.4), event(1.0, 1.4)) == 1.0


def test_f1_counts_found_false_and_missed() -> None:
    true = [event(1.0, 1.4), event(3.0, 3.4), event(5.0, 5.4)]
    given = [event(1.05, 1.45), event(3.3, 3.7), event(7.0, 7.4)]
    counts = spotting(given, true)
    assert (counts.matched, counts.false, counts.missed) == (1, 2, 2)
    assert counts.precision == counts.recall == pytest.approx(1 / 3)
    assert counts.f1 == pytest.approx(2 / 6)
    assert counts.pairs == ((given[0], true[0]),)


def test_one_found_event_serves_one_true_event() -> None:
    assert spotting([event(1.0, 1.4)] * 3, [event(1.0, 1.4)]).false == 2
    assert spotting([event(1.0, 1.4)], [event(1.0, 1.4)] * 2).missed == 1


def test_matching_finds_as_many_as_can_be_matched() -> None:
    # greedily, the first given event would take the only true one that the second can have
    true = [event(0.0, 1.0), event(0.4, 1.4)]
    given = [event(0.2, 1.2), event(0.7, 1.6)]
    assert iou(given[0], true[0]) >= 0.5 and iou(given[0], true[1]) >= 0.5 and iou(given[1], true[0]) < 0.5
    assert spotting(given, true).matched == 2


def test_recordings_add_up_and_nothing_is_not_a_number() -> None:
    total = spotting([event(1, 2)], [event(1, 2)]) + spotting([], [event(1, 2)]) + spotting([event(1, 2)], [])
    assert (total.matched, total.false, total.missed) == (1, 1, 1) and len(total.pairs) == 1
    assert np.isnan(Spotting().f1) and np.isnan(Spotting().precision) and np.isnan(Spotting().recall)


def test_unknown_counts_as_wrong_and_uf1_weighs_classes_alike() -> None:
    pairs = [("a", "a")] * 8 + [("unknown", "b"), ("b", "b")] + [("a", "b")] * 2
    table = confusion(pairs, ("a", "b", "c"))
    assert table.sum() == 12 and table[1].tolist() == [2.0, 1.0, 0.0, 1.0]
    assert accuracy(table) == pytest.approx(9 / 12)
    assert unweighted_f1(table) == pytest.approx(((2 * 8) / (2 * 8 + 2) + (2 * 1) / (2 * 1 + 3)) / 2)
