"""Reads a panel from long rows (one a day and instrument), with its sectors, membership and borrow rates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from windlass.errors import DataError, nearest
from windlass.workloads.alpha.checks import (
    Manifest,
    Source,
    examine,
    repair,
    require_size,
    require_values,
)
from windlass.workloads.alpha.columns import SPELLINGS, Table, codes, read_table
from windlass.workloads.alpha.panel import LEVELS, REQUIRED, UNKNOWN, Bools, Dates, Floats, Int16s, Panel

if TYPE_CHECKING:
    import polars as pl

Codes = npt.NDArray[np.int64]

MOST_CELLS = 50_000_000  #: days x instruments; 400 MB a field
MOST_NAMES = 65_536  #: a rank keeps a name's column in 16 bits
KNOWN = ("vwap", "cap")  #: columns that are fields without being asked for
DERIVED = ("returns", "adv")  #: an expression computes these; a column of this name would be ambiguous
HIGHEST_RATE = 10.0  #: of a year; a borrow rate above is a percentage by mistake


@dataclass(frozen=True, slots=True)
class Loaded:
    """A panel and what was found while it was read."""

    panel: Panel
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class _Axes:
    """Days and names of the panel, and the cell of each row of its file."""

    dates: Dates
    names: tuple[str, ...]
    day: Codes  #: (rows,)
    column: Codes  #: (rows,)

    @property
    def cells(self) -> Codes:
        return self.day * len(self.names) + self.column

    def dense(self, values: Floats) -> Floats:
        """(T, N) with NaN where the file has no row."""
        found = np.full((len(self.dates), len(self.names)), np.nan)
        found[self.day, self.column] = values
        return found


def read_panel(
    data: Path,
    *,
    sectors: Path | None = None,
    membership: Path | None = None,
    borrow: Path | None = None,
    columns: Collection[str] = (),
) -> Loaded:
    """The panel of ``data`` (.csv, .tsv or .parquet), checked; the order of rows and the format change nothing.

    ``data``: columns date, instrument, open, high, low, close, volume in the spellings of ``columns.SPELLINGS``. vwap
    and cap become fields, and of the other numeric columns those that ``columns`` names: which of them are known at the
    close of their day, and are no label, is for a person to say. Columns ``sector``, ``industry``, ``subindustry``,
    ``member`` (1 or 0) and ``borrow`` are used where no file of their own says otherwise. ``sectors``: instrument,
    sector[, industry, subindustry][, date]. ``membership``: instrument, date: on a day the latest snapshot of that day
    or before rules, before the first one the first. ``borrow``: instrument, rate[, date]: a rate of a year, from its
    date on.

    Raises DataError on everything that cannot be used, with its row where it has one.
    """
    table, file = read_table(data, "data")
    roles = table.require(("date", "instrument", *REQUIRED))
    axes = _axes(table, roles)
    values, ignored = _values(table, roles, {*KNOWN, *columns})
    if missing := sorted(set(columns) - values.keys()):
        raise DataError(
            f"{data} has no numeric column {missing[0]!r}.{nearest(missing[0], ignored)}", f"windlass alpha data {data}"
        )
    texts = {level: table.words(name) for level in LEVELS if (name := table.find(level)) is not None}
    duplicates = _duplicates(table.path, axes, values, texts)
    counts = {name: int(np.count_nonzero(np.isnan(v))) for name, v in _first_of_each(axes, values, duplicates).items()}
    fields = {name: axes.dense(numbers) for name, numbers in values.items()}
    member, rates = fields.pop("member", None), fields.pop("borrow", None)
    non_positive = repair(fields)
    require_values(fields, str(data))
    files, notes, records = [file], list[str](), list[_Record]()

    if sectors is not None:
        other, file = read_table(sectors, "sectors")
        files.append(file)
        records.append(_sector_record(other, axes.names))
    has_price = ~np.isnan(fields["close"])
    snapshots = _Snapshots(has_price)
    if membership is not None:
        other, file = read_table(membership, "membership")
        files.append(file)
        snapshots = _snapshots(other, axes, has_price)
        notes += snapshots.notes
        records.append(_Record(other, other.instruments(other.require(["instrument"])["instrument"])))
        if member is not None:
            notes.append("the column 'member' is not used: the file of memberships rules")
    elif member is not None:
        snapshots = _Snapshots(has_price & (np.nan_to_num(member) != 0))
    if borrow is not None:
        other, file = read_table(borrow, "borrow")
        files.append(file)
        rates = _dated_rates(other, axes)
    elif rates is not None:
        _require_rates(rates, str(data), "borrow")
    if texts:
        records.append(_Record(table, table.instruments(roles["instrument"])))
    groups, group_names = _groups(records, axes.names)
    panel = Panel(
        dates=axes.dates,
        names=axes.names,
        fields=fields,
        groups=groups,
        group_names=group_names,
        member=snapshots.member,
        borrow=rates,
    )
    present = np.zeros(panel.shape, dtype=bool)
    present[axes.day, axes.column] = True
    source = Source(
        present=present,
        files=tuple(files),
        ignored=ignored,
        null_cells={name: count for name, count in counts.items() if name in fields},
        non_positive=non_positive,
        duplicates=duplicates,
        unsorted=_unsorted(axes),
        snapshots=snapshots.count,
        first_snapshot=snapshots.first,
        without_prices=snapshots.without_prices,
        notes=tuple(notes),
    )
    return Loaded(panel, examine(panel, source))


def _axes(table: Table, roles: Mapping[str, str]) -> _Axes:
    instruments = table.instruments(roles["instrument"])
    names = tuple(sorted(instruments.unique().to_list()))
    days = table.days(roles["date"])
    dates = np.unique(days)
    require_size(len(dates), len(names), str(table.path))
    if len(names) > MOST_NAMES or len(dates) * len(names) > MOST_CELLS:
        size = len(dates) * len(names) * 8 * len(REQUIRED) / 2**30
        raise DataError(
            f"{table.path} has {len(dates)} days of {len(names)} names: {size:.1f} GiB as a dense panel",
            f"Give fewer: at most {MOST_NAMES:,} names and {MOST_CELLS:,} days x names.",
        )
    return _Axes(dates, names, np.searchsorted(dates, days).astype(np.int64), codes(instruments, names))


def _values(
    table: Table, roles: Mapping[str, str], wanted: Collection[str]
) -> tuple[dict[str, Floats], tuple[str, ...]]:
    """The numeric columns by field (with ``member`` and ``borrow``), and the names of the columns that are not used."""
    values = {field: table.numbers(roles[field]) for field in REQUIRED}
    for role in ("member", "borrow"):
        if (name := table.find(role)) is not None:
            values[role] = table.numbers(name)
    used = {*roles.values(), *(table.find(role) for role in (*LEVELS, "member", "borrow"))}
    ignored = []
    for name in table.frame.columns:
        if name in used:
            continue
        usable = name.isidentifier() and not iskeyword(name) and name not in (*DERIVED, *SPELLINGS, *values)
        if usable and name in wanted and table.is_numeric(name):
            values[name] = table.numbers(name)
        else:
            ignored.append(name)
    return values, tuple(ignored)


def _duplicates(path: Path, axes: _Axes, values: Mapping[str, Floats], texts: Mapping[str, pl.Series]) -> int:
    """How many rows repeat another one. Raises DataError on rows of one day and name that differ."""
    import polars as pl

    cells = axes.cells
    counts = np.bincount(cells)
    repeated = np.flatnonzero(counts[cells] > 1)
    if not len(repeated):
        return 0
    frame = pl.DataFrame({"cell": cells[repeated]}).with_columns(
        *(pl.Series(name, numbers[repeated]) for name, numbers in values.items()),
        *(words[repeated].alias(f"{level}:") for level, words in texts.items()),
    )
    distinct = frame.unique().sort("cell")
    conflicts = distinct.filter(pl.col("cell").is_duplicated())
    if len(conflicts):
        words = [_conflict(axes, rows) for rows in conflicts.partition_by("cell", maintain_order=True)[:3]]
        raise DataError(
            f"{path} has rows of one day and instrument that differ: {'; '.join(words)}",
            "Keep one row a day and instrument (bars within a day are not covered).",
        )
    return len(repeated) - len(distinct)


def _conflict(axes: _Axes, rows: pl.DataFrame) -> str:
    day, column = divmod(int(rows["cell"][0]), len(axes.names))
    name = next(name for name in rows.columns[1:] if rows[name].n_unique() > 1)
    found = sorted(map(str, rows[name].unique().to_list()))
    return f"{axes.dates[day]} {axes.names[column]} ({name.rstrip(':')} {' and '.join(found[:2])})"


def _first_of_each(axes: _Axes, values: Mapping[str, Floats], duplicates: int) -> Mapping[str, Floats]:
    """The values without repeated rows."""
    if not duplicates:
        return values
    _, first = np.unique(axes.cells, return_index=True)
    return {name: numbers[first] for name, numbers in values.items()}


def _unsorted(axes: _Axes) -> int:
    """Rows that come right after a later day of the same name."""
    order = np.argsort(axes.column.astype(np.uint32), kind="stable")
    day, column = axes.day[order], axes.column[order]
    return int(np.count_nonzero((day[1:] < day[:-1]) & (column[1:] == column[:-1])))


@dataclass(frozen=True, slots=True)
class _Record:
    """A file that gives groups to instruments."""

    table: Table
    instruments: pl.Series


def _sector_record(table: Table, names: Sequence[str]) -> _Record:
    """Raises DataError where no name is the panel's, or one has two sectors on record at one time."""
    import polars as pl

    roles = table.require(("instrument", "sector"))
    instruments = table.instruments(roles["instrument"])
    _require_known(table, instruments, names)
    when = table.find("date")
    keyed = pl.DataFrame({"instrument": instruments, "sector": table.words(roles["sector"])}).with_columns(
        day=pl.lit("") if when is None else pl.Series(table.days(when))
    )
    several = (
        keyed.drop_nulls().unique().sort("instrument", "sector").filter(pl.struct("instrument", "day").is_duplicated())
    )
    if len(several):
        one, two = several.head(2)["sector"]
        raise DataError(f"{table.path}: {several['instrument'][0]!r} is in {one!r} and in {two!r}", "Keep one.")
    return _Record(table, instruments)


