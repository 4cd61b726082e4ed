"""Train a reader: ``train.py --spec spec.json --output-dir DIR``, started by Windlass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from reading import answer, fit, read

import windlass

HERE = Path(__file__).resolve().parent
VALIDATION = 200  #: rows of train.csv that no reader is fitted to
RECIPES = {
    "hurried": {"kind": "linear", "rows": 20, "steps": 400},
    "small": {"kind": "linear", "rows": 80, "steps": 400},
    "usual": {"kind": "linear", "rows": 800, "steps": 400},
    "patient": {"kind": "linear", "rows": 897, "steps": 1500},
    "neighbours": {"kind": "neighbours", "rows": 897, "steps": 0},
    "prototypes": {"kind": "prototypes", "rows": 897, "steps": 0},
}

run = windlass.start_run()
table = read(HERE / "train.csv")
recipe = RECIPES[run.config["recipe"]]
chosen = slice(VALIDATION, VALIDATION + recipe["rows"])
reader = fit(recipe["kind"], table.pixels[chosen], table.digits[chosen], recipe["steps"], seed=0)
np.savez(run.checkpoint_dir / "reader.npz", **reader)
accuracy = float((answer(reader, table.pixels[:VALIDATION]) == table.digits[:VALIDATION]).mean())
run.log(accuracy=accuracy)
run.finish()
