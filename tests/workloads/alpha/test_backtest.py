import math
from dataclasses import fields

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapanels import changed, small_panel
from windlass.workloads.alpha.evaluation.backtest import Daily, Evaluation, evaluate
from windlass.workloads.alpha.evaluation.market import Market
from windlass.workloads.alpha.evaluation.timeline import Timeline, timeline
from windlass.workloads.alpha.gate.hac import hac_t
from windlass.workloads.alpha.panel import Panel
from windlass.workloads.alpha.spec import Config, WalkForward, read_config

Floats = npt.NDArray[np.float64]

WALK = WalkForward(train=60, valid=10, test=20, embargo=5, warmup=20)
DAYS, NAMES = 400, 16
PANEL = small_panel(days=DAYS, names=NAMES)
LINE = timeline(DAYS, 0.3, WALK, 5)
SIGNAL = np.random.default_rng(3).standard_normal((DAYS, NAMES))
CONTROLLED = {"volatility_target": 0.05, "turnover_cap": 0.15, "neutralize": ["sector", "beta"]}


def config(mode: str = "p2", *, engine: str = "numpy", **groups: dict[str, object]) -> Config:
    groups.setdefault("portfolio", {})
    groups["portfolio"] = {"adv_floor": 0.0, **groups["portfolio"]}
    return read_config({"workload": {"mode": mode, "engine": engine, "walk": WALK.model_dump()}, **groups})


def judge(signal: Floats = SIGNAL, panel: Panel = PANEL, settings: Config | None = None, **more: object) -> Evaluation:
    settings = settings or config()
    return evaluate(signal, Market.of(panel, settings), LINE, settings, **more)


def same(one: Evaluation, other: Evaluation) -> bool:
    """To the bit."""
    if (one.daily is None) is not (other.daily is None) or one.sign != other.sign:
        return False
    pairs = [(one.base, other.base), (np.array(list(one.metrics.values())), np.array(list(other.metrics.values())))]
    if one.daily is not None and other.daily is not None:
        pairs += [(getattr(one.daily, f.name), getattr(other.daily, f.name)) for f in fields(Daily)]
    return list(one.metrics) == list(other.metrics) and all(a.tobytes() == b.tobytes() for a, b in pairs)


def perturbed(panel: Panel, start: int, stop: int) -> Panel:
    """Other prices, volumes and members from row ``start`` up to row ``stop``."""
    rng = np.random.default_rng(9)
    values = {name: np.array(x) for name, x in panel.fields.items()}
    for x in values.values():
        x[start:stop] *= np.exp(0.1 * rng.standard_normal(x[start:stop].shape))
        x[start:stop][rng.random(x[start:stop].shape) < 0.02] = np.nan
    member = np.array(panel.member)
    member[start:stop] &= rng.random(member[start:stop].shape) < 0.9
    return changed(panel, fields=values, member=member)


@pytest.mark.parametrize("mode", ["p0", "p1", "p2"])
def test_the_holdout_and_the_gap_change_no_bit_of_dev(mode: str) -> None:
    groups = {"portfolio": CONTROLLED} if mode == "p2" else {}
    settings = config(mode, **groups)
    before = judge(settings=settings)
    signal = SIGNAL.copy()
    signal[LINE.dev.stop :] = np.nan
    assert same(before, judge(signal, perturbed(PANEL, LINE.dev.stop, DAYS), settings))
    cut = Market.of(PANEL.head(LINE.dev.stop), settings)
    assert same(before, evaluate(SIGNAL[: LINE.dev.stop], cut, LINE, settings))
    assert not same(before, judge(signal, perturbed(PANEL, LINE.dev.stop - 1, DAYS), settings))


def test_later_tests_change_no_earlier_day() -> None:
    settings = config(portfolio=CONTROLLED)
    row = LINE.segments[3].test.start + 7
    before, after = judge(settings=settings).daily, judge(panel=perturbed(PANEL, row, DAYS), settings=settings).daily
    assert before is not None and after is not None
    known = row - LINE.walked.start - 2
    for field in fields(Daily):
        one, other = getattr(before, field.name), getattr(after, field.name)
        assert one[:known].tobytes() == other[:known].tobytes(), field.name
    assert before.gross[known:].tobytes() != after.gross[known:].tobytes()


def test_the_sign_of_a_test_is_that_of_the_mean_on_its_train() -> None:
    made = judge()
    assert made.daily is not None
    assert made.rows == LINE.scored
    signs = set()
    for number, segment in enumerate(LINE.segments, start=1):
        train = slice(segment.train.start - LINE.scored.start, segment.train.stop - LINE.scored.start)
        sign = 1 if sum(made.base[train]) >= 0 else -1
        of_segment = made.daily.segment == number
        assert of_segment.sum() == segment.test.stop - segment.test.start
        assert (made.daily.sign[of_segment] == sign).all()
        signs.add(sign)
    assert signs == {1, -1}, "the signal of this test has to flip"
    assert made.sign == (1 if sum(made.base) >= 0 else -1)


