"""What a pulse is: a micro-expression of some class, or something else that was brief.

A small network for each sense.

The network reads the pattern of a pulse over the channels (in floors and in the channels' own unit), its
energy by region and length, how restless the region was before, and its course. It gives the probability of
each class and of none, and of each region. It was trained on simulated people (`research/micro/spotting.py`) and
calibrated on others; both senses are one ONNX file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ModelError
from ..inference.network import Network, open_network, open_shipped
from ..types import EVENT_REGIONS, F32, F64, FaceOrigin
from .pulses import Pulse

SPOTTER = "spotter.onnx"
VERSION = 2
_ORIGINS = {"vision": FaceOrigin.VISION, "emg": FaceOrigin.EMG}
SENSES = tuple(_ORIGINS)


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
class Verifiers:
    """The networks of both senses, and how their answers are weighed when both have one.

    network: takes the features of both senses and answers for each: log probabilities, and regions. weights:
    (2,) of vision and EMG; bias: (K + 1,) added.
    """

    classes: tuple[str, ...]
    network: Network
    weights: F64
    bias: F64

    def classify(self, vision: F32 | None, emg: F32 | None) -> dict[FaceOrigin, tuple[F64, F64]]:
        """What each sense makes of its pulse.

        Parameters
        ----------
        vision, emg
            (F,) features of either sense; None where it has none.

        Returns
        -------
        dict
            By sense that has features: (K + 1,) log probabilities, "none" first, and (4,) probability of each
            region.
        """
        rows = {"vision": vision, "emg": emg}
        # the graph answers for both at once; a sense without features gets zeros, and its answer is dropped
        feed = {
            name: np.zeros((1, _width(self.network, name)), np.float32)
            if row is None
            else row[None].astype(np.float32)
            for name, row in rows.items()
        }
        present = [name for name, row in rows.items() if row is not None]
        names = [f"{name}_{what}" for name in present for what in ("classes", "regions")]
        values = [value[0].astype(np.float64) for value in self.network.run(names, feed)]
        return {
            _ORIGINS[name]: (values[2 * place], values[2 * place + 1]) for place, name in enumerate(present)
        }

    def fuse(self, vision: F64, emg: F64) -> F64:
        """(K + 1,) log probabilities from those of the two senses, taken as independent given the class."""
        total = self.weights[0] * vision + self.weights[1] * emg + self.bias
        total = total - total.max()
        return np.asarray(total - np.log(np.exp(total).sum()), np.float64)

    @staticmethod
    def load(path: Path | None = None) -> Verifiers:
        """Open the networks.

        Parameters
        ----------
        path
            The file; the one that ships with the package where it is None.

        Raises
        ------
        ModelError
            Where it is no spotter's file, or one of another version.
        """
        if path is not None and path.suffix == ".npz":
            raise ModelError(
                f"{path}: spotters are ONNX files now; `python -m research.micro.spotting NEW.onnx --weights {path}` "
                "writes it as one"
            )
        return Verifiers.of(open_shipped(SPOTTER) if path is None else open_network(path))

    @staticmethod
    def of(network: Network) -> Verifiers:
        """The spotter that `network` holds. Raises ModelError where it holds none of this version."""
        about = network.about
        if about.get("kind") != "spotter" or about.get("version") != VERSION:
            raise ModelError(f"{network.name} is not a 'spotter' of version {VERSION}: train it anew")
        try:
            classes = tuple(str(name) for name in about["classes"])
            weights = np.asarray(about["weights"], np.float64)
            bias = np.asarray(about["bias"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{network.name}: its description lacks classes or fusion ({error})") from None
        expected = {"classes": 1 + len(classes), "regions": len(EVENT_REGIONS)}
        for name in SENSES:
            _width(network, name)
            for what, count in expected.items():
                shape = network.outputs.get(f"{name}_{what}", ())
                if shape[-1:] != (count,):
                    raise ModelError(
                        f"{network.name}: output '{name}_{what}' must hold {count} numbers a pulse"
                    )
        if weights.shape != (2,) or bias.shape != (1 + len(classes),):
            raise ModelError(f"{network.name}: its fusion has shapes {weights.shape} and {bias.shape}")
        return Verifiers(classes, network, weights, bias)


def _width(network: Network, name: str) -> int:
    width = network.inputs.get(name, (None,))[-1]
    if not isinstance(width, int):
        raise ModelError(f"{network.name} has no input '{name}' of a fixed width")
    return width
