"""Bare faces: 478 landmarks of a detector's mesh, and the head model fitted to them."""

from __future__ import annotations

import time

import numpy as np

from ...head import projection
from ...head.model import HeadModel
from ...types import F64, Frame
from ..estimators import Estimate, EstimatorConfig, depth_at
from ..reconstruction_config import ReconstructionConfig
from .attention_mesh import FaceLandmarker, Landmarks
from .detector import FaceDetector
from .fitted import estimate_of, finite
from .landmark_fit import Fit, FitSettings, LandmarkFit, load_table
from .landmark_model import LandmarkModel
from .tracker import FaceTracker, TrackerCounts

_STRANGER_RESIDUAL = 0.08
_STRANGER_PICTURES = 20
"""So many pictures in a row with a residual above this: the shape belongs to somebody else."""


class LandmarkEstimator:
    """Follows one bare face. About 8 ms a picture on one core; see `Estimator`."""

    config_type = EstimatorConfig
    name = "landmarks"
    reason = "asked for"

    def __init__(
        self, head: HeadModel, settings: FitSettings, min_presence: float, min_detection: float, memory: int
    ) -> None:
        self._tracker = FaceTracker(FaceDetector(min_detection), FaceLandmarker(), min_presence, memory)
        self.head = head
        self.model = LandmarkModel.of(head)
        self._fit = LandmarkFit(self.model, load_table(head, self.model), settings)
        self._times = np.zeros(2)
        self._strange = 0
        self.fitted: Fit | None = None
        """To the last picture, None where there was no face."""

    @classmethod
    def create(
        cls, config: EstimatorConfig, head: HeadModel, shared: ReconstructionConfig
    ) -> LandmarkEstimator:
        """As the reconstruction's parameters say."""
        fit = FitSettings(expression_rate=shared.expression_rate, shape_memory=shared.shape_memory)
        return cls(head, fit, shared.min_presence, shared.min_detection, shared.memory)

    @property
    def counts(self) -> TrackerCounts:
        """Pictures with and without a face, and searches."""
        return self._tracker.counts

    def warm_up(self) -> None:
        """Run networks and fit on a made-up face."""
        self._tracker.track(np.full((256, 256, 3), 90, np.uint8))
        K = projection.default_intrinsics(256, 256)
        pose = projection.facing_pose(0.6, centre=self.model.template.mean(axis=0))
        points = projection.project(self.model.template, pose, K)
        points[:, 2] = 0.0
        for _ in range(3):
            self._fit.fit(Landmarks(points.astype(np.float32), 1.0), K, 0.03)
        self.reset()
        self._tracker.counts = TrackerCounts()

    def reset(self) -> None:
        """Forget the face and the person."""
        self._tracker.reset()
        self._fit.reset()
        self._strange = 0

    def follow(self, frame: Frame, landmarks: Landmarks) -> None:
        """Take over a face that was found in `frame` another way."""
        self._fit.reset_motion()
        self._tracker.follow(frame.image, landmarks.points)

    def estimate(self, frame: Frame, intrinsics: F64, elapsed_s: float) -> Estimate | None:
        """The face in `frame`, fitted to its landmarks; None where there is none."""
        start = time.perf_counter()
        landmarks = self._tracker.track(frame.image)
        located = time.perf_counter()
        self._times[:] = located - start, 0.0
        self.fitted = None
        if landmarks is None:
            self._fit.reset_motion()
            return None
        depth = depth_at(frame.depth, landmarks) if frame.depth is not None else None
        fit = self._fit.fit(landmarks, intrinsics, elapsed_s, depth)
        self._times[1] = time.perf_counter() - located
        self._strange = self._strange + 1 if fit.residual > _STRANGER_RESIDUAL else 0
        if self._strange >= _STRANGER_PICTURES or not finite(fit):
            self._fit.reset()
            self._strange = 0
        if not finite(fit):
            return None
        self.fitted = fit
        confidence = landmarks.presence / (1.0 + (fit.residual / 0.06) ** 2)
        return estimate_of(self.head, self.model, fit, confidence, landmarks)

    def times_ms(self) -> dict[str, float]:
        """`landmarks_ms` and `fit_ms` of the last picture."""
        return {"landmarks_ms": round(self._times[0] * 1e3, 3), "fit_ms": round(self._times[1] * 1e3, 3)}
