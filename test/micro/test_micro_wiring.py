"""Small, fast motion as the running system has it: reconstruction with flow, and the spotter behind it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eifer_ros import config as configuration
from eifer_ros.component import Emission, Source
from eifer_ros.emg.emg_processing import EmgConfig, EmgProcessing
from eifer_ros.hosts.local import LocalHost
from eifer_ros.micro.event_spotter import Spotter, SpotterConfig
from eifer_ros.reconstruction.face_reconstruction import (
    CAMERA,
    DISPLACEMENT,
    RESTORED,
    VISION,
    Reconstruction,
    ReconstructionConfig,
)
from eifer_ros.recording.reader import read
from eifer_ros.recording.writer import BagWriter
from eifer_ros.simulation.participant import Participant
from eifer_ros.simulation.performer import PerformerConfig, PerformerEmg
from eifer_ros.types import NS, FaceDisplacement, FaceEvent, FaceState, FaceStatus, Frame

RATE = 100
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """0.4 s of a resting face at 100 frames/s, the head swaying."""
    person = Participant(7, program="micro", sensors=False, size=(240, 240))
    return [person.frame_at(1.0 + k / RATE) for k in range(40)]


@pytest.fixture(scope="module")
def fine() -> Reconstruction:
    component = Reconstruction(ReconstructionConfig(estimator="landmarks", micro=True, micro_stride=4))
    component.setup()
    return component


def handled(component: Reconstruction, frames: list[Frame]) -> list[list[Emission]]:
    component.reset()
    return [list(component.handle(CAMERA, frame)) for frame in frames]


def test_every_picture_has_a_face_and_a_displacement_of_its_own_stamp(
    fine: Reconstruction, frames: list[Frame]
) -> None:
    fine.set_subscribed(frozenset({DISPLACEMENT}))
    out = handled(fine, frames)
    for frame, emissions in zip(frames, out, strict=True):
        (face,) = [e.item for e in emissions if e.port == VISION]
        assert (
            isinstance(face, FaceState) and face.stamp == frame.stamp and face.status == FaceStatus.TRACKING
        )
        fields = [e.item for e in emissions if e.port == DISPLACEMENT]
        assert all(isinstance(field, FaceDisplacement) and field.stamp == frame.stamp for field in fields)
    shown = [e.item for emissions in out for e in emissions if e.port == DISPLACEMENT]
    assert len(shown) >= 36
    assert fine.head is not None and shown[0].displacement.shape == fine.head.template.shape
    assert max(float(np.linalg.norm(field.displacement, axis=1).max()) for field in shown) <= 0.003


def test_between_its_pictures_the_estimator_rests(fine: Reconstruction, frames: list[Frame]) -> None:
    before = int(fine.health().values["tracked"])
    handled(fine, frames)
    values = fine.health().values
    assert int(values["tracked"]) - before == len(frames) // 4
    assert float(values["micro_ms"]) > 0.0 and int(values["micro_keys"]) >= 1


def test_a_displacement_nobody_asked_for_is_not_made(fine: Reconstruction, frames: list[Frame]) -> None:
    fine.set_subscribed(frozenset({RESTORED}))
    assert not any(e.port == DISPLACEMENT for emissions in handled(fine, frames[:8]) for e in emissions)


def test_without_micro_a_face_is_what_it_always_was(frames: list[Frame]) -> None:
    plain = Reconstruction(ReconstructionConfig(estimator="landmarks"))
    plain.setup()
    plain.set_subscribed(frozenset({DISPLACEMENT}))
    out = handled(plain, frames[:4])
    assert not any(e.port == DISPLACEMENT for emissions in out for e in emissions)
    assert int(plain.health().values["tracked"]) == 4 and "micro_ms" not in plain.health().values


def test_a_face_that_goes_is_lost_and_one_that_returns_is_followed_anew(
    fine: Reconstruction, frames: list[Frame]
) -> None:
    empty = [
        Frame(frames[-1].stamp + (k + 1) * NS // RATE, np.zeros_like(frames[0].image)) for k in range(16)
    ]
    back = [Frame(frame.stamp + NS, frame.image, frame.intrinsics) for frame in frames]
    fine.set_subscribed(frozenset({DISPLACEMENT}))
    faces = [
        e.item for emissions in handled(fine, [*frames, *empty, *back]) for e in emissions if e.port == VISION
    ]
    assert len(faces) == len(frames) + len(empty) + len(back)
    assert faces[len(frames) + len(empty) - 1].status == FaceStatus.LOST
    assert faces[-1].status == FaceStatus.TRACKING and np.isfinite(faces[-1].expression).all()


class _Faces(Source):
    """The true faces of a participant at 100 a second, as a camera path would give them."""

    live = False

    def __init__(self, person: Participant, begin_s: float, end_s: float) -> None:
        self._person, self._times = person, np.arange(begin_s, end_s, 1.0 / RATE)

    outputs = Reconstruction.outputs

    def produce(self):  # type: ignore[no-untyped-def]
        for time_s in self._times:
            yield Emission(VISION, self._person.face_at(float(time_s)))


def test_events_of_a_session_are_spotted_recorded_and_read_again(tmp_path: Path) -> None:
    """EMG and faces of one performance through the whole graph: most events are found, and stand in the bag."""
    config = PerformerConfig(
        seed=21, program="micro", rate_hz=1000.0, artefacts=("white",), speed=0, duration_s=16.0
    )
    emg = PerformerEmg(config)
    person = emg.participant
    host = LocalHost(
        {
            "faces": _Faces(person, 0.0, 16.0),
            "amplifier": emg,
            "emg": EmgProcessing(EmgConfig()),
            "spotter": Spotter(SpotterConfig()),
        }
    )
    host.setup()
    with BagWriter(tmp_path / "bag", wait=True) as bag:
        for port in ("face/events", "truth/movement"):
            host.tap(bag.write, port)
        host.run_offline()
    host.close()
    found = [item for _, port, item in read(tmp_path / "bag") if port == "face/events"]
    assert all(isinstance(event, FaceEvent) for event in found)
    true = person.face_events(1.0, 15.0)
    near = [any(abs(event.stamp - other.stamp) < 0.15 * NS for event in found) for other in true]
    assert len(true) >= 3 and np.mean(near) >= 0.5


@pytest.mark.parametrize(
    ("name", "model"), [("spotter", SpotterConfig), ("reconstruction", ReconstructionConfig)]
)
def test_the_parameter_file_says_the_defaults(name: str, model: type) -> None:
    path = ROOT / "config" / f"{name}.yaml"
    assert configuration.load(model, name, path) == model()
    assert set(configuration.load_yaml(path)[name]) == set(model.model_fields)
