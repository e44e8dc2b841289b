"""Trains the networks of a mapping: EIFER's MLP, and a causal TCN after emg2face.

torch on the CPU; what runs later is ONNX.

- `mlp`: two hidden layers of 256 (Büchner et al., CVPR 2025, map with two MLPs; their sizes are not
  published).
- `tcn`: the temporal part of emg2face (arXiv 2610.09304), dilations 1..32 over 0.64 s, made causal: kernel 2,
  so that the newest
  output looks back exactly `context` rows. Evaluated at one instant, such a stack is a tree: each layer joins
  neighbours two by two (stride 2), which is how it is computed here, with the newer of the two passed on as
  the residual.

Rows are never shuffled across time: early stopping watches two stretches of the recording, the quality is
judged on two others, with a gap around each; then the network is trained again on everything for as many
epochs as were best. Loss after emg2face: Huber on standardised targets, AdamW.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import MissingExtra
from ..mapping.features import FeatureSpec
from ..mapping.fit import FitSettings, HeldOutPrediction
from ..mapping.network import Network
from ..types import F32, Array, Indices
from .loop import Budget, Loop, cosine_fall, descend_epoch, set_rates, threads

HIDDEN_MLP = 256
CHANNELS_TCN = 48
STRETCHES = 12
WATCHED = (2, 8)
JUDGED = (5, 11)
"""Which of the stretches early stopping watches and the quality is judged on."""


@dataclass(frozen=True)
class Training:
    """How to train. batch: rows per step. patience: epochs without improvement before stopping.

    dropout: of hidden units.
    """

    epochs: int = 60
    patience: int = 8
    batch: int = 256
    rate: float = 2e-3
    decay: float = 1e-2
    dropout: float = 0.1


class Mlp(nn.Module):  # type: ignore[misc, unused-ignore]
    """features -> 256 -> 256 -> targets, ReLU."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(inputs, HIDDEN_MLP), nn.Linear(HIDDEN_MLP, HIDDEN_MLP), nn.Linear(HIDDEN_MLP, outputs)]
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, K) of (N, F)."""
        for layer in list(self.layers)[:-1]:
            features = self.dropout(torch.relu(layer(features)))
        return torch.as_tensor(self.layers[-1](features))


class Tcn(nn.Module):  # type: ignore[misc, unused-ignore]
    """Rows newest first (N, T M), T a power of two -> targets: dilations 1, 2, ..

    T/2 of a causal kernel of 2, at the newest instant.
    """

    def __init__(self, muscles: int, context: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.muscles = muscles
        self.context = context
        levels = context.bit_length() - 1
        if context != 1 << levels:
            raise ValueError(f"the context of a TCN must be a power of two, not {context}")
        self.into = nn.Linear(muscles, CHANNELS_TCN)
        self.joins = nn.ModuleList([nn.Linear(2 * CHANNELS_TCN, CHANNELS_TCN) for _ in range(levels)])
        self.out = nn.Linear(CHANNELS_TCN, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, K) of (N, T M)."""
        x = self.into(features.reshape(-1, self.context, self.muscles))
        length = self.context
        for join in self.joins:
            length //= 2
            pairs = x.reshape(-1, length, 2 * CHANNELS_TCN)
            x = pairs[:, :, :CHANNELS_TCN] + self.dropout(torch.relu(join(pairs)))
        return torch.as_tensor(self.out(x.reshape(-1, CHANNELS_TCN)))


