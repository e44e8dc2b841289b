"""A video of the camera picture with the fitted head and its landmarks laid over the face."""

from __future__ import annotations

import queue
import threading
from collections import deque
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import RecordingError
from ..head import projection
from ..head.model import HeadModel
from ..render import shade
from ..types import F32, I32, U8, FaceState, FaceStatus, Frame, Item

WAITING = 16
_TEXT = (245, 245, 245)
_LOST = (255, 170, 60)
_DOT = (255, 220, 90)


def front_faces(head: HeadModel) -> I32:
    """(N, 3) triangles of the face from chin to hairline and ear to ear; all where the model has no such
    region.
    """
    if "face" not in head.regions:
        return head.faces
    inside = np.zeros(len(head.template), bool)
    inside[head.regions["face"]] = True
    return np.ascontiguousarray(head.faces[inside[head.faces].all(axis=1)])


def draw(
    frame: Frame,
    state: FaceState | None,
    head: HeadModel,
    neutral: F32 | None = None,
    *,
    alpha: float = 0.45,
    faces: I32 | None = None,
) -> U8:
    """(H, W, 3) RGB picture with the mesh of the face and 68 landmarks over it, or a word where no face was
    found.

    neutral: `head.neutral(state.shape)`, faces: `front_faces(head)`, if the caller keeps them.
    """
    width, height = frame.size
    scale = max(0.4, height / 900)
    if state is None or state.status == FaceStatus.LOST or np.isnan(state.head_pose).any():
        picture: U8 = np.array(frame.image)
        _label(picture, "no face", scale, _LOST)
        return picture
    matrix = (
        frame.intrinsics if frame.intrinsics is not None else projection.default_intrinsics(width, height)
    )
    vertices = head.state_vertices(state, neutral)
    picture = shade.overlay(
        frame.image, vertices, front_faces(head) if faces is None else faces, matrix, state.head_pose, alpha
    )
    points = projection.project(head.points(vertices, "landmarks_68"), state.head_pose, matrix)[:, :2]
    radius = max(1, round(height / 360))
    for x, y in np.round(points * 16).astype(int):
        cv2.circle(picture, (int(x), int(y)), radius * 16, _DOT, -1, cv2.LINE_AA, 4)
    strongest = np.argsort(state.expression)[::-1][:3]
    words = "  ".join(
        f"{head.expression_names[i]} {state.expression[i]:.2f}"
        for i in strongest
        if state.expression[i] > 0.05
    )
    _label(picture, f"confidence {state.confidence:.2f}   {words}", scale, _TEXT)
    return picture


def _label(picture: U8, text: str, scale: float, colour: tuple[int, int, int]) -> None:
    x = round(12 * scale)
    y = picture.shape[0] - round(14 * scale)
    strip = picture[y - round(26 * scale) :]
    strip[:] = strip // 3  # writing in any colour stays readable, and the letters are drawn once
    cv2.putText(
        picture,
        text,
        (x, y),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        colour,
        max(1, round(1.5 * scale)),
        cv2.LINE_AA,
    )


class OverlayWriter:
    """Writes the overlay video in a thread of its own. `take` is a tap for the camera port and one face port.

    complete: wait for room rather than leave pictures out (files); otherwise a slow disk costs pictures of
    this video only.
    """

    def __init__(
        self, path: Path, head: HeadModel, face_port: str, rate_hz: float, *, complete: bool
    ) -> None:
        self.path = path
        self.skipped = 0
        self._head = head
        self._port = face_port
        self._rate = rate_hz
        self._complete = complete
        self._faces = front_faces(head)
        self._frames: deque[Frame] = deque(maxlen=64)
        self._queue: queue.Queue[tuple[Frame, FaceState] | None] = queue.Queue(WAITING)
        self._writer: Any = None
        self._size = (0, 0)
        self._neutral: tuple[bytes, F32] | None = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="overlay", daemon=True)
        self._thread.start()

    def take(self, port: str, item: Item) -> None:
        """Remember pictures; when the face of one arrives, hand both to the writer."""
        if isinstance(item, Frame):
            self._frames.append(item)
        elif isinstance(item, FaceState) and port == self._port:
            frame = next((frame for frame in reversed(self._frames) if frame.stamp == item.stamp), None)
            if frame is None:
                return
            if self._complete:
                self._queue.put((frame, item))
                return
            try:
                self._queue.put_nowait((frame, item))
            except queue.Full:
                self.skipped += 1

    def close(self) -> None:
        """Write what is waiting and finish the file. Raises RecordingError where it could not be written."""
        self._queue.put(None)
        self._thread.join()
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        if self._failure is not None:
            raise RecordingError(f"{self.path}: overlay video not written ({self._failure})")

    def _work(self) -> None:
        while (entry := self._queue.get()) is not None:
            if self._failure is not None:
                continue  # keep draining, so that nobody waits for room
            try:
                self._write(*entry)
            except Exception as error:  # told at close; the run itself must go on
                self._failure = error

    def _write(self, frame: Frame, state: FaceState) -> None:
        if self._writer is None:
            self._size = frame.size
            self._writer = cv2.VideoWriter(
                str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self._rate, self._size
            )
            if not self._writer.isOpened():
                raise OSError("the video encoder did not open")
        picture = draw(frame, state, self._head, self._rest(state), faces=self._faces)
        if frame.size != self._size:
            picture = np.asarray(cv2.resize(picture, self._size), np.uint8)
        self._writer.write(picture[:, :, ::-1])

    def _rest(self, state: FaceState) -> F32:
        """The resting head; shape hardly changes from frame to frame, so the large product is kept."""
        key = state.shape.tobytes()
        if self._neutral is None or self._neutral[0] != key:
            self._neutral = (key, self._head.neutral(state.shape))
        return self._neutral[1]
