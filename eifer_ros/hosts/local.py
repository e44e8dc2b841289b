"""Runs a graph of components in one process: the embedded default. No ROS, no broker, no licence.

Two ways of running the same graph:

- `run_offline`: sources that may be taken as fast as they can be used (files, bags, simulation). Items of all
  sources are
  merged by stamp and pushed through the graph one by one in this thread, ticks included, so that the outcome
  depends on the recording alone. Sources are read ahead in threads of their own.
- `run_live`: devices. Every component works in a thread of its own behind an inbox; pictures are newest-wins
  (the drop is
  counted), EMG is kept whole.

Anything that wants to look on (recorder, viewer, overlay) subscribes with `tap`.
"""

from __future__ import annotations

import heapq
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..component import Component, Emission, Health, Level, Port, Source
from ..errors import ConfigError
from ..types import NS, Item, Stamp

Tap = Callable[[str, Item], None]
READ_AHEAD = 8
"""Items a source may be ahead of the graph when it is not live."""


@dataclass
class Timing:
    """How a component or a path is doing.

    Parameters
    ----------
    handled : int, optional
        Items so far.
    dropped : int, optional
        Items that a full queue let go.
    durations : deque[float], optional
        The last of them, s.
    """

    handled: int = 0
    dropped: int = 0
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=20_000))

    def percentile(self, percent: float) -> float:
        """Duration in seconds below which `percent` of them lie; NaN where there is none.

        Parameters
        ----------
        percent : float
            0..100.

        Returns
        -------
        float
            Seconds.
        """
        return float(np.percentile(np.asarray(self.durations), percent)) if self.durations else float("nan")


