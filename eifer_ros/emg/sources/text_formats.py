"""Readers of text files: eifer's own CSV, the MMM layout, OpenBCI GUI recordings and plain columns.

Own layout: optional `# key: value` lines (`rate_hz`, `start_ns`, `scheme`, `montage`), a header line whose
first column is `time_s` and whose others carry their unit (`F1_V`, `zyg_uV`, `chin [mV]`), one row per
sample. Samples are written with nine significant digits and times to the nanosecond, so that writing and
reading gives back the same recording.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...errors import InputError, did_you_mean
from ...types import F64, I64, NS
from ..montage import FRIDLUND
from .base import volts_per
from .packets import PacketCounter
from .recording import EmgRecording, even_stamps, judge_rate

_UNIT = re.compile(r"^(?P<name>.*?)(?:_|\s*[\[(]\s*)(?P<unit>[mun\u00b5\u03bc]?V)\s*[\])]?$", re.IGNORECASE)
_MMM_SIDES = ("_l", "_r")
_MMM_RATE_HZ = 30.0
_TIME = re.compile(r"^(\d{1,2}):(\d{2}):(\d{2}(?:\.\d+)?)$")


@dataclass(frozen=True)
class TextOptions:
    """What a text file may need to be told: rate in Hz, unit, volts per count, columns (names or numbers from
    1), names.
    """

    rate_hz: float = 0.0
    unit: str = ""
    scale_v: float = 0.0
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Table:
    comments: list[str]
    header: list[str]
    values: F64
    skipped: int


def _split(line: str) -> list[str]:
    if "," in line:
        return [cell.strip() for cell in line.split(",")]
    if ";" in line:
        return [cell.strip() for cell in line.split(";")]
    if "\t" in line:
        return [cell.strip() for cell in line.rstrip("\t").split("\t")]
    return line.split()


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        match = _TIME.match(cell)
        if match:
            return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
        return None


def _table(path: Path) -> _Table:
    """Comments, header names and numbers of a text file.

    InputError names the first line that cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: it is not text (byte {error.start}); name its format with ?format="
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    comments: list[str] = []
    header: list[str] = []
    at = 0
    for at, line in enumerate(lines):
        if not line.strip():
            continue
        if line[0] in "#%":
            comments.append(line[1:].strip())
            continue
        cells = _split(line)
        if sum(_number(cell) is None for cell in cells) < len(cells) / 2:
            break
        if header:
            raise InputError(f"{path}: line {at + 1} holds no numbers: '{line[:60]}'")
        header = [cell.strip("\"'") for cell in cells]
    else:
        raise InputError(f"{path}: it holds no rows of numbers")
    rows = [line for line in lines[at:] if line.strip() and line[0] not in "#%"]
    width = len(_split(rows[0]))
    skipped = 0
    if len(rows) > 1 and len(_split(rows[-1])) < width:
        rows.pop()  # a recording that was cut off in the middle of its last line
        skipped = 1
    delimiter = "," if "," in rows[0] else ";" if ";" in rows[0] else None
    try:
        values = np.loadtxt(rows, np.float64, delimiter=delimiter, ndmin=2)
    except ValueError:
        values = _slow(path, rows, width, at)
    return _Table(comments, header, values, skipped)


def _slow(path: Path, rows: list[str], width: int, at: int) -> F64:
    """Row by row, for clock times and empty cells (NaN), with the line number where it fails."""
    values = np.full((len(rows), width), np.nan)
    for k, row in enumerate(rows):
        cells = _split(row)
        if len(cells) != width:
            raise InputError(
                f"{path}: row {k + 1} after line {at} has {len(cells)} columns; the rows before have {width}"
            )
        for c, cell in enumerate(cells):
            if cell:
                number = _number(cell)
                if number is None:
                    if (
                        c == width - 1 or ":" in cell
                    ):  # a formatted date at the end of OpenBCI rows is no sample
                        continue
                    raise InputError(
                        f"{path}: row {k + 1} after line {at}, column {c + 1}: '{cell[:30]}' is no number"
                    )
                values[k, c] = number
    return values


def _declared(comments: list[str]) -> dict[str, str]:
    """`key: value`, `key = value` and `key:= value` comment lines, keys in lower case."""
    fields: dict[str, str] = {}
    for comment in comments:
        match = re.match(r"^([^:=]+?)\s*(?::=|:|=)\s*(.+)$", comment)
        if match:
            fields[match[1].strip().lower()] = match[2].strip()
    return fields


def _rate(declared: dict[str, str]) -> float | None:
    for key, value in declared.items():
        if "rate" in key or "frequency" in key:
            match = re.search(r"[\d.]+(?:[eE][+-]?\d+)?", value)
            if match and float(match[0]) > 0:
                return float(match[0])
    return None


def read_text(path: Path, options: TextOptions) -> EmgRecording:
    """Whatever text file this is. InputError says what it lacks (rate, unit, columns)."""
    table = _table(path)
    comments = " ".join(table.comments).lower()
    if "openbci" in comments:
        return _openbci(path, table, options)
    if _is_mmm(table.header):
        return _mmm(path, table, options)
    return _columns(path, table, options)


