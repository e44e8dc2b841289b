from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest

from eifer_ros import resources
from eifer_ros.wire import conversions, messages

GOLDEN = Path(__file__).parent / "type_hashes.json"
SYSTEM_PYTHON = "/usr/bin/python3"


def definition_files() -> list[Path]:
    """The definitions alone: an installed package keeps generated files beside them."""
    found = sorted(
        path
        for kind in ("msg", "srv", "action")
        for path in (resources.message_definitions() / kind).glob(f"*.{kind}")
    )
    assert len(found) > 10
    return found


def own_types() -> list[str]:
    return [name for name, _ in messages.definitions(resources.message_definitions())]


def test_type_hashes_are_those_reviewed() -> None:
    """A change of the wire shows here."""
    hashes = {name: messages.store().hash_rihs01(name) for name in own_types()}
    golden = json.loads(GOLDEN.read_text())
    assert hashes == golden, (
        "the wire changed; when that is meant, update test/wire/type_hashes.json and say so in CHANGELOG.md"
    )


def test_the_hash_of_a_standard_type_is_the_published_one() -> None:
    assert messages.store().hash_rihs01("std_msgs/msg/String").startswith("RIHS01_df668c74")


def test_every_type_of_the_design_is_there() -> None:
    names = set(own_types())
    for wanted in (
        "msg/EmgChunk",
        "msg/MuscleActivity",
        "msg/FlameParameters",
        "msg/Blendshapes",
        "msg/HeadModelInfo",
        "msg/EmgChannelInfo",
        "msg/FaceDisplacement",
        "msg/FaceEvent",
        "action/Calibrate_Goal",
        "action/FitMapping_Feedback",
        "srv/SetReference_Request",
        "srv/ReleaseFace_Response",
    ):
        assert f"eifer_msgs/{wanted}" in names


def test_every_domain_type_has_a_wire_type_in_the_store() -> None:
    for type_name in (codec.type_name for codec in conversions._TO.values()):
        assert type_name in messages.store().types


def test_every_field_of_every_definition_carries_a_comment() -> None:
    for path in definition_files():
        comment = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("#"):
                comment = True
            elif not line.strip() or line == "---":
                comment = False
            elif "=" not in line:
                assert comment, f"{path.name}:{number}: field without a comment: {line}"


def test_definitions_keep_the_house_rules() -> None:
    for path in definition_files():
        for line in path.read_text().splitlines():
            code = line.split("#")[0].strip()
            if not code or code == "---" or "=" in code:
                continue
            kind, name = code.split()[:2]
            assert len(code.split()) == 2, f"{path.name}: default value in '{line}'"
            assert "wstring" not in kind
            assert kind != "Header"
            assert re.fullmatch(r"[a-z][a-z0-9_]*", name)


@pytest.mark.skipif(
    subprocess.run(
        [SYSTEM_PYTHON, "-c", "import rosidl_adapter"], capture_output=True, check=False
    ).returncode
    != 0
    if Path(SYSTEM_PYTHON).exists()
    else True,
    reason="rosidl_adapter is not installed (Debian: apt-get install python3-rosidl)",
)
def test_every_definition_parses_with_the_parser_of_ros_itself() -> None:
    script = (
        "import sys, pathlib\n"
        "from rosidl_adapter.parser import parse_message_file, parse_service_file, parse_action_file\n"
        "parse = {'.msg': parse_message_file, '.srv': parse_service_file, '.action': parse_action_file}\n"
        "for path in map(pathlib.Path, sys.argv[1:]):\n"
        "    print(parse[path.suffix]('eifer_msgs', str(path)))\n"
    )
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", script, *map(str, definition_files())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "expression" in done.stdout


def test_the_build_file_lists_every_definition(root: Path) -> None:
    listed = set(
        re.findall(r'"((?:msg|srv|action)/[^"]+)"', (root / "eifer_msgs" / "CMakeLists.txt").read_text())
    )
    present = {
        f"{path.parent.name}/{path.name}"
        for path in (root / "eifer_msgs").glob("*/*.*")
        if path.parent.name in ("msg", "srv", "action")
    }
    assert listed == present


def test_without_a_ros_build_the_rosidl_family_says_how_to_get_one() -> None:
    if importlib.util.find_spec("rclpy") is not None:
        pytest.skip("a ROS environment is here; the message of a machine without one cannot be seen")
    with pytest.raises(messages.WireError, match="colcon build"):
        messages.rosidl()
