"""Any EMG source as one component with one set of parameters, for hosts and launch files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from ...component import Emission, Health, Port, Source
from ...config import build, parameter
from ...errors import ConfigError
from .base import CHANNELS, RAW, EmgSource, EmgSourceConfig
from .open import open_emg


class EmgInputConfig(EmgSourceConfig):
    """Parameters of the EMG input; those of one kind of source follow its address as `?name=value`."""

    url: str = parameter(
        "lsl:type=EMG",
        "what to open: lsl:NAME, lsl:type=EMG, brainflow:BOARD, delsys:HOST, sessantaquattro[:PORT], file:PATH",
        min_length=1,
    )


class EmgInput(Source):
    """Opens `config.url` and passes on what it gives."""

    config_type: ClassVar[type[EmgInputConfig]] = EmgInputConfig
    outputs: ClassVar[tuple[Port, ...]] = (RAW, CHANNELS)

    def __init__(self, config: EmgInputConfig) -> None:
        self.config = config
        source = open_emg(config.url)
        given = {
            key: value for key, value in config.model_dump(exclude_defaults=True).items() if key != "url"
        }
        if given and not isinstance(source, EmgSource):
            raise ConfigError(
                f"{config.url}: this source has no {', '.join(sorted(given))}; give its options in the address"
            )
        if isinstance(source, EmgSource) and given:
            own: dict[str, Any] = source.config.model_dump(exclude_defaults=True)
            kind: Any = type(source)
            source = kind(
                build(type(source.config), given | own, config.url)
            )  # the address is nearer to the user: it wins
        self._source = source
        self.live = source.live

    def setup(self) -> None:
        """As the source's own."""
        self._source.setup()

    def produce(self) -> Iterator[Emission]:
        """As the source's own."""
        yield from self._source.produce()

    def stop(self) -> None:
        """As the source's own."""
        self._source.stop()

    def reset(self) -> None:
        """As the source's own."""
        self._source.reset()

    def health(self) -> Health:
        """As the source's own, with the address."""
        health = self._source.health()
        health.values.setdefault("source", self.config.url)
        return health

    def close(self) -> None:
        """As the source's own."""
        self._source.close()
