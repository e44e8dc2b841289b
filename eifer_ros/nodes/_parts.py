"""What each node runs and offers besides its streams.

A part is imported when it is asked for: a camera node needs no head model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..component import Component
from ..hosts.ros_node import NodeHost
from ..hosts.ros_part import Part
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


def performer() -> Part:
    """The simulated participant."""
    from ..simulation.performer import Performer

    def make(config: Any, host: NodeHost) -> Component:
        return Performer(config, NodeClock(host))

    return Part("performer", Performer, make=make, reopen=False)


def camera() -> Part:
    """A camera of any kind, the simulated one included."""
    from ..camera.camera_source import Camera

    return Part("camera", Camera)


def emg_source() -> Part:
    """An amplifier of any kind, the simulated one included."""
    from ..emg.sources.emg_input import EmgInput

    return Part("emg_source", EmgInput)


def replay() -> Part:
    """A recording."""
    from ..recording.source import BagSource

    return Part("replay", BagSource)


def reconstruction() -> Part:
    """Pictures to faces."""
    from ..reconstruction.face_reconstruction import Reconstruction
    from ._humans import Humans
    from ._services import SetReference

    return Part("reconstruction", Reconstruction, (SetReference, Humans))


def emg() -> Part:
    """Raw EMG to muscle activity."""
    from ..emg.emg_processing import EmgProcessing
    from ._actions import Calibrate

    return Part("emg", EmgProcessing, (Calibrate,))


def mapping() -> Part:
    """Muscles and faces onto each other."""
    from ..mapping.muscle_mapping import MuscleMapping
    from ._actions import FitMapping

    return Part("mapping", MuscleMapping, (FitMapping,))


def spotter() -> Part:
    """Faces and muscles to micro-expressions."""
    from ..micro.event_spotter import Spotter

    return Part("spotter", Spotter)


def avatar() -> Part:
    """Faces to avatars."""
    from ..avatar.avatar_output import Avatar

    return Part("avatar", Avatar)


def animatronic() -> Part:
    """Faces to joints."""
    from ..animatronic.animatronic_face import Animatronic
    from ._services import Arming

    return Part("animatronic", Animatronic, (Arming,))


def face_view() -> Part:
    """Faces to RViz."""
    from ._face_view import FaceView, FaceViewTopics

    return Part("face_view", FaceView, (FaceViewTopics,))


def recorder() -> Part:
    """Everything to a bag."""
    from ..recording.recorder import Recorder

    return Part("recorder", Recorder)


PARTS: dict[str, Callable[[], Part]] = {
    make.__name__: make
    for make in (
        performer,
        camera,
        emg_source,
        replay,
        reconstruction,
        emg,
        mapping,
        spotter,
        avatar,
        animatronic,
        face_view,
        recorder,
    )
}
"""By node name."""
