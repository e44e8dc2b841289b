"""CASME II, SAMM and CAS(ME)3 into recordings: pictures with the labelled micro-expressions as truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from .. import topics
from ..camera.folder import read_picture
from ..component import Emission
from ..errors import EiferError, InputError, did_you_mean
from ..recording.imports import micro
from ..recording.writer import BagWriter
from ..types import NS, UNKNOWN_LABEL, FaceEvent, FaceOrigin, Frame, Marker, Stamp
from .common import Progress, new_folder
from .imports import GAP_S, UNDATED, ImportResult

LICENCE = "{}: for research by those who signed its owner's agreement; redistribution not permitted"
JPEG_QUALITY = 98
"""Higher than usual: compression must not move what moves by a tenth of a pixel."""
PICTURES = topics.CAMERA_IMAGE.name
EVENTS = topics.TRUE_EVENTS.name
MARKERS = topics.MARKERS.name


def import_micro(
    kind: str,
    root: Path,
    out: Path,
    *,
    subjects: Iterable[str] = (),
    table: Path | None = None,
    frames: Path | None = None,
    rate_hz: float = 0.0,
    progress: Progress | None = None,
) -> ImportResult:
    """Each subject of the collection `kind` (casme2, samm, casme3) in `root` as one recording `out`/SUBJECT,
    clips in a row.

    Pictures become camera/image_raw, each labelled micro-expression a truth/events item and a pair of
    markers, whose note holds the action units. subjects: as their folders are called; empty for all. table,
    frames: see `micro.read_index`. rate_hz: frames per second where they were resampled; 0 for the
    collection's own. Rows and clips that cannot be used are left out and listed in `failures`. Raises
    InputError where nothing can be imported.
    """
    if rate_hz < 0 or not np.isfinite(rate_hz):
        raise InputError(f"{rate_hz} frames/s; it must be above 0, or 0 for the collection's own rate")
    index = micro.read_index(kind, root, table, frames)
    rate = rate_hz or index.collection.rate_hz
    present = index.subjects
    for name in subjects:
        if name not in present:
            raise InputError(
                f"{root}: no subject '{name}'{did_you_mean(name, present)}; it has {', '.join(present)}"
            )
    selection = tuple(dict.fromkeys(subjects)) or present
    result = ImportResult(notes=list(index.notes), failures=dict(index.failures))
    if rate < 60.0:
        result.notes.append(
            f"{index.collection.name} at {rate:g} frames/s: half a second is {rate / 2:.0f} pictures; spotting wants 100 frames/s or more"
        )
    new_folder(out)
    clips = {name: [clip for clip in index.clips if clip.subject == name] for name in selection}
    total = sum(map(len, clips.values()))
    done = 0
    for name, members in clips.items():
        session = {
            "participant": name,
            "source": f"{index.collection.name} {name}",
            "licence": LICENCE.format(index.collection.name),
            "times": f"synthetic: clips in a row, frames {rate:g}/s",
            "table": index.table.name,
        }
        begin = UNDATED
        with BagWriter(out / name, session=session, wait=True, jpeg_quality=JPEG_QUALITY) as bag:
            for clip in members:
                try:
                    for emission in _clip_items(clip, index.collection, rate, begin):
                        bag.write(*emission)
                except EiferError as error:
                    result.failures[f"{clip.subject}/{clip.name}"] = str(error)
                first, last = _span(clip)
                begin += round(((last - first + 1) / rate + GAP_S) * NS)
                done += 1
                if progress is not None:
                    progress(done, total, f"{clip.subject}/{clip.name}")
        result.count(bag)
        result.bags[name] = str(out / name)
    return result


def event_of(
    row: micro.LabelRow, collection: micro.Collection, stamp: Stamp, first: int, rate_hz: float
) -> FaceEvent:
    """The row as an event; `stamp` is that of frame `first`.

    A class that is not known has no class distribution.
    """

    def at(number: float) -> Stamp:
        return stamp + round((number - first) * NS / rate_hz)

    assert row.offset is not None
    apex = row.apex if row.apex is not None else 0.5 * (row.onset + row.offset)
    regions = micro.regions_of_units(row.units)
    classes = collection.classes if row.label != UNKNOWN_LABEL else ()
    certain = np.array([label == row.label for label in classes], np.float32)
    return FaceEvent(
        at(apex),
        at(row.onset),
        at(row.offset),
        regions[0] if regions else "",
        regions,
        row.label,
        classes,
        certain,
        1.0,
        FaceOrigin.TRUTH,
    )


def _span(clip: micro.Clip) -> tuple[int, int]:
    """First and last frame number that is there or labelled."""
    numbers = [
        *clip.frames,
        *(row.onset for row in clip.rows),
        *(row.offset for row in clip.rows if row.offset is not None),
    ]
    return min(numbers), max(numbers)


def _clip_items(
    clip: micro.Clip, collection: micro.Collection, rate_hz: float, begin: Stamp
) -> Iterator[Emission]:
    """Everything of a clip in the order of stamps. An event may begin before the first frame there is."""
    first = _span(clip)[0]
    other: list[Emission] = [Emission(MARKERS, Marker(begin, f"{clip.subject}/{clip.name}", "note"))]
    for row in clip.rows:
        event = event_of(row, collection, begin, first, rate_hz)
        about = "; ".join(
            part
            for part in (
                f"AU {row.units}" if row.units else "",
                f"objective class {row.objective}" if row.objective else "",
                "" if row.apex is not None else "apex unknown",
                f"emotion {row.written}" if row.written else "",
            )
            if part
        )
        label = f"Micro-{row.label.capitalize()}"
        other += [
            Emission(MARKERS, Marker(event.onset, label, "start", about)),
            Emission(EVENTS, event),
            Emission(MARKERS, Marker(event.offset, label, "end", about)),
        ]
    other.sort(key=lambda emission: emission.item.stamp)
    waiting = iter(other)
    ahead = next(waiting, None)
    for number, path in clip.frames.items():
        stamp = begin + round((number - first) * NS / rate_hz)
        while ahead is not None and ahead.item.stamp <= stamp:
            yield ahead
            ahead = next(waiting, None)
        yield Emission(PICTURES, Frame(stamp, read_picture(path)))
    while ahead is not None:
        yield ahead
        ahead = next(waiting, None)
