"""CPU seconds a suggestion takes, ask and tell, against the number of results, on one thread, beside the peers.

The space is that of ``mlp_digits``: eight parameters, two of them categories. Peers that are
not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

import numpy as np
from methods import METHODS, make
from problems import PROBLEMS, Outcome
from run import chosen, single_threaded

from windlass.records.run import FailureKind

PROBLEM = "mlp_digits"
LIMITS = {  #: CPU seconds at a number of results
    "windlass_world": {20: 0.03, 100: 0.06, 500: 0.4, 1000: 1.0},
    "windlass": {100: 0.3, 1000: 2.0},
}
NEEDS = {"tpe": "optuna", "optuna_gp": "optuna", "ax": "ax", "botorch": "botorch"}
PATIENCE_S = 60.0  #: after this long no further suggestion is timed


def outcome(point: np.ndarray[Any, Any], rng: np.random.Generator) -> Outcome:
    """A noisy function of the point in the unit cube; about one point in eight fails."""
    if point[0] + point[3] > 1.5:
        return Outcome(observed=None, failure=FailureKind.DIVERGED)
    return Outcome(observed=float(((point - 0.4) ** 2).sum() + 0.3 * np.sin(6 * point).sum() + rng.normal(0, 0.05)))


def measure(method: str, known: int, repeats: int) -> float:
    """Median CPU seconds of a suggestion after ``known`` results of random search, some of them failures."""
    warnings.simplefilter("ignore")
    problem, rng = PROBLEMS[PROBLEM], np.random.default_rng(known)
    space = problem.space
    maker = make(method, problem, 1)
    for _ in range(known):
        drawn = space.decode(rng.random(space.dimensions))
        maker.tell(drawn, outcome(space.encode(drawn), rng))
    used: list[float] = []
    began = time.monotonic()
    while len(used) < repeats + 1 and (time.monotonic() - began < PATIENCE_S or len(used) < 2):
        before = time.process_time()
        values = maker.ask()
        asked = time.process_time() - before
        ended = outcome(space.encode(space.active(values)), rng)
        before = time.process_time()
        maker.tell(values, ended)
        used.append(asked + time.process_time() - before)
    return statistics.median(used[1:])  # the first one imports


def main() -> None:
    default = [name for name in METHODS if name.startswith("windlass") and "without" not in name]
    default += [name for name in ("tpe", "optuna_gp") if find_spec(NEEDS[name])]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default=",".join(default))
    parser.add_argument("--n", default="20,100,500,1000", help="numbers of results")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    single_threaded()
    rows: list[dict[str, Any]] = []
    # a process each: what is learned is cached by content, and methods with equal random numbers see the same
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for method in chosen(args.methods, METHODS, "method"):
            for known in map(int, args.n.split(",")):
                seconds = pool.submit(measure, method, known, args.repeats).result()
                limit = LIMITS.get(method, {}).get(known)
                rows.append(
                    {
                        "name": f"a suggestion of {method} at {known} results",
                        "value": seconds,
                        "unit": "CPU s",
                        "reference": f"at most {limit} s" if limit else None,
                        "ratio": seconds / limit if limit else None,
                    }
                )
                if not args.json:
                    print(f"{method:16} {known:5} results  {seconds:8.4f} CPU s", flush=True)
    if args.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
