"""Domain types <-> wire types: the only place where the two meet, and the gate where bad values stop.

`to_wire` gives the messages of an item with the topic of each; `from_wire` gives the item back. Both refuse
what breaks the contract written in eifer_msgs/*.msg with a WireError that names message, field, value and
what would be accepted. A picture is several messages (camera_info, depth, image); `FrameAssembler` puts them
together again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import transforms3d

from .. import topics
from ..errors import InputError, WireError
from ..types import (
    F32,
    F64,
    MARKER_PHASES,
    NS,
    U8,
    Array,
    Blendshapes,
    EmgChannelInfo,
    EmgChunk,
    FaceDisplacement,
    FaceEvent,
    FaceOrigin,
    FaceState,
    FaceStatus,
    Frame,
    HeadModelInfo,
    Item,
    JointTargets,
    Marker,
    MuscleActivity,
    MuscleOrigin,
    Stamp,
)
from .messages import ROSBAGS, Family

Fields: TypeAlias = dict[str, Any]

MAX_SHAPE = 300
MAX_EXPRESSION = 100
MAX_CHANNELS = 256
MAX_NAMES = 128
MAX_CLASSES = 32
DISPLACEMENT_UNIT_M = 1e-5
"""What one count of FaceDisplacement.displacement stands for; int16 then reaches 0.32767 m."""
JOINT_PERIOD_NS = 40_000_000
"""`time_from_start` of a one-point trajectory: two periods at 50 Hz, so that one lost command does not stop
the motion.
"""


@dataclass(frozen=True, slots=True)
class WireMessage:
    """One message on its way out.

    Parameters
    ----------
    topic : str
        Relative name.
    type_name : str
        `eifer_msgs/msg/FlameParameters`, ...
    message : object
        Of one of the message families.
    """

    topic: str
    type_name: str
    message: Any


def _time(family: Family, stamp: Stamp) -> Any:
    if not 0 <= stamp < 2**31 * NS:
        raise WireError(
            f"stamp {stamp} ns does not fit builtin_interfaces/Time; it must lie in 0..{2**31 - 1} s"
        )
    return family.make("builtin_interfaces/msg/Time", sec=stamp // NS, nanosec=stamp % NS)


def _header(family: Family, stamp: Stamp, frame_id: str) -> Any:
    return family.make("std_msgs/msg/Header", stamp=_time(family, stamp), frame_id=frame_id)


def stamp_of(message: Any) -> Stamp:
    """Nanoseconds of a message's header. Raises WireError where nanosec is out of range.

    Parameters
    ----------
    message : object
        With a header.

    Returns
    -------
    int (ns)
        Since the epoch.

    Raises
    ------
    WireError
        Nanosec is out of range.
    """
    return _moment(f"{_name(message)}.header.stamp", message.header.stamp)


def _moment(field: str, stamp: Any) -> Stamp:
    """Nanoseconds of a `builtin_interfaces/Time`."""
    if not 0 <= stamp.nanosec < NS or stamp.sec < 0:
        raise WireError(f"{field} is {stamp.sec} s {stamp.nanosec} ns; nanosec must lie in 0..999999999")
    return int(stamp.sec) * NS + int(stamp.nanosec)


def _name(message: Any) -> str:
    return getattr(message, "__msgtype__", type(message).__name__).rsplit("/", 1)[-1]


def _f32(values: Any) -> F32:
    return np.asarray(values, np.float32)


def _copied(item: Item, *names: str) -> Fields:
    """Fields that are called the same in an item and in its message."""
    return {name: getattr(item, name) for name in names}


class _Gate:
    """Checks of one message; every complaint names message and field."""

    def __init__(self, message: str) -> None:
        self.message = message

    def _error(self, field: str, problem: str) -> WireError:
        return WireError(f"{self.message}.{field} {problem}")

    def length(
        self, field: str, value: Any, most: int | None = None, same_as: tuple[str, int] | None = None
    ) -> None:
        count = len(value)
        if most is not None and count > most:
            raise self._error(field, f"has {count} elements; at most {most} are allowed")
        if same_as is not None and count != same_as[1]:
            raise self._error(field, f"has {count} elements; it must have {same_as[1]} like {same_as[0]}")

    def lengths(self, message: Any, first: str, *others: str) -> None:
        """Every one of `others` as long as `first`."""
        same_as = (first, len(getattr(message, first)))
        for name in others:
            self.length(name, getattr(message, name), same_as=same_as)

    def values(
        self,
        field: str,
        value: Array,
        low: float = -np.inf,
        high: float = np.inf,
        *,
        nan: bool = False,
        why: str = "",
    ) -> None:
        """All of `value` finite (or NaN where `nan`) and within low..high, with a hair of rounding allowed."""
        if value.size == 0:
            return
        unknown = np.isnan(value)
        if unknown.any() and not nan:
            place = int(np.flatnonzero(unknown.ravel())[0])
            raise self._error(f"{field}[{place}]", f"is NaN; it must be a number{why}")
        present = value[~unknown]
        if present.size and not (
            np.isfinite(present).all() and present.min() >= low - 1e-6 and present.max() <= high + 1e-6
        ):
            with np.errstate(invalid="ignore"):
                wrong = ~unknown & ~((value >= low - 1e-6) & (value <= high + 1e-6) & np.isfinite(value))
            place = int(np.flatnonzero(wrong.ravel())[0])
            span = "finite" if np.isinf(low) and np.isinf(high) else f"in {low:g}..{high:g}"
            raise self._error(f"{field}[{place}]", f"is {value.ravel()[place]:g}; it must be {span}")

    def text(self, field: str, value: str) -> None:
        if not value:
            raise self._error(field, "is empty; it must name something")

    def confidence(self, message: Any) -> float:
        value = float(message.confidence)
        self.values("confidence", np.array([value]), 0.0, 1.0)
        return min(max(value, 0.0), 1.0)

    def member(self, field: str, value: int, enum: type[Any]) -> Any:
        try:
            return enum(int(value))
        except ValueError:
            members = ", ".join(f"{member.value} {member.name}" for member in enum)
            raise self._error(field, f"is {value}; it must be one of {members}") from None


# ---------------------------------------------------------------- EMG


def _check_chunk(item: EmgChunk) -> None:
    gate = _Gate("EmgChunk")
    gate.length("channels", item.channels, MAX_CHANNELS)
    gate.values("samples", item.samples)
    gate.values("raw_stamps", item.raw_stamps)
    if not np.isfinite(item.rate_hz):
        raise WireError(f"EmgChunk.rate_hz is {item.rate_hz}; it must be finite and above 0")


def _chunk_fields(item: EmgChunk, _: Family) -> Fields:
    return _copied(item, "channels", "first_index", "lost", "raw_stamps") | {
        "rate_hz": float(item.rate_hz),
        "frames": len(item.samples),
        "samples": item.samples.ravel(),
    }


def _chunk_from(message: Any) -> EmgChunk:
    channels = tuple(message.channels)
    samples = _f32(message.samples)
    if samples.size != message.frames * len(channels):
        raise WireError(
            f"EmgChunk.samples has {samples.size} elements; it must have frames x channels = {message.frames} x {len(channels)}"
        )
    raw = np.asarray(message.raw_stamps, np.float64)
    _Gate("EmgChunk").length("raw_stamps", raw, same_as=("frames", message.frames) if len(raw) else None)
    return EmgChunk(
        stamp_of(message),
        float(message.rate_hz),
        channels,
        samples.reshape(message.frames, len(channels)),
        int(message.first_index),
        int(message.lost),
        raw,
    )


def _check_channels(item: EmgChannelInfo) -> None:
    gate = _Gate("EmgChannelInfo")
    gate.length("channels", item.channels, MAX_CHANNELS)
    gate.values("position", item.positions, -100.0, 100.0, nan=True)
    if not (np.isfinite(item.rate_hz) and item.rate_hz > 0):
        raise WireError(f"EmgChannelInfo.rate_hz is {item.rate_hz}; it must be finite and above 0")


def _channels_fields(item: EmgChannelInfo, _: Family) -> Fields:
    return _copied(item, "channels", "muscles", "scheme", "montage") | {
        "rate_hz": float(item.rate_hz),
        "position_x": item.positions[:, 0],
        "position_y": item.positions[:, 1],
    }


def _channels_from(message: Any) -> EmgChannelInfo:
    _Gate("EmgChannelInfo").lengths(message, "channels", "muscles", "position_x", "position_y")
    positions = np.column_stack([_f32(message.position_x), _f32(message.position_y)])
    return EmgChannelInfo(
        stamp_of(message),
        tuple(message.channels),
        tuple(message.muscles),
        message.scheme,
        message.montage,
        float(message.rate_hz),
        positions,
    )


def _check_activity(item: MuscleActivity) -> None:
    gate = _Gate("MuscleActivity")
    gate.length("muscles", item.muscles, MAX_CHANNELS)
    gate.values("envelope", item.envelope, 0.0, nan=True)
    gate.values("activation", item.activation, 0.0, 1.0, nan=True)
    gate.values("quality", item.quality, 0.0, 1.0, nan=True)


def _activity_fields(item: MuscleActivity, _: Family) -> Fields:
    return _copied(item, "scheme", "profile", "muscles", "envelope", "activation", "quality") | {
        "origin": int(item.origin),
    }


def _activity_from(message: Any) -> MuscleActivity:
    gate = _Gate("MuscleActivity")
    gate.lengths(message, "muscles", "envelope", "activation", "quality")
    return MuscleActivity(
        stamp_of(message),
        message.scheme,
        tuple(message.muscles),
        _f32(message.envelope),
        _f32(message.activation),
        _f32(message.quality),
        gate.member("origin", message.origin, MuscleOrigin),
        message.profile,
    )


# ---------------------------------------------------------------- face


def _check_face(item: FaceState) -> None:
    gate = _Gate("FlameParameters")
    lost = item.status == FaceStatus.LOST
    why = " unless status is LOST"
    gate.text("head_model", item.head_model)
    gate.length("shape", item.shape, MAX_SHAPE)
    gate.length("expression", item.expression, MAX_EXPRESSION)
    for name in ("shape", "expression", "jaw", "neck", "eyes"):
        gate.values(name, getattr(item, name), nan=lost, why=why)
    gate.values("eyelids", item.eyelids, 0.0, 1.0, nan=lost, why=why)
    gate.values("expression_std", item.expression_std, 0.0, nan=True)
    gate.values("head_pose", item.head_pose, nan=True)
    unknown = np.isnan(item.head_pose)
    if unknown.any() and not unknown.all():
        raise WireError("FlameParameters.head_pose is partly NaN; it must be known whole or not at all")
    rotation = item.head_pose[:3, :3]
    if not unknown.any() and not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5):
        raise WireError("FlameParameters.head_pose is not rigid; its upper left 3 x 3 must be a rotation")


def _face_fields(item: FaceState, family: Family) -> Fields:
    return _copied(item, "head_model", "shape", "expression", "expression_std", "jaw", "neck", "eyelids") | {
        "origin": int(item.origin),
        "status": int(item.status),
        "confidence": float(item.confidence),
        "left_eye": item.eyes[0],
        "right_eye": item.eyes[1],
        "head_pose": _pose_to(item.head_pose, family),
    }


def _face_from(message: Any) -> FaceState:
    gate = _Gate("FlameParameters")
    gate.lengths(message, "expression", "expression_std")
    for name, size in (("jaw", 3), ("neck", 3), ("left_eye", 3), ("right_eye", 3), ("eyelids", 2)):
        gate.length(name, getattr(message, name), same_as=("its definition", size))
    confidence = gate.confidence(message)
    return FaceState(
        stamp_of(message),
        message.head_model,
        gate.member("origin", message.origin, FaceOrigin),
        _f32(message.shape),
        _f32(message.expression),
        _f32(message.expression_std),
        _f32(message.jaw),
        _f32(message.neck),
        np.stack([_f32(message.left_eye), _f32(message.right_eye)]),
        _f32(message.eyelids),
        _pose_from(message.head_pose),
        confidence,
        gate.member("status", message.status, FaceStatus),
    )


def _pose_to(pose: F64, family: Family) -> Any:
    quaternion = (
        np.full(4, np.nan) if np.isnan(pose).any() else transforms3d.quaternions.mat2quat(pose[:3, :3])
    )
    w, x, y, z = (float(value) for value in quaternion)
    position = dict(zip("xyz", (float(value) for value in pose[:3, 3]), strict=True))
    return family.make(
        "geometry_msgs/msg/Pose",
        position=family.make("geometry_msgs/msg/Point", **position),
        orientation=family.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
    )


def _pose_from(message: Any) -> F64:
    position = np.array([message.position.x, message.position.y, message.position.z])
    turn = np.array(
        [message.orientation.w, message.orientation.x, message.orientation.y, message.orientation.z]
    )
    if np.isnan(position).all() and np.isnan(turn).all():
        return np.full((4, 4), np.nan)
    norm = float(np.linalg.norm(turn))
    if not abs(norm - 1.0) < 1e-3:
        raise WireError(
            f"FlameParameters.head_pose.orientation has length {norm:g}; a quaternion must have length 1"
        )
    pose = np.eye(4)
    pose[:3, :3] = transforms3d.quaternions.quat2mat(turn / norm)
    pose[:3, 3] = position
    return pose


def _check_blendshapes(item: Blendshapes) -> None:
    gate = _Gate("Blendshapes")
    gate.length("names", item.names, MAX_NAMES)
    gate.values("weights", item.weights, 0.0, 1.0)


def _blendshapes_fields(item: Blendshapes, _: Family) -> Fields:
    return {
        "names": item.names,
        "weights": item.weights,
    }


def _blendshapes_from(message: Any) -> Blendshapes:
    _Gate("Blendshapes").lengths(message, "names", "weights")
    return Blendshapes(stamp_of(message), _f32(message.weights), tuple(message.names))


def _check_info(item: HeadModelInfo) -> None:
    gate = _Gate("HeadModelInfo")
    gate.text("head_model", item.head_model)
    gate.length("expression_names", item.expression_names, MAX_EXPRESSION)
    gate.values("expression_lower", item.expression_lower)
    gate.values("expression_upper", item.expression_upper)
    wrong = np.flatnonzero(item.expression_lower > item.expression_upper)
    if len(wrong):
        name = item.expression_names[wrong[0]]
        raise WireError(f"HeadModelInfo: the lower bound of '{name}' lies above its upper bound")


def _info_fields(item: HeadModelInfo, _: Family) -> Fields:
    return _copied(
        item,
        "head_model",
        "shape_size",
        "expression_names",
        "expression_lower",
        "expression_upper",
        "vertex_count",
        "face_count",
        "licence",
        "origin",
    )


def _info_from(message: Any) -> HeadModelInfo:
    _Gate("HeadModelInfo").lengths(message, "expression_names", "expression_lower", "expression_upper")
    return HeadModelInfo(
        stamp_of(message),
        message.head_model,
        int(message.shape_size),
        tuple(message.expression_names),
        _f32(message.expression_lower),
        _f32(message.expression_upper),
        int(message.vertex_count),
        int(message.face_count),
        message.licence,
        message.origin,
    )


# ---------------------------------------------------------------- small movements


def _check_displacement(item: FaceDisplacement) -> None:
    gate = _Gate("FaceDisplacement")
    gate.text("head_model", item.head_model)
    reach = 32767 * DISPLACEMENT_UNIT_M
    gate.values("displacement", item.displacement, -reach, reach)


def _displacement_fields(item: FaceDisplacement, _: Family) -> Fields:
    counts = np.clip(
        np.rint(item.displacement.astype(np.float64) / DISPLACEMENT_UNIT_M), -32767, 32767
    ).astype(np.int16)
    return {
        "head_model": item.head_model,
        "origin": int(item.origin),
        "confidence": float(item.confidence),
        "displacement": counts.ravel(),
    }


def _displacement_from(message: Any) -> FaceDisplacement:
    gate = _Gate("FaceDisplacement")
    counts = np.asarray(message.displacement, np.int16)
    if counts.size % 3:
        raise WireError(
            f"FaceDisplacement.displacement has {counts.size} elements; it must have three per vertex"
        )
    confidence = gate.confidence(message)
    return FaceDisplacement(
        stamp_of(message),
        message.head_model,
        gate.member("origin", message.origin, FaceOrigin),
        (counts.reshape(-1, 3) * DISPLACEMENT_UNIT_M).astype(np.float32),
        confidence,
    )


def _check_event(item: FaceEvent) -> None:
    gate = _Gate("FaceEvent")
    gate.text("label", item.label)
    gate.length("classes", item.classes, MAX_CLASSES)
    gate.values("probabilities", item.probabilities, 0.0, 1.0)
    gate.values("score", np.array([item.score]))
    gate.values("lead_s", np.array([item.lead_s]), nan=True)


def _event_fields(item: FaceEvent, family: Family) -> Fields:
    return _copied(item, "region", "regions", "label", "classes", "probabilities") | {
        "onset": _time(family, item.onset),
        "offset": _time(family, item.offset),
        "score": float(item.score),
        "origin": int(item.origin),
        "lead_s": float(item.lead_s),
    }


def _event_from(message: Any) -> FaceEvent:
    gate = _Gate("FaceEvent")
    gate.lengths(message, "classes", "probabilities")
    return FaceEvent(
        stamp_of(message),
        _moment("FaceEvent.onset", message.onset),
        _moment("FaceEvent.offset", message.offset),
        message.region,
        tuple(message.regions),
        message.label,
        tuple(message.classes),
        _f32(message.probabilities),
        float(message.score),
        gate.member("origin", message.origin, FaceOrigin),
        float(message.lead_s),
    )


# ---------------------------------------------------------------- joints, markers


def _joints_fields(item: JointTargets, family: Family) -> Fields:
    point = family.make(
        "trajectory_msgs/msg/JointTrajectoryPoint",
        positions=item.positions,
        velocities=np.zeros(0),
        accelerations=np.zeros(0),
        effort=np.zeros(0),
        time_from_start=family.make(
            "builtin_interfaces/msg/Duration", sec=JOINT_PERIOD_NS // NS, nanosec=JOINT_PERIOD_NS % NS
        ),
    )
    return {
        "joint_names": item.names,
        "points": [point],
    }


def _joints_from(message: Any) -> JointTargets:
    """The first point of a trajectory.

    Velocity limits do not travel in this message: they come back NaN, unknown.
    """
    if len(message.points) == 0:
        raise WireError("JointTrajectory.points is empty; one point with a position per joint is needed")
    positions = np.asarray(message.points[0].positions, np.float64)
    gate = _Gate("JointTrajectory")
    gate.length("points[0].positions", positions, same_as=("joint_names", len(message.joint_names)))
    gate.values("points[0].positions", positions)
    return JointTargets(
        stamp_of(message), tuple(message.joint_names), positions, np.full(len(positions), np.nan)
    )


def _joint_state_fields(item: JointTargets, _: Family) -> Fields:
    """For RViz and robot_state_publisher: where the joints are commanded to be."""
    return {
        "name": item.names,
        "position": item.positions,
        "velocity": np.zeros(0),
        "effort": np.zeros(0),
    }


def _joint_state_from(message: Any) -> JointTargets:
    positions = np.asarray(message.position, np.float64)
    gate = _Gate("JointState")
    gate.lengths(message, "name", "position")
    gate.values("position", positions)
    return JointTargets(stamp_of(message), tuple(message.name), positions, np.full(len(positions), np.nan))


def _marker_fields(item: Marker, _: Family) -> Fields:
    return {
        "label": item.label,
        "phase": MARKER_PHASES.index(item.phase) + 1,
        "note": item.note,
    }


def _marker_from(message: Any) -> Marker:
    if not 1 <= message.phase <= len(MARKER_PHASES):
        raise WireError(f"Marker.phase is {message.phase}; it must be 1 start, 2 end or 3 note")
    return Marker(stamp_of(message), message.label, MARKER_PHASES[message.phase - 1], message.note)


# ---------------------------------------------------------------- pictures


def _image(family: Family, stamp: Stamp, frame_id: str, pixels: Array, encoding: str) -> Any:
    return family.make(
        "sensor_msgs/msg/Image",
        header=_header(family, stamp, frame_id),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.strides[0],
        data=np.ascontiguousarray(pixels).view(np.uint8).reshape(-1),
    )


def _camera_info(item: Frame, family: Family) -> Any:
    assert item.intrinsics is not None
    width, height = item.size
    matrix = item.intrinsics
    return family.make(
        "sensor_msgs/msg/CameraInfo",
        header=_header(family, item.stamp, item.frame_id),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=matrix.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.hstack([matrix, np.zeros((3, 1))]).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=family.make(
            "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        ),
    )


def frame_to_wire(
    item: Frame, port: str, family: Family = ROSBAGS, *, jpeg_quality: int = 0
) -> list[WireMessage]:
    """camera_info, depth, then the picture, so that a reader has the others when the picture arrives.

    Parameters
    ----------
    item : Frame
        The picture.
    port : str
        Its topic.
    family : Family, optional
        Which message classes to make.
    jpeg_quality : int, optional
        1..100 sends `sensor_msgs/CompressedImage` on `<port>/compressed` and depth as 16UC1 millimetres; 0
        sends the raw rgb8 image and depth as 32FC1 metres.

    Returns
    -------
    list[WireMessage]
        In the order to be sent.

    Raises
    ------
    WireError
        The picture cannot be encoded.
    """
    base = port.rsplit("/", 1)[0]
    messages = []
    if item.intrinsics is not None:
        messages.append(
            WireMessage(f"{base}/camera_info", "sensor_msgs/msg/CameraInfo", _camera_info(item, family))
        )
    if item.depth is not None:
        pixels: Array = item.depth
        encoding = "32FC1"
        if jpeg_quality:
            pixels = np.clip(np.nan_to_num(item.depth) * 1000.0 + 0.5, 0, 65535).astype(np.uint16)
            encoding = "16UC1"
        depth = _image(family, item.stamp, item.frame_id, pixels, encoding)
        messages.append(WireMessage(f"{base}/depth/image_raw", "sensor_msgs/msg/Image", depth))
    if jpeg_quality:
        done, data = cv2.imencode(
            ".jpg", cv2.cvtColor(item.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
        )
        if not done:
            raise WireError(f"a {item.size[0]} x {item.size[1]} picture could not be compressed")
        message = family.make(
            "sensor_msgs/msg/CompressedImage",
            header=_header(family, item.stamp, item.frame_id),
            format="rgb8; jpeg compressed bgr8",
            data=data.reshape(-1),
        )
        messages.append(WireMessage(f"{port}/compressed", "sensor_msgs/msg/CompressedImage", message))
    else:
        pixels = np.ascontiguousarray(item.image)
        messages.append(
            WireMessage(
                port, "sensor_msgs/msg/Image", _image(family, item.stamp, item.frame_id, pixels, "rgb8")
            )
        )
    return messages


# fmt: off
_PIXELS: dict[str, tuple[type, int]] = {
    "rgb8": (np.uint8, 3), "bgr8": (np.uint8, 3), "rgba8": (np.uint8, 4), "bgra8": (np.uint8, 4), "mono8": (np.uint8, 1),
    "8UC1": (np.uint8, 1), "8UC3": (np.uint8, 3), "mono16": (np.uint16, 1), "16UC1": (np.uint16, 1), "32FC1": (np.float32, 1),
}
# fmt: on


def pixels_of(message: Any) -> Array:
    """Pixels of a `sensor_msgs/Image`, honouring `step` and byte order. No cv_bridge.

    Parameters
    ----------
    message : object
        The image.

    Returns
    -------
    ndarray, shape (H, W)
        Or (H, W, C) in the encoding's element type.

    Raises
    ------
    WireError
        An unknown encoding, or sizes that disagree.
    """
    if message.encoding not in _PIXELS:
        raise WireError(f"Image.encoding is '{message.encoding}'; supported are {', '.join(_PIXELS)}")
    kind, depth = _PIXELS[message.encoding]
    row = message.width * depth * np.dtype(kind).itemsize
    data = np.frombuffer(memoryview(message.data), np.uint8)
    if message.step < row or data.size < message.step * message.height:
        raise WireError(
            f"Image is {message.width} x {message.height} {message.encoding} with step {message.step} but holds {data.size} bytes; "
            f"step must be at least {row} and data step x height"
        )
    rows = np.ascontiguousarray(
        data[: message.step * message.height].reshape(message.height, message.step)[:, :row]
    )
    pixels: Array = rows.view(np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")).astype(
        kind, copy=False
    )
    return pixels.reshape(message.height, message.width, depth) if depth > 1 else pixels


def picture_of(message: Any) -> U8:
    """RGB of a `sensor_msgs/Image` or `CompressedImage`.

    Parameters
    ----------
    message : object
        The image.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        RGB.

    Raises
    ------
    WireError
        It cannot be decoded.
    """
    if hasattr(message, "format"):
        data = np.frombuffer(memoryview(message.data), np.uint8)
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if bgr is None:
            raise WireError(
                f"CompressedImage with format '{message.format}' could not be decoded ({data.size} bytes)"
            )
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    pixels = pixels_of(message)
    if pixels.dtype != np.uint8:
        raise WireError(
            f"Image.encoding is '{message.encoding}'; a camera picture must be rgb8, bgr8, rgba8, bgra8 or mono8"
        )
    # cv2 is ten times as fast as an index along the last axis
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    if pixels.shape[2] == 4:
        return np.asarray(
            cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB if message.encoding == "bgra8" else cv2.COLOR_RGBA2RGB),
            np.uint8,
        )
    return (
        pixels
        if message.encoding == "rgb8"
        else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
    )


DEPTH_ENCODINGS = ("16UC1", "mono16", "32FC1")


class FrameAssembler:
    """Joins camera_info, depth and picture into a `Frame`; the picture completes it.

    Intrinsics are those last seen for the picture's size; depth counts only with the picture's own stamp.
    """

    def __init__(self) -> None:
        self._intrinsics: dict[tuple[int, int], F64] = {}
        self._depth: tuple[Stamp, F32] | None = None

    def add(self, message: Any) -> Frame | None:
        """Take one of the messages of a camera.

        Parameters
        ----------
        message : object
            Camera_info, depth or picture.

        Returns
        -------
        Frame or None
            A Frame when it was the picture.
        """
        if hasattr(message, "distortion_model"):
            matrix = np.asarray(message.k, np.float64).reshape(3, 3)
            _Gate("CameraInfo").values("k", matrix)
            if matrix[0, 0] > 0:  # all zeros means uncalibrated (sensor_msgs/CameraInfo)
                self._intrinsics[(int(message.width), int(message.height))] = matrix
            return None
        stamp = stamp_of(message)
        if getattr(message, "encoding", "") in DEPTH_ENCODINGS:
            depth = pixels_of(message)
            metres = depth.astype(np.float32) / 1000.0 if depth.dtype == np.uint16 else depth
            self._depth = (stamp, np.asarray(metres, np.float32))
            return None
        image = picture_of(message)
        height, width = image.shape[:2]
        aligned = (
            self._depth[1]
            if self._depth and self._depth[0] == stamp and self._depth[1].shape == (height, width)
            else None
        )
        return Frame(
            stamp,
            image,
            self._intrinsics.get((width, height)),
            aligned,
            message.header.frame_id or "camera_optical",
        )


# ---------------------------------------------------------------- the table


def _check_joints(item: JointTargets) -> None:
    _Gate("JointTargets").values("positions", item.positions)


@dataclass(frozen=True, slots=True)
class _Codec:
    """How items of one type travel as messages of one type."""

    type_name: str
    fields: Callable[[Any, Family], Fields]
    """All fields but the header."""
    read: Callable[[Any], Item]
    check: Callable[[Any], None] = lambda item: None
    """Of what leaves and of what was read."""
    frame_id: str = ""

    def encode(self, item: Any, family: Family, frame_id: str) -> Any:
        self.check(item)
        header = _header(family, item.stamp, frame_id or self.frame_id)
        return family.make(self.type_name, header=header, **self.fields(item, family))

    def decode(self, message: Any) -> Item:
        item = self.read(message)
        self.check(item)
        return item


# fmt: off
_TO: dict[type, _Codec] = {
    EmgChunk: _Codec("eifer_msgs/msg/EmgChunk", _chunk_fields, _chunk_from, _check_chunk, "emg"),
    EmgChannelInfo: _Codec("eifer_msgs/msg/EmgChannelInfo", _channels_fields, _channels_from, _check_channels, "emg"),
    MuscleActivity: _Codec("eifer_msgs/msg/MuscleActivity", _activity_fields, _activity_from, _check_activity, "emg"),
    FaceState: _Codec("eifer_msgs/msg/FlameParameters", _face_fields, _face_from, _check_face, "camera_optical"),
    Blendshapes: _Codec("eifer_msgs/msg/Blendshapes", _blendshapes_fields, _blendshapes_from, _check_blendshapes, "face"),
    HeadModelInfo: _Codec("eifer_msgs/msg/HeadModelInfo", _info_fields, _info_from, _check_info),
    JointTargets: _Codec("trajectory_msgs/msg/JointTrajectory", _joints_fields, _joints_from, _check_joints),
    Marker: _Codec("eifer_msgs/msg/Marker", _marker_fields, _marker_from, frame_id="operator"),
    FaceDisplacement: _Codec("eifer_msgs/msg/FaceDisplacement", _displacement_fields, _displacement_from, _check_displacement, "head"),
    FaceEvent: _Codec("eifer_msgs/msg/FaceEvent", _event_fields, _event_from, _check_event, "face"),
}
# fmt: on

JOINT_STATES = topics.JOINT_STATES.name
"""The one port on which JointTargets leave as sensor_msgs/JointState."""
_JOINT_STATE = _Codec("sensor_msgs/msg/JointState", _joint_state_fields, _joint_state_from, _check_joints)

_FROM = {codec.type_name: codec for codec in (*_TO.values(), _JOINT_STATE)}

FRAME_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo")
"""Wire types that belong to a `FrameAssembler`."""


def wire_type(item_type: type) -> str:
    """Wire type name of a domain type other than Frame.

    Parameters
    ----------
    item_type : type
        Of `types`.

    Returns
    -------
    str
        `eifer_msgs/msg/FlameParameters`, ...
    """
    return _TO[item_type].type_name


def wire_type_on(port: str, item_type: type) -> str:
    """Wire type name of what leaves through `port`.

    Parameters
    ----------
    port : str
        Relative topic name.
    item_type : type
        Of `types`.

    Returns
    -------
    str
        `eifer_msgs/msg/FlameParameters`, ...
    """
    return _JOINT_STATE.type_name if port == JOINT_STATES else wire_type(item_type)


def to_wire(
    item: Item, port: str, family: Family = ROSBAGS, *, frame_id: str = "", jpeg_quality: int = 0
) -> list[WireMessage]:
    """The messages of an item.

    Parameters
    ----------
    item : Item
        What leaves.
    port : str
        Relative topic name.
    family : Family, optional
        Which message classes to make.
    frame_id : str, optional
        Of the header, where the item has none.
    jpeg_quality : int, optional
        Of pictures, see `frame_to_wire`.

    Returns
    -------
    list[WireMessage]
        In the order to be sent.

    Raises
    ------
    WireError
        The item breaks the contract of its message.
    """
    if isinstance(item, Frame):
        return frame_to_wire(item, port, family, jpeg_quality=jpeg_quality)
    codec = _TO[type(item)] if port != JOINT_STATES else _JOINT_STATE
    return [WireMessage(port, codec.type_name, codec.encode(item, family, frame_id))]


def from_wire(message: Any, type_name: str) -> Item:
    """The item a message stands for.

    Parameters
    ----------
    message : object
        Of any of the message families.
    type_name : str
        Its type.

    Returns
    -------
    Item
        What it holds.

    Raises
    ------
    WireError
        It breaks its contract.
    """
    if type_name not in _FROM:
        raise WireError(f"{type_name} is not a type of eifer's items; pictures go through FrameAssembler")
    try:
        return _FROM[type_name].decode(message)
    except InputError as error:
        raise WireError(str(error)) from None
