"""What the TCP devices share: whole sample frames out of a byte stream, stamped by count."""

from __future__ import annotations

import socket

from ...clock import DeviceClock, steady_epoch
from ...errors import DeviceError
from ...types import F32
from .base import Block


class FrameReader:
    """Bytes from a socket as whole frames.

    TCP has no messages: one `recv` may hold half a frame or three and a half. What is left over waits for the
    next call.
    """

    def __init__(self, connection: socket.socket, frame_bytes: int, what: str) -> None:
        self._connection = connection
        self._frame_bytes = frame_bytes
        self._what = what
        self._rest = b""

    def read(self, wait_s: float = 0.1) -> bytes:
        """As many whole frames as have come, maybe none after `wait_s`. DeviceError: the other end closed."""
        if len(self._rest) >= self._frame_bytes:  # read before the frame length was known
            return self._whole()
        self._connection.settimeout(wait_s)
        try:
            data = self._connection.recv(1 << 20)
        except TimeoutError:
            return b""
        except OSError as error:
            raise DeviceError(f"{self._what}: connection lost ({error.strerror or error})") from error
        if not data:
            left = (
                f" in the middle of a frame ({len(self._rest)} of {self._frame_bytes} bytes)"
                if self._rest
                else ""
            )
            raise DeviceError(f"{self._what}: the device closed the connection{left}")
        self._rest += data
        return self._whole()

    def _whole(self) -> bytes:
        length = len(self._rest) // self._frame_bytes * self._frame_bytes
        data = self._rest[:length]
        self._rest = self._rest[length:]
        return data

    def resize(self, frame_bytes: int, data: bytes) -> None:
        """Go on with another frame length; `data` was read and not used yet."""
        self._frame_bytes = frame_bytes
        self._rest = data + self._rest


class SampleCountClock:
    """Stamps for a device whose only clock is its sample count."""

    def __init__(self, rate_hz: float) -> None:
        self._host = steady_epoch()
        self.clock = DeviceClock(1.0 / rate_hz)
        self._count = 0
        self._fresh = True

    def block(self, samples: F32, lost: int = 0, later: int = 0) -> Block:
        """The next samples, with `lost` missing before them and `later` samples of the same arrival still to
        come.
        """
        self._count += lost
        self.clock.observe(self._count + len(samples) + later, self._host())
        stamp = self.clock.stamp(self._count)
        self._count += len(samples)
        block = Block(samples, stamp, None if self._fresh else lost)
        self._fresh = False
        return block
