"""Fit a mapping to one recording and predict another one of the same participant.

Muscles to face and face to muscles are learnt together. The second recording is another day: timing, noise and the
placement of the electrodes differ by a little.
"""

import argparse
from pathlib import Path

import numpy as np

from eifer_ros.mapping.features import lagged
from eifer_ros.mapping.fit import FitSettings
from eifer_ros.workflows.fit import fit_session, series_of
from eifer_ros.workflows.session import load_session

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("recording", type=Path, help="to learn from")
parser.add_argument("another", type=Path, help="to predict")
parser.add_argument("--out", type=Path, default=Path("mapping.npz"))
arguments = parser.parse_args()

session = load_session(arguments.recording).calibrated()
mapping = fit_session(session, FitSettings(kind="ridge")).mapping
mapping.save(arguments.out)
print(f"the skin follows the muscle by {1e3 * mapping.lag.lag_s:.0f} ms, grade {mapping.lag.grade}")

series, _ = series_of(load_session(arguments.another).calibrated(session.calibration))
direction = mapping.emg2exp
clean = mapping.trust.apply(series.activation, series.quality)
features = lagged(clean, direction.spec.steps, series.segment)  # NaN where the past is not long enough
rows = np.isfinite(features).all(axis=1) & np.isfinite(series.face).all(axis=1)
face = direction.predict(features[rows])
for name in ("jawOpen", "mouthSmileLeft", "browInnerUp"):
    column = mapping.face_names.index(name)
    correlation = np.corrcoef(face[:, column], series.face[rows, column])[0, 1]
    print(f"{name:16} correlation with the true face {correlation:.2f}")
