"""Face detection: BlazeFace short range (Bazarevsky et al.

2019, "BlazeFace: Sub-millisecond neural face detection").

The network looks at the whole picture, shrunk to 128 x 128, and rates 896 anchors; boxes of one face are
merged with weights (section 3.3 of the paper), which jitters less than keeping the best one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ...inference.network import open_shipped
from ...types import F32, F64, U8, Array

DETECTOR = "face_detector.onnx"
INPUT = 128
_MERGE_OVERLAP = 0.3


@dataclass(frozen=True)
class Detection:
    """One face in picture coordinates (pixels).

    box: (4,) x, y of the upper left corner, width, height. keypoints: (6, 2) right eye, left eye, nose tip,
    mouth, right ear, left ear (right is the subject's). score: 0..1.
    """

    box: F64
    keypoints: F64
    score: float


def anchors() -> F32:
    """(896, 2) anchor centres in 0..1: two a cell on a 16 x 16 grid, six a cell on an 8 x 8 grid, row by row."""
    rows = []
    for cells, per_cell in ((16, 2), (8, 6)):
        centre = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(centre, centre), axis=-1).reshape(-1, 2)
        rows.append(np.repeat(grid, per_cell, axis=0))
    return np.concatenate(rows).astype(np.float32)


def letterbox(image: U8, size: int = INPUT) -> tuple[U8, float, tuple[int, int]]:
    """`image` shrunk into a black square: (size, size, 3), pixels of the picture per pixel of the square, (x,
    y) of its corner in it.
    """
    height, width = image.shape[:2]
    scale = max(height, width) / size
    inner = max(round(width / scale), 1), max(round(height / scale), 1)
    corner = (size - inner[0]) // 2, (size - inner[1]) // 2
    square = np.zeros((size, size, 3), np.uint8)
    shrunk = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR)
    square[corner[1] : corner[1] + inner[1], corner[0] : corner[0] + inner[0]] = shrunk
    return square, scale, corner


def decode(regressors: Array, logits: Array, grid: F32, min_score: float) -> tuple[F64, F64]:
    """Candidates above `min_score` in square pixels: (n, 8, 2) corner, size and six keypoints; (n,) scores,
    best first.
    """
    scores = 1.0 / (1.0 + np.exp(-np.clip(logits.reshape(-1).astype(np.float64), -100.0, 100.0)))
    kept_rows = np.flatnonzero(scores >= min_score)
    kept_rows = kept_rows[np.argsort(-scores[kept_rows], kind="stable")]
    values = regressors.reshape(-1, 8, 2)[kept_rows].astype(np.float64)
    values[:, [0, 2, 3, 4, 5, 6, 7]] += grid[kept_rows][:, None] * INPUT
    values[:, 0] -= values[:, 1] / 2.0  # centre to corner
    return values, scores[kept_rows]


def merge(values: F64, scores: F64) -> list[tuple[F64, float]]:
    """Weighted non-maximum suppression: candidates that overlap the best one are averaged, weighted by score."""
    faces = []
    left = np.arange(len(scores))
    while len(left):
        overlap = _overlap(values[left[0], :2], values[left, :2])
        same = left[overlap > _MERGE_OVERLAP]
        same = same if len(same) else left[:1]
        faces.append((np.average(values[same], axis=0, weights=scores[same]), float(scores[left[0]])))
        left = np.setdiff1d(left, same, assume_unique=True)
    return faces


def _overlap(box: F64, boxes: F64) -> F64:
    """Intersection over union of one (2, 2) corner-and-size box with (n, 2, 2) others."""
    low = np.maximum(box[0], boxes[:, 0])
    high = np.minimum(box[0] + box[1], boxes[:, 0] + boxes[:, 1])
    common = np.prod(np.clip(high - low, 0.0, None), axis=1)
    union = np.prod(box[1]) + np.prod(boxes[:, 1], axis=1) - common
    return np.asarray(common / np.maximum(union, 1e-9))


class FaceDetector:
    """Finds faces in a whole picture. About 2 ms on one core."""

    def __init__(self, min_score: float = 0.5) -> None:
        self._network = open_shipped(DETECTOR)
        self._anchors = anchors()
        self._min_score = min_score

    def detect(self, image: U8) -> list[Detection]:
        """Faces in `image` (H, W, 3) RGB, best first; an empty list where there is none."""
        square, scale, corner = letterbox(image)
        regressors, logits = self._network.run(["regressors", "classificators"], {"image": square[None]})
        values, scores = decode(regressors, logits, self._anchors, self._min_score)
        detections = []
        for value, score in merge(values, scores):
            size = value[1] * scale
            points = (value - corner) * scale
            detections.append(Detection(np.concatenate([points[0], size]), points[2:], score))
        return detections
