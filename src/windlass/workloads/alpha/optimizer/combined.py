"""One constrained portfolio of several signals, on the days of a walk, with what it earns and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from windlass.workloads.alpha.engine.kernels import load
from windlass.workloads.alpha.engine.rank import rank
from windlass.workloads.alpha.evaluation.backtest import net
from windlass.workloads.alpha.evaluation.costs import charge
from windlass.workloads.alpha.evaluation.market import Market, daily_returns
from windlass.workloads.alpha.optimizer.day import Limits, Method
from windlass.workloads.alpha.optimizer.rebalancing import optimized
from windlass.workloads.alpha.panel import Floats

RISK_ROWS = 252  #: rows before the walk that the first risk model reads


@dataclass(frozen=True, slots=True)
class Combined:
    log: list[dict[str, Any]]  #: a row a rebalance, as ``optimized`` says, with its date
    daily: list[dict[str, Any]]  #: date, gross, net, turnover (one way)


def combined(
    signals: Sequence[tuple[Floats, npt.NDArray[np.int8]]], market: Market, rows: slice, method: Method
) -> Combined:
    """Follows the mean rank of ``signals``: each (R, N) on ``rows`` with its sign (R,) of every row.

    Raises MissingExtra where the method is convex and cvxpy is missing.
    """
    panel, config = market.panel, market.config
    start = max(0, rows.start - RISK_ROWS)
    part, before = slice(start, rows.stop), rows.start - start
    wanted = np.full((rows.stop - start, len(panel.names)), np.nan)
    wanted[before:] = 0.0
    kernels = load("numpy")
    for signal, sign in signals:
        wanted[before:] += sign[:, None] * (rank(signal, panel.member[rows], kernels) - 0.5) / len(signals)
    assert market.beta is not None and market.volatility is not None
    found = optimized(
        wanted,
        beta=market.beta[part],
        volatility=market.volatility[part],
        adv=market.adv[part],
        returns=daily_returns(panel)[part],
        groups=panel.groups.get("sector", np.full(len(panel.names), -1, np.int16)),
        tradable=market.tradable[part],
        settings=Limits(
            aum=config.workload.aum,
            linear_bps=config.costs.linear_bps,
            half_spread_bps=config.costs.half_spread_bps,
            method=method,
        ),
        names=panel.names,
        group_names=panel.group_names.get("sector", ()),
    )
    held = found.weights[before:]
    charged = charge(held, market, config.costs, rows, config.workload.aum)
    gross = np.einsum("tn,tn->t", held, market.earned[rows])
    left = net(gross, charged)
    log = [{"date": str(panel.dates[start + int(row["row"])]), **row} for row in found.log if int(row["row"]) >= before]
    daily = [
        {"date": str(day), "gross": gross[row], "net": left[row], "turnover": charged.traded[row] / 2}
        for row, day in enumerate(panel.dates[rows])
    ]
    return Combined(log, daily)
