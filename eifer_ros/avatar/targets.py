"""Addresses of avatar applications: `vmc://127.0.0.1:39539`, `livelink-csv:take1.csv`,
`livelink://pc.local?subject=Anna`.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import ConfigError, DeviceError, did_you_mean

PORTS: dict[str, int] = {"vmc": 39539, "vrchat": 9000, "livelink": 11111, "ifacialmocap": 49983}
"""Default port of each protocol that goes over UDP."""
FILES = ("livelink-csv",)
OPTIONS: dict[str, tuple[str, ...]] = {
    "vmc": ("case",),
    "vrchat": ("prefix",),
    "livelink": ("subject", "uuid", "fps"),
    "ifacialmocap": ("decimals",),
    "livelink-csv": ("fps",),
}
"""Options after `?`; `rate` (packets/s) is understood by all."""
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send: protocol, host and port (UDP) or path (file), and options."""

    protocol: str
    host: str
    port: int
    path: str
    options: dict[str, str]

    def __str__(self) -> str:
        if self.path:
            return f"{self.protocol}:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol}://{host}:{self.port}"


def parse(address: str) -> Target:
    """An address as a `Target`. Host and port may be left out: loopback, and the protocol's usual port.

    Raises ConfigError that names what is wrong and what would be right.
    """
    scheme, separator, rest = address.partition(":")
    scheme = scheme.strip().lower()
    known = (*PORTS, *FILES)
    if scheme not in known:
        example = "vmc://127.0.0.1:39539"
        raise ConfigError(
            f"avatar address '{address}': unknown protocol '{scheme}'{did_you_mean(scheme, known)}; known are "
            f"{', '.join(known)}, as in {example}"
        )
    if scheme in FILES:
        path, _, query = rest.removeprefix("//").partition("?")
        if not path:
            raise ConfigError(f"avatar address '{address}' names no file; write {scheme}:take1.csv")
        return Target(scheme, "", 0, unquote(path), _options(scheme, query, address))
    if separator and rest and not rest.startswith("//"):
        raise ConfigError(f"avatar address '{address}' must look like {scheme}://{LOOPBACK}:{PORTS[scheme]}")
    parts = urlsplit(f"{scheme}:{rest or '//'}")
    try:
        port = parts.port
    except ValueError:
        raise ConfigError(f"avatar address '{address}': the port must be a number in 1..65535") from None
    if port == 0:
        raise ConfigError(f"avatar address '{address}': the port must be a number in 1..65535")
    if parts.path not in ("", "/"):
        raise ConfigError(
            f"avatar address '{address}' has a path '{parts.path}', which {scheme} does not use"
        )
    return Target(
        scheme, parts.hostname or LOOPBACK, port or PORTS[scheme], "", _options(scheme, parts.query, address)
    )


def _options(scheme: str, query: str, address: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    allowed = ("rate", *OPTIONS[scheme])
    for name in options:
        if name not in allowed:
            hint = did_you_mean(name, allowed)
            raise ConfigError(
                f"avatar address '{address}': {scheme} has no option '{name}'{hint}; it has {', '.join(allowed)}"
            )
    return options


def resolve(target: Target) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Address family and (ip, port). Raises DeviceError that names a host which cannot be found."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DeviceError(f"{target}: the host '{target.host}' cannot be found ({reason})") from None
    # a name like localhost may be both; applications that take UDP listen on IPv4
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, (str(address[0]), int(address[1]))
