"""How the gate's tests behave: false promotions, power, and whether the examples it asks for settle anything.

A campaign is one champion and 20 challengers in a row, all on the same examples, at an alpha of 0.05 for all of them.
Nobody is better than anybody: every promotion is false. A challenger that is promoted is the next one's champion. Beside
the gate, on the same scores, stand two rules that people use: the higher mean wins, and a paired t test at 5 % each.

Seeds are fixed. ``--campaigns`` and ``--json`` as in the other benchmarks.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, betaincinv, ndtri, stdtrit

from windlass.registry.exact import SPENT_ON_PSI, exact_paired, unconditional
from windlass.registry.statistics import Differences, Shown, missed, paired_bootstrap

Array = npt.NDArray[Any]
Rng = np.random.Generator

ALPHA, CHALLENGERS, POWER = 0.05, 20, 0.8
LEVEL = ALPHA / CHALLENGERS
GRADES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])


@dataclass(frozen=True)
class World:
    """Where scores come from. More is better."""

    name: str
    examples: Callable[[Rng, tuple[int, int]], Array]  #: what all checkpoints share, (campaigns, n)
    champion: Callable[[Rng, Array], Array]  #: scores from that
    challenger: Callable[[Rng, Array], Array]
    threshold: float = 0.0
    binary: bool = False
    stress: bool = False  #: means are equal, distributions are not


def _normal(rng: Rng, examples: Array) -> Array:
    return examples + rng.normal(0, 0.5, examples.shape)


def _losses(rng: Rng, examples: Array) -> Array:
    return -np.exp(examples + rng.normal(0, 0.3, examples.shape))


def _tailed(spread: float) -> Callable[[Rng, Array], Array]:
    """Losses of the same mean whatever the spread."""
    return lambda rng, examples: -np.exp(examples / 2 + rng.normal(-(spread**2) / 2, spread, examples.shape))


def _graded(share: float) -> Callable[[Rng, Array], Array]:
    def scores(rng: Rng, examples: Array) -> Array:
        other = rng.choice(GRADES, examples.shape)
        return np.where(rng.random(examples.shape) < share, other, examples)

    return scores


def _redrawn(share: float) -> Callable[[Rng, Array], Array]:
    def scores(rng: Rng, examples: Array) -> Array:
        return np.where(rng.random(examples.shape) < share, rng.normal(size=examples.shape), examples)

    return scores


def _gambling(rng: Rng, examples: Array) -> Array:
    """A tenth better on a tenth of the examples, and all lost on a hundredth."""
    u = rng.random(examples.shape)
    return examples + np.where(u < 0.1, 0.1, np.where(u < 0.11, -1.0, 0.0))


def _right(shift: float) -> Callable[[Rng, Array], Array]:
    """``examples`` are probabilities of a right answer."""
    return lambda rng, examples: (rng.random(examples.shape) < examples + shift).astype(float)


def _same(rng: Rng, examples: Array) -> Array:
    return examples


def _normals(rng: Rng, shape: tuple[int, int]) -> Array:
    return rng.normal(size=shape)


def _grades(rng: Rng, shape: tuple[int, int]) -> Array:
    return rng.choice(GRADES, shape)


def _chances(low: float, high: float) -> Callable[[Rng, tuple[int, int]], Array]:
    """Probabilities of a right answer; the nearer to 0 and 1, the more alike the checkpoints."""
    return lambda rng, shape: np.where(rng.random(shape) < 0.65, high, low)


WORLDS = (
    World("normal scores", _normals, _normal, _normal),
    World("lognormal losses", _normals, _losses, _losses),
    World("grades, a quarter redrawn", _grades, _graded(0.25), _graded(0.25)),
    World("2 % of scores differ", _normals, _redrawn(0.01), _redrawn(0.01)),
    World("0/1, exact McNemar, alike", _chances(0.02, 0.98), _right(0), _right(0), binary=True),
    World("0/1, exact McNemar, unlike", _chances(0.3, 0.8), _right(0), _right(0), binary=True),
    World("0/1, exact, min_delta 0.02 met exactly", _chances(0.05, 0.93), _right(0), _right(0.02), 0.02, binary=True),
    World("losses, challengers with heavier tails", _normals, _tailed(0.3), _tailed(1.0), stress=True),
    World("small wins, rare disasters", _grades, _same, _gambling, stress=True),
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
            x = world.challenger(rng, examples)
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
        if self.world.binary:
            return _right(self.improvement)(rng, examples), y
        return self.world.challenger(rng, examples) + self.improvement, y


def contests(ns: Sequence[int], power: float) -> list[Contest]:
    """Improvements that n examples find with about this probability, by a large sample of each world."""
    made = []
    for world in WORLDS:
        if world.threshold or world.stress:
            continue
        rng = np.random.default_rng([7, WORLDS.index(world)])
        examples = world.examples(rng, (1, 200_000))
        sd = float((world.challenger(rng, examples) - world.champion(rng, examples)).std())
        made += [Contest(world, (ndtri(power) - ndtri(LEVEL)) * sd / n**0.5, n) for n in ns]
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


if __name__ == "__main__":
    import sys
    for c in contests((100,300,1000),.8):
        if len(sys.argv)>1 and sys.argv[1] not in c.world.name: continue
        t=time.time();p=power(c,300);t1=time.time()-t;q=settling(c,150)
        print(c.world.name,c.n,p,round(t1,1),q,round(time.time()-t-t1,1),flush=True)
