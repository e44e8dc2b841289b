"""The sensors on a simulated face: pads at both schemes' sites, plugs, cables, sticks and tape, glued to the
moving skin.

As in the published sessions: about 60 square white pads with a metal snap and a dot, pairs 10 mm apart along
the fibre for the Fridlund sites, single pads for Kuramoto's, a row of eight across the chin with cables
hanging down, a bundle over forehead and crown, cables from the cheeks to the ears, a curtain of cables on
both sides, white sticks at the temples.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...emg import montage
from ...errors import ModelError
from ...render import rasteriser as raster
from ...render import shade
from ...types import F32, F64, I32, U8
from ..seeds import generator
from .surface import PAD, SHADOW, Points, Surface, cast

BANK = 256
"""How many fittings are kept; network training draws from so many."""
STYLE_SIZE = 12
STEPS = 20
"""Points along every cable."""
CONTROLS = 6
_GRID = 6
_SKIRT = 0.30
"""Width of the shadow round a pad as a share of its half side."""

RED = (0.46, 0.035, 0.028)
ORANGE = (0.60, 0.10, 0.035)
BLACK = (0.016, 0.016, 0.018)
WHITE = (0.72, 0.73, 0.75)
GREY = (0.20, 0.20, 0.21)
_PLUG = (0.018, 0.018, 0.028)


@dataclass(frozen=True)
class Glue:
    """N points that follow the skin: on the surface, plus `lift` (N,) m along the normal, plus `shift` (N, 3)
    m in model coordinates.
    """

    points: Points
    lift: F32
    shift: F32

    def on(self, vertices: F32, normals: F32) -> F32:
        """(N, 3) positions."""
        place = _weighted(vertices, self.points.corners, self.points.weights)
        outward = _weighted(normals, self.points.corners, self.points.weights)
        return np.asarray(place + outward * self.lift[:, None] + self.shift, np.float32)


@raster.compiled
def _weighted(values: Any, corners: Any, weights: Any) -> Any:
    out = np.empty((corners.shape[0], values.shape[1]), np.float32)
    for n in range(corners.shape[0]):
        a = corners[n, 0]
        b = corners[n, 1]
        c = corners[n, 2]
        for k in range(values.shape[1]):
            out[n, k] = (
                weights[n, 0] * values[a, k] + weights[n, 1] * values[b, k] + weights[n, 2] * values[c, k]
            )
    return out


@dataclass(frozen=True)
class Rig:
    """All sensors of one session on one head model: P pads, C cables and sticks."""

    names: tuple[str, ...]
    """Which contact each pad is (`F1a`, `K20`, ...); tape strips come last and are called `tape`."""
    pads: Glue
    """(P * 36) nodes, a 6 x 6 grid per pad whose outer ring is the shadow."""
    pad_local: F32
    """(P * 36, 2) pad coordinates, -1..1 on the pad itself."""
    cables: Glue
    """(C * 6) control points."""
    radius: F32
    """(C, STEPS) m."""
    cable_style: I32
    """(C,) row of `styles`; pads come first."""
    styles: F32
    sites: F32
    """(P,) half side of each pad, m."""

    @property
    def pad_count(self) -> int:
        """P."""
        return len(self.names)


def pad_faces(count: int, first: int) -> I32:
    """Triangles of the pad grids."""
    grid = np.arange(_GRID * _GRID).reshape(_GRID, _GRID)
    a = grid[:-1, :-1].reshape(-1)
    b = grid[:-1, 1:].reshape(-1)
    c = grid[1:, :-1].reshape(-1)
    d = grid[1:, 1:].reshape(-1)
    one = np.concatenate([np.stack([a, b, c], -1), np.stack([b, d, c], -1)])
    return np.asarray(
        (first + np.arange(count)[:, None, None] * _GRID * _GRID + one[None]).reshape(-1, 3), np.int32
    )


def pad_materials(count: int) -> U8:
    """Material of every triangle of `pad_faces`."""
    ring = np.ones((_GRID - 1, _GRID - 1), bool)
    ring[1:-1, 1:-1] = False
    one = np.where(ring.reshape(-1), SHADOW, PAD).astype(np.uint8)
    return np.tile(np.concatenate([one, one]), count)


def _blend() -> F32:
    """(STEPS, CONTROLS) Catmull-Rom weights; the plug, between the first two control points, has its own four
    samples.
    """
    t = np.concatenate([np.linspace(0.0, 1.0, 4), np.linspace(1.0, CONTROLS - 1.0, STEPS - 3)[1:]])
    weights = np.zeros((STEPS, CONTROLS))
    for row, value in enumerate(t):
        i = min(int(value), CONTROLS - 2)
        u = value - i
        for k, w in zip(
            (i - 1, i, i + 1, i + 2),
            (
                -0.5 * u + u**2 - 0.5 * u**3,
                1.0 - 2.5 * u**2 + 1.5 * u**3,
                0.5 * u + 2.0 * u**2 - 1.5 * u**3,
                -0.5 * u**2 + 0.5 * u**3,
            ),
            strict=True,
        ):
            if k < 0:  # mirror the end points
                weights[row, 0] += 2.0 * w
                weights[row, 1] -= w
            elif k >= CONTROLS:
                weights[row, CONTROLS - 1] += 2.0 * w
                weights[row, CONTROLS - 2] -= w
            else:
                weights[row, k] += w
    return weights.astype(np.float32)


BLEND = _blend()


@dataclass(frozen=True)
class _Atlas:
    """What placing sensors needs to know about a head, once."""

    corners: I32
    weights: F32
    sites: tuple[tuple[str, F64, F64], ...]
    """Name, place on the template, fibre direction in the face plane (NaN where single)."""
    shape: tuple[int, int]
    normals: F64

    def points_towards(self, directions: F64) -> Points:
        """Outermost skin in (N, 3) directions from the skull's centre, to within half a grid cell (1.5
        degrees).
        """
        rows, columns = self.shape
        unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        row = np.clip(np.arccos(np.clip(unit[:, 1], -1, 1)) / np.pi * rows, 0, rows - 1).astype(int)
        column = ((np.arctan2(unit[:, 0], unit[:, 2]) / (2 * np.pi) + 0.5) * columns).astype(int) % columns
        index = row * columns + column
        return Points(self.corners[index], self.weights[index])


@functools.lru_cache(maxsize=4)
def _atlas(surface: Surface) -> _Atlas:
    head = surface.head
    rows = 60
    columns = 120
    polar, turn = np.meshgrid(
        (np.arange(rows) + 0.5) / rows * np.pi,
        ((np.arange(columns) + 0.5) / columns - 0.5) * 2 * np.pi,
        indexing="ij",
    )
    directions = np.stack(
        [np.sin(polar) * np.sin(turn), np.cos(polar), np.sin(polar) * np.cos(turn)], axis=-1
    ).reshape(-1, 3)
    points, _ = surface.around(directions)
    sites: list[tuple[str, F64, F64]] = []
    for which, scheme in (
        ("electrodes_fridlund", montage.FRIDLUND),
        ("electrodes_kuramoto", montage.KURAMOTO),
    ):
        if which not in head.embeddings:
            raise ModelError(f"head model '{head.id}' has no {which}; sensors cannot be placed on it")
        embedding = head.embedding(which)
        places = embedding.points(head.template, surface.faces).astype(np.float64)
        for name, place in zip(embedding.names, places, strict=True):
            fibre = scheme.fibres[scheme.index(name)]
            sites.append((name, place, np.asarray(fibre, np.float64)))
    return _Atlas(
        points.corners,
        points.weights,
        tuple(sites),
        (rows, columns),
        shade.vertex_normals(head.template, surface.skin_faces).astype(np.float64),
    )


@functools.lru_cache(maxsize=512)
def _near(surface: Surface, x: int, y: int, z: int) -> I32:
    """Skin triangles within 4 cm of a point given in cells of 1 cm."""
    centroid = surface.head.template[surface.skin_faces].mean(axis=1)
    centre = (np.array([x, y, z]) + 0.5) * 0.01
    return np.ascontiguousarray(surface.skin_faces[np.linalg.norm(centroid - centre, axis=1) < 0.04])


def _press(surface: Surface, centre: F64, normal: F64, targets: F64) -> Points:
    """Press (N, 3) points near `centre` onto the skin along `normal`; what misses goes to the nearest
    triangle.
    """
    cell = np.floor(centre / 0.01).astype(int)
    faces = _near(surface, int(cell[0]), int(cell[1]), int(cell[2]))
    hit = np.empty(len(targets), np.int64)
    weights = np.zeros((len(targets), 3))
    v = surface.head.template.astype(np.float64)
    cast(
        np.ascontiguousarray(targets + 0.008 * normal),
        np.ascontiguousarray(np.broadcast_to(-normal, targets.shape)),
        v,
        faces,
        False,
        hit,
        weights,
    )
    for n in np.flatnonzero(hit < 0):
        hit[n] = int(np.argmin(np.linalg.norm(v[faces].mean(axis=1) - targets[n], axis=1)))
        weights[n] = 1.0 / 3.0
    return Points(faces[hit], weights.astype(np.float32))


def _frame(normal: F64, along: F64) -> tuple[F64, F64]:
    """Two unit tangents: `along` flattened onto the surface, and the one to its left."""
    first = along - normal * (along @ normal)
    first = first / np.linalg.norm(first)
    return first, np.cross(normal, first)


def _slerp(a: F64, b: F64, t: float) -> F64:
    angle = float(np.arccos(np.clip(a @ b, -1.0, 1.0)))
    if angle < 1e-3:
        return a
    return np.asarray((np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle))


class _Builder:
    """Collects pads and cables with one generator."""

    def __init__(self, surface: Surface, rng: np.random.Generator) -> None:
        self.surface = surface
        self.rng = rng
        self.atlas = _atlas(surface)
        self.pad_names: list[str] = []
        self.pad_points: list[Points] = []
        self.pad_local: list[F64] = []
        self.pad_lift: list[F64] = []
        self.pad_style: list[list[float]] = []
        self.pad_half: list[float] = []
        self.cable_points: list[Points] = []
        self.cable_lift: list[F64] = []
        self.cable_shift: list[F64] = []
        self.cable_radius: list[F64] = []
        self.cable_style: list[list[float]] = []

    def normal(self, points: Points) -> F64:
        """Mean template normal at `points`."""
        mean = np.einsum("nc,ncd->d", points.weights, self.atlas.normals[points.corners])
        return np.asarray(mean / np.linalg.norm(mean))

    def pad(
        self, name: str, place: F64, along: F64, half: float, *, stretch: float = 1.0, tape: bool = False
    ) -> tuple[F64, F64, F64]:
        """A pad of half side `half` m; returns its snap's place, normal and long direction."""
        rng = self.rng
        outward = place - self.surface.centre
        outward[1] *= 0.5
        spot = _press(self.surface, place, outward / np.linalg.norm(outward), place[None])
        normal = self.normal(spot)
        place = spot.on(self.surface.head.template)[0].astype(np.float64)
        a, b = _frame(normal, along)
        turn = rng.normal(0.0, 0.12)
        a, b = np.cos(turn) * a + np.sin(turn) * b, np.cos(turn) * b - np.sin(turn) * a
        skirt = _SKIRT * min(1.0, 0.005 / half)
        steps = np.array([-1.0 - skirt, -1.0, -0.34, 0.34, 1.0, 1.0 + skirt])
        u, w = np.meshgrid(steps, steps)
        u = u.reshape(-1)
        w = w.reshape(-1)
        # cut by hand: the corners are not quite square
        skew = rng.normal(0.0, 0.05, 4)
        targets = place + half * (
            (u * stretch * (1 + skew[0] * w) + skew[1] * w)[:, None] * a
            + (w * (1 + skew[2] * u) + skew[3] * u)[:, None] * b
        )
        self.pad_points.append(_press(self.surface, place, normal, targets))
        self.pad_local.append(np.column_stack([u, w]))
        inside = (np.abs(u) <= 1.0) & (np.abs(w) <= 1.0)
        thick = 0.0004 if tape else rng.uniform(0.0006, 0.0012)
        self.pad_lift.append(
            np.where(inside, thick + rng.uniform(0.0, 0.0008) * (np.abs(u * w) > 0.9), 0.0001)
        )
        self.pad_names.append(name)
        self.pad_half.append(half)
        white = rng.uniform(0.60, 0.84)
        snap = (0.0, 0.0) if tape else (rng.normal(0.0, 0.10), rng.normal(0.0, 0.10))
        corner = rng.choice([-1.0, 1.0], 2) * rng.uniform(0.5, 0.7, 2)
        self.pad_style.append(
            [
                white * 0.93,
                white * 0.97,
                white * 1.04,
                half,
                snap[0],
                snap[1],
                1e-5 if tape else rng.uniform(0.0016, 0.0022),
                corner[0],
                corner[1],
                0.0 if tape or rng.random() < 0.2 else rng.uniform(0.5, 1.0),
                rng.uniform(0.45, 0.7) if tape else rng.uniform(0.0, 0.03),
                skirt,
            ]
        )
        return place + half * (snap[0] * a + snap[1] * b), normal, a

    def cable(
        self,
        points: Points,
        lift: F64,
        shift: F64,
        radius: F64,
        colour: tuple[float, float, float],
        *,
        plug: float = 0.0,
        plug_colour: tuple[float, float, float] = _PLUG,
        gloss: float = 0.12,
    ) -> None:
        """A cable through six control points."""
        self.cable_points.append(points)
        self.cable_lift.append(lift)
        self.cable_shift.append(shift)
        self.cable_radius.append(radius)
        tone = float(np.exp(self.rng.normal(0.0, 0.12)))
        self.cable_style.append(
            [
                colour[0] * tone,
                colour[1] * tone,
                colour[2] * tone,
                gloss,
                plug,
                *plug_colour,
                0.0,
                0.0,
                0.0,
                0.0,
            ]
        )

    def lead(
        self,
        snap: F64,
        normal: F64,
        course: list[tuple[F64, float]],
        start: F64,
        colour: tuple[float, float, float],
        *,
        hang: bool = False,
    ) -> None:
        """A plug on `snap` that points along `start`, then a cable over the skin through directions with
        lifts; `hang`: free ends.

        course: four (direction from the skull's centre, lift m), or where `hang` four (shift from the plug,
        unused).
        """
        rng = self.rng
        length = rng.uniform(0.008, 0.013)
        along, _ = _frame(normal, start)
        ends = np.stack([snap, snap + length * along])
        near = _press(self.surface, snap, normal, ends)
        lift, shift = np.zeros(CONTROLS), np.zeros((CONTROLS, 3))
        lift[:2] = 0.0026, rng.uniform(0.003, 0.0055)
        if hang:
            corners = np.repeat(near.corners[1:2], 4, axis=0)
            weights = np.repeat(near.weights[1:2], 4, axis=0)
            for index, (step, extra) in enumerate(course):
                shift[2 + index] = step
                lift[2 + index] = lift[1] + extra
        else:
            rest = self.atlas.points_towards(np.array([direction for direction, _ in course]))
            corners = rest.corners
            weights = rest.weights
            lift[2:] = [extra for _, extra in course]
        points = Points(
            np.concatenate([near.corners, corners]),
            np.concatenate([near.weights, weights]).astype(np.float32),
        )
        wire = rng.uniform(0.00045, 0.00065)
        radius = np.full(STEPS, wire)
        radius[:4] = rng.uniform(0.0010, 0.0013)
        radius[3] = 0.0009
        self.cable(points, lift, shift, radius, colour, plug=length * 1.02)


