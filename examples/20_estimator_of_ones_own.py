"""Replay pictures with an estimator of one's own.

This one takes what the landmark estimator says and smooths the expression over time. Registered by name, it works wherever an
estimator is named: in a config file, under ROS, in an evaluation. The pictures may come from a recording: `--camera bag:monday`.
"""

import argparse
from dataclasses import replace

import numpy as np

from eifer_ros.hosts.local import LocalHost
from eifer_ros.reconstruction.estimators import Estimate
from eifer_ros.reconstruction.face_reconstruction import Reconstruction, ReconstructionConfig
from eifer_ros.reconstruction.landmarks.landmark_estimator import LandmarkEstimator
from eifer_ros.registry import CAMERAS, ESTIMATORS, Entry
from eifer_ros.types import F64, FaceState, FaceStatus, Frame

TIME_S = 0.1


class SmoothEstimator(LandmarkEstimator):
    """Landmarks, their expression smoothed over a tenth of a second."""

    name = "smooth"
    _before = None

    def estimate(self, frame: Frame, intrinsics: F64, elapsed_s: float) -> Estimate | None:
        """The landmark estimator's face, drawn towards the one before."""
        new = super().estimate(frame, intrinsics, elapsed_s)
        if new is not None and self._before is not None:
            share = np.float32(np.exp(-elapsed_s / TIME_S))
            new = replace(new, expression=share * self._before + (1 - share) * new.expression)
        self._before = None if new is None else new.expression
        return new

    def reset(self) -> None:
        """Forget the face before, too."""
        super().reset()
        self._before = None


def jitter(estimator: str, camera: str) -> float:
    """How much the expression changes from picture to picture."""
    faces: list[FaceState] = []
    parts = {
        "camera": CAMERAS.open(camera),
        "face": Reconstruction(ReconstructionConfig(estimator=estimator)),
    }
    host = LocalHost(parts)
    host.tap(lambda port, face: faces.append(face), "face/vision")
    host.setup()
    host.run_offline()
    host.close()
    expression = np.array([face.expression for face in faces if face.status == FaceStatus.TRACKING])
    print(f"{estimator}: {len(expression)} of {len(faces)} pictures with a face")
    return float(np.abs(np.diff(expression, axis=0)).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    default = "performer:7?sensors=false&speed=0&duration_s=1&width=320&height=240&fps=20"
    parser.add_argument("--camera", default=default)
    arguments = parser.parse_args()
    ESTIMATORS.register(Entry("smooth", f"{__name__}:SmoothEstimator", "smooth", "smoothed landmarks"))
    plain, smooth = (jitter(name, arguments.camera) for name in ("landmarks", "smooth"))
    print(f"from picture to picture: {plain:.4f} plain, {smooth:.4f} smooth")
