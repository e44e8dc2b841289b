"""FaceState -> 52 ARKit weights -> avatars."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .. import topics
from ..component import Component, Emission, Health, Level
from ..config import Config, parameter
from ..errors import EiferError, ModelError
from ..head.model import load_head
from ..head.retarget import Retarget, head_angles
from ..registry import AVATARS
from ..types import NS, Blendshapes, FaceState, FaceStatus, Item, Stamp
from .face import AvatarFace
from .one_euro import OneEuro
from .sender import Sender
from .shaping import Shaping

_BEST_FIRST = topics.faces()
_GIVE_WAY = NS // 2
"""A poorer source is listened to when a better one has been silent this long."""


class AvatarConfig(Config):
    """Parameters of the avatar component."""

    targets: tuple[str, ...] = parameter(
        (),
        "where to send, such as vmc://127.0.0.1:39539; docs/drivers.md lists every protocol; "
        "empty publishes face/blendshapes only",
    )
    source: str = parameter(
        "auto", "which face to follow: auto takes the best that arrives", pattern="^(auto|fused|vision|emg)$"
    )
    head_model: str = parameter("open_head", "name in models/ or path of the .npz that the faces belong to")
    gain: dict[str, float] = parameter({}, "factor per blendshape name; 1 where not named")
    dead_zone: dict[str, float] = parameter({}, "weights up to this count as 0, per blendshape name")
    default_dead_zone: float = parameter(0.0, "dead zone of blendshapes that are not named", ge=0, le=0.9)
    upper: dict[str, float] = parameter({}, "upper limit per blendshape name; 1 where not named")
    lower: dict[str, float] = parameter({}, "lower limit per blendshape name; 0 where not named")
    symmetry: float = parameter(
        0.0, "0 leaves left and right as they are, 1 makes both their mean", ge=0, le=1
    )
    smoothing: bool = parameter(True, "One-Euro smoothing of weights, gaze and head")
    min_cutoff_hz: float = parameter(
        3.0, "smoothing at rest: lower is smoother and later", unit="Hz", gt=0, le=100
    )
    beta: float = parameter(
        2.0, "how much the cut-off rises with speed: higher is quicker", unit="Hz s", ge=0, le=100
    )


class Avatar(Component):
    """Follows a face; publishes its ARKit weights and sends them to avatars."""

    config_type = AvatarConfig
    inputs = tuple(topics.TOPICS[name].port for name in _BEST_FIRST)
    outputs = (topics.FACE_BLENDSHAPES.port,)

    def __init__(self, config: AvatarConfig) -> None:
        self.config = config
        self.senders: list[Sender] = []
        self._shape = Shaping(
            config.gain,
            config.dead_zone,
            config.upper,
            config.lower,
            config.symmetry,
            config.default_dead_zone,
        )
        self._targets = [AVATARS.configure(address) for address in config.targets]
        self._maps: dict[str, Retarget] = {}
        self._smooth = OneEuro(config.min_cutoff_hz, config.beta)
        self._last_received: dict[str, Stamp] = {}
        self._last: AvatarFace | None = None
        self.faces = 0
        self.lost = 0
        self.broken = 0
        self._problem = ""

    def setup(self) -> None:
        """Load the head and open every target. Raises ModelError, DeviceError, InputError."""
        head = load_head(self.config.head_model)
        self._maps = {head.id: Retarget(head)}
        if not self.senders:
            opened: list[Sender] = []
            try:
                for sender_type, sender_config in self._targets:
                    opened.append(sender_type(sender_config))
            except EiferError:
                for sender in opened:
                    sender.close()
                raise
            self.senders = opened

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        """A face in; its blendshapes out.

        Faces of a poorer source, of an unknown head or with broken numbers lead to nothing.
        """
        if not isinstance(item, FaceState) or not self.follows(port, item.stamp):
            return
        face = self.face(item)
        if face is None:
            if self._last is not None:
                self._deliver(
                    AvatarFace(
                        item.stamp,
                        self._last.weights,
                        self._last.head,
                        self._last.gaze,
                        self._last.position,
                        False,
                    )
                )
            return
        self._last = face
        self._deliver(face)
        yield Emission(topics.FACE_BLENDSHAPES.name, Blendshapes(item.stamp, face.weights))

    def face(self, state: FaceState) -> AvatarFace | None:
        """What the avatar is to show, or None where the face is lost or cannot be read."""
        if state.status == FaceStatus.LOST:
            self.lost += 1
            return None
        try:
            retarget = self._map(state.head_model)
            weights, gaze = retarget(state), retarget.gaze(state)
        except ModelError as error:
            self._problem = str(error)
            self.broken = self.broken + 1
            return None
        posed = np.isfinite(state.head_pose).all()
        head = head_angles(state) if posed else np.zeros(3)
        if not (np.isfinite(weights).all() and np.isfinite(head).all() and np.isfinite(gaze).all()):
            self._problem = "a face held values that are not finite"
            self.broken = self.broken + 1
            return None
        if self.config.smoothing:
            smooth = self._smooth(state.stamp, np.concatenate([weights, head, gaze.ravel()]))
            weights = smooth[:52].astype(np.float32)
            head = smooth[52:55]
            gaze = smooth[55:].reshape(2, 2)
        self.faces += 1
        position = state.head_pose[:3, 3] if posed else np.zeros(3)
        return AvatarFace(state.stamp, self._shape(weights), head, gaze, position)

    def _map(self, head_model: str) -> Retarget:
        if head_model not in self._maps:
            try:
                head = load_head(head_model)
            except EiferError:
                loaded = ", ".join(f"'{name}'" for name in self._maps)
                raise ModelError(
                    f"faces of head model '{head_model}' arrive, but {loaded} is loaded; set avatar.head_model to the file of '{head_model}'"
                ) from None
            self._maps[head_model] = Retarget(head)
        return self._maps[head_model]

    def follows(self, port: str, stamp: Stamp) -> bool:
        """Whether this source is the one to follow at present."""
        if port not in _BEST_FIRST:
            return True  # a host that remapped the input knows what it wants
        if self.config.source != "auto":
            return port == f"face/{self.config.source}"
        self._last_received[port] = stamp
        better = _BEST_FIRST[: _BEST_FIRST.index(port)]
        return not any(
            abs(stamp - self._last_received[name]) < _GIVE_WAY
            for name in better
            if name in self._last_received
        )

    def _deliver(self, face: AvatarFace) -> None:
        for sender in self.senders:
            sender.send(face)

    def reset(self) -> None:
        """Forget the past: time jumped."""
        self._smooth.reset()
        self._last_received.clear()
        self._last = None
        for retarget in self._maps.values():
            retarget.reset()
        for sender in self.senders:
            sender.reset()

    def health(self) -> Health:
        """Counters of faces and of each target."""
        values: dict[str, float | int | str] = {"faces": self.faces, "lost": self.lost, "broken": self.broken}
        level = Level.OK
        message = f"{self.faces} faces to {len(self.senders)} targets"
        for index, sender in enumerate(self.senders):
            health = sender.health()
            values |= {f"target{index}_{name}": value for name, value in health.values.items()}
            if health.level > level:
                level = health.level
                message = health.message
        if self._problem:
            level = max(level, Level.WARN)
            message = self._problem
        return Health(level, message, values)

    def close(self) -> None:
        """Close every target."""
        for sender in self.senders:
            sender.close()
        self.senders = []
