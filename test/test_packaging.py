"""One package for pip and for ament: both must see it whole."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import eifer_ros


def test_colcon_sees_both_packages_with_their_ros_types_from_the_repository_root(root: Path) -> None:
    if importlib.util.find_spec("colcon_ros") is None:
        pytest.skip("colcon is not installed: pip install 'eifer_ros[test]'")
    done = subprocess.run(
        [sys.executable, "-m", "colcon", "list"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/tmp"},
    )
    found = {tuple(line.split("\t")) for line in done.stdout.splitlines()}
    assert ("eifer_msgs", "eifer_msgs", "(ros.ament_cmake)") in found, done.stderr
    assert ("eifer_ros", ".", "(ros.ament_python)") in found, done.stderr


@pytest.mark.parametrize("folder", [".", "eifer_msgs"])
def test_package_manifests_are_valid(root: Path, folder: str) -> None:
    if importlib.util.find_spec("catkin_pkg") is None:
        pytest.skip("catkin_pkg is not installed: pip install 'eifer_ros[test]'")
    from catkin_pkg.package import parse_package

    warnings: list[str] = []
    package = parse_package(str(root / folder / "package.xml"), warnings=warnings)
    package.validate()
    assert not warnings
    assert package.version == eifer_ros.__version__
    assert package.licenses == ["Apache-2.0"]


def test_every_pinned_version_satisfies_what_the_package_asks_for(root: Path) -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = [
        Requirement(text)
        for text in [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    ]
    lines = [
        line
        for line in (root / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    pinned = {requirement.name.lower(): requirement for requirement in map(Requirement, lines)}
    for requirement in wanted:
        if requirement.name == project["name"]:  # an extra made of others
            continue
        pin = pinned.get(requirement.name.lower())
        assert pin is not None, f"{requirement.name} has no pin in constraints.txt"
        (version,) = [specifier.version for specifier in pin.specifier]
        assert requirement.specifier.contains(version), f"{requirement} is not met by the pin {version}"


NO_ROS_KEY = {"mcap", "onnxruntime", "rosbags", "zstandard"}
ROS_KEYS = {"opencv-python-headless": "python3-opencv", "PyYAML": "python3-yaml"}


def test_the_ros_package_names_every_base_dependency_that_ros_has(root: Path) -> None:
    from packaging.requirements import Requirement

    base = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {Requirement(text).name for text in base} - NO_ROS_KEY
    listed = re.findall(r"<exec_depend>(python3-[\w-]+)</exec_depend>", (root / "package.xml").read_text())
    assert sorted(listed) == sorted(ROS_KEYS.get(name, f"python3-{name}") for name in names)


def test_the_doctor_describes_every_extra_that_a_run_may_use(root: Path) -> None:
    from eifer_ros.doctor import PURPOSES

    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(PURPOSES) == set(extras) - {"standard", "test", "lint", "docs"}
    standard = re.fullmatch(r"eifer_ros\[(.*)\]", *extras["standard"])
    assert standard is not None
    assert set(standard[1].split(",")) == set(PURPOSES) - {"train", "tensorboard", "depth"}


def test_the_base_asks_for_no_torch_and_no_old_numpy(root: Path) -> None:
    base = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    assert not any(text.startswith("torch") for text in base)
    assert "numpy>=2.0" in base


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source tree."""
    tmp_path = tmp_path_factory.mktemp("wheel")
    source = tmp_path / "source"
    shutil.copytree(
        root,
        source,
        ignore=shutil.ignore_patterns(
            ".venv*",
            ".git",
            "*_out",
            ".*_cache",
            "__pycache__",
            "*.egg-info",
            "build",
            "install",
            "log",
            "test",
        ),
    )
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            str(tmp_path),
            str(source),
        ],
        check=True,
        capture_output=True,
    )
    (path,) = tmp_path.glob("*.whl")
    return path


def test_a_wheel_carries_the_code_and_every_shared_file_and_no_recipe(root: Path, wheel: Path) -> None:
    files = zipfile.ZipFile(wheel).namelist()
    share = f"eifer_ros-{eifer_ros.__version__}.data/data/share/eifer_ros"
    for folder in ("models", "config", "eifer_msgs/msg", "eifer_msgs/srv", "eifer_msgs/action"):
        for path in (root / folder).iterdir():
            if path.is_file():
                assert f"{share}/{folder}/{path.name}" in files
    assert "eifer_ros/cli.py" in files
    assert "eifer_ros/py.typed" in files
    assert not any(name.startswith(("test/", "bench/", "research/", "tools/", "examples/")) for name in files)


@pytest.fixture(scope="module")
def installed(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python where the wheel is installed, in a folder that holds another `research`."""
    target, elsewhere = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    install = ["pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, "-m", *install], check=True, capture_output=True)
    other = elsewhere / "research" / "faces"
    other.mkdir(parents=True)
    (other.parent / "__init__.py").write_text("raise SystemExit('the wrong research')")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": str(target)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert str(target) in run("-c", "import eifer_ros; print(eifer_ros.__file__)").stdout
    return run


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("train face --reference a --sensors b --out c", "training recipes"),
        ("train refine --help", "training recipes"),
        ("head build", "training recipes"),
        ("models import-smirk smirk.pt --head-model open_head", "training recipes"),
        ("evaluate emg --bench --out out", "benchmarks"),
        ("evaluate all --bench --out out", "benchmarks"),
    ],
)
def test_an_installed_wheel_says_in_one_line_where_recipes_are(
    installed: Callable[..., subprocess.CompletedProcess[str]], words: str, what: str
) -> None:
    done = installed("-m", "eifer_ros.cli", *words.split())
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"eifer: {what} are part of the source tree")
    assert "pip install -e '.[train]'" in line


def test_rclpy_and_torch_stay_where_they_belong(root: Path) -> None:
    users = {"rclpy": 0, "torch": 0}
    for path in sorted((root / "eifer_ros").rglob("*.py")):
        inside = path.relative_to(root / "eifer_ros").as_posix()
        text = path.read_text()
        if re.search(r"^\s*(import|from) rclpy", text, re.MULTILINE):
            assert re.fullmatch(r"hosts/ros\w*\.py|nodes/\w+\.py", inside), inside
            users["rclpy"] += 1
        if re.search(r"^\s*(import|from) torch", text, re.MULTILINE):
            assert inside.startswith(("training/", "head/")), inside
            users["torch"] += 1
    assert min(users.values()) > 0


def test_importing_the_package_needs_no_optional_library() -> None:
    script = (
        "import sys, importlib, pkgutil, eifer_ros\n"
        "blocked = {'torch', 'anny', 'pylsl', 'brainflow', 'pyrealsense2', 'pyedflib', 'pyxdf', 'pythonosc', 'dynamixel_sdk', 'aiohttp', 'onnx', 'tflite',\n"
        "           'matplotlib', 'open3d', 'openpyxl', 'openvino', 'rclpy', 'skimage', 'hypothesis', 'pytest'}\n"
        "class Gate:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in blocked: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Gate())\n"
        "skip = ('eifer_ros.training.', 'eifer_ros.nodes.', 'eifer_ros.head.torch_model', 'eifer_ros.hosts.ros', 'eifer_ros.launching')\n"
        "for module in pkgutil.walk_packages(eifer_ros.__path__, 'eifer_ros.'):\n"
        "    if not module.name.startswith(skip): importlib.import_module(module.name)\n"
        "print('fine')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr
