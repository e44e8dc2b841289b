"""Fits a mapping to a recorded session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal

from ..config import ConfigFile
from ..emg.calibration import Calibration
from ..emg.filters import design, profile_named
from ..emg.protocol import PROTOCOL, movement_named
from ..errors import InputError
from ..mapping.fit import FitSettings, HeldOutPrediction, fit
from ..mapping.mapping import Mapping
from ..mapping.series import Series, assemble
from ..mapping.suspect import swapped
from ..training.trainers import network_trainer
from .common import Progress
from .session import Session, load_session


@dataclass(frozen=True)
class FitResult:
    """What a fit came to.

    Parameters
    ----------
    mapping : Mapping
        Both directions.
    held_out : dict[str, HeldOutPrediction]
        Predictions of `emg2exp` and `exp2emg` on held-out rows.
    session : Session
        What it was fitted to.
    warnings : tuple[str, ...], optional
        What seems wrong with the recording, one sentence each.
    """

    mapping: Mapping
    held_out: dict[str, HeldOutPrediction]
    session: Session
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON.

        Returns
        -------
        dict[str, object]
            Figures and warnings.
        """
        mapping = self.mapping
        calibration = self.session.calibration
        return {
            "faces_from": self.session.faces_from,
            "seconds": mapping.statistics["seconds"],
            "scheme": mapping.scheme,
            "muscles": len(mapping.muscles),
            "profile": mapping.profile,
            "head_model": mapping.head_model,
            "lag_s": mapping.lag.lag_s if mapping.lag.grade else None,
            "lag_grade": mapping.lag.grade,
            "drift_ppm": mapping.lag.drift_ppm if mapping.lag.grade else None,
            "dead_channels": list(calibration.dead) if calibration else [],
            "weak_channels": list(calibration.weak) if calibration else [],
            "emg2exp": mapping.statistics["emg2exp"],
            "exp2emg": mapping.statistics["exp2emg"],
            "warnings": list(self.warnings),
        }


def filter_delay_s(profile: str, rate_hz: float = 2048.0) -> float:
    """Mean delay of an envelope: the centroid of what its band-pass and its smoother make of an impulse.

    This is the delay of movement that is slow beside the filter; the time to half of a step is a few ms less.

    Parameters
    ----------
    profile : str
        Name of the filter profile.
    rate_hz : float, optional
        Sampling rate.

    Returns
    -------
    float
        Seconds; 0 for a profile that is not causal.
    """
    settings = profile_named(profile)
    if not settings.causal:
        return 0.0
    filters = design(settings, rate_hz)
    impulse = np.zeros(round(2 * rate_hz))
    impulse[0] = 1.0
    times = np.arange(len(impulse)) / rate_hz
    energy = signal.sosfilt(filters.band, impulse) ** 2
    response = np.ones(filters.window) if filters.window else signal.sosfilt(filters.smooth, impulse)
    return float(energy @ times / energy.sum() + response @ times[: len(response)] / response.sum())


def warnings_of(session: Session, series: Series, delay_s: float = 0.0) -> tuple[str, ...]:
    """What seems wrong with a recording: movements missing or not usable, channels dead, weak or swapped.

    Parameters
    ----------
    session : Session
        The recording.
    series : Series
        The same on one time base.
    delay_s : float, optional
        By how much the face follows the envelopes.

    Returns
    -------
    tuple[str, ...]
        One sentence each.
    """
    warnings: list[str] = []
    calibration = session.calibration
    movements = {
        movement.name for marker in session.markers if (movement := movement_named(marker.label)) is not None
    }
    missing = [movement.name for movement in PROTOCOL if movement.name not in movements]
    if movements and missing:
        warnings.append(
            f"movements not in this recording: {', '.join(missing)}; what they show cannot be learnt (eifer calibrate)"
        )
    if calibration is not None:
        good = {take.movement for take in calibration.takes if take.accepted}
        bad = [take for take in calibration.takes if not take.accepted and take.movement not in good]
        warnings += [f"{take.movement}: {take.advice}" for take in bad if take.advice]
        if calibration.dead:
            warnings.append(
                f"no contact at {', '.join(calibration.dead)}: these channels are replaced by what the others make likely"
            )
        if calibration.weak:
            warnings.append(f"no movement raised {', '.join(calibration.weak)} above its rest")
    return tuple(warnings + [str(swap) for swap in swapped(series, delay_s)])


