"""Tables and folders in the layouts of CASME II, SAMM and CAS(ME)3."""

from __future__ import annotations

import contextlib
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import micro_files as files

from eifer_ros.errors import InputError, MissingExtra
from eifer_ros.recording.imports.micro import read_index, regions_of_units
from eifer_ros.recording.imports.sheets import MOST_ROWS, read_table
from eifer_ros.recording.reader import Bag, read
from eifer_ros.types import NS, FaceEvent, FaceOrigin, Frame, Marker
from eifer_ros.workflows.imports import UNDATED
from eifer_ros.workflows.micro_imports import import_micro


def items(bag: Path, topic: str) -> list:
    return [item for _, _, item in read(bag, topics=[topic])]


def seconds(stamp: int) -> float:
    return (stamp - UNDATED) / NS


# ---- tables -----------------------------------------------------------------------------------------------------------------


CELLS = st.one_of(
    st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=8),
    st.integers(-(10**6), 10**6),
    st.floats(-1e3, 1e3, allow_nan=False).filter(lambda v: v != int(v)),
)


@given(
    st.lists(st.lists(st.one_of(CELLS, st.none()), max_size=30), max_size=6), st.booleans(), st.integers(0, 2)
)
def test_a_workbook_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list, inline: bool, before: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "book.xlsx"
    files.write_xlsx(path, rows, "label", others=[f"other {k}" for k in range(before)], inline=inline)
    got = read_table(path, "label")

    def text(cell: object) -> str:
        return "" if cell is None else str(cell)

    def trimmed(row: list) -> list[str]:
        cells = [text(cell) for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        return cells

    wanted = [trimmed(row) for row in rows]
    while wanted and not wanted[-1]:
        wanted.pop()
    assert got == wanted


def test_a_workbook_of_another_library_is_read_the_same(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    rows = [
        list(files.CASME2_COLUMNS),
        [1, "EP02_01f", None, 46, 59, 86, None, 12, "happiness"],
        [4, "EP12_01f", None, 261, "/", 321.0, None, "R4", "ä & <b>"],
    ]
    for row in rows:
        book.active.append(row)
    book.create_sheet("notes").append(["other"])
    book.save(tmp_path / "t.xlsx")
    assert read_table(tmp_path / "t.xlsx", "label") == [
        [
            "Subject",
            "Filename",
            "",
            "OnsetFrame",
            "ApexFrame",
            "OffsetFrame",
            "",
            "Action Units",
            "Estimated Emotion",
        ],
        ["1", "EP02_01f", "", "46", "59", "86", "", "12", "happiness"],
        ["4", "EP12_01f", "", "261", "/", "321", "", "R4", "ä & <b>"],
    ]


def test_what_is_no_workbook_is_refused_by_name(tmp_path: Path) -> None:
    whole = tmp_path / "whole.xlsx"
    files.write_xlsx(whole, [("a", 1)])
    data = whole.read_bytes()
    (tmp_path / "half.xlsx").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.xlsx").write_text("Subject,Filename\n")
    (tmp_path / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", '<!DOCTYPE x [<!ENTITY a "aaaa">]><workbook/>')
    for name, words in (
        ("half.xlsx", "not a whole .xlsx"),
        ("text.xlsx", "not a whole .xlsx"),
        ("old.xls", "save it as .xlsx or .csv"),
        ("bomb.xlsx", "document type"),
        ("none.csv", "no such file"),
        ("old.doc", "no such file"),
    ):
        with pytest.raises(InputError, match=words):
            read_table(tmp_path / name)


def test_a_workbook_without_openpyxl_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_xlsx(tmp_path / "w.xlsx", [("a", 1)])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingExtra, match=r"w\.xlsx.*eifer_ros\[files\]"):
        read_table(tmp_path / "w.xlsx")


def test_a_row_of_any_number_ends_the_table(tmp_path: Path) -> None:
    files.write_xlsx(tmp_path / "w.xlsx", [("a", 1), ("b", 2)])
    with zipfile.ZipFile(tmp_path / "w.xlsx") as whole, zipfile.ZipFile(tmp_path / "far.xlsx", "w") as far:
        for part in whole.infolist():
            data = whole.read(part)
            far.writestr(part, data.replace(b'<row r="2">', b'<row r="99999999999">').replace(b'r="A2"', b""))
    rows = read_table(tmp_path / "far.xlsx")
    assert rows[0] == ["a", "1"]
    assert len(rows) <= MOST_ROWS
    assert not any(rows[1:])


@given(st.binary(max_size=200))
def test_damaged_workbooks_never_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    files.write_xlsx(folder / "w.xlsx", [("a", 1), ("b", 2.5)])
    whole = bytearray((folder / "w.xlsx").read_bytes())
    whole[60 : 60 + len(data)] = data
    (folder / "d.xlsx").write_bytes(bytes(whole))
    with contextlib.suppress(InputError):
        read_table(folder / "d.xlsx")


def test_semicolons_tabs_and_a_byte_order_mark_are_understood(tmp_path: Path) -> None:
    for delimiter in (",", ";", "\t"):
        files.write_csv(tmp_path / "t.csv", [("Subject", "Filename"), (1, "x y")], delimiter)
        assert read_table(tmp_path / "t.csv") == [["Subject", "Filename"], ["1", "x y"]]


# ---- action units -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "regions"),
    [
        ("4", ("eye_left", "eye_right")),
        ("R12", ("lips_right",)),
        ("4+L10", ("eye_left", "eye_right", "lips_left")),
        ("L1+2", ("eye_left", "eye_right")),
        ("AU12A", ("lips_left", "lips_right")),
        ("R14A or 17A", ("lips_right", "lips_left")),
        ("A1B+A2C", ("eye_left", "eye_right")),
        ("12+L6", ("lips_left", "lips_right", "eye_left")),
        ("58", ()),
        ("", ()),
        ("?", ()),
        ("L4 + R4", ("eye_left", "eye_right")),
        ("9", ("lips_left", "lips_right")),
    ],
)
def test_action_units_tell_the_region_and_the_side(units: str, regions: tuple[str, ...]) -> None:
    assert regions_of_units(units) == regions


# ---- CASME II ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["CASME2-coding-20140508.xlsx", "CASME2-coding-20190701.csv"])
def test_a_subject_of_casme2_becomes_one_recording(tmp_path: Path, table: str) -> None:
    result = import_micro("casme2", files.casme2(tmp_path / "CASME2", table=table), tmp_path / "out")
    assert list(result.bags) == ["sub01", "sub04"] and result.failures == {}
    pictures = items(tmp_path / "out" / "sub01", "camera/image_raw")
    assert len(pictures) == 52 + 58
    first = [p for p in pictures if seconds(p.stamp) < 1.0]
    assert [round(seconds(p.stamp) * 200) for p in first] == list(range(52))
    # the file of that number, not the n-th of the folder: the apex of EP02_01f is img59, the 20th picture
    happy, disgusted = items(tmp_path / "out" / "sub01", "truth/events")
    assert isinstance(happy, FaceEvent)
    at = {p.stamp: p for p in pictures}
    for event, frames in ((happy, (46, 59, 86)), (disgusted, (11, 29, 55))):
        for stamp, number in zip((event.onset, event.stamp, event.offset), frames, strict=True):
            assert abs(float(np.asarray(at[stamp].image).mean()) - number) < 2.0
    assert (happy.label, happy.regions, happy.origin) == (
        "happiness",
        ("lips_left", "lips_right"),
        FaceOrigin.TRUTH,
    )
    assert happy.probabilities[happy.classes.index("happiness")] == 1.0 and happy.probabilities.sum() == 1.0
    assert np.isnan(happy.lead_s)
    assert disgusted.regions == ("eye_left", "eye_right", "lips_left")
    markers = [m for m in items(tmp_path / "out" / "sub01", "markers") if m.phase != "note"]
    assert [(m.label, m.phase, m.stamp) for m in markers] == [
        ("Micro-Happiness", "start", happy.onset),
        ("Micro-Happiness", "end", happy.offset),
        ("Micro-Disgust", "start", disgusted.onset),
        ("Micro-Disgust", "end", disgusted.offset),
    ]
    assert "AU 4+L10" in markers[2].note
    with Bag(tmp_path / "out" / "sub01") as bag:
        assert bag.session["participant"] == "sub01" and "redistribution" in str(bag.session["licence"])


def test_missing_frames_leave_a_gap_in_time_and_a_note(tmp_path: Path) -> None:
    result = import_micro("casme2", files.casme2(tmp_path / "CASME2"), tmp_path / "out", subjects=["sub01"])
    assert list(result.bags) == ["sub01"]
    assert any("EP03_02" in note and "2 of its frames 1 .. 60 are missing" in note for note in result.notes)
    stamps = np.array([seconds(p.stamp) for p in items(tmp_path / "out" / "sub01", "camera/image_raw")])
    steps = np.round(np.diff(stamps[stamps > 1.0]) * 200)
    assert sorted(set(steps)) == [1.0, 3.0]


def test_an_apex_that_is_not_known_is_taken_in_the_middle_and_said(tmp_path: Path) -> None:
    result = import_micro("casme2", files.casme2(tmp_path / "CASME2"), tmp_path / "out", subjects=["sub04"])
    (event,) = items(tmp_path / "out" / "sub04", "truth/events")
    assert event.stamp - event.onset == event.offset - event.stamp == 30 * NS // 200
    assert any("sub04/EP12_01f" in note and "apex is not known" in note for note in result.notes)
    notes = [m.note for m in items(tmp_path / "out" / "sub04", "markers") if m.phase == "start"]
    assert "apex unknown" in notes[0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            (1, "EP02_01f", None, 86, 59, 90, None, 12, "happiness"),
            ["row 2", "apex 59", "outside onset 86 .. offset 90"],
        ),
        ((1, "EP02_01f", None, 86, "/", 46, None, 12, "happiness"), ["row 2", "onset 86", "after offset 46"]),
        (
            (1, "EP02_01f", None, "x", 59, 86, None, 12, "happiness"),
            ["row 2", "onset is 'x'", "frame number"],
        ),
        ((1, "EP02_01f", None, "", 59, 86, None, 12, "happiness"), ["row 2", "needs one"]),
        (
            (1, "EP02_01f", None, 500, 510, 520, None, 12, "happiness"),
            ["row 2", "500 .. 520 are all missing", "40 .. 91"],
        ),
        ((1, "EP99_01", None, 46, 59, 86, None, 12, "happiness"), ["no frames", "sub01/EP99_01"]),
        (("", "EP02_01f", None, 46, 59, 86, None, 12, "happiness"), ["row 2", "no Subject"]),
        ((1, "EP03_02", None, 11, 29, "/", None, 12, "happiness"), []),
    ],
)
def test_a_row_that_cannot_be_is_left_out_with_its_reason_and_the_others_come(
    tmp_path: Path, row: tuple, words: list[str]
) -> None:
    good = (4, "EP12_01f", None, 261, 290, 321, None, "R4", "others")
    result = import_micro("casme2", files.casme2(tmp_path / "CASME2", [row, good]), tmp_path / "out")
    assert "sub04" in result.bags
    if words:
        (why,) = result.failures.values()
        assert all(word in why for word in words), why
    else:  # an offset that is not known ends with the clip
        assert result.failures == {}
        (event,) = items(tmp_path / "out" / "sub01", "truth/events")
        assert (event.offset - event.onset) * 200 // NS == 60 - 11


