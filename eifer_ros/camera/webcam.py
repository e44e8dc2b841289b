"""Frames from a webcam (V4L2): MJPEG, the newest picture, and patience with loose plugs."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import cv2
import numpy as np
from pydantic import field_validator

from ..clock import steady_epoch
from ..component import Device, Emission, Health, Level, Port, Source
from ..config import DeviceConfig, parameter
from ..errors import ConfigError, DeviceError
from ..types import NS, Frame, Stamp
from .calibration import Calibration, load_optional, pinhole
from .devices import webcams
from .video import OUTPUT


class WebcamConfig(DeviceConfig):
    """Parameters of a webcam."""

    url_field: ClassVar[str] = "device"

    device: str = parameter("0", "number or path of the device: 0, /dev/video0, /dev/v4l/by-id/...")
    width: int = parameter(640, "picture width asked of the camera", unit="px", ge=16, le=8192)
    height: int = parameter(480, "picture height asked of the camera", unit="px", ge=16, le=8192)
    fps: float = parameter(30.0, "frame rate asked of the camera", unit="Hz", gt=0, le=1000)
    pixel_format: str = parameter(
        "MJPG", "V4L2 four-character code; MJPG reaches full rate over USB 2", pattern=r"^[A-Z0-9]{4}$"
    )
    silence_s: float = parameter(0.5, "no picture for this long shows in health", unit="s", gt=0, le=1)
    calibration: str = parameter(
        "", "camera calibration YAML as camera_calibration writes it; empty where unknown"
    )

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        device_number(device)
        return device


class Capture(Protocol):
    """The part of cv2.VideoCapture that is used."""

    def isOpened(self) -> bool:
        """Whether the device answered."""

    def read(self) -> tuple[bool, Any]:
        """The next picture (BGR); blocks."""

    def get(self, prop: int) -> float:
        """A property."""

    def set(self, prop: int, value: float) -> bool:
        """Ask for a property."""

    def release(self) -> None:
        """Close the device."""


class WebcamSource(Source):
    """A V4L2 camera.

    A thread of its own reads it, so that a slow consumer gets the newest picture and not a queue.

    A camera that is unplugged while running is tried again with growing pauses; meanwhile health says so.
    Stamps are the driver's (taken when the picture was captured) where it gives them on the host's monotonic
    clock, else the arrival. Errors at setup: DeviceError where there is no such camera or it gives no
    picture.
    """

    config_type = WebcamConfig
    outputs: ClassVar[tuple[Port, ...]] = (OUTPUT,)

    def __init__(
        self,
        config: WebcamConfig,
        open_capture: Callable[[WebcamConfig], Capture] | None = None,
        now: Callable[[], Stamp] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        retry_s: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 5.0),
    ) -> None:
        self.config = config
        self._open_capture = open_capture or open_v4l2
        self._now = now or steady_epoch()
        self._monotonic = monotonic
        self._retry_s = retry_s
        self._calibration: Calibration | None = None
        self._capture: Capture | None = None
        self._condition = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._newest: tuple[Stamp, Any] | None = None
        self._last_stamp: Stamp = 0
        self._last_seen: float | None = None
        self._frame_count = 0
        self._skipped = 0
        self._reconnects = 0
        self._attempt = 0

    @classmethod
    def discover(cls) -> tuple[Device, ...]:
        """Webcams that Linux knows of."""
        return tuple(webcams())

    def setup(self) -> None:
        """Open the camera and wait for its first picture."""
        self._calibration = load_optional(self.config.calibration)
        self._stopping.clear()
        capture = self._try_open()
        done, image = capture.read() if capture is not None else (False, None)
        if capture is None or not done or image is None:
            if capture is not None:
                capture.release()
            cameras = ", ".join(f"{camera.url} ({camera.name})" for camera in webcams()) or "none"
            wrong = (
                "gives no picture (is another program using it?)"
                if capture is not None
                else "cannot be opened"
            )
            raise DeviceError(f"webcam {self.config.device} {wrong}; cameras found: {cameras}")
        self._capture = capture
        self._keep(image)

    def produce(self) -> Iterator[Emission]:
        """The newest picture, as often as one arrives and is asked for."""
        if self._capture is None:
            self.setup()
        self._thread = threading.Thread(target=self._read, name="eifer-webcam", daemon=True)
        self._thread.start()
        while True:
            with self._condition:
                while self._newest is None and not self._stopping.is_set():
                    self._condition.wait()
                if self._stopping.is_set() or self._newest is None:
                    return
                (stamp, image), self._newest = self._newest, None
            picture, matrix = pinhole(
                np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8), self._calibration
            )
            yield Emission(OUTPUT.name, Frame(stamp, picture, matrix))

    def _read(self) -> None:
        while not self._stopping.is_set():
            if self._capture is None:
                self._stopping.wait(self._retry_s[min(self._attempt, len(self._retry_s) - 1)])
                if self._stopping.is_set():
                    return
                self._attempt += 1
                self._capture = self._try_open()
                continue
            try:
                done, image = self._capture.read()
            except cv2.error:
                done = False
                image = None
            if done and image is not None:
                self._reconnects += self._attempt > 0
                self._attempt = 0
                self._keep(image)
            else:
                self._capture.release()
                self._capture = None

    def _try_open(self) -> Capture | None:
        try:
            capture = self._open_capture(self.config)
        except cv2.error:
            return None
        if capture.isOpened():
            return capture
        capture.release()
        return None

    def _keep(self, image: Any) -> None:
        assert self._capture is not None
        stamp = self._now()
        now = self._monotonic()
        # V4L2 gives the capture time on CLOCK_MONOTONIC; a value that cannot be that is not used
        age_s = now - self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
        if 0 <= age_s < 1:
            stamp -= round(age_s * NS)
        with self._condition:
            self._skipped += self._newest is not None
            self._frame_count += 1
            self._last_seen = now
            self._last_stamp = max(stamp, self._last_stamp + 1)
            self._newest = (self._last_stamp, image)
            self._condition.notify_all()

    def stop(self) -> None:
        """End `produce`, even while the camera is silent."""
        self._stopping.set()
        with self._condition:
            self._condition.notify_all()

    def health(self) -> Health:
        """Error while the camera is silent or gone."""
        values: dict[str, float | int | str] = {
            "frames": self._frame_count,
            "frames_skipped": self._skipped,
            "reconnects": self._reconnects,
        }
        silent_s = self._monotonic() - self._last_seen if self._last_seen is not None else 0.0
        values["silent_s"] = round(silent_s, 2)
        if self._last_seen is None:
            return Health(Level.STALE, f"webcam {self.config.device} is not open", values)
        if self._attempt or self._capture is None:
            message = f"webcam {self.config.device} is gone for {silent_s:.1f} s; reconnecting (attempt {self._attempt + 1})"
            return Health(Level.ERROR, message, values)
        if silent_s > self.config.silence_s:
            return Health(
                Level.ERROR, f"webcam {self.config.device} has been silent for {silent_s:.1f} s", values
            )
        return Health(Level.OK, "running", values)

    def close(self) -> None:
        """Stop the reading thread and release the camera."""
        self.stop()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None
        if self._capture is not None:
            self._capture.release()
            self._capture = None
        self._newest = None


def device_number(device: str) -> int:
    """The N of /dev/videoN for `0`, `/dev/video0` or a link to it. Raises ConfigError."""
    if device.strip().isdigit():
        return int(device)
    match = re.fullmatch(
        r"/dev/video(\d+)", str(Path(device).resolve()) if device.startswith("/") else device
    )
    if match is None:
        raise ConfigError(
            f"webcam device is '{device}'; it must be a number, /dev/videoN or a link to one in /dev/v4l"
        )
    return int(match[1])


def open_v4l2(config: WebcamConfig) -> Capture:
    """The real camera through OpenCV, set to what the config asks for."""
    number = device_number(config.device)
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture: Capture = cv2.VideoCapture(number, cv2.CAP_V4L2)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if capture.isOpened():
        # the pixel format decides which sizes and rates exist, so it goes first
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*config.pixel_format))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.height)
        capture.set(cv2.CAP_PROP_FPS, config.fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture
