"""OT Bioelettronica Sessantaquattro and Sessantaquattro+: the amplifier connects to us.

Protocol, as OTB's own example code and public clients have it: we listen on TCP 45454, the device connects,
we send a 16-bit big-endian command word, it streams big-endian samples of all channels, frame by frame. Word,
from bit 0: GO, REC, TRIG (2), EXT/gain (2), high-pass, 24-bit, MODE (3), channel count (2), rate (2), GETSET.
After the bioelectric channels come 2 auxiliary and 2 (Sessantaquattro) or 6 (Sessantaquattro+: quaternion,
buffer, ramp) accessory channels. The last one is a ramp that counts samples: it tells the two models apart,
and lost samples.

Scale: 286.1 nV per bit in 16-bit mode at its fixed gain 8. For 24-bit mode public sources disagree: give
`lsb_nv` yourself.
"""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np

from ...config import parameter
from ...errors import ConfigError, DeviceError
from ...types import F32, I32
from .base import Block, EmgSourceConfig, Layout, LiveEmgSource
from .tcp import FrameReader, SampleCountClock

_LSB_16_NV = 286.1
_PROBE = 16


class SessantaquattroConfig(EmgSourceConfig):
    """Parameters of the Sessantaquattro source."""

    url_field: ClassVar[str] = "port"

    port: int = parameter(45454, "TCP port to listen on; 0 lets the system choose", ge=0, le=65535)
    address: str = parameter("0.0.0.0", "address to listen on")
    model: Literal["auto", "sessantaquattro", "plus"] = parameter(
        "auto", "which model; auto looks for the sample ramp"
    )
    bioelectric: Literal[8, 16, 32, 64] = parameter(64, "bioelectric channels")
    rate_hz: Literal[500, 1000, 2000, 4000] = parameter(2000, "sampling rate", unit="Hz")
    bits: Literal[16, 24] = parameter(16, "resolution")
    mode: Literal["monopolar", "bipolar", "differential", "test"] = parameter(
        "monopolar", "working mode of the device; bipolar halves the channel count, test sends ramps"
    )
    high_pass: bool = parameter(True, "the device's own high-pass filter (about 10 Hz)")
    lsb_nv: float = parameter(
        0.0, "nanovolts per bit; 0: 286.1 in 16-bit mode, must be given in 24-bit mode", unit="nV", ge=0
    )
    accept_s: float = parameter(2.0, "how long one wait for the device lasts", unit="s", gt=0, le=60)


def command_word(config: SessantaquattroConfig, go: bool) -> bytes:
    """The two bytes that set the device up and start (`go`) or stop it."""
    mode = {"monopolar": 0, "bipolar": 1, "differential": 2, "test": 7}[config.mode]
    word = int(go)
    word |= int(config.high_pass) << 6
    word |= (config.bits == 24) << 7
    word |= mode << 8
    word |= (8, 16, 32, 64).index(config.bioelectric) << 11
    word |= (500, 1000, 2000, 4000).index(config.rate_hz) << 13
    return word.to_bytes(2, "big")


def decode(data: bytes, channels: int, bits: int) -> I32:
    """Whole frames of big-endian two's complement samples as (N, channels) integers."""
    if bits == 16:
        return np.frombuffer(data, ">i2").astype(np.int32).reshape(-1, channels)
    raw = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
    return ((raw[:, 0] << 24 | raw[:, 1] << 16 | raw[:, 2] << 8) >> 8).reshape(-1, channels)


