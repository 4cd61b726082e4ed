"""What every signal is judged against: returns after the fill, who can be traded, at what price, neutral to what.

Nothing here depends on a signal; it is made once per panel and config. **Fills**: a signal of row t is known at the
close of t, filled at the open of t + 1 (or its close, where ``fill`` is next_close), and held to the next day's fill:
``forward[t]`` is price[t + 2] / price[t + 1] - 1. There is no fill at the close of t.

**Missing prices.** Inside a name's life a row without the fill's price is a hole: an order for it is not filled, what
was held stays held, earns 0, and catches up on the row where a price is there again. Before the first price there is
nothing to fill. A name whose prices end before the panel does is closed at its last close: its weight
runs off with the holding period and earns 0; what became of its owners after that (a take-over's premium, a
bankruptcy) is not in a panel of prices.

**Known at t**: membership, a close and a volume above zero on t, and, in p2, the trailing traded value and the borrow
rate decide whether a name is ``tradable`` on t.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from windlass.workloads.alpha.engine.kernels import load
from windlass.workloads.alpha.evaluation.controls import Controls
from windlass.workloads.alpha.evaluation.ranking import Ranking, ranking
from windlass.workloads.alpha.evaluation.statistical import statistical_loadings
from windlass.workloads.alpha.evaluation.timeline import LABEL
from windlass.workloads.alpha.evaluation.trailing import carried, shifted, trailing_mean, trailing_risk
from windlass.workloads.alpha.panel import Bools, Dates, Floats, Panel
from windlass.workloads.alpha.spec import Config, Control, Costs

ADV_DAYS = 20  #: of traded value, close x volume
RISK_DAYS = 60  #: of daily returns, for volatility and beta
CALMEST = 0.05  #: share of the names whose low volatility is not taken at its word
KNOWN_DAYS = 3  #: one in so many of those days has to be known

Fill = Literal["next_open", "next_close"]


def judged(config: Config) -> Config:
    """The config with what its mode leaves out set to nothing: p1 charges ``linear`` alone and controls nothing."""
    if config.workload.mode == "p2":
        return config
    plain = "rank" if config.portfolio.weighting == "risk" else config.portfolio.weighting
    portfolio = config.portfolio.model_copy(
        update={
            "weighting": plain,
            "neutralize": (),
            "volatility_target": None,
            "turnover_cap": None,
            "adv_floor": 0.0,
        }
    )
    costs = Costs(linear_bps=config.costs.linear_bps, half_spread_bps=0, impact_bps=0, borrow_rate=0)
    return config.model_copy(update={"portfolio": portfolio, "costs": costs})


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """Arrays are (T, N), days x names; ``config`` is as :func:`judged`."""

    panel: Panel
    config: Config
    forward: Floats  #: return from the fill of t + 1 to the fill of t + 2; NaN where one of the two is missing
    earned: Floats  #: what a position held from the fill of t + 1 earns: forward; 0 in a hole, then what it missed
    stuck: Bools  #: the fill of t + 1 is missing inside the name's life: a position stays as it is
    tradable: Bools
    adv: Floats  #: mean traded value of the last ADV_DAYS days, NaN where fewer than a third of them are known
    volatility: Floats | None  #: of daily returns over RISK_DAYS days; None outside of p2
    beta: Floats | None  #: over the same days, on the mean return of the members; None outside of p2
    inverse: Floats | None  #: 1 / volatility of tradable names, 0 where unknown; None unless ``weighting`` is risk
    borrow: Floats | float  #: rate of a year; 0 outside of p2
    controls: Controls | None  #: None where nothing is neutralised
    given: Floats | None = None  #: what ``with_forward`` was given
    _heads: dict[int, Market] = field(default_factory=dict, repr=False)
    _outcomes: list[Ranking] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, panel: Panel, config: Config) -> Self:
        config = judged(config)
        close, volume = panel.fields["close"], panel.fields["volume"]
        adv = trailing_mean(close * volume, ADV_DAYS, -(-ADV_DAYS // KNOWN_DAYS))
        tradable = panel.member & (close > 0) & (volume > 0)
        borrow: Floats | float = 0.0
        volatility = beta = inverse = controls = None
        if config.workload.mode == "p2":
            if config.portfolio.adv_floor > 0:
                tradable &= adv >= config.portfolio.adv_floor
            borrow = config.costs.borrow_rate
            if panel.borrow is not None:
                borrow = np.where(np.isnan(panel.borrow), borrow, panel.borrow)
            tradable &= borrow <= config.costs.no_short_above
            volatility, beta = _risk(panel)
            if config.portfolio.weighting == "risk":
                inverse = _inverse(volatility, tradable)
            wanted = config.portfolio.neutralize
            controls = _controls(panel, wanted, tradable, {"volatility": volatility, "beta": beta, "liquidity": adv})
        forward, earned, stuck = _fills(panel, config.workload.fill)
        return cls(panel, config, forward, earned, stuck, tradable, adv, volatility, beta, inverse, borrow, controls)

    @property
    def shape(self) -> tuple[int, int]:
        """T days and N names."""
        return self.panel.shape

    @property
    def dates(self) -> Dates:
        return self.panel.dates

    @property
    def outcome(self) -> Ranking:
        """Ranks of ``forward`` over the tradable names that have one; kept."""
        if not self._outcomes:
            valid = self.tradable & np.isfinite(self.forward)
            self._outcomes.append(ranking(self.forward, valid, load(self.config.workload.engine)))
        return self._outcomes[0]

    def head(self, rows: int) -> Market:
        """What ``of`` makes of the first ``rows`` days alone, bit for bit: no later price reaches it. Kept."""
        if rows == self.shape[0]:
            return self
        if rows not in self._heads:
            panel = self.panel.head(rows)
            cut = replace(
                self,
                panel=panel,
                tradable=self.tradable[:rows],
                adv=self.adv[:rows],
                volatility=None if self.volatility is None else self.volatility[:rows],
                beta=None if self.beta is None else self.beta[:rows],
                inverse=None if self.inverse is None else self.inverse[:rows],
                borrow=self.borrow if isinstance(self.borrow, float) else self.borrow[:rows],
                controls=None if self.controls is None else self.controls.head(rows),
                given=None,
                _heads={},
                _outcomes=[],
            )
            forward, earned, stuck = _fills(panel, self.config.workload.fill)
            cut = replace(cut, forward=forward, earned=earned, stuck=stuck)
            self._heads[rows] = cut if self.given is None else cut.with_forward(self.given[:rows])
        return self._heads[rows]

    def with_forward(self, forward: Floats) -> Market:
        """The same names, costs and controls with other returns, as a null or a planted panel has them.

        ``forward`` (T, N), NaN where a fill is missing; the last LABEL rows are not known, whatever they hold. A
        missing one earns 0, and nothing is made up for later.

        Raises ValueError for another shape.
        """
        if forward.shape != self.shape:
            raise ValueError(f"the market has shape {self.shape}; forward has {forward.shape}")
        known = np.array(forward, dtype=np.float64)
        known[-LABEL:] = np.nan
        return replace(
            self, forward=known, earned=np.nan_to_num(known, nan=0.0), given=forward, _heads={}, _outcomes=[]
        )


def _fills(panel: Panel, fill: Fill) -> tuple[Floats, Floats, Bools]:
    """``forward``, ``earned`` and ``stuck`` of a market."""
    price = panel.fields["open" if fill == "next_open" else "close"]
    days, names = price.shape
    known = price > 0
    rows = np.arange(days)[:, None]
    first = np.where(known.any(axis=0), known.argmax(axis=0), days)
    last = np.where(known.any(axis=0), days - 1 - known[::-1].argmax(axis=0), -1)
    hole = ~known & (rows > first) & (rows < last)

    forward = np.full((days, names), np.nan)
    both = known[1:-1] & known[2:]
    np.divide(price[2:], price[1:-1], out=forward[:-LABEL], where=both)
    forward -= 1.0

    earned = np.nan_to_num(forward, nan=0.0)
    back = hole[1:-1] & known[2:]
    if back.any():
        held = carried(price, known)
        earned[:-LABEL][back] = (price[2:] / held[1:-1])[back] - 1.0
    if fill == "next_open":
        _close_the_ended(earned, price, panel.fields["close"], last)

    stuck = np.zeros((days, names), bool)
    stuck[:-1] = hole[1:]
    return forward, earned, stuck


def _close_the_ended(earned: Floats, price: Floats, close: Floats, last: npt.NDArray[np.intp]) -> None:
    """A name that ends earns from its last open to its last close, not to an open that never comes."""
    for name in np.flatnonzero((last >= 1) & (last < len(price) - 1)):
        closes = np.flatnonzero(close[:, name] > 0)
        if len(closes) and closes[-1] >= last[name]:
            earned[last[name] - 1, name] = close[closes[-1], name] / price[last[name], name] - 1.0


def daily_returns(panel: Panel) -> Floats:
    """(T, N) from close to close; NaN where one of the two is missing."""
    close = panel.fields["close"]
    returns = np.full_like(close, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        returns[1:] = close[1:] / close[:-1] - 1.0
    returns[~np.isfinite(returns)] = np.nan
    return returns


def _risk(panel: Panel) -> tuple[Floats, Floats]:
    returns = daily_returns(panel)
    members = panel.member & np.isfinite(returns)
    count = members.sum(axis=1)
    total = np.where(members, returns, 0.0).sum(axis=1)
    market = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return trailing_risk(returns, market, RISK_DAYS, RISK_DAYS // KNOWN_DAYS)


def _inverse(volatility: Floats, tradable: Bools) -> Floats:
    """1 / volatility; on a row the calmest ``CALMEST`` of the names count as no calmer than the others."""
    known = tradable & (volatility > 0)
    inverse = np.zeros_like(volatility)
    for row in np.flatnonzero(known.any(axis=1)):
        here = known[row]
        least = np.quantile(volatility[row, here], CALMEST)
        inverse[row, here] = 1.0 / np.maximum(volatility[row, here], least)
    return inverse


def _controls(
    panel: Panel, wanted: tuple[Control, ...], tradable: Bools, values: Mapping[str, Floats]
) -> Controls | None:
    """Characteristics of the day before; traded value as its logarithm."""
    if not wanted:
        return None
    groups = panel.groups.get("sector") if "sector" in wanted else None
    with np.errstate(invalid="ignore", divide="ignore"):
        known = {name: np.log(x) if name == "liquidity" else x for name, x in values.items()}
    characteristics = [shifted(known[name]) for name in wanted if name in known]
    if "statistical" in wanted:
        characteristics += statistical_loadings(daily_returns(panel), panel.member)
    return Controls.of(tradable, groups, characteristics)
