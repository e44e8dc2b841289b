"""view, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from .console import CAMERA_HELP, EMG_HELP, Json, bar, err_console, number, show, until_interrupted


def view(
    source: Annotated[
        str | None, typer.Argument(help="A recording, a video file, or performer:SEED.")
    ] = None,
    camera: Annotated[str | None, typer.Option(help=CAMERA_HELP)] = None,
    emg: Annotated[str | None, typer.Option(help=EMG_HELP)] = None,
    mapping: Annotated[Path | None, typer.Option(help="Fitted mapping of the participant.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Calibration file of the participant.")] = None,
    animatronic: Annotated[
        str | None, typer.Option(help="Joint map of an animatronic face; arming is a button on the page.")
    ] = None,
    micro: Annotated[
        bool, typer.Option("--micro", help="Spot micro-expressions in the picture, in EMG, or in both.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for what is recorded from the page.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve on; any other than loopback needs the token in the address.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8765,
    token: Annotated[
        str, typer.Option(help="Token for visitors on an address other than loopback; made when empty.")
    ] = "",
    loop: Annotated[bool, typer.Option(help="Start a recording again at its end.")] = False,
    as_json: Json = False,
) -> None:
    """Serve the live page: faces, muscles, contact, rates; calibrate and record from it, or play a recording."""
    from ..config import build
    from ..viewer.view_config import ViewConfig
    from ..workflows.view import view as serve

    config = build(ViewConfig, {"host": host, "port": port, "token": token}, "view")
    with until_interrupted() as stop:
        result = serve(
            source,
            camera=camera,
            emg=emg,
            mapping=mapping,
            calibration=calibration,
            animatronic=animatronic,
            micro=micro,
            out=out,
            config=config,
            loop=loop,
            ready=lambda url: err_console.print(f"open {escape(url)}   (Ctrl-C ends)"),
            stop=stop,
        )
    rows = [
        ("page", result.url),
        ("stamp to page", number(result.shown_ms, "ms")),
        *(("recorded", path) for path in result.recordings),
    ]
    show(
        {"url": result.url, "shown_ms": result.shown_ms, "recordings": list(result.recordings)},
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
