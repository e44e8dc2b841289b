"""Pictures for the page: each is made once, however many pages look, and only while one does.

A picture is asked for with the time it may be old; the one thread that paints makes it anew where it is older
and its item has changed. The pipeline is never waited for and never waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from .. import topics
from ..errors import EiferError
from ..head.model import HeadModel, load_head
from ..render.head_sheet import Studio
from ..types import F32, F64, U8, FaceState, FaceStatus, Frame, Item, MuscleActivity, Stamp
from . import heat
from .board import Board
from .paint import HeadPainter, jpeg

EMG_FACE = topics.FACE_EMG.name
FACES: tuple[str, ...] = tuple(name for name in topics.faces(truth=True) if name != EMG_FACE)
"""What the main head shows: the best there is. EMG's own face has a head of its own."""
MEASURED = topics.EMG_ACTIVITY.name
ESTIMATED = topics.MUSCLES_ESTIMATED.name
CAMERA = topics.CAMERA_IMAGE.name
RESTORED = topics.FACE_RESTORED.name
STALE_S = 1.5
"""A face that has not come for so long is shown as lost."""


@dataclass(frozen=True)
class Picture:
    """A picture as the page gets it: JPEG bytes, the stamp it shows, and a number that grows with each new
    one.
    """

    data: bytes
    stamp: Stamp
    number: int


class _Shelf:
    """One kind of picture: the last one, and the batch in which the next one is being made."""

    def __init__(self, make: Callable[[Item | None], U8], quality: int) -> None:
        self.make = make
        self.quality = quality
        self.picture: Picture | None = None
        self.key: tuple[object, ...] = ()
        self.drawn_at = -1.0
        self.pending: asyncio.Future[None] | None = None


