"""Finds models/, config/, launch/ and message definitions in a source tree, a pip install or an ament prefix."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError

_PACKAGE = Path(__file__).resolve().parent


def _roots() -> Iterator[Path]:
    """Folders that may hold the share files, most specific first."""
    override = os.environ.get("EIFER_SHARE")
    if override:
        yield Path(override)
    yield _PACKAGE.parent  # a source tree or an editable install
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix:
            yield Path(prefix) / "share" / "eifer_ros"
    for prefix in dict.fromkeys((sys.prefix, sys.base_prefix)):
        yield Path(prefix) / "share" / "eifer_ros"
    # `pip install --target` or `--prefix` puts data files beside lib/ or beside the package
    yield from (parent / "share" / "eifer_ros" for parent in _PACKAGE.parents)


def find(kind: str, name: str) -> Path:
    """Path of `kind`/`name`, e.g. `find("models", "open_head.npz")`.

    Raises InputError that lists where it looked.
    """
    tried = []
    for root in _roots():
        path = root / kind / name
        if path.exists():
            return path
        tried.append(str(path))
    raise InputError(f"{kind}/{name} was not found; looked at {', '.join(dict.fromkeys(tried))}")


def model(name: str) -> Path:
    """A file of models/; a path that exists as given wins."""
    path = Path(name).expanduser()
    return path if path.exists() else find("models", name)


def config(name: str) -> Path:
    """A file of config/; a path that exists as given wins, and `.yaml` may be left out."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    return find("config", name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")


def message_definitions() -> Path:
    """The folder of eifer_msgs that holds msg/, srv/ and action/."""
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        share = Path(prefix) / "share" / "eifer_msgs"
        if prefix and (share / "msg").is_dir():
            return share
    return find("eifer_msgs", "msg").parent
