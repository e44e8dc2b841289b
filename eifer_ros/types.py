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
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]
U8: TypeAlias = npt.NDArray[np.uint8]
Bools: TypeAlias = npt.NDArray[np.bool_]
Indices: TypeAlias = npt.NDArray[np.intp]
Floats: TypeAlias = npt.NDArray[np.floating]
Array: TypeAlias = npt.NDArray[Any]

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
    """Nanoseconds to seconds. For differences only: a float cannot hold an epoch stamp to the microsecond.

    Parameters
    ----------
    stamp : int (ns)
        Nanoseconds.

    Returns
    -------
    float
        The same in seconds.
    """
    return stamp / NS


def nanoseconds(value_s: float) -> int:
    """Seconds to nanoseconds, rounded to the nearest.

    Parameters
    ----------
    value_s : float
        Seconds.

    Returns
    -------
    int
        The same in nanoseconds.
    """
    return round(value_s * NS)


def _array(owner: str, name: str, value: Any, dtype: type, shape: tuple[int | None, ...]) -> Array:
    """`value` as a contiguous read-only array of `dtype`; `None` in `shape` allows any length."""
    array: Array = np.ascontiguousarray(value, dtype=dtype)
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

    Parameters
    ----------
    stamp : int (ns)
        Acquisition.
    image : ndarray of uint8, shape (H, W, 3)
        RGB.
    intrinsics : ndarray of float64, shape (3, 3), optional
        Pinhole matrix K in pixels; None where unknown.
    depth : ndarray of float32, shape (H, W), optional
        Metres, aligned to the image, NaN or 0 where unmeasured; None where there is none.
    frame_id : str, optional
        Coordinate frame of the camera.

    Raises
    ------
    InputError
        An array has another shape or element type.
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

    Parameters
    ----------
    stamp : int (ns)
        Of the first sample.
    rate_hz : float
        Nominal sampling rate.
    channels : tuple[str, ...]
        (C,) names.
    samples : ndarray of float32, shape (N, C)
        Volts.
    first_index : int, optional
        Running counter of the first sample since the source started, lost samples counted too.
    lost : int, optional
        Samples missing immediately before this chunk.
    raw_stamps : ndarray of float64, shape (N,), optional
        Seconds on the source's own clock before any correction; length 0 where the source has none.

    Raises
    ------
    InputError
        Shapes disagree, or a rate or counter is out of range.
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

    Parameters
    ----------
    stamp : int (ns)
        The instant.
    scheme : str
        Electrode scheme (`fridlund`, `kuramoto`, ...).
    muscles : tuple[str, ...]
        (M,) names.
    envelope : ndarray of float32, shape (M,)
        Volts.
    activation : ndarray of float32, shape (M,)
        0..1 of the participant's calibration, NaN before calibration.
    quality : ndarray of float32, shape (M,)
        Contact, 0 unusable .. 1 perfect, NaN where not judged.
    origin : MuscleOrigin, optional
        Measured by electrodes, estimated from the face, or true.
    profile : str, optional
        Filter profile the envelope was made with (`live`, `rms100`, ...), empty where unknown.

    Raises
    ------
    InputError
        An array does not have one value per muscle.
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

    Parameters
    ----------
    stamp : int (ns)
        The instant.
    head_model : str
        Id of the head model the coefficients belong to.
    origin : FaceOrigin
        Which sense it comes from.
    shape : ndarray of float32, shape (S,)
        Coefficients in the model's own units.
    expression : ndarray of float32, shape (E,)
        Coefficients in the model's own units.
    expression_std : ndarray of float32, shape (E,)
        Standard deviation of each, NaN where unknown.
    jaw, neck : ndarray of float32, shape (3,)
        Axis-angle, rad, in the parent joint's frame.
    eyes : ndarray of float32, shape (2, 3)
        Axis-angle, rad, left then right.
    eyelids : ndarray of float32, shape (2,)
        Closure, 0 open .. 1 closed, left then right.
    head_pose : ndarray of float64, shape (4, 4)
        Rigid transform from head model coordinates (m; x to the subject's left, y up, z out of the face) to
        the camera's optical frame (x right, y down, z forward).
    confidence : float
        0..1.
    status : FaceStatus, optional
        Whether it may be used.

    Raises
    ------
    InputError
        An array has another shape, or the confidence is outside 0..1.
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
        """The state that says: no face in sight. Every parameter NaN, confidence 0.

        Parameters
        ----------
        stamp : int (ns)
            The instant.
        head_model : str
            Id of the head model.
        origin : FaceOrigin
            Which sense lost it.
        shape_size, expression_size : int
            Numbers of coefficients.

        Returns
        -------
        FaceState
            Status LOST.
        """

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
    """The 52 ARKit weights.

    Parameters
    ----------
    stamp : int (ns)
        The instant.
    weights : ndarray of float32, shape (52,)
        0..1, in the order of `names`.
    names : tuple[str, ...], optional
        What each weight belongs to.

    Raises
    ------
    InputError
        Not one weight per name.
    """

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
    """Commanded joint positions of an animatronic face, J joints.

    Parameters
    ----------
    stamp : int (ns)
        When they hold.
    names : tuple[str, ...]
        (J,) joints of the URDF.
    positions : ndarray of float64, shape (J,)
        Rad.
    velocity_limits : ndarray of float64, shape (J,)
        Rad/s.

    Raises
    ------
    InputError
        Not one value per joint.
    """

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
    """What a receiver must know to read coefficients, E of expression and S of shape.

    Parameters
    ----------
    stamp : int (ns)
        When it was said.
    head_model : str
        Id of the head model.
    shape_size : int
        S.
    expression_names : tuple[str, ...]
        (E,) names.
    expression_lower, expression_upper : ndarray of float32, shape (E,)
        Bounds of each coefficient.
    vertex_count, face_count : int
        Size of the mesh.
    licence, origin : str
        Of the head model, for people.

    Raises
    ------
    InputError
        Not one bound per name.
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

    Parameters
    ----------
    stamp : int (ns)
        When it was said.
    channels : tuple[str, ...]
        (C,) names.
    muscles : tuple[str, ...]
        (C,) what each channel sees.
    scheme : str
        Electrode scheme, empty where unknown.
    montage : str
        `monopolar`, `bipolar`, `average`, ...; empty where unknown.
    rate_hz : float
        Nominal sampling rate.
    positions : ndarray of float32, shape (C, 2)
        Scheme coordinates in -100..100, x < 0 on the subject's right, NaN where unknown.

    Raises
    ------
    InputError
        Not one muscle and one position per channel.
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

    Parameters
    ----------
    stamp : int (ns)
        The moment.
    label : str
        Movement (`Smile-Open`).
    phase : str
        `start`, `end` or `note`.
    note : str, optional
        Free text.

    Raises
    ------
    InputError
        Another phase.
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

    It belongs to the FaceState of the same stamp and origin.

    Parameters
    ----------
    stamp : int (ns)
        The instant.
    head_model : str
        Id of the head model whose vertices these are.
    origin : FaceOrigin
        Which sense it comes from.
    displacement : ndarray of float32, shape (V, 3)
        Metres in head model coordinates (x to the subject's left, y up, z out of the face), one row per
        vertex; NaN nowhere.
    confidence : float, optional
        0..1.

    Raises
    ------
    InputError
        Another shape, or a confidence outside 0..1.
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

    Parameters
    ----------
    stamp : int (ns)
        Of the apex.
    onset, offset : int (ns)
        Beginning and end, onset <= stamp <= offset.
    region : str
        The one of `EVENT_REGIONS` that moves most, equal to regions[0]; "" where it is not known.
    regions : tuple[str, ...]
        All that move, strongest first; empty where not known.
    label : str
        The most likely of `classes`, or "unknown".
    classes : tuple[str, ...]
        (K,) names; none where nothing was recognised.
    probabilities : ndarray of float32, shape (K,)
        0..1, one per class.
    score : float
        How far the event stands out, in the spotter's own unit, higher is surer.
    origin : FaceOrigin
        Picture, EMG, both, or the truth.
    lead_s : float, optional
        How long before the picture's onset that of the EMG came (negative: after), NaN where one sense alone
        saw it.

    Raises
    ------
    InputError
        The stamps are out of order, or a region or label is not one of the lists.
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
