"""One vocabulary of topics and quality of service, for ROS, for bags and for the docs.

Launch files read it too: it needs nothing but the standard library until a bag's profile is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rosbags.interfaces import Qos

NAMESPACE = "/eifer"
"""Default namespace; topic names in components are relative to it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Quality of service of a topic: reliable or best effort, how many messages are kept, latched or not."""

    depth: int
    reliable: bool = True
    latched: bool = False

    def offered(self) -> Qos:
        """As a bag's metadata lists it."""
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


TOPICS: dict[str, Standard] = {
    "camera/image_raw": Standard.IMAGE,
    "camera/image_raw/compressed": Standard.IMAGE,
    "camera/camera_info": Standard.IMAGE,
    "camera/depth/image_raw": Standard.IMAGE,
    "emg/raw": Standard.EMG,
    "emg/activity": Standard.STATE,
    "emg/channels": Standard.LATCHED,
    "emg/raw_channels": Standard.LATCHED,
    "face/vision": Standard.STATE,
    "face/vision_fine": Standard.STATE,
    "face/emg": Standard.STATE,
    "face/fused": Standard.STATE,
    "face/restored": Standard.IMAGE,
    "face/occlusion": Standard.IMAGE,
    "face/blendshapes": Standard.STATE,
    "face/displacement": Standard.STATE,
    "face/events": Standard.EVENT,
    "head_model": Standard.LATCHED,
    "muscles/estimated": Standard.STATE,
    "animatronic/joint_trajectory": Standard.STATE,
    "joint_states": Standard.STATE,
    "markers": Standard.EVENT,
    "truth/face": Standard.STATE,
    "truth/muscles": Standard.STATE,
    "truth/movement": Standard.EVENT,
    "truth/events": Standard.EVENT,
}


def profile(topic: str) -> Profile:
    """The profile of a relative topic name; `Standard.STATE` for one that is not in the table."""
    return TOPICS.get(topic, Standard.STATE).value


def relative(topic: str) -> str | None:
    """`/any/namespace/face/fused` -> `face/fused`; None where no topic of eifer ends that name."""
    parts = topic.strip("/").split("/")
    for start in range(len(parts)):
        name = "/".join(parts[start:])
        if name in TOPICS:
            return name
    return None
