"""Random faces of a head model with known parameters: identities, movement-like expressions, views, and a plain coloured render.

What the landmark fit is measured on, and what its table of habits is learnt from. Pure numpy; no torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..head import projection, shade
from ..head.model import HeadModel
from ..types import F32, F64, U8

SIZE = 320
"""Side of the rendered pictures in pixels."""

MOVEMENTS: tuple[Mapping[str, float], ...] = (
    {"mouthSmile": 1.0, "cheekSquint": 0.6, "eyeSquint": 0.3, "mouthDimple": 0.2},
    {"mouthSmile": 1.0, "cheekSquint": 0.8, "jawOpen": 0.35, "mouthUpperUp": 0.3, "mouthLowerDown": 0.3},
    {"mouthFrown": 1.0, "mouthShrugLower": 0.5, "browInnerUp": 0.5},
    {"mouthFrown": 0.7, "mouthStretch": 0.5, "mouthLowerDown": 0.4},
    {"mouthPucker": 1.0},
    {"mouthFunnel": 1.0, "jawOpen": 0.2},
    {"browInnerUp": 1.0, "browOuterUp": 1.0, "eyeWide": 0.4},
    {"browDown": 1.0, "eyeSquint": 0.4},
    {"browDown": 0.9, "noseSneer": 0.8, "mouthUpperUp": 0.7},
    {"browInnerUp": 0.8, "browOuterUp": 0.8, "eyeWide": 0.9, "jawOpen": 0.6},
    {"browInnerUp": 0.8, "browDown": 0.4, "eyeWide": 0.6, "mouthStretch": 0.7, "jawOpen": 0.2},
    {"eyeBlink": 1.0},
    {"eyeBlink": 1.0, "eyeSquint": 0.8, "browDown": 0.6, "cheekSquint": 0.6, "noseSneer": 0.3},
    {"eyeSquint": 1.0},
    {"jawOpen": 1.0},
    {"jawOpen": 0.5, "mouthClose": 0.4},
    {"mouthPress": 1.0, "mouthRollLower": 0.3, "mouthRollUpper": 0.3},
    {"mouthRollLower": 0.8, "mouthRollUpper": 0.8},
    {"mouthShrugLower": 0.9, "mouthShrugUpper": 0.6},
    {"mouthDimple": 1.0},
    {"mouthStretch": 1.0},
    {"mouthUpperUp": 0.9, "noseSneer": 0.6},
    {"mouthLowerDown": 0.9, "jawOpen": 0.15},
    {"noseSneer": 1.0},
    {"cheekPuff": 0.9, "mouthPress": 0.4},
    {"jawForward": 0.8},
)
"""Movements as mixtures of actions; a name without Left or Right stands for both sides."""

_UNSEEN = ("eyeLook", "tongueOut")
_EXCLUSIVE = (
    ("jawLeft", "jawRight"), ("mouthLeft", "mouthRight"), ("eyeBlinkLeft", "eyeWideLeft"), ("eyeBlinkRight", "eyeWideRight"),
    ("mouthFunnel", "mouthPucker"), ("mouthSmileLeft", "mouthFrownLeft"), ("mouthSmileRight", "mouthFrownRight"),
)


def visible_actions(names: tuple[str, ...]) -> tuple[int, ...]:
    """Coefficients that move the skin of the face: not gaze, not the tongue."""
    return tuple(i for i, name in enumerate(names) if not name.startswith(_UNSEEN))


def random_expression(rng: np.random.Generator, names: tuple[str, ...]) -> F64:
    """(E,) coefficients: half of the time one or two movements with uneven sides, else a few single actions; now and then rest."""
    index = {name: i for i, name in enumerate(names)}
    out = np.zeros(len(names))
    if rng.random() < 0.05:
        return out
    if rng.random() < 0.5:
        for movement in rng.choice(len(MOVEMENTS), size=rng.integers(1, 3), replace=False):
            strength = rng.uniform(0.25, 1.0)
            sides = 1.0 - np.array([rng.uniform(0.0, 0.5), 0.0])[rng.permutation(2)] * (rng.random() < 0.5)
            for name, weight in MOVEMENTS[movement].items():
                value = strength * weight * rng.uniform(0.7, 1.2)
                for ending, share in (("", 1.0), ("Left", sides[0]), ("Right", sides[1])):
                    if name + ending in index:
                        out[index[name + ending]] += value * share
    else:
        actions = sorted({name.removesuffix("Left").removesuffix("Right") for name in names if not name.startswith(_UNSEEN)})
        for name in rng.choice(actions, size=rng.integers(2, 6), replace=False):
            value = rng.uniform(0.1, 1.0)
            both = rng.random() < 0.7
            one = rng.integers(2)
            stem = str(name)
            for side, spelling in enumerate((stem + "Left", stem + "Right")):
                if spelling in index and (both or side == one):
                    out[index[spelling]] += value * rng.uniform(0.8, 1.2)
            if stem in index:
                out[index[stem]] += value
    for one_name, other in _EXCLUSIVE:
        if one_name in index and other in index:
            pair = sorted((index[one_name], index[other]), key=lambda i: float(out[i]))
            out[pair[0]] = 0.0
    if "mouthClose" in index and "jawOpen" in index:  # lips close an open jaw, nothing else
        out[index["mouthClose"]] = min(out[index["mouthClose"]], 0.8 * out[index["jawOpen"]])
    return np.clip(out, 0.0, 1.0)


@dataclass(frozen=True)
class View:
    """A camera, a light and a direction of gaze. intrinsics (3, 3), head_pose (4, 4), light (3,), eyes (2, 3) axis-angle."""

    intrinsics: F64
    head_pose: F64
    light: F64
    eyes: F64


def random_view(rng: np.random.Generator, head: HeadModel, max_yaw: float = 0.5) -> View:
    """A face that fills most of the picture, 0.35-0.9 m away; yaw uniform within `max_yaw`, little pitch and roll."""
    distance = rng.uniform(0.35, 0.9)
    K = projection.default_intrinsics(SIZE, SIZE)
    K[0, 0] = K[1, 1] = SIZE * distance / 0.30 * rng.uniform(0.9, 1.1)
    pose = projection.facing_pose(
        distance, yaw=rng.uniform(-max_yaw, max_yaw), pitch=rng.normal(0.0, 0.12), roll=rng.normal(0.0, 0.08),
        centre=head.points(head.template)[4] - (0.0, 0.0, 0.06), offset=rng.normal(0.0, 0.008, 2),
    )
    light = np.array([rng.normal(0.0, 0.5), -rng.uniform(0.1, 0.9), -rng.uniform(0.5, 1.0)])
    look = np.array([rng.normal(0.0, 0.1), rng.normal(0.0, 0.15), 0.0])
    return View(K, pose, light, np.stack([look, look]))


def paint(head: HeadModel, rng: np.random.Generator) -> F32:
    """(V, 3) colours: skin tone, lips, brows, eyes and teeth."""
    tone = np.array([0.85, 0.66, 0.56]) * rng.uniform(0.45, 1.1) * rng.uniform(0.95, 1.05, 3)
    colours = np.tile(tone, (len(head.template), 1))
    lips = tone * rng.uniform((0.8, 0.5, 0.5), (1.05, 0.85, 0.85))
    if "lips" in head.regions:
        colours[head.regions["lips"]] = lips
    brow = tone * rng.uniform(0.15, 0.7)
    points = head.points(head.template)
    for line in (_BROW_RIGHT, _BROW_LEFT):
        _stroke(colours, head.template, points[list(line)], brow, rng.uniform(2.0e-3, 4.5e-3))
    iris = rng.uniform((0.1, 0.1, 0.1), (0.45, 0.45, 0.5))
    special = {
        "mouth": tone * (0.6, 0.3, 0.3), "tongue": tone * (0.9, 0.5, 0.5), "eye": np.array([0.9, 0.88, 0.86]), "iris": iris,
        "pupil": np.array([0.03, 0.03, 0.03]), "teeth": np.array([0.92, 0.90, 0.84]), "gums": np.array([0.65, 0.35, 0.35]),
        "lashes": np.array([0.08, 0.06, 0.06]),
    }
    for number, name in enumerate(head.part_names):
        stem = name.split("_")[0]
        if stem in special:
            colours[head.parts == number] = special[stem]
    return np.clip(colours, 0.0, 1.0).astype(np.float32)


_BROW_RIGHT, _BROW_LEFT = (46, 53, 52, 65, 55), (276, 283, 282, 295, 285)


def _stroke(colours: F64, vertices: F32, line: F32, colour: F64, width: float) -> None:
    for start, end in itertools.pairwise(line):
        along = end - start
        share = np.clip((vertices - start) @ along / max(float(along @ along), 1e-12), 0.0, 1.0)
        near = np.linalg.norm(vertices - start - share[:, None] * along, axis=1) < width
        colours[near] = colour


def render(head: HeadModel, vertices: F32, colours: F32, view: View, rng: np.random.Generator) -> U8:
    """(SIZE, SIZE, 3) picture with a plain background and camera noise."""
    background = np.broadcast_to(rng.integers(0, 200, 3).astype(np.uint8), (SIZE, SIZE, 3))
    picture = shade.render(
        vertices, head.faces, view.intrinsics, view.head_pose, (SIZE, SIZE), colour=colours, light=view.light, background=background
    )
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0.0, 4.0))
    return np.clip(picture + noise, 0.0, 255.0).astype(np.uint8)
