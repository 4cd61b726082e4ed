"""A closer look at the few best: each function returns rows of a table, dicts with the same keys in every row.

All of it is about development rows; nothing here decides anything. Ratios are of a year, NaN where not defined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from windlass.workloads.alpha.evaluation import measures
from windlass.workloads.alpha.evaluation.backtest import (
    Book,
    Daily,
    Ints,
    evaluate,
    information,
    made_book,
    sign_of,
    walk_signs,
    walked,
)
from windlass.workloads.alpha.evaluation.costs import BASIS_POINT
from windlass.workloads.alpha.evaluation.market import Market
from windlass.workloads.alpha.evaluation.portfolio import YEAR
from windlass.workloads.alpha.evaluation.timeline import Timeline
from windlass.workloads.alpha.gate.hac import hac_t
from windlass.workloads.alpha.panel import Floats, Panel
from windlass.workloads.alpha.spec import Config

Row = dict[str, Any]

LAGS = tuple(range(1, 21))
HOLDINGS = (1, 2, 5, 10, 20)
MULTIPLES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
ASSETS = (1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9, 3e9, 1e10)
GROUPS, TESTED = 6, 2  #: of the combinatorial cross-validation


def decay(signal: Floats, market: Market, timeline: Timeline) -> list[Row]:
    """How fast the signal goes stale. ``kind`` ic: by ``days`` from the fill to the end of the one-day return that is
    correlated (1 is the label itself); ``kind`` holding: the walk's ratios with ``portfolio.holding`` of ``days``.

    The signs of a holding are those that its own base book gives; the timeline, with its purge, stays the same.
    """
    market = market.head(timeline.dev.stop)
    made = made_book(signal, market, market.config)
    rows: list[Row] = []
    columns = ("ic", "ic_hac_t", "rank_ic", "rank_ic_hac_t", "gross_ir", "net_ir", "turnover_1way")
    blank = dict.fromkeys(columns, np.nan)
    for lag in LAGS:
        ic, rank_ic = information(signal, made.ranks, market, timeline.scored, lag)
        found = {"ic": measures.mean(ic), "ic_hac_t": hac_t(ic)}
        found |= {"rank_ic": measures.mean(rank_ic), "rank_ic_hac_t": hac_t(rank_ic)}
        rows.append({"kind": "ic", "days": lag, **blank, **found})
    for days in HOLDINGS:
        portfolio = market.config.portfolio.model_copy(update={"holding": days})
        config = market.config.model_copy(update={"portfolio": portfolio})
        _, daily = _walk(made_book(signal, market, config), market, timeline, config)
        rows.append({"kind": "holding", "days": days, **blank, **_ratios(daily)})
    return rows


def cost_sensitivity(daily: Daily) -> list[Row]:
    """The path's net figures where every cost is so many times what it is; the path itself stays."""
    rows = []
    for multiple in MULTIPLES:
        net = daily.net_at(multiple)
        rows.append(
            {
                "multiple": multiple,
                "net_ir": measures.sharpe(net),
                "annualized_return": measures.mean(net) * YEAR,
                "cost_bps_per_day": multiple * measures.mean(daily.costs) / BASIS_POINT,
            }
        )
    return rows


def break_even(daily: Daily) -> Row:
    """Costs per traded value that would take all of the mean gross return, and what is paid; in basis points."""
    traded = 2 * measures.mean(daily.turnover)
    gross, paid = measures.mean(daily.gross), measures.mean(daily.costs)
    return {
        "breakeven_cost_bps": gross / traded / BASIS_POINT if traded > 0 else np.nan,
        "paid_cost_bps": paid / traded / BASIS_POINT if traded > 0 else np.nan,
        "breakeven_multiple": gross / paid if paid > 0 else np.nan,
    }


def capacity(signal: Floats, market: Market, timeline: Timeline) -> list[Row]:
    """Net figures by assets, participation bounded at 1; the row ``kind`` half is where net is half of gross.

    The path is the same for all assets. ``half`` is found by bisection between a thousandth and a million times the
    config's assets, NaN where it is not in there.
    """
    market = market.head(timeline.dev.stop)
    made = made_book(signal, market, market.config)

    def at(assets: float) -> Daily:
        return _walk(made, market, timeline, market.config, assets)[1]

    rows = [{"kind": "grid", "assets": assets, **_capacity(at(assets))} for assets in ASSETS]
    low, high = (np.log10(market.config.workload.aum) + power for power in (-3.0, 6.0))
    half = measures.sharpe(at(1.0).gross) / 2
    if measures.sharpe(at(10**low).net) > half > measures.sharpe(at(10**high).net) and half > 0:
        while high - low > 1e-4:
            middle = (low + high) / 2
            low, high = (middle, high) if measures.sharpe(at(10**middle).net) > half else (low, middle)
        rows.append({"kind": "half", "assets": float(10**low), **_capacity(at(10**low))})
    else:
        rows.append({"kind": "half", "assets": np.nan, **dict.fromkeys(_capacity(at(1.0)), np.nan)})
    return rows


