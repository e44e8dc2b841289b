"""Launch files as far as they can be checked where there is no ROS: test/ros runs them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
import yaml

from eifer_ros import config
from eifer_ros.animatronic.animatronic_face import AnimatronicConfig
from eifer_ros.avatar.avatar_output import AvatarConfig
from eifer_ros.camera.camera_source import CameraConfig
from eifer_ros.emg.emg_processing import EmgConfig
from eifer_ros.emg.sources.emg_input import EmgInputConfig
from eifer_ros.mapping.muscle_mapping import MappingConfig
from eifer_ros.micro.event_spotter import SpotterConfig
from eifer_ros.reconstruction.face_reconstruction import ReconstructionConfig
from eifer_ros.simulation.performer import PerformerConfig

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
SHARED = ROOT / "eifer_ros" / "launching.py"
CONFIGS = {
    "camera": CameraConfig,
    "emg_source": EmgInputConfig,
    "performer": PerformerConfig,
    "reconstruction": ReconstructionConfig,
    "emg": EmgConfig,
    "mapping": MappingConfig,
    "spotter": SpotterConfig,
    "avatar": AvatarConfig,
    "animatronic": AnimatronicConfig,
}


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    """Every call of a function or method of that name."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", None) == name or getattr(node.func, "attr", None) == name)
    ]


def text(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def common_arguments() -> dict[str, str]:
    """The shared arguments and their descriptions, read from the source."""
    for node in ast.walk(ast.parse(SHARED.read_text())):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_COMMON":
            return {name: description for name, (_, description) in ast.literal_eval(node.value).items()}
    raise AssertionError("launching._COMMON is gone")


def declared(tree: ast.AST) -> dict[str, str | None]:
    """Arguments that a launch file declares, with their descriptions."""
    found: dict[str, str | None] = {}
    if calls(tree, "common_arguments"):
        found |= common_arguments()
    for call in calls(tree, "argument"):
        found[str(text(call.args[0]))] = text(call.args[2])
    for call in calls(tree, "DeclareLaunchArgument"):
        found[str(text(call.args[0]))] = next(
            (text(keyword.value) for keyword in call.keywords if keyword.arg == "description"), None
        )
    return found


@pytest.fixture(params=FILES, ids=lambda path: path.name.removesuffix(".launch.py"))
def tree(request: pytest.FixtureRequest) -> ast.Module:
    path: Path = request.param
    compile(path.read_text(), str(path), "exec")
    return ast.parse(path.read_text())


def test_there_is_one_launch_file_per_use() -> None:
    assert {path.name.removesuffix(".launch.py") for path in FILES} >= {
        "eifer",
        "record",
        "replay",
        "simulate",
        "animatronic",
    }


def test_every_launch_file_describes_itself_and_every_argument(tree: ast.Module) -> None:
    assert "ros2 launch eifer_ros" in (ast.get_docstring(tree) or "")
    arguments = declared(tree)
    assert {"namespace", "use_sim_time", "log_level"} <= set(arguments)
    assert all(description and len(description) > 5 for description in arguments.values()), arguments


def test_every_argument_that_is_read_is_declared(tree: ast.Module) -> None:
    read = {text(call.args[1]) for name in ("value", "is_true") for call in calls(tree, name)} - {None}
    read |= {text(call.args[0]) for call in calls(tree, "LaunchConfiguration")}
    assert read <= set(declared(tree))


def test_the_full_pipeline_can_be_launched_from_every_source() -> None:
    from eifer_ros import graph

    tree = ast.parse((ROOT / "launch" / "eifer.launch.py").read_text())
    (source,) = (call for call in calls(tree, "argument") if text(call.args[0]) == "source")
    assert set(ast.literal_eval(source.args[3])) == set(graph.SOURCES)


def test_launch_files_need_nothing_that_the_python_of_ros_lacks() -> None:
    allowed = {"launch", "launch_ros", "lifecycle_msgs", "ament_index_python", "eifer_ros"}
    for path in [*FILES, SHARED]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""] if not node.level else []
                assert not node.level or node.module == "topics", f"{path.name}: {node.module}"
                assert node.module != "eifer_ros" or {alias.name for alias in node.names} <= {
                    "launching",
                    "graph",
                }, path.name
            for name in names:
                top = name.split(".")[0]
                assert top in allowed or top in sys.stdlib_module_names, f"{path.name} imports {name}"


def test_topics_and_quality_of_service_load_with_the_standard_library_alone() -> None:
    import subprocess

    script = "from eifer_ros import graph, topics; print(len(topics.TOPICS), graph.SOURCES)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {script}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_node_that_is_launched_is_an_executable_of_the_package() -> None:
    setup = ast.parse((ROOT / "setup.py").read_text())
    nodes = next(
        ast.literal_eval(node.value)
        for node in ast.walk(setup)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "NODES"
    )
    launched = {
        (path.name, name)
        for path in FILES
        for call in calls(ast.parse(path.read_text()), "lifecycle_node")
        if (name := text(call.args[1])) is not None  # a name that is computed cannot be read here
    }
    assert len(launched) > 3
    for file, name in launched:
        assert name in nodes, f"{file}: {name}"
    for node in nodes:
        source = ROOT / "eifer_ros" / "nodes" / f"{node}.py"
        assert any(
            isinstance(entry, ast.FunctionDef) and entry.name == "main"
            for entry in ast.parse(source.read_text()).body
        ), source


def test_the_parameter_file_of_the_pipeline_is_valid_for_every_node() -> None:
    path = ROOT / "config" / "eifer.yaml"
    sections = config.load_yaml(path)
    assert set(sections) == set(CONFIGS)
    for name, model in CONFIGS.items():
        config.load(model, name, path)


@pytest.mark.parametrize("name", ["eifer.rviz", "example_face.rviz"])
def test_rviz_shows_topics_that_exist(name: str) -> None:
    from eifer_ros.nodes._face_view import MESH, MUSCLE_MAP
    from eifer_ros.topics import TOPICS

    made = {*TOPICS, MESH, MUSCLE_MAP, "robot_description"}
    displays = yaml.safe_load((ROOT / "config" / name).read_text())["Visualization Manager"]["Displays"]
    topics = [entry["Topic"]["Value"] for entry in displays if "Topic" in entry] + [
        entry["Description Topic"]["Value"] for entry in displays if "Description Topic" in entry
    ]
    assert topics and set(topics) <= made
