"""Calibrate from a recording whose movements are marked.

Rest level and full scale of each channel come from the eleven movements of the protocol; activation is then 0 at rest
and 1 at full scale.
"""

import argparse
from pathlib import Path

import numpy as np

from eifer_ros.workflows.session import load_session

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("recording", type=Path, help="with emg/raw and markers, such as `eifer calibrate` leaves")
parser.add_argument("--out", type=Path, default=Path("calibration.yaml"))
arguments = parser.parse_args()

session = load_session(arguments.recording).calibrated(participant="P07")
calibration = session.calibration
assert calibration is not None
calibration.save(arguments.out)

accepted = [take for take in calibration.takes if take.accepted]
print(
    f"{len(accepted)} of {len(calibration.takes)} takes accepted, dead channels: {', '.join(calibration.dead) or 'none'}"
)
for muscle, rest, full in zip(calibration.muscles, calibration.rest, calibration.p99, strict=True):
    print(f"{muscle:40} rest {1e6 * rest:5.1f} uV, full scale {1e6 * full:6.1f} uV")
activation = np.stack([item.activation for item in session.activity])
print(f"99 % of all activations lie below {np.nanpercentile(activation, 99):.2f}")