class SessantaquattroSource(LiveEmgSource):
    """One Sessantaquattro(+) on the network."""

    config_type: ClassVar[type[SessantaquattroConfig]] = SessantaquattroConfig
    config: SessantaquattroConfig

    def __init__(self, config: SessantaquattroConfig | None = None) -> None:
        config = config or SessantaquattroConfig()
        super().__init__(config)
        self.what = f"Sessantaquattro on port {config.port}"
        if config.bits == 24 and not config.lsb_nv:
            raise ConfigError(
                "sessantaquattro: lsb_nv must be given with bits: 24 (public sources disagree on the scale; see the device's "
                "manual); 16-bit mode needs none"
            )
        self._volts = np.float32((config.lsb_nv or _LSB_16_NV) * 1e-9)
        self._server: socket.socket | None = None
        self._device: socket.socket | None = None
        self._counted: SampleCountClock | None = None
        self._ready: deque[Block] = deque()

    @property
    def port(self) -> int:
        """The port listened on; known after `setup`."""
        return self.config.port if self._server is None else int(self._server.getsockname()[1])

    def setup(self) -> None:
        """Listen. DeviceError: the port is taken."""
        if self._server is not None:
            return
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((self.config.address, self.config.port))
        except OSError as error:
            server.close()
            raise DeviceError(
                f"{self.what}: cannot listen there ({error.strerror or error}); is another program using it?"
            ) from error
        server.listen(1)
        self._server = server

    def connect(self) -> Layout:
        """Wait for the device, start it, find out which model it is."""
        self.setup()
        assert self._server is not None
        config = self.config
        self._server.settimeout(config.accept_s)
        try:
            self._device, _ = self._server.accept()
            self._device.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._device.sendall(command_word(config, go=True))
        except TimeoutError:
            raise DeviceError(
                f"{self.what}: no device has connected; join its WiFi and set this machine as its target in the OTB app or web page"
            ) from None
        except OSError as error:
            raise DeviceError(
                f"{self.what}: the device went away at once ({error.strerror or error})"
            ) from error
        self._bio = config.bioelectric // 2 if config.mode == "bipolar" else config.bioelectric
        width = config.bits // 8
        self._ready.clear()
        frames = FrameReader(self._device, 1, self.what)
        extra, self._has_ramp, data = self._probe(frames, width)
        self._channels = self._bio + extra
        frames.resize(self._channels * width, data)
        self._frames = frames
        self._counted = SampleCountClock(float(config.rate_hz))
        self._ramp: int | None = None
        notes = (
            ()
            if self._has_ramp
            else ("no sample ramp found in the last channel, lost samples cannot be counted",)
        )
        return Layout(tuple(f"ch{k + 1}" for k in range(self._bio)), float(config.rate_hz), notes)

    def _probe(self, frames: FrameReader, width: int) -> tuple[int, bool, bytes]:
        """(extra channels, whether the last one is a ramp, bytes read so far) from the first frames."""
        layouts = {"sessantaquattro": (4,), "plus": (8,), "auto": (8, 4)}[self.config.model]
        data = b""
        need = (self._bio + max(layouts)) * width * _PROBE
        silent = 0
        while len(data) < need and not self._stop.is_set():
            more = frames.read()
            data += more
            silent = 0 if more else silent + 1
            if silent > 30:
                raise DeviceError(
                    f"{self.what}: the device connected but sends nothing after the start command"
                )
        for extra in layouts:
            size = (self._bio + extra) * width
            whole = data[: len(data) // size * size]
            ramp = decode(whole, self._bio + extra, self.config.bits)[:, -1]
            steps = np.diff(ramp) % (1 << self.config.bits)
            if len(steps) and np.mean(steps == 1) > 0.7:
                return extra, True, data
        if self.config.model == "auto" and data:
            raise DeviceError(
                f"{self.what}: the data fit neither model (no sample ramp with {self._bio}+8 or {self._bio}+4 channels); check "
                "'bioelectric' and 'bits', or name the model"
            )
        return layouts[0], False, data

    def read(self) -> Block | None:
        """Whole frames that have come, cut where the ramp shows a gap."""
        if self._ready:
            return self._ready.popleft()
        data = self._frames.read()
        if not data:
            return None
        values = decode(data, self._channels, self.config.bits)
        samples: F32 = np.ascontiguousarray(values[:, : self._bio], np.float32) * self._volts
        self._cut(samples, values[:, -1])
        return self._ready.popleft() if self._ready else None

    def _cut(self, samples: F32, ramp: I32) -> None:
        assert self._counted is not None
        missing: dict[int, int] = {}
        if self._has_ramp:
            before = np.asarray([ramp[0] - 1 if self._ramp is None else self._ramp], np.int64)
            steps = (np.diff(np.concatenate((before, ramp))) - 1) % (1 << self.config.bits)
            missing = {int(k): int(steps[k]) for k in np.flatnonzero(steps)}
            self._ramp = int(ramp[-1])
        edges = [0, *(k for k in missing if k > 0), len(samples)]
        left = sum(missing.values())
        for start, end in pairwise(edges):
            lost = missing.get(start, 0)
            left -= lost
            self._ready.append(self._counted.block(samples[start:end], lost, len(samples) - end + left))

    def disconnect(self) -> None:
        """Stop the device and let it go; keep listening, so that it can come back."""
        device = self._device
        self._device = None
        if device is not None:
            with suppress(OSError):  # it may be gone already; then there is nobody left to tell
                device.sendall(command_word(self.config, go=False))
            device.close()

    def close(self) -> None:
        """Stop, and stop listening."""
        super().close()
        server = self._server
        self._server = None
        if server is not None:
            server.close()

    def _extra_values(self) -> dict[str, float | int | str]:
        return {} if self._counted is None else self._counted.clock.state.values()