class LocalHost:
    """A graph of named components.

    Ports connect by name: an output feeds every input that is called the same.

    Parameters
    ----------
    components : Mapping[str, Component]
        By name.
    outside : Iterable[str], optional
        Names of ports whose items come from elsewhere, by `LiveRun.put`.

    Raises
    ------
    ConfigError
        A component listens to nothing that is made here.
    """

    def __init__(self, components: Mapping[str, Component], *, outside: Iterable[str] = ()) -> None:
        self.components = dict(components)
        self.timing = {name: Timing() for name in self.components}
        self.latency: dict[str, Timing] = {}
        """Per output port: from the moment an item entered the graph to the moment its derived item left a
        component.
        """
        self._consumers: dict[str, list[tuple[str, Port]]] = {}
        self._taps: list[tuple[str | None, Tap]] = []
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        produced = {port.name for component in self.components.values() for port in component.outputs} | set(
            outside
        )
        for name, component in self.components.items():
            connected = [port for port in component.inputs if port.name in produced]
            if component.inputs and not connected:
                listens = ", ".join(port.name for port in component.inputs)
                raise ConfigError(
                    f"'{name}' listens to {listens}, which nothing in this graph makes; made are {sorted(produced)}"
                )
            for port in connected:
                self._consumers.setdefault(port.name, []).append((name, port))

    def tap(self, call: Tap, port: str | None = None) -> None:
        """Call `call(port, item)` for every item that leaves a component, or only for those of `port`.

        Must be quick.

        Parameters
        ----------
        call : Tap
            Gets port and item.
        port : str, optional
            The only port to be called for; None for all.
        """
        self._taps.append((port, call))

    def setup(self) -> None:
        """Set up every component, sources last, so that no device runs before somebody listens."""
        subscribed = frozenset(self._consumers) | {port for port, _ in self._taps if port}
        for component in sorted(
            self.components.values(), key=lambda component: isinstance(component, Source)
        ):
            component.setup()
            component.set_subscribed(subscribed)

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called or something failed."""
        return self._stopping.is_set()

    def wait_stop(self, timeout_s: float) -> bool:
        """Wait for the end of the run.

        Parameters
        ----------
        timeout_s : float
            At most so long.

        Returns
        -------
        bool
            Whether it has come.
        """
        return self._stopping.wait(timeout_s)

    def close(self) -> None:
        """Release everything; safe to call twice."""
        for component in self.components.values():
            component.close()

    def stop(self) -> None:
        """End the run soon; what is in flight is finished."""
        self._stopping.set()
        for component in self.components.values():
            if isinstance(component, Source):
                component.stop()

    def health(self) -> dict[str, Health]:
        """Health of every component, with the host's own figures added.

        Returns
        -------
        dict[str, Health]
            By name of the component.
        """
        report = {}
        for name, component in self.components.items():
            health = component.health()
            timing = self.timing[name]
            values = dict(health.values) | {"handled": timing.handled, "dropped": timing.dropped}
            if timing.durations:
                values |= {
                    "handle_ms_p50": 1e3 * timing.percentile(50),
                    "handle_ms_p99": 1e3 * timing.percentile(99),
                }
            level = health.level
            if timing.dropped and level == Level.OK:
                level = Level.WARN
            report[name] = Health(level, health.message, values)
        return report

    # ------------------------------------------------------------ offline

    def run_offline(self, *, duration_s: float | None = None, stop: threading.Event | None = None) -> None:
        """Run until every source has ended, `stop` was called or is set, or for `duration_s`.

        Parameters
        ----------
        duration_s : float, optional
            Seconds of stamps; None without end.
        stop : threading.Event, optional
            Set it from another thread to end the run.

        Raises
        ------
        Exception
            The first error of a source or component.
        """
        first: Stamp | None = None
        tickers = [
            _Ticker(name, component) for name, component in self.components.items() if component.tick_hz > 0
        ]
        streams = [
            _ReadAhead(component) for component in self.components.values() if isinstance(component, Source)
        ]
        try:
            for emission in heapq.merge(*streams, key=lambda emission: emission.item.stamp):
                if self._stopping.is_set() or (stop is not None and stop.is_set()):
                    break
                first = emission.item.stamp if first is None else first
                if duration_s is not None and emission.item.stamp - first >= duration_s * NS:
                    break
                for ticker in tickers:
                    for now in ticker.due(emission.item.stamp):
                        for ticked in ticker.component.tick(now):
                            self._push(ticked, time.perf_counter())
                self._push(emission, time.perf_counter())
        finally:
            for stream in streams:
                stream.close()

    def _push(self, emission: Emission, entered: float) -> None:
        """One item and all that follows from it, depth first."""
        port, item = emission
        self._show(port, item)
        for name, consumer in self._consumers.get(port, ()):
            for derived in self._handle(name, consumer.name, item):
                self.latency.setdefault(derived.port, Timing()).durations.append(
                    time.perf_counter() - entered
                )
                self._push(derived, entered)

    def _handle(self, name: str, port: str, item: Item) -> Iterator[Emission]:
        """What the component makes of the item, each as soon as it is made; the time until the last of them
        counts as the component's.
        """
        timing = self.timing[name]
        spent = 0.0
        start = time.perf_counter()
        for emission in self.components[name].handle(port, item):
            spent += time.perf_counter() - start
            yield emission
            start = time.perf_counter()
        timing.durations.append(spent + time.perf_counter() - start)
        timing.handled += 1

    def _show(self, port: str, item: Item) -> None:
        for tapped, call in self._taps:
            if tapped is None or tapped == port:
                call(port, item)

    # ------------------------------------------------------------ live

    def run_live(
        self,
        *,
        duration_s: float | None = None,
        clock: Callable[[], Stamp] = time.time_ns,
        stop: threading.Event | None = None,
    ) -> None:
        """Run until `stop`, until every source has ended, or for `duration_s`.

        Parameters
        ----------
        duration_s : float, optional
            Seconds; None without end.
        clock : Callable[[], Stamp], optional
            Host clock, ns since the epoch.
        stop : threading.Event, optional
            Set it from another thread to end the run.

        Raises
        ------
        Exception
            The first error of a source or component.
        """
        run = LiveRun(self, clock)
        end = None if duration_s is None else time.monotonic() + duration_s
        run.start()
        try:
            while not self._stopping.is_set() and run.running:
                if (end is not None and time.monotonic() >= end) or (stop is not None and stop.is_set()):
                    break
                self._stopping.wait(0.05)
        finally:
            run.finish()
        if self._failure is not None:
            raise self._failure

    @property
    def failure(self) -> BaseException | None:
        """What ended the run, if anything did."""
        return self._failure

    def fail(self, error: BaseException) -> None:
        """Remember the first error and end the run.

        Parameters
        ----------
        error : BaseException
            What went wrong.
        """
        if self._failure is None:
            self._failure = error
        self.stop()

    def dispatch(self, emission: Emission, workers: Mapping[str, _Worker], entered: float) -> None:
        """Show an item to the taps and put it into the inbox of everyone who listens.

        Parameters
        ----------
        emission : Emission
            What left a component.
        workers : Mapping[str, _Worker]
            Of the run, by component.
        entered : float
            When the item it was made from entered the graph, s of `time.perf_counter`.
        """
        self._show(emission.port, emission.item)
        for name, port in self._consumers.get(emission.port, ()):
            workers[name].put(port, emission.item, entered)


class LiveRun:
    """The threads of a live run: one for each branch of a source, one for each other component behind its inbox,
    one for each clock.

    For hosts that bring items (`put`) or time (`wake`) from elsewhere. A `LocalHost` serves for one run.

    Parameters
    ----------
    host : LocalHost
        The graph.
    clock : Callable[[], Stamp], optional
        Host clock, ns since the epoch.
    ticking : bool, optional
        Whether components are woken at their rate here.
    """

    def __init__(
        self, host: LocalHost, clock: Callable[[], Stamp] = time.time_ns, *, ticking: bool = True
    ) -> None:
        self._host = host
        self._clock = clock
        self._workers: dict[str, _Worker] = {}
        parts = host.components.items()
        for name, component in parts:
            if not isinstance(component, Source):
                self._workers[name] = _Worker(name, host, self._workers)
        self._threads = [
            threading.Thread(target=worker.run, name=name, daemon=True)
            for name, worker in self._workers.items()
        ]
        self._sources = [
            threading.Thread(target=self._pump, args=(produce,), name=name, daemon=True)
            for name, component in parts
            if isinstance(component, Source)
            for produce in component.branches()
        ]
        self._timers = [
            threading.Thread(target=self._tick, args=(name, component), name=f"{name} tick", daemon=True)
            for name, component in parts
            if component.tick_hz > 0 and ticking and name in self._workers
        ]

    def start(self) -> None:
        """Start every thread; returns at once."""
        for thread in self._threads + self._sources + self._timers:
            thread.start()

    @property
    def running(self) -> bool:
        """Whether a source is still at work."""
        return any(thread.is_alive() for thread in self._sources)

    def put(self, port: str, item: Item) -> None:
        """An item from outside, into the inbox of everyone who listens.

        Parameters
        ----------
        port : str
            Name of an input.
        item : Item
            What came.
        """
        self._host.dispatch(Emission(port, item), self._workers, time.perf_counter())

    def wake(self, name: str, now: Stamp) -> None:
        """Tick the component called `name`.

        Parameters
        ----------
        name : str
            Of the component.
        now : int (ns)
            The host's clock.
        """
        self._workers[name].wake(now)

    def call_soon(self, name: str, call: Callable[[], object]) -> None:
        """Make a call in the thread of the component called `name`, before the next item it gets.

        Parameters
        ----------
        name : str
            Of the component.
        call : Callable[[], object]
            Without arguments; its result is dropped.
        """
        self._workers[name].call_soon(call)

    def reset(self) -> None:
        """Empty every inbox and let every component that is not a source forget the stream."""
        for worker in self._workers.values():
            worker.reset()

    def finish(self) -> None:
        """Stop the sources, let the others finish what waits for them, and end every thread."""
        self._host.stop()
        for thread in self._sources + self._timers:
            thread.join(timeout=5.0)
        for worker in self._workers.values():
            worker.finish()
        for thread in self._threads:
            thread.join(timeout=5.0)

    def _pump(self, produce: Callable[[], Iterator[Emission]]) -> None:
        try:
            for emission in produce():
                self._host.dispatch(emission, self._workers, time.perf_counter())
                if self._host.stopping:
                    return
        except Exception as error:  # kept for whoever runs the host
            self._host.fail(error)

    def _tick(self, name: str, component: Component) -> None:
        """Wake the component at its rate; the call itself is made by its worker, so that it is never in two
        threads at once.
        """
        period = 1.0 / component.tick_hz
        due = time.monotonic()
        while not self._host.wait_stop(max(0.0, due - time.monotonic())):
            self.wake(name, self._clock())
            due = max(due + period, time.monotonic() - period)


class _Ticker:
    """When a component's ticks fall due in stamp time; a jump of more than a second starts afresh."""

    def __init__(self, name: str, component: Component) -> None:
        self.name = name
        self.component = component
        self._period = round(NS / component.tick_hz)
        self._next: Stamp | None = None

    def due(self, now: Stamp) -> Iterable[Stamp]:
        if self._next is None or abs(now - self._next) > NS:
            if self._next is not None and now < self._next:
                self.component.reset()
            self._next = now - now % self._period + self._period
            return
        while self._next <= now:
            yield self._next
            self._next += self._period


