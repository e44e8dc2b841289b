"""Export a recording as tables.

One CSV for each topic, with units in the column names; `--form parquet` needs `pip install 'eifer_ros[batch]'`.
"""

import argparse
import csv
from pathlib import Path

from eifer_ros.recording.exports.tables import export_tables

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("recording", type=Path)
parser.add_argument("--out", type=Path, default=Path("tables"))
parser.add_argument("--form", choices=("csv", "parquet"), default="csv")
arguments = parser.parse_args()

for topic, rows in export_tables(arguments.recording, arguments.out, arguments.form).items():
    print(f"{topic:28} {rows:6} rows")
for path in sorted(arguments.out.glob("*.csv")):
    with path.open(encoding="utf-8") as file:
        header = next(csv.reader(file))
    print(f"{path.name}: {', '.join(header[:5])}, ... ({len(header)} columns)")
