"""Follows one face with the encoder's own landmarks; the detector only (re)acquires.

Pads and cables break detectors: its box is only where the encoder looks first, and where it finds none a few
plain squares are tried. The encoder itself says whether a crop holds a face (`readable`), looked at again in
the crop that its own landmarks ask for. Half a face can be as readable as a whole one; what tells them apart
is how far off the encoder expects to be. A face that was just found is read in several crops that lie a
little beside each other, and their mean is taken: the first picture is as sure as later ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np

from ...types import F64, U8
from ..landmarks.attention_mesh import Crop
from ..landmarks.detector import Detection, FaceDetector
from ..landmarks.tracker import CropTracker
from .face_crop import SIZE, crop_of
from .face_encoder import Reading, cut, nearest_rotation

SMALLEST_FACE = 24.0
"""Side of a crop in pixels below which nothing can be read."""
_DETECTION = 0.3
"""Score that is worth a look: under sensors the detector is rarely sure."""
_LOOKS = 3
_CROP_PER_BOX = 1.35
"""Side of the encoder's crop over that of the detector's box."""
_HOLD = 5
"""Pictures after a loss in which nobody else is taken; later, plain squares are tried in every so many
pictures only.
"""
_CLOSE = 0.15
"""Candidates that are as readable as the best but for this much are told apart by the error that the encoder
expects.
"""
SHIFTS = ((0.0, 0.0), (0.04, 0.0), (-0.04, 0.0), (0.0, 0.04), (0.0, -0.04), (0.03, 0.03), (-0.03, -0.03))
"""By how much of its side a crop is moved for the mean over shifted crops."""
_FLAT = 5.0
_LIT = 0.5
"""Grey levels of contrast, and share of pixels neither black nor white, without which no face can be read."""


class Reader(Protocol):
    """What the tracker needs of an encoder."""

    def read_patches(self, patches: Sequence[U8], crops: Sequence[Crop]) -> list[Reading]:
        """One reading for each picture already cut."""
        ...


def exposed(patch: U8) -> bool:
    """Whether a patch (S, S, 3) shows anything: neither black nor burnt out nor one flat colour where the
    face should be.
    """
    side = len(patch)
    middle = cv2.cvtColor(patch[side // 5 : -side // 5, side // 5 : -side // 5], cv2.COLOR_RGB2GRAY)
    lit = float(((middle > 12) & (middle < 248)).mean())
    return lit >= _LIT and float(middle.std()) >= _FLAT


def inside(crop: Crop, width: int, height: int) -> float:
    """Share of the crop's middle (where the face is) that lies in the picture, 0..1, by a grid of points."""
    steps = (np.arange(9) + 0.5) / 9.0 * 0.8 + 0.1
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    matrix = crop.matrix(1)
    points = grid @ matrix[:, :2].T + matrix[:, 2]
    return float(((points >= 0) & (points <= (width - 1, height - 1))).all(axis=1).mean())


def shifted(crop: Crop, count: int = len(SHIFTS)) -> list[Crop]:
    """The crop moved along its own axes by the first `count` of `SHIFTS`; it comes first itself."""
    cos = math.cos(crop.angle)
    sin = math.sin(crop.angle)
    return [
        replace(
            crop, x=crop.x + crop.side * (dx * cos - dy * sin), y=crop.y + crop.side * (dx * sin + dy * cos)
        )
        for dx, dy in SHIFTS[:count]
    ]


def mean_of(readings: Sequence[Reading]) -> Reading:
    """What several crops of one face say together: the crop and the readability of the first, the rest as
    means.

    The standard deviations are the mean ones: crops of one picture err alike.
    """
    first = readings[0]
    if len(readings) == 1:
        return first
    return replace(
        first,
        points=np.mean([one.points for one in readings], axis=0),
        expression=np.mean([one.expression for one in readings], axis=0),
        expression_std=np.mean([one.expression_std for one in readings], axis=0),
        turn=nearest_rotation(np.mean([one.turn for one in readings], axis=0)),
        shape=np.mean([one.shape for one in readings], axis=0),
    )


