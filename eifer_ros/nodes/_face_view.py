"""A face for RViz: its mesh, the muscles as heat on it, and the frame `face_<id>` of REP-155 (origin at the
sellion, x out, z up).

Meshes are given in the face's own frame: RViz shows them upright with that frame fixed, and in place with the
camera's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import transforms3d

from .. import topics
from ..component import Component, Emission, Health, Level, Port
from ..config import Config, parameter
from ..errors import ModelError
from ..head.model import DEFAULT_HEAD, HeadModel, load_head
from ..hosts.ros_node import NodeHost
from ..hosts.ros_part import Extra
from ..render.head_sheet import Studio
from ..topics import Profile
from ..types import F32, F64, NS, Array, FaceState, FaceStatus, Item, MuscleActivity, Stamp
from ..viewer import heat
from ..wire.messages import ROSBAGS, serialise

if TYPE_CHECKING:
    from ..hosts.ros_streams import Outlet

FACES = topics.faces()
MUSCLES = (topics.EMG_ACTIVITY.name, topics.MUSCLES_ESTIMATED.name)
MESH = topics.FACE_MESH.name
MUSCLE_MAP = topics.FACE_MUSCLE_MAP.name
TF = "/tf"
MARKER = "visualization_msgs/msg/Marker"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"
_GIVE_WAY = NS // 2
"""A poorer source is shown when a better one has been silent this long."""
_SELLION = 27
"""Place of the sellion among the 68 landmarks: the upper end of the nose bridge."""
FACE_AXES: F64 = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
"""Columns: the face frame's x (out of the face), y (to the subject's left) and z (up) in head model
coordinates.
"""


class FaceViewConfig(Config):
    """Parameters of node `face_view`."""

    source: str = parameter(
        "auto", "which face to show: auto takes the best that arrives", pattern="^(auto|fused|vision|emg)$"
    )
    head_model: str = parameter(
        DEFAULT_HEAD, "head model in models/, or the path of an .npz, that the faces belong to"
    )
    face_id: str = parameter("f1", "the frame is called face_<this>", pattern="^[a-z][a-z0-9]*$")
    rate_hz: float = parameter(10.0, "meshes per second, at most", unit="Hz", gt=0, le=60)


class FaceView(Component):
    """Keeps the newest face and muscle activity; `transform`, `mesh` and `muscle_map` make what is shown of
    them.
    """

    config_type = FaceViewConfig
    inputs: ClassVar[tuple[Port, ...]] = (*(topics.TOPICS[name].port for name in (*FACES, *MUSCLES)),)

    def __init__(self, config: FaceViewConfig | None = None) -> None:
        self.config = config or FaceViewConfig()
        self.tick_hz = self.config.rate_hz
        self.head: HeadModel | None = None
        self.draw: Callable[[], None] | None = None
        """Called at every tick."""
        self.placed: Callable[[FaceState], None] | None = None
        """Called with every face that is followed."""
        self.reset()

    def setup(self) -> None:
        """Load the head. Raises ModelError, InputError."""
        head = load_head(self.config.head_model)
        self.head = head
        self._colours = Studio(head).colours
        self._corners = head.faces.reshape(-1)
        self._warmth: dict[tuple[str, tuple[str, ...]], heat.Warmth] = {}
        self._nose = head.embedding("landmarks_68")

    def reset(self) -> None:
        """Forget the stream."""
        self.face: FaceState | None = None
        self.muscles: MuscleActivity | None = None
        self._last_received: dict[str, Stamp] = {}
        self._strongest: F64 = np.zeros(0)
        self._problem = ""
        self._neutral: tuple[bytes, F32] | None = None

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        """Keep what is to be shown."""
        if (
            isinstance(item, FaceState)
            and item.status != FaceStatus.LOST
            and self._follows(port, FACES, item.stamp)
        ):
            if self.head is not None and item.head_model != self.head.id:
                self._problem = f"faces of head model '{item.head_model}' arrive; set head_model to its file"
                return ()
            self.face = item
            if self.placed is not None:
                self.placed(item)
        elif isinstance(item, MuscleActivity) and self._follows(port, MUSCLES, item.stamp):
            self.muscles = item
        return ()

    def tick(self, now: Stamp) -> Iterable[Emission]:
        """Draw."""
        if self.draw is not None:
            self.draw()
        return ()

    def _follows(self, port: str, ranked: tuple[str, ...], stamp: Stamp) -> bool:
        if ranked is FACES and self.config.source != "auto":
            return port == f"face/{self.config.source}"
        self._last_received[port] = stamp
        better = ranked[: ranked.index(port)]
        return not any(
            abs(stamp - self._last_received[name]) < _GIVE_WAY
            for name in better
            if name in self._last_received
        )

    # ------------------------------------------------------------ what is shown

    def sellion(self, shape: F32) -> F64:
        """(3,) the sellion of a person at rest, head model coordinates, m."""
        assert self.head is not None
        corners = self.head.faces[self._nose.triangles[_SELLION]]
        coefficients = np.nan_to_num(np.asarray(shape, np.float64))
        basis = self.head.shape_basis[corners][:, :, : len(coefficients)]
        return np.asarray(
            self._nose.weights[_SELLION] @ (self.head.template[corners] + basis @ coefficients), np.float64
        )

    def transform(self, face: FaceState) -> F64 | None:
        """(4, 4) the face frame in the camera's, or None where the head's place is unknown."""
        if np.isnan(face.head_pose).any():
            return None
        placed = np.eye(4)
        placed[:3, :3], placed[:3, 3] = FACE_AXES, self.sellion(face.shape)
        return np.asarray(face.head_pose @ placed)

    def triangles(self, face: FaceState) -> F64:
        """(3 F, 3) corners of every triangle in the face frame, m."""
        assert self.head is not None
        key = face.shape.tobytes()
        if self._neutral is None or self._neutral[0] != key:
            self._neutral = (key, self.head.neutral(np.nan_to_num(face.shape)))
        vertices = self.head.state_vertices(face, neutral=self._neutral[1])
        own = (vertices.astype(np.float64) - self.sellion(face.shape)) @ FACE_AXES
        return np.asarray(own[self._corners])

    def skin(self) -> F32:
        """(3 F, 4) RGBA of every corner."""
        return self._rgba(self._colours)

    def warm(self) -> F32:
        """(3 F, 4) RGBA of every corner, warm where muscles work."""
        assert self.head is not None
        activity = self.muscles
        if activity is None:
            return self.skin()
        key = (activity.scheme, activity.muscles)
        if key not in self._warmth:
            self._warmth = {key: heat.Warmth(heat.weights(self.head, *key), self.head.parts, self._colours)}
        return self._rgba(self._warmth[key].colours(self._level(activity)))

    def _level(self, activity: MuscleActivity) -> F64:
        """0..1 of the calibration; without one, of the strongest seen so far."""
        if np.isfinite(activity.activation).any():
            return np.nan_to_num(activity.activation.astype(np.float64))
        envelope = np.nan_to_num(activity.envelope.astype(np.float64))
        if self._strongest.shape != envelope.shape:
            self._strongest = np.zeros_like(envelope)
        self._strongest = np.maximum(self._strongest, envelope)
        return np.asarray(envelope / np.maximum(self._strongest, 1e-5))

    def _rgba(self, colours: Array) -> F32:
        out = np.ones((len(self._corners), 4), np.float32)
        out[:, :3] = colours[self._corners]
        return out

    def health(self) -> Health:
        """What is shown."""
        if self._problem:
            return Health(Level.WARN, self._problem)
        return Health(Level.OK, "showing" if self.face is not None else "waiting for a face")


class FaceViewTopics(Extra):
    """`face/mesh`, `face/muscle_map` and the transform, each only while somebody listens."""

    def __init__(self, host: NodeHost, component: FaceView) -> None:
        self._host = host
        self._view = component
        newest = Profile(depth=1)
        self._mesh = host.publisher(MESH, MARKER, newest)
        self._map = host.publisher(MUSCLE_MAP, MARKER, newest)
        self._tf = host.publisher(TF, TF_MESSAGE, Profile(depth=100))
        self._frame = f"face_{component.config.face_id}"
        component.draw = self._draw
        component.placed = self._place

    def _draw(self) -> None:
        face = self._view.face
        if face is None:
            return
        outlets: list[tuple[Outlet, str, Callable[[], F32]]] = [
            (outlet, name, colours)
            for outlet, name, colours in (
                (self._mesh, MESH, self._view.skin),
                (self._map, MUSCLE_MAP, self._view.warm),
            )
            if outlet.needed
        ]
        if not outlets:
            return
        try:
            corners = self._view.triangles(face)
        except ModelError as error:
            self._host.warn("mesh", str(error))
            return
        for outlet, name, colours in outlets:
            outlet.send_bytes(triangle_marker(face.stamp, self._frame, name, corners, colours()))

    def _place(self, face: FaceState) -> None:
        if not self._tf.needed:
            return
        placed = self._view.transform(face)
        if placed is None:
            return
        outlets = self._host.outlets
        parent = (outlets.camera_frame if outlets is not None else "") or "camera_optical"
        self._tf.send(transform_message(face.stamp, parent, self._frame, placed))

    def close(self) -> None:
        """Take the topics down."""
        self._view.draw = self._view.placed = None
        for outlet in (self._mesh, self._map, self._tf):
            outlet.close()


def _header(stamp: Stamp, frame: str) -> Any:
    time = ROSBAGS.make("builtin_interfaces/msg/Time", sec=stamp // NS, nanosec=stamp % NS)
    return ROSBAGS.make("std_msgs/msg/Header", stamp=time, frame_id=frame)


def transform_message(stamp: Stamp, parent: str, child: str, placed: F64) -> Any:
    """`tf2_msgs/TFMessage` of one transform (4, 4)."""
    w, x, y, z = (float(value) for value in transforms3d.quaternions.mat2quat(placed[:3, :3]))
    transform = ROSBAGS.make(
        "geometry_msgs/msg/Transform",
        translation=ROSBAGS.make(
            "geometry_msgs/msg/Vector3", **dict(zip("xyz", map(float, placed[:3, 3]), strict=True))
        ),
        rotation=ROSBAGS.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
    )
    stamped = ROSBAGS.make(
        "geometry_msgs/msg/TransformStamped",
        header=_header(stamp, parent),
        child_frame_id=child,
        transform=transform,
    )
    return ROSBAGS.make(TF_MESSAGE, transforms=[stamped])


def _marker(stamp: Stamp, frame: str, namespace: str, points: list[Any], colours: list[Any]) -> Any:
    vector = functools.partial(ROSBAGS.make, "geometry_msgs/msg/Vector3")
    pose = ROSBAGS.make(
        "geometry_msgs/msg/Pose",
        position=ROSBAGS.make("geometry_msgs/msg/Point", x=0.0, y=0.0, z=0.0),
        orientation=ROSBAGS.make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
    )
    texture = ROSBAGS.make(
        "sensor_msgs/msg/CompressedImage", header=_header(0, ""), format="", data=np.zeros(0, np.uint8)
    )
    return ROSBAGS.make(
        MARKER,
        header=_header(stamp, frame),
        ns=namespace,
        id=0,
        type=11,
        action=0,
        pose=pose,
        scale=vector(x=1.0, y=1.0, z=1.0),
        color=ROSBAGS.make("std_msgs/msg/ColorRGBA", r=1.0, g=1.0, b=1.0, a=1.0),
        lifetime=ROSBAGS.make("builtin_interfaces/msg/Duration", sec=2, nanosec=0),
        frame_locked=True,
        points=points,
        colors=colours,
        texture_resource="",
        texture=texture,
        uv_coordinates=[],
        text="",
        mesh_resource="",
        mesh_file=ROSBAGS.make("visualization_msgs/msg/MeshFile", filename="", data=np.zeros(0, np.uint8)),
        mesh_use_embedded_materials=False,
    )


def triangle_marker(stamp: Stamp, frame: str, namespace: str, corners: F64, colours: F32) -> bytes:
    """CDR bytes of a TRIANGLE_LIST marker: corners (N, 3) m, colours (N, 4) RGBA 0..1.

    Points and colours are written as blocks: forty thousand Python objects ten times a second would take a
    core.
    """
    mark = 1.2345678e300
    point = ROSBAGS.make("geometry_msgs/msg/Point", x=mark, y=mark, z=mark)
    colour = ROSBAGS.make("std_msgs/msg/ColorRGBA", r=0.123, g=0.456, b=0.789, a=0.321)
    frame_bytes = serialise(_marker(stamp, frame, namespace, [point], [colour]))
    first = frame_bytes.index(np.full(3, mark, "<f8").tobytes())
    # CDR aligns to 8 after the 4-byte count; positions count from behind the 4-byte header
    count_at = first - 4 if int.from_bytes(frame_bytes[first - 4 : first], "little") == 1 else first - 8
    colours_at = first + 24
    rest_at = colours_at + 4 + 16
    count = len(corners).to_bytes(4, "little")
    return b"".join(
        (
            frame_bytes[:count_at],
            count,
            frame_bytes[count_at + 4 : first],
            np.ascontiguousarray(corners, "<f8").tobytes(),
            count,
            np.ascontiguousarray(colours, "<f4").tobytes(),
            frame_bytes[rest_at:],
        )
    )
