"""A batch on real worker processes: nothing lost, nothing twice, failures listed."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from eifer_ros.emg.sources.recording import EmgRecording, even_stamps
from eifer_ros.emg.sources.text_formats import write_csv
from eifer_ros.errors import ConfigError, InputError
from eifer_ros.recording.info import info
from eifer_ros.types import NS
from eifer_ros.workflows.batch import BatchConfig, SimulatedCorpus, batch, load_config, units
from eifer_ros.workflows.batch_plan import STARTUP_S, plan

pq = pytest.importorskip("pyarrow.parquet")


def corpus(folder: Path, count: int, rows: int = 500) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        samples = np.random.default_rng(k).normal(0, 1e-4, (rows, 4)).astype(np.float32)
        recording = EmgRecording(
            folder, samples, even_stamps(rows, 1000.0, 1_700_000_000 * NS), 1000.0, ("F1", "F2", "F3", "F4")
        )
        write_csv(folder / f"p{k:02d}.csv", recording)
    return folder


def importing(folder: Path, out: Path, **more: object) -> BatchConfig:
    return BatchConfig.model_validate(
        {"recordings": [str(folder / "*.csv")], "out": str(out), "steps": ["import"], **more}
    )


def bags(out: Path) -> dict[str, Path]:
    return {path.parent.parent.name: path for path in out.glob("work/*/import-*/bag")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One simulated participant through every step, in this process."""
    out = tmp_path_factory.mktemp("batch") / "out"
    config = BatchConfig(
        out=str(out),
        simulated=SimulatedCorpus(participants=1, seconds=24),
        workers=0,
        settings={"fit": {"kind": "ridge"}},
    )
    result = batch(config)
    assert result.failures == {}
    assert (result.did, result.had) == (4, 0)
    again = batch(config)
    assert (again.did, again.had) == (0, 4)
    return out


def test_a_recording_goes_through_every_step_into_the_table(whole: Path) -> None:
    (row,) = pq.read_table(whole / "results.parquet").to_pylist()
    assert row["ok"]
    assert row["participant"] == "simulated 100"
    assert 0.3 < row["emg2exp_r"] <= 1
    assert 0 < row["vertex_mm"] < row["vertex_resting_mm"]
    assert json.loads((whole / "batch.json").read_text())["config"]["simulated"]["seconds"] == 24


def test_a_changed_setting_does_only_what_depends_on_it(whole: Path) -> None:
    config = BatchConfig(
        out=str(whole),
        simulated=SimulatedCorpus(participants=1, seconds=24),
        workers=0,
        settings={"fit": {"kind": "ridge", "lags": 4}},
    )
    result = batch(config)
    assert (result.did, result.had) == (2, 2)


def test_a_half_written_table_is_noticed_and_made_again(tmp_path: Path) -> None:
    config = importing(corpus(tmp_path / "in", 3), tmp_path / "out", workers=0)
    batch(config)
    table = tmp_path / "out" / "results.parquet"
    table.write_bytes(table.read_bytes()[:100])
    result = batch(config)
    assert "half-written" in result.notes[0]
    assert result.did == 0
    assert len(pq.read_table(table)) == 3


def test_a_changed_file_is_imported_anew_and_the_others_are_not(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "in", 3)
    config = importing(folder, tmp_path / "out", workers=0)
    batch(config)
    corpus(tmp_path / "other", 1, rows=700)
    (folder / "p01.csv").write_bytes((tmp_path / "other" / "p00.csv").read_bytes())
    assert batch(config).did == 1


def test_a_bad_file_is_listed_and_tried_again_only_when_asked(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "in", 3)
    good = (folder / "p01.csv").read_bytes()
    (folder / "p01.csv").write_text("time_s,a\n0,1\n")
    config = importing(folder, tmp_path / "out", workers=0)
    result = batch(config)
    assert list(result.failures) == ["p01"]
    assert "unit" in result.failures["p01"]
    assert json.loads((tmp_path / "out" / "failures.json").read_text()) == result.failures
    assert [row["ok"] for row in pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()] == [
        True,
        False,
        True,
    ]
    (folder / "p01.csv").write_bytes(good)
    again = batch(config)
    assert (again.did, again.had, again.failures) == (1, 2, {})


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    config = importing(corpus(tmp_path / "in", 5), tmp_path / "out", workers=0)
    stop = threading.Event()
    first = batch(config, stop=stop, progress=lambda done, total, name: stop.set() if done == 2 else None)
    assert len(first.rows) == 2
    assert set(first.failures.values()) == {"not reached: the run was stopped"}
    second = batch(config)
    assert (second.did, second.had, second.failures) == (3, 2, {})


