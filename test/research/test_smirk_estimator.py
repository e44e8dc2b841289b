"""SMIRK's network as an estimator: from a checkpoint to faces of an imported FLAME head."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
sys.path.insert(0, str(Path(__file__).parents[1] / "head"))

import fabricated_flame  # noqa: E402

from eifer_ros.errors import ConfigError, ModelError  # noqa: E402
from eifer_ros.head import projection  # noqa: E402
from eifer_ros.head.flame import import_flame  # noqa: E402
from eifer_ros.head.model import HeadModel, load_head  # noqa: E402
from eifer_ros.reconstruction.encoder.face_encoder import as_input, cut  # noqa: E402
from eifer_ros.reconstruction.encoder.smirk_estimator import (  # noqa: E402
    LEVEL,
    MARGIN,
    SIZE,
    SmirkEstimator,
    SmirkReading,
    head_pose,
    upright_crop,
)
from eifer_ros.reconstruction.face_reconstruction import Reconstruction, ReconstructionConfig  # noqa: E402
from eifer_ros.reconstruction.landmarks.attention_mesh import (  # noqa: E402
    Crop,
    FaceLandmarker,
    crop_from_detection,
)
from eifer_ros.reconstruction.landmarks.detector import FaceDetector  # noqa: E402
from eifer_ros.recording.reader import read  # noqa: E402
from eifer_ros.simulation.participant import Participant  # noqa: E402
from eifer_ros.types import FaceState, FaceStatus  # noqa: E402
from research.faces.smirk_encoder import SmirkEncoder, export, load_checkpoint  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("smirk")


@pytest.fixture(scope="module")
def flame(folder: Path) -> Path:
    """An imported FLAME head that never was."""
    arrays = fabricated_flame.fabricate(load_head(), seed=3)
    import_flame(
        fabricated_flame.write(folder / "generic_model.pkl", arrays), folder / "flame.npz", "flame_test"
    )
    return folder / "flame.npz"


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Path:
    """A checkpoint with weights drawn at random, whose face is seen from ahead at an ordinary size."""
    torch.manual_seed(0)
    encoder = SmirkEncoder()
    with torch.no_grad():
        for layer in encoder.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.mul_(0.02)
                layer.bias.zero_()
        encoder.pose_encoder.pose_cam_layers[0].bias[3] = 7.0  # type: ignore[index,union-attr]
    weights = {f"smirk_encoder.{name}": value for name, value in encoder.state_dict().items()}
    torch.save(weights, folder / "SMIRK_em1.pt")
    return folder / "SMIRK_em1.pt"


@pytest.fixture(scope="module")
def network(folder: Path, checkpoint: Path, flame: Path) -> Path:
    export(load_checkpoint(checkpoint), folder / "shared.onnx", HeadModel.load(flame))
    return folder / "shared.onnx"


@pytest.fixture(scope="module")
def person() -> Participant:
    return Participant(900_211, size=(400, 300), sensors=False)


def test_a_flame_run_reads_a_video_into_faces_of_that_head(
    tmp_path: Path, checkpoint: Path, flame: Path, person: Participant, eifer
) -> None:
    video = tmp_path / "take.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, person.size)
    for number in range(5):
        writer.write(cv2.cvtColor(person.frame_at(2.0 + number / 25).image, cv2.COLOR_RGB2BGR))
    writer.release()
    imported = eifer(
        "models", "import-smirk", checkpoint, "--head-model", flame, "--out", tmp_path / "s.onnx"
    )
    assert imported.code == 0, imported.err
    (tmp_path / "smirk.yaml").write_text(
        f"reconstruction: {{ros__parameters: {{estimator: 'smirk:{tmp_path / 's.onnx'}'}}}}\n"
    )
    run = eifer(
        *("run", "--camera", f"video:{video}", "--head-model", flame, "--config", tmp_path / "smirk.yaml"),
        *("--out", tmp_path / "out", "--no-overlay"),
    )
    assert run.code == 0, run.err
    bag = next(path.parent for path in (tmp_path / "out").rglob("metadata.yaml"))
    faces = [item for _, name, item in read(bag) if name == "face/vision"]
    assert len(faces) == 5
    encoder, head = load_checkpoint(checkpoint).eval(), HeadModel.load(flame)
    detector, landmarker = FaceDetector(), FaceLandmarker()
    capture = cv2.VideoCapture(str(video))
    for number, face in enumerate(faces):
        assert isinstance(face, FaceState)
        assert face.head_model == "flame_test" and face.status == FaceStatus.TRACKING
        assert face.shape.shape == (300,) and face.expression.shape == (100,)
        _, picture = capture.read()
        image = np.ascontiguousarray(picture[:, :, ::-1])
        if number:
            continue  # the crop of later pictures comes from the picture before
        rough = landmarker.locate(image, crop_from_detection(detector.detect(image)[0]))
        with torch.no_grad():
            patch = as_input([cut(image, upright_crop(rough.points), SIZE)])
            seen = {name: value[0].numpy() for name, value in encoder(torch.from_numpy(patch)).items()}
        # landmarks are looked at once more in their own crop, so the crop differs by a pixel or so
        np.testing.assert_allclose(face.shape, seen["shape"], atol=0.05)
        np.testing.assert_allclose(face.expression[:50], seen["expression"], atol=0.05)
        np.testing.assert_array_equal(face.expression[50:], 0.0)
        np.testing.assert_allclose(face.jaw, seen["jaw"], atol=0.02)
        pixels = projection.project(
            head.state_vertices(face), face.head_pose, projection.default_intrinsics(*person.size)
        )
        middle = pixels[head.regions["face"], :2].mean(axis=0)
        box = upright_crop(rough.points)
        assert np.abs(middle - (box.x, box.y)).max() < 0.35 * box.side


@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_the_pose_projects_the_head_where_the_weak_perspective_camera_puts_it(
    flame: Path, angle: float
) -> None:
    head = HeadModel.load(flame)
    crop = Crop(310.0, 180.0, 90.0, angle)
    K = np.array(
        [[9000.0, 0.0, 319.5], [0.0, 9000.0, 239.5], [0.0, 0.0, 1.0]]
    )  # so far off that little is foreshortened
    turn = np.array([0.1, -0.4, 0.05])
    reading = SmirkReading(
        np.zeros(300), np.zeros(50), np.zeros(2), np.zeros(3), turn, np.array([7.5, 0.01, 0.02])
    )
    vertices = head.template[head.regions["face"]][::17]
    root = head.joint_positions(None)[0].astype(np.float64)
    pose = head_pose(head, reading, crop, K, vertices, root)
    # SMIRK's renderer: turned about the root joint, then scale ((x, y) + shift), y up, over a crop of -1..1
    placed = Rotation.from_rotvec(turn).apply(vertices - root) + root
    flat = 7.5 * (placed[:, :2] + (0.01, 0.02)) * (1.0, -1.0) * crop.side / 2
    rotated = flat @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    pixels = projection.project(vertices, pose, K)
    np.testing.assert_allclose(pixels[:, :2], rotated + np.array([crop.x, crop.y]), atol=0.5)
    assert pixels[:, 2].mean() == pytest.approx(2 * 9000.0 / (7.5 * crop.side), rel=0.02)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)


def test_a_near_camera_sees_the_head_within_a_twentieth_of_the_crop_of_where_it_was_read(flame: Path) -> None:
    head = HeadModel.load(flame)
    crop = Crop(120.0, 90.0, 150.0, 0.0)
    K = projection.default_intrinsics(400, 300)
    reading = SmirkReading(
        np.zeros(300), np.zeros(50), np.zeros(2), np.zeros(3), np.zeros(3), np.array([8.0, 0.0, 0.0])
    )
    vertices = head.template[head.regions["face"]][::17]
    root = head.joint_positions(None)[0].astype(np.float64)
    pixels = projection.project(vertices, head_pose(head, reading, crop, K, vertices, root), K)
    flat = 8.0 * vertices[:, :2] * (1.0, -1.0) * crop.side / 2 + (crop.x, crop.y)
    assert np.abs(pixels[:, :2] - flat).max() < 0.05 * crop.side


def test_the_crop_is_that_of_smirks_demonstration() -> None:
    points = np.array([[100.0, 50.0, 0.0], [180.0, 60.0, 0.0], [140.0, 170.0, 0.0]], np.float32)
    crop = upright_crop(points)
    assert (crop.x, crop.y, crop.angle) == (140.0, 110.0, 0.0)
    assert crop.side == pytest.approx(MARGIN * (80 + 120) / 2)


def test_a_network_trained_on_eifers_crops_is_shown_those_and_finds_faces_under_sensors(
    folder: Path, checkpoint: Path, flame: Path
) -> None:
    from eifer_ros.reconstruction.encoder.encoder_tracker import EncoderTracker
    from eifer_ros.reconstruction.encoder.face_encoder import FaceEncoder

    head = HeadModel.load(flame)
    path = folder / "level.onnx"
    export(load_checkpoint(checkpoint), path, head, {"crop": LEVEL, "margin": 1.3})
    under = Participant(900_211, size=(400, 300), sensors=True)
    estimator = SmirkEstimator(head, str(path), crops="face_encoder.onnx")
    shown = []
    read_crop = estimator.encoder.read
    estimator.encoder.read = lambda image, crop: shown.append(crop) or read_crop(image, crop)  # type: ignore[method-assign,assignment]
    tracker = EncoderTracker(FaceEncoder(load_head(), "face_encoder.onnx"))
    for number in range(3):
        frame = under.frame_at(2.0 + number / 25)
        estimate = estimator.estimate(frame, under.intrinsics, 0.04)
        assert estimate is not None and estimate.landmarks is None
        reading = tracker.track(frame.image)
        assert reading is not None and estimate.confidence == pytest.approx(reading.readable)
        assert estimate.crop == shown[-1]
        middle = projection.project(
            under.head.points(under.head.state_vertices(under.face_at(2.0 + number / 25))),
            under.face_at(2.0 + number / 25).head_pose,
            under.intrinsics,
        )[:, :2].mean(axis=0)
        assert np.abs(middle - (shown[-1].x, shown[-1].y)).max() < 0.1 * shown[-1].side


def test_a_component_without_landmarks_still_says_that_it_tracks(network: Path, flame: Path, person) -> None:
    component = Reconstruction(
        ReconstructionConfig(estimator=f"smirk:{network}", head_model=str(flame), min_confidence=0.0)
    )
    component.setup()
    estimator = component._estimator
    whole = estimator.estimate
    estimator.estimate = lambda *arguments: replace(whole(*arguments), landmarks=None)  # type: ignore[union-attr,method-assign]
    (face,) = [
        e.item for e in component.handle("camera/image_raw", person.frame_at(2.0)) if e.port == "face/vision"
    ]
    assert face.status == FaceStatus.TRACKING
    assert component.landmarks is None and component.health().message == "tracking"


def test_a_network_for_another_head_or_of_another_kind_or_none_is_refused(network: Path, flame: Path) -> None:
    with pytest.raises(ModelError, match="head_model is flame_test"):
        SmirkEstimator(load_head(), str(network))
    with pytest.raises(ModelError, match="not a 'smirk_encoder'"):
        SmirkEstimator(HeadModel.load(flame), "face_encoder.onnx")
    with pytest.raises(ConfigError, match=r"smirk:FILE\.onnx"):
        Reconstruction(ReconstructionConfig(estimator="smirk", head_model=str(flame))).setup()
