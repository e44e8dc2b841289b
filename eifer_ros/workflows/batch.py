"""Many recordings through import, reconstruct, fit and evaluate, on Dask: two cores or a cluster,
restartable, nothing twice.

What a run leaves in `out`: `results.parquet` (one row per recording), `failures.json`, `batch.json` (what was
asked, versions, times), `work/` (each step's result). A worker that dies costs the step it was in; its
recording goes to another worker. A run that was stopped goes on where it was when it is started again.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from .. import __version__
from ..config import Config, build, parameter
from ..errors import ConfigError, InputError, MissingExtra
from ..recording.exports.tables import arrow
from ..recording.imports.mmm import read_index
from .batch_steps import STEPS, Done, Unit, as_row, run_unit
from .common import Progress

CONNECT_S = 20.0
"""A scheduler that does not answer within this is not there."""
ROUNDS = 2
"""A recording that failed for no fault of its own is tried again so often within a run."""
RESULTS = "results.parquet"
FAILURES = "failures.json"
RECORD = "batch.json"


class SimulatedCorpus(Config):
    """A corpus made up on the spot."""

    participants: int = parameter(4, "how many persons", ge=1, le=100000)
    sessions: int = parameter(1, "how many sessions of each", ge=1, le=1000)
    seconds: float = parameter(40.0, "length of each", unit="s", ge=20, le=86400)
    first_seed: int = parameter(100, "seed of the first person", ge=0)


class MmmCorpus(Config):
    """MMM or MaM in a folder."""

    root: str = parameter("", "folder with MMM.csv")
    sessions: list[str] = parameter([], "sessions, as 99_2S; empty for all with EMG")


class BatchConfig(Config):
    """What `eifer batch` is asked to do. Relative paths count from the configuration's folder."""

    out: str = parameter("batch_out", "folder for results; a run goes on where an earlier one in it stopped")
    recordings: list[str] = parameter([], "bags and EMG files; patterns such as data/*.xdf are resolved")
    mmm: MmmCorpus | None = Field(None, description="sessions of MMM or MaM")
    simulated: SimulatedCorpus | None = Field(None, description="simulated participants")
    steps: list[Literal["import", "reconstruct", "fit", "evaluate"]] = parameter(
        list(STEPS), "which steps, in order"
    )
    settings: dict[str, dict[str, Any]] = parameter(
        {}, "by step: of the importer, of reconstruction, of the fit (kind, faces, ...)"
    )
    workers: int = parameter(
        2, "processes on this machine; 0 works in this process, without Dask", ge=0, le=1024
    )
    address: str = parameter("", "scheduler of a cluster (tcp://host:8786) in place of own processes")
    memory_mb: int = parameter(0, "memory limit of a worker; 0 for none", unit="MB", ge=0)


@dataclass
class BatchResult:
    """What a run came to.

    Parameters
    ----------
    out : Path
        Folder of the results.
    rows : list[dict[str, object]], optional
        One per recording.
    failures : dict[str, str], optional
        What went wrong, by recording.
    did, had : int, optional
        Steps done now, steps that were there.
    deaths : int, optional
        Workers that died.
    seconds : float, optional
        Length of the run.
    notes : list[str], optional
        For people.
    """

    out: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    did: int = 0
    had: int = 0
    deaths: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON.

        Returns
        -------
        dict[str, object]
            Every field.
        """
        return {
            "out": str(self.out),
            "recordings": len(self.rows),
            "failures": self.failures,
            "steps_done": self.did,
            "steps_found": self.had,
            "worker_deaths": self.deaths,
            "seconds": round(self.seconds, 2),
            "results": str(self.out / RESULTS),
            "notes": self.notes,
        }


def load_config(path: Path) -> BatchConfig:
    """Read a YAML file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    BatchConfig
        What to do.

    Raises
    ------
    ConfigError
        Names the key.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({error})") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: must hold keys such as recordings, simulated, mmm, out")
    config = build(BatchConfig, tree, str(path))
    base = path.parent.absolute()

    def absolute(name: str) -> str:
        return str(base / Path(name).expanduser())

    update: dict[str, Any] = {
        "out": absolute(config.out),
        "recordings": [absolute(name) for name in config.recordings],
    }
    if config.mmm is not None:
        update["mmm"] = config.mmm.model_copy(update={"root": absolute(config.mmm.root)})
    return config.model_copy(update=update)


