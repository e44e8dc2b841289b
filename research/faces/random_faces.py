"""Random faces of a head model with known parameters: identities, movement-like expressions, views, and a
plain coloured render.

What the landmark fit is measured on, and what its table of habits is learnt from. Pure numpy; no torch.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from eifer_ros.head import projection
from eifer_ros.head.model import HeadModel
from eifer_ros.render import shade
from eifer_ros.simulation.muscles import ACTUATORS, BASE_MUSCLES, HIDDEN, MuscleMap, muscle_index
from eifer_ros.simulation.script import MOVEMENTS
from eifer_ros.types import ARKIT_52, F32, F64, U8

SIZE = 320
"""Side of the rendered pictures in pixels."""

_UNSEEN = ("eyeLook", "tongueOut")


def visible_actions(names: tuple[str, ...]) -> tuple[int, ...]:
    """Coefficients that move the skin of the face: not gaze, not the tongue."""
    return tuple(i for i, name in enumerate(names) if not name.startswith(_UNSEEN))


def random_expression(rng: np.random.Generator, names: tuple[str, ...], muscles: MuscleMap) -> F64:
    """(E,) coefficients of a random moment of a person whose muscles act as `muscles` says; now and then at
    rest.

    One or two of the protocol's movements at random strength, half of the time with uneven sides, and a few
    single muscles on top.
    """
    activation = np.zeros(len(ACTUATORS))
    if rng.random() > 0.05:
        for movement in rng.choice(list(MOVEMENTS), size=rng.integers(1, 3), replace=False):
            strength = rng.uniform(0.25, 1.0)
            uneven = np.ones(2)
            uneven[rng.integers(2)] -= rng.uniform(0.0, 0.5) * (rng.random() < 0.5)
            for muscle, level in MOVEMENTS[str(movement)].items():
                for side, place in _places(muscle):
                    activation[place] = max(
                        activation[place], strength * level * rng.uniform(0.8, 1.2) * uneven[side]
                    )
        for muscle in rng.choice((*BASE_MUSCLES, *HIDDEN), size=rng.integers(0, 4), replace=False):
            level = rng.uniform(0.1, 0.9)
            both = rng.random() < 0.7
            only = rng.integers(2)
            for side, place in _places(str(muscle)):
                if both or side == only or str(muscle) in HIDDEN:
                    activation[place] = max(activation[place], level * rng.uniform(0.8, 1.2))
    weights = muscles.expression(np.clip(activation, 0.0, 1.0))
    coefficients = {name: float(weight) for name, weight in zip(ARKIT_52, weights, strict=True)}
    return np.array([coefficients.get(name, 0.0) for name in names])


def _places(muscle: str) -> list[tuple[int, int]]:
    """(side, place in the activation vector) of a muscle of both sides or of a hidden actuator."""
    if muscle in HIDDEN:
        return [(0, ACTUATORS.index(muscle))]
    return [(side, muscle_index(muscle, word)) for side, word in enumerate(("right", "left"))]


@dataclass(frozen=True)
class View:
    """A camera, a light and a direction of gaze.

    intrinsics (3, 3), head_pose (4, 4), light (3,), eyes (2, 3) axis-angle.
    """

    intrinsics: F64
    head_pose: F64
    light: F64
    eyes: F64


def random_view(rng: np.random.Generator, head: HeadModel, max_yaw: float = 0.5) -> View:
    """A face that fills most of the picture, 0.35-0.9 m away; yaw uniform within `max_yaw`, little pitch and
    roll.
    """
    distance = rng.uniform(0.35, 0.9)
    K = projection.default_intrinsics(SIZE, SIZE)
    K[0, 0] = K[1, 1] = SIZE * distance / 0.30 * rng.uniform(0.9, 1.1)
    pose = projection.facing_pose(
        distance,
        yaw=rng.uniform(-max_yaw, max_yaw),
        pitch=rng.normal(0.0, 0.12),
        roll=rng.normal(0.0, 0.08),
        centre=head.points(head.template)[4] - (0.0, 0.0, 0.06),
        offset=rng.normal(0.0, 0.008, 2),
    )
    light = np.array([rng.normal(0.0, 0.5), -rng.uniform(0.1, 0.9), -rng.uniform(0.5, 1.0)])
    gaze_angles = np.array([rng.normal(0.0, 0.1), rng.normal(0.0, 0.15), 0.0])
    return View(K, pose, light, np.stack([gaze_angles, gaze_angles]))


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
        "mouth": tone * (0.6, 0.3, 0.3),
        "tongue": tone * (0.9, 0.5, 0.5),
        "eye": np.array([0.9, 0.88, 0.86]),
        "iris": iris,
        "pupil": np.array([0.03, 0.03, 0.03]),
        "teeth": np.array([0.92, 0.90, 0.84]),
        "gums": np.array([0.65, 0.35, 0.35]),
        "lashes": np.array([0.08, 0.06, 0.06]),
    }
    for number, name in enumerate(head.part_names):
        stem = name.split("_")[0]
        if stem in special:
            colours[head.parts == number] = special[stem]
    return np.clip(colours, 0.0, 1.0).astype(np.float32)


_BROW_RIGHT = (46, 53, 52, 65, 55)
_BROW_LEFT = (276, 283, 282, 295, 285)


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
        vertices,
        head.faces,
        view.intrinsics,
        view.head_pose,
        (SIZE, SIZE),
        colour=colours,
        light=view.light,
        background=background,
    )
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0.0, 4.0))
    return np.clip(picture + noise, 0.0, 255.0).astype(np.uint8)
