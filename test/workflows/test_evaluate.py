"""The harness: pinned protocols, metrics against their definitions, MMM's parameter spaces, tables and
figures that can be read.
"""

from __future__ import annotations

import csv
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recording_data"))
from mmm_files import make

from eifer_ros import source_tree
from eifer_ros.errors import ConfigError, InputError, ModelError
from eifer_ros.evaluation.evaluation_figures import dots_figure, traces_figure
from eifer_ros.evaluation.evaluation_report import number
from eifer_ros.evaluation.paper_metrics import PictureNetwork, agreement, frechet_distance, mse, rms
from eifer_ros.evaluation.peers import predict
from eifer_ros.evaluation.problems import Problem, from_mmm
from eifer_ros.evaluation.protocol import Data, Protocol, SimulatedData, Split, load_protocol
from eifer_ros.workflows import evaluate as job
from eifer_ros.workflows.evaluate import evaluate, mapping_scores, microvolts


def problem(seed: int = 0, count: int = 4000, lag: int = 7, period: float = 0.01) -> Problem:
    """Two muscles, three coefficients that follow them after `lag` rows, linearly."""
    rng = np.random.default_rng(seed)
    drive = np.clip(np.convolve(rng.normal(size=count + 200), np.hanning(120), "same")[:count] / 4, 0, 1)
    other = np.clip(np.convolve(rng.normal(size=count + 200), np.hanning(90), "same")[:count] / 4, 0, 1)
    muscles = np.stack([drive, other], axis=1)
    late = np.roll(muscles, lag, axis=0)
    face = late @ np.array([[0.8, 0.2, 0.0], [0.0, 0.3, 0.7]]) + rng.normal(0, 0.01, (count, 3))
    envelope = np.sqrt((muscles * 100) ** 2 + 5**2)
    return Problem(
        "made",
        "test",
        period,
        np.arange(count) * period,
        np.zeros(count, int),
        muscles.astype(np.float32),
        envelope.astype(np.float32),
        face.astype(np.float32),
        ("a", "b"),
        ("x", "y", "z"),
        lag * period,
        np.random.default_rng(1).normal(0, 0.01, (50, 3, 3)),
    )


# ---- metrics ----------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.integers(1, 6))
def test_the_frechet_distance_is_that_of_its_definition(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(50, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)
    b = rng.normal(size=(60, width)) @ rng.normal(size=(width, width))
    ca, cb = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(ca + cb - 2 * np.real(linalg.sqrtm(ca @ cb)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6 * (1 + np.trace(ca)))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)


def test_mse_and_rms_are_per_column() -> None:
    e, t = np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[0.0, 0.0], [0.0, 2.0]])
    assert mse(e, t).tolist() == [5.0, 2.0]
    assert rms(e, t).tolist() == pytest.approx([5**0.5, 2**0.5])


def test_a_users_network_gives_features_and_classes(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    # mean colour of the picture: three numbers
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8),
        tmp_path / "n.onnx",
    )
    network = PictureNetwork(tmp_path / "n.onnx")
    red, blue = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30, 3), np.uint8)
    red[:, :, 0], blue[:, :, 2] = 255, 255
    found = network([red, blue])
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 0, 1]], atol=1e-6)
    assert agreement(network([red, blue]), network([red, red])) == 0.5
    assert len(network.digest) == 64
    (tmp_path / "bad.onnx").write_bytes(b"no")
    with pytest.raises(ModelError, match="not a readable network"):
        PictureNetwork(tmp_path / "bad.onnx")


def test_microvolts_put_activation_back_onto_the_muscles_range() -> None:
    made = problem()
    np.testing.assert_allclose(microvolts(made, made.muscles), made.envelope, rtol=1e-3)


