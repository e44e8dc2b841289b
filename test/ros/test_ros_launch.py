"""The launch files under a real ROS 2, from an installation that colcon built, as a user runs them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ros_peer import ACTIVATE, CLEANUP, DEACTIVATE, Peer, wait_for

from eifer_ros.recording.reader import Bag

ROOT = Path(__file__).parents[2]
PATIENCE_S = 180.0
"""A whole pipeline loads and warms up; on a busy machine that takes minutes."""
DIRECT = ("--no-daemon", "--spin-time", "5")
"""The command line looks around by itself: no daemon outlives the test."""
FLAME = "eifer_msgs/msg/FlameParameters"


@pytest.fixture(scope="session")
def installed(eifer_msgs: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """eifer_ros as colcon installs it."""
    if importlib.util.find_spec("colcon_ros") is None:
        pytest.skip("colcon is not installed: pip install 'eifer_ros[test]'")
    base = tmp_path_factory.mktemp("workspace")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "colcon",
            "--log-base",
            str(base / "log"),
            "build",
            "--merge-install",
            "--base-paths",
            str(ROOT),
            "--build-base",
            str(base / "build"),
            "--install-base",
            str(base / "install"),
        ],
        cwd=base,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return base / "install"


@pytest.fixture
def environment(installed: Path, domain: int) -> dict[str, str]:
    """What sourcing the installation in an active virtual environment sets."""
    site = next(installed.glob("lib/python3*/site-packages"), None) or next(
        installed.glob("local/lib/python3*/dist-packages")
    )
    return os.environ | {
        "AMENT_PREFIX_PATH": os.pathsep.join([str(installed), os.environ["AMENT_PREFIX_PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(site), os.environ["PYTHONPATH"]]),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONUNBUFFERED": "1",
        "EIFER_TEST_PATIENCE_S": str(PATIENCE_S),
    }


class Launch:
    """`ros2 launch eifer_ros ...` in a process group of its own."""

    def __init__(self, environment: dict[str, str], file: str, *arguments: str) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed by `end`)
        self._process = subprocess.Popen(
            ["ros2", "launch", "eifer_ros", file, *arguments],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def interrupt(self) -> int:
        """Ctrl-C: gives launch's exit status once every process of it ended."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(PATIENCE_S)

    def end(self) -> None:
        """Ctrl-C, and what does not heed it is killed: nothing outlives its test."""
        try:
            if self._process.poll() is None:
                self.interrupt()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._log.close()


@pytest.fixture
def launch(environment: dict[str, str]) -> Iterator[Any]:
    running: list[Launch] = []

    def start(file: str, *arguments: str) -> Launch:
        running.append(Launch(environment, file, *arguments))
        return running[-1]

    with contextlib.ExitStack() as stack:
        yield start
        for each in running:
            stack.callback(each.end)


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def has_rosbag2() -> bool:
    return (
        importlib.util.find_spec("rosbag2_py") is not None and importlib.util.find_spec("ros2bag") is not None
    )


# ---------------------------------------------------------------- files and arguments


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "launch").glob("*.launch.py")))
def test_a_launch_file_loads_and_describes_every_argument(name: str, environment: dict[str, str]) -> None:
    done = run(environment, "ros2", "launch", "eifer_ros", name, "--show-args")
    assert done.returncode == 0, done.stderr
    assert "No description given" not in done.stdout
    assert "'namespace':" in done.stdout


def test_colcon_installs_every_node_with_the_python_of_the_environment(installed: Path) -> None:
    nodes = sorted(path.stem for path in (ROOT / "eifer_ros" / "nodes").glob("[a-z]*.py"))
    for node in nodes:
        script = installed / "lib" / "eifer_ros" / node
        assert os.access(script, os.X_OK), node
        assert script.read_text().splitlines()[0] == "#!/usr/bin/env python3"
    assert (installed / "share" / "ament_index" / "resource_index" / "packages" / "eifer_ros").is_file()
    assert (installed / "share" / "eifer_ros" / "config" / "eifer.yaml").is_file()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["eifer.launch.py", "source:=lantern"], "performer"),
        (["eifer.launch.py", "params_file:=/nowhere/mine.yaml"], "/nowhere/mine.yaml"),
        (["eifer.launch.py", "autostart:=perhaps"], "perhaps"),
        (["replay.launch.py"], "bag:="),
    ],
)
def test_a_wrong_argument_ends_the_launch_with_a_reason(
    arguments: list[str], complaint: str, environment: dict[str, str]
) -> None:
    done = run(environment, "ros2", "launch", "eifer_ros", *arguments)
    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr


