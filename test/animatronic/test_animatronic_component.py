"""The animatronic component: sources, services, preview, and the six emotions on the example face."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros import config, resources
from eifer_ros.animatronic import picture
from eifer_ros.animatronic.animatronic_face import (
    JOINT_STATES,
    TRAJECTORY,
    Animatronic,
    AnimatronicConfig,
)
from eifer_ros.animatronic.guard import State
from eifer_ros.avatar.avatar_output import Avatar, AvatarConfig
from eifer_ros.component import Level
from eifer_ros.errors import ConfigError, InputError
from eifer_ros.head import projection
from eifer_ros.mapping.muscle_mapping import MappingConfig, MuscleMapping
from eifer_ros.types import (
    ARKIT_52,
    NS,
    Blendshapes,
    FaceOrigin,
    FaceState,
    FaceStatus,
    JointTargets,
)

T0 = 1_760_000_000 * NS
PERIOD = NS // 50

EMOTIONS = {
    # FACS units of each emotion (Ekman & Friesen) as ARKit actions
    "happy": ("mouthSmile", "cheekSquint"),
    "sad": ("browInnerUp", "mouthFrown", "mouthShrugLower", "eyeLookDown"),
    "angry": ("browDown", "eyeSquint", "mouthPress"),
    "surprised": ("browInnerUp", "browOuterUp", "eyeWide", "jawOpen"),
    "fearful": ("browInnerUp", "eyeWide", "mouthStretch", "mouthLowerDown"),
    "disgusted": ("noseSneer", "mouthUpperUp", "browDown", "eyeSquint", "mouthFrown"),
}


def weights(*names: str, strength: float = 0.7) -> np.ndarray:
    values = np.zeros(52)
    for name in names:
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in ARKIT_52:
                values[ARKIT_52.index(full)] = strength
    return values


def face(stamp: int, values: np.ndarray, **pose: float) -> FaceState:
    return FaceState(
        stamp,
        "open_head",
        FaceOrigin.FUSED,
        np.zeros(0),
        values,
        np.zeros(52),
        np.zeros(3),
        np.zeros(3),
        np.zeros((2, 3)),
        np.zeros(2),
        projection.facing_pose(0.6, **pose),
        1.0,
    )


def component(**parameters: object) -> Animatronic:
    made = Animatronic(config.build(AnimatronicConfig, {"hardware": False, **parameters}, "animatronic"))
    made.setup()
    return made


def play(
    made: Animatronic,
    seconds: float,
    values: np.ndarray | None,
    start: int = T0,
    port: str = "face/fused",
    **pose: float,
) -> list[JointTargets]:
    out = []
    for i in range(round(seconds * 50)):
        now = start + i * PERIOD
        if values is not None:
            item = face(now, values, **pose) if port != "face/blendshapes" else Blendshapes(now, values)
            list(made.handle(port, item))
        out += [emission.item for emission in made.tick(now) if emission.port == TRAJECTORY]
    return out


def joint(targets: JointTargets, name: str) -> float:
    return float(targets.positions[targets.names.index(name)])


def test_nothing_is_commanded_until_armed_and_everything_after() -> None:
    made = component()
    assert play(made, 1.0, weights("jawOpen")) == []
    assert made.health().values["state"] == "disarmed"
    assert made.arm()[0]
    commands = play(made, 4.0, weights("jawOpen"), T0 + NS)
    assert len(commands) == 200
    assert joint(commands[-1], "jaw") == pytest.approx(0.7 * 0.45, abs=1e-3)
    assert commands[-1].velocity_limits[commands[-1].names.index("jaw")] == 6.0
    assert np.all(np.diff([c.stamp for c in commands]) == PERIOD)


@pytest.mark.parametrize("port", ["face/fused", "face/vision", "face/blendshapes"])
def test_faces_and_blendshapes_lead_to_the_same_pose(port: str) -> None:
    made = component()
    made.arm()
    assert joint(play(made, 4.0, weights("mouthSmile"), port=port)[-1], "corner_left_upper") == pytest.approx(
        0.7 * 0.55, abs=1e-3
    )


def test_blendshapes_win_over_the_face_they_were_made_of_but_the_head_still_turns() -> None:
    made = component()
    made.arm()
    last = None
    for i in range(200):
        now = T0 + i * PERIOD
        list(made.handle("face/blendshapes", Blendshapes(now, weights("jawOpen"))))
        list(made.handle("face/fused", face(now, weights("mouthSmile"), yaw=0.3)))
        for emission in made.tick(now):
            last = emission.item
    assert isinstance(last, JointTargets)
    assert joint(last, "jaw") > 0.3
    assert joint(last, "cheek_left") == pytest.approx(0.0, abs=1e-3)
    assert joint(last, "neck_yaw") == pytest.approx(0.9 * 0.3, abs=1e-3)


def test_a_frozen_source_that_repeats_its_last_item_counts_as_silent() -> None:
    made = component()
    made.arm()
    play(made, 4.0, weights("jawOpen"))
    frozen = face(T0 + 4 * NS, weights("jawOpen"))
    for i in range(150):
        list(made.handle("face/fused", frozen))
        list(made.tick(T0 + 4 * NS + i * PERIOD))
    assert made.guard.state == State.RELEASED
    assert made.health().level == Level.STALE
    assert made.repeated > 100


@pytest.mark.parametrize("shaped", [False, True])
@pytest.mark.parametrize("leaves", [False, True])
def test_an_armed_face_is_released_within_1200_ms_of_the_last_evidence_where_vision_passes_through(
    leaves: bool, shaped: bool
) -> None:
    made = component()
    fused, avatar = MuscleMapping(MappingConfig()), Avatar(AvatarConfig())
    avatar.setup()
    made.arm()
    last = T0 + 3 * NS
    latency = 50 * NS // 1000
    states: dict[int, State] = {}
    lost_at = None
    for now in range(T0, last + 3 * NS, NS // 200):
        picture = now - latency
        if (picture - T0) % (NS // 25) == 0:
            if picture <= last:
                fused.handle(
                    "face/vision", replace(face(picture, weights("jawOpen")), origin=FaceOrigin.VISION)
                )
            elif leaves:  # pictures go on without a face
                fused.handle("face/vision", FaceState.lost(picture, "open_head", FaceOrigin.VISION, 0, 52))
        if now % (NS // 100) == 0:
            for emission in fused.tick(now):
                assert isinstance(emission.item, FaceState)
                if emission.item.status == FaceStatus.LOST and lost_at is None:
                    lost_at = now
                if shaped:
                    for shapes in avatar.handle("face/fused", emission.item):
                        list(made.handle(shapes.port, shapes.item))
                list(made.handle("face/fused", emission.item))
        list(made.tick(now))
        states[now] = made.guard.state
    assert states[last] == State.ACTIVE
    assert lost_at is not None and lost_at <= last + 1.1 * NS
    released = next(now for now, state in states.items() if now > last and state == State.RELEASED)
    assert released <= last + 1.2 * NS
    assert made.guard.state == State.RELEASED  # and it stays so


def test_broken_and_lost_faces_are_dropped_counted_and_end_in_neutral() -> None:
    made = component()
    made.arm()
    play(made, 3.0, weights("jawOpen"))
    track = []
    for i in range(100):
        now = T0 + 3 * NS + i * PERIOD
        item = (
            face(now, np.full(52, np.nan))
            if i % 2
            else FaceState.lost(now, "open_head", FaceOrigin.FUSED, 0, 52)
        )
        list(made.handle("face/fused", item))
        list(made.handle("face/blendshapes", Blendshapes(now, np.full(52, np.nan))))
        track += [emission.item for emission in made.tick(now)]
    assert made.dropped >= 100
    assert all(np.isfinite(command.positions).all() for command in track)
    assert joint(track[-1], "jaw") == pytest.approx(0.0, abs=2e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_example_face_stays_in_its_limits_over_wild_faces(seed: int) -> None:
    made = component()
    made.arm()
    rng = np.random.default_rng(seed)
    now, track = T0, []
    for _ in range(120):
        now += PERIOD
        kind = rng.integers(0, 10)
        if kind == 0:
            now += int(rng.integers(0, 3)) * PERIOD
        elif kind == 1:
            list(made.handle("face/fused", face(now, np.full(52, np.nan))))
        elif kind < 8:
            list(
                made.handle(
                    "face/fused",
                    face(
                        now,
                        rng.uniform(-2, 3, 52),
                        yaw=rng.normal(),
                        pitch=rng.normal() * 0.5,
                        roll=rng.normal(),
                    ),
                )
            )
        track += [(e.item.stamp, e.item.positions) for e in made.tick(now)]
    joints = made.map.config.joints.values()
    stamps, positions = np.array([s - T0 for s, _ in track]) / NS, np.array([p for _, p in track])
    assert (positions >= [j.range[0] for j in joints]).all()
    assert (positions <= [j.range[1] for j in joints]).all()
    h = np.diff(stamps)[:, None]
    velocity = np.diff(positions, axis=0) / h
    assert (np.abs(velocity) <= np.array([j.speed for j in joints]) * (1 + 1e-6)).all()
    allowed = np.array([j.acceleration for j in joints]) * (h[1:] + h[:-1]) / 2
    assert (np.abs(np.diff(velocity, axis=0)) <= allowed * (1 + 1e-6) + 1e-9).all()


@pytest.mark.parametrize("emotion", list(EMOTIONS))
def test_each_emotion_ends_nearer_to_its_own_reference_pose_than_to_any_other(emotion: str) -> None:
    made = component()
    made.arm()
    end = play(made, 4.0, weights(*EMOTIONS[emotion]))[-1].positions
    robot = made.map.config
    span = np.array([j.range[1] - j.range[0] for j in robot.joints.values()])
    away = {
        name: np.linalg.norm((end - [pose.get(j, robot.joints[j].neutral) for j in robot.joints]) / span)
        for name, pose in robot.poses.items()
    }
    assert set(away) == set(EMOTIONS)
    assert min(away, key=away.__getitem__) == emotion


def test_services_answer_with_what_was_done_from_any_thread() -> None:
    made = component()
    answers: list = []
    worker = threading.Thread(target=lambda: answers.append(made.arm()))
    worker.start()
    worker.join(120)
    assert answers[0][0]
    assert made.arm() == (True, "armed already")
    play(made, 0.5, weights("jawOpen"))
    assert made.stop()[0]
    play(made, 1.0, weights("jawOpen"), T0 + NS // 2)
    assert made.arm() == (False, "stopped; clear the stop first")
    assert made.health().level == Level.ERROR
    assert made.clear_stop() == (True, "disarmed")
    assert made.arm()[0]
    play(made, 0.5, weights("jawOpen"), T0 + 4 * NS)
    assert made.release()[0]
    play(made, 2.0, None, T0 + 5 * NS)
    assert made.guard.state == State.DISARMED


def test_the_preview_shows_the_pose_while_disarmed_without_commanding_it() -> None:
    made = component(preview=True)
    list(made.handle("face/fused", face(T0, weights("jawOpen"))))
    emissions = list(made.tick(T0))
    assert [emission.port for emission in emissions] == [JOINT_STATES]
    shown = emissions[0].item
    assert isinstance(shown, JointTargets)
    assert joint(shown, "jaw") == pytest.approx(0.7 * 0.45, abs=1e-6)
    assert list(made.tick(T0 + 1)) == []
    made.arm()
    assert {emission.port for emission in made.tick(T0 + NS)} == {TRAJECTORY, JOINT_STATES}


def test_the_shipped_configuration_is_valid_and_disarmed() -> None:
    loaded = config.load(AnimatronicConfig, "animatronic", resources.config("animatronic"))
    assert not loaded.armed
    Animatronic(loaded).close()


def test_a_missing_map_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/no/such/map\.yaml"):
        Animatronic(AnimatronicConfig(joint_map="/no/such/map.yaml"))
    with pytest.raises(InputError, match=r"models/no_such_face\.yaml"):
        Animatronic(AnimatronicConfig(joint_map="no_such_face"))


def test_the_picture_of_the_robot_shows_what_the_joints_do() -> None:
    made = component()
    robot = made.map.urdf
    still = picture.render(robot, {}, (240, 280)).astype(int)
    assert still.shape == (280, 240, 3)
    mouth = np.abs(picture.render(robot, {"jaw": 0.4}, (240, 280)).astype(int) - still).sum(axis=2) > 60
    brows = (
        np.abs(
            picture.render(robot, {"brow_left_raise": 0.15, "brow_right_raise": 0.15}, (240, 280)).astype(int)
            - still
        ).sum(axis=2)
        > 60
    )
    assert mouth.sum() > 300
    assert brows.sum() > 100
    assert np.nonzero(brows)[0].mean() < np.nonzero(mouth)[0].mean()  # brows are above the mouth
    wink = (
        np.abs(picture.render(robot, {"lid_left_upper": 0.9}, (240, 280)).astype(int) - still).sum(axis=2)
        > 60
    )
    assert np.nonzero(wink)[1].mean() > 120  # the robot's left eye is on the right of the picture
