"""Several components in one process, so that pictures and raw EMG stay off the wire.

Parameter `components` chooses which.
"""

from . import run

CHOSEN = ("performer", "reconstruction", "emg", "mapping")


def main() -> int:
    """Entry point."""
    return run("pipeline", CHOSEN)
