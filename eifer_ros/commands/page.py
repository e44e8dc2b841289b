"""view, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ..console import (
    AVATAR_HELP,
    CAMERA_HELP,
    EMG_HELP,
    CalibrationFile,
    ConfigFile,
    HeadModel,
    Json,
    Loop,
    MappingFile,
    Micro,
    bar,
    err_console,
    number,
    show,
    until_interrupted,
)


def view(
    source: Annotated[
        str | None, typer.Argument(help="A recording, a video file, or performer:SEED.")
    ] = None,
    camera: Annotated[str | None, typer.Option(help=CAMERA_HELP)] = None,
    emg: Annotated[str | None, typer.Option(help=EMG_HELP)] = None,
    mapping: MappingFile = None,
    calibration: CalibrationFile = None,
    avatar: Annotated[list[str] | None, typer.Option(help=AVATAR_HELP)] = None,
    animatronic: Annotated[
        str | None, typer.Option(help="Joint map of an animatronic face; arming is a button on the page.")
    ] = None,
    head_model: HeadModel = None,
    micro: Micro = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for what is recorded from the page.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to serve on; any other than loopback needs the token in the address."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = None,
    token: Annotated[
        str | None,
        typer.Option(help="Token for visitors on an address other than loopback; made when empty."),
    ] = None,
    loop: Loop = False,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Serve the live page: faces, muscles, contact, rates; calibrate and record from it, or play a recording."""
    from ..pipeline import Request, open_config
    from ..viewer.view_config import ViewConfig
    from ..workflows.view import view as serve

    file = open_config(config)
    request = Request(
        camera=camera,
        emg=emg,
        mapping=mapping,
        calibration=calibration,
        head_model=head_model,
        micro=micro,
        avatars=tuple(avatar or ()),
        animatronic=animatronic,
    )
    with until_interrupted() as stop:
        result = serve(
            source,
            request,
            file,
            page=file.config("viewer", ViewConfig, host=host, port=port, token=token),
            out=out,
            loop=loop,
            ready=lambda url: err_console.print(f"open {escape(url)}   (Ctrl-C ends)"),
            stop=stop,
        )
    rows = [
        ("page", result.url),
        ("stamp to page", number(result.shown_ms, "ms")),
        *(("recorded", path) for path in result.recordings),
        *(("note", note) for note in result.notes),
    ]
    show(
        {
            "url": result.url,
            "shown_ms": result.shown_ms,
            "recordings": list(result.recordings),
            "notes": list(result.notes),
        },
        as_json,
        "Viewed",
        rows,
    )


def report(
    bag: Annotated[Path, typer.Argument(help="A recording: its folder or its .mcap file.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="HTML file; default <name>_report.html beside the recording."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page about a session: quality, envelopes, movements, faces, lag."""
    from ..workflows.write_report import write_report

    with bar("report", as_json) as progress:
        result = write_report(bag, out, progress)
    show(result, as_json, "Report", [("file", result["report"]), ("size", f"{result['bytes'] / 1e6:.1f} MB")])
