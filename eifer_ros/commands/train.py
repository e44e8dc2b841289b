"""train face, train refine: handed on to the recipes of the source tree, whose options they take."""

from __future__ import annotations

import typer

from ..source_tree import import_research

app = typer.Typer(
    no_args_is_help=True, help="Training on your own pictures (from the source tree, extra: train)."
)
HANDED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Every option, `--help` among them, is the recipe's own."""


@app.callback()
def _group() -> None:
    pass


@app.command("face", context_settings=HANDED_ON)
def train_face(context: typer.Context) -> None:
    """Adapt the reconstruction to one person: EIFER's phase 1, bare and covered pictures that need not belong
    together. Its options: eifer train face --help.
    """
    import_research("faces.train_face", "training").main(context.args, context.command_path)


@app.command("refine", context_settings=HANDED_ON)
def train_refine(context: typer.Context) -> None:
    """Refine the encoder on bare faces by landmarks and photometry, without labels; what comes of it is a
    --start for train face. Its options: eifer train refine --help.
    """
    import_research("faces.train_refine", "training").main(context.args, context.command_path)
