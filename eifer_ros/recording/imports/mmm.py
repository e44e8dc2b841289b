"""The public data sets MMM (Mimics, Muscles, and Me) and MaM (Mimics and Muscles): index, clips, and what is
odd about them.

Layout from the README of MMM (eifer-mam.github.io, 2026): `MMM.csv` has one row per clip, `MMM_3DMM.csv` one
path per method; `emg/` holds 22 envelopes at the video's 30 frames/s, `video/` the pictures with electrodes,
`video_noelec/` the restored ones, `video_noelec_params/METHOD/` what seven methods fitted to the *restored*
pictures. A clip's name is `{pid}_{rec}_{mode}_{task_seq}_{task}`, `99_2S_emotion_12_happy`; `rec` ends in S
(sensors) or N (none).

Odd, and taken care of here: participant ids are text (`007`; a spreadsheet makes 7 of it); N sessions call
three movements otherwise; `sync_grade` and `use` only say whether there is EMG; files that no row names and
rows whose file is missing exist; envelopes ring slightly below 0. The data are for non-commercial use and
must not be passed on: eifer reads them where their owner put them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...emg.montage import FRIDLUND
from ...emg.sources.text_formats import TextOptions, read_text
from ...errors import InputError, did_you_mean
from ...types import F32
from .parameters import METHODS, Parameters, read_parameters

RATE_HZ = 30.0
FUNCTIONAL = (
    "Face-At-Rest",
    "Forehead",
    "Eye-Gentle",
    "Eye-Tight",
    "Nose-Pucker",
    "Smile-Closed",
    "Smile-Open",
    "Lip-Pucker",
    "Cheeks",
    "Snarl",
    "Depress-Lip",
    "Smile-Natural",
)
EMOTIONS = ("angry", "disgusted", "fearful", "happy", "sad", "surprised")
ALIASES = {"Inflate-Cheeks": "Cheeks"}
"""Labels of N sessions; a leading dash is dropped besides."""
TOLERATED = 0.02
"""Share of a clip by which its files may differ in length; beyond it the clip is refused."""
LICENCE = "MMM/MaM: non-commercial use with attribution (CC BY-NC 4.0), redistribution not permitted (README of the data set)"

_STEM = re.compile(r"^(?P<pid>[^_]+)_(?P<rec>[^_]+)_(?P<mode>[^_]+)_(?P<seq>\d+)_(?P<task>.+)$")
_FOLDERS = {"emg": ".csv", "video": ".mp4", "video_no-cut": ".mp4", "video_noelec": ".mp4"}


@dataclass(frozen=True)
class Clip:
    """One clip of the index.

    identifier: stem of its files. pid: as text. rec: session (`2S`). mode: `schaede` or `emotion`. seq:
    number of the task within the session. task: label by which the protocol knows it; label: as the index has
    it. Paths are None where there is no such file. parameters: tables by method, fitted to the restored
    pictures.
    """

    identifier: str
    pid: str
    rec: str
    mode: str
    seq: int
    task: str
    label: str
    emg: Path | None = None
    video: Path | None = None
    video_uncut: Path | None = None
    restored: Path | None = None
    parameters: Mapping[str, Path] = field(default_factory=dict)

    @property
    def sensors(self) -> bool:
        """Electrodes are on the face."""
        return self.rec.endswith("S")

    @property
    def session(self) -> str:
        """`99_2S`."""
        return f"{self.pid}_{self.rec}"

    @property
    def in_protocol(self) -> bool:
        """The protocol has this task."""
        return self.task in (EMOTIONS if self.mode == "emotion" else FUNCTIONAL)


@dataclass(frozen=True)
class Dataset:
    """An index. notes: what is missing, left over or odd, one sentence each."""

    root: Path
    name: str
    clips: tuple[Clip, ...]
    notes: tuple[str, ...]

    @property
    def sessions(self) -> tuple[str, ...]:
        """Sessions in order of the index."""
        return tuple(dict.fromkeys(clip.session for clip in self.clips))

    def of(self, session: str) -> tuple[Clip, ...]:
        """The clips of a session, functional movements first, by task number.

        Raises InputError for one that is not there.
        """
        clips = [clip for clip in self.clips if clip.session == session]
        if not clips:
            sessions = self.sessions
            raise InputError(
                f"{self.root}: no session '{session}'{did_you_mean(session, sessions)}; it has {', '.join(sessions)}"
            )
        return tuple(sorted(clips, key=lambda clip: (clip.mode == "emotion", clip.seq)))


def read_index(root: Path) -> Dataset:
    """The index of the data set in folder `root`. Files are looked for, not opened.

    Raises InputError for a folder without an index, a row that cannot be understood, a name that occurs
    twice, a path that leads out of the folder. What is merely odd is in `notes`.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds MMM.csv")
    index, fits = _index_files(root)
    notes: list[str] = []
    fitted = {row["index"]: row for row in _rows(fits)} if fits is not None else {}
    clips: dict[str, Clip] = {}
    for number, row in enumerate(_rows(index), start=2):
        clip = _clip(root, index, number, row, fitted.get(row["index"].strip(), {}), notes)
        if clip.identifier in clips:
            raise InputError(f"{index}: line {number}: clip '{clip.identifier}' occurs twice")
        clips[clip.identifier] = clip
    if not clips:
        raise InputError(f"{index}: holds no clip")
    notes += [
        f"{fits.name if fits else ''}: '{name}' is not in {index.name}, left out"
        for name in fitted
        if name not in clips
    ]
    notes += _strays(root, clips)
    return Dataset(root, index.stem, tuple(clips.values()), tuple(notes))


