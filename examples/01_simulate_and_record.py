"""Record a simulated participant.

Camera pictures, sEMG and the truth about face and muscles go into a rosbag2 folder that `ros2 bag`, Foxglove and
`eifer replay` read.
"""

import argparse
from pathlib import Path

from eifer_ros.simulation.performer import PerformerConfig
from eifer_ros.workflows.simulate import simulate_recording

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=Path("monday"))
parser.add_argument("--minutes", type=float, default=1.0)
parser.add_argument("--seed", type=int, default=7)
arguments = parser.parse_args()

# the same seed is the same person; another session is another day
config = PerformerConfig(seed=arguments.seed, session=0, width=320, height=240, fps=30.0)
result = simulate_recording(arguments.out, arguments.minutes, config)

for topic, count in sorted(result["written"].items()):
    print(f"{topic:32} {count:6}")
print(f"{result['bytes'] / 1e6:.1f} MB in {result['bag']}")
