"""Receivers that parse the bytes of each protocol by its own description; nothing here is shared with the
senders.
"""

from __future__ import annotations

import re
import socket
import struct
import uuid

import numpy as np
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_message import OscMessage


class Receiver:
    """A UDP socket on a free loopback port."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(60.0)
        self.port = self.socket.getsockname()[1]

    def packets(self, count: int) -> list[bytes]:
        return [self.socket.recv(65536) for _ in range(count)]

    def waiting(self) -> list[bytes]:
        """All that has arrived already (loopback delivers within the call that sends)."""
        self.socket.setblocking(False)
        found = []
        try:
            while True:
                found.append(self.socket.recv(65536))
        except BlockingIOError:
            self.socket.settimeout(60.0)
        return found

    def close(self) -> None:
        self.socket.close()


def osc_messages(packet: bytes) -> list[OscMessage]:
    """Messages of a packet, bundles opened, read by python-osc."""
    if not OscBundle.dgram_is_bundle(packet):
        return [OscMessage(packet)]
    found: list[OscMessage] = []

    def walk(bundle: OscBundle) -> None:
        for content in bundle:
            if isinstance(content, OscMessage):
                found.append(content)
            else:
                walk(content)

    walk(OscBundle(packet))
    return found


def read_vmc(packets: list[bytes]) -> dict:
    """A marionette: values take effect at Apply."""
    pending: dict[str, float] = {}
    out: dict = {"weights": {}, "bones": {}}
    for packet in packets:
        assert len(packet) <= 1500
        for message in osc_messages(packet):
            if message.address == "/VMC/Ext/Blend/Val":
                name, value = message.params
                pending[name] = value
            elif message.address == "/VMC/Ext/Blend/Apply":
                assert message.params == []
                out["weights"] |= pending
            elif message.address == "/VMC/Ext/Bone/Pos":
                out["bones"][message.params[0]] = message.params[1:]
            elif message.address == "/VMC/Ext/OK":
                out["ok"] = message.params[0]
            elif message.address == "/VMC/Ext/T":
                out["time"] = message.params[0]
            else:
                raise AssertionError(message.address)
    return out


def read_vrchat(packets: list[bytes], prefix: str = "") -> tuple[dict[str, float], dict[str, list]]:
    """Parameters by name (without the path) and the eye tracking messages."""
    parameters, eyes = {}, {}
    start = f"/avatar/parameters/{prefix}v2/"
    for packet in packets:
        for message in osc_messages(packet):
            if message.address.startswith(start):
                (parameters[message.address[len(start) :]],) = message.params
            else:
                assert message.address.startswith("/tracking/eye/")
                eyes[message.address.rsplit("/", 1)[1]] = message.params
    return parameters, eyes


def arkit_from_unified(parameters: dict[str, float]) -> dict[str, float]:
    """Unified Expressions back to ARKit's names, as docs.vrcft.io's compatibility table pairs them."""
    out = {
        "jawOpen": parameters["JawOpen"],
        "jawForward": parameters["JawForward"],
        "jawLeft": parameters["JawLeft"],
        "jawRight": parameters["JawRight"],
        "mouthClose": parameters["MouthClosed"],
        "mouthShrugUpper": parameters["MouthRaiserUpper"],
        "mouthShrugLower": parameters["MouthRaiserLower"],
        "tongueOut": parameters["TongueOut"],
        "mouthPucker": parameters["LipPuckerUpperLeft"],
        "mouthFunnel": parameters["LipFunnelUpperLeft"],
        "mouthRollUpper": parameters["LipSuckUpperLeft"],
        "mouthRollLower": parameters["LipSuckLowerRight"],
        "cheekPuff": parameters["CheekPuffLeft"],
        "mouthLeft": parameters["MouthUpperLeft"],
        "mouthRight": parameters["MouthLowerRight"],
        "browInnerUp": parameters["BrowInnerUpLeft"],
    }
    # fmt: off
    pairs = {
        "eyeBlink": "EyeClosed", "eyeSquint": "EyeSquint", "eyeWide": "EyeWide", "browDown": "BrowLowerer", "browOuterUp": "BrowOuterUp",
        "noseSneer": "NoseSneer", "cheekSquint": "CheekSquint", "mouthSmile": "MouthCornerPull", "mouthFrown": "MouthFrown",
        "mouthStretch": "MouthStretch", "mouthDimple": "MouthDimple", "mouthPress": "MouthPress", "mouthUpperUp": "MouthUpperUp",
        "mouthLowerDown": "MouthLowerDown", "eyeLookOut": "EyeLookOut", "eyeLookIn": "EyeLookIn", "eyeLookUp": "EyeLookUp",
        "eyeLookDown": "EyeLookDown",
    }
    # fmt: on
    for side in ("Left", "Right"):
        out |= {f"{ours}{side}": parameters[f"{theirs}{side}"] for ours, theirs in pairs.items()}
    return out


_HEADER = (
    "EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,EyeSquintLeft,EyeWideLeft,EyeBlinkRight,EyeLookDownRight,"
    "EyeLookInRight,EyeLookOutRight,EyeLookUpRight,EyeSquintRight,EyeWideRight,JawForward,JawRight,JawLeft,JawOpen,MouthClose,MouthFunnel,"
    "MouthPucker,MouthRight,MouthLeft,MouthSmileLeft,MouthSmileRight,MouthFrownLeft,MouthFrownRight,MouthDimpleLeft,MouthDimpleRight,"
    "MouthStretchLeft,MouthStretchRight,MouthRollLower,MouthRollUpper,MouthShrugLower,MouthShrugUpper,MouthPressLeft,MouthPressRight,"
    "MouthLowerDownLeft,MouthLowerDownRight,MouthUpperUpLeft,MouthUpperUpRight,BrowDownLeft,BrowDownRight,BrowInnerUp,BrowOuterUpLeft,"
    "BrowOuterUpRight,CheekPuff,CheekSquintLeft,CheekSquintRight,NoseSneerLeft,NoseSneerRight,TongueOut,HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw,"
    "LeftEyePitch,LeftEyeRoll,RightEyeYaw,RightEyePitch,RightEyeRoll"
)
LIVE_LINK_HEADER = _HEADER.split(",")


def camel(name: str) -> str:
    return name[0].lower() + name[1:]


def read_livelink(packet: bytes) -> dict:
    """Live Link Face, field by field."""
    (version,) = struct.unpack_from("<I", packet, 0)
    device = packet[4:41].decode("ascii")
    assert device[0] == "$"
    uuid.UUID(device[1:])
    (length,) = struct.unpack_from(">i", packet, 41)
    subject = packet[45 : 45 + length].decode("utf-8")
    frame, subframe, fps, denominator, count = struct.unpack_from(">IfIIB", packet, 45 + length)
    values = struct.unpack_from(">61f", packet, 45 + length + 17)
    assert len(packet) == 45 + length + 17 + 244
    numbers = dict(zip(map(camel, LIVE_LINK_HEADER), values, strict=True))
    return {
        "version": version,
        "device": device,
        "subject": subject,
        "frame": frame,
        "subframe": subframe,
        "fps": fps,
        "denominator": denominator,
        "count": count,
        "values": numbers,
    }


def read_ifacialmocap(packet: bytes) -> tuple[dict[str, float], dict[str, list[float]]]:
    """As its Unity add-on reads it: split at '=', then '|', then '-' or '#'."""
    left, right = packet.decode("ascii").split("=")
    weights = {}
    for entry in filter(None, left.split("|")):
        name, value = re.fullmatch(r"(\w+)-([\d.]+)", entry).groups()  # type: ignore[union-attr]
        arkit = name[:-2] + {"_L": "Left", "_R": "Right"}[name[-2:]] if name[-2:] in ("_L", "_R") else name
        weights[arkit] = float(value) / 100
    turns = {}
    for entry in filter(None, right.split("|")):
        name, numbers = entry.split("#")
        turns[name] = [float(number) for number in numbers.split(",")]
    return weights, turns


def worst(wanted: np.ndarray, names: tuple[str, ...], got: dict[str, float]) -> float:
    """Largest difference over the 52 channels; a missing channel counts as 1."""
    return max(abs(float(w) - got.get(name, w + 1.0)) for name, w in zip(names, wanted, strict=True))
