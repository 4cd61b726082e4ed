"""The problems: Windlass studies whose trainer is a function here, in two halves, with what is known about each.

``python problems.py`` prints each problem's facts; ``--measure`` finds them anew (minutes) and writes ``facts.json``.
A problem is minimised. What is random about trial number ``i`` of a run with seed ``s`` depends on (problem, s, i)
alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sqlite3
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import functions
import numpy as np
from functions import Crash, Values

import training
from windlass.records.run import FailureKind
from windlass.records.study import Study
from windlass.space.space import Space

HERE = Path(__file__).resolve().parent
METRIC = "loss"
DEVELOPMENT, HELD_OUT = "development", "held_out"
SEEDS_OF_THE_TRUTH = 24  #: trainings whose mean is the true value of a noisy training


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run of a problem gives: an observed value, or a failure."""

    observed: float | None
    failure: FailureKind | None = None
    cost_s: float = 1.0  #: what the run is declared to have taken; a formula, so that runs repeat to the bit


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the report measures against."""

    best: float  #: the optimum, or the best value known
    random20: float  #: mean true value of what random search holds best after 20 trials
    crash_rate: float  #: of uniformly drawn configs


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    name: str
    half: str
    parameters: Mapping[str, Any]
    value: Callable[[Values], float] | None = None
    training: Callable[[Values, int], float] | None = None  #: a noisy one: config and seed
    noise: float = 0.0  #: standard deviation of what is added to ``value``
    optimum: float | None = None
    cached: bool = False
    cost: Callable[[Values], float] = field(default=lambda values: 1.0)

    @property
    def noisy(self) -> bool:
        return self.training is not None or self.noise > 0

    @property
    def crashes(self) -> bool:
        return self.name.startswith("crash_")

    def study(self, seed: int = 0, **sections: Any) -> Study:
        """The study, with further sections of a study file."""
        return Study.model_validate(
            {
                "name": self.name.replace("_", "-"),
                "trainer": {"command": "train"},
                "space": dict(self.parameters),
                "objectives": [{"metric": METRIC, "direction": "minimize"}],
                "seed": seed,
                **sections,
            }
        )

    @property
    def space(self) -> Space:
        return _space(self.name)

    def evaluate(self, values: Values, seed: int, trial: int) -> Outcome:
        """Run trial number ``trial`` (from 0) of the run with ``seed``."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), seed, trial])
        if self.training is not None:
            return Outcome(observed=self._one_training(values, int(rng.integers(1 << 30))), cost_s=self.cost(values))
        value, kind = self._known(values)
        if value is None:
            return Outcome(observed=None, failure=kind, cost_s=self.cost(values) / 5)
        return Outcome(observed=value + (rng.normal(0, self.noise) if self.noise else 0.0), cost_s=self.cost(values))

    def true(self, values: Values) -> float | None:
        """The value without noise (of a noisy training: the mean over seeds); None where the run fails."""
        if self.training is None:
            return self._known(values)[0]

        def mean() -> list[Any]:
            assert self.training is not None
            return [float(np.mean([self.training(self._active(values), seed) for seed in range(SEEDS_OF_THE_TRUTH)]))]

        return float(remembered(f"{self.name} true", self._active(values), mean)[0])

    def _active(self, values: Values) -> dict[str, Any]:
        return self.space.active(values)

    def _one_training(self, values: Values, seed: int) -> float:
        assert self.training is not None
        return self.training(self._active(values), seed)

    def _known(self, values: Values) -> tuple[float | None, FailureKind | None]:
        active = self._active(values)

        def compute() -> list[Any]:
            assert self.value is not None
            try:
                return [self.value(active), None]
            except Crash as crash:
                return [None, crash.kind.value]

        value, kind = remembered(self.name, active, compute) if self.cached else compute()
        return value, None if kind is None else FailureKind(kind)


@cache
def _space(name: str) -> Space:
    return Space.of(PROBLEMS[name].study())


