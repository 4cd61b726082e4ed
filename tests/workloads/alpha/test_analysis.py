import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapanels import small_panel
from windlass.workloads.alpha.evaluation import analysis, measures
from windlass.workloads.alpha.evaluation.backtest import Daily, evaluate
from windlass.workloads.alpha.evaluation.market import Market
from windlass.workloads.alpha.evaluation.timeline import timeline
from windlass.workloads.alpha.spec import Config, WalkForward, read_config

Floats = npt.NDArray[np.float64]

WALK = WalkForward(train=60, valid=10, test=20, embargo=5, warmup=20)
DAYS, NAMES = 300, 16
PANEL = small_panel(days=DAYS, names=NAMES)
LINE = timeline(DAYS, 0.3, WALK, 5)


def config(**portfolio: object) -> Config:
    return read_config(
        {
            "workload": {"mode": "p2", "engine": "numpy", "walk": WALK.model_dump()},
            "portfolio": {"adv_floor": 0.0, **portfolio},
            "costs": {"linear_bps": 0.1, "half_spread_bps": 0.1},
        }
    )


MARKET = Market.of(PANEL, config())
NOISE = np.random.default_rng(1).standard_normal((DAYS, NAMES))
GOOD = np.where(np.isfinite(MARKET.forward), MARKET.forward, 0.0) + 0.02 * NOISE  #: knows something of the next return


def path(signal: Floats = GOOD) -> Daily:
    daily = evaluate(signal, MARKET, LINE, config()).daily
    assert daily is not None
    return daily


def test_decay_starts_at_the_label_and_falls() -> None:
    rows = analysis.decay(GOOD, MARKET, LINE)
    metrics = evaluate(GOOD, MARKET, LINE, config()).metrics
    ic = [row for row in rows if row["kind"] == "ic"]
    assert [row["days"] for row in ic] == list(range(1, 21))
    assert ic[0]["ic"] == metrics["ic"] and ic[0]["rank_ic"] == metrics["rank_ic"]
    assert ic[0]["ic_hac_t"] == metrics["ic_hac_t"]
    assert ic[0]["ic"] > 0.3 > 2 * max(abs(row["ic"]) for row in ic[1:])
    held = [row for row in rows if row["kind"] == "holding"]
    assert [row["days"] for row in held] == [1, 2, 5, 10, 20]
    assert held[2]["net_ir"] == metrics["net_ir"]
    assert all(a["turnover_1way"] > b["turnover_1way"] for a, b in pairwise(held))
    assert all(a["gross_ir"] > b["gross_ir"] for a, b in pairwise(held[:3]))
    assert len({tuple(row) for row in rows}) == 1


def test_decay_by_lag_is_the_correlation_with_a_later_day() -> None:
    row = analysis.decay(NOISE, MARKET, LINE)[6]
    market, found = MARKET.head(LINE.dev.stop), []
    for t in range(LINE.scored.start, LINE.scored.stop - 6):
        both = market.tradable[t] & np.isfinite(market.forward[t + 6])
        found.append(np.corrcoef(NOISE[t, both], market.forward[t + 6, both])[0, 1])
    assert row["days"] == 7
    assert row["ic"] == pytest.approx(np.mean(found), rel=1e-9)


def test_cost_sensitivity_falls_from_gross_and_passes_net() -> None:
    daily = path()
    rows = {row["multiple"]: row for row in analysis.cost_sensitivity(daily)}
    assert list(rows) == [0.0, 0.5, 1.0, 1.5, 2.0, 3.0]
    assert rows[0.0]["net_ir"] == measures.sharpe(daily.gross)
    assert rows[1.0]["net_ir"] == pytest.approx(measures.sharpe(daily.net), rel=1e-12)
    assert all(a["annualized_return"] > b["annualized_return"] for a, b in pairwise(rows.values()))
    even = analysis.break_even(daily)
    assert (daily.gross - even["breakeven_multiple"] * daily.costs).mean() == pytest.approx(0, abs=1e-15)
    assert even["breakeven_cost_bps"] == pytest.approx(even["paid_cost_bps"] * even["breakeven_multiple"])


def test_capacity_is_where_net_is_half_of_gross() -> None:
    rows = analysis.capacity(GOOD, MARKET, LINE)
    grid = [row for row in rows if row["kind"] == "grid"]
    assert all(a["net_ir"] >= b["net_ir"] for a, b in pairwise(grid))
    assert grid[2]["assets"] == 1e7
    assert grid[2]["net_ir"] == pytest.approx(measures.sharpe(path().net), rel=1e-12)


def test_the_quick_capacity_of_the_metrics_is_that_of_the_table() -> None:
    """Where no trade's participation reaches 1."""
    dear = config().model_copy(update={"costs": config().costs.model_copy(update={"impact_bps": 1000.0})})
    market = Market.of(PANEL, dear)
    half = analysis.capacity(GOOD, market, LINE)[-1]
    quick = evaluate(GOOD, market, LINE, dear).metrics["capacity_usd_half_ir"]
    assert half["kind"] == "half"
    assert half["net_ir"] == pytest.approx(half["gross_ir"] / 2, rel=1e-3)
    assert half["assets"] == pytest.approx(quick, rel=1e-3)


def test_capacity_of_what_earns_nothing_is_unknown() -> None:
    half = analysis.capacity(np.full((DAYS, NAMES), np.nan), MARKET, LINE)[-1]
    assert half["kind"] == "half" and math.isnan(half["assets"])


