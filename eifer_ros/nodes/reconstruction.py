"""Pictures to faces: camera/image_raw to face/vision."""

from . import run


def main() -> int:
    """Entry point."""
    return run("reconstruction")
