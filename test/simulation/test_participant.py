from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from eifer_ros.emg.montage import FRIDLUND
from eifer_ros.head.model import load_head
from eifer_ros.head.projection import project
from eifer_ros.simulation.participant import START, Participant
from eifer_ros.simulation.script import Script
from eifer_ros.types import ARKIT_52, NS, FaceOrigin, FaceStatus, MuscleOrigin

PERSON = Participant(7, size=(64, 48))
LIVE_S = 2.8e7  # seconds since the beginning of 2026 in autumn: what a live performance asks for


@given(st.lists(st.floats(0.0, 6.0), min_size=3, max_size=8))
def test_however_time_is_cut_the_samples_are_the_same(cuts: list[float]) -> None:
    edges = sorted(cuts)
    joined = np.concatenate([PERSON.emg(a, b) for a, b in pairwise(edges)])
    assert np.array_equal(joined, PERSON.emg(edges[0], edges[-1]))


def test_another_process_sees_the_same_performance() -> None:
    mode = "units"
    code = (
        "import sys, hashlib, numpy as np\n"
        "from eifer_ros.simulation.participant import Participant\n"
        f"p = Participant(7, size=(64, 48), emg_mode={mode!r})\n"
        "face = p.face_at(31.37)\n"
        "data = p.emg(30.0, 31.0).tobytes() + face.expression.tobytes() + face.head_pose.tobytes() + p.frame_at(31.37).image.tobytes()\n"
        "print(hashlib.sha256(data).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    here = Participant(7, size=(64, 48), emg_mode="units")
    here.emg(90.0, 91.0)  # another history
    face = here.face_at(31.37)
    data = (
        here.emg(30.0, 31.0).tobytes()
        + face.expression.tobytes()
        + face.head_pose.tobytes()
        + here.frame_at(31.37).image.tobytes()
    )
    assert hashlib.sha256(data).hexdigest() == other


def test_the_true_face_is_complete() -> None:
    face = PERSON.face_at(33.0)
    assert face.stamp == START + 33 * NS
    assert (face.origin, face.status, face.confidence) == (FaceOrigin.TRUTH, FaceStatus.TRACKING, 1.0)
    assert face.head_model == "open_head"
    assert face.expression.shape == (52,)
    assert np.isfinite(face.expression).all()
    assert not face.expression_std.any()
    assert 0.3 < face.shape.std() < 1.7


def test_expressions_show_the_movement_that_is_performed() -> None:
    expected = {
        "Forehead": "browOuterUpLeft",
        "Eye-Tight": "eyeBlinkRight",
        "Smile-Open": "mouthSmileRight",
        "Lip-Pucker": "mouthPucker",
        "Cheeks": "cheekPuff",
        "Snarl": "noseSneerLeft",
        "Depress-Lip": "mouthFrownLeft",
        "Surprised": "jawOpen",
    }
    rest = PERSON.expression_at(2.0)
    takes = PERSON.script.takes(0.0, 85.0)
    assert set(expected) <= {take.label for take in takes}
    for take in takes:
        if take.label in expected:
            held = PERSON.expression_at(0.5 * (take.start_s + take.end_s))
            index = ARKIT_52.index(expected[take.label])
            assert held[index] > 0.35 > 0.1 > rest[index], take.label


def test_the_camera_sees_the_face_from_slightly_below_at_arms_length() -> None:
    for seed in range(8):
        person = Participant(seed, size=(320, 240))
        pose = person.head_pose(10.0)
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
        camera = -pose[:3, :3].T @ pose[:3, 3]
        eyes = person.head.joint_positions(person.shape)[3:5].mean(axis=0)
        towards = camera - (eyes + np.array([0.0, -0.03, 0.0]))
        assert 0.55 < np.linalg.norm(towards) < 1.0
        assert -0.5 < towards[1] / towards[2] < 0.0
        points = project(person.head.vertices(person.shape), pose, person.intrinsics)
        face = points[person.head.part("skin")]
        assert (np.median(face[:, :2], axis=0) > [80, 50]).all()
        assert (np.median(face[:, :2], axis=0) < [240, 190]).all()
        left, right = (points[person.head.part(f"eye_{side}")].mean(axis=0) for side in ("left", "right"))
        assert left[0] > right[0]  # the subject's left is on the right of the picture
        assert 20 < left[0] - right[0] < 90


def test_frames_carry_the_stamp_and_the_lens() -> None:
    frame = PERSON.frame_at(12.5)
    assert frame.size == (64, 48)
    assert frame.stamp == PERSON.stamp(12.5)
    assert np.array_equal(frame.intrinsics, PERSON.intrinsics)
    assert frame.image.std() > 5
    assert not np.array_equal(frame.image, Participant(8, size=(64, 48)).frame_at(12.5).image)


def test_a_second_session_is_the_same_person_at_another_time() -> None:
    again = Participant(7, 1, size=(64, 48))
    assert np.array_equal(PERSON.shape, again.shape)
    assert np.array_equal(PERSON.muscle_map.matrix, again.muscle_map.matrix)
    assert not np.array_equal(PERSON.emg(1.0, 1.1), again.emg(1.0, 1.1))
    assert [t.start_s for t in PERSON.script.takes(0, 60)] != [t.start_s for t in again.script.takes(0, 60)]
    stranger = Participant(8)
    assert not np.array_equal(PERSON.shape, stranger.shape)


def test_true_muscles_have_the_names_of_the_scheme_and_the_amplitudes_of_the_table() -> None:
    take = next(take for take in PERSON.script.takes(0.0, 60.0) if take.label == "Forehead")
    truth = PERSON.muscles_at(0.5 * (take.start_s + take.end_s))
    assert truth.muscles == FRIDLUND.muscles
    assert truth.scheme == "fridlund"
    assert truth.origin == MuscleOrigin.TRUTH
    assert 1.5e-4 < truth.envelope[0] < 4e-4
    assert truth.activation[0] > 0.6
    assert truth.envelope[20] < 1e-5


def test_the_recorded_envelope_follows_the_true_one() -> None:
    samples = PERSON.emg(0.0, 60.0).astype(np.float64)
    band = signal.sosfilt(signal.butter(4, [20, 450], "band", fs=2048, output="sos"), samples, axis=0)
    envelope = np.sqrt(
        np.maximum(signal.sosfiltfilt(signal.butter(2, 4, fs=2048, output="sos"), band**2, axis=0), 0.0)
    )
    times = np.arange(2.0, 58.0, 0.05)
    truth = np.array([PERSON.muscles_at(t).envelope for t in times])
    measured = envelope[np.round(times * PERSON.true_rate_hz).astype(int)]
    r = np.array([np.corrcoef(truth[:, m], measured[:, m])[0, 1] for m in range(22)])
    assert np.median(r) > 0.85
    assert r.min() > 0.5  # neighbours are heard too: crosstalk is part of the truth


@pytest.mark.parametrize("lag_s", [0.05, 0.12])
def test_the_face_follows_the_emg_by_the_lag(lag_s: float) -> None:
    person = Participant(7, lag_s=lag_s, program="calibration", artefacts=())
    rate = person.rate_hz
    power = person.emg(0.0, 55.0).astype(np.float64)[:, [18, 2, 10]] ** 2
    smooth = np.sqrt(
        np.maximum(signal.sosfiltfilt(signal.butter(2, 5, fs=rate, output="sos"), power, axis=0), 0.0)
    )
    times = np.arange(1.0, 54.0, 0.005)
    for channel, action in ((0, "mouthSmileRight"), (1, "browOuterUpRight"), (2, "mouthPucker")):
        a = smooth[np.round(times * rate).astype(int), channel]
        b = person.expression_at(times)[:, ARKIT_52.index(action)]
        cross = signal.correlate(b - b.mean(), a - a.mean(), "full")
        lags = signal.correlation_lags(len(b), len(a)) * 0.005
        assert lags[np.argmax(cross)] == pytest.approx(lag_s, abs=0.03)


@pytest.mark.parametrize("mode", ["fast", "units"])
def test_any_moment_of_a_live_performance_is_near(mode: str) -> None:
    person = Participant(7, size=(64, 48), emg_mode=mode, artefacts=("all",))  # type: ignore[arg-type]
    samples = person.emg(LIVE_S, LIVE_S + 2.0)
    assert samples.shape[0] == pytest.approx(4096, abs=2)
    assert np.isfinite(samples).all()
    assert samples.std() > 1e-7
    again = Participant(7, size=(64, 48), emg_mode=mode, artefacts=("all",))  # type: ignore[arg-type]
    assert np.array_equal(again.emg(LIVE_S + 1.0, LIVE_S + 1.5), person.emg(LIVE_S + 1.0, LIVE_S + 1.5))
    assert np.isfinite(person.face_at(LIVE_S).expression).all()


def test_channels_are_described() -> None:
    info = PERSON.channel_info()
    assert info.channels == FRIDLUND.names
    assert info.muscles == FRIDLUND.muscles
    assert info.montage == "bipolar"
    assert np.allclose(info.positions, FRIDLUND.positions)
    assert Participant(7, scheme="kuramoto").channel_info().montage == "monopolar"


@settings(max_examples=10)
@given(st.integers(0, 2**31 - 1))
def test_every_seed_gives_a_person(seed: int) -> None:
    person = Participant(seed, artefacts=())
    assert person.face_at(5.0).shape.shape == (load_head().shape_size,)
    assert isinstance(person.script, Script)


def test_stamps_and_times_convert_both_ways() -> None:
    assert PERSON.time(PERSON.stamp(123.456)) == pytest.approx(123.456, abs=1e-9)
    assert Participant(7, start=5).stamp(1.0) == NS + 5