class _ReadAhead:
    """Iterates over a source that works in its own thread, a few items ahead."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._queue: queue.Queue[Emission | BaseException | None] = queue.Queue(READ_AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        end: BaseException | None = None
        try:
            for emission in self._source.produce():
                if not self._offer(emission):
                    return
        except Exception as error:  # raised again in the thread that iterates
            end = error
        self._offer(end)

    def _offer(self, value: Emission | BaseException | None) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(value, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[Emission]:
        while True:
            value = self._queue.get()
            if value is None:
                return
            if isinstance(value, BaseException):
                raise value
            yield value

    def close(self) -> None:
        self._closed.set()
        self._source.stop()
        self._thread.join(timeout=5.0)


class _Worker:
    """One component in one thread, behind an inbox that knows what may be dropped."""

    PICTURES = 2

    def __init__(self, name: str, host: LocalHost, workers: Mapping[str, _Worker]) -> None:
        self.name = name
        self._host = host
        self._workers = workers
        self._component = host.components[name]
        self._inbox: deque[tuple[Port, Item, float]] = deque()
        self._ready = threading.Condition()
        self._tick: Stamp | None = None
        self._calls: list[Callable[[], object]] = []
        self._done = False

    def put(self, port: Port, item: Item, entered: float) -> None:
        with self._ready:
            if not port.keep_all:
                waiting = [index for index, entry in enumerate(self._inbox) if entry[0].name == port.name]
                if len(waiting) >= self.PICTURES:
                    del self._inbox[waiting[0]]
                    self._host.timing[self.name].dropped += 1
            self._inbox.append((port, item, entered))
            self._ready.notify()

    def wake(self, now: Stamp) -> None:
        with self._ready:
            self._tick = now
            self._ready.notify()

    def call_soon(self, call: Callable[[], object]) -> None:
        with self._ready:
            self._calls.append(call)
            self._ready.notify()

    def reset(self) -> None:
        with self._ready:
            self._inbox.clear()
            self._tick = None
            self._calls.append(self._component.reset)
            self._ready.notify()

    def finish(self) -> None:
        with self._ready:
            self._done = True
            self._ready.notify()

    def run(self) -> None:
        try:
            while True:
                with self._ready:
                    while not self._inbox and self._tick is None and not self._done and not self._calls:
                        self._ready.wait()
                    calls = self._calls
                    self._calls = []
                    tick = self._tick
                    self._tick = None
                    entry = self._inbox.popleft() if self._inbox else None
                    if entry is None and tick is None and not calls:
                        return
                for call in calls:
                    call()
                if tick is not None:
                    for emission in self._component.tick(tick):
                        self._host.dispatch(emission, self._workers, time.perf_counter())
                if entry is not None:
                    port, item, entered = entry
                    for emission in self._host._handle(self.name, port.name, item):
                        self._host.latency.setdefault(emission.port, Timing()).durations.append(
                            time.perf_counter() - entered
                        )
                        self._host.dispatch(emission, self._workers, entered)
        except Exception as error:  # handed to the caller of run_live
            self._host.fail(error)
