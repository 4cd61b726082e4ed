"""A table file with typed columns: every refusal names the file, the column and the row.

Text files are read as text alone, so that ``000001`` stays a name and a word among numbers has a row. Rows count from
1, the header left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from windlass.errors import DataError, nearest
from windlass.workloads.alpha.checks import Role, SourceFile
from windlass.workloads.alpha.panel import Dates, Floats

if TYPE_CHECKING:
    import polars as pl

#: what a column may be called, the first that a file has; case, spaces and hyphens do not matter
SPELLINGS = {
    "date": ("date", "datetime", "timestamp", "day", "asof", "as_of"),
    "instrument": ("instrument", "ticker", "symbol", "code", "asset", "name"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "c"),
    "volume": ("volume", "v", "vol"),
    "sector": ("sector", "gics_sector"),
    "industry": ("industry", "gics_industry"),
    "subindustry": ("subindustry", "sub_industry", "gics_sub_industry"),
    "member": ("member", "is_member"),
    "borrow": ("borrow", "borrow_rate"),
    "rate": ("rate", "borrow", "borrow_rate", "fee"),
}
MISSING = ("", "na", "n/a", "nan", "null", "none", "-")
SHOWN = 20  #: columns that an error lists
TRUTHS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


@dataclass(frozen=True, slots=True)
class Table:
    """A file's rows; ``frame`` has lower-case column names with underscores."""

    path: Path
    role: Role
    frame: pl.DataFrame

    def find(self, role: str) -> str | None:
        """The column of a role of ``SPELLINGS``, or None."""
        return next((name for name in SPELLINGS[role] if name in self.frame.columns), None)

    def require(self, roles: Iterable[str]) -> dict[str, str]:
        """The columns of all the roles. Raises DataError with the nearest name for each that is missing."""
        found = {role: self.find(role) for role in roles}
        if missing := [role for role, name in found.items() if name is None]:
            left = [name for name in self.frame.columns if name not in found.values()]
            words = " and ".join(f"no column {role!r}.{_nearest(role, left)}" for role in missing)
            separator = " Is ',' the separator of this file?" if self.frame.width == 1 else ""
            more = ", …" if self.frame.width > SHOWN else ""
            columns = f"Columns: {', '.join(self.frame.columns[:SHOWN])}{more}.{separator}"
            raise DataError(
                f"{self.path} has {words}", f"{columns} Wanted, one row a day and name: {', '.join(found)}."
            )
        return {role: name for role, name in found.items() if name is not None}

    def instruments(self, name: str) -> pl.Series:
        """Names as text without outer spaces; raises DataError on an empty one."""
        import polars as pl

        values = self.frame[name].cast(pl.String).str.strip_chars()
        if (empty := values.is_null() | (values == "")).any():
            raise DataError(f"{self.path}: row {_first(empty)} has no instrument (column {name!r})", "Name it.")
        return values

    def days(self, name: str) -> Dates:
        """Days of dates or moments as they are written (no change of time zone); raises DataError otherwise."""
        import polars as pl

        values = self.frame[name]
        if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
            days = values.dt.date()
        elif values.dtype.is_integer() or values.dtype == pl.String:
            days = _written_days(values.cast(pl.String).str.strip_chars())
        else:
            raise DataError(f"{self.path}: the column {name!r} holds {values.dtype}, not dates", _DATES)
        if (unread := days.is_null()).any():
            row = _first(unread)
            raise DataError(f"{self.path}: row {row} has no readable date: {values[row - 1]!r} ({name!r})", _DATES)
        return days.to_physical().to_numpy().astype("datetime64[D]")

    def numbers(self, name: str) -> Floats:
        """Float64 with NaN where nothing is given; raises DataError on text and on infinite values."""
        numbers, row = self._numbers(name)
        if row is not None:
            dtype, value = self.frame[name].dtype, self.frame[name][row - 1]
            what = f"{value!r} ({name!r})" if isinstance(value, str) else f"the column {name!r} holds {dtype}"
            raise DataError(
                f"{self.path}: row {row} has text where a number belongs: {what}",
                "Write numbers with '.' and without separators of thousands; leave unknown cells empty.",
            )
        if (infinite := np.isinf(numbers)).any():
            row = int(infinite.argmax()) + 1
            raise DataError(f"{self.path}: row {row} has an infinite {name!r}", "Leave the cell empty, or correct it.")
        return numbers

    def is_numeric(self, name: str) -> bool:
        """Whether it holds numbers, at least one, and nothing else."""
        numbers, row = self._numbers(name)
        return row is None and not np.isnan(numbers).all()

    def _numbers(self, name: str) -> tuple[Floats, int | None]:
        """Float64 with NaN where there is no number, and the first row with something else, if any."""
        import polars as pl

        values, row = self.frame[name], None
        if values.dtype == pl.String:
            numbers = values.cast(pl.Float64, strict=False)
            if numbers.null_count() > values.null_count():
                words = values.str.strip_chars().str.to_lowercase()
                words = words.set(words.is_in(MISSING), None)
                for word, truth in TRUTHS.items():
                    words = words.set(words == word, str(truth))
                numbers = words.cast(pl.Float64, strict=False)
                other = words.is_not_null() & numbers.is_null()
                row = _first(other) if other.any() else None
        elif values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null):
            numbers = values.cast(pl.Float64)
        else:
            return np.full(len(values), np.nan), 1
        return numbers.fill_null(np.nan).to_numpy().astype(np.float64, copy=False), row

    def words(self, name: str) -> pl.Series:
        """Text without outer spaces; null where nothing is given."""
        import polars as pl

        values = self.frame[name].cast(pl.String).str.strip_chars()
        return values.set(values == "", None)


