"""The session report."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stage import T0, activity, face, micro, picture

from eifer_ros.errors import InputError, RecordingError
from eifer_ros.recording.diagnostics import LatencyDiary
from eifer_ros.recording.reader import read
from eifer_ros.recording.sync import Sync
from eifer_ros.recording.writer import BagWriter
from eifer_ros.types import NS, EmgChunk, FaceEvent, FaceOrigin
from eifer_ros.viewer import session_data
from eifer_ros.viewer import session_report as report
from eifer_ros.workflows.write_report import write_report


class _Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.images: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        values = dict(attrs)
        if tag == "img":
            assert values.get("alt")
            self.images.append(values["src"])
        if tag not in ("img", "meta", "polyline", "rect", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        if tag not in ("polyline", "rect", "line"):
            assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def outline(path: Path) -> _Outline:
    parser = _Outline()
    parser.feed(path.read_text(encoding="utf-8"))
    assert parser.open == []
    return parser


def test_a_report_is_one_file_that_asks_nobody_for_anything(bag: Path, tmp_path: Path) -> None:
    made = write_report(bag, tmp_path / "r.html")
    found = outline(tmp_path / "r.html")
    assert made["bytes"] == (tmp_path / "r.html").stat().st_size < 8e6
    assert {
        "Timeline",
        "At the peak",
        "Movements",
        "Channels",
        "Envelopes",
        "Measured and estimated",
        "What was recorded",
    } <= set(found.headings)
    assert found.images and all(source.startswith("data:image/jpeg;base64,") for source in found.images)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?https?:", text)
    assert "<script" not in text and "@media print" in text


def test_the_peak_of_a_movement_lies_inside_it_and_shows_what_was_there(bag: Path) -> None:
    data = session_data.read_session(bag)
    (moment,) = data.moments
    assert moment.label == "Smile-Open" and 4.0 <= moment.peak_s <= 6.3
    assert moment.camera is not None and moment.face is not None and moment.emg_face is not None
    assert float(moment.face.expression.max()) == 1.0
    rows = session_data.agreement(data)
    assert len(rows) == 22 and min(r for _, r, _ in rows) > 0.99


def test_an_estimate_that_comes_late_is_reported_late(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    level = np.abs(np.convolve(rng.normal(0, 1, 2400), np.ones(40) / 40, "same")) * 2e-4
    with BagWriter(tmp_path / "b", wait=True) as out:
        for step in range(24, 2000):
            stamp = T0 + step * NS // 100
            out.write("emg/activity", activity(stamp, level[step]))
            out.write("muscles/estimated", activity(stamp, level[step - 12]))
    rows = session_data.agreement(session_data.read_session(tmp_path / "b"))
    assert np.median([lag for _, _, lag in rows]) == pytest.approx(0.12, abs=0.02)


def test_a_bag_without_video_and_one_without_emg_are_reported(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "emg", wait=True) as out:
        for step in range(600):
            stamp = T0 + step * NS // 100
            out.write("emg/activity", activity(stamp, 80e-6 if 200 < step < 300 else 4e-6))
    with BagWriter(tmp_path / "face", wait=True) as out:
        for step in range(200):
            stamp = T0 + step * NS // 30
            out.write("face/vision", face(stamp, FaceOrigin.VISION, jawOpen=1.0 if 80 < step < 110 else 0.0))
            out.write("camera/image_raw", picture(stamp))
    write_report(tmp_path / "emg", tmp_path / "emg.html")
    write_report(tmp_path / "face", tmp_path / "face.html")
    muscles, pictures = outline(tmp_path / "emg.html").headings, outline(tmp_path / "face.html").headings
    assert "Envelopes" in muscles and "Channels" in muscles
    assert "Envelopes" not in pictures and "At the peak" in pictures
    assert "no movement is marked" in (tmp_path / "face.html").read_text()


def test_raw_emg_is_enough(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    names = ("F1", "F2", "F19", "F20")
    with BagWriter(tmp_path / "raw", wait=True) as out:
        for step in range(320):
            scale = 80e-6 if 128 < step < 192 else 5e-6
            samples = rng.normal(0, scale, (64, 4)).astype(np.float32)
            out.write("emg/raw", EmgChunk(T0 + step * NS * 64 // 2048, 2048.0, names, samples, 64 * step))
    data = session_data.read_session(tmp_path / "raw")
    assert data.measured is not None and data.measured.scheme == "fridlund"
    clock = session_data.sample_clock(data)
    assert clock is not None and clock[2] == pytest.approx(2048.0, rel=1e-6)
    assert "Synchrony" in report.render(data, {})


def event(at_s: float, label: str = "happiness", **values: Any) -> FaceEvent:
    return micro(T0 + round((at_s + 0.1) * NS), label, **values)


def test_micro_expressions_stand_on_the_timeline_and_in_a_table_with_their_lead(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "b", wait=True) as out:
        for step in range(600):
            out.write("emg/activity", activity(T0 + step * NS // 100, 80e-6 if 200 < step < 300 else 4e-6))
        for item in (event(1.0, lead_s=0.0625, origin=FaceOrigin.FUSED), event(3.0, "unknown"), event(4.5)):
            out.write("face/events", item)
        for at_s in (1.02, 4.8):  # the second overlaps nothing by half
            out.write("truth/events", event(at_s, origin=FaceOrigin.TRUTH))
    write_report(tmp_path / "b", tmp_path / "r.html")
    assert "Micro-expressions" in outline(tmp_path / "r.html").headings
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    table = re.search(r"Micro-expressions</h2>(.*?)</section>", text, re.S)
    assert table is not None
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table[1])][1:]
    assert [row[0] for row in rows] == ["1.00 s", "3.00 s", "4.50 s"]
    assert rows[0] == [
        "1.00 s",
        "100 ms",
        "300 ms",
        "left lips, left eye",
        "happiness",
        "0.75",
        "+62 ms",
        "fused",
    ]
    assert rows[1][4:7] == ["unknown", "–", "–"]
    assert "knows 2 true events (framed above); 1 of the 3 found are among them" in table[1]
    drawn = re.findall(r'<rect x="([\d.]+)" y="102.0"', text)
    assert len(drawn) == 5
    left, scale = 90.0, (report.WIDE - 90.0) / 5.99
    assert float(drawn[0]) == pytest.approx(left + scale * 1.0, abs=1.0)


def test_a_recording_of_pictures_with_labelled_events_alone_is_reported(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "b", wait=True) as out:
        for step in range(60):
            out.write("camera/image_raw", picture(T0 + step * NS // 30))
        out.write("truth/events", event(1.0, origin=FaceOrigin.TRUTH))
    write_report(tmp_path / "b", tmp_path / "r.html")
    assert "none were looked for" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_names_from_a_recording_cannot_inject_markup(tmp_path: Path) -> None:
    from eifer_ros.types import Marker

    evil = "<img src=x onerror=alert(1)>"
    with BagWriter(tmp_path / "b", session={"participant": evil}, wait=True) as out:
        for step in range(400):
            out.write("emg/activity", activity(T0 + step * NS // 100, 8e-5 if 100 < step < 200 else 4e-6))
        out.write("markers", Marker(T0 + NS, evil, "start"))
        out.write("markers", Marker(T0 + 2 * NS, evil, "end"))
    write_report(tmp_path / "b", tmp_path / "r.html")
    assert "<img src=x" not in (tmp_path / "r.html").read_text()


def test_latencies_of_the_run_are_drawn_where_they_are_given(bag: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    report.write_report(bag, tmp_path / "r.html", latency={"face/vision": rng.gamma(4, 0.003, 500).tolist()})
    assert "Latency" in outline(tmp_path / "r.html").headings


def test_a_report_is_never_overwritten_and_a_missing_bag_is_named(bag: Path, tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(InputError, match="never overwritten"):
        write_report(bag, tmp_path / "r.html")
    with pytest.raises(RecordingError, match="no such recording"):
        write_report(tmp_path / "none", tmp_path / "s.html")
    assert (tmp_path / "r.html").read_text() == "mine"


def test_latencies_that_the_run_wrote_down_are_drawn_without_being_handed_over(tmp_path: Path) -> None:
    wall = [T0]
    with BagWriter(tmp_path / "live", wait=True) as out:
        diary = LatencyDiary(out.write_message, {}, live=True, wall=lambda: wall[0])
        for step in range(500):
            item = activity(T0 + step * NS // 100, 5e-6)
            wall[0] = item.stamp + (30 + step % 10) * 1_000_000
            out.write("emg/activity", item)
            diary.take("emg/activity", item)
    data = session_data.read_session(tmp_path / "live")
    found = data.latencies["emg/activity"]
    assert found.since == "acquisition" and len(found.ms) >= 400
    assert (found.ms.min(), found.ms.max()) == (30.0, 39.0) and np.median(found.ms) == pytest.approx(
        34.5, abs=0.6
    )
    text = report.render(data, {})
    assert "<h2>Latency</h2>" in text and "<h2>Intervals</h2>" not in text and "From acquisition" in text
    # ... and the items are what they were
    assert sum(1 for _ in read(tmp_path / "live")) == 500


def test_a_file_run_writes_down_how_long_its_results_took(tmp_path: Path) -> None:
    class Known:
        durations = (0.5, 0.012)  # the newest last

    with BagWriter(tmp_path / "file", wait=True) as out:
        diary = LatencyDiary(out.write_message, {"emg/activity": Known()}, live=False)
        for step in range(300):
            diary.take(
                "camera/image_raw", picture(T0 + step * NS // 100)
            )  # a source: it came, it did not take time
            diary.take("emg/activity", activity(T0 + step * NS // 100))
            out.write("emg/activity", activity(T0 + step * NS // 100))
    data = session_data.read_session(tmp_path / "file")
    assert set(data.latencies) == {"emg/activity"}
    assert data.latencies["emg/activity"].since == "entering" and set(data.latencies["emg/activity"].ms) == {
        12.0
    }
    assert "entered the graph" in report.render(data, {})


def test_a_report_uses_what_sync_found(bag: Path, tmp_path: Path) -> None:
    shutil.copytree(bag, tmp_path / "smile")
    Sync("led", 0.5, 0.0, T0, 0.001, 0.002, 0.0003, 12, 1, 1).save(tmp_path / "smile")
    plain, moved = session_data.read_session(bag), session_data.read_session(tmp_path / "smile")
    assert moved.faces["face/vision"][0].stamp - plain.faces["face/vision"][0].stamp == NS // 2
    (moment,) = moved.moments
    assert moment.camera is not None and abs(moved.seconds(moment.camera.stamp) - moment.peak_s) < 0.13
    assert "+500.0 ms" in report.render(moved, {}) and "sync.json" not in report.render(plain, {})
