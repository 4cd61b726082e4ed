"""How often the best of a search in one half of the days is below the median in the other half.

Bailey, Borwein, Lopez de Prado & Zhu (2017), "The probability of backtest overfitting": combinatorially symmetric
cross-validation, ranked by Sharpe ratio.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

AT_ONCE = 1 << 21  #: Sharpe ratios held in memory at a time


def pbo(returns: Floats, blocks: int = 16) -> float:
    """Share of the splits in which the best of one half ranks in the lower half of all trials in the other half.

    ``returns`` (D, M): each column is two trials, as it is and sold short. ``blocks`` (even): consecutive groups of
    days, equal but for a day; 16 give 12,870 splits. Ties count as half. NaN without a column or with fewer than two
    days a block.
    """
    days, trials = returns.shape
    if trials == 0 or days < 2 * blocks:
        return math.nan
    edges = np.linspace(0, days, blocks + 1).astype(int)
    lengths = np.diff(edges).astype(np.float64)
    # around the mean of all days, so that the sums of squares do not cancel
    mean = returns.mean(axis=0)
    centred = returns - mean
    sums = np.add.reduceat(centred, edges[:-1], axis=0)
    squares = np.add.reduceat(centred * centred, edges[:-1], axis=0)

    # a split and its mirror share a row: only those that hold block 0 are listed
    halves = np.array([[i in half for i in range(blocks)] for half in _halves(blocks)], dtype=np.float64)
    low = 0.0
    step = max(AT_ONCE // trials, 1)
    for start in range(0, len(halves), step):
        first = halves[start : start + step]
        a = _sharpes(first, lengths, sums, squares, mean)
        b = _sharpes(1 - first, lengths, sums, squares, mean)
        low += _below_median(a, b) + _below_median(b, a)
    return low / (2 * len(halves))


def _halves(blocks: int) -> list[tuple[int, ...]]:
    return [(0, *rest) for rest in combinations(range(1, blocks), blocks // 2 - 1)]


def _sharpes(chosen: Floats, lengths: Floats, sums: Floats, squares: Floats, mean: Floats) -> Floats:
    """(splits, blocks) of 0 and 1 -> (splits, M); 0 where a trial does not move."""
    count = (chosen @ lengths)[:, None]
    centre = (chosen @ sums) / count
    variance = (chosen @ squares) / count - centre**2
    moves = variance > 1e-12 * (squares.sum(axis=0) / lengths.sum())
    ratio: Floats = np.divide(
        centre + mean, np.sqrt(np.where(moves, variance, 1.0)), out=np.zeros_like(centre), where=moves
    )
    return ratio


def _below_median(chosen_by: Floats, ranked_by: Floats) -> float:
    """Of trials on both sides the median is 0: below it is a loss of the trial, on the side that was better before."""
    rows = np.arange(len(chosen_by))
    best = np.abs(chosen_by).argmax(axis=1)
    later = np.sign(chosen_by[rows, best]) * ranked_by[rows, best]
    return float((later < 0).sum() + 0.5 * (later == 0).sum())