def _index_files(root: Path) -> tuple[Path, Path | None]:
    indices = []
    for path in sorted(root.glob("*.csv")):
        if not path.stem.endswith("_3DMM"):
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                head = {cell.strip().strip('"') for cell in file.readline().split(",")}
            if {"index", "rec", "task"} <= head:
                indices.append(path)
    if not indices:
        raise InputError(
            f"{root}: no index; MMM.csv (columns source, index, pid, rec, mode, task, ...) should lie there"
        )
    if len(indices) > 1:
        raise InputError(
            f"{root}: {' and '.join(path.name for path in indices)} both look like the index; leave one of them"
        )
    fits = indices[0].with_name(f"{indices[0].stem}_3DMM.csv")
    return indices[0], fits if fits.is_file() else None


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    rows = [
        {key.strip(): (value or "").strip() for key, value in row.items() if key is not None} for row in table
    ]
    if rows and "index" not in rows[0]:
        raise InputError(f"{path}: has no column 'index'; it has {', '.join(rows[0])}")
    return [row for row in rows if any(row.values())]


def _clip(
    root: Path, index: Path, number: int, row: Mapping[str, str], fitted: Mapping[str, str], notes: list[str]
) -> Clip:
    where = f"{index}: line {number}"
    stem = row["index"]
    parts = _STEM.match(stem)
    if parts is None:
        raise InputError(
            f"{where}: '{stem}' is no clip name; {{pid}}_{{rec}}_{{mode}}_{{task_seq}}_{{task}} is, as 99_2S_emotion_12_happy"
        )
    pid = row.get("pid", "")
    if pid and pid != parts["pid"]:
        # a spreadsheet or pandas made a number of the id: 007 became 7 or 7.0
        same = (
            re.fullmatch(r"\d+(\.0*)?", pid)
            and parts["pid"].isdigit()
            and int(float(pid)) == int(parts["pid"])
        )
        if not same:
            raise InputError(f"{where}: pid '{pid}' does not go with clip '{stem}'")
        notes.append(f"{stem}: pid was read as the number {pid} somewhere, it is '{parts['pid']}'")
    for column, part in (("rec", "rec"), ("mode", "mode")):
        if row.get(column) and row[column] != parts[part]:
            raise InputError(f"{where}: {column} '{row[column]}' does not go with clip '{stem}'")
    label = row.get("task") or parts["task"]
    task = canonical(label)
    if parts["rec"][-1:] not in ("S", "N"):
        notes.append(
            f"{stem}: session '{parts['rec']}' ends neither in S nor in N, taken as without electrodes"
        )

    def path(column: str) -> Path | None:
        return _file(root, where, row.get(column, ""), stem, column, notes)

    parameters = {}
    for method in METHODS:
        entry = fitted.get(method) or fitted.get(f"{method}_params") or ""
        file = _file(root, where, entry, stem, method, notes) if entry else _usual(root, method, parts)
        if file is not None:
            parameters[method] = file
    clip = Clip(
        stem,
        parts["pid"],
        parts["rec"],
        parts["mode"],
        int(parts["seq"]),
        task,
        label,
        path("emg"),
        path("video"),
        path("video_no-cut"),
        path("video_noelec"),
        parameters,
    )
    if not clip.in_protocol:
        notes.append(
            f"{stem}: task '{label}' is not in the protocol{did_you_mean(task, (*FUNCTIONAL, *EMOTIONS))}, kept under its name"
        )
    if clip.sensors and clip.emg is None and row.get("use", "").lower() == "yes":
        notes.append(f"{stem}: the index says it has EMG, but none was found")
    return clip


def canonical(label: str) -> str:
    """The protocol's name of a task: N sessions write `-Smile-Closed`, `-Smile-Open` and `Inflate-Cheeks`."""
    plain = label.strip().lstrip("-")
    return ALIASES.get(plain, plain)


