"""Dense correspondence between two heads of different topology.

Each head's surface is a triangle mesh in metres with y up and the face towards +z. The heads are brought
together by a similarity transform (closest points, Besl & McKay 1992, trimmed), then the source takes on the
target's shape through its own shape basis, and then each point looks for the closest point of the other
surface that faces the same way: without the direction, an upper lip would find the lower one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..types import F64, I64, Array

NORMAL_M = 0.02
"""How many metres apart two opposite directions (a difference of 2 in the normal) count as, halved."""


@dataclass(frozen=True)
class Surface:
    """Triangles that may be searched: vertices (V, 3) m and faces (F, 3)."""

    vertices: F64
    faces: I64

    def centres(self) -> F64:
        """(F, 3) centres of the triangles."""
        return np.asarray(self.vertices[self.faces].mean(axis=1))

    def normals(self) -> F64:
        """(F, 3) unit normals of the triangles."""
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        normal = np.cross(b - a, c - a)
        return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-15))

    def vertex_normals(self) -> F64:
        """(V, 3) unit normals of the vertices, the triangles' weighted by area."""
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        weighted = np.cross(b - a, c - a)
        total = np.zeros_like(self.vertices)
        for k in range(3):
            np.add.at(total, self.faces[:, k], weighted)
        return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-15))


@dataclass(frozen=True)
class Match:
    """Closest points: triangles (N,) indices into the faces searched, weights (N, 3) barycentric, points (N,
    3), distance (N,) m.
    """

    triangles: I64
    weights: F64
    points: F64
    distance: F64


def closest(points: F64, normals: F64, surface: Surface, candidates: int = 24) -> Match:
    """For each of (N, 3) points the closest point of `surface` among the triangles that face the same way as
    `normals` (N, 3).
    """
    face_normals = surface.normals()
    tree = cKDTree(np.hstack([surface.centres(), NORMAL_M * face_normals]))
    count = min(candidates, len(surface.faces))
    _, near = tree.query(np.hstack([points, NORMAL_M * normals]), k=count)
    near = np.asarray(near, np.int64).reshape(len(points), count)
    corners = surface.vertices[surface.faces[near]]
    weights = _barycentric(points[:, None, :], corners)
    on = np.einsum("nkc,nkcd->nkd", weights, corners)
    squared = ((on - points[:, None, :]) ** 2).sum(axis=2)
    facing = np.einsum("nkd,nd->nk", face_normals[near], normals)
    cost = squared + np.where(facing < 0.0, NORMAL_M**2, 0.0)
    best = np.argmin(cost, axis=1)
    rows = np.arange(len(points))
    return Match(near[rows, best], weights[rows, best], on[rows, best], np.sqrt(squared[rows, best]))


def _barycentric(p: F64, corners: F64) -> F64:
    """Weights of the point of each triangle closest to p (Ericson 2004, Real-Time Collision Detection,
    5.1.5). corners (..., 3, 3).
    """
    a = corners[..., 0, :]
    b = corners[..., 1, :]
    c = corners[..., 2, :]
    ab = b - a
    ac = c - a
    ap = p - a
    bp = p - b
    cp = p - c

    def dot(u: F64, v: F64) -> F64:
        return np.asarray((u * v).sum(axis=-1))

    def ratio(top: F64, bottom: F64) -> F64:
        return np.asarray(np.clip(top / np.where(np.abs(bottom) < 1e-30, 1e-30, bottom), 0.0, 1.0))

    d1 = dot(ab, ap)
    d2 = dot(ac, ap)
    d3 = dot(ab, bp)
    d4 = dot(ac, bp)
    d5 = dot(ab, cp)
    d6 = dot(ac, cp)
    vc = d1 * d4 - d3 * d2
    vb = d5 * d2 - d1 * d6
    va = d3 * d6 - d5 * d4
    zero = np.zeros_like(d1)
    one = np.ones_like(d1)
    on_ab = ratio(d1, d1 - d3)
    on_ac = ratio(d2, d2 - d6)
    on_bc = ratio(d4 - d3, (d4 - d3) + (d5 - d6))
    total = np.where(np.abs(va + vb + vc) < 1e-30, 1.0, va + vb + vc)
    inside = np.stack([va / total, vb / total, vc / total], axis=-1)
    cases = [
        ((d1 <= 0) & (d2 <= 0), np.stack([one, zero, zero], axis=-1)),
        ((d3 >= 0) & (d4 <= d3), np.stack([zero, one, zero], axis=-1)),
        ((d6 >= 0) & (d5 <= d6), np.stack([zero, zero, one], axis=-1)),
        ((vc <= 0) & (d1 >= 0) & (d3 <= 0), np.stack([1 - on_ab, on_ab, zero], axis=-1)),
        ((vb <= 0) & (d2 >= 0) & (d6 <= 0), np.stack([1 - on_ac, zero, on_ac], axis=-1)),
        ((va <= 0) & (d4 - d3 >= 0) & (d5 - d6 >= 0), np.stack([zero, 1 - on_bc, on_bc], axis=-1)),
    ]
    return np.asarray(np.select([case[0][..., None] for case in cases], [case[1] for case in cases], inside))


