"""Exact tests for scores of 0 and 1: champion and challenger on the same examples, or one of them alone.

    n       examples
    b, c    examples that only the challenger, only the champion has right; the others say nothing of the difference
    delta   b / n - c / n, the improvement; theta the threshold: shown is that the true improvement exceeds it
    psi     the probability that the two differ on an example: (b, c) is trinomial with (psi +- delta) / 2

At theta 0 the test is McNemar's, exact: b of b + c coins (McNemar, Psychometrika 12 (1947), 153-157). At other
thresholds psi matters and is not known: the p-value is the largest over those psi that b + c does not speak against,
and the error of saying so is added (Berger and Boos, JASA 89 (1994), 1012-1016). What counts as at least as extreme is
ordered by Tango's score (Statistics in Medicine 17 (1998), 891-908), which hardly depends on psi; b - c does, and would
have to be judged by the largest psi that is possible. Improvements below theta need no search: the score grows with b
and falls with c, so the largest p-value lies on theta (Sidik, Statistics in Medicine 22 (2003), 265-278), or on psi
where that is less.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import bdtr, bdtrc, betainc, betaincinv, gammaln, ndtri, xlog1py, xlogy

from windlass.registry.statistics import Shown

Array = npt.NDArray[np.float64]

SPENT_ON_PSI = 0.02  #: of the level, on the values of psi that are left out
_FOR_TEST, _FOR_BOUNDS = 48, 8  #: values of psi to begin with
_TAIL = 8.0  #: standard deviations of b + c; what lies beyond ...
_NOTHING = 1e-14  #: ... has a probability below this
_ALIKE = 1e-9  #: scores that differ by less are equal


def exact_paired(b: int, c: int, n: int, threshold: float, level: float) -> Shown:
    """Whether the improvement exceeds ``threshold``, one-sided; the bounds are those that the test does not rule out.

    A threshold above 0 has to pass McNemar's test as well, so that asking for more is never easier. Raises ValueError
    on counts that cannot be.
    """
    if not (b >= 0 and c >= 0 and b + c + n > 0 and b + c <= n):
        raise ValueError(f"{b} + {c} examples differ, of {n}")
    p_value = mcnemar(b, c) if threshold >= 0 else 0.0
    if threshold != 0:
        p_value = max(p_value, unconditional(b, c, n, threshold, SPENT_ON_PSI * level))
    low, high = _lower(b, c, n, level), -_lower(c, b, n, level)
    # the bounds come from a search and, at threshold 0, from another ordering: the test decides on which side they are
    low = max(low, threshold) if p_value <= level else min(low, threshold)
    delta, psi = (b - c) / n, (b + c) / n
    return Shown(
        n=n,
        delta=delta,
        sd=math.sqrt(max(psi - delta**2, 0.0)),
        low=low,
        high=high,
        threshold=threshold,
        level=level,
        p_value=p_value,
        test="exact McNemar" if threshold == 0 else "exact unconditional",
        step=1 / n if threshold == 0 else 0.0,
    )


def exact_share(right: int, n: int, threshold: float, level: float) -> Shown:
    """Whether a share of n examples exceeds ``threshold``: binomial test, bounds of Clopper and Pearson (1934)."""
    share, p_value = right / n, 1.0
    if right:
        p_value = float(bdtrc(right - 1, n, min(max(threshold, 0.0), 1.0)))
    elif threshold < 0:
        p_value = 0.0
    return Shown(
        n=n,
        delta=share,
        sd=math.sqrt(share * (1 - share)),
        low=float(betaincinv(right, n - right + 1, level)) if right else 0.0,
        high=float(betaincinv(right + 1, n - right, 1 - level)) if right < n else 1.0,
        threshold=threshold,
        level=level,
        p_value=p_value,
        test="exact binomial",
    )


def mcnemar(b: int, c: int) -> float:
    """Probability of at least b of b + c where either is as likely."""
    return float(bdtr(c, b + c, 0.5))


def unconditional(b: int, c: int, n: int, theta: float, error: float, points: int = _FOR_TEST) -> float:
    """p-value for an improvement above ``theta``; ``error`` is spent on leaving out values of psi."""
    low, high = _plausible(b + c, n, error)
    low = max(low, -theta)  # a fall of more than psi cannot be
    if low > high:
        return error
    tail = _Tail(b, c, n, theta, low, high)
    grid = np.linspace(low, high, points)
    values = tail(grid)
    best = int(values.argmax())
    finer = tail(np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, points - 1)], points // 2))
    return min(1.0, max(float(values[best]), float(finer.max())) + error)


def score(b: Any, c: Any, n: int, theta: float) -> Any:
    """Tango's: b / n - c / n - theta over its standard error where the improvement is ``theta``; 0 where b, c are 0."""
    linear = (2 * n - b + c) * theta - b - c
    root = np.sqrt(np.maximum(linear**2 + 8 * n * c * theta * (1 - theta), 0.0))
    variance = n * ((root - linear) / (2 * n) + theta * (1 - theta))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, (b - c - n * theta) / np.sqrt(variance), 0.0)


