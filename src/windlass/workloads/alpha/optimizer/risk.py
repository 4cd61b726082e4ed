"""A statistical factor model of correlation: principal components of trailing returns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

Floats = npt.NDArray[np.float64]

LEAST_ROWS = 20  #: below which there are no factors
LEAST_SPECIFIC = 0.05  #: share of a name's variance that is always its own


def risk_model(returns: Floats, factors: int) -> tuple[Floats, Floats]:
    """Loadings B (N, factors) and specific shares s (N,): the correlation matrix is about B B' + diag(s), diagonal 1.

    ``returns`` is (D, N), NaN where unknown. Each name's returns are divided by their root mean square and unknown ones
    count as 0, so a name with few returns loads little. Principal components of the D x D Gram matrix (Connor and
    Korajczyk, "Performance measurement with the arbitrage pricing theory", Journal of Financial Economics 15, 1986).
    Columns that the rows cannot fill are 0.
    """
    rows, names = returns.shape
    loadings = np.zeros((names, factors))
    if rows >= LEAST_ROWS:
        known = np.isfinite(returns)
        values = np.where(known, returns, 0.0)
        size = np.sqrt((values**2).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
        values = np.divide(values, size, out=np.zeros_like(values), where=size > 0)
        used = min(factors, rows, names)
        _, vectors = eigh(values @ values.T, subset_by_index=[rows - used, rows - 1])
        loadings[:, :used] = values.T @ vectors / np.sqrt(rows)
        common = (loadings**2).sum(axis=1)
        loadings *= np.sqrt(np.minimum(1.0, (1.0 - LEAST_SPECIFIC) / np.maximum(common, 1e-300)))[:, None]
    return loadings, 1.0 - (loadings**2).sum(axis=1)
