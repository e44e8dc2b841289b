"""The micro-expression collections CASME II, SAMM and CAS(ME)3: label table and folders of frames.

Layouts as their owners give them out:
- CASME II (Yan et al. 2014): `CASME2-coding-*.xlsx` with Subject, Filename, OnsetFrame, ApexFrame,
  OffsetFrame, Action Units,
  Estimated Emotion; frames `sub01/EP02_01f/img46.jpg`, `reg_img46.jpg` where cropped; 200 frames/s.
- SAMM (Davison et al. 2018): `SAMM_Micro_FACS_Codes_v2.xlsx`, whose header (Subject, Filename, Inducement
  Code, Onset Frame, Apex Frame,
  Offset Frame, Duration, Micro, Action Units, Estimated Emotion, Objective Classes, Notes) stands below a
  block of notes; frames `006/006_1_2/006_05562.jpg`, numbered within the long video; 200 frames/s.
- CAS(ME)3 part A (Li et al. 2022): `cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx` with Subject, Filename, Onset,
  Apex, Offset, AU,
  Objective class, emotion; frames of the clips `frame/spNO.1_a_355/355.jpg` or of whole videos
  `spNO.1/a/color/355.jpg`; 30 frames/s.

Odd, and taken care of here: subjects are numbers in the table and `sub01`, `006` on disk; letter case differs
between CAS(ME)3's table and folders; an apex or offset that is not known is written `/`, left empty, or 0 or
-1; frames are missing in the middle or at the end of clips. Frame numbers mean the file of that number,
whatever the first one is: nothing is counted from the start of a folder. The collections may not be passed
on; eifer reads them where their owner put them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...camera.folder import SUFFIXES as PICTURES
from ...errors import InputError, did_you_mean
from ...types import EVENT_REGIONS, UNKNOWN_LABEL
from .sheets import SUFFIXES, read_table

UPPER_UNITS = frozenset({1, 2, 4, 5, 6, 7, 41, 42, 43, 44, 45, 46})
"""Action units of brows, lids and the cheek below the eye."""
LOWER_UNITS = frozenset((*range(8, 40),))
"""Action units of nose, mouth and chin; 50 and above are movements of head and eyes, which are no expression.
"""

_ALIASES = {
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "disgusted": "disgust",
    "fearful": "fear",
    "angry": "anger",
    "other": "others",
}
_ROLES: Mapping[str, tuple[str, ...]] = {
    "subject": ("subject",),
    "clip": ("filename",),
    "onset": ("onsetframe", "onset"),
    "apex": ("apexframe", "apex"),
    "offset": ("offsetframe", "offset"),
    "units": ("actionunits", "au", "actionunit"),
    "label": ("estimatedemotion", "emotion"),
    "objective": ("objectiveclasses", "objectiveclass"),
}
_NEEDED = ("subject", "clip", "onset", "apex", "offset")


@dataclass(frozen=True)
class Collection:
    """One of the collections: how its table and folders are called.

    columns: as its owner writes the needed ones.
    """

    kind: str
    name: str
    rate_hz: float
    classes: tuple[str, ...]
    tables: tuple[str, ...]
    columns: str

    def subject(self, text: str) -> str:
        """A subject of the table as its folder is called."""
        plain = re.sub(r"\.0*$", "", text) if re.fullmatch(r"\d+\.0*", text) else text
        if plain.isdigit():
            return {"casme2": f"sub{int(plain):02d}", "samm": f"{int(plain):03d}"}.get(self.kind, plain)
        return plain


_SIX = ("happiness", "disgust", "surprise")
COLLECTIONS: Mapping[str, Collection] = {
    each.kind: each
    for each in (
        Collection(
            "casme2",
            "CASME II",
            200.0,
            (*_SIX, "repression", "sadness", "fear", "others"),
            ("casme2*coding*", "casme*ii*coding*"),
            "Subject, Filename, OnsetFrame, ApexFrame, OffsetFrame, Action Units, Estimated Emotion",
        ),
        Collection(
            "samm",
            "SAMM",
            200.0,
            (*_SIX, "contempt", "sadness", "fear", "anger", "others"),
            ("samm*micro*", "samm*facs*"),
            "Subject, Filename, Onset Frame, Apex Frame, Offset Frame, Action Units, Estimated Emotion",
        ),
        Collection(
            "casme3",
            "CAS(ME)3",
            30.0,
            (*_SIX, "sadness", "fear", "anger", "others"),
            ("cas(me)3*me*label*", "cas(me)3*me*", "casme3*"),
            "Subject, Filename, Onset, Apex, Offset, AU, Objective class, emotion",
        ),
    )
}


@dataclass(frozen=True)
class LabelRow:
    """One row of a table: frame numbers, None for an apex or offset that is not known; row: as a spreadsheet
    numbers it.
    """

    row: int
    subject: str
    clip: str
    onset: int
    apex: int | None
    offset: int | None
    label: str
    written: str
    units: str
    objective: str

    @property
    def name(self) -> str:
        """`sub01/EP02_01f frame 46`."""
        return f"{self.subject}/{self.clip} frame {self.onset}"


@dataclass
class Clip:
    """A folder of frames and what happens in it. frames: files by their number, in order."""

    subject: str
    name: str
    folder: Path
    frames: dict[int, Path]
    rows: list[LabelRow] = field(default_factory=list)


@dataclass
class Index:
    """What an import can use. notes: what is odd. failures: rows that cannot be used, and why."""

    collection: Collection
    table: Path
    clips: list[Clip]
    notes: list[str]
    failures: dict[str, str]

    @property
    def subjects(self) -> tuple[str, ...]:
        """In order of the table."""
        return tuple(dict.fromkeys(clip.subject for clip in self.clips))


def collection(kind: str) -> Collection:
    """The collection of that name. Raises InputError for another."""
    if kind not in COLLECTIONS:
        raise InputError(
            f"collection '{kind}'{did_you_mean(kind, COLLECTIONS)}; known are {', '.join(COLLECTIONS)}"
        )
    return COLLECTIONS[kind]


def read_index(kind: str, root: Path, table: Path | None = None, frames: Path | None = None) -> Index:
    """Table and folders of the collection `kind` in folder `root`; pictures are looked for, not opened.

    table, frames: where they are if not to be looked for. A row that cannot be used is a failure, not an
    error. Raises InputError where there is no table, a needed column is missing, or no row can be used.
    """
    which = collection(kind)
    if not root.is_dir():
        raise InputError(
            f"{root}: no such folder; give the folder that holds the label table and the frames of {which.name}"
        )
    path = table or _find_table(root, which)
    notes: list[str] = []
    failures: dict[str, str] = {}
    rows = list(_labelled(path, which, notes, failures))
    total = len(rows) + len(failures)
    folders = _Folders(frames or root, which)
    clips: dict[Path, Clip] = {}
    for row in rows:
        try:
            folder = folders.of(row)
            if folder not in clips:
                clips[folder] = Clip(row.subject, row.clip, folder, _numbered(folder))
            clips[folder].rows.append(_checked(row, clips[folder], path, which.rate_hz, notes))
        except InputError as error:
            failures[row.name] = str(error)
    usable = [clip for clip in clips.values() if clip.rows]
    if not usable:
        reason = next(iter(failures.values()), "the table has no row")
        raise InputError(f"{path}: none of its {total} rows can be used; the first: {reason}")
    for clip in usable:
        _gaps(clip, notes)
    return Index(which, path, usable, notes, failures)


# ---- the table --------------------------------------------------------------------------------------------------------------


def _find_table(root: Path, which: Collection) -> Path:
    candidates = sorted(_tables(root, 3))
    for pattern in which.tables:
        matches = [path for path in candidates if Path(path.name.lower()).match(pattern)]
        if len(matches) > 1:
            listed = ", ".join(str(path.relative_to(root)) for path in matches)
            raise InputError(
                f"{root}: {listed} could each be the label table; name the right one with --table"
            )
        if matches:
            return matches[0]
    there = (
        f"; tables there: {', '.join(path.name for path in candidates[:5])} (name one with --table)"
        if candidates
        else ""
    )
    raise InputError(f"{root}: no label table of {which.name} (.xlsx or .csv with {which.columns}){there}")


def _tables(folder: Path, levels: int) -> Iterator[Path]:
    """Table files in a folder and those below it; further down there are only pictures, up to millions of
    them.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if levels > 1:
                    yield from _tables(Path(entry.path), levels - 1)
            elif entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(("~$", ".")):
                yield Path(entry.path)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _header(table: list[list[str]], path: Path, which: Collection) -> tuple[int, dict[str, int]]:
    """Number of the header row and the column of each role."""
    best: tuple[int, list[str]] = (-1, list(_NEEDED))
    for number, cells in enumerate(table):
        names = [_plain(cell) for cell in cells]
        columns = {
            role: next(names.index(n) for n in aliases if n in names)
            for role, aliases in _ROLES.items()
            if set(aliases) & set(names)
        }
        missing = [role for role in _NEEDED if role not in columns]
        if not missing:
            return number, columns
        if len(missing) < len(best[1]):
            best = number, missing
    if best[0] >= 0:
        held = ", ".join(cell for cell in table[best[0]] if cell)
        lacking = ", ".join("Filename" if role == "clip" else role.capitalize() for role in best[1])
        raise InputError(
            f"{path}: row {best[0] + 1} lacks the column {lacking}; it has {held}, {which.name} has {which.columns}"
        )
    raise InputError(f"{path}: no row of it names the columns of {which.name}: {which.columns}")


