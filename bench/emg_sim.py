"""The simulated participant's sEMG: speed of the motor-unit mode at full contraction, spectrum and
amplitudes.
"""

from __future__ import annotations

import time

import numpy as np
from scipy import signal

from eifer_ros.simulation.muscles import MuscleTimeline
from eifer_ros.simulation.participant import Participant
from eifer_ros.simulation.script import Script
from eifer_ros.simulation.semg import SAMPLE_BLOCK, Mode, Semg

from . import report

RATE_HZ = 2048.0


def _semg(program: str, mode: Mode, scheme: str = "fridlund", rate_hz: float = RATE_HZ) -> Semg:
    return Semg(
        7,
        0,
        MuscleTimeline(Script(7, program=program).excitation, 0.07),
        scheme=scheme,
        rate_hz=rate_hz,
        mode=mode,
    )


def _times_real_time(source: Semg, seconds: float) -> tuple[float, int]:
    """Simulated seconds per second of one core (processor time, so that other processes do not count); and
    samples made.
    """
    source.block(0)
    blocks = round(seconds * source.rate_hz / SAMPLE_BLOCK)
    start = time.process_time()
    for number in range(1, blocks + 1):
        source.block(number)
    return blocks * SAMPLE_BLOCK / source.rate_hz / (time.process_time() - start), blocks * SAMPLE_BLOCK


def run(quick: bool) -> None:
    """Print the figures. quick: a tenth of the length."""
    seconds = 8.0 if quick else 80.0
    report("sim_emg_x_realtime", *_figure(_times_real_time(_semg("maximum", "units"), seconds), "x"))
    report("sim_emg_fast_x_realtime", *_figure(_times_real_time(_semg("maximum", "fast"), seconds), "x"))

    full = _semg("maximum", "units")
    samples = np.concatenate(
        [full.block(number) for number in range(round(max(seconds, 20.0) * RATE_HZ / SAMPLE_BLOCK))]
    )
    frequency, power = signal.welch(samples, RATE_HZ, nperseg=2048, axis=0)
    band = (frequency >= 20) & (frequency <= 450)
    share = np.cumsum(power[band], axis=0) / power[band].sum(axis=0)
    median = frequency[band][(share < 0.5).sum(axis=0)]
    report("sim_emg_median_hz_lowest", float(median.min()), "Hz", len(samples))
    report("sim_emg_median_hz_highest", float(median.max()), "Hz", len(samples))

    participant = Participant(7, emg_mode="units", artefacts=("white",), program="calibration")
    bandpass = signal.butter(4, [20, 450], "band", fs=RATE_HZ, output="sos")
    wanted = {
        "Face-At-Rest": "rest",
        "Forehead": "forehead",
        "Smile-Closed": "smile",
        "Smile-Open": "broad_smile",
    }
    channels = {
        "rest": slice(0, 22),
        "forehead": slice(0, 4),
        "smile": slice(18, 20),
        "broad_smile": slice(18, 20),
    }
    for take in participant.script.takes(0.0, participant.script.cycle_s - 0.1):
        if take.label in wanted:
            name = wanted[take.label]
            held = signal.sosfilt(
                bandpass, participant.emg(take.start_s + 0.5, take.end_s - 0.8).astype(np.float64), axis=0
            )[1024:]
            report(
                f"sim_emg_{name}_uv",
                float(np.median(1e6 * held.std(axis=0)[channels[name]])),
                "uV",
                len(held),
            )


def _figure(measured: tuple[float, int], unit: str) -> tuple[float, str, int]:
    return measured[0], unit, measured[1]
