import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapanels import changed, small_panel
from windlass.workloads.alpha.engine.kernels import load
from windlass.workloads.alpha.evaluation.backtest import made_book
from windlass.workloads.alpha.evaluation.costs import charge
from windlass.workloads.alpha.evaluation.market import Market
from windlass.workloads.alpha.evaluation.portfolio import overlapped, path, scales, unfilled
from windlass.workloads.alpha.evaluation.ranking import ranking
from windlass.workloads.alpha.spec import Config, Costs, Portfolio, read_config

Floats = npt.NDArray[np.float64]

PANEL = small_panel(days=100, names=24)
DAYS, NAMES = PANEL.shape


def config(mode: str = "p2", *, costs: dict[str, float] | None = None, **portfolio: object) -> Config:
    return read_config(
        {
            "workload": {"mode": mode, "engine": "numpy"},
            "portfolio": {"adv_floor": 0.0, "holding": 1, "weighting": "rank", **portfolio},
            "costs": costs or {},
        }
    )


MARKETS = {
    "p1": Market.of(PANEL, config("p1")),
    "none": Market.of(PANEL, config(neutralize=[])),
    "sector": Market.of(PANEL, config(neutralize=["sector"])),
    "all": Market.of(PANEL, config(neutralize=["sector", "beta", "volatility", "liquidity"])),
}


def noise(seed: int = 0, levels: int = 0) -> Floats:
    signal = np.random.default_rng(seed).standard_normal((DAYS, NAMES))
    return np.round(signal * levels) if levels else signal


def gappy(seed: int, levels: int, missing: float) -> Floats:
    """Few levels, so that there are ties; holes, so that some rows have few names."""
    signal = noise(seed, levels)
    signal[np.random.default_rng([seed, 1]).random((DAYS, NAMES)) < missing] = math.nan
    return signal


signals = st.builds(gappy, st.integers(0, 10**6), st.integers(0, 3), st.floats(0, 0.8))


def target(signal: Floats, market: Market) -> Floats:
    """Of holding 1, before any fill."""
    return made_book(signal, market, market.config).wanted


def slow_rank_weights(row: Floats, tradable: npt.NDArray[np.bool_]) -> list[float]:
    names = [i for i in range(len(row)) if tradable[i] and math.isfinite(row[i])]
    if len(names) < 10:
        return [0.0] * len(row)
    ranks = {}
    for i in names:
        below = sum(row[j] < row[i] for j in names)
        equal = sum(row[j] == row[i] for j in names)
        ranks[i] = below + (equal + 1) / 2
    middle = (len(names) + 1) / 2
    total = sum(abs(rank - middle) for rank in ranks.values())
    return [(ranks[i] - middle) / total if i in ranks and total else 0.0 for i in range(len(row))]


def slow_quantile_weights(row: Floats, tradable: npt.NDArray[np.bool_], share: float) -> list[float]:
    """Each name is cut into many equal pieces; a tie's pieces are dealt out in turn, so that each name gets as many."""
    names = [i for i in range(len(row)) if tradable[i] and math.isfinite(row[i])]
    if len(names) < 10:
        return [0.0] * len(row)
    pieces = 5040
    ends = []
    for direction in (1, -1):
        left, held = share * len(names), [0.0] * len(row)
        for level in sorted({row[i] for i in names}, reverse=direction == 1):
            tied = [i for i in names if row[i] == level]
            taken = min(left, len(tied))
            for i in tied:
                held[i] = round(taken / len(tied) * pieces) / pieces
            left -= taken
        ends.append(held)
    long, short = ends
    weights = [a - b for a, b in zip(long, short, strict=True)]
    total = sum(map(abs, weights))
    return [weight / total if total > 1e-9 else 0.0 for weight in weights]


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_rank_weights_are_those_of_slow_loops(levels: int) -> None:
    signal = noise(levels=levels)
    signal[noise(1) > 1.2] = math.nan
    market = MARKETS["p1"]
    weights = target(signal, market)
    for row in range(DAYS):
        np.testing.assert_allclose(weights[row], slow_rank_weights(signal[row], market.tradable[row]), atol=1e-15)


