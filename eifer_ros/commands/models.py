"""models import-smirk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ..console import out_console
from ..source_tree import import_research

app = typer.Typer(no_args_is_help=True, help="Networks from outside.")


@app.callback()
def _group() -> None:
    pass


@app.command("import-smirk")
def models_import_smirk(
    checkpoint: Annotated[
        Path, typer.Argument(help="SMIRK's checkpoint (SMIRK_em1.pt), which you have from its authors.")
    ],
    head_model: Annotated[
        str, typer.Option("--head-model", help="The imported FLAME head its coefficients belong to.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Network to write.")] = Path("smirk.onnx"),
) -> None:
    """Turn SMIRK's published encoder into an ONNX network for a FLAME head of your own.

    No code in the file is run.
    """
    from ..errors import InputError
    from ..head.model import load_head

    if out.exists():
        raise InputError(f"{out}: exists; a network is never overwritten, give another --out")
    head = load_head(head_model)
    recipe = import_research("faces.smirk_encoder", "reading a checkpoint")
    encoder = recipe.load_checkpoint(checkpoint)
    recipe.export(encoder, out, head, {"checkpoint": checkpoint.name})
    words = f"{encoder.n_shape} shape and {encoder.n_expression} expression coefficients, eyelids, jaw, head rotation, camera"
    out_console.print(f"{escape(str(out))}: {words} for head model '{escape(head.id)}'")
