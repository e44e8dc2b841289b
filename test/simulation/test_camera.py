"""The simulated participant's camera: determinism, the with/without twin, geometry against the plain
rasteriser, sensors on the skin.
"""

import dataclasses

import numpy as np
import pytest

from eifer_ros.errors import ConfigError, InputError, ModelError
from eifer_ros.head import projection
from eifer_ros.head.model import load_head
from eifer_ros.render import rasteriser as raster
from eifer_ros.simulation.camera import materials as appearance
from eifer_ros.simulation.camera import sensors, surface
from eifer_ros.simulation.camera import shading as pixels
from eifer_ros.simulation.camera.materials import Variation
from eifer_ros.simulation.camera.scene import ParticipantCamera
from eifer_ros.types import ARKIT_52

SIZE = (160, 120)
POSE = projection.facing_pose(0.42, pitch=-0.2, centre=(0.0, -0.035, 0.0))


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def camera(head):
    return ParticipantCamera(5, True, SIZE, head=head)


def expression(head, **weights):
    values = np.zeros(head.expression_size, np.float32)
    for name, value in weights.items():
        values[head.expression_names.index(name)] = value
    return values


SMILE = {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9, "jawOpen": 0.3}


def test_the_same_seed_and_time_give_the_same_picture_in_any_order(head, camera):
    smile = expression(head, **SMILE)
    other = ParticipantCamera(5, True, SIZE, head=head)
    later = other.render(None, smile, None, POSE, 1.5)
    first = other.render(None, None, None, POSE, 0.25)
    np.testing.assert_array_equal(camera.render(None, None, None, POSE, 0.25), first)
    np.testing.assert_array_equal(camera.render(None, smile, None, POSE, 1.5), later)


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_draws_the_same_picture(head, threads):
    for shown in (True, False):
        alone, together = (
            ParticipantCamera(9, shown, SIZE, head=head, profile="wild", threads=n) for n in (1, threads)
        )
        for time_s in (0.0, 0.3):
            pictures = [
                one.render(None, expression(head, **SMILE), None, POSE, time_s) for one in (alone, together)
            ]
            assert np.array_equal(*pictures)
    pairs = [one.render_pair(None, expression(head, **SMILE), None, POSE, 0.3) for one in (alone, together)]
    assert np.array_equal(pairs[0].bare, pairs[1].bare) and np.array_equal(
        pairs[0].with_sensors, pairs[1].with_sensors
    )
    assert np.array_equal(pairs[0].mask, pairs[1].mask)


def test_another_time_changes_only_the_noise(head, camera):
    one, two = (camera.render(None, None, None, POSE, t).astype(int) for t in (0.0, 0.033))
    assert np.any(one != two)
    assert np.abs(one - two).mean() < 3.0 * camera.variation.noise


def test_other_seeds_give_other_people_and_other_sensors(head, camera):
    mine = camera.render(None, None, None, POSE, 0.0).astype(int)
    other = ParticipantCamera(6, True, SIZE, head=head)
    assert np.abs(other.render(None, None, None, POSE, 0.0) - mine).mean() > 5.0
    refitted = ParticipantCamera(5, True, SIZE, head=head, sensor_seed=99).render_pair(
        None, None, None, POSE, 0.0
    )
    bare = camera.render_pair(None, None, None, POSE, 0.0).bare
    np.testing.assert_array_equal(refitted.bare, bare)


@pytest.mark.parametrize("profile", ["lab", "wild"])
def test_the_pair_is_equal_outside_the_mask_and_each_half_is_what_render_gives(head, profile):
    variation = dataclasses.replace(Variation.sample(11, profile), jpeg_quality=0)
    smile = expression(head, **SMILE)
    with_sensors = ParticipantCamera(11, True, SIZE, head=head, variation=variation)
    without = ParticipantCamera(11, False, SIZE, head=head, variation=variation)
    view = with_sensors.render_pair(None, smile, None, POSE, 0.5)
    np.testing.assert_array_equal(view.bare[~view.mask], view.with_sensors[~view.mask])
    np.testing.assert_array_equal(view.bare, without.render(None, smile, None, POSE, 0.5))
    np.testing.assert_array_equal(view.with_sensors, with_sensors.render(None, smile, None, POSE, 0.5))
    differs = np.any(view.bare != view.with_sensors, axis=2)
    assert 0.05 < view.mask.mean() < 0.7
    assert differs[view.mask].mean() > 0.5  # the mask is not everything


