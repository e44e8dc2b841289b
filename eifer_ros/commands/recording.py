"""run, record, replay, info, recover."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from .. import topics
from ..console import (
    AVATAR_HELP,
    CAMERA_HELP,
    EMG_HELP,
    Animatronic,
    Arm,
    CalibrationFile,
    ConfigFile,
    Duration,
    HeadModel,
    Json,
    MappingFile,
    Micro,
    Out,
    bar,
    err_console,
    number,
    out_console,
    show,
    until_interrupted,
    warn_disarmed,
)

if TYPE_CHECKING:
    from ..workflows.run import RunSummary


def run(
    camera: Annotated[str | None, typer.Option(help=CAMERA_HELP)] = None,
    emg: Annotated[str | None, typer.Option(help=EMG_HELP)] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for a bag, an overlay video and a summary; new or empty."),
    ] = None,
    record: Annotated[Path | None, typer.Option("--record", help="Record into this bag.")] = None,
    mapping: MappingFile = None,
    calibration: CalibrationFile = None,
    avatar: Annotated[list[str] | None, typer.Option(help=AVATAR_HELP)] = None,
    animatronic: Animatronic = None,
    arm: Arm = False,
    config: ConfigFile = None,
    head_model: HeadModel = None,
    overlay: Annotated[
        bool, typer.Option(help="Write a video with the head over the face, with --out.")
    ] = True,
    duration: Duration = None,
    view: Annotated[
        bool, typer.Option("--view", help="Serve the live page in a browser while it runs.")
    ] = False,
    micro: Micro = None,
    as_json: Json = False,
) -> None:
    """Reconstruct a face, map muscles and face onto each other, and send it on: any subset, in one process."""
    from ..pipeline import Request
    from ..workflows.run import run as run_graph

    request = Request(
        camera=camera,
        emg=emg,
        mapping=mapping,
        calibration=calibration,
        head_model=head_model,
        micro=micro,
        avatars=tuple(avatar or ()),
        animatronic=animatronic,
        armed=arm,
    )
    warn_disarmed(animatronic, arm, as_json)
    with until_interrupted() as stop, bar("running", as_json) as progress:
        summary = run_graph(
            request,
            out,
            config,
            record=record,
            overlay=overlay,
            duration_s=duration,
            progress=progress,
            stop=stop,
            view=(lambda url: err_console.print(f"open {escape(url)}")) if view else None,
        )
    _show_run(summary, as_json)


def _estimator_summary(faces: dict[str, int]) -> str:
    return f" ({', '.join(f'{count} faces by {name}' for name, count in faces.items())})" if faces else ""


def _show_run(summary: RunSummary, as_json: bool) -> None:
    faces = {name: summary.items[name] for name in topics.faces() if name in summary.items}
    pictures = [
        ("camera", summary.camera),
        (
            "estimator",
            f"{summary.estimator}{_estimator_summary(summary.estimator_used)}, head model {summary.head_model}",
        ),
        (
            "frames",
            f"{summary.frames}, {summary.tracked} tracked, {summary.lost} without a face, {summary.dropped} dropped",
        ),
        ("landmark residual", number(summary.residual_pct_iod, "% of the inter-ocular distance", 2)),
        ("speed", number(summary.fps, "frames/s")),
        (
            "frame to FaceState",
            f"median {number(summary.frame_to_face_p50_ms, 'ms')}, p99 {number(summary.frame_to_face_p99_ms, 'ms')}",
        ),
    ]
    muscles = [
        ("EMG", f"{summary.emg}, {summary.emg_lost} samples lost"),
        ("faces", ", ".join(f"{count} {topics.TOPICS[name].label}" for name, count in faces.items())),
    ]
    rows = [
        *(pictures if summary.head_model else []),
        *(muscles if summary.emg_lost is not None else []),
        *([("micro-expressions", str(summary.events))] if summary.events is not None else []),
        *summary.outputs.items(),
        *((name, path) for name, path in summary.files.items()),
        *(("note", note) for note in summary.notes),
    ]
    show(summary.as_dict(), as_json, f"Ran for {summary.duration_s:.1f} s", rows)
    if summary.frames and summary.head_model and not summary.tracked:
        raise typer.Exit(2)


def record(
    out: Out,
    camera: Annotated[str | None, typer.Option(help=CAMERA_HELP)] = None,
    emg: Annotated[str | None, typer.Option(help=EMG_HELP)] = None,
    duration: Duration = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Record camera and sEMG as they come, without working on them, into a rosbag2 recording."""
    from ..workflows.record import record as write

    with until_interrupted() as stop, bar("recording", as_json) as progress:
        result = write(camera, emg, out, config, duration_s=duration, progress=progress, stop=stop)
    show(result, as_json, "Recording", [(key, str(value)) for key, value in result.items()])


