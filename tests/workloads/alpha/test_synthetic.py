"""The made panel: it looks like a market, and it holds the signal that was asked for and no other."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from windlass.workloads.alpha.checks import examine
from windlass.workloads.alpha.engine.engine import Engine
from windlass.workloads.alpha.language.parse import parse
from windlass.workloads.alpha.panel import Panel
from windlass.workloads.alpha.synthetic import PLANTED, synthetic_panel

Floats = npt.NDArray[np.float64]


@cache
def market(seed: int = 0, ic: float = 0.0) -> Panel:
    return synthetic_panel(names=300, days=1000, seed=seed, ic=ic)


def forward(panel: Panel, price: str = "open") -> Floats:
    """The return of a signal of row t that is filled at row t+1."""
    values, found = panel.fields[price], np.full(panel.shape, np.nan)
    found[:-2] = values[2:] / values[1:-1] - 1
    return found


def mean(values: Floats, days: int) -> Floats:
    found = np.full(values.shape, np.nan)
    found[days - 1 :] = sliding_window_view(values, days, axis=0).mean(axis=-1)
    return found


def location(panel: Panel) -> Floats:
    high, low, close = (panel.fields[name] for name in ("high", "low", "close"))
    return mean((close - low) / (high - low), 20)


def standardised(values: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    values = np.where(known, values, np.nan)
    values = values - np.nanmean(values, axis=1, keepdims=True)
    return np.where(known, values / np.sqrt(np.nansum(values**2, axis=1, keepdims=True)), 0.0)


def daily_ics(signal: Floats, returns: Floats, *, ranked: bool = False) -> Floats:
    """Daily correlations over names, of the days with at least 50 of them."""
    known = ~np.isnan(signal) & ~np.isnan(returns)
    days = known.sum(axis=1) >= 50
    known = known[days]
    pair = [values[days] for values in (signal, returns)]
    if ranked:
        pair = [np.where(known, values, np.inf).argsort(axis=1).argsort(axis=1).astype(float) for values in pair]
    one, other = (standardised(values, known) for values in pair)
    found: Floats = (one * other).sum(axis=1)
    return found


def t_value(ics: Floats) -> float:
    return float(ics.mean() / ics.std(ddof=1) * np.sqrt(len(ics)))


@pytest.mark.parametrize("ic", [0.01, 0.015, 0.05])
def test_the_planted_signal_has_the_ic_that_was_asked_for(ic: float) -> None:
    ics = [daily_ics(location(panel), forward(panel)) for panel in (market(seed, ic) for seed in range(3))]
    every = np.concatenate(ics)
    assert every.mean() == pytest.approx(ic, abs=3 * every.std() / np.sqrt(len(every)))
    assert t_value(every) > 5


def test_the_planted_signal_shows_in_ranks_and_at_the_next_close_and_fades() -> None:
    panel = market(0, 0.05)
    signal = location(panel)
    at_open = daily_ics(signal, forward(panel)).mean()
    assert daily_ics(signal, forward(panel), ranked=True).mean() > 0.03
    assert daily_ics(signal, forward(panel, "close")).mean() > 0.03
    later = daily_ics(signal[:-20], forward(panel)[20:]).mean()
    assert 0.005 < later < at_open / 2


def test_the_planted_signal_can_be_written_as_it_is_documented() -> None:
    panel = market(0, 0.05)
    found = Engine(panel, backend="numpy").evaluate(parse(PLANTED))
    np.testing.assert_allclose(found, np.where(panel.member, location(panel), found), rtol=1e-9)


def test_it_adds_no_more_than_the_signal() -> None:
    without, planted = market(0), market(0, 0.01)
    assert (without.member == planted.member).mean() > 0.99
    close, other = without.fields["close"], planted.fields["close"]
    moves, others = close[1:] / close[:-1] - 1, other[1:] / other[:-1] - 1
    assert np.nanstd(others) == pytest.approx(np.nanstd(moves), rel=1e-3)


def simple_signals(panel: Panel) -> dict[str, Floats]:
    """What a search would try first: every kind of past price, volume, cap."""
    opened, high, low, close, volume, cap = (panel.fields[n] for n in ("open", "high", "low", "close", "volume", "cap"))
    before = np.vstack([np.full((1, close.shape[1]), np.nan), close[:-1]])
    move = close / before - 1
    five = np.full(close.shape, np.nan)
    five[5:] = close[5:] / close[:-5] - 1
    quarter = np.full(close.shape, np.nan)
    quarter[63:] = close[63:] / close[:-63] - 1
    return {
        "location": location(panel),
        "reversal": -move,
        "reversal of a week": -five,
        "momentum": quarter,
        "overnight": opened / before - 1,
        "intraday": close / opened - 1,
        "volatility": mean(np.abs(move), 20),
        "range": (high - low) / close,
        "volume": volume / mean(volume, 20),
        "price": close,
        "size": cap,
        "illiquidity": mean(np.abs(move) / (volume * close + 1), 20),
    }


def test_without_a_plant_nothing_predicts_the_next_return() -> None:
    found = [
        t_value(daily_ics(signal, forward(panel, price), ranked=ranked))
        for panel in (market(0), market(1), market(2))
        for price, ranked in (("open", False), ("open", True), ("close", False))
        for signal in simple_signals(panel).values()
    ]
    assert np.abs(found).max() < 4.0
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(1.0, abs=0.3)


def test_it_looks_like_a_market() -> None:
    panel = market()
    close, volume = panel.fields["close"], panel.fields["volume"]
    moves = close[1:] / close[:-1] - 1
    moves[np.abs(moves) > 0.4] = np.nan  # bad ticks
    index = np.nanmean(moves, axis=1)
    assert 0.08 < index.std() * np.sqrt(252) < 0.25
    assert 0.15 < np.nanmedian(np.nanstd(moves, axis=0)) * np.sqrt(252) < 0.5
    standard = (moves - np.nanmean(moves, axis=0)) / np.nanstd(moves, axis=0)
    assert np.nanmean(standard**4) > 5  # 3 for a normal law
    calm = np.abs(index) - np.abs(index).mean()
    assert np.mean([np.corrcoef(calm[lag:], calm[:-lag])[0, 1] for lag in range(1, 11)]) > 0.05
    traded = np.log(volume[1:] + 1)
    traded -= np.nanmean(traded, axis=0)
    known = ~np.isnan(traded) & ~np.isnan(moves)
    assert 0.2 < np.corrcoef(traded[known], np.abs(moves)[known])[0, 1] < 0.7
    pairs = np.ma.corrcoef(np.ma.masked_invalid(moves), rowvar=False).filled(np.nan)
    np.fill_diagonal(pairs, np.nan)
    sector = panel.groups["sector"]
    same = sector[:, None] == sector
    assert 0.1 < np.nanmean(pairs[~same]) < np.nanmean(pairs[same]) - 0.03 < 0.6


def test_it_has_the_defects_of_real_data() -> None:
    panel = market()
    manifest = examine(panel)
    assert manifest.ohlc_violations and manifest.zero_volume and manifest.holes and manifest.jumps
    assert manifest.null_cells.keys() == {"open", "high", "low"}
    assert manifest.ends_early == 15
    assert manifest.survivorship == "none seen"
    assert 0 < manifest.membership.least_a_day < manifest.membership.most_a_day < 300
    assert set(panel.groups) == {"sector", "industry", "subindustry"}
    joined = panel.member[1:] & ~panel.member[:-1]
    assert joined.any(axis=0).sum() > 15
    assert not (panel.member & np.isnan(panel.fields["close"])).any()
    for name in ("open", "high", "low", "close", "cap"):
        assert np.nanmin(panel.fields[name]) > 0


def test_a_seed_gives_one_panel_to_the_bit() -> None:
    panel = synthetic_panel(names=20, days=400, seed=3)
    assert panel.shape == (400, 20)
    assert synthetic_panel(names=20, days=400, seed=3).digest == panel.digest
    assert synthetic_panel(names=20, days=400, seed=4).digest != panel.digest
    assert synthetic_panel(names=20, days=400, seed=3, ic=0.01).digest != panel.digest


@pytest.mark.parametrize(("level", "above"), [("industry", "sector"), ("subindustry", "industry")])
def test_groups_are_nested(level: str, above: str) -> None:
    groups = market().groups
    for code in np.unique(groups[level]):
        assert len(np.unique(groups[above][groups[level] == code])) == 1
