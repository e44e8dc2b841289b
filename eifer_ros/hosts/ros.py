"""Runs components as ROS 2 lifecycle nodes: the one place, with its neighbours ros_*.py and nodes/, that
knows rclpy.

A node holds one component, or several that hand items to each other directly (the pipeline). What no
component of the node makes is subscribed to; what leaves a component is published while somebody listens. The
items themselves move as in the local host, whose threads and inboxes are used here: the newest picture wins,
EMG is never dropped.

configure   parameters to configs, models loaded and warmed, devices opened, topics and services made; FAILURE with the reason otherwise
activate    threads started, at once
deactivate  outputs that move hardware ease to neutral, threads ended; models and devices stay
cleanup     everything released; parameters may be read anew by another configure
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from .. import topics
from ..component import Component, Port, Source
from ..config import Config
from ..errors import ConfigError, EiferError, did_you_mean
from ..types import NS, Item, Stamp
from .local import LiveRun, LocalHost
from .ros_parameters import Parameters, Section, overrides, sections_of_file
from .ros_part import CompositionConfig, Extra, HostConfig, Part, PictureInConfig, PictureOutConfig
from .ros_report import Reporter
from .ros_streams import HousekeepingGroup, Inlets, Outlet, Outlets

T = TypeVar("T")

HOUSEKEEPING_S = 0.5
BACKWARDS_NS = NS
"""A stamp this much before the one before it on the same topic: a recording began again."""
TURN_S = 0.0001
"""How long a thread may keep Python to itself while another waits.

