"""From a file of raw sEMG to envelopes at 100 Hz.

The file may be CSV, text, XDF, EDF, BDF or a recording; without one, this script writes a CSV of a simulated
participant first.
"""

import argparse
from pathlib import Path

import numpy as np

from eifer_ros.emg.emg_processing import EmgConfig, EmgProcessing
from eifer_ros.emg.sources.recording import EmgRecording, even_stamps
from eifer_ros.emg.sources.text_formats import write_csv
from eifer_ros.hosts.local import LocalHost
from eifer_ros.registry import EMG_SOURCES
from eifer_ros.simulation.participant import START, Participant

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file", type=Path, nargs="?", default=Path("session.csv"))
parser.add_argument("--seconds", type=float, default=10.0, help="length of the simulated file")
arguments = parser.parse_args()

if not arguments.file.exists():
    person = Participant(7, program="calibration", rate_hz=1000.0)
    samples = person.emg(0.0, arguments.seconds)
    stamps = even_stamps(len(samples), 1000.0, START)
    write_csv(
        arguments.file, EmgRecording(arguments.file, samples, stamps, 1000.0, person.channel_info().channels)
    )

envelopes = []
host = LocalHost(
    {
        "file": EMG_SOURCES.open(f"file:{arguments.file}?speed=0"),  # 0: as fast as possible
        "emg": EmgProcessing(EmgConfig(profile="live", mains_hz=50)),
    }
)
host.tap(lambda port, item: envelopes.append(item), "emg/activity")
host.setup()
host.run_offline()
host.close()

values = np.stack([activity.envelope for activity in envelopes])  # (instants, muscles) in volts
strongest = int(np.nanargmax(np.nanmax(values, axis=0)))
print(f"{len(values)} instants of {values.shape[1]} muscles")
print(f"strongest: {envelopes[0].muscles[strongest]} with {1e6 * np.nanmax(values):.0f} uV")
