"""How well events were spotted and recognised, as the field measures it.

Spotting after the Micro-Expression Grand Challenge (MEGC 2019-2024, "spotting" task): an event counts as
found where its interval and the true one overlap by at least half of their union (IoU >= 0.5), one for one;
F1 over all recordings together. Recognition: UF1 and UAR of MEGC 2019, over the events found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..types import F64, FaceEvent

IOU = 0.5
"""What counts as found in MEGC."""


@dataclass(frozen=True)
class Spotting:
    """Counts of one or more recordings; add them up with `+`. pairs: (found, true) events that match."""

    matched: int = 0
    false: int = 0
    missed: int = 0
    pairs: tuple[tuple[FaceEvent, FaceEvent], ...] = ()

    def __add__(self, other: Spotting) -> Spotting:
        return Spotting(
            self.matched + other.matched,
            self.false + other.false,
            self.missed + other.missed,
            self.pairs + other.pairs,
        )

    @property
    def precision(self) -> float:
        """Share of the given events that are true; NaN where none was given."""
        return self.matched / (self.matched + self.false) if self.matched + self.false else float("nan")

    @property
    def recall(self) -> float:
        """Share of the true events that were given; NaN where there is none."""
        return self.matched / (self.matched + self.missed) if self.matched + self.missed else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of both; NaN where there is nothing to find and nothing was given."""
        total = 2 * self.matched + self.false + self.missed
        return 2 * self.matched / total if total else float("nan")


def iou(a: FaceEvent, b: FaceEvent) -> float:
    """Overlap of two intervals over their union."""
    inside = min(a.offset, b.offset) - max(a.onset, b.onset)
    union = max(a.offset, b.offset) - min(a.onset, b.onset)
    return max(inside, 0) / union if union > 0 else 0.0


def spotting(spotted: Sequence[FaceEvent], true: Sequence[FaceEvent], least: float = IOU) -> Spotting:
    """Match `spotted` with `true` one for one so that as many as possible overlap by `least`."""
    if not spotted or not true:
        return Spotting(0, len(spotted), len(true))
    overlap = np.array([[iou(g, t) for t in true] for g in spotted])
    rows, columns = linear_sum_assignment(-np.where(overlap >= least, 1.0 + overlap, 0.0))
    pairs = tuple(
        (spotted[row], true[column])
        for row, column in zip(rows, columns, strict=True)
        if overlap[row, column] >= least
    )
    return Spotting(len(pairs), len(spotted) - len(pairs), len(true) - len(pairs), pairs)


def confusion(pairs: Sequence[tuple[str, str]], classes: Sequence[str]) -> F64:
    """(K, K + 1) counts of (given, true) labels: row is the true class, column the given one, the last for
    "unknown".
    """
    out = np.zeros((len(classes), len(classes) + 1))
    for predicted, true in pairs:
        if true in classes:
            out[classes.index(true), classes.index(predicted) if predicted in classes else len(classes)] += 1
    return out


def unweighted_f1(table: F64) -> float:
    """UF1: mean over the classes that occur of 2 TP / (2 TP + FP + FN)."""
    square = table[:, : len(table)]
    hit = np.diag(square)
    total = table.sum(axis=1) + square.sum(axis=0)
    occurs = table.sum(axis=1) > 0
    return float((2.0 * hit[occurs] / total[occurs]).mean()) if occurs.any() else float("nan")


def accuracy(table: F64) -> float:
    """Share of the events given their true class; "unknown" counts as wrong."""
    return float(np.trace(table[:, : len(table)]) / table.sum()) if table.sum() else float("nan")
