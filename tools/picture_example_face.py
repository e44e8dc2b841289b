"""Draws the example face in six emotions, as the whole drive path leaves it: face -> blendshapes -> joints
within limits -> URDF.

python tools/picture_example_face.py [OUT.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.drive import EMOTIONS, emotion_pose
from eifer_ros import resources
from eifer_ros.animatronic.joint_map import load_joint_map
from eifer_ros.animatronic.picture import render


def sheet() -> np.ndarray:
    """(H, W, 3) uint8 RGB: two rows of three."""
    checked = load_joint_map(resources.model("example_face.yaml"))
    tiles = []
    for name in EMOTIONS:
        positions = dict(zip(checked.names, emotion_pose(name).tolist(), strict=True))
        tile = render(checked.urdf, positions, (340, 420)).copy()
        cv2.putText(tile, name, (12, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (50, 50, 55), 1, cv2.LINE_AA)
        tiles.append(tile)
    return np.vstack([np.hstack(tiles[:3]), np.hstack(tiles[3:])])


if __name__ == "__main__":
    out = (
        Path(sys.argv[1])
        if len(sys.argv) > 1
        else Path(__file__).parents[1] / "docs" / "images" / "example_face.png"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    picture = cv2.cvtColor(sheet(), cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(out), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise SystemExit(f"{out} could not be written")
    print(f"wrote {out}")
