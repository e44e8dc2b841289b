"""Trains the networks that tell micro-expressions from what else is brief, on simulated people.

    python -m research.micro.spotting models/spotter.onnx --people 16 --minutes 4

Each person performs micro-expressions over rest and over talking, the movements of the protocol, and
conversation. The picture is drawn for eighteen other people, half a minute each; for the rest what a
reconstruction would say is the truth with the faults reconstructions have (`CameraFaults`: too little motion,
actions that leak into each other, noise fast and slow, some of it in the shape of expressions, the head's
motion read as expression), and now and then what the spotter must see through: head turns, light that
flickers, something that moves over the skin. The muscles are the simulated sEMG through the envelope filter
of profile `live`. Both detectors run over both streams as they would live; every candidate of either, and
some moments at random, become rows. Five networks for each sense learn from rows and their mirror images, and
answer with the mean of their logits; temperatures and the weights of the fusion are fitted on every fourth
person with networks that have not seen them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax

from eifer_ros.emg.filters import EnvelopeFilter
from eifer_ros.errors import ModelError
from eifer_ros.micro.channels import ACTIONS, MUSCLE_CHANNELS
from eifer_ros.micro.grid import GRID_HZ, Grid
from eifer_ros.micro.motion import MicroMotionEstimator
from eifer_ros.micro.pulses import LENGTHS_S, Pulse, PulseDetector, minimum_jerk
from eifer_ros.micro.senses import (
    EMG_FLOOR,
    EMG_UNIT,
    LEAST_V,
    VISION_CHANNELS,
    VISION_FLOOR,
    VISION_UNIT,
    VisionRows,
    brightness,
    emg_regions,
    vision_regions,
)
from eifer_ros.micro.spotter import SLACK, SpotterSettings
from eifer_ros.micro.verifier import VERSION, features
from eifer_ros.reconstruction.encoder.sensor_estimator import SensorEstimator
from eifer_ros.reconstruction.encoder.sensor_fit import SensorFitSettings
from eifer_ros.simulation.micro_expressions import MICRO_CLASSES
from eifer_ros.simulation.muscles import reference_matrix
from eifer_ros.simulation.participant import Participant
from eifer_ros.types import ARKIT_52, EVENT_REGIONS, F32, F64
from research.common.recipe import option, parser, run, settings_of

PROGRAMS = ("micro", "micro_talking", "session", "conversation")
SHARES = (0.45, 0.3, 0.15, 0.1)
"""Share of a person's time in each programme."""
NEAR_S = 0.12
"""A candidate whose apex is this near to a true one is that event."""
HIDDEN = 48


class Truth(NamedTuple):
    """One true event on the grid of its sense: apex (instants), class (1 ..) and (4,) regions."""

    apex: float
    label: int
    regions: F64


@dataclass(frozen=True)
class Take:
    """One person in one programme, both senses on the grid from instant 0: vision (T, C), emg (T, 22) (T may
    differ by a few).

    skin, muscle: true events with the times of either.
    """

    person: int
    program: str
    vision: F64
    emg: F64
    skin: tuple[Truth, ...]
    muscle: tuple[Truth, ...]
    lag_s: float


