"""Trains the face encoder on rendered heads, where everything is known (methods.md, section 5: the zero-shot
encoder).

    python -m research.faces.pictures shards --people 6000
    python -m research.faces.pretrain shards runs/bare --bare 1.0 --minutes 25
    python -m research.faces.pretrain shards runs/sensors --start runs/bare/encoder.pt --minutes 60
    python -m research.faces.pretrain shards runs/sensors --export models/face_encoder.onnx

The loss counts expression errors by how far they move the skin of the face, in mm, and single coefficients
besides; points, rotation and shape are learnt along, because without them the expression is hardly learnt at
all. A run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from eifer_ros.errors import ModelError
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.training.loop import (
    Average,
    Budget,
    Checkpoint,
    Loop,
    cosine_fall,
    descend,
    set_rates,
    threads,
    warm_up,
)
from eifer_ros.training.tensors import read_tensors
from eifer_ros.types import F32
from research.common.recipe import option, parser, run, settings_of
from research.faces.face_encoder import WIDTHS, FaceEncoder, export
from research.faces.picture_batches import Augment, Batch, ahead, batches, sample
from research.faces.pictures import Shard, shard_paths

CHECKPOINT = "encoder.pt"
_AVERAGE = 0.998
_WEIGHT_DECAY = 2e-2


@dataclass(frozen=True)
class Plan:
    """One training run. The rate falls as a half cosine to nothing."""

    minutes: float = option(60.0, "length of the run over all its sittings")
    batch: int = option(64, "pictures a step", least=1)
    rate: float = option(1.5e-3, "learning rate")
    bare: float = option(0.2, "share of pictures without sensors; 1 for the encoder of bare faces")
    strength: float = option(1.0, "how much light and lens vary")
    seed: int = option(0, "seed of everything random", least=0)
    threads: int = option(2, "threads of torch", least=1)


@dataclass(frozen=True)
class Metric:
    """Quadratic forms of the mean squared motion of the face's skin in mm^2: expression (E, E), shape (S, S)."""

    expression: torch.Tensor
    shape: torch.Tensor

    @staticmethod
    def of(head: HeadModel) -> Metric:
        """From the bases on the face region."""
        rows = head.regions["face"]

        def form(basis: F32) -> torch.Tensor:
            flat = 1e3 * basis[rows].reshape(-1, basis.shape[-1]).astype(np.float64)
            return torch.as_tensor(flat.T @ flat / len(rows), dtype=torch.float32)

        return Metric(form(head.expression_basis), form(head.shape_basis))


def losses(
    outputs: dict[str, torch.Tensor], truth: dict[str, torch.Tensor], metric: Metric
) -> dict[str, torch.Tensor]:
    """Every term, weighted. truth: tensors named as in `Batch`."""
    real = truth["readable"]
    count = real.sum().clamp_min(1.0)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return (values * real).sum() / count

    off = outputs["expression"] - truth["expression"]
    motion = torch.sqrt(torch.einsum("ne,ef,nf->n", off, metric.expression, off).clamp_min(0.0) + 1e-3)
    single = (off.abs() * metric.expression.diagonal().sqrt()).sum(1)
    shape = outputs["shape"] - truth["shape"]
    bulk = torch.sqrt(torch.einsum("ns,st,nt->n", shape, metric.shape, shape).clamp_min(0.0) + 1e-3)
    spread = outputs["expression_log_std"].clamp(-6.0, 1.0)
    return {
        "motion": mean(motion),
        "single": 0.15 * mean(single),
        "points": 60.0 * mean((outputs["landmarks"] - truth["landmarks"]).abs().mean((1, 2))),
        "rotation": 4.0 * mean((outputs["rotation"] - truth["rotation"]).abs().mean((1, 2))),
        "shape": 0.15 * mean(bulk),
        "spread": 0.01 * mean((spread + off.detach().abs() * torch.exp(-spread)).mean(1)),
        "readable": 0.3 * torch.nn.functional.binary_cross_entropy_with_logits(outputs["readable"], real),
    }


