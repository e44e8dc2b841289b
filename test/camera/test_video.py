from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from eifer_ros.camera.calibration import Calibration
from eifer_ros.camera.pacing import Pacer
from eifer_ros.camera.video import VideoConfig, VideoSource
from eifer_ros.component import Level
from eifer_ros.errors import ConfigError, InputError
from eifer_ros.types import NS, Frame

START = 1_700_000_000 * NS
Rewrite = Callable[[Path, bytes, Callable[[bytes], bytes]], None]


def frames(path: Path, **options: object) -> list[Frame]:
    source = VideoSource(VideoConfig(path=str(path), start_stamp=START, **options))
    source.setup()
    out = [emission.item for emission in source.produce()]
    source.close()
    return out


def test_every_frame_comes_once_in_order_and_in_rgb(tmp_path: Path) -> None:
    path = tmp_path / "colours.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 48))
    for k in range(20):
        writer.write(np.full((48, 64, 3), (10, 30, 50 + 10 * k), np.uint8))  # OpenCV writes BGR
    writer.release()
    got = frames(path)
    assert len(got) == 20
    for k, frame in enumerate(got):
        assert np.abs(frame.image.reshape(-1, 3).mean(axis=0) - [50 + 10 * k, 30, 10]).max() < 6


def test_stamps_are_start_plus_presentation_time(make_video: Callable[..., Path]) -> None:
    got = frames(make_video([100] * 30, fps=24000 / 1001))
    want = [START + k * 1001 / 24000 * NS for k in range(30)]
    assert (
        np.abs(np.array([frame.stamp for frame in got]) - want).max() < 1e6
    )  # an MP4 counts time in fractions of a ms


def test_a_variable_frame_rate_and_a_pause_survive(make_video: Callable[..., Path], rewrite: Rewrite) -> None:
    path = make_video([100] * 12, fps=25.0)

    # time-to-sample table: four frames at 1, then one that stays for 10, then the rest at 2 frame times
    def change(body: bytes) -> bytes:
        count, step = struct.unpack_from(">II", body, 8)
        assert count == 12
        return body[:4] + struct.pack(">I", 3) + struct.pack(">6I", 4, step, 1, 10 * step, 7, 2 * step)

    rewrite(path, b"stts", change)
    # the edit list (version 0: flags, count, duration, ...) would end the film where it used to end
    rewrite(path, b"elst", lambda body: body[:8] + struct.pack(">I", 1 << 24) + body[12:])
    steps = np.diff([frame.stamp for frame in frames(path)]) / (NS / 25)
    assert np.allclose(steps, [1, 1, 1, 1, 10, 2, 2, 2, 2, 2, 2], atol=0.02)


def test_rotation_metadata_is_honoured(tmp_path: Path, rewrite: Rewrite) -> None:
    path = tmp_path / "phone.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 48))
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = 255  # bright left half
    for _ in range(5):
        writer.write(picture)
    writer.release()

    def change(body: bytes) -> bytes:
        quarter_turn = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
        return body[:40] + quarter_turn + body[76:]

    rewrite(path, b"tkhd", change)
    image = frames(path)[0].image
    assert image.shape == (64, 48, 3)  # turned upright, a quarter turn clockwise: left becomes top
    assert image[:28].mean() > 240
    assert image[36:].mean() < 15


def test_without_a_given_start_the_clock_is_asked_once(make_video: Callable[..., Path]) -> None:
    source = VideoSource(VideoConfig(path=str(make_video([1] * 3))), now=lambda: START + 5)
    source.setup()
    assert next(source.produce()).item.stamp == START + 5


def test_it_can_be_closed_and_played_again_to_the_same_frames(make_video: Callable[..., Path]) -> None:
    source = VideoSource(VideoConfig(path=str(make_video([10, 90, 170])), start_stamp=START))
    rounds = []
    for close in (source.close, source.stop, lambda: None):
        source.setup()
        rounds.append([(e.item.stamp, e.item.image.tobytes()) for e in source.produce()])
        close()
    assert rounds[0] == rounds[1] == rounds[2]
    assert len(rounds[0]) == 3


