"""Ridge regression, on the features themselves or on random Fourier features of them, with predictive
uncertainty.

Bayesian linear regression in its plainest form: prior N(0, 1/strength) on standardised weights, noise
variance per target from the residuals; the predictive variance is noise (1 + z' A^-1 z). Random Fourier
features (Rahimi and Recht 2007) stand beside the linear ones, so that the model is never worse than linear
where the data are scarce.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg
from scipy.optimize import isotonic_regression

from ..types import F32, F64, Array, Floats


@dataclass(frozen=True)
class Basis:
    """Standardised features, F of them, and optionally D random Fourier features: z = [x, 1, sqrt(2/D) scale
    cos(W x + b)].
    """

    mean: F32
    deviation: F32
    frequencies: F32
    phases: F32
    weight: float

    @staticmethod
    def of(features: F32, count: int, width: float, seed: int, weight: float = 1.0) -> Basis:
        """count: D, 0 for plain ridge.

        width: kernel width in units of the median distance between two training rows.
        """
        rng = np.random.default_rng(seed)
        mean = features.mean(axis=0)
        deviation = np.maximum(features.std(axis=0), 1e-6).astype(np.float32)
        size = features.shape[1]
        if count == 0:
            return Basis(mean, deviation, np.zeros((0, size), np.float32), np.zeros(0, np.float32), weight)
        standard = (features - mean) / deviation
        pairs = rng.integers(0, len(features), (2, 2000))
        distance = float(np.median(np.linalg.norm(standard[pairs[0]] - standard[pairs[1]], axis=1))) or 1.0
        frequencies = rng.standard_normal((count, size)) / (width * distance)
        phases = rng.uniform(0.0, 2 * np.pi, count)
        return Basis(mean, deviation, frequencies.astype(np.float32), phases.astype(np.float32), weight)

    @property
    def size(self) -> int:
        """Number of columns of `expand`."""
        return len(self.mean) + 1 + len(self.phases)

    def expand(self, features: Floats) -> F32:
        """(N, size) of (N, F)."""
        standard = ((features - self.mean) / self.deviation).astype(np.float32)
        parts = [standard, np.ones((len(standard), 1), np.float32)]
        if len(self.phases):
            waves = np.cos(standard @ self.frequencies.T + self.phases)
            parts.append(
                np.float32(self.weight * np.sqrt(2.0 / len(self.phases)) * np.sqrt(len(self.mean))) * waves
            )
        return np.hstack(parts)


@dataclass(frozen=True)
class Curve:
    """A rising curve per target, from the conditional mean a regression gives to the conditional median.

    Least squares gives a lid that is open nine times in ten and closed once a tenth of closure all the time.
    The median, which is what a distance on the face asks for, is open until closed is the likelier. lower,
    upper: (K,) range of held-out predictions; values: (Q, K) at even steps between. Beyond the range it goes
    on with slope 1.
    """

    lower: F32
    upper: F32
    values: F32

    @staticmethod
    def of(predicted: F32, truth: F32, knots: int = 17) -> Curve:
        """From held-out predictions and truth (N, K): median of the truth around each knot, made to rise
        (isotonic regression).
        """
        lower, upper = np.percentile(predicted, [0.5, 99.5], axis=0).astype(np.float32)
        upper = np.maximum(upper, lower + 1e-6)
        values = np.empty((knots, predicted.shape[1]), np.float32)
        for k in range(predicted.shape[1]):
            order = np.argsort(predicted[:, k])
            p = predicted[order, k]
            t = truth[order, k]
            # around each knot the neighbours within one step, but never fewer than 1 % of all rows
            half = (upper[k] - lower[k]) / (knots - 1) / 2
            least = max(5, len(p) // 200)
            for q, knot in enumerate(np.linspace(lower[k], upper[k], knots)):
                middle = int(np.searchsorted(p, knot))
                start = min(int(np.searchsorted(p, knot - half)), middle - least)
                stop = max(int(np.searchsorted(p, knot + half)), middle + least)
                values[q, k] = np.median(t[max(start, 0) : stop])
            values[:, k] = isotonic_regression(values[:, k]).x
        return Curve(lower, upper, values)

    def apply(self, predicted: F32) -> F32:
        """(N, K) of (N, K)."""
        last = len(self.values) - 1
        inside = np.clip(predicted, self.lower, self.upper)
        place = (inside - self.lower) / (self.upper - self.lower) * last
        left = np.minimum(place.astype(np.intp), last - 1)
        columns = np.arange(self.values.shape[1])
        below = self.values[left, columns]
        above = self.values[left + 1, columns]
        return np.asarray(below + (place - left) * (above - below) + (predicted - inside), np.float32)


@dataclass(frozen=True)
class Linear:
    """A fitted regression of K targets: prediction curve(z @ weights), variance noise (1 + |factor^-1 z|^2)."""

    basis: Basis
    weights: F32
    noise: F32
    factor: F32
    """(size, size) lower triangle L with L L' = A."""
    curve: Curve | None = None

    def predict(self, features: Floats) -> F32:
        """(N, K)."""
        return self._bent(self.basis.expand(np.atleast_2d(features)) @ self.weights)

    def _bent(self, values: F32) -> F32:
        return values if self.curve is None else self.curve.apply(values)

    def predict_one(self, features: F32) -> tuple[F32, float]:
        """(K,) prediction for one row, and how far the row lies from what was learnt: multiply `noise` by it
        for the variance.
        """
        z = self.basis.expand(features[None])[0]
        # the transpose of a C-ordered lower triangle is the Fortran-ordered upper one BLAS wants: nothing is
        # copied
        spread = linalg.blas.strsv(self.factor.T, z, lower=0, trans=1)
        return self._bent((z @ self.weights)[None])[0], 1.0 + float(spread @ spread)

    def arrays(self) -> dict[str, Array]:
        """Everything that makes up this regression, for a file."""
        basis = self.basis
        bent = (
            {}
            if self.curve is None
            else {
                "curve_lower": self.curve.lower,
                "curve_upper": self.curve.upper,
                "curve_values": self.curve.values,
            }
        )
        return bent | {
            "mean": basis.mean,
            "basis_deviation": basis.deviation,
            "frequencies": basis.frequencies,
            "phases": basis.phases,
            "weight": np.array(basis.weight),
            "weights": self.weights,
            "noise": self.noise,
            "factor": self.factor,
        }


