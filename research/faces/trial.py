"""What personalisation adds, measured on a simulated participant whom no network has seen.

    eifer train face --reference performer:900300 --sensors performer:900300 --out run/ --start encoder.pt
    python -m research.faces.trial 900300 encoder.pt run/encoder_s.pt

Each encoder reads the same crops, of a session that the run was not trained on. The truth is used here and
nowhere in training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from eifer_ros.errors import InputError
from eifer_ros.head import projection
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.reconstruction.encoder.face_crop import POINTS, SIZE, crop_of
from eifer_ros.reconstruction.encoder.face_encoder import as_input, cut
from eifer_ros.simulation.participant import Participant
from eifer_ros.types import F32, U8
from research.common.recipe import parser, run
from research.faces.face_encoder import FaceEncoder
from research.faces.start_encoders import load_start

SESSION = 3
"""Training takes sessions 0 (bare) and 1 (sensors)."""


@dataclass(frozen=True)
class Moments:
    """What is judged on. bare, sensors: (N, SIZE, SIZE, 3) uint8 of the same moments. expression: (N, E).

    shape: (S,).
    """

    bare: U8
    sensors: U8
    expression: F32
    shape: F32

    @staticmethod
    def of(seed: int, count: int) -> Moments:
        """`count` moments of a performance, both ways, in the crop that a perfect tracker would take."""
        participant = Participant(seed, SESSION, sensors=True)
        head = participant.head
        rows = list(POINTS)
        bare = []
        covered = []
        expression = []
        for time_s in 2.0 + 1.13 * np.arange(count):
            face = participant.face_at(float(time_s))
            points = head.points(head.state_vertices(face))[rows]
            crop = crop_of(projection.project(points, face.head_pose, participant.intrinsics)[:, :2])
            view = participant.camera.render_pair(
                face.shape, face.expression, face.eyes, face.head_pose, float(time_s)
            )
            bare.append(cut(view.bare, crop, SIZE))
            covered.append(cut(view.with_sensors, crop, SIZE))
            expression.append(face.expression)
        return Moments(np.stack(bare), np.stack(covered), np.stack(expression), participant.shape)


@dataclass(frozen=True)
class Score:
    """expression_mm: mean distance of the face's vertices that the expression alone puts wrong; bare_mm: the
    same without sensors. r: median correlation of the coefficients that move. shape_spread: RMS over one
    person's pictures of how far the shape wanders, in standard deviations.
    """

    expression_mm: float
    bare_mm: float
    r: float
    shape_spread: float


def score(encoder: FaceEncoder, moments: Moments, head: HeadModel) -> Score:
    """Of one encoder."""
    basis = 1e3 * head.expression_basis[head.regions["face"]].astype(np.float64)
    lower = head.expression_bounds[:, 0]
    upper = head.expression_bounds[:, 1]

    def read(pictures: U8) -> dict[str, F32]:
        with torch.no_grad():
            parts = [
                encoder(torch.from_numpy(as_input(pictures[k : k + 16]))) for k in range(0, len(pictures), 16)
            ]
        return {name: torch.cat([part[name] for part in parts]).numpy() for name in ("expression", "shape")}

    def error(guess: F32) -> float:
        off = np.clip(guess, lower, upper) - moments.expression
        return float(np.linalg.norm(np.einsum("vde,ne->nvd", basis, off), axis=2).mean())

    encoder.eval()
    covered = read(moments.sensors)
    bare = read(moments.bare)
    moving = np.flatnonzero(moments.expression.std(axis=0) > 0.05)
    guess = covered["expression"]
    r = [
        np.corrcoef(guess[:, k], moments.expression[:, k])[0, 1] if guess[:, k].std() > 1e-9 else 0.0
        for k in moving
    ]
    spread = float(np.sqrt(covered["shape"].var(axis=0).mean()))
    return Score(
        error(covered["expression"]),
        error(bare["expression"]),
        float(np.median(r)) if len(r) else float("nan"),
        spread,
    )


def compare(
    seed: int, encoders: list[Path], count: int = 60, head: HeadModel | None = None
) -> Iterator[tuple[Path, Score]]:
    """Each encoder's score on the same moments.

    Raises InputError for SMIRK's, whose head model is another.
    """
    head_model = head if head is not None else load_head()
    loaded = [(path, load_start(path, head_model)) for path in encoders]
    moments = Moments.of(seed, count)
    for path, encoder in loaded:
        if not isinstance(encoder, FaceEncoder):
            raise InputError(
                f"{path}: the simulated participant is known in '{head_model.id}' coefficients, not in FLAME's"
            )
        yield path, score(encoder, moments, head_model)


def main(arguments: Sequence[str] | None = None) -> None:
    """One JSON line per encoder."""
    options = parser(__doc__)
    options.add_argument("seed", type=int)
    options.add_argument("encoders", type=Path, nargs="+", help="encoder.pt, encoder_s.pt or .onnx")
    options.add_argument("--count", type=int, default=60, help="moments")
    values = options.parse_args(arguments)
    for path, result in compare(values.seed, values.encoders, values.count):
        print(
            json.dumps(
                {"encoder": str(path), **{name: round(value, 4) for name, value in asdict(result).items()}}
            ),
            flush=True,
        )


if __name__ == "__main__":
    run(main)
