"""What a graph may be made of, and which components a combination of senses and outputs takes.

`pipeline.py` builds it in one process, `nodes/` as ROS nodes, the launch files start those. Launch files run
in the Python of ROS: this module needs the standard library alone, and components are named as text.
"""

from __future__ import annotations

from collections.abc import Iterable

COMPONENTS: dict[str, str] = {
    "performer": "eifer_ros.simulation.performer:Performer",
    "camera": "eifer_ros.camera.camera_source:Camera",
    "emg_source": "eifer_ros.emg.sources.emg_input:EmgInput",
    "replay": "eifer_ros.recording.source:BagSource",
    "reconstruction": "eifer_ros.reconstruction.face_reconstruction:Reconstruction",
    "emg": "eifer_ros.emg.emg_processing:EmgProcessing",
    "mapping": "eifer_ros.mapping.muscle_mapping:MuscleMapping",
    "spotter": "eifer_ros.micro.event_spotter:Spotter",
    "avatar": "eifer_ros.avatar.avatar_output:Avatar",
    "animatronic": "eifer_ros.animatronic.animatronic_face:Animatronic",
    "face_view": "eifer_ros.nodes._face_view:FaceView",
    "recorder": "eifer_ros.recording.recorder:Recorder",
}
"""Classes by the name of their node and of their section in a config file, in the order of the flow."""

SOURCES: dict[str, str] = {
    "performer": "",
    "webcam": "",
    "video": "video:",
    "realsense": "realsense",
    "topic": "",
}
"""Where a launched pipeline takes its pictures from, with the address of its camera; empty where it has
none, or where the parameter file says it.
"""

HARDWARE_OUTPUTS = ("avatar", "animatronic")
"""What somebody watches move: these run by the clock."""


def chain(
    *,
    camera: bool,
    emg: bool,
    source: Iterable[str] = (),
    mapping: bool = False,
    micro: bool = False,
    avatar: bool = False,
    animatronic: bool = False,
) -> list[str]:
    """Names of the components of a combination, in the order of the flow.

    Parameters
    ----------
    camera, emg : bool
        Whether there are pictures and raw EMG to work on.
    source : iterable of str
        The components that bring them: `camera`, `emg_source`, `performer`, `replay`, or none where they come
        over topics.
    mapping : bool
        Map muscles and face onto each other, and fuse.
    micro : bool
        Spot micro-expressions.
    avatar, animatronic : bool
        Drive avatars and joints.

    Returns
    -------
    list of str
        Keys of `COMPONENTS`.
    """
    parts = {
        **dict.fromkeys(source, True),
        "reconstruction": camera,
        "emg": emg,
        "mapping": mapping,
        "spotter": micro,
        "avatar": avatar,
        "animatronic": animatronic,
    }
    return [name for name in COMPONENTS if parts.get(name)]
