"""import, export, sync, evaluate, batch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import Json, Out, bar, number, show, until_interrupted


def _options(pairs: list[str]) -> dict[str, Any]:
    """`name=value` options of a source as a dictionary. Raises ConfigError for anything else."""
    from ..errors import ConfigError

    options = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise ConfigError(f"--option {pair}: write name=value, as in rate_hz=1000")
        options[name.strip()] = (
            tuple(part.strip() for part in value.split(",")) if "," in value else value.strip()
        )
    return options


MICRO = ("casme2", "samm", "casme3")
"""Collections of micro-expressions."""
KINDS = {
    **dict.fromkeys(("mmm", "mam", *MICRO), ""),
    "csv": "text",
    "text": "text",
    "txt": "text",
    "xdf": "xdf",
    "edf": "edf",
    "bdf": "edf",
}
"""What can be named before the source, and the format that it means."""


def _named(words: list[str]) -> tuple[str, Path]:
    """(kind or empty, source) of `eifer import [KIND] SOURCE`.

    Raises InputError for a kind that is not known.
    """
    from ..errors import InputError, did_you_mean

    first, *more = words
    kind = first.lower()
    if not more:
        if kind in KINDS and not Path(first).exists():
            raise InputError(f"import {first}: of which folder or file? As in: eifer import {first} PATH")
        return "", Path(first)
    if len(more) > 1:
        raise InputError(f"import {' '.join(words)}: one folder or file at a time (many: eifer batch)")
    second = more[0]
    if kind not in KINDS:
        raise InputError(
            f"import '{first}'?{did_you_mean(kind, KINDS)} What can be imported: {', '.join(KINDS)}"
        )
    return kind, Path(second)


def import_(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="[KIND] SOURCE",
            show_default=False,
            help="Data set (folder) or EMG file. KIND where the name does not tell: mmm, mam, casme2, samm, casme3, csv, xdf, edf, bdf.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="EMG file: recording to write (default: its name). Else: folder of recordings (NAME_recordings).",
        ),
    ] = None,
    session: Annotated[
        list[str] | None, typer.Option(help="MMM: sessions to take, such as 99_2S; all when not given.")
    ] = None,
    method: Annotated[str, typer.Option(help="MMM: whose parameters become faces.")] = "MediaPipe",
    head_model: Annotated[
        str, typer.Option("--head-model", help="MMM: FLAME head of yours for methods in FLAME's space.")
    ] = "",
    pictures: Annotated[str, typer.Option(help="MMM: none, electrodes, restored or both.")] = "none",
    video: Annotated[Path | None, typer.Option(help="EMG file: a video of the same session.")] = None,
    video_offset: Annotated[
        float, typer.Option(help="Seconds from the first sample to the first picture.")
    ] = 0.0,
    subject: Annotated[
        list[str] | None, typer.Option(help="CASME II, SAMM, CAS(ME)3: subjects to take; all when not given.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="The same: label table (.xlsx, .csv); looked for when not given.")
    ] = None,
    frames: Annotated[
        Path | None, typer.Option(help="The same: folder of the frames, where there are several sets.")
    ] = None,
    fps: Annotated[
        float, typer.Option(help="The same: frames per second where they were resampled.", min=0)
    ] = 0.0,
    option: Annotated[
        list[str] | None, typer.Option(help="EMG file: name=value of the file source, such as rate_hz=1000.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring recordings of others into rosbag2 recordings of eifer."""
    from ..workflows.imports import import_emg, import_mmm
    from ..workflows.micro_imports import import_micro

    kind, path = _named(source)
    dataset = kind in ("mmm", "mam", *MICRO) if kind else path.is_dir()
    target = out or Path(f"{path.resolve().name}_recordings" if dataset else path.stem)
    with bar("importing", as_json) as progress:
        if kind in MICRO:
            result = import_micro(
                kind,
                path,
                target,
                subjects=tuple(subject or ()),
                table=table,
                frames=frames,
                rate_hz=fps,
                progress=progress,
            )
        elif dataset:
            result = import_mmm(
                path,
                target,
                sessions=tuple(session or ()),
                method=method,
                head_model=head_model,
                pictures=pictures,
                progress=progress,
            )
        else:
            options = ({"format": KINDS[kind]} if kind else {}) | _options(option or [])
            result = import_emg(
                path, target, video=video, video_offset_s=video_offset, progress=progress, **options
            )
    rows = [
        *result.bags.items(),
        *((port, f"{count} items") for port, count in sorted(result.written.items())),
    ]
    rows += [("note", text) for text in result.notes] + [
        (f"left out: {name}", why) for name, why in result.failures.items()
    ]
    show(result.as_dict(), as_json, "Imported", rows)


