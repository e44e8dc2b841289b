"""Any EMG source as one component with one set of parameters, for hosts and launch files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from ...component import Emission, Health, Port, Source
from ...config import parameter
from ...errors import ConfigError
from ...registry import EMG_SOURCES
from .base import CHANNELS, RAW, EmgSourceConfig


class EmgInputConfig(EmgSourceConfig):
    """Parameters of the EMG input; those of one kind of source follow its address as `?name=value`."""

    url: str = parameter(
        "lsl:type=EMG",
        "what to open, such as lsl:NAME, file:PATH or performer:SEED; docs/emg_sources.md lists every address",
        min_length=1,
    )


class EmgInput(Source):
    """Opens `config.url` and passes on what it gives."""

    config_type: ClassVar[type[EmgInputConfig]] = EmgInputConfig
    outputs: ClassVar[tuple[Port, ...]] = (RAW, CHANNELS)

    def __init__(self, config: EmgInputConfig) -> None:
        self.config = config
        options = {
            name: value for name, value in config.model_dump(exclude_defaults=True).items() if name != "url"
        }
        parameters = EMG_SOURCES.config_type(EMG_SOURCES.scheme(config.url)).model_fields
        unsupported = sorted(options.keys() - parameters.keys())
        if unsupported:
            raise ConfigError(
                f"{config.url}: this source has no {', '.join(unsupported)}; write its options in the address"
            )
        self._source = EMG_SOURCES.open(config.url, **options)
        self.live = self._source.live

    def setup(self) -> None:
        """Connect to the amplifier or open the file."""
        self._source.setup()

    def produce(self) -> Iterator[Emission]:
        """Channel information, then chunks of raw samples in V, until the source ends or `stop` is called."""
        yield from self._source.produce()

    def pace(self) -> None:
        """Play a file in real time."""
        self._source.pace()
        self.live = self._source.live

    def stop(self) -> None:
        """End `produce`; from any thread."""
        self._source.stop()

    def reset(self) -> None:
        """Forget the stream; the connection stays."""
        self._source.reset()

    def health(self) -> Health:
        """What the source says of itself, with its address."""
        health = self._source.health()
        health.values.setdefault("source", self.config.url)
        return health

    def close(self) -> None:
        """Let go of the device."""
        self._source.close()
