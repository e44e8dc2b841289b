from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from eifer_ros.component import Emission, Level
from eifer_ros.config import build, load
from eifer_ros.emg.emg_processing import EmgConfig, EmgProcessing
from eifer_ros.errors import ConfigError
from eifer_ros.hosts.local import LocalHost
from eifer_ros.recording.reader import read
from eifer_ros.recording.writer import BagWriter
from eifer_ros.registry import CAMERAS, EMG_SOURCES
from eifer_ros.simulation.participant import START
from eifer_ros.simulation.performer import Performer, PerformerCamera, PerformerConfig, PerformerEmg, simulate
from eifer_ros.types import NS, EmgChunk, FaceEvent, FaceOrigin, FaceState, Marker, MuscleActivity, Stamp

SMALL = {"width": 64, "height": 48, "seed": 7}


def offline(**values: object) -> PerformerConfig:
    return build(PerformerConfig, {**SMALL, "speed": 0, "duration_s": 2.0, **values}, "test")


def of(emissions: list[Emission], port: str) -> list:
    return [emission.item for emission in emissions if emission.port == port]


class FakeClock:
    """Time that passes only by waiting, and where a test moves it."""

    def __init__(self, start: Stamp) -> None:
        self.time = start
        self.waits: list[Stamp] = []

    def now(self) -> Stamp:
        return self.time

    def wait_until(self, stamp: Stamp, stop: threading.Event) -> None:
        self.waits.append(stamp)
        self.time = max(self.time, stamp)


@pytest.fixture(scope="module")
def two_seconds() -> list[Emission]:
    return list(Performer(offline()).produce())


def test_everything_comes_in_the_order_of_stamps(two_seconds: list[Emission]) -> None:
    stamps = [emission.item.stamp for emission in two_seconds]
    assert stamps == sorted(stamps)
    assert stamps[0] == START
    assert stamps[-1] < START + 2 * NS
    ports = {port.name for port in Performer.outputs} - {
        "truth/events"
    }  # this programme has no micro-expressions
    assert {emission.port for emission in two_seconds} == ports
    for emission in two_seconds:
        assert isinstance(
            emission.item, next(port.item for port in Performer.outputs if port.name == emission.port)
        )


def test_rates_are_those_of_the_configuration(two_seconds: list[Emission]) -> None:
    assert len(of(two_seconds, "camera/image_raw")) == len(of(two_seconds, "truth/face")) == 60
    assert len(of(two_seconds, "truth/muscles")) == 200
    assert len(of(two_seconds, "head_model")) == len(of(two_seconds, "emg/raw_channels")) == 1
    assert sum(len(chunk.samples) for chunk in of(two_seconds, "emg/raw")) == pytest.approx(4096, abs=2)


def test_packets_join_without_gap_or_overlap(two_seconds: list[Emission]) -> None:
    chunks: list[EmgChunk] = of(two_seconds, "emg/raw")
    index = 0
    for chunk in chunks:
        assert chunk.first_index == index
        assert chunk.lost == 0
        index += len(chunk.samples)
    source = PerformerEmg(offline())
    assert np.array_equal(
        np.concatenate([chunk.samples for chunk in chunks]), source.participant.emg(0.0, 2.0)
    )
    raw = np.concatenate([chunk.raw_stamps for chunk in chunks])
    assert np.allclose(np.diff(raw), 1.0 / 2048.0)


def test_the_devices_clock_drifts_against_the_stamps() -> None:
    source = PerformerEmg(offline(duration_s=1.0, start_s=1000.0))
    chunk = of(list(source.produce()), "emg/raw")[-1]
    true_s = (chunk.stamp - START) / NS
    drift_ppm = 1e6 * (chunk.raw_stamps[0] / true_s - 1.0)
    assert drift_ppm == pytest.approx(source.participant.drift_ppm, abs=0.01)
    assert abs(drift_ppm) > 0.1


