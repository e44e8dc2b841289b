"""The encoder of faces under sensors: pictures whose truth is true, batches that keep it, a network that
learns and exports as it is.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eifer_ros.errors import InputError, ModelError
from eifer_ros.head import projection
from eifer_ros.head.model import load_head
from eifer_ros.reconstruction.encoder.face_crop import MARGIN, POINTS, SIZE, crop_of
from eifer_ros.simulation.seeds import HELD_OUT_FROM
from research.faces.pictures import AROUND, SIDE, Shard, person, shard_paths

torch = pytest.importorskip("torch")

from research.faces.face_encoder import OUTPUTS, FaceEncoder, export, rotation_of  # noqa: E402
from research.faces.picture_batches import Augment, batches  # noqa: E402
from research.faces.pretrain import Metric, Plan, load_encoder, losses, train  # noqa: E402

SEEDS = (0, 7)
"""The first is seen in the wild, the second in the lab."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    head = load_head()
    for number in SEEDS:
        person(head, number, 6).save(folder / f"shard-{number:05d}.npz")
    return folder


def test_a_shard_comes_back_as_it_was_saved(shards: Path, tmp_path: Path) -> None:
    first = Shard.load(shards / "shard-00000.npz")
    first.save(tmp_path / "again.npz")
    again = Shard.load(tmp_path / "again.npz")
    assert np.array_equal(first.mask, again.mask) and first.mask.dtype == bool
    assert np.array_equal(first.sensors, again.sensors) and np.array_equal(first.landmarks, again.landmarks)


def test_both_pictures_are_equal_wherever_no_sensor_is(shards: Path) -> None:
    """Exactly so in the lab; a wild camera may compress its picture."""
    shard = Shard.load(shards / "shard-00007.npz")
    covered = shard.mask.mean(axis=(1, 2))
    assert (covered > 0.03).all() and (covered < 0.8).all()
    differ = (shard.bare != shard.sensors).any(axis=-1)
    assert not (differ & ~shard.mask).any()
    assert differ[shard.mask].mean() > 0.3


def test_the_face_fills_the_stored_picture_as_the_crop_says(shards: Path) -> None:
    shard = Shard.load(shards / "shard-00007.npz")
    for points in shard.landmarks:
        crop = crop_of(points)
        assert crop.side == pytest.approx(SIDE / AROUND, rel=0.08)  # the stored square is not turned
        assert (crop.x, crop.y) == pytest.approx((SIDE / 2, SIDE / 2), abs=0.04 * SIDE)


def test_points_and_rotation_agree_with_the_expression_and_shape(shards: Path) -> None:
    """Posed by the stored rotation alone and scaled to the picture, the model's points fall on the stored
    ones, but for perspective.
    """
    shard = Shard.load(shards / "shard-00000.npz")
    head = load_head()
    for i in range(3):
        eyes = head.gaze(shard.expression[i])
        model = head.points(head.vertices(shard.shape[i], shard.expression[i], eyes=eyes))[list(POINTS)]
        flat = (model @ shard.rotation[i].T)[:, :2]
        flat, seen = flat - flat.mean(axis=0), shard.landmarks[i] - shard.landmarks[i].mean(axis=0)
        scale = (flat * seen).sum() / (flat * flat).sum()
        assert np.abs(scale * flat - seen).mean() < 0.03 * SIDE


def test_seeds_of_the_evaluation_are_refused() -> None:
    with pytest.raises(InputError, match="kept for evaluation"):
        person(load_head(), HELD_OUT_FROM)


def test_a_file_that_is_no_shard_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "shard-00000.npz", bare=np.zeros(3))
    with pytest.raises(InputError, match="landmarks"):
        Shard.load(tmp_path / "shard-00000.npz")
    with pytest.raises(InputError, match=r"research.faces.pictures"):
        shard_paths(tmp_path / "nothing")


@pytest.mark.parametrize("angle", [-0.6, 0.0, 0.4])
def test_a_crop_turns_scales_and_moves_with_the_face(angle: float) -> None:
    head = load_head()
    pose = projection.facing_pose(0.6, roll=0.0)
    flat = projection.project(head.points(head.template)[list(POINTS)], pose, np.diag([500.0, 500.0, 1.0]))[
        :, :2
    ]
    cos, sin = np.cos(angle), np.sin(angle)
    before, after = crop_of(flat), crop_of(flat @ np.array([[cos, sin], [-sin, cos]]) * 1.7 + (40.0, -9.0))
    assert after.angle - before.angle == pytest.approx(angle, abs=1e-6)
    assert after.side == pytest.approx(1.7 * before.side, rel=1e-6)
    inverse = np.linalg.inv(np.vstack([before.matrix(SIZE), [0.0, 0.0, 1.0]]))
    inside = flat @ inverse[:2, :2].T + inverse[:2, 2]
    assert (inside > 0).all() and (inside < SIZE).all()
    assert np.ptp(inside, axis=0).max() == pytest.approx(SIZE / MARGIN, rel=1e-6)


