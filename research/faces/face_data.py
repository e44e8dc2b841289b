"""Pictures of faces for EIFER's phase 1, bare (N) and under sensors (S), from whatever a person has recorded.

Unpaired by construction: a `Domain` holds crops in shuffled order and who is seen, nothing else. Times, clips
and parameters are not kept, so nothing downstream could put a bare picture beside the same moment under
sensors, even where a recording would allow it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from eifer_ros.camera.folder import SUFFIXES
from eifer_ros.component import Source
from eifer_ros.errors import InputError
from eifer_ros.reconstruction.encoder.encoder_tracker import (
    EncoderTracker,
    Reader,
    exposed,
    inside,
)
from eifer_ros.reconstruction.encoder.face_crop import POINTS, SIZE, crop_of
from eifer_ros.reconstruction.encoder.face_encoder import Reading, as_input, cut
from eifer_ros.reconstruction.landmarks.attention_mesh import Crop
from eifer_ros.registry import CAMERAS
from eifer_ros.simulation.seeds import generator
from eifer_ros.types import F64, U8, Frame

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
AROUND = 1.15
"""Side of a stored crop over the side of the face's crop: room to move it while training."""
MIN_FRAMES = 40
"""So many usable pictures each domain must give."""
HELD_OUT = 8
"""Pictures of each domain that are only looked at."""
SENSOR_SCORE = 0.16
"""Fine structure on forehead and cheeks above which a person counts as wearing sensors."""
_DARK = 14.0
_BRIGHT = 241.0
_SMOOTH = ((109, 10, 338, 299, 9, 69), (117, 50, 205, 187, 129), (346, 280, 425, 411, 358))
"""Outlines of forehead, right and left cheek, in landmarks."""
_ROWS = tuple(np.array([POINTS.index(one) for one in part]) for part in _SMOOTH)

SKIPPED = ("black", "overexposed", "no face", "outside")
"""Why pictures are left out: too dark, too bright, no face that can be read, the crop lies outside the
picture.
"""


@dataclass(frozen=True)
class Domain:
    """Pictures of one side. crops: (n, side, side, 3) uint8 RGB, `AROUND` times the face's crop, shuffled.

    person: (n,) index into people.

    skipped: how many pictures were left out, by reason.
    """

    crops: U8
    person: npt.NDArray[np.int64]
    people: tuple[str, ...]
    skipped: dict[str, int] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Of what a run was trained on, so that it is not resumed on something else."""
        digest = hashlib.blake2b(digest_size=12)
        for part in (self.crops, self.person):
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update("\n".join(self.people).encode())
        return digest.hexdigest()

    def row(self, participant: str) -> npt.NDArray[np.int64]:
        """Which pictures show `participant`."""
        return (
            np.flatnonzero(self.person == self.people.index(participant))
            if participant in self.people
            else np.zeros(0, np.int64)
        )


@dataclass(frozen=True)
class Clip:
    """Pictures of one person, in order, opened when asked for."""

    person: str
    name: str
    open: Callable[[], Iterator[U8]]


class TorchReader:
    """A face encoder in torch where the tracker wants a reader."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder.eval()

    def read_patches(self, patches: Sequence[U8], crops: Sequence[Crop]) -> list[Reading]:
        """One reading for each picture already cut."""
        with torch.no_grad():
            outputs = {
                name: value.double().numpy()
                for name, value in self.encoder(torch.from_numpy(as_input(patches))).items()
            }
        out = []
        for k, crop in enumerate(crops):
            matrix = crop.matrix(SIZE)
            points = outputs["landmarks"][k] * SIZE @ matrix[:, :2].T + matrix[:, 2]
            readable = float(1.0 / (1.0 + np.exp(-np.clip(outputs["readable"][k], -50, 50))))
            std = np.exp(outputs["expression_log_std"][k])
            out.append(
                Reading(
                    crop,
                    points,
                    outputs["expression"][k],
                    std,
                    outputs["rotation"][k],
                    outputs["shape"][k],
                    readable,
                )
            )
        return out


# --- where pictures come from


