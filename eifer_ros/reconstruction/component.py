"""Camera pictures in, FaceState out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np

from ..component import Component, Emission, Health, Level, Port
from ..config import Config, parameter
from ..errors import InputError, ModelError
from ..head import projection
from ..head.model import DEFAULT_HEAD, HeadModel, load_head
from ..types import F32, F64, FaceOrigin, FaceState, Frame, HeadModelInfo, Item, seconds
from .detector import FaceDetector
from .landmark_fit import Fit, FitSettings, LandmarkFit, load_table
from .landmark_model import LandmarkModel
from .landmarks import FaceLandmarker, Landmarks
from .reference import Reference
from .tracker import FaceTracker

CAMERA, VISION, HEAD_MODEL = "camera/image_raw", "face/vision", "head_model"
_LOOK_STD = 0.15
_STRANGER_RESIDUAL = 0.08
_STRANGER_PICTURES = 20
"""So many pictures in a row with a residual above this: the shape belongs to somebody else."""


class ReconstructionConfig(Config):
    """Parameters of the reconstruction."""

    estimator: Literal["landmarks"] = parameter("landmarks", "how a face is read: 'landmarks' fits 478 face landmarks")
    head_model: str = parameter(DEFAULT_HEAD, "head model in models/, or the path of an .npz")
    min_confidence: float = parameter(0.3, "a face below this confidence counts as lost", ge=0.0, le=1.0, read_only=False)
    min_presence: float = parameter(0.5, "a crop below this is searched anew", ge=0.0, le=1.0)
    min_detection: float = parameter(0.5, "score a detected face must reach", ge=0.05, le=1.0)
    memory: int = parameter(60, "pictures during which a face that returns is looked for where it was lost", unit="frames", ge=0, le=100000)
    expression_rate: float = parameter(4.0, "how fast a coefficient may wander; smaller is smoother", unit="1/sqrt(s)", gt=0.0, le=100.0)
    shape_memory: float = parameter(200.0, "pictures over which the person's shape is learnt", unit="frames", ge=1.0, le=1e6)


class Reconstruction(Component):
    """Follows one face and fits the head model to it. About 8 ms a picture on one core."""

    config_type = ReconstructionConfig
    inputs = (Port(CAMERA, Frame),)
    outputs = (Port(VISION, FaceState), Port(HEAD_MODEL, HeadModelInfo, latched=True))

    def __init__(self, config: ReconstructionConfig | None = None) -> None:
        self.config = config if config is not None else ReconstructionConfig()
        self._announced = False
        self._stamp: int | None = None
        self._strange = 0
        self._times = np.zeros(2)
        self._confidence = 0.0
        self._residual = float("nan")
        self.head: HeadModel | None = None
        self.reference: Reference | None = None
        self.landmarks: Landmarks | None = None
        """Landmarks of the last picture, None where there was no face; for overlays."""

    def setup(self) -> None:
        """Load the networks and the head model and run both once. Errors: ModelError, InputError."""
        self.head = load_head(self.config.head_model)
        self._tracker = FaceTracker(
            FaceDetector(self.config.min_detection), FaceLandmarker(), self.config.min_presence, self.config.memory
        )
        model = LandmarkModel.of(self.head)
        settings = FitSettings(expression_rate=self.config.expression_rate, shape_memory=self.config.shape_memory)
        self._fit = LandmarkFit(model, load_table(self.head, model), settings)
        self._blink = [self.head.expression_names.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")
                       if name in self.head.expression_names]
        self._warm_up()

    def _warm_up(self) -> None:
        """Compile and touch everything, so that the first picture is as fast as the thousandth."""
        picture = np.full((256, 256, 3), 90, np.uint8)
        self._tracker.track(picture)
        K = projection.default_intrinsics(256, 256)
        model = self._fit.model
        pose = projection.facing_pose(0.6, centre=model.template.mean(axis=0))
        points = projection.project(model.template, pose, K)
        points[:, 2] = 0.0
        for _ in range(3):
            self._fit.fit(Landmarks(points.astype(np.float32), 1.0), K, 0.03)
        self.reset()
        self._tracker.counts = type(self._tracker.counts)()

    def reset(self) -> None:
        """Forget the face and the person."""
        self._tracker.reset()
        self._fit.reset()
        self._stamp = None
        self._strange = 0
        self.landmarks = None

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        """One picture in, one FaceState out; the head model's description once, before the first."""
        if port != CAMERA or not isinstance(item, Frame):
            raise InputError(f"reconstruction takes a Frame on '{CAMERA}', not a {type(item).__name__} on '{port}'")
        if self.head is None:
            raise ModelError("reconstruction was not set up: call setup() before the first picture")
        out = []
        if not self._announced:
            out.append(Emission(HEAD_MODEL, self.head.info(item.stamp)))
            self._announced = True
        state = self._estimate(self.head, item)
        out.append(Emission(VISION, state if self.reference is None else self.reference.apply(state)))
        return out

    def use_reference(self, reference: Reference | None) -> None:
        """Count expression from this resting face, or from the model's neutral. Gaze is left alone: where one looks is no expression.

        Raises InputError for a reference of another head model.
        """
        if reference is not None:
            if reference.head_model != self.config.head_model and (self.head is None or reference.head_model != self.head.id):
                mine = self.config.head_model
                raise InputError(f"the reference is of head model '{reference.head_model}'; this reconstruction uses '{mine}'")
            head = self.head or load_head(self.config.head_model)
            gaze = np.array([name.startswith("eyeLook") for name in head.expression_names])
            reference = replace(reference, offset=np.where(gaze, np.float32(0), reference.offset))
        self.reference = reference

    def _estimate(self, head: HeadModel, frame: Frame) -> FaceState:
        if self._stamp is not None and frame.stamp < self._stamp:
            self.reset()  # a bag looped or a clock was set back
        elapsed_s = seconds(frame.stamp - self._stamp) if self._stamp is not None else 1.0
        self._stamp = frame.stamp
        start = time.perf_counter()
        self.landmarks = self._tracker.track(frame.image)
        located = time.perf_counter()
        if self.landmarks is None:
            self._fit.forget_motion()
            self._times[0] = located - start
            self._confidence = 0.0
            return self._lost(head, frame)
        width, height = frame.size
        K = frame.intrinsics if frame.intrinsics is not None else projection.default_intrinsics(width, height)
        depth = depth_at(frame.depth, self.landmarks) if frame.depth is not None else None
        fit = self._fit.fit(self.landmarks, K, elapsed_s, depth)
        self._times[:] = located - start, time.perf_counter() - located
        self._residual = fit.residual
        self._confidence = self.landmarks.presence / (1.0 + (fit.residual / 0.06) ** 2)
        self._strange = self._strange + 1 if fit.residual > _STRANGER_RESIDUAL else 0
        if self._strange >= _STRANGER_PICTURES:
            self._fit.reset()
            self._strange = 0
        if not np.isfinite(fit.pose).all() or not np.isfinite(fit.face).all():
            self._fit.reset()
            return self._lost(head, frame)
        if self._confidence < self.config.min_confidence:
            return self._lost(head, frame)
        return self._state(head, frame, fit)

    def _lost(self, head: HeadModel, frame: Frame) -> FaceState:
        return FaceState.lost(frame.stamp, head.id, FaceOrigin.VISION, head.shape_size, head.expression_size)

    def _state(self, head: HeadModel, frame: Frame, fit: Fit) -> FaceState:
        model = self._fit.model
        expression = fit.face[: model.expression_size].copy()
        std = fit.std[: model.expression_size].copy()
        eyes = _f32(np.array([_turn(yaw, pitch) for yaw, pitch in fit.gaze]))
        if model.gaze:
            looking = list(model.gaze)
            expression[looking] = head.look_weights(eyes)[looking]
            std[looking] = _LOOK_STD
        if self._blink:
            eyelids = expression[self._blink]
        else:
            eyelids = fit.face[model.eyelids] if model.eyelids.stop > model.eyelids.start else np.full(2, np.nan)
        jaw = fit.face[model.jaw] if model.jaw.stop > model.jaw.start else np.zeros(3)
        return FaceState(
            frame.stamp, head.id, FaceOrigin.VISION, _f32(fit.shape), _f32(expression), _f32(std), _f32(jaw), np.zeros(3, np.float32), eyes,
            _f32(np.clip(eyelids, 0.0, 1.0)), fit.pose,
            float(self._confidence),
        )

    def health(self) -> Health:
        """Milliseconds of the last picture, counts, confidence and residual."""
        if self.head is None:
            return Health(Level.WARN, "not set up")
        counts = self._tracker.counts
        seen = self.landmarks is not None
        values: dict[str, float | int | str] = {
            "landmarks_ms": round(self._times[0] * 1e3, 3), "fit_ms": round(self._times[1] * 1e3, 3),
            "inference_ms": round(float(self._times.sum()) * 1e3, 3), "tracked": counts.tracked, "lost": counts.lost,
            "searched": counts.searched, "confidence": round(self._confidence, 3),
            "residual_pct_iod": round(100.0 * self._residual, 3),
        }
        waiting = counts.tracked + counts.lost == 0
        message = "waiting for pictures" if waiting else "tracking" if seen else "no face in sight"
        return Health(Level.OK if seen or waiting else Level.WARN, message, values)


