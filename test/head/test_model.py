"""The head model against an independent, slow implementation of the same equations."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from eifer_ros.errors import ModelError
from eifer_ros.head.model import Embedding, HeadModel, load_head, rotation_matrix


def small_head(seed: int = 0) -> HeadModel:
    """A random head of 30 vertices with every optional part."""
    rng = np.random.default_rng(seed)
    count, shapes, actions = 30, 4, 5

    def f(*size: int) -> np.ndarray:
        return rng.normal(0.0, 0.01, size).astype(np.float32)

    weights = rng.random((count, 5)).astype(np.float32)
    embedding = Embedding(
        ("a", "b"), np.array([0, 3], np.int32), np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], np.float32)
    )
    return HeadModel(
        id="small",
        template=f(count, 3),
        faces=rng.integers(0, count, (20, 3)).astype(np.int32),
        shape_basis=f(count, 3, shapes),
        expression_basis=f(count, 3, actions),
        expression_names=tuple("abcde"),
        expression_bounds=np.tile(np.array([[0.0, 1.0]], np.float32), (actions, 1)),
        joints=("root", "neck", "jaw", "eye_left", "eye_right"),
        parents=np.array([-1, 0, 1, 1, 1], np.int32),
        joint_template=f(5, 3),
        joint_shape_basis=f(5, 3, shapes),
        joint_expression_basis=f(5, 3, actions),
        skin_weights=weights / weights.sum(axis=1, keepdims=True),
        regions={"face": np.arange(5, dtype=np.int32)},
        parts=np.zeros(count, np.uint8),
        part_names=("skin",),
        embeddings={"landmarks_68": embedding},
        licence="none",
        origin="test",
        pose_basis=f(count, 3, 36),
        eyelid_basis=f(count, 3, 2),
        gaze_basis=f(2, 3, actions),
    )


def reference(head: HeadModel, shape, expression, pose, eyelids) -> np.ndarray:
    """The equations of the FLAME paper, vertex by vertex with 4x4 matrices.

    pose: axis-angle by joint name.
    """
    rest = head.template + head.shape_basis @ shape + head.expression_basis @ expression
    joints = head.joint_template + head.joint_shape_basis @ shape + head.joint_expression_basis @ expression
    turns = [Rotation.from_rotvec(pose.get(name, np.zeros(3))).as_matrix() for name in head.joints]
    if head.pose_basis is not None:
        rest = rest + head.pose_basis @ np.concatenate([(turn - np.eye(3)).ravel() for turn in turns[1:]])
    world: list[np.ndarray] = []
    for index, parent in enumerate(head.parents):
        local = np.eye(4)
        local[:3, :3] = turns[index]
        local[:3, 3] = joints[index] if parent < 0 else joints[index] - joints[parent]
        world.append(local if parent < 0 else world[parent] @ local)
    out = np.zeros_like(rest, dtype=np.float64)
    for vertex, point in enumerate(rest):
        for joint, matrix in enumerate(world):
            moved = matrix @ np.append(point - joints[joint], 1.0)
            out[vertex] += head.skin_weights[vertex, joint] * moved[:3]
    if head.eyelid_basis is not None:
        out += head.eyelid_basis @ eyelids
    return out


angles = st.lists(st.floats(-1.2, 1.2), min_size=3, max_size=3)
numbers = st.lists(st.floats(-2.0, 2.0), min_size=9, max_size=9)


@settings(max_examples=40, deadline=None)
@given(numbers, angles, angles, angles, angles)
def test_vertices_agree_with_the_equations_written_out_vertex_by_vertex(
    values, jaw, neck, left, right
) -> None:
    head = small_head()
    shape, expression, eyelids = np.array(values[:4]), np.abs(values[4:9]), np.array([0.3, 0.8])
    got = head.vertices(shape, expression, jaw=jaw, neck=neck, eyes=[left, right], eyelids=eyelids)
    pose = {
        "jaw": np.array(jaw),
        "neck": np.array(neck),
        "eye_left": np.array(left),
        "eye_right": np.array(right),
    }
    assert np.abs(got - reference(head, shape, expression, pose, eyelids)).max() < 1e-6


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-7.0, 7.0), min_size=3, max_size=3))
def test_rotation_matrix_is_the_exponential_of_the_axis_angle(vector) -> None:
    assert np.allclose(rotation_matrix(vector), Rotation.from_rotvec(vector).as_matrix(), atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(st.floats(-3.0, 3.0), st.floats(-3.0, 3.0), st.integers(0, 3), st.integers(0, 4))
def test_without_pose_the_head_is_linear_in_shape_and_expression(a, b, k, e) -> None:
    head = small_head()
    shape, expression = np.eye(4)[k] * a, np.eye(5)[e] * b
    together = head.vertices(shape, expression) - head.template
    apart = (head.vertices(shape) - head.template) + (head.vertices(None, expression) - head.template)
    assert np.abs(together - apart).max() < 1e-6


def test_a_kept_neutral_gives_the_same_vertices() -> None:
    head = small_head()
    shape, expression = [0.5, -1.0, 0.2, 2.0], [0.1, 0.9, 0.0, 0.4, 0.3]
    kept = head.neutral(shape)
    assert np.array_equal(head.vertices(shape, expression, neutral=kept), head.vertices(shape, expression))


def test_fewer_coefficients_than_the_model_has_count_as_zero() -> None:
    head = small_head()
    assert np.allclose(head.vertices([1.0], [0.5]), head.vertices([1.0, 0, 0, 0], [0.5, 0, 0, 0, 0]))


def test_saving_and_loading_gives_the_same_head(tmp_path: Path) -> None:
    head = small_head()
    head.save(tmp_path / "small.npz")
    back = HeadModel.load(tmp_path / "small.npz")
    for field in dataclasses.fields(HeadModel):
        before, after = getattr(head, field.name), getattr(back, field.name)
        if isinstance(before, np.ndarray):
            assert np.allclose(before, after, atol=1e-7), field.name
        elif field.name not in ("regions", "embeddings"):
            assert before == after, field.name
    assert np.array_equal(back.regions["face"], head.regions["face"])
    assert np.array_equal(
        back.points(back.template, "landmarks_68"), head.points(head.template, "landmarks_68")
    )


def test_half_precision_on_disk_costs_less_than_a_hundredth_of_a_millimetre(tmp_path: Path) -> None:
    head = load_head()
    head.save(tmp_path / "half.npz", dtype=np.float16)
    back = HeadModel.load(tmp_path / "half.npz")
    rng = np.random.default_rng(0)
    shape, expression = rng.normal(size=head.shape_size), rng.random(head.expression_size)
    assert np.abs(back.vertices(shape, expression) - head.vertices(shape, expression)).max() < 1e-5


def test_points_lie_on_their_triangles() -> None:
    head = small_head()
    a, b, c = head.template[head.faces[0]]
    assert np.allclose(head.points(head.template, "landmarks_68")[0], 0.2 * a + 0.3 * b + 0.5 * c, atol=1e-7)


def test_an_unknown_embedding_is_named_with_those_that_exist() -> None:
    with pytest.raises(ModelError, match=r"no 'electrodes_fridlund'; it has landmarks_68"):
        small_head().embedding("electrodes_fridlund")


def test_a_wrong_array_is_named_with_the_shape_it_must_have() -> None:
    with pytest.raises(ModelError, match=r"shape_basis has shape .* it must be \(30, 3, 4\)|template"):
        dataclasses.replace(small_head(), shape_basis=np.zeros((29, 3, 4), np.float32))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.npz"):
        HeadModel.load(path)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    (tmp_path / "other.npz").write_bytes(buffer.getvalue())
    with pytest.raises(ModelError, match="not a head model"):
        HeadModel.load(tmp_path / "other.npz")


def test_a_face_of_another_head_is_refused() -> None:
    from eifer_ros.types import FaceOrigin, FaceState

    state = FaceState.lost(0, "flame2023", FaceOrigin.VISION, 4, 5)
    with pytest.raises(ModelError, match="flame2023"):
        small_head().state_vertices(state)
