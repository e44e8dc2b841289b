"""Small collections in the layouts of CASME II, SAMM and CAS(ME)3: tables as workbook or CSV, frames in
folders.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np

CASME2_COLUMNS = (
    "Subject",
    "Filename",
    "",
    "OnsetFrame",
    "ApexFrame",
    "OffsetFrame",
    "",
    "Action Units",
    "Estimated Emotion",
)
SAMM_COLUMNS = (
    "Subject",
    "Filename",
    "Inducement Code",
    "Onset Frame",
    "Apex Frame",
    "Offset Frame",
    "Duration",
    "Micro",
    "Action Units",
    "Estimated Emotion",
    "Objective Classes",
    "Notes",
)
CASME3_COLUMNS = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion")


def write_xlsx(
    path: Path,
    rows: Iterable[Sequence[object]],
    sheet: str = "Sheet1",
    others: Sequence[str] = (),
    inline: bool = False,
) -> None:
    """A workbook as Excel saves it: shared strings (or inline ones), numbers as numbers, empty cells and rows
    left out.
    """
    strings: list[str] = []

    def cell(column: int, row: int, value: object) -> str:
        letters = (chr(64 + column // 26) if column >= 26 else "") + chr(65 + column % 26)
        place = f'r="{letters}{row}"'
        if isinstance(value, int | float):
            return f"<c {place}><v>{value!r}</v></c>"
        if inline:
            return f'<c {place} t="inlineStr"><is><t xml:space="preserve">{escape(str(value))}</t></is></c>'
        strings.append(str(value))
        return f'<c {place} t="s"><v>{len(strings) - 1}</v></c>'

    lines = []
    for number, row in enumerate(rows, start=1):
        cells = "".join(cell(k, number, value) for k, value in enumerate(row) if value not in ("", None))
        if cells:
            lines.append(f'<row r="{number}">{cells}</row>')
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    names = [*others, sheet]
    listed = "".join(
        f'<sheet name="{name}" sheetId="{k}" r:id="rId{k}"/>' for k, name in enumerate(names, start=1)
    )
    links = "".join(
        f'<Relationship Id="rId{k}" Type="{office}/worksheet" Target="worksheets/sheet{k}.xml"/>'
        for k in range(1, len(names) + 1)
    )
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts = [("workbook", "sheet.main"), ("sharedStrings", "sharedStrings")]
    parts += [(f"worksheets/sheet{k}", "worksheet") for k in range(1, len(names) + 1)]
    kinds = "".join(
        f'<Override PartName="/xl/{part}.xml" ContentType="{kind}.{name}+xml"/>'
        for part, name in parts
        if strings or part != "sharedStrings"
    )
    empty = f'{head}<worksheet xmlns="{main}"><sheetData/></worksheet>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'{head}<Types xmlns="{package.replace("relationships", "content-types")}">{kinds}</Types>',
        )
        archive.writestr(
            "xl/workbook.xml",
            f'{head}<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{listed}</sheets></workbook>',
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels", f'{head}<Relationships xmlns="{package}">{links}</Relationships>'
        )
        for k in range(1, len(names)):
            archive.writestr(f"xl/worksheets/sheet{k}.xml", empty)
        archive.writestr(
            f"xl/worksheets/sheet{len(names)}.xml",
            f'{head}<worksheet xmlns="{main}"><sheetData>{"".join(lines)}</sheetData></worksheet>',
        )
        if strings:
            items = "".join(
                # every other string in runs, as Excel writes a cell with two fonts
                f"<si><r><t>{escape(text[:1])}</t></r><r><t>{escape(text[1:])}</t></r></si>"
                if k % 2
                else f"<si><t>{escape(text)}</t></si>"
                for k, text in enumerate(strings)
            )
            archive.writestr(
                "xl/sharedStrings.xml", f'{head}<sst xmlns="{main}" count="{len(strings)}">{items}</sst>'
            )


def write_csv(path: Path, rows: Iterable[Sequence[object]], delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(
            ["" if value is None else value for value in row] for row in rows
        )


def write_frames(
    folder: Path, numbers: Iterable[int], name: str = "img{}.jpg", size: tuple[int, int] = (32, 24)
) -> None:
    """Grey pictures whose brightness is the frame's number modulo 200."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        assert cv2.imwrite(
            str(folder / name.format(number)), np.full((size[1], size[0], 3), number % 200, np.uint8)
        )


def casme2(
    root: Path, rows: Sequence[Sequence[object]] | None = None, table: str = "CASME2-coding-20140508.xlsx"
) -> Path:
    """Three clips of two subjects."""
    raw = root / "CASME2_RAW_selected"
    write_frames(raw / "sub01" / "EP02_01f", range(40, 92))
    write_frames(raw / "sub01" / "EP03_02", [n for n in range(1, 61) if n not in (20, 21)])
    write_frames(raw / "sub04" / "EP12_01f", range(261, 322))
    rows = (
        rows
        if rows is not None
        else [
            (1, "EP02_01f", None, 46, 59, 86, None, 12, "happiness"),
            (1, "EP03_02", None, 11, 29, 55, None, "4+L10", "disgust"),
            (4, "EP12_01f", None, 261, "/", 321, None, "R4", "others"),
        ]
    )
    (write_xlsx if table.endswith("xlsx") else write_csv)(root / table, [CASME2_COLUMNS, *rows])
    return root


def samm(root: Path, rows: Sequence[Sequence[object]] | None = None) -> Path:
    write_frames(root / "SAMM" / "006" / "006_1_2", range(5562, 5590), "006_{:05d}.jpg")
    write_frames(root / "SAMM" / "011" / "011_6_1", range(8990, 9010), "011_{:04d}.jpg")
    rows = (
        rows
        if rows is not None
        else [
            (6, "006_1_2", 1, 5562, 5569, 5588, 27, "Micro - 1/2", "AU4B", "Anger", 3, ""),
            (11, "011_6_1", 6, 8990, -1, 9009, 20, "Micro - 1/2", "R14A or 17A", "Contempt", 8, "unsure"),
        ]
    )
    notes: list[Sequence[object]] = [
        ("SAMM: Spontaneous Actions and Micro-Movements",),
        (),
        ("Version 2",),
        *((f"note {k}",) for k in range(10)),
    ]
    write_xlsx(root / "SAMM_Micro_FACS_Codes_v2.xlsx", [*notes, SAMM_COLUMNS, *rows], "MICRO_ONLY")
    return root


def casme3(root: Path, clips: bool = True) -> Path:
    """As cut clips, or as whole videos with two events in one."""
    root.mkdir(parents=True, exist_ok=True)
    rows = [
        ("spNO.1", "a", 355, 361, 369, "4", "III", "disgust"),
        ("spNO.1", "a", 402, 405, 0, "L12", "VII", "happy"),
    ]
    write_xlsx(
        root / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx",
        [CASME3_COLUMNS, *rows],
        "label",
        others=("read me",),
    )
    if clips:
        for onset, last in ((355, 369), (402, 412)):
            for part, suffix in (("frame", "jpg"), ("depth", "png")):
                write_frames(
                    root / "Part_A_ME_clip" / part / f"spNo.1_a_{onset}",
                    range(onset, last + 1),
                    f"{{}}.{suffix}",
                )
    else:
        write_frames(root / "part_A" / "spNO.1" / "a" / "color", range(340, 460), "{}.jpg")
        write_frames(root / "part_A" / "spNO.1" / "a" / "depth", range(340, 460), "{}.png")
    return root