@pytest.mark.parametrize("levels", [0, 1, 2])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_quantile_weights_share_ties(levels: int, share: float) -> None:
    signal = noise(levels=levels)
    settings = config("p1", weighting="quantile", quantile=share)
    market = Market.of(PANEL, settings)
    weights = target(signal, market)
    for row in range(0, DAYS, 5):
        expected = slow_quantile_weights(signal[row], market.tradable[row], share)
        np.testing.assert_allclose(weights[row], expected, atol=2e-4)


def test_a_coarse_signal_still_has_both_ends() -> None:
    signal = np.where(noise() > 0, 1.0, 0.0)
    ranks = ranking(signal, np.ones_like(signal, bool), load("numpy"))
    upper, lower = ranks.ends(0.1)
    np.testing.assert_allclose(upper.sum(axis=1), 1)
    np.testing.assert_allclose(lower.sum(axis=1), 1)
    assert (upper[signal == 0] == 0).all() and (lower[signal == 1] == 0).all()


@given(signal=signals)
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("kind", list(MARKETS))
def test_a_target_is_dollar_neutral_of_size_one_or_nothing(kind: str, signal: Floats) -> None:
    market = MARKETS[kind]
    weights = target(signal, market)
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights.sum(axis=1), 0, atol=1e-12)
    size = np.abs(weights).sum(axis=1)
    assert (np.isclose(size, 1, rtol=1e-12) | (size == 0)).all()
    assert not weights[~market.tradable].any()
    count = (market.tradable & np.isfinite(signal)).sum(axis=1)
    assert not size[count < 10].any()
    if kind in ("p1", "none"):
        rows = zip(signal, market.tradable & np.isfinite(signal), strict=True)
        varied = np.array([len(np.unique(row[valid])) > 1 for row, valid in rows])
        assert (size[(count >= 10) & varied] > 0).all()


def test_risk_weights_give_every_rank_the_same_risk() -> None:
    market = Market.of(PANEL, config("p2", weighting="risk", neutralize=[]))
    assert market.volatility is not None
    signal = noise()
    weights = target(signal, market)
    row = 80
    valid = market.tradable[row] & np.isfinite(signal[row]) & (market.volatility[row] > 0)
    deviation = np.maximum(market.volatility[row], np.quantile(market.volatility[row, market.tradable[row]], 0.05))
    risk = (weights[row] * deviation)[valid]  # of each name: its rank, but for one constant and one scale
    order = np.argsort(signal[row, valid])
    np.testing.assert_allclose(np.diff(risk[order], 2), 0, atol=1e-12)
    assert np.diff(risk[order])[0] > 0 and abs(weights[row].sum()) < 1e-12
    assert not weights[:10].any()  # no volatility is known yet


def test_neutral_weights_are_the_residual_of_a_regression() -> None:
    signal = noise()
    market = MARKETS["all"]
    weights = target(signal, market)
    assert market.beta is not None and market.volatility is not None
    codes = PANEL.groups["sector"]
    checked = 0
    for row in range(30, DAYS):
        tradable = np.flatnonzero(market.tradable[row])
        raw = np.array(slow_rank_weights(signal[row], market.tradable[row]))
        columns = [(codes[tradable] == code).astype(float) for code in np.unique(codes)]
        before = [market.beta[row - 1], market.volatility[row - 1], np.log(market.adv[row - 1])]
        for values in before:
            known = values[tradable].copy()
            for code in np.unique(codes):
                of_sector = codes[tradable] == code
                known[of_sector & np.isnan(known)] = np.nanmean(known[of_sector])
            columns.append(known)
        design = np.column_stack(columns)
        residual = raw[tradable] - design @ np.linalg.lstsq(design, raw[tradable], rcond=None)[0]
        np.testing.assert_allclose(weights[row, tradable], residual / np.abs(residual).sum(), atol=1e-11)
        np.testing.assert_allclose(design.T @ weights[row, tradable], 0, atol=1e-9)
        checked += 1
    assert checked == DAYS - 30


