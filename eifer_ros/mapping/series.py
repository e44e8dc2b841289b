"""Muscle activity and face parameters on one time base: what a mapping is fitted to and judged on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..types import F32, F64, NS, FaceState, FaceStatus, Floats, Indices, MuscleActivity, Stamp

EXTRA_NAMES = ("jaw.x", "jaw.y", "jaw.z", "eyelid.left", "eyelid.right")
"""What a mapping knows of a face beyond the expression coefficients."""
MAX_GAP_S = 0.1
"""Faces further apart than this are not interpolated between."""


def face_vector(state: FaceState) -> F32:
    """(E + 5,) expression, jaw (3), eyelids (2) of a face."""
    return np.concatenate([state.expression, state.jaw, state.eyelids])


@dataclass(frozen=True)
class Series:
    """T instants, M muscles, K = E + 5 face values.

    times: (T,) float64 s since `start`, increasing by `period_s` except across gaps. activation: (T, M).
    quality: (T, M) 0..1. face: (T, K), NaN where no face was seen near that instant.
    """

    start: Stamp
    period_s: float
    times: F64
    activation: F32
    quality: F32
    face: F32
    muscles: tuple[str, ...]
    face_names: tuple[str, ...]
    scheme: str
    head_model: str

    def __post_init__(self) -> None:
        count = len(self.times)
        for name in ("activation", "quality", "face"):
            if len(getattr(self, name)) != count:
                raise InputError(
                    f"Series.{name} has {len(getattr(self, name))} rows; it must have {count} like times"
                )

    @property
    def segment(self) -> Indices:
        """(T,) number of the gap-free run each instant belongs to; a gap is a step of more than 1.5 periods."""
        steps = np.diff(self.times, prepend=self.times[:1])
        return np.cumsum(steps > 1.5 * self.period_s)

    def part(self, start_s: float, end_s: float) -> Series:
        """The instants within start_s..end_s."""
        keep = (self.times >= start_s) & (self.times < end_s)
        return Series(
            self.start,
            self.period_s,
            self.times[keep],
            self.activation[keep],
            self.quality[keep],
            self.face[keep],
            self.muscles,
            self.face_names,
            self.scheme,
            self.head_model,
        )


def assemble(
    activity: Iterable[MuscleActivity], faces: Iterable[FaceState], expression_names: tuple[str, ...]
) -> Series:
    """One series on the time base of `activity`; faces are interpolated linearly between neighbours at most
    `MAX_GAP_S` apart.

    Raises InputError where muscles, scheme or head model change midway, where nothing is calibrated, or where
    either is missing.
    """
    rows = list(activity)
    if not rows:
        raise InputError(
            "no muscle activity: a mapping needs emg/activity (calibrate first: eifer calibrate)"
        )
    first = rows[0]
    for row in rows:
        if row.muscles != first.muscles or row.scheme != first.scheme:
            raise InputError(
                f"muscles change midway, from {first.scheme} {list(first.muscles)} to {row.scheme} {list(row.muscles)}"
            )
    tracked = [state for state in faces if state.status != FaceStatus.LOST]
    if len(tracked) < 2:
        raise InputError("no faces: a mapping needs face/vision (or truth/face) beside the muscle activity")
    model = tracked[0].head_model
    for state in tracked:
        if state.head_model != model:
            raise InputError(
                f"faces of two head models, '{model}' and '{state.head_model}'; a mapping belongs to one"
            )
    activation = np.stack([row.activation for row in rows])
    if np.isnan(activation).all():
        raise InputError("muscle activity is not calibrated (all activations are NaN): eifer calibrate")
    start = first.stamp
    times = np.array([row.stamp - start for row in rows]) / NS
    face_times = np.array([state.stamp - start for state in tracked]) / NS
    order = np.argsort(face_times, kind="stable")
    vectors = np.stack([face_vector(state) for state in tracked])[order]
    quality = np.nan_to_num(np.stack([row.quality for row in rows]), nan=1.0)
    quality = np.where(np.isnan(activation), 0.0, quality)
    period = float(np.median(np.diff(times))) if len(times) > 1 else 0.01
    return Series(
        start,
        period,
        times,
        np.nan_to_num(activation).astype(np.float32),
        quality.astype(np.float32),
        interpolate(face_times[order], vectors, times),
        first.muscles,
        (*expression_names, *EXTRA_NAMES),
        first.scheme,
        model,
    )


def interpolate(times: F64, values: Floats, at: F64, max_gap_s: float = MAX_GAP_S) -> F32:
    """(len(at), K) `values` (N, K) at increasing times `times`, linear; NaN outside and across gaps wider
    than `max_gap_s`.
    """
    right = np.clip(np.searchsorted(times, at), 1, len(times) - 1)
    left = right - 1
    span = times[right] - times[left]
    share = np.where(span > 0, (at - times[left]) / np.where(span > 0, span, 1.0), 0.0)[:, None]
    out = (1 - share) * values[left] + share * values[right]
    out[(at < times[0]) | (at > times[-1]) | (span > max_gap_s)] = np.nan
    return np.asarray(out, np.float32)
