"""Commands on the pages: every one can be typed as it stands; those of the first session are run, with a
short simulated participant.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import typer

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def blocks(page: Path, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def commands(page: Path) -> list[str]:
    """Lines of the page's blocks that begin with `eifer`, without what follows a `#`; a line that ends in a
    backslash goes on.
    """
    text = "\n".join(blocks(page) + blocks(page, "bash") + blocks(page, "sh")).replace("\\\n", " ")
    lines = [line.split(" #")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line.startswith("eifer ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_is_one_that_eifer_understands(page: Path) -> None:
    from eifer_ros.cli import app

    known = typer.main.get_command(app)
    for line in commands(page):
        words = shlex.split(line)[1:]
        command: click.Command = known
        context = click.Context(command, info_name="eifer")
        while hasattr(command, "get_command") and words and not words[0].startswith("-"):
            found = command.get_command(context, words[0])
            assert found is not None, f"{page.name}: {line}: there is no '{words[0]}'"
            command, words = found, words[1:]
            context = click.Context(command, info_name=command.name, parent=context)
        if hasattr(command, "get_command"):
            assert words in ([], ["--help"], ["--version"]), f"{page.name}: {line}"
            continue
        try:  # parses, and runs nothing
            command.make_context(command.name, words, parent=context.parent)
        except click.exceptions.Exit:
            pass
        except Exception as error:  # click's own UsageError has several kinds, vendored by typer or not
            message = getattr(error, "message", str(error))
            if "does not exist" not in message:  # files of the reader
                pytest.fail(f"{page.name}: {line}: {message}")


def test_the_first_session_without_hardware(
    eifer: Callable[..., SimpleNamespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "first_session.md"
    lines = commands(page)
    # what takes minutes or a person is run by tests of its own
    elsewhere = ("eifer demo", "eifer calibrate", "eifer fit", "eifer view", "eifer drive", "eifer run")
    short = {
        "--minutes 3": "--minutes 0.03",
        "--camera webcam:0": "--camera performer:7",
        "--emg lsl:type=EMG": "--emg performer:7",
        "--out wednesday": "--out wednesday --duration 1",
    }
    done = [line for line in lines if not line.startswith(elsewhere)]
    assert len(lines) - len(done) == 7 and len(done) == 9
    for line in done:
        for old, new in short.items():
            if old != "--out wednesday" or line.startswith("eifer record"):
                line = line.replace(old, new)
        result = eifer(*shlex.split(line)[1:])
        assert result.code == 0, f"{line}: {result.err}"
    for name in (
        "monday/metadata.yaml",
        "montage.png",
        "head.png",
        "wednesday/metadata.yaml",
        "wednesday_again/bag/metadata.yaml",
        "wednesday_again/bag_report.html",
        "wednesday_recovered",
    ):
        assert (tmp_path / name).exists(), name
    # the page about recordings reads one from Python
    (program,) = blocks(ROOT / "docs" / "recordings.md", "python")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "bag").symlink_to(tmp_path / "wednesday_again" / "bag")
    exec(compile(program, "docs/recordings.md", "exec"), {})