def test_the_bare_picture_covers_what_the_plain_rasteriser_says(head, camera):
    variation = dataclasses.replace(
        camera.variation,
        noise=0.0,
        blur_px=0.0,
        chroma_blur_px=0.0,
        hair_bulk_m=0.0,
        exposure=2.0,
        long_hair=0,
    )
    width, height = SIZE
    bare = ParticipantCamera(5, False, SIZE, head=head, variation=variation)
    smile = expression(head, **SMILE)
    image = bare.render(None, smile, None, POSE, 0.0)
    pixels = projection.project(head.vertices(None, smile), POSE, bare.intrinsics)
    index, _, _ = raster.rasterise(pixels, head.faces, width, height)
    seen = index >= 0
    # a pixel of margin for the smooth edge; below the neck there is a torso, and lashes stand out beyond the
    # lids
    inside = seen[1:-1, 1:-1] & seen[:-2, 1:-1] & seen[2:, 1:-1] & seen[1:-1, :-2] & seen[1:-1, 2:]
    assert (image[1:-1, 1:-1].max(axis=2)[inside] > 0).mean() > 0.999
    neck = (
        int(
            projection.project(head.template[head.template[:, 1].argmin()][None], POSE, bare.intrinsics)[0, 1]
        )
        - 6
    )
    touched = np.zeros_like(seen)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            touched |= np.roll(np.roll(seen, dy, 0), dx, 1)
    assert not np.any(image[:neck][~touched[:neck]])


def test_there_are_about_sixty_pads_and_pairs_sit_a_centimetre_apart(head):
    rig = sensors.build(surface.prepare(head), 3)
    real = [name for name in rig.names if name != "tape"]
    assert 50 <= len(real) <= 66
    assert len(real) == len(set(real))
    sides = 2.0 * rig.sites[: len(real)]
    assert 0.008 <= sides.min() < sides.max() <= 0.015
    middles = (
        rig.pads.on(head.template, np.zeros_like(head.template)).reshape(rig.pad_count, -1, 3).mean(axis=1)
    )
    embedding = head.embedding("electrodes_fridlund")
    sites = embedding.points(head.template, head.faces)
    for name, site in zip(embedding.names, sites, strict=True):
        a, b = (middles[rig.names.index(f"{name}{contact}")] for contact in "ab")
        assert np.linalg.norm(a - b) == pytest.approx(0.010, abs=0.003)
        assert np.linalg.norm((a + b) / 2 - site) < 0.009


def pads_in_the_picture(camera, face):
    """(P, 3) [u, v, depth] of the pads' middles."""
    vertices = camera.head.vertices(None, face)
    placed = camera._rig.pads.on(vertices, np.zeros_like(vertices))
    middles = placed.reshape(camera._rig.pad_count, -1, 3).mean(axis=1)
    return projection.project(middles.astype(np.float64), POSE, camera.intrinsics)


def test_pads_show_where_they_are_said_to_be_and_follow_the_skin(head, camera):
    names = camera._rig.names
    rest = pads_in_the_picture(camera, None)
    raised = expression(head, browInnerUp=1.0, browOuterUpLeft=1.0, browOuterUpRight=1.0)
    moved = pads_in_the_picture(camera, raised)
    lift = rest[:, 1] - moved[:, 1]
    assert lift[names.index("F5a")] > 1.0  # over the brow: up in the picture
    assert abs(lift[names.index("F15a")]) < 0.3  # chin: stays
    for points, face in ((rest, None), (moved, raised)):
        view = camera.render_pair(None, face, None, POSE, 0.0)
        change = np.abs(view.with_sensors.astype(int) - view.bare).sum(axis=2)
        for name in ("F1a", "F2a", "F19a", "F20b", "K20", "F15a", "F16b"):
            u, v = np.round(points[names.index(name), :2]).astype(int)
            assert change[v - 1 : v + 2, u - 1 : u + 2].max() > 25, name


