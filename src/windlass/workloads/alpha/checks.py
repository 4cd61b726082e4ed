"""What is odd in a panel: counted for the manifest, repaired where a rule says how, refused where nothing helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from windlass.errors import DataError
from windlass.workloads.alpha.panel import PRICES, REQUIRED, UNKNOWN, Bools, Floats, Panel

Role = Literal["data", "sectors", "membership", "borrow"]

LEAST_DAYS = 60
LEAST_NAMES = 10
JUMP = 0.4  #: a close-to-close move beyond this share is listed
LISTED = 50  #: jumps that the manifest lists, the largest ones

#: what is done about each count of a manifest that is not zero
DONE = {
    "ohlc_violations": "kept: the high lies below the low, or the open or the close outside of them",
    "null_cells": "kept as missing values",
    "non_positive": "prices of 0 or less and volumes below 0 became missing values",
    "duplicates": "identical rows were dropped",
    "unsorted": "rows were sorted by date",
    "jumps": "kept: closes that moved by more than 40 % in a day; look for splits and spin-offs that are not adjusted",
    "zero_volume": "kept",
    "holes": "days without a row inside a name's life: missing values",
    "ends_early": "names whose rows end before the panel does: missing values from there on",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """One close-to-close move of a name, over its previous row with a close."""

    date: str
    name: str
    move: float  #: 0.5 is +50 %


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that the panel was read from."""

    role: Role
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Point-in-time membership; a member of a day has a close on that day."""

    snapshots: int  #: 0 where every name with a price counts as a member
    first: str | None  #: date of the first snapshot
    least_a_day: int
    mean_a_day: float
    most_a_day: int
    never_members: int  #: names of the panel that are no member on any day
    without_prices: int  #: members of a snapshot that the panel has no rows of


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a panel holds and what was found in it; ``data_manifest.json``."""

    digest: str
    files: tuple[SourceFile, ...]  #: none for a panel that was made
    first: str
    last: str
    days: int
    names: int
    rows: int  #: after duplicates were dropped
    fields: tuple[str, ...]
    ignored: tuple[str, ...]  #: columns of the file that are not used
    groups: Mapping[str, Mapping[str, int]]  #: names in each group; "" is unknown
    ohlc_violations: int
    null_cells: Mapping[str, int]  #: in existing rows, as the file has them
    non_positive: Mapping[str, int]
    duplicates: int
    unsorted: int  #: rows that come after a later day of the same name
    jumps: int
    largest_jumps: tuple[Jump, ...]  #: by date and name
    zero_volume: int
    holes: int
    ends_early: int
    membership: Membership
    survivorship: Literal["likely", "none seen"]
    borrow_known: float | None  #: share of the members' days with a borrow rate
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: plain dicts, lists, strings and numbers."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What only the files know about a panel."""

    present: Bools | None = None  #: (T, N), where the file has a row; None: where any value is known
    files: tuple[SourceFile, ...] = ()
    ignored: tuple[str, ...] = ()
    null_cells: Mapping[str, int] | None = None  #: before repair; None: as the panel is
    non_positive: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    unsorted: int = 0
    snapshots: int = 0
    first_snapshot: str | None = None
    without_prices: int = 0
    notes: tuple[str, ...] = ()


def require_size(days: int, names: int, what: str) -> None:
    """Raises DataError on a panel that is too short or too narrow to rank and test anything."""
    if days == 1 or names == 1:
        held = f"one day (names: {names})" if days == 1 else f"one name (days: {days})"
        raise DataError(f"{what} holds {held}; factors compare names with each other, over time", _enough())
    if days < LEAST_DAYS or names < LEAST_NAMES:
        raise DataError(f"{what} holds {days} days of {names} names, too few", _enough())


def _enough() -> str:
    return f"Give a panel of at least {LEAST_DAYS} days and {LEAST_NAMES} names; a test of factors needs some 750 days."


def require_values(fields: Mapping[str, Floats], what: str) -> None:
    """Raises DataError where one of the five columns has no value at all."""
    for name in REQUIRED:
        if np.isnan(fields[name]).all():
            raise DataError(
                f"{what}: the column {name!r} has no usable value",
                "Look at the file: prices are numbers above 0, volumes are 0 or more.",
            )


def repair(fields: Mapping[str, Floats]) -> dict[str, int]:
    """Turns prices of 0 or less and volumes below 0 into NaN, in place; the counts by field, zeros left out."""
    counts = {}
    for name, values in fields.items():
        if name in PRICES:
            bad = values <= 0
        elif name == "volume":
            bad = values < 0
        else:
            continue
        if count := int(np.count_nonzero(bad)):
            counts[name] = count
            values[bad] = np.nan
    return counts


