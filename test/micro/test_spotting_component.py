"""The spotter as a component: what it joins, what it says about its input, what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from eifer_ros import resources
from eifer_ros.component import Level
from eifer_ros.emg.filters import design, profile_named
from eifer_ros.emg.montage import FRIDLUND
from eifer_ros.errors import InputError, ModelError
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.micro.channels import ACTIONS
from eifer_ros.micro.event_spotter import Spotter, SpotterConfig
from eifer_ros.micro.senses import EmgRows, VisionRows, brightness
from eifer_ros.micro.verifier import Verifiers
from eifer_ros.simulation.participant import Participant
from eifer_ros.types import (
    ARKIT_52,
    NS,
    FaceDisplacement,
    FaceOrigin,
    FaceState,
    Frame,
    Marker,
    MuscleActivity,
)

START = 1_800_000_000 * NS


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head()


@pytest.fixture
def component(verifiers: Verifiers) -> Spotter:
    made = Spotter(verifiers=verifiers)
    made.setup()
    return made


def face(head: HeadModel, stamp: int, expression: np.ndarray | None = None) -> FaceState:
    weights = np.zeros(52, np.float32) if expression is None else expression.astype(np.float32)
    zeros = np.zeros(3, np.float32)
    return FaceState(
        stamp,
        head.id,
        FaceOrigin.VISION,
        np.zeros(head.shape_size, np.float32),
        weights,
        np.full(52, 0.02, np.float32),
        zeros,
        zeros,
        np.zeros((2, 3), np.float32),
        np.zeros(2, np.float32),
        np.eye(4),
        1.0,
    )


def activity(
    stamp: int, envelope: np.ndarray, quality: np.ndarray | None = None, profile: str = "live"
) -> MuscleActivity:
    good = np.ones(22, np.float32) if quality is None else quality
    return MuscleActivity(
        stamp, FRIDLUND.name, FRIDLUND.muscles, envelope, np.full(22, np.nan), good, profile=profile
    )


def smile(head: HeadModel, size: float) -> np.ndarray:
    weights = np.zeros(52)
    for name in ("mouthSmileLeft", "mouthSmileRight"):
        weights[head.expression_names.index(name)] = size
    return weights


def test_a_displacement_is_read_as_the_actions_that_would_make_it(head: HeadModel) -> None:
    rows = VisionRows(head)
    moved = (head.expression_basis @ smile(head, 0.1).astype(np.float32)).astype(np.float32)
    read = rows.read(FaceDisplacement(START, head.id, FaceOrigin.VISION, moved))
    wanted = [ARKIT_52.index(name) for name in ("mouthSmileLeft", "mouthSmileRight")]
    assert read[wanted] == pytest.approx([0.1, 0.1], abs=0.02)
    assert np.abs(np.delete(read, wanted)).max() < 0.03


def test_face_and_displacement_of_one_stamp_are_joined_in_either_order(
    head: HeadModel, verifiers: Verifiers
) -> None:
    moved = (head.expression_basis @ smile(head, 0.1).astype(np.float32)).astype(np.float32)
    stores = []
    for first in (0, 1):
        made = Spotter(verifiers=verifiers)
        made.setup()
        for step in range(150):
            stamp = START + step * 5_000_000
            pair = [
                ("face/vision", face(head, stamp)),
                ("face/displacement", FaceDisplacement(stamp, head.id, FaceOrigin.VISION, moved)),
            ]
            for port, item in pair if first == 0 else pair[::-1]:
                made.handle(port, item)
        spotter = made._spotter
        assert spotter is not None
        detector = spotter.vision.detector
        stores.append(detector._rows[detector._filled - 20 : detector._filled].copy())
    column = ACTIONS.index("mouthSmileLeft")
    for store in stores:
        assert store[:, column] == pytest.approx(0.1, abs=0.02)
    np.testing.assert_allclose(stores[0], stores[1], atol=1e-7)


def test_micro_expressions_of_a_participant_leave_the_port(head: HeadModel, component: Spotter) -> None:
    participant = Participant(31_002, program="micro", sensors=False)
    rng = np.random.default_rng(0)
    given = []
    for number in range(round(4.0 * 100), round(22.0 * 100)):
        true = participant.face_at(number / 100)
        noisy = true.expression + rng.normal(0.0, 0.004, 52).astype(np.float32)
        given += component.handle("face/vision", replace(true, expression=noisy))
    assert {emission.port for emission in given} == {"face/events"}
    apexes = [emission.item.stamp for emission in given]
    true_apexes = [event.stamp for event in participant.face_events(7.2, 21.5)]
    near = sum(any(abs(apex - one) < 0.1 * NS for apex in apexes) for one in true_apexes)
    assert len(true_apexes) >= 3 and near >= len(true_apexes) - 1
    health = component.health()
    assert (
        health.level == Level.OK
        and health.values["events_vision"] == len(given)
        and health.values["faces_hz"] == 100.0
    )


def test_thirty_pictures_a_second_are_said_to_be_too_few_and_what_they_can_do(
    head: HeadModel, component: Spotter
) -> None:
    for step in range(40):
        component.handle("face/vision", face(head, START + round(step * NS / 30)))
    health = component.health()
    assert health.level == Level.WARN
    assert (
        health.message
        == "30 faces/s: spotting needs 100 frames/s or more; events longer than 0.2 s may still be seen"
    )


def test_faces_of_another_head_are_refused_by_name(head: HeadModel, component: Spotter) -> None:
    component.handle("face/vision", replace(face(head, START), head_model="flame2023"))
    health = component.health()
    assert health.level == Level.ERROR and "flame2023" in health.message and head.id in health.message


def test_muscles_of_another_scheme_are_refused_by_name(component: Spotter) -> None:
    foreign = MuscleActivity(
        START, "plain", ("ch1", "ch2"), np.ones(2), np.ones(2), np.ones(2), profile="live"
    )
    component.handle("emg/activity", foreign)
    health = component.health()
    assert health.level == Level.ERROR and "ch1" in health.message and "Fridlund" in health.message


def test_what_it_does_not_listen_to_and_what_comes_too_early_is_refused(
    head: HeadModel, component: Spotter
) -> None:
    with pytest.raises(InputError, match="Marker"):
        component.handle("truth/movement", Marker(START, "Rest", "start"))
    with pytest.raises(InputError, match="set up"):
        Spotter().handle("face/vision", face(head, START))


def test_the_delay_of_the_envelope_is_taken_off(component: Spotter) -> None:
    for step in range(30):
        component.handle("emg/activity", activity(START + step * 10_000_000, np.full(22, 5e-6)))
    spotter = component._spotter
    assert spotter is not None
    expected = START + 29 * 10_000_000 - round(design(profile_named("live"), 2048.0).delay_s * NS)
    assert abs(spotter.emg.detector.newest * 10_000_000 - expected) <= 15_000_000


def test_a_channel_without_contact_stands_still_and_a_change_begins_anew() -> None:
    rows = EmgRows()
    quality = np.ones(22, np.float32)
    quality[4] = 0.0
    envelope = np.full(22, 5e-6)
    first, changed = rows.row(activity(START, envelope, quality))
    assert not changed and rows.usable == 21
    envelope[4] = 1e-3
    second, changed = rows.row(activity(START, envelope, quality))
    assert not changed and second[4] == first[4]
    _, changed = rows.row(activity(START, envelope))
    assert changed and rows.usable == 22
    nothing, _ = rows.row(activity(START, np.full(22, np.nan)))
    assert np.isnan(nothing).all()


def test_the_logarithmic_profile_gives_the_same_rows() -> None:
    volts = np.geomspace(2e-6, 3e-4, 22)
    plain, _ = EmgRows().row(activity(START, volts))
    logarithm, _ = EmgRows().row(activity(START, 1e-6 * np.log1p(volts / 1e-6), profile="emg2face"))
    np.testing.assert_allclose(plain, logarithm, atol=1e-5)


def test_a_lost_face_makes_a_gap_and_no_event(head: HeadModel, component: Spotter) -> None:
    for step in range(500):
        stamp = START + step * 10_000_000
        lost = 300 <= step < 320
        item = (
            FaceState.lost(stamp, head.id, FaceOrigin.VISION, head.shape_size, 52)
            if lost
            else face(head, stamp)
        )
        assert list(component.handle("face/vision", item)) == []
    spotter = component._spotter
    assert spotter is not None and spotter.vision.grid.breaks == 1


def test_brightness_follows_the_light() -> None:
    grey = np.full((480, 640, 3), 100, np.uint8)
    brighter = np.full((480, 640, 3), 110, np.uint8)
    assert brightness(Frame(START, brighter)) - brightness(Frame(START, grey)) == pytest.approx(
        np.log(111 / 101)
    )


def test_time_that_goes_back_forgets_everything(head: HeadModel, component: Spotter) -> None:
    for step in range(400):
        component.handle("face/vision", face(head, START + step * 10_000_000))
    spotter = component._spotter
    assert spotter is not None and spotter.vision.detector.settled
    component.handle("face/vision", face(head, START - 10 * NS))
    assert not spotter.vision.detector.settled


def test_a_damaged_network_is_refused_with_its_name(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(ModelError, match=re.escape("broken.onnx")):
        Spotter(SpotterConfig(model=str(path))).setup()


def test_weights_of_an_older_spotter_are_refused_with_the_command_that_converts_them(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ModelError, match=r"research\.micro\.spotting NEW\.onnx --weights .*mine\.npz"):
        Verifiers.load(tmp_path / "mine.npz")


def test_another_network_is_no_spotter() -> None:
    with pytest.raises(ModelError, match="not a 'spotter'"):
        Verifiers.load(resources.find("models", "micro_dynamic.onnx"))


def test_the_shipped_network_computes_the_two_layers_of_its_weights(verifiers: Verifiers) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(resources.find("models", "spotter.onnx")).graph
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    rng = np.random.default_rng(0)
    rows = {
        sense: arrays[f"{sense}/mean"]
        + 4.0 * rng.standard_normal((50, len(arrays[f"{sense}/mean"]))) * arrays[f"{sense}/deviation"]
        for sense in ("vision", "emg")
    }
    for vision, emg in zip(rows["vision"], rows["emg"], strict=True):
        answers = verifiers.classify(vision, emg)
        for sense, row, origin in (("vision", vision, FaceOrigin.VISION), ("emg", emg, FaceOrigin.EMG)):
            w = {name: arrays[f"{sense}/{name}"] for name in ("mean", "deviation", "w1", "b1", "w2", "b2")}
            standard = np.clip((row - w["mean"]) / w["deviation"], -6.0, 6.0)
            out = np.maximum(standard @ w["w1"] + w["b1"], 0.0) @ w["w2"] + w["b2"]
            logits = out[:9] / arrays[f"{sense}/temperature"]
            logits -= logits.max()
            np.testing.assert_allclose(
                answers[origin][0], logits - np.log(np.exp(logits).sum()), rtol=1e-5, atol=1e-5
            )
            np.testing.assert_allclose(answers[origin][1], 1.0 / (1.0 + np.exp(-out[9:])), atol=1e-5)


def test_a_sense_without_a_pulse_has_no_answer_and_does_not_change_the_other(verifiers: Verifiers) -> None:
    row = np.random.default_rng(1).normal(size=verifiers.network.inputs["emg"][-1]).astype(np.float32)
    other = np.ones(verifiers.network.inputs["vision"][-1], np.float32)
    alone = verifiers.classify(None, row)
    assert list(alone) == [FaceOrigin.EMG]
    np.testing.assert_array_equal(alone[FaceOrigin.EMG][0], verifiers.classify(other, row)[FaceOrigin.EMG][0])
