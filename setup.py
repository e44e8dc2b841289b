"""Packaging that pyproject.toml cannot say: the files of share/eifer_ros, for pip and for ament alike, and
the ROS executables.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
SHARE = Path("share/eifer_ros")
NODES = (
    "animatronic",
    "avatar",
    "camera",
    "emg",
    "emg_source",
    "face_view",
    "mapping",
    "performer",
    "pipeline",
    "reconstruction",
    "recorder",
    "replay",
    "spotter",
)
SHARED = ("models", "config", "launch", "eifer_msgs/msg", "eifer_msgs/srv", "eifer_msgs/action")


def data_files() -> list[tuple[str, list[str]]]:
    """(installation folder, files) of everything that is not Python."""
    files = sorted(
        path.relative_to(HERE) for folder in SHARED for path in (HERE / folder).rglob("*") if path.is_file()
    )
    listed = [
        (str(SHARE / folder), [str(path) for path in group])
        for folder, group in groupby(files, key=lambda path: path.parent)
    ]
    return [
        ("share/ament_index/resource_index/packages", ["resource/eifer_ros"]),
        (str(SHARE), ["package.xml"]),
        *listed,
    ]


def console_scripts() -> list[str]:
    """`eifer`, and where colcon builds, by `setup.py install` or `develop`, the nodes for `ros2 run`.

    pip builds a wheel, whose scripts go to everybody's PATH: no place for a command called `camera`.
    """
    scripts = ["eifer = eifer_ros.cli:main"]
    if {"install", "develop"} & set(sys.argv):
        scripts += [f"{node} = eifer_ros.nodes.{node}:main" for node in NODES]
    return scripts


setup(
    name="eifer_ros",
    python_requires=">=3.11",
    license="Apache-2.0",
    license_files=["LICENSE", "models/NOTICE"],
    entry_points={"console_scripts": console_scripts()},
    packages=find_packages(include=["eifer_ros", "eifer_ros.*"]),
    package_data={"eifer_ros": ["py.typed", "viewer/static/*", "viewer/static/**/*"]},
    data_files=data_files(),
    zip_safe=False,
)
