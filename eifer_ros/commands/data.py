"""import, export, sync, evaluate, batch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import Json, Out, bar, number, show, until_interrupted


def _options(pairs: list[str]) -> dict[str, Any]:
    """`name=value` options of a source as a dictionary. Raises ConfigError for anything else."""
    from ..errors import ConfigError

    found = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise ConfigError(f"--option {pair}: write name=value, as in rate_hz=1000")
        found[name.strip()] = tuple(part.strip() for part in value.split(",")) if "," in value else value.strip()
    return found


def import_(
    source: Annotated[Path, typer.Argument(help="A folder of MMM or MaM, or an EMG file: CSV, text, XDF, EDF, BDF.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="MMM: folder of recordings. EMG file: recording to write.")],
    session: Annotated[list[str] | None, typer.Option(help="MMM: sessions to take, such as 99_2S; all when not given.")] = None,
    method: Annotated[str, typer.Option(help="MMM: whose parameters become faces.")] = "MediaPipe",
    head_model: Annotated[str, typer.Option("--head-model", help="MMM: FLAME head of yours for methods in FLAME's space.")] = "",
    pictures: Annotated[str, typer.Option(help="MMM: none, electrodes, restored or both.")] = "none",
    video: Annotated[Path | None, typer.Option(help="EMG file: a video of the same session.")] = None,
    video_offset: Annotated[float, typer.Option(help="Seconds from the first sample to the first picture.")] = 0.0,
    option: Annotated[list[str] | None, typer.Option(help="EMG file: name=value of the file source, such as rate_hz=1000.")] = None,
    as_json: Json = False,
) -> None:
    """Bring recordings of others into rosbag2 recordings of eifer."""
    from ..jobs.imports import import_emg, import_mmm

    with bar("importing", as_json) as progress:
        if source.is_dir():
            result = import_mmm(
                source, out, sessions=tuple(session or ()), method=method, head_model=head_model, pictures=pictures, progress=progress
            )
        else:
            result = import_emg(source, out, video=video, video_offset_s=video_offset, progress=progress, **_options(option or []))
    rows = [*result.bags.items(), *((port, f"{count} items") for port, count in sorted(result.written.items()))]
    rows += [("note", text) for text in result.notes] + [(f"left out: {name}", why) for name, why in result.failures.items()]
    show(result.as_dict(), as_json, "Imported", rows)


def export(
    bag: Annotated[Path, typer.Argument(help="A recording: its folder or its .mcap file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; a folder for csv, parquet and bids.")],
    to: Annotated[str, typer.Option(help="csv, parquet, bids, eifer-rows, flame, gltf or livelink.")],
    topic: Annotated[str, typer.Option(help="Whose faces: face/fused, face/vision, ...; the best there are when not given.")] = "",
    head_model: Annotated[str, typer.Option("--head-model", help="File of a head model that is not in models/.")] = "",
    topics: Annotated[list[str] | None, typer.Option(help="csv, parquet: streams to write; all when not given.")] = None,
    subject: Annotated[str, typer.Option(help="bids: subject label.")] = "",
    session: Annotated[str, typer.Option(help="bids: session label.")] = "",
    task: Annotated[str, typer.Option(help="bids: task label.")] = "facial",
    as_json: Json = False,
) -> None:
    """Write a recording for other programs."""
    from ..jobs.exports import export as write

    result = write(
        bag, to, out, topic=topic, head_model=head_model, topics=tuple(topics or ()), subject=subject, session=session, task=task
    )
    show(result, as_json, f"Exported as {to}", [(key, str(value)) for key, value in result.items()])


def sync(
    bag: Annotated[Path, typer.Argument(help="A recording with camera and EMG.")],
    method: Annotated[str, typer.Option(help="auto, led, audio or consensus.")] = "auto",
    trigger: Annotated[str, typer.Option(help="led, audio: EMG channel that carries the trigger.")] = "",
    audio: Annotated[Path | None, typer.Option(help="audio: the .wav file.")] = None,
    faces: Annotated[str, typer.Option(help="consensus: auto, pictures, face/vision or truth/face.")] = "auto",
    write: Annotated[bool, typer.Option(help="Write sync.json beside the recording; samples are never changed.")] = True,
    as_json: Json = False,
) -> None:
    """Find offset and drift between camera and EMG, with a grade."""
    from ..jobs.sync import sync as find

    with bar("looking", as_json) as progress:
        result = asdict(find(bag, method=method, trigger=trigger, audio=audio, faces=faces, write=write, progress=progress))
    plain = {key: None if isinstance(value, float) and value != value else value for key, value in result.items()}
    show(plain, as_json, "Synchronisation", [(key, str(value)) for key, value in plain.items()])
    if not plain.get("grade"):
        raise typer.Exit(1)


def evaluate(
    area: Annotated[str, typer.Argument(help="mapping, face or emg.")],
    out: Out,
    protocol: Annotated[Path | None, typer.Option(help="Protocol file; simulated participants when not given.")] = None,
    bench: Annotated[bool, typer.Option(help="Run the benchmarks of the area as well (from a source tree).")] = False,
    full: Annotated[bool, typer.Option("--full", help="The benchmarks in full, not the quick ones.")] = False,
    as_json: Json = False,
) -> None:
    """Compare methods on pinned splits: one table, one figure per result, seeds and versions recorded."""
    from ..jobs.evaluate import evaluate as run

    with bar("evaluating", as_json) as progress:
        result = run(area, out, protocol, bench=bench, quick=not full, progress=progress)
    rows = [(" ".join(str(value) for key, value in row.items() if isinstance(value, str)),
             "  ".join(f"{key} {number(value, '', 3)}" for key, value in row.items() if isinstance(value, float))) for row in result.rows]
    rows += [("table", str(out / "table.csv")), ("figures", str(out / "figures"))] + [("note", note) for note in result.notes]
    show(result.as_dict(), as_json, f"Evaluation: {area}", rows)


def batch(
    config: Annotated[Path, typer.Argument(help="YAML: recordings, steps, settings, workers (see docs/batch.md).")],
    as_json: Json = False,
) -> None:
    """Run import, reconstruct, fit and evaluate over many recordings; go on where an earlier run stopped."""
    from ..jobs.batch import batch as run
    from ..jobs.batch import load_config

    with until_interrupted() as stop, bar("recordings", as_json) as progress:
        result = run(load_config(config), progress=progress, stop=stop)
    rows = [("results", str(result.out)), ("steps done now", str(result.did)), ("steps that were there", str(result.had)),
            ("workers that died", str(result.deaths)), *((f"failed: {name}", why) for name, why in result.failures.items())]
    values = {"out": str(result.out), "did": result.did, "had": result.had, "deaths": result.deaths, "failures": result.failures}
    show(values, as_json, f"Batch: {len(result.rows)} recordings", rows)
    if result.failures:
        raise typer.Exit(1)
