"""What stands once and what stands in a circle, counted from the source (`tools/house.py`)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from . import note, report


def run(quick: bool = False) -> None:
    """Figures of the whole tree; nothing is faster for being quick."""
    path = Path(__file__).resolve().parent.parent / "tools" / "house.py"
    spec = importlib.util.spec_from_file_location("house", path)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    sys.modules["house"] = tool
    spec.loader.exec_module(tool)
    house = tool.House()
    files = len(house.files)
    for figure, items in house.findings().items():
        report(figure, len(items), "", files)
        for item in items:
            note(f"{figure}: {item}")
    report("wheel_lines", house.lines(), "lines", len(house.wheel))
    report("wheel_statements", house.statements(), "statements", len(house.wheel))
