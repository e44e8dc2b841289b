"""What each node runs and offers besides its streams.

A part is imported when it is asked for: a camera node needs no head model.
"""

from __future__ import annotations

import threading
from typing import Any

from ..component import Component
from ..hosts.ros_node import NodeHost
from ..hosts.ros_part import Extra, Part
from ..pipeline import component_class
from ..types import NS, Stamp

POLL_S = 0.02


class NodeClock:
    """The node's clock for sources that make their own time."""

    def __init__(self, host: NodeHost) -> None:
        self._host = host

    def now(self) -> Stamp:
        """The present, as the node sees it."""
        return self._host.now()

    def wait_until(self, stamp: Stamp, stop: threading.Event) -> None:
        """Return at `stamp`, or earlier when `stop` is set. A simulated clock is looked at every 20 ms."""
        simulated = bool(self._host.get_parameter("use_sim_time").value)
        while not stop.is_set() and (left := stamp - self.now()) > 0:
            stop.wait(min(left / NS, POLL_S) if simulated else left / NS)


def _performer_by_node_clock(config: Any, host: NodeHost) -> Component:
    from ..simulation.performer import Performer

    return Performer(config, NodeClock(host))


def _extras(name: str) -> tuple[type[Extra], ...]:
    """What a component's node offers besides its streams, imported when it is asked for."""
    if name == "reconstruction":
        from ._humans import Humans
        from ._services import SetReference

        return (SetReference, Humans)
    if name == "emg":
        from ._actions import Calibrate

        return (Calibrate,)
    if name == "mapping":
        from ._actions import FitMapping

        return (FitMapping,)
    if name == "animatronic":
        from ._services import Arming

        return (Arming,)
    if name == "face_view":
        from ._face_view import FaceViewTopics

        return (FaceViewTopics,)
    return ()


def part(name: str) -> Part:
    """What the node of a component of `graph.COMPONENTS` runs. Raises ConfigError for another name."""
    component = component_class(name)
    if name == "performer":
        return Part(name, component, make=_performer_by_node_clock, reopen=False)
    return Part(name, component, _extras(name))
