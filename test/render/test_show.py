"""The contact sheet is written, and shows what it says."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from eifer_ros.errors import InputError
from eifer_ros.head.model import load_head
from eifer_ros.render import head_sheet as show


def test_the_contact_sheet_is_a_picture_with_a_tile_for_every_action(tmp_path: Path) -> None:
    head = load_head()
    show.show(head, tmp_path / "new" / "sheet.png", participants=2)
    sheet = cv2.imread(str(tmp_path / "new" / "sheet.png"))
    assert sheet.shape[1] == show.SMALL * show.COLUMNS
    assert sheet.shape[0] > show.LARGE + show.SMALL * np.ceil(head.expression_size / show.COLUMNS)
    # the overview's first face lies in the middle of its tile and is brighter than the background
    middle = sheet[34 + show.LARGE // 2, show.LARGE // 2].astype(int).sum()
    assert middle > sum(show.BACKGROUND) + 100


def test_markers_of_an_electrode_scheme_are_drawn_on_their_side_of_the_face() -> None:
    head = load_head()
    studio = show.Studio(head)
    rest = head.vertices()
    image = studio.take(rest, 300)
    blank = image.copy()
    studio.mark(image, rest, "electrodes_fridlund", (255, 0, 255))
    columns = np.nonzero((image != blank).any(axis=2))[1]
    assert len(columns) > 22 * 9
    assert abs(columns.mean() - 149.5) < 2.0


def test_points_on_the_far_side_are_not_drawn() -> None:
    head = load_head()
    studio = show.Studio(head)
    rest = head.vertices()

    def marked(yaw: float) -> int:
        image = np.zeros((300, 300, 3), np.uint8)
        studio.mark(image, rest, "landmarks_478", (255, 255, 255), yaw=yaw, radius=1)
        return int((image > 0).any(axis=2).sum())

    assert marked(1.2) < 0.7 * marked(0.0)


def test_a_name_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png"):
        show.show(load_head(), tmp_path / "sheet.docx", participants=0)
