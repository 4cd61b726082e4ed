"""What an alpha campaign left in its run's ``artifacts``, as data; so for the run that opened the holdout of one.

A file that is missing is an empty table; a cell that is empty or no number is NaN.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from windlass.errors import NotFound
from windlass.records.run import RUN_ID
from windlass.runs.folder import RunFolder, read_json

Floats = NDArray[np.float64]
Row = Mapping[str, str]  #: column -> cell, as written

COSTS = ("linear", "spread", "impact", "borrow")  #: what is taken from the gross return, in the order of the files
YEAR = 252  #: trading days
EXACT = 1e-12  #: gross minus all costs equals net within this, on every day
OOS, HOLDOUT = "_oos_daily.csv", "_holdout_daily.csv"
SIGNED = ("ic", "rank_ic", "ic_hac_t", "rank_ic_hac_t")  #: columns that change sign with the direction held
SHOWN = 5  #: alphas shown where the gate names none


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition of the gate."""

    name: str
    passed: bool | None  #: None: not judged
    value: Any
    limit: Any
    words: str


@dataclass(frozen=True, slots=True)
class AlphaVerdict:
    alpha_id: str
    expression: str
    grade: str  #: none, provisional, B, A
    clauses: tuple[Clause, ...]
    words: str

    @property
    def broken(self) -> tuple[Clause, ...]:
        return tuple(clause for clause in self.clauses if clause.passed is False)


@dataclass(frozen=True, slots=True, eq=False)
class Daily:
    """Daily returns of one alpha's portfolio, as shares of the capital, arrays of shape (days,)."""

    alpha_id: str
    dates: tuple[str, ...]  #: ISO
    gross: Floats
    costs: Mapping[str, Floats]  #: by name, positive
    net: Floats
    turnover: Floats  #: one-way

    @property
    def gap(self) -> float:
        """The largest absolute difference, over the days, of gross minus all costs from net; 0 without a day."""
        left = self.gross.copy()
        for cost in self.costs.values():
            left = left - cost
        return float(np.abs(left - self.net).max(initial=0.0))

    @property
    def adds_up(self) -> bool:
        return self.gap <= EXACT  # a NaN anywhere does not

    def attribution(self) -> dict[str, float]:
        """Mean a year (mean of a day times 252), as shares of the capital: gross, each cost, net."""
        return {
            name: float(series.mean()) * YEAR
            for name, series in (("gross", self.gross), *self.costs.items(), ("net", self.net))
        }

    def drawdown(self) -> Floats:
        """How far compounded net wealth lies below its peak so far, as a share of it; 0 or less. Shape (days,)."""
        wealth = np.concatenate([[1.0], np.cumprod(1.0 + self.net)])
        below: Floats = wealth / np.maximum.accumulate(wealth) - 1.0
        return below[1:]


