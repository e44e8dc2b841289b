"""Convert a face to ARKit's 52 blend shapes.

Works for the open head, whose own coefficients they are, and for imported FLAME heads. `head_angles` and `gaze` give what
avatars want beside them.
"""

import json

import numpy as np

from eifer_ros.head.model import load_head
from eifer_ros.head.retarget import Retarget, head_angles
from eifer_ros.simulation.participant import Participant
from eifer_ros.types import ARKIT_52

person = Participant(7, program="emotions", sensors=False)
to_arkit = Retarget(load_head("open_head"))
state = person.face_at(2.5)
weights = to_arkit(state)
yaw, pitch, roll = np.degrees(head_angles(state))
(left, right) = np.degrees(to_arkit.gaze(state))

named = {
    name: round(float(weight), 3) for name, weight in zip(ARKIT_52, weights, strict=True) if weight > 0.05
}
print(json.dumps(named, indent=2))
print(f"head: yaw {yaw:.1f}, pitch {pitch:.1f}, roll {roll:.1f} degrees")
print(f"gaze: left eye {left[0]:.1f} and {left[1]:.1f}, right eye {right[0]:.1f} and {right[1]:.1f} degrees")