def ablation(signals: Mapping[str, Floats], panel: Panel, timeline: Timeline, config: Config) -> list[Row]:
    """p2 as configured, and without one of its controls each: a neutralisation, the volatility target, the turnover
    cap, the floor of traded value. One row per variant and signal, by name."""
    rows = []
    panel = panel.head(timeline.dev.stop)
    for without, variant in _variants(config):
        market = Market.of(panel, variant)
        for name, signal in signals.items():
            metrics = evaluate(signal, market, timeline, variant).metrics
            kept = ("gross_ir", "net_ir", "max_drawdown", "turnover_1way", "beta", "sector_max_exposure")
            rows.append({"alpha_id": name, "without": without, **{column: metrics[column] for column in kept}})
    return rows


def correlation(dailies: Mapping[str, Floats]) -> list[Row]:
    """Of every pair of daily series (D,) on the same days."""
    return [
        {"a": one, "b": other, "correlation": measures.correlation(x, y)}
        for (one, x), (other, y) in combinations(dailies.items(), 2)
    ]


def cpcv(signal: Floats, market: Market, timeline: Timeline) -> list[Row]:
    """Combinatorial purged cross-validation (Lopez de Prado 2018, chapter 12): 6 groups of the scored rows, 2 of them
    test in each of 15 splits, 5 paths that each cover all rows out of sample.

    In a split the sign is that of the mean base return on the train rows that are at least ``gap`` rows from every test
    row. A day's net return is that of the base book with this sign, after its costs; the trades of a change of sign
    between groups are left out, since groups of a path do not follow each other in time as they were fitted.
    ``kind`` split: ``net_ir`` of its test rows; ``kind`` path: of the path.
    """
    market = market.head(timeline.dev.stop)
    made = made_book(signal, market, market.config)
    scored = timeline.scored
    base = made.base[scored]
    nets = {}
    for sign in (1, -1):
        signs, none = np.full(len(base), sign), np.zeros(len(base), np.int64)
        nets[sign] = walked(made, market, market.config, scored, signs, none)[1].net
    groups = np.array_split(np.arange(len(base)), GROUPS)
    rows: list[Row] = []
    found: dict[int, list[Floats]] = {group: [] for group in range(GROUPS)}
    for number, tested in enumerate(combinations(range(GROUPS), TESTED), start=1):
        train = _train(groups, tested, timeline.gap)
        sign = sign_of(base[train])
        test = np.concatenate([groups[group] for group in tested])
        for group in tested:
            found[group].append(nets[sign][groups[group]])
        name = "+".join(str(group + 1) for group in tested)
        ratio = measures.sharpe(nets[sign][test])
        rows.append({"kind": "split", "number": number, "groups": name, "sign": sign, "net_ir": ratio})
    for number in range(len(found[0])):
        whole = np.concatenate([found[group][number] for group in range(GROUPS)])
        rows.append({"kind": "path", "number": number + 1, "groups": "", "sign": 0, "net_ir": measures.sharpe(whole)})
    return rows


def _train(groups: Sequence[Ints], tested: Sequence[int], gap: int) -> Ints:
    """Positions of the groups that are not tested and at least ``gap`` rows away from any test row."""
    count = groups[-1][-1] + 1
    free = np.ones(count, bool)
    for group in tested:
        first, last = groups[group][0], groups[group][-1]
        free[max(first - gap, 0) : last + gap + 1] = False
    return np.flatnonzero(free)


def _walk(
    made: Book, market: Market, timeline: Timeline, config: Config, aum: float | None = None
) -> tuple[Floats, Daily]:
    signs, segments = walk_signs(made.base, timeline)
    return walked(made, market, config, timeline.walked, signs, segments, aum)


def _ratios(daily: Daily) -> Row:
    return {
        "gross_ir": measures.sharpe(daily.gross),
        "net_ir": measures.sharpe(daily.net),
        "turnover_1way": measures.mean(daily.turnover),
    }


def _capacity(daily: Daily) -> Row:
    return {
        "gross_ir": measures.sharpe(daily.gross),
        "net_ir": measures.sharpe(daily.net),
        "annualized_return": measures.mean(daily.net) * YEAR,
        "cost_bps_impact": measures.mean(daily.impact) / BASIS_POINT,
    }


def _variants(config: Config) -> list[tuple[str, Config]]:
    portfolio = config.portfolio
    changes: list[tuple[str, dict[str, Any]]] = [("nothing", {})]
    for control in portfolio.neutralize:
        changes.append((control, {"neutralize": tuple(one for one in portfolio.neutralize if one != control)}))
    for name, without in (("volatility_target", None), ("turnover_cap", None), ("adv_floor", 0.0)):
        if getattr(portfolio, name):
            changes.append((name, {name: without}))
    return [
        (name, config.model_copy(update={"portfolio": portfolio.model_copy(update=change)})) for name, change in changes
    ]
