"""Follows one face: the crop comes from the landmarks of the picture before; the detector runs only to find a
face.

Electrodes and hands break detectors long before they break a tracked crop, and a tracked crop cannot jump to
a second person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...types import F32, U8
from .attention_mesh import Crop, FaceLandmarker, Landmarks, crop_from_detection, crop_from_landmarks
from .detector import Detection, FaceDetector

_SMALLEST_WINDOW = 160
_HOLD = 5
_SMALLEST_FACE = 24.0
"""Side of a crop in pixels below which landmarks carry nothing."""


Window = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""


def _windows(width: int, height: int) -> tuple[list[Window], list[Window]]:
    """Squares as high (or wide) as the picture, and overlapping squares half as large; none where that gains
    nothing.
    """
    side = min(width, height)
    large = _grid(width, height, side) if max(width, height) > 1.25 * side else []
    return large, _grid(width, height, side // 2) if side >= 2 * _SMALLEST_WINDOW else []


def _grid(width: int, height: int, side: int) -> list[Window]:
    def starts(length: int) -> list[int]:
        count = max(math.ceil((length - side) / (0.6 * side)), 0) + 1
        return [round(k * (length - side) / max(count - 1, 1)) for k in range(count)]

    return [(x, y, x + side, y + side) for y in starts(height) for x in starts(width)]


@dataclass
class TrackerCounts:
    """Since the start: pictures with a face, pictures without one, and times that the detector had to look."""

    tracked: int = 0
    lost: int = 0
    searched: int = 0


class CropTracker:
    """What is remembered of one face through a video, whoever reads it: where it is, and for how long it has
    been gone.
    """

    def __init__(self) -> None:
        self.counts = TrackerCounts()
        self.reset()

    def reset(self) -> None:
        """Forget the face; the next picture is searched."""
        self._crop: Crop | None = None
        self._last: Crop | None = None
        self._absent = 0
        self._size: tuple[int, ...] = ()

    def _look_at(self, image: U8, crop: Crop) -> None:
        """The face is there, in a picture of the size of `image`."""
        self._crop = crop
        self._last = crop
        self._absent = 0
        self._size = image.shape

    def _enter(self, image: U8) -> Crop | None:
        """Where to look first in `image`."""
        if image.shape != self._size:
            self.reset()  # another camera or another mode: no crop carries over
            self._size = image.shape
        return self._crop

    def _leave(self, image: U8, crop: Crop | None) -> None:
        """What became of `image`: where the face is, or None."""
        if crop is None:
            self._crop = None
            self._absent += 1
            self.counts.lost += 1
        else:
            self._look_at(image, crop)
            self.counts.tracked += 1


class FaceTracker(CropTracker):
    """One face through a video.

    min_presence: below this the crop holds no face and the whole picture is searched. A face that comes back
    within `memory` pictures is taken near the place where it was lost, whoever else stands in the picture.
    """

    def __init__(
        self, detector: FaceDetector, landmarker: FaceLandmarker, min_presence: float = 0.5, memory: int = 60
    ) -> None:
        self._detector = detector
        self._landmarker = landmarker
        self._min_presence = min_presence
        self._memory = memory
        super().__init__()

    def follow(self, image: U8, points: F32) -> None:
        """Look at these landmarks (478, 3) first in the next picture, of the size of `image`: somebody else
        knows where the face is.
        """
        self._look_at(image, crop_from_landmarks(points))

    def track(self, image: U8) -> Landmarks | None:
        """Landmarks of the face in `image` (H, W, 3) RGB, or None where there is none."""
        crop = self._enter(image)
        landmarks = self._locate_in_crop(image, crop) if crop is not None else None
        if landmarks is None:
            landmarks = self._search(image)
        self._leave(image, None if landmarks is None else crop_from_landmarks(landmarks.points))
        return landmarks

    def _search(self, image: U8) -> Landmarks | None:
        """The whole picture, then, for a face that is small in it, its squares, and two of the smaller
        squares a picture.
        """
        self.counts.searched += 1
        large, small = _windows(image.shape[1], image.shape[0])
        turn = [small[(2 * self._absent + k) % len(small)] for k in (0, 1)] if small else []
        for windows in (self._near(image), [(0, 0, image.shape[1], image.shape[0])], large, turn):
            faces = [
                face for window in windows for face in self._detect(image, window) if self._plausible(face)
            ]
            for face in sorted(faces, key=self._preference, reverse=True):
                landmarks = self._locate_in_crop(image, crop_from_detection(face))
                if landmarks is not None:
                    # the detector's box is rough: a second look at the landmarks' own crop places them as
                    # tracking would
                    return self._locate_in_crop(image, crop_from_landmarks(landmarks.points)) or landmarks
        return None

    def _near(self, image: U8) -> list[Window]:
        """The surroundings of the place where the face was lost."""
        if self._last is None or self._absent > self._memory:
            return []
        reach = 1.5 * self._last.side
        left = max(round(self._last.x - reach), 0)
        top = max(round(self._last.y - reach), 0)
        right = min(round(self._last.x + reach), image.shape[1])
        bottom = min(round(self._last.y + reach), image.shape[0])
        return [(left, top, right, bottom)] if right - left > 8 and bottom - top > 8 else []

    def _plausible(self, face: Detection) -> bool:
        """In the first pictures after a loss, only a face at that place: nobody else takes over in a blink."""
        return self._last is None or self._absent >= _HOLD or self._distance(face) < 1.0

    def _distance(self, face: Detection) -> float:
        """From where the face was lost, in crops."""
        assert self._last is not None
        centre = face.box[:2] + face.box[2:] / 2.0
        return math.hypot(centre[0] - self._last.x, centre[1] - self._last.y) / max(self._last.side, 1.0)

    def _detect(self, image: U8, window: Window) -> list[Detection]:
        left, top, right, bottom = window
        corner = np.array([left, top], np.float64)
        return [
            Detection(
                np.concatenate([face.box[:2] + corner, face.box[2:]]), face.keypoints + corner, face.score
            )
            for face in self._detector.detect(np.ascontiguousarray(image[top:bottom, left:right]))
        ]

    def _preference(self, face: Detection) -> float:
        """Nearest to where the face was lost; else the largest."""
        if self._last is None or self._absent > self._memory:
            return face.score * float(np.prod(face.box[2:]))
        return -self._distance(face)

    def _locate_in_crop(self, image: U8, crop: Crop) -> Landmarks | None:
        height, width = image.shape[:2]
        inside = 0.0 <= crop.x < width and 0.0 <= crop.y < height
        if not inside or not _SMALLEST_FACE <= crop.side <= 8.0 * max(height, width):
            return None
        landmarks = self._landmarker.locate(image, crop)
        if landmarks.presence < self._min_presence or not np.isfinite(landmarks.points).all():
            return None
        return landmarks