def _labelled(
    path: Path, which: Collection, notes: list[str], failures: dict[str, str]
) -> Iterator[LabelRow]:
    table = read_table(path, "label")  # as the sheet of CAS(ME)3 is called
    head, columns = _header(table, path, which)
    subject = ""
    clip = ""
    for number, cells in enumerate(table[head + 1 :], start=head + 2):

        def cell(role: str, cells: list[str] = cells) -> str:
            place = columns.get(role, -1)
            return cells[place] if 0 <= place < len(cells) else ""

        if not any(cells):
            continue
        subject = which.subject(cell("subject"))
        clip = cell("clip")
        where = f"row {number}"
        if not subject or not clip:
            failures[where] = f"{path}: row {number}: no {'Subject' if not subject else 'Filename'}"
            continue
        try:
            onset = _frame(cell("onset"), path, number, "onset")
            if onset is None:
                raise InputError(
                    f"{path}: row {number}: the onset of {subject}/{clip} is '{cell('onset')}'; an event needs one"
                )
            apex, offset = (_frame(cell(role), path, number, role) for role in ("apex", "offset"))
        except InputError as error:
            failures[f"{subject}/{clip} ({where})"] = str(error)
            continue
        written = cell("label")
        label = _ALIASES.get(written.strip().lower(), written.strip().lower())
        if label not in which.classes:
            if written:
                hint = did_you_mean(label, which.classes)
                notes.append(
                    f"{subject}/{clip}: emotion '{written}' is none of {which.name}'s{hint}, taken as unknown"
                )
            label = UNKNOWN_LABEL
        yield LabelRow(
            number, subject, clip, onset, apex, offset, label, written, cell("units"), cell("objective")
        )


