"""EIFER's phase 1 (Büchner et al., CVPR 2025): faces under sensors, reconstructed by learning to put sensors
on and take them off.

Two domains, unpaired: N (bare) and S (under sensors). Each translator reads a picture with its encoder, draws
the head plainly from what it read, hides the face in the picture (`losses.masked`) and lets its generator
paint the other domain's picture from those two. What the face does can only pass through the head model. Two
cycles, N -> S -> N and S -> N -> S, six losses, both directions alike.
"""

from __future__ import annotations

import copy
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import nn

from eifer_ros.errors import ConfigError, InputError, ModelError
from eifer_ros.head.fingerprint import fingerprint
from eifer_ros.head.model import HeadModel
from eifer_ros.head.torch_model import TorchHead
from eifer_ros.simulation.seeds import generator
from eifer_ros.types import U8
from research.common.ranks import Ranks
from research.common.torch_raster import FaceRenderer
from research.faces.face_data import Unpaired
from research.faces.face_models import Estimate, FaceModel
from research.faces.generators import STRIDE, FullGenerator, LiveGenerator, PatchDiscriminator
from research.faces.losses import Motion, Weights, least_squares, masked, transformation
from research.faces.smirk_encoder import check_names

FORMAT = 1
CHECKPOINT = "checkpoint.pt"
Size = Literal["live", "full"]
_LESS_KEPT = ("lips", "nose")


@dataclass(frozen=True)
class Settings:
    """One training run.

    size: side of the pictures, a multiple of 16. networks: `live` (small, dense convolutions: for a CPU and
    128 pixels) or `full` (SMIRK's size, for a GPU and 224). rate: of generators and discriminators; encoders
    learn `encoder_rate` times that, and only after the share `encoder_from` of the run, when the generators
    paint faces. The rate falls to nothing over the second half. kept: share of face pixels that M() leaves.
    pool: translated pictures the discriminators are shown again. ema: of the running mean of the weights.
    amp: bfloat16 in the networks. clip: largest norm of a gradient.
    """

    steps: int = 20_000
    batch: int = 8
    size: int = 128
    networks: Size = "live"
    rate: float = 2e-4
    encoder_rate: float = 0.1
    encoder_from: float = 0.15
    weights: Weights = field(default_factory=Weights)
    kept: float = 0.01
    pool: int = 50
    ema: float = 0.999
    amp: bool = False
    clip: float = 5.0
    seed: int = 0
    pictures_every: int = 500
    save_every: int = 250

    def check(self) -> None:
        """Raise ConfigError for a value that cannot be trained with."""
        if self.size % STRIDE or self.size < 2 * STRIDE:
            raise ConfigError(
                f"--size {self.size}: pictures have a side that is a multiple of {STRIDE}, at least {2 * STRIDE}"
            )
        for name in ("steps", "batch", "pictures_every", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}; it must be at least 1")
        if not (
            self.rate > 0
            and self.encoder_rate >= 0
            and 0 <= self.kept <= 1
            and 0 <= self.ema < 1
            and 0 <= self.encoder_from <= 1
        ):
            raise ConfigError(
                "rate must be above 0; encoder_rate 0 or more; kept, ema and encoder_from within 0..1"
            )


@dataclass(frozen=True)
class Cycle:
    """One picture through both translators.

    read: its estimate; render, hidden: what the generator saw; made: the translation; again: the estimate of
    that; back: translated back.
    """

    real: torch.Tensor
    read: Estimate
    render: torch.Tensor
    hidden: torch.Tensor
    painted: torch.Tensor
    again: Estimate
    back: torch.Tensor


