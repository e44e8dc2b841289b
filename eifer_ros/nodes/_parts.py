"""What each node runs and offers besides its streams."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ..animatronic.component import Animatronic
from ..avatar.component import Avatar
from ..camera.component import Camera
from ..component import Component
from ..emg.component import EmgProcessing
from ..emg.sources.component import EmgInput
from ..hosts.ros_part import Part
from ..mapping.component import MuscleMapping
from ..performer.component import Performer
from ..reconstruction.component import Reconstruction
from ..recording.component import Recorder
from ..recording.source import BagSource
from ..types import NS, Stamp
from ._actions import Calibrate, FitMapping
from ._face_view import FaceView, FaceViewTopics
from ._humans import Humans
from ._services import Arming, SetReference

if TYPE_CHECKING:
    from ..hosts.ros import RosHost

POLL_S = 0.02


class NodeClock:
    """The node's clock for sources that make their own time."""

    def __init__(self, host: RosHost) -> None:
        self._host = host

    def now(self) -> Stamp:
        """The present, as the node sees it."""
        return self._host.now()

    def wait_until(self, stamp: Stamp, stop: threading.Event) -> None:
        """Return at `stamp`, or earlier when `stop` is set. A simulated clock is looked at every 20 ms."""
        simulated = bool(self._host.get_parameter("use_sim_time").value)
        while not stop.is_set() and (left := stamp - self.now()) > 0:
            stop.wait(min(left / NS, POLL_S) if simulated else left / NS)


def _performer(config: Any, host: RosHost) -> Component:
    return Performer(config, NodeClock(host))


PARTS = {
    part.name: part
    for part in (
        Part("performer", Performer, make=_performer, reopen=False),
        Part("camera", Camera),
        Part("emg_source", EmgInput),
        Part("replay", BagSource),
        Part("reconstruction", Reconstruction, (SetReference, Humans)),
        Part("emg", EmgProcessing, (Calibrate,)),
        Part("mapping", MuscleMapping, (FitMapping,)),
        Part("avatar", Avatar),
        Part("animatronic", Animatronic, (Arming,)),
        Part("face_view", FaceView, (FaceViewTopics,)),
        Part("recorder", Recorder),
    )
}
"""By node name."""
