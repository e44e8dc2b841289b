"""EIFER and SMIRK parameter rows (361 columns) <-> FaceState of an imported FLAME head.

Columns as in EIFER's public data and SMIRK's encoder (Retsinas et al. 2024): 300 shape, 50 expression, 2
eyelids (left, right; 0 open .. 1 closed), 3 jaw and 3 global rotation (axis-angle rad), 3 weak-perspective
camera (scale, x, y). FLAME's further 50 expression coefficients are 0, and the rows hold neither neck nor
gaze.

Camera: SMIRK projects x_crop = scale * (X + x), y_crop = scale * (Y + y) onto a crop that spans -1..1 with y
up. A FaceState has a metric pose before a pinhole camera; the two agree at the head's own distance when that
distance is `focal / scale`, with `focal` in half crop widths. The global rotation turns about FLAME's root
joint, a head pose about the model's origin.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError, ModelError
from ..types import F64, FaceOrigin, FaceState, FaceStatus, Stamp
from .model import HeadModel, rotation_matrix
from .projection import FACING

GROUPS: tuple[tuple[str, int], ...] = (
    ("idt", 300),
    ("exp", 50),
    ("eyelid", 2),
    ("jaw", 3),
    ("pose", 3),
    ("cam", 3),
)
COLUMNS = sum(count for _, count in GROUPS)
NAMES: tuple[str, ...] = tuple(f"{group}_{i}" for group, count in GROUPS for i in range(count))
FOCAL = 5.0
"""Half crop widths; with SMIRK's usual scale of 7 to 10 a head stands 0.5 to 0.7 m away, as in front of a
desk camera.
"""


def _slices() -> dict[str, slice]:
    slices = {}
    start = 0
    for group, count in GROUPS:
        slices[group] = slice(start, start + count)
        start += count
    return slices


SLICES = _slices()


def axis_angle(rotation: npt.ArrayLike) -> F64:
    """Axis-angle of a rotation matrix.

    Parameters
    ----------
    rotation : array_like, shape (3, 3)
        Rotation.

    Returns
    -------
    ndarray of float64, shape (3,)
        Rad, angle in 0..pi.
    """
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_matrix(np.asarray(rotation, np.float64)).as_rotvec())


def state_from_row(
    row: npt.ArrayLike,
    head: HeadModel,
    stamp: Stamp,
    *,
    origin: FaceOrigin = FaceOrigin.VISION,
    focal: float = FOCAL,
) -> FaceState:
    """One row as a face.

    A row with any NaN is a face that was lost.

    Parameters
    ----------
    row : array_like, shape (361,)
        Columns as in `GROUPS`.
    head : HeadModel
        An imported FLAME head.
    stamp : int (ns)
        Of the face.
    origin : FaceOrigin, optional
        Of the face.
    focal : float, optional
        Focal length in half crop widths.

    Returns
    -------
    FaceState
        Of head model `head`.

    Raises
    ------
    ModelError
        `head` is too small for the row.
    InputError
        A row of another length, or a scale that is not positive.
    """
    values = np.asarray(row, np.float64)
    if values.shape != (COLUMNS,):
        raise InputError(f"a FLAME parameter row has {COLUMNS} columns; this one has shape {values.shape}")
    if head.shape_size < 300 or head.expression_size < 50:
        raise ModelError(
            f"head model '{head.id}' has {head.shape_size} shape and {head.expression_size} expression coefficients; the rows need a "
            "FLAME head with 300 and at least 50 (eifer head import-flame)"
        )
    if not np.isfinite(values).all():
        return FaceState.lost(stamp, head.id, origin, head.shape_size, head.expression_size)
    part = {group: values[where] for group, where in SLICES.items()}
    scale, x, y = part["cam"]
    if not scale > 0:
        raise InputError(f"the camera scale of a FLAME parameter row is {scale:g}; it must be above 0")
    shape = np.zeros(head.shape_size)
    shape[:300] = part["idt"]
    expression = np.zeros(head.expression_size)
    expression[:50] = part["exp"]
    turn = rotation_matrix(part["pose"])
    root = head.joint_positions(shape, expression)[0].astype(np.float64)
    pose = np.eye(4)
    pose[:3, :3] = FACING @ turn
    pose[:3, 3] = FACING @ (np.array([x, y, 0.0]) + root - turn @ root) + np.array([0.0, 0.0, focal / scale])
    return FaceState(
        stamp,
        head.id,
        origin,
        shape.astype(np.float32),
        expression.astype(np.float32),
        np.full(head.expression_size, np.nan, np.float32),
        part["jaw"].astype(np.float32),
        np.zeros(3, np.float32),
        np.zeros((2, 3), np.float32),
        np.clip(part["eyelid"], 0.0, 1.0).astype(np.float32),
        pose,
        1.0,
        FaceStatus.TRACKING,
    )


def row_from_state(state: FaceState, head: HeadModel, *, focal: float = FOCAL) -> F64:
    """The row of a face: the inverse of `state_from_row`.

    A lost face gives a row of NaN. Neck, gaze and expression coefficients from the 51st on have no column and
    are left out.

    Parameters
    ----------
    state : FaceState
        A face of `head`.
    head : HeadModel
        An imported FLAME head.
    focal : float, optional
        Focal length in half crop widths.

    Returns
    -------
    ndarray of float64, shape (361,)
        Columns as in `GROUPS`.

    Raises
    ------
    ModelError
        The face is of another head, or the head is no FLAME head.
    InputError
        The head lies behind the camera.
    """
    if state.head_model != head.id:
        raise ModelError(f"a face of head model '{state.head_model}' was given to '{head.id}'")
    if head.shape_size < 300 or head.expression_size < 50:
        raise ModelError(
            f"head model '{head.id}' is not a FLAME head: it has {head.shape_size} shape coefficients, the rows need 300"
        )
    row = np.full(COLUMNS, np.nan)
    if state.status == FaceStatus.LOST or not np.isfinite(state.head_pose).all():
        return row
    turn = FACING.T @ state.head_pose[:3, :3]
    root = head.joint_positions(state.shape, state.expression)[0].astype(np.float64)
    place = FACING.T @ state.head_pose[:3, 3]
    depth = -(place - (root - turn @ root))[2]
    if not depth > 0:
        raise InputError(
            f"the head lies {-depth:.3f} m behind the camera; a weak-perspective camera cannot show it"
        )
    x, y = (place - (root - turn @ root))[:2]
    row[SLICES["idt"]] = state.shape[:300]
    row[SLICES["exp"]] = state.expression[:50]
    row[SLICES["eyelid"]] = state.eyelids
    row[SLICES["jaw"]] = state.jaw
    row[SLICES["pose"]] = axis_angle(turn)
    row[SLICES["cam"]] = focal / depth, x, y
    return row


def states_from_rows(
    rows: npt.ArrayLike, head: HeadModel, stamps: Sequence[Stamp], *, focal: float = FOCAL
) -> list[FaceState]:
    """Rows as faces.

    Parameters
    ----------
    rows : array_like, shape (N, 361)
        Columns as in `GROUPS`.
    head : HeadModel
        An imported FLAME head.
    stamps : Sequence[Stamp]
        (N,) of the faces.
    focal : float, optional
        Focal length in half crop widths.

    Returns
    -------
    list[FaceState]
        N faces.

    Raises
    ------
    ModelError
        `head` is too small for the rows.
    InputError
        Another shape, or a row that is wrong, by its number.
    """
    table = np.asarray(rows, np.float64)
    if table.ndim != 2 or table.shape[1] != COLUMNS or len(table) != len(stamps):
        raise InputError(
            f"FLAME parameter rows have shape {table.shape} for {len(stamps)} stamps; they must be N x {COLUMNS}"
        )
    states = []
    for index, (row, stamp) in enumerate(zip(table, stamps, strict=True)):
        try:
            states.append(state_from_row(row, head, stamp, focal=focal))
        except InputError as error:
            raise InputError(f"row {index}: {error}") from None
    return states


def load_rows(path: Path) -> F64:
    """Rows from a `.csv` or `.csv.gz` (with or without header and index column) or a `.npy`.

    With a header, columns are found by group and number (`exp0`, `exp_0`, `exp 0`), in any order; without one
    they stand in the order of `GROUPS`. Empty cells are NaN.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ndarray of float64, shape (N, 361)
        Columns as in `GROUPS`.

    Raises
    ------
    InputError
        Says what the file holds instead.
    """
    if path.suffix == ".npy":
        try:
            table = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
        if table.ndim != 2 or table.shape[1] != COLUMNS:
            raise InputError(f"{path}: holds an array of shape {table.shape}; it must be N x {COLUMNS}")
        return np.asarray(table, np.float64)
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path}: is empty; it must hold rows of {COLUMNS} columns")
    head = [cell.strip().strip('"') for cell in lines[0].split(",")]
    pick = (
        _columns(head, path)
        if any(re.search("[A-Za-z]", cell) and cell.lower() != "nan" for cell in head)
        else None
    )
    body = lines if pick is None else lines[1:]
    return _numbers(body, pick, path, first_line=1 if pick is None else 2)


def _columns(head: Sequence[str], path: Path) -> list[int]:
    """Where each of `NAMES` stands in a header."""
    where: dict[str, int] = {}
    for index, cell in enumerate(head):
        match = re.fullmatch(r"(idt|exp|eyelid|jaw|pose|cam)[ _\-.]*(\d+)", cell.strip(), re.IGNORECASE)
        if match:
            where[f"{match[1].lower()}_{int(match[2])}"] = index
    if where and all(name in where for name in NAMES):
        return [where[name] for name in NAMES]
    if not where and len(head) in (
        COLUMNS,
        COLUMNS + 1,
    ):  # names of another kind, columns in the published order
        return list(range(len(head) - COLUMNS, len(head)))
    missing = next((name for name in NAMES if name not in where), NAMES[0])
    groups = ", ".join(f"{count} {group}" for group, count in GROUPS)
    raise InputError(
        f"{path}: has {len(head)} columns and no '{missing}'; FLAME parameter rows have {COLUMNS} ({groups})"
    )


def _numbers(lines: Iterable[str], pick: list[int] | None, path: Path, first_line: int) -> F64:
    rows = []
    for number, line in enumerate(lines, first_line):
        cells = line.split(",")
        indices = pick if pick is not None else list(range(len(cells) - COLUMNS, len(cells)))
        if len(cells) <= max(indices) or (pick is None and len(cells) not in (COLUMNS, COLUMNS + 1)):
            raise InputError(
                f"{path}: line {number} has {len(cells)} columns; FLAME parameter rows have {COLUMNS}"
            )
        try:
            rows.append([float(cells[i]) if cells[i].strip() else np.nan for i in indices])
        except ValueError as error:
            raise InputError(f"{path}: line {number}: {error}") from None
    return np.array(rows, np.float64).reshape(-1, COLUMNS)


def save_rows(path: Path, rows: npt.ArrayLike) -> None:
    """Write rows as `.npy`, or as `.csv` / `.csv.gz` with a header and an index column.

    Parameters
    ----------
    path : Path
        The file; its suffix says the format.
    rows : array_like, shape (N, 361)
        Columns as in `GROUPS`.

    Raises
    ------
    InputError
        Another shape.
    """
    table = np.asarray(rows, np.float64)
    if table.ndim != 2 or table.shape[1] != COLUMNS:
        raise InputError(f"FLAME parameter rows have shape {table.shape}; they must be N x {COLUMNS}")
    if path.suffix == ".npy":
        np.save(path, table, allow_pickle=False)
        return
    text = io.StringIO()
    text.write("," + ",".join(NAMES) + "\n")
    for index, row in enumerate(table):
        text.write(
            f"{index}," + ",".join("" if np.isnan(value) else repr(float(value)) for value in row) + "\n"
        )
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