def growth(returns: Floats) -> Floats:
    """Of the capital since before the first day, compounded. Shape (days,)."""
    return np.cumprod(1.0 + returns, dtype=np.float64) - 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class CampaignReport:
    """The data of a campaign's report; a file is read when it is first asked for."""

    artifacts: Path
    gate: Mapping[str, Any]  #: gate.json
    campaign: CampaignReport | None = None  #: of an opening: the campaign whose holdout it opened, where it is there

    @classmethod
    def read(cls, folder: RunFolder) -> Self | None:
        """None where the run is no alpha campaign: it has no ``artifacts/gate.json`` that a campaign wrote."""
        gate = read_json(folder.artifacts / "gate.json")
        if not (isinstance(gate, dict) and "mode" in gate and isinstance(gate.get("trials"), dict)):
            return None
        try:
            opened = folder.spec().config.get("campaign")
        except NotFound:
            opened = None
        campaign = None
        if isinstance(opened, str) and RUN_ID.fullmatch(opened) and opened != folder.id:
            campaign = cls.read(RunFolder(folder.path.parent / opened))
        return cls(artifacts=folder.artifacts, gate=gate, campaign=campaign)

    @property
    def run_id(self) -> str:
        return self.artifacts.parent.name

    @property
    def mode(self) -> str:
        return str(self.gate["mode"])

    @property
    def words(self) -> str:
        return str(self.gate.get("words") or "The gate gave no sentence.")

    @property
    def is_opening(self) -> bool:
        return (self.artifacts / "holdout_metrics.csv").is_file()

    @property
    def trial_counts(self) -> tuple[int, int, int]:
        """Of this run, of earlier runs on this data, and all as the gate counted them: each with both signs."""
        counts = self.gate["trials"]
        return tuple(int(counts.get(name) or 0) for name in ("this_run", "earlier", "counted"))  # type: ignore[return-value]

    @cached_property
    def verdicts(self) -> tuple[AlphaVerdict, ...]:
        """In the order in which the gate judged."""
        return tuple(
            AlphaVerdict(
                alpha_id=str(one.get("alpha_id", "")),
                expression=str(one.get("expression", "")),
                grade=str(one.get("grade", "none")),
                clauses=tuple(_clause(clause) for clause in one.get("clauses") or ()),
                words=str(one.get("words", "")),
            )
            for one in self.gate.get("verdicts") or ()
        )

    @property
    def best(self) -> Mapping[str, Any]:
        """The best in-sample; empty where nothing was judged."""
        best = self.gate.get("best")
        return best if isinstance(best, dict) else {}

    @cached_property
    def best_verdict(self) -> AlphaVerdict | None:
        named = (one for one in self.verdicts if one.alpha_id == self.best.get("alpha_id"))
        return next(named, self.verdicts[0] if self.verdicts else None)

    @cached_property
    def promoted(self) -> tuple[AlphaVerdict, ...]:
        return tuple(one for one in self.verdicts if one.grade in ("A", "B"))

    @cached_property
    def provisional(self) -> tuple[AlphaVerdict, ...]:
        return tuple(one for one in self.verdicts if one.grade == "provisional")

    @cached_property
    def trials(self) -> tuple[Row, ...]:
        """A row a trial, with the columns of ``alpha_metrics.csv``."""
        return self.table("alpha_metrics.csv")

    @cached_property
    def _closely(self) -> tuple[Mapping[str, Any], ...]:
        listed = read_json(self.artifacts / "sota_alphas.json")
        return tuple(one for one in listed if isinstance(one, dict)) if isinstance(listed, list) else ()

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Ids of the alphas that were looked at closely, the best first."""
        named = (str(one.get("alpha_id")) for one in self._closely)
        return tuple(dict.fromkeys([*named, *(one.alpha_id for one in self.verdicts)]))

    @cached_property
    def signs(self) -> Mapping[str, int]:
        """By alpha: 1 where what it ranks high is bought, -1 where that is sold; an opening's are its campaign's."""
        own = {str(one.get("alpha_id")): -1 if real(one, "sign") < 0 else 1 for one in self._closely}
        return own or (self.campaign.signs if self.campaign else {})

    def directed(self, row: Row, names: Sequence[str] = SIGNED) -> Row:
        """With information coefficients in the direction that is held: above 0 is good."""
        sign = self.signs.get(row.get("alpha_id", ""), 1)
        return {**row, **{name: repr(sign * real(row, name)) for name in names if row.get(name)}}

    @cached_property
    def top(self) -> tuple[Row, ...]:
        """Their rows, directed; where there are none, the first ones."""
        by_id = {row.get("alpha_id", ""): row for row in self.trials}
        found = [by_id[name] for name in self.order if name in by_id] or self.trials[:SHOWN]
        return tuple(self.directed(row) for row in found)

    @cached_property
    def daily(self) -> tuple[Daily, ...]:
        """Out-of-sample days of the walk-forward, an entry an alpha, the best first."""
        return self._daily(OOS)

    @cached_property
    def holdout_daily(self) -> tuple[Daily, ...]:
        return self._daily(HOLDOUT)

    @cached_property
    def holdout(self) -> tuple[Row, ...]:
        return tuple(self.directed(row) for row in self.table("holdout_metrics.csv"))

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """``data_manifest.json``; an opening's is its campaign's."""
        found = read_json(self.artifacts / "data_manifest.json")
        if isinstance(found, dict):
            return found
        return self.campaign.manifest if self.campaign else {}

    def table(self, name: str) -> tuple[Row, ...]:
        """The rows of a CSV file of the run."""
        return read_rows(self.artifacts / name)

    def _daily(self, ending: str) -> tuple[Daily, ...]:
        order = {name: place for place, name in enumerate(self.order)}
        files = {path.name.removesuffix(ending): path for path in (self.artifacts / "daily").glob(f"*{ending}")}
        names = sorted(files, key=lambda name: (order.get(name, len(order)), name))
        found = (read_daily(name, files[name]) for name in names)
        return tuple(one for one in found if one is not None)


def read_rows(path: Path) -> tuple[Row, ...]:
    """The rows of a CSV file; empty where it is missing."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple({name: cell or "" for name, cell in row.items() if name} for row in csv.DictReader(file))
    except OSError:
        return ()


def real(row: Mapping[str, Any], name: str) -> float:
    """A cell as a number."""
    value = row.get(name)
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return math.nan


def read_daily(alpha_id: str, path: Path) -> Daily | None:
    """None where the file has no day."""
    rows = read_rows(path)
    if not rows:
        return None

    def series(name: str) -> Floats:
        return np.array([real(row, name) for row in rows])

    return Daily(
        alpha_id=alpha_id,
        dates=tuple(row.get("date", "") for row in rows),
        gross=series("gross"),
        costs={name: series(name) for name in COSTS},
        net=series("net"),
        turnover=series("turnover"),
    )


def _clause(data: Mapping[str, Any]) -> Clause:
    passed = data.get("passed")
    return Clause(
        name=str(data.get("name", "")),
        passed=passed if isinstance(passed, bool) else None,
        value=data.get("value"),
        limit=data.get("limit"),
        words=str(data.get("words", "")),
    )
