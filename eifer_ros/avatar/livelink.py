"""Live Link Face over UDP: Unreal Engine, MetaHuman and what else understands Apple's ARKit through Epic's
application.

One datagram per face: version (uint32, little-endian, 6), device id ("$" and a UUID), subject name (int32
length, text), frame number and subframe, frame rate (numerator, denominator), then 61 float32: the 52 weights
and nine angles in rad. Big-endian but for the version.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import field_validator

from ..config import parameter
from ..types import F32, NS, Stamp
from .face import INDEX, AvatarFace
from .sender import UdpSender, UdpSenderConfig, udp_port

_EYE = ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")
ORDER: tuple[str, ...] = (
    *(f"eye{part}Left" for part in _EYE),
    *(f"eye{part}Right" for part in _EYE),
    "jawForward",
    "jawRight",
    "jawLeft",
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthRight",
    "mouthLeft",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "noseSneerLeft",
    "noseSneerRight",
    "tongueOut",
)
"""The 52 in Live Link Face's order."""
ANGLES = (
    "HeadYaw",
    "HeadPitch",
    "HeadRoll",
    "LeftEyeYaw",
    "LeftEyePitch",
    "LeftEyeRoll",
    "RightEyeYaw",
    "RightEyePitch",
    "RightEyeRoll",
)
VERSION = 6
_PICK = np.array([INDEX[name] for name in ORDER])


def values(face: AvatarFace) -> F32:
    """The numbers of one face.

    Parameters
    ----------
    face : AvatarFace
        What to show.

    Returns
    -------
    ndarray of float32, shape (61,)
        Weights in `ORDER`, then `ANGLES` in rad, signs as in `AvatarFace`.
    """
    (yaw_l, pitch_l), (yaw_r, pitch_r) = face.gaze
    angles = [*face.head, yaw_l, pitch_l, 0.0, yaw_r, pitch_r, 0.0]
    return np.concatenate([face.weights[_PICK], np.array(angles, np.float32)])


def timecode(stamp: Stamp, fps: int) -> tuple[int, float]:
    """Frame number within the (UTC) day and the fraction of a frame beyond it.

    Parameters
    ----------
    stamp : int (ns)
        The instant.
    fps : int
        Frames per second.

    Returns
    -------
    tuple[int, float]
        Frame number within the (UTC) day, and the fraction of a frame beyond it.
    """
    within = stamp % (86_400 * NS) * fps
    return within // NS, within % NS / NS


class LiveLinkConfig(UdpSenderConfig):
    """Parameters of a Live Link receiver."""

    port: int = udp_port(11111)
    subject: str = parameter("eifer", "name in Unreal's Live Link panel")
    uuid: str = parameter("", "id of the device; empty makes one from the subject")
    fps: int = parameter(60, "frames per second of the time code", unit="Hz", ge=1, le=1000)

    @field_validator("subject")
    @classmethod
    def _fits(cls, subject: str) -> str:
        if not 1 <= len(subject.encode("utf-8")) <= 200:
            raise ValueError("it must have 1 to 200 bytes")
        return subject

    @field_validator("uuid")
    @classmethod
    def _is_uuid(cls, text: str) -> str:
        try:
            return str(uuid.UUID(text)) if text else ""
        except ValueError:
            raise ValueError("it must look like 12345678-1234-1234-1234-123456789abc") from None


class LiveLinkSender(UdpSender):
    """Unreal Engine, MetaHuman.

    Parameters
    ----------
    config : LiveLinkConfig
        Parameters.
    """

    config_type: ClassVar[type[LiveLinkConfig]] = LiveLinkConfig
    protocol = "livelink"

    def __init__(self, config: LiveLinkConfig) -> None:
        super().__init__(config)
        self.subject = config.subject
        name = self.subject.encode("utf-8")
        # the same subject keeps the same id, so that Unreal knows it again
        device = config.uuid or uuid.uuid5(uuid.NAMESPACE_DNS, f"eifer.{self.subject}")
        self.fps = config.fps
        self._head = struct.pack("<I", VERSION) + f"${device}".encode() + struct.pack(">i", len(name)) + name

    def packets(self, face: AvatarFace) -> Sequence[bytes]:
        """The one datagram."""
        frame, fraction = timecode(face.stamp, self.fps)
        return [
            self._head
            + struct.pack(">IfII", frame, fraction, self.fps, 1)
            + struct.pack(">B61f", 61, *values(face).tolist())
        ]
