"""What one rebalance decides on: the limits that hold always, and what is known at the close of its row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import rankdata

from windlass.workloads.alpha.optimizer.risk import risk_model

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]

DUST = 1e-9  #: a trade or a weight below this is none
RISK_ROWS = 252  #: of trailing returns behind the risk model


Method = Literal["convex", "ridge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Weights are shares of the assets under management. Raises ValueError where a limit leaves nothing to decide."""

    aum: float  #: in the currency of the traded values
    gross: float = 1.0  #: most of the sum of absolute weights
    box: float = 0.01  #: most of one absolute weight
    turnover: float = 0.2  #: most of the sum of absolute trades of a rebalance, except from flat
    participation: float = 0.05  #: most of a trade, as a share of the name's average traded value of a day
    sector: float = 0.0  #: most of a sector's absolute net weight
    beta: float = 0.0  #: most of the absolute beta
    risk_aversion: float = 5.0  #: on half the variance
    skill: float = 0.02  #: assumed information coefficient, which turns a score into a return
    factors: int = 15
    every: int = 5  #: rows between rebalances; returns and variances are over so many days
    linear_bps: float = 1.0  #: cost of a trade
    half_spread_bps: float = 2.5
    method: Method = "convex"

    def __post_init__(self) -> None:
        for name in ("aum", "gross", "box", "turnover", "participation", "risk_aversion", "skill"):
            if not (math.isfinite(value := getattr(self, name)) and value > 0):
                raise ValueError(f"limit {name} is {value}; it is a finite number above 0")
        for name in ("sector", "beta", "linear_bps", "half_spread_bps"):
            if not (math.isfinite(value := getattr(self, name)) and value >= 0):
                raise ValueError(f"limit {name} is {value}; it is a finite number, 0 or above")
        for name in ("factors", "every"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"limit {name} is {value}; it is 1 or above")
        if self.method not in ("convex", "ridge"):
            raise ValueError(f"method is {self.method!r}; it is 'convex' or 'ridge'")

    @property
    def cost(self) -> float:
        """Of a trade, as a share of its value."""
        return (self.linear_bps + self.half_spread_bps) * 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """One rebalance. Arrays are of shape (N,), zero outside of ``usable``.

    ``usable`` names are tradable, with a beta, a volatility and a traded value; of these only ``viewed`` ones, which
    have a signal, may be opened or added to. All other names are closed, outside of the turnover limit: ``forced`` is
    their absolute weight.
    """

    usable: Bools
    viewed: Bools
    expected: Floats  #: return until the next rebalance
    held: Floats  #: weights before the trade, what is closed already left out
    forced: float
    cap: Floats  #: most of an absolute trade, by participation
    lower: Floats  #: of the weight, by box, participation and view
    upper: Floats
    turnover: float  #: limit; infinite from flat
    beta: Floats
    loadings: Floats  #: (N, K), in units of return until the next rebalance
    specific: Floats  #: standard deviation of the return until the next rebalance that the factors leave

    def risk(self, weights: Floats) -> float:
        """Variance of the return until the next rebalance."""
        common = self.loadings.T @ weights
        return float(common @ common + np.sum((self.specific * weights) ** 2))

    def trades(self, weights: Floats) -> float:
        """Absolute trades that the turnover limit counts."""
        return float(np.abs(weights - self.held).sum())

    def settled(self, weights: Floats) -> Floats:
        """The same without dust."""
        weights = np.where(np.abs(weights - self.held) < DUST, self.held, weights)
        return np.where(np.abs(weights) < DUST, 0.0, weights)

    def objective(self, weights: Floats, limits: Limits) -> float:
        """Expected return until the next rebalance, less cost and half the variance times risk aversion."""
        cost = limits.cost * self.trades(weights)
        return float(self.expected @ weights) - cost - 0.5 * limits.risk_aversion * self.risk(weights)


def scores(signal: Floats, among: Bools) -> Floats:
    """Normal quantiles of the cross-sectional ranks, (rank - 1/2) / n with average ties; 0 outside of ``among``."""
    result = np.zeros(signal.size)
    count = int(among.sum())
    if count:
        result[among] = ndtri((rankdata(signal[among]) - 0.5) / count)
    return result


def day(
    signal: Floats,
    held: Floats,
    *,
    beta: Floats,
    volatility: Floats,
    adv: Floats,
    returns: Floats,
    tradable: Bools,
    limits: Limits,
) -> Day:
    """``returns`` are the trailing ones up to this row, shape (up to RISK_ROWS, N); all else is this row's, shape (N,).

    A score becomes an expected return as ``skill`` x volatility x score (Grinold, "Alpha is Volatility Times IC Times
    Score", Journal of Portfolio Management 20(4), 1994).
    """
    usable = tradable & np.isfinite(beta) & np.isfinite(volatility) & (volatility > 0) & np.isfinite(adv) & (adv > 0)
    viewed = usable & np.isfinite(signal)
    spread = np.where(usable, volatility, 0.0) * math.sqrt(limits.every)
    loadings, share = risk_model(np.where(usable, returns, np.nan), limits.factors)
    kept = np.where(usable, held, 0.0)
    cap = np.where(usable, limits.participation * np.where(usable, adv, 0.0) / limits.aum, 0.0)
    lower = np.maximum(-limits.box, kept - cap)
    upper = np.minimum(limits.box, kept + cap)
    lower = np.where(viewed, lower, np.maximum(lower, np.minimum(kept, 0.0)))
    upper = np.where(viewed, upper, np.minimum(upper, np.maximum(kept, 0.0)))
    return Day(
        usable=usable,
        viewed=viewed,
        expected=limits.skill * spread * scores(signal, viewed),
        held=kept,
        forced=float(np.abs(held - kept).sum()),
        cap=cap,
        lower=np.where(usable, lower, 0.0),
        upper=np.where(usable, upper, 0.0),
        turnover=limits.turnover if np.any(held) else math.inf,
        beta=np.where(usable, beta, 0.0),
        loadings=loadings * spread[:, None],
        specific=np.sqrt(share) * spread,
    )
