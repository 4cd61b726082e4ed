"""Whether a mean improvement is shown to exceed a threshold, with what certainty, and how many examples that takes.

    x_i, y_i   scores of challenger and champion on example i of n, turned so that more is better
    d_i        x_i - y_i; m, s their mean and standard deviation; e = s / sqrt(n)
    theta      the threshold. That the true mean exceeds it is shown at ``level`` where such d_i would come with a
               probability of ``level`` or less, did it not
    T          (m - theta) / e

Scores of 0 and 1 have exact tests (:mod:`windlass.registry.exact`). For other scores no test of a mean is right for
all distributions (Bahadur and Savage, Annals of Mathematical Statistics 27 (1956), 1115-1122): a loss that is rare and
large enough is not among n examples. What is shown here is therefore shown by each of three:

- Student's t.
- The studentised bootstrap (Hall, Annals of Statistics 16 (1988), 927-953; Efron and Tibshirani, An Introduction to
  the Bootstrap (1993), chapter 12), which knows of skewness; the percentile bootstrap is too sure of itself at levels
  such as 0.05 / 20. Beyond ``RESAMPLED`` examples Hall's transformation of T takes its place (Journal of the Royal
  Statistical Society B 54 (1992), 221-228).
- What n examples can miss. A difference of probability q is not among them with (1 - q)^n; the mean has to exceed
  theta even if the q that is missed as often as ``level`` is twice as far below the median as the worst that was
  seen.

Where more than half of the differences are equal (graded scores of similar models), the worst that was seen says
little: what was missed is then as bad as from the best to the worst score. And T, in data and resamples, counts one
example more, against the challenger, as far from the median as any: three wins and 497 ties are then no proof.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtr, stdtrit

Array = npt.NDArray[np.float64]

FEWEST = 10  #: differences, below which nothing is shown
RESAMPLED = 5000  #: differences, up to which the bootstrap is drawn
DRAWS = 50  #: expected beyond the critical value, so many decide on it
_CHUNK = 1 << 18  #: numbers drawn at once
_SAME = 1e-12  #: differences this close, beside the largest score, are rounding
_OUT_OF_REACH = 10**9  #: examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a test of "the mean improvement exceeds ``threshold``" shows."""

    n: int
    delta: float  #: mean improvement
    sd: float  #: of one difference
    low: float  #: shown at ``level`` each: the improvement is above ``low``, below ``high``
    high: float
    threshold: float
    level: float
    p_value: float
    test: str
    step: float = 0.0  #: between mean and threshold, that a test of counts needs more than the distance to ``low``

    @property
    def passed(self) -> bool:
        return self.p_value <= self.level

    @property
    def error(self) -> float:
        return self.sd / math.sqrt(self.n)

    def power(self, improvement: float) -> float | None:
        """Probability that n such examples show it, should the true mean be ``improvement``. None without any spread.

        By the normal distribution of the mean, with the spread and the distance from mean to bound observed here.
        """
        if self.error == 0:
            return None
        return float(ndtr((improvement - self.threshold - self._needed) / self.error))

    def detectable(self, power: float) -> float:
        """The improvement that is shown with this probability; ``power``'s inverse."""
        return self.threshold + self._needed + float(ndtri(power)) * self.error

    def examples_to_pass(self, power: float) -> int | None:
        """Further examples after which it is shown with this probability, should mean and spread be those seen so far.

        None where the estimate is not above the threshold: then no number would.
        """
        return self._further(self.delta - self.threshold, self._needed, power)

    def examples_to_exclude(self, improvement: float, power: float) -> int | None:
        """Further examples after which ``high`` is below ``improvement``, likewise."""
        return self._further(improvement - self.delta, self.high - self.delta, power)

    @property
    def _needed(self) -> float:
        return self.delta - self.low + self.step

    def _further(self, distance: float, reach: float, power: float) -> int | None:
        """The n examples stay, m new ones join: their part of the new mean varies by s sqrt(m) / (n + m)."""
        n, z = self.n, float(ndtri(power))

        def settles(total: int) -> bool:
            return distance - self._reach(total, reach) >= z * self.sd * math.sqrt(total - n) / total

        if distance <= 0:
            return None
        above = 2 * n
        while not settles(above):
            above *= 2
            if above > _OUT_OF_REACH:
                return None
        below = n
        while above - below > 1:
            middle = (above + below) // 2
            below, above = (below, middle) if settles(middle) else (middle, above)
        return above - n

    def _reach(self, total: int, reach: float) -> float:
        """``reach`` with ``total`` examples: its normal part shrinks with their root, what is beyond that faster."""
        normal = -float(ndtri(self.level)) * self.sd
        return normal / math.sqrt(total) + (reach - normal / math.sqrt(self.n)) * self.n / total


