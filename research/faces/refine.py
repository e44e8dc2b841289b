"""Self-supervised refinement of the face encoder on real pictures of bare faces: landmarks and photometry, no
labels.

After SMIRK (Retsinas et al., CVPR 2024, section 3): the head that is read must put its landmarks where a
landmark network sees them, and a generator that sees only the plain drawing of that head and a picture
without its face must be able to paint the face again. Three things differ. The landmark network and the head
model do not mean quite the same points, so their mean difference is learnt along as a constant per point. The
encoder's own points must lie on the head it reads. And what is read stays near what the encoder read before,
which replaces SMIRK's priors of the coefficients.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from eifer_ros.errors import InputError
from eifer_ros.head.fingerprint import fingerprint
from eifer_ros.head.model import HeadModel
from eifer_ros.reconstruction.encoder.face_crop import POINTS, SIZE
from eifer_ros.reconstruction.landmarks.attention_mesh import Crop, FaceLandmarker
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
from eifer_ros.types import F32
from research.common.recipe import option
from research.faces.face_data import AROUND, MIN_FRAMES, Domain, Unpaired
from research.faces.face_models import OpenFace
from research.faces.generators import LiveGenerator
from research.faces.losses import Motion
from research.faces.phase_one import Painter, Settings

CHECKPOINT = "refine.pt"
_PRESENCE = 0.6


@dataclass(frozen=True)
class Refinement:
    """One run. landmarks, photometric, agreement, near: weights of the four losses; 0 switches one off.

    rate: of the generator; the encoder learns `encoder_rate` times that.
    """

    steps: int = option(4000, "length of the run", least=1)
    batch: int = option(8, "pictures a step", least=1)
    rate: float = 1e-3
    encoder_rate: float = 0.05
    landmarks: float = 40.0
    photometric: float = 10.0
    agreement: float = 20.0
    near: float = 0.3
    ema: float = 0.999
    seed: int = option(0, "seed of everything random", least=0)
    save_every: int = 250


@dataclass(frozen=True)
class LandmarkedPictures:
    """Pictures with landmarks. pictures: (n, 3, SIZE, SIZE) 0..1. landmarks: (n, 478, 2) crop units."""

    pictures: torch.Tensor
    landmarks: torch.Tensor

    @staticmethod
    def of(domain: Domain, landmarker: FaceLandmarker | None = None) -> LandmarkedPictures:
        """Of the bare pictures in `domain` those in which the landmark network sees a face.

        Raises InputError where too few are left.
        """
        network = landmarker if landmarker is not None else FaceLandmarker()
        side = domain.crops.shape[1]
        face = side / AROUND
        place = Crop(
            side / 2.0, side / 2.0, 1.15 * face, 0.0
        )  # the landmark network wants a little more around a face
        points: list[F32] = []
        rows = []
        for row, picture in enumerate(domain.crops):
            landmarks = network.locate(picture, place)
            if landmarks.presence >= _PRESENCE and np.isfinite(landmarks.points).all():
                points.append(((landmarks.points[:, :2] - side / 2.0) / face + 0.5).astype(np.float32))
                rows.append(row)
        if len(rows) < MIN_FRAMES:
            raise InputError(
                f"landmarks were found in {len(rows)} of {len(domain.crops)} bare pictures; at least {MIN_FRAMES} are needed"
            )
        crops = Unpaired(domain, domain, SIZE, 0).cut(domain.crops[rows], None)
        return LandmarkedPictures(crops, torch.from_numpy(np.stack(points)))


class Offset(nn.Module):  # type: ignore[misc, unused-ignore]
    """points: (n, 2) by how much the landmark network means other points than the head model, in tenths of a metre."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.zeros(count, 2))


