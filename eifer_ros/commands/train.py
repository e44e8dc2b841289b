"""train face, train refine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .console import Json, bar, show, until_interrupted

app = typer.Typer(no_args_is_help=True, help="Training on your own pictures (extra: train).")
WHERE = "a bag, a folder of videos or pictures, an MMM folder, or performer:SEED"


@app.callback()
def _group() -> None:
    pass


@app.command("face")
def train_face(
    reference: Annotated[str, typer.Option(help=f"Pictures of the bare face: {WHERE}.")],
    sensors: Annotated[
        str, typer.Option(help="Pictures of the same person under sensors, of any other moments: as above.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder of the run; a run that was stopped goes on from there."),
    ],
    start: Annotated[
        Path | None,
        typer.Option(help="Encoder to start from: .pt, .onnx or SMIRK's checkpoint; else the shipped."),
    ] = None,
    head_model: Annotated[
        str, typer.Option("--head-model", help="Head model by name, or an .npz (FLAME for SMIRK).")
    ] = "open_head",
    steps: Annotated[int, typer.Option(help="Length of the run.", min=1)] = 20_000,
    batch: Annotated[int, typer.Option(help="Pictures of each side a step, in each process.", min=1)] = 8,
    size: Annotated[int, typer.Option(help="Side of the pictures: 128 on a CPU, 224 as in the paper.")] = 128,
    networks: Annotated[str, typer.Option(help="live (small) or full (SMIRK's size).")] = "live",
    loss: Annotated[
        list[str] | None,
        typer.Option(help="Weight of a loss, name=number; 0 is off. Several times for several."),
    ] = None,
    encoder_rate: Annotated[
        float, typer.Option(help="Learning rate of the encoders over that of the generators.", min=0.0)
    ] = 0.1,
    frames: Annotated[int, typer.Option(help="About how many pictures of each side to use.", min=1)] = 2000,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:0.")] = "auto",
    amp: Annotated[
        bool | None,
        typer.Option("--amp/--no-amp", help="bfloat16 in the networks; by default on a GPU that has it."),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of the CPU; 0 for torch's own choice.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0)] = 0,
    pictures_every: Annotated[
        int, typer.Option("--pictures-every", help="Steps between two sheets of held-out pictures.", min=1)
    ] = 500,
    check_reference: Annotated[
        bool,
        typer.Option("--check-reference/--no-check-reference", help="Refuse references that carry sensors."),
    ] = True,
    tensorboard: Annotated[
        bool, typer.Option(help="Write curves and pictures for TensorBoard (extra: tensorboard).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Adapt the reconstruction to one person: EIFER's phase 1, bare and covered pictures that need not belong
    together.
    """
    from ..errors import ConfigError, MissingExtra

    try:
        from research.faces.face_runs import TrainingRequest
        from research.faces.face_runs import train_face as train
        from research.faces.losses import Weights
        from research.faces.phase_one import Settings
    except ModuleNotFoundError:
        raise MissingExtra("torch", "train", "training") from None
    if networks not in ("live", "full"):
        raise ConfigError(f"--networks {networks}: write live or full")
    settings = Settings(
        steps=steps,
        batch=batch,
        size=size,
        networks="full" if networks == "full" else "live",
        weights=Weights.of(loss or ()),
        seed=seed,
        encoder_rate=encoder_rate,
        pictures_every=pictures_every,
    )
    request = TrainingRequest(
        reference, sensors, out, start, head_model, frames, check_reference, device, tensorboard, threads
    )
    quiet = as_json or int(os.environ.get("RANK", 0)) > 0
    with until_interrupted() as stop, bar("phase 1", quiet) as progress:
        result = train(request, settings, amp=amp, stop=stop.is_set, progress=progress)
    if int(os.environ.get("RANK", 0)) > 0:
        return
    sides = result["pictures"]
    rows = [
        (
            "steps",
            f"{result['steps']} of {steps}"
            + ("" if result["complete"] else "; the same command goes on from here"),
        ),
        ("pictures", f"{sides['reference']} bare, {sides['sensors']} under sensors"),
        *[
            (f"skipped ({name})", ", ".join(f"{count} {reason}" for reason, count in counts.items()))
            for name, counts in result["skipped"].items()
            if counts
        ],
        *[("left out", f"{person}: seen on one side only") for person in result["left_out"]],
        ("time", f"{result['seconds']:.0f} s on {result['device']}, {result['processes']} process(es)"),
        *[(name.replace("_", " "), path) for name, path in result["files"].items()],
    ]
    show(result, as_json, "Phase 1", rows)


@app.command("refine")
def train_refine(
    reference: Annotated[str, typer.Option(help=f"Pictures of bare faces: {WHERE}.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder of the run; a run that was stopped goes on from there."),
    ],
    start: Annotated[
        Path | None, typer.Option(help="Encoder to start from: .pt or .onnx; else the shipped one.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Length of the run.", min=1)] = 4000,
    batch: Annotated[int, typer.Option(help="Pictures a step.", min=1)] = 8,
    frames: Annotated[int, typer.Option(help="About how many pictures to use.", min=1)] = 2000,
    threads: Annotated[int, typer.Option(help="Threads of the CPU; 0 for torch's own choice.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0)] = 0,
    check_reference: Annotated[
        bool,
        typer.Option("--check-reference/--no-check-reference", help="Refuse pictures that carry sensors."),
    ] = True,
    as_json: Json = False,
) -> None:
    """Refine the encoder on bare faces by landmarks and photometry, without labels; what comes of it is a
    --start for train face.
    """
    from ..errors import MissingExtra

    try:
        from research.faces.face_runs import TrainingRequest, refine_face
        from research.faces.refine import Refinement
    except ModuleNotFoundError:
        raise MissingExtra("torch", "train", "training") from None
    request = TrainingRequest(
        reference, "", out, start, frames=frames, check_reference=check_reference, threads=threads
    )
    settings = Refinement(steps=steps, batch=batch, seed=seed)
    with until_interrupted() as stop, bar("refining", as_json) as progress:
        result = refine_face(request, settings, stop=stop.is_set, progress=progress)
    rows = [
        (
            "steps",
            f"{result['steps']} of {steps}"
            + ("" if result["complete"] else "; the same command goes on from here"),
        ),
        ("pictures", str(result["pictures"])),
        ("time", f"{result['seconds']:.0f} s"),
        ("encoder", result["encoder"]),
    ]
    show(result, as_json, "Refinement", rows)
