"""Items into a rosbag2 recording (MCAP), off the thread that makes them.

What is on disk: `PATH/PATH.mcap` in zstd-compressed chunks plus `PATH/metadata.yaml`, so that `ros2 bag
play`, Foxglove, `rosbags` and `mcap` read it. Log times are acquisition stamps. Pictures are JPEG
(`camera/image_raw/compressed`), depth is lossless 16UC1 millimetres (`camera/depth/image_raw`, a plain Image
that needs no transport plugin; 0 is unmeasured).

Each second the open chunk is closed and synced to disk. A process that dies leaves a file without its index;
everything up to that second comes back with `eifer recover`. The first message of every recording is the
session (a latched std_msgs/String on `session`, JSON): it survives a crash too, and `ros2 topic echo` shows
it. metadata.yaml repeats it under custom_data.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import zstandard
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.rosbag2.storage_mcap import McapWriter

from .. import __version__, topics
from ..errors import RecordingError, WireError
from ..types import Frame, Item, Stamp
from ..wire import conversions, messages
from .streams import SESSION, SESSION_TYPE

_LATCHED = topics.Profile(depth=1, latched=True)


@dataclass(frozen=True, slots=True)
class WriterStats:
    """How a recording stands.

    Parameters
    ----------
    written : dict[str, int]
        Items by port.
    dropped : dict[str, int]
        Pictures by port that went because the queue was full.
    rejected : int
        Items that broke the contract of their message.
    last_rejection : str
        Why the last of them did.
    queued : int
        Items waiting.
    safe : int
        Items that a crash can no longer take.
    bytes : int
        Size of the file.
    """

    written: dict[str, int]
    dropped: dict[str, int]
    rejected: int
    last_rejection: str
    queued: int
    safe: int
    bytes: int


@dataclass(slots=True)
class _Entry:
    port: str
    item: Item | None  # None once it was dropped from the queue
    size: int = field(default=0)
    message: tuple[str, Any, Stamp] | None = None
    """Type name, message and stamp of what is no item."""


class BagWriter:
    """Writes a recording; a context manager. `write` returns at once.

    EMG and everything else that is not a picture is never dropped.

    Parameters
    ----------
    path : str or Path
        Folder to make; an existing one is refused.
    session : Mapping[str, object], optional
        What a reader should know (head model, config, participant, seed, ...), JSON values.
    namespace : str, optional
        Put before every port.
    jpeg_quality : int, optional
        1..100, 0 keeps raw rgb8.
    queue_bytes : int, optional
        Pictures that may wait for the disk.
    wait : bool, optional
        With a full queue, hold the caller back (files, simulation) rather than drop the oldest picture
        (live).
    flush_s : float, optional
        How often everything is handed to the disk.
    min_free_bytes : int, optional
        With less than this free, the recording ends in good order.
    free_bytes : Callable[[Path], int], optional
        How much is free where a path lies; None asks the system.
    now : Callable[[], Stamp], optional
        Wall clock, ns since the epoch.
    monotonic : Callable[[], float], optional
        Clock of the flushes, s.

    Raises
    ------
    RecordingError
        The path exists or cannot be made, the disk is full; at `write` and `close` what befell the writing
        thread meanwhile.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        session: Mapping[str, object] | None = None,
        namespace: str = topics.NAMESPACE,
        jpeg_quality: int = 92,
        queue_bytes: int = 256 << 20,
        wait: bool = False,
        flush_s: float = 1.0,
        min_free_bytes: int = 200 << 20,
        free_bytes: Callable[[Path], int] | None = None,
        now: Callable[[], Stamp] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path).expanduser()
        self.namespace = "/" + namespace.strip("/") if namespace.strip("/") else ""
        self._jpeg_quality = jpeg_quality
        self._queue_bytes = queue_bytes
        self._wait = wait
        self._flush_s = flush_s
        self._min_free = min_free_bytes
        self._free = free_bytes or (lambda where: shutil.disk_usage(where).free)
        self._now = now
        self._monotonic = monotonic
        self._session = json.dumps(
            {"eifer": __version__, "namespace": self.namespace, "started": now(), **(session or {})},
            default=str,
            sort_keys=True,
        )

        self._condition = threading.Condition()
        self._queue: deque[_Entry] = deque()
        self._pictures: deque[_Entry] = deque()
        self._picture_bytes = 0
        self._closing = False
        self._closed = False
        self._error: RecordingError | None = None
        self._written: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._rejected = 0
        self._last_rejection = ""
        self._unsafe = 0
        self._safe = 0

        self._connections: dict[str, Connection] = {}
        self._session_written = False
        self._last_stamp: Stamp = 0
        self._writer = self._open()
        self._thread = threading.Thread(target=self._run, name="eifer-recording", daemon=True)
        self._thread.start()

    @property
    def file(self) -> Path:
        """The MCAP file."""
        return self.path / f"{self.path.name}.mcap"

    # ---- the caller's side ----------------------------------------------------------------------------------------------

    def write(self, port: str, item: Item) -> None:
        """Queue one item.

        Parameters
        ----------
        port : str
            Relative topic name, or an absolute one with a leading slash.
        item : Item
            What to write.

        Raises
        ------
        RecordingError
            What befell the writing thread meanwhile.
        """
        size = 0
        if isinstance(item, Frame):
            size = item.image.nbytes + (item.depth.nbytes if item.depth is not None else 0)
        entry = _Entry(port, item, size)
        with self._condition:
            if size:
                while (
                    self._wait
                    and self._error is None
                    and self._picture_bytes > 0
                    and self._picture_bytes + size > self._queue_bytes
                ):
                    self._condition.wait()
                while self._pictures and self._picture_bytes + size > self._queue_bytes:
                    self._drop_oldest()
            self._check()
            self._queue.append(entry)
            if size:
                self._pictures.append(entry)
                self._picture_bytes += size
            self._condition.notify_all()

    def write_message(self, topic: str, type_name: str, message: Any, stamp: Stamp) -> None:
        """Queue a message that is no item of eifer (diagnostics).

        Parameters
        ----------
        topic : str
            As `port` of `write`.
        type_name : str
            `diagnostic_msgs/msg/DiagnosticArray`, ...
        message : object
            Of `messages.ROSBAGS.make`.
        stamp : int (ns)
            Log time.

        Raises
        ------
        RecordingError
            What befell the writing thread meanwhile.
        """
        with self._condition:
            self._check()
            self._queue.append(_Entry(topic, None, message=(type_name, message, stamp)))
            self._condition.notify_all()

    def _drop_oldest(self) -> None:
        oldest = self._pictures.popleft()
        self._picture_bytes -= oldest.size
        self._dropped[oldest.port] += 1
        oldest.item = None

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closing:
            raise RecordingError(f"{self.path}: the recording is closed; nothing more can be written to it")

    def close(self) -> None:
        """Write what is queued, the index and metadata.yaml. Safe to call twice."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        self._thread.join()
        if self._error is not None and not self._closed:
            self._closed = True
            raise self._error
        self._closed = True

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # after an exception the recording is finished all the same: what was recorded must not be lost
        try:
            self.close()
        except RecordingError:
            if error is None:
                raise

    @property
    def failure(self) -> str:
        """What ended the writing, or an empty string."""
        return str(self._error) if self._error is not None else ""

    @property
    def stats(self) -> WriterStats:
        """Counts so far; may be read from any thread."""
        with self._condition:
            queued = sum(entry.item is not None for entry in self._queue)
            size = self.file.stat().st_size if self.file.exists() else 0
            return WriterStats(
                dict(self._written),
                dict(self._dropped),
                self._rejected,
                self._last_rejection,
                queued,
                self._safe,
                size,
            )

    # ---- the writing thread ---------------------------------------------------------------------------------------------

    def _open(self) -> Writer:
        if self.path.exists():
            raise RecordingError(f"{self.path} exists already and is never overwritten; give another name")
        parent = self.path.absolute().parent
        while not parent.exists():
            parent = parent.parent
        free = self._free(parent)
        if free < self._min_free:
            raise RecordingError(
                f"{self.path}: {free / 1e6:.0f} MB free on that disk; at least {self._min_free / 1e6:.0f} MB are needed to record"
            )
        try:
            # rosbag2 reads custom_data as a map, which the null of an empty one is not
            return open_bag(self.path, {"eifer": self._session})
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be made: {error.strerror or error}") from None

    def _run(self) -> None:
        try:
            self._serve()
            self._finish()
        except OSError as error:
            self._fail(
                f"{self.file}: writing failed ({error.strerror or error}); eifer recover {self.file} gives back what was kept"
            )
        except RecordingError as error:
            self._fail(str(error))
        except Exception as error:
            self._fail(
                f"{self.file}: writing failed ({type(error).__name__}: {error}); try eifer recover {self.file}"
            )
            raise

    def _fail(self, message: str) -> None:
        with self._condition:
            self._error = RecordingError(message)
            self._queue.clear()
            self._pictures.clear()
            self._picture_bytes = 0
            self._condition.notify_all()
        self._writer.abort()

    def _serve(self) -> None:
        flushed = self._monotonic()
        while True:
            with self._condition:
                if not self._queue and not self._closing:
                    self._condition.wait(
                        max(flushed + self._flush_s - self._monotonic(), 0.0) if self._unsafe else None
                    )
                entry = self._queue.popleft() if self._queue else None
                if entry is None and self._closing:
                    return
                if entry is not None and entry.item is not None and entry.size:
                    self._pictures.popleft()
                    self._picture_bytes -= entry.size
                    self._condition.notify_all()
            if entry is not None and entry.item is not None:
                self._store(entry.port, entry.item)
            elif entry is not None and entry.message is not None:
                self._store_message(entry.port, *entry.message)
            if self._unsafe and self._monotonic() - flushed >= self._flush_s:
                self._flush()
                flushed = self._monotonic()

    def _store(self, port: str, item: Item) -> None:
        try:
            wires = conversions.to_wire(item, port, jpeg_quality=self._jpeg_quality)
            parts = [(wire, messages.serialise(wire.message)) for wire in wires]
        except WireError as error:
            # one bad item must not end a recording; it shows in health
            self._rejected += 1
            self._last_rejection = f"{port}: {error}"
            return
        if not self._session_written:
            self._write_session(item.stamp)
        for wire, data in parts:
            self._writer.write(
                self._connection(wire.topic, wire.type_name, topics.profile(_base(wire.topic))),
                item.stamp,
                data,
            )
        self._last_stamp = item.stamp
        with self._condition:
            self._written[port] += 1
            self._unsafe += 1

    def _store_message(self, topic: str, type_name: str, message: Any, stamp: Stamp) -> None:
        if not self._session_written:
            self._write_session(stamp)
        self._writer.write(
            self._connection(topic, type_name, topics.Standard.STATE.value),
            stamp,
            messages.serialise(message),
        )
        with self._condition:
            self._unsafe += 1

    def _write_session(self, stamp: Stamp) -> None:
        message = messages.ROSBAGS.make(SESSION_TYPE, data=self._session)
        self._writer.write(
            self._connection(SESSION, SESSION_TYPE, _LATCHED), stamp, messages.serialise(message)
        )
        self._session_written = True

    def _connection(self, port: str, type_name: str, profile: topics.Profile) -> Connection:
        topic = port if port.startswith("/") else f"{self.namespace}/{port}"
        connection = self._connections.get(topic)
        if connection is None:
            connection = self._writer.add_connection(
                topic, type_name, typestore=messages.store(), offered_qos_profiles=[profile.offered()]
            )
            self._connections[topic] = connection
        return connection

    def _flush(self) -> None:
        """Close the chunk and hand it to the disk, so that a crash takes nothing before this moment."""
        storage = cast(McapWriter, self._writer.storage)
        if (
            storage.chunk.msgs
        ):  # a chunk of definitions alone has no time span and waits for its first message
            storage.close_chunk()
        storage.bio.flush()
        os.fsync(storage.bio.fileno())
        with self._condition:
            self._safe += self._unsafe
            self._unsafe = 0
        free = self._free(self.path)
        if free < self._min_free // 4:
            self._finish()
            raise RecordingError(
                f"{self.path}: the disk is nearly full ({free / 1e6:.0f} MB free); the recording was closed and is complete up to "
                "that moment"
            )

    def _finish(self) -> None:
        if not self._session_written:
            self._write_session(self._now())
        self._writer.close()
        with self._condition:
            self._safe += self._unsafe
            self._unsafe = 0


def open_bag(path: Path, custom: Mapping[str, str]) -> Writer:
    """A rosbag2 MCAP writer, open, with zstd chunks that carry a checksum: any reader notices a damaged one.

    Parameters
    ----------
    path : Path
        Folder to make.
    custom : Mapping[str, str]
        `custom_data` of metadata.yaml.

    Returns
    -------
    Writer
        To be closed by the caller.
    """
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    for key, value in custom.items():
        writer.set_custom_data(key, value)
    writer.open()
    # rosbags writes neither a chunk CRC nor a zstd checksum by itself
    cast(McapWriter, writer.storage).compressor = zstandard.ZstdCompressor(
        level=3, write_checksum=True
    ).compress
    return writer


def _base(topic: str) -> str:
    """The topic whose quality of service holds: a compressed picture has that of the picture."""
    return topic.removesuffix("/compressed")
