"""Muscles and camera in; the face by EMG, the fused face, and the muscles estimated from the face out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import topics
from ..component import Component, Emission, Health, Level
from ..config import Config, parameter
from ..errors import ModelError
from ..stamps import StampWatch
from ..types import (
    F32,
    F64,
    NS,
    FaceOrigin,
    FaceState,
    FaceStatus,
    Item,
    MuscleActivity,
    MuscleOrigin,
    Stamp,
    nanoseconds,
    seconds,
)
from .fusion import Fusion, FusionSettings, Measurement
from .mapping import Direction, Mapping
from .series import face_vector

ACTIVITY = topics.EMG_ACTIVITY.name
VISION = topics.FACE_VISION.name
EMG_FACE = topics.FACE_EMG.name
FUSED = topics.FACE_FUSED.name
ESTIMATED = topics.MUSCLES_ESTIMATED.name
STALE_VISION_S = 0.15
"""Without a picture for so long, the fused face counts as predicted."""
LOST_S = 1.0
"""Without anything for so long, the fused face is lost."""


class MappingConfig(Config):
    """Parameters of the mapping and the fusion."""

    mapping: str = parameter("", "fitted mapping (.npz from eifer fit); empty passes vision through")
    fused_hz: float = parameter(100.0, "rate of the fused face", unit="Hz", gt=0, le=500)
    vision_std: float = parameter(
        0.04,
        "standard deviation of a coefficient seen by the camera where the reconstruction states none",
        gt=0,
        le=1,
        read_only=False,
    )
    least_vision_std: float = parameter(
        0.01, "the camera is never believed to be better than this", gt=0, le=1, read_only=False
    )
    emg_correlation_s: float = parameter(
        0.06, "how long an error of the EMG prediction lasts", unit="s", gt=0, le=1, read_only=False
    )
    bias_share: float = parameter(0.8, "share of the EMG prediction's error that is a slow bias", ge=0, le=1)
    acceleration: float = parameter(6.0, "how sharply coefficients move", unit="1/s^1.5", gt=0, le=1000)
    min_quality: float = parameter(
        0.05, "below this mean contact quality EMG is not used", ge=0, le=1, read_only=False
    )


class MuscleMapping(Component):
    """Runs a fitted mapping in both directions and fuses camera and EMG.

    About 1 ms per sample on one core.
    """

    config_type = MappingConfig
    inputs = (topics.EMG_ACTIVITY.port, topics.FACE_VISION.port)
    outputs = (topics.FACE_EMG.port, topics.FACE_FUSED.port, topics.MUSCLES_ESTIMATED.port)

    def __init__(self, config: MappingConfig | None = None, mapping: Mapping | None = None) -> None:
        self.config = config or MappingConfig()
        self.tick_hz = self.config.fused_hz
        self.mapping = mapping
        self._predict_ms: deque[float] = deque(maxlen=500)
        self._rejected = 0
        self._rejection = ""
        self._fusion: Fusion | None = None
        self._stamps = {port: StampWatch(port) for port in (ACTIVITY, VISION)}
        self.reset()

    def setup(self) -> None:
        """Load the mapping. Errors: ModelError."""
        if self.mapping is None and self.config.mapping:
            self.mapping = Mapping.load(Path(self.config.mapping).expanduser())
        if self.mapping is not None:
            self._fusion = self._new_fusion(self.mapping)
            rows = np.zeros((self.mapping.emg2exp.spec.context + 1, len(self.mapping.muscles)), np.float32)
            self.mapping.emg2exp.predict_one(_features(self.mapping.emg2exp, rows))
        self.reset()

    def use(self, mapping: Mapping) -> None:
        """Change to another mapping, at once."""
        self.mapping = mapping
        self._fusion = self._new_fusion(mapping)
        self.reset()

    def _new_fusion(self, mapping: Mapping) -> Fusion:
        deviation = mapping.emg2exp.deviation.astype(np.float64)
        settings = FusionSettings(
            acceleration=self.config.acceleration, bias_std=self.config.bias_share * deviation
        )
        return Fusion(len(mapping.face_names), settings, mapping.emg2exp.lower, mapping.emg2exp.upper)

    def reset(self) -> None:
        """Forget the stream, keep the mapping."""
        self._rows: deque[F32] = deque()
        self._last: Stamp | None = None
        self._faces: deque[tuple[Stamp, F32]] = deque(maxlen=64)
        self._vision: FaceState | None = None
        self._newest: FaceState | None = None
        self._newest_at: Stamp | None = None
        self._gain: tuple[bytes, F64] | None = None
        self._emg_stamp: Stamp | None = None
        if self._fusion is not None:
            self._fusion.reset()

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        """Activity gives the face by EMG, a face gives the muscles by camera; both feed the fusion."""
        if port in self._stamps and isinstance(item, MuscleActivity | FaceState):
            self._stamps[port].take(item.stamp)
        if isinstance(item, MuscleActivity):
            return self._activity(item)
        if isinstance(item, FaceState):
            return self._face(item)
        return ()

    # ------------------------------------------------------------ muscles -> face

    def _activity(self, item: MuscleActivity) -> list[Emission]:
        mapping = self.mapping
        if mapping is None:
            return []
        try:
            mapping.check(scheme=item.scheme, muscles=item.muscles, profile=item.profile)
        except ModelError as error:
            self._rejected = self._rejected + 1
            self._rejection = str(error)
            return []
        period = round(mapping.period_s * NS)
        if self._last is not None and not 0 < item.stamp - self._last < 1.5 * period:
            if item.stamp <= self._last:
                self.reset()
            self._rows.clear()  # a gap: nothing is made up across it
        self._last = item.stamp
        quality = np.nan_to_num(np.where(np.isnan(item.activation), 0.0, item.quality), nan=1.0)
        if float(quality.mean()) < self.config.min_quality:
            self._rows.clear()
            return []
        self._rows.append(self._clean(np.nan_to_num(item.activation), quality, mapping))
        needed = mapping.emg2exp.spec.context + 1
        if len(self._rows) < needed:
            return []
        while len(self._rows) > needed:
            self._rows.popleft()
        start = time.perf_counter()
        values, deviation = mapping.emg2exp.predict_one(
            _features(mapping.emg2exp, np.stack(list(self._rows)))
        )
        # a face that leans on replaced channels is less certain
        deviation = deviation / np.sqrt(max(float(quality.mean()), 0.05))
        self._predict_ms.append(1e3 * (time.perf_counter() - start))
        stamp = item.stamp + nanoseconds(mapping.emg2exp.spec.ahead_s)
        self._emg_stamp = stamp
        if self._fusion is not None:
            white = deviation**2 * max(1.0, self.config.emg_correlation_s / mapping.period_s)
            variance = np.where(mapping.emg2exp.learnt, white, np.inf)
            self._fusion.add(
                Measurement(stamp, values.astype(np.float64), variance.astype(np.float64), biased=True)
            )
        return [
            Emission(
                EMG_FACE, self._state(mapping, stamp, values, deviation, FaceOrigin.EMG, FaceStatus.TRACKING)
            )
        ]

    def _clean(self, activation: F32, quality: F32, mapping: Mapping) -> F32:
        """Doubtful channels replaced; the gain is kept until the quality changes (it does so once a second)."""
        coarse = np.round(quality, 2)
        if (coarse >= 1.0).all():
            return np.asarray(activation, np.float32)
        if self._gain is None or self._gain[0] != coarse.tobytes():
            self._gain = (coarse.tobytes(), mapping.trust.gain(coarse))
        return np.asarray(mapping.trust.mean + self._gain[1] @ (activation - mapping.trust.mean), np.float32)

    # ------------------------------------------------------------ face -> muscles

    def _face(self, state: FaceState) -> list[Emission]:
        if self._newest is None or self._newest.stamp != state.stamp:
            self._newest_at = None
        self._newest = state
        if state.status != FaceStatus.LOST:
            self._vision = state
        mapping = self.mapping
        if mapping is None or state.status == FaceStatus.LOST:
            return []
        if state.head_model != mapping.head_model:
            try:
                mapping.check_head(state.head_model)
            except ModelError as error:
                self._rejected = self._rejected + 1
                self._rejection = str(error)
            return []
        vector = face_vector(state)
        complete = np.isfinite(vector).all()
        if self._faces and state.stamp <= self._faces[-1][0]:
            self._faces.clear()
        if complete:
            self._faces.append((state.stamp, vector))
        if self._fusion is not None:
            stated = np.nan_to_num(state.expression_std, nan=self.config.vision_std)
            spread = np.concatenate([stated, np.full(len(vector) - len(stated), float(np.median(stated)))])
            variance = np.maximum(spread, self.config.least_vision_std) ** 2 / max(state.confidence, 0.05)
            self._fusion.add(
                Measurement(state.stamp, vector.astype(np.float64), variance.astype(np.float64), biased=False)
            )
        return self._muscles(mapping, state.stamp) if complete else []

    def _muscles(self, mapping: Mapping, stamp: Stamp) -> list[Emission]:
        direction = mapping.exp2emg
        stamps = [stamp - nanoseconds(step * mapping.period_s) for step in direction.spec.steps]
        if stamps[-1] < self._faces[0][0]:
            return []
        times = np.array([seconds(stamped - stamp) for stamped, _ in self._faces])
        if np.diff(times).max(initial=0.0) > 0.25:
            self._faces = deque([self._faces[-1]], maxlen=64)
            return []
        values = np.stack([vector for _, vector in self._faces])
        rows = np.stack([_at(times, values, seconds(when - stamp)) for when in stamps])
        activation, _ = direction.predict_one(rows.reshape(-1))
        when = stamp + nanoseconds(direction.spec.ahead_s)
        quality = np.full(len(mapping.muscles), np.nan, np.float32)
        estimate = MuscleActivity(
            when,
            mapping.scheme,
            mapping.muscles,
            mapping.envelope(activation),
            activation,
            quality,
            MuscleOrigin.ESTIMATED,
            mapping.profile,
        )
        return [Emission(ESTIMATED, estimate)]

    # ------------------------------------------------------------ fusion

    def tick(self, now: Stamp) -> Iterable[Emission]:
        """The fused face.

        With a mapping, what the filter predicts for this tick: its stamp is `now`, the instant it describes.
        Without one, the newest vision under its own stamp, which repeats until the next picture or until it
        is lost.

        Parameters
        ----------
        now : int (ns)
            The host's clock.

        Returns
        -------
        Iterable[Emission]
            One face; none before the first evidence.
        """
        vision = self._vision
        mapping = self.mapping
        if mapping is None or self._fusion is None or not self._fusion.started:
            return [] if self._newest is None else [Emission(FUSED, self._passed(self._newest, now))]
        vision_age_s = np.inf if vision is None else seconds(now - vision.stamp)
        emg_age_s = np.inf if self._emg_stamp is None else seconds(now - self._emg_stamp)
        if min(vision_age_s, emg_age_s) > LOST_S:
            size = len(mapping.shape), len(mapping.face_names) - 5
            return [Emission(FUSED, FaceState.lost(now, mapping.head_model, FaceOrigin.FUSED, *size))]
        values, deviation = self._fusion.state(now)
        status = FaceStatus.TRACKING if vision_age_s < STALE_VISION_S else FaceStatus.PREDICTED
        fused = self._state(
            mapping, now, values.astype(np.float32), deviation.astype(np.float32), FaceOrigin.FUSED, status
        )
        return [Emission(FUSED, fused)]

    def _passed(self, vision: FaceState, now: Stamp) -> FaceState:
        """Vision as the fused face where there is nothing to fuse it with.

        Parameters
        ----------
        vision : FaceState
            The newest one.
        now : int (ns)
            The host's clock.

        Returns
        -------
        FaceState
            Under the stamp of `vision`: as it is up to `STALE_VISION_S`, then PREDICTED with a growing
            standard deviation. After `LOST_S` it is LOST, and its stamp is `LOST_S` before `now`: so it
            moves on, and a face that comes back (its picture is younger) is still newer.
        """
        if self._newest_at is None:
            self._newest_at = now
        # by the clock since it arrived, too: a camera whose clock is ahead must not keep a face alive
        age = max(now - vision.stamp, now - self._newest_at)
        if vision.status == FaceStatus.LOST or age > LOST_S * NS:
            stamp = max(vision.stamp, now - nanoseconds(LOST_S))
            size = len(vision.shape), len(vision.expression)
            return FaceState.lost(stamp, vision.head_model, FaceOrigin.FUSED, *size)
        if age < STALE_VISION_S * NS:
            return replace(vision, origin=FaceOrigin.FUSED)
        age_s = seconds(age)
        stated = np.nan_to_num(vision.expression_std, nan=self.config.vision_std)
        # white acceleration, as the fusion assumes
        spread = np.sqrt(stated**2 + self.config.acceleration**2 * age_s**3 / 3)
        certain = (LOST_S - age_s) / (LOST_S - STALE_VISION_S)
        return replace(
            vision,
            origin=FaceOrigin.FUSED,
            expression_std=spread,
            confidence=vision.confidence * certain,
            status=FaceStatus.PREDICTED,
        )

    def _state(
        self,
        mapping: Mapping,
        stamp: Stamp,
        values: F32,
        deviation: F32,
        origin: FaceOrigin,
        status: FaceStatus,
    ) -> FaceState:
        count = len(mapping.face_names) - 5
        vision = self._vision
        eyes = np.zeros((2, 3), np.float32) if vision is None or np.isnan(vision.eyes).any() else vision.eyes
        pose = np.full((4, 4), np.nan) if vision is None or origin == FaceOrigin.EMG else vision.head_pose
        shape = mapping.shape if vision is None or np.isnan(vision.shape).any() else vision.shape
        expression = np.array(values[:count])
        if vision is not None and not np.isnan(vision.expression).any() and origin == FaceOrigin.FUSED:
            for place, name in enumerate(mapping.face_names[:count]):
                if name.startswith("eyeLook"):
                    expression[place] = vision.expression[place]
        # confidence 1 where the error is small beside the range of a coefficient
        confidence = float(
            np.clip(1.0 - 2.0 * float(np.median(deviation[:count][mapping.emg2exp.learnt[:count]])), 0.0, 1.0)
        )
        return FaceState(
            stamp,
            mapping.head_model,
            origin,
            shape,
            expression,
            deviation[:count],
            values[count : count + 3],
            np.zeros(3, np.float32),
            eyes,
            np.clip(values[count + 3 : count + 5], 0.0, 1.0),
            pose,
            confidence,
            status,
        )

    def health(self) -> Health:
        """Prediction time, lag, and whatever was refused."""
        values: dict[str, float | int | str] = {
            "rejected": self._rejected,
            "repeated_stamps": sum(watch.repeated for watch in self._stamps.values()),
        }
        if self._predict_ms:
            values["predict_ms"] = round(float(np.median(self._predict_ms)), 4)
        if self._fusion is not None:
            values["late"] = self._fusion.late
        still = [problem for watch in self._stamps.values() if (problem := watch.problem)]
        if self.mapping is None:
            reason = "no mapping: fit one with eifer fit; vision passes through"
            return Health(Level.WARN, "; ".join([*still, reason]), values)
        values["lag_ms"] = round(1e3 * self.mapping.lag.lag_s, 1) if self.mapping.lag.grade else "unknown"
        if self._rejection:
            return Health(Level.ERROR, self._rejection, values)
        if still:
            return Health(Level.WARN, "; ".join(still), values)
        return Health(Level.OK, "mapping", values)


def _features(direction: Direction, rows: F32) -> F32:
    """(F,) features from the newest `context + 1` rows, oldest first."""
    newest = len(rows) - 1
    return np.concatenate([rows[newest - step] for step in direction.spec.steps])


def _at(times: F64, values: F32, when: float) -> F32:
    """(K,) values at `when`, linear between neighbours."""
    right = int(np.clip(np.searchsorted(times, when), 1, len(times) - 1))
    left = right - 1
    share = (when - times[left]) / (times[right] - times[left])
    return np.asarray((1 - share) * values[left] + share * values[right], np.float32)
