"""The loops of the engine in numpy alone. ``kernels_numba`` holds the same functions and gives the same bits.

``x`` and ``y`` are (rows, names), missing is NaN; a window of ``days`` rows ends with the row it is written to, the
first ``days - 1`` rows of a result are NaN, and so is every window with a NaN in it. Windows are summed from the
oldest row to the newest. A block of rows at a time keeps the work inside the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BLOCK = 32  #: rows worked on at a time; has no influence on a result

_LARGEST = np.iinfo(np.int64).max
_HIGHEST = np.finfo(np.float64).max


def weighted_sum(x: Floats, weights: Floats) -> Floats:
    """``weights`` (days,), the oldest row's first."""
    out = np.full_like(x, np.nan)
    for rows, window in _blocks(x, len(weights)):
        total = np.zeros_like(window[0])
        for weight, value in zip(weights, window, strict=True):
            total += weight * value
        out[rows] = total
    return out


def window_product(x: Floats, days: int) -> Floats:
    out = np.full_like(x, np.nan)
    for rows, window in _blocks(x, days):
        total = np.ones_like(window[0])
        for value in window:
            total *= value
        out[rows] = total
    return out


def window_max(x: Floats, days: int) -> Floats:
    out = np.full_like(x, np.nan)
    for rows, window in _blocks(x, days):
        best = window[0].copy()
        for value in window[1:]:
            np.maximum(best, value, out=best)
        out[rows] = best + 0.0  # of 0.0 and -0.0 either may have been kept
    return out


def window_argmax(x: Floats, days: int) -> Floats:
    """1 for the oldest row; of equal values the oldest."""
    out = np.full_like(x, np.nan)
    for rows, window in _blocks(x, days):
        best, position = window[0].copy(), np.ones_like(window[0])
        for k, value in enumerate(window[1:], start=2):
            position = np.where(value > best, float(k), position)
            np.maximum(best, value, out=best)
        out[rows] = np.where(np.isnan(best), np.nan, position)
    return out


def window_rank(x: Floats, days: int) -> Floats:
    """Of the newest row, in (0, 1]; equal values share the mean rank."""
    out = np.full_like(x, np.nan)
    for rows, window in _blocks(x, days):
        today = window[-1]
        rank, missing = np.full_like(today, 0.5), np.zeros(today.shape, np.bool_)
        for value in window:
            rank += value < today
            rank += 0.5 * (value == today)
            missing |= np.isnan(value)
        rank /= days
        rank[missing] = np.nan
        out[rows] = rank
    return out


def deviation(x: Floats, days: int) -> tuple[Floats, Floats]:
    """Newest value minus the window's mean, and the sample standard deviation: exactly 0 where all are equal."""
    last, deviations = np.full_like(x, np.nan), np.full_like(x, np.nan)
    for rows, window in _blocks(x, days):
        mean = _mean_above_oldest(window)
        squares = np.zeros_like(mean)
        for value in window:
            apart = (value - window[0]) - mean
            squares += apart * apart
        last[rows] = (window[-1] - window[0]) - mean
        deviations[rows] = np.sqrt(squares / (days - 1.0))
    return last, deviations


def covariation(x: Floats, y: Floats, days: int) -> tuple[Floats, Floats]:
    """Sum of products of deviations, and the root of the product of the sums of squares; NaN where that is 0."""
    products, norms = np.full_like(x, np.nan), np.full_like(x, np.nan)
    for (rows, window_x), (_, window_y) in zip(_blocks(x, days), _blocks(y, days), strict=True):
        mean_x, mean_y = _mean_above_oldest(window_x), _mean_above_oldest(window_y)
        xx, yy, xy = np.zeros_like(mean_x), np.zeros_like(mean_x), np.zeros_like(mean_x)
        for value_x, value_y in zip(window_x, window_y, strict=True):
            a, b = (value_x - window_x[0]) - mean_x, (value_y - window_y[0]) - mean_y
            xx += a * a
            yy += b * b
            xy += a * b
        norm = np.sqrt(xx) * np.sqrt(yy)
        unknown = ~((norm > 0) & (norm <= _HIGHEST))
        norm[unknown] = xy[unknown] = np.nan
        norms[rows], products[rows] = norm, xy
    return products, norms


