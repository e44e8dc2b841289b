"""Batches of face crops from shards of training pictures: the crop is moved, light and lens are changed,
parts are hidden.

Half of what makes a network trained on renders work on real faces is here: nothing that a real camera changes
may carry meaning.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from eifer_ros.reconstruction.encoder.face_crop import SIZE, crop_of
from eifer_ros.reconstruction.landmarks.attention_mesh import Crop
from eifer_ros.types import F32, F64, U8
from research.faces.pictures import SIDE, Shard, shard_paths

_NOISE_BANK = 64


@dataclass(frozen=True)
class Batch:
    """N crops. picture: (N, SIZE, SIZE, 3) uint8. landmarks in crop units 0..1.

    readable: (N,) 0 or 1; where 0 nothing else counts. bare: the same crop without sensors, light and lens as
    in `picture`; mask (N, SIZE, SIZE) 0..255, where sensors cover the face.
    """

    picture: U8
    bare: U8
    mask: U8
    landmarks: F32
    expression: F32
    shape: F32
    rotation: F32
    readable: F32


@dataclass(frozen=True)
class Augment:
    """How pictures are varied.

    bare, partly: shares of pictures without sensors, and with sensors on a part of the face only.

    negatives: share of pictures that hold no readable face. strength: 0 leaves light, lens and crop alone
    (validation).
    """

    bare: float = 0.2
    partly: float = 0.25
    negatives: float = 0.06
    strength: float = 1.0


def batches(
    folder: Path, size: int, seed: int, augment: Augment | None = None, pool: int = 48, held_out: int = 0
) -> Iterator[Batch]:
    """Endless batches of `size` pictures from the shards in `folder`; `pool` shards are held in memory and
    replaced in turn. The first `held_out` shards are left for validation.

    Shards that appear later are taken up. Raises InputError for a folder without shards.
    """
    settings = augment if augment is not None else Augment()
    rng = np.random.default_rng(seed)
    order: list[Path] = []

    def following() -> Shard:
        nonlocal order
        if not order:
            order = shard_paths(folder)[held_out:]
            rng.shuffle(order)
        return Shard.load(order.pop())

    held = [following() for _ in range(min(pool, len(shard_paths(folder)) - held_out))]
    noise = rng.normal(0.0, 32.0, (_NOISE_BANK, SIZE, SIZE, 3)).clip(-127, 127).astype(np.int8)
    drawn = 0
    while True:
        picks = [(int(a), rng.integers(len(held[a].bare))) for a in rng.integers(len(held), size=size)]
        yield _stack([sample(held[a], int(b), rng, settings, noise) for a, b in picks])
        drawn += size
        if drawn > 2 * len(
            held[0].bare
        ):  # each shard's pictures are drawn about twice as often as it is held
            drawn = 0
            held[int(rng.integers(len(held)))] = following()
            if len(held) < pool:
                held.append(following())


def ahead(make: Callable[[], Iterator[Batch]], depth: int = 4) -> Iterator[Batch]:
    """The batches of `make()`, prepared in a thread."""
    line: queue.Queue[Batch | BaseException] = queue.Queue(depth)

    def work() -> None:
        try:
            for batch in make():
                line.put(batch)
        except BaseException as error:
            line.put(error)

    threading.Thread(target=work, daemon=True).start()
    while True:
        got = line.get()
        if isinstance(got, BaseException):
            raise got
        yield got


def _stack(rows: list[tuple[U8, U8, U8, F32, F32, F32, F32, float]]) -> Batch:
    columns = list(zip(*rows, strict=True))
    picture, bare, mask, landmarks, expression, shape, rotation = (np.stack(column) for column in columns[:7])
    return Batch(
        picture, bare, mask, landmarks, expression, shape, rotation, np.array(columns[7], np.float32)
    )


def sample(
    shard: Shard, i: int, rng: np.random.Generator, augment: Augment, noise: npt.NDArray[np.int8]
) -> tuple[U8, U8, U8, F32, F32, F32, F32, float]:
    """One crop and its truth; see `Batch`."""
    chance = rng.random()
    if chance < augment.bare:
        picture, mask = shard.bare[i], np.zeros((SIDE, SIDE), np.uint8)
    else:
        picture, mask = shard.sensors[i], shard.mask[i].astype(np.uint8) * np.uint8(255)
        if chance < augment.bare + augment.partly:
            keep = _patch(rng, SIDE)
            picture = np.where(keep[..., None] > 0, picture, shard.bare[i])
            mask = mask * keep
    landmarks = shard.landmarks[i].astype(np.float64)
    crop = _moved(crop_of(landmarks), rng, augment.strength)
    readable = 1.0
    if rng.random() < augment.negatives:
        readable = 0.0
        if rng.random() < 0.6:
            crop = _beside(crop, rng)
    matrix = crop.matrix(SIZE)
    border = cv2.BORDER_CONSTANT if rng.random() < 0.6 else cv2.BORDER_REPLICATE
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = cv2.warpAffine(picture, matrix, (SIZE, SIZE), flags=flags, borderMode=border)
    clean = cv2.warpAffine(shard.bare[i], matrix, (SIZE, SIZE), flags=flags, borderMode=border)
    covered = cv2.warpAffine(mask, matrix, (SIZE, SIZE), flags=flags)
    inverse = np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))
    points = (landmarks @ inverse[:2, :2].T + inverse[:2, 2]) / SIZE
    cos = np.cos(crop.angle)
    sin = np.sin(crop.angle)
    rotation = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ shard.rotation[i]
    if augment.strength > 0.0:
        develop = _development(rng, augment.strength, noise)
        cut = develop(cut)
        clean = develop(clean)
        if rng.random() < 0.3 * augment.strength:
            _hide(cut, covered, rng)
    if readable == 0.0 and rng.random() < 0.4:
        cut = _unreadable(cut, rng)
    return (
        np.asarray(cut, np.uint8),
        np.asarray(clean, np.uint8),
        np.asarray(covered, np.uint8),
        points.astype(np.float32),
        shard.expression[i],
        shard.shape[i],
        rotation.astype(np.float32),
        readable,
    )


def _patch(rng: np.random.Generator, side: int) -> U8:
    """(side, side) 1 on one side of a random line or inside a random box."""
    y, x = np.mgrid[0:side, 0:side] / side - rng.uniform(0.3, 0.7, 2)[:, None, None]
    if rng.random() < 0.6:
        angle = rng.uniform(0.0, 2.0 * np.pi)
        return np.asarray(x * np.cos(angle) + y * np.sin(angle) > 0.0, np.uint8)
    return np.asarray((np.abs(x) < rng.uniform(0.1, 0.3)) & (np.abs(y) < rng.uniform(0.1, 0.3)), np.uint8)


def _beside(crop: Crop, rng: np.random.Generator) -> Crop:
    """A crop that is no good: off the face, far too large or small, or half a face, as a detector's false
    find gives.
    """
    away = rng.uniform(0.0, 2.0 * np.pi)
    kind = rng.random()
    size, reach = (
        (1.0, rng.uniform(0.75, 1.0))
        if kind < 0.35
        else (0.22, 0.0)
        if kind < 0.45
        else (2.8, 0.0)
        if kind < 0.55
        else (rng.uniform(0.3, 0.62), rng.uniform(0.0, 0.3))
        if kind < 0.85
        else (rng.uniform(0.6, 1.1), rng.uniform(0.4, 0.7))
    )
    return Crop(
        crop.x + reach * crop.side * np.cos(away),
        crop.y + reach * crop.side * np.sin(away),
        size * crop.side,
        crop.angle,
    )


def _moved(crop: Crop, rng: np.random.Generator, strength: float) -> Crop:
    """As a tracker's crop is: a little late; one in eight as rough as a detector's."""
    rough = 2.5 if rng.random() < 0.125 else 1.0
    shift = rng.normal(0.0, 0.03 * rough, 2) * strength * crop.side
    scale = float(np.exp(rng.normal(0.0, 0.055 * rough) * strength))
    return Crop(
        crop.x + shift[0],
        crop.y + shift[1],
        crop.side * min(scale, 1.5),
        crop.angle + rng.normal(0.0, 0.05 * rough) * strength,
    )


def _development(
    rng: np.random.Generator, strength: float, noise: npt.NDArray[np.int8]
) -> Callable[[U8], U8]:
    """Random light, colour, sharpness and noise, the same for both pictures of a pair."""
    level = np.arange(256) / 255.0
    gain = np.exp(rng.normal(0.0, 0.18 * strength)) * np.exp(rng.normal(0.0, 0.07 * strength, 3))
    gamma = np.exp(rng.normal(0.0, 0.15 * strength))
    lift = max(rng.normal(-0.02, 0.04), 0.0) * strength
    table = (
        np.clip((lift + (1.0 - lift) * gain[None] * level[:, None] ** gamma) * 255.0, 0.0, 255.0)
        .astype(np.uint8)
        .reshape(1, 256, 3)
    )
    grey = rng.random() < 0.12 * strength
    coarse = float(rng.uniform(0.4, 0.95)) if rng.random() < 0.2 * strength else 1.0
    blur = float(rng.uniform(0.3, 1.3)) if rng.random() < 0.25 * strength else 0.0
    sharpen = float(rng.uniform(0.2, 1.2)) if rng.random() < 0.2 * strength else 0.0
    quality = int(rng.integers(25, 90)) if rng.random() < 0.15 * strength else 0
    grain = noise[rng.integers(len(noise))] if rng.random() < 0.6 * strength else None
    amount = float(rng.gamma(1.5, 2.0)) / 32.0

    def develop(picture: U8) -> U8:
        out = picture
        if coarse < 1.0:
            small = cv2.resize(out, None, fx=coarse, fy=coarse, interpolation=cv2.INTER_AREA)
            out = cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
        if blur:
            out = cv2.GaussianBlur(out, (0, 0), blur).astype(np.uint8)
        if sharpen:
            out = cv2.addWeighted(
                out, 1.0 + sharpen, cv2.GaussianBlur(out, (0, 0), 1.0), -sharpen, 0.0
            ).astype(np.uint8)
        out = cv2.LUT(out, table).astype(np.uint8)
        if grey:
            out = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.uint8)
        if grain is not None:
            out = np.clip(out + grain * np.float32(amount), 0.0, 255.0).astype(np.uint8)
        if quality:
            out = np.asarray(
                cv2.imdecode(
                    cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR
                ),
                np.uint8,
            )
        return np.asarray(out, np.uint8)

    return develop


def _hide(picture: U8, mask: U8, rng: np.random.Generator) -> None:
    """Boxes, bars and stray lines over the crop, in place; they count as covered."""
    for _ in range(int(rng.integers(1, 4))):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        x, y = (int(v) for v in rng.integers(0, SIZE, 2))
        if rng.random() < 0.5:
            w, h = (int(v) for v in rng.integers(SIZE // 16, SIZE // 4, 2))
            cv2.rectangle(picture, (x, y), (x + w, y + h), colour, -1)
            cv2.rectangle(mask, (x, y), (x + w, y + h), 255, -1)
        else:
            x2, y2 = (int(v) for v in rng.integers(0, SIZE, 2))
            thick = int(rng.integers(1, 4))
            cv2.line(picture, (x, y), (x2, y2), colour, thick, cv2.LINE_AA)
            cv2.line(mask, (x, y), (x2, y2), 255, thick)


def _unreadable(picture: U8, rng: np.random.Generator) -> U8:
    kind = rng.integers(4)
    if kind == 0:
        return np.full_like(picture, int(rng.integers(0, 12)))
    if kind == 1:
        return np.asarray(
            np.clip(picture.astype(np.float32) * rng.uniform(8.0, 40.0) + 60.0, 0, 255), np.uint8
        )
    if kind == 2:
        return np.asarray(rng.integers(0, 256, picture.shape), np.uint8)
    small: F64 = rng.uniform(0.0, 255.0, (int(rng.integers(2, 9)), int(rng.integers(2, 9)), 3))
    return np.asarray(
        cv2.resize(small.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC).clip(0, 255),
        np.uint8,
    )