class Normal:
    """Accumulates z'z and z'y, so that folds and strengths cost no second pass over the data."""

    def __init__(self, basis: Basis, targets: int) -> None:
        self.basis = basis
        self.gram = np.zeros((basis.size, basis.size))
        self.cross = np.zeros((basis.size, targets))
        self.square = np.zeros(targets)
        self.count = 0

    def add(self, features: Floats, targets: Floats, chunk: int = 4096) -> Normal:
        """Take rows in."""
        for start in range(0, len(features), chunk):
            self.take(self.basis.expand(features[start : start + chunk]), targets[start : start + chunk])
        return self

    def take(self, expanded: F32, targets: Floats) -> Normal:
        """Take rows in that are expanded already."""
        y = targets.astype(np.float64)
        self.gram += (expanded.T @ expanded).astype(np.float64)
        self.cross += expanded.T.astype(np.float64) @ y
        self.square += (y**2).sum(axis=0)
        self.count += len(expanded)
        return self

    def without(self, other: Normal) -> Normal:
        """What is left when the rows of `other` are taken out."""
        left = Normal(self.basis, self.cross.shape[1])
        left.gram = self.gram - other.gram
        left.cross = self.cross - other.cross
        left.square = self.square - other.square
        left.count = self.count - other.count
        return left

    def solve(self, strength: float) -> Linear:
        """The regression with ridge `strength` per row (the penalty is strength x rows; the constant is not
        penalised).
        """
        factor = self._factor(strength)
        weights: F64 = linalg.cho_solve((factor, True), self.cross)
        # residual sum of squares from the accumulated moments: y'y - 2 w'z'y + w'z'z w
        residual = (
            self.square
            - 2 * (weights * self.cross).sum(axis=0)
            + (weights * (self.gram @ weights)).sum(axis=0)
        )
        noise = np.maximum(residual / max(self.count, 1), 1e-8)
        triangle = np.ascontiguousarray(factor, np.float32)
        return Linear(self.basis, weights.astype(np.float32), noise.astype(np.float32), triangle)

    def weights(self, strength: float) -> F64:
        """(size, K) weights alone."""
        weights: F64 = linalg.cho_solve((self._factor(strength), True), self.cross)
        return weights

    def _factor(self, strength: float) -> F64:
        penalty = np.full(self.basis.size, strength * max(self.count, 1))
        penalty[len(self.basis.mean)] = 1e-6 * max(self.count, 1)
        factor: F64 = linalg.cholesky(self.gram + np.diag(penalty), lower=True, check_finite=False)
        return factor


def with_noise(model: Linear, noise: F64) -> Linear:
    """The same regression with the noise variance (K,) measured on rows that were held out."""
    return replace(model, noise=np.maximum(noise, 1e-8).astype(np.float32))
