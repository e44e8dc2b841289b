"""One recording of a batch: import, reconstruct, fit, evaluate, each step once.

A step's result is a folder named after everything it depends on (its settings, the step before, the source's
size and time). It is made under another name and renamed when whole: a step that was killed left nothing, and
a step that is there is never done again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import resource
import shutil
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, threads  # noqa: F401  (threads before anything that loads a BLAS)
from ..errors import EiferError, InputError
from ..evaluation.metrics import displacement_basis, vertex_error_mm
from ..evaluation.simulated import write as write_simulated
from ..head.model import load_head
from ..mapping.fit import FitSettings
from ..mapping.scores import scores
from ..reconstruction.face_reconstruction import Reconstruction, ReconstructionConfig
from ..recording.reader import Bag
from ..recording.writer import BagWriter
from ..simulation.performer import PerformerConfig
from ..topics import CAMERA_IMAGE, FACE_VISION
from ..types import FaceState, Frame
from .fit import fit_recording
from .imports import import_emg, import_mmm

STEPS = ("import", "reconstruct", "fit", "evaluate")
PICTURES = CAMERA_IMAGE.name


@dataclass(frozen=True)
class Unit:
    """One recording. source: `bag:PATH`, `file:PATH`, `mmm:ROOT#SESSION` or `simulated:SEED/SESSION/SECONDS`.

    settings: by step.
    """

    name: str
    source: str
    work: str
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: tuple[str, ...] = STEPS

    @property
    def folder(self) -> Path:
        """Where its steps leave their results."""
        return Path(self.work) / self.name


@dataclass(frozen=True)
class Done:
    """What became of a unit. values: figures for the table. did: steps done now; had: steps that were there.

    error: why it failed.

    final: trying again is of no use (the input is wrong). pid: of the process. seconds: by step done now.
    """

    name: str
    values: dict[str, Any]
    did: tuple[str, ...] = ()
    had: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    peak_mb: float = 0.0
    error: str = ""
    final: bool = False
    pid: int = 0


def run_unit(unit: Unit) -> Done:
    """Do what is missing of a unit.

    Never raises for a recording that cannot be used: the reason is in the result.
    """
    did: list[str] = []
    had: list[str] = []
    took: dict[str, float] = {}
    values: dict[str, Any] = {}
    unit.folder.mkdir(parents=True, exist_ok=True)
    error = ""
    final = False
    step = ""
    try:
        key = fingerprint(unit.source)
        previous = unit.folder
        for step in unit.steps:
            key = _hash(key, step, unit.settings.get(step, {}), __version__)
            place = unit.folder / f"{step}-{key}"
            start = time.perf_counter()
            if (place / "done.json").is_file():
                had.append(step)
            else:
                _note(unit, step)
                _once(place, functools.partial(_DO[step], unit, previous))
                did.append(step)
                took[step] = time.perf_counter() - start
            values |= json.loads((place / "done.json").read_text(encoding="utf-8"))["values"]
            previous = place
    except EiferError as problem:
        error = f"{step}: {problem}" if step else str(problem)
        final = True
    except Exception as problem:  # a bug or a full disk must not end the other recordings; the trace stands beside the results
        error = f"{step}: {type(problem).__name__}: {problem}"
        (unit.folder / "trace.txt").write_text(traceback.format_exc(), encoding="utf-8")
    (unit.folder / "running.json").unlink(missing_ok=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Done(unit.name, values, tuple(did), tuple(had), took, peak, error, final, os.getpid())


def fingerprint(source: str) -> str:
    """Changes when the source's files do: names, sizes, modification times; contents are not read."""
    kind, _, rest = source.partition(":")
    if kind == "simulated":
        return _hash(source)
    path = Path(rest.partition("#")[0])
    if not path.exists():
        raise InputError(f"{path}: no such recording")
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    facts = [
        (str(f.relative_to(path)), s.st_size, s.st_mtime_ns) for f in files if f.is_file() for s in [f.stat()]
    ]
    return _hash(source, facts)


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _once(place: Path, make: Callable[[Path], dict[str, Any]]) -> None:
    """`make` fills a folder; it gets its name when it is whole. Whoever is second throws its own away."""
    part = place.with_name(f".part-{place.name}-{uuid.uuid4().hex[:8]}")
    part.mkdir(parents=True)
    try:
        values = make(part)
        text = json.dumps(
            {"values": values, "made": time.time_ns(), "eifer": __version__, "pid": os.getpid()},
            default=_plain,
        )
        (part / "done.json").write_text(text, encoding="utf-8")
        try:
            part.rename(place)
        except OSError:
            if not (place / "done.json").is_file():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _note(unit: Unit, step: str) -> None:
    """Who works on what, for people who watch and for tests that kill."""
    part = unit.folder / f".running-{os.getpid()}"
    part.write_text(json.dumps({"pid": os.getpid(), "step": step, "since": time.time_ns()}), encoding="utf-8")
    part.replace(unit.folder / "running.json")


# ---- the steps --------------------------------------------------------------------------------------------------------------


def _bag_of(folder: Path) -> Path:
    """The recording a step works on: its own copy, or the one it points at."""
    link = json.loads((folder / "done.json").read_text(encoding="utf-8"))["values"].get("bag")
    return Path(link) if link else folder / "bag"


