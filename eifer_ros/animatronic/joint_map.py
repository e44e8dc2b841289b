"""The joint map: which blendshapes move which joint, how far, how fast.

One YAML file per robot, checked against its URDF.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import field_validator, model_validator

from .. import config
from ..config import Config, DeviceConfig, parameter
from ..errors import ConfigError, did_you_mean
from ..registry import SERVO_DRIVERS
from ..types import ARKIT_52
from .urdf import Urdf, load_urdf

HEAD = ("headYaw", "headPitch", "headRoll")
"""Sources beside the 52: the head's turn in rad, to the subject's left, down, to the subject's right
shoulder.
"""
SOURCES: tuple[str, ...] = (*ARKIT_52, *HEAD)
EASE_MARGIN = 0.8
"""Share of the easing time that the slowest way back to neutral may need: the rest is for motion that must be
stopped first.
"""


def _known_sources(sources: dict[str, float]) -> dict[str, float]:
    for name in sources:
        if name not in SOURCES:
            raise ValueError(f"there is no blendshape '{name}'{did_you_mean(name, SOURCES)}")
    return sources


class Servo(Config):
    """How a joint is wired. `id` for Dynamixel, `channel` for PCA9685."""

    id: int | None = parameter(None, "Dynamixel id", ge=0, le=252)
    channel: int | None = parameter(None, "PCA9685 output", ge=0, le=15)
    inverted: bool = parameter(False, "the servo turns against the joint")
    ratio: float = parameter(1.0, "servo rad per joint rad (gear or linkage)", gt=0, le=50)
    centre: int = parameter(2048, "Dynamixel counts at joint zero (4096 a turn)", ge=0, le=4095)
    centre_us: float = parameter(1500.0, "PCA9685 pulse at joint zero", unit="us", ge=400, le=2600)
    us_per_rad: float = parameter(
        636.6, "PCA9685 pulse change per servo rad (1000 us per 90 degrees)", unit="us/rad", gt=0, le=3000
    )
    pulse_us: tuple[float, float] = parameter(
        (600.0, 2400.0), "shortest and longest pulse the servo takes", unit="us"
    )


class Joint(Config):
    """One joint. position = neutral + direction * sum of weight * blendshape, then limited."""

    blendshapes: dict[str, float] = parameter(
        {}, "rad per unit of each blendshape (per rad for headYaw, headPitch, headRoll)"
    )
    neutral: float = parameter(0.0, "position of the resting face", unit="rad")
    range: tuple[float, float] = parameter(..., "lowest and highest position ever commanded", unit="rad")
    speed: float = parameter(..., "limit", unit="rad/s", gt=0, le=100)
    acceleration: float = parameter(..., "limit", unit="rad/s^2", gt=0, le=10000)
    direction: int = parameter(1, "1, or -1 where the joint turns the other way round than the weights mean")
    servo: Servo | None = parameter(None, "how it is wired, for the direct drivers")

    _sources = field_validator("blendshapes")(_known_sources)

    @model_validator(mode="after")
    def _consistent(self) -> Joint:
        low, high = self.range
        if not low < high:
            raise ValueError(f"range [{low:g}, {high:g}] is reversed or empty; the lower limit comes first")
        if not low <= self.neutral <= high:
            raise ValueError(f"neutral {self.neutral:g} lies outside the range [{low:g}, {high:g}]")
        if self.direction not in (1, -1):
            raise ValueError(f"direction {self.direction} must be 1 or -1")
        return self


class Feature(Config):
    """Something several joints bring about together: how far the blendshapes want it, and how much each joint
    gives.
    """

    blendshapes: dict[str, float] = parameter(..., "wanted amount per unit of each blendshape")
    joints: dict[str, float] = parameter(..., "amount per rad of each joint")
    weight: float = parameter(1.0, "importance against the other features of the coupling", gt=0, le=1000)

    _sources = field_validator("blendshapes")(_known_sources)


class Coupling(Config):
    """Joints that must be solved together: bounded least squares over the features."""

    features: dict[str, Feature] = parameter(..., "by name")
    rest: float = parameter(0.01, "pull towards neutral, for directions that no feature fixes", gt=0, le=10)


class DriverConfig(DeviceConfig):
    """Base of the parameters of a servo driver."""

    wired_by: ClassVar[Literal["id", "channel"]] = "id"
    """What of `Servo` says which servo of the bus or board a joint has."""


class JointMapConfig(Config):
    """The whole file."""

    name: str = parameter(..., "name of the robot")
    urdf: str = parameter(..., "its URDF, relative to this file")
    rate_hz: float = parameter(50.0, "commands per second", unit="Hz", ge=20, le=200)
    smoothing_s: float = parameter(
        0.1, "shortest time of a minimum-jerk move: longer is smoother and later", unit="s", ge=0.04, le=1
    )
    hold_s: float = parameter(0.15, "how long a face that stops arriving is held", unit="s", ge=0.02, le=0.2)
    ease_s: float = parameter(0.9, "how long the way back to neutral takes then", unit="s", ge=0.1, le=1.0)
    slew_s: float = parameter(2.0, "how long joints move slowly after arming", unit="s", ge=0, le=30)
    slew_share: float = parameter(0.25, "share of speed and acceleration allowed in that time", gt=0, le=1)
    resume: bool = parameter(
        True, "move again, slowly at first, when faces come back after silence; otherwise wait to be armed"
    )
    joints: dict[str, Joint] = parameter(..., "by URDF joint name", min_length=1)
    couplings: dict[str, Coupling] = parameter({}, "groups of joints that are solved together")
    driver: dict[str, Any] | None = parameter(
        None, "direct servo output: type and its parameters; left out where ros2_control moves the joints"
    )
    poses: dict[str, dict[str, float]] = parameter({}, "named poses in rad, for pictures and tests")


@dataclass(frozen=True)
class JointMap:
    """A checked joint map with its robot.

    Parameters
    ----------
    path : Path
        Of the file.
    config : JointMapConfig
        What it says.
    urdf : Urdf
        The robot.
    driver : DriverConfig, optional
        Parameters of the servos; None where there are none.
    """

    path: Path
    config: JointMapConfig
    urdf: Urdf
    driver: DriverConfig | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Joint names, in the file's order: the order of every array."""
        return tuple(self.config.joints)


