"""Small movements of simulated people, for learning: macro movements scaled down, with pictures before and
during, and the truth.

One file a person: the key picture (resting face), pictures during small movements, each cut by the window of
the key view and moved back by the head's rigid motion up to a small error, as the estimator does at run time.
The key view is that of the static estimator, so that its errors are learnt with. `python -m
research.micro.micro_data OUT --people 120`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eifer_ros.head.model import HeadModel, load_head, rotation_matrix
from eifer_ros.micro.flow import sample_patch
from eifer_ros.micro.geometry import FaceSkin, KeyView, key_view
from eifer_ros.reconstruction.encoder.sensor_estimator import SensorEstimator
from eifer_ros.reconstruction.encoder.sensor_fit import SensorFitSettings
from eifer_ros.reconstruction.estimators import Estimate
from eifer_ros.simulation.camera.materials import Profile, Variation
from eifer_ros.simulation.camera.scene import ParticipantCamera
from eifer_ros.simulation.micro_expressions import PATTERNS, LocalSkin
from eifer_ros.simulation.muscles import ACTUATORS, BASE_MUSCLES, HIDDEN, MUSCLES, muscle_index
from eifer_ros.simulation.participant import Participant
from eifer_ros.simulation.script import MOVEMENTS
from eifer_ros.simulation.seeds import generator
from eifer_ros.types import F32, F64, Frame
from research.common.recipe import parser, run

FIRST_SEED = 200_000
"""People of the training data; those from 900000 are never learnt from."""
VALIDATION_SEED = 290_000
FRAMES = 20
STILL = 0.15
"""Share of pictures in which nothing moves but the head."""
SCALE = (0.03, 0.30)
"""Share of the full movement, drawn evenly on a logarithmic scale."""


def draw_levels(rng: np.random.Generator) -> F64:
    """(A,) excitation of a small movement: a functional, emotional or micro movement or a single muscle,
    often one-sided, scaled down.
    """
    choice = rng.random()
    if choice < 0.35:
        wish = dict(MOVEMENTS[str(rng.choice([name for name in MOVEMENTS if name != "Face-At-Rest"]))])
        wish.pop("lid_closer", None)
    elif choice < 0.70:
        patterns = PATTERNS[str(rng.choice(list(PATTERNS)))]
        wish = dict(patterns[int(rng.integers(len(patterns)))])
    else:
        wish = {
            str(name): float(rng.uniform(0.3, 1.0))
            for name in rng.choice(BASE_MUSCLES, int(rng.integers(1, 4)), replace=False)
        }
    levels = np.zeros(len(ACTUATORS))
    for name, level in wish.items():
        places = (
            [ACTUATORS.index(name)]
            if name in HIDDEN
            else [muscle_index(name, "right"), muscle_index(name, "left")]
        )
        levels[places] = level
    levels *= np.exp(rng.normal(0.0, 0.12, len(levels)))
    if rng.random() < 0.45:
        levels[int(rng.integers(2)) : len(MUSCLES) : 2] *= rng.uniform(0.0, 0.4)
    return np.asarray(np.clip(levels, 0.0, 1.0) * np.exp(rng.uniform(*np.log(SCALE))), np.float64)


@dataclass(frozen=True)
class Mover:
    """One simulated person who makes small movements."""

    participant: Participant
    skin: LocalSkin
    tone: F64
    """(A,) excitation at rest."""

    @staticmethod
    def of(seed: int) -> Mover:
        """Person `seed`."""
        participant = Participant(seed, 0, program="rest")
        return Mover(
            participant,
            LocalSkin(seed, participant.head, participant.shape),
            participant.script.tone(np.array([3.0]))[0],
        )

    def expression(self, levels: F64) -> F64:
        """(E,) coefficients when the skin has followed `levels` on top of the tone."""
        return np.asarray(self.participant.muscle_map.expression((self.tone + levels)[None])[0], np.float64)

    def motion(self, levels: F64) -> tuple[F64, F32]:
        """(E,) change of the expression and (V, 3) m motion of the skin beside it, away from rest."""
        return self.expression(levels) - self.expression(np.zeros_like(levels)), self.skin.offsets(levels)


def picture_of(
    mover: Mover, camera: ParticipantCamera, expression: F64, offsets: F32, pose: F64, time_s: float
) -> Frame:
    """The picture of a face and its camera."""
    participant = mover.participant
    weights = expression.astype(np.float32)
    image = camera.render(
        participant.shape, weights, participant.head.gaze(weights), pose, time_s, offsets=offsets
    )
    return Frame(participant.stamp(time_s), image, camera.intrinsics)


def relative(pose: F64, key_pose: F64, centre: F64) -> tuple[F64, F64]:
    """Turn (3, 3) about `centre` (3,) and shift (3,) m, camera axes, that bring a head from `key_pose` to
    `pose`.
    """
    turn = pose[:3, :3] @ key_pose[:3, :3].T
    middle = key_pose[:3, :3].T @ (centre - key_pose[:3, 3])
    return turn, pose[:3, :3] @ middle + pose[:3, 3] - centre


def examples(seed: int, estimator: SensorEstimator, frames: int = FRAMES) -> dict[str, Any] | None:
    """Everything of one person, or None where the static estimator finds no face."""
    rng = generator(seed, "micro examples")
    mover = Mover.of(seed)
    participant = mover.participant
    profile: Profile = "lab" if rng.random() < 0.75 else "wild"
    variation = Variation.sample(seed, profile)
    if profile == "wild":
        variation = replace(variation, motion_px=0.0, noise=min(variation.noise, 5.0))
    camera = ParticipantCamera(
        seed,
        bool(rng.random() < 0.6),
        participant.size,
        participant.intrinsics,
        head=participant.head,
        variation=variation,
    )
    resting = mover.expression(np.zeros(len(ACTUATORS)))
    still = np.zeros_like(participant.head.template)
    key_pose = participant.head_pose(0.0)
    frame = picture_of(mover, camera, resting, still, key_pose, 0.0)
    estimator.reset()
    estimate: Estimate | None = None
    for _ in range(3):
        estimate = estimator.estimate(frame, camera.intrinsics, 0.01)
    if estimate is None:
        return None
    static = estimate.state(participant.head, frame.stamp)
    view = key_view(FaceSkin.of(participant.head), static, camera.intrinsics)
    if view is None:
        return None
    pictures = [_cut(frame, view, np.eye(3), np.zeros(3))]
    motions = []
    offsets = []
    turns = []
    shifts = []
    for number in range(frames):
        levels = draw_levels(rng) if rng.random() > STILL else np.zeros(len(ACTUATORS))
        motion, offset = mover.motion(levels)
        pose = participant.head_pose(float(rng.uniform(-2.5, 2.5)))
        image = picture_of(mover, camera, resting + motion, offset, pose, 10.0 + number)
        turn, shift = relative(pose, key_pose, view.centre)
        turn = rotation_matrix(rng.normal(0.0, 0.0015, 3)) @ turn
        shift = shift + rng.normal(0.0, (1e-4, 1e-4, 4e-4))
        pictures.append(_cut(image, view, turn, shift))
        motions.append(motion)
        offsets.append(offset[_face(participant.head)])
        turns.append(turn)
        shifts.append(shift)
    return {
        "seed": seed,
        "K": camera.intrinsics,
        "shape": static.shape,
        "expression": static.expression,
        "pose": static.head_pose,
        "true_shape": participant.shape,
        "resting": resting,
        "pictures": np.array(pictures, np.float16),
        "motion": np.array(motions, np.float32),
        "offsets": np.array(offsets, np.float16),
        "turn": np.array(turns),
        "shift": np.array(shifts),
        "sensors": camera.sensors,
        "wild": profile == "wild",
    }


def _face(head: HeadModel) -> Any:
    return FaceSkin.of(head).vertices


def _cut(frame: Frame, view: KeyView, turn: F64, shift: F64) -> F32:
    return sample_patch(frame.image, view.maps(turn, shift), float(view.matrix[0, 0]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files."""
    options = parser(__doc__)
    options.add_argument("out", type=Path)
    options.add_argument("--people", type=int, default=120)
    options.add_argument("--first", type=int, default=FIRST_SEED)
    options.add_argument("--frames", type=int, default=FRAMES)
    values = options.parse_args(arguments)
    values.out.mkdir(parents=True, exist_ok=True)
    estimator = SensorEstimator(load_head(), SensorFitSettings())
    estimator.warm_up()
    for seed in range(values.first, values.first + values.people):
        path = values.out / f"{seed}.npz"
        if path.exists():
            continue
        arrays = examples(seed, estimator, values.frames)
        if arrays is not None:
            np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    run(main)
