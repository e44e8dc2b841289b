"""Real faces under real sensors: is the movement recognised from the estimated expression?

The sheet is a grid of tiles, a row for each movement and a column for each person (the reference sheet: 5
movements, 4 persons, tiles of 470 x 428). The measure: leave one person out, nearest centroid of the
estimated expression, each person's mean removed, coefficients scaled by their spread; a face that is not
found counts as wrong. No picture of the sheet is for training or tuning.

    python -m bench.sensor_sheet SHEET.jpg [--encoder FILE] [--shifts 7] [--out PICTURE.png]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..head import projection
from ..head.model import HeadModel, load_head
from ..reconstruction.encoder.encoder_tracker import EncoderTracker, mean_of, shifted
from ..reconstruction.encoder.face_crop import POINTS, crop_of
from ..reconstruction.encoder.face_encoder import ENCODER, FaceEncoder
from ..reconstruction.face_reconstruction import CAMERA, Reconstruction, ReconstructionConfig
from ..render import head_sheet as show
from ..render import shade
from ..types import F64, U8, FaceState, FaceStatus, Frame

MOVEMENTS = ("rest", "eyes tight", "smile open", "snarl", "nose")
PERSONS = 4
TILE = 470, 428
_FLOOR = 0.01
"""Coefficients that move less than a hundredth of their range carry noise and are not magnified."""


@dataclass(frozen=True)
class TileReading:
    """A face found in a tile.

    expression: (E,); vertices: (V, 3) m; head_pose (4, 4) and intrinsics (3, 3) to draw them with.
    """

    expression: F64
    vertices: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    head_pose: F64
    intrinsics: F64
    points: F64 | None = None


Estimator = Callable[[U8], TileReading | None]
"""A tile (H, W, 3) RGB to the face in it, or None."""


@dataclass(frozen=True)
class SheetResult:
    """predicted: (persons, movements) index of the movement recognised, -1 where no face was found.

    found: by [person][movement].
    """

    predicted: np.ndarray[tuple[int, int], np.dtype[np.intp]]
    readings: list[list[TileReading | None]]

    @property
    def right(self) -> int:
        """How many movements were recognised."""
        return int((self.predicted == np.arange(self.predicted.shape[1])).sum())

    def table(self) -> str:
        """One line a person."""
        short = [name.split()[0][:5] for name in MOVEMENTS]
        lines = [f"{self.right} of {self.predicted.size} recognised; columns: {', '.join(MOVEMENTS)}"]
        for row in self.predicted:
            lines.append(
                "  ".join(
                    f"{'missed' if k < 0 else short[k]:6}{' ' if k == j else '!'}" for j, k in enumerate(row)
                )
            )
        return "\n".join(lines)


def tiles(sheet: Path) -> list[list[U8]]:
    """The tiles as [person][movement].

    Raises InputError where the sheet cannot be read or has another size.
    """
    image = cv2.imread(str(sheet), cv2.IMREAD_COLOR)
    width, height = TILE
    if image is None:
        raise InputError(f"{sheet}: not a readable picture")
    if image.shape[:2] != (height * len(MOVEMENTS), width * PERSONS):
        raise InputError(
            f"{sheet} is {image.shape[1]} x {image.shape[0]}; the sheet is {width * PERSONS} x {height * len(MOVEMENTS)}"
        )
    rgb = np.ascontiguousarray(image[:, :, ::-1])
    return [
        [
            np.ascontiguousarray(rgb[m * height : (m + 1) * height, p * width : (p + 1) * width])
            for m in range(len(MOVEMENTS))
        ]
        for p in range(PERSONS)
    ]


def recognise(features: Sequence[Sequence[F64 | None]]) -> np.ndarray[tuple[int, int], np.dtype[np.intp]]:
    """(persons, movements) movement recognised by nearest centroid of the other persons; -1 for None.

    features: [person][movement] (E,) or None. The measure of the module's docstring.
    """
    participants = len(features)
    movements = len(features[0])
    present = [[value for value in row if value is not None] for row in features]
    centred = [
        [
            None if value is None else np.asarray(value, np.float64) - np.mean(present[p], axis=0)
            for value in row
        ]
        for p, row in enumerate(features)
    ]
    every = [value for row in centred for value in row if value is not None]
    predicted = np.full((participants, movements), -1, np.intp)
    if not every:
        return predicted
    spread = np.maximum(np.std(every, axis=0), _FLOOR)
    for p in range(participants):
        centroids = np.full((movements, len(spread)), np.inf)
        for m in range(movements):
            others = [value for q in range(participants) if q != p and (value := centred[q][m]) is not None]
            if others:
                centroids[m] = np.mean(others, axis=0) / spread
        for m in range(movements):
            value = centred[p][m]
            if value is not None:
                predicted[p, m] = int(np.linalg.norm(centroids - value / spread, axis=1).argmin())
    return predicted


def measure(sheet: Path, estimator: Estimator) -> SheetResult:
    """Read every tile alone, as if it were the first picture of a stream, and recognise its movement."""
    fits = [[estimator(tile) for tile in row] for row in tiles(sheet)]
    return SheetResult(
        recognise([[None if one is None else one.expression for one in row] for row in fits]), fits
    )


def encoder_estimator(path: str = ENCODER, shifts: int = 1, head: HeadModel | None = None) -> Estimator:
    """The network itself: its expression (mean over the first `shifts` of `SHIFTS`), its shape, and a pose
    from its landmarks.
    """
    model = load_head() if head is None else head
    encoder = FaceEncoder(model, path)
    tracker = EncoderTracker(encoder)
    embedding = model.embedding("landmarks_478")

    def estimate(tile: U8) -> TileReading | None:
        tracker.reset()
        reading = tracker.search(tile)
        if reading is None:
            return None
        several = (
            mean_of(encoder.read(tile, shifted(crop_of(reading.points), shifts))) if shifts > 1 else reading
        )
        vertices = model.vertices(several.shape, several.expression, eyes=model.gaze(several.expression))
        points = embedding.points(vertices, model.faces)[list(POINTS)].astype(np.float64)
        K = projection.default_intrinsics(tile.shape[1], tile.shape[0])
        pose = _pose(points, several.points, K)
        return TileReading(several.expression, vertices, pose, K, reading.points)

    return estimate


def component_estimator(config: ReconstructionConfig) -> Estimator:
    """What a user of the reconstruction gets: each tile as the first picture of a stream."""
    component = Reconstruction(config)
    component.setup()
    model = load_head(config.head_model)

    def estimate(tile: U8) -> TileReading | None:
        component.reset()
        state = next(
            emission.item
            for emission in component.handle(CAMERA, Frame(0, tile))
            if isinstance(emission.item, FaceState)
        )
        if state.status == FaceStatus.LOST:
            return None
        K = projection.default_intrinsics(tile.shape[1], tile.shape[0])
        points = (
            component.landmarks.points[list(POINTS), :2].astype(np.float64)
            if component.landmarks is not None
            else None
        )
        return TileReading(
            state.expression.astype(np.float64), model.state_vertices(state), state.head_pose, K, points
        )

    return estimate


def _pose(points: F64, pixels: F64, K: F64) -> F64:
    """(4, 4) pose by least squares over all points (cv2.solvePnP, then Levenberg-Marquardt)."""
    _, turn, shift = cv2.solvePnP(points, pixels, K, None, flags=cv2.SOLVEPNP_SQPNP)
    turn, shift = cv2.solvePnPRefineLM(points, pixels, K, None, turn, shift)
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(turn)[0]
    pose[:3, 3] = shift[:, 0]
    return pose


def draw(tile: U8, fit: TileReading | None, head: HeadModel, word: str = "") -> U8:
    """The tile with the landmarks, and beside it the fitted head drawn over it."""
    height, width = tile.shape[:2]
    over = tile.copy()
    if fit is not None:
        image = shade.render(
            fit.vertices,
            head.faces,
            fit.intrinsics,
            fit.head_pose,
            (width, height),
            colour=show.colours(head),
            light=(0.35, -0.55, -1.0),
            background=np.zeros_like(tile),
        )
        where = cv2.GaussianBlur((image.max(axis=2) > 0).astype(np.float32), (0, 0), 1.5)[..., None] * 0.85
        over = np.asarray(np.clip(tile * (1 - where) + image * where, 0, 255), np.uint8)
    marked = tile.copy()
    for x, y in fit.points if fit is not None and fit.points is not None else ():
        cv2.circle(marked, (round(x), round(y)), 1, (90, 255, 120), -1, cv2.LINE_AA)
    pair = np.hstack([marked, over])
    cv2.putText(
        pair, word or "no face", (14, 34), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 230, 120), 2, cv2.LINE_AA
    )
    return pair


def picture(sheet: Path, result: SheetResult, head: HeadModel | None = None) -> U8:
    """Every tile with its landmarks and the fitted head over it, and the movement recognised ('!' where it is
    another).
    """
    model = load_head() if head is None else head
    columns = []
    for participant, row in enumerate(tiles(sheet)):
        pairs = []
        for movement, tile in enumerate(row):
            k = int(result.predicted[participant, movement])
            word = (
                f"{MOVEMENTS[movement]}"
                if k == movement
                else "no face"
                if k < 0
                else f"{MOVEMENTS[movement]}: read as {MOVEMENTS[k]} !"
            )
            pairs.append(draw(tile, result.readings[participant][movement], model, word))
        columns.append(np.vstack(pairs))
    return np.hstack(columns)
