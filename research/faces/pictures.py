"""Pictures of random heads with and without sensors, and all that is known about them: what the networks are
first trained on.

    python -m research.faces.pictures FOLDER --people 4000 --processes 2

Each shard of FOLDER holds some people, several pictures of each. Every picture exists twice, bare and under
sensors, otherwise equal; who learns without pairs takes one of the two. Seeds from 900000 on belong to
evaluation and are refused. Pure numpy.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from eifer_ros.errors import InputError
from eifer_ros.head import projection
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.reconstruction.encoder.face_crop import POINTS, crop_of
from eifer_ros.reconstruction.encoder.face_encoder import ray_rotation
from eifer_ros.simulation.camera.materials import Profile
from eifer_ros.simulation.camera.scene import ParticipantCamera
from eifer_ros.simulation.muscles import MuscleMap
from eifer_ros.simulation.seeds import HELD_OUT_FROM, generator
from eifer_ros.types import F32, F64, U8
from research.common.recipe import parser, run
from research.faces.random_faces import random_expression

SIDE = 160
"""Side of the stored pictures in pixels."""
AROUND = 1.25
"""Side of a stored picture over the side of the face's crop: room to move the crop."""
PEOPLE_PER_SHARD = 25
PICTURES_PER_PERSON = 8


@dataclass(frozen=True)
class Shard:
    """N pictures. bare, sensors: (N, SIDE, SIDE, 3) uint8 RGB.

    mask: (N, SIDE, SIDE) bool, where the two may differ. landmarks: (N, L, 2) pixels of `face_crop.POINTS`.
    expression: (N, E). shape: (N, S). rotation: (N, 3, 3) of the head as seen along the ray through the
    picture's middle. person: (N,) seeds.
    """

    bare: U8
    sensors: U8
    mask: npt.NDArray[np.bool_]
    landmarks: F32
    expression: F32
    shape: F32
    rotation: F32
    person: npt.NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write in one step, so that a half-written shard never counts."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        content["mask"] = np.packbits(self.mask, axis=-1)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.savez(file, **content)
        partial.replace(path)

    @staticmethod
    def load(path: Path) -> Shard:
        """Read what `save` wrote. Raises InputError for another file."""
        with np.load(path, allow_pickle=False) as data:
            missing = [field.name for field in fields(Shard) if field.name not in data]
            if missing:
                raise InputError(f"{path}: not a shard of training pictures; {', '.join(missing)} missing")
            content = {field.name: data[field.name] for field in fields(Shard)}
        content["mask"] = np.unpackbits(content["mask"], axis=-1, count=SIDE).astype(bool)
        return Shard(**content)


def shard_paths(folder: Path) -> list[Path]:
    """The finished shards of a folder, in order. Raises InputError where there are none."""
    paths = sorted(folder.glob("shard-*.npz"))
    if not paths:
        raise InputError(
            f"{folder} holds no shard-*.npz; make some: python -m research.faces.pictures {folder}"
        )
    return paths


def expression_of_a_moment(rng: np.random.Generator, head: HeadModel, muscles: MuscleMap, eyes: F64) -> F64:
    """(E,) mostly movements of the protocol and their mixtures; one in six single actions at random, as no
    muscle map would make them.
    """
    names = head.expression_names
    if rng.random() < 1 / 6:
        expression = np.zeros(len(names))
        for i in rng.choice(len(names), size=rng.integers(1, 7), replace=False):
            if not names[i].startswith(("eyeLook", "tongue")):
                expression[i] = rng.uniform(0.1, 1.0)
                if rng.random() < 0.7 and names[i].endswith(("Left", "Right")):
                    twin = (
                        names[i].removesuffix("Left") + "Right"
                        if names[i].endswith("Left")
                        else names[i].removesuffix("Right") + "Left"
                    )
                    expression[names.index(twin)] = expression[i] * rng.uniform(0.7, 1.0)
    else:
        expression = random_expression(rng, names, muscles)
    if rng.random() < 0.15:  # a blink can fall into anything
        lids = [names.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]
        expression[lids] = np.maximum(expression[lids], rng.uniform(0.2, 1.0))
    bounds = head.expression_bounds
    return np.asarray(np.maximum(np.clip(expression, bounds[:, 0], bounds[:, 1]), head.look_weights(eyes)))


