"""What all senders share: a rate limit by the stamps, a socket that never blocks, and counters."""

from __future__ import annotations

import errno
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..component import Health, Level
from ..config import DeviceConfig, parameter
from ..errors import DeviceError
from ..types import NS, Stamp
from .face import AvatarFace

LOOPBACK = "127.0.0.1"


class SenderConfig(DeviceConfig):
    """What can be set for every avatar."""

    rate_hz: float = parameter(60.0, "faces sent per second at most", unit="Hz", ge=1, le=1000)


def udp_port(default: int) -> Any:
    """The parameter `port` of a protocol whose applications usually listen on `default`.

    Parameters
    ----------
    default : int
        Port.

    Returns
    -------
    object
        A pydantic field.
    """
    return parameter(default, "UDP port of the application", ge=1, le=65535)


class UdpSenderConfig(SenderConfig):
    """What can be set for every avatar that is reached over UDP, at `//HOST:PORT`."""

    host: str = parameter(LOOPBACK, "name or address of the computer that the application runs on")
    port: int = udp_port(0)

    @classmethod
    def from_address(cls, address: str) -> dict[str, Any]:
        """Host and port. Either may be left out: loopback, and the protocol's usual port."""
        if address and not address.startswith("//"):
            raise ValueError(
                f"its address must look like //{LOOPBACK}:{cls.model_fields['port'].default}, not '{address}'"
            )
        parts = urlsplit(address)
        try:
            port = parts.port
        except ValueError:
            raise ValueError("the port must be a number in 1..65535") from None
        if parts.path not in ("", "/"):
            raise ValueError(f"it has a path '{parts.path}', which is not used")
        values = {"host": parts.hostname, "port": port}
        return {name: value for name, value in values.items() if value is not None}


class Sender(ABC):
    """Sends faces to one application.

    `send` never blocks and never raises for a network that drops packets: it counts. Faces beyond `rate_hz`
    are skipped. sent: faces that left. skipped: beyond the rate. failed: faces the network would not take.
    bytes: payload so far.

    Parameters
    ----------
    config : SenderConfig
        Parameters.
    """

    config_type: ClassVar[type[SenderConfig]]
    protocol: ClassVar[str]
    """Its scheme in the registry."""

    def __init__(self, config: SenderConfig) -> None:
        self.rate_hz = config.rate_hz
        self.sent = 0
        self.skipped = 0
        self.failed = 0
        self.bytes = 0
        self.last_error = ""
        self._due: Stamp | None = None

    @property
    @abstractmethod
    def target(self) -> str:
        """Where faces go, as messages write it."""

    def send(self, face: AvatarFace) -> bool:
        """Send a face unless the rate limit says no.

        Parameters
        ----------
        face : AvatarFace
            What to show.

        Returns
        -------
        bool
            Whether it left.
        """
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
        """Counters; a warning while nobody takes the packets.

        Returns
        -------
        Health
            Counters; level WARN while nobody takes the packets.
        """
        values: dict[str, float | int | str] = {
            "target": self.target,
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

    Parameters
    ----------
    config : UdpSenderConfig
        Parameters.

    Raises
    ------
    DeviceError
        The host cannot be found or reached.
    """

    config_type: ClassVar[type[UdpSenderConfig]]

    def __init__(self, config: UdpSenderConfig) -> None:
        super().__init__(config)
        self.host = config.host
        self.port = config.port
        family, address = self._resolve()
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise DeviceError(
                f"{self.target}: the host '{self.host}' cannot be reached ({error.strerror or error})"
            ) from None

    @property
    def target(self) -> str:
        """Protocol, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol}://{host}:{self.port}"

    def _resolve(self) -> tuple[socket.AddressFamily, tuple[str, int]]:
        """Address family and (ip, port). Raises DeviceError that names a host which cannot be found."""
        try:
            addresses = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
        except (socket.gaierror, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DeviceError(f"{self.target}: the host '{self.host}' cannot be found ({reason})") from None
        # a name like localhost may be both; applications that take UDP listen on IPv4
        family, _, _, _, address = min(addresses, key=lambda entry: entry[0] != socket.AF_INET)
        return family, (str(address[0]), int(address[1]))

    @abstractmethod
    def packets(self, face: AvatarFace) -> Sequence[bytes]:
        """The datagrams of one face, in order.

        Parameters
        ----------
        face : AvatarFace
            What to show.

        Returns
        -------
        Sequence[bytes]
            Payloads.
        """

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
                self.last_error = f"nobody listens on port {self.port} of '{self.host}'"
                return False
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise DeviceError(f"{self.target}: this sender was closed") from None
                self.last_error = f"the host '{self.host}' cannot be reached ({error.strerror or error})"
                return False
            self.bytes += len(packet)
        self.last_error = ""
        return True

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()
