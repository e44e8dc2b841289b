"""sEMG: cost and delay of the streaming filters, against LibEMG and NeuroKit2 in the same run; then sources
and simulator.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import bench
from eifer_ros.emg.emg_processing import EmgConfig, EmgProcessing
from eifer_ros.emg.filters import EnvelopeFilter
from eifer_ros.types import NS, EmgChunk

RATE = 4096.0
CHANNELS = 64
HOP = 41
START = 1_800_000_000 * NS
PEER = Path(tempfile.gettempdir()) / "eifer_peer_libemg"
"""LibEMG pins numpy below 2, so it lives in an environment of its own."""

# LibEMG as its own online classes use it: the streamer puts new samples into shared memory,
# OnlineDataHandler.get_data filters the whole buffer, the window is rectified and averaged. The buffer is as
# short as a 200 ms window allows.
_LIBEMG = """
import json, sys, time
from multiprocessing import Lock
import numpy as np
from libemg.data_handler import OnlineDataHandler
from libemg.filtering import Filter
from libemg.shared_memory_manager import SharedMemoryManager
rate, channels, hop, seconds = 4096, 64, 41, float(sys.argv[1])
window = int(0.2 * rate)
items = [["emg", (window, channels), np.double, Lock()], ["emg_count", (1, 1), np.int32, Lock()]]
memory = SharedMemoryManager()
for item in items:
    memory.create_variable(*item)
handler = OnlineDataHandler(items)
chain = Filter(rate)
chain.install_filters({"name": "bandpass", "cutoff": [20, 450], "order": 4})
for k in range(1, 6):
    chain.install_filters({"name": "notch", "cutoff": 50 * k, "bandwidth": 50 * k / 30})
handler.install_filter(chain)
x = np.random.default_rng(0).standard_normal((int(rate * seconds), channels)) * 2e-5
handler.get_data(N=window)
begin = time.process_time()
for start in range(0, len(x) - hop, hop):
    block = x[start : start + hop]
    memory.modify_variable("emg", lambda old: np.vstack((block[::-1], old))[:window])
    memory.modify_variable("emg_count", lambda n: n + hop)
    data, count = handler.get_data(N=window)
    np.abs(data["emg"]).mean(axis=0)
print(json.dumps((time.process_time() - begin) / (len(x) / rate)))
for item in items:
    memory.variables[item[0]]["smh"].unlink()
"""


def signal(seconds: float, channels: int = CHANNELS) -> np.ndarray:
    """White noise of 20 uV on electrode offsets, float32 volts."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal((int(RATE * seconds), channels)) * 2e-5 + 0.01).astype(np.float32)


def filter_share(seconds: float) -> float:
    """CPU seconds per second of signal, profile `live`, 64 channels at 4096 Hz in hops of 10 ms."""
    x = signal(seconds)
    stream = EnvelopeFilter("live", RATE, CHANNELS)
    stream.push(x[:HOP], START)  # the numba kernels are compiled before the clock starts
    stream = EnvelopeFilter("live", RATE, CHANNELS)
    begin = time.process_time()
    for start in range(0, len(x), HOP):
        stream.push(x[start : start + HOP], START + round(start / RATE * NS))
    return (time.process_time() - begin) / seconds


def component_share(seconds: float) -> float:
    """The same for the whole component: montage, gaps, filters, contact quality, 64-muscle items at 100 Hz."""
    x = signal(seconds)
    names = tuple(f"ch{n}" for n in range(CHANNELS))
    component = EmgProcessing(EmgConfig())
    component.setup()
    chunks = [
        EmgChunk(START + round(i / RATE * NS), RATE, names, x[i : i + HOP], i) for i in range(0, len(x), HOP)
    ]
    for emission in component.handle("emg/raw", chunks[0]):
        del emission
    begin = time.process_time()
    for chunk in chunks[1:]:
        for emission in component.handle("emg/raw", chunk):
            del emission
    return (time.process_time() - begin) / seconds


