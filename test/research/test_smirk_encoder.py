"""SMIRK's encoder: names, shapes and outputs of the published architecture; a checkpoint is read without
running what is in it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from eifer_ros.errors import InputError, ModelError  # noqa: E402
from eifer_ros.head.model import Embedding, HeadModel, load_head  # noqa: E402
from eifer_ros.reconstruction.encoder.smirk_estimator import OUTPUTS, SIZE  # noqa: E402
from research.faces import smirk_encoder  # noqa: E402
from research.faces.smirk_encoder import SmirkEncoder, load_checkpoint  # noqa: E402

# what timm 0.9.16's tf_mobilenetv3_*_minimal_100 under SMIRK's own encoder class give: names with shapes,
# and, for the weights and the picture that `weights` and `picture` make, some outputs
REFERENCE_NAMES = "4ae075c1a93d72572d473e166c0ca842586aaa78c1a249fd58d21e6160a4de04"
REFERENCE_OUTPUTS = {
    "shape": [0.201258, -0.456256, 0.096422, 0.433946, 0.291933, -0.875204],
    "expression": [0.534184, 0.155253, 0.342983, 0.450644, -0.179120, 0.738910],
    "eyelids": [0.126395, 0.031315],
    "jaw": [0.208932, 0.187074, 0.200000],
    "rotation": [0.100679, -0.143738, 0.025037],
    "camera": [-0.198698, 0.108293, 0.146636],
}


def weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights that depend on nothing but the name and shape of each tensor, with activations of ordinary
    size.
    """
    made = {}
    for name, value in state.items():
        rng = np.random.Generator(np.random.Philox(zlib.crc32(name.encode())))
        shape = tuple(value.shape)
        if name.endswith("num_batches_tracked"):
            made[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            made[name] = torch.from_numpy(rng.uniform(0.5, 2.0, shape).astype(np.float32))
        elif len(shape) > 1:
            spread = (2.0 / np.prod(shape[1:])) ** 0.5 if len(shape) == 4 else 2e-4
            made[name] = torch.from_numpy((spread * rng.standard_normal(shape)).astype(np.float32))
        else:
            base = 1.0 if name.endswith("weight") else 0.25 if "expression_layers" in name else 0.0
            made[name] = torch.from_numpy((base + 0.1 * rng.standard_normal(shape)).astype(np.float32))
    return made


def picture() -> torch.Tensor:
    return torch.from_numpy(np.random.Generator(np.random.Philox(5)).random((2, 3, SIZE, SIZE), np.float32))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return weights(SmirkEncoder().state_dict())


@pytest.fixture(scope="module")
def encoder(state: dict[str, torch.Tensor]) -> SmirkEncoder:
    made = SmirkEncoder()
    made.load_state_dict(state)
    return made.eval()


@pytest.fixture(scope="module")
def flame(tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    """A head with the sizes of an imported FLAME file, cut out of the open head."""
    base = load_head()
    rng = np.random.default_rng(3)
    keep = 300
    faces = base.faces[(base.faces < keep).all(axis=1)]
    points = {
        "landmarks_478": Embedding(
            tuple(str(i) for i in range(478)), np.zeros(478, np.int32), np.full((478, 3), 1 / 3, np.float32)
        )
    }
    return HeadModel(
        id="flame_like",
        template=base.template[:keep],
        faces=faces,
        shape_basis=rng.standard_normal((keep, 3, 300)).astype(np.float32) * 1e-3,
        expression_basis=rng.standard_normal((keep, 3, 100)).astype(np.float32) * 1e-3,
        expression_names=tuple(f"e{i}" for i in range(100)),
        expression_bounds=np.tile(np.array([-3, 3], np.float32), (100, 1)),
        joints=base.joints,
        parents=base.parents,
        joint_template=base.joint_template,
        joint_shape_basis=np.zeros((5, 3, 300), np.float32),
        joint_expression_basis=np.zeros((5, 3, 100), np.float32),
        skin_weights=base.skin_weights[:keep],
        regions={},
        parts=base.parts[:keep],
        part_names=base.part_names,
        embeddings=points,
        licence="test",
        origin="test",
        pose_basis=np.zeros((keep, 3, 36), np.float32),
        eyelid_basis=np.zeros((keep, 3, 2), np.float32),
    )


def test_parameters_have_the_names_and_shapes_of_the_published_architecture(
    state: dict[str, torch.Tensor],
) -> None:
    listing = "\n".join(f"{name} {tuple(value.shape)}" for name, value in sorted(state.items()))
    assert hashlib.sha256(listing.encode()).hexdigest() == REFERENCE_NAMES


def test_outputs_equal_those_of_the_reference_implementation(encoder: SmirkEncoder) -> None:
    with torch.no_grad():
        seen = encoder(picture())
    assert set(seen) == set(OUTPUTS)
    for name, reference in REFERENCE_OUTPUTS.items():
        got = seen[name][1, : len(reference)].numpy()
        np.testing.assert_allclose(got, reference, atol=1e-4, rtol=1e-4)


def test_jaw_and_lids_stay_within_their_bounds(encoder: SmirkEncoder) -> None:
    with torch.no_grad():
        loud = {
            name: 30.0 * value if "expression_layers" in name else value
            for name, value in encoder.state_dict().items()
        }
        other = SmirkEncoder()
        other.load_state_dict(loud)
        seen = other.eval()(picture())
    assert float(seen["eyelids"].min()) >= 0.0 and float(seen["eyelids"].max()) <= 1.0
    assert float(seen["jaw"][:, 0].min()) >= 0.0 and float(seen["jaw"][:, 1:].abs().max()) <= 0.2 + 1e-6


def test_a_checkpoint_with_generator_beside_the_encoder_loads_and_gives_the_same(
    tmp_path: Path, encoder: SmirkEncoder, state: dict[str, torch.Tensor]
) -> None:
    content = {f"smirk_encoder.{name}": value for name, value in state.items()} | {
        "smirk_generator.conv.weight": torch.zeros(3, 6, 3, 3)
    }
    torch.save(content, tmp_path / "SMIRK_em1.pt")
    loaded = load_checkpoint(tmp_path / "SMIRK_em1.pt")
    with torch.no_grad():
        for name, value in loaded(picture()).items():
            assert torch.equal(value, encoder(picture())[name])


def test_onnx_gives_the_same_as_torch(tmp_path: Path, encoder: SmirkEncoder, flame: HeadModel) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "smirk.onnx"
    smirk_encoder.export(encoder, path, flame)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    got = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"picture": picture().numpy()}), strict=True))
    with torch.no_grad():
        for name, value in encoder(picture()).items():
            scale = max(float(value.abs().max()), 1.0)
            assert np.abs(got[name] - value.numpy()).max() <= 1e-4 * scale, name
    about = json.loads(session.get_modelmeta().custom_metadata_map["eifer"])
    assert (about["kind"], about["head_model"], about["size"], about["shape_size"]) == (
        "smirk_encoder",
        "flame_like",
        224,
        300,
    )


