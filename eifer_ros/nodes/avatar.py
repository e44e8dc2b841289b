"""Faces to blendshapes and avatars."""

from . import run


def main() -> int:
    """Entry point."""
    return run("avatar")
