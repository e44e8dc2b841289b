"""Training of the spotter's networks: data as they should be, and networks that learn what is there."""

from __future__ import annotations

import numpy as np
import pytest

from eifer_ros.inference.network import open_bytes
from eifer_ros.micro.channels import ACTIONS, MUSCLE_CHANNELS
from eifer_ros.micro.senses import VISION_CHANNELS
from eifer_ros.micro.verifier import Verifiers
from eifer_ros.simulation.micro_expressions import MICRO_CLASSES
from eifer_ros.types import FaceOrigin
from research.micro.spotting import (
    CameraFaults,
    Rows,
    Take,
    Truth,
    fit_fusion,
    log_probabilities,
    mirror,
    mirrored,
    mirrored_features,
    rows_of,
    train,
)


def noise(seed: int, count: int, channels: int, size: float) -> np.ndarray:
    return size * np.random.default_rng(seed).standard_normal((count, channels))


def one_take(seed: int = 0) -> Take:
    """A minute of noise with one pulse of the left brow in both senses."""
    vision, emg = (
        noise(seed, 1500, len(VISION_CHANNELS), 0.004),
        noise(seed + 1, 1500, len(MUSCLE_CHANNELS), 0.1),
    )
    course = np.exp(-0.5 * ((np.arange(1500) - 1000) / 6.0) ** 2)
    vision[:, VISION_CHANNELS.index("browDownLeft")] += 0.1 * course
    emg[:-7, MUSCLE_CHANNELS.index("corrugator_supercilii_left")] += 1.5 * course[7:]
    where = np.array([1.0, 0.0, 0.0, 0.0])
    return Take(seed, "micro", vision, emg, (Truth(1000.0, 3, where),), (Truth(993.0, 3, where),), 0.07)


@pytest.mark.parametrize("channels", [VISION_CHANNELS, MUSCLE_CHANNELS])
def test_a_face_mirrored_twice_is_itself(channels: tuple[str, ...]) -> None:
    order = mirrored(channels)
    assert [order[index] for index in order] == list(range(len(channels)))
    places, sign = mirrored_features(channels)
    x = np.random.default_rng(0).standard_normal(len(places))
    np.testing.assert_array_equal((x[places] * sign)[places] * sign, x)


def test_mirrored_rows_are_the_rows_of_the_mirrored_stream() -> None:
    take = one_take()
    sign = np.array([-1.0 if name == "gaze yaw" else 1.0 for name in VISION_CHANNELS])
    other = Take(
        0,
        "micro",
        take.vision[:, mirrored(VISION_CHANNELS)] * sign,
        take.emg[:, mirrored(MUSCLE_CHANNELS)],
        (Truth(1000.0, 3, np.array([0.0, 1.0, 0.0, 0.0])),),
        (),
        0.07,
    )
    rows, turned = mirror(rows_of(take, np.random.default_rng(5))), rows_of(other, np.random.default_rng(5))
    for name in ("vision", "emg", "label", "regions"):
        np.testing.assert_allclose(getattr(rows, name), getattr(turned, name), atol=1e-6)


def test_the_true_pulse_is_a_row_with_its_class_and_region_and_the_rest_is_nothing() -> None:
    rows = rows_of(one_take(), np.random.default_rng(0))
    assert 0 < (rows.label == 3).sum() <= 3 and (rows.label == 0).sum() > 3
    assert (rows.regions[rows.label == 3] == [1.0, 0.0, 0.0, 0.0]).all() and (
        rows.regions[rows.label == 0] == 0
    ).all()
    assert rows.proposed[rows.label == 3].any(axis=0).all()


def test_camera_faults_belong_to_the_seed_and_keep_what_moves() -> None:
    truth, gaze, motion = np.zeros((800, len(ACTIONS))), np.zeros((800, 2)), np.zeros((800, 6))
    moving = ACTIONS.index("mouthSmileLeft")
    truth[300:600, moving] = 0.5
    rows = [CameraFaults(np.random.default_rng(4)).see(truth, gaze, motion) for _ in range(2)]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert rows[0].shape == (800, len(VISION_CHANNELS))
    assert rows[0][310:330, moving].mean() - rows[0][50:280, moving].mean() > 0.1
    assert not np.array_equal(rows[0], CameraFaults(np.random.default_rng(5)).see(truth, gaze, motion))


def test_networks_learn_what_tells_classes_apart_and_both_senses_know_more_than_one() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    count = 1600
    label = rng.integers(0, 3, count)
    vision, emg = rng.standard_normal((count, 10)), rng.standard_normal((count, 8))
    vision[:, 0] += 2.5 * (label == 1)
    vision[:, 1] += 2.5 * (label == 2)
    emg[:, 0] += 2.5 * (label == 1)
    emg[:, 1] += 2.5 * (label == 2)
    regions = np.stack([label == 1, label == 2, label == 1, label == 2], axis=1).astype(float)
    rows = Rows(
        vision.astype(np.float32),
        emg.astype(np.float32),
        label,
        regions,
        np.arange(count) % 8,
        np.ones((count, 2), bool),
    )
    trained = train(rows, epochs=60)
    verifiers = Verifiers.of(open_bytes(trained.graph(), "what was trained"))
    assert verifiers.classes == MICRO_CLASSES
    apart = rows.person < 2
    answers = [
        log_probabilities(network, x[apart])
        for network, x in ((trained.vision, rows.vision), (trained.emg, rows.emg))
    ]
    given = [verifiers.classify(v, e) for v, e in zip(rows.vision[apart], rows.emg[apart], strict=True)]
    for origin, answer in zip((FaceOrigin.VISION, FaceOrigin.EMG), answers, strict=True):
        np.testing.assert_allclose([one[origin][0] for one in given], answer, rtol=1e-5, atol=1e-5)
    both = np.array([verifiers.fuse(v, e) for v, e in zip(*answers, strict=True)])
    right = [(log_p.argmax(axis=1) == label[apart]).mean() for log_p in (*answers, both)]
    assert min(right[:2]) > 0.7 and right[2] > max(right[:2])
    assert np.exp(both).sum(axis=1) == pytest.approx(1.0)


def test_fusion_trusts_the_witness_that_knows() -> None:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, 600)
    told = np.where(label[:, None] == [0, 1], np.log(0.9), np.log(0.1)) + 0.3 * rng.standard_normal((600, 2))
    blind = rng.standard_normal((600, 2))
    weights, _ = fit_fusion(told, blind, label)
    assert weights[0] > 5 * abs(weights[1])
