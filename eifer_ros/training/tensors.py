"""Files of tensors: read by torch's restricted loader, checked by name and shape, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, ModelError


def read_tensors(path: Path) -> dict[str, Any]:
    """What a torch file holds, read by the restricted loader.

    Raises
    ------
    InputError
        Where the file is missing or no torch file.
    ModelError
        Where it holds more than tensors, or no table.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own, pickle's and zipfile's errors
        words = str(error)
        if "nsupported global" in words:
            raise ModelError(
                f"{path}: holds more than tensors; it is not loaded, because that would run what is in it"
            ) from None
        raise InputError(
            f"{path}: not a torch checkpoint ({(words or type(error).__name__).splitlines()[0][:160]})"
        ) from None
    if not isinstance(content, dict):
        raise ModelError(
            f"{path}: holds a {type(content).__name__}; a checkpoint is a table of tensors by name"
        )
    return content


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write a torch file in one step: a power cut leaves the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    torch.save(dict(content), partial)
    partial.replace(path)


def check_names(
    path: Path, what: str, expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]
) -> None:
    """Raise ModelError that names what does not fit where `state` has not the names and shapes of `expected`, or
    holds values that are not finite.
    """

    def some(names: list[str]) -> str:
        return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"

    if missing := sorted(set(expected) - set(state)):
        raise ModelError(f"{path}: not {what}: {some(missing)} missing")
    if foreign := sorted(set(state) - set(expected)):
        raise ModelError(f"{path}: not {what}: {some(foreign)} unknown")
    for name, value in expected.items():
        if value.shape != state[name].shape:
            raise ModelError(
                f"{path}: not {what}: {name} has shape {tuple(state[name].shape)}; it must be {tuple(value.shape)}"
            )
        if not torch.isfinite(state[name].float()).all():
            raise ModelError(f"{path}: {name} holds values that are not finite")
