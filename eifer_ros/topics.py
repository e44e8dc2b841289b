"""Every topic, once: what flows, with which quality of service, on whose clock, and what a recording does with it.

Components, hosts, bags, the page, the reports, the launch files and the docs read this table; nothing else
knows a topic by heart. A topic is described wholly or the module does not import: no field has a default.

Launch files run in the Python of ROS: importing this module needs the standard library alone. Items are
named here and looked up in `types` when a port is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rosbags.interfaces import Qos

    from .component import Port

NAMESPACE = "/eifer"
"""Default namespace; topic names in components are relative to it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Quality of service of a topic.

    Parameters
    ----------
    depth : int
        How many messages are kept.
    reliable : bool, optional
        Reliable, or best effort.
    latched : bool, optional
        A late subscriber gets the last message.
    """

    depth: int
    reliable: bool = True
    latched: bool = False

    def offered(self) -> Qos:
        """As a bag's metadata lists it.

        Returns
        -------
        Qos
            For rosbags.
        """
        from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

        unset = QosTime(sec=2147483647, nsec=4294967295)
        return Qos(
            history=QosHistory.KEEP_LAST,
            depth=self.depth,
            reliability=QosReliability.RELIABLE if self.reliable else QosReliability.BEST_EFFORT,
            durability=QosDurability.TRANSIENT_LOCAL if self.latched else QosDurability.VOLATILE,
            deadline=unset,
            lifespan=unset,
            liveliness=QosLiveliness.AUTOMATIC,
            liveliness_lease_duration=unset,
            avoid_ros_namespace_conventions=False,
        )


class Standard(Enum):
    """The profiles in use, by what they are for."""

    IMAGE = Profile(depth=2)
    """Pictures: a reliable offer serves both kinds of subscriber; the newest wins."""
    EMG = Profile(depth=200)
    """At least one second of chunks: samples must not vanish."""
    STATE = Profile(depth=10)
    LATCHED = Profile(depth=1, latched=True)
    EVENT = Profile(depth=100)
    SENSOR_IN = Profile(depth=1, reliable=False)
    """Subscribing to somebody else's pictures."""


class Clock(Enum):
    """Whose clock stamps a topic. `eifer sync` brings the camera's onto the amplifier's."""

    CAMERA = "camera"
    AMPLIFIER = "amplifier"
    """EMG, and what is made at its instants: the fused face, too."""
    HOST = "host"
    """Simulation, markers, commands: what no sensor stamps."""


class Kept(Enum):
    """What `ros2 bag record` does with a topic."""

    SENSED = "sensed"
    """Recorded; it comes from a device, everything else can be made from it again."""
    DERIVED = "derived"
    """Recorded."""
    NEVER = "never"
    """Not recorded by ROS: raw pictures (the compressed ones are), what is drawn for whoever looks."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic.

    Parameters
    ----------
    name : str
        Relative to the namespace: `face/vision`.
    item : str
        Class of `types` that flows; empty for a message that is part of another topic's item or is drawn for
        RViz alone.
    label : str
        What people call it.
    qos : Standard
        Quality of service.
    keep_all : bool
        A full queue must not drop items silently.
    lazy : bool
        Made only while somebody listens.
    clock : Clock
        Whose clock stamps it.
    kept : Kept
        What a ROS recording does with it.
    prefer : int
        Among faces, 1 is taken first; 0 for what is no face to be driven or shown.
    """

    name: str
    item: str
    label: str
    qos: Standard
    keep_all: bool
    lazy: bool
    clock: Clock
    kept: Kept
    prefer: int

    def __str__(self) -> str:
        return self.name

    @property
    def latched(self) -> bool:
        """Whether a late subscriber gets the last item."""
        return self.qos.value.latched

    @property
    def synced(self) -> bool:
        """Whether its stamps move when the camera is brought onto the amplifier's clock."""
        return self.clock is Clock.CAMERA

    @cached_property
    def item_type(self) -> type[Any]:
        """The class that flows. Raises AttributeError for a topic without an item."""
        from . import types

        item_type: type[Any] = getattr(types, self.item)
        return item_type

    @cached_property
    def port(self) -> Port:
        """The topic as an input or output of a component."""
        from .component import Port

        return Port(self.name, self.item_type, self.keep_all, self.latched, self.lazy)


