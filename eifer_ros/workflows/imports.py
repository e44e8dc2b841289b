"""Recordings of others into rosbag2 recordings: the MMM and MaM data sets, XDF, EDF/BDF, CSV."""

from __future__ import annotations

import heapq
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..camera.video import VideoConfig, VideoSource
from ..component import Emission
from ..config import build
from ..emg.montage import FRIDLUND
from ..errors import EiferError, InputError, MissingExtra
from ..head import flame_rows
from ..head.model import HeadModel, load_head
from ..recording.emg_file import FileConfig, FileSource, file_format, read_recording
from ..recording.imports import mmm
from ..recording.imports.parameters import METHODS, Parameters, as_eifer_rows, method_named
from ..recording.writer import BagWriter
from ..types import (
    ARKIT_52,
    NS,
    Blendshapes,
    EmgChunk,
    FaceOrigin,
    FaceState,
    FaceStatus,
    Frame,
    Marker,
    MuscleActivity,
    Stamp,
)
from .common import Progress, new_folder

UNDATED: Stamp = 946_684_800 * NS
"""2000-01-01 00:00 UTC: where recordings begin that do not say when they were made."""
GAP_S = 2.0
"""Between two clips of a session, so that nothing is interpolated across them."""
PROFILE = "eifer_mmm"


