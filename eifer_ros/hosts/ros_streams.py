"""Topics of a node: what leaves its components, and what comes to them from others.

Messages cross rclpy as bytes: the conversions and the serialiser are those of every other host, tested
against rosidl's, and an EMG chunk or a picture costs a tenth of what Python classes of rosidl would.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

from .. import topics
from ..component import Port
from ..errors import WireError
from ..topics import Profile, Standard, profile
from ..types import NS, FaceState, Frame, Item, Stamp
from ..wire import conversions
from ..wire.messages import deserialise, ros_class, serialise

CAMERA_INFO = topics.CAMERA_INFO.name
DEPTH = topics.CAMERA_DEPTH.name
OVERRIDES = QoSOverridingOptions(
    (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
)
"""What a user may change of a topic, as parameters `qos_overrides.<topic>.<publisher|subscription>.<policy>`.
"""
DEPTH_WAIT_NS = NS // 10
"""So long after its last message depth counts as flowing, and a picture waits for its own."""


class HousekeepingGroup(ReentrantCallbackGroup):  # type: ignore[misc]
    """For what may wait half a second: looked after for a moment whenever `poll` was called, left out of the
    executor's waiting otherwise.

    Every waiting of rclpy's executor costs time for each thing waited for, in Python; a node has an event of
    its own for each publisher, and two dozen of them took more of a core than all messages.
    """

    MOMENT_S = 0.03

    def __init__(self) -> None:
        super().__init__()
        self._until = 0.0

    def poll(self) -> None:
        """Now is a moment."""
        self._until = time.monotonic() + self.MOMENT_S

    def can_execute(self, entity: Any) -> bool:
        """Whether a moment is on."""
        return time.monotonic() < self._until


def ros_qos(requested: Profile) -> QoSProfile:
    """A profile of `topics.py` in rclpy's words."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=requested.depth,
        reliability=ReliabilityPolicy.RELIABLE if requested.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if requested.latched else DurabilityPolicy.VOLATILE,
    )


def describe_qos(qos: QoSProfile) -> str:
    """`reliable, volatile, keep last 10`."""
    words = (qos.reliability.name.lower().replace("_", " "), qos.durability.name.lower().replace("_", " "))
    return f"{words[0]}, {words[1]}, keep last {qos.depth}"


class Owner(Protocol):
    """What topics need of the node they belong to."""

    node: Any
    housekeeping_group: HousekeepingGroup

    def now(self) -> Stamp:
        """The node's clock."""
        ...

    def warn(self, key: str, text: str) -> None:
        """Log, at most every few seconds for each `key`."""
        ...


@dataclass
class Traffic:
    """What went through a topic. rejected: messages that broke their contract.

    arrivals: node clock of the last two hundred.
    """

    topic: str = ""
    qos: str = ""
    count: int = 0
    rejected: int = 0
    incompatible: int = 0
    since: Stamp = 0
    age_s: float = float("nan")
    problem: str = ""
    arrivals: deque[Stamp] = field(default_factory=lambda: deque(maxlen=200))

    @property
    def last(self) -> Stamp:
        """When the last one came; 0 for never."""
        return self.arrivals[-1] if self.arrivals else 0

    def add(self, now: Stamp, stamp: Stamp | None = None) -> None:
        """One more."""
        self.count += 1
        self.arrivals.append(now)
        if stamp is not None:
            self.age_s = (now - stamp) / NS

    def rate_hz(self, now: Stamp) -> float:
        """Messages per second over the last two hundred, or over the last two seconds where there were fewer;
        0 when silent.
        """
        recent = [when for when in list(self.arrivals) if 0 <= now - when < 2 * NS]
        if len(recent) < 2 or recent[-1] <= recent[0]:
            return 0.0
        return (len(recent) - 1) * NS / (recent[-1] - recent[0])

    def restart(self, now: Stamp) -> None:
        """A new run: silence counts from now."""
        self.since = now
        self.arrivals.clear()