@cache
def _evaluations() -> sqlite3.Connection:
    """Values of trainings, kept from run to run."""
    connection = sqlite3.connect(HERE / "evaluations.sqlite", timeout=60, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE IF NOT EXISTS evaluations (key TEXT PRIMARY KEY, value TEXT)")
    return connection


def remembered(name: str, values: Values, compute: Callable[[], list[Any]]) -> list[Any]:
    key = hashlib.sha1(json.dumps([name, dict(values)], sort_keys=True).encode()).hexdigest()
    row = _evaluations().execute("SELECT value FROM evaluations WHERE key = ?", (key,)).fetchone()
    if row is not None:
        return list(json.loads(row[0]))
    made = compute()
    _evaluations().execute("INSERT OR REPLACE INTO evaluations VALUES (?, ?)", (key, json.dumps(made)))
    return made


def real(low: float, high: float, *, log: bool = False, when: Any = None) -> dict[str, Any]:
    return {"type": "float", "low": low, "high": high, "log": log, **_when(when)}


def whole(low: int, high: int, *, log: bool = False, when: Any = None) -> dict[str, Any]:
    return {"type": "int", "low": low, "high": high, "log": log, **_when(when)}


def one_of(*choices: Any, when: Any = None) -> dict[str, Any]:
    return {"type": "categorical", "choices": choices, **_when(when)}


def switch(*, when: Any = None) -> dict[str, Any]:
    return {"type": "bool", **_when(when)}


def _when(when: Any) -> dict[str, Any]:
    return {"when": when} if when else {}


def _six() -> dict[str, Any]:
    return {f"x{i}": real(0, 1) for i in range(6)}


_LEVY = {
    "x0": real(-8, 8),
    "x1": real(-8, 8),
    "x2": real(-8, 8),
    "i0": whole(-6, 6),
    "i1": whole(-6, 6),
    "mode": one_of("a", "b", "c", "d"),
    "opt": one_of("r", "s", "t"),
}
_SVM = {
    "kernel": one_of("rbf", "poly", "sigmoid", "linear"),
    "C": real(1e-3, 1e3, log=True),
    "gamma": real(1e-5, 1e1, log=True, when={"kernel": ["rbf", "poly", "sigmoid"]}),
    "degree": whole(2, 5, when={"kernel": "poly"}),
    "coef0": real(-1, 1, when={"kernel": ["poly", "sigmoid"]}),
    "scale": one_of("raw", "half", "unit"),
    "tol": real(1e-5, 1e-1, log=True),
}
_NETWORK = {
    "lr": real(1e-4, 3.0, log=True),
    "optim": one_of("sgd", "adam"),
    "batch": whole(8, 256, log=True),
    "width": whole(8, 256, log=True),
    "depth": whole(1, 3),
    "act": one_of("relu", "tanh", "gelu"),
    "wd": real(1e-6, 1e-1, log=True),
    "init": real(0.2, 3.0, log=True),
}
_ALGORITHM = {
    "algorithm": one_of("newton", "anneal", "swarm"),
    "tolerance": real(1e-6, 1e-1, log=True),
    "scaling": one_of("none", "unit", "rank"),
    "damping": real(1e-5, 1.0, log=True, when={"algorithm": "newton"}),
    "trust": real(0, 1, when={"algorithm": "newton"}),
    "memory": whole(1, 20, when={"algorithm": "newton"}),
    "heat": real(1e-2, 1e2, log=True, when={"algorithm": "anneal"}),
    "cooling": real(0.5, 0.999, when={"algorithm": "anneal"}),
    "inertia": real(0, 1, when={"algorithm": "swarm"}),
    "social": real(0, 3, when={"algorithm": "swarm"}),
    "swarm": whole(4, 128, log=True, when={"algorithm": "swarm"}),
}
_PIPELINE = {
    "reduce": one_of("none", "pca", "select"),
    "components": whole(2, 60, log=True, when={"reduce": "pca"}),
    "whiten": switch(when={"reduce": "pca"}),
    "columns": whole(4, 60, when={"reduce": "select"}),
    "model": one_of("knn", "ridge", "discriminant"),
    "neighbours": whole(1, 50, log=True, when={"model": "knn"}),
    "weights": one_of("uniform", "distance", when={"model": "knn"}),
    "power": real(1.0, 5.0, when={"model": "knn"}),
    "alpha": real(1e-4, 1e4, log=True, when={"model": "ridge"}),
    "shrinkage": real(0, 1, when={"model": "discriminant"}),
}
_BOOSTING = {
    "trees": whole(5, 300, log=True),
    "depth": whole(1, 8),
    "rate": real(1e-3, 3.0, log=True),
    "subsample": real(0.2, 1.0),
    "min_leaf": whole(1, 60, log=True),
    "loss": one_of("squared_error", "absolute_error", "huber", "quantile"),
    "alpha": real(0.1, 0.95, when={"loss": ["huber", "quantile"]}),
    "columns": real(0.1, 1.0),
}
_SGD = {
    "loss": one_of("hinge", "log_loss", "modified_huber", "perceptron"),
    "penalty": one_of("l2", "l1", "elasticnet"),
    "l1_ratio": real(0, 1, when={"penalty": "elasticnet"}),
    "alpha": real(1e-6, 1.0, log=True),
    "schedule": one_of("constant", "invscaling", "adaptive"),
    "eta0": real(1e-5, 10.0, log=True),
    "power_t": real(0.1, 0.9, when={"schedule": "invscaling"}),
    "average": switch(),
    "passes": whole(1, 10),
}


def _network_cost(v: Values) -> float:
    return float(0.2 + 1e-3 * v["depth"] * v["width"] + 8 / v["batch"])


_ALL = [
    Problem(
        name="branin",
        half=DEVELOPMENT,
        parameters={"x": real(-5, 10), "y": real(0, 15)},
        value=functions.branin,
        optimum=0.397887,
    ),
    Problem(name="hartmann6", half=DEVELOPMENT, parameters=_six(), value=functions.hartmann6, optimum=-3.32237),
    Problem(name="levy_mixed", half=DEVELOPMENT, parameters=_LEVY, value=functions.levy_mixed, optimum=0.0),
    Problem(name="svm_digits", half=DEVELOPMENT, parameters=_SVM, value=training.svm_digits, cached=True),
    Problem(
        name="mlp_digits",
        half=DEVELOPMENT,
        parameters=_NETWORK,
        value=training.network_loss,
        cached=True,
        cost=_network_cost,
    ),
    Problem(name="crash_levy_mixed", half=DEVELOPMENT, parameters=_LEVY, value=functions.crash_levy_mixed, optimum=0.0),
    Problem(
        name="crash_mlp",
        half=DEVELOPMENT,
        parameters=_NETWORK,
        value=training.crash_network_loss,
        cached=True,
        cost=_network_cost,
    ),
    Problem(
        name="noisy_hartmann6",
        half=DEVELOPMENT,
        parameters=_six(),
        value=functions.hartmann6,
        noise=0.3,
        optimum=-3.32237,
    ),
    Problem(
        name="noisy_mlp",
        half=DEVELOPMENT,
        parameters=_NETWORK,
        training=training.noisy_network_loss,
        cost=_network_cost,
    ),
    Problem(
        name="ackley10",
        half=HELD_OUT,
        parameters={f"x{i}": real(-15, 25) for i in range(10)},
        value=functions.ackley10,
        optimum=0.0,
    ),
    Problem(name="algorithm", half=HELD_OUT, parameters=_ALGORITHM, value=functions.algorithm, optimum=0.0),
    Problem(name="pipeline_digits", half=HELD_OUT, parameters=_PIPELINE, value=training.pipeline_digits, cached=True),
    Problem(
        name="crash_vessel",
        half=HELD_OUT,
        parameters={
            "shell": whole(1, 99),
            "head": whole(1, 99),
            "radius": real(10, 200),
            "length": real(10, 200),
        },
        value=functions.crash_vessel,
        optimum=math.log(6059.714335),
    ),
    Problem(
        name="crash_boosting",
        half=HELD_OUT,
        parameters=_BOOSTING,
        value=training.crash_boosting,
        cached=True,
        cost=lambda v: 0.1 + v["trees"] * v["depth"] * v["subsample"] / 100,
    ),
    Problem(
        name="noisy_algorithm",
        half=HELD_OUT,
        parameters=_ALGORITHM,
        value=functions.algorithm,
        noise=0.4,
        optimum=0.0,
    ),
    Problem(name="noisy_sgd", half=HELD_OUT, parameters=_SGD, training=training.sgd_digits),
]
PROBLEMS: dict[str, Problem] = {problem.name: problem for problem in _ALL}


def in_half(half: str) -> list[str]:
    """The names of one half, or of ``all``."""
    return [name for name, problem in PROBLEMS.items() if half in ("all", problem.half)]


@cache
def facts() -> dict[str, Facts]:
    return {name: Facts(**one) for name, one in json.loads((HERE / "facts.json").read_text()).items()}


def measure(problem: Problem, searches: int = 60) -> Facts:
    """Random search many times over; for the best value known also a climb from the best configs found."""
    space, rng = problem.space, np.random.default_rng(zlib.crc32(problem.name.encode()))
    drawn = [space.decode(rng.random(space.dimensions)) for _ in range(searches * 20)]
    outcomes = [problem.evaluate(values, 10**6, trial) for trial, values in enumerate(drawn)]
    held, known = [], []
    for start in range(0, len(drawn), 20):
        seen = [(outcomes[i].observed, i) for i in range(start, start + 20) if outcomes[i].observed is not None]
        if seen:
            held.append((problem.true(drawn[min(seen)[1]]), min(seen)[1]))
    known = sorted((value, i) for value, i in held if value is not None)
    best = problem.optimum if problem.optimum is not None else _climbed(problem, [drawn[i] for _, i in known[:4]], rng)
    crashed = sum(outcome.observed is None for outcome in outcomes) / len(outcomes)
    return Facts(best=best, random20=float(np.mean([value for value, _ in known])), crash_rate=crashed)


def _climbed(problem: Problem, starts: list[dict[str, Any]], rng: np.random.Generator) -> float:
    """The best true value that random steps, ever shorter, find from ``starts``."""
    space, best = problem.space, math.inf
    for start in starts:
        here, value = start, problem.true(start)
        assert value is not None
        for step in np.geomspace(0.3, 0.01, 60 if problem.noisy else 250):
            point = space.encode(here, fill=rng.random())
            moves = rng.random(space.dimensions) < max(0.3, 2 / space.dimensions)
            moved = np.where(space.unordered, rng.random(space.dimensions), point + rng.normal(0, step, len(point)))
            there = space.decode(np.clip(np.where(moves, moved, point), 0, 1))
            found = problem.true(there)
            if found is not None and found <= value:
                here, value = there, found
        best = min(best, value)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="find the facts anew and write facts.json")
    args = parser.parse_args()
    if args.measure:
        measured: dict[str, Any] = {}
        for name, problem in PROBLEMS.items():
            one = measure(problem)
            measured[name] = {"best": one.best, "random20": one.random20, "crash_rate": round(one.crash_rate, 4)}
            print(name, measured[name], flush=True)
        (HERE / "facts.json").write_text(json.dumps(measured, indent=1) + "\n")
        return
    print("| problem | half | dimensions | noisy | crash rate | best known | random search at 20 |")
    print("|---|---|---|---|---|---|---|")
    for name, known in facts().items():
        problem = PROBLEMS[name]
        print(
            f"| {name} | {problem.half.replace('_', ' ')} | {problem.space.dimensions} "
            f"| {'yes' if problem.noisy else ''} | {known.crash_rate:.0%} | {known.best:.4g} | {known.random20:.4g} |"
        )


if __name__ == "__main__":
    main()
