"""Campaigns: ``python benchmarks/alpha/campaign.py [--data PANEL [--sectors FILE] [--membership FILE]]``.

Without a panel, a synthetic one of 505 names x 1,259 days.

* full evaluations a CPU second of one thread (expression, IC, rank IC, cost-aware backtest) over the candidates of a
  real search, by mode and by the engine's cache; the whole search with its placebo curves is told apart;
* a whole p2 campaign with gate, files and report as ``windlass alpha`` runs it: wall and CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from windlass.workloads.alpha.campaign import Campaign, run_search
from windlass.workloads.alpha.engine.engine import Engine
from windlass.workloads.alpha.evaluation.backtest import evaluate
from windlass.workloads.alpha.run import prepared
from windlass.workloads.alpha.spec import read_config

GOAL_RATE, GOAL_S = 20, 90


def rates(options: dict[str, Any]) -> None:
    """Evaluations a CPU second over the expressions of one search, in its order."""
    for mode in ("p1", "p2"):
        settings = read_config({"workload": {**options, "mode": mode}})
        panel, _, times = prepared(settings)
        campaign = Campaign(panel, times, settings, seed=7)
        began = time.process_time()
        trials = run_search(campaign)
        whole = time.process_time() - began
        for cache in (512 << 20, 0):
            engine = Engine(campaign.market.panel, settings.workload.engine, cache_bytes=cache)
            engine.signal(trials[0].candidate.node)
            began = time.process_time()
            for one in trials:
                evaluate(engine.signal(one.candidate.node), campaign.market, times, settings)
            spent = time.process_time() - began
            kind = f"{mode}, {engine.backend}, {'cache' if cache else 'no cache'}"
            print(f"| {kind} | {len(trials) / spent:.1f} evaluations a CPU s | goal {GOAL_RATE} |", flush=True)
        print(
            f"| {mode}, the whole search with placebo and proposals | {len(trials) / whole:.1f} a CPU s | |", flush=True
        )


def campaign(options: dict[str, Any]) -> None:
    """``windlass alpha`` in a new lab, as a person runs it."""
    files = {name: options[name] for name in ("data", "sectors", "membership") if name in options}
    given = [argument for name, path in files.items() for argument in (f"--{name}", path)]
    if not files:
        given = ["-s", f"synthetic={json.dumps(options['synthetic'])}"]
    with tempfile.TemporaryDirectory() as folder:
        windlass = [sys.executable, "-m", "windlass"]
        subprocess.run([*windlass, "init", "lab"], cwd=folder, check=True, capture_output=True)
        command = [*windlass, "alpha", "--idea", options["idea"], "--candidates", str(options["candidates"]), *given]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*command, "--seed", "7"], cwd=Path(folder) / "lab", check=True, stdout=subprocess.DEVNULL)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        (used,) = Path(folder).glob("lab/runs/*Z_*/exit.json")
        job = json.loads(used.read_text())
    print(f"| p2 campaign, {options['candidates']} candidates, gate and report | {wall:.1f} s wall | goal {GOAL_S} s |")
    print(f"| of it the job | {job['wall_s']:.1f} s wall, {job['cpu_s']:.1f} s CPU | |")
    print(f"| of it the command itself | {cpu:.1f} s CPU | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--sectors")
    parser.add_argument("--membership")
    parser.add_argument("--candidates", type=int, default=200)
    asked = parser.parse_args()
    named = {name: value for name in ("data", "sectors", "membership") if (value := getattr(asked, name))}
    synthetic = {} if named else {"synthetic": {"names": 505, "days": 1259}}
    options = {"idea": "Momentum + liquidity", "candidates": asked.candidates, **named, **synthetic}
    print("| what | measured | goal |\n|---|---|---|")
    with threadpool_limits(1):
        rates(options)
    campaign(options)


if __name__ == "__main__":
    main()
