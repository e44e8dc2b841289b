"""Any EMG source as one component with one set of parameters, for hosts and launch files."""

from __future__ import annotations

from typing import ClassVar

from ...component import Port, Relay
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


class EmgInput(Relay):
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
        super().__init__(config.url, EMG_SOURCES.open(config.url, **options))
