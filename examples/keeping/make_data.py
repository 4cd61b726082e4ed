"""Write scikit-learn's 1,797 handwritten digits as two tables: one to train on, one that nothing is trained on.

python examples/keeping/make_data.py [FOLDER]

Every row has an id, 64 pixels, the digit, and its ink: whether it was written with light or heavy strokes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.datasets import load_digits

HELD_OUT = 700  #: rows


def main(folder: Path) -> None:
    bunch = load_digits()
    pixels = pl.DataFrame(bunch.data.astype(int), schema=[f"p{row}{column}" for row in range(8) for column in range(8)])
    ink = bunch.data.mean(axis=1)
    table = pixels.insert_column(0, pl.Series("id", [f"d{number:04}" for number in range(len(ink))])).with_columns(
        pl.Series("digit", bunch.target),
        pl.Series("ink", np.where(ink > np.median(ink), "heavy", "light")),
    )
    order = np.random.default_rng(0).permutation(len(table))
    for name, rows in (("heldout", order[:HELD_OUT]), ("train", order[HELD_OUT:])):
        table[np.sort(rows)].write_csv(folder / f"{name}.csv")
        print(f"{folder / name}.csv: {len(rows)} rows, {table.width} columns")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
