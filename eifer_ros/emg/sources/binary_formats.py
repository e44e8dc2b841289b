"""Readers of XDF (LabRecorder) and EDF/BDF files. Libraries are imported late: extra `files`."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, MissingExtra, did_you_mean
from ...types import F32, F64, NS
from .base import volts_per
from .recording import EmgRecording, even_stamps

_EMG_TYPES = ("emg", "exg", "eeg")


class _WarningCollector(logging.Handler):
    """Collects what pyxdf warns about, so that the user reads it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def read_xdf(path: Path, stream: str = "", unit: str = "") -> EmgRecording:
    """One stream of an XDF file, clock offsets applied and stamps dejittered per segment.

    stream: its name or type; by default the only (or first) stream of type EMG, ExG or EEG with samples at a
    regular rate. Clock resets and pauses start new segments, which keep the times they were recorded with.
    MissingExtra, InputError.
    """
    try:
        import pyxdf
    except ImportError as error:
        raise MissingExtra("pyxdf", "files", f"reading {path.name}") from error
    said = _WarningCollector()
    logger = logging.getLogger("pyxdf.pyxdf")
    propagate = logger.propagate
    logger.propagate = False
    logger.addHandler(said)
    try:
        streams, header = pyxdf.load_xdf(
            str(path), synchronize_clocks=True, handle_clock_resets=True, dejitter_timestamps=True
        )
    except (
        OSError,
        ValueError,
        IndexError,
        KeyError,
        EOFError,
        ArithmeticError,
        AttributeError,
        TypeError,
    ) as error:
        raise InputError(f"{path}: cannot be read as XDF ({type(error).__name__}: {error})") from error
    finally:
        logger.removeHandler(said)
        logger.propagate = propagate
    signal, notes = _choose(path, streams, stream)
    info = signal["info"]
    samples = np.asarray(signal["time_series"])
    times = np.asarray(signal["time_stamps"], np.float64)
    declared = float(info["nominal_srate"][0])
    footer = (signal.get("footer") or {}).get("info", {})
    counted = footer.get("sample_count", [None])[0]
    if counted is not None and int(float(counted)) != len(samples):
        notes.append(f"its footer counts {int(float(counted))} samples but it holds {len(samples)}")
    notes += [f"pyxdf: {line}" for line in dict.fromkeys(said.lines)]
    segments = [(int(a), int(b) + 1) for a, b in info.get("segments", [(0, len(times) - 1)])]
    rate, words = _segment_rate(times, segments, declared)
    notes += words
    if len(segments) > 1:
        back = sum(times[b0] < times[a1 - 1] for (_, a1), (b0, _) in pairwise(segments))
        notes.append(
            f"{len(segments)} segments (pauses or clock resets)"
            + (f", time steps back {back} times" if back else "")
        )
    start = _date(header)
    base = times[0]
    since = np.round((times - base) * NS)
    for first, last in segments:  # even to the nanosecond within a segment: float rounding is no jitter
        if last - first > 1:
            since[first:last] = np.linspace(since[first], since[last - 1], last - first).round()
    stamps = start + since.astype(np.int64)
    labels, scales = _channels(path, info, samples.shape[1], unit, notes)
    return EmgRecording(path, (samples * scales).astype(np.float32), stamps, rate, labels, tuple(notes))


def _segment_rate(times: F64, segments: list[tuple[int, int]], declared: float) -> tuple[float, list[str]]:
    spans = [(b - a - 1, float(times[b - 1] - times[a])) for a, b in segments if b - a > 1]
    steps = sum(n for n, _ in spans)
    span = sum(s for _, s in spans)
    if steps < 2 or span <= 0:
        return declared, []
    measured = steps / span
    if abs(measured / declared - 1) > 0.01:
        return measured, [
            f"the header says {declared:g} Hz but the stamps say {measured:.4g} Hz, the stamps are believed"
        ]
    return declared, []


def _choose(path: Path, streams: list[Any], name: str) -> tuple[Any, list[str]]:
    def label(s: Any) -> str:
        return str(s["info"]["name"][0])

    def kind(s: Any) -> str:
        return str(s["info"]["type"][0] or "")

    def usable(s: Any) -> bool:
        regular = float(s["info"]["nominal_srate"][0] or 0) > 0
        return regular and s["info"]["channel_format"][0] != "string" and len(s["time_series"]) > 0

    def line(s: Any) -> str:
        info = s["info"]
        size = f"{info['channel_count'][0]} x {len(s['time_series'])} at {float(info['nominal_srate'][0] or 0):g} Hz"
        return f"{label(s)} ({kind(s) or 'no type'}, {size})"

    listing = "; ".join(line(s) for s in streams)
    if name:
        matches = [s for s in streams if name in (label(s), kind(s))]
        if not matches:
            raise InputError(
                f"{path}: it has no stream '{name}'{did_you_mean(name, map(label, streams))}; it has {listing}"
            )
        good = [s for s in matches if usable(s)]
        if not good:
            raise InputError(
                f"{path}: stream '{name}' holds no evenly sampled numbers; the file has {listing}"
            )
    else:
        good = sorted(
            (s for s in streams if usable(s) and kind(s).lower() in _EMG_TYPES),
            key=lambda s: _EMG_TYPES.index(kind(s).lower()),
        )
        if not good:
            raise InputError(
                f"{path}: no stream of type EMG, ExG or EEG has samples; name one with ?stream=; it has {listing or 'none'}"
            )
    notes = [] if len(good) == 1 else [f"{len(good)} streams match, '{label(good[0])}' is used"]
    return good[0], notes


