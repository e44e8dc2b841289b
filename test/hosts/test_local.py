from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from eifer_ros import types as t
from eifer_ros.component import Component, Emission, Port, Source
from eifer_ros.errors import ConfigError, DeviceError
from eifer_ros.hosts.local import LocalHost

PERIOD = 10_000_000


def chunk(index: int) -> t.EmgChunk:
    return t.EmgChunk(index * PERIOD, 100.0, ("a",), np.zeros((1, 1), np.float32), index)


def frame(index: int) -> t.Frame:
    return t.Frame(index * PERIOD, np.zeros((2, 2, 3), np.uint8))


class Emg(Source):
    outputs = (Port("emg/raw", t.EmgChunk, keep_all=True),)

    def __init__(self, count: int, fail_at: int = -1) -> None:
        self.count, self.fail_at, self.stopped = count, fail_at, threading.Event()

    def produce(self) -> Iterator[Emission]:
        for index in range(self.count):
            if self.stopped.is_set():
                return
            if index == self.fail_at:
                raise DeviceError("the amplifier was unplugged")
            yield Emission("emg/raw", chunk(index))

    def stop(self) -> None:
        self.stopped.set()


class Camera(Emg):
    outputs = (Port("camera/image_raw", t.Frame),)

    def produce(self) -> Iterator[Emission]:
        for emission in super().produce():
            yield Emission(
                "camera/image_raw", t.Frame(emission.item.stamp + 1, np.zeros((2, 2, 3), np.uint8))
            )


class Log(Component):
    inputs = (Port("emg/raw", t.EmgChunk, keep_all=True), Port("camera/image_raw", t.Frame))
    outputs = (Port("markers", t.Marker),)

    def __init__(self, tick_hz: float = 0.0, gate: threading.Event | None = None) -> None:
        self.tick_hz, self.gate = tick_hz, gate
        self.seen: list[tuple[str, int]] = []
        self.ticks: list[int] = []
        self.busy = False

    def handle(self, port: str, item: t.Item) -> Iterable[Emission]:
        assert not self.busy, "called from two threads at once"
        self.busy = True
        if self.gate is not None:
            assert self.gate.wait(120)
        self.seen.append((port, item.stamp))
        self.busy = False
        return [Emission("markers", t.Marker(item.stamp, "seen", "note"))]

    def tick(self, now: int) -> Iterable[Emission]:
        self.ticks.append(now)
        return ()


def test_offline_items_of_several_sources_arrive_in_stamp_order_and_nothing_is_lost() -> None:
    log = Log()
    host = LocalHost({"emg": Emg(300), "camera": Camera(200), "log": log})
    made: list[int] = []
    host.tap(lambda port, item: made.append(item.stamp), "markers")
    host.setup()
    host.run_offline()
    assert [stamp for _, stamp in log.seen] == sorted(stamp for _, stamp in log.seen)
    assert len(log.seen) == 500
    assert made == [stamp for _, stamp in log.seen]


def test_offline_ticks_follow_the_stamps_and_not_the_wall_clock() -> None:
    log = Log(tick_hz=50.0)
    host = LocalHost({"emg": Emg(101), "camera": Camera(0), "log": log})
    host.run_offline()
    assert log.ticks == [20_000_000 * (index + 1) for index in range(50)]


def test_two_offline_runs_are_the_same() -> None:
    logs = []
    for _ in range(2):
        log = Log(tick_hz=30.0)
        LocalHost({"emg": Emg(100), "camera": Camera(90), "log": log}).run_offline()
        logs.append((log.seen, log.ticks))
    assert logs[0] == logs[1]


def test_a_failing_source_ends_the_run_with_its_own_error_after_what_it_gave() -> None:
    log = Log()
    host = LocalHost({"emg": Emg(50, fail_at=20), "camera": Camera(0), "log": log})
    with pytest.raises(DeviceError, match="unplugged"):
        host.run_offline()
    assert len(log.seen) == 20


