"""Small components that show what a host does with them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal

import numpy as np

from eifer_ros.component import Component, Emission, Health, Port, Source
from eifer_ros.config import Config, parameter
from eifer_ros.errors import DeviceError, ModelError
from eifer_ros.types import EmgChunk, Frame, Item, MuscleActivity, Stamp

FLOATS = {"envelope": np.float32(1e-5), "activation": np.float32(0.5), "quality": np.float32(1.0)}


def chunk(index: int, stamp: Stamp, count: int = 8, channels: int = 2) -> EmgChunk:
    samples = (np.arange(count * channels, dtype=np.float32).reshape(count, channels) + index) * 1e-6
    return EmgChunk(stamp, 1000.0, tuple(f"C{i}" for i in range(channels)), samples, index * count)


def activity(stamp: Stamp) -> MuscleActivity:
    return MuscleActivity(
        stamp,
        "fridlund",
        ("F1",),
        np.full(1, 1e-5, np.float32),
        np.full(1, 0.5, np.float32),
        np.ones(1, np.float32),
    )


def frame(stamp: Stamp, value: int = 7, size: tuple[int, int] = (32, 24)) -> Frame:
    return Frame(
        stamp,
        np.full((size[1], size[0], 3), value, np.uint8),
        np.array([[30.0, 0, 16], [0, 30.0, 12], [0, 0, 1.0]]),
        frame_id="toy_optical",
    )


class ToyConfig(Config):
    rate_hz: float = parameter(30.0, "how often", unit="Hz", gt=0, le=240)
    count: int = parameter(3, "how many", ge=1, le=9)
    gain: float = parameter(1.0, "how much", ge=0, le=10, read_only=False)
    share: float = parameter(0.5, "what part", gt=0, le=1, read_only=False)
    mode: Literal["a", "b"] = parameter("a", "which way")
    names: tuple[str, ...] = parameter((), "who")
    gains: dict[str, float] = parameter({}, "how much of each")
    model: str = parameter("", "file of a model")
    fail_at: int = parameter(0, "which item breaks it; 0 none", ge=0)


class Toy(Component):
    """EMG in, activity out: one per chunk, or one per tick where tick is asked for."""

    config_type = ToyConfig
    inputs: ClassVar[tuple[Port, ...]] = (Port("emg/raw", EmgChunk, keep_all=True),)
    outputs: ClassVar[tuple[Port, ...]] = (Port("emg/activity", MuscleActivity),)

    def __init__(self, config: ToyConfig) -> None:
        self.config = config
        self.got: list[Item] = []
        self.resets = self.closed = 0
        self.ticks: list[Stamp] = []

    def setup(self) -> None:
        if self.config.model:
            raise ModelError(f"{self.config.model}: no such model")

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        self.got.append(item)
        if self.config.fail_at and len(self.got) == self.config.fail_at:
            raise DeviceError("the toy broke")
        return [Emission("emg/activity", activity(item.stamp))]

    def tick(self, now: Stamp) -> Iterable[Emission]:
        self.ticks.append(now)
        return ()

    def reset(self) -> None:
        self.resets += 1

    def health(self) -> Health:
        return Health(values={"got": len(self.got)})

    def close(self) -> None:
        self.closed += 1


class TickingToy(Toy):
    tick_hz = 50.0


class Watcher(Toy):
    """Pictures in."""

    inputs: ClassVar[tuple[Port, ...]] = (Port("camera/image_raw", Frame),)
    gate: ClassVar[threading.Event] = threading.Event()

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        self.gate.wait(30.0)
        self.got.append(item)
        return ()


class ToySourceConfig(Config):
    number: int = parameter(0, "how many items; 0 until stopped", ge=0)


class ToySource(Source):
    """Chunks and pictures, as fast as `step` lets them."""

    config_type = ToySourceConfig
    outputs: ClassVar[tuple[Port, ...]] = (
        Port("emg/raw", EmgChunk, keep_all=True),
        Port("camera/image_raw", Frame),
    )

    def __init__(self, config: ToySourceConfig) -> None:
        self.config = config
        self.step = threading.Semaphore(0)
        self.made = 0
        self.setups = 0
        self.wanted: list[frozenset[str]] = []
        self._stop = threading.Event()

    def setup(self) -> None:
        self.setups += 1
        self._stop.clear()

    def set_subscribed(self, subscribed: frozenset[str]) -> None:
        self.wanted.append(subscribed)

    def produce(self) -> Iterator[Emission]:
        while not self._stop.is_set() and (not self.config.number or self.made < self.config.number):
            if not self.step.acquire(timeout=0.05):
                continue
            stamp = 1_700_000_000_000_000_000 + self.made * 8_000_000
            item: Any = chunk(self.made, stamp)
            self.made += 1
            yield Emission("emg/raw", item)
            yield Emission("camera/image_raw", frame(stamp))

    def stop(self) -> None:
        self._stop.set()
