"""Trains the face restorer: sensors taken off the tracked crop of a face, and a map of what was covered.

    python -m research.faces.pictures shards --people 6000
    python -m research.faces.restoration shards runs/restorer --minutes 60
    python -m research.faces.restoration shards runs/restorer --sheet sheet.png
    python -m research.faces.restoration shards runs/restorer --export models/face_restorer.onnx

The removal generator of EIFER's phase 1 (Büchner et al., CVPR 2025: G from S to N), learnt from pairs, which
the simulated participant gives and reality does not. Losses: L1, more where something is covered, most at
eyes, brows and mouth; structural similarity (Wang et al. 2004) of the brightness, as Zhao et al. 2017 advise
beside L1; differences of neighbouring pixels; cross-entropy of the mask. Pictures without sensors are among
the inputs: what is bare must stay as it is. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from eifer_ros.errors import ModelError
from eifer_ros.head.fingerprint import fingerprint
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.reconstruction.encoder.face_crop import MARGIN, POINTS, SIZE
from eifer_ros.training.loop import (
    Average,
    Budget,
    Checkpoint,
    Loop,
    descend,
    linear_fall,
    set_rates,
    threads,
    warm_up,
)
from eifer_ros.training.tensors import read_tensors
from eifer_ros.types import F32, U8
from research.common.recipe import option, parser, run, settings_of
from research.faces.face_encoder import halve_weights
from research.faces.generators import LiveGenerator, PatchDiscriminator, composite, multiply_accumulates
from research.faces.losses import least_squares
from research.faces.picture_batches import Augment, Batch, ahead, batches, sample
from research.faces.pictures import Shard, shard_paths

CHECKPOINT = "restorer.pt"
_AVERAGE = 0.998
WIDTH = 16
"""Channels of the finest scale of the shipped restorer, whose convolutions are dense."""
OUTPUTS = ("restored", "occlusion")
SURE = 0.06
"""Mask values this near to 0 or 1 count as 0 or 1, so that bare skin comes back bit by bit as it was."""

_REST = 0.3
"""Weight of pixels that are not covered, beside 1 for those that are."""

_PARTS = (  # outlines of what an expression is read from
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
    (46, 53, 52, 65, 55, 70, 63, 105, 66, 107),
    (276, 283, 282, 295, 285, 300, 293, 334, 296, 336),
)
_ROWS = tuple(np.array([POINTS.index(one) for one in part]) for part in _PARTS)


@dataclass(frozen=True)
class Plan:
    """One training run. The rate falls to nothing over its last third."""

    minutes: float = option(60.0, "length of the run over all its sittings")
    batch: int = option(16, "pictures a step", least=1)
    rate: float = option(2e-3, "learning rate")
    bare: float = option(0.25, "share of pictures without sensors")
    partly: float = option(0.25, "share of pictures with sensors on part of the face")
    strength: float = option(1.0, "how much light and lens vary")
    seed: int = option(0, "seed of everything random", least=0)
    threads: int = option(1, "threads of torch", least=1)
    adversarial: float = option(0.0, "weight of a discriminator in the last third; 0 for none")
    width: int = option(WIDTH, "channels of the finest scale")
    every_s: float = option(120.0, "seconds between two checkpoints", ["--every"])


@dataclass(frozen=True)
class Pairs:
    """picture, bare: (N, 3, H, W) 0..1. cover: (N, 1, H, W) 0..1, where a sensor is seen.

    detail: (N, 1, H, W) 0..1, eyes, brows, mouth.
    """

    picture: torch.Tensor
    bare: torch.Tensor
    cover: torch.Tensor
    detail: torch.Tensor

    @staticmethod
    def of(batch: Batch, flip: torch.Tensor | None = None) -> Pairs:
        """From a batch; those of `flip` (N,) bool are mirrored."""
        picture, bare = (
            torch.from_numpy(values).permute(0, 3, 1, 2).float() / 255.0
            for values in (batch.picture, batch.bare)
        )
        within = torch.from_numpy(batch.mask)[:, None] > 0
        # the shards' masks are wide; what is covered is where the pictures of a pair do differ
        cover = ((picture - bare).abs().amax(1, keepdim=True) * (255.0 / 24.0) - 0.25).clamp(
            0.0, 1.0
        ) * within
        cover = F.max_pool2d(cover, 3, 1, 1)
        pairs = Pairs(picture, bare, cover, torch.from_numpy(detail_of(batch.landmarks))[:, None])
        if flip is None:
            return pairs

        def mirrored(values: torch.Tensor) -> torch.Tensor:
            return torch.where(flip[:, None, None, None], values.flip(3), values)

        return Pairs(
            mirrored(pairs.picture), mirrored(pairs.bare), mirrored(pairs.cover), mirrored(pairs.detail)
        )


def detail_of(landmarks: F32) -> F32:
    """(N, SIZE, SIZE) 1 on mouth, lids and brows with soft edges, from (N, L, 2) landmarks in crop units."""
    out = np.zeros((len(landmarks), SIZE, SIZE), np.float32)
    for plane, points in zip(out, landmarks, strict=True):
        for rows in _ROWS:
            hull = cv2.convexHull(np.round(points[rows] * SIZE).astype(np.int32))
            cv2.fillConvexPoly(plane, hull, 1.0)
        plane[:] = cv2.GaussianBlur(cv2.dilate(plane, np.ones((5, 5), np.uint8)), (0, 0), 1.5)
    return out


class Restorer(nn.Module):  # type: ignore[misc, unused-ignore]
    """(N, 3, H, W) RGB 0..1 to the picture without sensors (N, 3, H, W) 0..1 and the logits of what was
    covered (N, 1, H, W).
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.generator = LiveGenerator(3, width, dense=True)

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 3, H, W) RGB 0..1 to the picture without sensors and the logits of the mask."""
        paint, logits = self.generator.paint((picture - 0.45) * 4.0)
        return composite(picture, paint, occlusion(logits)), logits


def occlusion(logits: torch.Tensor) -> torch.Tensor:
    """0..1 from the mask's logits: the sigmoid, its ends cut off at `SURE`."""
    return ((torch.sigmoid(logits) - SURE) / (1.0 - 2.0 * SURE)).clamp(0.0, 1.0)


