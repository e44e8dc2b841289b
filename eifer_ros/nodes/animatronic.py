"""Faces to joint commands; starts disarmed."""

from . import run


def main() -> int:
    """Entry point."""
    return run("animatronic")
