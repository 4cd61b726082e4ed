"""Write scikit-learn's diabetes table (442 patients) as a CSV file with a text column and some empty cells.

python examples/write_diabetes_csv.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
from sklearn.datasets import load_diabetes


def main(folder: Path) -> None:
    bunch = load_diabetes(scaled=False)
    table = pl.DataFrame(bunch.data, schema=list(bunch.feature_names)).with_columns(
        pl.Series("patient", [f"P{number:03}" for number in range(len(bunch.target))]),
        pl.when(pl.col("sex") == 1).then(pl.lit("one")).otherwise(pl.lit("two")).alias("sex"),
        # some laboratories do not measure the last value
        pl.when(pl.int_range(pl.len()) % 11 == 3).then(None).otherwise(pl.col("s6")).alias("s6"),
        pl.Series("progression", bunch.target),
    )
    table.write_csv(folder / "diabetes.csv")
    print(f"{folder / 'diabetes.csv'}: {table.height} rows, {table.width} columns")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
