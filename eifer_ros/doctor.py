"""What is installed, what is missing and what it would add, which devices are there: in plain words."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from . import resources, threads
from .component import Device
from .errors import EiferError, InputError, MissingExtra
from .head.model import load_head
from .registry import BUILT_IN, registries

PACKAGE = "eifer_ros"
PURPOSES = {
    "realsense": "Intel RealSense cameras: colour, aligned depth, metric head pose",
    "lsl": "Lab Streaming Layer: live EMG from most lab amplifiers, and XDF files",
    "brainflow": "OpenBCI, ANT and other boards through BrainFlow",
    "files": "XDF, EDF and BDF recordings, Excel workbooks",
    "animatronic": "Dynamixel servos, PCA9685 boards",
    "bids": "BIDS export, checked by mne-bids",
    "batch": "many recordings at once, Parquet tables",
    "viewer": "the live page in a browser",
    "report": "figures of an evaluation",
    "depth": "point clouds and mesh export",
    "openvino": "faster networks on Intel processors",
    "tensorboard": "curves and pictures of a training run in TensorBoard",
    "train": "training networks and rebuilding the open head",
}
"""Extra -> what it adds. What it consists of is written in pyproject.toml and read from the installed metadata."""

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


def requirements(extra: str = "") -> list[Requirement]:
    """What the installed package depends on: its base, or what `extra` adds to it.

    Raises
    ------
    InputError
        The package runs from a folder without having been installed.
    """
    try:
        texts = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"{PACKAGE} is not installed, only on the path: pip install . in its folder"
        ) from None

    def applies(requirement: Requirement, extra: str) -> bool:
        return requirement.marker is None or requirement.marker.evaluate({"extra": extra})

    every = [Requirement(text) for text in texts]
    return [one for one in every if applies(one, extra) and not (extra and applies(one, ""))]


def _shortfall(requirement: Requirement) -> str:
    """What is wrong with a distribution: absent or too old. Empty where nothing is."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{version}, but {requirement.specifier} is needed"


def _import_error(name: str, modules: Mapping[str, Sequence[str]]) -> str:
    """Why the module of an installed distribution cannot be imported. Empty where it can."""
    public = sorted(module for module in modules.get(canonicalize_name(name), ()) if module[0] != "_")
    public.sort(key=lambda module: canonicalize_name(module) != canonicalize_name(name))
    try:
        for module in public[:1]:
            importlib.import_module(module)
    except Exception as error:  # a broken binary must become a line, not a crash
        return f"{type(error).__name__}: {error}"
    return ""


def examine() -> Report:
    """Look at everything. Nothing here raises: a device that cannot be asked becomes a line."""
    report = Report()
    _machine(report)
    try:
        _base(report)
        _extras(report)
    except InputError as error:
        report.add("base", PACKAGE, "problem", str(error))
    _models(report)
    _ros(report)
    _kinds(report)
    return report


def _base(report: Report) -> None:
    for requirement in requirements():
        shortfall = _shortfall(requirement)
        if shortfall:
            detail = f"{shortfall}: pip install '{requirement.name}{requirement.specifier}'"
            report.add("base", requirement.name, "problem", detail)
        else:
            report.add("base", requirement.name, "ok", importlib.metadata.version(requirement.name))


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
    modules: dict[str, list[str]] = {}
    for module, distributions in importlib.metadata.packages_distributions().items():
        for distribution in distributions:
            modules.setdefault(canonicalize_name(distribution), []).append(module)
    for extra, purpose in PURPOSES.items():
        unusable = []
        for requirement in requirements(extra):
            why = _shortfall(requirement) or _import_error(requirement.name, modules)
            if why:
                unusable.append(requirement.name + (f" ({why})" if why != "not installed" else ""))
        if unusable:
            detail = f"adds {purpose}: pip install 'eifer_ros[{extra}]' ({', '.join(unusable)} not usable)"
            report.add("extras", extra, "missing", detail)
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


def _kinds(report: Report) -> None:
    """Every kind of device, and what is there of it now."""
    absent = {one.name for one in report.findings if one.group == "extras" and one.state != "ok"}
    for group, registry in registries().items():
        problems = registry.problems()
        for entry in registry.entries():
            try:
                device = registry.load(entry.scheme)
                registry.config_type(entry.scheme)
                discover: Callable[[], tuple[Device, ...]] | None = getattr(device, "discover", None)
                if discover is None and entry.extra in absent:
                    detail = f"{entry.what}: pip install 'eifer_ros[{entry.extra}]'"
                    report.add(group, entry.scheme, "missing", detail)
                    continue
                present = () if discover is None else discover()
            except EiferError as error:
                if str(error) not in problems:
                    missing = isinstance(error, MissingExtra)
                    report.add(group, entry.scheme, "missing" if missing else "none", str(error))
                continue
            entry = registry.entry(entry.scheme)  # a plug-in says more once it is imported
            extra = f" (extra {entry.extra})" if entry.extra else ""
            origin = f" (from {entry.origin})" if entry.origin != BUILT_IN else ""
            report.add(group, entry.scheme, "ok", f"{entry.usage}: {entry.what}{extra}{origin}")
            for one in present:
                report.add(group, one.url, "ok", ", ".join(text for text in (one.name, one.detail) if text))
        for problem in problems:
            report.add(group, "plug-in", "missing", problem)
