"""Per-example scores as files: CSV or Parquet, one row an example.

One column names the row (one of ``ROW_COLUMNS``, else the first); every numeric or boolean column is a score. Other
columns describe the example.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from windlass.errors import DataError

if TYPE_CHECKING:
    import polars

ROW_COLUMNS = ("row", "row_id", "id", "example", "example_id")


def read_scores(path: Path) -> polars.DataFrame:
    """Raises DataError on a file that is missing, or no table with a row an example."""
    import polars

    try:
        table = polars.read_csv(path) if path.suffix.lower() == ".csv" else polars.read_parquet(path)
    except (OSError, polars.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    row = row_column(table)
    if table[row].is_duplicated().any():
        raise DataError(f"{path}: rows repeat in column {row!r}, so they cannot be paired")
    return table


def row_column(table: polars.DataFrame) -> str:
    """The column that names the example."""
    return next((name for name in ROW_COLUMNS if name in table.columns), table.columns[0])


def is_score(series: polars.Series) -> bool:
    import polars

    return series.dtype.is_numeric() or series.dtype == polars.Boolean
