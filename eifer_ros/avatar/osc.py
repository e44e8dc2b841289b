"""Open Sound Control 1.0, the little that is needed: messages prepared once, numbers filled in for each face.

Own code because speed matters here: a library that builds 60 messages from Python objects for each face costs
more than the rest of the avatar path together. The tests read the bytes back with python-osc.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

BUNDLE = b"#bundle\x00" + struct.pack(">Q", 1)
"""Start of a bundle that is due immediately (time tag 1)."""
PACKET_BYTES = 1400
"""Bundles stay under this, so that they fit an Ethernet frame unfragmented, as VMC's specification asks."""


def string(text: str) -> bytes:
    """An OSC string: zero-ended, padded to four bytes."""
    raw = text.encode("utf-8") + b"\x00"
    return raw + b"\x00" * (-len(raw) % 4)


def floats(address: str, count: int, *names: str) -> bytes:
    """The head of a message with string arguments `names`, then `count` floats to be appended with
    `struct.pack('>nf')`.
    """
    return (
        string(address)
        + string("," + "s" * len(names) + "f" * count)
        + b"".join(string(name) for name in names)
    )


def element(message: bytes) -> bytes:
    """A message as an element of a bundle."""
    return struct.pack(">i", len(message)) + message


class FloatBank:
    """Many one-float messages, encoded once; each face only changes four bytes in each."""

    def __init__(self, heads: Sequence[bytes], packet_bytes: int = PACKET_BYTES) -> None:
        self._bundles: list[bytearray] = []
        self._slots: list[list[int]] = []
        for head in heads:
            piece = element(head + b"\x00\x00\x00\x00")
            if not self._bundles or len(self._bundles[-1]) + len(piece) > packet_bytes:
                self._bundles.append(bytearray(BUNDLE))
                self._slots.append([])
            self._bundles[-1] += piece
            self._slots[-1].append(len(self._bundles[-1]) - 4)

    def fill(self, values: Sequence[float]) -> list[bytes]:
        """The bundles with `values` in the order of the heads."""
        packed = struct.pack(f">{len(values)}f", *values)
        start = 0
        for bundle, slots in zip(self._bundles, self._slots, strict=True):
            for slot in slots:
                bundle[slot : slot + 4] = packed[start : start + 4]
                start += 4
        return [bytes(bundle) for bundle in self._bundles]
