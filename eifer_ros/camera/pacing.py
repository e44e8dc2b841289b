"""Plays stamped items back in time, or as fast as they are taken."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..component import Source
from ..types import NS, Stamp


class Pacer:
    """Holds each item back until it is due.

    speed: 1 real time, 2 twice as fast, 0 as fast as items are taken. `stop` ends any wait at once.
    """

    def __init__(self, speed: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.speed = speed
        self._monotonic = monotonic
        self._stopped = threading.Event()
        self._start: tuple[Stamp, float] | None = None

    def wait(self, stamp: Stamp) -> bool:
        """Return when `stamp` is due; False where `stop` was called.

        The first item, and one that goes back in time, is due.
        """
        if self.speed > 0:
            now = self._monotonic()
            if self._start is None or stamp < self._start[0]:
                self._start = (stamp, now)
            due = self._start[1] + (stamp - self._start[0]) / NS / self.speed
            if due > now:
                self._stopped.wait(due - now)
        return not self._stopped.is_set()

    def follow_clock(self) -> None:
        """In real time, unless another pace was asked for."""
        self.speed = self.speed or 1.0

    def restart(self) -> None:
        """Forget when the first item was; take up again after a stop."""
        self._start = None
        self._stopped.clear()

    def stop(self) -> None:
        """End any wait, now and later."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()


class PacedSource(Source):
    """What was recorded, played by its stamps or as fast as items are taken."""

    live = False
    _pacer: Pacer

    def pace(self) -> None:
        """Play in real time, unless another pace was asked for."""
        super().pace()
        self._pacer.follow_clock()

    def stop(self) -> None:
        """End `produce` after the item in hand."""
        self._pacer.stop()