def export(
    bag: Annotated[Path, typer.Argument(help="A recording: its folder or its .mcap file.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write; a folder for csv, parquet and bids.")
    ],
    to: Annotated[str, typer.Option(help="csv, parquet, bids, eifer-rows, flame, gltf or livelink.")],
    topic: Annotated[
        str,
        typer.Option(help="Whose faces: face/fused, face/vision, ...; the best there are when not given."),
    ] = "",
    head_model: Annotated[
        str, typer.Option("--head-model", help="File of a head model that is not in models/.")
    ] = "",
    topics: Annotated[
        list[str] | None, typer.Option(help="csv, parquet: streams to write; all when not given.")
    ] = None,
    subject: Annotated[str, typer.Option(help="bids: subject label.")] = "",
    session: Annotated[str, typer.Option(help="bids: session label.")] = "",
    task: Annotated[str, typer.Option(help="bids: task label.")] = "facial",
    mains_hz: Annotated[
        float, typer.Option(help="bids: mains frequency where it was recorded, 50 or 60.", min=0)
    ] = 50.0,
    pose: Annotated[bool, typer.Option(help="gltf: the head's own movement as well.")] = True,
    pictures: Annotated[bool, typer.Option(help="bids: the camera's pictures as a video.")] = True,
    as_json: Json = False,
) -> None:
    """Write a recording for other programs."""
    from ..workflows.exports import export as write

    result = write(
        bag,
        to,
        out,
        topic=topic,
        head_model=head_model,
        topics=tuple(topics or ()),
        subject=subject,
        session=session,
        task=task,
        mains_hz=mains_hz,
        pose=pose,
        pictures=pictures,
    )
    show(result, as_json, f"Exported as {to}", [(key, str(value)) for key, value in result.items()])


def _region(text: str) -> tuple[int, int, int, int] | None:
    """x,y,width,height as numbers. Raises InputError for anything else."""
    from ..errors import InputError

    if not text:
        return None
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--region {text}: write x,y,width,height in pixels, as in 284,4,32,32") from None
    if min(x, y) < 0 or min(width, height) < 1:
        raise InputError(f"--region {text}: x and y count from 0, width and height are at least 1")
    return x, y, width, height


