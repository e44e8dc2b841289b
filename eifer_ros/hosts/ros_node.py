"""What a node is to those who report on it and offer something beside its streams. Needs no ROS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .. import topics
from ..component import Component
from ..types import Stamp

if TYPE_CHECKING:
    from .local import LocalHost
    from .ros_streams import Inlets, Outlet, Outlets

T = TypeVar("T")


class NodeHost(Protocol):
    """A lifecycle node round components: `hosts.ros.RosHost`."""

    components: dict[str, Component]
    failure: str
    offers: Any
    housekeeping_group: Any

    # rclpy's own
    create_publisher: Callable[..., Any]
    create_lifecycle_publisher: Callable[..., Any]
    destroy_lifecycle_publisher: Callable[..., Any]
    create_service: Callable[..., Any]
    destroy_service: Callable[..., Any]
    get_name: Callable[[], str]
    get_fully_qualified_name: Callable[[], str]
    get_logger: Callable[[], Any]
    get_parameter: Callable[[str], Any]

    @property
    def active(self) -> bool:
        """Whether items flow."""

    @property
    def host(self) -> LocalHost | None:
        """The run's graph, None while inactive."""

    @property
    def inlets(self) -> Inlets | None:
        """Subscribed topics, None while unconfigured."""

    @property
    def outlets(self) -> Outlets | None:
        """Published topics, None while unconfigured."""

    @property
    def state_label(self) -> str:
        """`unconfigured`, `inactive`, `active`, ..."""

    def now(self) -> Stamp:
        """The node's clock, ns."""

    def warn(self, key: str, text: str, every_s: float = 5.0) -> None:
        """A warning, at most every `every_s` for each `key`."""

    def publisher(self, topic: str, type_name: str, profile: topics.Profile) -> Outlet:
        """A topic of a type that is no item; closed by its owner."""

    def call_soon(self, name: str, call: Callable[[], object]) -> None:
        """Make a call in the thread of a component, or here while the node is inactive."""

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Await `work`, done in a thread of its own, so that the node answers meanwhile."""
