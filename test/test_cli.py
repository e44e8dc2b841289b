"""The command line as a person meets it: real files, real errors, exit codes."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from skimage import data

from eifer_ros.recording.reader import read
from eifer_ros.types import FaceStatus

Eifer = Callable[..., SimpleNamespace]


@pytest.fixture(scope="module")
def face_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real face that drifts slowly through the picture: 24 frames of a public-domain photograph."""
    path = tmp_path_factory.mktemp("video") / "face.mp4"
    picture = data.astronaut()[:, :, ::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 24.0, (512, 512))
    for index in range(24):
        shift = np.float32([[1, 0, index * 1.5], [0, 1, index * 0.5]])
        writer.write(cv2.warpAffine(picture, shift, (512, 512), borderMode=cv2.BORDER_REPLICATE))
    writer.release()
    return path


@pytest.fixture(scope="module")
def result(face_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole run of the main job on a real face."""
    from eifer_ros.pipeline import Request
    from eifer_ros.workflows.run import run

    out = tmp_path_factory.mktemp("run") / "out"
    run(Request(camera=f"video:{face_video}"), out)
    return out


def test_a_face_video_becomes_a_bag_an_overlay_and_a_summary(result: Path) -> None:
    summary = json.loads((result / "summary.json").read_text())
    assert (summary["frames"], summary["tracked"], summary["dropped"]) == (24, 24, 0)
    assert summary["residual_pct_iod"] < 4
    faces = [item for _, topic, item in read(result / "bag") if topic == "face/vision"]
    assert len(faces) == 24
    assert all(face.status == FaceStatus.TRACKING and face.head_model == "open_head" for face in faces)
    # the photograph smiles with teeth, eyes open
    names = json.loads(json.dumps(list(_head_names())))
    last = dict(zip(names, faces[-1].expression.tolist(), strict=True))
    assert last["mouthSmileLeft"] + last["mouthSmileRight"] > 0.4
    assert last["eyeBlinkLeft"] < 0.5
    overlay = cv2.VideoCapture(str(result / "overlay.mp4"))
    done, first = overlay.read()
    assert done and first.shape == (512, 512, 3)
    assert int(overlay.get(cv2.CAP_PROP_FRAME_COUNT)) == 24


def _head_names() -> tuple[str, ...]:
    from eifer_ros.head.model import load_head

    return load_head().expression_names


def test_the_overlay_changes_the_face_and_leaves_the_corner_alone(result: Path, face_video: Path) -> None:
    def last(path: Path) -> np.ndarray:
        capture, frame = cv2.VideoCapture(str(path)), None
        while (read_one := capture.read())[0]:
            frame = read_one[1]
        assert frame is not None
        return frame.astype(int)

    difference = np.abs(last(result / "overlay.mp4") - last(face_video)).mean(axis=2)
    assert difference[80:200, 190:280].mean() > 10
    assert difference[300:400, 480:].mean() < 4


def test_a_replay_gives_the_same_faces_as_the_recording_it_was_made_from(
    result: Path, tmp_path: Path, eifer: Eifer
) -> None:
    for name in ("a", "b"):
        assert eifer("replay", result / "bag", "--out", tmp_path / name, "--json").code == 0
    first, second = (
        [item for _, topic, item in read(tmp_path / name / "bag") if topic == "face/vision"]
        for name in ("a", "b")
    )
    assert len(first) == 24
    for one, other in zip(first, second, strict=True):
        assert one.stamp == other.stamp
        assert np.array_equal(one.expression, other.expression)
        assert np.array_equal(one.head_pose, other.head_pose)


def test_info_lists_the_topics_of_a_recording(result: Path, eifer: Eifer) -> None:
    told = json.loads(eifer("info", result / "bag", "--json").out)
    counts = {topic["port"]: topic["count"] for topic in told["topics"]}
    assert counts["camera/image_raw"] == 24
    assert counts["face/vision"] == 24
    assert "24" in eifer("info", result / "bag").out


def test_play_counts_what_it_played(result: Path, eifer: Eifer) -> None:
    told = json.loads(eifer("replay", result / "bag", "--speed", 0, "--json").out)
    assert told["face/vision"] == 24


def one_line(error: str, *words: str) -> None:
    lines = [line for line in error.splitlines() if line.startswith("eifer: ")]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    for word in words:
        assert word in lines[0], lines[0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (None, ["absent.mp4"]),
        (b"", ["absent.mp4", "empty"]),
        (b"this is not a video at all" * 40, ["absent.mp4", "not a video"]),
    ],
)
def test_a_missing_empty_or_foreign_video_file_is_one_line_and_leaves_nothing(
    tmp_path: Path, eifer: Eifer, make: bytes | None, words: list[str]
) -> None:
    path = tmp_path / "absent.mp4"
    if make is not None:
        path.write_bytes(make)
    done = eifer("run", "--camera", f"video:{path}", "--out", tmp_path / "out")
    assert done.code != 0
    one_line(done.err, *words)
    assert not (tmp_path / "out").exists()


def test_a_video_without_a_face_says_so_keeps_the_recording_and_fails(tmp_path: Path, eifer: Eifer) -> None:
    path = tmp_path / "wall.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (160, 120))
    for _ in range(5):
        writer.write(np.full((120, 160, 3), 90, np.uint8))
    writer.release()
    done = eifer("run", "--camera", f"video:{path}", "--out", tmp_path / "out", "--no-overlay")
    assert done.code == 2
    assert "no face was found" in done.out
    assert sum(topic == "camera/image_raw" for _, topic, _ in read(tmp_path / "out" / "bag")) == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "reconstruction:\n  ros__parameters:\n    min_confidense: 0.5\n",
            ["min_confidense", "did you mean 'min_confidence'"],
        ),
        (
            "reconstruction:\n  ros__parameters:\n    min_confidence: 7\n",
            ["min_confidence = 7", "less than or equal to 1"],
        ),
    ],
)
def test_a_wrong_config_is_refused_by_key(
    tmp_path: Path, face_video: Path, eifer: Eifer, text: str, words: list[str]
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    done = eifer("run", "--camera", f"video:{face_video}", "--out", tmp_path / "out", "--config", path)
    assert done.code == 3
    one_line(done.err, "params.yaml", *words)


def test_an_unknown_camera_is_refused_with_what_would_be_right(tmp_path: Path, eifer: Eifer) -> None:
    done = eifer("run", "--camera", "vidoe:x.mp4", "--out", tmp_path / "out")
    assert done.code == 3
    one_line(done.err, "vidoe", "did you mean 'video'")


def test_a_camera_that_is_not_there_is_named(tmp_path: Path, eifer: Eifer) -> None:
    done = eifer("run", "--camera", "webcam:97", "--out", tmp_path / "out")
    assert done.code == 4
    one_line(done.err, "97")
    assert not (tmp_path / "out").exists()


def test_results_are_never_overwritten(tmp_path: Path, face_video: Path, eifer: Eifer) -> None:
    (tmp_path / "out").mkdir()
    kept = tmp_path / "out" / "thesis.txt"
    kept.write_text("four years")
    done = eifer("run", "--camera", f"video:{face_video}", "--out", tmp_path / "out")
    assert done.code == 2
    one_line(done.err, "not empty")
    assert kept.read_text() == "four years"


def test_a_bag_of_another_project_is_refused_by_its_topics(tmp_path: Path, eifer: Eifer) -> None:
    from rosbags.rosbag2 import StoragePlugin, Writer

    from eifer_ros.wire import messages

    with Writer(tmp_path / "turtles", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/turtle1/name", "std_msgs/msg/String", typestore=messages.store())
        text = messages.store().types["std_msgs/msg/String"](data="leonardo")
        writer.write(connection, 1, messages.serialise(text))
    done = eifer("replay", tmp_path / "turtles", "--out", tmp_path / "out")
    assert done.code == 7
    one_line(done.err, "/turtle1/name")


def test_a_truncated_bag_is_refused_with_the_way_out_and_the_way_out_works(
    result: Path, tmp_path: Path, eifer: Eifer
) -> None:
    whole = (result / "bag" / "bag.mcap").read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole[: int(len(whole) * 0.7)])
    before = cut.read_bytes()
    done = eifer("replay", cut, "--out", tmp_path / "out")
    assert done.code == 7
    one_line(done.err, "eifer recover")
    saved = eifer("recover", cut, "--out", tmp_path / "saved", "--json")
    assert saved.code == 0
    assert json.loads(saved.out)["messages"] > 10
    assert cut.read_bytes() == before
    assert sum(topic == "camera/image_raw" for _, topic, _ in read(tmp_path / "saved")) > 5


def test_a_flame_file_of_the_wrong_shape_is_named_and_nothing_is_written(
    tmp_path: Path, eifer: Eifer
) -> None:
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(pickle.dumps({"v_template": np.zeros((10, 3))}, protocol=2))
    done = eifer("head", "import-flame", path, "--out", tmp_path / "flame.npz")
    assert done.code == 6
    one_line(done.err, "generic_model.pkl")
    assert not (tmp_path / "flame.npz").exists()


def test_doctor_tells_what_is_there_and_what_an_extra_would_add(
    eifer: Eifer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)  # its import raises: one extra is missing for certain
    done = eifer("doctor", "--json")
    report = json.loads(done.out)
    groups = {finding["group"] for finding in report["findings"]}
    assert {"machine", "base", "extras", "models", "ros", "cameras", "emg"} <= groups
    missing = {
        finding["name"]: finding["detail"]
        for finding in report["findings"]
        if finding["group"] == "extras" and finding["state"] == "missing"
    }
    assert "viewer" in missing
    for name, detail in missing.items():
        assert f"eifer_ros[{name}]" in detail
    assert "eifer_ros[viewer]" in eifer("doctor").out


def test_doctor_names_what_is_absent_too_old_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    from eifer_ros import doctor

    versions = {"numpy": "1.26.4", "rich": None}
    actual = importlib.metadata.version

    def version(name: str) -> str:
        if versions.get(name, "") is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions.get(name) or actual(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setitem(sys.modules, "aiohttp", None)  # its import raises
    lines = {(one.group, one.name): one for one in doctor.examine().findings}
    assert lines["base", "numpy"].state == lines["base", "rich"].state == "problem"
    assert lines["base", "numpy"].detail.startswith("1.26.4, but >=2.0 is needed: pip install 'numpy")
    assert lines["base", "rich"].detail.startswith("not installed: pip install 'rich>=")
    assert lines["base", "scipy"].state == "ok"
    assert lines["extras", "viewer"].state == "missing"
    assert "aiohttp (ModuleNotFoundError" in lines["extras", "viewer"].detail


def test_an_interrupted_recording_is_closed_whole(tmp_path: Path) -> None:
    """A real process, a real SIGINT while it records the simulated camera live."""
    out = tmp_path / "take"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "eifer_ros.cli",
            "record",
            "--emg",
            "performer:3",
            "--out",
            str(out),
            "--json",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        file, deadline = out / "take.mcap", time.monotonic() + 240
        while not (file.exists() and file.stat().st_size > 40_000):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "nothing was recorded"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        told, error = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, error
    written = json.loads(told)["written"]["emg/raw"]
    assert sum(topic == "emg/raw" for _, topic, _ in read(out)) == written > 5