# ---- splits -----------------------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(["blocks", "tail", "intervals"]), st.integers(2, 20), st.integers(2, 5), st.floats(0, 2)
)
def test_learnt_and_judged_rows_never_touch(kind: str, blocks: int, every: int, gap: float) -> None:
    times = np.arange(6000) * 0.01
    split = Split(
        kind=kind, blocks=max(blocks, every), test_every=every, gap_s=gap, test=[(10.0, 20.0), (40.0, 45.0)]
    )
    learnt, judged = split.rows(times)
    assert not (learnt & judged).any()
    nearest = np.abs(times[learnt][:, None] - times[judged][::50][None, :]).min()
    assert nearest >= gap - 0.011


def test_a_split_with_nothing_to_judge_is_refused() -> None:
    with pytest.raises(InputError, match="0 to be judged"):
        Split(kind="intervals", test=[(500.0, 600.0)]).rows(np.arange(100) * 0.1)


# ---- models -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["ridge", "rff"])
def test_a_linear_problem_with_a_lag_is_learnt_both_ways(model: str) -> None:
    made = problem()
    learnt, judged = Split().rows(made.times)
    forward = predict(model, "emg2exp", made, learnt, judged)
    row, each = mapping_scores(made, "emg2exp", forward)
    assert row["r"] > 0.98
    assert row["vertex_mm"] < 0.3 * row["vertex_mean_face_mm"]
    assert [one["output"] for one in each] == ["x", "y", "z"]
    assert forward.late_s == 0
    back = predict(model, "exp2emg", made, learnt, judged)
    row, _ = mapping_scores(made, "exp2emg", back)
    assert row["r"] > 0.995
    assert row["rms_uv"] == pytest.approx(row["mse_uv2"] ** 0.5, rel=0.2)
    assert back.late_s > 0  # the face comes after the muscle, so this answer is late


def test_rest_is_the_mean_of_what_was_learnt() -> None:
    made = problem()
    learnt, judged = Split().rows(made.times)
    found = predict("rest", "emg2exp", made, learnt, judged)
    np.testing.assert_allclose(found.estimate[0], made.face[learnt].mean(axis=0), rtol=1e-5)


def test_a_frame_wise_model_cannot_see_what_lags_show() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    made = problem(count=2500, lag=12)
    learnt, judged = Split(blocks=6).rows(made.times)
    lagged = predict("ridge", "emg2exp", made, learnt, judged)
    frame = predict("mlp_frame", "emg2exp", made, learnt, judged)
    error = [float(mse(found.estimate, found.truth).mean()) for found in (lagged, frame)]
    assert error[0] < 0.5 * error[1]


def test_an_unknown_model_is_named() -> None:
    made = problem(count=1500)
    with pytest.raises(InputError, match="did you mean 'ridge'"):
        predict("rigde", "emg2exp", made, *Split().rows(made.times))


# ---- MMM's parameter spaces -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mmm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("mmm"), frames=30, sessions=("1S",))


def test_every_methods_expression_space_becomes_a_problem(mmm: Path) -> None:
    problems = {p.space: p for p in from_mmm(mmm, "99_1S", [])}
    widths = {name: len(p.face_names) for name, p in problems.items()}
    # DECA: 50 expression + 3 jaw; EIFER: + 2 lids; MediaPipe: 51 of ARKit's
    assert widths == {
        "DECA": 53,
        "EMOCAv2": 53,
        "Deep3DFace": 64,
        "EIFER": 55,
        "SMIRK": 55,
        "FOCUS": 100,
        "MediaPipe": 51,
    }
    for p in problems.values():
        assert p.muscles.shape == (12 * 30, 22)
        assert 0 <= p.muscles.min() < p.muscles.max() <= 1
        assert len(np.unique(p.segment)) == 12
        assert np.diff(p.times).min() > 0