def test_dropped_packets_are_counted_in_the_next_one() -> None:
    source = PerformerEmg(offline(duration_s=30.0, artefacts=("drops",)))
    chunks: list[EmgChunk] = of(list(source.produce()), "emg/raw")
    lost = sum(chunk.lost for chunk in chunks)
    assert lost > 0
    assert lost % 32 == 0
    for before, after in pairwise(chunks):
        assert after.first_index == before.first_index + len(before.samples) + after.lost
        assert (after.stamp - before.end_stamp) / NS == pytest.approx(after.lost / 2048.0, abs=1e-6)
    assert source.health().values["lost"] == lost


def test_camera_and_amplifier_in_different_processes_agree(two_seconds: list[Emission]) -> None:
    camera, emg = (
        list(PerformerCamera(offline(duration_s=0.2)).produce()),
        list(PerformerEmg(offline(duration_s=0.2)).produce()),
    )
    for alone, port in (
        (camera, "truth/face"),
        (camera, "camera/image_raw"),
        (emg, "emg/raw"),
        (emg, "truth/muscles"),
    ):
        together = [item for item in of(two_seconds, port) if item.stamp < START + NS // 5 - NS // 50]
        assert len(of(alone, port)) >= len(together) > 0, port
        for one, other in zip(of(alone, port), together, strict=False):
            assert one.stamp == other.stamp
            for field in ("image", "samples", "expression", "head_pose", "envelope"):
                if hasattr(one, field):
                    assert np.array_equal(getattr(one, field), getattr(other, field))


def test_micro_expressions_are_told_as_true_events_and_marked(tmp_path: Path) -> None:
    config = offline(program="micro", duration_s=12.0, fps=5.0, truth_hz=5.0, artefacts=())
    emissions = list(Performer(config).produce())
    stamps = [emission.item.stamp for emission in emissions]
    assert stamps == sorted(stamps)
    events: list[FaceEvent] = of(emissions, "truth/events")
    assert len(events) >= 3
    marks = [(m.label, m.phase) for m in of(emissions, "truth/movement") if m.label.startswith("Micro-")]
    assert marks == [
        mark
        for e in events
        for mark in ((f"Micro-{e.label.capitalize()}", "start"), (f"Micro-{e.label.capitalize()}", "end"))
    ]
    for event in events:
        assert event.origin == FaceOrigin.TRUTH
        assert event.classes[int(event.probabilities.argmax())] == event.label
        assert 0.0 < event.lead_s < config.lag_s
        assert event.duration_s <= 0.5
    with BagWriter(tmp_path / "bag", wait=True) as bag:
        for emission in emissions:
            bag.write(*emission)
    back = [item for _, port, item in read(tmp_path / "bag") if port == "truth/events"]
    assert [(e.stamp, e.onset, e.offset, e.regions, e.label) for e in back] == [
        (e.stamp, e.onset, e.offset, e.regions, e.label) for e in events
    ]


def test_live_an_event_is_told_when_it_is_over() -> None:
    source = PerformerCamera(offline(program="micro", duration_s=6.0, speed=1, fps=1.0), FakeClock(START))
    clock = source._clock
    assert isinstance(clock, FakeClock)
    told = [(emission.item, clock.time) for emission in source.produce() if emission.port == "truth/events"]
    assert told
    for event, when in told:
        assert when == event.offset


def test_markers_tell_when_movements_begin_and_end() -> None:
    emissions = list(PerformerEmg(offline(duration_s=12.0)).produce())
    markers: list[Marker] = of(emissions, "truth/movement")
    assert [(m.label, m.phase) for m in markers[:4]] == [
        ("Face-At-Rest", "start"),
        ("Face-At-Rest", "end"),
        ("Forehead", "start"),
        ("Forehead", "end"),
    ]
    held = (markers[2].stamp + markers[3].stamp) // 2
    truth: list[MuscleActivity] = of(emissions, "truth/muscles")
    near = min(truth, key=lambda item: abs(item.stamp - held))
    assert near.activation[:4].min() > 0.5


def test_live_items_come_no_earlier_than_they_can_exist() -> None:
    clock = FakeClock(START + 1000 * NS)
    source = Performer(build(PerformerConfig, {**SMALL, "duration_s": 0.5}, "test"), clock)
    for emission in source.produce():
        item = emission.item
        complete = item.end_stamp - NS // 1000 if isinstance(item, EmgChunk) else item.stamp
        assert clock.time >= complete
        assert item.stamp >= START + 1000 * NS
    assert clock.time >= START + 1000 * NS + 450 * NS // 1000
    assert clock.waits == sorted(clock.waits)


def test_live_shows_the_moment_of_the_clock_and_not_the_beginning() -> None:
    clock = FakeClock(START + 7 * NS)
    live = PerformerCamera(build(PerformerConfig, {**SMALL, "duration_s": 0.05}, "test"), clock)
    face: FaceState = of(list(live.produce()), "truth/face")[0]
    assert np.array_equal(
        face.expression, live.participant.face_at(live.participant.time(face.stamp)).expression
    )
    assert face.stamp == pytest.approx(START + 7 * NS, abs=NS // 25)


def test_a_slow_computer_skips_pictures_and_says_so_but_keeps_all_emg() -> None:
    clock = FakeClock(START)
    source = Performer(build(PerformerConfig, {**SMALL, "duration_s": 1.0}, "test"), clock)
    emissions = []
    for emission in source.produce():
        emissions.append(emission)
        if emission.port == "camera/image_raw":
            clock.time += NS // 15  # drawing takes twice as long as a picture lasts
    assert 13 <= len(of(emissions, "camera/image_raw")) <= 17
    assert sum(len(chunk.samples) for chunk in of(emissions, "emg/raw")) == pytest.approx(2048, abs=40)
    assert source.health().level == Level.WARN
    assert "30 pictures" in source.health().message


def test_a_live_host_draws_pictures_beside_the_emg_and_gets_the_same() -> None:
    clock, other = FakeClock(START + 9 * NS), FakeClock(START + 9 * NS)
    config = build(PerformerConfig, {**SMALL, "duration_s": 0.5}, "test")
    pictures, emg = Performer(config, clock).branches()
    apart = [*pictures()]
    clock.time = START + 9 * NS
    apart += [*emg()]
    together = list(Performer(config, other).produce())
    assert sorted((e.port, e.item.stamp) for e in apart) == sorted((e.port, e.item.stamp) for e in together)
    assert {e.port for e in apart if e.port.startswith("emg")}.isdisjoint(e.port for e in pictures())
    for port in ("camera/image_raw", "emg/raw"):
        for one, two in zip(of(apart, port), of(together, port), strict=True):
            assert (
                np.array_equal(one.image, two.image)
                if port.startswith("camera")
                else np.array_equal(one.samples, two.samples)
            )
    assert len(Performer(offline()).branches()) == 1


def test_a_performance_without_end_and_without_micro_expressions_or_movements_still_shows_pictures() -> None:
    for program in ("session", "rest"):
        source = Performer(
            build(PerformerConfig, {**SMALL, "program": program}, "test"), FakeClock(START + 30 * NS)
        )
        pictures, emg = (branch() for branch in source.branches())
        assert next(e for e in pictures if e.port == "camera/image_raw").item.stamp >= START + 30 * NS
        assert next(e for e in emg if e.port == "emg/raw").item.stamp >= START + 29 * NS


def test_bursts_deliver_packets_together() -> None:
    clock = FakeClock(START)
    source = PerformerEmg(
        build(PerformerConfig, {**SMALL, "duration_s": 1.0, "artefacts": ("bursts",)}, "test"), clock
    )
    arrivals = [clock.time for emission in source.produce() if emission.port == "emg/raw"]
    assert len(set(arrivals)) <= 21 < len(arrivals)
    assert all(arrival % (NS // 20) == 0 for arrival in arrivals)


def test_stop_ends_a_live_performance_without_end() -> None:
    source = PerformerEmg(build(PerformerConfig, {**SMALL}, "test"))
    source.setup()
    seen = threading.Event()

    def work() -> None:
        for _ in source.produce():
            seen.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert seen.wait(120.0)
    source.stop()
    thread.join(120.0)
    assert not thread.is_alive()


def test_the_whole_chain_runs_from_the_participant_to_muscle_activity() -> None:
    config = offline(duration_s=12.0, artefacts=("usual",))
    host = LocalHost({"performer": PerformerEmg(config), "emg": EmgProcessing(EmgConfig())})
    activity: list[MuscleActivity] = []
    truth: dict[Stamp, MuscleActivity] = {}
    host.tap(lambda _, item: activity.append(item), "emg/activity")  # type: ignore[arg-type]
    host.tap(lambda _, item: truth.__setitem__(item.stamp, item), "truth/muscles")  # type: ignore[arg-type]
    host.setup()
    host.run_offline()
    host.close()
    assert len(activity) > 1100
    assert activity[0].scheme == "fridlund"
    times = np.array([item.stamp for item in activity])
    forehead = np.array([item.envelope[0] for item in activity])
    raised = (times > START + 7.5 * NS) & (times < START + 8.5 * NS)
    calm = (times > START + 2 * NS) & (times < START + 4 * NS)
    assert np.nanmedian(forehead[raised]) > 8.0 * np.nanmedian(forehead[calm])
    assert truth


def test_simulate_reports_progress_and_ends_where_it_should() -> None:
    fractions: list[float] = []
    emissions = list(simulate(1.0 / 60.0, PerformerConfig(**SMALL), progress=fractions.append))  # type: ignore[arg-type]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len(of(emissions, "camera/image_raw")) == 30
    assert not of(list(simulate(1.0 / 60.0, PerformerConfig(**SMALL), camera=False)), "camera/image_raw")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("minutes", "streams", "message"),
    [
        (0.0, {}, "longer than 0"),
        (float("nan"), {}, "longer than 0"),
        (1.0, {"camera": False, "emg": False}, "empty"),
    ],
)
def test_an_empty_simulation_is_refused(minutes: float, streams: dict[str, bool], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        next(simulate(minutes, **streams))


def test_urls_open_the_participant() -> None:
    emg = EMG_SOURCES.open("performer:5?program=calibration&artefacts=white,mains&scheme=kuramoto&speed=0")
    assert isinstance(emg, PerformerEmg)
    assert emg.config.seed == 5
    assert emg.config.artefacts == ("white", "mains")
    assert emg.config.scheme == "kuramoto"
    assert not emg.live
    camera = CAMERAS.open("performer:5", width=80, height=60)
    assert isinstance(camera, PerformerCamera)
    assert camera.participant.size == (80, 60)
    both = "performer:5?program=micro&artefacts=white&fps=200"
    one, other = CAMERAS.open(both, width=80, height=60), EMG_SOURCES.open(both)
    assert isinstance(one, PerformerCamera) and isinstance(other, PerformerEmg)
    assert one.config.program == other.config.program == "micro" and one.config.fps == 200.0
    with pytest.raises(ConfigError, match=r"program = .*nonsense"):
        EMG_SOURCES.open("performer:5?program=nonsense")
    with pytest.raises(ConfigError, match="artefact 'whit'"):
        EMG_SOURCES.open("performer:5?artefacts=whit")


def test_the_configuration_file_lists_every_parameter_with_its_default(root: Path) -> None:
    path = root / "config" / "performer.yaml"
    assert load(PerformerConfig, "performer", path) == PerformerConfig()
    text = path.read_text()
    assert all(f"{name}:" in text for name in PerformerConfig.model_fields)
