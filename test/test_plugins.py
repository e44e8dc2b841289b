"""Kinds of devices that other distributions bring: real distributions on the path, real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from eifer_ros.animatronic.drivers import make_driver
from eifer_ros.animatronic.joint_map import load_joint_map
from eifer_ros.config import build
from eifer_ros.errors import ConfigError
from eifer_ros.reconstruction.face_reconstruction import Reconstruction, ReconstructionConfig
from eifer_ros.registry import ESTIMATORS, SERVO_DRIVERS, Registry
from eifer_ros.types import FaceState, FaceStatus, Frame

TOY = '''
"""A toy amplifier, camera and avatar, as a distribution of somebody else brings them."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from eifer_ros.animatronic.joint_map import DriverConfig
from eifer_ros.avatar.sender import Sender, SenderConfig
from eifer_ros.camera.folder import FolderConfig, FolderSource
from eifer_ros.component import Device
from eifer_ros.config import parameter
from eifer_ros.emg.sources.base import Block, EmgSourceConfig, Layout, LiveEmgSource
from eifer_ros.errors import DeviceError
from eifer_ros.reconstruction.estimators import EstimatorConfig
from eifer_ros.reconstruction.landmarks.landmark_model import LandmarkModel
from eifer_ros.reconstruction.landmarks.tracker import TrackerCounts
from eifer_ros.types import NS


class RampConfig(EmgSourceConfig):
    usage: ClassVar[str] = "ramp:LEVEL"
    url_field: ClassVar[str] = "level"
    level: float = parameter(1.0, "height of the ramp", unit="V", gt=0)
    blocks: int = parameter(3, "how many blocks it lasts", ge=1)


class RampSource(LiveEmgSource):
    """Two channels that rise, for trying out.

    More about it.
    """

    config_type = RampConfig
    live = False

    def __init__(self, config):
        super().__init__(config)
        self.what = "ramp"
        self._count = 0

    @classmethod
    def discover(cls):
        return (Device("ramp:2", "the ramp on the desk", "2 channels"),)

    def connect(self):
        return Layout(("left", "right"), 1000.0)

    def read(self):
        if self._count == self.config.blocks:
            self.stop()
            return None
        self._count += 1
        rise = np.linspace(0.0, self.config.level, 10, dtype=np.float32)
        return Block(np.stack([rise, -rise], axis=1), 1_800_000_000 * NS + self._count * 10_000_000)


class StillConfig(FolderConfig):
    usage: ClassVar[str] = "still:DIR"


class StillCamera(FolderSource):
    """Pictures of a folder under another name."""

    config_type = StillConfig


class DiaryConfig(SenderConfig):
    url_field: ClassVar[str] = "path"
    path: str = parameter("", "file")


class Diary(Sender):
    """Writes down when a face came."""

    config_type = DiaryConfig
    protocol = "diary"

    def __init__(self, config):
        super().__init__(config)
        self._file = open(config.path, "x")

    @property
    def target(self):
        return "diary"

    def _deliver(self, face):
        print(face.stamp, file=self._file)
        return True

    def close(self):
        self._file.close()


class PuppetConfig(DriverConfig):
    wired_by: ClassVar[str] = "channel"
    strings: int = parameter(8, "how many it has", ge=1)


class Puppet:
    """A puppet on strings."""

    config_type = PuppetConfig

    def __init__(self, joint_map):
        self.strings = joint_map.driver.strings


class BlindConfig(EstimatorConfig):
    url_field: ClassVar[str] = "reason"
    reason: str = parameter("", "why nothing is seen")


class Blind:
    """Sees nothing."""

    config_type = BlindConfig
    name = "blind"

    def __init__(self, config, model, memory):
        self.reason = config.reason
        self.model = model
        self.memory = memory
        self.counts = TrackerCounts()

    @classmethod
    def create(cls, config, head, shared):
        return cls(config, LandmarkModel.of(head), shared.memory)

    def estimate(self, frame, intrinsics, elapsed_s):
        self.counts.lost += 1

    def warm_up(self):
        pass

    def reset(self):
        pass

    def times_ms(self):
        return {}
