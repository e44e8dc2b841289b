"""What a corpus will cost before it is run: hours and memory from measured unit costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

STARTUP_S = 15.0
"""A worker needs about so long before its first recording: process, imports, compiled kernels."""
GROWTH_MB_PER_MIN = 45.0
"""Memory of a worker grows by so much per minute of recording (measured between 30 s and 150 s, 22 muscles at
100 Hz).
"""


@dataclass(frozen=True)
class Plan:
    """A run on `workers` processes of one core each: hours until the last is done, memory in GB at the peak,
    share of time worked.
    """

    workers: int
    hours: float
    memory_gb: float
    efficiency: float


def plan(
    cost_s_per_min: Mapping[str, float],
    recordings: int,
    minutes: float,
    peak_mb: float,
    workers: Sequence[int] = (1, 10, 100),
    *,
    measured_min: float = 0.0,
) -> list[Plan]:
    """cost_s_per_min: seconds of one core per minute of recording, by step. minutes: length of a recording.
    peak_mb: memory of a worker with a recording of `measured_min`; it grows with the length.

    A recording is not divided, so the run takes as many rounds as the busiest worker has recordings; with
    more workers than recordings the rest idle. Recordings of equal length are assumed.
    """
    unit_s = minutes * sum(cost_s_per_min.values())
    memory = peak_mb + GROWTH_MB_PER_MIN * max(minutes - measured_min, 0.0)
    plans = []
    for count in workers:
        busy = min(count, recordings)
        rounds = math.ceil(recordings / busy)
        wall = STARTUP_S + rounds * unit_s
        plans.append(Plan(count, wall / 3600, busy * memory / 1024, recordings * unit_s / (count * wall)))
    return plans
