"""Drive an animatronic face, without hardware.

The joint map of the example face turns ARKit weights into joint angles within limits of position, speed and
acceleration. Disarmed, nothing is commanded; armed without a driver, commands only go out as items.
"""

import numpy as np

from eifer_ros.animatronic.animatronic_face import Animatronic, AnimatronicConfig
from eifer_ros.types import ARKIT_52, NS, Blendshapes

robot = Animatronic(AnimatronicConfig(joint_map="example_face.yaml", hardware=False))
robot.setup()
smile = np.zeros(52, np.float32)
smile[[ARKIT_52.index("mouthSmileLeft"), ARKIT_52.index("mouthSmileRight")]] = 1.0


def drive(first: int, count: int) -> list[object]:
    """The smile for `count` ticks of 5 ms; the commands that come of it."""
    commands = []
    for step in range(first, first + count):
        now = step * NS // 200
        if step % 4 == 0:
            list(robot.handle("face/blendshapes", Blendshapes(now, smile)))
        commands += [emission.item for emission in robot.tick(now)]
    return commands


print(f"disarmed: {len(drive(1, 200))} commands")
print("arm:", robot.arm()[1])
commands = drive(201, 1000)
last = commands[-1]
moved = np.degrees(np.abs(np.asarray(last.positions) - np.asarray(commands[0].positions)))
for joint in np.argsort(-moved)[:4]:
    print(f"{last.names[joint]:24} moved by {moved[joint]:5.1f} degrees")
print("release:", robot.release()[1])
robot.close()
