"""EMG from any board that BrainFlow knows: OpenBCI, ANT, FreeEEG, gForce and some sixty more.

BrainFlow's own stamps are taken when a packet is unpacked, so samples of one USB packet share one stamp. Here
the sample count is mapped onto the host's clock by `clock.DeviceClock` (the arrivals that queued least), and
the board's packet counter, which knows what was lost on the radio, drives the count. BrainFlow's stamps
travel along as raw stamps.
"""

from __future__ import annotations

import sys
import types
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...clock import DeviceClock, steady_epoch
from ...component import Device
from ...config import parameter
from ...errors import ConfigError, DeviceError, MissingExtra, did_you_mean
from ...types import NS
from .base import Block, EmgSourceConfig, Layout, LiveEmgSource, volts_per
from .packets import PacketCounter

_HINTS = {
    "PORT_ALREADY_OPEN_ERROR": "the port is in use by another program",
    "UNABLE_TO_OPEN_PORT_ERROR": "the port cannot be opened: is the dongle plugged in, and may this user open it (group dialout)?",
    "SET_PORT_ERROR": "the port does not take its settings: is it the right one?",
    "BOARD_WRITE_ERROR": "the board does not take commands: is it switched on?",
    "BOARD_NOT_READY_ERROR": "the board does not answer: is it switched on, in range and paired with this dongle?",
    "BOARD_NOT_CREATED_ERROR": "the board is not there",
    "INVALID_ARGUMENTS_ERROR": "a connection setting is missing or wrong (serial_port, mac_address, ip_address, ...)",
    "SYNC_TIMEOUT_ERROR": "the board was found but sends no data",
    "ANOTHER_BOARD_IS_CREATED_ERROR": "this program already has the board open",
    "UNSUPPORTED_BOARD_ERROR": "this build of BrainFlow has no driver for the board on this system",
    "GENERAL_ERROR": "BrainFlow gives no reason",
}


class BrainFlowConfig(EmgSourceConfig):
    """Parameters of the BrainFlow source."""

    url_field: ClassVar[str] = "board"

    board: str = parameter("SYNTHETIC_BOARD", "name of the board as in brainflow.BoardIds, e.g. CYTON_BOARD")
    serial_port: str = parameter("", "serial port of the dongle, e.g. /dev/ttyUSB0")
    mac_address: str = parameter("", "Bluetooth address of the board")
    ip_address: str = parameter("", "network address of the board or the WiFi shield")
    ip_port: int = parameter(0, "network port", ge=0, le=65535)
    serial_number: str = parameter("", "serial number, where several boards are in range")
    other_info: str = parameter("", "further connection setting some boards need")
    timeout_s: int = parameter(
        0, "how long the board may take to be found; 0: BrainFlow's default", unit="s", ge=0, le=600
    )
    commands: tuple[str, ...] = parameter((), "configuration strings sent to the board before streaming")
    unit: str = parameter("uV", "unit of the samples; BrainFlow gives microvolts")
    chunk_s: float = parameter(0.01, "samples are collected this often", unit="s", ge=0.001, le=1)


@contextmanager
def _resources_stand_in() -> Iterator[None]:
    """Lets BrainFlow find its own library on Python 3.11 beside setuptools 82 or newer.

    There BrainFlow falls back on `pkg_resources`, which setuptools no longer has, for one call that joins two
    paths. The stand-in makes that call and is gone again afterwards.
    """
    if find_spec("pkg_resources") is not None:
        yield
        return
    stand_in = types.ModuleType("pkg_resources")

    def resource_filename(module: str, name: str) -> str:
        return str(Path(str(sys.modules[module].__file__)).parent / name.replace("\\", "/"))

    stand_in.resource_filename = resource_filename  # type: ignore[attr-defined]
    before = sys.modules.get("pkg_resources", "absent")
    sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        if before == "absent":
            del sys.modules["pkg_resources"]
        else:
            sys.modules["pkg_resources"] = before  # type: ignore[assignment]


