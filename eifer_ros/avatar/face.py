"""What every sender is given: one face, in terms no protocol owns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..types import ARKIT_52, F32, F64, Stamp

INDEX: dict[str, int] = {name: i for i, name in enumerate(ARKIT_52)}


@dataclass(frozen=True, slots=True)
class AvatarFace:
    """One face for an avatar.

    weights: (52,) in 0..1, order of `ARKIT_52`. head: (3,) rad yaw (to the subject's left), pitch (down),
    roll (to the subject's right shoulder), applied roll first. gaze: (2, 2) rad yaw and pitch of the left and
    right eye relative to the head, same signs. position: (3,) m of the head in the camera optical frame.
    tracked: False where the face is lost and these are the last known values.
    """

    stamp: Stamp
    weights: F32
    head: F64 = field(default_factory=lambda: np.zeros(3))
    gaze: F64 = field(default_factory=lambda: np.zeros((2, 2)))
    position: F64 = field(default_factory=lambda: np.zeros(3))
    tracked: bool = True

    def weight(self, name: str) -> float:
        """The weight called `name`."""
        return float(self.weights[INDEX[name]])


def quaternion(yaw: float, pitch: float, roll: float = 0.0) -> tuple[float, float, float, float]:
    """(x, y, z, w) of the rotation that rolls, then pitches, then yaws, in model axes (x to the subject's
    left, y up, z ahead).
    """
    cy, sy, cp, sp, cr, sr = (f(a / 2) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    # q = q_yaw(y) * q_pitch(x) * q_roll(z)
    return (
        float(cy * sp * cr + sy * cp * sr),
        float(sy * cp * cr - cy * sp * sr),
        float(cy * cp * sr - sy * sp * cr),
        float(cy * cp * cr + sy * sp * sr),
    )
