"""LSL at 64 channels x 4000 Hz from another process: age of samples, evenness of stamps, losses.

The sender pushes 8 samples every 2 ms, runs 200 ppm slow and stamps each push with an error of 8 ms (normal).
It numbers its samples and tells when it started; both processes read the same steady clock, so the true time
of every sample is known.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from . import note, report

RATE_HZ = 4000.0
CHANNELS = 64
BURST = 8
PPM = 200.0
JITTER_S = 8e-3
SETTLE_S = 10.0
"""The line through the stamps is judged from here on; age and losses count from the first sample."""


@dataclass(frozen=True)
class Run:
    """newest_s: age of the newest sample of each chunk when it came out. every_s: of every sample.

    error_s: stamp against true time, per sample after SETTLE_S. raw_error_s: the same before correction.
    lost: sample numbers that never came. counted: losses the source itself reported.
    """

    newest_s: np.ndarray
    every_s: np.ndarray
    error_s: np.ndarray
    raw_error_s: np.ndarray
    lost: int
    counted: int
    samples: int


def send(name: str, seconds: float) -> None:
    """The sender; runs in a process of its own and ends when its standard input closes."""
    import time

    import pylsl

    rng = np.random.default_rng(0)
    outlet = pylsl.StreamOutlet(
        pylsl.StreamInfo(name, "EMG", CHANNELS, RATE_HZ, "float32", name), max_buffered=60
    )
    print("ready", flush=True)
    while not outlet.have_consumers():
        time.sleep(0.005)
    period = (1 + PPM * 1e-6) / RATE_HZ
    start = pylsl.local_clock() + 0.2
    print(repr(start), flush=True)
    block = rng.normal(0, 20, (BURST, CHANNELS)).astype(np.float32)
    for first in range(0, int(seconds * RATE_HZ), BURST):
        block[:, 0] = np.arange(first, first + BURST)
        last = start + (first + BURST - 1) * period
        time.sleep(max(0.0, last - pylsl.local_clock()))
        outlet.push_chunk(block, last + rng.normal(0, JITTER_S))
    sys.stdin.read()


@lru_cache(maxsize=1)
def measure(seconds: float) -> Run:
    """One run of `seconds` with the source's default parameters."""
    import pylsl

    from eifer_ros.emg.sources.lsl import LslConfig, LslSource

    name = f"eifer-bench-{pylsl.local_clock():.6f}"
    sender = subprocess.Popen(
        [sys.executable, "-m", "bench.emg_sources", name, str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert sender.stdout is not None
    assert sender.stdin is not None
    sender.stdout.readline()
    source = LslSource(LslConfig(stream=name))
    source.setup()
    out: list[tuple[float, np.ndarray, int, np.ndarray, int]] = []
    end = int(seconds * RATE_HZ) // BURST * BURST
    for emission in source.produce():
        if emission.port != "emg/raw":
            continue
        now = pylsl.local_clock()
        chunk = emission.item
        numbers = np.round(chunk.samples[:, 0].astype(np.float64) * 1e6).astype(np.int64)
        out.append((now, numbers, chunk.stamp, chunk.raw_stamps, chunk.lost))
        if numbers[-1] >= end - 1:
            source.stop()
    start = float(sender.stdout.readline())
    sender.stdin.close()
    sender.wait(10)
    source.close()
    period = (1 + PPM * 1e-6) / RATE_HZ
    numbers = np.concatenate([o[1] for o in out])
    true = start + numbers * period
    base = out[0][2]
    stamps = np.concatenate([(o[2] - base) / 1e9 + np.arange(len(o[1])) / RATE_HZ for o in out])
    error = stamps - (true - true[0])
    raw = np.concatenate([o[3] for o in out]) - true
    settled = numbers > SETTLE_S * RATE_HZ
    return Run(
        np.asarray([o[0] - (start + o[1][-1] * period) for o in out]),
        np.concatenate([o[0] - (start + o[1] * period) for o in out]),
        error[settled],
        raw[settled],
        int(numbers[-1] - numbers[0] + 1 - len(numbers)),
        sum(o[4] for o in out),
        len(numbers),
    )


def lsl_age_ms(run: Run) -> None:
    """How long the newest sample of a chunk has existed when the chunk comes out; and the same for every
    sample.
    """
    report(
        "lsl_age_ms",
        float(np.median(run.newest_s) * 1e3),
        "ms, median age of the newest sample of a chunk",
        len(run.newest_s),
    )
    report(
        "lsl_age_p99_ms",
        float(np.percentile(run.newest_s, 99) * 1e3),
        "ms, 99th percentile",
        len(run.newest_s),
    )
    report(
        "lsl_age_all_ms",
        float(np.median(run.every_s) * 1e3),
        "ms, median age of all samples at 5 ms chunks",
        len(run.every_s),
    )


def lsl_dejitter_sd_ms(run: Run) -> None:
    """Standard deviation of the corrected stamps about the true times, and of the raw ones."""
    report("lsl_dejitter_sd_ms", float(np.std(run.error_s) * 1e3), "ms", len(run.error_s))
    report("lsl_raw_jitter_sd_ms", float(np.std(run.raw_error_s) * 1e3), "ms", len(run.raw_error_s))


def lsl_lost(run: Run) -> None:
    """Samples that were sent and never came out, by their numbers."""
    report("lsl_lost", run.lost, "samples", run.samples)
    if run.counted != run.lost:
        note(f"the source counted {run.counted} lost samples, the sample numbers say {run.lost}")


def run(quick: bool) -> None:
    """All figures; 5 minutes of streaming, 20 s with `quick`."""
    try:
        import pylsl  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        note(f"LSL figures need pylsl with liblsl: {error}")
        return
    measured = measure(20.0 if quick else 300.0)
    lsl_age_ms(measured)
    lsl_dejitter_sd_ms(measured)
    lsl_lost(measured)


if __name__ == "__main__":
    send(sys.argv[1], float(sys.argv[2]))
