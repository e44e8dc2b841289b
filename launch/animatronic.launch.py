"""Faces to an animatronic head: `ros2 launch eifer_ros animatronic.launch.py`, beside a running
eifer.launch.py.

Starts disarmed: `ros2 service call /eifer/animatronic/arm std_srvs/srv/Trigger`. preview:=true shows the
example face in RViz instead of moving servos.
"""

from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from eifer_ros import launching


def compose(context: LaunchContext) -> list[Any]:
    """The animatronic node, and for a preview the model and RViz."""
    given: dict[str, Any] = {}
    if joint_map := launching.value(context, "joint_map"):
        given["joint_map"] = joint_map
    preview = launching.is_true(context, "preview")
    if preview:
        given |= {"preview": True, "hardware": False}
    actions = launching.lifecycle_node(
        context, "animatronic", parameters=[launching.params_file(context), *([given] if given else [])]
    )
    if preview:
        urdf = launching.share("models", "example_face.urdf").read_text(encoding="utf-8")
        actions += [
            Node(
                package="robot_state_publisher",
                executable="robot_state_publisher",
                namespace=LaunchConfiguration("namespace"),
                parameters=[
                    {"robot_description": urdf, "use_sim_time": launching.is_true(context, "use_sim_time")}
                ],
            ),
            launching.rviz(context, "example_face.rviz"),
        ]
    return actions


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the node."""
    return LaunchDescription(
        [
            *launching.common_arguments(),
            launching.argument(
                "joint_map", "", "joint map: a path, or a name in models/; empty: as in the parameter file"
            ),
            launching.argument(
                "preview", "false", "no servos: joint_states of the example face, in RViz", ["true", "false"]
            ),
            OpaqueFunction(function=compose),
        ]
    )