def person(head: HeadModel, seed: int, pictures: int = PICTURES_PER_PERSON) -> Shard:
    """Pictures of one random person. Raises InputError for a seed kept for evaluation."""
    if not 0 <= seed < HELD_OUT_FROM:
        raise InputError(
            f"seed {seed} is kept for evaluation; training pictures take seeds from 0 to {HELD_OUT_FROM - 1}"
        )
    rng = generator(seed, "training pictures")
    shape = np.clip(rng.normal(0.0, rng.uniform(0.6, 1.1), head.shape_size), -2.5, 2.5)
    profile: Profile = "lab" if rng.random() < 0.35 else "wild"
    size = (SIDE, SIDE)
    camera = ParticipantCamera(
        seed,
        size=size,
        K=projection.default_intrinsics(*size),
        head=head,
        profile=profile,
        sensor_seed=int(rng.integers(256)),
    )
    muscles = MuscleMap(int(rng.integers(2**31)), variation=float(rng.uniform(0.05, 0.35)))
    below = rng.normal(-0.18, 0.10) if rng.random() < 0.6 else rng.normal(0.0, 0.18)
    distance = float(np.exp(rng.uniform(math.log(0.35), math.log(1.6))))
    gaze = generator(seed, "gaze")
    centre = head.points(head.template)[4] - (0.0, 0.0, 0.06)
    rows: dict[str, list[npt.NDArray[np.generic]]] = {field.name: [] for field in fields(Shard)}
    for picture in range(pictures):
        gaze_angles = np.array([gaze.normal(0.0, 0.10), gaze.normal(0.0, 0.18), 0.0])
        eyes = np.stack([gaze_angles, gaze_angles])
        expression = expression_of_a_moment(rng, head, muscles, eyes)
        wide = 0.30 if rng.random() < 0.25 else 0.10
        pose = projection.facing_pose(
            distance,
            yaw=rng.normal(0.0, wide),
            pitch=below + rng.normal(0.0, 0.06),
            roll=rng.normal(0.0, 0.08),
            centre=centre,
        )
        points = head.points(head.vertices(shape, expression, eyes=eyes))[list(POINTS)]
        flat = projection.project(points, pose, np.diag([1.0, 1.0, 1.0]))[:, :2]
        crop = crop_of(flat)
        scale = SIDE / (AROUND * crop.side)
        K = np.array(
            [
                [scale, 0.0, SIDE / 2 - scale * crop.x],
                [0.0, scale, SIDE / 2 - scale * crop.y],
                [0.0, 0.0, 1.0],
            ]
        )
        camera.intrinsics = K
        view = camera.render_pair(shape, expression, eyes, pose, time_s=picture * 0.37)
        rows["bare"].append(view.bare)
        rows["sensors"].append(view.with_sensors)
        rows["mask"].append(view.mask)
        rows["landmarks"].append((flat * scale + K[:2, 2]).astype(np.float32))
        rows["expression"].append(expression.astype(np.float32))
        rows["shape"].append(shape.astype(np.float32))
        rows["rotation"].append(
            (ray_rotation(np.array([crop.x, crop.y])).T @ pose[:3, :3]).astype(np.float32)
        )
        rows["person"].append(np.array(seed))
    return Shard(**{name: np.stack(values) for name, values in rows.items()})


def _make(task: tuple[Path, int]) -> Path:
    folder, number = task
    path = folder / f"shard-{number:05d}.npz"
    if not path.exists():
        head = load_head()
        participants = [person(head, number * PEOPLE_PER_SHARD + k) for k in range(PEOPLE_PER_SHARD)]
        Shard(
            **{
                field.name: np.concatenate([getattr(one, field.name) for one in participants])
                for field in fields(Shard)
            }
        ).save(path)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Render shards; those that exist are kept, so that an interrupted run goes on."""
    from rich.progress import track

    options = parser(__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--people", type=int, default=4000, help=f"{PICTURES_PER_PERSON} pictures of each")
    options.add_argument("--first", type=int, default=0, help="first person's seed")
    options.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    values = options.parse_args(arguments)
    values.folder.mkdir(parents=True, exist_ok=True)
    first = values.first // PEOPLE_PER_SHARD
    tasks = [(values.folder, first + k) for k in range(-(-values.people // PEOPLE_PER_SHARD))]
    with multiprocessing.get_context("spawn").Pool(values.processes) as pool:
        for _ in track(pool.imap(_make, tasks), "rendering", total=len(tasks)):
            pass


if __name__ == "__main__":
    run(main)