def fit_network(
    features: F32,
    targets: F32,
    gap: int,
    settings: FitSettings,
    spec: FeatureSpec,
    progress: Callable[[float], None] | None = None,
    training: Training | None = None,
) -> tuple[Network, HeldOutPrediction, dict[str, Any]]:
    """A network of `settings.kind` from (N, F) features and (N, K) targets in time order.

    gap: rows left out around held-out stretches. `HeldOutPrediction.rows` are the rows it was judged on. Deterministic
    for a seed on one machine. progress: share done.
    """
    how = training or Training()
    report_progress = progress or (lambda share: None)
    mean = features.mean(axis=0)
    deviation = np.maximum(features.std(axis=0), 1e-6).astype(np.float32)
    target_mean = targets.mean(axis=0)
    target_deviation = np.maximum(targets.std(axis=0), 1e-6).astype(np.float32)
    x = torch.from_numpy(np.ascontiguousarray((features - mean) / deviation))
    y = torch.from_numpy(np.ascontiguousarray((targets - target_mean) / target_deviation))
    learn, watch, held_out_rows = stretches(len(features), gap)

    def new() -> nn.Module:
        torch.manual_seed(settings.seed)
        if settings.kind == "tcn":
            return Tcn(features.shape[1] // len(spec.steps), len(spec.steps), targets.shape[1], how.dropout)
        return Mlp(features.shape[1], targets.shape[1], how.dropout)

    with threads(1):
        model = new()
        best = _train(
            model,
            x[learn],
            y[learn],
            how,
            settings.seed,
            how.epochs,
            (x[watch], y[watch]),
            lambda s: report_progress(0.6 * s),
        )
        predicted = _predict(model, x[held_out_rows]) * target_deviation + target_mean
        final = new()
        _train(final, x, y, how, settings.seed, best, None, lambda s: report_progress(0.6 + 0.4 * s))
    held_out = HeldOutPrediction(held_out_rows, targets[held_out_rows], predicted.astype(np.float32))
    reach = max(1.0, float(np.percentile((x.numpy() ** 2).mean(axis=1), 99)))
    noise = np.maximum(held_out.residual_variance, 1e-8).astype(np.float32)
    network = Network(to_onnx(final), mean, deviation, target_mean, target_deviation, noise, reach)
    weights = sum(parameter.numel() for parameter in final.parameters())
    return network, held_out, {"epochs": best, "weights": weights}


def stretches(count: int, gap: int) -> tuple[Indices, Indices, Indices]:
    """Rows to learn from, to watch and to be judged on; between rows of different parts lie more than `gap`
    rows.
    """
    edges = np.linspace(0, count, STRETCHES + 1).astype(int)
    part = np.zeros(count, int)
    for kind, numbers in ((1, WATCHED), (2, JUDGED)):
        for number in numbers:
            part[edges[number] : edges[number + 1]] = kind
    learn = part == 0
    for number in (*WATCHED, *JUDGED):
        learn[max(0, edges[number] - gap) : edges[number + 1] + gap] = False
    return np.flatnonzero(learn), np.flatnonzero(part == 1), np.flatnonzero(part == 2)


def _train(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    how: Training,
    seed: int,
    epochs: int,
    watched: tuple[torch.Tensor, torch.Tensor] | None,
    progress: Callable[[float], None],
) -> int:
    """Train in place; with `watched` rows stop when they stop improving and go back to the best.

    Returns the best number of epochs.
    """
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=how.rate, weight_decay=how.decay)
    loss_of = nn.HuberLoss()
    best = epochs
    best_loss = np.inf
    best_state = None

    def advance(epoch: int, along: float) -> dict[str, float]:
        model.train()
        set_rates(optimizer, how.rate * cosine_fall(epoch / how.epochs))
        # neighbouring rows are nearly the same: every third one, another third each epoch, loses nothing
        rows = torch.arange((epoch + 1) % 3, len(x), 3)
        return descend_epoch(
            optimizer, lambda part: loss_of(model(x[part]), y[part]), rows, how.batch, random
        )

    def stop() -> bool:
        nonlocal best, best_loss, best_state
        if watched is None:
            return False
        model.eval()
        with torch.no_grad():
            loss = float(loss_of(model(watched[0]), watched[1]))
        if loss < best_loss:
            best = loop.step
            best_loss = loss
            best_state = {name: value.clone() for name, value in model.state_dict().items()}
        return loop.step - best >= how.patience

    loop = Loop(Budget(epochs))
    loop.run(advance, progress=lambda epoch, means: progress(epoch / epochs), stop=stop)
    if best_state is not None:
        model.load_state_dict(best_state)
    progress(1.0)
    return best


def _predict(model: nn.Module, x: torch.Tensor) -> F32:
    model.eval()
    with torch.no_grad():
        return np.concatenate([model(part).numpy() for part in x.split(4096)])


def to_onnx(model: nn.Module) -> bytes:
    """The network as an ONNX graph, written node by node: no exporter, nothing traced.

    Raises MissingExtra without `onnx`.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ModuleNotFoundError:
        raise MissingExtra("onnx", "train", "storing a network") from None

    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(value: Array) -> str:
        name = f"c{len(constants)}"
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(kind: str, inputs: list[str], output: str = "") -> str:
        name = output or f"n{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name]))
        return name

    def linear(layer: Any, x: str, output: str = "") -> str:
        product = node("MatMul", [x, constant(layer.weight.detach().numpy().T)])
        return node("Add", [product, constant(layer.bias.detach().numpy())], output)

    def reshape(x: str, *shape: int) -> str:
        return node("Reshape", [x, constant(np.array(shape, np.int64))])

    x = "features"
    if isinstance(model, Mlp):
        inputs = model.layers[0].in_features
        outputs = model.layers[-1].out_features
        for layer in list(model.layers)[:-1]:
            x = node("Relu", [linear(layer, x)])
        linear(model.layers[-1], x, "targets")
    elif isinstance(model, Tcn):
        inputs = model.muscles * model.context
        outputs = model.out.out_features
        x = linear(model.into, reshape(x, -1, model.context, model.muscles))
        length = model.context
        first = constant(np.array([0]))
        last = constant(np.array([CHANNELS_TCN]))
        axis = constant(np.array([2]))
        for join in model.joins:
            length //= 2
            pairs = reshape(x, -1, length, 2 * CHANNELS_TCN)
            x = node("Add", [node("Slice", [pairs, first, last, axis]), node("Relu", [linear(join, pairs)])])
        linear(model.out, reshape(x, -1, CHANNELS_TCN), "targets")
    else:
        raise TypeError(f"no ONNX graph is known for {type(model).__name__}")
    graph = helper.make_graph(
        nodes,
        "mapping",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", inputs])],
        [helper.make_tensor_value_info("targets", TensorProto.FLOAT, ["rows", outputs])],
        constants,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(proto)
    return bytes(proto.SerializeToString())
