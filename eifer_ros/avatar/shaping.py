"""Per-channel gain, dead zone, symmetry and limits of the 52 weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError, did_you_mean
from ..types import ARKIT_52, F32, F64

_SIDEWAYS = ("jawLeft", "mouthLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeLookDownLeft")
_TWO_SIDED = np.array(
    [
        (i, ARKIT_52.index(name.removesuffix("Left") + "Right"))
        for i, name in enumerate(ARKIT_52)
        if name.endswith("Left") and name not in _SIDEWAYS
    ]
)
"""Pairs that a symmetric face moves alike; sideways motion of jaw, mouth and gaze is no pair in that sense.
"""


def channel_values(entries: Mapping[str, float], default: float, what: str) -> F64:
    """(52,) values from a mapping of names to numbers. Raises ConfigError that names an unknown channel."""
    values = np.full(len(ARKIT_52), default)
    for name, value in entries.items():
        if name not in ARKIT_52:
            raise ConfigError(f"{what}: there is no blendshape '{name}'{did_you_mean(name, ARKIT_52)}")
        values[ARKIT_52.index(name)] = value
    return values


class Shaping:
    """weights -> dead zone -> gain -> symmetry -> limits, all per channel.

    Below the dead zone a channel is 0; above it the rest of the range is stretched, so that 1 stays 1 and
    nothing jumps. symmetry: 0 leaves left and right as they are, 1 makes both their mean.
    """

    def __init__(
        self,
        gain: Mapping[str, float] | None = None,
        dead_zone: Mapping[str, float] | None = None,
        upper: Mapping[str, float] | None = None,
        lower: Mapping[str, float] | None = None,
        symmetry: float = 0.0,
        default_dead_zone: float = 0.0,
    ) -> None:
        self.gain = channel_values(gain or {}, 1.0, "gain")
        self.dead_zone = channel_values(dead_zone or {}, default_dead_zone, "dead_zone")
        self.lower = channel_values(lower or {}, 0.0, "lower")
        self.upper = channel_values(upper or {}, 1.0, "upper")
        self.symmetry = symmetry
        for name, values, low, high in (
            ("gain", self.gain, 0.0, 10.0),
            ("dead_zone", self.dead_zone, 0.0, 0.9),
        ):
            bad = np.flatnonzero(~((values >= low) & (values <= high)))
            if len(bad):
                raise ConfigError(
                    f"{name}: {ARKIT_52[bad[0]]} = {values[bad[0]]:g}; it must lie in {low:g}..{high:g}"
                )
        bad = np.flatnonzero(~((self.lower >= 0) & (self.lower <= self.upper) & (self.upper <= 1)))
        if len(bad):
            i = bad[0]
            raise ConfigError(
                f"limits: {ARKIT_52[i]} has lower {self.lower[i]:g} and upper {self.upper[i]:g}; 0 <= lower <= upper <= 1 must hold"
            )

    def __call__(self, weights: npt.ArrayLike) -> F32:
        """(52,) shaped weights. NaN stays NaN."""
        w = np.asarray(weights, np.float64)
        w = (
            np.where(w <= self.dead_zone, 0.0, (w - self.dead_zone) / (1.0 - self.dead_zone))
            if self.dead_zone.any()
            else w
        )
        w = w * self.gain
        if self.symmetry > 0.0:
            w = w.copy()
            left = w[_TWO_SIDED[:, 0]]
            right = w[_TWO_SIDED[:, 1]]
            mean = 0.5 * (left + right)
            w[_TWO_SIDED[:, 0]] = left + self.symmetry * (mean - left)
            w[_TWO_SIDED[:, 1]] = right + self.symmetry * (mean - right)
        return np.clip(w, self.lower, self.upper).astype(np.float32)
