"""Whether any trial earns more than nothing: Hansen (2005), "A test for superior predictive ability".

Studentised by the stationary bootstrap's own long-run variance (Politis & Romano 1994); three ways to treat trials that
lose: as if at zero (upper), left out where they lose too much to matter (consistent), left out (lower).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import toeplitz

Floats = npt.NDArray[np.float64]

AT_ONCE = 1 << 22  #: bootstrap means held in memory at a time


@dataclass(frozen=True, slots=True)
class Spa:
    """p values that no trial is better than holding nothing."""

    lower: float
    consistent: float
    upper: float


def spa(returns: Floats, *, block: float = 20, draws: int = 1000, seed: int) -> Spa:
    """``returns`` (D, M): each column is two trials, as it is and sold short. ``block``: mean days of a block.

    A column that does not move is left out; without any other the p values are NaN.
    """
    days = len(returns)
    moving = returns[:, np.ptp(returns, axis=0) > 0] if returns.size else returns[:, :0]
    if moving.shape[1] == 0 or days < 3:
        return Spa(math.nan, math.nan, math.nan)
    mean = moving.mean(axis=0)
    error = np.sqrt(long_run_variance(moving - mean, block) / days)
    t = mean / error
    observed = max(float(np.abs(t).max()), 0.0)
    # a trial and its short side: the bootstrap's mean of one is that of the other with the sign turned
    sides = np.concatenate([t, -t])
    threshold = math.sqrt(2 * math.log(math.log(days)))
    centres = (np.maximum(sides, 0.0), np.where(sides >= -threshold, sides, 0.0), sides)
    beyond = np.zeros(3)
    counts = stationary_counts(days, block, draws, seed)
    scaled = moving / error
    step = max(AT_ONCE // moving.shape[1], 1)
    for start in range(0, draws, step):
        drawn = counts[start : start + step] @ scaled / days
        both = np.concatenate([drawn, -drawn], axis=1)
        for i, centre in enumerate(centres):
            beyond[i] += (np.maximum((both - centre).max(axis=1), 0.0) > observed).sum()
    lower, consistent, upper = (beyond / draws).tolist()
    return Spa(lower, consistent, upper)


def long_run_variance(centred: Floats, block: float) -> Floats:
    """Variance of root-D times the stationary bootstrap's mean (Politis & Romano 1994, lemma 1), (D, M) -> (M,)."""
    days = len(centred)
    lag = np.arange(days)
    keep = 1 - 1 / block
    kernel = (1 - lag / days) * keep**lag + lag / days * keep ** (days - lag)
    kernel[0] = 1.0
    variance: Floats = np.einsum("dm,dm->m", centred, toeplitz(kernel) @ centred) / days
    return variance


def stationary_counts(days: int, block: float, draws: int, seed: int) -> Floats:
    """How often each day is in each resample, (draws, days): circular blocks of geometric length, mean ``block``."""
    random = np.random.default_rng([seed, days, draws])
    starts = random.integers(days, size=(draws, days))
    anew = random.random((draws, days)) < 1 / block
    anew[:, 0] = True
    # position of the last new block's first day, carried forward
    since = np.maximum.accumulate(np.where(anew, np.arange(days), 0), axis=1)
    index = (np.take_along_axis(starts, since, axis=1) + np.arange(days) - since) % days
    flat = (index + np.arange(draws)[:, None] * days).ravel()
    return np.bincount(flat, minlength=draws * days).reshape(draws, days).astype(np.float64)
