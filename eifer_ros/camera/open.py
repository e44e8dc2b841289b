"""One call opens any camera: `open_camera("video:take1.mp4")`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ..component import Source
from ..config import build
from ..errors import ConfigError, did_you_mean
from .folder import FolderConfig, FolderSource
from .realsense import RECORDING_SUFFIXES, RealSenseConfig, RealSenseSource
from .video import VideoConfig, VideoSource
from .webcam import WebcamConfig, WebcamSource, device_number

Opener = Callable[[str, dict[str, Any]], Source]
"""Makes a source from what follows the colon and from options by name."""


def _video(rest: str, options: dict[str, Any]) -> Source:
    return VideoSource(build(VideoConfig, {"path": rest, **options}, "video"))


def _webcam(rest: str, options: dict[str, Any]) -> Source:
    config = build(WebcamConfig, {"device": rest or "0", **options}, "webcam")
    device_number(config.device)
    return WebcamSource(config)


def _folder(rest: str, options: dict[str, Any]) -> Source:
    return FolderSource(build(FolderConfig, {"path": rest, **options}, "folder"))


def _realsense(rest: str, options: dict[str, Any]) -> Source:
    key = "path" if rest.lower().endswith(RECORDING_SUFFIXES) else "serial"
    return RealSenseSource(build(RealSenseConfig, {key: rest, **options}, "realsense"))


SCHEMES: dict[str, tuple[Opener, str]] = {
    "video": (_video, "video:FILE"),
    "webcam": (_webcam, "webcam:0 or webcam:/dev/video0"),
    "folder": (_folder, "folder:DIR"),
    "realsense": (_realsense, "realsense, realsense:SERIAL or realsense:FILE.db3"),
}
"""Openers by scheme, with how to write the URL. Other packages add theirs with `register`."""


def register(scheme: str, opener: Opener, usage: str) -> None:
    """Add a kind of camera to `open_camera`."""
    SCHEMES[scheme] = (opener, usage)


def open_camera(url: str, **options: Any) -> Source:
    """The camera that `url` names, not yet set up; `options` are fields of its config, as is what follows a
    `?`: `folder:DIR?fps=200`.

    What the URL says goes before `options`. A file whose name holds a `?` is taken by its name. Raises
    ConfigError for an unknown scheme or option. What is wrong with the file or device itself shows in
    `setup`.
    """
    scheme, _, rest = url.partition(":")
    if scheme not in SCHEMES:
        usage = "; ".join(text for _, text in SCHEMES.values())
        raise ConfigError(
            f"camera '{url}': unknown kind '{scheme}'{did_you_mean(scheme, SCHEMES)}; write {usage}"
        )
    opener, _ = SCHEMES[scheme]
    base, mark, query = rest.partition("?")
    if mark and not Path(rest).expanduser().exists():
        rest, options = base, {**options, **dict(parse_qsl(query, keep_blank_values=True))}
    return opener(rest, options)
