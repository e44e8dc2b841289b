"""The report of a recorded session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..viewer import session_report as report
from .common import Progress


def write_report(bag: Path, out: Path | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Write one self-contained HTML page about a recording.

    Parameters
    ----------
    bag : Path
        The recording.
    out : Path, optional
        The file; None for `<name>_report.html` beside it.
    progress : Progress, optional
        See `common.Progress`.

    Returns
    -------
    dict[str, object]
        Where it is and how large.

    Raises
    ------
    RecordingError
        The recording cannot be read.
    InputError
        The file exists, or there is nothing to report.
    """
    path = Path(bag).expanduser()
    target = out or path.resolve().parent / f"{path.resolve().stem}_report.html"
    written = report.write_report(path, target, progress)
    return {"report": str(written), "bytes": written.stat().st_size}
