from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ros_peer import ACTIVATE, CONFIGURE, DEACTIVATE, PATIENCE_S, Peer, wait_for

from eifer_ros.animatronic.animatronic_face import Animatronic
from eifer_ros.animatronic.guard import SENDING, State
from eifer_ros.emg.calibration import Calibration
from eifer_ros.emg.emg_processing import EmgProcessing
from eifer_ros.head import projection
from eifer_ros.hosts.ros_part import Part
from eifer_ros.mapping.muscle_mapping import MuscleMapping
from eifer_ros.nodes._actions import Calibrate, FitMapping
from eifer_ros.nodes._services import Arming, SetReference
from eifer_ros.reconstruction.face_reconstruction import Reconstruction
from eifer_ros.types import ARKIT_52, NS, EmgChunk, FaceOrigin, FaceState, Frame, MuscleActivity
from eifer_ros.wire import conversions, messages

TRIGGER = "std_srvs/srv/Trigger"


def face(stamp: int, **weights: float) -> FaceState:
    expression = np.zeros(52, np.float32)
    for name, value in weights.items():
        expression[ARKIT_52.index(name)] = value
    return FaceState(
        stamp,
        "open_head",
        FaceOrigin.VISION,
        np.full(80, 0.25),
        expression,
        np.zeros(52),
        np.zeros(3),
        np.zeros(3),
        np.zeros((2, 3)),
        np.zeros(2),
        projection.facing_pose(0.6),
        1.0,
    )


class Stream:
    """Publishes what `make(index, stamp)` gives every `period_s`, until the test ends."""

    def __init__(self, peer: Peer, port: str, type_name: str, make: Any, period_s: float) -> None:
        self._publisher = peer.publisher(f"/eifer/{port}", type_name)
        self._port, self._make, self._period = port, make, period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        index = 0
        while not self._stop.wait(self._period):
            item = self._make(index, time.time_ns())
            self._publisher.publish(messages.serialise(conversions.to_wire(item, self._port)[-1].message))
            index += 1

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)


@pytest.fixture
def streams() -> Iterator[list[Stream]]:
    made: list[Stream] = []
    yield made
    for stream in made:
        stream.stop()


# ---------------------------------------------------------------- animatronic


@pytest.fixture
def robot(peer: Peer) -> Any:
    host = peer.host("animatronic", (Part("animatronic", Animatronic, (Arming,)),), hardware="false")
    assert peer.change("animatronic", CONFIGURE)
    return host


def trigger(peer: Peer, name: str) -> tuple[bool, str]:
    answer = peer.call(TRIGGER, f"/eifer/animatronic/{name}")
    return answer.success, answer.message


def test_hardware_starts_disarmed_and_is_armed_only_while_active(peer: Peer, robot: Any) -> None:
    done, why = trigger(peer, "arm")
    assert not done and "inactive" in why
    assert peer.change("animatronic", ACTIVATE)
    heard = peer.listen("/eifer/animatronic/joint_trajectory", "trajectory_msgs/msg/JointTrajectory")
    guard = robot.components["animatronic"].guard
    assert guard.state == State.DISARMED and not heard
    done, what = trigger(peer, "arm")
    assert done and what.startswith("armed") and guard.state in SENDING
    wait_for(lambda: len(heard) > 5, "joint commands")
    assert len(heard[0].joint_names) == len(heard[0].points[0].positions) > 3


def test_release_stop_and_clear_stop_do_what_they_say(peer: Peer, robot: Any) -> None:
    assert peer.change("animatronic", ACTIVATE)
    guard = robot.components["animatronic"].guard
    assert peer.call("eifer_msgs/srv/ReleaseFace", "/eifer/animatronic/release_face", arm=True).success
    assert guard.state in SENDING
    assert peer.call("eifer_msgs/srv/ReleaseFace", "/eifer/animatronic/release_face", arm=False).success
    wait_for(lambda: guard.state not in SENDING, "released")
    assert trigger(peer, "arm")[0]
    assert trigger(peer, "stop")[0]
    wait_for(lambda: guard.state == State.STOPPED, "stopped")
    assert not trigger(peer, "arm")[0]  # latched
    assert trigger(peer, "clear_stop")[0] and guard.state == State.DISARMED


def test_deactivation_eases_to_neutral_before_the_commands_end(peer: Peer, robot: Any) -> None:
    assert peer.change("animatronic", ACTIVATE)
    guard = robot.components["animatronic"].guard
    assert trigger(peer, "arm")[0] and guard.state in SENDING
    assert peer.change("animatronic", DEACTIVATE)
    assert guard.state not in SENDING


# ---------------------------------------------------------------- reference


