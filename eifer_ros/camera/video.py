"""Frames from a video file, stamped by the presentation times of its container."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from .. import topics
from ..component import Emission, Health, Level, Port
from ..config import DeviceConfig, parameter
from ..errors import InputError
from ..types import NS, Frame, Stamp
from .calibration import Calibration, load_optional, pinhole
from .pacing import PacedSource, Pacer

# FFmpeg prints its own complaints about a broken file; ours says it in one line. OpenCV reads this once, at
# its first video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

OUTPUT = topics.CAMERA_IMAGE.port
"""The output of every camera."""


class VideoConfig(DeviceConfig):
    """Parameters of a video file as a camera."""

    url_field: ClassVar[str] = "path"

    path: str = parameter("", "video file")
    start_stamp: int = parameter(
        0, "stamp of the first frame; 0 takes the time at which the file is opened", unit="ns", ge=0
    )
    speed: float = parameter(
        0.0, "1 plays in real time, 2 twice as fast, 0 as fast as frames are taken", ge=0
    )
    calibration: str = parameter(
        "", "camera calibration YAML as camera_calibration writes it; empty where unknown"
    )


class VideoSource(PacedSource):
    """A video file. Stamps are start + presentation time, so variable frame rates and gaps survive.

    Rotation metadata is honoured. Frames with a missing or repeated time get the nominal frame period.
    Errors at setup: InputError for a missing, empty or undecodable file.
    """

    config_type = VideoConfig
    outputs: ClassVar[tuple[Port, ...]] = (OUTPUT,)

    def __init__(self, config: VideoConfig, now: Callable[[], Stamp] = time.time_ns) -> None:
        self.config = config
        self._now = now
        self._pacer = Pacer(config.speed)
        self._capture: Any = None
        self._first: Any = None
        self._calibration: Calibration | None = None
        self._start: Stamp = 0
        self._period_ns = 0
        self._expected = 0
        self._delivered = 0
        self._repaired = 0
        self._ended = False

    def setup(self) -> None:
        """Open the file and decode its first frame."""
        self.close()
        self._calibration = load_optional(self.config.calibration)
        path = check_file(self.config.path)
        capture = _open(path)
        done, first = capture.read() if capture.isOpened() else (False, None)
        if not done or first is None:
            capture.release()
            raise InputError(
                f"{path}: not a video that can be decoded; MP4, MOV, MKV, WebM or AVI with H.264, HEVC, VP9 or MPEG-4"
            )
        rate = capture.get(cv2.CAP_PROP_FPS)
        self._period_ns = round(NS / rate) if 0.1 <= rate <= 10_000 else NS // 30
        self._expected = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self._capture = capture
        self._first = first
        self._start = self.config.start_stamp or self._now()
        self._delivered = 0
        self._repaired = 0
        self._ended = False

    @property
    def frame_count(self) -> int:
        """Frames the container announces; 0 where it does not say. Known after setup."""
        return self._expected

    @property
    def rate_hz(self) -> float:
        """Nominal frame rate. Known after setup."""
        return NS / self._period_ns if self._period_ns else 0.0

    def produce(self) -> Iterator[Emission]:
        """Every frame once, in presentation order."""
        if self._capture is None or self._ended:
            self.setup()
        image = self._first
        base_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        last = -1
        while image is not None and not self._pacer.stopped:
            offset = round((self._capture.get(cv2.CAP_PROP_POS_MSEC) - base_ms) * 1e6)
            if offset <= last:
                offset = last + self._period_ns
                self._repaired += 1
            last = offset
            stamp = self._start + offset
            if not self._pacer.wait(stamp):
                return
            picture, matrix = pinhole(
                np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8), self._calibration
            )
            self._delivered += 1
            yield Emission(OUTPUT.name, Frame(stamp, picture, matrix))
            done, image = self._capture.read()
            if not done:
                image = None
        self._ended = True

    def health(self) -> Health:
        """Frames delivered; a file that ends before its announced count is a warning."""
        values: dict[str, float | int | str] = {"frames": self._delivered, "frames_announced": self._expected}
        if self._repaired:
            values["frames_without_time"] = self._repaired
        # containers are often off by a frame or two; a cut file is off by far more
        if self._ended and self._expected - self._delivered > max(2, self._expected // 100):
            return Health(
                Level.WARN,
                f"{self.config.path} ended after {self._delivered} of {self._expected} frames: cut off?",
                values,
            )
        return Health(Level.OK, "video ended" if self._ended else "playing", values)

    def close(self) -> None:
        """Release the file."""
        if self._capture is not None:
            self._capture.release()
        self._capture = None
        self._first = None
        self._pacer.restart()


def check_file(name: str) -> Path:
    """`name` as the path of a file that exists and is not empty. Raises InputError."""
    if not name:
        raise InputError("no video file was given; use video:FILE")
    path = Path(name).expanduser()
    if path.is_dir():
        raise InputError(f"{path}: a folder, not a video file; for a folder of pictures use folder:{path}")
    if not path.exists():
        raise InputError(f"{path}: no such video file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the video file is empty (0 bytes)")
    return path


def _open(path: Path) -> Any:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        return capture
    finally:
        cv2.utils.logging.setLogLevel(level)
