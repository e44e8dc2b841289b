"""The measure on real faces under sensors, tried on made-up faces."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bench import sensor_sheet as bench_sheet
from eifer_ros.errors import InputError
from eifer_ros.evaluation.sensor_sheet import (
    MOVEMENTS,
    PERSONS,
    TILE,
    TileReading,
    draw,
    measure,
    picture,
    recognise,
    tiles,
)
from eifer_ros.head import projection
from eifer_ros.head.model import load_head


def people(rng, noise, size=20):
    """Persons with an offset of their own, movements they share, and noise."""
    movement = rng.normal(size=(len(MOVEMENTS), size))
    offset = 5.0 * rng.normal(size=(PERSONS, 1, size))
    return movement + offset + noise * rng.normal(size=(PERSONS, len(MOVEMENTS), size))


def test_movements_that_all_persons_share_are_recognised_whatever_the_person_looks_like():
    features = people(np.random.default_rng(0), 0.1)
    assert (recognise([list(row) for row in features]) == np.arange(len(MOVEMENTS))).all()


def test_noise_alone_is_recognised_about_as_often_as_by_chance():
    hits = [
        (
            recognise([list(row) for row in np.random.default_rng(seed).normal(size=(PERSONS, 5, 20))])
            == np.arange(5)
        ).mean()
        for seed in range(60)
    ]
    assert 0.1 < np.mean(hits) < 0.3


def test_scale_of_a_coefficient_does_not_matter():
    features = people(np.random.default_rng(1), 0.6)
    scaled = features * np.exp(np.random.default_rng(2).normal(0, 1, features.shape[-1]))
    np.testing.assert_array_equal(
        recognise([list(row) for row in features]), recognise([list(row) for row in scaled])
    )


def test_a_missed_face_is_wrong_and_does_not_spoil_the_others():
    features = [list(row) for row in people(np.random.default_rng(3), 0.02)]
    features[1][2] = None
    found = recognise(features)
    assert found[1, 2] == -1
    right = found == np.arange(len(MOVEMENTS))
    assert right.sum() == right.size - 1
    assert (recognise([[None] * 5] * 4) == -1).all()


@pytest.fixture()
def sheet(tmp_path):
    """A sheet whose tiles say by their grey which movement and person they are."""
    image = np.zeros((TILE[1] * len(MOVEMENTS), TILE[0] * PERSONS, 3), np.uint8)
    for p in range(PERSONS):
        for m in range(len(MOVEMENTS)):
            image[m * TILE[1] : (m + 1) * TILE[1], p * TILE[0] : (p + 1) * TILE[0]] = (
                40 * m,
                50 * p,
                120,
            )  # BGR
    path = tmp_path / "sheet.png"
    cv2.imwrite(str(path), image)
    return path


def test_tiles_are_cut_by_person_and_movement(sheet):
    cut = tiles(sheet)
    for p in range(PERSONS):
        for m in range(len(MOVEMENTS)):
            assert cut[p][m].shape == (TILE[1], TILE[0], 3)
            assert (cut[p][m][0, 0] == (120, 50 * p, 40 * m)).all() and (
                cut[p][m][-1, -1] == (120, 50 * p, 40 * m)
            ).all()


def test_another_sheet_is_refused(tmp_path):
    other = tmp_path / "other.png"
    cv2.imwrite(str(other), np.zeros((100, 100, 3), np.uint8))
    with pytest.raises(InputError, match="1880 x 2140"):
        tiles(other)
    with pytest.raises(InputError, match="not a readable picture"):
        tiles(tmp_path / "none.png")


def test_measuring_reads_every_tile_and_the_picture_shows_the_fitted_heads(sheet):
    head = load_head()
    rng = np.random.default_rng(4)
    movement = rng.uniform(0, 1, (len(MOVEMENTS), head.expression_size))
    K = projection.default_intrinsics(*TILE)
    pose = projection.facing_pose(0.6, centre=head.points(head.template)[4])

    def estimate(tile):
        m = int(tile[0, 0, 2]) // 40
        person = int(tile[0, 0, 1]) // 50
        return (
            None if (person, m) == (0, 0) else TileReading(movement[m] + 0.3 * person, head.template, pose, K)
        )

    result = measure(sheet, estimate)
    assert result.right == 19 and "missed" in result.table()
    image = picture(sheet, result, head)
    assert image.shape == (TILE[1] * 5, TILE[0] * 2 * PERSONS, 3)
    drawn = draw(tiles(sheet)[1][1], result.readings[1][1], head)
    assert np.abs(drawn[:, TILE[0] :].astype(int) - drawn[:, : TILE[0]]).max() > 60, (
        "the head is drawn over the right copy"
    )


def test_the_bench_takes_the_reference_sheet_from_the_folder_of_the_test_data(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("EIFER_TEST_DATA", str(tmp_path))
    with pytest.raises(SystemExit):
        bench_sheet.main([])
    assert "EIFER_TEST_DATA" in capsys.readouterr().err
    (tmp_path / bench_sheet.SHEET).write_bytes(b"no picture")
    with pytest.raises(InputError, match=rf"{tmp_path}/{bench_sheet.SHEET}: not a readable picture"):
        bench_sheet.main([])
