"""Items of every kind with known content, and a small recording of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eifer_ros.recording.writer import BagWriter
from eifer_ros.types import (
    NS,
    Blendshapes,
    EmgChannelInfo,
    EmgChunk,
    FaceDisplacement,
    FaceEvent,
    FaceOrigin,
    FaceState,
    Frame,
    HeadModelInfo,
    Item,
    JointTargets,
    Marker,
    MuscleActivity,
    MuscleOrigin,
)

START = 1_700_000_000 * NS


def _frame(k: int, size: tuple[int, int] = (64, 48), depth: bool = False) -> Frame:
    """A smooth picture (JPEG keeps it to a grey level or two) that differs from frame to frame."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    image = np.stack(
        [120 + 100 * np.sin(3 * x + 0.1 * k), 255 * y, 60 + 2.0 * (k % 60) + 0 * x], axis=2
    ).astype(np.uint8)
    metres = (0.4 + 0.001 * np.round(50 * x)).astype(np.float32) if depth else None
    matrix = np.array([[80.0, 0, size[0] / 2], [0, 80, size[1] / 2], [0, 0, 1]]) if depth else None
    return Frame(START + k * NS // 30, image, matrix, metres)


def _chunk(k: int, lost: int = 0, first: int | None = None) -> EmgChunk:
    rng = np.random.default_rng(k)
    samples = (rng.normal(size=(20, 3)) * 1e-5).astype(np.float32)
    first = 20 * k if first is None else first
    return EmgChunk(START + k * NS // 100, 2000.0, ("zyg", "corr", "front"), samples, first, lost)


def _face(k: int) -> FaceState:
    rng = np.random.default_rng(k)
    pose = np.eye(4)
    pose[:3, 3] = (0.01 * k, 0, 0.5)
    return FaceState(
        START + k * NS // 30,
        "open_head",
        FaceOrigin.VISION,
        rng.normal(size=8),
        rng.uniform(0, 1, 52),
        np.full(52, 0.1),
        rng.normal(size=3) * 0.1,
        np.zeros(3),
        np.zeros((2, 3)),
        np.array([0.1, 0.2]),
        pose,
        0.9,
    )


def _everything() -> list[tuple[str, Item]]:
    activity = MuscleActivity(
        START + 7,
        "fridlund",
        ("zyg", "corr"),
        np.array([1e-5, 2e-5]),
        np.array([0.5, np.nan]),
        np.ones(2),
        MuscleOrigin.MEASURED,
    )
    return [
        (
            "head_model",
            HeadModelInfo(
                START, "open_head", 60, ("jawOpen",), np.zeros(1), np.ones(1), 5000, 9000, "CC0", "Anny"
            ),
        ),
        (
            "emg/channels",
            EmgChannelInfo(
                START + 1, ("a", "b"), ("zyg", "corr"), "fridlund", "bipolar", 2000.0, np.zeros((2, 2))
            ),
        ),
        ("markers", Marker(START + 2, "Smile-Open", "start", "first try")),
        ("emg/raw", _chunk(0)),
        ("emg/activity", activity),
        ("muscles/estimated", activity),
        ("face/vision", _face(1)),
        ("face/fused", _face(2)),
        ("face/blendshapes", Blendshapes(START + 9, np.linspace(0, 1, 52))),
        (
            "face/displacement",
            FaceDisplacement(
                START + 9, "open_head", FaceOrigin.VISION, np.arange(-6, 6).reshape(4, 3) * 1e-5, 0.5
            ),
        ),
        (
            "face/events",
            FaceEvent(
                START + 9,
                START + 3,
                START + 12,
                "lips_left",
                ("lips_left", "eye_left"),
                "happiness",
                ("happiness", "others"),
                np.array([0.75, 0.25]),
                3.5,
                FaceOrigin.FUSED,
                0.0625,
            ),
        ),
        (
            "animatronic/joint_trajectory",
            JointTargets(START + 10, ("jaw", "lid"), np.array([0.1, -0.2]), np.array([1.0, 2.0])),
        ),
        ("camera/image_raw", _frame(3, depth=True)),
        ("face/restored", _frame(4)),
    ]


@pytest.fixture
def frame() -> Callable[..., Frame]:
    return _frame


@pytest.fixture
def chunk() -> Callable[..., EmgChunk]:
    return _chunk


@pytest.fixture
def face() -> Callable[[int], FaceState]:
    return _face


@pytest.fixture
def everything() -> list[tuple[str, Item]]:
    """One item of every kind, with its port."""
    return _everything()


@pytest.fixture(scope="session")
def small_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of EMG, faces and pictures, in several chunks."""
    path = tmp_path_factory.mktemp("recording") / "small"
    ticks = iter(range(10**6))
    # each look at the clock is 20 ms later: a chunk is closed now and then, the same way every time
    with BagWriter(
        path, session={"participant": "p07", "seed": 3}, wait=True, monotonic=lambda: next(ticks) * 0.02
    ) as writer:
        for k in range(60):
            writer.write("camera/image_raw", _frame(k))
            writer.write("face/vision", _face(k))
            for j in range(200 * k // 60, 200 * (k + 1) // 60):
                writer.write("emg/raw", _chunk(j))
    return path
