"""How near a picture is to another of the same moment, and whether a landmark detector finds the face in it.

PSNR and SSIM as Wang, Bovik, Sheikh and Simoncelli define them ("Image quality assessment: from error
visibility to structural similarity", IEEE TIP 13(4), 2004): Gaussian window of 11 x 11 pixels, deviation 1.5,
K1 = 0.01, K2 = 0.03, on brightness. Both can be taken over part of the picture only: the face, not its
background.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..reconstruction.landmarks.attention_mesh import FaceLandmarker
from ..reconstruction.landmarks.detector import FaceDetector
from ..reconstruction.landmarks.tracker import FaceTracker
from ..types import F64, U8, Bools

PEAK = 255.0
SAME_DB = 99.0
"""What equal pictures count as in a mean of PSNR."""
WINDOW = 11
DEVIATION = 1.5
K1 = 0.01
K2 = 0.03
Mask = Bools


def psnr_db(estimate: U8, truth: U8, mask: Mask | None = None) -> float:
    """10 log10(255^2 / mean squared difference) over all channels of the pixels in `mask` (H, W), or of all;
    infinite for equal pictures.

    Raises InputError for pictures that are not uint8 of one size, and for an empty mask.
    """
    inside = _checked(estimate, truth, mask)
    error = float(((estimate.astype(np.float64) - truth) ** 2)[inside].mean())
    return float("inf") if error == 0.0 else float(10.0 * np.log10(PEAK**2 / error))


def ssim(estimate: U8, truth: U8, mask: Mask | None = None) -> float:
    """Mean of `ssim_map` over the pixels in `mask` (H, W), or over all whose window lies in the picture.

    -1..1, 1 for equal pictures.

    Raises InputError for pictures that are not uint8 of one size, that are smaller than the window, and for a
    mask without such pixels.
    """
    inside = _checked(estimate, truth, mask)
    edge = WINDOW // 2
    inner = inside[edge:-edge, edge:-edge]
    if not inner.any():
        raise InputError(
            f"structural similarity needs pixels {edge} or more from the border; the mask or the picture has none"
        )
    return float(ssim_map(estimate, truth)[edge:-edge, edge:-edge][inner].mean())


def ssim_map(estimate: U8, truth: U8) -> F64:
    """(H, W) structural similarity of brightness around every pixel; within 5 pixels of the border the
    picture is mirrored.

    Colour pictures are RGB; their brightness is ITU-R BT.601 luma.
    """
    _checked(estimate, truth, None)
    a = _brightness(estimate)
    b = _brightness(truth)

    def mean(values: F64) -> F64:
        return np.asarray(
            cv2.GaussianBlur(values, (WINDOW, WINDOW), DEVIATION, borderType=cv2.BORDER_REFLECT), np.float64
        )

    mean_a = mean(a)
    mean_b = mean(b)
    spread_a = mean(a * a) - mean_a**2
    spread_b = mean(b * b) - mean_b**2
    common = mean(a * b) - mean_a * mean_b
    c1 = (K1 * PEAK) ** 2
    c2 = (K2 * PEAK) ** 2
    top = (2.0 * mean_a * mean_b + c1) * (2.0 * common + c2)
    return np.asarray(top / ((mean_a**2 + mean_b**2 + c1) * (spread_a + spread_b + c2)))


def face_mask(points: npt.ArrayLike, size: tuple[int, int]) -> Mask:
    """(height, width) of `size` (width, height): True within the convex hull of landmarks (L, 2) in pixels.

    Raises InputError where fewer than three finite points are given.
    """
    flat = np.asarray(points, np.float64)
    if flat.ndim != 2 or flat.shape[1] != 2 or len(flat) < 3 or not np.isfinite(flat).all():
        raise InputError(
            f"a face is outlined by three or more finite points (x, y); got an array of shape {flat.shape}"
        )
    plane = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillConvexPoly(plane, cv2.convexHull(np.round(flat).astype(np.int32)), 1)
    return plane > 0


class FaceFinder:
    """A landmark detector that sees each picture as if it were the first: BlazeFace, then the presence the
    attention mesh gives.
    """

    def __init__(self, min_presence: float = 0.5) -> None:
        self._tracker = FaceTracker(FaceDetector(), FaceLandmarker(), min_presence)

    def __call__(self, picture: U8) -> bool:
        """Whether a face with landmarks is found in (H, W, 3) RGB."""
        self._tracker.reset()
        return self._tracker.track(picture) is not None


def _brightness(picture: U8) -> F64:
    values = picture.astype(np.float64)
    return values if values.ndim == 2 else np.asarray(values @ np.array([0.299, 0.587, 0.114]))


def _checked(estimate: U8, truth: U8, mask: Mask | None) -> Mask:
    for picture in (estimate, truth):
        if (
            picture.dtype != np.uint8
            or picture.ndim not in (2, 3)
            or (picture.ndim == 3 and picture.shape[2] != 3)
        ):
            raise InputError(f"pictures are uint8 (H, W) or (H, W, 3); got {picture.dtype} {picture.shape}")
    if estimate.shape != truth.shape:
        raise InputError(f"two pictures of one size are compared; got {estimate.shape} and {truth.shape}")
    if mask is None:
        return np.ones(truth.shape[:2], bool)
    if mask.shape != truth.shape[:2] or mask.dtype != bool:
        raise InputError(
            f"the mask of these pictures is bool {truth.shape[:2]}; got {mask.dtype} {mask.shape}"
        )
    if not mask.any():
        raise InputError("the mask is empty: nothing to compare")
    return mask
