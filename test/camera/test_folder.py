from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from eifer_ros.camera.folder import FolderConfig, FolderSource
from eifer_ros.errors import InputError
from eifer_ros.types import NS, Frame

START = 1_700_000_000 * NS


def write(folder: Path, name: str, level: int, size: tuple[int, int] = (32, 24)) -> None:
    cv2.imwrite(str(folder / name), np.full((size[1], size[0], 3), (level, 0, 0), np.uint8))


def frames(folder: Path, fps: float = 30.0) -> list[Frame]:
    source = FolderSource(FolderConfig(path=str(folder), fps=fps, start_stamp=START))
    source.setup()
    return [emission.item for emission in source.produce()]


def test_pictures_come_in_the_order_in_which_people_count(tmp_path: Path) -> None:
    for number in (10, 9, 1, 2, 100):
        write(tmp_path, f"frame_{number}.png", number)
    (tmp_path / "notes.txt").write_text("not a picture")
    got = frames(tmp_path, fps=20.0)
    assert [int(frame.image[0, 0, 2]) for frame in got] == [
        1,
        2,
        9,
        10,
        100,
    ]  # blue is the third channel of RGB
    assert [frame.stamp for frame in got] == [START + k * NS // 20 for k in range(5)]


def test_grey_pictures_and_pictures_with_alpha_become_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.full((24, 32), 77, np.uint8))
    cv2.imwrite(str(tmp_path / "2.png"), np.full((24, 32, 4), 77, np.uint8))
    assert [frame.image.shape for frame in frames(tmp_path)] == [(24, 32, 3)] * 2


def test_a_picture_of_another_size_is_named_and_those_before_it_are_kept(tmp_path: Path) -> None:
    write(tmp_path, "1.png", 1)
    write(tmp_path, "2.png", 2)
    write(tmp_path, "3.png", 3, size=(64, 24))
    source = FolderSource(FolderConfig(path=str(tmp_path)))
    source.setup()
    got = []
    with pytest.raises(InputError, match=r"3\.png: 64 x 24, but 1\.png is 32 x 24"):
        got.extend(source.produce())
    assert len(got) == 2


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    write(tmp_path, "1.png", 1)
    (tmp_path / "2.png").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"2\.png: not a picture"):
        frames(tmp_path)


def test_a_folder_that_is_missing_empty_or_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        frames(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no pictures"):
        frames(tmp_path)
    (tmp_path / "x.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match="use video:"):
        frames(tmp_path / "x.mp4")
