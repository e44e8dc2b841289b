"""A source of one's own: an amplifier that eifer does not know.

`connect`, `read` and `disconnect` are all a device needs to say. Counting samples, describing channels, silence,
retries and health are the base class's. This one sends bursts of noise; a real one reads a socket or an SDK.
"""

import numpy as np

from eifer_ros.emg.emg_processing import EmgConfig, EmgProcessing
from eifer_ros.emg.sources.base import Block, EmgSourceConfig, Layout, LiveEmgSource
from eifer_ros.hosts.local import LocalHost
from eifer_ros.types import NS, Stamp

RATE_HZ = 1000.0


class BurstAmplifier(LiveEmgSource):
    """Two channels: rest for a second, then a contraction of 100 uV on the left one."""

    what = "burst amplifier"
    live = False  # only because this one has no clock to wait for

    def connect(self) -> Layout:
        """Start anew. Raise DeviceError where a device does not answer: it is tried again."""
        self._random = np.random.default_rng(0)
        self._count = 0
        return Layout(("zygomaticus left", "zygomaticus right"), RATE_HZ)

    def read(self) -> Block:
        """The next 20 samples, in volts, with the stamp of the first."""
        times = (self._count + np.arange(20)) / RATE_HZ
        level = np.stack([np.where(times >= 1.0, 100e-6, 3e-6), np.full(20, 3e-6)], axis=1)
        stamp: Stamp = round(self._count / RATE_HZ * NS)
        self._count += 20
        if self._count >= 2 * RATE_HZ:
            self.stop()
        return Block((level * self._random.normal(size=(20, 2))).astype(np.float32), stamp)


envelopes = []
host = LocalHost(
    {"amplifier": BurstAmplifier(EmgSourceConfig()), "emg": EmgProcessing(EmgConfig(scheme="plain"))}
)
host.tap(lambda port, item: envelopes.append(1e6 * item.envelope), "emg/activity")
host.setup()
host.run_offline()
host.close()
left, right = np.nanmax(envelopes, axis=0)
print(f"{len(envelopes)} instants; left reaches {left:.0f} uV, right {right:.0f} uV")
