"""Motion per vertex as a component of its own, behind any estimator: camera pictures and faces in, finer
faces and displacements out.

`Reconstruction` has the same built in (its parameter `micro`); this one serves where faces come from
elsewhere, and leaves `face/vision` as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .. import topics
from ..component import Component, Emission, Health, Level, Port
from ..config import Config, parameter
from ..errors import InputError, ModelError
from ..head.model import DEFAULT_HEAD, load_head
from ..types import FaceDisplacement, FaceState, FaceStatus, Frame, Item
from .motion import MicroMotionEstimator, MicroSettings

CAMERA = topics.CAMERA_IMAGE.name
VISION = topics.FACE_VISION.name
FINE = "face/vision_fine"
DISPLACEMENT = topics.FACE_DISPLACEMENT.name


class MicroMotionConfig(Config):
    """Parameters of the motion estimator."""

    head_model: str = parameter(DEFAULT_HEAD, "head model in models/, or the path of an .npz")
    neutral: float = parameter(
        2.0,
        "how far back the neutral face looks; a movement shorter than half of it stays a movement",
        unit="s",
        ge=0.3,
        le=60.0,
    )
    smoothing: float = parameter(0.012, "time constant of the motion's smoothing", unit="s", ge=0.0, le=1.0)
    turn: float = parameter(
        0.14, "turn of the head after which motion is counted from a new picture", unit="rad", gt=0.0, le=1.0
    )
    waiting: int = parameter(
        32, "pictures that may wait for their face; the oldest goes first", unit="frames", ge=1, le=1000
    )


class MicroMotion(Component):
    """Follows one face between and beneath what the estimator says.

    Pictures wait until a face of their time or later has come.
    """

    config_type = MicroMotionConfig
    inputs = (Port(CAMERA, Frame), Port(VISION, FaceState))
    outputs = (Port(FINE, FaceState), Port(DISPLACEMENT, FaceDisplacement, lazy=True))

    def __init__(self, config: MicroMotionConfig | None = None) -> None:
        self.config = config if config is not None else MicroMotionConfig()
        self._estimator: MicroMotionEstimator | None = None
        self._needed = False
        self._frames: deque[Frame] = deque()
        self._dropped = 0
        self._state: FaceState | None = None
        self._followed = False

    def setup(self) -> None:
        """Load and compile. Errors: ModelError."""
        config = self.config
        settings = MicroSettings(neutral_s=config.neutral, smoothing_s=config.smoothing, turn_rad=config.turn)
        self._estimator = MicroMotionEstimator(load_head(config.head_model), settings)
        self._estimator.warm_up()
        self.reset()

    def set_subscribed(self, subscribed: frozenset[str]) -> None:
        """The displacement is made while somebody listens."""
        self._needed = DISPLACEMENT in subscribed

    def reset(self) -> None:
        """Forget the face and what waits."""
        self._frames.clear()
        self._state = None
        self._followed = False
        if self._estimator is not None:
            self._estimator.reset()

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        """A picture or a face. Raises InputError for anything else, ModelError before `setup`."""
        if self._estimator is None:
            raise ModelError("micro motion was not set up: call setup() before the first picture")
        if port == CAMERA and isinstance(item, Frame):
            if self._frames and item.stamp < self._frames[-1].stamp:
                self.reset()  # a bag looped or a clock was set back
            self._frames.append(item)
            if len(self._frames) > self.config.waiting:
                self._frames.popleft()
                self._dropped += 1
        elif port == VISION and isinstance(item, FaceState):
            if item.head_model != self._estimator.head.id:
                mine = self._estimator.head.id
                raise InputError(
                    f"faces are of head model '{item.head_model}'; micro motion was set up for '{mine}'"
                )
            if self._state is not None and item.stamp < self._state.stamp:
                self.reset()
            self._state = item
        else:
            got = f"{type(item).__name__} on '{port}'"
            raise InputError(
                f"micro motion takes a Frame on '{CAMERA}' and a FaceState on '{VISION}', not {got}"
            )
        out: list[Emission] = []
        while self._state is not None and self._frames and self._frames[0].stamp <= self._state.stamp:
            out += self._follow(self._estimator, self._frames.popleft(), self._state)
        return out

    def _follow(self, estimator: MicroMotionEstimator, frame: Frame, state: FaceState) -> list[Emission]:
        result = estimator.update(frame, state)
        self._followed = result is not None
        if result is None:
            if state.status != FaceStatus.LOST:
                return []
            sizes = len(state.shape), len(state.expression)
            return [Emission(FINE, FaceState.lost(frame.stamp, state.head_model, state.origin, *sizes))]
        out = [Emission(FINE, result.fine)]
        if self._needed:
            out.append(Emission(DISPLACEMENT, result.field(estimator.head)))
        return out

    def health(self) -> Health:
        """What the rate allows, whether the neutral is known, milliseconds, key pictures taken, pictures
        dropped.
        """
        estimator = self._estimator
        if estimator is None:
            return Health(Level.WARN, "not set up")
        values: dict[str, float | int | str] = {
            "micro_ms": round(1e3 * estimator.time_s, 3),
            "keys": estimator.keys,
            "rate_hz": round(estimator.rate_hz, 2),
            "misfit_px": round(estimator.misfit_px, 4),
            "waiting": len(self._frames),
            "dropped": self._dropped,
        }
        if self._state is None:
            return Health(Level.OK, "waiting for faces", values)
        if not self._followed:
            return Health(Level.WARN, "no face to follow", values)
        if estimator.advice:
            return Health(Level.WARN, estimator.advice, values)
        return Health(Level.OK, "following" if estimator.ready else "learning the neutral face", values)
