from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from eifer_ros.component import Level
from eifer_ros.emg.sources.delsys import DelsysConfig, DelsysSource
from eifer_ros.errors import ConfigError

END = b"\r\n\r\n"


def frames(first: int, count: int) -> bytes:
    """Sample instants as the EMG port sends them: slot s of instant k holds k + s / 100, in millivolts."""
    return b"".join(
        struct.pack("<16f", *(k + s / 100 for s in range(16))) for k in range(first, first + count)
    )


class Server:
    """The Trigno SDK server, as far as a client can see it.

    `script` decides how the bytes of each session are cut.
    """

    def __init__(
        self,
        sessions: list[Callable[[Callable[[bytes], None]], None]],
        answers: dict[str, str] | None = None,
        banner: bytes = b"Delsys Trigno System Digital Protocol Version 3.6.0",
    ) -> None:
        self.answers = {
            "SENSOR 1 PAIRED?": "YES",
            "SENSOR 4 PAIRED?": "YES",
            "MAX SAMPLES EMG": "27",
            "FRAME INTERVAL?": "0.0135",
            "SENSOR 1 CHANNEL 1 UNITS?": "mV",
            "SENSOR 4 CHANNEL 1 UNITS?": "mV",
            "START": "OK",
            "STOP": "OK",
            "QUIT": "BYE",
        } | (answers or {})
        self.banner = banner
        self.sessions = sessions
        self.asked: list[str] = []
        self.command = socket.create_server(("127.0.0.1", 0))
        self.data = socket.create_server(("127.0.0.1", 0))
        self.closing = False
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    @property
    def config(self) -> DelsysConfig:
        return DelsysConfig(
            host="127.0.0.1",
            command_port=self.command.getsockname()[1],
            data_port=self.data.getsockname()[1],
            timeout_s=20.0,
            retry_s=0.02,
        )

    def _work(self) -> None:
        while not self.closing:
            try:
                client, _ = self.command.accept()
            except OSError:
                return
            with client:
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        client.sendall(self.banner[:7])
        client.sendall(self.banner[7:] + END)
        rest = b""
        stream = None
        while True:
            try:
                got = client.recv(4096)
            except OSError:
                break
            if not got:
                break
            rest += got
            while END in rest:
                line, rest = rest.split(END, 1)
                word = line.decode()
                self.asked.append(word)
                answer = self.answers.get(word, "NO" if word.endswith("PAIRED?") else "INVALID COMMAND")
                try:
                    client.sendall(answer.encode()[:1])
                    client.sendall(answer.encode()[1:] + END)
                except OSError:
                    break
                if word == "START" and answer == "OK":
                    stream, _ = self.data.accept()
                    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    if self.sessions:
                        self.sessions.pop(0)(stream.sendall)
                        stream.close()
        if stream is not None:
            stream.close()

    def close(self) -> None:
        self.closing = True
        self.command.close()
        self.data.close()


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(*args: object, **named: object) -> Server:
        started.append(Server(*args, **named))
        return started[-1]

    yield start
    for one in started:
        one.close()


def cut(data: bytes, sizes: list[int]) -> Callable[[Callable[[bytes], None]], None]:
    def session(send: Callable[[bytes], None]) -> None:
        at = 0
        k = 0
        while at < len(data):
            size = sizes[k % len(sizes)]
            send(data[at : at + size])
            at += size
            k += 1

    return session


@pytest.mark.parametrize("sizes", [[64], [1], [63, 65], [7, 200, 3, 1000], [100_000]], ids=str)
def test_samples_survive_however_tcp_cuts_them(server, run, sizes: list[int]) -> None:
    one = server([cut(frames(0, 300), sizes)])
    running = run(DelsysSource(one.config))
    running.until(lambda: running.received == 300, "300 instants")
    samples = np.concatenate([chunk.samples for chunk in running.chunks])
    k = np.arange(300)
    assert samples == pytest.approx(np.stack([k, k + 0.03], axis=1) * 1e-3, rel=1e-6)  # slots 1 and 4, mV
    assert running.chunks[0].channels == ("sensor1", "sensor4")
    assert running.infos[0].rate_hz == pytest.approx(2000.0)
    assert [c.first_index for c in running.chunks] == list(
        np.cumsum([0] + [len(c.samples) for c in running.chunks[:-1]])
    )


