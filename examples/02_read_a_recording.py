"""Read a recording into numpy arrays.

Items come in the order of their stamps, as typed objects; a stamp is an integer number of nanoseconds since 1970.
"""

import argparse
from pathlib import Path

import numpy as np

from eifer_ros.recording.reader import read
from eifer_ros.types import NS, EmgChunk

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("recording", type=Path)
arguments = parser.parse_args()

chunks = []
times = []
for _, _, chunk in read(arguments.recording, topics=["emg/raw"]):
    assert isinstance(chunk, EmgChunk)
    chunks.append(chunk.samples)
    # the stamp is that of the first sample; subtract stamps as integers before they become seconds
    times.append(chunk.stamp + np.arange(len(chunk.samples)) * NS / chunk.rate_hz)

samples = np.concatenate(chunks)  # (samples, channels) in volts
seconds = (np.concatenate(times) - times[0][0]) / NS
print(f"{samples.shape[0]} samples of {samples.shape[1]} channels over {seconds[-1]:.2f} s")
for name, rms in zip(chunk.channels, samples.std(axis=0), strict=True):
    print(f"{name:8} {1e6 * rms:6.1f} uV RMS")
