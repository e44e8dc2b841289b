"""A camera: frames on camera/image_raw."""

from . import run


def main() -> int:
    """Entry point."""
    return run("camera")
