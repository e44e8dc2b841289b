"""Every command on the pages about data, sync, batch and evaluation, as a person would type it."""

from __future__ import annotations

import json
import re
import shlex
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recording_data"))
import micro_files
from mmm_files import make, write_video

from eifer_ros.emg.sources.recording import EmgRecording, even_stamps
from eifer_ros.emg.sources.text_formats import write_csv
from eifer_ros.errors import InputError
from eifer_ros.evaluation.protocol import Data, Protocol, SimulatedData
from eifer_ros.evaluation.simulated import items
from eifer_ros.recording.sync import Sync
from eifer_ros.recording.writer import BagWriter
from eifer_ros.simulation.participant import Participant
from eifer_ros.simulation.performer import PerformerConfig
from eifer_ros.types import NS, EmgChunk, FaceState, Frame
from eifer_ros.workflows import evaluate as job
from eifer_ros.workflows.batch import BatchConfig, BatchResult, load_config, units

Eifer = Callable[[str], SimpleNamespace]


def blocks(root: Path, page: str, language: str = "") -> list[str]:
    fenced = re.findall(
        r"^```(\w*)\n(.*?)^```$", (root / "docs" / page).read_text(encoding="utf-8"), re.M | re.S
    )
    return [text for said, text in fenced if said == language]


def commands(root: Path, page: str) -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks(root, page) for line in block.splitlines()]
    return [line for line in lines if line.startswith("eifer ")]


@pytest.fixture
def eifer(eifer: Eifer) -> Eifer:
    """Run a line as a page has it."""
    return lambda line: eifer(*shlex.split(line)[1:])