def test_valid_and_test_rows_do_not_choose_their_sign() -> None:
    market = Market.of(PANEL, config())
    segment = LINE.segments[0]
    forward = market.forward.copy()
    forward[segment.train.stop : segment.test.stop] *= -50
    one, other = (evaluate(SIGNAL, m, LINE, config()).daily for m in (market, market.with_forward(forward)))
    assert one is not None and other is not None
    first = one.segment == 1
    assert (one.sign[first] == other.sign[first]).all()
    assert (one.sign != other.sign).any()


def test_base_is_what_the_kept_weights_earn() -> None:
    made = judge(keep_weights=True)
    assert made.weights is not None and made.weights.dtype == np.float32
    market = Market.of(PANEL, config()).head(LINE.dev.stop)
    earned = (made.weights * market.earned[LINE.scored]).sum(axis=1)
    np.testing.assert_allclose(made.base, earned, atol=1e-8)
    assert judge().weights is None


def slow_walk(made: Evaluation, signal: Floats, settings: Config) -> dict[str, list[float]]:
    """The whole walk of p1 in plain Python: rank weights, overlapping, signs, one continuous path, linear costs."""
    opens = PANEL.fields["open"]
    close, volume = PANEL.fields["close"], PANEL.fields["volume"]
    aims = []
    for t in range(LINE.walked.stop):
        names = [i for i in range(NAMES) if PANEL.member[t, i] and close[t, i] > 0 and volume[t, i] > 0]
        names = [i for i in names if math.isfinite(signal[t, i])]
        order = sorted(names, key=lambda i: signal[t, i])
        centred = {i: order.index(i) + 1 - (len(names) + 1) / 2 for i in names}
        total = sum(abs(x) for x in centred.values())
        aims.append([centred.get(i, 0.0) / total for i in range(NAMES)])
    found: dict[str, list[float]] = {name: [] for name in ("gross", "linear", "net", "turnover", "exposure")}
    held = [0.0] * NAMES
    for t in range(LINE.walked.start, LINE.walked.stop):
        assert made.daily is not None
        sign = int(made.daily.sign[t - LINE.walked.start])
        last = aims[t - settings.portfolio.holding + 1 : t + 1]
        wanted = [sign * sum(aim[i] for aim in last) / settings.portfolio.holding for i in range(NAMES)]
        gross = traded = 0.0
        for i in range(NAMES):
            now = opens[: LINE.dev.stop, i]
            later = [r for r in range(t + 1, len(now)) if now[r] > 0]
            earlier = [r for r in range(0, t + 1) if now[r] > 0]
            if later and earlier and later[0] != t + 1:
                wanted[i] = held[i]  # a hole: no fill
            traded += abs(wanted[i] - held[i])
            held[i] = wanted[i]
            if now[t + 2] > 0 and ((later and later[0] == t + 1) or earlier):
                start = now[t + 1] if later[0] == t + 1 else now[earlier[-1]]
                gross += held[i] * (now[t + 2] / start - 1)
            elif later and later[-1] == t + 1:  # the last open of a name that ends
                ends = [r for r in range(len(now)) if close[r, i] > 0 and r < LINE.dev.stop]
                gross += held[i] * (close[ends[-1], i] / now[t + 1] - 1)
        found["gross"].append(gross)
        found["linear"].append(traded * settings.costs.linear_bps / 10_000)
        found["net"].append(gross - traded * settings.costs.linear_bps / 10_000)
        found["turnover"].append(traded / 2)
        found["exposure"].append(sum(map(abs, held)))
    return found


def test_the_walk_of_p1_is_that_of_slow_loops() -> None:
    settings = config("p1")
    made = judge(settings=settings)
    for name, expected in slow_walk(made, SIGNAL, settings).items():
        np.testing.assert_allclose(getattr(made.daily, name), expected, atol=1e-14, err_msg=name)


