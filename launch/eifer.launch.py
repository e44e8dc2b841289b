"""The full pipeline: `ros2 launch eifer_ros eifer.launch.py source:=performer`.

Camera, reconstruction, EMG processing and mapping run in one process (`composed:=true`), so that raw pictures
stay off the wire. source:=performer is the simulated participant; webcam, video and realsense open a camera,
and beside it the amplifier of `emg_source` in the parameter file; topic takes the pictures of a driver that
runs already (realsense-ros, v4l2_camera, ...) and EMG from emg/raw. `camera:=` gives the camera's address.
"""

from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction

from eifer_ros import graph, launching


def combination(context: LaunchContext, source: str) -> list[str]:
    """The components that the arguments ask for; the pipeline of one process takes the same."""
    emg = source in ("performer", "topic") or launching.is_true(context, "emg")
    sources = {"performer": ["performer"], "topic": []}.get(
        source, ["camera", *(["emg_source"] if emg else [])]
    )
    return graph.chain(
        source=sources,
        camera=True,
        emg=emg,
        mapping=True,
        micro=launching.is_true(context, "micro"),
        avatar=launching.is_true(context, "avatar"),
        animatronic=launching.is_true(context, "animatronic"),
    )


def camera_address(context: LaunchContext, source: str) -> str:
    """The camera's address; raises ValueError for a video without a file."""
    address = launching.value(context, "camera") or graph.SOURCES[source]
    if address == graph.SOURCES["video"]:
        raise ValueError("source:=video needs a file: camera:=video:/path/to/face.mp4")
    return address


def compose(context: LaunchContext) -> list[Any]:
    """The actions, now that the arguments are known."""
    source = launching.value(context, "source")
    transport = launching.value(context, "image_transport")
    image, info = launching.value(context, "image_topic"), launching.value(context, "camera_info_topic")
    params_file = launching.params_file(context)
    components = combination(context, source)
    given: dict[str, Any] = {}
    address = camera_address(context, source) if "camera" in components else ""
    if address:
        given["camera.url"] = address
    if launching.is_true(context, "micro"):
        given["reconstruction.micro"] = True
    remapped: dict[str, str] = {}
    if source == "topic":
        given["image_transport"] = transport
        compressed = f"{image}/compressed"
        remapped = {
            "camera/image_raw": image,
            "camera/image_raw/compressed": compressed,
            "camera/camera_info": info,
        }
    actions: list[Any] = []
    if launching.is_true(context, "composed"):
        actions += launching.lifecycle_node(
            context,
            "pipeline",
            parameters=[{"components": components, "params_file": params_file, **given}],
            remappings=remapped.items(),
        )
    else:
        for name in components:
            own = {
                key.removeprefix(f"{name}."): entry
                for key, entry in given.items()
                if key.startswith(f"{name}.")
            }
            if name == "reconstruction" and source == "topic":
                own["image_transport"] = transport
            actions += launching.lifecycle_node(
                context,
                name,
                parameters=[params_file, own] if own else [params_file],
                remappings=remapped.items(),
            )
    if launching.is_true(context, "rviz"):
        actions += launching.lifecycle_node(context, "face_view", parameters=[params_file])
        actions.append(launching.rviz(context, "eifer.rviz"))
    if launching.is_true(context, "record"):
        actions.append(launching.bag_record(context, launching.value(context, "bag"), remapped))
    return actions


def generate_launch_description() -> LaunchDescription:
    """Arguments, then what they ask for."""
    return LaunchDescription(
        [
            *launching.common_arguments(),
            launching.argument(
                "source",
                "performer",
                "where pictures and EMG come from",
                ["performer", "webcam", "video", "realsense", "topic"],
            ),
            launching.argument(
                "camera",
                "",
                "address of the camera, such as webcam:1 or video:/data/face.mp4; empty: the usual of source, for webcam that of the parameter file",
            ),
            launching.argument(
                "image_topic", "/camera/camera/color/image_raw", "source:=topic: the driver's pictures"
            ),
            launching.argument(
                "camera_info_topic", "/camera/camera/color/camera_info", "source:=topic: their intrinsics"
            ),
            launching.argument(
                "image_transport",
                "raw",
                "source:=topic: raw, or compressed for image_topic/compressed",
                ["raw", "compressed"],
            ),
            launching.argument(
                "emg",
                "true",
                "beside a camera: open the amplifier of emg_source in the parameter file",
                ["true", "false"],
            ),
            launching.argument(
                "composed",
                "true",
                "everything in one process; false gives each node its own",
                ["true", "false"],
            ),
            launching.argument(
                "avatar",
                "false",
                "send the face to avatars as well (section avatar of the parameter file)",
                ["true", "false"],
            ),
            launching.argument(
                "animatronic",
                "false",
                "drive joints as well, disarmed (section animatronic of the parameter file)",
                ["true", "false"],
            ),
            launching.argument(
                "micro", "false", "follow small, fast motion and spot micro-expressions", ["true", "false"]
            ),
            launching.argument(
                "rviz", "false", "show pictures, head, muscle map and transforms in RViz", ["true", "false"]
            ),
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
