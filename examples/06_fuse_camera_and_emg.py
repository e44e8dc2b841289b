"""Fuse camera and EMG while the camera is blind.

One value is measured 30 times a second by a camera that sees nothing from 2 s to 4 s, and 100 times a second by EMG,
which is off by a constant. The filter learns the offset while both are there.
"""

import numpy as np

from eifer_ros.mapping.fusion import Fusion, FusionSettings, Measurement
from eifer_ros.types import NS

OFFSET = 0.15
fusion = Fusion(1, FusionSettings(bias_std=0.2))
random = np.random.default_rng(0)


def truth(time_s: float) -> float:
    """A slow smile."""
    return 0.4 - 0.3 * np.cos(2 * np.pi * 0.4 * time_s)


errors = {"fused": [], "EMG alone": []}
for step in range(400):
    time_s = step / 100
    stamp = round(time_s * NS)
    muscles = truth(time_s) + OFFSET + random.normal(0, 0.05)
    fusion.add(Measurement(stamp, np.array([muscles]), np.array([0.05**2]), biased=True))
    if step % 3 == 0 and time_s < 2.0:
        seen = truth(time_s) + random.normal(0, 0.02)
        fusion.add(Measurement(stamp, np.array([seen]), np.array([0.02**2]), biased=False))
    value, deviation = fusion.state(stamp)
    if time_s >= 2.0:
        errors["fused"].append(value[0] - truth(time_s))
        errors["EMG alone"].append(muscles - truth(time_s))

for name, values in errors.items():
    print(f"{name:10} error while the camera is blind: {np.sqrt(np.mean(np.square(values))):.3f} RMS")
print(f"stated standard deviation at the end: {deviation[0]:.3f}")
