"""Faces under sensors: every way to read a face, on simulated people that no network has seen, against the
exact truth.

Each person performs all 17 movements; every moment is rendered twice, bare and under sensors. Judged are

- `E_N`: an encoder trained on bare faces only, picture by picture, as SMIRK does; its crop is cut from the
  true landmarks, so it never
  fails for want of a face: what it loses under sensors is the sensors' doing alone;
- `landmarks`: the landmark fit, with its own detector and tracker;
- `E_S`: the `sensors` estimator as it runs live, with its own tracker, and parts of it taken away: `E_S crop`
  reads picture by picture
  from the true crop, as E_N does;
- `restored`: the landmark fit on pictures from which the restorer took the sensors.

Errors are in mm on the face region: `vertex_mm` of shape and expression after the best rigid alignment
(Kabsch), `expression_mm` of the expression alone. A face that is not found is judged as the resting mean
face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import cv2
import numpy as np

from ..head import projection
from ..head.model import HeadModel, load_head
from ..inference.network import installed
from ..reconstruction.encoder.face_crop import POINTS, crop_of
from ..reconstruction.encoder.face_encoder import ENCODER, ENCODER_BARE, FaceEncoder
from ..reconstruction.encoder.sensor_estimator import SensorEstimator
from ..reconstruction.encoder.sensor_fit import SensorFitSettings
from ..reconstruction.landmarks.attention_mesh import Crop
from ..reconstruction.landmarks.landmark_estimator import LandmarkEstimator
from ..reconstruction.landmarks.landmark_fit import FitSettings
from ..reconstruction.restore import RESTORER, FaceRestorer, paste
from ..render import head_sheet as show
from ..render import shade
from ..simulation.participant import Participant
from ..simulation.script import MOVEMENTS
from ..simulation.seeds import check_held_out
from ..types import F32, F64, U8, FaceState, Frame
from .metrics import displacement_basis, rigid_vertex_error_mm, vertex_error_mm

REGIONS = ("brows", "eyelids", "nose", "cheeks", "lips", "jaw", "forehead")
Variant = Literal["bare", "sensors"]
VARIANTS: tuple[Variant, ...] = ("bare", "sensors")
_MOVES = 0.03
"""Standard deviation of a coefficient that counts as moving."""


@dataclass(frozen=True)
class Scene:
    """One moment of one person. bare, sensors: (H, W, 3). crop: around the true landmarks."""

    person: int
    movement: str
    face: FaceState
    bare: U8
    sensors: U8
    intrinsics: F64
    crop: Crop

    def frame(self, variant: Variant) -> Frame:
        """The picture as a camera gives it."""
        return Frame(self.face.stamp, self.bare if variant == "bare" else self.sensors, self.intrinsics)


def scenes(seed: int, moments: int = 4, size: tuple[int, int] = (480, 360)) -> Iterator[Scene]:
    """All movements of participant `seed` in the order of time, `moments` of each, from before its height to
    after it.

    Raises InputError for a seed that may have been trained on.
    """
    check_held_out(seed)
    participant = Participant(seed, size=size)
    done = set()
    for take in participant.script.takes(0.0, participant.script.cycle_s):
        if take.label not in MOVEMENTS or take.label in done:
            continue
        done.add(take.label)
        for share in (np.arange(moments) + 0.5) / moments * 0.8 + 0.1:
            time_s = take.start_s + float(share) * (take.end_s - take.start_s)
            face = participant.face_at(time_s)
            view = participant.camera.render_pair(
                face.shape, face.expression, face.eyes, face.head_pose, time_s
            )
            points = participant.head.points(
                participant.head.vertices(face.shape, face.expression, eyes=face.eyes)
            )[list(POINTS)]
            flat = projection.project(
                points.astype(np.float64), face.head_pose, participant.camera.intrinsics
            )[:, :2]
            yield Scene(
                seed,
                take.label,
                face,
                view.bare,
                view.with_sensors,
                participant.camera.intrinsics,
                crop_of(flat),
            )


class Method(Protocol):
    """One way to read a face, frame by frame."""

    def reset(self) -> None:
        """Another person follows."""
        ...

    def read(self, scene: Scene, variant: Variant) -> tuple[F64, F64] | None:
        """(E,) expression and (S,) shape, or None where no face is found."""
        ...


class EncoderMethod:
    """An encoder alone, picture by picture, in the crop of the true landmarks."""

    def __init__(self, head: HeadModel, encoder: str) -> None:
        self._encoder = FaceEncoder(head, encoder)

    def reset(self) -> None:
        """Nothing is remembered."""

    def read(self, scene: Scene, variant: Variant) -> tuple[F64, F64] | None:
        """What the network says."""
        reading = self._encoder.read(scene.frame(variant).image, [scene.crop])[0]
        return reading.expression, reading.shape


class EstimatorMethod:
    """An estimator as it runs live. prepare: what is done to a picture before."""

    def __init__(
        self, estimator: SensorEstimator | LandmarkEstimator, prepare: Callable[[Frame], Frame] | None = None
    ) -> None:
        self._estimator = estimator
        self._prepare = prepare
        estimator.warm_up()

    def reset(self) -> None:
        """Forget the person."""
        self._estimator.reset()
        self._stamp: int | None = None

    def read(self, scene: Scene, variant: Variant) -> tuple[F64, F64] | None:
        """The estimate of this moment."""
        frame = scene.frame(variant)
        elapsed_s = 1.0 if self._stamp is None else (frame.stamp - self._stamp) / 1e9
        self._stamp = frame.stamp
        estimate = self._estimator.estimate(
            frame if self._prepare is None else self._prepare(frame), scene.intrinsics, elapsed_s
        )
        if estimate is None:
            return None
        fit = self._estimator.fitted
        assert fit is not None
        return fit.face[: self._estimator.model.expression_size].copy(), fit.shape


class SensorRemoval:
    """Takes sensors off a picture in the crop that an encoder's tracker follows."""

    def __init__(self, sensors: SensorEstimator, restorer: FaceRestorer) -> None:
        self._sensors = sensors
        self._restorer = restorer

    def __call__(self, frame: Frame) -> Frame:
        """The frame restored; as it is where no face is found."""
        assert frame.intrinsics is not None
        estimate = self._sensors.estimate(frame, frame.intrinsics, 1.0)
        if estimate is None:
            return frame
        assert estimate.landmarks is not None
        restored = self._restorer.restore_crop(
            frame.image, crop_of(estimate.landmarks.points[list(POINTS), :2])
        )
        return Frame(frame.stamp, paste(frame.image, restored), frame.intrinsics)


