"""The graph of every command: one config file, any combination, one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from eifer_ros import graph, pipeline
from eifer_ros.config import ConfigFile, load
from eifer_ros.emg.emg_processing import EmgConfig, EmgProcessing
from eifer_ros.errors import ConfigError, InputError
from eifer_ros.mapping.muscle_mapping import MuscleMapping
from eifer_ros.micro.event_spotter import Spotter
from eifer_ros.pipeline import Pipeline, Request
from eifer_ros.reconstruction.face_reconstruction import Reconstruction

CONFIG = Path(graph.__file__).parents[1] / "config"
FILES = sorted(CONFIG.glob("*.yaml"))


def written(folder: Path, text: str) -> Path:
    path = folder / "lab.yaml"
    path.write_text(text)
    return path


def section(name: str, **values: object) -> str:
    rows = "".join(f"      {key}: {value}\n" for key, value in values.items())
    return f"  {name}:\n    ros__parameters:\n{rows}"


@pytest.mark.parametrize("name", [name for name in graph.COMPONENTS if name != "face_view"])
def test_every_component_is_a_class_with_its_own_parameters(name: str) -> None:
    component = pipeline.component_class(name)
    assert component.config_type is pipeline.config_type(name)
    assert component.inputs or component.outputs


def test_an_unknown_component_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown component 'reconstructon'; did you mean 'reconstruction'"):
        Pipeline.from_config(components=("reconstructon",))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_of_config_is_read_by_the_graph_that_has_its_sections(path: Path) -> None:
    """They were documentation that nothing read: viewer.yaml and avatar.yaml among them."""
    file = pipeline.open_config(path)
    for name in file.sections:
        if name in graph.COMPONENTS and name != "face_view":
            file.config(name, pipeline.config_type(name))
    assert file.sections


def test_options_go_before_the_file_and_the_file_before_the_defaults(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "/**:\n"
        + section("reconstruction", min_confidence=0.61, micro="true")
        + section("emg", mains_hz=60, profile="rms100"),
    )
    request = Request(camera="performer:7", emg="performer:7", micro=False)
    built = Pipeline.from_config(path, request)
    reconstruction, emg = built.get(Reconstruction), built.get(EmgProcessing)
    assert reconstruction is not None and emg is not None
    assert (reconstruction.config.min_confidence, reconstruction.config.micro) == (0.61, False)
    assert (emg.config.mains_hz, emg.config.profile) == (60, "rms100")
    assert built.get(Spotter) is None


def test_a_file_that_asks_for_micro_expressions_gets_the_spotter(tmp_path: Path) -> None:
    path = written(tmp_path, "/**:\n" + section("reconstruction", micro="true"))
    built = Pipeline.from_config(path, Request(camera="performer:7"))
    spotter = built.get(Spotter)
    assert spotter is not None and not spotter.config.use_emg  # there is no EMG in this graph


def test_the_section_pipeline_says_what_runs_where_no_option_does(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "/**:\n"
        + section("pipeline", components="[emg_source, emg, mapping]")
        + section("emg_source", url="performer:3"),
    )
    built = Pipeline.from_config(path)
    assert list(built.host.components) == ["emg_source", "emg", "mapping"]


def test_an_unknown_section_is_answered_with_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path, "/**:\n" + section("emg_processing", mains_hz=60))
    with pytest.raises(ConfigError, match=r"lab.yaml: unknown section 'emg_processing'.*sections are .*emg"):
        Pipeline.from_config(path, Request(emg="performer:7"))
    path = written(tmp_path, "/**:\n" + section("reconstuction", min_confidence=0.5))
    with pytest.raises(ConfigError, match="did you mean 'reconstruction'"):
        Pipeline.from_config(path, Request(camera="performer:7"))


def test_an_unknown_key_is_answered_with_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path, "/**:\n" + section("emg", main_hz=60))
    with pytest.raises(ConfigError, match="emg: unknown key 'main_hz'; did you mean 'mains_hz'"):
        Pipeline.from_config(path, Request(emg="performer:7"))


def test_a_shared_value_reaches_whoever_has_it_and_one_that_nobody_has_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "/**:\n  ros__parameters:\n    mains_hz: 60\n    threshold: 0.4\n")
    emg = Pipeline.from_config(path, Request(emg="performer:7")).get(EmgProcessing)
    assert emg is not None and emg.config.mains_hz == 60
    path = written(tmp_path, "/**:\n  ros__parameters:\n    mains_hertz: 60\n")
    with pytest.raises(
        ConfigError, match="no component has a parameter 'mains_hertz'; did you mean 'mains_hz'"
    ):
        Pipeline.from_config(path, Request(emg="performer:7"))


def test_a_file_without_any_section_of_the_graph_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "/**:\n" + section("spotter", threshold=0.4))
    with pytest.raises(
        ConfigError, match=r"one of the sections emg_source, emg.* is needed here; .* has spotter"
    ):
        Pipeline.from_config(path, Request(emg="performer:7"))


def test_a_section_that_is_asked_for_and_missing_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, "/**:\n" + section("reconstruction", min_confidence=0.5))
    with pytest.raises(ConfigError, match="a section 'emg' is needed here; the file has reconstruction"):
        load(EmgConfig, "emg", path)


def test_sections_of_what_does_not_run_are_named_in_one_note() -> None:
    built = Pipeline.from_config(CONFIG / "eifer.yaml", Request(emg="performer:7"))
    (note,) = built.notes
    assert "eifer.yaml: nothing in this graph reads the sections" in note
    assert "animatronic" in note and "emg_source" not in note


def test_nothing_to_run_says_what_to_give() -> None:
    with pytest.raises(InputError, match="give a camera, an EMG source, or a config file"):
        Pipeline.from_config(components=Request())


def test_an_avatar_without_a_face_to_follow_is_told_what_makes_one() -> None:
    with pytest.raises(
        InputError, match=r"avatar: nothing in this graph makes a face.*--mapping FILE beside"
    ):
        Pipeline.from_config(components=Request(emg="performer:7", avatars=("vmc://127.0.0.1:39539",)))


def test_files_play_by_the_clock_only_where_somebody_watches() -> None:
    assert not Pipeline.from_config(components=Request(camera="video:face.mp4")).live
    driven = Pipeline.from_config(
        components=Request(camera="video:face.mp4", avatars=("vmc://127.0.0.1:39539",))
    )
    assert driven.live


def test_the_files_of_a_participant_reach_their_components(tmp_path: Path) -> None:
    request = Request(
        camera="performer:7", emg="performer:7", mapping=tmp_path / "m.npz", calibration=tmp_path / "c.yaml"
    )
    built = Pipeline.from_config(components=request)
    mapping, emg = built.get(MuscleMapping), built.get(EmgProcessing)
    assert mapping is not None and emg is not None
    assert mapping.config.mapping == str(tmp_path / "m.npz")
    assert emg.config.calibration == str(tmp_path / "c.yaml")


def test_a_mapping_that_is_not_there_is_named_and_everything_is_released(tmp_path: Path) -> None:
    built = Pipeline.from_config(components=Request(emg="performer:7", mapping=tmp_path / "none.npz"))
    with pytest.raises(Exception, match=r"none\.npz"):
        built.setup()


def test_an_empty_list_of_a_ros_file_is_an_empty_list(tmp_path: Path) -> None:
    path = written(tmp_path, "/**:\n" + section("emg", bad_channels='[""]'))
    assert ConfigFile.read(path, ["emg"]).config("emg", EmgConfig).bad_channels == ()


def test_the_chain_of_every_combination_is_in_the_order_of_the_flow() -> None:
    order = list(graph.COMPONENTS)
    everything = graph.chain(
        camera=True,
        emg=True,
        source=("emg_source", "camera"),
        mapping=True,
        micro=True,
        avatar=True,
        animatronic=True,
    )
    assert everything == sorted(everything, key=order.index)
    assert set(everything) == set(order) - {"performer", "replay", "face_view", "recorder"}


def test_what_is_recorded_and_how_stands_in_the_section_recorder(tmp_path: Path) -> None:
    from eifer_ros.recording.reader import Bag
    from eifer_ros.workflows.run import run

    path = written(
        tmp_path,
        "/**:\n" + section("recorder", topics="[emg/activity, emg/channels]", namespace='"/lab"'),
    )
    request = Request(emg="performer:7?speed=0&duration_s=1&program=rest")
    summary = run(request, config=path, record=tmp_path / "bag")
    with Bag(tmp_path / "bag") as bag:
        assert {stream.port for _, stream in bag.streams} >= {"emg/activity", "emg/channels"}
        assert "emg/raw" not in {stream.port for _, stream in bag.streams}
        assert all(c.topic.startswith("/lab/") for c, stream in bag.streams if stream.port == "emg/activity")
    assert summary.items["emg/raw"] > 0 and summary.emg_lost == 0