class Networks(nn.Module):  # type: ignore[misc, unused-ignore]
    """E_N and E_S (copies of one pretrained encoder), G_NS and G_SN, D_N and D_S."""

    def __init__(self, encoder_n: FaceModel, encoder_s: FaceModel, networks: Size) -> None:
        super().__init__()
        self.encoder_n, self.encoder_s = encoder_n, encoder_s

        def paint() -> nn.Module:
            return (
                FullGenerator(6, whole=True) if networks == "full" else LiveGenerator(6, width=16, dense=True)
            )

        def discriminator() -> nn.Module:
            return PatchDiscriminator.full() if networks == "full" else PatchDiscriminator.live()

        self.generator_ns, self.generator_sn = paint(), paint()
        self.discriminator_n, self.discriminator_s = discriminator(), discriminator()

    def translators(self) -> list[nn.Parameter]:
        """Weights of the generators."""
        return [*self.generator_ns.parameters(), *self.generator_sn.parameters()]

    def encoders(self) -> list[nn.Parameter]:
        """Weights of the encoders."""
        return [*self.encoder_n.parameters(), *self.encoder_s.parameters()]

    def discriminators(self) -> list[nn.Parameter]:
        """Weights of the discriminators."""
        return [*self.discriminator_n.parameters(), *self.discriminator_s.parameters()]