def load_joint_map(path: Path) -> JointMap:
    """Read and check a joint map. Nothing moves.

    Parameters
    ----------
    path : Path
        The YAML file.

    Returns
    -------
    JointMap
        The map with its robot.

    Raises
    ------
    ConfigError
        Names the joint, blendshape or limit that is wrong.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: not valid YAML{line}: {getattr(error, 'problem', error)}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: must hold a mapping with name, urdf and joints")
    values: dict[str, Any] = tree
    parsed = config.build(JointMapConfig, values, str(path))
    robot = load_urdf(path.parent / parsed.urdf)
    driver = None if parsed.driver is None else _driver(dict(parsed.driver), path)
    check(parsed, robot, path)
    if driver is not None:
        _check_servos(parsed, driver, path)
    return JointMap(path, parsed, robot, driver)


def _driver(values: dict[str, Any], path: Path) -> DriverConfig:
    kind = values.pop("type", "")
    try:
        _, driver = SERVO_DRIVERS.configure(str(kind), **values)
    except ConfigError as error:
        raise ConfigError(f"{path}: driver: {error}") from None
    if not isinstance(driver, DriverConfig):
        raise ConfigError(
            f"{path}: driver: the parameters of '{kind}' must derive from eifer_ros.animatronic.joint_map.DriverConfig"
        )
    return driver


def check(parsed: JointMapConfig, robot: Urdf, path: Path) -> None:
    """Everything that one model alone cannot see: the URDF, couplings, and whether neutral can be reached in time.

    Parameters
    ----------
    parsed : JointMapConfig
        The joint map.
    robot : Urdf
        From the URDF.
    path : Path
        For the message.

    Raises
    ------
    ConfigError
        Names the joint that is wrong.
    """
    for name, joint in parsed.joints.items():
        where = f"{path}: joint '{name}'"
        limited_joint = robot.joints.get(name)
        if limited_joint is None:
            movable = [
                other.name
                for other in robot.joints.values()
                if other.kind in ("revolute", "continuous") and other.mimic is None
            ]
            there = ", ".join(movable) or "no joints"
            raise ConfigError(
                f"{where} is not in {robot.path.name}{did_you_mean(name, movable)}; it has {there}"
            )
        if limited_joint.kind not in ("revolute", "continuous"):
            raise ConfigError(
                f"{where} is {limited_joint.kind} in {robot.path.name}; only revolute and continuous joints can be commanded"
            )
        if limited_joint.mimic is not None:
            raise ConfigError(
                f"{where} follows '{limited_joint.mimic[0]}' in {robot.path.name} (mimic); command that one"
            )
        low, high = joint.range
        if low < limited_joint.lower - 1e-9 or high > limited_joint.upper + 1e-9:
            limits = f"[{limited_joint.lower:g}, {limited_joint.upper:g}] in {robot.path.name}"
            raise ConfigError(f"{where}: range [{low:g}, {high:g}] goes beyond the limits {limits}")
        if joint.speed > limited_joint.velocity:
            raise ConfigError(
                f"{where}: speed {joint.speed:g} rad/s is above the limit {limited_joint.velocity:g} in {robot.path.name}"
            )
        needed = time_to_neutral(joint)
        if needed > EASE_MARGIN * parsed.ease_s:
            raise ConfigError(
                f"{where} needs {needed:.2f} s from the end of its range to neutral, more than {EASE_MARGIN * parsed.ease_s:.2f} s "
                f"({EASE_MARGIN:.0%} of ease_s); raise speed or acceleration, or narrow the range"
            )
    _check_couplings(parsed, path)
    for pose, positions in parsed.poses.items():
        for name, value in positions.items():
            if name not in parsed.joints:
                hint = did_you_mean(name, parsed.joints)
                raise ConfigError(
                    f"{path}: pose '{pose}' names the joint '{name}', which is not in the map{hint}"
                )
            low, high = parsed.joints[name].range
            if not low <= value <= high:
                raise ConfigError(
                    f"{path}: pose '{pose}' puts '{name}' at {value:g}, outside its range [{low:g}, {high:g}]"
                )


def time_to_neutral(joint: Joint) -> float:
    """Duration of a minimum-jerk move from the farther end of the range to neutral, plus stopping from full
    speed first.

    Minimum-jerk moves (Flash & Hogan 1985) peak at 1.875 D/T in speed and 5.774 D/T^2 in acceleration.

    Parameters
    ----------
    joint : Joint
        Range, speed and acceleration.

    Returns
    -------
    float
        Seconds.
    """
    distance = max(joint.neutral - joint.range[0], joint.range[1] - joint.neutral)
    move = max(1.875 * distance / joint.speed, (5.774 * distance / joint.acceleration) ** 0.5)
    return float(move + joint.speed / joint.acceleration)


def _check_couplings(parsed: JointMapConfig, path: Path) -> None:
    taken: dict[str, str] = {}
    for group, coupling in parsed.couplings.items():
        if not coupling.features:
            raise ConfigError(f"{path}: coupling '{group}' has no features")
        for feature, content in coupling.features.items():
            if not content.joints:
                raise ConfigError(f"{path}: coupling '{group}', feature '{feature}' names no joints")
            for name in content.joints:
                if name not in parsed.joints:
                    hint = did_you_mean(name, parsed.joints)
                    raise ConfigError(
                        f"{path}: coupling '{group}', feature '{feature}': joint '{name}' is not in the map{hint}"
                    )
                if taken.setdefault(name, group) != group:
                    raise ConfigError(
                        f"{path}: joint '{name}' is in two couplings, '{taken[name]}' and '{group}'"
                    )
                if parsed.joints[name].blendshapes:
                    raise ConfigError(
                        f"{path}: joint '{name}' has blendshapes of its own and is in coupling '{group}'; only one can hold"
                    )


def _check_servos(parsed: JointMapConfig, driver: DriverConfig, path: Path) -> None:
    key = driver.wired_by
    wired: dict[int, str] = {}
    for name, joint in parsed.joints.items():
        number = getattr(joint.servo, key) if joint.servo is not None else None
        if number is None:
            raise ConfigError(f"{path}: joint '{name}' has no servo.{key}, which the driver needs")
        if number in wired:
            raise ConfigError(
                f"{path}: joints '{wired[number]}' and '{name}' have the same servo.{key} {number}"
            )
        wired[number] = name
