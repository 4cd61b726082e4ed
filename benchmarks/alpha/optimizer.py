"""CPU seconds of a rebalance: the convex problem solved again, and the closed form beside it.

``python benchmarks/alpha/optimizer.py [--names 505] [--days 1259] [--json]``. On one thread, a made-up market of that
shape: a factor, 11 sectors, slow signals, 2 % of the cells not tradable. Weekly rebalances, each with its risk model
from 252 days; ``first`` is the one that compiles the problem. ``violation`` is the largest excess over any limit.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from windlass.workloads.alpha.optimizer.day import RISK_ROWS, Limits, day
from windlass.workloads.alpha.optimizer.problem import Convex
from windlass.workloads.alpha.optimizer.rebalancing import optimized

GOAL = 0.04  #: CPU seconds


def market(names: int, days: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    volatility = np.exp(random.normal(-4.2, 0.3, names)) * np.ones((days, 1))
    beta = random.normal(1, 0.3, names) + random.normal(0, 0.01, (days, names))
    groups = random.integers(0, 11, names).astype(np.int16)
    shared = random.normal(0, 0.008, (days, 1)) * beta + random.normal(0, 0.006, (days, 11))[:, groups]
    signal = np.zeros((days, names))
    for row in range(1, days):
        signal[row] = 0.95 * signal[row - 1] + random.normal(size=names)
    return {
        "signal": signal,
        "beta": beta,
        "volatility": volatility,
        "adv": np.exp(random.normal(17.5, 1, names)) * np.ones((days, 1)),
        "returns": shared + random.normal(size=(days, names)) * volatility,
        "groups": groups,
        "tradable": random.random((days, names)) > 0.02,
    }


def one_solve(inputs: dict[str, Any], limits: Limits) -> dict[str, float]:
    """The first solve, with the compilation; the mean of ten more of other days; the rest of a rebalance."""
    names = inputs["signal"].shape[1]
    rest = ("beta", "volatility", "adv", "tradable")
    began = time.process_time()
    days = [
        day(
            inputs["signal"][row],
            np.zeros(names),
            **{name: inputs[name][row] for name in rest},
            returns=inputs["returns"][row + 1 - RISK_ROWS : row + 1],
            limits=limits,
        )
        for row in range(RISK_ROWS, RISK_ROWS + 55, 5)
    ]
    prepared = time.process_time()
    problem = Convex(inputs["groups"], limits)
    problem.solve(days[0])
    compiled = time.process_time()
    for today in days[1:]:
        problem.solve(today)
    ended = time.process_time()
    return {
        "risk_model_and_day": (prepared - began) / 11,
        "first": compiled - prepared,
        "again": (ended - compiled) / 10,
    }


def violation(inputs: dict[str, Any], weights: Any, log: list[dict[str, Any]], limits: Limits) -> float:
    worst = 0.0
    sectors = np.unique(inputs["groups"])[:, None] == inputs["groups"]
    for entry in log:
        book = weights[entry["row"]]
        worst = max(
            worst,
            float(np.abs(book).sum()) - limits.gross,
            float(np.abs(book).max()) - limits.box,
            abs(float(book.sum())),
            float(np.abs(sectors @ book).max()),
            abs(float(inputs["beta"][entry["row"]] @ book)),
            0.0 if entry["from_flat"] else entry["turnover"] - limits.turnover,
        )
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=505)
    parser.add_argument("--days", type=int, default=1259)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    inputs = market(given.names, given.days)
    figures: dict[str, Any] = {"goal": GOAL, "names": given.names, "days": given.days}
    figures["solve"] = one_solve(inputs, Limits(aum=10e6))
    for method in ("convex", "ridge"):
        limits = Limits(aum=10e6, method=method)
        began = time.process_time()
        result = optimized(**inputs, settings=limits)
        seconds = time.process_time() - began
        figures[method] = {
            "rebalances": len(result.log),
            "cpu_seconds": seconds,
            "cpu_seconds_a_rebalance": seconds / len(result.log),
            "statuses": dict(Counter(entry["status"] for entry in result.log)),
            "violation": violation(inputs, result.weights, result.log, limits),
            "mean_gross": float(np.mean([entry["gross"] for entry in result.log])),
            "mean_turnover": float(np.mean([entry["turnover"] for entry in result.log])),
        }
    if given.json:
        print(json.dumps(figures))
        return
    solve = figures["solve"]
    print(f"{given.names} names x {given.days} days, CPU seconds of one thread; goal of a re-solve {GOAL}")
    print(f"first {solve['first']:.3f}  again {solve['again']:.4f}  day and risk {solve['risk_model_and_day']:.4f}")
    for method in ("convex", "ridge"):
        found = figures[method]
        print(
            f"{method:7} {found['rebalances']} rebalances {found['cpu_seconds']:.2f} s,"
            f" {found['cpu_seconds_a_rebalance']:.4f} each  {found['statuses']}"
            f"  largest violation {found['violation']:.1e}"
            f"  gross {found['mean_gross']:.2f}  turnover {found['mean_turnover']:.3f}"
        )


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
