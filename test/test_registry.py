"""What the registry promises for what is built in; plug-ins are in test_plugins.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from eifer_ros.component import Source
from eifer_ros.config import DeviceConfig, parameter
from eifer_ros.doctor import PURPOSES
from eifer_ros.errors import ConfigError, MissingExtra
from eifer_ros.registry import AVATARS, CAMERAS, EMG_SOURCES, ESTIMATORS, Entry, Registry, registries


class ToyConfig(DeviceConfig):
    url_field: ClassVar[str] = "path"
    path: str = parameter("", "file")
    names: tuple[str, ...] = parameter((), "texts")
    slots: tuple[int, ...] = parameter((), "numbers")
    bits: Literal[16, 24] = parameter(16, "one of")
    loop: bool = parameter(False, "again")
    rate_hz: float = parameter(100.0, "rate", gt=0)


class ToyDevice(Source):
    config_type = ToyConfig

    def __init__(self, config: ToyConfig) -> None:
        self.config = config


class DeafDevice:
    """Has no parameters."""


def toys(*more: Entry) -> Registry[Source]:
    return Registry(
        "toy", "eifer.toys", Entry("toy", f"{__name__}:ToyDevice", "toy:FILE", "a toy"), *more, bare="toy"
    )


def config_of(url: str, **options: object) -> ToyConfig:
    made = toys().open(url, **options)
    assert isinstance(made, ToyDevice)
    return made.config


def every_entry() -> list[tuple[Registry, Entry]]:
    return [(registry, entry) for registry in registries().values() for entry in registry.built_in()]


@pytest.mark.parametrize(
    ("registry", "entry"),
    every_entry(),
    ids=lambda one: getattr(one, "scheme", one.name if hasattr(one, "name") else ""),
)
def test_every_built_in_kind_loads_has_parameters_and_is_described(registry: Registry, entry: Entry) -> None:
    assert issubclass(registry.config_type(entry.scheme), DeviceConfig)
    assert entry.usage.startswith(entry.scheme)
    assert entry.what and not entry.what.endswith(".")
    assert entry.extra == "" or entry.extra in PURPOSES


def test_every_avatar_calls_itself_as_it_is_registered() -> None:
    assert [AVATARS.load(scheme).protocol for scheme in AVATARS.schemes()] == list(AVATARS.schemes())


def test_text_behind_a_question_mark_becomes_lists_numbers_choices_and_switches() -> None:
    config = config_of("toy:a?names=F1, F2&slots=1,4&bits=24&loop=true&rate=250")
    assert config == ToyConfig(path="a", names=("F1", "F2"), slots=(1, 4), bits=24, loop=True, rate_hz=250.0)


def test_an_empty_list_can_be_written_in_a_url_and_in_a_ros_parameter_file() -> None:
    assert config_of("toy:a?names=").names == ()
    assert ToyConfig.model_validate({"names": [""]}).names == ()


def test_what_the_url_says_goes_before_options() -> None:
    config = config_of("toy:a?rate_hz=50", path="b", rate_hz=9.0, loop=True)
    assert (config.path, config.rate_hz, config.loop) == ("a", 50.0, True)


def test_options_may_stand_without_an_address() -> None:
    assert config_of("TOY?bits=24") == ToyConfig(bits=24)


def test_a_file_whose_name_holds_a_question_mark_is_taken_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "why?bits=24"
    path.write_bytes(b"")
    assert config_of(f"toy:{path}") == ToyConfig(path=str(path))
    path.unlink()
    assert config_of(f"toy:{path}") == ToyConfig(path=str(tmp_path / "why"), bits=24)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("tyo:a", "'tyo:a' names no toy: unknown kind 'tyo'; did you mean 'toy'?; write toy:FILE"),
        ("take1.mp4", "did you mean 'toy:take1.mp4'"),
        ("", "unknown kind ''"),
        ("toy:a?bit=24", "toy:a: unknown key 'bit'; did you mean 'bits'"),
        ("toy:a?bits=20", "toy:a: bits = '20'"),
        ("toy:a?rate=fast", "rate_hz = 'fast'"),
        ("toy:a?slots=1,x", "slots"),
        ("toy?rate_hz=0", "toy: rate_hz = '0': input should be greater than 0"),
        ("toy:a?=3", "options are written name=value"),
    ],
)
def test_a_wrong_url_is_refused_with_what_would_be_right(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        toys().open(url)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_takes_no_address_says_so() -> None:
    with pytest.raises(
        ConfigError, match=r"estimator 'auto:x': takes no address, 'x' is left over; write auto"
    ):
        ESTIMATORS.configure("auto:x")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("eifer_ros.no_such_module:Thing", "No module named 'eifer_ros.no_such_module'"),
        ("eifer_ros.component:Thing", "'eifer_ros.component:Thing' does not name a class"),
        ("eifer_ros.component", "write module:Class"),
        (f"{__name__}:DeafDevice", "has no config_type that derives from eifer_ros.config.DeviceConfig"),
    ],
)
def test_a_wrong_target_is_a_clear_error(target: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        toys(Entry("odd", target, "odd", "odd")).open("odd")
    assert message in str(caught.value)
    assert "odd" in str(caught.value)


def test_a_kind_whose_library_is_missing_names_the_extra() -> None:
    registry = toys(Entry("far", "no_such_sdk.eifer:Far", "far", "far away", "lsl"))
    with pytest.raises(
        MissingExtra, match=r"toy 'far' needs the library 'no_such_sdk': pip install 'eifer_ros\[lsl\]'"
    ):
        registry.open("far")
    assert config_of("toy:a").path == "a"


@pytest.mark.parametrize("scheme", ["toy", "Toy", "t y", "", "a:b"])
def test_a_name_that_is_taken_or_cannot_stand_in_a_url_is_not_registered(scheme: str) -> None:
    registry = toys()
    with pytest.raises(ConfigError, match=scheme or "''"):
        registry.register(Entry(scheme, f"{__name__}:DeafDevice", "x", "x"))
    assert registry.open("toy:a").config.path == "a"  # type: ignore[attr-defined]


def test_a_url_is_named_without_importing_what_it_opens() -> None:
    code = (
        "import sys; from eifer_ros.registry import CAMERAS, registries; "
        "assert CAMERAS.scheme('video:x') == 'video'; "
        "[registry.usage() for registry in registries().values()]; "
        "heavy = {'cv2', 'numpy', 'scipy', 'pydantic', 'eifer_ros.camera'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_opening_one_kind_imports_no_other() -> None:
    code = (
        "import sys; from eifer_ros.registry import EMG_SOURCES; EMG_SOURCES.open('delsys:h'); "
        "others = {'eifer_ros.emg.sources.lsl', 'pylsl', 'brainflow', 'eifer_ros.simulation.performer'} & set(sys.modules); "
        "assert not others, others"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_recording_is_a_camera_that_gives_its_pictures_only() -> None:
    source = CAMERAS.open("bag:take1")
    assert source.config.path == "take1"  # type: ignore[attr-defined]
    assert source.config.topics == ["camera/image_raw"]  # type: ignore[attr-defined]


def test_help_and_errors_name_every_built_in_kind() -> None:
    for registry in (CAMERAS, EMG_SOURCES, AVATARS):
        assert all(entry.usage in registry.usage() for entry in registry.built_in())
