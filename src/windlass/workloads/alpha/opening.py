"""The job that opens the holdout of a campaign: the only code that looks at those days.

That it looks is entered in the registry of factors first. What is judged is what the campaign found provisional, with
the sign and the parameters that it had; where it found nothing, its best factor is shown, and cannot be promoted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from windlass.errors import DataError
from windlass.records.options import read
from windlass.runs.folder import RunFolder, read_json
from windlass.workloads.alpha import ledger, reporting
from windlass.workloads.alpha.artifacts import METRICS, csv_file, json_file, read_columns
from windlass.workloads.alpha.campaign import Campaign
from windlass.workloads.alpha.counting import TRIALS_FILE, kept, searched_days
from windlass.workloads.alpha.engine.engine import Engine
from windlass.workloads.alpha.evaluation.backtest import Evaluation, evaluate
from windlass.workloads.alpha.evaluation.market import Market
from windlass.workloads.alpha.gate.verdict import Verdict, alike_by_now, searched
from windlass.workloads.alpha.judging import through_holdout
from windlass.workloads.alpha.panel import Floats, Panel
from windlass.workloads.alpha.run import counted_bytes, prepared, refuse_changed_data
from windlass.workloads.alpha.search.search import Candidate
from windlass.workloads.alpha.spec import Opening

if TYPE_CHECKING:
    from windlass.runs.sdk import Run


def open_holdout(config: Mapping[str, Any], run: Run) -> dict[str, float]:
    """Judge on the sealed days; see docs/alpha.md for the files.

    Raises DataError where the campaign's files are gone or the panel is another one.
    """
    asked = read(Opening, config, "config")
    settings = asked.settings
    refuse_changed_data(config["workload"], run)
    left = RunFolder(run.path.parent / asked.campaign).artifacts
    before, factors = read_json(left / reporting.GATE_FILE), read_json(left / reporting.SOTA_FILE)
    if not isinstance(before, dict) or not isinstance(factors, list) or not factors:
        raise DataError(f"the files of campaign {asked.campaign} are gone or damaged", f"ls -l {left}")
    with threadpool_limits(1):
        panel, manifest, times = prepared(settings)
        if panel.digest != before["data"]:
            raise DataError(
                f"the panel is {panel.digest[:12]}, and the campaign was on {before['data'][:12]}", "Restore the files."
            )
        book = ledger.Ledger(run.path.parent / ledger.LEDGER_FILE)
        until = counted_bytes(run, book)
        days = reporting.sealed_days(times, panel)
        market, engine = Market.of(panel, settings), Engine(panel, settings.workload.engine)
        campaign = Campaign(panel, times, settings, run.seed, market=market, engine=engine)
        verdicts, series = _as_it_was(campaign, left, before, factors)
        others = kept(book, until, campaign, run.path.parent)
        seen = searched_days(book, until, panel.market, days[0])
        verdicts = [searched(alike_by_now(one, series[one.hash], others), seen) for one in verdicts]
        chosen = _chosen(factors, verdicts, asked.top)
        entry = ledger.Opened(
            at=time.time(),
            run=run.id,
            data=panel.market,
            of=asked.campaign,
            window=days,
            hashes=tuple(one["hash"] for one in chosen),
        )
        book.append_once([entry])
        opened = _number(run, book, panel)
        by_hash = {one["hash"]: one for one in factors}

        def look(digest: str) -> Evaluation:
            signal = engine.signal(campaign.read(by_hash[digest]["expression"]))
            return evaluate(signal, market, times, settings, rows="holdout", sign=int(by_hash[digest]["sign"]))

        hashes = [one["hash"] for one in chosen]
        seen_factors, judged = through_holdout(verdicts, hashes, look)
        found = {by_hash[digest]["alpha_id"]: one for digest, one in seen_factors.items()}
        told = [
            ledger.Judged(
                standing="promoted" if one.grade in ("A", "B") else "refused",
                at=time.time(),
                run=asked.campaign,
                hash=one.hash,
                grade=one.grade,
                reasons=(one.words,),
            )
            for one in judged
            if one.hash in hashes and one.grade != "provisional"
        ]
        book.append_once(told)
        holdout = {"first": days[0], "last": days[1], "opened": opened, "searched": seen, "campaign": asked.campaign}
        gate = {
            **before,
            "holdout": holdout,
            "trials": {**before["trials"], "registry_bytes": until},
            "verdicts": [reporting.verdict_dict(by_hash[one.hash]["alpha_id"], one) for one in judged],
            "words": _words(judged, chosen, found, opened),
        }
        for name, evaluation in found.items():
            assert evaluation.daily is not None
            reporting.daily_file(run, f"{name}_holdout", evaluation.daily)
        reporting.manifest(run, manifest, days[1])
        csv_file(run, "holdout_metrics.csv", list(_rows(chosen, found, judged)), METRICS)
        json_file(run, reporting.GATE_FILE, gate)
    first = found[chosen[0]["alpha_id"]].metrics
    metrics = {name: first[name] for name in ("holdout_ir", "holdout_t", "gross_ir", "net_ir")}
    metrics |= {name: int(chosen[0]["sign"]) * first[name] for name in ("ic", "rank_ic")}
    promoted = sum(one.grade in ("A", "B") for one in judged)
    return {**metrics, "promoted": float(promoted), "opened": float(opened)}


def _as_it_was(
    campaign: Campaign, left: Path, before: Mapping[str, Any], factors: Sequence[Mapping[str, Any]]
) -> tuple[list[Verdict], dict[str, Floats]]:
    """The campaign's verdicts, and the series of its factors by hash, which still have to come out as they did.

    Raises DataError where another version of Windlass, or of a library, makes other series of the same expressions.
    """
    wanted = [one["hash"] for one in factors]
    _, kept_series = read_columns(left / TRIALS_FILE, wanted)
    for one in factors:
        again = campaign.trial(Candidate.of(campaign.read(one["expression"]), "grammar")).base
        if one["hash"] not in kept_series or not np.array_equal(again, kept_series[one["hash"]]):
            raise DataError(
                f"{one['expression']} does not give the returns that the campaign left: code, libraries or machine"
                " differ",
                "Run the campaign again, then open that one.",
            )
    verdicts = [Verdict.from_dict({k: v for k, v in one.items() if k != "alpha_id"}) for one in before["verdicts"]]
    return verdicts, {name: series.astype(np.float64) for name, series in kept_series.items()}


def _number(run: Run, book: ledger.Ledger, panel: Panel) -> int:
    """The how-manieth opening of this panel's holdouts this run is; a replay has its original's number."""
    original = run.spec.lineage.get("replay_of")
    gate = read_json(RunFolder(run.path.parent / original).artifacts / reporting.GATE_FILE) if original else None
    if isinstance(gate, dict):
        return int(gate["holdout"]["opened"])
    runs = dict.fromkeys(one.run for one in book.openings(panel.market))
    return list(runs).index(run.id) + 1


def _rows(
    chosen: Sequence[Mapping[str, Any]], found: Mapping[str, Evaluation], judged: Sequence[Verdict]
) -> Iterator[dict[str, Any]]:
    by_hash = {one.hash: one for one in judged}
    for one in chosen:
        if one["alpha_id"] in found:
            verdict = by_hash[one["hash"]]
            about = {"alpha_id": one["alpha_id"], "mode": "p2", "expr_hash": one["hash"], "proposer": one["proposer"]}
            told = {"expression": one["expression"], "verdict": verdict.grade, "reasons": verdict.words}
            yield {**found[one["alpha_id"]].metrics, **about, **told}


def _chosen(factors: list[dict[str, Any]], verdicts: list[Verdict], top: int) -> list[dict[str, Any]]:
    """The provisional ones, the largest |t| first; without any, the best in sample."""
    by_hash = {one["hash"]: one for one in factors}
    passed = [by_hash[one.hash] for one in verdicts if one.grade == "provisional" and one.hash in by_hash]
    return passed[:top] or factors[:1]


def _words(judged: list[Verdict], chosen: list[dict[str, Any]], found: Mapping[str, Evaluation], opened: int) -> str:
    times = "once" if opened == 1 else f"{opened} times"
    promoted = [one for one in judged if one.grade in ("A", "B")]
    if promoted:
        named = "; ".join(f"{one.expression} (grade {one.grade})" for one in promoted)
        return f"{len(promoted)} promoted, with the holdout opened {times} by now: {named}."
    best, metrics = chosen[0], found[chosen[0]["alpha_id"]].metrics
    was = best["metrics"]
    return (
        f"Nothing is promoted, with the holdout opened {times} by now. {best['expression']}: Sharpe ratio gross"
        f" {was['gross_ir']:.2f}, net {was['net_ir']:.2f} in sample; {metrics['gross_ir']:.2f} and"
        f" {metrics['net_ir']:.2f} on the holdout, t {metrics['holdout_t']:.2f}."
    )
