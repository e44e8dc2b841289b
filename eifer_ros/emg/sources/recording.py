"""An EMG recording as it comes out of a file: volts, names, rate, one stamp per sample, and what the file got
wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...types import F32, F64, I64, NS, EmgChunk
from .base import Layout


@dataclass(frozen=True)
class EmgRecording:
    """samples: (N, C) float32 volts.

    stamps: (N,) int64 ns of each sample; they count from 0 where the file knows no date.

    notes: sentences about what the file declares and its data do not bear out. A hole in the stamps is a gap;
    where they go back a new segment begins.
    """

    path: Path
    samples: F32
    stamps: I64
    rate_hz: float
    channels: tuple[str, ...]
    notes: tuple[str, ...] = ()
    scheme: str = ""
    montage: str = ""

    def __post_init__(self) -> None:
        if (
            self.samples.ndim != 2
            or self.samples.shape[1] != len(self.channels)
            or len(self.samples) != len(self.stamps)
        ):
            raise InputError(
                f"{self.path}: {self.samples.shape} samples do not go with {len(self.channels)} channels and {len(self.stamps)} stamps"
            )
        if not len(self.samples):
            raise InputError(f"{self.path}: it holds no samples")
        if not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise InputError(
                f"{self.path}: its sampling rate is {self.rate_hz} Hz; give the right one with ?rate="
            )

    @property
    def layout(self) -> Layout:
        """What is announced before the first chunk."""
        return Layout(self.channels, self.rate_hz, self.notes, scheme=self.scheme, montage=self.montage)

    def edges(self) -> list[int]:
        """Where runs of evenly spaced samples begin, and the end: a gap or a step back in time starts a new
        run.
        """
        steps = np.diff(self.stamps)
        breaks = np.flatnonzero((steps > 1.5 * NS / self.rate_hz) | (steps < 0)) + 1
        return [0, *breaks.tolist(), len(self.stamps)]

    def chunks(self, length: int) -> Iterator[EmgChunk]:
        """The recording as chunks of at most `length` samples that never span a gap; losses are counted."""
        index = 0
        for start, end in pairwise(self.edges()):
            lost = 0
            if start:
                step = int(self.stamps[start] - self.stamps[start - 1])
                lost = max(0, round(step / NS * self.rate_hz) - 1)
            for first in range(start, end, length):
                last = min(first + length, end)
                index += lost
                yield EmgChunk(
                    int(self.stamps[first]),
                    self.rate_hz,
                    self.channels,
                    self.samples[first:last],
                    index,
                    lost,
                )
                index += last - first
                lost = 0


def even_stamps(count: int, rate_hz: float, start_ns: int = 0) -> I64:
    """Stamps of `count` samples at `rate_hz` from `start_ns`, each rounded on its own so that no error adds
    up.
    """
    return start_ns + np.round(np.arange(count) * (NS / rate_hz)).astype(np.int64)


def judge_rate(path: Path, times_s: F64, declared_hz: float | None) -> tuple[float, list[str]]:
    """The rate to believe and what to say about the declared one.

    The measured rate is the inverse median step, so that gaps do not lower it; for bunched stamps, the mean
    over the file.
    """
    if declared_hz and len(times_s) < 10:  # too few stamps to doubt a header
        return declared_hz, []
    steps = np.diff(times_s)
    forward = steps[steps > 0]
    if not len(forward):
        if declared_hz:
            return declared_hz, [f"all its stamps are equal, the declared {declared_hz:g} Hz are used"]
        raise InputError(f"{path}: its time column does not advance; give the rate with ?rate=")
    typical = float(np.median(forward))
    even = len(forward) > 0.9 * len(steps) and np.mean(np.abs(forward - typical) < 0.3 * typical) > 0.7
    if even:
        # the mean of the typical steps is finer than their median where stamps are rounded to milliseconds
        measured = 1.0 / float(forward[np.abs(forward - typical) < 0.5 * typical].mean())
    else:
        measured = len(steps) / float(times_s[-1] - times_s[0]) if times_s[-1] > times_s[0] else 1.0 / typical
    if declared_hz is None:
        near = round(measured)
        return (float(near) if near and abs(measured / near - 1) < 1e-3 else measured), []
    if abs(measured / declared_hz - 1) > 0.01:
        return measured, [
            f"the header says {declared_hz:g} Hz but the stamps say {measured:.4g} Hz, the stamps are believed"
        ]
    return declared_hz, []
