"""Draw a head.

A head model is one pure function from shape, expression and pose to vertices; `Studio` takes pictures of them.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from eifer_ros.head.model import load_head
from eifer_ros.render.head_sheet import Studio

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=Path("heads.png"))
parser.add_argument("--size", type=int, default=320)
arguments = parser.parse_args()

head = load_head("open_head")
studio = Studio(head)
pictures = []
for action in ("jawOpen", "mouthPucker", "browInnerUp"):
    expression = np.zeros(head.expression_size, np.float32)
    expression[head.expression_names.index(action)] = 1.0
    vertices = head.vertices(expression=expression)
    moved = np.linalg.norm(vertices - head.vertices(), axis=1).max()
    print(f"{action:12} moves the skin by up to {1e3 * moved:.1f} mm")
    pictures.append(studio.take(vertices, arguments.size, yaw=0.4))
cv2.imwrite(str(arguments.out), cv2.cvtColor(np.hstack(pictures), cv2.COLOR_RGB2BGR))
