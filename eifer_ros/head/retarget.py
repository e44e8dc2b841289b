"""FaceState of any head model -> the 52 ARKit weights, gaze and head pose.

A head whose expression is ARKit's 52 actions passes through. Any other (FLAME) brings a stored map: with A
the displacements of the ARKit actions and b that of the face as it is, both on its own vertices, the weights
w solve

    minimise |A w - b|^2   subject to   0 <= w <= 1

`HeadModel.arkit_gram` is A'A and `HeadModel.arkit` (A'A)^-1 A'B for the head's own basis B, so no vertex is
touched here.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..types import ARKIT_52, F32, F64, FaceState, FaceStatus
from . import bounded
from .model import HeadModel, rotation_matrix
from .projection import FACING

GAZE_FULL_RAD = float(np.deg2rad(30.0))
"""Eye rotation at which an eyeLook weight reaches 1."""
JAW_OPEN_RAD = 0.35
"""Jaw opening that counts as jawOpen 1 on a head whose jaw is a joint and that has no stored map for it."""

_INDEX = {name: i for i, name in enumerate(ARKIT_52)}
_BLINKS = [_INDEX["eyeBlinkLeft"], _INDEX["eyeBlinkRight"]]


def gaze_angles(eyes: npt.ArrayLike) -> F64:
    """Yaw and pitch of both eyes, relative to the head.

    Parameters
    ----------
    eyes : array_like, shape (2, 3)
        Axis-angle, rad, left then right.

    Returns
    -------
    ndarray of float64, shape (2, 2)
        Rad, left eye then right: yaw > 0 towards the subject's left, pitch > 0 down.
    """
    angles = np.zeros((2, 2))
    for i, (x, y, z) in enumerate(np.asarray(eyes, np.float64).tolist()):
        if x or y or z:
            # where the axis of sight (0, 0, 1) goes (Rodrigues), in plain floats: this runs for every frame
            turn = math.sqrt(x * x + y * y + z * z)
            sine = math.sin(turn) / turn
            share = (1.0 - math.cos(turn)) / turn**2
            across = y * sine + x * z * share
            up = -x * sine + y * z * share
            ahead = math.cos(turn) + z * z * share
            angles[i] = math.atan2(across, ahead), math.atan2(-up, math.hypot(across, ahead))
    return angles


def head_angles(state: FaceState) -> F64:
    """Yaw, pitch and roll of the head; camera and neck together.

    The order is that of `projection.facing_pose`: roll first, then pitch, then yaw.

    Parameters
    ----------
    state : FaceState
        A face with a head pose.

    Returns
    -------
    ndarray of float64, shape (3,)
        Rad: yaw > 0 to the subject's left, pitch > 0 down, roll > 0 to the subject's right shoulder.
    """
    turn = FACING.T @ state.head_pose[:3, :3]
    if np.any(state.neck) and np.isfinite(state.neck).all():
        turn = turn @ rotation_matrix(state.neck)
    (_, _, across), (right, level, up), (_, _, ahead) = turn.tolist()
    return np.array(
        [math.atan2(across, ahead), math.atan2(-up, math.hypot(across, ahead)), math.atan2(right, level)]
    )


def look_weights(angles: F64) -> F64:
    """The eyeLook weights of a gaze.

    Parameters
    ----------
    angles : ndarray of float64, shape (2, 2)
        Rad, as `gaze_angles` gives them.

    Returns
    -------
    ndarray of float64, shape (52,)
        Weights, zero but for the eyeLook actions.
    """
    weights = np.zeros(len(ARKIT_52))
    share = np.clip(angles / GAZE_FULL_RAD, -1.0, 1.0)
    for side, (yaw, pitch), outwards in (("Left", share[0], 1.0), ("Right", share[1], -1.0)):
        weights[_INDEX[f"eyeLookOut{side}"]] = max(outwards * yaw, 0.0)
        weights[_INDEX[f"eyeLookIn{side}"]] = max(-outwards * yaw, 0.0)
        weights[_INDEX[f"eyeLookDown{side}"]] = max(pitch, 0.0)
        weights[_INDEX[f"eyeLookUp{side}"]] = max(-pitch, 0.0)
    return weights


class Retarget:
    """The map from one head model's coefficients to ARKit's 52 weights. Keeps the last solution, from which the
    next frame's search starts.

    Parameters
    ----------
    head : HeadModel
        The head model.

    Raises
    ------
    ModelError
        The head has neither ARKit's actions nor a map to them.
    """

    def __init__(self, head: HeadModel) -> None:
        self.head = head
        self._identity = head.expression_names == ARKIT_52
        self._start = np.zeros(len(ARKIT_52))
        if self._identity:
            return
        if head.arkit is None or head.arkit_gram is None:
            raise ModelError(
                f"head model '{head.id}' has neither ARKit's 52 actions nor a map to them; import it again (eifer head import-flame)"
            )
        self._gram = head.arkit_gram.astype(np.float64)
        self._map = self._gram @ head.arkit.astype(np.float64)
        self._jaw = self._gram @ head.arkit_jaw.astype(np.float64) if head.arkit_jaw is not None else None
        self._lower = np.zeros(len(ARKIT_52))
        self._upper = np.ones(len(ARKIT_52))

    def reset(self) -> None:
        """Forget the last solution."""
        self._start = np.zeros(len(ARKIT_52))

    def __call__(self, state: FaceState) -> F32:
        """(52,) weights in 0..1 in the order of `ARKIT_52`; all NaN where the face is lost or its expression
        is not a number.

        Raises ModelError for a face of another head model.
        """
        if state.head_model != self.head.id:
            raise ModelError(
                f"a face of head model '{state.head_model}' was given to the ARKit map of '{self.head.id}'"
            )
        if state.status == FaceStatus.LOST or not np.isfinite(state.expression).all():
            return np.full(len(ARKIT_52), np.nan, np.float32)
        weights = np.array(state.expression, np.float64) if self._identity else self._solve(state)
        if self._identity and np.isfinite(state.eyelids).all():
            weights[_BLINKS] = np.maximum(weights[_BLINKS], state.eyelids)
        if (self._identity or self._jaw is None) and np.isfinite(state.jaw).all():
            weights[_INDEX["jawOpen"]] += max(float(state.jaw[0]), 0.0) / JAW_OPEN_RAD
        if np.any(state.eyes) and np.isfinite(state.eyes).all():
            # a face may say where it looks twice, by its eyes and by its actions; they mean the same and must
            # not add up
            own = self._identity and self.head.gaze_basis is not None
            weights = np.maximum(
                weights, self.head.look_weights(state.eyes) if own else look_weights(gaze_angles(state.eyes))
            )
        return np.clip(weights, 0.0, 1.0).astype(np.float32)

    def gaze(self, state: FaceState) -> F64:
        """Yaw and pitch of both eyes, from the eyes, or from the eyeLook actions where the eyes say nothing.

        Parameters
        ----------
        state : FaceState
            A face of this head model.

        Returns
        -------
        ndarray of float64, shape (2, 2)
            Rad, as `gaze_angles`; NaN where lost.
        """
        if np.isfinite(state.eyes).all() and np.any(state.eyes):
            return gaze_angles(state.eyes)
        return gaze_angles(self.head.gaze(state.expression))

    def _solve(self, state: FaceState) -> F64:
        target = self._map @ state.expression
        if self._jaw is not None and np.isfinite(state.jaw).all():
            target = target + self._jaw @ state.jaw
        if np.isfinite(state.eyelids).all():  # the eyelid basis of an imported head is these two actions
            target = target + self._gram[:, _BLINKS] @ state.eyelids
        self._start = bounded.solve(
            self._gram, target, self._lower, self._upper, self._start, tolerance=1e-4, sweeps=200
        )
        return self._start.copy()
