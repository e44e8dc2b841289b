"""Events out of two streams of rows: candidates of each sense, aligned by the lag of the skin, judged alone
or together.

Every candidate of either sense is a hypothesis: something happened at this moment of the skin. When both
streams have gone 0.3 s beyond it, each sense says what it saw there (whether or not it had a candidate of its
own), the networks judge, and the answers are joined as those of independent witnesses. With one stream alone
its own answer counts.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from ..types import EVENT_REGIONS, F64, UNKNOWN_LABEL, FaceEvent, FaceOrigin, Stamp, nanoseconds
from .grid import GRID_HZ, STEP_NS, Grid
from .pulses import AHEAD, NEIGHBOURS, Pulse, PulseDetector
from .senses import (
    EMG_FLOOR,
    EMG_UNIT,
    VISION_CHANNELS,
    VISION_FLOOR,
    VISION_UNIT,
    emg_regions,
    vision_regions,
)
from .verifier import Verifiers, features

KNOWN_AFTER = AHEAD + NEIGHBOURS
"""Instants after its apex at which an event is decided: 0.3 s."""
APART = 25
"""Two events of one face have their apexes at least so many instants apart: what is nearer is one event."""
SLACK = 8
"""Instants by which the lag may differ from muscle to muscle."""


@dataclass(frozen=True)
class SpotterSettings:
    """threshold: probability from which a pulse is an event.

    sure: probability of a class below which its label is "unknown".

    longest_s: what lasts longer is no micro-expression. lag_s: skin behind muscle, where nothing has been
    seen yet. candidate: energy over the floor from which a pulse is looked at.
    """

    threshold: float = 0.33
    sure: float = 0.5
    longest_s: float = 0.6
    lag_s: float = 0.07
    candidate: float = 3.0


BLINK = 0.03
"""Closure of both lids from which a blink is thought of; flow cannot follow lids and reads a tenth of what
they do.
"""
BLINK_SHARE = 0.6
"""Closure of the lids over squinting of the eyes from which it is one: the muscle that squints closes them by
a fifth of that.
"""
LIGHT_STEP = 0.03
"""Change of brightness, as a logarithm, from which light flickers."""
TURN_RAD_S = 0.35
"""Speed of the head beyond its usual one from which the face turns under the camera's eye."""
STAYS = 0.6
"""Share of the movement still there at the end of what was seen, from which it was no pulse."""
_BLINKS = [VISION_CHANNELS.index("eyeBlinkLeft"), VISION_CHANNELS.index("eyeBlinkRight")]
_SQUINTS = [VISION_CHANNELS.index("eyeSquintLeft"), VISION_CHANNELS.index("eyeSquintRight")]
_EYES = [index for index, name in enumerate(EVENT_REGIONS) if name.startswith("eye")]
_LIPS = [index for index, name in enumerate(EVENT_REGIONS) if name.startswith("lips")]


def disturbed(pulse: Pulse) -> str:
    """Why a pulse of the picture says nothing about the skin: "blink", "light", "head turn", "does not go
    back"; empty where it does.
    """
    eyes = pulse.energy[:, _EYES].max()
    lips = pulse.energy[:, _LIPS].max()
    closing = pulse.height[_BLINKS]
    if eyes >= lips and (closing > np.maximum(BLINK, BLINK_SHARE * pulse.height[_SQUINTS])).all():
        return "blink"
    light = VISION_CHANNELS.index("light")
    turn = VISION_CHANNELS.index("turn speed")
    if abs(pulse.height[light]) > LIGHT_STEP and abs(pulse.z[light]) > 4.0:
        return "light"
    if pulse.height[turn] > TURN_RAD_S and pulse.z[turn] > 4.0:
        return "head turn"
    if abs(pulse.rebound) > STAYS:
        return "does not go back"
    return ""


@dataclass
class _Sense:
    """One stream: its grid and its detector."""

    grid: Grid
    detector: PulseDetector
    unit: F64
    pending: deque[Pulse] = field(default_factory=deque)

    def restart(self) -> None:
        self.grid.restart()
        self.detector.restart()
        self.pending.clear()


