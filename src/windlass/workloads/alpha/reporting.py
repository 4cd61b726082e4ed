"""What a campaign writes down, and the run that opens its holdout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from windlass.workloads.alpha import ledger
from windlass.workloads.alpha.artifacts import METRICS, columns_file, csv_file, json_file
from windlass.workloads.alpha.campaign import Campaign, Trial, placed
from windlass.workloads.alpha.counting import PLACEBO_FILE, TRIALS_FILE, Counted, searched_days, window
from windlass.workloads.alpha.evaluation import analysis
from windlass.workloads.alpha.evaluation.backtest import Daily
from windlass.workloads.alpha.evaluation.timeline import Timeline
from windlass.workloads.alpha.gate.placebo import shifts
from windlass.workloads.alpha.gate.verdict import Verdict
from windlass.workloads.alpha.judging import Judgement, alpha_id
from windlass.workloads.alpha.language.tree import lookback, size
from windlass.workloads.alpha.optimizer.combined import combined
from windlass.workloads.alpha.optimizer.day import Method
from windlass.workloads.alpha.optimizer.problem import available
from windlass.workloads.alpha.panel import Panel

if TYPE_CHECKING:
    from windlass.runs.sdk import Run

GATE_FILE, METRICS_FILE, SOTA_FILE = "gate.json", "alpha_metrics.csv", "sota_alphas.json"
QUANTILES = np.linspace(0, 1, 101)
POWER = (
    "Measured on five years of 505 names: where a slow factor with a daily information coefficient of 0.010 was among"
    " what a campaign tried, the gate and the holdout let it through in 84 % of 79 campaigns, with 0.015 in 97 %;"
    " without any signal something passed in 3 % of 216. Fewer names or days find less (windlass alpha selftest --data"
    " PANEL): that nothing is promoted does not prove that nothing is there."
)


def manifest(run: Run, found: Mapping[str, Any], until: str) -> None:
    """``data_manifest.json``, without the jumps of days after ``until``, which stay sealed."""
    jumps = [one for one in found["largest_jumps"] if one["date"] <= until]
    json_file(run, "data_manifest.json", {**found, "largest_jumps": jumps, "jumps_listed_until": until})


def campaign(
    run: Run,
    searched: Campaign,
    trials: Sequence[Trial],
    counted: Counted,
    judged: Judgement,
    panel: Panel,
    book: ledger.Ledger,
) -> None:
    """All files of a campaign's run, the manifest apart."""
    days = searched.market.dates[searched.timeline.scored]
    columns_file(run, TRIALS_FILE, ("date", days), {one.candidate.digest: one.base for one in trials})
    starts = shifts(len(days))
    columns_file(run, PLACEBO_FILE, ("shift", starts), {one.candidate.digest: one.curve for one in trials})
    csv_file(run, METRICS_FILE, list(_metric_rows(searched, trials, counted, judged)), METRICS)
    first, last = sealed_days(searched.timeline, panel)
    seen = searched_days(book, counted.bytes, panel.market, first)
    holdout = {"first": first, "last": last, "opened": openings(book, counted.bytes, panel), "searched": seen}
    if seen:
        run.note(f"{seen} trials of other campaigns saw days that this one seals: what passes here cannot be promoted")
    span = (window(searched)[0], last)
    others = [one.words for one in ledger.overlaps(book.read(counted.bytes), panel.market, span)]
    for words in others:
        run.note(words)
    json_file(run, GATE_FILE, gate(searched, counted, judged, panel, holdout, others))
    json_file(run, SOTA_FILE, [_sota(name, one, judged) for name, one in judged.named.items()])
    if searched.config.workload.mode != "p0":
        _closer_look(run, searched, judged)
    if searched.config.workload.mode == "p2" and searched.config.portfolio.optimizer != "off":
        _optimizer(run, searched, judged)


def gate(
    searched: Campaign,
    counted: Counted,
    judged: Judgement,
    panel: Panel,
    holdout: Mapping[str, Any],
    overlaps: Sequence[str],
) -> dict[str, Any]:
    """The content of gate.json."""
    max_t, placebo = judged.max_t, judged.placebo
    return {
        "mode": searched.config.workload.mode,
        "data": panel.digest,
        "market": panel.market,
        "overlaps": list(overlaps),
        "window": list(window(searched)),
        "holdout": dict(holdout),
        "trials": {
            "this_run": counted.own,
            "earlier": counted.earlier,
            "counted": 2 * (counted.own + counted.earlier),
            "not_understood": counted.lost,
            "registry_bytes": counted.bytes,
        },
        "max_t": {
            "critical": max_t.critical,
            "observed_max": max_t.observed_max,
            "null": np.quantile(max_t.null, QUANTILES),
        },
        "placebo": {
            "observed_max": placebo.observed_max,
            "null": placebo.null,
            "p": float(np.nanmin(placebo.p)) if np.isfinite(placebo.p).any() else None,
        },
        "dsr": judged.metrics.get("dsr"),
        "pbo": judged.pbo,
        "spa": {"lower": judged.spa.lower, "consistent": judged.spa.consistent, "upper": judged.spa.upper},
        "best": judged.best,
        "verdicts": [verdict_dict(judged.name_of(one.hash), one) for one in judged.verdicts],
        "words": judged.words,
        "power": POWER,
    }


