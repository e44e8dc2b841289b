"""Per-frame parameter tables of seven face reconstruction methods, as the MMM data set publishes them.

Column groups and counts from the README of MMM (eifer-mam.github.io, 2026). Groups keep the meaning of each
method's own code: DECA and EMOCAv2 `pose` is global rotation (3) then jaw (3); SMIRK and EIFER `cam` is
scale, x, y.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError, did_you_mean
from ...head import flame_rows
from ...types import ARKIT_52, F64

XYZ = ("x", "y", "z")


@dataclass(frozen=True)
class Method:
    """One method's table: groups and their sizes in published order, and which columns are the expression.

    expression: names of the columns that hold what muscles do (expression, jaw, lids; not identity, light or
    camera). flame: the expression lives in FLAME's space; names are those of `columns`.
    """

    name: str
    groups: tuple[tuple[str, int], ...]
    expression: tuple[str, ...]
    flame: bool = False
    named: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names, `group_index`; blendshape names for MediaPipe."""
        if self.named:
            return self.named
        return tuple(
            f"{group}_{XYZ[i]}" if group in ("angle", "t") else f"{group}_{i}"
            for group, count in self.groups
            for i in range(count)
        )


def _of(group: str, count: int, start: int = 0) -> tuple[str, ...]:
    return tuple(f"{group}_{i}" for i in range(start, start + count))


_DECA = (("idt", 100), ("exp", 50), ("pose", 6), ("cam", 3), ("light", 27), ("tex", 50))
_EIFER_EXPRESSION = (*_of("exp", 50), *_of("eyelid", 2), *_of("jaw", 3))
METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("DECA", _DECA, (*_of("exp", 50), *_of("pose", 3, 3)), True),
        Method("EMOCAv2", _DECA, (*_of("exp", 50), *_of("pose", 3, 3)), True),
        Method(
            "Deep3DFace",
            (("idt", 80), ("exp", 64), ("tex", 80), ("angle", 3), ("gamma", 27), ("t", 3)),
            _of("exp", 64),
        ),
        Method("EIFER", flame_rows.GROUPS, _EIFER_EXPRESSION, True),
        Method("SMIRK", flame_rows.GROUPS, _EIFER_EXPRESSION, True),
        Method("FOCUS", (("idt", 199), ("exp", 100), ("tex", 199), ("cam", 6), ("sh", 27)), _of("exp", 100)),
        Method("MediaPipe", (("blendshape", 52),), ARKIT_52, named=ARKIT_52),
    )
}
"""The seven, by the names of their folders."""


def method_named(name: str) -> Method:
    """The method of that name, whatever its case. Raises InputError with the nearest name."""
    for key, method in METHODS.items():
        if key.casefold() == name.casefold():
            return method
    raise InputError(
        f"reconstruction method '{name}' is not known{did_you_mean(name, METHODS)}; known are {', '.join(METHODS)}"
    )


@dataclass(frozen=True)
class Parameters:
    """A method's table: values (N, C) float64, NaN where a cell was empty, C columns in `method.columns`
    order.
    """

    method: Method
    values: F64

    def part(self, names: Sequence[str]) -> F64:
        """(N, len(names)) columns by name."""
        where = {name: index for index, name in enumerate(self.method.columns)}
        return self.values[:, [where[name] for name in names]]

    @property
    def expression(self) -> F64:
        """(N, E) what muscles do, in the method's own space."""
        return self.part(self.method.expression)


def read_parameters(path: Path, method: str | Method) -> Parameters:
    """A `.csv` or `.csv.gz` table of `method`, one row per video frame.

    With a header, columns are found by group and number in any order (`exp0`, `exp_0`, `exp 0`); a header of
    other names and a table without one must have the published order. An unnamed index column before the
    others is passed over. Raises InputError that says what the file holds instead, and of which method it
    looks.
    """
    parsed = method if isinstance(method, Method) else method_named(method)
    rows = _cells(path)
    head = [cell.strip() for cell in rows[0]]
    named = any(re.search("[A-Za-z]", cell) and cell.lower() not in ("nan", "inf", "-inf") for cell in head)
    body = rows[1:] if named else rows
    if not body:
        raise InputError(f"{path}: holds a header and no row")
    pick = _pick(path, head if named else None, len(head), parsed)
    values = np.full((len(body), len(parsed.columns)), np.nan)
    first = 2 if named else 1
    for number, row in enumerate(body):
        if len(row) != len(head):
            raise InputError(
                f"{path}: line {number + first} has {len(row)} columns, the first line has {len(head)}; was it cut off?"
            )
        for column, index in enumerate(pick):
            if index is not None and row[index].strip():
                try:
                    values[number, column] = float(row[index])
                except ValueError:
                    raise InputError(
                        f"{path}: line {number + first}, column {index + 1}: '{row[index][:30]}' is no number"
                    ) from None
    for column, index in enumerate(pick):
        if index is None:
            values[:, column] = 0.0
    return Parameters(parsed, values)


def _cells(path: Path) -> list[list[str]]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); is the download complete?") from None
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if not rows:
        raise InputError(f"{path}: is empty")
    return rows


def _pick(path: Path, head: list[str] | None, width: int, method: Method) -> list[int | None]:
    """Where each column of `method` stands in the file; None for a column that is 0 there (MediaPipe's
    tongueOut).
    """
    columns = method.columns
    if head is not None:
        where = {_plain(name): index for index, name in enumerate(head)}
        indices = [where.get(_plain(name)) for name in columns]
        missing = [name for name, index in zip(columns, indices, strict=True) if index is None]
        if not missing or (method.named and missing == ["tongueOut"]):
            return indices
        if len(missing) < len(columns):
            lacks = f"has no column '{missing[0]}' of {method.name} ({len(missing)} are missing)"
            raise InputError(f"{path}: {lacks}{_looks_like(head, width)}")
    if method.named:
        raise InputError(
            f"{path}: its columns are not named as {method.name}'s blendshapes are (jawOpen, ...){_looks_like(head, width)}"
        )
    extra = width - len(columns)
    if extra not in (0, 1) or (head is not None and extra == 1 and head[0]):
        raise InputError(
            f"{path}: has {width} columns; {method.name} has {len(columns)}{_looks_like(head, width)}"
        )
    return list(range(extra, width))


def _plain(name: str) -> str:
    return re.sub(r"[\s_.\-]+", "", name).casefold()


def _looks_like(head: list[str] | None, width: int) -> str:
    for method in METHODS.values():
        if width in (len(method.columns), len(method.columns) + 1) or (
            head is not None and {_plain(name) for name in method.columns} <= {_plain(name) for name in head}
        ):
            return f"; it looks like a table of {method.name}"
    return ""


def as_eifer_rows(parameters: Parameters) -> F64:
    """(N, 361) EIFER rows of a table in FLAME's space: DECA's 100 shape coefficients are FLAME's first, its
    lids are open.

    Raises InputError for a method with another face model.
    """
    method = parameters.method
    if not method.flame:
        raise InputError(f"{method.name} does not use FLAME; its parameters cannot be written as EIFER rows")
    if len(method.columns) == flame_rows.COLUMNS:
        return parameters.values
    rows = np.zeros((len(parameters.values), flame_rows.COLUMNS))
    where = flame_rows.SLICES
    rows[:, :100] = parameters.part(_of("idt", 100))
    rows[:, where["exp"]] = parameters.part(_of("exp", 50))
    rows[:, where["pose"]] = parameters.part(_of("pose", 3))
    rows[:, where["jaw"]] = parameters.part(_of("pose", 3, 3))
    rows[:, where["cam"]] = parameters.part(_of("cam", 3))
    return rows
