"""VRChat avatar parameters over OSC, named as VRCFaceTracking's Unified Expressions v2 (docs.vrcft.io).

Base shapes go out one by one, and beside them the folded ones that most avatars listen to (`JawX`,
`SmileFrownLeft`, ...: the positive shape minus the negative one). VRChat ignores parameters that an avatar
lacks. `/tracking/eye/*` moves the eyes of avatars without parameters for them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..config import parameter
from ..types import ARKIT_52, F64
from .face import INDEX, AvatarFace
from .osc import BUNDLE, FloatBank, element, floats
from .sender import UdpSender, UdpSenderConfig, udp_port

_SIDES = ("Left", "Right")
# fmt: off
_DIRECT = {
    "JawOpen": "jawOpen", "JawForward": "jawForward", "JawLeft": "jawLeft", "JawRight": "jawRight", "MouthClosed": "mouthClose",
    "MouthRaiserUpper": "mouthShrugUpper", "MouthRaiserLower": "mouthShrugLower", "TongueOut": "tongueOut",
    "LipPucker": "mouthPucker", "LipFunnel": "mouthFunnel", "LipSuckUpper": "mouthRollUpper", "LipSuckLower": "mouthRollLower",
    "CheekPuffSuck": "cheekPuff", "MouthUpperLeft": "mouthLeft", "MouthLowerLeft": "mouthLeft", "MouthUpperRight": "mouthRight",
    "MouthLowerRight": "mouthRight", "BrowInnerUp": "browInnerUp",
}
# fmt: on
# fmt: off
_TWO_SIDED = {
    "EyeSquint": "eyeSquint", "EyeWide": "eyeWide", "EyeClosed": "eyeBlink", "BrowLowerer": "browDown", "BrowPinch": "browDown",
    "BrowDown": "browDown", "BrowOuterUp": "browOuterUp", "NoseSneer": "noseSneer", "CheekSquint": "cheekSquint",
    "MouthCornerPull": "mouthSmile", "MouthCornerSlant": "mouthSmile", "MouthSmile": "mouthSmile", "MouthFrown": "mouthFrown",
    "MouthStretch": "mouthStretch", "MouthDimple": "mouthDimple", "MouthPress": "mouthPress", "MouthUpperUp": "mouthUpperUp",
    "MouthUpperDeepen": "mouthUpperUp", "MouthLowerDown": "mouthLowerDown",
    "EyeLookOut": "eyeLookOut", "EyeLookIn": "eyeLookIn", "EyeLookUp": "eyeLookUp", "EyeLookDown": "eyeLookDown",
}
# fmt: on
_SHARED = {  # one ARKit channel for both sides
    "BrowInnerUp": "browInnerUp",
    "CheekPuff": "cheekPuff",
    "LipPuckerUpper": "mouthPucker",
    "LipPuckerLower": "mouthPucker",
    "LipFunnelUpper": "mouthFunnel",
    "LipFunnelLower": "mouthFunnel",
    "LipSuckUpper": "mouthRollUpper",
    "LipSuckLower": "mouthRollLower",
}


def parameter_matrix() -> tuple[tuple[str, ...], F64, F64]:
    """Parameters as linear functions of the weights: parameter = matrix @ weights + offset, before clipping to
    -1..1.

    Returns
    -------
    tuple[tuple[str, ...], ndarray of float64, ndarray of float64]
        Names (P,), matrix (P, 52) and offset (P,).
    """
    rows: dict[str, dict[str, float]] = {}
    offsets: dict[str, float] = {}
    rows |= {name: {source: 1.0} for name, source in _DIRECT.items()}
    for side in _SIDES:
        rows |= {f"{name}{side}": {f"{source}{side}": 1.0} for name, source in _TWO_SIDED.items()}
        rows |= {f"{name}{side}": {source: 1.0} for name, source in _SHARED.items()}
        rows[f"SmileFrown{side}"] = {f"mouthSmile{side}": 1.0, f"mouthFrown{side}": -1.0}
        rows[f"SmileSad{side}"] = {f"mouthSmile{side}": 1.0, f"mouthFrown{side}": -1.0}
        rows[f"BrowExpression{side}"] = {
            "browInnerUp": 0.5,
            f"browOuterUp{side}": 0.5,
            f"browDown{side}": -1.0,
        }
        # 0 closed, 0.75 relaxed, 1 wide
        rows[f"EyeLid{side}"] = {f"eyeBlink{side}": -0.75, f"eyeWide{side}": 0.25}
        offsets[f"EyeLid{side}"] = 0.75
        rows[f"Eye{side}Y"] = {f"eyeLookUp{side}": 1.0, f"eyeLookDown{side}": -1.0}
    # positive is the wearer's right for both eyes, jaw and mouth
    rows["EyeLeftX"] = {"eyeLookInLeft": 1.0, "eyeLookOutLeft": -1.0}
    rows["EyeRightX"] = {"eyeLookOutRight": 1.0, "eyeLookInRight": -1.0}
    rows["JawX"] = {"jawRight": 1.0, "jawLeft": -1.0}
    rows["JawZ"] = {"jawForward": 1.0}
    rows["MouthX"] = {"mouthRight": 1.0, "mouthLeft": -1.0}
    for whole, part in (
        ("BrowDown", "browDown"),
        ("BrowOuterUp", "browOuterUp"),
        ("MouthUpperUp", "mouthUpperUp"),
        ("MouthLowerDown", "mouthLowerDown"),
        ("NoseSneer", "noseSneer"),
        ("EyeSquint", "eyeSquint"),
        ("MouthStretch", "mouthStretch"),
        ("MouthPress", "mouthPress"),
        ("MouthDimple", "mouthDimple"),
        ("CheekSquint", "cheekSquint"),
    ):
        rows[whole] = {f"{part}{side}": 0.5 for side in _SIDES}
    rows["BrowUp"] = {"browInnerUp": 0.5, "browOuterUpLeft": 0.25, "browOuterUpRight": 0.25}
    rows["SmileFrown"] = {
        **{f"mouthSmile{side}": 0.5 for side in _SIDES},
        **{f"mouthFrown{side}": -0.5 for side in _SIDES},
    }
    names = tuple(rows)
    matrix = np.zeros((len(names), len(ARKIT_52)))
    for row, name in enumerate(names):
        for source, weight in rows[name].items():
            matrix[row, INDEX[source]] = weight
    return names, matrix, np.array([offsets.get(name, 0.0) for name in names])


class VrchatConfig(UdpSenderConfig):
    """Parameters of VRChat."""

    port: int = udp_port(9000)
    prefix: str = parameter("", "FT for avatars whose parameters are called FT/v2/JawOpen")


class VrchatSender(UdpSender):
    """VRChat avatars with Unified Expressions.

    Parameters
    ----------
    config : VrchatConfig
        Parameters.
    """

    config_type: ClassVar[type[VrchatConfig]] = VrchatConfig
    protocol = "vrchat"

    def __init__(self, config: VrchatConfig) -> None:
        super().__init__(config)
        self.names, self._matrix, self._offset = parameter_matrix()
        prefix = config.prefix.strip("/")
        start = "/avatar/parameters/" + (f"{prefix}/" if prefix else "") + "v2/"
        self._bank = FloatBank([floats(start + name, 1) for name in self.names])
        self._gaze = floats("/tracking/eye/LeftRightPitchYaw", 4)
        self._closed = floats("/tracking/eye/EyesClosedAmount", 1)

    def packets(self, face: AvatarFace) -> Sequence[bytes]:
        """Bundles of parameters, then one of eye tracking (degrees, pitch down and yaw right positive)."""
        values = np.clip(self._matrix @ face.weights + self._offset, -1.0, 1.0)
        (yaw_l, pitch_l), (yaw_r, pitch_r) = np.rad2deg(face.gaze)
        blink = 0.5 * (face.weight("eyeBlinkLeft") + face.weight("eyeBlinkRight"))
        gaze = self._gaze + struct.pack(">4f", pitch_l, -yaw_l, pitch_r, -yaw_r)
        closed = self._closed + struct.pack(">f", blink)
        return [*self._bank.fill(values.tolist()), BUNDLE + element(gaze) + element(closed)]
