"""The artifacts of an alpha campaign, small and in agreement with each other: metrics follow from the daily returns."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windlass.records.run import RunSpec
from windlass.runs.folder import RunFolder, read_json
from windlass.workloads.alpha.artifacts import METRICS

Floats = NDArray[np.float64]

CAMPAIGN = "20261121T200000Z_momentum_0a1b2c3d4e"
OPENING = "20261121T210000Z_opening_4e5f6a7b8c"
EXPRESSIONS = (
    "rank(ts_mean(volume, 5) / adv(20)) * -rank(delta(close, 5))",
    "group_neutralize(-ts_corr(rank(high), rank(volume), 10), sector)",
    "zscore(close / ts_max(high, 60))",
    "-ts_std(returns, 20) * sign(delta(close, 21))",
)
SIGNS = (1, 1, -1, 1)  #: of the first alphas
FIRST = date(2015, 3, 2)  #: out-of-sample day
CONTROLS = {"nothing": 0.0, "sector": 0.21, "beta": -0.08, "volatility_target": 0.1, "turnover_cap": -0.3}


def campaign_folder(
    root: Path, *, mode: str = "p2", grade: str = "none", alphas: int = 4, opened: int = 0
) -> RunFolder:
    """A campaign's run under ``root``; ``grade`` is the first alpha's. In p0 there are no portfolios."""
    folder = RunFolder(root / CAMPAIGN)
    artifacts = folder.artifacts
    (artifacts / "daily").mkdir(parents=True)
    rng = np.random.default_rng(11)
    names = [f"A{i + 1:03}" for i in range(alphas)]
    metrics = [_trial(rng, i, mode) for i in range(60)]
    if mode != "p0":
        for place, name in enumerate(names):
            daily = _daily(rng, 375, drift=0.0008 - 0.0001 * place)
            write_csv(artifacts / "daily" / f"{name}_oos_daily.csv", daily)
            metrics[place] |= _figures(daily)
        _analyses(artifacts, names, metrics, rng)
    write_csv(artifacts / "alpha_metrics.csv", metrics, METRICS)
    gate = _gate(mode, names if mode == "p2" else [], metrics, grade, opened, rng)
    write_json(artifacts / "gate.json", gate)
    write_json(
        artifacts / "sota_alphas.json",
        [{"alpha_id": row["alpha_id"], "sign": sign} for row, sign in zip(metrics, SIGNS[:alphas], strict=False)],
    )
    write_json(artifacts / "data_manifest.json", manifest())
    return folder


def opening_folder(root: Path, *, grade: str = "none") -> RunFolder:
    """The run that opens the holdout of :func:`campaign_folder`'s run under the same root."""
    folder = RunFolder(root / OPENING)
    folder.create(RunSpec(id=OPENING, name="opening", config={"campaign": CAMPAIGN}, seed=7, created=0.0))
    (folder.artifacts / "daily").mkdir(parents=True)
    rng = np.random.default_rng(12)
    daily = _daily(rng, 360, drift=-0.0001, start=date(2016, 9, 1))
    write_csv(folder.artifacts / "daily" / "A001_holdout_daily.csv", daily)
    row = _trial(rng, 0, "p2") | _figures(daily) | {"holdout_t": -0.31}
    row["holdout_ir"] = row["net_ir"]
    write_csv(folder.artifacts / "holdout_metrics.csv", [row])
    clause = {
        "name": "holdout_t",
        "passed": grade != "none",
        "value": -0.31,
        "limit": 1.645,
        "words": "holdout t -0.31",
    }
    gate = _gate("p2", ["A001"], [row], grade, 1, rng)
    gate["verdicts"][0]["clauses"].append(clause)
    if (campaign := read_json(root / CAMPAIGN / "artifacts" / "gate.json")) is not None:
        gate["best"] = campaign["best"]
    write_json(folder.artifacts / "gate.json", gate)
    return folder


def manifest(**changes: Any) -> dict[str, Any]:
    return {
        "digest": "5f" * 32,
        "files": [{"role": "data", "name": "panel.parquet", "bytes": 8_700_000, "sha256": "ab" * 32}],
        "first": "2013-02-08",
        "last": "2018-02-07",
        "days": 1259,
        "names": 505,
        "rows": 619_040,
        "fields": ["open", "high", "low", "close", "volume"],
        "ignored": [],
        "groups": {"sector": {"Energy": 32, "Utilities": 28}},
        "ohlc_violations": 12,
        "null_cells": {"open": 11, "high": 8, "low": 8},
        "non_positive": {},
        "duplicates": 0,
        "unsorted": 0,
        "jumps": 2,
        "largest_jumps": [
            {"date": "2015-07-01", "name": "BAX", "move": -0.451},
            {"date": "2015-07-20", "name": "EBAY", "move": -0.5703},
        ],
        "zero_volume": 4,
        "holes": 0,
        "ends_early": 0,
        "membership": {
            **{"snapshots": 19, "first": "2013-02-15", "least_a_day": 372, "mean_a_day": 441.5, "most_a_day": 505},
            **{"never_members": 3, "without_prices": 128},
        },
        "survivorship": "likely",
        "borrow_known": None,
        "notes": ["ohlc_violations: 12, kept", "survivorship is likely: 128 members have no prices"],
        **changes,
    }