def test_mmm_is_evaluated_in_several_spaces_from_one_protocol(mmm: Path, tmp_path: Path) -> None:
    text = {
        "area": "mapping",
        "data": [{"mmm": str(mmm), "session": "99_1S"}],
        "spaces": ["EIFER", "SMIRK"],
        "models": ["rest", "ridge"],
        "split": {"kind": "blocks", "blocks": 120, "test_every": 3, "gap_s": 0.0},
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(text))
    result = evaluate("mapping", tmp_path / "out", tmp_path / "p.yaml")
    found = {(row["space"], row["direction"], row["model"]) for row in result.rows}
    assert found == {
        (s, d, m) for s in ("EIFER", "SMIRK") for d in ("emg2exp", "exp2emg") for m in ("rest", "ridge")
    }
    back = {
        row["space"]: row for row in result.rows if row["direction"] == "exp2emg" and row["model"] == "ridge"
    }
    assert {"mse_uv2", "rms_uv", "smape_pct", "spearman"} <= set(back["EIFER"])


def test_a_space_that_is_not_there_is_named(mmm: Path) -> None:
    with pytest.raises(InputError, match="known are DECA"):
        from_mmm(mmm, "99_1S", ["FLAME"])


# ---- the whole --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluate") / "mapping"
    data = [Data(simulated=SimulatedData(seed=7, seconds=30, program="calibration"))]
    evaluate(
        "mapping",
        out,
        Protocol(
            area="mapping",
            data=data,
            models=["rest", "ridge"],
            split=Split(kind="blocks", blocks=30, gap_s=0.2),
        ),
    )
    return out


