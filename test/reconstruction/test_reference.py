from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eifer_ros.errors import InputError
from eifer_ros.reconstruction.reference import Reference
from eifer_ros.types import FaceOrigin, FaceState, Marker


def face(expression: object, stamp: int = 0, head: str = "open_head") -> FaceState:
    values = np.asarray(expression, np.float32)
    return FaceState(
        stamp,
        head,
        FaceOrigin.VISION,
        np.zeros(2),
        values,
        np.full(len(values), 0.1),
        np.zeros(3),
        np.zeros(3),
        np.zeros((2, 3)),
        np.zeros(2),
        np.eye(4),
        1.0,
    )


coefficients = hnp.arrays(np.float32, 5, elements=st.floats(0, 1, width=32))


@given(coefficients)
def test_the_face_the_reference_was_taken_of_becomes_zero_and_a_full_one_stays_full(rest: np.ndarray) -> None:
    reference = Reference.of([face(rest)] * 10)
    assert np.allclose(reference.apply(face(rest)).expression, 0.0, atol=1e-6)
    full = reference.apply(face(np.ones(5))).expression
    assert np.allclose(full[rest <= 0.8], 1.0, atol=1e-5)


@given(coefficients, coefficients, coefficients)
def test_expression_keeps_its_order_and_its_bounds(
    rest: np.ndarray, one: np.ndarray, other: np.ndarray
) -> None:
    reference = Reference.of([face(rest)] * 10)
    low, high = np.minimum(one, other), np.maximum(one, other)
    a, b = reference.apply(face(low)).expression, reference.apply(face(high)).expression
    assert (a <= b + 1e-6).all()
    assert a.min() >= 0
    assert b.max() <= 1


def test_a_few_odd_pictures_do_not_move_the_reference() -> None:
    faces = [face([0.2, 0.1])] * 20 + [face([1.0, 1.0])] * 6
    assert np.allclose(Reference.of(faces).offset, [0.2, 0.1])


def test_only_faces_between_the_markers_of_rest_count() -> None:
    faces = [face([0.3 if 100 <= stamp < 200 else 0.9], stamp) for stamp in range(0, 300, 5)]
    markers = [
        Marker(0, "Smile-Open", "start"),
        Marker(90, "Smile-Open", "end"),
        Marker(200, "Face-At-Rest", "end"),
        Marker(100, "Face-At-Rest", "start"),
    ]
    reference = Reference.of_recording(faces, markers)
    assert reference.faces == 20
    assert np.allclose(reference.offset, 0.3)


def test_too_few_faces_no_rest_and_mixed_heads_are_refused() -> None:
    with pytest.raises(InputError, match="3 faces at rest"):
        Reference.of([face([0.1])] * 3)
    with pytest.raises(InputError, match="no movement 'Face-At-Rest' is marked"):
        Reference.of_recording([face([0.1])] * 20, [])
    with pytest.raises(InputError, match="several head models"):
        Reference.of([face([0.1])] * 10 + [face([0.1], head="flame")] * 10)


def test_a_lost_face_and_one_of_another_head_pass_unchanged() -> None:
    reference = Reference.of([face([0.2])] * 10)
    lost = FaceState.lost(1, "open_head", FaceOrigin.VISION, 2, 1)
    other = face([0.5], head="flame")
    assert reference.apply(lost) is lost
    assert reference.apply(other) is other
