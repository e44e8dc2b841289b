"""What a direct servo driver offers, and which one a joint map asks for."""

from __future__ import annotations

from typing import Any, Protocol

from ..registry import SERVO_DRIVERS
from ..types import F64
from .joint_map import JointMap


class Driver(Protocol):
    """Servos of all joints of a map, in its order. Errors: DeviceError that names the joint; MissingExtra."""

    def open(self) -> None:
        """Find every servo before anything moves; torque stays off."""

    def positions(self) -> F64 | None:
        """(J,) measured positions in rad, or None where the hardware cannot tell."""

    def enable(self) -> None:
        """Torque on."""

    def command(self, positions: F64) -> None:
        """Send (J,) positions in rad."""

    def disable(self) -> None:
        """Torque off, or no pulse."""

    def close(self) -> None:
        """Torque off and let go of the port. Safe to call twice."""


def make_driver(joint_map: JointMap) -> Driver | None:
    """The driver of the map's `driver` section, not opened yet; None where it has none."""
    section = joint_map.config.driver
    if section is None:
        return None
    device: Any = SERVO_DRIVERS.load(SERVO_DRIVERS.scheme(section["type"]))
    driver: Driver = device(joint_map)
    return driver
