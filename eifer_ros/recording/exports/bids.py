"""A recording as BIDS: EMG as BDF+ with its sidecars (BIDS `electromyography`), the pictures as a video
beside it.

    OUT/dataset_description.json participants.tsv README
    OUT/sub-P07/[ses-1/]emg/sub-P07_ses-1_task-facial_emg.bdf  _emg.json  _channels.tsv  _events.tsv
    OUT/sub-P07/[ses-1/]emg/sub-P07_ses-1_electrodes.tsv  _coordsystem.json           (of all tasks of the
    session) OUT/sub-P07/[ses-1/]beh/sub-P07_ses-1_task-facial_video.mp4  _video.json          (not yet part
    of BIDS: named in .bidsignore)

BDF holds 24 bits over each channel's own range, so the resolution is range / 2^24. Samples that were lost are
0 there and marked `BAD_gap` in the events. BDF ends with a whole record: `RecordingDuration` says how much of
it is signal. It keeps the whole second of the start; `StartStampNanoseconds` in the sidecar is exact, and
events and frame times count from the first sample.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ... import __version__, topics
from ...emg.montage import SCHEMES
from ...errors import InputError, MissingExtra
from ...types import F32, NS, EmgChannelInfo, EmgChunk, Frame, Marker, Stamp
from ..reader import Bag

RAW = topics.EMG_RAW.name
CHANNELS = (topics.EMG_RAW_CHANNELS.name, topics.EMG_CHANNELS.name)
MARKERS = (topics.MARKERS.name, topics.TRUE_MOVEMENT.name)
PICTURES = topics.CAMERA_IMAGE.name
BIDS_VERSION = "1.11.0"
DIGITAL = (-8388607, 8388607)
"""Symmetric, so that 0 V is 0."""
_LABEL = re.compile(r"[^A-Za-z0-9]")


@dataclass
class _Signal:
    """The EMG of a recording on one even grid."""

    start: Stamp
    rate_hz: float
    channels: tuple[str, ...]
    samples: F32
    gaps: list[tuple[float, float]] = field(default_factory=list)


def label(text: str, what: str) -> str:
    """A BIDS label: letters and digits only. Raises InputError where nothing remains."""
    plain = _LABEL.sub("", text)
    if not plain:
        raise InputError(f"{what} '{text}' has no letter or digit, which BIDS needs")
    return plain


def export_bids(
    bag: Path,
    out: Path,
    *,
    subject: str = "",
    session: str = "",
    task: str = "facial",
    mains_hz: float = 50.0,
    pictures: bool = True,
) -> dict[str, Any]:
    """Add the recording `bag` to the BIDS data set in folder `out` (made where it is new).

    Returns the files by kind.

    subject: empty takes the participant of the session record. Raises InputError where there is no EMG,
    channels change midway, or the recording is in the data set already; MissingExtra without pyedflib.
    """
    try:
        import pyedflib
    except ImportError as error:
        raise MissingExtra("pyedflib", "files", "BDF") from error
    with Bag(bag) as recording:
        topics = {stream.port for _, stream in recording.streams}
        about = recording.session
        signal, info = _read_signal(recording, bag, topics)
        items = [
            item for topic in MARKERS if topic in topics for _, _, item in recording.items(topics=[topic])
        ]
        markers = [item for item in items if isinstance(item, Marker)]
        stem = [
            f"sub-{label(subject or str(about.get('participant') or about.get('source') or 'unknown'), 'participant')}"
        ]
        stem += [f"ses-{label(session, 'session')}"] if session else []
        folder = out.joinpath(*stem) / "emg"
        base = "_".join([*stem, f"task-{label(task, 'task')}"])
        target = folder / f"{base}_emg.bdf"
        if target.exists():
            raise InputError(f"{target}: exists; give another --session or --task")
        folder.mkdir(parents=True, exist_ok=True)
        duration = len(signal.samples) / signal.rate_hz
        files = {"emg": str(target)}
        _write_bdf(pyedflib, target, signal)
        _dump(folder / f"{base}_emg.json", _emg_sidecar(signal, info, task, mains_hz, duration))
        _tsv(folder / f"{base}_channels.tsv", *_channel_rows(signal, info, mains_hz))
        _shared(folder, stem, base, "electrodes.tsv", _tsv_text(*_electrode_rows(signal, info)))
        _shared(
            folder,
            stem,
            base,
            "coordsystem.json",
            _json_text(
                {
                    "EMGCoordinateSystem": "Other",
                    "EMGCoordinateUnits": "percent",
                    "EMGCoordinateSystemDescription": "Canonical face seen from the front: x and y in -100..100 of half its width and height, x "
                    "below 0 on the participant's right, x = 0 the midline, y = 0 the Frankfort plane (package electromyogram, Buechner et al.). A "
                    "bipolar channel has one position, the middle of its two contacts.",
                }
            ),
        )
        files["events"] = str(folder / f"{base}_events.tsv")
        _events(folder / f"{base}_events.tsv", signal, markers)
        if pictures and PICTURES in topics:
            video = out.joinpath(*stem) / "beh" / f"{base}_video.mp4"
            if _write_video(recording, video, signal.start):
                files["video"] = str(video)
    _dataset_files(out, stem[0], about)
    return files


def _read_signal(recording: Bag, bag: Path, topics: set[str]) -> tuple[_Signal, EmgChannelInfo | None]:
    if RAW not in topics:
        raise InputError(
            f"{bag}: no {RAW} in this recording; BIDS-EMG holds raw EMG (envelopes: eifer export --to parquet)"
        )
    described = (
        item for topic in CHANNELS if topic in topics for _, _, item in recording.items(topics=[topic])
    )
    info = next((item for item in described if isinstance(item, EmgChannelInfo)), None)
    pieces: list[F32] = []
    gaps: list[tuple[float, float]] = []
    first: EmgChunk | None = None
    index = 0
    for _, _, item in recording.items(topics=[RAW]):
        assert isinstance(item, EmgChunk)
        if first is None:
            first = item
            index = item.first_index
        if item.channels != first.channels or abs(item.rate_hz / first.rate_hz - 1) > 0.01:
            raise InputError(
                f"{bag}: EMG channels or rate change midway, which BDF cannot hold; export each part by itself"
            )
        missing = item.first_index - index
        if missing > 0:
            gaps.append(((index - first.first_index) / first.rate_hz, missing / first.rate_hz))
            pieces.append(np.zeros((missing, len(first.channels)), np.float32))
        pieces.append(item.samples)
        index = item.first_index + len(item.samples)
    if first is None:
        raise InputError(f"{bag}: its {RAW} holds no sample")
    return _Signal(first.stamp, first.rate_hz, first.channels, np.concatenate(pieces), gaps), info


def physical_limits(values: F32) -> tuple[float, float]:
    """Symmetric range in uV that holds `values` (V) and can be written in the eight characters of an EDF
    header.
    """
    finite = values[np.isfinite(values)]
    most = float(np.abs(finite).max(initial=0.0)) * 1e6
    if most == 0.0:
        return -1.0, 1.0
    digits = max(0, 3 - math.floor(math.log10(most)))  # eight characters with sign and point
    digits = min(digits, 5)
    scale = 10.0**digits
    limit = math.ceil(most * scale * (1 + 1e-6) + 1) / scale
    return -limit, limit


def _write_bdf(pyedflib: Any, path: Path, signal: _Signal) -> None:
    rate = signal.rate_hz
    # a record of a whole number of samples: one second, or as long as makes it whole
    record_s = next(
        (
            d
            for d in (1.0, 0.5, 0.25, 0.125, 0.1, 2.0, 4.0, 8.0, 10.0)
            if abs(rate * d - round(rate * d)) < 1e-6
        ),
        1.0,
    )
    limits = [physical_limits(column) for column in signal.samples.T]
    part = path.with_name(path.name + ".part.bdf")
    writer = pyedflib.EdfWriter(str(part), len(signal.channels), file_type=pyedflib.FILETYPE_BDFPLUS)
    try:
        if record_s != 1.0:
            writer.setDatarecordDuration(record_s)
        for k, name in enumerate(signal.channels):
            low, high = limits[k]
            writer.setSignalHeader(
                k,
                {
                    "label": name[:16],
                    "dimension": "uV",
                    "sample_frequency": rate,
                    "physical_min": low,
                    "physical_max": high,
                    "digital_min": DIGITAL[0],
                    "digital_max": DIGITAL[1],
                    "transducer": "",
                    "prefilter": "",
                },
            )
        when = datetime.fromtimestamp(signal.start // NS, UTC).replace(tzinfo=None)
        writer.setStartdatetime(when.replace(year=max(when.year, 1985)))
        record = round(rate * record_s)
        length = -(-len(signal.samples) // record) * record
        columns = []
        for (low, high), column in zip(limits, signal.samples.T, strict=True):
            # rounded here: the library cuts off, which costs half a step
            values = np.zeros(length)
            values[: len(column)] = np.nan_to_num(column.astype(np.float64)) * 1e6
            digits = np.rint((values - low) / (high - low) * (DIGITAL[1] - DIGITAL[0]) + DIGITAL[0])
            columns.append(np.clip(digits, *DIGITAL).astype(np.int32))
        writer.writeSamples(columns, digital=True)
        for onset, lasts in signal.gaps:
            writer.writeAnnotation(onset, lasts, "BAD_gap")
    finally:
        writer.close()
    os.replace(part, path)


def _emg_sidecar(
    signal: _Signal, info: EmgChannelInfo | None, task: str, mains_hz: float, duration: float
) -> dict[str, Any]:
    return {
        "TaskName": task,
        "EMGPlacementScheme": "ChannelSpecific",
        "EMGReference": _reference(info),
        "EMGGround": "n/a",
        "SamplingFrequency": signal.rate_hz,
        "PowerLineFrequency": mains_hz,
        "SoftwareFilters": "n/a",
        "RecordingType": "continuous",
        "RecordingDuration": duration,
        "EMGChannelCount": len(signal.channels),
        "EOGChannelCount": 0,
        "ECGChannelCount": 0,
        "MiscChannelCount": 0,
        "TriggerChannelCount": 0,
        "Manufacturer": "n/a",
        "TaskDescription": "Facial movements; electrode scheme "
        + (info.scheme if info and info.scheme else "unknown"),
        "StartStampNanoseconds": str(signal.start),
        "GeneratedBy": f"eifer {__version__}",
    }


def _reference(info: EmgChannelInfo | None) -> str:
    montage = (info.montage if info is not None else "") or ""
    scheme = SCHEMES.get(info.scheme) if info is not None else None
    bipolar = montage == "bipolar" or (not montage and scheme is not None and scheme.bipolar)
    return "bipolar" if bipolar else montage or "n/a"


def _channel_rows(
    signal: _Signal, info: EmgChannelInfo | None, mains_hz: float
) -> tuple[list[str], list[list[str]]]:
    head = [
        "name",
        "type",
        "units",
        "signal_electrode",
        "reference",
        "sampling_frequency",
        "target_muscle",
        "placement_scheme",
        "placement_description",
        "status",
    ]
    rows = []
    for index, name in enumerate(signal.channels):
        muscle = info.muscles[index] if info is not None and index < len(info.muscles) else name
        # BIDS knows `measured` and `other`; which other scheme it was is a description
        scheme = (
            ["other", f"electrode scheme {info.scheme}"]
            if info is not None and info.scheme
            else ["n/a", "n/a"]
        )
        bad = not np.isfinite(signal.samples[:, index]).all() or not np.any(signal.samples[:, index])
        # the BDF stores uV, and the reader of a BIDS set applies the unit of the file
        rows.append(
            [
                name,
                "EMG",
                "uV",
                name,
                _reference(info),
                f"{signal.rate_hz:g}",
                muscle,
                *scheme,
                "bad" if bad else "good",
            ]
        )
    return head, rows


def _electrode_rows(signal: _Signal, info: EmgChannelInfo | None) -> tuple[list[str], list[list[str]]]:
    def number(value: float) -> str:
        return "n/a" if np.isnan(value) else f"{value:g}"

    places = info.positions.tolist() if info is not None else [[float("nan")] * 2] * len(signal.channels)
    return ["name", "x", "y", "z"], [
        [name, number(x), number(y), "n/a"] for name, (x, y) in zip(signal.channels, places, strict=False)
    ]


def _events(path: Path, signal: _Signal, markers: list[Marker]) -> None:
    rows: list[tuple[float, str, str, str]] = [
        (onset, f"{length:.6f}", "BAD_gap", "n/a") for onset, length in signal.gaps
    ]
    begun: dict[str, Marker] = {}

    def at(stamp: Stamp) -> float:
        return (stamp - signal.start) / NS

    for marker in sorted(markers, key=lambda marker: marker.stamp):
        if marker.phase == "start":
            begun[marker.label] = marker
        elif marker.phase == "end" and marker.label in begun:
            start = begun.pop(marker.label)
            rows.append(
                (
                    at(start.stamp),
                    f"{at(marker.stamp) - at(start.stamp):.6f}",
                    start.label,
                    start.note or "n/a",
                )
            )
        elif marker.phase == "note":
            rows.append((at(marker.stamp), "0", marker.label, marker.note or "n/a"))
    rows += [(at(marker.stamp), "n/a", marker.label, marker.note or "n/a") for marker in begun.values()]
    body = [[f"{onset:.6f}", length, _cell(name), _cell(note)] for onset, length, name, note in sorted(rows)]
    _tsv(path, ["onset", "duration", "trial_type", "note"], body)
    _dump(
        path.with_suffix(".json"),
        {
            "trial_type": {
                "Description": "Movement of the protocol; BAD_gap: samples lost by the amplifier, 0 in the file"
            },
            "note": {"Description": "What the operator wrote"},
        },
    )


def _write_video(recording: Bag, path: Path, start: Stamp) -> bool:
    stamps: list[Stamp] = []
    frames: Any = None
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = _picture_rate(recording)
    for _, _, item in recording.items(topics=[PICTURES]):
        assert isinstance(item, Frame)
        if frames is None:
            frames = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, item.size)
            if not frames.isOpened():
                raise InputError(f"{path}: this OpenCV cannot write MP4 video")
        frames.write(np.ascontiguousarray(item.image[:, :, ::-1]))
        stamps.append(item.stamp)
    if frames is None:
        return False
    frames.release()
    _dump(
        path.with_suffix(".json"),
        {
            "Description": "Face of the participant; one entry of FrameTimes per picture, as the container's own times are even",
            "FrameRate": rate,
            "FrameCount": len(stamps),
            "FrameTimesUnits": "s after the first EMG sample",
            "FrameTimes": [round((stamp - start) / NS, 6) for stamp in stamps],
        },
    )
    return True


def _picture_rate(recording: Bag) -> float:
    stamps = np.array(
        [m.stamp for m in recording.messages([c for c, s in recording.streams if s.port == PICTURES])],
        np.int64,
    )
    step = float(np.median(np.diff(np.sort(stamps)))) if len(stamps) > 1 else 0.0
    return NS / step if step > 0 else 30.0


def _dataset_files(out: Path, subject: str, about: dict[str, Any]) -> None:
    description = out / "dataset_description.json"
    if not description.exists():
        _dump(
            description,
            {
                "Name": "Facial EMG recorded with eifer",
                "BIDSVersion": BIDS_VERSION,
                "DatasetType": "raw",
                "GeneratedBy": [{"Name": "eifer", "Version": __version__}],
                **({"License": about["licence"]} if about.get("licence") else {}),
            },
        )
        (out / "README").write_text(
            "Facial surface EMG with video, exported by eifer. Raw EMG in emg/ (BDF+), pictures in beh/ (see each _video.json for frame\n"
            "times). Electrode positions are coordinates of the canonical face, not of a scan.\n",
            encoding="utf-8",
        )
        (out / ".bidsignore").write_text("**/*_video.mp4\n**/*_video.json\n", encoding="utf-8")
    people = out / "participants.tsv"
    lines = people.read_text(encoding="utf-8").splitlines() if people.exists() else ["participant_id"]
    if subject not in lines:
        people.write_text("\n".join([*lines, subject]) + "\n", encoding="utf-8")


def _cell(text: str) -> str:
    return re.sub(r"[\t\r\n]+", " ", text) or "n/a"


def _tsv_text(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("\t".join(row) for row in [head, *rows]) + "\n"


def _json_text(tree: dict[str, Any]) -> str:
    return json.dumps(tree, indent=2) + "\n"


def _tsv(path: Path, head: list[str], rows: list[list[str]]) -> None:
    path.write_text(_tsv_text(head, rows), encoding="utf-8")


def _dump(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(_json_text(tree), encoding="utf-8")


def _shared(folder: Path, stem: list[str], base: str, suffix: str, text: str) -> None:
    """Where electrodes sit holds for all tasks of a session; a task with other electrodes gets a file of its
    own.
    """
    common = folder / f"{'_'.join(stem)}_{suffix}"
    if not common.exists():
        common.write_text(text, encoding="utf-8")
    elif common.read_text(encoding="utf-8") != text:
        (folder / f"{base}_{suffix}").write_text(text, encoding="utf-8")
