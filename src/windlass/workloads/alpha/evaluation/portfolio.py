"""From a signal to the weights that are held.

**Target** of a row: rank weights (average ranks of the tradable names with a signal, minus their mean), in p2 each over
its name's volatility, so that a nervous name counts no more than a calm one; or quantiles (equal weights in the upper
and the lower share, a tie at the border shares what is left). Then the projection of the market's controls, then
sum |w| = 1. In a projection a tradable name without a signal counts as average and may carry a part of the hedge. A row
with fewer than ``LEAST_NAMES`` signals, or with nothing left after the projection, is zero. Every target sums to 0 over
the names.

**Book**: the mean of the last ``holding`` targets, rows without one counting as zero; sum |w| is below 1 where they
differ. It is not projected again: each target is as neutral as the controls of its own day make it, and a name that
leaves the universe, or becomes hard to borrow, runs off with its holding period.

**Path**: sign x scale x book, as far as the turnover cap and missing fills let it; its state runs through all rows, and
no segment starts anew. It starts from cash, so that its first row buys the whole book.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from windlass.workloads.alpha.checks import LEAST_NAMES
from windlass.workloads.alpha.evaluation.controls import NEGLIGIBLE
from windlass.workloads.alpha.evaluation.market import Market
from windlass.workloads.alpha.evaluation.ranking import Ranking, blocks
from windlass.workloads.alpha.evaluation.timeline import LABEL
from windlass.workloads.alpha.panel import Bools, Floats
from windlass.workloads.alpha.spec import Portfolio

YEAR = 252  #: trading days
SCALE_DAYS = 60  #: of realised returns of the book, for the volatility target
LEAST_SCALE_DAYS = 20  #: realised ones; with fewer the scale is 1


def targets(ranks: Ranking, market: Market, portfolio: Portfolio, rows: slice) -> Floats:
    """(R, N): each row's target of the signal with these ``ranks`` over the tradable names of as many ``rows``."""
    if portfolio.weighting == "quantile":
        upper, lower = ranks.ends(portfolio.quantile)
        weights = upper - lower
    else:
        weights = ranks.centred.copy()
        if market.inverse is not None:
            _share_risk(weights, np.where(ranks.valid, market.inverse[rows], 0.0))
    before = np.abs(weights).sum(axis=1)
    if market.controls is not None:
        weights = market.controls.project(weights, rows)
        total = np.abs(weights).sum(axis=1)
    else:
        total = before
    held = (ranks.count >= LEAST_NAMES) & (total > NEGLIGIBLE * before)
    weights *= np.divide(1.0, total, out=np.zeros_like(total), where=held)[:, None]
    return weights


def _share_risk(weights: Floats, inverse: Floats) -> None:
    """Divide each weight by its name's volatility, and keep the sum over the names at 0; in place."""
    weights *= inverse
    whole = inverse.sum(axis=1)
    mean = np.divide(weights.sum(axis=1), whole, out=np.zeros_like(whole), where=whole > 0)
    weights -= mean[:, None] * inverse


def overlapped(targets: Floats, holding: int) -> Floats:
    """(T, N): the mean of the last ``holding`` targets; changes ``targets`` in place."""
    for rows in reversed(list(blocks(0, len(targets)))):  # from the last: what is above is still a target
        total = targets[rows].copy()
        for lag in range(1, holding):
            if rows.stop - lag <= 0:
                break
            skipped = max(lag - rows.start, 0)
            total[skipped:] += targets[rows.start + skipped - lag : rows.stop - lag]
        total /= holding
        targets[rows] = total
    return targets


def unfilled(wanted: Floats, stuck: Bools) -> Floats:
    """``wanted`` (T, N) where an order can be filled; where it is ``stuck``, what was held the row before."""
    if not stuck.any():
        return wanted
    names = np.flatnonzero(stuck.any(axis=0))
    free = ~stuck[:, names]
    rows = np.maximum.accumulate(np.where(free, np.arange(len(free))[:, None], -1), axis=0)
    held = np.take_along_axis(wanted[:, names], np.maximum(rows, 0), axis=0)
    out = wanted.copy()
    out[:, names] = np.where(rows >= 0, held, 0.0)
    return out


def scales(returns: Floats, book: Floats, portfolio: Portfolio) -> Floats:
    """(T,): what brings the book's volatility to the target, at most ``leverage``; 1 without a target.

    ``returns`` (T,) are those of the ``book`` (T, N), whose empty rows do not count. On row t those of the SCALE_DAYS
    rows up to t - LABEL are known: the last of them ended at a price of t at the latest.
    """
    scale = np.ones(len(returns))
    if portfolio.volatility_target is None:
        return scale
    daily, held = portfolio.volatility_target / math.sqrt(YEAR), np.abs(book).sum(axis=1) > 0
    for row in range(len(returns)):
        known = slice(max(row - LABEL - SCALE_DAYS + 1, 0), max(row - LABEL + 1, 0))
        realised = returns[known][held[known]]
        deviation = realised.std(ddof=1) if len(realised) >= LEAST_SCALE_DAYS else 0.0
        if deviation > 0:
            scale[row] = min(daily / deviation, portfolio.leverage)
    return scale


def path(
    weights: Floats, signs: npt.NDArray[np.int64], scale: Floats, stuck: Bools, turnover_cap: float | None
) -> Floats:
    """(T, N): what is held, from cash before the first row.

    ``signs`` and ``scale`` are (T,). The cap limits a row's sum |change| / 2; beyond it all trades of the row shrink by
    the same factor, and what is missing is wanted again on the next row.
    """
    wanted = weights * (signs * scale)[:, None]
    if turnover_cap is None:
        return unfilled(wanted, stuck)
    held, now = np.empty_like(wanted), np.zeros(wanted.shape[1])
    for row, aim in enumerate(wanted):
        trades = np.where(stuck[row], 0.0, aim - now)
        total = np.abs(trades).sum() / 2
        if total > turnover_cap:
            trades *= turnover_cap / total
        now = now + trades
        held[row] = now
    return held
