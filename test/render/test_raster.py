"""The z-buffer against a slow per-pixel reference and against a sphere, whose depth has a formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.errors import InputError
from eifer_ros.head import projection
from eifer_ros.render import rasteriser as raster


def brute_force(v, faces, width, height):
    """Every pixel against every triangle, weights by solving the 3x3 system in float64."""
    xs, ys = np.meshgrid(np.arange(width), np.arange(height))
    target = np.stack([xs, ys, np.ones_like(xs)], axis=-1).reshape(-1, 3).T
    best = np.zeros(width * height)
    index = np.full(width * height, -1)
    weights = np.zeros((width * height, 3))
    edge = np.zeros(width * height, bool)  # too near an edge or to another surface to judge
    for number, face in enumerate(faces):
        corner = v[face].astype(np.float64)
        matrix = np.vstack([corner[:, :2].T, np.ones(3)])
        if abs(np.linalg.det(matrix)) < 1e-9 or np.any(corner[:, 2] <= raster.NEAR_M):
            continue
        flat = np.linalg.solve(matrix, target).T
        edge |= (np.abs(flat).min(axis=1) < 1e-6) & np.all(flat > -1e-6, axis=1)
        inverse = flat @ (1 / corner[:, 2])
        inside = np.all(flat >= 0, axis=1)
        edge |= inside & (np.abs(inverse - best) < 1e-5 * np.abs(best))
        wins = inside & (inverse > best)
        best[wins], index[wins] = inverse[wins], number
        weights[wins] = (flat / corner[:, 2] / np.where(inverse == 0, 1, inverse)[:, None])[wins]
    depth = np.where(index >= 0, 1 / np.where(best > 0, best, 1), np.inf)
    shape = (height, width)
    return index.reshape(shape), weights.reshape(*shape, 3), depth.reshape(shape), edge.reshape(shape)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 40), height=st.integers(1, 30))
def test_random_triangles_match_a_per_pixel_reference(seed, width, height):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 12))
    v = np.column_stack(
        [
            rng.uniform(-0.5 * width, 1.5 * width, 3 * count),
            rng.uniform(-0.5 * height, 1.5 * height, 3 * count),
            rng.uniform(-0.1, 2.0, 3 * count),
        ]
    ).astype(np.float32)
    faces = rng.permutation(3 * count).reshape(count, 3)
    index, bary, depth = raster.rasterise(v, faces, width, height)
    want_index, want_bary, want_depth, unclear = brute_force(v, faces, width, height)
    sure = ~unclear
    np.testing.assert_array_equal(index[sure], want_index[sure])
    np.testing.assert_allclose(depth[sure], want_depth[sure], rtol=1e-5)
    np.testing.assert_allclose(bary[sure], want_bary[sure], atol=1e-4)


def sphere(radius, rings=120, sectors=240):
    theta = np.linspace(0, np.pi, rings + 1)[:, None]
    phi = np.arange(sectors)[None] * 2 * np.pi / sectors
    points = np.stack(
        [np.sin(theta) * np.cos(phi), np.cos(theta) + 0 * phi, np.sin(theta) * np.sin(phi)], axis=-1
    )
    grid = np.arange((rings + 1) * sectors).reshape(rings + 1, sectors)
    right = np.roll(grid, -1, axis=1)
    quads = np.stack([grid[:-1], right[:-1], right[1:], grid[1:]], axis=-1).reshape(-1, 4)
    return radius * points.reshape(-1, 3), np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def test_depth_of_a_sphere_matches_the_ray_formula():
    radius, distance, width, height = 0.1, 0.6, 160, 120
    K = projection.default_intrinsics(width, height)
    points, faces = sphere(radius)
    pose = projection.facing_pose(distance, yaw=0.4, pitch=0.2)
    index, bary, depth = raster.rasterise(projection.project(points, pose, K), faces, width, height)
    ys, xs = np.mgrid[:height, :width]
    ray = np.stack([(xs - K[0, 2]) / K[0, 0], (ys - K[1, 2]) / K[1, 1], np.ones_like(xs)], axis=-1)
    # |s ray - (0, 0, d)| = r, nearer root; depth is s because the ray's z is 1
    square = (ray**2).sum(-1)
    root = distance**2 - square * (distance**2 - radius**2)
    hit = root > 0
    want = (distance - np.sqrt(np.where(hit, root, 0))) / square
    facets = radius * (1 - np.cos(np.pi / 120))  # how deep a chord of the mesh lies under the sphere
    clear = root > 0.02 * distance**2 * (radius / distance) ** 2
    assert np.all(index[clear] >= 0)
    # a chord's depth error seen along a slanting ray grows by the cosine of incidence
    slant = np.sqrt(root[clear]) / radius / np.sqrt(square[clear])
    assert np.all(np.abs(depth[clear] - want[clear]) <= facets / slant + 1e-6)
    assert np.all(index[root < -1e-4] == -1)
    seen = index >= 0
    surface = np.einsum("nk,nkd->nd", bary[seen], projection.to_camera(points, pose)[faces[index[seen]]])
    np.testing.assert_allclose(surface[:, 2], depth[seen], atol=2e-6)
    np.testing.assert_allclose(surface[:, :2] / surface[:, 2:], ray[seen][:, :2], atol=2e-5)


def test_the_shared_edge_of_two_triangles_leaves_no_hole():
    rng = np.random.default_rng(3)
    for _ in range(20):
        around = np.array([[2, 3], [57, 1], [59, 58], [1, 55]]) + rng.uniform(-1, 1, (4, 2))
        corners = np.column_stack([around, np.ones(4)])
        index, _, _ = raster.rasterise(corners, [[0, 1, 2], [0, 2, 3]], 61, 61)
        assert np.all(index[6:53, 6:53] >= 0)


def test_the_earlier_of_two_equal_surfaces_wins_whichever_way_it_winds():
    v = np.array([[0, 0, 1], [9, 0, 1], [0, 9, 1]], np.float32)
    for first, second in (([0, 1, 2], [0, 2, 1]), ([0, 2, 1], [0, 1, 2])):
        index, _, _ = raster.rasterise(v, [first, second], 10, 10)
        assert set(np.unique(index)) == {-1, 0}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_triangle_with_an_unknown_corner_is_left_out(bad):
    v = np.array([[0, 0, 1], [9, 0, 1], [0, 9, 1], [0, 0, 2], [9, 0, 2], [bad, 9, 1]], np.float32)
    index, _, depth = raster.rasterise(v, [[3, 4, 5], [0, 1, 2]], 10, 10)
    assert set(np.unique(index)) == {-1, 1}
    assert np.all(depth[index < 0] == np.inf)


def test_faces_outside_the_vertices_are_refused_by_number():
    with pytest.raises(InputError, match=r"0\.\.2"):
        raster.rasterise(np.zeros((3, 3)), [[0, 1, 3]], 4, 4)


def scene(seed):
    """Triangles of both windings, with shared edges on whole numbers, doubles and an unknown corner."""
    rng = np.random.default_rng(seed)
    v = np.column_stack(
        [rng.uniform(-10, 90, 60), rng.uniform(-10, 70, 60), rng.uniform(0.4, 0.9, 60)]
    ).astype(np.float32)
    v[:6, :2] = [[0, 0], [40, 0], [0, 30], [40, 0], [40, 30], [0, 30]]
    v[:6, 2] = 0.5
    v[-1, 0] = np.nan
    faces = np.arange(60, dtype=np.int32).reshape(20, 3)
    return v, np.concatenate([faces, faces[:3]])


def triangles(samples):
    return np.where(samples > 0, raster.LAST - (samples & raster.LAST), -1)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_drawing_in_two_parts_in_any_order_is_drawing_at_once(order):
    v, faces = scene(3)
    index, _, depth = raster.rasterise(v, faces, 80, 60)
    samples, spans = raster.new_samples(80, 60)
    for part in order:
        begin, end = (0, 9) if part == 0 else (9, len(faces))
        raster.fill(v, faces[begin:end], raster.NEAR_M, samples, spans, begin, 0)
    np.testing.assert_array_equal(triangles(samples), index)
    seen = index >= 0
    inverse = [raster.inverse_depth(sample) for sample in samples[seen]]
    np.testing.assert_allclose(inverse, 1.0 / depth[seen], rtol=1e-6)


def test_spans_are_as_wide_as_what_was_drawn():
    v, faces = scene(4)
    samples, spans = raster.new_samples(80, 60)
    raster.fill(v, faces, raster.NEAR_M, samples, spans, 0, 0)
    for row, (first, end) in enumerate(spans):
        columns = np.flatnonzero(samples[row])
        assert (first, end) == ((columns[0], columns[-1] + 1) if len(columns) else (80, 0))


def test_culling_leaves_the_triangles_that_run_the_other_way():
    v, faces = scene(5)
    a, b, c = v[faces].astype(np.float64).transpose(1, 0, 2)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
    for cull in (1, -1):
        samples, spans = raster.new_samples(80, 60)
        raster.fill(v, faces, raster.NEAR_M, samples, spans, 0, cull)
        drawn = set(np.unique(triangles(samples))) - {-1}
        assert drawn and all(area[face] * cull > 0 for face in drawn)