At the usual 5 ms a picture's face waits behind every packet of EMG.
"""
PATIENT_S = 2.0
"""Signals that follow the first one within this mean the same."""
FORWARD_S = 2.0
"""A simulated clock that leaps this far forward was set, it did not run."""


class RosHost(LifecycleNode):  # type: ignore[misc]
    """A lifecycle node around components.

    components: the parts of a composition that run by default; None for a node with a single part. assemble:
    makes the graph of what runs; the nodes take that of `pipeline.py`.
    """

    def __init__(
        self,
        name: str,
        parts: Sequence[Part],
        components: Sequence[str] | None = None,
        assemble: Callable[..., LocalHost] = LocalHost,
        **node_options: Any,
    ) -> None:
        super().__init__(name, **node_options)
        self._assemble = assemble
        self._parts = {part.name: part for part in parts}
        self._composed = components is not None
        self._warned: dict[str, float] = {}
        self._sections: dict[str, Section] = {}
        self._common = self._declare(name, components or ())
        self.components: dict[str, Component] = {}
        self._inlets: Inlets | None = None
        self._outlets: Outlets | None = None
        self._extras: list[Extra] = []
        self._ports_in: dict[str, Port] = {}
        self._host: LocalHost | None = None
        self._run: LiveRun | None = None
        self._timers_of_run: list[Any] = []
        self._newest: dict[str, Stamp] = {}
        self.offers = ReentrantCallbackGroup()
        """For services and actions that take their time: in the node's own group they would hold up its
        topics meanwhile.
        """
        self.housekeeping_group = HousekeepingGroup()
        """For events that may wait for the next housekeeping."""
        self._ran = False
        self._ended = False
        self.configuring = False
        """Whether models are being loaded at the moment."""
        self.failure = ""
        """Why the last run broke off; empty where it did not."""
        self.add_post_set_parameters_callback(self._apply)
        self._guard_transitions()
        self._reporter = Reporter(self, lambda: self._silence_s())
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=Duration(seconds=FORWARD_S), min_backward=Duration(nanoseconds=-1)),
            post_callback=self._on_time_jump,
        )
        # health has to be told also while a simulated clock stands still
        self.create_timer(HOUSEKEEPING_S, self._housekeeping, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # ------------------------------------------------------------ what extras and topics use

    @property
    def node(self) -> RosHost:
        """Itself, for the topics."""
        return self

    def now(self) -> Stamp:
        """The node's clock, ns."""
        return int(self.get_clock().now().nanoseconds)

    def warn(self, key: str, text: str, every_s: float = 5.0) -> None:
        """A warning, at most every `every_s` for each `key`."""
        moment = time.monotonic()
        if moment - self._warned.get(key, -1e9) >= every_s:
            self._warned[key] = moment
            self.get_logger().warning(text)

    @property
    def active(self) -> bool:
        """Whether items flow."""
        return self._run is not None

    @property
    def host(self) -> LocalHost | None:
        """The run's graph, None while inactive."""
        return self._host

    @property
    def inlets(self) -> Inlets | None:
        """Subscribed topics, None while unconfigured."""
        return self._inlets

    @property
    def outlets(self) -> Outlets | None:
        """Published topics, None while unconfigured."""
        return self._outlets

    @property
    def state_label(self) -> str:
        """`unconfigured`, `inactive`, `active`, ..."""
        return str(self._state_machine.current_state[1])

    def publisher(self, topic: str, type_name: str, profile: topics.Profile) -> Outlet:
        """A topic of a type that is no item; closed by whoever asked for it."""
        return Outlet(self, topic, type_name, profile)

    def call_soon(self, name: str, call: Callable[[], object]) -> None:
        """Make a call in the thread of a component, or here while the node is inactive."""
        if self._run is not None:
            self._run.call_soon(name, call)
        else:
            call()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Await `work`, done in a thread of its own, so that the node answers meanwhile."""
        done: Any = Future(executor=self.executor)

        def run() -> None:
            try:
                done.set_result(work())
            except Exception as error:  # raised again where it is awaited
                done.set_exception(error)
            executor = self.executor
            if executor is not None:
                executor.wake()

        threading.Thread(target=run, name="work", daemon=True).start()
        return await done  # type: ignore[no-any-return]

    # ------------------------------------------------------------ parameters

    def _declare(self, name: str, components: Sequence[str]) -> Parameters:
        self._sections = {
            part.name: Section(
                f"{part.name}." if self._composed else "",
                part.component.config_type,  # type: ignore[arg-type]
                part.name,
            )
            for part in self._parts.values()
        }
        self._own = {model: Section("", model, name) for model in self._own_models()}
        files: Mapping[str, Mapping[str, Any]] = {}
        problem = ""
        given_values = overrides(self)
        if self._composed:
            given_values.setdefault("components", list(components))
            path = str(given_values.get("params_file", ""))
            try:
                files = sections_of_file(Path(path).expanduser(), self._sections.values()) if path else {}
            except EiferError as error:
                problem = str(error)
        parameters = Parameters(self, (*self._sections.values(), *self._own.values()), files, given_values)
        if problem:
            parameters.complain("params_file", problem)
        return parameters

    def _own_models(self) -> list[type[Config]]:
        parts = self._parts.values()
        models: list[type[Config]] = [HostConfig]
        models += [PictureInConfig] if any(part.pictures_in for part in parts) else []
        models += [PictureOutConfig] if any(part.pictures_out for part in parts) else []
        return models + ([CompositionConfig] if self._composed else [])

    def own(self, model: type[Config]) -> Any:
        """The node's own parameters of that model; its defaults where this node does not have them."""
        return self._common.config(self._own[model]) if model in self._own else model()

    def _silence_s(self) -> float:
        return float(self.get_parameter("silence_s").value)

    def _apply(self, parameters: Sequence[Any]) -> None:
        """Parameters that may change take effect."""
        for name, component in self.components.items():
            section = self._sections[name]
            if any(parameter.name.startswith(section.prefix) for parameter in parameters):
                component.config = self._common.config(section)  # type: ignore[attr-defined]

    def _selected_parts(self) -> list[Part]:
        if not self._composed:
            return list(self._parts.values())
        names = self.own(CompositionConfig).components
        for name in names:
            if name not in self._parts:
                raise ConfigError(
                    f"components: unknown '{name}'{did_you_mean(name, self._parts)}; known are {', '.join(self._parts)}"
                )
        if not names:
            raise ConfigError(f"components: name at least one of {', '.join(self._parts)}")
        return [self._parts[name] for name in names]

    # ------------------------------------------------------------ transitions

    def on_configure(self, state: Any) -> Any:
        """Read the parameters and build component, publishers and subscriptions."""
        self.configuring = True
        try:
            self._configure()
        except EiferError as error:
            self.get_logger().error(f"cannot configure: {error}")
            self._release()
            return TransitionCallbackReturn.FAILURE
        except Exception:  # rclpy would hide it
            self.get_logger().error(f"cannot configure: {traceback.format_exc()}")
            self._release()
            return TransitionCallbackReturn.ERROR
        finally:
            self.configuring = False
        return super().on_configure(state)

    def _configure(self) -> None:
        if self._common.problems:
            raise ConfigError("; ".join(self._common.problems))
        parts = self._selected_parts()
        for part in parts:
            config = in_real_time(self._common.config(self._sections[part.name]))
            self.components[part.name] = (
                part.make(config, self) if part.make is not None else part.component(config)  # type: ignore[call-arg]
            )
        produced = {port.name for component in self.components.values() for port in component.outputs}
        self._ports_in = {
            port.name: port
            for component in self.components.values()
            for port in component.inputs
            if port.name not in produced
        }
        # sources last: no device runs before what it feeds is ready
        for component in sorted(
            self.components.values(), key=lambda component: isinstance(component, Source)
        ):
            component.setup()
        outputs = {port.name: port for component in self.components.values() for port in component.outputs}
        self._outlets = Outlets(self, outputs.values(), self.own(PictureOutConfig).jpeg_quality)
        pictures = self.own(PictureInConfig)
        self._inlets = Inlets(
            self,
            self._ports_in.values(),
            self._arrive,
            transport=pictures.image_transport,
            depth=pictures.use_depth,
            on_frame_id=self._on_frame_id,
        )
        for part in parts:
            for extra in part.extras:
                self._extras.append(extra(self, self.components[part.name]))
        for inlets in self._inlets.topics.values():
            for inlet in inlets:
                self.get_logger().info(f"subscribed: {inlet.traffic.topic} ({inlet.traffic.qos})")
        for outlet in self._outlets.topics.values():
            self.get_logger().info(f"publishes: {outlet.traffic.topic} ({outlet.traffic.qos})")
        gc.collect()
        gc.freeze()  # models and tables need not be walked by every collection

    def on_activate(self, state: Any) -> Any:
        """Start the threads."""
        result = super().on_activate(state)
        if result != TransitionCallbackReturn.SUCCESS or self._outlets is None or self._inlets is None:
            return result
        host = self._assemble(self.components, outside=self._ports_in)
        host.tap(self._outlets.take)
        for extra in self._extras:
            host.tap(extra.take)
        if self._ran:
            for component in self.components.values():
                if not isinstance(component, Source):
                    component.reset()
        self._ran = True
        self._ended = False
        self.failure = ""
        self._newest.clear()
        simulated = bool(self.get_parameter("use_sim_time").value)
        self._update_subscribed()
        self._reporter.restart()
        run = LiveRun(host, self.now, ticking=not simulated)
        run.start()
        self._host = host
        self._run = run
        for port, item in self._inlets.latched.items():
            run.put(port, item)
        if simulated:
            self._timers_of_run = [
                self.create_timer(1.0 / component.tick_hz, lambda name=name: self._tick(name))
                for name, component in self.components.items()
                if component.tick_hz > 0 and not isinstance(component, Source)
            ]
        return result

    def _tick(self, name: str) -> None:
        if self._run is not None:
            self._run.wake(name, self.now())

    def on_deactivate(self, state: Any) -> Any:
        """End the threads; models and devices stay."""
        self._stop_run()
        for name, component in self.components.items():
            if isinstance(component, Source) and self._parts[name].reopen and not self.failure:
                component.close()
                try:
                    component.setup()
                except EiferError as error:
                    self.failure = str(error)
                    self.get_logger().error(f"{name}: {error}")
        return super().on_deactivate(state)

    def on_cleanup(self, state: Any) -> Any:
        """Release everything."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: Any) -> Any:
        """Release everything, from any state."""
        self._stop_run()
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: Any) -> Any:
        """Back to unconfigured, with nothing held."""
        self._stop_run()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _stop_run(self) -> None:
        if self._run is None:
            return
        for extra in self._extras:
            extra.pause()
        for timer in self._timers_of_run:
            self.destroy_timer(timer)
        self._timers_of_run = []
        run = self._run
        self._run = None
        run.finish()
        self._host = None

    def _release(self) -> None:
        for extra in self._extras:
            extra.close()
        self._extras = []
        for side in (self._inlets, self._outlets):
            if side is not None:
                side.close()
        self._inlets = None
        self._outlets = None
        for component in self.components.values():
            component.close()
        self.components = {}
        self._ran = False
        gc.unfreeze()

    def _guard_transitions(self) -> None:
        """A transition that the present state does not have is answered with failure.

        rclpy up to Jazzy raises into the executor.
        """
        service = getattr(self, "_service_change_state", None)
        if service is None:
            return
        change = service.callback

        def guarded(request: Any, response: Any) -> Any:
            try:
                return change(request, response)
            except Exception as error:  # RCLError is not public
                transition = request.transition.label or request.transition.id
                self.get_logger().error(
                    f"transition '{transition}' is not possible while {self.state_label}: {error}"
                )
                response.success = False
                return response

        service.callback = guarded

    # ------------------------------------------------------------ the stream

    def _arrive(self, port: str, item: Item) -> None:
        run = self._run
        if run is None:
            return
        if not self._ports_in[port].latched:
            newest = self._newest.get(port)
            if newest is not None and item.stamp < newest - BACKWARDS_NS:
                self._forget(
                    f"stamps on {port} went back by {(newest - item.stamp) / NS:.1f} s: starting afresh"
                )
            self._newest[port] = item.stamp
        run.put(port, item)

    def _on_frame_id(self, frame_id: str) -> None:
        if self._outlets is not None:
            self._outlets.camera_frame = frame_id

    def _on_time_jump(self, jump: Any) -> None:
        self._forget(f"the clock jumped by {jump.delta.nanoseconds / NS:+.1f} s: starting afresh")

    def _forget(self, why: str) -> None:
        self._newest.clear()
        if self._run is not None:
            self.get_logger().info(why)
            self._run.reset()
            self._reporter.restart()

    # ------------------------------------------------------------ housekeeping

    def _update_subscribed(self) -> None:
        if self._outlets is None:
            return
        subscribed = self._outlets.subscribed()
        subscribed |= {port.name for component in self.components.values() for port in component.inputs}
        for name, component in self.components.items():
            try:
                component.set_subscribed(subscribed)
            except EiferError as error:
                self.warn(f"wants {name}", f"{name}: {error}", 30.0)

    def _housekeeping(self) -> None:
        host = self._host
        run = self._run
        if host is not None and run is not None:
            if host.failure is not None:
                self._break_off(host.failure)
            else:
                self._update_subscribed()
                has_source = any(isinstance(component, Source) for component in self.components.values())
                if has_source and not run.running and not self._ended:
                    self._ended = True
                    self.get_logger().info("the source has ended")
        self._reporter.turn()
        self.housekeeping_group.poll()

    def _break_off(self, error: BaseException) -> None:
        self.failure = str(error) or type(error).__name__
        description = (
            self.failure if isinstance(error, EiferError) else "".join(traceback.format_exception(error))
        )
        self.get_logger().error(f"stopped: {description}")
        self.trigger_deactivate()

    def begin(self) -> None:
        """Configure and activate, where that goes."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()


