"""Micro-expressions of the simulated participant: which muscles, when, how little, and what the skin does
beside the head model.

A micro-expression is a few muscles of an emotion contracting to 5 to 20 % of what they do in the full
expression, with onset, apex and offset within half a second (Yan et al. 2013: total length at most 500 ms,
onset at most 260 ms). Classes are those of the public collections, CASME II and CAS(ME)3 together: the six
basic emotions (contempt, of SAMM, counts as `others`), `repression` and `others`. Which muscles belong to a
class follows the action units those collections label (Yan et al. 2014, table 3): happiness AU12 with or
without 6, disgust AU9/10, surprise AU1+2 or 2, repression AU15/17, sadness AU1+4 or 1+15, fear AU1+2+4+5,
anger AU4 with or without 7, others AU18 or 7 alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..emg.montage import FRIDLUND, on_head
from ..head.model import HeadModel
from ..render import shade
from ..types import EVENT_REGIONS, F32, F64
from .muscles import ACTUATORS, BASE_MUSCLES, GRID_HZ, HIDDEN, MUSCLES, follow, muscle_index
from .seeds import generator

MICRO_CLASSES: tuple[str, ...] = (
    "happiness",
    "disgust",
    "surprise",
    "repression",
    "sadness",
    "fear",
    "anger",
    "others",
)

# fmt: off
PATTERNS: Mapping[str, tuple[Mapping[str, float], ...]] = {
    "happiness": (
        {"zygomaticus_major": 0.65, "levator_labii_superioris": 0.08}, {"zygomaticus_major": 0.65, "orbicularis_oculi": 0.45},
    ),
    "disgust": ({"levator_labii_superioris": 0.80}, {"levator_labii_superioris": 0.80, "depressor_supercilii": 0.30}),
    "surprise": (
        {"medial_frontalis": 0.85, "lateral_frontalis": 0.90, "lid_raiser": 0.50}, {"lateral_frontalis": 0.90, "medial_frontalis": 0.30},
    ),
    "repression": ({"depressor_anguli_oris": 0.80, "mentalis": 0.50}, {"mentalis": 0.80, "orbicularis_oris": 0.35}),
    "sadness": (
        {"medial_frontalis": 0.75, "corrugator_supercilii": 0.40}, {"medial_frontalis": 0.60, "depressor_anguli_oris": 0.60},
    ),
    "fear": ({"medial_frontalis": 0.65, "lateral_frontalis": 0.45, "corrugator_supercilii": 0.55, "lid_raiser": 0.85},),
    "anger": (
        {"corrugator_supercilii": 0.85, "depressor_supercilii": 0.70},
        {"corrugator_supercilii": 0.85, "depressor_supercilii": 0.55, "orbicularis_oculi": 0.40},
    ),
    "others": ({"orbicularis_oris": 0.90}, {"orbicularis_oculi": 0.90}),
}
# fmt: on
"""Excitation 0..1 of each muscle in the full movement, one entry for each way a class shows; an event takes 5
to 20 % of one.
"""

INTENSITY = (0.05, 0.20)
"""Share of the full movement's excitation."""
PERIOD_S = 3.5
JITTER_S = 0.75
"""Apexes follow each other by `PERIOD_S` plus or minus twice `JITTER_S`: 2 to 5 s."""
RISE_S = (0.08, 0.20)
PLATEAU_S = (0.0, 0.04)
FALL_S = (0.08, 0.20)
VISIBLE = 0.05
"""An event begins and ends where it has 5 % of its apex: exact times exist only on paper, and this much can
be found.
"""

_ONE_SIDED = 0.4
_MIDLINE = frozenset({"orbicularis_oris", "mentalis"})
_UPPER = frozenset(
    {
        "medial_frontalis",
        "lateral_frontalis",
        "corrugator_supercilii",
        "depressor_supercilii",
        "orbicularis_oculi",
        "lid_raiser",
    }
)
# minimum jerk has gone 5 % of its way after this share of its time: the root of 10 x^3 - 15 x^4 + 6 x^5 =
# 0.05
_FIRST = float(
    next(
        x.real
        for x in np.roots([6.0, -15.0, 10.0, 0.0, 0.0, -VISIBLE])
        if abs(x.imag) < 1e-9 and 0.0 < x.real < 1.0
    )
)

