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

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eifer_ros.errors import InputError, ModelError
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.types import F32
from research.faces.face_encoder import WIDTHS, FaceEncoder, export
from research.faces.picture_batches import Augment, Batch, ahead, batches, sample
from research.faces.pictures import Shard, shard_paths

_DECAY = 0.998
"""Of the running mean of the weights, which is what is judged and shipped."""


@dataclass(frozen=True)
class Plan:
    """One training run. minutes: how long; the rate falls as a half cosine to nothing over them.

    threads: of torch.
    """

    minutes: float
    batch: int = 64
    rate: float = 1.5e-3
    decay: float = 2e-2
    bare: float = 0.2
    seed: int = 0
    threads: int = 2
    strength: float = 1.0


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


class Validation:
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
            out[f"{name}_mm"], out[f"{name}_rest_mm"] = float(error), float(rest)
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


class Average:
    """Running mean of a network's weights (Polyak)."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.steps = 0

    def update(self, network: torch.nn.Module) -> None:
        """One step; in the beginning the mean is short."""
        self.steps += 1
        keep = min(_DECAY, self.steps / (self.steps + 10.0))
        for name, value in network.state_dict().items():
            mine = self.state[name]
            if mine.dtype.is_floating_point:
                mine.mul_(keep).add_(value.detach(), alpha=1.0 - keep)
            else:
                mine.copy_(value)


def load_encoder(path: Path) -> FaceEncoder:
    """The running mean that a run has saved. Raises ModelError for another file."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist; a training run writes encoder.pt into its folder")
    content: dict[str, Any] = torch.load(path, weights_only=True)
    if "widths" not in content or "average" not in content:
        raise ModelError(f"{path} holds no face encoder")
    encoder = FaceEncoder(content["sizes"][0], content["sizes"][1], tuple(content["widths"]))
    encoder.load_state_dict(content["average"])
    return encoder


def train(shards: Path, run: Path, plan: Plan, start: Path | None = None) -> dict[str, float]:
    """Train for `plan.minutes` in all (over all its sittings); returns the last judgement.

    Writes encoder.pt and log.jsonl into `run`.
    """
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    run.mkdir(parents=True, exist_ok=True)
    head = load_head()
    encoder = load_encoder(start) if start is not None else FaceEncoder(head.expression_size, head.shape_size)
    encoder = encoder.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=plan.rate, weight_decay=plan.decay)
    average = Average(encoder)
    spent, step = 0.0, 0
    saved = run / "encoder.pt"
    if saved.exists():
        content = torch.load(saved, weights_only=True)
        if content["plan"]["bare"] != plan.bare:
            raise InputError(
                f"{saved} belongs to a run with --bare {content['plan']['bare']}; take another folder for --bare {plan.bare}"
            )
        encoder.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        average.state, average.steps = content["average"], content["steps"]
        spent, step = content["minutes"], content["steps"]
    paths = shard_paths(shards)
    validation, metric = Validation(paths[0], head), Metric.of(head)

    def make() -> Iterator[Batch]:
        return batches(
            shards,
            plan.batch,
            plan.seed + 1 + step,
            Augment(bare=plan.bare, strength=plan.strength),
            held_out=1,
        )

    validated: dict[str, float] = {}
    sums: dict[str, float] = {"_from": float(step)}
    begun = last = time.monotonic()

    def save() -> None:
        content = {
            "network": encoder.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average.state,
            "steps": average.steps,
            "minutes": minutes,
            "plan": asdict(plan),
            "widths": list(WIDTHS),
            "sizes": [encoder.expression_size, encoder.shape_size],
            "pictures": average.steps * plan.batch,
        }
        partial = saved.with_suffix(".partial")
        torch.save(content, partial)
        partial.replace(saved)

    minutes = spent
    for batch in ahead(make):
        minutes = spent + (time.monotonic() - begun) / 60.0
        along = min(minutes / plan.minutes, 1.0)
        rate = plan.rate * min((step + 1) / 200.0, 1.0) * (0.5 + 0.5 * math.cos(math.pi * along))
        for group in optimizer.param_groups:
            group["lr"] = rate
        picture, truth = tensors(batch)
        terms = losses(encoder(picture), truth, metric)
        loss: torch.Tensor = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
        optimizer.step()
        average.update(encoder)
        step += 1
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        ended = along >= 1.0
        if ended or time.monotonic() - last > 90.0:
            last = time.monotonic()
            shadow = FaceEncoder(encoder.expression_size, encoder.shape_size)
            shadow.load_state_dict(average.state)
            validated = validation(shadow)
            count = max(step - int(sums.pop("_from", 0)), 1)
            line = {"step": step, "minutes": round(minutes, 2), "rate": round(rate, 6)}
            line |= {name: round(value / count, 4) for name, value in sums.items()}
            line |= {name: round(value, 4) for name, value in validated.items()}
            with (run / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            sums = {"_from": float(step)}
            save()
        if ended:
            break
    return validated


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="train the face encoder on rendered heads")
    parser.add_argument("shards", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--start", type=Path, help="encoder.pt of another run to begin from")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument(
        "--bare",
        type=float,
        default=0.2,
        help="share of pictures without sensors; 1 for the encoder of bare faces",
    )
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=Path, help="write the run's encoder as ONNX and stop")
    arguments = parser.parse_args()
    if arguments.export is not None:
        content = torch.load(arguments.run / "encoder.pt", weights_only=True)
        about = {name: content[name] for name in ("minutes", "pictures", "plan")}
        export(load_encoder(arguments.run / "encoder.pt"), load_head(), arguments.export, about)
        return
    plan = Plan(
        arguments.minutes,
        arguments.batch,
        arguments.rate,
        bare=arguments.bare,
        seed=arguments.seed,
        threads=arguments.threads,
    )
    train(arguments.shards, arguments.run, plan, arguments.start)


if __name__ == "__main__":
    main()
