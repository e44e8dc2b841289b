"""A recording for other people's tools: BIDS, CSV, Parquet, EIFER rows, FLAME sequences, glTF, Live Link CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import topics
from ..avatar.avatar_output import Avatar, AvatarConfig
from ..errors import InputError, did_you_mean
from ..head.model import HeadModel, load_head
from ..recording.exports.bids import export_bids
from ..recording.exports.flame import export_rows, export_sequence
from ..recording.exports.gltf import export_gltf
from ..recording.exports.tables import export_tables
from ..recording.reader import Bag
from ..types import FaceState

KINDS = {
    "csv": "every stream as a CSV table",
    "parquet": "every stream as a Parquet table",
    "bids": "EMG as BIDS (BDF and sidecars), video beside it",
    "eifer-rows": "361 columns per face (.csv, .csv.gz, .npy), FLAME heads only",
    "flame": "parameter sequence (.npz)",
    "gltf": "animated head (.glb)",
    "livelink": "CSV as the Live Link Face application writes it",
}
"""What can be written, in words."""
FACES = topics.faces(truth=True)


def export(
    bag: Path,
    to: str,
    out: Path,
    *,
    topic: str = "",
    head_model: str = "",
    topics: tuple[str, ...] = (),
    subject: str = "",
    session: str = "",
    task: str = "facial",
    mains_hz: float = 50.0,
    pose: bool = True,
    pictures: bool = True,
) -> dict[str, Any]:
    """Write a recording for other programs. Nothing that exists is overwritten.

    Parameters
    ----------
    bag : Path
        The recording.
    to : str
        See `KINDS`.
    out : Path
        A folder for csv, parquet and bids, else a file.
    topic : str, optional
        Whose faces; empty takes the best there are (face/fused, face/vision, face/emg, truth/face).
    head_model : str, optional
        File of a head that is not in models/.
    topics : tuple[str, ...], optional
        Streams for csv and parquet; empty for all.
    subject, session, task : str, optional
        Labels for bids.
    mains_hz : float, optional
        For bids.
    pose : bool, optional
        With the head pose, for glTF.
    pictures : bool, optional
        With pictures, for bids.

    Returns
    -------
    dict[str, object]
        What was written.

    Raises
    ------
    InputError
        An unknown kind, a file that exists, or nothing to write.
    ModelError
        The head model is missing or another.
    RecordingError
        The recording cannot be read.
    MissingExtra
        The library for this kind is not installed.
    """
    if to not in KINDS:
        raise InputError(f"export to '{to}'?{did_you_mean(to, KINDS)} Known are {', '.join(KINDS)}")
    if to in ("csv", "parquet"):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(
                f"{out}: exists and is not empty; an export is never overwritten, give another --out"
            )
        return {"out": str(out), "rows": export_tables(bag, out, to, topics)}
    if to == "bids":
        files = export_bids(
            bag, out, subject=subject, session=session, task=task, mains_hz=mains_hz, pictures=pictures
        )
        return {"out": str(out), "files": files}
    source, states = faces_of(bag, topic)
    out.parent.mkdir(parents=True, exist_ok=True)
    if to == "livelink":
        return {"out": str(out), "topic": source, "frames": _livelink(states, out, head_model)}
    head = head_of(states, head_model, bag)
    if to == "gltf":
        return {
            "out": str(out),
            "topic": source,
            **export_gltf(states, head, _suffix(out, ".glb"), pose=pose),
        }
    if to == "flame":
        return {
            "out": str(out),
            "topic": source,
            "frames": export_sequence(states, head, _suffix(out, ".npz")),
        }
    return {
        "out": str(out),
        "topic": source,
        "rows": export_rows(states, head, _suffix(out, ".csv", ".csv.gz", ".npy")),
    }


def _suffix(path: Path, *allowed: str) -> Path:
    if not path.name.endswith(allowed):
        raise InputError(f"{path}: the file's name must end in {' or '.join(allowed)}")
    return path


def faces_of(bag: Path, topic: str = "") -> tuple[str, list[FaceState]]:
    """The faces of a recording in stamp order.

    Parameters
    ----------
    bag : Path
        The recording.
    topic : str, optional
        Whose; empty takes the best there are.

    Returns
    -------
    tuple[str, list[FaceState]]
        The topic and its faces.

    Raises
    ------
    InputError
        There are none.
    """
    with Bag(bag) as recording:
        present = {stream.port for _, stream in recording.streams}
        name = topic or next((candidate for candidate in FACES if candidate in present), "")
        if not name or name not in present:
            raise InputError(
                f"{bag}: no {topic or 'faces'} in this recording; it has {', '.join(sorted(present))}. eifer run makes faces"
            )
        states = [item for _, _, item in recording.items(topics=[name]) if isinstance(item, FaceState)]
    if not states:
        raise InputError(f"{bag}: '{name}' holds no face")
    return name, states


def head_of(states: list[FaceState], head_model: str, bag: Path) -> HeadModel:
    """The head model of faces.

    Parameters
    ----------
    states : list[FaceState]
        The faces.
    head_model : str
        File of a head that is not in models/, empty for none.
    bag : Path
        For the message.

    Returns
    -------
    HeadModel
        The head.

    Raises
    ------
    InputError
        `head_model` is another one.
    """
    head = load_head(head_model or states[0].head_model)
    for state in states:
        if state.head_model != head.id:
            raise InputError(f"{bag}: its faces are of head model '{state.head_model}', not '{head.id}'")
    return head


def _livelink(states: list[FaceState], out: Path, head_model: str) -> int:
    _suffix(out, ".csv")
    head = head_model or states[0].head_model
    avatar = Avatar(
        AvatarConfig(targets=(f"livelink-csv:{out}?rate=1000",), head_model=head, smoothing=False)
    )
    avatar.setup()
    try:
        for state in states:
            for _ in avatar.handle("export", state):
                pass
        return avatar.senders[0].sent
    finally:
        avatar.close()