class CameraFaults:
    """What a reconstruction makes of a true face, for one person and one camera: all parameters drawn once
    from `rng`.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        count = len(ACTIONS)
        self._rng = rng
        self._gain = np.exp(rng.uniform(-1.2, 0.0) + rng.normal(0.0, 0.2, count))
        for name in ("eyeBlinkLeft", "eyeBlinkRight"):  # flow cannot follow lids that close
            self._gain[ACTIONS.index(name)] = np.exp(rng.uniform(np.log(0.06), 0.0))
        self._blur_s = float(rng.uniform(0.0, 0.015))
        leaky = float(rng.uniform(0.0, 1.5))
        leak = leaky * rng.normal(0.0, 0.05, (count, count)) * (rng.random((count, count)) < 0.3)
        for name, size in (("eyeBlinkLeft", 0.06), ("eyeBlinkRight", 0.06), ("jawOpen", 0.1)):
            leak[:, ACTIONS.index(name)] = leaky * rng.normal(0.0, size, count)
        np.fill_diagonal(leak, 0.0)
        self._leak = leak
        self._white = 10.0 ** rng.uniform(-4.0, -2.7) * np.exp(rng.normal(0.0, 0.7, count))
        self._slow = 10.0 ** rng.uniform(-3.8, -2.4) * np.exp(rng.normal(0.0, 0.7, count))
        # what knows faces makes faces of noise: noise of each muscle, through what the muscle does
        self._muscles = reference_matrix()[[ARKIT_52.index(name) for name in ACTIONS]].copy()
        self._face_white = 10.0 ** rng.uniform(-4.0, -2.8) * np.exp(
            rng.normal(0.0, 0.5, self._muscles.shape[1])
        )
        self._face_slow = 10.0 ** rng.uniform(-3.5, -2.3) * np.exp(
            rng.normal(0.0, 0.5, self._muscles.shape[1])
        )
        self._face_memory_s = rng.uniform(0.05, 0.5, self._muscles.shape[1])
        self._memory_s = rng.uniform(0.15, 0.8, count)
        self._pose = leaky * rng.normal(0.0, 0.1, (count, 6))
        self._turned = rng.normal(0.0, 0.03, (count, 2))
        self._lit = rng.normal(0.0, 0.02, count) * float(rng.uniform(0.0, 1.5))
        self._bounded = bool(rng.random() < 0.75)
        self._resting = np.where(rng.random(count) < 0.7, 0.0, rng.uniform(0.0, 0.1, count))
        self._pose_noise = np.array([10.0 ** rng.uniform(-2.0, -1.0), 10.0 ** rng.uniform(-2.7, -1.7)])

    def see(self, truth: F64, gaze: F64, motion: F64) -> F64:
        """(T, C) rows of the picture. truth: (T, actions). gaze: (T, 2) yaw and pitch rad.

        motion: (T, 6) head, rad and m.
        """
        rng = self._rng
        count = len(truth)
        keep = np.exp(-1.0 / (GRID_HZ * self._blur_s)) if self._blur_s > 1e-4 else 0.0
        measured = _one_pole(
            (truth * self._gain) @ (np.eye(len(self._gain)) + self._leak).T,
            np.full(truth.shape[1], keep),
            1.0 - keep,
        )
        memory = np.exp(-1.0 / (GRID_HZ * self._memory_s))
        drift = _one_pole(rng.standard_normal(truth.shape), memory, np.sqrt(1.0 - memory**2))
        keep_face = np.exp(-1.0 / (GRID_HZ * self._face_memory_s))
        pulls = rng.standard_normal((count, self._muscles.shape[1]))
        faces = self._face_slow * _one_pole(pulls, keep_face, np.sqrt(1.0 - keep_face**2))
        faces += self._face_white * rng.standard_normal(pulls.shape)
        measured = (
            measured
            + self._white * rng.standard_normal(truth.shape)
            + self._slow * drift
            + motion @ self._pose.T
            + faces @ self._muscles.T
        )
        gaze_speed = np.abs(np.gradient(gaze, axis=0)).sum(axis=1) * GRID_HZ
        turn = np.linalg.norm(np.gradient(motion[:, :3], axis=0), axis=1) * GRID_HZ
        shift = np.linalg.norm(np.gradient(motion[:, 3:], axis=0), axis=1) * GRID_HZ
        light = np.cumsum(rng.normal(0.0, 2e-4, count))
        for kind, begin, length in self._disturbances(count):
            course = minimum_jerk(1.0 - np.abs(2.0 * (np.arange(count) - begin) / length - 1.0))
            if kind == "turn":
                step = minimum_jerk((np.arange(count) - begin) / length)
                measured = measured + np.outer(step, rng.normal(0.0, 0.04, measured.shape[1]))
                measured = measured + np.outer(course, self._turned @ rng.normal(0.0, 1.0, 2))
                turn = turn + rng.uniform(0.2, 2.0) * course
                shift = shift + rng.uniform(0.0, 0.15) * course
            elif kind == "light":
                flicker = course * np.sign(
                    np.sin(2.0 * np.pi * rng.uniform(2.0, 12.0) * np.arange(count) / GRID_HZ)
                )
                size = float(rng.normal(0.0, 0.15))
                light = light + size * flicker
                measured = measured + np.outer(size * flicker, self._lit / 0.05)
            else:  # something moves over the skin: a few actions seem to move together in a way no muscle moves them
                rows = rng.choice(measured.shape[1], int(rng.integers(2, 6)), replace=False)
                pattern = np.zeros(measured.shape[1])
                pattern[rows] = rng.normal(0.0, 0.04, len(rows))
                back = 1.0 if rng.random() < 0.5 else 0.0
                slide = course if back else minimum_jerk((np.arange(count) - begin) / length)
                measured = measured + np.outer(slide, pattern)
        # what is counted from a running neutral and kept within the bounds of a coefficient loses its lower
        # half
        if self._bounded:
            neutral = _one_pole(
                measured, np.full(measured.shape[1], np.exp(-1.0 / GRID_HZ)), 1.0 - np.exp(-1.0 / GRID_HZ)
            )
            measured = np.maximum(measured - neutral, -self._resting)
        noise = np.abs(rng.standard_normal((count, 2))) * self._pose_noise
        context = np.stack(
            [gaze[:, 0], gaze[:, 1], gaze_speed, turn + noise[:, 0], shift + noise[:, 1], light], axis=1
        )
        context[:, :2] += rng.normal(0.0, 0.004, (count, 2))
        return np.concatenate([measured, context], axis=1)

    def _disturbances(self, count: int) -> list[tuple[str, float, float]]:
        """Kind, first instant and length in instants: about one in 8 s."""
        number = self._rng.poisson(count / GRID_HZ / 8.0)
        return [
            (
                str(self._rng.choice(["turn", "light", "slide"])),
                float(self._rng.uniform(0, count)),
                float(self._rng.uniform(15, 80)),
            )
            for _ in range(number)
        ]


def _one_pole(x: F64, keep: F64, gain: F64 | float) -> F64:
    """(T, C) y[t] = keep y[t-1] + gain x[t], each channel with its own memory."""
    out = np.empty_like(x)
    state = x[0] * gain / np.maximum(1.0 - keep, 1e-9) if np.ndim(gain) == 0 else x[0].copy()
    for row in range(len(x)):
        state = keep * state + gain * x[row]
        out[row] = state
    return out


def emg_rows(participant: Participant, begin_s: float, end_s: float, profile: str = "live") -> F64:
    """(T, 22) log envelopes on the grid, instant 0 at `begin_s`, the filter's delay taken off."""
    lead = 2.0
    stream = EnvelopeFilter(profile, participant.rate_hz, len(MUSCLE_CHANNELS))
    samples = participant.emg(begin_s - lead, end_s + 0.3)
    envelope = stream.push(
        samples, round((participant.sample_index(begin_s - lead) / participant.true_rate_hz - begin_s) * 1e9)
    )
    grid = Grid(len(MUSCLE_CHANNELS))
    out = np.zeros((round((end_s - begin_s) * GRID_HZ), len(MUSCLE_CHANNELS)))
    delay = round(stream.design.delay_s * 1e9)
    for stamp, values in zip(envelope.stamps.tolist(), envelope.values, strict=True):
        for instant, row in grid.push(stamp - delay, np.log(values + LEAST_V)):
            if 0 <= instant < len(out):
                out[instant] = row
    return out