def methods_by_name(
    head: HeadModel, encoder: str = ENCODER, encoder_bare: str = ENCODER_BARE, restorer: str = RESTORER
) -> dict[str, tuple[Method, tuple[Variant, ...]]]:
    """Every way that the installed networks allow, and what it is judged on."""

    def sensors() -> SensorEstimator:
        return SensorEstimator(head, SensorFitSettings(), encoder=encoder)

    def landmarks() -> LandmarkEstimator:
        return LandmarkEstimator(head, FitSettings(), 0.5, 0.5, 60)

    out: dict[str, tuple[Method, tuple[Variant, ...]]] = {
        "landmarks": (EstimatorMethod(landmarks()), VARIANTS)
    }
    if installed(encoder_bare):
        out["E_N"] = (EncoderMethod(head, encoder_bare), VARIANTS)
    if installed(encoder):
        out["E_S crop"] = (EncoderMethod(head, encoder), VARIANTS)
        out["E_S"] = (EstimatorMethod(sensors()), VARIANTS)
    if installed(encoder) and installed(restorer):
        out["restored"] = (
            EstimatorMethod(landmarks(), SensorRemoval(sensors(), FaceRestorer(restorer))),
            ("sensors",),
        )
    return out


@dataclass
class Readings:
    """What one way read of one variant, N moments.

    person (N,), movement (N,), expression (N, E), shape (N, S), found (N,).
    """

    person: list[int] = field(default_factory=list)
    movement: list[str] = field(default_factory=list)
    expression: list[F32] = field(default_factory=list)
    shape: list[F32] = field(default_factory=list)
    detected: list[bool] = field(default_factory=list)

    def add(self, scene: Scene, expression: F64 | F32, shape: F64 | F32, detected: bool = True) -> None:
        """One more moment."""
        self.person.append(scene.person)
        self.movement.append(scene.movement)
        self.expression.append(np.asarray(expression, np.float32))
        self.shape.append(np.asarray(shape, np.float32))
        self.detected.append(detected)


ReadingsByMethod = dict[tuple[str, str], Readings]
"""By (way, variant); the truth is ("truth", "")."""


