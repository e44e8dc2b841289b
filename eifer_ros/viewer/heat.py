"""Muscle activity as colour on the head: each electrode site warms the skin around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..emg.montage import FRIDLUND, KURAMOTO, Scheme
from ..head.model import HeadModel
from ..types import F32, F64, U8

REACH_M = 0.011
"""Standard deviation of the warmth around a site."""
_STOPS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_INKS = np.array(
    [[0.36, 0.40, 0.47], [0.45, 0.38, 0.62], [0.78, 0.34, 0.52], [0.96, 0.55, 0.30], [1.0, 0.89, 0.48]]
)
STONE = (0.36, 0.40, 0.47)
"""Colour of skin without activity."""


def scheme_on_head(name: str) -> Scheme | None:
    """The scheme of that name, None for one whose sites are not on the head model."""
    return {"fridlund": FRIDLUND, "kuramoto": KURAMOTO}.get(name)


def ink(level: npt.ArrayLike) -> F32:
    """(..., 3) RGB 0..1 of activity 0..1: stone, violet, rose, orange, yellow; brightness rises all the way."""
    values = np.clip(np.nan_to_num(np.asarray(level, np.float64)), 0.0, 1.0)
    return np.stack([np.interp(values, _STOPS, _INKS[:, k]) for k in range(3)], axis=-1).astype(np.float32)


_TABLE = ink(np.linspace(0.0, 1.0, 512))


def sites(head: HeadModel, scheme: str, muscles: Sequence[str]) -> F64:
    """(M, 3) points of the muscles' electrodes on the resting head, NaN where unknown."""
    out = np.full((len(muscles), 3), np.nan)
    montage = scheme_on_head(scheme)
    which = f"electrodes_{scheme}"
    if montage is None or which not in head.embeddings:
        return out
    embedding = head.embedding(which)
    points = embedding.points(head.template, head.faces)
    for row, muscle in enumerate(muscles):
        name = montage.resolve(muscle) or (
            montage.names[montage.muscles.index(muscle)] if muscle in montage.muscles else None
        )
        if name is not None and name in embedding.names:
            out[row] = points[embedding.names.index(name)]
    return out


def weights(head: HeadModel, scheme: str, muscles: Sequence[str], reach_m: float = REACH_M) -> F32:
    """(V, M) how much each muscle warms each vertex, 0..1; only skin is warmed."""
    places = sites(head, scheme, muscles)
    out = np.zeros((len(head.template), len(muscles)), np.float32)
    skin = np.flatnonzero(head.parts == 0)
    front = skin[head.template[skin, 2] > np.quantile(head.template[skin, 2], 0.3)]
    for row in np.flatnonzero(np.isfinite(places).all(axis=1)):
        square = np.sum((head.template[front] - places[row]) ** 2, axis=1)
        out[front, row] = np.exp(-square / (2 * reach_m**2))
    return out


class Warmth:
    """Colours of one head for one set of muscles; what does not change with activity is worked out once.

    of: (V, M) of `weights`. parts: (V,) part of each vertex, 0 is skin. skin: (V, 3) RGB 0..1 of the plain
    head.
    """

    def __init__(self, of: F32, parts: U8, skin: F32) -> None:
        self.of = of
        self._still = np.empty((len(of), 3), np.float32)
        self._still[:] = STONE
        other = parts != 0
        self._still[other] = 0.55 * skin[other] + 0.18
        self._warm = np.flatnonzero((of.max(axis=1) > 0.02) & ~other) if of.size else np.zeros(0, np.intp)
        self._square = np.ascontiguousarray(of[self._warm] ** 2)

    def colours(self, activity: npt.ArrayLike) -> F32:
        """(V, 3) colours: warmth times activity (M,) on the skin; eyes and teeth keep their own, toned down."""
        level = np.clip(np.nan_to_num(np.asarray(activity, np.float32)), 0.0, 1.2)
        out = self._still.copy()
        # a soft maximum: two neighbouring electrodes over one muscle are not twice as hot
        heat = np.minimum(np.sqrt(self._square @ level**2), 1.0)
        out[self._warm] = _TABLE[(heat * (len(_TABLE) - 1) + 0.5).astype(np.intp)]
        return out
