from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from eifer_ros import config
from eifer_ros.config import Config, parameter
from eifer_ros.errors import ConfigError


class Sample(config.Config):
    rate_hz: float = config.parameter(30.0, "how often", unit="Hz", gt=0, le=240)
    device: str = config.parameter("", "which one")


def write(path: Path, text: str) -> Path:
    file = path / "params.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    "text",
    [
        "camera:\n  ros__parameters:\n    rate_hz: 60.0\n",
        "/**:\n  camera:\n    ros__parameters:\n      rate_hz: 60.0\n",
        "/eifer/camera:\n  ros__parameters:\n    rate_hz: 60.0\n",
        "eifer:\n  camera:\n    ros__parameters:\n      rate_hz: 60.0\n",
        "/**:\n  ros__parameters:\n    rate_hz: 60.0\n    use_sim_time: true\n",
    ],
)
def test_every_way_ros_writes_a_parameter_file_is_read(tmp_path: Path, text: str) -> None:
    assert config.load(Sample, "camera", write(tmp_path, text)).rate_hz == 60.0


def test_an_override_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    path = write(tmp_path, "camera:\n  ros__parameters:\n    rate_hz: 60.0\n    device: a\n")
    loaded = config.load(Sample, "camera", path, device="b", rate_hz=None)
    assert (loaded.rate_hz, loaded.device) == (60.0, "b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "camera:\n  ros__parameters:\n    rate_h: 60.0\n",
            ["unknown key 'rate_h'", "did you mean 'rate_hz'", "params.yaml"],
        ),
        (
            "camera:\n  ros__parameters:\n    rate_hz: 1000.0\n",
            ["rate_hz = 1000.0", "less than or equal to 240"],
        ),
        ("camera:\n  ros__parameters:\n    rate_hz: .nan\n", ["rate_hz", "finite"]),
        ("camera:\n  ros__parameters:\n    rate_hz: fast\n", ["rate_hz = 'fast'", "number"]),
        ("camera:\n  rate_hz: 30\n", ["ros__parameters"]),
        ("camera: [\n", ["not valid YAML", "line"]),
        ("- 1\n", ["mapping of node names"]),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_names_what_is_wrong(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        config.load(Sample, "camera", write(tmp_path, text))
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent.yaml: cannot be read"):
        config.load(Sample, "camera", tmp_path / "absent.yaml")


def test_parameters_are_data_for_descriptors_and_docs() -> None:
    class Every(Config):
        rate_hz: float = parameter(30.0, "how often", unit="Hz", gt=0, le=240)
        count: int = parameter(3, "how many", ge=1, read_only=False)
        mode: Literal["a", "b"] = parameter("a", "which way")
        names: tuple[str, ...] = parameter((), "who")
        gains: dict[str, float] = parameter({}, "how much of each")
        path: str = parameter("x", "where", min_length=1)
        on: bool = parameter(True, "whether")

    fields = {field.name: field for field in config.parameter_fields(Every)}
    assert [field.kind for field in fields.values()] == [
        "float",
        "int",
        "text",
        "texts",
        "numbers",
        "text",
        "bool",
    ]
    assert (
        fields["rate_hz"].low,
        fields["rate_hz"].low_open,
        fields["rate_hz"].high,
        fields["rate_hz"].high_open,
    ) == (0, True, 240, False)
    assert fields["rate_hz"].constraint == "above 0, at most 240"
    assert (fields["rate_hz"].unit, fields["rate_hz"].read_only, fields["count"].read_only) == (
        "Hz",
        True,
        False,
    )
    assert fields["mode"].constraint == "one of a, b"
    assert fields["path"].constraint == "not empty"
    assert fields["names"].default == () and fields["gains"].default == {}
