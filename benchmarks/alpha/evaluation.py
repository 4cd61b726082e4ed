"""Speed of evaluation: ``python benchmarks/alpha/evaluation.py [--data PANEL [--sectors FILE] [--membership FILE]]``.

Without a panel, a synthetic one of 505 names x 1,259 days. CPU seconds of one thread, best of ``--repeats``:

* what is made once per panel and config, in each mode and backend;
* one ``evaluate`` of a given signal, IC and rank IC among it, on all dev rows and costs on the walk's;
* the same with a turnover cap and a volatility target, and on the holdout;
* full evaluations of 20 expressions, the engine among it, without its cache;
* the tables of one of the best: decay, capacity, cross-validation, ablation.

The largest miss of gross - linear - spread - impact - borrow against net is printed too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from windlass.workloads.alpha.engine.engine import Engine
from windlass.workloads.alpha.engine.kernels import Backend, chosen
from windlass.workloads.alpha.evaluation import analysis
from windlass.workloads.alpha.evaluation.backtest import evaluate
from windlass.workloads.alpha.evaluation.market import Market
from windlass.workloads.alpha.evaluation.timeline import timeline
from windlass.workloads.alpha.language.formulaic import FORMULAIC_ALPHAS
from windlass.workloads.alpha.language.parse import parse
from windlass.workloads.alpha.language.tree import FORMULAIC, Node, groups
from windlass.workloads.alpha.panel import Panel
from windlass.workloads.alpha.reading import read_panel
from windlass.workloads.alpha.spec import Config, Mode, read_config
from windlass.workloads.alpha.synthetic import synthetic_panel

TWENTY = (1, 2, 3, 4, 5, 6, 8, 11, 13, 14, 15, 28, 34, 40, 57, 58, 72, 88, 100, 101)
SIGNAL = "-(close / delay(close, 5) - 1)"
CONTROLLED = {"turnover_cap": 0.05, "volatility_target": 0.05}


def best(work: Callable[[], Any], repeats: int) -> float:
    """Milliseconds."""
    least = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        least = min(least, time.process_time() - start)
    return round(least * 1000, 1)


def config(mode: Mode, backend: Backend, **portfolio: float) -> Config:
    return read_config({"workload": {"mode": mode, "engine": backend}, "portfolio": portfolio})


def expressions(panel: Panel) -> list[Node]:
    """Those of the 20 that the panel has the groups for; sectors stand for what is finer."""
    texts = [FORMULAIC_ALPHAS[n].replace("subindustry", "sector").replace("industry", "sector") for n in TWENTY]
    return [tree for tree in (parse(text, FORMULAIC) for text in texts) if groups(tree) <= panel.groups.keys()]


def modes(panel: Panel, backend: Backend, repeats: int) -> None:
    signal = Engine(panel, backend).signal(parse(SIGNAL))
    settings: list[tuple[str, Config]] = [
        ("p0", config("p0", backend)),
        ("p1", config("p1", backend)),
        ("p2", config("p2", backend)),
        ("p2, capped", config("p2", backend, **CONTROLLED)),
    ]
    for name, chosen_config in settings:
        line = timeline(len(panel.dates), 0.3, chosen_config.workload.walk, chosen_config.portfolio.holding)
        once = best(lambda c=chosen_config: Market.of(panel, c), 2)
        market = Market.of(panel, chosen_config)
        made = evaluate(signal, market, line, chosen_config)
        row: dict[str, Any] = {"backend": backend, "mode": name, "market_ms": once}
        row["evaluate_ms"] = best(lambda c=chosen_config, m=market, t=line: evaluate(signal, m, t, c), repeats)
        row["holdout_ms"] = best(
            lambda c=chosen_config, m=market, t=line: evaluate(signal, m, t, c, rows="holdout", sign=1), repeats
        )
        if made.daily is not None:
            row["largest_miss"] = float(np.abs(made.daily.gross - made.daily.costs - made.daily.net).max())
            row |= {key: round(made.metrics[key], 3) for key in ("rank_ic", "gross_ir", "net_ir", "turnover_1way")}
        print(json.dumps(row))


def full(panel: Panel, backend: Backend) -> None:
    trees = expressions(panel)
    for mode in ("p1", "p2"):
        settings = config(mode, backend)
        line = timeline(len(panel.dates), 0.3, settings.workload.walk, settings.portfolio.holding)
        head = panel.head(line.dev.stop)
        engine, market = Engine(head, backend, 0), Market.of(head, settings)
        start = time.process_time()
        for tree in trees:
            evaluate(engine.signal(tree), market, line, settings)
        spent = time.process_time() - start
        print(json.dumps({"backend": backend, "full": mode, "expressions_per_cpu_s": round(len(trees) / spent, 1)}))


def tables(panel: Panel, backend: Backend) -> None:
    signal, settings = Engine(panel, backend).signal(parse(SIGNAL)), config("p2", backend)
    line = timeline(len(panel.dates), 0.3, settings.workload.walk, settings.portfolio.holding)
    market = Market.of(panel, settings)
    row = {
        "decay_ms": best(lambda: analysis.decay(signal, market, line), 1),
        "capacity_ms": best(lambda: analysis.capacity(signal, market, line), 1),
        "cpcv_ms": best(lambda: analysis.cpcv(signal, market, line), 1),
        "ablation_ms": best(lambda: analysis.ablation({"a": signal}, panel, line, settings), 1),
    }
    print(json.dumps({"backend": backend, **row}))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path)
    arguments.add_argument("--sectors", type=Path)
    arguments.add_argument("--membership", type=Path)
    arguments.add_argument("--repeats", type=int, default=7)
    given = arguments.parse_args()
    if given.data:
        panel = read_panel(given.data, sectors=given.sectors, membership=given.membership).panel
    else:
        panel = synthetic_panel()
    print(json.dumps({"panel": panel.shape}))
    backends: list[Backend] = ["numpy"] if chosen("auto") == "numpy" else ["numba", "numpy"]
    for backend in backends:
        modes(panel, backend, given.repeats)
        full(panel, backend)
        tables(panel, backend)


if __name__ == "__main__":
    main()
