"""What the participant does, and when: the protocol of movements, rest, blinks, gaze, speech and head motion.

The 11 functional movements are the ones EIFER's participants made (the "Schaede" tasks), the 6 emotional ones
are Ekman's basic expressions. A script is a pure function of (seed, session, time) without end: a programme
of slots of fixed length repeats, and each slot draws its own timing, strength and asymmetry. Any moment can
be asked for without running through those before it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError, did_you_mean
from ..types import F64
from . import micro_expressions as micro
from .micro_expressions import MicroEvent
from .muscles import ACTUATORS, BASE_MUSCLES, HIDDEN, MUSCLES, muscle_index
from .seeds import generator

# fmt: off
FUNCTIONAL: Mapping[str, Mapping[str, float]] = {
    "Face-At-Rest": {},
    "Forehead": {"medial_frontalis": 1.0, "lateral_frontalis": 1.0, "lid_raiser": 0.35},
    "Eye-Gentle": {"lid_closer": 1.0, "orbicularis_oculi": 0.20},
    "Eye-Tight": {
        "lid_closer": 1.0, "orbicularis_oculi": 1.0, "corrugator_supercilii": 0.50, "depressor_supercilii": 0.55,
        "levator_labii_superioris": 0.25, "zygomaticus_major": 0.15,
    },
    "Nose-Pucker": {
        "levator_labii_superioris": 0.70, "depressor_supercilii": 0.75, "corrugator_supercilii": 0.35,
        "orbicularis_oculi": 0.25,
    },
    "Smile-Closed": {
        "zygomaticus_major": 0.50, "orbicularis_oculi": 0.25, "orbicularis_oris": 0.10, "levator_labii_superioris": 0.08,
    },
    "Smile-Open": {
        "zygomaticus_major": 1.0, "orbicularis_oculi": 0.35, "levator_labii_superioris": 0.30, "depressor_anguli_oris": 0.10,
        "jaw_opener": 0.22,
    },
    "Lip-Pucker": {"orbicularis_oris": 1.0, "mentalis": 0.45},
    "Cheeks": {
        "cheek_pressure": 0.9, "orbicularis_oris": 0.45, "mentalis": 0.30, "depressor_anguli_oris": 0.30, "masseter": 0.30,
        "zygomaticus_major": 0.12,
    },
    "Snarl": {
        "levator_labii_superioris": 1.0, "depressor_supercilii": 0.35, "corrugator_supercilii": 0.25,
        "zygomaticus_major": 0.15, "orbicularis_oculi": 0.2,
        "jaw_opener": 0.08,
    },
    "Depress-Lip": {"depressor_anguli_oris": 1.0, "mentalis": 0.50, "jaw_opener": 0.10, "masseter": 0.35},
}
# fmt: on
"""Excitation 0..1 of each muscle (both sides) and hidden actuator in the functional movements, in the
protocol's order.
"""

# fmt: off
EMOTIONAL: Mapping[str, Mapping[str, float]] = {
    "Angry": {
        "corrugator_supercilii": 0.85, "depressor_supercilii": 0.70, "orbicularis_oculi": 0.30, "orbicularis_oris": 0.40,
        "mentalis": 0.35, "masseter": 0.80, "levator_labii_superioris": 0.18,
    },
    "Disgusted": {
        "levator_labii_superioris": 0.80, "depressor_supercilii": 0.40, "corrugator_supercilii": 0.30,
        "orbicularis_oculi": 0.35, "mentalis": 0.40,
        "depressor_anguli_oris": 0.30,
    },
    "Fearful": {
        "medial_frontalis": 0.70, "lateral_frontalis": 0.45, "corrugator_supercilii": 0.55, "lid_raiser": 0.85,
        "depressor_anguli_oris": 0.40,
        "zygomaticus_major": 0.15, "jaw_opener": 0.14,
    },
    "Happy": {"zygomaticus_major": 0.65, "orbicularis_oculi": 0.50, "levator_labii_superioris": 0.20, "jaw_opener": 0.10},
    "Sad": {
        "medial_frontalis": 0.60, "corrugator_supercilii": 0.45, "depressor_anguli_oris": 0.60, "mentalis": 0.45,
        "orbicularis_oculi": 0.10,
    },
    "Surprised": {"medial_frontalis": 0.85, "lateral_frontalis": 0.90, "lid_raiser": 0.90, "jaw_opener": 0.55},
}
# fmt: on
"""The same for the six emotional expressions."""

MOVEMENTS: Mapping[str, Mapping[str, float]] = {**FUNCTIONAL, **EMOTIONAL}

# Mouth shapes of running speech: a vowel opens, a bilabial closes, a rounded vowel puckers, a spread one
# pulls the corners.
_SYLLABLES: tuple[Mapping[str, float], ...] = (
    {"jaw_opener": 0.38, "depressor_anguli_oris": 0.10},
    {"jaw_opener": 0.22, "zygomaticus_major": 0.10, "levator_labii_superioris": 0.10},
    {"jaw_opener": 0.16, "orbicularis_oris": 0.40, "mentalis": 0.12},
    {"jaw_opener": 0.26, "depressor_anguli_oris": 0.16, "mentalis": 0.10},
    {"orbicularis_oris": 0.32, "mentalis": 0.22, "masseter": 0.08},
    {"jaw_opener": 0.10, "levator_labii_superioris": 0.16, "orbicularis_oris": 0.12, "masseter": 0.10},
)
_STRESS = {"medial_frontalis": 0.6, "lateral_frontalis": 0.6}


class Slot(NamedTuple):
    """One entry of a programme: what happens (`movement`, `conversation`, `free`, `maximum`), its name, and
    its length.
    """

    kind: str
    label: str
    length_s: float


def _movements(table: Mapping[str, Mapping[str, float]], length_s: float) -> tuple[Slot, ...]:
    return tuple(Slot("movement", name, length_s) for name in table)


PROGRAMS: Mapping[str, tuple[Slot, ...]] = {
    "session": (
        *_movements(FUNCTIONAL, 5.0),
        *_movements(EMOTIONAL, 4.5),
        Slot("conversation", "Conversation", 26.0),
        Slot("free", "Free", 12.0),
    ),
    "calibration": _movements(FUNCTIONAL, 5.0),
    "emotions": _movements(EMOTIONAL, 4.5),
    "conversation": (Slot("conversation", "Conversation", 26.0),),
    "free": (Slot("free", "Free", 12.0),),
    "rest": (Slot("movement", "Face-At-Rest", 5.0),),
    "maximum": (Slot("maximum", "Maximum", 5.0),),
    "micro": (Slot("movement", "Face-At-Rest", 5.0),),
    "micro_talking": (Slot("conversation", "Conversation", 26.0),),
}
"""`session` holds everything once in 120 s; `maximum` is every muscle at full contraction without end, for
load tests.
"""

MICRO_PROGRAMS = ("micro", "micro_talking")
"""The programmes with micro-expressions (`micro.py`) over what else happens."""


class Take(NamedTuple):
    """One performance of a movement: from the first muscle's onset to the last one's release, seconds."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Pulse:
    """One contraction: minimum-jerk onset from `start_s`, hold, minimum-jerk offset; `levels` (A,) excitation
    while held.

    ripple: (3,) Hz, (3, A) phases and a depth, the unsteadiness of a held contraction.
    """

    start_s: float
    onset_s: float
    hold_s: float
    offset_s: float
    levels: F64
    ripple_hz: F64
    ripple_phase: F64
    ripple_depth: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.onset_s + self.hold_s + self.offset_s

    def add(self, times: F64, out: F64) -> None:
        """Add this contraction to `out` (T, A) at increasing `times` (T,)."""
        low, high = np.searchsorted(times, (self.start_s, self.end_s))
        if low == high:
            return
        since = times[low:high] - self.start_s
        shape = minimum_jerk(since / self.onset_s) * minimum_jerk(
            (self.end_s - self.start_s - since) / self.offset_s
        )
        if self.ripple_depth == 0.0:
            out[low:high] += shape[:, None] * self.levels
            return
        used = np.flatnonzero(self.levels)
        wave = np.zeros((len(since), len(used)))
        for frequency, phase in zip(self.ripple_hz, self.ripple_phase, strict=True):
            wave += np.sin(2.0 * np.pi * frequency * since[:, None] + phase[used])
        out[low:high, used] += shape[:, None] * self.levels[used] * (1.0 + self.ripple_depth / 3.0 * wave)


