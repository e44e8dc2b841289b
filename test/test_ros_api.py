"""docs/ros_api.md is made from the configs, ports and launch files, and is as new as they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from eifer_ros.config import Config, parameter


@pytest.fixture(scope="module")
def tool(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_ros_api", root / "tools" / "make_ros_api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(tool: ModuleType) -> None:
    assert tool.TARGET.read_text(encoding="utf-8") == tool.render(), "run python tools/make_ros_api.py"


def test_every_parameter_of_every_node_is_on_the_page_with_its_unit(tool: ModuleType) -> None:
    page = tool.TARGET.read_text(encoding="utf-8")
    for part in tool.PARTS.values():
        section = page.split(f"\n### {part.name}\n")[1].split("\n### ")[0]
        for name, field in part.component.config_type.model_fields.items():
            assert f"| `{name}" in section, f"{part.name}.{name}"
            unit = field.json_schema_extra["unit"]
            assert not unit or f"[{unit}]" in section


def test_a_parameter_shows_kind_default_range_unit_and_whether_it_may_change(tool: ModuleType) -> None:
    class Example(Config):
        gain: float = parameter(1.5, "how much | <more>", unit="V", read_only=False, gt=0.0, le=3.0)
        names: list[str] = parameter([], "who")

    rows = tool.parameters(Example)
    assert (
        rows[2]
        == "| `gain` | double | `1.5` | above 0.0, at most 3.0 | how much \\| &lt;more> [V] *(run time)* |"
    )
    assert rows[3] == "| `names` | string array | `[]` |  | who |"


def test_an_extra_that_is_not_described_is_noticed(tool: ModuleType) -> None:
    assert {extra.__name__ for part in tool.PARTS.values() for extra in part.extras} == set(tool.OFFERED)
