"""Driving faces: are avatar packets right, what do they cost, how late and how safe are joint commands, are
emotions legible.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np

import bench
from eifer_ros.animatronic.animatronic_face import Animatronic, AnimatronicConfig
from eifer_ros.avatar.avatar_output import Avatar, AvatarConfig
from eifer_ros.avatar.face import AvatarFace
from eifer_ros.head import projection
from eifer_ros.registry import AVATARS
from eifer_ros.types import ARKIT_52, F64, NS, FaceOrigin, FaceState

T0 = 1_760_000_000 * NS

# fmt: off
EMOTIONS: dict[str, dict[str, float]] = {
    # EMFACS (Ekman & Friesen 1983) as ARKit actions: the units of each emotion, moderate strength
    # happy 6 12 25, sad 1 4 15 17, angry 4 7 23 24, surprised 1 2 5 26, fearful 1 2 4 5 20 25, disgusted 9 10 15
    "happy": {"mouthSmile": 0.85, "cheekSquint": 0.6, "eyeSquint": 0.25, "mouthDimple": 0.2, "jawOpen": 0.1},
    "sad": {"browInnerUp": 0.8, "browDown": 0.15, "mouthFrown": 0.75, "mouthShrugLower": 0.4, "eyeLookDown": 0.3, "eyeBlink": 0.2},
    "angry": {"browDown": 0.9, "eyeSquint": 0.45, "mouthPress": 0.6, "noseSneer": 0.15, "mouthFrown": 0.2, "mouthRollLower": 0.2},
    "surprised": {"browInnerUp": 0.8, "browOuterUp": 0.9, "eyeWide": 0.8, "jawOpen": 0.7},
    "fearful": {"browInnerUp": 0.9, "browOuterUp": 0.35, "browDown": 0.25, "eyeWide": 0.8, "mouthStretch": 0.7, "jawOpen": 0.25,
                "mouthLowerDown": 0.3},
    "disgusted": {"noseSneer": 0.9, "mouthUpperUp": 0.7, "browDown": 0.45, "cheekSquint": 0.4, "mouthFrown": 0.35, "eyeSquint": 0.3,
                  "mouthShrugUpper": 0.3},
}
# fmt: on


def expression(wanted: dict[str, float]) -> F64:
    """(52,) weights; a name without a side means both."""
    weights = np.zeros(len(ARKIT_52))
    for name, value in wanted.items():
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in ARKIT_52:
                weights[ARKIT_52.index(full)] = value
    return weights


def face_state(weights: F64, stamp: int = T0, yaw: float = 0.0) -> FaceState:
    """A face of the open head with these actions."""
    return FaceState(
        stamp,
        "open_head",
        FaceOrigin.FUSED,
        np.zeros(0),
        weights,
        np.zeros(52),
        np.zeros(3),
        np.zeros(3),
        np.zeros((2, 3)),
        np.zeros(2),
        projection.facing_pose(0.6, yaw=yaw),
        1.0,
    )


def _receivers() -> ModuleType:
    folder = str(Path(__file__).parents[1] / "test" / "avatar")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    import receivers

    return receivers


def avatar_channels_wrong(quick: bool) -> int:
    """Channels outside 1/255 (iFacialMocap: its own half percent) as each protocol's receiver reads them,
    over random faces.
    """
    receivers = _receivers()
    rng = np.random.default_rng(0)
    trials = 20 if quick else 300
    wrong = 0
    checked = 0
    for protocol, limit in (
        ("vmc", 1 / 255),
        ("vrchat", 1 / 255),
        ("livelink", 1 / 255),
        ("ifacialmocap", 0.005 + 1e-6),
    ):
        heard = receivers.Receiver()
        sender = AVATARS.open(f"{protocol}://127.0.0.1:{heard.port}")
        for i in range(trials):
            face = AvatarFace(T0 + i * NS // 30, rng.uniform(0, 1, 52).astype(np.float32))
            sender.send(face)
            packets = heard.waiting()
            if protocol == "vmc":
                values = receivers.read_vmc(packets)["weights"]
            elif protocol == "vrchat":
                values = receivers.arkit_from_unified(receivers.read_vrchat(packets)[0])
            elif protocol == "livelink":
                values = receivers.read_livelink(packets[0])["values"]
            else:
                values = receivers.read_ifacialmocap(packets[0])[0]
            wrong += sum(
                abs(float(w) - values.get(name, 9.0)) > limit
                for name, w in zip(ARKIT_52, face.weights, strict=True)
            )
            checked += 52
        sender.close()
        heard.close()
    bench.report("avatar_channels_wrong", wrong, "channels", checked)
    return wrong


def avatar_core_pct(quick: bool) -> float:
    """Share of a core that the whole avatar path (face in, smoothing, packets out) takes at 60 faces/s: the
    costliest protocol.
    """
    worst = 0.0
    count = 300 if quick else 1800
    rng = np.random.default_rng(0)
    faces = [face_state(rng.uniform(0, 1, 52), T0 + round(i * NS / 60)) for i in range(count)]
    for protocol in ("vmc", "vrchat", "livelink", "ifacialmocap"):
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("127.0.0.1", 0))
        avatar = Avatar(AvatarConfig(targets=(f"{protocol}://127.0.0.1:{listener.getsockname()[1]}",)))
        avatar.setup()
        list(avatar.handle("face/fused", face_state(np.zeros(52), T0 - NS)))
        start = time.process_time()
        for face in faces:
            list(avatar.handle("face/fused", face))
        share = (time.process_time() - start) / (count / 60) * 100
        sent = avatar.senders[0].sent - 1
        bench.note(f"{protocol}: {share:.2f} % of a core, {sent / (count / 60):.1f} faces/s")
        worst = max(worst, share)
        avatar.close()
        listener.close()
    bench.report("avatar_core_pct", worst, "%", count)
    return worst


def _driven() -> Animatronic:
    animatronic = Animatronic(AnimatronicConfig(hardware=False))
    animatronic.setup()
    animatronic.arm()
    return animatronic


def joint_figures(quick: bool) -> None:
    """Latency of a face to its command, limits over a wild stream, time to neutral after the last face."""
    animatronic = _driven()
    rng = np.random.default_rng(1)
    joints = animatronic.map.config.joints.values()
    speed, acceleration = (
        np.array([getattr(joint, name) for joint in joints]) for name in ("speed", "acceleration")
    )
    low, high = (np.array([joint.range[k] for joint in joints]) for k in (0, 1))
    dt = 1 / animatronic.map.config.rate_hz
    took = []
    track = []
    now = T0
    weights = np.zeros(52)
    for i in range(1500 if quick else 15000):
        now += NS // 50
        if i % 25 == 0:
            weights = (rng.random(52) < 0.3) * rng.uniform(0, 1, 52)
        state = face_state(weights, now, rng.normal() * 0.3)
        start = time.perf_counter()
        list(animatronic.handle("face/fused", state))
        out = list(animatronic.tick(now))
        took.append((time.perf_counter() - start) * 1e3)
        track += [(emission.item.stamp, emission.item.positions) for emission in out]
    last = now
    while animatronic.guard.state.name not in ("RELEASED", "DISARMED") and now < last + 5 * NS:
        now += NS // 50
        track += [(emission.item.stamp, emission.item.positions) for emission in animatronic.tick(now)]
    positions = np.array([p for _, p in track])
    stamps = np.array([s for s, _ in track])
    velocity = np.diff(positions, axis=0, prepend=positions[:1]) / dt
    change = np.diff(velocity, axis=0, prepend=0 * velocity[:1]) / dt
    violations = int(((positions < low) | (positions > high)).sum())
    violations += int((np.abs(velocity) > speed * (1 + 1e-9)).sum()) + int(
        (np.abs(change) > acceleration * (1 + 1e-6) + 1e-9).sum()
    )
    away = np.abs(positions - animatronic.solver.neutral).max(axis=1) > 0.005
    late = stamps[np.flatnonzero(away)[-1] + 1] if away.any() else last
    bench.note(
        f"a face to its joint command: median {np.median(took[50:]):.2f} ms, 90th percentile {np.percentile(took[50:], 90):.2f} ms"
    )
    bench.report("joint_p99_ms", float(np.percentile(took[50:], 99)), "ms", len(took) - 50)
    bench.report("joint_limit_violations", violations, "commands", positions.size)
    bench.report("neutral_s", float(late - last) / NS, "s", 1)


def emotion_pose(name: str) -> F64:
    """(J,) where the example face ends, five seconds of faces later, start-up slowness and limits included,
    when fed one emotion.
    """
    animatronic = _driven()
    now = T0
    last = animatronic.solver.neutral
    for _ in range(50 * 5):
        now += NS // 50
        list(animatronic.handle("face/fused", face_state(expression(EMOTIONS[name]), now)))
        for emission in animatronic.tick(now):
            last = emission.item.positions
    return np.asarray(last)


def legibility() -> int:
    """Emotions that end nearest to their own reference pose (joint distances scaled by each joint's range)."""
    animatronic = Animatronic(AnimatronicConfig(hardware=False))
    robot = animatronic.map.config
    span = np.array([joint.range[1] - joint.range[0] for joint in robot.joints.values()])
    poses = {
        name: np.array([robot.poses[name].get(joint, robot.joints[joint].neutral) for joint in robot.joints])
        for name in EMOTIONS
    }
    right = 0
    for name in EMOTIONS:
        end = emotion_pose(name)
        distance = {other: float(np.linalg.norm((end - pose) / span)) for other, pose in poses.items()}
        ranked = sorted(distance, key=distance.__getitem__)
        bench.note(f"{name}: {', '.join(f'{other} {distance[other]:.2f}' for other in ranked[:3])}")
        right += ranked[0] == name
    bench.report("legible_emotions", right, "of 6", len(EMOTIONS))
    return right


def run(quick: bool = False) -> None:
    """All figures of this area."""
    avatar_channels_wrong(quick)
    avatar_core_pct(quick)
    joint_figures(quick)
    legibility()
