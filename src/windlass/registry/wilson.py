"""Bounds for shares of answers, and how many answers they need.

    n       answers, x of them good
    level   the probability that a bound lies on the wrong side of the true share: each bound of an interval holds
            with ``1 - level``, both together with ``1 - 2 level``
    z       the normal distribution's quantile at ``1 - level``

Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), 209-212.
Newcombe, Interval estimation for the difference between independent proportions, Statistics in Medicine 17 (1998),
873-890, method 10: of two Wilson intervals, one each.

Both rest on the normal distribution, which is too sure of itself where shares are near 0 or 1 and levels are small, as
they are when many looks share one error: at a share of 0.98, 62 answers and level 1e-6, Wilson's upper bound is wrong
240 times as often as it says. So what is *shown* here (``above``, ``below``, ``lower``) is shown by the bound and by
the exact test of the same level: binomial for one share, Fisher's for two. ``no_worse`` has no such test; at a canary's
levels and counts its bound is wrong at most 1.1 times as often as it says (``benchmarks/gate/serving.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

#: a number, or an array of numbers: the formulas are the same
Value = Any
Counts = npt.NDArray[np.int64]

TAIL = 8.0  #: standard deviations; what lies beyond has a probability below 1e-14
POINTS = 256  #: counts of one side for which the other side's is searched
GRID = 2**14  #: counts below it are looked at one by one, those above in steps of less than 0.01 %
MOST = 10**6  #: answers; a comparison that needs more is out of reach


class Bounds(NamedTuple):
    low: Value
    high: Value


@lru_cache(maxsize=256)
def quantile(level: float) -> float:
    """z. Raises ValueError where ``level`` is not between 0 and 0.5."""
    if not 0 < level < 0.5:
        raise ValueError(f"a level lies between 0 and 0.5, not {level}")
    return -NormalDist().inv_cdf(level)


def wilson(x: Value, n: Value, level: float) -> Bounds:
    """Bounds of a share (Wilson 1927); 0 and 1 where n is 0."""
    z2 = quantile(level) ** 2
    middle = (x + z2 / 2) / (n + z2)
    spread = (z2 * (x * (n - x) / (n + (n == 0)) + z2 / 4)) ** 0.5 / (n + z2)
    return Bounds((middle - spread) * (x > 0), 1 - (1 - middle - spread) * (x < n))


def newcombe(x_a: Value, n_a: Value, x_b: Value, n_b: Value, level: float) -> Bounds:
    """Bounds of share a less share b (Newcombe 1998, method 10); -1 and 1 where one has no answers."""
    a, b = x_a / (n_a + (n_a == 0)), x_b / (n_b + (n_b == 0))
    of_a, of_b = wilson(x_a, n_a, level), wilson(x_b, n_b, level)
    down = ((a - of_a.low) ** 2 + (of_b.high - b) ** 2) ** 0.5
    up = ((of_a.high - a) ** 2 + (b - of_b.low) ** 2) ** 0.5
    known = (n_a > 0) * (n_b > 0)
    return Bounds((a - b - down) * known - (1 - known), (a - b + up) * known + (1 - known))


def above(x: int, n: int, limit: float, level: float) -> bool:
    """Whether the share is shown to be above ``limit``."""
    from scipy.special import bdtrc

    return bool(wilson(x, n, level).low > limit and bdtrc(x - 1, n, limit) <= level)


def below(x: int, n: int, limit: float, level: float) -> bool:
    """Whether the share is shown to be below ``limit``."""
    return above(n - x, n, 1 - limit, level)


def lower(x_a: int, n_a: int, x_b: int, n_b: int, level: float) -> bool:
    """Whether share a is shown to be lower than share b."""
    return bool(newcombe(x_a, n_a, x_b, n_b, level).high < 0 and fisher(x_a, n_a, x_b, n_b) <= level)


def no_worse(x_a: Value, n_a: Value, x_b: Value, n_b: Value, margin: float, level: float) -> Any:
    """Whether a share a that is lower than share b by ``margin`` or more is ruled out."""
    return newcombe(x_a, n_a, x_b, n_b, level).low > -margin


def fisher(x_a: Value, n_a: int, x_b: Value, n_b: int) -> Any:
    """Fisher's exact test, one-sided: the probability of so low an x_a, or a lower one, where both shares are equal.

    The sum is that of ``scipy.stats.hypergeom.cdf``, which is slow for 10,000 to 100,000 answers.
    """
    from scipy.special import gammaln

    x_a, good = np.asarray(x_a), np.asarray(x_a) + np.asarray(x_b)
    share = good / (n_a + n_b)
    reach = TAIL * np.sqrt(n_a * share * (1 - share)) + np.maximum(x_a - n_a * share, 0) + 5 * TAIL
    k = x_a[..., None] - np.arange(min(int(np.max(reach)), int(np.max(x_a))) + 1)  # terms below fall fast
    good = good[..., None]

    def ways(n: Value, x: Value) -> Any:
        return gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1)

    possible = (k >= 0) & (good - k <= n_b)
    k = np.where(possible, k, np.maximum(0, good - n_b))
    terms = np.where(possible, np.exp(ways(n_a, k) + ways(n_b, good - k) - ways(n_a + n_b, good)), 0.0)
    return np.minimum(terms.sum(axis=-1), 1.0)[()]


def chance_above(n: Counts, limit: float, share: float, level: float) -> npt.NDArray[np.float64]:
    """How likely ``above`` is where the share is ``share``, for each count of ``n``; exact."""
    from scipy.special import bdtrc
    from scipy.stats import binom

    if share >= 1:
        return np.asarray((wilson(n, n, level).low > limit) & (limit**n <= level), float)
    by_bound = np.floor(n * limit + quantile(level) * np.sqrt(n * limit * (1 - limit)))  # score test and bound are one
    by_test = binom.isf(level, n, limit)
    return np.asarray(bdtrc(np.maximum(by_bound, by_test), n, share))


def chance_below(n: Counts, limit: float, share: float, level: float) -> npt.NDArray[np.float64]:
    """How likely ``below`` is where the share is ``share``, for each count of ``n``; exact."""
    return chance_above(n, 1 - limit, 1 - share, level)


def chance_lower(n_a: int, n_b: int, a: float, b: float, level: float) -> float:
    """How likely ``lower`` is where the shares are ``a`` and ``b``; exact."""
    return _chance(
        n_a,
        n_b,
        a,
        b,
        lambda x_a, x_b: newcombe(x_a, n_a, x_b, n_b, level).high < 0,
        lambda x_a, x_b: fisher(x_a, n_a, x_b, n_b) <= level,
    )


def chance_no_worse(n_a: int, n_b: int, a: float, b: float, margin: float, level: float) -> float:
    """How likely ``no_worse`` is where the shares are ``a`` and ``b``; exact."""
    return 1 - _chance(n_a, n_b, a, b, lambda x_a, x_b: ~no_worse(x_a, n_a, x_b, n_b, margin, level))


def _chance(n_a: int, n_b: int, a: float, b: float, *tests: Callable[[Counts, Counts], Any]) -> float:
    """The probability that all tests hold; each holds from some x_b on. Summed over every x_a that can occur.

    Where these are more than ``POINTS``, the turning points between some of them are interpolated, to a count.
    """
    from scipy.special import bdtrc
    from scipy.stats import binom

    reach = TAIL * np.sqrt(n_a * a * (1 - a)) + TAIL
    x_a = np.arange(max(0, int(n_a * a - reach)), min(n_a, int(n_a * a + reach)) + 1)
    some = np.unique(np.linspace(x_a[0], x_a[-1], min(len(x_a), POINTS)).astype(np.int64))
    first = np.zeros(len(some), np.int64)
    for test in tests:
        first = _first(partial(test, some), first, n_b)
    first = np.ceil(np.interp(x_a, some, first)).astype(np.int64)
    from_there = np.where(first > 0, bdtrc(np.maximum(first - 1, 0), n_b, b), 1.0)
    return float(binom.pmf(x_a, n_a, a) @ np.where(first > n_b, 0.0, from_there))


def _first(holds: Callable[[Counts], Any], low: Counts, most: int) -> Counts:
    """The first count from ``low`` on that holds, elementwise; ``most + 1`` where none does.

    In steps that double, then by halves: an exact test far from where it turns is slow.
    """
    step, high = 1, low
    while True:
        late = (high <= most) & ~holds(np.minimum(high, most))
        if not late.any():
            break
        low, high, step = (
            np.where(late, high + 1, low),
            np.where(late, np.minimum(high + step, most + 1), high),
            2 * step,
        )
    while (low < high).any():
        middle = (low + high) // 2
        found = (middle > most) | holds(np.minimum(middle, most))
        low, high = np.where(found, low, middle + 1), np.where(found, middle, high)
    return low


def least_of_all(enough: Callable[[Counts], npt.NDArray[np.bool_]]) -> int:
    """The count from which on ``enough`` holds, for it and all up to its double: power has teeth like a saw.

    Raises ValueError where ``MOST`` answers are not enough.
    """
    high, last = 64, 0
    n = np.arange(1, high + 1)
    while True:
        last = int(n[~enough(n)].max(initial=last))
        if 2 * (last + 1) <= high:
            return last + 1
        if last >= MOST:
            raise ValueError(f"more than {MOST} answers")
        n, high = np.arange(high + 1, 2 * high + 1, max(1, high // GRID)), 2 * high


def least(enough: Callable[[int], bool]) -> int:
    """The count from which on ``enough`` holds, found by bisection: to the width of one tooth of the saw.

    Raises ValueError where ``MOST`` answers are not enough.
    """
    high = 1
    while not enough(high):
        if high >= MOST:
            raise ValueError(f"more than {MOST} answers")
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
