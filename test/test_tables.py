"""README and docs list what the registry holds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from eifer_ros.registry import registries


@pytest.fixture(scope="module")
def tool(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_tables", root / "tools" / "make_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_is_up_to_date(tool: ModuleType, root: Path) -> None:
    for name in tool.PAGES:
        text = (root / name).read_text(encoding="utf-8")
        assert text == tool.render(text), f"{name}: run python tools/make_tables.py"


def test_every_registry_has_its_table_on_a_page(tool: ModuleType, root: Path) -> None:
    pages = "".join((root / name).read_text(encoding="utf-8") for name in tool.PAGES)
    for name in ("extras", *registries()):
        assert pages.count(f"<!-- from registry: {name} -->\n") == 1, name


def test_a_table_names_each_kind_with_its_options_and_extra(tool: ModuleType) -> None:
    (row,) = [line for line in tool.table("servos").splitlines() if line.startswith("| `dynamixel`")]
    assert "`baud=1000000`" in row and "`watchdog_s=0.2`" in row and row.endswith("| `animatronic` |")
    assert "| `vrchat:" in tool.table("avatars") and "`port=9000`" in tool.table("avatars")


def test_text_around_a_table_is_left_alone(tool: ModuleType) -> None:
    page = "before\n<!-- from registry: servos -->\nold\n<!-- end -->\nafter\n"
    rendered = tool.render(page)
    assert rendered.startswith("before\n<!-- from registry: servos -->\n| name |")
    assert rendered.endswith("|\n<!-- end -->\nafter\n") and "old" not in rendered
    assert tool.render(rendered) == rendered
