"""The job that opens the holdout of a campaign: the only code that looks at those days.

That it looks is entered in the registry of factors first. What is judged is what the campaign found provisional, with
the sign and the parameters that it had; where it found nothing, its best factor is shown, and cannot be promoted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from windlass.errors import DataError
from windlass.records.options import read
from windlass.runs.folder import RunFolder, read_json
from windlass.workloads.alpha import ledger, reporting
from windlass.workloads.alpha.artifacts import METRICS, csv_file, json_file
from windlass.workloads.alpha.engine.engine import Engine
from windlass.workloads.alpha.evaluation.backtest import Evaluation, evaluate
from windlass.workloads.alpha.evaluation.market import Market
from windlass.workloads.alpha.evaluation.measures import sharpe
from windlass.workloads.alpha.gate.verdict import COSTS, Sealed, Verdict, final
from windlass.workloads.alpha.language.parse import parse
from windlass.workloads.alpha.run import prepared, refuse_changed_data, replayed_bytes
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
        verdicts = [Verdict.from_dict(_verdict(one)) for one in before["verdicts"]]
        chosen = _chosen(factors, verdicts, asked.top)
        days = reporting.sealed_days(times, panel)
        book = ledger.Ledger(run.path.parent / ledger.LEDGER_FILE)
        until = replayed_bytes(run) or book.size
        book.append(
            [
                ledger.Opened(
                    at=time.time(),
                    run=run.id,
                    data=panel.digest,
                    of=asked.campaign,
                    window=days,
                    hashes=tuple(one["hash"] for one in chosen),
                )
            ]
        )
        market, engine = Market.of(panel, settings), Engine(panel, settings.workload.engine)
        found = {
            one["alpha_id"]: evaluate(
                engine.signal(parse(one["expression"], fields=tuple(panel.fields))),
                market,
                times,
                settings,
                rows="holdout",
                sign=int(one["sign"]),
            )
            for one in chosen
        }
        sealed = {one["hash"]: _sealed(found[one["alpha_id"]]) for one in chosen}
        names = {one["hash"]: one["alpha_id"] for one in factors}
        judged = final(verdicts, sealed)
        opened = 1 + len(book.openings(panel.digest, until))
        words = _words(judged, chosen, found, opened)
        gate = {
            **before,
            "holdout": {"first": days[0], "last": days[1], "opened": opened, "campaign": asked.campaign},
            "trials": {**before["trials"], "registry_bytes": until},
            "verdicts": [reporting.verdict_dict(names[one.hash], one) for one in judged],
            "words": words,
        }
        rows = []
        for one in chosen:
            name, evaluation = one["alpha_id"], found[one["alpha_id"]]
            verdict = next((v for v in judged if v.hash == one["hash"]), None)
            told = {"verdict": verdict.grade, "reasons": verdict.words} if verdict else {}
            about = {
                "mode": "p2",
                "expr_hash": one["hash"],
                "expression": one["expression"],
                "proposer": one["proposer"],
            }
            rows.append({**evaluation.metrics, **about, **told, "alpha_id": name})
            assert evaluation.daily is not None
            reporting.daily_file(run, f"{name}_holdout", evaluation.daily)
        reporting.manifest(run, manifest)
        csv_file(run, "holdout_metrics.csv", rows, METRICS)
        json_file(run, reporting.GATE_FILE, gate)
        book.append(
            ledger.Judged(
                standing="promoted" if one.grade in ("A", "B") else "refused",
                at=time.time(),
                run=asked.campaign,
                hash=one.hash,
                grade=one.grade,
                reasons=(one.words,),
            )
            for one in judged
            if one.hash in sealed
        )
    first = found[chosen[0]["alpha_id"]].metrics
    metrics = {name: first[name] for name in ("holdout_ir", "holdout_t", "gross_ir", "net_ir")}
    metrics |= {name: int(chosen[0]["sign"]) * first[name] for name in ("ic", "rank_ic")}
    promoted = sum(one.grade in ("A", "B") for one in judged)
    return {**metrics, "promoted": float(promoted), "opened": float(opened)}


def _chosen(factors: list[dict[str, Any]], verdicts: list[Verdict], top: int) -> list[dict[str, Any]]:
    """The provisional ones, the largest |t| first; without any, the best in sample."""
    by_hash = {one["hash"]: one for one in factors}
    passed = [by_hash[one.hash] for one in verdicts if one.grade == "provisional" and one.hash in by_hash]
    return passed[:top] or factors[:1]


def _verdict(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "alpha_id"}


def _sealed(found: Evaluation) -> Sealed:
    assert found.daily is not None
    dear = sharpe(found.daily.gross - COSTS * found.daily.costs)
    return Sealed(t=found.metrics["holdout_t"], net_sharpe=dear)


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
