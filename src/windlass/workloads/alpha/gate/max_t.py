"""Whether the best of a search is better than the best of as many worthless trials on the same days.

The statistic of a trial is its mean return over its Newey-West standard error (hac.py); that of the search is the
largest in absolute value, so each trial counts on both sides. Its distribution without any skill comes from the same
days: every trial's returns around their mean, resampled in the same circular blocks of days for all trials (Politis &
Romano 1992), so that what they have in common stays in common. Adjusted p values as in White (2000) and Romano & Wolf
(2005), single step. The standard errors are those of the sample, not made anew in each resample: that was more powerful
on planted signals, at the same size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from windlass.workloads.alpha.gate.hac import hac_t_columns

Floats = npt.NDArray[np.float64]

LEVEL = 0.05
AT_ONCE = 1 << 22  #: resampled means held in memory at a time


@dataclass(frozen=True, slots=True)
class MaxT:
    t: Floats  #: (M,) HAC t of each trial; NaN where its returns do not move
    p: Floats  #: (M,) adjusted for the search: chance that its best is as good by luck; NaN where t is
    critical: float  #: |t| that LEVEL asks for
    observed_max: float  #: largest |t|
    null: Floats  #: (draws,) largest |t| of each resample


def max_t(returns: Floats, *, block: int = 20, draws: int = 1000, seed: int) -> MaxT:
    """``returns`` (D, M): daily returns of all M trials on the same D days, NaN as 0; ``block`` in days.

    p is (1 + resamples at least as good) / (1 + draws). Without a trial that moves all is NaN.
    """
    known = np.nan_to_num(returns, nan=0.0)
    days = len(known)
    t = hac_t_columns(known)
    moving = np.flatnonzero(np.isfinite(t) & (t != 0))
    if len(moving) == 0:
        return MaxT(t, np.full_like(t, np.nan), math.nan, math.nan, np.full(draws, np.nan))
    # in float32 a t is off by about 1e-6; the resampling error of p is 1e-2
    mean = known[:, moving].mean(axis=0)
    scaled = ((known[:, moving] - mean) * (t[moving] / mean / days)).astype(np.float32)
    counts = block_counts(days, min(block, days), draws, seed).astype(np.float32)
    null = np.empty(draws)
    step = max(AT_ONCE // len(moving), 1)
    for start in range(0, draws, step):
        null[start : start + step] = np.abs(counts[start : start + step] @ scaled).max(axis=1)
    size = np.abs(t)
    ordered = np.sort(null)
    p = np.where(np.isfinite(t), (1 + draws - np.searchsorted(ordered, size, side="left")) / (1 + draws), np.nan)
    critical = float(ordered[max(math.ceil((1 - LEVEL) * (1 + draws)) - 1, 0)]) if draws > 1 / LEVEL else math.inf
    return MaxT(t, p, critical, float(np.nanmax(size)), null)


def block_counts(days: int, block: int, draws: int, seed: int) -> npt.NDArray[np.int64]:
    """How often each day is in each resample of ``days`` days, (draws, days): circular blocks, the last one cut."""
    random = np.random.default_rng([seed, days, block, draws])
    starts = random.integers(days, size=(draws, -(-days // block), 1))
    chosen = ((starts + np.arange(block)) % days).reshape(draws, -1)[:, :days]
    flat = (chosen + np.arange(draws)[:, None] * days).ravel()
    return np.bincount(flat, minlength=draws * days).reshape(draws, days)
