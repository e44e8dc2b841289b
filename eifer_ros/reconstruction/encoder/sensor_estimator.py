"""Faces under sensors: an encoder that was trained on them, and the head model fitted to what it says."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from ...head import projection
from ...head.model import HeadModel
from ...inference.network import Backend
from ...types import F64, U8, Frame
from ..confidence import expected_error, for_network
from ..estimators import Estimate, EstimatorConfig, depth_at
from ..landmarks.attention_mesh import EYE_CORNER_LEFT, EYE_CORNER_RIGHT, Crop, Landmarks
from ..landmarks.fitted import estimate_of, finite
from ..landmarks.landmark_fit import Fit
from ..landmarks.landmark_model import LandmarkModel
from ..landmarks.tracker import TrackerCounts
from ..reconstruction_config import ReconstructionConfig
from .encoder_tracker import EncoderTracker
from .face_crop import POINTS, SIZE, crop_of
from .face_encoder import ENCODER, FaceEncoder, Reading
from .sensor_fit import SensorFit, SensorFitSettings

_STRANGER_MISS = 0.07
_STRANGER_PICTURES = 20
"""So many pictures in a row with points this far off (in eye distances): the shape belongs to somebody else.
"""
_DOUBTFUL = 0.3
_DOUBTFUL_PICTURES = 15
"""So many pictures in a row that are trusted less than this: the tracker looks for the face anew."""


class SensorEstimator:
    """Follows one face, bare or under sensors; see `Estimator`.

    Raises ModelError where the encoder does not fit.
    """

    config_type = EstimatorConfig
    name = "sensors"
    reason = "asked for"

    def __init__(
        self,
        head: HeadModel,
        settings: SensorFitSettings,
        *,
        encoder: str = ENCODER,
        backend: Backend = "onnxruntime",
        both_ways: bool = True,
        min_readable: float = 0.5,
        memory: int = 60,
    ) -> None:
        self.encoder = FaceEncoder(head, encoder, backend, both_ways=both_ways)
        self.confidence = for_network(encoder)
        self.head = head
        self.model = LandmarkModel.of(head)
        self._tracker = EncoderTracker(self.encoder, min_readable=min_readable, memory=memory)
        self._fit = SensorFit(self.model, replace(settings, std_scale=self.confidence.std_scale))
        self._expected = expected_error(head)
        self._expected[list(self.model.gaze)] = 0.0
        self._eyes_mm = 1e3 * float(
            np.linalg.norm(self.model.template[EYE_CORNER_LEFT] - self.model.template[EYE_CORNER_RIGHT])
        )
        self._times = np.zeros(2)
        self._strange = 0
        self._doubtful = 0
        self.fitted: Fit | None = None
        """To the last picture, None where there was no face."""
        self.reading: Reading | None = None
        """What the encoder said of the last picture, None where there was no face."""

    @classmethod
    def create(
        cls, config: EstimatorConfig, head: HeadModel, shared: ReconstructionConfig
    ) -> SensorEstimator:
        """As the reconstruction's parameters say. Raises ModelError where the encoder does not fit."""
        return cls(
            head,
            SensorFitSettings(expression_rate=shared.expression_rate, shape_memory=shared.shape_memory),
            encoder=shared.encoder,
            backend=shared.backend,
            both_ways=shared.both_ways,
            min_readable=shared.min_presence,
            memory=shared.memory,
        )

    @property
    def counts(self) -> TrackerCounts:
        """Pictures with and without a face, and searches."""
        return self._tracker.counts

    @property
    def patch(self) -> U8 | None:
        """The picture (SIZE, SIZE, 3) that was last read; with `reading.crop` its place."""
        return self._tracker.patch

    def warm_up(self) -> None:
        """Run network and fit on a made-up face."""
        self._tracker.track(np.full((256, 256, 3), 90, np.uint8))
        K = projection.default_intrinsics(256, 256)
        pose = projection.facing_pose(0.6, centre=self.model.template.mean(axis=0))
        points = projection.project(self.model.template, pose, K)[list(POINTS), :2]
        crop = Crop(128.0, 128.0, 128.0, 0.0)
        read = self.encoder.read_patches([np.full((SIZE, SIZE, 3), 90, np.uint8)], [crop])[0]
        for _ in range(3):
            self._fit.fit(
                replace(
                    read, points=points, turn=projection.FACING, readable=1.0, shape=np.zeros_like(read.shape)
                ),
                K,
                0.03,
            )
        self.reset()
        self._tracker.counts = TrackerCounts()

    def reset(self) -> None:
        """Forget the face and the person."""
        self._tracker.reset()
        self._fit.reset()
        self._strange = 0
        self._doubtful = 0
        self.reading = None

    def follow(self, frame: Frame, landmarks: Landmarks) -> None:
        """Take over a face that was found in `frame` another way."""
        self._fit.reset_motion()
        self._tracker.follow(frame.image, crop_of(landmarks.points[list(POINTS), :2]))

    def estimate(self, frame: Frame, intrinsics: F64, elapsed_s: float) -> Estimate | None:
        """The face in `frame`, read by the encoder; None where there is none."""
        start = time.perf_counter()
        reading = self._tracker.track(frame.image)
        self.reading = reading
        located = time.perf_counter()
        self._times[:] = located - start, 0.0
        self.fitted = None
        if reading is None:
            self._fit.reset_motion()
            return None
        fit = self._fit.fit(reading, intrinsics, elapsed_s, self._depth(frame, reading))
        self._times[1] = time.perf_counter() - located
        self._strange = self._strange + 1 if fit.residual > _STRANGER_MISS else 0
        if self._strange >= _STRANGER_PICTURES or not finite(fit):
            self._fit.reset()
            self._strange = 0
        if not finite(fit):
            return None
        confidence = self.trust(fit, reading)
        self._doubtful = self._doubtful + 1 if confidence < _DOUBTFUL else 0
        if self._doubtful >= _DOUBTFUL_PICTURES:
            self._tracker.request_redetection()
            self._doubtful = 0
        self.fitted = fit
        landmarks = Landmarks(self._fit.points.astype(np.float32), reading.readable)
        return estimate_of(self.head, self.model, fit, confidence, landmarks)

    def expected_mm(self, std: F64) -> float:
        """Error of the face's vertices in mm that goes with these standard deviations of the expression."""
        return float(np.sqrt(self._expected @ std[: len(self._expected)] ** 2))

    def landmark_error_mm(self, fit: Fit) -> float:
        """How far the encoder's points lie from the fitted head, mm."""
        return fit.residual * self._eyes_mm

    def trust(self, fit: Fit, reading: Reading) -> float:
        """The calibrated confidence."""
        expected = self.confidence.std_scale * self.expected_mm(reading.expression_std)
        return self.confidence.of(expected, self.landmark_error_mm(fit), reading.readable)

    def _depth(
        self, frame: Frame, reading: Reading
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None:
        if frame.depth is None:
            return None
        points = np.full((len(self.model.template), 3), np.nan, np.float32)
        points[list(POINTS), :2] = reading.points
        return depth_at(frame.depth, Landmarks(points, reading.readable))

    def times_ms(self) -> dict[str, float]:
        """`encoder_ms` and `fit_ms` of the last picture."""
        return {"encoder_ms": round(self._times[0] * 1e3, 3), "fit_ms": round(self._times[1] * 1e3, 3)}
