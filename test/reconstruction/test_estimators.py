"""The three ways to read a face, as the component chooses and runs them, with the shipped networks on
rendered faces.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from eifer_ros.component import Level
from eifer_ros.errors import ModelError
from eifer_ros.evaluation.metrics import displacement_basis, vertex_error_mm
from eifer_ros.head import projection
from eifer_ros.head.model import load_head
from eifer_ros.inference.network import installed
from eifer_ros.reconstruction.encoder.face_crop import POINTS, crop_of
from eifer_ros.reconstruction.encoder.face_encoder import ENCODER, cut
from eifer_ros.reconstruction.face_reconstruction import (
    CAMERA,
    OCCLUSION,
    RESTORED,
    VISION,
    Reconstruction,
    ReconstructionConfig,
)
from eifer_ros.reconstruction.reference import Reference
from eifer_ros.reconstruction.restore import RESTORER, Restored, occlusion_picture, paste
from eifer_ros.simulation.participant import Participant
from eifer_ros.types import FaceStatus, Frame

STEP = 33_000_000
PERSON = 900_200

needs_encoder = pytest.mark.skipif(not installed(ENCODER), reason="models/face_encoder.onnx is not here")
needs_both = pytest.mark.skipif(
    not (installed(ENCODER) and installed(RESTORER)),
    reason="the networks for faces under sensors are not here",
)


@pytest.fixture(scope="module")
def people():
    """Twelve moments of a person whom no network has seen: the true faces, and pictures bare and under
    sensors.
    """
    person = Participant(PERSON, size=(400, 300))
    states, bare, covered = [], [], []
    for time_s in (1.0, 2.0, 7.5, 12.5, 17.5, 32.5, 33.0, 47.5, 62.5, 64.0, 77.5, 79.0):
        face = person.face_at(time_s)
        view = person.camera.render_pair(face.shape, face.expression, face.eyes, face.head_pose, time_s)
        states.append(face)
        bare.append(view.bare)
        covered.append(view.with_sensors)
    return states, bare, covered, person.camera.intrinsics


def component(**config):
    made = Reconstruction(ReconstructionConfig(**config))
    made.setup()
    return made


@pytest.fixture(scope="module")
def sensors():
    return component(estimator="sensors", min_confidence=0.0)


@pytest.fixture(scope="module")
def auto():
    return component(estimator="auto", min_confidence=0.0)


def run(made, images, K=None, step=STEP, port=VISION):
    made.reset()
    return [
        e.item
        for n, image in enumerate(images)
        for e in made.handle(CAMERA, Frame(n * step, image, K))
        if e.port == port
    ]


# --- sensors


@needs_encoder
def test_a_face_under_sensors_is_read_nearly_as_well_as_the_bare_one(sensors, people):
    truth, bare, covered, K = people
    basis = displacement_basis(load_head())
    true = np.stack([face.expression for face in truth])
    errors = {}
    for name, images in (("bare", bare), ("covered", covered)):
        states = run(sensors, images, K)
        assert all(state.status == FaceStatus.TRACKING for state in states)
        errors[name] = vertex_error_mm(basis, np.stack([state.expression for state in states]), true).mean()
    resting = vertex_error_mm(basis, np.tile(np.median(true, axis=0), (len(true), 1)), true).mean()
    assert errors["covered"] < 0.6 * resting, "far better than a face that never moves"
    assert errors["covered"] < 1.35 * errors["bare"]


@needs_encoder
def test_the_pose_is_metric_and_the_head_lies_on_the_points(sensors, people):
    truth, _, covered, K = people
    head = load_head()
    for state, face in zip(run(sensors, covered, K), truth, strict=True):
        turn = state.head_pose[:3, :3] @ face.head_pose[:3, :3].T
        assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 8
        middle = np.append(head.template[head.regions["face"]].mean(axis=0), 1.0)
        found, true = state.head_pose @ middle, face.head_pose @ middle
        np.testing.assert_allclose(found[:2], true[:2], atol=0.012)
        assert found[2] == pytest.approx(true[2], rel=0.12), "the size of a head is known to a tenth"
        np.testing.assert_allclose(state.head_pose[:3, :3] @ state.head_pose[:3, :3].T, np.eye(3), atol=1e-6)
        drawn = projection.project(
            head.points(head.state_vertices(face))[list(POINTS)].astype(np.float64), face.head_pose, K
        )[:, :2]
        mine = projection.project(
            head.points(head.state_vertices(state))[list(POINTS)].astype(np.float64), state.head_pose, K
        )[:, :2]
        assert np.linalg.norm(drawn - mine, axis=1).mean() < 0.04 * np.linalg.norm(drawn[0] - drawn[-1]) + 4


@needs_encoder
def test_one_person_keeps_one_shape(sensors, people):
    _, _, covered, K = people
    shapes = np.stack([state.shape for state in run(sensors, covered, K)])
    single = np.stack([run(sensors, [image], K)[0].shape for image in covered])
    assert shapes[4:].std(axis=0).mean() < 0.5 * single.std(axis=0).mean()


@needs_encoder
@pytest.mark.parametrize("estimator", ["sensors", "auto"])
@pytest.mark.parametrize("kind", ["black", "overexposed", "noise", "flat", "tiny", "strip"])
def test_a_picture_without_a_face_is_lost_never_a_confident_wrong_face(request, estimator, kind, people):
    if estimator == "auto" and not installed(RESTORER):
        pytest.skip("models/face_restorer.onnx is not here")
    made = request.getfixturevalue(estimator)
    image = {
        "black": np.zeros((300, 400, 3), np.uint8),
        "overexposed": np.full((300, 400, 3), 255, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8),
        "flat": np.full((300, 400, 3), 130, np.uint8),
        "tiny": np.zeros((1, 1, 3), np.uint8),
        "strip": np.zeros((3, 900, 3), np.uint8),
    }[kind]
    covered = people[2]
    # on its own, and after a face that was there a moment ago
    assert run(made, [image])[0].status == FaceStatus.LOST
    assert run(made, [covered[0], covered[0], image])[-1].status == FaceStatus.LOST
    assert made.health().level == Level.WARN and made.health().values["confidence"] == 0


@needs_encoder
def test_a_face_going_dark_loses_confidence_before_it_is_lost(people):
    made = component(estimator="sensors", min_confidence=0.0)
    _, _, covered, K = people
    confidence = [
        run(made, [np.asarray(covered[5] * share, np.uint8)], K)[0].confidence
        for share in (1.0, 0.12, 0.05, 0.0)
    ]
    assert confidence[0] > 0.5 and confidence[-1] == 0 and confidence[0] > confidence[2]


@needs_encoder
def test_a_reference_takes_off_what_is_read_at_rest(sensors, people):
    _, _, covered, K = people
    resting = run(sensors, [covered[0]] * 12, K)
    sensors.use_reference(Reference.of(resting))
    again = run(sensors, [covered[0]] * 3, K)[-1]
    sensors.use_reference(None)
    quiet = [k for k, name in enumerate(load_head().expression_names) if not name.startswith("eyeLook")]
    assert np.abs(again.expression[quiet]).max() < 0.05


@needs_encoder
def test_two_runs_agree_to_the_bit(sensors, people):
    _, _, covered, K = people
    first, again = run(sensors, covered[:4], K), run(sensors, covered[:4], K)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.expression, b.expression)
        np.testing.assert_array_equal(a.head_pose, b.head_pose)


@needs_encoder
def test_a_damaged_encoder_is_refused_at_setup_with_its_name(tmp_path):
    broken = tmp_path / "encoder.onnx"
    broken.write_bytes(b"not a network")
    for estimator in ("sensors", "auto"):
        with pytest.raises(ModelError, match=r"encoder\.onnx"):
            component(estimator=estimator, encoder=str(broken))


def test_an_encoder_that_is_not_there_is_named():
    for estimator in ("sensors", "auto"):
        with pytest.raises(ModelError, match=r"nowhere\.onnx"):
            component(estimator=estimator, encoder="nowhere.onnx")


# --- auto


@needs_both
def test_auto_reads_bare_faces_by_landmarks_and_covered_ones_by_the_encoder_and_says_so(auto, people):
    _, bare, covered, K = people
    for images, used in ((bare, "landmarks"), (covered, "sensors")):
        run(auto, images[:3], K)
        values = auto.health().values
        assert values["estimator"] == "auto" and values["estimator_used"] == used
        assert "% of the face is covered" in values["estimator_reason"]


@needs_both
def test_auto_reads_a_real_photograph_of_a_bare_face_by_landmarks(auto):
    picture = np.ascontiguousarray(pytest.importorskip("skimage.data").astronaut()[:300, 60:400])
    assert run(auto, [picture] * 3)[-1].status == FaceStatus.TRACKING
    assert auto.health().values["estimator_used"] == "landmarks"


@needs_both
@pytest.mark.parametrize("exhausted", [True, False])
def test_auto_holds_up_no_face_for_its_look_at_the_covering(auto, people, monkeypatch, exhausted):
    _, _, covered, K = people
    auto.reset()
    looks, seen = [], []
    restore = auto._estimator.restorer.restore
    monkeypatch.setattr(
        auto._estimator.restorer, "restore", lambda *given: looks.append(len(seen)) or restore(*given)
    )
    for number in range(100):
        made = auto.handle(CAMERA, Frame(number * STEP, covered[0], K))
        for emission in made:
            if emission.port == VISION:
                seen.append(number)
                if not exhausted:
                    break
    assert len(seen) == 100 and 3 <= len(looks) <= 5
    first, *later = looks
    assert first == 0, "the first face waits until it is known how to read it"
    assert all(31 <= b - a <= 34 for a, b in itertools.pairwise([1, *later]))


@needs_both
def test_auto_changes_over_when_sensors_are_put_on_and_not_for_a_single_look(auto, people):
    _, bare, covered, K = people
    used = []
    auto.reset()
    for number, image in enumerate([bare[0]] * 10 + [covered[0]] * 100):
        list(auto.handle(CAMERA, Frame(number * STEP, image, K)))
        used.append(auto.health().values["estimator_used"])
    assert set(used[:10]) == {"landmarks"} and set(used[-20:]) == {"sensors"}
    assert sum(a != b for a, b in itertools.pairwise(used)) == 1, "one change, no switching to and fro"


def test_auto_without_networks_reads_by_landmarks_and_says_why(monkeypatch):
    from eifer_ros.reconstruction import auto as module

    monkeypatch.setattr(module, "installed", lambda name: False)
    made = component(estimator="auto")
    values = made.health().values
    assert values["estimator_used"] == "landmarks" and "not installed" in values["estimator_reason"]


# --- restored pictures


@needs_both
def test_restored_pictures_are_made_only_while_somebody_listens(auto, people):
    _, _, covered, K = people
    assert not run(auto, covered[:1], K, port=RESTORED)
    auto.set_subscribed(frozenset({RESTORED, OCCLUSION, "face/vision"}))
    try:
        restored, masks = run(auto, covered[:2], K, port=RESTORED), run(auto, covered[:2], K, port=OCCLUSION)
        assert [frame.stamp for frame in restored] == [0, STEP] and len(masks) == 2
        lost = run(auto, [np.zeros((300, 400, 3), np.uint8)], port=RESTORED)
        assert (lost[0].image == 0).all(), "no face: the camera's own picture"
    finally:
        auto.set_subscribed(frozenset())
    assert not run(auto, covered[:1], K, port=RESTORED)


@needs_both
def test_restoring_comes_nearer_to_the_bare_face_and_leaves_the_rest_of_the_picture_alone(auto, people):
    truth, bare, covered, K = people
    head = load_head()
    auto.set_subscribed(frozenset({RESTORED, OCCLUSION}))
    try:
        restored, masks = run(auto, covered, K, port=RESTORED), run(auto, covered, K, port=OCCLUSION)
    finally:
        auto.set_subscribed(frozenset())
    before, after, hidden = [], [], []
    for face, without, with_, frame, mask in zip(truth, bare, covered, restored, masks, strict=True):
        points = projection.project(
            head.points(head.state_vertices(face))[list(POINTS)].astype(np.float64), face.head_pose, K
        )[:, :2]
        crop = crop_of(points)
        middle = slice(32, 96)
        patches = [cut(image, crop).astype(float)[middle, middle] for image in (without, with_, frame.image)]
        before.append(((patches[1] - patches[0]) ** 2).mean())
        after.append(((patches[2] - patches[0]) ** 2).mean())
        hidden.append(cut(mask.image, crop)[..., 0][middle, middle].mean())
    assert np.mean(after) < 0.5 * np.mean(before)
    assert np.mean(hidden) > 40, "the mask covers a good part of the face"
    corner = restored[0].image[:20, :20], covered[0][:20, :20]
    np.testing.assert_array_equal(*corner)


def test_paste_changes_the_covered_part_alone_and_blends_softly():
    image = np.full((240, 320, 3), 60, np.uint8)
    crop = crop_of_square(160.0, 120.0, 128.0)
    occlusion = np.zeros((128, 128), np.float32)
    occlusion[50:80, 50:80] = 1.0
    restored = Restored(crop, np.full((128, 128, 3), 200, np.uint8), occlusion)
    out = paste(image, restored)
    assert (out[120, 160] == 200).all()
    assert (out[:60] == 60).all() and (out[:, :100] == 60).all() and (image == 60).all()
    assert np.abs(np.diff(out[120, :, 0].astype(int))).max() < 90, "no hard edge"
    mask = occlusion_picture(image, restored)
    assert mask[120, 160, 0] == 255 and mask[60, 160, 0] == 0
    outside = Restored(crop_of_square(-500.0, 120.0, 128.0), restored.picture, occlusion)
    np.testing.assert_array_equal(paste(image, outside), image)
    assert not occlusion_picture(image, outside).any()


def test_paste_puts_back_what_was_cut():
    """A smooth picture cut by a turned crop and pasted back everywhere is the same picture."""
    y, x = np.mgrid[:240, :320]
    image = np.stack([x * 0.7, y, 255 - x * 0.6], axis=-1).astype(np.uint8)
    crop = crop_of_square(170.0, 110.0, 140.0, 0.4)
    restored = Restored(crop, cut(image, crop), np.ones((128, 128), np.float32))
    assert np.abs(paste(image, restored).astype(int) - image).max() <= 4


def crop_of_square(x, y, side, angle=0.0):
    from eifer_ros.reconstruction.landmarks.attention_mesh import Crop

    return Crop(x, y, side, angle)