def _frame(text: str, path: Path, row: int, role: str) -> int | None:
    """A frame number; None where the table says that it is not known. Raises InputError for anything else."""
    plain = text.strip()
    if plain.lower() in ("", "/", "\\", "-", "nan", "na", "n/a", "none", "unknown"):
        return None
    match = re.fullmatch(r"(-?\d+)(?:\.0*)?", plain)
    if match is None:
        raise InputError(
            f"{path}: row {row}: the {role} is '{text}'; it must be a frame number, or / where it is not known"
        )
    number = int(match[1])
    return None if number < 0 or (number == 0 and role != "onset") else number


# ---- the folders ------------------------------------------------------------------------------------------------------------


class _Folders:
    """Folders by name under a root, up to four levels down, whatever their letter case."""

    def __init__(self, root: Path, which: Collection) -> None:
        self._root = root
        self._which = which
        self._by_name: dict[str, list[Path]] = {}
        self._scan(root, 4)

    def _scan(self, folder: Path, levels: int) -> None:
        with os.scandir(folder) as entries:
            # depth pictures of CAS(ME)3 lie in folders of the same names as the colour ones
            below = sorted(
                entry.path for entry in entries if entry.is_dir() and entry.name.lower() != "depth"
            )
        for path in map(Path, below):
            self._by_name.setdefault(path.name.lower(), []).append(path)
            if levels > 1:
                self._scan(path, levels - 1)

    def of(self, row: LabelRow) -> Path:
        """The folder with the frames of a row. Raises InputError where there is none, or more than one."""
        candidates: list[tuple[str, ...]] = [(row.subject, row.clip)]
        if self._which.kind == "casme3":
            candidates = [
                (f"{row.subject}_{row.clip}_{row.onset}",),
                (row.subject, row.clip, "color"),
                (row.subject, row.clip),
            ]
        for names in candidates:
            last = [
                path
                for path in self._by_name.get(names[-1].lower(), ())
                if _ends(path, names) and _numbered(path)
            ]
            if len(last) > 1:
                listed = ", ".join(str(path.relative_to(self._root)) for path in last)
                raise InputError(f"{row.name}: {listed} could each hold its frames; choose with --frames")
            if last:
                return last[0]
        tried = " or ".join("/".join(names) for names in candidates)
        raise InputError(
            f"{row.name}: no frames; looked for a folder {tried} with pictures under {self._root}"
        )


