"""What all senders share: a rate limit by the stamps, a socket that never blocks, and counters."""

from __future__ import annotations

import errno
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence

from ..component import Health, Level
from ..errors import ConfigError, DeviceError
from ..types import NS, Stamp
from .face import AvatarFace
from .targets import Target, resolve

DEFAULT_RATE_HZ = 60.0


class Sender(ABC):
    """Sends faces to one application.

    `send` never blocks and never raises for a network that drops packets: it counts. Faces beyond `rate_hz`
    are skipped. sent: faces that left. skipped: beyond the rate. failed: faces the network would not take.
    bytes: payload so far.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rate_hz = number_option(target, "rate", DEFAULT_RATE_HZ, 1.0, 1000.0)
        self.sent = self.skipped = self.failed = self.bytes = 0
        self.last_error = ""
        self._due: Stamp | None = None

    def send(self, face: AvatarFace) -> bool:
        """Send `face` unless the rate limit says no; True where it left."""
        if not self._is_due(face.stamp):
            self.skipped += 1
            return False
        ok = self._deliver(face)
        if ok:
            self.sent += 1
        else:
            self.failed += 1
        return ok

    def _is_due(self, stamp: Stamp) -> bool:
        period = round(NS / self.rate_hz)
        if self._due is None or stamp < self._due - 2 * period or stamp > self._due + 2 * period:
            self._due = stamp + period  # the first face, a gap, or time that went back
            return True
        # half a millisecond of tolerance: a 60 Hz source against a 60 Hz limit must not lose every other face
        # to jitter
        if stamp < self._due - NS // 2000:
            return False
        self._due += period
        return True

    @abstractmethod
    def _deliver(self, face: AvatarFace) -> bool:
        """Encode and hand over one face."""

    def reset(self) -> None:
        """Forget when the last face was sent (time jumped)."""
        self._due = None

    def health(self) -> Health:
        """Counters; a warning while nobody takes the packets."""
        values: dict[str, float | int | str] = {
            "target": str(self.target),
            "sent": self.sent,
            "skipped": self.skipped,
            "failed": self.failed,
            "bytes": self.bytes,
        }
        if self.last_error:
            return Health(Level.WARN, f"{self.target}: {self.last_error}", values)
        return Health(Level.OK, f"sending to {self.target}", values)

    @abstractmethod
    def close(self) -> None:
        """Release the socket or file. Safe to call twice."""


class UdpSender(Sender):
    """Packets over UDP.

    Opening it resolves the host and asks the kernel for a route, so that a wrong host is said at once.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        family, address = resolve(target)
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise DeviceError(
                f"{target}: the host '{target.host}' cannot be reached ({error.strerror or error})"
            ) from None

    @abstractmethod
    def packets(self, face: AvatarFace) -> Sequence[bytes]:
        """The datagrams of one face, in order."""

    def _deliver(self, face: AvatarFace) -> bool:
        for packet in self.packets(face):
            try:
                self._socket.send(packet)
            except BlockingIOError:
                self.last_error = "the network is too slow; packets are dropped"
                return False
            except ConnectionRefusedError:
                # the answer to an earlier packet: nobody listens there yet. Try again, the application may
                # start later.
                self.last_error = f"nobody listens on port {self.target.port} of '{self.target.host}'"
                return False
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise DeviceError(f"{self.target}: this sender was closed") from None
                self.last_error = (
                    f"the host '{self.target.host}' cannot be reached ({error.strerror or error})"
                )
                return False
            self.bytes += len(packet)
        self.last_error = ""
        return True

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()


def number_option(target: Target, name: str, default: float, low: float, high: float) -> float:
    """A number among the options of an address. Raises ConfigError with its range."""
    text = target.options.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise ConfigError(f"{target}: {name} = '{text}'; it must be a number in {low:g}..{high:g}")
    return value


def choice_option(target: Target, name: str, choices: Sequence[str]) -> str:
    """One of `choices` (the first is the default). Raises ConfigError that lists them."""
    value = target.options.get(name, choices[0])
    if value not in choices:
        raise ConfigError(f"{target}: {name} = '{value}'; it must be one of {', '.join(choices)}")
    return value
