"""EIFER/SMIRK parameter rows: what the columns mean, and the way there and back."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import fabricated_flame
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from eifer_ros.errors import InputError, ModelError
from eifer_ros.head import flame, flame_rows
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.types import FaceStatus


@pytest.fixture(scope="module")
def arrays() -> dict:
    return fabricated_flame.fabricate(load_head(), seed=1)


@pytest.fixture(scope="module")
def head(arrays: dict, tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    return flame.read_flame(
        fabricated_flame.write(tmp_path_factory.mktemp("rows") / "flame.pkl", arrays), "flame", ""
    )


def some_row(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [
            rng.normal(size=300),
            rng.normal(size=50),
            rng.uniform(0, 1, 2),
            rng.normal(size=3) * 0.1,
            rng.normal(size=3) * 0.5,
            [rng.uniform(4, 12)],
            rng.normal(size=2) * 0.05,
        ]
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_row_comes_back_from_its_face_state(head: HeadModel, seed: int) -> None:
    row = some_row(seed)
    again = flame_rows.row_from_state(flame_rows.state_from_row(row, head, 5), head)
    assert np.abs(again - row).max() < 2e-5  # FaceState holds coefficients in float32


def test_the_head_pose_shows_the_head_where_smirks_camera_does(arrays: dict, head: HeadModel) -> None:
    # SMIRK: root rotation inside the skinning, then scale * (x + t), on a crop of -1..1 with y down
    row = some_row(4)
    row[350:352] = 0.0
    shape, expression = row[:300], np.concatenate([row[300:350], np.zeros(50)])
    pose = np.zeros((5, 3))
    pose[0], pose[2] = row[355:358], row[352:355]
    vertices = fabricated_flame.dense_reference(arrays, shape, expression, pose)
    scale, x, y = row[358:]
    wanted = scale * (vertices[:, :2] + [x, y]) * [1, -1]

    focal = 400.0  # a long lens: perspective goes away and the two cameras become the same
    state = flame_rows.state_from_row(row, head, 0, focal=focal)
    camera = np.column_stack([head.state_vertices(state), np.ones(len(vertices))]) @ state.head_pose.T
    got = focal * camera[:, :2] / camera[:, 2:3]
    assert np.abs(got - wanted).max() < 0.02  # of a crop that is 2 wide
    assert np.linalg.det(state.head_pose[:3, :3]) == pytest.approx(1.0)


def test_columns_stand_in_the_published_order() -> None:
    assert flame_rows.COLUMNS == 361
    assert [flame_rows.NAMES[i] for i in (0, 299, 300, 349, 350, 352, 355, 358, 360)] == [
        "idt_0",
        "idt_299",
        "exp_0",
        "exp_49",
        "eyelid_0",
        "jaw_0",
        "pose_0",
        "cam_0",
        "cam_2",
    ]


def test_a_row_with_nan_is_a_lost_face_and_back(head: HeadModel) -> None:
    row = some_row(1)
    row[17] = np.nan
    state = flame_rows.state_from_row(row, head, 9)
    assert state.status == FaceStatus.LOST
    assert np.isnan(flame_rows.row_from_state(state, head)).all()


@pytest.mark.parametrize("name", ["params.csv", "params.csv.gz", "params.npy"])
def test_rows_survive_a_file_to_the_last_bit(tmp_path: Path, name: str) -> None:
    rows = np.stack([some_row(i) for i in range(4)])
    rows[2] = np.nan
    flame_rows.save_rows(tmp_path / name, rows)
    assert np.array_equal(flame_rows.load_rows(tmp_path / name), rows, equal_nan=True)


def test_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    row = some_row(8)
    order = np.random.default_rng(0).permutation(361)
    header = ",".join(["frame"] + [flame_rows.NAMES[i].replace("_", "").upper() for i in order])
    body = ",".join(["0"] + [repr(float(row[i])) for i in order])
    (tmp_path / "shuffled.csv").write_text(f"{header}\n{body}\n")
    assert np.array_equal(flame_rows.load_rows(tmp_path / "shuffled.csv")[0], row)


def test_rows_without_a_header_are_read_in_order(tmp_path: Path) -> None:
    row = some_row(8)
    (tmp_path / "bare.csv").write_text(",".join(repr(float(v)) for v in row) + "\n")
    assert np.array_equal(flame_rows.load_rows(tmp_path / "bare.csv")[0], row)


def test_a_file_of_another_kind_is_named_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "deca.csv").write_text(
        ",".join(f"idt_{i}" for i in range(100)) + "\n" + ",".join("0" * 100) + "\n"
    )
    (tmp_path / "short.csv").write_text("1,2,3\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "broken.csv.gz").write_bytes(gzip.compress(b"x")[:9])
    (tmp_path / "word.csv").write_text(
        ",".join(flame_rows.NAMES) + "\n" + ",".join(["0"] * 360 + ["high"]) + "\n"
    )
    for name, said in (
        ("deca.csv", "'idt_100'"),
        ("short.csv", "line 1 has 3 columns"),
        ("empty.csv", "is empty"),
        ("broken.csv.gz", "cannot be read"),
        ("word.csv", "line 2"),
        ("none.csv", "cannot be read"),
    ):
        with pytest.raises(InputError, match=said):
            flame_rows.load_rows(tmp_path / name)


def test_wrong_heads_rows_and_scales_are_said_by_name(head: HeadModel) -> None:
    with pytest.raises(ModelError, match="open_head"):
        flame_rows.state_from_row(some_row(0), load_head(), 0)
    with pytest.raises(InputError, match="361"):
        flame_rows.state_from_row(np.zeros(236), head, 0)
    flat = some_row(0)
    flat[358] = 0.0
    with pytest.raises(InputError, match="scale"):
        flame_rows.state_from_row(flat, head, 0)
    behind = replace(flame_rows.state_from_row(some_row(0), head, 0), head_pose=np.eye(4))
    with pytest.raises(InputError, match="behind the camera"):
        flame_rows.row_from_state(behind, head)


def test_axis_angle_is_the_inverse_of_the_rotation_matrix() -> None:
    for seed in range(20):
        vector = Rotation.random(random_state=seed).as_rotvec()
        assert flame_rows.axis_angle(Rotation.from_rotvec(vector).as_matrix()) == pytest.approx(
            vector, abs=1e-9
        )
