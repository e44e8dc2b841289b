"""Clocks of camera and amplifier: known offset and drift put in, found again."""

from __future__ import annotations

import dataclasses
import json
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eifer_ros.errors import InputError
from eifer_ros.evaluation.simulated import items
from eifer_ros.recording.reader import read
from eifer_ros.recording.sync import (
    Sync,
    burst_onsets,
    edges,
    find_led,
    match,
    read_wave,
    sidecar_path,
    sync_events,
)
from eifer_ros.recording.writer import BagWriter
from eifer_ros.simulation.performer import PerformerConfig
from eifer_ros.types import NS, EmgChunk, FaceState, Frame
from eifer_ros.workflows.session import load_session
from eifer_ros.workflows.sync import sync

BASE = 1_760_000_000 * NS


def irregular(count: int, seed: int, every_s: float = 2.0) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).uniform(0.4, 1.6, count) * every_s)


# ---- edges ------------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-5, 5))
def test_rising_edges_are_found_to_the_sample_at_any_level(seed: int, height: float, base: float) -> None:
    rng = np.random.default_rng(seed)
    t = np.arange(4000) / 1000
    truth = np.array([0.5, 1.1, 2.0, 3.3])
    x = base + height * sum(((t >= u) & (t < u + 0.1)) for u in truth) + rng.normal(0, 0.01 * height, len(t))
    np.testing.assert_allclose(edges(t, x), truth, atol=1.01e-3)


def test_noise_has_no_edges_and_a_bounce_counts_once() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(3000) / 1000
    assert len(edges(t, rng.normal(size=3000))) == 0
    assert len(edges(t, np.zeros(3000))) == 0
    x = ((t > 1) & (t < 2)).astype(float)
    x[1010] = 0.4  # dips, but not to the low level
    assert len(edges(t, x)) == 1


# ---- matching ---------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.floats(-200, 200), st.floats(-200, 200))
def test_offset_and_drift_are_found_whatever_they_are(seed: int, offset: float, ppm: float) -> None:
    rng = np.random.default_rng(seed)
    camera = irregular(40, seed, 15.0)  # ten minutes
    amplifier = camera + offset + ppm * 1e-6 * (camera - camera.mean()) + rng.normal(0, 0.002, 40)
    missed = rng.permutation(40)[:5]
    found = sync_events(
        np.sort(np.r_[np.delete(amplifier, missed), offset + 33.3]),
        np.delete(camera, rng.permutation(40)[:4]),
        base=BASE,
        method="led",
    )
    assert found.grade == 1
    at = (found.reference - BASE) / NS
    assert abs(found.offset_s - (offset + ppm * 1e-6 * (at - camera.mean()))) < 0.004
    assert abs(found.drift_ppm - ppm) < 15
    assert found.residual_max_s < 0.02


def test_a_camera_stamp_is_put_where_the_amplifier_saw_it() -> None:
    camera = irregular(30, 5)
    amplifier = 1.5 + camera * (1 + 80e-6)
    found = sync_events(amplifier, camera, base=BASE, method="led")
    for c, a in zip(camera, amplifier, strict=True):
        assert abs(found.correct(BASE + round(c * NS)) - BASE - a * NS) < 1e3  # a microsecond


def test_events_that_do_not_belong_together_get_no_grade() -> None:
    found = sync_events(np.array([1.0, 2.0]), np.array([1.0]), base=BASE, method="led")
    assert found.grade == 0
    assert "3 are needed" in found.notes[0]
    assert found.correct(BASE + 5) == BASE + 5


def test_a_metronome_leaves_the_offset_open_and_says_so() -> None:
    beat = np.arange(30) * 1.0
    found = sync_events(beat, beat + 0.1, base=BASE, method="led")
    assert found.grade == 3
    assert "evenly spaced" in found.notes[0]
    assert found.offset_s == pytest.approx(-0.1, abs=1e-6)


def test_nothing_matches_nothing() -> None:
    assert len(match(np.zeros(0), np.arange(3.0))[0]) == 0


# ---- lamp and sound ---------------------------------------------------------------------------------------------------------


def pictures(on: np.ndarray, seconds: float, shift_s: float) -> list[Frame]:
    """A face-like blob that moves, and a lamp in the upper right corner; a picture integrates light over 8
    ms.
    """
    rng = np.random.default_rng(1)
    frames = []
    for k in range(int(seconds * 30)):
        t = k / 30
        image = np.full((96, 128, 3), 90, np.uint8)
        x = int(50 + 15 * np.sin(t))
        image[30:80, x : x + 30] = 150 + int(30 * np.sin(3 * t))
        lit = np.mean([np.any((u >= on) & (u < on + 0.15)) for u in t - np.linspace(0, 0.008, 9)])
        image[4:12, 112:120] = 40 + int(200 * lit)
        image = np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
        frames.append(Frame(BASE + round((t + shift_s) * NS), image))
    return frames