def collect_readings(
    participants: Iterable[int],
    methods: Mapping[str, tuple[Method, tuple[Variant, ...]]],
    moments: int = 4,
    *,
    source: Callable[[int, int], Iterable[Scene]] = scenes,
    progress: Callable[[int, int], None] | None = None,
) -> ReadingsByMethod:
    """Every way on every moment of `participants`. progress: (persons done, persons)."""
    everyone = list(participants)
    out: ReadingsByMethod = {("truth", ""): Readings()}
    for done, seed in enumerate(everyone):
        every = list(source(seed, moments))
        for scene in every:
            out[("truth", "")].add(scene, scene.face.expression, scene.face.shape)
        for name, (method, variants) in methods.items():
            for variant in variants:
                method.reset()
                readings = out.setdefault((name, variant), Readings())
                for scene in every:
                    read = method.read(scene, variant)
                    if read is None:
                        readings.add(
                            scene,
                            np.zeros_like(scene.face.expression),
                            np.zeros_like(scene.face.shape),
                            False,
                        )
                    else:
                        readings.add(scene, *read)
        if progress is not None:
            progress(done + 1, len(everyone))
    return out


@dataclass(frozen=True)
class Scores:
    """Of one way on one variant. found: share of moments.

    vertex_mm, expression_mm: means over moments, see the module. r: median Pearson correlation over the
    moving coefficients of each person. shape_spread_mm: how far the face at rest of one person moves about
    its mean over a clip. regions: expression_mm by region. movements: vertex and expression_mm by movement.
    coefficients: median r by name.
    """

    method: str
    variant: str
    moments: int
    detected: float
    vertex_mm: float
    expression_mm: float
    r: float
    shape_spread_mm: float
    regions: dict[str, float]
    movements: dict[str, tuple[float, float]]
    coefficients: dict[str, float]


def scores(readings_by_method: ReadingsByMethod, head: HeadModel | None = None) -> list[Scores]:
    """`Scores` of everything that was judged."""
    model = load_head() if head is None else head
    truth = readings_by_method[("truth", "")]
    return [
        _scores(model, truth, method, variant, one)
        for (method, variant), one in readings_by_method.items()
        if method != "truth"
    ]


def _scores(head: HeadModel, truth: Readings, method: str, variant: str, one: Readings) -> Scores:
    region = head.regions["face"]
    true_e = np.stack(truth.expression)
    true_s = np.stack(truth.shape)
    e = np.stack(one.expression)
    s = np.stack(one.shape)
    expression_mm = vertex_error_mm(displacement_basis(head), e, true_e)
    shape_basis = head.shape_basis[region]
    expression_basis = head.expression_basis[region]

    def place(shape: F32, expression: F32) -> F32:
        return np.asarray(
            head.template[region] + shape_basis @ shape + expression_basis @ expression, np.float32
        )

    vertex_mm = np.array(
        [rigid_vertex_error_mm(place(s[k], e[k]), place(true_s[k], true_e[k])) for k in range(len(e))]
    )
    participants = np.array(truth.person)
    movements = np.array(truth.movement)
    r = []
    spread = []
    by_name: dict[str, list[float]] = {}
    for participant in np.unique(participants):
        rows = participants == participant
        moving = np.flatnonzero(true_e[rows].std(axis=0) > _MOVES)
        for k in moving.tolist():
            value = _pearson(e[rows, k], true_e[rows, k])
            r.append(value)
            by_name.setdefault(head.expression_names[k], []).append(value)
        detected = rows & np.array(one.detected)
        if detected.sum() > 1:
            at_rest = np.einsum("vcs,ns->nvc", shape_basis, s[detected] - s[detected].mean(axis=0))
            spread.append(1e3 * float(np.linalg.norm(at_rest, axis=2).mean()))
    return Scores(
        method,
        variant,
        len(e),
        float(np.mean(one.detected)),
        float(vertex_mm.mean()),
        float(expression_mm.mean()),
        float(np.median(r)),
        float(np.mean(spread)) if spread else float("nan"),
        {
            name: float(vertex_error_mm(displacement_basis(head, name), e, true_e).mean())
            for name in REGIONS
            if name in head.regions
        },
        {
            name: (float(vertex_mm[movements == name].mean()), float(expression_mm[movements == name].mean()))
            for name in dict.fromkeys(truth.movement)
        },
        {name: float(np.median(values)) for name, values in sorted(by_name.items())},
    )


