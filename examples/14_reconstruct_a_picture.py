"""Reconstruct the face in a picture.

Any picture will do (`--picture face.jpg`); without one, a simulated participant with a bare face is drawn, and the result
is compared with the truth.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from eifer_ros.reconstruction.face_reconstruction import Reconstruction, ReconstructionConfig
from eifer_ros.simulation.participant import Participant
from eifer_ros.types import ARKIT_52, FaceState, FaceStatus, Frame

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--picture", type=Path)
arguments = parser.parse_args()

truth = None
if arguments.picture is None:
    person = Participant(7, program="emotions", sensors=False)
    take = next(take for take in person.script.takes(0.0, 60.0) if take.label == "Surprised")
    middle = (take.start_s + take.end_s) / 2
    frame = person.frame_at(middle)
    truth = person.face_at(middle)
else:
    frame = Frame(0, cv2.cvtColor(cv2.imread(str(arguments.picture)), cv2.COLOR_BGR2RGB))

reconstruction = Reconstruction(ReconstructionConfig(estimator="landmarks"))
reconstruction.setup()
faces = [
    made.item for made in reconstruction.handle("camera/image_raw", frame) if isinstance(made.item, FaceState)
]
face = faces[0]
if face.status == FaceStatus.LOST:
    raise SystemExit("no face in this picture")
print(f"confidence {face.confidence:.2f}, {face.head_pose[2, 3]:.2f} m from the camera")
for column in np.argsort(-(face if truth is None else truth).expression)[:5]:
    true = "" if truth is None else f" (truth {truth.expression[column]:.2f})"
    print(f"{ARKIT_52[column]:24} {face.expression[column]:.2f}{true}")
