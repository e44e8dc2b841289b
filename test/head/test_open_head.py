"""What the open head promises: the committed asset, and a small head built afresh."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from eifer_ros import resources
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.render import rasteriser as raster
from eifer_ros.types import ARKIT_52
from research.open_head import build_open_head, contact, embed, oral

EYEBALLS = tuple(f"{part}_{side}" for part in ("eye", "iris", "pupil") for side in ("left", "right"))
TEETH_AND_MOUTH = ("teeth_upper", "teeth_lower", "gums_upper", "gums_lower", "mouth", "tongue")


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head("open_head")


def expression(**weights: float) -> np.ndarray:
    """Coefficients by name; a name without a side stands for both."""
    values = np.zeros(52, np.float32)
    for name, weight in weights.items():
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in ARKIT_52:
                values[ARKIT_52.index(full)] = weight
    return values


def visible_mm2(head: HeadModel, vertices: np.ndarray, parts: tuple[str, ...]) -> float:
    """Area of `parts` seen from straight ahead, without perspective."""
    scale, size = 4000.0, 640
    wanted = np.isin(head.parts, [head.part_names.index(part) for part in parts])
    pixels = np.c_[
        size / 2 + vertices[:, 0] * scale, size / 2 - (vertices[:, 1] + 0.04) * scale, 1.0 - vertices[:, 2]
    ]
    face_index, _, _ = raster.rasterise(pixels.astype(np.float32), head.faces, size, size)
    seen = face_index[face_index >= 0]
    return float(wanted[head.faces[seen][:, 0]].sum()) / scale**2 * 1e6


def people(head: HeadModel, count: int = 8) -> np.ndarray:
    return np.random.default_rng(11).normal(size=(count, head.shape_size))


def mirror(head: HeadModel) -> np.ndarray:
    """For every vertex the one at -x of the same part's other side; doubled rim vertices are told apart by
    their part.
    """
    other = np.array(
        [
            head.part_names.index(name.replace("left", "#").replace("right", "left").replace("#", "right"))
            for name in head.part_names
        ]
    )
    key = np.c_[head.template * [-1, 1, 1], other[head.parts]]
    distance, index = cKDTree(np.c_[head.template, head.parts]).query(key)
    assert distance.max() < 1e-5
    return index


def test_the_file_is_at_most_8_mb() -> None:
    assert resources.model("open_head.npz").stat().st_size <= 8e6


def test_expressions_are_the_52_arkit_actions_in_order_with_bounds_0_to_1(head: HeadModel) -> None:
    assert head.expression_names == ARKIT_52
    assert np.array_equal(head.expression_bounds, np.tile([[0.0, 1.0]], (52, 1)))


def test_every_action_moves_the_face_but_not_more_than_a_face_moves(head: HeadModel) -> None:
    skin = np.isin(head.parts, [head.part_names.index(name) for name in ("skin", "tongue")])
    size = np.linalg.norm(head.expression_basis[skin], axis=1).max(axis=0)
    assert size.min() > 1e-3
    assert size.max() < 45e-3


def test_actions_of_the_left_and_right_are_mirror_images(head: HeadModel) -> None:
    swap = mirror(head)
    for index, name in enumerate(ARKIT_52):
        other = ARKIT_52.index(build_open_head._other_side(name))
        assert (
            np.abs(
                head.expression_basis[swap, :, other] * [-1, 1, 1] - head.expression_basis[:, :, index]
            ).max()
            < 2e-5
        ), name


def test_every_shape_component_is_symmetric_or_antisymmetric(head: HeadModel) -> None:
    swap = mirror(head)
    for k in range(head.shape_size):
        mode = head.shape_basis[:, :, k]
        flipped = mode[swap] * [-1, 1, 1]
        assert min(np.abs(flipped - mode).max(), np.abs(flipped + mode).max()) < 2e-5, k


def test_the_origin_lies_midway_between_the_eyes_of_everybody(head: HeadModel) -> None:
    for shape in people(head, 5):
        joints = head.joint_positions(shape)
        middle = joints[[head.joints.index("eye_left"), head.joints.index("eye_right")]].mean(axis=0)
        assert np.abs(middle).max() < 1e-5
        assert joints[head.joints.index("eye_left")][0] > 0.02  # x points to the subject's left


def test_eyeballs_are_spheres_round_their_joints(head: HeadModel) -> None:
    for shape in (None, *people(head, 4)):
        for side in ("left", "right"):
            ball = np.concatenate([head.part(f"{part}_{side}") for part in ("eye", "iris", "pupil")])
            arms = head.neutral(shape)[ball] - head.joint_positions(shape)[head.joints.index(f"eye_{side}")]
            radius = np.linalg.norm(arms, axis=1)
            assert np.ptp(radius) < 2e-4
            assert 0.010 < radius.mean() < 0.020


def test_eyelids_cover_the_eyeball_when_closed_and_let_it_be_seen_when_open(head: HeadModel) -> None:
    for shape in (None, *people(head)):
        for extra in (
            {},
            {"browInnerUp": 1.0, "browOuterUp": 1.0},
            {"mouthSmile": 1.0, "cheekSquint": 1.0},
            {"eyeLookDown": 1.0},
        ):
            assert visible_mm2(head, head.vertices(shape, expression(eyeBlink=1.0, **extra)), EYEBALLS) < 1.0
        opened = visible_mm2(head, head.vertices(shape), EYEBALLS)
        assert opened > 120.0
        assert visible_mm2(head, head.vertices(shape, expression(eyeBlink=0.5)), EYEBALLS) < 0.6 * opened
        assert visible_mm2(head, head.vertices(shape, expression(eyeWide=1.0)), EYEBALLS) > 1.15 * opened


def test_the_mouth_is_shut_at_rest_and_shows_teeth_when_it_opens(head: HeadModel) -> None:
    for shape in (None, *people(head)):
        for shut in ({}, {"mouthPress": 1.0}, {"mouthPucker": 1.0}, {"jawOpen": 0.7, "mouthClose": 0.7}):
            assert visible_mm2(head, head.vertices(shape, expression(**shut)), TEETH_AND_MOUTH) < 12.0, shut
        smiling = head.vertices(shape, expression(jawOpen=0.3, mouthSmile=0.8, mouthUpperUp=0.5))
        assert visible_mm2(head, smiling, ("teeth_upper",)) > 40.0


def test_lower_teeth_follow_the_jaw_and_upper_teeth_stay(head: HeadModel) -> None:
    opened = expression(jawOpen=1.0)
    move = head.vertices(None, opened) - head.template
    assert np.abs(move[head.part("teeth_upper")]).max() == 0.0
    lower = head.part("teeth_lower")
    incisors = lower[head.template[lower, 2] > head.template[lower, 2].max() - 0.005]
    chin = head.regions["jaw"][np.argmin(head.template[head.regions["jaw"], 1])]
    assert move[incisors, 1].mean() < -0.012
    assert 0.5 < move[incisors, 1].mean() / move[chin, 1] < 1.5


def test_gaze_turns_the_iris_where_the_action_says(head: HeadModel) -> None:
    for name, axis, sign in (("eyeLookUp", 1, 1), ("eyeLookDown", 1, -1)):
        weights = expression(**{name: 1.0})
        moved = head.vertices(None, weights, eyes=head.gaze(weights)) - head.template
        for side in ("left", "right"):
            assert sign * moved[head.part(f"pupil_{side}"), axis].mean() > 0.003
    left = expression(eyeLookOutLeft=1.0, eyeLookInRight=1.0)  # the subject looks to the own left, +x
    moved = head.vertices(None, left, eyes=head.gaze(left)) - head.template
    assert min(moved[head.part(f"pupil_{side}"), 0].mean() for side in ("left", "right")) > 0.004


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3)), min_size=2, max_size=2))
def test_look_weights_are_the_inverse_of_gaze(angles) -> None:
    head = load_head("open_head")
    eyes = np.array([[pitch, yaw, 0.0] for pitch, yaw in angles])
    weights = head.look_weights(eyes)
    assert np.allclose(head.gaze(weights), eyes, atol=1e-6)
    assert (weights >= 0).all()
    for up, down in (("Up", "Down"), ("In", "Out")):
        for side in ("Left", "Right"):
            assert (
                weights[ARKIT_52.index(f"eyeLook{up}{side}")]
                * weights[ARKIT_52.index(f"eyeLook{down}{side}")]
                == 0.0
            )


def test_regions_lie_where_their_names_say(head: HeadModel) -> None:
    middle = {name: head.template[index].mean(axis=0) for name, index in head.regions.items()}
    order = ("forehead", "brows", "eyelids", "nose", "lips", "jaw")
    heights = [middle[name][1] for name in order]
    assert heights == sorted(heights, reverse=True)
    face = set(head.regions["face"].tolist())
    for name in ("lips", "brows", "forehead", "cheeks", "nose", "jaw"):
        assert set(head.regions[name].tolist()) <= face, name
        assert abs(middle[name][0]) < 1e-3, name
    assert (head.parts[head.regions["face"]] == 0).all()


def test_embeddings_are_complete_symmetric_and_inside_their_triangles(head: HeadModel) -> None:
    sizes = {"landmarks_478": 478, "landmarks_68": 68, "electrodes_fridlund": 22, "electrodes_kuramoto": 19}
    for which, size in sizes.items():
        embedding = head.embedding(which)
        assert len(embedding.names) == len(set(embedding.names)) == len(embedding.triangles) == size
        assert np.allclose(embedding.weights.sum(axis=1), 1.0, atol=1e-5)
        assert embedding.weights.min() >= -1e-6
        points = head.points(head.template, which)
        distance, _ = cKDTree(points).query(points * [-1, 1, 1])
        assert distance.max() < 1e-3, which


def test_electrode_names_tell_the_side_odd_is_the_right(head: HeadModel) -> None:
    for which in ("electrodes_fridlund", "electrodes_kuramoto"):
        for name, (x, _, _) in zip(
            head.embedding(which).names, head.points(head.template, which), strict=True
        ):
            number = int(name[1:])
            if which == "electrodes_kuramoto" and number in (19, 20, 24):
                assert abs(x) < 1e-3
            else:
                assert (x < -0.004) if number % 2 else (x > 0.004), name


def test_landmarks_sit_on_the_features_they_name(head: HeadModel) -> None:
    points = head.points(head.template)
    upper, lower, right_corner, left_corner = points[13], points[14], points[61], points[291]
    assert np.linalg.norm(upper - lower) < 0.004
    assert 0.035 < left_corner[0] - right_corner[0] < 0.065
    open_points = head.points(head.vertices(None, expression(jawOpen=1.0)))
    assert open_points[13, 1] - open_points[14, 1] > 0.015
    closed = head.points(head.vertices(None, expression(eyeBlink=1.0)))
    assert points[159, 1] - points[145, 1] > 0.005  # right upper and lower lid
    assert closed[159, 1] - closed[145, 1] < 0.004
    for iris, side in ((468, "right"), (473, "left")):
        pole = head.template[head.part(f"pupil_{side}")]
        assert np.abs(points[iris] - pole[np.argmax(pole[:, 2])]).max() < 1e-4
        assert points[iris + 1][0] > points[iris][0] > points[iris + 3][0]
        assert points[iris + 2][1] > points[iris][1] > points[iris + 4][1]


def test_made_parts_face_outwards(head: HeadModel) -> None:
    """Teeth and eyeballs: the triangles' normals point away from the middle of the piece."""
    faces = head.faces
    for names, centre in (
        (("eye_left", "iris_left", "pupil_left"), head.joint_template[3]),
        (("eye_right", "iris_right", "pupil_right"), head.joint_template[4]),
    ):
        wanted = np.isin(head.parts, [head.part_names.index(name) for name in names])
        corners = head.template[faces[wanted[faces].all(axis=1)]]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert (np.einsum("fd,fd->f", normal, corners.mean(axis=1) - centre) > 0).all()
    arch = oral.Arch(np.array([[x, 0.0, -20 * x * x] for x in np.linspace(-0.03, 0.03, 17)]), up=1.0)
    for up, row in ((1.0, oral.UPPER), (-1.0, oral.LOWER)):
        arch = oral.Arch(arch.at(np.linspace(-arch.half, arch.half, 17)), up=up)
        crowns, _ = oral.teeth(arch, row, "teeth")
        corners = crowns.vertices[crowns.faces]
        assert (
            np.einsum("fd,fd->", np.cross(corners[:, 0], corners[:, 1]), corners[:, 2]) > 0
        )  # signed volume


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1.0, 1.0), min_size=12, max_size=12))
def test_followers_go_exactly_along_with_any_affine_motion_of_their_guides(values) -> None:
    rng = np.random.default_rng(0)
    guides, points = rng.normal(size=(20, 3)), rng.normal(size=(7, 3))
    weights = build_open_head.follow(points, guides)
    matrix, shift = np.array(values[:9]).reshape(3, 3), np.array(values[9:])
    assert np.allclose(weights @ (guides @ matrix + shift), points @ matrix + shift, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1.0, 1.0), min_size=12, max_size=12))