def brightness(picture: torch.Tensor) -> torch.Tensor:
    """(N, 1, H, W) luma (ITU-R BT.601) of RGB."""
    weights = picture.new_tensor([0.299, 0.587, 0.114])[None, :, None, None]
    return (picture * weights).sum(1, keepdim=True)


@functools.lru_cache(maxsize=4)
def _window(side: int) -> torch.Tensor:
    """(side, side - 10) every column the Gaussian window at one place."""
    window = torch.exp(-((torch.arange(11.0) - 5.0) ** 2) / (2.0 * 1.5**2))
    return torch.stack([F.pad(window / window.sum(), (k, side - 11 - k)) for k in range(side - 10)], dim=1)


def similarity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(N, 1, H - 10, W - 10) structural similarity of brightness 0..1: Gaussian window of 11 pixels,
    deviation 1.5 (Wang et al. 2004).
    """
    count = len(first)
    rows, columns = (_window(side).to(first) for side in first.shape[2:])
    # a product with a banded matrix: many times faster here than a convolution of single planes
    planes = rows.T @ torch.cat([first, second, first * first, second * second, first * second]) @ columns
    a, b, aa, bb, ab = planes.split(count)
    c1 = 0.01**2
    c2 = 0.03**2
    return (
        (2 * a * b + c1) * (2 * (ab - a * b) + c2) / ((a * a + b * b + c1) * (aa - a * a + bb - b * b + c2))
    )


def losses(restored: torch.Tensor, logits: torch.Tensor, pairs: Pairs) -> dict[str, torch.Tensor]:
    """Every term, weighted."""
    importance = (_REST + pairs.cover) * (1.0 + 2.0 * pairs.detail)
    total = importance.sum()
    off = (restored - pairs.bare).abs()
    across = (restored[..., 1:] - restored[..., :-1] - pairs.bare[..., 1:] + pairs.bare[..., :-1]).abs()
    along = (
        restored[..., 1:, :] - restored[..., :-1, :] - pairs.bare[..., 1:, :] + pairs.bare[..., :-1, :]
    ).abs()
    alike = similarity(brightness(restored), brightness(pairs.bare))
    inside = importance[..., 5:-5, 5:-5]
    return {
        "colour": 4.0 * (off.mean(1, keepdim=True) * importance).sum() / total,
        "edges": 2.0
        * (
            (across.mean(1, keepdim=True) * importance[..., 1:]).sum()
            + (along.mean(1, keepdim=True) * importance[..., 1:, :]).sum()
        )
        / total,
        "structure": 0.5 * ((1.0 - alike) * inside).sum() / inside.sum(),
        "mask": 0.3 * F.binary_cross_entropy_with_logits(logits, pairs.cover),
    }


class Evaluation:
    """Quality on people whom the run does not learn from: the first shard of the folder, as tracked crops,
    all sensors on, and bare.
    """

    def __init__(self, path: Path, count: int = 64) -> None:
        shard = Shard.load(path)
        rng = np.random.default_rng(1)
        noise = np.zeros((1, 1, 1, 1), np.int8)
        self.sets = {}
        for name, bare in (("sensors", 0.0), ("bare", 1.0)):
            settings = Augment(bare=bare, partly=0.0, negatives=0.0, strength=0.0)
            indices = np.linspace(0, len(shard.bare) - 1, min(count, len(shard.bare))).astype(int)
            rows = [sample(shard, int(i), rng, settings, noise) for i in indices]
            picture, cut, mask, points, expression, shape, rotation = (
                np.stack([row[k] for row in rows]) for k in range(7)
            )
            self.sets[name] = Pairs.of(
                Batch(picture, cut, mask, points, expression, shape, rotation, np.ones(len(rows), np.float32))
            )

    def run(self, restorer: Restorer, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Restored pictures and masks of one of the sets."""
        restorer.eval()
        picture = self.sets[name].picture
        outputs = []
        with torch.no_grad():
            for start in range(0, len(picture), 32):
                restored, logits = restorer(
                    picture[start : start + 32].contiguous(memory_format=torch.channels_last)
                )
                outputs.append((restored, occlusion(logits)))
        restorer.train()
        return torch.cat([one for one, _ in outputs]), torch.cat([one for _, one in outputs])

    def __call__(self, restorer: Restorer) -> dict[str, float]:
        """PSNR in dB and SSIM of the whole crop, RMS error where covered and at details, overlap of the mask,
        change of bare pictures.
        """
        pairs = self.sets["sensors"]
        restored, mask = self.run(restorer, "sensors")
        square = ((restored - pairs.bare) ** 2).mean(1, keepdim=True)
        before = ((pairs.picture - pairs.bare) ** 2).mean((1, 2, 3))
        covered = pairs.cover > 0.5
        both = (mask > 0.5) & covered
        either = (mask > 0.5) | covered
        bare, _ = self.run(restorer, "bare")
        return {
            "psnr_db": float((-10.0 * torch.log10(square.mean((1, 2, 3)).clamp_min(1e-9))).mean()),
            "psnr_before_db": float((-10.0 * torch.log10(before.clamp_min(1e-9))).mean()),
            "ssim": float(similarity(brightness(restored), brightness(pairs.bare)).mean()),
            "ssim_before": float(similarity(brightness(pairs.picture), brightness(pairs.bare)).mean()),
            "covered_rms": float(square[covered].mean().sqrt()),
            "detail_rms": float(square[covered & (pairs.detail > 0.5)].mean().sqrt()),
            "mask_iou": float(both.sum() / either.sum().clamp_min(1)),
            "bare_change_rms": float(((bare - self.sets["bare"].picture) ** 2).mean().sqrt()),
        }


