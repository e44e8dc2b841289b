from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.head import projection
from eifer_ros.nodes import _face_view as view
from eifer_ros.nodes._humans import ACTION_UNITS, action_units
from eifer_ros.types import ARKIT_52, NS, FaceOrigin, FaceState, MuscleActivity
from eifer_ros.wire.messages import ROSBAGS, deserialise, serialise

T0 = 1_760_000_000 * NS


@pytest.fixture(scope="module")
def shown() -> view.FaceView:
    made = view.FaceView(view.FaceViewConfig())
    made.setup()
    return made


def face(stamp: int = T0, pose: Any = None, **weights: float) -> FaceState:
    expression = np.zeros(52, np.float32)
    for name, value in weights.items():
        expression[ARKIT_52.index(name)] = value
    placed = projection.facing_pose(0.6) if pose is None else pose
    return FaceState(
        stamp,
        "open_head",
        FaceOrigin.FUSED,
        np.zeros(80),
        expression,
        np.zeros(52),
        np.zeros(3),
        np.zeros(3),
        np.zeros((2, 3)),
        np.zeros(2),
        placed,
        1.0,
    )


@given(
    st.integers(0, 7),
    st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=9),
    st.integers(0, 2**31 * NS - 1),
)
@settings(deadline=None, max_examples=40)
def test_a_mesh_written_as_blocks_has_the_bytes_of_one_written_message_by_message(
    count: int, frame: str, stamp: int
) -> None:
    rng = np.random.default_rng(count)
    corners, colours = rng.normal(size=(3 * count, 3)), rng.random((3 * count, 4)).astype(np.float32)
    points = [
        ROSBAGS.make("geometry_msgs/msg/Point", x=float(x), y=float(y), z=float(z)) for x, y, z in corners
    ]
    painted = [
        ROSBAGS.make("std_msgs/msg/ColorRGBA", r=float(r), g=float(g), b=float(b), a=float(a))
        for r, g, b, a in colours
    ]
    written = view.triangle_marker(stamp, frame, "face/mesh", corners, colours)
    if count:
        assert written == serialise(view._marker(stamp, frame, "face/mesh", points, painted))
    read = deserialise(written, view.MARKER)
    assert (len(read.points), len(read.colors), read.header.frame_id, read.ns, read.type) == (
        3 * count,
        3 * count,
        frame,
        "face/mesh",
        11,
    )


def test_the_face_frame_sits_at_the_sellion_with_x_out_of_the_face_and_z_up(shown: view.FaceView) -> None:
    placed = shown.transform(face())
    assert placed is not None
    camera_z, camera_up = np.array([0, 0, 1.0]), np.array([0, -1.0, 0])  # optical frame: z forward, y down
    assert np.allclose(placed[:3, 0], -camera_z, atol=1e-6)  # the face looks at the camera
    assert np.allclose(placed[:3, 2], camera_up, atol=1e-6)
    assert np.allclose(np.linalg.det(placed[:3, :3]), 1.0)
    head = shown.head
    assert head is not None
    nose = head.points(head.template, "landmarks_68")[view._SELLION]
    expected = face().head_pose @ np.append(nose, 1.0)
    assert np.allclose(placed[:3, 3], expected[:3], atol=1e-5)


def test_a_face_without_a_place_has_no_transform(shown: view.FaceView) -> None:
    assert shown.transform(face(pose=np.full((4, 4), np.nan))) is None


def test_the_mesh_in_its_own_frame_is_where_the_head_is_in_the_camera(shown: view.FaceView) -> None:
    state = face(jawOpen=0.7)
    placed = shown.transform(state)
    assert placed is not None and shown.head is not None
    corners = shown.triangles(state) @ placed[:3, :3].T + placed[:3, 3]
    vertices = shown.head.state_vertices(state)
    expected = (vertices @ state.head_pose[:3, :3].T + state.head_pose[:3, 3])[shown.head.faces.reshape(-1)]
    assert np.allclose(corners, expected, atol=1e-5)


def test_a_working_muscle_warms_the_skin_over_it_and_nothing_else(shown: view.FaceView) -> None:
    shown.reset()
    names = ("F1", "F2")
    still = MuscleActivity(T0, "fridlund", names, np.full(2, 1e-5), np.zeros(2), np.ones(2))
    left = MuscleActivity(T0 + 1, "fridlund", names, np.full(2, 1e-5), np.array([1.0, 0.0]), np.ones(2))
    shown.muscles = still
    cold = shown.warm()
    shown.muscles = left
    changed = np.abs(shown.warm() - cold).max(axis=1) > 0.05
    assert changed.any()
    from eifer_ros.viewer import heat

    assert shown.head is not None
    site = heat.sites(shown.head, "fridlund", ("F1",))[0]
    corners = shown.head.template[shown.head.faces.reshape(-1)][changed]
    assert np.linalg.norm(corners - site, axis=1).max() < 0.05


def test_the_best_source_is_shown_and_a_poorer_one_only_when_it_is_silent() -> None:
    made = view.FaceView()
    list(made.handle("face/vision", face(T0)))
    assert made.face is not None and made.face.stamp == T0
    list(made.handle("face/fused", face(T0 + NS // 10)))
    list(made.handle("face/vision", face(T0 + NS // 5)))
    assert made.face.stamp == T0 + NS // 10
    list(made.handle("face/vision", face(T0 + 2 * NS)))
    assert made.face.stamp == T0 + 2 * NS


def test_action_units_are_those_of_the_facs_numbers() -> None:
    weights = np.zeros(52, np.float32)
    weights[[ARKIT_52.index("mouthSmileLeft"), ARKIT_52.index("mouthSmileRight")]] = 0.8, 0.4
    intensity, confidence = action_units(weights)
    assert intensity[12] == pytest.approx(0.6)  # lip corner puller: the mean of both sides
    assert np.flatnonzero(intensity).tolist() == [12]
    assert set(np.flatnonzero(confidence)) == set(ACTION_UNITS)


def test_the_action_unit_table_names_blendshapes_that_exist() -> None:
    assert all(name in ARKIT_52 for names in ACTION_UNITS.values() for name in names)


def test_every_executable_has_a_module_and_is_named_in_the_packaging(root: Path) -> None:
    modules = {path.stem for path in (root / "eifer_ros" / "nodes").glob("[a-z]*.py")}
    text = (root / "setup.py").read_text()
    assert modules == {name for name in modules if f'"{name}"' in text}
    assert {"camera", "pipeline", "face_view"} <= modules
