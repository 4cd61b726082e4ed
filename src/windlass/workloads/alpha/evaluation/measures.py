"""Figures of series and weights. Everything of a year is of 252 trading days; NaN where a figure is not defined.

No sum here is BLAS's: the same input gives the same bits whatever its place in memory.
"""

from __future__ import annotations

import math

import numpy as np

from windlass.workloads.alpha.checks import LEAST_NAMES
from windlass.workloads.alpha.evaluation.portfolio import YEAR
from windlass.workloads.alpha.evaluation.ranking import Ranking
from windlass.workloads.alpha.panel import Bools, Floats, Int16s

TINIEST = 1e-300  #: largest value of a row below which it counts as 0
ROUNDING = 1e-13  #: deviations from a mean, as a share of it, that are rounding


def correlations(a: Floats, b: Floats, valid: Bools) -> Floats:
    """Pearson's r of each row over the valid names, (T, N) x 2 -> (T,).

    NaN where fewer than ``LEAST_NAMES`` are valid or one of the two does not vary. ``a`` and ``b`` are finite where
    valid.
    """
    count = valid.sum(axis=1).astype(np.float64)
    return cosines(_centred(a, valid, count), _centred(b, valid, count), count)


def cosines(x: Floats, y: Floats, count: Floats) -> Floats:
    """(T,): r of rows (T, N) that have a mean of 0 over their ``count`` names and 0 for all others."""
    xx, yy, xy = (np.einsum("tn,tn->t", p, q) for p, q in ((x, x), (y, y), (x, y)))
    norm = np.sqrt(xx) * np.sqrt(yy)
    r: Floats = np.divide(xy, norm, out=np.full(len(norm), np.nan), where=(count >= LEAST_NAMES) & (norm > 0))
    np.clip(r, -1.0, 1.0, out=r)
    return r


def _centred(x: Floats, valid: Bools, count: Floats) -> Floats:
    """Deviations from the row's mean, 0 where not valid or where all are equal; scaled, so that squares stay finite."""
    filled = np.where(valid, x, 0.0)
    highest, lowest = filled.max(axis=1, initial=0.0), filled.min(axis=1, initial=0.0)
    largest = np.maximum(highest, -lowest)
    filled *= np.divide(1.0, largest, out=np.zeros_like(largest), where=largest > TINIEST)[:, None]
    mean = filled.sum(axis=1) / np.maximum(count, 1.0)
    filled -= mean[:, None]
    filled *= valid
    equal = np.maximum(filled.max(axis=1, initial=0.0), -filled.min(axis=1, initial=0.0)) <= ROUNDING * np.abs(mean)
    filled[equal] = 0.0
    return filled


def spread(ranks: Ranking, forward: Floats, share: float) -> Floats:
    """(T,): mean return of the upper ``share`` of the names minus that of the lower; NaN with too few names.

    ``forward`` (T, N) has 0 where a return is missing: nothing was earned.
    """
    upper, lower = ranks.ends(share)
    upper -= lower
    daily: Floats = np.einsum("tn,tn->t", upper, forward)
    daily[ranks.count < LEAST_NAMES] = np.nan
    return daily


def mean(x: Floats) -> float:
    known = x[np.isfinite(x)]
    return float(known.mean()) if len(known) else math.nan


def ratio(x: Floats) -> float:
    """Mean over standard deviation (ddof 1) of what is known; NaN where there are fewer than two or all are equal."""
    known = x[np.isfinite(x)]
    if len(known) < 2 or known.min() == known.max():
        return math.nan
    return float(known.mean() / known.std(ddof=1))


def t_statistic(x: Floats) -> float:
    """Of the mean, as if the terms were independent; the gate's is ``hac_t``."""
    return ratio(x) * math.sqrt(int(np.isfinite(x).sum()))


def sharpe(x: Floats) -> float:
    """Of a year, of daily returns; the information ratio of a book that is financed by itself."""
    return ratio(x) * math.sqrt(YEAR)


def max_drawdown(returns: Floats) -> float:
    """The deepest fall of compounded wealth below its peak so far, at most 0: -0.2 is a loss of a fifth."""
    if not len(returns):
        return math.nan
    wealth = np.concatenate([[1.0], np.cumprod(1.0 + returns)])
    return float((wealth / np.maximum.accumulate(wealth) - 1.0).min())


def slope(y: Floats, x: Floats) -> float:
    """Of the least-squares line of ``y`` on ``x``: the realised beta, where ``x`` is the market's return."""
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 2:
        return math.nan
    dx = x[known] - x[known].mean()
    variance = float((dx * dx).sum())
    return float((dx * (y[known] - y[known].mean())).sum()) / variance if variance > 0 else math.nan


def correlation(x: Floats, y: Floats) -> float:
    """Pearson's r of two series (D,); NaN where one of them does not vary."""
    if len(x) < 2 or x.min() == x.max() or y.min() == y.max():
        return math.nan
    dx, dy = x - x.mean(), y - y.mean()
    return float((dx * dy).sum() / (math.sqrt((dx * dx).sum()) * math.sqrt((dy * dy).sum())))


def static_tilt_share(held: Floats) -> float:
    """The share of the weights' second moment that lies in their mean over time, 0 to 1: sum_i mean_t(w)^2 over
    mean_t(sum_i w^2). At 1 the book never changes, and its return is that of a fixed basket."""
    total = float(np.einsum("tn,tn->", held, held)) / max(len(held), 1)
    fixed = held.mean(axis=0)
    return float((fixed * fixed).sum()) / total if total > 0 else math.nan


def sector_exposure(held: Floats, sectors: Int16s) -> float:
    """The largest |sum of weights| of a sector on any row; names without a sector count as one."""
    order = np.argsort(sectors, kind="stable")
    starts = np.searchsorted(sectors[order], np.unique(sectors))
    return float(np.abs(np.add.reduceat(held[:, order], starts, axis=1)).max(initial=0.0))


def half_ratio_assets(gross: Floats, other: Floats, impact: Floats, assets: float, exponent: float) -> float:
    """Assets at which the net Sharpe is half of the gross one, where only impact grows with assets.

    ``other`` costs and ``impact`` are (D,) at ``assets``; impact is taken as assets^exponent, so a trade whose
    participation is at its bound of 1 counts too much, not too little. 0 where costs without impact already take half;
    NaN where the gross Sharpe is not above 0 or nothing has an impact.
    """
    whole = sharpe(gross)
    if not whole > 0 or not impact.any():
        return math.nan
    if not sharpe(gross - other) > whole / 2:
        return 0.0
    low, high = -12.0, 12.0  # powers of ten of the assets given
    for _ in range(60):
        middle = (low + high) / 2
        above = sharpe(gross - other - impact * 10 ** (middle * exponent)) > whole / 2
        low, high = (middle, high) if above else (low, middle)
    return assets * 10**low