def test_a_checkpoint_of_another_architecture_is_refused_with_the_name_of_what_does_not_fit(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    missing = {
        name: value
        for name, value in state.items()
        if name != "pose_encoder.encoder.blocks.2.1.conv_dw.weight"
    }
    torch.save(missing, tmp_path / "missing.pt")
    with pytest.raises(ModelError, match=r"blocks\.2\.1\.conv_dw\.weight missing"):
        load_checkpoint(tmp_path / "missing.pt")
    torch.save({**state, "pose_encoder.extra": torch.zeros(1)}, tmp_path / "extra.pt")
    with pytest.raises(ModelError, match=r"pose_encoder\.extra unknown"):
        load_checkpoint(tmp_path / "extra.pt")
    torch.save(
        {**state, "shape_encoder.encoder.conv_stem.weight": torch.zeros(16, 3, 5, 5)}, tmp_path / "shape.pt"
    )
    with pytest.raises(ModelError, match=r"\(16, 3, 5, 5\); it must be \(16, 3, 3, 3\)"):
        load_checkpoint(tmp_path / "shape.pt")
    torch.save({"resnet.conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet.pt")
    with pytest.raises(ModelError, match="not SMIRK's encoder"):
        load_checkpoint(tmp_path / "resnet.pt")
    torch.save(
        {**state, "shape_encoder.shape_layers.0.bias": torch.full((300,), torch.nan)}, tmp_path / "nan.pt"
    )
    with pytest.raises(ModelError, match="not finite"):
        load_checkpoint(tmp_path / "nan.pt")


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("bomb"),)  # type: ignore[return-value]


def test_a_checkpoint_that_holds_a_program_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"smirk_encoder.x": _Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(ModelError, match="more than tensors"):
        load_checkpoint(tmp_path / "bomb.pt")
    assert not (tmp_path / "bomb").exists()


@pytest.mark.parametrize("content", [b"", b"hello, this is no checkpoint", b"PK\x03\x04" + bytes(40)])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(InputError, match="not a torch checkpoint"):
        load_checkpoint(tmp_path / "x.pt")


def test_the_command_refuses_a_head_that_is_not_flame(
    tmp_path: Path, state: dict[str, torch.Tensor], eifer
) -> None:
    torch.save(state, tmp_path / "s.pt")
    result = eifer(
        "models", "import-smirk", tmp_path / "s.pt", "--head-model", "open_head", "--out", tmp_path / "o.onnx"
    )
    assert result.code == ModelError.exit_code and "import-flame" in result.err
    assert not (tmp_path / "o.onnx").exists()


def test_the_command_writes_a_network_for_a_flame_head(
    tmp_path: Path, state: dict[str, torch.Tensor], flame: HeadModel, eifer
) -> None:
    torch.save({f"smirk_encoder.{name}": value for name, value in state.items()}, tmp_path / "s.pt")
    flame.save(tmp_path / "flame_like.npz")
    arguments = (
        "models",
        "import-smirk",
        tmp_path / "s.pt",
        "--head-model",
        tmp_path / "flame_like.npz",
        "--out",
        tmp_path / "o.onnx",
    )
    result = eifer(*arguments)
    assert result.code == 0 and "300 shape and 50 expression" in result.out
    assert (tmp_path / "o.onnx").stat().st_size > 10_000_000
    assert eifer(*arguments).code == InputError.exit_code


def test_smirks_camera_puts_vertices_where_its_own_renderer_does(
    encoder: SmirkEncoder, flame: HeadModel
) -> None:
    """SMIRK: FLAME turns about its root joint, then (x, y) -> scale * ((x, y) + shift), y up, over a crop of
    -1..1.
    """
    from scipy.spatial.transform import Rotation

    from eifer_ros.head.torch_model import TorchHead
    from research.faces.face_models import SmirkFace

    with torch.no_grad():
        read = SmirkFace(encoder, TorchHead(flame)).read(picture())
        seen = {name: value.double().numpy() for name, value in encoder(picture()).items()}
    for one in range(2):
        vertices = flame.vertices(
            seen["shape"][one], seen["expression"][one], jaw=seen["jaw"][one], eyelids=seen["eyelids"][one]
        )
        root = flame.joint_positions(seen["shape"][one], seen["expression"][one])[0]
        turned = Rotation.from_rotvec(seen["rotation"][one]).apply(vertices - root) + root
        flat = seen["camera"][one, 0] * (turned[:, :2] + seen["camera"][one, 1:]) * [1.0, -1.0]
        crop = 0.5 * flat + 0.5
        np.testing.assert_allclose(
            read.camera.project(read.vertices, SIZE)[one, :, :2].numpy(), crop * SIZE, atol=1e-2
        )
        nearer = read.camera.project(read.vertices, SIZE)[one, :, 2].numpy()
        assert np.corrcoef(nearer, turned[:, 2])[0, 1] < -0.99  # z out of the face is towards the camera