def test_rosbag2_is_asked_for_every_topic_but_raw_and_lazy_pictures_with_queues_as_deep_as_the_publishers(
    eifer_msgs: None,
) -> None:
    import yaml
    from launch import LaunchContext

    from eifer_ros import launching
    from eifer_ros.topics import TOPICS

    context = LaunchContext()
    context.launch_configurations.update(namespace="/lab/", use_sim_time="false")
    action = launching.bag_record(
        context, "take", {"camera/image_raw/compressed": "/driver/image/compressed"}
    )
    command = ["".join(part.perform(context) for part in word) for word in action.cmd]
    assert command[:3] == ["ros2", "bag", "record"] and "mcap" in command and "take" in command
    topics = command[command.index("--topics") + 1 :]
    wanted = set(TOPICS) - launching.NEVER_RECORDED - {"camera/image_raw/compressed"}
    assert set(topics) == {f"/lab/{topic}" for topic in wanted} | {
        "/driver/image/compressed",
        "/tf",
        "/tf_static",
        "/diagnostics",
    }
    profiles = yaml.safe_load(Path(command[command.index("--qos-profile-overrides-path") + 1]).read_text())
    assert set(profiles) == {f"/lab/{topic}" for topic in wanted}
    for topic in wanted:
        assert profiles[f"/lab/{topic}"]["depth"] >= TOPICS[topic].qos.value.depth
        assert (profiles[f"/lab/{topic}"]["durability"] == "transient_local") == TOPICS[topic].latched


# ---------------------------------------------------------------- running


def test_the_full_pipeline_passes_its_launch_test(environment: dict[str, str], tmp_path: Path) -> None:
    done = run(
        environment,
        "launch_test",
        "--junit-xml",
        str(tmp_path / "result.xml"),
        str(Path(__file__).parent / "full_pipeline_launch.py"),
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]


def test_pictures_of_a_foreign_driver_are_taken_from_its_topic_and_its_faces_recorded(
    launch: Any, peer: Peer, tmp_path: Path
) -> None:
    """A performer in another namespace stands for the driver: all that eifer knows of it are two topic names."""
    driver = launch("simulate.launch.py", "namespace:=driver")
    lab = launch(
        "eifer.launch.py",
        "source:=topic",
        "namespace:=lab",
        "image_topic:=/driver/camera/image_raw",
        "camera_info_topic:=/driver/camera/camera_info",
    )
    faces = peer.listen("/lab/face/vision", FLAME)
    wait_for(lambda: len(faces) >= 3, lambda: driver.output + lab.output, PATIENCE_S)
    recording = launch("record.launch.py", "recorder:=eifer", "namespace:=lab", f"bag:={tmp_path / 'take'}")
    wait_for(lambda: next(tmp_path.glob("take/*.mcap"), None), "a recording", PATIENCE_S)
    count = len(faces)
    wait_for(lambda: len(faces) > count + 10, "more faces", PATIENCE_S)
    assert recording.interrupt() == 0, recording.output
    with Bag(tmp_path / "take") as bag:
        topics = [topic for _, topic, _ in bag.items()]
    assert topics.count("face/vision") >= 3


