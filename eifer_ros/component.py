"""The whole contract between the science and whatever runs it.

A component is a plain class: typed items in, typed items out, one validated config. It knows nothing of
topics, threads or clocks. A host (`hosts/local.py`, `hosts/ros.py`) feeds it, reads its health, and carries
what it emits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, NamedTuple

from pydantic import BaseModel

from .types import Item, Stamp


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a component.

    Parameters
    ----------
    name : str
        Relative topic name (`camera/image_raw`).
    item : type
        The type that flows.
    keep_all : bool, optional
        A full queue must not drop items silently (EMG); otherwise the oldest goes first (pictures).
    latched : bool, optional
        A late subscriber gets the last one.
    lazy : bool, optional
        Made only while somebody listens.
    """

    name: str
    item: type
    keep_all: bool = False
    latched: bool = False
    lazy: bool = False


class Emission(NamedTuple):
    """One item that leaves a component through the port of that name.

    Attributes
    ----------
    port : str
        Name of an output.
    item : Item
        What leaves.
    """

    port: str
    item: Item


class Level(IntEnum):
    """As in diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(slots=True)
class Health:
    """How a component is doing: one sentence and named values for diagnostics.

    Parameters
    ----------
    level : Level, optional
        As in diagnostic_msgs/DiagnosticStatus.
    message : str, optional
        One sentence.
    values : dict[str, float or int or str], optional
        Named figures.
    """

    level: Level = Level.OK
    message: str = "running"
    values: dict[str, float | int | str] = field(default_factory=dict)


class Component:
    """Base of every component: override what applies.

    Calls come from one thread at a time. `setup` does what is slow (loading models, warming them up, opening
    devices), so that the first item is as fast as the thousandth. `reset` forgets all state when time jumps
    or a bag loops.
    """

    config_type: ClassVar[type[BaseModel]]
    inputs: ClassVar[tuple[Port, ...]] = ()
    outputs: ClassVar[tuple[Port, ...]] = ()
    tick_hz: float = 0.0
    """How often the host calls `tick`; 0 for never."""

    def setup(self) -> None:
        """Load, warm up, open. Errors: ModelError, DeviceError, MissingExtra."""

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        """Take one item and give what it leads to; of an iterator each item travels on before the next is asked
        for.

        Parameters
        ----------
        port : str
            Name of the input.
        item : Item
            What came.

        Returns
        -------
        Iterable[Emission]
            What leaves, in order.
        """
        return ()

    def tick(self, now: Stamp) -> Iterable[Emission]:
        """Called at `tick_hz`.

        Parameters
        ----------
        now : int (ns)
            The host's clock (the stamps themselves in replay).

        Returns
        -------
        Iterable[Emission]
            What leaves, in order.
        """
        return ()

    def set_subscribed(self, subscribed: frozenset[str]) -> None:
        """Which lazy outputs somebody listens to at present; a component need not make the others.

        Parameters
        ----------
        subscribed : frozenset[str]
            Names of the ports that have a listener.
        """

    def reset(self) -> None:
        """Forget everything learnt from the stream."""

    def health(self) -> Health:
        """Cheap; called about once a second from any thread.

        Returns
        -------
        Health
            Level, one sentence and figures.
        """
        return Health()

    def close(self) -> None:
        """Release devices and files. Safe to call twice."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that is there now.

    Parameters
    ----------
    url : str
        Opens it.
    name : str
        What it calls itself.
    detail : str, optional
        Where it is, or how many channels it has.
    """

    url: str
    name: str
    detail: str = ""


class Source(Component):
    """A component that makes items of its own accord: a camera, an amplifier, a bag."""

    live: bool = True
    """False where items may be taken as fast as they can be used (files, simulation)."""

    @classmethod
    def discover(cls) -> tuple[Device, ...]:
        """Devices of this kind that can be opened now, for `eifer doctor`.

        Raises
        ------
        EiferError
            The kind cannot be used on this machine, with what would help: an extra, a library, a permission.
        """
        return ()

    def produce(self) -> Iterator[Emission]:
        """Items in stamp order until the source ends or `stop` is called.

        Blocks while waiting for the device.
        """
        raise NotImplementedError

    def branches(self) -> tuple[Callable[[], Iterator[Emission]], ...]:
        """`produce` in parts that a live host may run at the same time, each in a thread of its own; one part
        unless overridden.

        Returns
        -------
        tuple[Callable[[], Iterator[Emission]], ...]
            Functions like `produce`.
        """
        return (self.produce,)

    def pace(self) -> None:
        """Play by the clock from now on, also what could be taken faster: somebody watches. Before `setup`."""
        self.live = True

    def stop(self) -> None:
        """Ask `produce` to end soon. Called from another thread."""


class Relay(Source):
    """A source that passes on what another one gives, which was opened by its address.

    Parameters
    ----------
    url : str
        The address.
    source : Source
        What it named.
    """

    def __init__(self, url: str, source: Source) -> None:
        self._url = url
        self._source = source
        self.live = source.live

    def setup(self) -> None:
        """As the source's own."""
        self._source.setup()

    def produce(self) -> Iterator[Emission]:
        """As the source's own."""
        yield from self._source.produce()

    def pace(self) -> None:
        """Play a file in real time."""
        self._source.pace()
        self.live = self._source.live

    def stop(self) -> None:
        """As the source's own."""
        self._source.stop()

    def reset(self) -> None:
        """As the source's own."""
        self._source.reset()

    def health(self) -> Health:
        """As the source's own, with the address."""
        health = self._source.health()
        health.values.setdefault("source", self._url)
        return health

    def close(self) -> None:
        """As the source's own."""
        self._source.close()
