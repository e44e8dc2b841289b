"""How far an estimate can be trusted, as a probability that was checked: that the face's vertices are on
average within 1 mm of the truth.

Three things are looked at: how far off the encoder itself expects to be, how far its points lie from the
fitted head, and how sure it is that it sees a face at all. Their weighted sum goes through a monotone table,
both measured on simulated people that the encoder has not seen (`python -m
research.faces.confidence_calibration`), and kept beside the network with its digest. A table of another
network is not used.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, ModelError
from ..head.model import HeadModel
from ..inference.network import locate
from ..types import F64

GOOD_MM = 1.0
"""Mean error of the face's vertices, expression alone, within which an estimate counts as right.

A face that never moves is 2.3 mm off.
"""


@dataclass(frozen=True)
class Confidence:
    """std_scale: what the encoder's standard deviations are multiplied with to be true.

    weights: (3,) of `confidence_features`. bias: added to their sum.

    scores, shares: (K,) rising table, from the sum to the share of estimates that were right. measured:
    whether it was measured for the network it is used with.
    """

    std_scale: float
    weights: F64
    bias: float
    scores: F64
    shares: F64
    measured: bool = True

    @staticmethod
    def guess() -> Confidence:
        """Where nothing was measured: cautious, never above 0.7."""
        scores = np.linspace(-4.0, 4.0, 9)
        return Confidence(1.5, np.array([1.0, 0.5, 1.0]), 1.0, scores, 0.7 / (1.0 + np.exp(-scores)), False)

    def of(self, expected_mm: float, miss_mm: float, readable: float) -> float:
        """0..1."""
        value = float(confidence_features(expected_mm, miss_mm, readable) @ self.weights) + self.bias
        return float(np.interp(value, self.scores, self.shares)) if np.isfinite(value) else 0.0

    def save(self, path: Path, network: Path) -> None:
        """Write the table measured for `network`."""
        content = {
            "kind": "confidence",
            "network": digest(network),
            "std_scale": self.std_scale,
            "weights": self.weights.tolist(),
            "bias": self.bias,
            "scores": self.scores.tolist(),
            "shares": self.shares.tolist(),
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(network: Path) -> Confidence:
        """The table beside `network` (same name, .json), or `guess` where there is none for this very file.

        Raises ModelError for a damaged table.
        """
        path = network.with_suffix(".json")
        if not path.is_file():
            return Confidence.guess()
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["kind"] != "confidence":
                raise InputError(f"it is a '{content['kind']}'")
            table = Confidence(
                float(content["std_scale"]),
                np.array(content["weights"], np.float64),
                float(content["bias"]),
                np.array(content["scores"], np.float64),
                np.array(content["shares"], np.float64),
            )
            table.check()
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise ModelError(
                f"{path}: not a table of confidence ({error}); measure it anew or remove it"
            ) from None
        return table if content.get("network") == digest(network) else Confidence.guess()

    def check(self) -> None:
        """Raises InputError where the table is not one: shapes, order, range."""
        if self.weights.shape != (3,) or (self.weights < 0).any():
            raise InputError("weights must be three numbers from 0")
        if self.scores.ndim != 1 or self.scores.shape != self.shares.shape or len(self.scores) < 2:
            raise InputError("scores and shares must be lists of one length")
        if (
            (np.diff(self.scores) <= 0).any()
            or (np.diff(self.shares) < 0).any()
            or self.shares.min() < 0
            or self.shares.max() > 1
        ):
            raise InputError("scores must rise, shares must not fall and lie in 0..1")


def confidence_features(expected_mm: float, miss_mm: float, readable: float) -> F64:
    """(3,) each rising with trust: little error expected, points on the head, surely a face."""
    clipped = float(np.clip(readable, 1e-3, 1.0 - 1e-3))
    return np.array(
        [
            -np.log(max(expected_mm, 1e-2)),
            -np.log(max(miss_mm, 1e-2)),
            0.25 * np.log(clipped / (1.0 - clipped)),
        ]
    )


def expected_error(head: HeadModel) -> F64:
    """(E,) mean squared motion in mm^2 of the face's vertices per squared unit of each coefficient."""
    moved = 1e3 * head.expression_basis[head.regions["face"]].astype(np.float64)
    return np.asarray((moved**2).sum(axis=1).mean(axis=0))


def digest(path: Path) -> str:
    """Of a network's file."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def for_network(name: str) -> Confidence:
    """`Confidence.load` of a network in models/ or at a path."""
    return Confidence.load(locate(name))