# fmt: off
def _table() -> tuple[Topic, ...]:
    image = Standard.IMAGE
    emg = Standard.EMG
    state = Standard.STATE
    latched = Standard.LATCHED
    event = Standard.EVENT
    camera = Clock.CAMERA
    amplifier = Clock.AMPLIFIER
    host = Clock.HOST
    sensed = Kept.SENSED
    derived = Kept.DERIVED
    never = Kept.NEVER
    #  name                           item                label                    qos      keep   lazy   clock      kept     prefer
    rows: tuple[tuple[str, str, str, Standard, bool, bool, Clock, Kept, int], ...] = (
        ("camera/image_raw",            "Frame",            "camera picture",        image,   False, False, camera,    never,   0),
        ("camera/image_raw/compressed", "",                 "camera picture, JPEG",  image,   False, False, camera,    sensed,  0),
        ("camera/camera_info",          "",                 "camera intrinsics",     image,   False, False, camera,    sensed,  0),
        ("camera/depth/image_raw",      "",                 "depth picture",         image,   False, False, camera,    sensed,  0),
        ("emg/raw",                     "EmgChunk",         "raw EMG",               emg,     True,  False, amplifier, sensed,  0),
        ("emg/raw_channels",            "EmgChannelInfo",   "channels of raw EMG",   latched, False, False, amplifier, sensed,  0),
        ("emg/channels",                "EmgChannelInfo",   "channels of activity",  latched, False, False, amplifier, derived, 0),
        ("emg/activity",                "MuscleActivity",   "muscle activity",       state,   True,  False, amplifier, derived, 0),
        ("face/fused",                  "FaceState",        "fused",                 state,   False, False, amplifier, derived, 1),
        ("face/vision",                 "FaceState",        "camera",                state,   False, False, camera,    derived, 2),
        ("face/emg",                    "FaceState",        "EMG alone",             state,   False, False, amplifier, derived, 3),
        ("face/vision_fine",            "FaceState",        "camera, fine",          state,   False, False, camera,    never,   0),
        ("face/restored",               "Frame",            "restored picture",      image,   False, True,  camera,    never,   0),
        ("face/occlusion",              "Frame",            "what is covered",       image,   False, True,  camera,    never,   0),
        ("face/blendshapes",            "Blendshapes",      "ARKit blend shapes",    state,   False, False, camera,    derived, 0),
        ("face/displacement",           "FaceDisplacement", "skin displacement",     state,   False, True,  camera,    derived, 0),
        ("face/events",                 "FaceEvent",        "micro-expressions",     event,   True,  False, camera,    derived, 0),
        ("face/mesh",                   "",                 "head in RViz",          state,   False, True,  camera,    never,   0),
        ("face/muscle_map",             "",                 "muscles in RViz",       state,   False, True,  amplifier, never,   0),
        ("muscles/estimated",           "MuscleActivity",   "estimated muscles",     state,   False, False, camera,    derived, 0),
        ("head_model",                  "HeadModelInfo",    "head model",            latched, False, False, host,      derived, 0),
        ("animatronic/joint_trajectory", "JointTargets",    "joint targets",         state,   False, False, host,      derived, 0),
        ("joint_states",                "",                 "joints in RViz",        state,   False, False, host,      derived, 0),
        ("markers",                     "Marker",           "markers",               event,   True,  False, host,      derived, 0),
        ("truth/face",                  "FaceState",        "truth",                 state,   False, False, host,      derived, 4),
        ("truth/muscles",               "MuscleActivity",   "true muscles",          state,   False, False, host,      derived, 0),
        ("truth/movement",              "Marker",           "true movements",        event,   True,  False, host,      derived, 0),
        ("truth/events",                "FaceEvent",        "true micro-expressions", event,  True,  False, host,      derived, 0),
    )
    fields = ("name", "item", "label", "qos", "keep_all", "lazy", "clock", "kept", "prefer")
    return tuple(Topic(**dict(zip(fields, row, strict=True))) for row in rows)  # type: ignore[arg-type]
