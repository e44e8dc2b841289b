"""A live loop with a component of one's own.

A component takes typed items and gives typed items; a host runs it behind an inbox in a thread of its own. Any other
source works the same: put `lsl:type=EMG` in place of the simulated participant.
"""

import argparse
from collections.abc import Iterable

import numpy as np

from eifer_ros import topics
from eifer_ros.component import Component, Emission, Health
from eifer_ros.config import Config, parameter
from eifer_ros.emg.emg_processing import EmgProcessing
from eifer_ros.hosts.local import LocalHost
from eifer_ros.registry import EMG_SOURCES
from eifer_ros.types import Item, Marker, MuscleActivity


class LoudnessConfig(Config):
    """Parameters of `Loudness`."""

    threshold_v: float = parameter(
        20e-6, "mean envelope above which the face counts as active", unit="V", gt=0
    )


class Loudness(Component):
    """Marks when the face becomes active and when it comes to rest."""

    config_type = LoudnessConfig
    inputs = (topics.EMG_ACTIVITY.port,)
    outputs = (topics.MARKERS.port,)

    def __init__(self, config: LoudnessConfig | None = None) -> None:
        self.config = config or LoudnessConfig()
        self.instants = 0
        self._active = False

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        """Compare the mean envelope with the threshold."""
        assert isinstance(item, MuscleActivity)
        self.instants += 1
        active = bool(np.nan_to_num(item.envelope).mean() > self.config.threshold_v)
        if active != self._active:
            self._active = active
            yield Emission("markers", Marker(item.stamp, "active face", "start" if active else "end"))

    def health(self) -> Health:
        """How many instants came by."""
        return Health(values={"instants": self.instants})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emg", default="performer:7?program=calibration")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    loudness = Loudness()
    host = LocalHost(
        {"amplifier": EMG_SOURCES.open(arguments.emg), "emg": EmgProcessing(), "loudness": loudness}
    )
    host.tap(lambda port, marker: print(f"{marker.label}: {marker.phase}"), "markers")
    host.setup()
    host.run_live(duration_s=arguments.seconds)
    print(f"{loudness.instants} instants, dropped {host.health()['loudness'].values['dropped']}")
    host.close()
