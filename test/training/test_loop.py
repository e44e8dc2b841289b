"""The training loop that every recipe shares."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from eifer_ros.errors import ConfigError, InputError, ModelError  # noqa: E402
from eifer_ros.training.loop import (  # noqa: E402
    Average,
    Budget,
    Checkpoint,
    Loop,
    cosine_fall,
    descend,
    descend_epoch,
    linear_fall,
    set_rates,
    threads,
    warm_up,
)


class Run:
    """A plane fitted by Adam, its batches drawn from the number of the step."""

    def __init__(self, folder: Path, steps: int = 6, **more: Any) -> None:
        torch.manual_seed(0)
        self.network = torch.nn.Linear(3, 1)
        self.optimizer = torch.optim.Adam(self.network.parameters())
        self.average = Average(self.network, 0.9)
        parts = {"network": self.network, "optimizer": self.optimizer, "average": self.average}
        identity = {"head_model": "open_head", "settings": {"rate": 0.1}}
        checkpoint = Checkpoint(folder / "run.pt", "plane", parts, identity)
        self.loop = Loop(Budget(steps), checkpoint, log=folder / "log.jsonl", **more)

    def advance(self, step: int, along: float) -> dict[str, Any]:
        set_rates(self.optimizer, 0.1 * warm_up(step, 3) * cosine_fall(along))
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        terms = {"square": (self.network(x) - x.sum(1, keepdim=True)).square().mean()}
        descend(self.optimizer, terms, clip=1.0)
        self.average.update(self.network, step)
        return terms


def test_a_stopped_run_goes_on_and_ends_bit_for_bit_like_one_that_was_not(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole")
    assert whole.loop.run(whole.advance)
    half = Run(tmp_path / "half")
    assert not half.loop.run(half.advance, stop=lambda: half.loop.step == 2)
    again = Run(tmp_path / "half")
    assert again.loop.resume() and again.loop.step == 2
    assert again.loop.run(again.advance)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])
        assert torch.equal(whole.average.state[name], again.average.state[name])
        assert not torch.equal(value, whole.average.state[name])


@pytest.mark.parametrize(("steps", "expected"), [(6, []), (8, [6, 7])])
def test_a_complete_run_does_nothing_more_until_it_is_made_longer(
    tmp_path: Path, steps: int, expected: list[int]
) -> None:
    run = Run(tmp_path)
    run.loop.run(run.advance)
    again = Run(tmp_path, steps)
    again.loop.resume()
    visited: list[int] = []

    def advance(step: int, along: float) -> dict[str, Any]:
        visited.append(step)
        return again.advance(step, along)

    assert again.loop.run(advance)
    assert visited == expected


def test_minutes_are_counted_over_all_sittings_and_each_step_learns_its_share(tmp_path: Path) -> None:
    clock = itertools.count(step=60.0).__next__
    shares: list[float] = []

    def advance(step: int, along: float) -> dict[str, float]:
        shares.append(along)
        return {}

    checkpoint = Checkpoint(tmp_path / "run.pt", "timed", {})
    Loop(Budget(minutes=4), checkpoint, clock=clock).run(advance, stop=lambda: len(shares) == 3)
    rest = Loop(Budget(minutes=6), checkpoint, clock=clock)
    assert rest.resume() and rest.minutes == 3.0
    assert rest.run(advance)
    assert shares == pytest.approx([0, 1 / 4, 2 / 4, 3 / 6, 4 / 6, 5 / 6])


def test_each_time_a_run_is_saved_its_log_gains_mean_losses_and_what_the_judge_says(tmp_path: Path) -> None:
    run = Run(tmp_path, 5, save_every=2)
    saved: list[int] = []
    losses = iter([1.0, 2.0, 3.0, 4.0, 5.0])

    def judge(step: int, means: dict[str, float]) -> dict[str, float]:
        saved.append(step)
        return {"score": 10.0 * step}

    run.loop.run(lambda step, along: {"square": next(losses)}, judge=judge)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert saved == [line["step"] for line in lines] == [2, 4, 5]
    assert [line["square"] for line in lines] == [1.5, 2.5, 3.0]
    assert [line["score"] for line in lines] == [20.0, 40.0, 50.0]


def test_a_process_that_is_not_the_first_writes_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, writes=False)
    assert run.loop.run(run.advance)
    assert list(tmp_path.iterdir()) == []


def test_progress_is_reported_after_every_step(tmp_path: Path) -> None:
    run = Run(tmp_path, 3)
    steps: list[int] = []
    run.loop.run(run.advance, progress=lambda step, means: steps.append(step))
    assert steps == [1, 2, 3]


HEAD, RATE = {"head_model": "open_head"}, {"settings": {"rate": 0.1}}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"kind": "other"}, ModelError, "not a checkpoint of 'plane'"),
        ({"format": None}, ModelError, "format None; this version of eifer reads format 1"),
        ({"identity": {"head_model": "mine"} | RATE}, ModelError, "another head model"),
        ({"identity": HEAD | {"settings": {"rate": 0.2}}}, InputError, r"rate = 0\.2, not 0\.1"),
        ({"identity": HEAD}, InputError, r"rate = None, not 0\.1"),
        ({"network": {"weight": torch.zeros(1, 3)}}, ModelError, "bias missing"),
        ({"network": {"weight": torch.zeros(1, 4), "bias": torch.zeros(1)}}, ModelError, "has shape"),
        ({"network": {"weight": torch.ones(1, 3) / 0, "bias": torch.zeros(1)}}, ModelError, "not finite"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    run = Run(tmp_path, 1)
    run.loop.run(run.advance)
    path = tmp_path / "run.pt"
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(error, match=words):
        Run(tmp_path).loop.resume()


def test_a_checkpoint_without_one_of_its_parts_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path, 1)
    run.loop.run(run.advance)
    path = tmp_path / "run.pt"
    content = torch.load(path, weights_only=True)
    torch.save({name: value for name, value in content.items() if name != "optimizer"}, path)
    with pytest.raises(ModelError, match="optimizer missing"):
        Run(tmp_path).loop.resume()


def test_a_gradient_that_is_not_finite_changes_nothing_and_the_next_step_learns() -> None:
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    before = network.weight.detach().clone()
    assert not descend(optimizer, {"broken": network(torch.full((1, 2), torch.inf)).sum()}, clip=1.0)
    assert torch.equal(network.weight, before)
    assert descend(optimizer, {"sound": network(torch.ones(1, 2)).sum()}, clip=1.0)
    assert torch.isfinite(network.weight).all() and not torch.equal(network.weight, before)


def test_a_clipped_step_is_as_long_as_its_limit() -> None:
    network = torch.nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    before = network.weight.detach().clone()
    descend(optimizer, {"steep": 1000.0 * network(torch.ones(1, 2)).sum()}, clip=0.5)
    assert float((network.weight - before).detach().norm()) == pytest.approx(0.5, rel=1e-4)


def test_an_epoch_visits_every_row_once_in_an_order_that_belongs_to_its_seed() -> None:
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=0.0)

    def order(seed: int) -> list[int]:
        rows: list[int] = []

        def loss(part: torch.Tensor) -> torch.Tensor:
            assert len(part) <= 4
            rows.extend(part.tolist())
            return weight * 0.0 + part.float().mean()

        result = descend_epoch(optimizer, loss, torch.arange(10), 4, torch.Generator().manual_seed(seed))
        assert result["loss"] == pytest.approx(4.5)  # the mean over rows, though the last batch is smaller
        return rows

    assert sorted(order(0)) == list(range(10))
    assert order(0) == order(0) != order(1)


def test_the_running_mean_is_short_in_the_beginning_and_then_has_its_decay() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.zero_()
    average = Average(network, 0.5)
    expected = 0.0
    for step in range(20):
        with torch.no_grad():
            network.weight.fill_(step + 1.0)
        average.update(network, step)
        decay = min(0.5, (step + 1) / (step + 11))
        expected = decay * expected + (1 - decay) * (step + 1.0)
    assert float(average.state["weight"]) == pytest.approx(expected, rel=1e-6)


def test_learning_rates_rise_and_fall_as_they_say() -> None:
    assert [warm_up(step, 4) for step in (0, 1, 3, 9)] == [0.25, 0.5, 1.0, 1.0]
    assert [linear_fall(along, 0.5) for along in (0.0, 0.5, 0.75, 1.0)] == [1.0, 1.0, 0.5, 0.0]
    assert [cosine_fall(along) for along in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.5, 0.0])


@pytest.mark.parametrize(
    "length", [{}, {"steps": 0}, {"minutes": -1.0}, {"minutes": math.nan}, {"steps": 1, "minutes": 1.0}]
)
def test_a_budget_is_one_length_above_zero(length: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="steps or minutes"):
        Budget(**length)


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