def clips(where: str, sensors: bool, count: int) -> list[Clip]:
    """The clips of one domain.

    where: a bag, a folder of the MMM layout, a folder of videos or pictures, a video, or
    `performer:SEED[,SEED...]`. sensors: which side of MMM or of the performer is meant. count: pictures to
    make of a performer.

    Raises InputError for what is none of these or holds no clip.
    """
    if where.startswith("performer:"):
        return _performers(where, sensors, count)
    path = Path(where).expanduser()
    if not path.exists():
        raise InputError(
            f"{path}: no such folder or file; give a bag, a folder of videos or pictures, an MMM folder, or performer:SEED"
        )
    if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
        return [Clip("", path.name, partial(_camera, f"video:{path}", count))]
    if (
        path.suffix == ".mcap"
        or (path / "metadata.yaml").is_file()
        or (path.is_dir() and any(path.glob("*.mcap")))
    ):
        return [_bag(path, count)]
    if path.is_dir():
        if any(path.glob("*.csv")):
            recordings = _mmm(path, sensors, count)
            if recordings:
                return recordings
        videos = sorted(file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES)
        if videos:
            share = -(-count // len(videos))
            return [
                Clip("", str(file.relative_to(path)), partial(_camera, f"video:{file}", share))
                for file in videos
            ]
        if any(file.suffix.lower() in SUFFIXES for file in path.iterdir()):
            return [Clip("", path.name, partial(_camera, f"folder:{path}", count))]
        bags = sorted({file.parent for file in path.rglob("metadata.yaml")})
        if bags:
            return [_bag(bag, -(-count // len(bags))) for bag in bags]
    kinds = ", ".join((*VIDEO_SUFFIXES, *SUFFIXES[:3]))
    raise InputError(f"{path}: holds neither a recording nor videos nor pictures ({kinds})")


def _performers(where: str, sensors: bool, count: int) -> list[Clip]:
    words = where.partition(":")[2].split(",")
    if not all(re.fullmatch(r"\d+", word) for word in words):
        raise InputError(f"{where}: write performer:SEED or performer:SEED,SEED with whole numbers")
    share = -(-count // len(words))

    def perform(seed: int) -> Iterator[U8]:
        from eifer_ros.simulation.participant import Participant

        # another session under sensors: other timing, placement and noise, so no moment exists twice
        participant = Participant(seed, session=1 if sensors else 0, sensors=sensors)
        times = generator(seed, "phase one", int(sensors)).permutation(max(4 * share, 400))[:share] * 0.37
        for time_s in np.sort(times):
            yield participant.frame_at(float(time_s)).image

    return [Clip(f"performer {word}", f"performer {word}", partial(perform, int(word))) for word in words]


def _camera(url: str, count: int) -> Iterator[U8]:
    """About `count` pictures, evenly through the file."""
    camera: Source = CAMERAS.open(url)
    camera.setup()
    try:
        step = max(int(getattr(camera, "frame_count", 0)) // max(count, 1), 1)
        for number, emission in enumerate(camera.produce()):
            if number % step == 0 and isinstance(emission.item, Frame):
                yield emission.item.image
    finally:
        camera.close()


def _bag(path: Path, count: int) -> Clip:
    from eifer_ros.recording.reader import Bag, read
    from eifer_ros.recording.streams import Role

    with Bag(path) as bag:
        total = sum(
            connection.msgcount
            for connection, stream in bag.streams
            if stream.role is Role.PICTURE and stream.port == "camera/image_raw"
        )
    if not total:
        raise InputError(f"{path}: this recording holds no pictures (camera/image_raw)")
    step = max(total // max(count, 1), 1)

    def pictures() -> Iterator[U8]:
        number = 0
        for recorded in read(path, topics=("camera/image_raw",)):
            if isinstance(recorded.item, Frame):
                if number % step == 0:
                    yield recorded.item.image
                number += 1

    return Clip("", path.name, pictures)


def _mmm(path: Path, sensors: bool, count: int) -> list[Clip]:
    from eifer_ros.recording.imports.mmm import read_index

    try:
        dataset = read_index(path)
    except InputError:
        return []  # tables of another kind; the folder may still hold videos
    videos = [
        (clip.pid, clip.identifier, clip.video)
        for clip in dataset.clips
        if clip.sensors == sensors and clip.video is not None
    ]
    if not videos:
        side = "with" if sensors else "without"
        raise InputError(
            f"{path}: the index names no video {side} electrodes (sessions that end in {'S' if sensors else 'N'})"
        )
    share = -(-count // len(videos))
    return [Clip(pid, name, partial(_camera, f"video:{video}", share)) for pid, name, video in videos]


# --- from pictures to crops


def exposure_fault(image: U8) -> str | None:
    """`black` or `overexposed` where a picture shows nothing as a whole."""
    level = float(image[::4, ::4].mean())
    if level < _DARK and float(np.percentile(image[::4, ::4], 99)) < 40.0:
        return "black"
    return "overexposed" if level > _BRIGHT else None


def sensor_score(crop: U8, points: F64) -> float:
    """How much fine structure lies on forehead and cheeks of a crop (side, side, 3), relative to their
    brightness.

    points: (L, 2) `face_crop.POINTS` in crop units. Bare skin is smooth there (0.05 to 0.15), pads and cables
    are not (0.15 to 0.4); hair or a hard shadow may cover one of the three places, so the two smoothest are
    averaged.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    scale = len(crop) / SIZE
    low = cv2.GaussianBlur(grey, (0, 0), 6.0 * scale)
    fine = np.abs(cv2.GaussianBlur(grey, (0, 0), 0.8 * scale) - low) / (low + 8.0)
    scores = []
    for rows in _ROWS:
        mask = np.zeros(grey.shape, np.uint8)
        cv2.fillConvexPoly(mask, cv2.convexHull(np.round(points[rows] * len(crop)).astype(np.int32)), 1)
        if int(mask.sum()) > 20 * scale**2:
            scores.append(float(np.percentile(fine[mask > 0], 90)))
    return float(np.mean(sorted(scores)[:2])) if len(scores) > 1 else float("nan")


def gather(
    where: str,
    sensors: bool,
    reader: Reader,
    *,
    size: int = SIZE,
    count: int = 2000,
    seed: int = 0,
    check: bool = True,
    progress: Callable[[int, str], None] | None = None,
) -> Domain:
    """Crops of the faces at `where`, tracked by `reader`. size: side of the crops that will be trained on.

    count: about how many pictures are wanted. check: references must not carry sensors. progress: called with
    pictures seen and the clip. Raises InputError where too few pictures are usable, or references carry
    sensors.
    """
    side = round(AROUND * size)
    crops: list[U8] = []
    participant: list[str] = []
    scores: dict[str, list[float]] = {}
    skipped = dict.fromkeys(SKIPPED, 0)
    frame_count = 0
    for clip in clips(where, sensors, count):
        tracker = EncoderTracker(reader)
        for image in clip.open():
            frame_count += 1
            if progress is not None:
                progress(frame_count, clip.name)
            reason = exposure_fault(image)
            reading = tracker.track(image) if reason is None else None
            crop = crop_of(reading.points) if reading is not None else None
            if reason is None and crop is None:
                reason = "no face"
            if crop is not None and inside(crop, image.shape[1], image.shape[0]) < 0.9:
                reason = "outside"
            if reason is None and crop is not None and reading is not None:
                patch = cut(image, Crop(crop.x, crop.y, AROUND * crop.side, crop.angle), side)
                if not exposed(patch):
                    reason = "black" if float(patch.mean()) < 127.0 else "overexposed"
                else:
                    crops.append(patch)
                    participant.append(clip.person)
                    flat = _in_crop(reading.points, crop)
                    if (score := sensor_score(cut(image, crop, SIZE), flat)) == score:
                        scores.setdefault(clip.person, []).append(score)
            if reason is not None:
                skipped[reason] += 1
    what = "pictures under sensors" if sensors else "reference pictures"
    if len(crops) < MIN_FRAMES:
        left_out = (
            ", ".join(f"{number} {reason}" for reason, number in skipped.items() if number) or "none left out"
        )
        raise InputError(
            f"{where}: {len(crops)} usable {what} of {frame_count} ({left_out}); at least {MIN_FRAMES} are needed"
        )
    if check and not sensors:
        _refuse_covered(where, scores)
    order = generator(seed, "order", int(sensors)).permutation(len(crops))
    participants = tuple(sorted(set(participant)))
    index = np.array([participants.index(one) for one in participant], np.int64)
    return Domain(
        np.stack(crops)[order],
        index[order],
        participants,
        {name: number for name, number in skipped.items() if number},
    )


def _in_crop(points: F64, crop: Crop) -> F64:
    inverse = np.linalg.inv(np.vstack([crop.matrix(1), [0.0, 0.0, 1.0]]))
    return np.asarray(points @ inverse[:2, :2].T + inverse[:2, 2])


def _refuse_covered(where: str, scores: dict[str, list[float]]) -> None:
    for participant, values in scores.items():
        middle = float(np.median(values))
        if middle > SENSOR_SCORE:
            who = f" ({participant})" if participant else ""
            raise InputError(
                f"{where}{who}: the reference pictures seem to carry sensors already (fine structure {middle:.2f} on forehead and cheeks; "
                f"bare skin is below {SENSOR_SCORE}); record the bare face, or pass --no-check-reference where this is wrong"
            )


# --- what training draws


class Unpaired:
    """Batches of both domains, each drawn on its own; the same batch for the same (seed, step, rank),
    whatever came before.

    Only people seen in both domains are drawn. Raises InputError where there are none.
    """

    def __init__(self, bare: Domain, sensors: Domain, size: int, seed: int, jitter: float = 0.03) -> None:
        if len(bare.people) == len(sensors.people) == 1 and "" in (*bare.people, *sensors.people):
            bare = replace(bare, people=("",))
            sensors = replace(sensors, people=("",))  # one of them has no name: the same person
        self.people = tuple(participant for participant in bare.people if participant in sensors.people)
        lonely = sorted(set(bare.people) ^ set(sensors.people))
        if not self.people:
            raise InputError(
                f"nobody is seen both bare and under sensors (bare: {_list(bare.people)}; sensors: {_list(sensors.people)}); "
                "phase 1 needs both of each person"
            )
        self.left_out = tuple(lonely)
        self._domains = (bare, sensors)
        self._rows = [
            [self._learnt(domain.row(participant)) for participant in self.people] for domain in self._domains
        ]
        self.size = size
        self.seed = seed
        self.jitter = jitter

    @staticmethod
    def _learnt(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return rows[rows >= HELD_OUT] if (rows >= HELD_OUT).any() else rows

    def batch(self, step: int, count: int, rank: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """(count, 3, size, size) bare and the same under sensors, 0..1; row i of both shows the same person,
        at unrelated moments.
        """
        who = generator(self.seed, "who", step, rank).integers(len(self.people), size=count)
        return self._draw(0, who, step, rank), self._draw(1, who, step, rank)

    def _draw(self, side: int, who: npt.NDArray[np.int64], step: int, rank: int) -> torch.Tensor:
        rng = generator(self.seed, "draw", side, step, rank)
        rows = [int(rng.choice(self._rows[side][one])) for one in who]
        return self.cut(self._domains[side].crops[rows], rng)

    def cut(self, stored: U8, rng: np.random.Generator | None) -> torch.Tensor:
        """The faces' crops out of stored ones, moved a little where `rng` is given."""
        out = []
        for crop in stored:
            half = len(crop) / 2.0
            move = rng.normal(0.0, self.jitter, 4).clip(-0.07, 0.07) if rng is not None else np.zeros(4)
            face = len(crop) / AROUND
            place = Crop(
                half + float(move[0]) * face,
                half + float(move[1]) * face,
                face * float(np.exp(move[2])),
                float(move[3]),
            )
            out.append(cut(crop, place, self.size))
        return torch.from_numpy(as_input(np.stack(out)))

    def some(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first `count` of each domain, unmoved, to look at; up to `HELD_OUT` of them are never trained
        on.
        """
        bare, sensors = (self.cut(domain.crops[:count], None) for domain in self._domains)
        return bare, sensors


def _list(participants: Sequence[str]) -> str:
    return ", ".join(participant or "(unnamed)" for participant in participants) or "nobody"
