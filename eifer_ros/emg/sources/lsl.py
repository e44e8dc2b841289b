"""EMG from Lab Streaming Layer, the default in a lab.

The inlet is opened without liblsl's post-processing and the stamps are corrected here. Reasons: liblsl then
hands out either raw or corrected stamps, never both, and both are wanted (a second inlet would double the
traffic); its dejitter counts samples and, when some are missing, is wrong for the minutes it takes to forget;
and it does not say how many were missing. Clock offset: liblsl's own `time_correction`. Dejitter and monotone
stamps: `dejitter.py`.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Any, ClassVar

import numpy as np

from ...clock import DeviceClock, steady_epoch
from ...component import Device
from ...config import parameter
from ...errors import ConfigError, DeviceError, InputError, MissingExtra, did_you_mean
from ...types import F32, F64, NS, nanoseconds
from .base import Block, EmgSourceConfig, Layout, LiveEmgSource, volts_per
from .dejitter import Dejitter, RateCheck, Run

_PROPERTIES = ("name", "type", "source_id", "hostname", "uid")
_MAX_AGE_S = 10.0
_DTYPES = {1: np.float32, 2: np.float64, 4: np.int32, 5: np.int16, 6: np.int8, 7: np.int64}


class LslConfig(EmgSourceConfig):
    """Parameters of the LSL source."""

    url_field: ClassVar[str] = "stream"

    stream: str = parameter(
        "type=EMG", "name of the stream, or property=value (name, type, source_id, hostname, uid)"
    )
    unit: str = parameter(
        "", "unit of the samples where the stream does not declare one; empty: microvolts, LSL's habit"
    )
    chunk_s: float = parameter(
        0.005, "samples are handed on at least this far apart", unit="s", ge=0.0005, le=1
    )
    resolve_s: float = parameter(1.0, "how long one search for the stream lasts", unit="s", gt=0, le=30)
    half_life_s: float = parameter(
        90.0, "age at which a stamp counts half in the dejitter", unit="s", ge=1, le=3600
    )


def load() -> Any:
    """The pylsl module. MissingExtra: not installed, or installed without liblsl (as on aarch64)."""
    try:
        import pylsl
    except ImportError as error:
        raise MissingExtra("pylsl", "lsl", "reading Lab Streaming Layer") from error
    except (OSError, RuntimeError) as error:
        raise DeviceError(
            f"pylsl is installed but liblsl is not: {str(error).splitlines()[0]}; install liblsl from its releases (Debian, "
            "Ubuntu, conda-forge packages exist) or point PYLSL_LIB at it"
        ) from error
    return pylsl


class LslSource(LiveEmgSource):
    """One LSL stream.

    Stamps are liblsl's clock mapped onto the host's epoch; raw stamps travel in each chunk.
    """

    config_type: ClassVar[type[LslConfig]] = LslConfig
    config: LslConfig
    gives_up = False  # liblsl says when an outlet is gone; one that is there and silent may well go on

    def __init__(self, config: LslConfig | None = None) -> None:
        config = config or LslConfig()
        super().__init__(config)
        key, equals, value = config.stream.partition("=")
        self._property, self._value = (key.strip(), value.strip()) if equals else ("name", config.stream)
        if self._property not in _PROPERTIES:
            raise ConfigError(
                f"lsl: '{self._property}' is no stream property{did_you_mean(self._property, _PROPERTIES)}; "
                f"use {', '.join(_PROPERTIES)}"
            )
        if not self._value:
            raise ConfigError("lsl: give the name of a stream or property=value, e.g. lsl:type=EMG")
        self.what = f"LSL stream {self._property} '{self._value}'"
        self._host = steady_epoch()
        self._inlet: Any = None
        self._dejitter: Dejitter | None = None
        self._ready: deque[Block | Layout] = deque()

    @classmethod
    def discover(cls) -> tuple[Device, ...]:
        """Streams on the network, searched for a second. Raises MissingExtra, DeviceError."""
        return tuple(
            Device(
                f"lsl:{stream.name()}",
                stream.type() or "no type",
                f"{stream.channel_count()} channels, {stream.nominal_srate():g} Hz, {stream.hostname()}",
            )
            for stream in load().resolve_streams(1.0)
        )

    def setup(self) -> None:
        """Load liblsl. MissingExtra, DeviceError."""
        self._lsl = load()
        self._gone: type[Exception] = self._lsl.util.LostError
        # both clocks run steadily, so one offset serves for good; the best of a few brackets out a scheduling
        # hiccup
        self._epoch_ns = round(median(self._host() - self._lsl.local_clock() * NS for _ in range(9)))

    def connect(self) -> Layout:
        """Find and open the stream. DeviceError names the streams that are there instead."""
        if not hasattr(self, "_lsl"):
            self.setup()
        lsl = self._lsl
        streams = lsl.resolve_byprop(self._property, self._value, 1, self.config.resolve_s)
        if not streams:
            others = ", ".join(sorted(info.name() for info in lsl.resolve_streams(0.5)))
            raise DeviceError(f"{self.what}: not on the network; streams there: {others or 'none'}")
        streams.sort(key=lambda info: (info.hostname(), info.name(), info.uid()))
        info = streams[0]
        if info.channel_format() not in _DTYPES:
            raise ConfigError(f"{self.what}: it carries text, not samples")
        if info.nominal_srate() <= 0:
            raise ConfigError(
                f"{self.what}: it declares an irregular rate; an EMG stream must declare its sampling rate"
            )
        try:
            self._inlet = lsl.StreamInlet(info, max_buflen=10, recover=False)
            full = self._inlet.info(timeout=5.0)
            # the first time correction takes over half a second: fetched before samples begin to queue up
            self._correction = self._inlet.time_correction(timeout=5.0)
            self._inlet.open_stream(timeout=5.0)
        except (TimeoutError, self._gone, RuntimeError) as error:
            raise DeviceError(
                f"{self.what}: found but could not be opened ({type(error).__name__}: {error})"
            ) from error
        notes = (
            [] if len(streams) == 1 else [f"{len(streams)} streams match, using the one of {info.hostname()}"]
        )
        self._scale, unit_note = self._scales(full)
        notes += unit_note
        names = tuple((label or f"ch{k + 1}") for k, label in enumerate(_field(full, "label")))
        rate = float(info.nominal_srate())
        self._layout_now = Layout(names, rate, tuple(notes))
        self._buffer = np.zeros((max(int(rate), 1024), info.channel_count()), _DTYPES[info.channel_format()])
        self._begin(rate)
        self._pulled = -np.inf
        return self._layout_now

    def _begin(self, rate: float) -> None:
        """Start counting anew at `rate`."""
        self._ready.clear()
        self._dejitter = Dejitter(rate, self.config.half_life_s)
        self._check = RateCheck(rate)
        self._clock: DeviceClock | None = None
        self._rate_checked = False
        self._count = 0
        self._fresh = True
        self._corrected_at = -np.inf

    def _scales(self, info: Any) -> tuple[F32, list[str]]:
        """Volts per unit for each channel, and what had to be assumed."""
        units = _field(info, "unit")
        notes: list[str] = []
        scales = []
        fallback = self.config.unit or "microvolts"
        for unit in units:
            try:
                scales.append(volts_per(unit or fallback))
            except InputError as error:
                if unit and not self.config.unit:
                    notes = [f"unit '{unit}' is no voltage, taken as {fallback}"]
                    scales.append(volts_per(fallback))
                else:
                    raise ConfigError(f"{self.what}: {error}") from None
        if not all(units) and not self.config.unit:
            notes = ["no unit declared, taken as microvolts"]
        return np.asarray(scales, np.float32), notes

    def read(self) -> Block | Layout | None:
        """The next corrected samples; waits at most about 0.1 s. DeviceError: the outlet is gone."""
        if self._ready:
            return self._ready.popleft()
        lsl = self._lsl
        inlet = self._inlet
        wait = self.config.chunk_s - (lsl.local_clock() - self._pulled)
        if wait > 0:
            self._stop.wait(wait)
        try:
            _, stamps = inlet.pull_chunk(timeout=0.0, max_samples=len(self._buffer), dest_obj=self._buffer)
            if not len(stamps):
                sample, stamp = inlet.pull_sample(timeout=0.1)
                if sample is None:
                    self._accept(self._dejitter.flush() if self._dejitter and not self._clock else [])
                    return self._ready.popleft() if self._ready else None
                stamps = [stamp]
                self._buffer[0] = sample
            now = lsl.local_clock()
            self._pulled = now
            if now - self._corrected_at > 1.0:
                self._correction = inlet.time_correction(timeout=1.0)
                self._corrected_at = now
        except (self._gone, TimeoutError) as error:
            raise DeviceError(f"{self.what}: the outlet is gone ({type(error).__name__})") from error
        raw = np.array(stamps, np.float64)
        samples = self._buffer[: len(raw)].astype(np.float32) * self._scale
        self._take(samples, raw, now)
        return self._ready.popleft() if self._ready else None

    def _take(self, samples: F32, raw: F64, now: float) -> None:
        """Correct the stamps of one pull and queue what is ready."""
        local = raw + self._correction
        if not self._rate_checked:
            self._rate_checked = True
            age = now - float(local[-1])
            if not -1.0 < age < _MAX_AGE_S:
                # the classic fault: stamps pushed from another clock than local_clock()
                note = f"its stamps are {age:.1f} s from the LSL clock, arrival times are used and gaps cannot be counted"
                self._layout_now = Layout(
                    self._layout_now.names, self._layout_now.rate_hz, (*self._layout_now.notes, note)
                )
                self._ready.append(self._layout_now)
                self._clock = DeviceClock(1.0 / self._layout_now.rate_hz)
        if self._clock is not None:
            self._clock.observe(self._count + len(raw), self._epoch_ns + nanoseconds(now))
            self._ready.append(
                Block(samples, self._clock.stamp(self._count), None if self._fresh else 0, raw)
            )
            self._fresh = False
            self._count += len(raw)
            return
        assert self._dejitter is not None
        true_rate = self._check.add(local)
        if true_rate is not None:
            old = self._layout_now
            note = f"declares {old.rate_hz:g} Hz but delivers {true_rate:.4g} Hz, the measured rate is used"
            self._layout_now = Layout(old.names, float(f"{true_rate:.4g}"), (*old.notes, note))
            self._accept(self._dejitter.flush())
            pending = list(self._ready)
            self._begin(self._layout_now.rate_hz)
            self._rate_checked = True
            self._fresh = False
            self._ready.extend([*pending, self._layout_now])
        assert self._dejitter is not None
        self._accept(self._dejitter.add(samples, local, now, raw))

    def _accept(self, runs: list[Run]) -> None:
        for run in runs:
            stamp = self._epoch_ns + nanoseconds(run.first_s)
            self._ready.append(Block(run.samples, stamp, None if self._fresh else run.lost, run.raw))
            self._fresh = False

    def disconnect(self) -> None:
        """Drop the inlet."""
        inlet = self._inlet
        self._inlet = None
        if inlet is not None:
            inlet.close_stream()
        self._ready.clear()

    def _extra_values(self) -> dict[str, float | int | str]:
        if self._clock_state is not None:
            return self._clock_state
        dejitter = self._dejitter
        if dejitter is None:
            return {}
        return {
            "clock_drift_ppm": round(dejitter.drift * 1e6, 2),
            "stamp_jitter_ms": round(dejitter.jitter_s * 1e3, 3),
            "clock_jumps": dejitter.jumps,
        }

    @property
    def _clock_state(self) -> dict[str, float | int | str] | None:
        clock = getattr(self, "_clock", None)
        return None if clock is None else clock.state.values()


def _field(info: Any, name: str) -> list[str]:
    """`desc/channels/channel/<name>` of every channel, empty where it is missing."""
    values = []
    channel = info.desc().child("channels").child("channel")
    for _ in range(info.channel_count()):
        values.append(channel.child_value(name).strip() if not channel.empty() else "")
        channel = channel.next_sibling("channel") if not channel.empty() else channel
    return values