class Outlet:
    """One published topic. Nothing is converted while nobody listens, unless it is latched."""

    def __init__(self, owner: Owner, topic: str, type_name: str, requested: Profile) -> None:
        self._owner = owner
        self.type_name = type_name
        self.latched = requested.latched
        self.publisher = owner.node.create_lifecycle_publisher(
            ros_class(type_name),
            topic,
            ros_qos(requested),
            qos_overriding_options=OVERRIDES,
            event_callbacks=PublisherEventCallbacks(
                incompatible_qos=self._incompatible, use_default_callbacks=False
            ),
            callback_group=owner.housekeeping_group,
        )
        self.traffic = Traffic(self.publisher.topic_name, describe_qos(self.publisher.qos_profile))

    @property
    def needed(self) -> bool:
        """Whether it is worth making the message."""
        return self.publisher.is_activated and (self.latched or self.publisher.get_subscription_count() > 0)

    @property
    def subscribed(self) -> bool:
        """Whether somebody subscribes."""
        return bool(self.publisher.get_subscription_count() > 0)

    def send(self, message: Any) -> None:
        """Publish a `rosbags` message."""
        self.send_bytes(serialise(message))

    def send_bytes(self, data: bytes) -> None:
        """Publish a message that is CDR already."""
        self.publisher.publish(data)
        self.traffic.add(self._owner.now())

    def _incompatible(self, event: Any) -> None:
        self.traffic.incompatible += 1
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        self._owner.warn(
            f"qos {self.traffic.topic}",
            f"a subscriber of {self.traffic.topic} asks for a QoS ({policy}) that is not offered ({self.traffic.qos}): it gets no message",
        )

    def close(self) -> None:
        """Take the topic down."""
        self._owner.node.destroy_lifecycle_publisher(self.publisher)


class Outlets:
    """Every topic that a node's components publish.

    `take` is a tap: items of ports it does not know pass by.
    """

    def __init__(self, owner: Owner, ports: Iterable[Port], jpeg_quality: int) -> None:
        self._owner = owner
        self._quality = jpeg_quality
        self.camera_frame = ""
        """Frame id of the camera that faces are seen by; empty until a picture or a face tells."""
        self.topics: dict[str, Outlet] = {}
        self._pictures: dict[str, tuple[str, ...]] = {}
        self._ports: set[str] = set()
        for port in ports:
            self._ports.add(port.name)
            if port.item is not Frame:
                self._open(
                    port.name,
                    conversions.wire_type_on(port.name, port.item),
                    replace(profile(port.name), latched=port.latched),
                )
                continue
            pictures = {
                port.name: "sensor_msgs/msg/Image",
                f"{port.name}/compressed": "sensor_msgs/msg/CompressedImage",
            }
            if port.name.startswith("camera/"):
                pictures |= {CAMERA_INFO: "sensor_msgs/msg/CameraInfo", DEPTH: "sensor_msgs/msg/Image"}
            base = owner.node.resolve_topic_name(port.name)
            for topic, type_name in pictures.items():
                # image_transport's rule: the compressed topic follows the picture's, wherever that was
                # remapped to
                self._open(
                    topic,
                    type_name,
                    Standard.IMAGE.value,
                    f"{base}/compressed" if topic.endswith("/compressed") else topic,
                )
            self._pictures[port.name] = tuple(pictures)

    def _open(self, name: str, type_name: str, requested: Profile, topic: str | None = None) -> None:
        if name not in self.topics:
            self.topics[name] = Outlet(self._owner, topic or name, type_name, requested)

    def subscribed(self) -> frozenset[str]:
        """Ports that somebody subscribes to."""
        return frozenset(
            port
            for port in self._ports
            if any(self.topics[topic].subscribed for topic in self._pictures.get(port, (port,)))
        )

    def take(self, port: str, item: Item) -> None:
        """Publish an item. What its contract forbids is counted, and the stream goes on."""
        if isinstance(item, Frame):
            self.camera_frame = item.frame_id
        if port not in self._ports:
            return
        try:
            if isinstance(item, Frame):
                self._picture(port, item)
                return
            outlet = self.topics[port]
            if outlet.needed:
                frame_id = self.camera_frame if isinstance(item, FaceState) else ""
                outlet.send(conversions.to_wire(item, port, frame_id=frame_id)[0].message)
        except WireError as error:
            traffic = self.topics[port].traffic
            traffic.rejected += 1
            traffic.problem = str(error)
            self._owner.warn(f"out {port}", f"not published on {traffic.topic}: {error}")

    def _picture(self, port: str, frame: Frame) -> None:
        subscribed = {topic for topic in self._pictures[port] if self.topics[topic].needed}
        if not subscribed:
            return
        intrinsics = frame.intrinsics if CAMERA_INFO in subscribed else None
        messages = conversions.frame_to_wire(
            replace(frame, intrinsics=intrinsics, depth=frame.depth if DEPTH in subscribed else None), port
        )
        compressed = f"{port}/compressed"
        if compressed in subscribed:
            messages += conversions.frame_to_wire(
                replace(frame, intrinsics=None, depth=None), port, jpeg_quality=self._quality
            )
        for message in messages:
            if message.topic in subscribed:
                self.topics[message.topic].send(message.message)

    def close(self) -> None:
        """Take every topic down."""
        for outlet in self.topics.values():
            outlet.close()
        self.topics.clear()


