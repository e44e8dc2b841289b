"""What an amplifier on a face records besides muscle: each artefact can be chosen by name and is known
exactly.

All are functions of (seed, session, time). `white`, `mains`, `wander`, `motion`, `blink` and `liftoff` change
samples; `drops`, `drift` and `bursts` change the stream: packets that never arrive (counted as lost), a
device clock that is up to 200 ppm off, and packets that arrive in bunches. Sizes from the noise table of the
research notes and Büchner's raw recordings.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, did_you_mean
from ..types import F32, F64, Bools
from .script import Script, minimum_jerk
from .seeds import generator
from .semg import MM_PER_UNIT, SAMPLE_BLOCK, Electrodes

SAMPLE_ARTEFACTS = ("white", "mains", "wander", "motion", "blink", "liftoff")
STREAM_ARTEFACTS = ("drops", "drift", "bursts")
ARTEFACTS = SAMPLE_ARTEFACTS + STREAM_ARTEFACTS
USUAL = ("white", "mains", "wander", "blink", "drift")
"""What every real recording has; the default."""

WHITE_RMS_V = 2e-6
RAIL_V = 0.1875
"""Input range of a 24-bit front end at gain 24 (ADS1299, 4.5 V reference)."""
MAINS_LIFTED = 20.0
MAX_DRIFT_PPM = 200.0
DROP_CHANCE = 0.002
"""Of each packet."""
BURST_S = 0.05
"""Bunched packets arrive together on multiples of this."""
_EYE_UNITS = np.array([[-32.0, 27.0], [32.0, 27.0]])  # between K5/6 below and the brow, beside the nasion K24
_MOTION_SLOT_S = 15.0
_LIFT_SLOT_S = 40.0


def choose(names: Iterable[str]) -> frozenset[str]:
    """`names` as a checked set; `usual` and `all` stand for several.

    Raises ConfigError for an unknown one.
    """
    selected: set[str] = set()
    for name in names:
        if name == "usual":
            selected |= set(USUAL)
        elif name == "all":
            selected |= set(ARTEFACTS)
        elif name in ARTEFACTS:
            selected.add(name)
        else:
            hint = did_you_mean(name, ARTEFACTS)
            raise ConfigError(
                f"artefact '{name}' is unknown{hint}; known are {', '.join(ARTEFACTS)}, usual, all"
            )
    return frozenset(selected)


def drift_ppm(seed: int, session: int) -> float:
    """How many millionths the device's clock runs fast in this session, -200..200."""
    return float(generator(seed, session, "drift").uniform(-MAX_DRIFT_PPM, MAX_DRIFT_PPM))


def dropped(seed: int, session: int, packet: int) -> bool:
    """Whether packet number `packet` is lost on the way."""
    return bool(generator(seed, session, "drop", packet).random() < DROP_CHANCE)


def blink_field(points_mm: npt.ArrayLike) -> F64:
    """(...,) potential of a blink relative to its peak at points (..., 2) mm on the face: positive above the
    eyes, negative below.

    Each eye is a vertical dipole (the cornea is positive and turns up under the lid): 2 r dy / (d^2 + r^2)
    with r 15 mm.
    """
    offset = np.asarray(points_mm, np.float64)[..., None, :] - _EYE_UNITS * MM_PER_UNIT
    radius = 15.0
    return np.asarray(
        (2.0 * radius * offset[..., 1] / ((offset**2).sum(axis=-1) + radius**2)).sum(axis=-1), np.float64
    )


