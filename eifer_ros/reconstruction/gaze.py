"""Where the eyes look: from where the iris stands in the lid opening, compared with the resting head."""

from __future__ import annotations

import numpy as np

from ..types import F64
from .landmarks.attention_mesh import IRIS_LEFT, IRIS_RIGHT
from .landmarks.landmark_model import LandmarkModel

_RING_LEFT = (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398)
_RING_RIGHT = (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173)
_SHUT = 0.12
"""Height of the lid opening over its width below which no iris is seen."""
LOOK_STD = 0.15
"""Standard deviation of the eyeLook coefficients that follow from a gaze."""


def gaze_of(
    model: LandmarkModel,
    coefficients: F64,
    rotation: F64,
    origin: F64,
    pixels: F64,
    drawn: F64,
    intrinsics: F64,
    last: F64,
) -> F64:
    """(2, 2) yaw and pitch of the left and right eye in rad; `last` (2, 2) where the lids are shut.

    coefficients: (C + S,) of `model`. rotation (3, 3), origin (3,): head to camera. pixels, drawn: (478, 2)
    landmarks as seen and as the fitted head would show them with its eyes straight ahead. intrinsics: fx, fy,
    cx, cy.
    """
    out = last.copy()
    centres = model.eye_centres + model.eye_basis @ coefficients
    for eye, (iris, ring) in enumerate(((IRIS_LEFT, _RING_LEFT), (IRIS_RIGHT, _RING_RIGHT))):
        rim = list(ring)
        shift = (pixels[rim] - drawn[rim]).mean(axis=0)  # the fit's own error at this eye is no gaze
        opening = np.linalg.norm(pixels[rim[12]] - pixels[rim[4]]) / np.linalg.norm(
            pixels[rim[0]] - pixels[rim[8]]
        )
        if opening < _SHUT:
            continue
        radius = float(np.linalg.norm(model.iris[eye] - model.eye_centres[eye]))
        centre = rotation @ centres[eye] + origin
        iris_xy = (pixels[iris] - shift - intrinsics[2:4]) / intrinsics[:2] * (centre[2] - radius)
        sideways = rotation.T @ np.array([*(iris_xy - centre[:2]), -radius])
        resting = model.iris[eye] - model.eye_centres[eye]
        out[eye, 0] = np.arcsin(np.clip((sideways[0] - resting[0]) / radius, -0.7, 0.7))
        out[eye, 1] = -np.arcsin(np.clip((sideways[1] - resting[1]) / radius, -0.6, 0.6))
    return out


def eye_turn(yaw: float, pitch: float) -> F64:
    """(3,) axis-angle that turns the z axis by `yaw` about y and `pitch` about x."""
    target = np.array([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    axis = np.array([-target[1], target[0], 0.0])
    length = float(np.linalg.norm(axis))
    return np.asarray(axis * (np.arctan2(length, target[2]) / length)) if length > 1e-9 else np.zeros(3)
