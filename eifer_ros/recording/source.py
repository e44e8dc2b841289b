"""A recording as a source: what was recorded flows again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ..camera.pacing import PacedSource, Pacer
from ..component import Emission, Health, Level, Port
from ..config import DeviceConfig, parameter
from ..types import Stamp
from .reader import Bag
from .streams import PORTS, Role
from .sync import Sync, items_synced


class ReplayConfig(DeviceConfig):
    """Parameters of a replay."""

    url_field: ClassVar[str] = "path"

    path: str = parameter("", "recording: its folder or its .mcap file")
    topics: list[str] = parameter(
        [], "relative names of what to replay (camera/image_raw, emg/raw, ...); empty for all"
    )
    speed: float = parameter(0.0, "1 plays in real time, 2 twice as fast, 0 as fast as items are taken", ge=0)
    synced: bool = parameter(
        True, "bring the camera onto the amplifier's clock where sync.json of the recording says how"
    )
    loop: bool = parameter(False, "start again at the end; stamps go back, which resets filters")


class BagSource(PacedSource):
    """Emits the items of a recording in stamp order, the same way each time.

    Stamps are their own, but for what sync.json corrects.

    Errors at setup: RecordingError for a recording that is missing, cut off or not of eifer, or lacks a topic
    asked for.
    """

    config_type = ReplayConfig
    outputs: ClassVar[tuple[Port, ...]] = PORTS

    def __init__(self, config: ReplayConfig) -> None:
        self.config = config
        self._pacer = Pacer(config.speed)
        self._topics = [
            topic for topic in config.topics if topic
        ] or None  # a ROS parameter file writes an empty list as [""]
        self._emitted = 0
        self._rounds = 0
        self._stamp: Stamp = 0
        self._ready = False
        self._clocks: Sync | None = None

    def setup(self) -> None:
        """Check the recording."""
        with self._open() as bag:
            self.available = tuple(
                sorted({s.port for _, s in bag.streams if s.role in (Role.ITEM, Role.PICTURE)})
            )
            next(iter(bag.items(topics=self._topics)), None)
            self.session = bag.session
        self._clocks = Sync.load(Path(self.config.path).expanduser()) if self.config.synced else None
        self._pacer.restart()
        self._emitted = 0
        self._rounds = 0
        self._ready = True

    def _open(self) -> Bag:
        return Bag(Path(self.config.path).expanduser())

    def produce(self) -> Iterator[Emission]:
        """Every item; with `loop`, over and over until `stop`."""
        if not self._ready:
            self.setup()
        while True:
            emitted = 0
            with self._open() as bag:
                for stamp, topic, item in items_synced(bag, self._clocks, topics=self._topics):
                    if not self._pacer.wait(stamp):
                        return
                    self._stamp = stamp
                    self._emitted += 1
                    emitted += 1
                    yield Emission(topic, item)
            self._rounds += 1
            if not self.config.loop or emitted == 0 or self._pacer.stopped:
                return

    def health(self) -> Health:
        """Items replayed and where in the recording that is."""
        values: dict[str, float | int | str] = {
            "items": self._emitted,
            "rounds": self._rounds,
            "stamp": self._stamp,
        }
        if self._clocks is not None:
            values |= {"sync_grade": self._clocks.grade, "sync_offset_s": self._clocks.offset_s}
        if not self._ready:
            return Health(Level.STALE, "not open", values)
        return Health(
            Level.OK, "replaying" if self._rounds == 0 or self.config.loop else "replay ended", values
        )

    def close(self) -> None:
        """Nothing is held open between items."""
        self._pacer.stop()
        self._ready = False


class PictureReplayConfig(ReplayConfig):
    """Parameters of a recording as a camera."""

    topics: list[str] = parameter(["camera/image_raw"], "relative names of what to replay")
    synced: bool = parameter(False, "bring the camera onto the amplifier's clock, as sync.json says how")


class PictureReplay(BagSource):
    """The pictures of a recording."""

    config_type = PictureReplayConfig
