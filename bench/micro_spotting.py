"""Micro-expressions spotted in pictures, in EMG and in both, on people nobody learnt from; called by
`bench/micro.py`.

Spotting as in MEGC: an event counts as found where the intervals overlap by at least half of their union. The
picture is drawn, read by the reconstruction under sensors (25 pictures a second) and by the micro-motion
estimator (every picture); the muscles are simulated electrodes through the EMG component. Everything goes
through the component as it would live.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context

import numpy as np

from bench import note, report
from eifer_ros.emg.emg_processing import EmgConfig, EmgProcessing
from eifer_ros.micro.event_spotter import Spotter, SpotterConfig
from eifer_ros.micro.motion import MicroMotionEstimator
from eifer_ros.micro.scores import Spotting, accuracy, confusion, spotting, unweighted_f1
from eifer_ros.reconstruction.encoder.sensor_estimator import SensorEstimator
from eifer_ros.reconstruction.encoder.sensor_fit import SensorFitSettings
from eifer_ros.simulation.micro_expressions import MICRO_CLASSES, MicroEvent
from eifer_ros.simulation.participant import Participant
from eifer_ros.types import NS, EmgChunk, FaceEvent, FaceState, Frame, Item, MuscleActivity, Stamp

FIRST_PERSON = 900_300
SIZE = (640, 480)
"""As the camera of CASME II."""
FPS = 200.0
STATIC_EVERY = 8
SLOW_EVERY = 6
"""Every sixth of 200 pictures a second: a camera of 33."""
BEGIN_S = 4.0
SETTLE_S = 3.2
TAIL_S = 0.5
CHUNK = 41


@dataclass
class Counts:
    """Of one sense in one programme."""

    total: Spotting = field(default_factory=Spotting)
    minutes: float = 0.0
    leads: list[float] = field(default_factory=list)

    def join(self, other: Counts) -> None:
        """Those of another person."""
        self.total += other.total
        self.minutes += other.minutes
        self.leads += other.leads

    def add(self, given: list[FaceEvent], true: list[FaceEvent], begin: Stamp, end: Stamp) -> None:
        """Events whose apex lies within [begin, end]."""
        inside = [event for event in given if begin <= event.stamp <= end]
        found = spotting(inside, true)
        self.total += found
        self.minutes += (end - begin) / NS / 60.0
        self.leads += [one.lead_s for one, _ in found.pairs if np.isfinite(one.lead_s)]


def activity(participant: Participant, begin_s: float, end_s: float) -> Iterator[MuscleActivity]:
    """What the EMG component makes of the participant's electrodes."""
    component = EmgProcessing(EmgConfig())
    component.setup()
    electrodes = participant.electrodes
    first = participant.sample_index(begin_s - 2.0)
    last = participant.sample_index(end_s + 0.5)
    for number, start in enumerate(range(first, last, CHUNK)):
        stamp = participant.stamp(start / participant.true_rate_hz)
        samples = participant.samples(start, min(CHUNK, last - start))
        for emission in component.handle(
            "emg/raw", EmgChunk(stamp, participant.rate_hz, electrodes.names, samples, number * CHUNK)
        ):
            if isinstance(emission.item, MuscleActivity):
                yield emission.item


def seen(participant: Participant, begin_s: float, end_s: float) -> Iterator[tuple[Frame, FaceState]]:
    """Pictures and what the static estimator says of every eighth."""
    head = participant.head
    static = SensorEstimator(head, SensorFitSettings())
    static.warm_up()
    state = None
    for number in range(round((end_s - begin_s) * FPS)):
        frame = participant.frame_at(begin_s + number / FPS)
        if number % STATIC_EVERY == 0:
            for _ in range(5 if number == 0 else 1):
                estimate = static.estimate(frame, frame.intrinsics, STATIC_EVERY / FPS)
            assert estimate is not None
            state = estimate.state(head, frame.stamp)
        assert state is not None
        yield frame, state


def spotter(**config: object) -> Spotter:
    """A component that is set up."""
    made = Spotter(SpotterConfig.model_validate(config))
    made.setup()
    return made


def feed(component: Spotter, port: str, item: Item) -> list[FaceEvent]:
    """The events an item leads to."""
    return [
        emission.item for emission in component.handle(port, item) if isinstance(emission.item, FaceEvent)
    ]


def true_muscle_events(participant: Participant, begin_s: float, end_s: float) -> list[FaceEvent]:
    """The true events with the times of the muscles instead of the skin's."""
    skin = participant.face_events(begin_s - 1.0, end_s + 1.0)

    def timed(event: MicroEvent) -> FaceEvent:
        same = next(one for one in skin if abs(one.stamp - participant.stamp(event.apex_s)) < 0.3 * NS)
        times = (participant.stamp(value) for value in (event.apex_s, event.onset_s, event.offset_s))
        apex, onset, offset = times
        return replace(same, stamp=apex, onset=onset, offset=offset)

    return [timed(event) for event in participant.script.micro_events(begin_s, end_s)]


