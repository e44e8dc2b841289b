"""Replay a recording: `ros2 launch eifer_ros replay.launch.py bag:=take1`.

rework:=false plays everything as it was recorded. rework:=true plays only what came from devices and works on
it again with the nodes of today. player:=rosbag2 is `ros2 bag play --clock`, which starts when the nodes are
active; player:=eifer is eifer's own replay node, which reads recordings in any namespace.
"""

from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import ExecuteProcess, OpaqueFunction

from eifer_ros import launching
from eifer_ros.topics import CAMERA_IMAGE, EMG_RAW, EMG_RAW_CHANNELS

WORKERS = ["reconstruction", "emg", "mapping"]


def compose(context: LaunchContext) -> list[Any]:
    """The nodes that work on the recording, if any, and the player."""
    if not launching.value(context, "bag"):
        raise ValueError("bag:= is missing: the folder or the .mcap file of a recording")
    rework = launching.is_true(context, "rework")
    actions: list[Any] = []
    if rework:
        actions += launching.lifecycle_node(
            context,
            "pipeline",
            parameters=[
                {
                    "components": WORKERS,
                    "params_file": launching.params_file(context),
                    "image_transport": launching.value(context, "image_transport"),
                }
            ],
        )
    if launching.value(context, "player") == "eifer":
        player = launching.lifecycle_node(
            context,
            "replay",
            parameters=[
                launching.params_file(context),
                {
                    "path": launching.value(context, "bag"),
                    "speed": float(launching.value(context, "rate")),
                    "loop": launching.is_true(context, "loop"),
                    "topics": [CAMERA_IMAGE.name, EMG_RAW.name, EMG_RAW_CHANNELS.name] if rework else [""],
                },
            ],
        )
    else:
        player = [bag_play(context, rework)]
    if rework and launching.is_true(context, "autostart"):
        player = [launching.when_active(actions[-1], player)]
    if launching.is_true(context, "rviz"):
        actions += launching.lifecycle_node(context, "face_view", parameters=[launching.params_file(context)])
        actions.append(launching.rviz(context, "eifer.rviz"))
    return [*actions, *player]


def bag_play(context: LaunchContext, rework: bool) -> Any:
    """`ros2 bag play`: everything, or what came from devices."""
    namespace = launching.value(context, "namespace")
    only = [launching.absolute(namespace, topic) for topic in launching.SENSORS] if rework else []
    return ExecuteProcess(
        cmd=[
            "ros2",
            "bag",
            "play",
            launching.value(context, "bag"),
            "--clock",
            "100",
            "--rate",
            launching.value(context, "rate"),
            "--disable-keyboard-controls",
            *(["--loop"] if launching.is_true(context, "loop") else []),
            *(["--topics", *only] if only else []),
        ],
        output="screen",
    )


def generate_launch_description() -> LaunchDescription:
    """Arguments, then what they ask for."""
    return LaunchDescription(
        [
            *launching.common_arguments(use_sim_time="true"),
            launching.argument("bag", "", "the recording: its folder or its .mcap file (must be given)"),
            launching.argument(
                "rework",
                "false",
                "work on the recorded sensors again rather than play the recorded faces",
                ["true", "false"],
            ),
            launching.argument(
                "image_transport", "compressed", "how pictures were recorded", ["raw", "compressed"]
            ),
            launching.argument("player", "rosbag2", "who plays", ["rosbag2", "eifer"]),
            launching.argument("rate", "1.0", "1 plays in real time"),
            launching.argument(
                "loop",
                "false",
                "start again at the end; stamps go back, which resets filters",
                ["true", "false"],
            ),
            launching.argument(
                "rviz", "false", "show pictures, head, muscle map and transforms in RViz", ["true", "false"]
            ),
            OpaqueFunction(function=compose),
        ]
    )
