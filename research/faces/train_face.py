"""Adapts the reconstruction to one person: EIFER's phase 1, bare and covered pictures that need not belong together.

eifer train face --reference bare/ --sensors covered/ --out run/
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from eifer_ros.console import bar, show, until_interrupted
from research.common.recipe import parser, run, settings_of
from research.faces.face_runs import FaceRun, train_face
from research.faces.losses import Weights
from research.faces.phase_one import Settings


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Command line of the training under sensors (EIFER, phase 1)."""
    options = parser(__doc__, FaceRun, Settings, prog=prog)
    options.add_argument(
        "--loss",
        action="append",
        help="weight of a loss, name=number, 0 is off; several are taken",
    )
    options.add_argument(
        "--amp",
        action=argparse.BooleanOptionalAction,
        help="bfloat16 in the networks; by default on a GPU that has it",
    )
    options.add_argument("--json", action="store_true", help="print the result as JSON")
    values = options.parse_args(arguments)
    settings = settings_of(Settings, values, weights=Weights.of(values.loss or ()))
    first = int(os.environ.get("RANK", 0)) == 0
    with until_interrupted() as stop, bar("phase 1", values.json or not first) as progress:
        result = train_face(
            settings_of(FaceRun, values), settings, amp=values.amp, stop=stop.is_set, progress=progress
        )
    if first:
        show(result, values.json, "Phase 1", rows_of(result, settings.steps))


def rows_of(result: dict[str, Any], steps: int) -> list[tuple[str, str]]:
    """What a person reads of `face_runs.train_face`'s result."""
    sides = result["pictures"]
    return [
        ("steps", steps_of(result, steps)),
        ("pictures", f"{sides['reference']} bare, {sides['sensors']} under sensors"),
        *[
            (f"skipped ({name})", ", ".join(f"{count} {reason}" for reason, count in counts.items()))
            for name, counts in result["skipped"].items()
            if counts
        ],
        *[("left out", f"{person}: seen on one side only") for person in result["left_out"]],
        ("time", f"{result['seconds']:.0f} s on {result['device']}, {result['processes']} process(es)"),
        *[(name.replace("_", " "), path) for name, path in result["files"].items()],
    ]


def steps_of(result: dict[str, Any], steps: int) -> str:
    """How far a run is, and how it goes on."""
    return f"{result['steps']} of {steps}" + (
        "" if result["complete"] else "; the same command goes on from here"
    )


if __name__ == "__main__":
    run(main)
