"""The flagship: camera, amplifier in another process, mapping, avatar, animatronic face, page and bag, in one
process. What `python -m bench live` measures for a minute runs here for seconds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from eifer_ros import topics
from eifer_ros.recording.reader import read

pytest.importorskip("pylsl")
pytest.importorskip("aiohttp")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory):
    from bench import live

    folder = tmp_path_factory.mktemp("live")
    files = live.stage(folder, 8.0)
    config = folder / "lab.yaml"
    config.write_text("/**:\n  viewer:\n    ros__parameters:\n      port: 0\n")
    bag = folder / "bag"
    return live.flagship(files, bag, 8.0, "--view", "--config", str(config)), bag


def test_no_sample_of_the_amplifier_is_lost(result) -> None:
    run, _ = result
    assert run.summary["emg_lost"] == 0
    assert run.sent > 0


def test_camera_emg_and_fused_face_come_out_of_one_process(result) -> None:
    run, _ = result
    assert {"camera/image_raw", "emg/raw", *topics.faces()} <= set(run.summary["items"])
    assert run.summary["tracked"] > 0
    # EMG carries the face between two pictures
    assert run.summary["items"]["face/fused"] > 1.5 * run.summary["items"]["face/vision"]


def test_the_avatar_receives_the_face_and_the_robot_stays_disarmed(result) -> None:
    run, _ = result
    assert len(run.arrivals_s) > 0.9 * run.summary["items"]["face/blendshapes"] > 0
    assert "animatronic/joint_trajectory" not in run.summary["items"]
    assert "armed" in run.summary["outputs"]["animatronic"]
    assert run.summary["page"].startswith("http://127.0.0.1:")


def test_the_recording_holds_what_ran(result) -> None:
    run, bag = result
    recorded = {topic for _, topic, _ in read(bag)}
    assert {"camera/image_raw", "emg/raw", "emg/activity", *topics.faces(), "face/blendshapes"} <= recorded
    assert run.summary["files"]["bag"] == str(bag)
    assert Path(bag).is_dir()