def _groups(records: Sequence[_Record], names: tuple[str, ...]) -> tuple[dict[str, Int16s], dict[str, tuple[str, ...]]]:
    """Each name's first group on record, by date and then by the alphabet; earlier ``records`` go before later ones."""
    import polars as pl

    groups: dict[str, Int16s] = {}
    group_names: dict[str, tuple[str, ...]] = {}
    for level in LEVELS:
        found: list[pl.DataFrame] = []
        for record in records:
            if (name := record.table.find(level)) is None:
                continue
            when = record.table.find("date")
            day = None if when is None else pl.Series(record.table.days(when))
            frame = pl.DataFrame({"instrument": record.instruments, "group": record.table.words(name)})
            dated = frame.with_columns(day=pl.lit(0) if day is None else day).drop_nulls().unique()
            found.append(dated.sort("day", "group").select("instrument", "group"))
        if not found:
            continue
        first = pl.concat(found).unique("instrument", keep="first", maintain_order=True)
        first = first.filter(pl.col("instrument").is_in(list(names)))
        if first.is_empty():
            continue
        words = tuple(sorted(first["group"].unique().to_list()))
        own = np.full(len(names), UNKNOWN, dtype=np.int16)
        own[codes(first["instrument"], names)] = codes(first["group"], words)
        groups[level], group_names[level] = own, words
    return groups, group_names


