"""One signal, judged: information coefficients, a fixed-sign base portfolio, and the walk-forward path after costs.

**No look-ahead.** The market is cut to the rows that may be seen before anything is computed, so that no price of the
gap or the holdout can reach a dev figure. The sign of a test segment is that of the mean base return on its train rows,
which end a gap before valid, a gap before test. On the holdout the sign is given: nothing is fitted there.

**Daily rows** carry the date of the signal; the return of a row is made from the next day's fill to the one after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from windlass.workloads.alpha.engine.kernels import load
from windlass.workloads.alpha.evaluation import measures
from windlass.workloads.alpha.evaluation.costs import BASIS_POINT, Charged, charge
from windlass.workloads.alpha.evaluation.market import Market, judged
from windlass.workloads.alpha.evaluation.portfolio import YEAR, overlapped, path, scales, targets, unfilled
from windlass.workloads.alpha.evaluation.ranking import Ranking, blocks, ranked_again, ranking
from windlass.workloads.alpha.evaluation.timeline import Timeline
from windlass.workloads.alpha.gate.hac import hac_t
from windlass.workloads.alpha.panel import Dates, Floats
from windlass.workloads.alpha.spec import Config

Ints = npt.NDArray[np.int64]

HOLDOUT = 0  #: in ``Daily.segment``; tests count from 1


@dataclass(frozen=True, slots=True, eq=False)
class Daily:
    """A path, day by day; shares of the assets. net is gross - linear - spread - impact - borrow, in this order."""

    dates: Dates  #: (R,) of the signals
    gross: Floats
    linear: Floats
    spread: Floats
    impact: Floats
    borrow: Floats
    net: Floats
    turnover: Floats  #: one way: sum |change of weights| / 2
    exposure: Floats  #: sum |weights|
    sign: npt.NDArray[np.int8]  #: 1 or -1
    segment: npt.NDArray[np.int16]  #: 1, 2, ... of the walk; 0 on the holdout

    @property
    def costs(self) -> Floats:
        return self.linear + self.spread + self.impact + self.borrow

    def net_at(self, multiple: float) -> Floats:
        """Net returns where every cost is so many times what it is; the path itself stays."""
        return self.gross - multiple * self.costs


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """``metrics`` are named as the columns of alpha_metrics.csv:

    * of the signal, over ``rows``: ``ic``, ``rank_ic`` and ``spread_mean`` are means of daily values, ``icir`` and
      ``rank_icir`` mean over standard deviation of a day, ``*_tstat`` as if days were independent, ``ic_hac_t`` not;
      ``coverage_mean`` is the share of the tradable names with a signal; in p0 ``turnover_mean`` is the base book's;
    * of the path, over the rows of ``daily``: ``information_ratio`` and ``net_ir`` are the same, a year's;
      ``annualized_return`` is 252 x the mean net return; ``turnover_mean`` counts both ways, ``turnover_1way`` half of
      it, shares of the assets a day; ``holding_days`` is exposure over ``turnover_1way``; ``cost_bps_*`` are basis
      points of the assets a day, ``breakeven_cost_bps`` of what is traded; ``beta`` is the slope on the mean return of
      the tradable names;
    * of the walk: ``wf_test_ir_*`` of the tests' net returns; ``wf_generalization_gap`` is the mean Sharpe of the
      signed base returns on train minus that on test, before costs;
    * on the holdout: ``holdout_ir`` is ``net_ir``, ``holdout_t`` the HAC t of the signed base returns, before costs.
    """

    base: Floats  #: (R,) gross return of the base book, sign not applied, on ``rows``: the gate's series of a trial
    rows: slice  #: of the panel: ``scored`` of the timeline, or ``sealed``
    sign: int  #: that of the mean base return on dev, 1 where it is 0; on the holdout the one that was given
    daily: Daily | None  #: test rows of the walk, or the holdout's; None in p0
    metrics: dict[str, float]
    weights: npt.NDArray[np.float32] | None  #: (R, N) of the base book on ``rows``, if kept


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """A signal's book on all rows of a market, before any sign."""

    ranks: Ranking
    wanted: Floats  #: (T, N) the mean of the last targets
    held: Floats  #: (T, N) what is filled of it with the sign 1
    base: Floats  #: (T,) what ``held`` earns


