"""The report of a recorded session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..viewer import session_report as report
from .common import Progress


def write_report(bag: Path, out: Path | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Write the report of `bag` to `out` (default: `<name>_report.html` beside it).

    Returns where it is and how large.

    Raises RecordingError for a recording that cannot be read, InputError where the file exists or there is
    nothing to report.
    """
    path = Path(bag).expanduser()
    target = out or path.resolve().parent / f"{path.resolve().stem}_report.html"
    written = report.write_report(path, target, progress)
    return {"report": str(written), "bytes": written.stat().st_size}
