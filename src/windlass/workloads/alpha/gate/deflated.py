"""How likely a Sharpe ratio is above zero, or above what the best of so many worthless trials would show.

Bailey & Lopez de Prado (2012), "The Sharpe ratio efficient frontier", and (2014), "The deflated Sharpe ratio". All
ratios here are of one period, none is annualised. Conventions: standard deviations with ddof 1, skewness and kurtosis
from population moments, kurtosis 3 for a normal distribution.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

Floats = npt.NDArray[np.float64]


def sharpe_confidence(
    sharpe: float, benchmark: float, periods: int, *, skewness: float = 0.0, kurtosis: float = 3.0
) -> float:
    """Probability that the true ratio is above ``benchmark``, from an estimate over ``periods`` (2012, equation 12)."""
    variance = 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
    if periods < 3 or not variance > 0:
        return math.nan
    return float(ndtr((sharpe - benchmark) * math.sqrt(periods - 1) / math.sqrt(variance)))


def probabilistic_sharpe(returns: Floats, benchmark: float = 0.0) -> float:
    """``sharpe_confidence`` of a series (D,); NaN terms are missing. NaN where the series is constant."""
    known = returns[np.isfinite(returns)]
    if len(known) < 3 or known.min() == known.max():
        return math.nan
    centred = known - known.mean()
    variance = float(np.mean(centred**2))
    return sharpe_confidence(
        float(known.mean() / known.std(ddof=1)),
        benchmark,
        len(known),
        skewness=float(np.mean(centred**3)) / variance**1.5,
        kurtosis=float(np.mean(centred**4)) / variance**2,
    )


def expected_max_sharpe(trials: int, deviation: float) -> float:
    """What the best of independent trials shows on average if the true ratio of all is zero (2014, equation 6).

    ``deviation``: of the trials' ratios. The approximation is for many trials; one trial gives 0.
    """
    if trials < 2 or deviation == 0:
        return 0.0
    quantiles = ndtri(np.array([1 - 1 / trials, 1 - 1 / (trials * math.e)]))
    return float(deviation * ((1 - np.euler_gamma) * quantiles[0] + np.euler_gamma * quantiles[1]))


def deflated_sharpe(returns: Floats, sharpes: Floats) -> float:
    """``probabilistic_sharpe`` of the best trial's series (D,) above ``expected_max_sharpe`` of all trials' ratios.

    ``sharpes`` (M,): of every trial, per period; a trial that may be bought or sold is two of them, x and -x. NaN
    ratios are left out.
    """
    known = sharpes[np.isfinite(sharpes)]
    deviation = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    return probabilistic_sharpe(returns, expected_max_sharpe(len(known), deviation))
