"""The simulated participant: camera and amplifier in one node."""

from . import run


def main() -> int:
    """Entry point."""
    return run("performer")
