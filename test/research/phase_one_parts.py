"""Tiny networks and pictures for the tests of phase 1: everything real but the sizes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch

from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.head.torch_model import TorchHead
from research.common.ranks import Ranks
from research.faces.face_data import AROUND, Domain, Unpaired
from research.faces.face_encoder import FaceEncoder
from research.faces.face_models import OpenFace
from research.faces.phase_one import Settings, Trainer

SIZE = 32
TINY = {"size": SIZE, "batch": 2, "pictures_every": 1000, "save_every": 1000, "encoder_from": 0.0, "pool": 3}


@cache
def encoder(seed: int = 0) -> FaceEncoder:
    """An encoder with random weights that places a face in the middle of the crop: its landmarks are those of
    the resting head.
    """
    torch.manual_seed(seed)
    head = load_head()
    made = FaceEncoder(head.expression_size, head.shape_size, (8, 8, 8, 8))
    from eifer_ros.reconstruction.encoder.face_crop import POINTS

    points = head.points(head.template)[list(POINTS)][:, :2] * [1.0, -1.0]
    points = 0.5 + 0.7 * (points - (points.max(0) + points.min(0)) / 2) / np.ptp(points, axis=0).max()
    start = 2 * head.expression_size
    with torch.no_grad():
        made.heads.weight.mul_(0.05)
        made.heads.bias[start : start + points.size] = (
            torch.from_numpy((points - 0.5) / 0.25).flatten().float()
        )
    return made.eval()


@cache
def torch_head() -> TorchHead:
    return TorchHead(load_head())


def face() -> OpenFace:
    import copy

    return OpenFace(copy.deepcopy(encoder()), torch_head())


def domain(seed: int, people: tuple[str, ...] = ("a", "b"), count: int = 24) -> Domain:
    """Smooth random pictures."""
    rng = np.random.default_rng(seed)
    side = round(AROUND * SIZE)
    coarse = rng.uniform(0, 255, (count, 5, 5, 3))
    crops = np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2)[:, :side, :side].astype(np.uint8)
    return Domain(crops, rng.integers(len(people), size=count), people)


def data(seed: int = 0) -> Unpaired:
    return Unpaired(domain(1), domain(2), SIZE, seed)


def trainer(
    run: Path,
    settings: Settings | None = None,
    head: HeadModel | None = None,
    about: dict[str, str] | None = None,
) -> Trainer:
    run.mkdir(parents=True, exist_ok=True)
    how = settings or Settings(steps=4, **TINY)
    return Trainer(
        face,
        head or load_head(),
        data(how.seed),
        how,
        run,
        Ranks(0, 1, torch.device("cpu")),
        about or {"reference": "r"},
    )