def series_of(session: Session) -> tuple[Series, np.ndarray[Any, np.dtype[np.float32]]]:
    """The session on one time base, and its envelopes (T, M) in V.

    Parameters
    ----------
    session : Session
        The recording, calibrated.

    Returns
    -------
    tuple[Series, ndarray of float32]
        The series and (T, M) envelopes in V.

    Raises
    ------
    InputError
        As `mapping.series.assemble`.
    """
    series = assemble(session.activity, session.faces, session.head.expression_names)
    return series, np.stack([item.envelope for item in session.activity])


def fit_session(
    session: Session, settings: FitSettings | None = None, progress: Progress | None = None
) -> FitResult:
    """Fit to a session.

    Parameters
    ----------
    session : Session
        Its activity is calibrated.
    settings : FitSettings, optional
        How to fit; None for the defaults.
    progress : Progress, optional
        See `common.Progress`.

    Returns
    -------
    FitResult
        The mapping and how good it is.

    Raises
    ------
    InputError
        There is too little to learn from.
    """
    series, envelope = series_of(session)
    shapes = np.stack(
        [state.shape for state in session.faces if not np.isnan(state.shape).any()]
        or [np.zeros(0, np.float32)]
    )
    head = session.head
    profile = session.activity[0].profile or (session.calibration.profile if session.calibration else "live")

    def fit_progress(stage: str, share: float) -> None:
        if progress is not None:
            progress(round(100 * share), 100, stage)

    mapping, held_out = fit(
        series,
        profile=profile,
        lower=head.expression_bounds[:, 0],
        upper=head.expression_bounds[:, 1],
        shape=np.median(shapes, axis=0).astype(np.float32),
        envelope=envelope,
        filter_delay_s=filter_delay_s(profile),
        settings=settings,
        train_network=network_trainer(settings.kind) if settings is not None else None,
        progress=fit_progress,
    )
    visible = mapping.lag.lag_s - filter_delay_s(profile) if mapping.lag.grade else 0.0
    return FitResult(mapping, held_out, session, warnings_of(session, series, visible))


def fit_recording(
    path: Path,
    out: Path | None,
    settings: FitSettings | None = None,
    *,
    calibration: Path | None = None,
    faces: str = "auto",
    config: ConfigFile | None = None,
    progress: Progress | None = None,
) -> FitResult:
    """Read a recording, calibrate it where no calibration is given, fit, and write the mapping.

    Parameters
    ----------
    path : Path
        The recording.
    out : Path or None
        The mapping file; must not exist; None for none.
    settings : FitSettings, optional
        How to fit; None for the defaults.
    calibration : Path, optional
        File of the participant; None makes one from the recording's own movements.
    faces : str, optional
        Topic, `auto` or `pictures`, see `session.load_session`.
    config : ConfigFile, optional
        Section `emg` says how raw EMG becomes activity; None for the defaults.
    progress : Progress, optional
        See `common.Progress`.

    Returns
    -------
    FitResult
        The mapping and how good it is.

    Raises
    ------
    InputError
        The file exists, or there is too little to learn from.
    """
    if out is not None and out.exists():
        raise InputError(f"{out}: exists; a mapping is never overwritten, give another --out")
    stored = Calibration.load(calibration) if calibration is not None else None
    session = load_session(path, faces=faces, config=config, progress=progress).calibrated(stored)
    fitted = fit_session(session, settings, progress)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        fitted.mapping.save(out)
    return fitted
