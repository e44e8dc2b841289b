"""Blendshapes or a face -> joint commands, within limits, disarmed until told otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from .. import resources, topics
from ..avatar.avatar_output import Avatar, AvatarConfig
from ..component import Component, Emission, Health, Level, Port
from ..config import Config, parameter
from ..errors import ConfigError, DeviceError
from ..head.retarget import head_angles
from ..types import ARKIT_52, NS, Blendshapes, FaceState, FaceStatus, Item, JointTargets, Stamp
from .drivers import Driver, make_driver
from .guard import SENDING, Guard, State
from .joint_map import JointMap, load_joint_map
from .limiter import Limiter
from .solver import JointSolver

_FACES = topics.faces()
_GIVE_WAY = NS // 2
_STALL = 3 * NS // 20
"""A pause in the commands after which servos are switched on anew: their watchdog may have stopped them."""
TRAJECTORY = topics.JOINT_TRAJECTORY.name
JOINT_STATES = topics.JOINT_STATES.name


class AnimatronicConfig(Config):
    """Parameters of the animatronic component."""

    joint_map: str = parameter("example_face.yaml", "the robot's joint map: a path, or a name in models/")
    source: str = parameter(
        "auto",
        "what to follow: blendshapes (as the avatar component shapes them), face, or auto: blendshapes where "
        "they arrive, else the face",
        pattern="^(auto|blendshapes|face)$",
    )
    head_model: str = parameter("open_head", "name in models/ or path of the .npz that faces belong to")
    follow_head: bool = parameter(True, "move neck joints with the head", read_only=False)
    armed: bool = parameter(
        False, "arm at set-up instead of waiting for the service; only for robots that cannot hurt anybody"
    )
    hardware: bool = parameter(True, "use the joint map's driver section; off drives only the topics")
    preview: bool = parameter(
        False, "publish joint_states, also while disarmed, for RViz (not beside a joint_state_broadcaster)"
    )


class Animatronic(Component):
    """Joint commands of an animatronic face.

    `arm`, `release`, `stop` and `clear_stop` may be called from any thread.
    """

    config_type = AnimatronicConfig
    inputs = (topics.FACE_BLENDSHAPES.port, *(topics.TOPICS[name].port for name in _FACES))
    outputs = (topics.JOINT_TRAJECTORY.port, Port(JOINT_STATES, JointTargets))
    tick_hz = 200.0

    def __init__(
        self,
        config: AnimatronicConfig,
        driver: Driver | None = None,
        *,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.config = config
        self._sleep = sleep
        self.map: JointMap = load_joint_map(_joint_map_path(config.joint_map))
        joints = self.map.config.joints.values()
        self._speed = np.array([joint.speed for joint in joints])
        self.solver = JointSolver(self.map)
        limiter = Limiter(
            self.solver.lower,
            self.solver.upper,
            self._speed,
            np.array([joint.acceleration for joint in joints]),
            1.0 / self.map.config.rate_hz,
            self.map.config.smoothing_s,
        )
        robot = self.map.config
        self.guard = Guard(
            limiter,
            self.solver.neutral,
            hold_s=robot.hold_s,
            ease_s=robot.ease_s,
            slew_s=robot.slew_s,
            slew_share=robot.slew_share,
            resume=robot.resume,
        )
        self.driver = driver if driver is not None else (make_driver(self.map) if config.hardware else None)
        self._face = Avatar(AvatarConfig(head_model=config.head_model, smoothing=False))
        self._head = np.zeros(3)
        self._wish = self.solver.neutral.copy()
        self._last_received: dict[str, Stamp] = {}
        self._stamps: dict[str, Stamp] = {}
        self._lock = threading.RLock()
        self._powered = False
        self._open = False
        self._preview_due: Stamp = 0
        self._ticked: Stamp | None = None
        self.commands = 0
        self.accepted = 0
        self.dropped = 0
        self.repeated = 0
        self._problem = ""

    def setup(self) -> None:
        """Load the head and find every servo. Raises ModelError, DeviceError, MissingExtra; nothing moves."""
        self._face.setup()
        self.solver(np.zeros(52))  # compiles the coupling solver
        if self.driver is not None and not self._open:
            self.driver.open()
            self._open = True
        if self.config.armed:
            self.arm()

    # ---- services ----

    def arm(self) -> tuple[bool, str]:
        """Start commanding. (done, what was done or why not)."""
        with self._lock:
            if self.guard.state in (State.STOPPED, State.STOPPING):
                return False, "stopped; clear the stop first"
            if self.guard.state in SENDING and self.guard.state != State.EASING:
                return True, "armed already"
            try:
                self._power_on()
            except DeviceError as error:
                self._problem = str(error)
                return False, str(error)
            self._problem = ""
            return True, f"armed; the first {self.map.config.slew_s:g} s are slow"

    def release(self) -> tuple[bool, str]:
        """Ease to neutral, then torque off."""
        with self._lock:
            self.guard.release()
            return True, self.guard.state.value

    def stop(self) -> tuple[bool, str]:
        """Stop at once, latched."""
        with self._lock:
            self.guard.stop()
            if self.guard.state == State.STOPPED:
                self._power_off()
            return True, self.guard.state.value

    def clear_stop(self) -> tuple[bool, str]:
        """Leave the latched stop; disarmed then."""
        with self._lock:
            done = self.guard.clear_stop()
            return done, self.guard.state.value

    # ---- the stream ----

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        """Take a face or blendshapes; commands leave on the tick."""
        with self._lock:
            if isinstance(item, FaceState):
                self._take_face(port, item)
            elif (
                isinstance(item, Blendshapes)
                and self.config.source != "face"
                and self._advances(port, item.stamp)
            ):
                self._last_received["blendshapes"] = item.stamp
                self._offer(_ordered(item))
        return ()

    def _take_face(self, port: str, state: FaceState) -> None:
        if not self._face.follows(port, state.stamp) or not self._advances(port, state.stamp):
            return
        if state.status == FaceStatus.LOST:
            return
        if self.config.follow_head:
            head = head_angles(state)
            if np.isfinite(head).all():
                self._head = head
        shaped = self._last_received.get("blendshapes")
        covered = shaped is not None and abs(state.stamp - shaped) < _GIVE_WAY
        if self.config.source == "blendshapes" or (self.config.source == "auto" and covered):
            return
        face = self._face.face(state)
        if face is None:
            self.dropped += 1
            return
        self._offer(face.weights)

    def _advances(self, port: str, stamp: Stamp) -> bool:
        """Whether a source's time moves on: a frozen source repeats its last item, and counts as silent."""
        last = self._stamps.get(port)
        if last is not None and last - NS < stamp <= last:
            self.repeated += 1
            return False
        self._stamps[port] = stamp
        return True

    def _offer(self, weights: np.ndarray) -> None:
        if not np.isfinite(weights).all():
            self.dropped += 1
            return
        self._wish = self.solver(
            np.clip(weights, 0.0, 1.0), self._head if self.config.follow_head else np.zeros(3)
        )
        if self.guard.offer(self._wish):
            self.accepted += 1
        else:
            self.dropped += 1

    def tick(self, now: Stamp) -> Iterable[Emission]:
        """The command that is due, if any."""
        with self._lock:
            emissions = []
            try:
                if self.guard.can_resume:
                    self._power_on()
                elif (
                    self._powered
                    and self.driver is not None
                    and self._ticked is not None
                    and now - self._ticked > _STALL
                ):
                    self.driver.enable()
            except DeviceError as error:
                self._fail(error)
            self._ticked = now
            due = self.guard.step(now)
            if due is not None:
                stamp, position = due
                targets = JointTargets(stamp, self.map.names, position, self._speed)
                emissions.append(Emission(TRAJECTORY, targets))
                self.commands += 1
                if self.driver is not None and self._powered:
                    try:
                        self.driver.command(position)
                    except DeviceError as error:
                        self._fail(error)
            if self.guard.state not in SENDING:
                self._power_off()
            if self.config.preview:
                emissions += self._preview(now, None if due is None else due[1])
            return emissions

    def _preview(self, now: Stamp, position: np.ndarray | None) -> list[Emission]:
        if position is None:
            if self.guard.state in SENDING or now < self._preview_due:
                return []
            position = self._wish if self.guard.state == State.DISARMED else self.guard.limiter.position
        self._preview_due = now + round(NS / self.map.config.rate_hz)
        return [Emission(JOINT_STATES, JointTargets(now, self.map.names, position, self._speed))]

    def _power_on(self) -> None:
        present = None
        if self.driver is not None:
            if not self._open:
                raise DeviceError("the servo driver is not open; set up the component first")
            present = self.driver.positions()
            if not self._powered:
                self.driver.enable()
        self._powered = self.driver is not None
        self.guard.arm(present)

    def _power_off(self) -> None:
        if not self._powered or self.driver is None:
            return
        self._powered = False
        try:
            self.driver.disable()
        except DeviceError as error:
            self._problem = str(error)

    def _ease_home(self) -> None:
        """The last commands before the end: nobody ticks any more, so the pace is kept here."""
        self.guard.release()
        period = 1.0 / self.map.config.rate_hz
        now = self._ticked or 0
        for _ in range(round(3.0 / period)):
            self._sleep(period)
            now += round(NS * period)
            due = self.guard.step(now)
            if self.guard.state not in SENDING or self.driver is None:
                return
            if due is not None:
                try:
                    self.driver.command(due[1])
                except DeviceError as error:
                    self._problem = str(error)
                    return

    def _fail(self, error: DeviceError) -> None:
        """A servo that stopped answering: stop everything, latched."""
        self._problem = str(error)
        self.guard.stop()
        self.guard.state = State.STOPPED
        self._power_off()
        self._problem = str(error)

    def reset(self) -> None:
        """Forget the past; an armed robot eases to neutral unless faces go on."""
        with self._lock:
            self._face.reset()
            self._last_received.clear()
            self._stamps.clear()

    def health(self) -> Health:
        """State and counters."""
        state = self.guard.state
        values: dict[str, float | int | str] = {
            "state": state.value,
            "commands": self.commands,
            "accepted": self.accepted,
            "dropped": self.dropped,
            "repeated": self.repeated,
        }
        level = {State.STOPPED: Level.ERROR, State.STOPPING: Level.ERROR, State.RELEASED: Level.STALE}.get(
            state, Level.OK
        )
        if self._problem:
            return Health(max(level, Level.WARN), self._problem, values)
        return Health(level, f"{self.map.config.name}: {state.value}", values)

    def close(self) -> None:
        """Servos ease to neutral (about a second), torque off, port closed."""
        with self._lock:
            if self._powered and self.guard.state in (State.ACTIVE, State.HOLDING, State.EASING):
                self._ease_home()
            self.guard.stop()
            self._powered = False
            if self.driver is not None and self._open:
                self._open = False
                self.driver.close()


def _ordered(item: Blendshapes) -> np.ndarray:
    """(52,) in our order; NaN for a name that is missing."""
    if item.names == ARKIT_52:
        return item.weights
    weights = dict(zip(item.names, item.weights.tolist(), strict=True))
    return np.array([weights.get(name, np.nan) for name in ARKIT_52])


def _joint_map_path(name: str) -> Path:
    path = Path(name).expanduser()
    if path.exists():
        return path
    if path.parent != Path():
        raise ConfigError(f"joint map {name} does not exist")
    return resources.model(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