def test_an_evaluation_leaves_table_figures_and_the_pinned_protocol(mapped: Path) -> None:
    record = json.loads((mapped / "results.json").read_text())
    assert record["versions"]["numpy"] == np.__version__
    assert record["seeds"] == [0]
    with (mapped / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(record["rows"]) == 4
    ridge = next(row for row in rows if row["model"] == "ridge" and row["direction"] == "emg2exp")
    assert float(ridge["vertex_mm"]) < float(ridge["vertex_mean_face_mm"])
    assert "| simulated 7/0 |" in (mapped / "table.md").read_text()
    assert record["figures"]
    for name in record["figures"]:
        tree = ET.parse(mapped / "figures" / name).getroot()
        assert tree.tag.endswith("svg")
        assert "nan" not in (mapped / "figures" / name).read_text().lower().replace("nanosec", "")


def test_the_written_protocol_repeats_the_evaluation_to_the_digit(mapped: Path, tmp_path: Path) -> None:
    again = evaluate("mapping", tmp_path / "again", mapped / "protocol.yaml")
    record = json.loads((mapped / "results.json").read_text())
    assert again.protocol.digest == record["protocol_digest"]
    assert again.as_dict()["rows"] == record["rows"]


def test_envelopes_are_judged_by_the_true_activation(tmp_path: Path) -> None:
    data = [Data(simulated=SimulatedData(seed=7, seconds=20, program="calibration"))]
    result = evaluate("emg", tmp_path / "out", Protocol(area="emg", data=data, profiles=["live", "rms100"]))
    for row in result.rows:
        assert row["r"] > 0.6
        assert 10 <= row["delay_ms"] <= 120
    assert result.figures == ["emg_r.svg", "emg_snr_db.svg"]


def test_faces_are_judged_by_the_truth_beside_them(tmp_path: Path) -> None:
    import dataclasses

    from eifer_ros.evaluation.simulated import items
    from eifer_ros.recording.writer import BagWriter
    from eifer_ros.simulation.performer import PerformerConfig
    from eifer_ros.types import FaceState

    with BagWriter(tmp_path / "bag", wait=True) as out:
        for port, item in items(PerformerConfig(seed=3, program="emotions", rate_hz=500.0), 8.0):
            if isinstance(item, FaceState):
                out.write(port, item)
                out.write("face/vision", item)
                out.write(
                    "face/emg", dataclasses.replace(item, expression=np.clip(item.expression * 0.5, 0, 1))
                )
    protocol = Protocol(area="face", data=[Data(bag=str(tmp_path / "bag"))])
    rows = {row["topic"]: row for row in evaluate("face", tmp_path / "out", protocol).rows}
    assert rows["face/vision"]["vertex_mm"] < 1e-4
    assert rows["face/vision"]["r"] == pytest.approx(1)
    assert rows["face/emg"]["tracked"] == 1
    # half an expression is half way back to the neutral face
    assert 0.2 < rows["face/emg"]["vertex_mm"] / rows["face/emg"]["vertex_resting_mm"] < 1.2
    assert rows["face/emg"]["r"] == pytest.approx(1, abs=1e-3)


# ---- protocols --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: 3", "models = 3"),
        ("modls: []", "did you mean 'models'"),
        ("- a", "holds keys such as"),
        ("area: emg", "is a protocol for 'eifer evaluate emg'"),
        ("data: [{bag: a, mmm: b}]", "exactly one of"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_protocol(tmp_path / "p.yaml", "mapping")


def test_the_digest_changes_with_every_value_but_the_name() -> None:
    base = Protocol()
    assert base.model_copy(update={"name": "other"}).digest == base.digest
    assert base.model_copy(update={"seeds": [1]}).digest != base.digest
    assert base.model_copy(update={"split": Split(gap_s=2.0)}).digest != base.digest


def test_benchmark_lines_are_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "eifer_ros"
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").touch()  # a package comes before another `bench` on the path
    (tmp_path / "bench" / "__main__.py").write_text(
        "import sys, json\nprint('a remark')\nprint(json.dumps({'figure': sys.argv[1] + '_x', 'value': 1.5, 'unit': 'ms', 'n': 3, 'machine': 'm'}))\n"
        "sys.exit(3 if '--quick' not in sys.argv else 0)\n"
    )
    (tmp_path / "bench" / "emg.py").write_text("")
    (tmp_path / "bench" / "__init__.py").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.setattr(source_tree, "PACKAGE", package)
    assert job.bench_figures("emg")[0]["figure"] == "emg_x"
    assert job.bench_figures("nothing") == []
    with pytest.raises(InputError, match="bench emg failed"):
        job.bench_figures("emg", quick=False)


# ---- tables -----------------------------------------------------------------------------------------------------------------


SVG = "{http://www.w3.org/2000/svg}"


def test_every_finite_value_is_a_dot_and_every_median_a_number(tmp_path: Path) -> None:
    groups = [("ridge", [0.5, 0.25, 0.125]), ("network", [0.9, float("nan"), 0.8, 0.7]), ("none", [])]
    for name in ("a.svg", "b.svg"):
        dots_figure(tmp_path / name, "Muscles & face", "Pearson r", groups)
    root = ET.parse(tmp_path / "a.svg").getroot()
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert {"Muscles & face", "Pearson r", "ridge", "network", "0.25", "0.8"} <= set(texts)
    assert texts.count("none") == 2
    dots = [use for use in root.iter(f"{SVG}use") if "fill-opacity: 0.6" in (use.get("style") or "")]
    assert len(dots) == 6
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_gap_breaks_the_lines_of_both_traces(tmp_path: Path) -> None:
    t = np.concatenate([np.arange(0, 3, 0.01), np.arange(60, 63, 0.01)])
    traces_figure(tmp_path / "t.svg", "P-07", t, [("zygomaticus", "uV", np.sin(t), np.cos(t))])
    paths = [path.get("d") or "" for path in ET.parse(tmp_path / "t.svg").getroot().iter(f"{SVG}path")]
    starts = [path.count("M ") for path in paths if path.count("L ") > 20]
    assert starts == [2, 2]


def test_without_matplotlib_the_tables_stand_alone_and_a_note_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    data = [Data(simulated=SimulatedData(seed=7, seconds=20, program="calibration"))]
    result = evaluate("emg", tmp_path / "out", Protocol(area="emg", data=data, profiles=["live"]))
    assert len(result.rows) == 1
    assert result.figures == []
    (note,) = result.notes
    assert "eifer_ros[report]" in note


def test_numbers_in_tables_have_three_digits() -> None:
    assert [number(v) for v in (0.123456, 12345.6, None, float("nan"), 7, "x")] == [
        "0.123",
        "1.23e+04",
        "",
        "",
        "7",
        "x",
    ]
