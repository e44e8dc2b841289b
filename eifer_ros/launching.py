"""What the launch files share: arguments, lifecycle nodes that start themselves by events, and the topics
worth recording.

Needs ROS 2's launch and launch_ros, and otherwise the standard library alone: `ros2 launch` runs in the
system's Python.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from .topics import TOPICS, Kept

PACKAGE = "eifer_ros"
NEVER_RECORDED = frozenset(name for name, topic in TOPICS.items() if topic.kept is Kept.NEVER)
"""Raw pictures (the compressed ones are recorded) and pictures that are only made while somebody looks."""
SENSORS = tuple(name for name, topic in TOPICS.items() if topic.kept is Kept.SENSED)
"""What comes from devices; everything else can be made again from it."""

_COMMON = {
    "namespace": ("eifer", "namespace of the nodes and of all relative topics"),
    "use_sim_time": ("false", "take the time from /clock, as in a replay"),
    "params_file": ("", "parameter file of the nodes; empty takes config/eifer.yaml of the package"),
    "autostart": ("true", "configure and activate the nodes; false leaves them to `ros2 lifecycle set`"),
    "use_respawn": ("false", "start a node again when it dies"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
}


def share(*parts: str) -> Path:
    """A file of the installed package, e.g. `share("config", "eifer.yaml")`."""
    return Path(get_package_share_directory(PACKAGE)).joinpath(*parts)


def common_arguments(**defaults: str) -> list[Any]:
    """The arguments every launch file takes, with other defaults where given, and whole log lines from every
    process.
    """
    return [
        SetEnvironmentVariable("RCUTILS_LOGGING_BUFFERED_STREAM", "1"),
        *(
            argument(name, defaults.get(name, default), description)
            for name, (default, description) in _COMMON.items()
        ),
    ]


def argument(name: str, default: str, description: str, choices: Sequence[str] | None = None) -> Any:
    """A launch argument; no argument goes without a description."""
    return DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)


def value(context: LaunchContext, name: str) -> str:
    """A launch argument's value, while launching."""
    return str(LaunchConfiguration(name).perform(context))


def is_true(context: LaunchContext, name: str) -> bool:
    """Whether a launch argument is true. Raises ValueError for what is neither true nor false."""
    text = value(context, name)
    if text.lower() not in ("true", "1", "false", "0"):
        raise ValueError(f"{name}:={text}: must be true or false")
    return text.lower() in ("true", "1")


def params_file(context: LaunchContext) -> str:
    """The parameter file asked for, or the package's own. Raises FileNotFoundError."""
    text = value(context, "params_file")
    path = Path(text).expanduser() if text else share("config", "eifer.yaml")
    if not path.is_file():
        raise FileNotFoundError(f"params_file:={text}: there is no such file")
    return str(path)


def lifecycle_node(
    context: LaunchContext,
    executable: str,
    *,
    parameters: Iterable[Any] = (),
    remappings: Iterable[tuple[str, str]] = (),
) -> list[Any]:
    """A node of this package that is configured when its process runs and activated when it is configured.

    A node that cannot be configured says why and stays unconfigured: put it right and `ros2 lifecycle set
    <node> configure`.
    """
    node = LifecycleNode(
        package=PACKAGE,
        executable=executable,
        name=executable,
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[*parameters, {"use_sim_time": is_true(context, "use_sim_time")}],
        remappings=list(remappings),
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        respawn=is_true(context, "use_respawn"),
        respawn_delay=2.0,
        emulate_tty=True,
    )
    autostart = IfCondition(LaunchConfiguration("autostart"))
    configure = RegisterEventHandler(
        OnProcessStart(
            target_action=node,
            on_start=[_change(node, Transition.TRANSITION_CONFIGURE)],
        ),
        condition=autostart,
    )
    activate = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[_change(node, Transition.TRANSITION_ACTIVATE)],
        ),
        condition=autostart,
    )
    return [configure, activate, node]


def when_active(node: Any, actions: list[Any]) -> Any:
    """`actions`, once the lifecycle node is active."""
    return RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="activating",
            goal_state="active",
            entities=actions,
        )
    )


def _change(node: Any, transition: int) -> Any:
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))


def rviz(context: LaunchContext, config: str) -> Any:
    """RViz with a configuration of this package; its relative topics lie in the namespace."""
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        arguments=[
            "-d",
            str(share("config", config)),
            "--ros-args",
            "--log-level",
            LaunchConfiguration("log_level"),
        ],
        parameters=[{"use_sim_time": is_true(context, "use_sim_time")}],
    )


def absolute(namespace: str, topic: str) -> str:
    """`face/fused` in the namespace `eifer` -> `/eifer/face/fused`."""
    inside = namespace.strip("/")
    return f"/{inside}/{topic}" if inside else f"/{topic}"


def recorded_topics(namespace: str) -> list[str]:
    """The topics of a recording, in full: everything that is made except `NEVER_RECORDED`, transforms and
    health.
    """
    return [
        *(absolute(namespace, topic) for topic in TOPICS if topic not in NEVER_RECORDED),
        "/tf",
        "/tf_static",
        "/diagnostics",
    ]


def qos_overrides(namespace: str) -> dict[str, Mapping[str, Any]]:
    """Subscriptions of a recorder, by full topic: as deep as the publishers' queues, so that no EMG is lost
    while the disk works.
    """
    return {
        absolute(namespace, name): {
            "history": "keep_last",
            "depth": max(10, topic.qos.value.depth),
            "reliability": "reliable",
            "durability": "transient_local" if topic.latched else "volatile",
        }
        for name, topic in TOPICS.items()
        if name not in NEVER_RECORDED
    }


def bag_record(context: LaunchContext, folder: str, remapped: Mapping[str, str] | None = None) -> Any:
    """`ros2 bag record` into MCAP with the explicit list of topics; `folder` empty leaves the name to
    rosbag2.

    remapped: full topic that is recorded in the place of a relative one, where pictures come from somebody
    else's driver.
    """
    namespace = value(context, "namespace")
    foreign = {absolute(namespace, topic): name for topic, name in (remapped or {}).items()}
    topics = [foreign.get(topic, topic) for topic in recorded_topics(namespace)]
    overrides = {
        topic: profile for topic, profile in qos_overrides(namespace).items() if topic not in foreign
    }
    text = "".join(
        f"{topic}:\n" + "".join(f"  {key}: {entry}\n" for key, entry in profile.items())
        for topic, profile in overrides.items()
    )
    with tempfile.NamedTemporaryFile(
        "w", prefix="eifer_bag_qos_", suffix=".yaml", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
    return ExecuteProcess(
        cmd=[
            "ros2",
            "bag",
            "record",
            "--storage",
            "mcap",
            "--qos-profile-overrides-path",
            file.name,
            *(["--output", folder] if folder else []),
            *(["--use-sim-time"] if is_true(context, "use_sim_time") else []),
            "--topics",
            *topics,
        ],
        output="screen",
    )
