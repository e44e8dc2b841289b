"""What a node tells about itself: diagnostics once a second, and warnings about inputs that are silent, late
or refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..component import Health, Level
from ..types import NS
from ..wire.messages import ROSBAGS, ros_class, serialise
from .ros_node import NodeHost
from .ros_streams import Inlet, Traffic

TYPE = "diagnostic_msgs/msg/DiagnosticArray"
EVERY = 2
"""Diagnostics are published at every second turn."""
REPEAT_S = 30.0
"""A warning that still holds is repeated after so long."""
OFF_S = 10.0
"""Stamps this far from the node's clock belong to another clock."""


class Reporter:
    """Turned twice a second by the node."""

    def __init__(self, node: NodeHost, silence_s: Callable[[], float]) -> None:
        self._node = node
        self._silence = silence_s
        self._publisher = node.create_publisher(
            ros_class(TYPE), "/diagnostics", 10, callback_group=node.housekeeping_group
        )
        self._turns = 0
        self._before: dict[str, int] = {}

    def restart(self) -> None:
        """A new run: silence counts from now."""
        now = self._node.now()
        self._before.clear()
        for traffic in self._traffic():
            traffic.restart(now)

    def turn(self) -> None:
        """Warn about what is missing; publish diagnostics."""
        silent = self._warn() if self._node.active else {}
        self._turns += 1
        if self._turns % EVERY == 0:
            self._publish(silent)

    def _inlets(self, component: str) -> list[Inlet]:
        """The topics that must not be silent for this component: its inputs that come from outside, the
        latched ones left out.
        """
        inlets = self._node.inlets
        if inlets is None:
            return []
        ports = [
            port
            for port in self._node.components[component].inputs
            if port.name in inlets.topics and not port.latched
        ]
        return [inlets.topics[port.name][0] for port in ports]

    def _traffic(self) -> list[Traffic]:
        topics = list(self._node.outlets.topics.values()) if self._node.outlets is not None else []
        inlets = (
            [inlet for group in self._node.inlets.topics.values() for inlet in group]
            if self._node.inlets is not None
            else []
        )
        return [topic.traffic for topic in topics] + [inlet.traffic for inlet in inlets]

    def _warn(self) -> dict[str, str]:
        """Warn in the log; gives what is wrong with the inputs of each component, for its diagnostics."""
        node = self._node
        warnings = {}
        now = node.now()
        silence_s = self._silence()
        if now == 0:
            node.warn(
                "clock", "use_sim_time is set but nothing arrives on /clock: time stands still", REPEAT_S
            )
            return {}
        for name, component in node.components.items():
            inlets = self._inlets(name)
            made_inside = any(
                port.name not in (node.inlets.topics if node.inlets else {}) for port in component.inputs
            )
            quiet = [
                inlet
                for inlet in inlets
                if now - max(inlet.traffic.last, inlet.traffic.since) > silence_s * NS
            ]
            nothing = bool(inlets) and len(quiet) == len(inlets) and not made_inside
            for inlet in quiet:
                traffic = inlet.traffic
                if traffic.count == 0 and not nothing:
                    continue  # an alternative that nobody provides is no fault while another input flows
                ago = (now - max(traffic.last, traffic.since)) / NS
                warnings[name] = f"no input for {ago:.0f} s on {traffic.topic}"
                node.warn(
                    f"silent {traffic.topic}",
                    f"no input for {ago:.0f} s on {traffic.topic} ({traffic.qos}): {inlet.publishers()}",
                    REPEAT_S,
                )
            for inlet in inlets:
                self._warn_of_clock(inlet.traffic)
        return warnings

    def _warn_of_clock(self, traffic: Traffic) -> None:
        if math.isfinite(traffic.age_s) and abs(traffic.age_s) > OFF_S:
            where = "behind" if traffic.age_s > 0 else "ahead of"
            self._node.warn(
                f"age {traffic.topic}",
                f"stamps on {traffic.topic} lie {abs(traffic.age_s):.0f} s {where} this node's clock; for a recording set use_sim_time and "
                "play it with --clock",
                REPEAT_S,
            )

    # ------------------------------------------------------------ diagnostics

    def _publish(self, silent: dict[str, str]) -> None:
        node = self._node
        now = node.now()
        statuses = [
            self._status(name, self._health(name, silent.get(name, ""), now)) for name in node.components
        ]
        if not statuses:
            statuses = [self._status("", Health(Level.OK, node.state_label))]
        stamp = ROSBAGS.make("builtin_interfaces/msg/Time", sec=now // NS, nanosec=now % NS)
        header = ROSBAGS.make("std_msgs/msg/Header", stamp=stamp, frame_id="")
        self._publisher.publish(serialise(ROSBAGS.make(TYPE, header=header, status=statuses)))

    def _status(self, component: str, health: Health) -> Any:
        full = self._node.get_fully_qualified_name().lstrip("/")
        values = [
            ROSBAGS.make(
                "diagnostic_msgs/msg/KeyValue",
                key=key,
                value=f"{value:.4g}" if isinstance(value, float) else str(value),
            )
            for key, value in health.values.items()
        ]
        return ROSBAGS.make(
            "diagnostic_msgs/msg/DiagnosticStatus",
            level=int(health.level),
            name=full if component in ("", self._node.get_name()) else f"{full}: {component}",
            message=health.message,
            hardware_id=self._node.get_name(),
            values=values,
        )

    def _health(self, name: str, silent: str, now: int) -> Health:
        """The component's own health, with what the host sees: rates, ages, drops, refused messages,
        milliseconds per item.
        """
        node = self._node
        component = self._node.components[name]
        health = component.health()
        level = health.level
        message = health.message
        values = dict(health.values)
        values["lifecycle"] = node.state_label
        if node.host is not None:
            timing = node.host.timing[name]
            dropped_before = self._before.get(name, 0)
            if timing.dropped > dropped_before and level == Level.OK:
                level = Level.WARN
                message = f"{timing.dropped - dropped_before} items dropped in the last second: too slow"
            self._before[name] = timing.dropped
            values |= {"handled": timing.handled, "dropped": timing.dropped}
            if timing.durations:
                values |= {
                    "handle_ms_p50": 1e3 * timing.percentile(50),
                    "handle_ms_p99": 1e3 * timing.percentile(99),
                }
        for inlet in self._inlets(name):
            traffic = inlet.traffic
            short = traffic.topic
            values[f"{short} rate_hz"] = traffic.rate_hz(now)
            values[f"{short} age_ms"] = 1e3 * traffic.age_s
            values[f"{short} rejected"] = traffic.rejected
            if traffic.rejected and level == Level.OK and traffic.problem:
                level = Level.WARN
                message = f"{traffic.rejected} messages refused, the last: {traffic.problem}"
            if traffic.incompatible and traffic.count == 0:
                level = max(level, Level.ERROR)
                message = f"a publisher of {short} offers an incompatible QoS"
        outlets = node.outlets.topics if node.outlets is not None else {}
        for port in component.outputs:
            if port.name in outlets:
                traffic = outlets[port.name].traffic
                values[f"{traffic.topic} rate_hz"] = traffic.rate_hz(now)
                if traffic.rejected:
                    level = max(level, Level.WARN)
                    message = f"not published on {traffic.topic}: {traffic.problem}"
        if silent:
            level = max(level, Level.STALE) if level != Level.ERROR else level
            message = silent
        if node.failure:
            level = Level.ERROR
            message = f"stopped: {node.failure}"
        return Health(level, message, values)
