"""Tables as text: CSV, and a sheet of an Office Open XML workbook (.xlsx), which openpyxl reads (extra `files`).

Values are all that is read; formulas count with the value they had when the file was saved.
"""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from typing import Any

from ...errors import InputError, MissingExtra

SUFFIXES = (".xlsx", ".csv", ".txt", ".tsv")
MOST_BYTES = 200 << 20
"""A workbook with a part larger than this is refused: label tables have kilobytes."""
MOST_ROWS = 100_000
"""Rows below are not read: the number of a damaged row can be any."""


def read_table(path: Path, prefer: str = "") -> list[list[str]]:
    """Rows of cells as text, empty cells as "", whole numbers without a decimal point; a row may be shorter
    than others.

    Parameters
    ----------
    path
        A .xlsx, .csv, .txt or .tsv file.
    prefer
        A workbook's sheet to take where it has one of that name; else the first.

    Raises
    ------
    InputError
        The file is missing, of another kind or damaged.
    MissingExtra
        The file is a workbook and openpyxl is not installed.
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
        import openpyxl
    except ImportError:
        raise MissingExtra("openpyxl", "files", f"{path}: a workbook") from None
    _refuse_bombs(path)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            sheets = {sheet.title: sheet for sheet in book.worksheets}
            if not sheets:
                raise InputError(f"{path}: the workbook has no sheet")
            sheet = sheets.get(prefer, book.worksheets[0])
            sheet.reset_dimensions()  # what a file says of its size is often wrong
            rows = sheet.iter_rows(max_row=MOST_ROWS, values_only=True)
            return [[_cell(value) for value in row] for row in rows]
        finally:
            book.close()
    except InputError:
        raise
    except Exception as error:  # openpyxl lets through whatever its XML and ZIP readers raise
        raise InputError(f"{path}: not a whole .xlsx workbook ({error})") from None


def _refuse_bombs(path: Path) -> None:
    """Raise InputError for parts that would fill the memory: openpyxl unpacks them unseen."""
    try:
        with zipfile.ZipFile(path) as archive:
            for part in archive.infolist():
                if part.file_size > MOST_BYTES:
                    raise InputError(
                        f"{path}: {part.filename} holds more than {MOST_BYTES >> 20} MB; this is no label table"
                    )
                # entities could unfold without end; a workbook has none
                with archive.open(part) as stream:
                    if b"<!DOCTYPE" in stream.read(4096):
                        raise InputError(
                            f"{path}: {part.filename} declares a document type, which a workbook never does"
                        )
    except InputError:
        raise
    except Exception as error:  # zipfile and zlib raise eight kinds for damaged archives
        raise InputError(f"{path}: not a whole .xlsx workbook ({error})") from None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