def evaluate(
    signal: Floats,
    market: Market,
    timeline: Timeline,
    config: Config,
    *,
    rows: Literal["dev", "holdout"] = "dev",
    sign: int | None = None,
    keep_weights: bool = False,
) -> Evaluation:
    """Judges ``signal`` (T, N), NaN where it says nothing; T covers the rows that are asked for.

    In p0 the metrics are those of the signal alone; p1 and p2 add the path's. On the holdout the path runs on from the
    first test row through the gap with the given sign, so that it enters the holdout with the book it would have had.

    Raises ValueError where ``sign`` is missing on the holdout or given on dev, or ``market`` is of another config.
    """
    if (sign is None) is (rows == "holdout"):
        raise ValueError("the holdout needs the sign that dev chose; dev chooses its own")
    if judged(config) != market.config.model_copy(update={"search": config.search}):
        raise ValueError("the market was made with another config")
    market = market.head(timeline.dev.stop if rows == "dev" else timeline.holdout.stop)
    made = made_book(signal, market, market.config)
    scored = timeline.scored if rows == "dev" else timeline.sealed
    base = made.base[scored]
    chosen = sign if sign is not None else sign_of(base)
    metrics, daily = _signal_metrics(signal, made, market, scored), None
    if market.config.workload.mode == "p0":
        metrics["turnover_mean"] = measures.mean(np.abs(np.diff(made.held[scored], axis=0)).sum(axis=1))
    elif rows == "dev":
        signs, segments = walk_signs(made.base, timeline)
        held, daily = walked(made, market, market.config, timeline.walked, signs, segments)
        metrics |= _path_metrics(held, daily, market, timeline.walked) | _walk_metrics(made.base, daily, timeline)
    else:
        whole = slice(timeline.walked.start, scored.stop)
        days, before = whole.stop - whole.start, scored.start - whole.start
        held, daily = walked(made, market, market.config, whole, np.full(days, chosen), np.full(days, HOLDOUT))
        held, daily = held[before:], _from(daily, before)
        metrics |= _path_metrics(held, daily, market, scored)
        metrics |= {"holdout_ir": metrics["net_ir"], "holdout_t": hac_t(chosen * base)}
    weights = made.held[scored].astype(np.float32) if keep_weights else None
    return Evaluation(base.copy(), scored, chosen, daily, metrics, weights)


def sign_of(base: Floats) -> int:
    return -1 if base.mean() < 0 else 1


def made_book(signal: Floats, market: Market, config: Config) -> Book:
    """``signal`` may have more rows than the market; they are not looked at."""
    signal = signal[: market.shape[0]]
    ranks = ranking(signal, market.tradable & np.isfinite(signal), load(config.workload.engine))
    aims = np.empty(market.shape)
    for rows in blocks(0, len(aims)):
        aims[rows] = targets(ranks.on(rows), market, config.portfolio, rows)
    wanted = overlapped(aims, config.portfolio.holding)
    held = unfilled(wanted, market.stuck)
    return Book(ranks, wanted, held, np.einsum("tn,tn->t", held, market.earned))


def walk_signs(base: Floats, timeline: Timeline) -> tuple[Ints, Ints]:
    """Sign and number of the segment, from 1, of each row of ``timeline.walked``."""
    tests = [segment.test.stop - segment.test.start for segment in timeline.segments]
    signs = [sign_of(base[segment.train]) for segment in timeline.segments]
    return np.repeat(signs, tests), np.repeat(np.arange(1, len(tests) + 1), tests)


def walked(
    made: Book, market: Market, config: Config, rows: slice, signs: Ints, segments: Ints, aum: float | None = None
) -> tuple[Floats, Daily]:
    """The path (R, N) on ``rows``, from cash, and what it earns and costs; ``aum`` is the config's unless given."""
    portfolio, costs = config.portfolio, config.costs
    scale = scales(made.base, made.held, portfolio)[rows]
    held = path(made.wanted[rows], signs, scale, market.stuck[rows], portfolio.turnover_cap)
    charged = charge(held, market, costs, rows, config.workload.aum if aum is None else aum)
    gross = np.einsum("tn,tn->t", held, market.earned[rows])
    return held, Daily(
        dates=market.dates[rows],
        gross=gross,
        linear=charged.linear,
        spread=charged.spread,
        impact=charged.impact,
        borrow=charged.borrow,
        net=net(gross, charged),
        turnover=charged.traded / 2,
        exposure=np.abs(held).sum(axis=1),
        sign=signs.astype(np.int8),
        segment=segments.astype(np.int16),
    )


def net(gross: Floats, charged: Charged) -> Floats:
    return gross - charged.linear - charged.spread - charged.impact - charged.borrow


def _from(daily: Daily, row: int) -> Daily:
    return Daily(**{name: getattr(daily, name)[row:] for name in Daily.__slots__})


