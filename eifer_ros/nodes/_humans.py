"""What REP-155 (Human-Robot Interaction) asks of a face detector, under `/humans/faces/<id>/`, where hri_msgs
is installed.

The name is global, as the REP demands. Action unit intensities are 0..1 with confidence 1; units that the
head model does not tell have confidence 0. Each side's blendshape counts half.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import EiferError, WireError
from ..head.model import load_head
from ..head.retarget import Retarget
from ..hosts.ros_node import NodeHost
from ..hosts.ros_part import Extra
from ..reconstruction.face_reconstruction import CAMERA, VISION, Reconstruction
from ..topics import Profile, Standard
from ..types import ARKIT_52, F32, FaceState, FaceStatus, Frame, Item
from ..wire import conversions
from ..wire.messages import ros_class

FACE_ID = "f1"
ROOT = "/humans/faces"
# fmt: off
ACTION_UNITS: dict[int, tuple[str, ...]] = {
    1: ("browInnerUp",), 2: ("browOuterUpLeft", "browOuterUpRight"), 4: ("browDownLeft", "browDownRight"),
    5: ("eyeWideLeft", "eyeWideRight"), 6: ("cheekSquintLeft", "cheekSquintRight"), 7: ("eyeSquintLeft", "eyeSquintRight"),
    9: ("noseSneerLeft", "noseSneerRight"), 10: ("mouthUpperUpLeft", "mouthUpperUpRight"), 12: ("mouthSmileLeft", "mouthSmileRight"),
    14: ("mouthDimpleLeft", "mouthDimpleRight"), 15: ("mouthFrownLeft", "mouthFrownRight"),
    16: ("mouthLowerDownLeft", "mouthLowerDownRight"), 17: ("mouthShrugLower",), 18: ("mouthPucker",),
    20: ("mouthStretchLeft", "mouthStretchRight"), 22: ("mouthFunnel",), 24: ("mouthPressLeft", "mouthPressRight"), 26: ("jawOpen",),
    28: ("mouthRollLower", "mouthRollUpper"), 29: ("jawForward",), 34: ("cheekPuff",), 45: ("eyeBlinkLeft", "eyeBlinkRight"),
}
# fmt: on
"""FACS number -> ARKit blendshapes whose mean is its intensity (after Ozel's ARKit to FACS sheet, 2020)."""


def action_units(weights: F32) -> tuple[F32, F32]:
    """(99,) intensity 0..1 and (99,) confidence, by FACS number, of ARKit `weights` (52,)."""
    intensity = np.zeros(99, np.float32)
    confidence = np.zeros(99, np.float32)
    for number, names in ACTION_UNITS.items():
        intensity[number] = np.mean([weights[ARKIT_52.index(name)] for name in names])
        confidence[number] = 1.0
    return np.clip(intensity, 0.0, 1.0), confidence


class Humans(Extra):
    """tracked, roi, cropped and facs of the one face that is followed. Nothing at all without hri_msgs."""

    def __init__(self, host: NodeHost, component: Reconstruction) -> None:
        self._host = host
        self._component = component
        self._frame: Frame | None = None
        self._shown = False
        self._publishers: dict[str, Any] = {}
        face = f"{ROOT}/{FACE_ID}"
        try:
            kinds = {
                name: ros_class(f"hri_msgs/msg/{kind}")
                for name, kind in (
                    ("tracked", "IdsList"),
                    ("roi", "NormalizedRegionOfInterest2D"),
                    ("facs", "FacialActionUnits"),
                )
            }
        except WireError:
            host.get_logger().debug("hri_msgs is not installed: nothing is published under /humans")
            return
        self._kinds = kinds
        self._publishers = {
            "tracked": host.create_lifecycle_publisher(
                kinds["tracked"], f"{ROOT}/tracked", 10, callback_group=host.housekeeping_group
            ),
            "roi": host.create_lifecycle_publisher(
                kinds["roi"], f"{face}/roi", 10, callback_group=host.housekeeping_group
            ),
            "facs": host.create_lifecycle_publisher(
                kinds["facs"], f"{face}/facs", 10, callback_group=host.housekeeping_group
            ),
        }
        self._cropped = host.publisher(
            f"{face}/cropped", "sensor_msgs/msg/Image", Profile(depth=Standard.IMAGE.value.depth)
        )
        try:
            self._retarget: Retarget | None = Retarget(load_head(component.config.head_model))
        except EiferError:
            self._retarget = None

    def take(self, port: str, item: Item) -> None:
        """Publish what somebody listens to."""
        if not self._publishers:
            return
        if port == CAMERA and isinstance(item, Frame):
            self._frame = item
        elif port == VISION and isinstance(item, FaceState):
            self._face(item)

    def _face(self, state: FaceState) -> None:
        tracking = state.status != FaceStatus.LOST
        tracked = self._publishers["tracked"]
        if tracked.get_subscription_count():
            tracked.publish(
                self._kinds["tracked"](header=self._header(state), ids=[FACE_ID] if tracking else [])
            )
        landmarks = self._component.landmarks
        frame = self._frame
        if not tracking or landmarks is None or frame is None:
            return
        width, height = frame.size
        points = landmarks.points[:, :2]
        low = points.min(axis=0)
        high = points.max(axis=0)
        left = float(np.clip(low[0] / width, 0, 1))
        top = float(np.clip(low[1] / height, 0, 1))
        right = float(np.clip(high[0] / width, 0, 1))
        bottom = float(np.clip(high[1] / height, 0, 1))
        if self._publishers["roi"].get_subscription_count():
            self._publishers["roi"].publish(
                self._kinds["roi"](
                    header=self._header(state),
                    xmin=left,
                    ymin=top,
                    xmax=right,
                    ymax=bottom,
                    c=float(state.confidence),
                )
            )
        if self._cropped.needed and frame.stamp == state.stamp:
            crop = frame.image[
                round(top * height) : round(bottom * height), round(left * width) : round(right * width)
            ]
            if crop.size:
                part = Frame(frame.stamp, np.ascontiguousarray(crop), frame_id=frame.frame_id)
                self._cropped.send(conversions.frame_to_wire(part, "cropped")[-1].message)
        if self._retarget is not None and self._publishers["facs"].get_subscription_count():
            intensity, confidence = action_units(self._retarget(state))
            self._publishers["facs"].publish(
                self._kinds["facs"](header=self._header(state), intensity=intensity, confidence=confidence)
            )

    def _header(self, state: FaceState) -> Any:
        header = ros_class("std_msgs/msg/Header")()
        header.stamp.sec, header.stamp.nanosec = divmod(state.stamp, 1_000_000_000)
        header.frame_id = (self._host.outlets.camera_frame if self._host.outlets else "") or "camera_optical"
        return header

    def close(self) -> None:
        """Take the topics down."""
        for publisher in self._publishers.values():
            self._host.destroy_lifecycle_publisher(publisher)
        if self._publishers:
            self._cropped.close()
        self._publishers = {}
