"""Services: the reference face, and the arming of outputs that move hardware."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..animatronic.animatronic_face import Animatronic
from ..animatronic.guard import SENDING
from ..errors import EiferError, InputError
from ..hosts.ros_node import NodeHost
from ..hosts.ros_part import Extra
from ..reconstruction.face_reconstruction import VISION, Reconstruction
from ..reconstruction.reference import Reference
from ..types import FaceState, Item, seconds
from ..wire.messages import ros_class

EASE_S = 3.0
"""So long a deactivation waits for hardware to reach neutral."""


class SetReference(Extra):
    """`reconstruction/set_reference`: the face as it is now becomes the neutral one."""

    def __init__(self, host: NodeHost, component: Reconstruction) -> None:
        self._host = host
        self._component = component
        self._faces: list[FaceState] | None = None
        self._came = threading.Condition()
        self._service = host.create_service(
            ros_class("eifer_msgs/srv/SetReference"),
            "reconstruction/set_reference",
            self._serve,
            callback_group=host.offers,
        )

    def take(self, port: str, item: Item) -> None:
        """Collect faces while a reference is being taken."""
        if port == VISION and isinstance(item, FaceState) and self._faces is not None:
            with self._came:
                if self._faces is not None:
                    self._faces.append(item)
                    self._came.notify()

    async def _serve(self, request: Any, response: Any) -> Any:
        try:
            faces = await self._host.in_thread(lambda: self._gather(float(request.duration_s)))
            reference = Reference.of(faces)
            self._component.use_reference(reference)
        except EiferError as error:
            response.success = False
            response.message = str(error)
            return response
        response.success = True
        response.message = f"reference taken from {reference.faces} faces"
        shapes = [state.shape for state in faces if np.isfinite(state.shape).all()]
        response.shape = np.median(np.stack(shapes), axis=0).astype(float).tolist()
        return response

    def _gather(self, duration_s: float) -> list[FaceState]:
        """Faces of the next `duration_s`, counted from the model's neutral. Raises InputError."""
        if not 0.5 <= duration_s <= 30.0:
            raise InputError(f"duration_s is {duration_s:g}; it must lie in 0.5..30")
        if not self._host.active:
            raise InputError(f"the node is {self._host.state_label}; activate it first")
        before = self._component.reference
        with self._came:
            if self._faces is not None:
                raise InputError("a reference is being taken already")
            self._faces = []
        self._component.use_reference(None)
        end = time.monotonic() + duration_s + 5.0
        try:
            with self._came:
                while (
                    self._faces is not None
                    and not _lasts(self._faces, duration_s)
                    and time.monotonic() < end
                    and self._host.active
                ):
                    self._came.wait(0.1)
                return list(self._faces or ())
        finally:
            self._faces = None
            self._component.use_reference(before)

    def close(self) -> None:
        """Take the service down."""
        self._host.destroy_service(self._service)


def _lasts(faces: list[FaceState], duration_s: float) -> bool:
    return len(faces) > 1 and seconds(faces[-1].stamp - faces[0].stamp) >= duration_s


class Arming(Extra):
    """`animatronic/{arm, release, stop, clear_stop}` (std_srvs/Trigger) and `animatronic/release_face` (arm
    or release).

    Arming is refused unless the node is active; deactivation eases to neutral first.
    """

    def __init__(self, host: NodeHost, component: Animatronic) -> None:
        self._host = host
        self._component = component
        trigger = ros_class("std_srvs/srv/Trigger")
        calls = {
            "arm": self._arm,
            "release": component.release,
            "stop": component.stop,
            "clear_stop": component.clear_stop,
        }
        self._services = [
            host.create_service(trigger, f"animatronic/{name}", _answer(call)) for name, call in calls.items()
        ]
        self._services.append(
            host.create_service(
                ros_class("eifer_msgs/srv/ReleaseFace"), "animatronic/release_face", self._release_face
            )
        )

    def _arm(self) -> tuple[bool, str]:
        if not self._host.active:
            return False, f"the node is {self._host.state_label}; activate it first"
        return self._component.arm()

    def _release_face(self, request: Any, response: Any) -> Any:
        response.success, response.message = self._arm() if request.arm else self._component.release()
        return response

    def pause(self) -> None:
        """Ease to neutral while ticks still come."""
        if self._component.guard.state not in SENDING:
            return
        self._component.release()
        end = time.monotonic() + EASE_S
        while self._component.guard.state in SENDING and time.monotonic() < end:
            time.sleep(0.02)

    def close(self) -> None:
        """Take the services down."""
        for service in self._services:
            self._host.destroy_service(service)


def _answer(call: Callable[[], tuple[bool, str]]) -> Callable[[Any, Any], Any]:
    def serve(request: Any, response: Any) -> Any:
        response.success, response.message = call()
        return response

    return serve
