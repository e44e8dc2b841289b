"""The camera as one component, whatever stands behind it: what a ROS node or a config file names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from ..component import Emission, Health, Level, Port, Relay
from ..config import Config, parameter
from ..registry import CAMERAS
from .video import OUTPUT


class CameraConfig(Config):
    """Parameters of node `camera`. Those that the kind of camera does not have are without effect."""

    url: str = parameter(
        "webcam:0",
        "what to open, such as webcam:0, video:FILE or performer:SEED; docs/cameras.md lists every address",
        min_length=1,
    )
    width: int = parameter(640, "picture width (webcam, realsense)", unit="px", ge=16, le=8192)
    height: int = parameter(480, "picture height (webcam, realsense)", unit="px", ge=16, le=8192)
    fps: float = parameter(30.0, "frame rate (webcam, realsense, folder)", unit="Hz", gt=0, le=1000)
    depth: bool = parameter(True, "also stream depth (realsense)")
    calibration: str = parameter("", "camera calibration YAML (webcam, video, folder); empty where unknown")
    start_stamp: int = parameter(
        0, "stamp of the first frame (video, folder, recording); 0 takes now", unit="ns", ge=0
    )
    speed: float = parameter(
        0.0, "video, folder, recording: 1 plays in real time, 0 as fast as frames are taken", ge=0
    )


class Camera(Relay):
    """Opens `config.url` and passes on what it gives."""

    config_type = CameraConfig
    outputs: ClassVar[tuple[Port, ...]] = (OUTPUT,)

    def __init__(self, config: CameraConfig) -> None:
        self.config = config
        parameters = CAMERAS.config_type(CAMERAS.scheme(config.url)).model_fields
        options = {name: getattr(config, name) for name in config.model_fields_set if name in parameters}
        super().__init__(config.url, CAMERAS.open(config.url, **options))
        self._set_up = False

    def setup(self) -> None:
        """Open the device or the file; what is wrong with it is raised here."""
        self._source.setup()
        self._set_up = True

    def produce(self) -> Iterator[Emission]:
        """Frames on `camera/image_raw`."""
        if not self._set_up:
            self.setup()
        return self._source.produce()

    @property
    def rate_hz(self) -> float:
        """Nominal frame rate, 0 where the camera does not say. Known after setup."""
        return float(getattr(self._source, "rate_hz", 0.0))

    @property
    def frame_count(self) -> int:
        """Frames that a file announces, 0 for a device. Known after setup."""
        return int(getattr(self._source, "frame_count", 0))

    def health(self) -> Health:
        """What the device says of itself, with its address."""
        return super().health() if self._set_up else Health(Level.STALE, "not open", {"source": self._url})

    def close(self) -> None:
        """Release the device."""
        super().close()
        self._set_up = False