def test_a_crop_of_points_that_are_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        crop_of(np.full((len(POINTS), 2), np.nan))


def test_batches_keep_points_on_the_face_and_repeat_with_their_seed(shards: Path) -> None:
    plain = Augment(bare=1.0, negatives=0.0, strength=0.0)
    batch = next(batches(shards, 8, 3, plain))
    low, high = batch.landmarks.min(axis=1), batch.landmarks.max(axis=1)
    assert ((low + high) / 2.0 == pytest.approx(0.5, abs=0.02)) and (high - low).max(axis=1) == pytest.approx(
        1 / MARGIN, abs=0.01
    )
    assert np.array_equal(batch.picture, batch.bare) and not batch.mask.any()
    one, other, third = (next(batches(shards, 8, seed)) for seed in (5, 5, 6))
    assert np.array_equal(one.picture, other.picture) and not np.array_equal(one.picture, third.picture)


def test_what_is_hidden_is_marked(shards: Path) -> None:
    """Where the mask is 0 the picture with sensors is the bare one, developed alike."""
    batch = next(batches(shards, 24, 1, Augment(bare=0.0, negatives=0.0)))
    far = np.stack([np.asarray(mask == 0) for mask in batch.mask])
    close = np.abs(batch.picture.astype(int) - batch.bare.astype(int)).max(axis=-1)
    assert batch.mask.any(axis=(1, 2)).all()
    assert np.median(close[far]) <= 3 < np.median(close[batch.mask > 200])


def test_a_rotation_made_of_six_numbers_is_a_rotation() -> None:
    six = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    turned = rotation_of(six)
    assert torch.allclose(turned @ turned.transpose(1, 2), torch.eye(3).expand(16, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(turned), torch.ones(16), atol=1e-5)
    assert torch.allclose(
        rotation_of(torch.zeros(1, 6))[0], torch.diag(torch.tensor([1.0, -1.0, -1.0])), atol=1e-6
    )


def test_nothing_is_lost_when_the_truth_is_told_and_unreadable_pictures_teach_only_that() -> None:
    head = load_head()
    metric = Metric.of(head)
    truth = {
        "expression": torch.rand(4, 52),
        "landmarks": torch.rand(4, len(POINTS), 2),
        "shape": torch.randn(4, head.shape_size),
        "rotation": torch.eye(3).expand(4, 3, 3),
        "readable": torch.tensor([1.0, 1.0, 0.0, 1.0]),
    }
    seen = {name: value.clone() for name, value in truth.items()}
    seen["readable"] = 20.0 * (truth["readable"] - 0.5)
    seen["expression_log_std"] = torch.zeros(4, 52)
    seen["landmarks"][2] += 5.0
    exact = losses(seen, truth, metric)
    assert (
        exact["points"] == 0.0
        and exact["rotation"] == 0.0
        and exact["readable"] < 1e-3
        and exact["motion"] < 0.05
    )
    seen["expression"][0, head.expression_names.index("jawOpen")] += 0.5
    assert losses(seen, truth, metric)["motion"] > 10 * exact["motion"]


def test_training_learns_goes_on_and_exports_what_it_learnt(shards: Path, tmp_path: Path) -> None:
    import onnxruntime

    run = tmp_path / "run"
    plan = Plan(minutes=0.02, batch=4, threads=1)
    judged = train(shards, run, plan)
    assert np.isfinite(list(judged.values())).all()
    first = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    train(shards, run, Plan(minutes=0.04, batch=4, threads=1))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] > first[-1]["step"] and lines[-1]["minutes"] >= 0.04
    with pytest.raises(InputError, match=r"bare = 0\.2, not 1\.0"):
        train(shards, run, Plan(minutes=0.05, batch=4, bare=1.0))
    encoder = load_encoder(run / "encoder.pt")
    path = tmp_path / "encoder.onnx"
    export(encoder, load_head(), path, {"minutes": 0.04})
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    picture = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    got = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"picture": picture.numpy()}), strict=True))
    with torch.no_grad():
        seen = encoder.eval()(picture)
    assert got["landmarks"] == pytest.approx(
        seen["landmarks"].numpy(), abs=5e-3
    )  # weights are stored in half precision
    assert got["rotation"] == pytest.approx(seen["rotation"].numpy(), abs=5e-3)
    assert (
        (got["expression"] >= 0).all()
        and (got["expression"] <= 1).all()
        and (got["expression_std"] > 0).all()
    )
    assert got["readable"] == pytest.approx(torch.sigmoid(seen["readable"]).numpy(), abs=5e-3)
    about = json.loads(session.get_modelmeta().custom_metadata_map["eifer"])
    assert about["kind"] == "face_encoder" and about["points"] == list(POINTS) and about["minutes"] == 0.04


def test_another_head_or_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expression and shape"):
        export(FaceEncoder(50, 100), load_head(), tmp_path / "x.onnx", {})
    torch.save({"something": 1}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match="no face encoder"):
        load_encoder(tmp_path / "x.pt")
    with pytest.raises(ModelError, match="does not exist"):
        load_encoder(tmp_path / "none.pt")