def test_ablation_takes_one_control_away_at_a_time() -> None:
    settings = config(volatility_target=0.05, turnover_cap=0.1)
    rows = analysis.ablation({"a": GOOD, "b": NOISE}, PANEL, LINE, settings)
    controls = ["sector", "beta", "statistical", "volatility_target", "turnover_cap"]
    assert [row["without"] for row in rows[::2]] == ["nothing", *controls]
    assert [row["alpha_id"] for row in rows[:2]] == ["a", "b"]
    whole = evaluate(GOOD, Market.of(PANEL, settings), LINE, settings).metrics
    of = {row["without"]: row for row in rows if row["alpha_id"] == "a"}
    assert of["nothing"]["net_ir"] == whole["net_ir"]
    assert of["sector"]["sector_max_exposure"] > 2 * of["nothing"]["sector_max_exposure"]
    assert of["turnover_cap"]["turnover_1way"] > of["nothing"]["turnover_1way"]
    assert len({row["net_ir"] for row in of.values()}) >= 5


def test_correlation_has_every_pair_once() -> None:
    x = np.random.default_rng(0).standard_normal((3, 50))
    rows = analysis.correlation({"a": x[0], "b": -x[0], "c": x[2], "d": np.zeros(50)})
    found = {(row["a"], row["b"]): row["correlation"] for row in rows}
    assert len(found) == 6
    assert found["a", "b"] == pytest.approx(-1)
    assert found["a", "c"] == pytest.approx(np.corrcoef(x[0], x[2])[0, 1])
    assert math.isnan(found["a", "d"])


def test_cpcv_has_fifteen_splits_and_five_paths() -> None:
    rows = analysis.cpcv(GOOD, MARKET, LINE)
    splits = [row for row in rows if row["kind"] == "split"]
    assert len({row["groups"] for row in splits}) == 15
    assert [row["number"] for row in rows if row["kind"] == "path"] == [1, 2, 3, 4, 5]
    assert all(row["sign"] == 1 for row in splits)
    once = {row["net_ir"] for row in rows if row["kind"] == "path"}
    assert len(once) == 1, "one sign everywhere: all paths are the same"
    flipped = analysis.cpcv(-GOOD, MARKET, LINE)
    assert all(row["sign"] == -1 for row in flipped[:15])
    for one, other in zip(splits, flipped[:15], strict=True):
        assert one["net_ir"] == pytest.approx(other["net_ir"], rel=1e-9)


def test_a_split_of_cpcv_knows_nothing_of_its_test() -> None:
    """Returns of two groups, and of the rows within a gap around them, move the sign where one of them trains alone."""
    gap, groups = LINE.gap, np.array_split(np.arange(LINE.scored.start, LINE.scored.stop), 6)
    signs = []
    for side in (1, -1):
        forward = MARKET.forward.copy()
        for group in (groups[1], groups[4]):
            rows = slice(max(group[0] - gap, 0), group[-1] + gap + 1)
            forward[rows] = side * NOISE[rows]
        table = analysis.cpcv(NOISE, MARKET.with_forward(forward), LINE)
        signs.append({row["groups"]: row["sign"] for row in table if row["kind"] == "split"})
    assert signs[0]["2+5"] == signs[1]["2+5"]
    assert [signs[0]["1+3"], signs[1]["1+3"]] == [1, -1]


def test_analysis_sees_no_row_of_the_holdout() -> None:
    fields = {name: np.array(values) for name, values in PANEL.fields.items()}
    for values in fields.values():
        values[LINE.dev.stop :] *= 1 + 0.3 * np.abs(NOISE[LINE.dev.stop :])
    other = small_panel(days=DAYS, names=NAMES, fields=fields)
    market = Market.of(other, config())
    for table in (analysis.decay, analysis.capacity, analysis.cpcv):
        assert repr(table(NOISE, MARKET, LINE)) == repr(table(NOISE, market, LINE))
    both = [analysis.ablation({"a": NOISE}, panel, LINE, config()) for panel in (PANEL, other)]
    assert both[0] == both[1]


@given(st.integers(0, 10**6), st.floats(0.1, 10))
def test_ratios_do_not_change_with_scale(seed: int, factor: float) -> None:
    x = np.random.default_rng(seed).standard_normal(30)
    assert measures.sharpe(x * factor) == pytest.approx(measures.sharpe(x), rel=1e-9)
    assert measures.sharpe(-x) == -measures.sharpe(x)


def test_measures_of_series_that_have_none() -> None:
    assert math.isnan(measures.sharpe(np.zeros(10)))
    assert math.isnan(measures.sharpe(np.array([1.0])))
    assert math.isnan(measures.mean(np.array([math.nan])))
    assert measures.max_drawdown(np.array([0.1, 0.1])) == 0
    assert measures.max_drawdown(np.array([-0.5, 1.0, -0.25])) == pytest.approx(-0.5)
    assert math.isnan(measures.slope(np.ones(5), np.ones(5)))


def test_a_fixed_basket_is_all_tilt() -> None:
    fixed = np.tile([0.5, -0.5], (10, 1))
    assert measures.static_tilt_share(fixed) == pytest.approx(1)
    fixed[::2] *= -1
    assert measures.static_tilt_share(fixed) == pytest.approx(0)
    assert math.isnan(measures.static_tilt_share(np.zeros((10, 2))))


def test_sector_exposure_is_the_largest_sum_of_a_sector() -> None:
    held = np.array([[0.5, -0.3, -0.2], [0.1, 0.2, -0.3]])
    assert measures.sector_exposure(held, np.array([0, -1, 0], np.int16)) == pytest.approx(0.3)
