"""Pictures for phase 1: any source gives crops; what cannot be used is skipped and counted; references under
sensors are noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from eifer_ros.errors import InputError, ModelError  # noqa: E402
from eifer_ros.head.model import load_head  # noqa: E402
from eifer_ros.reconstruction.encoder.face_crop import POINTS  # noqa: E402
from eifer_ros.reconstruction.encoder.face_encoder import Reading  # noqa: E402
from eifer_ros.reconstruction.landmarks.attention_mesh import Crop  # noqa: E402
from eifer_ros.simulation.participant import Participant  # noqa: E402
from research.faces import face_data  # noqa: E402
from research.faces.face_data import (  # noqa: E402
    AROUND,
    MIN_FRAMES,
    SENSOR_SCORE,
    clips,
    exposure_fault,
    gather,
    sensor_score,
)

SIDE = 200


def template() -> np.ndarray:
    """Where the points of a resting face lie in its crop, crop units; the eyes are level, so that a tracked
    crop does not turn.
    """
    head = load_head()
    flat = head.points(head.template)[list(POINTS)][:, :2] * [1.0, -1.0]
    x, y = flat[POINTS.index(263)] - flat[POINTS.index(33)]
    flat = flat @ np.array([[x, -y], [y, x]]) / np.hypot(x, y)
    return np.asarray(0.5 + (flat - (flat.max(0) + flat.min(0)) / 2) / np.ptp(flat, axis=0).max() / 1.3)


class StandIn:
    """A reader that finds a resting face wherever there is a pink square, and nothing elsewhere."""

    def read_patches(self, patches: Sequence[np.ndarray], crops: Sequence[Crop]) -> list[Reading]:
        out = []
        for patch, crop in zip(patches, crops, strict=True):
            pink = (patch[..., 0] > 150) & (patch[..., 1] < 140)
            y, x = np.nonzero(pink)
            found = len(y) > 0.02 * pink.size
            centre = np.array([x.mean(), y.mean()]) if found else np.zeros(2)
            side = 1.3 * max(np.ptp(x), np.ptp(y)) if found else 1.0
            local = (template() - 0.5) * side + centre
            matrix = crop.matrix(len(patch))
            points = local @ matrix[:, :2].T + matrix[:, 2]
            out.append(
                Reading(
                    crop, points, np.zeros(52), np.ones(52), np.eye(3), np.zeros(80), 1.0 if found else 0.0
                )
            )
        return out


def face(rng: np.random.Generator, x: float = 100.0, y: float = 100.0, covered: bool = False) -> np.ndarray:
    picture = rng.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
    cv2.rectangle(picture, (int(x - 40), int(y - 40)), (int(x + 40), int(y + 40)), (200, 120, 100), -1)
    for dx, dy, wide in ((-20, -14, 4), (20, -14, 4), (0, 25, 12)):  # eyes and mouth
        cv2.rectangle(
            picture,
            (int(x + dx - wide), int(y + dy - 2)),
            (int(x + dx + wide), int(y + dy + 2)),
            (40, 20, 20),
            -1,
        )
    if covered:
        for _ in range(60):
            px, py = (int(v) for v in np.array([x, y]) + rng.uniform(-36, 36, 2))
            cv2.rectangle(picture, (px - 3, py - 3), (px + 3, py + 3), (250, 250, 250), -1)
            cv2.circle(picture, (px, py), 1, (160, 20, 20), -1)
    return picture


def write(folder: Path, pictures: Sequence[np.ndarray]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number:04d}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return str(folder)


def test_usable_pictures_become_crops_and_the_others_are_counted_by_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [face(rng) for _ in range(MIN_FRAMES + 5)]
    pictures += [np.zeros((SIDE, SIDE, 3), np.uint8)] * 3 + [np.full((SIDE, SIDE, 3), 252, np.uint8)] * 2
    pictures += [rng.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)] * 4
    found = gather(write(tmp_path / "p", pictures), False, StandIn(), size=64)
    assert found.skipped == {"black": 3, "overexposed": 2, "no face": 4}
    assert found.crops.shape == (MIN_FRAMES + 5, round(AROUND * 64), round(AROUND * 64), 3)
    middle = found.crops[:, 30:44, 30:44].reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(middle, (200, 120, 100), atol=3)


def test_a_crop_that_lies_half_outside_the_picture_is_skipped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [face(rng) for _ in range(MIN_FRAMES)] + [face(rng, x=100.0 + 6 * k) for k in range(1, 17)]
    found = gather(write(tmp_path / "p", pictures), False, StandIn(), size=64)
    assert found.skipped.get("outside", 0) + found.skipped.get("no face", 0) >= 3
    assert len(found.crops) + sum(found.skipped.values()) == len(pictures)


def test_too_few_pictures_are_an_error_that_says_what_happened_to_the_rest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    where = write(tmp_path / "p", [face(rng) for _ in range(10)] + [np.zeros((SIDE, SIDE, 3), np.uint8)] * 7)
    with pytest.raises(
        InputError, match=rf"10 usable reference pictures of 17 \(7 black\); at least {MIN_FRAMES}"
    ):
        gather(where, False, StandIn(), size=64)


def test_references_that_carry_sensors_are_refused_unless_the_check_is_off(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    where = write(tmp_path / "p", [face(rng, covered=True) for _ in range(MIN_FRAMES)])
    with pytest.raises(InputError, match="seem to carry sensors already"):
        gather(where, False, StandIn(), size=64)
    assert len(gather(where, False, StandIn(), size=64, check=False).crops) == MIN_FRAMES
    assert len(gather(where, True, StandIn(), size=64).crops) == MIN_FRAMES


def test_the_simulated_participant_is_told_bare_from_covered_by_forehead_and_cheeks() -> None:
    from eifer_ros.head import projection
    from eifer_ros.reconstruction.encoder.face_crop import SIZE, crop_of
    from eifer_ros.reconstruction.encoder.face_encoder import cut

    bare, covered = [], []
    for seed in (3, 11, 24):
        participant = Participant(seed, sensors=True)
        state = participant.face_at(4.0)
        view = participant.camera.render_pair(state.shape, state.expression, state.eyes, state.head_pose, 4.0)
        points = participant.head.points(participant.head.state_vertices(state))[list(POINTS)]
        flat = projection.project(points, state.head_pose, participant.intrinsics)[:, :2]
        crop = crop_of(flat)
        inverse = np.linalg.inv(np.vstack([crop.matrix(1), [0, 0, 1]]))
        local = flat @ inverse[:2, :2].T + inverse[:2, 2]
        bare.append(sensor_score(cut(view.bare, crop, SIZE), local))
        covered.append(sensor_score(cut(view.with_sensors, crop, SIZE), local))
    assert max(bare) < SENSOR_SCORE < min(covered)


def test_the_order_of_pictures_tells_nothing_about_when_they_were_taken(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = []
    for k in range(60):
        picture = face(rng)
        picture[90:110, 90:110] = (160 + k, 100, 90)
        pictures.append(picture)
    where = write(tmp_path / "p", pictures)
    orders = []
    for covered in (False, True):
        found = gather(where, covered, StandIn(), size=64, check=False)
        orders.append(np.argsort(found.crops[:, 33:41, 33:41, 0].mean(axis=(1, 2))))
    assert abs(np.corrcoef(orders[0], np.arange(60))[0, 1]) < 0.4
    assert abs(np.corrcoef(orders[0], orders[1])[0, 1]) < 0.4
    same = gather(where, False, StandIn(), size=64, check=False)
    assert np.array_equal(np.argsort(same.crops[:, 33:41, 33:41, 0].mean(axis=(1, 2))), orders[0])


# --- where pictures come from


def video(path: Path, count: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30.0, (64, 48))
    for k in range(count):
        writer.write(np.full((48, 64, 3), 10 * k, np.uint8))
    writer.release()
    return path


def test_videos_of_a_folder_are_its_clips_and_long_ones_are_thinned(tmp_path: Path) -> None:
    video(tmp_path / "v" / "a.mp4", 20)
    video(tmp_path / "v" / "deeper" / "b.mp4", 4)
    found = clips(str(tmp_path / "v"), True, 10)
    assert [clip.name for clip in found] == ["a.mp4", str(Path("deeper") / "b.mp4")]
    assert [len(list(clip.open())) for clip in found] == [5, 4]
    assert len(list(clips(str(tmp_path / "v" / "a.mp4"), False, 100)[0].open())) == 20


def test_of_an_mmm_folder_each_side_gets_its_own_sessions(tmp_path: Path) -> None:
    rows = ["source,index,pid,rec,mode,task,video"]
    for rec in ("1N", "1S"):
        name = f"007_{rec}_schaede_1_Face-At-Rest"
        video(tmp_path / "video" / f"{name}.mp4")
        rows.append(f"MMM,{name},007,{rec},schaede,Face-At-Rest,video/{name}.mp4")
    (tmp_path / "MMM.csv").write_text("\n".join(rows) + "\n")
    for sensors, rec in ((False, "1N"), (True, "1S")):
        found = clips(str(tmp_path), sensors, 100)
        assert [(clip.person, clip.name) for clip in found] == [("007", f"007_{rec}_schaede_1_Face-At-Rest")]
        assert len(list(found[0].open())) == 8


def test_a_recording_gives_its_pictures(tmp_path: Path) -> None:
    from eifer_ros.simulation.performer import PerformerConfig
    from eifer_ros.workflows.simulate import simulate_recording

    simulate_recording(tmp_path / "bag", 0.01, PerformerConfig(seed=3, width=160, height=120), emg=False)
    found = clips(str(tmp_path / "bag"), False, 1000)
    pictures = list(found[0].open())
    assert len(found) == 1 and len(pictures) >= 10 and pictures[0].shape == (120, 160, 3)


def test_the_performer_shows_other_moments_bare_than_under_sensors() -> None:
    bare, covered = (next(iter(clips("performer:5", side, 2)[0].open())) for side in (False, True))
    assert bare.shape == covered.shape and np.abs(bare.astype(int) - covered).mean() > 2.0
    assert [clip.person for clip in clips("performer:5,6", True, 4)] == ["performer 5", "performer 6"]


@pytest.mark.parametrize("where", ["performer:x", "performer:", "/nowhere/at/all"])
def test_places_without_pictures_are_refused(where: str) -> None:
    with pytest.raises(InputError):
        clips(where, False, 10)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds neither"):
        clips(str(tmp_path), False, 10)


def test_black_and_burnt_pictures_are_told_from_a_face_on_black() -> None:
    face_on_black = np.zeros((100, 100, 3), np.uint8)
    face_on_black[40:52, 40:52] = 150
    assert exposure_fault(np.zeros((100, 100, 3), np.uint8)) == "black"
    assert exposure_fault(np.full((100, 100, 3), 255, np.uint8)) == "overexposed"
    assert exposure_fault(face_on_black) is None


# --- the encoder to start from


def test_a_run_can_start_from_the_exported_network(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from phase_one_parts import encoder

    from research.faces.face_encoder import export
    from research.faces.start_encoders import load_start

    head = load_head()
    made = encoder(4)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 2.0)
    export(made, head, tmp_path / "e.onnx", {})
    made.eval()
    back = load_start(tmp_path / "e.onnx", head)
    picture = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        for name, value in made(picture).items():
            torch.testing.assert_close(
                back(picture)[name], value, atol=5e-3, rtol=5e-3
            )  # weights are stored in half precision
    torch.save(
        {"average": made.state_dict(), "widths": list(made.widths), "sizes": [52, 80]}, tmp_path / "e.pt"
    )
    same = load_start(tmp_path / "e.pt", head)
    with torch.no_grad():
        assert torch.equal(same.eval()(picture)["expression"], made(picture)["expression"])


def test_a_start_encoder_of_another_kind_or_head_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from phase_one_parts import encoder

    from research.faces.face_encoder import FaceEncoder, export
    from research.faces.start_encoders import load_start

    head = load_head()
    with pytest.raises(InputError, match="no such encoder"):
        load_start(tmp_path / "none.pt", head)
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="not SMIRK's encoder"):
        load_start(tmp_path / "other.pt", head)
    small = FaceEncoder(10, 5, (8, 8, 8, 8))
    torch.save(
        {"average": small.state_dict(), "widths": [8, 8, 8, 8], "sizes": [10, 5]}, tmp_path / "small.pt"
    )
    with pytest.raises(ModelError, match="10 expression and 5 shape"):
        load_start(tmp_path / "small.pt", head)
    pytest.importorskip("onnx")
    export(encoder(5), head, tmp_path / "e.onnx", {})
    with pytest.raises(ModelError, match="was trained for head model 'open_head'"):
        load_start(tmp_path / "e.onnx", replace(head, id="mine"))


# --- the command


def test_the_command_trains_resumes_and_exports(
    tmp_path: Path, eifer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    from phase_one_parts import encoder

    made = encoder(0)
    torch.save(
        {"average": made.state_dict(), "widths": list(made.widths), "sizes": [52, 80]}, tmp_path / "start.pt"
    )
    rng = np.random.default_rng(0)
    bare = write(tmp_path / "bare", [face(rng) for _ in range(MIN_FRAMES)])
    covered = write(tmp_path / "covered", [face(rng, covered=True) for _ in range(MIN_FRAMES)])
    monkeypatch.setattr(face_data, "TorchReader", lambda _: StandIn())
    common = (
        "--reference",
        bare,
        "--sensors",
        covered,
        "--out",
        tmp_path / "run",
        "--start",
        tmp_path / "start.pt",
        "--device",
        "cpu",
        "--size",
        32,
        "--batch",
        2,
        "--steps",
        2,
        "--threads",
        1,
        "--json",
    )
    done = eifer("train", "face", *common)
    assert done.code == 0, done.err
    import json

    result = json.loads(done.out)
    assert (
        result["complete"]
        and result["steps"] == 2
        and result["pictures"] == {"reference": MIN_FRAMES, "sensors": MIN_FRAMES}
    )
    assert (
        Path(result["files"]["encoder_s"]).stat().st_size > 10_000
        and (tmp_path / "run" / "pictures" / "step_000002.png").exists()
    )
    again = json.loads(eifer("train", "face", *common).out)
    assert again["resumed_at"] == 2 and again["complete"]
    other = eifer("train", "face", *common, "--loss", "shape=0")
    assert other.code == 2 and "weights" in other.err and "take another folder" in other.err
    assert eifer("train", "face", *common, "--loss", "shpe=0").code == 3
    swapped = ("--reference", covered, "--sensors", bare, "--out", tmp_path / "run2", *common[6:])
    refused = eifer("train", "face", *swapped)
    assert refused.code == 2 and "seem to carry sensors already" in refused.err
    same = eifer(
        "train", "face", "--reference", bare, "--sensors", bare, "--out", tmp_path / "run3", *common[6:]
    )
    assert same.code == 2 and "are both" in same.err
