"""Channels that seem to sit on another muscle than their name says, told from what the face does when they
fire.

The Facial Action Coding System (Ekman & Friesen 1978) says which muscle makes which action; the sum of a
muscle's actions is a rough copy of its activity. For two channels, the difference of their activities must go
with the difference of these two copies; where it goes clearly the other way round, the two are swapped.
Differences rather than the signals themselves, because a face moves both sides, and many muscles, together:
what tells two channels apart is only where they part.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from ..types import F64
from .series import Series

ACTIONS: dict[str, tuple[str, ...]] = {
    "medial_frontalis": ("browInnerUp",),
    "lateral_frontalis": ("browOuterUp{side}",),
    "corrugator_supercilii": ("browDown{side}",),
    "depressor_supercilii": ("browDown{side}", "noseSneer{side}"),
    "levator_labii_superioris": ("mouthUpperUp{side}", "noseSneer{side}"),
    "orbicularis_oris": ("mouthPucker", "mouthPress{side}"),
    "depressor_anguli_oris": ("mouthFrown{side}", "mouthLowerDown{side}"),
    "mentalis": ("mouthShrugLower",),
    "orbicularis_oculi": ("eyeSquint{side}", "cheekSquint{side}"),
    "zygomaticus_major": ("mouthSmile{side}", "mouthDimple{side}"),
}
"""ARKit actions each muscle makes on its own side.

The masseter has none: the jaw closes as well by itself.
"""
AGAINST = -0.45
"""Correlation of the differences below which two channels count as swapped. Channels in their places reach -0.33 in a minute of
movements (crosstalk, muscles that always work together), swapped ones lie between there and -0.9."""
STRANGER = 0.45
"""By how much a channel without actions must follow another's better than that one does itself."""
MIN_RISE = 0.03
THIN_S = 0.03


@dataclass(frozen=True)
class Swap:
    """Two channels that seem to be exchanged, and how clearly: correlation of the differences, -1 certain."""

    first: str
    second: str
    correlation: float

    def __str__(self) -> str:
        return f"{self.first} and {self.second} seem to be swapped (correlation {self.correlation:.2f}); check these electrodes and cables"


def swapped(series: Series, delay_s: float = 0.0) -> list[Swap]:
    """Pairs of channels that seem to be swapped, the clearest first; none where muscles or actions are not
    known by these names.

    delay_s: by how much the face follows the activity as it is in `series`.
    """
    activity, copies = (
        part[:: max(1, round(THIN_S / series.period_s))] for part in _aligned(series, delay_s)
    )
    active = [place for place in range(activity.shape[1]) if copies[:, place].std() > 0]
    alive = [place for place in range(activity.shape[1]) if activity[:, place].std() > MIN_RISE]
    scale = np.maximum(activity.std(axis=0), 1e-9), np.maximum(copies.std(axis=0), 1e-9)
    a = (activity - activity.mean(axis=0)) / scale[0]
    c = (copies - copies.mean(axis=0)) / scale[1]
    own = (a.T @ c) / max(len(a), 1)
    suspects: list[tuple[float, int, int]] = []
    for i, j in itertools.combinations(alive, 2):
        if i in active and j in active:
            suspects.append((_against(a[:, i] - a[:, j], c[:, i] - c[:, j]), i, j))
        elif i in active or j in active:
            one, other = (i, j) if i in active else (j, i)
            gain = float(own[other, one] - own[one, one])
            suspects.append((-gain if gain > STRANGER else 0.0, i, j))
    taken: set[int] = set()
    swaps = []
    for correlation, i, j in sorted(suspects):
        if correlation > AGAINST or i in taken or j in taken:
            continue
        taken |= {i, j}
        swaps.append(Swap(series.muscles[i], series.muscles[j], correlation))
    return swaps


def _against(first: F64, second: F64) -> float:
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    # pairs whose copies hardly differ (both sides of one muscle in a symmetric face) say nothing
    return float(first @ second / size) if size > 0 and second.std() > 0.1 and first.std() > 0.1 else 0.0


def _aligned(series: Series, delay_s: float) -> tuple[F64, F64]:
    """(T, M) activity and (T, M) copies of it from the face `delay_s` later; a copy is 0 where a muscle's
    actions are not known.
    """
    delay = max(0, round(delay_s / series.period_s))
    count = len(series.times) - delay
    face = series.face[delay:].astype(np.float64)
    activity = series.activation[:count].astype(np.float64)
    rows = (series.segment[delay:] == series.segment[:count]) & ~np.isnan(face).any(axis=1)
    copies = np.zeros((int(rows.sum()), len(series.muscles)))
    places = {name: place for place, name in enumerate(series.face_names)}
    for column, muscle in enumerate(series.muscles):
        base, _, side = muscle.rpartition("_")
        for action in ACTIONS.get(base, ()):
            place = places.get(action.format(side=side.capitalize()))
            if place is not None:
                copies[:, column] += face[rows][:, place]
    return activity[rows], copies
