"""How the gate's tests behave: false promotions, power, whether the examples it asks for settle anything, and time.

A campaign is one champion and 20 challengers in a row, all on the same examples, at an alpha of 0.05 for all of them.
Nobody is better than anybody: every promotion is false. A challenger that is promoted is the next one's champion.
Beside the gate, on the same scores, stand two rules that people use: the higher mean wins, and a paired t test at 5 %
each. Seeds are fixed; the whole takes some minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, betaincinv, ndtri, stdtrit

from windlass.records.evaluation import Evaluation
from windlass.records.gate import GatePolicy
from windlass.registry.exact import SPENT_ON_PSI, exact_paired, unconditional
from windlass.registry.gate import Sheet, judge
from windlass.registry.scores import Scores
from windlass.registry.statistics import Differences, Shown, missed, paired_bootstrap

Array = npt.NDArray[Any]
Rng = np.random.Generator
Scorer = Callable[..., Array]

ALPHA, CHALLENGERS, POWER = 0.05, 20, 0.8
LEVEL = ALPHA / CHALLENGERS
SIZES = (100, 300, 1000)
GRADES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])


@dataclass(frozen=True)
class World:
    """Where scores come from. More is better."""

    name: str
    examples: Callable[[Rng, tuple[int, int]], Array]  #: what all checkpoints share, (campaigns, n)
    champion: Callable[[Rng, Array], Array]  #: its scores, from that
    challenger: Callable[[Rng, Array, float], Array]  #: likewise, with a true improvement
    threshold: float = 0.0
    binary: bool = False
    stress: bool = False  #: where means are equal and distributions are not


def _normals(rng: Rng, shape: tuple[int, int]) -> Array:
    return rng.normal(size=shape)


def _grades(rng: Rng, shape: tuple[int, int]) -> Array:
    return rng.choice(GRADES, shape)


def _chances(low: float, high: float) -> Callable[[Rng, tuple[int, int]], Array]:
    """Probabilities of a right answer; the nearer to 0 and 1, the more alike the checkpoints."""
    return lambda rng, shape: np.where(rng.random(shape) < 0.65, high, low)


def _normal(rng: Rng, examples: Array, better: float = 0.0) -> Array:
    return examples + rng.normal(better, 0.5, examples.shape)


def _losses(rng: Rng, examples: Array, better: float = 0.0) -> Array:
    return better - np.exp(examples + rng.normal(0, 0.3, examples.shape))


def _tailed(spread: float) -> Scorer:
    """Losses of the same mean whatever the spread."""

    def scores(rng: Rng, examples: Array, better: float = 0.0) -> Array:
        return better - np.exp(examples / 2 + rng.normal(-(spread**2) / 2, spread, examples.shape))

    return scores


def _graded(rng: Rng, examples: Array, better: float = 0.0) -> Array:
    """A quarter gets any grade; better is who is often one grade better, which leaves the examples' best grade out."""
    grades = np.where(rng.random(examples.shape) < 0.25, rng.choice(GRADES, examples.shape), examples)
    return np.where((grades < 1) & (rng.random(examples.shape) < better / 0.2), grades + 0.25, grades)


def _redrawn(rng: Rng, examples: Array, better: float = 0.0) -> Array:
    new = rng.normal(better / 0.01, 1, examples.shape)
    return np.where(rng.random(examples.shape) < 0.01, new, examples)


def _same(rng: Rng, examples: Array) -> Array:
    return examples


def _gambling(rng: Rng, examples: Array, better: float = 0.0) -> Array:
    """A little better on a tenth of the examples, all lost on a hundredth."""
    u = rng.random(examples.shape)
    return examples + better + np.where(u < 0.1, 0.1, np.where(u < 0.11, -1.0, 0.0))


def _right(rng: Rng, examples: Array, better: float = 0.0) -> Array:
    return (rng.random(examples.shape) < examples + better).astype(float)


