"""A recording back into items, in stamp order and the same way each time.

Any rosbag2 recording with topics of eifer in it can be read, in any namespace: `/eifer/face/vision` and
`/lab/p07/face/vision` are both `face/vision`. Pictures come back as one Frame, whether they were recorded raw
or compressed.
"""

from __future__ import annotations

import heapq
import json
import struct
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.errors import ReaderError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from ..errors import RecordingError, WireError
from ..types import NS, Item, Stamp
from ..wire import messages
from ..wire.conversions import FrameAssembler, from_wire
from .streams import PORTS, Role, Stream, mismatch, recognise

MAGIC = b"\x89MCAP0\r\n"
_WINDOW_NS = 2 * NS
"""A message may have been recorded this much later than one with a greater stamp and is still put before it.
"""


class Recorded(NamedTuple):
    """One item of a recording.

    Attributes
    ----------
    stamp : int (ns)
        Acquisition.
    topic : str
        Relative name.
    item : Item
        What it holds.
    """

    stamp: Stamp
    topic: str
    item: Item


class RawMessage(NamedTuple):
    """One message as recorded.

    Attributes
    ----------
    stamp : int (ns)
        Of its header.
    log_time : int (ns)
        When it was recorded.
    connection : Connection
        Topic and type.
    data : bytes
        CDR bytes.
    """

    stamp: Stamp
    log_time: Stamp
    connection: Connection
    data: bytes


def read(
    path: str | Path,
    *,
    topics: Collection[str] | None = None,
    start: Stamp | None = None,
    stop: Stamp | None = None,
) -> Iterator[Recorded]:
    """Items of a recording in the order of their stamps.

    Parameters
    ----------
    path : str or Path
        Folder or .mcap file.
    topics : Collection[str], optional
        Relative names (`emg/raw`, `camera/image_raw`); None for all.
    start : Stamp, optional
        First stamp; None for the beginning.
    stop : Stamp, optional
        First stamp that is left out; None for the end.

    Yields
    ------
    Recorded
        One item.

    Raises
    ------
    RecordingError
        The file is missing, cut off, damaged or not of eifer, or a message breaks its contract.
    """
    with Bag(path) as bag:
        yield from bag.items(topics=topics, start=start, stop=stop)


def storage_files(path: Path) -> list[Path]:
    """The MCAP files of a recording, which may be one file, or a folder with or without metadata.yaml.

    Parameters
    ----------
    path : Path
        One file, or a folder with or without metadata.yaml.

    Returns
    -------
    list[Path]
        In order.
    """
    return sorted(path.glob("*.mcap")) if path.is_dir() else [path]


def check_whole(file: Path) -> None:
    """Check that an MCAP file was closed properly.

    Parameters
    ----------
    file : Path
        The .mcap.

    Raises
    ------
    RecordingError
        It is empty, no MCAP, or cut off mid-write.
    """
    size = file.stat().st_size
    if size == 0:
        raise RecordingError(f"{file}: the recording is empty (0 bytes)")
    with file.open("rb") as stream:
        head = stream.read(len(MAGIC))
        stream.seek(max(size - len(MAGIC), 0))
        tail = stream.read()
    if head != MAGIC:
        raise RecordingError(f"{file}: not an MCAP recording (its first bytes are {head!r})")
    if tail != MAGIC or size < 2 * len(MAGIC):
        raise RecordingError(
            f"{file}: the recording was cut off mid-write; get back what is in it with: eifer recover {file}"
        )