def test_without_autostart_a_node_waits_for_its_lifecycle_and_params_reach_it(
    launch: Any, peer: Peer, environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "/**:\n  performer:\n    ros__parameters:\n      fps: 12.0\n      width: 160\n      height: 120\n"
    )
    launched = launch("simulate.launch.py", "autostart:=false", f"params_file:={path}", "seed:=3")
    wait_for(lambda: peer.state("performer") == "unconfigured", lambda: launched.output, PATIENCE_S)
    values = run(environment, "ros2", "param", "dump", *DIRECT, "/eifer/performer").stdout
    assert "fps: 12.0" in values and "seed: 3" in values
    done = run(environment, "ros2", "lifecycle", "set", *DIRECT, "/eifer/performer", "configure")
    assert "Transitioning successful" in done.stdout, done.stdout + done.stderr
    assert peer.state("performer") == "inactive"
    for step, state in ((ACTIVATE, "active"), (DEACTIVATE, "inactive"), (CLEANUP, "unconfigured")):
        assert peer.change("performer", step)
        assert peer.state("performer") == state
    assert launched.interrupt() == 0
    assert "process has died" not in launched.output


@pytest.mark.parametrize(
    "player",
    [
        "eifer",
        pytest.param(
            "rosbag2",
            marks=pytest.mark.skipif(
                not has_rosbag2(), reason="rosbag2 is not part of this ROS 2 installation"
            ),
        ),
    ],
)
def test_a_recording_made_without_ros_is_worked_on_again_by_the_replay_launch(
    player: str, launch: Any, peer: Peer, tmp_path: Path
) -> None:
    from eifer_ros.recording.writer import BagWriter
    from eifer_ros.simulation.performer import Performer, PerformerConfig

    source = Performer(PerformerConfig(speed=0, duration_s=3.0, width=320, height=240, fps=10.0))
    source.setup()
    with BagWriter(tmp_path / "take") as bag:
        for port, item in source.produce():
            if port in ("camera/image_raw", "emg/raw", "emg/raw_channels"):
                bag.write(port, item)
    faces, activity = (
        peer.listen("/eifer/face/vision", FLAME),
        peer.listen("/eifer/emg/activity", "eifer_msgs/msg/MuscleActivity"),
    )
    launched = launch(
        "replay.launch.py",
        f"bag:={tmp_path / 'take'}",
        "rework:=true",
        f"player:={player}",
        f"use_sim_time:={str(player == 'rosbag2').lower()}",
    )
    wait_for(lambda: len(faces) >= 3 and len(activity) >= 50, lambda: launched.output, PATIENCE_S)
    assert launched.interrupt() == 0


@pytest.mark.skipif(
    not has_rosbag2(), reason="rosbag2 (ros2bag, rosbag2_py) is not part of this ROS 2 installation"
)
def test_rosbag2_records_the_listed_topics_and_eifer_reads_them(
    launch: Any, peer: Peer, tmp_path: Path
) -> None:
    chunks = peer.listen("/eifer/emg/raw", "eifer_msgs/msg/EmgChunk")
    launched = launch("simulate.launch.py", "record:=true", f"bag:={tmp_path / 'take'}")
    wait_for(lambda: next(tmp_path.glob("take/*.mcap"), None), lambda: launched.output, PATIENCE_S)
    count = len(chunks)
    wait_for(lambda: len(chunks) > count + 200, "EMG while recording", PATIENCE_S)
    assert launched.interrupt() == 0
    with Bag(tmp_path / "take") as bag:
        topics = {topic for _, topic, _ in bag.items()}
    assert {"camera/image_raw", "emg/raw", "truth/face"} <= topics


def test_services_and_actions_of_the_api_page_exist_on_the_running_nodes(peer: Peer) -> None:
    spec = importlib.util.spec_from_file_location("make_ros_api", ROOT / "tools" / "make_ros_api.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    wanted = {
        (name.split("`")[1], kind)
        for offers in tool.OFFERED.values()
        for name, kind, _ in offers
        if name.startswith(("service", "action"))
    }
    node = peer.start(
        "pipeline",
        "-p",
        "components:=[reconstruction, emg, mapping, animatronic]",
        "-p",
        "autostart:=true",
        "-p",
        "animatronic.hardware:=false",
    )

    def offered() -> set[tuple[str, str]]:
        found = set()
        for name, kinds in peer.node.get_service_names_and_types():
            plain = name.split("/_action/send_goal")[0]
            for kind in kinds:
                found.add((plain.strip("/").removeprefix("eifer/"), kind.removesuffix("_SendGoal")))
        return found

    wait_for(lambda: wanted <= offered(), lambda: f"missing: {wanted - offered()}\n{node.output}", PATIENCE_S)