def _pick(path: Path, names: tuple[str, ...], header: list[str], width: int) -> list[int]:
    picked = []
    for name in names:
        if name in header:
            picked.append(header.index(name))
        elif name.isdigit() and 1 <= int(name) <= width:
            picked.append(int(name) - 1)
        else:
            columns = ", ".join(header) if header else "none by name"
            raise InputError(
                f"{path}: it has no column '{name}'{did_you_mean(name, header)}; columns: {columns}; numbers 1..{width}"
            )
    return picked


def _cut_note(table: _Table) -> list[str]:
    return ["its last line is cut off and was left out"] if table.skipped else []


def _columns(path: Path, table: _Table, options: TextOptions) -> EmgRecording:
    """Own layout and plain columns."""
    declared = _declared(table.comments)
    values = table.values
    header = table.header
    width = values.shape[1]
    if header and len(header) != width:
        raise InputError(f"{path}: the header names {len(header)} columns but the rows have {width}")
    lowered = [name.lower() for name in header]
    time_at = next(
        (
            k
            for k, name in enumerate(lowered)
            if name in ("time_s", "time", "t", "timestamp", "time [s]", "time (s)")
        ),
        None,
    )
    picked = (
        _pick(path, options.columns, header, width)
        if options.columns
        else [
            k
            for k in range(width)
            if k != time_at
            and (not lowered or lowered[k] not in ("index", "frame", "", "sample", "unnamed: 0"))
        ]
    )
    names: list[str] = []
    scales: list[float] = []
    lacking: list[str] = []
    for k in picked:
        match = _UNIT.match(header[k]) if header else None
        names.append(match["name"].strip() if match else header[k] if header else f"ch{len(names) + 1}")
        if options.scale_v:
            scales.append(options.scale_v)
        elif options.unit:
            scales.append(volts_per(options.unit))
        elif match:
            scales.append(volts_per(match["unit"]))
        elif "unit" in declared or "units" in declared:
            scales.append(volts_per(declared.get("unit") or declared["units"]))
        else:
            lacking.append(names[-1])
    if lacking:
        which = ", ".join(lacking[:4]) + (
            " ... are" if len(lacking) > 4 else " are" if len(lacking) > 1 else " is"
        )
        counts = ", or ?scale_v= volts per count for converter counts"
        raise InputError(f"{path}: nothing says in which unit {which}; add ?unit=uV (V, mV, uV, nV){counts}")
    rate = options.rate_hz or _rate(declared)
    notes = _cut_note(table)
    start_ns = int(declared.get("start_ns", "0"))
    if time_at is not None:
        times = values[:, time_at]
        if not np.isfinite(times).all():
            raise InputError(f"{path}: {int((~np.isfinite(times)).sum())} rows have no time")
        used, said = judge_rate(path, times, rate)
        notes += said
        stamps = start_ns + np.round(times * NS).astype(np.int64)
        if used != rate or "rate_hz" not in declared:
            stamps = _iron(stamps, used)
    elif rate:
        used = rate
        stamps = even_stamps(len(values), used, start_ns)
    else:
        raise InputError(f"{path}: it has neither a time column nor a sampling rate; add ?rate=1000 (Hz)")
    said_count = declared.get("samples") or declared.get("number of samples")
    if said_count and said_count.isdigit() and int(said_count) != len(values):
        notes.append(f"the header says {said_count} samples but there are {len(values)}")
    samples = (values[:, picked] * np.asarray(scales)).astype(np.float32)
    return EmgRecording(
        path,
        samples,
        stamps,
        used,
        tuple(names),
        tuple(notes),
        declared.get("scheme", ""),
        declared.get("montage", ""),
    )


def _iron(stamps: I64, rate_hz: float) -> I64:
    """Stamps without rounding and jitter: even within each run, gaps and steps back kept where they are."""
    period = NS / rate_hz
    steps = np.diff(stamps)
    clean = np.mean(np.abs(steps - period) < 0.4 * period) > 0.9
    limit = (
        1.5 * period if clean else period + 0.02 * NS
    )  # stamps that jitter cannot show a gap shorter than their jitter
    breaks = np.flatnonzero((steps > limit) | (steps < -0.02 * NS)) + 1
    edges = [0, *breaks.tolist(), len(stamps)]
    out = stamps.copy()
    for start, end in pairwise(edges):
        even = np.arange(end - start) * period
        out[start:end] = np.round(even + np.mean(stamps[start:end] - even)).astype(np.int64)
    return out


def _is_mmm(header: list[str]) -> bool:
    sided = [name for name in header if name.endswith(_MMM_SIDES)]
    return len({FRIDLUND.resolve(name) for name in sided} - {None}) == 22 and len(header) in (22, 23)