def replay(
    bag: Annotated[Path, typer.Argument(help="A recording: its folder or its .mcap file.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Work on the pictures again and write the result here.")
    ] = None,
    speed: Annotated[
        float, typer.Option(help="1 real time, 2 twice as fast, 0 as fast as possible.", min=0)
    ] = 1.0,
    loop: Annotated[bool, typer.Option(help="Start again at the end.")] = False,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Play a recording by its stamps.

    With --out, reconstruct its pictures again: same recording, same result.
    """
    from ..pipeline import Request
    from ..workflows.run import run as run_graph

    if out is not None:
        with until_interrupted() as stop, bar("replaying", as_json) as progress:
            summary = run_graph(Request(camera=f"bag:{bag}"), out, config, progress=progress, stop=stop)
        _show_run(summary, as_json)
        return
    from ..workflows.record import play

    with until_interrupted() as stop, bar("playing", as_json) as progress:
        counts = play(bag, speed=speed, loop=loop, progress=progress, stop=stop)
    show(
        counts, as_json, f"Played {bag}", [(port, f"{count} items") for port, count in sorted(counts.items())]
    )


def info(
    bag: Annotated[Path, typer.Argument(help="A recording: its folder or its .mcap file.")],
    as_json: Json = False,
) -> None:
    """What a recording holds: topics, rates, gaps, lost samples."""
    from ..recording.info import info as examine

    result = examine(bag)
    if as_json:
        print(json.dumps(result.as_dict(), indent=2))
        return
    table = Table(
        title=f"{result.path}: {result.duration_s:.1f} s, {result.bytes / 1e6:.1f} MB",
        title_justify="left",
        pad_edge=False,
    )
    for column in ("topic", "type", "messages", "rate", "gaps"):
        table.add_column(column, justify="right" if column in ("messages", "rate") else "left")
    for topic in result.topics:
        rate = number(topic.rate_hz, "Hz")
        gaps = f"{topic.gaps}, longest {topic.longest_gap_s:.2f} s" if topic.gaps else "none"
        table.add_row(topic.topic, topic.type_name, str(topic.count), rate if rate != "unknown" else "", gaps)
    out_console.print(table)
    for emg in result.emg:
        loss = (
            f"{emg.lost + emg.not_recorded} samples lost" if emg.lost + emg.not_recorded else "no sample lost"
        )
        out_console.print(
            f"{emg.topic}: {len(emg.channels)} channels, {emg.samples} samples at {emg.measured_hz:.2f} Hz, {loss}"
        )
    if result.session:
        out_console.print(
            "session: "
            + ", ".join(f"{key} {value}" for key, value in result.session.items() if value not in ("", None))
        )


def recover(
    bag: Annotated[Path, typer.Argument(help="A recording that was cut off: its folder or its .mcap file.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Recording to write; default <name>_recovered beside it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Save what is readable of a recording that was cut off mid-write. The original is not touched."""
    from ..recording.recover import recover as salvage

    with bar("recovering", as_json):
        result = salvage(bag, out)
    if as_json:
        print(
            json.dumps(
                {
                    "out": str(result.out),
                    "messages": result.messages,
                    "seconds": result.duration_s,
                    "counts": result.counts,
                    "bytes_used": result.bytes_used,
                    "bytes_total": result.bytes_total,
                    "damaged_chunks": result.damaged,
                },
                indent=2,
            )
        )
    else:
        out_console.print(str(result))