def sheet(evaluation: Evaluation, restorer: Restorer, count: int = 12) -> U8:
    """Columns of pictures: input, restored, truth, mask; the last three columns are bare inputs."""
    columns = []
    for name, share in (("sensors", count - 3), ("bare", 3)):
        pairs = evaluation.sets[name]
        restored, mask = evaluation.run(restorer, name)
        for i in np.linspace(0, len(restored) - 1, share).astype(int):
            tall = torch.cat([pairs.picture[i], restored[i], pairs.bare[i], mask[i].expand(3, -1, -1)], dim=1)
            columns.append((tall.permute(1, 2, 0).clamp(0.0, 1.0).numpy() * 255.0).round().astype(np.uint8))
    return np.asarray(
        cv2.resize(np.hstack(columns), None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC), np.uint8
    )


def load_restorer(path: Path) -> Restorer:
    """The running mean that a run has saved. Raises ModelError for another file."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist; a training run writes restorer.pt into its folder")
    content = read_tensors(path)
    if content.get("kind") != "face_restorer":
        raise ModelError(f"{path} holds no face restorer")
    restorer = Restorer(content["width"])
    restorer.load_state_dict(content["average"])
    return restorer


def new_restorer(plan: Plan) -> Restorer:
    """The network a run begins with, which is fixed by its seed."""
    torch.manual_seed(plan.seed)
    restorer: Restorer = Restorer(plan.width).to(memory_format=torch.channels_last).train()
    return restorer


def train(
    shards: Path, folder: Path, plan: Plan, clock: Callable[[], float] = time.monotonic
) -> dict[str, float]:
    """Train for `plan.minutes` of `clock` (s) over all sittings; returns the last evaluation.

    Writes restorer.pt and log.jsonl into `folder`.

    Raises InputError for a folder without shards, and as `Checkpoint.load` for a folder of another run.
    """
    restorer = new_restorer(plan)
    critic = PatchDiscriminator(3, plan.width, 2)
    optimizer = torch.optim.AdamW(restorer.parameters(), lr=plan.rate, weight_decay=1e-3)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=plan.rate / 4.0, betas=(0.5, 0.99))
    average = Average(restorer, _AVERAGE)
    parts = {
        "network": restorer,
        "optimizer": optimizer,
        "critic": critic,
        "critic_optimizer": critic_optimizer,
        "average": average,
    }

    def about() -> dict[str, object]:
        return {"width": plan.width, "pictures": loop.step * plan.batch, "plan": asdict(plan)}

    identity = {"settings": {"width": plan.width}}
    checkpoint = Checkpoint(folder / CHECKPOINT, "face_restorer", parts, identity, about)
    loop = Loop(
        Budget(minutes=plan.minutes),
        checkpoint,
        log=folder / "log.jsonl",
        save_every_s=plan.every_s,
        echo=True,
        clock=clock,
    )
    loop.resume()
    first = loop.step
    evaluation = Evaluation(shard_paths(shards)[0])
    flips = torch.Generator().manual_seed(plan.seed + 7919 * first)

    def make() -> Iterator[Batch]:
        augment = Augment(bare=plan.bare, partly=plan.partly, negatives=0.0, strength=plan.strength)
        return batches(shards, plan.batch, plan.seed + 1 + first, augment, pool=24, held_out=1)

    pictures = ahead(make)
    scores: dict[str, float] = {}

    def advance(step: int, along: float) -> dict[str, torch.Tensor]:
        rate = plan.rate * warm_up(step, 100) * linear_fall(along, 1.0 / 3.0)
        set_rates(optimizer, rate)
        set_rates(critic_optimizer, rate / 4.0)
        batch = next(pictures)
        pairs = Pairs.of(batch, torch.rand(len(batch.picture), generator=flips) < 0.5)
        restored, logits = restorer(pairs.picture.contiguous(memory_format=torch.channels_last))
        terms = losses(restored, logits, pairs)
        if plan.adversarial > 0.0 and along > 2.0 / 3.0:
            terms |= _adversarial(critic, critic_optimizer, restored, pairs.bare, plan.adversarial)
        descend(optimizer, terms, clip=2.0)
        average.update(restorer, step)
        return terms

    def validation(step: int, means: dict[str, float]) -> dict[str, float]:
        shadow = Restorer(plan.width)
        shadow.load_state_dict(average.state)
        scores.update(evaluation(shadow))
        return scores

    with threads(plan.threads):
        loop.run(advance, judge=validation)
    return scores


def _adversarial(
    critic: PatchDiscriminator,
    optimizer: torch.optim.Optimizer,
    restored: torch.Tensor,
    bare: torch.Tensor,
    weight: float,
) -> dict[str, torch.Tensor]:
    """One step of the discriminator, and what it has to say to the restorer."""
    for parameter in critic.parameters():
        parameter.requires_grad_(True)
    loss = least_squares(critic(bare), True) + least_squares(critic(restored.detach()), False)
    descend(optimizer, {"critic": loss})
    for parameter in critic.parameters():
        parameter.requires_grad_(False)
    return {"adversarial": weight * least_squares(critic(restored), True)}


class _Exported(nn.Module):  # type: ignore[misc, unused-ignore]
    """What runs later: probabilities instead of logits, values kept in 0..1."""

    def __init__(self, restorer: Restorer) -> None:
        super().__init__()
        self.restorer = restorer

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        restored, logits = self.restorer(picture)
        return restored.clamp(0.0, 1.0), occlusion(logits)


def export(restorer: Restorer, head: HeadModel, path: Path, about: dict[str, object]) -> None:
    """Write `restorer` as ONNX with half-precision weights.

    `about`: what the model card says of its training.
    """
    import onnx

    module = _Exported(restorer.eval().to(memory_format=torch.contiguous_format)).eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.onnx")
    picture = torch.zeros(1, 3, SIZE, SIZE)
    torch.onnx.export(
        module,
        (picture,),
        str(partial),
        input_names=["picture"],
        output_names=list(OUTPUTS),
        dynamic_axes={name: {0: "n"} for name in ("picture", *OUTPUTS)},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(partial))
    halve_weights(model)
    content = {
        "kind": "face_restorer",
        "size": SIZE,
        "margin": MARGIN,
        "points": list(POINTS),
        "head_model": head.id,
        "head_fingerprint": fingerprint(head),
        "licence": "Apache-2.0",
        "multiply_accumulates": multiply_accumulates(module, picture),
        "parameters": sum(weights.numel() for weights in restorer.parameters()),
        **about,
    }
    model.metadata_props.add(key="eifer", value=json.dumps(content))
    onnx.checker.check_model(model)
    onnx.save(model, str(partial))
    partial.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: train on shards, export a run, or draw its sheet."""
    options = parser(__doc__, Plan)
    options.add_argument("shards", type=Path)
    options.add_argument("run", type=Path)
    options.add_argument(
        "--sheet", type=Path, help="draw inputs, results and truths of held-out people (.png) and stop"
    )
    options.add_argument("--export", type=Path, help="write the run's restorer as ONNX and stop")
    values = options.parse_args(arguments)
    saved = values.run / CHECKPOINT
    if values.sheet is not None:
        drawn = sheet(Evaluation(shard_paths(values.shards)[0]), load_restorer(saved))
        cv2.imwrite(str(values.sheet), drawn[:, :, ::-1])
    elif values.export is not None:
        content = read_tensors(saved)
        about = {name: content[name] for name in ("minutes", "pictures", "plan")}
        export(load_restorer(saved), load_head(), values.export, about)
    else:
        train(values.shards, values.run, settings_of(Plan, values))


if __name__ == "__main__":
    run(main)
