"""Every comparison that a benchmark asks for: what is shown, what is broken, what is open and how it would be settled.

A comparison passes only when what is asked for is shown, and is broken only when the opposite is; between them it is
open. All have to pass, each at its own level, which needs no correction for their number (intersection-union test:
Berger, Technometrics 24 (1982), 295-300).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from windlass.records.gate import Benchmark, Direction, GatePolicy
from windlass.records.verdict import Comparison, Finding
from windlass.registry.evidence import Pair
from windlass.registry.exact import exact_paired, exact_share
from windlass.registry.statistics import Shown, paired_bootstrap

Array = npt.NDArray[np.float64]

REST = "(rest)"
FEWEST_OF_SLICE = 30  #: examples of a value, of scores other than 0 and 1


def comparisons(policy: GatePolicy, pair: Pair, level: float) -> Iterator[Comparison]:
    """All of one benchmark; ``level`` is that of an improvement, everything else has the policy's alpha."""
    benchmark, alpha = pair.benchmark, policy.alpha
    x, sign = pair.challenger.column(benchmark.metric), _sign(benchmark.direction)
    of_metric = partial(_comparison, policy, benchmark, benchmark.metric)
    if pair.champion is None:
        if benchmark.least is not None:
            yield _least(policy, benchmark, x)
        return
    y = pair.champion.column(benchmark.metric)
    exact = benchmark.test == "exact" or (benchmark.test == "auto" and _binary(x, y))
    if benchmark.require == "better":
        yield of_metric("better", x, y, _shown(exact, sign * x, sign * y, benchmark.min_delta, level))
    else:
        yield of_metric("no_worse", x, y, _shown(exact, sign * x, sign * y, -(benchmark.margin or 0.0), alpha))
    if benchmark.least is not None:
        yield _least(policy, benchmark, x)
    for guard in benchmark.guards:
        mine, other = pair.challenger.column(guard.metric), pair.champion.column(guard.metric)
        turn = _sign(guard.direction)
        shown = _shown(_binary(mine, other), turn * mine, turn * other, -guard.margin, alpha)
        yield _comparison(policy, benchmark, guard.metric, "guard", mine, other, shown)
    fewest = fewest_of_slice(benchmark, alpha, exact)
    for column in benchmark.slices:
        for value, members in _slices(pair.challenger.group(column), fewest):
            mine, other = x[members], y[members]
            shown = _shown(exact, sign * mine, sign * other, -benchmark.slice_margin, alpha)
            one = of_metric("slice", mine, other, shown, group=f"{column}={value}")
            if len(members) < fewest and one.finding is Finding.OPEN:
                one = replace(one, finding=Finding.UNTESTED, more=None, toward=None)
            yield one


def fewest_of_slice(benchmark: Benchmark, alpha: float, exact: bool) -> int:
    """Examples that a slice needs to be tested by itself.

    With fewer scores of 0 and 1, not even the same answers everywhere would show a fall of at most ``slice_margin``.
    """
    margin = benchmark.slice_margin
    return math.ceil(math.log(alpha) / math.log1p(-margin)) if exact and margin < 1 else FEWEST_OF_SLICE


def _comparison(
    policy: GatePolicy,
    benchmark: Benchmark,
    metric: str,
    role: str,
    challenger: Array,
    champion: Array,
    shown: Shown,
    group: str = "",
) -> Comparison:
    """What is shown, as a record with what follows from it."""
    matters = shown.threshold if role != "better" or benchmark.detect is None else benchmark.detect
    if shown.high < matters or (role == "better" and shown.high == matters):
        finding = Finding.BROKEN
    elif shown.passed:
        finding = Finding.PASSED
    else:
        finding = Finding.OPEN
    more, toward = _settled_by(shown, matters, policy.power) if finding is Finding.OPEN else (None, None)
    decides = role == "better"
    return Comparison(
        benchmark=benchmark.name,
        metric=metric,
        role=role,
        group=group,
        n=shown.n,
        champion=float(champion.mean()),
        challenger=float(challenger.mean()),
        delta=shown.delta,
        low=shown.low,
        high=shown.high,
        threshold=shown.threshold,
        level=shown.level,
        p_value=shown.p_value,
        test=shown.test,
        finding=finding,
        power=shown.power(benchmark.detect) if decides and benchmark.detect is not None else None,
        detectable=shown.detectable(policy.power) if decides else None,
        more=more,
        toward=toward,
    )


def _settled_by(shown: Shown, matters: float, power: float) -> tuple[int | None, Finding | None]:
    """The fewest further examples that settle it, should the estimates hold, and which way."""
    ways = {
        Finding.PASSED: shown.examples_to_pass(power),
        Finding.BROKEN: shown.examples_to_exclude(matters, power),
    }
    known = [(more, toward) for toward, more in ways.items() if more is not None]
    return min(known, key=lambda way: way[0], default=(None, None))


def _shown(exact: bool, x: Array, y: Array, threshold: float, level: float) -> Shown:
    """Of scores that are turned so that more is better."""
    if exact:
        return exact_paired(int((x > y).sum()), int((x < y).sum()), len(x), threshold, level)
    return paired_bootstrap(x, y, threshold, level)


def _least(policy: GatePolicy, benchmark: Benchmark, x: Array) -> Comparison:
    """The challenger's mean beside the worst that may serve."""
    sign, least = _sign(benchmark.direction), benchmark.least or 0.0
    limit = np.full(len(x), least)
    if benchmark.test != "bootstrap" and _binary(x):
        good, share = (x == 1, least) if sign > 0 else (x == 0, 1 - least)
        of_share = exact_share(int(good.sum()), len(x), share, policy.alpha)
        shown = replace(
            of_share, delta=of_share.delta - share, low=of_share.low - share, high=of_share.high - share, threshold=0.0
        )
    else:
        shown = paired_bootstrap(sign * x, sign * limit, 0.0, policy.alpha)
        shown = replace(shown, test=shown.test.replace("paired ", ""))
    return _comparison(policy, benchmark, benchmark.metric, "least", x, limit, shown)


def _sign(direction: Direction) -> float:
    return 1.0 if direction == "maximize" else -1.0


def _binary(*scores: Array) -> bool:
    return all(bool(np.isin(values, (0.0, 1.0)).all()) for values in scores)


def _slices(values: np.ndarray, fewest: int) -> Iterator[tuple[str, np.ndarray]]:
    """Positions by value; values with fewer than ``fewest`` examples are taken together, last."""
    names, place = np.unique(values, return_inverse=True)
    counts = np.bincount(place)
    rare = np.flatnonzero(counts < fewest)
    for i in np.flatnonzero(counts >= fewest):
        yield str(names[i]), np.flatnonzero(place == i)
    if len(rare):
        yield str(names[rare[0]]) if len(rare) == 1 else REST, np.flatnonzero(np.isin(place, rare))