@given(
    seed=st.integers(0, 10**6),
    holding=st.integers(1, 10),
    cap=st.none() | st.floats(0.02, 2),
    target=st.none() | st.floats(0.01, 0.5),
    rate=st.floats(0, 0.2),
)
@settings(max_examples=20, deadline=None)
def test_gross_less_every_cost_is_net(
    seed: int, holding: int, cap: float | None, target: float | None, rate: float
) -> None:
    signal = np.random.default_rng(seed).standard_normal((DAYS, NAMES))
    portfolio = {"holding": holding, "turnover_cap": cap, "volatility_target": target}
    line = timeline(DAYS, 0.3, WALK, holding)
    chosen = config(portfolio=portfolio, costs={"borrow_rate": rate})
    daily = evaluate(signal, Market.of(PANEL, chosen), line, chosen).daily
    assert daily is not None
    rest = daily.gross - daily.linear - daily.spread - daily.impact - daily.borrow - daily.net
    assert np.abs(rest).max() <= 1e-12
    assert math.fsum(daily.gross) - sum(
        math.fsum(getattr(daily, cost)) for cost in ("linear", "spread", "impact", "borrow")
    ) == pytest.approx(math.fsum(daily.net), abs=1e-12)
    for cost in ("linear", "spread", "impact", "borrow"):
        assert (getattr(daily, cost) >= 0).all()
    if cap is not None:
        assert (daily.turnover <= cap * (1 + 1e-12)).all()
    doubled = chosen.model_copy(update={"costs": chosen.costs.model_copy(update={"linear_bps": 2.0})})
    other = evaluate(signal, Market.of(PANEL, doubled), line, doubled).daily
    assert other is not None
    np.testing.assert_allclose(other.linear, 2 * daily.linear, rtol=1e-14)
    for name in ("gross", "spread", "impact", "borrow", "turnover", "exposure", "sign"):
        assert getattr(daily, name).tobytes() == getattr(other, name).tobytes()


def whole_panel() -> Panel:
    """Without a missing price, and everyone a member."""
    panel = changed(PANEL, fields={name: np.where(np.isfinite(x), x, 50.0) for name, x in PANEL.fields.items()})
    return changed(panel, member=np.ones((DAYS, NAMES), bool))


STATIC = np.tile(np.arange(NAMES, dtype=float), (DAYS, 1))


def test_the_path_is_not_started_anew_at_a_segment() -> None:
    """A signal that never changes is bought once: no later day trades, but for a change of sign."""
    daily = judge(STATIC, whole_panel(), config("p1")).daily
    assert daily is not None
    flips = np.flatnonzero(np.diff(daily.sign)) + 1
    assert daily.turnover[0] == pytest.approx(0.5)
    assert daily.turnover[flips] == pytest.approx(1.0)
    others = np.setdiff1d(np.arange(1, len(daily.net)), flips)
    assert daily.turnover[others].max() < 1e-15


def test_the_holdout_takes_the_sign_that_it_is_given() -> None:
    settings = config()
    long, short = (judge(settings=settings, rows="holdout", sign=sign) for sign in (1, -1))
    assert long.daily is not None and short.daily is not None
    assert long.rows == LINE.sealed
    assert long.base.tobytes() == short.base.tobytes()
    assert (long.daily.sign == 1).all() and (short.daily.sign == -1).all()
    assert (long.daily.segment == 0).all()
    np.testing.assert_allclose(long.daily.gross, -short.daily.gross, atol=1e-16)
    assert long.daily.dates[0] == PANEL.dates[LINE.holdout.start]
    assert long.daily.dates[-1] == PANEL.dates[DAYS - 3]
    assert long.metrics["holdout_t"] == hac_t(long.base) == -short.metrics["holdout_t"]
    assert long.metrics["holdout_ir"] == long.metrics["net_ir"]


def test_the_holdout_is_entered_with_the_book_of_the_gap() -> None:
    daily = judge(STATIC, whole_panel(), config("p1"), rows="holdout", sign=1).daily
    assert daily is not None
    assert daily.turnover.max() < 1e-15, "what is held was bought long before"
    np.testing.assert_allclose(daily.exposure, 1)


def test_no_day_of_the_holdout_knows_a_later_one() -> None:
    settings = config(portfolio=CONTROLLED)
    later = perturbed(PANEL, DAYS - 30, DAYS)
    one, other = (judge(panel=p, settings=settings, rows="holdout", sign=-1).daily for p in (PANEL, later))
    assert one is not None and other is not None
    known = DAYS - 30 - LINE.holdout.start - 2
    assert one.net[:known].tobytes() == other.net[:known].tobytes()
    assert one.net[known:].tobytes() != other.net[known:].tobytes()


