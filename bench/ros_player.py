"""A laboratory's drivers, played: a process that publishes recorded pictures at 30 Hz and EMG as 22 x 2048
Hz.

`draw` makes what is played from the simulated participant; `python -m bench.ros_player FOLDER NAMESPACE`
plays it until SIGINT or SIGTERM. Pictures run to and fro, EMG from its beginning again with a counter that
runs on; both are stamped as they are sent.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from eifer_ros.simulation.performer import PerformerConfig, simulate
from eifer_ros.types import EmgChannelInfo, EmgChunk, Frame
from eifer_ros.wire import conversions, messages

FPS = 30.0
CHUNK = 32
RATE_HZ = 2048.0


def draw(folder: Path, seconds: float) -> None:
    """Pictures and EMG of `seconds` into `folder`, the participant moving."""
    frames: list[Any] = []
    chunks: list[Any] = []
    for emission in simulate(
        seconds / 60.0, PerformerConfig(start_s=6.0, artefacts=("white", "mains", "blink"))
    ):
        item = emission.item
        if isinstance(item, Frame):
            frames.append(item.image)
            np.save(folder / "intrinsics.npy", np.asarray(item.intrinsics))
        elif isinstance(item, EmgChunk):
            chunks.append(item.samples)
        elif isinstance(item, EmgChannelInfo):
            (folder / "channels.bin").write_bytes(
                messages.serialise(conversions.to_wire(item, "emg/raw_channels")[0].message)
            )
            (folder / "names.txt").write_text("\n".join(item.channels))
    np.save(folder / "pictures.npy", np.stack(frames))
    np.save(folder / "emg.npy", np.concatenate(chunks))


def play(folder: Path, namespace: str) -> None:
    """Publish until a signal."""
    import rclpy
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from rclpy.signals import SignalHandlerOptions

    stop = threading.Event()
    sys.setswitchinterval(0.0005)  # a driver's picture does not wait for its amplifier's packets
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("player", namespace=namespace)

    def publisher(topic: str, kind: str, qos: QoSProfile) -> Any:
        return node.create_publisher(messages.ros_class(kind), topic, qos)

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    described = publisher("emg/raw_channels", "eifer_msgs/msg/EmgChannelInfo", latched)
    described.publish((folder / "channels.bin").read_bytes())
    senders = [
        threading.Thread(
            target=_pictures,
            args=(
                folder,
                stop,
                {
                    topic: publisher(topic, kind, QoSProfile(depth=2))
                    for topic, kind in (
                        ("camera/image_raw", "sensor_msgs/msg/Image"),
                        ("camera/camera_info", "sensor_msgs/msg/CameraInfo"),
                    )
                },
            ),
        ),
        threading.Thread(
            target=_emg,
            args=(folder, stop, publisher("emg/raw", "eifer_msgs/msg/EmgChunk", QoSProfile(depth=200))),
        ),
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    node.destroy_node()
    rclpy.try_shutdown()


def _pictures(folder: Path, stop: threading.Event, publishers: dict[str, Any]) -> None:
    pictures = np.load(folder / "pictures.npy", mmap_mode="r")
    intrinsics = np.load(folder / "intrinsics.npy")
    # one message of each kind is made; from then on only stamp and pixels change: bytes 4 to 12, and the last
    # ones
    frame = Frame(0, np.ascontiguousarray(pictures[0]), intrinsics)
    made = {
        wire.topic: bytearray(messages.serialise(wire.message))
        for wire in conversions.frame_to_wire(frame, "camera/image_raw")
    }
    image = made["camera/image_raw"]
    begin = image.index(pictures[0].tobytes()[:64])
    size = pictures[0].nbytes
    course = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
    due = time.monotonic()
    number = 0
    while not stop.wait(max(due - time.monotonic(), 0.0)):
        image[begin : begin + size] = pictures[course[number % len(course)]].data
        stamp = np.array(divmod(time.time_ns(), 10**9), np.uint32).tobytes()
        for topic, publisher in publishers.items():
            made[topic][4:12] = stamp
            publisher.publish(bytes(made[topic]))
        due = due + 1.0 / FPS
        number = number + 1


def _emg(folder: Path, stop: threading.Event, publisher: Any) -> None:
    samples = np.load(folder / "emg.npy")
    names = tuple((folder / "names.txt").read_text().split("\n"))
    whole = len(samples) // CHUNK
    due = time.monotonic()
    number = 0
    while not stop.wait(max(due - time.monotonic(), 0.0)):
        start = number % whole * CHUNK
        taken = time.time_ns() - round(CHUNK / RATE_HZ * 1e9)  # a packet leaves when its last sample is there
        chunk = EmgChunk(taken, RATE_HZ, names, samples[start : start + CHUNK], number * CHUNK)
        publisher.publish(messages.serialise(conversions.to_wire(chunk, "emg/raw")[0].message))
        due = due + CHUNK / RATE_HZ
        number = number + 1


if __name__ == "__main__":
    play(Path(sys.argv[1]), sys.argv[2])
