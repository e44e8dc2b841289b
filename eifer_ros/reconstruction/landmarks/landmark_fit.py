"""Landmarks -> head-model parameters: Gauss-Newton over pose and expression in every picture, shape shared
over time.

Perspective camera, residuals in metres at the depth of the face, so that nothing depends on picture size.
Each picture solves for pose (6), a depth offset of the landmark network and C face coefficients inside their
bounds, given the person's shape; what the picture says about the shape (pose and expression eliminated) goes
into an information filter that forgets slowly. Robust weights are Geman-McClure's.

The landmark network has its own habits: it regularises faces, sees thin lips thicker, and is surer of a lip
corner than of the jaw line. They are measured on renders of the head model with known parameters
(`research/faces/landmark_calibration.py`) and shipped as `models/landmark_fit.npz`: bias and noise of each
landmark, how much less it moves than the skin, errors that come and go together or stay with a person, and
what people really look like who are fitted so (`FitTable`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numba
import numpy as np

from ... import resources
from ...errors import InputError, ModelError
from ...head import bounded
from ...head.fingerprint import fingerprint
from ...head.model import HeadModel, rotation_matrix
from ...types import F32, F64
from ..gaze import gaze_of
from .attention_mesh import EYE_CORNER_LEFT, EYE_CORNER_RIGHT, MESH, Landmarks
from .landmark_model import LandmarkModel

POSE = 8
"""Pose unknowns: rotation (3), translation (3), offset and gain of the network's relative depth."""
_EAGER = 60
_SELDOM = 4
"""The shape is learnt from each of the first pictures of a person, then from every fourth: neighbours say the
same.
"""
OUTLIER = 8e-3
"""Error in metres at which a landmark has lost half of its say (a hand before the face)."""
_RESEMBLANCE = 2.0
"""So many usual distances from the mean person, half of the regression is still used; beyond, it fades with
the fourth power.
"""
# fmt: off
_STABLE = (
    33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 19, 94, 98, 327, 48, 278, 129, 358, 193, 417, 122, 351, 234, 454, 127, 356, 10, 109,
    338, 67, 297, 103, 332, 54, 284,
)
# fmt: on
"""Landmarks that expression moves least: eye corners, nose, temples, forehead."""


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def linearise(
    points: Any,
    basis: Any,
    rotation: Any,
    pose: Any,
    pixels: Any,
    depth: Any,
    camera: Any,
    sigma: Any,
    sigma_depth: Any,
    relative: bool,
    columns: int,
    jacobian: Any,
    residual: Any,
) -> None:
    """Fill rows (3 a landmark: x, y, depth) of the weighted Jacobian (3 L, 8 + columns) and the weighted
    residual (3 L,).

    points (L, 3) in model coordinates turned by `rotation` about `pose[:3]`, moved to `pose[3:6]`; pose[6:]:
    depth offset, gain. camera: fx, fy, cx, cy, and the distance at which angles are turned into metres. That
    distance comes from the picture and not from the pose: if it moved with the pose, a nearer and smaller
    face would always have the smaller error. Robust weights come from the residual itself.
    """
    reach = camera[4]
    for i in range(points.shape[0]):
        px = points[i, 0] - pose[0]
        py = points[i, 1] - pose[1]
        pz = points[i, 2] - pose[2]
        rx = rotation[0, 0] * px + rotation[0, 1] * py + rotation[0, 2] * pz
        ry = rotation[1, 0] * px + rotation[1, 1] * py + rotation[1, 2] * pz
        rz = rotation[2, 0] * px + rotation[2, 1] * py + rotation[2, 2] * pz
        z = max(rz + pose[5], 0.02)
        slope_x = (rx + pose[3]) / z
        slope_y = (ry + pose[4]) / z
        miss_x = ((pixels[i, 0] - camera[2]) / camera[0] - slope_x) * reach
        miss_y = ((pixels[i, 1] - camera[3]) / camera[1] - slope_y) * reach
        strength = sigma[i]
        strength = strength / (1.0 + (miss_x * miss_x + miss_y * miss_y) / (OUTLIER * OUTLIER))
        near = reach / pose[5] if relative else 1.0
        miss_z = depth[i] * reach * pose[7] + pose[6] - rz * near if relative else depth[i] - rz - pose[5]
        strength_z = sigma_depth[i]
        strength_z = strength_z / (1.0 + miss_z * miss_z / (4.0 * OUTLIER * OUTLIER))
        row = 3 * i
        residual[row] = miss_x * strength
        residual[row + 1] = miss_y * strength
        residual[row + 2] = miss_z * strength_z
        strength *= reach / z
        strength_z *= near
        # a turn w moves the point by w x r: columns (0, -rz, ry), (rz, 0, -rx), (-ry, rx, 0)
        jacobian[row, 0] = -slope_x * ry * strength
        jacobian[row, 1] = (rz + slope_x * rx) * strength
        jacobian[row, 2] = -ry * strength
        jacobian[row, 3] = strength
        jacobian[row, 4] = 0.0
        jacobian[row, 5] = -slope_x * strength
        jacobian[row, 6] = 0.0
        jacobian[row, 7] = 0.0
        jacobian[row + 1, 0] = (-rz - slope_y * ry) * strength
        jacobian[row + 1, 1] = slope_y * rx * strength
        jacobian[row + 1, 2] = rx * strength
        jacobian[row + 1, 3] = 0.0
        jacobian[row + 1, 4] = strength
        jacobian[row + 1, 5] = -slope_y * strength
        jacobian[row + 1, 6] = 0.0
        jacobian[row + 1, 7] = 0.0
        jacobian[row + 2, 0] = ry * strength_z
        jacobian[row + 2, 1] = -rx * strength_z
        jacobian[row + 2, 2] = 0.0
        jacobian[row + 2, 3] = 0.0
        jacobian[row + 2, 4] = 0.0
        jacobian[row + 2, 5] = -rz / pose[5] * strength_z if relative else strength_z
        jacobian[row + 2, 6] = -strength_z / near if relative else 0.0
        jacobian[row + 2, 7] = -depth[i] * reach * strength_z / near if relative else 0.0
        for axis in range(3):
            if axis == 0:
                weight = strength
                slope = slope_x
            elif axis == 1:
                weight = strength
                slope = slope_y
            else:
                weight = strength_z
                slope = 0.0
            ax = (rotation[axis, 0] - slope * rotation[2, 0]) * weight
            ay = (rotation[axis, 1] - slope * rotation[2, 1]) * weight
            az = (rotation[axis, 2] - slope * rotation[2, 2]) * weight
            for k in range(columns):
                jacobian[row + axis, 8 + k] = ax * basis[i, 0, k] + ay * basis[i, 1, k] + az * basis[i, 2, k]