class EncoderTracker(CropTracker):
    """One face through a video.

    min_readable: below this a crop holds no face that can be read. A face that comes back within `memory`
    pictures is first looked for where it was lost, and for the first pictures nobody else is taken in its
    place.
    """

    def __init__(
        self,
        reader: Reader,
        detector: FaceDetector | None = None,
        min_readable: float = 0.5,
        memory: int = 60,
    ) -> None:
        self._reader = reader
        self._detector = FaceDetector(_DETECTION) if detector is None else detector
        self._min_readable = min_readable
        self._memory = memory
        super().__init__()

    def reset(self) -> None:
        """Forget the face; the next picture is searched."""
        super().reset()
        self.patch: U8 | None = None
        """What was read last, for whoever wants to look at the same pixels."""

    def track(self, image: U8) -> Reading | None:
        """What is read of the face in `image` (H, W, 3) RGB, or None where there is none."""
        crop = self._enter(image)
        reading = self._read_crop(image, crop) if crop is not None else None
        if reading is None and (reading := self.search(image)) is not None:
            reading = self.average_shifted_crops(image, reading)
        self._leave(image, None if reading is None else crop_of(reading.points))
        return reading

    def follow(self, image: U8, crop: Crop) -> None:
        """Look there first in the next picture, of the size of `image`: somebody else knows where the face
        is.
        """
        self._look_at(image, crop)

    def request_redetection(self) -> None:
        """What is followed may be no whole face: search the next picture, the present crop among the others."""
        self._crop = None

    def average_shifted_crops(self, image: U8, reading: Reading) -> Reading:
        """`reading` as the mean over shifted crops, those that read a face as well."""
        crops = shifted(crop_of(reading.points))
        readings = self._reader.read_patches([cut(image, crop, SIZE) for crop in crops], crops)
        return mean_of(
            [
                reading,
                *(
                    one
                    for one in readings
                    if one.readable >= self._min_readable and _plausible(one.points, one.crop)
                ),
            ]
        )

    def search(self, image: U8) -> Reading | None:
        """The face nearest to where it was lost, or the one that reads best."""
        self.counts.searched += 1
        remembered = self._last if self._absent <= self._memory else None
        candidates = [remembered] if remembered is not None else []
        for face in self._detector.detect(image):
            candidates.append(_from_detection(face))
        reading = self._best(image, candidates, remembered)
        if reading is None and (self._absent < _HOLD or self._absent % _HOLD == 0):
            reading = self._best(image, _squares(image, self._absent), remembered)
        return reading

    def _best(self, image: U8, candidates: Sequence[Crop], remembered: Crop | None) -> Reading | None:
        """Look at every candidate and settle on the surest.

        A first look may be far off: only the last one counts.
        """
        settled = []
        for candidate in candidates:
            reading = self._refine_crop(image, candidate)
            if reading is None:
                continue
            if (
                remembered is not None
                and self._absent < _HOLD
                and _distance(crop_of(reading.points), remembered) > 1.0
            ):
                continue  # in the first pictures after a loss nobody else takes over
            settled.append(reading)
        least = max((reading.readable for reading in settled), default=0.0) - _CLOSE
        return min((reading for reading in settled if reading.readable >= least), key=_expected, default=None)

    def _refine_crop(self, image: U8, crop: Crop) -> Reading | None:
        """Look `_LOOKS` times, each time where the landmarks of the look before say; None unless it comes to
        rest on a face.
        """
        reading = None
        for iteration in range(_LOOKS):
            last = iteration == _LOOKS - 1
            reading = self._read_crop(image, crop, self._min_readable if last else 0.05)
            if reading is None:
                return None
            following = crop_of(reading.points)
            if last and _distance(following, crop) > 0.2:
                return None  # still wandering: it holds on to nothing
            crop = following
        return reading

    def _read_crop(self, image: U8, crop: Crop, least: float | None = None) -> Reading | None:
        height, width = image.shape[:2]
        if not SMALLEST_FACE <= crop.side <= 4.0 * max(height, width) or inside(crop, width, height) < 0.5:
            return None
        patch = cut(image, crop, SIZE)
        if not exposed(patch):
            return None
        reading = self._reader.read_patches([patch], [crop])[0]
        if reading.readable < (self._min_readable if least is None else least) or not _plausible(
            reading.points, crop
        ):
            return None
        self.patch = patch
        return reading


def _plausible(points: F64, crop: Crop) -> bool:
    """Whether landmarks can be a face of that crop: finite, about its size, not far from its middle."""
    if not np.isfinite(points).all():
        return False
    spread = float(np.ptp(points, axis=0).max())
    away = float(np.hypot(*(points.mean(axis=0) - (crop.x, crop.y))))
    return 0.25 * crop.side < spread < 1.6 * crop.side and away < 0.6 * crop.side


def _expected(reading: Reading) -> float:
    """How far off the encoder expects to be, over all coefficients."""
    return float(np.linalg.norm(reading.expression_std))


def _distance(crop: Crop, other: Crop) -> float:
    """Between centres and between sizes, in crops; the greater."""
    moved = math.hypot(crop.x - other.x, crop.y - other.y) / max(other.side, 1.0)
    return max(moved, abs(math.log(max(crop.side, 1.0) / max(other.side, 1.0))))


def _from_detection(face: Detection) -> Crop:
    right = face.keypoints[0]
    left = face.keypoints[1]
    centre = face.box[:2] + face.box[2:] / 2.0
    angle = math.atan2(float(left[1] - right[1]), float(left[0] - right[0]))
    return Crop(float(centre[0]), float(centre[1]), _CROP_PER_BOX * float(face.box[2:].max()), angle)


def _squares(image: U8, turn: int) -> list[Crop]:
    """Where a face may be that the detector does not see: in the middle at three sizes; every other time also
    beside it.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    out = [Crop(width / 2.0, height / 2.0, share * short, 0.0) for share in (1.0, 0.75, 0.5)]
    if turn % 2:
        out += [
            Crop(width * x, height * y, 0.6 * short, 0.0)
            for x, y in ((0.3, 0.45), (0.7, 0.45), (0.5, 0.3), (0.5, 0.7))
        ]
    return out
