"""Everything at once, in one process: a camera, an amplifier in another process, mapping and fusion, an avatar,
a disarmed animatronic face, the page and a recording.

The camera is a video of the simulated participant that plays by the clock, the amplifier an LSL outlet with
the participant's sEMG (22 channels, 2048 Hz), the avatar a VMC receiver in this process. It tells how often a
face arrives and whether a sample was lost. `python -m bench live [--quick]`.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from . import note, report

SEED = 7
RATE_HZ = 2048.0
BURST = 32
DRAWN_S = 4.0
"""So much of the participant is drawn; the video repeats it."""
SETTLE_S = 2.0
"""Rates are taken from here on: the devices are found one after the other."""
NAME = "eifer-bench-live"


@dataclass
class Stage:
    """Files of a participant: a mapping, a calibration, a video of the face, and sEMG to stream."""

    mapping: Path
    calibration: Path
    video: Path
    semg: Path


@dataclass
class Flagship:
    """What came of a run. summary: of `eifer run --json`. arrivals_s: when a face reached the avatar, s.

    sent: samples that the outlet pushed while somebody listened.
    """

    summary: dict[str, Any]
    arrivals_s: list[float] = field(default_factory=list)
    sent: int = 0

    @property
    def face_hz(self) -> float:
        """Rate of faces at the receiver, from `SETTLE_S` on."""
        steady = self.steady
        return (len(steady) - 1) / (steady[-1] - steady[0]) if len(steady) > 1 else 0.0

    @property
    def steady(self) -> np.ndarray:
        """Arrivals from `SETTLE_S` after the first face on."""
        times = np.asarray(self.arrivals_s)
        return times[times >= times[0] + SETTLE_S] if len(times) else times


def stage(folder: Path, seconds: float) -> Stage:
    """Make the participant's files: fitted to one session, performed in another."""
    from eifer_ros.evaluation import simulated
    from eifer_ros.mapping.fit import FitSettings
    from eifer_ros.simulation.performer import PerformerCamera, PerformerConfig, PerformerEmg
    from eifer_ros.types import EmgChunk, Frame
    from eifer_ros.workflows.calibrate import calibrate_recording
    from eifer_ros.workflows.fit import fit_recording

    made = Stage(folder / "mapping.npz", folder / "c.yaml", folder / "face.mp4", folder / "semg.npy")
    base = PerformerConfig(seed=SEED, speed=0, rate_hz=RATE_HZ, program="calibration")
    recording = simulated.write(folder / "calibration", base, 62.0)
    calibrate_recording(recording, made.calibration)
    fit_recording(recording, made.mapping, FitSettings(), calibration=made.calibration, faces=simulated.FACE)
    second = base.model_copy(update={"session": 1, "program": "emotions", "duration_s": seconds + 20.0})
    emg = PerformerEmg(second)
    emg.setup()
    chunks = [item.samples for _, item in emg.produce() if isinstance(item, EmgChunk)]
    np.save(made.semg, np.concatenate(chunks))
    camera = PerformerCamera(second.model_copy(update={"duration_s": DRAWN_S}))
    camera.setup()
    frames = [item.image for _, item in camera.produce() if isinstance(item, Frame)]
    writer = cv2.VideoWriter(str(made.video), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, frames[0].shape[1::-1])
    for number in range(int(30 * (seconds + 5.0))):
        # there and back again, so that the face does not jump
        place = number % (2 * len(frames))
        frame = frames[min(place, 2 * len(frames) - 1 - place)]
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return made


def outlet(name: str, semg: str) -> None:
    """The amplifier; runs in a process of its own until its standard input closes or the sEMG ends."""
    import pylsl

    samples = np.ascontiguousarray(np.load(semg) * 1e6, np.float32)
    info = pylsl.StreamInfo(name, "EMG", samples.shape[1], RATE_HZ, "float32", f"id-{name}")
    channels = info.desc().append_child("channels")
    for number in range(samples.shape[1]):
        channel = channels.append_child("channel")
        channel.append_child_value("label", f"F{number + 1}")
        channel.append_child_value("unit", "microvolts")
    stream = pylsl.StreamOutlet(info, max_buffered=60)
    print("ready", flush=True)
    closed = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()
    stream.wait_for_consumers(120.0)
    start = pylsl.local_clock()
    sent = 0
    while sent + BURST <= len(samples) and not closed.is_set():
        due = start + (sent + BURST) / RATE_HZ
        closed.wait(max(0.0, due - pylsl.local_clock()))
        stream.push_chunk(samples[sent : sent + BURST].tolist(), due - 1.0 / RATE_HZ)
        sent += BURST
    print(sent, flush=True)


def flagship(stage: Stage, out: Path, seconds: float, *options: str) -> Flagship:
    """Run `eifer run` with everything for so many seconds."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(0.2)
    ended = threading.Event()
    arrivals: list[float] = []

    def listen() -> None:
        while not ended.is_set():
            try:
                packet = receiver.recv(65536)
            except TimeoutError:
                continue
            if b"/VMC/Ext/Blend/Apply" in packet:
                arrivals.append(time.monotonic())

    sender = subprocess.Popen(
        [sys.executable, "-c", f"from bench.live import outlet; outlet({NAME!r}, {str(stage.semg)!r})"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    listener = threading.Thread(target=listen)
    try:
        assert sender.stdout is not None and sender.stdin is not None
        sender.stdout.readline()
        listener.start()
        command = [
            *(sys.executable, "-m", "eifer_ros.cli", "run"),
            *("--camera", f"video:{stage.video}", "--emg", f"lsl:{NAME}"),
            *("--mapping", str(stage.mapping), "--calibration", str(stage.calibration)),
            *("--avatar", f"vmc://127.0.0.1:{receiver.getsockname()[1]}?rate=200"),
            *("--animatronic", "example_face.yaml", "--record", str(out)),
            *("--duration", str(seconds), "--json", *options),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"eifer run ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        sender.stdin.close()
        sent = int(sender.stdout.read().split()[-1])
    finally:
        ended.set()
        if listener.is_alive():
            listener.join()
        sender.kill()
        sender.wait()
        receiver.close()
    return Flagship(json.loads(done.stdout), arrivals, sent)


def run(quick: bool) -> None:
    """Print the figures."""
    seconds = 15.0 if quick else 60.0
    with tempfile.TemporaryDirectory() as folder:
        note(f"live: everything in one process for {seconds:.0f} s")
        files = stage(Path(folder), seconds)
        result = flagship(files, Path(folder) / "bag", seconds, "--view")
        gaps = np.diff(result.steady)
        count = len(result.steady)
        report("live_face_at_avatar_hz", result.face_hz, "Hz", count)
        report("live_face_gap_p99_ms", 1e3 * float(np.percentile(gaps, 99)), "ms", len(gaps))
        report("live_emg_lost", result.summary["emg_lost"], "samples", result.sent)
        report("live_vision_hz", result.summary["items"].get("face/vision", 0) / seconds, "Hz", count)
        report("live_picture_to_face_p50_ms", result.summary["frame_to_face_p50_ms"], "ms", count)
