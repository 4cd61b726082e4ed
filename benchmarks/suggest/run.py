"""Methods x problems x seeds; one JSON file a run, taken up where it ended, so the command can be repeated.

python benchmarks/suggest/run.py --methods windlass,tpe --half development --seeds 0-4 --n 100
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from methods import METHODS, make
from problems import DEVELOPMENT, HELD_OUT, PROBLEMS, Outcome, in_half

from windlass.errors import nearest
from windlass.records.run import FailureKind

HERE = Path(__file__).resolve().parent
CHECKPOINTS = (20, 30, 50, 100)  #: numbers of trials at which the recommendation is asked for, and reported
ATTEMPTS = 3  #: a process that dies takes the runs that wait for it along
EVERY = 5  #: trials between two writes of the file
#: peers whose random state is no function of the trials: a run taken up must not repeat the numbers of its beginning
RESEEDED = ("tpe", "optuna_gp")
#: those that trials alone do not bring back to where they were (Ax would begin with its first phase, Windlass's
#: decisions are not in the file): a run begun and not ended begins anew
RESTARTED = ("ax", "windlass", *(name for name in METHODS if "-without-" in name))


def one_run(method: str, problem_name: str, seed: int, n: int, out: Path) -> str:
    """Bring one run to ``n`` trials; what it says is one line of progress."""
    warnings.simplefilter("ignore")
    path = out / f"{method}__{problem_name}__{seed}.json"
    fresh: dict[str, Any] = {"method": method, "problem": problem_name, "seed": seed, "trials": [], "recommended": {}}
    record = load(path) or fresh
    if len(record["trials"]) >= n:
        return f"{path.stem}: complete"
    if method in RESTARTED:
        record = fresh
    trials: list[dict[str, Any]] = record["trials"]
    problem = PROBLEMS[problem_name]
    maker = make(method, problem, seed + 1000 * len(trials) if method in RESEEDED else seed)
    for trial in trials:
        maker.tell(trial["values"], outcome_of(trial))
    began = time.process_time()
    for number in range(len(trials), n):
        before = time.process_time()
        values = maker.ask()
        asking = time.process_time() - before
        outcome = problem.evaluate(values, seed, number)
        notes = maker.notes()
        before = time.process_time()
        maker.tell(values, outcome)
        trials.append(
            {
                "values": problem.space.active(values),
                "observed": outcome.observed,
                "failure": outcome.failure.value if outcome.failure else None,
                "cost_s": outcome.cost_s,
                "cpu_s": round(asking + time.process_time() - before, 5),
                **({"notes": notes} if notes else {}),
            }
        )
        if number + 1 in CHECKPOINTS:
            before = time.process_time()
            recommended = maker.recommend()
            record["recommended"][str(number + 1)] = {
                "values": None if recommended is None else problem.space.active(recommended),
                "cpu_s": round(time.process_time() - before, 5),
            }
        if (number + 1) % EVERY == 0 or number + 1 == n:
            save(path, record)
    used = time.process_time() - began
    return f"{path.stem}: {n} trials, {used:.1f} CPU s"


def outcome_of(trial: dict[str, Any]) -> Outcome:
    failure = FailureKind(trial["failure"]) if trial["failure"] else None
    return Outcome(observed=trial["observed"], failure=failure, cost_s=trial["cost_s"])


def load(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_text())) if path.exists() else None


def save(path: Path, record: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record))
    part.replace(path)


def numbers(text: str) -> list[int]:
    """``0-4`` or ``0,2,5``."""
    found: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found


def chosen(text: str, known: Iterable[str], what: str) -> list[str]:
    """The names in a comma-separated list; leaves with a message on an unknown one."""
    known, names = list(known), text.split(",")
    for name in names:
        if name not in known:
            sys.exit(f"no {what} {name!r}.{nearest(name, known)} Known: {', '.join(known)}")
    return names


def single_threaded() -> None:
    """For processes started from here on: CPU seconds are of one core."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


Job = tuple[str, str, int, int, Path]


def run_all(jobs: Sequence[Job], procs: int) -> list[Job]:
    """Run what there is to run; gives back what failed."""
    began, failed = time.monotonic(), list[Job]()
    with ProcessPoolExecutor(procs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(one_run, *job): job for job in jobs}
        for done, future in enumerate(as_completed(waiting), 1):
            try:
                said = future.result()
            except Exception as error:
                failed.append(waiting[future])
                said = f"{waiting[future][:3]}: {type(error).__name__}: {error}"
            print(f"[{done}/{len(jobs)}, {time.monotonic() - began:.0f} s] {said}", flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=(DEVELOPMENT, HELD_OUT, "all"), default="all")
    parser.add_argument("--problems", help="a comma-separated list instead of --half")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="the folder of the results")
    parser.add_argument("--methods", default="windlass", help=f"some of {', '.join(METHODS)}")
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--n", type=int, default=100, help="trials a run")
    parser.add_argument("--procs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    problems = chosen(args.problems, PROBLEMS, "problem") if args.problems else in_half(args.half)
    methods = chosen(args.methods, METHODS, "method")
    args.out.mkdir(parents=True, exist_ok=True)
    single_threaded()
    jobs = [(m, p, seed, args.n, args.out) for seed in numbers(args.seeds) for m in methods for p in problems]
    left = jobs
    for _ in range(ATTEMPTS):
        left = run_all(left, args.procs) if left else []
    if left:
        sys.exit(f"{len(left)} of {len(jobs)} runs failed; run the command again to take them up")


if __name__ == "__main__":
    main()
