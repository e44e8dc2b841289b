"""Subscribe to faces under ROS 2.

Needs a sourced ROS 2 with eifer_msgs, and something that publishes: `ros2 launch eifer_ros eifer.launch.py`. No line of eifer
runs in this process: messages say what they hold.
"""

import argparse
import sys

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--topic", default="/eifer/face/fused")
parser.add_argument("--count", type=int, default=100)
arguments, ros_arguments = parser.parse_known_args()
try:
    import rclpy

    from eifer_msgs.msg import FlameParameters
except ModuleNotFoundError as error:
    raise SystemExit(
        f"skipped: {error.name} is not there; source ROS 2 and the workspace with eifer_msgs"
    ) from None

rclpy.init(args=ros_arguments)
node = rclpy.create_node("face_listener")
faces = []
node.create_subscription(FlameParameters, arguments.topic, faces.append, 10)
while rclpy.ok() and len(faces) < arguments.count:
    rclpy.spin_once(node, timeout_sec=1.0)
span = (
    faces[-1].header.stamp.sec
    - faces[0].header.stamp.sec
    + 1e-9 * (faces[-1].header.stamp.nanosec - faces[0].header.stamp.nanosec)
)
print(
    f"{len(faces)} faces of head model {faces[0].head_model}, {(len(faces) - 1) / max(span, 1e-9):.0f} a second"
)
node.destroy_node()
rclpy.shutdown()
sys.exit(0)
