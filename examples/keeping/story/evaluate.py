"""Score a reader on a benchmark: ``evaluate.py --spec spec.json --output-dir DIR``, started by Windlass."""

from __future__ import annotations

import csv
from pathlib import Path

from reading import answer, load, operations, read

import windlass

run = windlass.start_run()
reader = load(Path(run.config["checkpoint"]) / "reader.npz")
table = read(Path(run.config["data"]))
right = answer(reader, table.pixels) == table.digits
path = run.artifacts_dir / "scores.csv"
with path.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["id", "accuracy", "operations", "ink"])
    writer.writerows(
        [name, int(good), operations(reader), ink] for name, good, ink in zip(table.ids, right, table.ink, strict=True)
    )
run.artifact(path, name="scores", kind="scores")
run.finish()
