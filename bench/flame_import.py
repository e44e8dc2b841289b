"""FLAME import against dense float64 matrices on a fabricated file of the official structure."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import numpy as np

import bench
from eifer_ros.head.flame import import_flame
from eifer_ros.head.model import HeadModel, load_head


def flame_import_max_error(quick: bool = False) -> float:
    """Largest difference of any coordinate, in metres (reported in micrometres), over random shapes,
    expressions and joint angles.
    """
    helper = Path(__file__).parents[1] / "test" / "head" / "fabricated_flame.py"
    spec = importlib.util.spec_from_file_location("fabricated_flame", helper)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    arrays = made.fabricate(load_head(), seed=0)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "flame.npz"
        import_flame(made.write(Path(folder) / "generic_model.pkl", arrays), out, "flame")
        head = HeadModel.load(out)
    rng = np.random.default_rng(0)
    worst = 0.0
    trials = 10 if quick else 100
    for _ in range(trials):
        shape = rng.normal(size=300)
        expression = rng.normal(size=100)
        pose = rng.normal(size=(5, 3)) * 0.35
        pose[0] = 0.0
        wanted = made.dense_reference(arrays, shape, expression, pose)
        got = head.vertices(shape, expression, neck=pose[1], jaw=pose[2], eyes=pose[3:])
        worst = max(worst, float(np.abs(got - wanted).max()))
    bench.report("flame_import_max_error", worst * 1e6, "um", trials)
    return worst


def run(quick: bool = False) -> None:
    """All figures of this area."""
    flame_import_max_error(quick)