class Inlet:
    """One subscribed topic; hands decoded messages on.

    What breaks its contract is refused, counted and reported.
    """

    def __init__(
        self,
        owner: Owner,
        topic: str,
        type_name: str,
        requested: Profile,
        feed: Callable[[Any], Stamp | None],
    ) -> None:
        self._owner = owner
        self._feed = feed
        self.type_name = type_name
        self.subscription = owner.node.create_subscription(
            ros_class(type_name),
            topic,
            self._receive,
            ros_qos(requested),
            raw=True,
            qos_overriding_options=OVERRIDES,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._incompatible, use_default_callbacks=False
            ),
        )
        self.traffic = Traffic(self.subscription.topic_name, describe_qos(self.subscription.qos_profile))

    def _receive(self, data: bytes) -> None:
        now = self._owner.now()
        try:
            stamp = self._feed(deserialise(data, self.type_name))
        except WireError as error:
            self.traffic.rejected += 1
            self.traffic.problem = str(error)
            self.traffic.arrivals.append(now)
            self._owner.warn(
                f"in {self.traffic.topic}",
                f"{self.traffic.rejected} messages on {self.traffic.topic} refused, the last: {error}",
            )
            return
        self.traffic.add(now, stamp)

    def _incompatible(self, event: Any) -> None:
        self.traffic.incompatible += 1
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        name = self.traffic.topic
        self._owner.warn(
            f"qos {name}",
            f"a publisher of {name} offers a QoS ({policy}) incompatible with what is asked for ({self.traffic.qos}): none of its messages "
            f"arrive; change it there, or here by the parameter qos_overrides.{name}.subscription.{policy.lower()}",
        )

    def publishers(self) -> str:
        """Who publishes there, for a person who wonders why nothing arrives."""
        infos = self._owner.node.get_publishers_info_by_topic(self.traffic.topic)
        if not infos:
            return "nobody publishes it"
        descriptions = [
            f"{info.node_name} ({info.topic_type}; {describe_qos(info.qos_profile)})" for info in infos
        ]
        return f"published by {', '.join(descriptions)}"

    def close(self) -> None:
        """Unsubscribe."""
        self._owner.node.destroy_subscription(self.subscription)


