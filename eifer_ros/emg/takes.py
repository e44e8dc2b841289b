"""Takes of a calibration: what was recorded during each movement, and whether it is good enough to count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..types import F32, F64, MuscleActivity, Stamp
from .filters import MICROVOLT, profile_named
from .montage import Scheme
from .protocol import REST, Movement, expected_channels
from .quality import GOOD


@dataclass(frozen=True)
class Take:
    """One performance of a movement and what was found.

    advice: for the participant; empty where accepted without remark.
    """

    movement: str
    start: Stamp
    end: Stamp
    accepted: bool
    advice: str = ""


@dataclass
class TakeStore:
    """Items of a session as arrays, in stamp order."""

    stamps: list[Stamp] = field(default_factory=list)
    envelopes: list[F32] = field(default_factory=list)
    qualities: list[F32] = field(default_factory=list)

    def add(self, item: MuscleActivity) -> None:
        if self.stamps and item.stamp <= self.stamps[-1]:
            return  # a replayed or repeated instant says nothing new
        self.stamps.append(item.stamp)
        self.envelopes.append(item.envelope)
        self.qualities.append(item.quality)

    def between(self, start: Stamp, end: Stamp) -> tuple[F64, F64]:
        """(K, C) envelopes and qualities with start <= stamp <= end."""
        low, high = np.searchsorted(np.asarray(self.stamps, np.int64), [start, end + 1])
        if low == high:
            return np.zeros((0, 0)), np.zeros((0, 0))
        return np.array(self.envelopes[low:high], np.float64), np.array(self.qualities[low:high], np.float64)

    def usable(self, start: Stamp, end: Stamp) -> F64:
        """The envelopes of `between`, NaN where contact was poor."""
        envelope, quality = self.between(start, end)
        return np.where(np.isfinite(quality) & (quality < GOOD), np.nan, envelope)


class TakeChecker:
    """Decides about takes. Holds what is known of the channels so far: rest level, and which are dead."""

    def __init__(self, scheme: Scheme, muscles: Sequence[str], profile: str) -> None:
        self.scheme = scheme
        self.muscles = tuple(muscles)
        self.logarithm = profile_named(profile).logarithm
        self.rest: F64 | None = None
        self.dead: set[int] = set()

    def volts(self, envelope: F64) -> F64:
        """Envelope without the profile's logarithm, so that ratios mean the same in every profile."""
        return np.asarray(MICROVOLT * np.expm1(envelope / MICROVOLT)) if self.logarithm else envelope

    def without_contact(self, envelope: F64, quality: F64) -> list[int]:
        """Channels that were judged unusable, or had no envelope, for more than half of a take."""
        unknown = np.isnan(envelope).mean(axis=0) > 0.5
        poor = (np.isfinite(quality) & (quality < GOOD)).mean(axis=0) > 0.5
        return [int(i) for i in np.flatnonzero(unknown | poor)]

    def learn_rest(self, envelope: F64, quality: F64) -> None:
        """Keep the rest level of the channels that have contact in this take."""
        self.rest = np.full(len(self.muscles), np.nan)
        good = [i for i in range(len(self.muscles)) if i not in self.without_contact(envelope, quality)]
        self.rest[good] = np.nanmedian(envelope[:, good], axis=0)

    def advice(self, movement: Movement, envelope: F64, quality: F64, *, repeatable: bool = True) -> str:
        """Why a take must be repeated; empty where it is good.

        repeatable: poor contact of a channel that matters is a reason. After the fact it is none: the take
        still serves the others.
        """
        if len(envelope) < 10:
            return "no EMG arrived during the movement; check the amplifier"
        silent = [i for i in self.without_contact(envelope, quality) if i not in self.dead]
        expected = expected_channels(movement, self.scheme, self.muscles)
        relevant = silent if movement.name == REST else [i for i in silent if i in expected]
        if len(silent) + len(self.dead) == len(self.muscles):
            return "no channel has contact; check the reference electrode and the amplifier"
        if relevant and repeatable:
            return f"poor contact at {', '.join(self.muscles[i] for i in relevant)}; press these electrodes on or replace them"
        level = self.volts(envelope)
        alive = [i for i in range(len(self.muscles)) if i not in silent and i not in self.dead]
        if movement.name == REST:
            middle = np.nanmedian(level[:, alive], axis=0)
            peak = np.nanpercentile(level[:, alive], 95, axis=0)
            moved = [self.muscles[alive[i]] for i in np.flatnonzero((peak > 4 * middle) & (peak > 20e-6))]
            tense = [self.muscles[alive[i]] for i in np.flatnonzero(middle > 60e-6)]
            if moved or tense:
                return f"the face was not at rest ({', '.join((moved + tense)[:4])}); relax and keep still"
            return ""
        watched = [i for i in expected if i in alive and self.rest is not None and np.isfinite(self.rest[i])]
        if not watched or self.rest is None:
            return ""
        base = np.maximum(self.volts(self.rest[watched]), 0.5e-6)
        best = float(np.max(np.nanpercentile(level[:, watched], 90, axis=0) / base))
        if best < movement.rise:
            names = ", ".join(self.muscles[i] for i in watched)
            return f"too weak: {names} reached {best:.1f} times rest, {movement.rise:g} is needed; do it more strongly"
        return ""
