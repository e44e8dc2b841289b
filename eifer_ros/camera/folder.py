"""Frames from a folder of pictures, in natural order of their names."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from ..component import Emission, Health, Level, Port
from ..config import DeviceConfig, parameter
from ..errors import InputError
from ..types import NS, U8, Frame, Stamp
from .calibration import Calibration, load_optional, pinhole
from .pacing import PacedSource, Pacer
from .video import OUTPUT

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


class FolderConfig(DeviceConfig):
    """Parameters of a folder of pictures as a camera."""

    url_field: ClassVar[str] = "path"

    path: str = parameter("", "folder of pictures")
    fps: float = parameter(30.0, "pictures per second", unit="Hz", gt=0, le=1000)
    start_stamp: int = parameter(
        0, "stamp of the first picture; 0 takes the time at which the folder is opened", unit="ns", ge=0
    )
    speed: float = parameter(
        0.0, "1 plays in real time, 2 twice as fast, 0 as fast as frames are taken", ge=0
    )
    calibration: str = parameter(
        "", "camera calibration YAML as camera_calibration writes it; empty where unknown"
    )


def natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key that puts frame_9 before frame_10."""
    return [
        (0, int(part)) if part.isdigit() else (1, part.lower()) for part in re.split(r"(\d+)", name) if part
    ]


class FolderSource(PacedSource):
    """Every picture of a folder once, `fps` apart; EXIF orientation is honoured.

    All pictures must have one size. Errors: InputError for a missing folder, one without pictures, a picture
    that cannot be decoded or whose size differs from the first one's, each by name.
    """

    config_type = FolderConfig
    outputs: ClassVar[tuple[Port, ...]] = (OUTPUT,)

    def __init__(self, config: FolderConfig, now: Callable[[], Stamp] = time.time_ns) -> None:
        self.config = config
        self._now = now
        self._pacer = Pacer(config.speed)
        self._files: list[Path] = []
        self._calibration: Calibration | None = None
        self._start: Stamp = 0
        self._delivered = 0

    def setup(self) -> None:
        """List the pictures and decode the first."""
        self._pacer.restart()
        self._calibration = load_optional(self.config.calibration)
        if not self.config.path:
            raise InputError("no folder was given; use folder:DIR")
        folder = Path(self.config.path).expanduser()
        if not folder.exists():
            raise InputError(f"{folder}: no such folder")
        if not folder.is_dir():
            raise InputError(f"{folder}: not a folder; for a video file use video:{folder}")
        files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
        if not files:
            raise InputError(
                f"{folder}: no pictures in this folder; wanted are files that end in {', '.join(SUFFIXES)}"
            )
        self._files = sorted(files, key=lambda path: (natural(path.name), path.name))
        read_picture(self._files[0])
        self._start = self.config.start_stamp or self._now()
        self._delivered = 0

    @property
    def frame_count(self) -> int:
        """Pictures in the folder. Known after setup."""
        return len(self._files)

    def produce(self) -> Iterator[Emission]:
        """Every picture once."""
        if not self._files:
            self.setup()
        size: tuple[int, ...] | None = None
        for index, path in enumerate(self._files):
            stamp = self._start + round(index * NS / self.config.fps)
            if not self._pacer.wait(stamp):
                return
            image = read_picture(path)
            size = size or image.shape
            if image.shape != size:
                raise InputError(
                    f"{path}: {image.shape[1]} x {image.shape[0]}, but {self._files[0].name} is {size[1]} x {size[0]}; "
                    "all pictures of a folder must have one size"
                )
            picture, matrix = pinhole(image, self._calibration)
            self._delivered += 1
            yield Emission(OUTPUT.name, Frame(stamp, picture, matrix))

    def health(self) -> Health:
        """Pictures delivered."""
        return Health(Level.OK, "playing", {"frames": self._delivered, "frames_announced": len(self._files)})

    def close(self) -> None:
        """Forget the listing."""
        self._files = []
        self._pacer.restart()


def read_picture(path: Path) -> U8:
    """(H, W, 3) RGB of a picture file. Raises InputError for one that cannot be decoded."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if image is None:
        raise InputError(f"{path}: not a picture that can be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