def watch(seed: int, program: str, seconds: float) -> dict[str, Counts]:
    """One person, drawn: picture alone, picture and muscles, and a camera of 33 pictures a second."""
    participant = Participant(seed, program=program, size=SIZE)
    end_s = BEGIN_S + seconds
    alone = spotter(use_emg=False)
    slow = spotter(use_emg=False)
    fused = spotter()
    fast_motion = MicroMotionEstimator(participant.head)
    slow_motion = MicroMotionEstimator(participant.head)
    given: dict[str, list[FaceEvent]] = {"vision": [], "fused": [], "vision_33hz": []}
    muscles = activity(participant, BEGIN_S, end_s)
    waiting = next(muscles, None)
    for number, (frame, state) in enumerate(seen(participant, BEGIN_S, end_s)):
        while waiting is not None and waiting.stamp <= frame.stamp:
            given["fused"] += feed(fused, "emg/activity", waiting)
            waiting = next(muscles, None)
        passes = [("vision", fast_motion, (alone, fused))]
        if number % SLOW_EVERY == 0:
            passes.append(("vision_33hz", slow_motion, (slow,)))
        for sense, motion, listeners in passes:
            result = motion.update(frame, state)
            if result is None:
                continue
            for listener in listeners:
                name = "fused" if listener is fused else sense
                given[name] += feed(listener, "camera/image_raw", frame)
                given[name] += feed(listener, "face/vision", result.fine)
                given[name] += feed(listener, "face/displacement", result.field(participant.head))
    for item in muscles:
        given["fused"] += feed(fused, "emg/activity", item)
    first = BEGIN_S + SETTLE_S
    last = end_s - TAIL_S
    counts = {}
    for sense, events in given.items():
        counts[sense] = Counts()
        counts[sense].add(
            events, participant.face_events(first, last), participant.stamp(first), participant.stamp(last)
        )
    return counts


def feel(seed: int, program: str, seconds: float) -> dict[str, Counts]:
    """One person, the muscles alone."""
    participant = Participant(seed, program=program, sensors=False)
    component = spotter()
    end_s = BEGIN_S + seconds
    given = [
        event
        for item in activity(participant, BEGIN_S, end_s)
        for event in feed(component, "emg/activity", item)
    ]
    first = BEGIN_S + SETTLE_S
    last = end_s - TAIL_S
    counts = Counts()
    counts.add(
        given, true_muscle_events(participant, first, last), participant.stamp(first), participant.stamp(last)
    )
    return {"emg": counts}


def figures(quick: bool) -> None:
    """Print the figures of spotting and recognition, over rest and over talking."""
    # a minute of pictures takes about ten minutes of one core
    drawn, seconds, emg_runs, emg_run_s = (1, 10.0, 1, 30.0) if quick else (4, 24.0, 8, 60.0)
    for program, suffix in (("micro", ""), ("micro_talking", "_talking")):
        watched = 0 if quick and suffix else drawn // 2 if suffix else drawn
        counts: dict[str, Counts] = {}
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(watch, FIRST_PERSON + number, program, seconds) for number in range(watched)]
            jobs += [
                pool.submit(feel, FIRST_PERSON + number, program, emg_run_s) for number in range(emg_runs)
            ]
            for job in jobs:
                for sense, one in job.result().items():
                    counts.setdefault(sense, Counts()).join(one)
        for sense, one in counts.items():
            true = one.total.matched + one.total.missed
            report(f"micro_f1_{sense}{suffix}", one.total.f1, "F1 at IoU 0.5", true)
            report(
                f"micro_precision_{sense}{suffix}",
                one.total.precision,
                "share",
                one.total.matched + one.total.false,
            )
            report(f"micro_recall_{sense}{suffix}", one.total.recall, "share", true)
            report(f"micro_false_{sense}{suffix}", one.total.false / one.minutes, "1/min", one.total.false)
            table = confusion([(found.label, event.label) for found, event in one.total.pairs], MICRO_CLASSES)
            report(
                f"micro_accuracy_{sense}{suffix}", accuracy(table), "share of 8 classes", one.total.matched
            )
            report(f"micro_uf1_{sense}{suffix}", unweighted_f1(table), "UF1", one.total.matched)
            if one.leads:
                report(
                    f"micro_lead_ms{suffix}",
                    1e3 * float(np.median(one.leads)),
                    "ms EMG onset before the picture's",
                    len(one.leads),
                )
    note("micro: events of 5 to 20 % of a full movement; matched with the truth at IoU 0.5 (MEGC)")


def run(quick: bool) -> None:
    """The same by itself."""
    figures(quick)


if __name__ == "__main__":
    import sys

    run(quick="--quick" in sys.argv)