def vision_rows(participant: Participant, times: F64, faults: CameraFaults) -> F64:
    """(T, C) what a faulty camera says of the true face at `times`."""
    expression = participant.expression_at(times)
    names = participant.head.expression_names
    truth = expression[:, [names.index(name) for name in ACTIONS]]
    return faults.see(truth, participant.script.gaze(times), participant.script.head_motion(times))


def drawn_rows(
    participant: Participant, begin_s: float, end_s: float, rate_hz: float = 100.0, static_hz: float = 25.0
) -> F64:
    """(T, C) what the reconstruction really says of drawn pictures, on the grid; NaN where it says nothing.

    30 ms of a core per picture.
    """
    head = participant.head
    static = SensorEstimator(head, SensorFitSettings())
    static.warm_up()
    motion, rows, grid = MicroMotionEstimator(head), VisionRows(head), Grid(len(VISION_CHANNELS))
    every = max(1, round(rate_hz / static_hz))
    out = np.full((round((end_s - begin_s) * GRID_HZ), len(VISION_CHANNELS)), np.nan)
    state = None
    for number in range(round((end_s - begin_s) * rate_hz)):
        frame = participant.frame_at(begin_s + number / rate_hz)
        if number % every == 0:
            for _ in range(5 if number == 0 else 1):
                estimate = static.estimate(frame, participant.camera.intrinsics, every / rate_hz)
            state = None if estimate is None else estimate.state(head, frame.stamp)
        result = motion.update(frame, state) if state is not None else None
        if result is None:
            continue
        row = rows.row(result.fine, result.field(head), brightness(frame))
        for instant, values in grid.push(round(number / rate_hz * 1e9), row):
            if 0 <= instant < len(out):
                out[instant] = values
    return out


