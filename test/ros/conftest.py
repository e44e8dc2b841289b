"""What tests under a real ROS 2 need: eifer_msgs built, a domain of their own, a peer that talks to nodes.

Without ROS 2 every test of this folder skips, and the run says how many and why.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ros_peer import ROOT, Peer

from eifer_ros.errors import WireError
from eifer_ros.wire import messages

if importlib.util.find_spec("rclpy") is not None:
    MISSING = ""
elif any(Path("/opt/ros").glob("*/setup.bash")):
    MISSING = "ROS 2 is installed but not sourced: . /opt/ros/<distro>/setup.bash"
else:
    MISSING = "no ROS 2 here (AMENT_PREFIX_PATH is empty, /opt/ros has nothing)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.ros)
            if MISSING:
                item.add_marker(pytest.mark.skip(reason=MISSING))


# ---------------------------------------------------------------- eifer_msgs


def _site_packages(prefix: Path) -> Path:
    return next(
        prefix.glob("lib/python3*/site-packages"),
        next(prefix.glob("local/lib/python3*/dist-packages"), prefix),
    )


def _build_messages() -> Path:
    """colcon-build eifer_msgs once per version of its definitions; concurrent test processes wait for the
    first.
    """
    if importlib.util.find_spec("colcon_core") is None:
        pytest.skip("eifer_msgs is not built and colcon is not installed")
    files = sorted(path for path in (ROOT / "eifer_msgs").rglob("*") if path.is_file())
    digest = hashlib.sha256(
        b"".join(path.read_bytes() for path in files) + os.environ.get("AMENT_PREFIX_PATH", "").encode()
    ).hexdigest()[:16]
    base = Path(tempfile.gettempdir()) / f"eifer_msgs_{os.getuid()}_{digest}"
    base.mkdir(exist_ok=True)
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "done").exists():
            system = shutil.which("python3", path="/usr/bin") or sys.executable
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
                    str(ROOT / "eifer_msgs"),
                    "--build-base",
                    str(base / "build"),
                    "--install-base",
                    str(base / "install"),
                    "--cmake-args",
                    "-DBUILD_TESTING=OFF",
                    f"-DPython3_EXECUTABLE={system}",
                ],
                cwd=base,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                pytest.fail(f"eifer_msgs does not build:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
            (base / "done").touch()
    return base / "install"


def _use(prefix: Path) -> None:
    """Make a prefix known to this process and its children, as sourcing its setup file would have."""
    for name, value in (
        ("AMENT_PREFIX_PATH", prefix),
        ("PYTHONPATH", _site_packages(prefix)),
        ("LD_LIBRARY_PATH", prefix / "lib"),
    ):
        os.environ[name] = os.pathsep.join(part for part in (str(value), os.environ.get(name, "")) if part)
    sys.path.insert(0, str(_site_packages(prefix)))
    # the loader read LD_LIBRARY_PATH when this process began: what is loaded already is found by its name
    left = sorted((prefix / "lib").glob("*.so"))
    while left:
        still = []
        for library in left:
            try:
                ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
            except OSError:
                still.append(library)
        if len(still) == len(left):
            break
        left = still


@pytest.fixture(scope="session")
def eifer_msgs() -> None:
    """eifer_msgs as rosidl builds them, importable here and in nodes."""
    if MISSING:
        pytest.skip(MISSING)
    try:
        messages.rosidl()
    except WireError:
        for name in [name for name in sys.modules if name.split(".")[0] == "eifer_msgs"]:
            del sys.modules[name]  # the source folder imports as an empty namespace package
        _use(_build_messages())
        messages.rosidl()


# ---------------------------------------------------------------- isolation


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS domain that no other test uses, in this process and in nodes started from it."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    try:
        import domain_coordinator
    except ImportError:
        chosen: contextlib.AbstractContextManager[int] = contextlib.nullcontext(1 + os.getpid() % 100)
    else:
        chosen = domain_coordinator.domain_id()
    with chosen as number:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
        yield int(number)


@pytest.fixture
def peer(eifer_msgs: None, domain: int) -> Iterator[Peer]:
    """A node that talks to those under test."""
    made = Peer(domain)
    try:
        yield made
    finally:
        made.close()
