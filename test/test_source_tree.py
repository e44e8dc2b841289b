"""The door from the package to the recipes of its source tree."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from eifer_ros import source_tree
from eifer_ros.errors import InputError, MissingExtra


def test_recipes_come_from_the_source_tree_wherever_the_program_runs(root: Path, tmp_path: Path) -> None:
    (tmp_path / "research").mkdir()
    (tmp_path / "research" / "__init__.py").write_text("raise SystemExit('the wrong research')")
    script = (
        "from eifer_ros.source_tree import import_research\n"
        "print(import_research('common.recipe', 'training').__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == str(root / "research" / "common" / "recipe.py"), done.stderr


def test_a_library_of_the_recipes_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("research.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"training needs the library 'torch': .*'eifer_ros\[train\]'"):
        source_tree.import_research("faces.pretrain", "training")


def test_a_recipe_that_does_not_exist_is_no_missing_library() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"research\.faces\.nothing"):
        source_tree.import_research("faces.nothing", "training")


def test_a_folder_named_research_alone_is_no_source_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "research").mkdir()
    (tmp_path / "research" / "__init__.py").write_text("")
    monkeypatch.setattr(source_tree, "PACKAGE", tmp_path / "eifer_ros")
    with pytest.raises(InputError, match="source tree"):
        source_tree.import_research("faces.pretrain", "training")
    (tmp_path / "pyproject.toml").write_text("")
    assert source_tree.source_tree("research", "recipes") == tmp_path


@pytest.mark.parametrize("words", ["train face", "train refine", "head build"])
def test_a_command_that_is_handed_on_shows_the_options_of_its_recipe(
    words: str, eifer: Callable[..., SimpleNamespace]
) -> None:
    pytest.importorskip("torch")
    done = eifer(*words.split(), "--help")
    assert done.code == 0
    assert f"{words} [-h]" in done.out
    assert "(default: 0)" in done.out


def test_options_of_a_command_that_is_handed_on_reach_its_recipe(
    eifer: Callable[..., SimpleNamespace],
) -> None:
    pytest.importorskip("torch")
    done = eifer("head", "build", "--samples", "3")
    assert done.code == 3
    assert "--samples 3: at least 50" in done.err