def test_brow_lines_appear_when_the_brows_rise_and_only_there(head):
    prepared = surface.prepare(head)
    relief = appearance.relief(prepared, 256, 0)
    rest = relief.weights(np.zeros(52, np.float32), 0.3, 1.0)
    arkit = np.zeros(52, np.float32)
    for name in ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"):
        arkit[ARKIT_52.index(name)] = 1.0
    deeper = (relief.weights(arkit, 0.3, 1.0) - rest).max(axis=1)
    up = head.template[:, 1] - prepared.eye_line
    assert (
        deeper[
            (up > 0.035)
            & (up < 0.06)
            & (np.abs(head.template[:, 0]) < 0.03)
            & (head.template[:, 2] > prepared.centre[2] + 0.05)
        ].min()
        > 0.3
    )
    assert deeper[up < -0.03].max() < 0.02


def test_a_picture_with_lines_has_more_detail_on_the_forehead(head):
    variation = dataclasses.replace(Variation.sample(2), noise=0.0, cover="none", age=0.8)
    size = (480, 480)
    pose = projection.facing_pose(0.40, centre=(0.0, 0.01, 0.0))
    up = expression(head, browInnerUp=1.0, browOuterUpLeft=1.0, browOuterUpRight=1.0)
    detail = []
    for lines in (0.0, 1.0):
        camera = ParticipantCamera(
            2, False, size, head=head, variation=dataclasses.replace(variation, lines=lines)
        )
        grey = camera.render(None, up, None, pose, 0.0).mean(axis=2)
        u, v, _ = projection.project([[0.0, 0.045, 0.09]], pose, camera.intrinsics)[0].astype(int)
        column = grey[v - 30 : v + 20, u - 40 : u + 40]
        detail.append(np.abs(np.diff(column, n=2, axis=0)).mean())
    assert detail[1] > 1.15 * detail[0]


def test_every_wild_choice_gives_a_picture(head):
    rng = np.random.default_rng(0)
    shapes = []
    for cover, background in zip(appearance.COVERS, appearance.BACKGROUNDS, strict=True):
        seed = int(rng.integers(1 << 30))
        variation = dataclasses.replace(
            Variation.sample(seed, "wild"),
            cover=cover,
            background=background,
            jpeg_quality=70,
            motion_px=9.0,
            long_hair=20,
        )
        view = ParticipantCamera(seed, True, (128, 128), head=head, variation=variation).render_pair(
            None, None, None, POSE, 0.0
        )
        shapes.append(view.with_sensors.shape)
        assert view.with_sensors.dtype == np.uint8
        assert view.with_sensors.std() > 10
    assert set(shapes) == {(128, 128, 3)}


def test_variations_depend_on_seed_and_profile_only_and_differ():
    assert Variation.sample(4) == Variation.sample(4)
    assert Variation.sample(4) != Variation.sample(5)
    tones = [Variation.sample(seed, "wild").melanin for seed in range(200)]
    assert np.std(tones) > 0.1
    assert {Variation.sample(seed, "wild").cover for seed in range(200)} == set(appearance.COVERS)
    assert all(
        Variation.sample(seed).background == "black" and Variation.sample(seed).jpeg_quality == 0
        for seed in range(50)
    )


def test_what_cannot_be_drawn_is_refused_by_name(head, camera):
    with pytest.raises(ConfigError, match="studio"):
        Variation.sample(1, "studio")
    with pytest.raises(InputError, match="8 x 8"):
        ParticipantCamera(1, True, (8, 8), head=head)
    with pytest.raises(InputError, match="head_pose"):
        camera.render(None, None, None, np.full((4, 4), np.nan), 0.0)
    with pytest.raises(ModelError, match="landmarks_478"):
        ParticipantCamera(1, True, SIZE, head=dataclasses.replace(head, embeddings={}))


def test_packed_skin_and_relief_hold_their_channels():
    rng = np.random.default_rng(4)
    skin, bump = (
        rng.integers(0, 256, (6, 8, 5), dtype=np.uint8),
        rng.integers(-128, 128, (6, 8, 11), dtype=np.int8),
    )
    packed, relief = pixels.pack_skin(skin), pixels.pack_relief(bump)
    for channel in range(5):
        np.testing.assert_array_equal(packed >> 8 * channel & 0xFF, skin[..., channel])
    for channel in range(9):
        np.testing.assert_array_equal(
            (relief[channel // 3] >> 8 * (channel % 3) & 0xFF) - 128, bump[..., channel]
        )
