from __future__ import annotations

import pytest

from eifer_ros import config, resources
from eifer_ros.emg.sources import lsl as lsl_module
from eifer_ros.emg.sources.base import volts_per
from eifer_ros.emg.sources.brainflow import BrainFlowSource
from eifer_ros.emg.sources.delsys import DelsysSource
from eifer_ros.emg.sources.emg_input import EmgInput, EmgInputConfig
from eifer_ros.emg.sources.lsl import LslSource
from eifer_ros.emg.sources.sessantaquattro import SessantaquattroSource
from eifer_ros.errors import ConfigError, InputError, MissingExtra
from eifer_ros.recording.emg_file import FileSource
from eifer_ros.registry import EMG_SOURCES


@pytest.mark.parametrize(
    ("url", "kind", "values"),
    [
        ("lsl:forehead", LslSource, {"stream": "forehead"}),
        ("lsl:type=EMG", LslSource, {"stream": "type=EMG"}),
        ("lsl", LslSource, {"stream": "type=EMG"}),
        ("lsl:x?pick=1,F2&chunk_s=0.01", LslSource, {"pick": ("1", "F2"), "chunk_s": 0.01}),
        (
            "brainflow:CYTON_BOARD?serial_port=/dev/ttyUSB0",
            BrainFlowSource,
            {"board": "CYTON_BOARD", "serial_port": "/dev/ttyUSB0"},
        ),
        ("delsys:10.0.0.2?sensors=1,4", DelsysSource, {"host": "10.0.0.2", "sensors": (1, 4)}),
        ("sessantaquattro", SessantaquattroSource, {"port": 45454}),
        (
            "sessantaquattro:5000?bioelectric=32&rate_hz=4000",
            SessantaquattroSource,
            {"port": 5000, "bioelectric": 32, "rate_hz": 4000},
        ),
        (
            "file:a b.csv?speed=0&rate=100&columns=2,3&loop=true",
            FileSource,
            {"path": "a b.csv", "speed": 0.0, "rate_hz": 100.0, "columns": ("2", "3"), "loop": True},
        ),
        ("FILE:C:/data/a.csv", FileSource, {"path": "C:/data/a.csv"}),
    ],
)
def test_an_address_opens_its_source_with_its_options(url: str, kind: type, values: dict) -> None:
    source = EMG_SOURCES.open(url)
    assert type(source) is kind
    assert {key: getattr(source.config, key) for key in values} == values


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("lls:x", "did you mean 'lsl'"),
        ("session.csv", "did you mean 'file:session.csv'"),
        ("", "names no EMG source"),
        ("file:a.csv?spede=1", "did you mean 'speed'"),
        ("sessantaquattro:abc", "port = 'abc'"),
        ("file:a.csv?speed=-1", "speed"),
        ("delsys:h?command_port=99999999", "command_port"),
    ],
)
def test_a_wrong_address_is_refused_with_what_would_be_right(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EMG_SOURCES.open(url)


def test_a_file_source_without_a_path_asks_for_one() -> None:
    with pytest.raises(InputError, match="which file"):
        EMG_SOURCES.open("file:")


def test_a_missing_library_names_the_extra_when_the_source_is_set_up_or_searched_for(monkeypatch) -> None:
    def missing() -> None:
        raise MissingExtra("pylsl", "lsl", "reading Lab Streaming Layer")

    monkeypatch.setattr(lsl_module, "load", missing)
    with pytest.raises(MissingExtra, match=r"pip install 'eifer_ros\[lsl\]'"):
        EMG_SOURCES.open("lsl:x").setup()
    with pytest.raises(MissingExtra, match=r"pip install 'eifer_ros\[lsl\]'"):
        LslSource.discover()


@pytest.mark.parametrize(
    ("unit", "volts"),
    [("V", 1.0), ("mV", 1e-3), ("µV", 1e-6), ("μV", 1e-6), ("uV", 1e-6), ("microvolts", 1e-6), ("nV", 1e-9)],
)
def test_units_of_voltage_are_understood_in_every_spelling(unit: str, volts: float) -> None:
    assert volts_per(unit) == volts
    assert volts_per(f" {unit.upper() if unit.isascii() else unit} ") == volts


def test_the_input_component_takes_an_address_and_the_options_of_the_address_win(tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time_s,F1_V,F2_V\n" + "".join(f"{k / 1000},{k},{-k}\n" for k in range(50)))
    component = EmgInput(
        EmgInputConfig(
            url=f"file:{path}?speed=0&channels=zyg", pick=("2",), channels=("corr",), montage="bipolar"
        )
    )
    component.setup()
    emissions = list(component.produce())
    assert not component.live
    assert emissions[0].item.channels == ("zyg",)
    assert emissions[0].item.montage == "bipolar"
    assert emissions[1].item.samples[3, 0] == -3.0
    assert component.health().values["source"].startswith("file:")
    component.close()


def test_the_shipped_configuration_is_the_default_configuration() -> None:
    shipped = config.load(EmgInputConfig, "emg_source", resources.config("emg_source"))
    assert shipped == EmgInputConfig()