@dataclass(frozen=True, slots=True)
class _Snapshots:
    member: Bools
    count: int = 0
    first: str | None = None
    without_prices: int = 0
    notes: tuple[str, ...] = ()


def _snapshots(table: Table, axes: _Axes, has_price: Bools) -> _Snapshots:
    """Members by the latest snapshot of each day; snapshots of one date are taken together."""
    roles = table.require(("instrument", "date"))
    instruments, asof = table.instruments(roles["instrument"]), table.days(roles["date"])
    _require_known(table, instruments, axes.names)
    dates, snapshot = np.unique(asof, return_inverse=True)
    column = codes(instruments, axes.names)
    known = column >= 0
    listed = np.zeros((len(dates), len(axes.names)), dtype=bool)
    listed[snapshot[known], column[known]] = True
    ruling = np.maximum(np.searchsorted(dates, axes.dates, side="right") - 1, 0)
    used = np.isin(snapshot, np.unique(ruling))
    notes = []
    if dates[0] > axes.dates[-1]:
        raise DataError(
            f"{table.path} begins on {dates[0]}, after the panel's last day, {axes.dates[-1]}: who was a member is not"
            " known",
            "Give snapshots of the panel's years, or none: then every name with a price is a member.",
        )
    if axes.dates[0] < dates[0]:
        before = int(np.count_nonzero(axes.dates < dates[0]))
        notes.append(f"days before the first snapshot of members ({dates[0]}): {before}; it is used for them, too")
    return _Snapshots(
        member=listed[ruling] & has_price,
        count=len(dates),
        first=str(dates[0]),
        without_prices=instruments.filter(used & ~known).n_unique(),
        notes=tuple(notes),
    )