def take(
    seed: int,
    program: str,
    seconds: float,
    begin_s: float = 4.0,
    session: int = 0,
    lag_s: float = 0.07,
    drawn: bool = False,
) -> Take:
    """Simulate one person in one programme.

    drawn: in pictures, under sensors, read by the reconstruction; else by `CameraFaults`.
    """
    participant = Participant(seed, session, program=program, sensors=drawn, size=(320, 240), lag_s=lag_s)
    times = begin_s + np.arange(round(seconds * GRID_HZ)) / GRID_HZ
    if drawn:
        vision = drawn_rows(participant, begin_s, begin_s + seconds)
    else:
        vision = vision_rows(
            participant,
            times,
            CameraFaults(np.random.default_rng([seed, session, PROGRAMS.index(program)])),
        )
    emg = emg_rows(participant, begin_s, begin_s + seconds)

    def truths(events: Sequence[Any]) -> tuple[Truth, ...]:
        return tuple(
            Truth(
                (event.apex_s - begin_s) * GRID_HZ,
                1 + MICRO_CLASSES.index(event.label),
                np.array([float(name in event.regions) for name in EVENT_REGIONS]),
            )
            for event in events
        )

    return Take(
        seed,
        program,
        vision,
        emg,
        truths(participant.micro_events(begin_s, begin_s + seconds)),
        truths(participant.script.micro_events(begin_s, begin_s + seconds)),
        lag_s,
    )


@dataclass(frozen=True)
class Rows:
    """N moments: features vision (N, F), emg (N, G); label (N,) 0 none or class; regions (N, 4); person (N,);
    proposed (N, 2) by whom.
    """

    vision: F32
    emg: F32
    label: npt.NDArray[np.int64]
    regions: F64
    person: npt.NDArray[np.int64]
    proposed: npt.NDArray[np.bool_]