WORLDS = (
    World("normal scores", _normals, _normal, _normal),
    World("lognormal losses", _normals, _losses, _losses),
    World("grades, a quarter redrawn", _grades, _graded, _graded),
    World("2 % of the scores differ", _normals, _redrawn, _redrawn),
    World("0 or 1, alike", _chances(0.02, 0.8), _right, _right, binary=True),
    World("0 or 1, less alike", _chances(0.3, 0.75), _right, _right, binary=True),
    World(
        "0 or 1, better by min_delta 0.02 and no more",
        _chances(0.05, 0.93),
        _right,
        lambda rng, examples, better: _right(rng, examples, 0.02 + better),
        threshold=0.02,
        binary=True,
    ),
    World("losses of equal mean, heavier tails", _normals, _tailed(0.3), _tailed(1.0), stress=True),
    World("small wins, rare disasters, equal mean", _grades, _same, _gambling, stress=True),
)


def shown(world: World, x: Array, y: Array, level: float = LEVEL) -> Shown:
    """The gate's test of challenger ``x`` against champion ``y``."""
    if world.binary:
        return exact_paired(int((x > y).sum()), int((x < y).sum()), len(x), world.threshold, level)
    return paired_bootstrap(x, y, world.threshold, level)


def passes(world: World, x: Array, y: Array) -> Array:
    """Which of the challengers (campaigns, n) the gate promotes. What fails a cheap part of a test fails the test."""
    if world.binary:
        b, c, n = (x > y).sum(axis=1), (x < y).sum(axis=1), x.shape[1]
        won = bdtr(c, b + c, 0.5) <= LEVEL
        if world.threshold:
            won[won] = [_exceeds(world, int(b[i]), int(c[i]), n) for i in np.flatnonzero(won)]
        return won
    won = student(x - y - world.threshold) > -stdtrit(x.shape[1] - 1, LEVEL)
    won[won] = [_shown_in_full(world, x[i], y[i]) for i in np.flatnonzero(won)]
    return won


def _shown_in_full(world: World, x: Array, y: Array) -> bool:
    if missed(Differences(x, y), world.threshold, LEVEL)[0] > LEVEL:
        return False
    return paired_bootstrap(x, y, world.threshold, LEVEL).passed


def _exceeds(world: World, b: int, c: int, n: int) -> bool:
    return unconditional(b, c, n, world.threshold, SPENT_ON_PSI * LEVEL) <= LEVEL


