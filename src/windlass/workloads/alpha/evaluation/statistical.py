"""The common factors that moved the names lately, whatever they are: statistical factors of trailing returns."""

from __future__ import annotations

import numpy as np

from windlass.workloads.alpha.optimizer.risk import risk_model
from windlass.workloads.alpha.panel import Bools, Floats

FACTORS = 20  #: at most
NAMES_EACH = 20  #: of the panel, for each factor: fewer would leave nothing of a portfolio
DAYS = 252  #: of trailing returns
LEAST_DAYS = 63  #: before there are factors; and of a name's returns, before it loads
REFRESHED = 21  #: days between two estimates
LARGEST = 0.1  #: a day's return counts as no more than this, so that one bad tick is no factor


def statistical_loadings(returns: Floats, member: Bools) -> tuple[Floats, ...]:
    """What each name earns for one unit of each of up to ``FACTORS`` factors, (T, N) each; NaN where it is not known.

    ``returns`` (T, N) of a day, NaN where unknown. On row t the estimate is of the rows before the last refresh, which
    are at most t - 1; refreshes are counted from row 0, so that later rows change nothing.
    """
    days, names = returns.shape
    factors = min(FACTORS, names // NAMES_EACH)
    loadings = tuple(np.full((days, names), np.nan) for _ in range(factors))
    used = np.where(member, np.clip(returns, -LARGEST, LARGEST), np.nan)
    for start in range(LEAST_DAYS, days, REFRESHED) if factors else ():
        window = used[max(start - DAYS, 0) : start]
        correlated, _ = risk_model(window, factors)
        count = np.isfinite(window).sum(axis=0)
        deviation = np.sqrt(np.nansum(window**2, axis=0) / np.maximum(count, 1))
        known = np.where((count >= LEAST_DAYS)[:, None], correlated * deviation[:, None], np.nan)
        for factor, values in zip(loadings, known.T, strict=True):
            factor[start : start + REFRESHED] = values
    return loadings
