"""What an estimator is to the reconstruction: a picture in, an estimate of one face out, or None where there
is no face.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..config import DeviceConfig
from ..head.model import HeadModel
from ..types import F32, F64, FaceOrigin, FaceState, Frame, Stamp
from .landmarks.attention_mesh import Crop, Landmarks
from .landmarks.tracker import TrackerCounts


@dataclass(frozen=True)
class Estimate:
    """One face in one picture, in the coefficients of a head model.

    Parameters
    ----------
    pose : ndarray of float64, shape (4, 4)
        Head to camera, m.
    shape : ndarray of float32, shape (S,)
        Coefficients.
    expression : ndarray of float32, shape (E,)
        Coefficients.
    expression_std : ndarray of float32, shape (E,)
        Standard deviation, NaN where it is not known.
    jaw, neck : ndarray of float32, shape (3,)
        Axis-angle, rad.
    eyes : ndarray of float32, shape (2, 3)
        Axis-angle, rad, left then right.
    eyelids : ndarray of float32, shape (2,)
        0 open .. 1 closed, NaN where the head has none.
    confidence : float
        0..1.
    residual : float, optional
        How far what was measured in the picture lies from the head, over the distance of the outer eye
        corners; NaN where nothing was measured.
    landmarks : Landmarks, optional
        478 points in the picture, for overlays; None for an estimator that places none.
    crop : Crop, optional
        Where to restore the face; None where the landmarks say it.
    """

    pose: F64
    shape: F32
    expression: F32
    expression_std: F32
    jaw: F32
    neck: F32
    eyes: F32
    eyelids: F32
    confidence: float
    residual: float = math.nan
    landmarks: Landmarks | None = None
    crop: Crop | None = None

    def state(self, head: HeadModel, stamp: Stamp) -> FaceState:
        """As a face.

        Parameters
        ----------
        head : HeadModel
            The model it was estimated with.
        stamp : int (ns)
            Of the picture.

        Returns
        -------
        FaceState
            Origin VISION.
        """
        return FaceState(
            stamp,
            head.id,
            FaceOrigin.VISION,
            self.shape,
            self.expression,
            self.expression_std,
            self.jaw,
            self.neck,
            self.eyes,
            self.eyelids,
            self.pose,
            self.confidence,
        )


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
        """The face in a picture.

        Parameters
        ----------
        frame : Frame
            The picture.
        intrinsics : ndarray of float64, shape (3, 3)
            Pinhole matrix, px.
        elapsed_s : float
            Time since the picture before.

        Returns
        -------
        Estimate or None
            None where there is no face.
        """
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
        """How long the parts of the last estimate took, by name.

        Returns
        -------
        dict[str, float]
            Ms by name.
        """
        ...


def depth_at(depth: F32, landmarks: Landmarks) -> F32:
    """Depth around each landmark, the median of 3 x 3 pixels.

    Parameters
    ----------
    depth : ndarray of float32, shape (H, W)
        Metres.
    landmarks : Landmarks
        L points in the picture.

    Returns
    -------
    ndarray of float32, shape (L,)
        Metres, NaN where nothing was measured.
    """
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
