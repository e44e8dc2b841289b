"""The measure of personalisation: a perfect reading scores 0, and the error is the distance of vertices."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from eifer_ros.head.model import load_head  # noqa: E402
from research.faces.trial import Moments, score  # noqa: E402


class Knows(torch.nn.Module):
    """Reads what it is told, whatever the pictures show."""

    def __init__(self, expression: np.ndarray, shape: np.ndarray) -> None:
        super().__init__()
        self.expression, self.shape = torch.from_numpy(expression), torch.from_numpy(shape)
        self.at = 0

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        rows = (self.at + torch.arange(len(pictures))) % len(self.expression)
        self.at += len(pictures)
        return {"expression": self.expression[rows], "shape": self.shape[rows]}


def test_a_perfect_reading_scores_zero_and_an_offset_scores_its_motion() -> None:
    head = load_head()
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.2, 0.6, (20, head.expression_size)).astype(np.float32)
    nothing = np.zeros((20, 8, 8, 3), np.uint8)
    moments = Moments(nothing, nothing, truth, np.zeros(head.shape_size, np.float32))
    still = np.zeros((20, head.shape_size), np.float32)
    perfect = score(Knows(truth, still), moments, head)
    assert (
        perfect.expression_mm == pytest.approx(0, abs=1e-6)
        and perfect.r == pytest.approx(1)
        and perfect.shape_spread == 0.0
    )
    jaw = head.expression_names.index("jawOpen")
    off = truth.copy()
    off[:, jaw] += 0.2
    wandering = np.tile(
        np.where(np.arange(20)[:, None] % 2, 0.3, -0.3).astype(np.float32), (1, head.shape_size)
    )
    found = score(Knows(off, wandering), moments, head)
    truth_mm = (
        1e3 * 0.2 * np.linalg.norm(head.expression_basis[head.regions["face"]][:, :, jaw], axis=1).mean()
    )
    assert found.expression_mm == pytest.approx(truth_mm, rel=1e-4) and found.shape_spread == pytest.approx(
        0.3, rel=1e-4
    )


def test_moments_are_the_same_bare_and_under_sensors() -> None:
    moments = Moments.of(900_301, 2)
    assert moments.bare.shape == moments.sensors.shape == (2, 128, 128, 3)
    apart = np.abs(moments.bare.astype(int) - moments.sensors).max(axis=3)
    assert 0.05 < (apart > 40).mean() < 0.7 and (apart == 0).mean() > 0.1
