"""What the jobs share: progress, result folders, and one way to open pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..camera.open import open_camera
from ..component import Source
from ..config import build
from ..errors import InputError
from ..recording.source import BagSource, ReplayConfig
from ..simulation import performer as _performer  # noqa: F401  (makes `performer:SEED` known as a camera and as an amplifier)

Progress = Callable[[int, int, str], None]
"""Called with (done, total or 0, what): total 0 where the end is not known."""


def new_folder(path: Path) -> Path:
    """A folder for results.

    One that already holds something is refused: nothing recorded is ever overwritten.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(
            f"{path}: exists and is not empty; give another --out (recordings are never overwritten)"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be made ({error.strerror})") from None
    return path


def open_pictures(url: str) -> Source:
    """The camera that `url` names; `bag:PATH` replays the pictures of a recording."""
    if url.startswith("bag:"):
        return BagSource(
            build(
                ReplayConfig,
                {"path": url.removeprefix("bag:"), "topics": ["camera/image_raw"], "synced": False},
                "replay",
            )
        )
    return open_camera(url)
