"""simulate, fit, calibrate, montage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..console import (
    CAMERA_HELP,
    ConfigFile,
    Json,
    Out,
    bar,
    err_console,
    out_console,
    show,
    until_interrupted,
)


def simulate(
    out: Out,
    minutes: Annotated[float, typer.Option(help="Length of the session.", min=0.01)] = 3.0,
    seed: Annotated[
        int | None, typer.Option(help="Who performs: face, skin, muscles, electrode placement.", min=0)
    ] = None,
    session: Annotated[
        int | None, typer.Option(help="Which session of that person: other timing, repeats and noise.", min=0)
    ] = None,
    sensors: Annotated[
        str | None, typer.Option(help="on: electrodes and cables on the face; off: bare.")
    ] = None,
    scheme: Annotated[str | None, typer.Option(help="fridlund, kuramoto, both, or a scheme file.")] = None,
    program: Annotated[
        str | None,
        typer.Option(
            help="session, calibration, emotions, conversation, free, rest, maximum, micro or micro_talking."
        ),
    ] = None,
    emg_mode: Annotated[
        str | None, typer.Option("--emg-mode", help="fast: shaped noise; units: every motor unit.")
    ] = None,
    lag: Annotated[
        float | None,
        typer.Option(help="How long the skin follows after the muscle, seconds.", min=0.03, max=0.15),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Pictures per second; micro-expressions want 100 or more.", min=1, max=1000),
    ] = None,
    size: Annotated[str | None, typer.Option(help="Width and height of the pictures, as in 640x480.")] = None,
    camera: Annotated[bool, typer.Option(help="Render pictures.")] = True,
    emg: Annotated[bool, typer.Option(help="Make sEMG.")] = True,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Record a simulated participant, camera and sEMG, with the truth beside it."""
    from ..errors import ConfigError
    from ..pipeline import open_config
    from ..simulation.performer import PerformerConfig
    from ..workflows.simulate import simulate_recording

    if sensors not in (None, "on", "off"):
        raise ConfigError(f"--sensors {sensors}: write on or off")
    width, height = _size(size)
    file = open_config(config)
    file.require(["performer"])
    participant = file.config(
        "performer",
        PerformerConfig,
        seed=seed,
        session=session,
        sensors=None if sensors is None else sensors == "on",
        scheme=scheme,
        program=program,
        emg_mode=emg_mode,
        lag_s=lag,
        fps=fps,
        width=width,
        height=height,
    )
    with until_interrupted() as stop, bar("simulating", as_json) as progress:
        result = simulate_recording(
            out, minutes, participant, camera=camera, emg=emg, progress=progress, stop=stop
        )
    rows = [(port, f"{count} items") for port, count in sorted(result["written"].items())]
    rows += [("bag", str(out)), ("size", f"{result['bytes'] / 1e6:.1f} MB")]
    show(result, as_json, f"Simulated participant {participant.seed}, session {participant.session}", rows)


def _size(text: str | None) -> tuple[int, int] | tuple[None, None]:
    """Width and height of `640x480`."""
    from ..errors import ConfigError

    if text is None:
        return None, None
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdigit() and height.isdigit()):
        raise ConfigError(f"--size {text}: write width x height, as in 640x480")
    return int(width), int(height)


