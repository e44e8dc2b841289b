"""Muscles and faces onto each other: face/emg, face/fused, muscles/estimated."""

from . import run


def main() -> int:
    """Entry point."""
    return run("mapping")
