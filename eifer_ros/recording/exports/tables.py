"""Every stream of a recording as a table, CSV or Parquet, with the unit in each column's header: `F1 [V]`,
`stamp [ns]`.

One row per item, one per sample for raw EMG. A stream whose columns change midway (other channels) continues
in a second table. A file appears under its name only when it is whole.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from ...errors import EiferError, InputError, MissingExtra
from ...head.model import load_head
from ...types import (
    NS,
    Blendshapes,
    EmgChannelInfo,
    EmgChunk,
    FaceDisplacement,
    FaceEvent,
    FaceOrigin,
    FaceState,
    FaceStatus,
    Frame,
    HeadModelInfo,
    Item,
    JointTargets,
    Marker,
    MuscleActivity,
    MuscleOrigin,
)
from ..reader import Bag

FORMATS = ("csv", "parquet")
BATCH = 8192
"""Rows held before they are written."""

Row = list[int | float | str]
XYZ = ("x", "y", "z")


@dataclass(frozen=True)
class Column:
    """Name and unit (empty for text and counts; `1` for a share or coefficient).

    kind: `int`, `float32`, `float64` or `text`.
    """

    name: str
    unit: str = ""
    kind: str = "float32"

    @property
    def header(self) -> str:
        """`jawOpen [1]`."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name


STAMP = Column("stamp", "ns", "int")


def columns_of(item: Item, expression: Sequence[str] = ()) -> tuple[Column, ...]:
    """The columns of a table of such items. expression: names of a face's coefficients where known."""

    def floats(names: Sequence[str], unit: str = "1", prefix: str = "") -> tuple[Column, ...]:
        return tuple(Column(f"{prefix}{name}", unit) for name in names)

    match item:
        case EmgChunk():
            return (STAMP, Column("index", "", "int"), *floats(item.channels, "V"))
        case MuscleActivity():
            return (
                STAMP,
                Column("origin", "", "text"),
                Column("scheme", "", "text"),
                Column("profile", "", "text"),
                *floats(item.muscles, "V", "envelope."),
                *floats(item.muscles, "1", "activation."),
                *floats(item.muscles, "1", "quality."),
            )
        case FaceState():
            names = (
                list(expression)
                if len(expression) == len(item.expression)
                else [f"{i:03d}" for i in range(len(item.expression))]
            )
            return (
                STAMP,
                *(Column(name, "", "text") for name in ("head_model", "origin", "status")),
                Column("confidence", "1"),
                *floats(names, "1", "expression."),
                *floats(names, "1", "expression_std."),
                *floats(XYZ, "rad", "jaw."),
                *floats(XYZ, "rad", "neck."),
                *floats(XYZ, "rad", "eye_left."),
                *floats(XYZ, "rad", "eye_right."),
                *floats(("left", "right"), "1", "eyelid."),
                *(
                    Column(f"head_pose.{r}{c}", "m" if c == 3 else "1", "float64")
                    for r in range(3)
                    for c in range(4)
                ),
                *floats([f"{i:03d}" for i in range(len(item.shape))], "1", "shape."),
            )
        case Blendshapes():
            return (STAMP, *floats(item.names))
        case JointTargets():
            joints = [(name, "rad", "") for name in item.names] + [
                (name, "rad/s", "limit.") for name in item.names
            ]
            return (STAMP, *(Column(f"{prefix}{name}", unit, "float64") for name, unit, prefix in joints))
        case Marker():
            return (STAMP, *(Column(name, "", "text") for name in ("label", "phase", "note")))
        case FaceDisplacement():
            # three columns for each of thousands of vertices would be no table: like a picture, it is
            # described and stays in the bag
            return (
                STAMP,
                Column("head_model", "", "text"),
                Column("origin", "", "text"),
                Column("confidence", "1"),
                Column("vertices", "", "int"),
                Column("rms", "m"),
                Column("largest", "m"),
                Column("largest_vertex", "", "int"),
            )
        case FaceEvent():
            return (
                STAMP,
                Column("onset", "ns", "int"),
                Column("offset", "ns", "int"),
                *(Column(name, "", "text") for name in ("region", "regions", "label", "origin")),
                Column("score", "1"),
                Column("lead", "s"),
                *floats(item.classes, "1", "probability."),
            )
        case EmgChannelInfo():
            texts = [Column(name, "", "text") for name in ("channel", "muscle", "scheme", "montage")]
            return (
                STAMP,
                *texts,
                Column("rate", "Hz", "float64"),
                Column("x", "scheme"),
                Column("y", "scheme"),
            )
        case HeadModelInfo():
            return (
                STAMP,
                Column("head_model", "", "text"),
                Column("coefficient", "", "text"),
                Column("lower", "1"),
                Column("upper", "1"),
            )
        case Frame():
            return (STAMP, Column("width", "px", "int"), Column("height", "px", "int"))


