"""Intrinsics from a ROS camera calibration file, and pictures made pinhole with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import yaml

from ..errors import ConfigError
from ..types import F64, U8, Array


@dataclass
class Calibration:
    """What `camera_calibration` writes: matrix K for width x height, and lens distortion coefficients.

    A Frame promises a pinhole camera, so `apply` removes the distortion and keeps K.
    """

    width: int
    height: int
    matrix: F64
    distortion: F64
    _maps: dict[tuple[int, int], tuple[Array, Array]] = field(default_factory=dict)

    @staticmethod
    def load(path: str | Path) -> Calibration:
        """Read a file with image_width, image_height, camera_matrix and distortion_coefficients.

        Raises ConfigError.
        """
        path = Path(path).expanduser()
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path}: camera calibration cannot be read ({getattr(error, 'strerror', None) or error})"
            ) from None
        except yaml.YAMLError as error:
            raise ConfigError(
                f"{path}: camera calibration is not valid YAML ({getattr(error, 'problem', error)})"
            ) from None
        try:
            model = tree.get("distortion_model", "plumb_bob")
            matrix = np.array(tree["camera_matrix"]["data"], np.float64).reshape(3, 3)
            distortion = np.array(tree["distortion_coefficients"]["data"], np.float64).reshape(-1)
            width, height = int(tree["image_width"]), int(tree["image_height"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ConfigError(
                f"{path}: not a camera calibration; it needs image_width, image_height, camera_matrix.data (9 numbers) "
                "and distortion_coefficients.data, as camera_calibration writes them"
            ) from None
        if model not in ("plumb_bob", "rational_polynomial"):
            raise ConfigError(
                f"{path}: distortion_model is '{model}'; plumb_bob and rational_polynomial are supported"
            )
        if not (
            np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0 and width > 0 and height > 0
        ):
            raise ConfigError(f"{path}: focal lengths and image size must be above 0")
        if distortion.size not in (0, 4, 5, 8, 12, 14) or not np.isfinite(distortion).all():
            raise ConfigError(
                f"{path}: {distortion.size} distortion coefficients; 0, 4, 5, 8, 12 or 14 finite numbers are needed"
            )
        return Calibration(width, height, matrix, distortion)

    def intrinsics(self, width: int, height: int) -> F64:
        """(3, 3) matrix K in pixels for a picture of that size.

        Raises ConfigError where the aspect ratio differs.
        """
        across = width / self.width
        down = height / self.height
        if abs(across - down) > 0.01 * across:
            raise ConfigError(
                f"the camera calibration is for {self.width} x {self.height}, the picture is {width} x {height}: "
                "the aspect ratio must be the same"
            )
        # pixel centres lie at whole numbers, so the principal point scales about -0.5
        scaled = self.matrix.copy()
        scaled[0] *= across
        scaled[1] *= down
        scaled[0, 2] += 0.5 * (across - 1)
        scaled[1, 2] += 0.5 * (down - 1)
        return scaled

    def apply(self, image: U8) -> tuple[U8, F64]:
        """The (H, W, 3) picture without lens distortion, and its K."""
        height, width = image.shape[:2]
        matrix = self.intrinsics(width, height)
        if not self.distortion.any():
            return image, matrix
        maps = self._maps.get((width, height))
        if maps is None:
            first, second = cv2.initUndistortRectifyMap(
                matrix, self.distortion, None, matrix, (width, height), cv2.CV_16SC2
            )
            maps = self._maps.setdefault((width, height), (first, second))
        return np.asarray(cv2.remap(image, maps[0], maps[1], cv2.INTER_LINEAR), np.uint8), matrix


def load_optional(path: str) -> Calibration | None:
    """A calibration where `path` names one, else None."""
    return Calibration.load(path) if path else None


def pinhole(image: U8, calibration: Calibration | None) -> tuple[U8, F64 | None]:
    """Picture and K after `calibration`; unchanged and None without one."""
    return (image, None) if calibration is None else calibration.apply(image)