class EventSpotter:
    """Rows of the picture and of the muscles, with stamps -> events. Either stream may be missing."""

    def __init__(self, verifiers: Verifiers, settings: SpotterSettings | None = None) -> None:
        self.settings = settings or SpotterSettings()
        self.verifiers = verifiers
        candidate = self.settings.candidate
        see = PulseDetector(vision_regions(), candidate, VISION_FLOOR)
        feel = PulseDetector(emg_regions(), candidate, EMG_FLOOR)
        self.vision = _Sense(Grid(len(VISION_UNIT)), see, VISION_UNIT)
        self.emg = _Sense(Grid(len(EMG_UNIT)), feel, EMG_UNIT)
        self.restart()

    def restart(self) -> None:
        """Forget both streams."""
        self.vision.restart()
        self.emg.restart()
        self._last = -(1 << 62)
        self._lags: deque[float] = deque(maxlen=25)
        self.candidates = 0
        self.emitted = 0
        self.disturbed = dict.fromkeys(("blink", "light", "head turn", "does not go back"), 0)

    @property
    def lag_s(self) -> float:
        """Skin behind muscle: median over the events that both senses saw, or the setting until there are
        five.
        """
        return float(np.median(self._lags)) if len(self._lags) >= 5 else self.settings.lag_s

    def push_vision(self, stamp: Stamp, row: F64) -> list[FaceEvent]:
        """Take a row of the picture."""
        return self._push(self.vision, stamp, row)

    def push_emg(self, stamp: Stamp, row: F64) -> list[FaceEvent]:
        """Take a row of the muscles; `stamp` is that of the muscle, the delay of the envelope's filter taken
        off.
        """
        return self._push(self.emg, stamp, row)

    def _push(self, sense: _Sense, stamp: Stamp, row: F64) -> list[FaceEvent]:
        breaks = sense.grid.breaks
        for instant, values in sense.grid.push(stamp, row):
            pulse = sense.detector.push(instant, values)
            if pulse is not None:
                self.candidates += 1
                sense.pending.append(pulse)
        if sense.grid.breaks != breaks:
            sense.pending.clear()
        return self._decide()

    # --- hypotheses ----------------------------------------------------------------------------------------------------

    def _present(self, sense: _Sense, other: _Sense) -> bool:
        """Whether this stream keeps up with the other one, to within a second."""
        return sense.detector.settled and sense.detector.newest >= other.detector.newest - GRID_HZ

    def _decide(self) -> list[FaceEvent]:
        events = []
        vision_present = self._present(self.vision, self.emg)
        emg_present = self._present(self.emg, self.vision)
        for sense in (self.emg, self.vision):
            while sense.pending:
                pulse = sense.pending[0]
                lag = round(self.lag_s * GRID_HZ)
                skin = pulse.instant + (lag if sense is self.emg else 0)
                waits_for_picture = (
                    sense is self.emg and vision_present and self.vision.detector.newest < skin + KNOWN_AFTER
                )
                waits_for_muscles = (
                    sense is self.vision and emg_present and self.emg.detector.newest < skin - lag + AHEAD
                )
                if waits_for_picture or waits_for_muscles:
                    break
                sense.pending.popleft()
                event = self._classify(sense, pulse, skin, lag, vision_present, emg_present)
                if event is not None:
                    events.append(event)
        return events

    def _classify(
        self, sense: _Sense, pulse: Pulse, skin: int, lag: int, vision_present: bool, emg_present: bool
    ) -> FaceEvent | None:
        if abs(skin - self._last) < APART:
            return None
        vision: Pulse | None = (
            pulse
            if sense is self.vision
            else self.vision.detector.evidence(skin, SLACK)
            if vision_present
            else None
        )
        if vision is not None and (why := disturbed(vision)):
            self.disturbed[why] += 1
            vision = None  # the picture is no witness here; the muscles may be
        emg: Pulse | None = (
            pulse
            if sense is self.emg
            else self.emg.detector.evidence(skin - lag, SLACK)
            if emg_present
            else None
        )
        if vision is None and emg is None:
            return None
        answers = self.verifiers.classify(
            None if vision is None else features(vision, self.vision.unit),
            None if emg is None else features(emg, self.emg.unit),
        )
        if len(answers) == 2:
            log_p = self.verifiers.fuse(answers[FaceOrigin.VISION][0], answers[FaceOrigin.EMG][0])
            origin = FaceOrigin.FUSED
        else:
            origin = next(iter(answers))
            log_p = answers[origin][0]
        if 1.0 - math.exp(log_p[0]) < self.settings.threshold:
            return None
        timing = self._timing(vision, emg, answers, lag)
        if timing is None:
            return None
        onset, apex, offset, lead = timing
        regions = self._regions([answer[1] for answer in answers.values()])
        share = np.exp(log_p[1:]) / max(1.0 - math.exp(log_p[0]), 1e-9)
        best = int(np.argmax(share))
        label = self.verifiers.classes[best] if share[best] >= self.settings.sure else UNKNOWN_LABEL
        if not math.isnan(lead) and vision is not None and emg is not None:
            self._lags.append((vision.instant - emg.instant) / GRID_HZ)
        self._last = round(apex) + (lag if origin == FaceOrigin.EMG else 0)
        self.emitted += 1
        score = float(
            np.log(max(1.0 - math.exp(log_p[0]), 1e-12)) - log_p[0]
        )  # log odds that this is an event
        return FaceEvent(
            _stamp(apex),
            _stamp(onset),
            _stamp(offset),
            regions[0] if regions else "",
            regions,
            label,
            self.verifiers.classes,
            share.astype(np.float32),
            score,
            origin,
            lead,
        )

    def _timing(
        self, vision: Pulse | None, emg: Pulse | None, answers: dict[FaceOrigin, tuple[F64, F64]], lag: int
    ) -> tuple[float, float, float, float] | None:
        """Onset, apex, offset (instants of the skin, or of the muscle where it alone was asked) and lead;
        None for what lasts too long.
        """
        weight_v = 0.0
        weight_e = 0.0
        if vision is not None:
            weight_v = vision.fit**2 * (1.0 - math.exp(answers[FaceOrigin.VISION][0][0]))
        if emg is not None:
            weight_e = emg.fit**2 * (1.0 - math.exp(answers[FaceOrigin.EMG][0][0]))
        lead = math.nan
        if vision is not None and emg is not None:
            if weight_v > 0.25 and weight_e > 0.25:
                lead = (vision.onset - emg.onset) / GRID_HZ
            total = max(weight_v + weight_e, 1e-9)
            a = weight_v / total
            b = weight_e / total
            onset = a * vision.onset + b * (emg.onset + lag)
            apex = a * vision.instant + b * (emg.instant + lag)
            offset = a * vision.offset + b * (emg.offset + lag)
        else:
            one = vision if vision is not None else emg
            assert one is not None
            onset = one.onset
            apex = float(one.instant)
            offset = one.offset
        if (offset - onset) / GRID_HZ > self.settings.longest_s:
            return None
        return min(onset, apex), apex, max(offset, apex), lead

    def _regions(self, answers: list[F64]) -> tuple[str, ...]:
        """Regions more likely than not, strongest first; at least one."""
        odds = sum(
            np.log(np.clip(p, 1e-4, 1.0 - 1e-4)) - np.log(np.clip(1.0 - p, 1e-4, 1.0 - 1e-4)) for p in answers
        )
        order = np.argsort(-np.asarray(odds))
        regions = [index for index in order if np.asarray(odds)[index] > 0.0] or [order[0]]
        return tuple(EVENT_REGIONS[int(index)] for index in regions)


def _stamp(instant: float) -> Stamp:
    whole = math.floor(instant)
    return whole * STEP_NS + nanoseconds((instant - whole) / GRID_HZ)
