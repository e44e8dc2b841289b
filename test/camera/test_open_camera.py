from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eifer_ros import config
from eifer_ros.camera.camera_source import Camera, CameraConfig
from eifer_ros.camera.folder import FolderConfig, FolderSource
from eifer_ros.camera.realsense import RealSenseSource, load_sdk
from eifer_ros.camera.video import VideoSource
from eifer_ros.camera.webcam import WebcamSource
from eifer_ros.component import Level
from eifer_ros.errors import ConfigError, DeviceError, InputError, MissingExtra
from eifer_ros.registry import CAMERAS, Entry
from eifer_ros.types import NS


@pytest.mark.parametrize(
    ("url", "kind", "field", "value"),
    [
        ("video:a/b:c.mp4", VideoSource, "path", "a/b:c.mp4"),
        ("webcam:0", WebcamSource, "device", "0"),
        ("webcam", WebcamSource, "device", "0"),
        ("webcam:/dev/video3", WebcamSource, "device", "/dev/video3"),
        ("folder:pictures", FolderSource, "path", "pictures"),
        ("realsense", RealSenseSource, "serial", ""),
        ("realsense:831612073525", RealSenseSource, "serial", "831612073525"),
        ("realsense:take.db3", RealSenseSource, "path", "take.db3"),
    ],
)
def test_a_url_names_kind_and_device(url: str, kind: type, field: str, value: str) -> None:
    source = CAMERAS.open(url)
    assert isinstance(source, kind)
    assert getattr(source.config, field) == value


def test_what_follows_a_question_mark_is_configuration_and_goes_before_options(tmp_path: Path) -> None:
    source = CAMERAS.open("folder:pictures?fps=200&speed=1", fps=50.0, start_stamp=7)
    assert isinstance(source, FolderSource)
    assert (source.config.path, source.config.fps, source.config.speed, source.config.start_stamp) == (
        "pictures",
        200.0,
        1.0,
        7,
    )
    with pytest.raises(ConfigError, match="did you mean 'fps'"):
        CAMERAS.open("folder:pictures?fp=200")
    (tmp_path / "why?fps=9.mp4").write_bytes(b"")
    taken = CAMERAS.open(f"video:{tmp_path / 'why?fps=9.mp4'}")
    assert isinstance(taken, VideoSource) and taken.config.path.endswith("why?fps=9.mp4")


def test_only_cameras_are_live() -> None:
    assert [
        CAMERAS.open(url).live for url in ("video:a", "folder:a", "realsense:a.db3", "webcam:0", "realsense")
    ] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_an_unknown_kind_is_refused_with_what_would_be_right() -> None:
    with pytest.raises(ConfigError, match=r"unknown kind 'webcm'; did you mean 'webcam'.*video:FILE"):
        CAMERAS.open("webcm:0")


def test_a_bare_file_name_is_refused_with_what_would_be_right() -> None:
    with pytest.raises(ConfigError, match="video:FILE"):
        CAMERAS.open("take1.mp4")


def test_an_option_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="unknown key 'widht'; did you mean 'width'"):
        CAMERAS.open("webcam:0", widht=640)


def test_a_further_kind_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CAMERAS, "_entries", dict(CAMERAS._entries))
    CAMERAS.register(Entry("still", "eifer_ros.camera.folder:FolderSource", "still:DIR", "one picture"))
    source = CAMERAS.open("still:x", fps=2.0)
    assert isinstance(source, FolderSource)
    assert source.config.fps == 2.0


def test_the_component_passes_on_frames_and_what_the_config_says(make_video: Callable[..., Path]) -> None:
    camera = Camera(CameraConfig(url=f"video:{make_video([10, 20, 30])}", start_stamp=NS, width=320))
    assert camera.live is False
    assert camera.health().level is Level.STALE
    camera.setup()
    got = list(camera.produce())
    assert [emission.port for emission in got] == ["camera/image_raw"] * 3
    assert got[0].item.stamp == NS
    assert camera.health().level is Level.OK
    camera.close()


class CountedCamera(FolderSource):
    opened = 0

    def __init__(self, config: FolderConfig) -> None:
        super().__init__(config)
        type(self).opened += 1


def test_the_component_opens_its_camera_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CAMERAS, "_entries", dict(CAMERAS._entries))
    CAMERAS.register(Entry("counted", f"{__name__}:CountedCamera", "counted:DIR", "counts"))
    Camera(CameraConfig(url="counted:x", fps=9.0))
    assert CountedCamera.opened == 1


def test_the_component_shows_what_is_wrong_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such video file"):
        Camera(CameraConfig(url=f"video:{tmp_path}/none.mp4")).setup()


def test_the_config_file_holds_the_defaults(root: Path) -> None:
    assert config.load(CameraConfig, "camera", root / "config" / "camera.yaml") == CameraConfig()


def test_the_frame_rate_reaches_every_kind_of_camera() -> None:
    for url in ("webcam:0", "folder:a", "realsense"):
        assert Camera(CameraConfig(url=url, fps=15.0))._source.config.fps == 15


def block_import(monkeypatch: pytest.MonkeyPatch, error: ImportError) -> None:
    real = builtins.__import__

    def fake(name: str, *rest: Any) -> Any:
        if name == "pyrealsense2":
            raise error
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", fake)


def test_a_missing_realsense_sdk_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    block_import(monkeypatch, ModuleNotFoundError("No module named 'pyrealsense2'"))
    with pytest.raises(MissingExtra, match=r"pip install 'eifer_ros\[realsense\]'"):
        CAMERAS.open("realsense").setup()
    with pytest.raises(MissingExtra, match=r"pip install 'eifer_ros\[realsense\]'"):
        RealSenseSource.discover()


def test_a_realsense_sdk_without_libusb_names_the_system_package(monkeypatch: pytest.MonkeyPatch) -> None:
    block_import(monkeypatch, ImportError("libusb-1.0.so.0: cannot open shared object file"))
    with pytest.raises(DeviceError, match=r"apt install libusb-1\.0-0"):
        load_sdk()