def test_a_row_that_the_controls_explain_wholly_is_empty() -> None:
    sectors = PANEL.groups["sector"].astype(float)
    assert not target(np.tile(sectors, (DAYS, 1)), MARKETS["sector"]).any()
    assert target(np.tile(sectors, (DAYS, 1)), MARKETS["none"]).any()


def test_the_controls_of_a_row_are_of_the_day_before() -> None:
    fields = {name: np.array(values) for name, values in PANEL.fields.items()}
    for values in fields.values():
        values[60] *= 1 + 0.2 * np.arange(NAMES)
    settings = config(neutralize=["beta", "volatility", "liquidity"])
    signal = noise()
    before = target(signal, Market.of(PANEL, settings))
    after = target(signal, Market.of(changed(PANEL, fields=fields), settings))
    assert np.array_equal(before[:61], after[:61])
    assert not np.array_equal(before[61], after[61])


@pytest.mark.parametrize("holding", [1, 2, 5, 63, 200])
def test_a_book_is_the_mean_of_the_last_targets(holding: int) -> None:
    aims = np.random.default_rng(0).standard_normal((150, 4))
    expected = [sum(aims[max(t - holding + 1, 0) : t + 1]) / holding for t in range(150)]
    np.testing.assert_allclose(overlapped(aims.copy(), holding), expected, atol=1e-15)


def test_an_order_without_a_fill_leaves_what_is_held() -> None:
    wanted = np.arange(1.0, 11.0).reshape(5, 2)
    stuck = np.zeros((5, 2), bool)
    stuck[0, 0] = stuck[2, 1] = stuck[3, 1] = True
    expected = [[0, 2], [3, 4], [5, 4], [7, 4], [9, 10]]
    assert unfilled(wanted, stuck).tolist() == expected
    ones = np.ones(5)
    held = path(wanted, ones.astype(int), ones, stuck, None)
    assert held.tolist() == expected
    assert path(wanted, ones.astype(int), ones, stuck, 100.0).tolist() == expected


def slow_path(weights: Floats, signs: Floats, scale: Floats, stuck: npt.NDArray[np.bool_], cap: float) -> Floats:
    held = [0.0] * weights.shape[1]
    rows = []
    for t in range(len(weights)):
        trades = []
        for i in range(weights.shape[1]):
            wanted = weights[t, i] * signs[t] * scale[t]
            trades.append(0.0 if stuck[t, i] else wanted - held[i])
        one_way = sum(map(abs, trades)) / 2
        part = min(1.0, cap / one_way) if one_way > 0 else 1.0
        held = [h + part * trade for h, trade in zip(held, trades, strict=True)]
        rows.append(held)
    return np.array(rows)


@given(seed=st.integers(0, 10**6), cap=st.floats(0.01, 2.0))
@settings(max_examples=40, deadline=None)
def test_the_turnover_cap_is_that_of_slow_loops_and_its_state_runs_on(seed: int, cap: float) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((30, 5))
    weights /= np.abs(weights).sum(axis=1, keepdims=True)
    signs, scale, stuck = np.repeat([1, -1, 1], 10), rng.uniform(0.5, 2, 30), rng.random((30, 5)) < 0.1
    held = path(weights, signs, scale, stuck, cap)
    np.testing.assert_allclose(held, slow_path(weights, signs, scale, stuck, cap), atol=1e-13)
    turnover = np.abs(np.diff(held, axis=0, prepend=np.zeros((1, 5)))).sum(axis=1) / 2
    assert (turnover <= cap * (1 + 1e-12)).all()


