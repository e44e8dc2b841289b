"""The encoder for faces under sensors: a crop in, head-model parameters and landmarks out.

The network (research/faces/face_encoder.py) looks at a picture of 128 x 128 that `face_crop.crop_of` cuts, and
places points of the head model itself, not of a detector: what it marks is exactly on the model, also where a
pad hides the skin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ...head.fingerprint import fingerprint
from ...head.model import HeadModel
from ...inference.network import Backend, open_network, require
from ...types import F32, F64, U8, Array
from ..landmarks.attention_mesh import Crop
from .face_crop import MARGIN, POINTS, SIZE
from .mirror import Mirror

ENCODER = "face_encoder.onnx"
ENCODER_BARE = "face_encoder_bare.onnx"
OUTPUTS = ("expression", "expression_std", "landmarks", "rotation", "shape", "readable")


def cut(image: U8, crop: Crop, size: int = SIZE) -> U8:
    """(size, size, 3) of `image` inside `crop`; black outside the picture.

    A crop that shrinks a lot is averaged, not sampled.
    """
    times = min(math.ceil(crop.side / size / 1.25), 6)
    matrix = crop.matrix(size)
    if times > 1:  # finer samples lie symmetrically about the coarse ones
        finer = matrix / times
        finer[:, 2] = matrix[:, 2] - matrix[:, :2].sum(axis=1) * (times - 1) / (2 * times)
        matrix = finer
    big = size * max(times, 1)
    patch = cv2.warpAffine(
        image,
        matrix,
        (big, big),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0),
    )
    return np.asarray(
        patch if times <= 1 else cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA), np.uint8
    )


def as_input(patches: U8 | Sequence[U8]) -> F32:
    """(N, 3, size, size) float32 0..1 from (N, size, size, 3) uint8."""
    stacked = np.asarray(patches, np.uint8)
    return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2), np.float32) * np.float32(1.0 / 255.0)


def ray_rotation(ray: npt.ArrayLike) -> F64:
    """(3, 3) the smallest rotation that takes the optical axis to the ray (x, y, 1)."""
    x, y = np.asarray(ray, np.float64)
    target = np.array([x, y, 1.0]) / math.sqrt(x * x + y * y + 1.0)
    # Rodrigues for the axis z x target: sine is the axis' length, cosine is target[2]
    cross = np.array([[0.0, 0.0, target[0]], [0.0, 0.0, target[1]], [-target[0], -target[1], 0.0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1.0 + target[2]))


@dataclass(frozen=True)
class Reading:
    """What the encoder says about one crop.

    points: (L, 2) `face_crop.POINTS` in picture pixels. expression, expression_std: (E,). turn: (3, 3)
    rotation of the head in the crop's own camera (see `rotation`). shape: (S,). readable: 0..1, that the crop
    holds a face that can be read.
    """

    crop: Crop
    points: F64
    expression: F64
    expression_std: F64
    turn: F64
    shape: F64
    readable: float

    def rotation(self, intrinsics: F64) -> F64:
        """(3, 3) head to camera: the crop's own rotation, rolled by its angle and turned onto the ray through
        its centre.
        """
        ray = (
            (self.crop.x - intrinsics[0, 2]) / intrinsics[0, 0],
            (self.crop.y - intrinsics[1, 2]) / intrinsics[1, 1],
        )
        cos = math.cos(self.crop.angle)
        sin = math.sin(self.crop.angle)
        roll = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        return np.asarray(ray_rotation(ray) @ roll @ self.turn)


class FaceEncoder:
    """An encoder on one thread. name: a file of models/, or a path.

    both_ways: read the mirrored crop as well and take the mean, for two thirds more time; without effect
    where the head model's coefficients have no left and right that can be told. Raises ModelError where the
    file is missing, damaged, of another architecture, or trained for another head model.
    """

    def __init__(
        self,
        head: HeadModel,
        name: str = ENCODER,
        backend: Backend = "onnxruntime",
        *,
        both_ways: bool = False,
    ) -> None:
        self.network = open_network(name, backend)
        expected = {
            "size": SIZE,
            "margin": MARGIN,
            "points": POINTS,
            "head_model": head.id,
            "head_fingerprint": fingerprint(head),
        }
        shapes = {
            "expression": (head.expression_size,),
            "expression_std": (head.expression_size,),
            "landmarks": (len(POINTS), 2),
            "rotation": (3, 3),
            "shape": (head.shape_size,),
            "readable": (),
        }
        require(self.network, "face_encoder", expected, shapes)
        self._lower = head.expression_bounds[:, 0].astype(np.float64)
        self._upper = head.expression_bounds[:, 1].astype(np.float64)
        self._mirror = Mirror.of(head) if both_ways else None

    def read(self, image: U8, crops: Sequence[Crop]) -> list[Reading]:
        """One reading for each crop of `image` (H, W, 3) RGB."""
        return self.read_patches([cut(image, crop) for crop in crops], crops)

    def read_patches(self, patches: Sequence[U8], crops: Sequence[Crop]) -> list[Reading]:
        """The same for pictures already cut; what is not finite makes a reading that is not readable."""
        stacked = np.asarray(patches, np.uint8)
        if self._mirror is not None:
            stacked = np.concatenate([stacked, stacked[:, :, ::-1]])
        expression, std, landmarks, turn, shape, readable = self.network.run(
            OUTPUTS, {"picture": as_input(stacked)}
        )
        outputs = EncoderOutputs(
            expression,
            std,
            landmarks.astype(np.float64) * SIZE,
            turn.astype(np.float64),
            shape,
            np.ravel(readable),
        )
        if self._mirror is not None:
            outputs = outputs.mean_with_mirrored(self._mirror)
        return [self._reading(crop, outputs, k) for k, crop in enumerate(crops)]

    def _reading(self, crop: Crop, outputs: EncoderOutputs, k: int) -> Reading:
        matrix = crop.matrix(SIZE)
        points = outputs.points[k] @ matrix[:, :2].T + matrix[:, 2]
        parts = (points, outputs.expression[k], outputs.std[k], outputs.turn[k], outputs.shape[k])
        readable = (
            float(np.clip(outputs.readable[k], 0.0, 1.0))
            if all(np.isfinite(part).all() for part in parts)
            else 0.0
        )
        return Reading(
            crop,
            points,
            np.clip(outputs.expression[k].astype(np.float64), self._lower, self._upper),
            np.abs(outputs.std[k].astype(np.float64)),
            nearest_rotation(outputs.turn[k]),
            outputs.shape[k].astype(np.float64),
            readable,
        )


class EncoderOutputs(NamedTuple):
    """The network's outputs for N pictures: expression, std (N, E), points (N, L, 2) in their pixels, turn
    (N, 3, 3), shape (N, S).
    """

    expression: Array
    std: Array
    points: Array
    turn: Array
    shape: Array
    readable: Array

    def mean_with_mirrored(self, mirror: Mirror) -> EncoderOutputs:
        """The second half is of the first half's mirror images: N / 2 of both together.

        Both may err alike, so std is the mean.
        """
        half = len(self.readable) // 2
        turned = EncoderOutputs(
            self.expression[half:, mirror.expression],
            self.std[half:, mirror.expression],
            mirror.points_of(self.points[half:], SIZE),
            mirror.turn(self.turn[half:]),
            self.shape[half:] * mirror.signs,
            self.readable[half:],
        )
        return EncoderOutputs(*((one[:half] + other) / 2.0 for one, other in zip(self, turned, strict=True)))


def nearest_rotation(matrix: F64) -> F64:
    """The rotation nearest to a (3, 3) matrix (orthogonal Procrustes)."""
    if not np.isfinite(matrix).all():
        return np.eye(3)
    u, _, vt = np.linalg.svd(matrix)
    return np.asarray((u * [1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt)
