"""Lost samples from a packet counter that wraps.

Boards number their packets in ways of their own: 0..255 (Cyton), only even numbers (Cyton with Daisy), 0..200
or doubled numbers (Ganglion, by firmware and mode), a counter that never wraps (ANT). The ways are tried side
by side; the one that explains the stream with the fewest losses is believed, and once it has explained a
whole cycle the others are dropped.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ...types import I64

_ENDLESS = "a counter that never wraps"


def _doubled(first: int, last: int) -> list[int]:
    return [0, *(k for k in range(first, last + 1) for _ in range(2))]


CYCLES: dict[str, list[int]] = {
    "0..255": list(range(256)),
    "even 0..254": list(range(0, 256, 2)),
    "0..200": list(range(201)),
    "0..100": list(range(101)),
    "0, 1, 1 .. 100, 100": _doubled(1, 100),
    "0, 101, 101 .. 200, 200": _doubled(101, 200),
    "0..65535": list(range(65536)),
}
"""Known numberings, each one full cycle."""


@cache
def _places(name: str) -> dict[int, list[int]]:
    """Where in its cycle each number stands."""
    places: dict[int, list[int]] = {}
    for place, value in enumerate(CYCLES[name]):
        places.setdefault(value, []).append(place)
    return places


class _PacketCounter:
    """One numbering and where in it the stream is."""

    def __init__(self, name: str, cycle: list[int], block: I64) -> None:
        self.name = name
        self.length = len(cycle)
        self._cycle = np.asarray(cycle, np.int64)
        self._places = _places(name) if name in CYCLES else {cycle[0]: [0]}
        self.lost = 0
        self.count = 0
        starts = self._places.get(int(block[0]), [])
        self._at = -1
        self.alive = bool(starts)
        if (
            starts
        ):  # a doubled number may be its first or second appearance: take the one that loses least at once
            self._at = min(starts, key=lambda place: sum(self._walk(place, block[1:8])))

    def _distance(self, at: int, value: int) -> int:
        return min(((place - at - 1) % self.length for place in self._places.get(value, [])), default=-1)

    def _walk(self, at: int, values: I64) -> list[int]:
        out = []
        for value in values.tolist():
            lost = self._distance(at, value)
            out.append(self.length if lost < 0 else lost)
            at = (at + 1 + max(lost, 0)) % self.length
        return out

    def step(self, value: int) -> int:
        """Packets missing before `value`; the way dies where it has no such number."""
        lost = self._distance(self._at, value)
        if lost < 0:
            self.alive = False
            return 0
        self._at = (self._at + 1 + lost) % self.length
        self.lost += lost
        self.count += 1
        return lost

    def run(self, values: I64) -> bool:
        """Take a whole block at once where nothing is missing in it; else leave everything as it was."""
        places = (self._at + 1 + np.arange(len(values))) % self.length
        if not np.array_equal(self._cycle[places], values):
            return False
        self._at = int(places[-1])
        self.count += len(values)
        return True


class _Endless(_PacketCounter):
    """A counter that only grows."""

    def __init__(self, block: I64) -> None:
        super().__init__(_ENDLESS, [int(block[0])], block)
        self.length = 0

    def step(self, value: int) -> int:
        lost = value - self._at - 1
        if lost < 0:
            self.alive = False
            return 0
        self._at = value
        self.lost += lost
        self.count += 1
        return lost

    def run(self, values: I64) -> bool:
        if not np.array_equal(values, self._at + 1 + np.arange(len(values))):
            return False
        self._at = int(values[-1])
        self.count += len(values)
        return True


class PacketCounter:
    """Finds losses in a stream of packet numbers.

    rate_hz: packets per second, to notice that a whole cycle went missing.
    """

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._counters: list[_PacketCounter] | None = None

    @property
    def numbering(self) -> str:
        """The numbering believed at present, or an empty string where none fits."""
        return self._counters[0].name if self._counters else ""

    def add(self, numbers: I64, elapsed_s: float) -> list[tuple[int, int]]:
        """Losses in one block as (place in the block, packets missing before it).

        elapsed_s: time from the last packet of the previous block to the first of this one, by the host's
        clock.
        """
        numbers = np.asarray(numbers, np.int64)
        if not len(numbers):
            return []
        first = 0
        if self._counters is None:
            counters: list[_PacketCounter] = [
                _PacketCounter(name, cycle, numbers) for name, cycle in CYCLES.items()
            ]
            endless = _Endless(numbers)
            endless._at = int(numbers[0])
            self._counters = [counter for counter in [*counters, endless] if counter.alive]
            first = 1
        if not self._counters:
            return []
        if len(self._counters) == 1 and self._counters[0].run(numbers[first:]):
            extra = self._cycles(0, elapsed_s) if first == 0 else 0
            return [(0, extra)] if extra else []
        losses: list[tuple[int, int]] = []
        for place in range(first, len(numbers)):
            believed = self._counters[0].count >= (self._counters[0].length or 70000)
            steps = {id(counter): counter.step(int(numbers[place])) for counter in self._counters}
            self._counters = sorted(
                (counter for counter in self._counters if counter.alive), key=lambda counter: counter.lost
            )
            if not self._counters:
                # what a numbering found missing before it proved to be none is no loss
                return losses if believed else []
            best = self._counters[0]
            if best.count >= (best.length or 70000):
                self._counters = [best]
            lost = steps[id(best)]
            if place == 0:
                lost += self._cycles(lost, elapsed_s)
            if lost:
                losses.append((place, lost))
        return losses

    def _cycles(self, lost: int, elapsed_s: float) -> int:
        """Packets of whole cycles that went missing without a trace in the numbers."""
        assert self._counters
        length = self._counters[0].length
        if (
            not length or length / self._rate_hz < 0.2
        ):  # a cycle shorter than a hiccup of the host cannot be told
            return 0
        return max(0, int((elapsed_s * self._rate_hz - lost - 1) / length + 0.3)) * length
