"""Raw EMG -> envelope, live: causal, stateful, and independent of how the stream is cut into chunks.

Second-order sections in transposed direct form II run over all channels at once. A channel whose sample is
not finite (or beyond `limit_v`, where no skin electrode can be) restarts alone at its next good sample, from
the filter's steady state for that value, so that an electrode offset causes no step; its envelope is NaN
until the filter has settled.

Profiles after methods.md section 3: `live` and `rms100` of this project, `emg2face` of arXiv 2610.09304
(causal here), and `eifer_mmm` as published in the README of the MMM data set (Büchner et al.), which is not
causal and runs offline only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numba
import numpy as np
from scipy import signal

from ..errors import InputError
from ..types import F64, I64, NS, Array, Stamp
from .montage import Montage
from .resample import GridSampler

MICROVOLT = 1e-6
LOW_RATE_HZ = 500.0
"""Sources below this lose most of the EMG band (van Boxtel 2001); they are accepted with a warning."""
LIMIT_V = 1.0
"""No electrode on skin is this far from its neighbour: a larger value is a fault or a wrong unit."""


@dataclass(frozen=True)
class Profile:
    """How raw EMG becomes an envelope. Stored in calibrations and mappings, which refuse data of another
    profile.

    Bessel costs 2 % more ripple than Butterworth, does not overshoot and is 5 ms earlier.

    Parameters
    ----------
    name : str
        What calibrations and mappings call it.
    summary : str
        One sentence.
    causal : bool, optional
        Usable live.
    band_hz : tuple[float, float], optional
        Butterworth band-pass, Hz.
    band_order : int, optional
        Its order.
    notch_q : float, optional
        Quality of the notches at mains and its harmonics.
    notch_to_hz : float, optional
        Highest harmonic with a notch, Hz.
    smoother : Literal['bessel', 'butterworth', 'rms'], optional
        `bessel` or `butterworth` (rectify, low-pass of `smooth_order`), or `rms` (over `window_s`).
    smooth_hz : float, optional
        -3 dB of the low-pass, Hz.
    smooth_order : int, optional
        Its order.
    window_s : float, optional
        Length of the RMS window, s.
    logarithm : bool, optional
        Envelope e becomes 1 uV x ln(1 + e / 1 uV).
    out_hz : float, optional
        Rate of the output grid, Hz.
    """

    name: str
    summary: str
    causal: bool = True
    band_hz: tuple[float, float] = (20.0, 450.0)
    band_order: int = 4
    notch_q: float = 30.0
    notch_to_hz: float = 250.0
    smoother: Literal["bessel", "butterworth", "rms"] = "bessel"
    smooth_hz: float = 6.0
    smooth_order: int = 2
    window_s: float = 0.1
    logarithm: bool = False
    out_hz: float = 100.0


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("live", "20-450 Hz, notches, rectified, 2nd-order 6 Hz low-pass"),
        Profile("rms100", "20-450 Hz, notches, RMS over 100 ms", smoother="rms"),
        Profile(
            "emg2face",
            "20-450 Hz, notches, rectified, 4th-order 8 Hz low-pass, log(1 + e / 1 uV)",
            smoother="butterworth",
            smooth_hz=8.0,
            smooth_order=4,
            logarithm=True,
        ),
        Profile(
            "eifer_mmm",
            "offline: 50 Hz notch Q 2, 10-500 Hz FIR, RMS over 500 ms, 30 Hz",
            causal=False,
            band_hz=(10.0, 500.0),
            notch_q=2.0,
            notch_to_hz=0.0,
            smoother="rms",
            window_s=0.5,
            out_hz=30.0,
        ),
    )
}


def profile_named(name: str) -> Profile:
    """The profile called `name`, or InputError listing them.

    Parameters
    ----------
    name : str
        `live`, `rms100`, ...

    Returns
    -------
    Profile
        The profile.

    Raises
    ------
    InputError
        There is none; lists them.
    """
    try:
        return PROFILES[name]
    except KeyError:
        raise InputError(
            f"filter profile '{name}' is not known; the profiles are {', '.join(PROFILES)}"
        ) from None


@dataclass(frozen=True, eq=False)
class Design:
    """A profile's filters for one sampling rate.

    Parameters
    ----------
    profile : Profile
        Whose filters.
    rate_hz : float
        Sampling rate.
    mains_hz : float
        Mains frequency; 0 without notches.
    band : ndarray of float64, shape (S, 6)
        Second-order sections of band-pass and notches.
    smooth : ndarray of float64, shape (T, 6)
        Sections of the envelope low-pass, T = 0 for RMS.
    window : int
        RMS length in samples, 0 for low-pass.
    band_hz : tuple[float, float]
        The band that fits below the Nyquist frequency.
    notches_hz : tuple[float, ...]
        Where notches are.
    delay_s : float
        Time until the envelope of a burst of white noise has risen to half its level.
    settle_s : float
        Time after which it stays within 5 %.
    notes : tuple[str, ...]
        What had to give way, one sentence each.
    """

    profile: Profile
    rate_hz: float
    mains_hz: float
    band: F64
    smooth: F64
    window: int
    band_hz: tuple[float, float]
    notches_hz: tuple[float, ...]
    delay_s: float
    settle_s: float
    notes: tuple[str, ...]


def design(profile: Profile, rate_hz: float, mains_hz: float = 50.0) -> Design:
    """Filters of a causal profile at a sampling rate.

    Parameters
    ----------
    profile : Profile
        The profile.
    rate_hz : float
        Sampling rate.
    mains_hz : float, optional
        Mains frequency; 0 leaves the notches out.

    Returns
    -------
    Design
        Second-order sections, delay and notes.

    Raises
    ------
    InputError
        The profile is not causal, or the rate is below about 60 Hz.
    """
    if not profile.causal:
        raise InputError(
            f"filter profile '{profile.name}' needs the whole recording; live use live, rms100 or emg2face"
        )
    if not (np.isfinite(rate_hz) and rate_hz > 0):
        raise InputError(f"sampling rate is {rate_hz} Hz; it must be above 0")
    low, high = profile.band_hz
    top = min(high, 0.45 * rate_hz)
    notes = []
    if top < 1.3 * low:
        raise InputError(
            f"{rate_hz:g} Hz is too slow for EMG: the band {low:g}-{high:g} Hz needs at least {1.3 * low / 0.45:.0f} Hz"
        )
    if top < high:
        notes.append(
            f"band {low:g}-{high:g} Hz cut to {low:g}-{top:g} Hz because the source samples at {rate_hz:g} Hz"
        )
    if rate_hz < LOW_RATE_HZ:
        notes.append(f"{rate_hz:g} Hz is below {LOW_RATE_HZ:g} Hz: amplitudes miss most of the EMG band")
    band = signal.butter(profile.band_order, (low, top), "bandpass", fs=rate_hz, output="sos")
    notches = _notches(profile, mains_hz, top)
    for frequency in notches:
        band = np.vstack([band, signal.tf2sos(*signal.iirnotch(frequency, profile.notch_q, fs=rate_hz))])
    window = max(1, round(profile.window_s * rate_hz)) if profile.smoother == "rms" else 0
    smooth = np.zeros((0, 6))
    if profile.smoother == "bessel":
        smooth = signal.bessel(profile.smooth_order, profile.smooth_hz, norm="mag", fs=rate_hz, output="sos")
    elif profile.smoother == "butterworth":
        smooth = signal.butter(profile.smooth_order, profile.smooth_hz, fs=rate_hz, output="sos")
    delay_s, settle_s = _step_times(band, smooth, window, rate_hz)
    return Design(
        profile, rate_hz, mains_hz, band, smooth, window, (low, top), notches, delay_s, settle_s, tuple(notes)
    )


def _notches(profile: Profile, mains_hz: float, top_hz: float) -> tuple[float, ...]:
    if mains_hz <= 0:
        return ()
    upto = min(profile.notch_to_hz, top_hz)
    return tuple(mains_hz * k for k in range(1, int(upto / mains_hz + 1e-9) + 1))


def _step_times(band: F64, smooth: F64, window: int, rate_hz: float) -> tuple[float, float]:
    """(time to 50 %, time to stay within 5 %) of the expected envelope after white noise sets in, s.

    The standard deviation of filtered noise t after its onset is the root of the impulse response's energy up
    to t, so the expected envelope needs no random numbers.
    """
    length = int(rate_hz * 2.0)
    impulse = np.zeros(length)
    impulse[0] = 1.0
    power = np.cumsum(signal.sosfilt(band, impulse) ** 2)
    power /= power[-1]
    if window:
        total = np.cumsum(power)
        total[window:] -= total[:-window].copy()
        envelope = np.sqrt(total / window)
    else:
        envelope = signal.sosfilt(smooth, np.sqrt(power))
    first = int(np.argmax(envelope >= 0.5))
    earlier = envelope[first - 1] if first else 0.0
    half = first - (envelope[first] - 0.5) / (envelope[first] - earlier)
    outside = np.flatnonzero(np.abs(envelope - 1.0) > 0.05)
    return float(half / rate_hz), float((outside[-1] + 1 if len(outside) else 0) / rate_hz)


@numba.njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _sections(sections: Any, state: Any, block: Any) -> None:
    """All samples of a block (N, C) through all sections, in place.

    Channels innermost, so that the loop becomes SIMD.
    """
    rows, channels = block.shape
    for s in range(sections.shape[0]):
        b0 = sections[s, 0]
        b1 = sections[s, 1]
        b2 = sections[s, 2]
        a1 = sections[s, 4]
        a2 = sections[s, 5]
        first = state[s, 0]
        second = state[s, 1]
        for n in range(rows):
            row = block[n]
            for c in range(channels):
                x = row[c]
                y = b0 * x + first[c]
                first[c] = b1 * x - a1 * y + second[c]
                second[c] = b2 * x - a2 * y
                row[c] = y


@numba.njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _moving_rms(window: Any, tail: Any, squares: Any, prefix: Any, position: Any, block: Any) -> None:
    """Root mean square of the last `window` samples, in place.

    The sum is (what is left of the previous window-long run: `tail`) + (what has come of this run: `prefix`).
    Nothing is ever subtracted, so that a huge artefact leaves no rounding error behind. position (1,): place
    in the run.
    """
    channels = block.shape[1]
    ring = position[0]
    for n in range(block.shape[0]):
        row = block[n]
        square = squares[ring]
        left = tail[ring + 1]
        for c in range(channels):
            square[c] = row[c] * row[c]
            prefix[c] += square[c]
            row[c] = np.sqrt((left[c] + prefix[c]) / window)
        ring += 1
        if ring == window:
            ring = 0
            for k in range(window - 1, -1, -1):
                for c in range(channels):
                    tail[k, c] = tail[k + 1, c] + squares[k, c]
            prefix[:] = 0.0
    position[0] = ring


@numba.njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _chain(
    band: Any,
    band_state: Any,
    smooth: Any,
    smooth_state: Any,
    window: Any,
    tail: Any,
    squares: Any,
    prefix: Any,
    position: Any,
    block: Any,
) -> None:
    """Band-pass, notches, rectify and smooth a block (N, C) in place."""
    _sections(band, band_state, block)
    if window > 0:
        _moving_rms(window, tail, squares, prefix, position, block)
        return
    rows, channels = block.shape
    for n in range(rows):
        for c in range(channels):
            block[n, c] = abs(block[n, c])
    _sections(smooth, smooth_state, block)
    for n in range(rows):
        for c in range(channels):
            block[n, c] = max(block[n, c], 0.0)


@numba.njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def _run(
    x: Any,
    limit: Any,
    band: Any,
    band_rest: Any,
    band_state: Any,
    smooth: Any,
    smooth_state: Any,
    window: Any,
    tail: Any,
    squares: Any,
    prefix: Any,
    position: Any,
    age: Any,
    settle: Any,
    out: Any,
) -> int:
    """Samples (N, C) -> envelope (N, C) in `out`; returns how many samples were refused.

    age (C,): good samples since the channel's restart, -1 while it waits for one.
    """
    rows, channels = x.shape
    refused = 0
    waiting = False
    for c in range(channels):
        waiting = waiting or age[c] < 0
    for n in range(rows):
        for c in range(channels):
            out[n, c] = x[n, c]
            refused += not (abs(x[n, c]) <= limit)
    if refused == 0 and not waiting:
        _chain(band, band_state, smooth, smooth_state, window, tail, squares, prefix, position, out)
        for c in range(channels):
            for n in range(min(rows, settle - age[c])):
                out[n, c] = np.nan
            age[c] += rows
        return 0
    for n in range(rows):
        row = out[n : n + 1]
        for c in range(channels):
            if not (abs(row[0, c]) <= limit):
                age[c] = -1
                row[0, c] = 0.0
            elif age[c] < 0:
                age[c] = 0
                for s in range(band.shape[0]):
                    band_state[s, 0, c] = band_rest[s, 0] * row[0, c]
                    band_state[s, 1, c] = band_rest[s, 1] * row[0, c]
                smooth_state[:, :, c] = 0.0
                tail[:, c] = 0.0
                squares[:, c] = 0.0
                prefix[c] = 0.0
        _chain(band, band_state, smooth, smooth_state, window, tail, squares, prefix, position, row)
        for c in range(channels):
            if age[c] < settle:
                row[0, c] = np.nan
            if age[c] >= 0:
                age[c] += 1
    return refused


class Envelope(NamedTuple):
    """K instants of C channels.

    Attributes
    ----------
    stamps : ndarray of int64, shape (K,)
        Ns.
    values : ndarray of float64, shape (K, C)
        Volts, NaN where a channel is restarting.
    """

    stamps: I64
    values: F64


class EnvelopeFilter:
    """Streaming envelope of C channels with one profile.

    The output does not depend on chunk sizes (to 1e-9 of its value). Counters: `gaps` (restarts of
    everything), `refused` (samples that were not finite or beyond `limit_v`).

    Parameters
    ----------
    profile : Profile or str
        Profile or its name.
    rate_hz : float
        Sampling rate.
    channels : int
        C.
    mains_hz : float, optional
        Mains frequency; 0 leaves the notches out.
    limit_v : float, optional
        A sample beyond this is a fault.
    out_hz : float, optional
        Rate of the output grid; None for the profile's.
    jump_s : float, optional
        A stamp this far off the expected one is a gap.

    Raises
    ------
    InputError
        The profile is not causal, or the rate is below about 60 Hz.
    """

    def __init__(
        self,
        profile: Profile | str,
        rate_hz: float,
        channels: int,
        *,
        mains_hz: float = 50.0,
        limit_v: float = LIMIT_V,
        out_hz: float | None = None,
        jump_s: float = 0.05,
    ) -> None:
        settings = profile_named(profile) if isinstance(profile, str) else profile
        self.design = design(settings, rate_hz, mains_hz)
        self.channels = channels
        self.limit_v = limit_v
        self.jump_ns = jump_s * NS
        self.sampler = GridSampler(rate_hz, channels, settings.out_hz if out_hz is None else out_hz)
        self.gaps = 0
        self.refused = 0
        window = self.design.window
        self._band_rest = signal.sosfilt_zi(self.design.band)
        self._band_state = np.zeros((len(self.design.band), 2, channels))
        self._smooth_state = np.zeros((len(self.design.smooth), 2, channels))
        self._tail = np.zeros((window + 1, channels))
        self._squares = np.zeros((max(window, 1), channels))
        self._prefix = np.zeros(channels)
        self._position = np.zeros(1, np.int64)
        self._age = np.full(channels, -1, np.int64)
        self._settle = round(self.design.settle_s * rate_hz)

    def restart(self) -> None:
        """Forget the past, as after a gap: envelopes are NaN until the filters have settled again."""
        self._age[:] = -1
        self._position[0] = 0
        self.sampler.restart()

    def filtered(self, samples: Array) -> F64:
        """Envelope at the sampling rate, before the output grid and the logarithm.

        Parameters
        ----------
        samples : ndarray, shape (N, C)
            Volts.

        Returns
        -------
        ndarray of float64, shape (N, C)
            Volts.

        Raises
        ------
        InputError
            Another number of channels.
        """
        if samples.ndim != 2 or samples.shape[1] != self.channels:
            raise InputError(
                f"EMG samples have shape {samples.shape}; this filter was made for N x {self.channels}"
            )
        if samples.dtype not in (np.float32, np.float64):
            samples = samples.astype(np.float64)
        out = np.empty(samples.shape)
        self.refused += _run(
            np.ascontiguousarray(samples),
            self.limit_v,
            self.design.band,
            self._band_rest,
            self._band_state,
            self.design.smooth,
            self._smooth_state,
            self.design.window,
            self._tail,
            self._squares,
            self._prefix,
            self._position,
            self._age,
            self._settle,
            out,
        )
        return out

    def push(self, samples: Array, stamp: Stamp, lost: int = 0) -> Envelope:
        """Take samples and give the output instants that became known.

        A loss, or a stamp more than `jump_s` off the expected one, restarts everything: no instant inside a
        gap is ever made up.

        Parameters
        ----------
        samples : ndarray, shape (N, C)
            Volts.
        stamp : int (ns)
            When the first row was taken.
        lost : int, optional
            Samples missing before it.

        Returns
        -------
        Envelope
            Instants on the output grid.

        Raises
        ------
        InputError
            Another number of channels.
        """
        expected = self.sampler.expected
        if expected is not None and (lost > 0 or abs(stamp - expected) > self.jump_ns):
            self.gaps += 1
            self.restart()
        stamps, values = self.sampler.push(self.filtered(samples), stamp)
        if self.design.profile.logarithm and len(values):
            values = MICROVOLT * np.log1p(values / MICROVOLT)
        return Envelope(stamps, values)


def eifer_mmm_envelope(
    samples: Array,
    rate_hz: float,
    stamp: Stamp = 0,
    *,
    montage: Montage | None = None,
    mains_hz: float = 50.0,
) -> Envelope:
    """The envelope of a whole recording as the MMM data set publishes it (README, section sEMG), at 30 Hz.

    Steps: mean of each channel removed, NaN to 0; pairs; notch at mains, Q 2, forward; FIR 10-500 Hz, 129
    taps, Hamming, shifted back to zero phase; root of the centred moving mean of squares over 0.5 s (2048
    samples at 4096 Hz); Fourier resampling to 30 Hz, ringing below zero cut off. The README does not say how
    the ends are treated; here the signal is zero beyond them.

    Parameters
    ----------
    samples : ndarray, shape (N, S)
        Volts, monopolar with a bipolar `montage`, or bipolar already.
    rate_hz : float
        Sampling rate.
    stamp : int (ns), optional
        Of the first sample.
    montage : Montage, optional
        Pairs; None where the samples are bipolar.
    mains_hz : float, optional
        Mains frequency.

    Returns
    -------
    Envelope
        Instants at 30 Hz.

    Raises
    ------
    InputError
        The rate is too low, or the shape does not fit.
    """
    profile = PROFILES["eifer_mmm"]
    x = np.asarray(samples, np.float64)
    if x.ndim != 2 or not len(x):
        raise InputError(
            f"EMG samples have shape {x.shape}; they must be samples x channels, at least one sample"
        )
    finite = np.isfinite(x)
    mean = np.where(finite, x, 0.0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
    x = np.where(finite, x - mean, 0.0)
    if montage is not None:
        x = montage.apply(x)
    low, high = profile.band_hz
    top = min(high, 0.45 * rate_hz)
    if top < 1.3 * low:
        raise InputError(f"{rate_hz:g} Hz is too slow for the band {low:g}-{high:g} Hz")
    if 0 < mains_hz < top:
        x = signal.lfilter(*signal.iirnotch(mains_hz, profile.notch_q, fs=rate_hz), x, axis=0)
    taps = signal.firwin(129, (low, top), pass_zero=False, window="hamming", fs=rate_hz)
    x = signal.oaconvolve(x, taps[:, None], mode="full", axes=0)[64 : 64 + len(x)]
    window = max(1, round(profile.window_s * rate_hz))
    half = window // 2
    total = np.vstack([np.zeros((1, x.shape[1])), np.cumsum(x**2, axis=0)])
    after = np.minimum(np.arange(len(x)) + window - half, len(x))
    before = np.maximum(np.arange(len(x)) - half, 0)
    rms = np.sqrt((total[after] - total[before]) / window)
    count = max(1, round(len(x) / rate_hz * profile.out_hz))
    values = np.maximum(signal.resample(rms, count, axis=0), 0.0)
    stamps = stamp + np.round(np.arange(count) * (len(x) / rate_hz / count) * NS).astype(np.int64)
    return Envelope(stamps, values)
