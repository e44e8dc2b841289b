"""A mapping problem stripped to arrays: muscles and faces on one time base, whatever they come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..emg.montage import FRIDLUND
from ..errors import InputError
from ..head.model import HeadModel
from ..mapping.fit import learnable
from ..mapping.lag import estimate, without_drift
from ..mapping.series import Series
from ..recording.imports import mmm
from ..recording.imports.parameters import METHODS
from ..types import F32, F64, Indices
from .metrics import displacement_basis


@dataclass(frozen=True)
class Problem:
    """T instants. muscles (T, M) activation 0..1; envelope (T, M) uV; face (T, K) in its own space.

    segment (T,): gap-free run. basis (N, 3, K): displacement per unit in m where the space has a head here,
    else None. lag_s: skin behind muscle, NaN where unknown. space: `ARKit`, `EIFER`, ...
    """

    name: str
    space: str
    period_s: float
    times: F64
    segment: Indices
    muscles: F32
    envelope: F32
    face: F32
    muscle_names: tuple[str, ...]
    face_names: tuple[str, ...]
    lag_s: float = float("nan")
    basis: F64 | None = None


def from_series(name: str, series: Series, envelope: F32, head: HeadModel) -> Problem:
    """From a recording: the coefficients that move, drift taken out, rows without a face left out."""
    lag = estimate(series)
    face = without_drift(series, lag.drift_ppm if lag.grade in (1, 2) else 0.0)
    columns = learnable(series)
    columns[len(head.expression_names) :] = (
        False  # jaw and lids of a head are moved by joints, not by the basis
    )
    complete = ~np.isnan(face).any(axis=1) & np.isfinite(envelope).all(axis=1)
    if complete.sum() * series.period_s < 10 or not columns.any():
        raise InputError(
            f"{name}: {complete.sum() * series.period_s:.0f} s with both muscles and a moving face; at least 10 s are needed"
        )
    steps = np.diff(series.times[complete], prepend=series.times[complete][:1])
    names = tuple(n for n, selected in zip(series.face_names, columns, strict=True) if selected)
    basis = displacement_basis(head)[:, :, columns[: len(head.expression_names)]]
    return Problem(
        name,
        "ARKit" if head.id == "open_head" else head.id,
        series.period_s,
        series.times[complete],
        np.cumsum(steps > 1.5 * series.period_s),
        series.activation[complete],
        1e6 * envelope[complete],
        face[complete][:, columns],
        series.muscles,
        names,
        lag.lag_s,
        basis,
    )


def from_mmm(root: Path, session: str, spaces: list[str]) -> list[Problem]:
    """One problem per method whose tables every clip has: envelopes of MMM's own chain, expression in the
    method's own space.

    Envelopes are normalised per session as the README advises: rest is the median, 1 the 99th percentile
    above it. The envelope is 500 ms wide and centred, so these problems say nothing about live use.
    """
    dataset = mmm.read_index(root)
    clips = [clip for clip in dataset.of(session) if clip.emg is not None]
    if not clips:
        raise InputError(f"{root}: session {session} has no EMG")
    methods = spaces or [name for name in METHODS if all(name in clip.parameters for clip in clips)]
    if not methods:
        raise InputError(f"{root}: no method has parameters for every clip of {session}")
    problems = []
    for space in methods:
        if space not in METHODS:
            raise InputError(f"parameter space '{space}'; known are {', '.join(METHODS)}")
        parts = [mmm.read_clip(clip, space) for clip in clips]
        if any(part.parameters is None or part.envelope is None for part in parts):
            raise InputError(f"{root}: {space} has no parameters for every clip of {session}")
        envelope = np.concatenate([part.envelope for part in parts if part.envelope is not None])
        face = np.concatenate([part.parameters.expression for part in parts if part.parameters is not None])
        segment = np.repeat(np.arange(len(parts)), [part.frames for part in parts])
        times = np.concatenate([np.arange(part.frames) / mmm.RATE_HZ for part in parts])
        starts = np.cumsum([0.0, *(part.frames / mmm.RATE_HZ + 2.0 for part in parts[:-1])])
        times = times + starts[segment]
        complete = np.isfinite(face).all(axis=1)
        rest = np.median(envelope, axis=0)
        above = np.sqrt(np.maximum(envelope**2 - rest**2, 0.0))
        muscles = np.clip(above / np.maximum(np.percentile(above, 99, axis=0), 1e-9), 0.0, 1.0)
        moving = face[complete].std(axis=0) > 1e-6
        names = tuple(n for n, moves in zip(METHODS[space].expression, moving, strict=True) if moves)
        problems.append(
            Problem(
                session,
                space,
                1 / mmm.RATE_HZ,
                times[complete],
                segment[complete],
                muscles[complete].astype(np.float32),
                (1e6 * envelope[complete]).astype(np.float32),
                face[complete][:, moving].astype(np.float32),
                FRIDLUND.muscles,
                names,
            )
        )
    return problems
