"""Data in and out: round trips, a batch on one and two workers, a worker killed mid-run, and what a real
corpus would cost.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import bench
from eifer_ros.emg.sources.recording import EmgRecording, even_stamps
from eifer_ros.emg.sources.text_formats import write_csv
from eifer_ros.evaluation.simulated import write as write_simulated
from eifer_ros.head.model import load_head
from eifer_ros.recording.exports.bids import physical_limits
from eifer_ros.recording.reader import read
from eifer_ros.recording.writer import BagWriter
from eifer_ros.simulation.performer import PerformerConfig
from eifer_ros.types import ARKIT_52, NS, EmgChunk, FaceState
from eifer_ros.workflows.batch import BatchConfig, BatchResult, batch
from eifer_ros.workflows.batch_plan import plan
from eifer_ros.workflows.exports import export
from eifer_ros.workflows.imports import import_emg
from eifer_ros.workflows.simulate import simulate_recording

PEOPLE = 37
SESSIONS = 4
MINUTES = 7.0
"""MaM: 36 participants and the author, four sessions; eleven movements of 22 s and 24 emotions of 6 s are 6.4
minutes, rounded up.
"""
CHANNELS = 22
RATE = 4096.0


def round_trips(folder: Path, quick: bool) -> None:
    """Worst differences after writing and reading, in the unit that the format can hold."""
    rows = 10_000 if quick else 200_000
    rng = np.random.default_rng(0)
    samples = (rng.standard_normal((rows, CHANNELS)) * 10.0 ** rng.uniform(-6, -3, CHANNELS)).astype(
        np.float32
    )
    names = tuple(f"F{n}" for n in range(1, CHANNELS + 1))
    recording = EmgRecording(
        folder / "x.csv", samples, even_stamps(rows, 1000.0, 1_700_000_000 * NS), 1000.0, names
    )
    write_csv(recording.path, recording)
    import_emg(recording.path, folder / "csv")
    back = _samples(folder / "csv")
    bench.report(
        "roundtrip_csv_bag_error_v",
        float(np.abs(back - samples).max()),
        "V, greatest difference",
        samples.size,
    )
    export(folder / "csv", "bids", folder / "bids", subject="1")
    import_emg(folder / "bids/sub-1/emg/sub-1_task-facial_emg.bdf", folder / "bdf")
    steps = np.array([np.subtract(*physical_limits(column)[::-1]) * 1e-6 / 2**24 for column in samples.T])
    difference = np.abs(_samples(folder / "bdf")[:rows].astype(np.float64) - samples) / steps
    unit = "steps of 24 bits over the channel's range; rounding is 0.5, float32 in memory the rest"
    bench.report("roundtrip_bdf_error_steps", float(difference.max()), unit, samples.size)
    try:
        from eifer_ros.recording.exports.tables import read_parquet

        export(folder / "csv", "parquet", folder / "parquet", topics=("emg/raw",))
        table = read_parquet(folder / "parquet" / "emg_raw.parquet")
        found = np.stack([table[f"{name} [V]"] for name in names], axis=1)
        bench.report(
            "roundtrip_parquet_error_v",
            float(np.abs(found - samples).max()),
            "V, greatest difference",
            samples.size,
        )
    except Exception as error:
        bench.note(f"Parquet: {error}")
        bench.report("roundtrip_parquet_error_v", None, "V", 0)
    faces(folder, quick)


def faces(folder: Path, quick: bool) -> None:
    """Faces through FLAME sequence and Live Link CSV, against what was recorded."""
    from eifer_ros.recording.exports.flame import load_sequence

    config = PerformerConfig(seed=5, program="emotions", rate_hz=500.0)
    write_simulated(folder / "faces", config, 4.0 if quick else 10.0)
    states = [
        item for _, _, item in read(folder / "faces", topics=["truth/face"]) if isinstance(item, FaceState)
    ]
    truth = np.stack([state.expression for state in states])
    export(folder / "faces", "flame", folder / "faces.npz")
    found = load_sequence(folder / "faces.npz")["expression"]
    bench.report("roundtrip_sequence_error", float(np.abs(found - truth).max()), "coefficient", truth.size)
    export(folder / "faces", "livelink", folder / "faces.csv")
    lines = (folder / "faces.csv").read_text().splitlines()
    head = lines[0].split(",")
    where = [head.index(name[0].upper() + name[1:]) for name in ARKIT_52]
    table = np.array([[float(line.split(",")[k]) for k in where] for line in lines[1:]])
    bench.report(
        "roundtrip_livelink_error", float(np.abs(table - np.clip(truth, 0, 1)).max()), "weight", table.size
    )
    start = time.perf_counter()
    result = export(folder / "faces", "gltf", folder / "faces.glb")
    bench.report(
        "gltf_export_s",
        time.perf_counter() - start,
        f"s for {result['frames']} frames, {load_head().id}",
        int(result["frames"]),
    )


def _samples(bag: Path) -> np.ndarray:
    return np.concatenate(
        [item.samples for _, _, item in read(bag, topics=["emg/raw"]) if isinstance(item, EmgChunk)]
    )


# ---- batch ------------------------------------------------------------------------------------------------------------------


def corpus(folder: Path, count: int, participants: int = 4, seconds: float = 20.0) -> Path:
    """`count` recordings of `participants` simulated persons: each person is simulated once and copied, the work on
    each copy is the same.
    """
    folder.mkdir()
    originals = []
    for participant in range(min(participants, count)):
        config = PerformerConfig(seed=300 + participant, program="calibration", rate_hz=1000.0)
        originals.append(write_simulated(folder / f"p{participant}", config, seconds))
    for k in range(len(originals), count):
        source = originals[k % len(originals)]
        shutil.copytree(source, folder / f"p{k}")
        (folder / f"p{k}" / f"{source.name}.mcap").rename(folder / f"p{k}" / f"p{k}.mcap")
        text = (folder / f"p{k}" / "metadata.yaml").read_text()
        (folder / f"p{k}" / "metadata.yaml").write_text(text.replace(f"{source.name}.mcap", f"p{k}.mcap"))
    return folder


def configured(bags: Path, out: Path, workers: int) -> BatchConfig:
    """Fit and evaluate every recording."""
    return BatchConfig(
        recordings=[str(bags / "p*")], out=str(out), workers=workers, settings={"fit": {"kind": "ridge"}}
    )


def timed(config: BatchConfig) -> tuple[float, BatchResult]:
    """Seconds from the first result to the last, over one result less: starting the workers is not part of
    it.
    """
    moments: list[float] = []
    result = batch(config, progress=lambda done, total, name: moments.append(time.perf_counter()))
    return (moments[-1] - moments[0]) / max(len(moments) - 1, 1), result


def speedup(folder: Path, quick: bool) -> None:
    """Recordings per second with two workers over one."""
    count = 4 if quick else 40
    bags = corpus(folder / "corpus", count, participants=1 if quick else 4)
    rates = {}
    for workers in (1, 2):
        rates[workers], result = timed(configured(bags, folder / f"out{workers}", workers))
        if result.failures:
            bench.note(f"{workers} workers: {result.failures}")
    load = os.getloadavg()[0]
    bench.report(
        "batch_speedup_2",
        rates[1] / rates[2],
        f"x, recordings per second with 2 workers over 1; load {load:.1f}",
        count,
    )
    bench.report(
        "batch_recording_s",
        rates[1],
        "s per recording of 20 s, one worker: filter, calibrate, fit both ways, judge",
        count,
    )
    lost(folder, bags, count)


def lost(folder: Path, bags: Path, count: int) -> None:
    """A worker is killed after the first result; what is missing then, and what a second run does again."""
    killed: list[int] = []

    def kill(done: int, total: int, name: str) -> None:
        for note in [] if killed else (folder / "killed" / "work").glob("*/running.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                os.kill(json.loads(note.read_text())["pid"], signal.SIGKILL)
                killed.append(1)
                return

    config = configured(bags, folder / "killed", 2)
    result = batch(config, progress=kill)
    missing = count - sum(bool(row["ok"]) for row in result.rows)
    bench.report(
        "batch_lost",
        missing if killed else None,
        f"recordings without a result after {result.deaths} killed worker(s)",
        count,
    )
    again = batch(config.model_copy(update={"workers": 0}))
    bench.report("batch_done_twice", again.did, "steps done again by a second run", 4 * count)


# ---- plan -------------------------------------------------------------------------------------------------------------------


def unit_costs(folder: Path, quick: bool) -> tuple[dict[str, float], float, float]:
    """Seconds of one core per minute of recording by step, peak memory of a worker in MB, and minutes of the
    recording it had then.

    import: a BDF of 22 channels at 4096 Hz. The others: one simulated session with pictures of 640 x 480 at
    30 frames/s.
    """
    import pyedflib

    seconds = 10 if quick else 60
    path = folder / "raw.bdf"
    with pyedflib.EdfWriter(str(path), CHANNELS, file_type=pyedflib.FILETYPE_BDFPLUS) as writer:
        for k in range(CHANNELS):
            writer.setSignalHeader(
                k,
                {
                    "label": f"F{k + 1}",
                    "dimension": "uV",
                    "sample_frequency": RATE,
                    "physical_min": -5000,
                    "physical_max": 5000,
                    "digital_min": -8388608,
                    "digital_max": 8388607,
                    "transducer": "",
                    "prefilter": "",
                },
            )
        noise = np.random.default_rng(0).normal(0, 20, int(RATE) * seconds)
        writer.writeSamples([noise] * CHANNELS)
    start = time.perf_counter()
    import_emg(path, folder / "raw")
    costs = {"import": (time.perf_counter() - start) * 60 / seconds}
    fps, length = (5.0, 20.0) if quick else (30.0, 60.0)
    rate = (
        RATE / 4 if quick else RATE
    )  # filtering is little of it, simulating the rate most of the time this takes
    config = PerformerConfig(
        seed=7, program="calibration", rate_hz=rate, fps=fps, chunk_samples=256, sensors=False
    )
    simulate_recording(folder / "session", length / 60, config)
    _without_truth(folder / "session", folder / "real")
    # in a worker of its own, so that the memory is that of a worker
    (row,) = batch(BatchConfig(recordings=[str(folder / "real")], out=str(folder / "out"), workers=1)).rows
    if row["error"]:
        bench.note(f"unit costs: {row['error']}")
    for step in ("reconstruct", "fit", "evaluate"):
        took = row[f"{step}_s"]
        costs[step] = (
            float("nan")
            if took is None
            else took * 60 / length * (30.0 / fps if step == "reconstruct" else 1.0)
        )
    return costs, float(row["peak_mb"]), length / 60


def _without_truth(source: Path, out: Path) -> None:
    """As a real recording: pictures, raw EMG, movements; the faces have to be found."""
    with BagWriter(out, wait=True) as bag:
        for _, topic, item in read(source):
            if topic == "truth/movement":
                bag.write("markers", item)
            elif not topic.startswith("truth/"):
                bag.write(topic, item)


def paper_plan(folder: Path, quick: bool) -> None:
    """Hours and memory of 37 participants x 4 sessions on 1, 10 and 100 workers."""
    costs, peak, measured = unit_costs(folder, quick)
    for step, seconds in costs.items():
        bench.report(f"unit_{step}_s_per_min", _known(seconds), "s of one core per minute of recording", 1)
    bench.report("unit_peak_mb", peak, "MB, greatest resident memory of a worker", 1)
    for row in plan(costs, PEOPLE * SESSIONS, MINUTES, peak, measured_min=measured):
        what = f"for {PEOPLE} x {SESSIONS} sessions of {MINUTES:g} min"
        bench.report(f"plan_hours_{row.workers}", _known(row.hours), f"h {what}", PEOPLE * SESSIONS)
        bench.report(
            f"plan_memory_gb_{row.workers}",
            row.memory_gb,
            f"GB {what}, all workers together",
            PEOPLE * SESSIONS,
        )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def run(quick: bool) -> None:
    """Every figure of the data area."""
    with tempfile.TemporaryDirectory(prefix="eifer_bench_") as name:
        folder = Path(name)
        for part in (round_trips, speedup, paper_plan):
            (folder / part.__name__).mkdir()
            part(folder / part.__name__, quick)


if __name__ == "__main__":
    run("--quick" in sys.argv)