def load() -> Any:
    """The `brainflow.board_shim` module with its native library loaded. MissingExtra, DeviceError."""
    try:
        from brainflow import board_shim
    except ImportError as error:
        raise MissingExtra("brainflow", "brainflow", "reading a BrainFlow board") from error
    try:
        with _resources_stand_in(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the deprecation of pkg_resources is BrainFlow's to mend
            board_shim.BoardShim.get_version()
    except ModuleNotFoundError as error:
        raise DeviceError(
            f"brainflow is installed but cannot start: {error}; on Python 3.11 it needs pip install 'setuptools<82'"
        ) from error
    except (OSError, FileNotFoundError) as error:
        raise DeviceError(
            f"brainflow is installed but its native library does not load: {error} (wheels carry it for x86-64 only; on ARM it "
            "must be built)"
        ) from error
    return board_shim


def boards() -> tuple[str, ...]:
    """Names of the boards that deliver EMG or ExG channels, with channel count and rate."""
    shim = load()
    lines = []
    for board in shim.BoardIds:
        try:
            described = shim.BoardShim.get_board_descr(board.value)
        except shim.BrainFlowError:  # playback and streaming pseudo boards have no description of their own
            continue
        channels = described.get("emg_channels")
        if channels:
            lines.append(
                f"brainflow:{board.name} ({len(channels)} EMG channels, {described['sampling_rate']} Hz)"
            )
    return tuple(lines)


class BrainFlowSource(LiveEmgSource):
    """One board."""

    config_type: ClassVar[type[BrainFlowConfig]] = BrainFlowConfig
    config: BrainFlowConfig

    def __init__(self, config: BrainFlowConfig | None = None) -> None:
        config = config or BrainFlowConfig()
        super().__init__(config)
        self.what = f"BrainFlow {config.board}"
        self._host = steady_epoch()
        self._board: Any = None
        self._clock: DeviceClock | None = None
        self._ready: deque[Block] = deque()

    @classmethod
    def discover(cls) -> tuple[Device, ...]:
        """The built-in synthetic board, and serial ports that a dongle may be on."""
        load()
        ports = sorted(
            str(port) for pattern in ("ttyUSB*", "ttyACM*", "cu.usb*") for port in Path("/dev").glob(pattern)
        )
        return (
            Device("brainflow:SYNTHETIC_BOARD", "built in", "for trying out"),
            *(Device(f"brainflow:BOARD?serial_port={port}", "serial port") for port in ports),
        )

    def setup(self) -> None:
        """Load BrainFlow and check the board's name. MissingExtra, DeviceError, ConfigError."""
        self._shim = load()
        names = [board.name for board in self._shim.BoardIds]
        if self.config.board not in names:
            hint = did_you_mean(self.config.board.upper(), names)
            raise ConfigError(
                f"brainflow: there is no board '{self.config.board}'{hint}; see brainflow.BoardIds"
            )
        self._id = self._shim.BoardIds[self.config.board].value
        shim = self._shim.BoardShim
        shim.disable_board_logger()
        try:
            self._described = shim.get_board_descr(self._id)
        except self._shim.BrainFlowError as error:
            raise ConfigError(
                f"{self.what}: this board cannot be used by itself ({self._explain(error)})"
            ) from error
        self._rows = self._described.get("emg_channels") or self._described.get("eeg_channels") or []
        if not self._rows:
            raise ConfigError(f"{self.what}: the board has neither EMG nor ExG channels")
        self._scale = np.float32(volts_per(self.config.unit))

    def _explain(self, error: Exception) -> str:
        code = getattr(error, "exit_code", None)
        try:
            name = self._shim.BrainFlowExitCodes(code).name
        except ValueError:
            return str(error)
        return f"{_HINTS.get(name, str(error))} [{name}]"

    def connect(self) -> Layout:
        """Open the board and start its stream. DeviceError with a reason a person can act on."""
        if not hasattr(self, "_shim"):
            self.setup()
        params = self._shim.BrainFlowInputParams()
        for name in ("serial_port", "mac_address", "ip_address", "ip_port", "serial_number", "other_info"):
            setattr(params, name, getattr(self.config, name))
        params.timeout = self.config.timeout_s
        rate = float(self._described["sampling_rate"])
        board = self._shim.BoardShim(self._id, params)
        try:
            board.prepare_session()
            self._board = board
            for command in self.config.commands:
                board.config_board(command)
            board.start_stream(max(int(60 * rate), 1000))
        except self._shim.BrainFlowError as error:
            raise DeviceError(f"{self.what}: {self._explain(error)}") from error
        self._clock = DeviceClock(1.0 / rate)
        self._packets = PacketCounter(rate)
        self._count = 0
        self._fresh = True
        self._last_stamp = float("nan")
        notes = (
            (f"{rate:g} Hz keeps only the lowest part of the EMG band (1000 Hz or more is wanted)",)
            if rate < 500
            else ()
        )
        return Layout(tuple(f"EMG{k + 1}" for k in range(len(self._rows))), rate, notes)

    def read(self) -> Block | None:
        """What has come since the last call; waits `chunk_s`. DeviceError: the board says it is gone."""
        if self._ready:
            return self._ready.popleft()
        self._stop.wait(self.config.chunk_s)
        board = self._board
        if board is None:  # closed while we waited
            return None
        try:
            data = board.get_board_data()
        except self._shim.BrainFlowError as error:
            raise DeviceError(f"{self.what}: {self._explain(error)}") from error
        if not data.shape[1]:
            return None
        self._take(data)
        return self._ready.popleft() if self._ready else None

    def _take(self, data: Any) -> None:
        """Cut one read of (rows, N) into blocks at the gaps of the packet counter."""
        assert self._clock is not None
        stamps = np.asarray(data[self._described["timestamp_channel"]], np.float64)
        samples = np.ascontiguousarray(data[self._rows].T, np.float32) * self._scale
        losses: list[tuple[int, int]] = []
        row = self._described.get("package_num_channel")
        if row is not None:
            elapsed = 0.0 if np.isnan(self._last_stamp) else float(stamps[0]) - self._last_stamp
            losses = self._packets.add(np.asarray(data[row], np.int64), elapsed)
        self._last_stamp = float(stamps[-1])
        total = len(samples) + sum(lost for _, lost in losses)
        host = self._host()
        arrival = round(stamps[-1] * NS)
        if abs(arrival - host) > 10 * NS:  # a board that stamps with a clock of its own
            arrival = host
        self._clock.observe(self._count + total, arrival)
        edges = [0, *(place for place, _ in losses if place > 0), len(samples)]
        missing = dict(losses)
        for start, end in pairwise(edges):
            lost = missing.get(start, 0)
            self._count += lost
            stamp = self._clock.stamp(self._count)
            self._ready.append(
                Block(samples[start:end], stamp, None if self._fresh else lost, stamps[start:end])
            )
            self._fresh = False
            self._count += end - start

    def disconnect(self) -> None:
        """Release the board."""
        board = self._board
        self._board = None
        self._ready.clear()
        if board is not None and board.is_prepared():
            board.release_session()

    def _extra_values(self) -> dict[str, float | int | str]:
        if self._clock is None or not hasattr(self, "_packets"):
            return {}
        return {**self._clock.state.values(), "packet_numbering": self._packets.numbering or "not understood"}
