"""Tables of an evaluation: CSV and Markdown."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def number(value: Any) -> str:
    """For a table: three significant digits, empty where unknown."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """All columns of all rows, full precision."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(
            {k: "" if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()} for row in rows
        )


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table for people."""
    if not rows:
        return "no result\n"
    names = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += [
        "| " + " | ".join(number(row.get(name)).replace("|", "/") for name in names) + " |" for row in rows
    ]
    return "\n".join(lines) + "\n"