def _mmm(path: Path, table: _Table, options: TextOptions) -> EmgRecording:
    """Mimics, Muscles, and Me: index and 22 Fridlund envelopes in microvolts, one row per video frame (30
    Hz).
    """
    header = table.header
    if table.values.shape[1] == len(header) + 1:  # pandas leaves the name of its index empty
        header = ["", *header]
    if table.values.shape[1] != len(header):
        raise InputError(
            f"{path}: the header names {len(header)} columns but the rows have {table.values.shape[1]}"
        )
    picked = (
        _pick(path, options.columns, header, len(header))
        if options.columns
        else [k for k, name in enumerate(header) if name.endswith(_MMM_SIDES)]
    )
    rate = options.rate_hz or _MMM_RATE_HZ
    scale = options.scale_v or volts_per(options.unit or "uV")
    notes = [*_cut_note(table), f"MMM layout: envelopes at {rate:g} Hz, not raw EMG"]
    index = table.values[:, 0]
    if len(header) == 23 and np.isfinite(index).all() and np.array_equal(index, np.round(index)):
        stamps = np.round((index - index[0]) * (NS / rate)).astype(np.int64)
        if np.any(np.diff(index) != 1):
            notes.append("its index skips rows")
    else:
        stamps = even_stamps(len(table.values), rate)
    samples = (table.values[:, picked] * scale).astype(np.float32)
    return EmgRecording(
        path, samples, stamps, rate, tuple(header[k] for k in picked), tuple(notes), "fridlund", "envelope"
    )


def _openbci(path: Path, table: _Table, options: TextOptions) -> EmgRecording:
    """OpenBCI GUI, old (clock time in the last column) and version 5 (header line, Unix time)."""
    declared = _declared(table.comments)
    values = table.values
    header = table.header
    width = values.shape[1]
    rate = options.rate_hz or _rate(declared)
    if not rate:
        raise InputError(f"{path}: the OpenBCI header has no sample rate; add ?rate=")
    if header:
        channels = [k for k, name in enumerate(header) if name.lower().startswith("exg channel")]
        time_at = next((k for k, name in enumerate(header) if name.lower() == "timestamp"), width - 1)
    else:
        accel = 3 if "accel" in " ".join(table.comments).lower() else 0
        channels = list(range(1, width - 1 - accel))
        time_at = width - 1
    said = declared.get("number of channels", "")
    notes = _cut_note(table)
    if said.isdigit() and int(said) != len(channels):
        notes.append(f"the header says {said} channels but the rows have {len(channels)}")
        channels = channels[: int(said)] if int(said) < len(channels) else channels
    names = [f"EXG{k + 1}" for k in range(len(channels))]
    if options.columns:
        channels = _pick(path, options.columns, header, width)
        names = [header[k] if header else f"EXG{k}" for k in channels]
    if not channels:
        raise InputError(f"{path}: no EXG columns found among {width}; name them with ?columns=2,3,4,5")
    numbers = values[:, 0]
    clock = values[:, time_at]
    stamps = even_stamps(len(values), rate)
    good = np.isfinite(clock)
    if good.sum() > 1:
        seconds = np.interp(np.arange(len(clock)), np.flatnonzero(good), clock[good])
        if seconds.max() < 86400 * 2:  # time of day: a recording may run past midnight
            seconds = seconds + 86400.0 * np.concatenate(([0], np.cumsum(np.diff(seconds) < -43200)))
        rate, words = judge_rate(path, seconds, rate)
        notes += words
        counter = PacketCounter(rate)
        index = np.arange(len(values))
        if np.isfinite(numbers).all() and np.array_equal(numbers, np.round(numbers)):
            losses = counter.add(numbers.astype(np.int64), 0.0)
            for place, lost in losses:
                index[place:] += lost
            if losses:
                notes.append(
                    f"{sum(lost for _, lost in losses)} samples are missing in {len(losses)} places by the packet counter"
                )
        start = float(np.median(seconds - index / rate))
        stamps = round(start * NS) + np.round(index * (NS / rate)).astype(np.int64)
    samples = (values[:, channels] * (options.scale_v or volts_per(options.unit or "uV"))).astype(np.float32)
    return EmgRecording(path, samples, stamps, rate, tuple(names), tuple(notes))


def write_csv(path: Path, recording: EmgRecording) -> None:
    """Write `recording` in eifer's own layout.

    Reading it back gives equal samples, stamps, rate and names.
    """
    start = int(recording.stamps[0])
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(
            f"# eifer EMG\n# rate_hz: {recording.rate_hz!r}\n# start_ns: {start}\n# samples: {len(recording.samples)}\n"
        )
        for key, value in (("scheme", recording.scheme), ("montage", recording.montage)):
            if value:
                file.write(f"# {key}: {value}\n")
        bad = [name for name in recording.channels if not name or re.search(r"[,;\n\"]", name)]
        if bad:
            raise InputError(
                f"{path}: channel names must not hold commas, semicolons, quotes or line ends: {bad}"
            )
        file.write("time_s," + ",".join(f"{name}_V" for name in recording.channels) + "\n")
        for stamp, row in zip((recording.stamps - start).tolist(), recording.samples, strict=True):
            sign, stamp = ("-", -stamp) if stamp < 0 else ("", stamp)
            file.write(
                f"{sign}{stamp // NS}.{stamp % NS:09d}," + ",".join(f"{v:.9g}" for v in row.tolist()) + "\n"
            )
