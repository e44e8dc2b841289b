"""Motion per vertex as a component: pairing of pictures and faces, health, bad input."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eifer_ros.component import Emission, Level
from eifer_ros.config import build
from eifer_ros.errors import ConfigError, InputError, ModelError
from eifer_ros.micro.motion_component import (
    CAMERA,
    DISPLACEMENT,
    FINE,
    VISION,
    MicroMotion,
    MicroMotionConfig,
)
from eifer_ros.simulation.participant import Participant
from eifer_ros.types import FaceOrigin, FaceState, FaceStatus, Frame, Marker, nanoseconds


@pytest.fixture(scope="module")
def component() -> MicroMotion:
    made = MicroMotion()
    made.setup()
    return made


@pytest.fixture(scope="module")
def seen() -> list[tuple[Frame, FaceState]]:
    """12 pictures of a resting face, stamps 1/30 s apart."""
    person = Participant(290_060, program="rest", sensors=False, size=(240, 240))
    out = []
    for step in range(12):
        time_s = 2.0 + step / 30.0
        face = replace(person.face_at(2.0), stamp=person.stamp(time_s), origin=FaceOrigin.VISION)
        out.append((person.frame_at(time_s, face), face))
    return out


def stamps(emissions: list[Emission], port: str = FINE) -> list[int]:
    return [emission.item.stamp for emission in emissions if emission.port == port]


def test_pictures_wait_for_a_face_of_their_time(
    component: MicroMotion, seen: list[tuple[Frame, FaceState]]
) -> None:
    component.reset()
    for frame, _ in seen[:4]:
        assert list(component.handle(CAMERA, frame)) == []
    out = list(component.handle(VISION, seen[2][1]))
    assert stamps(out) == [frame.stamp for frame, _ in seen[:3]]
    assert stamps(list(component.handle(VISION, seen[3][1]))) == [seen[3][0].stamp]


def test_a_face_that_comes_before_its_picture_is_used(
    component: MicroMotion, seen: list[tuple[Frame, FaceState]]
) -> None:
    component.reset()
    assert list(component.handle(VISION, seen[0][1])) == []
    assert stamps(list(component.handle(CAMERA, seen[0][0]))) == [seen[0][0].stamp]


def test_displacements_are_made_while_somebody_listens(
    component: MicroMotion, seen: list[tuple[Frame, FaceState]]
) -> None:
    component.reset()
    component.set_subscribed(frozenset())
    list(component.handle(VISION, seen[1][1]))
    assert stamps(list(component.handle(CAMERA, seen[0][0])), DISPLACEMENT) == []
    component.set_subscribed(frozenset({DISPLACEMENT}))
    assert stamps(list(component.handle(CAMERA, seen[1][0])), DISPLACEMENT) == [seen[1][0].stamp]


def test_thirty_pictures_a_second_are_told_and_still_followed(
    component: MicroMotion, seen: list[tuple[Frame, FaceState]]
) -> None:
    component.reset()
    count = 0
    for frame, face in seen:
        list(component.handle(CAMERA, frame))
        count += len(stamps(list(component.handle(VISION, face))))
    health = component.health()
    assert count == len(seen)
    assert (
        health.level == Level.WARN
        and health.message == "30 frames/s: spotting needs 100; motion per vertex still given"
    )


def test_a_lost_face_goes_on_as_lost(component: MicroMotion, seen: list[tuple[Frame, FaceState]]) -> None:
    component.reset()
    face = seen[0][1]
    lost = FaceState.lost(
        face.stamp, face.head_model, FaceOrigin.VISION, len(face.shape), len(face.expression)
    )
    list(component.handle(CAMERA, seen[0][0]))
    (emission,) = component.handle(VISION, lost)
    assert isinstance(emission.item, FaceState) and emission.item.status == FaceStatus.LOST
    assert component.health().message == "no face to follow"


def test_the_oldest_picture_goes_when_faces_stay_away(seen: list[tuple[Frame, FaceState]]) -> None:
    component = MicroMotion(MicroMotionConfig(waiting=3))
    component.setup()
    for frame, _ in seen[:5]:
        list(component.handle(CAMERA, frame))
    assert component.health().values["dropped"] == 2 and component.health().message == "waiting for faces"
    assert len(stamps(list(component.handle(VISION, seen[4][1])))) == 3


def test_a_bag_that_loops_starts_anew(component: MicroMotion, seen: list[tuple[Frame, FaceState]]) -> None:
    component.reset()
    for frame, face in (seen[5], seen[6], seen[0], seen[1]):
        list(component.handle(VISION, face))
        assert stamps(list(component.handle(CAMERA, frame))) == [frame.stamp]


def test_other_items_and_heads_are_refused(
    component: MicroMotion, seen: list[tuple[Frame, FaceState]]
) -> None:
    component.reset()
    with pytest.raises(InputError, match="takes a Frame"):
        component.handle(CAMERA, Marker(0, "Smile", "start"))
    with pytest.raises(InputError, match="head model 'flame'"):
        component.handle(VISION, replace(seen[0][1], head_model="flame"))
    with pytest.raises(ModelError, match="not set up"):
        MicroMotion().handle(CAMERA, seen[0][0])
    with pytest.raises(ConfigError, match="neutral"):
        build(MicroMotionConfig, {"neutral": 0.0}, "test")


def test_a_face_far_later_than_the_pictures_still_serves(
    component: MicroMotion, seen: list[tuple[Frame, FaceState]]
) -> None:
    component.reset()
    late = replace(seen[0][1], stamp=seen[0][1].stamp + nanoseconds(5.0))
    list(component.handle(VISION, late))
    assert len(stamps([e for frame, _ in seen[:3] for e in component.handle(CAMERA, frame)])) == 3
