"""Reads the sheet of real faces under real sensors with one encoder: `python -m bench.sensor_sheet [SHEET.jpg]`.

Without a sheet the reference sheet of the test data is taken (folder: EIFER_TEST_DATA).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2

import eifer_ros.threads  # noqa: F401  (before anything that loads a BLAS)
from bench import shared_data
from eifer_ros.evaluation.sensor_sheet import encoder_estimator, measure, picture
from eifer_ros.reconstruction.encoder.encoder_tracker import SHIFTS
from eifer_ros.reconstruction.encoder.face_encoder import ENCODER

SHEET = "sensor_reference_sheet.jpg"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how many movements were recognised; write the picture where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.sensor_sheet", description=__doc__)
    parser.add_argument("sheet", type=Path, nargs="?", default=shared_data(SHEET))
    parser.add_argument("--encoder", default=ENCODER, help="network (.onnx); default the shipped one")
    parser.add_argument(
        "--shifts", type=int, default=1, choices=range(1, len(SHIFTS) + 1), help="crops averaged"
    )
    parser.add_argument("--out", type=Path, help="write the fitted heads here (.png)")
    values = parser.parse_args(arguments)
    if values.sheet is None:
        parser.error(f"name the sheet, or set EIFER_TEST_DATA to a folder that holds {SHEET}")
    result = measure(values.sheet, encoder_estimator(values.encoder, values.shifts))
    print(result.table())
    if values.out is not None:
        cv2.imwrite(str(values.out), picture(values.sheet, result)[:, :, ::-1])


if __name__ == "__main__":
    main()
