"""A small network as a regressor: ONNX bytes inside the mapping file, run by `inference/`.

The graph takes standardised features (N, F) called `features` and gives standardised targets (N, K) called
`targets`; it is made by `training/mapping_networks.py`. Nothing but onnxruntime is needed to run it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..inference.network import Network as Graph
from ..inference.network import open_bytes
from ..types import F32, Array, Floats


@dataclass(frozen=True)
class Network:
    """A fitted network of K targets from F features.

    mean, deviation: (F,) of the features. target_mean, target_deviation: (K,). noise: (K,) variance on
    held-out rows. reach: mean square of the standardised features that 99 % of the training rows stay below;
    beyond it the noise grows.
    """

    onnx: bytes
    mean: F32
    deviation: F32
    target_mean: F32
    target_deviation: F32
    noise: F32
    reach: float
    _graph: Graph = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_graph", open_bytes(self.onnx, "the network of this mapping"))

    def predict(self, features: Floats) -> F32:
        """(N, K) of (N, F)."""
        return self._run(self._standard(np.atleast_2d(features)))

    def predict_one(self, features: F32) -> tuple[F32, float]:
        """(K,) of (F,), and how far the row lies outside what was learnt: multiply `noise` by it for the
        variance.
        """
        standard = self._standard(features[None])
        return self._run(standard)[0], max(1.0, float(np.mean(standard**2)) / self.reach)

    def _standard(self, features: Floats) -> F32:
        return np.asarray((features - self.mean) / self.deviation, np.float32)

    def _run(self, standard: F32) -> F32:
        (raw,) = self._graph.run(["targets"], {"features": standard})
        return np.asarray(raw * self.target_deviation + self.target_mean, np.float32)

    def arrays(self) -> dict[str, Array]:
        """Everything that makes up this network, for a file."""
        return {
            "onnx": np.frombuffer(self.onnx, np.uint8),
            "mean": self.mean,
            "deviation": self.deviation,
            "target_mean": self.target_mean,
            "target_deviation": self.target_deviation,
            "noise": self.noise,
            "reach": np.array(self.reach),
        }

    @staticmethod
    def of(arrays: Mapping[str, Array]) -> Network:
        """From what `arrays` gave.

        Raises KeyError where something is missing, ModelError for a graph that cannot be run.
        """
        f32 = {
            name: np.asarray(arrays[name], np.float32)
            for name in ("mean", "deviation", "target_mean", "target_deviation", "noise")
        }
        return Network(arrays["onnx"].tobytes(), reach=float(arrays["reach"]), **f32)