def units(config: BatchConfig) -> list[Unit]:
    """The recordings of a configuration, names unique.

    Parameters
    ----------
    config : BatchConfig
        What to do.

    Returns
    -------
    list[Unit]
        One per recording.

    Raises
    ------
    InputError
        There is none, or a pattern finds nothing.
    ConfigError
        Steps that do not build on each other, or settings of an unknown step.
    """
    order = [STEPS.index(step) for step in config.steps]
    if order != list(range(len(order))):
        raise ConfigError(
            f"steps {config.steps}: they build on each other, so they must begin with {', '.join(STEPS[: len(order)])}"
        )
    unknown = set(config.settings) - set(STEPS)
    if unknown:
        raise ConfigError(f"settings: there is no step '{min(unknown)}'; steps are {', '.join(STEPS)}")
    sources: dict[str, str] = {}
    for pattern in config.recordings:
        matches = sorted(glob.glob(pattern)) if any(c in pattern for c in "*?[") else [pattern]
        if not matches:
            raise InputError(f"recordings: nothing matches '{pattern}'")
        for match in matches:
            kind = "bag" if os.path.isdir(match) or match.endswith(".mcap") else "file"
            _add(sources, Path(match).stem, f"{kind}:{match}")
    if config.mmm is not None:
        dataset = read_index(Path(config.mmm.root))
        sessions = config.mmm.sessions or [
            name for name in dataset.sessions if any(clip.emg for clip in dataset.of(name))
        ]
        for name in sessions:
            dataset.of(name)
            _add(sources, f"mmm_{name}", f"mmm:{config.mmm.root}#{name}")
    if config.simulated is not None:
        corpus = config.simulated
        for participant in range(corpus.participants):
            for session in range(corpus.sessions):
                seed = corpus.first_seed + participant
                _add(sources, f"sim{seed}_{session}", f"simulated:{seed}/{session}/{corpus.seconds:g}")
    if not sources:
        raise InputError("no recordings: name some under recordings, mmm or simulated")
    work = str(Path(config.out) / "work")
    return [
        Unit(name, source, work, config.settings, tuple(config.steps)) for name, source in sources.items()
    ]


def _add(sources: dict[str, str], name: str, source: str) -> None:
    unique = name
    number = 2
    while unique in sources:
        unique = f"{name}_{number}"
        number = number + 1
    sources[unique] = source


def batch(
    config: BatchConfig,
    *,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    work: Callable[[Unit], Done] = run_unit,
) -> BatchResult:
    """Run it.

    Parameters
    ----------
    config : BatchConfig
        What to do.
    progress : Progress, optional
        Called after each recording with (done, all, its name).
    stop : threading.Event, optional
        Set it to end after the steps in hand.
    work : Callable[[Unit], Done], optional
        Does the steps of one recording.

    Returns
    -------
    BatchResult
        Rows and failures; a recording that fails is among them.

    Raises
    ------
    ConfigError
        Something is wrong with the whole.
    InputError
        There is nothing to do.
    MissingExtra
        Dask (unless `workers` is 0) or pyarrow is not installed.
    """
    arrow()
    requested = {unit.name: unit for unit in units(config)}
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    result = BatchResult(out)
    if (out / RESULTS).exists():
        result.notes += _check_old(out / RESULTS)
    _clear_parts(out)
    start = time.perf_counter()
    finished: dict[str, Done] = {}
    pending = list(requested.values())
    engine = _Serial() if config.workers == 0 and not config.address else _Dask(config)
    try:
        for attempt in range(ROUNDS + 1):
            for done in engine.run(pending, work, stop):
                finished[done.name] = done
                result.did += len(done.did)
                result.had += len(done.had)
                if progress is not None:
                    progress(
                        sum(not d.error or d.final for d in finished.values()), len(requested), done.name
                    )
                if len(finished) % 20 == 0:
                    _write(out, requested, finished)
            pending = [requested[name] for name, done in finished.items() if done.error and not done.final]
            pending += (
                [unit for name, unit in requested.items() if name not in finished] if engine.deaths else []
            )
            if not pending or (stop is not None and stop.is_set()) or attempt == ROUNDS:
                break
    finally:
        engine.close()
    result.deaths = engine.deaths
    result.seconds = time.perf_counter() - start
    result.rows = _write(out, requested, finished)
    result.failures = {name: done.error for name, done in finished.items() if done.error}
    result.failures |= {
        name: "not reached: the run was stopped" for name in requested if name not in finished
    }
    _dump(out / FAILURES, result.failures)
    _dump(
        out / RECORD,
        {
            "config": config.model_dump(),
            "eifer": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "finished": time.time_ns(),
            **result.as_dict(),
        },
    )
    return result


class _Serial:
    """Everything in this process."""

    deaths = 0

    def run(
        self, pending: list[Unit], work: Callable[[Unit], Done], stop: threading.Event | None
    ) -> Iterator[Done]:
        """One after the other."""
        for unit in pending:
            if stop is not None and stop.is_set():
                return
            yield work(unit)

    def close(self) -> None:
        """Nothing to release."""


