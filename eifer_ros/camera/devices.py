"""Webcams that Linux knows of."""

from __future__ import annotations

import re
from pathlib import Path

from ..component import Device


def webcams(root: Path = Path("/sys/class/video4linux")) -> list[Device]:
    """Video capture devices in the order of their numbers; `root` is the kernel's listing."""
    devices = []
    for entry in root.glob("video*") if root.is_dir() else ():
        match = re.fullmatch(r"video(\d+)", entry.name)
        if match is None or _text(entry / "index") not in (
            "",
            "0",
        ):  # index 1 and up are metadata nodes of the same camera
            continue
        number = int(match[1])
        devices.append(
            (
                number,
                Device(f"webcam:{number}", _text(entry / "name") or "camera", f"/dev/video{number}"),
            )
        )
    return [device for _, device in sorted(devices, key=lambda pair: pair[0])]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