def fit(
    session: Annotated[
        Path, typer.Argument(help="A recording of the movements: EMG with faces or pictures.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Mapping to write (.npz).")] = Path("mapping.npz"),
    model: Annotated[str, typer.Option(help="ridge, rff, mlp or tcn.")] = "rff",
    ahead: Annotated[
        float, typer.Option(help="Predict the face this many seconds ahead of the muscles.", min=0, max=0.1)
    ] = 0.0,
    calibration: Annotated[
        Path | None, typer.Option(help="Calibration file; else made from the movements in the recording.")
    ] = None,
    faces: Annotated[str, typer.Option(help="auto, pictures, face/vision or truth/face.")] = "auto",
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Fit muscles to face and face to muscles for one participant, from one recording."""
    from ..mapping.fit import FitSettings
    from ..pipeline import open_config
    from ..workflows.fit import fit_recording

    file = open_config(config)
    file.require(["emg", "reconstruction"])
    with bar("fitting", as_json) as progress:
        settings = FitSettings(kind=model, ahead_s=ahead)
        result = fit_recording(
            session, out, settings, calibration=calibration, faces=faces, config=file, progress=progress
        ).as_dict()
    lag = "unknown"
    if result["lag_s"] is not None:
        lag = f"{1e3 * result['lag_s']:.0f} ms (grade {result['lag_grade']}), clock drift {result['drift_ppm']:.0f} ppm"
    fitted_to = f"{result['seconds']:.0f} s, {result['muscles']} muscles ({result['scheme']}), faces from {result['faces_from']}"
    rows = [
        ("mapping", str(out)),
        ("fitted to", fitted_to),
        ("skin follows muscle by", lag),
        ("muscles to face", f"held-out r {result['emg2exp']['r']:.2f}, R2 {result['emg2exp']['r2']:.2f}"),
        ("face to muscles", f"held-out r {result['exp2emg']['r']:.2f}, R2 {result['exp2emg']['r2']:.2f}"),
        *[("warning", warning) for warning in result["warnings"]],
    ]
    show(result | {"mapping": str(out)}, as_json, "Mapping", rows)


def calibrate(
    source: Annotated[
        str,
        typer.Argument(help="A recording with markers, or a live amplifier: lsl:NAME, brainflow:BOARD, ..."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Recording: file to write. Live: folder for recording and calibration.yaml."
        ),
    ],
    camera: Annotated[
        str | None, typer.Option(help=f"Record pictures as well, to fit a mapping to: {CAMERA_HELP}")
    ] = None,
    participant: Annotated[str, typer.Option(help="Name or code of the participant, kept in the file.")] = "",
    repetitions: Annotated[int, typer.Option(help="How often each movement is made.", min=1, max=10)] = 1,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Find rest level and full scale of every channel, guided through eleven movements or from a recording of
    them.
    """
    from ..pipeline import open_config
    from ..workflows.calibrate import calibrate_live, calibrate_recording

    file = open_config(config)
    file.require(["emg", "emg_source", "camera"])
    if Path(source).expanduser().exists():
        with bar("reading", as_json) as progress:
            calibration = calibrate_recording(Path(source).expanduser(), out, file, progress)
            path = out
    else:
        with until_interrupted() as stop, _prompts(as_json) as show:
            calibration, path = calibrate_live(
                source,
                out,
                show,
                camera=camera,
                config=file,
                participant=participant,
                repetitions=repetitions,
                stop=stop,
            )
    channels = [
        {
            "channel": muscle,
            "rest_uv": 1e6 * rest,
            "p99_uv": 1e6 * p99,
            "state": "dead"
            if muscle in calibration.dead
            else "weak"
            if muscle in calibration.weak
            else "good",
        }
        for muscle, rest, p99 in zip(
            calibration.muscles, calibration.rest.tolist(), calibration.p99.tolist(), strict=True
        )
    ]
    if as_json:
        print(json.dumps({"calibration": str(path), "channels": channels}, indent=2).replace("NaN", "null"))
        return
    table = Table(title=f"Calibration: {path}", title_justify="left", pad_edge=False)
    for column in ("channel", "rest µV", "full scale µV", "state"):
        table.add_column(column, justify="right" if "µV" in column else "left")
    for row in channels:
        table.add_row(str(row["channel"]), f"{row['rest_uv']:.1f}", f"{row['p99_uv']:.1f}", str(row["state"]))
    out_console.print(table)
    for take in calibration.takes:
        if not take.accepted:
            out_console.print(f"left out: {take.movement}: {escape(take.advice)}")


@contextmanager
def _prompts(quiet: bool) -> Iterator[Callable[[Any], None]]:
    """A panel on standard error that shows what the participant should do now."""
    if quiet:
        yield lambda prompt: None
        return
    with Live(console=err_console, refresh_per_second=12) as live:

        def show(prompt: Any) -> None:
            style = {"perform": "bold green", "repeat": "bold yellow", "failed": "bold red"}.get(
                prompt.phase, "bold"
            )
            bar = ProgressBar(total=1.0, completed=prompt.progress, width=40)
            lines: list[Any] = [
                Text(prompt.text, style=style),
                Text(f"{prompt.movement}   {prompt.remaining_s:3.1f} s", style="dim"),
                bar,
            ]
            if prompt.advice:
                lines.insert(1, Text(prompt.advice, style="yellow"))
            live.update(Panel(Group(*lines), title=prompt.phase, width=80))

        yield show


def montage(
    scheme: Annotated[str, typer.Argument(help="fridlund, kuramoto, or a scheme file (YAML).")] = "fridlund",
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write.")] = Path("montage.png"),
    head_model: Annotated[str, typer.Option("--head-model", help="Head model to draw on.")] = "open_head",
) -> None:
    """Draw an electrode scheme on the head: both contacts of each channel, its name, its muscle."""
    from ..emg.montage import load_scheme
    from ..emg.picture import save_scheme_picture
    from ..head.model import load_head

    save_scheme_picture(load_scheme(scheme), load_head(head_model), out)
    out_console.print(f"picture: {escape(str(out))}")
