"""Hobby servos on a PCA9685 (16 channels of 12-bit PWM over I2C), register by register.

The chip keeps the last pulse for ever: when this process dies the servos hold. Wire its OE pin to something
that notices. It cannot measure positions either, so joints move to the first command at the servo's own
speed: the guard starts from neutral.
"""

from __future__ import annotations

import importlib
from typing import Any, ClassVar, Literal

import numpy as np

from ..config import parameter
from ..errors import ConfigError, DeviceError, MissingExtra
from ..types import F64
from .joint_map import DriverConfig, JointMap, Servo

MODE1 = 0x00
MODE2 = 0x01
LED0_ON_L = 0x06
ALL_LED_OFF_H = 0xFD
PRESCALE = 0xFE
SLEEP = 0x10
AUTO_INCREMENT = 0x20
RESTART = 0x80
TOTEM_POLE = 0x04
FULL_OFF = 0x10
OSCILLATOR_HZ = 25_000_000.0
STEPS = 4096


class Pca9685Config(DriverConfig):
    """Parameters of the PCA9685 driver."""

    wired_by: ClassVar[Literal["id", "channel"]] = "channel"

    bus: int = parameter(1, "I2C bus (/dev/i2c-1)", ge=0)
    address: int = parameter(0x40, "I2C address", ge=0x03, le=0x77)
    frequency_hz: float = parameter(50.0, "pulse rate", unit="Hz", ge=24, le=400)


class Pca9685Driver:
    """All servos of a joint map on one chip.

    `bus` is an SMBus (smbus2) or anything with its byte and block methods; opened if None.
    """

    config_type = Pca9685Config

    def __init__(self, joint_map: JointMap, bus: Any = None) -> None:
        if not isinstance(joint_map.driver, Pca9685Config):
            raise ConfigError(f"{joint_map.path} has no driver section of type pca9685")
        self._config = joint_map.driver
        self._names = joint_map.names
        servos: list[Servo] = [joint.servo or Servo() for joint in joint_map.config.joints.values()]
        self._channels = [servo.channel if servo.channel is not None else -1 for servo in servos]
        sign = np.array([-1.0 if servo.inverted else 1.0 for servo in servos])
        self._us_per_rad = sign * np.array([servo.ratio * servo.us_per_rad for servo in servos])
        self._centre_us = np.array([servo.centre_us for servo in servos])
        self._shortest = np.array([min(servo.pulse_us) for servo in servos])
        self._longest = np.array([max(servo.pulse_us) for servo in servos])
        self._bus = bus
        self._owned = bus is None
        self._open = False
        self._step_us = 0.0

    def open(self) -> None:
        """Find the chip, set the pulse rate, all outputs off.

        Raises DeviceError that names bus and address.
        """
        if self._bus is None:
            try:
                smbus2 = importlib.import_module("smbus2")
            except ImportError:
                raise MissingExtra("smbus2", "animatronic", "a PCA9685 driver") from None
            try:
                self._bus = smbus2.SMBus(self._config.bus)
            except OSError as error:
                raise DeviceError(
                    f"I2C bus /dev/i2c-{self._config.bus} cannot be opened ({error.strerror or error})"
                ) from None
        prescale = int(np.clip(round(OSCILLATOR_HZ / (STEPS * self._config.frequency_hz)) - 1, 3, 255))
        self._step_us = (prescale + 1) * 1e6 / OSCILLATOR_HZ
        self._byte(ALL_LED_OFF_H, FULL_OFF)
        mode = self._read_register(MODE1)
        self._byte(MODE1, (mode & ~RESTART) | SLEEP)  # the rate can only change while the oscillator sleeps
        self._byte(PRESCALE, prescale)
        self._byte(MODE2, TOTEM_POLE)
        self._byte(MODE1, AUTO_INCREMENT)
        if self._read_register(PRESCALE) != prescale:
            raise DeviceError(
                f"{self._where()}: what answers there is not a PCA9685 (it did not take the pulse rate)"
            )
        self._open = True

    def positions(self) -> F64 | None:
        """The chip cannot measure."""
        return None

    def enable(self) -> None:
        """Nothing to do: pulses start with the first command."""

    def command(self, positions: F64) -> None:
        """One pulse width per joint."""
        pulses = self._centre_us + np.asarray(positions, np.float64) * self._us_per_rad
        pulses = np.clip(pulses, self._shortest, self._longest)
        for channel, off in zip(
            self._channels, np.round(pulses / self._step_us).astype(int).tolist(), strict=True
        ):
            end = min(off, STEPS - 1)
            self._block(LED0_ON_L + 4 * channel, [0, 0, end & 0xFF, end >> 8])

    def disable(self) -> None:
        """No pulses on any channel: servos go limp."""
        self._byte(ALL_LED_OFF_H, FULL_OFF)

    def close(self) -> None:
        """No pulses, and let go of the bus."""
        if self._bus is None:
            return
        try:
            if self._open:
                self.disable()
        finally:
            self._open = False
            if self._owned:
                self._bus.close()
                self._bus = None

    def _where(self) -> str:
        return f"PCA9685 at address 0x{self._config.address:02x} of /dev/i2c-{self._config.bus}"

    def _byte(self, register: int, value: int) -> None:
        try:
            self._bus.write_byte_data(self._config.address, register, value)
        except OSError as error:
            raise DeviceError(f"{self._where()} did not answer ({error.strerror or error})") from None

    def _block(self, register: int, values: list[int]) -> None:
        try:
            self._bus.write_i2c_block_data(self._config.address, register, values)
        except OSError as error:
            raise DeviceError(f"{self._where()} did not answer ({error.strerror or error})") from None

    def _read_register(self, register: int) -> int:
        try:
            return int(self._bus.read_byte_data(self._config.address, register))
        except OSError as error:
            raise DeviceError(f"{self._where()} did not answer ({error.strerror or error})") from None
