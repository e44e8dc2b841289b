"""Landmarks -> head-model parameters: Gauss-Newton over pose and expression in every picture, shape shared over time.

Perspective camera, residuals in metres at the depth of the face, so that nothing depends on picture size. Each picture
solves for pose (6), a depth offset of the landmark network and C face coefficients inside their bounds, given the
person's shape; what the picture says about the shape (pose and expression eliminated) goes into an information filter that
forgets slowly. Robust weights are Geman-McClure's.

The landmark network has its own habits: it regularises faces, sees thin lips thicker, and is surer of a lip corner than of the
jaw line. They are measured on renders of the head model with known parameters (`training/landmark_calibration.py`) and shipped
as `models/landmark_fit.npz`: a noise level per landmark, and a small network that predicts the coefficients from
landmark displacements. The prediction enters the fit as a prior mean with its own measured covariance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numba
import numpy as np
import numpy.typing as npt

from .. import resources
from ..errors import InputError, ModelError
from ..head import bounded
from ..head.model import HeadModel, rotation_matrix
from ..types import F32, F64
from .landmark_model import LandmarkModel
from .landmarks import EYE_CORNER_LEFT, EYE_CORNER_RIGHT, IRIS_LEFT, IRIS_RIGHT, MESH, Landmarks

POSE = 7
"""Pose unknowns: rotation (3), translation (3), offset of the network's relative depth."""
_STABLE = (
    33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 19, 94, 98, 327, 48, 278, 129, 358, 193, 417, 122, 351, 234, 454, 127, 356, 10, 109,
    338, 67, 297, 103, 332, 54, 284,
)
"""Landmarks that expression moves least: eye corners, nose, temples, forehead."""
_EYE_RING_LEFT = (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398)
_EYE_RING_RIGHT = (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173)


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _linearise(
    points: Any, basis: Any, rotation: Any, pose: Any, pixels: Any, depth: Any, offset: float, camera: Any,
    sigma: Any, sigma_depth: Any, relative: bool, columns: int, jacobian: Any, residual: Any,
) -> None:
    """Fill rows (3 a landmark: x, y, depth) of the weighted Jacobian (3 L, 7 + columns) and the weighted residual (3 L,).

    points (L, 3) in model coordinates turned by `rotation` about `pose[:3]`, moved to `pose[3:]`. camera: fx, fy, cx, cy.
    Robust weights come from the residual itself.
    """
    count = points.shape[0]
    for i in range(count):
        px, py, pz = points[i, 0] - pose[0], points[i, 1] - pose[1], points[i, 2] - pose[2]
        rx = rotation[0, 0] * px + rotation[0, 1] * py + rotation[0, 2] * pz
        ry = rotation[1, 0] * px + rotation[1, 1] * py + rotation[1, 2] * pz
        rz = rotation[2, 0] * px + rotation[2, 1] * py + rotation[2, 2] * pz
        z = max(rz + pose[5], 0.02)
        slope_x, slope_y = (rx + pose[3]) / z, (ry + pose[4]) / z
        miss_x = (pixels[i, 0] - camera[2]) / camera[0] * z - (rx + pose[3])
        miss_y = (pixels[i, 1] - camera[3]) / camera[1] * z - (ry + pose[4])
        strength = sigma[i]
        square = (miss_x * miss_x + miss_y * miss_y) * strength * strength
        strength = strength / (1.0 + square / 32.0)
        row = 3 * i
        if relative:
            miss_z = depth[i] * pose[5] + offset - rz
        else:
            miss_z = depth[i] - rz - pose[5]
        strength_z = sigma_depth[i]
        strength_z = strength_z / (1.0 + miss_z * miss_z * strength_z * strength_z / 18.0)
        residual[row] = miss_x * strength
        residual[row + 1] = miss_y * strength
        residual[row + 2] = miss_z * strength_z
        # a turn w moves the point by w x r: columns (0, -rz, ry), (rz, 0, -rx), (-ry, rx, 0)
        jacobian[row, 0] = -slope_x * ry * strength
        jacobian[row, 1] = (rz + slope_x * rx) * strength
        jacobian[row, 2] = -ry * strength
        jacobian[row, 3] = strength
        jacobian[row, 4] = 0.0
        jacobian[row, 5] = -slope_x * strength
        jacobian[row, 6] = 0.0
        jacobian[row + 1, 0] = (-rz - slope_y * ry) * strength
        jacobian[row + 1, 1] = slope_y * rx * strength
        jacobian[row + 1, 2] = rx * strength
        jacobian[row + 1, 3] = 0.0
        jacobian[row + 1, 4] = strength
        jacobian[row + 1, 5] = -slope_y * strength
        jacobian[row + 1, 6] = 0.0
        jacobian[row + 2, 0] = ry * strength_z
        jacobian[row + 2, 1] = -rx * strength_z
        jacobian[row + 2, 2] = 0.0
        jacobian[row + 2, 3] = 0.0
        jacobian[row + 2, 4] = 0.0
        jacobian[row + 2, 5] = 0.0 if relative else strength_z
        jacobian[row + 2, 6] = -strength_z if relative else 0.0
        for axis in range(3):
            if axis == 0:
                weight, slope = strength, slope_x
            elif axis == 1:
                weight, slope = strength, slope_y
            else:
                weight, slope = strength_z, 0.0
            ax = (rotation[axis, 0] - slope * rotation[2, 0]) * weight
            ay = (rotation[axis, 1] - slope * rotation[2, 1]) * weight
            az = (rotation[axis, 2] - slope * rotation[2, 2]) * weight
            for k in range(columns):
                jacobian[row + axis, 7 + k] = ax * basis[i, 0, k] + ay * basis[i, 1, k] + az * basis[i, 2, k]