def rows_of(item: Item) -> Iterator[Row]:
    """The rows of one item, in the order of `columns_of`."""
    match item:
        case EmgChunk():
            for k, sample in enumerate(item.samples.tolist()):
                yield [item.stamp + round(k * NS / item.rate_hz), item.first_index + k, *sample]
        case MuscleActivity():
            words = [MuscleOrigin(item.origin).name.lower(), item.scheme, item.profile]
            yield [
                item.stamp,
                *words,
                *item.envelope.tolist(),
                *item.activation.tolist(),
                *item.quality.tolist(),
            ]
        case FaceState():
            yield [
                item.stamp,
                item.head_model,
                FaceOrigin(item.origin).name.lower(),
                FaceStatus(item.status).name.lower(),
                item.confidence,
                *item.expression.tolist(),
                *item.expression_std.tolist(),
                *item.jaw.tolist(),
                *item.neck.tolist(),
                *item.eyes.ravel().tolist(),
                *item.eyelids.tolist(),
                *item.head_pose[:3].ravel().tolist(),
                *item.shape.tolist(),
            ]
        case Blendshapes():
            yield [item.stamp, *item.weights.tolist()]
        case JointTargets():
            yield [item.stamp, *item.positions.tolist(), *item.velocity_limits.tolist()]
        case Marker():
            yield [item.stamp, item.label, item.phase, item.note]
        case FaceDisplacement():
            length = np.linalg.norm(item.displacement, axis=1)
            most = int(length.argmax()) if len(length) else -1
            rms, largest = (
                (float(np.sqrt(np.mean(length**2))), float(length[most])) if len(length) else (np.nan, np.nan)
            )
            origin = FaceOrigin(item.origin).name.lower()
            yield [item.stamp, item.head_model, origin, item.confidence, len(length), rms, largest, most]
        case FaceEvent():
            yield [
                item.stamp,
                item.onset,
                item.offset,
                item.region,
                " ".join(item.regions),
                item.label,
                FaceOrigin(item.origin).name.lower(),
                item.score,
                item.lead_s,
                *item.probabilities.tolist(),
            ]
        case EmgChannelInfo():
            for name, muscle, (x, y) in zip(
                item.channels, item.muscles, item.positions.tolist(), strict=True
            ):
                yield [item.stamp, name, muscle, item.scheme, item.montage, item.rate_hz, x, y]
        case HeadModelInfo():
            for name, low, high in zip(
                item.expression_names,
                item.expression_lower.tolist(),
                item.expression_upper.tolist(),
                strict=True,
            ):
                yield [item.stamp, item.head_model, name, low, high]
        case Frame():
            yield [item.stamp, *item.size]


class TableWriter(Protocol):
    """Takes rows; the file is under its name once `close` returned."""

    def write(self, rows: list[Row]) -> None:
        """Append rows."""

    def close(self) -> None:
        """Finish the file."""


