"""Micro-expressions: face/vision, face/displacement and emg/activity to face/events."""

from . import run


def main() -> int:
    """Entry point."""
    return run("spotter")