def _pick(
    rng: np.random.Generator, colours: tuple[tuple[float, float, float], ...], chances: tuple[float, ...]
) -> tuple[float, float, float]:
    return colours[int(rng.choice(len(colours), p=np.asarray(chances) / np.sum(chances)))]


@functools.lru_cache(maxsize=BANK)
def build(surface: Surface, seed: int) -> Rig:
    """The sensors of session `seed` on a head: the same seed gives the same sensors.

    About 0.1 s, then kept.
    """
    rng = generator(seed, "sensors")
    make = _Builder(surface, rng)
    unit = surface.unit
    eyes = surface.eye_line
    placed: list[F64] = []
    red = rng.uniform(0.6, 0.95)
    palette = (RED, ORANGE, BLACK, WHITE, GREY)
    top_side = float(rng.choice([-1.0, 1.0]))

    def towards(azimuth: float, elevation: float) -> F64:
        """Direction from the skull's centre: azimuth rad from the nose to the subject's left, elevation rad
        above the eyes.
        """
        return np.array(
            [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
        )

    def route(name: str, snap: F64, normal: F64) -> None:
        x = snap[0] / unit
        y = (snap[1] - eyes) / unit
        side = float(np.sign(x)) if abs(x) > 0.06 else float(rng.choice([-1.0, 1.0]))
        here = snap - surface.centre
        here = here / np.linalg.norm(here)
        if y < -1.22 and abs(x) < 0.75:  # chin: hanging down
            colour = _pick(rng, palette, (red, 0.15, 0.08, 0.02, 0.02))
            sway = 0.004 * x / 0.4 + rng.normal(0.0, 0.004)
            back = rng.uniform(0.0, 0.012)
            course = [
                (np.array([sway * t, -0.030 * t - 0.008, -back * t + 0.006]), 0.003)
                for t in (0.3, 1.1, 2.2, 3.6)
            ]
            make.lead(snap, normal, course, np.array([rng.normal(0, 0.15), -1.0, 0.0]), colour, hang=True)
            return
        lift = rng.uniform(0.0025, 0.007, 4)
        if y > 0.30 and abs(x) < 1.0:  # forehead: over the crown
            target = towards(side * rng.uniform(0.5, 2.2) + 0.25 * x, rng.uniform(0.95, 1.45))
            colour = _pick(
                rng, palette, (red, 0.12, 0.30, 0.10, 0.12) if abs(x) > 0.12 else (0.3, 0.05, 0.5, 0.4, 0.1)
            )
            start = np.array([0.45 * x + rng.normal(0.0, 0.25), 1.0, 0.0])
        elif abs(x) < 0.12 and y > -0.55:  # bridge of the nose
            target, colour = towards(rng.normal(0.0, 0.3), 1.3), _pick(rng, (BLACK, WHITE), (0.6, 0.4))
            start = np.array([rng.normal(0.0, 0.3), 1.0, 0.0])
        elif abs(x) < 0.2:  # upper lip: one long cable across a cheek
            side = top_side
            target, colour = towards(side * 1.55, 0.35), _pick(rng, (WHITE, GREY, BLACK), (0.5, 0.3, 0.2))
            start = np.array([side, 0.12, 0.0])
        elif y < -0.55 and abs(x) > 0.95:  # jaw: back under the ear
            target, colour = (
                towards(side * rng.uniform(1.7, 2.1), rng.uniform(-0.7, -0.3)),
                _pick(rng, palette, (0.6 * red, 0.1, 0.2, 0.1, 0.3)),
            )
            start = np.array([side, -0.4 + rng.normal(0, 0.3), -0.6])
        elif y < 0.1:  # cheek: up and out to the ear
            target = towards(side * rng.uniform(1.55, 1.8), rng.uniform(0.12, 0.45))
            colour = _pick(rng, palette, (red, 0.7, 0.15, 0.04, 0.04))
            start = np.array([side * 0.8, 0.65 + rng.normal(0.0, 0.25), 0.0])
        else:  # temple: back and up
            target, colour = (
                towards(side * rng.uniform(1.6, 2.0), rng.uniform(0.5, 1.0)),
                _pick(rng, palette, (red, 0.1, 0.3, 0.1, 0.1)),
            )
            start = np.array([side, 0.7, -0.3])
        # a sagging or lifted path rather than the shortest one
        bend = rng.normal(0.0, 0.10)
        course = []
        for t, extra in zip((0.22, 0.48, 0.76, 1.0), lift, strict=True):
            direction = _slerp(here, target, t)
            direction = direction + bend * np.sin(np.pi * t) * np.cross(here, target)
            direction[1] -= 0.10 * np.sin(np.pi * t) * (abs(x) < 0.2 and y < -0.5)
            course.append((direction, float(extra)))
        make.lead(snap, normal, course, start, colour)

    crowd = rng.uniform(0.006, 0.0075)
    for name, place, fibre in make.atlas.sites:
        spot = place + np.r_[rng.normal(0.0, 0.0016, 2), 0.0]
        paired = bool(np.isfinite(fibre).all())
        if name in ("F13", "F14", "F15", "F16"):
            fibre = np.array([1.0, 0.12 * np.sign(place[0])])  # the chin row lies across, whatever the fibre
        direction = np.r_[fibre, 0.0] if paired else np.r_[rng.normal(0.0, 0.25), 1.0, 0.0]
        direction = direction / np.linalg.norm(direction)
        contacts = ((f"{name}a", -1.0), (f"{name}b", 1.0)) if paired else ((name, 0.0),)
        outward = place - surface.centre
        outward[1] *= 0.3
        outward /= np.linalg.norm(outward)
        along, _ = _frame(outward, direction)
        for contact, sign in contacts:
            at = spot + sign * montage.CONTACT_OFFSET_M * along
            gap = min((float(np.linalg.norm(at - other)) for other in placed), default=1.0)
            if not paired and gap < crowd:  # no room for a second pad: the two schemes share this one
                continue
            placed.append(at)
            half = rng.uniform(0.0048, 0.0062) if paired else rng.uniform(0.0056, 0.0074)
            snap, normal, _ = make.pad(contact, at, direction, half)
            route(contact, snap, normal)
    for _ in range(int(rng.integers(2, 6))):  # strips of tape
        azimuth, elevation = (
            rng.uniform(-1.1, 1.1),
            rng.choice([rng.uniform(0.45, 0.75), rng.uniform(-0.25, 0.1)]),
        )
        azimuth = azimuth if elevation > 0.4 else float(np.sign(azimuth)) * rng.uniform(0.95, 1.2)
        place = (
            make.atlas.points_towards(towards(float(azimuth), float(elevation))[None])
            .on(surface.head.template)[0]
            .astype(np.float64)
        )
        make.pad(
            "tape",
            place,
            np.array([rng.normal(), rng.normal(), 0.0]),
            rng.uniform(0.005, 0.007),
            stretch=rng.uniform(1.2, 2.0),
            tape=True,
        )

    _crown(make, rng, towards, red)
    _curtain(make, rng, towards, red)
    _sticks(make, rng, towards)

    pads = len(make.pad_names)
    styles = np.zeros((pads + len(make.cable_style), STYLE_SIZE), np.float32)
    styles[:pads] = make.pad_style
    styles[pads:] = make.cable_style
    return Rig(
        tuple(make.pad_names),
        Glue(
            _join(make.pad_points),
            np.concatenate(make.pad_lift).astype(np.float32),
            np.zeros((pads * _GRID * _GRID, 3), np.float32),
        ),
        np.concatenate(make.pad_local).astype(np.float32),
        Glue(
            _join(make.cable_points),
            np.concatenate(make.cable_lift).astype(np.float32),
            np.concatenate(make.cable_shift).astype(np.float32),
        ),
        np.stack(make.cable_radius).astype(np.float32),
        (pads + np.arange(len(make.cable_style))).astype(np.int32),
        styles,
        np.array(make.pad_half, np.float32),
    )


def _join(pieces: list[Points]) -> Points:
    return Points(
        np.concatenate([piece.corners for piece in pieces]).astype(np.int32),
        np.concatenate([piece.weights for piece in pieces]),
    )


def _crown(make: _Builder, rng: np.random.Generator, towards: Any, red: float) -> None:
    """Cables that lie over the top of the head, from the forehead backwards and sideways."""
    for _ in range(int(rng.integers(14, 30))):
        start = rng.uniform(-0.9, 0.9)
        side = np.sign(start) if abs(start) > 0.1 else rng.choice([-1.0, 1.0])
        low = rng.uniform(0.62, 0.95)
        high = rng.uniform(0.9, 1.3)
        end = side * rng.uniform(1.5, 2.4)
        t = np.linspace(0.0, 1.0, CONTROLS)
        azimuth = start + (end - start) * t**1.2 + rng.normal(0.0, 0.04, CONTROLS)
        elevation = low + (high - low) * np.sin(np.pi * t * 0.75) - 0.5 * t**2 * rng.uniform(0.3, 1.4)
        points = make.atlas.points_towards(
            np.array([towards(a, e) for a, e in zip(azimuth, elevation, strict=True)])
        )
        colour = _pick(rng, (RED, BLACK, WHITE, GREY), (0.8 * red, 0.22, 0.22, 0.2))
        make.cable(
            points,
            rng.uniform(0.006, 0.014, CONTROLS),
            np.zeros((CONTROLS, 3)),
            np.full(STEPS, rng.uniform(0.0005, 0.0007)),
            colour,
        )


def _curtain(make: _Builder, rng: np.random.Generator, towards: Any, red: float) -> None:
    """Cables that run from the crown behind the ears and hang down at both sides."""
    for side in (-1.0, 1.0):
        wide = rng.uniform(0.0, 0.035)
        for _ in range(int(rng.integers(14, 34))):
            anchor = make.atlas.points_towards(
                np.repeat(
                    towards(side * rng.uniform(1.5, 2.0), rng.uniform(0.25, 0.7))[None], CONTROLS, axis=0
                )
            )
            drop = rng.uniform(0.15, 0.24)
            out = rng.beta(1.3, 1.8) * wide + 0.004
            t = np.linspace(0.0, 1.0, CONTROLS)
            shift = np.stack(
                [
                    side
                    * (
                        out * np.sin(np.pi * np.minimum(t * 0.62, 0.5))
                        + rng.normal(0.0, 0.0025, CONTROLS)
                        + 0.010 * t
                        - 0.012 * (t > 0.7)
                    ),
                    -drop * t**1.05,
                    -0.012 - 0.02 * t + rng.normal(0.0, 0.004, CONTROLS),
                ],
                axis=1,
            )
            colour = _pick(rng, (RED, BLACK, WHITE, GREY), (red, 0.35, 0.10, 0.18))
            make.cable(
                anchor, np.full(CONTROLS, 0.005), shift, np.full(STEPS, rng.uniform(0.0005, 0.0007)), colour
            )


def _sticks(make: _Builder, rng: np.random.Generator, towards: Any) -> None:
    """White sticks with a cotton end, pushed under the net at temples and crown."""
    places = [
        (rng.uniform(0.9, 1.15), rng.uniform(0.35, 0.6)),
        (-rng.uniform(0.9, 1.15), rng.uniform(0.35, 0.6)),
        (rng.uniform(-0.4, 0.4), rng.uniform(0.85, 1.05)),
    ]
    if rng.random() < 0.5:
        places += [
            (rng.uniform(1.2, 1.4), rng.uniform(0.0, 0.3)),
            (-rng.uniform(1.2, 1.4), rng.uniform(0.0, 0.3)),
        ]
    for azimuth, elevation in places:
        if rng.random() < 0.2:
            continue
        anchor = make.atlas.points_towards(np.repeat(towards(azimuth, elevation)[None], CONTROLS, axis=0))
        length = rng.uniform(0.035, 0.065)
        direction = np.array(
            [
                -0.35 * np.sign(azimuth) * (elevation < 0.7) + rng.normal(0.0, 0.18),
                1.0,
                -0.15 + rng.normal(0.0, 0.15),
            ]
        )
        direction = direction / np.linalg.norm(direction) * length
        t = np.linspace(-0.25, 0.75, CONTROLS)
        radius = np.full(STEPS, 0.0012)
        radius[-4:] = 0.0019, 0.0023, 0.0021, 0.0012
        make.cable(
            anchor, np.full(CONTROLS, 0.006), t[:, None] * direction, radius, (0.86, 0.86, 0.85), gloss=0.05
        )
