from __future__ import annotations

import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from eifer_ros.component import Level
from eifer_ros.emg.sources.lsl import LslConfig, LslSource
from eifer_ros.errors import ConfigError

pylsl = pytest.importorskip(
    "pylsl", reason="pylsl is not installed (extra 'lsl')", exc_type=(ImportError, RuntimeError, OSError)
)


class Outlet:
    """A stream sent by another process."""

    def __init__(self, name: str, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("lsl_outlet.py")), name, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "ready"

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def end(self) -> tuple[float, float, int]:
        """(start, period, samples sent) as the process reports them when it ends."""
        assert self.process.stdout is not None
        found = re.match(r"start (\S+) period (\S+) sent (\d+)", self.process.stdout.readline())
        assert found
        return float(found[1]), float(found[2]), int(found[3])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(120)


@pytest.fixture
def outlet() -> Iterator[Callable[..., Outlet]]:
    started: list[Outlet] = []

    def start(name: str, *options: str) -> Outlet:
        started.append(Outlet(name, *options))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def name() -> str:
    return f"eifer-test-{uuid.uuid4().hex[:8]}"


def source(name: str, **options: object) -> LslSource:
    return LslSource(LslConfig(stream=name, retry_s=0.05, **options))


def numbers(chunks: list) -> np.ndarray:
    """The sample numbers the outlet put into channel 0 (as microvolts)."""
    return np.round(np.concatenate([chunk.samples[:, 0] for chunk in chunks]) * 1e6).astype(int)


def stamps(chunks: list) -> np.ndarray:
    """Stamps of all samples in seconds after the first."""
    first = chunks[0].stamp
    return np.concatenate([(c.stamp - first) / 1e9 + np.arange(len(c.samples)) / c.rate_hz for c in chunks])


def test_a_bursty_jittering_drifting_stream_of_another_process_comes_out_even_and_whole(
    outlet, name, run
) -> None:
    sender = outlet(
        name,
        "--rate",
        "1000",
        "--channels",
        "4",
        "--burst",
        "15",
        "--jitter",
        "0.008",
        "--ppm",
        "200",
        "--seconds",
        "8",
    )
    running = run(source(name))
    _, period, sent = sender.end()
    # the first burst may be pushed before the subscription is complete
    running.until(lambda: running.received >= sent - 30, "the last samples")
    chunks = running.chunks
    index = numbers(chunks)
    assert np.array_equal(index, np.arange(index[0], index[0] + len(index)))
    assert sum(chunk.lost for chunk in chunks) == 0
    assert chunks[0].channels == ("F1", "F2", "F3", "F4")
    assert running.infos[0].rate_hz == 1000.0
    assert running.infos[0].scheme == "fridlund"
    times = stamps(chunks)
    settled = index > index[0] + 5000
    straight = times - index * period
    assert np.std(straight[settled]) < 0.5e-3
    raw = np.concatenate([chunk.raw_stamps for chunk in chunks])
    assert len(raw) == len(index)
    assert np.std(raw - index * period) > 4e-3  # raw stamps keep the jitter they came with
    assert np.all(np.diff(times) > 0)


def test_stamps_lie_on_the_wall_clock_of_acquisition(outlet, name, run) -> None:
    sender = outlet(name, "--rate", "1000", "--burst", "5", "--seconds", "2")
    running = run(source(name))
    start, period, _ = sender.end()
    running.until(
        lambda: numbers(running.chunks)[-1] >= 1980 if running.chunks else False, "the last samples"
    )
    epoch = float(np.median([time.time() - pylsl.local_clock() for _ in range(21)]))
    chunk = running.chunks[-1]
    index = round(float(chunk.samples[0, 0]) * 1e6)
    assert chunk.stamp / 1e9 == pytest.approx(epoch + start + index * period, abs=5e-3)