def _pearson(a: F32, b: F32) -> float:
    """Zero where the estimate does not move at all: it says nothing."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-6 else 0.0


def gap_closure(
    scores: Sequence[Scores], measure: Literal["vertex_mm", "expression_mm"] = "vertex_mm"
) -> float:
    """(E_N sensors - E_S sensors) / (E_N sensors - E_N clean); 1 where sensors no longer matter.

    NaN where one was not judged.
    """
    value = {(one.method, one.variant): float(getattr(one, measure)) for one in scores}
    try:
        disturbed, clean, robust = (
            value[("E_N", "sensors")],
            value[("E_N", "bare")],
            value[("E_S", "sensors")],
        )
    except KeyError:
        return float("nan")
    return (disturbed - robust) / (disturbed - clean)


def rows(scores: Sequence[Scores]) -> list[dict[str, Any]]:
    """The table: one row for each way and variant, regions as columns."""
    return [
        {
            "way": one.method,
            "pictures": one.variant,
            "moments": one.moments,
            "found": one.detected,
            "vertex_mm": one.vertex_mm,
            "expression_mm": one.expression_mm,
            "r": one.r,
            "shape_spread_mm": one.shape_spread_mm,
            **{f"{name}_mm": value for name, value in one.regions.items()},
        }
        for one in scores
    ]


def each(scores: Sequence[Scores]) -> list[dict[str, Any]]:
    """One row for each movement and each coefficient of every way."""
    out: list[dict[str, Any]] = []
    for one in scores:
        key = {"way": one.method, "pictures": one.variant}
        for name, (vertex, expression) in one.movements.items():
            out.append({**key, "movement": name, "vertex_mm": vertex, "expression_mm": expression})
        out += [{**key, "output": name, "r": value} for name, value in one.coefficients.items()]
    return out


def side_by_side(
    some: Sequence[Scene],
    methods: Mapping[str, tuple[Method, tuple[Variant, ...]]],
    head: HeadModel | None = None,
    side: int = 200,
) -> U8:
    """A picture: a row for each scene (of one person, in time order); camera, truth, then every way on bare
    and covered pictures.
    """
    model = load_head() if head is None else head
    titles = ["bare", "under sensors", "truth"] + [
        f"{name}, {variant}" for name, (_, variants) in methods.items() for variant in variants
    ]
    columns: list[list[U8]] = [
        [_window(scene.bare, scene.crop, side) for scene in some],
        [_window(scene.sensors, scene.crop, side) for scene in some],
        [_head(model, scene, scene.face.expression, scene.face.shape, side) for scene in some],
    ]
    for method, variants in methods.values():
        for variant in variants:
            method.reset()
            column = []
            for scene in some:
                read = method.read(scene, variant)
                column.append(
                    np.full((side, side, 3), 40, np.uint8)
                    if read is None
                    else _head(model, scene, *read, side)
                )
            columns.append(column)
    grid = np.hstack([np.vstack(column) for column in columns])
    bar = np.full((26, grid.shape[1], 3), 34, np.uint8)
    for k, title in enumerate(titles):
        cv2.putText(
            bar, title, (k * side + 6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (235, 238, 242), 1, cv2.LINE_AA
        )
    for k, scene in enumerate(some):
        cv2.putText(
            grid,
            scene.movement,
            (6, (k + 1) * side - 8),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.45,
            (255, 230, 120),
            1,
            cv2.LINE_AA,
        )
    return np.asarray(np.vstack([bar, grid]), np.uint8)


def _window(image: U8, crop: Crop, side: int) -> U8:
    return np.asarray(
        cv2.warpAffine(image, crop.matrix(side), (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP),
        np.uint8,
    )


def _head(head: HeadModel, scene: Scene, expression: F64 | F32, shape: F64 | F32, side: int) -> U8:
    """The head in the true pose and through the scene's own crop, so that only the face differs between
    columns.
    """
    size = scene.bare.shape[1], scene.bare.shape[0]
    gaze = head.gaze(expression)
    image = shade.render(
        head.vertices(shape, expression, eyes=gaze),
        head.faces,
        scene.intrinsics,
        scene.face.head_pose,
        size,
        colour=show.colours(head),
        light=(0.35, -0.55, -1.0),
        background=np.full((size[1], size[0], 3), show.BACKGROUND, np.uint8),
    )
    return _window(image, scene.crop, side)
