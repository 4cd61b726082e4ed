"""The t statistic of a mean whose terms are serially dependent.

Newey & West (1987), Bartlett weights; automatic lags floor(4 (n / 100)^(2/9)) as in Newey & West (1994), the rule that
statsmodels uses too. No small-sample correction.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def automatic_lags(n: int) -> int:
    """The highest lag for a series of ``n`` terms; below n."""
    return min(int(4 * math.pow(n / 100, 2 / 9)), max(n - 1, 0))


def long_run_variance(x: Floats, lags: int | None = None) -> Floats:
    """Newey-West variance of the terms, (D, M) -> (M,); a mean of n of them has this variance divided by n.

    A missing term (NaN) is left out of the mean and adds nothing to the autocovariances (Parzen 1963).
    """
    known = np.isfinite(x)
    counts = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = np.where(known, x - np.where(known, x, 0.0).sum(axis=0) / counts, 0.0)
        highest = automatic_lags(len(x)) if lags is None else min(lags, len(x) - 1)
        total = np.einsum("dm,dm->m", centred, centred)
        for lag in range(1, highest + 1):
            weight = 2 * (1 - lag / (highest + 1))
            total += weight * np.einsum("dm,dm->m", centred[lag:], centred[:-lag])
        variance: Floats = total / counts
    return variance


def hac_t(x: npt.ArrayLike, lags: int | None = None) -> float:
    """Mean of a series (D,) over its Newey-West standard error.

    NaN terms are missing. NaN where fewer than two terms are known or all are equal.
    """
    return float(hac_t_columns(np.asarray(x, dtype=np.float64)[:, None], lags)[0])


def hac_t_columns(x: Floats, lags: int | None = None) -> Floats:
    """``hac_t`` of every column, (D, M) -> (M,)."""
    t = np.full(x.shape[1], np.nan)
    if len(x) < 2:
        return t
    known = np.isfinite(x)
    counts = known.sum(axis=0)
    variance = long_run_variance(x, lags)
    usable = (counts > 1) & (variance > 0) & ~_constant(x, known)
    means = np.where(known, x, 0.0).sum(axis=0)[usable] / counts[usable]
    t[usable] = means / np.sqrt(variance[usable] / counts[usable])
    return t


def _constant(table: Floats, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    lowest = np.where(known, table, np.inf).min(axis=0)
    highest = np.where(known, table, -np.inf).max(axis=0)
    equal: npt.NDArray[np.bool_] = lowest == highest
    return equal