def rows_of(one: Take, rng: np.random.Generator, random_hz: float = 0.6) -> Rows:
    """Run both detectors over a take and turn their candidates, and some random moments, into rows."""
    vision = one.vision
    emg = one.emg
    candidate = SpotterSettings().candidate
    see = PulseDetector(vision_regions(), candidate, VISION_FLOOR)
    feel = PulseDetector(emg_regions(), candidate, EMG_FLOOR)
    lag = round(one.lag_s * GRID_HZ)
    waiting: list[tuple[int, Pulse | None, Pulse | None]] = []
    candidates = []
    for instant in range(min(len(vision), len(emg))):
        vision_pulse = see.push(instant, vision[instant]) if np.isfinite(vision[instant]).all() else None
        emg_pulse = feel.push(instant, emg[instant])
        if vision_pulse is not None:
            waiting.append((vision_pulse.instant, vision_pulse, None))
        if emg_pulse is not None:
            waiting.append((emg_pulse.instant + lag, None, emg_pulse))
        if see.settled and rng.random() < random_hz / GRID_HZ:
            waiting.append((instant - 40, None, None))
        for skin, pulse_v, pulse_e in [entry for entry in waiting if entry[0] + 40 <= instant]:
            v = pulse_v or see.evidence(skin, SLACK)
            e = pulse_e or feel.evidence(skin - lag, SLACK)
            if v is not None and e is not None:
                candidates.append((skin, v, e, pulse_v is not None, pulse_e is not None))
        waiting = [entry for entry in waiting if entry[0] + 40 > instant]
    label = []
    regions = []
    for skin, _, _, _, _ in candidates:
        distance = [abs(event.apex - skin) for event in one.skin]
        nearest = int(np.argmin(distance)) if distance else -1
        hit = nearest >= 0 and distance[nearest] <= NEAR_S * GRID_HZ
        label.append(one.skin[nearest].label if hit else 0)
        regions.append(one.skin[nearest].regions if hit else np.zeros(len(EVENT_REGIONS)))
    return Rows(
        np.array([features(v, VISION_UNIT) for _, v, _, _, _ in candidates], np.float32),
        np.array([features(e, EMG_UNIT) for _, _, e, _, _ in candidates], np.float32),
        np.array(label, np.int64),
        np.array(regions).reshape(-1, len(EVENT_REGIONS)),
        np.full(len(candidates), one.person),
        np.array([[a, b] for _, _, _, a, b in candidates], bool).reshape(-1, 2),
    )


def mirrored(channels: Sequence[str]) -> list[int]:
    """Index of each channel's counterpart on the other side."""
    names = list(channels)

    def other(name: str) -> str:
        for one, two in (("Left", "Right"), ("Right", "Left"), ("_left", "_right"), ("_right", "_left")):
            if name.endswith(one):
                return name.removesuffix(one) + two
        return name

    return [names.index(other(name)) for name in names]


_OTHER_REGION = [EVENT_REGIONS.index(name) for name in ("eye_right", "eye_left", "lips_right", "lips_left")]


def mirrored_features(channels: Sequence[str]) -> tuple[npt.NDArray[np.intp], F64]:
    """Where each feature of the mirrored face stands among those of the face itself, and its sign
    (`verifier.features`' order).

    Both detectors treat left and right alike, so that a mirrored stream would give the same candidates with
    these features.
    """
    count = len(channels)
    swap = np.array(mirrored(channels))
    sign = np.array([-1.0 if name == "gaze yaw" else 1.0 for name in channels])
    start = 2 * count
    energy = [
        start + len(_OTHER_REGION) * scale + region
        for scale in range(len(LENGTHS_S))
        for region in _OTHER_REGION
    ]
    recent = [start + len(energy) + region for region in _OTHER_REGION]
    tail = start + len(energy) + len(recent) + np.arange(5)
    order = np.concatenate([swap, count + swap, energy, recent, tail]).astype(np.intp)
    return order, np.concatenate([sign, sign, np.ones(len(order) - start)])


def mirror(rows: Rows) -> Rows:
    """The same moments of faces whose left and right are exchanged."""
    (order_v, sign_v), (order_e, sign_e) = (
        mirrored_features(VISION_CHANNELS),
        mirrored_features(MUSCLE_CHANNELS),
    )
    return Rows(
        (rows.vision[:, order_v] * sign_v).astype(np.float32),
        (rows.emg[:, order_e] * sign_e).astype(np.float32),
        rows.label,
        rows.regions[:, _OTHER_REGION],
        rows.person,
        rows.proposed,
    )


def join(parts: Sequence[Rows]) -> Rows:
    """All rows together."""
    return Rows(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Rows.__dataclass_fields__)
    )


@dataclass(frozen=True)
class Perceptron:
    """Two layers.

    mean, deviation: (F,) of the features; (w1, b1), (w2, b2): weights; K classes, output 0 is "none".
    temperature: of the class output.
    """

    classes: tuple[str, ...]
    mean: F32
    deviation: F32
    w1: F32
    b1: F32
    w2: F32
    b2: F32
    temperature: float = 1.0


