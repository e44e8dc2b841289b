"""drive."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from ..console import (
    AVATAR_HELP,
    CAMERA_HELP,
    EMG_HELP,
    Animatronic,
    Arm,
    CalibrationFile,
    ConfigFile,
    HeadModel,
    Json,
    Loop,
    MappingFile,
    bar,
    show,
    until_interrupted,
    warn_disarmed,
)


def drive(
    source: Annotated[str, typer.Argument(help=f"A recording with faces, or a camera: {CAMERA_HELP}")],
    avatar: Annotated[list[str] | None, typer.Option(help=AVATAR_HELP)] = None,
    animatronic: Animatronic = None,
    arm: Arm = False,
    emg: Annotated[str | None, typer.Option(help=f"Beside a camera: {EMG_HELP}")] = None,
    mapping: MappingFile = None,
    calibration: CalibrationFile = None,
    head_model: HeadModel = None,
    speed: Annotated[float, typer.Option(help="Speed of a recording.", min=0.01)] = 1.0,
    loop: Loop = False,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Drive avatars and animatronic faces from a recording or live."""
    from ..pipeline import Request
    from ..workflows.drive import drive as run_drive

    request = Request(
        emg=emg,
        mapping=mapping,
        calibration=calibration,
        head_model=head_model,
        avatars=tuple(avatar or ()),
        animatronic=animatronic,
        armed=arm,
    )
    warn_disarmed(animatronic, arm, as_json)
    with until_interrupted() as stop, bar("driving", as_json) as progress:
        result = run_drive(source, request, config, speed=speed, loop=loop, progress=progress, stop=stop)
    values = {
        "faces": result.faces,
        "commands": result.commands,
        "seconds": result.seconds,
        "states": result.states,
        "notes": result.notes,
    }
    rows = [
        ("faces", str(result.faces)),
        ("joint commands", str(result.commands)),
        *((name, escape(state)) for name, state in result.states.items()),
        *(("note", note) for note in result.notes),
    ]
    show(values, as_json, f"Drove for {result.seconds:.1f} s", rows)
