"""How far an encoder can be trusted, measured on people whom it has not seen: the table that
`reconstruction/confidence.py` reads.

    python -m research.faces.confidence_calibration models/face_encoder.onnx [--people 16] [--first
    900100]

Every moment is read as the live estimator reads it, clean and spoilt (dark, burnt out, blurred, noisy, small,
at the border, behind a hand), bare and under sensors. A logistic regression with weights that are not
negative joins the clues; isotonic regression makes their sum a share of faces that are right (mean error of
the face's vertices, expression alone, within `confidence.GOOD_MM`). Every second person is kept for checking.
No torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import isotonic_regression, minimize

from eifer_ros.errors import InputError
from eifer_ros.evaluation.face import VARIANTS, Scene, scenes
from eifer_ros.evaluation.metrics import displacement_basis, vertex_error_mm
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.reconstruction.confidence import GOOD_MM, Confidence, confidence_features, expected_error
from eifer_ros.reconstruction.encoder.sensor_estimator import SensorEstimator
from eifer_ros.reconstruction.encoder.sensor_fit import SensorFitSettings
from eifer_ros.simulation.seeds import generator
from eifer_ros.types import F64, U8, Frame
from research.common.recipe import parser, run

FIRST = 900_100
PEOPLE = 16
"""People that the evaluation does not judge and no network was trained on."""
_KNOTS = 14


@dataclass(frozen=True)
class Samples:
    """N faces found.

    clues (N, 3) with the raw standard deviations; error_mm (N,); person (N,); clean (N,) not spoilt.

    expected2, squared2 (N,): squared motion in mm^2 that the encoder expects to be off, and that it was off,
    coefficient by coefficient.
    """

    confidence_features: F64
    error_mm: F64
    person: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    clean: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    expected2: F64
    squared2: F64


def degrade(image: U8, scene: Scene, rng: np.random.Generator) -> U8:
    """`image` as a bad camera or a hand leaves it."""
    side = scene.crop.side
    kind = int(rng.integers(7))
    if kind == 0:
        return np.asarray(image * rng.uniform(0.04, 0.35), np.uint8)
    if kind == 1:
        return np.asarray(np.clip(image * rng.uniform(1.8, 6.0) + 20.0, 0, 255), np.uint8)
    if kind == 2:
        return np.asarray(
            cv2.GaussianBlur(image, (0, 0), side / 128.0 * float(rng.uniform(1.5, 6.0))), np.uint8
        )
    if kind == 3:
        return np.asarray(
            np.clip(image + rng.normal(0.0, rng.uniform(15.0, 60.0), image.shape), 0, 255), np.uint8
        )
    if kind == 4:
        small = cv2.resize(image, None, fx=0.12, fy=0.12, interpolation=cv2.INTER_AREA)
        return np.asarray(
            cv2.resize(small, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR), np.uint8
        )
    out = image.copy()
    if kind == 5:  # half out of the picture
        away = int(rng.uniform(0.15, 0.5) * side)
        moved = np.zeros_like(out)
        moved[:, :-away] = out[:, away:]
        moved[:, -away:] = 0
        keep = int(scene.crop.x - away - side * rng.uniform(-0.1, 0.3))
        moved[:, : max(keep, 0)] = 0
        return moved
    for _ in range(int(rng.integers(1, 4))):  # a hand, a cup, a sheet of paper
        x = scene.crop.x + side * rng.uniform(-0.35, 0.35)
        y = scene.crop.y + side * rng.uniform(-0.35, 0.4)
        size = side * rng.uniform(0.08, 0.3, 2)
        colour = tuple(int(value) for value in rng.integers(20, 235, 3))
        axes = round(size[0]), round(size[1])
        cv2.ellipse(
            out, (round(x), round(y)), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA
        )
    return out


def collect(
    estimator: SensorEstimator,
    head: HeadModel,
    participants: Iterable[int],
    moments: int = 2,
    *,
    source: Callable[[int, int], Iterable[Scene]] = scenes,
    progress: Callable[[int], None] | None = None,
) -> Samples:
    """Read every moment of `participants`, clean and spoilt, as a face that has just come into sight.

    progress: after each person.
    """
    basis = displacement_basis(head)
    plain = estimator.confidence
    weights = expected_error(head)
    rows: list[tuple[F64, float, int, bool, float, float]] = []
    for seed in participants:
        rng = generator(seed, "spoilt pictures")
        estimator.reset()
        for scene in source(seed, moments):
            for variant in VARIANTS:
                image = scene.frame(variant).image
                for clean in (True, False):
                    frame = Frame(
                        scene.face.stamp, image if clean else degrade(image, scene, rng), scene.intrinsics
                    )
                    estimate = estimator.estimate(frame, scene.intrinsics, 1.0)
                    fit = estimator.fitted
                    if estimate is None or fit is None or estimator.reading is None:
                        continue
                    face = fit.face[None, : head.expression_size]
                    truth = scene.face.expression[None]
                    off = (face - truth)[0]
                    off[list(estimator.model.gaze)] = 0.0
                    raw = estimator.expected_mm(estimator.reading.expression_std)
                    rows.append(
                        (
                            confidence_features(
                                raw * plain.std_scale,
                                estimator.landmark_error_mm(fit),
                                estimator.reading.readable,
                            ),
                            float(vertex_error_mm(basis, face, truth)[0]),
                            seed,
                            clean,
                            raw**2,
                            float(weights @ off**2),
                        )
                    )
        if progress is not None:
            progress(seed)
    if not rows:
        raise InputError("no face was found in any picture: this encoder reads nothing")
    columns = list(zip(*rows, strict=True))
    return Samples(
        np.stack(columns[0]),
        np.array(columns[1]),
        np.array(columns[2]),
        np.array(columns[3]),
        np.array(columns[4]),
        np.array(columns[5]),
    )


def learn(samples: Samples, std_scale: float) -> Confidence:
    """The table from samples whose clues were taken with `std_scale`.

    Raises InputError for too few of either kind.
    """
    right = (samples.error_mm < GOOD_MM).astype(np.float64)
    if min(right.sum(), (1.0 - right).sum()) < 20:
        raise InputError(
            f"{int(right.sum())} of {len(right)} faces are right; at least 20 right and 20 wrong ones are needed"
        )

    def loss(values: F64) -> float:
        z = samples.confidence_features @ values[:3] + values[3]
        return float((np.logaddexp(0.0, z) - right * z).mean() + 1e-3 * (values[:3] ** 2).sum())

    best = minimize(
        loss, np.array([1.0, 0.5, 0.5, 0.0]), method="L-BFGS-B", bounds=[(0.0, 20.0)] * 3 + [(-50.0, 50.0)]
    ).x
    score = samples.confidence_features @ best[:3] + best[3]
    order = np.argsort(score)
    groups = np.array_split(order, _KNOTS)
    # one right and one wrong face are added to each group: no share is ever certain
    shares = np.array([(right[group].sum() + 0.5) / (len(group) + 1.0) for group in groups])
    places = np.array([score[group].mean() for group in groups])
    rising = isotonic_regression(shares, weights=[len(group) for group in groups]).x
    distinct = np.concatenate([[True], np.diff(places) > 1e-9])
    places = places[distinct]
    rising = np.clip(rising[distinct], 0.0, 1.0)
    # worse than the worst tenth that was seen: the regression goes on, down to nothing
    low = np.array([-8.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0])
    low = low[low < places[0] - 0.25]
    below = np.minimum(1.0 / (1.0 + np.exp(-low)), rising[0])
    return Confidence(
        std_scale,
        np.asarray(best[:3]),
        float(best[3]),
        np.concatenate([low, places]),
        np.concatenate([below, rising]),
    )


def reliability(table: Confidence, samples: Samples, bins: int = 5) -> list[tuple[float, float, int]]:
    """(mean confidence, share that was right, faces) of faces sorted by confidence into `bins` groups of
    equal size.
    """
    score = samples.confidence_features @ table.weights + table.bias
    confidence = np.interp(score, table.scores, table.shares)
    right = samples.error_mm < GOOD_MM
    groups: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.intp]]] = np.array_split(
        np.argsort(confidence), bins
    )
    return [(float(confidence[group].mean()), float(right[group].mean()), len(group)) for group in groups]


def calibrate(
    encoder: Path,
    participants: Sequence[int],
    moments: int = 2,
    progress: Callable[[int], None] | None = None,
) -> tuple[Confidence, Samples]:
    """The table of `encoder` from every second person, and what was read of the others.

    Raises ModelError, InputError.
    """
    head = load_head()
    estimator = SensorEstimator(head, SensorFitSettings(), encoder=str(encoder))
    estimator.confidence = Confidence.guess()
    samples = collect(estimator, head, participants, moments, progress=progress)
    scale = float(np.sqrt(samples.squared2[samples.clean].mean() / samples.expected2[samples.clean].mean()))
    shift = np.array(
        [np.log(scale / estimator.confidence.std_scale), 0.0, 0.0]
    )  # as if it had been read with that scale
    moved = Samples(
        samples.confidence_features - shift,
        samples.error_mm,
        samples.person,
        samples.clean,
        samples.expected2,
        samples.squared2,
    )
    learnt = np.isin(moved.person, list(participants)[::2])

    def part(rows: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Samples:
        return Samples(
            *(
                getattr(moved, name)[rows]
                for name in ("clues", "error_mm", "person", "clean", "expected2", "squared2")
            )
        )

    return learn(part(learnt), scale), part(~learnt)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the table beside the network, and show how it does on the people kept for checking."""
    options = parser(__doc__)
    options.add_argument("encoder", type=Path)
    options.add_argument("--people", type=int, default=PEOPLE)
    options.add_argument("--first", type=int, default=FIRST)
    options.add_argument("--moments", type=int, default=2)
    values = options.parse_args(arguments)
    participants = range(values.first, values.first + values.people)
    table, checked = calibrate(
        values.encoder, participants, values.moments, lambda seed: print(f"participant {seed}", flush=True)
    )
    table.save(values.encoder.with_suffix(".json"), values.encoder)
    print(f"standard deviations times {table.std_scale:.2f}; weights {np.round(table.weights, 2).tolist()}")
    for confidence, share, count in reliability(table, checked):
        print(f"confidence {confidence:.2f}: {share:.2f} of {count} were within {GOOD_MM} mm")


if __name__ == "__main__":
    run(main)
