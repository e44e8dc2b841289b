"""Pictures of the head doing a calibration movement: what the participant is asked to copy."""

from __future__ import annotations

import numpy as np

from ..head import projection
from ..head.model import HeadModel
from ..simulation.muscles import ACTUATORS, muscle_index, reference_matrix, saturate
from ..simulation.script import FUNCTIONAL
from ..types import ARKIT_52, F32
from .paint import HeadPainter, jpeg

SIZE = (420, 440)


def expression(head: HeadModel, movement: str) -> F32:
    """(E,) coefficients of a movement at full strength, by the muscles that make it; rest for one that is not
    known.

    The muscles' pull on the face is the simulated participant's reference, without any person's variation.
    """
    activation = np.zeros(len(ACTUATORS))
    for name, level in FUNCTIONAL.get(movement, {}).items():
        if name in ACTUATORS:
            activation[ACTUATORS.index(name)] = level
        else:
            for side in ("right", "left"):
                activation[muscle_index(name, side)] = level
    weights = saturate(reference_matrix() @ activation)
    if head.arkit is not None:
        return np.asarray(weights @ head.arkit, np.float32)
    out = np.zeros(head.expression_size, np.float32)
    for name, weight in zip(ARKIT_52, weights, strict=True):
        if name in head.expression_names:
            out[head.expression_names.index(name)] = weight
    return out


def picture(head: HeadModel, movement: str, size: tuple[int, int] = SIZE, yaw: float = 0.22) -> bytes:
    """JPEG of the mean head doing the movement, turned a little so that depth shows; drawn at twice the size
    and shrunk.
    """
    import cv2

    painter = HeadPainter(head, (2 * size[0], 2 * size[1]), 0.215)
    image = painter.paint(
        head.vertices(None, expression(head, movement)), projection.facing_pose(1.0, yaw=yaw)[:3, :3]
    )
    return jpeg(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), 88)
