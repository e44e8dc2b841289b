from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from eifer_ros.component import Level
from eifer_ros.emg.sources.brainflow import BrainFlowConfig, BrainFlowSource, boards
from eifer_ros.errors import ConfigError

pytest.importorskip("brainflow", reason="brainflow is not installed (extra 'brainflow')")


def test_the_synthetic_board_streams_volts_at_its_rate_without_gaps(run) -> None:
    running = run(BrainFlowSource(BrainFlowConfig(board="SYNTHETIC_BOARD", retry_s=0.05)))
    running.until(lambda: running.received > 700, "700 samples")
    chunks = running.chunks
    assert running.infos[0].rate_hz == 250.0
    assert len(running.infos[0].channels) == 16
    assert sum(chunk.lost for chunk in chunks) == 0
    samples = np.concatenate([chunk.samples for chunk in chunks])
    # the board's sines have an RMS of 10 to 224 microvolts
    assert 1e-6 < np.sqrt(np.mean((samples - samples.mean(axis=0)) ** 2)) < 1e-3
    stamps = np.asarray([chunk.stamp for chunk in chunks])
    index = np.asarray([chunk.first_index for chunk in chunks])
    assert np.all(np.diff(stamps) > 0)
    rate = (index[-1] - index[len(index) // 4]) / ((stamps[-1] - stamps[len(stamps) // 4]) / 1e9)
    assert rate == pytest.approx(250.0, rel=0.02)
    raw = np.concatenate([chunk.raw_stamps for chunk in chunks])
    assert len(raw) == len(samples)
    assert running.source.health().values["packet_numbering"] == "0..255"
    assert running.source.health().level == Level.WARN  # 250 Hz keeps only the lowest part of the band
    assert "250 Hz" in running.source.health().message


def test_losses_in_the_packet_counter_become_gaps_in_the_chunks(monkeypatch) -> None:
    source = BrainFlowSource(BrainFlowConfig(board="CYTON_BOARD"))
    source.setup()

    class Board:
        """Stands in for a dongle: hands out two reads, five packets apart."""

        def __init__(self, *_: object) -> None:
            self.reads = [np.arange(100, 200), np.arange(205, 300) % 256]

        def prepare_session(self) -> None: ...

        def start_stream(self, size: int) -> None: ...

        def is_prepared(self) -> bool:
            return False

        def get_board_data(self) -> np.ndarray:
            if not self.reads:
                source.stop()
                return np.zeros((24, 0))
            numbers = self.reads.pop(0)
            data = np.zeros((24, len(numbers)))
            data[0] = numbers
            data[1:9] = numbers
            data[22] = 1.7e9 + (numbers[-1] + (256 if numbers[-1] < 100 else 0)) / 250.0
            return data

    monkeypatch.setattr(source._shim, "BoardShim", Board)
    chunks = [e.item for e in source.produce() if e.port == "emg/raw"]
    assert [(chunk.first_index, len(chunk.samples), chunk.lost) for chunk in chunks] == [
        (0, 100, 0),
        (105, 95, 5),
    ]
    assert chunks[0].samples[3, 0] == pytest.approx(103e-6)


def test_brainflow_starts_without_pkg_resources_as_on_python_3_11_with_setuptools_82() -> None:
    """In a fresh interpreter where `import pkg_resources` fails and `files(__name__)` of a module is refused
    as in 3.11.
    """
    script = """
import sys, importlib.resources
sys.modules["pkg_resources"] = None
original = importlib.resources.files
def files(name):
    raise TypeError("not a package")
from brainflow import board_shim
board_shim.files = files
from eifer_ros.emg.sources.brainflow import load
print(load().BoardShim.get_version())
assert sys.modules["pkg_resources"] is None, "the stand-in must be gone again"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_an_unknown_board_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'CYTON_BOARD'"):
        BrainFlowSource(BrainFlowConfig(board="CYTON_BORD")).setup()


def test_a_board_that_is_not_there_is_an_error_in_plain_words_and_is_retried(run) -> None:
    running = run(
        BrainFlowSource(BrainFlowConfig(board="CYTON_BOARD", serial_port="/dev/does-not-exist", retry_s=0.05))
    )
    running.until(lambda: "port" in running.source.health().message, "the message")
    health = running.source.health()
    assert health.level == Level.ERROR
    assert "[" in health.message  # the code's name stands behind the plain words
    assert running.emissions == []


def test_the_list_of_boards_names_those_with_emg_channels() -> None:
    listed = boards()
    assert any(line.startswith("brainflow:CYTON_BOARD (8 EMG channels, 250 Hz)") for line in listed)
