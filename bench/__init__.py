"""Benchmarks: each figure is one JSON line.

`python -m bench foundation [--quick]`; never part of the tests.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

REPORTED: list[dict[str, object]] = []
"""Every figure of this run, in order."""


def machine() -> str:
    """Processor, cores and Python, for the reader of a figure."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        name = platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, Python {platform.python_version()}"


def report(figure: str, value: float | int | str | None, unit: str, n: int) -> None:
    """Print one figure: what it is, its value (None where it could not be measured), unit, and over how many
    it was taken.
    """
    rounded = round(value, 5) if isinstance(value, float) else value
    line = {"figure": figure, "value": rounded, "unit": unit, "n": n, "machine": machine()}
    REPORTED.append(line)
    print(json.dumps(line), flush=True)


def note(text: str) -> None:
    """A remark beside the figures, on standard error, so that standard output stays JSON lines."""
    print(text, file=sys.stderr, flush=True)


def shared_data(name: str) -> Path | None:
    """A file of the test data (folder: EIFER_TEST_DATA, else `shared/data` beside the source tree), or None."""
    folder = Path(os.environ.get("EIFER_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
    return folder / name if (folder / name).exists() else None
