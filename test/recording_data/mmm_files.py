"""Makes small data sets of the MMM layout, to the letter of its README: index, envelopes, videos, tables of
seven methods.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

GERMAN = (
    "Corrugator Supercilii",
    "Depressor Ang. Oris",
    "Depressor Supercilii Procerus",
    "Lateraler Frontalis",
    "Levator Labii Superioris",
    "Masseter",
    "Medialer Frontalis",
    "Mentalis",
    "Orbicularis Oculi",
    "Orbicularis Oris",
    "Zygomaticus",
)
COLUMNS = [f"{name}_{side}" for name in GERMAN for side in "lr"]
GROUPS = {
    "DECA": (("idt", 100), ("exp", 50), ("pose", 6), ("cam", 3), ("light", 27), ("tex", 50)),
    "EMOCAv2": (("idt", 100), ("exp", 50), ("pose", 6), ("cam", 3), ("light", 27), ("tex", 50)),
    "Deep3DFace": (("idt", 80), ("exp", 64), ("tex", 80), ("angle", 3), ("gamma", 27), ("t", 3)),
    "EIFER": (("idt", 300), ("exp", 50), ("eyelid", 2), ("jaw", 3), ("pose", 3), ("cam", 3)),
    "SMIRK": (("idt", 300), ("exp", 50), ("eyelid", 2), ("jaw", 3), ("pose", 3), ("cam", 3)),
    "FOCUS": (("idt", 199), ("exp", 100), ("tex", 199), ("cam", 6), ("sh", 27)),
}
COUNTS = {
    "DECA": 236,
    "EMOCAv2": 236,
    "Deep3DFace": 257,
    "EIFER": 361,
    "SMIRK": 361,
    "FOCUS": 531,
    "MediaPipe": 52,
}
BLENDSHAPES = [
    "_neutral",
    *(
        line
        for line in [
            "browDownLeft",
            "browDownRight",
            "browInnerUp",
            "browOuterUpLeft",
            "browOuterUpRight",
            "cheekPuff",
            "cheekSquintLeft",
            "cheekSquintRight",
            "eyeBlinkLeft",
            "eyeBlinkRight",
            "eyeLookDownLeft",
            "eyeLookDownRight",
            "eyeLookInLeft",
            "eyeLookInRight",
            "eyeLookOutLeft",
            "eyeLookOutRight",
            "eyeLookUpLeft",
            "eyeLookUpRight",
            "eyeSquintLeft",
            "eyeSquintRight",
            "eyeWideLeft",
            "eyeWideRight",
            "jawForward",
            "jawLeft",
            "jawOpen",
            "jawRight",
            "mouthClose",
            "mouthDimpleLeft",
            "mouthDimpleRight",
            "mouthFrownLeft",
            "mouthFrownRight",
            "mouthFunnel",
            "mouthLeft",
            "mouthLowerDownLeft",
            "mouthLowerDownRight",
            "mouthPressLeft",
            "mouthPressRight",
            "mouthPucker",
            "mouthRight",
            "mouthRollLower",
            "mouthRollUpper",
            "mouthShrugLower",
            "mouthShrugUpper",
            "mouthSmileLeft",
            "mouthSmileRight",
            "mouthStretchLeft",
            "mouthStretchRight",
            "mouthUpperUpLeft",
            "mouthUpperUpRight",
            "noseSneerLeft",
            "noseSneerRight",
        ]
    ),
]
SCHAEDE = (
    "Face-At-Rest",
    "Forehead",
    "Eye-Gentle",
    "Eye-Tight",
    "Nose-Pucker",
    "Smile-Closed",
    "Smile-Open",
    "Lip-Pucker",
    "Cheeks",
    "Snarl",
    "Depress-Lip",
)
N_LABELS = {"Smile-Closed": "-Smile-Closed", "Smile-Open": "-Smile-Open", "Cheeks": "Inflate-Cheeks"}
# which envelope rises in which movement, and which blendshape follows it
DOES = {
    "Forehead": ("Medialer Frontalis", "browInnerUp"),
    "Eye-Gentle": ("Orbicularis Oculi", "eyeBlinkLeft"),
    "Eye-Tight": ("Orbicularis Oculi", "eyeSquintLeft"),
    "Nose-Pucker": ("Levator Labii Superioris", "noseSneerLeft"),
    "Smile-Closed": ("Zygomaticus", "mouthSmileLeft"),
    "Smile-Open": ("Zygomaticus", "mouthSmileRight"),
    "Lip-Pucker": ("Orbicularis Oris", "mouthPucker"),
    "Cheeks": ("Orbicularis Oris", "cheekPuff"),
    "Snarl": ("Levator Labii Superioris", "mouthUpperUpLeft"),
    "Depress-Lip": ("Depressor Ang. Oris", "mouthFrownLeft"),
}


def names_of(method: str) -> list[str]:
    if method == "MediaPipe":
        return list(BLENDSHAPES)
    return [
        f"{g}_{'xyz'[i]}" if g in ("angle", "t") else f"{g}_{i}" for g, n in GROUPS[method] for i in range(n)
    ]


def envelopes(task: str, frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(T, 22) microvolts and (T,) how strongly the movement is made: two bursts."""
    t = np.arange(frames) / 30.0
    burst = np.clip(np.sin(2 * np.pi * t / (frames / 30 / 2)), 0, 1) if task in DOES else np.zeros(frames)
    values = 7 + rng.normal(0, 0.3, (frames, 22))
    if task in DOES:
        for column, name in enumerate(COLUMNS):
            if name.startswith(DOES[task][0] + "_"):
                values[:, column] = np.hypot(values[:, column], 120 * burst)
    return values, burst


