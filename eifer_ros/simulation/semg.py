"""sEMG from first principles: motor-unit pools -> spike trains -> travelling tripoles -> what each electrode
sees.

Recruitment and rate coding after Fuglevand, Winter & Patla (1993, J Neurophysiol 70): thresholds and unit
sizes grow exponentially through the pool, each unit fires faster with excitation up to its own peak.
Parameters are facial: recruited at 10 Hz, peaks of 65 Hz for the first and 45 Hz for the last unit (limb
muscles peak at 35). Each unit's action potential is two tripoles (Rosenfalck's intracellular potential, as
reduced by Merletti and Farina) that travel from the end-plate to both tendons and are seen through an
anisotropic half space. Electrodes and muscles lie on the flattened face of the electrode schemes, so
crosstalk is a matter of geometry.

Everything is computed in fixed blocks that depend on their own number only. Spike trains keep their phase
across block borders: each unit's phase at a border is drawn from the seed, and the rate inside the block is
bent by a fraction of a percent to meet it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np
import numpy.typing as npt
from scipy import signal, special

from ..emg.montage import FRIDLUND, KURAMOTO, load_scheme
from ..errors import InputError
from ..types import F32, F64, I64, Bools
from .muscles import BLOCK_S, GRID_HZ, MUSCLES, MuscleTimeline
from .seeds import generator

Mode = Literal["units", "fast"]

MM_PER_UNIT = 0.9
"""Millimetres on the skin per scheme unit: the face is about 18 cm wide from ear to ear over the cheeks."""
CONTACT_OFFSET_MM = 5.0
UNITS = 60
"""Motor units per muscle."""
RECRUITMENT_RANGE = 30.0
SIZE_RANGE = 30.0
MIN_RATE_HZ = 10.0
PEAK_RATE_HZ = 65.0
PEAK_RATE_SPREAD_HZ = 20.0
RATE_GAIN = 1.0
INTERVAL_CV = 0.2
TRIPOLE = (75.2, -108.0, 32.8)
TRIPOLE_MM = (0.0, 2.10, 6.93)
ANISOTROPY = 6.0
RADIAL_CONDUCTIVITY = 0.303
FIBRES = 12
"""Fibres that stand for one motor unit; their end-plates are scattered along the muscle."""
END_PLATE_SCATTER_MM = 4.5
FIBRE_LENGTH_SPREAD = 0.2
VELOCITY_MM_PER_MS = 3.7
"""Mean conduction velocity; facial fibres are thin, so the slow end of the usual 4 +- 0.3 m/s."""
SKIN_MM = 2.5
PHASES = 4
"""Sub-sample positions at which each potential is stored."""
FIR_DELAY = 4
"""Samples by which the anti-alias filter delays the stored potentials; spikes are placed earlier by as much.
"""
SAMPLE_BLOCK = 1024
"""EMG samples per block."""

# RMS in volts on the muscle's own bipolar channel at full contraction: the largest values of the published
# table of facial expressions (forehead 329, cheek 230, above the eye 172, by the mouth 156, nose-mouth 135,
# beside the eye 108 uV); masseter by its clench.
_FULL_RMS: tuple[float, ...] = tuple(
    1e-6 * uv for uv in (330, 290, 172, 150, 145, 165, 156, 160, 115, 230, 180)
)
# End-plates beside the pair (mm along the scheme's fibre direction) and half-fibre lengths ahead and behind.
# The frontalis is innervated above its pair and ends at the brow; the corrugator from its lateral end; the
# others before the pair.
_ENDPLATE_MM: tuple[float, ...] = (9, 9, 9, -9, -9, -9, -9, -9, -9, -9, -9)
# fmt: off
_HALF_FIBRE_MM: tuple[tuple[float, float], ...] = (
    (25, 16), (25, 16), (16, 15), (16, 15), (20, 15), (17, 15), (16, 15), (16, 15), (20, 16), (24, 18), (25, 18)
)
# fmt: on


def thresholds() -> F64:
    """(UNITS,) recruitment threshold of each unit, RTE_i = exp(i ln(RR) / n), in units of the smallest."""
    return np.asarray(np.exp(np.arange(1, UNITS + 1) * np.log(RECRUITMENT_RANGE) / UNITS), np.float64)


def peak_rates() -> F64:
    """(UNITS,) peak firing rate, PFR_i = PFR_1 - PFRD RTE_i / RTE_n, Hz."""
    recruited = thresholds()
    return np.asarray(PEAK_RATE_HZ - PEAK_RATE_SPREAD_HZ * recruited / recruited[-1], np.float64)


def maximum_drive() -> float:
    """Excitatory drive at which the last unit reaches its peak rate: RTE_n + (PFR_n - MFR) / g."""
    return float(thresholds()[-1] + (peak_rates()[-1] - MIN_RATE_HZ) / RATE_GAIN)


def firing_rates(excitation: npt.ArrayLike) -> F64:
    """(..., UNITS) firing rates in Hz at `excitation` 0..1 (1 is the maximum drive); 0 for a unit that is not
    recruited.
    """
    drive = np.asarray(excitation, np.float64)[..., None] * maximum_drive()
    recruited = thresholds()
    rates = np.minimum(peak_rates(), MIN_RATE_HZ + RATE_GAIN * (drive - recruited))
    return np.where(drive >= recruited, rates, 0.0)


def unit_sizes() -> F64:
    """(UNITS,) relative amplitude of each unit's potential, P_i = exp(i ln(RP) / n)."""
    return np.asarray(np.exp(np.arange(1, UNITS + 1) * np.log(SIZE_RANGE) / UNITS), np.float64)