def _f32(values: F64) -> F32:
    return np.asarray(values, np.float32)


def _turn(yaw: float, pitch: float) -> F64:
    """Axis-angle that turns the z axis by `yaw` about y and `pitch` about x."""
    target = np.array([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    axis = np.array([-target[1], target[0], 0.0])
    length = float(np.linalg.norm(axis))
    return axis * (np.arctan2(length, target[2]) / length) if length > 1e-9 else np.zeros(3)


def depth_at(depth: F32, seen: Landmarks) -> F32:
    """(L,) median depth of 3 x 3 pixels around each landmark, NaN where nothing was measured."""
    height, width = depth.shape
    column = np.rint(seen.points[:, 0]).astype(int)
    row = np.rint(seen.points[:, 1]).astype(int)
    inside = (column >= 1) & (row >= 1) & (column < width - 1) & (row < height - 1)
    out = np.full(len(column), np.nan, np.float32)
    steps = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])
    if inside.any():
        values = depth[row[inside][:, None] + steps[:, 0], column[inside][:, None] + steps[:, 1]].astype(np.float32)
        values = np.where((values > 0) & np.isfinite(values), values, np.nan)
        enough = np.isfinite(values).sum(axis=1) >= 5
        picked = np.full(len(values), np.nan, np.float32)
        picked[enough] = np.nanmedian(values[enough], axis=1)
        out[inside] = picked
    return out
