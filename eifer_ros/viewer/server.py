"""The live page: one static page and one WebSocket, in a thread of its own beside the pipeline.

Newest only, with acknowledgement: a page gets its next message after it has shown the last one (a quick page:
the last but one), and then the newest there is, so a slow page or network skips instead of falling behind,
and nothing here ever makes the pipeline wait. Nothing is fetched from anywhere else; the content security
policy says so to the browser.

Who may look: on loopback anybody at this machine, from this page only (Host and Origin are checked, so that
no other website can reach it through the visitor's browser); on any other address whoever has the token.

Wire, page to server: JSON objects with `t`: `hello`, `ack`, `command`, `ping`, `watch`. Server to page: text
messages are JSON (`hello`, `status`, `reply`, `error`), binary ones are updates: uint32 length, JSON header,
blobs (see `geometry.pack`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from .. import __version__, topics
from ..emg.protocol import movement_named
from ..errors import DeviceError, EiferError, InputError, MissingExtra
from ..head.model import load_head
from ..types import EmgChannelInfo, FaceState, HeadModelInfo, Item, MuscleActivity
from . import demonstrate, geometry
from .board import Board
from .controls import MOVEMENTS, CalibrateControl, Control
from .page import Page
from .pictures import CAMERA, EMG_FACE, ESTIMATED, FACES, MEASURED, RESTORED, Pictures
from .view_config import ViewConfig

if TYPE_CHECKING:
    from aiohttp import web

    from ..hosts.local import LocalHost

STATIC = Path(__file__).resolve().parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
LOOPBACK = ("127.0.0.1", "::1", "localhost")
COOKIE = "eifer_token"
MAX_MESSAGE = 64 * 1024
_MOVING = frozenset((*FACES, EMG_FACE, MEASURED, CAMERA, RESTORED))
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def status_of(host: LocalHost, board: Board, live: bool) -> dict[str, Any]:
    """Rates, latencies, drops, clock figures and the health of every component.

    Parameters
    ----------
    host : LocalHost
        The graph.
    board : Board
        What the page shows.
    live : bool
        The items are of this moment.

    Returns
    -------
    dict[str, object]
        JSON values.
    """
    health = host.health()
    rates = {port: round(rate, 1) for port, rate in sorted(board.rates().items())}
    latency = {
        port: {"p50": _ms(timing.percentile(50)), "p99": _ms(timing.percentile(99))}
        for port, timing in list(host.latency.items())
        if timing.durations
    }
    ages = {port: _plain(board.age_ms(port)) for port in rates} if live else {}
    components = [
        {
            "name": name,
            "level": entry.level.name.lower(),
            "message": entry.message,
            "values": {key: _plain(value) for key, value in entry.values.items()},
        }
        for name, entry in health.items()
    ]
    words = ("offset", "drift", "jitter", "residual_ms", "clock")
    clocks = [
        {"component": entry["name"], "what": key, "value": value}
        for entry in components
        for key, value in entry["values"].items()  # type: ignore[attr-defined]
        if any(word in key for word in words)
    ]
    dropped = sum(int(entry.values.get("dropped", 0) or 0) for entry in health.values())
    lost = sum(int(entry.values.get("lost_samples", 0) or 0) for entry in health.values())
    return {
        "rates": rates,
        "latency": latency,
        "ages": ages,
        "components": components,
        "clocks": clocks,
        "dropped": dropped,
        "lost": lost,
    }


def _ms(value_s: float) -> float | None:
    return round(1e3 * value_s, 3) if np.isfinite(value_s) else None


def _plain(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return round(float(value), 3) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


class Viewer:
    """Serves the page. `take` is a tap for every port; `start` returns once the page can be opened.

    Parameters
    ----------
    config : ViewConfig, optional
        Parameters; None for the defaults.
    title : str, optional
        What is being looked at.
    live : bool, optional
        The items are of this moment (their age means something).
    controls : dict[str, Control], optional
        Groups of buttons by name (`record`, `calibrate`, `arm`, `player`).
    status : Callable[[], dict[str, object]], optional
        Makes the figures shown once a second.
    facts : dict[str, object], optional
        What a page must know first.
    """

    def __init__(
        self,
        config: ViewConfig | None = None,
        *,
        title: str = "",
        live: bool = True,
        controls: dict[str, Control] | None = None,
        status: Callable[[], dict[str, Any]] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.config = config or ViewConfig()
        self.title = title
        self.live = live
        self.controls: dict[str, Control] = dict(controls or {})
        self.facts: dict[str, Any] = dict(facts or {})
        self.status: Callable[[], dict[str, Any]] = status or dict
        self.board = Board()
        self.board.on_change = self._changed
        self.pictures = Pictures(
            self.board,
            self.config.head_model,
            camera_px=self.config.camera_px,
            quality=self.config.jpeg_quality,
        )
        self.token = "" if self.config.host in LOOPBACK else self.config.token or secrets.token_urlsafe(12)
        self.shown_ms: deque[float] = deque(maxlen=5000)
        """From the stamp of a face to its pixels, ms, as the pages tell."""
        self.on_pages: list[Callable[[int], None]] = []
        """Told how many pages are open whenever one comes or goes."""
        self.version = 0
        """Grows with everything that comes and moves."""
        self.listeners = 0
        """Pages that wait for something to come."""
        self.port = 0
        self._pages: set[Page] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake_due = False
        self._thread: threading.Thread | None = None
        self._ending: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._demonstrations: dict[str, bytes] = {}
        self._newest_status: dict[str, Any] = {}

    # ---- from the pipeline ------------------------------------------------------------------------------------------

    def take(self, port: str, item: Item) -> None:
        """Tap: store, and wake whoever waits. Some microseconds.

        Parameters
        ----------
        port : str
            Relative topic name.
        item : Item
            What came.
        """
        self.board.take(port, item)

    def _changed(self, port: str) -> None:
        if port not in _MOVING:
            return
        self.version += 1
        loop = self._loop
        # waking another thread costs the pipeline a fifth of a millisecond, so only where a page has nothing
        # else to do than wait
        if loop is not None and self.listeners and not self._wake_due:
            self._wake_due = True
            with contextlib.suppress(RuntimeError):  # the loop closed meanwhile
                loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._wake_due = False
        for page in self._pages:
            page.news.set()

    # ---- life -------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Address to open."""
        host = self.config.host
        if host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        elif ":" in host:
            host = f"[{host}]"
        return f"http://{host}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    @property
    def pages(self) -> int:
        """Pages open at present."""
        return len(self._pages)

    def start(self) -> str:
        """Serve.

        Returns
        -------
        str
            The address to open.

        Raises
        ------
        MissingExtra
            Aiohttp is not installed.
        DeviceError
            The port is taken.
        """
        try:
            import aiohttp.web  # noqa: F401
        except ImportError:
            raise MissingExtra("aiohttp", "viewer", "the live page") from None
        load_head(self.config.head_model)  # a wrong name is told here, not in the page
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="viewer", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            raise self._failure
        return self.url

    def close(self) -> None:
        """End the page and whatever its buttons began. Safe to call twice."""
        loop = self._loop
        ending = self._ending
        if loop is not None and ending is not None and self._thread is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ending.set)
            self._thread.join(timeout=10.0)
        self._loop = None
        self.pictures.close()
        for control in self.controls.values():
            control.close()

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._serve(ready))
        except BaseException as error:  # handed to `start`, which waits for it
            self._failure = (
                error if isinstance(error, EiferError) else DeviceError(f"the live page ended: {error}")
            )
        finally:
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        from aiohttp import web

        app = web.Application(middlewares=[self._gate])
        app.router.add_get("/", self._index)
        app.router.add_get("/ws", self._socket)
        app.router.add_get("/head.bin", self._head)
        app.router.add_get("/warmth.bin", self._warmth)
        app.router.add_get("/movement/{name}.jpg", self._movement)
        app.router.add_get("/{path:[a-z0-9_./]+}", self._file)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, self.config.host, self.config.port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise DeviceError(
                f"the live page cannot use {self.config.host} port {self.config.port} ({error.strerror or error}); give another port"
            ) from None
        assert site._server is not None
        self.port = int(site._server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        ready.set()
        tasks = [asyncio.create_task(self._report_status()), asyncio.create_task(self._turn())]
        await self._ending.wait()
        for task in tasks:
            task.cancel()
        for page in list(self._pages):
            await page.socket.close(code=1001, message=b"the run has ended")
        await runner.cleanup()

    async def _report_status(self) -> None:
        """Once a second: figures for the pages that are open."""
        loop = asyncio.get_running_loop()
        while True:
            if self._pages:
                self._newest_status = await loop.run_in_executor(None, self.status)
                for page in list(self._pages):
                    await page.send_json(self._status())
            await asyncio.sleep(1.0)

    async def _turn(self) -> None:
        """Twenty times a second: a running calibration moves on even while nobody looks."""
        control = self.controls.get("calibrate")
        while isinstance(control, CalibrateControl):
            control.turn()
            await asyncio.sleep(0.05)

    def _status(self) -> dict[str, Any]:
        shown = list(self.shown_ms)[-200:]
        viewers = {
            "pages": len(self._pages),
            "shown_ms": round(float(np.median(shown)), 1) if shown else None,
        }
        return {"t": "status", **self._newest_status, "viewer": viewers}

    # ---- who may come in --------------------------------------------------------------------------------------------

    @property
    def _gate(self) -> Any:
        from aiohttp import web

        @web.middleware
        async def gate(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            refused = self._refusal(request)
            if refused:
                return web.Response(status=403 if not self.token else 401, text=refused, headers=HEADERS)
            if self.token and "token" in request.query and request.path == "/":
                moved = web.HTTPFound("/")  # so that the token does not stay in the address bar
                moved.set_cookie(COOKIE, self.token, httponly=True, samesite="Strict", path="/")
                moved.headers.update(HEADERS)
                raise moved
            try:
                response = await handler(request)
            except web.HTTPException as error:
                error.headers.update(HEADERS)
                raise
            if not response.prepared:
                response.headers.update(HEADERS)
            return response

        return gate

    def _refusal(self, request: web.Request) -> str:
        """Why a request is not answered, or empty."""
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("Host", ""):
            return "This page answers only itself, not other websites.\n"
        if not self.token:
            name = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
            return "" if name in LOOPBACK else "Open this page by its own address (127.0.0.1).\n"
        token = request.query.get("token") or request.cookies.get(COOKIE) or ""
        if hmac.compare_digest(token.encode(), self.token.encode()):
            return ""
        return "This page needs its token: open the whole address that was printed when it was started.\n"

    # ---- files ------------------------------------------------------------------------------------------------------

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return self._static("index.html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return self._static(request.match_info["path"])

    def _static(self, name: str) -> web.StreamResponse:
        from aiohttp import web

        path = (STATIC / name).resolve()
        if STATIC not in path.parents or path.suffix not in _TYPES or not path.is_file():
            raise web.HTTPNotFound(text=f"{name} is not part of this page\n")
        return web.Response(body=path.read_bytes(), content_type=_TYPES[path.suffix], charset="utf-8")

    async def _head(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        face = self.board.newest(*FACES, EMG_FACE)
        state = face if isinstance(face, FaceState) and not np.isnan(face.shape).any() else None
        head = self.pictures.head(state.head_model if state is not None else None)
        if head is None:
            head = load_head(self.config.head_model)
            state = None
        shape = state.shape if state is not None else None
        body = await asyncio.get_running_loop().run_in_executor(None, geometry.head_block, head, shape)
        return web.Response(body=body, content_type="application/octet-stream")

    async def _warmth(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        item = self.board.newest(MEASURED, ESTIMATED)
        head = load_head(self.config.head_model)
        if not isinstance(item, MuscleActivity):
            raise web.HTTPNotFound(text="no muscle activity yet\n")
        warmth = await asyncio.get_running_loop().run_in_executor(
            None, self.pictures.warmth, head, item.scheme, item.muscles
        )
        block = geometry.pack(
            {"muscles": list(item.muscles)}, {"warmth": np.round(255 * warmth.of).astype(np.uint8)}
        )
        return web.Response(body=block, content_type="application/octet-stream")

    async def _movement(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        movement = movement_named(request.match_info["name"])
        if movement is None:
            raise web.HTTPNotFound(text="no such movement\n")
        if movement.name not in self._demonstrations:
            loop = asyncio.get_running_loop()
            head = load_head(self.config.head_model)
            self._demonstrations[movement.name] = await loop.run_in_executor(
                None, demonstrate.picture, head, movement.name
            )
        return web.Response(
            body=self._demonstrations[movement.name],
            content_type="image/jpeg",
            headers={"Cache-Control": "max-age=3600"},
        )

    # ---- pages ------------------------------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        if len(self._pages) >= self.config.max_pages:
            raise web.HTTPServiceUnavailable(
                text=f"{self.config.max_pages} pages are open already; close one\n"
            )
        if (
            request.headers.get("Origin") is None
            and not self.token
            and request.headers.get("Sec-Fetch-Site") == "cross-site"
        ):
            raise web.HTTPForbidden(text="This page answers only itself.\n")
        wire = web.WebSocketResponse(heartbeat=15.0, max_msg_size=MAX_MESSAGE, compress=False)
        await wire.prepare(request)
        page = Page(self, wire)
        self._pages.add(page)
        self._count_pages()
        try:
            await page.serve()
        finally:
            self._pages.discard(page)
            self._count_pages()
        return wire

    def _count_pages(self) -> None:
        for on_count in self.on_pages:
            on_count(len(self._pages))

    def hello(self) -> dict[str, Any]:
        """What a page must know first.

        Returns
        -------
        dict[str, object]
            JSON values.
        """
        channels = self.board.newest(topics.EMG_CHANNELS.name)
        head = self.board.newest(topics.HEAD_MODEL.name)
        return {
            "t": "hello",
            "version": __version__,
            "title": self.title,
            "live": self.live,
            "controls": sorted(self.controls),
            "movements": list(MOVEMENTS),
            "ports": list(self.board.ports()),
            "facts": self.facts,
            "scheme": channels.scheme if isinstance(channels, EmgChannelInfo) else "",
            "head_model": head.head_model if isinstance(head, HeadModelInfo) else self.config.head_model,
            "controlled": {name: control.state() for name, control in self.controls.items()},
        }

    def handle_command(self, name: str, verb: str, values: dict[str, Any]) -> str:
        """A button was pressed.

        Parameters
        ----------
        name : str
            Group of buttons.
        verb : str
            Which of them.
        values : dict[str, object]
            What it carries.

        Returns
        -------
        str
            One sentence for the page.

        Raises
        ------
        EiferError
            It cannot be done.
        """
        control = self.controls.get(name)
        if control is None:
            raise InputError(
                f"this run has no '{name}'; it has {', '.join(sorted(self.controls)) or 'no controls'}"
            )
        return control.command(verb, values)