def test_closest_point_on_a_triangle_is_no_further_than_any_other_point_of_it(values) -> None:
    a, b, c, p = np.array(values).reshape(4, 3)
    distance, weights = embed.closest_on_triangle(p, a, b, c)
    assert weights.min() >= -1e-9
    assert abs(weights.sum() - 1.0) < 1e-9
    assert abs(np.linalg.norm(weights @ np.array([a, b, c]) - p) - distance) < 1e-6
    grid = np.random.default_rng(1).dirichlet(np.ones(3), 200)
    assert distance <= np.linalg.norm(grid @ np.array([a, b, c]) - p, axis=1).min() + 1e-9


def test_shape_space_finds_back_the_components_that_made_the_samples() -> None:
    rng = np.random.default_rng(2)
    swap = np.array([1, 0, 3, 2, 4])
    even, odd = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    even, odd = even + even[swap] * [-1, 1, 1], odd - odd[swap] * [-1, 1, 1]
    scores = rng.normal(size=(500, 2)) * [3.0, 1.0]
    samples = np.einsum("pk,kvd->pvd", scores, np.stack([even, odd]))
    joints = samples[:, :2]
    space = build_open_head.shape_space(samples, joints, np.ones(5), swap, np.array([1, 0]), 4)
    assert space.basis.shape[2] == 2
    assert space.variance == pytest.approx(1.0)
    for k, (direction, deviation) in enumerate(((even, 3.0), (odd, 1.0))):
        # one standard deviation of the score is one unit of the coefficient
        assert (
            np.abs(np.abs(space.basis[:, :, k]) - np.abs(direction) * deviation).max()
            < 0.15 * np.abs(direction).max() * deviation
        )
        assert np.allclose(space.joint_basis[:, :, k], space.basis[:2, :, k])


