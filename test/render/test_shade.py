"""Shading of a mesh: normals of a sphere by formula, pictures that change where and only where they should."""

import numpy as np
import pytest

from eifer_ros.errors import InputError
from eifer_ros.head import projection
from eifer_ros.render import rasteriser as raster
from eifer_ros.render import shade

WIDTH, HEIGHT = 96, 80
K = projection.default_intrinsics(WIDTH, HEIGHT)


def ball(radius=0.1, rings=24, sectors=48):
    theta = np.linspace(0, np.pi, rings + 1)[:, None]
    phi = np.arange(sectors)[None] * 2 * np.pi / sectors
    points = np.stack(
        [np.sin(theta) * np.cos(phi), np.cos(theta) + 0 * phi, np.sin(theta) * np.sin(phi)], axis=-1
    ).reshape(-1, 3)
    grid = np.arange((rings + 1) * sectors).reshape(rings + 1, sectors)
    right = np.roll(grid, -1, axis=1)
    quads = np.stack([grid[:-1], right[:-1], right[1:], grid[1:]], axis=-1).reshape(-1, 4)
    return radius * points, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def covered(points, faces, pose):
    return raster.rasterise(projection.project(points, pose, K), faces, WIDTH, HEIGHT)[0] >= 0


def test_vertex_normals_of_a_ball_point_outwards():
    points, faces = ball()
    normals = shade.vertex_normals(points, faces)
    inner = np.abs(points[:, 1]) < 0.099  # the poles are many vertices at one place
    cosines = (normals * points / 0.1).sum(axis=1)[inner]
    assert cosines.min() > 0.999


def test_the_side_towards_the_light_is_brighter():
    points, faces = ball()
    pose = projection.facing_pose(0.5)
    for light, brighter, darker in (
        ((1, 0, -1), np.s_[40, 65], np.s_[40, 30]),
        ((0, -1, -1), np.s_[22, 48], np.s_[58, 48]),
    ):
        image = shade.render(points, faces, K, pose, (WIDTH, HEIGHT), light=light)
        assert int(image[brighter][0]) > int(image[darker][0]) + 30


def test_a_grey_picture_is_grey_on_black_and_covers_the_mesh_exactly():
    points, faces = ball()
    pose = projection.facing_pose(0.5)
    image = shade.render(points, faces, K, pose, (WIDTH, HEIGHT))
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    assert np.ptp(image.astype(int), axis=2).max() == 0
    np.testing.assert_array_equal(image[:, :, 0] > 0, covered(points, faces, pose))


def test_winding_does_not_change_the_light():
    points, faces = ball()
    pose = projection.facing_pose(0.5)
    one = shade.render(points, faces, K, pose, (WIDTH, HEIGHT)).astype(int)
    two = shade.render(points, faces[:, ::-1], K, pose, (WIDTH, HEIGHT)).astype(int)
    assert np.abs(one - two).max() <= 1


@pytest.mark.parametrize("wireframe", [False, True])
def test_an_overlay_changes_only_the_mesh_and_nothing_at_alpha_zero(wireframe):
    points, faces = ball()
    pose = projection.facing_pose(0.5)
    image = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    before = image.copy()
    result = shade.overlay(image, points, faces, K, pose, 0.6, wireframe=wireframe)
    np.testing.assert_array_equal(image, before)
    changed = np.any(result != image, axis=2)
    mask = covered(points, faces, pose)
    assert changed[mask].mean() > (0.3 if wireframe else 0.95)
    ys, xs = np.nonzero(~mask)
    near = mask[np.clip(ys[:, None] + [-2, -1, 0, 1, 2], 0, HEIGHT - 1)][
        :, :, :
    ]  # lines are a pixel or two wide
    outside = ~np.array([near[i][:, max(0, x - 2) : x + 3].any() for i, x in enumerate(xs)])
    assert not changed[ys[outside], xs[outside]].any()
    np.testing.assert_array_equal(
        shade.overlay(image, points, faces, K, pose, 0.0, wireframe=wireframe), image
    )


def test_overlay_is_the_weighted_mean_of_picture_and_mesh():
    points, faces = ball()
    pose = projection.facing_pose(0.5)
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    full = shade.overlay(image, points, faces, K, pose, 1.0).astype(float)
    half = shade.overlay(image, points, faces, K, pose, 0.25).astype(float)
    np.testing.assert_allclose(half, 0.75 * image + 0.25 * full, atol=0.51)


def test_alpha_above_one_is_refused():
    points, faces = ball()
    with pytest.raises(InputError, match=r"0\.\.1"):
        shade.overlay(
            np.zeros((HEIGHT, WIDTH, 3), np.uint8), points, faces, K, projection.facing_pose(0.5), 1.5
        )
