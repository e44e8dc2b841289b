"""The recorder as a component: whatever reaches it goes into a recording."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from ..component import Component, Emission, Health, Level, Port
from ..config import Config, ConfigFile, parameter
from ..errors import ConfigError, RecordingError, did_you_mean
from ..topics import NAMESPACE
from ..types import Item, Stamp
from .streams import PORTS
from .writer import BagWriter


class RecordConfig(Config):
    """Parameters of node `recorder`."""

    path: str = parameter(
        "", "folder of the recording; %Y %m %d %H %M %S stand for the time; empty for eifer_<time>"
    )
    topics: list[str] = parameter([], "relative names of what to record; empty for everything that is made")
    namespace: str = parameter(NAMESPACE, "put before every topic")
    jpeg_quality: int = parameter(
        92, "quality of recorded pictures; 0 keeps them raw (about ten times the size)", ge=0, le=100
    )
    queue_mb: int = parameter(
        256, "pictures that may wait for the disk before the oldest is dropped", unit="MB", ge=8, le=65536
    )
    flush_s: float = parameter(1.0, "a crash loses at most this much", unit="s", gt=0, le=1)
    min_free_mb: int = parameter(200, "free disk space below which no recording starts", unit="MB", ge=1)


class Recorder(Component):
    """Writes every item it is handed. session: what the session record should say besides version and start.

    path: where to record, taken as it is; else the config says. wait: hold the host back when the disk is
    slower than the source, rather than drop pictures (replay, files). Errors: RecordingError as for
    BagWriter; ConfigError for a topic that does not exist.
    """

    config_type = RecordConfig
    inputs: ClassVar[tuple[Port, ...]] = PORTS

    def __init__(
        self,
        config: RecordConfig,
        session: Mapping[str, object] | None = None,
        *,
        wait: bool = False,
        path: Path | None = None,
        now: Callable[[], Stamp] = time.time_ns,
    ) -> None:
        self.config = config
        self._session = dict(session or {})
        self._wait = wait
        self._path = path
        self._now = now
        self._writer: BagWriter | None = None
        recordable = [port.name for port in PORTS]
        requested = [
            topic for topic in config.topics if topic
        ]  # a ROS parameter file writes an empty list as [""]
        for topic in requested:
            if topic not in recordable:
                raise ConfigError(
                    f"recorder: unknown topic '{topic}'{did_you_mean(topic, recordable)}; known are {', '.join(recordable)}"
                )
        self._topics = frozenset(requested or recordable)

    @classmethod
    def at(
        cls, path: Path, config: ConfigFile, session: Mapping[str, object], *, wait: bool = False
    ) -> Recorder:
        """A recorder that is set up, at `path`, with the section `recorder` of a config file."""
        recorder = cls(config.config("recorder", RecordConfig), session, wait=wait, path=path)
        recorder.setup()
        return recorder

    @property
    def path(self) -> Path | None:
        """Where the recording is; None before `setup`."""
        return self._writer.path if self._writer is not None else None

    def setup(self) -> None:
        """Make the recording's folder and start the writing thread."""
        config = self.config
        moment = time.localtime(self._now() / 1e9)
        # only the six time fields are filled in: any other percent sign belongs to the name
        pattern = config.path or "eifer_%Y%m%d_%H%M%S"
        name = re.sub(r"%[YmdHMS]", lambda match: time.strftime(match[0], moment), pattern)
        self._writer = BagWriter(
            self._path or name,
            session=self._session,
            namespace=config.namespace,
            jpeg_quality=config.jpeg_quality,
            queue_bytes=config.queue_mb << 20,
            wait=self._wait,
            flush_s=config.flush_s,
            min_free_bytes=config.min_free_mb << 20,
            now=self._now,
        )

    @property
    def writer(self) -> BagWriter:
        """The open recording. Raises RecordingError before `setup`."""
        if self._writer is None:
            raise RecordingError("the recorder was asked to write before its setup")
        return self._writer

    def take(self, port: str, item: Item) -> None:
        """Queue one item, as a tap of a graph."""
        if port in self._topics:
            self.writer.write(port, item)

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        """Queue one item."""
        self.take(port, item)
        return ()

    def health(self) -> Health:
        """Warning once a picture was dropped or an item refused."""
        if self._writer is None:
            return Health(Level.STALE, "not recording")
        stats = self._writer.stats
        dropped = sum(stats.dropped.values())
        values: dict[str, float | int | str] = {
            "items": sum(stats.written.values()),
            "queued": stats.queued,
            "megabytes": round(stats.bytes / 1e6, 1),
            "pictures_dropped": dropped,
            "items_refused": stats.rejected,
        }
        if self._writer.failure:
            return Health(Level.ERROR, self._writer.failure, values)
        if stats.rejected:
            return Health(
                Level.WARN, f"{stats.rejected} items refused, the last: {stats.last_rejection}", values
            )
        if dropped:
            return Health(Level.WARN, f"the disk is too slow: {dropped} pictures dropped", values)
        return Health(Level.OK, f"recording to {self._writer.path}", values)

    def close(self) -> None:
        """Finish the recording."""
        if self._writer is not None:
            self._writer.close()
