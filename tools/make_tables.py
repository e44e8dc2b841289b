"""Writes the tables of devices and extras into README and docs: `python tools/make_tables.py`.

A table stands between `<!-- from registry: cameras -->` and `<!-- end -->`. A test says when one is out of date.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from eifer_ros.config import DeviceConfig, parameter_fields  # noqa: E402
from eifer_ros.doctor import PURPOSES  # noqa: E402
from eifer_ros.registry import Entry, registries  # noqa: E402

PAGES = (
    "README.md",
    "docs/animatronic.md",
    "docs/cameras.md",
    "docs/drivers.md",
    "docs/emg_sources.md",
    "docs/faces_under_sensors.md",
)
TABLE = re.compile(r"(<!-- from registry: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """A page with its tables as new as the registry."""
    return TABLE.sub(lambda match: match[1] + table(match[2]) + match[3], text)


def table(name: str) -> str:
    """One table, by the name of its registry or `extras`."""
    if name == "extras":
        rows = [(f"`{extra}`", purpose) for extra, purpose in PURPOSES.items()]
        return _table(("extra", "adds"), rows)
    registry = registries()[name]
    entries = registry.built_in()
    rows = [_row(entry, registry.config_type(entry.scheme)) for entry in entries]
    header = (
        "address" if any(":" in entry.usage for entry in entries) else "name",
        "what",
        "options",
        "extra",
    )
    used = [column for column in range(len(header)) if any(row[column] for row in rows)]
    return _table([header[column] for column in used], [[row[column] for column in used] for row in rows])


def _row(entry: Entry, config_type: type[DeviceConfig]) -> tuple[str, str, str, str]:
    usage = (
        " or ".join(f"`{part}`" for part in entry.usage.split(" or ") if part)
        if "[" not in entry.usage
        else f"`{entry.usage}`"
    )
    own = inspect.get_annotations(config_type)
    options = [
        f"`{field.name}`"
        if field.default in ("", 0, 0.0, (), [])
        else f"`{field.name}={_text(field.default)}`"
        for field in parameter_fields(config_type)
        if field.name in own and field.name != config_type.url_field
    ]
    return usage, entry.what, ", ".join(options), f"`{entry.extra}`" if entry.extra else ""


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(header: list[str] | tuple[str, ...], rows: list[list[str]] | list[tuple[str, ...]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def main() -> None:
    """Rewrite every page."""
    for name in PAGES:
        page = ROOT / name
        page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
