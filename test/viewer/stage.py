"""Items for the page without any simulation: a face, muscles and a picture whose values a test sets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from eifer_ros.emg.montage import FRIDLUND
from eifer_ros.emg.protocol import expected_channels, movement_named
from eifer_ros.head import projection
from eifer_ros.head.model import load_head
from eifer_ros.types import NS, FaceEvent, FaceOrigin, FaceState, Frame, Item, MuscleActivity

MUSCLES = FRIDLUND.muscles


def face(stamp: int, origin: FaceOrigin = FaceOrigin.FUSED, **weights: float) -> FaceState:
    head = load_head()
    expression = np.zeros(head.expression_size, np.float32)
    for name, value in weights.items():
        expression[head.expression_names.index(name)] = value
    zero = np.zeros(3, np.float32)
    return FaceState(
        stamp,
        head.id,
        origin,
        np.zeros(head.shape_size, np.float32),
        expression,
        np.full(head.expression_size, 0.05, np.float32),
        zero,
        zero,
        np.zeros((2, 3), np.float32),
        np.zeros(2, np.float32),
        projection.facing_pose(0.6),
        0.9,
    )


def activity(
    stamp: int, envelope: np.ndarray | float = 5e-6, quality: float = 0.95, muscles: tuple[str, ...] = MUSCLES
) -> MuscleActivity:
    values = np.broadcast_to(np.asarray(envelope, np.float32), (len(muscles),))
    return MuscleActivity(
        stamp,
        "fridlund",
        muscles,
        values.copy(),
        np.full(len(muscles), np.nan, np.float32),
        np.full(len(muscles), quality, np.float32),
        profile="live",
    )


def picture(stamp: int, value: int = 90, size: tuple[int, int] = (160, 120)) -> Frame:
    return Frame(stamp, np.full((size[1], size[0], 3), value, np.uint8))


def micro(
    stamp: int, label: str = "happiness", lead_s: float = float("nan"), origin: FaceOrigin = FaceOrigin.VISION
) -> FaceEvent:
    """A micro-expression of the left lips with its apex at `stamp`, 0.1 s after its onset and 0.2 s before
    its end.
    """
    return FaceEvent(
        stamp,
        stamp - NS // 10,
        stamp + NS // 5,
        "lips_left",
        ("lips_left", "eye_left"),
        label,
        ("happiness", "others"),
        np.array([0.75, 0.25]),
        3.0,
        origin,
        lead_s,
    )


def movement_level(movement: str, phase: str, rng: np.random.Generator) -> np.ndarray:
    """What the muscles of a participant do who obeys the guide."""
    level = rng.uniform(3e-6, 6e-6, len(MUSCLES))
    asked = movement_named(movement) if movement else None
    if asked is not None and phase == "perform":
        level[expected_channels(asked, FRIDLUND, MUSCLES)] = 90e-6
    return level


@dataclass
class Stage:
    """Feeds a tap at 50 Hz from a thread.

    `weights` are the face's coefficients; `level` gives the envelopes.
    """

    take: Callable[[str, Item], None]
    weights: dict[str, float] = field(default_factory=dict)
    level: Callable[[], np.ndarray | float] = lambda: 5e-6
    sent: int = 0
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            now = time.time_ns()
            start = time.thread_time()
            self.take("face/fused", face(now, **self.weights))
            self.take("emg/activity", activity(now, self.level()))
            self.take("muscles/estimated", activity(now, 0.8 * np.asarray(self.level())))
            if self.sent % 2 == 0:
                self.take("camera/image_raw", picture(now, 60 + self.sent % 100))
            self.slowest_s = max(self.slowest_s, time.thread_time() - start)
            self.sent += 1

    def close(self) -> None:
        self._stop.set()
        self._thread.join(120)


T0 = 1_790_000_000 * NS