def information(signal: Floats, ranks: Ranking, market: Market, rows: slice, lag: int = 1) -> tuple[Floats, Floats]:
    """Daily IC and rank IC (R,): Pearson's and Spearman's r of the signal with the one-day return that its fill earns
    or, with a lag, the fill ``lag - 1`` rows later; over tradable names with both, NaN where they are too few.

    R is the number of ``rows``, less those whose return lies beyond them.
    """
    kernels = load(market.config.workload.engine)
    stop = rows.stop - (lag - 1)
    ic, rank_ic = np.empty(stop - rows.start), np.empty(stop - rows.start)
    for here in blocks(rows.start, stop):
        later = slice(here.start + lag - 1, here.stop + lag - 1)
        forward = market.forward[later]
        valid = ranks.valid[here] & np.isfinite(forward)
        said = ranked_again(ranks.on(here), signal[here], valid, kernels)
        outcome = ranked_again(market.outcome.on(later), forward, valid, kernels)
        at = slice(here.start - rows.start, here.stop - rows.start)
        ic[at] = measures.correlations(signal[here], forward, valid)
        rank_ic[at] = measures.cosines(said.centred, outcome.centred, outcome.count)
    return ic, rank_ic


def _signal_metrics(signal: Floats, made: Book, market: Market, scored: slice) -> dict[str, float]:
    ic, rank_ic = information(signal, made.ranks, market, scored)
    tradable = market.tradable[scored].sum(axis=1)
    share = np.divide(made.ranks.count[scored], tradable, out=np.zeros(len(tradable)), where=tradable > 0)
    quantile = market.config.portfolio.quantile
    spread = np.concatenate(
        [
            measures.spread(made.ranks.on(rows), np.nan_to_num(market.forward[rows], nan=0.0), quantile)
            for rows in blocks(scored.start, scored.stop)
        ]
    )
    return {
        "coverage_mean": measures.mean(share),
        "ic": measures.mean(ic),
        "rank_ic": measures.mean(rank_ic),
        "spread_mean": measures.mean(spread),
        "spread_tstat": measures.t_statistic(spread),
        "ic_tstat": measures.t_statistic(ic),
        "rank_ic_tstat": measures.t_statistic(rank_ic),
        "icir": measures.ratio(ic),
        "rank_icir": measures.ratio(rank_ic),
        "ic_hac_t": hac_t(ic),
    }


def _path_metrics(held: Floats, daily: Daily, market: Market, rows: slice) -> dict[str, float]:
    config = market.config
    turnover, exposure = measures.mean(daily.turnover), measures.mean(daily.exposure)
    returns = market.forward[rows]
    traded_names = market.tradable[rows] & np.isfinite(returns)
    count = traded_names.sum(axis=1)
    everyone = np.divide(
        np.where(traded_names, returns, 0.0).sum(axis=1), count, out=np.full(len(count), np.nan), where=count > 0
    )
    other = daily.linear + daily.spread + daily.borrow
    sectors = market.panel.groups.get("sector")
    net_ir = measures.sharpe(daily.net)
    return {
        "information_ratio": net_ir,
        "annualized_return": measures.mean(daily.net) * YEAR,
        "max_drawdown": measures.max_drawdown(daily.net),
        "turnover_mean": 2 * turnover,
        "gross_ir": measures.sharpe(daily.gross),
        "net_ir": net_ir,
        "cost_bps_linear": measures.mean(daily.linear) / BASIS_POINT,
        "cost_bps_spread": measures.mean(daily.spread) / BASIS_POINT,
        "cost_bps_impact": measures.mean(daily.impact) / BASIS_POINT,
        "cost_bps_borrow": measures.mean(daily.borrow) / BASIS_POINT,
        "turnover_1way": turnover,
        "holding_days": exposure / turnover if turnover > 0 else math.nan,
        "capacity_usd_half_ir": measures.half_ratio_assets(
            daily.gross, other, daily.impact, config.workload.aum, config.costs.impact_exponent
        ),
        "breakeven_cost_bps": measures.mean(daily.gross) / (2 * turnover) / BASIS_POINT if turnover > 0 else math.nan,
        "beta": measures.slope(daily.gross, everyone),
        "sector_max_exposure": math.nan if sectors is None else measures.sector_exposure(held, sectors),
        "static_tilt_share": measures.static_tilt_share(held),
    }


def _walk_metrics(base: Floats, daily: Daily, timeline: Timeline) -> dict[str, float]:
    nets, trains, tests = [], [], []
    for number, segment in enumerate(timeline.segments, start=1):
        sign = sign_of(base[segment.train])
        nets.append(measures.sharpe(daily.net[daily.segment == number]))
        trains.append(measures.sharpe(sign * base[segment.train]))
        tests.append(measures.sharpe(sign * base[segment.test]))
    known = np.array(nets)
    known = known[np.isfinite(known)]
    return {
        "wf_n_splits": float(len(nets)),
        "wf_test_ir_mean": measures.mean(known),
        "wf_test_ir_std": float(known.std(ddof=1)) if len(known) > 1 else math.nan,
        "wf_test_ir_positive_frac": float((known > 0).mean()) if len(known) else math.nan,
        "wf_generalization_gap": measures.mean(np.array(trains)) - measures.mean(np.array(tests)),
    }