def paired_bootstrap(challenger: Array, champion: Array, threshold: float, level: float) -> Shown:
    """Of two arrays (n,), example by example, more is better; ``level`` is one-sided, below 0.5.

    The p-value is the largest of the three tests' (see the module), the bounds are the widest. Neither the order of the
    examples nor the unit of the scores matters; the draws are the same for equal n and level. Raises ValueError on
    arrays of different lengths and on numbers that are not finite.
    """
    sample = Differences(challenger, champion)
    p_value, low, high = 1.0, sample.worst, sample.best
    if sample.n >= FEWEST:
        drawn = _draws(sample, level) if sample.n <= RESAMPLED else None
        p_value, low = _lower(sample, drawn, threshold, level)
        high = -_lower(sample.mirrored(), None if drawn is None else drawn.mirrored(), -threshold, level)[1]
    return Shown(
        n=sample.n,
        delta=sample.mean,
        sd=sample.sd,
        low=low,
        high=high,
        threshold=threshold,
        level=level,
        p_value=p_value,
        test="paired bootstrap" if sample.n <= RESAMPLED else "paired t test, corrected for skewness",
    )


class Differences:
    """The d_i in ascending order, and what is worth knowing of them. Raises ValueError as :func:`paired_bootstrap`."""

    def __init__(self, challenger: Array, champion: Array) -> None:
        x, y = np.asarray(challenger, float), np.asarray(champion, float)
        if x.shape != y.shape or x.ndim != 1 or len(x) == 0:
            raise ValueError(f"scores of the same examples are needed, not of {x.shape} and {y.shape}")
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValueError("scores are finite numbers")
        both = np.concatenate([x, y])
        scale = float(np.abs(both).max())
        self.rounding = _SAME * scale
        ordered = np.sort(x - y)
        starts = np.flatnonzero(np.diff(ordered, prepend=-np.inf) > self.rounding)
        counts = np.diff(starts, append=len(ordered))
        differences = np.repeat(ordered[starts], counts)  # equal but for rounding is equal
        self.n = len(differences)
        self.mean = float(differences.mean())
        self.centred = differences - self.mean
        self.sd = float(differences.std(ddof=1)) if self.n > 1 and len(starts) > 1 else 0.0
        self.middle = float(np.median(differences))
        self.farthest = float(np.abs(differences - self.middle).max())
        self.tied = bool(counts.max() > self.n / 2)
        reach = max(float(np.ptp(both)) or scale, self.farthest)
        self.worst = self.middle - (reach if self.tied else 2 * (self.middle - float(differences[0])))
        self.best = self.middle + (reach if self.tied else 2 * (float(differences[-1]) - self.middle))

    def mirrored(self) -> Differences:
        """The same for the differences' opposites."""
        other = object.__new__(Differences)
        turned = {"mean": -self.mean, "middle": -self.middle, "worst": -self.best, "best": -self.worst}
        other.__dict__.update(self.__dict__, centred=-self.centred, **turned)
        return other

    @property
    def against(self) -> float | None:
        """One example more, centred like the others; None where it is not counted."""
        return self.middle - self.farthest - self.mean if self.tied else None

    def error(self, sums: Any, squares: Any) -> Any:
        """Standard error of a mean, from sums of n centred differences and of their squares, ``against`` counted."""
        extra, n = self.against, self.n
        if extra is None:
            variance = (squares - sums**2 / n) / (n - 1)
        else:
            variance = (squares + extra**2 - (sums + extra) ** 2 / (n + 1)) / n
        return np.sqrt(np.where(variance > self.rounding**2, variance, 0.0) / n)


