from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import CompressionType
from mcap.writer import Writer as McapFile

from eifer_ros.errors import RecordingError
from eifer_ros.recording.reader import Bag, read
from eifer_ros.recording.recover import Recovery, recover
from eifer_ros.recording.writer import BagWriter
from eifer_ros.types import NS, Frame

_names = itertools.count()


def salvage(path: Path, data: bytes) -> Recovery:
    """Recover `data` as a file beside `path`."""
    file = path / f"cut{next(_names)}.mcap"
    file.write_bytes(data)
    return recover(file)


def log(path: Path) -> list[tuple[str, int, bytes]]:
    """Topic, log time and bytes of every message, by the mcap library."""
    with path.open("rb") as stream:
        return [
            (channel.topic, message.log_time, message.data)
            for _, channel, message in make_reader(stream).iter_messages(log_time_order=False)
        ]


def chunks(path: Path) -> list[Any]:
    """The chunk index of a whole file."""
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    return sorted(summary.chunk_indexes, key=lambda chunk: chunk.chunk_start_offset)


def messages_before(path: Path, end: int) -> int:
    """Messages in chunks that end before byte `end`."""
    with path.open("rb") as stream:
        stream.seek(0)
        found = 0
        for chunk in chunks(path):
            if chunk.chunk_start_offset + chunk.chunk_length <= end:
                stream.seek(chunk.chunk_start_offset)
                record = stream.read(chunk.chunk_length)
                packed = record[
                    9 + 40 + len("zstd") :
                ]  # after opcode, length, times, size, CRC, compression and its length
                data, at = zstandard.ZstdDecompressor().decompressobj().decompress(packed), 0
                while at < len(data):
                    code, length = struct.unpack_from("<BQ", data, at)
                    found += code == 0x05
                    at += 9 + length
        return found


