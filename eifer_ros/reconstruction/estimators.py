"""What an estimator is to the reconstruction: a picture in, an estimate of one face out, or None where there
is no face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..config import DeviceConfig
from ..head.model import HeadModel
from ..types import F32, F64, FaceOrigin, FaceState, Frame, Stamp
from .gaze import LOOK_STD, eye_turn
from .landmarks.attention_mesh import Landmarks
from .landmarks.landmark_fit import Fit
from .landmarks.landmark_model import LandmarkModel
from .landmarks.tracker import TrackerCounts


@dataclass(frozen=True)
class Estimate:
    """One face in one picture. fit: its parameters. confidence: 0..1.

    landmarks: (478) points in the picture, for overlays.
    """

    fit: Fit
    confidence: float
    landmarks: Landmarks


class EstimatorConfig(DeviceConfig):
    """Base of the parameters that only one kind of estimator has; its name in the config may carry them, as a
    URL does. What every kind shares is in `ReconstructionConfig`.
    """


class Estimator(Protocol):
    """One way to read a face.

    It follows one face; a picture that shows none gives None and forgets the motion, not the person. A class
    in the registry has a `config_type` (an `EstimatorConfig`) and a class method
    `create(config, head, shared)` that makes one from its own config, a `HeadModel` and the
    `ReconstructionConfig`.
    """

    @property
    def model(self) -> LandmarkModel:
        """The head model at its landmarks."""
        ...

    @property
    def name(self) -> str:
        """What `Health` says was used."""
        ...

    @property
    def reason(self) -> str:
        """Why this one, where there was a choice."""
        ...

    @property
    def counts(self) -> TrackerCounts:
        """Pictures with and without a face, and searches."""
        ...

    def estimate(self, frame: Frame, intrinsics: F64, elapsed_s: float) -> Estimate | None:
        """The face in `frame`. elapsed_s: time since the picture before."""
        ...

    def warm_up(self) -> None:
        """Compile and touch everything, so that the first picture is as fast as the thousandth; leaves no
        trace.
        """
        ...

    def reset(self) -> None:
        """Forget the face and the person."""
        ...

    def times_ms(self) -> dict[str, float]:
        """How long the parts of the last estimate took, by name."""
        ...


def state_of(
    head: HeadModel, model: LandmarkModel, stamp: Stamp, estimate: Estimate, blink: list[int]
) -> FaceState:
    """The FaceState of an estimate.

    blink: columns of the expression that close the lids, left and right, or none.
    """
    fit = estimate.fit
    expression = fit.face[: model.expression_size].copy()
    std = fit.std[: model.expression_size].copy()
    eyes = _f32(np.array([eye_turn(yaw, pitch) for yaw, pitch in fit.gaze]))
    if model.gaze:
        looking = list(model.gaze)
        expression[looking] = head.look_weights(eyes)[looking]
        std[looking] = LOOK_STD
    if blink:
        eyelids = expression[blink]
    else:
        eyelids = fit.face[model.eyelids] if model.eyelids.stop > model.eyelids.start else np.full(2, np.nan)
    jaw = fit.face[model.jaw] if model.jaw.stop > model.jaw.start else np.zeros(3)
    return FaceState(
        stamp,
        head.id,
        FaceOrigin.VISION,
        _f32(fit.shape),
        _f32(expression),
        _f32(std),
        _f32(jaw),
        np.zeros(3, np.float32),
        eyes,
        _f32(np.clip(eyelids, 0.0, 1.0)),
        fit.pose,
        float(estimate.confidence),
    )


def finite(fit: Fit) -> bool:
    """Whether a fit is a number at all."""
    return bool(np.isfinite(fit.pose).all() and np.isfinite(fit.face).all())


def depth_at(depth: F32, landmarks: Landmarks) -> F32:
    """(L,) median depth of 3 x 3 pixels around each landmark, NaN where nothing was measured."""
    height, width = depth.shape
    finite = np.isfinite(landmarks.points[:, :2]).all(axis=1)
    column = np.rint(np.where(finite, landmarks.points[:, 0], -1.0)).astype(int)
    row = np.rint(np.where(finite, landmarks.points[:, 1], -1.0)).astype(int)
    inside = (column >= 1) & (row >= 1) & (column < width - 1) & (row < height - 1)
    out = np.full(len(column), np.nan, np.float32)
    steps = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])
    if inside.any():
        values = depth[row[inside][:, None] + steps[:, 0], column[inside][:, None] + steps[:, 1]].astype(
            np.float32
        )
        values = np.where((values > 0) & np.isfinite(values), values, np.nan)
        enough = np.isfinite(values).sum(axis=1) >= 5
        picked = np.full(len(values), np.nan, np.float32)
        picked[enough] = np.nanmedian(values[enough], axis=1)
        out[inside] = picked
    return out


def _f32(values: F64) -> F32:
    return np.asarray(values, np.float32)
