"""A peer of the nodes under test: starts them, subscribes, publishes, calls services, waits by condition."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from eifer_ros.wire import messages

ROOT = Path(__file__).parents[2]
PATIENCE_S = float(os.environ.get("EIFER_TEST_PATIENCE_S", "180"))
"""Ten times and more what anything here takes on a quiet machine."""
CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE, SHUTDOWN, ACTIVE_SHUTDOWN = 1, 2, 3, 4, 5, 7
"""lifecycle_msgs/Transition."""
GOALS = {
    CONFIGURE: "inactive",
    CLEANUP: "unconfigured",
    ACTIVATE: "active",
    DEACTIVATE: "inactive",
    SHUTDOWN: "finalized",
    ACTIVE_SHUTDOWN: "finalized",
}
ANSWER_S = 20.0
"""The middleware drops an answer whose reader it has not met within 0.1 s, which happens on a loaded machine.
"""


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """The first true value of `condition`; fails after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"not within {timeout_s:g} s: {what() if callable(what) else what}")
        time.sleep(0.01)


def same(left: bytes, right: bytes) -> bool:
    """Equal, but for up to three bytes of padding at the end: the DDS wire carries payloads in units of four."""
    shorter, longer = sorted((left, right), key=len)
    return longer.startswith(shorter) and len(longer) - len(shorter) < 4 and not any(longer[len(shorter) :])


class Process:
    """A node in a process of its own. output: what it has written so far."""

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        code = f"import sys; from eifer_ros.nodes.{name} import main; sys.exit(main())"
        self._file = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed by `end`)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "PYTHONUNBUFFERED": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=self._file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        self._file.seek(0)
        return self._file.read()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def interrupt(self) -> int:
        """SIGINT, as Ctrl-C and launch send it; gives the exit status."""
        self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} does not end on SIGINT:\n{self.output}")

    def end(self) -> None:
        if self.running:
            self._process.kill()
            self._process.wait()
        self._file.close()


class Peer:
    """Another node of the same domain: subscribes, publishes, calls services, starts nodes."""

    def __init__(self, domain: int) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("peer", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._processes: list[Process] = []
        self._hosts: list[Any] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        from rclpy.executors import ExternalShutdownException

        while not self._stopping:
            with contextlib.suppress(ExternalShutdownException):
                self.executor.spin_once(0.1)

    # ---- nodes

    def start(self, name: str, *arguments: str, **parameters: Any) -> Process:
        """A node of eifer in its own process; `parameters` as on the command line."""
        given = [
            item for key, value in parameters.items() for item in ("-p", f"{key.replace('__', '.')}:={value}")
        ]
        process = Process(name, ["--ros-args", "-r", "__ns:=/eifer", *given, *arguments])
        self._processes.append(process)
        return process

    def host(self, name: str, parts: Any, chosen: Any = None, **overrides: Any) -> Any:
        """A host in this process; overrides are parameter values."""
        from eifer_ros.hosts.ros import RosHost

        arguments = [item for key, value in overrides.items() for item in ("-p", f"{key}:={value}")]
        made = RosHost(
            name,
            parts,
            chosen,
            context=self.context,
            namespace="/eifer",
            cli_args=["--ros-args", *arguments] if arguments else None,
            use_global_arguments=False,
        )
        self._hosts.append(made)
        self.executor.add_node(made)
        return made

    # ---- talking

    def call(self, type_name: str, service: str, timeout_s: float = PATIENCE_S, **fields: Any) -> Any:
        """The response of a service. Asked again while none comes: see `ANSWER_S`."""
        kind = messages.ros_class(type_name)
        client = self.node.create_client(kind, service)
        futures: list[Any] = []

        def response() -> Any:
            if time.monotonic() >= begin + len(futures) * ANSWER_S:
                futures.append(client.call_async(kind.Request(**fields)))
            return next((future.result() for future in futures if future.done()), None)

        try:
            wait_for(client.service_is_ready, lambda: f"service {service}\n{self._outputs()}", timeout_s)
            begin = time.monotonic()
            return wait_for(response, lambda: f"answer of {service}\n{self._outputs()}", timeout_s)
        finally:
            self.node.destroy_client(client)

    def change(self, node: str, transition: int) -> bool:
        """Ask for a lifecycle transition; whether it succeeded.

        Where no answer comes the state tells, or it is asked for again.
        """
        kind = messages.ros_class("lifecycle_msgs/msg/Transition")
        service = f"/eifer/{node}/change_state"
        client = self.node.create_client(messages.ros_class("lifecycle_msgs/srv/ChangeState"), service)
        futures: list[Any] = []
        end = time.monotonic() + PATIENCE_S
        try:
            wait_for(client.service_is_ready, lambda: f"service {service}\n{self._outputs()}")
            while time.monotonic() < end:
                futures.append(client.call_async(client.srv_type.Request(transition=kind(id=transition))))
                until = time.monotonic() + ANSWER_S
                wait_for(
                    lambda: any(future.done() for future in futures) or time.monotonic() > until,  # noqa: B023
                    f"answer of {service}",
                )
                answers = [bool(future.result().success) for future in futures if future.done()]
                if answers:
                    return any(answers) or (
                        len(answers) < len(futures) and self.state(node) == GOALS[transition]
                    )
                if self.state(node) == GOALS[transition]:
                    return True
            pytest.fail(f"no answer of {service}\n{self._outputs()}")
        finally:
            self.node.destroy_client(client)

    def _outputs(self) -> str:
        return "\n".join(f"--- {process.name}\n{process.output}" for process in self._processes)

    def state(self, node: str) -> str:
        """Label of the node's state."""
        return str(self.call("lifecycle_msgs/srv/GetState", f"/eifer/{node}/get_state").current_state.label)

    def listen(self, topic: str, type_name: str, **qos: Any) -> list[Any]:
        """A list that fills with the messages of a topic."""
        from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

        got: list[Any] = []
        wanted = QoSProfile(
            depth=qos.get("depth", 200),
            reliability=ReliabilityPolicy.RELIABLE
            if qos.get("reliable", True)
            else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if qos.get("latched") else DurabilityPolicy.VOLATILE,
        )
        self.node.create_subscription(
            messages.ros_class(type_name), topic, got.append, wanted, raw=qos.get("raw", False)
        )
        return got

    def publisher(
        self, topic: str, type_name: str, *, depth: int = 200, reliable: bool = True, matched: bool = True
    ) -> Any:
        """A publisher; where `matched`, only returned once somebody subscribes."""
        from rclpy.qos import QoSProfile, ReliabilityPolicy

        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        made = self.node.create_publisher(
            messages.ros_class(type_name), topic, QoSProfile(depth=depth, reliability=reliability)
        )
        if matched:
            wait_for(made.get_subscription_count, f"a subscriber of {topic}")
        return made

    def diagnostics(self) -> dict[str, Any]:
        """Newest status by name, filled from now on."""
        newest: dict[str, Any] = {}

        def take(message: Any) -> None:
            newest.update({status.name: status for status in message.status})

        self.node.create_subscription(
            messages.ros_class("diagnostic_msgs/msg/DiagnosticArray"), "/diagnostics", take, 10
        )
        return newest

    def close(self) -> None:
        import rclpy

        for process in self._processes:
            process.end()
        self._stopping = True
        self.executor.wake()
        self._thread.join(PATIENCE_S)
        for host in self._hosts:
            if host.state_label in ("unconfigured", "inactive", "active"):
                host.trigger_shutdown()
            host.destroy_node()
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
