"""From dense flow to motion of the head, its expression and its skin: linear, regularised, robust.

The flow at every observed point is what a rigid motion of the head (6 unknowns), a change of expression (E)
and a soft field of skin motion beside it (3 per local mode) would give, plus noise:

    flow = J_rigid r + J_expression e + J_sideways field(l) + noise

e and l are expected to be as they are in small movements of simulated people (a covariance, measured without
pictures); the noise is alike at neighbouring points and larger where the skin has no texture. The most likely
unknowns are then a matrix times the flow (Wiener filter), made once per key picture. Points that no such
motion explains (a cable that slides, a hand) are pulled towards what the others say (Huber's estimator by
modified residuals; Huber 1981, ch. 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .. import resources
from ..errors import InputError, ModelError
from ..head.fingerprint import fingerprint
from ..head.model import HeadModel
from ..types import F32, F64
from .flow import SIZE
from .geometry import FaceSkin, KeyView

PRIOR = "micro_motion.npz"
_RIGID = np.array([0.05, 0.05, 0.05, 0.01, 0.01, 0.02])
"""Expected size of a rigid motion beyond what is known, rad and m: wide."""
RIGID = 6
_ROUNDS = 2


@dataclass(frozen=True)
class MotionPrior:
    """What small movements and flow errors are like (models/micro_motion.npz).

    covariance: (E + 3 L, E + 3 L) second moments of expression coefficients, then of local modes along x, y
    and z (m), in small movements. noise_px: standard deviation of the flow in textured skin. bare: factor on
    it where there is no texture. reach_px: how far errors of the flow are alike. outlier_px: error beyond
    which a point loses its say. factor (.., K) and own (..,): the same covariance as factor factor' +
    diag(own), None where nothing was measured.
    """

    covariance: F64
    noise_px: float = 0.03
    bare: float = 3.0
    reach_px: float = 6.0
    white: float = 0.6
    outlier_px: float = 0.20
    factor: F64 | None = None
    own: F64 | None = None

    @staticmethod
    def plain(head: HeadModel, skin: FaceSkin) -> MotionPrior:
        """For a head model nothing was measured for: coefficients of equal size, skin that moves by 0.1 mm."""
        local = 3 * skin.modes.shape[1]
        return MotionPrior(
            np.diag(np.concatenate([np.full(head.expression_size, 0.04**2), np.full(local, 1e-4**2)]))
        )


def load_prior(head: HeadModel, skin: FaceSkin) -> MotionPrior:
    """The prior measured for `head`, a plain one where models/ holds none for it.

    Raises ModelError for a damaged file.
    """
    try:
        path = resources.find("models", PRIOR)
    except InputError:
        return MotionPrior.plain(head, skin)
    try:
        with np.load(path, allow_pickle=False) as archive:
            data = {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile's and numpy's errors share no base class
        raise ModelError(f"{path}: damaged prior of small movements ({error})") from None
    if str(data.get("fingerprint", "")) != fingerprint(head):
        return MotionPrior.plain(head, skin)
    factor = data["factor"].astype(np.float64)
    size = head.expression_size + 3 * skin.modes.shape[1]
    if factor.shape[0] != size:
        raise ModelError(
            f"{path} is for {factor.shape[0]} unknowns, this version has {size}: python -m research.micro.micro_motion"
        )
    own = data["own"].astype(np.float64)
    noise = {name: float(data[name]) for name in ("noise_px", "bare", "reach_px", "white", "outlier_px")}
    return MotionPrior(factor @ factor.T + np.diag(own), factor=factor, own=own, **noise)


def texture(key: F32) -> F64:
    """(SIZE, SIZE, 2) how much there is to hold on to along x and y: 0 nothing, 1 a lip or a brow."""
    gx = cv2.Sobel(key, cv2.CV_32F, 1, 0, scale=1 / 8)
    gy = cv2.Sobel(key, cv2.CV_32F, 0, 1, scale=1 / 8)
    energy = np.stack([cv2.GaussianBlur(g * g, (0, 0), 4.0) for g in (gx, gy)], axis=-1)
    return np.asarray(energy / (energy + 12.0), np.float64)


@dataclass(frozen=True)
class Motion:
    """One solution.

    turn: (3,) rad about the view's centre and shift (3,) m, camera axes, on top of the rigid motion known
    before. expression: (E,) change of the coefficients. local: (3, L) m of the local modes along x, y, z.
    misfit_px: root mean square of the flow that is left; left: (2, N) px, that flow point by point.
    """

    turn: F64
    shift: F64
    expression: F64
    local: F64
    misfit_px: float
    left: F64

    @property
    def unknowns(self) -> F64:
        """(E + 3 L,) change of the coefficients, then the local modes along x, y and z."""
        return np.concatenate([self.expression, self.local.reshape(-1)])


class MotionSolver:
    """The solver of one key view."""

    def __init__(self, skin: FaceSkin, view: KeyView, key: F32, prior: MotionPrior) -> None:
        self.view = view
        self.prior = prior
        self._expression = view.expression.shape[1]
        modes = np.zeros((len(skin.head.template), skin.modes.shape[1]), np.float32)
        modes[skin.vertices] = skin.modes
        carried = np.einsum("nc,ncl->nl", view.weights, modes[view.corners]).astype(np.float64)
        stacked = np.concatenate([carried, carried])
        sideways = np.concatenate([view.sideways[:, axis : axis + 1] * stacked for axis in range(3)], axis=1)
        self._jacobian = np.concatenate([view.rigid, view.expression, sideways], axis=1)
        self._gain = self._make(key).astype(np.float32)
        self._jacobian = self._jacobian.astype(np.float32)

    def _make(self, key: F32) -> F64:
        view = self.view
        prior = self.prior
        count = len(view.points)
        whole = np.zeros((RIGID + len(prior.covariance),) * 2)
        whole[np.diag_indices(RIGID)] = _RIGID**2
        whole[RIGID:, RIGID:] = prior.covariance
        projected = self._jacobian @ whole  # (2 N, unknowns)
        signal = projected @ self._jacobian.T
        column, row = np.rint(view.pixels).astype(int).T
        held = texture(key)[np.clip(row, 0, SIZE - 1), np.clip(column, 0, SIZE - 1)]
        apart = ((view.pixels[:, None].astype(np.float64) - view.pixels[None]) ** 2).sum(axis=2)
        alike = np.exp(-0.5 * apart / prior.reach_px**2)
        for axis in range(2):
            spread = prior.noise_px * (1.0 + (prior.bare - 1.0) * (1.0 - held[:, axis]))
            part = slice(axis * count, (axis + 1) * count)
            signal[part, part] += spread[:, None] * alike * spread + np.diag((prior.white * spread) ** 2)
        return np.ascontiguousarray(np.linalg.solve(signal, projected).T)

    def solve(self, flow: F64, robust: bool = True) -> Motion:
        """The most likely motion.

        flow: (2, N) px from where the rigid motion known so far would bring the points to where they are.
        """
        count = len(self.view.points)
        measured = flow.reshape(-1).astype(np.float32)
        unknowns = self._gain @ measured
        for _ in range(_ROUNDS if robust else 0):
            expected = self._jacobian @ unknowns
            left = measured - expected
            size = np.hypot(left[:count], left[count:])
            share = np.minimum(
                np.float32(1), np.float32(self.prior.outlier_px) / np.maximum(size, np.float32(1e-9))
            )
            unknowns = self._gain @ (expected + left * np.concatenate([share, share]))
        left = (measured - self._jacobian @ unknowns).reshape(2, count).astype(np.float64)
        solution: F64 = unknowns.astype(np.float64)
        first = RIGID + self._expression
        return Motion(
            solution[:3],
            solution[3:RIGID],
            solution[RIGID:first],
            solution[first:].reshape(3, -1),
            float(np.sqrt((left**2).mean())),
            left,
        )