class Refiner:
    """Refines one encoder on `data`.

    As in phase 1, a step's choices depend on seed and step alone, so that a resumed run is the same.
    """

    def __init__(
        self, start: OpenFace, head: HeadModel, data: LandmarkedPictures, settings: Refinement, run: Path
    ) -> None:
        self.settings = settings
        self.data = data
        self.run = run
        self.head = head
        torch.manual_seed(settings.seed)
        self.face, self.before = start, copy.deepcopy(start, {id(start.head): start.head})
        self.face.train()
        for parameter in self.before.parameters():
            parameter.requires_grad_(False)
        self.painter = Painter(start.head, Settings(size=SIZE, seed=settings.seed))
        self.generator = LiveGenerator(6, width=16, dense=True)
        self.offset = Offset(data.landmarks.shape[1])
        self.motion = Motion(head, torch.device("cpu"))
        groups = [
            {"params": [*self.generator.parameters()]},
            {"params": [*self.face.parameters()]},
            {"params": [*self.offset.parameters()]},
        ]
        self.optimizer = torch.optim.Adam(groups, lr=settings.rate)
        self.average = Average(self.face.encoder, settings.ema)
        parts = {
            "face": self.face,
            "before": self.before,
            "generator": self.generator,
            "offset": self.offset,
            "average": self.average,
            "optimizer": self.optimizer,
        }
        free = ("steps", "save_every")
        identity = {
            "head_fingerprint": fingerprint(head),
            "settings": {name: value for name, value in asdict(settings).items() if name not in free},
            "data": {"pictures": len(data.pictures)},
        }
        self.loop = Loop(
            Budget(settings.steps),
            Checkpoint(run / CHECKPOINT, "eifer_refinement", parts, identity),
            log=run / "refine.jsonl",
            save_every=settings.save_every,
        )

    def losses(
        self, picture: torch.Tensor, landmarks: torch.Tensor, random: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Every loss that is switched on, weighted.

        picture (B, 3, SIZE, SIZE); landmarks (B, 478, 2) crop units.
        """
        s = self.settings
        outputs = self.face.encode(picture, SIZE)
        read = self.face.read(picture)
        out: dict[str, torch.Tensor] = {}
        points = self.face.head.points(read.vertices)
        placed = read.camera.project(points, 1)[..., :2]
        if s.landmarks:
            # the bias turns and grows with the head as it is drawn; 0.1 m is about a face
            size = 0.1 * read.camera.scale.detach()[:, None, None]
            off = placed + size * self.offset.points - landmarks
            out["landmarks"] = s.landmarks * torch.sqrt(off.square().sum(dim=2) + 1e-6).mean()
        if s.agreement:
            out["agreement"] = s.agreement * (placed[:, list(POINTS)] - outputs["landmarks"]).abs().mean()
        if s.near:
            with torch.no_grad():
                was = self.before.read(picture)
            out["near"] = s.near * (self.motion.expression(read, was) + self.motion.shape([read, was]))
        if s.photometric:
            render, hidden = self.painter.draw_and_mask(picture, read, random)
            out["photometric"] = (
                s.photometric * (self.painter.paint(self.generator, render, hidden) - picture).abs().mean()
            )
        return out

    def advance(self, step: int, along: float) -> dict[str, torch.Tensor]:
        """One step; returns the losses."""
        s = self.settings
        choice = generator(s.seed, "refine", step)
        rows = torch.from_numpy(choice.integers(len(self.data.pictures), size=s.batch))
        random = torch.Generator().manual_seed(int(choice.integers(2**62)))
        rate = s.rate * linear_fall(along, 0.5) * warm_up(step, 50)
        set_rates(self.optimizer, rate, rate * s.encoder_rate, rate)
        terms = self.losses(self.data.pictures[rows], self.data.landmarks[rows], random)
        descend(self.optimizer, terms, clip=5.0)
        self.average.update(self.face.encoder, step)
        return terms

    def averaged(self) -> OpenFace:
        """The refined encoder, running mean of its weights."""
        out: OpenFace = copy.deepcopy(self.face, {id(self.face.head): self.face.head})
        out.encoder.load_state_dict(self.average.state)
        out.eval()
        return out
