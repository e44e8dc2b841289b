"""Encoder readings -> head-model parameters: pose in metres, expression, and one shape for one person.

The encoder says what it reads in each picture alone. Three things are known over time or by geometry: the
points that it marks are points of the head model, so a perspective camera that fits them gives the pose
(Gauss-Newton, robust weights as in `landmark_fit`); one person has one shape, so shapes are averaged and soon
stand still; and a face moves at finite speed. Where the points are to correct the expression (`point_sigma`),
what the encoder says is the prior, with its own standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ...head import bounded
from ...head.model import rotation_matrix
from ...types import F32, F64
from ..gaze import gaze_of
from ..landmarks.attention_mesh import EYE_CORNER_LEFT, EYE_CORNER_RIGHT, IRIS_RIGHT
from ..landmarks.landmark_fit import POSE, Fit, linearise
from ..landmarks.landmark_model import LandmarkModel
from .face_crop import POINTS
from .face_encoder import Reading

_MOST = 0.25
"""A head is at most so much larger or smaller (logarithm) than its shape says; a depth camera that says more
is wrong.
"""


@dataclass(frozen=True)
class SensorFitSettings:
    """Strengths of what is known.

    Measured on simulated people under sensors (expression alone, mean over the face): the encoder by itself
    0.516 mm, corrected by points of 16, 8 and 4 mm 0.519, 0.526 and 0.542; an encoder trained for a tenth of
    the time gained (0.72 to 0.70). So the points tell the pose alone. Nor do they say much about the shape
    that the encoder does not know: an information filter over 50 pictures, as in `landmark_fit`, brought 3.10
    mm down to 3.07; it was left out.

    expression_rate: how fast a coefficient may wander, per square root second. shape_memory: pictures over
    which the person's shape is learnt. std_scale: what the encoder's own standard deviations are multiplied
    with. point_sigma: error of the points in m with all that they have in common; inf leaves expression to
    the encoder alone. turn_sigma: error of the encoder's rotation, rad.
    """

    expression_rate: float = 4.0
    shape_memory: float = 200.0
    std_scale: float = 1.0
    point_sigma: float = np.inf
    turn_sigma: float = 0.06
    iterations: int = 2


class PersonShape:
    """The mean of a person's shape readings, far ones counted less, over at most `memory` pictures; the first
    say most.
    """

    def __init__(self, size: int, memory: float) -> None:
        self._memory = memory
        self.value: F64 = np.zeros(size)
        self._spread = float("nan")
        self._weight = 0.0

    def add(self, shape: F64, reliability: float) -> None:
        """One more reading (S,); reliability: 0..1."""
        away = float(np.linalg.norm(shape - self.value))
        usual = self._spread if np.isfinite(self._spread) else away
        weight = reliability * min(1.0, 1.5 * usual / max(away, 1e-9))
        if weight <= 0.0:
            return
        self._weight = min(self._weight + weight, self._memory)
        self.value = self.value + (shape - self.value) * (weight / self._weight)
        if self._weight > weight:  # the first reading has no distance of its own
            self._spread = usual + (away - usual) * min(weight / self._weight * 2.0, 1.0)


class SensorFit:
    """Fits one person. Keep one instance a person; `reset` for the next."""

    def __init__(self, model: LandmarkModel, settings: SensorFitSettings | None = None) -> None:
        self.model = model
        self.settings = settings if settings is not None else SensorFitSettings()
        points = np.array(POINTS)
        self._on_skin = points < IRIS_RIGHT  # irises turn with the eyes; they are read for gaze
        self._skin = points[self._on_skin]
        count = model.face_size
        self._face_basis = np.ascontiguousarray(model.basis[self._skin][:, :, :count])
        self._shape_basis = np.ascontiguousarray(model.basis[:, :, count:], np.float64)
        self._no_basis = np.zeros((len(self._skin), 3, 0), np.float32)
        self._blank = np.zeros(len(self._skin))
        self._strength = np.full(len(self._skin), 1.0 / (self.settings.point_sigma if self.fuses else 2e-3))
        columns = count if self.fuses else 0
        self._jacobian = np.zeros((3 * len(self._skin), POSE + columns), np.float32)
        self._residual = np.zeros(3 * len(self._skin), np.float32)
        self._centre = model.template[self._skin].mean(axis=0) - (0.0, 0.0, 0.05)
        self._larger = self._size_direction()
        self.reset()

    @property
    def fuses(self) -> bool:
        """Whether the points correct the encoder's expression."""
        return bool(np.isfinite(self.settings.point_sigma))

    def _size_direction(self) -> F64:
        """(S,) change of shape that comes nearest to a head larger by a factor e."""
        flat = self._shape_basis.reshape(-1, self._shape_basis.shape[2])
        larger = (self.model.template - self._centre).reshape(-1)
        ridge = 1e-4 * np.trace(flat.T @ flat) / flat.shape[1]
        return np.asarray(np.linalg.solve(flat.T @ flat + ridge * np.eye(flat.shape[1]), flat.T @ larger))

    def reset(self) -> None:
        """Forget the person."""
        self._person = PersonShape(self.model.shape_size, self.settings.shape_memory)
        self._log_size = 0.0
        self._sizes = 0
        self.reset_motion()

    def reset_motion(self) -> None:
        """Keep the person's shape, forget pose and expression (the face was out of sight)."""
        self._face: F64 | None = None
        self._variance: F64 = np.zeros(self.model.face_size)
        self._gaze = np.zeros((2, 2))
        self.points: F64 = np.full((len(self.model.template), 3), np.nan)
        """(478, 3) of the last fit: as seen where the encoder looks, elsewhere as fitted; z relative, smaller
        is nearer.
        """

    @property
    def shape(self) -> F64:
        """(S,) the person's shape as known so far."""
        return np.asarray(self._person.value + self._log_size * self._larger)

    def fit(self, reading: Reading, intrinsics: F64, elapsed_s: float, depth: F32 | None = None) -> Fit:
        """Fit one picture.

        intrinsics: (3, 3). elapsed_s: time since the picture before. depth: (478,) metres at each landmark
        from a depth camera, NaN where unknown (only those of `POINTS` are looked at), or None.
        """
        self._person.add(reading.shape, reading.readable)
        face, variance = self._prior(reading, elapsed_s)
        everything = np.concatenate([face, self.shape])
        neutral = self.model.template + self._shape_basis @ self.shape
        camera = np.array([intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2], 1.0])
        pixels = reading.points[self._on_skin]
        rotation, origin = self._stand(reading, neutral, face, pixels, camera, intrinsics)
        target = reading.rotation(intrinsics)
        for _ in range(self.settings.iterations):
            face, std, rotation, origin = self._step(
                neutral, face, everything, variance, rotation, origin, target, pixels, camera
            )
        if depth is not None and self._measure_size(depth, neutral, face, rotation, origin):
            neutral = self.model.template + self._shape_basis @ self.shape
            rotation, origin = self._stand(reading, neutral, face, pixels, camera, intrinsics, rotation)
            face, std, rotation, origin = self._step(
                neutral, face, everything, variance, rotation, origin, target, pixels, camera
            )
        self._face = face
        self._variance = std**2
        return self._result(reading, neutral, face, std, rotation, origin, camera)

    def _prior(self, reading: Reading, elapsed_s: float) -> tuple[F64, F64]:
        """(C,) mean and variance of the face before the points are looked at: the encoder's, and what was
        known a moment ago.
        """
        size = self.model.expression_size
        mean = np.zeros(self.model.face_size)
        variance = np.full(self.model.face_size, 1e-6)
        mean[:size] = reading.expression
        variance[:size] = (self.settings.std_scale * reading.expression_std) ** 2 + 1e-6
        if self._face is not None:
            before = self._variance + self.settings.expression_rate**2 * max(elapsed_s, 1e-3)
            gain = before / (before + variance)
            mean = self._face + gain * (mean - self._face)
            variance = gain * variance
        return np.clip(mean, self.model.lower, self.model.upper), variance

    def _stand(
        self,
        reading: Reading,
        neutral: F64,
        face: F64,
        pixels: F64,
        camera: F64,
        intrinsics: F64,
        rotation: F64 | None = None,
    ) -> tuple[F64, F64]:
        """Rotation as the encoder reads it, and the place of the head's centre that fits the points best
        (linear).
        """
        turn = reading.rotation(intrinsics) if rotation is None else rotation
        turned = (neutral[self._skin] + self._face_basis @ face - self._centre) @ turn.T
        rays = (pixels - camera[2:4]) / camera[:2]
        # ray * (z + tz) = x + tx, the same for y
        rows = np.zeros((2 * len(rays), 3))
        rows[::2, 0] = 1.0
        rows[1::2, 1] = 1.0
        rows[::2, 2] = -rays[:, 0]
        rows[1::2, 2] = -rays[:, 1]
        offsets = (rays * turned[:, 2:] - turned[:, :2]).reshape(-1)
        origin = np.linalg.solve(rows.T @ rows, rows.T @ offsets)
        origin[2] = max(origin[2], 0.05)
        camera[4] = origin[2]
        return turn, origin

    def _step(
        self,
        neutral: F64,
        face: F64,
        prior: F64,
        variance: F64,
        rotation: F64,
        origin: F64,
        target: F64,
        pixels: F64,
        camera: F64,
    ) -> tuple[F64, F64, F64, F64]:
        """One Gauss-Newton step: face, its standard deviation, rotation and place."""
        points = neutral[self._skin] + self._face_basis @ face
        pose = np.concatenate([self._centre, origin, [0.0, 1.0]])
        linearise(
            points,
            self._face_basis if self.fuses else self._no_basis,
            rotation,
            pose,
            pixels,
            self._blank,
            camera,
            self._strength,
            self._blank,
            True,
            self._jacobian.shape[1] - POSE,
            self._jacobian,
            self._residual,
        )
        information = (self._jacobian.T @ self._jacobian).astype(np.float64)
        slope = (self._residual @ self._jacobian).astype(np.float64)
        information[np.diag_indices(POSE)] += [
            *([1.0 / self.settings.turn_sigma**2] * 3),
            1e-3,
            1e-3,
            1e-3,
            1.0,
            1.0,
        ]
        slope[:3] += Rotation.from_matrix(target @ rotation.T).as_rotvec() / self.settings.turn_sigma**2
        if not self.fuses:
            move = np.linalg.solve(information, slope)
            moved = face
            std = np.sqrt(variance)
        else:
            solved = np.linalg.solve(
                information[:POSE, :POSE], np.column_stack([information[:POSE, POSE:], slope[:POSE]])
            )
            gram = information[POSE:, POSE:] - information[POSE:, :POSE] @ solved[:, :-1]
            right_side = slope[POSE:] - information[POSE:, :POSE] @ solved[:, -1] + gram @ face
            gram[np.diag_indices(len(gram))] += 1.0 / variance
            right_side += prior[: len(face)] / variance
            moved = bounded.solve(
                gram, right_side, self.model.lower, self.model.upper, face, tolerance=1e-4, sweeps=60
            )
            move = solved[:, -1] - solved[:, :-1] @ (moved - face)
            std = np.sqrt(np.clip(np.diag(np.linalg.inv(gram)), 0.0, None))
        origin = origin + move[3:6]
        origin[2] = max(origin[2], 0.05)
        return moved, std, rotation_matrix(move[:3]) @ rotation, origin

    def _measure_size(self, depth: F32, neutral: F64, face: F64, rotation: F64, origin: F64) -> bool:
        """Learn how large the head is from measured depths; whether there were enough of them."""
        measured = depth[self._skin].astype(np.float64)
        placed = (neutral[self._skin] + self._face_basis @ face - self._centre) @ rotation[2] + origin[2]
        valid = np.isfinite(measured) & (measured > 0.05)
        if valid.sum() < 20:
            return False
        ratio = float(np.median(np.log(measured[valid] / placed[valid])))
        self._sizes += 1
        self._log_size = float(np.clip(self._log_size + ratio / min(self._sizes, 20), -_MOST, _MOST))
        return True

    def _result(
        self, reading: Reading, neutral: F64, face: F64, std: F64, rotation: F64, origin: F64, camera: F64
    ) -> Fit:
        shape = self.shape
        points = neutral + self.model.basis[:, :, : len(face)] @ face
        placed = (points - self._centre) @ rotation.T + origin
        drawn = placed[:, :2] / np.maximum(placed[:, 2:], 0.02) * camera[:2] + camera[2:4]
        pose = np.eye(4)
        pose[:3, :3] = rotation
        pose[:3, 3] = origin - rotation @ self._centre
        across = float(np.linalg.norm(placed[EYE_CORNER_LEFT] - placed[EYE_CORNER_RIGHT]))
        size = across * camera[0] / max(float(placed[EYE_CORNER_LEFT, 2]), 0.02)
        miss = float(np.linalg.norm(drawn[self._skin] - reading.points[self._on_skin], axis=1).mean())
        pixels = drawn.copy()
        pixels[list(POINTS)] = reading.points
        self._gaze = gaze_of(
            self.model,
            np.concatenate([face, shape]),
            rotation,
            pose[:3, 3],
            pixels,
            drawn,
            camera,
            self._gaze,
        )
        away = (placed[:, 2] - origin[2]) * camera[0] / origin[2]
        self.points = np.column_stack([pixels, away])
        return Fit(pose, face.copy(), std, shape, self._gaze.copy(), miss / max(size, 1e-6))
