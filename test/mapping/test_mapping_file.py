"""What a fitted mapping promises: its file, what it refuses, its networks, its honesty."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mapping_data import MUSCLES, fitted, series

from eifer_ros.errors import InputError, MissingExtra, ModelError
from eifer_ros.inference.network import open_bytes
from eifer_ros.mapping.features import training_pairs
from eifer_ros.mapping.fit import FitSettings, fit, fit_linear
from eifer_ros.mapping.mapping import Mapping
from eifer_ros.mapping.scores import scores
from eifer_ros.training.trainers import network_trainer

KINDS = ["ridge", "rff", "mlp", "tcn"]


def need(kind: str) -> None:
    if kind in ("mlp", "tcn"):
        pytest.importorskip("torch")
        pytest.importorskip("onnx")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mapping_comes_back_from_its_file_as_it_was(kind: str, tmp_path: Path) -> None:
    need(kind)
    mapping, _ = fitted(kind)
    mapping.save(tmp_path / "m.npz")
    again = Mapping.load(tmp_path / "m.npz")
    data = series(5.0, seed=3)
    for name in ("emg2exp", "exp2emg"):
        first, second = getattr(mapping, name), getattr(again, name)
        source = data.activation if name == "emg2exp" else data.face
        features, _, _ = training_pairs(data, replace(first.spec, ahead_s=0.0), source, source)
        # the arrays are the same; how they lie in memory may change the last digit of a product
        np.testing.assert_allclose(first.predict(features), second.predict(features), rtol=1e-4, atol=1e-6)
        assert first.spec == second.spec and first.kind == second.kind and first.outputs == second.outputs
        np.testing.assert_allclose(
            first.predict_one(features[0])[1], second.predict_one(features[0])[1], rtol=1e-6
        )
    assert (again.lag, again.scheme, again.muscles, again.profile) == (
        mapping.lag,
        mapping.scheme,
        mapping.muscles,
        mapping.profile,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_follows_a_saturating_lagging_face_in_a_recording_it_has_not_seen(kind: str) -> None:
    need(kind)
    mapping, _ = fitted(kind)
    data = series(30.0, seed=9)
    features, truth, _ = training_pairs(data, mapping.emg2exp.spec, data.activation, data.face)
    _, r2 = scores(truth[:, :3], mapping.emg2exp.predict(features)[:, :3])
    assert r2.min() > 0.9
    with_one = np.stack([mapping.emg2exp.predict_one(row)[0] for row in features[:50]])
    np.testing.assert_allclose(with_one, mapping.emg2exp.predict(features[:50]), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_mapping(kind: str) -> None:
    need(kind)
    data = series(12.0)
    features, _, _ = training_pairs(data, fitted("ridge")[0].emg2exp.spec, data.activation, data.face)
    first, second = (fitted(kind, data)[0].emg2exp.regressor for _ in range(2))
    if kind != "tcn":  # another context
        # the arrays are the same; how they lie in memory may change the last digit of a product
        np.testing.assert_allclose(first.predict(features), second.predict(features), rtol=1e-4, atol=1e-6)
    for name, value in first.arrays().items():
        np.testing.assert_array_equal(value, second.arrays()[name])


def test_the_onnx_graph_computes_what_torch_computes() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from eifer_ros.training.mapping_networks import Mlp, Tcn, to_onnx

    torch.manual_seed(0)
    for model, width in ((Mlp(12, 5, 0.0), 12), (Tcn(3, 16, 5, 0.0), 48)):
        rows = torch.randn(7, width)
        (got,) = open_bytes(to_onnx(model), "a test").run(["targets"], {"features": rows.numpy()})
        np.testing.assert_allclose(got, model.eval()(rows).detach().numpy(), atol=1e-5)


def test_the_tcn_is_a_stack_of_dilated_causal_convolutions_at_the_newest_instant() -> None:
    torch = pytest.importorskip("torch")
    from eifer_ros.training.mapping_networks import Tcn

    torch.manual_seed(1)
    model = Tcn(3, 8, 2, 0.0).eval()
    time = torch.randn(1, 8, 3)  # oldest first
    x = model.into(time).transpose(1, 2)
    for level, join in enumerate(model.joins):
        new, old = join.weight[:, : x.shape[1]], join.weight[:, x.shape[1] :]
        kernel = torch.stack([old, new], dim=2)
        out = torch.nn.functional.conv1d(x, kernel, join.bias, dilation=2**level)
        x = x[:, :, 2**level :] + torch.relu(out)
    expected = model.out(x[:, :, -1])
    newest_first = time.flip(1).reshape(1, -1)
    np.testing.assert_allclose(model(newest_first).detach(), expected.detach(), atol=1e-5)


def test_stretches_for_training_watching_and_judging_keep_their_distance() -> None:
    pytest.importorskip("torch")
    from eifer_ros.training.mapping_networks import stretches

    learn, watch, held_out_rows = stretches(2000, 30)
    for held in (watch, held_out_rows):
        assert len(held) > 300 and np.abs(learn[:, None] - held[None]).min() > 30
    assert np.abs(watch[:, None] - held_out_rows[None]).min() > 30


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"scheme": "kuramoto"}, "kuramoto"),
        ({"profile": "rms100"}, "rms100"),
        ({"muscles": (*MUSCLES[:2], "masseter_left")}, "masseter_left"),
    ],
)
def test_activity_of_another_montage_is_refused_by_name(change: dict[str, object], word: str) -> None:
    mapping, _ = fitted("ridge")
    usual: dict[str, object] = {
        "scheme": mapping.scheme,
        "muscles": mapping.muscles,
        "profile": mapping.profile,
    }
    mapping.check(**usual)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=word):
        mapping.check(**(usual | change))  # type: ignore[arg-type]


def test_another_head_model_is_refused_by_name() -> None:
    mapping, _ = fitted("ridge")
    with pytest.raises(ModelError, match="flame2023"):
        mapping.check_head("flame2023")


def test_damaged_foreign_and_missing_files_are_model_errors(tmp_path: Path) -> None:
    mapping, _ = fitted("ridge")
    good = tmp_path / "good.npz"
    mapping.save(good)
    whole = good.read_bytes()
    for name, content in (
        ("cut", whole[: len(whole) // 2]),
        ("empty", b""),
        ("text", b"hello"),
        ("torn", whole[:300] + b"\0" * 64 + whole[364:]),
    ):
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=name):
            Mapping.load(path)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ModelError, match="other"):
        Mapping.load(tmp_path / "other.npz")
    with pytest.raises(ModelError, match="eifer fit"):
        Mapping.load(tmp_path / "none.npz")


def test_a_file_with_a_pickle_inside_is_refused(tmp_path: Path) -> None:
    mapping, _ = fitted("ridge")
    mapping.save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["shape"] = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "p.npz", **arrays, allow_pickle=True)
    with pytest.raises(ModelError):
        Mapping.load(tmp_path / "p.npz")


def test_a_recording_in_which_nothing_moves_or_too_little_is_known_is_refused() -> None:
    still = series(20.0)
    with pytest.raises(InputError, match="nothing in the face moves"):
        fitted("ridge", replace(still, face=np.zeros_like(still.face)))
    unseen = still.face.copy()
    unseen[500:] = np.nan
    with pytest.raises(InputError, match="at least 10 s"):
        fitted("ridge", replace(still, face=unseen))


def test_an_unknown_model_is_named_with_its_neighbour() -> None:
    with pytest.raises(InputError, match="did you mean 'ridge'"):
        fitted("rigde")


def test_a_coefficient_that_never_moved_stays_at_rest_and_knows_it() -> None:
    mapping, _ = fitted("rff")
    assert list(mapping.emg2exp.learnt) == [True] * 3 + [False] * 5
    out = mapping.emg2exp.predict(np.ones((1, len(mapping.emg2exp.spec.steps) * 3)))
    np.testing.assert_array_equal(out[0, 3:], mapping.emg2exp.rest[3:])


def test_uncertainty_is_that_of_held_out_rows_and_grows_far_from_them() -> None:
    mapping, held_out = fitted("rff")
    error = np.sqrt(((held_out["emg2exp"].predicted - held_out["emg2exp"].truth) ** 2).mean(axis=0))
    width = len(mapping.emg2exp.spec.steps) * 3
    near = mapping.emg2exp.predict_one(np.full(width, 0.1, np.float32))[1][:3]
    far = mapping.emg2exp.predict_one(np.full(width, 30.0, np.float32))[1][:3]
    assert (near >= error * 0.999).all() and (near < 1.5 * error).all() and (far > 2 * near).all()


def test_thinned_rows_are_the_rows_reported() -> None:
    data = series(20.0)
    features, targets, _ = training_pairs(data, fitted("ridge")[0].emg2exp.spec, data.activation, data.face)
    _, held_out, _ = fit_linear(features, targets, 15, FitSettings(kind="ridge"), stride=3)
    np.testing.assert_array_equal(held_out.truth, targets[held_out.rows])
    assert (np.diff(held_out.rows) == 3).all()


def test_a_network_without_a_trainer_is_refused_before_anything_is_computed() -> None:
    stages: list[str] = []
    data = series(20.0)
    with pytest.raises(InputError, match="train_network"):
        fit(
            data,
            profile="live",
            lower=np.zeros(3, np.float32),
            upper=np.ones(3, np.float32),
            shape=np.zeros(2, np.float32),
            envelope=data.activation * 1e-4,
            settings=FitSettings(kind="tcn"),
            progress=lambda stage, share: stages.append(stage),
        )
    assert stages == []


@pytest.mark.parametrize(
    ("kind", "network"), [("ridge", False), ("rff", False), ("mlp", True), ("tcn", True)]
)
def test_only_networks_need_torch_and_the_error_names_its_extra(
    kind: str, network: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "eifer_ros.training.mapping_networks", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    if not network:
        assert network_trainer(kind) is None
        return
    with pytest.raises(MissingExtra, match=rf"fitting a '{kind}' mapping needs .* 'eifer_ros\[train\]'"):
        network_trainer(kind)
