"""Where a head touches itself: lips that close and lids that glide over the eyeball.

The source's lips stand a little apart at rest, more so for some people, and its eyeballs show through
half-closed lids of others. Both are put right on every sampled person and on the actions that should keep the
mouth shut, before anything is fitted to them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from eifer_ros.types import F64

I64 = npt.NDArray[np.int64]

OVERLAP_M = 0.0002
WIDEST_M = 0.0015  # what stands further apart than this is not a seam
CLEARANCE_M = 0.0003
_REACH_M = 0.006


@dataclass(frozen=True)
class Seam:
    """The line where the lips meet: vertices of each lip, and the chain of each that comes nearest to the
    other one.
    """

    upper: I64
    lower: I64
    corners: I64
    upper_edge: I64
    lower_edge: I64

    @staticmethod
    def find(rest: F64, jaw_open: F64, lips: I64, corners: I64) -> Seam:
        """The seam of `rest` (V, 3) among the vertices `lips`, between the vertices `corners` of the mouth.

        jaw_open (V, 3): a displacement; what it takes along is the lower lip.
        """
        drop = -jaw_open[lips, 1]
        below = drop > 0.35 * drop.max()
        upper = lips[~below]
        lower = lips[below]
        edges = []
        corner = np.abs(rest[corners, 0]).max()
        bins = np.linspace(-corner, corner, 41)
        for group, pick in ((upper, np.argmin), (lower, np.argmax)):
            chain = []
            for low, high in itertools.pairwise(bins):
                inside = group[(rest[group, 0] >= low) & (rest[group, 0] <= high)]
                if len(inside):
                    chain.append(int(inside[pick(rest[inside, 1])]))
            unique = np.unique(chain)
            edges.append(unique[np.argsort(rest[unique, 0])])
        return Seam(upper, lower, corners, edges[0], edges[1])

    def _profile(self, vertices: F64) -> tuple[F64, F64, F64, F64]:
        """Grid x from corner to corner; smooth heights of the upper and the lower edge; the opening,
        smoothed.
        """
        corner = np.abs(vertices[self.corners, 0]).mean()
        x = np.linspace(-corner, corner, 41)
        edges = []
        for chain in (self.upper_edge, self.lower_edge):
            points = vertices[chain]
            order = np.argsort(points[:, 0])
            edges.append(np.interp(x, points[order, 0], points[order, 1]))
        opening = gaussian_filter1d(np.minimum(edges[0] - edges[1], WIDEST_M), 2.0)
        return x, gaussian_filter1d(edges[0], 2.0), gaussian_filter1d(edges[1], 2.0), opening

    def close(self, vertices: F64, overlap: float = OVERLAP_M) -> F64:
        """(V, 3) displacement that makes the lips of `vertices` meet and overlap by `overlap`, half from each
        lip.
        """
        move = np.zeros_like(vertices)
        x, upper, lower, opening = self._profile(vertices)
        amount = 0.5 * np.maximum(opening + overlap, 0.0) * np.clip((x[-1] - np.abs(x)) / 0.003, 0.0, 1.0)
        for group, edge, sign in ((self.upper, upper, -1.0), (self.lower, lower, 1.0)):
            at = vertices[group, 0]
            near = np.exp(-(((vertices[group, 1] - np.interp(at, x, edge)) / _REACH_M) ** 2))
            move[group, 1] = sign * np.interp(at, x, amount, left=0.0, right=0.0) * near
        return move


def lid_vertices(rest: F64, centre: F64, radius: float, skin: I64) -> I64:
    """Skin in front of the eyeball that rests outside it: the outer side of the lids."""
    arm = rest[skin] - centre
    length = np.linalg.norm(arm, axis=1)
    return np.asarray(skin[(arm[:, 2] > 0.3 * length) & (length > radius) & (length < radius + 0.007)])


def intrusion(vertices: F64, lids: I64, centre: F64, radius: float) -> float:
    """How far the eyeball stands out through the lids, m; 0 where it keeps `CLEARANCE_M`."""
    return max(0.0, CLEARANCE_M + radius - float(np.linalg.norm(vertices[lids] - centre, axis=1).min()))