OFFSET_LIMIT_M = 0.0006
_FULL_AT = 0.10
_BUMP_M = (0.00030, 0.00055)
_RADIUS_M = (0.007, 0.011)


@dataclass(frozen=True)
class MicroEvent:
    """One micro-expression.

    Times in seconds, of the excitation or of the skin as the method that gave it says.

    onset_s, offset_s: where it has 5 % of the apex. label: one of `MICRO_CLASSES`. regions: of
    `EVENT_REGIONS`, strongest first. intensity: share of the full movement, 0.05..0.20. levels: (A,)
    excitation at the apex. start_s, rise_s, plateau_s, fall_s: the contraction itself, always of the
    excitation.
    """

    onset_s: float
    apex_s: float
    offset_s: float
    label: str
    regions: tuple[str, ...]
    intensity: float
    levels: F64
    start_s: float
    rise_s: float
    plateau_s: float
    fall_s: float


def regions_of(levels: F64, least: float = 0.35) -> tuple[str, ...]:
    """The regions whose muscles contract, strongest first; those with less than `least` of the strongest are
    left out.

    levels: (A,) excitation. Muscles of brow, forehead and lids belong to the eyes, the others to the lips, as
    HTNet divides the face.
    """
    strength = dict.fromkeys(EVENT_REGIONS, 0.0)
    for index, level in enumerate(levels[: len(MUSCLES)]):
        part = "eye" if BASE_MUSCLES[index // 2] in _UPPER else "lips"
        strength[f"{part}_{'left' if index % 2 else 'right'}"] += float(level)
    order = sorted(EVENT_REGIONS, key=lambda name: -strength[name])
    return tuple(
        name for name in order if strength[name] > 0.0 and strength[name] >= least * strength[order[0]]
    )


def draw(seed: int, session: int, index: int, talking: bool) -> MicroEvent:
    """Event number `index` (any integer) of a session, with the times of its excitation.

    talking: only what shows around the eyes, because a mouth that speaks does more, as fast, all the time.
    """
    choices = {
        label: tuple(pattern for pattern in patterns if not talking or pattern.keys() <= _UPPER)
        for label, patterns in PATTERNS.items()
    }
    labels = [label for label in MICRO_CLASSES if choices[label]]
    # each class once in every round, in an order of its own
    turn, place = divmod(index, len(labels))
    label = labels[int(generator(seed, session, "micro order", turn).permutation(len(labels))[place])]
    rng = generator(seed, session, "micro", index)
    centre = (index + 0.5) * PERIOD_S + rng.uniform(-JITTER_S, JITTER_S)
    rise = rng.uniform(*RISE_S)
    plateau = rng.uniform(*PLATEAU_S)
    fall = rng.uniform(*FALL_S)
    pattern = choices[label][int(rng.integers(len(choices[label])))]
    intensity = float(rng.uniform(*INTENSITY))
    weak_side = int(rng.integers(2))
    weak = float(rng.uniform(0.0, 0.15))
    one_sided = bool(rng.random() < _ONE_SIDED) and not (_MIDLINE & pattern.keys())
    varied = np.exp(rng.normal(0.0, 0.1, len(ACTUATORS)))

    share = np.zeros(len(ACTUATORS))
    full = np.zeros(len(ACTUATORS))
    for name, level in pattern.items():
        places = (
            [ACTUATORS.index(name)]
            if name in HIDDEN
            else [muscle_index(name, "right"), muscle_index(name, "left")]
        )
        full[places] = level
        share[places] = varied[places]
    if one_sided:
        share[weak_side : len(MUSCLES) : 2] *= weak
        share[len(MUSCLES) :] *= 0.5  # the lids have no side of their own here
    share *= intensity / share.max()
    levels = full * share
    start = centre - rise - 0.5 * plateau
    return MicroEvent(
        start + _FIRST * rise,
        centre,
        start + rise + plateau + (1.0 - _FIRST) * fall,
        label,
        regions_of(levels),
        intensity,
        levels,
        start,
        rise,
        plateau,
        fall,
    )


def on_skin(event: MicroEvent, excitation: F64, begin_s: float, lag_s: float) -> MicroEvent:
    """The same event with the times at which the skin shows it.

    excitation: (T,) course of the event's contraction, 1 at the apex, sampled at `GRID_HZ` from `begin_s`,
    from before it starts until the skin is still again. The skin is slower and smoother than the muscle, so
    onset, apex and offset do not shift by the same time.
    """
    displacement = follow(excitation[:, None] * event.levels, lag_s).sum(axis=1)
    apex = int(displacement.argmax())
    over = np.flatnonzero(displacement >= VISIBLE * displacement[apex])

    def crossing(low: int, high: int) -> float:
        part = (VISIBLE * displacement[apex] - displacement[low]) / (displacement[high] - displacement[low])
        return float(begin_s + (low + part * (high - low)) / GRID_HZ)

    first = int(over[0])
    last = int(over[-1])
    return MicroEvent(
        crossing(first - 1, first),
        begin_s + apex / GRID_HZ,
        crossing(last + 1, last),
        event.label,
        event.regions,
        event.intensity,
        event.levels,
        event.start_s,
        event.rise_s,
        event.plateau_s,
        event.fall_s,
    )


class LocalSkin:
    """Skin that moves where no coefficient of the head model reaches: a soft bump at each muscle, of this
    person's own shape.

    It grows with the muscle's activation above its tone, is near its full height at a tenth of full
    contraction, and is never more than 0.6 mm. seed: the person. head, shape: on whose face. Raises
    ModelError where the head carries no electrode sites.
    """

    def __init__(self, seed: int, head: HeadModel, shape: F32) -> None:
        neutral = head.neutral(shape)
        normals = shade.vertex_normals(neutral, head.faces)
        skin = head.part("skin")
        sites = on_head(FRIDLUND.positions, head, neutral)
        rng = generator(seed, "local skin")
        self._bumps = np.zeros((len(MUSCLES), len(neutral), 3), np.float32)
        for base in range(len(BASE_MUSCLES)):
            height = rng.uniform(*_BUMP_M)
            radius = rng.uniform(*_RADIUS_M)
            lean = rng.uniform(0.4, 1.0)
            angle = rng.uniform(0.0, 2.0 * np.pi)
            away = rng.uniform(0.0, 0.006)
            about = rng.uniform(0.0, 2.0 * np.pi)
            for side, mirror in ((0, 1.0), (1, -1.0)):
                # both sides are much alike, mirrored; x points to the subject's left
                along = np.array(
                    [mirror * np.cos(angle + rng.normal(0.0, 0.2)), np.sin(angle + rng.normal(0.0, 0.2)), 0.0]
                )
                place = sites[2 * base + side] + away * np.array([mirror * np.cos(about), np.sin(about), 0.0])
                near = skin[np.argmin(np.linalg.norm(neutral[skin] - place, axis=1))]
                normal = normals[near].astype(np.float64)
                tangent = along - (along @ normal) * normal
                direction = normal + lean * tangent / np.linalg.norm(tangent)
                direction /= np.linalg.norm(direction)
                distance = np.linalg.norm(neutral[skin] - neutral[near], axis=1)
                weight = np.exp(-0.5 * (distance / radius) ** 2)
                weight = np.maximum(weight - 0.01, 0.0) / 0.99
                self._bumps[2 * base + side, skin] = height * weight[:, None] * direction

    def offsets(self, activation: F64) -> F32:
        """(V, 3) m in model coordinates from (A,) activation above tone."""
        gain = np.tanh(np.maximum(activation[: len(MUSCLES)], 0.0) / _FULL_AT)
        used = np.flatnonzero(gain > 1e-4)
        if len(used) == 0:
            return np.zeros(self._bumps.shape[1:], np.float32)
        summed = np.tensordot(gain[used].astype(np.float32), self._bumps[used], axes=1)
        length = np.linalg.norm(summed, axis=1, keepdims=True)
        # bumps that overlap do not pile up beyond what skin does
        bounded = OFFSET_LIMIT_M * np.tanh(length / OFFSET_LIMIT_M)
        return np.asarray(
            summed * np.divide(bounded, length, out=np.ones_like(length), where=length > 1e-9), np.float32
        )