class Posing(Reconstruction):
    """The reconstruction with a face that is given instead of seen."""

    def setup(self) -> None:
        from eifer_ros.head.model import load_head

        self.head = load_head("open_head")

    def reset(self) -> None:
        pass

    def handle(self, port: str, item: Any) -> Any:
        from eifer_ros.component import Emission

        state = face(item.stamp, mouthFrownLeft=0.3)
        return [Emission("face/vision", state if self.reference is None else self.reference.apply(state))]


def test_a_reference_makes_the_face_of_the_moment_the_neutral_one(peer: Peer, streams: list[Stream]) -> None:
    host = peer.host("reconstruction", (Part("reconstruction", Posing, (SetReference,)),))
    service = "/eifer/reconstruction/set_reference"
    assert peer.change("reconstruction", CONFIGURE)
    refused = peer.call("eifer_msgs/srv/SetReference", service, duration_s=1.0)
    assert not refused.success and "inactive" in refused.message
    assert peer.change("reconstruction", ACTIVATE)
    heard = peer.listen("/eifer/face/vision", "eifer_msgs/msg/FlameParameters")
    streams.append(
        Stream(
            peer,
            "camera/image_raw",
            "sensor_msgs/msg/Image",
            lambda index, stamp: Frame(stamp, np.zeros((8, 8, 3), np.uint8)),
            0.02,
        )
    )
    place = ARKIT_52.index("mouthFrownLeft")
    wait_for(lambda: heard and abs(heard[-1].expression[place] - 0.3) < 1e-6, "the frown")
    answer = peer.call("eifer_msgs/srv/SetReference", service, duration_s=0.6)
    assert answer.success, answer.message
    assert np.allclose(answer.shape, 0.25)
    wait_for(lambda: abs(heard[-1].expression[place]) < 1e-6, "the frown counted from itself")
    for wrong in (0.1, 99.0, float("nan")):
        refused = peer.call("eifer_msgs/srv/SetReference", service, duration_s=wrong)
        assert not refused.success and "0.5..30" in refused.message
    assert host.components["reconstruction"].reference is not None


# ---------------------------------------------------------------- actions


class Goal:
    """An action goal from its request to its result. feedback: what came on the way."""

    def __init__(self, peer: Peer, type_name: str, name: str, **fields: Any) -> None:
        from rclpy.action import ActionClient

        kind = messages.ros_class(type_name)
        self.feedback: list[Any] = []
        client = ActionClient(peer.node, kind, name)
        wait_for(client.server_is_ready, f"action {name}")
        sent = client.send_goal_async(
            kind.Goal(**fields), feedback_callback=lambda message: self.feedback.append(message.feedback)
        )
        wait_for(sent.done, "the goal's answer")
        self.handle = sent.result()
        assert self.handle.accepted
        self._result = self.handle.get_result_async()

    def result(self, timeout_s: float = PATIENCE_S) -> Any:
        wait_for(self._result.done, "the result", timeout_s)
        return self._result.result().result

    @property
    def status(self) -> int:
        return int(self._result.result().status)


def test_a_guided_calibration_asks_for_movements_and_what_it_finds_is_used_and_stored(
    peer: Peer, streams: list[Stream], tmp_path: Path
) -> None:
    host = peer.host("emg", (Part("emg", EmgProcessing, (Calibrate,)),))
    assert peer.change("emg", CONFIGURE) and peer.change("emg", ACTIVATE)
    goals: list[Goal] = []

    def muscles(index: int, stamp: int) -> EmgChunk:
        """The participant does what the feedback asks for: smile muscles work during `perform`."""
        asked = goals[0].feedback[-1] if goals and goals[0].feedback else None
        works = asked is not None and asked.phase == "perform" and asked.movement != "Face-At-Rest"
        strength = np.full(22, 4e-5 if works else 1.5e-6)
        noise = np.random.default_rng(index).normal(0, 1, (50, 22)) * strength
        return EmgChunk(
            stamp, 1000.0, tuple(f"F{i + 1}" for i in range(22)), noise.astype(np.float32), index * 50
        )

    streams.append(Stream(peer, "emg/raw", "eifer_msgs/msg/EmgChunk", muscles, 0.05))
    heard = peer.listen("/eifer/emg/activity", "eifer_msgs/msg/MuscleActivity")
    marks = peer.listen("/eifer/markers", "eifer_msgs/msg/Marker")
    wait_for(lambda: len(heard) > 50, "activity")
    out = tmp_path / "anna.yaml"
    goals.append(
        Goal(
            peer,
            "eifer_msgs/action/Calibrate",
            "/eifer/emg/calibrate",
            output=str(out),
            movements=["Smile-Closed"],
        )
    )
    result = goals[0].result()
    assert result.success, result.message
    phases = list(dict.fromkeys(each.phase for each in goals[0].feedback))
    assert phases[:3] == ["prepare", "perform", "relax"]
    assert result.path == str(out) and len(result.channels) == 22
    known = Calibration.load(out)
    assert np.allclose(result.p99, known.p99, rtol=1e-5)
    assert {(mark.label, mark.phase) for mark in marks} >= {("Face-At-Rest", 1), ("Face-At-Rest", 2)}
    wait_for(lambda: host.components["emg"].calibration is not None, "the calibration is in use")
    wait_for(lambda: np.isfinite(heard[-1].activation).any(), "activation is known")
    again = Goal(peer, "eifer_msgs/action/Calibrate", "/eifer/emg/calibrate", output=str(out))
    assert "exists" in again.result().message and again.status == 6  # aborted


