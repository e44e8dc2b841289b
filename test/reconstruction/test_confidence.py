"""The table of confidence: its file, its monotony, and that it means what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eifer_ros.errors import InputError, ModelError
from eifer_ros.evaluation.metrics import displacement_basis
from eifer_ros.head.model import load_head
from eifer_ros.inference.network import installed, locate
from eifer_ros.reconstruction import confidence
from eifer_ros.reconstruction.confidence import Confidence, confidence_features, expected_error
from eifer_ros.reconstruction.encoder.face_encoder import ENCODER
from research.faces.confidence_calibration import GOOD_MM, Samples, learn, reliability


def table():
    return Confidence(1.2, np.array([1.0, 0.5, 0.2]), 0.1, np.linspace(-3, 3, 7), np.linspace(0.05, 0.95, 7))


finite = st.floats(0.01, 20.0)


@given(finite, finite, st.floats(0.0, 1.0), st.floats(1.0, 5.0), st.floats(0.0, 0.5))
def test_more_error_expected_points_further_off_or_less_of_a_face_never_raise_confidence(
    expected, miss, readable, worse, less
):
    for one in (table(), Confidence.guess()):
        value = one.of(expected, miss, readable)
        assert 0.0 <= value <= 1.0
        assert one.of(expected * worse, miss, readable) <= value + 1e-12
        assert one.of(expected, miss * worse, readable) <= value + 1e-12
        assert one.of(expected, miss, max(readable - less, 0.0)) <= value + 1e-12


def test_what_is_not_a_number_is_no_confidence():
    assert table().of(float("nan"), 1.0, 0.9) == 0.0


def test_a_guess_is_never_sure():
    assert Confidence.guess().of(0.01, 0.01, 1.0) <= 0.7 and not Confidence.guess().measured


def test_a_table_belongs_to_its_network(tmp_path):
    network = tmp_path / "encoder.onnx"
    network.write_bytes(b"weights")
    assert not Confidence.load(network).measured
    table().save(tmp_path / "encoder.json", network)
    again = Confidence.load(network)
    assert again.measured and again.of(0.7, 0.5, 0.98) == table().of(0.7, 0.5, 0.98)
    network.write_bytes(b"other weights")
    assert not Confidence.load(network).measured, "other weights: what was measured no longer holds"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scores", [1.0, 0.0]),
        ("shares", [0.9, 0.1]),
        ("shares", [0.1, 1.4]),
        ("weights", [-1.0, 0.0, 0.0]),
        ("weights", [1.0]),
        ("kind", "x"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, key, value):
    network = tmp_path / "encoder.onnx"
    network.write_bytes(b"weights")
    good = {
        "kind": "confidence",
        "network": confidence.digest(network),
        "std_scale": 1.0,
        "weights": [1, 1, 1],
        "bias": 0,
        "scores": [0, 1],
        "shares": [0, 1],
    }
    (tmp_path / "encoder.json").write_text(json.dumps(good | {key: value}))
    with pytest.raises(ModelError, match=r"encoder\.json"):
        Confidence.load(network)
    (tmp_path / "encoder.json").write_text("{")
    with pytest.raises(ModelError, match=r"encoder\.json"):
        Confidence.load(network)


def test_expected_error_is_the_mean_squared_motion_of_the_face():
    head = load_head()
    jaw = head.expression_names.index("jawOpen")
    moved = 1e3 * displacement_basis(head)[:, :, jaw]
    assert expected_error(head)[jaw] == pytest.approx((moved**2).sum(axis=1).mean(), rel=1e-5)


def made_up(rng, count=4000, weights=(1.5, 0.8, 0.4)):
    """Faces whose chance to be right is a known function of the clues."""
    rows = np.stack(
        [
            confidence_features(*one)
            for one in zip(
                rng.uniform(0.2, 3, count),
                rng.uniform(0.2, 3, count),
                rng.uniform(0.5, 0.999, count),
                strict=True,
            )
        ]
    )
    chance = 1.0 / (1.0 + np.exp(-(rows @ np.array(weights) + 0.3)))
    error = np.where(rng.random(count) < chance, 0.5 * GOOD_MM, 2.0 * GOOD_MM)
    return Samples(
        rows, error, np.zeros(count, np.int64), np.ones(count, bool), np.ones(count), np.ones(count)
    )


def test_confidence_learnt_from_samples_is_the_share_that_is_right_on_others():
    found = learn(made_up(np.random.default_rng(0)), 1.0)
    found.check()
    groups = reliability(found, made_up(np.random.default_rng(1)))
    assert len(groups) > 3
    for confident, share, _ in groups:
        assert confident == pytest.approx(share, abs=0.06)


def test_a_clue_that_misleads_gets_no_weight():
    assert learn(made_up(np.random.default_rng(2), weights=(1.5, -2.0, 0.4)), 1.0).weights[1] == 0.0


def test_too_few_wrong_faces_are_refused():
    sure = made_up(np.random.default_rng(3), 100)
    with pytest.raises(InputError, match="at least 20"):
        learn(
            Samples(
                sure.confidence_features,
                np.zeros(100),
                sure.person,
                sure.clean,
                sure.expected2,
                sure.squared2,
            ),
            1.0,
        )


@pytest.mark.skipif(not installed(ENCODER), reason="models/face_encoder.onnx is not here")
def test_the_shipped_encoder_has_a_table_of_its_own():
    found = Confidence.load(locate(ENCODER))
    assert found.measured, "run python -m research.faces.confidence_calibration models/face_encoder.onnx"
    assert found.of(0.4, 0.3, 0.99) > 0.8 > 0.4 > found.of(4.0, 5.0, 0.5)
