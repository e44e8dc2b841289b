"""Every script of `examples/` runs, and what it prints or writes is what its text promises."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from eifer_ros.emg.calibration import Calibration
from eifer_ros.evaluation.simulated import write
from eifer_ros.recording.reader import Bag
from eifer_ros.registry import ESTIMATORS
from eifer_ros.simulation.performer import PerformerConfig

FOLDER = Path(__file__).resolve().parent.parent.parent / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def values(pattern: str, text: str) -> list[float]:
    """Every number that `pattern` captures."""
    return [float(number) for number in re.findall(pattern, text)]


def recorded(text: str, folder: Path) -> bool:
    with Bag(folder / "monday") as bag:
        ports = {stream.port for _, stream in bag.streams}
    return {"camera/image_raw", "emg/raw", "truth/face"} <= ports and values(r"image_raw +(\d+)", text) == [
        36
    ]


def read(text: str, folder: Path) -> bool:
    (samples, channels, seconds) = re.findall(r"(\d+) samples of (\d+) channels over ([\d.]+) s", text)[0]
    return channels == "22" and abs(int(samples) / 1000 - float(seconds)) < 0.01


def filtered(text: str, folder: Path) -> bool:
    # 6 s at 100 Hz; a contraction of the face lies between 20 uV and half a millivolt
    (peak,) = values(r"with (\d+) uV", text)
    return values(r"(\d+) instants of 22", text) == [600] and 20 < peak < 500


def calibrated(text: str, folder: Path) -> bool:
    calibration = Calibration.load(folder / "calibration.yaml")
    (top,) = values(r"lie below ([\d.]+)", text)
    return len(calibration.muscles) == 22 and not calibration.dead and 0.8 < top <= 1.0


def predicted(text: str, folder: Path) -> bool:
    # the simulated skin follows after 70 ms
    return (
        values(r"muscle by (\d+) ms", text)[0] == pytest.approx(70, abs=30)
        and min(values(r"true face ([\d.]+)", text)) > 0.6
    )


def fused(text: str, folder: Path) -> bool:
    fusion, muscles = values(r"error while the camera is blind: ([\d.]+)", text)
    # EMG alone is off by its offset of 0.15
    return muscles > 0.15 and fusion < muscles / 2


def looped(text: str, folder: Path) -> bool:
    return values(r"(\d+) instants", text)[0] > 0 and values(r"dropped (\d+)", text) == [0]


def measured(text: str, folder: Path) -> bool:
    # an envelope is the root mean square: 100 uV and 3 uV less what the band-pass takes
    left, right = values(r"(\d+) uV", text)
    return 50 < left < 130 and right < 6


def sent(text: str, folder: Path) -> bool:
    return values(r"^(\d+) faces", text) == [30] and values(r"with (\d+) blend values", text)[0] > 0


def driven(text: str, folder: Path) -> bool:
    moved = values(r"moved by +([\d.]+)", text)
    return "disarmed: 0 commands" in text and len(moved) == 4 and "corner" in text and min(moved) > 5


def streamed(text: str, folder: Path) -> bool:
    return "2 channels at 500 Hz" in text and values(r"(\d+) samples received", text)[0] >= 100


def rows(text: str, folder: Path) -> bool:
    return "without a difference: True" in text and len((folder / "faces.csv").read_text().splitlines()) == 2


def plotted(text: str, folder: Path) -> bool:
    picture = cv2.imread(str(folder / "smile.png"))
    return picture is not None and picture.std() > 10 and 30 <= values(r"way (\d+) ms", text)[0] <= 110


def reconstructed(text: str, folder: Path) -> bool:
    pairs = re.findall(r"([\d.]+) \(truth ([\d.]+)\)", text)
    return len(pairs) == 5 and all(abs(float(read) - float(true)) < 0.35 for read, true in pairs)


def converted(text: str, folder: Path) -> bool:
    weights = values(r'": ([\d.]+)', text)
    return len(weights) > 3 and all(0.05 < weight <= 1.0 for weight in weights) and "gaze: left eye" in text


def drawn(text: str, folder: Path) -> bool:
    picture = cv2.imread(str(folder / "heads.png"))
    return picture.shape == (96, 288, 3) and picture.std() > 20 and values(r"up to ([\d.]+)", text)[0] > 20


def subscribed(text: str, folder: Path) -> bool:
    return values(r"^(\d+) faces", text)[0] > 0


def exported(text: str, folder: Path) -> bool:
    return (folder / "tables" / "emg_raw.csv").exists() and "F1 [V]" in text


def listed(text: str, folder: Path) -> bool:
    return (
        "  vmc://" in text
        and "FileSource with path=take1.csv, speed=0, rate_hz=1000" in text
        and "'webcam'" in text
    )


def smoothed(text: str, folder: Path) -> bool:
    plain, smooth = values(r"([\d.]+) (?:plain|smooth)", text)
    # a first-order smoother of 0.1 s lets 1 - exp(-0.05 / 0.1) of each step through
    return "20 of 20" in text and 0 < smooth < 0.8 * plain


CASES: dict[str, tuple[list[str], Callable[[str, Path], bool]]] = {
    "01_simulate_and_record": (["--minutes", "0.02"], recorded),
    "02_read_a_recording": (["RECORDING"], read),
    "03_emg_envelope_of_a_file": (["--seconds", "6"], filtered),
    "04_calibrate_from_a_recording": (["RECORDING"], calibrated),
    "05_fit_and_predict": (["RECORDING", "ANOTHER"], predicted),
    "06_fuse_camera_and_emg": ([], fused),
    "07_live_loop_with_own_component": (["--seconds", "1"], looped),
    "08_source_of_ones_own": ([], measured),
    "09_send_to_an_avatar": (["--seconds", "0.5"], sent),
    "10_drive_an_animatronic_face": ([], driven),
    "11_read_lsl": (["--simulate", "--samples", "100"], streamed),
    "12_flame_rows": ([], rows),
    "13_plot_muscles_and_face": ([], plotted),
    "14_reconstruct_a_picture": ([], reconstructed),
    "15_convert_to_arkit": ([], converted),
    "16_draw_a_head": (["--size", "96"], drawn),
    "17_ros_subscriber": (["--count", "1"], subscribed),
    "18_export_tables": (["RECORDING"], exported),
    "19_what_can_be_opened": ([], listed),
    "20_estimator_of_ones_own": ([], smoothed),
}
"""Arguments that make a script short, and what must be true of its output and its folder."""


@pytest.fixture(scope="module")
def recordings_of_two_days(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two sessions of one simulated participant: the movements of the protocol with sEMG and the true faces."""
    folder = tmp_path_factory.mktemp("recordings")
    made = {}
    for number, name in enumerate(("RECORDING", "ANOTHER")):
        config = PerformerConfig(
            seed=7, session=number, program="calibration", rate_hz=1000.0, artefacts=("white",)
        )
        made[name] = str(write(folder / name, config, 56.0))
    return made


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_does_what_it_says(
    script: Path,
    recordings_of_two_days: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert script.stem in CASES, f"{script.name} is new: say here what must be true of its output"
    arguments, holds = CASES[script.stem]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ESTIMATORS, "_entries", dict(ESTIMATORS._entries))
    monkeypatch.setattr(
        sys,
        "argv",
        [str(script), *(recordings_of_two_days.get(argument, argument) for argument in arguments)],
    )
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        if str(end.code).startswith("skipped: "):
            pytest.skip(str(end.code))
        assert not end.code, end.code
    text = capsys.readouterr().out
    assert holds(text, tmp_path), text


def test_examples_are_short_and_say_what_they_show() -> None:
    assert 10 <= len(SCRIPTS) <= 24
    for script in SCRIPTS:
        lines = script.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 80, f"{script.name} has {len(lines)} lines"
        assert lines[0].startswith('"""') and lines[0].endswith("."), script.name