@dataclass(frozen=True)
class _Draws:
    """Sums of resampled centred differences, and of their squares."""

    sums: Array
    squares: Array

    def mirrored(self) -> _Draws:
        return _Draws(-self.sums, self.squares)


def _draws(sample: Differences, level: float) -> _Draws:
    n, count = sample.n, math.ceil(DRAWS / level) - 1
    rng = np.random.default_rng([n, count])
    rows = max(1, _CHUNK // n)
    sums, squares = np.empty(count), np.empty(count)
    for start in range(0, count, rows):
        some = slice(start, min(start + rows, count))
        drawn = sample.centred.take(rng.integers(n, size=(some.stop - some.start, n)))
        sums[some] = drawn.sum(axis=1)
        squares[some] = np.einsum("ij,ij->i", drawn, drawn)
    return _Draws(sums, squares)


def _lower(sample: Differences, draws: _Draws | None, threshold: float, level: float) -> tuple[float, float]:
    """p-value for a mean above ``threshold``, and the lower bound at ``level``."""
    n, mean = sample.n, sample.mean
    centre = mean if sample.against is None else mean + sample.against / (n + 1)
    error = float(sample.error(0.0, float(sample.centred @ sample.centred)))
    p_value, low = missed(sample, threshold, level)
    if error == 0:
        return (p_value if centre > threshold else 1.0), low
    t = (centre - threshold) / error
    p_beyond, critical = _normal(sample, t, level) if draws is None else _bootstrap(sample, draws, t, level)
    critical = max(critical, -float(stdtrit(n - 1, level)))
    return max(p_value, p_beyond, float(stdtr(n - 1, -t))), max(min(low, centre - critical * error), sample.worst)


def _bootstrap(sample: Differences, draws: _Draws, t: float, level: float) -> tuple[float, float]:
    """p-value of T, and its critical value; a resample without spread counts as infinitely far."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ts = np.nan_to_num(
            draws.sums / sample.n / sample.error(draws.sums, draws.squares), posinf=np.inf, neginf=-np.inf
        )
    count = len(ts)
    beyond = math.floor(level * (count + 1) * (1 + 1e-9)) - 1
    critical = float(np.partition(ts, count - 1 - beyond)[count - 1 - beyond])
    return float(1 + np.count_nonzero(ts >= t)) / (count + 1), critical


def _normal(sample: Differences, t: float, level: float) -> tuple[float, float]:
    """The same in the limit of many examples: Hall's g(T) = T + a T^2 + a^2 T^3 / 3 + a / 2 is close to normal."""
    a = float((sample.centred**3).mean()) / sample.sd**3 / (3 * math.sqrt(sample.n))
    z = -float(ndtri(level))
    critical = z if a == 0 else float(np.cbrt(1 + 3 * a * (z - a / 2)) - 1) / a
    return float(ndtr(-(t + a * t**2 + a**2 * t**3 / 3 + a / 2))), critical


def missed(sample: Differences, threshold: float, level: float) -> tuple[float, float]:
    """p-value and lower bound by what n examples can miss."""
    n, gain, depth = sample.n, sample.mean - threshold, sample.mean - sample.worst
    least = -math.expm1(math.log(level) / n)  # the probability q that is missed with probability ``level``
    low = sample.mean - least * depth
    if gain <= 0 or depth <= 0:
        return 1.0, low
    return max(1 - gain / depth, 0.0) ** n, low
