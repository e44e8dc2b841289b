"""Left and right exchanged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.head import projection
from eifer_ros.head.model import load_head, rotation_matrix
from eifer_ros.reconstruction.encoder.face_crop import POINTS, SIZE, crop_of
from eifer_ros.reconstruction.encoder.face_encoder import FaceEncoder, cut
from eifer_ros.reconstruction.encoder.mirror import Mirror
from eifer_ros.reconstruction.landmarks.landmark_model import LandmarkModel
from eifer_ros.simulation.participant import Participant


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def mirror(head):
    return Mirror.of(head)


@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=25, deadline=None)
def test_a_mirrored_head_has_mirrored_points(seed):
    """The law that coefficients, shapes, points and pose are exchanged by: it holds for the head model
    itself.
    """
    head = load_head()
    mirror, model = Mirror.of(head), LandmarkModel.of(head)
    rng = np.random.default_rng(seed)
    expression, shape = rng.uniform(0, 1, head.expression_size), rng.normal(size=head.shape_size)
    rotation, shift = (
        rotation_matrix(rng.normal(0, 0.3, 3)) @ projection.FACING,
        np.array([rng.normal(0, 0.05), 0.02, 0.7]),
    )

    def drawn(e, s, turn, where):
        columns = np.concatenate([e, np.zeros(model.face_size - len(e)), s])
        points = (model.template + model.basis @ columns)[list(POINTS)] @ turn.T + where
        return 500.0 * points[:, :2] / points[:, 2:] + (SIZE - 1) / 2.0

    there = drawn(expression, shape, rotation, shift)
    back = drawn(
        expression[mirror.expression], shape * mirror.signs, mirror.turn(rotation), shift * (-1, 1, 1)
    )
    np.testing.assert_allclose(
        mirror.points_of(back, SIZE), there, atol=0.2
    )  # embeddings are symmetric to a tenth of a millimetre


def test_an_encoder_that_looks_both_ways_reads_the_mirrored_picture_as_the_mirrored_face(head, mirror):
    pytest.importorskip("onnxruntime")
    participant = Participant(900_001)
    face = participant.face_at(12.0)
    points = head.points(head.state_vertices(face))[list(POINTS)]
    crop = crop_of(projection.project(points, face.head_pose, participant.intrinsics)[:, :2])
    patch = cut(participant.frame_at(12.0, face).image, crop)
    turned = np.ascontiguousarray(patch[:, ::-1])
    both, alone = FaceEncoder(head, both_ways=True), FaceEncoder(head)
    one, other = both.read_patches([patch, turned], [crop, crop])
    np.testing.assert_allclose(one.expression, other.expression[mirror.expression], atol=1e-5)
    np.testing.assert_allclose(one.expression_std, other.expression_std[mirror.expression], atol=1e-5)
    np.testing.assert_allclose(one.shape, other.shape * mirror.signs, atol=1e-5)
    np.testing.assert_allclose(one.turn, mirror.turn(other.turn), atol=1e-5)
    first, second = alone.read_patches([patch, turned], [crop, crop])
    assert np.abs(first.expression - second.expression[mirror.expression]).max() > 1e-3
    np.testing.assert_allclose(
        one.expression, (first.expression + second.expression[mirror.expression]) / 2, atol=0.02
    )


def test_a_head_without_sides_is_not_mirrored(head):
    from dataclasses import replace

    nameless = replace(head, expression_names=tuple(f"exp_{k}" for k in range(head.expression_size)))
    assert Mirror.of(nameless) is None