def verdict_dict(name: str, verdict: Verdict) -> dict[str, Any]:
    return {"alpha_id": name, **verdict.to_dict()}


def daily_file(run: Run, name: str, daily: Daily) -> None:
    columns = ("segment", "sign", "gross", "linear", "spread", "impact", "borrow", "net", "turnover", "exposure")
    rows = [
        {"date": str(day), **{column: getattr(daily, column)[row] for column in columns}}
        for row, day in enumerate(daily.dates)
    ]
    csv_file(run, f"daily/{name}_daily.csv", rows, ("date", *columns))


def _metric_rows(
    searched: Campaign, trials: Sequence[Trial], counted: Counted, judged: Judgement
) -> Iterable[dict[str, Any]]:
    fitness = {one.candidate.digest: one.fitness for one in searched.scored(trials)}
    place = {one.candidate.digest: number for number, one in enumerate(trials)}
    for one in placed(trials):
        digest, number = one.candidate.digest, place[one.candidate.digest]
        verdict = judged.verdict_of(digest)
        yield {
            **one.metrics,
            "alpha_id": alpha_id(number),
            "mode": searched.config.workload.mode,
            "expr_hash": digest,
            "lookback": lookback(one.candidate.node),
            "nodes": size(one.candidate.node),
            "max_corr_sota": judged.likeness.get(digest),
            "n_trials": 2 * (counted.own + counted.earlier),
            "maxt_p": judged.max_t.p[number],
            "placebo_p": judged.placebo.p[number],
            "dsr": judged.dsr.get(digest),
            "pbo": judged.pbo,
            "spa_p": judged.spa.consistent,
            "quality_gate_passed": verdict is not None and verdict.grade != "none",
            "quality_gate_reasons": verdict.words if verdict else "not among the few that are looked at closely",
            "verdict": verdict.grade if verdict else "",
            "reasons": verdict.words if verdict else "",
            "expression": one.candidate.text,
            "proposer": one.candidate.proposer,
            "parents": one.candidate.parents,
            "fitness": fitness[digest],
            "sign": one.sign,
        }


def _sota(name: str, one: Trial, judged: Judgement) -> dict[str, Any]:
    verdict = judged.verdict_of(one.candidate.digest)
    return {
        "alpha_id": name,
        "expression": one.candidate.text,
        "hash": one.candidate.digest,
        "sign": one.sign,
        "proposer": one.candidate.proposer,
        "parents": list(one.candidate.parents),
        "metrics": dict(one.metrics),
        **({"verdict": verdict_dict(name, verdict)} if verdict else {}),
    }


def _closer_look(run: Run, searched: Campaign, judged: Judgement) -> None:
    """Daily files and the analyses of the few best, of development rows."""
    market, times = searched.market, searched.timeline
    signals = {name: searched.signal(one.candidate) for name, one in judged.named.items()}
    tables: dict[str, list[dict[str, Any]]] = {}

    def add(file: str, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        tables.setdefault(file, []).extend({"alpha_id": name, **row} for row in rows)

    for name, signal in signals.items():
        daily = judged.evaluations[name].daily
        assert daily is not None
        daily_file(run, f"{name}_oos", daily)
        add("decay_analysis.csv", name, analysis.decay(signal, market, times))
        add("cost_sensitivity.csv", name, analysis.cost_sensitivity(daily))
        add("cost_sensitivity_break_even.csv", name, [analysis.break_even(daily)])
        add("capacity.csv", name, analysis.capacity(signal, market, times))
        add("cpcv.csv", name, analysis.cpcv(signal, market, times))
    nets = {name: one.daily.net for name, one in judged.evaluations.items() if one.daily is not None}
    tables["alpha_correlation.csv"] = analysis.correlation(nets)
    if searched.config.workload.mode == "p2":
        tables["ablation_results.csv"] = analysis.ablation(signals, market.panel, times, searched.config)
    for file, rows in tables.items():
        csv_file(run, file, rows)


def _optimizer(run: Run, searched: Campaign, judged: Judgement) -> None:
    """A constrained portfolio of the few best, each with the signs that its walk chose."""
    market = searched.market
    method: Method = "ridge"
    if searched.config.portfolio.optimizer == "convex":
        if available():
            method = "convex"
        else:
            run.note("cvxpy is not installed: the portfolio is ridge's instead (pip install 'windlass[optimizer]')")
    rows = searched.timeline.walked
    signed = [
        (searched.signal(one.candidate)[rows], found.daily.sign)
        for one, found in zip(judged.named.values(), judged.evaluations.values(), strict=True)
        if found.daily is not None
    ]
    found = combined(signed, market, rows, method)
    csv_file(run, "optimizer.csv", [{**row, "prices": json.dumps(row["prices"])} for row in found.log])
    csv_file(run, "optimizer_daily.csv", found.daily)


def openings(book: ledger.Ledger, until: int, panel: Panel) -> int:
    """Runs that looked at a holdout of this panel; one that was killed and went on is one."""
    return len({one.run for one in book.openings(panel.market, until)})


def sealed_days(timeline: Timeline, panel: Panel) -> ledger.Window:
    """First and last day of the holdout."""
    days = panel.dates[timeline.sealed]
    return str(days[0]), str(days[-1])
