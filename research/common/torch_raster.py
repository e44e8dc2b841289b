"""A z-buffer in torch whose barycentric weights can be differentiated, and the plain head render that the
generators see.

Which triangle a pixel sees is decided without gradient, by the rules of `render/rasteriser.py` (on the CPU by that
very function, elsewhere by a scatter of packed depths); where on the triangle the pixel lies is a smooth
function of the corners. This is what PyTorch3D's rasteriser with blur 0 and one face per pixel does, which
SMIRK (Retsinas et al., CVPR 2024) trains with. What appears from behind an edge has no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from eifer_ros.errors import InputError
from eifer_ros.head.torch_model import TorchHead
from eifer_ros.render import rasteriser as raster

Method = Literal["auto", "numba", "torch"]

FAR_M = 100.0
"""Depth of the head under a weak-perspective camera: so far that nothing is foreshortened."""
_ALBEDO = {
    "skin": 0.72,
    "mouth": 0.20,
    "socket": 0.55,
    "tongue": 0.35,
    "teeth": 0.95,
    "gums": 0.40,
    "eye": 0.98,
    "iris": 0.30,
    "pupil": 0.05,
}
_LIGHTS = ((-0.6, -0.5, -0.8), (0.6, -0.5, -0.8), (0.0, 0.4, -1.0))
"""Towards the lights, camera coordinates."""
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Fragments:
    """What each pixel sees. face: (B, H, W) int64 index into the faces, -1 for nothing.

    weights: (B, H, W, 3) of its corners, or 0.
    """

    face: torch.Tensor
    weights: torch.Tensor

    @property
    def covered(self) -> torch.Tensor:
        """(B, H, W) bool."""
        return self.face >= 0


def visible(
    vertices_px: torch.Tensor, faces: torch.Tensor, width: int, height: int, method: Method = "auto"
) -> torch.Tensor:
    """(B, H, W) int64: the triangle each pixel sees, -1 for none. No gradient.

    vertices_px: (B, V, 3) [u px, v px, depth m]. faces: (F, 3). method: `numba` (a CPU), `torch` (any
    device), `auto` chooses.
    """
    if vertices_px.ndim != 3 or vertices_px.shape[2] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise InputError(
            f"vertices must be (B, V, 3) and faces (F, 3); got {tuple(vertices_px.shape)} and {tuple(faces.shape)}"
        )
    if method == "numba" or (method == "auto" and vertices_px.device.type == "cpu"):
        mesh = faces.cpu().numpy()
        indices = [
            raster.rasterise(one, mesh, width, height)[0]
            for one in vertices_px.detach().cpu().float().numpy()
        ]
        return torch.from_numpy(np.stack(indices)).to(vertices_px.device, torch.int64)
    with torch.no_grad():
        return _scatter(vertices_px.detach(), faces, width, height)


def _scatter(vertices_px: torch.Tensor, faces: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Triangles in groups of like size test every pixel of their box; the nearest, then the first, wins by
    the least packed key.
    """
    batch = len(vertices_px)
    count = len(faces)
    corners = vertices_px.double()[:, faces].reshape(batch * count, 3, 3)
    x, y, z = corners.unbind(2)
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    usable = (
        torch.isfinite(corners).all(dim=2).all(dim=1)
        & (z > raster.NEAR_M).all(dim=1)
        & (area != 0.0)
        & torch.isfinite(area)
    )
    left = x.amin(1).ceil().clamp(0, width)
    right = x.amax(1).floor().clamp(-1, width - 1)
    top = y.amin(1).ceil().clamp(0, height)
    bottom = y.amax(1).floor().clamp(-1, height - 1)
    reach = torch.where(usable, torch.maximum(right - left, bottom - top) + 1, torch.zeros_like(left))
    usable &= (right >= left) & (bottom >= top)
    nothing = torch.iinfo(torch.int64).max
    keys = torch.full((batch * height * width,), nothing, dtype=torch.int64, device=faces.device)
    side = 1
    while side < 2 * max(width, height):
        side *= 2
        candidates = torch.nonzero(
            usable & (reach <= side) & (reach > side // 2 if side > 2 else reach >= 1)
        )[:, 0]
        steps = torch.arange(side, device=faces.device)
        for part in candidates.split(max(_CHUNK // side**2, 1)):
            column = left[part].long()[:, None, None] + steps[None, None, :]
            row = top[part].long()[:, None, None] + steps[None, :, None]
            px = column.double()
            py = row.double()
            cx = x[part][:, :, None, None]
            cy = y[part][:, :, None, None]
            share = 1.0 / area[part][:, None, None]
            b = ((px - cx[:, 0]) * (cy[:, 2] - cy[:, 0]) - (cx[:, 2] - cx[:, 0]) * (py - cy[:, 0])) * share
            c = ((cx[:, 1] - cx[:, 0]) * (py - cy[:, 0]) - (px - cx[:, 0]) * (cy[:, 1] - cy[:, 0])) * share
            a = 1.0 - b - c
            inside = (a >= 0) & (b >= 0) & (c >= 0) & (column < width) & (row < height)
            inverse = (1.0 / z[part])[:, :, None, None]
            near = (a * inverse[:, 0] + b * inverse[:, 1] + c * inverse[:, 2]).float()
            depth_key = 0x7F800000 - near.view(torch.int32).long()
            key = (depth_key << 32) | (part % count)[:, None, None]
            pixel = (part // count)[:, None, None] * (height * width) + row * width + column
            keys.scatter_reduce_(0, pixel[inside], key.expand_as(pixel)[inside], "amin")
    face = torch.where(keys == nothing, torch.full_like(keys, -1), keys & 0xFFFFFFFF)
    return face.reshape(batch, height, width)


def rasterise(
    vertices_px: torch.Tensor,
    faces: torch.Tensor,
    width: int,
    height: int,
    *,
    perspective: bool = True,
    face: torch.Tensor | None = None,
    method: Method = "auto",
) -> Fragments:
    """The visible surface of B meshes, differentiable in `vertices_px` (B, V, 3) [u px, v px, depth m].

    perspective: weights on the surface itself, as `render/rasteriser.py` gives them; without it, weights in the
    picture plane. face: what `visible` said, if the caller knows it already.
    """
    visible_faces = visible(vertices_px, faces, width, height, method) if face is None else face
    covered = visible_faces >= 0
    corners = faces[visible_faces.clamp_min(0)].reshape(len(visible_faces), -1)
    picked = torch.gather(vertices_px, 1, corners[..., None].expand(-1, -1, 3)).reshape(
        *visible_faces.shape, 3, 3
    )
    # pixels that see nothing get a harmless triangle, so that no division by zero reaches the gradient
    spare = vertices_px.new_tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    picked = torch.where(covered[..., None, None], picked, spare)
    column = torch.arange(width, device=visible_faces.device, dtype=vertices_px.dtype)
    row = torch.arange(height, device=visible_faces.device, dtype=vertices_px.dtype)[:, None]
    x = picked[..., 0] - column[..., None]
    y = picked[..., 1] - row[..., None]
    z = picked[..., 2]
    turned = [(1, 2), (2, 0), (0, 1)]
    weights = torch.stack([x[..., i] * y[..., j] - x[..., j] * y[..., i] for i, j in turned], dim=-1)
    if perspective:
        weights = weights / z
    total = weights.sum(dim=-1, keepdim=True)
    weights = weights / torch.where(total == 0, torch.ones_like(total), total)
    return Fragments(visible_faces, torch.where(covered[..., None], weights, torch.zeros_like(weights)))


def interpolate(fragments: Fragments, faces: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(B, H, W, C) `values` (B, V, C) at the vertices, seen by each pixel; 0 where nothing is seen."""
    corners = faces[fragments.face.clamp_min(0)].reshape(len(fragments.face), -1)
    picked = torch.gather(values, 1, corners[..., None].expand(-1, -1, values.shape[2]))
    return (picked.reshape(*fragments.face.shape, 3, -1) * fragments.weights[..., None]).sum(dim=-2)


def vertex_normals(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """(B, V, 3) unit normals, area-weighted mean of the adjoining triangles."""
    a, b, c = vertices[:, faces].unbind(2)
    flat = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(vertices)
    for corner in range(3):
        normals = normals.index_add(1, faces[:, corner], flat)
    return F.normalize(normals, dim=2, eps=1e-12)


@dataclass(frozen=True)
class Camera:
    """A weak-perspective camera over a crop: crop = scale * (rotation @ point)[:2] + shift, in crop units
    (0..1 across the crop).

    rotation: (B, 3, 3) head -> camera (x right, y down, z away). scale: (B,) crop units per metre. shift: (B,
    2).
    """

    rotation: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor

    def project(self, points: torch.Tensor, size: int) -> torch.Tensor:
        """(B, N, 3) model points, m, to (B, N, 3) [u px, v px, depth m] of a crop of `size` pixels."""
        turned = points @ self.rotation.transpose(1, 2)
        flat = turned[..., :2] * self.scale[:, None, None] + self.shift[:, None]
        return torch.cat([flat * size, turned[..., 2:] + FAR_M], dim=2)

    def vector(self) -> torch.Tensor:
        """(B, 12): everything that a global transformation is, in numbers of like size."""
        return torch.cat([self.rotation.flatten(1), 0.1 * self.scale[:, None], self.shift], dim=1)


def solve_camera(points: torch.Tensor, rotation: torch.Tensor, landmarks: torch.Tensor) -> Camera:
    """The camera under which model points (B, L, 3) turned by `rotation` (B, 3, 3) come nearest to landmarks
    (B, L, 2) in crop units.

    Linear least squares in scale and shift, in closed form and differentiable in everything.
    """
    flat = (points @ rotation.transpose(1, 2))[..., :2]
    here = flat.mean(dim=1)
    there = landmarks.mean(dim=1)
    a = flat - here[:, None]
    b = landmarks - there[:, None]
    scale = (a * b).sum(dim=(1, 2)) / (a * a).sum(dim=(1, 2)).clamp_min(1e-12)
    return Camera(rotation, scale, there - scale[:, None] * here)


class FaceRenderer:
    """Draws the face of a head, plain and lit from the front: skin of the region `face`, eyes, mouth and
    teeth.

    size: side of the pictures in pixels.
    """

    def __init__(self, head: TorchHead, size: int) -> None:
        self.head = head
        self.size = size
        model = head.head
        rendered = np.zeros(len(model.template), bool)
        rendered[model.regions["face"]] = True
        albedo = np.full(len(model.template), _ALBEDO["skin"], np.float32)
        for number, name in enumerate(model.part_names):
            here = model.parts == number
            albedo[here] = _ALBEDO.get(name.split("_")[0], _ALBEDO["skin"])
            if name != "skin":
                rendered |= here
        keep = rendered[model.faces].all(axis=1)
        if not keep.any():
            raise InputError(
                f"head model '{model.id}' has no triangle in its region 'face'; there is nothing to draw"
            )
        self.faces = torch.as_tensor(model.faces[keep].astype(np.int64), device=head.device)
        self.albedo = torch.as_tensor(albedo, device=head.device)[:, None]
        self.lights = F.normalize(torch.tensor(_LIGHTS, device=head.device), dim=1)

    def draw(self, vertices: torch.Tensor, camera: Camera) -> tuple[torch.Tensor, Fragments]:
        """(B, 3, size, size) 0..1 picture on black, and what each pixel sees, of vertices (B, V, 3) in model
        coordinates.
        """
        fragments = rasterise(
            camera.project(vertices, self.size), self.faces, self.size, self.size, perspective=False
        )
        normals = vertex_normals(vertices, self.faces) @ camera.rotation.transpose(1, 2)
        towards = torch.where(normals[..., 2:] > 0, -normals, normals)
        light = 0.25 + 0.75 * (towards @ self.lights.T).clamp_min(0.0).mean(dim=2, keepdim=True)
        grey = interpolate(fragments, self.faces, self.albedo * light).clamp(0.0, 1.0)
        return grey.permute(0, 3, 1, 2).expand(-1, 3, -1, -1), fragments