def _import(unit: Unit, previous: Path, part: Path) -> dict[str, Any]:
    kind, _, rest = unit.source.partition(":")
    settings = unit.settings.get("import", {})
    values: dict[str, Any] = {"source": unit.source, "participant": "", "session": ""}
    target = part / "bag"
    if kind == "bag":
        values["bag"] = target = Path(rest)
    elif kind == "file":
        values["notes"] = len(import_emg(Path(rest), target, **settings).notes)
    elif kind == "mmm":
        root, _, session = rest.partition("#")
        result = import_mmm(Path(root), part / "mmm", sessions=[session], **settings)
        (part / "mmm" / session).rename(target)
        (part / "mmm").rmdir()
        values |= {"notes": len(result.notes), "clips_left_out": len(result.failures), "session": session}
    elif kind == "simulated":
        seed, number, seconds = rest.split("/")
        usual = {"seed": int(seed), "session": int(number), "program": "calibration", "rate_hz": 1000.0}
        config = PerformerConfig.model_validate(usual | settings)
        write_simulated(target, config, float(seconds))
        values["session"] = number
    else:
        raise InputError(f"recording '{unit.source}': what kind is '{kind}'? bag, file, mmm or simulated")
    with Bag(target) as bag:
        values["participant"] = str(bag.session.get("participant", ""))
    return values


def _reconstruct(unit: Unit, previous: Path, part: Path) -> dict[str, Any]:
    """Faces from pictures, in a recording without the pictures; one that has faces already, or no pictures,
    is used as it is.
    """
    source = _bag_of(previous)
    with Bag(source) as bag:
        topics = {stream.port for _, stream in bag.streams}
    if PICTURES not in topics or FACE_VISION.name in topics:
        return {"bag": str(source.absolute())}
    reconstruction = Reconstruction(ReconstructionConfig.model_validate(unit.settings.get("reconstruct", {})))
    reconstruction.setup()
    frames = 0
    tracked = 0
    with Bag(source) as bag, BagWriter(part / "bag", session=bag.session, wait=True) as out:
        for _, topic, item in bag.items():
            if isinstance(item, Frame) and topic == PICTURES:
                frames += 1
                for emission in reconstruction.handle(PICTURES, item):
                    if isinstance(emission.item, FaceState):
                        tracked += emission.item.confidence > 0
                        out.write(emission.port, emission.item)
            elif not isinstance(item, Frame):
                out.write(topic, item)
    return {"frames": frames, "frames_tracked": tracked}


def _fit(unit: Unit, previous: Path, part: Path) -> dict[str, Any]:
    settings = dict(unit.settings.get("fit", {}))
    faces = str(settings.pop("faces", "auto"))
    fitted = fit_recording(_bag_of(previous), part / "mapping.npz", FitSettings(**settings), faces=faces)
    held_out = fitted.held_out["emg2exp"]
    backward = fitted.held_out["exp2emg"]
    learnt = fitted.mapping.emg2exp.learnt
    with (part / "heldout.npz").open("wb") as file:
        np.savez_compressed(
            file,
            truth=held_out.truth,
            predicted=held_out.predicted,
            names=np.array(fitted.mapping.face_names)[learnt],
            muscles_truth=backward.truth,
            muscles_predicted=backward.predicted,
            head_model=np.array(fitted.mapping.head_model),
        )
    result = fitted.as_dict()
    return {
        "seconds": result["seconds"],
        "lag_s": result["lag_s"],
        "lag_grade": result["lag_grade"],
        "scheme": result["scheme"],
        "dead_channels": len(result["dead_channels"]),
    }


def _evaluate(unit: Unit, previous: Path, part: Path) -> dict[str, Any]:
    with np.load(previous / "heldout.npz", allow_pickle=False) as held:
        data = {name: held[name] for name in held.files}
    head = load_head(str(data["head_model"]))
    truth = data["truth"]
    predicted = data["predicted"]
    r, r2 = scores(truth, predicted)
    back_r, back_r2 = scores(data["muscles_truth"], data["muscles_predicted"])
    basis = displacement_basis(head)
    places = [
        head.expression_names.index(name) for name in data["names"].tolist() if name in head.expression_names
    ]
    columns = [k for k, name in enumerate(data["names"].tolist()) if name in head.expression_names]

    def spread(values: Any) -> Any:
        full = np.zeros((len(values), head.expression_size), np.float32)
        full[:, places] = values[:, columns]
        return full

    every = slice(None, None, max(1, len(truth) // 500))
    still = np.tile(np.median(truth, axis=0), (len(truth), 1))
    return {
        "coefficients": len(columns),
        "emg2exp_r": float(np.nanmedian(r)),
        "emg2exp_r2": float(np.nanmedian(r2)),
        "exp2emg_r": float(np.nanmedian(back_r)),
        "exp2emg_r2": float(np.nanmedian(back_r2)),
        "vertex_mm": float(vertex_error_mm(basis, spread(predicted)[every], spread(truth)[every]).mean()),
        "vertex_resting_mm": float(vertex_error_mm(basis, spread(still)[every], spread(truth)[every]).mean()),
    }


_DO: dict[str, Callable[[Unit, Path, Path], dict[str, Any]]] = {
    "import": _import,
    "reconstruct": _reconstruct,
    "fit": _fit,
    "evaluate": _evaluate,
}


def as_row(done: Done, unit: Unit) -> dict[str, Any]:
    """A row of the results table."""
    cost: dict[str, Any] = {f"{step}_s": done.seconds.get(step) for step in STEPS} | {"peak_mb": done.peak_mb}
    return {
        "name": done.name,
        "source": unit.source,
        "ok": not done.error,
        "error": done.error,
        **done.values,
        **cost,
    }
