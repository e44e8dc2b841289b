"""Imports into recordings: real files of other people's formats."""

from __future__ import annotations

import struct
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recording_data"))
from mmm_files import change_index, make, write_video

from eifer_ros.emg.montage import FRIDLUND
from eifer_ros.emg.sources.recording import EmgRecording, even_stamps
from eifer_ros.emg.sources.text_formats import write_csv
from eifer_ros.errors import InputError
from eifer_ros.mapping.features import training_pairs
from eifer_ros.mapping.fit import FitSettings
from eifer_ros.recording.info import info
from eifer_ros.recording.reader import Bag, read
from eifer_ros.types import NS, EmgChunk, FaceStatus, MuscleActivity
from eifer_ros.workflows.fit import fit_recording, series_of
from eifer_ros.workflows.imports import UNDATED, import_emg, import_mmm, marker_of


def items(bag: Path, topic: str) -> list:
    return [item for _, _, item in read(bag, topics=[topic])]


@pytest.fixture(scope="module")
def mmm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("mmm"), frames=90, methods=("MediaPipe", "EIFER"))


@pytest.fixture(scope="module")
def imported(mmm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bags") / "out"
    result = import_mmm(mmm, out)
    assert list(result.bags) == ["99_1S"]
    assert result.failures == {}
    return out / "99_1S"


def test_a_session_of_mmm_becomes_one_recording(imported: Path, mmm: Path) -> None:
    activity = items(imported, "emg/activity")
    assert len(activity) == 12 * 90
    first = activity[0]
    assert isinstance(first, MuscleActivity)
    assert (first.scheme, first.muscles, first.profile) == ("fridlund", FRIDLUND.muscles, "eifer_mmm")
    assert 3e-6 < np.median([item.envelope for item in activity]) < 12e-6
    faces = items(imported, "face/vision")
    assert [face.stamp for face in faces] == [item.stamp for item in activity]
    assert faces[0].head_model == "open_head"
    markers = items(imported, "markers")
    assert [(m.label, m.phase) for m in markers[:2]] == [("Face-At-Rest", "start"), ("Face-At-Rest", "end")]
    assert len(markers) == 24
    with Bag(imported) as bag:
        assert bag.session["participant"] == "99"
        assert "redistribution not permitted" in bag.session["licence"]


def test_clips_lie_apart_and_frames_are_a_thirtieth_apart(imported: Path) -> None:
    stamps = np.array([item.stamp for item in items(imported, "emg/activity")])
    steps = np.diff(stamps)
    assert stamps[0] == UNDATED
    assert (steps > NS).sum() == 11
    assert np.abs(steps[steps < NS] - NS / 30).max() <= 1


def test_a_mapping_is_fitted_straight_to_the_import(imported: Path) -> None:
    fitted = fit_recording(imported, None, FitSettings(kind="ridge"))
    mapping = fitted.mapping
    assert (mapping.scheme, mapping.profile, mapping.head_model) == ("fridlund", "eifer_mmm", "open_head")
    # each movement is made once here, so held-out stretches teach nothing of it: the fit itself is looked at
    series, _ = series_of(fitted.session)
    features, face, _ = training_pairs(series, mapping.emg2exp.spec, series.activation, series.face)
    made = mapping.emg2exp.predict(features)
    for name in ("browInnerUp", "mouthFrownLeft"):
        column = mapping.face_names.index(name)
        assert np.corrcoef(face[:, column], made[:, column])[0, 1] > 0.95


def test_a_clip_that_cannot_be_read_is_listed_and_the_others_come(mmm: Path, tmp_path: Path) -> None:
    root = make(
        tmp_path / "d", frames=12, tasks=("Face-At-Rest", "Forehead", "Snarl"), methods=("MediaPipe",)
    )
    table = next((root / "video_noelec_params").rglob("*Forehead*"))
    table.write_bytes(table.read_bytes()[:50])
    result = import_mmm(root, tmp_path / "out")
    assert list(result.failures) == ["99_1S_schaede_01_Forehead"]
    assert "download complete" in result.failures["99_1S_schaede_01_Forehead"]
    assert {m.label for m in items(tmp_path / "out" / "99_1S", "markers")} == {"Face-At-Rest", "Snarl", "sad"}


def test_pictures_with_and_without_electrodes_come_along(tmp_path: Path) -> None:
    root = make(
        tmp_path / "d", frames=8, sessions=("1S",), tasks=("Forehead",), methods=("MediaPipe",), videos=True
    )
    import_mmm(root, tmp_path / "out", pictures="both")
    found = items(tmp_path / "out" / "99_1S", "camera/image_raw")
    assert len(found) == 16
    assert len(items(tmp_path / "out" / "99_1S", "face/restored")) == 16
    assert [f.stamp for f in found[:8]] == [
        a.stamp for a in items(tmp_path / "out" / "99_1S", "emg/activity")[:8]
    ]


def test_eifer_parameters_need_a_flame_head_and_focus_has_none(mmm: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give a FLAME head"):
        import_mmm(mmm, tmp_path / "a", method="EIFER")
    with pytest.raises(InputError, match="Basel face model"):
        import_mmm(mmm, tmp_path / "b", method="FOCUS")
    with pytest.raises(InputError, match="did you mean 'MediaPipe'"):
        import_mmm(mmm, tmp_path / "c", method="MediaPip")
    with pytest.raises(InputError, match="no session '99_2S'; did you mean"):
        import_mmm(mmm, tmp_path / "d", sessions=["99_2S"])


def test_a_session_without_emg_is_not_imported_by_itself(mmm: Path, tmp_path: Path) -> None:
    change = make(tmp_path / "n", frames=6, sessions=("1S",), tasks=("Forehead",), methods=("MediaPipe",))
    change_index(change, lambda rows: [row.update(emg="") for row in rows])
    result = import_mmm(change, tmp_path / "out")
    assert result.written["face/vision"] == 12
    assert "emg/activity" not in result.written


def test_a_blendshape_row_with_a_hole_is_a_lost_face(tmp_path: Path) -> None:
    import gzip

    root = make(tmp_path / "d", frames=6, sessions=("1S",), tasks=("Forehead",), methods=("MediaPipe",))
    table = next((root / "video_noelec_params").rglob("*Forehead*"))
    lines = gzip.decompress(table.read_bytes()).decode().splitlines()
    lines[3] = "," * 51
    table.write_bytes(gzip.compress("\n".join(lines).encode()))
    import_mmm(root, tmp_path / "out")
    faces = items(tmp_path / "out" / "99_1S", "face/vision")
    assert [face.status == FaceStatus.LOST for face in faces[:6]] == [False, False, True, False, False, False]


# ---- EMG files --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def recording(tmp_path: Path) -> EmgRecording:
    rng = np.random.default_rng(3)
    stamps = even_stamps(3000, 1000.0, 1_700_000_000 * NS)
    return EmgRecording(
        tmp_path / "x.csv",
        (rng.normal(size=(3000, 3)) * 1e-4).astype(np.float32),
        stamps,
        1000.0,
        ("F1", "F2", "F19"),
    )


def samples_of(bag: Path) -> tuple[np.ndarray, np.ndarray]:
    chunks = [item for item in items(bag, "emg/raw") if isinstance(item, EmgChunk)]
    stamps = np.concatenate(
        [c.stamp + np.round(np.arange(len(c.samples)) * NS / c.rate_hz).astype(np.int64) for c in chunks]
    )
    return np.concatenate([c.samples for c in chunks]), stamps


def test_a_csv_comes_back_sample_for_sample(recording: EmgRecording, tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", recording)
    result = import_emg(tmp_path / "x.csv", tmp_path / "bag")
    samples, stamps = samples_of(tmp_path / "bag")
    np.testing.assert_array_equal(samples, recording.samples)
    np.testing.assert_array_equal(stamps, recording.stamps)
    assert result.written["emg/raw_channels"] == 1
    assert info(tmp_path / "bag").emg[0].not_recorded == 0


def test_a_gap_in_a_file_is_a_loss_in_the_recording(recording: EmgRecording, tmp_path: Path) -> None:
    keep = np.r_[0:1000, 1200:3000]
    write_csv(
        tmp_path / "x.csv",
        EmgRecording(
            recording.path, recording.samples[keep], recording.stamps[keep], 1000.0, recording.channels
        ),
    )
    import_emg(tmp_path / "x.csv", tmp_path / "bag")
    assert info(tmp_path / "bag").emg[0].lost == 200


def test_a_bdf_comes_with_its_annotations(recording: EmgRecording, tmp_path: Path) -> None:
    pyedflib = pytest.importorskip("pyedflib")
    path = tmp_path / "x.bdf"
    with pyedflib.EdfWriter(str(path), 3, file_type=pyedflib.FILETYPE_BDFPLUS) as writer:
        for k, name in enumerate(recording.channels):
            writer.setSignalHeader(
                k,
                {
                    "label": name,
                    "dimension": "uV",
                    "sample_frequency": 1000,
                    "physical_max": 1000,
                    "physical_min": -1000,
                    "digital_max": 8388607,
                    "digital_min": -8388608,
                    "transducer": "",
                    "prefilter": "",
                },
            )
        writer.setStartdatetime(datetime(2026, 1, 2, 3, 4, 5))
        writer.writeSamples([np.ascontiguousarray(c) for c in recording.samples.T.astype(float) * 1e6])
        writer.writeAnnotation(0.5, 1.0, "-Smile-Open")
        writer.writeAnnotation(2.0, -1, "cable touched")
    import_emg(path, tmp_path / "bag")
    samples, stamps = samples_of(tmp_path / "bag")
    step = 2000e-6 / 2**24 + 3e-11  # the format's resolution, and float32's
    assert np.abs(samples - recording.samples).max() <= step
    start = int(datetime(2026, 1, 2, 3, 4, 5).timestamp() - datetime(1970, 1, 1).timestamp()) * NS
    assert stamps[0] == start
    assert [(m.label, m.phase, (m.stamp - start) / NS) for m in items(tmp_path / "bag", "markers")] == [
        ("Smile-Open", "start", 0.5),
        ("Smile-Open", "end", 1.5),
        ("cable touched", "note", 2.0),
    ]


def test_an_xdf_comes_with_its_markers_on_the_same_clock(tmp_path: Path) -> None:
    pytest.importorskip("pyxdf")
    path = tmp_path / "x.xdf"
    times = 5000.0 + np.arange(2000) / 500.0
    values = np.random.default_rng(0).normal(size=(2000, 2)).astype("<f4") * 50
    path.write_bytes(
        xdf_file(times, values, [(5001.0, "Forehead start"), (5002.5, "Forehead end"), (5003.0, "hello")])
    )
    import_emg(path, tmp_path / "bag")
    samples, stamps = samples_of(tmp_path / "bag")
    np.testing.assert_allclose(samples, values * 1e-6, rtol=1e-6)
    markers = items(tmp_path / "bag", "markers")
    found = [(m.label, m.phase, round((m.stamp - stamps[0]) / NS, 6)) for m in markers]
    assert found == [("Forehead", "start", 1.0), ("Forehead", "end", 2.5), ("hello", "note", 3.0)]


def xdf_file(times: np.ndarray, values: np.ndarray, marks: list[tuple[float, str]]) -> bytes:
    """As LabRecorder writes it: https://github.com/sccn/xdf/wiki/Specifications."""

    def chunk(tag: int, content: bytes) -> bytes:
        body = struct.pack("<H", tag) + content
        return b"\x04" + struct.pack("<I", len(body)) + body

    def count(number: int) -> bytes:
        return b"\x04" + struct.pack("<I", number)

    def header(name: str, kind: str, channels: int, rate: float, form: str, described: str = "") -> bytes:
        return (
            f'<?xml version="1.0"?><info><name>{name}</name><type>{kind}</type><channel_count>{channels}</channel_count>'
            f"<nominal_srate>{rate}</nominal_srate><channel_format>{form}</channel_format><desc>{described}</desc></info>"
        ).encode()

    described = (
        "<channels>"
        + "".join(f"<channel><label>{n}</label><unit>microvolts</unit></channel>" for n in ("F1", "F2"))
        + "</channels>"
    )
    out = b"XDF:" + chunk(1, b'<?xml version="1.0"?><info><version>1.0</version></info>')
    out += chunk(2, struct.pack("<I", 1) + header("amp", "EMG", 2, 500.0, "float32", described))
    out += chunk(2, struct.pack("<I", 2) + header("marks", "Markers", 1, 0, "string"))
    data = b"".join(
        b"\x08" + struct.pack("<d", t) + row.tobytes() for t, row in zip(times, values, strict=True)
    )
    out += chunk(3, struct.pack("<I", 1) + count(len(times)) + data)
    data = b"".join(b"\x08" + struct.pack("<d", t) + count(len(text)) + text.encode() for t, text in marks)
    return out + chunk(3, struct.pack("<I", 2) + count(len(marks)) + data)


def test_real_recordings_are_imported_whole(recordings: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyxdf")
    import_emg(recordings / "emg_openbci_200hz.txt", tmp_path / "board")
    emg = info(tmp_path / "board").emg[0]
    assert (emg.samples, emg.lost, emg.not_recorded) == (26207, 0, 0)
    reset = import_emg(recordings / "xdf" / "clock_resets.xdf", tmp_path / "xdf", stream="BioSemi", unit="uV")
    assert any("segments" in note for note in reset.notes)


def test_a_video_beside_the_file_starts_where_it_is_said_to(recording: EmgRecording, tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", recording)
    write_video(tmp_path / "v.mp4", 20, 1)
    import_emg(tmp_path / "x.csv", tmp_path / "bag", video=tmp_path / "v.mp4", video_offset_s=0.25)
    frames = items(tmp_path / "bag", "camera/image_raw")
    assert len(frames) == 20
    assert frames[0].stamp - int(recording.stamps[0]) == NS // 4


def test_what_a_file_lacks_can_be_given_and_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n" + "1,2\n" * 50)
    with pytest.raises(InputError, match="unit"):
        import_emg(tmp_path / "x.csv", tmp_path / "bag")
    assert not (tmp_path / "bag").exists()
    import_emg(tmp_path / "x.csv", tmp_path / "bag", rate_hz=100.0, unit="mV", channels=("F1", "F2"))
    samples, stamps = samples_of(tmp_path / "bag")
    assert samples[0].tolist() == pytest.approx([1e-3, 2e-3])
    assert stamps[0] == 0
    with pytest.raises(InputError, match="never overwritten"):
        import_emg(tmp_path / "x.csv", tmp_path / "bag", rate_hz=100.0, unit="mV")


@pytest.mark.parametrize(
    ("text", "label", "phase"),
    [
        ("Smile-Open start", "Smile-Open", "start"),
        ("start: Snarl", "Snarl", "start"),
        ("-Smile-Open_end", "Smile-Open", "end"),
        ("Inflate-Cheeks onset", "Cheeks", "start"),
        ("please start again now", "please start again now", "note"),
        ("17", "17", "note"),
    ],
)
def test_what_stimulus_programs_write_becomes_a_marker(text: str, label: str, phase: str) -> None:
    marker = marker_of(5, text)
    assert (marker.label, marker.phase) == (label, phase)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mmm"], "of which folder"),
        (["mm", "x"], "did you mean 'mmm'"),
        (["xdf", "a", "b"], "one folder or file"),
    ],
)
def test_what_is_imported_is_asked_for_in_words(
    eifer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = eifer("import", *words)
    assert result.code == 2 and said in result.err


def test_a_file_imported_without_a_name_gets_its_own(
    eifer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savetxt(
        "tuesday.dat",
        np.random.default_rng(0).normal(0, 20, (300, 2)),
        delimiter=",",
        header="F1,F2",
        comments="",
    )
    result = eifer("import", "csv", "tuesday.dat", "--option", "rate_hz=1000", "--option", "unit=uV")
    assert result.code == 0, result.err
    assert (tmp_path / "tuesday" / "metadata.yaml").exists()
