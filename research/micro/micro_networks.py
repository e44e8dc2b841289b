"""Trains the learnt part of small motion on what `micro_data.py` wrote and exports it.

    python -m research.micro.micro_networks DATA models/

About two minutes on one core for 150 people. Loss: squared error of the motion of every vertex over the
squared size of the true motion, so that a movement of 3 % counts as much as one of 30 %. People from
`VALIDATION_SEED` on are held back and printed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from eifer_ros.head.fingerprint import fingerprint
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.micro import networks as modules
from eifer_ros.micro.core import MotionPrior, MotionSolver, load_prior
from eifer_ros.micro.flow import DenseFlow, normalised
from eifer_ros.micro.geometry import FaceSkin, key_view
from eifer_ros.simulation.muscles import gaze_weights
from eifer_ros.simulation.seeds import generator
from eifer_ros.training.loop import Budget, Loop, descend_epoch, threads
from eifer_ros.types import F64, FaceOrigin, FaceState
from research.common.recipe import parser, run
from research.micro.micro_data import VALIDATION_SEED

HIDDEN = 128
FLOOR_M = 6e-5
"""Motion below which errors are counted absolutely."""
GAZE_SHARE = 0.35
_LOOK_RAD = 0.12
BATCH = 128


def collect(folder: Path, skin: FaceSkin, prior: MotionPrior) -> dict[str, Any]:
    """Solver outputs and truth of every picture in `folder`, with and without a made-up change of gaze."""
    rows: dict[str, list[Any]] = {
        name: [] for name in ("seed", "y", "yz", "mis", "gaze", "rot", "exp", "shape", "motion", "off")
    }
    flow = DenseFlow()
    head = skin.head
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as archive:
            data = {name: archive[name] for name in archive.files}
        view = key_view(skin, _state(head, data), data["K"])
        if view is None:
            continue
        pictures = [
            np.asarray(128.0 + (normalised(one.astype(np.float32)) - 128.0) * view.inside, np.float32)
            for one in data["pictures"]
        ]
        flow.take_key(pictures[0])
        solver = MotionSolver(skin, view, pictures[0], prior)
        rng = generator(int(data["seed"]), "micro gaze")
        for number, picture in enumerate(pictures[1:]):
            dense = flow.between(picture)
            displacement = cv2.remap(dense, view.pixels[:, :1], view.pixels[:, 1:], cv2.INTER_LINEAR)[
                :, 0
            ].T.astype(np.float64)
            looks = gaze_weights(
                np.array(rng.normal(0.0, _LOOK_RAD)), np.array(0.8 * rng.normal(0.0, _LOOK_RAD))
            )
            plain = solver.solve(displacement)
            looking = solver.solve(displacement + (view.expression @ looks).reshape(2, -1))
            for name, value in (
                ("seed", int(data["seed"])),
                ("y", plain.unknowns),
                ("yz", looking.unknowns),
                ("mis", (plain.misfit_px, looking.misfit_px)),
                ("gaze", looks),
                ("rot", view.pose[:3, 2]),
                ("exp", data["expression"]),
                ("shape", data["shape"]),
                ("motion", data["motion"][number]),
                ("off", data["offsets"][number]),
            ):
                rows[name].append(value)
    return {name: np.array(values) for name, values in rows.items()}


def _state(head: HeadModel, data: dict[str, Any]) -> FaceState:
    nothing = np.zeros(3, np.float32)
    weights = data["expression"].astype(np.float32)
    return FaceState(
        0,
        head.id,
        FaceOrigin.VISION,
        data["shape"],
        weights,
        np.zeros_like(weights),
        nothing,
        nothing,
        head.gaze(weights),
        np.zeros(2, np.float32),
        data["pose"],
        1.0,
    )


def perceptron(inputs: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    """Two hidden layers; gives 0 before it is trained."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.SiLU(), last
    )


def _fit(
    network: nn.Module,
    loss: Callable[[torch.Tensor], torch.Tensor],
    rows: torch.Tensor,
    epochs: int,
    batch: int,
) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, total_steps=epochs * ((len(rows) + batch - 1) // batch)
    )
    network.train()
    Loop(Budget(epochs)).run(
        lambda step, along: descend_epoch(optimizer, loss, rows, batch, after=schedule.step)
    )
    network.eval()


