"""From a recording on disk to a mapping on disk, and what is said about a bad recording."""

from __future__ import annotations

import heapq
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eifer_ros.component import Emission
from eifer_ros.errors import InputError
from eifer_ros.mapping.fit import FitSettings
from eifer_ros.mapping.mapping import Mapping
from eifer_ros.recording.writer import BagWriter
from eifer_ros.simulation.participant import Participant
from eifer_ros.simulation.performer import PerformerConfig, simulate
from eifer_ros.workflows.fit import fit_recording, fit_session
from eifer_ros.workflows.session import Session, load_session

RIDGE = FitSettings(kind="ridge")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 11 movements of a simulated participant, sEMG and true faces."""
    out = tmp_path_factory.mktemp("fit") / "session"
    length_s = 56.0
    config = PerformerConfig(
        seed=31, program="calibration", rate_hz=1024.0, truth_hz=10.0, artefacts=("white",)
    )
    person = Participant(31, program="calibration")
    # no pictures: rendering them takes longer than all the rest
    faces = [Emission("truth/face", person.face_at(float(at))) for at in np.arange(0.0, length_s, 1 / 30)]
    with BagWriter(out, wait=True) as bag:
        for emission in heapq.merge(
            simulate(length_s / 60, config, camera=False), faces, key=lambda made: made.item.stamp
        ):
            bag.write(*emission)
    return out


@pytest.fixture(scope="module")
def session(recording: Path) -> Session:
    return load_session(recording)


def test_a_recording_becomes_a_mapping_file_that_knows_where_it_comes_from(
    recording: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "mapping.npz"
    fitted = fit_recording(recording, out, RIDGE)
    told = fitted.as_dict()
    assert (
        told["faces_from"] == "truth/face"
        and told["scheme"] == "fridlund"
        and told["muscles"] == 22
        and told["warnings"] == []
    )
    assert (
        abs(told["lag_s"] - 0.07) < 0.015 and told["emg2exp"]["r2"] > 0.5
    )  # each movement is made once: held out, it was never seen
    again = Mapping.load(out)
    assert again.profile == "live" and again.statistics == fitted.mapping.statistics
    with pytest.raises(InputError, match="never overwritten"):
        fit_recording(recording, out, RIDGE)


def changed(session: Session, envelope_of: object) -> Session:
    """`session` with other envelopes and qualities: `envelope_of(envelope, quality)`."""
    rows = []
    for item in session.activity:
        envelope, quality = np.array(item.envelope), np.array(item.quality)
        envelope_of(envelope, quality)  # type: ignore[operator]
        rows.append(replace(item, envelope=envelope, quality=quality))
    return replace(session, activity=rows)


def test_swapped_channels_are_named(session: Session) -> None:
    names = session.activity[0].muscles
    first, second = names.index("zygomaticus_major_left"), names.index("lateral_frontalis_left")

    def swap(envelope: np.ndarray, quality: np.ndarray) -> None:
        envelope[[first, second]] = envelope[[second, first]]

    warnings = fit_session(changed(session, swap).calibrated(), RIDGE).warnings
    assert any(
        "zygomaticus_major_left" in text and "lateral_frontalis_left" in text and "swapped" in text
        for text in warnings
    )


def test_a_dead_channel_is_named_and_the_mapping_is_made_from_the_others(session: Session) -> None:
    dead = session.activity[0].muscles.index("mentalis_right")

    def cut(envelope: np.ndarray, quality: np.ndarray) -> None:
        envelope[dead], quality[dead] = np.nan, 0.0

    fitted = fit_session(changed(session, cut).calibrated(), RIDGE)
    assert fitted.as_dict()["dead_channels"] == ["mentalis_right"]
    assert any("mentalis_right" in text and "no contact" in text for text in fitted.warnings)
    assert (
        fitted.mapping.statistics["emg2exp"]["r2"] > 0.5
    )  # each movement is made once: held out, it was never seen


def test_a_missing_movement_is_named(session: Session) -> None:
    markers = [marker for marker in session.markers if marker.label != "Snarl"]
    warnings = fit_session(replace(session, markers=markers).calibrated(), RIDGE).warnings
    assert any("Snarl" in text for text in warnings)


def test_faces_of_two_head_models_and_recordings_without_emg_are_refused(session: Session) -> None:
    ready = session.calibrated()
    mixed = [*ready.faces[:-1], replace(ready.faces[-1], head_model="flame2023")]
    with pytest.raises(InputError, match="flame2023"):
        fit_session(replace(ready, faces=mixed), RIDGE)
    with pytest.raises(InputError, match="no EMG"):
        replace(session, activity=[]).calibrated()
    with pytest.raises(InputError, match="--calibration"):
        replace(session, markers=[]).calibrated()