class Inlets:
    """Every topic that a node's components need from others.

    put: takes each item by port, in the executor's thread.

    transport: `raw` or `compressed` pictures. depth: also take depth; a picture then waits for the depth of
    its own stamp while depth flows. told_frame: gets the camera frame that faces are given in.
    """

    def __init__(
        self,
        owner: Owner,
        ports: Iterable[Port],
        put: Callable[[str, Item], None],
        *,
        transport: str = "raw",
        depth: bool = False,
        on_frame_id: Callable[[str], None] = lambda frame_id: None,
    ) -> None:
        self._put = put
        self._on_frame_id = on_frame_id
        self.topics: dict[str, list[Inlet]] = {}
        """By port; the first of each is the one that must not be silent."""
        self.latched: dict[str, Item] = {}
        """The last item of each latched port, for a run that starts later."""
        for port in ports:
            if port.item is Frame:
                self.topics[port.name] = self._camera(owner, port.name, transport, depth)
                continue
            requested = replace(profile(port.name), latched=port.latched)
            type_name = conversions.wire_type_on(port.name, port.item)
            self.topics[port.name] = [
                Inlet(owner, port.name, type_name, requested, self._feeder(port, type_name))
            ]

    def _feeder(self, port: Port, type_name: str) -> Callable[[Any], Stamp]:
        def feed(message: Any) -> Stamp:
            item = conversions.from_wire(message, type_name)
            if isinstance(item, FaceState) and message.header.frame_id:
                self._on_frame_id(message.header.frame_id)
            if port.latched:
                self.latched[port.name] = item
            self._put(port.name, item)
            return item.stamp

        return feed

    def _camera(self, owner: Owner, port: str, transport: str, depth: bool) -> list[Inlet]:
        pairing = DepthPairing(lambda frame: self._put(port, frame), wait_ns=DEPTH_WAIT_NS if depth else 0)
        best = Standard.SENSOR_IN.value
        base = owner.node.resolve_topic_name(port)
        picture = (port, "sensor_msgs/msg/Image")
        if transport == "compressed":
            picture = (f"{base}/compressed", "sensor_msgs/msg/CompressedImage")
        inlets = [Inlet(owner, *picture, best, pairing.add)]
        if port.startswith("camera/"):
            inlets.append(Inlet(owner, CAMERA_INFO, "sensor_msgs/msg/CameraInfo", best, pairing.add))
            if depth:
                inlets.append(Inlet(owner, DEPTH, "sensor_msgs/msg/Image", best, pairing.add))
        return inlets

    def close(self) -> None:
        """Unsubscribe from everything."""
        for inlets in self.topics.values():
            for inlet in inlets:
                inlet.close()
        self.topics.clear()


class DepthPairing:
    """Pictures with the depth of their own stamp, whichever arrives first; without depth they pass at once.

    While depth flows a picture waits for its own, at most until the next picture.
    """

    def __init__(self, put: Callable[[Frame], None], wait_ns: int = 0) -> None:
        self._put = put
        self._wait_ns = wait_ns
        self._assembler = conversions.FrameAssembler()
        self._depth: Stamp | None = None
        self._waiting: Any = None

    def add(self, message: Any) -> Stamp | None:
        """Take a picture, a camera_info or a depth picture. Raises WireError."""
        if hasattr(message, "distortion_model"):
            self._assembler.add(message)
            return None
        stamp = conversions.stamp_of(message)
        if getattr(message, "encoding", "") in conversions.DEPTH_ENCODINGS:
            self._assembler.add(message)
            self._depth = stamp
            if self._waiting is not None and conversions.stamp_of(self._waiting) <= stamp:
                self._release()
            return stamp
        self._release()
        self._waiting = message
        flows = self._depth is not None and abs(stamp - self._depth) <= self._wait_ns
        if not flows or self._depth == stamp:
            self._release()
        return stamp

    def _release(self) -> None:
        message = self._waiting
        self._waiting = None
        if message is not None:
            frame = self._assembler.add(message)
            if frame is not None:
                self._put(frame)