class Dynamic:
    """Training of the dynamic-encoded module."""

    def __init__(self, skin: FaceSkin, prior: MotionPrior, data: dict[str, Any]) -> None:
        head = skin.head
        self.code = modules.StaticCode(head, prior)
        count = head.expression_size
        basis = head.expression_basis[skin.vertices].astype(np.float64)
        self._gram = torch.tensor(
            np.einsum("mae,maf->ef", basis, basis) / len(basis) * 1e6, dtype=torch.float32
        )
        self._free = torch.tensor(self.code.free, dtype=torch.float32)
        modes = skin.modes.astype(np.float64)
        self._sets = []
        power = np.einsum(
            "ne,ef,nf->n", data["motion"], self._gram.numpy().astype(np.float64), data["motion"]
        )
        self._weight = torch.tensor(1.0 / (power + (1e3 * FLOOR_M) ** 2), dtype=torch.float32)
        self.inputs = []
        self.sizes = []
        for which, name in enumerate(("y", "yz")):
            samples = [
                self.code.features(*row)
                for row in zip(
                    data[name], data["mis"][:, which], data["exp"], data["shape"], _poses(data), strict=True
                )
            ]
            features = np.array([one for one, _ in samples])
            size = np.array([one for _, one in samples])
            wrong = data[name][:, :count] - data["motion"] - (data["gaze"] if which else 0.0)
            slope = np.zeros((len(wrong), count))
            base = np.zeros(len(wrong))
            for number, row in enumerate(data[name]):
                field = (
                    (modes @ row[count:].reshape(3, -1).T)
                    - data["off"][number].astype(np.float64)
                    + basis @ wrong[number]
                )
                slope[number] = np.einsum("mae,ma->e", basis, field) / len(basis) * 1e6
                base[number] = (field**2).sum() / len(basis) * 1e6
            self.inputs.append(features)
            self.sizes.append(size)
            self._sets.append(
                [torch.tensor(one, dtype=torch.float32) for one in (features, size[:, None], slope, base)]
            )

    def squared(self, network: nn.Module, rows: torch.Tensor, which: int) -> torch.Tensor:
        """(rows,) mean squared error of the vertices, mm2."""
        features, size, slope, base = (one[rows] for one in self._sets[which])
        change = network(features) * size * self._free
        return torch.as_tensor(((change @ self._gram) * change).sum(1) + 2.0 * (slope * change).sum(1) + base)

    def errors_mm(self, network: nn.Module, rows: torch.Tensor, which: int) -> tuple[float, float]:
        """Root mean squared error of the vertices without and with the network, mm."""
        with torch.no_grad():
            before = self._sets[which][3][rows].mean().sqrt()
            return float(before), float(self.squared(network, rows, which).mean().sqrt())

    def train(self, rows: torch.Tensor, epochs: int) -> nn.Sequential:
        """The network; needs torch's seed set by the caller."""
        network = perceptron(self.inputs[0].shape[1], HIDDEN, len(self._free), 0.2)

        def loss(part: torch.Tensor) -> torch.Tensor:
            which = int(torch.rand(()) < GAZE_SHARE)
            return (self.squared(network, part, which) * self._weight[part]).mean()

        _fit(network, loss, rows, epochs, BATCH)
        return network


def _poses(data: dict[str, Any]) -> F64:
    """Poses that hold the third column only, which is all that the code reads."""
    poses = np.zeros((len(data["rot"]), 4, 4))
    poses[:, :3, 2] = data["rot"]
    return poses


def export(network: nn.Module, path: Path, inputs: int, output: str, kind: str, head: HeadModel) -> None:
    """Write one network with its description."""
    import onnx

    partial = path.with_suffix(".partial.onnx")
    torch.onnx.export(
        network,
        (torch.zeros(2, inputs),),
        str(partial),
        input_names=["features"],
        output_names=[output],
        dynamic_axes={"features": {0: "rows"}, output: {0: "rows"}},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(partial))
    about = {
        "kind": kind,
        "version": modules.VERSION,
        "head_model": head.id,
        "head_fingerprint": fingerprint(head),
    }
    model.metadata_props.add(key="eifer", value=json.dumps(about))
    onnx.save(model, str(partial))
    partial.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train it and write it."""
    options = parser(__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument(
        "--features", type=Path, help="keep what was collected in this file, or take it from there"
    )
    options.add_argument("--epochs", type=int, default=150, help="passes over the data")
    options.add_argument("--seed", type=int, default=0, help="of everything random")
    values = options.parse_args(arguments)
    head = load_head()
    skin = FaceSkin.of(head)
    prior = load_prior(head, skin)
    if values.features is not None and values.features.exists():
        with np.load(values.features, allow_pickle=False) as archive:
            data = {name: archive[name] for name in archive.files}
    else:
        data = collect(values.data, skin, prior)
        if values.features is not None:
            np.savez(values.features, **data)
    learnt = torch.tensor(np.flatnonzero(data["seed"] < VALIDATION_SEED))
    held = torch.tensor(np.flatnonzero(data["seed"] >= VALIDATION_SEED))
    torch.manual_seed(values.seed)
    with threads(1):
        dynamic = Dynamic(skin, prior, data)
        network = dynamic.train(learnt, values.epochs)
    for which, words in enumerate(("", ", gaze moves")):
        before, after = dynamic.errors_mm(network, held, which)
        print(f"held back{words}: error {before:.4f} mm before, {after:.4f} mm after the dynamic module")
    inputs = dynamic.inputs[0].shape[1]
    export(network, values.out / modules.DYNAMIC, inputs, "change", "micro_dynamic", head)


if __name__ == "__main__":
    run(main)
