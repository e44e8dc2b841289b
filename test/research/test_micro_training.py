"""What small motion is learnt from: drawn movements, the prior, the network's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eifer_ros.errors import ModelError
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.inference.network import open_network
from eifer_ros.micro.core import load_prior
from eifer_ros.micro.geometry import FaceSkin
from eifer_ros.simulation.muscles import ACTUATORS

torch = pytest.importorskip("torch")

from research.micro import micro_data, micro_motion, micro_networks  # noqa: E402  (needs torch)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head()


@given(st.integers(0, 2**31))
def test_movements_are_macro_movements_scaled_down(seed: int) -> None:
    levels = micro_data.draw_levels(np.random.default_rng(seed))
    assert levels.shape == (len(ACTUATORS),) and levels.min() >= 0.0
    assert 0.0 < levels.max() <= micro_data.SCALE[1]
    assert levels[ACTUATORS.index("lid_closer")] == 0.0


def test_training_people_are_never_those_that_are_judged() -> None:
    from eifer_ros.evaluation.protocol import PARTICIPANTS

    assert micro_data.FIRST_SEED < micro_data.VALIDATION_SEED < min(PARTICIPANTS) - 500_000


def test_a_relative_motion_brings_the_head_from_one_pose_to_the_other(head: HeadModel) -> None:
    from eifer_ros.simulation.participant import Participant

    person = Participant(3, program="rest")
    first, second, centre = person.head_pose(0.0), person.head_pose(2.0), np.array([0.01, 0.02, 0.7])
    turn, shift = micro_data.relative(second, first, centre)
    points = head.template[::500].astype(np.float64)
    camera = points @ first[:3, :3].T + first[:3, 3]
    assert (
        np.abs(
            (camera - centre) @ turn.T + centre + shift - (points @ second[:3, :3].T + second[:3, 3])
        ).max()
        < 1e-12
    )


def test_the_prior_comes_back_as_it_was_saved(
    head: HeadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skin = FaceSkin.of(head)
    movements = micro_motion.small_movements(skin, participants=2, each=6)
    assert movements.shape == (12, head.expression_size + 3 * skin.modes.shape[1])
    (tmp_path / "models").mkdir()
    micro_motion.save_prior(tmp_path / "models" / "micro_motion.npz", head, movements)
    monkeypatch.setenv("EIFER_SHARE", str(tmp_path))
    found = load_prior(head, skin).covariance
    # twelve movements have twelve directions, all of which are kept
    second = movements.T @ movements / len(movements) + np.diag(
        micro_motion.own_variance(head, movements.shape[1])
    )
    scale = np.sqrt(np.diag(second))
    assert np.abs((found - second) / np.outer(scale, scale)).max() < 1e-4
    with np.load(tmp_path / "models" / "micro_motion.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(tmp_path / "models" / "micro_motion.npz", **{**arrays, "factor": arrays["factor"][:-3]})
    with pytest.raises(ModelError, match="unknowns"):
        load_prior(head, skin)


def test_the_exported_network_computes_what_the_trained_one_did(head: HeadModel, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = micro_networks.perceptron(20, 16, 5, 0.2).eval()
    assert (
        float(network(torch.randn(3, 20)).detach().abs().max()) == 0.0
    )  # before training it corrects nothing
    torch.nn.init.normal_(network[-1].weight)
    path = tmp_path / "net.onnx"
    micro_networks.export(network, path, 20, "change", "micro_dynamic", head)
    inputs = np.random.default_rng(0).normal(size=(4, 20)).astype(np.float32)
    found = open_network(str(path))
    (out,) = found.run(["change"], {"features": inputs})
    with torch.no_grad():
        assert np.abs(out - network(torch.from_numpy(inputs)).numpy()).max() < 1e-5
    assert found.about["kind"] == "micro_dynamic" and found.about["head_model"] == head.id
