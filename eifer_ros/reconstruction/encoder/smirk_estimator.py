"""SMIRK's encoder on an imported FLAME head (Retsinas et al., CVPR 2024), and encoders that were trained on from
it (`eifer train face --head-model flame.npz`).

The network looks at a crop of 224 x 224 and gives FLAME's coefficients, the turn of the head about FLAME's root
joint, and a weak-perspective camera over the crop. Head pose and depth of the picture's own camera are those
under which the face is seen where that camera puts it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...config import parameter
from ...errors import ConfigError, ModelError
from ...head.fingerprint import fingerprint
from ...head.model import DEFAULT_HEAD, HeadModel, load_head, rotation_matrix
from ...head.projection import FACING
from ...inference.network import Backend, open_network, require
from ...types import F32, F64, U8, Frame
from ..estimators import Estimate, EstimatorConfig
from ..landmarks.attention_mesh import EYE_CORNER_LEFT, EYE_CORNER_RIGHT, Crop, FaceLandmarker, Landmarks
from ..landmarks.detector import FaceDetector
from ..landmarks.tracker import FaceTracker, TrackerCounts
from ..reconstruction_config import ReconstructionConfig
from .encoder_tracker import EncoderTracker
from .face_crop import POINTS, crop_of
from .face_encoder import FaceEncoder, as_input, cut, ray_rotation

KIND = "smirk_encoder"
SIZE = 224
MARGIN = 1.4
"""Side of SMIRK's crop over the mean of width and height of the box around the landmarks."""
UPRIGHT = "box of all landmarks, upright"
LEVEL = "face_crop, level"
"""Crops that a network may have been trained with: SMIRK's own, and eifer's (`face_crop.crop_of`)."""
OUTPUTS = ("shape", "expression", "eyelids", "jaw", "rotation", "camera")
"""In the column order of EIFER's and SMIRK's parameter tables: 300 + 50 + 2 + 3 + 3 + 3."""
_SAMPLES = 200


class SmirkConfig(EstimatorConfig):
    """Parameters of the estimator `smirk`."""

    usage: ClassVar[str] = "smirk:FILE.onnx"
    url_field: ClassVar[str] = "encoder"

    encoder: str = parameter(
        "", "the network: from `eifer models import-smirk`, or encoder_s.onnx of `eifer train face`"
    )


@dataclass(frozen=True)
class SmirkReading:
    """What the network says about one crop, in its own terms.

    shape, expression: as many as it knows. eyelids: (2,). jaw, rotation: (3,) axis-angle, rad. camera: scale,
    shift right, shift up over a crop of -1..1.
    """

    shape: F64
    expression: F64
    eyelids: F64
    jaw: F64
    rotation: F64
    camera: F64


class SmirkEncoder:
    """The network on one thread.

    Raises ModelError where the file is missing, damaged, of another kind, or made for another head model.
    """

    def __init__(self, head: HeadModel, name: str, backend: Backend = "onnxruntime") -> None:
        self.network = open_network(name, backend)
        about = self.network.about
        sizes = {name: about.get(f"{name}_size", 0) for name in ("shape", "expression")}
        outputs = {"eyelids": (2,), "jaw": (3,), "rotation": (3,), "camera": (3,)}
        expected = {"size": SIZE, "head_model": head.id, "head_fingerprint": fingerprint(head)}
        require(self.network, KIND, expected, {name: (size,) for name, size in sizes.items()} | outputs)
        if sizes["shape"] > head.shape_size or sizes["expression"] > head.expression_size:
            raise ModelError(
                f"{name} gives {sizes['shape']} shape and {sizes['expression']} expression coefficients; "
                f"head model '{head.id}' has {head.shape_size} and {head.expression_size}"
            )
        self.crop = str(about.get("crop"))
        if self.crop not in (UPRIGHT, LEVEL):
            raise ModelError(f"{name} wants the crop '{self.crop}'; known are '{UPRIGHT}' and '{LEVEL}'")
        self.margin = float(about.get("margin", MARGIN))

    def read(self, image: U8, crop: Crop) -> SmirkReading:
        """What it says about `crop` of `image` (H, W, 3) RGB."""
        values = self.network.run(OUTPUTS, {"picture": as_input([cut(image, crop, SIZE)])})
        return SmirkReading(*(np.asarray(value[0], np.float64) for value in values))


