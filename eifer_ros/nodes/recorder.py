"""Records what is published to a bag, without rosbag2."""

from . import run


def main() -> int:
    """Entry point."""
    return run("recorder")
