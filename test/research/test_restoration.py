import itertools
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is in the extra 'train'")
pytest.importorskip("onnx", reason="onnx is in the extra 'train'")

from eifer_ros.errors import InputError, ModelError  # noqa: E402
from eifer_ros.evaluation.pictures import ssim_map  # noqa: E402
from eifer_ros.head.model import load_head  # noqa: E402
from eifer_ros.reconstruction.encoder.face_crop import MARGIN, POINTS, SIZE  # noqa: E402
from eifer_ros.reconstruction.landmarks.attention_mesh import Crop  # noqa: E402
from eifer_ros.reconstruction.restore import FaceRestorer  # noqa: E402
from research.faces import restoration  # noqa: E402
from research.faces.picture_batches import Augment, batches  # noqa: E402
from research.faces.pictures import AROUND, SIDE, Shard  # noqa: E402
from research.faces.restoration import Pairs, Plan, Restorer, losses, occlusion, similarity  # noqa: E402


def made_up(seed, count=6):
    """Blotches in skin colours with the landmarks of the head at rest, and white pads on some of them."""
    rng, head = np.random.default_rng(seed), load_head()
    flat = head.points(head.template)[list(POINTS), :2] * (1.0, -1.0)
    low, high = flat.min(axis=0), flat.max(axis=0)
    points = SIDE / 2 + (flat - (low + high) / 2) * SIDE / (MARGIN * AROUND * (high - low).max())
    bare = np.stack(
        [
            cv2.resize(
                rng.integers(60, 200, (5, 5, 3), dtype=np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
            )
            for _ in range(count)
        ]
    )
    sensors = bare.copy()
    for picture in sensors:
        for x, y in points[rng.integers(len(points), size=25)]:
            cv2.rectangle(picture, (int(x) - 4, int(y) - 4), (int(x) + 4, int(y) + 4), (245, 245, 250), -1)
    mask = np.stack(
        [
            cv2.dilate(np.any(a != b, axis=2).astype(np.uint8), np.ones((5, 5))) > 0
            for a, b in zip(bare, sensors, strict=True)
        ]
    )
    return Shard(
        bare,
        sensors,
        mask,
        np.repeat(points[None].astype(np.float32), count, axis=0),
        np.zeros((count, head.expression_size), np.float32),
        np.zeros((count, head.shape_size), np.float32),
        np.repeat(np.eye(3, dtype=np.float32)[None], count, axis=0),
        np.full(count, seed),
    )


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two shards; the first is held out by training."""
    folder = tmp_path_factory.mktemp("shards")
    for number in (0, 1):
        made_up(number).save(folder / f"shard-{number:05d}.npz")
    return folder


@pytest.fixture(scope="module")
def batch(shards):
    return next(batches(shards, 8, 3, Augment(bare=0.25, partly=0.25, negatives=0.0)))


def test_the_mask_is_exactly_nothing_and_exactly_all_at_its_ends():
    mask = occlusion(torch.tensor([-9.0, -3.0, 0.0, 3.0, 9.0]))
    assert mask[0] == mask[1] == 0.0
    assert mask[2] == pytest.approx(0.5)
    assert mask[3] == mask[4] == 1.0


def test_structural_similarity_is_that_of_the_evaluation():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 40, 56), dtype=np.uint8)
    tensors = [torch.from_numpy(one / 255.0)[None, None] for one in (first, second)]
    np.testing.assert_allclose(similarity(*tensors)[0, 0], ssim_map(first, second)[5:-5, 5:-5], atol=1e-6)


def test_what_counts_as_covered_is_where_the_two_pictures_differ(batch):
    pairs = Pairs.of(batch)
    differs = np.abs(batch.picture.astype(int) - batch.bare).max(axis=3)
    cover = pairs.cover[:, 0].numpy()
    within = batch.mask > 0
    assert (cover[within & (differs > 30)] == 1.0).all()
    far = np.stack([cv2.dilate((one > 6).astype(np.uint8), np.ones((3, 3))) == 0 for one in differs])
    assert far.any()
    assert cover[far].max() < 1e-6
    alone = batch.mask.max(axis=(1, 2)) == 0
    assert alone.any()
    assert (cover[alone] == 0.0).all()


def test_a_mirrored_pair_is_mirrored_in_every_part(batch):
    flip = torch.arange(len(batch.picture)) % 2 == 0
    plain, mirrored = Pairs.of(batch), Pairs.of(batch, flip)
    for name in ("picture", "bare", "cover", "detail"):
        before, after = getattr(plain, name), getattr(mirrored, name)
        assert torch.equal(after[flip], before[flip].flip(3)), name
        assert torch.equal(after[~flip], before[~flip]), name


def test_detail_lies_on_mouth_and_eyes_and_not_on_the_cheeks(batch):
    planes = restoration.detail_of(batch.landmarks)
    seen = {True: 0, False: 0}
    for plane, points in zip(planes, batch.landmarks * SIZE, strict=True):

        def at(number, plane=plane, points=points):
            x, y = points[POINTS.index(number)].round().astype(int)
            return plane[y, x] if 0 <= x < SIZE and 0 <= y < SIZE else None

        for number in (13, 14, 159, 386):  # lips, upper lids
            if (value := at(number)) is not None:
                assert value > 0.5
                seen[True] += 1
        for number in (152, 10, 234, 454):  # chin, forehead, sides of the face
            if (value := at(number)) is not None:
                assert value < 0.2
                seen[False] += 1
    # a turned head takes a few of the four points out of the picture, never most of them
    assert min(seen.values()) >= 3 * len(planes)


def test_a_perfect_answer_costs_nothing_and_every_flaw_something(batch):
    pairs = Pairs.of(batch)
    sure = (pairs.cover - 0.5) * 60.0
    perfect = losses(pairs.bare, sure, pairs)
    exact = {name: float(value) for name, value in perfect.items()}
    assert exact["colour"] == exact["edges"] == 0.0
    assert exact["structure"] == pytest.approx(0.0, abs=1e-4)
    untouched = losses(pairs.picture, sure, pairs)
    assert all(float(untouched[name]) > 0.05 for name in ("colour", "edges", "structure"))
    assert float(losses(pairs.bare, -sure, pairs)["mask"]) > 10 * exact["mask"]


def test_a_restorer_that_covers_nothing_gives_the_picture_back_bit_by_bit():
    restorer = Restorer(4).eval()
    with torch.no_grad():
        restorer.generator.out.weight.zero_()
        restorer.generator.out.bias.fill_(-4.0)
        picture = torch.rand(2, 3, SIZE, SIZE)
        assert torch.equal(restorer(picture)[0], picture)


def test_training_learns_goes_on_where_it_was_and_exports_what_the_runtime_opens(shards, tmp_path):
    run = tmp_path / "run"
    minute_each = itertools.count(step=60.0).__next__
    plan = Plan(minutes=60, batch=4, rate=2e-2, width=4, seed=1, every_s=1200.0)
    held_out = restoration.Evaluation(shards / "shard-00000.npz")
    before = held_out(restoration.new_restorer(plan))
    after = restoration.train(shards, run, plan, clock=minute_each)
    steps = torch.load(run / "restorer.pt", weights_only=True)["step"]
    assert steps == 60
    # from the very weights it began with, on people it does not learn from: at least a fifth less squared error
    assert after["psnr_db"] > before["psnr_db"] + 1.0
    assert after["bare_change_rms"] < 0.8 * before["bare_change_rms"]
    longer = replace(plan, minutes=63, adversarial=0.01)
    restoration.train(shards, run, longer, clock=minute_each)
    assert torch.load(run / "restorer.pt", weights_only=True)["step"] == steps + 3
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert lines[-1]["step"] == steps + 3
    with pytest.raises(InputError, match="width = 4, not 8"):
        restoration.train(shards, run, replace(plan, width=8))

    restorer = restoration.load_restorer(run / "restorer.pt").eval()
    path = tmp_path / "restorer.onnx"
    restoration.export(restorer, load_head(), path, {"pictures": 12})
    runtime = FaceRestorer(str(path))
    assert runtime.network.about["pictures"] == 12
    assert runtime.network.about["margin"] == MARGIN
    assert runtime.network.about["head_model"] == load_head().id
    patch = np.random.default_rng(5).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    made = runtime.restore(patch, Crop(64.0, 64.0, 128.0, 0.0))
    with torch.no_grad():
        picture, logits = restorer(torch.from_numpy(patch).permute(2, 0, 1)[None].float() / 255.0)
    np.testing.assert_allclose(made.picture, picture[0].permute(1, 2, 0).numpy() * 255.0, atol=3.0)
    np.testing.assert_allclose(made.occlusion, occlusion(logits)[0, 0], atol=0.02)


def test_what_is_no_restorer_is_refused_by_name(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        restoration.load_restorer(tmp_path / "none.pt")
    torch.save({"kind": "else"}, tmp_path / "else.pt")
    with pytest.raises(ModelError, match="no face restorer"):
        restoration.load_restorer(tmp_path / "else.pt")