def test_a_disconnect_in_the_middle_of_a_frame_is_told_and_streaming_goes_on(server, run) -> None:
    one = server([cut(frames(0, 100) + b"\0" * 20, [50]), cut(frames(0, 100), [64])])
    running = run(DelsysSource(one.config))
    running.until(lambda: running.received == 200, "both sessions")
    samples = np.concatenate([chunk.samples for chunk in running.chunks])
    assert samples[100:, 0] == pytest.approx(np.arange(100) * 1e-3, rel=1e-6)
    assert running.chunks[-1].first_index >= 100
    running.until(
        lambda: running.source.health().level in (Level.ERROR, Level.STALE), "the second disconnect in health"
    )


def test_a_server_that_refuses_to_start_is_quoted(server, run) -> None:
    one = server([], answers={"START": "CANNOT COMPLETE"})
    running = run(DelsysSource(one.config))
    running.until(lambda: "CANNOT COMPLETE" in running.source.health().message, "the server's own words")
    assert running.source.health().level == Level.ERROR
    assert running.emissions == []


def test_a_port_that_is_no_trigno_server_is_named_as_such(server, run) -> None:
    one = server([], banner=b"220 mail.example.org ESMTP")
    running = run(DelsysSource(one.config))
    running.until(lambda: "not a Trigno server" in running.source.health().message, "the message")
    assert "220 mail.example.org" in running.source.health().message


def test_no_paired_sensor_and_a_wrong_rate_answer_are_told_apart(server, run) -> None:
    none = server([], answers={"SENSOR 1 PAIRED?": "NO", "SENSOR 4 PAIRED?": "NO"})
    running = run(DelsysSource(none.config))
    running.until(lambda: "no sensor is paired" in running.source.health().message, "no sensor")
    odd = server([], answers={"MAX SAMPLES EMG": "INVALID COMMAND"})
    second = run(DelsysSource(odd.config))
    second.until(lambda: "set rate_hz" in second.source.health().message, "the rate")


def test_a_server_without_units_is_taken_as_volts_and_says_so(server, run) -> None:
    hold = threading.Event()
    one = server(
        [lambda send: (send(frames(1, 50)), hold.wait(120))[0]],
        answers={"SENSOR 1 CHANNEL 1 UNITS?": "?", "SENSOR 4 CHANNEL 1 UNITS?": "?"},
    )
    running = run(DelsysSource(one.config))
    running.until(lambda: running.received == 50, "samples")
    assert running.chunks[0].samples[0, 0] == pytest.approx(1.0)
    running.until(lambda: "taken as volts" in running.source.health().message, "the note in health")
    hold.set()


def test_stop_is_told_to_the_server(server, run) -> None:
    one = server([cut(frames(0, 10), [64])])
    running = run(DelsysSource(one.config))
    running.until(lambda: running.received == 10, "samples")
    running.source.stop()
    running.until(lambda: "STOP" in one.asked, "STOP at the server")


def test_a_connection_that_falls_silent_without_a_word_is_made_anew(server, run) -> None:
    hold = threading.Event()
    one = server([lambda send: (send(frames(0, 100)), hold.wait(120))[0], cut(frames(0, 50), [64])])
    running = run(DelsysSource(one.config.model_copy(update={"give_up_s": 2.0})))
    running.until(lambda: "connecting anew" in running.source.health().message, "the message")
    hold.set()
    running.until(lambda: running.received == 150, "the second session")


def test_nobody_at_the_address_is_an_error_that_asks_the_right_questions(run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    running = run(DelsysSource(DelsysConfig(command_port=port, timeout_s=0.5, retry_s=0.02)))
    running.until(lambda: "SDK server running" in running.source.health().message, "the message")
    assert running.source.health().level == Level.ERROR


def test_slots_outside_1_to_16_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"slots 1\.\.16"):
        DelsysSource(DelsysConfig(sensors=(0, 3)))