def tensors(batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The picture (N, 3, SIZE, SIZE) 0..1, channels last in memory, and the truth."""
    picture = torch.from_numpy(batch.picture).permute(0, 3, 1, 2).float() / 255.0
    names = ("landmarks", "expression", "shape", "rotation", "readable")
    return picture, {name: torch.from_numpy(getattr(batch, name)) for name in names}


class Evaluation:
    """Errors on people whom the run does not learn from: the first shard of the folder, as tracked crops,
    bare and under sensors.
    """

    def __init__(self, path: Path, head: HeadModel, count: int = 200) -> None:
        shard = Shard.load(path)
        rng = np.random.default_rng(1)
        noise = np.zeros((1, 1, 1, 1), np.int8)
        self._rows = head.regions["face"]
        self._basis = 1e3 * head.expression_basis[self._rows].astype(np.float32)
        self._sets = {}
        for name, bare in (("bare", 1.0), ("sensors", 0.0)):
            settings = Augment(bare=bare, partly=0.0, negatives=0.0, strength=0.0)
            rows = [sample(shard, i, rng, settings, noise) for i in range(min(count, len(shard.bare)))]
            columns = list(zip(*rows, strict=True))
            picture = torch.from_numpy(np.stack(columns[0])).permute(0, 3, 1, 2).float() / 255.0
            self._sets[name] = (picture, np.stack(columns[3]), np.stack(columns[4]), np.stack(columns[5]))

    def __call__(self, encoder: FaceEncoder) -> dict[str, float]:
        """Vertex error of the expression in mm, landmark error in percent of the crop, median r of the
        coefficients that move.
        """
        encoder.eval()
        out = {}
        for name, (picture, landmarks, expression, shape) in self._sets.items():
            with torch.no_grad():
                outputs = encoder(picture.contiguous(memory_format=torch.channels_last))
            guess = outputs["expression"].numpy().clip(0.0, 1.0)
            error = np.linalg.norm(np.einsum("vde,ne->nvd", self._basis, guess - expression), axis=2).mean()
            moving = np.flatnonzero(expression.std(axis=0) > 0.05)
            r = [_r(guess[:, k], expression[:, k]) for k in moving]
            rest = np.linalg.norm(np.einsum("vde,ne->nvd", self._basis, expression), axis=2).mean()
            out[f"{name}_mm"] = float(error)
            out[f"{name}_rest_mm"] = float(rest)
            out[f"{name}_r"] = float(np.median(r))
            out[f"{name}_points_pct"] = float(100.0 * np.abs(outputs["landmarks"].numpy() - landmarks).mean())
            out[f"{name}_shape_r"] = float(
                np.mean([_r(outputs["shape"][:, k].numpy(), shape[:, k]) for k in range(5)])
            )
        encoder.train()
        return out


def _r(one: F32, other: F32) -> float:
    """Pearson's r, 0 where one of the two is constant."""
    return float(np.corrcoef(one, other)[0, 1]) if min(one.std(), other.std()) > 1e-6 else 0.0


def load_encoder(path: Path) -> FaceEncoder:
    """The running mean that a run has saved. Raises ModelError for another file."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist; a training run writes encoder.pt into its folder")
    content = read_tensors(path)
    if "widths" not in content or "average" not in content:
        raise ModelError(f"{path} holds no face encoder")
    encoder = FaceEncoder(content["sizes"][0], content["sizes"][1], tuple(content["widths"]))
    encoder.load_state_dict(content["average"])
    return encoder


def train(shards: Path, folder: Path, plan: Plan, start: Path | None = None) -> dict[str, float]:
    """Train for `plan.minutes` in all (over all its sittings); returns the last evaluation.

    Writes encoder.pt and log.jsonl into `folder`. Raises as `Checkpoint.load` for a folder of another run.
    """
    torch.manual_seed(plan.seed)
    head = load_head()
    encoder = load_encoder(start) if start is not None else FaceEncoder(head.expression_size, head.shape_size)
    encoder = encoder.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=plan.rate, weight_decay=_WEIGHT_DECAY)
    average = Average(encoder, _AVERAGE)
    metric = Metric.of(head)

    def about() -> dict[str, object]:
        sizes = [encoder.expression_size, encoder.shape_size]
        return {
            "widths": list(WIDTHS),
            "sizes": sizes,
            "pictures": loop.step * plan.batch,
            "plan": asdict(plan),
        }

    parts = {"network": encoder, "optimizer": optimizer, "average": average}
    identity = {"settings": {"bare": plan.bare}}
    checkpoint = Checkpoint(folder / CHECKPOINT, "face_encoder", parts, identity, about)
    loop = Loop(
        Budget(minutes=plan.minutes), checkpoint, log=folder / "log.jsonl", save_every_s=90.0, echo=True
    )
    loop.resume()
    evaluation = Evaluation(shard_paths(shards)[0], head)
    first = loop.step

    def make() -> Iterator[Batch]:
        augment = Augment(bare=plan.bare, strength=plan.strength)
        return batches(shards, plan.batch, plan.seed + 1 + first, augment, held_out=1)

    pictures = ahead(make)
    scores: dict[str, float] = {}

    def advance(step: int, along: float) -> dict[str, torch.Tensor]:
        set_rates(optimizer, plan.rate * warm_up(step, 200) * cosine_fall(along))
        picture, truth = tensors(next(pictures))
        terms = losses(encoder(picture), truth, metric)
        descend(optimizer, terms, clip=5.0)
        average.update(encoder, step)
        return terms

    def validation(step: int, means: dict[str, float]) -> dict[str, float]:
        shadow = FaceEncoder(encoder.expression_size, encoder.shape_size)
        shadow.load_state_dict(average.state)
        scores.update(evaluation(shadow))
        return scores

    with threads(plan.threads):
        loop.run(advance, judge=validation)
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: train on shards, or export a run."""
    options = parser(__doc__, Plan)
    options.add_argument("shards", type=Path)
    options.add_argument("run", type=Path)
    options.add_argument("--start", type=Path, help="encoder.pt of another run to begin from")
    options.add_argument("--export", type=Path, help="write the run's encoder as ONNX and stop")
    values = options.parse_args(arguments)
    if values.export is not None:
        content = read_tensors(values.run / CHECKPOINT)
        about = {name: content[name] for name in ("minutes", "pictures", "plan")}
        export(load_encoder(values.run / CHECKPOINT), load_head(), values.export, about)
        return
    train(values.shards, values.run, settings_of(Plan, values), values.start)


if __name__ == "__main__":
    run(main)
