"""Faces of a FLAME head as rows of EIFER and SMIRK.

A row has 361 columns: 300 shape, 50 expression, 2 eyelids, 3 jaw, 3 rotation, 3 camera. FLAME files are imported by their
owners (`eifer head import-flame`); without one, this script prints the layout alone.
"""

import argparse
from pathlib import Path

import numpy as np

from eifer_ros.head import flame_rows
from eifer_ros.head.model import load_head

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--head", type=Path, help=".npz from `eifer head import-flame`")
parser.add_argument("--out", type=Path, default=Path("faces.csv"))
arguments = parser.parse_args()

row = np.zeros(flame_rows.COLUMNS)
row[flame_rows.SLICES["exp"]][0] = 1.5  # the first expression coefficient
row[flame_rows.SLICES["jaw"]] = 0.2, 0.0, 0.0  # open by 0.2 rad
row[flame_rows.SLICES["cam"]] = 8.0, 0.0, 0.0  # scale and shift of the weak perspective
flame_rows.save_rows(arguments.out, row[None])
read = flame_rows.load_rows(arguments.out)
for group, columns in flame_rows.SLICES.items():
    print(f"{group:8} columns {columns.start:3} to {columns.stop - 1:3}")

if arguments.head is not None:
    head = load_head(str(arguments.head))
    state = flame_rows.state_from_row(read[0], head, stamp=0)
    print(f"a face of {head.id} at {state.head_pose[2, 3]:.2f} m")
    row = flame_rows.row_from_state(state, head)
print(f"written and read again without a difference: {np.allclose(row, read[0], atol=1e-5)}")
