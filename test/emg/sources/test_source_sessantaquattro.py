from __future__ import annotations

import socket

import numpy as np
import pytest

from eifer_ros.component import Level
from eifer_ros.emg.sources.sessantaquattro import (
    SessantaquattroConfig,
    SessantaquattroSource,
    command_word,
    decode,
)
from eifer_ros.errors import ConfigError, DeviceError


def stream(ramp: np.ndarray, bio: int = 64, extra: int = 8, bits: int = 16) -> bytes:
    """What the device sends: channel c of sample k holds (k * 7 + c) - 500, the last channel the ramp."""
    values = np.zeros((len(ramp), bio + extra), np.int64)
    values[:, :bio] = ramp[:, None] * 7 % 1000 + np.arange(bio) - 500
    values[:, -1] = ramp
    if bits == 16:
        return values.astype(np.uint16).astype(">u2").tobytes()
    unsigned = (values % (1 << 24)).astype(">u4")
    return unsigned.view(np.uint8).reshape(len(ramp), bio + extra, 4)[:, :, 1:].tobytes()


def device(source: SessantaquattroSource) -> tuple[socket.socket, bytes]:
    """A device that has connected to us, and the command word it got."""
    connection = socket.create_connection(("127.0.0.1", source.port), 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(120)
    return connection, connection.recv(2, socket.MSG_WAITALL)


def make(**options: object) -> SessantaquattroSource:
    return SessantaquattroSource(
        SessantaquattroConfig(port=0, address="127.0.0.1", accept_s=0.2, retry_s=0.02, **options)
    )


def test_the_command_word_puts_every_setting_where_the_protocol_has_it() -> None:
    # GO 1, high-pass bit 6, 64 channels = 3 << 11, 2000 Hz = 2 << 13: the word of the vendor's example
    assert command_word(SessantaquattroConfig(), go=True) == (1 + 64 + (3 << 11) + (2 << 13)).to_bytes(
        2, "big"
    )
    assert command_word(SessantaquattroConfig(), go=False) == (64 + (3 << 11) + (2 << 13)).to_bytes(2, "big")
    other = SessantaquattroConfig(
        bioelectric=16, rate_hz=4000, bits=24, lsb_nv=1.0, mode="bipolar", high_pass=False
    )
    assert command_word(other, go=True) == (1 + 128 + (1 << 8) + (1 << 11) + (3 << 13)).to_bytes(2, "big")


def test_24_bit_samples_keep_their_sign() -> None:
    data = b"\x00\x00\x01\xff\xff\xff\x7f\xff\xff\x80\x00\x00"
    assert decode(data, 2, 24).tolist() == [[1, -1], [8388607, -8388608]]


@pytest.mark.parametrize("extra", [8, 4], ids=["plus", "older"])
@pytest.mark.parametrize("size", [1 << 20, 144, 145, 37], ids=lambda s: f"cuts{s}")
def test_either_model_is_recognised_and_samples_survive_any_cut(run, extra: int, size: int) -> None:
    source = make()
    running = run(source)
    connection, word = device(source)
    assert word == command_word(source.config, go=True)
    ramp = np.arange(32_600, 33_000)  # beyond the largest positive 16-bit number on the way
    data = stream(ramp, extra=extra)
    for k in range(0, len(data), size):
        connection.sendall(data[k : k + size])
    running.until(lambda: running.received == 400, "400 samples")
    samples = np.concatenate([chunk.samples for chunk in running.chunks])
    assert ramp.max() > 32_767
    wanted = (ramp[:, None] * 7 % 1000 + np.arange(64) - 500) * 286.1e-9
    assert samples == pytest.approx(wanted, rel=1e-5)
    assert sum(chunk.lost for chunk in running.chunks) == 0
    assert running.infos[0].rate_hz == 2000
    assert len(running.infos[0].channels) == 64
    connection.close()


def test_a_hole_in_the_ramp_is_counted(run) -> None:
    source = make(bioelectric=16)
    running = run(source)
    connection, _ = device(source)
    ramp = np.delete(np.arange(600), np.s_[300:325])
    connection.sendall(stream(ramp, bio=16))
    running.until(lambda: running.received == 575, "all samples")
    losses = [(chunk.first_index, chunk.lost) for chunk in running.chunks if chunk.lost]
    assert losses == [(325, 25)]
    assert all(b.stamp > a.stamp for a, b in zip(running.chunks, running.chunks[1:], strict=False))
    connection.close()


def test_a_device_that_drops_out_in_the_middle_of_a_frame_can_come_back(run) -> None:
    source = make(bioelectric=8)
    running = run(source)
    connection, _ = device(source)
    data = stream(np.arange(200), bio=8)
    connection.sendall(data[:-11])
    running.until(lambda: running.received == 199, "199 whole frames")
    connection.close()
    running.until(lambda: running.source.health().level == Level.ERROR, "the loss in health")
    again, word = device(source)
    assert word == command_word(source.config, go=True)
    again.sendall(stream(np.arange(200), bio=8))
    running.until(lambda: running.received == 399, "the second session")
    samples = running.chunks[-1].samples
    assert np.isfinite(samples).all()
    assert len(running.infos) == 1  # the same layout is not announced twice
    again.close()


def test_data_that_fit_no_model_are_refused_with_what_to_check(run) -> None:
    source = make(bioelectric=64)
    running = run(source)
    connection, _ = device(source)
    connection.sendall(np.random.default_rng(0).bytes(72 * 2 * 40))
    running.until(lambda: "fit neither model" in running.source.health().message, "the message")
    assert running.emissions == []
    connection.close()


def test_the_device_is_told_to_stop(run) -> None:
    source = make(bioelectric=8)
    running = run(source)
    connection, _ = device(source)
    connection.sendall(stream(np.arange(100), bio=8))
    running.until(lambda: running.received == 100, "samples")
    source.stop()
    assert connection.recv(2, socket.MSG_WAITALL) == command_word(source.config, go=False)
    connection.close()


def test_no_device_yet_is_told_with_what_to_do(run) -> None:
    running = run(make())
    running.until(lambda: "no device has connected" in running.source.health().message, "the message")


def test_a_taken_port_is_named() -> None:
    first = make()
    first.setup()
    with pytest.raises(DeviceError, match="another program"):
        SessantaquattroSource(SessantaquattroConfig(port=first.port, address="127.0.0.1")).setup()
    first.close()


def test_24_bit_mode_without_a_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="lsb_nv"):
        SessantaquattroSource(SessantaquattroConfig(bits=24))
