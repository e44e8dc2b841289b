"""Read EMG from Lab Streaming Layer.

Needs `pip install 'eifer_ros[lsl]'`. With `--simulate` a stream of noise is sent from this process, so that there is
something to read; without it, any stream of type EMG in the network is taken.
"""

import argparse
import threading

import numpy as np

from eifer_ros.errors import MissingExtra
from eifer_ros.registry import EMG_SOURCES
from eifer_ros.types import EmgChannelInfo, EmgChunk

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--simulate", action="store_true")
parser.add_argument("--samples", type=int, default=1000)
arguments = parser.parse_args()
done = threading.Event()


def send() -> None:
    """500 samples a second of two channels in microvolts."""
    import pylsl

    outlet = pylsl.StreamOutlet(pylsl.StreamInfo("eifer example", "EMG", 2, 500, "float32", "eifer-example"))
    random = np.random.default_rng(0)
    while not done.wait(0.02):
        outlet.push_chunk(random.normal(0, 20, (10, 2)).astype(np.float32))


address = "lsl:eifer example" if arguments.simulate else "lsl:type=EMG"
try:
    source = EMG_SOURCES.open(address)
    source.setup()
except MissingExtra as error:
    raise SystemExit(f"skipped: {error}") from None
sender = threading.Thread(target=send)
if arguments.simulate:
    sender.start()
received = 0
lost = 0
for _, item in source.produce():
    if isinstance(item, EmgChannelInfo):
        print(f"{len(item.channels)} channels at {item.rate_hz:g} Hz")
    elif isinstance(item, EmgChunk):
        received += len(item.samples)
        lost += item.lost
    if received >= arguments.samples:
        source.stop()
print(f"{received} samples received, {lost} lost")
done.set()
source.close()