def test_an_eyeball_that_stands_out_is_measured_and_one_that_is_covered_is_not() -> None:
    lids = np.array([[0.0, 0.0, 0.012], [0.0, 0.003, 0.013]])
    centre = np.zeros(3)
    assert contact.intrusion(lids, np.arange(2), centre, 0.0125) == pytest.approx(
        0.0005 + contact.CLEARANCE_M
    )
    assert contact.intrusion(lids, np.arange(2), centre, 0.0110) == 0.0


@pytest.mark.slow
def test_a_head_built_afresh_keeps_the_laws(tmp_path: Path) -> None:
    pytest.importorskip("anny", reason="anny is in the extra 'train'")
    steps: list[tuple[str, float]] = []
    built = build_open_head.build(
        tmp_path / "tiny.npz",
        samples=40,
        components=12,
        seed=3,
        progress=lambda step, share: steps.append((step, share)),
        landmark_people=0,
    )
    again = HeadModel.load(tmp_path / "tiny.npz")
    assert built.id == again.id == "tiny"
    assert np.abs(again.vertices(np.ones(12)) - built.vertices(np.ones(12))).max() < 1e-4
    assert (built.shape_size, built.expression_names) == (12, ARKIT_52)
    assert [share for _, share in steps] == sorted(share for _, share in steps)
    assert steps[-1][1] == 1.0
    # same topology as the committed head, whoever was sampled
    assert np.array_equal(built.faces[:, 0].shape, load_head("open_head").faces[:, 0].shape)
    assert np.array_equal(built.parts, load_head("open_head").parts)
    swap = mirror(built)
    for k in range(12):
        mode = built.shape_basis[:, :, k]
        flipped = mode[swap] * [-1, 1, 1]
        assert min(np.abs(flipped - mode).max(), np.abs(flipped + mode).max()) < 1e-5
    assert visible_mm2(built, built.vertices(None, expression(eyeBlink=1.0)), EYEBALLS) < 1.0
