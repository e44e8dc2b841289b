"""One open page on the server's side: what it is sent, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import EiferError
from ..types import Array, FaceState, FaceStatus, MuscleActivity
from . import geometry
from .board import Board
from .controls import Control
from .pictures import EMG_FACE, ESTIMATED, FACES, MEASURED, STALE_S, Pictures
from .view_config import ViewConfig

if TYPE_CHECKING:
    from aiohttp import web

MAX_FAULTS = 20
"""Messages that make no sense before a page is sent away."""
QUICK_S = 0.06
"""A page that shows a message so soon may have two on their way."""


class Owner(Protocol):
    """What a page needs of the server that opens it."""

    board: Board
    pictures: Pictures
    shown_ms: deque[float]
    listeners: int

    @property
    def config(self) -> ViewConfig:
        """How often pages are sent something."""

    @property
    def controls(self) -> Mapping[str, Control]:
        """Buttons by name."""

    @property
    def version(self) -> int:
        """Goes up with everything new."""

    @property
    def live(self) -> bool:
        """Whether what is shown happens now."""

    def hello(self) -> dict[str, Any]:
        """The first message."""

    def handle_command(self, name: str, verb: str, values: dict[str, Any]) -> str:
        """Carry out a command; what to say to the page. Raises EiferError."""


class Page:
    """One open page."""

    def __init__(self, viewer: Owner, wire: web.WebSocketResponse) -> None:
        self.viewer = viewer
        self.socket = wire
        self.news = asyncio.Event()
        self._shown = asyncio.Event()
        self._shown.set()
        self._sequence = 0
        self._shown_sequence = 0
        self._sent_at: deque[tuple[int, float]] = deque(maxlen=8)
        self._trip_s = 1.0
        self._sent_version = -1
        self._numbers: dict[str, int] = {}
        self._cursors: dict[str, tuple[int, int]] = {}
        self._marked = 0
        self._happened = 0
        self._self_drawn = False
        self._faults = 0
        self._controlled: dict[str, Any] = {}
        self._last_item: dict[str, tuple[int, int, bool]] = {}
        self._lock = asyncio.Lock()

    async def serve(self) -> None:
        """Until the page goes."""
        from aiohttp import WSMsgType

        await self.send_json(self.viewer.hello())
        sender = asyncio.create_task(self._send())
        try:
            async for message in self.socket:
                if message.type is WSMsgType.TEXT:
                    await self._listen(message.data)
                elif message.type is WSMsgType.BINARY:
                    await self._fault("binary messages are not understood")
                if self._faults > MAX_FAULTS:
                    await self.socket.close(code=1008, message=b"too many messages that make no sense")
        finally:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await sender

    async def send_json(self, values: dict[str, Any]) -> None:
        """Send a JSON message; a page that has gone is not an error."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            async with self._lock:
                await asyncio.wait_for(self.socket.send_str(json.dumps(values)), 5.0)

    async def _fault(self, why: str) -> None:
        self._faults += 1
        await self.send_json({"t": "error", "text": why})

    # ---- from the page ----------------------------------------------------------------------------------------------

    async def _listen(self, text: str) -> None:
        try:
            message = json.loads(text)
        except ValueError:
            return await self._fault("not JSON")
        kind = message.get("t") if isinstance(message, dict) else None
        if kind == "ack":
            return self._acknowledge(message)
        if kind == "watch":
            self._self_drawn = message.get("renderer") == "webgl"
            self._numbers.clear()
            self._cursors.clear()
            self._last_item.clear()
            self._sent_version = -1
            self.news.set()
            return None
        if kind == "ping":
            return await self.send_json({"t": "pong", "id": message.get("id"), "now_ms": time.time() * 1e3})
        if kind == "command":
            return await self._command(message)
        return await self._fault(f"unknown message {str(kind)[:40]!r}; known are ack, watch, ping, command")

    def _acknowledge(self, message: dict[str, Any]) -> None:
        sequence = message.get("seq")
        age = message.get("age_ms")
        if isinstance(sequence, int) and self._shown_sequence < sequence <= self._sequence:
            self._shown_sequence = sequence
            for number, moment in self._sent_at:
                if number == sequence:
                    self._trip_s += 0.3 * (time.monotonic() - moment - self._trip_s)
            self._shown.set()
        if isinstance(age, int | float) and not isinstance(age, bool) and 0 <= age < 60_000:
            self.viewer.shown_ms.append(float(age))

    async def _command(self, message: dict[str, Any]) -> None:
        name = message.get("control")
        verb = message.get("verb")
        values = message.get("values") or {}
        reply = {"t": "reply", "id": message.get("id"), "ok": False}
        if not isinstance(name, str) or not isinstance(verb, str) or not isinstance(values, dict):
            return await self._fault("a command has 'control', 'verb' and 'values'")
        try:
            # starting a recording touches the disk; arming talks to servos
            said = await asyncio.get_running_loop().run_in_executor(
                None, self.viewer.handle_command, name, verb, values
            )
        except EiferError as error:
            return await self.send_json(reply | {"text": str(error)})
        self._sent_version = -1
        self.news.set()
        return await self.send_json(reply | {"ok": True, "text": said, "control": name, "verb": verb})

    # ---- to the page ------------------------------------------------------------------------------------------------

    def _room(self) -> bool:
        """Whether the page may get another message.

        A page that shows each at once is sent the next one while it draws the last.
        """
        return self._sequence - self._shown_sequence < (2 if self._trip_s < QUICK_S else 1)

    async def _send(self) -> None:
        config = self.viewer.config
        due = 0.0
        while not self.socket.closed:
            while not self._room():
                self._shown.clear()
                await self._shown.wait()
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            await self._wait_for_update()
            start = time.monotonic()
            due = max(due + 1.0 / config.rate_hz, start)
            header, blobs = await self._gather()
            if not blobs and not header:
                continue
            self._sequence += 1
            self._sent_at.append((self._sequence, time.monotonic()))
            header |= {"t": "update", "seq": self._sequence, "now_ms": time.time() * 1e3}
            try:
                async with self._lock:
                    await self.socket.send_bytes(geometry.pack(header, blobs))
            except (ConnectionError, RuntimeError):
                return

    async def _wait_for_update(self) -> None:
        """Until something has come since the last message, but no longer than buttons may take to show what
        they did.
        """
        viewer = self.viewer
        self.news.clear()
        viewer.listeners += 1  # before looking, so that nothing comes in between unseen
        try:
            if viewer.version == self._sent_version:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.news.wait(), 0.2)
        finally:
            viewer.listeners -= 1
            self._sent_version = viewer.version

    async def _gather(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """What has changed since the last message."""
        header: dict[str, Any] = {}
        blobs: dict[str, Array] = {}
        viewer = self.viewer
        self._faces(header, blobs)
        rate = 0.8 / viewer.config.rate_hz
        second = 0.9 / viewer.config.second_rate_hz
        kinds = {"camera": second, "restored": 1.5 * second}
        if not self._self_drawn:
            kinds = {"face": rate, "emg": 1.3 * second, "muscles": 2.4 * second} | kinds
        if viewer.board.newest(EMG_FACE) is None:
            kinds.pop("emg", None)
        for kind, picture in (await viewer.pictures.get(kinds)).items():
            if self._numbers.get(kind) != picture.number:
                self._numbers[kind] = picture.number
                blobs[f"jpeg:{kind}"] = np.frombuffer(picture.data, np.uint8)
                header.setdefault("stamps_ms", {})[kind] = picture.stamp / 1e6
        self._traces(header, blobs)
        self._marked, markers = viewer.board.markers(self._marked)
        if markers:
            header["markers"] = [
                {"ms": m.stamp / 1e6, "label": m.label, "phase": m.phase, "note": m.note} for m in markers
            ]
        self._happened, events = viewer.board.events(self._happened)
        if events:
            header["events"] = [
                {
                    "ms": e.stamp / 1e6,
                    "onset_ms": e.onset / 1e6,
                    "offset_ms": e.offset / 1e6,
                    "label": e.label,
                    "regions": list(e.regions),
                    "origin": e.origin.name.lower(),
                    "lead_ms": round(1e3 * e.lead_s, 1) if np.isfinite(e.lead_s) else None,
                }
                for e in events
            ]
        states = {name: control.state() for name, control in viewer.controls.items()}
        changed = {name: state for name, state in states.items() if state != self._controlled.get(name)}
        if changed:
            header["controlled"] = changed
            self._controlled = states
        return header, blobs

    def _faces(self, header: dict[str, Any], blobs: dict[str, Array]) -> None:
        board = self.viewer.board
        for kind, ports in (("face", FACES), ("emg", (EMG_FACE,))):
            fresh = board.newest(*ports, within_s=STALE_S)
            state = fresh if fresh is not None else board.newest(*ports)
            if not isinstance(state, FaceState):
                continue
            said = (state.stamp, int(state.origin), fresh is not None)
            if self._last_item.get(kind) == said:
                continue
            self._last_item[kind] = said
            word = (
                FaceStatus(state.status).name.lower()
                if fresh is not None or not self.viewer.live
                else "silent"
            )
            header.setdefault("faces", {})[kind] = {
                "ms": state.stamp / 1e6,
                "status": word,
                "origin": state.origin.name.lower(),
                "confidence": round(float(state.confidence), 3),
                "model": state.head_model,
            }
            if self._self_drawn and state.status != FaceStatus.LOST:
                blobs[f"face:{kind}"] = self.viewer.pictures.coefficients(state)

    def _traces(self, header: dict[str, Any], blobs: dict[str, Array]) -> None:
        for kind, port in (("measured", MEASURED), ("estimated", ESTIMATED)):
            cursor = self._cursors.get(kind, (-1, 0))
            trace = self.viewer.board.trace(port, *cursor)
            if trace is None:
                continue
            muscles, scheme, rows = trace
            if rows.epoch == cursor[0] and not len(rows.stamps):
                continue
            entry: dict[str, Any] = {"start_ms": 0.0}
            if rows.epoch != cursor[0]:
                entry |= {"muscles": list(muscles), "scheme": scheme}
            self._cursors[kind] = (rows.epoch, rows.cursor)
            if len(rows.stamps):
                entry["start_ms"] = int(rows.stamps[0]) / 1e6
                blobs[f"t:{kind}"] = ((rows.stamps - rows.stamps[0]) / 1e6).astype(np.float32)
                blobs[f"uv:{kind}"] = np.clip(1e6 * rows.envelope, 0, 60000).astype(np.float16)
            item = self.viewer.board.newest(port)
            if isinstance(item, MuscleActivity):
                blobs[f"now:{kind}"] = self.viewer.pictures.activation(item).astype(np.float32)
                blobs[f"quality:{kind}"] = np.asarray(item.quality, np.float32)
            header.setdefault("traces", {})[kind] = entry