class _Tail:
    """Probability, as a function of psi, of a score as high as that of b and c where the true improvement is theta."""

    def __init__(self, b: int, c: int, n: int, theta: float, low: float, high: float) -> None:
        self.n, self.theta = n, theta
        spread = [_TAIL * math.sqrt(n * psi * (1 - psi)) + _TAIL for psi in (low, high)]
        first, last = max(0, math.floor(n * low - spread[0])), min(n, math.ceil(n * high + spread[1]))
        self.differing = np.arange(first, last + 1, dtype=float)
        self.ways = gammaln(n + 1) - gammaln(self.differing + 1) - gammaln(n - self.differing + 1)
        self.least = self._least(float(score(b, c, n, theta)) - _ALIKE)

    def _least(self, limit: float) -> Array:
        """The fewest b, for each b + c, that reach ``limit``; b + c + 1 where none do."""
        total = self.differing
        below, above = np.full(len(total), -1.0), total + 1
        while (above - below > 1).any():
            middle = np.floor((below + above) / 2)
            reached = score(middle, total - middle, self.n, self.theta) >= limit
            going = above - below > 1
            above = np.where(going & reached, middle, above)
            below = np.where(going & ~reached, middle, below)
        return above

    def __call__(self, psi: Array) -> Array:
        p, total = psi[:, None], self.differing
        weight = np.exp(self.ways + xlogy(total, p) + xlog1py(self.n - total, -p))
        row, column = np.nonzero(weight > _NOTHING)
        least, share = self.least[column], (psi[row] + self.theta) / (2 * np.maximum(psi[row], _NOTHING))
        beyond = betainc(np.maximum(least, 1), np.maximum(total[column] - least + 1, 1), np.clip(share, 0.0, 1.0))
        beyond = np.where(least <= 0, 1.0, np.where(least > total[column], 0.0, beyond))
        return np.bincount(row, weight[row, column] * beyond, minlength=len(psi)).astype(float)


def _plausible(differing: int, n: int, error: float) -> tuple[float, float]:
    """Values of psi that are not rejected at ``error`` (Clopper and Pearson, Biometrika 26 (1934), 404-413)."""
    low = float(betaincinv(differing, n - differing + 1, error / 2)) if differing else 0.0
    high = float(betaincinv(differing + 1, n - differing, 1 - error / 2)) if differing < n else 1.0
    return low, high


def _lower(b: int, c: int, n: int, level: float) -> float:
    """The largest improvement such that it, and less, is ruled out at ``level``."""
    z = -float(ndtri(level))
    most = 1 - 1e-9

    def short(theta: float) -> float:
        """How far the score is below z, in standard errors."""
        return z - float(score(b, c, n, theta))

    def excess(theta: float) -> float:
        """The same of the exact p-value, as a quantile."""
        p_value = unconditional(b, c, n, theta, SPENT_ON_PSI * level, _FOR_BOUNDS)
        return z - float(ndtri(1 - min(max(p_value, 1e-15), 1 - 1e-15)))

    delta = min((b - c) / n, most)
    if short(-most) >= 0:
        return -1.0
    about = brentq(short, -most, delta, xtol=1e-9)
    step = 0.1 * max(delta - about, 1e-6)
    low, high = about - step, about
    while low > -most and excess(low) > 0:
        low, high, step = low - 2 * step, low, 2 * step
    if low <= -most:
        return -1.0
    while high < delta and excess(high) <= 0:
        low, high, step = high, min(high + 2 * step, delta), 2 * step
    return float(brentq(excess, low, high, xtol=5e-3 * (delta - about) + 1e-12)) if high < delta else low