@dataclass(frozen=True)
class Trained:
    """Networks of both senses, and the weights (2,) and bias (K + 1,) of their fusion."""

    vision: Perceptron
    emg: Perceptron
    weights: F64
    bias: F64

    def graph(self) -> bytes:
        """As ONNX: inputs `vision` and `emg` (rows, F); of each the outputs `_classes` (rows, K + 1) log
        probabilities and `_regions` (rows, 4) probabilities.
        """
        from onnx import TensorProto, checker, helper, numpy_helper

        nodes = []
        constants = []
        inputs = []
        outputs = []
        for sense, network in (("vision", self.vision), ("emg", self.emg)):
            split = 1 + len(network.classes)
            values = {
                "mean": network.mean,
                "deviation": network.deviation,
                "low": np.float32(-6.0),
                "high": np.float32(6.0),
                "w1": network.w1,
                "b1": network.b1,
                "w2": network.w2,
                "b2": network.b2,
                "temperature": np.float32(network.temperature),
                "sizes": np.array([split, len(EVENT_REGIONS)]),
            }
            constants += [
                numpy_helper.from_array(np.asarray(value), f"{sense}/{name}")
                for name, value in values.items()
            ]
            steps: list[tuple[str, list[str], list[str], dict[str, int]]] = [
                ("Sub", [sense, "/mean"], ["/centred"], {}),
                ("Div", ["/centred", "/deviation"], ["/scaled"], {}),
                ("Clip", ["/scaled", "/low", "/high"], ["/standard"], {}),
                ("Gemm", ["/standard", "/w1", "/b1"], ["/into"], {}),
                ("Relu", ["/into"], ["/hidden"], {}),
                ("Gemm", ["/hidden", "/w2", "/b2"], ["/out"], {}),
                ("Split", ["/out", "/sizes"], ["/logits", "/places"], {"axis": 1}),
                ("Div", ["/logits", "/temperature"], ["/tempered"], {}),
                ("LogSoftmax", ["/tempered"], ["_classes"], {"axis": 1}),
                ("Sigmoid", ["/places"], ["_regions"], {}),
            ]
            for kind, taken, outputs_of_step, options in steps:
                names = [
                    [name if name == sense else sense + name for name in part]
                    for part in (taken, outputs_of_step)
                ]
                nodes.append(helper.make_node(kind, *names, **options))
            shape = ["rows", len(network.mean)]
            inputs.append(helper.make_tensor_value_info(sense, TensorProto.FLOAT, shape))
            for name, count in (("_classes", split), ("_regions", len(EVENT_REGIONS))):
                outputs.append(
                    helper.make_tensor_value_info(sense + name, TensorProto.FLOAT, ["rows", count])
                )
        graph = helper.make_graph(nodes, "spotter", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        about = {
            "kind": "spotter",
            "version": VERSION,
            "classes": list(self.vision.classes),
            "weights": self.weights.tolist(),
            "bias": self.bias.tolist(),
        }
        model.metadata_props.add(key="eifer", value=json.dumps(about))
        checker.check_model(model)
        return bytes(model.SerializeToString())


def from_weights(path: Path) -> Trained:
    """Read a spotter of before it was ONNX: arrays in an `.npz`. Raises ModelError where it is none."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            data = {name: archive[name] for name in archive.files}
        classes = tuple(json.loads(str(data["meta"]))["classes"])
        vision, emg = (
            Perceptron(
                classes,
                temperature=float(data[f"{sense}/temperature"]),
                **{name: data[f"{sense}/{name}"] for name in ("mean", "deviation", "w1", "b1", "w2", "b2")},
            )
            for sense in ("vision", "emg")
        )
        return Trained(vision, emg, data["weights"], data["bias"])
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise ModelError(f"{path}: not the weights of a spotter ({error})") from None


def train_network(
    x: F32,
    label: npt.NDArray[np.int64],
    regions: F64,
    classes: tuple[str, ...],
    *,
    seed: int,
    epochs: int,
    hidden: int = HIDDEN,
) -> Perceptron:
    """Fit one network: cross-entropy of the classes plus binary cross-entropy of the regions where there is
    an event.
    """
    import torch
    from torch import nn

    from eifer_ros.training.loop import Budget, Loop, cosine_fall, descend_epoch, set_rates

    torch.manual_seed(seed)
    mean = x.mean(axis=0)
    deviation = x.std(axis=0) + 1e-3
    data = torch.from_numpy(np.clip((x - mean) / deviation, -6.0, 6.0).astype(np.float32))
    target, where = torch.from_numpy(label), torch.from_numpy(regions.astype(np.float32))
    split = 1 + len(classes)
    net = nn.Sequential(
        nn.Linear(x.shape[1], hidden),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(hidden, split + len(EVENT_REGIONS)),
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=2e-2)
    random = torch.Generator().manual_seed(seed)

    def loss(batch: Any) -> Any:
        noisy = data[batch] + 0.05 * torch.randn(len(batch), data.shape[1], generator=random)
        out = net(noisy)
        event = target[batch] > 0
        value = nn.functional.cross_entropy(out[:, :split], target[batch], label_smoothing=0.02)
        if event.any():
            value = value + 0.5 * nn.functional.binary_cross_entropy_with_logits(
                out[event, split:], where[batch][event]
            )
        return value

    def advance(step: int, along: float) -> dict[str, float]:
        set_rates(optimizer, 3e-3 * cosine_fall(along))
        return descend_epoch(optimizer, loss, torch.arange(len(data)), 512, random)

    Loop(Budget(epochs)).run(advance)
    net.eval()
    first = net[0]
    last = net[3]
    w1, b1, w2, b2 = (
        value.detach().numpy().copy() for value in (first.weight.T, first.bias, last.weight.T, last.bias)
    )
    return Perceptron(classes, mean.astype(np.float32), deviation.astype(np.float32), w1, b1, w2, b2)


def log_probabilities(network: Perceptron, x: F32) -> F64:
    """(N, K + 1) of (N, F)."""
    standard = np.clip((x - network.mean) / network.deviation, -6.0, 6.0)
    hidden = np.maximum(standard @ network.w1 + network.b1, 0.0)
    logits = (hidden @ network.w2 + network.b2).astype(np.float64)[:, : 1 + len(network.classes)]
    return np.asarray(log_softmax(logits / network.temperature, axis=1))


def fit_fusion(vision: F64, emg: F64, label: npt.NDArray[np.int64]) -> tuple[F64, F64]:
    """Weights (2,) and bias (K + 1,) of the joined answer, by maximum likelihood; of the bias, only that of
    "none" is fitted.
    """
    bias = np.zeros(vision.shape[1])

    def loss(p: F64) -> float:
        total = p[0] * vision + p[1] * emg
        total[:, 0] += p[2]
        total -= total.max(axis=1, keepdims=True)
        log_p = total - np.log(np.exp(total).sum(axis=1, keepdims=True))
        return float(-log_p[np.arange(len(label)), label].mean())

    best = minimize(loss, np.array([0.8, 0.8, 0.0]), method="Nelder-Mead", options={"maxiter": 300})
    bias[0] = best.x[2]
    return np.asarray(best.x[:2], np.float64), bias


def fit_temperature(network: Perceptron, x: F32, label: npt.NDArray[np.int64]) -> Perceptron:
    """The network with the temperature that makes its probabilities most likely on rows it was not trained
    on.
    """
    raw = log_probabilities(network, x)
    best = 1.0
    value = np.inf
    for temperature in np.geomspace(0.5, 3.0, 25):
        scaled = raw / temperature
        log_p = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
        loss = -log_p[np.arange(len(label)), label].mean()
        if loss < value:
            best = float(temperature)
            value = float(loss)
    return replace(network, temperature=best)


def committee(networks: Sequence[Perceptron]) -> Perceptron:
    """One network that answers with the mean of the logits of several of the same training set."""
    one, share = networks[0], 1.0 / len(networks)
    return replace(
        one,
        w1=np.concatenate([net.w1 for net in networks], axis=1),
        b1=np.concatenate([net.b1 for net in networks]),
        w2=np.concatenate([share * net.w2 for net in networks]).astype(np.float32),
        b2=np.asarray(share * np.sum([net.b2 for net in networks], axis=0), np.float32),
    )


@dataclass(frozen=True)
class People:
    """Whom the networks learn from, and how."""

    people: int = option(16, "how many")
    minutes: float = option(4.0, "of each person")
    first: int = option(20_000, "seed of the first person; the benchmark uses others")
    pictures: bool = option(True, "learn from the people who are drawn, too (25 of 35 minutes of a core)")
    epochs: int = option(22, "passes over the data")
    members: int = option(5, "networks whose mean answers")


def train(
    rows: Rows, *, seed: int = 0, epochs: int = People.epochs, members: int = People.members
) -> Trained:
    """Networks, temperatures and fusion from rows of several people.

    Temperatures and fusion are fitted on every fourth person with networks that have not seen them; then
    everybody is learnt from.
    """
    participants = np.unique(rows.person)
    apart = np.isin(rows.person, participants[:: 4 if len(participants) > 4 else 2])

    def learnt(sense: str, selection: npt.NDArray[np.bool_]) -> Perceptron:
        x = getattr(rows, sense)[selection]
        return committee(
            [
                train_network(
                    x,
                    rows.label[selection],
                    rows.regions[selection],
                    MICRO_CLASSES,
                    seed=seed + member,
                    epochs=epochs,
                )
                for member in range(members)
            ]
        )

    networks = {}
    answers = []
    for sense in ("vision", "emg"):
        x = getattr(rows, sense)[apart]
        trial = fit_temperature(learnt(sense, ~apart), x, rows.label[apart])
        answers.append(log_probabilities(trial, x))
        networks[sense] = replace(learnt(sense, np.ones(len(apart), bool)), temperature=trial.temperature)
    weights, bias = fit_fusion(answers[0], answers[1], rows.label[apart])
    return Trained(networks["vision"], networks["emg"], weights, bias)


DRAWN = (
    *(("micro", person, 30.0) for person in range(9001, 9015)),
    *(("micro_talking", person, 24.0) for person in (9023, 9026, 9029, 9032)),
)
"""Programme, person and seconds of what is drawn, so that the networks know what the reconstruction makes of
noise and blinks.
"""
DRAWN_WEIGHT = 8
"""How often each drawn row counts."""


def gather(participants: Sequence[int], minutes: float, *, drawn: bool = True, say: Any = None) -> Rows:
    """Rows of all people in all programmes, of those in `DRAWN`, and their mirror images."""
    parts = []
    for program, participant, seconds in DRAWN if drawn else ():
        parts += [
            rows_of(take(participant, program, seconds, drawn=True), np.random.default_rng([participant, 1]))
        ] * DRAWN_WEIGHT
        if say is not None:
            say(f"person {participant}: drawn")
    for participant in participants:
        lag = float(np.random.default_rng([participant, 77]).uniform(0.05, 0.09))
        for program, share in zip(PROGRAMS, SHARES, strict=True):
            one = take(participant, program, 60.0 * minutes * share, lag_s=lag)
            parts.append(rows_of(one, np.random.default_rng([participant, 1])))
        if say is not None:
            say(f"person {participant}: {sum(len(part.label) for part in parts)} rows")
    rows = join(parts)
    return join([rows, mirror(rows)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: simulate, train, and write the spotter's networks."""
    options = parser(__doc__, People)
    options.add_argument("out", type=Path, help="where the networks go (.onnx)")
    options.add_argument("--weights", type=Path, help="train nothing: write this older .npz as ONNX")
    values = options.parse_args(arguments)
    if values.weights is not None:
        values.out.write_bytes(from_weights(values.weights).graph())
        return
    how = settings_of(People, values)
    rows = gather(
        range(how.first, how.first + how.people),
        how.minutes,
        drawn=how.pictures,
        say=lambda text: print(text, file=sys.stderr),
    )
    trained = train(rows, epochs=how.epochs, members=how.members)
    values.out.write_bytes(trained.graph())


if __name__ == "__main__":
    run(main)
