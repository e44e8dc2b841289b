"""drive."""

from __future__ import annotations

from typing import Annotated

import typer

from ..registry import AVATARS
from .console import CAMERA_HELP, Json, bar, err_console, show, until_interrupted

AVATAR_HELP = f"{AVATARS.usage()}; may be given more than once"


def drive(
    source: Annotated[str, typer.Argument(help=f"A recording with faces, or a camera: {CAMERA_HELP}")],
    avatar: Annotated[list[str] | None, typer.Option(help=AVATAR_HELP)] = None,
    animatronic: Annotated[str | None, typer.Option(help="Joint map (YAML) of an animatronic face.")] = None,
    arm: Annotated[
        bool, typer.Option("--arm", help="Let the animatronic face move. Without this nothing is sent to it.")
    ] = False,
    speed: Annotated[float, typer.Option(help="Speed of a recording.", min=0.01)] = 1.0,
    loop: Annotated[bool, typer.Option(help="Start a recording again at its end.")] = False,
    as_json: Json = False,
) -> None:
    """Drive avatars and animatronic faces from a recording or live."""
    from ..workflows.drive import drive as run_drive

    if animatronic is not None and not arm and not as_json:
        err_console.print(
            "the animatronic face is disarmed: nothing is sent to it; add --arm when it may move"
        )
    with until_interrupted() as stop, bar("driving", as_json) as progress:
        result = run_drive(
            source,
            avatars=tuple(avatar or ()),
            animatronic=animatronic,
            arm=arm,
            speed=speed,
            loop=loop,
            progress=progress,
            stop=stop,
        )
    values = {
        "faces": result.faces,
        "commands": result.commands,
        "seconds": result.seconds,
        "states": result.states,
    }
    rows = [("faces", str(result.faces)), ("joint commands", str(result.commands)), *result.states.items()]
    show(values, as_json, f"Drove for {result.seconds:.1f} s", rows)
