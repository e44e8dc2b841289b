"""Record what runs in the namespace: `ros2 launch eifer_ros record.launch.py bag:=take1`.

recorder:=rosbag2 runs `ros2 bag record` on the explicit list of eifer's topics. recorder:=eifer writes the
same kind of recording with eifer's own recorder node: EMG in full through slow disks, the session's record
inside, readable after a crash.
"""

from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction

from eifer_ros import launching


def compose(context: LaunchContext) -> list[Any]:
    """The recorder asked for."""
    folder = launching.value(context, "bag")
    if launching.value(context, "recorder") == "rosbag2":
        return [launching.bag_record(context, folder)]
    own = [{"path": folder}] if folder else []
    return launching.lifecycle_node(context, "recorder", parameters=[launching.params_file(context), *own])


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the recorder."""
    return LaunchDescription(
        [
            *launching.common_arguments(),
            launching.argument(
                "bag", "", "folder of the recording; empty names one by the time. Never overwritten"
            ),
            launching.argument("recorder", "rosbag2", "who records", ["rosbag2", "eifer"]),
            OpaqueFunction(function=compose),
        ]
    )
