"""Streams of simulated faces for the spotter, without pictures: the truth with a little noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from eifer_ros.micro.channels import ACTIONS
from eifer_ros.micro.senses import CONTEXT
from eifer_ros.micro.spotter import EventSpotter
from eifer_ros.micro.verifier import Verifiers
from eifer_ros.simulation.participant import Participant
from eifer_ros.types import FaceEvent

FPS = 200.0


class Stream:
    """Rows of the picture of one participant at 200 a second; what else happens is added by the test."""

    def __init__(self, seed: int, program: str, begin_s: float, end_s: float, noise: float = 0.004) -> None:
        self.participant = Participant(seed, program=program, sensors=False)
        self.times = np.arange(begin_s, end_s, 1.0 / FPS)
        self.stamps = [self.participant.stamp(time) for time in self.times]
        rng = np.random.default_rng(seed)
        names = self.participant.head.expression_names
        truth = self.participant.expression_at(self.times)[:, [names.index(name) for name in ACTIONS]]
        self.actions = truth + noise * rng.standard_normal(truth.shape)
        self.gaze = self.participant.script.gaze(self.times)
        self.turn = np.abs(rng.normal(0.03, 0.01, len(self.times)))
        self.light = np.zeros(len(self.times))

    def rows(self) -> np.ndarray:
        speed = np.abs(np.gradient(self.gaze, axis=0)).sum(axis=1) * FPS
        rest = np.stack(
            [self.gaze[:, 0], self.gaze[:, 1], speed, self.turn, 0.1 * self.turn, self.light], axis=1
        )
        assert rest.shape[1] == len(CONTEXT)
        return np.concatenate([self.actions, rest], axis=1)

    def spot(self, spotter: EventSpotter) -> list[FaceEvent]:
        return [
            event
            for stamp, row in zip(self.stamps, self.rows(), strict=True)
            for event in spotter.push_vision(stamp, row)
        ]

    def truth(self) -> list[FaceEvent]:
        # the floor is known after three seconds, and an event is given 0.3 s after its apex
        return self.participant.face_events(self.times[0] + 3.2, self.times[-1] - 0.4)


@pytest.fixture(scope="session")
def verifiers() -> Verifiers:
    return Verifiers.load()


@pytest.fixture
def spotter(verifiers: Verifiers) -> EventSpotter:
    return EventSpotter(verifiers)


@pytest.fixture(scope="session")
def stream() -> Callable[..., Stream]:
    return Stream
