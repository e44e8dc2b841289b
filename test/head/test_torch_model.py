"""The torch half gives what the numpy half gives, and gradients that hold."""

from __future__ import annotations

import numpy as np
import pytest
from test_model import small_head

from eifer_ros.head.model import HeadModel, load_head

torch = pytest.importorskip("torch", reason="torch is in the extra 'train'")
from eifer_ros.head.torch_model import TorchHead, rotation_matrix  # noqa: E402


def _sample(head: HeadModel, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "shape": rng.normal(size=head.shape_size),
        "expression": rng.random(head.expression_size),
        "jaw": rng.normal(0, 0.3, 3),
        "neck": rng.normal(0, 0.3, 3),
        "eyes": rng.normal(0, 0.3, (2, 3)),
        "eyelids": rng.random(2),
    }


@pytest.mark.parametrize("head", [small_head(), load_head()], ids=["small", "open head"])
def test_torch_and_numpy_agree_to_1e_5(head: HeadModel) -> None:
    samples = [_sample(head, seed) for seed in range(3)]
    stacked = {
        key: torch.tensor(np.stack([sample[key] for sample in samples]), dtype=torch.float32)
        for key in samples[0]
    }
    module = TorchHead(head)
    got = module.vertices(**stacked)
    for index, sample in enumerate(samples):
        want = head.vertices(**sample)
        assert np.abs(got[index].numpy() - want).max() < 1e-5
        assert (
            np.abs(module.gaze(stacked["expression"])[index].numpy() - head.gaze(sample["expression"])).max()
            < 1e-5
        )
    which = next(iter(head.embeddings))
    assert (
        np.abs(module.points(got, which)[0].numpy() - head.points(head.vertices(**samples[0]), which)).max()
        < 1e-5
    )


def test_a_resting_joint_has_a_finite_gradient() -> None:
    pose = torch.zeros(1, 3, requires_grad=True)
    rotation_matrix(pose).sum().backward()
    assert torch.isfinite(pose.grad).all()


def test_gradients_of_vertices_agree_with_finite_differences() -> None:
    head = small_head()
    module = TorchHead(head)
    for name in (
        "template",
        "shape_basis",
        "expression_basis",
        "joint_template",
        "joint_shape_basis",
        "joint_expression_basis",
        "skin_weights",
        "pose_basis",
        "eyelid_basis",
    ):
        setattr(module, name, getattr(module, name).double())
    jaw = torch.tensor([[0.2, -0.1, 0.3]], dtype=torch.float64, requires_grad=True)
    shape = torch.tensor([[0.5, -1.0, 0.1, 0.4]], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(
        lambda j, s: module.vertices(s, jaw=j, neck=0.5 * j), (jaw, shape), eps=1e-6, atol=1e-7
    )


def test_without_arguments_it_is_the_template() -> None:
    head = small_head()
    assert np.array_equal(TorchHead(head).vertices()[0].numpy(), head.template)
