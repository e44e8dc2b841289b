"""Finds how the camera's clock runs against the amplifier's, and writes it beside the recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import topics
from ..errors import InputError
from ..mapping.lag import estimate
from ..mapping.series import Series, assemble
from ..recording.reader import Bag
from ..recording.sync import (
    Sync,
    brightness,
    burst_onsets,
    coarse_offset,
    edges,
    find_led,
    read_wave,
    sync_events,
)
from ..types import F64, NS, EmgChunk, FaceState, FaceStatus, Frame, MuscleActivity, Stamp
from .common import Progress
from .fit import filter_delay_s
from .session import load_session

METHODS = ("auto", "led", "audio", "consensus")
RAW = topics.EMG_RAW.name
PICTURES = topics.CAMERA_IMAGE.name
SKIN_LAG_S = 0.07
"""Skin behind muscle (emg2face: median of 25 participants); what the consensus cannot tell from an offset."""
SKIN_LAG_SD_S = 0.02


def sync(
    bag: Path,
    *,
    method: str = "auto",
    trigger: str = "",
    region: tuple[int, int, int, int] | None = None,
    audio: Path | None = None,
    audio_offset_s: float = 0.0,
    skin_lag_s: float = SKIN_LAG_S,
    faces: str = "auto",
    write: bool = True,
    progress: Progress | None = None,
) -> Sync:
    """Offset and drift of the camera of a recording. Samples are only read.

    `led` matches the rising edges of an EMG channel with a lamp in the picture; `audio` with tone bursts of a
    .wav file; `consensus` lets muscles and face vote; `auto` takes led or audio where there is a trigger
    channel.

    Parameters
    ----------
    bag : Path
        The recording.
    method : str, optional
        `auto`, `led`, `audio` or `consensus`.
    trigger : str, optional
        EMG channel; empty finds it.
    region : tuple[int, int, int, int], optional
        X, y, width and height of the lamp, px; None finds it.
    audio : Path, optional
        The .wav file.
    audio_offset_s : float, optional
        Its first sample lies so long after the first picture.
    skin_lag_s : float, optional
        By which skin follows muscle; taken off by `consensus`.
    faces : str, optional
        Topic, `auto` or `pictures`, see `session.load_session`.
    write : bool, optional
        Into the recording's sync.json.
    progress : Progress, optional
        See `common.Progress`.

    Returns
    -------
    Sync
        Offset, drift and grade.

    Raises
    ------
    InputError
        What a method needs is not there.
    """
    if method not in METHODS:
        raise InputError(f"sync method '{method}': write {', '.join(METHODS)}")
    with Bag(bag) as recording:
        topics = {stream.port for _, stream in recording.streams}
        channels = _channels(recording) if RAW in topics else ()
    channel = trigger or next(
        (name for name in channels if name.lower() in ("trigger", "trig", "sync", "ttl", "marker", "stim")),
        "",
    )
    if method == "auto":
        method = "consensus" if not channel else "audio" if audio is not None else "led"
    if method == "consensus":
        result = _consensus(bag, skin_lag_s, faces, progress)
    else:
        if not channel:
            names = ", ".join(channels) or "no EMG"
            raise InputError(
                f"{bag}: no trigger channel among {names}; name it with --trigger, or use --method consensus"
            )
        base, pulses = _trigger(bag, channel)
        if method == "audio":
            if audio is None:
                raise InputError(
                    "--method audio needs the sound track: --audio FILE.wav (ffmpeg -i VIDEO FILE.wav)"
                )
            samples, rate = read_wave(audio)
            first = _first_picture(bag, topics, base)
            events = burst_onsets(samples, rate) + audio_offset_s + (first - base) / NS
            result = sync_events(
                pulses, events, base=base, method="audio", source=f"{channel}, {audio.name}", tolerance_s=0.02
            )
        else:
            events, where = _lamp(bag, topics, base, region)
            result = sync_events(
                pulses, events, base=base, method="led", source=f"{channel}, lamp at {where}"
            )
    if write:
        result.save(bag)
    return result


def _channels(recording: Bag) -> tuple[str, ...]:
    for _, _, item in recording.items(topics=[RAW]):
        if isinstance(item, EmgChunk):
            return item.channels
    return ()


def _trigger(bag: Path, name: str) -> tuple[Stamp, F64]:
    """(stamp of the first sample, rising edges in s after it) of an EMG channel."""
    times = []
    values = []
    base: Stamp | None = None
    with Bag(bag) as recording:
        for _, _, item in recording.items(topics=[RAW]):
            assert isinstance(item, EmgChunk)
            if name not in item.channels:
                raise InputError(f"{bag}: no EMG channel '{name}'; it has {', '.join(item.channels)}")
            base = item.stamp if base is None else base
            times.append((item.stamp - base) / NS + np.arange(len(item.samples)) / item.rate_hz)
            values.append(item.samples[:, item.channels.index(name)])
    if base is None:
        raise InputError(f"{bag}: its {RAW} holds no sample")
    return base, edges(np.concatenate(times), np.concatenate(values))


def _frames(bag: Path) -> list[Frame]:
    # small copies: a lamp is found in a picture of a few hundred pixels, and a session of full ones would not
    # fit
    frames = []
    with Bag(bag) as recording:
        for _, _, item in recording.items(topics=[PICTURES]):
            if isinstance(item, Frame):
                frames.append(
                    item
                    if item.size[0] <= 160
                    else Frame(item.stamp, np.ascontiguousarray(item.image[::4, ::4]))
                )
    return frames


def _first_picture(bag: Path, topics: set[str], base: Stamp) -> Stamp:
    if PICTURES not in topics:
        return base
    with Bag(bag) as recording:
        return next((stamp for stamp, _, _ in recording.items(topics=[PICTURES])), base)


def _lamp(
    bag: Path, topics: set[str], base: Stamp, region: tuple[int, int, int, int] | None
) -> tuple[F64, str]:
    if PICTURES not in topics:
        raise InputError(f"{bag}: no pictures in this recording, so no lamp; use --method audio or consensus")
    if region is None:
        small = _frames(bag)
        (x, y, w, h), _ = find_led(small)
        factor = 4 if _size(bag)[0] > 160 else 1
        region = (x * factor, y * factor, w * factor, h * factor)
    with Bag(bag) as recording:
        stamps, values = brightness(
            (item for _, _, item in recording.items(topics=[PICTURES]) if isinstance(item, Frame)), region
        )
    return edges((stamps - base) / NS, values), ",".join(map(str, region))


def _size(bag: Path) -> tuple[int, int]:
    with Bag(bag) as recording:
        return next(item.size for _, _, item in recording.items(topics=[PICTURES]) if isinstance(item, Frame))


def _consensus(bag: Path, skin_lag_s: float, faces: str, progress: Progress | None) -> Sync:
    session = load_session(bag, faces=faces, progress=progress, synced=False)
    if session.activity and np.isnan(session.activity[0].activation).all():
        session.activity = _scaled(session.activity)
    tracked = [state for state in session.faces if state.status != FaceStatus.LOST]
    if len(tracked) < 20 or not session.activity:
        raise InputError(
            f"{bag}: consensus needs muscles and faces; found {len(session.activity)} instants and {len(tracked)} faces"
        )
    base = session.activity[0].stamp
    moved = coarse(session.activity, tracked, base)
    shifted = [replace(state, stamp=state.stamp + round(moved * NS)) for state in tracked]
    series: Series = assemble(session.activity, shifted, session.head.expression_names)
    profile = session.activity[0].profile or "live"
    lag = estimate(series, filter_delay_s(profile))
    source = f"{lag.votes} pairs of muscle and coefficient, faces from {session.faces_from}"
    nan = float("nan")
    if not lag.grade:
        return Sync(
            "consensus",
            nan,
            nan,
            base,
            nan,
            nan,
            nan,
            0,
            0,
            0,
            source,
            ("no muscle and no part of the face move together",),
        )
    middle = base + round((series.times[0] + series.times[-1]) / 2 * NS)
    offset = moved - (lag.lag_s - skin_lag_s)
    error = float(np.hypot(lag.spread_s / np.sqrt(max(lag.votes, 1)), SKIN_LAG_SD_S))
    notes = (
        f"the skin is taken to follow the muscle by {1e3 * skin_lag_s:.0f} ms; persons differ by some {1e3 * SKIN_LAG_SD_S:.0f} ms",
    )
    reference = middle - round(offset * NS)
    return Sync(
        "consensus",
        offset,
        -lag.drift_ppm,
        reference,
        lag.spread_s,
        nan,
        error,
        lag.votes,
        0,
        max(lag.grade, 2),
        source,
        notes,
    )


def _scaled(activity: list[MuscleActivity]) -> list[MuscleActivity]:
    """Envelopes as shares of their own 99th percentile, where no calibration is possible."""
    envelope = np.stack([item.envelope for item in activity])
    finite = np.isfinite(envelope).all(axis=1)  # a filter that settles has no value yet
    if not finite.any():
        raise InputError("no instant at which every EMG channel has an envelope")
    top = np.percentile(envelope[finite], 99, axis=0)
    return [
        replace(item, activation=np.clip(item.envelope / np.maximum(top, 1e-9), 0, 1).astype(np.float32))
        for item in activity
    ]


def coarse(activity: list[MuscleActivity], faces: list[FaceState], base: Stamp) -> float:
    """First guess of the offset: when much muscle is active, much of the face is away from its rest.

    Parameters
    ----------
    activity : list[MuscleActivity]
        Of the recording.
    faces : list[FaceState]
        Of the recording.
    base : int (ns)
        The stamp they count from.

    Returns
    -------
    float
        Seconds.
    """
    times = np.array([item.stamp - base for item in activity]) / NS
    muscle = np.nan_to_num(np.stack([item.activation for item in activity])).mean(axis=1)
    values = np.stack([state.expression for state in faces])
    away = np.linalg.norm(values - np.median(values, axis=0), axis=1)
    return coarse_offset(times, muscle, np.array([state.stamp - base for state in faces]) / NS, away)
