"""Self-supervised refinement: what it learns from, and that a stopped run is the same run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from phase_one_parts import face  # noqa: E402

from eifer_ros.errors import InputError, ModelError  # noqa: E402
from eifer_ros.head.model import load_head  # noqa: E402
from eifer_ros.reconstruction.landmarks.attention_mesh import Crop, Landmarks  # noqa: E402
from research.faces.face_data import AROUND, MIN_FRAMES, Domain  # noqa: E402
from research.faces.refine import CHECKPOINT, LandmarkedPictures, Refinement, Refiner  # noqa: E402

SETTINGS = Refinement(steps=2, batch=2, save_every=1000)


@pytest.fixture(scope="module")
def marked() -> LandmarkedPictures:
    torch.set_num_threads(1)
    pictures = torch.rand(6, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model = face()
        read = model.read(pictures)
        placed = read.camera.project(model.head.points(read.vertices), 1)[..., :2]
    return LandmarkedPictures(pictures, placed + 0.03)


def refiner(run: Path, marked: LandmarkedPictures, settings: Refinement = SETTINGS) -> Refiner:
    run.mkdir(parents=True, exist_ok=True)
    return Refiner(face(), load_head(), marked, settings, run)


def test_a_stopped_refinement_ends_bit_for_bit_like_one_that_was_not(
    tmp_path: Path, marked: LandmarkedPictures
) -> None:
    whole = refiner(tmp_path / "whole", marked)
    before = {name: value.clone() for name, value in whole.face.state_dict().items()}
    assert whole.loop.run(whole.advance)
    half = refiner(tmp_path / "half", marked)
    assert not half.loop.run(half.advance, stop=lambda: half.loop.step == 1)
    going_on = refiner(tmp_path / "half", marked)
    assert going_on.loop.resume() and going_on.loop.run(going_on.advance)
    for name, value in whole.face.state_dict().items():
        assert torch.equal(value, going_on.face.state_dict()[name]), name
    assert (
        torch.equal(whole.offset.points, going_on.offset.points)
        and float(whole.offset.points.detach().abs().max()) > 0
    )
    moved = [name for name, value in whole.face.state_dict().items() if not torch.equal(value, before[name])]
    assert moved and not any("running" in name for name in moved)
    assert all(torch.equal(value, before[name]) for name, value in whole.before.state_dict().items())
    with pytest.raises(InputError, match="seed = 0, not 3"):
        refiner(tmp_path / "half", marked, replace(SETTINGS, seed=3)).loop.resume()
    torch.save({"kind": "other"}, tmp_path / "half" / CHECKPOINT)
    with pytest.raises(ModelError, match="not a checkpoint of 'eifer_refinement'"):
        refiner(tmp_path / "half", marked).loop.resume()


def test_a_constant_difference_between_network_and_model_points_is_no_loss_once_learnt(
    tmp_path: Path, marked: LandmarkedPictures
) -> None:
    made = refiner(tmp_path, marked, replace(SETTINGS, photometric=0.0, agreement=0.0, near=0.0))
    with torch.no_grad():
        before = float(made.losses(marked.pictures[:2], marked.landmarks[:2], torch.Generator())["landmarks"])
        scale = made.face.read(marked.pictures[:1]).camera.scale
        made.offset.points.fill_(float(0.03 / (0.1 * scale)))
        after = float(made.losses(marked.pictures[:1], marked.landmarks[:1], torch.Generator())["landmarks"])
    assert before == pytest.approx(40.0 * 0.03 * 2**0.5, rel=0.01) and after < 0.05 * before


def test_a_weight_of_zero_switches_a_loss_off(tmp_path: Path, marked: LandmarkedPictures) -> None:
    names = {"landmarks", "photometric", "agreement", "near"}
    for name in names:
        made = refiner(tmp_path / name, marked, replace(SETTINGS, **{name: 0.0}))
        with torch.no_grad():
            assert set(
                made.losses(marked.pictures[:1], marked.landmarks[:1], torch.Generator().manual_seed(0))
            ) == names - {name}


class Network:
    """A landmark network that sees every face's points on a circle of 30 px around the middle of the stored
    crop.
    """

    def __init__(self, presence: float) -> None:
        self.presence = presence

    def locate(self, picture: np.ndarray, crop: Crop) -> Landmarks:
        angle = np.linspace(0, 6, 478)
        points = np.stack([crop.x + 30 * np.cos(angle), crop.y + 30 * np.sin(angle), 0 * angle], axis=1)
        return Landmarks(points.astype(np.float32), self.presence)


def test_landmarks_of_stored_crops_are_given_in_units_of_the_faces_crop() -> None:
    side = round(AROUND * 128)
    domain = Domain(np.zeros((MIN_FRAMES, side, side, 3), np.uint8), np.zeros(MIN_FRAMES, np.int64), ("",))
    made = LandmarkedPictures.of(domain, Network(0.9))  # type: ignore[arg-type]
    assert made.pictures.shape == (MIN_FRAMES, 3, 128, 128)
    radius = np.linalg.norm(made.landmarks.numpy() - 0.5, axis=2)
    np.testing.assert_allclose(radius, 30 / (side / AROUND), rtol=1e-4)
    with pytest.raises(InputError, match=rf"landmarks were found in 0 of {MIN_FRAMES}"):
        LandmarkedPictures.of(domain, Network(0.1))  # type: ignore[arg-type]
