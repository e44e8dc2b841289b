"""README's commands, as a new user types them: each line of each block is run, or its reason not to be is
written here.

EIFER_BIN: folder of an installation to run them with; without it, the one these tests run in.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from eifer_ros.recording.reader import Bag
from eifer_ros.simulation.participant import Participant

ELSEWHERE = {
    "make demo": "its command is run by test_demo; what make would do is checked here",
    "make test": "it would run these tests; what make would do is checked here",
    "ros2 launch": "test/ros runs the launch file where ROS 2 is installed; file and arguments are checked here",
}


def blocks(root: Path) -> list[list[str]]:
    """The lines of README's shell blocks without their comments."""
    text = (root / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, re.M | re.S)
    lines = [[line.split(" #")[0].strip() for line in block.splitlines()] for block in found]
    return [[line for line in block if line] for block in lines]


def runnable(root: Path) -> list[str]:
    """The lines that are run here, in their order."""
    return [line for block in blocks(root) for line in block if not line.startswith(tuple(ELSEWHERE))]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PATH with the installation's commands first."""
    given = os.environ.get("EIFER_BIN")
    folder = Path(given) if given else Path(sys.executable).parent
    if not given and not (folder / "eifer").exists():  # run from the source tree without an installation
        folder = tmp_path_factory.mktemp("bin")
        (folder / "eifer").write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m eifer_ros.cli "$@"\n'
        )
        (folder / "eifer").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def face_video(path: Path) -> None:
    """A second of a bare face."""
    person = Participant(11, program="emotions", size=(320, 240), sensors=False)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 15.0, (320, 240))
    assert writer.isOpened()
    for number in range(15):
        writer.write(person.frame_at(number / 15).image[:, :, ::-1])
    writer.release()


def test_the_commands_of_the_readme_run_in_an_empty_folder(root: Path, tmp_path: Path, path: str) -> None:
    face_video(tmp_path / "face.mp4")  # "a video of your own"
    lines = runnable(root)
    assert len(lines) >= 3 and lines[0] == ". .venv/bin/activate"
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text(f"PATH={shlex.quote(path)}\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if "EIFER_BIN" not in os.environ:
        environment["PYTHONPATH"] = str(root)
    done = subprocess.run(
        ["bash", "-euxc", "\n".join(lines)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # what the comments beside the commands promise: a bag, a video with the head over the face, a summary
    summary = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    assert summary["frames"] == 15
    with Bag(tmp_path / "out/bag") as bag:
        assert sum(1 for _ in bag.items(topics=["face/vision"])) == 15
    (overlay,) = (tmp_path / "out").glob("*.mp4")
    capture = cv2.VideoCapture(str(overlay))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 15
    for group in ("base", "extras", "cameras"):
        assert group in done.stdout


def test_make_does_what_the_readme_says(root: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    told = [line for block in blocks(root) for line in block if line.startswith("make ")]
    assert told == ["make demo", "make test"]
    for line, command in zip(told, (r"eifer demo --out demo_out", r"python -m pytest"), strict=True):
        done = subprocess.run([*line.split(), "-n"], cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert re.search(command, done.stdout), line


def test_the_launch_file_of_the_readme_declares_the_arguments_it_is_given(root: Path) -> None:
    (line,) = [line for block in blocks(root) for line in block if line.startswith("ros2 launch")]
    _, _, package, name, *arguments = line.split()
    source = (root / "launch" / name).read_text(encoding="utf-8")
    assert package == "eifer_ros" and arguments
    for argument in arguments:
        assert re.search(rf"[\"']{argument.partition(':=')[0]}[\"']", source), argument


def test_every_reason_not_to_run_a_line_is_about_a_line_that_is_there(root: Path) -> None:
    lines = [line for block in blocks(root) for line in block]
    for beginning in ELSEWHERE:
        assert any(line.startswith(beginning) for line in lines), beginning
