"""The mappings that are compared: what stands in the papers, and ours, on the same rows.

rest: the mean face, or the mean envelope. ridge, rff: eifer's, lags to 150 ms. mlp_frame: one frame in, two
hidden layers of 256 (EIFER's MLPs; their sizes are not published). mlp: the same with lags. tcn: causal, 0.64
s. tcn_centred: emg2face's kind, which sees as much after the instant as before it and so is late by half its
context.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError, did_you_mean
from ..mapping.features import FeatureSpec, lag_steps, lagged
from ..mapping.fit import FitSettings, fit_linear
from ..training.trainers import network_trainer
from ..types import F32, Bools, Indices
from .problems import Problem

MODELS = ("rest", "ridge", "rff", "mlp_frame", "mlp", "tcn", "tcn_centred")
SEEDED = ("rff", "mlp_frame", "mlp", "tcn", "tcn_centred")
LONGEST_S = 0.15
LAGS = 8
CONTEXT = 64


@dataclass(frozen=True)
class Prediction:
    """rows: (N,) judged rows of the problem. truth, estimate: (N, K).

    late_s: how long after the instant an output is known.
    """

    rows: Indices
    truth: F32
    estimate: F32
    late_s: float


def predict(
    model: str,
    direction: str,
    problem: Problem,
    train_rows: Bools,
    test_rows: Bools,
    seed: int = 0,
) -> Prediction:
    """Learn from `train_rows`, predict `test_rows`.

    Raises InputError for a model that is not known, MissingExtra without torch.
    """
    if model not in MODELS:
        raise InputError(
            f"model '{model}' is not known{did_you_mean(model, MODELS)}; known are {', '.join(MODELS)}"
        )
    forward = direction == "emg2exp"
    inputs, targets = (problem.muscles, problem.face) if forward else (problem.face, problem.muscles)
    period = problem.period_s
    if model == "rest":
        mean = targets[train_rows].mean(axis=0)
        rows = np.flatnonzero(test_rows)
        return Prediction(rows, targets[rows], np.tile(mean, (len(rows), 1)), 0.0)
    ahead = 0
    if model == "mlp_frame":
        steps: tuple[int, ...] = (0,)
    elif model in ("tcn", "tcn_centred"):
        context = CONTEXT if period <= 0.02 else 16  # a power of two: 0.64 s at 100 Hz, 0.53 s at 30 Hz
        steps = tuple(range(context))
        ahead = context // 2 if model == "tcn_centred" else 0
    else:
        steps = lag_steps(LONGEST_S, LAGS, period)
    if not forward and model != "mlp_frame":
        # the muscle moves first: the face is looked at around its own lag after the muscle
        lag = problem.lag_s if np.isfinite(problem.lag_s) else 0.07
        ahead = max(ahead, round((lag + 0.03) / period))
    features = _ahead(lagged(inputs, steps, problem.segment), ahead, problem.segment)
    whole = ~np.isnan(features).any(axis=1)
    train = np.flatnonzero(whole & train_rows)
    rows = np.flatnonzero(whole & test_rows)
    if len(train) * period < 5 or not len(rows):
        raise InputError(
            f"{problem.name}: {len(train) * period:.1f} s to learn from and {len(rows)} rows to judge; change the split"
        )
    spec = FeatureSpec(steps, period)
    kind = {"mlp_frame": "mlp", "tcn_centred": "tcn"}.get(model, model)
    settings = FitSettings(kind=kind, seed=seed)
    gap = max(steps) + ahead
    train_network = network_trainer(kind, f"evaluating '{model}'")
    if train_network is None:
        regressor, _, _ = fit_linear(
            features[train], targets[train], gap, settings, max(1, round(0.03 / period))
        )
    else:
        regressor, _, _ = train_network(
            features[train], targets[train], gap, settings, spec, lambda share: None
        )
    estimate = regressor.predict(features[rows])
    return Prediction(rows, targets[rows], np.asarray(estimate, np.float32), ahead * period)


def _ahead(features: F32, steps: int, segment: Indices) -> F32:
    """Each row's features as they are `steps` rows later; NaN across gaps."""
    if steps == 0:
        return features
    out = np.full(features.shape, np.nan, np.float32)
    out[:-steps] = np.where((segment[steps:] == segment[:-steps])[:, None], features[steps:], np.nan)
    return out
