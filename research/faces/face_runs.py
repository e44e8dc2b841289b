"""Trains faces under sensors: EIFER's phase 1 on a person's bare and covered pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eifer_ros.errors import InputError, MissingExtra
from eifer_ros.head.model import DEFAULT_HEAD, HeadModel, load_head
from eifer_ros.reconstruction.encoder.face_crop import MARGIN, SIZE
from eifer_ros.reconstruction.encoder.face_encoder import FaceEncoder as LiveEncoder
from eifer_ros.reconstruction.encoder.smirk_estimator import LEVEL
from eifer_ros.training.loop import threads
from eifer_ros.workflows.common import Progress
from research.common.ranks import Ranks
from research.common.recipe import option, required
from research.faces.face_data import Domain, TorchReader, Unpaired, gather
from research.faces.face_encoder import FaceEncoder, export
from research.faces.face_models import OpenFace
from research.faces.phase_one import Settings, Trainer, for_this_machine
from research.faces.refine import LandmarkedPictures, Refinement, Refiner
from research.faces.smirk_encoder import export as export_smirk
from research.faces.start_encoders import face_model, load_start

PICTURES = "a bag, a folder of videos or pictures, an MMM folder, or performer:SEED"


@dataclass(frozen=True, kw_only=True)
class PictureRun:
    """What to train on and where."""

    reference: str = required(f"pictures of bare faces: {PICTURES}")
    run: Path = required("folder of the run; a run that was stopped goes on from there", ("--out", "-o"))
    start: Path | None = option(
        None, "encoder to start from: .pt, .onnx or SMIRK's checkpoint; else the shipped one"
    )
    frames: int = option(2000, "about how many pictures of each side to use", least=1)
    check_reference: bool = option(True, "refuse references that carry sensors")
    threads: int = option(0, "threads of the CPU; 0 for torch's own number", least=0)
    head_model: str = DEFAULT_HEAD


@dataclass(frozen=True, kw_only=True)
class FaceRun(PictureRun):
    """What phase 1 is trained on and where."""

    sensors: str = required(f"pictures of the same person under sensors, of any other moments: {PICTURES}")
    head_model: str = option(DEFAULT_HEAD, "head model by name, or an .npz (FLAME for SMIRK)")
    device: str = option("auto", "auto, cpu, cuda or cuda:0")
    tensorboard: bool = option(False, "write curves and pictures for TensorBoard (extra: tensorboard)")


def train_face(
    task: FaceRun,
    settings: Settings | None = None,
    *,
    amp: bool | None = None,
    stop: Callable[[], bool] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Collect, train (or go on), export. amp: bfloat16; None lets the device decide. Returns what came of it.

    Raises as `face_data.gather`, `start_encoders.load_start` and `Trainer.resume`.
    """
    both = task.reference.startswith("performer:") or any(
        Path(task.reference).expanduser().glob("*.csv")
    )  # MMM holds both sides
    if task.reference == task.sensors and not both:
        raise InputError(
            f"--reference and --sensors are both {task.reference}; give the bare recording and the one under sensors"
        )
    ranks = Ranks.join(task.device)
    how = settings if settings is not None else Settings()
    how = for_this_machine(how, ranks.device) if amp is None else replace(how, amp=amp)
    how.check()
    head = load_head(task.head_model)
    encoder = load_start(task.start, head)
    task.run.mkdir(parents=True, exist_ok=True)
    bare, sensors = (
        _collect(task, covered, how.size, how.seed, encoder, ranks, progress) for covered in (False, True)
    )
    data = Unpaired(bare, sensors, how.size, how.seed)
    about = {"reference": bare.fingerprint(), "sensors": sensors.fingerprint()}
    trainer = Trainer(face_model(encoder, head, ranks.device), head, data, how, task.run, ranks, about)
    resumed = trainer.resume()
    begun = time.monotonic()
    first = trainer.step
    board = _board(task) if task.tensorboard and ranks.first else None

    def report_losses(step: int, means: dict[str, float]) -> None:
        if progress is not None and ranks.first:
            progress(step, how.steps, "  ".join(f"{name[:5]} {value:.2f}" for name, value in means.items()))

    def log(step: int, means: dict[str, float]) -> None:
        if board is not None:
            for name, value in means.items():
                board.add_scalar(f"loss/{name}", value, step)
            board.add_image("pictures", trainer.pictures(), step, dataformats="HWC")
            board.flush()

    try:
        with threads(task.threads):
            complete = trainer.train(report_losses, stop, log)
        files = _export(trainer, task) if ranks.first else {}
    finally:
        if board is not None:
            board.close()
        ranks.leave()
    return {
        "run": str(task.run),
        "steps": trainer.step,
        "complete": complete,
        "resumed_at": first if resumed else None,
        "seconds": round(time.monotonic() - begun, 1),
        "device": str(ranks.device),
        "processes": ranks.world,
        "pictures": {"reference": len(bare.crops), "sensors": len(sensors.crops)},
        "skipped": {"reference": bare.skipped, "sensors": sensors.skipped},
        "people": list(data.people),
        "left_out": list(data.left_out),
        "files": files,
    }


