"""Faces under sensors judged against the truth: the figures are those of made-up ways whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from eifer_ros.errors import InputError
from eifer_ros.evaluation import face as under_sensors
from eifer_ros.evaluation.face import Readings, collect_readings, gap_closure, scenes, scores, side_by_side
from eifer_ros.evaluation.metrics import displacement_basis, vertex_error_mm
from eifer_ros.evaluation.protocol import Protocol
from eifer_ros.head.model import load_head
from eifer_ros.simulation.script import MOVEMENTS
from eifer_ros.simulation.seeds import HELD_OUT_FROM
from eifer_ros.types import FaceOrigin, FaceState


class Known:
    """Reads the truth, spoilt in a known way."""

    def __init__(self, spoil):
        self.spoil = spoil

    def reset(self):
        self.number = 0

    def read(self, scene, variant):
        self.number += 1
        return self.spoil(scene.face, variant, self.number)


def moments_of(seed, count):
    """Faces without pictures, as many moments of each movement as asked."""
    head = load_head()
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=head.shape_size).astype(np.float32)
    for movement in MOVEMENTS:
        height = rng.uniform(0, 0.8, head.expression_size)
        for share in np.linspace(0.2, 1.0, count):
            lost = FaceState.lost(0, head.id, FaceOrigin.TRUTH, head.shape_size, head.expression_size)
            state = FaceState(
                0,
                head.id,
                FaceOrigin.TRUTH,
                shape,
                (share * height).astype(np.float32),
                lost.expression_std,
                lost.jaw,
                lost.neck,
                lost.eyes,
                lost.eyelids,
                np.eye(4),
                1.0,
            )
            picture = np.zeros((8, 8, 3), np.uint8)
            yield under_sensors.Scene(
                seed, movement, state, picture, picture, np.eye(3), under_sensors.Crop(4, 4, 8, 0)
            )


def found_by(**spoilers):
    chosen = {name: (Known(spoil), under_sensors.VARIANTS) for name, spoil in spoilers.items()}
    return {
        (one.method, one.variant): one
        for one in scores(collect_readings([1, 2], chosen, 3, source=moments_of))
    }


def exact(face, variant, number):
    return face.expression, face.shape


def test_the_truth_has_no_error_and_full_correlation():
    one = found_by(way=exact)[("way", "bare")]
    assert one.vertex_mm < 1e-3 and one.expression_mm == 0 and one.r == pytest.approx(1)
    assert one.detected == 1 and one.moments == 2 * 17 * 3 and set(one.movements) == set(MOVEMENTS)
    assert one.shape_spread_mm == pytest.approx(0, abs=1e-6)


def test_an_error_of_expression_is_its_motion_in_mm_and_stays_in_its_region():
    head = load_head()
    jaw = head.expression_names.index("jawOpen")

    def opened(face, variant, number):
        expression = face.expression.copy()
        expression[jaw] += 0.2
        return expression, face.shape

    one = found_by(way=opened)[("way", "sensors")]
    moved = np.zeros((1, head.expression_size))
    moved[0, jaw] = 0.2
    assert one.expression_mm == pytest.approx(
        vertex_error_mm(displacement_basis(head), moved, 0 * moved)[0], rel=1e-4
    )
    assert one.vertex_mm > 0.2 * one.expression_mm and one.regions["lips"] > 10 * one.regions["brows"]
    assert one.r == pytest.approx(1)


def test_a_face_that_is_not_found_is_judged_as_the_resting_mean_face():
    head = load_head()
    one = found_by(way=lambda face, variant, number: None)[("way", "bare")]
    true = np.stack([scene.face.expression for seed in (1, 2) for scene in moments_of(seed, 3)])
    assert one.detected == 0 and one.r == 0
    assert one.expression_mm == pytest.approx(
        vertex_error_mm(displacement_basis(head), 0 * true, true).mean(), rel=1e-5
    )


def test_identity_that_wanders_shows_as_spread():
    def wandering(face, variant, number):
        return face.expression, face.shape + (0.5 if number % 2 else -0.5)

    found = found_by(still=exact, way=wandering)
    assert found[("way", "bare")].shape_spread_mm > 0.3 > found[("still", "bare")].shape_spread_mm


def test_gap_closure_is_one_where_sensors_no_longer_matter_and_zero_where_nothing_was_won():
    def disturbed(amount):
        def spoil(face, variant, number):
            return face.expression + (amount if variant == "sensors" else 0.0), face.shape

        return spoil

    for mine, wanted in ((0.0, 1.0), (0.3, 0.0), (0.15, 0.5)):
        found = list(found_by(E_N=disturbed(0.3), E_S=disturbed(mine)).values())
        assert gap_closure(found, "expression_mm") == pytest.approx(wanted, abs=1e-5)
    assert np.isnan(gap_closure(list(found_by(E_N=exact).values())))


def test_people_that_networks_may_have_seen_are_refused():
    with pytest.raises(InputError, match="900000"):
        next(iter(scenes(7)))
    assert min(Protocol(area="face").with_data().participants) >= HELD_OUT_FROM


@pytest.fixture(scope="module")
def rendered():
    return list(scenes(HELD_OUT_FROM + 77, 1, size=(240, 180)))


def test_scenes_show_every_movement_twice_equal_where_no_sensor_is(rendered):
    assert [scene.movement for scene in rendered] == list(MOVEMENTS)
    for scene in rendered:
        same = (scene.bare == scene.sensors).all(axis=2).mean()
        assert 0.3 < same < 0.97
        assert 0.2 < scene.crop.side / 180 < 1.5


def test_side_by_side_shows_lost_faces_as_empty_tiles(rendered):
    chosen = {
        "exact": (Known(exact), ("sensors",)),
        "blind": (Known(lambda face, variant, number: None), ("bare",)),
    }
    image = side_by_side(rendered[:3], chosen, side=96)
    assert image.shape == (26 + 3 * 96, 5 * 96, 3)
    truth, same, empty = (image[26:, k * 96 : (k + 1) * 96].astype(int) for k in (2, 3, 4))
    assert np.abs(truth[:60] - same[:60]).max() == 0, "the truth drawn twice is the same picture"
    assert empty.std() == 0


def test_readings_keep_what_was_found():
    kept = Readings()
    scene = next(iter(moments_of(1, 1)))
    kept.add(scene, scene.face.expression, scene.face.shape, False)
    assert (
        kept.detected == [False]
        and kept.movement == ["Face-At-Rest"]
        and kept.expression[0].dtype == np.float32
    )


def test_evaluate_face_leaves_tables_by_way_movement_and_region_and_faces_side_by_side(tmp_path, monkeypatch):
    from eifer_ros.workflows.evaluate import evaluate

    def disturbed(face, variant, number):
        return face.expression + (0.3 if variant == "sensors" else 0.05), face.shape

    chosen = {
        "E_N": (Known(disturbed), under_sensors.VARIANTS),
        "E_S": (Known(exact), under_sensors.VARIANTS),
    }
    monkeypatch.setattr(under_sensors, "methods_by_name", lambda *names: chosen)
    monkeypatch.setattr(under_sensors, "scenes", moments_of)
    result = evaluate(
        "face", tmp_path / "out", Protocol(area="face", participants=[HELD_OUT_FROM], moments=1)
    )
    rows = {(row["way"], row["pictures"]): row for row in result.rows}
    assert (
        rows[("E_S", "sensors")]["vertex_mm"]
        < 1e-3
        < rows[("E_N", "bare")]["vertex_mm"]
        < rows[("E_N", "sensors")]["vertex_mm"]
    )
    assert rows[("E_S", "bare")]["lips_mm"] == 0
    assert {row["movement"] for row in result.each if "movement" in row} == set(MOVEMENTS)
    assert any("gap closure" in note for note in result.notes) and any(
        "restored" in note for note in result.notes
    )
    made = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert made == {"movements.svg", f"faces_{HELD_OUT_FROM}.png"}
    assert (
        "vertex_mm" in (tmp_path / "out" / "table.md").read_text()
        and "900000" in (tmp_path / "out" / "protocol.yaml").read_text()
    )
    again = evaluate("face", tmp_path / "again", tmp_path / "out" / "protocol.yaml")
    assert again.rows == result.rows
