"""Delsys Trigno over the classic SDK server (Trigno Control Utility or SDK server on a Windows machine).

Protocol, from Delsys's "SDK User Guide" as public clients quote it: text commands on port 50040, each ended
by two CR LF, answers likewise; EMG on port 50043 as 16 little-endian float32 per sample instant, one per
sensor slot, whatever is paired. Rate of the EMG port = `MAX SAMPLES EMG` / `FRAME INTERVAL` (27 / 0.0135 s =
2000 Hz). The stream carries no counter: what is lost shows only as a gap between connections.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import ClassVar

import numpy as np

from ...config import parameter
from ...errors import ConfigError, DeviceError, InputError
from .base import Block, EmgSourceConfig, Layout, LiveEmgSource, volts_per
from .tcp import FrameReader, SampleCountClock

SLOTS = 16
END = b"\r\n\r\n"


class DelsysConfig(EmgSourceConfig):
    """Parameters of the Delsys source."""

    url_field: ClassVar[str] = "host"

    host: str = parameter("127.0.0.1", "machine that runs the Trigno SDK server")
    command_port: int = parameter(50040, "port of commands", ge=1, le=65535)
    data_port: int = parameter(50043, "port of EMG data (50041 for legacy sensors)", ge=1, le=65535)
    sensors: tuple[int, ...] = parameter((), "sensor slots 1..16 to use; empty: those that are paired")
    rate_hz: float = parameter(0.0, "sampling rate; 0 asks the server", unit="Hz", ge=0, le=100000)
    unit: str = parameter("", "unit of the samples; empty asks the server, volts where it does not say")
    timeout_s: float = parameter(3.0, "how long a connection or an answer may take", unit="s", gt=0, le=60)


class DelsysSource(LiveEmgSource):
    """A Trigno base station."""

    config_type: ClassVar[type[DelsysConfig]] = DelsysConfig
    config: DelsysConfig

    def __init__(self, config: DelsysConfig | None = None) -> None:
        config = config or DelsysConfig()
        super().__init__(config)
        self.what = f"Delsys Trigno at {config.host}"
        if any(not 1 <= slot <= SLOTS for slot in config.sensors):
            raise ConfigError(f"{self.what}: sensors are slots 1..{SLOTS}, got {list(config.sensors)}")
        self._command: socket.socket | None = None
        self._data: socket.socket | None = None
        self._counted: SampleCountClock | None = None
        self._answers = b""

    def connect(self) -> Layout:
        """Greet the server, ask what is paired and start. DeviceError with the server's own words."""
        timeout = self.config.timeout_s
        self._answers = b""
        try:
            self._command = socket.create_connection((self.config.host, self.config.command_port), timeout)
            banner = self._answer("greeting")
            if "delsys" not in banner.lower() and "trigno" not in banner.lower():
                raise DeviceError(
                    f"{self.what}: port {self.config.command_port} answers '{banner[:60]}', not a Trigno server"
                )
            slots = self.config.sensors or self._paired()
            rate, notes = self._rate()
            scale = [self._volts(slot, notes) for slot in slots]
            self._data = socket.create_connection((self.config.host, self.config.data_port), timeout)
            self._data.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._query("START", expect="OK")
        except OSError as error:
            raise DeviceError(
                f"{self.what}: no answer on ports {self.config.command_port} and {self.config.data_port} "
                f"({error.strerror or error}); is the SDK server running and the firewall open?"
            ) from error
        self._columns = np.asarray([slot - 1 for slot in slots])
        self._scale = np.asarray(scale, np.float32)
        self._frames = FrameReader(self._data, 4 * SLOTS, self.what)
        self._counted = SampleCountClock(rate)
        return Layout(tuple(f"sensor{slot}" for slot in slots), rate, tuple(dict.fromkeys(notes)))

    def _paired(self) -> tuple[int, ...]:
        slots = tuple(
            slot for slot in range(1, SLOTS + 1) if self._query(f"SENSOR {slot} PAIRED?").upper() == "YES"
        )
        if not slots:
            raise DeviceError(f"{self.what}: no sensor is paired with the base station")
        return slots

    def _rate(self) -> tuple[float, list[str]]:
        if self.config.rate_hz:
            return self.config.rate_hz, []
        words = self._query("MAX SAMPLES EMG"), self._query("FRAME INTERVAL?")
        try:
            samples, interval = float(words[0]), float(words[1])
            if not (samples > 0 and interval > 0):
                raise ValueError
        except ValueError:
            raise DeviceError(
                f"{self.what}: asked for the rate it answers '{words[0]}' samples per '{words[1]}' s frame; set rate_hz"
            ) from None
        return samples / interval, []

    def _volts(self, slot: int, notes: list[str]) -> float:
        if self.config.unit:
            return volts_per(self.config.unit)
        unit = self._query(f"SENSOR {slot} CHANNEL 1 UNITS?")
        try:
            return volts_per(unit)
        except InputError:
            notes.append(f"the server names no unit of voltage ('{unit[:30]}'), taken as volts")
            return 1.0

    def _query(self, command: str, expect: str | None = None) -> str:
        assert self._command is not None
        self._command.sendall(command.encode("ascii") + END)
        answer = self._answer(f"'{command}'")
        if expect is not None and answer.upper() != expect:
            raise DeviceError(f"{self.what}: '{command}' was answered '{answer[:80]}' instead of '{expect}'")
        return answer

    def _answer(self, to: str) -> str:
        """One answer: text up to two CR LF, however the packets fell."""
        assert self._command is not None
        while END not in self._answers:
            try:
                data = self._command.recv(4096)
            except TimeoutError:
                raise DeviceError(
                    f"{self.what}: no answer to {to} within {self.config.timeout_s:g} s"
                ) from None
            if not data:
                raise DeviceError(f"{self.what}: the server closed the connection before it answered {to}")
            self._answers += data
            if len(self._answers) > 65536:
                raise DeviceError(
                    f"{self.what}: the answer to {to} does not end; port {self.config.command_port} is no Trigno server"
                )
        answer, self._answers = self._answers.split(END, 1)
        return answer.decode("ascii", "replace").strip()

    def read(self) -> Block | None:
        """Whole sample instants that have come."""
        data = self._frames.read()
        if not data:
            return None
        assert self._counted is not None
        values = np.frombuffer(data, "<f4").reshape(-1, SLOTS)
        return self._counted.block(np.ascontiguousarray(values[:, self._columns] * self._scale, np.float32))

    def disconnect(self) -> None:
        """Ask the server to stop and close both connections."""
        command = self._command
        data = self._data
        self._command = None
        self._data = None
        if command is not None:
            with suppress(OSError):  # it may be gone already; then there is nobody left to tell
                command.sendall(b"STOP" + END + b"QUIT" + END)
            command.close()
        if data is not None:
            data.close()

    def _extra_values(self) -> dict[str, float | int | str]:
        return {} if self._counted is None else self._counted.clock.state.values()
