"""VMC protocol over OSC: VSeeFace, VMagicMirror, Warudo, VRM applications (protocol.vmc.info; "Performer ->
Marionette").

The 52 names go out as custom expressions ("Perfect Sync"), head and eyes as bone rotations. Unity axes: x to
the avatar's right, y up, z ahead, left-handed; against ours x is mirrored, so a quaternion (x, y, z, w)
becomes (x, -y, -z, w).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import ClassVar, Literal

from ..config import parameter
from ..types import ARKIT_52, seconds
from .face import AvatarFace, quaternion
from .osc import BUNDLE, FloatBank, element, floats, string
from .sender import UdpSender, UdpSenderConfig, udp_port

BONES = ("Head", "LeftEye", "RightEye")


class VmcConfig(UdpSenderConfig):
    """Parameters of a VMC receiver."""

    port: int = udp_port(39539)
    case: Literal["arkit", "pascal"] = parameter(
        "arkit", "how the avatar's expressions are named: arkit is browInnerUp, pascal BrowInnerUp"
    )


class VmcSender(UdpSender):
    """VSeeFace, VMagicMirror, Warudo and other VRM applications.

    Parameters
    ----------
    config : VmcConfig
        Parameters.
    """

    config_type: ClassVar[type[VmcConfig]] = VmcConfig
    protocol = "vmc"

    def __init__(self, config: VmcConfig) -> None:
        super().__init__(config)
        pascal = config.case == "pascal"
        names = [name[0].upper() + name[1:] if pascal else name for name in ARKIT_52]
        self._bank = FloatBank([floats("/VMC/Ext/Blend/Val", 1, name) for name in names])
        self._apply = element(string("/VMC/Ext/Blend/Apply") + string(","))
        self._ok = string("/VMC/Ext/OK") + string(",i")
        self._time = floats("/VMC/Ext/T", 1)
        self._bones = [floats("/VMC/Ext/Bone/Pos", 7, bone) for bone in BONES]
        self._first: int | None = None

    def packets(self, face: AvatarFace) -> Sequence[bytes]:
        """Bundles: blend values (as many as fit a datagram), then apply, bones, status and time."""
        if self._first is None:
            self._first = face.stamp
        turns = (tuple(face.head), tuple(face.gaze[0]), tuple(face.gaze[1]))
        last = BUNDLE + self._apply
        for head, angles in zip(self._bones, turns, strict=True):
            x, y, z, w = quaternion(*(float(angle) for angle in angles))
            last += element(head + struct.pack(">7f", 0.0, 0.0, 0.0, x, -y, -z, w))
        last += element(self._ok + struct.pack(">i", int(face.tracked)))
        last += element(self._time + struct.pack(">f", seconds(face.stamp - self._first)))
        return [*self._bank.fill(face.weights.tolist()), last]
