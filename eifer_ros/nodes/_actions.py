"""Actions: a guided calibration and the fit of a mapping. The work is that of the command line's."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import topics
from ..emg.calibration import Calibration
from ..emg.calibration_session import CalibrationSession
from ..emg.emg_processing import EmgProcessing
from ..errors import EiferError, InputError, did_you_mean
from ..hosts.ros_node import NodeHost
from ..hosts.ros_part import Extra
from ..mapping.fit import KINDS, FitSettings
from ..mapping.muscle_mapping import ACTIVITY, VISION, MuscleMapping
from ..topics import profile
from ..types import FaceState, Item, Marker, MuscleActivity, seconds
from ..wire.conversions import to_wire
from ..wire.messages import ros_class
from ..workflows.fit import FitResult, fit_recording, fit_session
from ..workflows.session import Session

TURN_S = 0.1
MARKERS = topics.MARKERS.name
KEPT_S = 600.0
"""A fit to what was received looks back so far, at most."""


class Cancelled(EiferError):
    """The client changed its mind."""


def default_path(kind: str, suffix: str) -> Path:
    """A new file in `~/.ros/eifer` (or `$ROS_HOME/eifer`), named after the time."""
    home = Path(os.environ.get("ROS_HOME") or Path.home() / ".ros")
    return home / "eifer" / f"{kind}_{time.strftime('%Y%m%d_%H%M%S')}{suffix}"


def _new_file(requested: str, kind: str, suffix: str) -> Path:
    path = Path(requested).expanduser() if requested else default_path(kind, suffix)
    if path.exists():
        raise InputError(f"{path}: exists; nothing is ever overwritten, give another output")
    return path


class _Action(Extra):
    """One action server that does one goal at a time, in a thread of its own."""

    def __init__(self, host: NodeHost, type_name: str, name: str) -> None:
        from rclpy.action import ActionServer, CancelResponse

        self._host = host
        self._type = ros_class(type_name)
        self._busy = threading.Lock()
        self._server = ActionServer(
            host,
            self._type,
            name,
            self._execute,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            callback_group=host.offers,
        )

    async def _execute(self, goal: Any) -> Any:
        result = self._type.Result()
        if not self._busy.acquire(blocking=False):
            result.message = "another goal is being worked on"
            goal.abort()
            return result
        try:
            await self._host.in_thread(lambda: self._work(goal, result))
        except Cancelled as error:
            result.message = str(error)
            goal.canceled()
        except (EiferError, OSError) as error:
            result.message = str(error)
            goal.abort()
        else:
            result.success = True
            goal.succeed()
        finally:
            self._busy.release()
        return result

    def _work(self, goal: Any, result: Any) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Take the action down."""
        self._server.destroy()


class Calibrate(_Action):
    """`emg/calibrate`: guides a participant, marks the takes on `markers`, stores the calibration and uses it
    at once.
    """

    def __init__(self, host: NodeHost, component: EmgProcessing) -> None:
        super().__init__(host, "eifer_msgs/action/Calibrate", "emg/calibrate")
        self._component = component
        self._arrived: deque[MuscleActivity] | None = None
        self._newest: MuscleActivity | None = None
        self._markers = host.publisher(MARKERS, "eifer_msgs/msg/Marker", profile(MARKERS))

    def take(self, port: str, item: Item) -> None:
        """Collect muscle activity while a session runs."""
        if port == ACTIVITY and isinstance(item, MuscleActivity):
            self._newest = item
            if self._arrived is not None:
                self._arrived.append(item)

    def _work(self, goal: Any, result: Any) -> None:
        request = goal.request
        newest = self._newest
        path = _new_file(request.output, "calibration", ".yaml")
        if not self._host.active:
            raise InputError(f"the node is {self._host.state_label}; activate it first")
        if newest is None or abs(seconds(self._host.now() - newest.stamp)) > 3.0:
            raise InputError("no EMG arrives; is the amplifier streaming?")
        if request.repetitions > 10:
            raise InputError(
                f"repetitions is {request.repetitions}; it must lie in 1..10, or be 0 for the default"
            )
        session = CalibrationSession(
            newest.scheme,
            newest.muscles,
            self._component.profile.name,
            movements=list(request.movements),
            repetitions=request.repetitions or 1,
            mains_hz=self._component.config.mains_hz,
        )
        self._arrived = deque()
        arrived = self._arrived
        try:
            self._guide(goal, session, arrived)
        finally:
            self._arrived = None
        if goal.is_cancel_requested:
            raise Cancelled("calibration cancelled")
        calibration = session.result()
        path.parent.mkdir(parents=True, exist_ok=True)
        calibration.save(path)
        self._host.call_soon("emg", lambda: self._component.use_calibration(calibration))
        _describe(result, calibration, path)

    def _guide(self, goal: Any, session: CalibrationSession, arrived: deque[MuscleActivity]) -> None:
        pause = threading.Event()
        marked = 0
        while not session.finished:
            if goal.is_cancel_requested:
                session.cancel("cancelled")
            if not self._host.active:
                session.cancel("the node was deactivated")
            prompt = session.update(self._host.now(), [arrived.popleft() for _ in range(len(arrived))])
            marked = self._mark(session, marked)
            goal.publish_feedback(
                self._type.Feedback(
                    movement=prompt.movement,
                    phase=prompt.phase,
                    remaining_s=float(prompt.remaining_s),
                    progress=float(prompt.progress),
                    advice=prompt.advice,
                )
            )
            pause.wait(TURN_S)

    def _mark(self, session: CalibrationSession, marked: int) -> int:
        for take in session.takes[marked:]:
            label = take.movement if take.accepted else f"rejected {take.movement}"
            for stamp, phase in ((take.start, "start"), (take.end, "end")):
                if self._markers.needed:
                    self._markers.send(to_wire(Marker(stamp, label, phase, take.advice), MARKERS)[0].message)
        return len(session.takes)

    def close(self) -> None:
        """Take action and topic down."""
        super().close()
        self._markers.close()


