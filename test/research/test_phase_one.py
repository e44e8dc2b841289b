"""EIFER's phase 1: what passes through a cycle, what each loss does, and that a stopped run is the same run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from phase_one_parts import SIZE, TINY, data, domain, face, torch_head, trainer  # noqa: E402

from eifer_ros.errors import ConfigError, InputError, ModelError  # noqa: E402
from eifer_ros.head.model import load_head  # noqa: E402
from research.common.torch_raster import Camera  # noqa: E402
from research.faces.face_data import Unpaired  # noqa: E402
from research.faces.losses import Motion, Weights, least_squares, masked, transformation  # noqa: E402
from research.faces.phase_one import CHECKPOINT, Painter, Pool, Settings, objective  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- M()


def test_the_mask_keeps_surroundings_removes_the_face_and_leaves_about_one_percent_of_it() -> None:
    picture = torch.full((2, 3, 200, 200), 0.5)
    covered = torch.zeros(2, 200, 200, dtype=torch.bool)
    covered[:, 40:160, 40:160] = True
    hidden = masked(picture, covered, covered.float(), random(), kept_share=0.01, grow=5)
    assert torch.equal(hidden[:, :, :35], picture[:, :, :35])
    ring = hidden[:, :, 36:40, 60:140]
    assert float(ring.abs().max()) == 0.0  # beyond the drawing, too
    share = float((hidden[:, 0, 40:160, 40:160] > 0).float().mean())
    assert 0.007 < share < 0.013
    kept = hidden[:, 0, 40:160, 40:160]
    np.testing.assert_allclose(float(kept[kept > 0].mean()), 0.5, atol=0.02)


def test_regions_with_half_the_weight_keep_half_as_many_pixels() -> None:
    covered = torch.ones(1, 300, 300, dtype=torch.bool)
    weight = torch.ones(1, 300, 300)
    weight[:, :150] = 0.5
    hidden = masked(torch.ones(1, 3, 300, 300), covered, weight, random(), kept_share=0.05)[0, 0] > 0
    assert float(hidden[:150].float().mean()) == pytest.approx(
        0.5 * float(hidden[150:].float().mean()), rel=0.15
    )


# --- a cycle


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory):
    return trainer(tmp_path_factory.mktemp("run"))


def run_cycles(made):
    nets, painter = made.networks, made.painter
    bare, sensors = made.data.batch(0, 2)
    n = painter.cycle(bare, nets.encoder_n, nets.encoder_s, nets.generator_ns, nets.generator_sn, random())
    s = painter.cycle(sensors, nets.encoder_s, nets.encoder_n, nets.generator_sn, nets.generator_ns, random())
    return n, s


def test_what_the_face_does_reaches_the_translation_only_through_the_head_model(networks) -> None:
    """With the pixels of M() at 0 and the reading held fixed, changing the face in the picture changes
    nothing in its translation.
    """
    painter = Painter(
        torch_head(), Settings(steps=1, kept=0.0, **{k: v for k, v in TINY.items() if k != "kept"})
    )
    model = face()
    bare, _ = networks.data.batch(0, 2)
    networks.networks.generator_ns.eval()
    with torch.no_grad():
        read = model.read(bare)
        render, hidden = painter.draw_and_mask(bare, read, random())
        _, fragments = painter.renderer.draw(read.vertices, read.camera)
        assert fragments.covered.float().mean() > 0.1
        other = torch.where(fragments.covered[:, None], 1.0 - bare, bare)
        again, veiled = painter.draw_and_mask(other, read, random())
        assert torch.equal(hidden, veiled) and torch.equal(render, again)
        changed = model.read(bare).vertices + 0.01
        drawn, _ = painter.renderer.draw(changed, read.camera)
        assert not torch.equal(drawn, render)
    networks.networks.generator_ns.train()


def test_every_loss_is_counted_in_both_directions_and_a_weight_of_zero_switches_it_off(networks) -> None:
    n, s = run_cycles(networks)
    nets, motion = networks.networks, networks.motion
    ones = Weights(1, 1, 1, 1, 1, 1)
    both = objective(nets, n, s, motion, ones)
    assert set(both) == {"adversarial", "reconstruction", "expression", "transformation", "minimal", "shape"}
    by_hand = {
        "adversarial": least_squares(nets.discriminator_s(n.painted), True)
        + least_squares(nets.discriminator_n(s.painted), True),
        "reconstruction": (n.real - n.back).abs().mean() + (s.real - s.back).abs().mean(),
        "expression": motion.expression(n.read, n.again) + motion.expression(s.read, s.again),
        "transformation": transformation(n.read, n.again) + transformation(s.read, s.again),
        "minimal": (n.real - n.painted).abs().mean() + (s.real - s.painted).abs().mean(),
        "shape": motion.shape([n.read, n.again, s.read, s.again]),
    }
    for name, value in by_hand.items():
        assert float(both[name].detach()) == pytest.approx(float(value.detach()), rel=1e-3, abs=1e-5), name
        off = objective(nets, n, s, motion, replace(ones, **{name: 0.0}))
        assert set(off) == set(both) - {name}
        twice = objective(nets, n, s, motion, replace(ones, **{name: 2.0}))
        assert float(twice[name].detach()) == pytest.approx(
            2.0 * float(both[name].detach()), rel=1e-3, abs=1e-5
        )


@pytest.mark.parametrize(
    "name", ["adversarial", "reconstruction", "expression", "transformation", "minimal", "shape"]
)
def test_each_loss_alone_teaches_the_networks_it_should(networks, name: str) -> None:
    n, s = run_cycles(networks)
    nets = networks.networks
    zero = dict.fromkeys(
        ("adversarial", "reconstruction", "expression", "transformation", "minimal", "shape"), 0.0
    )
    terms = objective(nets, n, s, networks.motion, Weights(**(zero | {name: 1.0})))
    nets.zero_grad(set_to_none=True)
    terms[name].backward()

    def learns(module: torch.nn.Module) -> bool:
        return any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in module.parameters())

    assert learns(nets.encoder_n) and learns(nets.encoder_s)  # through the drawing, or directly
    assert learns(nets.generator_ns) and learns(nets.generator_sn)
    nets.zero_grad(set_to_none=True)


def test_expression_distance_is_the_motion_of_the_skin_in_millimetres() -> None:
    head = load_head()
    motion = Motion(head, torch.device("cpu"))
    with torch.no_grad():
        read = face().read(torch.rand(1, 3, SIZE, SIZE))
    off = torch.zeros_like(read.expression)
    off[0, head.expression_names.index("jawOpen")] = 0.7
    other = replace(read, expression=read.expression + off)
    rows = head.regions["face"]
    moved = 1e3 * 0.7 * head.expression_basis[rows][:, :, head.expression_names.index("jawOpen")]
    truth = float(np.sqrt((moved**2).sum(axis=1).mean()))
    assert float(motion.expression(read, other)) == pytest.approx(truth, rel=0.01)
    assert float(motion.expression(read, read)) == pytest.approx(0.0, abs=1e-6)


def test_the_transformation_loss_sees_rotation_scale_and_shift() -> None:
    with torch.no_grad():
        read = face().read(torch.rand(1, 3, SIZE, SIZE))
    c = read.camera
    assert float(transformation(read, read)) == 0.0
    for other in (
        Camera(c.rotation.flip(1), c.scale, c.shift),
        Camera(c.rotation, 1.1 * c.scale, c.shift),
        Camera(c.rotation, c.scale, c.shift + 0.1),
    ):
        assert float(transformation(read, replace(read, camera=other))) > 1e-3


# --- data


def test_batches_are_unpaired_and_show_the_same_people() -> None:
    made = data()
    rows = [[domain(1).row(p), domain(2).row(p)] for p in ("a", "b")]
    assert all(len(r) for pair in rows for r in pair)
    bare, sensors = made.batch(3, 6)
    assert bare.shape == sensors.shape == (6, 3, SIZE, SIZE) and not torch.equal(bare, sensors)
    again = made.batch(3, 6)
    assert torch.equal(bare, again[0]) and torch.equal(sensors, again[1])
    assert not torch.equal(bare, made.batch(4, 6)[0]) and not torch.equal(bare, made.batch(3, 6, rank=1)[0])
    kept = set(vars(domain(1)))
    assert kept == {
        "crops",
        "person",
        "people",
        "skipped",
    }  # no stamp, clip or parameter by which a pair could be found


def test_people_seen_on_one_side_only_are_left_out_and_nobody_on_both_sides_is_an_error() -> None:
    made = Unpaired(domain(1, ("a", "b")), domain(2, ("b", "c")), SIZE, 0)
    assert made.people == ("b",) and made.left_out == ("a", "c")
    with pytest.raises(InputError, match="nobody is seen both bare and under sensors"):
        Unpaired(domain(1, ("a",)), domain(2, ("c",)), SIZE, 0)
    assert Unpaired(domain(1, ("",)), domain(2, ("p07",)), SIZE, 0).people == ("",)


def test_the_pool_gives_back_pictures_of_earlier_steps() -> None:
    pool, rng = Pool(2), np.random.default_rng(0)
    first = torch.zeros(2, 3, 4, 4)
    assert torch.equal(pool.swap(first, rng), first)
    given = torch.cat([pool.swap(torch.full((1, 3, 4, 4), float(k)), rng) for k in range(1, 30)])
    earlier = [float(one.mean()) < k for k, one in enumerate(given, start=1)]
    assert 0.25 < np.mean(earlier) < 0.75 and len(pool.held) == 2


# --- a run


def weights_of(made) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in made.networks.state_dict().items()}


def test_a_run_that_was_stopped_and_resumed_ends_bit_for_bit_like_one_that_was_not(tmp_path: Path) -> None:
    settings = Settings(steps=3, **TINY)
    whole = trainer(tmp_path / "whole", settings)
    begun = weights_of(whole)
    assert whole.train()
    half = trainer(tmp_path / "half", settings)
    assert not half.train(stop=lambda: half.step >= 1)
    assert half.step == 1
    going_on = trainer(tmp_path / "half", settings)
    assert going_on.resume() and going_on.step == 1
    assert going_on.train()
    for name, value in weights_of(whole).items():
        assert torch.equal(value, going_on.networks.state_dict()[name]), name
        assert torch.equal(whole.average.state[name], going_on.average.state[name]), name
    moved = [
        name for name, value in begun.items() if not torch.equal(value, whole.networks.state_dict()[name])
    ]
    for part in (
        "encoder_n.",
        "encoder_s.",
        "generator_ns.",
        "generator_sn.",
        "discriminator_n.",
        "discriminator_s.",
    ):
        assert any(name.startswith(part) and "running" not in name for name in moved), part
    assert not any(
        "encoder" in name and "running" in name for name in moved
    )  # its statistics stay those of its pretraining
    sheet = tmp_path / "whole" / "pictures" / "step_000003.png"
    assert sheet.stat().st_size > 1000
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 3 and {"adversarial", "shape", "judges"} <= set(lines[-1])


def test_with_an_encoder_rate_of_zero_only_generators_learn(tmp_path: Path) -> None:
    made = trainer(tmp_path, Settings(steps=1, encoder_rate=0.0, **TINY))
    before = weights_of(made)
    made.train()
    after = made.networks.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert any(name.startswith("encoder") for name in after)
    assert not any(name.startswith("encoder") for name in moved)
    assert any(name.startswith("generator") for name in moved)


def test_a_checkpoint_of_another_run_head_or_architecture_is_refused(tmp_path: Path) -> None:
    settings = Settings(steps=1, **TINY)
    made = trainer(tmp_path, settings)
    made.train()
    with pytest.raises(InputError, match="seed = 0, not 5"):
        trainer(tmp_path, replace(settings, seed=5)).resume()
    with pytest.raises(InputError, match="reference = r, not other"):
        trainer(tmp_path, settings, about={"reference": "other"}).resume()
    head = load_head()
    with pytest.raises(ModelError, match="another head model"):
        trainer(tmp_path, settings, head=replace(head, id="my_head")).resume()
    path = tmp_path / CHECKPOINT
    content = torch.load(path, weights_only=True)
    torch.save({**content, "networks": {"conv.weight": torch.zeros(1)}}, path)
    with pytest.raises(ModelError, match="missing"):
        trainer(tmp_path, settings).resume()
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(ModelError, match="not a checkpoint of 'eifer_phase_one'"):
        trainer(tmp_path, settings).resume()
    path.write_bytes(b"half a checkpoi")
    with pytest.raises(InputError, match="not a torch checkpoint"):
        trainer(tmp_path, settings).resume()


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(tmp_path, Settings(steps=1, **TINY))
    made.save()
    before = (tmp_path / CHECKPOINT).read_bytes()

    def half(content: object, path: Path) -> None:
        Path(path).write_bytes(b"PK half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        made.save()
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 100}, "multiple of 16"),
        ({"steps": 0}, "at least 1"),
        ({"kept": 1.5}, "within 0..1"),
        ({"rate": 0.0}, "above 0"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(Settings(), **change).check()


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("shap=0", "did you mean 'shape'"),
        ("shape=-1", "0 or more"),
        ("shape=x", "0 or more"),
        ("shape", "0 or more"),
    ],
)
def test_a_loss_switch_that_means_nothing_is_refused(word: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Weights.of([word])
    assert Weights.of(["shape=0", "minimal=3"]) == replace(Weights(), shape=0.0, minimal=3.0)


# --- several processes

_RANK = """
import sys, torch
sys.path[:0] = [sys.argv[2], sys.argv[2] + "/../.."]
torch.set_num_threads(1)
from pathlib import Path
from phase_one_parts import TINY, data, face
from eifer_ros.head.model import load_head
from research.faces.phase_one import Settings, Trainer
from research.common.ranks import Ranks
ranks = Ranks.join("cpu")
made = Trainer(face, load_head(), data(), Settings(steps=2, **TINY), Path(sys.argv[1]), ranks, {})
made.train()
torch.save(made.networks.state_dict(), Path(sys.argv[1]) / f"rank{ranks.rank}.pt")
ranks.leave()
"""


def test_two_processes_on_other_pictures_keep_the_same_weights(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(_RANK)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
        str(tmp_path),
        str(Path(__file__).parent),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / f"rank{k}.pt", weights_only=True) for k in (0, 1))
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=0, msg=name)
    alone = trainer(tmp_path / "alone", Settings(steps=2, **TINY), about={})
    alone.train()
    assert any(not torch.equal(value, alone.networks.state_dict()[name]) for name, value in first.items())
    assert (tmp_path / CHECKPOINT).exists() and (tmp_path / "log.jsonl").exists()


_STOPPED = """
import sys, torch
sys.path[:0] = [sys.argv[2], sys.argv[2] + "/../.."]
torch.set_num_threads(1)
from pathlib import Path
from phase_one_parts import TINY, trainer
from eifer_ros.console import until_interrupted
from research.faces.phase_one import Settings
made = trainer(Path(sys.argv[1]), Settings(steps=100000, **TINY))
with until_interrupted() as stop:
    made.train(lambda step, means: print(step, flush=True), stop.is_set)
print("closed", made.step, flush=True)
"""


def test_an_interrupt_ends_the_step_and_saves(tmp_path: Path) -> None:
    script = tmp_path / "stop.py"
    script.write_text(_STOPPED)
    command = [sys.executable, str(script), str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "1"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read().split()
    assert process.returncode == 0 and "closed" in rest
    content = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert content["step"] == int(rest[-1]) >= 1
