"""Looks at the face and takes the better way to read it: landmarks where it is bare, the encoder where
sensors cover it.

At acquisition and about every second the restoring network says how much of the face is covered. Two
thresholds keep a face on their border from switching to and fro; a way that finds no face gives over to the
other at once. While a face is followed, the look comes after its estimate is on its way (`run_deferred_check`), so
that it holds up nobody.
"""

from __future__ import annotations

import numpy as np

from ..head.model import DEFAULT_HEAD, HeadModel
from ..inference.network import installed
from ..types import F64, Frame
from .encoder.encoder_tracker import exposed, inside
from .encoder.face_crop import POINTS, crop_of
from .encoder.face_encoder import ENCODER, cut
from .encoder.sensor_estimator import SensorEstimator
from .estimators import Estimate, EstimatorConfig
from .landmarks.landmark_estimator import LandmarkEstimator
from .landmarks.tracker import TrackerCounts
from .reconstruction_config import ReconstructionConfig
from .restore import RESTORER, FaceRestorer

COVERED = 0.2
BARE = 0.12
"""Shares of the face covered above which the encoder is taken, and below which landmarks are."""
LOOK_S = 1.0
_SELDOM = 3
"""While no face is in sight, the other way looks in every so many pictures: looking costs more than
following.
"""
_TIMES = 2
"""So many looks in a row must say the same before a face that is being read well is read another way."""


class AutoEstimator:
    """Reads bare faces by landmarks and covered ones by the encoder. `name` is the method of the moment, `reason` why."""

    config_type = EstimatorConfig

    def __init__(
        self, sensors: SensorEstimator, landmarks: LandmarkEstimator, restorer: FaceRestorer
    ) -> None:
        self.sensors = sensors
        self.landmarks = landmarks
        self.restorer = restorer
        self.covered = float("nan")
        """Share of the face covered at the last look."""
        self._counts = TrackerCounts()
        self.reset()

    @classmethod
    def create(
        cls, config: EstimatorConfig, head: HeadModel, shared: ReconstructionConfig
    ) -> AutoEstimator | LandmarkEstimator:
        """As the reconstruction's parameters say; landmarks alone where there is nothing to choose from."""
        landmarks = LandmarkEstimator.create(config, head, shared)
        reason = _only_landmarks(head, shared)
        if reason:
            landmarks.reason = reason
            return landmarks
        restorer = FaceRestorer(shared.restorer, shared.backend)
        return cls(SensorEstimator.create(config, head, shared), landmarks, restorer)

    @property
    def counts(self) -> TrackerCounts:
        """Of both ways together."""
        return self._counts

    @property
    def reason(self) -> str:
        """Why the way of the moment was taken."""
        return self._reason

    @property
    def name(self) -> str:
        """`sensors` or `landmarks`."""
        return self._used.name

    def reset(self) -> None:
        """Forget the face and the person."""
        self.sensors.reset()
        self.landmarks.reset()
        self._used: SensorEstimator | LandmarkEstimator = self.sensors
        self._reason = "no face seen yet"
        self._since = np.inf
        self._contrary = 0
        self._absent = 0
        self._lost = True
        self._due: tuple[Frame, F64, float, Estimate] | None = None

    def warm_up(self) -> None:
        """Both ways and the restoring network."""
        self.sensors.warm_up()
        self.landmarks.warm_up()
        self.restorer.warm_up()
        self._counts = TrackerCounts()
        self.reset()

    def estimate(self, frame: Frame, intrinsics: F64, elapsed_s: float) -> Estimate | None:
        """The face in `frame` by the method of the moment; None where there is none."""
        self.run_deferred_check()
        self._since += elapsed_s
        searched = self.sensors.counts.searched + self.landmarks.counts.searched
        estimate = self._used.estimate(frame, intrinsics, elapsed_s)
        self._absent = 0 if estimate is not None else self._absent + 1
        if estimate is None and self._absent % _SELDOM == 1:
            other = self._other()
            estimate = other.estimate(frame, intrinsics, elapsed_s)
            if estimate is not None:
                self._take(other, f"{self._used.name} found no face")
        if estimate is not None and self._lost:
            estimate = self._check_cover(frame, intrinsics, elapsed_s, estimate)
        elif estimate is not None and self._since >= LOOK_S:
            self._due = frame, intrinsics, elapsed_s, estimate
        self._lost = estimate is None
        self._counts.searched += self.sensors.counts.searched + self.landmarks.counts.searched - searched
        if estimate is None:
            self._counts.lost += 1
        else:
            self._counts.tracked += 1
        return estimate

    def run_deferred_check(self) -> None:
        """What may wait until the last estimate is on its way; the next estimate does it where nobody asked."""
        due = self._due
        self._due = None
        if due is not None:
            self._check_cover(*due)

    def _other(self) -> SensorEstimator | LandmarkEstimator:
        return self.landmarks if self._used is self.sensors else self.sensors

    def _take(self, way: SensorEstimator | LandmarkEstimator, reason: str) -> None:
        self._used = way
        self._reason = reason
        self._contrary = 0

    def _check_cover(self, frame: Frame, intrinsics: F64, elapsed_s: float, estimate: Estimate) -> Estimate:
        """How much is covered, and what follows from it."""
        acquired = self._lost
        self._since = 0.0
        assert estimate.landmarks is not None  # both ways place them
        crop = crop_of(estimate.landmarks.points[list(POINTS), :2])
        patch = cut(frame.image, crop)
        if inside(crop, *frame.size) < 0.5 or not exposed(patch):
            return estimate
        self.covered = self.restorer.restore(patch, crop).covered
        words = f"{100 * self.covered:.0f} % of the face is covered"
        better = (
            self.sensors if self.covered > COVERED else self.landmarks if self.covered < BARE else self._used
        )
        if better is self._used:
            self._contrary = 0
            self._reason = words
            return estimate
        self._contrary += 1
        if not acquired and self._contrary < _TIMES:
            return estimate
        better.follow(frame, estimate.landmarks)
        other = better.estimate(frame, intrinsics, elapsed_s)
        if other is None:
            self._reason = f"{words}, but {better.name} finds no face"
            self._contrary = 0
            return estimate
        self._take(better, words)
        return other

    def times_ms(self) -> dict[str, float]:
        """Of the way of the moment."""
        return self._used.times_ms()


def _only_landmarks(head: HeadModel, shared: ReconstructionConfig) -> str:
    """Why there are only landmarks to choose from, or nothing.

    Files that somebody named must be there; the shipped ones may lack.
    """
    pairs = ((shared.encoder, ENCODER), (shared.restorer, RESTORER))
    missing = [name for name, _ in pairs if not installed(name)]
    named = [name for name, usual in pairs if name != usual]
    if any(name in missing for name in named):
        return ""
    if missing:
        return f"{', '.join(missing)} not installed"
    if head.id != DEFAULT_HEAD and not named:
        return f"the shipped encoder knows head model '{DEFAULT_HEAD}', not '{head.id}'"
    return ""
