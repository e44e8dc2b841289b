"""What is whole in a recording that was cut off mid-write, as a new recording.

An MCAP file is a run of records, most of them chunks; its index comes last and is what a crash loses.
Recovery walks the records from the start. Of a chunk that was cut, the part that still decompresses gives its
whole messages. A damaged chunk in the middle is left out and counted. The original is only read.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import Writer
from rosbags.rosbag2.metadata import parse_qos
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from ..errors import RecordingError, WireError
from ..types import NS, Stamp
from ..wire import messages
from .reader import MAGIC, storage_files
from .streams import Role, recognise
from .writer import open_bag

_RECORD_HEAD = 9  # opcode and length
_MAX_RECORD = 4 << 30


@dataclass(slots=True)
class Recovery:
    """What was saved.

    bytes_used of bytes_total are in whole records; counts: messages saved by topic; damaged: chunks left out;
    cut: the file ended in the middle of a record, of which the readable part was saved too; first, last: log
    times saved, in ns.
    """

    source: Path
    out: Path
    bytes_total: int = 0
    bytes_used: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    damaged: int = 0
    cut: bool = False
    first: Stamp = 0
    last: Stamp = 0

    @property
    def messages(self) -> int:
        """Messages saved."""
        return sum(self.counts.values())

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last message saved."""
        return (self.last - self.first) / NS

    def __str__(self) -> str:
        share = 100.0 * self.bytes_used / self.bytes_total if self.bytes_total else 0.0
        text = f"{self.messages} messages over {self.duration_s:.1f} s saved to {self.out} ({share:.1f} % of {self.bytes_total} bytes whole"
        return (
            text
            + (", cut off at its end" if self.cut else "")
            + (f", {self.damaged} damaged chunks left out)" if self.damaged else ")")
        )


