"""A simulated session as a recording, truth included."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from ..recording.writer import BagWriter
from ..simulation.performer import PerformerConfig, simulate
from .common import Progress


def simulate_recording(
    out: Path,
    minutes: float,
    config: PerformerConfig,
    *,
    camera: bool = True,
    emg: bool = True,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Write a performance of the simulated participant, truth included.

    Parameters
    ----------
    out : Path
        The bag; must not exist.
    minutes : float
        Length.
    config : PerformerConfig
        Who performs what.
    camera : bool, optional
        With pictures and true faces.
    emg : bool, optional
        With EMG and true muscles.
    progress : Progress, optional
        See `common.Progress`.
    stop : threading.Event, optional
        Set it from another thread to end; what was written is kept.

    Returns
    -------
    dict[str, object]
        `bag`, `written` (items by port) and `bytes`.
    """

    def share_progress(share: float) -> None:
        if progress is not None:
            progress(round(60 * minutes * share), round(60 * minutes), "seconds")

    session = {
        "participant": f"simulated {config.seed}",
        "seed": config.seed,
        "session": config.session,
        "sensors": config.sensors,
        "lag_s": config.lag_s,
        "scheme": config.scheme,
        "emg_mode": config.emg_mode,
    }
    with BagWriter(out, session=session, wait=True) as bag:
        for emission in simulate(minutes, config, progress=share_progress, camera=camera, emg=emg):
            bag.write(*emission)
            if stop is not None and stop.is_set():
                break
    return {"bag": str(out), "written": bag.stats.written, "bytes": bag.stats.bytes}
