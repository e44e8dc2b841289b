"""Publishes a recording, without rosbag2."""

from . import run


def main() -> int:
    """Entry point."""
    return run("replay")