@settings(max_examples=12)
@given(share=st.floats(0.0, 1.0))
def test_a_recording_cut_anywhere_gives_back_exactly_its_beginning(
    small_bag: Path, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    file = small_bag / "small.mcap"
    data = file.read_bytes()
    cut = data[: int(len(data) * share)]
    least = messages_before(file, len(cut))
    try:
        result = salvage(tmp_path_factory.mktemp("cut"), cut)
    except RecordingError as error:
        assert "nothing to recover" in str(error) or "not an MCAP" in str(error)
        assert least == 0
        return
    saved, whole = log(result.out / f"{result.out.name}.mcap"), log(file)
    assert saved == whole[: len(saved)]
    assert result.messages == len(saved) >= least


def test_more_of_a_file_never_saves_less(small_bag: Path, tmp_path: Path) -> None:
    data = (small_bag / "small.mcap").read_bytes()
    saved = [salvage(tmp_path, data[: len(data) * part // 12]).messages for part in range(2, 13)]
    assert saved == sorted(saved)
    assert saved[-1] == 321


def test_a_chunk_cut_in_its_middle_gives_its_first_messages(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    frames = [Frame(NS + k, rng.integers(0, 255, (120, 640, 3), np.uint8)) for k in range(4)]
    with BagWriter(
        tmp_path / "bag", jpeg_quality=0, monotonic=lambda: 0.0
    ) as writer:  # no second passes: one chunk
        for frame in frames:
            writer.write("camera/image_raw", frame)
    (chunk,) = chunks(writer.file)
    data = writer.file.read_bytes()
    result = salvage(tmp_path, data[: chunk.chunk_start_offset + int(chunk.chunk_length * 0.8)])
    saved = [recorded.item.image for recorded in read(result.out)]
    assert (
        len(saved) == 3
    )  # of four of equal size; zstd gives blocks of 128 KiB or nothing, a picture is 225 KiB
    assert all(np.array_equal(got, frame.image) for got, frame in zip(saved, frames, strict=False))


def test_a_damaged_chunk_is_left_out_and_the_rest_kept(small_bag: Path, tmp_path: Path) -> None:
    data = bytearray((small_bag / "small.mcap").read_bytes())
    chunk = chunks(small_bag / "small.mcap")[3]
    middle = chunk.chunk_start_offset + chunk.chunk_length // 2
    data[middle : middle + 50] = b"\xaa" * 50
    result = salvage(tmp_path, bytes(data))
    assert result.damaged == 1
    assert not result.cut
    saved, whole = log(result.out / f"{result.out.name}.mcap"), log(small_bag / "small.mcap")
    assert set(saved) < set(whole)
    lost = len(whole) - len(saved)
    assert 0 < lost < len(whole) / 5
    assert "1 damaged" in str(result)


def test_a_damaged_chunk_is_left_out_after_a_file_that_was_cut(small_bag: Path, tmp_path: Path) -> None:
    data = (small_bag / "small.mcap").read_bytes()
    chunk = chunks(small_bag / "small.mcap")[3]
    # by its check sum alone: the bytes decompress
    crc = chunk.chunk_start_offset + 9 + 24
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "a_0.mcap").write_bytes(data[: len(data) // 2])
    (tmp_path / "split" / "a_1.mcap").write_bytes(data[:crc] + b"\x01\x02\x03\x04" + data[crc + 4 :])
    result = recover(tmp_path / "split")
    assert result.cut
    assert result.damaged == 1


def test_zeros_at_the_end_as_a_power_cut_leaves_them_are_no_message(small_bag: Path, tmp_path: Path) -> None:
    data = (small_bag / "small.mcap").read_bytes()
    result = salvage(tmp_path, data[: len(data) // 2] + bytes(100_000))
    assert 100 < result.messages < 321
    assert [r.stamp for r in read(result.out)] == sorted(r.stamp for r in read(result.out))


def test_what_was_recovered_is_a_whole_recording_with_session_qos_and_metadata(
    small_bag: Path, tmp_path: Path
) -> None:
    data = (small_bag / "small.mcap").read_bytes()
    result = salvage(tmp_path, data[: int(len(data) * 0.8)])
    with Bag(result.out) as bag, Bag(small_bag) as original:
        assert bag.session == original.session
        offered = {c.topic: c.ext for c in original.connections}
        assert {c.topic: c.ext for c in bag.connections} == offered
    assert (result.out / "metadata.yaml").exists()
    assert result.last - result.first < 2 * NS
    assert result.duration_s == pytest.approx(1.6, abs=0.25)
    assert f"{result.messages} messages" in str(result)


@pytest.mark.parametrize("compression", [CompressionType.NONE, CompressionType.LZ4, CompressionType.ZSTD])
@pytest.mark.parametrize("chunked", [True, False])
def test_files_of_other_writers_are_recovered_too(
    small_bag: Path, tmp_path: Path, compression: CompressionType, chunked: bool
) -> None:
    file = tmp_path / "other.mcap"
    with file.open("wb") as stream, (small_bag / "small.mcap").open("rb") as source:
        writer = McapFile(stream, compression=compression, use_chunking=chunked, chunk_size=20_000)
        writer.start(profile="ros2")
        ids: dict[int, int] = {}
        for schema, channel, message in make_reader(source).iter_messages(log_time_order=False):
            assert schema is not None
            if channel.id not in ids:
                number = writer.register_schema(schema.name, schema.encoding, schema.data)
                ids[channel.id] = writer.register_channel(
                    channel.topic, channel.message_encoding, number, channel.metadata
                )
            writer.add_message(ids[channel.id], message.log_time, message.data, message.publish_time)
        writer.finish()
    data = file.read_bytes()
    whole = log(small_bag / "small.mcap")
    result = salvage(tmp_path, data[: len(data) // 2])
    saved = log(result.out / f"{result.out.name}.mcap")
    assert saved == whole[: len(saved)]
    assert len(saved) > 100


def test_the_original_is_not_touched_and_nothing_is_overwritten(small_bag: Path, tmp_path: Path) -> None:
    data = (small_bag / "small.mcap").read_bytes()
    file = tmp_path / "x.mcap"
    file.write_bytes(data[: len(data) // 2])
    stat = file.stat()
    result = recover(file)
    assert result.out == tmp_path / "x_recovered"
    assert file.read_bytes() == data[: len(data) // 2]
    assert file.stat().st_mtime_ns == stat.st_mtime_ns
    with pytest.raises(RecordingError, match="never overwritten"):
        recover(file)
    assert recover(file, tmp_path / "again").messages == result.messages


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an MCAP"),
        (b"text" * 10, "not an MCAP"),
        (b"\x89MCAP0\r\n", "nothing to recover"),
        (b"\x89MCAP0\r\n" + b"\xff" * 99, "nothing"),
    ],
)
def test_a_file_with_nothing_in_it_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "x.mcap"
    file.write_bytes(content)
    with pytest.raises(RecordingError, match=reason):
        recover(file)
    assert not (tmp_path / "x_recovered").exists()
    with pytest.raises(RecordingError, match="no such recording"):
        recover(tmp_path / "none")
