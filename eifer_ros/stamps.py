"""Streams whose stamps stand still, as of a driver that never sets them: items arrive, time does not pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from .types import NS, Stamp

TOLERATED = 3
"""So many repeats in a row are a hiccup; more are a stream that stands still."""


class StampWatch:
    """Counts items that repeat the stamp before, and says since when a stream stands still.

    Parameters
    ----------
    topic : str
        Name of the stream, as messages write it.
    clock : Callable[[], float], optional
        Steady time in s.
    """

    def __init__(self, topic: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.topic = topic
        self.repeated = 0
        """Items so far that repeated the stamp before."""
        self._clock = clock
        self._stamp: Stamp | None = None
        self._run = 0
        self._since = 0.0

    def take(self, stamp: Stamp) -> None:
        """Note the stamp of an item that arrived.

        Parameters
        ----------
        stamp : int (ns)
            The item's.
        """
        if stamp == self._stamp:
            self.repeated += 1
            self._run += 1
            return
        self._stamp = stamp
        self._run = 0
        self._since = self._clock()

    @property
    def problem(self) -> str:
        """One sentence while the stream stands still, else empty."""
        if self._run <= TOLERATED or self._stamp is None:
            return ""
        instant = (
            f"{datetime.fromtimestamp(self._stamp / NS, UTC):%Y-%m-%d %H:%M:%S} UTC" if self._stamp else "0"
        )
        return (
            f"stamps of {self.topic} have stood still at {instant} for {self._clock() - self._since:.1f} s "
            f"({self._run} items repeat it): its source must stamp each item with the time it was taken"
        )
