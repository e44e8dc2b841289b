"""The face without its sensors, and where they are: a picture for people and for landmark detectors, not for
the reconstruction itself.

The network looks at the encoder's crop. What it paints goes back into the picture only where something covers
the face, with soft edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numba
import numpy as np

from ..inference.network import Backend, open_network, require
from ..types import F32, U8
from .encoder.face_crop import MARGIN, SIZE
from .encoder.face_encoder import as_input, cut
from .landmarks.attention_mesh import Crop

RESTORER = "face_restorer.onnx"
_FEATHER = 0.05
"""Width of the soft edge at the crop's border, in crops."""
_COVERED = 0.75


@dataclass(frozen=True)
class Restored:
    """crop: where. picture: (SIZE, SIZE, 3) uint8 without sensors. occlusion: (SIZE, SIZE) float32, 0 skin ..

    1 covered.
    """

    crop: Crop
    picture: U8
    occlusion: F32

    @property
    def covered(self) -> float:
        """Share of the face that is covered: of the ellipse that a face fills in its crop."""
        return float((self.occlusion > _COVERED)[_ELLIPSE].mean())


def _ellipse() -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    reach = 0.5 / MARGIN
    return np.asarray((x / (0.85 * reach)) ** 2 + (y / reach) ** 2 < 1.0)


_ELLIPSE = _ellipse()


class FaceRestorer:
    """The restoring network on one thread.

    Raises ModelError where the file is missing, damaged or of another architecture.
    """

    def __init__(self, name: str = RESTORER, backend: Backend = "onnxruntime") -> None:
        self.network = open_network(name, backend)
        require(
            self.network,
            "face_restorer",
            {"size": SIZE, "margin": MARGIN},
            {"restored": (3, SIZE, SIZE), "occlusion": (1, SIZE, SIZE)},
        )

    def restore(self, patch: U8, crop: Crop) -> Restored:
        """From a picture already cut, (SIZE, SIZE, 3)."""
        picture, occlusion = self.network.run(("restored", "occlusion"), {"picture": as_input([patch])})
        output = np.nan_to_num(picture[0].transpose(1, 2, 0), nan=0.0)
        return Restored(
            crop,
            np.asarray(np.clip(output * 255.0 + 0.5, 0, 255), np.uint8),
            np.asarray(np.clip(np.nan_to_num(occlusion[0, 0], nan=0.0), 0.0, 1.0), np.float32),
        )

    def warm_up(self) -> None:
        """Run and paste once, so that the first picture is as fast as the thousandth."""
        crop = Crop(SIZE / 2.0, SIZE / 2.0, float(SIZE), 0.0)
        paste(np.zeros((SIZE, SIZE, 3), np.uint8), self.restore(np.full((SIZE, SIZE, 3), 90, np.uint8), crop))

    def restore_crop(self, image: U8, crop: Crop) -> Restored:
        """The same, cut from a picture (H, W, 3)."""
        return self.restore(cut(image, crop), crop)


def paste(image: U8, restored: Restored) -> U8:
    """`image` with the restored face in it, where something covers the face; a copy."""
    left, top, right, bottom, forward = _window(image, restored.crop)
    out = image.copy()
    if right <= left or bottom <= top:
        return out
    size = right - left, bottom - top
    opacity = np.asarray(_soft(restored.occlusion) * 255.0 + 0.5, np.uint8)
    alpha = cv2.warpAffine(opacity, forward, size, flags=cv2.INTER_LINEAR)
    face = cv2.warpAffine(
        restored.picture, forward, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    _mix(out[top:bottom, left:right], face, alpha)
    return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _mix(under: Any, over: Any, alpha: Any) -> None:
    """`over` (H, W, 3) upon `under` in place; alpha: (H, W) opacity 0..255."""
    for y in range(under.shape[0]):
        for x in range(under.shape[1]):
            a = np.int32(alpha[y, x])
            if a:
                for k in range(3):
                    u = np.int32(under[y, x, k])
                    under[y, x, k] = np.uint8((255 * u + a * (np.int32(over[y, x, k]) - u) + 127) // 255)


def occlusion_picture(image: U8, restored: Restored) -> U8:
    """(H, W, 3) grey: 255 where the face is covered, 0 elsewhere."""
    left, top, right, bottom, forward = _window(image, restored.crop)
    out = np.zeros_like(image)
    if right > left and bottom > top:
        mask = cv2.warpAffine(
            restored.occlusion, forward, (right - left, bottom - top), flags=cv2.INTER_LINEAR
        )
        out[top:bottom, left:right] = np.asarray(mask * 255.0 + 0.5, np.uint8)[..., None]
    return out


def _soft(occlusion: F32) -> F32:
    """Opacity: fully painted where covered, a soft rim around it, nothing at the crop's border."""
    grown = cv2.dilate(occlusion, np.ones((3, 3), np.uint8))
    alpha = cv2.GaussianBlur(np.clip(grown * 1.6 - 0.2, 0.0, 1.0), (0, 0), 1.0)
    edge = np.minimum(np.arange(SIZE) + 0.5, SIZE - np.arange(SIZE) - 0.5) / (_FEATHER * SIZE)
    fade = np.clip(edge, 0.0, 1.0)
    return np.asarray(alpha * np.minimum(fade[:, None], fade[None]), np.float32)


def _window(
    image: U8, crop: Crop
) -> tuple[int, int, int, int, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """The part of the picture under the crop (left, top, right, bottom), and the affine map from crop pixels
    into it.
    """
    height, width = image.shape[:2]
    matrix = crop.matrix(SIZE)
    corners = np.array([[0, 0], [SIZE, 0], [0, SIZE], [SIZE, SIZE]]) @ matrix[:, :2].T + matrix[:, 2]
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, (width, height)).astype(int)
    forward = matrix.copy()
    forward[:, 2] -= (left, top)
    return int(left), int(top), int(right), int(bottom), forward
