"""What stands once and what stands in a circle: the counting, and the count of this tree."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = ROOT / "tools" / "house.py"
    spec = importlib.util.spec_from_file_location("house", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["house"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path, tool: ModuleType):  # type: ignore[no-untyped-def]
    """Makes a House of files by name."""

    def make(**files: str):  # type: ignore[no-untyped-def]
        for name, text in files.items():
            path = tmp_path / "eifer_ros" / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(text)
        return tool.House(tmp_path)

    return make


def test_this_tree_is_within_its_limits(tool: ModuleType) -> None:
    findings = tool.House(ROOT).findings()
    over = {name: findings[name] for name, limit in tool.LIMITS.items() if len(findings[name]) > limit}
    assert over == {}


def test_every_limited_figure_that_stands_for_something_is_counted(tool: ModuleType) -> None:
    findings = tool.House(ROOT).findings()
    for name in ("session_openers", "z_buffers_numba", "z_buffers_torch"):
        assert findings[name], f"{name}: the count does not recognise the one there is"


@pytest.mark.parametrize(
    "back",
    [
        "from .a import f",
        "def g():\n    from .a import f",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import a",
        "import eifer_ros.head.a",
    ],
)
def test_a_circle_counts_wherever_its_import_stands(tree, back: str) -> None:  # type: ignore[no-untyped-def]
    findings = tree(head__a="from .b import g\n", head__b=back + "\n").findings()
    assert findings["file_circles"] == ["eifer_ros.head.a <-> eifer_ros.head.b"]
    assert findings["room_circles"] == []


def test_rooms_that_use_each_other_are_a_circle_even_where_no_files_are(tree) -> None:  # type: ignore[no-untyped-def]
    findings = tree(
        head__a="from ..render import c\n", head__b="", render__c="", render__d="from ..head.b import x\n"
    ).findings()
    assert findings["file_circles"] == [] and findings["room_circles"] == ["head <-> render"]


def test_the_door_to_the_recipes_counts_as_an_import_of_the_recipe(tree, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    recipe = tmp_path / "research" / "faces" / "fit.py"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("from eifer_ros.commands.train import option\n")
    findings = tree(
        commands__train='def run():\n    import_research("faces.fit", "training").main()\n'
    ).findings()
    assert findings["room_circles"] == ["commands <-> research"]


def test_an_import_of_a_higher_floor_and_a_room_without_one_are_named(tree) -> None:  # type: ignore[no-untyped-def]
    findings = tree(head__a="from ..viewer import page\n", viewer__page="", attic__b="").findings()
    assert findings["arrows_up"] == [
        "attic has no floor in tools/house.py",
        "eifer_ros.head.a -> eifer_ros.viewer.page",
    ]


def test_tables_of_topics_builders_of_graphs_and_training_loops_are_counted_where_they_are(tree) -> None:  # type: ignore[no-untyped-def]
    findings = tree(
        viewer__a='SHOWN = {"emg/activity": 1, "face/vision": 2}\nONE = "emg/activity"\n',
        topics='ALL = ("emg/activity", "face/vision")\n',
        workflows__run="def run():\n    LocalHost({})\n",
        training__fit="def fit():\n    for x in y:\n        loss.backward()\n\ndef forward():\n    return loss\n",
    ).findings()
    assert findings["topic_tables"] == ["eifer_ros.viewer.a:1"]
    assert findings["graph_builders"] == ["eifer_ros.workflows.run.run"]
    assert findings["training_loops"] == ["eifer_ros.training.fit.fit"]