def _describe(result: Any, calibration: Calibration, path: Path) -> None:
    lost = ", ".join(calibration.dead)
    result.message = f"{len(calibration.muscles)} channels calibrated" + (
        f"; without contact: {lost}" if lost else ""
    )
    result.path = str(path)
    result.channels = list(calibration.muscles)
    result.rest = [float(value) for value in calibration.rest]
    result.p99 = [float(value) for value in calibration.p99]


class FitMapping(_Action):
    """`mapping/fit`: fits to a recording, or to what was received in the last ten minutes, and uses the
    mapping at once.
    """

    def __init__(self, host: NodeHost, component: MuscleMapping) -> None:
        super().__init__(host, "eifer_msgs/action/FitMapping", "mapping/fit")
        self._component = component
        self._activity: deque[MuscleActivity] = deque()
        self._faces: deque[FaceState] = deque()

    def take(self, port: str, item: Item) -> None:
        """Keep what a fit needs."""
        buffer: deque[Any] | None = (
            self._activity if port == ACTIVITY else self._faces if port == VISION else None
        )
        if buffer is None:
            return
        if buffer and item.stamp <= buffer[-1].stamp:
            buffer.clear()  # a recording began again
        buffer.append(item)
        while seconds(item.stamp - buffer[0].stamp) > KEPT_S:
            buffer.popleft()

    def _work(self, goal: Any, result: Any) -> None:
        request = goal.request
        if request.model and request.model not in KINDS:
            raise InputError(
                f"unknown model '{request.model}'{did_you_mean(request.model, KINDS)}; known are {', '.join(KINDS)}"
            )
        settings = FitSettings(kind=request.model) if request.model else FitSettings()
        path = _new_file(request.output, "mapping", ".npz")

        def progress(done: int, total: int, stage: str) -> None:
            if goal.is_cancel_requested:
                raise Cancelled("fit cancelled")
            goal.publish_feedback(self._type.Feedback(stage=stage, progress=done / total if total else 0.0))

        if request.recording:
            fitted = fit_recording(Path(request.recording).expanduser(), path, settings, progress=progress)
        else:
            fitted = fit_session(self._received(), settings, progress)
            path.parent.mkdir(parents=True, exist_ok=True)
            fitted.mapping.save(path)
        self._host.call_soon("mapping", lambda: self._component.use(fitted.mapping))
        _fill_quality(result, fitted, path)

    def _received(self) -> Session:
        activity = list(self._activity)
        faces = list(self._faces)
        if not activity or not faces:
            missing = ACTIVITY if not activity else VISION
            raise InputError(
                f"nothing was received on {missing} since activation; give a recording, or let both flow for a minute"
            )
        if not any(np.isfinite(item.activation).any() for item in activity):
            raise InputError(
                f"{ACTIVITY} is not calibrated: activation is unknown; calibrate first (emg/calibrate)"
            )
        return Session(Path("received"), activity, faces, faces_from=VISION)

    def close(self) -> None:
        """Take the action down."""
        super().close()
        self._activity.clear()
        self._faces.clear()


def _fill_quality(result: Any, fitted: FitResult, path: Path) -> None:
    lag = fitted.mapping.lag
    judged = fitted.mapping.statistics["emg2exp"]
    result.message = "; ".join(["mapping fitted and in use", *_sentences(fitted.warnings)])
    result.path = str(path)
    result.lag_s, result.lag_grade = (float(lag.lag_s), int(lag.grade)) if lag.grade else (math.nan, 0)
    result.r = float(judged["r"])
    result.r2 = float(judged["r2"])


def _sentences(warnings: Sequence[str]) -> list[str]:
    return [f"warning: {warning}" for warning in warnings]
