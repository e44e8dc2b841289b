"""Plot muscles and face of a performance.

Needs `pip install matplotlib`. The upper panel shows the activation of the smile's muscle, the lower one the smile; the
skin follows the muscle by 70 ms.
"""

import argparse
from pathlib import Path

import numpy as np

from eifer_ros.simulation.participant import Participant
from eifer_ros.types import ARKIT_52

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=Path("smile.png"))
arguments = parser.parse_args()
try:
    import matplotlib
except ModuleNotFoundError:
    raise SystemExit("skipped: needs matplotlib (pip install matplotlib)") from None
matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

person = Participant(7, program="calibration")
take = next(take for take in person.script.takes(0.0, 60.0) if "Smile" in take.label)
times = np.arange(take.start_s - 0.5, take.end_s + 0.5, 0.01)
activity = [person.muscles_at(time) for time in times]
muscle = next(
    name for name in activity[0].muscles if "zygomaticus" in name.lower() and "left" in name.lower()
)
activation = np.array([item.activation[item.muscles.index(muscle)] for item in activity])
smile = np.array([person.face_at(time).expression[ARKIT_52.index("mouthSmileLeft")] for time in times])

figure, (upper, lower) = plt.subplots(2, 1, sharex=True, figsize=(7, 4), layout="constrained")
upper.plot(times, activation, color="tab:red")
upper.set_ylabel(f"{muscle}\nactivation")
lower.plot(times, smile, color="tab:blue")
lower.set_ylabel("mouthSmileLeft")
lower.set_xlabel("time (s)")
figure.suptitle(take.label)
figure.savefig(arguments.out, dpi=120)
shift = np.argmax(smile > smile.max() / 2) - np.argmax(activation > activation.max() / 2)
print(f"{take.label}: the skin reaches half of its way {10 * shift} ms after the muscle; {arguments.out}")