def _date(header: Any) -> int:
    """When the recording was made, ns since the epoch; 0 where the header does not say."""
    text = ((header or {}).get("info", {}).get("datetime") or [""])[0]
    try:
        when = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return 0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return round(when.timestamp() * 1e6) * 1000


def _channels(path: Path, info: Any, count: int, unit: str, notes: list[str]) -> tuple[tuple[str, ...], F32]:
    described: list[Any] = []
    try:
        described = info["desc"][0]["channels"][0]["channel"]
    except (KeyError, IndexError, TypeError):
        described = []
    if described and len(described) != count:
        notes.append(f"its header describes {len(described)} channels but it holds {count}")
    names = []
    scales = []
    for k in range(count):
        one = described[k] if k < len(described) else {}
        names.append((one.get("label") or [""])[0] or f"ch{k + 1}")
        declared = unit or (one.get("unit") or [""])[0]
        if not declared and "no unit declared, taken as microvolts" not in notes:
            notes.append("no unit declared, taken as microvolts")
        try:
            scales.append(volts_per(declared or "uV"))
        except InputError as error:
            raise InputError(f"{path}: channel {names[-1]}: {error}; override it with ?unit=") from None
    return tuple(names), np.asarray(scales, np.float32)


def read_edf(path: Path, columns: tuple[str, ...] = (), unit: str = "") -> EmgRecording:
    """EDF, EDF+, BDF or BDF+.

    Signals in a unit of voltage are taken; where rates differ, the most common one.

    columns: labels (or numbers from 1) of the signals wanted. MissingExtra, InputError (damaged,
    discontinuous, truncated).
    """
    try:
        import pyedflib
    except ImportError as error:
        raise MissingExtra("pyedflib", "files", f"reading {path.name}") from error
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    notes = _edf_size(path)
    try:
        reader = pyedflib.EdfReader(str(path))
    except OSError as error:
        reason = str(error).removeprefix(f"{path}: ")
        if notes:
            reason += f"; {'; '.join(notes)}"
        raise InputError(f"{path}: cannot be read as EDF/BDF ({reason})") from error
    with reader:
        labels = [label.strip() for label in reader.getSignalLabels()]
        rates = [float(reader.getSampleFrequency(k)) for k in range(len(labels))]
        if columns:
            picked = []
            for name in columns:
                if name in labels:
                    picked.append(labels.index(name))
                elif name.isdigit() and 1 <= int(name) <= len(labels):
                    picked.append(int(name) - 1)
                else:
                    raise InputError(
                        f"{path}: it has no signal '{name}'{did_you_mean(name, labels)}; it has {', '.join(labels)}"
                    )
        else:
            picked = [k for k in range(len(labels)) if unit or _is_voltage(reader.getPhysicalDimension(k))]
            if not picked:
                dims = ", ".join(
                    f"{labels[k]} [{reader.getPhysicalDimension(k).strip()}]" for k in range(len(labels))
                )
                raise InputError(
                    f"{path}: no signal has a unit of voltage ({dims}); give ?unit= and ?columns="
                )
            common = max(
                sorted({rates[k] for k in picked}, reverse=True),
                key=lambda r: sum(rates[k] == r for k in picked),
            )
            left = [labels[k] for k in picked if rates[k] != common]
            picked = [k for k in picked if rates[k] == common]
            if left:
                notes.append(f"signals at another rate than {common:g} Hz were left out: {', '.join(left)}")
        if len({rates[k] for k in picked}) != 1:
            listed = ", ".join(f"{labels[k]} {rates[k]:g} Hz" for k in picked)
            raise InputError(
                f"{path}: the wanted signals have different rates ({listed}); name those of one rate with ?columns="
            )
        rate = rates[picked[0]]
        scales = np.asarray([volts_per(unit or reader.getPhysicalDimension(k)) for k in picked])
        data = np.stack([reader.readSignal(k) for k in picked], axis=1)
        try:
            start = round(reader.getStartdatetime().replace(tzinfo=UTC).timestamp() * 1e6) * 1000
        except ValueError:
            notes.append("its start date is no date")
            start = 0
    samples = (data * scales).astype(np.float32)
    return EmgRecording(
        path,
        samples,
        even_stamps(len(samples), rate, start),
        rate,
        tuple(labels[k] for k in picked),
        tuple(notes),
    )


def _is_voltage(unit: str) -> bool:
    try:
        volts_per(unit)
    except InputError:
        return False
    return True


def _edf_size(path: Path) -> list[str]:
    """What the header promises against what the file holds (EDF specification: 256 + 256 per signal, then
    records).
    """
    head = path.read_bytes()[: 256 * 600] if path.stat().st_size < 1 << 20 else _head(path, 256 * 600)
    try:
        signals = int(head[252:256])
        records = int(head[236:244])
        at = 256 + signals * 216
        per_record = sum(int(head[at + 8 * k : at + 8 * k + 8]) for k in range(signals))
    except ValueError:
        return []
    width = 3 if head[:1] == b"\xff" else 2
    held = (path.stat().st_size - 256 - 256 * signals) / max(per_record * width, 1)
    if records >= 0 and abs(held - records) > 1e-9:
        return [f"the header promises {records} data records but the file holds {held:.4g}"]
    return []


def _head(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)
