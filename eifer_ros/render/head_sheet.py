"""A contact sheet of a head model: neutral views, electrode sites, landmarks, every expression coefficient,
gaze, mouths, lids, people.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..head import projection
from ..head.model import HeadModel
from ..types import F32, F64, U8
from . import shade

BACKGROUND = (58, 62, 68)
INK = (235, 238, 242)
FRIDLUND = (255, 205, 70)
KURAMOTO = (90, 225, 255)
LARGE = 480
SMALL = 200
COLUMNS = 12
_PALETTE: dict[str, tuple[float, float, float]] = {
    "mouth": (0.30, 0.09, 0.09),
    "socket": (0.62, 0.40, 0.36),
    "tongue": (0.72, 0.36, 0.36),
    "eye": (0.95, 0.94, 0.92),
    "iris": (0.33, 0.44, 0.50),
    "pupil": (0.02, 0.02, 0.02),
    "teeth": (0.95, 0.93, 0.87),
    "gums": (0.74, 0.38, 0.38),
}
# MediaPipe landmarks along the middle of the right brow, from pairs of upper and lower edge
_BROW = ((70, 46), (63, 53), (105, 52), (66, 65), (107, 55))


def colours(head: HeadModel, skin: npt.ArrayLike = (0.80, 0.60, 0.50)) -> F32:
    """Colours for `shade.render`: skin of a tone, lips and brows where the head knows them, eyes, teeth, mouth.

    Parameters
    ----------
    head : HeadModel
        The head model.
    skin : array_like, shape (3,), optional
        RGB 0..1.

    Returns
    -------
    ndarray of float32, shape (V, 3)
        RGB 0..1.
    """
    tone = np.asarray(skin, np.float64)
    out = np.tile(tone, (len(head.template), 1))
    for index, name in enumerate(head.part_names):
        colour = _PALETTE.get(name.split("_")[0])
        if colour is not None:
            out[head.parts == index] = colour
    bare = head.parts == 0
    if "lips" in head.regions:
        lips = np.intersect1d(head.regions["lips"], np.flatnonzero(bare))
        out[lips] = tone * [0.88, 0.60, 0.60]
    if "landmarks_478" in head.embeddings:
        points = head.points(head.template).astype(np.float64)
        middle = np.array([points[list(pair)].mean(axis=0) for pair in _BROW])
        for side in (1.0, -1.0):
            distance = _distance(head.template[bare].astype(np.float64), middle * [side, 1.0, 1.0])
            out[bare] *= 1.0 - 0.7 * np.exp(-((distance / 0.0032) ** 2))[:, None]
    return np.asarray(out, np.float32)


def _distance(points: F64, line: F64) -> F64:
    """(N,) distance of points to a polyline."""
    best = np.full(len(points), np.inf)
    for a, b in itertools.pairwise(line):
        edge = b - a
        along = np.clip((points - a) @ edge / (edge @ edge), 0.0, 1.0)
        best = np.minimum(best, np.linalg.norm(points - a - along[:, None] * edge, axis=1))
    return best


class Studio:
    """Takes pictures of one head with one camera: square, twice oversampled.

    Parameters
    ----------
    head : HeadModel
        The head model.
    width_m : float, optional
        Width of the picture at the face.
    centre : array_like, shape (3,), optional
        What the camera looks at, model coordinates, m; None for the middle of the face.
    """

    def __init__(self, head: HeadModel, width_m: float = 0.27, centre: npt.ArrayLike | None = None) -> None:
        self.head = head
        self.colours = colours(head)
        skin = head.template[head.parts == 0]
        # the face, wherever the model puts its origin: as far in front as the nose, as high as the middle of
        # the features
        face = (
            head.template[head.regions["face"]]
            if "face" in head.regions
            else skin[skin[:, 2] > np.quantile(skin[:, 2], 0.6)]
        )
        self.centre = (
            face.mean(axis=0).astype(np.float64) if centre is None else np.asarray(centre, np.float64)
        )
        self.width_m = width_m

    def camera(self, size: int, yaw: float, pitch: float) -> tuple[F64, F64]:
        """Intrinsics and head pose of a picture.

        Parameters
        ----------
        size : int
            Its width, px.
        yaw, pitch : float
            Of the head, rad.

        Returns
        -------
        tuple[ndarray of float64, ndarray of float64]
            (3, 3) intrinsics and (4, 4) head pose.
        """
        distance = 0.9
        focal = size * distance / self.width_m
        K = np.array([[focal, 0.0, (size - 1) / 2], [0.0, focal, (size - 1) / 2], [0.0, 0.0, 1.0]])
        return K, projection.facing_pose(distance, yaw=yaw, pitch=pitch, centre=self.centre)

    def take(self, vertices: F32, size: int, yaw: float = 0.0, pitch: float = 0.0) -> U8:
        """Picture of posed vertices.

        Parameters
        ----------
        vertices : ndarray of float32, shape (V, 3)
            Metres.
        size : int
            Width and height, px.
        yaw, pitch : float, optional
            Of the head, rad.

        Returns
        -------
        ndarray of uint8, shape (size, size, 3)
            RGB.
        """
        K, pose = self.camera(2 * size, yaw, pitch)
        background = np.full((2 * size, 2 * size, 3), BACKGROUND, np.uint8)
        image = shade.render(
            vertices,
            self.head.faces,
            K,
            pose,
            (2 * size, 2 * size),
            colour=self.colours,
            light=(0.35, -0.55, -1.0),
            background=background,
        )
        return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), np.uint8)

    def mark(
        self,
        image: U8,
        vertices: F32,
        which: str,
        colour: Sequence[int],
        *,
        yaw: float = 0.0,
        names: bool = False,
        radius: int = 3,
    ) -> None:
        """Draw the points of an embedding that face the camera, in place.

        Parameters
        ----------
        image : ndarray of uint8, shape (size, size, 3)
            RGB, drawn on.
        vertices : ndarray of float32, shape (V, 3)
            Metres.
        which : str
            Embedding.
        colour : Sequence[int]
            RGB 0..255.
        yaw : float, optional
            Of the head, rad.
        names : bool, optional
            Write their names.
        radius : int, optional
            px.
        """
        embedding = self.head.embedding(which)
        K, pose = self.camera(image.shape[1], yaw, 0.0)
        normals = shade.vertex_normals(vertices, self.head.faces)
        facing = (
            np.einsum("lc,lcd->ld", embedding.weights, normals[self.head.faces[embedding.triangles]])
            @ pose[2, :3]
            < 0.05
        )
        pixels = projection.project(embedding.points(vertices, self.head.faces), pose, K)
        for name, (u, v, _), faces_camera in zip(embedding.names, pixels, facing, strict=True):
            if faces_camera:
                cv2.circle(image, (round(u), round(v)), radius, tuple(colour), -1, cv2.LINE_AA)
                if names:
                    _write(image, name, (round(u) + 5, round(v) + 4), 0.36, colour)


def _write(image: U8, text: str, at: tuple[int, int], size: float, colour: Sequence[int] = INK) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, tuple(colour), 1, cv2.LINE_AA)


def _expression(head: HeadModel, weights: Mapping[str, float]) -> F32:
    """Coefficients by name; a name without Left or Right stands for both sides.

    Names the head lacks are left out.
    """
    values = np.zeros(head.expression_size, np.float32)
    for name, weight in weights.items():
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in head.expression_names:
                values[head.expression_names.index(full)] = weight
    return values


def _face(head: HeadModel, weights: Mapping[str, float], shape: npt.ArrayLike | None = None) -> F32:
    expression = _expression(head, weights)
    return head.vertices(shape, expression, eyes=head.gaze(expression))


MOMENTS: tuple[tuple[str, dict[str, float]], ...] = (
    ("eyes closed", {"eyeBlink": 1.0}),
    ("half closed", {"eyeBlink": 0.5}),
    ("eyes tight", {"eyeBlink": 0.9, "eyeSquint": 0.8, "cheekSquint": 0.9}),
    ("gaze left", {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0}),
    ("gaze right", {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0}),
    ("gaze up", {"eyeLookUp": 1.0}),
    ("gaze down", {"eyeLookDown": 1.0}),
    ("smile open", {"mouthSmile": 0.9, "jawOpen": 0.3, "mouthUpperUp": 0.3, "cheekSquint": 0.5}),
    ("snarl", {"noseSneer": 1.0, "mouthUpperUp": 0.9, "browDown": 0.7}),
    ("mouth wide", {"jawOpen": 1.0}),
    ("surprise", {"browInnerUp": 1.0, "browOuterUp": 1.0, "eyeWide": 1.0, "jawOpen": 0.5}),
    ("tongue out", {"jawOpen": 0.6, "tongueOut": 1.0}),
)

_NEEDS_OPEN = {"mouthClose": 1.0, "tongueOut": 0.5}
MOUTHS: tuple[dict[str, float], ...] = (
    {},
    {"jawOpen": 0.25},
    {"jawOpen": 0.6},
    {"jawOpen": 1.0},
    {"mouthSmile": 1.0, "mouthUpperUp": 0.8},
    {"jawOpen": 0.4, "mouthFunnel": 1.0},
)
EYES: tuple[dict[str, float], ...] = (
    {},
    {"eyeBlink": 0.5},
    {"eyeBlink": 1.0},
    {"eyeWide": 1.0},
    {"eyeSquint": 1.0},
    {"eyeLookDown": 1.0},
)


def show(head: HeadModel, out: Path, *, participants: int = 24, seed: int = 4) -> None:
    """Write a contact sheet of a head.

    Parameters
    ----------
    head : HeadModel
        The head model.
    out : Path
        .png or .jpg.
    participants : int, optional
        Random identities shown.
    seed : int, optional
        They are drawn with.

    Raises
    ------
    InputError
        The picture cannot be written.
    """
    studio = Studio(head)
    rest = head.vertices()
    rows = [_overview(head, studio, rest)]
    rows += _sheet(
        [(label, studio.take(_face(head, weights), SMALL)) for label, weights in MOMENTS],
        "eyes, mouth and combinations",
    )
    close = Studio(head, 0.075, _mouth_middle(head, studio.centre))
    near = (
        Studio(head, 0.055, head.joint_template[head.joints.index("eye_left")])
        if "eye_left" in head.joints
        else close
    )
    tiles = [(_name(weights), close.take(_face(head, weights), SMALL, pitch=-0.12)) for weights in MOUTHS]
    tiles += [(_name(weights), near.take(_face(head, weights), SMALL)) for weights in EYES]
    rows += _sheet(tiles, "mouth and left eye from near")
    tiles = []
    for index, name in enumerate(head.expression_names):
        expression = np.zeros(head.expression_size, np.float32)
        expression[index] = (
            min(1.0, float(head.expression_bounds[index, 1])) if head.expression_bounds[index, 1] > 0 else 1.0
        )
        label = name
        if name in _NEEDS_OPEN:  # these two only mean something on an open mouth
            expression = np.maximum(expression, _expression(head, {"jawOpen": _NEEDS_OPEN[name]}))
            label = f"{name}, jawOpen {_NEEDS_OPEN[name]:g}"
        tiles.append((label, studio.take(head.vertices(None, expression, eyes=head.gaze(expression)), SMALL)))
    rows += _sheet(tiles, f"the {head.expression_size} expression coefficients at 1")
    rng = np.random.default_rng(seed)
    wide = Studio(head, 0.33, studio.centre)
    tiles = []
    for participant in range(participants):
        shape = rng.normal(0.0, 1.0, head.shape_size)
        tiles.append(
            (f"person {participant + 1}", wide.take(head.neutral(shape), SMALL, yaw=0.6 * (participant % 2)))
        )
    rows += _sheet(tiles, f"random people ({head.shape_size} shape coefficients, standard normal)")
    sheet = np.vstack(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        written = cv2.imwrite(str(out), sheet[:, :, ::-1])
    except cv2.error:
        written = False
    if not written:
        raise InputError(
            f"{out}: the contact sheet could not be written; use a name that ends in .png or .jpg"
        )


def _overview(head: HeadModel, studio: Studio, rest: F32) -> U8:
    width = SMALL * COLUMNS
    tiles = [studio.take(rest, LARGE), studio.take(rest, LARGE, yaw=0.7)]
    marked = ("electrodes_fridlund", "electrodes_kuramoto")
    for yaw in (0.0, -0.7):
        image = studio.take(rest, LARGE, yaw=yaw)
        for which, colour in zip(marked, (FRIDLUND, KURAMOTO), strict=True):
            if which in head.embeddings:
                studio.mark(image, rest, which, colour, yaw=yaw, names=True, radius=4)
        tiles.append(image)
    image = studio.take(rest, LARGE)
    for which, colour, radius in (("landmarks_478", (120, 255, 140), 1), ("landmarks_68", (255, 90, 90), 2)):
        if which in head.embeddings:
            studio.mark(image, rest, which, colour, radius=radius)
    tiles.append(image)
    labels = (
        "neutral",
        "three quarters",
        "Fridlund (yellow), Kuramoto (blue)",
        "the subject's left side",
        "landmarks: 478 (green), 68 (red)",
    )
    for image, label in zip(tiles, labels, strict=True):
        _write(image, label, (10, LARGE - 12), 0.5)
    strip = np.full((LARGE, width, 3), BACKGROUND, np.uint8)
    joined = np.hstack(tiles)[:, :width]
    strip[:, : joined.shape[1]] = joined
    title = f"{head.id}: {len(head.template)} vertices, {len(head.faces)} triangles"
    return np.vstack([_title(title, width), strip])


def _name(weights: Mapping[str, float]) -> str:
    return " ".join(f"{name} {weight:g}" for name, weight in weights.items()) or "rest"


def _mouth_middle(head: HeadModel, otherwise: F64) -> F64:
    if "lips" not in head.regions:
        return otherwise - [0.0, 0.03, 0.0]
    return np.asarray(head.template[head.regions["lips"]].mean(axis=0) - [0.0, 0.006, 0.0], np.float64)


def _title(text: str, width: int) -> U8:
    bar = np.full((34, width, 3), (34, 37, 41), np.uint8)
    _write(bar, text, (10, 23), 0.6)
    return bar


def _sheet(tiles: list[tuple[str, U8]], title: str) -> list[U8]:
    width = SMALL * COLUMNS
    rows = [_title(title, width)]
    for start in range(0, len(tiles), COLUMNS):
        row = np.full((SMALL, width, 3), BACKGROUND, np.uint8)
        for column, (label, image) in enumerate(tiles[start : start + COLUMNS]):
            _write(image, label, (6, SMALL - 8), 0.38)
            row[:, column * SMALL : (column + 1) * SMALL] = image
        rows.append(row)
    return rows