def examine(panel: Panel, source: Source | None = None) -> Manifest:
    """Everything that a reader of results has to know about the data.

    Raises DataError where no name is a member on any day.
    """
    source = source or Source()
    days, names = panel.shape
    present = source.present
    if present is None:
        present = np.logical_or.reduce([~np.isnan(values) for values in panel.fields.values()])
    jumps, largest = _jumps(panel)
    rows = np.flatnonzero(present.any(axis=1))
    first_row, last_row = present.argmax(axis=0), days - 1 - present[::-1].argmax(axis=0)
    listed = present.any(axis=0)
    life = int((last_row - first_row + 1)[listed].sum())
    ends_early = int(np.count_nonzero(last_row[listed] < rows[-1])) if len(rows) else 0
    membership = _membership(panel, source)
    known = None
    if panel.borrow is not None:
        known = float(np.count_nonzero(~np.isnan(panel.borrow) & panel.member) / np.count_nonzero(panel.member))
    nulls = source.null_cells
    if nulls is None:
        nulls = {name: int(np.count_nonzero(np.isnan(values) & present)) for name, values in panel.fields.items()}
    counts: dict[str, int] = {
        "ohlc_violations": _ohlc_violations(panel.fields),
        "duplicates": source.duplicates,
        "unsorted": source.unsorted,
        "jumps": jumps,
        "zero_volume": int(np.count_nonzero(panel.fields["volume"] == 0)),
        "holes": life - int(np.count_nonzero(present)),
        "ends_early": ends_early,
    }
    found = {**counts, "null_cells": sum(nulls.values()), "non_positive": sum(source.non_positive.values())}
    notes = [f"{name}: {found[name]}, {words}" for name, words in DONE.items() if found[name]]
    survivorship: Literal["likely", "none seen"] = "likely" if not ends_early or source.without_prices else "none seen"
    if survivorship == "likely":
        notes.append(_survivorship_note(ends_early, source.without_prices))
    return Manifest(
        digest=panel.digest,
        files=source.files,
        first=str(panel.dates[0]),
        last=str(panel.dates[-1]),
        days=days,
        names=names,
        rows=int(np.count_nonzero(present)),
        fields=tuple(panel.fields),
        ignored=source.ignored,
        groups={level: _group_sizes(panel, level) for level in panel.groups},
        null_cells={name: count for name, count in nulls.items() if count},
        non_positive=dict(source.non_positive),
        largest_jumps=largest,
        membership=membership,
        survivorship=survivorship,
        borrow_known=known,
        notes=(*source.notes, *notes),
        **counts,
    )


def _ohlc_violations(fields: Mapping[str, Floats]) -> int:
    """Rows in which the high is below the low, or the open or the close is outside of the two."""
    high, low = fields["high"], fields["low"]
    wrong = high < low
    for name in ("open", "close"):
        wrong |= (fields[name] > high) | (fields[name] < low)
    return int(np.count_nonzero(wrong))


def _jumps(panel: Panel) -> tuple[int, tuple[Jump, ...]]:
    """How many closes moved by more than ``JUMP`` since the name's previous close, and the largest of them."""
    close = panel.fields["close"]
    column, row = np.nonzero(~np.isnan(close.T))  # by name, then by day
    price = close[row, column]
    move = price[1:] / price[:-1] - 1
    jumped = np.flatnonzero((column[1:] == column[:-1]) & (np.abs(move) > JUMP))
    largest = jumped[np.argsort(-np.abs(move[jumped]), kind="stable")][:LISTED]
    listed = [
        Jump(date=str(panel.dates[row[i + 1]]), name=panel.names[column[i]], move=round(float(move[i]), 6))
        for i in largest
    ]
    return len(jumped), tuple(sorted(listed, key=lambda jump: (jump.date, jump.name)))


def _membership(panel: Panel, source: Source) -> Membership:
    a_day = panel.member.sum(axis=1)
    if not a_day.any():
        raise DataError(
            f"no name of the panel ({panel.names[0]} to {panel.names[-1]}) is a member on any day",
            "Check that the membership names instruments as the panel does, and that its dates fit.",
        )
    return Membership(
        snapshots=source.snapshots,
        first=source.first_snapshot,
        least_a_day=int(a_day.min()),
        mean_a_day=round(float(a_day.mean()), 2),
        most_a_day=int(a_day.max()),
        never_members=int(np.count_nonzero(~panel.member.any(axis=0))),
        without_prices=source.without_prices,
    )


def _group_sizes(panel: Panel, level: str) -> dict[str, int]:
    codes, counts = np.unique(panel.groups[level], return_counts=True)
    words = {UNKNOWN: "", **dict(enumerate(panel.group_names[level]))}
    return {words[int(code)]: int(count) for code, count in zip(codes, counts, strict=True)}


def _survivorship_note(ends_early: int, without_prices: int) -> str:
    reasons = []
    if not ends_early:
        reasons.append("the prices of every name go on to the last day")
    if without_prices:
        reasons.append(f"{without_prices} members have no prices")
    return (
        f"survivorship is likely: {' and '.join(reasons)}; names that were removed are missing, so returns look better"
    )
