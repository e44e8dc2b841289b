"""Learns what small movements are like: the prior of `micro/core.py`.

`python -m research.micro.micro_motion models/micro_motion.npz` writes it in a minute. It needs no
picture: people, muscles and scale are drawn (`micro_data.draw_levels`), the head model and the performer's
skin say what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eifer_ros.head.fingerprint import fingerprint
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.micro.geometry import FaceSkin
from eifer_ros.simulation.muscles import gaze_weights
from eifer_ros.simulation.seeds import generator
from eifer_ros.types import F64
from research.common.recipe import parser, run
from research.micro.micro_data import FIRST_SEED, Mover, draw_levels

RANK = 64
NOISE = {"noise_px": 0.08, "bare": 5.0, "reach_px": 4.0, "white": 0.6, "outlier_px": 0.15}
"""Flow errors, chosen on people 290000 and following; see docs/micro_expressions.md."""
_LOOKS = 0.4
_LOOK_RAD = 0.15
_OWN = {"eyeLook": 0.01, "eyeBlink": 0.05, "jawOpen": 0.03, "tongueOut": 1e-4}
_OWN_USUAL = 0.005
_OWN_LOCAL_M = 1e-5


def small_movements(skin: FaceSkin, participants: int, each: int, first: int = FIRST_SEED) -> F64:
    """(people * each, E + 3 L) changes of expression and local modes (m along x, y, z)."""
    modes = skin.modes.astype(np.float64)
    onto = np.linalg.solve(modes.T @ modes + 1e-3 * np.eye(modes.shape[1]), modes.T)
    rows = []
    for seed in range(first, first + participants):
        mover = Mover.of(seed)
        rng = generator(seed, "micro covariance")
        for _ in range(each):
            expression, offsets = mover.motion(draw_levels(rng))
            if rng.random() < _LOOKS:
                yaw, pitch = rng.normal(0.0, _LOOK_RAD, 2)
                expression = expression + gaze_weights(np.array(yaw), np.array(0.7 * pitch))
            rows.append(
                np.concatenate([expression, (onto @ offsets[skin.vertices].astype(np.float64)).T.reshape(-1)])
            )
    return np.array(rows)


def own_variance(head: HeadModel, size: int) -> F64:
    """(size,) what every unknown may do on its own, so that nothing is impossible: gaze, lids and jaw more
    than the others.
    """
    own = np.full(size, _OWN_LOCAL_M**2)
    for index, name in enumerate(head.expression_names):
        own[index] = next((value for start, value in _OWN.items() if name.startswith(start)), _OWN_USUAL) ** 2
    return own


def save_prior(path: Path, head: HeadModel, movements: F64) -> None:
    """Write the prior: the strongest `RANK` directions of the second moments, and what each unknown may do on
    its own.
    """
    second = movements.T @ movements / len(movements)
    # coefficients and metres are of different size: directions are ranked by what is left of each unknown's
    # own spread
    spread = np.sqrt(np.diag(second)) + 1e-9
    values, vectors = np.linalg.eigh(second / np.outer(spread, spread))
    factor = spread[:, None] * vectors[:, -RANK:] * np.sqrt(np.maximum(values[-RANK:], 0.0))
    arrays: dict[str, Any] = {
        "fingerprint": fingerprint(head),
        "head_model": head.id,
        "factor": factor.astype(np.float32),
        "own": own_variance(head, len(factor)),
        **NOISE,
    }
    np.savez_compressed(path, **arrays)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file."""
    options = parser(__doc__)
    options.add_argument("out", type=Path)
    options.add_argument("--people", type=int, default=100)
    options.add_argument("--each", type=int, default=30)
    values = options.parse_args(arguments)
    head = load_head()
    save_prior(values.out, head, small_movements(FaceSkin.of(head), values.people, values.each))


if __name__ == "__main__":
    run(main)