@pytest.fixture(scope="module")
def monday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session with raw EMG, a trigger channel, a lamp in the picture and faces, the camera 0.2 s late;
    monday.wav beside it.
    """
    folder = tmp_path_factory.mktemp("pages")
    on = np.cumsum(np.random.default_rng(4).uniform(0.6, 2.0, 14))

    def lit(t: np.ndarray) -> np.ndarray:
        return np.any((t[:, None] >= on) & (t[:, None] < on + 0.15), axis=1)

    config = PerformerConfig(
        seed=11, program="calibration", rate_hz=500.0, chunk_samples=100, artefacts=("white",)
    )
    first = 0
    with BagWriter(folder / "monday", session={"participant": "P07"}, wait=True) as out:
        for _, item in items(config, 20.0):
            first = first or item.stamp
            if isinstance(item, FaceState):
                late = item.stamp + NS // 5
                values = {name: getattr(item, name) for name in item.__dataclass_fields__} | {"stamp": late}
                out.write("face/vision", FaceState(**values))
                image = np.full((240, 320, 3), 80, np.uint8)
                image[0:40, 280:320] = 230 if lit(np.array([(item.stamp - first) / NS]))[0] else 40
                out.write("camera/image_raw", Frame(late, image))
            elif isinstance(item, EmgChunk):
                times = (item.stamp - first) / NS + np.arange(len(item.samples)) / item.rate_hz
                samples = np.hstack([item.samples, 1e-3 * lit(times)[:, None]])
                out.write(
                    "emg/raw",
                    EmgChunk(
                        item.stamp,
                        item.rate_hz,
                        (*item.channels, "Trigger"),
                        samples,
                        item.first_index,
                        item.lost,
                    ),
                )
    t = np.arange(20 * 8000) / 8000
    tone = (12000 * np.sin(2 * np.pi * 900 * t) * lit(t)).astype("<i2")
    with wave.open(str(folder / "monday.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(tone.tobytes())
    return folder


def test_the_import_page(root: Path, eifer: Eifer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyedflib = pytest.importorskip("pyedflib")
    pytest.importorskip("pyxdf")
    from test_imports import xdf_file

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savetxt("session.csv", rng.normal(0, 20, (500, 2)), delimiter=",", header="F1,F2", comments="")
    with pyedflib.EdfWriter("session.bdf", 1, file_type=pyedflib.FILETYPE_BDFPLUS) as writer:
        writer.setSignalHeader(
            0,
            {
                "label": "F1",
                "dimension": "uV",
                "sample_frequency": 200,
                "physical_max": 100,
                "physical_min": -100,
                "digital_max": 8388607,
                "digital_min": -8388608,
                "transducer": "",
                "prefilter": "",
            },
        )
        writer.writeSamples([rng.normal(0, 20, 400)])
    Path("labrecorder.xdf").write_bytes(
        xdf_file(10 + np.arange(600) / 500, rng.normal(size=(600, 2)).astype("<f4"), [])
    )
    write_video(Path("face.mp4"), 10, 0)
    make(Path("MMM"), frames=45, sessions=("2S",), methods=("MediaPipe",))
    micro_files.casme2(Path("CASME2"))
    micro_files.samm(Path("SAMM"))
    micro_files.casme3(Path("CASME3"))
    lines = commands(root, "import_export.md")
    done = [line for line in lines if line.startswith(("eifer import", "eifer fit"))]
    assert len(done) == 8
    for line in done:
        result = eifer(line)
        assert result.code == 0, f"{line}: {result.err}"
    assert Path("mmm_99.npz").exists() and Path("casme2/sub01").is_dir()


def test_the_micro_expressions_page(
    root: Path, eifer: Eifer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("frames").mkdir()
    person = Participant(7, program="micro", sensors=False, size=(160, 160))
    for k in range(8):
        assert cv2.imwrite(
            f"frames/img{k + 1}.png", cv2.cvtColor(person.frame_at(1.0 + k / 200).image, cv2.COLOR_RGB2BGR)
        )
    lines = [
        line
        for line in commands(root, "micro_expressions.md")
        if line.split()[1] in ("simulate", "run", "report", "export")
    ]
    assert len(lines) >= 6
    for line in lines:
        # the same, but shorter and smaller
        result = eifer(
            re.sub(
                r"--minutes 0\.5 --fps 200",
                "--minutes 0.01 --fps 60 --size 160x160 --sensors off --no-emg",
                line,
            )
        )
        assert result.code == 0, f"{line}: {result.err}"
    summary = json.loads(Path("again/summary.json").read_text())
    assert summary["frames"] == 36 and summary["events"] == 0
    assert any("spotting needs 100 frames/s" in note for note in summary["notes"])
    program = blocks(root, "micro_expressions.md", "python")[0]
    exec(compile(program, "docs/micro_expressions.md", "exec"), {})


def test_the_export_page(
    root: Path, eifer: Eifer, monday: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("pyedflib")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "monday").symlink_to(monday / "monday")
    done = [line for line in commands(root, "import_export.md") if line.startswith("eifer export")]
    assert len(done) == 6
    for line in done:
        result = eifer(line)
        assert result.code == 0, f"{line}: {result.err}"
    for name in (
        "tables/emg_raw.csv",
        "tables_parquet/emg_raw.parquet",
        "bids/sub-P07/ses-1/emg",
        "head.glb",
        "take.npz",
        "take.csv",
    ):
        assert (tmp_path / name).exists()
    assert eifer("eifer export monday --to parqet --out x").code == 2


def test_the_sync_page(
    root: Path, eifer: Eifer, monday: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.chdir(tmp_path)
    shutil.copytree(monday / "monday", tmp_path / "monday")
    shutil.copy(monday / "monday.wav", tmp_path)
    done = commands(root, "sync.md")
    assert len(done) == 5
    for line in done:
        result = eifer(line + " --json")
        assert result.code == 0, f"{line}: {result.err}"
        found = json.loads(result.out)
        tolerance = {"led": 0.012, "audio": 0.21, "consensus": 0.06}[found["method"]]
        assert abs(found["offset_s"] + 0.2) < tolerance
    assert Sync.load(tmp_path / "monday") is not None
    for bad in ("--region 1,2,3", "--region a,b,c,d", "--region 5,5,0,9"):
        result = eifer(f"eifer sync monday --method led {bad}")
        assert result.code == 2 and "--region" in result.err
    example = json.loads(blocks(root, "sync.md", "json")[0])
    assert set(example) <= set(Sync.__dataclass_fields__)


def test_the_batch_page(root: Path, eifer: Eifer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    (text,) = blocks(root, "batch.md", "yaml")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.xdf").write_bytes(b"")
    (tmp_path / "bags" / "b").mkdir(parents=True)
    make(tmp_path / "MMM", frames=6, sessions=("1S", "2S"), tasks=("Forehead",), methods=("MediaPipe",))
    Path("batch.yaml").write_text(text)
    names = [unit.name for unit in units(load_config(Path("batch.yaml")))]
    assert names == ["a", "b", "mmm_99_1S", "mmm_99_2S", "sim100_0", "sim101_0", "sim102_0", "sim103_0"]
    # the same command on something small
    recording = EmgRecording(
        tmp_path, np.zeros((100, 1), np.float32), even_stamps(100, 100.0, NS), 100.0, ("F1",)
    )
    write_csv(tmp_path / "data" / "small.csv", recording)
    Path("batch.yaml").write_text("out: results\nrecordings: [data/*.csv]\nsteps: [import]\nworkers: 0\n")
    line, more = commands(root, "batch.md")
    result = eifer(line)
    assert result.code == 0, result.err
    assert Path("results/results.parquet").exists()
    asked = []
    monkeypatch.setattr(
        "eifer_ros.workflows.batch.batch",
        lambda config, **_: asked.append(config) or BatchResult(Path("results")),
    )
    assert eifer(more).code == eifer(line + " --address tcp://host:8786").code == 0
    assert [(config.workers, config.address) for config in asked] == [(4, ""), (0, "tcp://host:8786")]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    Path("batch.yaml").write_text("recordings: [nothing/*]\n")
    assert eifer(line).code == 2
    assert BatchConfig().workers == 2


def test_the_evaluation_page(
    root: Path, eifer: Eifer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = [Data(simulated=SimulatedData(seconds=20, program="calibration", rate_hz=500.0))]
    usual = job.load_protocol

    def shorter(path: Path | None, area: str) -> Protocol:
        asked = usual(path, area)
        return (
            asked
            if path is not None
            else asked.model_copy(
                update={
                    "data": short,
                    "participants": [],
                    "models": ["rest", "ridge"],
                    "profiles": ["live"],
                    "split": asked.split.model_copy(update={"gap_s": 0.2}),
                }
            )
        )

    monkeypatch.setattr(job, "load_protocol", shorter)
    monkeypatch.setattr(job, "simulate", lambda minutes, config, emg: simulate_short(config))
    *done, everything = commands(root, "evaluation.md")
    assert len(done) == 3
    for line in done:
        result = eifer(line)
        assert result.code == 0, f"{line}: {result.err}"
    (text,) = blocks(root, "evaluation.md", "yaml")
    Protocol.model_validate(yaml.safe_load(text))
    # all of them and every benchmark by one command; benchmarks are stood in for, as they take an hour
    asked: list[str] = []

    def bench(area: str, quick: bool, progress: object) -> list[dict[str, object]]:
        asked.append(area)
        if area == "drive":
            raise InputError("python -m bench drive failed after 3 s: no")
        return [{"area": area, "figure": f"{area}_x", "value": 1.5, "unit": "s", "n": 1, "machine": "here"}]

    monkeypatch.setattr(job, "bench_figures", bench)
    result = eifer(everything)
    assert result.code == 1 and "bench drive" in result.out
    assert {path.stem for path in (root / "bench").glob("*.py")} - {"__init__", "__main__", "table"} >= set(
        asked
    ) - {"ros", "face", "micro"}
    assert {"foundation", "emg", "mapping", "drive", "view", "data"} <= set(asked)
    assert all((Path("everything") / area / "table.csv").exists() for area in ("mapping", "emg", "face"))
    assert len(Path("everything/bench.jsonl").read_text().splitlines()) == len(asked) - 1
    assert eifer("eifer evaluate all --out b --protocol emg_results/protocol.yaml").code == 2
    again = eifer("eifer evaluate emg --protocol emg_results/protocol.yaml --out again --json")
    assert json.loads(again.out)["rows"] == json.loads(Path("emg_results/results.json").read_text())["rows"]


def simulate_short(config: PerformerConfig):
    from eifer_ros.simulation.performer import simulate

    return simulate(1.5 / 60, config, emg=False)
