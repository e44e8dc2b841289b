"""A launch test, run by `launch_test` (test_ros_launch.py starts it): the full pipeline with the performer,
as a user launches it.
"""

from __future__ import annotations

import itertools
import os
import time
import unittest
from collections import defaultdict
from pathlib import Path
from typing import Any

import launch_testing
import launch_testing.actions
import launch_testing.asserts
import rclpy
from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile

from eifer_msgs.msg import EmgChunk, FlameParameters, HeadModelInfo, MuscleActivity

PATIENCE_S = float(os.environ.get("EIFER_TEST_PATIENCE_S", "180"))
NAMESPACE = "lab/face"


def generate_test_description() -> LaunchDescription:
    """What a user launches, in another namespace than the default."""
    path = Path(get_package_share_directory("eifer_ros")) / "launch" / "eifer.launch.py"
    return LaunchDescription(
        [
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(path)), launch_arguments={"namespace": NAMESPACE}.items()
            ),
            launch_testing.actions.ReadyToTest(),
        ]
    )


class TestPipeline(unittest.TestCase):
    """While it runs."""

    def setUp(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("listener", namespace=f"/{NAMESPACE}", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.seen: dict[str, list[Any]] = defaultdict(list)

    def tearDown(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def listen(self, topic: str, kind: Any, *, latched: bool = False) -> None:
        qos = (
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            if latched
            else QoSProfile(depth=200)
        )
        self.node.create_subscription(kind, topic, self.seen[topic].append, qos)

    def wait(self, counts: dict[str, int]) -> None:
        end = time.monotonic() + PATIENCE_S
        while any(len(self.seen[topic]) < count for topic, count in counts.items()):
            self.assertLess(time.monotonic(), end, {topic: len(self.seen[topic]) for topic in counts})
            self.executor.spin_once(timeout_sec=0.5)

    def test_everything_flows_and_no_emg_sample_is_lost(self) -> None:
        self.listen("emg/raw", EmgChunk)
        self.listen("emg/activity", MuscleActivity)
        self.listen("face/vision", FlameParameters)
        self.listen("face/fused", FlameParameters)
        self.listen("head_model", HeadModelInfo, latched=True)
        self.wait({"emg/raw": 100, "emg/activity": 100, "face/vision": 5, "face/fused": 50, "head_model": 1})
        chunks = self.seen["emg/raw"]
        for before, after in itertools.pairwise(chunks):
            self.assertEqual(after.first_index, before.first_index + before.frames)
        stamps = [
            message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            for message in self.seen["face/fused"]
        ]
        self.assertEqual(stamps, sorted(set(stamps)))
        self.assertEqual(
            {message.head_model for message in self.seen["face/fused"]},
            {self.seen["head_model"][0].head_model},
        )


@launch_testing.post_shutdown_test()
class TestShutdown(unittest.TestCase):
    """After SIGINT."""

    def test_every_process_ended_well(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
