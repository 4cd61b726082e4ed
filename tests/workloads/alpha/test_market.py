import math
from dataclasses import replace

import numpy as np
import pytest

from alphapanels import changed, small_panel
from windlass.workloads.alpha.evaluation.market import Market, judged
from windlass.workloads.alpha.panel import Panel
from windlass.workloads.alpha.spec import Config, read_config

NAN = math.nan


def config(mode: str = "p2", fill: str = "next_open", **groups: dict[str, object]) -> Config:
    groups = {"portfolio": {"adv_floor": 0.0}, **groups}
    return read_config({"workload": {"mode": mode, "fill": fill}, **groups})


def one_name(panel: Panel, name: int, opens: list[float], closes: list[float] | None = None) -> Panel:
    """The panel with other opens (and closes) of one name, NaN where None is given."""
    fields = {key: np.array(values) for key, values in panel.fields.items()}
    for key, values in (("open", opens), ("close", closes or opens)):
        fields[key][:, name] = NAN
        fields[key][: len(values), name] = values
    return changed(panel, fields=fields)


def short_panel(opens: list[float], closes: list[float] | None = None) -> Panel:
    panel = small_panel(days=8)
    return one_name(panel, 0, opens, closes)


@pytest.mark.parametrize("fill", ["next_open", "next_close"])
def test_a_signal_earns_from_the_next_fill_to_the_one_after(fill: str) -> None:
    panel = small_panel()
    price = panel.fields["open" if fill == "next_open" else "close"]
    market = Market.of(panel, config(fill=fill))
    for row in range(118):
        for name in range(12):
            expected = price[row + 2, name] / price[row + 1, name] - 1
            assert market.forward[row, name] == pytest.approx(expected, rel=1e-12, abs=1e-15, nan_ok=True)
    assert np.isnan(market.forward[118:]).all()
    assert not market.earned[118:].any()


def test_a_price_of_the_signals_own_day_moves_nothing_that_it_earns() -> None:
    panel = small_panel()
    moved = {key: np.array(values) for key, values in panel.fields.items()}
    for values in moved.values():
        values[50] *= 1.3
    before, after = (Market.of(one, config()).forward for one in (panel, changed(panel, fields=moved)))
    assert np.array_equal(before[50:], after[50:], equal_nan=True)
    assert not np.array_equal(before[49], after[49], equal_nan=True)


def test_a_hole_earns_nothing_until_the_price_is_back() -> None:
    market = Market.of(short_panel([10, 11, 12, NAN, NAN, 18, 20, 21]), config())
    nothing = [NAN] * 2
    np.testing.assert_allclose(market.forward[:, 0], [12 / 11 - 1, NAN, NAN, NAN, 20 / 18 - 1, 21 / 20 - 1, *nothing])
    np.testing.assert_allclose(market.earned[:, 0], [12 / 11 - 1, 0, 0, 18 / 12 - 1, 20 / 18 - 1, 21 / 20 - 1, 0, 0])
    assert market.stuck[:, 0].tolist() == [False, False, True, True, False, False, False, False]


