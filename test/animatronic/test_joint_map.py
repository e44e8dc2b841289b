"""Joint maps: what is refused, by which name, and what the accepted ones make of a face."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from eifer_ros import resources
from eifer_ros.animatronic.joint_map import SOURCES, JointMap, load_joint_map, time_to_neutral
from eifer_ros.animatronic.solver import JointSolver
from eifer_ros.animatronic.urdf import load_urdf
from eifer_ros.errors import ConfigError, InputError
from eifer_ros.types import ARKIT_52

URDF = """<robot name="r"><link name="base"/><link name="a"/><link name="b"/><link name="c"/><link name="d"/>
<joint name="jaw" type="revolute"><parent link="base"/><child link="a"/><origin xyz="0 0 1" rpy="0.3 -0.2 0.5"/><axis xyz="0 1 0"/>
<limit lower="-0.2" upper="0.6" velocity="6" effort="1"/></joint>
<joint name="brow" type="revolute"><parent link="a"/><child link="b"/><origin xyz="1 0 0"/><axis xyz="1 1 0"/><limit lower="-1" upper="1" velocity="9" effort="1"/></joint>
<joint name="tongue" type="prismatic"><parent link="base"/><child link="c"/><axis xyz="1 0 0"/><limit lower="0" upper="1" velocity="1" effort="1"/></joint>
<joint name="twin" type="revolute"><parent link="base"/><child link="d"/><mimic joint="jaw" multiplier="-2" offset="0.1"/><axis xyz="0 1 0"/>
<limit lower="-2" upper="2" velocity="9" effort="1"/></joint></robot>"""

GOOD: dict[str, Any] = {
    "name": "r",
    "urdf": "r.urdf",
    "joints": {
        "jaw": {"blendshapes": {"jawOpen": 0.5}, "range": [0.0, 0.5], "speed": 5.0, "acceleration": 100.0},
        "brow": {
            "blendshapes": {"browInnerUp": 0.4},
            "range": [-0.5, 0.5],
            "speed": 8.0,
            "acceleration": 200.0,
        },
    },
}


def load(folder: Path, change: dict[str, Any] | None = None, urdf: str = URDF) -> JointMap:
    """The good map with `change` (dotted key -> value) applied."""
    tree = copy.deepcopy(GOOD)
    for key, value in (change or {}).items():
        node = tree
        *path, leaf = key.split(".")
        for part in path:
            node = node.setdefault(part, {})
        if value is ...:
            del node[leaf]
        else:
            node[leaf] = value
    (folder / "r.urdf").write_text(urdf)
    (folder / "map.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return load_joint_map(folder / "map.yaml")


def test_a_good_map_loads_in_the_files_order(tmp_path: Path) -> None:
    assert load(tmp_path).names == ("jaw", "brow")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"joints.jaww": GOOD["joints"]["jaw"]}, "joint 'jaww' is not in r.urdf; did you mean 'jaw'"),
        ({"joints.jaw.blendshapes": {"jawOpened": 1.0}}, "no blendshape 'jawOpened'; did you mean 'jawOpen'"),
        ({"joints.jaw.range": [0.5, 0.0]}, "range [0.5, 0] is reversed"),
        ({"joints.jaw.range": [-0.3, 0.5]}, "goes beyond the limits [-0.2, 0.6]"),
        ({"joints.jaw.neutral": 0.7}, "neutral 0.7 lies outside"),
        ({"joints.jaw.speed": 7.0}, "speed 7 rad/s is above the limit 6"),
        ({"joints.jaw.speed": 0.0}, "joints.jaw.speed"),
        ({"joints.jaw.speed": float("nan")}, "joints.jaw.speed"),
        ({"joints.jaw.speed": 0.5}, "needs 1.88 s"),
        ({"joints.jaw.acceleration": ...}, "joints.jaw.acceleration"),
        ({"joints.jaw.direction": 2}, "direction 2 must be 1 or -1"),
        ({"joints.jaw.colour": 1}, "unknown key 'joints.jaw.colour'"),
        ({"joints.tongue": GOOD["joints"]["jaw"]}, "joint 'tongue' is prismatic"),
        ({"joints.twin": GOOD["joints"]["jaw"]}, "joint 'twin' follows 'jaw'"),
        ({"joints": {}}, "joints"),
        ({"urdf": "none.urdf"}, "none.urdf: cannot be read"),
        ({"rate_hz": 5}, "rate_hz"),
        ({"hold_s": 0.5}, "hold_s"),
        (
            {"couplings.x.features.up": {"blendshapes": {"jawOpen": 1}, "joints": {"jaw": 1}}},
            "'jaw' has blendshapes of its own",
        ),
        (
            {"couplings.x.features.up": {"blendshapes": {"jawOpen": 1}, "joints": {"brw": 1}}},
            "'brw' is not in the map; did you mean 'brow'",
        ),
        (
            {"couplings.x.features.up": {"blendshapes": {"smile": 1}, "joints": {"brow": 1}}},
            "no blendshape 'smile'",
        ),
        ({"couplings.x.features": {}}, "coupling 'x' has no features"),
        ({"driver": {"type": "dynamixel"}}, "joint 'jaw' has no servo.id"),
        (
            {
                "driver": {"type": "pca9685"},
                "joints.jaw.servo": {"channel": 3},
                "joints.brow.servo": {"channel": 3},
            },
            "same servo.channel 3",
        ),
        ({"driver": {"type": "stepper"}}, "driver: 'stepper' names no servo driver"),
        ({"driver": {"type": "dynamixel", "watchdog_s": 5}}, "driver: dynamixel: watchdog_s = 5"),
        ({"poses": {"p": {"jar": 0.1}}}, "pose 'p' names the joint 'jar'"),
        ({"poses": {"p": {"jaw": 0.9}}}, "pose 'p' puts 'jaw' at 0.9"),
    ],
)
def test_a_wrong_map_is_refused_by_the_name_of_what_is_wrong(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises((ConfigError, InputError)) as caught:
        load(tmp_path, change)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("urdf", "said"),
    [
        ("<robot", "not valid XML"),
        ("<sdf/>", "not a URDF"),
        ("<robot/>", "0 links have no parent"),
        (
            URDF.replace('lower="-0.2" upper="0.6"', 'lower="0.6" upper="-0.2"'),
            "joint 'jaw' has reversed limits",
        ),
        (URDF.replace('child link="a"', 'child link="z"'), "names the link 'z'"),
        (URDF.replace('name="brow"', 'name="jaw"'), "'jaw' stands there twice"),
        (URDF.replace('lower="-0.2"', 'lower="low"'), "'low' must be 1 number"),
        (URDF.replace('axis xyz="1 1 0"', 'axis xyz="0 0 0"'), "axis 0 0 0"),
        (URDF.replace("</robot>", '<link name="loose"/></robot>'), "2 links have no parent"),
    ],
)
def test_a_wrong_urdf_is_refused_by_name(tmp_path: Path, urdf: str, said: str) -> None:
    with pytest.raises((ConfigError, InputError)) as caught:
        load(tmp_path, urdf=urdf)
    assert said in str(caught.value)


def test_unreadable_maps_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [1,\nb")
    (tmp_path / "list.yaml").write_text("- 1")
    for name, said in (
        ("none.yaml", "cannot be read"),
        ("bad.yaml", "not valid YAML at line"),
        ("list.yaml", "must hold a mapping"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_joint_map(tmp_path / name)


def test_link_poses_follow_the_joints(tmp_path: Path) -> None:
    (tmp_path / "r.urdf").write_text(URDF)
    robot = load_urdf(tmp_path / "r.urdf")
    poses = robot.poses({"jaw": 0.4, "brow": -0.3})
    # URDF: rpy are fixed-axis angles; a joint turns about its own axis
    a = Rotation.from_euler("xyz", [0.3, -0.2, 0.5]) * Rotation.from_rotvec([0, 0.4, 0])
    assert poses["a"][:3, :3] == pytest.approx(a.as_matrix(), abs=1e-12)
    b = a * Rotation.from_rotvec(-0.3 * np.array([1, 1, 0]) / np.sqrt(2))
    assert poses["b"][:3, :3] == pytest.approx(b.as_matrix(), abs=1e-12)
    assert poses["b"][:3, 3] == pytest.approx(a.apply([1, 0, 0]) + np.array([0, 0, 1]), abs=1e-12)
    assert poses["d"][:3, :3] == pytest.approx(
        Rotation.from_rotvec([0, -2 * 0.4 + 0.1, 0]).as_matrix(), abs=1e-12
    )  # mimic


@pytest.fixture(scope="module")
def example() -> JointMap:
    return load_joint_map(resources.model("example_face.yaml"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_example_map_solves_couplings_as_a_general_solver_does(example: JointMap, seed: int) -> None:
    checked = example
    rng = np.random.default_rng(seed)
    sources = np.concatenate([rng.uniform(0, 1, 52), rng.normal(size=3) * 0.5])
    got = dict(zip(checked.names, JointSolver(checked)(sources[:52], sources[52:]), strict=True))
    joints = checked.config.joints
    for name, joint in joints.items():
        low, high = joint.range
        assert low <= got[name] <= high
        if joint.blendshapes:
            wish = joint.neutral + joint.direction * sum(
                weight * sources[SOURCES.index(s)] for s, weight in joint.blendshapes.items()
            )
            assert got[name] == pytest.approx(np.clip(wish, low, high), abs=1e-12)
    for coupling in checked.config.couplings.values():
        names = list(next(iter(coupling.features.values())).joints)
        gives = np.array([[f.weight**0.5 * f.joints[n] for n in names] for f in coupling.features.values()])
        wants = [
            f.weight**0.5 * sum(w * sources[SOURCES.index(s)] for s, w in f.blendshapes.items())
            for f in coupling.features.values()
        ]
        pull = np.sqrt(coupling.rest * np.mean(np.diag(gives.T @ gives))) * np.eye(len(names))
        bounds = ([joints[n].range[0] for n in names], [joints[n].range[1] for n in names])
        best = scipy.optimize.lsq_linear(
            np.vstack([gives, pull]), np.concatenate([wants, np.zeros(len(names))]), bounds, tol=1e-14
        ).x
        assert [got[n] for n in names] == pytest.approx(best, abs=1e-5)


def test_direction_turns_a_joint_round(tmp_path: Path) -> None:
    weights = np.zeros(52)
    weights[ARKIT_52.index("browInnerUp")] = 0.5
    there = JointSolver(load(tmp_path))(weights)[1]
    back = JointSolver(load(tmp_path, {"joints.brow.direction": -1}))(weights)[1]
    assert there == pytest.approx(0.2)
    assert back == pytest.approx(-0.2)


def test_the_example_face_keeps_what_the_issue_asks_of_it() -> None:
    checked = load_joint_map(resources.model("example_face.yaml"))
    assert 16 <= len(checked.names) <= 24
    assert all(checked.urdf.joints[name].kind == "revolute" for name in checked.names)
    for joint in checked.config.joints.values():
        assert time_to_neutral(joint) <= 0.8 * checked.config.ease_s
    for part in ("brow", "lid", "eye", "jaw", "corner", "lip", "cheek", "neck"):
        assert any(name.startswith(part) for name in checked.names)


def test_the_example_urdf_is_what_its_program_writes() -> None:
    import importlib.util

    source = Path(__file__).parents[2] / "tools" / "make_example_face.py"
    spec = importlib.util.spec_from_file_location("make_example_face", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert resources.model("example_face.urdf").read_text() == module.build()