def test_an_emotion_nobody_knows_is_unknown_and_said(tmp_path: Path) -> None:
    rows = [(1, "EP02_01f", None, 46, 59, 86, None, 12, "hapiness")]
    result = import_micro("casme2", files.casme2(tmp_path / "CASME2", rows), tmp_path / "out")
    (event,) = items(tmp_path / "out" / "sub01", "truth/events")
    assert (event.label, event.classes) == ("unknown", ())
    assert any("did you mean 'happiness'" in note for note in result.notes)


def test_a_picture_that_cannot_be_decoded_ends_its_clip_only(tmp_path: Path) -> None:
    root = files.casme2(tmp_path / "CASME2")
    (root / "CASME2_RAW_selected" / "sub01" / "EP02_01f" / "img50.jpg").write_bytes(b"no jpeg")
    result = import_micro("casme2", root, tmp_path / "out", subjects=["sub01"])
    assert "img50.jpg" in result.failures["sub01/EP02_01f"]
    assert any(seconds(event.onset) > 1.0 for event in items(tmp_path / "out" / "sub01", "truth/events"))


def test_two_sets_of_frames_must_be_chosen_from(tmp_path: Path) -> None:
    root = files.casme2(tmp_path / "CASME2")
    files.write_frames(root / "Cropped" / "sub01" / "EP02_01f", range(46, 87), "reg_img{}.jpg")
    index = read_index("casme2", root)
    assert "choose with --frames" in index.failures["sub01/EP02_01f frame 46"]
    chosen = read_index("casme2", root, frames=root / "Cropped")
    assert [clip.folder.parent.parent.name for clip in chosen.clips] == ["Cropped"]
    assert min(chosen.clips[0].frames) == 46