def test_a_worker_killed_mid_run_loses_nothing_and_a_rerun_does_nothing(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    config = importing(corpus(tmp_path / "in", 8, rows=8000), tmp_path / "out", workers=2)
    killed: list[int] = []

    def kill_one(done: int, total: int, name: str) -> None:
        if killed:
            return
        for note in (tmp_path / "out" / "work").glob("*/running.json"):
            try:
                pid = json.loads(note.read_text())["pid"]
            except (OSError, ValueError):
                continue  # finished meanwhile
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return

    result = batch(config, progress=kill_one)
    assert killed
    assert result.failures == {}
    assert result.deaths >= 1
    assert len(pq.read_table(tmp_path / "out" / "results.parquet")) == 8
    made = bags(tmp_path / "out")
    assert sorted(made) == [f"p{k:02d}" for k in range(8)]
    for path in made.values():
        assert info(path).emg[0].samples == 8000
    again = batch(config.model_copy(update={"workers": 0}))
    assert (again.did, again.had) == (0, 8)
    assert not list((tmp_path / "out" / "work").glob("*/.part-*"))


def test_a_configuration_file_counts_paths_from_its_own_folder(tmp_path: Path) -> None:
    corpus(tmp_path / "in", 2)
    (tmp_path / "batch.yaml").write_text(
        "recordings: ['in/*.csv']\nout: results\nworkers: 0\nsteps: [import]\n"
    )
    config = load_config(tmp_path / "batch.yaml")
    assert config.out == str(tmp_path / "results")
    assert [unit.name for unit in units(config)] == ["p00", "p01"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "no recordings"),
        ({"recordings": ["/nowhere/*.csv"]}, "nothing matches"),
        ({"simulated": {}, "steps": ["fit"]}, "must begin with import"),
        ({"simulated": {}, "settings": {"fitt": {}}}, "no step 'fitt'"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(values: dict, words: str) -> None:
    with pytest.raises((InputError, ConfigError), match=words):
        units(BatchConfig.model_validate(values))


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("recordngs: []\n")
    with pytest.raises(ConfigError, match="did you mean 'recordings'"):
        load_config(tmp_path / "c.yaml")


def test_recordings_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    corpus(tmp_path / "a", 1)
    corpus(tmp_path / "b", 1)
    config = BatchConfig(recordings=[str(tmp_path / "a" / "p00.csv"), str(tmp_path / "b" / "p00.csv")])
    assert [unit.name for unit in units(config)] == ["p00", "p00_2"]


def test_a_plan_counts_whole_recordings_per_worker() -> None:
    found = plan(
        {"reconstruct": 50.0, "fit": 10.0}, recordings=148, minutes=7.0, peak_mb=1024.0, measured_min=7.0
    )
    unit_s = 7 * 60
    assert [row.workers for row in found] == [1, 10, 100]
    for row, rounds in zip(found, (148, 15, 2), strict=True):
        assert row.hours == pytest.approx((rounds * unit_s + STARTUP_S) / 3600)
        assert row.memory_gb == pytest.approx(row.workers)
    assert (
        plan({"fit": 1.0}, 3, 1.0, 1000.0, (50,))[0].memory_gb < 4
    )  # more workers than recordings: the rest idle


def test_a_cluster_is_used_by_its_address_and_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    config = importing(corpus(tmp_path / "in", 4), tmp_path / "out", workers=0)
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        memory_limit=0,
        silence_logs=50,
    ) as cluster:
        found = batch(config.model_copy(update={"address": cluster.scheduler_address}))
        assert (found.did, found.failures) == (4, {})
        ran = {
            json.loads((path.parent / "done.json").read_text()).get("pid")
            for path in bags(tmp_path / "out").values()
        } - {None}
        assert os.getpid() not in ran  # the work was done over there
        assert batch(config.model_copy(update={"address": cluster.scheduler_address})).had == 4
        assert len(cluster.workers) == 1
    monkeypatch.setattr("eifer_ros.workflows.batch.CONNECT_S", 1.0)
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        batch(config.model_copy(update={"address": "tcp://127.0.0.1:9"}))
