"""What an address can open.

Cameras, amplifiers, avatar protocols and servo drivers are found by a name before the colon. Parameters follow a question
mark; they are checked before anything is opened. Installed plug-ins are in the same lists.
"""

from eifer_ros.errors import ConfigError
from eifer_ros.registry import CAMERAS, EMG_SOURCES, registries

for name, registry in registries().items():
    print(name)
    for entry in registry.entries():
        extra = f" (pip install 'eifer_ros[{entry.extra}]')" if entry.extra else ""
        print(f"  {entry.usage:36} {entry.what}{extra}")

device, config = EMG_SOURCES.configure("file:take1.csv?speed=0&rate_hz=1000")
print(f"{device.__name__} with path={config.path}, speed={config.speed:g}, rate_hz={config.rate_hz:g}")
try:
    CAMERAS.configure("wbcam:0")
except ConfigError as error:
    print(f"refused: {error}")