@dataclass(frozen=True)
class FitTable:
    """What the landmark network's habits are on renders of one head model (models/landmark_fit.npz).

    sigma: (L,) noise of a landmark in the picture plane, m at the face. depth_sigma: (L,) the same for relative depth. depth_gain: what the
    network's depth must be multiplied with. bias: (L, 3) mean displacement in head coordinates, m. mean: (C,) and
    covariance: (C, C) of the face coefficients to be expected. regressor: layers of the network, empty where there is none.
    """

    sigma: F64
    depth_sigma: F64
    depth_gain: float
    bias: F64
    mean: F64
    covariance: F64
    regressor: dict[str, F32] = field(default_factory=dict)

    @staticmethod
    def plain(model: LandmarkModel) -> FitTable:
        """For a head model nothing was measured for: equal noise, independent coefficients."""
        count = len(model.template)
        sigma = np.full(count, 2.5e-3)
        depth = np.full(count, 8e-3)
        sigma[MESH:] = depth[MESH:] = np.inf
        spread = 0.3 * (model.upper - model.lower)
        return FitTable(sigma, depth, 1.0, np.zeros((count, 3)), np.clip(0.0, model.lower, model.upper), np.diag(spread**2))


TABLE = "landmark_fit.npz"


def load_table(head: HeadModel, model: LandmarkModel) -> FitTable:
    """The table measured for `head`, or a plain one where models/ holds none for it. Raises ModelError for a damaged file."""
    try:
        path = resources.model(TABLE)
    except InputError:
        return FitTable.plain(model)
    try:
        with np.load(path, allow_pickle=False) as archive:
            data = {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile's and numpy's errors share no base class
        raise ModelError(f"{path}: damaged fit table ({error})") from None
    if str(data["head_model"]) != head.id or tuple(str(n) for n in data["expression_names"]) != head.expression_names:
        return FitTable.plain(model)
    regressor = {name.split("/", 1)[1]: value.astype(np.float32) for name, value in data.items() if name.startswith("regressor/")}
    return FitTable(
        data["sigma"].astype(np.float64), data["depth_sigma"].astype(np.float64), float(data["depth_gain"]),
        data["bias"].astype(np.float64), data["mean"].astype(np.float64), data["covariance"].astype(np.float64), regressor,
    )


@dataclass(frozen=True)
class Fit:
    """Result for one picture. pose: (4, 4) head to camera. face: (C,) coefficients; std: (C,). shape: (S,). gaze: (2, 2) yaw and pitch
    of the left and right eye in rad, NaN under closed lids. residual: mean distance of seen and fitted landmarks over the
    distance of the outer eye corners.
    """

    pose: F64
    face: F64
    std: F64
    shape: F64
    gaze: F64
    residual: float


@dataclass(frozen=True)
class FitSettings:
    """Strengths of the priors.

    expression_rate: how fast a coefficient may wander, per square root second. shape_memory: pictures over which the shape is
    learnt. shape_trust: how much one picture counts as news about the shape (errors of neighbouring pictures are alike).
    """

    expression_rate: float = 4.0
    shape_memory: float = 200.0
    shape_trust: float = 0.1
    shape_scale: float = 1.0
    iterations: int = 2
    first_iterations: int = 8


class LandmarkFit:
    """Fits one person. Keep one instance a person; `reset` for the next."""

    def __init__(self, model: LandmarkModel, table: FitTable | None = None, settings: FitSettings | None = None) -> None:
        self.model = model
        self.table = table if table is not None else FitTable.plain(model)
        self.settings = settings if settings is not None else FitSettings()
        self._centre = model.template[list(_STABLE)].mean(axis=0) - (0.0, 0.0, 0.05)
        width = POSE + model.face_size + model.shape_size
        rows = 3 * len(model.template)
        self._jacobian = np.zeros((rows, width), np.float32)
        self._narrow = np.zeros((rows, POSE + model.face_size), np.float32)
        self._residual = np.zeros(rows, np.float32)
        self._strength = np.where(np.isfinite(self.table.sigma), 1.0 / self.table.sigma, 0.0)
        self._depth_strength = np.where(np.isfinite(self.table.depth_sigma), 1.0 / self.table.depth_sigma, 0.0)
        covariance = self.table.covariance.copy()
        self._lower, self._upper = model.lower.copy(), model.upper.copy()
        fixed = list(model.gaze)  # they follow the irises, not the skin
        covariance[fixed] = covariance[:, fixed] = 0.0
        covariance[fixed, fixed] = 1e-8
        self._precision = np.linalg.inv(covariance + 1e-6 * np.eye(len(covariance)))
        self._prior_mean = self.table.mean.copy()
        self._prior_mean[fixed] = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget the person."""
        shapes = self.model.shape_size
        self._information = np.zeros((shapes, shapes))
        self._evidence = np.zeros(shapes)
        self._prior_information = np.eye(shapes) / self.settings.shape_scale**2
        self._shape = np.zeros(shapes)
        self._neutral = self.model.template + self.table.bias
        self.forget_motion()

    def forget_motion(self) -> None:
        """Keep the person's shape, forget pose and expression (the face was out of sight)."""
        self._pose: F64 | None = None
        self._face = np.clip(self._prior_mean, self._lower, self._upper)
        self._gaze = np.zeros((2, 2))
        self._offset = 0.0

    @property
    def shape(self) -> F64:
        """(S,) the person's shape as known so far."""
        return self._shape

    def fit(self, seen: Landmarks, intrinsics: F64, elapsed_s: float, depth: F32 | None = None) -> Fit:
        """Fit one picture.

        intrinsics: (3, 3). elapsed_s: time since the picture before. depth: (L,) metres at each landmark from a depth camera, NaN where
        unknown, or None.
        """
        camera = np.array([intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]])
        pixels = seen.points[:, :2].astype(np.float64)
        first = self._pose is None
        if first:
            self._pose = self._first_pose(pixels, intrinsics)
        depths, strength_depth, relative = self._depths(seen, camera, depth)
        rounds = self.settings.first_iterations if first else self.settings.iterations
        step = np.inf if first else self.settings.expression_rate**2 * max(elapsed_s, 1e-3)
        before = self._face.copy()
        gram = np.zeros((0, 0))
        for turn in range(rounds):
            gram = self._iterate(pixels, depths, strength_depth, relative, camera, before, step)
            if first and turn % 2:
                self._learn_shape(pixels, depths, strength_depth, relative, camera, 1.0, keep=False)
        self._learn_shape(pixels, depths, strength_depth, relative, camera, self.settings.shape_trust, keep=True)
        std = np.sqrt(np.clip(np.diag(np.linalg.inv(gram)), 0.0, None))
        return self._result(pixels, camera, std)

    # --- one picture

    def _first_pose(self, pixels: F64, intrinsics: F64) -> F64:
        """Rotation vector about the head's centre and position of that centre, from the landmarks that move least."""
        chosen = list(_STABLE)
        found, turn, shift = cv2.solvePnP(
            self._neutral[chosen] - self._centre, pixels[chosen], intrinsics, None, flags=cv2.SOLVEPNP_SQPNP
        )
        pose = np.zeros((3, 4))
        if found and float(shift[2, 0]) > 0:
            pose[:, :3], pose[:, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
            return pose
        size = np.linalg.norm(pixels[EYE_CORNER_LEFT] - pixels[EYE_CORNER_RIGHT])
        real = np.linalg.norm(self._neutral[EYE_CORNER_LEFT] - self._neutral[EYE_CORNER_RIGHT])
        far = float(intrinsics[0, 0] * real / max(size, 1.0))
        middle = pixels[chosen].mean(axis=0)
        pose[:, :3] = np.diag([1.0, -1.0, -1.0])
        pose[:, 3] = np.linalg.solve(intrinsics, np.array([middle[0], middle[1], 1.0])) * far
        return pose

    def _depths(self, seen: Landmarks, camera: F64, depth: F32 | None) -> tuple[F64, F64, bool]:
        """Depth of each landmark, its strength, and whether it is only relative (times the distance of the head)."""
        if depth is not None and np.isfinite(depth[list(_STABLE)]).sum() >= 6:
            known = np.isfinite(depth)
            strength = np.where(known & (self._strength > 0), 1.0 / 4e-3, 0.0)
            return np.where(known, depth, 0.0).astype(np.float64), strength, False
        return seen.points[:, 2].astype(np.float64) * (self.table.depth_gain / camera[0]), self._depth_strength, True

    def _fill(self, pixels: F64, depths: F64, strength: F64, relative: bool, camera: F64, whole: bool) -> npt.NDArray[Any]:
        assert self._pose is not None
        points = self._neutral + self.model.basis[:, :, : self.model.face_size] @ self._face
        jacobian = self._jacobian if whole else self._narrow
        pose = np.concatenate([self._centre, self._pose[:, 3]])
        _linearise(
            points, self.model.basis, self._pose[:, :3].copy(), pose, pixels, depths, self._offset, camera, self._strength,
            strength, relative, jacobian.shape[1] - POSE, jacobian, self._residual,
        )
        return jacobian

    def _iterate(
        self, pixels: F64, depths: F64, strength: F64, relative: bool, camera: F64, before: F64, variance: float
    ) -> F64:
        """One Gauss-Newton step; returns the information matrix of the face coefficients."""
        assert self._pose is not None
        jacobian = self._fill(pixels, depths, strength, relative, camera, False)
        information = (jacobian.T @ jacobian).astype(np.float64)
        slope = (self._residual @ jacobian).astype(np.float64)
        information[np.diag_indices(POSE)] += 1e-3
        solved = np.linalg.solve(information[:POSE, :POSE], np.column_stack([information[:POSE, POSE:], slope[:POSE]]))
        gram = information[POSE:, POSE:] - information[POSE:, :POSE] @ solved[:, :-1]
        target = slope[POSE:] - information[POSE:, :POSE] @ solved[:, -1] + gram @ self._face
        gram = gram + self._precision
        target = target + self._precision @ self._prior_mean
        if np.isfinite(variance):
            gram[np.diag_indices(len(gram))] += 1.0 / variance
            target += before / variance
        face = bounded.solve(gram, target, self._lower, self._upper, self._face, tolerance=1e-4, sweeps=60)
        move = solved[:, -1] - solved[:, :-1] @ (face - self._face)
        self._face = face
        self._pose[:, :3] = rotation_matrix(move[:3]) @ self._pose[:, :3]
        self._pose[:, 3] += move[3:6]
        self._pose[2, 3] = max(self._pose[2, 3], 0.05)
        self._offset += move[6]
        return np.asarray(gram)

    def _learn_shape(
        self, pixels: F64, depths: F64, strength: F64, relative: bool, camera: F64, trust: float, keep: bool
    ) -> None:
        """What this picture says about the shape, pose and expression eliminated, into the information filter."""
        jacobian = self._fill(pixels, depths, strength, relative, camera, True)
        information = (jacobian.T @ jacobian).astype(np.float64)
        slope = (self._residual @ jacobian).astype(np.float64)
        own = POSE + self.model.face_size
        information[np.diag_indices(POSE)] += 1e-3
        information[POSE:own, POSE:own] += self._precision
        slope[POSE:own] += self._precision @ (self._prior_mean - self._face)
        solved = np.linalg.solve(information[:own, :own], np.column_stack([information[:own, own:], slope[:own]]))
        news = information[own:, own:] - information[own:, :own] @ solved[:, :-1]
        evidence = slope[own:] - information[own:, :own] @ solved[:, -1] + news @ self._shape
        fade = 1.0 - 1.0 / self.settings.shape_memory
        total, known = self._information * fade + trust * news, self._evidence * fade + trust * evidence
        if keep:
            self._information, self._evidence = total, known
        self._shape = np.clip(np.linalg.solve(total + self._prior_information, known), -3.5, 3.5)
        self._neutral = self.model.template + self.table.bias + self.model.basis[:, :, self.model.face_size:] @ self._shape

    def _result(self, pixels: F64, camera: F64, std: F64) -> Fit:
        assert self._pose is not None
        model = self.model
        # the network's bias is not part of the head
        points = self._neutral - self.table.bias + model.basis[:, :, : model.face_size] @ self._face
        placed = (points - self._centre) @ self._pose[:, :3].T + self._pose[:, 3]
        drawn = placed[:, :2] / placed[:, 2:] * camera[:2] + camera[2:]
        miss = np.linalg.norm(drawn - pixels, axis=1)[:MESH].mean()
        across = placed[EYE_CORNER_LEFT] - placed[EYE_CORNER_RIGHT]
        size = float(np.linalg.norm(across)) * camera[0] / float(placed[EYE_CORNER_LEFT, 2])
        pose = np.eye(4)
        pose[:3, :3] = self._pose[:, :3]
        pose[:3, 3] = self._pose[:, 3] - self._pose[:, :3] @ self._centre
        self._look(pixels, drawn, placed, camera)
        return Fit(pose, self._face.copy(), std, self._shape.copy(), self._gaze.copy(), float(miss) / size)

    def _look(self, pixels: F64, drawn: F64, placed: F64, camera: F64) -> None:
        """Gaze from where the iris stands in the lid opening, compared with the resting head."""
        assert self._pose is not None
        model = self.model
        everything = np.concatenate([self._face, self._shape])
        centres = model.eye_centres + model.eye_basis @ everything
        for eye, (iris, ring) in enumerate(((IRIS_LEFT, _EYE_RING_LEFT), (IRIS_RIGHT, _EYE_RING_RIGHT))):
            chosen = list(ring)
            shift = (pixels[chosen] - drawn[chosen]).mean(axis=0)  # the fit's own error at this eye is no gaze
            opening = np.linalg.norm(pixels[chosen[12]] - pixels[chosen[4]]) / np.linalg.norm(pixels[chosen[0]] - pixels[chosen[8]])
            if opening < 0.12:
                continue  # closed: keep the last gaze
            radius = float(np.linalg.norm(model.iris[eye] - model.eye_centres[eye]))
            centre = (centres[eye] - self._centre) @ self._pose[:, :3].T + self._pose[:, 3]
            seen = (pixels[iris] - shift - camera[2:]) / camera[:2] * (centre[2] - radius)
            sideways = self._pose[:, :3].T @ np.array([*(seen - centre[:2]), -radius])
            resting = model.iris[eye] - model.eye_centres[eye]
            yaw = np.arcsin(np.clip((sideways[0] - resting[0]) / radius, -0.7, 0.7))
            pitch = -np.arcsin(np.clip((sideways[1] - resting[1]) / radius, -0.6, 0.6))
            self._gaze[eye] = yaw, pitch
