"""demo, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..console import ConfigFile, Json, out_console, show, stages, until_interrupted


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write into; must be new or empty.")
    ] = Path("demo_out"),
    seed: Annotated[int, typer.Option(help="Who performs.", min=0)] = 7,
    sensors: Annotated[bool, typer.Option(help="Electrodes and cables on the face.")] = True,
    quick: Annotated[bool, typer.Option(help="Smaller pictures and a shorter performance.")] = False,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Run everything on a simulated participant: calibration, fit, live reconstruction, mapping and fusion; a
    bag and a page remain.
    """
    from ..pipeline import open_config
    from ..workflows.demo import DemoSettings, run_demo

    settings = DemoSettings(seed=seed, sensors=sensors)
    if quick:
        settings = DemoSettings(seed=seed, sensors=sensors, live_s=20.0, size=(320, 240), fps=15.0)
    with until_interrupted() as stop, stages(as_json) as progress:
        result = run_demo(out, settings, open_config(config), progress=progress, stop=stop)
    if as_json:
        print(json.dumps({"values": result.values, "notes": result.notes, "files": result.files}, indent=2))
        return
    show({}, False, "Demo: distance of the face from the truth, and how it was reached", result.table())
    for note in result.notes:
        out_console.print(f"note: {escape(note)}")
    for name, path in result.files.items():
        out_console.print(f"{name}: {escape(path)}")


def doctor(as_json: Json = False) -> None:
    """Tell what is installed, what an extra would add, which devices are there."""
    from ..doctor import examine

    report = examine()
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        marks = {
            "ok": "[green]ok[/]",
            "missing": "[yellow]not installed[/]",
            "none": "[dim]none[/]",
            "problem": "[red]problem[/]",
        }
        table = Table(show_header=True, header_style="bold", pad_edge=False)
        for column in ("what", "", "state", "detail"):
            table.add_column(column)
        group = ""
        for finding in report.findings:
            if group and finding.group != group:
                table.add_section()
            table.add_row(
                "" if finding.group == group else finding.group,
                finding.name,
                marks[finding.state],
                escape(finding.detail),
            )
            group = finding.group
        out_console.print(table)
        wrong = "[red]Something the base needs is wrong: see 'problem' above.[/]"
        out_console.print("All that the base needs is here." if report.healthy else wrong)
    if not report.healthy:
        raise typer.Exit(1)
