from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np

from eifer_ros.component import Component, Emission, Port
from eifer_ros.hosts.local import LiveRun, LocalHost
from eifer_ros.types import EmgChunk, Item

RAW = Port("emg/raw", EmgChunk, keep_all=True)


def chunk(index: int) -> EmgChunk:
    return EmgChunk(1_000_000_000 + index, 1000.0, ("A",), np.zeros((1, 1), np.float32), index)


class Keeper(Component):
    """Keeps what it gets and in which thread; holds the first item until `go`."""

    inputs = (RAW,)

    def __init__(self) -> None:
        self.got: list[str] = []
        self.threads: set[str] = set()
        self.held, self.go = threading.Event(), threading.Event()

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        self.threads.add(threading.current_thread().name)
        self.held.set()
        assert self.go.wait(120.0)
        assert isinstance(item, EmgChunk)
        self.got.append(str(item.first_index))
        return ()

    def tick(self, now: int) -> Iterable[Emission]:
        self.got.append(f"tick {now}")
        return ()

    def reset(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.got.append("reset")


def started() -> tuple[Keeper, LiveRun]:
    keeper = Keeper()
    run = LiveRun(LocalHost({"keeper": keeper}, outside=["emg/raw"]))
    run.start()
    return keeper, run


def test_items_from_outside_reach_who_listens_all_of_them_in_order_and_in_one_thread() -> None:
    keeper, run = started()
    for index in range(50):
        run.put("emg/raw", chunk(index))
    keeper.go.set()
    run.finish()
    assert keeper.got == [str(index) for index in range(50)]
    assert keeper.threads == {"keeper"}


def test_a_reset_empties_the_inbox_and_is_made_in_the_thread_of_the_component() -> None:
    keeper, run = started()
    run.put("emg/raw", chunk(0))
    assert keeper.held.wait(120.0)
    run.put("emg/raw", chunk(1))
    run.reset()
    run.put("emg/raw", chunk(2))
    keeper.go.set()
    run.finish()
    assert keeper.got == ["0", "reset", "2"]
    assert keeper.threads == {"keeper"}


def test_time_from_outside_and_calls_asked_for_come_in_the_thread_of_the_component() -> None:
    keeper, run = started()
    keeper.go.set()
    called: list[str] = []
    run.call_soon("keeper", lambda: called.append(threading.current_thread().name))
    run.wake("keeper", 7)
    run.finish()
    assert keeper.got == ["tick 7"] and called == ["keeper"]
