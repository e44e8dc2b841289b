"""What RViz shows of a face: mesh, muscle map and the frame of the head."""

from . import run


def main() -> int:
    """Entry point."""
    return run("face_view")
