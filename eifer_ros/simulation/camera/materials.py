"""How a simulated participant and the room look: every random choice in one object, and the skin map painted
from it.

Skin colour follows absorption (melanin and blood, as in Tsumura et al. 2003): reflectance = exp(-(base +
melanin M + blood B)), so that cheeks, lips and blotches shift in hue as real skin does. All colours are
linear light, 0..1.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import ConfigError
from ...head.model import HeadModel
from ...render.rasteriser import compiled
from ...types import ARKIT_52, F32, F64, I32, I64, U8, Array
from ..seeds import generator
from . import surface as surfaces
from .surface import Points, Surface

Profile = Literal["lab", "wild"]
Colour = tuple[float, float, float]

COVERS = ("none", "short", "net", "cap", "hair")
BACKGROUNDS = ("black", "plain", "blobs", "noise", "boxes")
RELIEFS = 8
"""How many different sets of expression lines exist; a participant has one of them."""

_BASE = np.array([0.42, 0.74, 1.08])
_MELANIN = np.array([1.50, 1.85, 2.15])
_BLOOD = np.array([0.07, 0.40, 0.37])


@dataclass(frozen=True)
class Variation:
    """Everything about a picture that is not the face's shape and movement.

    Angles rad, lengths m, colours linear 0..1.
    """

    profile: Profile
    seed: int
    # skin
    melanin: float
    blood: float
    blotches: float
    freckles: float
    beard: float
    age: float
    lines: float
    relief: int
    gloss: float
    sharpness: float
    lip_blood: float
    lip_dark: float
    under_eye: float
    makeup: float
    # hair
    hair_colour: Colour
    brow_colour: Colour
    brow_density: float
    brow_width: float
    brow_length: float
    lashes: float
    cover: str
    cover_colour: Colour
    hairline_m: float
    hair_bulk_m: float
    long_hair: int
    # eyes, teeth
    iris: Colour
    pupil: float
    sclera: Colour
    teeth: Colour
    # light
    ambient: Colour
    ground: Colour
    lights: tuple[tuple[float, float, float, float, float, float], ...]
    """Direction towards the light (camera coordinates, unit) and colour, one row per light."""
    occlusion: float
    exposure: float
    # camera
    background: str
    gamma: float
    contrast: float
    blur_px: float
    """Standard deviation at a picture height of 480; scales with the picture."""
    chroma_blur_px: float
    motion_px: float
    motion_angle: float
    noise: float
    vignette: float
    jpeg_quality: int
    """0 for none."""
    clothes: Colour

    @staticmethod
    def sample(seed: int, profile: Profile = "lab") -> Variation:
        """The appearance that belongs to `seed`: `lab` for sessions like the published ones, `wild` for
        training networks.
        """
        if profile not in ("lab", "wild"):
            raise ConfigError(f"appearance profile '{profile}' is unknown; it must be lab or wild")
        rng = generator(seed, "appearance", profile)
        wild = profile == "wild"

        def uniform(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        def tint(spread: float, level: float = 1.0) -> Colour:
            r, g, b = level * np.exp(rng.normal(0.0, spread, 3))
            return float(r), float(g), float(b)

        def scaled(colour: Colour, by: float) -> Colour:
            return colour[0] * by, colour[1] * by, colour[2] * by

        melanin = (
            float(np.clip(rng.beta(1.3, 2.6), 0.03, 0.95))
            if wild
            else float(np.clip(rng.beta(1.6, 7.0), 0.03, 0.6))
        )
        hair = _hair(rng, melanin)
        man = rng.random() < 0.5
        cover = str(
            rng.choice(COVERS, p=[0.06, 0.26, 0.10, 0.14, 0.44] if wild else [0.0, 0.12, 0.62, 0.16, 0.10])
        )
        cap = (
            tint(0.5, 0.25) if wild else ((0.012, 0.012, 0.014) if rng.random() < 0.6 else (0.62, 0.62, 0.64))
        )
        if cover == "net":
            cap = scaled((0.78, 0.79, 0.82), uniform(0.8, 1.05))
        lights, ambient, ground = _lights(rng, wild)
        return Variation(
            profile=profile,
            seed=seed,
            melanin=melanin,
            blood=uniform(0.2, 0.85),
            blotches=uniform(0.4, 1.3),
            freckles=uniform(0.2, 1.0) if rng.random() < 0.25 else uniform(0.0, 0.15),
            beard=uniform(0.25, 1.0) if man else 0.0,
            age=float(rng.beta(1.5, 2.5)),
            lines=uniform(0.75, 1.25),
            relief=int(rng.integers(RELIEFS)),
            gloss=uniform(0.03, 0.17) if wild else uniform(0.05, 0.12),
            sharpness=uniform(9.0, 26.0),
            lip_blood=uniform(0.7, 1.9),
            lip_dark=uniform(0.0, 0.35),
            under_eye=uniform(0.1, 0.9),
            makeup=uniform(0.2, 1.0) if (not man and rng.random() < (0.4 if wild else 0.15)) else 0.0,
            hair_colour=hair,
            brow_colour=scaled(hair, uniform(0.45, 0.9)),
            brow_density=uniform(0.55, 1.1) if man else uniform(0.4, 0.9),
            brow_width=uniform(0.8, 1.35) if man else uniform(0.6, 1.05),
            brow_length=uniform(0.9, 1.08),
            lashes=uniform(0.3, 1.0),
            cover=cover,
            cover_colour=cap,
            hairline_m=uniform(-0.010, 0.012),
            hair_bulk_m=uniform(0.004, 0.022)
            if cover == "hair"
            else (0.006 if cover in ("net", "cap") else 0.002),
            long_hair=int(rng.integers(40, 110))
            if cover == "hair" and rng.random() < (0.45 if man is False else 0.1)
            else 0,
            iris=_iris(rng, melanin),
            pupil=uniform(0.13, 0.22),
            sclera=scaled((0.74, 0.70, 0.66), uniform(0.85, 1.05)),
            teeth=scaled((1.0, uniform(0.94, 1.0), uniform(0.84, 0.98)), uniform(0.85, 1.08)),
            ambient=ambient,
            ground=ground,
            lights=lights,
            occlusion=uniform(0.75, 0.95),
            exposure=uniform(0.75, 1.35) if wild else uniform(0.80, 1.02),
            background=str(rng.choice(BACKGROUNDS, p=[0.3, 0.15, 0.25, 0.15, 0.15])) if wild else "black",
            gamma=uniform(0.85, 1.18) if wild else uniform(0.97, 1.05),
            contrast=uniform(-0.1, 0.3) if wild else uniform(0.05, 0.2),
            blur_px=float(rng.gamma(2.0, 0.6)) if wild else uniform(0.55, 0.95),
            chroma_blur_px=uniform(0.5, 2.5) if wild and rng.random() < 0.5 else 0.0,
            motion_px=float(rng.gamma(1.2, 2.5)) if wild and rng.random() < 0.2 else 0.0,
            motion_angle=uniform(0.0, np.pi),
            noise=float(rng.gamma(2.0, 2.2)) if wild else uniform(1.0, 2.6),
            vignette=uniform(0.0, 0.45) if wild else uniform(0.0, 0.12),
            jpeg_quality=int(rng.integers(30, 95)) if wild and rng.random() < 0.4 else 0,
            clothes=tint(0.7, 0.14) if wild else scaled((0.05, 0.055, 0.06), uniform(0.5, 1.6)),
        )


def _hair(rng: np.random.Generator, melanin: float) -> Colour:
    """Linear hair colour: darker on darker skin, sometimes blond, red or grey."""
    kinds = np.array(
        [
            [0.010, 0.008, 0.007],
            [0.030, 0.018, 0.012],
            [0.075, 0.042, 0.024],
            [0.23, 0.15, 0.08],
            [0.16, 0.055, 0.02],
            [0.25, 0.25, 0.26],
        ]
    )
    light = np.clip(1.0 - 2.2 * melanin, 0.0, 1.0)
    chances = np.array([0.30, 0.35, 0.20 + 0.1 * light, 0.18 * light, 0.05 * light, 0.06])
    r, g, b = kinds[rng.choice(6, p=chances / chances.sum())] * np.exp(rng.normal(0.0, 0.2))
    return float(r), float(g), float(b)


def _iris(rng: np.random.Generator, melanin: float) -> Colour:
    kinds = np.array(
        [
            [0.075, 0.035, 0.016],
            [0.13, 0.08, 0.035],
            [0.10, 0.12, 0.06],
            [0.10, 0.16, 0.22],
            [0.16, 0.19, 0.21],
        ]
    )
    light = float(np.clip(1.0 - 2.5 * melanin, 0.03, 1.0))
    chances = np.array([0.5, 0.25, 0.2 * light, 0.35 * light, 0.2 * light])
    r, g, b = kinds[rng.choice(5, p=chances / chances.sum())] * np.exp(rng.normal(0.0, 0.15))
    return float(r), float(g), float(b)


def _lights(
    rng: np.random.Generator, wild: bool
) -> tuple[tuple[tuple[float, float, float, float, float, float], ...], Colour, Colour]:
    """Key, fill and rim light with ambient sky and ground.

    The lab: soft light from above and in front, little contrast.
    """

    def direction(azimuth: float, height: float) -> F64:
        # azimuth 0 behind the camera, positive to the right of the picture; height positive above
        return np.array(
            [np.sin(azimuth) * np.cos(height), -np.sin(height), -np.cos(azimuth) * np.cos(height)]
        )

    warm = rng.normal(0.0, 0.16 if wild else 0.04)
    cast = np.exp(np.array([warm, 0.15 * rng.normal(0.0, 0.1 if wild else 0.03), -warm]))
    if wild:
        rows = [(rng.uniform(-1.4, 1.4), rng.uniform(-0.3, 1.2), rng.uniform(0.3, 1.3))]
        if rng.random() < 0.7:
            rows.append((rng.uniform(-1.8, 1.8), rng.uniform(-0.4, 0.9), rng.uniform(0.05, 0.5)))
        if rng.random() < 0.35:
            rows.append(
                (
                    rng.choice([-1.0, 1.0]) * rng.uniform(1.9, 2.7),
                    rng.uniform(-0.2, 0.8),
                    rng.uniform(0.2, 1.0),
                )
            )
        sky = rng.uniform(0.12, 0.75)
    else:
        rows = [
            (rng.normal(0.0, 0.35), rng.uniform(0.45, 0.95), rng.uniform(0.62, 0.85)),
            (rng.normal(0.0, 0.6), rng.uniform(-0.2, 0.15), rng.uniform(0.14, 0.26)),
        ]
        sky = rng.uniform(0.30, 0.42)
    lights = []
    for azimuth, height, power in rows:
        x, y, z = direction(float(azimuth), float(height))
        r, g, b = power * cast * np.exp(rng.normal(0.0, 0.08 if wild else 0.01, 3))
        lights.append((float(x), float(y), float(z), float(r), float(g), float(b)))
    ar, ag, ab = sky * cast * np.exp(rng.normal(0.0, 0.06 if wild else 0.01, 3))
    share = rng.uniform(0.25, 0.8)
    return (
        tuple(lights),
        (float(ar), float(ag), float(ab)),
        (float(ar * share), float(ag * share * 0.97), float(ab * share * 0.92)),
    )


# expression lines
# ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Lines:
    """One group of expression lines: strokes in face units, which of the three relief sets it is in, and what
    deepens it.

    Face units: x to the subject's left and y up from the middle between the eyes, 1 = distance between the
    eyes.
    """

    relief: int
    strokes: tuple[F64, ...]
    reach: float
    drivers: tuple[tuple[str, float], ...]
    at_rest: float
    """Depth at age 1 with a face at rest."""


def _curve(*points: tuple[float, float]) -> F64:
    """A smooth stroke through 3 or 4 points."""
    p = np.asarray(points, np.float64)
    t = np.linspace(0.0, 1.0, len(p))
    fit = np.linspace(0.0, 1.0, 14)
    return np.column_stack([np.polyval(np.polyfit(t, p[:, k], len(p) - 1), fit) for k in range(2)])


def _groups(surface: Surface, rng: np.random.Generator) -> list[Lines]:
    groups = []

    def wobble(size: float = 0.02) -> float:
        return float(rng.normal(0.0, size))

    brow = surface.face(*surfaces.BROW_UPPER["left"])
    brow_y = float(brow[:, 1].mean())
    inner = surface.face(285)[0]
    top = brow_y + 0.86
    for side, name in ((-1.0, "Right"), (1.0, "Left")):
        heights = np.linspace(brow_y + 0.22, top, int(rng.integers(4, 7)))
        strokes = [
            _curve(
                (0.0, y + wobble()),
                (side * 0.35, y + 0.05 + wobble()),
                (side * 0.72, y + 0.02 + wobble()),
                (side * rng.uniform(0.85, 1.0), y - 0.10 + wobble()),
            )
            for y in heights
        ]
        groups.append(
            Lines(0, tuple(strokes), 0.25, (("browInnerUp", 0.65), (f"browOuterUp{name}", 0.7)), 0.18)
        )
        corner = surface.face(33 if side < 0 else 263)[0]
        strokes = [
            _curve(
                (corner[0] + side * 0.07, corner[1] + 0.03 * k),
                (corner[0] + side * 0.17, corner[1] + 0.085 * k + wobble(0.012)),
                (corner[0] + side * rng.uniform(0.24, 0.34), corner[1] + 0.14 * k + wobble(0.015)),
            )
            for k in (-1.6, -0.7, 0.3, 1.2)
        ]
        groups.append(
            Lines(
                0,
                tuple(strokes),
                0.16,
                (
                    (f"eyeSquint{name}", 0.75),
                    (f"cheekSquint{name}", 0.8),
                    (f"mouthSmile{name}", 0.25),
                    (f"noseSneer{name}", 0.2),
                ),
                0.2,
            )
        )
        ala = surface.face(129 if side < 0 else 358)[0]
        mouth = surface.face(61 if side < 0 else 291)[0]
        fold = _curve(
            (ala[0] + side * 0.03, ala[1] + 0.13),
            (ala[0] + side * 0.16, ala[1] - 0.06),
            (mouth[0] + side * 0.13, mouth[1] + 0.18),
            (mouth[0] + side * 0.19, mouth[1] - 0.02 + wobble()),
        )
        groups.append(
            Lines(
                0,
                (fold,),
                0.16,
                (
                    (f"mouthSmile{name}", 0.9),
                    (f"noseSneer{name}", 0.9),
                    (f"mouthUpperUp{name}", 0.8),
                    (f"mouthStretch{name}", 0.35),
                    (f"cheekSquint{name}", 0.3),
                ),
                0.42,
            )
        )
        strokes = [
            _curve(
                (side * (0.07 + 0.02 * k) + wobble(0.01), inner[1] - 0.16),
                (side * (0.085 + 0.035 * k), inner[1] + 0.02),
                (side * (0.075 + 0.06 * k) + wobble(0.012), inner[1] + 0.26 - 0.05 * k),
            )
            for k in (0.0, 1.0)
        ]
        groups.append(
            Lines(1, tuple(strokes), 0.13, ((f"browDown{name}", 0.95), (f"noseSneer{name}", 0.35)), 0.16)
        )
        root = float(surface.face(168)[0][1])
        strokes = [
            _curve(
                (side * 0.03, root - 0.06 - 0.09 * k + wobble(0.01)),
                (side * 0.12, root - 0.05 - 0.10 * k),
                (side * (0.21 + 0.02 * k), root - 0.13 - 0.11 * k + wobble(0.015)),
            )
            for k in (0.0, 1.0, 2.0)
        ]
        groups.append(
            Lines(1, tuple(strokes), 0.12, ((f"noseSneer{name}", 1.0), (f"browDown{name}", 0.25)), 0.05)
        )
        lower = surface.face(*surfaces.LID_LOWER["right" if side < 0 else "left"])
        strokes = [
            np.column_stack(
                [
                    lower[1:8, 0] + side * 0.03 * k,
                    lower[1:8, 1] - 0.07 - 0.055 * k + 0.02 * np.sin(np.arange(7)),
                ]
            )
            for k in (0.0, 1.0, 2.0)
        ]
        groups.append(
            Lines(
                1,
                tuple(strokes),
                0.14,
                (
                    (f"cheekSquint{name}", 0.7),
                    (f"eyeSquint{name}", 0.55),
                    (f"mouthSmile{name}", 0.25),
                    (f"noseSneer{name}", 0.3),
                ),
                0.30,
            )
        )
        strokes = [
            _curve(
                (mouth[0] + side * 0.10, mouth[1] + 0.14),
                (mouth[0] + side * (0.16 + 0.1 * k), mouth[1] + 0.0),
                (mouth[0] + side * (0.12 + 0.09 * k), mouth[1] - 0.20 + wobble()),
            )
            for k in (0.0, 1.0)
        ]
        groups.append(
            Lines(
                2,
                tuple(strokes),
                0.14,
                (
                    (f"mouthSmile{name}", 0.55),
                    (f"mouthDimple{name}", 0.9),
                    (f"mouthStretch{name}", 0.6),
                    (f"mouthFrown{name}", 0.5),
                ),
                0.15,
            )
        )
        lid = surface.face(*surfaces.LID_UPPER["right" if side < 0 else "left"])
        crease = np.column_stack([lid[1:8, 0], lid[1:8, 1] + 0.075 + 0.01 * np.sin(np.linspace(0, np.pi, 7))])
        groups.append(Lines(2, (crease,), 0.10, ((f"eyeBlink{name}", 0.25), (f"eyeSquint{name}", 0.3)), 0.35))
    chin = surface.face(152)[0]
    lip = surface.face(17)[0]
    spots = [(rng.uniform(-0.22, 0.22), rng.uniform(chin[1] + 0.18, lip[1] - 0.16)) for _ in range(16)]
    strokes = [_curve((x, y), (x + 0.03, y + 0.015), (x + 0.05 + wobble(0.01), y - 0.01)) for x, y in spots]
    crease = _curve((-0.24, lip[1] - 0.10), (0.0, lip[1] - 0.15), (0.24, lip[1] - 0.10))
    groups.append(
        Lines(
            2,
            (*strokes, crease),
            0.16,
            (
                ("mouthShrugLower", 0.9),
                ("mouthPucker", 0.3),
                ("mouthFrownLeft", 0.2),
                ("mouthFrownRight", 0.2),
                ("mouthPressLeft", 0.15),
                ("mouthPressRight", 0.15),
            ),
            0.1,
        )
    )
    rim = surface.face(*surfaces.LIPS_OUTER)
    middle = rim.mean(axis=0)
    strokes = [np.linspace(p + 0.03 * (p - middle), p + 0.30 * (p - middle), 6) for p in rim[::2]]
    groups.append(Lines(2, tuple(strokes), 0.06, (("mouthPucker", 0.55), ("mouthFunnel", 0.15)), 0.06))
    return groups


@dataclass(frozen=True)
class Relief:
    """Expression lines of one of the `RELIEFS` sets on one head: bump map and how expression deepens it at
    each vertex.
    """

    bump: npt.NDArray[np.int8]
    """(H, W, 11): slope along u, slope along v, depth for three sets; slopes of the pores."""
    masks: F32
    """(G, V) where each group lies."""
    sets: I64
    drivers: F32
    """(G, 52) ARKit weights -> depth."""
    at_rest: F32

    def weights(self, arkit: Array, age: float, gain: float) -> F32:
        """(V, 3) depth of the three relief sets at every vertex."""
        depth = (
            np.minimum(self.drivers @ np.clip(arkit, 0.0, 1.0), 1.15) * (0.55 + 0.6 * age) * gain
            + self.at_rest * age
        )
        out = np.zeros((self.masks.shape[1], 3), np.float32)
        for k in range(3):
            mine = self.sets == k
            out[:, k] = depth[mine].astype(np.float32) @ self.masks[mine]
        return np.minimum(out, 1.4)


@functools.lru_cache(maxsize=64)
def relief(surface: Surface, width: int, number: int) -> Relief:
    """Set `number` of expression lines for `surface` on a skin map of `width` texels. Kept."""
    height = width * 3 // 4
    rng = generator(number, "expression lines")
    groups = _groups(surface, rng)
    heights = np.zeros((3, height, width), np.float32)
    skin = surface.head.template
    flat = np.column_stack([skin[:, 0], skin[:, 1] - surface.eye_line]) / surface.unit
    front = np.clip((skin[:, 2] - surface.centre[2]) / 0.03, 0.0, 1.0)
    masks = np.zeros((len(groups), len(skin)), np.float32)
    drivers = np.zeros((len(groups), len(ARKIT_52)), np.float32)
    scale = width / 1024.0
    for index, group in enumerate(groups):
        near = np.full(len(skin), 9.0)
        for stroke in group.strokes:
            metres = stroke * surface.unit + [0.0, surface.eye_line]
            positions = surface.front(metres).on(surface.head.template)
            uv = surface.map_coordinates(positions) * [width, height] - 0.5
            layer = np.zeros((height, width), np.uint8)
            thick = max(1, round(1.6 * scale))
            cv2.polylines(layer, [np.round(uv * 16).astype(np.int32)], False, 255, thick, cv2.LINE_AA, 4)
            left, right = np.clip(
                [uv[:, 0].min() - 30 * scale, uv[:, 0].max() + 30 * scale], 0, width
            ).astype(int)
            high, low = np.clip([uv[:, 1].min() - 30 * scale, uv[:, 1].max() + 30 * scale], 0, height).astype(
                int
            )
            part = layer[high:low, left:right].astype(np.float32) / 255.0
            wide = (
                6.5
                if len(group.strokes) == 1 and group.reach > 0.12
                else 2.2
                if len(group.strokes) > 2
                else 3.2
            )
            taper = 0.55 if wide > 6.0 else 1.0
            groove = (
                cv2.GaussianBlur(part, (0, 0), max(wide * scale, 0.6)) * wide * scale * 2.5 / max(thick, 1)
            )
            ridge = (
                cv2.GaussianBlur(part, (0, 0), max(2.4 * wide * scale, 1.2))
                * wide
                * scale
                * 2.4
                * 2.5
                / max(thick, 1)
            )
            region = heights[group.relief, high:low, left:right]
            region += (0.55 * ridge - groove) * (taper * float(rng.uniform(0.6, 1.0)))
            near = np.minimum(near, np.linalg.norm(flat[:, None] - stroke[None], axis=2).min(axis=1))
        masks[index] = np.exp(-((np.maximum(near - 0.5 * group.reach, 0.0) / group.reach) ** 2)) * front
        for name, value in group.drivers:
            drivers[index, ARKIT_52.index(name)] = value
    # relief of 0.8 mm at full depth; slopes in metres per metre on a cylinder of 8 cm
    step_u = 2.0 * np.pi * 0.08 / width
    step_v = surface.height / height
    bump = np.zeros((height, width, 11), np.float32)
    for k in range(3):
        gv, gu = np.gradient(heights[k] * 0.0008)
        bump[..., 3 * k] = gu / step_u
        bump[..., 3 * k + 1] = gv / step_v
        bump[..., 3 * k + 2] = heights[k] * 0.5
    pores = tile_noise(width, number)[..., 2]
    gv, gu = np.gradient(pores)
    bump[..., 9] = gu * 0.30
    bump[..., 10] = gv * 0.30
    bytes_ = np.clip(np.round(bump * 127.0), -127, 127).astype(np.int8)
    return Relief(
        bytes_,
        masks,
        np.array([group.relief for group in groups]),
        drivers,
        np.array([group.at_rest for group in groups], np.float32),
    )


@functools.lru_cache(maxsize=32)
def tile_noise(width: int, number: int) -> F32:
    """(3/4 width, width, 3) float32, three sizes of smooth noise that repeat at the edges, each with unit
    standard deviation.
    """
    height = width * 3 // 4
    rng = generator(number, "skin noise")
    fy, fx = np.meshgrid(np.fft.fftfreq(height) * height, np.fft.rfftfreq(width) * width, indexing="ij")
    radius = np.hypot(fx, fy * 2.2)
    layers = []
    for centre, slope in ((22.0, 1.1), (90.0, 0.8), (260.0, 0.2)):
        centre = min(centre, width / 4.0)
        spectrum = np.fft.rfft2(rng.standard_normal((height, width)))
        band = (radius / centre) ** 2 * np.exp(-((radius / centre) ** 2) * slope)
        layer = np.fft.irfft2(spectrum * band, (height, width))
        layers.append(layer / layer.std())
    return np.ascontiguousarray(np.stack(layers, axis=-1), np.float32)


# the skin map
# ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Masks:
    """Where things are on the skin map (H, W, 9) uint8 and how far above the hairline (H, W) float32 m."""

    layers: U8
    """lips, cheeks, nose and ears (red), under the eyes, beard, lid margin, lid, freckle area, shine."""
    hairline: F32
    brows: tuple[F64, F64]
    """Per side (6, 2, 2): upper and lower edge in face units (right, left)."""


@functools.lru_cache(maxsize=16)
def masks(surface: Surface, width: int) -> Masks:
    """Masks of `surface` on a skin map of `width` texels. Kept."""
    p = surface.positions(width).astype(np.float64)
    height = p.shape[0]
    x = p[..., 0] / surface.unit
    y = (p[..., 1] - surface.eye_line) / surface.unit
    turn = np.degrees(np.arctan2(np.abs(p[..., 0]), p[..., 2] - surface.centre[2]))
    scale = width / 1024.0

    def texels(indices: tuple[int, ...]) -> list[I32]:
        """Landmarks in sixteenths of a texel."""
        uv = surface.map_coordinates(surface.landmarks(indices)) * [width, height] - 0.5
        return [np.round(uv * 16).astype(np.int32)]

    def softened(layer: U8, soft: float) -> F64:
        return np.asarray(cv2.GaussianBlur(layer, (0, 0), max(soft * scale, 0.5)).astype(np.float64) / 255.0)

    def polygon(indices: tuple[int, ...], soft: float) -> F64:
        layer = np.zeros((height, width), np.uint8)
        cv2.fillPoly(layer, texels(indices), 255, cv2.LINE_AA, 4)
        return softened(layer, soft)

    def stroke(indices: tuple[int, ...], thick: float, soft: float) -> F64:
        layer = np.zeros((height, width), np.uint8)
        cv2.polylines(layer, texels(indices), False, 255, max(1, round(thick * scale)), cv2.LINE_AA, 4)
        return softened(layer, soft)

    def blob(cx: float, cy: float, sx: float, sy: float) -> F64:
        return np.asarray(np.exp(-(((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2)) * (turn < 100))

    lips = polygon(surfaces.LIPS_OUTER, 2.4)
    mouth = surface.face(13)[0]
    nose = surface.face(1)[0]
    chin = surface.face(152)[0]
    cheeks = np.maximum(blob(-0.75, -0.62, 0.38, 0.36), blob(0.75, -0.62, 0.38, 0.36))
    ears = ((turn > 74) & (turn < 118) & (y > -0.95) & (y < 0.35)).astype(np.float64)
    ears = np.asarray(cv2.GaussianBlur(ears, (0, 0), 8 * scale + 0.5))
    red = np.clip(
        blob(nose[0], nose[1], 0.30, 0.24) + 0.5 * blob(0.0, chin[1] + 0.15, 0.3, 0.2) + 0.8 * ears, 0.0, 1.0
    )
    under = np.zeros_like(x)
    margin = np.zeros_like(x)
    lid = np.zeros_like(x)
    for side in ("right", "left"):
        low = surface.face(*surfaces.LID_LOWER[side]).mean(axis=0)
        under = np.maximum(under, blob(float(low[0]) * 0.92, float(low[1]) - 0.10, 0.26, 0.10))
        margin = np.maximum(margin, stroke(surfaces.LID_UPPER[side], 3.0, 1.3))
        margin = np.maximum(margin, 0.45 * stroke(surfaces.LID_LOWER[side], 2.0, 1.2))
        up = surface.face(*surfaces.LID_UPPER[side]).mean(axis=0)
        lid = np.maximum(lid, blob(float(up[0]), float(up[1]) + 0.05, 0.28, 0.11))
    # beard: jaw, chin, upper lip; not the lips, fading up the cheeks
    edge = np.interp(turn, [0, 25, 50, 80], [mouth[1] + 0.28, mouth[1] + 0.05, -0.85, -0.30])
    beard = (
        np.clip((edge - y) / 0.20, 0.0, 1.0)
        * np.clip((y - chin[1] + 0.35) / 0.30, 0.0, 1.0)
        * np.clip((92.0 - turn) / 12.0, 0.0, 1.0)
    )
    beard *= 1.0 - lips
    beard *= 1.0 - 0.75 * blob(0.0, float(surface.face(17)[0][1]) - 0.13, 0.5, 0.06)
    freckle = np.clip(blob(0.0, -0.45, 0.9, 0.35) + 0.5 * blob(0.0, 0.6, 0.8, 0.4), 0.0, 1.0)
    shine = np.clip(
        blob(nose[0], nose[1] + 0.12, 0.13, 0.42)
        + 0.8 * blob(0.0, 0.75, 0.65, 0.35)
        + 0.6 * np.maximum(blob(-0.62, -0.42, 0.25, 0.16), blob(0.62, -0.42, 0.25, 0.16))
        + 0.5 * blob(0.0, chin[1] + 0.2, 0.2, 0.15),
        0.0,
        1.0,
    )
    layers = np.stack([lips, cheeks, red, under, beard, margin, lid, freckle, shine], axis=-1)
    # hairline by angle from the nose; above the ear, then down to the nape
    top = np.interp(
        turn,
        [0, 20, 38, 52, 62, 72, 84, 100, 112, 124, 180],
        [1.32, 1.32, 1.26, 1.05, 0.70, 0.38, 0.42, 0.42, 0.05, -0.75, -0.95],
    )
    hairline = (y - top) * surface.unit
    brows = []
    for side in ("right", "left"):
        brows.append(
            np.stack(
                [surface.face(*surfaces.BROW_UPPER[side]), surface.face(*surfaces.BROW_LOWER[side])], axis=1
            )
        )
    return Masks(
        np.ascontiguousarray(np.round(np.clip(layers, 0.0, 1.0) * 255), np.uint8),
        hairline.astype(np.float32),
        (brows[0], brows[1]),
    )


@compiled
def _compose(layers: Any, hairline: Any, noise: Any, brow: Any, k: Any, offset: Any, out: Any) -> None:
    """Per texel: absorption -> encoded colour (square root of reflectance), wetness, hair cover."""
    height, width = hairline.shape
    for i in range(height):
        for j in range(width):
            n = (i + offset[0]) % height
            m = (j + offset[1]) % width
            coarse = noise[n, m, 0]
            middle = noise[n, m, 1]
            fine = noise[n, m, 2]
            lips = layers[i, j, 0] / 255.0
            cheeks = layers[i, j, 1] / 255.0
            red = layers[i, j, 2] / 255.0
            under = layers[i, j, 3] / 255.0
            beard = layers[i, j, 4] / 255.0
            margin = layers[i, j, 5] / 255.0
            lid = layers[i, j, 6] / 255.0
            freckle = layers[i, j, 7] / 255.0
            spots = max(middle - 1.1, 0.0) * 0.6 + max(fine - 1.5, 0.0) * 0.5
            melanin = (
                k[0] * (1.0 + 0.07 * k[2] * coarse + 0.05 * k[2] * middle)
                + k[3] * freckle * spots * 0.35
                + 0.10 * k[6] * under
                + 0.10 * k[5] * lips
                + 0.012 * fine
            )
            blood = (
                k[1] * (1.0 + 0.09 * k[2] * coarse + 0.10 * k[2] * middle + 0.07 * fine)
                + 0.40 * cheeks * (1.0 + 0.12 * coarse * k[2])
                + 0.85 * red
                + 0.35 * under * k[6]
                + 0.40 * lid
                + k[4] * lips * (1.0 + 0.10 * middle) * 1.15
            )
            blood = max(blood, 0.05)
            # shaved or short beard: dark points under the skin
            grain = max(0.55 + 0.45 * fine, 0.0)
            stubble = beard * k[7] * (0.22 + 0.50 * grain * k[7])
            dark = stubble + 1.15 * margin * k[8] + 0.9 * k[9] * lid
            for c in range(3):
                absorbed = (
                    k[10 + c] + k[13 + c] * max(melanin, 0.0) + k[16 + c] * blood + dark * (1.0 - 0.12 * c)
                )
                value = np.exp(-0.5 * absorbed)
                hair = brow[i, j] / 255.0
                value = value + (np.sqrt(k[19 + c]) - value) * hair
                out[i, j, c] = np.uint8(min(max(value, 0.0), 1.0) * 255.0)
            out[i, j, 3] = np.uint8(
                255.0 * min(0.75 * lips + 0.65 * layers[i, j, 8] / 255.0, 1.0) * (1.0 - brow[i, j] / 255.0)
            )
            above = (hairline[i, j] - k[22] + k[24] * (0.0022 * coarse + 0.0016 * middle)) / k[23]
            above = min(max(0.5 + above, 0.0), 1.0)
            out[i, j, 4] = np.uint8(255.0 * above)


@functools.lru_cache(maxsize=8)
def _brow_map(surface: Surface, left: bool) -> F64:
    """(6, 2) skin map coordinates along the middle of one brow."""
    middle = masks(surface, 256).brows[int(left)].mean(axis=1)
    spots = surface.front(middle * surface.unit + [0.0, surface.eye_line])
    return surface.map_coordinates(spots.on(surface.head.template))


def _brow_strokes(surface: Surface, where: Masks, variation: Variation, width: int) -> U8:
    """(H, W) hair cover of the brows: single strokes that turn from upwards at the nose to sideways at the
    temple.
    """
    height = width * 3 // 4
    layer = np.zeros((height, width), np.uint8)
    rng = generator(variation.seed, "brows")
    count = int(260 * variation.brow_density * min(1.0, (width / 512.0) ** 0.7))
    for side, edges in zip((-1.0, 1.0), where.brows, strict=True):
        middle = edges.mean(axis=1)
        spread = (edges[:, 0] - edges[:, 1]) / 2.0
        spread[:, 1] = np.maximum(spread[:, 1], 0.012)
        t = np.clip(rng.beta(1.05, 1.25, count), 0.0, 1.0) * variation.brow_length
        s = rng.uniform(-1.0, 1.0, count)
        place = np.clip(t, 0.0, 1.0) * (len(edges) - 1)
        low = np.minimum(place.astype(int), len(edges) - 2)
        mix = (place - low)[:, None]
        spine = middle[low] * (1 - mix) + middle[low + 1] * mix
        half = np.maximum(spread[low] * (1 - mix) + spread[low + 1] * mix, 0.0)
        taper = np.clip(1.25 - t, 0.15, 1.0) * np.clip(0.55 + 2.5 * t, 0.0, 1.0)
        start = spine + half * (s * variation.brow_width * taper)[:, None]
        # lower hairs point up, upper hairs down towards the spine
        rise = (
            np.interp(t, [0.0, 0.25, 0.6, 1.0], [1.2, 0.75, 0.25, -0.25])
            - 0.45 * s * np.clip(t * 2.0, 0.0, 1.0)
            + rng.normal(0, 0.15, count)
        )
        length = rng.uniform(0.07, 0.13, count) * np.interp(t, [0, 0.4, 1], [0.8, 1.1, 0.7])
        step = np.column_stack([side * np.cos(rise), np.sin(rise)]) * length[:, None]
        # the map is locally an affine picture of the face: find it at the spine of each brow once
        uv = _brow_map(surface, side > 0)
        fit, *_ = np.linalg.lstsq(
            np.column_stack([middle, middle[:, 0] ** 2, np.ones(len(middle))]), uv[:, 0], rcond=None
        )
        du = fit[0] + 2.0 * fit[2] * spine[:, 0]
        base_u = np.interp(t, np.linspace(0, 1, len(uv)), uv[:, 0]) + du * (start - spine)[:, 0]
        base_v = (
            np.interp(t, np.linspace(0, 1, len(uv)), uv[:, 1])
            - (start - spine)[:, 1] * surface.unit / surface.height
        )
        tip_u = base_u + du * step[:, 0]
        tip_v = base_v - step[:, 1] * surface.unit / surface.height
        lines = (
            np.stack([np.column_stack([base_u, base_v]), np.column_stack([tip_u, tip_v])], axis=1)
            * [width, height]
            - 0.5
        )
        ink = int(np.clip(150 + 70 * variation.brow_density, 90, 235))
        for shade_, group in ((int(ink * 0.65), lines[::2]), (ink, lines[1::2])):
            cv2.polylines(
                layer, list(np.round(group * 16).astype(np.int32)), False, shade_, 1, cv2.LINE_AA, 4
            )
    soft = np.asarray(cv2.GaussianBlur(layer, (0, 0), max(0.8 * width / 1024.0, 0.4)), np.uint8)
    under = cv2.GaussianBlur(layer, (0, 0), max(6.0 * width / 1024.0, 0.8))
    return np.asarray(
        np.minimum(
            np.maximum(soft, (under * (0.38 * min(variation.brow_density, 1.0))).astype(np.uint8)), 235
        ),
        np.uint8,
    )


def skin_map(surface: Surface, variation: Variation, width: int) -> U8:
    """(3/4 width, width, 5) uint8: square root of the skin's reflectance (3), wetness, hair cover."""
    where = masks(surface, width)
    v = variation
    rng = generator(v.seed, "skin map")
    brow = _brow_strokes(surface, where, v, width)
    soft = {"none": 0.004, "short": 0.010, "net": 0.004, "cap": 0.0025, "hair": 0.006}[v.cover]
    down = (
        v.hairline_m + {"net": -0.006, "cap": -0.012}.get(v.cover, 0.0) + (1.0 if v.cover == "none" else 0.0)
    )
    k = np.array(
        [
            v.melanin,
            v.blood,
            v.blotches,
            v.freckles,
            v.lip_blood,
            v.lip_dark * 3.0,
            v.under_eye,
            v.beard,
            0.5 + 0.6 * v.lashes,
            v.makeup,
            *_BASE,
            *_MELANIN,
            *_BLOOD,
            *v.brow_colour,
            down,
            soft,
            0.2 if v.cover in ("net", "cap") else 1.0,
        ]
    )
    offset = rng.integers(0, width, 2)
    out = np.empty((width * 3 // 4, width, 5), np.uint8)
    _compose(where.layers, where.hairline, tile_noise(width, v.seed % RELIEFS), brow, k, offset, out)
    return out


def arkit_weights(head: HeadModel, expression: npt.ArrayLike | None) -> F32:
    """(52,) ARKit weights of an expression of any head model; zeros where the model cannot tell."""
    if expression is None:
        return np.zeros(len(ARKIT_52), np.float32)
    values = np.asarray(expression, np.float32)
    if head.arkit is not None:
        return np.asarray(head.arkit[:, : len(values)] @ values, np.float32)
    weights = np.zeros(len(ARKIT_52), np.float32)
    for index, name in enumerate(ARKIT_52):
        if name in head.expression_names:
            place = head.expression_names.index(name)
            if place < len(values):
                weights[index] = values[place]
    return weights


__all__ = [
    "BACKGROUNDS",
    "COVERS",
    "Points",
    "Relief",
    "Variation",
    "arkit_weights",
    "masks",
    "relief",
    "skin_map",
    "tile_noise",
]
