"""Tables as text: CSV, and a sheet of an Office Open XML workbook (.xlsx, ECMA-376 part 1, section 18).

A workbook is a ZIP of XML files; values are all that is read, formulas count with the value they had when the
file was saved.
"""

from __future__ import annotations

import csv
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from ...errors import InputError

SUFFIXES = (".xlsx", ".csv", ".txt", ".tsv")
MOST_BYTES = 200 << 20
"""A part of a workbook larger than this is refused: label tables have kilobytes."""

_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ElementTree.ParseError,
    KeyError,
    IndexError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


def read_table(path: Path, prefer: str = "") -> list[list[str]]:
    """Rows of cells as text, empty cells as "", whole numbers without a decimal point; a row may be shorter
    than others.

    prefer: a workbook's sheet to take where it has one of that name; else the first. Raises InputError for a
    file that is missing, of another kind or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix == ".xls":
        raise InputError(f"{path}: the binary format of Excel 97 is not read; save it as .xlsx or .csv")
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: a table must be .xlsx or .csv")
    return _workbook(path, prefer) if suffix == ".xlsx" else _text(path)


def _text(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    first = text[:8192]
    delimiter = max(",;\t", key=first.count)
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter)]
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV table ({error})") from None


def _workbook(path: Path, prefer: str) -> list[list[str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            return list(_rows(archive, path, prefer))
    except _BROKEN as error:
        raise InputError(f"{path}: not a whole .xlsx workbook ({error})") from None


def _part(archive: zipfile.ZipFile, path: Path, name: str) -> ElementTree.Element:
    if archive.getinfo(name).file_size > MOST_BYTES:
        raise InputError(f"{path}: {name} holds more than {MOST_BYTES >> 20} MB; this is no label table")
    data = archive.read(name)
    if b"<!DOCTYPE" in data[:4096]:  # entities could unfold without end; a workbook has none
        raise InputError(f"{path}: {name} declares a document type, which a workbook never does")
    return ElementTree.fromstring(data)


def _local(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _text_of(element: ElementTree.Element) -> str:
    """The text of a string item: plain or in runs; phonetic readings (rPh) are not part of it."""
    if _local(element) == "t":
        return element.text or ""
    return "".join(_text_of(child) for child in element if _local(child) in ("t", "r", "is"))


def _rows(archive: zipfile.ZipFile, path: Path, prefer: str) -> Iterator[list[str]]:
    book = _part(archive, path, "xl/workbook.xml")
    sheets = {e.attrib["name"]: e.attrib[_RELATION] for e in book.iter() if _local(e) == "sheet"}
    if not sheets:
        raise InputError(f"{path}: the workbook has no sheet")
    relation = sheets.get(prefer, next(iter(sheets.values())))
    targets = {e.attrib["Id"]: e.attrib["Target"] for e in _part(archive, path, "xl/_rels/workbook.xml.rels")}
    target = targets[relation]
    name = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join("xl", target))
    shared: list[str] = []
    if "xl/sharedStrings.xml" in archive.namelist():
        shared = [
            _text_of(item) for item in _part(archive, path, "xl/sharedStrings.xml") if _local(item) == "si"
        ]
    number = 0
    for row in (e for e in _part(archive, path, name).iter() if _local(e) == "row"):
        stated = int(row.attrib.get("r", number + 1))
        # empty rows need not be stored; the numbers in messages are those a spreadsheet shows
        for _ in range(number + 1, min(stated, number + 10_000)):
            yield []
        number = stated
        cells: list[str] = []
        for cell in (e for e in row if _local(e) == "c"):
            column = _column(cell.attrib["r"]) if "r" in cell.attrib else len(cells)
            cells += [""] * (column - len(cells))
            cells.append(_value(cell, shared).strip())
        yield cells


def _column(reference: str) -> int:
    """`AB12` -> 27."""
    letters = re.match(r"[A-Z]{1,3}", reference)
    if letters is None:
        raise ValueError(f"cell reference '{reference}'")
    number = 0
    for letter in letters[0]:
        number = 26 * number + ord(letter) - 64
    return number - 1


def _value(cell: ElementTree.Element, shared: list[str]) -> str:
    kind = cell.attrib.get("t", "n")
    if kind == "inlineStr":
        return "".join(_text_of(child) for child in cell if _local(child) == "is")
    text = next((child.text or "" for child in cell if _local(child) == "v"), "")
    if kind == "s":
        return shared[int(text)]
    if kind == "n" and text:
        number = float(text)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else text
    return text
