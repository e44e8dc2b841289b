"""The live page beside a graph that runs: it taps every port, and its estimator can be changed meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .. import topics
from ..component import Component, Emission, Health
from ..errors import InputError
from ..hosts.local import LocalHost
from ..reconstruction.face_reconstruction import Reconstruction, ReconstructionConfig
from ..registry import ESTIMATORS
from ..types import Item, Stamp
from .controls import Control
from .server import Viewer, status_of
from .view_config import ViewConfig

RESTORED = topics.FACE_RESTORED.name
RESTORED_NS = 95_000_000
"""A page shows the restored face ten times a second; restoring each picture would cost as much as reading it.
"""


class SwitchableReconstruction(Component):
    """The reconstruction, with an estimator that can be changed while it runs.

    Same ports, same configuration.
    """

    config_type = ReconstructionConfig
    inputs = Reconstruction.inputs
    outputs = Reconstruction.outputs

    def __init__(self, config: ReconstructionConfig | None = None) -> None:
        self._inner = Reconstruction(config or ReconstructionConfig())
        self._subscribed: frozenset[str] = frozenset()
        self._page_open = False
        self._restoring = False
        self._restored: Stamp = 0
        self.tick_hz = self._inner.tick_hz

    @staticmethod
    def around(reconstruction: Reconstruction) -> SwitchableReconstruction:
        """One that goes on with a reconstruction that is there."""
        switchable = SwitchableReconstruction(reconstruction.config)
        switchable._inner = reconstruction
        return switchable

    def setup(self) -> None:
        """Load the networks."""
        self._inner.setup()

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        """A picture to the estimator of the moment."""
        restoring = self._page_open and abs(item.stamp - self._restored) >= RESTORED_NS
        if restoring:
            self._restored = item.stamp
        if restoring != self._restoring:  # here, because a component is called from one thread
            self._restoring = restoring
            self._inner.set_subscribed(self._needed())
        return self._inner.handle(port, item)

    def set_subscribed(self, subscribed: frozenset[str]) -> None:
        """Keep what is subscribed to; a page that shows the restored face adds that."""
        self._subscribed = subscribed
        self._inner.set_subscribed(self._needed())

    def _needed(self) -> frozenset[str]:
        return self._subscribed | ({RESTORED} if self._restoring else frozenset())

    def set_page_count(self, pages: int) -> None:
        """Restore the face only while a page shows it, and as often as it is shown.

        From any thread; holds from the next picture on.
        """
        self._page_open = pages > 0

    def reset(self) -> None:
        """Forget the stream."""
        self._inner.reset()

    def health(self) -> Health:
        """Of the estimator of the moment."""
        return self._inner.health()

    def close(self) -> None:
        """Release it."""
        self._inner.close()

    # ---- buttons ----

    @property
    def choices(self) -> tuple[str, ...]:
        """Names of the estimators there are."""
        return ESTIMATORS.schemes()

    def state(self) -> dict[str, Any]:
        """For the page."""
        values = self._inner.health().values
        used = {key: str(values.get(f"estimator_{key}", "")) for key in ("used", "reason")}
        return {"chosen": self._inner.config.estimator, "choices": list(self.choices), **used}

    def command(self, verb: str, values: Mapping[str, Any]) -> str:
        """`choose` (name): load the other estimator, then change over; the stream goes on meanwhile."""
        name = values.get("name")
        if verb != "choose" or name not in self.choices:
            raise InputError(f"estimator: choose one of {', '.join(self.choices)}; got {verb} {name!r}")
        if name != self._inner.config.estimator:
            other = Reconstruction(
                ReconstructionConfig.model_validate(self._inner.config.model_dump() | {"estimator": name})
            )
            other.setup()
            other.set_subscribed(self._needed())
            other.use_reference(self._inner.reference)
            self._inner = other
        return f"estimator: {name}"


def attach(
    host: LocalHost,
    *,
    config: ViewConfig | None = None,
    title: str = "",
    live: bool = True,
    controls: dict[str, Control] | None = None,
    facts: dict[str, Any] | None = None,
) -> Viewer:
    """Put the page beside a graph that is about to run (`--view`).

    Call before `host.setup`; close the viewer after the run.

    Returns the serving viewer; its `url` is what to open. Raises MissingExtra, DeviceError (port taken),
    ConfigError.
    """
    viewer = Viewer(config, title=title, live=live, controls=controls, facts=facts)
    viewer.status = lambda: status_of(host, viewer.board, live)
    host.tap(viewer.take)
    for name, component in host.components.items():
        if isinstance(component, Reconstruction):
            component = host.components[name] = SwitchableReconstruction.around(component)
        if isinstance(component, SwitchableReconstruction):
            viewer.controls.setdefault("estimator", component)
            viewer.on_pages.append(component.set_page_count)
    viewer.start()
    return viewer