class Artefacts:
    """The chosen sample artefacts of one session on its electrodes.

    names: from `ARTEFACTS`; stream artefacts are ignored here. true_rate_hz: how fast the device samples.
    """

    def __init__(
        self,
        seed: int,
        session: int,
        script: Script,
        electrodes: Electrodes,
        true_rate_hz: float,
        names: frozenset[str],
        mains_hz: float = 50.0,
    ) -> None:
        self.names = names
        self.mains_hz = mains_hz
        self._key = (seed, session)
        self._script = script
        self._rate = true_rate_hz
        self._count = len(electrodes.names)
        rng = generator(seed, session, "artefacts")
        bipolar = electrodes.bipolar
        far = np.where(bipolar, 1.0, 2.0)  # a distant reference picks up more of everything
        size = rng.uniform(2.5e-6, 8e-6, self._count) * far
        harmonics = np.array([1.0, 0.12, 0.35, 0.06, 0.15]) * rng.uniform(0.5, 1.5, (self._count, 5))
        self._mains_amplitude = (size[:, None] * harmonics).T
        self._mains_phase = rng.uniform(0.0, 2.0 * np.pi, (5, self._count))
        self._mains_drift = rng.uniform(0.0, 2.0 * np.pi)
        self._wander_hz = rng.uniform([0.02, 0.05, 0.1, 0.2, 0.35], [0.04, 0.09, 0.18, 0.32, 0.7])
        drop = np.array([1.0, 0.7, 0.4, 0.2, 0.08])[:, None]
        size = np.exp(rng.normal(np.log(2e-4), 0.6, self._count)) * far
        self._wander_amplitude = drop * size * rng.uniform(0.3, 1.0, (5, self._count))
        self._wander_phase = rng.uniform(0.0, 2.0 * np.pi, (5, self._count))
        self._offset = rng.normal(0.0, 2e-3, self._count)
        peak = generator(seed, "blink size").uniform(1.5e-4, 3.5e-4)
        below = np.where(bipolar, blink_field(np.where(bipolar[:, None], electrodes.minus, 0.0)), 0.0)
        self.blink_gain: F64 = peak * (blink_field(electrodes.plus) - below)
        """(C,) peak of a blink on each channel, volts."""
        self._burst_of = functools.lru_cache(maxsize=16)(self._burst)
        self._lift_of = functools.lru_cache(maxsize=16)(self._lift)

    def apply(self, number: int, clean: F32) -> F32:
        """(N, C) volts as recorded from `clean` sEMG, sample block `number`; clipped at the amplifier's
        rails.
        """
        times = (number * SAMPLE_BLOCK + np.arange(SAMPLE_BLOCK)) / self._rate
        out = clean.astype(np.float64)
        mains = self._mains(times) if self.names & {"mains", "liftoff"} else None
        if "white" in self.names:
            out += WHITE_RMS_V * generator(*self._key, "white", number).standard_normal(out.shape)
        if mains is not None and "mains" in self.names:
            out += mains
        if "wander" in self.names:
            turn = 2.0 * np.pi * np.outer(times, self._wander_hz)
            out += _waves(turn, self._wander_amplitude, self._wander_phase) + self._offset
        if "motion" in self.names:
            self._add_motion(times, out)
        if "blink" in self.names:
            self._add_blinks(times, out)
        if mains is not None and "liftoff" in self.names:
            self._add_liftoff(times, mains, out)
        return np.clip(out, -RAIL_V, RAIL_V).astype(np.float32)

    def _mains(self, times: F64) -> F64:
        """(N, C): five harmonics; the grid's frequency wanders by 0.05 Hz within some minutes."""
        slow = 2.0 * np.pi / 97.0
        cycles = self.mains_hz * times - 0.05 / slow * np.cos(slow * times + self._mains_drift)
        return _waves(
            2.0 * np.pi * cycles[:, None] * np.arange(1, 6), self._mains_amplitude, self._mains_phase
        )

    def _burst(self, slot: int) -> tuple[float, float, F64, F64, F64] | None:
        """Start, length, frequencies (6,), amplitudes and phases (6, C) of the motion burst in a slot of 15
        s, if it has one.
        """
        rng = generator(*self._key, "motion", slot)
        if rng.random() > 0.5:
            return None
        length = float(rng.uniform(0.4, 1.6))
        start = slot * _MOTION_SLOT_S + float(rng.uniform(0.0, _MOTION_SLOT_S - length))
        size = np.exp(rng.uniform(np.log(1e-4), np.log(1e-3))) * np.exp(rng.normal(-0.5, 0.6, self._count))
        amplitude = size * rng.uniform(0.1, 0.6, (6, 1))
        return (
            start,
            length,
            rng.uniform(1.0, 20.0, 6),
            amplitude,
            rng.uniform(0.0, 2.0 * np.pi, (6, self._count)),
        )

    def _add_motion(self, times: F64, out: F64) -> None:
        for slot in range(int(times[0] // _MOTION_SLOT_S), int(times[-1] // _MOTION_SLOT_S) + 1):
            burst = self._burst_of(slot)
            if burst is None:
                continue
            start, length, frequencies, amplitude, phase = burst
            low, high = np.searchsorted(times, (start, start + length))
            since = times[low:high] - start
            window = np.sin(np.pi * since / length) ** 2
            out[low:high] += window[:, None] * _waves(
                2.0 * np.pi * np.outer(since, frequencies), amplitude, phase
            )

    def _add_blinks(self, times: F64, out: F64) -> None:
        for blink in self._script.blinks(float(times[0]) - 0.5, float(times[-1]) + 0.1):
            since = times - blink
            out += (minimum_jerk(since / 0.11) * minimum_jerk((0.32 - since) / 0.20))[
                :, None
            ] * self.blink_gain

    def _lift(self, slot: int) -> tuple[int, float, float, float, float] | None:
        """Channel, start, moment of the rail, end and rail (V) of the lift-off in a slot of 40 s, if it has
        one.
        """
        rng = generator(*self._key, "lift", slot)
        if rng.random() > 0.5:
            return None
        start = slot * _LIFT_SLOT_S + float(rng.uniform(0.0, 20.0))
        loose = rng.uniform(2.0, 5.0)
        off = rng.uniform(3.0, 10.0)
        return (
            int(rng.integers(self._count)),
            start,
            start + loose,
            start + loose + off,
            float(rng.choice([-RAIL_V, RAIL_V])),
        )

    def _add_liftoff(self, times: F64, mains: F64, out: F64) -> None:
        """While an electrode comes loose the muscle fades and mains grows twentyfold; then the input hangs at
        a rail.
        """
        for slot in range(int(times[0] // _LIFT_SLOT_S), int(times[-1] // _LIFT_SLOT_S) + 1):
            lift = self._lift_of(slot)
            if lift is None:
                continue
            channel, start, railed, end, rail = lift
            low, middle, high = np.searchsorted(times, (start, railed, end))
            out[low:middle, channel] = MAINS_LIFTED * mains[low:middle, channel]
            out[middle:high, channel] = rail

    def lifted(self, time_s: float) -> Bools:
        """(C,) which electrodes are loose or off at `time_s`; all False unless `liftoff` was chosen."""
        out = np.zeros(self._count, bool)
        lift = self._lift_of(int(time_s // _LIFT_SLOT_S)) if "liftoff" in self.names else None
        if lift is not None and lift[1] <= time_s < lift[3]:
            out[lift[0]] = True
        return out


def _waves(turn: F64, amplitude: F64, phase: F64) -> F64:
    """(N, C) sum over K of amplitude[k, c] sin(turn[n, k] + phase[k, c]), as two small matrix products."""
    return np.asarray(
        np.sin(turn) @ (amplitude * np.cos(phase)) + np.cos(turn) @ (amplitude * np.sin(phase)), np.float64
    )
