"""Vectors and colours of three numbers inside compiled kernels: tuples in, tuples out, nothing allocated.

Whatever can be indexed does as input, a row of an array included.
"""

from __future__ import annotations

from typing import Any

from .rasteriser import compiled


@compiled
def three(values: Any, at: int) -> Any:
    """Three values that follow each other, from `at` on."""
    return values[at], values[at + 1], values[at + 2]


@compiled
def scaled(triple: Any, by: Any) -> Any:
    """A triple times a number."""
    return triple[0] * by, triple[1] * by, triple[2] * by


@compiled
def weighted(triple: Any, x: Any, y: Any, z: Any) -> Any:
    """A triple times a number for each of the three."""
    return triple[0] * x, triple[1] * y, triple[2] * z


@compiled
def mixed(a: Any, b: Any, share: Any) -> Any:
    """`a` where share is 0, `b` where it is 1."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


@compiled
def dot(a: Any, b: Any) -> Any:
    """Scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@compiled
def cross(a: Any, b: Any) -> Any:
    """Vector product."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@compiled
def minus(a: Any, b: Any) -> Any:
    """From b to a."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]
