"""Operators across the names of a day. ``x`` is (rows, names), NaN where a name has no value or is no member.

Every row is computed from itself alone, by sums along the names: no matrix product, whose rounding may depend on
the number of rows. A mean is kept between the smallest and the largest value, so that equal values deviate by
exactly 0.
"""

from __future__ import annotations

import numpy as np

from windlass.workloads.alpha.engine.kernels import Floats, Int16s, Kernels
from windlass.workloads.alpha.engine.rank import BLOCK, rank

DEPENDENT = 1e-10  #: share of a column's length that is left, at which it counts as explained by the ones before


def _sums(x: Floats) -> Floats:
    """(rows, 1), NaN counting as 0."""
    total: Floats = np.where(np.isnan(x), 0.0, x).sum(axis=1, keepdims=True)
    return total


def _counts(x: Floats) -> Floats:
    """(rows, 1), of the values that are there."""
    count: Floats = np.count_nonzero(~np.isnan(x), axis=1).astype(np.float64)[:, None]
    return count


def _between(mean: Floats, low: Floats, high: Floats) -> Floats:
    """The mean, moved into [low, high] where rounding took it out; NaN where its sum was infinite."""
    return np.where(np.isfinite(mean), np.clip(mean, low, high), np.nan)


def demean(x: Floats) -> Floats:
    low, high = np.fmin.reduce(x, axis=1, keepdims=True), np.fmax.reduce(x, axis=1, keepdims=True)
    return x - _between(_sums(x) / _counts(x), low, high)


def zscore(x: Floats) -> Floats:
    apart = demean(x)
    deviation = np.sqrt(_sums(apart * apart) / (_counts(apart) - 1))
    apart /= np.where((deviation > 0) & np.isfinite(deviation), deviation, np.nan)
    return apart


def winsorize(x: Floats, limit: float) -> Floats:
    ordered, last = np.sort(x, axis=1), _counts(x) - 1
    low, high = (_quantile(ordered, share * np.maximum(last, 0)) for share in (limit, 1 - limit))
    return np.clip(x, low, high) + 0.0


def _quantile(ordered: Floats, place: Floats) -> Floats:
    """(rows, 1), between the two order statistics next to ``place`` (rows, 1), counted from 0."""
    below = place.astype(np.int64)
    above = np.ceil(place).astype(np.int64)
    low, high = np.take_along_axis(ordered, below, axis=1), np.take_along_axis(ordered, above, axis=1)
    return low + (high - low) * (place - below)


def scale(x: Floats, size: float) -> Floats:
    total = _sums(np.abs(x))
    return x / np.where((total > 0) & np.isfinite(total), total, np.nan) * size


def neutralize(x: Floats, *controls: Floats) -> Floats:
    """Residual of the regression on a constant and the controls, by orthogonal projections.

    A control that the ones before it explain adds nothing: the residual is that of every least squares solution.
    A day that the controls explain in full gives zeros.
    """
    out = np.empty(x.shape)
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        out[rows] = _residual(x[rows], [control[rows] for control in controls])
    return out


def _residual(x: Floats, controls: list[Floats]) -> Floats:
    missing = np.isnan(x)
    for control in controls:
        missing = missing | np.isnan(control)
    known = ~missing
    basis = [_unit(known.astype(np.float64))]
    for control in controls:
        basis.append(_unit(_apart(np.where(known, control, 0.0), basis)))
    return np.where(known, _apart(np.where(known, x, 0.0), basis), np.nan)


def _apart(column: Floats, basis: list[Floats]) -> Floats:
    """The column without its part in the basis (orthonormal, or zero, rows); zero where nothing is left of it."""
    size = np.abs(column).max(axis=1, keepdims=True)
    left = column / np.where(size > 0, size, 1.0)
    before = _length(left)
    for _ in range(2):  # the second round removes what the rounding of the first one left
        for unit in basis:
            left = left - unit * (unit * left).sum(axis=1, keepdims=True)
    return np.where(_length(left) > DEPENDENT * before, left * size, 0.0)


def _unit(column: Floats) -> Floats:
    size = np.abs(column).max(axis=1, keepdims=True)
    shrunk = column / np.where(size > 0, size, 1.0)
    length = _length(shrunk)
    return shrunk / np.where(length > 0, length, 1.0)


def _length(column: Floats) -> Floats:
    length: Floats = np.sqrt((column * column).sum(axis=1, keepdims=True))
    return length


def group_neutralize(x: Floats, codes: Int16s, kernels: Kernels) -> Floats:
    """``codes`` (names,): the group of each name, negative for none."""
    return kernels.group_demean(x, codes, int(codes.max(initial=-1)) + 1)


def group_rank(x: Floats, codes: Int16s, kernels: Kernels) -> Floats:
    """``codes`` (names,): the group of each name, negative for none."""
    out = np.full_like(x, np.nan)
    for code in np.unique(codes[codes >= 0]):
        mine = np.flatnonzero(codes == code)
        values = np.ascontiguousarray(x[:, mine])
        out[:, mine] = rank(values, ~np.isnan(values), kernels)
    return out
