"""What a ROS node is made of, as data: components, what is offered besides their streams, parameters.

Nothing here needs ROS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ..component import Component
from ..config import Config, parameter
from ..types import Frame, Item
from .ros_node import NodeHost


class HostConfig(Config):
    """Parameters of every node."""

    autostart: bool = parameter(
        False, "configure and activate without being asked to; launch files do it by events instead"
    )
    silence_s: float = parameter(
        3.0, "an input silent for so long is reported", unit="s", gt=0, le=3600, read_only=False
    )


class PictureInConfig(Config):
    """Parameters of nodes that subscribe to pictures."""

    image_transport: Literal["raw", "compressed"] = parameter(
        "raw", "subscribe to the picture itself or to <its topic>/compressed"
    )
    use_depth: bool = parameter(
        False, "also subscribe to camera/depth/image_raw and give each picture the depth of its own stamp"
    )


class PictureOutConfig(Config):
    """Parameters of nodes that publish pictures."""

    jpeg_quality: int = parameter(85, "quality of <picture>/compressed", ge=1, le=100)


class CompositionConfig(Config):
    """Parameters of a node that composes several components."""

    components: tuple[str, ...] = parameter((), "which components run in this process")
    params_file: str = parameter(
        "",
        "parameter file of the separate nodes: its sections are the defaults of the parameters that carry their name as prefix",
    )


class Extra:
    """What a node offers for one component besides its streams: services, actions, topics of foreign types.

    Override what applies.
    """

    def take(self, port: str, item: Item) -> None:
        """A tap on every item that passes through the node. Must be quick."""

    def pause(self) -> None:
        """The node is about to deactivate; streams still flow. May block for seconds."""

    def close(self) -> None:
        """Take down what was offered."""


@dataclass(frozen=True)
class Part:
    """One component of a node: its name (the node's own where it is alone), how it is made, and what is
    offered besides.

    make: from config and host where the component's constructor wants more than its config. reopen: a source
    has to be set up anew to produce again after it was stopped.
    """

    name: str
    component: type[Component]
    extras: tuple[Callable[[NodeHost, Any], Extra], ...] = ()
    make: Callable[[Any, NodeHost], Component] | None = None
    reopen: bool = True

    @property
    def pictures_in(self) -> bool:
        """Whether it takes pictures."""
        return any(port.item is Frame for port in self.component.inputs)

    @property
    def pictures_out(self) -> bool:
        """Whether it makes pictures."""
        return any(port.item is Frame for port in self.component.outputs)
