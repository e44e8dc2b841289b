"""The MMM layout with its traps, on files made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmm_files import COLUMNS, COUNTS, change_index, make, names_of, write_table

from eifer_ros.emg.montage import FRIDLUND
from eifer_ros.errors import InputError
from eifer_ros.recording.imports import mmm
from eifer_ros.recording.imports.parameters import METHODS, as_eifer_rows, read_parameters

TASKS = ("Face-At-Rest", "Smile-Closed", "Smile-Open", "Cheeks")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make(tmp_path / "MMM", pid="007", frames=12, tasks=TASKS, methods=("MediaPipe", "EIFER", "DECA"))


def test_the_index_gives_every_clip_with_its_files(dataset: Path) -> None:
    index = mmm.read_index(dataset)
    assert len(index.clips) == 10
    assert index.sessions == ("007_1N", "007_1S")
    smile = next(clip for clip in index.clips if clip.identifier == "007_1S_schaede_02_Smile-Open")
    assert (smile.pid, smile.rec, smile.mode, smile.seq, smile.task, smile.sensors) == (
        "007",
        "1S",
        "schaede",
        2,
        "Smile-Open",
        True,
    )
    assert smile.emg is not None
    assert set(smile.parameters) == {"MediaPipe", "EIFER", "DECA"}
    assert index.notes == ()


def test_a_participant_id_that_became_a_number_is_text_again(dataset: Path) -> None:
    change_index(
        dataset,
        lambda rows: [row.update(pid=value) for row, value in zip(rows, ["7", "7.0", "007"], strict=False)],
    )
    index = mmm.read_index(dataset)
    assert {clip.pid for clip in index.clips} == {"007"}
    assert sum("read as the number" in note for note in index.notes) == 2


def test_another_participants_id_is_no_number_gone_wrong(dataset: Path) -> None:
    change_index(dataset, lambda rows: rows[1].update(pid="8"))
    with pytest.raises(InputError, match=r"line 3: pid '8' does not go with clip '007_1N_schaede_01"):
        mmm.read_index(dataset)


def test_clips_pair_by_task_number_whatever_their_labels(dataset: Path) -> None:
    found, notes = mmm.pairs(mmm.read_index(dataset))
    assert [(bare.label, other.label) for bare, other in found] == [
        ("Face-At-Rest", "Face-At-Rest"),
        ("-Smile-Closed", "Smile-Closed"),
        ("-Smile-Open", "Smile-Open"),
        ("Inflate-Cheeks", "Cheeks"),
        ("sad", "sad"),
    ]
    assert notes == []


def test_sync_grade_and_use_do_not_hide_a_clip(dataset: Path) -> None:
    # a presence flag, not a quality: clips without EMG say -1 and no, and their video is fine
    assert sum(not clip.sensors for clip in mmm.read_index(dataset).clips) == 5


def test_missing_rows_missing_files_and_strays_are_told(dataset: Path) -> None:
    index = mmm.read_index(dataset)
    gone = index.of("007_1S")[1]
    assert gone.emg is not None
    gone.emg.unlink()
    change_index(dataset, lambda rows: rows.pop())  # the row of 007_1S_emotion_00_sad
    notes = mmm.read_index(dataset).notes
    assert any("007_1S_schaede_01_Smile-Closed: emg file" in note and "is missing" in note for note in notes)
    assert any("index says it has EMG" in note for note in notes)
    assert any(note.startswith("emg/007_1S/007_1S_emotion_00_sad.csv: no row") for note in notes)
    assert any("MMM_3DMM.csv: '007_1S_emotion_00_sad' is not in MMM.csv" in note for note in notes)


def test_an_unknown_label_is_kept_and_told(dataset: Path) -> None:
    change_index(dataset, lambda rows: rows[6].update(task="Smile-Closd"))
    index = mmm.read_index(dataset)
    assert index.clips[6].task == "Smile-Closd"
    assert not index.clips[6].in_protocol
    assert any("did you mean 'Smile-Closed'" in note for note in index.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[0].update(index="no clip name"), r"line 2: 'no clip name' is no clip name"),
        (lambda rows: rows.append(dict(rows[0])), "occurs twice"),
        (lambda rows: rows[6].update(emg="../secret.csv"), "leads out of the data set"),
        (lambda rows: rows[6].update(rec="2S"), "rec '2S' does not go with"),
    ],
)
def test_an_index_that_cannot_be_understood_is_refused_with_its_line(
    dataset: Path, change, words: str
) -> None:
    change_index(dataset, change)
    with pytest.raises(InputError, match=words):
        mmm.read_index(dataset)


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"MMM\.csv"):
        mmm.read_index(tmp_path)


def test_envelopes_come_in_volts_in_the_schemes_order_and_never_below_zero(dataset: Path) -> None:
    clip = mmm.read_index(dataset).of("007_1S")[1]
    values = np.arange(12 * 22, dtype=float).reshape(12, 22) + 1
    values[0, 3] = -0.4  # the resampler rings
    write_table(clip.emg, COLUMNS, values, index=True)
    data = mmm.read_clip(clip)
    assert data.envelope.shape == (12, 22)
    assert data.envelope.min() == 0.0
    for column, name in enumerate(COLUMNS):
        place = FRIDLUND.names.index(FRIDLUND.resolve(name))
        np.testing.assert_allclose(data.envelope[1:, place], values[1:, column] * 1e-6, rtol=1e-6)
    assert any("1 envelope values below 0" in note for note in data.notes)


@pytest.mark.parametrize(("rows", "cut"), [(11, 11), (12, 12), (13, 12)])
def test_a_frame_more_or_less_is_cut_and_told(dataset: Path, rows: int, cut: int) -> None:
    clip = mmm.read_index(dataset).of("007_1S")[1]
    write_table(clip.emg, COLUMNS, np.ones((rows, 22)), index=True)
    data = mmm.read_clip(clip)
    assert (data.frames, len(data.envelope), len(data.parameters.values)) == (cut, cut, cut)
    assert bool(data.notes) == (rows != 12)


def test_files_of_different_clips_are_refused(dataset: Path) -> None:
    clip = mmm.read_index(dataset).of("007_1S")[1]
    write_table(clip.emg, COLUMNS, np.ones((30, 22)), index=True)
    with pytest.raises(InputError, match=r"EMG 30, MediaPipe 12"):
        mmm.read_clip(clip)
    with pytest.raises(InputError, match=r"video 99"):
        mmm.read_clip(mmm.read_index(dataset).of("007_1S")[2], video_frames=99)


# ---- parameter tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", list(COUNTS))
@pytest.mark.parametrize("style", ["{}", "spaces", "index", "shuffled", "bare"])
def test_every_methods_table_is_read_however_it_is_headed(tmp_path: Path, method: str, style: str) -> None:
    names = names_of(method)
    assert len(names) == COUNTS[method]
    values = np.random.default_rng(1).normal(size=(3, len(names)))
    path = tmp_path / "table.csv.gz"
    order = np.random.default_rng(2).permutation(len(names)) if style == "shuffled" else np.arange(len(names))
    heads = [
        names[k].replace("_", " ") if style == "spaces" and method != "MediaPipe" else names[k] for k in order
    ]
    write_table(path, heads, values[:, order], index=style == "index")
    if style == "bare":
        import gzip

        path.write_bytes(gzip.compress(b"\n".join(gzip.decompress(path.read_bytes()).splitlines()[1:])))
        if method == "MediaPipe":
            with pytest.raises(InputError, match="not named as MediaPipe"):
                read_parameters(path, method)
            return
    read = read_parameters(path, method)
    if method == "MediaPipe":
        assert read.part(["jawOpen"])[:, 0] == pytest.approx(values[:, names.index("jawOpen")])
        assert not read.part(["tongueOut"]).any()
    else:
        np.testing.assert_array_equal(read.values, values)
        assert read.part(["exp_0"])[:, 0] == pytest.approx(values[:, names.index("exp_0")])


def test_a_table_of_another_method_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_table(path, names_of("DECA"), np.zeros((2, 236)))
    with pytest.raises(InputError, match="looks like a table of DECA"):
        read_parameters(path, "EIFER")


def test_a_table_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    write_table(path, names_of("EIFER"), np.zeros((4, 361)))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="is the download complete"):
        read_parameters(path, "EIFER")
    plain = tmp_path / "t.csv"
    write_table(plain, names_of("EIFER"), np.zeros((4, 361)))
    plain.write_text(plain.read_text()[:-200])
    with pytest.raises(InputError, match="was it cut off"):
        read_parameters(plain, "EIFER")


def test_decas_table_becomes_eifer_rows() -> None:
    from eifer_ros.head.flame_rows import SLICES
    from eifer_ros.recording.imports.parameters import Parameters

    names = names_of("DECA")
    values = np.arange(236, dtype=float)[None]
    rows = as_eifer_rows(Parameters(METHODS["DECA"], values))
    assert rows.shape == (1, 361)
    assert rows[0, :100].tolist() == list(range(100))
    assert not rows[0, 100:300].any()
    for group, column in (("exp", "exp_0"), ("pose", "pose_0"), ("jaw", "pose_3"), ("cam", "cam_0")):
        assert rows[0, SLICES[group]][0] == names.index(column)
    with pytest.raises(InputError, match="does not use FLAME"):
        as_eifer_rows(Parameters(METHODS["FOCUS"], np.zeros((1, 531))))
