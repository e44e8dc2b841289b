"""The nouns of the domain. Numpy inside, SI units, frozen dataclasses; they know nothing of middleware.

Every item carries the acquisition stamp of what it was made from, in integer nanoseconds since the Unix
epoch, never the time at which it was published. A value that is not known is NaN, and a status says so.

The dataclasses check shapes and element types when they are built (`InputError`), so that a wrong array fails
where it is made and not three components later. Whether values are finite is checked at the wire
(`wire/conversions.py`), because NaN is a legitimate "unknown" inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import InputError

Stamp: TypeAlias = int
"""Nanoseconds since the Unix epoch, at acquisition."""

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
U8: TypeAlias = npt.NDArray[np.uint8]

NS = 1_000_000_000

# fmt: off
ARKIT_52: tuple[str, ...] = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel", "mouthLeft",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight",
    "tongueOut",
)
# fmt: on
"""The 52 ARKit blendshape names in alphabetical order, the order used everywhere in eifer."""


class FaceOrigin(IntEnum):
    """Which sense a FaceState comes from."""

    UNKNOWN = 0
    VISION = 1
    EMG = 2
    FUSED = 3
    TRUTH = 4


class FaceStatus(IntEnum):
    """Whether a FaceState may be used."""

    UNKNOWN = 0
    TRACKING = 1
    LOST = 2
    """No face in sight: parameters are NaN, confidence is 0."""
    PREDICTED = 3
    """Carried on without a fresh measurement; the standard deviation grows."""


class MuscleOrigin(IntEnum):
    """Whether muscle activity was measured by electrodes or estimated from the face."""

    UNKNOWN = 0
    MEASURED = 1
    ESTIMATED = 2
    TRUTH = 3


def seconds(stamp: Stamp) -> float:
    """Nanoseconds to seconds. For differences only: a float cannot hold an epoch stamp to the microsecond."""
    return stamp / NS


def nanoseconds(value_s: float) -> int:
    """Seconds to nanoseconds, rounded to the nearest."""
    return round(value_s * NS)


def _array(owner: str, name: str, value: Any, dtype: type, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
    """`value` as a contiguous read-only array of `dtype`; `None` in `shape` allows any length."""
    array: npt.NDArray[Any] = np.ascontiguousarray(value, dtype=dtype)
    fits = array.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, array.shape, strict=True)
    )
    if not fits:
        expected = " x ".join("any" if n is None else str(n) for n in shape)
        got = " x ".join(str(n) for n in array.shape) or "scalar"
        raise InputError(f"{owner}.{name} has shape {got}; it must be {expected}")
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def _unit(owner: str, name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InputError(f"{owner}.{name} is {value}; it must lie in 0..1")


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera picture.

    image: (H, W, 3) uint8 RGB. intrinsics: (3, 3) pinhole matrix K in pixels, or None where unknown. depth:
    (H, W) float32 metres aligned to the image, NaN or 0 where unmeasured, or None.
    """

    stamp: Stamp
    image: U8
    intrinsics: F64 | None = None
    depth: F32 | None = None
    frame_id: str = "camera_optical"

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise InputError(
                f"Frame.image is {self.image.dtype} {self.image.shape}; it must be uint8 height x width x 3 (RGB)"
            )
        if self.intrinsics is not None:
            object.__setattr__(
                self, "intrinsics", _array("Frame", "intrinsics", self.intrinsics, np.float64, (3, 3))
            )
        if self.depth is not None:
            height, width = self.image.shape[:2]
            object.__setattr__(
                self, "depth", _array("Frame", "depth", self.depth, np.float32, (height, width))
            )

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.image.shape[1], self.image.shape[0]


@dataclass(frozen=True, slots=True)
class EmgChunk:
    """A run of consecutive EMG samples.

    stamp: of the first sample. rate_hz: nominal sampling rate. samples: (N, C) float32 volts. first_index:
    running counter of the first sample since the source started, counting lost samples too. lost: samples
    missing immediately before this chunk. raw_stamps: (N,) float64 seconds on the source's own clock before
    any correction, or length 0 where the source has none.
    """

    stamp: Stamp
    rate_hz: float
    channels: tuple[str, ...]
    samples: F32
    first_index: int = 0
    lost: int = 0
    raw_stamps: F64 = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(
            self,
            "samples",
            _array("EmgChunk", "samples", self.samples, np.float32, (None, len(self.channels))),
        )
        count = 0 if len(self.raw_stamps) == 0 else len(self.samples)
        object.__setattr__(
            self, "raw_stamps", _array("EmgChunk", "raw_stamps", self.raw_stamps, np.float64, (count,))
        )
        if not self.rate_hz > 0:
            raise InputError(f"EmgChunk.rate_hz is {self.rate_hz}; it must be above 0")
        if self.first_index < 0 or self.lost < 0:
            raise InputError(
                f"EmgChunk counters must not be negative (first_index {self.first_index}, lost {self.lost})"
            )

    @property
    def end_stamp(self) -> Stamp:
        """Stamp of the sample that would follow the last one."""
        return self.stamp + nanoseconds(len(self.samples) / self.rate_hz)