@dataclass(frozen=True)
class Electrodes:
    """C channels on the flattened face.

    names (C,), muscles (C,) and positions (C, 2) as in the scheme; scheme and kind (`bipolar`, `monopolar`)
    for EmgChannelInfo; plus, minus (C, 2) contacts in mm; `minus` is NaN for a monopolar channel, whose
    reference is far away.
    """

    names: tuple[str, ...]
    muscles: tuple[str, ...]
    scheme: str
    kind: str
    positions: F64
    plus: F64
    minus: F64

    @property
    def bipolar(self) -> Bools:
        """(C,) which channels are the difference of two contacts."""
        return np.asarray(np.isfinite(self.minus[:, 0]), np.bool_)


def place_electrodes(scheme: str, seed: int, session: int = 0, *, jitter: bool = True) -> Electrodes:
    """Electrodes of `scheme` on participant `seed`: shifted by about 2 mm per person and 0.7 mm per session.

    scheme: `fridlund` (22 bipolar), `kuramoto` (19 monopolar), `both` (the contacts F1a, F1b ... and K1 ...
    as 63 monopolar channels), or any scheme that `emg.montage.load_scheme` knows.
    """
    parts = (FRIDLUND, KURAMOTO) if scheme == "both" else (load_scheme(scheme),)
    names: list[str] = []
    muscles: list[str] = []
    rows: list[tuple[F64, F64, F64]] = []
    nowhere = np.full(2, np.nan)
    for part in parts:
        for name, muscle, position, fibre in zip(
            part.names, part.muscles, part.positions, part.fibres, strict=True
        ):
            if not np.isfinite(position).all():
                raise InputError(
                    f"scheme '{part.name}': channel {name} has no position, so nothing can be simulated for it"
                )
            site = position * MM_PER_UNIT
            if jitter:
                site = site + generator(seed, "electrode", name).normal(0.0, 2.0, 2)
                site = site + generator(seed, session, "electrode", name).normal(0.0, 0.7, 2)
            if not part.bipolar:
                names = [*names, name]
                muscles = [*muscles, muscle]
                rows.append((position, site, nowhere))
                continue
            along = fibre if np.isfinite(fibre).all() else np.array([0.0, 1.0])
            ahead = site + CONTACT_OFFSET_MM * along
            behind = site - CONTACT_OFFSET_MM * along
            if scheme == "both":
                names = [*names, f"{name}a", f"{name}b"]
                muscles = [*muscles, f"{muscle}_a", f"{muscle}_b"]
                offset = CONTACT_OFFSET_MM / MM_PER_UNIT * along
                rows += [(position + offset, ahead, nowhere), (position - offset, behind, nowhere)]
            else:
                names = [*names, name]
                muscles = [*muscles, muscle]
                rows.append((position, ahead, behind))
    positions, plus, minus = (np.array([row[i] for row in rows]) for i in range(3))
    kind = "bipolar" if np.isfinite(minus).any() else "monopolar"
    return Electrodes(tuple(names), tuple(muscles), scheme, kind, positions, plus, minus)


