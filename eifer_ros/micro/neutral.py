"""What the face looks like when it does nothing, as far as the last seconds tell."""

from __future__ import annotations

from collections import deque

import numpy as np

from ..types import F64


class RunningNeutral:
    """The median of the last seconds, taken over means of short blocks.

    A movement shorter than half the span hardly moves a median; the means keep the noise of single pictures
    out of it. Until the first block is over, the mean of what was seen so far. block_s: length of a block.
    span_s: how far back it looks.
    """

    def __init__(self, block_s: float = 0.05, span_s: float = 2.0) -> None:
        self._block_s = block_s
        self._blocks: deque[F64] = deque(maxlen=max(round(span_s / block_s), 3))
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._blocks.clear()
        self._sum: F64 | None = None
        self._count = 0
        self._since_s = 0.0
        self._median: F64 | None = None

    @property
    def ready(self) -> bool:
        """Whether enough was seen for the median to be more than a guess: a fifth of the span."""
        return len(self._blocks) * 5 >= (self._blocks.maxlen or 0)

    def add(self, values: F64, time_s: float) -> None:
        """Values (N,) at a time that does not decrease."""
        if self._sum is not None and self._count and time_s - self._since_s >= self._block_s:
            self._blocks.append(self._sum / self._count)
            self._median = np.median(np.array(self._blocks), axis=0)
            self._sum = None
            self._count = 0
        if self._sum is None:
            self._sum = np.zeros_like(values)
            self._since_s = time_s
        self._sum = self._sum + values
        self._count += 1

    def value(self) -> F64 | None:
        """(N,) the neutral, None before the first values."""
        if self._median is not None:
            return self._median
        return None if self._sum is None else self._sum / self._count

    def shift(self, by: F64) -> None:
        """All that was seen was counted from another zero: add `by` (N,) to it."""
        for block in self._blocks:
            block += by
        if self._sum is not None:
            self._sum = self._sum + self._count * by
        if self._median is not None:
            self._median = self._median + by
