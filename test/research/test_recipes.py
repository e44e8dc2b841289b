"""How recipes are run: options that stand once, errors in one line."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from eifer_ros.errors import ConfigError, ModelError
from research.common import recipe
from research.common.recipe import option, parser, required, settings_of


@dataclass(frozen=True)
class Plan:
    data: Path = required("where from")
    steps: int = option(40, "how many", least=1)
    size: Literal["small", "large"] = option("small", "which")
    start: Path | None = option(None, "from where", ("--start", "-s"))
    check: bool = option(True, "whether to check")
    rate: float = 0.5


def test_options_are_the_fields_of_the_settings_with_their_types_and_defaults() -> None:
    options = parser("words", Plan)
    assert settings_of(Plan, options.parse_args(["--data", "d"])) == Plan(Path("d"))
    values = options.parse_args(
        ["--data", "d", "--steps", "3", "--size", "large", "-s", "net.pt", "--no-check"]
    )
    assert settings_of(Plan, values, rate=2.0) == Plan(Path("d"), 3, "large", Path("net.pt"), False, 2.0)
    text = options.format_help()
    assert "how many (default: 40)" in text
    assert "{small,large}" in text
    assert "--rate" not in text


def test_an_option_that_must_be_given_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser("words", Plan).parse_args([])
    assert "--data" in capsys.readouterr().err


def test_a_value_below_the_least_is_refused_by_the_name_of_its_option() -> None:
    with pytest.raises(ConfigError, match="--steps 0: at least 1"):
        settings_of(Plan, parser("words", Plan).parse_args(["--data", "d", "--steps", "0"]))


def test_an_error_of_a_recipe_is_one_line_and_its_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def main(arguments: Sequence[str] | None) -> None:
        raise ModelError("no such network")

    monkeypatch.setattr(sys, "argv", ["/somewhere/pretrain.py"])
    with pytest.raises(SystemExit) as ended:
        recipe.run(main)
    assert ended.value.code == ModelError.exit_code
    assert capsys.readouterr().err == "pretrain: no such network\n"


RESEARCH = Path(__file__).parents[2] / "research"
RECIPES = sorted(
    ".".join(path.relative_to(RESEARCH.parent).with_suffix("").parts)
    for path in RESEARCH.rglob("*.py")
    if "__main__" in path.read_text()
)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_shows_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main(["--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_a_recipe_runs_as_a_module_and_ends_with_one_line(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    folders = [str(tmp_path / "none"), str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "research.faces.pretrain", *folders, "--minutes", "0.1"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("pretrain: ") and "research.faces.pictures" in line
