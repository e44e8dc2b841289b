"""What commands share: results on standard output; progress, prompts and errors on standard error; tables; a
way to stop.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from .registry import AVATARS, CAMERAS, EMG_SOURCES

out_console = Console(soft_wrap=True)
err_console = Console(stderr=True, soft_wrap=True)

Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, nothing else, on standard output.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write into; must be new or empty.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="Parameters in ROS 2 YAML format (see config/).")
]
CAMERA_HELP = CAMERAS.usage()
EMG_HELP = EMG_SOURCES.usage()
AVATAR_HELP = AVATARS.usage() + "; may be given more than once"


HeadModel = Annotated[
    str | None, typer.Option("--head-model", help="Head model by name, or an imported .npz file.")
]
MappingFile = Annotated[Path | None, typer.Option("--mapping", help="Fitted mapping of the participant.")]
CalibrationFile = Annotated[
    Path | None, typer.Option("--calibration", help="Calibration file of the participant.")
]
Micro = Annotated[
    bool | None,
    typer.Option(
        "--micro/--no-micro",
        help="Follow small, fast motion and spot micro-expressions; wants 100 frames/s or more.",
    ),
]
Animatronic = Annotated[
    str | None, typer.Option("--animatronic", help="Joint map (YAML) of an animatronic face.")
]
Arm = Annotated[
    bool,
    typer.Option("--arm", help="Let the animatronic face move. Without this nothing is sent to it."),
]
Loop = Annotated[bool, typer.Option(help="Start a recording again at its end.")]
Duration = Annotated[float | None, typer.Option(help="End after so many seconds.", min=0.1)]


_END_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What ends a run properly; SIGHUP comes when a terminal or an ssh connection goes away."""


def warn_disarmed(animatronic: str | None, arm: bool, quiet: bool) -> None:
    """Say that an animatronic face will not move, where that is so."""
    if animatronic is not None and not arm and not quiet:
        err_console.print(
            "the animatronic face is disarmed: nothing is sent to it; add --arm when it may move"
        )


@contextmanager
def bar(what: str, quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on standard error: call with (done, total or 0, words)."""
    if quiet:
        yield lambda done, total, words: None
        return
    text = TextColumn("{task.fields[words]}")
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        text,
    )
    with Progress(*columns, console=err_console, transient=True) as progress:
        task = progress.add_task(what, total=None, words="")

        def update(done: int, total: int, words: str) -> None:
            progress.update(task, completed=done, total=total or None, words=words)

        yield update


@contextmanager
def stages(quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """One progress bar per stage on standard error: call with (stage, share done)."""
    if quiet:
        yield lambda stage, share: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err_console) as progress:
        tasks: dict[str, TaskID] = {}

        def report_progress(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=1.0)
            progress.update(tasks[stage], completed=share)

        yield report_progress


@contextmanager
def until_interrupted() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that a run ends properly and its recording is closed; a second
    Ctrl-C aborts.
    """
    event = threading.Event()

    def request_stop(_number: int, _frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        err_console.print("stopping; what was recorded is being closed (Ctrl-C again to abort)")

    before = {number: signal.signal(number, request_stop) for number in _END_SIGNALS}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show(result: dict[str, Any], as_json: bool, title: str, rows: list[tuple[str, str]]) -> None:
    """The result as JSON, or as a table of two columns."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    table = Table(title=title, show_header=False, title_justify="left", pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows:
        table.add_row(name, escape(value))
    out_console.print(table)


def number(value: float | None, unit: str, digits: int = 1) -> str:
    """A value with its unit, or `unknown` for None and NaN."""
    return "unknown" if value is None or value != value else f"{value:.{digits}f} {unit}".rstrip()
