"""The webcam source with a scripted capture device in place of V4L2."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from eifer_ros.camera.devices import webcams
from eifer_ros.camera.webcam import WebcamConfig, WebcamSource, device_number, open_v4l2
from eifer_ros.component import Level
from eifer_ros.errors import ConfigError, DeviceError
from eifer_ros.types import NS

START = 1_700_000_000 * NS


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.s = 100.0

    def monotonic(self) -> float:
        return self.s

    def now(self) -> int:
        return START + round((self.s - 100.0) * NS)


class Device:
    """A camera: `read` gives what `show` put in, blocks while there is nothing, and fails once unplugged."""

    def __init__(self, clock: Clock) -> None:
        self.pictures: queue.Queue[tuple[int, float] | None] = queue.Queue()
        self.clock = clock
        self.present = True
        self.released = 0
        self.pos_ms = 0.0

    def show(self, level: int, captured_s: float = 0.0) -> None:
        self.pictures.put((level, captured_s))

    def unplug(self) -> None:
        self.present = False
        self.pictures.put(None)

    def isOpened(self) -> bool:
        return self.present

    def read(self) -> tuple[bool, Any]:
        shown = self.pictures.get(timeout=120)
        if shown is None:
            return False, None
        self.pos_ms = shown[1] * 1000
        return True, np.full((24, 32, 3), (shown[0], 0, 0), np.uint8)

    def get(self, prop: int) -> float:
        return self.pos_ms if prop == cv2.CAP_PROP_POS_MSEC else 0.0

    def set(self, prop: int, value: float) -> bool:
        return True

    def release(self) -> None:
        self.released += 1


class Bench:
    """A source, its device, and the frames it gave, taken on a thread as a host does."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.device = Device(self.clock)
        self.opened = 0
        self.source = WebcamSource(
            WebcamConfig(), self.open, now=self.clock.now, monotonic=self.clock.monotonic, retry_s=(0.0,)
        )
        self.frames: queue.Queue[Any] = queue.Queue()
        self.gate = threading.Semaphore(1_000_000)

    def open(self, config: WebcamConfig) -> Device:
        self.opened += 1
        return self.device

    def run(self) -> None:
        self.source.setup()
        threading.Thread(target=self._consume, daemon=True).start()

    def _consume(self) -> None:
        for emission in self.source.produce():
            self.gate.acquire(timeout=120)
            self.frames.put(emission.item)

    def frame(self) -> Any:
        return self.frames.get(timeout=120)


@pytest.fixture
def bench() -> Any:
    made = Bench()
    yield made
    made.source.stop()
    made.device.pictures.put(None)  # lets a blocked read return
    made.source.close()


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(12000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("the condition did not come true within 120 s")


def test_pictures_flow_in_rgb_with_the_arrival_as_stamp(bench: Bench) -> None:
    bench.device.show(50)
    bench.run()
    first = bench.frame()
    assert first.image[0, 0].tolist() == [0, 0, 50]
    assert first.stamp == START
    bench.clock.s += 0.04
    bench.device.show(60)
    assert bench.frame().stamp == pytest.approx(START + 0.04 * NS, abs=10)


def test_the_drivers_capture_time_is_used_where_it_is_on_the_hosts_clock(bench: Bench) -> None:
    bench.device.show(50, captured_s=bench.clock.s - 0.030)
    bench.run()
    assert bench.frame().stamp == pytest.approx(START - 30_000_000, abs=1000)


def test_stamps_increase_even_where_the_clock_does_not(bench: Bench) -> None:
    bench.device.show(50)
    bench.run()
    stamps = [bench.frame().stamp]
    for _ in range(3):
        bench.device.show(51)
        stamps.append(bench.frame().stamp)
    assert stamps == sorted(set(stamps))


def test_a_slow_consumer_gets_the_newest_picture(bench: Bench) -> None:
    bench.gate = threading.Semaphore(0)
    bench.device.show(1)
    bench.run()
    wait_until(lambda: bench.source._newest is None)  # the consumer holds picture 1
    for level in range(2, 12):
        bench.device.show(level)
    wait_until(lambda: bench.source.health().values["frames"] == 11)
    bench.gate.release(5)
    assert bench.frame().image[0, 0, 2] == 1
    assert bench.frame().image[0, 0, 2] == 11
    assert bench.source.health().values["frames_skipped"] == 9


def test_silence_shows_in_health_within_a_second(bench: Bench) -> None:
    bench.device.show(1)
    bench.run()
    bench.frame()
    assert bench.source.health().level is Level.OK
    bench.clock.s += 0.9
    health = bench.source.health()
    assert health.level is Level.ERROR
    assert "silent for 0.9 s" in health.message


def test_an_unplugged_camera_is_reported_tried_again_and_taken_up(bench: Bench) -> None:
    bench.device.show(1)
    bench.run()
    bench.frame()
    bench.device.unplug()
    wait_until(lambda: bench.opened > 3)  # it keeps trying
    assert bench.source.health().level is Level.ERROR
    assert "reconnecting" in bench.source.health().message
    bench.clock.s += 3
    bench.device = Device(bench.clock)
    bench.device.show(2)
    frame = bench.frame()
    assert frame.image[0, 0, 2] == 2
    assert frame.stamp == START + 3 * NS
    assert bench.source.health().level is Level.OK
    assert bench.source.health().values["reconnects"] == 1


def test_stop_ends_a_source_whose_camera_is_silent(bench: Bench) -> None:
    bench.device.show(1)
    bench.source.setup()
    ended = threading.Event()

    def consume() -> None:
        for _ in bench.source.produce():
            pass
        ended.set()

    threading.Thread(target=consume, daemon=True).start()
    bench.source.stop()
    assert ended.wait(120)


def test_a_camera_that_opens_but_gives_no_picture_is_a_device_error(bench: Bench) -> None:
    bench.device.pictures.put(None)
    with pytest.raises(DeviceError, match="gives no picture"):
        bench.source.setup()
    assert bench.device.released == 1


def test_a_camera_that_does_not_exist_is_a_device_error_that_lists_those_that_do(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(DeviceError, match=r"webcam 97 cannot be opened; cameras found:"):
        WebcamSource(WebcamConfig(device="97"), open_v4l2).setup()
    assert capfd.readouterr().err == ""


def test_device_names_are_numbers_paths_or_links(tmp_path: Path) -> None:
    assert device_number("3") == 3
    assert device_number("/dev/video12") == 12
    link = tmp_path / "by-id"
    link.symlink_to("/dev/video7")
    assert device_number(str(link)) == 7
    with pytest.raises(ConfigError, match="'usb'"):
        device_number("usb")


def test_webcams_are_listed_by_number_without_their_metadata_nodes(tmp_path: Path) -> None:
    for number, index, name in ((10, 0, "Arm camera"), (2, 0, "Face camera"), (3, 1, "Face camera")):
        entry = tmp_path / f"video{number}"
        entry.mkdir()
        (entry / "name").write_text(f"{name}\n")
        (entry / "index").write_text(f"{index}\n")
    assert [(camera.url, camera.name) for camera in webcams(tmp_path)] == [
        ("webcam:2", "Face camera"),
        ("webcam:10", "Arm camera"),
    ]
    assert webcams(tmp_path / "none") == []
