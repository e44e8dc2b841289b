"""What a fit to points of the picture says of the face."""

from __future__ import annotations

import numpy as np

from ...head.model import HeadModel
from ...types import F32, F64
from ..estimators import Estimate
from ..gaze import LOOK_STD, eye_turn
from .attention_mesh import Landmarks
from .landmark_fit import Fit
from .landmark_model import LandmarkModel


def estimate_of(
    head: HeadModel, model: LandmarkModel, fit: Fit, confidence: float, landmarks: Landmarks
) -> Estimate:
    """The estimate of a fit; gaze and lids of heads with ARKit's names follow the eyes."""
    expression = fit.face[: model.expression_size].copy()
    std = fit.std[: model.expression_size].copy()
    eyes = _f32(np.array([eye_turn(yaw, pitch) for yaw, pitch in fit.gaze]))
    if model.gaze:
        looking = list(model.gaze)
        expression[looking] = head.look_weights(eyes)[looking]
        std[looking] = LOOK_STD
    if model.blink:
        eyelids = expression[list(model.blink)]
    else:
        eyelids = fit.face[model.eyelids] if model.eyelids.stop > model.eyelids.start else np.full(2, np.nan)
    jaw = fit.face[model.jaw] if model.jaw.stop > model.jaw.start else np.zeros(3)
    return Estimate(
        fit.pose,
        _f32(fit.shape),
        _f32(expression),
        _f32(std),
        _f32(jaw),
        np.zeros(3, np.float32),
        eyes,
        _f32(np.clip(eyelids, 0.0, 1.0)),
        float(confidence),
        fit.residual,
        landmarks,
    )


def finite(fit: Fit) -> bool:
    """Whether a fit is a number at all."""
    return bool(np.isfinite(fit.pose).all() and np.isfinite(fit.face).all())


def _f32(values: F64) -> F32:
    return np.asarray(values, np.float32)