_DATES = "Write dates as 2013-02-08 (or 20130208, 2013/02/08, or with a time of the day after it)."


def read_table(path: Path, role: Role) -> tuple[Table, SourceFile]:
    """The rows of a ``.csv``, ``.tsv`` or ``.parquet`` file, and what the manifest says of the file.

    Raises DataError where it is missing, unreadable, empty, or has two columns of one name.
    """
    import polars as pl

    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".parquet"):
        raise DataError(f"{path} ('{role}') is neither .csv, .tsv nor .parquet", "Export the table as one of these.")
    try:
        with path.open("rb") as file:
            sha256, size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
        if suffix == ".parquet":
            frame = pl.read_parquet(path)
        else:
            frame = pl.read_csv(path, separator="\t" if suffix == ".tsv" else ",", infer_schema=False)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}", f"Check {role!r} in the options.") from error
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{path} is empty", f"Check {role!r} in the options.") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{path} cannot be read as a table: {reason}", f"Check {role!r} in the options.") from error
    names = ["_".join(name.strip().lower().replace("-", " ").split()) for name in frame.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path} has two columns {twice[0]!r}", f"Keep one. Columns: {', '.join(frame.columns)}.")
    if frame.is_empty():
        raise DataError(f"{path} has a header and no rows", f"Check {role!r} in the options.")
    frame.columns = names
    return Table(path, role, frame), SourceFile(role=role, name=path.name, bytes=size, sha256=sha256)


def _written_days(words: pl.Series) -> pl.Series:
    """Dates; null where the text is none."""
    days = words.str.to_date("%Y-%m-%d", strict=False)
    if days.null_count():
        rest = words.str.slice(10, 1)
        timed = words.str.slice(0, 10).set(~rest.is_in(["T", " "]), None).str.to_date("%Y-%m-%d", strict=False)
        eight = words.set(words.str.len_chars() != 8, None).str.to_date("%Y%m%d", strict=False)
        slashed = words.str.to_date("%Y/%m/%d", strict=False)
        for other in (timed, eight, slashed):
            days = days.zip_with(days.is_not_null(), other)
    return days


def _nearest(role: str, names: Iterable[str]) -> str:
    """The column that is most like a spelling of the role, in words."""
    known = list(names)
    return next((hint for word in SPELLINGS[role] if len(word) > 1 and (hint := nearest(word, known))), "")


def _first(mask: pl.Series) -> int:
    """The row of the first True, from 1."""
    return int(mask.to_numpy().argmax()) + 1


def codes(values: pl.Series, names: Iterable[str]) -> npt.NDArray[np.int64]:
    """The position of each value in ``names``; -1 where it is not among them. Shape (rows,)."""
    import polars as pl

    known = list(names)
    found = values.cast(pl.Enum(known), strict=False).to_physical().cast(pl.Int64).fill_null(-1)
    return found.to_numpy()
