"""Exports read back by other means: the format's own libraries, parsers written from specifications, the
source itself.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eifer_ros.emg.sources.text_formats import TextOptions, read_text
from eifer_ros.errors import InputError, ModelError
from eifer_ros.head.model import load_head
from eifer_ros.recording.exports.bids import physical_limits
from eifer_ros.recording.exports.flame import load_sequence
from eifer_ros.recording.exports.tables import read_parquet
from eifer_ros.recording.reader import read
from eifer_ros.recording.writer import BagWriter
from eifer_ros.types import (
    NS,
    Blendshapes,
    EmgChannelInfo,
    EmgChunk,
    FaceDisplacement,
    FaceEvent,
    FaceOrigin,
    FaceState,
    Frame,
    HeadModelInfo,
    JointTargets,
    Marker,
    MuscleActivity,
)
from eifer_ros.workflows.exports import export
from eifer_ros.workflows.imports import import_emg

START = 1_750_000_000 * NS + 123_456_000
RATE = 1000.0
CHANNELS = ("F1", "F2", "F19")


def turn(axis: list[float]) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    pose = np.eye(4)
    pose[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ Rotation.from_rotvec(axis).as_matrix()
    pose[:3, 3] = (0.01, -0.02, 0.55)
    return pose


def face(k: int) -> FaceState:
    rng = np.random.default_rng(k)
    head = load_head()
    shape = np.random.default_rng(77).normal(0, 0.5, head.shape_size)  # one person
    return FaceState(
        START + k * NS // 30,
        "open_head",
        FaceOrigin.VISION,
        shape,
        rng.uniform(0, 1, 52),
        np.full(52, np.nan),
        rng.normal(0, 0.1, 3),
        rng.normal(0, 0.1, 3),
        rng.normal(0, 0.1, (2, 3)),
        rng.uniform(0, 1, 2),
        turn([0.0, 0.02 * k, 0.01]),
        0.875,
    )


def chunk(k: int, first: int, lost: int = 0) -> EmgChunk:
    samples = (np.random.default_rng(k).normal(size=(100, 3)) * [1e-4, 3e-6, 1e-3]).astype(np.float32)
    return EmgChunk(START + round(first * NS / RATE), RATE, CHANNELS, samples, first, lost)


EVENTS = [
    FaceEvent(
        START + NS // 5,
        START + NS // 10,
        START + NS // 3,
        "eye_left",
        ("eye_left", "eye_right"),
        "surprise",
        ("surprise", "others"),
        np.array([0.75, 0.25]),
        4.5,
        FaceOrigin.FUSED,
        0.0625,
    ),
    FaceEvent(
        START + 2 * NS,
        START + 2 * NS,
        START + 2 * NS,
        "lips_left",
        ("lips_left",),
        "unknown",
        ("surprise", "others"),
        np.array([0.5, 0.5]),
        1.5,
        FaceOrigin.VISION,
    ),
]
CHUNKS = [chunk(0, 0), chunk(1, 100), chunk(2, 250, 50), chunk(3, 350)]


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "bag"
    activity = MuscleActivity(
        START + 7, "fridlund", ("zyg", "corr"), np.array([1e-5, 2e-5]), np.array([0.5, np.nan]), np.ones(2)
    )
    head = load_head()
    with BagWriter(path, session={"participant": "P-07", "seed": 3}, wait=True) as out:
        out.write("head_model", head.info(START))
        out.write(
            "emg/raw_channels",
            EmgChannelInfo(
                START,
                CHANNELS,
                ("a", "b", "c"),
                "fridlund",
                "bipolar",
                RATE,
                np.array([[-10, 65], [10, 65], [np.nan] * 2]),
            ),
        )
        for item in CHUNKS:
            out.write("emg/raw", item)
        out.write("emg/activity", activity)
        for k in range(12):
            out.write("face/vision", face(k))
            out.write("camera/image_raw", Frame(START + k * NS // 30, np.full((48, 64, 3), 10 * k, np.uint8)))
        lost = FaceState.lost(START + 12 * NS // 30, "open_head", FaceOrigin.VISION, head.shape_size, 52)
        out.write("face/vision", lost)
        out.write("face/blendshapes", Blendshapes(START, np.linspace(0, 1, 52)))
        field = np.zeros((5, 3))
        field[3] = (0.0003, 0.0, 0.0004)
        out.write("face/displacement", FaceDisplacement(START, "open_head", FaceOrigin.VISION, field, 0.5))
        for event in EVENTS:
            out.write("face/events", event)
        out.write(
            "animatronic/joint_trajectory", JointTargets(START, ("jaw",), np.array([0.1]), np.array([1.5]))
        )
        out.write("markers", Marker(START + NS // 10, "Smile-Open", "start", "first, try"))
        out.write("markers", Marker(START + NS // 5, "Smile-Open", "end"))
        out.write("markers", Marker(START + NS // 4, "moved", "note", "tab\there"))
    return path


def table(path: Path) -> dict[str, list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return {name: [row[k] for row in rows[1:]] for k, name in enumerate(rows[0])}


def samples() -> np.ndarray:
    return np.concatenate([c.samples for c in CHUNKS])


# ---- tables -----------------------------------------------------------------------------------------------------------------


def test_every_stream_becomes_a_table_with_units_in_its_header(bag: Path, tmp_path: Path) -> None:
    rows = export(bag, "csv", tmp_path / "out")["rows"]
    assert rows == {
        "head_model.csv": 52,
        "emg_raw_channels.csv": 3,
        "emg_raw.csv": 400,
        "emg_activity.csv": 1,
        "face_vision.csv": 13,
        "camera_image_raw.csv": 12,
        "face_blendshapes.csv": 1,
        "face_displacement.csv": 1,
        "face_events.csv": 2,
        "animatronic_joint_trajectory.csv": 1,
        "markers.csv": 3,
    }
    faces = table(tmp_path / "out" / "face_vision.csv")
    assert {"stamp [ns]", "expression.jawOpen [1]", "jaw.x [rad]", "head_pose.23 [m]", "status"} <= set(faces)
    for name in faces:
        assert name in ("head_model", "origin", "status") or name.endswith("]")
    assert json.loads((tmp_path / "out" / "session.json").read_text())["participant"] == "P-07"


def test_csv_numbers_come_back_as_the_same_float32(bag: Path, tmp_path: Path) -> None:
    export(bag, "csv", tmp_path / "out")
    raw = table(tmp_path / "out" / "emg_raw.csv")
    back = np.stack([np.array([np.float32(v) for v in raw[f"{name} [V]"]]) for name in CHANNELS], axis=1)
    np.testing.assert_array_equal(back, samples())
    assert [int(v) for v in raw["stamp [ns]"][200:202]] == [START + NS // 4, START + NS // 4 + NS // 1000]
    faces = table(tmp_path / "out" / "face_vision.csv")
    assert [np.float32(v) for v in faces["expression.jawOpen [1]"][:3]] == [
        face(k).expression[24] for k in range(3)
    ]
    assert float(faces["head_pose.00 [1]"][2]) == pytest.approx(face(2).head_pose[0, 0], abs=1e-15)
    assert faces["expression.jawOpen [1]"][12] == ""  # lost: unknown, not 0
    assert faces["status"][12] == "lost"
    assert table(tmp_path / "out" / "markers.csv")["note"] == ["first, try", "", "tab\there"]


def test_an_event_is_a_row_with_its_times_regions_and_probabilities(bag: Path, tmp_path: Path) -> None:
    export(bag, "csv", tmp_path / "out", topics=("face/events", "face/displacement"))
    events = table(tmp_path / "out" / "face_events.csv")
    assert list(events) == [
        "stamp [ns]",
        "onset [ns]",
        "offset [ns]",
        "region",
        "regions",
        "label",
        "origin",
        "score [1]",
        "lead [s]",
        "probability.surprise [1]",
        "probability.others [1]",
    ]
    assert [int(v) for v in events["onset [ns]"]] == [event.onset for event in EVENTS]
    assert events["regions"] == ["eye_left eye_right", "lips_left"]
    assert (events["label"], events["origin"]) == (["surprise", "unknown"], ["fused", "vision"])
    assert events["lead [s]"] == ["0.0625", ""]  # seen by one sense alone: unknown, not 0
    assert [float(v) for v in events["probability.surprise [1]"]] == [0.75, 0.5]
    field = table(tmp_path / "out" / "face_displacement.csv")
    assert float(field["largest [m]"][0]) == pytest.approx(0.0005, rel=1e-6)
    assert float(field["rms [m]"][0]) == pytest.approx(0.0005 / 5**0.5, rel=1e-6)
    assert (field["largest_vertex"], field["vertices"]) == (["3"], ["5"])


def test_raw_emg_as_csv_can_be_imported_again(bag: Path, tmp_path: Path) -> None:
    export(bag, "csv", tmp_path / "out", topics=("emg/raw",))
    recording = read_text(
        tmp_path / "out" / "emg_raw.csv",
        TextOptions(rate_hz=RATE, columns=tuple(f"{name} [V]" for name in CHANNELS)),
    )
    assert recording.channels == CHANNELS
    np.testing.assert_array_equal(recording.samples, samples())


def test_parquet_holds_the_same_with_the_units_as_metadata(bag: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export(bag, "parquet", tmp_path / "out")
    raw = read_parquet(tmp_path / "out" / "emg_raw.parquet")
    np.testing.assert_array_equal(np.stack([raw[f"{name} [V]"] for name in CHANNELS], axis=1), samples())
    assert raw["stamp [ns]"].dtype == np.int64
    field = parquet.read_schema(tmp_path / "out" / "emg_raw.parquet").field("F19 [V]")
    assert field.metadata == {b"unit": b"V", b"name": b"F19"}
    faces = read_parquet(tmp_path / "out" / "face_vision.parquet")
    np.testing.assert_array_equal(
        faces["expression.jawOpen [1]"][:12], [face(k).expression[24] for k in range(12)]
    )


def test_a_half_written_parquet_is_refused_and_never_under_the_files_name(bag: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    export(bag, "parquet", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.part"))
    whole = (tmp_path / "out" / "emg_raw.parquet").read_bytes()
    (tmp_path / "half.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a whole Parquet file"):
        read_parquet(tmp_path / "half.parquet")


def test_channels_that_change_midway_start_a_second_table(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag", wait=True) as out:
        out.write("emg/raw", EmgChunk(START, RATE, ("a", "b"), np.zeros((5, 2), np.float32), 0))
        out.write("emg/raw", EmgChunk(START + NS, RATE, ("a",), np.zeros((7, 1), np.float32), 5))
    assert export(tmp_path / "bag", "csv", tmp_path / "out")["rows"] == {"emg_raw.csv": 5, "emg_raw_2.csv": 7}


def test_nothing_is_overwritten_and_a_wrong_kind_is_named(bag: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("")
    with pytest.raises(InputError, match="not empty"):
        export(bag, "csv", tmp_path / "out")
    (tmp_path / "head.glb").write_text("")
    with pytest.raises(InputError, match="exists"):
        export(bag, "gltf", tmp_path / "head.glb")
    with pytest.raises(InputError, match="did you mean 'parquet'"):
        export(bag, "parqet", tmp_path / "o")
    with pytest.raises(InputError, match=r"must end in \.glb"):
        export(bag, "gltf", tmp_path / "head.gltf")
    with pytest.raises(InputError, match="no face/emg in this recording"):
        export(bag, "gltf", tmp_path / "h.glb", topic="face/emg")


# ---- BIDS -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bids(bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pyedflib")
    out = tmp_path_factory.mktemp("bids") / "set"
    export(bag, "bids", out, session="1")
    return out


def tsv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_the_bdf_holds_every_sample_to_its_resolution(bids: Path) -> None:
    import pyedflib

    truth = np.concatenate([samples()[:200], np.zeros((50, 3), np.float32), samples()[200:]])
    with pyedflib.EdfReader(str(bids / "sub-P07/ses-1/emg/sub-P07_ses-1_task-facial_emg.bdf")) as reader:
        assert reader.getSignalLabels() == list(CHANNELS)
        for k in range(3):
            low, high = physical_limits(samples()[:, k])
            back = reader.readSignal(k)[:450]
            # half a step: the nearest digit was taken
            assert np.abs(back - truth[:, k].astype(float) * 1e6).max() <= (high - low) / 2**24 * 0.5001
        onsets, lengths, texts = reader.readAnnotations()
    assert (onsets[0], lengths[0], texts[0]) == (0.2, 0.05, "BAD_gap")


@pytest.mark.parametrize("most", [3e-9, 9.99e-7, 5.5e-5, 1e-3, 0.01, 0.9, 5.0])
def test_physical_limits_hold_the_signal_and_fit_the_header(most: float) -> None:
    low, high = physical_limits(np.array([most, -most / 2, np.nan]))
    assert high >= most * 1e6
    assert low == -high
    assert len(f"{low:.8g}") <= 8
    assert high - most * 1e6 <= max(2e-3 * most * 1e6, 2e-5) + 1


def test_sidecars_say_what_was_recorded(bids: Path) -> None:
    folder = bids / "sub-P07/ses-1/emg"
    about = json.loads((folder / "sub-P07_ses-1_task-facial_emg.json").read_text())
    assert (about["SamplingFrequency"], about["RecordingDuration"], about["EMGReference"]) == (
        1000.0,
        0.45,
        "bipolar",
    )
    channels = tsv(folder / "sub-P07_ses-1_task-facial_channels.tsv")
    assert [(c["name"], c["type"], c["target_muscle"]) for c in channels] == [
        ("F1", "EMG", "a"),
        ("F2", "EMG", "b"),
        ("F19", "EMG", "c"),
    ]
    assert {(c["placement_scheme"], c["placement_description"]) for c in channels} == {
        ("other", "electrode scheme fridlund")
    }
    places = tsv(folder / "sub-P07_ses-1_electrodes.tsv")
    assert [(e["x"], e["y"]) for e in places] == [("-10", "65"), ("10", "65"), ("n/a", "n/a")]
    events = tsv(folder / "sub-P07_ses-1_task-facial_events.tsv")
    assert [(e["onset"], e["duration"], e["trial_type"], e["note"]) for e in events] == [
        ("0.100000", "0.100000", "Smile-Open", "first, try"),
        ("0.200000", "0.050000", "BAD_gap", "n/a"),
        ("0.250000", "0", "moved", "tab here"),
    ]
    times = json.loads((bids / "sub-P07/ses-1/beh/sub-P07_ses-1_task-facial_video.json").read_text())
    assert times["FrameCount"] == 12
    assert times["FrameTimes"][3] == pytest.approx(0.1, abs=1e-6)


def test_mne_bids_reads_the_set_as_what_it_is(bids: Path) -> None:
    mne_bids = pytest.importorskip("mne_bids")
    path = mne_bids.BIDSPath(
        root=bids, subject="P07", session="1", task="facial", datatype="emg", suffix="emg", extension=".bdf"
    )
    raw = mne_bids.read_raw_bids(path, verbose="ERROR")
    assert raw.ch_names == list(CHANNELS)
    assert set(raw.get_channel_types()) == {"emg"}
    assert raw.info["sfreq"] == 1000.0
    assert raw.info["line_freq"] == 50.0
    np.testing.assert_allclose(raw.get_data()[0, :200], samples()[:200, 0], atol=1e-9)
    assert "Smile-Open" in set(raw.annotations.description)
    assert mne_bids.get_entity_vals(bids, "subject") == ["P07"]


def test_file_names_are_valid_for_bids(bids: Path) -> None:
    validator = pytest.importorskip(
        "bids_validator", reason="needs bids-validator (pip install bids-validator)"
    )
    check = validator.BIDSValidator()
    written = list(bids.rglob("*_emg.*"))
    assert len(written) >= 2  # the signals and their sidecar
    for path in written:
        assert check.is_bids("/" + str(path.relative_to(bids)))


def test_the_official_validator_finds_no_error(bids: Path) -> None:
    # the validator that knows EMG is `pip install bids-validator-deno`; the older one of npm (1.15) knows no
    # such folder
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = os.environ.get("EIFER_BIDS_VALIDATOR") or shutil.which("bids-validator-deno", path=path)
    if command is None:
        pytest.skip(
            "no bids-validator-deno here: pip install bids-validator-deno, or name it in EIFER_BIDS_VALIDATOR"
        )
    said = subprocess.run(
        [command, "--json", str(bids)], capture_output=True, text=True, timeout=600, check=False
    ).stdout
    issues = json.loads(said)["issues"]["issues"]
    assert [(issue["code"], issue["location"]) for issue in issues if issue["severity"] == "error"] == []
    # ... and what it warns of is only what a recording cannot know: authors, hardware, institution
    kinds = {"JSON_KEY_RECOMMENDED", "SIDECAR_KEY_RECOMMENDED", "NO_AUTHORS", "TOO_FEW_AUTHORS"}
    assert {issue["code"] for issue in issues} <= kinds


def test_another_task_of_a_session_shares_its_electrodes_unless_they_differ(
    bag: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyedflib")
    for task in ("facial", "speech"):
        export(bag, "bids", tmp_path / "set", task=task, pictures=False)
    folder = tmp_path / "set/sub-P07/emg"
    assert [path.name for path in folder.glob("*_electrodes.tsv")] == ["sub-P07_electrodes.tsv"]
    (folder / "sub-P07_electrodes.tsv").write_text("name\tx\ty\tz\nF1\t0\t0\tn/a\n")
    export(bag, "bids", tmp_path / "set", task="other", pictures=False)
    assert {path.name for path in folder.glob("*_electrodes.tsv")} == {
        "sub-P07_electrodes.tsv",
        "sub-P07_task-other_electrodes.tsv",
    }


def test_a_second_session_joins_the_set_and_the_same_one_is_refused(bag: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyedflib")
    export(bag, "bids", tmp_path / "set", session="1", pictures=False)
    export(bag, "bids", tmp_path / "set", session="2", pictures=False)
    export(bag, "bids", tmp_path / "set", subject="08", pictures=False)
    assert (tmp_path / "set/participants.tsv").read_text().split() == ["participant_id", "sub-P07", "sub-08"]
    with pytest.raises(InputError, match="give another --session"):
        export(bag, "bids", tmp_path / "set", session="2", pictures=False)


def test_a_bdf_export_imports_again(bids: Path, tmp_path: Path) -> None:
    import_emg(bids / "sub-P07/ses-1/emg/sub-P07_ses-1_task-facial_emg.bdf", tmp_path / "again")
    back = [item for _, _, item in read(tmp_path / "again", topics=["emg/raw"])]
    assert back[0].stamp == START // NS * NS  # BDF keeps whole seconds; the sidecar has the rest
    sidecar = json.loads((bids / "sub-P07/ses-1/emg/sub-P07_ses-1_task-facial_emg.json").read_text())
    assert int(sidecar["StartStampNanoseconds"]) == START
    assert (
        np.abs(np.concatenate([c.samples for c in back])[:200] - samples()[:200]).max() < 3e-10
    )  # 2 mV over 2^24 steps, float32


# ---- faces ------------------------------------------------------------------------------------------------------------------


def glb(path: Path) -> tuple[dict, bytes]:
    """glTF 2.0 specification, section 4.4: header, JSON chunk, BIN chunk."""
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    text = json.loads(data[20 : 20 + size])
    size2, kind2 = struct.unpack_from("<I4s", data, 20 + size)
    assert kind2 == b"BIN\0"
    assert size % 4 == size2 % 4 == 0
    return text, data[28 + size : 28 + size + size2]


def accessor(doc: dict, data: bytes, index: int) -> np.ndarray:
    entry = doc["accessors"][index]
    view = doc["bufferViews"][entry["bufferView"]]
    dtype = {5126: "<f4", 5125: "<u4", 5123: "<u2"}[entry["componentType"]]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}[entry["type"]]
    assert view["byteOffset"] % 4 == 0
    values = np.frombuffer(data, dtype, entry["count"] * width, view["byteOffset"])
    assert values.nbytes == view["byteLength"]
    return values.reshape(entry["count"], width) if width > 1 else values


def local(node: dict) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    out = np.eye(4)
    out[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
    out[:3, 3] = node.get("translation", [0, 0, 0])
    return out


def played(doc: dict, data: bytes, key: int) -> np.ndarray:
    """World vertices at a key, as the specification says a viewer makes them: morph, then skin (section 3.7)."""
    nodes = [dict(node) for node in doc["nodes"]]
    primitive = doc["meshes"][0]["primitives"][0]
    count = len(primitive["targets"])
    weights = np.zeros(count)
    for channel in doc["animations"][0]["channels"]:
        sampler = doc["animations"][0]["samplers"][channel["sampler"]]
        values = accessor(doc, data, sampler["output"])
        if channel["target"]["path"] == "weights":
            weights = values.reshape(-1, count)[key]
        else:
            nodes[channel["target"]["node"]][channel["target"]["path"]] = values[key].tolist()
    world: dict[int, np.ndarray] = {}

    def walk(index: int, above: np.ndarray) -> None:
        world[index] = above @ local(nodes[index])
        for child in nodes[index].get("children", []):
            walk(child, world[index])

    walk(doc["scenes"][0]["nodes"][0], np.eye(4))
    vertices = accessor(doc, data, primitive["attributes"]["POSITION"]).astype(float)
    for target, weight in zip(primitive["targets"], weights, strict=True):
        vertices = vertices + weight * accessor(doc, data, target["POSITION"])
    skin = doc["skins"][0]
    inverse = accessor(doc, data, skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    matrices = np.stack([world[joint] @ inverse[k] for k, joint in enumerate(skin["joints"])])
    joints = accessor(doc, data, primitive["attributes"]["JOINTS_0"])
    share = accessor(doc, data, primitive["attributes"]["WEIGHTS_0"]).astype(float)
    blended = np.einsum("vk,vkab->vab", share, matrices[joints])
    return np.einsum("vab,vb->va", blended[:, :3, :3], vertices) + blended[:, :3, 3]


def test_the_animated_head_plays_the_same_vertices(bag: Path, tmp_path: Path) -> None:
    result = export(bag, "gltf", tmp_path / "head.glb", pose=False)
    assert (result["frames"], result["lost"], result["morph_targets"]) == (12, 1, 52)
    doc, data = glb(tmp_path / "head.glb")
    assert doc["meshes"][0]["extras"]["targetNames"][24] == "jawOpen"
    head = load_head()
    for key in (0, 5, 11):
        expected = head.state_vertices(face(key))
        # joints do not move with expression in glTF: the open head's do by less than this
        moved = np.linalg.norm(played(doc, data, key) - expected, axis=1)
        assert moved.max() < 1e-4


def test_the_head_pose_is_played_with_y_up(bag: Path, tmp_path: Path) -> None:
    export(bag, "gltf", tmp_path / "head.glb")
    doc, data = glb(tmp_path / "head.glb")
    head = load_head()
    for key in (0, 11):
        state = face(key)
        camera = head.state_vertices(state) @ state.head_pose[:3, :3].T + state.head_pose[:3, 3]
        expected = (camera - face(0).head_pose[:3, 3]) @ np.diag([1.0, -1.0, -1.0])
        assert np.linalg.norm(played(doc, data, key) - expected, axis=1).max() < 1e-4


def test_key_times_bounds_and_indices_are_as_the_format_demands(bag: Path, tmp_path: Path) -> None:
    export(bag, "gltf", tmp_path / "head.glb")
    doc, data = glb(tmp_path / "head.glb")
    times = accessor(doc, data, doc["animations"][0]["samplers"][0]["input"])
    np.testing.assert_allclose(times, np.arange(12) / 30, atol=1e-6)
    primitive = doc["meshes"][0]["primitives"][0]
    for index in [
        primitive["attributes"]["POSITION"],
        *(target["POSITION"] for target in primitive["targets"]),
    ]:
        values = accessor(doc, data, index)
        np.testing.assert_allclose(doc["accessors"][index]["min"], values.min(axis=0), atol=1e-7)
        np.testing.assert_allclose(doc["accessors"][index]["max"], values.max(axis=0), atol=1e-7)
    assert accessor(doc, data, primitive["indices"]).max() < len(
        accessor(doc, data, primitive["attributes"]["POSITION"])
    )
    np.testing.assert_allclose(
        accessor(doc, data, primitive["attributes"]["WEIGHTS_0"]).sum(axis=1), 1, atol=1e-6
    )


def test_the_skinned_mesh_stands_at_the_root_as_the_format_demands(bag: Path, tmp_path: Path) -> None:
    export(bag, "gltf", tmp_path / "head.glb")
    doc, _ = glb(tmp_path / "head.glb")
    (mesh,) = (k for k, node in enumerate(doc["nodes"]) if "skin" in node)
    assert mesh in doc["scenes"][0]["nodes"]
    assert all(mesh not in node.get("children", []) for node in doc["nodes"])


def test_another_program_opens_the_head(bag: Path, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    export(bag, "gltf", tmp_path / "head.glb")
    scene = trimesh.load(tmp_path / "head.glb", process=False)
    (mesh,) = scene.geometry.values()
    head = load_head()
    np.testing.assert_allclose(mesh.vertices, head.neutral(face(0).shape), atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, head.faces)


def test_a_flame_sequence_holds_every_parameter(bag: Path, tmp_path: Path) -> None:
    export(bag, "flame", tmp_path / "take.npz")
    found = load_sequence(tmp_path / "take.npz")
    np.testing.assert_array_equal(found["expression"][:12], np.stack([face(k).expression for k in range(12)]))
    np.testing.assert_array_equal(found["jaw_pose"][:12], np.stack([face(k).jaw for k in range(12)]))
    np.testing.assert_allclose(found["betas"], face(0).shape, atol=1e-6)
    np.testing.assert_allclose(found["global_orient"][5], [0.0, 0.1, 0.01], atol=1e-9)
    np.testing.assert_allclose(found["transl"][5], [0.01, 0.02, -0.55])
    assert found["tracked"].tolist() == [True] * 12 + [False]
    assert float(found["fps"]) == pytest.approx(30, abs=1e-3)


def test_eifer_rows_come_back_exactly_and_need_a_flame_head(bag: Path, tmp_path: Path) -> None:
    import dataclasses

    from eifer_ros.head.flame_rows import load_rows, states_from_rows

    with pytest.raises(ModelError, match=r"not a FLAME head"):
        export(bag, "eifer-rows", tmp_path / "rows.csv")
    open_head = load_head()
    count = len(open_head.template)
    rng = np.random.default_rng(0)
    flame = dataclasses.replace(
        open_head,
        id="flame",
        shape_basis=rng.normal(0, 1e-4, (count, 3, 300)).astype(np.float32),
        expression_basis=rng.normal(0, 1e-4, (count, 3, 100)).astype(np.float32),
        expression_names=tuple(f"exp{i}" for i in range(100)),
        expression_bounds=np.tile(np.float32([-3, 3]), (100, 1)),
        joint_shape_basis=np.zeros((5, 3, 300), np.float32),
        joint_expression_basis=np.zeros((5, 3, 100), np.float32),
        gaze_basis=None,
        arkit=None,
    )
    flame.save(tmp_path / "flame.npz")
    rows = rng.normal(0, 0.1, (5, 361))
    rows[:, 355:358] = rng.normal(0, 0.05, (5, 3))
    rows[:, 350:352] = rng.uniform(0, 1, (5, 2))
    rows[:, 358] = 8.0
    with BagWriter(tmp_path / "bag", wait=True) as out:
        for state in states_from_rows(rows, flame, [START + k * NS // 30 for k in range(5)]):
            out.write("face/vision", state)
    export(tmp_path / "bag", "eifer-rows", tmp_path / "rows.csv.gz", head_model=str(tmp_path / "flame.npz"))
    np.testing.assert_allclose(load_rows(tmp_path / "rows.csv.gz"), rows, atol=2e-6)  # faces are float32


def test_live_link_csv_has_a_line_per_face(bag: Path, tmp_path: Path) -> None:
    result = export(bag, "livelink", tmp_path / "take.csv")
    rows = table(tmp_path / "take.csv")
    assert result["frames"] == len(rows["Timecode"]) == 13
    assert float(rows["JawOpen"][3]) == pytest.approx(face(3).expression[24], abs=1e-6)


def test_head_model_table_names_the_bounds(bag: Path, tmp_path: Path) -> None:
    export(bag, "csv", tmp_path / "out", topics=("head_model",))
    rows = table(tmp_path / "out" / "head_model.csv")
    assert rows["coefficient"] == list(load_head().expression_names)
    assert isinstance(load_head().info(0), HeadModelInfo)