def write_table(path: Path, names: Sequence[str], values: np.ndarray, *, index: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [("," if index else "") + ",".join(names)]
    lines += [
        (f"{k}," if index else "") + ",".join(repr(float(v)) for v in row) for k, row in enumerate(values)
    ]
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        path.write_text(text, encoding="utf-8")


def write_video(path: Path, frames: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, (64, 64))
    rng = np.random.default_rng(seed)
    picture = np.full((64, 64, 3), rng.integers(60, 200), np.uint8)
    for k in range(frames):
        picture[:8] = k % 256
        writer.write(picture)
    writer.release()


def make(
    root: Path,
    *,
    pid: str = "99",
    frames: int = 60,
    sessions: Sequence[str] = ("1N", "1S"),
    tasks: Sequence[str] = SCHAEDE,
    methods: Sequence[str] = tuple(COUNTS),
    videos: bool = False,
    seed: int = 0,
) -> Path:
    """A data set; returns its folder.

    Every S session has all tasks as `schaede` clips and one `emotion` clip `00_sad`.
    """
    rng = np.random.default_rng(seed)
    rows, fits = [], []
    for rec in sessions:
        plan = [("schaede", k, task) for k, task in enumerate(tasks)] + [("emotion", 0, "sad")]
        for mode, k, task in plan:
            sensors = rec.endswith("S")
            label = task if sensors else N_LABELS.get(task, task)
            stem = f"{pid}_{rec}_{mode}_{k:02d}_{label}"
            row = {
                "source": f"{pid}_{rec}_{mode}",
                "index": stem,
                "pid": pid,
                "rec": rec,
                "mode": mode,
                "task": label,
                "type": "sensor" if sensors else "normal",
                "sync_grade": "0" if sensors else "-1",
                "use": "yes" if sensors else "no",
                "video": f"video/{pid}_{rec}/{stem}.mp4",
                "video_no-cut": f"video_no-cut/{pid}_{rec}/{stem}.mp4",
                "emg": "",
                "video_noelec": "",
            }
            if videos:
                write_video(root / row["video"], frames, k)
                write_video(root / row["video_no-cut"], frames + 5, k)
            else:
                row["video"] = row["video_no-cut"] = ""
            if sensors:
                values, burst = envelopes(task, frames, rng)
                row["emg"] = f"emg/{pid}_{rec}/{stem}.csv"
                write_table(root / row["emg"], COLUMNS, values, index=True)
                if videos:
                    row["video_noelec"] = f"video_noelec/{pid}_{rec}/{stem}.mp4"
                    write_video(root / row["video_noelec"], frames, k + 50)
                fit = {
                    "index": stem,
                    "pid": pid,
                    "rec": rec,
                    "mode": mode,
                    "task": label,
                    "emg": row["emg"],
                    "video_noelec": row["video_noelec"],
                }
                for method in methods:
                    names = names_of(method)
                    table = rng.normal(0, 0.01, (frames, len(names)))
                    if method == "MediaPipe":
                        table = np.abs(table)
                        if task in DOES:
                            table[:, names.index(DOES[task][1])] += 0.8 * burst
                    elif "cam_0" in names:
                        table[:, names.index("cam_0")] = 8.0
                        if task in DOES:
                            table[:, names.index(f"exp_{list(DOES).index(task)}")] += burst
                    fit[method] = f"video_noelec_params/{method}/{pid}_{rec}/{stem}_params.csv.gz"
                    write_table(root / fit[method], names, table)
                fits.append(fit)
            rows.append(row)
    for name, table in (("MMM.csv", rows), ("MMM_3DMM.csv", fits)):
        with (root / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(table[0]) if table else ["index"])
            writer.writeheader()
            writer.writerows(table)
    return root


def change_index(root: Path, change, name: str = "MMM.csv") -> None:
    """Rewrite the index after `change(rows)` has altered its list of rows."""
    with (root / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with (root / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