@dataclass(frozen=True, slots=True)
class MuscleActivity:
    """Muscle activity at one instant, M muscles or channels.

    envelope: (M,) float32 volts. activation: (M,) float32, 0..1 of the participant's calibration, NaN before
    calibration. quality: (M,) float32, 0 unusable .. 1 perfect contact, NaN where not judged. profile: filter
    profile the envelope was made with (`live`, `rms100`, ...), empty where unknown.
    """

    stamp: Stamp
    scheme: str
    muscles: tuple[str, ...]
    envelope: F32
    activation: F32
    quality: F32
    origin: MuscleOrigin = MuscleOrigin.MEASURED
    profile: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "muscles", tuple(self.muscles))
        for name in ("envelope", "activation", "quality"):
            value = _array("MuscleActivity", name, getattr(self, name), np.float32, (len(self.muscles),))
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class FaceState:
    """Parameters of a head model at one instant.

    head_model: id of the head model the coefficients belong to. shape: (S,) and expression: (E,) float32
    coefficients in the model's own units. expression_std: (E,) float32 standard deviation of each, NaN where
    unknown. jaw, neck: (3,) axis-angle rad in the parent joint's frame. eyes: (2, 3) axis-angle rad, left
    then right. eyelids: (2,) closure 0 open .. 1 closed, left then right. head_pose: (4, 4) float64 rigid
    transform from head model coordinates (m; x to the subject's left, y up, z out of the face) to the camera
    optical frame (x right, y down, z forward). confidence: 0..1.
    """

    stamp: Stamp
    head_model: str
    origin: FaceOrigin
    shape: F32
    expression: F32
    expression_std: F32
    jaw: F32
    neck: F32
    eyes: F32
    eyelids: F32
    head_pose: F64
    confidence: float
    status: FaceStatus = FaceStatus.TRACKING

    def __post_init__(self) -> None:
        count = len(self.expression)
        for name, dtype, shape in (
            ("shape", np.float32, (None,)),
            ("expression", np.float32, (None,)),
            ("expression_std", np.float32, (count,)),
            ("jaw", np.float32, (3,)),
            ("neck", np.float32, (3,)),
            ("eyes", np.float32, (2, 3)),
            ("eyelids", np.float32, (2,)),
            ("head_pose", np.float64, (4, 4)),
        ):
            object.__setattr__(self, name, _array("FaceState", name, getattr(self, name), dtype, shape))
        _unit("FaceState", "confidence", self.confidence)

    @staticmethod
    def lost(
        stamp: Stamp, head_model: str, origin: FaceOrigin, shape_size: int, expression_size: int
    ) -> FaceState:
        """The state that says: no face in sight. Every parameter NaN, confidence 0."""

        def nan(*shape: int) -> F32:
            return np.full(shape, np.nan, np.float32)

        return FaceState(
            stamp,
            head_model,
            origin,
            nan(shape_size),
            nan(expression_size),
            nan(expression_size),
            nan(3),
            nan(3),
            nan(2, 3),
            nan(2),
            np.full((4, 4), np.nan),
            0.0,
            FaceStatus.LOST,
        )


@dataclass(frozen=True, slots=True)
class Blendshapes:
    """The 52 ARKit weights, (52,) float32 in 0..1, in the order of `names`."""

    stamp: Stamp
    weights: F32
    names: tuple[str, ...] = ARKIT_52

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(
            self, "weights", _array("Blendshapes", "weights", self.weights, np.float32, (len(self.names),))
        )


@dataclass(frozen=True, slots=True)
class JointTargets:
    """Commanded joint positions of an animatronic face, (J,) float64 rad, with velocity limits (J,) rad/s."""

    stamp: Stamp
    names: tuple[str, ...]
    positions: F64
    velocity_limits: F64

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        for name in ("positions", "velocity_limits"):
            value = _array("JointTargets", name, getattr(self, name), np.float64, (len(self.names),))
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class HeadModelInfo:
    """What a receiver must know to read coefficients: names and bounds, E expression coefficients, S shape
    coefficients.
    """

    stamp: Stamp
    head_model: str
    shape_size: int
    expression_names: tuple[str, ...]
    expression_lower: F32
    expression_upper: F32
    vertex_count: int
    face_count: int
    licence: str
    origin: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "expression_names", tuple(self.expression_names))
        for name in ("expression_lower", "expression_upper"):
            value = _array(
                "HeadModelInfo", name, getattr(self, name), np.float32, (len(self.expression_names),)
            )
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class EmgChannelInfo:
    """What a receiver must know to read EMG: names, montage, scheme and where each electrode sits.

    positions: (C, 2) float32 scheme coordinates in -100..100, x < 0 on the subject's right, NaN where
    unknown.
    """

    stamp: Stamp
    channels: tuple[str, ...]
    muscles: tuple[str, ...]
    scheme: str
    montage: str
    rate_hz: float
    positions: F32

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "muscles", tuple(self.muscles))
        if len(self.muscles) != len(self.channels):
            raise InputError(
                f"EmgChannelInfo has {len(self.channels)} channels but {len(self.muscles)} muscles"
            )
        positions = _array("EmgChannelInfo", "positions", self.positions, np.float32, (len(self.channels), 2))
        object.__setattr__(self, "positions", positions)