def _file(root: Path, where: str, entry: str, stem: str, column: str, notes: list[str]) -> Path | None:
    if not entry:
        return None
    path = root / entry
    if Path(entry).is_absolute() or not path.resolve().is_relative_to(root.resolve()):
        raise InputError(
            f"{where}: {column} '{entry}' leads out of the data set; paths are relative to its folder"
        )
    if not path.is_file():
        notes.append(f"{stem}: {column} file {entry} is missing")
        return None
    return path


def _usual(root: Path, method: str, parts: re.Match[str]) -> Path | None:
    path = (
        root / "video_noelec_params" / method / f"{parts['pid']}_{parts['rec']}" / f"{parts[0]}_params.csv.gz"
    )
    return path if path.is_file() else None


def _strays(root: Path, clips: Mapping[str, Clip]) -> Iterable[str]:
    """Files in the data folders that no row of the index names."""
    for folder, suffix in _FOLDERS.items():
        for path in sorted((root / folder).rglob(f"*{suffix}")):
            if path.stem not in clips:
                yield f"{path.relative_to(root)}: no row of the index names it, left out"


@dataclass(frozen=True)
class ClipData:
    """A clip read: T frames.

    envelope (T, 22) V in the order of Fridlund's F1..F22, or None; parameters, or None. notes: what was odd.
    """

    clip: Clip
    envelope: F32 | None
    parameters: Parameters | None
    frames: int
    notes: tuple[str, ...]


def read_clip(clip: Clip, method: str | None = "MediaPipe", video_frames: int | None = None) -> ClipData:
    """EMG and one method's parameters of a clip, cut to the same length.

    video_frames: frames of its video where known. Raises InputError where the clip has neither, where a table
    is damaged, or where lengths differ by more than 2 %.
    """
    notes: list[str] = []
    lengths: dict[str, int] = {}
    envelope = None
    parameters = None
    if clip.emg is not None:
        envelope, below = _envelope(clip.emg)
        lengths["EMG"] = len(envelope)
        if below:
            notes.append(
                f"{clip.identifier}: {below} envelope values below 0 (ringing of the resampler) set to 0"
            )
    if method is not None and method in clip.parameters:
        parameters = read_parameters(clip.parameters[method], method)
        lengths[method] = len(parameters.values)
    if not lengths:
        raise InputError(f"{clip.identifier}: neither EMG nor parameters of {method or 'a method'}")
    if video_frames is not None:
        lengths["video"] = video_frames
    shortest = min(lengths.values())
    longest = max(lengths.values())
    if shortest != longest:
        counts = ", ".join(f"{name} {count}" for name, count in lengths.items())
        if longest - shortest > max(1, TOLERATED * longest):
            raise InputError(
                f"{clip.identifier}: frame counts differ ({counts}); its files do not belong together"
            )
        notes.append(f"{clip.identifier}: frame counts differ ({counts}), cut to {shortest}")
    return ClipData(
        clip,
        None if envelope is None else envelope[:shortest],
        None if parameters is None else Parameters(parameters.method, parameters.values[:shortest]),
        shortest,
        tuple(notes),
    )


def _envelope(path: Path) -> tuple[F32, int]:
    recording = read_text(path, TextOptions(rate_hz=RATE_HZ))
    names = [FRIDLUND.resolve(name) for name in recording.channels]
    if set(names) != set(FRIDLUND.names):
        held = ", ".join(recording.channels)
        raise InputError(
            f"{path}: not an envelope file of MMM; it should hold the 22 Fridlund channels, it holds {held}"
        )
    samples = recording.samples[:, [names.index(name) for name in FRIDLUND.names]]
    values = np.where(np.isfinite(samples), samples, 0.0)
    return np.maximum(values, 0.0).astype(np.float32), int((values < 0).sum())


def pairs(dataset: Dataset) -> tuple[list[tuple[Clip, Clip]], list[str]]:
    """(N clip, S clip) of the same participant, block and task number, and why others were left out.

    The task number decides, not the label; where both labels are known and mean different movements the pair
    is left out.
    """

    def key(clip: Clip) -> tuple[str, str, str, int]:
        return clip.pid, clip.rec[:-1], clip.mode, clip.seq

    bare = {key(clip): clip for clip in dataset.clips if not clip.sensors}
    matched = []
    notes = []
    for clip in dataset.clips:
        other = bare.get(key(clip)) if clip.sensors else None
        if clip.sensors and other is None:
            notes.append(f"{clip.identifier}: no clip without electrodes of that task number")
        elif other is not None and other.task != clip.task:
            notes.append(f"{clip.identifier} and {other.identifier}: same task number, other movement")
        elif other is not None:
            matched.append((other, clip))
    return matched, notes
