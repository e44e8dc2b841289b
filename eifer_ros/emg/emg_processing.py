"""Raw EMG in, muscle activity at 100 Hz out: montage, filters, contact quality and calibration behind one
contract.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from .. import topics
from ..component import Component, Emission, Health, Level
from ..config import Config, parameter
from ..errors import EiferError, InputError
from ..stamps import StampWatch
from ..types import F64, NS, EmgChunk, Indices, Item, MuscleActivity, Stamp
from .calibration import Calibration
from .filters import LIMIT_V, Envelope, EnvelopeFilter, design, profile_named
from .montage import Montage, Scheme, build_montage, guess_scheme, load_scheme, plain_scheme
from .quality import GOOD, ContactMonitor
from .resample import GridSampler

_RATE_CHANGE = 0.01
"""A nominal rate that differs by less than this share is the same amplifier with a better estimate of its
clock.
"""
_RECENT_NS = 5 * NS
"""How long a gap or a change stays in the health message."""


class EmgConfig(Config):
    """Parameters of `EmgProcessing`."""

    profile: Literal["live", "rms100", "emg2face", "eifer_mmm"] = parameter(
        "live",
        "how raw EMG becomes an envelope; calibrations and mappings belong to one profile; eifer_mmm only with contents: envelope",
    )
    contents: Literal["raw", "envelope"] = parameter(
        "raw",
        "raw EMG, or envelopes something else made with this profile (the MMM data set): they are only brought to the output grid",
    )
    scheme: str = parameter("auto", "electrode scheme: auto, fridlund, kuramoto, plain, or a YAML file")
    montage: Literal["auto", "recorded", "bipolar", "average"] = parameter(
        "auto",
        "recorded: as the amplifier gives them; bipolar: difference of two contacts; average: minus the mean of all channels",
    )
    channel_map: tuple[str, ...] = parameter(
        (), "entries 'F1 = ch 3' or 'F1 = ch 3, ch 4' (first minus second); empty: by name"
    )
    bad_channels: tuple[str, ...] = parameter(
        (), "channels not to be used; they stay in the output as unknown"
    )
    mains_hz: Literal[0, 50, 60] = parameter(50, "mains frequency; 0 leaves the notches out", unit="Hz")
    limit_v: float = parameter(
        LIMIT_V,
        "a sample beyond this is a fault: the amplifier's rail, if you know it",
        unit="V",
        gt=0,
        le=10,
    )
    jump_s: float = parameter(
        0.02, "a stamp this far off the expected one is a gap, not clock correction", unit="s", gt=0, le=1
    )
    calibration: str = parameter("", "calibration file; empty: envelopes only, activation stays unknown")


class EmgProcessing(Component):
    """EmgChunk -> MuscleActivity.

    Whatever the stream does - gaps, other channels, another rate, time going back - is counted, shown in
    health, and answered by a clean restart. Instants inside a gap are not published; after a restart an
    envelope is NaN until its filter has settled.
    """

    config_type = EmgConfig
    inputs = (topics.EMG_RAW.port,)
    outputs = (topics.EMG_ACTIVITY.port, topics.EMG_CHANNELS.port)
    tick_hz = 2.0

    def __init__(self, config: EmgConfig | None = None) -> None:
        self.config = config or EmgConfig()
        self.profile = profile_named(self.config.profile)
        self.calibration: Calibration | None = None
        self.montage: Montage | None = None
        self._scheme: Scheme | None = None
        self._filter: EnvelopeFilter | GridSampler | None = None
        self._contact: ContactMonitor | None = None
        self._rate_hz = 0.0
        self._matched: Calibration | None = None
        self._fault = ""
        self._calibration_fault = ""
        self._pending_lost = 0
        self._next_index: int | None = None
        self._counts = dict.fromkeys(
            (
                "chunks",
                "samples",
                "lost_samples",
                "gaps",
                "source_restarts",
                "time_jumps",
                "rate_changes",
                "channel_changes",
                "refused_samples",
                "refused_chunks",
                "instants",
            ),
            0,
        )
        self._refused_before = 0
        self._source: tuple[str, ...] | None = None
        self._bad: Indices = np.zeros(0, np.intp)
        self._recent: tuple[Stamp, str] | None = None
        self._last_end: Stamp = 0
        self._silent = False
        self._stamps = StampWatch(topics.EMG_RAW.name)

    def setup(self) -> None:
        """Read scheme and calibration, compile the filters.

        Raises InputError for a file that does not fit.
        """
        if not self.profile.causal and self.config.contents == "raw":
            design(self.profile, 1000.0)  # says why in the words of the filter bank
        if self.config.scheme not in ("auto", "plain"):
            self._scheme = load_scheme(self.config.scheme)
        if self.config.calibration:
            self.use_calibration(Calibration.load(Path(self.config.calibration).expanduser()))
        warm = EnvelopeFilter("live" if not self.profile.causal else self.profile, 1000.0, 2)
        for dtype in (np.float32, np.float64):
            warm.push(np.zeros((40, 2), dtype), 0)
            warm.restart()

    def use_calibration(self, calibration: Calibration | None) -> None:
        """Take this calibration from now on, or none.

        Raises InputError where it belongs to another profile, scheme or channels.
        """
        if calibration is not None and calibration.profile != self.profile.name:
            raise InputError(
                f"the calibration was made with filter profile '{calibration.profile}'; the stream uses '{self.profile.name}'"
            )
        matched = None
        if calibration is not None and self.montage is not None:
            matched = calibration.matched(self.montage.scheme.name, self.profile.name, self.montage.muscles)
        self.calibration = calibration
        self._matched = matched
        self._calibration_fault = ""

    def handle(self, port: str, item: Item) -> Iterator[Emission]:
        """Take one EmgChunk; yield the instants that became known, and the channel description when it
        changes.
        """
        if not isinstance(item, EmgChunk):
            raise InputError(f"{port} carries EmgChunk; got {type(item).__name__}")
        self._silent = False
        self._counts["chunks"] += 1
        lost = self._lost_before(item)
        if len(item.samples) == 0:
            self._pending_lost = lost
            return
        self._pending_lost = 0
        self._stamps.take(item.stamp)
        if self._changed(item):
            yield from self._configure(item)
        if self.montage is None or self._filter is None or self._contact is None:
            self._counts["refused_chunks"] += 1
            return
        self._counts["samples"] += len(item.samples)
        with np.errstate(invalid="ignore"):
            mixed = self.montage.apply(item.samples)
        mixed[:, self._bad] = 0.0  # NaN here would be counted as a fault of every sample
        self._note_gap(item, lost)
        envelope = self._envelope(mixed, item.stamp, lost)
        envelope.values[:, self._bad] = np.nan
        if self.config.contents == "raw":
            self._contact.push(item.samples, mixed, item.end_stamp, lost)
        self._last_end = item.end_stamp
        yield from self._emissions(envelope, self.montage)

    def tick(self, now: Stamp) -> tuple[()]:
        """Notice a stream that stopped."""
        self._silent = self._counts["chunks"] > 0 and now - self._last_end > NS
        return ()

    def reset(self) -> None:
        """Forget signal and time, keep channels, calibration and counters."""
        if self._filter is not None:
            self._filter.restart()
        if self._contact is not None:
            self._contact.restart()
        self._next_index = None
        self._pending_lost = 0
        self._recent = None

    def health(self) -> Health:
        """Worst first: nothing usable, stamps that stand still, silence, a calibration that does not fit, contact, gaps, notes of the
        filter design.
        """
        values: dict[str, float | int | str] = {**self._counts, "profile": self.profile.name}
        values["repeated_stamps"] = self._stamps.repeated
        if self.montage is None or self._filter is None:
            return Health(Level.ERROR if self._fault else Level.OK, self._fault or "waiting for EMG", values)
        values |= {
            "scheme": self.montage.scheme.name,
            "montage": self.montage.kind,
            "channels": len(self.montage.channels),
        }
        values["rate_hz"] = self._rate_hz
        if self.montage.missing and len(self.montage.missing) < len(self.montage.scheme.names):
            values["missing_channels"] = ", ".join(self.montage.missing)
        problems = []
        if isinstance(self._filter, EnvelopeFilter):
            values["delay_ms"] = round(self._filter.design.delay_s * 1000, 1)
            problems = list(self._filter.design.notes)
        contact = self._contact.last if self._contact is not None else None
        if contact is not None:
            values["worst_contact"] = round(float(contact.score.min()), 2)
            poor = contact.describe(self.montage.channels, self.montage.bad)
            if poor:
                problems.insert(0, f"poor contact: {poor}")
        if self._recent is not None and self._last_end - self._recent[0] < _RECENT_NS:
            problems.insert(0, self._recent[1])
        if self._calibration_fault:
            return Health(Level.ERROR, self._calibration_fault, values)
        still = self._stamps.problem
        if still:
            return Health(Level.WARN, "; ".join([still, *problems]), values)
        if self._silent:
            return Health(Level.STALE, "no EMG for more than 1 s", values)
        if problems:
            return Health(Level.WARN, "; ".join(problems), values)
        calibrated = "calibrated" if self._matched is not None else "not calibrated: activation is unknown"
        return Health(Level.OK, f"{len(self.montage.channels)} channels, {calibrated}", values)

    def _lost_before(self, chunk: EmgChunk) -> int:
        """Samples missing before this chunk, by its own word and by the running counter; negative counters
        mean a new source.
        """
        lost = chunk.lost + self._pending_lost
        if self._next_index is not None:
            skipped = chunk.first_index - self._next_index
            if skipped < 0:
                self._counts["source_restarts"] += 1
                self.reset()
                lost = chunk.lost
            else:
                lost = max(lost, skipped + self._pending_lost)
        self._next_index = chunk.first_index + len(chunk.samples)
        return lost

    def _changed(self, chunk: EmgChunk) -> bool:
        return (
            self._source != chunk.channels
            or abs(chunk.rate_hz - self._rate_hz) > _RATE_CHANGE * self._rate_hz
        )

    def _configure(self, chunk: EmgChunk) -> Iterator[Emission]:
        if self._rate_hz:
            changed = "rate_changes" if self._source == chunk.channels else "channel_changes"
            self._counts[changed] += 1
            self._recent = (
                chunk.stamp,
                f"the stream has changed: {len(chunk.channels)} channels at {chunk.rate_hz:g} Hz",
            )
        self._rate_hz = chunk.rate_hz
        self._source = chunk.channels
        self.montage = None
        self._filter = None
        self._contact = None
        self._matched = None
        self._fault = ""
        self._calibration_fault = ""
        try:
            montage = self._montage_for(chunk)
            if self.config.contents == "raw":
                self._filter = EnvelopeFilter(
                    self.profile,
                    chunk.rate_hz,
                    len(montage.channels),
                    mains_hz=self.config.mains_hz,
                    limit_v=self.config.limit_v,
                    jump_s=self.config.jump_s,
                )
            else:
                self._filter = GridSampler(chunk.rate_hz, len(montage.channels))
            self._contact = ContactMonitor(
                chunk.rate_hz,
                montage.contacts,
                len(montage.source),
                mains_hz=self.config.mains_hz,
                rail_v=self.config.limit_v,
            )
        except EiferError as error:
            self._fault = f"EMG cannot be used: {error}"
            self._filter = None
            return
        self.montage = montage
        self._bad = np.flatnonzero([name in montage.bad for name in montage.channels])
        self._refused_before = 0
        if self.calibration is not None:
            try:
                self._matched = self.calibration.matched(
                    montage.scheme.name, self.profile.name, montage.muscles
                )
            except InputError as error:
                self._calibration_fault = str(error)
        yield Emission(topics.EMG_CHANNELS.name, montage.info(chunk.stamp, chunk.rate_hz))

    def _montage_for(self, chunk: EmgChunk) -> Montage:
        scheme = self._scheme
        if scheme is None:
            scheme = (
                plain_scheme(chunk.channels)
                if self.config.scheme == "plain"
                else guess_scheme(chunk.channels)
            )
        return build_montage(
            chunk.channels,
            scheme,
            self.config.montage,
            channel_map=self.config.channel_map,
            bad=self.config.bad_channels,
        )

    def _note_gap(self, chunk: EmgChunk, lost: int) -> None:
        sampler = self._filter.sampler if isinstance(self._filter, EnvelopeFilter) else self._filter
        expected = sampler.expected if sampler is not None else None
        if expected is None:
            return
        jumped = abs(chunk.stamp - expected - lost / chunk.rate_hz * NS) > self.config.jump_s * NS
        if lost:
            self._counts["gaps"] += 1
            self._counts["lost_samples"] += lost
        if jumped:
            self._counts["time_jumps"] += 1
        if lost:
            self._recent = (
                chunk.stamp,
                f"gap in the EMG stream ({self._counts['lost_samples']} samples lost so far)",
            )
        elif jumped:
            self._recent = (
                chunk.stamp,
                f"time in the EMG stream jumped by {(chunk.stamp - expected) / NS:+.3f} s",
            )

    def _envelope(self, mixed: F64, stamp: Stamp, lost: int) -> Envelope:
        if isinstance(self._filter, EnvelopeFilter):
            envelope = self._filter.push(mixed, stamp, lost)
            self._counts["refused_samples"] += self._filter.refused - self._refused_before
            self._refused_before = self._filter.refused
            return envelope
        assert self._filter is not None
        expected = self._filter.expected
        if expected is not None and (
            lost > 0 or abs(stamp - expected) > max(self.config.jump_s, 1.0 / self._rate_hz) * NS
        ):
            self._filter.restart()
        return Envelope(*self._filter.push(np.maximum(mixed, 0.0), stamp))

    def _emissions(self, envelope: Envelope, montage: Montage) -> Iterator[Emission]:
        if not len(envelope.stamps):
            return
        contact = self._contact.last if self._contact is not None else None
        quality = (
            np.full(len(montage.channels), np.nan, np.float32)
            if contact is None
            else contact.score.astype(np.float32)
        )
        quality[self._bad] = 0.0
        if self._matched is not None:
            activation = self._matched.activation(envelope.values)
        else:
            activation = np.full(envelope.values.shape, np.nan)
        values = envelope.values.astype(np.float32)
        activation = activation.astype(np.float32)
        self._counts["instants"] += len(envelope.stamps)
        for row, stamp in enumerate(envelope.stamps.tolist()):
            yield Emission(
                topics.EMG_ACTIVITY.name,
                MuscleActivity(
                    stamp,
                    montage.scheme.name,
                    montage.muscles,
                    values[row],
                    activation[row],
                    quality,
                    profile=self.profile.name,
                ),
            )

    @property
    def unusable(self) -> tuple[str, ...]:
        """Channels declared bad, or whose contact is below `quality.GOOD` at present."""
        contact = self._contact.last if self._contact is not None else None
        if self.montage is None:
            return ()
        poor = contact.score < GOOD if contact is not None else np.zeros(len(self.montage.channels), bool)
        return tuple(
            name
            for name, low in zip(self.montage.channels, poor, strict=True)
            if low or name in self.montage.bad
        )
