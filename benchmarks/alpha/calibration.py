"""Error rates of the gate as built: ``python benchmarks/alpha/calibration.py [--data PANEL [--sectors FILE] ...]``.

Whole campaigns in p2 on null and planted panels (see ``windlass.workloads.alpha.selftest``), without a panel on a
synthetic one of 505 names x 1,259 days. About 10 CPU seconds a campaign of 200 candidates; with ``--out`` each one is
written as it ends, and a later call goes on where this one stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from windlass.workloads.alpha.reading import read_panel
from windlass.workloads.alpha.selftest import Outcome, Row, measure
from windlass.workloads.alpha.spec import read_config
from windlass.workloads.alpha.synthetic import synthetic_panel


def shown(row: Row) -> str:
    """A line of a Markdown table."""
    name = f"{row.kind}, IC {row.level:.3f}" if row.level else row.kind
    clauses = " | ".join(f"{row.clauses[clause].value:.1%}" for clause in CLAUSES)
    return f"| {name} | {row.campaigns} | {clauses} | {row.provisional.value:.1%} | {row.promoted} | {row.grade_a} |"


CLAUSES = ("max_t", "net", "placebo", "holdout_t", "holdout_net")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path)
    arguments.add_argument("--sectors", type=Path)
    arguments.add_argument("--membership", type=Path)
    arguments.add_argument("--idea", default="Momentum + liquidity")
    arguments.add_argument("--nulls", type=int, default=200, help="of each of the two kinds")
    arguments.add_argument("--planted", type=int, default=50, help="of each level")
    arguments.add_argument("--levels", type=float, nargs="*", default=[0.010, 0.015])
    arguments.add_argument("--candidates", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--processes", type=int, default=2)
    arguments.add_argument("--config", type=json.loads, default={}, help='for example {"portfolio": {"holding": 10}}')
    arguments.add_argument("--out", type=Path, help="JSON lines, one a campaign")
    given = arguments.parse_args()
    if given.data:
        panel = read_panel(given.data, sectors=given.sectors, membership=given.membership, borrow=None).panel
    else:
        panel = synthetic_panel()
    settings = {**given.config, "workload": {"idea": given.idea, **given.config.get("workload", {})}}
    finished = []
    if given.out and given.out.exists():
        finished = [Outcome.from_dict(json.loads(line)) for line in given.out.read_text().splitlines()]
    start, done = time.monotonic(), 0

    def note(outcome: Outcome) -> None:
        nonlocal done
        done += 1
        if given.out:
            with given.out.open("a") as file:
                file.write(json.dumps(outcome.to_dict()) + "\n")
        case = outcome.case
        told = f"{case.kind} {case.level} {case.number}: |t| {outcome.best_t:.2f}, {outcome.promoted} promoted"
        print(f"{time.monotonic() - start:6.0f} s  {done}  {told}", flush=True)

    rows = measure(
        panel,
        read_config(settings),
        nulls=given.nulls,
        planted=dict.fromkeys(given.levels, given.planted) if given.planted else {},
        candidates=given.candidates,
        seed=given.seed,
        processes=given.processes,
        finished=finished,
        on_campaign=note,
    )
    print(f"| campaigns | number | {' | '.join(CLAUSES)} | provisional | promoted | grade A |")
    print(f"|{' --- |' * (len(CLAUSES) + 5)}")
    for row in rows:
        print(shown(row))


if __name__ == "__main__":
    main()