def upright_crop(points: F32, margin: float = MARGIN) -> Crop:
    """The crop of SMIRK's demonstration round landmarks (L, 2 or more), pixels: an upright square about the
    middle of their box.
    """
    low = points[:, :2].min(axis=0)
    high = points[:, :2].max(axis=0)
    x, y = (low + high) / 2.0
    return Crop(float(x), float(y), margin * float((high - low).mean()), 0.0)


def head_pose(
    head: HeadModel, reading: SmirkReading, crop: Crop, intrinsics: F64, vertices: F32, root: F64
) -> F64:
    """(4, 4) head to camera.

    Its turn is the network's, seen along the ray through the middle of the crop; its shift is the one under
    which the vertices (V, 3), m, model coordinates, are projected nearest to where the network's
    weak-perspective camera puts them, by linear least squares. root: (3,) FLAME's root joint, about which it
    turns.
    """
    middle = ((crop.x - intrinsics[0, 2]) / intrinsics[0, 0], (crop.y - intrinsics[1, 2]) / intrinsics[1, 1])
    cos = math.cos(crop.angle)
    sin = math.sin(crop.angle)
    roll = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    turn = rotation_matrix(reading.rotation)
    placed = (vertices - root) @ turn.T + root
    scale = reading.camera[0]
    shift = reading.camera[1:]
    flat = 0.5 + 0.5 * scale * (placed[:, :2] + shift) * (1.0, -1.0)
    matrix = crop.matrix(1)
    rays = (flat @ matrix[:, :2].T + matrix[:, 2] - intrinsics[:2, 2]) / (intrinsics[0, 0], intrinsics[1, 1])
    pose = np.eye(4)
    pose[:3, :3] = ray_rotation(middle) @ roll @ FACING @ turn
    camera = vertices @ pose[:3, :3].T
    # u (z + tz) = x + tx, and the same for v
    left = np.zeros((2, len(vertices), 3))
    left[0, :, 0] = 1.0
    left[1, :, 1] = 1.0
    left[:, :, 2] = -rays.T
    right = rays.T * camera[:, 2] - camera[:, :2].T
    pose[:3, 3] = np.linalg.lstsq(left.reshape(-1, 3), right.reshape(-1), rcond=None)[0]
    return pose


