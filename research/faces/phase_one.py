"""EIFER's phase 1 (Büchner et al., CVPR 2025): faces under sensors, reconstructed by learning to put sensors
on and take them off.

Two domains, unpaired: N (bare) and S (under sensors). Each translator reads a picture with its encoder, draws
the head plainly from what it read, hides the face in the picture (`losses.masked`) and lets its generator
paint the other domain's picture from those two. What the face does can only pass through the head model. Two
cycles, N -> S -> N and S -> N -> S, six losses, both directions alike.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import nn

from eifer_ros.errors import ConfigError
from eifer_ros.head.fingerprint import fingerprint
from eifer_ros.head.model import HeadModel
from eifer_ros.head.torch_model import TorchHead
from eifer_ros.simulation.seeds import generator
from eifer_ros.training.loop import (
    Average,
    Budget,
    Checkpoint,
    Loop,
    descend,
    linear_fall,
    set_rates,
    warm_up,
)
from eifer_ros.types import U8
from research.common.ranks import Ranks
from research.common.recipe import option
from research.common.torch_raster import FaceRenderer
from research.faces.face_data import Unpaired
from research.faces.face_models import Estimate, FaceModel
from research.faces.generators import STRIDE, FullGenerator, LiveGenerator, PatchDiscriminator
from research.faces.losses import Motion, Weights, least_squares, masked, transformation

CHECKPOINT = "checkpoint.pt"
Size = Literal["live", "full"]
_LESS_KEPT = ("lips", "nose")


@dataclass(frozen=True)
class Settings:
    """One training run.

    rate: of generators and discriminators; encoders learn `encoder_rate` times that, and only after the share
    `encoder_from` of the run, when the generators paint faces. The rate falls to nothing over the second half.
    kept: share of face pixels that M() leaves. pool: translated pictures the discriminators are shown again.
    ema: of the running mean of the weights. amp: bfloat16 in the networks. clip: largest norm of a gradient.
    """

    steps: int = option(20_000, "length of the run", least=1)
    batch: int = option(8, "pictures of each side a step, in each process", least=1)
    size: int = option(128, "side of the pictures, a multiple of 16: 128 on a CPU, 224 as in the paper")
    networks: Size = option("live", "live (small, dense convolutions) or full (SMIRK's size)")
    rate: float = 2e-4
    encoder_rate: float = option(0.1, "learning rate of the encoders over that of the generators", least=0)
    encoder_from: float = 0.15
    weights: Weights = field(default_factory=Weights)
    kept: float = 0.01
    pool: int = 50
    ema: float = 0.999
    amp: bool = False
    clip: float = 5.0
    seed: int = option(0, "seed of everything random", least=0)
    pictures_every: int = option(500, "steps between two sheets of held-out pictures", least=1)
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
        self.encoder_n = encoder_n
        self.encoder_s = encoder_s

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

    def state_dict(self) -> torch.Tensor | None:
        """(n, 3, H, W) what is in it."""
        return torch.stack(self.held) if self.held else None

    def load_state_dict(self, state: torch.Tensor | None) -> None:
        """Go on from `state_dict`."""
        self.held = [] if state is None else list(state)

    def swap(self, generated: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """(B, 3, H, W): each picture, or one from the pool whose place it takes."""
        out = []
        for one in generated.detach():
            if len(self.held) < self.capacity:
                self.held.append(one.clone())
                out.append(one)
            elif self.capacity and rng.random() < 0.5:
                place = int(rng.integers(self.capacity))
                out.append(self.held[place].to(generated.device))
                self.held[place] = one.clone()
            else:
                out.append(one)
        return torch.stack(out)


class Pools:
    """Translated pictures that the discriminators of either side are shown again."""

    def __init__(self, capacity: int) -> None:
        self.sensors = Pool(capacity)
        self.bare = Pool(capacity)

    def state_dict(self) -> list[torch.Tensor | None]:
        """Both."""
        return [self.sensors.state_dict(), self.bare.state_dict()]

    def load_state_dict(self, state: list[torch.Tensor | None]) -> None:
        """Go on from `state_dict`."""
        self.sensors.load_state_dict(state[0])
        self.bare.load_state_dict(state[1])


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
        self.settings = settings
        self.data = data
        self.run = run
        self.head = head
        self.about = dict(about or {})
        torch.manual_seed(settings.seed)
        device = self.ranks.device
        self.networks = Networks(start(), start(), settings.networks).to(device)
        for encoder in (self.networks.encoder_n, self.networks.encoder_s):
            encoder.amp = settings.amp
        self.networks.train()
        self.kind = self.networks.encoder_n.kind
        torch_head = self.networks.encoder_n.head
        self.painter = Painter(torch_head, settings)
        self.motion = Motion(head, device)
        betas = (0.5, 0.999)
        groups = [{"params": self.networks.translators()}, {"params": self.networks.encoders()}]
        self.optimizer = torch.optim.Adam(groups, lr=settings.rate, betas=betas)
        self.discriminator_optimizer = torch.optim.Adam(
            self.networks.discriminators(), lr=settings.rate, betas=betas
        )
        self.average = Average(self.networks, settings.ema)
        self.pools = Pools(settings.pool)
        parts = {
            "networks": self.networks,
            "average": self.average,
            "optimizer": self.optimizer,
            "judges": self.discriminator_optimizer,
            "pools": self.pools,
        }
        checkpoint = Checkpoint(run / CHECKPOINT, "eifer_phase_one", parts, self.identity())
        self.loop = Loop(
            Budget(settings.steps),
            checkpoint,
            log=run / "log.jsonl",
            save_every=settings.save_every,
            writes=self.ranks.first,
        )

    # --- one step

    def rates(self, step: int, along: float) -> tuple[float, float]:
        """Of generators (and discriminators) and of encoders."""
        s = self.settings
        rate = s.rate * linear_fall(along, 0.5) * warm_up(step, 50)
        return rate, rate * s.encoder_rate if along >= s.encoder_from else 0.0

    def advance(self, step: int, along: float) -> dict[str, float]:
        """One step of everything; returns the losses."""
        s = self.settings
        nets = self.networks
        device = self.ranks.device
        bare, sensors = (part.to(device) for part in self.data.batch(step, s.batch, self.ranks.rank))
        choice = generator(s.seed, "step", step, self.ranks.rank)
        random = torch.Generator(device).manual_seed(int(choice.integers(2**62)))
        rate, encoder_rate = self.rates(step, along)
        set_rates(self.optimizer, rate, encoder_rate)
        set_rates(self.discriminator_optimizer, rate)
        for parameter in nets.discriminators():
            parameter.requires_grad_(False)
        for parameter in nets.encoders():
            parameter.requires_grad_(encoder_rate > 0.0)
        n, c = self._cycles(nets, bare, sensors, random)
        terms = objective(nets, n, c, self.motion, s.weights)
        sound = descend(self.optimizer, terms, clip=s.clip, average_gradients=self.ranks.average_gradients)
        for parameter in nets.discriminators():
            parameter.requires_grad_(True)
        losses = {name: float(value.detach()) for name, value in terms.items()}
        if s.weights.adversarial:
            losses["judges"] = self._discriminate(bare, sensors, n.painted, c.painted, choice)
        if not sound:
            losses["left_out"] = 1.0
        self.ranks.average_running(nets)
        self.average.update(nets, step)
        return losses

    def _cycles(
        self, nets: Networks, bare: torch.Tensor, sensors: torch.Tensor, random: torch.Generator
    ) -> tuple[Cycle, Cycle]:
        """N -> S -> N and S -> N -> S."""
        return (
            self.painter.cycle(
                bare, nets.encoder_n, nets.encoder_s, nets.generator_ns, nets.generator_sn, random
            ),
            self.painter.cycle(
                sensors, nets.encoder_s, nets.encoder_n, nets.generator_sn, nets.generator_ns, random
            ),
        )

    def _discriminate(
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
            (nets.discriminator_s, sensors, under, self.pools.sensors),
            (nets.discriminator_n, bare, freed, self.pools.bare),
        ):
            translated = pool.swap(generated, rng)
            loss = loss + 0.5 * (
                least_squares(discriminator(real), True) + least_squares(discriminator(translated), False)
            )
        descend(
            self.discriminator_optimizer,
            {"judges": loss},
            clip=self.settings.clip,
            average_gradients=self.ranks.average_gradients,
        )
        return float(loss.detach())

    # --- a run

    @property
    def step(self) -> int:
        """How many steps are done."""
        return self.loop.step

    def train(
        self,
        progress: Callable[[int, dict[str, float]], None] | None = None,
        stop: Callable[[], bool] | None = None,
        log: Callable[[int, dict[str, float]], None] | None = None,
    ) -> bool:
        """Until the last step, or until `stop` says so (the checkpoint is written either way).

        Returns whether the run is complete.
        """

        def after(step: int, means: dict[str, float]) -> None:
            if progress is not None:
                progress(step, means)
            due = step % self.settings.pictures_every == 0 or step == self.settings.steps
            if self.ranks.first and due:
                self.save_pictures(self.run / "pictures" / f"step_{step:06d}.png")

        def stopped() -> bool:
            return bool(self.ranks.share(stop is not None and stop()))

        complete = self.loop.run(self.advance, progress=after, stop=stopped, judge=log)
        self.ranks.wait()
        return complete

    def save(self) -> None:
        """Write the checkpoint."""
        self.loop.save()

    def resume(self) -> bool:
        """Go on from the run's checkpoint; False where there is none. Raises as `Checkpoint.load`."""
        return self.loop.resume()

    def averaged(self) -> Networks:
        """The networks with the running mean of their weights, for use and for looking at; not for training
        on.
        """
        heads = [encoder.head for encoder in (self.networks.encoder_n, self.networks.encoder_s)]
        out: Networks = copy.deepcopy(self.networks, {id(head): head for head in heads})
        out.load_state_dict(self.average.state)
        out.eval()
        return out

    def pictures(self, count: int = 4) -> U8:
        """A sheet of held-out pictures: bare rows, then rows under sensors; real, drawing, hidden,
        translated, drawing of that, back.
        """
        nets = self.averaged()
        device = self.ranks.device
        random = torch.Generator(device).manual_seed(self.settings.seed)
        rows = []
        bare, sensors = (part.to(device) for part in self.data.some(count))
        with torch.no_grad():
            for cycle in self._cycles(nets, bare, sensors, random):
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


def for_this_machine(settings: Settings, device: torch.device) -> Settings:
    """`settings` with bfloat16 switched on where a GPU does it."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return replace(settings, amp=True)
    return settings