@dataclass
class ImportResult:
    """What an import came to.

    Parameters
    ----------
    bags : dict[str, str], optional
        Paths by name.
    written : dict[str, int], optional
        Items by port.
    notes : list[str], optional
        Oddities.
    failures : dict[str, str], optional
        What was left out, and why.
    """

    bags: dict[str, str] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON.

        Returns
        -------
        dict[str, object]
            Every field.
        """
        return {"bags": self.bags, "written": self.written, "notes": self.notes, "failures": self.failures}

    def count(self, writer: BagWriter) -> None:
        """Add what `writer` wrote.

        Parameters
        ----------
        writer : BagWriter
            Of one recording.
        """
        for port, number in writer.stats.written.items():
            self.written[port] = self.written.get(port, 0) + number


# ---- MMM and MaM ------------------------------------------------------------------------------------------------------------


def import_mmm(
    root: Path,
    out: Path,
    *,
    sessions: Iterable[str] = (),
    method: str = "MediaPipe",
    head_model: str = "",
    pictures: str = "none",
    progress: Progress | None = None,
) -> ImportResult:
    """Each session of MMM or MaM as one recording `out`/SESSION: envelopes, faces, movement markers, pictures
    where asked for.

    A clip that cannot be read is left out and listed in `failures`.

    Parameters
    ----------
    root : Path
        Folder of the data set.
    out : Path
        Folder of the recordings.
    sessions : Iterable[str], optional
        `99_2S`, ...; empty for all that have EMG or parameters.
    method : str, optional
        Whose parameters become faces; MediaPipe's go onto the open head, those in FLAME's space need
        `head_model`.
    head_model : str, optional
        A FLAME head of yours (eifer head import-flame).
    pictures : str, optional
        `none`, `electrodes` (camera/image_raw), `restored` (face/restored) or `both`.
    progress : Progress, optional
        See `common.Progress`.

    Returns
    -------
    ImportResult
        Recordings, oddities and failures.

    Raises
    ------
    InputError
        The data set or what is asked for cannot be used at all.
    """
    if pictures not in ("none", "electrodes", "restored", "both"):
        raise InputError(f"pictures '{pictures}': write none, electrodes, restored or both")
    reader = method_named(method)
    head = _head_for(reader.name, head_model)
    dataset = mmm.read_index(root)
    result = ImportResult(notes=list(dataset.notes))
    selection = list(sessions) or [
        name for name in dataset.sessions if any(clip.emg or clip.parameters for clip in dataset.of(name))
    ]
    if not selection:
        raise InputError(f"{root}: no clip has EMG or parameters; there is nothing to import")
    clips = {name: dataset.of(name) for name in selection}
    new_folder(out)
    total = sum(map(len, clips.values()))
    done = 0
    for name, members in clips.items():
        session = {
            "participant": members[0].pid,
            "source": f"{dataset.name} {name}",
            "licence": mmm.LICENCE,
            "times": "synthetic: clips in a row",
            "faces_on": f"{reader.name} on restored pictures",
            "profile": PROFILE,
        }
        with BagWriter(out / name, session=session, wait=True) as bag:
            begin = UNDATED
            for clip in members:
                try:
                    data = mmm.read_clip(clip, reader.name, _frames(clip.restored or clip.video))
                    for emission in _clip_items(data, head, pictures, begin):
                        bag.write(*emission)
                    begin += round((data.frames / mmm.RATE_HZ + GAP_S) * NS)
                    result.notes += data.notes
                except EiferError as error:
                    result.failures[clip.identifier] = str(error)
                done += 1
                if progress is not None:
                    progress(done, total, clip.identifier)
        result.count(bag)
        result.bags[name] = str(out / name)
    return result


def _head_for(method: str, head_model: str) -> HeadModel | None:
    if method == "MediaPipe":
        return load_head(head_model or "open_head")
    if METHODS[method].flame:
        if not head_model:
            raise InputError(
                f"parameters of {method} are FLAME's: give a FLAME head of yours with --head-model (eifer head import-flame)"
            )
        return load_head(head_model)
    raise InputError(
        f"{method} uses the Basel face model, for which eifer has no head; its parameters can be evaluated (eifer evaluate mapping), "
        f"not shown. Faces come from {', '.join(name for name, entry in METHODS.items() if entry.flame or name == 'MediaPipe')}"
    )


def _frames(video: Path | None) -> int | None:
    """Frames the container announces; None where it does not."""
    if video is None:
        return None
    source = VideoSource(VideoConfig(path=str(video), start_stamp=1))
    source.setup()
    try:
        return source.frame_count or None
    finally:
        source.close()


def _clip_items(
    data: mmm.ClipData, head: HeadModel | None, pictures: str, begin: Stamp
) -> Iterator[Emission]:
    clip = data.clip
    stamps = [begin + round(index * NS / mmm.RATE_HZ) for index in range(data.frames)]
    streams: list[Iterable[Emission]] = [
        [Emission("markers", Marker(begin, clip.task, "start", clip.identifier))]
    ]
    if data.envelope is not None:
        streams.append(_activity(data.envelope, stamps))
    if data.parameters is not None:
        streams.append(_faces(data.parameters, head, stamps))
    for kind, port, path in (
        ("electrodes", "camera/image_raw", clip.video),
        ("restored", "face/restored", clip.restored),
    ):
        if pictures in (kind, "both") and path is not None:
            streams.append(_pictures(path, port, stamps))
    streams.append([Emission("markers", Marker(stamps[-1], clip.task, "end", clip.identifier))])
    return heapq.merge(*streams, key=lambda emission: emission.item.stamp)


def _activity(envelope: np.ndarray[Any, np.dtype[np.float32]], stamps: list[Stamp]) -> Iterator[Emission]:
    unknown = np.full(len(FRIDLUND.names), np.nan, np.float32)
    for stamp, row in zip(stamps, envelope, strict=True):
        yield Emission(
            "emg/activity",
            MuscleActivity(stamp, FRIDLUND.name, FRIDLUND.muscles, row, unknown, unknown, profile=PROFILE),
        )


def _faces(parameters: Parameters, head: HeadModel | None, stamps: list[Stamp]) -> Iterator[Emission]:
    assert head is not None
    if parameters.method.name == "MediaPipe":
        for stamp, row in zip(stamps, np.clip(parameters.values, 0.0, 1.0).astype(np.float32), strict=True):
            if np.isfinite(row).all():
                yield Emission("face/blendshapes", Blendshapes(stamp, row))
            yield Emission("face/vision", face_of_blendshapes(stamp, row, head))
        return
    for state in flame_rows.states_from_rows(as_eifer_rows(parameters), head, stamps):
        yield Emission("face/vision", state)


def face_of_blendshapes(
    stamp: Stamp, weights: np.ndarray[Any, np.dtype[np.float32]], head: HeadModel
) -> FaceState:
    """ARKit weights as a face of the open head, pose unknown.

    Parameters
    ----------
    stamp : int (ns)
        Of the face.
    weights : ndarray of float32, shape (52,)
        0..1; a row with NaN is a lost face.
    head : HeadModel
        The open head.

    Returns
    -------
    FaceState
        Origin VISION.

    Raises
    ------
    InputError
        Another head.
    """
    if head.expression_names != ARKIT_52:
        raise InputError(
            f"head model '{head.id}' does not speak ARKit; blendshapes need one that does (open_head)"
        )
    if not np.isfinite(weights).all():
        return FaceState.lost(stamp, head.id, FaceOrigin.VISION, head.shape_size, head.expression_size)
    none = np.zeros(3, np.float32)
    return FaceState(
        stamp,
        head.id,
        FaceOrigin.VISION,
        np.zeros(head.shape_size, np.float32),
        weights,
        np.full(len(weights), np.nan, np.float32),
        none,
        none,
        head.gaze(weights),
        weights[[ARKIT_52.index("eyeBlinkLeft"), ARKIT_52.index("eyeBlinkRight")]],
        np.full((4, 4), np.nan),
        1.0,
        FaceStatus.TRACKING,
    )


def _pictures(path: Path, port: str, stamps: list[Stamp]) -> Iterator[Emission]:
    source = VideoSource(VideoConfig(path=str(path), start_stamp=stamps[0]))
    try:
        source.setup()
        for stamp, emission in zip(stamps, source.produce(), strict=False):
            frame = emission.item
            assert isinstance(frame, Frame)
            yield Emission(port, Frame(stamp, frame.image))
    finally:
        source.close()


# ---- XDF, EDF/BDF, CSV ------------------------------------------------------------------------------------------------------


def import_emg(
    path: Path,
    out: Path,
    *,
    video: Path | None = None,
    video_offset_s: float = 0.0,
    progress: Progress | None = None,
    **options: Any,
) -> ImportResult:
    """One EMG file (CSV or text, XDF, EDF, BDF) as a recording, with its markers, and a video beside it where
    given.

    A file without a date keeps stamps that count from 0.

    Parameters
    ----------
    path : Path
        The file.
    out : Path
        The recording; must not exist.
    video : Path, optional
        A video of the same performance; None for none.
    video_offset_s : float, optional
        The video's first frame comes so long after the first sample (eifer sync finds it).
    progress : Progress, optional
        See `common.Progress`.
    **options : object
        Of the file source (`rate_hz`, `unit`, `columns`, `stream`, `channels`, `scheme`, ...).

    Returns
    -------
    ImportResult
        The recording and oddities.

    Raises
    ------
    InputError
        The file cannot be read.
    ConfigError
        An unknown option.
    MissingExtra
        The library for this kind of file is not installed.
    """
    config = build(
        FileConfig, {"path": str(path), "speed": 0.0, "chunk_s": 0.1, **options}, f"import {path.name}"
    )
    if out.exists():
        raise InputError(f"{out}: exists; recordings are never overwritten, give another --out")
    if file_format(config) == "bag":
        raise InputError(f"{path}: is a recording of eifer already")
    recording = read_recording(config)
    source = FileSource(config)
    start = int(recording.stamps[0])
    if video is not None and start == 0:
        config = config.model_copy(update={"start_stamp": UNDATED})
        source = FileSource(config)
        start = UNDATED
    shift = start - int(recording.stamps[0])
    streams: list[Iterable[Emission]] = [
        source.produce(),
        _sorted_markers(config, shift, int(recording.stamps[0])),
    ]
    camera = None
    if video is not None:
        camera = VideoSource(VideoConfig(path=str(video), start_stamp=start + round(video_offset_s * NS)))
        camera.setup()
        streams.append(camera.produce())
    result = ImportResult(notes=list(recording.notes))
    about = {
        "source": path.name,
        "times": "of the file" if recording.stamps[0] else "counted from the first sample",
    }
    begin = int(recording.stamps[0]) + shift
    span = max(int(recording.stamps[-1] - recording.stamps[0]), 1)
    try:
        with BagWriter(out, session=about, wait=True) as bag:
            for emission in heapq.merge(*streams, key=lambda emission: emission.item.stamp):
                bag.write(*emission)
                if progress is not None and isinstance(emission.item, EmgChunk):
                    progress(min(100, round(100 * (emission.item.stamp - begin) / span)), 100, "per cent")
    finally:
        source.close()
        if camera is not None:
            camera.close()
    result.count(bag)
    result.bags[out.name] = str(out)
    return result


_PHASES = {"start": "start", "begin": "start", "onset": "start", "end": "end", "stop": "end", "offset": "end"}


def marker_of(stamp: Stamp, text: str) -> Marker:
    """A marker from what a stimulus program wrote: `Smile-Open start`, `start: Smile-Open`, `Smile-Open_end`;
    else a note.

    Parameters
    ----------
    stamp : int (ns)
        When it was written.
    text : str
        What was written.

    Returns
    -------
    Marker
        With its phase.
    """
    words = text.strip()
    for pattern in (
        r"^(?P<phase>[A-Za-z]+)[\s:_/|,]+(?P<label>.+)$",
        r"^(?P<label>.+?)[\s:_/|,]+(?P<phase>[A-Za-z]+)$",
    ):
        match = re.match(pattern, words)
        if match and match["phase"].lower() in _PHASES:
            return Marker(stamp, mmm.canonical(match["label"].strip()), _PHASES[match["phase"].lower()])
    return Marker(stamp, words, "note")


def _sorted_markers(config: FileConfig, shift: int, first: Stamp) -> list[Emission]:
    path = Path(config.path).expanduser()
    kind = file_format(config)
    unsorted = (
        _xdf_markers(path, config.stream, first)
        if kind == "xdf"
        else _edf_markers(path, first)
        if kind == "edf"
        else []
    )
    markers = [Marker(marker.stamp + shift, marker.label, marker.phase, marker.note) for marker in unsorted]
    return [Emission("markers", marker) for marker in sorted(markers, key=lambda marker: marker.stamp)]


def _xdf_markers(path: Path, stream_name: str, first: Stamp) -> list[Marker]:
    """Text streams of an XDF file; their times count from the first sample of the EMG stream, as the
    recording's do.
    """
    try:
        import pyxdf
    except ImportError as error:
        raise MissingExtra("pyxdf", "files", f"reading {path.name}") from error
    logger = logging.getLogger("pyxdf.pyxdf")
    level = logger.level
    logger.setLevel(logging.ERROR)  # what it warns about was said when the samples were read
    try:
        streams, _ = pyxdf.load_xdf(
            str(path), synchronize_clocks=True, handle_clock_resets=True, dejitter_timestamps=True
        )
    finally:
        logger.setLevel(level)

    def kind(stream: Any) -> str:
        return str(stream["info"]["type"][0] or "").lower()

    numeric = [s for s in streams if s["info"]["channel_format"][0] != "string" and len(s["time_series"])]
    named = (
        [s for s in numeric if stream_name in (s["info"]["name"][0], s["info"]["type"][0])]
        if stream_name
        else []
    )
    emg = sorted(
        (s for s in numeric if kind(s) in ("emg", "exg", "eeg")),
        key=lambda s: ("emg", "exg", "eeg").index(kind(s)),
    )
    reference = (named or emg or numeric)[0]
    base = float(reference["time_stamps"][0])
    markers = []
    for stream in streams:
        if stream["info"]["channel_format"][0] == "string":
            for time_s, row in zip(stream["time_stamps"], stream["time_series"], strict=True):
                text = " ".join(str(word) for word in row if str(word))
                # a marker from before the first sample has no negative stamp to stand at in a file that
                # counts from 0
                markers.append(marker_of(max(0, first + round((float(time_s) - base) * NS)), text))
    return markers


def _edf_markers(path: Path, first: Stamp) -> list[Marker]:
    """Annotations; one that lasts becomes a start and an end."""
    try:
        import pyedflib
    except ImportError as error:
        raise MissingExtra("pyedflib", "files", f"reading {path.name}") from error
    with pyedflib.EdfReader(str(path)) as reader:
        onsets, durations, texts = reader.readAnnotations()
    markers = []
    for onset, duration, text in zip(onsets, durations, texts, strict=True):
        begin = first + round(float(onset) * NS)
        if float(duration) > 0:
            label = mmm.canonical(str(text))
            markers += [
                Marker(begin, label, "start"),
                Marker(begin + round(float(duration) * NS), label, "end"),
            ]
        else:
            markers.append(marker_of(begin, str(text)))
    return markers