def test_a_calibration_can_be_cancelled_and_needs_emg(
    peer: Peer, streams: list[Stream], tmp_path: Path
) -> None:
    peer.host("emg", (Part("emg", EmgProcessing, (Calibrate,)),))
    assert peer.change("emg", CONFIGURE) and peer.change("emg", ACTIVATE)
    nothing = Goal(
        peer, "eifer_msgs/action/Calibrate", "/eifer/emg/calibrate", output=str(tmp_path / "a.yaml")
    )
    assert "no EMG arrives" in nothing.result().message and nothing.status == 6

    def quiet(index: int, stamp: int) -> EmgChunk:
        noise = np.random.default_rng(index).normal(0, 1.5e-6, (50, 4)).astype(np.float32)
        return EmgChunk(stamp, 1000.0, ("F1", "F2", "F3", "F4"), noise, index * 50)

    streams.append(Stream(peer, "emg/raw", "eifer_msgs/msg/EmgChunk", quiet, 0.05))
    heard = peer.listen("/eifer/emg/activity", "eifer_msgs/msg/MuscleActivity")
    wait_for(lambda: heard, "activity")
    goal = Goal(peer, "eifer_msgs/action/Calibrate", "/eifer/emg/calibrate", output=str(tmp_path / "b.yaml"))
    wait_for(lambda: goal.feedback, "feedback")
    goal.handle.cancel_goal_async()
    assert "cancelled" in goal.result().message
    assert goal.status == 5 and not (tmp_path / "b.yaml").exists()


def muscles_and_face(index: int, stamp: int) -> tuple[MuscleActivity, FaceState]:
    """Two muscles that move the mouth, as a smooth function of time."""
    t = index * 0.01
    drive = np.array([0.5 + 0.5 * np.sin(1.3 * t), 0.5 + 0.5 * np.sin(0.7 * t + 1.0)])
    activation = drive.astype(np.float32)
    muscles = MuscleActivity(
        stamp, "fridlund", ("F1", "F2"), activation * 1e-4, activation, np.ones(2), profile="live"
    )
    return muscles, face(stamp, mouthSmileLeft=float(0.8 * drive[0]), jawOpen=float(0.6 * drive[1]))


def test_a_mapping_is_fitted_to_what_was_received_and_used_at_once(peer: Peer, tmp_path: Path) -> None:
    host = peer.host("mapping", (Part("mapping", MuscleMapping, (FitMapping,)),))
    assert peer.change("mapping", CONFIGURE) and peer.change("mapping", ACTIVATE)
    nothing = Goal(peer, "eifer_msgs/action/FitMapping", "/eifer/mapping/fit", output=str(tmp_path / "a.npz"))
    assert "nothing was received" in nothing.result().message
    wrong = Goal(peer, "eifer_msgs/action/FitMapping", "/eifer/mapping/fit", model="rigde")
    assert "did you mean 'ridge'" in wrong.result().message
    activities = peer.publisher("/eifer/emg/activity", "eifer_msgs/msg/MuscleActivity")
    faces = peer.publisher("/eifer/face/vision", "eifer_msgs/msg/FlameParameters")
    start = time.time_ns() - 40 * NS
    inlets = host.inlets.topics
    for index in range(4000):
        muscles, seen = muscles_and_face(index, start + index * 10_000_000)
        activities.publish(messages.serialise(conversions.to_wire(muscles, "emg/activity")[0].message))
        if index % 3 == 0:
            faces.publish(messages.serialise(conversions.to_wire(seen, "face/vision")[0].message))
        if index % 5 == 0:  # no faster than the node takes them: queues here are ten deep
            wait_for(
                lambda index=index: inlets["emg/activity"][0].traffic.count > index - 4, "the node keeps up"
            )
    out = tmp_path / "mapping.npz"
    goal = Goal(peer, "eifer_msgs/action/FitMapping", "/eifer/mapping/fit", output=str(out), model="ridge")
    result = goal.result()
    assert result.success, result.message
    assert out.exists() and result.path == str(out)
    assert result.r > 0.9 and result.r2 > 0.8
    assert goal.feedback and all(each.stage for each in goal.feedback)
    wait_for(lambda: host.components["mapping"].mapping is not None, "the mapping is in use")
