"""`eifer ...`: thin commands over workflows/."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from . import __version__, threads  # noqa: F401  (threads before anything that loads a BLAS)
from .commands import data, heads, models, muscles, outputs, overview, page, recording, train
from .console import out_console
from .errors import EiferError

app = typer.Typer(
    name="eifer",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="A face under electrodes, live, as parameters of a 3D head, and its muscles, in both directions.",
)
PANELS = {
    "Start": (overview.demo, overview.doctor),
    "Faces and recordings": (
        recording.run,
        recording.record,
        recording.replay,
        recording.info,
        recording.recover,
    ),
    "Muscles": (muscles.simulate, muscles.calibrate, muscles.fit, muscles.montage),
    "See and drive": (page.view, page.report, outputs.drive),
    "Data": (data.import_, data.export, data.sync, data.evaluate, data.batch),
}
for _panel, _commands in PANELS.items():
    for _command in _commands:
        app.command(_command.__name__.rstrip("_"), rich_help_panel=_panel)(_command)
app.add_typer(heads.app, name="head", rich_help_panel="Start")
app.add_typer(models.app, name="models", rich_help_panel="Start")
app.add_typer(train.app, name="train", rich_help_panel="Data")


def _version(show: bool) -> None:
    if show:
        out_console.print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: an EiferError becomes one line and its exit code; EIFER_DEBUG=1 shows the traceback as
    well.
    """
    try:
        app(standalone_mode=True)
    except EiferError as error:
        if os.environ.get("EIFER_DEBUG"):
            traceback.print_exc()
        print(f"eifer: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("eifer: aborted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
