"""Small video files with known pictures, times and rotation, written by OpenCV and edited box by box."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """make_video(levels, fps=..., size=(w, h)): an MP4 whose k-th frame is grey of levels[k]."""

    def make(
        levels: list[int], fps: float = 25.0, size: tuple[int, int] = (64, 48), name: str = "video.mp4"
    ) -> Path:
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        assert writer.isOpened()
        for level in levels:
            writer.write(np.full((size[1], size[0], 3), level, np.uint8))
        writer.release()
        return path

    return make


def boxes(data: bytes, start: int, end: int) -> list[tuple[bytes, int, int]]:
    """(type, start, end) of the boxes of an MP4 (ISO/IEC 14496-12) in a range."""
    found = []
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        found.append((kind, start, start + size))
        start += size
    return found


@pytest.fixture
def rewrite() -> Callable[[Path, bytes, Callable[[bytes], bytes]], None]:
    """rewrite(path, kind, change): edit the box `kind` of an MP4."""
    return _rewrite


def _rewrite(path: Path, kind: bytes, change: Callable[[bytes], bytes]) -> None:
    """Replace the body of the box `kind` inside moov; the sizes of the boxes around it follow."""
    data = path.read_bytes()

    def walk(start: int, end: int) -> bytes:
        out = b""
        for name, first, last in boxes(data, start, end):
            body = data[first + 8 : last]
            if name in _CONTAINERS:
                body = walk(first + 8, last)
            elif name == kind:
                body = change(body)
            out += struct.pack(">I4s", len(body) + 8, name) + body
        return out

    names = [name for name, _, _ in boxes(data, 0, len(data))]
    # sample offsets count from the start of the file: they stay right only while moov comes last
    assert names.index(b"mdat") < names.index(b"moov")
    path.write_bytes(walk(0, len(data)))
