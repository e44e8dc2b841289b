"""Teeth, gums, eyeballs and eyelashes for a head that has none: geometry made from a few curves of the skin
it belongs to.

Everything is symmetric by construction (the right half is the mirrored left half) and in metres, x to the
subject's left, y up, z out of the face. Tooth sizes are the usual adult averages (Wheeler's Dental Anatomy,
table of crown dimensions).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from eifer_ros.types import F64

I64 = npt.NDArray[np.int64]


@dataclass
class Mesh:
    """Vertices (V, 3) m, triangles (F, 3) counter-clockwise seen from outside, and the part of every vertex."""

    vertices: F64 = field(default_factory=lambda: np.zeros((0, 3)))
    faces: I64 = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    parts: list[str] = field(default_factory=list)

    def add(self, vertices: npt.ArrayLike, faces: npt.ArrayLike, part: str) -> None:
        """Append a piece whose vertices all belong to `part`."""
        points = np.asarray(vertices, np.float64)
        self.faces = np.vstack([self.faces, np.asarray(faces, np.int64) + len(self.vertices)])
        self.vertices = np.vstack([self.vertices, points])
        self.parts += [part] * len(points)

    def add_mesh(self, other: Mesh) -> None:
        """Append another mesh."""
        self.faces = np.vstack([self.faces, other.faces + len(self.vertices)])
        self.vertices = np.vstack([self.vertices, other.vertices])
        self.parts += other.parts

    def mirrored(self, rename: dict[str, str] | None = None) -> Mesh:
        """The other side: x negated, winding turned, parts renamed."""
        names = rename or {}
        return Mesh(
            self.vertices * [-1.0, 1.0, 1.0],
            self.faces[:, ::-1].copy(),
            [names.get(part, part) for part in self.parts],
        )


def _lattice(rows: int, columns: int, closed: bool) -> I64:
    """Triangles of a (rows, columns) grid of vertices, row by row; `closed` joins the last column to the
    first.
    """
    faces = []
    for row in range(rows - 1):
        for column in range(columns if closed else columns - 1):
            a = row * columns + column
            b = row * columns + (column + 1) % columns
            c = a + columns
            d = b + columns
            faces += [(a, c, b), (b, c, d)]
    return np.array(faces, np.int64).reshape(-1, 3)


# eyeball
# -------------------------------------------------------------------------------------------------------------
IRIS_RADIUS_M = 0.0057
PUPIL_RADIUS_M = 0.0019
EYE_SECTORS = 32


def eyeball(radius: float, side: str) -> tuple[F64, I64, list[str]]:
    """A sphere round the origin that looks along +z: unit directions (V, 3), faces and parts `pupil`, `iris`,
    `eye`.

    radius: of the eye it will be used for, m; it fixes the angles at which iris and pupil end. The rims of
    iris and pupil are doubled, so that no triangle has two colours.
    """
    pupil = np.arcsin(PUPIL_RADIUS_M / radius)
    iris = np.arcsin(IRIS_RADIUS_M / radius)
    rings = {
        f"pupil_{side}": [pupil * 0.5, pupil],
        f"iris_{side}": [pupil, pupil * 0.5 + iris * 0.5, iris],
        f"eye_{side}": [iris, *np.linspace(iris, np.radians(115.0), 8)[1:]],
    }
    mesh = Mesh()
    angle = np.arange(EYE_SECTORS) * 2.0 * np.pi / EYE_SECTORS
    for part, polar in rings.items():
        theta = np.asarray(polar)[:, None]
        ring = np.stack(
            [
                np.sin(theta) * np.cos(angle),
                np.sin(theta) * np.sin(angle),
                np.broadcast_to(np.cos(theta), (len(polar), EYE_SECTORS)),
            ],
            -1,
        ).reshape(-1, 3)
        faces = _lattice(len(polar), EYE_SECTORS, True)
        if part.startswith("pupil"):
            ring = np.vstack([ring, [0.0, 0.0, 1.0]])
            fan = [(len(ring) - 1, k, (k + 1) % EYE_SECTORS) for k in range(EYE_SECTORS)]
            faces = np.vstack([faces, fan])
        mesh.add(ring, faces, part)
    return mesh.vertices, mesh.faces, mesh.parts


# teeth
# ---------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Tooth:
    """Crown size in mm: mesio-distal width, height, labio-lingual depth; how thick the biting edge is, 0..1
    of the depth.
    """

    width: float
    height: float
    depth: float
    edge: float


UPPER = (
    Tooth(8.5, 10.0, 6.5, 0.25),
    Tooth(6.6, 9.0, 6.0, 0.25),
    Tooth(7.6, 9.8, 7.5, 0.3),
    Tooth(7.0, 8.2, 8.5, 0.6),
    Tooth(6.8, 7.5, 8.5, 0.65),
    Tooth(10.0, 7.0, 10.0, 0.75),
)
LOWER = (
    Tooth(5.3, 8.6, 5.8, 0.25),
    Tooth(5.8, 8.8, 6.0, 0.25),
    Tooth(6.8, 10.0, 7.2, 0.3),
    Tooth(7.0, 8.4, 7.5, 0.6),
    Tooth(7.1, 7.8, 8.0, 0.65),
    Tooth(10.8, 7.2, 10.0, 0.75),
)
_RING = 10
_HEIGHTS = np.array([0.0, 0.25, 0.55, 0.82, 0.96, 1.0])
_WIDTHS = np.array([0.74, 0.88, 0.98, 1.0, 0.94, 0.82])


class Arch:
    """The curve of a dental arch: a symmetric spline through the labial edge of the biting line, by arc
    length from the middle.

    points: (N, 3) m from one end to the other; up: +1 where the roots lie above (upper jaw), -1 below.
    """

    def __init__(self, points: npt.ArrayLike, up: float) -> None:
        p = np.asarray(points, np.float64)
        p = 0.5 * (p + p[::-1] * [-1.0, 1.0, 1.0])
        step = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(p, axis=0), axis=1))]
        self.half = float(step[-1] / 2.0)
        self._spline = CubicSpline(step - self.half, p)
        self.up = up

    def at(self, s: npt.ArrayLike) -> F64:
        """(N, 3) points at signed arc length `s` (positive to the subject's left)."""
        return np.asarray(self._spline(np.asarray(s, np.float64)))

    def frame(self, s: float) -> tuple[F64, F64]:
        """Unit tangent and outward unit normal in the horizontal plane."""
        tangent = np.asarray(self._spline(s, 1)) * [1.0, 0.0, 1.0]
        tangent /= np.linalg.norm(tangent)
        return tangent, np.array([-tangent[2], 0.0, tangent[0]])


def teeth(arch: Arch, row: tuple[Tooth, ...], part: str) -> tuple[Mesh, F64]:
    """One row of teeth along `arch`, biting edge on the arch; and the arc lengths where teeth meet (for the
    gum line).
    """
    scale = 1e-3 * min(1.06, arch.half / (sum(tooth.width for tooth in row) * 1e-3))
    left = Mesh()
    start = 0.0
    meets = [0.0]
    turn = np.arange(_RING) * 2.0 * np.pi / _RING
    for tooth in row:
        width = tooth.width * scale
        depth = tooth.depth * scale
        height = tooth.height * scale
        centre = start + width / 2.0
        origin = arch.at(centre)
        tangent, outward = arch.frame(centre)
        # superellipse: flat sides, round corners
        c = np.cos(turn)
        s = np.sin(turn)
        across = np.sign(c) * np.abs(c) ** 0.7
        out = np.sign(s) * np.abs(s) ** 0.7
        edge = (
            np.array([0.85, 1.0, 0.92, 0.62, 0.42, 0.3])
            if tooth.edge < 0.5
            else np.array([0.85, 1.0, 1.0, 0.97, 0.9, 0.8])
        )
        rings = []
        for share, wide, thick in zip(_HEIGHTS, _WIDTHS, edge, strict=True):
            half_depth = depth / 2.0 * thick
            # the labial face stays near the arch and curls in a little towards the edge and the neck
            inset = depth * (0.06 + 0.10 * (1.0 - share) ** 2 + 0.05 * share**3)
            middle = (
                origin
                - outward * (half_depth + inset)
                + np.array([0.0, arch.up * height * (1.0 - share), 0.0])
            )
            rings.append(
                middle
                + np.outer(across * width * 0.985 / 2.0 * wide, tangent)
                + np.outer(out * half_depth, outward)
            )
        cap = np.mean(rings[-1], axis=0) + np.array([0.0, -arch.up * 0.2e-3, 0.0])
        points = np.vstack([*rings, cap])
        faces = _lattice(len(rings), _RING, True)
        top = (len(rings) - 1) * _RING
        faces = np.vstack([faces, [(top + k, len(points) - 1, top + (k + 1) % _RING) for k in range(_RING)]])
        left.add(points, faces if arch.up < 0 else faces[:, ::-1], part)
        start += width
        meets.append(start)
    mesh = Mesh()
    mesh.add_mesh(left)
    mesh.add_mesh(left.mirrored())
    return mesh, np.array(meets)


def gums(arch: Arch, row: tuple[Tooth, ...], meets: F64, part: str) -> Mesh:
    """A band of gum over the necks of `row`: scalloped round each tooth, both sides of the arch, closed at
    the root.
    """
    left = Mesh()
    stations = []
    for index, tooth in enumerate(row):
        a = meets[index]
        b = meets[index + 1]
        scale = (b - a) / tooth.width
        for share in (0.0, 0.2, 0.5, 0.8):
            stations.append(
                (a + share * (b - a), tooth.height * scale, tooth.depth * scale, abs(2.0 * share - 1.0))
            )
    last = row[-1]
    stations.append((meets[-1], last.height * scale, last.depth * scale, 1.0))
    # neighbours meet at one height and depth
    for index in range(4, len(stations) - 1, 4):
        s, height, depth, between = stations[index]
        before = stations[index - 1]
        stations[index] = (s, 0.5 * (height + before[1]), 0.5 * (depth + before[2]), between)
    rows = []
    for s, height, depth, between in stations:
        origin = arch.at(s)
        _, outward = arch.frame(s)
        if s == 0.0:
            outward = np.array([0.0, 0.0, 1.0])
        papilla = 0.0022 * between**1.5
        neck = height - papilla
        up = np.array([0.0, arch.up, 0.0])
        rows.append(
            [
                origin + up * (neck - 0.0006) - outward * depth * 0.20,
                origin + up * (neck + 0.0004) - outward * (depth * 0.02 + 0.0009 * between),
                origin + up * (height + 0.0035) + outward * 0.0006,
                origin + up * (height + 0.0085) - outward * 0.0006,
                origin + up * (height + 0.0085) - outward * (depth + 0.002),
                origin + up * (height + 0.0010) - outward * (depth + 0.0015),
                origin + up * (neck - 0.0006) - outward * depth * 0.85,
            ]
        )
    points = np.array(rows)
    faces = _lattice(len(points), points.shape[1], False)
    left.add(points.reshape(-1, 3), faces if arch.up > 0 else faces[:, ::-1], part)
    mesh = Mesh()
    mesh.add_mesh(left)
    mesh.add_mesh(left.mirrored())
    return mesh
