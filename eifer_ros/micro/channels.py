"""What the spotter looks at, and where on the face it belongs: actions of the picture and muscles of the EMG,
by region.

The face is divided as in HTNet (Wang et al., "HTNet for micro-expression recognition", Neurocomputing 2024):
left and right eye area, left and right lip area; sides are the subject's.
"""

from __future__ import annotations

import numpy as np

from ..emg.montage import FRIDLUND
from ..errors import InputError
from ..types import ARKIT_52, EVENT_REGIONS, F64, Indices

_EYE = ("browDown", "browOuterUp", "cheekSquint", "eyeSquint", "eyeWide")
_LIPS = (
    "mouthDimple",
    "mouthFrown",
    "mouthLowerDown",
    "mouthPress",
    "mouthSmile",
    "mouthStretch",
    "mouthUpperUp",
    "noseSneer",
)
_MIDDLE = {
    "browInnerUp": ("eye_left", "eye_right"),
    "mouthClose": ("lips_left", "lips_right"),
    "mouthFunnel": ("lips_left", "lips_right"),
    "mouthPucker": ("lips_left", "lips_right"),
    "mouthRollLower": ("lips_left", "lips_right"),
    "mouthRollUpper": ("lips_left", "lips_right"),
    "mouthShrugLower": ("lips_left", "lips_right"),
    "mouthShrugUpper": ("lips_left", "lips_right"),
    "mouthLeft": ("lips_left", "lips_right"),
    "mouthRight": ("lips_left", "lips_right"),
}
_NOBODY = ("jawOpen", "jawLeft", "jawRight", "jawForward", "eyeBlinkLeft", "eyeBlinkRight", "cheekPuff")
"""Actions that start no event but tell what else goes on: speech moves the jaw, a blink pulls the skin around
the eye.
"""

_MUSCLES_EYE = (
    "medial_frontalis",
    "lateral_frontalis",
    "corrugator_supercilii",
    "depressor_supercilii",
    "orbicularis_oculi",
)
_MUSCLES_LIPS = (
    "levator_labii_superioris",
    "orbicularis_oris",
    "depressor_anguli_oris",
    "mentalis",
    "zygomaticus_major",
)


def _sided(names: tuple[str, ...], region: str) -> dict[str, tuple[str, ...]]:
    return {f"{name}{side}": (f"{region}_{side.lower()}",) for name in names for side in ("Left", "Right")}


_ACTION_REGIONS: dict[str, tuple[str, ...]] = {
    **_sided(_EYE, "eye"),
    **_sided(_LIPS, "lips"),
    **_MIDDLE,
    **dict.fromkeys(_NOBODY, ()),
}
ACTIONS: tuple[str, ...] = tuple(name for name in ARKIT_52 if name in _ACTION_REGIONS)
"""The actions of the picture that are looked at: all of ARKit's but gaze and tongue."""
ACTION_INDEX: Indices = np.array([ARKIT_52.index(name) for name in ACTIONS])

MUSCLE_CHANNELS: tuple[str, ...] = FRIDLUND.muscles
"""The muscles that are looked at, in the order of Fridlund & Cacioppo."""


def membership(regions: list[tuple[str, ...]]) -> F64:
    """(R, C) 1 where channel c belongs to region r of `EVENT_REGIONS`."""
    out = np.zeros((len(EVENT_REGIONS), len(regions)))
    for column, names in enumerate(regions):
        for name in names:
            out[EVENT_REGIONS.index(name), column] = 1.0
    return out


def action_membership() -> F64:
    """(4, len(ACTIONS)) which action belongs to which region."""
    return membership([_ACTION_REGIONS[name] for name in ACTIONS])


def muscle_membership() -> F64:
    """(4, 22) which muscle belongs to which region. The masseter belongs to none: it chews and speaks."""
    regions: list[tuple[str, ...]] = []
    for muscle in MUSCLE_CHANNELS:
        base, side = muscle.rsplit("_", 1)
        regions.append(
            (f"eye_{side}",) if base in _MUSCLES_EYE else (f"lips_{side}",) if base in _MUSCLES_LIPS else ()
        )
    return membership(regions)


def muscle_order(muscles: tuple[str, ...]) -> Indices:
    """(22,) where each of `MUSCLE_CHANNELS` stands in `muscles`, -1 where it is missing.

    Raises InputError where all are.
    """
    order = np.array([muscles.index(name) if name in muscles else -1 for name in MUSCLE_CHANNELS], np.intp)
    if (order < 0).all():
        raise InputError(
            f"EMG spotting knows the muscles of Fridlund & Cacioppo ({MUSCLE_CHANNELS[0]}, ...); the stream has {', '.join(muscles)}"
        )
    return order