def test_stop_ends_the_playing(make_video: Callable[..., Path]) -> None:
    source = VideoSource(VideoConfig(path=str(make_video([10] * 50)), start_stamp=START))
    source.setup()
    count = 0
    for _ in source.produce():
        count += 1
        if count == 7:
            source.stop()
    assert count == 7


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such video file"), (b"", "empty"), (b"not a video" * 500, "not a video that can be decoded")],
)
def test_a_file_that_is_no_video_is_refused_in_one_line(
    tmp_path: Path, content: bytes | None, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        VideoSource(VideoConfig(path=str(path))).setup()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # FFmpeg's own complaint would be a second line


def test_a_folder_given_as_a_video_is_pointed_to_the_right_scheme(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"folder:{tmp_path}"):
        VideoSource(VideoConfig(path=str(tmp_path))).setup()


def test_a_video_cut_off_in_its_middle_gives_what_it_has_and_a_warning(
    make_video: Callable[..., Path], rewrite: Rewrite
) -> None:
    rng = np.random.default_rng(1)
    path = make_video([int(level) for level in rng.integers(0, 255, 60)])

    def forget(
        body: bytes,
    ) -> bytes:  # the container still announces 60 frames, but the last 40 have no bytes
        fixed, count = struct.unpack_from(">II", body, 4)
        assert (fixed, count) == (0, 60)
        sizes = list(struct.unpack_from(">60I", body, 12))
        return body[:12] + struct.pack(">60I", *sizes[:20], *[0] * 40)

    rewrite(path, b"stsz", forget)
    source = VideoSource(VideoConfig(path=str(path), start_stamp=START))
    source.setup()
    got = list(source.produce())
    assert 0 < len(got) < 40
    health = source.health()
    assert health.level is Level.WARN
    assert "of 60 frames" in health.message


def test_a_calibration_gives_intrinsics_scaled_to_the_picture(
    make_video: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(
        "image_width: 128\nimage_height: 96\ncamera_matrix: {rows: 3, cols: 3, data: [100, 0, 63.5, 0, 100, 47.5, 0, 0, 1]}\n"
        "distortion_model: plumb_bob\ndistortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}\n"
    )
    frame = frames(make_video([100]), calibration=str(path))[0]
    assert frame.intrinsics is not None
    assert np.allclose(
        frame.intrinsics, [[50, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]
    )  # the centre stays the centre


def test_a_calibrated_picture_is_a_pinhole_picture() -> None:
    """A dot drawn where the distorting lens puts a ray is found where the pinhole puts it."""
    matrix = np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]])
    calibration = Calibration(320, 240, matrix, np.array([-0.25, 0.06, 0.0, 0.0, 0.0]))
    ray = np.array([[0.5, -0.35, 1.0]])
    seen = cv2.projectPoints(ray, np.zeros(3), np.zeros(3), matrix, calibration.distortion)[0].ravel()
    image = np.zeros((240, 320, 3), np.uint8)
    cv2.circle(image, [round(float(v)) for v in seen], 3, (255, 255, 255), -1)
    straight, _ = calibration.apply(image)
    rows, columns = np.nonzero(straight[:, :, 0] > 128)
    assert np.hypot(seen[0] - 260, seen[1] - 50) > 8  # the lens does move it
    assert columns.mean() == pytest.approx(260, abs=1)
    assert rows.mean() == pytest.approx(50, abs=1)


@pytest.mark.parametrize(
    "text", ["image_width: 3", "[1, 2", "image_width: a\nimage_height: 2\ncamera_matrix: {data: [1]}"]
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        Calibration.load(path)


def test_a_calibration_of_another_aspect_ratio_is_refused() -> None:
    calibration = Calibration(640, 480, np.eye(3), np.zeros(5))
    with pytest.raises(ConfigError, match="aspect ratio"):
        calibration.intrinsics(640, 360)


def test_pacing_waits_until_an_item_is_due() -> None:
    times = iter([10.0, 10.0, 10.0])
    pacer = Pacer(2.0, monotonic=lambda: next(times))
    waits: list[float] = []
    pacer._stopped.wait = lambda timeout=None: waits.append(timeout) or False  # type: ignore[method-assign, assignment]
    for stamp in (START, START + NS, START + 3 * NS):
        pacer.wait(stamp)
    assert waits == pytest.approx([0.5, 1.5])  # at twice the speed; the first is due at once


def test_the_real_video_has_472_frames_at_24_per_second(recordings: Path) -> None:
    path = recordings / "crying_woman_pexels.mp4"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    got = frames(path)
    assert len(got) == 472
    assert np.allclose(np.diff([frame.stamp for frame in got]), 1001 / 24000 * NS, atol=1e6)
