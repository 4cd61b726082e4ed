"""Normalised regret, average rank, crashed trials and CPU seconds from the recorded runs, in Markdown or as JSON.

Normalised regret of a true value v is (v - best) / (what random search holds after 20 trials - best), held between
0.001 and 2: 0 is the optimum or the best value known, 1 is random search at 20 trials, a run without a completed trial
counts 2. A cell is the mean of its logarithm over seeds; means over problems are geometric. Ranks are of cells, among
the methods that have runs there; in brackets the 5 to 95 % range when seeds are drawn anew (bootstrap).

The config judged is what the method recommends (Optuna's best trial, Ax's best parameterization, the best posterior
mean of BoTorch and Windlass); ``--by incumbent`` judges the best observation of every method.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from methods import PEERS
from problems import DEVELOPMENT, HELD_OUT, PROBLEMS, facts
from run import CHECKPOINTS, HERE, load
from scipy.stats import rankdata

Array = npt.NDArray[np.float64]
WHOLE, WORLD = "windlass", "windlass_world"
AGENTS = "Windlass, agent by agent"
DRAWS = 300  #: bootstrap samples
GROUPS = {
    "All problems": list(PROBLEMS),
    "Development half": [name for name, one in PROBLEMS.items() if one.half == DEVELOPMENT],
    "Held-out half": [name for name, one in PROBLEMS.items() if one.half == HELD_OUT],
    "Noisy problems": [name for name, one in PROBLEMS.items() if one.noisy],
    "Crashing problems": [name for name, one in PROBLEMS.items() if one.crashes],
}


@dataclass
class Runs:
    """The recorded runs of a folder and their true values at the checkpoints."""

    records: Mapping[tuple[str, str, int], dict[str, Any]]
    by: str = "recommended"  #: or ``incumbent``

    @classmethod
    def read(cls, folders: Sequence[Path], by: str) -> Runs:
        """All runs in ``folders``; of the same run in two of them, the later folder's."""
        records = {}
        for path in (path for folder in folders for path in sorted(folder.glob("*__*__*.json"))):
            record = load(path)
            if record is not None and record["problem"] in PROBLEMS:
                records[record["method"], record["problem"], record["seed"]] = record
        return cls(records, by)

    @cached_property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(method for method, _, _ in self.records))

    @cached_property
    def truths(self) -> dict[tuple[str, str, int, int], float | None]:
        """(method, problem, seed, trials) -> true value of the config judged."""
        return {
            (*key, k): self._truth(record, k)
            for key, record in self.records.items()
            for k in CHECKPOINTS
            if len(record["trials"]) >= k
        }

    def _truth(self, record: Mapping[str, Any], k: int) -> float | None:
        problem = PROBLEMS[record["problem"]]
        done = [trial for trial in record["trials"][:k] if trial["observed"] is not None]
        if not done:
            return None
        recommended = record["recommended"].get(str(k), {}).get("values") if self.by == "recommended" else None
        if recommended is not None and (value := problem.true(recommended)) is not None:
            return value
        return problem.true(min(done, key=lambda trial: trial["observed"])["values"])

    @cached_property
    def best(self) -> dict[str, float]:
        """The best value known of each problem; runs may have found a better one than facts.json has."""
        best = {name: known.best for name, known in facts().items()}
        for (_, problem, _, _), value in self.truths.items():
            if value is not None:
                best[problem] = min(best[problem], value)
        return best

    @cached_property
    def regrets(self) -> dict[tuple[str, str, int], dict[int, float]]:
        """(method, problem, trials) -> log normalised regret of each seed."""
        collected: dict[tuple[str, str, int], dict[int, float]] = {}
        for (method, problem, seed, k), value in self.truths.items():
            best, known = self.best[problem], facts()[problem]
            regret = 2.0 if value is None else (value - best) / (known.random20 - best)
            collected.setdefault((method, problem, k), {})[seed] = float(np.log(np.clip(regret, 1e-3, 2.0)))
        return collected

    @cached_property
    def cells(self) -> dict[tuple[str, str, int], Array]:
        """(method, problem, trials) -> log normalised regrets."""
        return {key: np.array(list(by_seed.values())) for key, by_seed in self.regrets.items()}

    def crashed(self, method: str, problems: Sequence[str], k: int) -> float | None:
        """Mean number of crashed trials among the first ``k``, over seeds, then over problems that crash."""
        means = []
        for problem in problems:
            counts = [
                sum(trial["observed"] is None for trial in record["trials"][:k])
                for (m, p, _), record in self.records.items()
                if (m, p) == (method, problem) and len(record["trials"]) >= k and PROBLEMS[p].crashes
            ]
            if counts:
                means.append(float(np.mean(counts)))
        return float(np.mean(means)) if means else None

    def cpu_s(self, method: str, problems: Sequence[str], first: int, last: int) -> float | None:
        """Mean CPU seconds of a suggestion (ask and tell) at trials ``first`` to ``last``, counted from 1."""
        used = [
            trial["cpu_s"]
            for (m, p, _), record in self.records.items()
            if m == method and p in problems
            for trial in record["trials"][first - 1 : last]
        ]
        return float(np.mean(used)) if used else None


