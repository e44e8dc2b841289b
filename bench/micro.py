"""Micro-expressions: motion per vertex against the static estimator, false motion, time, each module removed
in turn; spotting.

People that nothing was learnt from (`evaluation.protocol.PARTICIPANTS`), micro-expressions of the simulated
participant between 8 and 12 % of the full movement, no blink within the clip. Motion is counted from the half
second before the onset: from its mean for the truth and for the static estimator, from its own running
neutral for the motion estimator.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from bench import micro_spotting, note, report
from eifer_ros.evaluation.protocol import PARTICIPANTS
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.micro.geometry import FaceSkin
from eifer_ros.micro.motion import MicroMotionEstimator, MicroSettings, Modules
from eifer_ros.reconstruction.encoder.sensor_estimator import SensorEstimator
from eifer_ros.reconstruction.encoder.sensor_fit import SensorFitSettings
from eifer_ros.render import shade
from eifer_ros.simulation.micro_expressions import MicroEvent
from eifer_ros.simulation.participant import Participant
from eifer_ros.types import F32, F64, FaceState, Frame

LEAD_S = 0.8
TAIL_S = 0.05
INTENSITY = (0.08, 0.12)
"""What counts as 10 %."""


@dataclass
class Clip:
    """One micro-expression of one person as pictures, as the static estimator sees it, and as it truly is."""

    label: str
    rate_hz: float
    sensors: bool
    frames: list[Frame] = field(default_factory=list)
    states: list[FaceState] = field(default_factory=list)
    truth: list[F32] = field(default_factory=list)
    """(M, 3) m, the face's own skin."""
    before: list[bool] = field(default_factory=list)
    during: list[bool] = field(default_factory=list)


class Static:
    """The frame-by-frame estimator."""

    def __init__(self, head: HeadModel) -> None:
        self.head = head
        self.estimator = SensorEstimator(head, SensorFitSettings())
        self.estimator.warm_up()

    def see(self, frame: Frame, elapsed_s: float) -> FaceState | None:
        """Its face of one picture."""
        assert frame.intrinsics is not None
        found = self.estimator.estimate(frame, frame.intrinsics, elapsed_s)
        return None if found is None else found.state(self.head, frame.stamp)


def tenth(seed: int, sensors: bool) -> tuple[Participant, MicroEvent]:
    """The first micro-expression of a person at about 10 % with no blink around it."""
    for session in range(100):
        participant = Participant(seed, session, program="micro", sensors=sensors)
        for event in participant.micro_events(2.0, 60.0):
            blinks = participant.script.blinks(event.onset_s - LEAD_S - 0.4, event.offset_s + 0.1)
            if INTENSITY[0] <= event.intensity <= INTENSITY[1] and len(blinks) == 0:
                return participant, event
    raise RuntimeError(f"person {seed} shows nothing at {INTENSITY}")


def clip(static: Static, skin: FaceSkin, seed: int, rate_hz: float, sensors: bool) -> Clip | None:
    """Render it and let the static estimator see it; None where it finds no face."""
    participant, event = tenth(seed, sensors)
    out = Clip(event.label, rate_hz, sensors)
    static.estimator.reset()
    for time_s in np.arange(event.onset_s - LEAD_S, event.offset_s + TAIL_S, 1.0 / rate_hz):
        frame = participant.frame_at(float(time_s))
        for _ in range(1 if out.states else 4):  # the static estimator settles on the person first
            state = static.see(frame, 1.0 / rate_hz)
        if state is None:
            return None
        out.frames.append(frame)
        out.states.append(state)
        out.truth.append(participant.vertices_at(float(time_s))[skin.vertices])
        out.before.append(bool(event.onset_s - 0.5 <= time_s < event.onset_s))
        out.during.append(bool(event.onset_s <= time_s <= event.offset_s))
    return out