class CsvTable:
    """Numbers with as many digits as bring the same value back (nine for float32); NaN is an empty cell."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._file: TextIO = self._part.open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._csv.writerow([column.header for column in columns])
        self._form: list[Callable[[Any], str]] = [_CELL[column.kind] for column in columns]

    def write(self, rows: list[Row]) -> None:
        """Append rows."""
        self._csv.writerows(
            [form(value) for form, value in zip(self._form, row, strict=True)] for row in rows
        )

    def close(self) -> None:
        """Finish the file."""
        self._file.close()
        os.replace(self._part, self._path)


_CELL: dict[str, Callable[[Any], str]] = {
    "int": str,
    "text": str,
    "float32": lambda v: "" if v != v else f"{v:.9g}",
    "float64": lambda v: "" if v != v else repr(float(v)),
}


class ParquetTable:
    """zstd-compressed row groups; the unit of each column also stands in its field's metadata."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        pa, pq = arrow()
        kinds = {"int": pa.int64(), "float32": pa.float32(), "float64": pa.float64(), "text": pa.string()}
        fields = [
            pa.field(c.header, kinds[c.kind], metadata={"unit": c.unit, "name": c.name}) for c in columns
        ]
        self._schema = pa.schema(fields)
        self._pa = pa
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._writer = pq.ParquetWriter(self._part, self._schema, compression="zstd")

    def write(self, rows: list[Row]) -> None:
        """Append rows as one row group."""
        arrays = [
            self._pa.array(list(values), kind.type)
            for values, kind in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        self._writer.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
        os.replace(self._part, self._path)


def arrow() -> tuple[Any, Any]:
    """Pyarrow and pyarrow.parquet, or MissingExtra."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "batch", "Parquet") from error
    return pyarrow, pyarrow.parquet


@dataclass
class _Open:
    columns: tuple[Column, ...]
    writer: TableWriter
    path: Path
    rows: list[Row] = field(default_factory=list)
    count: int = 0


def export_tables(bag: Path, out: Path, form: str = "csv", topics: Sequence[str] = ()) -> dict[str, int]:
    """Every stream of `bag` (or `topics`) as `out`/STREAM.csv or .parquet, and the session record as
    session.json; rows by file name.

    Raises InputError for an unknown form or a folder with files of that name, RecordingError, MissingExtra
    for Parquet.
    """
    if form not in FORMATS:
        raise InputError(f"table format '{form}': write csv or parquet")
    make: Callable[[Path, Sequence[Column]], TableWriter] = CsvTable
    if form == "parquet":
        arrow()
        make = ParquetTable
    tables: dict[str, list[_Open]] = {}
    with Bag(bag) as recording:
        out.mkdir(parents=True, exist_ok=True)
        for _, topic, item in recording.items(topics=topics or None):
            opened = tables.setdefault(topic, [])
            if not opened or not _same(opened[-1].columns, item):
                columns = columns_of(item, _expression_names(item))
                name = topic.replace("/", "_") + (f"_{len(opened) + 1}" if opened else "")
                path = out / f"{name}.{form}"
                if path.exists():
                    raise InputError(f"{path}: exists; an export is never overwritten, give another --out")
                opened.append(_Open(columns, make(path, columns), path))
            table = opened[-1]
            for row in rows_of(item):
                table.rows.append(row)
                table.count += 1
            if len(table.rows) >= BATCH:
                table.writer.write(table.rows)
                table.rows = []
        (out / "session.json").write_text(
            json.dumps(recording.session, indent=2, default=str) + "\n", encoding="utf-8"
        )
    counts = {}
    for opened in tables.values():
        for table in opened:
            if table.rows:
                table.writer.write(table.rows)
            table.writer.close()
            counts[table.path.name] = table.count
    return counts


def _same(columns: tuple[Column, ...], item: Item) -> bool:
    """Whether the table that is open can take `item`; only what can change midway is looked at."""
    if isinstance(item, EmgChunk):
        return [column.name for column in columns[2:]] == list(item.channels)
    if isinstance(item, MuscleActivity):
        return [column.name for column in columns[4 : 4 + len(item.muscles)]] == [
            f"envelope.{name}" for name in item.muscles
        ]
    if isinstance(item, FaceState):
        return len(columns) == 5 + 2 * len(item.expression) + 12 + 2 + 12 + len(item.shape)
    if isinstance(item, JointTargets):
        return [column.name for column in columns[1 : 1 + len(item.names)]] == list(item.names)
    if isinstance(item, FaceEvent):
        return [column.name for column in columns[9:]] == [f"probability.{name}" for name in item.classes]
    return True


def _expression_names(item: Item) -> tuple[str, ...]:
    if not isinstance(item, FaceState):
        return ()
    try:
        return load_head(item.head_model).expression_names
    except EiferError:  # a head that is not on this machine: its coefficients are numbered
        return ()


def read_parquet(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Columns of a Parquet file by header.

    Raises InputError for a file that is half-written or something else.
    """
    pa, pq = arrow()
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path}: not a whole Parquet file ({str(error).splitlines()[0]}); it was cut off or is something else"
        ) from None
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
