"""The part of URDF that a joint map needs, and simple shapes for a picture: links, joints, limits, primitive
visuals.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transforms3d.axangles import axangle2mat
from transforms3d.euler import euler2mat

from ..errors import ConfigError, InputError
from ..types import F64

MOVABLE = ("revolute", "continuous", "prismatic")


@dataclass(frozen=True)
class Visual:
    """A box (size x, y, z), cylinder (radius, length along z) or sphere (radius) in its link's frame, metres;
    colour RGBA 0..1.
    """

    shape: str
    size: tuple[float, ...]
    origin: F64
    colour: tuple[float, float, float, float]


@dataclass(frozen=True)
class UrdfJoint:
    """origin: (4, 4) from the parent link to the joint at zero.

    lower, upper rad (or m); velocity rad/s, NaN where not given.

    mimic: (joint, multiplier, offset) or None.
    """

    name: str
    kind: str
    parent: str
    child: str
    origin: F64
    axis: F64
    lower: float
    upper: float
    velocity: float
    mimic: tuple[str, float, float] | None


@dataclass(frozen=True)
class Urdf:
    """A robot: joints by name, visuals by link, the root link."""

    name: str
    path: Path
    joints: dict[str, UrdfJoint]
    visuals: dict[str, tuple[Visual, ...]]
    root: str

    def poses(self, positions: dict[str, float]) -> dict[str, F64]:
        """(4, 4) pose of each link in the root's frame.

        Joints that are not named stand at zero; mimics follow.
        """
        poses: dict[str, F64] = {self.root: np.eye(4)}
        waiting = list(self.joints.values())
        while waiting:
            ready = [joint for joint in waiting if joint.parent in poses]
            if not ready:
                raise ConfigError(
                    f"{self.path}: link '{waiting[0].parent}' is not connected to '{self.root}'"
                )
            for joint in ready:
                poses[joint.child] = (
                    poses[joint.parent] @ joint.origin @ _motion(joint, self._position(joint, positions))
                )
                waiting.remove(joint)
        return poses

    def _position(self, joint: UrdfJoint, positions: dict[str, float]) -> float:
        if joint.mimic is not None:
            leader, multiplier, offset = joint.mimic
            return positions.get(leader, 0.0) * multiplier + offset
        return positions.get(joint.name, 0.0)


def load_urdf(path: Path) -> Urdf:
    """Read a URDF.

    Raises InputError where it cannot be read, ConfigError where it says something impossible.
    """
    try:
        root = ET.fromstring(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ET.ParseError as error:
        raise InputError(f"{path}: not valid XML ({error})") from None
    if root.tag != "robot":
        raise InputError(f"{path}: not a URDF; the top element is <{root.tag}>, it must be <robot>")
    materials = {
        m.get("name", ""): _colour(m, path) for m in root.findall("material") if m.find("color") is not None
    }
    visuals: dict[str, tuple[Visual, ...]] = {}
    for link in root.findall("link"):
        visuals[link.get("name", "")] = tuple(
            v for element in link.findall("visual") for v in _visual(element, materials, path)
        )
    joints: dict[str, UrdfJoint] = {}
    for element in root.findall("joint"):
        joint = _joint(element, path)
        if joint.name in joints:
            raise ConfigError(f"{path}: joint '{joint.name}' stands there twice")
        for end in (joint.parent, joint.child):
            if end not in visuals:
                raise ConfigError(f"{path}: joint '{joint.name}' names the link '{end}', which is not there")
        joints[joint.name] = joint
    children = {joint.child for joint in joints.values()}
    roots = [name for name in visuals if name not in children]
    if len(roots) != 1:
        raise ConfigError(
            f"{path}: {len(roots)} links have no parent ({', '.join(roots) or 'none'}); a robot has exactly one root"
        )
    return Urdf(root.get("name", path.stem), path, joints, visuals, roots[0])


def _joint(element: ET.Element, path: Path) -> UrdfJoint:
    name = element.get("name", "")
    kind = element.get("type", "")
    parent, child, limit, mimic = (element.find(tag) for tag in ("parent", "child", "limit", "mimic"))
    if not name or parent is None or child is None:
        raise ConfigError(f"{path}: joint '{name}' lacks a name, a parent or a child")
    where = f"{path}: joint '{name}'"
    lower = 0.0
    upper = 0.0
    velocity = float("nan")
    if kind == "continuous":
        lower = -np.inf
        upper = np.inf
    if limit is not None:
        if kind in ("revolute", "prismatic"):
            lower, upper = (
                _number(limit.get(key, "0"), f"{where} limit {key}") for key in ("lower", "upper")
            )
        if limit.get("velocity"):
            velocity = _number(limit.get("velocity", ""), f"{where} limit velocity")
    if lower > upper:
        raise ConfigError(f"{where} has reversed limits: lower {lower:g} is above upper {upper:g}")
    axis_element = element.find("axis")
    axis = _numbers(
        axis_element.get("xyz", "1 0 0") if axis_element is not None else "1 0 0", 3, f"{where} axis"
    )
    if kind in MOVABLE and not np.linalg.norm(axis) > 0:
        raise ConfigError(f"{where} has the axis 0 0 0")
    follows = None
    if mimic is not None:
        multiplier, offset = (
            _number(mimic.get(key, default), f"{where} mimic")
            for key, default in (("multiplier", "1"), ("offset", "0"))
        )
        follows = (mimic.get("joint", ""), multiplier, offset)
    origin = _origin(element.find("origin"), where)
    return UrdfJoint(
        name,
        kind,
        parent.get("link", ""),
        child.get("link", ""),
        origin,
        axis,
        lower,
        upper,
        velocity,
        follows,
    )


def _visual(
    element: ET.Element, materials: dict[str, tuple[float, float, float, float]], path: Path
) -> list[Visual]:
    """The primitive of a visual; meshes are left to programs that have a mesh loader."""
    geometry = element.find("geometry")
    material = element.find("material")
    colour = (0.6, 0.6, 0.6, 1.0)
    if material is not None:
        colour = (
            _colour(material, path)
            if material.find("color") is not None
            else materials.get(material.get("name", ""), colour)
        )
    if geometry is None or len(geometry) == 0:
        return []
    shape = geometry[0]
    where = f"{path}: a {shape.tag}"
    if shape.tag == "box":
        size: tuple[float, ...] = tuple(_numbers(shape.get("size", ""), 3, where))
    elif shape.tag == "cylinder":
        size = (_number(shape.get("radius", ""), where), _number(shape.get("length", ""), where))
    elif shape.tag == "sphere":
        size = (_number(shape.get("radius", ""), where),)
    else:
        return []
    return [Visual(shape.tag, size, _origin(element.find("origin"), where), colour)]


def _colour(element: ET.Element, path: Path) -> tuple[float, float, float, float]:
    colour = element.find("color")
    r, g, b, a = _numbers(colour.get("rgba", "") if colour is not None else "", 4, f"{path}: a colour")
    return float(r), float(g), float(b), float(a)


def _number(text: str, where: str) -> float:
    return float(_numbers(text, 1, where)[0])


def _numbers(text: str, count: int, where: str) -> F64:
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError:
        values = np.zeros(0)
    if len(values) != count or not np.isfinite(values).all():
        raise ConfigError(f"{where}: '{text}' must be {count} number{'s' if count > 1 else ''}")
    return values


def _origin(element: ET.Element | None, where: str) -> F64:
    pose = np.eye(4)
    if element is None:
        return pose
    pose[:3, 3] = _numbers(element.get("xyz", "0 0 0"), 3, f"{where} origin xyz")
    roll, pitch, yaw = _numbers(element.get("rpy", "0 0 0"), 3, f"{where} origin rpy")
    # URDF: fixed axes x, y, z in that order
    pose[:3, :3] = euler2mat(roll, pitch, yaw, "sxyz")
    return pose


def _motion(joint: UrdfJoint, position: float) -> F64:
    pose = np.eye(4)
    if joint.kind in ("revolute", "continuous"):
        pose[:3, :3] = axangle2mat(joint.axis, position)
    elif joint.kind == "prismatic":
        pose[:3, 3] = joint.axis / np.linalg.norm(joint.axis) * position
    return pose
