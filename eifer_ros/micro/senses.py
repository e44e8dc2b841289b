"""The two senses as rows on the grid: what the picture shows and what the muscles do.

Row of the picture: the actions of `channels.ACTIONS` in their own unit 0..1, with displacements of the skin
read as actions, and beside them what else may move or seem to move: gaze, the head, the light. Row of the
muscles: logarithm of each envelope, whose noise is the same at every level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ModelError
from ..head.model import HeadModel
from ..head.retarget import Retarget
from ..types import (
    ARKIT_52,
    F32,
    F64,
    NS,
    FaceDisplacement,
    FaceState,
    FaceStatus,
    Frame,
    Indices,
    MuscleActivity,
    Stamp,
)
from .channels import (
    ACTION_INDEX,
    ACTIONS,
    MUSCLE_CHANNELS,
    action_membership,
    muscle_membership,
    muscle_order,
)

CONTEXT = ("gaze yaw", "gaze pitch", "gaze speed", "turn speed", "shift speed", "light")
"""What stands beside the actions: rad, rad, rad/s, rad/s, m/s, logarithm of brightness."""
VISION_CHANNELS = ACTIONS + CONTEXT
VISION_UNIT: F64 = np.array([0.02] * len(ACTIONS) + [0.02, 0.02, 0.3, 0.05, 0.02, 0.01])
"""What counts as sizeable in each channel."""
VISION_FLOOR: F64 = np.array([1e-3] * len(ACTIONS) + [1e-3, 1e-3, 2e-2, 2e-3, 1e-3, 2e-4])
"""No noise floor is below this."""
EMG_UNIT: F64 = np.full(len(MUSCLE_CHANNELS), 0.2)
EMG_FLOOR: F64 = np.full(len(MUSCLE_CHANNELS), 0.01)
LEAST_V = 1e-6
"""Added to an envelope before its logarithm."""
DISPLACEMENT_RIDGE = 0.02
"""How strongly a displacement is preferred to be nothing: actions that hardly move a vertex are not read from
noise.
"""
LIGHT_STRIDE = 16


def vision_regions() -> F64:
    """(4, C) which channel of the picture belongs to which region."""
    return np.concatenate([action_membership(), np.zeros((4, len(CONTEXT)))], axis=1)


def emg_regions() -> F64:
    """(4, 22) which muscle belongs to which region."""
    return muscle_membership()


class VisionRows:
    """FaceState, FaceDisplacement and brightness of one head model -> (C,) rows."""

    def __init__(self, head: HeadModel) -> None:
        self.head = head
        self._plain = head.expression_names == ARKIT_52
        self._retarget = None if self._plain else Retarget(head)
        self._solver: F32 | None = None
        self._face: Indices = np.asarray(head.regions["face"], np.intp)
        self.restart()

    def restart(self) -> None:
        """Forget the previous face."""
        self._before: tuple[Stamp, F64, F64] | None = None

    def row(self, face: FaceState, displacement: FaceDisplacement | None, light: float) -> F64:
        """(C,) values; all NaN where the face is lost.

        light: logarithm of brightness, 0 where nobody looks.
        """
        if face.status == FaceStatus.LOST or not np.isfinite(face.expression).all():
            self.restart()
            return np.full(len(VISION_CHANNELS), np.nan)
        weights = (
            np.array(face.expression, np.float64)
            if self._retarget is None
            else self._retarget(face).astype(np.float64)
        )
        if displacement is not None:
            weights = weights + self.read(displacement)
        eyes = face.eyes.astype(np.float64)
        gaze = np.array([eyes[:, 1].mean(), eyes[:, 0].mean()]) if np.isfinite(eyes).all() else np.zeros(2)
        pose = face.head_pose if np.isfinite(face.head_pose).all() else np.eye(4)
        speeds = np.zeros(3)
        if self._before is not None and face.stamp > self._before[0]:
            span = (face.stamp - self._before[0]) / NS
            turned = self._before[2][:3, :3].T @ pose[:3, :3]
            angle = np.arccos(np.clip((np.trace(turned) - 1.0) / 2.0, -1.0, 1.0))
            shift = np.linalg.norm(pose[:3, 3] - self._before[2][:3, 3])
            speeds = np.array([np.linalg.norm(gaze - self._before[1]), angle, shift]) / span
        self._before = face.stamp, gaze, np.array(pose)
        return np.concatenate([weights[ACTION_INDEX], gaze, speeds, [light]])

    def read(self, displacement: FaceDisplacement) -> F64:
        """(52,) actions that displace the skin like this, by ridge regression over the face region."""
        if displacement.head_model != self.head.id:
            raise ModelError(
                f"a displacement of head model '{displacement.head_model}' was given for '{self.head.id}'"
            )
        if self._solver is None:
            basis = self.head.expression_basis[self._face].reshape(3 * len(self._face), -1).astype(np.float64)
            gram = basis.T @ basis
            ridge = DISPLACEMENT_RIDGE * float(np.median(np.diag(gram)[np.diag(gram) > 0]))
            solver = np.linalg.solve(gram + ridge * np.eye(len(gram)), basis.T)
            if not self._plain and self.head.arkit is not None:
                solver = self.head.arkit.astype(np.float64) @ solver
            self._solver = np.ascontiguousarray(solver, np.float32)
        return np.asarray(self._solver @ displacement.displacement[self._face].reshape(-1), np.float64)


def brightness(frame: Frame) -> float:
    """Logarithm of the mean of every 16th pixel: light that flickers moves it, a face that moves hardly does."""
    return float(np.log(frame.image[::LIGHT_STRIDE, ::LIGHT_STRIDE].mean() + 1.0))


@dataclass
class EmgRows:
    """MuscleActivity -> (22,) rows; remembers which channels can be used."""

    least_quality: float = 0.3
    muscles: tuple[str, ...] = ()
    usable: int = 0

    def __post_init__(self) -> None:
        self._order: Indices = np.zeros(0, np.intp)
        self._valid = np.zeros(0, bool)

    def row(self, activity: MuscleActivity) -> tuple[F64, bool]:
        """(22,) log envelopes, NaN in all where no channel can be used; and whether other channels can be
        used than before.

        A channel without contact stands at a constant. Raises InputError where no muscle is one of
        Fridlund's.
        """
        if activity.muscles != self.muscles:
            self._order = muscle_order(activity.muscles)
            self.muscles = activity.muscles
        mapped = self._order >= 0
        envelope = np.where(mapped, activity.envelope[self._order].astype(np.float64), np.nan)
        quality = np.where(mapped, activity.quality[self._order].astype(np.float64), 0.0)
        valid = np.isfinite(envelope) & ~(quality < self.least_quality)
        changed = len(self._valid) == len(valid) and bool((valid != self._valid).any())
        self._valid = valid
        self.usable = int(valid.sum())
        if not valid.any():
            return np.full(len(valid), np.nan), changed
        if activity.profile == "emg2face":  # stored as a logarithm already
            volts = LEAST_V * np.expm1(np.where(valid, envelope, 0.0) / LEAST_V)
        else:
            volts = np.where(valid, envelope, 0.0)
        return np.log(np.maximum(volts, 0.0) + LEAST_V), changed
