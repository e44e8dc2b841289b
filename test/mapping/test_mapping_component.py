"""The live component: equal to the offline prediction, honest about gaps, NaN and strangers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mapping_data import PERIOD_NS, START, activity, face, fitted, series

from eifer_ros import resources
from eifer_ros.component import Level
from eifer_ros.config import load
from eifer_ros.mapping.features import training_pairs
from eifer_ros.mapping.muscle_mapping import EMG_FACE, ESTIMATED, FUSED, MappingConfig, MuscleMapping
from eifer_ros.types import FaceOrigin, FaceState, FaceStatus, MuscleActivity, MuscleOrigin


def component(kind: str = "rff", ahead_s: float = 0.0) -> MuscleMapping:
    out = MuscleMapping(MappingConfig(), fitted(kind, ahead_s=ahead_s)[0])
    out.setup()
    return out


@pytest.mark.parametrize(
    ("kind", "ahead_s"), [("ridge", 0.0), ("rff", 0.0), ("rff", 0.04), ("mlp", 0.0), ("tcn", 0.0)]
)
def test_live_equals_offline(kind: str, ahead_s: float) -> None:
    if kind in ("mlp", "tcn"):
        pytest.importorskip("torch")
        pytest.importorskip("onnx")
    live, data = component(kind, ahead_s), series(4.0, seed=7)
    assert live.mapping is not None
    spec = live.mapping.emg2exp.spec
    features, _, rows = training_pairs(data, replace(spec, ahead_s=0.0), data.activation, data.face)
    expected = live.mapping.emg2exp.predict(features)
    got = [
        item
        for row in range(400)
        for item in live.handle("emg/activity", activity(data, row))
        if item.port == EMG_FACE
    ]
    assert len(got) == len(rows) == 400 - spec.context
    states = [item.item for item in got]
    assert all(isinstance(state, FaceState) for state in states)
    np.testing.assert_allclose([state.expression for state in states], expected[:, :3], atol=1e-5)  # type: ignore[union-attr]
    assert states[0].stamp == START + int(rows[0]) * PERIOD_NS + round(ahead_s * 1e9)


def test_muscles_estimated_live_equal_offline() -> None:
    live, data = component(), series(4.0, seed=8)
    assert live.mapping is not None
    direction = live.mapping.exp2emg
    features, _, rows = training_pairs(data, replace(direction.spec, ahead_s=0.0), data.face, data.activation)
    expected = direction.predict(features)
    got = [
        item.item
        for row in range(400)
        for item in live.handle("face/vision", face(data, row))
        if item.port == ESTIMATED
    ]
    assert len(got) == len(rows)
    for item in got:
        assert (
            isinstance(item, MuscleActivity)
            and item.origin == MuscleOrigin.ESTIMATED
            and np.isnan(item.quality).all()
        )
    np.testing.assert_allclose([item.activation for item in got], expected, atol=1e-4)  # type: ignore[union-attr]


def test_nothing_is_made_up_across_a_gap() -> None:
    live, data = component(), series(4.0)
    assert live.mapping is not None
    context = live.mapping.emg2exp.spec.context
    for row in range(100):
        live.handle("emg/activity", activity(data, row))
    silent = [
        len(list(live.handle("emg/activity", activity(data, row)))) for row in range(150, 150 + context + 3)
    ]
    assert silent == [0] * context + [1] * 3


def test_time_going_back_starts_anew() -> None:
    live, data = component(), series(4.0)
    for row in range(200):
        live.handle("emg/activity", activity(data, row))
    assert list(live.handle("emg/activity", activity(data, 20))) == []
    assert list(live.tick(START + 20 * PERIOD_NS)) == []


def test_strange_streams_are_refused_by_name_and_show_in_health() -> None:
    data = series(4.0)
    for change, word in (({"scheme": "kuramoto"}, "kuramoto"), ({"profile": "rms100"}, "rms100")):
        live = component()
        assert list(live.handle("emg/activity", activity(data, 0, **change))) == []
        assert live.health().level == Level.ERROR and word in live.health().message
    live = component()
    assert list(live.handle("face/vision", face(data, 0, head_model="flame2023"))) == []
    assert "flame2023" in live.health().message and live.health().values["rejected"] == 1


def test_a_dead_channel_is_replaced_by_what_the_others_make_likely_and_costs_certainty() -> None:
    live, data = component(), series(4.0, seed=11)
    broken = data.activation.copy()
    broken[:, 1] = np.nan
    whole, partial = [], []
    for row in range(60):
        whole = list(live.handle("emg/activity", activity(data, row))) or whole
    live.reset()
    for row in range(60):
        partial = list(live.handle("emg/activity", activity(data, row, activation=broken[row]))) or partial
    first, second = whole[-1].item, partial[-1].item
    assert isinstance(first, FaceState) and isinstance(second, FaceState)
    assert np.isfinite(second.expression).all()
    assert (second.expression_std[:3] > first.expression_std[:3]).all()


def test_without_any_contact_nothing_is_said() -> None:
    live, data = component(), series(4.0)
    nothing = np.full(3, np.nan, np.float32)
    assert [
        len(list(live.handle("emg/activity", activity(data, row, activation=nothing)))) for row in range(40)
    ] == [0] * 40


def test_a_face_with_unknown_values_does_not_poison_the_fusion_or_the_muscles() -> None:
    live, data = component(), series(4.0)
    for row in range(0, 100, 3):
        for item in live.handle("face/vision", face(data, row)):
            assert isinstance(item.item, MuscleActivity)
    bad = face(data, 101)
    bad = replace(bad, expression=np.array([np.nan, 0.1, 0.1], np.float32))
    for item in live.handle("face/vision", bad):
        assert isinstance(item.item, MuscleActivity) and np.isfinite(item.item.activation).all()
    (fused,) = live.tick(START + 102 * PERIOD_NS)
    assert isinstance(fused.item, FaceState) and np.isfinite(fused.item.expression).all()


def test_the_fused_face_says_predicted_while_the_camera_is_blind_and_lost_when_all_is() -> None:
    live, data = component(), series(8.0)
    for row in range(300):
        live.handle("emg/activity", activity(data, row))
        if row % 3 == 0:
            live.handle("face/vision", face(data, row))
    (seen,) = live.tick(START + 300 * PERIOD_NS)
    for row in range(300, 400):
        live.handle("emg/activity", activity(data, row))
    (blind,) = live.tick(START + 400 * PERIOD_NS)
    (gone,) = live.tick(START + 600 * PERIOD_NS)
    states = [emission.item for emission in (seen, blind, gone)]
    assert [emission.port for emission in (seen, blind, gone)] == [FUSED] * 3
    assert [state.status for state in states] == [  # type: ignore[union-attr]
        FaceStatus.TRACKING,
        FaceStatus.PREDICTED,
        FaceStatus.LOST,
    ]
    assert (states[1].expression_std[:3] > states[0].expression_std[:3]).all()  # type: ignore[union-attr]


def test_without_a_mapping_the_camera_passes_through() -> None:
    plain, data = MuscleMapping(MappingConfig()), series(2.0)
    plain.setup()
    plain.handle("face/vision", face(data, 50))
    (fused,) = plain.tick(START + 51 * PERIOD_NS)
    assert isinstance(fused.item, FaceState)
    np.testing.assert_array_equal(fused.item.expression, data.face[50, :3])
    assert fused.item.stamp == START + 50 * PERIOD_NS  # the picture's
    assert plain.health().level == Level.WARN


def passed_through(plain: MuscleMapping, row: int) -> FaceState:
    (fused,) = plain.tick(START + row * PERIOD_NS)
    assert isinstance(fused.item, FaceState)
    return fused.item


def test_without_a_mapping_a_face_that_no_picture_confirms_grows_uncertain_and_is_lost_after_a_second() -> (
    None
):
    plain, data = MuscleMapping(MappingConfig()), series(2.0)
    plain.handle("face/vision", face(data, 50))
    states = [passed_through(plain, row) for row in range(50, 350)]
    status = [state.status for state in states]
    assert status == [FaceStatus.TRACKING] * 15 + [FaceStatus.PREDICTED] * 86 + [FaceStatus.LOST] * 199
    held = states[15:101]
    assert {state.stamp for state in states[:101]} == {START + 50 * PERIOD_NS}
    assert (np.diff([state.expression_std[0] for state in held]) > 0).all()
    assert held[0].confidence <= 1.0 and (np.diff([state.confidence for state in held]) < 0).all()
    for state in states[101:]:
        assert np.isnan(state.expression).all() and np.isnan(state.head_pose).all() and state.confidence == 0
    # a picture of two tenths ago that shows a face again is newer than all that was said
    assert (np.diff([state.stamp for state in states]) >= 0).all()
    plain.handle("face/vision", replace(face(data, 50), stamp=START + 329 * PERIOD_NS))
    back = passed_through(plain, 350)
    assert back.status == FaceStatus.PREDICTED and back.stamp > states[-1].stamp


def test_without_a_mapping_a_camera_that_sees_no_face_is_passed_on_at_once() -> None:
    plain, data = MuscleMapping(MappingConfig()), series(2.0)
    plain.handle("face/vision", face(data, 50))
    assert passed_through(plain, 51).status == FaceStatus.TRACKING
    stamp = START + 53 * PERIOD_NS
    plain.handle("face/vision", FaceState.lost(stamp, "test_head", FaceOrigin.VISION, 2, 3))
    lost = passed_through(plain, 56)
    assert lost.status == FaceStatus.LOST and lost.stamp == stamp and lost.origin == FaceOrigin.FUSED
    plain.handle("face/vision", face(data, 57))
    assert passed_through(plain, 58).status == FaceStatus.TRACKING


def test_a_camera_whose_clock_is_ahead_keeps_no_face_alive() -> None:
    plain, data = MuscleMapping(MappingConfig()), series(20.0)
    plain.handle("face/vision", face(data, 1050))
    states = [passed_through(plain, row) for row in range(50, 200)]
    assert states[0].status == FaceStatus.TRACKING
    assert states[-1].status == FaceStatus.LOST


def test_the_configuration_file_holds_the_defaults() -> None:
    assert load(MappingConfig, "mapping", resources.config("mapping.yaml")) == MappingConfig()


@pytest.mark.parametrize("mapped", [True, False])
def test_frozen_stamps_of_muscles_and_faces_are_named_in_health_and_counted(mapped: bool) -> None:
    live = component() if mapped else MuscleMapping(MappingConfig())
    data = series(2.0)
    for _ in range(10):
        live.handle("emg/activity", activity(data, 50))
        live.handle("face/vision", face(data, 50))
    health = live.health()
    assert health.level == Level.WARN
    assert "stamps of emg/activity have stood still" in health.message
    assert "stamps of face/vision have stood still" in health.message
    assert health.values["repeated_stamps"] == 18
    live.handle("emg/activity", activity(data, 51))
    assert "emg/activity" not in live.health().message