def pack(x: Floats, member: NDArray[np.bool_], keys: NDArray[np.int64]) -> None:
    """Write one key per cell: in the order of the values, with the column in its low 16 bits; missing ones last."""
    bits = (x + 0.0).view(np.int64)
    keys[:] = bits ^ ((bits >> 63) & _LARGEST)
    keys += 0x8000
    keys[np.isnan(x) | ~member] = _LARGEST
    keys &= ~0xFFFF
    keys |= np.arange(x.shape[1])


def unpack(keys: NDArray[np.int64], out: Floats) -> None:
    """Write rank / count of each cell from the row-wise sorted keys; NaN where the key says missing."""
    value, columns = keys >> 16, keys.shape[1]
    missing = value == _LARGEST >> 16
    places = np.arange(columns)
    new = np.ones((len(keys), columns + 1), np.bool_)
    np.not_equal(value[:, 1:], value[:, :-1], out=new[:, 1:-1])
    starts = np.maximum.accumulate(np.where(new[:, :-1], places, 0), axis=1)
    ends = np.minimum.accumulate(np.where(new[:, 1:], places, columns)[:, ::-1], axis=1)[:, ::-1] + 1
    count = columns - missing.sum(axis=1, keepdims=True)
    ranks = (starts + 1 + ends) * 0.5 / np.maximum(count, 1)
    ranks[missing] = np.nan
    np.put_along_axis(out, keys & 0xFFFF, ranks, axis=1)


def group_demean(x: Floats, codes: NDArray[np.int16], groups: int) -> Floats:
    """``x`` minus the mean of the column's group; ``codes`` (names,) below ``groups``, negative for no group.

    A mean is kept between the smallest and the largest value, so that equal values give 0; sums go by column.
    """
    total, count = np.zeros((len(x), groups)), np.zeros((len(x), groups))
    low, high = np.full_like(total, np.inf), np.full_like(total, -np.inf)
    missing = np.isnan(x)
    filled = np.where(missing, 0.0, x)
    for mine in _one_of_each(codes):
        code = codes[mine]
        total[:, code] += filled[:, mine]
        count[:, code] += ~missing[:, mine]
        low[:, code] = np.fmin(low[:, code], x[:, mine])
        high[:, code] = np.fmax(high[:, code], x[:, mine])
    mean = total / count
    mean[~np.isfinite(mean)] = np.nan
    mean = np.where(mean > high, high, np.where(mean < low, low, mean))
    mean_or_none = np.concatenate([mean, np.full((len(x), 1), np.nan)], axis=1)
    out: Floats = x - mean_or_none[:, np.where(codes < 0, groups, codes)]
    return out


def _one_of_each(codes: NDArray[np.int16]) -> list[NDArray[np.intp]]:
    """Lists of columns: the first one of every group, the second one, ..."""
    order = np.argsort(codes, kind="stable")
    order = order[np.count_nonzero(codes < 0) :]
    _, starts, sizes = np.unique(codes[order], return_index=True, return_counts=True)
    return [order[starts[sizes > k] + k] for k in range(max(sizes, default=0))]


def _blocks(x: Floats, days: int) -> Iterator[tuple[slice, list[Floats]]]:
    """Rows of a result, and for each of the window's days from the oldest on the rows that it reads there."""
    for start in range(days - 1, len(x), BLOCK):
        rows = slice(start, min(start + BLOCK, len(x)))
        yield rows, [x[rows.start - back : rows.stop - back] for back in range(days - 1, -1, -1)]


def _mean_above_oldest(window: list[Floats]) -> Floats:
    total: Floats = np.zeros_like(window[0])
    for value in window:
        total += value - window[0]
    total /= len(window)
    return total
