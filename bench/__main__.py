"""`python -m bench AREA [--quick]`: one JSON line per figure on standard output."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import eifer_ros.threads  # noqa: F401  (before anything that loads a BLAS)

AREAS = ("foundation", "emg", "mapping", "face", "ros", "drive", "view", "data", "micro", "live", "house")


def main() -> None:
    """Run one area, or all that exist."""
    present = [area for area in AREAS if (Path(__file__).parent / f"{area}.py").exists()]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("area", choices=[*present, "all"], help="which figures")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, under a minute per area")
    arguments = parser.parse_args()
    for area in present if arguments.area == "all" else [arguments.area]:
        importlib.import_module(f"bench.{area}").run(quick=arguments.quick)


if __name__ == "__main__":
    main()
