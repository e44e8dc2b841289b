"""What the workflows share: progress and result folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import InputError

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