@dataclass(frozen=True)
class MotorUnits:
    """Where the motor units of one participant lie: M = 22 muscles, U units, F fibres, in mm on the flattened
    face.

    endplate (M, U, F, 2); direction (M, 2) unit vector along the fibre; ahead, behind (M, U, F) half-fibre
    lengths; depth (M, U, F); velocity (M, U) mm/ms; size (U,).
    """

    endplate: F64
    direction: F64
    ahead: F64
    behind: F64
    depth: F64
    velocity: F64
    size: F64


@functools.lru_cache(maxsize=8)
def motor_units(seed: int) -> MotorUnits:
    """The motor units of participant `seed`.

    End-plates lie off centre, so that the electrode pair is beside them (Lapatki).
    """
    rng = generator(seed, "motor units")
    count = len(MUSCLES)
    direction = np.asarray(FRIDLUND.fibres, np.float64)
    across = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    centre = FRIDLUND.positions * MM_PER_UNIT + rng.normal(0.0, 1.0, (count, 2))
    along = np.array([_ENDPLATE_MM[m // 2] for m in range(count)])[:, None] + rng.uniform(
        -2.0, 2.0, (count, UNITS)
    )
    sideways = rng.uniform(-4.0, 4.0, (count, UNITS))
    # one fibre in each quantile of the scatter: a few fibres then smear a potential as smoothly as the
    # hundreds of a real unit
    strata = (np.arange(FIBRES) + rng.uniform(0.2, 0.8, (count, UNITS, FIBRES))) / FIBRES
    scatter = END_PLATE_SCATTER_MM * special.ndtri(strata)
    spread = rng.normal(0.0, 0.8, (count, UNITS, FIBRES))
    endplate = (
        centre[:, None, None]
        + (along[:, :, None] + scatter)[..., None] * direction[:, None, None]
        + (sideways[:, :, None] + spread)[..., None] * across[:, None, None]
    )
    halves = np.array([_HALF_FIBRE_MM[m // 2] for m in range(count)])
    lengths = rng.normal(0.0, 0.06, (2, count, UNITS, 1)) + rng.normal(
        0.0, FIBRE_LENGTH_SPREAD, (2, count, UNITS, FIBRES)
    )
    # facial fibres end in the skin one by one, so that their ends fade out instead of stopping together
    vary = np.clip(np.exp(lengths), 0.6, 1.4)
    depth = rng.uniform(2.5, 7.0, (count, UNITS, 1)) + rng.normal(0.0, 0.4, (count, UNITS, FIBRES))
    velocity = np.clip(rng.normal(VELOCITY_MM_PER_MS, 0.3, (count, UNITS)), 3.0, 4.6)
    return MotorUnits(
        endplate,
        direction,
        halves[:, :1, None] * vary[0],
        halves[:, 1:, None] * vary[1],
        SKIN_MM + np.clip(depth, 2.0, 8.0),
        velocity,
        unit_sizes(),
    )


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _potentials(
    endplate: F64,
    direction: F64,
    ahead: F64,
    behind: F64,
    depth: F64,
    velocity: float,
    contacts: F64,
    step_ms: float,
    count: int,
    strengths: F64,
    spacing: F64,
) -> F64:
    """(K, T) potential of one motor unit at K contacts, every `step_ms` from the moment it leaves the
    end-plate.

    A pole that has run a distance r in both directions gives h(r), summed over fibres; poles wait at the
    end-plate and stop at the tendons. The three poles see the same h one after the other, so it is tabulated
    once per contact.
    """
    out = np.empty((len(contacts), count))
    pole = np.empty(count, np.float32)
    stride = np.float32(velocity * step_ms)
    for c in range(len(contacts)):
        pole[:] = 0.0
        for f in range(len(endplate)):
            dx = contacts[c, 0] - endplate[f, 0]
            dy = contacts[c, 1] - endplate[f, 1]
            z = np.float32(dx * direction[0] + dy * direction[1])
            x = dy * direction[0] - dx * direction[1]
            far = np.float32(ANISOTROPY * (x * x + depth[f] * depth[f]))
            end = np.float32(ahead[f])
            start = np.float32(behind[f])
            for t in range(count):
                run = np.float32(t) * stride
                forward = z - min(run, end)
                backward = z + min(run, start)
                pole[t] += np.float32(1.0) / np.sqrt(far + forward * forward) + np.float32(1.0) / np.sqrt(
                    far + backward * backward
                )
        for t in range(count):
            total = 0.0
            for k in range(3):
                place = max(t - spacing[k] / (velocity * step_ms), 0.0)
                low = int(place)
                part = place - low
                total += strengths[k] * (pole[low] * (1.0 - part) + pole[min(low + 1, count - 1)] * part)
            out[c, t] = total
    return out / (2.0 * np.pi * RADIAL_CONDUCTIVITY * len(endplate))


def unit_potential(
    units: MotorUnits, muscle: int, unit: int, contacts: npt.ArrayLike, step_ms: float, count: int
) -> F64:
    """(K, T) potential of one motor unit at contacts (K, 2) mm, every `step_ms` after it leaves the
    end-plate.

    phi = 1 / (2 pi s_r) sum_k P_k / sqrt(6 (x^2 + h^2) + (z_e - z_k)^2), two tripoles per fibre; the fibres'
    mean times the size of the unit. Arbitrary scale (see `muscle_scales`).
    """
    strengths = np.asarray(TRIPOLE)
    # the published strengths are rounded; the exact ones sum to zero, or a step would stay behind
    strengths = strengths - strengths.sum() / 3.0
    wave = _potentials(
        units.endplate[muscle, unit],
        units.direction[muscle],
        units.ahead[muscle, unit],
        units.behind[muscle, unit],
        units.depth[muscle, unit],
        float(units.velocity[muscle, unit]),
        np.ascontiguousarray(contacts, np.float64),
        step_ms,
        count,
        strengths,
        np.asarray(TRIPOLE_MM),
    )
    return np.asarray(units.size[unit] * wave, np.float64)


def unit_templates(
    units: MotorUnits, electrodes: Electrodes, rate_hz: float, muscles: tuple[int, ...] = ()
) -> F32:
    """(M, UNITS, PHASES, L, C) potentials of size-scaled units on each channel, low-passed for `rate_hz`; not
    yet in volts.

    Phase p holds the samples that fall p / PHASES of a sample before the spike's grid point. Computed at
    PHASES times the rate and limited to 0.4 of it by a short FIR, as an amplifier does. muscles: indices,
    default all.
    """
    fine_hz = rate_hz * PHASES
    longest_ms = float(max(units.ahead.max(), units.behind.max()) + TRIPOLE_MM[-1]) / float(
        units.velocity.min()
    )
    taps = signal.firwin(2 * FIR_DELAY * PHASES + 1, 0.4 * rate_hz, fs=fine_hz)
    length = int(np.ceil((longest_ms * 1e-3 * fine_hz + len(taps)) / PHASES)) + 1
    count = length * PHASES - len(taps) + 1
    smoother = np.zeros((count, length * PHASES))
    for row in range(count):
        smoother[row, row : row + len(taps)] = taps
    bipolar = electrodes.bipolar[:, None]
    contacts = np.concatenate([electrodes.plus, np.where(bipolar, electrodes.minus, 0.0)])
    channels = len(electrodes.names)
    indices = muscles or tuple(range(len(MUSCLES)))
    out = np.zeros((len(indices), UNITS, PHASES, length, channels), np.float32)
    for row, muscle in enumerate(indices):
        for unit in range(UNITS):
            waves = unit_potential(units, muscle, unit, contacts, 1e3 / fine_hz, count)
            fine = waves[:channels] - np.where(bipolar, waves[channels:], 0.0)
            smooth = (fine @ smoother).reshape(channels, length, PHASES)
            for phase in range(PHASES):
                # sample k after the sample before the spike sees the potential at fine index k PHASES - phase
                out[row, unit, phase, 1 if phase else 0 :] = smooth[
                    :, : length - 1 if phase else length, -phase % PHASES
                ].T
    return out


@functools.lru_cache(maxsize=8)
def nominal_gain(seed: int, rate_hz: float) -> F64:
    """(M, UNITS, 1) energy in V^2 s of each unit's potential on its muscle's own, exactly placed pair.

    Do not modify.

    Scaled so that full contraction gives the table's RMS: by Campbell's theorem the variance of a sum of
    independent trains is the sum of rate x energy. A misplaced pair then picks up less or more, as on a
    person.
    """
    raw = _own_energy(seed, rate_hz)
    return np.asarray(raw * (muscle_scales(seed, rate_hz) ** 2)[:, None, None], np.float64)


@functools.lru_cache(maxsize=8)
def _own_energy(seed: int, rate_hz: float) -> F64:
    exact = place_electrodes("fridlund", seed, jitter=False)
    units = motor_units(seed)
    energy = np.empty((len(MUSCLES), UNITS, 1))
    for muscle in range(len(MUSCLES)):
        one = slice(muscle, muscle + 1)
        own = Electrodes(
            exact.names[one],
            exact.muscles[one],
            exact.scheme,
            exact.kind,
            exact.positions[one],
            exact.plus[one],
            exact.minus[one],
        )
        energy[muscle] = variance_per_rate(unit_templates(units, own, rate_hz, (muscle,)), rate_hz)[0]
    return energy


def muscle_scales(seed: int, rate_hz: float) -> F64:
    """(M,) factors from `unit_templates` to volts: full contraction gives the table's RMS on the muscle's own
    pair.
    """
    variance = np.einsum("u,muc->m", firing_rates(1.0), _own_energy(seed, rate_hz))
    return np.asarray(own_rms() / np.sqrt(variance), np.float64)


def own_rms() -> F64:
    """(M,) RMS in volts of each muscle at full contraction on its own pair, the calibration of the
    simulation.
    """
    return np.array([_FULL_RMS[muscle // 2] for muscle in range(len(MUSCLES))])


@functools.lru_cache(maxsize=4)
def templates_in_volts(seed: int, session: int, scheme: str, rate_hz: float) -> F32:
    """`unit_templates` of a participant's electrodes, scaled to volts. Do not modify."""
    raw = unit_templates(motor_units(seed), place_electrodes(scheme, seed, session), rate_hz)
    scaled = raw * muscle_scales(seed, rate_hz)[:, None, None, None, None].astype(np.float32)
    scaled.flags.writeable = False
    return np.asarray(scaled, np.float32)


def variance_per_rate(templates: F32, rate_hz: float) -> F64:
    """(M, UNITS, C) V^2 per Hz: the energy of each unit's potential on each channel (Campbell's theorem), V^2
    s.
    """
    return np.asarray(
        np.einsum("muplc,muplc->muc", templates, templates, dtype=np.float64) / (PHASES * rate_hz), np.float64
    )


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _uniform(a: int, b: int, c: int, d: int) -> float:
    """A number in (0, 1) from four integers (splitmix64, Steele et al. 2014)."""
    z = np.uint64(a) * np.uint64(0x9E3779B97F4A7C15)
    for value in (b, c, d):
        z = (z ^ np.uint64(value)) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return float((float(z >> np.uint64(11)) + 0.5) / 9007199254740992.0)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _interval(seed: int, unit: int, block: int, count: int, cv: float) -> float:
    """The next inter-spike interval in units of its mean: normal, kept above 0.3 (no unit fires twice at
    once).
    """
    u1 = _uniform(seed, unit, block, 2 * count + 1)
    u2 = _uniform(seed, unit, block, 2 * count + 2)
    return float(max(1.0 + cv * np.sqrt(-2.0 * np.log(u1)) * np.cos(2.0 * np.pi * u2), 0.3))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _spikes(
    excitation: F64,
    recruited: F64,
    peak: F64,
    drive: float,
    lowest: float,
    gain: float,
    cv: float,
    step: float,
    seed: int,
    block: int,
) -> tuple[F64, I64]:
    """Spike times (s after the block's start) and unit numbers (muscle * U + unit), unit by unit, for (T, M)
    excitation.
    """
    steps, muscles = excitation.shape
    units = len(recruited)
    room = 4096
    times = np.empty(room)
    who = np.empty(room, np.int64)
    spike_count = 0
    for m in range(muscles):
        for i in range(units):
            unit = m * units + i
            total = 0.0
            for t in range(steps):
                e = excitation[t, m] * drive
                if e >= recruited[i]:
                    total += min(peak[i], lowest + gain * (e - recruited[i])) * step
            if total == 0.0:
                continue
            first = _uniform(seed, unit, block, 0)
            after = _uniform(seed, unit, block + 1, 0)
            # bend the rate so that the next block's first spike comes one ordinary interval after this
            # block's last
            bend = 1.0
            mark = first
            count = 0
            best = -1.0
            while mark - after < total + 2.0:
                nxt = mark + _interval(seed, unit, block, count, cv)
                meets = nxt - after
                if mark <= meets and (best < 0.0 or abs(meets - total) < abs(best - total)):
                    best = meets
                mark = nxt
                count += 1
            if total > 2.0 and best > 0.0 and abs(best / total - 1.0) < 0.25:
                bend = best / total
            mark = first
            count = 0
            phase = 0.0
            for t in range(steps):
                e = excitation[t, m] * drive
                if e < recruited[i]:
                    continue
                advance = min(peak[i], lowest + gain * (e - recruited[i])) * step * bend
                while mark < phase + advance:
                    if spike_count == room:
                        room *= 2
                        more_times = np.empty(room)
                        more_times[:spike_count] = times[:spike_count]
                        times = more_times
                        more_who = np.empty(room, np.int64)
                        more_who[:spike_count] = who[:spike_count]
                        who = more_who
                    times[spike_count] = (t + (mark - phase) / advance) * step
                    who[spike_count] = unit
                    spike_count += 1
                    mark += _interval(seed, unit, block, count, cv)
                    count += 1
                phase += advance
    return times[:spike_count], who[:spike_count]


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _superpose(
    positions: F64,
    who: I64,
    templates: F32,
    out: F32,
) -> None:
    """Add each unit's potential to `out` (N, C) at `positions` in samples; templates (M U, PHASES, L, C)."""
    count, channels = out.shape
    phases = templates.shape[1]
    length = templates.shape[2]
    for s in range(len(positions)):
        fine = int(np.ceil(positions[s] * phases))
        start = fine // phases
        phase = fine - start * phases
        wave = templates[who[s], phase]
        for k in range(max(0, -start), min(length, count - start)):
            row = out[start + k]
            values = wave[k]
            for c in range(channels):
                row[c] += values[c]


class SpikeTrains:
    """Spike trains of all motor units of a participant, in blocks of 4 s."""

    def __init__(self, seed: int, session: int, timeline: MuscleTimeline) -> None:
        self._seed = int(generator(seed, session, "spikes").integers(1 << 62))
        self._timeline = timeline
        self._of_block = functools.lru_cache(maxsize=4)(self._build)

    def _build(self, block: int) -> tuple[F64, I64]:
        excitation = np.ascontiguousarray(self._timeline.excitation_block(block)[:, : len(MUSCLES)])
        times, who = _spikes(
            excitation,
            thresholds(),
            peak_rates(),
            maximum_drive(),
            MIN_RATE_HZ,
            RATE_GAIN,
            INTERVAL_CV,
            1.0 / GRID_HZ,
            self._seed,
            block + (1 << 40),
        )
        order = np.argsort(times, kind="stable")
        return times[order] + block * BLOCK_S, who[order]

    def between(self, start_s: float, end_s: float) -> tuple[F64, I64]:
        """Times in s and unit numbers (muscle * UNITS + unit) of the spikes within [start, end), in time
        order.
        """
        first = int(np.floor(start_s / BLOCK_S))
        last = int(np.floor(end_s / BLOCK_S))
        parts = [self._of_block(block) for block in range(first, last + 1)]
        times = np.concatenate([part[0] for part in parts])
        who = np.concatenate([part[1] for part in parts])
        low, high = np.searchsorted(times, (start_s, end_s))
        return times[low:high], who[low:high]


def noise_shape(rate_hz: float, taps: int = 129) -> F64:
    """FIR (taps,) that gives white noise of variance 1 the spectrum of sEMG, still with variance 1.

    |H|^2 ~ f^2 / ((f^2 + fl^2) (f^2 + fh^2)^2) with fl 60 and fh 130 Hz (Shwedyk et al. 1977).
    """
    frequencies = np.linspace(0.0, rate_hz / 2.0, 257)
    power = frequencies**2 / ((frequencies**2 + 60.0**2) * (frequencies**2 + 130.0**2) ** 2)
    fir = signal.firwin2(taps, frequencies, np.sqrt(power / power.max()), fs=rate_hz)
    return np.asarray(fir / np.linalg.norm(fir), np.float64)


class Semg:
    """The clean sEMG of participant `seed` under `scheme`: block by block, in volts.

    rate_hz: nominal rate, for which potentials are sampled. true_rate_hz: how fast the device's clock really
    runs (drift). mode: `units` superposes motor-unit potentials; `fast` modulates shaped noise with the same
    amplitude law and geometry.
    """

    def __init__(
        self,
        seed: int,
        session: int,
        timeline: MuscleTimeline,
        *,
        scheme: str = "fridlund",
        rate_hz: float = 2048.0,
        true_rate_hz: float | None = None,
        mode: Mode = "fast",
    ) -> None:
        if not 200.0 <= rate_hz <= 20000.0:
            raise InputError(f"EMG rate {rate_hz} Hz; the simulation works from 200 to 20000 Hz")
        if mode not in ("units", "fast"):
            raise InputError(f"EMG mode '{mode}' is unknown; it must be units or fast")
        self.electrodes = place_electrodes(scheme, seed, session)
        self.rate_hz = rate_hz
        self.true_rate_hz = true_rate_hz or rate_hz
        self.mode = mode
        self._key = (seed, session)
        self._timeline = timeline
        templates = templates_in_volts(seed, session, scheme, rate_hz)
        self.gain = variance_per_rate(templates, rate_hz)
        self._templates = templates.reshape(-1, *templates.shape[2:])
        self._trains = SpikeTrains(seed, session, timeline)
        self._fir = noise_shape(rate_hz)
        self._noise_of = functools.lru_cache(maxsize=4)(self._noise)
        self._law = amplitude_law(self.gain)
        full = np.einsum("u,muc->mc", firing_rates(1.0), self.gain)
        self._mixing = _signed_mixing(templates, full)

    def rms(self, excitation: npt.ArrayLike) -> F64:
        """(..., M, C) RMS in volts that each muscle alone puts on each channel at excitation (..., M)
        (Campbell's theorem).
        """
        return np.asarray(
            np.sqrt(np.einsum("...mu,muc->...mc", firing_rates(excitation), self.gain)), np.float64
        )

    def block(self, number: int) -> F32:
        """(SAMPLE_BLOCK, C) volts: samples number * SAMPLE_BLOCK and following."""
        return self._units(number) if self.mode == "units" else self._fast(number)

    def _units(self, number: int) -> F32:
        first = number * SAMPLE_BLOCK
        out = np.zeros((SAMPLE_BLOCK, len(self.electrodes.names)), np.float32)
        length = self._templates.shape[2]
        times, who = self._trains.between(
            (first - length) / self.true_rate_hz, (first + SAMPLE_BLOCK + FIR_DELAY) / self.true_rate_hz
        )
        _superpose(times * self.true_rate_hz - first - FIR_DELAY, who, self._templates, out)
        return out

    def _noise(self, number: int) -> F64:
        return generator(*self._key, "emg noise", number).standard_normal((SAMPLE_BLOCK, len(MUSCLES)))

    def _fast(self, number: int) -> F32:
        white = np.concatenate([self._noise_of(number - 1)[-(len(self._fir) - 1) :], self._noise_of(number)])
        shaped = signal.oaconvolve(white, self._fir[:, None], mode="valid", axes=0)
        times = (number * SAMPLE_BLOCK + np.arange(SAMPLE_BLOCK)) / self.true_rate_hz
        step = np.floor(times[0] * GRID_HZ)
        count = int(np.ceil(times[-1] * GRID_HZ) - step) + 2
        excitation = self._timeline.grid(int(step), count)[:, : len(MUSCLES)]
        levels, law = self._law
        grid = (step + np.arange(count)) / GRID_HZ
        for muscle in range(len(MUSCLES)):
            amplitude = np.interp(excitation[:, muscle], levels, law[muscle])
            shaped[:, muscle] *= np.interp(times, grid, amplitude)
        return np.asarray(shaped @ self._mixing, np.float32)


def amplitude_law(gain: F64) -> tuple[F64, F64]:
    """Excitation levels (K,) and the RMS (M, K) of each muscle on the channel that sees it best, relative to
    full contraction.
    """
    levels = np.concatenate([np.linspace(0.0, 0.1, 41)[:-1], np.linspace(0.1, 1.0, 46)])
    best = gain.sum(axis=1).argmax(axis=1)
    own = gain[np.arange(len(gain)), :, best]
    power = firing_rates(levels) @ own.T
    return levels, np.sqrt(power / power[-1]).T


def _signed_mixing(templates: F32, variance: F64) -> F64:
    """(M, C) volts on each channel per muscle at full contraction; the sign says whether a channel sees the
    muscle inverted.
    """
    rows = np.arange(len(templates))
    best = variance.argmax(axis=1)
    late = templates[:, UNITS // 2 :, 0]
    own = late[rows, :, :, best]
    sign = np.sign(np.einsum("mul,mulc->mc", own, late))
    return np.asarray(np.where(sign == 0, 1.0, sign) * np.sqrt(variance), np.float64)
