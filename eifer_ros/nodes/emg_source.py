"""An EMG amplifier: raw samples on emg/raw."""

from . import run


def main() -> int:
    """Entry point."""
    return run("emg_source")
