"""The torch z-buffer: it sees what the numba one sees, and its gradients are those of finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from eifer_ros.errors import InputError  # noqa: E402
from eifer_ros.head import projection  # noqa: E402
from eifer_ros.head.model import load_head  # noqa: E402
from eifer_ros.head.torch_model import TorchHead  # noqa: E402
from eifer_ros.render import rasteriser as raster  # noqa: E402
from research.common.torch_raster import (  # noqa: E402
    Camera,
    FaceRenderer,
    interpolate,
    rasterise,
    solve_camera,
    vertex_normals,
    visible,
)

SIZE = 96


@pytest.fixture(scope="module")
def head() -> TorchHead:
    return TorchHead(load_head())


@pytest.fixture(scope="module")
def seen(head: TorchHead) -> np.ndarray:
    """The head from two sides in pixels and metres, (2, V, 3)."""
    model = head.head
    K = projection.default_intrinsics(SIZE, SIZE)
    views = [projection.facing_pose(0.45, yaw=yaw, pitch=0.1, centre=(0, 0, 0)) for yaw in (0.0, 0.7)]
    centre = model.template.mean(axis=0)
    return np.stack([projection.project(model.template - centre, pose, K) for pose in views]).astype(
        np.float32
    )


@pytest.mark.parametrize("method", ["numba", "torch"])
def test_sees_the_triangles_that_the_numba_raster_sees(
    head: TorchHead, seen: np.ndarray, method: str
) -> None:
    fragments = rasterise(torch.from_numpy(seen), head.faces, SIZE, SIZE, method=method)
    for one, vertices in enumerate(seen):
        face, weights, depth = raster.rasterise(vertices, head.head.faces, SIZE, SIZE)
        assert (face >= 0).mean() > 0.2
        same = fragments.face[one].numpy() == face
        assert same.mean() > 0.999  # pixels exactly on an edge may fall to the neighbour
        np.testing.assert_allclose(fragments.weights[one].numpy()[same], weights[same], atol=2e-4)
        z = interpolate(fragments, head.faces, torch.from_numpy(seen))[one, ..., 2].numpy()
        both = same & (face >= 0)
        np.testing.assert_allclose(z[both], depth[both], rtol=1e-5)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 12))
def test_scatter_and_numba_agree_on_random_triangles(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    vertices = rng.uniform(-8, 40, (1, 3 * count, 3)).astype(np.float32)
    vertices[..., 2] = rng.uniform(-0.2, 2.0, (1, 3 * count))  # some behind the camera
    faces = torch.arange(3 * count).reshape(count, 3)
    pictures = [visible(torch.from_numpy(vertices), faces, 32, 24, method) for method in ("numba", "torch")]
    assert (pictures[0] != pictures[1]).float().mean() < 0.01


def test_of_two_triangles_at_equal_depth_the_earlier_wins_and_the_nearer_beats_both() -> None:
    flat = torch.tensor([[2.0, 2.0, 1.0], [14.0, 2.0, 1.0], [2.0, 14.0, 1.0]])
    near = flat * torch.tensor([1.0, 1.0, 0.5])
    faces = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    for method in ("numba", "torch"):
        assert visible(torch.cat([flat, flat])[None], faces[:2], 16, 16, method)[0, 5, 5] == 0
        assert visible(torch.cat([flat, flat, near])[None], faces, 16, 16, method)[0, 5, 5] == 2


def test_vertices_that_are_not_finite_are_left_out() -> None:
    vertices = torch.tensor([[[2.0, 2.0, 1.0], [14.0, 2.0, 1.0], [2.0, torch.nan, 1.0]]])
    for method in ("numba", "torch"):
        assert (visible(vertices, torch.tensor([[0, 1, 2]]), 16, 16, method) == -1).all()


def test_arrays_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(B, V, 3\)"):
        visible(torch.zeros(4, 3), torch.zeros(1, 3, dtype=torch.int64), 8, 8)


@pytest.mark.parametrize("perspective", [True, False])
def test_gradient_of_the_weights_equals_finite_differences(perspective: bool) -> None:
    rng = np.random.default_rng(0)
    base = np.array([[1.0, 1.0, 0.8], [9.0, 2.0, 1.2], [3.0, 9.0, 1.0], [10.0, 10.0, 0.9]])
    vertices = torch.tensor(base + rng.normal(0, 0.1, base.shape))[None].requires_grad_()
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])
    face = visible(vertices, faces, 12, 12)
    values = torch.tensor(rng.normal(0, 1, (1, 4, 2)))
    mix = torch.tensor(rng.normal(0, 1, (1, 12, 12, 2)))

    def picture(v: torch.Tensor) -> torch.Tensor:
        return (
            interpolate(rasterise(v, faces, 12, 12, perspective=perspective, face=face), faces, values) * mix
        ).sum()

    assert (face >= 0).sum() > 30
    assert torch.autograd.gradcheck(picture, (vertices,))


def test_gradient_of_a_drawn_face_with_respect_to_expression_equals_finite_differences(
    head: TorchHead,
) -> None:
    renderer = FaceRenderer(head, 48)
    names = head.head.expression_names
    chosen = [names.index(name) for name in ("jawOpen", "mouthSmileLeft", "browInnerUp")]
    rotation = torch.diag(torch.tensor([1.0, -1.0, -1.0]))[None]
    points = head.points(head.vertices())
    flat = (points @ rotation.transpose(1, 2))[..., :2]
    scale = 0.8 / (flat.amax(1) - flat.amin(1)).amax()
    camera = Camera(rotation, scale[None], 0.5 - scale * flat.mean(1))
    face: list[torch.Tensor] = []

    def loss(values: torch.Tensor) -> torch.Tensor:
        expression = torch.zeros(1, len(names)).index_put(
            (torch.zeros(3, dtype=torch.int64), torch.tensor(chosen)), values
        )
        vertices = head.vertices(None, expression)
        if not face:
            face.append(visible(camera.project(vertices, 48), renderer.faces, 48, 48))
        fragments = rasterise(
            camera.project(vertices, 48), renderer.faces, 48, 48, perspective=False, face=face[0]
        )
        ramp = torch.linspace(0, 1, 48)[None, :, None, None]
        drawn = interpolate(
            fragments, renderer.faces, torch.cat([vertices * 10, vertex_normals(vertices, renderer.faces)], 2)
        )
        return (drawn * ramp).double().mean() * 1e3

    values = torch.tensor([0.3, 0.2, 0.1], requires_grad=True)
    loss(values).backward()
    for k in range(3):
        step = torch.zeros(3)
        step[k] = 2e-3
        with torch.no_grad():
            slope = (loss(values + step) - loss(values - step)) / 4e-3
        assert float(values.grad[k]) == pytest.approx(float(slope), rel=0.03, abs=2e-3)


@given(st.integers(0, 2**31))
def test_the_camera_that_made_landmarks_is_found_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = torch.tensor(rng.normal(0, 0.05, (2, 30, 3)))
    turn, _ = np.linalg.qr(rng.normal(0, 1, (2, 3, 3)))
    made = Camera(
        torch.tensor(turn), torch.tensor(rng.uniform(2, 8, 2)), torch.tensor(rng.uniform(0, 1, (2, 2)))
    )
    found = solve_camera(points, made.rotation, made.project(points, 1)[..., :2])
    torch.testing.assert_close(found.scale, made.scale, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.shift, made.shift, rtol=1e-6, atol=1e-9)


def test_a_face_is_drawn_inside_its_landmarks_and_carries_gradients(head: TorchHead) -> None:
    renderer = FaceRenderer(head, 64)
    expression = torch.zeros(2, head.head.expression_size, requires_grad=True)
    vertices = head.vertices(None, expression)
    rotation = torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(2, 3, 3)
    points = head.points(vertices)
    landmarks = (points @ rotation.transpose(1, 2))[..., :2] * 4.0
    landmarks = landmarks - landmarks.mean(dim=1, keepdim=True) + 0.5
    picture, fragments = renderer.draw(vertices, solve_camera(points, rotation, landmarks))
    assert picture.shape == (2, 3, 64, 64) and 0.15 < float(fragments.covered.float().mean()) < 0.9
    assert float(picture[0][:, ~fragments.covered[0]].abs().max()) == 0.0 and float(picture.max()) > 0.5
    picture.square().sum().backward()
    assert torch.isfinite(expression.grad).all() and float(expression.grad.abs().max()) > 0.0
