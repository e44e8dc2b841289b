"""The six losses of EIFER's phase 1 (Büchner et al., CVPR 2025, method figure) and the mask M().

The paper's weights and norms are not published; those here are ours and can be set. Lengths are in mm on the
skin of the face, so that a coefficient that moves little weighs little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F

from eifer_ros.errors import ConfigError, did_you_mean
from eifer_ros.head.model import HeadModel
from eifer_ros.types import F32
from research.faces.face_models import Estimate


@dataclass(frozen=True)
class Weights:
    """Weight of each loss; 0 switches it off.

    adversarial: least squares (Mao et al. 2017). reconstruction: input against cycled picture, L1.
    expression: of the real picture against that of its translation, mm. transformation: head rotation and
    camera of the same two. minimal: input against translated picture, L1 (MC-CycleGAN, Büchner et al., ACIVS
    2023). shape: all four shape estimates of one person against their mean, mm.
    """

    adversarial: float = 1.0
    reconstruction: float = 10.0
    expression: float = 1.0
    transformation: float = 5.0
    minimal: float = 2.0
    shape: float = 0.5

    @staticmethod
    def of(settings: Sequence[str]) -> Weights:
        """From words such as `shape=0`.

        Raises ConfigError for an unknown loss or a value that is no number of 0 or more.
        """
        names = [field.name for field in fields(Weights)]
        values: dict[str, float] = {}
        for word in settings:
            name, _, text = word.partition("=")
            if name not in names:
                raise ConfigError(
                    f"--loss {word}: there is no loss '{name}'{did_you_mean(name, names)}; losses are {', '.join(names)}"
                )
            try:
                values[name] = float(text)
            except ValueError:
                values[name] = -1.0
            if not 0.0 <= values[name] < float("inf"):
                raise ConfigError(f"--loss {word}: write a number of 0 or more, as in {name}=0 (off)")
        return Weights(**values)


class Motion:
    """How far a difference of coefficients moves the skin of the face, RMS in mm."""

    def __init__(self, head: HeadModel, device: torch.device) -> None:
        rows = head.regions["face"]

        def form(basis: F32) -> torch.Tensor:
            flat = 1e3 * basis[rows].reshape(-1, basis.shape[-1]).astype(np.float64)
            return torch.as_tensor(flat.T @ flat / len(rows), dtype=torch.float32, device=device)

        self.of_expression, self.of_shape = form(head.expression_basis), form(head.shape_basis)

    @staticmethod
    def _length(off: torch.Tensor, form: torch.Tensor) -> torch.Tensor:
        n = off.shape[1]
        square = torch.einsum("ne,ef,nf->n", off, form[:n, :n], off).clamp_min(0.0)
        return torch.sqrt(square + 1e-4) - 1e-2  # smooth where the two agree

    def expression(self, a: Estimate, b: Estimate) -> torch.Tensor:
        """Mean over the batch; lids and jaw of FLAME, which are no coefficients, count by their squares as
        SMIRK has it (times 10).
        """
        moved = self._length(a.expression - b.expression, self.of_expression).mean()
        return moved + 10.0 * F.mse_loss(a.rest, b.rest) if a.rest.shape[1] else moved

    def shape(self, estimates: Sequence[Estimate]) -> torch.Tensor:
        """Of several estimates of the same person's shape from their mean."""
        shapes = torch.stack([estimate.shape for estimate in estimates])
        return self._length((shapes - shapes.mean(dim=0)).flatten(0, 1), self.of_shape).mean()


def transformation(a: Estimate, b: Estimate) -> torch.Tensor:
    """Mean absolute difference of head rotation, scale and shift."""
    return (a.camera.vector() - b.camera.vector()).abs().mean()


def least_squares(scores: torch.Tensor, real: bool) -> torch.Tensor:
    """LSGAN: scores should be 1 where real, 0 where not."""
    return (scores - (1.0 if real else 0.0)).square().mean()


def masked(
    picture: torch.Tensor,
    covered: torch.Tensor,
    weight: torch.Tensor,
    random: torch.Generator,
    *,
    kept_share: float = 0.01,
    grow: int = 6,
    noise: float = 0.05,
) -> torch.Tensor:
    """M(): the face removed, its surroundings kept, a few of its pixels kept.

    picture (B, 3, H, W); covered (B, H, W) bool, where the head is drawn; weight (B, H, W) 0..1, how likely a
    pixel of the face is kept beside the others. kept_share: share of face pixels kept. grow: pixels by which the
    removed part reaches beyond the drawing. noise: of the brightness of kept pixels. Which pixels are kept
    carries no gradient; their values do.
    """
    face = F.max_pool2d(covered.float()[:, None], 2 * grow + 1, 1, grow)
    draw = torch.rand(covered.shape, generator=random, device=picture.device)
    share = (
        kept_share
        * weight
        / weight.sum(dim=(1, 2), keepdim=True).clamp_min(1e-6)
        * covered.sum(dim=(1, 2), keepdim=True)
    )
    few = ((draw < share) & covered).float()[:, None]
    shade = 1.0 + noise * torch.randn(covered.shape, generator=random, device=picture.device)[:, None]
    return picture * (1.0 - face) + picture * few * shade