def people(quick: bool) -> Sequence[tuple[int, float, bool]]:
    """Who, at which rate, under sensors or bare: half each, crossed."""
    chosen = PARTICIPANTS[:3] if quick else PARTICIPANTS
    return [
        (seed, (100.0, 200.0)[i // 2 % 2] if not quick else 100.0, i % 2 == 0)
        for i, seed in enumerate(chosen)
    ]


def static_motion(head: HeadModel, skin: FaceSkin, one: Clip) -> F64:
    """(T, M, 3) m motion of the static estimator from the mean of its own neutral; with the shape it ends on,
    which is the best it has.
    """
    shape = one.states[-1].shape
    faces = np.array(
        [head.vertices(shape, s.expression, eyes=s.eyes)[skin.vertices] for s in one.states], np.float64
    )
    return np.asarray(faces - faces[np.array(one.before)].mean(axis=0))


def true_motion(one: Clip) -> F64:
    """(T, M, 3) m."""
    faces = np.array(one.truth, np.float64)
    return np.asarray(faces - faces[np.array(one.before)].mean(axis=0))


def motion(head: HeadModel, skin: FaceSkin, one: Clip, modules: Modules) -> F64:
    """(T, M, 3) m motion of the motion estimator, as it comes."""
    estimator = MicroMotionEstimator(head, MicroSettings(modules=modules))
    out = np.zeros((len(one.frames), len(skin.vertices), 3))
    for number, (frame, state) in enumerate(zip(one.frames, one.states, strict=True)):
        found = estimator.update(frame, state)
        if found is not None:
            out[number] = found.motion(head)[skin.vertices]
    return out


def rms_mm(field_m: F64) -> float:
    """Root mean square length of vectors (..., 3), mm."""
    return 1e3 * float(np.sqrt((field_m**2).sum(axis=-1).mean()))


def correlation(found: F64, true: F64) -> float:
    """Pearson's r over all vertices, axes and pictures."""
    return float(np.corrcoef(found.ravel(), true.ravel())[0, 1])


def removed() -> Iterator[tuple[str, Modules]]:
    """Every module taken out in turn."""
    whole = Modules()
    yield "all", whole
    for name in vars(whole):
        yield f"without_{name}", Modules(**{name: False})


def per_vertex(quick: bool) -> None:
    """`micro_motion_error_ratio`, `micro_motion_r`, and the same with each module removed."""
    head = load_head()
    skin = FaceSkin.of(head)
    static = Static(head)
    clips = [one for who in people(quick) if (one := clip(static, skin, *who)) is not None]
    still = [(static_motion(head, skin, one), true_motion(one), np.array(one.during)) for one in clips]
    base = [rms_mm((s - t)[d]) for s, t, d in still]
    none = [rms_mm(t[d]) for _, t, d in still]
    for name, modules in removed():
        if quick and name not in ("all",):
            continue
        errors = []
        rs = []
        for one, (_, true, during) in zip(clips, still, strict=True):
            found = motion(head, skin, one, modules)
            errors.append(rms_mm((found - true)[during]))
            rs.append(correlation(found[during], true[during]))
        tail = "" if name == "all" else f"_{name}"
        ratio = float(np.mean(np.array(errors) / np.array(base)))
        report(
            f"micro_motion_error_ratio{tail}",
            ratio,
            "error per vertex over the static estimator's, mean of people, 10 % intensity",
            len(clips),
        )
        report(
            f"micro_motion_r{tail}",
            float(np.mean(rs)),
            "r of motion per vertex with the truth, mean",
            len(clips),
        )
        if name == "all":
            over = float(np.mean(np.array(errors) / np.array(none)))
            report(
                "micro_motion_error_over_motion",
                over,
                "error over the true motion (1 is what 'nothing moves' scores)",
                len(clips),
            )
            report("micro_motion_error_mm", float(np.mean(errors)), "mm, root mean square", len(clips))
            report("micro_static_error_mm", float(np.mean(base)), "mm, static estimator", len(clips))
            for one, error, s, r in zip(clips, errors, base, rs, strict=True):
                where = f"{one.label} {one.rate_hz:.0f}/s {'sensors' if one.sensors else 'bare'}"
                note(f"{where}: {error:.4f} mm, static {s:.4f} mm, r {r:.3f}")
    report(
        "micro_static_r",
        float(np.mean([correlation(s[d], t[d]) for s, t, d in still])),
        "r of the static estimator",
        len(clips),
    )


def still_head(quick: bool) -> None:
    """`micro_still_mm`: face and head perfectly still, noise of the camera alone; `micro_sway_mm`: the head
    sways, the face rests.
    """
    head = load_head()
    skin = FaceSkin.of(head)
    static = Static(head)
    chosen = PARTICIPANTS[:2] if quick else PARTICIPANTS[:6]
    for figure, sways in (("micro_still_mm", False), ("micro_sway_mm", True)):
        found = []
        rate_hz = 100.0
        for number, seed in enumerate(chosen):
            participant = Participant(seed, 0, program="rest", sensors=number % 2 == 0)
            estimator = MicroMotionEstimator(head)
            static.estimator.reset()
            face = participant.face_at(2.0)
            fields = []
            for step in range(60):
                time_s = 2.0 + step / rate_hz
                posed = _posed(participant, face, time_s if sways else 2.0, time_s)
                frame = participant.frame_at(time_s, posed)
                state = static.see(frame, 1.0 / rate_hz)
                if state is None:
                    continue
                result = estimator.update(frame, state)
                if result is not None and step >= 15:
                    fields.append(result.motion(head)[skin.vertices])
            found.append(rms_mm(np.array(fields, np.float64)))
        report(
            figure,
            float(np.mean(found)),
            "mm RMS per vertex, face at rest" + (", head sways" if sways else ", head still"),
            len(found),
        )


def _posed(participant: Participant, face: FaceState, pose_s: float, time_s: float) -> FaceState:
    from dataclasses import replace

    return replace(face, stamp=participant.stamp(time_s), head_pose=participant.head_pose(pose_s))


def speed(quick: bool) -> None:
    """`micro_ms`: what the motion estimator adds to a picture."""
    head = load_head()
    skin = FaceSkin.of(head)
    static = Static(head)
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    if before is not None:
        os.sched_setaffinity(0, {min(before)})
    try:
        one = clip(static, skin, PARTICIPANTS[0], 100.0, True)
        assert one is not None
        estimator = MicroMotionEstimator(head)
        estimator.warm_up()
        walls = []
        cpus = []
        for turn in range(1 if quick else 3):
            for frame, state in zip(one.frames, one.states, strict=True):
                cpu = time.process_time()
                estimator.update(frame, state)
                cpus.append(time.process_time() - cpu)
                walls.append(estimator.time_s)
            note(
                f"turn {turn}: wall {1e3 * np.median(walls):.2f} ms, processor {1e3 * np.median(cpus):.2f} ms"
            )
    finally:
        cv2.setNumThreads(threads)
        if before is not None:
            os.sched_setaffinity(0, before)
    report(
        "micro_ms",
        1e3 * float(np.median(walls)),
        "ms added to a picture, median, one core, 128 px flow",
        len(walls),
    )
    report("micro_cpu_ms", 1e3 * float(np.median(cpus)), "ms of processor time, median", len(cpus))


def picture(quick: bool) -> None:
    """Motion magnified, true and reconstructed, into the folder EIFER_BENCH_OUT."""
    out = os.environ.get("EIFER_BENCH_OUT", "")
    if not out or quick:
        return
    head = load_head()
    skin = FaceSkin.of(head)
    static = Static(head)
    rows = []
    for seed, rate_hz, sensors in people(False)[:4]:
        one = clip(static, skin, seed, rate_hz, sensors)
        if one is not None:
            rows.append(_row(head, skin, one))
    Path(out).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(Path(out) / "micro_motion.png"), np.vstack(rows)[:, :, ::-1])


def _row(
    head: HeadModel, skin: FaceSkin, one: Clip, by: float = 12.0
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The frame at the apex; true, reconstructed and static motion times `by`, coloured by its length."""
    true = true_motion(one)
    apex = int(np.argmax(np.where(one.during, (true**2).sum(axis=(1, 2)), 0.0)))
    fields = (true[apex], motion(head, skin, one, Modules())[apex], static_motion(head, skin, one)[apex])
    top = float(np.percentile(np.linalg.norm(fields[0], axis=1), 99))
    state = one.states[apex]
    K = one.frames[apex].intrinsics
    assert K is not None
    image = one.frames[apex].image
    tiles = [image[:, 80:560]]
    neutral = head.neutral(one.states[-1].shape)
    for found in fields:
        moved = neutral.copy()
        moved[skin.vertices] += (by * found).astype(np.float32)
        share = np.zeros(len(neutral), np.float32)
        share[skin.vertices] = np.clip(np.linalg.norm(found, axis=1) / top, 0.0, 1.0)
        colour = np.column_stack([0.62 + 0.33 * share, 0.62 - 0.42 * share, 0.62 - 0.50 * share])
        tiles.append(
            shade.render(moved, head.faces, K, state.head_pose, (640, 480), colour=colour)[:, 80:560]
        )
    return np.asarray(
        cv2.resize(np.hstack(tiles), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8
    )


def spotting(quick: bool) -> None:
    """F1 of spotting, see `micro_spotting.py`."""
    micro_spotting.figures(quick)


GROUPS: tuple[Callable[[bool], None], ...] = (per_vertex, still_head, speed, picture, spotting)
"""One function per group of figures."""


def run(quick: bool) -> None:
    """All figures of this area."""
    for group in GROUPS:
        group(quick)
