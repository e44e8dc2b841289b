"""The square that the networks for faces under sensors look at, and the points that they place in it.

Training pictures and live pictures are cut by the same function: a network is as good as its crop is the
same.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ..landmarks.attention_mesh import EYE_CORNER_LEFT, EYE_CORNER_RIGHT, Crop

SIZE = 128
"""Side of the networks' pictures in pixels."""
MARGIN = 1.3
"""Side of the crop over the longer side of the box around the points."""

# fmt: off
POINTS: tuple[int, ...] = tuple(sorted({
    # outline of the face
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
    # lips, outer and inner
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
    # lids, subject's right then left
    33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173,
    263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398,
    # brows
    46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293, 334, 296, 336,
    # nose
    168, 6, 197, 195, 5, 4, 1, 2, 98, 97, 326, 327, 64, 294, 48, 278, 129, 358, 49, 279,
    # cheeks, chin, forehead
    50, 280, 205, 425, 187, 411, 117, 346, 199, 175, 9, 151, 69, 299, 18, 200,
    # irises
    468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
}))
# fmt: on
"""Which of the 478 landmarks the networks place."""

_RIGHT = POINTS.index(EYE_CORNER_RIGHT)
_LEFT = POINTS.index(EYE_CORNER_LEFT)


def crop_of(points: npt.ArrayLike) -> Crop:
    """The crop of a face whose `POINTS` are seen at points (L, 2) in pixels: turned so that the eyes are
    level, centred on their box.

    Raises InputError for another number of points or points that are not finite.
    """
    flat = np.asarray(points, np.float64)
    if flat.shape != (len(POINTS), 2) or not np.isfinite(flat).all():
        raise InputError(
            f"a face crop is made from {len(POINTS)} finite points (x, y); got an array of shape {flat.shape}"
        )
    right = flat[_RIGHT]
    left = flat[_LEFT]
    angle = math.atan2(float(left[1] - right[1]), float(left[0] - right[0]))
    cos = math.cos(angle)
    sin = math.sin(angle)
    turned = flat @ np.array([[cos, -sin], [sin, cos]])
    low = turned.min(axis=0)
    high = turned.max(axis=0)
    centre = np.array([[cos, -sin], [sin, cos]]) @ ((low + high) / 2.0)
    return Crop(float(centre[0]), float(centre[1]), MARGIN * float((high - low).max()), angle)
