"""iFacialMocap's text over UDP: its Unity and Blender add-ons and what else reads it (ifacialmocap.com, "for
developers").

`mouthSmile_R-0|...|=head#rx,ry,rz,tx,ty,tz|rightEye#rx,ry,rz|leftEye#rx,ry,rz|`: weights as whole percents,
angles in degrees (x pitch, y yaw, z roll), head position in metres with y up. The format itself rounds a
weight to 1/100.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..types import ARKIT_52
from .face import AvatarFace
from .sender import UdpSender, number_option
from .targets import Target

_WITHOUT_SIDE = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")  # a direction, not a side of the face


def text_name(name: str) -> str:
    """`mouthSmileRight` -> `mouthSmile_R`."""
    if name not in _WITHOUT_SIDE:
        for side in ("Left", "Right"):
            if name.endswith(side):
                return f"{name.removesuffix(side)}_{side[0]}"
    return name


NAMES: tuple[str, ...] = tuple(text_name(name) for name in ARKIT_52)


class IFacialMocapSender(UdpSender):
    """Options: `decimals=1` writes tenths of a percent, for receivers that parse floats; the default 0 is the
    official form.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._decimals = int(number_option(target, "decimals", 0, 0, 4))

    def packets(self, face: AvatarFace) -> Sequence[bytes]:
        """The one datagram."""
        form = f"%s-%.{self._decimals}f"
        weights = "|".join([form % pair for pair in zip(NAMES, (face.weights * 100.0).tolist(), strict=True)])
        yaw, pitch, roll = np.rad2deg(face.head)
        (yaw_l, pitch_l), (yaw_r, pitch_r) = np.rad2deg(face.gaze)
        x, y, z = face.position
        head = f"=head#{pitch:.4f},{yaw:.4f},{roll:.4f},{x:.4f},{-y:.4f},{z:.4f}"
        eyes = f"rightEye#{pitch_r:.4f},{yaw_r:.4f},0.0000|leftEye#{pitch_l:.4f},{yaw_l:.4f},0.0000|"
        return [f"{weights}|{head}|{eyes}".encode("ascii")]
