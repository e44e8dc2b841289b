"""The whole pipeline under a real ROS 2, seen by a subscriber in another process, in two runs of the
`pipeline` node.

`source:=performer`: the simulated participant is drawn in the same process, 640x480 at 30 Hz, 22 channels at
2048 Hz. From this run: `ros_face_hz`, `ros_activity_hz`, `ros_camera_hz`, `ros_performer_vision_hz`,
`ros_emg_lost`, `ros_performer_pipeline_cores`.

`source:=topic`: what a laboratory has. Another process publishes pictures and EMG drawn beforehand
(`bench/ros_player.py`) in place of the drivers; the pipeline process alone is measured. From this run:
`ros_vision_hz`, `ros_camera_to_face_p50_ms` and `_p99_ms` (from the stamp that the player gives a picture
before it publishes it to the arrival of its face at the subscriber), `ros_cores`, `ros_topic_emg_lost`.

`ros_performer_cores` is what the performer node takes alone.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import bench

from . import ros_player

NAMESPACE = "/eifer_bench"
DOMAIN = "77"
SETTLE_S = 5.0
READY_S = 180.0
FACES = {"face/fused": "ros_face_hz", "emg/activity": "ros_activity_hz"}


def run(quick: bool) -> None:
    """Print the figures, or why there are none."""
    try:
        import rclpy  # noqa: F401

        from eifer_msgs.msg import EmgChunk  # noqa: F401
    except ImportError as error:
        bench.note(
            f"ros: not measured, {error}; source a ROS 2 installation and a workspace with eifer_msgs (docs/ros.md)"
        )
        return
    os.environ.setdefault("ROS_DOMAIN_ID", DOMAIN)
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    seconds = 12.0 if quick else 60.0
    with _node("pipeline", f"{NAMESPACE}/pipeline") as process:
        seen = _watch(process.pid, seconds, "face/fused")
    bench.note(
        "ros: the following figures are of source:=performer, the simulated participant drawn in the pipeline's own process"
    )
    for topic, figure in {
        **FACES,
        "camera/camera_info": "ros_camera_hz",
        "face/vision": "ros_performer_vision_hz",
    }.items():
        bench.report(figure, len(seen.stamps[topic]) / seen.span_s, "Hz", len(seen.stamps[topic]))
    bench.report("ros_emg_lost", seen.lost_samples, "samples", seen.samples)
    bench.report("ros_performer_pipeline_cores", seen.cores, "cores", 1)
    with tempfile.TemporaryDirectory() as folder:
        ros_player.draw(Path(folder), 2.0 if quick else 5.0)
        chosen = ("-p", "components:=[reconstruction, emg, mapping]")
        with _node("pipeline", f"{NAMESPACE}/pipeline", *chosen) as process, _player(Path(folder)):
            lab = _watch(process.pid, seconds, "face/fused")
    bench.note(
        "ros: the following figures are of source:=topic, pictures and EMG published by another process; the pipeline's alone"
    )
    bench.report(
        "ros_vision_hz", len(lab.stamps["face/vision"]) / lab.span_s, "Hz", len(lab.stamps["face/vision"])
    )
    delays = 1e3 * np.asarray([arrival - stamp / 1e9 for stamp, arrival in lab.faces.items()])
    p50, p99 = (float(np.percentile(delays, percent)) if delays.size else None for percent in (50, 99))
    bench.report("ros_camera_to_face_p50_ms", p50, "ms", delays.size)
    bench.report("ros_camera_to_face_p99_ms", p99, "ms", delays.size)
    bench.report("ros_topic_emg_lost", lab.lost_samples, "samples", lab.samples)
    bench.report("ros_cores", lab.cores, "cores", 1)
    with _node("performer", f"{NAMESPACE}/performer") as process:
        alone = _watch(process.pid, seconds / 2, "emg/raw")
    bench.report("ros_performer_cores", alone.cores, "cores", 1)


@contextmanager
def _player(folder: Path) -> Iterator[None]:
    """The drivers' stand-in, a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "bench.ros_player", str(folder), NAMESPACE])
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@contextmanager
def _node(name: str, full_name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A node's own process, configured and activated by itself, ended by SIGINT."""
    start = f"import sys; from eifer_ros.nodes.{name} import main; sys.exit(main())"
    namespace = full_name.rsplit("/", 1)[0]
    log = Path(tempfile.gettempdir()) / f"eifer_bench_{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                start,
                "--ros-args",
                "-r",
                f"__ns:={namespace}",
                "-p",
                "autostart:=true",
                *arguments,
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    if process.returncode not in (0, -signal.SIGINT):
        bench.note(f"ros: {name} ended with {process.returncode}; its log is {log}")


def _cpu_s(pid: int) -> float:
    """Processor time a process has used, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Subscriptions:
    """What a subscriber received, by arrival on its own clock."""

    def __init__(self) -> None:
        self.stamps: dict[str, list[int]] = defaultdict(list)
        self.faces: dict[int, float] = {}
        self.samples = 0
        self.lost_samples = 0
        self.span_s = float("nan")
        self.cores = self.span_s
        self.counting = False
        self._next: int | None = None

    def chunk(self, message: Any) -> None:
        """An EMG chunk: what was lost at the device or on the wire shows in the running counter."""
        first = int(message.first_index)
        count = len(message.samples) // max(len(message.channels), 1)
        if self._next is not None and self.counting:
            self.lost_samples += max(first - self._next, 0)
            self.samples += count
        self._next = first + count

    def stamped(self, topic: str) -> Callable[[Any], None]:
        """Take messages of a topic as they came, so that the one who measures costs little: the stamp is what
        a header begins with.
        """

        def take(message: bytes) -> None:
            now = time.time()
            seconds, rest = struct.unpack_from("<iI", message, 4)
            key = seconds * 10**9 + rest
            if not self.counting:
                return
            self.stamps[topic].append(key)
            if topic == "face/vision":
                self.faces.setdefault(key, now)

        return take


def _watch(pid: int, seconds: float, awaited: str) -> _Subscriptions:
    """Subscribe, wait until `awaited` flows and has settled, then count for `seconds`."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import CameraInfo

    from eifer_msgs.msg import EmgChunk, FlameParameters, MuscleActivity

    seen = _Subscriptions()
    arrived: set[str] = set()
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("bench", namespace=NAMESPACE, context=context)

    def on(topic: str, take: Callable[[Any], None]) -> Callable[[Any], None]:
        def call(message: Any) -> None:
            arrived.add(topic)
            take(message)

        return call

    node.create_subscription(EmgChunk, "emg/raw", on("emg/raw", seen.chunk), QoSProfile(depth=200))
    for topic, kind in (
        ("camera/camera_info", CameraInfo),
        ("face/vision", FlameParameters),
        ("face/fused", FlameParameters),
        ("emg/activity", MuscleActivity),
    ):
        node.create_subscription(kind, topic, on(topic, seen.stamped(topic)), QoSProfile(depth=50), raw=True)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin_until(end: float, stop: Callable[[], bool] = lambda: False) -> None:
        while time.perf_counter() < end and not stop():
            executor.spin_once(timeout_sec=0.1)

    try:
        spin_until(time.perf_counter() + READY_S, lambda: awaited in arrived)
        if awaited not in arrived:
            raise RuntimeError(f"no message on {NAMESPACE}/{awaited} within {READY_S:g} s")
        spin_until(time.perf_counter() + SETTLE_S)
        seen.counting = True
        began, used = time.perf_counter(), _cpu_s(pid)
        spin_until(began + seconds)
        seen.span_s = time.perf_counter() - began
        seen.cores = (_cpu_s(pid) - used) / seen.span_s
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
    return seen