# fmt: on


TOPICS: dict[str, Topic] = {topic.name: topic for topic in _table()}
"""Every topic, by relative name. `face/vision_fine` is of version 0.1: nothing makes it, its bags are read."""

CAMERA_IMAGE = TOPICS["camera/image_raw"]
CAMERA_INFO = TOPICS["camera/camera_info"]
CAMERA_DEPTH = TOPICS["camera/depth/image_raw"]
EMG_RAW = TOPICS["emg/raw"]
EMG_RAW_CHANNELS = TOPICS["emg/raw_channels"]
EMG_ACTIVITY = TOPICS["emg/activity"]
EMG_CHANNELS = TOPICS["emg/channels"]
FACE_VISION = TOPICS["face/vision"]
FACE_EMG = TOPICS["face/emg"]
FACE_FUSED = TOPICS["face/fused"]
FACE_RESTORED = TOPICS["face/restored"]
FACE_OCCLUSION = TOPICS["face/occlusion"]
FACE_BLENDSHAPES = TOPICS["face/blendshapes"]
FACE_DISPLACEMENT = TOPICS["face/displacement"]
FACE_EVENTS = TOPICS["face/events"]
FACE_MESH = TOPICS["face/mesh"]
FACE_MUSCLE_MAP = TOPICS["face/muscle_map"]
MUSCLES_ESTIMATED = TOPICS["muscles/estimated"]
HEAD_MODEL = TOPICS["head_model"]
JOINT_TRAJECTORY = TOPICS["animatronic/joint_trajectory"]
JOINT_STATES = TOPICS["joint_states"]
MARKERS = TOPICS["markers"]
TRUE_FACE = TOPICS["truth/face"]
TRUE_MUSCLES = TOPICS["truth/muscles"]
TRUE_MOVEMENT = TOPICS["truth/movement"]
TRUE_EVENTS = TOPICS["truth/events"]

LATCHED: frozenset[str] = frozenset(name for name, topic in TOPICS.items() if topic.latched)
"""Topics whose last item a late subscriber gets."""


def items() -> tuple[Topic, ...]:
    """Topics that carry an item: what a component may take or make, and what a recording may hold.

    Returns
    -------
    tuple[Topic, ...]
        In the order of the table.
    """
    return tuple(topic for topic in TOPICS.values() if topic.item)


def faces(*, truth: bool = False) -> tuple[str, ...]:
    """Names of the topics that carry a face to be driven or shown, the one to take first first.

    Parameters
    ----------
    truth : bool
        Whether the simulation's true face counts, as the last resort.

    Returns
    -------
    tuple[str, ...]
        Relative names.
    """
    ranked = sorted((topic for topic in TOPICS.values() if topic.prefer), key=lambda topic: topic.prefer)
    return tuple(topic.name for topic in ranked if truth or topic is not TRUE_FACE)


def preferred(available: Iterable[str], *, truth: bool = True) -> str | None:
    """The face to take of those that are `available`; None where there is none.

    Parameters
    ----------
    available : Iterable[str]
        Relative names.
    truth : bool, optional
        Whether the simulation's true face counts, as the last resort.

    Returns
    -------
    str or None
        Relative name.
    """
    present = frozenset(available)
    return next((name for name in faces(truth=truth) if name in present), None)


def profile(topic: str) -> Profile:
    """The profile of a relative topic name; `Standard.STATE` for one that is not in the table.

    Parameters
    ----------
    topic : str
        Relative name.

    Returns
    -------
    Profile
        Depth, reliability, latching.
    """
    return TOPICS[topic].qos.value if topic in TOPICS else Standard.STATE.value


def relative(topic: str) -> str | None:
    """`/any/namespace/face/fused` -> `face/fused`; None where no topic of eifer ends that name.

    Parameters
    ----------
    topic : str
        Absolute or relative name.

    Returns
    -------
    str or None
        Relative name.
    """
    parts = topic.strip("/").split("/")
    for start in range(len(parts)):
        name = "/".join(parts[start:])
        if name in TOPICS:
            return name
    return None
