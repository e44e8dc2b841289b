"""Randomness as a function of names and numbers: the same keys always give the same generator, in any process
and any order.
"""

from __future__ import annotations

import zlib

import numpy as np

from ..errors import InputError

HELD_OUT_FROM = 900_000
"""First seed of the simulated people that are kept for evaluation: nothing may be trained or tuned on them."""
_OFFSET = 1 << 40
"""Added to every integer key, because block numbers before the start of a performance are negative and seeds
must not be.
"""


def generator(*keys: int | str) -> np.random.Generator:
    """A generator seeded by `keys`: integers (a seed, a session, a block number, possibly negative) and words
    (what it is for).

    Philox is counter-based and costs microseconds to set up, so that thousands of blocks can each have their
    own.
    """
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else key + _OFFSET for key in keys]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def check_held_out(seed: int) -> None:
    """Raise InputError for a simulated person that a network may have been trained on."""
    if seed < HELD_OUT_FROM:
        raise InputError(
            f"participant {seed} may have been seen in training; evaluation takes seeds from {HELD_OUT_FROM} on"
        )
