"""Small panels for tests, made with plain numpy in about a millisecond."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from windlass.workloads.alpha.panel import Panel

Floats = npt.NDArray[np.float64]


def weekdays(days: int, start: str = "2020-01-02") -> npt.NDArray[np.datetime64]:
    """So many working days in a row."""
    return np.busday_offset(np.datetime64(start, "D"), np.arange(days), roll="forward")


def small_panel(days: int = 120, names: int = 12, seed: int = 0, **changes: Any) -> Panel:
    """Random prices in three sectors, six industries and (up to) twelve subindustries; with ``cap``, without ``vwap``.

    The second name is listed late, the third ends early, the fourth has a hole of three days; the fifth leaves the
    universe for the middle third, the sixth joins after a quarter. Some cells of open and volume are NaN. Whole prices
    and volumes repeat, so that there are ties. ``changes`` replace the panel's attributes; ``fields`` and ``groups``
    are merged into what there is (None takes one away).
    """
    rng = np.random.default_rng([seed, days, names])
    close = 50 * np.exp(np.cumsum(0.02 * rng.standard_normal((days, names)), axis=0)) * np.linspace(0.5, 2, names)
    start = np.vstack([close[:1], close[:-1]]) * np.exp(0.01 * rng.standard_normal((days, names)))
    high = np.maximum(start, close) * np.exp(0.01 * rng.random((days, names)))
    low = np.minimum(start, close) * np.exp(-0.01 * rng.random((days, names)))
    volume = np.round(np.exp(rng.normal(13, 0.5, (days, names))), -3)
    fields: dict[str, Floats] = {"open": start, "high": high, "low": low, "close": close, "volume": volume}
    fields = {name: np.round(values, 2) for name, values in fields.items()}
    fields["cap"] = fields["close"] * np.round(np.exp(rng.normal(17, 1, names)))
    listed = np.ones((days, names), bool)
    listed[: days // 6, 1 % names] = False
    listed[days - days // 6 :, 2 % names] = False
    listed[days // 2 : days // 2 + 3, 3 % names] = False
    for values in fields.values():
        values[~listed] = np.nan
    fields["open"][rng.random((days, names)) < 0.003] = np.nan
    fields["volume"][rng.random((days, names)) < 0.003] = np.nan
    member = listed.copy()
    member[days // 3 : 2 * days // 3, 4 % names] = False
    member[: days // 4, 5 % names] = False
    codes = np.arange(names) % 12
    groups = {
        "sector": (codes // 4).astype(np.int16),
        "industry": (codes // 2).astype(np.int16),
        "subindustry": codes.astype(np.int16),
    }
    panel = Panel(
        dates=weekdays(days),
        names=tuple(f"N{i:04d}" for i in range(names)),
        fields=fields,
        groups=groups,
        group_names={name: tuple(f"{name} {i:02d}" for i in range(int(c.max()) + 1)) for name, c in groups.items()},
        member=member,
    )
    return changed(panel, **changes)


def changed(panel: Panel, **changes: Any) -> Panel:
    """The panel with other attributes; ``fields`` and ``groups`` are merged, None takes one away."""
    for part in ("fields", "groups"):
        if part in changes:
            merged = {**getattr(panel, part), **changes[part]}
            changes[part] = {name: values for name, values in merged.items() if values is not None}
    if "groups" in changes and "group_names" not in changes:
        named = {
            name: tuple(f"{name} {i:02d}" for i in range(int(c.max()) + 1)) for name, c in changes["groups"].items()
        }
        changes["group_names"] = {name: panel.group_names.get(name, named[name]) for name in named}
    return replace(panel, **changes)


def long_rows(panel: Panel) -> pl.DataFrame:
    """One row for every cell with any value: date, instrument, fields, groups, member (and borrow), by date."""
    day, column = np.nonzero(np.logical_or.reduce([~np.isnan(values) for values in panel.fields.values()]))
    frame: dict[str, Any] = {"date": panel.dates[day], "instrument": np.array(panel.names)[column]}
    frame |= {name: values[day, column] for name, values in panel.fields.items()}
    for level, codes in panel.groups.items():
        words = np.array([*panel.group_names[level], ""])
        frame[level] = words[codes[column]]
    frame["member"] = panel.member[day, column]
    if panel.borrow is not None:
        frame["borrow"] = panel.borrow[day, column]
    return pl.DataFrame(frame).with_columns(pl.col(pl.Float64).fill_nan(None))


def write_rows(rows: pl.DataFrame, path: Path) -> Path:
    """The rows as ``.csv``, ``.tsv`` or ``.parquet``, by the name of the file."""
    if path.suffix == ".parquet":
        rows.write_parquet(path)
    else:
        rows.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return path


def write_panel(panel: Panel, path: Path) -> Path:
    """The panel as a file that reads back to the same digest."""
    return write_rows(long_rows(panel), path)