def head_centre(model: LandmarkModel) -> F64:
    """(3,) the point about which the head is turned: 5 cm behind the middle of the landmarks that move least."""
    return np.asarray(model.template[list(_STABLE)].mean(axis=0) - (0.0, 0.0, 0.05))


@dataclass(frozen=True)
class FitTable:
    """What the landmark network's habits are on renders of one head model (models/landmark_fit.npz).

    All displacements in head coordinates, m. sigma: (L,) noise of a landmark in the picture plane.
    depth_sigma: (L,) the same for relative depth. depth_gain: what the network's depth must be multiplied
    with. bias: (L, 3) mean error. response: (L, 3, C) how much more or less a landmark moves than the skin
    under it, per unit of a coefficient. moving: (L, 3, A) errors that come and go together, standing: (L, 3,
    B) errors that stay with a person, both one standard deviation a column. mean (C,) and covariance (C, C)
    of the face coefficients to be expected. shape_response: (L, 3, S) as response, for the shape
    coefficients.

    A person is fitted as S shape coefficients and B standing errors. person_mean (S + B,) is what comes out
    on average where zero would be right; person_map (S, S + B) is the regression of what the shape
    coefficients lack on the fit; person_distance is the usual distance of a fitted person from the mean.
    """

    sigma: F64
    depth_sigma: F64
    depth_gain: float
    bias: F64
    response: F64
    moving: F64
    standing: F64
    mean: F64
    covariance: F64
    shape_response: F64
    person_mean: F64
    person_map: F64
    person_distance: float

    @staticmethod
    def plain(model: LandmarkModel) -> FitTable:
        """For a head model nothing was measured for: equal noise, independent coefficients."""
        count = len(model.template)
        sigma = np.full(count, 2.5e-3)
        depth = np.full(count, 8e-3)
        sigma[MESH:] = depth[MESH:] = np.inf
        spread = 0.3 * (model.upper - model.lower)
        nothing = np.zeros((count, 3, 0))
        return FitTable(
            sigma,
            depth,
            1.0,
            np.zeros((count, 3)),
            np.zeros((count, 3, model.face_size)),
            nothing,
            nothing,
            np.clip(0.0, model.lower, model.upper),
            np.diag(spread**2),
            np.zeros((count, 3, model.shape_size)),
            np.zeros(model.shape_size),
            np.zeros((model.shape_size, model.shape_size)),
            np.inf,
        )

    def likely_shape(self, person: F64) -> F64:
        """(S,) expected shape coefficients of who was fitted as `person` (S + B,) without a depth camera.

        The further the person is from all that the regression was learnt from, the less of it is used: it
        must not extrapolate.
        """
        away = person - self.person_mean
        share = 1.0 / (1.0 + (float(np.linalg.norm(away)) / (_RESEMBLANCE * self.person_distance)) ** 4)
        count = len(self.person_map)
        return np.asarray(person[:count] + share * (self.person_map @ away - self.person_mean[:count]))