def in_real_time(config: Config) -> Config:
    """A file plays in real time under ROS: `speed: 0`, as fast as items are taken, would flood everyone."""
    if getattr(config, "speed", None) == 0:
        return type(config).model_validate({**config.model_dump(exclude_unset=True), "speed": 1})
    return config


def make_executor() -> Any:
    """The executor that costs least: one that reacts to events where this rclpy has it (Kilted and later)."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor()
    return EventsExecutor()


def serve(
    name: str,
    parts: Sequence[Part],
    components: Sequence[str] | None = None,
    args: Sequence[str] | None = None,
    assemble: Callable[..., LocalHost] = LocalHost,
) -> int:
    """Run a node until SIGINT or SIGTERM, which end it in order; another, seconds later, ends it at once.

    Returns the exit status, 0.
    """
    # the signals go to a thread that waits for them: hardware eases to neutral and the last messages leave
    # before the context ends
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    sys.setswitchinterval(TURN_S)
    stop = threading.Event()
    executor = make_executor()

    node = RosHost(name, parts, components, assemble)

    def wait() -> None:
        signal.sigwait(signals)
        since = time.monotonic()
        stop.set()
        executor.wake()
        if node.configuring:  # nothing runs yet, and loading cannot be interrupted
            os._exit(0)
        # Ctrl-C reaches a node twice under launch: from the terminal and from launch
        while time.monotonic() - since < PATIENT_S:
            signal.sigtimedwait(signals, PATIENT_S)
        signal.sigwait(signals)
        os._exit(130)

    threading.Thread(target=wait, name="signals", daemon=True).start()
    executor.add_node(node)
    if node.get_parameter("autostart").value:
        executor.create_task(node.begin)
    try:
        while not stop.is_set() and rclpy.ok():
            try:
                executor.spin_once()
            except (ExternalShutdownException, KeyboardInterrupt):
                break
            except Exception:  # of a callback: one bad request must not end a performance
                node.get_logger().error(traceback.format_exc())
    finally:
        if rclpy.ok() and node.state_label in ("unconfigured", "inactive", "active"):
            node.trigger_shutdown()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