def test_samples_that_never_came_are_counted(outlet, name, run) -> None:
    sender = outlet(name, "--rate", "1000", "--burst", "10", "--gap", "2000:250", "--seconds", "3.5")
    running = run(source(name))
    sender.end()
    running.until(lambda: len(running.chunks) and numbers(running.chunks)[-1] >= 3490, "the last samples")
    losses = [(round(float(c.samples[0, 0]) * 1e6), c.lost) for c in running.chunks if c.lost]
    assert losses == [(2250, pytest.approx(250, abs=3))]
    gap = next(k for k, c in enumerate(running.chunks) if c.lost)
    before, after = running.chunks[gap - 1], running.chunks[gap]
    assert after.first_index == before.first_index + len(before.samples) + after.lost


def test_silence_shows_in_health_within_a_second_and_ends_by_itself(outlet, name, run) -> None:
    sender = outlet(name, "--rate", "1000")
    running = run(source(name))
    running.until(lambda: running.received > 300, "samples")
    sender.say("pause")
    running.until(lambda: running.source.health().level == Level.STALE, "STALE")
    health = running.source.health()
    assert "no samples for" in health.message
    assert (
        running.source.config.stale_after_s < 1.0
    )  # health is looked at once a second; silence must show at the next look
    assert health.values["silent_s"] >= running.source.config.stale_after_s
    sender.say("resume")
    got = running.received
    running.until(
        lambda: running.received > got + 100 and running.source.health().level != Level.STALE, "samples again"
    )


def test_an_outlet_that_dies_and_comes_back_with_other_channels_and_rate_is_announced_anew(
    outlet, name, run
) -> None:
    first = outlet(name, "--rate", "1000", "--channels", "4")
    running = run(source(name, resolve_s=0.3))
    running.until(lambda: running.received > 200, "samples")
    first.kill()
    running.until(lambda: running.source.health().level in (Level.ERROR, Level.STALE), "the loss in health")
    outlet(name, "--rate", "500", "--channels", "2")
    running.until(lambda: len(running.infos) == 2 and running.chunks[-1].rate_hz == 500.0, "the new stream")
    assert running.infos[-1].rate_hz == 500.0
    assert running.infos[-1].channels == ("F1", "F2")
    position = running.emissions.index(next(e for e in running.emissions if e.item is running.infos[-1]))
    assert running.emissions[position + 1].item.samples.shape[1] == 2


def test_a_stream_that_declares_twice_its_rate_is_found_out(outlet, name, run) -> None:
    outlet(name, "--rate", "500", "--declared", "1000", "--burst", "1")
    running = run(source(name))
    running.until(
        lambda: running.chunks and running.chunks[-1].rate_hz == pytest.approx(500, rel=0.01), "the true rate"
    )
    assert (
        "declares 1000 Hz but delivers" in running.source.health().message
        or running.source.health().level == Level.WARN
    )
    assert running.infos[-1].rate_hz == pytest.approx(500, rel=0.01)


def test_stamps_from_a_foreign_clock_are_replaced_by_arrival_and_said(outlet, name, run) -> None:
    before = time.time()
    outlet(name, "--rate", "1000", "--offset", "1e6")
    running = run(source(name))
    running.until(lambda: running.received > 300, "samples")
    assert before - 1.0 < running.chunks[-1].stamp / 1e9 < time.time() + 1.0
    assert running.chunks[-1].raw_stamps[0] > 9e5
    running.until(lambda: "from the LSL clock" in running.source.health().message, "the note in health")


def test_units_are_read_from_the_description_and_millivolts_become_volts(outlet, name, run) -> None:
    outlet(name, "--unit", "millivolts", "--burst", "10")
    running = run(source(name, pick=("F2",), channels=("zyg",)))
    running.until(lambda: running.received > 1000, "samples")
    assert running.chunks[0].channels == ("zyg",)
    values = np.concatenate([chunk.samples[:, 0] for chunk in running.chunks])
    assert np.std(values) == pytest.approx(20e-3, rel=0.15)  # the outlet sends normal noise of 20 units


def test_a_missing_stream_is_an_error_in_health_that_names_what_is_there(outlet, name, run) -> None:
    outlet(name)
    running = run(source("no-such-stream-" + name, resolve_s=0.2))
    running.until(lambda: "not on the network" in running.source.health().message, "the message")
    assert name in running.source.health().message
    assert running.source.health().level == Level.ERROR


def test_an_unknown_stream_property_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'type'"):
        LslSource(LslConfig(stream="tpye=EMG"))