@dataclass
class Row:
    """One method over a group of problems; the lists follow ``CHECKPOINTS``."""

    method: str
    problems: list[int] = field(default_factory=list)  #: problems with runs of that length
    seeds: list[tuple[int, int]] = field(default_factory=list)  #: fewest and most seeds of a cell
    rank: list[float | None] = field(default_factory=list)
    rank_range: list[tuple[float, float] | None] = field(default_factory=list)
    regret: list[float | None] = field(default_factory=list)
    crashed: list[float | None] = field(default_factory=list)
    cpu_s: list[float | None] = field(default_factory=list)  #: mean up to the checkpoint from the one before


def compare(runs: Runs, methods: Sequence[str], problems: Sequence[str]) -> list[Row]:
    rows = {method: Row(method) for method in methods}
    rng = np.random.default_rng(0)
    for k in CHECKPOINTS:
        ranks: dict[str, list[Array]] = {method: [] for method in methods}
        for problem in problems:
            present = {m: runs.cells[m, problem, k] for m in methods if (m, problem, k) in runs.cells}
            if not present:
                continue
            drawn = [np.r_[cell.mean(), _means(cell, rng)] for cell in present.values()]
            for method, column in zip(present, rankdata(np.array(drawn), axis=0), strict=True):
                ranks[method].append(column)
        for method, row in rows.items():
            cells = [runs.cells[method, p, k] for p in problems if (method, p, k) in runs.cells]
            row.problems.append(len(cells))
            sizes = [len(cell) for cell in cells]
            row.seeds.append((min(sizes, default=0), max(sizes, default=0)))
            averages = np.mean(ranks[method], axis=0) if cells else None
            row.rank.append(None if averages is None else float(averages[0]))
            low_high = None if averages is None else np.quantile(averages[1:], [0.05, 0.95])
            row.rank_range.append(None if low_high is None else (float(low_high[0]), float(low_high[1])))
            row.regret.append(float(np.exp(np.mean([cell.mean() for cell in cells]))) if cells else None)
            row.crashed.append(runs.crashed(method, problems, k))
            before = max((one for one in CHECKPOINTS if one < k), default=0)
            row.cpu_s.append(runs.cpu_s(method, problems, before + 1, k) if cells else None)
    with_runs = [row for row in rows.values() if row.problems[0]]
    at = max((i for i in range(len(CHECKPOINTS)) if all(row.problems[i] for row in with_runs)), default=0)
    return sorted(with_runs, key=lambda row: row.rank[at] or 99.0)


def paired(runs: Runs, method: str, other: str, problems: Sequence[str], k: int) -> tuple[float, float] | None:
    """The log regret of ``method`` less that of ``other`` with the same seeds, and its standard error: the mean over
    problems. None where a problem has fewer than two seeds in common."""
    means, variances = [], []
    for problem in problems:
        one, two = (runs.regrets.get((name, problem, k), {}) for name in (method, other))
        apart = np.array([one[seed] - two[seed] for seed in one.keys() & two.keys()])
        if len(apart) < 2:
            return None
        means.append(apart.mean())
        variances.append(apart.var(ddof=1) / len(apart))
    return float(np.mean(means)), float(np.sqrt(np.sum(variances)) / len(means))


