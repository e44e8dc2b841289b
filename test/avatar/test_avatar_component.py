"""The avatar component: which face it follows, what it makes of it, and what it says when it cannot."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import receivers
from hypothesis import given, settings
from hypothesis import strategies as st
from receivers import Receiver

from eifer_ros import config, resources
from eifer_ros.avatar.avatar_output import Avatar, AvatarConfig
from eifer_ros.avatar.one_euro import OneEuro
from eifer_ros.avatar.shaping import Shaping
from eifer_ros.component import Level
from eifer_ros.errors import ConfigError, DeviceError
from eifer_ros.head import projection
from eifer_ros.head.model import load_head
from eifer_ros.types import ARKIT_52, NS, FaceOrigin, FaceState

T0 = 1_760_000_000 * NS


def state(
    stamp: int = T0, weight: float = 0.5, head_model: str = "open_head", **changes: object
) -> FaceState:
    values: dict = {
        "shape": np.zeros(3),
        "expression": np.full(52, weight),
        "expression_std": np.zeros(52),
        "jaw": np.zeros(3),
        "neck": np.zeros(3),
        "eyes": np.zeros((2, 3)),
        "eyelids": np.zeros(2),
        "head_pose": projection.facing_pose(0.6, yaw=0.2),
        "confidence": 1.0,
    }
    return FaceState(stamp, head_model, FaceOrigin.FUSED, **(values | changes))


def component(**parameters: object) -> Avatar:
    made = Avatar(config.build(AvatarConfig, dict(parameters), "avatar"))
    made.setup()
    return made


def weights(emissions: object) -> np.ndarray | None:
    (emission,) = list(emissions) or [None]  # type: ignore[call-overload]
    return None if emission is None else emission.item.weights


def test_a_face_becomes_blendshapes_with_its_own_stamp_and_reaches_the_target() -> None:
    receiver = Receiver()
    avatar = component(targets=[f"livelink://127.0.0.1:{receiver.port}"], smoothing=False)
    (emission,) = avatar.handle("face/fused", state(T0 + 7))
    assert emission.port == "face/blendshapes"
    assert emission.item.stamp == T0 + 7
    assert emission.item.weights == pytest.approx(np.full(52, 0.5))
    (packet,) = receiver.waiting()
    heard = receivers.read_livelink(packet)["values"]
    assert receivers.worst(emission.item.weights, ARKIT_52, heard) < 1e-6
    assert heard["headYaw"] == pytest.approx(0.2, abs=1e-6)
    avatar.close()
    receiver.close()


def test_auto_follows_the_best_source_that_speaks() -> None:
    avatar = component(smoothing=False)
    assert weights(avatar.handle("face/vision", state(T0))) is not None
    assert weights(avatar.handle("face/fused", state(T0 + 1))) is not None
    assert weights(avatar.handle("face/vision", state(T0 + 2))) is None  # the fused face is there
    assert (
        weights(avatar.handle("face/vision", state(T0 + NS))) is not None
    )  # it has been silent for a second
    only = component(source="emg")
    assert weights(only.handle("face/fused", state(T0))) is None
    assert weights(only.handle("face/emg", state(T0))) is not None


def test_a_lost_face_publishes_nothing_and_tells_the_avatar_so() -> None:
    receiver = Receiver()
    avatar = component(targets=[f"vmc://127.0.0.1:{receiver.port}"], smoothing=False)
    lost = FaceState.lost(T0 + NS, "open_head", FaceOrigin.FUSED, 3, 52)
    assert weights(avatar.handle("face/fused", lost)) is None
    assert receiver.waiting() == []
    list(avatar.handle("face/fused", state(T0, 0.25)))
    receiver.waiting()
    assert weights(avatar.handle("face/fused", lost)) is None
    heard = receivers.read_vmc(receiver.waiting())
    assert heard["ok"] == 0
    assert heard["weights"]["jawOpen"] == pytest.approx(0.25)
    avatar.close()
    receiver.close()


def test_broken_faces_and_unknown_heads_are_counted_and_named() -> None:
    avatar = component()
    assert weights(avatar.handle("face/fused", state(expression=np.full(52, np.nan)))) is None
    assert avatar.broken == 1
    assert weights(avatar.handle("face/fused", state(head_model="flame2023"))) is None
    assert avatar.health().level == Level.WARN
    assert "flame2023" in avatar.health().message
    assert avatar.health().values["broken"] == 2


def test_an_unreachable_target_is_said_at_set_up_and_nothing_stays_open() -> None:
    avatar = Avatar(AvatarConfig(targets=("livelink://127.0.0.1", "vmc://no-such-host.invalid")))
    with pytest.raises(DeviceError, match=r"no-such-host\.invalid"):
        avatar.setup()
    assert avatar.senders == []


def test_the_shipped_configuration_is_valid() -> None:
    loaded = config.load(AvatarConfig, "avatar", resources.config("avatar"))
    assert loaded.targets
    with pytest.raises(ConfigError, match="no blendshape 'jawOpened'; did you mean 'jawOpen'"):
        Avatar(AvatarConfig(gain={"jawOpened": 2.0}))
    with pytest.raises(ConfigError, match="unknown kind 'vcm'; did you mean 'vmc'"):
        Avatar(AvatarConfig(targets=("vcm://x",)))


def test_reset_forgets_the_smoothing() -> None:
    avatar = component(min_cutoff_hz=0.1, beta=0.0)
    list(avatar.handle("face/fused", state(T0, 0.0)))
    smooth = weights(avatar.handle("face/fused", state(T0 + NS // 100, 1.0)))
    assert smooth is not None
    assert smooth.max() < 0.1
    avatar.reset()
    fresh = weights(avatar.handle("face/fused", state(T0 + NS // 50, 1.0)))
    assert fresh is not None
    assert fresh.min() == 1.0


def test_gaze_reaches_the_look_weights() -> None:
    avatar = component(smoothing=False)
    looked = weights(
        avatar.handle("face/fused", state(weight=0.0, eyes=np.array([[0, 0.2, 0], [0, 0.2, 0]])))
    )
    assert looked is not None
    assert looked[ARKIT_52.index("eyeLookOutLeft")] > 0.3
    assert looked[ARKIT_52.index("eyeLookInRight")] > 0.3


unit = st.lists(st.floats(0, 1, width=32), min_size=52, max_size=52).map(np.array)


@settings(max_examples=40, deadline=None)
@given(unit, st.floats(0, 0.8), st.floats(0, 3), st.floats(0, 1))
def test_shaped_weights_stay_in_their_limits_and_full_scale_stays_full(
    w: np.ndarray, dead: float, gain: float, symmetry: float
) -> None:
    shape = Shaping(gain={"jawOpen": gain}, upper={"jawOpen": 0.7}, symmetry=symmetry, default_dead_zone=dead)
    out = shape(w)
    assert out.min() >= 0.0
    assert out.max() <= 1.0
    assert out[ARKIT_52.index("jawOpen")] <= np.float32(0.7)
    assert shape(np.ones(52))[ARKIT_52.index("mouthPucker")] == 1.0
    assert np.all(out[(w <= dead) & (symmetry == 0)] == 0.0)


@settings(max_examples=40, deadline=None)
@given(unit)
def test_full_symmetry_makes_both_sides_alike_but_leaves_sideways_motion(w: np.ndarray) -> None:
    out = Shaping(symmetry=1.0)(w)
    for name in ("mouthSmile", "browDown", "eyeBlink", "noseSneer"):
        left, right = (out[ARKIT_52.index(f"{name}{side}")] for side in ("Left", "Right"))
        assert left == right
    for name in ("jawLeft", "mouthRight", "eyeLookInLeft", "jawOpen"):
        assert out[ARKIT_52.index(name)] == np.float32(w[ARKIT_52.index(name)])


def test_one_euro_follows_the_paper_step_by_step() -> None:
    # Casiez et al. 2012, algorithm 1, written out for one number
    rng = np.random.default_rng(0)
    signal, rate, cutoff, beta = rng.normal(size=50), 60.0, 1.2, 0.7

    def alpha(hz: float) -> float:
        return 1.0 / (1.0 + 1.0 / (2 * math.pi * hz) * rate)

    wanted, slope = [signal[0]], 0.0
    for x in signal[1:]:
        slope = alpha(1.0) * (x - wanted[-1]) * rate + (1 - alpha(1.0)) * slope
        a = alpha(cutoff + beta * abs(slope))
        wanted.append(a * x + (1 - a) * wanted[-1])
    smooth = OneEuro(cutoff, beta)
    got = [float(smooth(T0 + round(i * NS / rate), np.array([x]))[0]) for i, x in enumerate(signal)]
    assert got == pytest.approx(wanted, abs=1e-6)


def test_one_euro_starts_afresh_after_a_gap_and_when_time_goes_back() -> None:
    smooth = OneEuro(0.1, 0.0)
    smooth(T0, np.zeros(1))
    assert smooth(T0, np.ones(1)) == pytest.approx([0.0])  # a repeated stamp
    assert smooth(T0 + 2 * NS, np.ones(1)) == pytest.approx([1.0])
    assert smooth(T0, np.full(1, 0.5)) == pytest.approx([0.5])


def test_faces_of_an_imported_head_are_driven_through_its_stored_map(tmp_path: Path) -> None:
    # a head whose single coefficient opens the jaw by half an action
    from dataclasses import replace

    open_head = load_head()
    jaw = ARKIT_52.index("jawOpen")
    gram = np.eye(52, dtype=np.float32)
    arkit = np.zeros((52, 1), np.float32)
    arkit[jaw] = 0.5
    other = replace(
        open_head,
        id="other",
        expression_basis=open_head.expression_basis[:, :, [jaw]] * 0.5,
        expression_names=("open",),
        expression_bounds=np.array([[0, 2]], np.float32),
        joint_expression_basis=open_head.joint_expression_basis[:, :, [jaw]],
        arkit=arkit,
        arkit_gram=gram,
        gaze_basis=None,
    )
    other.save(tmp_path / "other.npz")
    avatar = component(head_model=str(tmp_path / "other.npz"), smoothing=False)
    got = weights(
        avatar.handle(
            "face/fused", state(head_model="other", expression=np.array([1.2]), expression_std=np.zeros(1))
        )
    )
    assert got is not None
    assert got[jaw] == pytest.approx(0.6, abs=1e-5)
    assert np.delete(got, jaw).max() < 1e-6
