"""iFacialMocap's text over UDP: its Unity and Blender add-ons and what else reads it (ifacialmocap.com, "for
developers").

`mouthSmile_R-0|...|=head#rx,ry,rz,tx,ty,tz|rightEye#rx,ry,rz|leftEye#rx,ry,rz|`: weights as whole percents,
angles in degrees (x pitch, y yaw, z roll), head position in metres with y up. The format itself rounds a
weight to 1/100.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..config import parameter
from ..types import ARKIT_52
from .face import AvatarFace
from .sender import UdpSender, UdpSenderConfig, udp_port

_WITHOUT_SIDE = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")  # a direction, not a side of the face


def text_name(name: str) -> str:
    """`mouthSmileRight` -> `mouthSmile_R`.

    Parameters
    ----------
    name : str
        Of `ARKIT_52`.

    Returns
    -------
    str
        As the protocol writes it.
    """
    if name not in _WITHOUT_SIDE:
        for side in ("Left", "Right"):
            if name.endswith(side):
                return f"{name.removesuffix(side)}_{side[0]}"
    return name


NAMES: tuple[str, ...] = tuple(text_name(name) for name in ARKIT_52)


class IFacialMocapConfig(UdpSenderConfig):
    """Parameters of an iFacialMocap receiver."""

    port: int = udp_port(49983)
    decimals: int = parameter(
        0,
        "digits after the point of a percentage; 0 is the official form, 1 for receivers that parse floats",
        ge=0,
        le=4,
    )


class IFacialMocapSender(UdpSender):
    """Unity and Blender add-ons of iFacialMocap.

    Parameters
    ----------
    config : IFacialMocapConfig
        Parameters.
    """

    config_type: ClassVar[type[IFacialMocapConfig]] = IFacialMocapConfig
    protocol = "ifacialmocap"

    def __init__(self, config: IFacialMocapConfig) -> None:
        super().__init__(config)
        self._decimals = config.decimals

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
