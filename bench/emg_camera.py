"""How fast the simulated camera is: frames/s of the lab picture with sensors, and the time of a small picture
for training.
"""

from __future__ import annotations

import time

import numpy as np

from eifer_ros.head import projection
from eifer_ros.head.model import load_head
from eifer_ros.simulation.camera.scene import ParticipantCamera

from . import report


def _face(head: object, count: int, step: int) -> np.ndarray:
    values = np.zeros(count, np.float32)
    values[:] = 0.25 + 0.25 * np.sin(0.2 * step + np.arange(count))
    return values


def sim_camera_fps(quick: bool = False) -> None:
    """640x480, sensors on, a moving face at the lab's distance: median over frames, one thread, everything
    included.
    """
    head = load_head()
    camera = ParticipantCamera(7, True, (640, 480), head=head)
    shape = np.random.default_rng(7).normal(0.0, 0.8, head.shape_size).astype(np.float32)
    frames = 60 if quick else 300
    taken = []
    for step in range(frames + 5):
        pose = projection.facing_pose(
            0.65, yaw=0.15 * np.sin(0.1 * step), pitch=-0.25, centre=(0.0, -0.035, 0.0)
        )
        face = _face(head, head.expression_size, step) * 0.4
        start = time.perf_counter()
        camera.render(shape, face, None, pose, step / 30.0)
        taken.append(time.perf_counter() - start)
    report("sim_camera_fps", float(1.0 / np.median(taken[5:])), "frames/s", frames)


def sim_camera_train_ms(quick: bool = False) -> None:
    """128x128 in the wild profile, a new person in every picture and one of eight kept fittings of the
    sensors: mean.
    """
    head = load_head()
    pictures = 20 if quick else 100
    rng = np.random.default_rng(0)
    ParticipantCamera(0, True, (128, 128), head=head, profile="wild").render(
        None, None, None, projection.facing_pose(0.6), 0.0
    )
    for seed in range(24):  # expression lines and sensors are made once and kept
        ParticipantCamera(seed, True, (128, 128), head=head, profile="wild", sensor_seed=seed % 8)
    start = time.perf_counter()
    for seed in range(100, 100 + pictures):
        camera = ParticipantCamera(seed, True, (128, 128), head=head, profile="wild", sensor_seed=seed % 8)
        pose = projection.facing_pose(0.45, yaw=float(rng.normal(0.0, 0.2)), centre=(0.0, -0.035, 0.0))
        camera.render(
            rng.normal(0.0, 0.8, head.shape_size), _face(head, head.expression_size, seed), None, pose, 0.0
        )
    report("sim_camera_train_ms", (time.perf_counter() - start) / pictures * 1e3, "ms", pictures)


def run(quick: bool = False) -> None:
    """Both figures."""
    sim_camera_fps(quick)
    sim_camera_train_ms(quick)