@dataclass(frozen=True)
class Similarity:
    """p -> scale * rotation @ p + shift."""

    scale: float
    rotation: F64
    shift: F64

    def __call__(self, points: Array) -> F64:
        """(N, 3) points, transformed."""
        return np.asarray(self.scale * points @ self.rotation.T + self.shift)

    def directions(self, vectors: Array) -> F64:
        """Displacements (..., 3): turned and scaled, not shifted."""
        return np.asarray(self.scale * vectors @ self.rotation.T)


def similarity(source: F64, target: F64) -> Similarity:
    """Least-squares similarity that carries (N, 3) source points onto target points (Umeyama 1991)."""
    mean_s = source.mean(axis=0)
    mean_t = target.mean(axis=0)
    s = source - mean_s
    t = target - mean_t
    u, d, vt = np.linalg.svd(t.T @ s)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = float((d * sign).sum() / (s**2).sum())
    return Similarity(scale, rotation, mean_t - scale * rotation @ mean_s)


@dataclass(frozen=True)
class Fit:
    """A source head laid onto a target: where its vertices come to lie, and how its displacements turn."""

    vertices: F64
    transform: Similarity
    shape: F64


def register(
    source: Surface,
    basis: F64,
    face: I64,
    target: Surface,
    start: Similarity,
    *,
    rounds: int = 40,
    trim: float = 0.9,
    prior_m: float = 0.001,
) -> Fit:
    """Lay the source head onto the target.

    basis: (V, 3, S) shape basis of the source in m per standard deviation. face: vertices of the source that
    take part. start: a rough alignment, good to a few centimetres. trim: share of the closest pairs that
    count. prior_m: how far a point must lie off for a shape coefficient of one standard deviation to be worth
    its cost.
    """
    transform = start
    shape = np.zeros(basis.shape[2])
    local = basis[face].reshape(len(face) * 3, -1)
    target_normals = target.vertex_normals()
    for turn in range(rounds):
        resting = source.vertices + basis @ shape
        moved = Surface(transform(resting), source.faces)
        normals = moved.vertex_normals()[face]
        match = closest(moved.vertices[face], normals, target)
        limit = np.quantile(match.distance, trim)
        near = match.distance <= max(limit, 1e-9)
        transform = similarity(resting[face][near], match.points[near])
        if turn < rounds // 3 or basis.shape[2] == 0:
            continue
        # shape: point to plane, so that the surface may slide along itself
        inverse = Similarity(
            1 / transform.scale,
            transform.rotation.T,
            -transform.rotation.T @ transform.shift / transform.scale,
        )
        corners = target.faces[match.triangles]
        plane = np.einsum("nc,ncd->nd", match.weights, target_normals[corners]) @ transform.rotation
        plane /= np.maximum(np.linalg.norm(plane, axis=1, keepdims=True), 1e-12)
        gap = inverse(match.points) - source.vertices[face]
        rows = np.einsum("nd,nds->ns", plane, local.reshape(len(face), 3, -1))[near]
        distances = np.einsum("nd,nd->n", plane, gap)[near]
        ridge = (prior_m**2) * near.sum() / 100.0
        shape = np.linalg.solve(rows.T @ rows + ridge * np.eye(rows.shape[1]), rows.T @ distances)
    return Fit(transform(source.vertices + basis @ shape), transform, shape)
