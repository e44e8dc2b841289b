"""Faces as FLAME users know them: EIFER's 361-column rows, and parameter sequences in one `.npz`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...head.flame_rows import row_from_state, save_rows
from ...head.model import HeadModel
from ...head.projection import FACING
from ...types import NS, FaceState, FaceStatus


def export_rows(states: Sequence[FaceState], head: HeadModel, path: Path) -> int:
    """One EIFER row per face to `.csv`, `.csv.gz` or `.npy`; a lost face is a row of NaN. Returns the rows.

    Raises ModelError for a head that is no FLAME head.
    """
    rows = np.stack([row_from_state(state, head) for state in states])
    _write(path, lambda part: save_rows(part, rows))
    return len(rows)


def sequence(states: Sequence[FaceState], head: HeadModel) -> dict[str, Any]:
    """Arrays by the names FLAME and SMPL-X code uses, T frames.

    betas (S,) the median shape; expression (T, E); jaw_pose, neck_pose, leye_pose, reye_pose, global_orient
    (T, 3) axis-angle rad; transl (T, 3) m; eyelids (T, 2); stamps (T,) ns; fps; head_model; licence.
    global_orient and transl put the head into a world with y up and z towards the viewer, the camera at its
    origin: x_world = R x_model + transl. Lost faces are NaN and `tracked` (T,) false.
    """
    from ...head.flame_rows import axis_angle

    orient = np.full((len(states), 3), np.nan)
    place = np.full((len(states), 3), np.nan)
    for index, state in enumerate(states):
        if np.isfinite(state.head_pose).all():
            orient[index] = axis_angle(FACING.T @ state.head_pose[:3, :3])
            place[index] = FACING.T @ state.head_pose[:3, 3]
    stamps = np.array([state.stamp for state in states], np.int64)
    tracked = np.array([state.status != FaceStatus.LOST for state in states])
    shapes = np.stack(
        [state.shape for state, ok in zip(states, tracked, strict=True) if ok]
        or [np.zeros(head.shape_size, np.float32)]
    )

    def stack(name: str) -> Any:
        return np.stack([getattr(state, name) for state in states])

    eyes = stack("eyes")
    return {
        "betas": np.nanmedian(shapes, axis=0),
        "expression": stack("expression"),
        "jaw_pose": stack("jaw"),
        "neck_pose": stack("neck"),
        "leye_pose": eyes[:, 0],
        "reye_pose": eyes[:, 1],
        "global_orient": orient,
        "transl": place,
        "eyelids": stack("eyelids"),
        "stamps": stamps,
        "tracked": tracked,
        "fps": np.float64(frame_rate(stamps)),
        "head_model": np.array(head.id),
        "expression_names": np.array(head.expression_names),
        "licence": np.array(head.licence),
    }


def frame_rate(stamps: Any) -> float:
    """From the median step; 30 for a single frame."""
    steps = np.diff(np.asarray(stamps, np.int64))
    usual = float(np.median(steps)) if len(steps) else 0.0
    return NS / usual if usual > 0 else 30.0


def export_sequence(states: Sequence[FaceState], head: HeadModel, path: Path) -> int:
    """`sequence` as a compressed `.npz` without pickle. Returns the frames."""
    values = sequence(states, head)

    def save(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, **values)

    _write(path, save)
    return len(states)


def load_sequence(path: Path) -> dict[str, Any]:
    """Read `export_sequence`'s file. Raises InputError."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zip, zlib and numpy errors have no common base
        raise InputError(f"{path}: not a readable sequence ({error})") from None


def _write(path: Path, save: Any) -> None:
    if path.exists():
        raise InputError(f"{path}: exists; an export is never overwritten, give another --out")
    suffixes = "".join(path.suffixes)
    part = path.with_name(f".{path.name.removesuffix(suffixes)}.part{suffixes}")
    try:
        save(part)
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        part.unlink(missing_ok=True)
