"""How the camera's clock runs against the amplifier's: offset and drift from events that both have seen, with
a grade.

Events are the edges of a trigger channel on one side and those of an LED in the picture, or tone bursts of a
sound track, on the other (as emg2face and MaM do). Which event belongs to which is found by the intervals
between them, so that neither the offset nor missed and extra events need be known; then a line is fitted,
`amplifier = camera + offset + drift (camera - reference)`.

The result is metadata. It stands beside the recording (`sync.json`) and is applied by whoever reads; samples
and stamps stay as they are.
"""

from __future__ import annotations

import heapq
import json
import wave
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import topics
from ..errors import InputError
from ..types import F32, F64, I64, NS, Bools, FaceEvent, FaceOrigin, Floats, Frame, Item, Stamp
from .reader import Bag, Recorded
from .streams import Role

FILE = "sync.json"
FORMAT = 1
MAX_PPM = 500.0
"""A steeper drift than this is no clock."""
MIN_EVENTS = 3
_OUTLIER = 4.0


@dataclass(frozen=True)
class Sync:
    """How to bring camera stamps onto the amplifier's clock.

    Parameters
    ----------
    method : str
        `led`, `audio` or `consensus`.
    offset_s : float
        To add to a camera stamp at `reference`.
    drift_ppm : float
        By how much the offset grows.
    reference : int (ns)
        Camera stamp at which the offset holds.
    residual_rms_s, residual_max_s : float
        Distance of the matched events from the line.
    error_s : float
        Standard error of the offset.
    events : int
        Matched.
    missed : int
        Of either side without a partner.
    grade : int
        1 sure (under 5 ms), 2 fair (under 20 ms), 3 doubtful, 0 unknown.
    source : str, optional
        What was matched.
    notes : tuple[str, ...], optional
        For people.
    """

    method: str
    offset_s: float
    drift_ppm: float
    reference: Stamp
    residual_rms_s: float
    residual_max_s: float
    error_s: float
    events: int
    missed: int
    grade: int
    source: str = ""
    notes: tuple[str, ...] = ()

    def correct(self, stamp: Stamp) -> Stamp:
        """A camera stamp on the amplifier's clock. Unchanged where the grade is 0.

        Parameters
        ----------
        stamp : int (ns)
            Of the camera.

        Returns
        -------
        int (ns)
            Of the amplifier.
        """
        if self.grade == 0:
            return stamp
        since = stamp - self.reference
        return stamp + round(self.offset_s * NS + since * self.drift_ppm * 1e-6)

    def undo(self, stamp: Stamp) -> Stamp:
        """The camera stamp that `correct` brings to a stamp, to the nanosecond or two.

        Parameters
        ----------
        stamp : int (ns)
            Of the amplifier.

        Returns
        -------
        int (ns)
            Of the camera.
        """
        if self.grade == 0:
            return stamp
        since = (stamp - self.reference - self.offset_s * NS) / (1 + self.drift_ppm * 1e-6)
        return self.reference + round(since)

    def save(self, recording: Path) -> Path:
        """Write it beside the recording's files; an earlier one is replaced.

        Parameters
        ----------
        recording : Path
            Folder or file.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        InputError
            It cannot be written.
        """
        path = sidecar_path(recording)
        tree = {"what": "eifer sync", "format": FORMAT, **asdict(self), "reference": str(self.reference)}
        part = path.with_name(path.name + ".part")
        try:
            part.write_text(
                json.dumps({k: _plain(v) for k, v in tree.items()}, indent=2) + "\n", encoding="utf-8"
            )
            part.replace(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
        return path

    @staticmethod
    def load(recording: Path) -> Sync | None:
        """What stands beside a recording.

        Parameters
        ----------
        recording : Path
            Folder or file.

        Returns
        -------
        Sync or None
            None where there is none.

        Raises
        ------
        InputError
            The file cannot be understood.
        """
        path = sidecar_path(recording)
        if not path.exists():
            return None
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            if tree.pop("what") != "eifer sync" or tree.pop("format") != FORMAT:
                raise InputError(f"{path}: not a sync file of this version")
            values: dict[str, Any] = {k: float("nan") if v is None else v for k, v in tree.items()}
            return Sync(**{**values, "reference": int(tree["reference"]), "notes": tuple(tree["notes"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: cannot be read as a sync file ({error})") from None


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


def sidecar_path(recording: Path) -> Path:
    """Where the sync of a recording stands.

    Parameters
    ----------
    recording : Path
        Folder or file.

    Returns
    -------
    Path
        Its sync.json.
    """
    return recording / FILE if recording.is_dir() else recording.with_name(f"{recording.stem}.{FILE}")


# ---- reading with it --------------------------------------------------------------------------------------------------------

CAMERA_CLOCK = frozenset(topic.name for topic in topics.items() if topic.synced)
"""What carries the camera's stamps; everything else is on the amplifier's clock."""


def restamped(item: Item, clocks: Sync) -> Item:
    """An item of the camera's clock on the amplifier's; what EMG alone saw is there already.

    Parameters
    ----------
    item : Item
        Of a recording.
    clocks : Sync
        How to bring it over.

    Returns
    -------
    Item
        The same with another stamp, or itself.
    """
    if getattr(item, "origin", None) is FaceOrigin.EMG:
        return item
    stamp = clocks.correct(item.stamp)
    if isinstance(item, FaceEvent):
        return replace(
            item, stamp=stamp, onset=clocks.correct(item.onset), offset=clocks.correct(item.offset)
        )
    return replace(item, stamp=stamp)


def items_synced(
    bag: Bag, clocks: Sync | None, *, topics: Collection[str] | None = None, start: Stamp | None = None
) -> Iterator[Recorded]:
    """`bag.items` with what comes from the camera brought onto the amplifier's clock, in the order of the
    corrected stamps.

    Parameters
    ----------
    bag : Bag
        An open recording.
    clocks : Sync or None
        `Sync.load` of the recording; None, or a grade of 0, changes nothing.
    topics : Collection[str], optional
        Relative names; None for all.
    start : Stamp, optional
        First corrected stamp; None for the beginning.

    Yields
    ------
    Recorded
        One item.

    Raises
    ------
    RecordingError
        As `Bag.items`.
    """
    available = {stream.port for _, stream in bag.streams if stream.role in (Role.ITEM, Role.PICTURE)}
    requested = available if topics is None else set(topics)
    if clocks is None or clocks.grade == 0 or not requested & CAMERA_CLOCK:
        yield from bag.items(topics=topics, start=start)
        return
    camera = sorted(requested & CAMERA_CLOCK)
    others = sorted(requested - CAMERA_CLOCK)
    moved = (
        Recorded((item := restamped(entry.item, clocks)).stamp, entry.topic, item)
        for entry in bag.items(topics=camera, start=None if start is None else clocks.undo(start))
    )
    rest = bag.items(topics=others, start=start) if others else iter(())
    yield from heapq.merge(rest, moved, key=lambda entry: entry.stamp)


# ---- events -----------------------------------------------------------------------------------------------------------------


def edges(times_s: F64, values: Floats, *, share: float = 0.5, hysteresis: float = 0.2) -> F64:
    """Times at which a two-level signal rises, interpolated between samples.

    It must fall below (share - hysteresis) in between. Low and high are the middles of the two groups of
    values; a signal without two levels has no edges.

    Parameters
    ----------
    times_s : ndarray of float64, shape (N,)
        Seconds.
    values : ndarray of float, shape (N,)
        In any unit.
    share : float, optional
        Of the way from low to high at which it counts as risen.
    hysteresis : float, optional
        Share that it must fall below `share` before it may rise again.

    Returns
    -------
    ndarray of float64, shape (K,)
        Seconds.
    """
    x = np.asarray(values, np.float64)
    if len(x) < 4 or not np.isfinite(x).any():
        return np.zeros(0)
    x = np.where(np.isfinite(x), x, np.nanmedian(x))
    low, high = levels(x)
    if not high > low:
        return np.zeros(0)
    scaled = (x - low) / (high - low)
    above = scaled >= share
    below = scaled < share - hysteresis
    crossings = []
    armed = bool(below[0])
    for k in np.flatnonzero((above[1:] != above[:-1]) | (below[1:] != below[:-1])) + 1:
        if below[k]:
            armed = True
        elif above[k] and armed:
            part = (share - scaled[k - 1]) / (scaled[k] - scaled[k - 1])
            crossings.append(times_s[k - 1] + part * (times_s[k] - times_s[k - 1]))
            armed = False
    return np.array(crossings)


def levels(values: Floats) -> tuple[float, float]:
    """Low and high level of a two-level signal; equal where the groups are not at least six times as far
    apart as they are wide.

    Parameters
    ----------
    values : ndarray of float, shape (N,)
        In any unit.

    Returns
    -------
    tuple[float, float]
        In the unit of `values`.
    """
    x = np.sort(np.asarray(values, np.float64))
    middle = 0.5 * (x[0] + x[-1])
    low = x[x <= middle]
    high = x[x > middle]
    if not len(high):
        return float(x[0]), float(x[0])
    a = float(np.median(low))
    b = float(np.median(high))
    width = float(np.median(np.abs(low - a)) + np.median(np.abs(high - b)))
    return (a, b) if b - a > 6 * width and b - a > 1e-12 else (a, a)


def find_led(frames: Iterable[Frame], grid: int = 24) -> tuple[tuple[int, int, int, int], float]:
    """The square of a picture that blinks most clearly.

    What moves (a face) passes through grey levels; a lamp has two and goes from one to the other within a
    picture or two.

    Parameters
    ----------
    frames : Iterable[Frame]
        Pictures of one size.
    grid : int, optional
        Squares along each side.

    Returns
    -------
    tuple[tuple[int, int, int, int], float]
        (x, y, w, h) in pixels, and its contrast (levels / 255).

    Raises
    ------
    InputError
        Nothing blinks.
    """
    traces = []
    size = (0, 0)
    for frame in frames:
        size = frame.size
        traces.append(_cells(frame, grid))
    if len(traces) < 10:
        raise InputError(f"{len(traces)} pictures are too few to find a lamp in")
    table = np.stack(traces).reshape(len(traces), -1)
    best = -1
    contrast = 0.0
    for cell in np.argsort(-np.ptp(table, axis=0))[:64]:
        low, high = levels(table[:, cell])
        if high - low > contrast and _switches(table[:, cell], low, high):
            best = int(cell)
            contrast = high - low
    if best < 0 or contrast < 8:
        raise InputError(
            "no lamp blinks in the pictures; name its place with --region x,y,w,h, or use --method consensus"
        )
    row, column = divmod(best, grid)
    w = size[0] / grid
    h = size[1] / grid
    return (int(column * w), int(row * h), max(1, int(w)), max(1, int(h))), contrast / 255


def _switches(values: Floats, low: float, high: float) -> bool:
    """At least three rises, and on the way between the levels no more than two pictures each time."""
    between = (values > low + 0.2 * (high - low)) & (values < high - 0.2 * (high - low))
    rises = len(edges(np.arange(len(values), dtype=np.float64), values))
    return rises >= 3 and int(between.sum()) <= 2 * (2 * rises + 1)


def _cells(frame: Frame, grid: int) -> F32:
    import cv2

    small = cv2.resize(frame.image, (grid, grid), interpolation=cv2.INTER_AREA)
    return np.asarray(np.asarray(small, np.float32).mean(axis=2), np.float32)


def brightness(frames: Iterable[Frame], region: tuple[int, int, int, int]) -> tuple[I64, F64]:
    """Mean brightness of a part of the picture.

    Parameters
    ----------
    frames : Iterable[Frame]
        T pictures.
    region : tuple[int, int, int, int]
        X, y, width and height, px.

    Returns
    -------
    tuple[ndarray of int64, ndarray of float64]
        (T,) stamps in ns and (T,) mean brightness 0..255.

    Raises
    ------
    InputError
        The region lies outside the pictures.
    """
    x, y, w, h = region
    stamps = []
    values = []
    for frame in frames:
        part = frame.image[y : y + h, x : x + w]
        if part.size == 0:
            raise InputError(
                f"region {x},{y},{w},{h} lies outside the picture of {frame.size[0]} x {frame.size[1]}"
            )
        stamps.append(frame.stamp)
        values.append(float(part.mean()))
    return np.array(stamps, np.int64), np.array(values)


def read_wave(path: Path) -> tuple[F64, float]:
    """Samples of a PCM .wav file, channels averaged.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    tuple[ndarray of float64, float]
        (N,) samples -1..1, and the rate in Hz.

    Raises
    ------
    InputError
        It cannot be read, or is of another kind.
    """
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), float(file.getframerate())
            raw = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise InputError(
            f"{path}: cannot be read as PCM .wav ({error}); ffmpeg -i VIDEO {path.stem}.wav makes one"
        ) from None
    if width not in (1, 2, 4):
        raise InputError(f"{path}: {8 * width} bits per sample; 8, 16 or 32 are read")
    values = np.frombuffer(raw, np.dtype({1: "u1", 2: "<i2", 4: "<i4"}[width])).astype(np.float64)
    values = (values - 128) / 128 if width == 1 else values / 2.0 ** (8 * width - 1)
    return values.reshape(-1, channels).mean(axis=1), rate


def burst_onsets(samples: F64, rate_hz: float, *, window_s: float = 0.002, quiet_s: float = 0.05) -> F64:
    """Onsets of tone bursts or clicks: where the short-time RMS rises through half of its high level.

    Parameters
    ----------
    samples : ndarray of float64, shape (N,)
        -1..1.
    rate_hz : float
        Sampling rate.
    window_s : float, optional
        Of the RMS.
    quiet_s : float, optional
        So long before an onset there was none.

    Returns
    -------
    ndarray of float64, shape (K,)
        Seconds from the first sample.
    """
    size = max(1, round(window_s * rate_hz))
    power = np.convolve(samples**2, np.ones(size) / size)[
        : len(samples)
    ]  # causal: the window ends at the sample
    envelope = np.sqrt(np.maximum(power, 0.0))
    crossings = edges(np.arange(len(samples)) / rate_hz, envelope)
    onsets: list[float] = []
    for onset in crossings.tolist():
        if not onsets or onset - onsets[-1] > quiet_s:
            onsets.append(onset)
    # the envelope of a steady tone reaches half its level a quarter of the window after the onset (RMS:
    # sqrt(t / w) = 1/2)
    return np.array(onsets) - 0.25 * window_s


# ---- matching ---------------------------------------------------------------------------------------------------------------


def match(
    amplifier_s: F64, camera_s: F64, *, tolerance_s: float = 0.05, max_offset_s: float = 600.0
) -> tuple[F64, F64]:
    """Pairs of events that belong together, whatever the offset.

    Every difference of an amplifier's and a camera's event votes for an offset; the densest place within
    `tolerance_s` wins, and each event is paired with its nearest. Regular events (a metronome) leave the
    offset open by whole periods: then the smallest offset is taken.

    Parameters
    ----------
    amplifier_s : ndarray of float64, shape (A,)
        Events, s.
    camera_s : ndarray of float64, shape (C,)
        Events, s.
    tolerance_s : float, optional
        Drift and frame period included.
    max_offset_s : float, optional
        Largest offset considered.

    Returns
    -------
    tuple[ndarray of float64, ndarray of float64]
        (K,) events of the amplifier and (K,) of the camera, s.
    """
    a = np.sort(amplifier_s)
    c = np.sort(camera_s)
    if not len(a) or not len(c):
        return np.zeros(0), np.zeros(0)
    differences = np.sort((a[:, None] - c[None, :]).ravel())
    differences = differences[np.abs(differences) <= max_offset_s]
    if not len(differences):
        return np.zeros(0), np.zeros(0)
    last = np.searchsorted(differences, differences + 2 * tolerance_s, side="right")
    counts = last - np.arange(len(differences))
    most = np.flatnonzero(counts == counts.max())
    middles = np.array([np.median(differences[k : last[k]]) for k in most])
    offset = float(middles[np.argmin(np.abs(middles))])
    pairs = _nearest(a, c, offset, 0.0, 0.0, tolerance_s)
    for _ in range(
        8
    ):  # a long recording drifts out of the first window: the line through the pairs brings in the next ones
        if len(pairs) < MIN_EVENTS:
            break
        at, slope, reference, _ = fit_line(pairs[:, 0], pairs[:, 1])
        again = _nearest(a, c, at, slope, reference, tolerance_s)
        if len(again) <= len(pairs):
            break
        pairs = again
    return pairs[:, 0], pairs[:, 1]


def _nearest(a: F64, c: F64, offset: float, slope: float, reference: float, tolerance_s: float) -> F64:
    """(K, 2) pairs of (amplifier, camera) within the tolerance of the line, each event once."""
    pairs: list[tuple[float, float]] = []
    for value in c.tolist():
        expected = value + offset + slope * (value - reference)
        nearest = float(a[np.argmin(np.abs(a - expected))])
        if abs(nearest - expected) <= tolerance_s and (not pairs or nearest > pairs[-1][0]):
            pairs.append((nearest, value))
    return np.array(pairs, np.float64).reshape(-1, 2)


def ambiguous(events_s: F64, tolerance_s: float = 0.05) -> bool:
    """Whether intervals repeat so that another offset would match nearly as many events.

    Parameters
    ----------
    events_s : ndarray of float64, shape (N,)
        Events, s.
    tolerance_s : float, optional
        How near counts as a match.

    Returns
    -------
    bool
        True for regular events.
    """
    steps = np.diff(np.sort(events_s))
    return len(steps) >= 2 and float(np.ptp(steps)) < 2 * tolerance_s


def fit_line(amplifier_s: F64, camera_s: F64) -> tuple[float, float, float, Bools]:
    """Robust line through the pairs; outliers are left out.

    Parameters
    ----------
    amplifier_s : ndarray of float64, shape (K,)
        Events, s.
    camera_s : ndarray of float64, shape (K,)
        The same events, s.

    Returns
    -------
    tuple[float, float, float, ndarray of bool]
        Offset at camera time `reference` in s, drift, reference in s, and (K,) which pairs were used.
    """
    difference = amplifier_s - camera_s
    inliers = np.ones(len(difference), bool)
    reference = float(camera_s.mean())
    slope = 0.0
    offset = float(np.median(difference))
    for _ in range(4):
        x = camera_s[inliers] - reference
        y = difference[inliers]
        if len(x) >= 4 and np.ptp(x) > 5.0:
            slope = float((x - x.mean()) @ (y - y.mean()) / ((x - x.mean()) @ (x - x.mean())))
            slope = float(np.clip(slope, -MAX_PPM * 1e-6, MAX_PPM * 1e-6))
        offset = float((y - slope * x).mean())
        residual = np.abs(difference - offset - slope * (camera_s - reference))
        limit = max(_OUTLIER * 1.4826 * float(np.median(residual)), 1e-4)
        again = residual <= limit
        if (again == inliers).all() or again.sum() < MIN_EVENTS:
            break
        inliers = again
    return offset, slope, reference, inliers


def sync_events(
    amplifier_s: F64,
    camera_s: F64,
    *,
    base: Stamp,
    method: str,
    source: str = "",
    tolerance_s: float = 0.05,
    max_offset_s: float = 600.0,
) -> Sync:
    """Offset and drift from event times.

    Parameters
    ----------
    amplifier_s : ndarray of float64, shape (A,)
        Events, s after `base`.
    camera_s : ndarray of float64, shape (C,)
        Events, s after `base`.
    base : int (ns)
        The stamp they count from on either clock.
    method : str
        For the record.
    source : str, optional
        What was matched, for the record.
    tolerance_s : float, optional
        How near counts as a match.
    max_offset_s : float, optional
        Largest offset considered.

    Returns
    -------
    Sync
        Grade 0 where nothing matches.
    """
    a, c = match(amplifier_s, camera_s, tolerance_s=tolerance_s, max_offset_s=max_offset_s)
    total = max(len(amplifier_s), len(camera_s))
    if len(a) < MIN_EVENTS:
        why = f"{len(amplifier_s)} events on the amplifier's side, {len(camera_s)} on the camera's, {len(a)} match; {MIN_EVENTS} are needed"
        nan = float("nan")
        return Sync(method, nan, nan, base, nan, nan, nan, len(a), total - len(a), 0, source, (why,))
    offset, slope, reference, inliers = fit_line(a, c)
    residual = (a - c - offset - slope * (c - reference))[inliers]
    # a line has two parameters, a constant one
    freedom = max(len(residual) - (2 if slope else 1), 1)
    spread = float(np.sqrt((residual**2).sum() / freedom))
    error = spread / np.sqrt(len(residual))
    notes = []
    if ambiguous(amplifier_s):
        notes.append(
            "the events are evenly spaced: the offset is only known up to whole periods, the smallest was taken"
        )
    missed = total - int(inliers.sum())
    share = inliers.sum() / max(min(len(amplifier_s), len(camera_s)), 1)
    grade = (
        1
        if error < 0.005 and share >= 0.6 and inliers.sum() >= 5
        else 2
        if error < 0.02 and share >= 0.4
        else 3
    )
    if notes:
        grade = max(grade, 3)
    return Sync(
        method,
        offset,
        slope * 1e6,
        base + round(reference * NS),
        float(np.sqrt((residual**2).mean())),
        float(np.abs(residual).max()),
        float(error),
        int(inliers.sum()),
        missed,
        grade,
        source,
        tuple(notes),
    )


def coarse_offset(
    times_a: F64,
    values_a: F64,
    times_c: F64,
    values_c: F64,
    *,
    max_offset_s: float = 30.0,
    rate_hz: float = 50.0,
) -> float:
    """Offset that makes two activity curves (how much moves when) go together best, by cross-correlation.

    Parameters
    ----------
    times_a, times_c : ndarray of float64
        Seconds, of the amplifier's and of the camera's curve.
    values_a, values_c : ndarray of float64
        One value per time, in any unit.
    max_offset_s : float, optional
        Largest offset considered.
    rate_hz : float, optional
        Of the common grid.

    Returns
    -------
    float
        Seconds to add to `times_c`.
    """
    start = min(times_a[0], times_c[0])
    count = int((max(times_a[-1], times_c[-1]) - start) * rate_hz) + 1
    grid = start + np.arange(count) / rate_hz
    a = np.interp(grid, times_a, values_a, left=0.0, right=0.0)
    c = np.interp(grid, times_c, values_c, left=0.0, right=0.0)
    a = a - a.mean()
    c = c - c.mean()
    size = 1 << int(np.ceil(np.log2(2 * count)))
    full = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(c, size)), size)
    steps = np.arange(-round(max_offset_s * rate_hz), round(max_offset_s * rate_hz) + 1)
    return float(steps[np.argmax(full[steps % size])] / rate_hz)
