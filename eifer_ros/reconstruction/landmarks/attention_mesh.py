"""478 face landmarks: MediaPipe's attention mesh (Grishchenko et al.

2020, "Attention Mesh: High-fidelity face mesh prediction in real-time"): 468 points of a face mesh, lips and
eyes refined, and five points on each iris.

The network sees a square crop, turned so that the eyes are level. Conventions of crop and rotation are
MediaPipe's, because the network was trained with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from ...inference.network import open_shipped
from ...types import F32, F64, U8
from .detector import Detection

LANDMARKER = "face_landmarks.onnx"
INPUT = 192
COUNT = 478
MESH = 468
EYE_CORNER_RIGHT = 33
EYE_CORNER_LEFT = 263
"""Outer eye corners; right is the subject's."""
IRIS_RIGHT = 468
IRIS_LEFT = 473
"""Centres of the irises; the four points after each lie on its edge."""
_ENLARGE = 1.5


@dataclass(frozen=True)
class Crop:
    """A turned square in the picture: centre (x, y), side in pixels, angle in rad (clockwise in the picture,
    as y points down).
    """

    x: float
    y: float
    side: float
    angle: float

    def matrix(self, size: int = INPUT) -> F64:
        """(2, 3) affine map from crop pixels (`size` x `size`) to picture pixels."""
        scale = self.side / size
        cos = math.cos(self.angle) * scale
        sin = math.sin(self.angle) * scale
        half = size / 2.0
        return np.array([[cos, -sin, self.x - half * (cos - sin)], [sin, cos, self.y - half * (sin + cos)]])


@dataclass(frozen=True)
class Landmarks:
    """478 points of one face.

    points: (478, 3) float32; x, y in picture pixels, z in the same scale, smaller is nearer to the camera, 0
    about at the middle of the head. presence: 0..1, how sure the network is that the crop holds a face.
    """

    points: F32
    presence: float

    @property
    def eye_distance(self) -> float:
        """Distance of the outer eye corners in pixels, with depth, so that a turned head does not shrink it."""
        return float(np.linalg.norm(self.points[EYE_CORNER_RIGHT] - self.points[EYE_CORNER_LEFT]))


def crop_from_detection(face: Detection) -> Crop:
    """Where to look for landmarks of a detected face."""
    return _square(face.box[:2] + face.box[2:] / 2.0, face.box[2:], face.keypoints[0], face.keypoints[1])


def crop_from_landmarks(points: F32) -> Crop:
    """Where the same face will be in the next picture."""
    low = points[:MESH, :2].min(axis=0)
    high = points[:MESH, :2].max(axis=0)
    return _square((low + high) / 2.0, high - low, points[EYE_CORNER_RIGHT, :2], points[EYE_CORNER_LEFT, :2])


def _square(centre: F64 | F32, size: F64 | F32, right_eye: F64 | F32, left_eye: F64 | F32) -> Crop:
    angle = math.atan2(float(left_eye[1] - right_eye[1]), float(left_eye[0] - right_eye[0]))
    return Crop(float(centre[0]), float(centre[1]), _ENLARGE * float(max(size)), angle)


class FaceLandmarker:
    """Places 478 landmarks in a crop. About 4 ms on one core."""

    def __init__(self) -> None:
        self._network = open_shipped(LANDMARKER)

    def locate(self, image: U8, crop: Crop) -> Landmarks:
        """Landmarks of the face inside `crop` of `image` (H, W, 3) RGB."""
        matrix = crop.matrix()
        patch = cv2.warpAffine(
            image,
            matrix,
            (INPUT, INPUT),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        points, presence = self._network.run(["landmarks", "presence"], {"image": patch[None]})
        placed = np.empty((COUNT, 3), np.float32)
        placed[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        placed[:, 2] = points[:, 2] * (crop.side / INPUT)
        return Landmarks(placed, float(presence[0]))