'''


def distribution(folder: Path, name: str, module: str, points: str) -> None:
    """An installed distribution: a module, and the metadata that pip leaves beside it."""
    (folder / f"{name}.py").write_text(module)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good plug-in among bad ones."""
    folder = tmp_path_factory.mktemp("site")
    distribution(
        folder,
        "toybox",
        TOY,
        "[eifer.sources]\nramp = toybox:RampSource\n[eifer.cameras]\nstill = toybox:StillCamera\n"
        "[eifer.avatars]\ndiary = toybox:Diary\n[eifer.servos]\npuppet = toybox:Puppet\n"
        "[eifer.estimators]\nblind = toybox:Blind\n",
    )
    distribution(folder, "rusty", "import a_library_nobody_has\n", "[eifer.sources]\nrusty = rusty:Source\n")
    distribution(folder, "bossy", TOY, "[eifer.sources]\nlsl = bossy:RampSource\n")
    for name in ("one", "other"):
        distribution(folder, name, TOY, f"[eifer.sources]\ntwin = {name}:RampSource\n")
    distribution(folder, "bare", "class Source: pass\n", "[eifer.sources]\nbare = bare:Source\n")
    return folder


@pytest.fixture
def sources(site: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """EMG sources as a process sees them where those distributions are installed."""
    monkeypatch.syspath_prepend(str(site))
    from eifer_ros.registry import EMG_SOURCES

    return Registry("EMG source", "eifer.sources", *EMG_SOURCES.built_in(), bare="file")


def eifer(site: Path, *arguments: object) -> SimpleNamespace:
    """A real process of the command line, with `site` beside the installed packages."""
    path = os.pathsep.join([str(site), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "eifer_ros.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


def test_an_installed_plug_in_opens_by_its_name_and_takes_options(sources: Registry) -> None:
    source = sources.open("ramp:2?blocks=1&channels=zyg,corr")
    emissions = list(source.produce())
    assert emissions[0].item.channels == ("zyg", "corr")
    assert emissions[1].item.samples[-1].tolist() == [2.0, -2.0]
    assert "ramp" in sources.schemes()
    assert next(entry for entry in sources.entries() if entry.scheme == "ramp").origin == "toybox"


def test_a_plug_in_is_checked_like_a_built_in_kind(sources: Registry) -> None:
    with pytest.raises(ConfigError, match="ramp:2: unknown key 'block'; did you mean 'blocks'"):
        sources.open("ramp:2?block=1")
    with pytest.raises(ConfigError, match="did you mean 'ramp'"):
        sources.open("rmap:2")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("rusty:x", ["rusty", "a_library_nobody_has", "repair or uninstall rusty"]),
        ("twin:1", ["one and other", "'twin'", "eifer.sources", "uninstall one"]),
        ("bare:x", ["bare", "config_type"]),
    ],
)
def test_a_bad_plug_in_says_what_is_wrong_only_when_it_is_opened(
    sources: Registry, url: str, words: list[str]
) -> None:
    assert sources.open("delsys:h").config.host == "h"
    with pytest.raises(ConfigError) as caught:
        sources.open(url)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_a_plug_in_that_takes_a_built_in_name_is_left_out_and_the_built_in_opens(
    sources: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    assert type(sources.open("lsl:x")).__module__ == "eifer_ros.emg.sources.lsl"
    warning = "bossy brings the EMG source 'lsl', a name that eifer_ros has"
    assert sum(warning in record.message for record in caplog.records) == 1
    assert any(warning in problem for problem in sources.problems())


def test_every_problem_is_one_line_and_none_is_missing(sources: Registry) -> None:
    problems = sources.problems()
    assert len(problems) == 4
    assert all("\n" not in problem for problem in problems)
    for name in ("rusty", "bossy", "one and other", "bare"):
        assert sum(problem.startswith(name) for problem in problems) == 1


def test_doctor_lists_good_plug_ins_their_devices_and_what_is_wrong_with_the_others(site: Path) -> None:
    done = eifer(site, "doctor", "--json")
    rows = [
        (row["group"], row["name"], row["state"], row["detail"]) for row in json.loads(done.out)["findings"]
    ]
    assert ("emg", "ramp", "ok", "ramp:LEVEL: Two channels that rise, for trying out (from toybox)") in rows
    assert ("emg", "ramp:2", "ok", "the ramp on the desk, 2 channels") in rows
    assert (
        "cameras",
        "still",
        "ok",
        "still:DIR: Pictures of a folder under another name (from toybox)",
    ) in rows
    assert ("avatars", "diary", "ok", "diary:...: Writes down when a face came (from toybox)") in rows
    problems = [detail for _, name, state, detail in rows if name == "plug-in" and state == "missing"]
    assert len(problems) == 4
    assert {"lsl", "delsys", "file", "brainflow", "sessantaquattro", "performer"} <= {
        name for group, name, _, _ in rows if group == "emg"
    }


def test_the_command_line_records_from_a_plug_in_while_others_are_broken(site: Path, tmp_path: Path) -> None:
    from eifer_ros.recording.reader import read

    done = eifer(site, "record", "--emg", "ramp:2?blocks=4", "--out", tmp_path / "take", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["written"]["emg/raw"] == 4
    assert sum(topic == "emg/raw" for _, topic, _ in read(tmp_path / "take")) == 4
    assert "bossy" in done.err and "Traceback" not in done.err


def test_a_broken_plug_in_ends_the_command_line_with_one_line(site: Path, tmp_path: Path) -> None:
    done = eifer(site, "record", "--emg", "rusty:x", "--out", tmp_path / "take")
    assert done.code == 3
    lines = [line for line in done.err.splitlines() if line.startswith("eifer: ")]
    assert len(lines) == 1 and "a_library_nobody_has" in lines[0]
    assert "Traceback" not in done.err
    assert not (tmp_path / "take").exists()


ROBOT = """<robot name="r"><link name="a"/><link name="b"/><joint name="jaw" type="revolute">
<parent link="a"/><child link="b"/><axis xyz="0 1 0"/><limit lower="0" upper="0.5" velocity="6" effort="1"/></joint></robot>"""
MAP = """
name: r
urdf: r.urdf
joints: {{jaw: {{range: [0.0, 0.5], speed: 5.0, acceleration: 100.0, servo: {servo}}}}}
driver: {driver}
"""


def joint_map(folder: Path, driver: str, servo: str) -> Path:
    (folder / "r.urdf").write_text(ROBOT)
    (folder / "map.yaml").write_text(MAP.format(driver=driver, servo=servo))
    return folder / "map.yaml"


def test_a_joint_map_may_name_the_servo_driver_of_a_plug_in(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(SERVO_DRIVERS, "_plugins", None)
    path = joint_map(tmp_path, "{type: puppet, strings: 5}", "{channel: 2}")
    assert make_driver(load_joint_map(path)).strings == 5  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"joint 'jaw' has no servo\.channel"):
        load_joint_map(joint_map(tmp_path, "{type: puppet}", "{id: 2}"))
    with pytest.raises(ConfigError, match="driver: puppet: strings = 0"):
        load_joint_map(joint_map(tmp_path, "{type: puppet, strings: 0}", "{channel: 2}"))


def test_the_reconstruction_may_read_faces_by_the_estimator_of_a_plug_in(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(ESTIMATORS, "_plugins", None)
    component = Reconstruction(ReconstructionConfig(estimator="blind:eyes shut"))
    component.setup()
    faces = [
        emission.item
        for emission in component.handle("camera/image_raw", Frame(1, np.zeros((32, 32, 3), np.uint8)))
        if isinstance(emission.item, FaceState)
    ]
    assert [face.status for face in faces] == [FaceStatus.LOST]
    values = component.health().values
    assert (values["estimator_used"], values["estimator_reason"]) == ("blind", "eyes shut")
    with pytest.raises(ConfigError, match=r"estimator = 'blnd'.*did you mean 'blind'"):
        Reconstruction(build(ReconstructionConfig, {"estimator": "blnd"}, "reconstruction"))
