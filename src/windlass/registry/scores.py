"""The registry's reading of a scores file: every example by its name, every number finite, or an error that says where.

The columns are those of :mod:`windlass.runs.scores`: one names the example; numbers and booleans are scores, everything
else divides the examples into groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from windlass.errors import DataError, nearest
from windlass.runs.scores import ROW_COLUMNS, is_score, row_column

if TYPE_CHECKING:
    import polars as pl

#: the group of an example that has no value there
MISSING = "(missing)"
#: texts of a CSV file that stand where a number is missing
_NO_NUMBER = ("", "na", "n/a", "nan", "null", "none", "?", "-")
_SHOWN = 3  #: examples that an error names


@dataclass(frozen=True)
class Scores:
    """n examples, at least one, sorted by name; at least one column of numbers."""

    ids: np.ndarray  #: (n,) str, sorted, each once
    columns: Mapping[str, np.ndarray]  #: name -> (n,) float64, finite; booleans are 0 and 1
    groups: Mapping[str, np.ndarray]  #: name -> (n,) str

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, name: str) -> np.ndarray:
        """The numbers of one column, (n,) float64. Raises DataError where there is none."""
        if name in self.columns:
            return self.columns[name]
        if name in self.groups:
            at = next((i for i, text in enumerate(self.groups[name]) if not _is_number(text)), 0)
            text, example = str(self.groups[name][at]), str(self.ids[at])
            raise DataError(f"column {name!r} holds text, no numbers: {text!r} at example {example!r}")
        raise DataError(
            f"the scores have no column {name!r}.{nearest(name, self.columns)}",
            f"Columns of numbers: {', '.join(self.columns)}",
        )

    def group(self, name: str) -> np.ndarray:
        """What divides the examples, (n,) str: a column of text, or of whole numbers. Raises DataError."""
        if name in self.groups:
            return self.groups[name]
        if name in self.columns:
            values = self.columns[name]
            fractions = np.flatnonzero(values != np.floor(values))
            if len(fractions):
                at = fractions[0]
                raise DataError(
                    f"column {name!r} has fractions, so it divides no examples into groups:"
                    f" {values[at]:g} at example {str(self.ids[at])!r}"
                )
            return values.astype(np.int64).astype(str)
        known = [*self.groups, *self.columns]
        raise DataError(f"the scores have no column {name!r}.{nearest(name, known)}", f"Columns: {', '.join(known)}")

    def means(self) -> dict[str, float]:
        """Of every column of numbers; the sums are exact, so that a record's means are met again to the bit."""
        return {name: math.fsum(values.tolist()) / len(values) for name, values in self.columns.items()}


def read(path: Path) -> Scores:
    """A CSV or Parquet file with a row an example.

    Examples are named by text: a 7 in one file and a "7" in another are the same example; "007" is another one.

    Raises DataError on a file that cannot be read, examples without a name or with the same one, and a number that
    is missing, NaN or infinite.
    """
    table = _read(path)
    if len(table) == 0:
        raise DataError(f"{path} has no example")
    name = row_column(table)
    ids = _ids(path, table[name])
    table = table.with_columns(ids.alias(name)).sort(name)
    ids = table[name]
    columns: dict[str, np.ndarray] = {}
    groups: dict[str, np.ndarray] = {}
    for series in table.drop(name):
        if is_score(series):
            columns[series.name] = _numbers(path, series, ids)
        else:
            groups[series.name] = _texts(path, series)
    if not columns:
        raise DataError(f"{path} has no column of numbers beside {name!r}", f"Columns: {', '.join(table.columns)}")
    return Scores(ids=np.array(ids.to_list(), dtype=str), columns=columns, groups=groups)


def _read(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        if path.suffix.lower() != ".csv":
            return pl.read_parquet(path)
        header = pl.read_csv(path, n_rows=0)
        if not header.columns:
            raise DataError(f"{path} has no column")
        names = {row_column(header): pl.String}
        table = pl.read_csv(path, infer_schema_length=None, schema_overrides=names)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error
    return table.with_columns(_meant_as_numbers(series) for series in table if series.name not in names)


def _meant_as_numbers(series: pl.Series) -> pl.Series:
    """A column of a CSV file that is text only for words such as NA among its numbers."""
    import polars as pl

    if series.dtype != pl.String:
        return series
    values = series.drop_nulls().str.strip_chars()
    numbers = values.cast(pl.Float64, strict=False)
    numbers_or_none = numbers.is_not_null() | values.str.to_lowercase().is_in(_NO_NUMBER)
    if not (numbers_or_none.all() and numbers.is_finite().any()):
        return series
    return series.str.strip_chars().cast(pl.Float64, strict=False)


def _ids(path: Path, column: pl.Series) -> pl.Series:
    import polars as pl

    if column.dtype.is_float() and column.is_finite().all() and column.equals(column.floor()):
        column = column.cast(pl.Int64)  # whole numbers that a library kept as floats
    try:
        ids = column.cast(pl.String)
    except pl.exceptions.PolarsError:
        raise DataError(
            f"{path}: column {column.name!r} is of type {column.dtype}, which names no examples",
            f"Name them in a column {' or '.join(map(repr, ROW_COLUMNS[:3]))}.",
        ) from None
    nameless = ids.is_null() | (ids == "")
    if nameless.any():
        raise DataError(
            f"{path}: {int(nameless.sum())} of {len(ids)} examples have no name in column {column.name!r},"
            f" the first in row {nameless.arg_true()[0] + 1}"
        )
    repeated = ids.filter(ids.is_duplicated())
    if len(repeated):
        names = repeated.unique(maintain_order=True)
        shown = ", ".join(f"{name!r} {int((repeated == name).sum())} times" for name in names.head(_SHOWN))
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise DataError(f"{path}: examples repeat in column {column.name!r}: {shown}{more}")
    return ids


def _numbers(path: Path, series: pl.Series, ids: pl.Series) -> np.ndarray:
    import polars as pl

    values = series.cast(pl.Float64)
    wrong = (~values.is_finite()).fill_null(True)
    if wrong.any():
        first = wrong.arg_true()[0]
        what = "no value" if values[first] is None else "NaN" if values[first] != values[first] else str(values[first])
        raise DataError(
            f"{path}: column {series.name!r} has {what} at example {ids[first]!r}"
            f" ({int(wrong.sum())} of {len(ids)} examples have no finite number there)",
            "Every example needs a finite score; score what failed as the worst there is.",
        )
    return values.to_numpy().copy()


def _texts(path: Path, series: pl.Series) -> np.ndarray:
    import polars as pl

    if series.dtype.is_nested() or series.dtype == pl.Binary or series.dtype == pl.Object:
        raise DataError(
            f"{path}: column {series.name!r} is of type {series.dtype}; scores are numbers, groups are text",
            f"Leave {series.name!r} out of the scores.",
        )
    return np.array(series.cast(pl.String).fill_null(MISSING).to_list(), dtype=str)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
