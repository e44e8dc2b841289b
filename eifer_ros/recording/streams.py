"""What a recording may hold: the item that flows on each relative topic, and how a recorded topic is
recognised.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from .. import topics
from ..component import Port
from ..types import Frame
from ..wire import conversions

SESSION = "session"
"""Relative topic of the session record."""
SESSION_TYPE = "std_msgs/msg/String"

PORTS: tuple[Port, ...] = tuple(topic.port for topic in topics.items())
"""Every item a recording can hold, by port."""

_DEPTH = topics.CAMERA_DEPTH.name.partition("/")[2]
_ITEM_TYPES = {conversions.wire_type(port.item) for port in PORTS if port.item is not Frame}


class Role(IntEnum):
    """What a recorded topic is to eifer; the order in which messages of one stamp are read."""

    SESSION = 0
    CAMERA_INFO = 1
    DEPTH = 2
    ITEM = 3
    PICTURE = 4


@dataclass(frozen=True, slots=True)
class Stream:
    """A recorded topic that eifer understands: its role, the port it feeds, and for pictures which camera
    they are of.
    """

    role: Role
    port: str
    camera: str = ""


def recognise(topic: str, type_name: str, namespace: str | None) -> Stream | None:
    """The stream that a recorded topic is, or None for one that is not eifer's.

    namespace: as the session record tells; None where there is none: then any prefix before a known topic is
    accepted.
    """
    if type_name == SESSION_TYPE:
        return Stream(Role.SESSION, SESSION) if topic.rsplit("/", 1)[-1] == SESSION else None
    picture = type_name.rsplit("/", 1)[-1]
    name = topic.removesuffix("/compressed") if picture == "CompressedImage" else topic
    port = topics.relative(name)
    if port is None and namespace is not None and name.startswith(namespace + "/"):
        port = name[len(namespace) + 1 :]
    if port is None:
        return None
    if type_name not in conversions.FRAME_TYPES:
        return Stream(Role.ITEM, port) if type_name in _ITEM_TYPES else None
    if picture == "CameraInfo":
        return Stream(Role.CAMERA_INFO, port, port.rsplit("/", 1)[0])
    if port.endswith(_DEPTH):
        return Stream(Role.DEPTH, port, port[: -len(_DEPTH) - 1])
    return Stream(Role.PICTURE, port, port.rsplit("/", 1)[0])


def mismatch(topic: str, type_name: str) -> str | None:
    """What is wrong where a topic has the name of one of eifer's but another type; None where nothing is."""
    port = next((port for port in PORTS if port.name == topics.relative(topic)), None)
    if port is None:
        return None
    accepted = (
        ["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"]
        if port.item is Frame
        else [conversions.wire_type(port.item)]
    )
    return None if type_name in accepted else f"{topic} is {type_name}, eifer's {port.name} is {accepted[0]}"
