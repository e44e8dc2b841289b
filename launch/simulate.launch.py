"""The simulated participant alone: `ros2 launch eifer_ros simulate.launch.py`.

Camera, raw EMG and the truth beside them, for developing a consumer, or nodes of one's own in the place of
eifer's.
"""

from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction

from eifer_ros import launching


def compose(context: LaunchContext) -> list[Any]:
    """The performer, with what the arguments say on top of the parameter file."""
    given = {
        name: convert(launching.value(context, name))
        for name, convert in (("seed", int), ("program", str), ("sensors", _truth))
        if launching.value(context, name)
    }
    actions = launching.lifecycle_node(
        context, "performer", parameters=[launching.params_file(context), *([given] if given else [])]
    )
    if launching.is_true(context, "record"):
        actions.append(launching.bag_record(context, launching.value(context, "bag")))
    return actions


def _truth(text: str) -> bool:
    return text.lower() in ("true", "1")


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the performer."""
    return LaunchDescription(
        [
            *launching.common_arguments(),
            launching.argument("seed", "", "who performs; empty: as in the parameter file"),
            launching.argument(
                "program",
                "",
                "session, calibration, emotions, conversation, free, rest, maximum, micro, micro_talking",
            ),
            launching.argument("sensors", "", "true or false: electrodes and cables on the face"),
            launching.argument(
                "record",
                "false",
                "record with `ros2 bag record` (MCAP, compressed pictures)",
                ["true", "false"],
            ),
            launching.argument("bag", "", "folder of the recording; empty lets rosbag2 name one by the time"),
            OpaqueFunction(function=compose),
        ]
    )