def student(differences: Array) -> Array:
    mean, sd = differences.mean(axis=1), differences.std(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(mean / sd * np.sqrt(differences.shape[1]), nan=0.0)


RULES: dict[str, Callable[[World, Array, Array], Array]] = {
    "gate": passes,
    "t test, 5 % each": lambda world, x, y: student(x - y - world.threshold) > -stdtrit(x.shape[1] - 1, ALPHA),
    "higher mean": lambda world, x, y: (x - y).mean(axis=1) > world.threshold,
}


def false_promotions(world: World, n: int, campaigns: int) -> dict[str, Any]:
    """Share of campaigns with a false promotion, rule by rule, with its 95 % interval."""
    count = dict.fromkeys(RULES, 0)
    promotions = dict.fromkeys(RULES, 0)
    rows = max(1, 2_000_000 // n // 10)
    for start in range(0, campaigns, rows):
        size = min(rows, campaigns - start)
        rng = np.random.default_rng([WORLDS.index(world), n, start])
        examples = world.examples(rng, (size, n))
        first = world.champion(rng, examples)
        serving = dict.fromkeys(RULES, first)
        fooled = {rule: np.zeros(size, dtype=int) for rule in RULES}
        for _ in range(CHALLENGERS):
            x = world.challenger(rng, examples, 0.0)
            for rule, promotes in RULES.items():
                wins = promotes(world, x, serving[rule])
                fooled[rule] += wins
                serving[rule] = np.where(wins[:, None], x, serving[rule])
        for rule in RULES:
            count[rule] += int((fooled[rule] > 0).sum())
            promotions[rule] += int(fooled[rule].sum())
    return {
        rule: {
            "rate": count[rule] / campaigns,
            "interval": clopper_pearson(count[rule], campaigns),
            "promotions": promotions[rule] / campaigns,
        }
        for rule in RULES
    }


def clopper_pearson(x: int, n: int) -> tuple[float, float]:
    low = float(betaincinv(x, n - x + 1, 0.025)) if x else 0.0
    return low, float(betaincinv(x + 1, n - x, 0.975)) if x < n else 1.0


@dataclass(frozen=True)
class Contest:
    """A true improvement that is worth finding, and examples to find it with."""

    world: World
    improvement: float
    n: int

    def draw(self, rng: Rng, count: int) -> tuple[Array, Array]:
        """Scores of challengers and champions, (count, n)."""
        examples = self.world.examples(rng, (count, self.n))
        y = self.world.champion(rng, examples)
        return self.world.challenger(rng, examples, self.improvement), y


def contests(ns: Sequence[int]) -> list[Contest]:
    """Improvements that n examples would find with this probability if all differences were normal."""
    made = []
    for world in WORLDS:
        if world.threshold or world.stress:
            continue
        rng = np.random.default_rng([7, WORLDS.index(world)])
        examples = world.examples(rng, (1, 200_000))
        sd = float((world.challenger(rng, examples, 0.0) - world.champion(rng, examples)).std())
        made += [Contest(world, (ndtri(POWER) - ndtri(LEVEL)) * sd / n**0.5, n) for n in ns]
    return made


def power(contest: Contest, repeats: int) -> dict[str, Any]:
    """How often the improvement is found, beside what the same examples said of their power."""
    rng = np.random.default_rng([1, WORLDS.index(contest.world), contest.n])
    x, y = contest.draw(rng, repeats)
    found, told = 0, []
    for one in (shown(contest.world, x[i], y[i]) for i in range(repeats)):
        found += one.passed
        told.append(one.power(contest.improvement) or 0.0)
    return {
        "improvement": contest.improvement,
        "observed": found / repeats,
        "interval": clopper_pearson(found, repeats),
        "computed": float(np.mean(told)),
    }


def settling(contest: Contest, repeats: int) -> dict[str, Any]:
    """Open comparisons are given the examples they ask for: how often that settles them.

    ``held``: new examples are drawn from the old ones, so the estimates hold. ``true``: they come from where the old
    ones came from, whose mean the estimate does not know.
    """
    rng = np.random.default_rng([2, WORLDS.index(contest.world), contest.n])
    settled = {"held": 0, "true": 0}
    asked: list[int] = []
    unknown = 0
    half = replace(contest, improvement=contest.improvement / 2)
    x, y = half.draw(rng, repeats)
    for i in range(repeats):
        one = shown(contest.world, x[i], y[i])
        if one.passed or one.high <= contest.improvement:
            continue
        ways = (one.examples_to_pass(POWER), one.examples_to_exclude(contest.improvement, POWER))
        more = min((way for way in ways if way is not None), default=None)
        if more is None or more > 20_000:
            unknown += 1
            continue
        asked.append(more)
        again = rng.integers(contest.n, size=more)
        fresh = tuple(scores[0] for scores in replace(half, n=more).draw(rng, 1))
        for kind, (new_x, new_y) in {"held": (x[i][again], y[i][again]), "true": fresh}.items():
            then = shown(contest.world, np.append(x[i], new_x), np.append(y[i], new_y))
            settled[kind] += then.passed or then.high <= contest.improvement
    return {
        "open": len(asked) + unknown,
        "beyond": unknown,
        "asked": float(np.median(asked)) if asked else None,
        **{kind: count / max(len(asked), 1) for kind, count in settled.items()},
    }


def latency(repeats: int = 7) -> float:
    """CPU milliseconds of a verdict, median: 3 benchmarks of 2,000 examples, 2 guards and slices by 3 columns each."""
    n, names = 2000, ("reading", "recall", "style")
    benchmark = {
        "data": "data.csv",
        "function": "evaluators:reading",
        "metric": "quality",
        "direction": "maximize",
        "detect": 0.05,
        "guards": [{"metric": metric, "direction": "minimize", "margin": 0.02} for metric in ("cost", "wrong")],
        "slices": ["language", "length", "source"],
    }
    policy = GatePolicy.model_validate(
        {"deployment": "reader", "benchmarks": [{**benchmark, "name": name} for name in names]}
    )
    rng = np.random.default_rng(0)
    quality, cost, wrong = rng.normal(size=n), rng.gamma(2, 0.1, n), rng.random(n)
    groups = {
        column: rng.choice([f"{column}{i}" for i in range(values)], n)
        for column, values in (("language", 4), ("length", 3), ("source", 2))
    }

    def sheet(checkpoint: str, name: str, better: float) -> Sheet:
        columns = {
            "quality": quality + rng.normal(better, 0.4, n),
            "cost": cost + rng.normal(0, 0.02, n),
            "wrong": (wrong < 0.05 + rng.uniform(-0.02, 0.02, n)).astype(float),
        }
        ids = np.array([f"example-{i:05}" for i in range(n)])
        evaluation = Evaluation(
            checkpoint=checkpoint, benchmark=name, data="d" * 64, evaluator="e" * 64, scores="s" * 64, n=n, at=0.0
        )
        return Sheet(evaluation, Scores(ids=ids, columns=columns, groups=groups))

    evidence = {name: sheet("c" * 12, name, 0.05) for name in names}
    baseline = {name: sheet("a" * 12, name, 0.0) for name in names}
    took = []
    for _ in range(repeats):
        began = time.process_time()
        judge(policy, "c" * 12, "a" * 12, evidence=evidence, baseline=baseline, spent=0.0, look=1, at=0.0)
        took.append(1000 * (time.process_time() - began))
    return statistics.median(took)


def measure(campaigns: int, repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Every table's rows. A stress world has half the campaigns, on which the whole test runs far more often."""
    tables: dict[str, list[dict[str, Any]]] = {"false": [], "power": [], "more": []}
    for world in WORLDS:
        for n in SIZES:
            rules = false_promotions(world, n, campaigns // 2 if world.stress else campaigns)
            tables["false"].append({"world": world.name, "n": n, "rules": rules})
    for contest in contests(SIZES):
        found = power(contest, repeats)
        tables["power"].append({"world": contest.world.name, "n": contest.n, **found})
    for contest in contests((300,)):
        tables["more"].append({"world": contest.world.name, "n": contest.n, **settling(contest, repeats)})
    return tables


def rows(tables: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The same, figure by figure beside its limit, as the other benchmarks have it."""
    made: list[dict[str, Any]] = []
    for row in tables["false"]:
        gate, mean, t = (row["rules"][rule] for rule in ("gate", "higher mean", "t test, 5 % each"))
        low, high = gate["interval"]
        reference = f"alpha 5 % ({100 * low:.1f} to {100 * high:.1f})"
        reference += f"; higher mean {100 * mean['rate']:.0f} %, t tests {100 * t['rate']:.0f} %"
        name = f"a false promotion among {CHALLENGERS} challengers: {row['world']}, n = {row['n']}"
        made.append(_row(name, 100 * gate["rate"], reference, gate["rate"] / ALPHA))
    for row in tables["power"]:
        low, high = row["interval"]
        reference = f"computed {100 * row['computed']:.0f} % (observed {100 * low:.0f} to {100 * high:.0f})"
        name = f"an improvement of {row['improvement']:.3g} is found: {row['world']}, n = {row['n']}"
        made.append(_row(name, 100 * row["observed"], reference, row["observed"] / max(row["computed"], 1e-9)))
    for row in tables["more"]:
        reference = f"{100 * POWER:.0f} % wanted; {100 * row['true']:.0f} % where the estimates need not hold;"
        reference += f" {row['open']} open, {row['asked'] or 0:,.0f} asked for (median)"
        name = f"settled by the examples asked for: {row['world']}, n = {row['n']}"
        made.append(_row(name, 100 * row["held"], reference, row["held"] / POWER))
    return made


def _row(name: str, value: float, reference: str, ratio: float) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "%", "reference": reference, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=200, help="of each contest for power and more examples")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    made = rows(measure(args.campaigns, args.repeats))
    took = latency()
    name = "a verdict: 3 benchmarks of 2,000 examples, 6 guards, 27 slices"
    made.append({"name": name, "value": took, "unit": "ms CPU", "reference": "goal 1 s", "ratio": took / 1000})
    if args.json:
        print(json.dumps(made))
        return
    for row in made:
        print(f"{row['name']:105} {row['value']:6.1f} {row['unit']}   {row['reference']}")


if __name__ == "__main__":
    main()