class Painter:
    """Draws heads, hides faces, and runs one cycle."""

    def __init__(self, head: TorchHead, settings: Settings) -> None:
        self.settings = settings
        self.renderer = FaceRenderer(head, settings.size)
        model = head.head
        weight = np.ones((len(model.template), 1), np.float32)
        for region in _LESS_KEPT:
            if region in model.regions:
                weight[model.regions[region]] = 0.5
        self._weight = torch.as_tensor(weight, device=head.device)[self.renderer.faces][:, :, 0].mean(dim=1)
        self._grow = max(round(settings.size * 10 / 224), 1)

    def draw_and_mask(
        self, picture: torch.Tensor, read: Estimate, random: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The plain drawing of what was read, and the picture without its face, both (B, 3, size, size)."""
        render, fragments = self.renderer.draw(read.vertices, read.camera)
        weight = self._weight[fragments.face.clamp_min(0)] * fragments.covered
        hidden = masked(
            picture, fragments.covered, weight, random, kept_share=self.settings.kept, grow=self._grow
        )
        return render, hidden

    def paint(self, painter: nn.Module, render: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """The generator's picture (B, 3, size, size), 0..1.

        What it may leave as it is, is the hidden picture, never the original.
        """
        with torch.autocast(render.device.type, torch.bfloat16, enabled=self.settings.amp):
            painted: torch.Tensor = painter(torch.cat([hidden, render], dim=1)).picture
        return painted.float()

    def cycle(
        self,
        real: torch.Tensor,
        here: FaceModel,
        there: FaceModel,
        away: nn.Module,
        home: nn.Module,
        random: torch.Generator,
    ) -> Cycle:
        """`real` translated by `away` and back by `home`; `here` reads this domain, `there` the other."""
        read = here.read(real)
        render, hidden = self.draw_and_mask(real, read, random)
        painted = self.paint(away, render, hidden)
        again = there.read(painted)
        second, veiled = self.draw_and_mask(painted, again, random)
        return Cycle(real, read, render, hidden, painted, again, self.paint(home, second, veiled))


def objective(
    networks: Networks, n: Cycle, s: Cycle, motion: Motion, weights: Weights
) -> dict[str, torch.Tensor]:
    """Every loss of encoders and generators that is switched on, weighted, both directions together."""
    out: dict[str, torch.Tensor] = {}
    if weights.adversarial:
        fooled = least_squares(networks.discriminator_s(n.painted), True) + least_squares(
            networks.discriminator_n(s.painted), True
        )
        out["adversarial"] = weights.adversarial * fooled
    if weights.reconstruction:
        out["reconstruction"] = weights.reconstruction * sum((c.real - c.back).abs().mean() for c in (n, s))
    if weights.expression:
        out["expression"] = weights.expression * sum(motion.expression(c.read, c.again) for c in (n, s))
    if weights.transformation:
        out["transformation"] = weights.transformation * sum(transformation(c.read, c.again) for c in (n, s))
    if weights.minimal:
        out["minimal"] = weights.minimal * sum((c.real - c.painted).abs().mean() for c in (n, s))
    if weights.shape:
        out["shape"] = weights.shape * motion.shape([n.read, n.again, s.read, s.again])
    return out


class Pool:
    """Translated pictures of earlier steps: half of the time the discriminator sees one of them (Shrivastava
    et al. 2017).
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held: list[torch.Tensor] = []

    def swap(self, generated: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """(B, 3, H, W): each picture, or one from the pool whose place it takes."""
        out = []
        for one in generated.detach():
            if len(self.held) < self.capacity:
                self.held.append(one.clone())
                out.append(one)
            elif self.capacity and rng.random() < 0.5:
                place = int(rng.integers(self.capacity))
                out.append(self.held[place])
                self.held[place] = one.clone()
            else:
                out.append(one)
        return torch.stack(out)


class Trainer:
    """Phase 1 over `data`.

    Every random choice of a step depends on seed, step and rank alone, so that a resumed run is the same run.
    """

    def __init__(
        self,
        start: Callable[[], FaceModel],
        head: HeadModel,
        data: Unpaired,
        settings: Settings,
        run: Path,
        ranks: Ranks | None = None,
        about: Mapping[str, str] | None = None,
    ) -> None:
        settings.check()
        self.ranks = ranks if ranks is not None else Ranks(0, 1, torch.device("cpu"))
        self.settings, self.data, self.run, self.head = settings, data, run, head
        self.about = dict(about or {})
        torch.manual_seed(settings.seed)
        device = self.ranks.device
        self.networks = Networks(start(), start(), settings.networks).to(device)
        for encoder in (self.networks.encoder_n, self.networks.encoder_s):
            encoder.amp = settings.amp
        self.networks.train()
        self.kind = self.networks.encoder_n.kind
        torch_head = self.networks.encoder_n.head
        self.painter, self.motion = Painter(torch_head, settings), Motion(head, device)
        betas = (0.5, 0.999)
        groups = [{"params": self.networks.translators()}, {"params": self.networks.encoders()}]
        self.optimizer = torch.optim.Adam(groups, lr=settings.rate, betas=betas)
        self.discriminator_optimizer = torch.optim.Adam(
            self.networks.discriminators(), lr=settings.rate, betas=betas
        )
        self.average = {name: value.detach().clone() for name, value in self.networks.state_dict().items()}
        self.pools = (Pool(settings.pool), Pool(settings.pool))
        self.step = 0

    # --- one step

    def rates(self) -> tuple[float, float]:
        """Of generators (and discriminators) and of encoders at this step."""
        s = self.settings
        along = self.step / s.steps
        rate = s.rate * min(1.0, 2.0 * (1.0 - along)) * min(1.0, (self.step + 1) / 50.0)
        return rate, rate * s.encoder_rate if along >= s.encoder_from else 0.0

    def advance(self) -> dict[str, float]:
        """One step of everything; returns the losses."""
        s, nets, device = self.settings, self.networks, self.ranks.device
        bare, sensors = (part.to(device) for part in self.data.batch(self.step, s.batch, self.ranks.rank))
        choice = generator(s.seed, "step", self.step, self.ranks.rank)
        random = torch.Generator(device).manual_seed(int(choice.integers(2**62)))
        rate, encoder_rate = self.rates()
        self.optimizer.param_groups[0]["lr"], self.optimizer.param_groups[1]["lr"] = rate, encoder_rate
        self.discriminator_optimizer.param_groups[0]["lr"] = rate
        for parameter in nets.discriminators():
            parameter.requires_grad_(False)
        for parameter in nets.encoders():
            parameter.requires_grad_(encoder_rate > 0.0)
        n = self.painter.cycle(
            bare, nets.encoder_n, nets.encoder_s, nets.generator_ns, nets.generator_sn, random
        )
        c = self.painter.cycle(
            sensors, nets.encoder_s, nets.encoder_n, nets.generator_sn, nets.generator_ns, random
        )
        terms = objective(nets, n, c, self.motion, s.weights)
        self.optimizer.zero_grad(set_to_none=True)
        if terms:
            torch.stack(list(terms.values())).sum().backward()
        learning = [*nets.translators(), *nets.encoders()]
        self.ranks.average_gradients(learning)
        sound = all(bool(torch.isfinite(p.grad).all()) for p in learning if p.grad is not None)
        if sound:  # one broken picture must not end a night's training
            torch.nn.utils.clip_grad_norm_(learning, s.clip)
            self.optimizer.step()
        for parameter in nets.discriminators():
            parameter.requires_grad_(True)
        figures = {name: float(value.detach()) for name, value in terms.items()}
        if s.weights.adversarial:
            figures["judges"] = self._train_discriminators(bare, sensors, n.painted, c.painted, choice)
        if not sound:
            figures["left_out"] = 1.0
        self.ranks.average_running(nets)
        self._follow()
        self.step += 1
        return figures

    def _train_discriminators(
        self,
        bare: torch.Tensor,
        sensors: torch.Tensor,
        under: torch.Tensor,
        freed: torch.Tensor,
        rng: np.random.Generator,
    ) -> float:
        nets = self.networks
        loss = torch.zeros((), device=bare.device)
        for discriminator, real, generated, pool in (
            (nets.discriminator_s, sensors, under, self.pools[0]),
            (nets.discriminator_n, bare, freed, self.pools[1]),
        ):
            loss = loss + 0.5 * (
                least_squares(discriminator(real), True)
                + least_squares(discriminator(pool.swap(generated, rng)), False)
            )
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.average_gradients(nets.discriminators())
        torch.nn.utils.clip_grad_norm_(nets.discriminators(), self.settings.clip)
        self.discriminator_optimizer.step()
        return float(loss.detach())

    def _follow(self) -> None:
        keep = min(self.settings.ema, (self.step + 1.0) / (self.step + 10.0))
        for name, value in self.networks.state_dict().items():
            mine = self.average[name]
            if mine.dtype.is_floating_point:
                mine.mul_(keep).add_(value.detach(), alpha=1.0 - keep)
            else:
                mine.copy_(value)

    # --- a run

    def train(
        self,
        report_losses: Callable[[int, dict[str, float]], None] | None = None,
        stop: Callable[[], bool] | None = None,
        log: Callable[[int, dict[str, float]], None] | None = None,
    ) -> bool:
        """Until the last step, or until `stop` says so (the checkpoint is written either way).

        Returns whether the run is complete.
        """
        sums: dict[str, deque[float]] = {}
        begun = time.monotonic()
        while self.step < self.settings.steps:
            for name, value in self.advance().items():
                sums.setdefault(name, deque(maxlen=100)).append(value)
            means = {name: sum(values) / len(values) for name, values in sums.items()}
            if report_losses is not None:
                report_losses(self.step, means)
            stop_requested = bool(self.ranks.share(stop is not None and stop()))
            if self.ranks.first and (
                self.step % self.settings.save_every == 0
                or stop_requested
                or self.step == self.settings.steps
            ):
                line = {
                    "step": self.step,
                    "seconds": round(time.monotonic() - begun, 1),
                    **{k: round(v, 5) for k, v in means.items()},
                }
                with (self.run / "log.jsonl").open("a") as file:
                    file.write(json.dumps(line) + "\n")
                if log is not None:
                    log(self.step, means)
                self.save()
            if self.ranks.first and (
                self.step % self.settings.pictures_every == 0 or self.step == self.settings.steps
            ):
                self.save_pictures(self.run / "pictures" / f"step_{self.step:06d}.png")
            if stop_requested:
                break
        self.ranks.wait()
        return self.step >= self.settings.steps

    def averaged(self) -> Networks:
        """The networks with the running mean of their weights, for use and for looking at; not for training
        on.
        """
        heads = [encoder.head for encoder in (self.networks.encoder_n, self.networks.encoder_s)]
        out: Networks = copy.deepcopy(self.networks, {id(head): head for head in heads})
        out.load_state_dict(self.average)
        out.eval()
        return out

    def pictures(self, count: int = 4) -> U8:
        """A sheet of held-out pictures: bare rows, then rows under sensors; real, drawing, hidden,
        translated, drawing of that, back.
        """
        nets, device = self.averaged(), self.ranks.device
        random = torch.Generator(device).manual_seed(self.settings.seed)
        rows = []
        bare, sensors = (part.to(device) for part in self.data.some(count))
        with torch.no_grad():
            n = self.painter.cycle(
                bare, nets.encoder_n, nets.encoder_s, nets.generator_ns, nets.generator_sn, random
            )
            s = self.painter.cycle(
                sensors, nets.encoder_s, nets.encoder_n, nets.generator_sn, nets.generator_ns, random
            )
            for cycle in (n, s):
                drawn, _ = self.painter.renderer.draw(cycle.again.vertices, cycle.again.camera)
                parts = torch.cat(
                    [cycle.real, cycle.render, cycle.hidden, cycle.painted, drawn, cycle.back], dim=3
                )
                rows.append(
                    (parts.clamp(0, 1) * 255.0)
                    .round()
                    .byte()
                    .permute(0, 2, 3, 1)
                    .cpu()
                    .numpy()
                    .reshape(-1, parts.shape[3], 3)
                )
        return np.asarray(np.concatenate(rows), np.uint8)

    def save_pictures(self, path: Path) -> None:
        """Write `pictures` as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.cvtColor(self.pictures(), cv2.COLOR_RGB2BGR))

    # --- checkpoints

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must share with a run that goes on from it.

        A run may be made longer; its rate then falls later.
        """
        settings = asdict(self.settings)
        free = ("steps", "amp", "pictures_every", "save_every")
        return {
            "encoder": self.kind,
            "head_model": self.head.id,
            "head_fingerprint": fingerprint(self.head),
            "settings": {name: value for name, value in settings.items() if name not in free},
            "data": self.about,
        }

    def save(self) -> None:
        """Write the checkpoint in one step: a power cut leaves the old one or the new one, never half of one."""
        self.run.mkdir(parents=True, exist_ok=True)
        content = {
            "format": FORMAT,
            "kind": "eifer_phase_one",
            "identity": self.identity(),
            "step": self.step,
            "networks": self.networks.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "judges": self.discriminator_optimizer.state_dict(),
            "pools": [torch.stack(pool.held) if pool.held else None for pool in self.pools],
        }
        partial = self.run / f"{CHECKPOINT}.partial"
        torch.save(content, partial)
        partial.replace(self.run / CHECKPOINT)

    def resume(self) -> bool:
        """Go on from the run's checkpoint; False where there is none.

        Raises InputError for a damaged file, ModelError for one of another architecture, head model or run.
        """
        path = self.run / CHECKPOINT
        if not path.exists():
            return False
        content = read_checkpoint(path)
        theirs, mine = content["identity"], self.identity()
        parts = {
            "encoder": "kind of encoder",
            "head_model": "head model",
            "head_fingerprint": "version of the head model",
        }
        for name, words in parts.items():
            if theirs.get(name) != mine[name]:
                raise ModelError(
                    f"{path}: was trained with another {words} ({theirs.get(name)}, not {mine[name]}); give another --out"
                )
        check_names(path, "a checkpoint of these networks", self.networks.state_dict(), content["networks"])
        for part in ("settings", "data"):
            for name, value in mine[part].items():
                if theirs[part].get(name) != value:
                    raise InputError(
                        f"{path}: belongs to a run with {name} = {theirs[part].get(name)}, not {value}; give another --out"
                    )
        self.networks.load_state_dict(content["networks"])
        self.average = {name: value.to(self.ranks.device) for name, value in content["average"].items()}
        self.optimizer.load_state_dict(content["optimizer"])
        self.discriminator_optimizer.load_state_dict(content["judges"])
        for pool, held in zip(self.pools, content["pools"], strict=True):
            pool.held = [] if held is None else list(held.to(self.ranks.device))
        self.step = int(content["step"])
        return True


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of phase 1, read by the restricted loader.

    Raises InputError or ModelError for another file.
    """
    from research.faces.smirk_encoder import read_tensors

    content = read_tensors(path)
    if content.get("kind") != "eifer_phase_one":
        raise ModelError(f"{path}: not a checkpoint of phase 1")
    if content.get("format") != FORMAT:
        raise ModelError(
            f"{path}: checkpoint format {content.get('format')}; this version of eifer reads format {FORMAT}"
        )
    missing = {"identity", "step", "networks", "average", "optimizer", "judges", "pools"} - set(content)
    if missing:
        raise ModelError(f"{path}: not a whole checkpoint: {', '.join(sorted(missing))} missing")
    return content


def for_this_machine(settings: Settings, device: torch.device) -> Settings:
    """`settings` with bfloat16 switched on where a GPU does it."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return replace(settings, amp=True)
    return settings