def step_delay_ms(trials: int) -> float:
    """Time from the onset of white noise until the 100 Hz output, interpolated, has half its level; mean over
    `trials` channels.
    """
    rng = np.random.default_rng(1)
    step = 4096
    x = np.concatenate(
        [rng.standard_normal((step, trials)) * 1e-9, rng.standard_normal((3 * step, trials)) * 1e-4]
    )
    # the onset falls between output instants in turn, so that the grid does not quantise the result
    delays = []
    for shift in range(0, 10_000_000, 2_500_000):
        out = EnvelopeFilter("live", RATE, trials).push(x, START + shift)
        level = out.values.mean(axis=1)
        times = (out.stamps - START - shift) / NS - step / RATE
        half = level[times > 1.0].mean() / 2
        after = int(np.argmax((level >= half) & (times > 0)))
        share = (half - level[after - 1]) / (level[after] - level[after - 1])
        delays.append(times[after - 1] + share * (times[after] - times[after - 1]))
    return float(np.mean(delays)) * 1000


def libemg_share(seconds: float, quick: bool) -> float | str:
    """LibEMG's CPU seconds per second of the same signal, or why it could not be measured."""
    python = PEER / "bin" / "python"
    if not python.exists():
        if quick:
            return f"LibEMG is not in {PEER}; a run without --quick installs it"
        subprocess.run([sys.executable, "-m", "venv", str(PEER)], check=True)
        install = subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "libemg==2.0.3", "numpy<2"],
            capture_output=True,
            text=True,
            timeout=1800,
        )
        if install.returncode:
            return f"LibEMG could not be installed: {install.stderr.strip().splitlines()[-1]}"
    done = subprocess.run(
        [str(python), "-c", _LIBEMG, str(seconds)], capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        return f"LibEMG does not run here: {done.stderr.strip().splitlines()[-1]}"
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def neurokit_share(seconds: float, channels: int) -> float | str:
    """NeuroKit2's CPU seconds per second of signal for 64 channels; it works offline on one channel at a
    time.
    """
    if importlib.util.find_spec("neurokit2") is None:
        return "neurokit2 is not installed"
    import neurokit2

    x = signal(seconds, channels).astype(np.float64)
    begin = time.process_time()
    for channel in x.T:
        neurokit2.emg_amplitude(neurokit2.emg_clean(channel, sampling_rate=int(RATE)))
    return (time.process_time() - begin) / seconds * CHANNELS / channels


def run(quick: bool) -> None:
    """Every figure of the sEMG area."""
    seconds = 5.0 if quick else 30.0
    share = filter_share(seconds)
    bench.report("emg64_core_pct", share * 100, "% of a core", int(seconds * RATE / HOP))
    bench.report(
        "emg64_component_core_pct", component_share(seconds) * 100, "% of a core", int(seconds * RATE / HOP)
    )
    trials = 100 if quick else 1000
    bench.report("envelope_t50_ms", step_delay_ms(trials), "ms", trials * 4)
    for figure, peer in (
        ("emg_speed_ratio_libemg", libemg_share(2.0 if quick else 10.0, quick)),
        ("emg_speed_ratio_neurokit2", neurokit_share(5.0, 2 if quick else 8)),
    ):
        if isinstance(peer, str):
            bench.note(peer)
            bench.report(figure, None, "x", 0)
        else:
            bench.report(figure, peer / share, "x", int(seconds * RATE / HOP))
    for area, names in (
        ("emg_sources", ("lsl",)),
        ("emg_sim", ("sim_emg_x_realtime", "spectrum")),
        ("emg_camera", ("sim_camera_fps",)),
    ):
        if importlib.util.find_spec(f"bench.{area}") is None:
            bench.note(f"bench/{area}.py is not there")
            continue
        module = importlib.import_module(f"bench.{area}")
        found = (
            [module.run]
            if hasattr(module, "run")
            else [getattr(module, name) for name in names if hasattr(module, name)]
        )
        if not found:
            bench.note(f"bench/{area}.py has neither run nor {', '.join(names)}")
        for function in found:
            function(quick)


if __name__ == "__main__":
    run("--quick" in sys.argv)