def test_what_is_no_collection_is_told_what_one_looks_like(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_index("casme2", tmp_path / "none")
    with pytest.raises(InputError, match=r"no label table of CASME II.*OnsetFrame"):
        read_index("casme2", tmp_path)
    files.write_csv(
        tmp_path / "CASME2-coding.csv", [("Subject", "Filename", "Onset", "Offset"), (1, "EP02_01f", 46, 86)]
    )
    with pytest.raises(InputError, match="row 1 lacks the column Apex"):
        read_index("casme2", tmp_path)
    files.write_csv(
        tmp_path / "CASME2-coding.csv",
        [files.CASME2_COLUMNS, (1, "EP02_01f", "", 46, 59, 86, "", 12, "happiness")],
    )
    with pytest.raises(InputError, match=r"none of its 1 rows can be used; the first: .*no frames"):
        read_index("casme2", tmp_path)
    with pytest.raises(InputError, match="did you mean 'casme"):
        read_index("casme", tmp_path)
    with pytest.raises(InputError, match=r"no subject 'sub4'; did you mean"):
        import_micro("casme2", files.casme2(tmp_path / "good"), tmp_path / "out", subjects=["sub4"])


# ---- SAMM -------------------------------------------------------------------------------------------------------------------


def test_samm_is_read_below_its_notes_by_the_numbers_of_the_long_video(tmp_path: Path) -> None:
    result = import_micro("samm", files.samm(tmp_path / "S"), tmp_path / "out")
    assert list(result.bags) == ["006", "011"] and result.failures == {}
    (anger,) = items(tmp_path / "out" / "006", "truth/events")
    assert (anger.label, anger.regions) == ("anger", ("eye_left", "eye_right"))
    assert seconds(anger.onset) == 0.0 and (anger.stamp - anger.onset) * 200 // NS == 7
    pictures = items(tmp_path / "out" / "006", "camera/image_raw")
    assert len(pictures) == 28 and seconds(pictures[-1].stamp) == pytest.approx(27 / 200)
    (contempt,) = items(tmp_path / "out" / "011", "truth/events")
    assert (contempt.label, contempt.regions) == ("contempt", ("lips_right", "lips_left"))
    assert any("011_6_1" in note and "apex" in note for note in result.notes)
    (start,) = [m for m in items(tmp_path / "out" / "011", "markers") if m.phase == "start"]
    assert isinstance(start, Marker) and "objective class 8" in start.note


# ---- CAS(ME)3 ---------------------------------------------------------------------------------------------------------------


def test_cut_clips_of_casme3_are_found_whatever_their_letter_case_and_depth_is_left_alone(
    tmp_path: Path,
) -> None:
    result = import_micro("casme3", files.casme3(tmp_path / "C"), tmp_path / "out")
    assert result.failures == {}
    events = items(tmp_path / "out" / "spNO.1", "truth/events")
    assert [(e.label, e.regions) for e in events] == [
        ("disgust", ("eye_left", "eye_right")),
        ("happiness", ("lips_left",)),
    ]
    assert (events[0].stamp - events[0].onset) / NS == pytest.approx(6 / 30)
    assert (events[1].offset - events[1].onset) / NS == pytest.approx(
        10 / 30
    )  # unknown (0): until the clip ends
    pictures = items(tmp_path / "out" / "spNO.1", "camera/image_raw")
    assert len(pictures) == 15 + 11 and all(isinstance(p, Frame) for p in pictures)
    assert any("30 frames/s" in note and "spotting wants" in note for note in result.notes)


def test_whole_videos_of_casme3_hold_all_their_events(tmp_path: Path) -> None:
    result = import_micro("casme3", files.casme3(tmp_path / "C", clips=False), tmp_path / "out")
    (event,) = items(tmp_path / "out" / "spNO.1", "truth/events")
    assert seconds(event.onset) == pytest.approx((355 - 340) / 30, abs=1e-6)
    assert "offset is not known" in next(
        iter(result.failures.values())
    )  # the end of a whole video says nothing
    assert len(items(tmp_path / "out" / "spNO.1", "camera/image_raw")) == 120


def test_frames_that_were_resampled_keep_their_own_rate(tmp_path: Path) -> None:
    import_micro("samm", files.samm(tmp_path / "S"), tmp_path / "out", subjects=["006"], rate_hz=100.0)
    (event,) = items(tmp_path / "out" / "006", "truth/events")
    assert (event.stamp - event.onset) / NS == pytest.approx(0.07)
    with pytest.raises(InputError, match="above 0"):
        import_micro("samm", tmp_path / "S", tmp_path / "o", rate_hz=-1.0)