def _means(cell: Array, rng: np.random.Generator) -> Array:
    """The cell's mean with its seeds drawn anew, ``DRAWS`` times."""
    return np.asarray(cell[rng.integers(len(cell), size=(DRAWS, len(cell)))].mean(axis=1))


def table(rows: Sequence[Row], problems: Sequence[str]) -> str:
    crashing = any(PROBLEMS[name].crashes for name in problems)
    titles = ["method", "seeds", *(f"rank @{k}" for k in CHECKPOINTS), *(f"regret @{k}" for k in CHECKPOINTS)]
    titles += ["crashed of 50, of 100"] * crashing + ["CPU s a suggestion, 31-50, 51-100"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for row in rows:
        cells = [row.method, _seeds(row, len(problems))]
        for rank, around in zip(row.rank, row.rank_range, strict=True):
            cells.append("" if rank is None or around is None else f"{rank:.2f} ({around[0]:.1f}-{around[1]:.1f})")
        cells += [_number(one, ".3f") for one in row.regret]
        cells += [f"{_number(row.crashed[2], '.1f')}, {_number(row.crashed[3], '.1f')}"] * crashing
        cells.append(f"{_number(row.cpu_s[2], '.3f')}, {_number(row.cpu_s[3], '.3f')}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def differences(runs: Runs, method: str, problems: Sequence[str]) -> str:
    found = [(k, paired(runs, method, WORLD, problems, k)) for k in CHECKPOINTS]
    return "; ".join(f"@{k} {one[0]:+.3f} +- {one[1]:.3f}" for k, one in found if one is not None)


def _seeds(row: Row, expected: int) -> str:
    """``5``, or where it differs by checkpoint ``5/5/5/1-3``; with the number of problems where some are missing."""
    each = [f"{low}" if low == high else f"{low}-{high}" for low, high in row.seeds]
    text = each[0] if len(set(each)) == 1 else "/".join(each)
    if set(row.problems) == {expected}:
        return text
    return f"{text} on {'/'.join(map(str, row.problems))} of {expected} problems"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def detail(runs: Runs, methods: Sequence[str], k: int) -> str:
    """Geometric mean over seeds of the normalised regret, problem by problem."""
    lines = [f"| problem, regret @{k} | " + " | ".join(methods) + " |", "|" + "---|" * (len(methods) + 1)]
    for problem in PROBLEMS:
        cells = [runs.cells.get((method, problem, k)) for method in methods]
        shown = ["-" if cell is None else f"{np.exp(cell.mean()):.3f} ({len(cell)})" for cell in cells]
        lines.append(f"| {problem} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, nargs="+", default=[HERE / "results"], help="folders of results")
    parser.add_argument(
        "--methods", help="a comma-separated list; by default the peers and Windlass, then the ablation"
    )
    parser.add_argument("--by", choices=("recommended", "incumbent"), default="recommended")
    parser.add_argument("--detail", type=int, metavar="K", help="also the regret of every problem after K trials")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    runs = Runs.read(args.out, args.by)
    ours = [name for name in runs.methods if name.startswith(WHOLE)]
    shown = WHOLE if WHOLE in ours else WORLD
    main_methods = (
        args.methods.split(",") if args.methods else [name for name in (shown, *PEERS) if name in runs.methods]
    )
    parts = {title: (main_methods, problems) for title, problems in GROUPS.items()}
    if not args.methods and len(ours) > 1:
        parts |= {f"{AGENTS}: {title.lower()}": (ours, problems) for title, problems in GROUPS.items()}
    results = {title: compare(runs, methods, problems) for title, (methods, problems) in parts.items()}
    if args.json:
        print(json.dumps({title: [vars(row) for row in rows] for title, rows in results.items()}, indent=1))
        return
    for title, rows in results.items():
        problems = parts[title][1]
        print(f"### {title} ({len(problems)}), by {args.by} config\n\n{table(rows, problems)}\n")
        if title.startswith(AGENTS) and WORLD in ours:
            for method in (name for name in ours if name != WORLD):
                print(f"{method} less {WORLD}, seed by seed: {differences(runs, method, problems)}\n")
    if args.detail:
        print(detail(runs, list(dict.fromkeys([*main_methods, *([] if args.methods else ours)])), args.detail))


if __name__ == "__main__":
    main()