def test_the_volatility_target_uses_what_is_realised() -> None:
    rng = np.random.default_rng(0)
    returns, book = 0.01 * rng.standard_normal(120), np.ones((120, 2))
    book[:10] = 0
    portfolio = Portfolio(volatility_target=0.1, leverage=1.5)
    scale = scales(returns, book, portfolio)
    for t in range(120):
        realised = [returns[s] for s in range(max(t - 61, 0), t - 1) if s >= 10]
        wanted = 0.1 / math.sqrt(252) / np.std(realised, ddof=1) if len(realised) >= 20 else 1.0
        assert scale[t] == pytest.approx(min(wanted, 1.5))
    later = returns.copy()
    later[69:] = 9.0
    assert np.array_equal(scales(later, book, portfolio)[:71], scale[:71]), "row 70 knows the returns up to row 68"
    assert not np.array_equal(scales(later, book, portfolio)[71:], scale[71:])
    assert (scales(returns, book, Portfolio()) == 1).all()


def slow_costs(held: Floats, market: Market, costs: Costs, rows: slice, aum: float) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in ("traded", "linear", "spread", "impact", "borrow")}
    before = [0.0] * held.shape[1]
    for k, row in enumerate(range(rows.start, rows.stop)):
        traded = linear = spread = impact = borrow = 0.0
        for i in range(held.shape[1]):
            trade = abs(held[k, i] - before[i])
            adv = market.adv[row, i]
            participation = min(trade * aum / adv, 1.0) if math.isfinite(adv) and adv > 0 else 1.0
            traded += trade
            linear += trade * costs.linear_bps / 10_000
            spread += trade * costs.half_spread_bps / 10_000
            impact += trade * costs.impact_bps / 10_000 * participation**costs.impact_exponent
            rate = market.borrow if isinstance(market.borrow, float) else market.borrow[row, i]
            borrow += max(-held[k, i], 0.0) * rate / 252
        before = list(held[k])
        for name, value in zip(found, (traded, linear, spread, impact, borrow), strict=True):
            found[name].append(value)
    return found


@pytest.mark.parametrize("exponent", [0.5, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("rates", [False, True])
def test_costs_are_those_of_slow_loops(exponent: float, rates: bool) -> None:
    borrow = np.full(PANEL.shape, math.nan)
    borrow[:, ::2] = 0.05
    settings = config(costs={"impact_exponent": exponent, "borrow_rate": 0.01})
    market = Market.of(changed(PANEL, borrow=borrow) if rates else PANEL, settings)
    rows = slice(5, 95)
    held = made_book(noise(), market, settings).held[rows]
    for aum in (1e6, 1e9):
        charged = charge(held, market, settings.costs, rows, aum)
        for name, expected in slow_costs(held, market, settings.costs, rows, aum).items():
            np.testing.assert_allclose(getattr(charged, name), expected, rtol=1e-11, atol=1e-18, err_msg=name)


bps = st.floats(0, 100)


@given(
    seed=st.integers(0, 10**6),
    costs=st.builds(
        Costs,
        linear_bps=bps,
        half_spread_bps=bps,
        impact_bps=bps,
        impact_exponent=st.floats(0.1, 2),
        borrow_rate=st.floats(0, 1),
    ),
)
@settings(max_examples=30, deadline=None)
def test_costs_are_never_negative_and_double_with_their_rates(seed: int, costs: Costs) -> None:
    settings = config(costs=costs.model_dump())
    market = Market.of(PANEL.head(40), settings)
    rows = slice(0, 40)
    held = made_book(noise(seed), market, settings).held
    once = charge(held, market, costs, rows, 1e7)
    doubled = {name: 2 * getattr(costs, name) for name in ("linear_bps", "half_spread_bps", "impact_bps")}
    twice = charge(held, market, costs.model_copy(update=doubled), rows, 1e7)
    assert np.array_equal(twice.traded, once.traded)
    assert np.array_equal(twice.borrow, once.borrow)
    for name in ("linear", "spread", "impact"):
        assert (getattr(once, name) >= 0).all()
        np.testing.assert_allclose(getattr(twice, name), 2 * getattr(once, name), rtol=1e-12, atol=1e-300)
    assert (once.borrow >= 0).all()