def _ends(path: Path, names: tuple[str, ...]) -> bool:
    return tuple(part.lower() for part in path.parts[-len(names) :]) == tuple(name.lower() for name in names)


def _numbered(folder: Path) -> dict[int, Path]:
    """Picture files of a folder by the last number in their name, in order."""
    numbered: dict[int, Path] = {}
    with os.scandir(folder) as entries:
        for path in (Path(entry.path) for entry in entries if entry.is_file()):
            number = re.search(r"(\d+)$", path.stem)
            if number is not None and path.suffix.lower() in PICTURES:
                numbered[int(number[1])] = path
    return dict(sorted(numbered.items()))


def _checked(row: LabelRow, clip: Clip, table: Path, rate_hz: float, notes: list[str]) -> LabelRow:
    """The row with its offset filled in, or InputError where its numbers cannot be."""
    numbers = list(clip.frames)
    where = f"{table}: row {row.row} ({row.subject}/{row.clip})"
    offset = row.offset
    if offset is None:
        # the end of a clip that was cut around one event is near the event's; that of a whole video says
        # nothing
        if clip.rows or not 0 < numbers[-1] - row.onset <= rate_hz:
            raise InputError(
                f"{where}: its offset is not known, and its frames ({numbers[0]} .. {numbers[-1]}) do not tell it"
            )
        offset = numbers[-1]
        notes.append(f"{row.name}: its offset is not known; taken to last until the last frame, {offset}")
    if offset < row.onset:
        raise InputError(f"{where}: onset {row.onset} lies after offset {offset}; correct the table")
    if row.apex is not None and not row.onset <= row.apex <= offset:
        raise InputError(
            f"{where}: apex {row.apex} lies outside onset {row.onset} .. offset {offset}; correct the table, or write / for an unknown apex"
        )
    if not any(row.onset <= number <= offset for number in numbers):
        raise InputError(
            f"{where}: frames {row.onset} .. {offset} are all missing; {clip.folder} holds {numbers[0]} .. {numbers[-1]}"
        )
    absent = [n for n in (row.onset, row.apex, offset) if n is not None and n not in clip.frames]
    if absent:
        notes.append(
            f"{row.name}: the table names frames that are missing: {', '.join(map(str, dict.fromkeys(absent)))}"
        )
    if row.apex is None:
        notes.append(f"{row.name}: its apex is not known; taken in the middle")
    return replace(row, offset=offset)


def _gaps(clip: Clip, notes: list[str]) -> None:
    numbers = list(clip.frames)
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    if missing:
        span = f"{numbers[0]} .. {numbers[-1]}"
        notes.append(
            f"{clip.subject}/{clip.name}: {missing} of its frames {span} are missing; time goes on over them"
        )


# ---- action units -----------------------------------------------------------------------------------------------------------


def regions_of_units(text: str) -> tuple[str, ...]:
    """Regions in which action units as the tables write them move (`4+L10`, `R12`, `R14A or 17A`), in order
    of mention.

    L and R are the subject's sides, as in FACS; a unit without one moves both. Empty where no unit of the
    face is named.
    """
    regions: dict[str, None] = {}
    for side, number in re.findall(r"(?<![A-Za-z0-9])([LRlr]?)\s*(?:[AaUuTtBb]{0,2})\s*(\d{1,3})", text):
        unit = int(number)
        part = "eye" if unit in UPPER_UNITS else "lips" if unit in LOWER_UNITS else ""
        if part:
            sides = {"l": ("left",), "r": ("right",), "": ("left", "right")}[side.lower()]
            regions.update(dict.fromkeys(f"{part}_{each}" for each in sides))
    return tuple(name for name in regions if name in EVENT_REGIONS)