class Bag:
    """An open recording; a context manager.

    session: the session record ({} where there is none). streams: connections that eifer understands.
    foreign: topics it does not.

    Parameters
    ----------
    path : str or Path
        Folder or .mcap file.
    accept_foreign : bool, optional
        Do not insist on topics of eifer (for `info`).

    Raises
    ------
    RecordingError
        As `read`.
    """

    def __init__(self, path: str | Path, *, accept_foreign: bool = False) -> None:
        self.path = Path(path).expanduser()
        self._accept_foreign = accept_foreign
        self._stack = ExitStack()
        self._readers: list[Reader] = []
        self.streams: list[tuple[Connection, Stream]] = []
        self.foreign: list[Connection] = []
        self.session: dict[str, Any] = {}

    def __enter__(self) -> Bag:
        if not self.path.exists():
            raise RecordingError(f"{self.path}: no such recording")
        files = storage_files(self.path)
        whole = self.path.is_dir() and (self.path / "metadata.yaml").is_file()
        if not files and not whole:
            raise RecordingError(
                f"{self.path}: not a rosbag2 recording; it holds neither metadata.yaml nor an .mcap file"
            )
        for file in files:
            if file.suffix == ".mcap":
                check_whole(file)
        try:
            for source in [self.path] if whole else files:
                self._readers.append(self._stack.enter_context(Reader(source)))
            self._sort_out()
        except (ReaderError, OSError) as error:
            self.close()
            raise RecordingError(f"{self.path}: cannot be read as a rosbag2 recording ({error})") from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._stack.close()
        self._readers = []

    # ---- what is in it --------------------------------------------------------------------------------------------------

    @property
    def connections(self) -> list[Connection]:
        """Every topic of the recording."""
        return [connection for reader in self._readers for connection in reader.connections]

    def _sort_out(self) -> None:
        self.session = self._read_session()
        namespace = self.session.get("namespace")
        for connection in self.connections:
            stream = recognise(
                connection.topic, connection.msgtype, namespace if isinstance(namespace, str) else None
            )
            if stream is None:
                self.foreign.append(connection)
            else:
                self.streams.append((connection, stream))
        raw = {
            s.port
            for c, s in self.streams
            if s.role is Role.PICTURE and c.msgtype.endswith("/Image") and c.msgcount
        }
        self.streams = [
            (c, s)
            for c, s in self.streams
            if not (s.role is Role.PICTURE and c.msgtype.endswith("/CompressedImage") and s.port in raw)
        ]
        if self._accept_foreign:
            return
        if not self.session and not any(
            stream.role in (Role.ITEM, Role.PICTURE) for _, stream in self.streams
        ):
            raise self._foreign_error()
        for connection, _ in self.streams:
            _check_definition(self.path, connection)

    def _foreign_error(self) -> RecordingError:
        wrong = next(filter(None, (mismatch(c.topic, c.msgtype) for c in self.foreign)), None)
        if wrong:
            return RecordingError(f"{self.path}: not a recording of eifer: {wrong}")
        present = (
            ", ".join(sorted(f"{c.topic} ({c.msgtype})" for c in self.connections)[:5]) or "no topic at all"
        )
        more = f" and {len(self.connections) - 5} more" if len(self.connections) > 5 else ""
        expected = ", ".join(port.name for port in PORTS[:6])
        return RecordingError(
            f"{self.path}: not a recording of eifer; expected topics such as {expected}; found {present}{more}"
        )

    def _read_session(self) -> dict[str, Any]:
        for reader in self._readers:
            session_connections = [
                c
                for c in reader.connections
                if recognise(c.topic, c.msgtype, None) == Stream(Role.SESSION, "session")
            ]
            for connection, _, data in (
                reader.messages(connections=session_connections) if session_connections else ()
            ):
                try:
                    record = json.loads(messages.deserialise(data, connection.msgtype).data)
                except (WireError, json.JSONDecodeError):
                    continue  # somebody else's topic of that name
                if isinstance(record, dict) and "eifer" in record:
                    return record
        return {}

    # ---- reading --------------------------------------------------------------------------------------------------------

    @property
    def span(self) -> tuple[Stamp, Stamp]:
        """Log times of the first and the last message, (0, 0) where there is none."""
        times = [(reader.start_time, reader.end_time) for reader in self._readers if reader.message_count]
        return (min(a for a, _ in times), max(b for _, b in times)) if times else (0, 0)

    def messages(
        self, connections: Collection[Connection], start: Stamp | None = None
    ) -> Iterator[RawMessage]:
        """Messages in the order of their log times, not decoded.

        Parameters
        ----------
        connections : Collection[Connection]
            Topics to take.
        start : Stamp, optional
            First log time; found by the index.

        Yields
        ------
        RawMessage
            One message.

        Raises
        ------
        RecordingError
            The file is damaged.
        """
        try:
            for reader in self._readers:
                selected = [c for c in reader.connections if c in connections]
                for connection, log_time, data in (
                    reader.messages(connections=selected, start=start) if selected else ()
                ):
                    yield RawMessage(
                        _stamp(connection.msgtype, data, log_time), log_time, connection, bytes(data)
                    )
        except Exception as error:
            if isinstance(error, RecordingError):
                raise
            # rosbags raises its own, zstd and struct errors on damaged bytes
            raise RecordingError(
                f"{self.path}: damaged ({error or type(error).__name__}); get back what is whole with: eifer recover {self.path}"
            ) from None

    def items(
        self, *, topics: Collection[str] | None = None, start: Stamp | None = None, stop: Stamp | None = None
    ) -> Iterator[Recorded]:
        """Items in the order of their stamps; see `read`.

        Parameters
        ----------
        topics : Collection[str], optional
            Relative names; None for all.
        start : Stamp, optional
            First stamp; None for the beginning.
        stop : Stamp, optional
            First stamp that is left out; None for the end.

        Yields
        ------
        Recorded
            One item.

        Raises
        ------
        RecordingError
            A message is damaged or breaks its contract.
        """
        available = {stream.port for _, stream in self.streams if stream.role in (Role.ITEM, Role.PICTURE)}
        if topics is not None:
            missing = sorted(set(topics) - available)
            if missing:
                raise RecordingError(
                    f"{self.path} has no topic '{missing[0]}'; it has {', '.join(sorted(available))}"
                )
        requested = available if topics is None else set(topics)
        cameras = {s.camera for _, s in self.streams if s.role is Role.PICTURE and s.port in requested}
        selected = {
            connection: stream
            for connection, stream in ((_Key(c), s) for c, s in self.streams)
            if (
                stream.port in requested
                if stream.role in (Role.ITEM, Role.PICTURE)
                else stream.camera in cameras
            )
        }
        assemblers: dict[str, FrameAssembler] = {}
        if start is not None:
            self._learn_intrinsics(selected, assemblers)
        for message in self._ordered(selected, None if start is None else start - _WINDOW_NS):
            stream = selected[_Key(message.connection)]
            if stop is not None and message.stamp >= stop:
                if message.stamp >= stop + 2 * _WINDOW_NS:
                    return
                continue
            if start is not None and message.stamp < start and stream.role is not Role.CAMERA_INFO:
                continue
            try:
                decoded = messages.deserialise(message.data, message.connection.msgtype)
                item: Item | None
                if stream.role is Role.ITEM:
                    item = from_wire(decoded, message.connection.msgtype)
                else:
                    item = assemblers.setdefault(stream.camera, FrameAssembler()).add(decoded)
            except WireError as error:
                raise RecordingError(
                    f"{self.path}: {message.connection.topic} at {message.stamp} ns: {error}"
                ) from None
            if item is not None:
                yield Recorded(item.stamp, stream.port, item)

    def _learn_intrinsics(self, selected: dict[_Key, Stream], assemblers: dict[str, FrameAssembler]) -> None:
        """Intrinsics recorded before the moment where reading starts still hold: the first of each camera is
        read all the same.
        """
        for key, stream in selected.items():
            if stream.role is Role.CAMERA_INFO:
                for message in self.messages([key.connection]):
                    decoded = messages.deserialise(message.data, message.connection.msgtype)
                    assemblers.setdefault(stream.camera, FrameAssembler()).add(decoded)
                    break

    def _ordered(self, selected: dict[_Key, Stream], start: Stamp | None = None) -> Iterator[RawMessage]:
        """By header stamp; of one stamp, camera_info and depth before the picture, else as recorded."""
        heap: list[tuple[Stamp, int, int, RawMessage]] = []
        for number, message in enumerate(self.messages([key.connection for key in selected], start)):
            heapq.heappush(heap, (message.stamp, selected[_Key(message.connection)].role, number, message))
            while message.log_time - heap[0][3].log_time > _WINDOW_NS:
                yield heapq.heappop(heap)[3]
        while heap:
            yield heapq.heappop(heap)[3]


