"""The head model in torch: batched, differentiable, on any device; same results as `model.HeadModel` to 1e-5.

torch is imported here and nowhere else in `head/`; without it: `pip install 'eifer_ros[train]'`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from ..errors import MissingExtra
from .model import HeadModel

try:
    import torch
except ImportError:
    raise MissingExtra("torch", "train", "the head model in torch") from None

Tensor: TypeAlias = Any  # torch.Tensor; torch brings no types where it is not installed


class TorchHead:
    """`HeadModel` on tensors.

    B is the batch; every argument may be left out (0) and needs float32 on the module's device.
    """

    def __init__(self, head: HeadModel, device: str | Any = "cpu") -> None:
        def tensor(values: Any, dtype: Any = torch.float32) -> Tensor:
            return torch.as_tensor(np.asarray(values), dtype=dtype, device=device)

        count = len(head.template)
        self.head = head
        self.device = device
        self.template = tensor(head.template)
        self.faces = tensor(head.faces, torch.int64)
        self.shape_basis = tensor(head.shape_basis.reshape(3 * count, -1)).T.contiguous()
        self.expression_basis = tensor(head.expression_basis.reshape(3 * count, -1)).T.contiguous()
        self.joint_template = tensor(head.joint_template)
        self.joint_shape_basis = tensor(head.joint_shape_basis)
        self.joint_expression_basis = tensor(head.joint_expression_basis)
        self.skin_weights = tensor(head.skin_weights)
        self.pose_basis = (
            None if head.pose_basis is None else tensor(head.pose_basis.reshape(3 * count, -1)).T.contiguous()
        )
        self.eyelid_basis = (
            None
            if head.eyelid_basis is None
            else tensor(head.eyelid_basis.reshape(3 * count, -1)).T.contiguous()
        )
        self.gaze_basis = None if head.gaze_basis is None else tensor(head.gaze_basis)
        self._embeddings = {
            name: (self.faces[tensor(embedding.triangles, torch.int64)], tensor(embedding.weights))
            for name, embedding in head.embeddings.items()
        }

    def vertices(
        self,
        shape: Tensor | None = None,
        expression: Tensor | None = None,
        *,
        jaw: Tensor | None = None,
        neck: Tensor | None = None,
        eyes: Tensor | None = None,
        eyelids: Tensor | None = None,
    ) -> Tensor:
        """(B, V, 3) vertices in model coordinates, m, of shape (B, <=S), expression (B, <=E), jaw and neck
        (B, 3), eyes (B, 2, 3), eyelids (B, 2). Without any argument B is 1.
        """
        arguments = [value for value in (shape, expression, jaw, neck, eyes, eyelids) if value is not None]
        batch = len(arguments[0]) if arguments else 1
        posed = self.template.expand(batch, -1, -1)
        if shape is not None:
            posed = posed + (shape @ self.shape_basis[: shape.shape[1]]).reshape(batch, -1, 3)
        if expression is not None:
            posed = posed + (expression @ self.expression_basis[: expression.shape[1]]).reshape(batch, -1, 3)
        rotations = self._rotations(batch, jaw, neck, eyes)
        if rotations is not None:
            if self.pose_basis is not None:
                feature = (rotations[:, 1:] - torch.eye(3, device=self.device)).reshape(batch, -1)
                posed = posed + (feature @ self.pose_basis).reshape(batch, -1, 3)
            posed = self._skin(posed, rotations, self.joint_positions(batch, shape, expression))
        if self.eyelid_basis is not None and eyelids is not None:
            posed = posed + (eyelids @ self.eyelid_basis).reshape(batch, -1, 3)
        return posed

    def joint_positions(
        self, batch: int, shape: Tensor | None = None, expression: Tensor | None = None
    ) -> Tensor:
        """(B, J, 3) joint centres at rest."""
        joints = self.joint_template.expand(batch, -1, -1)
        if shape is not None:
            joints = joints + torch.einsum(
                "jds,bs->bjd", self.joint_shape_basis[:, :, : shape.shape[1]], shape
            )
        if expression is not None:
            joints = joints + torch.einsum(
                "jde,be->bjd", self.joint_expression_basis[:, :, : expression.shape[1]], expression
            )
        return joints

    def gaze(self, expression: Tensor) -> Tensor:
        """(B, 2, 3) eye rotations that go with the eyeLook coefficients; zero for a head without them."""
        if self.gaze_basis is None:
            return expression.new_zeros(len(expression), 2, 3)
        return torch.einsum("sde,be->bsd", self.gaze_basis[:, :, : expression.shape[1]], expression)

    def points(self, vertices: Tensor, which: str = "landmarks_478") -> Tensor:
        """(B, L, 3) named surface points on `vertices` (B, V, 3)."""
        self.head.embedding(which)
        corners, weights = self._embeddings[which]
        return torch.einsum("lc,blcd->bld", weights, vertices[:, corners])

    def _rotations(
        self, batch: int, jaw: Tensor | None, neck: Tensor | None, eyes: Tensor | None
    ) -> Tensor | None:
        turned = {"jaw": jaw, "neck": neck}
        if eyes is not None:
            turned |= {"eye_left": eyes[:, 0], "eye_right": eyes[:, 1]}
        turned = {
            name: value for name, value in turned.items() if value is not None and name in self.head.joints
        }
        if not turned:
            return None
        still = torch.eye(3, device=self.device).expand(batch, 3, 3)
        return torch.stack(
            [rotation_matrix(turned[name]) if name in turned else still for name in self.head.joints], dim=1
        )

    def _skin(self, posed: Tensor, rotations: Tensor, joints: Tensor) -> Tensor:
        turns: list[Tensor] = []
        shifts: list[Tensor] = []
        for index, parent in enumerate(self.head.parents):
            if parent < 0:
                turns.append(rotations[:, index])
                shifts.append(joints[:, index])
            else:
                arm = joints[:, index] - joints[:, parent]
                turns.append(turns[parent] @ rotations[:, index])
                shifts.append(shifts[parent] + (turns[parent] @ arm[:, :, None])[:, :, 0])
        turn = torch.stack(turns, dim=1)
        shift = torch.stack(shifts, dim=1)
        # subtract the resting joint position, so that a joint at rest moves nothing
        shift = shift - (turn @ joints[..., None])[..., 0]
        blend_turn = torch.einsum("vj,bjcd->bvcd", self.skin_weights, turn)
        blend_shift = torch.einsum("vj,bjc->bvc", self.skin_weights, shift)
        return (blend_turn @ posed[..., None])[..., 0] + blend_shift


def rotation_matrix(axis_angle: Tensor) -> Tensor:
    """(B, 3) axis-angle in rad to (B, 3, 3); smooth at zero, so that gradients are finite for a joint at
    rest.
    """
    square = (axis_angle**2).sum(-1)[:, None, None]
    small = square < 1e-8
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    sine = torch.where(small, 1.0 - square / 6.0, torch.sin(angle) / angle)
    cosine = torch.where(small, 0.5 - square / 24.0, (1.0 - torch.cos(angle)) / safe)
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(-1, 3, 3)
    return (
        torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
        + sine * cross
        + cosine * (cross @ cross)
    )