def test_a_name_that_ends_is_closed_at_its_last_close() -> None:
    market = Market.of(short_panel([10, 11, 12, 13], [10, 11, 12, 14]), config())
    np.testing.assert_allclose(market.earned[:, 0], [12 / 11 - 1, 13 / 12 - 1, 14 / 13 - 1, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(market.forward[:4, 0], [12 / 11 - 1, 13 / 12 - 1, NAN, NAN])
    assert not market.stuck[:, 0].any()
    assert not market.tradable[4:, 0].any()


def test_a_name_that_is_not_yet_listed_earns_nothing() -> None:
    market = Market.of(short_panel([NAN, NAN, NAN, 13, 14, 15, 16, 17]), config())
    np.testing.assert_allclose(market.earned[:, 0], [0, 0, 14 / 13 - 1, 15 / 14 - 1, 16 / 15 - 1, 17 / 16 - 1, 0, 0])
    assert not market.stuck[:, 0].any()


def test_tradable_needs_membership_a_close_a_volume_and_in_p2_value_and_a_borrow_rate_in_bounds() -> None:
    panel = small_panel()
    volume = np.array(panel.fields["volume"])
    volume[60, 7], volume[61, 7] = 0.0, NAN
    borrow = np.full(panel.shape, 0.01)
    borrow[70, 8], borrow[71, 8] = 0.3, NAN
    panel = changed(panel, fields={"volume": volume}, borrow=borrow)
    p1 = Market.of(panel, config("p1")).tradable
    known = panel.member & np.isfinite(panel.fields["close"]) & (volume > 0)
    assert np.array_equal(p1, known)
    assert not p1[60, 7] and not p1[61, 7] and p1[70, 8]
    p2 = Market.of(panel, config()).tradable
    assert not p2[70, 8] and p2[71, 8]
    poor = Market.of(panel, config(portfolio={"adv_floor": 3e7}))
    adv = poor.adv
    assert np.array_equal(poor.tradable, p2 & (adv >= 3e7))
    assert 0 < poor.tradable.sum() < p2.sum()


def test_traded_value_volatility_and_beta_are_those_of_slow_loops() -> None:
    panel = small_panel(days=90)
    market = Market.of(panel, config())
    assert market.volatility is not None and market.beta is not None
    close, volume = panel.fields["close"], panel.fields["volume"]
    returns = np.full(panel.shape, NAN)
    returns[1:] = close[1:] / close[:-1] - 1
    mean = np.full(90, NAN)
    for row in range(1, 90):
        of_members = [returns[row, i] for i in range(12) if panel.member[row, i] and np.isfinite(returns[row, i])]
        mean[row] = np.mean(of_members)
    for row in range(0, 90, 3):
        for name in range(12):
            traded = [close[r, name] * volume[r, name] for r in range(max(row - 19, 0), row + 1)]
            traded = [value for value in traded if np.isfinite(value)]
            expected = np.mean(traded) if len(traded) >= 7 else NAN
            assert market.adv[row, name] == pytest.approx(expected, rel=1e-12, nan_ok=True)
            rows = [r for r in range(max(row - 59, 0), row + 1) if np.isfinite(returns[r, name])]
            x, m = returns[rows, name], mean[rows]
            deviation = x.std(ddof=1) if len(rows) >= 20 else NAN
            beta = np.cov(x, m)[0, 1] / m.var(ddof=1) if len(rows) >= 20 else NAN
            assert market.volatility[row, name] == pytest.approx(deviation, rel=1e-9, nan_ok=True)
            assert market.beta[row, name] == pytest.approx(beta, rel=1e-9, nan_ok=True)


def test_the_head_of_a_market_is_the_market_of_the_head() -> None:
    panel = changed(small_panel(), borrow=np.full((120, 12), 0.01))
    settings = config(portfolio={"adv_floor": 0.0, "neutralize": ["sector", "beta", "volatility", "liquidity"]})
    for rows in (58, 61, 62, 63, 100, 120):
        head, made = Market.of(panel, settings).head(rows), Market.of(panel.head(rows), settings)
        for name in ("forward", "earned", "stuck", "tradable", "adv", "volatility", "beta", "borrow"):
            assert np.array_equal(getattr(head, name), getattr(made, name), equal_nan=name != "stuck"), name
        assert head.controls is not None and made.controls is not None
        for one, other in zip(head.controls.basis, made.controls.basis, strict=True):
            assert np.array_equal(one, other)


def test_other_returns_reach_no_further_than_their_head() -> None:
    market = Market.of(small_panel(), config())
    given = np.random.default_rng(0).standard_normal(market.shape)
    given[10, 3] = NAN
    other = market.with_forward(given)
    assert np.array_equal(other.forward[:118], given[:118], equal_nan=True)
    assert np.isnan(other.forward[118:]).all()
    assert other.earned[10, 3] == 0
    head = other.head(80)
    assert np.array_equal(head.forward[:78], given[:78], equal_nan=True)
    assert np.isnan(head.forward[78:]).all()
    with pytest.raises(ValueError, match="shape"):
        market.with_forward(given[1:])


def test_p1_charges_linear_alone_and_controls_nothing() -> None:
    settings = config("p1", costs={"linear_bps": 3.0}, portfolio={"turnover_cap": 0.1, "volatility_target": 0.1})
    left = judged(settings)
    assert left.costs.linear_bps == 3.0
    assert (left.costs.half_spread_bps, left.costs.impact_bps, left.costs.borrow_rate) == (0, 0, 0)
    portfolio = left.portfolio
    assert (portfolio.neutralize, portfolio.volatility_target, portfolio.turnover_cap) == ((), None, None)
    market = Market.of(replace(small_panel(), borrow=np.full((120, 12), 0.5)), settings)
    assert market.controls is None and market.borrow == 0.0
    assert judged(config("p2")) == config("p2")