def minimum_jerk(x: npt.ArrayLike) -> F64:
    """0 below 0, 1 above 1, and between them the smooth step of Flash & Hogan (1985), 10 x^3 - 15 x^4 + 6
    x^5.
    """
    t = np.clip(np.asarray(x, np.float64), 0.0, 1.0)
    return np.asarray(t**3 * (10.0 + t * (6.0 * t - 15.0)), np.float64)


class Script:
    """The performance of participant `seed` in `session`: excitation, gaze, speech and head motion at any
    time in seconds.

    The seed decides what belongs to the person (strength per movement, side preference, blink rate); the
    session decides timing and the variation from repeat to repeat. Raises InputError for an unknown
    programme.
    """

    def __init__(self, seed: int, session: int = 0, program: str = "session") -> None:
        if program not in PROGRAMS:
            raise InputError(
                f"programme '{program}' is unknown{did_you_mean(program, PROGRAMS)}; it must be one of {', '.join(PROGRAMS)}"
            )
        self.seed = seed
        self.session = session
        self.program = program
        self._slots = PROGRAMS[program]
        lengths = [slot.length_s for slot in self._slots]
        self._starts = np.concatenate([[0.0], np.cumsum(lengths)])
        self.cycle_s = float(self._starts[-1])
        """Length of one pass through the programme."""
        trait_rng = generator(seed, "person")
        self._strength = {
            name: float(np.clip(trait_rng.normal(0.92, 0.08), 0.65, 1.05)) for name in MOVEMENTS
        }
        self._habit = {name: np.exp(trait_rng.normal(0.0, 0.12, len(ACTUATORS))) for name in MOVEMENTS}
        self._side = self._side_gains(trait_rng)
        self._tonic = np.concatenate([trait_rng.uniform(0.026, 0.036, len(MUSCLES)), np.zeros(len(HIDDEN))])
        self._tonic_phase = trait_rng.uniform(0.0, 2.0 * np.pi, (2, len(ACTUATORS)))
        self._blink_chance = float(trait_rng.uniform(0.55, 0.95))
        self._sway_scale = float(trait_rng.uniform(0.6, 1.2))
        self._sway = self._sway_waves(generator(seed, session, "sway"))
        self._pulses_of = functools.lru_cache(maxsize=64)(self._build_slot)
        self._order_of = functools.lru_cache(maxsize=16)(self._order)
        self._micro_of = functools.lru_cache(maxsize=64)(self._draw_micro)

    @staticmethod
    def _side_gains(trait_rng: np.random.Generator) -> F64:
        """(A,) left-right asymmetry of a healthy face: a preferred side plus muscle by muscle, product of
        both sides 1.
        """
        log_ratio = trait_rng.normal(0.0, 0.05) + trait_rng.normal(0.0, 0.06, len(BASE_MUSCLES))
        gains = np.ones(len(ACTUATORS))
        gains[0 : len(MUSCLES) : 2] = np.exp(log_ratio)
        gains[1 : len(MUSCLES) : 2] = np.exp(-log_ratio)
        return gains

    @staticmethod
    def _sway_waves(rng: np.random.Generator) -> tuple[F64, F64, F64]:
        """Frequencies (5,) Hz, amplitudes (5, 6) and phases (5, 6) of slow head motion: rx ry rz in rad, x y
        z in m.
        """
        frequencies = rng.uniform([0.03, 0.07, 0.13, 0.22, 0.40], [0.06, 0.12, 0.20, 0.36, 0.60])
        scale = np.array([0.045, 0.060, 0.028, 0.008, 0.006, 0.012])
        weight = np.array([1.0, 0.8, 0.55, 0.35, 0.18])
        return (
            frequencies,
            weight[:, None] * scale * rng.uniform(0.5, 1.0, (5, 6)),
            rng.uniform(0.0, 2.0 * np.pi, (5, 6)),
        )

    # --- the programme -------------------------------------------------------------------------------------------------

    def _order(self, cycle: int) -> tuple[Slot, ...]:
        """Slots of one cycle.

        The first cycle and the calibration keep the protocol's order; others shuffle among equal lengths.
        """
        if cycle == 0 or self.program == "calibration":
            return self._slots
        rng = generator(self.seed, self.session, "order", cycle)
        order = list(self._slots)
        for length in sorted({slot.length_s for slot in self._slots}):
            where = [i for i, slot in enumerate(order) if slot.length_s == length]
            for place, source in zip(where, rng.permutation(where), strict=True):
                order[place] = self._slots[source]
        return tuple(order)

    def _indices(self, start_s: float, end_s: float) -> range:
        """Running slot numbers that overlap [start, end]."""
        return range(self._index(start_s), self._index(end_s) + 1)

    def _index(self, time_s: float) -> int:
        cycle = int(np.floor(time_s / self.cycle_s))
        inside = int(np.searchsorted(self._starts[1:-1], time_s - cycle * self.cycle_s, side="right"))
        return cycle * len(self._slots) + inside

    def slot(self, index: int) -> tuple[Slot, float]:
        """The slot with running number `index`, and when it starts."""
        cycle, inside = divmod(index, len(self._slots))
        return self._order_of(cycle)[inside], cycle * self.cycle_s + float(self._starts[inside])

    def _build_slot(self, index: int) -> tuple[Pulse, ...]:
        slot, start = self.slot(index)
        rng = generator(self.seed, self.session, "slot", index)
        if slot.kind == "movement":
            return self._movement(rng, slot, start)
        if slot.kind == "conversation":
            return self._conversation(rng, slot, start)
        if slot.kind == "free":
            return self._free(rng, slot, start)
        return ()

    def _levels(
        self, rng: np.random.Generator, levels: Mapping[str, float], strength: float, habit: F64 | float = 1.0
    ) -> F64:
        out = np.zeros(len(ACTUATORS))
        for name, level in levels.items():
            if name in HIDDEN:
                out[ACTUATORS.index(name)] = level
            else:
                out[muscle_index(name, "right")] = out[muscle_index(name, "left")] = level
        varied = out * habit * self._side * strength * np.exp(rng.normal(0.0, 0.07, len(out)))
        lids = ACTUATORS.index("lid_closer")
        varied[lids] = min(out[lids], 1.0)  # closed is closed, however strongly
        return np.clip(varied, 0.0, 1.0)

    def _pulse(
        self,
        rng: np.random.Generator,
        start: float,
        onset: float,
        hold: float,
        offset: float,
        levels: F64,
        depth: float = 0.12,
    ) -> Pulse:
        return Pulse(
            start,
            onset,
            hold,
            offset,
            levels,
            rng.uniform([0.4, 1.5, 4.0], [1.2, 3.0, 8.0]),
            rng.uniform(0.0, 2.0 * np.pi, (3, len(ACTUATORS))),
            depth,
        )

    def _movement(self, rng: np.random.Generator, slot: Slot, start: float) -> tuple[Pulse, ...]:
        lead = rng.uniform(0.5, 0.9)
        onset = rng.uniform(0.3, 0.8)
        offset = rng.uniform(0.4, 0.8)
        tail = rng.uniform(0.4, 0.7)
        hold = slot.length_s - lead - onset - offset - tail
        strength = self._strength[slot.label] * float(np.clip(rng.normal(1.0, 0.08), 0.75, 1.2))
        levels = self._levels(rng, MOVEMENTS[slot.label], strength, self._habit[slot.label])
        return (self._pulse(rng, start + lead, onset, hold, offset, levels),)

    def _conversation(self, rng: np.random.Generator, slot: Slot, start: float) -> tuple[Pulse, ...]:
        """Turns of speaking (4-5 syllables a second) and listening, expressions that come and go, brows that
        stress words.
        """
        pulses: list[Pulse] = []
        end = start + slot.length_s - 0.5
        time = start + rng.uniform(0.2, 0.8)
        while time < end - 1.0:
            turn_end = min(time + rng.uniform(1.5, 5.0), end - 0.5)
            while time < turn_end:
                rise = rng.uniform(0.06, 0.11)
                hold = rng.uniform(0.0, 0.06)
                fall = rng.uniform(0.08, 0.14)
                levels = self._levels(
                    rng, _SYLLABLES[rng.integers(len(_SYLLABLES))], float(rng.uniform(0.5, 1.2))
                )
                pulses.append(self._pulse(rng, time, rise, hold, fall, levels, 0.0))
                time += rise + hold + rng.uniform(0.4, 0.9) * fall
                if rng.random() < 0.06:
                    levels = self._levels(rng, _STRESS, float(rng.uniform(0.4, 1.0)))
                    pulses.append(self._pulse(rng, time, 0.2, 0.15, 0.3, levels, 0.0))
            time += rng.uniform(0.6, 2.0)
        time = start + rng.uniform(0.5, 2.0)
        names = tuple(EMOTIONAL)
        while time < end - 2.0:
            onset = rng.uniform(0.3, 0.7)
            offset = rng.uniform(0.4, 0.8)
            hold = min(rng.uniform(0.5, 2.5), end - time - onset - offset)
            name = names[rng.choice(len(names), p=[0.1, 0.1, 0.1, 0.45, 0.1, 0.15])]
            levels = self._levels(rng, EMOTIONAL[name], float(rng.uniform(0.25, 0.75)), self._habit[name])
            pulses.append(self._pulse(rng, time, onset, hold, offset, levels))
            time += onset + hold + offset + rng.uniform(0.5, 2.5)
        return tuple(pulses)

    def _free(self, rng: np.random.Generator, slot: Slot, start: float) -> tuple[Pulse, ...]:
        """Grimaces nobody planned: one to four muscles at a time, sides apart as far as a face can, to cover
        the whole space.
        """
        pulses: list[Pulse] = []
        end = start + slot.length_s - 0.4
        time = start + rng.uniform(0.2, 0.6)
        while time < end - 1.2:
            onset = rng.uniform(0.25, 0.6)
            offset = rng.uniform(0.3, 0.6)
            hold = min(rng.uniform(0.2, 1.2), end - time - onset - offset)
            bases = rng.choice(len(BASE_MUSCLES), size=int(rng.integers(1, 5)), replace=False)
            wish = {BASE_MUSCLES[b]: float(rng.uniform(0.3, 1.0)) for b in bases}
            if rng.random() < 0.4:
                wish["jaw_opener"] = float(rng.uniform(0.1, 0.7))
            if rng.random() < 0.15:
                wish["cheek_pressure"] = float(rng.uniform(0.3, 0.9))
            levels = self._levels(rng, wish, 1.0)
            if rng.random() < 0.5:  # one side leads
                weak = int(rng.integers(2))
                levels[weak : len(MUSCLES) : 2] *= rng.uniform(0.3, 0.9)
            pulses.append(self._pulse(rng, time, onset, hold, offset, levels))
            time += onset + 0.6 * hold + offset + rng.uniform(-0.2, 0.4)
        return tuple(pulses)

    # --- blinks, gaze, head --------------------------------------------------------------------------------------------

    _BLINK_SLOT_S = 2.8

    def blinks(self, start_s: float, end_s: float) -> F64:
        """Times at which a blink starts, within [start, end): about 12 to 20 a minute."""
        first = int(np.floor(start_s / self._BLINK_SLOT_S))
        last = int(np.floor(end_s / self._BLINK_SLOT_S))
        times = []
        for index in range(first, last + 1):
            happens, when = _uniforms(self.seed, self.session, "blink", index, 2)
            if happens < self._blink_chance and self.program != "maximum":
                times.append((index + 0.05 + 0.8 * when) * self._BLINK_SLOT_S)
        return np.array([time for time in times if start_s <= time < end_s])

    def _blink_pulses(self, start_s: float, end_s: float) -> list[Pulse]:
        still = np.zeros((3, len(ACTUATORS)))
        none = np.zeros(3)
        lid = np.zeros(len(ACTUATORS))
        lid[ACTUATORS.index("lid_closer")] = 1.0
        squeeze = np.zeros(len(ACTUATORS))
        for side in ("right", "left"):
            squeeze[muscle_index("orbicularis_oculi", side)] = 0.22
        pulses = []
        for time in self.blinks(start_s - 1.0, end_s):
            pulses.append(Pulse(time, 0.07, 0.05, 0.13, lid, none, still, 0.0))
            pulses.append(Pulse(time, 0.04, 0.03, 0.07, squeeze * self._side, none, still, 0.0))
        return pulses

    _FIXATION_S = 1.3

    def gaze(self, times: npt.ArrayLike) -> F64:
        """(..., 2) yaw and pitch of both eyes relative to the head, rad; yaw > 0 to the subject's left, pitch
        > 0 up.
        """
        t = np.asarray(times, np.float64)
        index = np.floor(t / self._FIXATION_S).astype(np.int64)
        fixations = {
            int(i): self._fixation(int(i))
            for i in np.unique(np.concatenate([index.ravel() - 1, index.ravel()]))
        }
        now = np.array([fixations[int(i)] for i in index.ravel()]).reshape(*t.shape, 3)
        before = np.array([fixations[int(i) - 1] for i in index.ravel()]).reshape(*t.shape, 3)
        part = minimum_jerk((t - now[..., 2]) / 0.05)[..., None]
        return np.asarray(before[..., :2] + part * (now[..., :2] - before[..., :2]), np.float64)

    def _fixation(self, index: int) -> tuple[float, float, float]:
        """Yaw, pitch and the time of the saccade that leads there."""
        away, yaw, pitch, when = _uniforms(self.seed, self.session, "gaze", index, 4)
        spread = 0.22 if away < 0.3 else 0.025  # mostly at the camera
        start = index * self._FIXATION_S
        return (
            spread * (2.0 * yaw - 1.0),
            0.7 * spread * (2.0 * pitch - 1.0),
            start + 0.6 * self._FIXATION_S * when,
        )

    def speech(self, times: npt.ArrayLike) -> F64:
        """(...,) 1 inside a conversation, 0 in the protocol, with half a second between."""
        t = np.asarray(times, np.float64)
        out = np.zeros(t.shape)
        if t.size == 0:
            return out
        for index in self._indices(float(t.min()), float(t.max())):
            slot, start = self.slot(index)
            if slot.kind == "conversation":
                out = np.maximum(
                    out, minimum_jerk((t - start) / 0.5) * minimum_jerk((start + slot.length_s - t) / 0.5)
                )
        return out

    def head_motion(self, times: npt.ArrayLike) -> F64:
        """(..., 6) rotation vector (rad) and translation (m) of the head about its resting pose, in model
        coordinates.
        """
        t = np.asarray(times, np.float64)
        frequencies, amplitudes, phases = self._sway
        wave = np.sin(2.0 * np.pi * t[..., None, None] * frequencies[:, None] + phases)
        lively = 0.55 + 0.75 * self.speech(t)
        return np.asarray(self._sway_scale * lively[..., None] * (wave * amplitudes).sum(axis=-2), np.float64)

    # --- micro-expressions ---------------------------------------------------------------------------------------------

    def _draw_micro(self, index: int) -> MicroEvent:
        return micro.draw(self.seed, self.session, index, self.program == "micro_talking")

    def micro_events(self, begin_s: float, end_s: float) -> list[MicroEvent]:
        """Micro-expressions whose excitation has its apex within [begin, end), in time order; none in other
        programmes.
        """
        if self.program not in MICRO_PROGRAMS:
            return []
        numbers = range(
            int(np.floor(begin_s / micro.PERIOD_S)) - 1, int(np.floor(end_s / micro.PERIOD_S)) + 2
        )
        return [event for event in map(self._micro_of, numbers) if begin_s <= event.apex_s < end_s]

    @staticmethod
    def micro_pulse(event: MicroEvent) -> Pulse:
        """The contraction of a micro-expression."""
        none = np.zeros(3)
        return Pulse(
            event.start_s,
            event.rise_s,
            event.plateau_s,
            event.fall_s,
            event.levels,
            none,
            np.zeros((3, len(ACTUATORS))),
            0.0,
        )

    # --- what others ask for -------------------------------------------------------------------------------------------

    def tone(self, times: npt.ArrayLike) -> F64:
        """(T, A) excitation of a face that does nothing, slowly varying, at `times` (T,)."""
        slow = np.sin(
            2.0 * np.pi * np.outer(np.asarray(times, np.float64), (0.05, 0.13))[:, :, None]
            + self._tonic_phase
        ).sum(axis=1)
        return np.asarray(self._tonic * (1.0 + 0.25 * slow), np.float64)

    def excitation(self, times: npt.ArrayLike) -> F64:
        """(T, A) excitation 0..1 of the 22 muscles and the hidden actuators at increasing `times` (T,) in
        seconds.
        """
        t = np.ascontiguousarray(times, np.float64)
        out = np.zeros((len(t), len(ACTUATORS)))
        if len(t) == 0:
            return out
        start = float(t[0])
        end = float(t[-1])
        for index in self._indices(start, end):
            for pulse in self._pulses_of(index):
                pulse.add(t, out)
            slot, begin = self.slot(index)
            if slot.kind == "maximum":
                low, high = np.searchsorted(t, (begin, begin + slot.length_s))
                out[low:high, : len(MUSCLES)] = 1.0
        for pulse in self._blink_pulses(start, end):
            pulse.add(t, out)
        for event in self.micro_events(start - 1.0, end + 1.0):
            self.micro_pulse(event).add(t, out)
        return np.asarray(np.clip(out + self.tone(t), 0.0, 1.0), np.float64)

    def takes(self, start_s: float, end_s: float) -> list[Take]:
        """Movements that overlap [start, end), in time order.

        A conversation and a free segment count as one take each.
        """
        takes = []
        for index in self._indices(start_s, end_s):
            slot, begin = self.slot(index)
            pulses = self._pulses_of(index)
            if slot.kind == "movement":
                take = Take(slot.label, pulses[0].start_s, pulses[0].end_s)
            else:
                take = Take(slot.label, begin + 0.05, begin + slot.length_s - 0.05)
            if take.start_s < end_s and take.end_s > start_s:
                takes.append(take)
        return takes

    def markers(self, start_s: float, end_s: float) -> list[tuple[float, str, str]]:
        """(time, label, "start" | "end") of every movement boundary within [start, end), in time order.

        Micro-expressions are labelled `Micro-Happiness` and lie within the movement or conversation they
        interrupt.
        """
        # a little before, because a take that ends exactly on `start_s` does not overlap the window
        marks = [
            mark
            for take in (*self.takes(start_s - 0.1, end_s), *self._micro_takes(start_s - 0.1, end_s))
            for mark in ((take.start_s, take.label, "start"), (take.end_s, take.label, "end"))
            if start_s <= mark[0] < end_s
        ]
        # where one take ends as the next begins, the end comes first
        return sorted(marks, key=lambda mark: (mark[0], mark[2] != "end"))

    def _micro_takes(self, start_s: float, end_s: float) -> list[Take]:
        events = self.micro_events(start_s - 1.0, end_s + 1.0)
        return [Take(f"Micro-{event.label.capitalize()}", event.onset_s, event.offset_s) for event in events]


@functools.lru_cache(maxsize=4096)
def _uniforms(seed: int, session: int, purpose: str, index: int, count: int) -> tuple[float, ...]:
    """`count` numbers in 0..1 that belong to these keys."""
    return tuple(float(value) for value in generator(seed, session, purpose, index).random(count))
