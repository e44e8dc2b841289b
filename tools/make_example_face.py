"""Writes models/example_face.urdf: a robot face of boxes, cylinders and spheres with 24 joints.

    python tools/make_example_face.py [OUT]

Frames follow REP-103: x out of the face, y to the robot's left, z up, metres. Every joint's positive
direction is the one its name says: up, open, closed, left. Written by a program because eyelids are fans of
slats and left must mirror right.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

SKIN = "0.90 0.74 0.63 1"
SKIN_DARK = "0.82 0.64 0.54 1"
WHITE = "0.96 0.96 0.95 1"
IRIS = "0.16 0.42 0.55 1"
BLACK = "0.05 0.04 0.05 1"
BROW = "0.26 0.16 0.10 1"
LIP = "0.74 0.27 0.27 1"
METAL = "0.45 0.47 0.50 1"
CHEEK = "0.92 0.62 0.55 1"
EYE = (0.058, 0.034, 0.022)
EYE_RADIUS = 0.017
LID_RADIUS = 0.0195
JAW_PIVOT = (0.0, 0.0, -0.020)
MOUTH_X = 0.079
UPPER_Z = -0.0485
LOWER_Z = -0.0555
BAR = 0.026

parts: list[str] = []


def fmt(values: tuple[float, ...] | list[float]) -> str:
    """Numbers for an attribute."""
    return " ".join(f"{value:.6g}" for value in values)


def visual(
    shape: str, size: str, colour: str, xyz: tuple[float, ...] = (0, 0, 0), rpy: tuple[float, ...] = (0, 0, 0)
) -> str:
    """One primitive."""
    return (
        f'    <visual>\n      <origin xyz="{fmt(xyz)}" rpy="{fmt(rpy)}"/>\n      <geometry><{shape} {size}/></geometry>\n'
        f'      <material name="c{colour.replace(" ", "_").replace(".", "")}"><color rgba="{colour}"/></material>\n    </visual>\n'
    )


def box(
    size: tuple[float, ...],
    colour: str,
    xyz: tuple[float, ...] = (0, 0, 0),
    rpy: tuple[float, ...] = (0, 0, 0),
) -> str:
    """A box."""
    return visual("box", f'size="{fmt(size)}"', colour, xyz, rpy)


def sphere(radius: float, colour: str, xyz: tuple[float, ...] = (0, 0, 0)) -> str:
    """A sphere."""
    return visual("sphere", f'radius="{radius:.6g}"', colour, xyz)


def cylinder(
    radius: float,
    length: float,
    colour: str,
    xyz: tuple[float, ...] = (0, 0, 0),
    rpy: tuple[float, ...] = (0, 0, 0),
) -> str:
    """A cylinder, along z before `rpy`."""
    return visual("cylinder", f'radius="{radius:.6g}" length="{length:.6g}"', colour, xyz, rpy)


def link(name: str, *visuals: str) -> None:
    """A link of primitives; inertia of a small plastic part, for simulators."""
    inertial = (
        '    <inertial>\n      <mass value="0.02"/>\n'
        '      <inertia ixx="1e-5" ixy="0" ixz="0" iyy="1e-5" iyz="0" izz="1e-5"/>\n    </inertial>\n'
    )
    parts.append(f'  <link name="{name}">\n{"".join(visuals)}{inertial}  </link>\n')


def joint(
    name: str,
    parent: str,
    child: str,
    xyz: tuple[float, ...],
    axis: str,
    low: float,
    high: float,
    speed: float,
) -> None:
    """A revolute joint."""
    parts.append(
        f'  <joint name="{name}" type="revolute">\n    <parent link="{parent}"/>\n    <child link="{child}"/>\n'
        f'    <origin xyz="{fmt(xyz)}"/>\n'
        f'    <axis xyz="{axis}"/>\n    <limit lower="{low:g}" upper="{high:g}" effort="2" velocity="{speed:g}"/>\n  </joint>\n'
    )


def slats(first: float, last: float, count: int, colour: str) -> list[str]:
    """An eyelid: slats on a circle about y, from elevation `first` to `last` in degrees."""
    out = []
    each = (last - first) / count
    for i in range(count):
        angle = math.radians(first + (i + 0.5) * each)
        width = 0.037 if i else 0.034
        height = 1.12 * LID_RADIUS * math.radians(abs(each))
        out.append(
            box(
                (0.003, width, height),
                colour,
                (LID_RADIUS * math.cos(angle), 0, LID_RADIUS * math.sin(angle)),
                (0, -angle, 0),
            )
        )
    return out


def neck_and_head() -> None:
    """Base, neck and skull."""
    link(
        "base_link",
        cylinder(0.075, 0.012, METAL, (0, 0, -0.006)),
        cylinder(0.032, 0.03, METAL, (0, 0, 0.015)),
    )
    link("neck_yaw_link", cylinder(0.027, 0.05, METAL, (0, 0, 0.025)))
    joint("neck_yaw", "base_link", "neck_yaw_link", (0, 0, 0.03), "0 0 1", -0.8, 0.8, 3)
    link("neck_pitch_link", cylinder(0.02, 0.06, METAL, (0, 0, 0), (math.pi / 2, 0, 0)))
    joint("neck_pitch", "neck_yaw_link", "neck_pitch_link", (0, 0, 0.055), "0 1 0", -0.5, 0.5, 3)
    link(
        "head",
        cylinder(0.03, 0.05, SKIN_DARK, (-0.005, 0, -0.085)),
        sphere(0.083, SKIN, (-0.014, 0, 0.045)),
        sphere(0.078, SKIN, (-0.004, 0, 0.030)),
        sphere(0.070, SKIN, (0.004, 0, -0.008)),
        sphere(0.058, SKIN, (0.006, 0, -0.030)),
        cylinder(0.019, 0.012, SKIN_DARK, (-0.005, 0.074, 0.004), (math.pi / 2, 0, 0)),
        cylinder(0.019, 0.012, SKIN_DARK, (-0.005, -0.074, 0.004), (math.pi / 2, 0, 0)),
        box((0.014, 0.048, 0.030), BLACK, (0.0565, 0, -0.060)),  # the inside of the mouth
        box((0.006, 0.032, 0.007), WHITE, (0.0660, 0, -0.0500)),  # upper teeth
        cylinder(0.0165, 0.040, SKIN, (0.0585, 0, -0.0345), (math.pi / 2, 0, 0)),  # the upper lip's ground
        sphere(0.0165, SKIN, (0.0585, 0.020, -0.0345)),
        sphere(0.0165, SKIN, (0.0585, -0.020, -0.0345)),
        sphere(0.0125, SKIN_DARK, (0.084, 0, -0.020)),
        cylinder(0.008, 0.040, SKIN_DARK, (0.0775, 0, -0.001), (0, -0.32, 0)),
        sphere(0.0075, SKIN_DARK, (0.078, 0.010, -0.023)),
        sphere(0.0075, SKIN_DARK, (0.078, -0.010, -0.023)),
        *(
            cylinder(0.0235, 0.004, SKIN_DARK, (EYE[0] + 0.002, side * EYE[1], EYE[2]), (0, math.pi / 2, 0))
            for side in (1, -1)
        ),
    )
    joint("neck_roll", "neck_pitch_link", "head", (0, 0, 0.115), "1 0 0", -0.4, 0.4, 3)


def eyes_and_brows(side: str, sign: int) -> None:
    """One eye with its lids and brow."""
    place = (EYE[0], sign * EYE[1], EYE[2])
    link(f"eye_{side}_gimbal")
    joint(f"eye_{side}_yaw", "head", f"eye_{side}_gimbal", place, "0 0 1", -0.6, 0.6, 15)
    link(
        f"eye_{side}",
        sphere(EYE_RADIUS, WHITE),
        cylinder(0.0085, 0.004, IRIS, (0.0150, 0, 0), (0, math.pi / 2, 0)),
        cylinder(0.0042, 0.0046, BLACK, (0.0152, 0, 0), (0, math.pi / 2, 0)),
    )
    joint(f"eye_{side}_pitch", f"eye_{side}_gimbal", f"eye_{side}", (0, 0, 0), "0 1 0", -0.5, 0.5, 15)
    link(f"lid_{side}_upper_link", *slats(25, 110, 9, SKIN_DARK))
    joint(f"lid_{side}_upper", "head", f"lid_{side}_upper_link", place, "0 1 0", -0.4, 1.1, 15)
    link(f"lid_{side}_lower_link", *slats(-40, -105, 7, SKIN))
    joint(f"lid_{side}_lower", "head", f"lid_{side}_lower_link", place, "0 -1 0", -0.3, 0.6, 15)
    # the brow: an arm about the middle of the head lifts it, a hinge at its own middle tilts it
    link(f"brow_{side}_arm")
    joint(f"brow_{side}_raise", "head", f"brow_{side}_arm", (0.0, 0.0, 0.020), "0 -1 0", -0.16, 0.22, 8)
    link(
        f"brow_{side}",
        box((0.009, 0.022, 0.0095), BROW, (0, -sign * 0.009, 0.0003)),
        box((0.009, 0.020, 0.0075), BROW, (-0.0025, sign * 0.0105, -0.0008), (sign * -0.16, 0, sign * 0.22)),
    )
    joint(
        f"brow_{side}_tilt",
        f"brow_{side}_arm",
        f"brow_{side}",
        (0.0705, sign * 0.035, 0.0345),
        f"{sign} 0 0",
        -0.6,
        0.6,
        8,
    )
    link(f"cheek_{side}_link", sphere(0.021, CHEEK, (0.049, 0, -0.010)))
    joint(f"cheek_{side}", "head", f"cheek_{side}_link", (0.0, sign * 0.040, -0.014), "0 -1 0", -0.1, 0.35, 8)


def mouth() -> None:
    """Jaw and lips: each lip is two bars hinged in the middle, so that the corners can go up and down."""
    px, _, pz = JAW_PIVOT
    link(
        "jaw_link",
        box((0.030, 0.046, 0.032), BLACK, (0.038 - px, 0, -0.058 - pz)),  # comes into sight as the jaw opens
        box((0.024, 0.050, 0.0335), SKIN, (0.0645 - px, 0, -0.0710 - pz)),
        *(cylinder(0.012, 0.0335, SKIN, (0.0645 - px, side * 0.025, -0.0710 - pz)) for side in (1, -1)),
        cylinder(0.0175, 0.040, SKIN, (0.060 - px, 0, -0.0885 - pz), (math.pi / 2, 0, 0)),
        *(sphere(0.0175, SKIN, (0.060 - px, side * 0.020, -0.0885 - pz)) for side in (1, -1)),
        *(sphere(0.030, SKIN, (0.026 - px, side * 0.028, -0.066 - pz)) for side in (1, -1)),
        box((0.006, 0.028, 0.006), WHITE, (0.0640 - px, 0, -0.0500 - pz)),
    )
    joint("jaw", "head", "jaw_link", JAW_PIVOT, "0 1 0", -0.05, 0.5, 8)
    for lip, parent, z, axis in (
        ("upper", "head", UPPER_Z, "0 -1 0"),
        ("lower", "jaw_link", LOWER_Z, "0 1 0"),
    ):
        link(f"lip_{lip}_link", sphere(0.0048, LIP, (MOUTH_X, 0, z - pz)))
        joint(
            f"lip_{lip}",
            parent,
            f"lip_{lip}_link",
            JAW_PIVOT if lip == "upper" else (0, 0, 0),
            axis,
            -0.1,
            0.2,
            8,
        )
        for side, sign in (("left", 1), ("right", -1)):
            link(
                f"lip_{side}_{lip}",
                cylinder(0.0046, BAR, LIP, (-0.0015, sign * BAR / 2, 0), (math.pi / 2, 0, sign * 0.12)),
                sphere(0.0046, LIP, (-0.003, sign * BAR, 0)),
            )
            joint(
                f"corner_{side}_{lip}",
                f"lip_{lip}_link",
                f"lip_{side}_{lip}",
                (MOUTH_X, 0, z - pz),
                f"{sign} 0 0",
                -0.7,
                0.9,
                10,
            )


def build() -> str:
    """The whole file."""
    parts.clear()
    neck_and_head()
    for side, sign in (("left", 1), ("right", -1)):
        eyes_and_brows(side, sign)
    mouth()
    note = "<!-- Written by tools/make_example_face.py; do not edit. Apache-2.0. -->\n"
    return f'<?xml version="1.0"?>\n{note}<robot name="example_face">\n{"".join(parts)}</robot>\n'


if __name__ == "__main__":
    out = (
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "models" / "example_face.urdf"
    )
    out.write_text(build(), encoding="utf-8")
    print(f"wrote {out}")
