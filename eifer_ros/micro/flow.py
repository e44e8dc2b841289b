"""Dense motion of the face's picture between a key picture and now, at 128 px, with the head's own motion
taken out beforehand.

Both pictures are cut by an affine window: the key's is upright around the face, that of now is moved along
with the head as far as it is known, so that what is left for the flow (DIS, Kroeger et al. 2016, "Fast
optical flow using dense inverse search") is small. Brightness is normalised patch by patch, so that flicker
and drifting light are no motion.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from ..types import F32, F64, U8

SIZE = 128
"""Side of the pictures between which flow is measured, pixels."""
MARGIN = 1.12
"""Side of the window over the longer side of the face."""
_CONTRAST_PX = 10.0
"""Reach of the local mean and contrast, pixels of the window."""
_GREY = 34.0
"""Grey levels that one local standard deviation becomes."""
_WINDOW_PX = 4.0
"""Standard deviation of the windows of the last steps of the flow."""
_REMAP = 32.0
"""cv2.remap rounds places to this part of a pixel: steps start from places that are not rounded any further.
"""
_STIFF = 10.0
"""Squared grey levels per squared pixel that a window must have to move on its own."""
_FLOOR = 3.0
"""Grey levels of local contrast below which a patch is not stretched further: it holds noise alone."""


def window(points: npt.ArrayLike) -> F64:
    """(2, 3) matrix from window pixels to picture pixels: an upright square around points (N, 2) of the face."""
    flat = np.asarray(points, np.float64)
    low = flat.min(axis=0)
    high = flat.max(axis=0)
    scale = MARGIN * float((high - low).max()) / SIZE
    corner = (low + high) / 2.0 - scale * (SIZE - 1) / 2.0
    return np.array([[scale, 0.0, corner[0]], [0.0, scale, corner[1]]])


def normalised(grey: F32) -> F32:
    """A picture (H, W) freed of its light: local mean taken off, local contrast made even; around 128."""
    mean = _blurred(grey, _CONTRAST_PX / 2.0)
    flat = grey - mean
    spread = np.sqrt(_blurred(flat * flat, _CONTRAST_PX / 2.0)) + _FLOOR
    return np.asarray(flat * (_GREY / spread) + 128.0, np.float32)


def sample_patch(image: U8, maps: F32, scale: float) -> F32:
    """(SIZE, SIZE) grey picture, averaged over each of its pixels before it is sampled.

    image: (H, W, 3) RGB. maps: (SIZE, SIZE, 2) where each pixel lies in the picture. scale: pixels of the
    picture for one of the window. What lies outside the picture is its edge.
    """
    height, width = image.shape[:2]
    some = maps[::8, ::8].reshape(-1, 2)  # enough to know how far they reach
    reach = int(8 * scale) + 8
    left, top = np.clip(np.floor(some.min(axis=0)).astype(int) - reach, 0, (width - 2, height - 2))
    right, bottom = np.clip(
        np.ceil(some.max(axis=0)).astype(int) + reach, (left + 2, top + 2), (width, height)
    )
    part = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_RGB2GRAY).astype(np.float32)
    if scale > 1.0:
        part = _blurred(part, 0.5 * scale)
    return np.asarray(
        cv2.remap(
            part,
            maps - np.array((left, top), np.float32),
            None,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.float32,
    )


class DenseFlow:
    """Flow from a key picture, for motion far below a pixel.

    DIS finds it at half the resolution, where it is quick, and gives 70 to 85 % of a small motion there (it
    is drawn towards its neighbours). A few steps of Lucas-Kanade in windows (inverse compositional, Baker and
    Matthews 2004: all that belongs to the key picture is computed once) then give the rest.
    """

    def __init__(self, steps: int = 3) -> None:
        self._steps = steps
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setFinestScale(1)
        self._dis.setPatchSize(8)
        self._dis.setPatchStride(4)
        self._dis.setGradientDescentIterations(6)
        self._dis.setVariationalRefinementIterations(2)
        self._dis.setVariationalRefinementAlpha(20.0)
        self._dis.setVariationalRefinementDelta(5.0)
        self._dis.setVariationalRefinementGamma(10.0)
        self._dis.setUseMeanNormalization(True)
        self._grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1).astype(np.float32)

    def take_key(self, key: F32) -> None:
        """The picture (SIZE, SIZE) that motion is counted from, as `normalised` gives it."""
        self._key = key
        self._bytes = _bytes(key)
        self._gx = cv2.Sobel(key, cv2.CV_32F, 1, 0, scale=1 / 8)
        self._gy = cv2.Sobel(key, cv2.CV_32F, 0, 1, scale=1 / 8)
        xx, xy, yy = (
            _windowed(one) for one in (self._gx * self._gx, self._gx * self._gy, self._gy * self._gy)
        )
        xx = xx + _STIFF
        yy = yy + _STIFF
        share = 1.0 / (xx * yy - xy * xy)
        self._inverse = yy * share, -xy * share, xx * share

    def between(self, now: F32) -> F32:
        """(SIZE, SIZE, 2) where each pixel of the key is found in `now`, pixels."""
        flow = np.asarray(self._dis.calc(self._bytes, _bytes(now), None), np.float32)
        xx, xy, yy = self._inverse
        for _ in range(self._steps):
            flow = np.asarray(np.round(flow * _REMAP) / _REMAP, np.float32)
            there = cv2.remap(now, self._grid + flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            miss = self._key - there
            x = _windowed(self._gx * miss)
            y = _windowed(self._gy * miss)
            flow[..., 0] += xx * x + xy * y
            flow[..., 1] += xy * x + yy * y
        return flow


def _bytes(grey: F32) -> U8:
    return np.asarray(np.clip(np.rint(grey), 0, 255), np.uint8)


def _windowed(values: F32) -> F32:
    return _blurred(values, _WINDOW_PX)


def _blurred(values: F32, sigma: float) -> F32:
    """Gaussian, cut at two and a half standard deviations: half the taps of OpenCV's own choice."""
    taps = 2 * math.ceil(2.5 * sigma) + 1
    return np.asarray(cv2.GaussianBlur(values, (taps, taps), sigma), np.float32)
