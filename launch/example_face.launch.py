"""The example animatronic face in RViz: `ros2 launch eifer_ros example_face.launch.py`.

source:=sliders moves the joints by hand; source:=topic shows what arrives on joint_states (the animatronic
with `preview: true`).
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import LaunchConfigurationEquals
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description() -> LaunchDescription:
    """Robot state publisher, RViz, and sliders where asked for."""
    share = Path(get_package_share_directory("eifer_ros"))
    urdf = (share / "models" / "example_face.urdf").read_text(encoding="utf-8")
    namespace, use_sim_time = LaunchConfiguration("namespace"), LaunchConfiguration("use_sim_time")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "namespace",
                default_value="eifer",
                description="namespace of joint_states and robot_description",
            ),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", description="use the clock of a replay"
            ),
            DeclareLaunchArgument(
                "source",
                default_value="topic",
                choices=["topic", "sliders"],
                description="where joint_states come from",
            ),
            DeclareLaunchArgument("log_level", default_value="info", description="level of the log"),
            Node(
                package="robot_state_publisher",
                executable="robot_state_publisher",
                namespace=namespace,
                parameters=[{"robot_description": urdf, "use_sim_time": use_sim_time}],
                arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            ),
            Node(
                package="joint_state_publisher_gui",
                executable="joint_state_publisher_gui",
                namespace=namespace,
                condition=LaunchConfigurationEquals("source", "sliders"),
            ),
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=namespace,
                arguments=["-d", str(share / "config" / "example_face.rviz")],
                parameters=[{"use_sim_time": use_sim_time}],
            ),
        ]
    )
