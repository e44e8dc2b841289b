"""Pinhole camera: head model coordinates to pixels and back.

Camera coordinates are optical (x right, y down, z forward, metres). Pixel (column, row) = (u, v) has its
centre at whole numbers, as in OpenCV: the top left pixel covers u, v from -0.5 to 0.5. No lens distortion:
undistort pictures first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..types import F64, Array

FACING = np.diag([1.0, -1.0, -1.0])
"""Rotation from model axes (x to the subject's left, y up, z out of the face) to the axes of a camera that
looks at the face.
"""

_FOCAL_PER_SHORT_SIDE = 1.28  # a RealSense D435 colour camera: 615 px at 640x480, 1380 px at 1920x1080


def default_intrinsics(width: int, height: int) -> F64:
    """(3, 3) pinhole matrix for a picture of unknown origin: square pixels, centred, 43 degrees across the
    short side.
    """
    if width < 1 or height < 1:
        raise InputError(
            f"a picture of {width} x {height} pixels has no camera matrix; both sides must be at least 1"
        )
    focal = _FOCAL_PER_SHORT_SIDE * min(width, height)
    return np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])


def facing_pose(
    distance_m: float,
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    centre: npt.ArrayLike = (0.0, 0.0, 0.0),
    offset: npt.ArrayLike = (0.0, 0.0),
) -> F64:
    """(4, 4) head pose of a face that looks at the camera.

    yaw > 0 turns the face to the subject's left, pitch > 0 tips it down, roll > 0 tips it to the subject's
    right shoulder; rad, roll first. `centre`, a point in model coordinates, comes to lie `distance_m` in
    front of the camera and `offset` (2,) m beside the optical axis.
    """
    cy = np.cos(yaw)
    sy = np.sin(yaw)
    cp = np.cos(pitch)
    sp = np.sin(pitch)
    cr = np.cos(roll)
    sr = np.sin(roll)
    turn_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turn_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3] = FACING @ turn_y @ turn_x @ turn_z
    side = np.asarray(offset, np.float64)
    pose[:3, 3] = np.array([side[0], side[1], distance_m]) - pose[:3, :3] @ np.asarray(centre, np.float64)
    return pose


def to_camera(points: npt.ArrayLike, head_pose: npt.ArrayLike) -> Array:
    """(N, 3) points in model coordinates to camera coordinates, in the float type of `points`."""
    source = np.asarray(points)
    dtype = source.dtype if source.dtype in (np.float32, np.float64) else np.float64
    pose = np.asarray(head_pose, dtype)
    return np.asarray(source.astype(dtype, copy=False) @ pose[:3, :3].T + pose[:3, 3])


def project(points: npt.ArrayLike, head_pose: npt.ArrayLike, K: npt.ArrayLike) -> Array:
    """(N, 3) model points to (N, 3) [u px, v px, depth m], in the float type of `points`.

    A point at or behind the camera has u and v NaN.
    """
    camera = to_camera(points, head_pose)
    matrix = np.asarray(K, camera.dtype)
    depth = camera[:, 2:3]
    safe = np.where(depth > 0, depth, np.nan)
    pixels = np.empty_like(camera)
    pixels[:, :2] = camera[:, :2] / safe @ matrix[:2, :2].T + matrix[:2, 2]
    pixels[:, 2] = camera[:, 2]
    return pixels
