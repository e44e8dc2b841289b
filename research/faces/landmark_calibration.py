"""Measures the landmark network's habits on renders of a head model and writes the table that the landmark
fit uses.

    python -m research.faces.landmark_calibration models/landmark_fit.npz --people 300 --pictures 20
    --others 600

For random people, expressions and views with known parameters, the landmarks that the network places are
compared with where the head model has them. The differences, in head coordinates, are explained in turn by a
mean, by the expression (the network moves its landmarks less than the skin moves), by the person's shape (it
makes faces more alike than they are), by errors that stay with a person, and by errors that come and go
together; what is left is noise. Then other people are fitted with that table, and their true shapes are
regressed on the fitted ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.linalg

from eifer_ros.head import projection
from eifer_ros.head.fingerprint import fingerprint
from eifer_ros.head.model import DEFAULT_HEAD, HeadModel, load_head
from eifer_ros.reconstruction.landmarks.attention_mesh import (
    MESH,
    Crop,
    FaceLandmarker,
    Landmarks,
    crop_from_landmarks,
)
from eifer_ros.reconstruction.landmarks.landmark_fit import (
    FitTable,
    LandmarkFit,
    head_centre,
)
from eifer_ros.reconstruction.landmarks.landmark_model import LandmarkModel
from eifer_ros.simulation.muscles import MuscleMap
from eifer_ros.types import F64
from research.common.recipe import parser, run
from research.faces.random_faces import paint, random_expression, random_view, render, visible_actions

MOVING = 24
STANDING = 24
"""How many error modes are kept."""
_FLOOR = 2.0e-3
"""No landmark counts as surer than this, m: the errors that the modes leave are not independent."""
_RESPONSE_SHARE = 0.72
_SHAPE_SHARE = 0.5
_MODE_SHARE = 0.52
"""How much of the habits seen on renders is used. On real faces the network is better than on renders; with all of it the mesh leaves
real landmarks (2.7 % of the eye distance), with none of it expressions on renders are recovered far worse."""
_DEPTH_ALIKE = 5.0
"""Depth errors of neighbouring landmarks are the same error: their noise is raised as if only one in 25 were
a measurement.
"""
_RIDGE = 5.0
_SHAPE_RIDGE = 10.0
"""Strength of the assumption that a coefficient changes nothing: in pictures for the expression, in people
for the shape.
"""
_PERSON_RIDGE = 30.0
_PERSON_NOISE = 0.1
"""Of the regression of true on fitted shapes: strength in people; standard deviations that a real person adds
to the spread of a fit.
"""


@dataclass(frozen=True)
class Samples:
    """N pictures of P people.

    landmarks (N, L, 3); intrinsics (N, 3, 3); poses (N, 4, 4); shapes (N, S); expressions (N, E); person
    (N,).
    """

    landmarks: F64
    intrinsics: F64
    poses: F64
    shapes: F64
    expressions: F64
    person: F64


def random_shape(rng: np.random.Generator, head: HeadModel) -> F64:
    """(S,) a person: independent normal coefficients, none beyond 2.5."""
    return np.asarray(np.clip(rng.normal(size=head.shape_size), -2.5, 2.5))


def collect(head: HeadModel, participants: int, pictures: int, seed: int, max_yaw: float = 0.5) -> Samples:
    """Render `participants` x `pictures` faces and place landmarks in them, from a crop as uncertain as a tracked
    one.
    """
    landmarker = FaceLandmarker()
    rows = []
    for participant in range(participants):
        rng = np.random.default_rng([seed, participant])
        shape = random_shape(rng, head)
        colours = paint(head, rng)
        neutral = head.neutral(shape)
        muscles = MuscleMap(int(rng.integers(2**31)))
        for _ in range(pictures):
            expression = random_expression(rng, head.expression_names, muscles)
            view = random_view(rng, head, max_yaw)
            expression = np.maximum(expression, head.look_weights(view.eyes))
            vertices = head.vertices(shape, expression, eyes=view.eyes, neutral=neutral)
            picture = render(head, vertices, colours, view, rng)
            crop = crop_from_landmarks(
                projection.project(head.points(vertices), view.head_pose, view.intrinsics)
            )
            crop = Crop(
                crop.x + rng.normal(0.0, 0.03) * crop.side,
                crop.y + rng.normal(0.0, 0.03) * crop.side,
                crop.side * np.exp(rng.normal(0.0, 0.04)),
                crop.angle + rng.normal(0.0, 0.04),
            )
            landmarks = landmarker.locate(picture, crop)
            if landmarks.presence > 0.5:
                rows.append(
                    (landmarks.points, view.intrinsics, view.head_pose, shape, expression, participant)
                )
    columns = [np.array(column, np.float64) for column in zip(*rows, strict=True)]
    return Samples(*columns)


def measure(head: HeadModel, samples: Samples) -> FitTable:
    """The table for `head`, without what `learn_people` adds."""
    model = LandmarkModel.of(head)
    plain = FitTable.plain(model)
    faces = _faces(model, samples)
    errors, depth_gain, depth_sigma = _errors(model, samples, faces)
    count = len(errors)
    flat = errors.reshape(count, -1)
    design = np.column_stack([np.ones(count), faces, samples.shapes])
    ridge = np.full(design.shape[1], _RIDGE)
    ridge[0] = 0.0
    participants = np.unique(samples.person)
    per_person = count / len(participants)
    ridge[1 + model.face_size :] = _SHAPE_RIDGE * per_person
    spread = design.std(axis=0) ** 2
    still = design.std(axis=0) < 1e-6
    gram = design.T @ design + np.diag(ridge * np.where(still, 1.0, spread))
    gram[np.diag_indices(len(gram))] += np.where(still & (np.arange(len(gram)) > 0), 1e6, 0.0)
    coefficients = np.linalg.solve(gram, design.T @ flat)
    left = flat - design @ coefficients
    means = np.stack([left[samples.person == participant].mean(axis=0) for participant in participants])
    per_person = count / len(participants)
    moving_part = left - means[np.searchsorted(participants, samples.person)]
    standing_modes = _modes(
        means, STANDING, float((moving_part**2).mean(axis=0).sum() / per_person / flat.shape[1])
    )
    moving_modes = _modes(moving_part, MOVING, 0.0)
    explained = (moving_modes**2).sum(axis=1)
    noise = np.clip((moving_part**2).mean(axis=0) - explained, 1e-8, None).reshape(MESH, 3)
    sigma = plain.sigma.copy()
    depth_noise = plain.depth_sigma.copy()
    sigma[:MESH] = np.maximum(np.sqrt(noise[:, :2].mean(axis=1)), _FLOOR)
    depth_noise[:MESH] = depth_sigma * _DEPTH_ALIKE
    bias = plain.bias.copy()
    response = plain.response.copy()
    shape_response = plain.shape_response.copy()
    bias[:MESH] = coefficients[0].reshape(MESH, 3)
    response[:MESH] = np.moveaxis(coefficients[1 : 1 + model.face_size].reshape(-1, MESH, 3), 0, 2)
    shape_response[:MESH] = np.moveaxis(coefficients[1 + model.face_size :].reshape(-1, MESH, 3), 0, 2)
    standing = _MODE_SHARE * _pad(standing_modes, len(sigma))
    columns = model.shape_size + standing.shape[2]
    return FitTable(
        sigma,
        depth_noise,
        depth_gain,
        bias,
        _RESPONSE_SHARE * response,
        _MODE_SHARE * _pad(moving_modes, len(sigma)),
        standing,
        faces.mean(axis=0),
        _covariance(head, model, faces),
        _SHAPE_SHARE * shape_response,
        np.zeros(columns),
        np.zeros((model.shape_size, columns)),
        np.inf,
    )


def fitted_people(head: HeadModel, table: FitTable, samples: Samples) -> tuple[F64, F64]:
    """(P, S + B) each person as fitted over all his pictures, each picture by itself; (P, S) true shapes."""
    fit = LandmarkFit(LandmarkModel.of(head), table)
    fitted = []
    true = []
    for participant in np.unique(samples.person):
        fit.reset()
        for index in np.flatnonzero(samples.person == participant):
            fit.reset_motion()
            fit.fit(
                Landmarks(samples.landmarks[index].astype(np.float32), 1.0), samples.intrinsics[index], 1.0
            )
        fitted.append(fit.person)
        true.append(samples.shapes[index])
    return np.array(fitted), np.array(true)


def learn_people(table: FitTable, fitted: F64, true: F64) -> FitTable:
    """`table` with the regression of `true` shapes on `fitted` people (see `fitted_people`), who must not be
    those of the table.
    """
    mean = fitted.mean(axis=0)
    away = fitted - mean
    variance = (away**2).mean(axis=0)
    gram = away.T @ away + np.diag(_PERSON_RIDGE * variance + len(away) * _PERSON_NOISE**2)
    lacking = true - away[:, : true.shape[1]]
    return replace(
        table,
        person_mean=mean,
        person_map=np.linalg.solve(gram, away.T @ lacking).T,
        person_distance=float(np.sqrt(variance.sum())),
    )


def _faces(model: LandmarkModel, samples: Samples) -> F64:
    faces = np.zeros((len(samples.expressions), model.face_size))
    faces[:, : samples.expressions.shape[1]] = samples.expressions
    return faces


def _errors(model: LandmarkModel, samples: Samples, faces: F64) -> tuple[F64, float, F64]:
    """(N, 468, 3) seen minus true in head coordinates, m; gain of the relative depth; its noise per landmark
    (468,), m.
    """
    count = len(faces)
    errors = np.zeros((count, MESH, 3))
    gains = np.zeros(count)
    depth = np.zeros((2, count, MESH))
    centre = head_centre(model)
    for i in range(count):
        points = model.points(faces[i], samples.shapes[i])[:MESH]
        rotation = samples.poses[i, :3, :3]
        shift = samples.poses[i, :3, 3]
        K = samples.intrinsics[i]
        placed = points @ rotation.T + shift
        drawn = placed[:, :2] / placed[:, 2:] * K[[0, 1], [0, 1]] + K[:2, 2]
        miss = np.zeros((MESH, 3))
        miss[:, :2] = (samples.landmarks[i, :MESH, :2] - drawn) * (placed[:, 2:] / K[0, 0])
        errors[i] = miss @ rotation
        middle = float(rotation[2] @ centre + shift[2])
        measured = samples.landmarks[i, :MESH, 2] * (middle / K[0, 0])
        real = placed[:, 2] - middle
        measured = measured - measured.mean()
        real = real - real.mean()
        gains[i] = measured @ real / (measured @ measured)
        depth[:, i] = measured, real
    gain = float(np.median(gains))
    return errors, gain, np.asarray(np.sqrt(((depth[0] * gain - depth[1]) ** 2).mean(axis=0)))


def _modes(rows: F64, count: int, noise: float) -> F64:
    """(D, count) principal directions of `rows` (N, D), each one standard deviation long, less the variance
    `noise` of pure chance.
    """
    count = min(count, *rows.shape)
    values, directions = scipy.linalg.eigh(
        rows.T @ rows / len(rows), subset_by_index=(rows.shape[1] - count, rows.shape[1] - 1)
    )
    return np.asarray(directions[:, ::-1] * np.sqrt(np.clip(values[::-1] - noise, 0.0, None)))


def _pad(modes: F64, landmarks: int) -> F64:
    out = np.zeros((landmarks, 3, modes.shape[1]))
    out[:MESH] = modes.reshape(MESH, 3, -1)
    return out


def _covariance(head: HeadModel, model: LandmarkModel, faces: F64) -> F64:
    """Of the face coefficients, with a floor for those that the samples never move."""
    covariance = np.cov(faces.T)
    for index in range(model.face_size):
        if index not in visible_actions(head.expression_names):
            covariance[index] = 0.0
            covariance[:, index] = 0.0
            covariance[index, index] = 1e-4
    return covariance


def save(path: Path, head: HeadModel, table: FitTable) -> None:
    """Write the table of `head`, half precision where it is large."""
    np.savez_compressed(
        path,
        head_model=head.id,
        fingerprint=fingerprint(head),
        expression_names=np.array(head.expression_names),
        sigma=table.sigma.astype(np.float32),
        depth_sigma=table.depth_sigma.astype(np.float32),
        depth_gain=table.depth_gain,
        bias=table.bias.astype(np.float32),
        response=table.response.astype(np.float16),
        moving=table.moving.astype(np.float16),
        standing=table.standing.astype(np.float16),
        mean=table.mean.astype(np.float32),
        covariance=table.covariance.astype(np.float32),
        shape_response=table.shape_response.astype(np.float16),
        person_mean=table.person_mean.astype(np.float32),
        person_map=table.person_map.astype(np.float32),
        person_distance=table.person_distance,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the calibration."""
    options = parser(__doc__)
    options.add_argument("target", type=Path)
    options.add_argument("--head", default=DEFAULT_HEAD)
    options.add_argument("--people", type=int, default=300)
    options.add_argument("--pictures", type=int, default=20)
    options.add_argument(
        "--others", type=int, default=600, help="people whose true shapes are regressed on the fitted ones"
    )
    options.add_argument("--seed", type=int, default=1000)
    values = options.parse_args(arguments)
    head = load_head(values.head)
    table = measure(head, collect(head, values.people, values.pictures, values.seed))
    others = collect(head, values.others, values.pictures // 2, values.seed + 1)
    save(values.target, head, learn_people(table, *fitted_people(head, table, others)))


if __name__ == "__main__":
    run(main)
