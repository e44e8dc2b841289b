"""Fits both directions to one participant, choosing strengths by blocked cross-validation.

Frames of one recording are never shuffled: a held-out block is a stretch of time, and on both sides of it a
gap as long as the longest context plus the look-ahead is left out of training, so that no sample is on both
sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InputError, did_you_mean
from ..types import F32, F64, Bools, Indices
from .features import FeatureSpec, Trust, lag_steps, training_pairs
from .lag import estimate, without_drift
from .mapping import Direction, Mapping, bounds
from .regression import Basis, Curve, Linear, Normal, with_noise
from .scores import scores
from .series import Series

NETWORK_KINDS = ("mlp", "tcn")
KINDS = ("ridge", "rff", *NETWORK_KINDS)
FOLDS = 5
STRENGTHS = (1e-3, 1e-2, 1e-1, 3e-1)
WIDTHS = (0.5, 1.0, 2.0)
THIN_S = 0.03
"""Rows closer together than this are neighbours of one envelope and one picture: they make a fit slower and
no better.
"""
MIN_MOTION = 0.015
"""Standard deviation below which a value does not move enough to be learnt."""
GAZE = "eyeLook"
"""Coefficients that begin so belong to the gaze, which no electrode of the schemes sees; the camera is
trusted with it.
"""


@dataclass(frozen=True)
class FitSettings:
    """How to fit.

    Parameters
    ----------
    kind : str, optional
        `ridge`, `rff`, `mlp` or `tcn`.
    longest_s : float, optional
        How far back EMG2Exp looks.
    lags : int, optional
        At how many lags.
    ahead_s : float, optional
        Look-ahead.
    features : int, optional
        Number of random Fourier features of `rff`.
    seed : int, optional
        Of everything random.
    bend : bool, optional
        Regressions predict the conditional median, through a rising curve per output (17 numbers, from
        held-out rows), instead of the mean.
    """

    kind: str = "rff"
    longest_s: float = 0.15
    lags: int = 8
    ahead_s: float = 0.0
    features: int = 512
    seed: int = 0
    bend: bool = True


@dataclass(frozen=True)
class HeldOutPrediction:
    """Quality of one direction on held-out rows: every row in its turn for the regressions, some stretches for
    the networks.

    Parameters
    ----------
    rows : ndarray of intp, shape (R,)
        Which rows were held out.
    truth : ndarray of float32, shape (R, K)
        What was there.
    predicted : ndarray of float32, shape (R, K)
        What was predicted.
    """

    rows: Indices
    truth: F32
    predicted: F32

    @property
    def residual_variance(self) -> F64:
        """(K,) mean squared error."""
        return np.asarray(((self.predicted - self.truth).astype(np.float64) ** 2).mean(axis=0))


def blocks(count: int, folds: int, gap: int) -> Iterator[tuple[slice, slice]]:
    """Held-out blocks of time.

    Parameters
    ----------
    count : int
        Rows.
    folds : int
        Blocks.
    gap : int
        Rows left out on either side of a block.

    Yields
    ------
    tuple[slice, slice]
        Held-out rows, and the rows to leave out of training: the held-out ones and the gaps.
    """
    edges = np.linspace(0, count, folds + 1).astype(int)
    for start, stop in itertools.pairwise(edges):
        yield slice(start, stop), slice(max(0, start - gap), min(count, stop + gap))


def fit_linear(
    features: F32, targets: F32, gap: int, settings: FitSettings, stride: int = 1
) -> tuple[Linear, HeldOutPrediction, dict[str, Any]]:
    """Ridge or random-feature ridge with strength and kernel width chosen on held-out blocks.

    Parameters
    ----------
    features : ndarray of float32, shape (N, F)
        Inputs.
    targets : ndarray of float32, shape (N, K)
        Outputs.
    gap : int
        Rows left out around each block.
    settings : FitSettings
        Kind, number of random features, seed, curve.
    stride : int, optional
        Every so many rows are used.

    Returns
    -------
    tuple[Linear, HeldOutPrediction, dict[str, object]]
        The regressor, its noise that of held-out rows; its quality; the strength and width taken.
    """
    rows = np.arange(0, len(features), stride)
    features = features[rows]
    targets = targets[rows]
    gap = -(-gap // stride)
    count = settings.features if settings.kind == "rff" else 0
    scale = np.maximum(targets.var(axis=0), 1e-8)

    def tried(width: float) -> tuple[float, float, Normal, F32]:
        """(error, strength, sums over all rows, held-out predictions) of the best strength at this kernel
        width.
        """
        basis = Basis.of(features, count, width, settings.seed)
        expanded = basis.expand(features)
        whole = Normal(basis, targets.shape[1]).take(expanded, targets)
        predicted = np.empty((len(STRENGTHS), *targets.shape), np.float32)
        for held, out in blocks(len(features), FOLDS, gap):
            rest = whole.without(Normal(basis, targets.shape[1]).take(expanded[out], targets[out]))
            for place, strength in enumerate(STRENGTHS):
                predicted[place, held] = expanded[held] @ rest.weights(strength).astype(np.float32)
        errors = (((predicted - targets) ** 2).mean(axis=1) / scale).mean(axis=1)
        best = int(errors.argmin())
        return float(errors[best]), STRENGTHS[best], whole, predicted[best]

    widths = WIDTHS if settings.kind == "rff" else (1.0,)
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(tried, widths))
    best = min(range(len(widths)), key=lambda place: results[place][0])
    _, strength, whole, predicted = results[best]
    curve = Curve.of(predicted, targets) if settings.bend else None
    held_out = HeldOutPrediction(rows, targets, predicted if curve is None else curve.apply(predicted))
    model = replace(with_noise(whole.solve(strength), held_out.residual_variance), curve=curve)
    return model, held_out, {"strength": strength, "width": widths[best]}


Trainer = Callable[
    [F32, F32, int, FitSettings, FeatureSpec, Callable[[float], None]],
    tuple[Any, HeldOutPrediction, dict[str, Any]],
]


"""Features (N, F), targets (N, K), rows left out around held-out ones, settings, layout of the features and a callback
for the share done, to a regressor, its quality on held-out rows and what was selected."""


def _linear(
    features: F32,
    targets: F32,
    gap: int,
    settings: FitSettings,
    spec: FeatureSpec,
    progress: Callable[[float], None],
) -> tuple[Linear, HeldOutPrediction, dict[str, Any]]:
    return fit_linear(features, targets, gap, settings, max(1, round(THIN_S / spec.period_s)))


def _trainer(kind: str, train_network: Trainer | None) -> Trainer:
    if kind not in KINDS:
        raise InputError(
            f"unknown kind of mapping '{kind}'; known are {', '.join(KINDS)}{did_you_mean(kind, KINDS)}"
        )
    if kind not in NETWORK_KINDS:
        return _linear
    if train_network is None:
        raise InputError(f"a '{kind}' mapping is a network: pass fit() a train_network (training.trainers)")
    return train_network


def fit(
    series: Series,
    *,
    profile: str,
    lower: F32,
    upper: F32,
    shape: F32,
    envelope: F32,
    filter_delay_s: float = 0.0,
    settings: FitSettings | None = None,
    train_network: Trainer | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> tuple[Mapping, dict[str, HeldOutPrediction]]:
    """Both directions from one recording.

    Parameters
    ----------
    series : Series
        Activity and faces on one time base.
    profile : str
        Filter profile of the activity.
    lower, upper : ndarray of float32, shape (E,)
        Bounds of the head model's expression.
    shape : ndarray of float32, shape (S,)
        Shape coefficients of the participant.
    envelope : ndarray of float32, shape (T, M)
        Volts, beside `series.activation`.
    filter_delay_s : float, optional
        Delay of the envelope filter, for the lag's account.
    settings : FitSettings, optional
        How to fit; None for the defaults.
    train_network : Trainer, optional
        Trains kinds `mlp` and `tcn` (`training.trainers.network_trainer`).
    progress : Callable[[str, float], None], optional
        Called with stage and share done.

    Returns
    -------
    tuple[Mapping, dict[str, HeldOutPrediction]]
        The mapping, and the quality of `emg2exp` and `exp2emg`.

    Raises
    ------
    InputError
        An unknown kind, or too little to learn from.
    """
    settings = settings or FitSettings()
    trainer = _trainer(settings.kind, train_network)
    report_progress = progress or (lambda stage, share: None)
    report_progress("lag", 0.0)
    lag = estimate(series, filter_delay_s)
    series = replace(series, face=without_drift(series, lag.drift_ppm if lag.grade in (1, 2) else 0.0))
    trust = Trust.of(series.activation, series.quality)
    clean = trust.apply(series.activation, series.quality)
    low, high = bounds(series.face_names, lower, upper)
    report_progress("muscles to face", 0.1)

    def learning(share: float) -> None:
        report_progress("muscles to face", 0.1 + 0.6 * share)

    def learning_back(share: float) -> None:
        report_progress("face to muscles", 0.7 + 0.3 * share)

    there, held_out_there, record_there = _emg2exp(series, clean, low, high, settings, trainer, learning)
    report_progress("face to muscles", 0.7)
    visible_lag_s = lag.lag_s - filter_delay_s if lag.grade else 0.0
    back, held_out_back, record_back = _exp2emg(
        series, clean, visible_lag_s, settings, train_network, learning_back
    )
    report_progress("done", 1.0)
    statistics = {
        "seconds": float(len(series.times) * series.period_s),
        "rows": len(held_out_there.rows),
        "emg2exp": record_there | summary(held_out_there),
        "exp2emg": record_back | summary(held_out_back),
    }
    mapping = Mapping(
        series.scheme,
        series.muscles,
        profile,
        series.head_model,
        series.face_names,
        series.period_s,
        lag,
        trust,
        there,
        back,
        envelope_scale(series.activation, envelope),
        np.asarray(shape, np.float32),
        statistics,
    )
    return mapping, {"emg2exp": held_out_there, "exp2emg": held_out_back}


def learnable(series: Series) -> Bools:
    """Which face values move and are a muscle's doing.

    Parameters
    ----------
    series : Series
        Activity and faces on one time base.

    Returns
    -------
    ndarray of bool, shape (K,)
        True for those.
    """
    moving = np.nanstd(series.face, axis=0) > MIN_MOTION
    gaze = np.array([name.startswith(GAZE) for name in series.face_names])
    return np.asarray(moving & ~gaze)


def _emg2exp(
    series: Series,
    clean: F32,
    low: F32,
    high: F32,
    settings: FitSettings,
    trainer: Trainer,
    progress: Callable[[float], None],
) -> tuple[Direction, HeldOutPrediction, dict[str, Any]]:
    learnt = learnable(series)
    if not learnt.any():
        raise InputError(
            "nothing in the face moves in this recording; a mapping needs the functional movements (eifer calibrate)"
        )
    steps = lag_steps(settings.longest_s, settings.lags, series.period_s)
    if settings.kind == "tcn":
        steps = tuple(range(round(CONTEXT_TCN_S / series.period_s)))
    spec = FeatureSpec(steps, series.period_s, settings.ahead_s)
    features, targets, rows = training_pairs(series, spec, clean, series.face[:, learnt])
    _require_duration(rows, series)
    gap = spec.context + spec.ahead_steps
    regressor, held_out, record = trainer(features, targets, gap, settings, spec, progress)
    rest = np.where(
        np.isnan(series.face).all(axis=0), 0.0, np.nan_to_num(np.nanmedian(series.face, axis=0))
    ).astype(np.float32)
    deviation = np.nan_to_num(np.nanstd(series.face, axis=0)).astype(np.float32)
    deviation[learnt] = np.sqrt(held_out.residual_variance)
    direction = Direction(
        settings.kind,
        spec,
        regressor,
        series.muscles,
        series.face_names,
        learnt,
        np.clip(rest, low, high),
        low,
        high,
        np.maximum(deviation, 1e-3),
    )
    return direction, replace(held_out, rows=rows[held_out.rows]), record


def _exp2emg(
    series: Series,
    clean: F32,
    lag_s: float,
    settings: FitSettings,
    train_network: Trainer | None,
    progress: Callable[[float], None],
) -> tuple[Direction, HeldOutPrediction, dict[str, Any]]:
    """Muscles at t from the face at t + lag + LOOK_BACK_S and shortly before: differences of lagged faces are
    its velocities.
    """
    kind = "rff" if settings.kind == "tcn" else settings.kind
    delay = max(0, round((lag_s + LOOK_BACK_S) / series.period_s))
    learnt = np.ones(len(series.muscles), bool)
    moved = replace_rows(clean, series, delay)
    spec = FeatureSpec((0, 3, 7, 12), series.period_s, 0.0)
    features, targets, rows = training_pairs(series, spec, series.face, moved)
    _require_duration(rows, series)
    regressor, held_out, record = _trainer(kind, train_network)(
        features, targets, spec.context + delay, replace(settings, kind=kind), spec, progress
    )
    count = len(series.muscles)
    direction = Direction(
        kind,
        replace(spec, ahead_s=-delay * series.period_s),
        regressor,
        series.face_names,
        series.muscles,
        learnt,
        np.zeros(count, np.float32),
        np.zeros(count, np.float32),
        np.ones(count, np.float32),
        np.maximum(np.sqrt(held_out.residual_variance), 1e-3).astype(np.float32),
    )
    return direction, replace(held_out, rows=rows[held_out.rows]), record


CONTEXT_TCN_S = 0.64
LOOK_BACK_S = 0.03
"""Muscles are estimated for this long before the face says so: a derivative needs both sides of its instant.
"""


def replace_rows(values: F32, series: Series, delay: int) -> F32:
    """Values as they were some rows earlier; NaN across gaps.

    Parameters
    ----------
    values : ndarray of float32, shape (T, M)
        One row per instant of `series`.
    series : Series
        Knows where gaps are.
    delay : int
        Rows.

    Returns
    -------
    ndarray of float32, shape (T, M)
        Moved down by `delay` rows.
    """
    out = np.full(values.shape, np.nan, np.float32)
    if delay == 0:
        return np.array(values, np.float32)
    segment = series.segment
    out[delay:] = np.where((segment[delay:] == segment[:-delay])[:, None], values[:-delay], np.nan)
    return out


def envelope_scale(activation: F32, envelope: F32) -> F32:
    """Rest and P99 from envelope^2 = (activation P99)^2 + rest^2 by least squares over the recording.

    Parameters
    ----------
    activation : ndarray of float32, shape (T, M)
        0..1.
    envelope : ndarray of float32, shape (T, M)
        Volts.

    Returns
    -------
    ndarray of float32, shape (M, 2)
        Rest and P99, V.
    """
    out = np.zeros((activation.shape[1], 2), np.float32)
    for muscle in range(activation.shape[1]):
        a = activation[:, muscle].astype(np.float64) ** 2
        e = envelope[:, muscle].astype(np.float64) ** 2
        finite = np.isfinite(a) & np.isfinite(e)
        if finite.sum() < 10 or np.ptp(a[finite]) < 1e-6:
            out[muscle] = np.sqrt(np.nanmedian(e)) if np.isfinite(e).any() else 0.0, 0.0
            continue
        slope, offset = np.polyfit(a[finite], e[finite], 1)
        out[muscle] = np.sqrt(max(offset, 0.0)), np.sqrt(max(slope, 0.0))
    return out


def _require_duration(rows: Indices, series: Series) -> None:
    if len(rows) * series.period_s < 10.0:
        covered_s = len(rows) * series.period_s
        raise InputError(
            f"only {covered_s:.1f} s in which both muscles and face are known without a gap; a mapping needs at least 10 s"
        )


def summary(held_out: HeldOutPrediction) -> dict[str, float]:
    """Medians over the outputs of Pearson r and R2 on held-out rows.

    Parameters
    ----------
    held_out : HeldOutPrediction
        Predictions on held-out rows.

    Returns
    -------
    dict[str, float]
        Medians by name.
    """
    r, r2 = scores(held_out.truth, held_out.predicted)
    return {"r": float(np.nanmedian(r)), "r2": float(np.nanmedian(r2))}
