"""Camera pictures in, FaceState out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from .. import topics
from ..component import Component, Emission, Health, Level
from ..errors import InputError, ModelError
from ..head import projection
from ..head.model import HeadModel, load_head
from ..inference.network import installed
from ..micro.motion import MicroMotionEstimator
from ..registry import ESTIMATORS
from ..stamps import StampWatch
from ..types import (
    F64,
    FaceOrigin,
    FaceState,
    FaceStatus,
    Frame,
    Item,
    seconds,
)
from .auto import AutoEstimator
from .encoder.face_crop import POINTS, crop_of
from .estimators import Estimate, Estimator, depth_at
from .landmarks.attention_mesh import Crop, Landmarks
from .reconstruction_config import ReconstructionConfig
from .reference import Reference
from .restore import FaceRestorer, occlusion_picture, paste

__all__ = [
    "CAMERA",
    "DISPLACEMENT",
    "HEAD_MODEL",
    "OCCLUSION",
    "RESTORED",
    "VISION",
    "Reconstruction",
    "ReconstructionConfig",
    "depth_at",
]

CAMERA = topics.CAMERA_IMAGE.name
VISION = topics.FACE_VISION.name
HEAD_MODEL = topics.HEAD_MODEL.name
RESTORED = topics.FACE_RESTORED.name
OCCLUSION = topics.FACE_OCCLUSION.name
DISPLACEMENT = topics.FACE_DISPLACEMENT.name


class Reconstruction(Component):
    """Follows one face and fits the head model to it. 6 to 12 ms a picture on one core."""

    config_type = ReconstructionConfig
    inputs = (topics.CAMERA_IMAGE.port,)
    outputs = (
        topics.FACE_VISION.port,
        topics.HEAD_MODEL.port,
        topics.FACE_RESTORED.port,
        topics.FACE_OCCLUSION.port,
        topics.FACE_DISPLACEMENT.port,
    )

    def __init__(self, config: ReconstructionConfig | None = None) -> None:
        self.config = config if config is not None else ReconstructionConfig()
        self._announced = False
        self._stamp: int | None = None
        self._time_s = 0.0
        self._confidence = 0.0
        self._residual = float("nan")
        self._needed: frozenset[str] = frozenset()
        self._estimator: Estimator | None = None
        self._restorer: FaceRestorer | None = None
        self._micro: MicroMotionEstimator | None = None
        self._static: FaceState | None = None
        """The estimator's last face, before anything was made of it."""
        self._between = 0
        self.head: HeadModel | None = None
        self.reference: Reference | None = None
        self.landmarks: Landmarks | None = None
        """Landmarks of the last picture, None where there was no face or the estimator places none; for
        overlays.
        """
        self._in_sight = False
        self._stamps = StampWatch(CAMERA)

    def setup(self) -> None:
        """Load the networks and the head model and run them once.

        Errors: ModelError, InputError, MissingExtra.
        """
        self.head = load_head(self.config.head_model)
        device, config = ESTIMATORS.configure(self.config.estimator)
        self._estimator = device.create(config, self.head, self.config)
        if isinstance(self._estimator, AutoEstimator):
            self._restorer = self._estimator.restorer
        self._estimator.warm_up()
        if self.config.micro:
            self._micro = MicroMotionEstimator(self.head)
            self._micro.warm_up()
        self.reset()

    def set_subscribed(self, subscribed: frozenset[str]) -> None:
        """Restore the face only while somebody looks.

        Raises ModelError where the network for it is missing or damaged.
        """
        self._needed = subscribed & {RESTORED, OCCLUSION, DISPLACEMENT}
        if (
            self._needed & {RESTORED, OCCLUSION}
            and self._restorer is None
            and installed(self.config.restorer)
        ):
            self._restorer = FaceRestorer(self.config.restorer, self.config.backend)
            self._restorer.warm_up()

    def reset(self) -> None:
        """Forget the face and the person."""
        if self._estimator is not None:
            self._estimator.reset()
        if self._micro is not None:
            self._micro.reset()
        self._stamp = None
        self._static = None
        self._between = 0
        self._in_sight = False
        self.landmarks = None

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        """One picture in, one FaceState out; the head model's description once, before the first; the
        restored face where wanted.
        """
        if port != CAMERA or not isinstance(item, Frame):
            raise InputError(
                f"reconstruction takes a Frame on '{CAMERA}', not a {type(item).__name__} on '{port}'"
            )
        if self.head is None or self._estimator is None:
            raise ModelError("reconstruction was not set up: call setup() before the first picture")
        self._stamps.take(item.stamp)
        out = []
        if not self._announced:
            out.append(Emission(HEAD_MODEL, self.head.info(item.stamp)))
            self._announced = True
        if self._stamp is not None and item.stamp < self._stamp:
            self.reset()  # a bag looped or a clock was set back
        if (
            self._micro is not None
            and self._static is not None
            and self._between + 1 < self.config.micro_stride
        ):
            self._between += 1
            return out + self._moved(self._micro, item, self._static)
        self._between = 0
        estimate = self._estimate(self._estimator, item)
        if estimate is None:
            state = FaceState.lost(
                item.stamp, self.head.id, FaceOrigin.VISION, self.head.shape_size, self.head.expression_size
            )
        else:
            state = estimate.state(self.head, item.stamp)
        self._static = state if estimate is not None else None
        faces = (
            self._moved(self._micro, item, state)
            if self._micro is not None
            else [Emission(VISION, self._referenced(state))]
        )
        return self._emit_then_check(out + faces + self._restored(item, estimate))

    def _emit_then_check(self, out: list[Emission]) -> Iterator[Emission]:
        """The items, and when they are on their way what may wait until then."""
        yield from out
        if isinstance(self._estimator, AutoEstimator):
            self._estimator.run_deferred_check()

    def _referenced(self, state: FaceState) -> FaceState:
        return state if self.reference is None else self.reference.apply(state)

    def _moved(self, micro: MicroMotionEstimator, frame: Frame, state: FaceState) -> list[Emission]:
        """The face corrected by flow, and where the skin is besides.

        `state` may be of a picture before; without flow it is carried on.
        """
        result = micro.update(frame, state)
        if result is None:
            status = (
                FaceStatus.PREDICTED
                if state.status == FaceStatus.TRACKING and state.stamp < frame.stamp
                else state.status
            )
            return [Emission(VISION, self._referenced(replace(state, stamp=frame.stamp, status=status)))]
        out = [Emission(VISION, self._referenced(result.fine))]
        if DISPLACEMENT in self._needed:
            out.append(Emission(DISPLACEMENT, result.field(micro.head)))
        return out

    def use_reference(self, reference: Reference | None) -> None:
        """Count expression from this resting face, or from the model's neutral.

        Gaze is left alone: where one looks is no expression.

        Raises InputError for a reference of another head model.
        """
        if reference is not None:
            if reference.head_model != self.config.head_model and (
                self.head is None or reference.head_model != self.head.id
            ):
                mine = self.config.head_model
                raise InputError(
                    f"the reference is of head model '{reference.head_model}'; this reconstruction uses '{mine}'"
                )
            head = self.head or load_head(self.config.head_model)
            gaze = np.array([name.startswith("eyeLook") for name in head.expression_names])
            reference = replace(reference, offset=np.where(gaze, np.float32(0), reference.offset))
        self.reference = reference

    def _estimate(self, estimator: Estimator, frame: Frame) -> Estimate | None:
        elapsed_s = seconds(frame.stamp - self._stamp) if self._stamp is not None else 1.0
        self._stamp = frame.stamp
        start = time.perf_counter()
        estimate = estimator.estimate(frame, self._intrinsics(frame), elapsed_s)
        self._time_s = time.perf_counter() - start
        self._in_sight = estimate is not None
        self.landmarks = estimate.landmarks if estimate is not None else None
        self._confidence = estimate.confidence if estimate is not None else 0.0
        if estimate is None:
            return None
        self._residual = estimate.residual
        return estimate if self._confidence >= self.config.min_confidence else None

    @staticmethod
    def _intrinsics(frame: Frame) -> F64:
        return (
            frame.intrinsics if frame.intrinsics is not None else projection.default_intrinsics(*frame.size)
        )

    def _restored(self, frame: Frame, estimate: Estimate | None) -> list[Emission]:
        """The lazy pictures: the camera's own where there is no face to restore, so that who looks on sees a
        stream.
        """
        if not self._needed & {RESTORED, OCCLUSION} or self._restorer is None:
            return []
        restored = None
        crop = _crop(estimate) if estimate is not None else None
        if crop is not None:
            restored = self._restorer.restore_crop(frame.image, crop)
        out = []
        if RESTORED in self._needed:
            image = frame.image if restored is None else paste(frame.image, restored)
            out.append(Emission(RESTORED, replace(frame, image=image, depth=None)))
        if OCCLUSION in self._needed:
            image = (
                np.zeros_like(frame.image) if restored is None else occlusion_picture(frame.image, restored)
            )
            out.append(Emission(OCCLUSION, replace(frame, image=image, depth=None)))
        return out

    def health(self) -> Health:
        """Milliseconds of the last picture, counts, confidence, residual, and which estimator was used for
        which reason.
        """
        estimator = self._estimator
        if estimator is None:
            return Health(Level.WARN, "not set up")
        counts = estimator.counts
        tracking = self._in_sight
        values: dict[str, float | int | str] = {
            **estimator.times_ms(),
            "inference_ms": round(self._time_s * 1e3, 3),
            "tracked": counts.tracked,
            "lost": counts.lost,
            "searched": counts.searched,
            "confidence": round(float(self._confidence), 3),
            "residual_pct_iod": round(100.0 * float(self._residual), 3),
            "repeated_stamps": self._stamps.repeated,
            "estimator": self.config.estimator,
            "estimator_used": estimator.name,
            "estimator_reason": estimator.reason,
        }
        if self._micro is not None:
            values |= {"micro_ms": round(1e3 * self._micro.time_s, 3), "micro_keys": self._micro.keys}
        if isinstance(estimator, AutoEstimator) and np.isfinite(estimator.covered):
            values["covered_pct"] = round(100.0 * float(estimator.covered), 1)
        waiting = counts.tracked + counts.lost == 0
        message = "waiting for pictures" if waiting else "tracking" if tracking else "no face in sight"
        still = self._stamps.problem
        if still:
            return Health(Level.WARN, f"{still}; {message}", values)
        return Health(Level.OK if tracking or waiting else Level.WARN, message, values)


def _crop(estimate: Estimate) -> Crop | None:
    """Where to restore the face of an estimate."""
    if estimate.crop is not None or estimate.landmarks is None:
        return estimate.crop
    return crop_of(estimate.landmarks.points[list(POINTS), :2])