def sync(
    bag: Annotated[Path, typer.Argument(help="A recording with camera and EMG.")],
    method: Annotated[str, typer.Option(help="auto, led, audio or consensus.")] = "auto",
    trigger: Annotated[str, typer.Option(help="led, audio: EMG channel that carries the trigger.")] = "",
    region: Annotated[
        str,
        typer.Option(help="led: the lamp's place in the picture, x,y,width,height in pixels; else found."),
    ] = "",
    audio: Annotated[Path | None, typer.Option(help="audio: the .wav file.")] = None,
    audio_offset: Annotated[
        float, typer.Option(help="audio: seconds from the first picture to the first sample of the file.")
    ] = 0.0,
    skin_lag: Annotated[
        float, typer.Option(help="consensus: seconds by which the skin follows the muscle.", min=0, max=0.5)
    ] = 0.07,
    faces: Annotated[
        str, typer.Option(help="consensus: auto, pictures, face/vision or truth/face.")
    ] = "auto",
    write: Annotated[
        bool, typer.Option(help="Write sync.json beside the recording; samples are never changed.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Find offset and drift between camera and EMG, with a grade."""
    from ..workflows.sync import sync as find

    with bar("looking", as_json) as progress:
        result = asdict(
            find(
                bag,
                method=method,
                trigger=trigger,
                region=_region(region),
                audio=audio,
                audio_offset_s=audio_offset,
                skin_lag_s=skin_lag,
                faces=faces,
                write=write,
                progress=progress,
            )
        )
    plain = {
        key: None if isinstance(value, float) and value != value else value for key, value in result.items()
    }
    show(plain, as_json, "Synchronisation", [(key, str(value)) for key, value in plain.items()])
    if not plain.get("grade"):
        raise typer.Exit(1)


def evaluate(
    area: Annotated[str, typer.Argument(help="mapping, face, emg or all.")],
    out: Out,
    protocol: Annotated[
        Path | None, typer.Option(help="Protocol file; simulated participants when not given.")
    ] = None,
    bench: Annotated[
        bool, typer.Option(help="The benchmarks of the area too (source tree only); with all, every one.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="The benchmarks in full, not the quick ones.")] = False,
    as_json: Json = False,
) -> None:
    """Compare methods on pinned splits: one table, one figure per result, seeds and versions recorded."""
    from ..workflows.evaluate import evaluate as run
    from ..workflows.evaluate import evaluate_all

    if area == "all":
        if protocol is not None:
            raise typer.BadParameter(
                "a protocol belongs to one area: mapping, face or emg", param_hint="--protocol"
            )
        with bar("evaluating", as_json) as progress:
            every = evaluate_all(out, bench=bench, quick=not full, progress=progress)
        listed = (
            [(name, str(out / name / "table.md")) for name in every.areas]
            + [
                (
                    str(row["figure"]),
                    f"{number(row['value'], row['unit'], 3) if isinstance(row['value'], float) else row['value']}",
                )
                for row in every.bench
            ]
            + [(f"failed: {name}", why) for name, why in every.failures.items()]
        )
        show(every.as_dict(), as_json, "Evaluation: everything", listed)
        if every.failures:
            raise typer.Exit(1)
        return
    with bar("evaluating", as_json) as progress:
        result = run(area, out, protocol, bench=bench, quick=not full, progress=progress)
    rows = [
        (
            " ".join(str(value) for key, value in row.items() if isinstance(value, str)),
            "  ".join(
                f"{key} {number(value, '', 3)}" for key, value in row.items() if isinstance(value, float)
            ),
        )
        for row in result.rows
    ]
    rows += [("table", str(out / "table.csv")), ("figures", str(out / "figures"))] + [
        ("note", note) for note in result.notes
    ]
    show(result.as_dict(), as_json, f"Evaluation: {area}", rows)


def batch(
    config: Annotated[
        Path, typer.Argument(help="YAML: recordings, steps, settings, workers (see docs/batch.md).")
    ],
    workers: Annotated[
        int | None,
        typer.Option(help="Processes here, in place of what the file says; 0 works in this one.", min=0),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Scheduler of a Dask cluster, tcp://host:8786, in place of the file's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run import, reconstruct, fit and evaluate over many recordings; go on where an earlier run stopped."""
    from ..workflows.batch import batch as run
    from ..workflows.batch import load_config

    with until_interrupted() as stop, bar("recordings", as_json) as progress:
        options = {"workers": workers, "address": address}
        settings = load_config(config).model_copy(
            update={name: value for name, value in options.items() if value is not None}
        )
        result = run(settings, progress=progress, stop=stop)
    rows = [
        ("results", str(result.out)),
        ("steps done now", str(result.did)),
        ("steps that were there", str(result.had)),
        ("workers that died", str(result.deaths)),
        *((f"failed: {name}", why) for name, why in result.failures.items()),
    ]
    values = {
        "out": str(result.out),
        "did": result.did,
        "had": result.had,
        "deaths": result.deaths,
        "failures": result.failures,
    }
    show(values, as_json, f"Batch: {len(result.rows)} recordings", rows)
    if result.failures:
        raise typer.Exit(1)