TABLE = "landmark_fit.npz"


def load_table(head: HeadModel, model: LandmarkModel) -> FitTable:
    """The table measured for `head`, or a plain one where models/ holds none for it.

    Raises ModelError for a damaged file, and for a table of the same head model with another geometry.
    """
    try:
        path = resources.find("models", TABLE)
    except InputError:
        return FitTable.plain(model)
    try:
        with np.load(path, allow_pickle=False) as archive:
            data = {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile's and numpy's errors share no base class
        raise ModelError(f"{path}: damaged fit table ({error})") from None
    if (
        str(data["head_model"]) != head.id
        or tuple(str(n) for n in data["expression_names"]) != head.expression_names
    ):
        return FitTable.plain(model)
    if "fingerprint" not in data or str(data["fingerprint"]) != fingerprint(head):
        raise ModelError(
            f"{path} was measured on another version of head model '{head.id}'; "
            f"make it anew: python -m research.faces.landmark_calibration {path}"
        )
    values = {name: data[name].astype(np.float64) for name in _TABLE_ARRAYS}
    return FitTable(
        depth_gain=float(data["depth_gain"]), person_distance=float(data["person_distance"]), **values
    )


_TABLE_ARRAYS = (
    "sigma",
    "depth_sigma",
    "bias",
    "response",
    "moving",
    "standing",
    "mean",
    "covariance",
    "shape_response",
    "person_mean",
    "person_map",
)


@dataclass(frozen=True)
class Fit:
    """Result for one picture. pose: (4, 4) head to camera. face: (C,) coefficients; std: (C,). shape: (S,).

    gaze: (2, 2) yaw and pitch of the left and right eye in rad, NaN under closed lids. residual: mean
    distance of seen and fitted landmarks over the distance of the outer eye corners.
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

    expression_rate: how fast a coefficient may wander, per square root second. shape_memory: pictures over
    which the shape is learnt. shape_trust: how much one picture counts as news about the shape (errors of
    neighbouring pictures are alike).
    """

    expression_rate: float = 4.0
    shape_memory: float = 200.0
    shape_trust: float = 0.3
    iterations: int = 2
    first_iterations: int = 8


class LandmarkFit:
    """Fits one person. Keep one instance a person; `reset` for the next."""

    def __init__(
        self, model: LandmarkModel, table: FitTable | None = None, settings: FitSettings | None = None
    ) -> None:
        self.model = model
        self.table = table if table is not None else FitTable.plain(model)
        self.settings = settings if settings is not None else FitSettings()
        table = self.table
        self._eye_distance = float(
            np.linalg.norm(model.template[EYE_CORNER_LEFT] - model.template[EYE_CORNER_RIGHT])
        )
        self._centre = head_centre(model)
        # columns: errors that come and go | face | shape | errors that stay
        face = model.basis[:, :, : model.face_size] + table.response
        shape = model.basis[:, :, model.face_size :] + table.shape_response
        self._basis = np.ascontiguousarray(
            np.concatenate([table.moving, face, shape, table.standing], axis=2), np.float32
        )
        self._errors = table.moving.shape[2]
        self._first = POSE + self._errors  # unknowns that are eliminated
        self._own = self._first + model.face_size
        rows = 3 * len(model.template)
        self._jacobian = np.zeros((rows, POSE + self._basis.shape[2]), np.float32)
        self._narrow = np.zeros((rows, self._own), np.float32)
        self._rigid = np.zeros((rows, POSE), np.float32)
        self._residual = np.zeros(rows, np.float32)
        self._strength = np.where(np.isfinite(table.sigma), 1.0 / table.sigma, 0.0)
        self._depth_strength = np.where(np.isfinite(table.depth_sigma), 1.0 / table.depth_sigma, 0.0)
        self._even = np.where(self._strength > 0, 1.0, 0.0)
        self._blank = np.zeros(len(model.template))
        self._lower = model.lower.copy()
        self._upper = model.upper.copy()
        self._gaze_columns = list(model.gaze)
        covariance = table.covariance.copy()
        covariance[self._gaze_columns] = 0.0
        covariance[:, self._gaze_columns] = 0.0
        covariance[self._gaze_columns, self._gaze_columns] = 1.0
        self._precision = np.linalg.inv(covariance + 1e-4 * np.eye(len(covariance)))
        self._nuisance = np.concatenate(
            [np.full(6, 1e-3), [1e-3, 100.0], np.ones(self._errors)]
        )  # gain is known to a tenth
        self._size = self._size_direction()
        self.reset()

    def _size_direction(self) -> F64:
        """Unit vector in person space that comes nearest to a larger head of the same shape.

        A larger head farther away looks the same but for its perspective, and that is weaker than the
        landmarks' own errors: without a depth camera, size is left to the prior.
        """
        person = self._basis[:MESH, :, self._own - POSE :].reshape(3 * MESH, -1).astype(np.float64)
        larger = (self.model.template[:MESH] - self._centre).reshape(-1)
        direction = np.linalg.solve(
            person.T @ person + 1e-6 * len(larger) * np.eye(person.shape[1]), person.T @ larger
        )
        return np.asarray(direction / np.linalg.norm(direction))

    def reset(self) -> None:
        """Forget the person."""
        shapes = self._basis.shape[2] + POSE - self._own
        self._information = np.zeros((shapes, shapes))
        self._evidence = np.zeros(shapes)
        self._pictures = 0
        self._metric = False  # whether a depth camera has told the size
        self._person = np.zeros(shapes)  # shape, then errors that stay
        self._neutral = self.model.template + self.table.bias
        self.reset_motion()

    def reset_motion(self) -> None:
        """Keep the person's shape, forget pose and expression (the face was out of sight)."""
        self._pose: F64 | None = None
        self._face = np.clip(self.table.mean, self._lower, self._upper)
        self._gaze = np.zeros((2, 2))
        self._nuisances = np.zeros(self._first)
        self._nuisances[7] = 1.0

    @property
    def shape(self) -> F64:
        """(S,) the person's shape as known so far."""
        return (
            self._person[: self.model.shape_size]
            if self._metric or not self._pictures
            else self.table.likely_shape(self._person)
        )

    @property
    def person(self) -> F64:
        """(S + B,) the person as fitted: shape coefficients and errors of the landmarks that stay."""
        return self._person.copy()

    def fit(self, landmarks: Landmarks, intrinsics: F64, elapsed_s: float, depth: F32 | None = None) -> Fit:
        """Fit one picture.

        intrinsics: (3, 3). elapsed_s: time since the picture before. depth: (L,) metres at each landmark from
        a depth camera, NaN where unknown, or None.
        """
        pixels = landmarks.points[:, :2].astype(np.float64)
        reach = intrinsics[0, 0] * self._eye_distance / max(landmarks.eye_distance, 1.0)
        camera = np.array([intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2], reach])
        first = self._pose is None
        if first:
            self._pose = self._first_pose(pixels, intrinsics)
        depths, strength_depth, relative = self._depths(landmarks, camera, depth)
        if not relative:
            self._metric = True
            self._stand_at(depths, strength_depth)
        rounds = self.settings.first_iterations if first else self.settings.iterations
        step = np.inf if first else self.settings.expression_rate**2 * max(elapsed_s, 1e-3)
        self._nuisances[POSE:] = 0.0
        before = self._face.copy()
        gram = np.zeros((0, 0))
        for turn in range(rounds):
            gram = self._iterate(pixels, depths, strength_depth, relative, camera, before, step)
            if first and turn % 2:
                self._learn_shape(pixels, depths, strength_depth, relative, camera, 1.0, keep=False)
        if self._pictures < _EAGER or self._pictures % _SELDOM == 0:
            self._learn_shape(
                pixels, depths, strength_depth, relative, camera, self.settings.shape_trust, keep=True
            )
        self._pictures += 1
        std = np.sqrt(np.clip(np.diag(np.linalg.inv(gram)), 0.0, None))
        return self._result(pixels, camera, std)

    # --- one picture

    def _first_pose(self, pixels: F64, intrinsics: F64) -> F64:
        """Rotation vector about the head's centre and position of that centre, from the landmarks that move
        least.
        """
        stable = list(_STABLE)
        solved, turn, shift = cv2.solvePnP(
            self._neutral[stable] - self._centre, pixels[stable], intrinsics, None, flags=cv2.SOLVEPNP_SQPNP
        )
        pose = np.zeros((3, 4))
        if solved and float(shift[2, 0]) > 0:
            pose[:, :3] = cv2.Rodrigues(turn)[0]
            pose[:, 3] = shift[:, 0]
            return pose
        size = np.linalg.norm(pixels[EYE_CORNER_LEFT] - pixels[EYE_CORNER_RIGHT])
        real = np.linalg.norm(self._neutral[EYE_CORNER_LEFT] - self._neutral[EYE_CORNER_RIGHT])
        far = float(intrinsics[0, 0] * real / max(size, 1.0))
        middle = pixels[stable].mean(axis=0)
        pose[:, :3] = np.diag([1.0, -1.0, -1.0])
        pose[:, 3] = np.linalg.solve(intrinsics, np.array([middle[0], middle[1], 1.0])) * far
        return pose

    def _stand_at(self, depths: F64, strength: F64) -> None:
        """Move the head along its ray to the measured depth where it is far from it: robust weights would not
        see so far.
        """
        assert self._pose is not None
        stable = np.array(_STABLE)[strength[list(_STABLE)] > 0]
        placed = (self._neutral[stable] - self._centre) @ self._pose[2, :3] + self._pose[2, 3]
        measured = float(np.median(depths[stable]))
        expected = float(np.median(placed))
        if abs(measured - expected) > 2.0 * OUTLIER:
            self._pose[:, 3] *= max(self._pose[2, 3] + measured - expected, 0.05) / self._pose[2, 3]

    def _depths(self, landmarks: Landmarks, camera: F64, depth: F32 | None) -> tuple[F64, F64, bool]:
        """Depth of each landmark, its strength, and whether it is only relative (an angle: times distance
        gives metres).
        """
        if depth is not None and np.isfinite(depth[list(_STABLE)]).sum() >= 6:
            measured = np.isfinite(depth)
            strength = np.where(measured & (self._strength > 0), 1.0 / 4e-3, 0.0)
            return np.where(measured, depth, 0.0).astype(np.float64), strength, False
        return (
            landmarks.points[:, 2].astype(np.float64) * (self.table.depth_gain / camera[0]),
            self._depth_strength,
            True,
        )

    def _fill(
        self, pixels: F64, depths: F64, strength: F64, relative: bool, camera: F64, whole: bool
    ) -> tuple[F64, F64]:
        """Normal equations (information, slope) of pose, errors and face, or of everything."""
        assert self._pose is not None
        moved = np.concatenate([self._nuisances[POSE:], self._face]).astype(np.float32)
        points = self._neutral + self._basis[:, :, : len(moved)] @ moved
        jacobian = self._jacobian if whole else self._narrow
        pose = np.concatenate([self._centre, self._pose[:, 3], self._nuisances[6:POSE]])
        linearise(
            points,
            self._basis,
            self._pose[:, :3].copy(),
            pose,
            pixels,
            depths,
            camera,
            self._strength,
            strength,
            relative,
            jacobian.shape[1] - POSE,
            jacobian,
            self._residual,
        )
        information = (jacobian.T @ jacobian).astype(np.float64)
        slope = (self._residual @ jacobian).astype(np.float64)
        information[np.diag_indices(self._first)] += self._nuisance
        slope[7] += self._nuisance[7] * (1.0 - self._nuisances[7])
        slope[POSE : self._first] -= self._nuisances[POSE:]
        return information, slope

    def _iterate(
        self,
        pixels: F64,
        depths: F64,
        strength: F64,
        relative: bool,
        camera: F64,
        before: F64,
        variance: float,
    ) -> F64:
        """One Gauss-Newton step; returns the information matrix of the face coefficients."""
        assert self._pose is not None
        information, slope = self._fill(pixels, depths, strength, relative, camera, False)
        first = self._first
        solved = np.linalg.solve(
            information[:first, :first], np.column_stack([information[:first, first:], slope[:first]])
        )
        gram = information[first:, first:] - information[first:, :first] @ solved[:, :-1]
        target = slope[first:] - information[first:, :first] @ solved[:, -1] + gram @ self._face
        gram = gram + self._precision
        target = target + self._precision @ self.table.mean
        if np.isfinite(variance):
            gram[np.diag_indices(len(gram))] += 1.0 / variance
            target += before / variance
        face = bounded.solve(gram, target, self._lower, self._upper, self._face, tolerance=1e-4, sweeps=60)
        move = solved[:, -1] - solved[:, :-1] @ (face - self._face)
        self._face = face
        self._pose[:, :3] = rotation_matrix(move[:3]) @ self._pose[:, :3]
        self._pose[:, 3] += move[3:6]
        self._pose[2, 3] = max(self._pose[2, 3], 0.05)
        self._nuisances[6:] += move[6:]
        return np.asarray(gram)

    def _learn_shape(
        self, pixels: F64, depths: F64, strength: F64, relative: bool, camera: F64, trust: float, keep: bool
    ) -> None:
        """What this picture says about the person, pose and expression eliminated, into the information
        filter.
        """
        information, slope = self._fill(pixels, depths, strength, relative, camera, True)
        first = self._first
        own = self._own
        information[first:own, first:own] += self._precision
        slope[first:own] += self._precision @ (self.table.mean - self._face)
        solved = np.linalg.solve(
            information[:own, :own], np.column_stack([information[:own, own:], slope[:own]])
        )
        news = information[own:, own:] - information[own:, :own] @ solved[:, :-1]
        evidence = slope[own:] - information[own:, :own] @ solved[:, -1]
        if relative:
            news -= np.outer(news @ self._size, self._size)
            news -= np.outer(self._size, self._size @ news)
            evidence -= (evidence @ self._size) * self._size
        evidence = evidence + news @ self._person
        fade = 1.0 - 1.0 / self.settings.shape_memory
        total = self._information * fade + trust * news
        right_side = self._evidence * fade + trust * evidence
        if keep:
            self._information = total
            self._evidence = right_side
        self._person = np.clip(np.linalg.solve(total + np.eye(len(total)), right_side), -3.5, 3.5)
        self._neutral = self.model.template + self.table.bias + self._basis[:, :, own - POSE :] @ self._person

    def _result(self, pixels: F64, camera: F64, std: F64) -> Fit:
        assert self._pose is not None
        model = self.model
        points = model.points(self._face, self.shape)  # the skin itself, without the network's habits
        self._solve(points, pixels, camera)
        placed = (points - self._centre) @ self._pose[:, :3].T + self._pose[:, 3]
        drawn = placed[:, :2] / placed[:, 2:] * camera[:2] + camera[2:4]
        miss = np.linalg.norm(drawn - pixels, axis=1)[:MESH].mean()
        across = placed[EYE_CORNER_LEFT] - placed[EYE_CORNER_RIGHT]
        size = float(np.linalg.norm(across)) * camera[0] / float(placed[EYE_CORNER_LEFT, 2])
        pose = np.eye(4)
        pose[:3, :3] = self._pose[:, :3]
        pose[:3, 3] = self._pose[:, 3] - self._pose[:, :3] @ self._centre
        everything = np.concatenate([self._face, self.shape])
        self._gaze = gaze_of(model, everything, pose[:3, :3], pose[:3, 3], pixels, drawn, camera, self._gaze)
        return Fit(pose, self._face.copy(), std, self.shape.copy(), self._gaze.copy(), float(miss) / size)

    def _solve(self, points: F64, pixels: F64, camera: F64) -> None:
        """Two steps of pose alone, so that the skin lies on the landmarks as well as a rigid head can."""
        assert self._pose is not None
        nothing = np.zeros((len(points), 3, 0), np.float32)
        for _ in range(2):
            pose = np.concatenate([self._centre, self._pose[:, 3], [0.0, 1.0]])
            linearise(
                points,
                nothing,
                self._pose[:, :3].copy(),
                pose,
                pixels,
                self._blank,
                camera,
                self._even,
                self._blank,
                True,
                0,
                self._rigid,
                self._residual,
            )
            jacobian = self._rigid[:, :6].astype(np.float64)
            move = np.linalg.solve(jacobian.T @ jacobian + 1e-6 * np.eye(6), jacobian.T @ self._residual)
            self._pose[:, :3] = rotation_matrix(move[:3]) @ self._pose[:, :3]
            self._pose[:, 3] += move[3:]
