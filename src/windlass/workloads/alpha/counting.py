"""Which trials a gate has to count: those of this campaign, and all that were ever made on the same panel.

The series of an earlier trial are read from its run's files; where they are gone, or are of other days, its expression
is evaluated again, with this campaign's portfolio. So a run that was killed or removed still counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from windlass.errors import WindlassError
from windlass.records.content import digest
from windlass.runs.folder import RunFolder
from windlass.workloads.alpha import ledger
from windlass.workloads.alpha.artifacts import read_columns
from windlass.workloads.alpha.campaign import Campaign, Float32s, Trial
from windlass.workloads.alpha.evaluation.market import judged
from windlass.workloads.alpha.panel import Floats
from windlass.workloads.alpha.search.search import Candidate
from windlass.workloads.alpha.spec import Config, read_config

TRIALS_FILE, PLACEBO_FILE = "trials.parquet", "placebo.parquet"


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """The M trials that a gate counts, this campaign's first, in their order."""

    own: int
    again: int  #: earlier ones that had to be evaluated again
    lost: int  #: earlier ones that nothing can be said of: their expression is not understood (any more)
    bytes: int  #: of the registry, up to where it was counted
    bases: Float32s  #: (D, M)
    curves: Float32s  #: (M, S)

    @property
    def earlier(self) -> int:
        return int(self.bases.shape[1]) - self.own


def series_digest(config: Config) -> str:
    """Of what shapes a trial's series, besides expression, panel and days; alike in modes that hold alike."""
    shape = judged(config)
    held = {name: getattr(shape.portfolio, name) for name in ("holding", "weighting", "neutralize", "adv_floor")}
    if shape.portfolio.weighting == "quantile":
        held["quantile"] = shape.portfolio.quantile
    lending = [config.costs.borrow_rate, config.costs.no_short_above] if config.workload.mode == "p2" else []
    return digest([config.workload.fill, held, lending])[:16]


def window(campaign: Campaign) -> ledger.Window:
    """First and last day of the rows that a trial's series is of."""
    days = campaign.market.dates[campaign.timeline.scored]
    return str(days[0]), str(days[-1])


def count(
    campaign: Campaign,
    trials: Sequence[Trial],
    book: ledger.Ledger,
    until: int,
    data: str,
    runs_root: Path,
) -> Counted:
    """Count up to byte ``until`` of the registry ``book``; ``data`` is the panel's market."""
    shape = series_digest(campaign.config)
    mine = {(one.candidate.digest, shape) for one in trials}
    found: dict[tuple[str, str], tuple[Float32s, Float32s]] = {}
    again = lost = 0
    earlier = [one for one in book.trials(data, until) if (one.hash, one.portfolio) not in mine]
    for run in dict.fromkeys(one.run for one in earlier):
        folder = RunFolder(runs_root / run)
        kept = _kept(folder, campaign)
        its: Campaign | None = None
        for one in (one for one in earlier if one.run == run):
            key = (one.hash, one.portfolio)
            if key in found:
                continue
            if one.hash in kept:
                found[key] = kept[one.hash]
                continue
            its = its or _as_it_was(folder, campaign)
            if (one.hash, series_digest(its.config)) in mine:
                continue  # of a run that is gone: this campaign's own trial stands for it
            try:
                made = its.trial(Candidate.of(its.read(one.expr), "grammar"))
            except WindlassError:
                lost += 1
                continue
            found[key] = made.base, made.curve
            again += 1
    series = [(one.base, one.curve) for one in trials] + list(found.values())
    bases, curves = (np.stack(part) for part in zip(*series, strict=True))
    return Counted(len(trials), again, lost, until, bases.T, curves)


def _kept(folder: RunFolder, campaign: Campaign) -> Mapping[str, tuple[Float32s, Float32s]]:
    """Series and placebo curve by hash, of a run whose files are whole and of the same days; else nothing."""
    days: npt.NDArray[np.datetime64] = campaign.market.dates[campaign.timeline.scored]
    try:
        dates, bases = read_columns(folder.artifacts / TRIALS_FILE)
        _, curves = read_columns(folder.artifacts / PLACEBO_FILE)
    except (OSError, ValueError):
        return {}
    if len(dates) != len(days) or (dates.astype("datetime64[D]") != days).any():
        return {}
    return {name: (base, curves[name]) for name, base in bases.items() if name in curves}


def _as_it_was(folder: RunFolder, campaign: Campaign) -> Campaign:
    """For the trials of a run that is under way, was killed or saw other days: its config on this campaign's days.

    Of a run that is gone nobody knows the config; then it is this campaign's.
    """
    try:
        config = read_config(folder.spec().config)
    except WindlassError:
        return campaign
    return campaign if series_digest(config) == series_digest(campaign.config) else campaign.like(config)


def kept(book: ledger.Ledger, until: int | None, campaign: Campaign, runs_root: Path) -> dict[str, Floats]:
    """Daily returns of what is promoted, by expression, on the campaign's days; NaN on days that are not known of.

    A promotion names the campaign that it came from, whose files hold the series; where they are gone, the expression
    is evaluated again.
    """
    days = campaign.market.dates[campaign.timeline.scored]
    texts = {(one.run, one.hash): one.expr for one in book.read(until) if isinstance(one, ledger.Trial)}
    found: dict[str, Floats] = {}
    for one in book.kept(until):
        text = texts.get((one.run, one.hash), one.hash)
        series = np.full(len(days), np.nan)
        try:
            dates, bases = read_columns(RunFolder(runs_root / one.run).artifacts / TRIALS_FILE, [one.hash])
            _, here, there = np.intersect1d(days, dates.astype("datetime64[D]"), return_indices=True)
            series[here] = bases[one.hash][there]
        except (OSError, ValueError, KeyError):
            try:
                series = campaign.trial(Candidate.of(campaign.read(text), "grammar")).base.astype(np.float64)
            except WindlassError:
                continue
        found[text] = series
    return found


def searched_days(book: ledger.Ledger, until: int, data: str, first_sealed: str) -> int:
    """Distinct trials that were made on days which this campaign calls sealed: another campaign sealed fewer."""
    return sum(one.window[1] >= first_sealed for one in book.trials(data, until))
