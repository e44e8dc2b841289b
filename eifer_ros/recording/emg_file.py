"""EMG from a file, replayed with its own timing at any speed.

The stamps of the recording are the clock: chunk k is handed out when its last sample would have come, counted
from the first stamp on one schedule, so that errors do not add up. Speed 0 gives chunks as fast as they are
taken. What comes out (samples, stamps, cuts, counters) is the same at every speed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import unquote

from .. import topics
from ..component import Emission
from ..config import parameter
from ..emg.sources.base import CHANNELS, Block, EmgSource, EmgSourceConfig, Layout
from ..emg.sources.binary_formats import read_edf, read_xdf
from ..emg.sources.recording import EmgRecording
from ..emg.sources.text_formats import TextOptions, read_text
from ..errors import InputError, did_you_mean
from ..types import NS, EmgChannelInfo, EmgChunk, Stamp
from .reader import read

# fmt: off
_BY_SUFFIX = {
    ".csv": "text", ".txt": "text", ".tsv": "text", ".dat": "text", ".xdf": "xdf", ".xdfz": "xdf", ".edf": "edf", ".bdf": "edf",
    ".rec": "edf", ".mcap": "bag", ".db3": "bag",
}
# fmt: on
_LONGEST_WAIT_S = 60.0


class FileConfig(EmgSourceConfig):
    """Parameters of the file source."""

    url_field: ClassVar[str] = "path"

    path: str = parameter("", "the recording: CSV or text, XDF, EDF/BDF, rosbag2 folder or .mcap")
    format: Literal["auto", "text", "xdf", "edf", "bag"] = parameter(
        "auto", "format where the file's name does not tell"
    )
    speed: float = parameter(
        1.0, "1 replays in real time, 2 twice as fast, 0 as fast as possible", ge=0, le=1000
    )
    loop: bool = parameter(
        False, "begin again at the end; stamps go on, the recording's first stamp follows its last"
    )
    chunk_s: float = parameter(0.02, "length of a chunk", unit="s", gt=0, le=10)
    rate_hz: float = parameter(
        0.0, "sampling rate where the file does not say, or to overrule it", unit="Hz", ge=0, le=200000
    )
    unit: str = parameter(
        "", "unit of the samples where the file does not say, or to overrule it (V, mV, uV, nV)"
    )
    scale_v: float = parameter(0.0, "volts per count, for files of converter counts", unit="V", ge=0)
    start_stamp: int = parameter(
        0, "stamp of the first sample, since 1970; 0 keeps the file's own times", unit="ns", ge=0
    )
    columns: tuple[str, ...] = parameter(
        (), "columns or signals to read, by name or number from 1; empty: what looks like EMG"
    )
    stream: str = parameter("", "name or type of the stream of an XDF file")
    topic: str = parameter(topics.EMG_RAW.name, "topic of the EMG in a bag, without namespace")

    @classmethod
    def from_address(cls, address: str) -> dict[str, str]:
        """The path, whose `%3F` and the like stand for the character."""
        return {"path": unquote(address)} if address else {}


def read_recording(config: FileConfig) -> EmgRecording:
    """The whole of a CSV, text, XDF or EDF file. InputError, MissingExtra."""
    path = Path(config.path).expanduser()
    kind = file_format(config)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if kind == "xdf":
        return read_xdf(path, config.stream, config.unit)
    if kind == "edf":
        return read_edf(path, config.columns, config.unit)
    return read_text(path, TextOptions(config.rate_hz, config.unit, config.scale_v, config.columns))


def file_format(config: FileConfig) -> str:
    """`text`, `xdf`, `edf` or `bag`."""
    path = Path(config.path).expanduser()
    if config.format != "auto":
        return config.format
    if path.is_dir():
        return "bag"
    kind = _BY_SUFFIX.get(path.suffix.lower())
    if kind is None:
        raise InputError(
            f"{path}: what kind of file is '{path.suffix or path.name}'?{did_you_mean(path.suffix, _BY_SUFFIX)} "
            "Name it with ?format=text, xdf, edf or bag"
        )
    return kind


class FileSource(EmgSource):
    """A recording as a source. `live` is False at speed 0."""

    config_type: ClassVar[type[FileConfig]] = FileConfig
    config: FileConfig

    def __init__(
        self,
        config: FileConfig,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        super().__init__(config, monotonic=monotonic)
        if not config.path:
            raise InputError("file: which file? Give its path, e.g. file:session.csv")
        self.what = f"file {Path(config.path).name}"
        self.live = config.speed > 0
        self._wait = wait or self._stop.wait
        self._recording: EmgRecording | None = None
        self._begun: tuple[float, Stamp] | None = None
        self._late_s = 0.0

    def setup(self) -> None:
        """Read the file. InputError says what is wrong with it, MissingExtra what to install."""
        if file_format(self.config) != "bag":
            self._recording = read_recording(self.config)

    def pace(self) -> None:
        """Play in real time, unless another pace was asked for."""
        super().pace()
        if not self.config.speed:
            self.config = self.config.model_copy(update={"speed": 1.0})

    def produce(self) -> Iterator[Emission]:
        """Chunks in stamp order, paced by the stamps."""
        self._done = False
        self._begun = None
        try:
            yield from self._bag() if file_format(self.config) == "bag" else self._file()
            self._done = not self._stop.is_set()
        finally:
            self._stop.clear()  # obeyed; a later `produce` starts afresh, an earlier `stop` is not forgotten

    def _file(self) -> Iterator[Emission]:
        if self._recording is None:
            self.setup()
        recording = self._recording
        assert recording is not None
        shift = self.config.start_stamp - int(recording.stamps[0]) if self.config.start_stamp else 0
        yield self._announce(recording.layout, int(recording.stamps[0]) + shift)
        length = max(1, round(self.config.chunk_s * recording.rate_hz))
        span = int(recording.stamps[-1] - recording.stamps[0]) + round(NS / recording.rate_hz)
        while True:
            for chunk in recording.chunks(length):
                if not self._pace(chunk.end_stamp + shift, chunk.stamp + shift):
                    return
                yield self._emit(Block(chunk.samples, chunk.stamp + shift, chunk.lost))
            if not self.config.loop:
                return
            shift += span

    def _bag(self) -> Iterator[Emission]:
        for item in bag_items(Path(self.config.path).expanduser(), self.config.topic):
            if isinstance(item, EmgChannelInfo):
                yield self._announce(
                    Layout(item.channels, item.rate_hz, (), item.muscles, item.scheme, item.montage),
                    item.stamp,
                )
                continue
            layout = self._layout
            if layout is None or layout.names != item.channels or layout.rate_hz != item.rate_hz:
                yield self._announce(Layout(item.channels, item.rate_hz), item.stamp)
            if not self._pace(item.end_stamp, item.stamp):
                return
            yield self._emit(Block(item.samples, item.stamp, item.lost, item.raw_stamps))

    def _pace(self, due: Stamp, first: Stamp) -> bool:
        """Wait until stamp `due` comes round on the schedule. False: stopped."""
        if self._stop.is_set():
            return False
        if not self.config.speed:
            return True
        now = self._monotonic()
        if self._begun is None or due < self._begun[1]:
            self._begun = (
                now,
                first,
            )  # the start, or a recording whose clock went back: the schedule starts anew
        at = self._begun[0] + (due - self._begun[1]) / NS / self.config.speed
        while (left := at - self._monotonic()) > 0:
            if self._wait(min(left, _LONGEST_WAIT_S)):
                return False
        self._late_s = -left
        return True

    def _extra_values(self) -> dict[str, float | int | str]:
        return (
            {"speed": self.config.speed, "late_ms": round(self._late_s * 1e3, 2)}
            if self.live
            else {"speed": 0}
        )


def bag_items(path: Path, topic: str) -> Iterator[EmgChunk | EmgChannelInfo]:
    """EMG chunks, and channel descriptions where the bag has them, in stamp order.

    RecordingError for a damaged bag.
    """
    topics = (topic, CHANNELS.name)
    any_item = False
    for _, name, item in read(path, topics=topics):
        if isinstance(item, EmgChunk) and name == topic:
            any_item = True
            yield item
        elif isinstance(item, EmgChannelInfo):
            yield item
    if not any_item:
        raise InputError(f"{path}: the bag has no EMG on '{topic}'")
