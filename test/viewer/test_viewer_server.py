"""The server without a browser: who may come in, and what pages cannot do to the pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("aiohttp")

import aiohttp
from stage import Stage

from eifer_ros.errors import DeviceError, ModelError
from eifer_ros.viewer.page import MAX_FAULTS
from eifer_ros.viewer.server import Viewer
from eifer_ros.viewer.view_config import ViewConfig


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    started = Viewer(ViewConfig(port=0, max_pages=3))
    started.start()
    yield started
    started.close()


@pytest.fixture
def guarded() -> Iterator[Viewer]:
    """Bound to every address, so a token is needed."""
    started = Viewer(ViewConfig(host="0.0.0.0", port=0, token="open sesame"))
    started.start()
    yield started
    started.close()


def header(data: bytes) -> dict[str, Any]:
    return json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")])


def status(url: str, **more: Any) -> int:
    async def ask() -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, allow_redirects=False, **more) as answer,
        ):
            await answer.read()
            return int(answer.status)

    return asyncio.run(ask())


async def updates(wire: Any, count: int, acknowledge: bool = True) -> list[dict[str, Any]]:
    """The next `count` updates."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        message = await wire.receive(timeout=120)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        if message.type is aiohttp.WSMsgType.BINARY:
            found.append(header(message.data))
            if acknowledge:
                await wire.send_json({"t": "ack", "seq": found[-1]["seq"]})
    return found


async def until(wire: Any, kind: str) -> dict[str, Any]:
    while True:
        message = await wire.receive(timeout=120)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        if message.type is aiohttp.WSMsgType.TEXT and json.loads(message.data)["t"] == kind:
            return dict(json.loads(message.data))


def test_the_policy_lets_the_page_speak_to_nobody_else(viewer: Viewer) -> None:
    async def ask() -> Any:
        async with aiohttp.ClientSession() as session, session.get(viewer.url) as answer:
            return answer.headers

    policy = asyncio.run(ask())["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy and "unsafe" not in policy and "*" not in policy


@pytest.mark.parametrize(
    "path", ["..%2fserver.py", "vendor/LICENSE.three", "../server.py", "nothing.js", "movement/Dance.jpg"]
)
def test_nothing_but_the_page_is_served(viewer: Viewer, path: str) -> None:
    assert status(f"http://127.0.0.1:{viewer.port}/{path}") == 404


def test_another_website_cannot_reach_the_page_through_the_visitors_browser(viewer: Viewer) -> None:
    address = f"http://127.0.0.1:{viewer.port}"
    assert status(address) == 200
    assert status(f"{address}/ws", headers={"Origin": "http://evil.example"}) == 403
    # DNS rebinding: the browser believes that evil.example is 127.0.0.1
    assert status(address, headers={"Host": f"evil.example:{viewer.port}"}) == 403
    assert (
        status(
            address, headers={"Host": f"localhost:{viewer.port}", "Origin": f"http://localhost:{viewer.port}"}
        )
        == 200
    )


def test_a_page_bound_elsewhere_needs_its_token(guarded: Viewer) -> None:
    address = f"http://127.0.0.1:{guarded.port}"
    assert "token=open sesame" in guarded.url
    assert status(address) == 401
    assert status(f"{address}/?token=wrong") == 401
    assert status(f"{address}/ws?token=") == 401
    assert status(f"{address}/app.js", cookies={"eifer_token": "wrong"}) == 401
    assert status(f"{address}/?token=open sesame") == 302

    async def visit() -> int:
        jar = aiohttp.CookieJar(unsafe=True)
        async with (
            aiohttp.ClientSession(cookie_jar=jar) as session,
            session.get(f"{address}/?token=open sesame") as answer,
        ):
            assert "token" not in str(answer.url)  # it does not stay in the address bar
            async with (
                session.get(f"{address}/app.js") as script,
                session.ws_connect(f"{address}/ws") as wire,
            ):
                assert (await wire.receive_json())["t"] == "hello"
                return int(script.status)

    assert asyncio.run(visit()) == 200


def test_a_token_is_made_where_none_was_given() -> None:
    made = {Viewer(ViewConfig(host="0.0.0.0")).token for _ in range(3)}
    assert len(made) == 3 and min(map(len, made)) >= 12
    assert Viewer(ViewConfig()).token == ""


def test_a_page_gets_the_newest_after_it_has_shown_the_last(viewer: Viewer) -> None:
    stage = Stage(viewer.take)

    async def visit() -> tuple[int, int]:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{viewer.url}ws") as wire:
            first = (await updates(wire, 1, acknowledge=False))[0]
            while "faces" not in first:  # the page was faster than the stage
                await wire.send_json({"t": "ack", "seq": first["seq"]})
                first = (await updates(wire, 1, acknowledge=False))[0]
            sent, last, more = stage.sent, first, 0
            while stage.sent < sent + 40:
                # nothing comes meanwhile but figures and, where the page was quick so far, one update that
                # was on its way
                with contextlib.suppress(asyncio.TimeoutError):
                    message = await wire.receive(timeout=0.1)
                    if message.type is aiohttp.WSMsgType.BINARY:
                        last, more = header(message.data), more + 1
                    else:
                        assert message.type is aiohttp.WSMsgType.TEXT
            assert more <= 1
            await wire.send_json({"t": "ack", "seq": last["seq"]})
            second = (await updates(wire, 1))[0]
            return first["faces"]["face"]["ms"], second["faces"]["face"]["ms"]

    try:
        before, after = asyncio.run(visit())
    finally:
        stage.close()
    assert after - before > 40 * 20 * 0.9  # the forty in between were left out


def test_a_page_that_never_answers_costs_neither_the_pipeline_nor_other_pages(viewer: Viewer) -> None:
    stage = Stage(viewer.take)

    async def visit() -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{viewer.url}ws") as deaf,
            session.ws_connect(f"{viewer.url}ws") as awake,
        ):
            await updates(deaf, 1, acknowledge=False)
            return len(await updates(awake, 25))

    try:
        assert asyncio.run(visit()) == 25
        # storing is all that happens in the pipeline's thread; painting one picture alone takes longer than
        # this
        assert stage.sent > 0
    finally:
        stage.close()


