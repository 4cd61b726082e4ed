"""What a path costs, day by day, as a share of the assets.

A row's **trades** are the change of the weights against the row before; the drift of weights with prices between two
rows is not traded and not charged (an assumption: of a book of many small, opposite positions it is second to the
trades). **Participation** of a trade is its value, |change| x assets, over the mean traded value of the last 20 days as
known on the signal's row, at most 1; where that is unknown it is 1. Costs of a row are charged on the row itself, the
borrow fee of a day on every row on which something is sold short, weekends free. Nothing is liquidated at the end.

Impact is bps x participation^exponent of each trade's value: with exponent 0.5 the square-root law (Almgren et al. 2005
find 0.6; Toth et al. 2011 about 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from windlass.workloads.alpha.evaluation.market import Market
from windlass.workloads.alpha.evaluation.portfolio import YEAR
from windlass.workloads.alpha.panel import Floats
from windlass.workloads.alpha.spec import Costs

BASIS_POINT = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Charged:
    """Each (T,), at least 0."""

    traded: Floats  #: sum |change|, both ways
    linear: Floats
    spread: Floats
    impact: Floats
    borrow: Floats


def charge(held: Floats, market: Market, costs: Costs, rows: slice, aum: float) -> Charged:
    """Of the path ``held`` (R, N) on these ``rows`` of the market, R of them; cash is held before the first."""
    trades = np.empty_like(held)
    trades[0] = held[0]
    np.subtract(held[1:], held[:-1], out=trades[1:])
    np.abs(trades, out=trades)
    traded = trades.sum(axis=1)
    nothing = np.zeros(len(held))
    return Charged(
        traded=traded,
        linear=traded * (costs.linear_bps * BASIS_POINT),
        spread=traded * (costs.half_spread_bps * BASIS_POINT),
        impact=_impact(trades, market.adv[rows], costs, aum) if costs.impact_bps else nothing,
        borrow=_borrow(held, market.borrow if isinstance(market.borrow, float) else market.borrow[rows]),
    )


def _impact(trades: Floats, adv: Floats, costs: Costs, aum: float) -> Floats:
    participation = trades * aum
    with np.errstate(invalid="ignore", divide="ignore"):
        participation /= adv  # NaN where unknown; fmin below makes it 1
    np.fmin(participation, 1.0, out=participation)
    if costs.impact_exponent == 0.5:
        np.sqrt(participation, out=participation)
    elif costs.impact_exponent != 1:
        np.power(participation, costs.impact_exponent, out=participation)
    weighed: Floats = np.einsum("tn,tn->t", trades, participation)
    return weighed * (costs.impact_bps * BASIS_POINT)


def _borrow(held: Floats, rate: Floats | float) -> Floats:
    if isinstance(rate, float) and rate == 0:
        return np.zeros(len(held))
    short = np.minimum(held, 0.0)
    short *= rate
    yearly: Floats = short.sum(axis=1)
    return np.abs(yearly) / YEAR
