"""Refines the encoder on bare faces by landmarks and photometry, without labels; what comes of it is a --start for
`eifer train face`.

    eifer train refine --reference bare/ --out refined/
"""

from __future__ import annotations

from collections.abc import Sequence

from eifer_ros.console import bar, show, until_interrupted
from research.common.recipe import parser, run, settings_of
from research.faces.face_runs import PictureRun, refine_face
from research.faces.refine import Refinement
from research.faces.train_face import steps_of


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Command line of the refinement on bare pictures."""
    options = parser(__doc__, PictureRun, Refinement, prog=prog)
    options.add_argument("--json", action="store_true", help="print the result as JSON")
    values = options.parse_args(arguments)
    settings = settings_of(Refinement, values)
    with until_interrupted() as stop, bar("refining", values.json) as progress:
        result = refine_face(settings_of(PictureRun, values), settings, stop=stop.is_set, progress=progress)
    rows = [
        ("steps", steps_of(result, settings.steps)),
        ("pictures", str(result["pictures"])),
        ("time", f"{result['seconds']:.0f} s"),
        ("encoder", result["encoder"]),
    ]
    show(result, values.json, "Refinement", rows)


if __name__ == "__main__":
    run(main)
