"""Contact quality of each channel, once a second, from samples that no filter has touched.

A poor contact costs more than a poor model (emg2face, arXiv 2610.09304: r 0.65 against 0.79), and a
band-passed envelope hides it. Five faults are looked for, each with a score from 0 (unusable) to 1; the
channel's score is the worst of them:

| reason | measured | 1 at | 0 at |
|---|---|---|---|
| rail | share of samples at the amplifier's limit | 0.2 % | 5 % |
| flat | share of samples equal to the one before, or no noise at all | 90 % | 99 %, or EMG band below 0.05 uV |
| mains | mains and harmonics / EMG band, RMS | 4 | 40 |
| motion | 1-20 Hz / EMG band, RMS | 30 | 300 |
| gap | share of samples lost or not finite | none | 10 % |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from ..errors import InputError
from ..types import F32, F64, NS, Array, Stamp
from .filters import LIMIT_V

REASONS: tuple[str, ...] = ("rail", "flat", "mains", "motion", "gap")
GOOD = 0.5
"""A channel below this is named in health and counts as bad in a calibration."""

_QUIET_V = 0.05e-6  # below the input noise of any amplifier
_CLIP_V = 1e-3  # a repeated extreme below this is a coarse converter, not a rail


@dataclass(frozen=True, eq=False)
class Contact:
    """One judgement of C channels.

    Parameters
    ----------
    stamp : int (ns)
        End of the second judged.
    score : ndarray of float64, shape (C,)
        0 unusable .. 1 perfect.
    parts : ndarray of float64, shape (C, 5)
        Score per entry of `REASONS`.
    mains_v, motion_v, emg_v : ndarray of float64, shape (C,)
        RMS in volts; NaN where no sample was usable.
    """

    stamp: Stamp
    score: F64
    parts: F64
    mains_v: F64
    motion_v: F64
    emg_v: F64

    def reasons(self, channel: int) -> tuple[str, ...]:
        """What is wrong with a channel.

        Parameters
        ----------
        channel : int
            Index.

        Returns
        -------
        tuple[str, ...]
            The reasons that score below `GOOD`, worst first.
        """
        order = np.argsort(self.parts[channel], kind="stable")
        return tuple(REASONS[i] for i in order if self.parts[channel, i] < GOOD)

    def describe(self, names: Sequence[str], ignore: Sequence[str] = ()) -> str:
        """The channels below `GOOD`, such as `F3 (mains), F7 (flat, gap)`.

        Parameters
        ----------
        names : Sequence[str]
            (C,) names.
        ignore : Sequence[str], optional
            Names that are left out.

        Returns
        -------
        str
            Empty where all are good.
        """
        poor = [i for i, name in enumerate(names) if self.score[i] < GOOD and name not in ignore]
        bad = [f"{names[i]} ({', '.join(self.reasons(i))})" for i in poor]
        return ", ".join(bad)


class ContactMonitor:
    """Collects a second of raw samples, judges it, and starts over.

    Amplifier limits and stuck values are looked for on the amplifier's own channels (S), spectra on the
    channels of the montage (C), because what is common to both contacts of a pair does no harm.

    Parameters
    ----------
    rate_hz : float
        Sampling rate.
    contacts : Sequence[Sequence[int]]
        For each of the C channels the amplifier channels it sits on.
    sources : int
        S.
    mains_hz : float, optional
        Mains frequency.
    rail_v : float, optional
        Limit of the amplifier.
    period_s : float, optional
        Length of what is judged at once.
    """

    def __init__(
        self,
        rate_hz: float,
        contacts: Sequence[Sequence[int]],
        sources: int,
        *,
        mains_hz: float = 50.0,
        rail_v: float = LIMIT_V,
        period_s: float = 1.0,
    ) -> None:
        self.rate_hz = rate_hz
        self.mains_hz = mains_hz
        self.rail_v = rail_v
        self._count = max(8, round(rate_hz * period_s))
        if any(not 0 <= index < sources for contact in contacts for index in contact):
            raise InputError(f"contacts name amplifier channels outside 0..{sources - 1}")
        self._contacts = np.zeros((len(contacts), sources), bool)
        for channel, contact in enumerate(contacts):
            self._contacts[channel, list(contact)] = True
        self._raw = np.zeros((self._count, sources), np.float32)
        self._mixed = np.zeros((self._count, len(contacts)), np.float32)
        self._filled = 0
        self._lost = 0
        self._window = np.hanning(self._count).astype(np.float32)
        ramp = np.linspace(-1.0, 1.0, self._count, dtype=np.float32)
        self._ramp = ramp / np.linalg.norm(ramp)
        frequency = np.fft.rfftfreq(self._count, 1.0 / rate_hz)
        self._top = int(np.searchsorted(frequency, 460.0))
        self._bands = self._masks(np.asarray(frequency[: self._top], np.float64))
        self.last: Contact | None = None

    def _masks(self, frequency: F64) -> dict[str, F32]:
        top = min(450.0, 0.45 * self.rate_hz)
        mains = np.zeros(len(frequency), bool)
        if self.mains_hz > 0:
            harmonic = np.round(frequency / self.mains_hz)
            mains = (harmonic >= 1) & (np.abs(frequency - harmonic * self.mains_hz) <= 2.0)
        masks = {
            "mains": mains,
            "motion": (frequency >= 1.0) & (frequency < 20.0) & ~mains,
            "emg": (frequency >= 20.0) & (frequency <= top) & ~mains,
        }
        return {name: mask.astype(np.float32) for name, mask in masks.items()}

    def restart(self) -> None:
        """Forget the second in progress and the last judgement."""
        self._filled = 0
        self._lost = 0
        self.last = None

    def push(self, raw: Array, mixed: Array, end: Stamp, lost: int = 0) -> list[Contact]:
        """Take samples and give the judgements that became due, one per second of samples.

        Parameters
        ----------
        raw : ndarray, shape (N, S)
            Samples of the amplifier, V.
        mixed : ndarray, shape (N, C)
            The same instants after the montage, V.
        end : int (ns)
            End of the last sample.
        lost : int, optional
            Samples missing before them.

        Returns
        -------
        list[Contact]
            Oldest first.
        """
        done: list[Contact] = []
        self._lost += lost
        start = 0
        while start < len(raw):
            take = min(len(raw) - start, self._count - self._filled)
            self._raw[self._filled : self._filled + take] = raw[start : start + take]
            self._mixed[self._filled : self._filled + take] = mixed[start : start + take]
            self._filled += take
            start += take
            if self._filled == self._count:
                self.last = self._assess(end - round((len(raw) - start) / self.rate_hz * NS))
                done.append(self.last)
                self._filled = 0
                self._lost = 0
        return done

    def _assess(self, stamp: Stamp) -> Contact:
        rms = self._spectrum()
        mains = rms["mains"]
        motion = rms["motion"]
        emg = rms["emg"]
        floor = np.maximum(emg, _QUIET_V)
        rail, flat = self._stuck()
        parts = np.stack(
            [
                rail,
                np.where(emg < _QUIET_V, 0.0, flat),
                _fall(np.log10(mains / floor + 1e-9), np.log10(4.0), np.log10(40.0)),
                _fall(np.log10(motion / floor + 1e-9), np.log10(30.0), np.log10(300.0)),
                _fall(
                    ((~np.isfinite(self._mixed)).sum(axis=0) + self._lost) / (self._count + self._lost),
                    0.0,
                    0.10,
                ),
            ],
            axis=1,
        )
        return Contact(stamp, parts.min(axis=1), parts, mains, motion, emg)

    def _stuck(self) -> tuple[F64, F64]:
        """Scores for rails and stuck values, the worst contact of each channel."""
        x = self._raw
        repeats = x[1:] == x[:-1]
        at_limit = np.abs(x) >= self.rail_v
        # an unknown rail shows as the window's own extreme, reached again and again, far from zero
        for extreme in (np.fmax.reduce(x, axis=0), np.fmin.reduce(x, axis=0)):
            if np.any(np.abs(extreme) > _CLIP_V):
                at_limit |= (x == extreme) & (np.abs(extreme) > _CLIP_V)
        return self._worst(_fall(at_limit.mean(axis=0), 0.002, 0.05)), self._worst(
            _fall(repeats.mean(axis=0), 0.90, 0.99)
        )

    def _worst(self, score: F64) -> F64:
        return np.asarray(np.where(self._contacts, score[None, :], 1.0).min(axis=1))

    def _spectrum(self) -> dict[str, F64]:
        """RMS per band and channel, V, after taking out offset and slope.

        A sample that is no voltage counts as the mean.
        """
        x = np.ascontiguousarray(self._mixed.T)
        good = np.abs(x) < 2 * self.rail_v
        if good.all():
            x -= x.mean(axis=1, keepdims=True)
        else:
            mean = np.where(good, x, 0.0).sum(axis=1, keepdims=True) / np.maximum(
                good.sum(axis=1, keepdims=True), 1
            )
            x = np.where(good, x - mean, 0.0).astype(np.float32)
        x -= (x @ self._ramp)[:, None] * self._ramp
        x *= self._window
        spectrum = fft.rfft(x, axis=1)[:, : self._top]
        power = (spectrum.real**2 + spectrum.imag**2) * (2.0 / (self._count * float((self._window**2).sum())))
        return {name: np.sqrt((power @ mask).astype(np.float64)) for name, mask in self._bands.items()}


def _fall(value: npt.ArrayLike, good: float, bad: float) -> F64:
    """1 up to `good`, 0 from `bad` on, straight between."""
    return np.clip((bad - np.asarray(value, np.float64)) / (bad - good), 0.0, 1.0)
