"""A small invented participant: three muscles, three coefficients, a lag, and nothing else."""

from __future__ import annotations

import functools

import numpy as np

from eifer_ros.mapping.fit import FitSettings, HeldOutPrediction, fit
from eifer_ros.mapping.mapping import Mapping
from eifer_ros.mapping.series import EXTRA_NAMES, Series
from eifer_ros.training.trainers import network_trainer
from eifer_ros.types import FaceOrigin, FaceState, MuscleActivity

MUSCLES = ("zygomaticus_major_right", "zygomaticus_major_left", "lateral_frontalis_right")
NAMES = ("mouthSmileRight", "mouthSmileLeft", "browOuterUpRight")
START = 1_700_000_000_000_000_000
PERIOD_NS = 10_000_000


def movements(count: int, width: int, seed: int) -> np.ndarray:
    """(count, width) smooth contractions in 0..1 at 100 Hz, each column at its own times."""
    rng = np.random.default_rng(seed)
    out = np.zeros((count, width))
    shape = np.hanning(90)
    for column in range(width):
        at = int(rng.integers(0, 120))
        while at + 90 < count:
            out[at : at + 90, column] += rng.uniform(0.3, 1.0) * shape
            at += int(rng.integers(100, 300))
    return np.clip(out, 0, 1)


def series(seconds: float = 40.0, lag: int = 4, seed: int = 0, noise: float = 0.01) -> Series:
    """Faces follow muscles by `lag` rows of 10 ms, saturating."""
    count = round(seconds * 100)
    rng = np.random.default_rng(seed + 100)
    muscle = movements(count, 3, seed)
    face = np.zeros((count, 8))
    face[lag:, :3] = np.tanh(1.2 * muscle[: count - lag])
    muscle = np.clip(muscle + noise * rng.standard_normal(muscle.shape), 0, 1).astype(np.float32)
    return Series(
        START,
        0.01,
        np.arange(count) * 0.01,
        muscle,
        np.ones((count, 3), np.float32),
        face.astype(np.float32),
        MUSCLES,
        (*NAMES, *EXTRA_NAMES),
        "fridlund",
        "test_head",
    )


@functools.cache
def _usual(kind: str, ahead_s: float) -> tuple[Mapping, dict[str, HeldOutPrediction]]:
    return fitted(kind, series(20.0 if kind in ("mlp", "tcn") else 40.0), ahead_s)


def fitted(
    kind: str = "rff", data: Series | None = None, ahead_s: float = 0.0
) -> tuple[Mapping, dict[str, HeldOutPrediction]]:
    """A mapping of `series`, made once."""
    if data is None:
        return _usual(kind, ahead_s)
    return fit(
        data,
        profile="live",
        lower=np.zeros(3, np.float32),
        upper=np.ones(3, np.float32),
        shape=np.zeros(2, np.float32),
        envelope=data.activation * 1e-4,
        settings=FitSettings(kind=kind, features=64, ahead_s=ahead_s),
        train_network=network_trainer(kind),
    )


def activity(data: Series, row: int, **changes: object) -> MuscleActivity:
    """One instant of `data` as it flows."""
    values: dict[str, object] = {
        "stamp": START + row * PERIOD_NS,
        "scheme": data.scheme,
        "muscles": data.muscles,
        "envelope": data.activation[row] * 1e-4,
        "activation": data.activation[row],
        "quality": data.quality[row],
        "profile": "live",
    }
    return MuscleActivity(**(values | changes))  # type: ignore[arg-type]


def face(data: Series, row: int, head_model: str = "test_head", confidence: float = 1.0) -> FaceState:
    """One true face of `data` as a camera's."""
    none = np.zeros(3, np.float32)
    return FaceState(
        START + row * PERIOD_NS,
        head_model,
        FaceOrigin.VISION,
        np.zeros(2),
        data.face[row, :3],
        np.full(3, 0.02),
        none,
        none,
        np.zeros((2, 3)),
        np.zeros(2),
        np.eye(4),
        confidence,
    )
