"""Colour and aligned depth from an Intel RealSense camera or a recording of one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..clock import DeviceClock, steady_epoch
from ..component import Device, Emission, Health, Level, Port, Source
from ..config import DeviceConfig, parameter
from ..errors import DeviceError, InputError, MissingExtra
from ..types import F32, F64, U8, Frame, Stamp
from .pacing import Pacer
from .video import OUTPUT

RECORDING_SUFFIXES = (".db3", ".bag")


class RealSenseConfig(DeviceConfig):
    """Parameters of a RealSense camera."""

    serial: str = parameter("", "serial number of the camera; empty takes the first one found")
    path: str = parameter("", "recording (.db3 or .bag) to play instead of a camera")
    width: int = parameter(640, "picture width", unit="px", ge=16, le=8192)
    height: int = parameter(480, "picture height", unit="px", ge=16, le=8192)
    fps: int = parameter(30, "frame rate", unit="Hz", ge=1, le=300)
    depth: bool = parameter(True, "also stream depth, aligned to the colour picture")
    start_stamp: int = parameter(
        0, "recording: stamp of the first frame; 0 keeps the stamps of the recording", unit="ns", ge=0
    )
    speed: float = parameter(0.0, "recording: 1 plays in real time, 0 as fast as frames are taken", ge=0)
    silence_s: float = parameter(0.5, "no frame for this long shows in health", unit="s", gt=0, le=1)

    @classmethod
    def from_address(cls, address: str) -> dict[str, str]:
        """The file of a recording, or a serial number."""
        return {"path" if address.lower().endswith(RECORDING_SUFFIXES) else "serial": address}


def load_sdk() -> Any:
    """The pyrealsense2 module.

    MissingExtra where it is not installed, DeviceError where it is but does not load.
    """
    try:
        import pyrealsense2
    except ModuleNotFoundError:
        raise MissingExtra("pyrealsense2", "realsense", "a RealSense camera") from None
    except ImportError as error:
        hint = "; on Debian and Ubuntu: apt install libusb-1.0-0" if "libusb" in str(error) else ""
        raise DeviceError(f"pyrealsense2 is installed but does not load ({error}){hint}") from None
    return pyrealsense2


class RealSenseSource(Source):
    """Frames with intrinsics and depth in metres (NaN where unmeasured), stamped by the camera's own clock.

    A hardware clock is mapped onto the host by `DeviceClock`; clocks that the SDK already maps (global or
    system time) are taken as they are. A recording is replayed with its own stamps and every frame once. A
    camera that falls silent is started again with growing pauses. Lens distortion is left in the picture;
    `distortion_max` in health shows the largest coefficient.

    sdk: what to use instead of pyrealsense2. Errors at setup: MissingExtra, DeviceError for no
    such camera, InputError for a recording that cannot be played or has no colour stream.
    """

    config_type = RealSenseConfig
    outputs: ClassVar[tuple[Port, ...]] = (OUTPUT,)

    def __init__(
        self,
        config: RealSenseConfig,
        sdk: Any = None,
        now: Callable[[], Stamp] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        retry_s: tuple[float, ...] = (0.5, 1.0, 2.0, 5.0),
    ) -> None:
        self.config = config
        self.live = not config.path
        self._now = now or steady_epoch()
        self._monotonic = monotonic
        self._retry_s = retry_s
        self._pacer = Pacer(config.speed)
        self._stopping = threading.Event()
        self._clock = DeviceClock(1e-3)
        self._given_sdk = sdk
        self._sdk: Any = None
        self._pipeline: Any = None
        self._align: Any = None
        self._playback: Any = None
        self._matrix: F64 | None = None
        self._distortion = 0.0
        self._first: tuple[float, Stamp] | None = None
        self._last_number = -1
        self._last_stamp: Stamp = 0
        self._last_seen: float | None = None
        self._frame_count = 0
        self._missed = 0
        self._attempt = 0

    @classmethod
    def discover(cls) -> tuple[Device, ...]:
        """RealSense cameras on USB. Raises MissingExtra, DeviceError where the SDK does not load."""
        return tuple(Device(f"realsense:{serial}", name, "USB") for serial, name in devices(load_sdk()))

    def setup(self) -> None:
        """Load the SDK and start the pipeline."""
        self._sdk = self._given_sdk or load_sdk()
        self._stopping.clear()
        if self.config.path:
            path = Path(self.config.path).expanduser()
            if not path.is_file():
                raise InputError(f"{path}: no such RealSense recording")
            if path.stat().st_size == 0:
                raise InputError(f"{path}: the RealSense recording is empty (0 bytes)")
        elif self._given_sdk is None:
            self._find()  # the pipeline itself would wait 15 s for a camera to appear
        try:
            self._start()
        except RuntimeError as error:
            self._release()
            if self.config.path:
                raise InputError(
                    f"{self.config.path}: not a RealSense recording that can be played ({error})"
                ) from None
            raise DeviceError(
                f"{self._name} cannot be started at {self.config.width} x {self.config.height}, {self.config.fps} Hz ({error})"
            ) from None

    @property
    def _name(self) -> str:
        return f"RealSense {self.config.serial}" if self.config.serial else "RealSense camera"

    def _find(self) -> None:
        serials = [serial for serial, _ in devices(self._sdk)]
        if not serials or (self.config.serial and self.config.serial not in serials):
            raise DeviceError(
                f"{self._name} is not connected; RealSense cameras found: {', '.join(serials) or 'none'}"
            )

    def _start(self) -> None:
        rs = self._sdk
        settings = rs.config()
        if self.config.path:
            settings.enable_device_from_file(str(Path(self.config.path).expanduser()), repeat_playback=False)
        else:
            if self.config.serial:
                settings.enable_device(self.config.serial)
            size_and_rate = (self.config.width, self.config.height, rs.format.rgb8, self.config.fps)
            settings.enable_stream(rs.stream.color, *size_and_rate)
            if self.config.depth:
                settings.enable_stream(
                    rs.stream.depth, self.config.width, self.config.height, rs.format.z16, self.config.fps
                )
        pipeline = rs.pipeline()
        if self.config.path:
            # told before the start: afterwards the first frames would already have been played in real time,
            # and lost
            settings.resolve(rs.pipeline_wrapper(pipeline)).get_device().as_playback().set_real_time(False)
        profile = pipeline.start(settings)
        self._pipeline = pipeline
        device = profile.get_device()
        self._playback = device.as_playback() if self.config.path else None
        if self._playback is None:
            for sensor in device.query_sensors():
                if sensor.supports(rs.option.global_time_enabled):
                    sensor.set_option(rs.option.global_time_enabled, 0)
        kinds = {stream.stream_type(): stream for stream in profile.get_streams()}
        if rs.stream.color not in kinds:
            raise RuntimeError("it has no colour stream")
        lens = kinds[rs.stream.color].as_video_stream_profile().get_intrinsics()
        self._matrix = np.array([[lens.fx, 0, lens.ppx], [0, lens.fy, lens.ppy], [0, 0, 1]], np.float64)
        self._distortion = max((abs(value) for value in lens.coeffs), default=0.0)
        self._align = rs.align(rs.stream.color) if self.config.depth and rs.stream.depth in kinds else None

    def produce(self) -> Iterator[Emission]:
        """A frame for each new colour picture."""
        if self._pipeline is None:
            self.setup()
        ended = False
        while not self._stopping.is_set():
            if self._pipeline is None:
                self._restart()
                continue
            try:
                done, frames = self._pipeline.try_wait_for_frames(200)
            except RuntimeError:  # the camera went away in mid-transfer
                done = False
                frames = None
            if not done:
                # what the SDK read before the end of a file may still be on its way: wait once more
                if ended:
                    return
                ended = self._ended()
                self._watch()
                continue
            frame = self._frame(frames)
            if frame is not None:
                if not self._pacer.wait(frame.stamp):
                    return
                yield Emission(OUTPUT.name, frame)

    def _ended(self) -> bool:
        return (
            self._playback is not None
            and self._playback.current_status() != self._sdk.playback_status.playing
        )

    def _watch(self) -> None:
        """A live camera that stays silent is let go, to be started again."""
        if (
            self.live
            and self._last_seen is not None
            and self._monotonic() - self._last_seen > 2 * self.config.silence_s
        ):
            self._release()

    def _restart(self) -> None:
        self._stopping.wait(self._retry_s[min(self._attempt, len(self._retry_s) - 1)])
        self._attempt += 1
        self._last_number = -1  # a camera that was plugged in again counts from the start
        if not self._stopping.is_set():
            try:
                self._start()
            except RuntimeError:
                self._release()

    def _frame(self, frames: Any) -> Frame | None:
        colour = frames.get_color_frame()
        if not colour:
            return None
        number = colour.get_frame_number()
        if number == self._last_number:  # only the depth is new
            return None
        if self._last_number >= 0 and number > self._last_number + 1:
            self._missed += number - self._last_number - 1
        self._last_number = number
        self._last_seen = self._monotonic()
        self._attempt = 0
        self._frame_count += 1
        stamp = self._stamp(colour)
        depth = self._depth(frames, colour)
        return Frame(stamp, self._pixels(colour), self._matrix, depth)

    def _stamp(self, colour: Any) -> Stamp:
        milliseconds = float(colour.get_timestamp())
        if self._first is None:
            self._first = (milliseconds, self.config.start_stamp)
        if self._playback is not None and self.config.start_stamp:
            stamp = self._first[1] + round((milliseconds - self._first[0]) * 1e6)
        elif colour.get_frame_timestamp_domain() != self._sdk.timestamp_domain.hardware_clock:
            stamp = round(milliseconds * 1e6)
        else:
            stamp = self._clock.update(milliseconds, self._arrival(colour, milliseconds))
        self._last_stamp = max(stamp, self._last_stamp + 1)
        return self._last_stamp

    def _arrival(self, colour: Any, milliseconds: float) -> Stamp:
        if self._playback is None:
            return self._now()
        arrived = self._sdk.frame_metadata_value.time_of_arrival
        if colour.supports_frame_metadata(arrived):
            return int(colour.get_frame_metadata(arrived)) * 1_000_000
        return round(milliseconds * 1e6)

    def _depth(self, frames: Any, colour: Any) -> F32 | None:
        if self._align is None:
            return None
        raw = frames.get_depth_frame()
        # a depth picture of another moment than the colour picture would put the face where it no longer is
        if not raw or abs(raw.get_timestamp() - colour.get_timestamp()) > 500.0 / self.config.fps:
            return None
        aligned = self._align.process(frames).get_depth_frame()
        if not aligned:
            return None
        counts = np.asanyarray(aligned.get_data())
        return np.where(counts > 0, counts * np.float32(aligned.get_units()), np.float32(np.nan)).astype(
            np.float32
        )

    def _pixels(self, colour: Any) -> U8:
        data = np.asanyarray(colour.get_data())
        kind = colour.get_profile().format()
        if kind == self._sdk.format.bgr8:
            data = data[:, :, ::-1]
        elif kind != self._sdk.format.rgb8:
            raise InputError(f"{self.config.path}: the colour stream is {kind}; rgb8 or bgr8 is needed")
        return np.array(data, np.uint8)  # a copy: the SDK takes its buffer back

    def stop(self) -> None:
        """End `produce`."""
        self._stopping.set()
        self._pacer.stop()

    def health(self) -> Health:
        """Error while the camera is silent; clock offset and drift among the values."""
        values: dict[str, float | int | str] = {"frames": self._frame_count, "frames_missed": self._missed}
        if self._distortion:
            values["distortion_max"] = round(self._distortion, 4)
        if self._clock.state.observations:
            values |= self._clock.state.values()
        if self._sdk is None:
            return Health(Level.STALE, "RealSense is not open", values)
        silent_s = self._monotonic() - self._last_seen if self._last_seen is not None else 0.0
        if self.live and (self._pipeline is None or silent_s > self.config.silence_s):
            return Health(
                Level.ERROR, f"RealSense has been silent for {silent_s:.1f} s; reconnecting", values
            )
        return Health(Level.OK, "running", values)

    def _release(self) -> None:
        pipeline = self._pipeline
        self._pipeline = None
        if pipeline is not None:
            try:
                pipeline.stop()
            except RuntimeError as error:  # an unplugged camera cannot be stopped in good order
                if self.config.path:
                    raise DeviceError(f"{self.config.path}: {error}") from None

    def close(self) -> None:
        """Stop the pipeline."""
        self.stop()
        self._release()
        self._pacer.restart()


def devices(sdk: Any) -> list[tuple[str, str]]:
    """(serial number, name) of every RealSense camera found."""
    entries = []
    for device in sdk.context().query_devices():
        serial, name = (
            device.get_info(key) if device.supports(key) else ""
            for key in (sdk.camera_info.serial_number, sdk.camera_info.name)
        )
        entries.append((serial, name or "RealSense"))
    return entries