class _Dask:
    """Own worker processes, or a scheduler by its address. One recording at a time per worker thread."""

    def __init__(self, config: BatchConfig) -> None:
        try:
            import dask
            import distributed
        except ImportError as error:
            raise MissingExtra("distributed", "batch", "a batch with workers") from error
        self._distributed = distributed
        self._killed = distributed.KilledWorker
        self._cluster: Any = None
        self.deaths = 0
        # a recording whose workers died four times is given up on and listed; a poisoned file must not eat
        # the cluster
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": 3,
                "distributed.worker.daemon": False,
                "distributed.admin.log-format": "%(message)s",
                "logging.distributed": "error",
            }
        )
        if config.address:
            try:
                self._client = distributed.Client(config.address, timeout=CONNECT_S)
            except (OSError, TimeoutError) as error:
                raise InputError(f"no Dask scheduler answers at {config.address} ({error})") from None
        else:
            self._cluster = distributed.LocalCluster(
                n_workers=config.workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                memory_limit=f"{config.memory_mb}MB" if config.memory_mb else 0,
                silence_logs=50,
            )
            self._client = distributed.Client(self._cluster)
            self._client.wait_for_workers(config.workers, timeout=120)
        self._client.run(_warm)
        self._worker_names = set(self._client.scheduler_info(n_workers=-1)["workers"])

    def run(
        self, pending: list[Unit], work: Callable[[Unit], Done], stop: threading.Event | None
    ) -> Iterator[Done]:
        """As they finish. `stop` takes back what has not begun."""
        futures = {
            self._client.submit(work, unit, pure=False, key=f"eifer-{unit.name}-{time.time_ns()}"): unit
            for unit in pending
        }
        completed = self._distributed.as_completed(list(futures))
        taken_back = False
        for future in completed:
            unit = futures[future]
            self._count_deaths()
            if future.cancelled():
                continue
            error = future.exception()
            if error is None:
                yield future.result()
            else:
                killed = isinstance(error, self._killed)
                words = (
                    "its workers died four times (out of memory?)"
                    if killed
                    else f"{type(error).__name__}: {error}"
                )
                yield Done(unit.name, {}, error=words, final=killed)
            if stop is not None and stop.is_set() and not taken_back:
                taken_back = True
                waiting = [
                    f
                    for f in futures
                    if f.status == "pending" and not (Path(futures[f].folder) / "running.json").exists()
                ]
                self._client.cancel(waiting)

    def _count_deaths(self) -> None:
        now = set(self._client.scheduler_info(n_workers=-1)["workers"])
        self.deaths += len(self._worker_names - now)
        self._worker_names = now | (self._worker_names & now)

    def close(self) -> None:
        """End own workers; a cluster of others is left alone."""
        self._count_deaths()
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _warm() -> int:
    """Import what the steps need, so that the first recording is as fast as the tenth."""
    from . import batch_steps

    return len(batch_steps.STEPS)


def _check_old(path: Path) -> list[str]:
    _, pq = arrow()
    try:
        pq.read_metadata(path)
    except Exception as error:  # ArrowInvalid, OSError: whatever is wrong, the file is made anew
        return [
            f"{path.name} of an earlier run was half-written or damaged ({type(error).__name__}) and is made again from work/"
        ]
    return []


def _clear_parts(out: Path) -> None:
    """Halves of steps that an earlier run left when it was killed."""
    import shutil

    for part in (out / "work").glob("*/.part-*"):
        shutil.rmtree(part, ignore_errors=True)
    for note in (out / "work").glob("*/running.json"):
        note.unlink(missing_ok=True)


def _write(out: Path, requested: dict[str, Unit], finished: dict[str, Done]) -> list[dict[str, Any]]:
    """The table, whole or not at all; rows in the order of the configuration."""
    pa, pq = arrow()
    rows = [as_row(finished[name], unit) for name, unit in requested.items() if name in finished]
    names = list(dict.fromkeys(key for row in rows for key in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    part = out / f".{RESULTS}.part"
    pq.write_table(
        pa.table({name: _typed(pa, values) for name, values in columns.items()}), part, compression="zstd"
    )
    part.replace(out / RESULTS)
    return rows


def _typed(pa: Any, values: list[Any]) -> Any:
    numbers = [value for value in values if value is not None]
    if (
        numbers
        and any(isinstance(value, float) for value in numbers)
        and all(isinstance(value, int | float) for value in numbers)
    ):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array(values)


def _dump(path: Path, tree: Any) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(tree, indent=2, default=str) + "\n", encoding="utf-8")
    part.replace(path)