def _trial(rng: np.random.Generator, number: int, mode: str) -> dict[str, Any]:
    rank_ic = float(rng.normal(0, 0.006))
    expression = EXPRESSIONS[number % 4] if number < 4 else f"rank(delta(close, {number}))"
    row: dict[str, Any] = dict.fromkeys(METRICS, "")
    row |= {"alpha_id": f"A{number + 1:03}", "mode": mode, "ic": rank_ic * 0.8, "rank_ic": rank_ic}
    row |= {"ic_hac_t": rank_ic / 0.003, "icir": rank_ic * 9, "expr_hash": f"{number:016x}", "expression": expression}
    row["proposer"] = ("cookbook", "grammar", "mutation", "crossover")[number % 4]
    if mode != "p0":
        gross = float(rng.normal(0, 0.7))
        row |= {"gross_ir": gross, "net_ir": gross - 1.1, "information_ratio": gross - 1.1, "turnover_1way": 0.11}
    return row


def _daily(
    rng: np.random.Generator, days: int, *, drift: float, start: date = date(2015, 3, 2)
) -> list[dict[str, Any]]:
    gross = rng.normal(drift, 0.004, days)
    turnover = np.abs(rng.normal(0.06, 0.01, days))
    costs = {"linear": turnover * 2e-4, "spread": turnover * 5e-4, "impact": turnover**1.5 * 3e-4}
    costs["borrow"] = np.full(days, 0.5 * 0.003 / 252)
    net = gross.copy()
    for cost in costs.values():
        net = net - cost
    return [
        {"date": str(start + timedelta(days=i)), "segment": i // 63, "sign": 1, "gross": float(gross[i])}
        | {name: float(cost[i]) for name, cost in costs.items()}
        | {"net": float(net[i]), "turnover": float(turnover[i]), "exposure": 1.0}
        for i in range(days)
    ]


def _figures(daily: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What the metrics table says about these days."""
    gross, net = (np.array([day[name] for day in daily]) for name in ("gross", "net"))
    turnover = float(np.mean([day["turnover"] for day in daily]))
    return {
        "gross_ir": _sharpe(gross),
        "net_ir": _sharpe(net),
        "information_ratio": _sharpe(net),
        "turnover_1way": turnover,
        "holding_days": 5.0,
        "capacity_usd_half_ir": 42e6,
        "breakeven_cost_bps": float(gross.mean() / (2 * turnover) * 1e4),
        "maxt_p": 0.254,
        "placebo_p": 0.318,
        "max_corr_sota": 0.12,
    }


def _sharpe(returns: Floats) -> float:
    return float(returns.mean() / returns.std(ddof=1) * math.sqrt(252))


def _analyses(
    artifacts: Path, names: Sequence[str], metrics: Sequence[dict[str, Any]], rng: np.random.Generator
) -> None:
    top = list(zip(names, metrics, strict=False))
    lags = [
        {"alpha_id": name, "kind": "ic", "days": lag, "ic": 0.008 * 0.8**lag, "ic_hac_t": 3.1 * 0.8**lag}
        | {
            "rank_ic": SIGNS[place] * (0.011 - 0.002 * place) * 0.85**lag,
            "rank_ic_hac_t": 3.3 * 0.85**lag,
            "net_ir": math.nan,
        }
        for place, name in enumerate(names)
        for lag in range(1, 21)
    ]
    held = [
        {"alpha_id": name, "kind": "holding", "days": days, "net_ir": float(row["net_ir"]) - 0.05 * abs(days - 5)}
        for name, row in top
        for days in (1, 2, 5, 10, 20)
    ]
    write_csv(artifacts / "decay_analysis.csv", [*lags, *held])
    cost = {name: float(row["gross_ir"]) - float(row["net_ir"]) for name, row in top}
    multiples = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
    scaled = [(name, row, m) for name, row in top for m in multiples]
    write_csv(
        artifacts / "cost_sensitivity.csv",
        [{"alpha_id": n, "multiple": m, "net_ir": float(row["gross_ir"]) - m * cost[n]} for n, row, m in scaled],
    )
    write_csv(
        artifacts / "cost_sensitivity_break_even.csv",
        [{"alpha_id": name, "breakeven_cost_bps": row["breakeven_cost_bps"]} for name, row in top],
    )
    grid = [
        {"alpha_id": name, "kind": "grid", "assets": aum}
        | {"net_ir": float(row["gross_ir"]) - cost[name] * (aum / 10e6) ** 0.4}
        for name, row in top
        for aum in (1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9, 3e9, 1e10)
    ]
    half = [
        {"alpha_id": name, "kind": "half", "assets": 42e6, "net_ir": float(row["gross_ir"]) / 2} for name, row in top
    ]
    write_csv(artifacts / "capacity.csv", [*grid, *half])
    write_csv(
        artifacts / "ablation_results.csv",
        [
            {"alpha_id": name, "without": control, "net_ir": float(row["net_ir"]) + change}
            for control, change in CONTROLS.items()
            for name, row in top
        ],
    )
    pairs = [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]
    write_csv(
        artifacts / "alpha_correlation.csv",
        [{"a": one, "b": other, "correlation": float(rng.uniform(-0.3, 0.69))} for one, other in pairs],
    )
    paths = [
        {"alpha_id": name, "kind": "path", "number": path, "net_ir": float(row["net_ir"]) + float(rng.normal(0, 0.4))}
        for name, row in top
        for path in range(1, 6)
    ]
    splits = [{"alpha_id": name, "kind": "split", "number": 1, "groups": "1+2", "net_ir": 99.0} for name in names]
    write_csv(artifacts / "cpcv.csv", [*splits, *paths])
    rebalances = [_rebalance(i, str(FIRST + timedelta(days=7 * i))) for i in range(30)]
    write_csv(artifacts / "optimizer.csv", rebalances)
    write_csv(artifacts / "optimizer_daily.csv", _daily(rng, 150, drift=0.0004))


def _rebalance(number: int, day: str) -> dict[str, Any]:
    infeasible = number in (4, 9)
    box = "; box 0.0004 (7 names: AAPL, BRK.B, C, D, E and 2 more)" if number % 2 else ""
    binding = "" if infeasible else f"turnover {9e-04 if box else 1.1e-3:.3g}{box}"
    return {
        **{"date": day, "row": 5 * number, "status": "infeasible" if infeasible else "solved", "gross": 0.98},
        **{"turnover": 0.2, "dollar": 1e-9, "sector": 2e-9, "beta": 3e-9, "binding": binding, "objective": 2e-4},
        "advice": "feasible with turnover 0.2 -> 0.2451" if infeasible else "",
    }


def _gate(
    mode: str,
    names: Sequence[str],
    metrics: Sequence[Mapping[str, Any]],
    grade: str,
    opened: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    null_t = np.sort(np.abs(rng.normal(2.8, 0.45, 1000)))
    null = np.abs(rng.normal(1.0, 0.15, 632))
    promoted = grade != "none"
    return {
        "mode": mode,
        "data": "5f" * 32,
        "window": ["2013-02-08", "2016-06-27"],
        "holdout": {"first": "2016-09-01", "last": "2018-02-07", "opened": opened},
        "trials": {"this_run": 60, "earlier": 140, "counted": 400, "registry_bytes": 81_234},
        "max_t": {
            "critical": float(np.quantile(null_t, 0.95)),
            "observed_max": 3.1,
            "null": np.quantile(null_t, np.linspace(0, 1, 101)).tolist(),
        }
        if mode == "p2"
        else None,
        "placebo": {"observed_max": 1.09, "null": null.tolist(), "p": float((null >= 1.09).mean())}
        if mode == "p2"
        else None,
        "dsr": 0.281 if mode == "p2" else None,
        "pbo": 0.38 if mode == "p2" else None,
        "spa": {"lower": 0.021, "consistent": 0.0301, "upper": 0.54} if mode == "p2" else None,
        "best": {
            "alpha_id": "A001",
            "expression": EXPRESSIONS[0],
            "gross_sharpe": metrics[0]["gross_ir"],
            "net_sharpe": metrics[0]["net_ir"],
            "t": 3.1,
        }
        if mode != "p0"
        else None,
        "verdicts": [_verdict(name, EXPRESSIONS[i % 4], grade if not i else "none") for i, name in enumerate(names)],
        "words": f"{'A001 is promoted' if promoted else 'Nothing promoted'}: 400 trials, both signs.",
        "power": "With 845 development days a gross IC of 0.008 is found 42 % of the time.",
    }


def _verdict(name: str, expression: str, grade: str) -> dict[str, Any]:
    good = grade != "none"
    p = 0.012 if good else 0.254
    words = f"max-t p {p:.3f} over 400 trials, {'below' if good else 'not below'} 0.05"
    clauses: Iterable[dict[str, Any]] = (
        {"name": "max_t", "passed": good, "value": p, "limit": 0.05, "words": words},
        {
            "name": "net at 2x costs",
            "passed": good,
            "value": -0.42,
            "limit": 0,
            "words": "net Sharpe -0.42",
        },
        {
            "name": "correlation",
            "passed": True,
            "value": 0.12,
            "limit": 0.7,
            "words": "0.12 with a kept factor",
        },
        {"name": "truncation", "passed": None, "value": None, "limit": None, "words": "not needed: refused before"},
    )
    said = f"Promoted, grade {grade}: it holds." if grade in ("A", "B") else f"Not promoted: {words}."
    if grade == "provisional":
        said = "Provisional after 400 trials: the holdout decides."
    return {"alpha_id": name, "hash": "0" * 16, "expression": expression, "grade": grade, "words": said} | {
        "clauses": list(clauses)
    }


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    names = columns or list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, allow_nan=False), encoding="utf-8")
