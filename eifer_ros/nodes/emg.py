"""EMG processing: emg/raw to emg/activity."""

from . import run


def main() -> int:
    """Entry point."""
    return run("emg")