class Pictures:
    """Paints for every page. Use from one event loop.

    head: name or path of the head model for heads without a face yet. size: of each head. camera_px: height
    of the camera picture.
    """

    def __init__(
        self,
        board: Board,
        head: str,
        *,
        size: tuple[int, int] = (296, 296),
        camera_px: int = 360,
        quality: int = 84,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.board = board
        self._name = head
        self._size = size
        self._camera_px = camera_px
        self._quality = quality
        self._monotonic = monotonic
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="viewer paint")
        self._heads: dict[str, HeadModel | None] = {}
        self._painters: dict[str, HeadPainter] = {}
        self._warmth: tuple[tuple[str, str, tuple[str, ...]], heat.Warmth] | None = None
        self._full = np.zeros(0)
        self._shelves = {
            "face": _Shelf(self._face, quality),
            "emg": _Shelf(self._emg, quality),
            "muscles": _Shelf(self._muscles, quality),
            "camera": _Shelf(self._camera, quality - 8),
            "restored": _Shelf(self._camera, quality - 8),
        }
        self._ports: dict[str, tuple[str, ...]] = {
            "face": FACES,
            "emg": (EMG_FACE,),
            "muscles": (MEASURED, ESTIMATED),
            "camera": (CAMERA,),
            "restored": (RESTORED,),
        }
        self._count = 0

    def head(self, name: str | None = None) -> HeadModel | None:
        """The head model called `name`, or the default one; None where this machine lacks it (a FLAME head
        imported elsewhere).
        """
        if name is None or name == self._name:
            return load_head(self._name)
        if name not in self._heads:
            try:
                self._heads[name] = load_head(name)
            except EiferError:
                self._heads[name] = None
        return self._heads[name]

    def item(self, kind: str) -> Item | None:
        """What a picture of that kind would show now."""
        if kind == "muscles":
            return self.board.newest(*self._ports[kind])
        return self.board.newest(*self._ports[kind], within_s=STALE_S) or self.board.newest(
            *self._ports[kind]
        )

    async def get(self, ages: Mapping[str, float]) -> dict[str, Picture]:
        """The newest pictures by kind; `ages` says how far, in s, each may be behind its item.

        None of a camera that has sent nothing.

        All that are due are made in one go: each change from thread to thread costs as much as half a
        picture.
        """
        loop = asyncio.get_running_loop()
        due: list[tuple[_Shelf, Item | None]] = []
        waiting: set[asyncio.Future[None]] = set()
        for kind, age in ages.items():
            shelf = self._shelves[kind]
            item = self.item(kind)
            if item is None and kind in ("camera", "restored"):
                continue
            stale = (
                kind == "face"
                and item is not None
                and self.board.newest(*self._ports[kind], within_s=STALE_S) is None
            )
            key = (id(item), item.stamp if item is not None else 0, stale)
            if shelf.pending is not None:
                waiting.add(shelf.pending)
            elif key != shelf.key and self._monotonic() - shelf.drawn_at >= age:
                shelf.key, shelf.drawn_at = key, self._monotonic()
                due.append((shelf, item))
        if due:
            batch: asyncio.Future[None] = loop.create_future()
            for shelf, _ in due:
                shelf.pending = batch
            try:
                for (shelf, item), data in zip(
                    due, await loop.run_in_executor(self._executor, self._make, due), strict=True
                ):
                    self._count += 1
                    shelf.picture = Picture(data, item.stamp if item is not None else 0, self._count)
            finally:
                for shelf, _ in due:
                    shelf.pending = None
                batch.set_result(None)
        for other in waiting:
            await asyncio.shield(other)
        return {kind: picture for kind in ages if (picture := self._shelves[kind].picture) is not None}

    def _make(self, due: Sequence[tuple[_Shelf, Item | None]]) -> list[bytes]:
        return [jpeg(shelf.make(item), shelf.quality) for shelf, item in due]

    def close(self) -> None:
        """Stop painting."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    # ---- what each picture shows; painting thread only --------------------------------------------------------------

    def _painter(self, item: Item | None) -> tuple[HeadPainter, FaceState | None]:
        """The painter for a face, and the face; the default head at rest where there is none or its model is
        not here.
        """
        state = item if isinstance(item, FaceState) else None
        head = self.head(state.head_model) if state is not None else None
        if head is None:
            head = load_head(self._name)
            state = None
        if head.id not in self._painters:
            self._painters[head.id] = HeadPainter(head, self._size)
        return self._painters[head.id], state

    def _face(self, item: Item | None) -> U8:
        painter, state = self._painter(item)
        turned = state.head_pose[:3, :3] if state is not None and state.status != FaceStatus.LOST else None
        return painter.paint(painter.vertices(state), turned)

    def _emg(self, item: Item | None) -> U8:
        painter, state = self._painter(item)
        return painter.paint(painter.vertices(state))

    def activation(self, item: MuscleActivity) -> F64:
        """(M,) 0..1: the calibrated activation, or before calibration the envelope beside the largest one
        seen of its channel.
        """
        values = np.asarray(item.activation, np.float64)
        if np.isfinite(values).any():
            return np.nan_to_num(values)
        envelope = np.nan_to_num(np.asarray(item.envelope, np.float64))
        if self._full.shape != envelope.shape:
            self._full = np.full(envelope.shape, 20e-6)
        self._full = np.maximum(self._full * 0.9995, envelope)
        return np.clip((envelope - 8e-6) / np.maximum(self._full - 8e-6, 12e-6), 0.0, 1.0)

    def warmth(self, head: HeadModel, scheme: str, muscles: tuple[str, ...]) -> heat.Warmth:
        """How the muscles warm this head, kept."""
        key = (head.id, scheme, muscles)
        if self._warmth is None or self._warmth[0] != key:
            weights = (
                heat.weights(head, scheme, muscles)
                if muscles
                else np.zeros((len(head.template), 1), np.float32)
            )
            self._warmth = (key, heat.Warmth(weights, head.parts, Studio(head).colours))
        return self._warmth[1]

    def _muscles(self, item: Item | None) -> U8:
        painter, state = self._painter(self.board.newest(*FACES, within_s=STALE_S))
        if isinstance(item, MuscleActivity):
            tint = self.warmth(painter.head, item.scheme, item.muscles).colours(self.activation(item))
        else:
            tint = self.warmth(painter.head, "", ()).colours(np.zeros(1))
        return painter.paint(painter.vertices(state), None, tint)

    def _camera(self, item: Item | None) -> U8:
        assert isinstance(item, Frame)
        width, height = item.size
        if height <= self._camera_px:
            return item.image
        size = (round(width * self._camera_px / height), self._camera_px)
        method = cv2.INTER_AREA if height >= 2 * size[1] else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(item.image, size, interpolation=method), np.uint8)

    # ---- what a page that draws by itself needs ---------------------------------------------------------------------

    def coefficients(self, state: FaceState) -> F32:
        """(9 + 6 + E,) for the page's own drawing: head rotation row by row (identity pose where unknown),
        eyes, expression.
        """
        rotation: F64 = np.asarray(state.head_pose[:3, :3])
        if not np.isfinite(rotation).all():
            rotation = np.diag([1.0, -1.0, -1.0])
        parts = (rotation.reshape(-1), np.nan_to_num(state.eyes).reshape(-1), np.nan_to_num(state.expression))
        return np.concatenate([part.astype(np.float32) for part in parts])