def test_live_a_slow_component_loses_pictures_which_are_counted_but_never_emg() -> None:
    gate = threading.Event()
    log = Log(gate=gate)
    host = LocalHost({"emg": Emg(100), "camera": Camera(100), "log": log})
    entered = {"emg/raw": 0, "camera/image_raw": 0}

    def count(port: str, item: t.Item) -> None:
        if port in entered:
            entered[port] += 1
        if sum(entered.values()) == 200:
            gate.set()

    host.tap(count)
    host.run_live()
    pictures = [stamp for port, stamp in log.seen if port == "camera/image_raw"]
    assert len([1 for port, _ in log.seen if port == "emg/raw"]) == 100
    assert pictures == sorted(pictures)
    assert pictures[-1] == 99 * PERIOD + 1, "the newest picture must survive"
    assert host.timing["log"].dropped == 100 - len(pictures) > 0


def test_live_the_branches_of_a_source_run_at_the_same_time() -> None:
    slow = threading.Event()

    class Both(Source):
        outputs = (Port("emg/raw", t.EmgChunk, keep_all=True), Port("camera/image_raw", t.Frame))

        def branches(self):
            return self.pictures, self.emg

        def pictures(self) -> Iterator[Emission]:
            assert slow.wait(120)  # until the EMG, which comes from the other branch, is through
            yield Emission("camera/image_raw", frame(0))

        def emg(self) -> Iterator[Emission]:
            for index in range(5):
                yield Emission("emg/raw", chunk(index))
            slow.set()

    log = Log()
    host = LocalHost({"both": Both(), "log": log})
    host.setup()
    host.run_live()
    assert [port for port, _ in log.seen] == ["emg/raw"] * 5 + ["camera/image_raw"]


def test_live_an_error_in_a_source_reaches_the_caller() -> None:
    host = LocalHost({"emg": Emg(5, fail_at=2), "camera": Camera(0), "log": Log()})
    with pytest.raises(DeviceError, match="unplugged"):
        host.run_live()


def test_live_ticks_come_from_the_given_clock_in_the_components_own_thread() -> None:
    times = iter(range(10**9))
    log = Log(tick_hz=200.0)

    class Patient(Emg):
        def produce(self) -> Iterator[Emission]:
            yield Emission("emg/raw", chunk(0))
            self.stopped.wait(120)

    host = LocalHost({"emg": Patient(1), "camera": Camera(0), "log": log})
    original = log.tick

    def tick(now: int) -> Iterable[Emission]:
        if len(log.ticks) >= 5:
            host.stop()
        return original(now)

    log.tick = tick  # type: ignore[method-assign]
    host.run_live(clock=lambda: next(times), duration_s=30)
    # a tick that the worker had no time for is replaced by the next one, never called late or twice
    assert log.ticks == sorted(set(log.ticks))
    assert log.ticks[0] >= 0
    assert log.ticks[-1] < next(times)
    assert len(log.ticks) >= 5


def test_a_component_that_would_hear_nothing_is_refused_by_name() -> None:
    with pytest.raises(
        ConfigError, match="'log' listens to emg/raw, camera/image_raw, which nothing in this graph makes"
    ):
        LocalHost({"log": Log()})


def test_a_component_may_do_with_a_part_of_its_inputs() -> None:
    log = Log()
    LocalHost({"emg": Emg(3), "log": log}).run_offline()
    assert len(log.seen) == 3


@pytest.mark.parametrize("live", [False, True])
def test_what_a_component_gives_travels_on_before_it_is_asked_for_more(live: bool) -> None:
    order: list[str] = []

    class Slow(Log):
        def handle(self, port: str, item: t.Item) -> Iterable[Emission]:
            yield Emission("markers", t.Marker(item.stamp, "seen", "note"))
            order.append("afterwards")

    host = LocalHost({"emg": Emg(2), "slow": Slow()})
    host.tap(lambda port, item: order.append("marker"), "markers")
    host.setup()
    host.run_live() if live else host.run_offline()
    assert order == ["marker", "afterwards"] * 2
    assert host.timing["slow"].handled == 2
