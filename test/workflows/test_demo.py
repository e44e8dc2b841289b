"""The demo: the README's first command. What it leaves behind, what its figures say, and that a seed repeats."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eifer_ros.emg.calibration import Calibration
from eifer_ros.errors import InputError
from eifer_ros.head.model import load_head
from eifer_ros.mapping.mapping import Mapping
from eifer_ros.recording.reader import Bag
from eifer_ros.simulation.participant import Participant
from eifer_ros.types import FaceState, Frame, seconds
from eifer_ros.workflows.demo import BLIND_S, DemoSettings, run_demo
from eifer_ros.workflows.demo_result import DemoResult

SHORT = DemoSettings(calibration_s=30.0, live_s=14.0, size=(256, 192), fps=15.0, rate_hz=1024.0)
"""Six of the eleven movements, and two seconds under cover."""
MEASURED = ("fit_s", "seconds", "latency", "recording_mb")
"""Figures that depend on the machine (the bag's size on where its chunks end)."""


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory, root: Path) -> tuple[Path, dict[str, Any]]:
    """`eifer demo --quick --json` as a user runs it: the folder, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "eifer_ros.cli", "demo", "--quick", "--json", "--out", "results"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.mark.xdist_group("demo quick")
def test_the_demo_leaves_the_files_it_names_and_its_summary_says_what_it_printed(
    quick: tuple[Path, dict[str, Any]],
) -> None:
    folder, printed = quick
    assert set(printed["files"]) == {"calibration recording", "recording", "mapping", "summary", "report"}
    for name, path in printed["files"].items():
        assert (folder / path).exists(), name
    summary = json.loads((folder / printed["files"]["summary"]).read_text(encoding="utf-8"))
    assert summary == {"values": printed["values"], "notes": printed["notes"]}
    calibration = Calibration.load(folder / "results/calibration.yaml")
    assert {take.movement for take in calibration.takes if take.accepted} >= {"Face-At-Rest", "Smile-Open"}
    assert Mapping.load(folder / printed["files"]["mapping"]).head_model == "open_head"


@pytest.mark.xdist_group("demo quick")
def test_the_figures_of_the_demo_are_finite_and_better_than_a_face_that_never_moves(
    quick: tuple[Path, dict[str, Any]],
) -> None:
    values = quick[1]["values"]
    assert all(math.isfinite(value) for value in values.values())
    resting = values["resting_face_vertex_mm"]
    for name in ("vision", "emg", "fused"):
        assert values[f"{name}_vertex_mm"] < resting, name
        assert values[f"{name}_r"] > 0.5, name
    # the camera has nothing to read while it is covered, and reads nearly every picture before and after
    settings = DemoSettings(live_s=20.0, fps=15.0)
    covered = (BLIND_S[1] - BLIND_S[0]) * settings.fps
    assert values["vision_frames"] == settings.live_s * settings.fps
    assert 0.9 <= values["vision_tracked"] / (values["vision_frames"] - covered) <= 1.0
    assert values["fused_hz"] == pytest.approx(100.0, rel=0.01)
    assert values["vision_hz"] == pytest.approx(settings.fps, rel=0.01)
    assert values["emg_lost"] == 0 and values["recording_dropped"] == 0
    # the simulated skin follows its muscles by 70 ms
    assert values["lag_ms"] == pytest.approx(70.0, abs=20.0)


@pytest.mark.xdist_group("demo quick")
def test_the_recording_of_the_demo_holds_pictures_muscles_faces_and_the_truth_in_order(
    quick: tuple[Path, dict[str, Any]],
) -> None:
    folder, printed = quick
    counts: dict[str, int] = {}
    last: dict[str, int] = {}
    with Bag(folder / printed["files"]["recording"]) as bag:
        for _, topic, item in bag.items():
            counts[topic] = counts.get(topic, 0) + 1
            assert item.stamp >= last.get(topic, 0), topic
            last[topic] = item.stamp
            if isinstance(item, Frame) and counts[topic] == 1:
                assert item.image.shape == (240, 320, 3) and item.image.std() > 10
            if isinstance(item, FaceState):
                assert item.head_model == "open_head"
    assert sum(counts.values()) == printed["values"]["recorded_items"]
    assert counts["camera/image_raw"] == counts["truth/face"] == 20 * 15
    assert counts["face/vision"] == printed["values"]["vision_frames"]
    assert counts["face/fused"] == pytest.approx(2000, rel=0.02)
    assert counts["emg/raw"] > 0 and counts["emg/activity"] > 0


@pytest.mark.xdist_group("demo quick")
def test_under_cover_emg_and_the_fused_face_follow_the_truth_better_than_a_resting_face(
    quick: tuple[Path, dict[str, Any]],
) -> None:
    """The promise of the project, against what was recorded as true."""
    folder, printed = quick
    with Bag(folder / printed["files"]["recording"]) as bag:
        truth = [item for _, _, item in bag.items(topics=["truth/face"]) if isinstance(item, FaceState)]
    covered = [state for state in truth if BLIND_S[0] <= seconds(state.stamp - truth[0].stamp) < BLIND_S[1]]
    assert len(covered) == (BLIND_S[1] - BLIND_S[0]) * 15
    rest = np.median([state.expression for state in truth], axis=0)
    resting = _distance_mm(np.array([state.expression for state in covered]), rest)
    assert printed["values"]["emg_vertex_blind_mm"] < resting
    assert printed["values"]["fused_vertex_blind_mm"] < resting


def _distance_mm(expressions: np.ndarray, other: np.ndarray) -> float:
    """Mean distance of the face's vertices, each face posed by the head model itself."""
    head = load_head()
    face = head.regions["face"]
    still = head.vertices(expression=other)[face]
    moved = [head.vertices(expression=expression)[face] for expression in expressions]
    return 1e3 * float(np.mean([np.linalg.norm(each - still, axis=1).mean() for each in moved]))