class SmirkEstimator:
    """Reads a FLAME face with SMIRK's encoder; each picture for itself. See `Estimator`.

    Where it looks comes from landmarks of bare faces; for a network that was trained on eifer's crops, from
    eifer's own encoder, which finds faces under sensors too. Raises ModelError where the network does not fit
    the head.
    """

    config_type = SmirkConfig
    name = "smirk"
    reason = "asked for"

    def __init__(
        self,
        head: HeadModel,
        encoder: str,
        *,
        crops: str = "",
        backend: Backend = "onnxruntime",
        min_presence: float = 0.5,
        min_detection: float = 0.5,
        memory: int = 60,
    ) -> None:
        self.head = head
        self.encoder = SmirkEncoder(head, encoder, backend)
        self._tracker: FaceTracker | EncoderTracker
        if self.encoder.crop == UPRIGHT:
            self._tracker = FaceTracker(FaceDetector(min_detection), FaceLandmarker(), min_presence, memory)
        else:
            reader = FaceEncoder(load_head(DEFAULT_HEAD), crops, backend)
            self._tracker = EncoderTracker(reader, min_readable=min_presence, memory=memory)
        face = np.asarray(head.regions.get("face", np.arange(len(head.template))))
        self._face = face[:: max(len(face) // _SAMPLES, 1)]
        self._landmarked = "landmarks_478" in head.embeddings
        self._times = np.zeros(2)

    @classmethod
    def create(cls, config: SmirkConfig, head: HeadModel, shared: ReconstructionConfig) -> SmirkEstimator:
        """As the reconstruction's parameters say.

        Raises
        ------
        ConfigError
            No network is named.
        ModelError
            It does not fit the head model.
        """
        if not config.encoder:
            raise ConfigError(
                f"estimator smirk: which network? write {SmirkConfig.usage}, from `eifer models import-smirk`"
            )
        return cls(
            head,
            config.encoder,
            crops=shared.encoder,
            backend=shared.backend,
            min_presence=shared.min_presence,
            min_detection=shared.min_detection,
            memory=shared.memory,
        )

    @property
    def counts(self) -> TrackerCounts:
        """Pictures with and without a face, and searches."""
        return self._tracker.counts

    def warm_up(self) -> None:
        """Run the networks once."""
        image = np.full((256, 256, 3), 90, np.uint8)
        self._tracker.track(image)
        self.encoder.read(image, Crop(128.0, 128.0, 128.0, 0.0))
        self.reset()
        self._tracker.counts = TrackerCounts()

    def reset(self) -> None:
        """Forget the face."""
        self._tracker.reset()

    def estimate(self, frame: Frame, intrinsics: F64, elapsed_s: float) -> Estimate | None:
        """See `Estimator`."""
        start = time.perf_counter()
        self._times[:] = 0.0
        located = self._locate(frame.image)
        self._times[0] = time.perf_counter() - start
        if located is None:
            return None
        crop, landmarks, presence = located
        reading = self.encoder.read(frame.image, crop)
        self._times[1] = time.perf_counter() - start - self._times[0]
        head = self.head
        shape = np.zeros(head.shape_size, np.float32)
        shape[: len(reading.shape)] = reading.shape
        expression = np.zeros(head.expression_size, np.float32)
        expression[: len(reading.expression)] = reading.expression
        vertices = head.vertices(shape, expression, jaw=reading.jaw, eyelids=reading.eyelids)
        root = head.joint_positions(shape, expression)[0].astype(np.float64)
        pose = head_pose(head, reading, crop, intrinsics, vertices[self._face], root)
        if not (reading.camera[0] > 0 and np.isfinite(pose).all() and pose[2, 3] > 0):
            return None
        return Estimate(
            pose,
            shape,
            expression,
            np.full(head.expression_size, np.nan, np.float32),
            reading.jaw.astype(np.float32),
            np.zeros(3, np.float32),
            np.zeros((2, 3), np.float32),
            np.clip(reading.eyelids, 0.0, 1.0).astype(np.float32),
            presence,
            self._residual(vertices, pose, intrinsics, landmarks),
            landmarks,
            crop if landmarks is None else None,
        )

    def _locate(self, image: U8) -> tuple[Crop, Landmarks | None, float] | None:
        """Where the network is to look, the landmarks where there are any, and how sure it is that there is a
        face.
        """
        if isinstance(self._tracker, FaceTracker):
            landmarks = self._tracker.track(image)
            if landmarks is None:
                return None
            return upright_crop(landmarks.points, self.encoder.margin), landmarks, landmarks.presence
        reading = self._tracker.track(image)
        return None if reading is None else (crop_of(reading.points), None, reading.readable)

    def _residual(self, vertices: F32, pose: F64, intrinsics: F64, landmarks: Landmarks | None) -> float:
        """Mean distance of the head's landmarks from those in the picture, over the distance of the eyes."""
        if landmarks is None or not self._landmarked:
            return math.nan
        points = self.head.points(vertices)[list(POINTS)]
        camera = points @ pose[:3, :3].T + pose[:3, 3]
        flat = camera[:, :2] / camera[:, 2:] * (intrinsics[0, 0], intrinsics[1, 1]) + intrinsics[:2, 2]
        points_seen = landmarks.points[:, :2]
        eyes = np.linalg.norm(points_seen[EYE_CORNER_LEFT] - points_seen[EYE_CORNER_RIGHT])
        return float(np.linalg.norm(flat - points_seen[list(POINTS)], axis=1).mean() / eyes)

    def times_ms(self) -> dict[str, float]:
        """`landmarks_ms` and `encoder_ms` of the last picture."""
        return {
            "landmarks_ms": round(self._times[0] * 1e3, 3),
            "encoder_ms": round(self._times[1] * 1e3, 3),
        }