@pytest.fixture(scope="module")
def lamp_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The camera's stamps are 0.4 s late."""
    on = irregular(14, 3, 0.9)
    path = tmp_path_factory.mktemp("sync") / "lamp"
    with BagWriter(path, wait=True, jpeg_quality=95) as out:
        for frame in pictures(on, 15.0, 0.4):
            out.write("camera/image_raw", frame)
        t = np.arange(15000) / 1000
        pulse = 1e-3 * np.any((t[:, None] >= on) & (t[:, None] < on + 0.15), axis=1)
        noise = np.random.default_rng(0).normal(0, 1e-5, (15000, 2))
        for first in range(0, 15000, 500):
            samples = noise[first : first + 500].copy()
            samples[:, 1] += pulse[first : first + 500]
            out.write(
                "emg/raw",
                EmgChunk(
                    BASE + first * NS // 1000, 1000.0, ("F1", "Trigger"), samples.astype(np.float32), first
                ),
            )
    return path


def test_a_lamp_is_found_beside_a_moving_face(lamp_bag: Path) -> None:
    frames = [item for _, _, item in read(lamp_bag, topics=["camera/image_raw"])]
    (x, y, w, _), contrast = find_led(frames)
    assert x < 120
    assert x + w > 112
    assert y < 12
    assert contrast > 0.1
    with pytest.raises(InputError, match="no lamp blinks"):
        find_led(
            [Frame(f.stamp, np.ascontiguousarray(f.image[:, :100])) for f in frames]
        )  # without the corner


def test_trigger_and_lamp_give_the_offset_and_nothing_is_changed_but_metadata(lamp_bag: Path) -> None:
    before = {path: path.read_bytes() for path in lamp_bag.iterdir()}
    found = sync(lamp_bag)
    assert found.method == "led"
    assert found.grade == 1
    assert found.offset_s == pytest.approx(-0.4, abs=0.012)
    assert {path: path.read_bytes() for path in before} == before
    assert Sync.load(lamp_bag) == found
    assert json.loads(sidecar_path(lamp_bag).read_text())["grade"] == 1


def test_a_region_can_be_given_and_must_lie_in_the_picture(lamp_bag: Path) -> None:
    assert sync(lamp_bag, region=(110, 2, 12, 12), write=False).offset_s == pytest.approx(-0.4, abs=0.012)
    with pytest.raises(InputError, match="outside the picture"):
        sync(lamp_bag, region=(500, 2, 12, 12), write=False)


def test_tone_bursts_of_the_sound_track_give_it_to_a_millisecond(lamp_bag: Path, tmp_path: Path) -> None:
    rate, on = 16000, irregular(14, 3, 0.9)
    t = np.arange(16 * rate) / rate
    tone = 0.5 * np.sin(2 * np.pi * 1000 * t) * np.any((t[:, None] >= on) & (t[:, None] < on + 0.1), axis=1)
    tone += np.random.default_rng(0).normal(0, 0.003, len(t))
    with wave.open(str(tmp_path / "s.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(tone, -1, 1) * 32767).astype("<i2").tobytes())
    samples, read_rate = read_wave(tmp_path / "s.wav")
    np.testing.assert_allclose(burst_onsets(samples, read_rate), on, atol=1e-3)
    found = sync(lamp_bag, method="audio", audio=tmp_path / "s.wav", write=False)
    assert found.grade == 1
    assert found.offset_s == pytest.approx(-0.4, abs=0.001)


def test_what_a_method_lacks_is_named(lamp_bag: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--audio FILE\.wav"):
        sync(lamp_bag, method="audio")
    with pytest.raises(InputError, match="no EMG channel 'Trig'; it has F1, Trigger"):
        sync(lamp_bag, method="led", trigger="Trig")
    (tmp_path / "x.wav").write_bytes(b"no wave")
    with pytest.raises(InputError, match="PCM"):
        read_wave(tmp_path / "x.wav")
    with pytest.raises(InputError, match="sync method 'lamp'"):
        sync(lamp_bag, method="lamp")


def test_a_broken_sync_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    sidecar_path(tmp_path / "bag").write_text("{}")
    with pytest.raises(InputError, match=r"sync\.json: cannot be read"):
        Sync.load(tmp_path / "bag")


# ---- consensus --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def late_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated participant whose camera's stamps are 3.3 s late; skin follows muscle by 70 ms."""
    path = tmp_path_factory.mktemp("sync") / "late"
    config = PerformerConfig(seed=11, program="calibration", rate_hz=1000.0, chunk_samples=200)
    with BagWriter(path, wait=True) as out:
        for port, item in items(config, 45.0):
            if isinstance(item, FaceState):
                out.write("face/vision", dataclasses.replace(item, stamp=item.stamp + round(3.3 * NS)))
            elif port in ("emg/raw", "emg/raw_channels"):
                out.write(port, item)
    return path


def test_muscles_and_face_agree_on_an_offset_of_seconds(late_bag: Path) -> None:
    found = sync(late_bag)
    assert found.method == "consensus"
    assert found.grade == 2  # never sure: a person's own lag hides in it
    assert found.offset_s == pytest.approx(-3.3, abs=0.03)
    assert "skin is taken to follow" in found.notes[0]
    before, after = load_session(late_bag, synced=False), load_session(late_bag)
    steps = {b.stamp - a.stamp for a, b in zip(after.faces, before.faces, strict=True)}
    assert all(abs(step - 3.3 * NS) < 0.03 * NS for step in steps)
