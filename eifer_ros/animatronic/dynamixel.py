"""Dynamixel X series over protocol 2.0 (dynamixel-sdk), position mode.

Beside the software's limits each servo gets its own profile velocity (from the joint's speed) and the bus
watchdog: when commands stop coming for `watchdog_s`, as after a crash of this process, the servo stops by
itself. After such a stop it takes no goals until 0 is written to the watchdog, which `enable` does.

Goals are not answered, so with each packet of goals one servo in turn is asked whether its torque is on. Its
answer is read before the next goals: nothing waits for it. A servo that is silent, or has restarted, is
noticed within joints + `ATTEMPTS` commands.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import numpy as np

from ..config import parameter
from ..errors import ConfigError, DeviceError, MissingExtra
from ..types import F64
from .joint_map import DriverConfig, JointMap, Servo

# control table of the X series (e-manual.robotis.com): address, bytes
OPERATING_MODE = (11, 1)
TORQUE_ENABLE = (64, 1)
BUS_WATCHDOG = (98, 1)
PROFILE_VELOCITY = (112, 4)
GOAL_POSITION = (116, 4)
PRESENT_POSITION = (132, 4)
COUNTS_PER_RAD = 4096 / (2 * math.pi)
WATCHDOG_UNIT_S = 0.020
VELOCITY_UNIT = 0.229 * 2 * math.pi / 60  # rad/s
POSITION_MODE = 3
PROTOCOL = 2.0
PORT_ERRORS: tuple[type[Exception], ...] = (OSError,)  # serial.SerialException is one
try:
    import termios
except ImportError:  # Windows
    pass
else:
    PORT_ERRORS = (OSError, termios.error)
ATTEMPTS = 3
"""How often a servo is asked before it counts as silent."""


class DynamixelConfig(DriverConfig):
    """Parameters of the Dynamixel driver."""

    wired_by: ClassVar[Literal["id", "channel"]] = "id"

    port: str = parameter("/dev/ttyUSB0", "serial port of the adapter")
    baud: int = parameter(1_000_000, "bus speed", unit="bit/s", gt=0)
    watchdog_s: float = parameter(
        0.2, "servos stop by themselves after this much silence on the bus", unit="s", ge=0.04, le=2.54
    )


class DynamixelDriver:
    """All servos of a joint map on one bus."""

    config_type = DynamixelConfig

    def __init__(self, joint_map: JointMap) -> None:
        if not isinstance(joint_map.driver, DynamixelConfig):
            raise ConfigError(f"{joint_map.path} has no driver section of type dynamixel")
        self._config = joint_map.driver
        self._names = joint_map.names
        self._servos: list[Servo] = [joint.servo or Servo() for joint in joint_map.config.joints.values()]
        self._ids = [servo.id if servo.id is not None else -1 for servo in self._servos]
        sign = np.array([-1.0 if servo.inverted else 1.0 for servo in self._servos])
        self._scale = sign * np.array([servo.ratio for servo in self._servos]) * COUNTS_PER_RAD
        self._centre = np.array([servo.centre for servo in self._servos], np.float64)
        speeds = [
            joint.speed * servo.ratio
            for joint, servo in zip(joint_map.config.joints.values(), self._servos, strict=True)
        ]
        self._profile = [max(1, math.ceil(speed / VELOCITY_UNIT)) for speed in speeds]
        self._port: Any = None
        self._packets: Any = None
        self._write: Any = None
        self._read: Any = None
        self._enabled = False
        self._turn = 0
        self._misses = 0
        self._pending = False

    def open(self) -> None:
        """Open the port and ping every servo.

        Raises DeviceError that names the port, or the joint and id that does not answer.
        """
        try:
            import dynamixel_sdk as sdk
        except ImportError:
            raise MissingExtra("dynamixel-sdk", "animatronic", "a Dynamixel driver") from None
        port = sdk.PortHandler(self._config.port)
        try:
            opened = port.setBaudRate(self._config.baud)
        except PORT_ERRORS as error:
            raise DeviceError(f"Dynamixel port {self._config.port} cannot be opened ({error})") from None
        if not opened:
            raise DeviceError(
                f"Dynamixel port {self._config.port}: {self._config.baud} bit/s is not a speed that Dynamixels use"
            )
        self._port = port
        self._packets = sdk.PacketHandler(PROTOCOL)
        self._write = sdk.GroupSyncWrite(port, self._packets, *GOAL_POSITION)
        self._read = sdk.GroupSyncRead(port, self._packets, *PRESENT_POSITION)
        try:
            for name, number in zip(self._names, self._ids, strict=True):
                _, result, status = self._query(functools.partial(self._packets.ping, port, number))
                self._check(result, status, name, number, "reports an error")
                self._set(TORQUE_ENABLE, name, number, 0)  # the mode can only change without torque
                self._set(BUS_WATCHDOG, name, number, 0)
                self._set(OPERATING_MODE, name, number, POSITION_MODE)
                self._read.addParam(number)
        except DeviceError:
            self.close()
            raise

    def positions(self) -> F64 | None:
        """(J,) rad as the servos report."""
        self._require_open()
        (result,) = self._query(lambda: (self._read.txRxPacket(),))
        if result != 0:
            missing = [
                f"'{name}' (id {number})"
                for name, number in zip(self._names, self._ids, strict=True)
                if not self._read.isAvailable(number, *PRESENT_POSITION)
            ]
            silent = ", ".join(missing) or "the servos"
            raise DeviceError(
                f"{self._config.port}: no position from {silent} ({self._packets.getTxRxResult(result)})"
            )
        raw = np.array([self._read.getData(number, *PRESENT_POSITION) for number in self._ids], np.int64)
        counts = np.where(raw > 0x7FFFFFFF, raw - (1 << 32), raw)  # signed 32 bit
        return np.asarray((counts - self._centre) / self._scale)

    def enable(self) -> None:
        """Watchdog cleared, profile set, torque on, watchdog armed; the goal is the present position, so that
        nothing jumps.
        """
        present = self.positions()
        for name, number, profile in zip(self._names, self._ids, self._profile, strict=True):
            self._set(BUS_WATCHDOG, name, number, 0)
            self._set(PROFILE_VELOCITY, name, number, profile)
            self._set(TORQUE_ENABLE, name, number, 1)
        if present is not None:
            self.command(present)
        units = min(max(round(self._config.watchdog_s / WATCHDOG_UNIT_S), 1), 127)
        for name, number in zip(self._names, self._ids, strict=True):
            self._set(BUS_WATCHDOG, name, number, units)
        self._enabled = True
        self._misses = 0

    def command(self, positions: F64) -> None:
        """Goals of all servos in one packet, which no servo answers; while enabled, one servo is checked.

        Parameters
        ----------
        positions : ndarray of float64, shape (J,)
            Rad.

        Raises
        ------
        DeviceError
            The port is gone, or a servo is silent or without torque, with its joint and id.
        """
        self._require_open()
        self._check_turn()
        counts = np.round(self._centre + np.asarray(positions, np.float64) * self._scale)
        counts = np.clip(counts, 0, 4095).astype(np.int64)
        self._write.clearParam()
        for number, count in zip(self._ids, counts.tolist(), strict=True):
            self._write.addParam(number, count.to_bytes(4, "little"))
        with self._port_errors():
            result = self._write.txPacket()
        if result != 0:
            raise DeviceError(
                f"{self._config.port}: goals could not be sent ({self._packets.getTxRxResult(result)})"
            )
        if self._enabled:
            with self._port_errors():
                self._packets.readTx(self._port, self._ids[self._turn], *TORQUE_ENABLE)
            self._pending = True

    def disable(self) -> None:
        """Torque and watchdog off. Tries every servo before it says which did not answer."""
        self._require_open()
        self._enabled = False
        first: DeviceError | None = None
        for name, number in zip(self._names, self._ids, strict=True):
            try:
                self._set(TORQUE_ENABLE, name, number, 0)
                self._set(BUS_WATCHDOG, name, number, 0)
            except DeviceError as error:  # where torque stays on, the watchdog does too
                first = first or error
        if first is not None:
            raise first

    def close(self) -> None:
        """Torque off where it is on, and close the port."""
        if self._port is None:
            return
        try:
            if self._enabled:
                self.disable()
        finally:
            port = self._port
            self._port = None
            with contextlib.suppress(*PORT_ERRORS):
                port.closePort()

    def _set(self, register: tuple[int, int], name: str, number: int, value: int) -> None:
        send = self._packets.write1ByteTxRx if register[1] == 1 else self._packets.write4ByteTxRx
        result, status = self._query(lambda: send(self._port, number, register[0], value))
        self._check(result, status, name, number, f"refused {value} at address {register[0]}")

    def _query(self, ask: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
        """The answer to `ask`, asked again where none came: a bus loses a packet now and then, and all that
        is asked may be repeated.

        The result code is the last but one value of two or more, or the only one.
        """
        answer: tuple[Any, ...] = ()
        self._take_answer()
        for _ in range(ATTEMPTS):
            with self._port_errors():
                answer = ask()
            if (answer[-2] if len(answer) > 1 else answer[0]) == 0:
                break
        return answer

    def _check_turn(self) -> None:
        """What the servo asked with the last goals says. Another try where it says nothing, `ATTEMPTS` times."""
        answer = self._take_answer()
        if answer is None or not self._enabled:
            return
        torque, result, status = answer
        name, number = self._names[self._turn], self._ids[self._turn]
        if result != 0 or status & 0x7F or not torque:
            self._misses += 1
            if self._misses >= ATTEMPTS:
                self._check(result, status, name, number, "refused a question")
            return
        if not torque[0]:
            raise DeviceError(
                f"{self._config.port}: the servo of joint '{name}' (id {number}) has switched its torque off; "
                "it has restarted or protects itself (supply, load, heat)"
            )
        self._misses = 0
        self._turn = (self._turn + 1) % len(self._ids)

    def _take_answer(self) -> tuple[Any, ...] | None:
        """The answer that is still due on the bus, which nobody else may take for theirs."""
        if not self._pending:
            return None
        self._pending = False
        with self._port_errors():
            answer: tuple[Any, ...] = self._packets.readRx(
                self._port, self._ids[self._turn], TORQUE_ENABLE[1]
            )
        return answer

    @contextlib.contextmanager
    def _port_errors(self) -> Iterator[None]:
        """Whatever the serial port raises, as DeviceError with the port's name."""
        try:
            yield
        except PORT_ERRORS as error:
            self._pending = False
            self._port.is_using = False
            raise DeviceError(f"the Dynamixel port {self._config.port} is gone ({error})") from None

    def _check(self, result: int, status: int, name: str, number: int, what: str) -> None:
        where = f"{self._config.port} at {self._config.baud} bit/s: the servo of joint '{name}' (id {number})"
        if result != 0:
            raise DeviceError(f"{where} did not answer ({self._packets.getTxRxResult(result)})")
        if status & 0x7F:  # bit 7 is the hardware alert, which does not refuse the write
            raise DeviceError(f"{where} {what} ({self._packets.getRxPacketError(status)})")

    def _require_open(self) -> None:
        if self._port is None:
            raise DeviceError(f"the Dynamixel port {self._config.port} is not open")
