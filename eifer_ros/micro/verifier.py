"""What a pulse is: a micro-expression of some class, or something else that was brief.

A small network for each sense.

The network reads the pattern of a pulse over the channels (in floors and in the channels' own unit), its
energy by region and length, how restless the region was before, and its course. It gives the probability of
each class and of none, and of each region. It was trained on simulated people (`research/micro/spotting.py`) and
calibrated on others; its weights are arrays in one `.npz`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..resources import model as model_file
from ..types import EVENT_REGIONS, F32, F64
from .pulses import Pulse

FORMAT = 1
SENSES = ("vision", "emg")


def features(pulse: Pulse, unit: F64) -> F32:
    """(F,) numbers the network reads. unit: (C,) what counts as a sizeable height in each channel."""
    return np.concatenate(
        [
            np.arcsinh(pulse.z),
            np.arcsinh(pulse.height / unit),
            np.log1p(pulse.energy).ravel(),
            np.log1p(pulse.recent),
            [pulse.fit, pulse.width_s, pulse.rebound, np.log1p(max(pulse.score, 0.0)), float(pulse.scale)],
        ]
    ).astype(np.float32)


@dataclass(frozen=True)
class Verifier:
    """Two layers.

    mean, deviation: (F,) of the features; (w1, b1), (w2, b2): weights; K classes, output 0 is "none".

    temperature: of the class output, fitted on people that took no part in training.
    """

    classes: tuple[str, ...]
    mean: F32
    deviation: F32
    w1: F32
    b1: F32
    w2: F32
    b2: F32
    temperature: float = 1.0

    def __post_init__(self) -> None:
        outputs = 1 + len(self.classes) + len(EVENT_REGIONS)
        if self.w2.shape != (self.w1.shape[1], outputs) or len(self.mean) != self.w1.shape[0]:
            raise ModelError(
                f"spotting network has layers {self.w1.shape} and {self.w2.shape}; it must end in {outputs} outputs"
            )

    def judge(self, row: npt.NDArray[np.floating]) -> tuple[F64, F64]:
        """Features (F,) -> (K + 1,) log probabilities, "none" first, and (4,) probability of each region."""
        standard = np.clip((row - self.mean) / self.deviation, -6.0, 6.0)
        hidden = np.maximum(standard @ self.w1 + self.b1, 0.0)
        out = (hidden @ self.w2 + self.b2).astype(np.float64)
        split = 1 + len(self.classes)
        logits = out[:split] / self.temperature
        logits = logits - logits.max()
        return logits - np.log(np.exp(logits).sum()), 1.0 / (1.0 + np.exp(-out[split:]))

    def arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """For a file."""
        return {
            f"{prefix}/{name}": np.asarray(getattr(self, name), np.float32)
            for name in ("mean", "deviation", "w1", "b1", "w2", "b2", "temperature")
        }


@dataclass(frozen=True)
class Verifiers:
    """The networks of both senses, and how their answers are weighed when both are asked.

    prior: (K + 1,) log share of each outcome among the candidates of training. weights: (2,) of vision and
    EMG; bias: (K + 1,) added.
    """

    classes: tuple[str, ...]
    vision: Verifier
    emg: Verifier
    weights: F64
    bias: F64

    def fuse(self, vision: F64, emg: F64) -> F64:
        """(K + 1,) log probabilities from those of the two senses, taken as independent given the class."""
        total = self.weights[0] * vision + self.weights[1] * emg + self.bias
        total = total - total.max()
        return np.asarray(total - np.log(np.exp(total).sum()), np.float64)

    def save(self, path: Path) -> None:
        """Write the `.npz`."""
        meta = json.dumps({"format": FORMAT, "classes": list(self.classes)})
        arrays: dict[str, Any] = {"meta": np.array(meta), "weights": self.weights, "bias": self.bias}
        arrays |= self.vision.arrays("vision") | self.emg.arrays("emg")
        np.savez_compressed(path, **arrays)

    @staticmethod
    def load(path: Path | None = None) -> Verifiers:
        """Read the `.npz`; the one that ships with the package where none is given. Raises ModelError."""
        chosen = path or model_file("spotter.npz")
        try:
            with np.load(chosen, allow_pickle=False) as archive:
                data = {name: archive[name] for name in archive.files}
            meta = json.loads(str(data["meta"]))
            if meta["format"] != FORMAT:
                raise ModelError(
                    f"{chosen}: spotter format {meta['format']}; this version reads format {FORMAT}"
                )
            classes = tuple(str(name) for name in meta["classes"])
            vision, emg = (
                Verifier(
                    classes,
                    data[f"{sense}/mean"],
                    data[f"{sense}/deviation"],
                    data[f"{sense}/w1"],
                    data[f"{sense}/b1"],
                    data[f"{sense}/w2"],
                    data[f"{sense}/b2"],
                    float(data[f"{sense}/temperature"]),
                )
                for sense in SENSES
            )
            return Verifiers(classes, vision, emg, data["weights"], data["bias"])
        except (OSError, ValueError, EOFError, KeyError) as error:
            raise ModelError(f"{chosen}: not the weights of a spotter ({error})") from None
