"""A real headless Chromium for tests, driven over the DevTools protocol. Synchronous on the outside."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    # whatever the page might ask from outside fails, and is seen to
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


def executable() -> str | None:
    """Path of a Chromium, None where there is none."""
    return next(
        (
            path
            for name in NAMES
            if (path := shutil.which(os.environ.get("CHROMIUM", name)) or shutil.which(name))
        ),
        None,
    )


class Browser:
    """One browser, one page.

    `errors` collects exceptions, console errors and refused or failed requests of the page.
    """

    def __init__(self, profile: Path, flags: tuple[str, ...] = ()) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        path = executable()
        assert path is not None
        self._log = (profile.parent / f"{profile.name}.log").open("w+")
        self._process = subprocess.Popen(
            [path, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"],
            stderr=self._log,
            stdout=subprocess.DEVNULL,
        )
        self._call(self._connect(self._devtools()))

    @property
    def pid(self) -> int:
        return self._process.pid

    def _devtools(self) -> str:
        end = time.monotonic() + 240
        while time.monotonic() < end:
            self._log.seek(0)
            found = re.search(r"DevTools listening on (ws://\S+)", self._log.read())
            if found:
                return found[1]
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError("Chromium did not start")

    def _call(self, job: Any, timeout: float = 240.0) -> Any:
        return asyncio.run_coroutine_threadsafe(job, self._loop).result(timeout)

    async def _connect(self, address: str) -> None:
        import aiohttp

        self._session = aiohttp.ClientSession()
        async with self._session.get(
            address.split("/devtools")[0].replace("ws:", "http:") + "/json/list"
        ) as answer:
            pages = [page for page in await answer.json() if page["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
        self._reader = asyncio.create_task(self._read())
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._send(f"{domain}.enable")

    async def _read(self) -> None:
        async for message in self._socket:
            data = json.loads(message.data)
            if "id" in data:
                future = self._answers.pop(data["id"], None)
                if future is not None and not future.done():
                    future.set_result(data)
            else:
                self._note(data["method"], data["params"])

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(
                " ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"])
            )
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    async def _send(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        future: asyncio.Future[Any] = self._loop.create_future()
        self._answers[self._number] = future
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        answer = await asyncio.wait_for(future, 50)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One DevTools command."""
        return dict(self._call(self._send(method, **params)))

    def open(
        self, url: str, width: int = 1280, height: int = 720, dark: bool = False, scale: float = 1.0
    ) -> None:
        """Go to a page in a window of that size and theme."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )
        self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.send("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression; promises are awaited."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(
                answer["exceptionDetails"].get("exception", {}).get("description", "script failed")
            )
        return answer["result"].get("value")

    def until(self, script: str, timeout: float = 240.0, also: Callable[[], object] | None = None) -> Any:
        """Wait until an expression is true; its value."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if also is not None:
                also()
            try:
                value = self.run(
                    f"(() => {{ try {{ return {script} }} catch (error) {{ return false }} }})()"
                )
            except RuntimeError:  # the page is being loaded
                value = False
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"not within {timeout:.0f} s: {script}; the page said {self.errors}")

    def click(self, selector: str) -> None:
        """A real click in the middle of an element that can be seen."""
        place = self.until(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}), r = e.getBoundingClientRect(); "
            "return r.width > 0 && !e.disabled && { x: r.x + r.width / 2, y: r.y + r.height / 2 } })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent", type=kind, x=place["x"], y=place["y"], button="left", clickCount=1
            )

    def key(self, key: str, code: str = "") -> None:
        """Press and let go of a key."""
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=code or key,
                text=key if len(key) == 1 and kind == "keyDown" else "",
            )

    def picture(self, path: Path) -> None:
        """Screenshot as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End the browser."""

        async def shut() -> None:
            self._reader.cancel()
            await self._socket.close()
            await self._session.close()

        self._call(shut())
        self._process.terminate()
        self._process.wait(120)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._log.close()