def _collect(
    task: PictureRun,
    covered: bool,
    size: int,
    seed: int,
    encoder: Any,
    ranks: Ranks,
    progress: Progress | None,
) -> Domain:
    """Crops of one side; collected once by the first process and kept in the run's folder."""
    name = "sensors" if covered else "reference"
    where = str(getattr(task, name))
    key = json.dumps([where, covered, task.frames, size, seed, task.check_reference])
    path = task.run / f"faces_{name}.npz"
    if ranks.first and not _is_current(path, key):

        def report(frame_count: int, clip: str) -> None:
            if progress is not None:
                progress(frame_count, task.frames, f"{name}: {clip}")

        reader = TorchReader(encoder) if isinstance(encoder, FaceEncoder) else _shipped_reader()
        gathered = gather(
            where,
            covered,
            reader,
            size=size,
            count=task.frames,
            seed=seed,
            check=task.check_reference,
            progress=report,
        )
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(
                file,
                key=np.array(key),
                crops=gathered.crops,
                person=gathered.person,
                people=np.array(gathered.people),
                skipped=np.array(json.dumps(gathered.skipped)),
            )
        partial.replace(path)
    ranks.wait()
    return _load(path)


def _shipped_reader() -> Any:
    """The shipped encoder finds the crops for an encoder that cannot say where a face is (SMIRK's)."""
    return LiveEncoder(load_head())


def _is_current(path: Path, key: str) -> bool:
    if not path.exists():
        return False
    try:
        with np.load(path, allow_pickle=False) as data:
            return str(data["key"]) == key
    except (OSError, ValueError, KeyError):
        return False


def _load(path: Path) -> Domain:
    with np.load(path, allow_pickle=False) as data:
        participants = tuple(str(participant) for participant in data["people"])
        return Domain(data["crops"], data["person"], participants, json.loads(str(data["skipped"])))


def _board(task: FaceRun) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra("tensorboard", "tensorboard", "--tensorboard") from None
    return SummaryWriter(str(task.run / "tensorboard"))


def _export(trainer: Trainer, task: FaceRun) -> dict[str, str]:
    """Both encoders as ONNX, where they run live, and as weights."""
    nets = trainer.averaged().cpu()
    start = task.start.name if task.start else "models/face_encoder.onnx"
    about: dict[str, object] = {"trained": "EIFER phase 1", "steps": trainer.step, "start": start}
    return {
        name: str(_write(model.encoder, trainer.head, task.run / f"{name}.onnx", about))
        for name, model in (("encoder_n", nets.encoder_n), ("encoder_s", nets.encoder_s))
    }


def _write(encoder: Any, head: HeadModel, path: Path, about: dict[str, object]) -> Path:
    """An encoder as ONNX at `path`, and as weights beside it."""
    if isinstance(encoder, FaceEncoder):
        sizes = [encoder.expression_size, encoder.shape_size]
        torch.save(
            {"average": encoder.state_dict(), "widths": list(encoder.widths), "sizes": sizes},
            path.with_suffix(".pt"),
        )
        export(encoder, head, path, about)
    else:
        torch.save(
            {f"smirk_encoder.{key}": value for key, value in encoder.state_dict().items()},
            path.with_suffix(".pt"),
        )
        # it learnt on the crops that eifer's encoder finds, not on those of SMIRK's landmarks
        export_smirk(encoder, path, head, about | {"crop": LEVEL, "margin": MARGIN})
    return path


def refine_face(
    task: PictureRun,
    settings: Refinement | None = None,
    *,
    stop: Callable[[], bool] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Collect bare pictures, refine (or go on), export."""
    how = settings if settings is not None else Refinement()
    head = load_head(task.head_model)
    device = torch.device("cpu")
    encoder = load_start(task.start, head)
    if not isinstance(encoder, FaceEncoder):
        raise InputError(f"{task.start}: SMIRK's encoder is refined by SMIRK's own training; here eifer's is")
    task.run.mkdir(parents=True, exist_ok=True)
    bare = _collect(task, False, SIZE, how.seed, encoder, Ranks(0, 1, device), progress)
    start = face_model(encoder, head, device)()
    assert isinstance(start, OpenFace)
    marked = LandmarkedPictures.of(bare)
    refiner = Refiner(start, head, marked, how, task.run)
    resumed = refiner.loop.resume()

    def report_losses(step: int, terms: dict[str, float]) -> None:
        if progress is not None:
            progress(step, how.steps, "  ".join(f"{name[:5]} {value:.2f}" for name, value in terms.items()))

    first = refiner.loop.step
    begun = time.monotonic()
    with threads(task.threads):
        complete = refiner.loop.run(refiner.advance, progress=report_losses, stop=stop)
    about: dict[str, object] = {"trained": "refined on bare pictures", "steps": refiner.loop.step}
    file = _write(refiner.averaged().encoder, head, task.run / "encoder.onnx", about)
    return {
        "run": str(task.run),
        "steps": refiner.loop.step,
        "complete": complete,
        "resumed_at": first if resumed else None,
        "seconds": round(time.monotonic() - begun, 1),
        "pictures": len(marked.pictures),
        "skipped": bare.skipped,
        "encoder": str(file),
    }
