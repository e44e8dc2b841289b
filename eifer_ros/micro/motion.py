"""Motion below what an estimator sees picture by picture: dense flow from a key picture, counted from a
running neutral.

A plug-in on any estimator: it takes the frame and the estimator's `FaceState`. The dynamic-encoded module
turns flow and the static geometry into a change of the expression; the mesh deformation module turns what is
left, point by point, into a bounded displacement of the skin (after "Fine-grained 3D reconstruction of
micro-expressions", arXiv 2603.07043; the code and weights of that work are not public).
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..head import projection
from ..head.model import HeadModel, rotation_matrix
from ..types import (
    F32,
    F64,
    Array,
    FaceDisplacement,
    FaceOrigin,
    FaceState,
    FaceStatus,
    Frame,
    Stamp,
    seconds,
)
from .core import Motion, MotionPrior, MotionSolver, load_prior
from .flow import DenseFlow, normalised, sample_patch
from .geometry import FaceSkin, KeyView, key_view
from .networks import DynamicNetwork, available
from .neutral import RunningNeutral

LIMIT_M = 0.003
"""A vertex is displaced by no more than this."""
_TRUST_PX = 0.35
"""Flow that no motion of a face explains, root mean square, at which half of the trust is gone."""
_QUIET_M = 2e-5
"""Displacement below which a region counts as doing nothing."""
_LOST_S = 0.5
SPOTTING_HZ = 100.0
"""Rate from which on movements of a tenth of a second have enough pictures to be spotted."""
_AGAIN_PX = 1.0


@dataclass(frozen=True)
class Modules:
    """What is switched on: all of it, but for benches.

    dynamic: expression from flow (else the estimator's own). deformation: motion of the skin beside the
    expression. network: the learnt correction of the solver. refinement: the flow's last steps. compensation:
    the picture is moved back by the head's motion before flow is measured. robust: points that no motion of a
    face explains lose their say. neutral: the running neutral (else the key picture). averaging: the key
    picture is a mean. smoothing: over time.
    """

    dynamic: bool = True
    deformation: bool = True
    network: bool = True
    refinement: bool = True
    compensation: bool = True
    robust: bool = True
    neutral: bool = True
    averaging: bool = True
    smoothing: bool = True


@dataclass(frozen=True)
class MicroSettings:
    """neutral_s: how far back the neutral looks. smoothing_s: time constant of the motion's smoothing.

    turn_rad, shift_m: head motion from the key picture beyond which a new one is taken. key_s: age at which
    it is renewed. key_frames: of how many it is the mean.
    """

    neutral_s: float = 2.0
    smoothing_s: float = 0.012
    turn_rad: float = 0.14
    shift_m: float = 0.03
    key_s: float = 20.0
    key_frames: int = 6
    modules: Modules = Modules()


@dataclass(frozen=True)
class MicroResult:
    """One picture.

    fine: the estimator's face with the expression corrected; pose and shape are the estimator's own.
    displacement: (V, 3) m of the skin beside the expression. expression: (E,) change from the neutral.
    beyond: (E,) what of it the bounds of the coefficients keep out of `fine`: a brow that sinks below a
    resting 0. confidence: 0..1.
    """

    fine: FaceState
    displacement: F32
    expression: F64
    beyond: F64
    confidence: float

    def motion(self, head: HeadModel) -> F32:
        """(V, 3) m: how far every vertex is from the person's running neutral, model coordinates."""
        moved = head.expression_basis @ self.expression.astype(np.float32)
        return np.asarray(moved + self.displacement, np.float32)

    def field(self, head: HeadModel) -> FaceDisplacement:
        """Where the skin is beside `fine`, as an item: the displacement, and what of the expression did not
        fit into `fine`.
        """
        rest = head.expression_basis @ self.beyond.astype(np.float32)
        field = (
            np.asarray(self.displacement + bounded(rest), np.float32)
            if self.beyond.any()
            else self.displacement
        )
        return FaceDisplacement(
            self.fine.stamp, self.fine.head_model, self.fine.origin, field, self.confidence
        )


class MicroMotionEstimator:
    """Follows one face. One instance a person; `reset` for the next."""

    def __init__(
        self, head: HeadModel, settings: MicroSettings | None = None, prior: MotionPrior | None = None
    ) -> None:
        self.head = head
        self.settings = settings if settings is not None else MicroSettings()
        self._skin = FaceSkin.of(head)
        self._prior = load_prior(head, self._skin) if prior is None else prior
        learnt = self.settings.modules.network and available(head, self._prior)
        self._network = DynamicNetwork(head, self._prior) if learnt else None
        self._flow = DenseFlow() if self.settings.modules.refinement else DenseFlow(steps=0)
        self._gaze = np.array([name.startswith("eyeLook") for name in head.expression_names])
        self._blink = [
            head.expression_names.index(n)
            for n in ("eyeBlinkLeft", "eyeBlinkRight")
            if n in head.expression_names
        ]
        self._neutral = RunningNeutral(span_s=self.settings.neutral_s)
        self._static = RunningNeutral(span_s=self.settings.neutral_s)
        self.keys = 0
        self.time_s = 0.0
        self.misfit_px = float("nan")
        self._gaps: deque[float] = deque(maxlen=31)
        self.reset()

    def reset(self) -> None:
        """Forget the face and its neutral."""
        self._gaps.clear()
        self._view: KeyView | None = None
        self._neutral.reset()
        self._static.reset()
        self._smooth: F64 | None = None
        self._stamp: Stamp | None = None
        self._newest_stamp: Stamp = 0
        self._start: Stamp = 0

    @property
    def rate_hz(self) -> float:
        """Pictures per second, the median of the last; NaN before two have come."""
        return 1.0 / float(np.median(self._gaps)) if self._gaps else float("nan")

    @property
    def advice(self) -> str:
        """What the rate of the pictures allows, as a sentence; empty where nothing is amiss or nothing is
        known yet.
        """
        rate_hz = self.rate_hz
        if len(self._gaps) < 10 or rate_hz >= 0.9 * SPOTTING_HZ:
            return ""
        return f"{rate_hz:.0f} frames/s: spotting needs {SPOTTING_HZ:.0f}; motion per vertex still given"

    @property
    def ready(self) -> bool:
        """Whether the neutral is known well enough to count motion from it."""
        return self._neutral.ready

    def warm_up(self) -> None:
        """Compile and touch everything once; leaves no trace."""
        picture = np.full((160, 160, 3), 90, np.uint8)
        pose = projection.facing_pose(0.6, centre=self.head.template[self._skin.vertices].mean(axis=0))
        count = self.head.expression_size
        nothing = np.zeros(3, np.float32)
        still = FaceState(
            0,
            self.head.id,
            FaceOrigin.VISION,
            np.zeros(self.head.shape_size, np.float32),
            np.zeros(count, np.float32),
            np.zeros(count, np.float32),
            nothing,
            nothing,
            np.zeros((2, 3), np.float32),
            np.zeros(2, np.float32),
            pose,
            1.0,
        )
        for number in range(2):
            self.update(Frame(number, picture, projection.default_intrinsics(160, 160)), still)
        self.reset()
        self.keys = 0

    def update(self, frame: Frame, state: FaceState) -> MicroResult | None:
        """The motion in `frame`; `state` is the estimator's face of that frame or of the last one it read.

        None where there is no face.
        """
        began = time.perf_counter()
        result = self._update(frame, state)
        self.time_s = time.perf_counter() - began
        return result

    def _update(self, frame: Frame, state: FaceState) -> MicroResult | None:
        if self._stamp is not None and frame.stamp < self._stamp:
            self.reset()  # a bag looped or a clock was set back
        elapsed_s = seconds(frame.stamp - self._stamp) if self._stamp is not None else 0.0
        usable = (
            state.status != FaceStatus.LOST
            and np.isfinite(state.head_pose).all()
            and np.isfinite(state.expression).all()
        )
        if not usable:
            if self._stamp is not None and seconds(frame.stamp - self._newest_stamp) > _LOST_S:
                self.reset()
            return None
        if elapsed_s > 0:
            self._gaps.append(elapsed_s)
        self._stamp = frame.stamp
        self._newest_stamp = self._stamp
        if self._view is None and not self._take_key(frame, state):
            return None
        motion = self._follow(frame)
        if motion is None or self._needs_new_key(frame.stamp):
            if not self._take_key(frame, state):
                self.reset()
                return None
            motion = self._follow(frame)
            if motion is None:
                return None
        return self._result(frame, state, motion, elapsed_s)

    # --- key picture

    def _take_key(self, frame: Frame, state: FaceState) -> bool:
        """A new key picture. What moved up to now stays moved: the neutral is counted from the new zero."""
        K = frame.intrinsics if frame.intrinsics is not None else projection.default_intrinsics(*frame.size)
        view = key_view(self._skin, state, K)
        if view is None:
            return False
        if self._smooth is not None:
            self._neutral.shift(-self._smooth)
            self._smooth = np.zeros_like(self._smooth)
        self._view = view
        self._start = frame.stamp
        self._key_state = state
        self._turn = np.eye(3)
        self._shift = np.zeros(3)
        self._scale = float(view.matrix[0, 0])
        self._sum = sample_patch(frame.image, view.maps(self._turn, self._shift), self._scale)
        self._summed = 1
        self._key = self._prepared(self._sum)
        self._flow.take_key(self._key)
        self._solver = MotionSolver(self._skin, view, self._key, self._prior)
        self.keys += 1
        return True

    def _prepared(self, grey: F32) -> F32:
        assert self._view is not None
        return np.asarray(128.0 + (normalised(grey) - 128.0) * self._view.inside, np.float32)

    def _needs_new_key(self, stamp: Stamp) -> bool:
        """Whether the head has turned away from the key picture, or it is old."""
        angle = float(np.arccos(np.clip((np.trace(self._turn) - 1.0) / 2.0, -1.0, 1.0)))
        far = angle > self.settings.turn_rad or float(np.abs(self._shift).max()) > self.settings.shift_m
        return far or seconds(stamp - self._start) > self.settings.key_s

    # --- one picture

    def _follow(self, frame: Frame) -> Motion | None:
        """Flow and what it says, and where the head is now. None where the flow makes no sense."""
        view = self._view
        assert view is not None
        motion: Motion | None = None
        for turn in range(2 if self.settings.modules.compensation else 1):
            if not self.settings.modules.compensation:
                self._turn = np.eye(3)
                self._shift = np.zeros(3)
            grey = sample_patch(frame.image, view.maps(self._turn, self._shift), self._scale)
            flow = self._flow.between(self._prepared(grey))
            at = cv2.remap(flow, view.pixels[:, :1], view.pixels[:, 1:], cv2.INTER_LINEAR)[:, 0]
            motion = self._solver.solve(at.T.astype(np.float64), self.settings.modules.robust)
            fast = (
                max(float(np.abs(motion.turn).max()) * 0.08, float(np.abs(motion.shift[:2]).max()))
                > _AGAIN_PX * view.metres_per_pixel
            )
            move = rotation_matrix(motion.turn)
            self._turn = move @ self._turn
            self._shift = move @ self._shift + motion.shift
            if not fast or turn or not self.settings.modules.compensation:
                if self.settings.modules.averaging and self._summed < self.settings.key_frames:
                    self._average(grey)
                break
        self.misfit_px = motion.misfit_px if motion is not None else float("nan")
        return motion

    def _average(self, grey: F32) -> None:
        """The key picture as a mean of several: its own noise would be a motion that stays."""
        self._sum = self._sum + grey
        self._summed = self._summed + 1
        self._key = self._prepared(np.asarray(self._sum / self._summed, np.float32))
        self._flow.take_key(self._key)

    def _result(self, frame: Frame, state: FaceState, motion: Motion, elapsed_s: float) -> MicroResult:
        now = motion.unknowns
        if self._network is not None:
            key = self._key_state
            now[: len(motion.expression)] += self._network.correction(
                motion, key.expression, key.shape, np.asarray(key.head_pose)
            )
        share = 1.0
        modules = self.settings.modules
        if self._smooth is not None and modules.smoothing and self.settings.smoothing_s > 0:
            share = 1.0 - float(np.exp(-elapsed_s / self.settings.smoothing_s))
        self._smooth = now if self._smooth is None else self._smooth + share * (now - self._smooth)
        time_s = frame.stamp / 1e9
        self._neutral.add(now, time_s)
        self._static.add(state.expression.astype(np.float64), time_s)
        neutral = self._neutral.value()
        resting = self._static.value()
        assert neutral is not None and resting is not None
        moved = self._smooth - neutral if modules.neutral else self._smooth.copy()
        trust = 1.0 / (1.0 + (motion.misfit_px / _TRUST_PX) ** 4)
        count = self.head.expression_size
        coarse = state.expression - resting
        change = trust * moved[:count] + (1.0 - trust) * coarse if modules.dynamic else coarse
        if not modules.deformation:
            moved[count:] = 0.0
        bounds = self.head.expression_bounds
        corrected = np.clip(resting + change, bounds[:, 0], bounds[:, 1])
        beyond = resting + change - corrected
        beyond[self._gaze] = 0.0
        corrected[self._gaze] = state.expression[self._gaze]
        weights = np.asarray(corrected, np.float32)
        eyelids = (
            np.clip(weights[self._blink], np.float32(0), np.float32(1))
            if len(self._blink) == 2
            else state.eyelids
        )
        fine = replace(
            state,
            stamp=frame.stamp,
            expression=weights,
            eyelids=eyelids,
            confidence=float(state.confidence * trust),
        )
        displacement = np.zeros(self.head.template.shape, np.float32)
        displacement[self._skin.vertices] = settled(
            self._skin.modes @ (trust * moved[count:]).astype(np.float32).reshape(3, -1).T
        )
        return MicroResult(fine, displacement, change, beyond, float(state.confidence * trust))


def settled(field: Array) -> F32:
    """A displacement field (M, 3) m within its bound, and without a drift of the parts that do nothing."""
    quiet = np.linalg.norm(field, axis=1) < _QUIET_M
    out = bounded(field)
    if quiet.any():
        out[quiet] -= out[quiet].mean(axis=0)
    return np.asarray(out, np.float32)


def bounded(field: Array) -> F32:
    """(M, 3) m no longer than the bound, small motions as they are."""
    size = np.linalg.norm(field, axis=1, keepdims=True)
    return np.asarray(field * (LIMIT_M * np.tanh(size / LIMIT_M) / np.maximum(size, 1e-12)), np.float32)