def test_ic_and_rank_ic_are_those_of_slow_loops() -> None:
    scipy = pytest.importorskip("scipy.stats")
    signal = np.round(SIGNAL, 1)
    signal[np.random.default_rng(5).random(signal.shape) < 0.05] = np.nan
    made = judge(signal, settings=config("p0"))
    market = Market.of(PANEL.head(LINE.dev.stop), config("p0"))
    pearson, spearman = [], []
    for t in range(LINE.scored.start, LINE.scored.stop):
        both = market.tradable[t] & np.isfinite(signal[t]) & np.isfinite(market.forward[t])
        if both.sum() >= 10:
            pearson.append(np.corrcoef(signal[t, both], market.forward[t, both])[0, 1])
            spearman.append(scipy.spearmanr(signal[t, both], market.forward[t, both])[0])
    assert made.metrics["ic"] == pytest.approx(np.mean(pearson), rel=1e-10)
    assert made.metrics["rank_ic"] == pytest.approx(np.mean(spearman), rel=1e-10)
    assert made.metrics["icir"] == pytest.approx(np.mean(pearson) / np.std(pearson, ddof=1), rel=1e-10)
    t = np.mean(spearman) / np.std(spearman, ddof=1) * math.sqrt(len(spearman))
    assert made.metrics["rank_ic_tstat"] == pytest.approx(t, rel=1e-10)


def test_ic_survives_huge_and_constant_rows() -> None:
    signal = SIGNAL * 1e290
    assert judge(signal, settings=config("p0")).metrics["ic"] == pytest.approx(
        judge(settings=config("p0")).metrics["ic"]
    )
    constant = judge(np.full((DAYS, NAMES), 0.1), settings=config("p1"))
    assert math.isnan(constant.metrics["ic"]) and math.isnan(constant.metrics["net_ir"])
    assert not constant.base.any()


@pytest.mark.parametrize("mode", ["p0", "p1", "p2"])
def test_a_signal_that_says_nothing_holds_nothing(mode: str) -> None:
    made = judge(np.full((DAYS, NAMES), np.nan), settings=config(mode))
    assert not made.base.any() and made.sign == 1
    assert made.metrics["coverage_mean"] == 0
    assert math.isnan(made.metrics["ic"])
    if made.daily is not None:
        assert not made.daily.net.any() and not made.daily.exposure.any()


def test_a_signal_that_knows_the_next_return_is_rich_and_one_that_knows_the_last_is_not() -> None:
    settings = config("p1", portfolio={"holding": 1})
    market = Market.of(PANEL, settings)
    line = timeline(DAYS, 0.3, WALK, 1)
    ahead = evaluate(market.forward, market, line, settings)
    assert ahead.metrics["rank_ic"] == pytest.approx(1)
    assert ahead.metrics["net_ir"] > 10 and ahead.sign == 1
    same_close = PANEL.fields["close"] / PANEL.fields["open"] - 1  # known at the close, when it is over
    assert abs(evaluate(same_close, market, line, settings).metrics["gross_ir"]) < 4


@pytest.mark.parametrize("mode", ["p0", "p1", "p2"])
def test_both_backends_give_the_same_bits(mode: str) -> None:
    pytest.importorskip("numba")
    signal = np.round(SIGNAL, 1)
    assert same(judge(signal, settings=config(mode)), judge(signal, settings=config(mode, engine="numba")))


def test_metrics_of_each_mode() -> None:
    found = {mode: judge(settings=config(mode)) for mode in ("p0", "p1", "p2")}
    assert found["p0"].daily is None
    assert "net_ir" not in found["p0"].metrics and "wf_n_splits" not in found["p0"].metrics
    p1, p2 = found["p1"].metrics, found["p2"].metrics
    assert p1.keys() == p2.keys() > found["p0"].metrics.keys()
    assert p1["cost_bps_spread"] == p1["cost_bps_impact"] == p1["cost_bps_borrow"] == 0 < p1["cost_bps_linear"]
    assert min(p2[f"cost_bps_{name}"] for name in ("linear", "spread", "impact", "borrow")) > 0
    assert p2["wf_n_splits"] == len(LINE.segments)
    assert p2["sector_max_exposure"] < p1["sector_max_exposure"] / 2
    daily = found["p2"].daily
    assert daily is not None
    assert p2["net_ir"] == pytest.approx(daily.net.mean() / daily.net.std(ddof=1) * math.sqrt(252))
    assert p2["turnover_mean"] == pytest.approx(2 * daily.turnover.mean())
    wealth = np.cumprod(1 + daily.net)
    peaks = [max(1.0, *wealth[: t + 1]) for t in range(len(wealth))]
    assert p2["max_drawdown"] == pytest.approx(min(w / p - 1 for w, p in zip(wealth, peaks, strict=True)))
    rate = p2["breakeven_cost_bps"] / 1e4
    assert (daily.gross - rate * 2 * daily.turnover).mean() == pytest.approx(0, abs=1e-15)


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="sign"):
        judge(rows="holdout")
    with pytest.raises(ValueError, match="sign"):
        judge(sign=1)
    with pytest.raises(ValueError, match="another config"):
        evaluate(SIGNAL, Market.of(PANEL, config()), LINE, config(portfolio={"holding": 2}))


def test_the_timeline_of_this_file_has_many_segments() -> None:
    assert isinstance(LINE, Timeline) and len(LINE.segments) >= 6
