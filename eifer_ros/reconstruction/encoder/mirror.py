"""The left and right of a face exchanged: what an encoder says of a mirrored picture, said of the picture
itself.

A network that looks at a picture and at its mirror image errs differently; the mean of both errs less
(test-time augmentation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ...head.model import HeadModel
from ...types import F64, Indices
from ..landmarks.landmark_model import LandmarkModel
from .face_crop import POINTS

_NEAR_M = 1e-3
"""A landmark's mirror image lies this near to the landmark of the other side."""
_ALIKE = 0.9
"""Correlation from which a shape component counts as symmetric (or its opposite)."""

_X: F64 = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Mirror:
    """expression (E,), points (L,): which one stands for each.

    signs: (S,) 1 for shapes alike on both sides, -1 for opposite ones.
    """

    expression: Indices
    points: Indices
    signs: F64

    @staticmethod
    def of(head: HeadModel) -> Mirror | None:
        """That of `head`; None where its coefficients have no left and right that can be told (names, points,
        shapes).
        """
        names = list(head.expression_names)
        swapped = [
            name.replace("Left", "\0").replace("Right", "Left").replace("\0", "Right") for name in names
        ]
        if not any(one != other for one, other in zip(names, swapped, strict=True)) or any(
            name not in names for name in swapped
        ):
            return None
        model = LandmarkModel.of(head)
        rows = list(POINTS)
        rest = model.template[rows]
        distance, points = cKDTree(rest).query(rest * _X)
        if distance.max() > _NEAR_M or (points[points] != np.arange(len(rows))).any():
            return None
        shapes = model.basis[rows][:, :, model.face_size :].astype(np.float64)
        turned = (shapes[points] * _X[:, None]).reshape(-1, model.shape_size)
        flat = shapes.reshape(-1, model.shape_size)
        alike = (flat * turned).sum(axis=0) / np.maximum((flat**2).sum(axis=0), 1e-18)
        if (np.abs(alike) < _ALIKE).any():
            return None
        return Mirror(
            np.array([names.index(name) for name in swapped]), np.asarray(points, np.intp), np.sign(alike)
        )

    def turn(self, rotation: npt.ArrayLike) -> F64:
        """(..., 3, 3) head to camera, both mirrored."""
        return np.asarray(np.asarray(rotation, np.float64) * _X[:, None] * _X)

    def points_of(self, points: npt.ArrayLike, width: float) -> F64:
        """(..., L, 2) in a picture of `width` pixels that was mirrored, back in the picture itself."""
        placed = np.asarray(points, np.float64)[..., self.points, :]
        placed[..., 0] = width - 1.0 - placed[..., 0]
        return placed