class _Key:
    """A connection as a key: rosbags' own are not hashable."""

    __slots__ = ("connection",)

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __hash__(self) -> int:
        return hash((self.connection.id, self.connection.topic, id(self.connection.owner)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and hash(self) == hash(other)


def _stamp(type_name: str, data: bytes, log_time: Stamp) -> Stamp:
    """Header stamp straight from the CDR bytes; the log time for a type without a header."""
    if type_name.startswith("std_msgs/") or len(data) < 12:
        return log_time
    sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(sec) * NS + int(nanosec)


def _check_definition(path: Path, connection: Connection) -> None:
    """Refuse a recording whose message was defined otherwise: its bytes would be misread."""
    definition = connection.msgdef
    if definition.format is MessageDefinitionFormat.NONE:
        return
    parse = get_types_from_msg if definition.format is MessageDefinitionFormat.MSG else None
    try:
        types = parse(definition.data, connection.msgtype) if parse else get_types_from_idl(definition.data)
        store = get_typestore(Stores.EMPTY)
        store.register(types)
        theirs = store.hash_rihs01(connection.msgtype)
    except (TypesysError, KeyError) as error:
        raise RecordingError(
            f"{path}: the definition of {connection.msgtype} in the recording cannot be parsed ({error})"
        ) from None
    ours = messages.store().hash_rihs01(connection.msgtype)
    if theirs != ours:
        raise RecordingError(
            f"{path}: {connection.topic} was recorded with another version of {connection.msgtype} ({theirs[:15]}..., this eifer "
            f"has {ours[:15]}...); read it with the version that recorded it"
        )