def _dated_rates(table: Table, axes: _Axes) -> Floats:
    """(T, N): the latest rate of that day or before, the same for all days where the file has no dates."""
    roles = table.require(("instrument", "rate"))
    instruments, rates = table.instruments(roles["instrument"]), table.numbers(roles["rate"])
    _require_known(table, instruments, axes.names)
    _require_rates(rates, str(table.path), roles["rate"])
    when = table.find("date")
    days = np.full(len(rates), axes.dates[0]) if when is None else table.days(when)
    row, column = np.searchsorted(axes.dates, days), codes(instruments, axes.names)
    known = (column >= 0) & (row < len(axes.dates)) & ~np.isnan(rates)
    order = np.flatnonzero(known)[np.lexsort([rates[known], days[known], column[known]])]
    row, column, days, rates = row[order], column[order], days[order], rates[order]
    same = (column[1:] == column[:-1]) & (days[1:] == days[:-1]) & (rates[1:] != rates[:-1])
    if same.any():
        i = int(same.argmax())
        name = axes.names[column[i]]
        raise DataError(f"{table.path}: {name!r} has two rates: {rates[i]:g} and {rates[i + 1]:g}", "Keep one.")
    found = np.full((len(axes.dates), len(axes.names)), np.nan)
    found[row, column] = rates  # of several dates between two days of the panel the last one stays
    filled = np.maximum.accumulate(np.where(np.isnan(found), 0, np.arange(len(found))[:, None]), axis=0)
    return np.take_along_axis(found, filled, axis=0)


def _require_rates(rates: Floats, what: str, name: str) -> None:
    if (wrong := (rates < 0) | (rates > HIGHEST_RATE)).any():
        rate = float(rates[wrong][0])
        raise DataError(
            f"{what} has a borrow rate of {rate:g} ({name!r})", "Write rates of a year as shares: 0.03 is 3 %."
        )


def _require_known(table: Table, instruments: pl.Series, names: Sequence[str]) -> None:
    if not instruments.is_in(list(names)).any():
        raise DataError(
            f"{table.path} ('{table.role}') names no instrument of the panel: it has {instruments[0]!r}, "
            f"the panel has {names[0]!r}",
            "Write instruments in both files alike.",
        )