class _Page(HTMLParser):
    """What a page shows, and what it would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pictures: list[str] = []
        self.points: list[str] = []
        self.elsewhere: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        source = values.get("src", values.get("href", ""))
        if tag == "img":
            self.pictures.append(source)
        if tag in ("img", "script", "link", "iframe") and source and not source.startswith(("data:", "#")):
            self.elsewhere.append(source)
        if tag in ("polyline", "path"):
            self.points.append(values.get("points", values.get("d", "")))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.xdist_group("demo quick")
def test_the_page_of_the_demo_stands_alone_and_holds_pictures_traces_and_the_table(
    quick: tuple[Path, dict[str, Any]],
) -> None:
    folder, printed = quick
    page = _Page()
    page.feed((folder / printed["files"]["report"]).read_text(encoding="utf-8"))
    assert page.elsewhere == []
    # a row of heads for camera, truth, vision, EMG and fused face, at several moments
    assert len(page.pictures) >= 5 * 4
    assert all(picture.startswith("data:image/") and len(picture) > 500 for picture in page.pictures)
    assert page.tags.count("svg") >= 1
    traces = [points for points in page.points if len(points) > 200]
    assert len(traces) >= 4 and "nan" not in "".join(page.points).lower()
    result = DemoResult(values=printed["values"])
    for label, figures in result.table():
        assert label in page.text
        assert figures in page.text


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoResult, list[tuple[str, float]]]:
    """A short demo in this process: its result, and the progress it reported."""
    progress: list[tuple[str, float]] = []
    result = run_demo(
        tmp_path_factory.mktemp("short") / "demo",
        SHORT,
        progress=lambda stage, share: progress.append((stage, share)),
    )
    return result, progress


def _repeatable(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if not any(part in name for part in MEASURED)}


@pytest.mark.xdist_group("demo short")
def test_the_same_seed_gives_the_same_figures(
    short: tuple[DemoResult, list[tuple[str, float]]], tmp_path: Path
) -> None:
    again = run_demo(tmp_path / "demo", SHORT)
    first = _repeatable(short[0].values)
    assert {"vision_vertex_mm", "emg_r2", "fused_vertex_blind_mm", "lag_ms"} <= set(first)
    assert _repeatable(again.values) == pytest.approx(first, rel=1e-9, nan_ok=False)
    assert again.notes == short[0].notes


@pytest.mark.xdist_group("demo short")
def test_progress_of_every_stage_ends_at_its_whole(
    short: tuple[DemoResult, list[tuple[str, float]]],
) -> None:
    stages: dict[str, list[float]] = {}
    for stage, share in short[1]:
        stages.setdefault(stage, []).append(share)
    assert len(stages) == 4
    for stage, shares in stages.items():
        assert shares == sorted(shares) and shares[0] >= 0.0 and shares[-1] <= 1.0, stage
        assert shares[-1] == pytest.approx(1.0, abs=0.01), stage


@pytest.mark.xdist_group("demo short")
def test_the_resting_face_is_that_far_from_the_truth_of_the_simulation(
    short: tuple[DemoResult, list[tuple[str, float]]],
) -> None:
    """The yardstick of all figures, computed again from the participant alone."""
    person = Participant(SHORT.seed, 1, program="emotions", size=SHORT.size, rate_hz=SHORT.rate_hz)
    times = np.arange(round(SHORT.live_s * SHORT.fps)) / SHORT.fps
    truth = np.stack([person.face_at(float(time)).expression for time in times])
    away = _distance_mm(truth[::3], np.median(truth, axis=0))
    assert short[0].values["resting_face_vertex_mm"] == pytest.approx(away, rel=1e-3)


def test_a_demo_is_never_written_over_something(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="never overwritten"):
        run_demo(tmp_path, SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_demo_that_is_interrupted_ends_at_once_and_says_what_it_lacks(tmp_path: Path) -> None:
    stop = threading.Event()
    stamps: list[float] = []

    def told(stage: str, share: float) -> None:
        stamps.append(share)
        stop.set()

    with pytest.raises(InputError, match="interrupted during the calibration"):
        run_demo(tmp_path / "demo", replace(SHORT, calibration_s=3600.0), progress=told, stop=stop)
    assert max(stamps) * 3600.0 < 10.0
    with Bag(tmp_path / "demo/calibration") as bag:
        assert sum(1 for _ in bag.items()) > 0
