"""A picture of a robot from its URDF: primitives as meshes, drawn by the head renderer's z-buffer."""

from __future__ import annotations

import numpy as np

from ..head import projection
from ..render import shade
from ..types import F32, F64, U8
from .urdf import Urdf, Visual

_AXES = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
"""Robot axes (x ahead, y left, z up) to model axes (x left, y up, z ahead)."""


def primitive(visual: Visual, segments: int = 40) -> tuple[F64, np.ndarray]:
    """Vertices (V, 3) in the link's frame and faces (F, 3) of a box, cylinder or sphere."""
    if visual.shape == "box":
        corners = (
            np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
            * np.array(visual.size)
            / 2
        )
        quads = np.array([(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)])
        vertices = corners[quads.ravel()]  # own corners for each side: flat shading
        first = 4 * np.arange(6)
        faces = np.vstack(
            [np.column_stack([first, first + 1, first + 2]), np.column_stack([first, first + 2, first + 3])]
        )
    elif visual.shape == "cylinder":
        radius, length = visual.size
        around = np.linspace(0, 2 * np.pi, segments, endpoint=False)
        ring = radius * np.column_stack([np.cos(around), np.sin(around)])
        low, high = (np.column_stack([ring, np.full(segments, s * length / 2)]) for s in (-1, 1))
        vertices = np.vstack([low, high, low, high, [[0, 0, -length / 2], [0, 0, length / 2]]])
        i = np.arange(segments)
        j = (np.arange(segments) + 1) % segments
        n = segments
        faces = np.vstack(
            [
                np.column_stack([i, j, n + j]),
                np.column_stack([i, n + j, n + i]),
                np.column_stack([2 * n + j, 2 * n + i, np.full(n, 4 * n)]),
                np.column_stack([3 * n + i, 3 * n + j, np.full(n, 4 * n + 1)]),
            ]
        )
    else:
        (radius,) = visual.size
        rows = segments // 2
        columns = segments
        theta, phi = np.meshgrid(
            np.linspace(0, np.pi, rows + 1), np.linspace(0, 2 * np.pi, columns, endpoint=False), indexing="ij"
        )
        vertices = radius * np.stack(
            [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1
        ).reshape(-1, 3)
        row, column = (
            part.ravel() for part in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        )
        a = row * columns + column
        b = row * columns + (column + 1) % columns
        faces = np.vstack(
            [np.column_stack([a, a + columns, b]), np.column_stack([b, a + columns, b + columns])]
        )
    return vertices @ visual.origin[:3, :3].T + visual.origin[:3, 3], faces


def robot_mesh(robot: Urdf, positions: dict[str, float]) -> tuple[F32, np.ndarray, F32]:
    """Vertices (V, 3) in model axes, faces (F, 3) and colours (V, 3) of the whole robot."""
    points = []
    triangles = []
    colours = []
    count = 0
    for link, pose in robot.poses(positions).items():
        for visual in robot.visuals[link]:
            vertices, faces = primitive(visual)
            points.append(vertices @ pose[:3, :3].T + pose[:3, 3])
            triangles.append(faces + count)
            colours.append(np.tile(visual.colour[:3], (len(vertices), 1)))
            count += len(vertices)
    if not points:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros((0, 3), np.float32)
    return (
        (np.vstack(points) @ _AXES.T).astype(np.float32),
        np.vstack(triangles).astype(np.int32),
        np.vstack(colours).astype(np.float32),
    )


def render(
    robot: Urdf,
    positions: dict[str, float],
    size: tuple[int, int] = (480, 560),
    *,
    yaw: float = 0.0,
    distance_m: float = 0.75,
) -> U8:
    """(H, W, 3) uint8 RGB of the robot at joint `positions` (rad by name), seen from ahead.

    Twice oversampled.
    """
    vertices, faces, colours = robot_mesh(robot, positions)
    width = 2 * size[0]
    height = 2 * size[1]
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2 if len(vertices) else np.zeros(3)
    span = float(np.ptp(vertices[:, 1])) if len(vertices) else 1.0
    focal = 0.92 * height * distance_m / span
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    background = np.repeat(
        np.linspace(232, 205, height).astype(np.uint8)[:, None, None], width, axis=1
    ).repeat(3, axis=2)
    pose = projection.facing_pose(distance_m, yaw=yaw, centre=centre)
    big = shade.render(vertices, faces, K, pose, (width, height), colour=colours, background=background)
    return np.asarray(big.reshape(size[1], 2, size[0], 2, 3).mean(axis=(1, 3)).astype(np.uint8))
