"""Send a face to an avatar over VMC.

VSeeFace, Warudo and other VRM applications listen on port 39539. Without an address this script is the receiver, too,
and prints what it gets.
"""

import argparse
import socket

from eifer_ros.avatar.face import AvatarFace
from eifer_ros.head.model import load_head
from eifer_ros.head.retarget import Retarget, head_angles
from eifer_ros.registry import AVATARS
from eifer_ros.simulation.participant import Participant

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument(
    "--avatar", default="", help="vmc://HOST:PORT, vrchat://, livelink://HOST, ifacialmocap://HOST"
)
parser.add_argument("--seconds", type=float, default=2.0)
arguments = parser.parse_args()

receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", 0))
receiver.setblocking(False)
address = arguments.avatar or f"vmc://127.0.0.1:{receiver.getsockname()[1]}"

person = Participant(7, sensors=False)
to_arkit = Retarget(load_head("open_head"))
sender = AVATARS.open(address)
for step in range(round(60 * arguments.seconds)):
    state = person.face_at(step / 60)
    sender.send(AvatarFace(state.stamp, to_arkit(state), head_angles(state), to_arkit.gaze(state)))
print(f"{sender.sent} faces, {sender.bytes} bytes to {address}")
sender.close()

if not arguments.avatar:
    packet = receiver.recv(65536)
    names = packet.count(b"/VMC/Ext/Blend/Val")
    print(f"the first packet is an OSC {packet[:7].decode()} with {names} blend values")
receiver.close()
