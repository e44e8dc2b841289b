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
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from eifer_ros.errors import InputError, ModelError
from eifer_ros.head.fingerprint import fingerprint
from eifer_ros.head.model import HeadModel
from eifer_ros.reconstruction.encoder.face_crop import POINTS, SIZE
from eifer_ros.reconstruction.landmarks.attention_mesh import Crop, FaceLandmarker
from eifer_ros.simulation.seeds import generator
from eifer_ros.types import F32
from research.faces.face_data import AROUND, MIN_FRAMES, Domain, Unpaired
from research.faces.face_models import OpenFace
from research.faces.generators import LiveGenerator
from research.faces.losses import Motion
from research.faces.phase_one import Painter, Settings
from research.faces.smirk_encoder import read_tensors

CHECKPOINT = "refine.pt"
_PRESENCE = 0.6


@dataclass(frozen=True)
class Refinement:
    """One run. landmarks, photometric, agreement, near: weights of the four losses; 0 switches one off.

    rate: of the generator; the encoder learns `encoder_rate` times that.
    """

    steps: int = 4000
    batch: int = 8
    rate: float = 1e-3
    encoder_rate: float = 0.05
    landmarks: float = 40.0
    photometric: float = 10.0
    agreement: float = 20.0
    near: float = 0.3
    ema: float = 0.999
    seed: int = 0
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


class Refiner:
    """Refines one encoder on `data`.

    As in phase 1, a step's choices depend on seed and step alone, so that a resumed run is the same.
    """

    def __init__(
        self, start: OpenFace, head: HeadModel, data: LandmarkedPictures, settings: Refinement, run: Path
    ) -> None:
        self.settings, self.data, self.run, self.head = settings, data, run, head
        torch.manual_seed(settings.seed)
        self.face, self.before = start, copy.deepcopy(start, {id(start.head): start.head})
        self.face.train()
        for parameter in self.before.parameters():
            parameter.requires_grad_(False)
        self.painter = Painter(start.head, Settings(size=SIZE, seed=settings.seed))
        self.generator = LiveGenerator(6, width=16, dense=True)
        self.bias = nn.Parameter(torch.zeros(data.landmarks.shape[1], 2))
        self.motion = Motion(head, torch.device("cpu"))
        groups = [
            {"params": [*self.generator.parameters()]},
            {"params": [*self.face.parameters()]},
            {"params": [self.bias]},
        ]
        self.optimizer = torch.optim.Adam(groups, lr=settings.rate)
        self.average = {name: value.clone() for name, value in self.face.encoder.state_dict().items()}
        self.step = 0

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
            off = placed + size * self.bias - landmarks
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

    def advance(self) -> dict[str, float]:
        """One step."""
        s = self.settings
        choice = generator(s.seed, "refine", self.step)
        rows = torch.from_numpy(choice.integers(len(self.data.pictures), size=s.batch))
        random = torch.Generator().manual_seed(int(choice.integers(2**62)))
        rate = s.rate * min(1.0, 2.0 * (1.0 - self.step / s.steps)) * min(1.0, (self.step + 1) / 50.0)
        for group, times in zip(self.optimizer.param_groups, (1.0, s.encoder_rate, 1.0), strict=True):
            group["lr"] = rate * times
        terms = self.losses(self.data.pictures[rows], self.data.landmarks[rows], random)
        self.optimizer.zero_grad(set_to_none=True)
        if terms:
            torch.stack(list(terms.values())).sum().backward()
            torch.nn.utils.clip_grad_norm_([*self.face.parameters(), *self.generator.parameters()], 5.0)
            self.optimizer.step()
        keep = min(s.ema, (self.step + 1.0) / (self.step + 10.0))
        for name, value in self.face.encoder.state_dict().items():
            mine = self.average[name]
            if mine.dtype.is_floating_point:
                mine.mul_(keep).add_(value.detach(), alpha=1.0 - keep)
        self.step += 1
        return {name: float(value.detach()) for name, value in terms.items()}

    def train(
        self,
        report_losses: Callable[[int, dict[str, float]], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Until the last step or until `stop`; saved either way. Returns whether the run is complete."""
        self.run.mkdir(parents=True, exist_ok=True)
        while self.step < self.settings.steps:
            terms = self.advance()
            stop_requested = stop is not None and stop()
            if report_losses is not None:
                report_losses(self.step, terms)
            if (
                stop_requested
                or self.step % self.settings.save_every == 0
                or self.step == self.settings.steps
            ):
                with (self.run / "refine.jsonl").open("a") as file:
                    file.write(
                        json.dumps(
                            {"step": self.step, **{name: round(value, 5) for name, value in terms.items()}}
                        )
                        + "\n"
                    )
                self.save()
            if stop_requested:
                break
        return self.step >= self.settings.steps

    def _identity(self) -> dict[str, Any]:
        settings = {
            name: value
            for name, value in asdict(self.settings).items()
            if name not in ("steps", "save_every")
        }
        return {"head": fingerprint(self.head), "settings": settings, "pictures": len(self.data.pictures)}

    def save(self) -> None:
        """Write the checkpoint in one step."""
        content = {
            "kind": "eifer_refinement",
            "identity": self._identity(),
            "step": self.step,
            "average": self.average,
            "bias": self.bias.detach(),
            "face": self.face.state_dict(),
            "before": self.before.state_dict(),
            "generator": self.generator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = self.run / f"{CHECKPOINT}.partial"
        torch.save(content, partial)
        partial.replace(self.run / CHECKPOINT)

    def resume(self) -> bool:
        """Go on from the run's checkpoint; False where there is none.

        Raises ModelError or InputError for one of another run.
        """
        path = self.run / CHECKPOINT
        if not path.exists():
            return False
        content = read_tensors(path)
        if content.get("kind") != "eifer_refinement":
            raise ModelError(f"{path}: not a checkpoint of a refinement")
        if content["identity"] != self._identity():
            raise InputError(
                f"{path}: belongs to a run with another head model, other settings or other pictures; give another --out"
            )
        self.face.load_state_dict(content["face"])
        self.before.load_state_dict(content["before"])
        self.generator.load_state_dict(content["generator"])
        with torch.no_grad():
            self.bias.copy_(content["bias"])
        self.average = content["average"]
        self.optimizer.load_state_dict(content["optimizer"])
        self.step = int(content["step"])
        return True

    def averaged(self) -> OpenFace:
        """The refined encoder, running mean of its weights."""
        out: OpenFace = copy.deepcopy(self.face, {id(self.face.head): self.face.head})
        out.encoder.load_state_dict(self.average)
        out.eval()
        return out