@dataclass(frozen=True, slots=True)
class Marker:
    """A moment of the protocol: a movement starts or ends, or somebody made a note.

    label: movement name (`Smile-Open`). phase: `start`, `end` or `note`.
    """

    stamp: Stamp
    label: str
    phase: str
    note: str = ""

    def __post_init__(self) -> None:
        if self.phase not in MARKER_PHASES:
            raise InputError(f"Marker.phase is '{self.phase}'; it must be one of {', '.join(MARKER_PHASES)}")


MARKER_PHASES = ("start", "end", "note")

EVENT_REGIONS: tuple[str, ...] = ("eye_left", "eye_right", "lips_left", "lips_right")
"""Where a micro-expression shows: the four parts of the face of HTNet (Wang et al.

2024); left and right are the subject's.
"""

UNKNOWN_LABEL = "unknown"
"""Label of an event that is none of the known classes, or not surely one of them."""


@dataclass(frozen=True, slots=True)
class FaceDisplacement:
    """Where the skin is, relative to what the head model's coefficients say, vertex by vertex.

    displacement: (V, 3) float32 m in head model coordinates (x to the subject's left, y up, z out of the
    face), one row per vertex of `head_model`; NaN nowhere. confidence: 0..1. It belongs to the FaceState of
    the same stamp and origin.
    """

    stamp: Stamp
    head_model: str
    origin: FaceOrigin
    displacement: F32
    confidence: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(
            self,
            "displacement",
            _array("FaceDisplacement", "displacement", self.displacement, np.float32, (None, 3)),
        )
        _unit("FaceDisplacement", "confidence", self.confidence)


@dataclass(frozen=True, slots=True)
class FaceEvent:
    """A micro-expression: a small, fast movement of the face.

    stamp: of the apex. onset, offset: stamps of its beginning and end, onset <= stamp <= offset. region: the
    one of `EVENT_REGIONS` that moves most, equal to regions[0]; regions: all that move, strongest first;
    empty and "" where it is not known. label: the most likely of `classes`, or "unknown". probabilities: (K,)
    float32, one per class, 0..1; no classes where nothing was recognised. score: how far the event stands
    out, in the spotter's own unit, higher is surer. lead_s: how long before the picture's onset that of the
    EMG came (negative: after), NaN where one sense alone saw it.
    """

    stamp: Stamp
    onset: Stamp
    offset: Stamp
    region: str
    regions: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    probabilities: F32
    score: float
    origin: FaceOrigin
    lead_s: float = math.nan

    def __post_init__(self) -> None:
        object.__setattr__(self, "regions", tuple(self.regions))
        object.__setattr__(self, "classes", tuple(self.classes))
        probabilities = _array(
            "FaceEvent", "probabilities", self.probabilities, np.float32, (len(self.classes),)
        )
        object.__setattr__(self, "probabilities", probabilities)
        if not self.onset <= self.stamp <= self.offset:
            raise InputError(
                f"FaceEvent: onset {self.onset}, apex {self.stamp}, offset {self.offset} ns; they must follow each other in this order"
            )
        for name in self.regions:
            if name not in EVENT_REGIONS:
                raise InputError(f"FaceEvent.regions holds '{name}'; known are {', '.join(EVENT_REGIONS)}")
        if len(set(self.regions)) != len(self.regions):
            raise InputError(f"FaceEvent.regions names a region twice: {', '.join(self.regions)}")
        if self.region != (self.regions[0] if self.regions else ""):
            raise InputError(
                f"FaceEvent.region is '{self.region}'; it must be the first of regions ({', '.join(self.regions) or 'none'})"
            )
        if self.label != UNKNOWN_LABEL and self.classes and self.label not in self.classes:
            raise InputError(
                f"FaceEvent.label is '{self.label}'; it must be '{UNKNOWN_LABEL}' or one of {', '.join(self.classes)}"
            )

    @property
    def duration_s(self) -> float:
        """From onset to offset."""
        return (self.offset - self.onset) / NS


Item: TypeAlias = (
    Frame
    | EmgChunk
    | MuscleActivity
    | FaceState
    | Blendshapes
    | JointTargets
    | HeadModelInfo
    | EmgChannelInfo
    | Marker
    | FaceDisplacement
    | FaceEvent
)
"""Anything that flows between components."""
