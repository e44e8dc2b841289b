"""FLAME import: against dense matrices, and against pickles that want to do more than hold numbers."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import fabricated_flame
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.errors import ModelError
from eifer_ros.head.flame import (
    LICENCE_OPEN,
    LICENCE_RESEARCH,
    FlameImport,
    import_flame,
    licence_text,
    read_flame,
)
from eifer_ros.head.flame_pickle import dense, read_pickle
from eifer_ros.head.model import EMBEDDINGS, HeadModel, load_head
from eifer_ros.types import ARKIT_52


@pytest.fixture(scope="module")
def arrays() -> dict:
    return fabricated_flame.fabricate(load_head(), seed=3)


@pytest.fixture(scope="module")
def flame_file(arrays: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fabricated_flame.write(tmp_path_factory.mktemp("flame") / "generic_model.pkl", arrays)


@pytest.fixture(scope="module")
def imported(flame_file: Path) -> FlameImport:
    return import_flame(flame_file, flame_file.with_name("flame.npz"), "flame_test")


@pytest.fixture(scope="module")
def head(imported: FlameImport, flame_file: Path) -> HeadModel:
    return HeadModel.load(flame_file.with_name("flame.npz"))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_imported_head_agrees_with_dense_matrices_in_every_parameter(
    arrays: dict, head: HeadModel, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape, expression = rng.normal(size=300), rng.normal(size=100)
    pose = rng.normal(size=(5, 3)) * 0.35
    pose[0] = 0.0  # the root is the head pose, outside the model
    wanted = fabricated_flame.dense_reference(arrays, shape, expression, pose)
    lids = np.array([0.0, 0.0])
    got = head.vertices(shape, expression, neck=pose[1], jaw=pose[2], eyes=pose[3:], eyelids=lids)
    assert np.abs(got - wanted).max() < 1e-5


def test_joints_follow_shape_and_expression_by_the_regressor(arrays: dict, head: HeadModel) -> None:
    rng = np.random.default_rng(0)
    shape, expression = rng.normal(size=300), rng.normal(size=100)
    rest = arrays["v_template"] + arrays["shapedirs"] @ np.concatenate([shape, expression])
    assert np.abs(head.joint_positions(shape, expression) - arrays["J_regressor"] @ rest).max() < 1e-5


def test_an_imported_head_has_all_that_the_open_head_offers(head: HeadModel) -> None:
    reference = load_head()
    assert set(head.embeddings) == set(EMBEDDINGS) & set(reference.embeddings)
    assert set(head.regions) == set(reference.regions)
    assert all(len(indices) for indices in head.regions.values())
    assert head.part_names == ("skin", "eye_left", "eye_right")


def test_landmarks_land_where_the_open_head_has_them(arrays: dict, head: HeadModel) -> None:
    # the fabricated head is the open head with another identity, so the true place of each landmark is known
    reference = load_head()
    corners, weights, _ = fabricated_flame._topology(reference)
    identity = np.zeros(reference.shape_size)
    identity[:6] = np.random.default_rng(3).normal(size=6) * 0.7
    person = 1.03 * reference.neutral(identity) + np.array([0.004, -0.021, 0.013])
    assert (
        np.abs(np.einsum("vc,vcd->vd", weights, person[corners]) - arrays["v_template"]).max() < 1e-6
    )  # it is that person
    wanted = reference.points(person, "landmarks_68")
    got = head.points(head.template, "landmarks_68")
    away = np.linalg.norm(got - wanted, axis=1)
    assert np.median(away) < 0.0015
    assert np.percentile(away, 90) < 0.004


def test_most_of_each_action_can_be_made_by_the_imported_head(imported: FlameImport) -> None:
    # the fabricated expression basis is a mixture of the very same actions
    assert min(imported.explained.values()) > 0.9
    assert imported.surface_mm[0] < 1.0


def test_eyelids_close_as_the_open_heads_do(head: HeadModel) -> None:
    assert head.eyelid_basis is not None
    reach = np.linalg.norm(head.eyelid_basis, axis=1)
    wanted = np.linalg.norm(
        load_head().expression_basis[:, :, [ARKIT_52.index("eyeBlinkLeft"), ARKIT_52.index("eyeBlinkRight")]],
        axis=1,
    )
    assert reach.max(axis=0) == pytest.approx(1.03 * wanted.max(axis=0), rel=0.15)
    left, right = (head.template[np.argmax(reach[:, side]), 0] for side in (0, 1))
    assert left > 0 > right  # x is to the subject's left


class _Payload:
    def __init__(self, call: tuple) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ((os.system, ("touch {}",)), "system"),
        ((eval, ("open({!r}, 'w')",)), "eval"),
        ((np.save, ("{}", 1)), "numpy"),
        ((scipy.sparse.save_npz, ("{}", None)), "scipy.sparse"),
        ((pickle.loads, (b"",)), "pickle"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_names_any_other_global_is_refused_by_that_name_and_nothing_runs(
    tmp_path: Path, call: tuple, named: str, protocol: int
) -> None:
    trace = tmp_path / "trace"
    arguments = tuple(a.format(str(trace)) if isinstance(a, str) else a for a in call[1])
    file = tmp_path / "bad.pkl"
    file.write_bytes(pickle.dumps({"v_template": _Payload((call[0], arguments))}, protocol=protocol))
    with pytest.raises(ModelError, match=named) as caught:
        read_flame(file, "flame", "")
    assert "refused" in str(caught.value)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        # names with dots walk through attributes, past the list of what is allowed
        (
            b"\x80\x04\x8c\x05numpy\x94\x8c\x0endarray.tofile\x94\x93\x94.",
            r"refused.*'numpy\.ndarray\.tofile'",
        ),
        (b"cchumpy.ch\nCh.__init__.__globals__\n.", r"refused.*'chumpy\.ch\.Ch\.__init__\.__globals__'"),
        (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
            "an array of a class that is not",
        ),
        (
            b"ccopy_reg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\nNtR.",
            "copyreg._reconstructor of <class 'set'>",
        ),
        (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "the encoding 'rot13'"),
        (b"Pan outside object\n.", "outside object"),
        (b"\x80\x02", "not a readable FLAME pickle"),
        (b"", "not a readable FLAME pickle"),
        (b"not a pickle at all", "not a readable FLAME pickle"),
        (b"I1\n.", "holds a int"),
    ],
)
def test_hostile_and_broken_pickles_end_in_one_line_that_names_the_file_and_why(
    tmp_path: Path, program: bytes, said: str
) -> None:
    file = tmp_path / "odd.pkl"
    file.write_bytes(program)
    with pytest.raises(ModelError, match=said) as caught:
        read_flame(file, "flame", "")
    assert "odd.pkl" in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(cut=st.floats(0.0, 0.999), flip=st.integers(0, 400))
def test_a_damaged_file_never_raises_anything_but_a_model_error(
    tmp_path_factory: pytest.TempPathFactory, cut: float, flip: int
) -> None:
    small = fabricated_flame.dump_python2(
        {"v_template": fabricated_flame.chumpy_array(np.zeros((3, 3))), "f": np.zeros((2, 3), np.uint32)}
    )
    data = bytearray(small[: int(len(small) * cut) or 1])
    data[flip % len(data)] ^= 0x55
    file = tmp_path_factory.mktemp("damaged") / "x.pkl"
    file.write_bytes(bytes(data))
    with pytest.raises(ModelError):
        read_flame(file, "flame", "")


@pytest.mark.parametrize("kind", ["csc", "csr", "coo"])
def test_sparse_matrices_of_any_layout_become_the_same_dense_matrix(tmp_path: Path, kind: str) -> None:
    wanted = np.random.default_rng(1).random((5, 40)) * (np.random.default_rng(2).random((5, 40)) < 0.2)
    file = tmp_path / "sparse.pkl"
    file.write_bytes(
        pickle.dumps({"J_regressor": getattr(scipy.sparse, f"{kind}_matrix")(wanted)}, protocol=2)
    )
    assert np.array_equal(dense(read_pickle(file)["J_regressor"], "J_regressor", file), wanted)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("v_template", np.zeros((5000, 3))),
        ("shapedirs", np.zeros((5023, 3, 150))),
        ("posedirs", np.zeros((5023, 3, 27))),
        ("f", np.zeros((9976, 4), np.uint32)),
        ("weights", np.zeros((5023, 4))),
        ("J_regressor", np.zeros((4, 5023))),
    ],
)
def test_an_array_of_the_wrong_shape_is_named_with_both_shapes(
    tmp_path: Path, arrays: dict, name: str, wrong: np.ndarray
) -> None:
    light = {
        key: np.broadcast_to(np.zeros(1, np.float32), value.shape)
        for key, value in arrays.items()
        if key != "mixing"
    }
    content = {**{key: np.array(value, np.float32) for key, value in light.items()}, name: wrong}
    file = tmp_path / "wrong.pkl"
    file.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ModelError) as caught:
        read_flame(file, "flame", "")
    message = str(caught.value)
    assert name in message
    assert " x ".join(map(str, wrong.shape)) in message
    assert " x ".join(map(str, arrays[name].shape)) in message


def test_a_missing_array_a_zip_and_a_missing_file_are_said_by_name(tmp_path: Path) -> None:
    (tmp_path / "part.pkl").write_bytes(pickle.dumps({"betas": 1}, protocol=2))
    (tmp_path / "FLAME2023Open.zip").write_bytes(b"PK\x03\x04rest")
    with pytest.raises(ModelError, match=r"'v_template' is missing; it has betas"):
        read_flame(tmp_path / "part.pkl", "flame", "")
    with pytest.raises(ModelError, match="zip archive"):
        read_flame(tmp_path / "FLAME2023Open.zip", "flame", "")
    with pytest.raises(ModelError, match=r"nowhere\.pkl"):
        read_flame(tmp_path / "nowhere.pkl", "flame", "")


def test_only_a_file_that_calls_itself_open_is_taken_for_cc_by(imported: FlameImport) -> None:
    assert licence_text(Path("flame2023_Open.pkl")) == LICENCE_OPEN
    assert licence_text(Path("generic_model.pkl")) == LICENCE_RESEARCH
    assert licence_text(Path("generic_model.pkl"), "CC-BY-4.0") == LICENCE_OPEN
    assert licence_text(Path("x.pkl"), "our own contract") == "our own contract"
    assert imported.model.licence == LICENCE_RESEARCH
