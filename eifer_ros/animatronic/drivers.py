"""What a direct servo driver offers, and which one a joint map asks for."""

from __future__ import annotations

from typing import Protocol

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
    wanted = joint_map.config.driver
    if wanted is None:
        return None
    if wanted.type == "dynamixel":
        from .dynamixel import DynamixelDriver

        return DynamixelDriver(joint_map)
    from .pca9685 import Pca9685Driver

    return Pca9685Driver(joint_map)
