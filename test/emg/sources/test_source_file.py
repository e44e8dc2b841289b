from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.component import Level
from eifer_ros.emg.montage import MMM_COLUMNS
from eifer_ros.emg.sources.recording import EmgRecording, even_stamps
from eifer_ros.emg.sources.text_formats import write_csv
from eifer_ros.errors import EiferError, InputError
from eifer_ros.recording.emg_file import FileConfig, FileSource, read_recording
from eifer_ros.types import NS


def load(path: Path, **options: object) -> EmgRecording:
    return read_recording(FileConfig(path=str(path), **options))


def noise(count: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 20e-6, (count, channels)).astype(np.float32)


# ---- own layout ---------------------------------------------------------------------------------------------------------


@given(
    count=st.integers(1, 60),
    channels=st.integers(1, 5),
    rate=st.sampled_from([30.0, 100.0, 1000.0, 2048.0, 4096.0]),
    start=st.integers(0, 2 * 10**18),
    gap=st.integers(0, 50),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=25, deadline=None)
def test_own_csv_gives_back_exactly_what_was_written(
    tmp_path_factory, count, channels, rate, start, gap, seed
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    stamps = even_stamps(count, rate, start)
    stamps[count // 2 :] += round(gap * NS / rate)
    names = tuple(f"F{k + 1}" for k in range(channels))
    written = EmgRecording(path, noise(count, channels, seed), stamps, rate, names, (), "fridlund", "bipolar")
    write_csv(path, written)
    back = load(path)
    assert np.array_equal(back.samples, written.samples)
    assert np.array_equal(back.stamps, written.stamps)
    assert (back.rate_hz, back.channels, back.scheme, back.montage) == (rate, names, "fridlund", "bipolar")
    assert back.notes == ()


@pytest.mark.parametrize(
    ("header", "volts"),
    [
        ("time_s,zyg_V,corr_V", 1.0),
        ("time_s,zyg_mV,corr_mV", 1e-3),
        ("time_s,zyg_uV,corr_µV", 1e-6),
        ("time_s,zyg [mV],corr (mV)", 1e-3),
    ],
)
def test_units_in_the_header_are_understood(tmp_path: Path, header: str, volts: float) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        header + "\n" + "".join(f"{k / 1000:.3f},{k},{-k}\n" for k in range(100)), encoding="utf-8"
    )
    got = load(path)
    assert got.channels == ("zyg", "corr")
    assert got.rate_hz == 1000.0
    assert got.samples[7] == pytest.approx([7 * volts, -7 * volts])


def test_a_csv_without_units_says_what_to_add(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time_s,a,b\n0,1,2\n0.001,3,4\n")
    with pytest.raises(InputError, match=r"in which unit a, b are; add \?unit=uV"):
        load(path)
    assert load(path, unit="uV").samples[1] == pytest.approx([3e-6, 4e-6])


def test_a_header_rate_that_the_stamps_contradict_is_said_and_the_stamps_win(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "# rate_hz: 1000\n# samples: 77\ntime_s,a_V\n" + "".join(f"{k / 500:.4f},{k}\n" for k in range(200))
    )
    got = load(path)
    assert got.rate_hz == pytest.approx(500)
    assert any("the header says 1000 Hz but the stamps say 500 Hz" in note for note in got.notes)
    assert any("the header says 77 samples but there are 200" in note for note in got.notes)


def test_missing_rows_are_a_gap_with_a_count(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    keep = [k for k in range(300) if not 100 <= k < 107]
    path.write_text("time_s,a_V\n" + "".join(f"{k / 1000:.3f},{k}\n" for k in keep))
    chunks = [
        e.item for e in FileSource(FileConfig(path=str(path), speed=0)).produce() if e.port == "emg/raw"
    ]
    assert [(c.first_index, c.lost) for c in chunks if c.lost] == [(107, 7)]
    assert all(float(c.samples[0, 0]) == c.first_index for c in chunks)
    assert all(c.stamp == c.first_index * 1_000_000 for c in chunks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows of numbers"),
        ("a,b\nx,y\n", "holds no numbers"),
        ("time_s,a_V\n0,1\n0.001,2,3\n0.002,4\n", "row 2"),
        ("time_s,a_V\n0,1\n0.001,oops,9\n0.002,1\n", "row 2"),
        ("time_s,a_V\n0,1\n0,2\n0,3\n", "does not advance"),
        ("1 2\n3 4\n", "in which unit"),
        ("# a\n1 2\n3 4\n", "unit"),
    ],
)
def test_damaged_text_is_refused_in_one_line_that_names_the_file(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load(path)
    assert "bad.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_recording_cut_off_in_its_last_line_is_read_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time_s,a_V,b_V\n0,1,2\n0.001,3,4\n0.002,5")
    got = load(path)
    assert len(got.samples) == 2
    assert any("cut off" in note for note in got.notes)


def test_a_binary_file_called_csv_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xff\xfe\x00\x01" * 50)
    with pytest.raises(InputError, match="not text"):
        load(path)


# ---- MMM, OpenBCI, plain columns ------------------------------------------------------------------------------------------


def test_the_mmm_layout_is_recognised_by_its_22_german_names(tmp_path: Path) -> None:
    path = tmp_path / "mmm.csv"
    rows = noise(90, 22) * 1e6
    text = io.StringIO()
    text.write("," + ",".join(MMM_COLUMNS) + "\n")
    for k, row in enumerate(rows):
        text.write(f"{k}," + ",".join(f"{v:.6f}" for v in row) + "\n")
    path.write_text(text.getvalue(), encoding="utf-8")
    got = load(path)
    assert got.channels == MMM_COLUMNS
    assert (got.rate_hz, got.scheme, got.montage) == (30.0, "fridlund", "envelope")
    assert np.abs(got.samples - rows * 1e-6).max() < 1e-11
    source = FileSource(FileConfig(path=str(path), speed=0))
    info = next(iter(source.produce())).item
    assert "corrugator_supercilii" in " ".join(info.muscles)
    assert np.isfinite(info.positions).all()


OPENBCI_5 = """%OpenBCI Raw EXG Data
%Number of channels = 8
%Sample Rate = 250 Hz
%Board = OpenBCI_GUI$BoardCytonSerial
Sample Index, EXG Channel 0, EXG Channel 1, EXG Channel 2, EXG Channel 3, EXG Channel 4, EXG Channel 5, EXG Channel 6, \
EXG Channel 7, Accel Channel 0, Accel Channel 1, Accel Channel 2, Other, Timestamp, Timestamp (Formatted)
"""


def test_an_openbci_gui_5_file_loads_with_its_lost_packets_counted(tmp_path: Path) -> None:
    path = tmp_path / "OpenBCI-RAW.txt"
    text = OPENBCI_5
    for k in range(1000):
        if 600 <= k < 611:
            continue
        values = ", ".join(str(float(k + c)) for c in range(8))
        text += f"{k % 256}.0, {values}, 0.0, 0.0, 1.0, 0.0, {1.7e9 + k / 250:.6f}, 2023-11-14 22:13:{k // 250:02d}.000\n"
    path.write_text(text)
    got = load(path)
    assert got.channels == tuple(f"EXG{k}" for k in range(1, 9))
    assert got.samples[3] == pytest.approx((3 + np.arange(8)) * 1e-6)
    assert any("11 samples are missing in 1 places" in note for note in got.notes)
    chunks = list(got.chunks(50))
    assert [(c.first_index, c.lost) for c in chunks if c.lost] == [(611, 11)]
    assert got.stamps[0] == pytest.approx(1.7e18, abs=2e6)


def test_a_file_without_rate_says_what_to_add(tmp_path: Path) -> None:
    path = tmp_path / "plain.txt"
    path.write_text("\n".join("1 2 3" for _ in range(10)))
    with pytest.raises(InputError, match=r"\?rate=1000"):
        load(path, unit="mV")
    got = load(path, unit="mV", rate_hz=200, columns=("3", "1"))
    assert got.samples[0] == pytest.approx([3e-3, 1e-3])
    assert got.stamps[9] == 45_000_000


def test_a_column_that_is_not_there_is_named_with_its_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time_s,zyg_V,corr_V\n0,1,2\n0.001,3,4\n")
    with pytest.raises(InputError, match="did you mean 'corr_V'"):
        load(path, columns=("cor_V",))


# ---- EDF / BDF ----------------------------------------------------------------------------------------------------------


def write_edf(
    path: Path, kind: str = "bdf", unit: str = "uV", rates: tuple[int, ...] = (1000, 1000)
) -> np.ndarray:
    pyedflib = pytest.importorskip("pyedflib", reason="pyedflib is not installed (extra 'files')")
    data = noise(4 * max(rates), len(rates), 5).astype(np.float64) * 1e6
    file_type = pyedflib.FILETYPE_BDFPLUS if kind == "bdf" else pyedflib.FILETYPE_EDFPLUS
    with pyedflib.EdfWriter(str(path), len(rates), file_type=file_type) as writer:
        for k, rate in enumerate(rates):
            top = 8388607 if kind == "bdf" else 32767
            writer.setSignalHeader(
                k,
                {
                    "label": f"F{k + 1}",
                    "dimension": unit,
                    "sample_frequency": rate,
                    "physical_max": 500.0,
                    "physical_min": -500.0,
                    "digital_max": top,
                    "digital_min": -top - 1,
                    "prefilter": "",
                    "transducer": "",
                },
            )
        writer.writeSamples([data[: 4 * rate, k].copy() for k, rate in enumerate(rates)])
    return data


@pytest.mark.parametrize("kind", ["edf", "bdf"])
def test_edf_and_bdf_give_volts_to_within_one_digit(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    data = write_edf(path, kind)
    got = load(path)
    step = 1000.0 / (2**24 if kind == "bdf" else 2**16)
    assert got.samples.shape == (4000, 2)
    assert np.abs(got.samples * 1e6 - data).max() < 1.5 * step
    assert (got.rate_hz, got.channels, got.notes) == (1000.0, ("F1", "F2"), ())
    assert got.stamps[0] > 1e18  # the start date of the file


def test_signals_of_another_rate_are_left_out_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.edf"
    write_edf(path, "edf", rates=(1000, 1000, 100))
    got = load(path)
    assert got.channels == ("F1", "F2")
    assert any("F3" in note for note in got.notes)


def test_an_edf_whose_header_promises_more_records_than_it_holds_is_refused_with_both_numbers(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.edf"
    write_edf(path, "edf")
    data = path.read_bytes()
    path.write_bytes(data[: -len(data) // 3])
    with pytest.raises(InputError, match="promises 4 data records but the file holds"):
        load(path)


def test_an_edf_without_voltages_lists_its_units(tmp_path: Path) -> None:
    path = tmp_path / "a.edf"
    write_edf(path, "edf", unit="degC")
    with pytest.raises(InputError, match=r"F1 \[degC\]"):
        load(path)


def test_garbage_called_edf_is_refused_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("pyedflib", reason="pyedflib is not installed (extra 'files')")
    path = tmp_path / "a.edf"
    path.write_bytes(np.random.default_rng(1).bytes(3000))
    with pytest.raises(InputError, match="cannot be read as EDF"):
        load(path)


# ---- XDF ----------------------------------------------------------------------------------------------------------------


def _chunk(tag: int, content: bytes) -> bytes:
    length = len(content) + 2
    return b"\x04" + struct.pack("<I", length) + struct.pack("<H", tag) + content


def write_xdf(
    path: Path,
    rate: float = 1000.0,
    declared: float | None = None,
    count: int = 3000,
    footer: int | None = None,
    hole: slice | None = None,
    unit: str = "microvolts",
) -> np.ndarray:
    """A minimal XDF file, byte by byte from the format's specification
    (github.com/sccn/xdf/wiki/Specifications).
    """
    stamps = 100.0 + np.arange(count) / rate
    values = np.arange(count, dtype=np.float32)
    if hole is not None:
        stamps, values = np.delete(stamps, hole), np.delete(values, hole)
    channels = "".join(f"<channel><label>F{k + 1}</label><unit>{unit}</unit></channel>" for k in range(2))
    head = (
        f"<?xml version='1.0'?><info><name>amp</name><type>EMG</type><channel_count>2</channel_count><nominal_srate>{declared or rate}"
        f"</nominal_srate><channel_format>float32</channel_format><created_at>1</created_at><desc><channels>{channels}</channels>"
        "</desc></info>"
    )
    sid = struct.pack("<I", 1)
    data = b"XDF:" + _chunk(
        1,
        b"<?xml version='1.0'?><info><version>1.0</version><datetime>2024-05-01T12:00:00+0000</datetime></info>",
    )
    data += _chunk(2, sid + head.encode())
    body = sid + b"\x04" + struct.pack("<I", len(stamps))
    for stamp, value in zip(stamps, values, strict=True):
        body += b"\x08" + struct.pack("<d", stamp) + struct.pack("<2f", value, -value)
    data += _chunk(3, body)
    for when in (100.0, 100.0 + count / rate):
        data += _chunk(4, sid + struct.pack("<dd", when, 0.0))
    foot = (
        f"<?xml version='1.0'?><info><first_timestamp>{stamps[0]}</first_timestamp><last_timestamp>{stamps[-1]}</last_timestamp>"
        f"<sample_count>{len(stamps) if footer is None else footer}</sample_count></info>"
    )
    data += _chunk(6, sid + foot.encode())
    path.write_bytes(data)
    return values


@pytest.fixture
def xdf(tmp_path: Path) -> Path:
    pytest.importorskip("pyxdf", reason="pyxdf is not installed (extra 'files')")
    return tmp_path / "a.xdf"


def test_an_xdf_stream_loads_with_names_units_and_the_date_of_its_header(xdf: Path) -> None:
    values = write_xdf(xdf)
    got = load(xdf)
    assert got.channels == ("F1", "F2")
    assert got.samples[:, 0] == pytest.approx(values * 1e-6)
    assert got.rate_hz == 1000.0
    assert got.stamps[0] == 1_714_564_800 * NS
    assert np.abs(np.diff(got.stamps) - 1_000_000).max() <= 1


def test_an_xdf_whose_header_lies_about_rate_and_count_says_so(xdf: Path) -> None:
    write_xdf(xdf, rate=500.0, declared=1000.0, footer=9999)
    got = load(xdf)
    assert got.rate_hz == pytest.approx(500, rel=1e-3)
    assert any("the header says 1000 Hz but the stamps say 500" in note for note in got.notes)
    assert any("counts 9999 samples but it holds 3000" in note for note in got.notes)


def test_a_pause_in_an_xdf_is_a_gap(xdf: Path) -> None:
    write_xdf(xdf, count=6000, hole=np.s_[2000:4000])
    got = load(xdf)
    losses = [(c.first_index, c.lost) for c in got.chunks(100) if c.lost]
    assert losses == [(4000, pytest.approx(2000, abs=1))]
    assert any("2 segments" in note for note in got.notes)


def test_an_unknown_xdf_stream_or_unit_is_refused_by_name(xdf: Path) -> None:
    write_xdf(xdf)
    with pytest.raises(InputError, match=r"no stream 'emgg'.*it has amp \(EMG"):
        load(xdf, stream="emgg")
    write_xdf(xdf, unit="parsec")
    with pytest.raises(InputError, match="'parsec' is not a unit of voltage"):
        load(xdf)


def test_a_damaged_xdf_is_refused_in_one_line(xdf: Path) -> None:
    xdf.write_bytes(b"XDF:" + np.random.default_rng(0).bytes(500))
    with pytest.raises(EiferError):
        load(xdf)


# ---- replay -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """One second at 1000 Hz, with 100 ms missing in the middle."""
    path = tmp_path / "second.csv"
    stamps = np.delete(even_stamps(1000, 1000.0, 5 * NS), np.s_[400:500])
    write_csv(path, EmgRecording(path, noise(900, 2), stamps, 1000.0, ("F1", "F2")))
    return path


class FakeTime:
    """A clock that only moves when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return False


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
def test_each_chunk_comes_when_its_last_sample_would_have(second: Path, speed: float) -> None:
    time = FakeTime()
    source = FileSource(FileConfig(path=str(second), speed=speed), monotonic=time.monotonic, wait=time.wait)
    for emission in source.produce():
        if emission.port == "emg/raw":
            due = (emission.item.end_stamp - 5 * NS) / NS / speed
            assert time.now == pytest.approx(due, abs=1e-9)
    assert time.now == pytest.approx(1.0 / speed)
    assert source.live


def test_a_slow_consumer_is_caught_up_with_not_drifted_from(second: Path) -> None:
    time = FakeTime()
    source = FileSource(FileConfig(path=str(second)), monotonic=time.monotonic, wait=time.wait)
    chunks = 0
    for emission in source.produce():
        if emission.port == "emg/raw":
            chunks += 1
            if chunks == 5:
                time.now += 0.3  # the consumer was away
    assert time.now == pytest.approx(1.0)  # the end is not late


def test_what_comes_out_does_not_depend_on_the_speed(second: Path) -> None:
    def everything(speed: float) -> list:
        time = FakeTime()
        source = FileSource(
            FileConfig(path=str(second), speed=speed), monotonic=time.monotonic, wait=time.wait
        )
        return [
            (e.item.stamp, e.item.first_index, e.item.lost, e.item.samples.tobytes())
            for e in source.produce()
            if e.port == "emg/raw"
        ]

    fast = everything(0)
    assert fast == everything(1) == everything(37)
    assert [lost for _, _, lost, _ in fast if lost] == [100]


def test_health_of_a_replay_counts_and_ends(second: Path) -> None:
    source = FileSource(FileConfig(path=str(second), speed=0))
    list(source.produce())
    health = source.health()
    assert health.level == Level.OK
    assert "ended" in health.message
    assert (health.values["samples"], health.values["lost"]) == (900, 100)
    assert not source.live


def test_a_stop_before_the_start_is_obeyed_and_forgotten_afterwards(second: Path) -> None:
    source = FileSource(FileConfig(path=str(second), speed=0))
    source.stop()
    assert [e.port for e in source.produce()] in ([], ["emg/raw_channels"])
    source.reset()
    assert sum(len(e.item.samples) for e in source.produce() if e.port == "emg/raw") == 900


def test_a_looped_file_goes_on_in_time(second: Path) -> None:
    source = FileSource(FileConfig(path=str(second), speed=0, loop=True))
    stamps = []
    for emission in source.produce():
        if emission.port == "emg/raw":
            stamps.append(emission.item.stamp)
            if len(stamps) == 120:
                source.stop()
    assert len(stamps) == 120
    assert np.all(np.diff(stamps) > 0)


def test_the_first_sample_can_be_put_at_a_given_time(second: Path) -> None:
    kept = [e.item for e in FileSource(FileConfig(path=str(second), speed=0)).produce()]
    moved = [e.item for e in FileSource(FileConfig(path=str(second), speed=0, start_stamp=77 * NS)).produce()]
    assert moved[0].stamp == moved[1].stamp == 77 * NS
    assert [item.stamp - 72 * NS for item in moved] == [item.stamp for item in kept]


def test_names_and_picks_of_the_user_win(second: Path) -> None:
    source = FileSource(
        FileConfig(
            path=str(second),
            speed=0,
            pick=("F2",),
            channels=("corr",),
            muscles=("corrugator",),
            scheme="fridlund",
        )
    )
    info, first = (e.item for e, _ in zip(source.produce(), range(2), strict=False))
    assert (info.channels, info.muscles, info.scheme) == (("corr",), ("corrugator",), "fridlund")
    assert np.array_equal(first.samples[:, 0], noise(900, 2)[:20, 1])


def test_a_file_that_is_not_there_and_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        FileSource(FileConfig(path=str(tmp_path / "none.csv"))).setup()
    with pytest.raises(InputError, match="what kind of file"):
        FileSource(FileConfig(path=str(tmp_path / "a.docx"))).setup()


# ---- bags ---------------------------------------------------------------------------------------------------------------


def test_a_bag_gives_back_the_chunks_that_were_recorded(second: Path, tmp_path: Path) -> None:
    writer = pytest.importorskip("eifer_ros.recording.writer")
    emissions = list(FileSource(FileConfig(path=str(second), speed=0)).produce())
    folder = tmp_path / "bag"
    with writer.BagWriter(folder, wait=True) as bag:
        for emission in emissions:
            bag.write(emission.port, emission.item)
    back = list(FileSource(FileConfig(path=str(folder), speed=0)).produce())
    wanted = [e.item for e in emissions if e.port == "emg/raw"]
    got = [e.item for e in back if e.port == "emg/raw"]
    assert [(c.stamp, c.first_index, c.lost, c.channels) for c in got] == [
        (c.stamp, c.first_index, c.lost, c.channels) for c in wanted
    ]
    assert np.array_equal(
        np.concatenate([c.samples for c in got]), np.concatenate([c.samples for c in wanted])
    )
    assert back[0].port == "emg/raw_channels"


# ---- real recordings ------------------------------------------------------------------------------------------------------


def test_the_real_openbci_recording_loads_without_a_gap(real_data: Path) -> None:
    got = load(real_data / "emg_openbci_200hz.txt")
    assert got.samples.shape == (26207, 4)
    assert got.rate_hz == 200.0
    assert got.samples[0] == pytest.approx(np.asarray([-40.62, 13.04, 0, 0]) * 1e-6, rel=1e-5)
    assert [c.lost for c in got.chunks(1000) if c.lost] == []
    # 11:02:46.251, give or take the time the first Bluetooth packets waited
    assert got.stamps[0] / NS == pytest.approx(11 * 3600 + 2 * 60 + 46.251, abs=0.2)


def test_the_real_facial_and_limb_recordings_load_once_their_units_are_given(real_data: Path) -> None:
    facial = load(real_data / "facial_emg_zyg_corr_100hz.txt", rate_hz=100, unit="mV", columns=("2", "3"))
    assert facial.samples.shape == (26523, 2)
    assert np.median(np.abs(facial.samples)) == pytest.approx(
        6e-6, rel=0.3
    )  # 5.2 and 7.5 uV in the data set's description
    with pytest.raises(InputError, match="scale_v"):
        load(real_data / "emg_1000hz.txt")
    limb = load(real_data / "emg_1000hz.txt", scale_v=1e-6)
    assert (limb.rate_hz, limb.samples.shape) == (1000.0, (100_000, 1))


def test_the_xdf_edge_cases_load_or_say_why_not(real_data: Path) -> None:
    pytest.importorskip("pyxdf", reason="pyxdf is not installed (extra 'files')")
    minimal = load(real_data / "xdf" / "minimal.xdf")
    assert (minimal.samples.shape, minimal.rate_hz) == ((9, 3), 10.0)
    resets = load(real_data / "xdf" / "clock_resets.xdf")
    assert resets.samples.shape == (27815, 8)
    assert any("2 segments" in note for note in resets.notes)
    assert any("the header says 100 Hz" in note for note in resets.notes)  # it came at 93 Hz
    assert len(resets.edges()) == 3
    with pytest.raises(InputError, match="Data stream: test stream 0 counter"):
        load(real_data / "xdf" / "empty_streams.xdf")
    one = load(real_data / "xdf" / "empty_streams.xdf", stream="Data stream: test stream 0 counter")
    assert len(one.samples) == 10
