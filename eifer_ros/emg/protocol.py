"""The 11 functional movements of the EIFER protocol: what to tell the participant, and which muscles must
answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import InputError, did_you_mean
from ..types import Marker, Stamp
from .montage import FRIDLUND, Scheme

REST = "Face-At-Rest"
NEAR = 15.0
"""A channel within this distance, in scheme units, of a muscle's Fridlund site is expected to see that
muscle.
"""


@dataclass(frozen=True)
class Movement:
    """One functional movement: its protocol name, what to tell the participant, the muscles of which at least
    one must rise.

    rise: the least ratio of the take's 90th percentile to rest in the best of these muscles.
    """

    name: str
    prompt: str
    muscles: tuple[str, ...] = ()
    rise: float = 2.0


# fmt: off
PROTOCOL: tuple[Movement, ...] = (
    Movement(REST, "Relax the whole face. Look ahead, lips together, teeth apart."),
    Movement("Forehead", "Raise both eyebrows as high as you can.", ("medial_frontalis", "lateral_frontalis")),
    Movement("Eye-Gentle", "Close your eyes gently, as if asleep.", ("orbicularis_oculi",), 1.3),
    Movement("Eye-Tight", "Squeeze your eyes shut.", ("orbicularis_oculi", "corrugator_supercilii", "depressor_supercilii")),
    Movement("Nose-Pucker", "Wrinkle your nose.", ("levator_labii_superioris", "depressor_supercilii", "corrugator_supercilii")),
    Movement("Smile-Closed", "Smile with closed lips.", ("zygomaticus_major",)),
    Movement("Smile-Open", "Smile broadly and show your teeth.", ("zygomaticus_major",)),
    Movement("Lip-Pucker", "Purse your lips, as if to whistle.", ("orbicularis_oris", "mentalis")),
    Movement(
        "Cheeks", "Blow up both cheeks.", ("orbicularis_oris", "mentalis", "depressor_anguli_oris", "masseter", "zygomaticus_major"), 1.5
    ),
    Movement("Snarl", "Bare your teeth, as if to snarl.", ("levator_labii_superioris", "depressor_supercilii")),
    Movement("Depress-Lip", "Pull the corners of your mouth down.", ("depressor_anguli_oris", "mentalis")),
)
# fmt: on
"""The 11 functional ("Schaede") tasks in the order in which the MMM data set numbers them."""
REST_MOVEMENT = PROTOCOL[0]

_OTHER_NAMES = {"inflatecheeks": "Cheeks", "rest": REST, "neutral": REST}


def movement_named(word: str) -> Movement | None:
    """The movement of that name, whatever its case and punctuation (MMM also writes `-Smile-Closed`,
    `Inflate-Cheeks`), or None.
    """
    key = re.sub(r"[^a-z]", "", word.lower())
    key = re.sub(r"[^a-z]", "", _OTHER_NAMES.get(key, key).lower())
    return next(
        (movement for movement in PROTOCOL if re.sub(r"[^a-z]", "", movement.name.lower()) == key), None
    )


class Span(NamedTuple):
    """When a movement was made: stamps of its beginning and end."""

    movement: str
    start: Stamp
    end: Stamp


def spans(markers: Iterable[Marker | Span | tuple[str, Stamp, Stamp]]) -> list[Span]:
    """Start and end markers paired by label, in order of their starts; spans pass as they are.

    A start without an end (the recording stopped, or the movement was begun again) and an end without a start
    say nothing and are left out, notes too.
    """
    intervals: list[Span] = []
    begun: dict[str, Stamp] = {}
    for marker in markers:
        if not isinstance(marker, Marker):
            intervals.append(Span(*marker))
        elif marker.phase == "start":
            begun[marker.label] = marker.stamp
        elif marker.phase == "end" and marker.label in begun:
            intervals.append(Span(marker.label, begun.pop(marker.label), marker.stamp))
    return sorted(intervals, key=lambda span: span.start)


def movements_named(names: Sequence[str]) -> list[Movement]:
    """The movements of those names without rest, which always comes first; all where none is named."""
    if not names:
        return [movement for movement in PROTOCOL if movement.name != REST]
    movements: list[Movement] = []
    for name in names:
        movement = movement_named(name)
        if movement is None:
            names_of_protocol = [movement.name for movement in PROTOCOL]
            raise InputError(
                f"movement '{name}' is not in the protocol{did_you_mean(name, names_of_protocol)}; it has {', '.join(names_of_protocol)}"
            )
        if movement.name != REST:
            movements.append(movement)
    if not movements:
        raise InputError("a calibration needs at least one movement besides rest")
    return movements


def expected_channels(movement: Movement, scheme: Scheme, muscles: Sequence[str]) -> list[int]:
    """Indices into `muscles` that should see the movement: by muscle name, else by nearness to the muscle's
    Fridlund site.
    """
    sites = [
        FRIDLUND.positions[i]
        for i, name in enumerate(FRIDLUND.muscles)
        if name.rsplit("_", 1)[0] in movement.muscles
    ]
    indices = []
    for index, muscle in enumerate(muscles):
        if re.sub(r"_(left|right)$", "", muscle) in movement.muscles:
            indices.append(index)
        elif muscle not in FRIDLUND.muscles and sites and scheme.resolve(muscle) is not None:
            place = scheme.positions[scheme.index(muscle)]
            if (
                np.isfinite(place).all()
                and min(float(np.linalg.norm(place - site)) for site in sites) <= NEAR
            ):
                indices.append(index)
    return indices
