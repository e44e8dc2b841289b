"""What every EMG source shares: outputs, counters, health, reconnecting with back-off.

A live source says how to connect, read one block and disconnect (`LiveEmgSource`); everything a user can see
- channel names, picking, loss counters, health, retries - is done here, once, in the same way for every
device.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ... import topics
from ...component import Emission, Health, Level, Port, Source
from ...config import DeviceConfig, parameter
from ...errors import ConfigError, DeviceError, InputError, did_you_mean
from ...types import F32, F64, NS, EmgChannelInfo, EmgChunk, Stamp
from ..montage import SCHEMES, guess_scheme, load_scheme

RAW = topics.EMG_RAW.port
CHANNELS = topics.EMG_RAW_CHANNELS.port

# fmt: off
_VOLTS = {
    "v": 1.0, "volt": 1.0, "volts": 1.0, "mv": 1e-3, "millivolt": 1e-3, "millivolts": 1e-3, "uv": 1e-6, "microvolt": 1e-6,
    "microvolts": 1e-6, "nv": 1e-9, "nanovolt": 1e-9, "nanovolts": 1e-9,
}
# fmt: on


def volts_per(unit: str) -> float:
    """How many volts one `unit` is (`V`, `mV`, `uV`, `µV`, `microvolts`, ...).

    InputError where it is no voltage.
    """
    plain = unit.strip().lower().replace("µ", "u").replace("μ", "u")
    if plain not in _VOLTS:
        raise InputError(
            f"'{unit}' is not a unit of voltage; use V, mV, uV or nV{did_you_mean(plain, _VOLTS)}"
        )
    return _VOLTS[plain]


class EmgSourceConfig(DeviceConfig):
    """What can be set for every EMG source."""

    pick: tuple[str, ...] = parameter(
        (), "device channels to keep, in this order: names or numbers from 1; empty keeps all"
    )
    channels: tuple[str, ...] = parameter(
        (), "names in place of the device's, one per kept channel; empty keeps the device's"
    )
    muscles: tuple[str, ...] = parameter(
        (), "muscle under each kept channel; empty repeats the channel names"
    )
    scheme: str = parameter(
        "",
        "electrode scheme of the channels: fridlund, kuramoto, a YAML file; empty: guessed from their names",
    )
    montage: str = parameter("", "bipolar, monopolar, envelope, ...; empty: unknown")
    stale_after_s: float = parameter(0.5, "silence longer than this shows in health", unit="s", gt=0, le=60)
    give_up_s: float = parameter(
        5.0, "silence after which the device is connected to anew", unit="s", gt=0, le=3600
    )
    retry_s: float = parameter(
        0.25, "first pause before trying again; doubles with every failure", unit="s", gt=0, le=60
    )
    retry_max_s: float = parameter(5.0, "longest pause between attempts", unit="s", gt=0, le=600)


@dataclass(frozen=True)
class Layout:
    """What a device says of its stream: channel names and sampling rate, and what should be known about them."""

    names: tuple[str, ...]
    rate_hz: float
    notes: tuple[str, ...] = ()
    muscles: tuple[str, ...] = ()
    scheme: str = ""
    montage: str = ""


@dataclass(frozen=True)
class Block:
    """Consecutive samples from a device: (N, C) volts, stamp of the first.

    lost: samples missing before it; None after a fresh connection, where the stamps tell how many were
    missed.
    """

    samples: F32
    stamp: Stamp
    lost: int | None = 0
    raw_stamps: F64 = field(default_factory=lambda: np.zeros(0))


class EmgSource(Source):
    """Base of all EMG sources. `produce` is left to the two kinds below it: live devices and files."""

    inputs: ClassVar[tuple[Port, ...]] = ()
    outputs: ClassVar[tuple[Port, ...]] = (RAW, CHANNELS)
    what: str = "EMG source"
    """How messages call it, e.g. "LSL stream 'forehead'"."""

    def __init__(self, config: EmgSourceConfig, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._monotonic = monotonic
        self._stop = threading.Event()
        self._layout: Layout | None = None
        self._picked: list[int] = []
        self._names: tuple[str, ...] = ()
        self._index = 0
        self._lost = 0
        self._end: Stamp | None = None
        self._stamp: Stamp | None = None
        self._arrived: float | None = None
        self._lost_at = -np.inf
        self._lost_last = 0
        self._notes: tuple[str, ...] = ()
        self._trouble = "not started yet"
        self._failed = False
        self._done = False

    def stop(self) -> None:
        """Ask `produce` to end soon. May be called from any thread."""
        self._stop.set()

    def reset(self) -> None:
        """Forget the counters; the next chunk starts at index 0."""
        self._index = 0
        self._lost = 0
        self._end = None
        self._stamp = None

    def _announce(self, layout: Layout, stamp: Stamp) -> Emission:
        """Take a (new) layout into use and describe the kept channels to listeners."""
        config = self.config
        if not np.isfinite(layout.rate_hz) or layout.rate_hz <= 0:
            raise DeviceError(
                f"{self.what} gives a sampling rate of {layout.rate_hz} Hz; an evenly sampled stream is needed"
            )
        self._picked = [_find(name, layout.names, self.what) for name in config.pick] or list(
            range(len(layout.names))
        )
        names = config.channels or tuple(layout.names[k] for k in self._picked)
        if len(names) != len(self._picked):
            raise ConfigError(
                f"{self.what}: 'channels' has {len(names)} names but {len(self._picked)} channels are kept"
            )
        scheme_name = config.scheme or layout.scheme
        scheme = load_scheme(scheme_name) if scheme_name else guess_scheme(names)
        sites = [scheme.resolve(name) for name in names]
        at = [None if site is None else scheme.index(site) for site in sites]
        muscles = config.muscles or (
            tuple(layout.muscles[k] for k in self._picked)
            if layout.muscles
            else tuple(name if k is None else scheme.muscles[k] for k, name in zip(at, names, strict=True))
        )
        if len(muscles) != len(names):
            raise ConfigError(
                f"{self.what}: 'muscles' has {len(muscles)} names but {len(names)} channels are kept"
            )
        self._layout = layout
        self._names = _unique(names)
        self._notes = layout.notes
        nowhere = np.full(2, np.nan)
        info = EmgChannelInfo(
            stamp,
            self._names,
            muscles,
            scheme_name or (scheme.name if any(scheme.name == s for s in SCHEMES) else ""),
            config.montage or layout.montage,
            layout.rate_hz,
            np.asarray([nowhere if k is None else scheme.positions[k] for k in at], np.float32).reshape(
                -1, 2
            ),
        )
        return Emission(CHANNELS.name, info)

    def _emit(self, block: Block) -> Emission:
        """A block as a chunk, with counters brought up to date."""
        assert self._layout is not None, "a layout is announced before samples are emitted"
        rate = self._layout.rate_hz
        lost = block.lost
        if lost is None:
            lost = 0 if self._end is None else max(0, round((block.stamp - self._end) / NS * rate))
        samples = (
            block.samples
            if len(self._picked) == block.samples.shape[1] and self._picked == sorted(self._picked)
            else block.samples[:, self._picked]
        )
        first = self._index + lost
        chunk = EmgChunk(block.stamp, rate, self._names, samples, first, lost, block.raw_stamps)
        self._index = first + len(samples)
        self._stamp, self._end, self._arrived = chunk.stamp, chunk.end_stamp, self._monotonic()
        if lost:
            self._lost += lost
            self._lost_last = lost
            self._lost_at = self._arrived
        self._trouble = ""
        self._failed = False
        return Emission(RAW.name, chunk)

    def _extra_values(self) -> dict[str, float | int | str]:
        """Further values for health, such as drift."""
        return {}

    def health(self) -> Health:
        """Level and counters; silence longer than `stale_after_s` is STALE, a recent loss or a broken promise
        WARN.
        """
        values: dict[str, float | int | str] = {"samples": self._index - self._lost, "lost": self._lost}
        if self._layout is not None:
            values |= {"rate_hz": self._layout.rate_hz, "channels": len(self._names)}
        now = self._monotonic()
        if self._arrived is not None:
            values["silent_s"] = round(now - self._arrived, 3)
        values |= self._extra_values()
        if self._done:
            return Health(Level.OK, f"{self.what}: ended", values)
        if self._arrived is None or self._trouble:
            return Health(
                Level.ERROR if self._failed else Level.STALE, f"{self.what}: {self._trouble}", values
            )
        if now - self._arrived > self.config.stale_after_s:
            return Health(Level.STALE, f"{self.what}: no samples for {now - self._arrived:.1f} s", values)
        if now - self._lost_at < 10.0:
            return Health(
                Level.WARN,
                f"{self.what}: {self._lost_last} samples lost {now - self._lost_at:.1f} s ago",
                values,
            )
        if self._notes:
            return Health(Level.WARN, f"{self.what}: {'; '.join(self._notes)}", values)
        return Health(Level.OK, f"{self.what}: running", values)


class LiveEmgSource(EmgSource):
    """A device that is connected to, read block by block, and connected to again when it goes away."""

    live = True
    gives_up: ClassVar[bool] = True
    """Whether long silence means that the connection is dead. False where the library below knows better."""

    def connect(self) -> Layout:
        """Open the device and start streaming. DeviceError: not there (it is tried again)."""
        raise NotImplementedError

    def read(self) -> Block | Layout | None:
        """Samples, or None after a short wait without any; a Layout where the stream turned into something
        else.

        DeviceError: the connection is lost.
        """
        raise NotImplementedError

    def disconnect(self) -> None:
        """Let go of the device. Called after every connection, also a failed one."""

    def produce(self) -> Iterator[Emission]:
        """Chunks until `stop`.

        Loss of the device is seen in health and retried; a wrong setting is raised.
        """
        pause = self.config.retry_s
        try:
            while not self._stop.is_set():
                try:
                    for emission in self._session():
                        pause = self.config.retry_s
                        yield emission
                except DeviceError as error:
                    self._trouble = str(error).removeprefix(f"{self.what}: ")
                    self._failed = True
                finally:
                    self.disconnect()
                if self._stop.wait(pause):
                    break
                pause = min(2 * pause, self.config.retry_max_s)
        finally:
            self._stop.clear()  # obeyed; a later `produce` starts afresh, an earlier `stop` is not forgotten

    def _session(self) -> Iterator[Emission]:
        """From one connection to its end. DeviceError: it failed, broke off or fell silent for good."""
        layout = self.connect()
        self._trouble = "connected, no samples yet"
        self._failed = False
        heard = self._monotonic()
        while not self._stop.is_set():
            block = self.read()
            if isinstance(block, Layout):
                layout = block
                continue
            if block is None or not len(block.samples):
                silent = self._monotonic() - heard
                if self.gives_up and silent > self.config.give_up_s:
                    raise DeviceError(f"{self.what}: no samples for {silent:.1f} s, connecting anew")
                continue
            heard = self._monotonic()
            if layout != self._layout:
                yield self._announce(layout, block.stamp)
            yield self._emit(block)

    def close(self) -> None:
        """Stop and release the device."""
        self.stop()
        self.disconnect()


def _find(name: str, names: tuple[str, ...], what: str) -> int:
    """Index of the channel called `name`, or of number `name` counted from 1."""
    if name in names:
        return names.index(name)
    if name.isdigit() and 1 <= int(name) <= len(names):
        return int(name) - 1
    raise ConfigError(
        f"{what}: it has no channel '{name}'{did_you_mean(name, names)}; it has {', '.join(names)} (or numbers 1..{len(names)})"
    )


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    """`names` with a number added to repeated or empty ones: a channel must be findable by its name."""
    counts: dict[str, int] = {}
    result = []
    for k, name in enumerate(names):
        name = name.strip() or f"ch{k + 1}"
        counts[name] = counts.get(name, 0) + 1
        result.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return tuple(result)