def recover(path: str | Path, out: str | Path | None = None) -> Recovery:
    """Save what is whole in the recording at `path` (folder or .mcap file) into a new recording `out`.

    out: `<path>_recovered` beside it where None. Raises RecordingError: nothing at `path`, not an MCAP,
    nothing to save in it, or `out` exists.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise RecordingError(f"{path}: no such recording")
    files = [file for file in storage_files(path) if file.suffix == ".mcap"]
    if not files:
        raise RecordingError(f"{path}: no .mcap file to recover")
    out = Path(out).expanduser() if out is not None else path.with_name(f"{path.stem}_recovered")
    if out.exists():
        raise RecordingError(f"{out} exists already and is never overwritten; give another name")
    result = Recovery(path, out)
    walk = (message for file in files for message in _messages(file, result))
    first = next(walk, None)
    if first is None:
        raise RecordingError(
            f"{path}: no whole message in its {result.bytes_total} bytes; there is nothing to recover"
        )
    try:
        _save(first, walk, out, result)
    except OSError as error:
        raise RecordingError(f"{out}: writing failed ({error.strerror or error})") from None
    return result


@dataclass(frozen=True, slots=True)
class _StoredMessage:
    schema: Schema
    channel: Channel
    message: Message


def _messages(file: Path, result: Recovery) -> Iterator[_StoredMessage]:
    """Whole messages of one file, in the order in which they were written."""
    result.bytes_total += file.stat().st_size
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    with file.open("rb") as stream:
        head = stream.read(len(MAGIC))
        if head != MAGIC:
            raise RecordingError(f"{file}: not an MCAP recording (its first bytes are {head!r})")
        result.bytes_used += len(MAGIC)
        for record in _parsed_records(stream, result):
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                channels[record.id] = record
            elif isinstance(record, Message):
                channel = channels.get(record.channel_id)
                if channel is not None and channel.schema_id in schemas:
                    yield _StoredMessage(schemas[channel.schema_id], channel, record)


def _parsed_records(stream: BinaryIO, result: Recovery) -> Iterator[McapRecord]:
    """Records in and outside of chunks. A whole chunk that is damaged gives nothing and is counted."""
    for code, record, whole in _records(stream, result):
        if code != Opcode.CHUNK:
            yield from _parse(record)
        elif not whole:
            yield from _parse(_cut_chunk(record))
        else:
            try:
                chunk = Chunk.read(ReadDataStream(BytesIO(record[_RECORD_HEAD:])))
                inside = breakup_chunk(chunk, validate_crc=True)
            except Exception:  # mcap raises its own, zstd's, struct's and unicode's errors
                result.damaged += 1
            else:
                yield from inside


def _parse(data: bytes) -> Iterator[McapRecord]:
    """The records of `data` as far as they are whole."""
    try:
        yield from StreamReader(BytesIO(data), skip_magic=True).records
    except Exception:  # the end, or whatever mcap, struct and unicode raise for a damaged record
        return


def _records(stream: BinaryIO, result: Recovery) -> Iterator[tuple[int, bytes, bool]]:
    """Opcode, bytes and True of each whole record; False with a chunk that the end of the file cut short."""
    while True:
        head = stream.read(_RECORD_HEAD)
        if len(head) < _RECORD_HEAD:
            result.cut |= head != MAGIC
            if head == MAGIC:
                result.bytes_used += len(head)
            return
        code, length = struct.unpack("<BQ", head)
        if code == 0 or length > _MAX_RECORD:
            result.cut = True  # zeros of a file system that lost its last blocks, or no record at all
            return
        body = stream.read(length)
        if len(body) < length:
            result.cut = True
            if code == Opcode.CHUNK:
                yield code, head + body, False
            return
        result.bytes_used += len(head) + len(body)
        yield code, head + body, True


def _cut_chunk(record: bytes) -> bytes:
    """What a chunk held, as far as its bytes reach: the library takes a chunk whole or not at all."""
    head = ReadDataStream(BytesIO(record))
    try:
        head.read(_RECORD_HEAD + 28)  # start and end time, size, CRC
        compression = head.read_prefixed_string()
        head.read8()
    except Exception:  # cut within the chunk's own head: no byte of a message is there
        return b""
    return _unpack(record[head.count :], compression)


def _unpack(packed: bytes, compression: str) -> bytes:
    """As much as decompresses. zstd gives blocks of up to 128 KiB whole or not at all."""
    if not compression:
        return packed
    if compression == "zstd":
        machine: Any = zstandard.ZstdDecompressor().decompressobj()
    elif compression == "lz4":
        import lz4.frame  # type: ignore[import-untyped]

        machine = lz4.frame.LZ4FrameDecompressor()
    else:
        return b""
    done = bytearray()
    # piece by piece, so that what comes before a bad byte is kept
    with suppress(zstandard.ZstdError, RuntimeError, EOFError):
        for at in range(0, len(packed), 4096):
            done += machine.decompress(packed[at : at + 4096])
    return bytes(done)


def _save(first: _StoredMessage, rest: Iterator[_StoredMessage], out: Path, result: Recovery) -> None:
    writer = open_bag(out, {"recovered_from": str(result.source)})
    connections: dict[tuple[str, str], Connection] = {}
    counts: Counter[str] = Counter()
    result.first = int(first.message.log_time)
    result.last = result.first
    for record in _chain(first, rest):
        key = (record.channel.topic, record.schema.name)
        if key not in connections:
            connections[key] = _connect(writer, record)
        _keep_session(writer, record)
        writer.write(connections[key], record.message.log_time, record.message.data)
        counts[record.channel.topic] += 1
        result.first = min(result.first, record.message.log_time)
        result.last = max(result.last, record.message.log_time)
    writer.close()
    result.counts = dict(counts)


def _chain(first: _StoredMessage, rest: Iterator[_StoredMessage]) -> Iterator[_StoredMessage]:
    yield first
    yield from rest


def _connect(writer: Writer, record: _StoredMessage) -> Connection:
    text = record.schema.data.decode()
    parse = (
        get_types_from_msg(text, record.schema.name)
        if record.schema.encoding == "ros2msg"
        else get_types_from_idl(text)
    )
    store = get_typestore(Stores.EMPTY)
    store.register(parse)
    offered: list[Qos] = parse_qos(record.channel.metadata.get("offered_qos_profiles", "")) or []
    return writer.add_connection(
        record.channel.topic,
        record.schema.name,
        msgdef=text,
        rihs01=store.hash_rihs01(record.schema.name),
        serialization_format=record.channel.message_encoding,
        offered_qos_profiles=offered,
    )


def _keep_session(writer: Writer, record: _StoredMessage) -> None:
    """The session record back into metadata.yaml, where a whole recording has it."""
    stream = recognise(record.channel.topic, record.schema.name, None)
    if stream is not None and stream.role is Role.SESSION and "eifer" not in writer.custom_data:
        try:
            text = messages.deserialise(record.message.data, record.schema.name).data
            json.loads(text)
        except (WireError, json.JSONDecodeError):
            return
        writer.set_custom_data("eifer", text)
