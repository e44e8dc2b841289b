"""What phase 1 asks of an encoder: a picture in; coefficients, vertices of the head model and a camera out,
with gradients.

`OpenFace` wraps eifer's zero-shot encoder, whose landmarks give the camera by linear least squares;
`SmirkFace` wraps SMIRK's encoder for FLAME heads, which has camera and head rotation among its outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from eifer_ros.head.projection import FACING
from eifer_ros.head.torch_model import TorchHead, rotation_matrix
from eifer_ros.reconstruction.encoder.face_crop import POINTS
from eifer_ros.reconstruction.encoder.face_crop import SIZE as OPEN_SIZE
from eifer_ros.reconstruction.encoder.smirk_estimator import SIZE as SMIRK_SIZE
from research.common.torch_raster import Camera, solve_camera
from research.faces.face_encoder import FaceEncoder
from research.faces.smirk_encoder import SmirkEncoder, check_head


@dataclass(frozen=True)
class Estimate:
    """One reading of B pictures.

    expression (B, E), shape (B, S), rest (B, R): what else the face does (lids and jaw of FLAME; R may be 0).

    vertices (B, V, 3) m, model coordinates. camera: as seen in the crop.
    """

    expression: torch.Tensor
    shape: torch.Tensor
    rest: torch.Tensor
    vertices: torch.Tensor
    camera: Camera


class FaceModel(nn.Module):  # type: ignore[misc, unused-ignore]
    """An encoder with the head it speaks of.

    Batch statistics stay those of its pretraining: a handful of pictures would spoil them.
    """

    kind = ""
    amp = False
    """Compute the encoder in bfloat16; geometry never is."""

    def __init__(self, encoder: nn.Module, head: TorchHead) -> None:
        super().__init__()
        self.encoder = encoder
        self._head = [head]  # not a part of the state

    @property
    def head(self) -> TorchHead:
        """The head model in torch."""
        return self._head[0]

    def train(self, mode: bool = True) -> FaceModel:
        """Weights may learn, normalisation stays as it is."""
        super().train(mode)
        self.encoder.eval()
        return self

    def encode(self, picture: torch.Tensor, side: int) -> dict[str, torch.Tensor]:
        """The encoder's outputs for pictures brought to its own side, as float32."""
        with torch.autocast(picture.device.type, torch.bfloat16, enabled=self.amp):
            outputs = self.encoder(_resized(picture, side))
        return {name: value.float() for name, value in outputs.items()}

    def read(self, picture: torch.Tensor) -> Estimate:
        """An `Estimate` of pictures (B, 3, H, H), 0..1, of any side."""
        raise NotImplementedError

    def forward(self, picture: torch.Tensor) -> Estimate:
        return self.read(picture)


def _resized(picture: torch.Tensor, side: int) -> torch.Tensor:
    if picture.shape[-1] == side:
        return picture
    return F.interpolate(
        picture, size=(side, side), mode="bilinear", align_corners=False, antialias=picture.shape[-1] > side
    )


class OpenFace(FaceModel):
    """eifer's own encoder on a head whose expressions are ARKit's."""

    kind = "face_encoder"

    def __init__(self, encoder: FaceEncoder, head: TorchHead) -> None:
        super().__init__(encoder, head)
        bounds = torch.as_tensor(head.head.expression_bounds, device=head.device)
        self.register_buffer("lower", bounds[:, 0], persistent=False)
        self.register_buffer("upper", bounds[:, 1], persistent=False)
        self.register_buffer("rows", torch.tensor(POINTS, device=head.device), persistent=False)

    def read(self, picture: torch.Tensor) -> Estimate:
        """Pictures (B, 3, H, H), 0..1, on the open head."""
        outputs = self.encode(picture, OPEN_SIZE)
        lower: torch.Tensor = self.lower
        upper: torch.Tensor = self.upper
        rows: torch.Tensor = self.rows
        expression = torch.minimum(torch.maximum(outputs["expression"], lower), upper)
        vertices = self.head.vertices(outputs["shape"], expression, eyes=self.head.gaze(expression))
        points = self.head.points(vertices)[:, rows]
        camera = solve_camera(points, outputs["rotation"], outputs["landmarks"])
        return Estimate(
            outputs["expression"], outputs["shape"], outputs["expression"][:, :0], vertices, camera
        )


class SmirkFace(FaceModel):
    """SMIRK's encoder on an imported FLAME head."""

    kind = "smirk_encoder"

    def __init__(self, encoder: SmirkEncoder, head: TorchHead) -> None:
        super().__init__(encoder, head)
        check_head(encoder, head.head)
        self.register_buffer(
            "facing", torch.as_tensor(FACING, dtype=torch.float32, device=head.device), persistent=False
        )

    def read(self, picture: torch.Tensor) -> Estimate:
        """Pictures (B, 3, H, H), 0..1, on a FLAME head.

        FLAME turns about its root joint; SMIRK's camera is orthographic over a crop of -1..1, y up.
        """
        outputs = self.encode(picture, SMIRK_SIZE)
        facing: torch.Tensor = self.facing
        shape = outputs["shape"]
        expression = outputs["expression"]
        vertices = self.head.vertices(shape, expression, jaw=outputs["jaw"], eyelids=outputs["eyelids"])
        turn = rotation_matrix(outputs["rotation"])
        root = self.head.joint_positions(len(shape), shape, expression)[:, 0]
        moved = (root - (turn @ root[..., None])[..., 0])[:, :2] + outputs["camera"][:, 1:]
        half = 0.5 * outputs["camera"][:, 0]
        shift = 0.5 + half[:, None] * moved * shape.new_tensor([1.0, -1.0])
        return Estimate(
            expression,
            shape,
            torch.cat([outputs["eyelids"], outputs["jaw"]], dim=1),
            vertices,
            Camera(facing @ turn, half, shift),
        )