def test_messages_that_make_no_sense_are_answered_and_then_sent_away(viewer: Viewer) -> None:
    async def visit() -> tuple[list[str], int | None]:
        said = []
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{viewer.url}ws") as wire:
            for text in (
                "{",
                "[]",
                '"x"',
                '{"t": 5}',
                '{"t": "dance"}',
                '{"t": "command", "control": 5}',
                '{"t": "command"}',
                "null",
            ):
                await wire.send_str(text)
                said.append((await until(wire, "error"))["text"])
            await wire.send_bytes(b"\x00\xff")
            said.append((await until(wire, "error"))["text"])
            for values in (
                {"t": "ack"},
                {"t": "ack", "seq": "x", "age_ms": "y"},
                {"t": "ack", "age_ms": 1e99},
                {"t": "watch"},
            ):
                await wire.send_json(values)
            await wire.send_json({"t": "ping", "id": 7})
            assert (await until(wire, "pong"))["id"] == 7
            for _ in range(MAX_FAULTS):
                await wire.send_str("{")
            while not wire.closed:
                await wire.receive(timeout=120)
            return said, wire.close_code

    said, code = asyncio.run(visit())
    assert said[0] == "not JSON" and "dance" in said[4] and all(said)
    assert code == 1008
    assert list(viewer.shown_ms) == []
    assert status(viewer.url) == 200


def test_a_message_too_large_ends_only_that_page(viewer: Viewer) -> None:
    async def visit() -> int | None:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{viewer.url}ws") as wire:
            await wire.send_str("x" * 100_000)
            while not wire.closed:
                await wire.receive(timeout=120)
            return wire.close_code

    assert asyncio.run(visit()) == 1009
    assert status(viewer.url) == 200


def test_a_command_for_a_control_this_run_lacks_is_refused_in_words(viewer: Viewer) -> None:
    async def visit() -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{viewer.url}ws") as wire:
            await wire.send_json({"t": "command", "id": 3, "control": "record", "verb": "start"})
            return await until(wire, "reply")

    reply = asyncio.run(visit())
    assert (reply["id"], reply["ok"]) == (3, False)
    assert "no 'record'" in reply["text"]


def test_more_pages_than_allowed_are_turned_away(viewer: Viewer) -> None:
    async def visit() -> int:
        async with aiohttp.ClientSession() as session:
            wires = [await session.ws_connect(f"{viewer.url}ws") for _ in range(3)]
            for wire in wires:
                await until(wire, "hello")
            async with session.get(
                f"{viewer.url}ws",
                headers={
                    "Connection": "Upgrade",
                    "Upgrade": "websocket",
                    "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
                },
            ) as answer:
                code = int(answer.status)
            for wire in wires:
                await wire.close()
            return code

    assert asyncio.run(visit()) == 503


def test_a_port_that_is_taken_and_a_head_that_is_missing_are_told_at_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DeviceError, match=f"port {port}"):
            Viewer(ViewConfig(port=port)).start()
    with pytest.raises((ModelError, Exception), match="no_such_head"):
        Viewer(ViewConfig(port=0, head_model="no_such_head")).start()


def test_closing_twice_is_safe_and_frees_the_port() -> None:
    first = Viewer(ViewConfig(port=0))
    first.start()
    port = first.port
    first.close()
    first.close()
    second = Viewer(ViewConfig(port=port))
    second.start()
    assert second.port == port
    second.close()
