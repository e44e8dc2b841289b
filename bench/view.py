"""The live page and the report: frames a second, server load, stamp to pixels, memory, and the cost of a
report.

The page is looked at in a headless Chromium without a graphics card, which is the harder path: the server
draws the heads.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np

import bench
from eifer_ros.emg.montage import FRIDLUND
from eifer_ros.head import projection
from eifer_ros.head.model import load_head
from eifer_ros.recording.writer import BagWriter
from eifer_ros.simulation.muscles import ACTUATORS, muscle_index, reference_matrix, saturate
from eifer_ros.simulation.script import FUNCTIONAL
from eifer_ros.types import F64, NS, FaceOrigin, FaceState, Frame, Marker, MuscleActivity, Stamp
from eifer_ros.viewer.server import Viewer
from eifer_ros.viewer.session_report import write_report
from eifer_ros.viewer.view_config import ViewConfig

T0 = 1_790_000_000 * NS


class Scene:
    """Faces, muscles and pictures of a participant who goes through the movements, at no cost worth speaking
    of.
    """

    def __init__(self, rate_s: float = 3.0) -> None:
        self._head = load_head()
        self._rate_s = rate_s
        rng = np.random.default_rng(0)
        self._noise = rng.uniform(2e-6, 6e-6, (997, len(FRIDLUND.muscles))).astype(np.float32)
        coarse = rng.integers(40, 200, (30, 44, 3), np.uint8)
        self._texture = np.asarray(cv2.resize(coarse, (704, 480), interpolation=cv2.INTER_CUBIC), np.uint8)
        self._names = list(FUNCTIONAL)
        self._pulls = [self._pull(name) for name in self._names]
        self._faces = [saturate(reference_matrix() @ pull) for pull in self._pulls]
        self._shape = np.zeros(self._head.shape_size, np.float32)
        self._std = np.full(self._head.expression_size, 0.05, np.float32)

    def _pull(self, name: str) -> F64:
        out = np.zeros(len(ACTUATORS))
        for muscle, level in FUNCTIONAL[name].items():
            indices = (
                [ACTUATORS.index(muscle)]
                if muscle in ACTUATORS
                else [muscle_index(muscle, side) for side in ("right", "left")]
            )
            out[indices] = level
        return out

    def movement(self, t: float) -> tuple[int, float]:
        """Which movement, and how strong."""
        index = int(t / self._rate_s)
        return index % len(self._names), float(np.sin(np.pi * (t / self._rate_s - index)) ** 2)

    def face(self, stamp: Stamp, t: float, origin: FaceOrigin) -> FaceState:
        which, share = self.movement(t)
        zero = np.zeros(3, np.float32)
        return FaceState(
            stamp,
            self._head.id,
            origin,
            self._shape,
            (share * self._faces[which]).astype(np.float32),
            self._std,
            zero,
            zero,
            np.zeros((2, 3), np.float32),
            np.zeros(2, np.float32),
            projection.facing_pose(0.6, yaw=0.2 * np.sin(t)),
            0.9,
        )

    def muscles(self, stamp: Stamp, t: float) -> MuscleActivity:
        which, share = self.movement(t)
        level = (share * self._pulls[which][: len(FRIDLUND.muscles)]).astype(np.float32)
        envelope = self._noise[int(100 * t) % 997] + 180e-6 * level
        return MuscleActivity(
            stamp,
            "fridlund",
            FRIDLUND.muscles,
            envelope,
            level,
            np.full(len(level), 0.95, np.float32),
            profile="live",
        )

    def frame(self, stamp: Stamp, t: float) -> Frame:
        left = int(30 * t) % 60
        return Frame(stamp, np.ascontiguousarray(self._texture[:, left : left + 640]))


def _feed(viewer: Viewer, scene: Scene, stop: threading.Event) -> None:
    """100 Hz of fused faces and muscles, 30 Hz of the rest, as a running pipeline taps them."""
    begin = time.monotonic()
    step = 0
    while not stop.is_set():
        t = step / 100
        now = time.time_ns()
        viewer.take("face/fused", scene.face(now, t, FaceOrigin.FUSED))
        viewer.take("face/emg", scene.face(now, t, FaceOrigin.EMG))
        viewer.take("emg/activity", scene.muscles(now, t))
        if step % 3 == 0:
            viewer.take("muscles/estimated", scene.muscles(now, t))
            viewer.take("camera/image_raw", scene.frame(now, t))
        step += 1
        stop.wait(max(0.0, begin + step / 100 - time.monotonic()))


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    return pages * resource.getpagesize() / 1e6


def _page(quick: bool) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "test" / "viewer"))
    import chromium  # the browser that the tests drive

    if chromium.executable() is None:
        bench.note("no Chromium: view_fps, view_core_pct, view_latency_ms not measured")
        for figure, unit in (
            ("view_fps", "Hz"),
            ("view_core_pct", "%"),
            ("view_latency_ms", "ms"),
            ("view_memory_mb_per_min", "MB/min"),
        ):
            bench.report(figure, None, unit, 0)
        return
    seconds = 8.0 if quick else 60.0
    scene = Scene()
    stop = threading.Event()
    folder = Path(tempfile.mkdtemp())
    viewer = Viewer(ViewConfig(port=0))
    viewer.start()
    feeder = threading.Thread(target=_feed, args=(viewer, scene, stop), daemon=True)
    feeder.start()
    alone = _load(stop, seconds / 2)
    browser = chromium.Browser(folder / "profile")
    try:
        browser.open(f"{viewer.url}?renderer=jpeg")
        browser.until("eifer.drawn.face > 60", 60)
        viewer.shown_ms.clear()
        memory = _rss_mb()
        before, begin = browser.run("eifer.drawn.face"), time.monotonic()
        load = _load(stop, seconds)
        count, span = browser.run("eifer.drawn.face") - before, time.monotonic() - begin
        bench.report("view_fps", count / span, "Hz", count)
        bench.report("view_core_pct", 100 * (load - alone), "%", 1)
        shown = np.array(viewer.shown_ms)
        bench.report("view_latency_ms", float(np.median(shown)) if len(shown) else None, "ms", len(shown))
        bench.report(
            "view_latency_p95_ms", float(np.percentile(shown, 95)) if len(shown) else None, "ms", len(shown)
        )
        if not quick:
            _load(stop, 540.0)
        grown = (_rss_mb() - memory) / ((time.monotonic() - begin) / 60)
        bench.report("view_memory_mb_per_min", grown, "MB/min", 1)
        if browser.errors:
            bench.note(f"the page said: {browser.errors[:3]}")
    finally:
        stop.set()
        feeder.join(5)
        browser.close()
        viewer.close()
        shutil.rmtree(folder, ignore_errors=True)


def _load(stop: threading.Event, seconds: float) -> float:
    """Share of a core this process takes."""
    start = time.monotonic()
    cpu = time.process_time()
    stop.wait(seconds)
    return (time.process_time() - cpu) / (time.monotonic() - start)


def _report(quick: bool) -> None:
    minutes = 1.0 if quick else 10.0
    scene = Scene(4.0)
    folder = Path(tempfile.mkdtemp())
    try:
        with BagWriter(
            folder / "session", session={"participant": "bench"}, wait=True, min_free_bytes=1 << 20
        ) as bag:
            for step in range(round(6000 * minutes)):
                t = step / 100
                stamp = T0 + step * NS // 100
                bag.write("emg/activity", scene.muscles(stamp, t))
                bag.write("face/fused", scene.face(stamp, t, FaceOrigin.FUSED))
                bag.write("face/emg", scene.face(stamp, t, FaceOrigin.EMG))
                if step % 3 == 0:
                    bag.write("face/vision", scene.face(stamp, t, FaceOrigin.VISION))
                    bag.write("muscles/estimated", scene.muscles(stamp, t))
                    bag.write("camera/image_raw", scene.frame(stamp, t))
                if step % 400 in (50, 350) and step // 400 < 34:
                    label = list(FUNCTIONAL)[scene.movement(t)[0]]
                    bag.write("markers", Marker(stamp, label, "start" if step % 400 == 50 else "end"))
        start = time.perf_counter()
        out = write_report(folder / "session", folder / "report.html")
        bench.report("report_s", time.perf_counter() - start, "s", 1)
        bench.report("report_mb", out.stat().st_size / 1e6, "MB", 1)
        bench.report("report_of_minutes", minutes, "min", 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(quick: bool = False) -> None:
    """Every figure of this area."""
    _page(quick)
    _report(quick)
