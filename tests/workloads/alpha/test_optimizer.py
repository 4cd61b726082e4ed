"""A constrained portfolio: every limit held, nothing known too early, and words for what cannot be."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from windlass.errors import MissingExtra
from windlass.workloads.alpha.optimizer.advice import advise
from windlass.workloads.alpha.optimizer.day import Day, Limits, day, scores
from windlass.workloads.alpha.optimizer.problem import Convex, available, sector_matrix
from windlass.workloads.alpha.optimizer.rebalancing import Optimized, optimized
from windlass.workloads.alpha.optimizer.ridge import ridge
from windlass.workloads.alpha.optimizer.risk import LEAST_SPECIFIC, risk_model

WITHIN = 1e-6
convex = pytest.mark.skipif(not available(), reason="needs cvxpy and clarabel")
both = pytest.mark.parametrize("method", [pytest.param("convex", marks=convex), "ridge"])
LIMITS = Limits(aum=1e7, box=0.1, every=5, factors=4)


def market(rows: int = 40, names: int = 24, sectors: int = 3, seed: int = 0, holes: float = 0.0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    volatility = np.exp(random.normal(-4.2, 0.3, names)) * np.exp(random.normal(0, 0.02, (rows, names)))
    beta = random.normal(1, 0.3, names) + random.normal(0, 0.02, (rows, names))
    given = {
        "signal": np.cumsum(random.normal(size=(rows, names)), axis=0),
        "beta": beta,
        "volatility": volatility,
        "adv": np.exp(random.normal(17, 1, names)) * np.ones((rows, 1)),
        "returns": random.normal(0, 0.01, (rows, 1)) * beta + random.normal(size=(rows, names)) * volatility,
        "groups": random.integers(-1, sectors, names).astype(np.int16),
        "tradable": random.random((rows, names)) >= holes,
    }
    for name in ("signal", "beta", "volatility", "adv", "returns"):
        given[name][random.random((rows, names)) < holes / 2] = np.nan
    return given


def solve(inputs: dict[str, Any], limits: Limits = LIMITS, method: str = "convex", **named: Any) -> Optimized:
    return optimized(**inputs, settings=replace(limits, method=method), **named)


def head(inputs: dict[str, Any], rows: int) -> dict[str, Any]:
    return {name: array if name == "groups" else array[:rows] for name, array in inputs.items()}


def broken(inputs: dict[str, Any], limits: Limits, result: Optimized, neutral: bool) -> list[str]:
    """What does not hold, worked out again from the inputs and the weights alone."""
    found = []
    for entry in result.log:
        row = entry["row"]
        before = result.weights[row - 1] if row else np.zeros(result.weights.shape[1])
        after = result.weights[row]
        if entry["status"] != "solved":
            if (before != after).any():
                found.append(f"{row}: traded, {entry['status']}")
            continue
        known = np.isfinite(inputs["beta"][row]) & np.isfinite(inputs["volatility"][row])
        known &= np.isfinite(inputs["adv"][row]) & inputs["tradable"][row]
        trade = np.abs(after - before)[known]
        unseen = known & ~np.isfinite(inputs["signal"][row])
        exceeded = {
            "closed": np.abs(after[~known]).max(initial=0.0),
            "gross": np.abs(after).sum() - limits.gross,
            "box": np.abs(after).max() - limits.box,
            "turnover": trade.sum() - limits.turnover if before.any() else 0.0,
            "participation": (trade * limits.aum / inputs["adv"][row][known]).max() - limits.participation,
            "reduce only": (np.abs(after) - np.abs(before))[unseen].max(initial=0.0),
            "same side": -(after * before)[unseen].min(initial=0.0),
        }
        if neutral:
            exceeded |= {
                "dollar": abs(after.sum()),
                "beta": abs((after * np.where(known, inputs["beta"][row], 0)).sum()) - limits.beta,
            }
            for sector in np.unique(inputs["groups"]):
                exceeded[f"sector {sector}"] = abs(after[inputs["groups"] == sector].sum()) - limits.sector
        found += [f"{row}: {name} by {by:.2e}" for name, by in exceeded.items() if by > WITHIN]
        if abs(entry["turnover"] - trade.sum()) > 1e-12 or abs(entry["gross"] - np.abs(after).sum()) > 1e-12:
            found.append(f"{row}: the log differs from the weights")
    return found


scenarios = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "names": st.integers(2, 30),
        "sectors": st.integers(1, 5),
        "holes": st.sampled_from([0.0, 0.05, 0.4]),
    }
)
limits_ = st.builds(
    Limits,
    aum=st.sampled_from([1e6, 1e8, 1e9]),
    gross=st.sampled_from([0.3, 1.0, 2.0]),
    box=st.sampled_from([0.01, 0.1, 1.0]),
    turnover=st.sampled_from([0.02, 0.2, 1.0]),
    sector=st.sampled_from([0.0, 0.02]),
    beta=st.sampled_from([0.0, 0.05]),
    risk_aversion=st.sampled_from([0.1, 5.0, 100.0]),
    factors=st.sampled_from([1, 5, 15]),
    linear_bps=st.sampled_from([0.0, 1.0, 20.0]),
)
several = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


@convex
@several
@given(scenarios, limits_)
def test_every_constraint_holds_at_every_rebalance(scenario: dict[str, Any], limits: Limits) -> None:
    inputs = market(rows=36, **scenario)
    result = solve(inputs, limits)
    assert broken(inputs, limits, result, neutral=True) == []
    assert "unsolved" not in {entry["status"] for entry in result.log}


@settings(deadline=None, max_examples=60)
@given(scenarios, limits_)
def test_ridge_holds_what_it_says(scenario: dict[str, Any], limits: Limits) -> None:
    inputs = market(rows=36, **scenario)
    assert broken(inputs, limits, solve(inputs, limits, "ridge"), neutral=False) == []


@both
@pytest.mark.parametrize("rows", [1, 6, 26, 31])
def test_later_rows_change_no_earlier_weight(method: str, rows: int) -> None:
    inputs = market(rows=34, holes=0.05)
    whole, short = solve(inputs, method=method), solve(head(inputs, rows), method=method)
    assert short.weights.tobytes() == whole.weights[:rows].tobytes()
    assert short.log == whole.log[: len(short.log)]
    assert np.abs(whole.weights[-1]).sum() > 0.1


@both
def test_a_book_is_held_between_rebalances(method: str) -> None:
    result = solve(market(rows=23), method=method)
    assert [entry["row"] for entry in result.log] == [0, 5, 10, 15, 20]
    for row in range(23):
        assert (result.weights[row] == result.weights[row - row % 5]).all()
    assert len({weights.tobytes() for weights in result.weights}) == 5


@both
def test_turnover_is_limited_but_from_flat(method: str) -> None:
    log = solve(market(), replace(LIMITS, turnover=0.1), method).log
    assert log[0]["from_flat"] and log[0]["turnover"] > 0.5
    assert not any(entry["from_flat"] for entry in log[1:])
    assert max(entry["turnover"] for entry in log[1:]) == pytest.approx(0.1, abs=WITHIN)


def one_day(names: int = 6, seed: int = 3, held: Any = None, **limits: Any) -> tuple[Day, Limits, Any]:
    inputs = market(rows=30, names=names, sectors=1, seed=seed)
    wanted = replace(LIMITS, box=0.3, factors=2, **limits)
    rest = {name: inputs[name][-1] for name in ("beta", "volatility", "adv", "tradable")}
    before = np.zeros(names) if held is None else held
    return (
        day(inputs["signal"][-1], before, returns=inputs["returns"], limits=wanted, **rest),
        wanted,
        np.zeros(names, dtype=np.int16),
    )


@convex
def test_the_solution_is_that_of_another_solver() -> None:
    held = np.array([0.2, -0.2, 0.1, -0.1, 0.05, -0.05])
    today, limits, groups = one_day(held=held, turnover=0.4, sector=0.05, beta=0.05, aum=1e6)
    n = held.size

    def negative(x: Any) -> float:
        w, trade = x[:n], x[n : 2 * n]
        return -1e4 * float(today.expected @ w - limits.cost * trade.sum() - 0.5 * limits.risk_aversion * today.risk(w))

    solution = Convex(groups, limits).solve(today)
    assert solution is not None
    other = minimize(
        negative,
        np.concatenate([np.zeros(n), np.abs(held), np.zeros(n)]),
        method="SLSQP",
        bounds=[*zip(today.lower, today.upper, strict=True), *[(0, None)] * (2 * n)],
        constraints=[
            {"type": "eq", "fun": lambda x: x[:n].sum()},
            {"type": "ineq", "fun": lambda x: limits.beta - today.beta @ x[:n]},
            {"type": "ineq", "fun": lambda x: limits.beta + today.beta @ x[:n]},
            {"type": "ineq", "fun": lambda x: limits.turnover - x[n : 2 * n].sum()},
            {"type": "ineq", "fun": lambda x: limits.gross - x[2 * n :].sum()},
            {"type": "ineq", "fun": lambda x: x[n : 2 * n] - np.abs(x[:n] - held)},
            {"type": "ineq", "fun": lambda x: x[2 * n :] - np.abs(x[:n])},
        ],
        options={"ftol": 1e-14, "maxiter": 2000},
    )
    assert today.objective(solution.weights, limits) == pytest.approx(-other.fun / 1e4, rel=1e-5)


@convex
@pytest.mark.parametrize("limit", ["gross", "turnover", "beta", "box"])
def test_a_price_is_what_a_looser_limit_brings(limit: str) -> None:
    held = np.array([0.2, -0.2, 0.1, -0.1, 0.05, -0.05, 0.0, 0.0])
    tight = {"gross": {"gross": 0.7}, "turnover": {"turnover": 0.2}, "beta": {"beta": 0.01}, "box": {"box": 0.21}}
    more = {"turnover": 2.0, "gross": 2.0} | tight[limit]

    def solved(loosened: float) -> tuple[float, float]:
        today, limits, groups = one_day(8, held=held, sector=0.5, risk_aversion=1.0)
        limits = replace(limits, **{name: v + (loosened if name == limit else 0) for name, v in more.items()})
        bound = limits.box
        today = replace(
            today,
            turnover=limits.turnover,
            cap=np.full(8, 9.0),
            lower=np.full(8, -bound),
            upper=np.full(8, bound),
        )
        solution = Convex(groups, limits).solve(today)
        assert solution is not None
        prices = {binding.constraint: binding.price for binding in solution.binding}
        return today.objective(solution.weights, limits), prices[limit]

    step = 1e-3
    low, middle, high = solved(-step)[0], solved(0.0)[1], solved(step)[0]
    assert middle > 1e-6
    assert (high - low) / (2 * step) == pytest.approx(middle, rel=0.02)


def stuck(**limits: Any) -> tuple[Day, Limits, Any]:
    """Names 0..2 of beta 1, name 3 of beta 0: only a book without name 3 is neutral, which takes trades of 0.02."""
    today, wanted, groups = one_day(4, held=np.array([0.01, -0.01, 0.01, -0.01]), **{"turnover": 0.005, **limits})
    beta = np.array([1.0, 1.0, 1.0, 0.0])
    return replace(today, beta=beta, cap=np.ones(4), lower=np.full(4, -0.3), upper=np.full(4, 0.3)), wanted, groups


def test_advice_names_each_limit_that_suffices_and_its_value() -> None:
    today, limits, groups = stuck()
    advice = advise(today, limits, sector_matrix(groups)[1])
    assert advice.alone == pytest.approx({"turnover": 0.02, "beta": 0.0075})
    assert advice.words(limits) == (
        "feasible with turnover 0.005 -> 0.02; or beta 0 -> 0.0075 "
        "(loosening only one of participation, box, gross, sector does not help)"
    )


def test_advice_gives_a_joint_loosening_where_no_single_one_helps() -> None:
    today, limits, groups = stuck()
    today = replace(today, cap=np.full(4, 0.001), beta=np.array([1.0, 1.0, 1.0, -1.0]), held=np.array([0.01] * 4))
    advice = advise(today, limits, sector_matrix(groups)[1])
    assert advice.alone == {}
    assert {"turnover", "participation"} <= set(advice.together)
    assert advice.words(limits).startswith("no single limit helps; feasible with turnover 0.005 -> ")


@convex
def test_the_advised_value_is_the_border_of_what_is_feasible() -> None:
    today, limits, groups = stuck()
    for value, solved in ((0.005, False), (0.0199, False), (0.0201, True)):
        assert (Convex(groups, limits).solve(replace(today, turnover=value)) is not None) == solved
    for value, solved in ((0.0074, False), (0.0076, True)):
        assert (Convex(groups, replace(limits, beta=value)).solve(today) is not None) == solved


@convex
def test_an_infeasible_rebalance_keeps_the_book_and_gives_advice() -> None:
    inputs = market(rows=15, names=40)
    inputs["beta"][5:] = inputs["beta"][5:, ::-1]
    result = solve(inputs, replace(LIMITS, turnover=1e-3))
    first, second, third = result.log
    assert (first["status"], second["status"]) == ("solved", "infeasible")
    assert (result.weights[14] == result.weights[0]).all()
    assert "turnover 0.001 -> " in second["advice"] and "beta 0 -> " in second["advice"]
    assert second["objective"] is None and second["turnover"] == 0 and second["gross"] == first["gross"]
    assert third["beta"] != 0


@both
def test_a_universe_too_small_for_the_gross_is_said(method: str) -> None:
    log = solve(market(rows=1, names=10), replace(LIMITS, box=0.01), method).log
    assert log[0]["status"] == "solved" and 0 < log[0]["gross"] <= 0.1 + WITHIN
    assert log[0]["advice"] == "10 names in boxes of 0.01 reach a gross of 0.1 at most, not 1; box 0.1 would"


@convex
def test_the_only_name_of_a_sector_is_not_held() -> None:
    inputs = market(rows=1)
    inputs["groups"] = np.where(np.arange(24) == 7, 9, inputs["groups"] % 2)
    inputs["signal"][0, 7] = 100.0
    weights = solve(inputs).weights[0]
    assert weights[7] == 0 and np.abs(weights).sum() > 0.5


@both
@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda x: x["tradable"].__setitem__(slice(5, 10), False), "no names"),
        (lambda x: x["adv"].__setitem__((slice(5, 10), slice(1, None)), np.nan), "no names"),
        (lambda x: x["signal"].__setitem__(slice(5, 10), np.nan), "no signal"),
        (lambda x: x["signal"].__setitem__(slice(5, 10), np.inf), "no signal"),
        (lambda x: x["signal"].__setitem__(slice(5, 10), 1.0), "no signal"),
    ],
)
def test_a_day_with_nothing_to_decide_on_keeps_the_book(method: str, change: Any, status: str) -> None:
    inputs = market(rows=15)
    change(inputs)
    result = solve(inputs, method=method)
    assert [entry["status"] for entry in result.log] == ["solved", status, "solved"]
    assert (result.weights[9] == result.weights[0]).all() and result.weights[0].any()


@both
def test_nothing_known_at_all_is_a_flat_book(method: str) -> None:
    inputs = market(rows=12)
    inputs["signal"][:] = np.nan
    result = solve(inputs, method=method)
    assert not result.weights.any() and {entry["status"] for entry in result.log} == {"no signal"}


@both
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (3, 1)])
def test_degenerate_shapes_are_defined(method: str, shape: tuple[int, int]) -> None:
    inputs = {name: np.ones(shape) for name in ("signal", "beta", "volatility", "adv", "returns")}
    result = optimized(
        **inputs,
        groups=np.zeros(shape[1], dtype=np.int16),
        tradable=np.ones(shape, dtype=bool),
        settings=replace(LIMITS, method=method),
    )
    assert result.weights.shape == shape and not result.weights.any()


@convex
def test_collinear_constraints_are_solved() -> None:
    inputs = market(rows=11)
    inputs["beta"][:] = 1.0
    result = solve(inputs)
    assert [entry["status"] for entry in result.log] == ["solved"] * 3
    assert broken(inputs, LIMITS, result, neutral=True) == []


@both
def test_a_name_that_leaves_is_closed_outside_of_the_turnover_limit(method: str) -> None:
    inputs = market(rows=6)
    leaver = int(np.abs(solve(inputs, method=method).weights[0]).argmax())
    inputs["tradable"][5, leaver] = False
    result = solve(inputs, replace(LIMITS, turnover=0.15), method)
    entry = result.log[1]
    assert entry["status"] == "solved" and result.weights[5, leaver] == 0
    assert entry["forced"] == abs(result.weights[0, leaver]) > 0
    assert entry["cost"] == pytest.approx((entry["turnover"] + entry["forced"]) * 3.5e-4)


@both
def test_a_thin_name_is_traded_within_participation(method: str) -> None:
    inputs = market(rows=6)
    inputs["adv"][:, :12] = 1e5
    result = solve(inputs, method=method)
    assert np.abs(result.weights[0, :12]).max() == pytest.approx(0.05 * 1e5 / 1e7, rel=1e-6)
    assert np.abs(result.weights[5, :12]).max() <= 2 * 0.05 * 1e5 / 1e7 + WITHIN


@convex
def test_what_costs_more_than_it_brings_is_not_traded() -> None:
    log = solve(market(), replace(LIMITS, linear_bps=900.0)).log
    assert [entry["held"] for entry in log] == [0] * 8 and all(entry["from_flat"] for entry in log)
    dear, cheap = (
        sum(entry["turnover"] for entry in solve(market(), replace(LIMITS, linear_bps=bps)).log) for bps in (8.0, 0.0)
    )
    assert 0 < dear < cheap


@convex
def test_binding_constraints_have_names_and_prices() -> None:
    names = [f"N{n}" for n in range(24)]
    inputs = market(rows=6)
    inputs["groups"] = np.arange(24) % 3 - 1
    first, second = solve(inputs, names=names, group_names=("Energy", "Tech")).log
    assert {"beta", "box", "sector Energy", "sector Tech", "sector unknown"} <= set(first["prices"])
    assert "turnover" in second["prices"] and "turnover" not in first["prices"]
    box = next(part for part in first["binding"].split("; ") if part.startswith("box"))
    at_box = np.flatnonzero(np.abs(solve(inputs).weights[0]) > 0.1 - WITHIN)
    assert any(names[n] in box for n in at_box) and f"({len(at_box)} names" in box


@convex
def test_the_problem_is_compiled_once() -> None:
    assert Convex(np.arange(8) % 2, LIMITS).problem.is_dcp(dpp=True)


def test_ridge_without_clipping_is_the_constrained_optimum() -> None:
    today, limits, groups = one_day(12, gross=1e9)
    today = replace(today, lower=np.full(12, -1e9), upper=np.full(12, 1e9))
    limits = replace(limits, box=1e9)
    weights = ridge(today, limits, sector_matrix(groups)[1])
    constraints = np.vstack([np.ones(12), today.beta])
    covariance = today.loadings @ today.loadings.T + np.diag(today.specific**2)
    system = np.block([[limits.risk_aversion * covariance, constraints.T], [constraints, np.zeros((2, 2))]])
    exact = np.linalg.solve(system, np.concatenate([today.expected, [0.0, 0.0]]))[:12]
    assert weights == pytest.approx(exact, rel=1e-6)


def test_ridge_tells_what_clipping_left() -> None:
    result = solve(market(), replace(LIMITS, box=0.05), "ridge")
    for entry in result.log:
        assert entry["dollar"] == pytest.approx(result.weights[entry["row"]].sum(), abs=1e-12)
    assert max(abs(entry["dollar"]) for entry in result.log) > 1e-4


def test_without_the_extra_only_ridge_works(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cvxpy" else found(name))
    assert not available()
    with pytest.raises(MissingExtra, match=r"windlass\[optimizer\]"):
        solve(market(rows=6))
    assert solve(market(rows=6), method="ridge").weights.any()


def test_the_solver_is_imported_only_where_it_solves() -> None:
    code = "import sys, windlass.workloads.alpha.optimizer.rebalancing; sys.exit('cvxpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_risk_model_is_a_correlation_matrix() -> None:
    inputs = market(rows=200, names=30, holes=0.1)
    loadings, specific = risk_model(inputs["returns"], 5)
    assert (loadings**2).sum(axis=1) + specific == pytest.approx(np.ones(30))
    assert specific.min() >= LEAST_SPECIFIC - 1e-12
    market_factor = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(30)
    loadings, specific = risk_model(market_factor, 3)
    assert specific == pytest.approx(np.full(30, LEAST_SPECIFIC))
    assert loadings @ loadings.T == pytest.approx(np.full((30, 30), 1 - LEAST_SPECIFIC))


@pytest.mark.parametrize("returns", [np.zeros((30, 4)), np.full((30, 4), np.nan), np.ones((3, 4)), np.ones((0, 4))])
def test_without_returns_there_are_no_factors(returns: Any) -> None:
    loadings, specific = risk_model(returns, 6)
    assert loadings.shape == (4, 6) and not loadings.any() and (specific == 1).all()


def test_scores_are_normal_quantiles_with_average_ties() -> None:
    signal = np.array([3.0, 1.0, 1.0, 99.0])
    found = scores(signal, np.array([True, True, True, False]))
    assert found == pytest.approx([0.967421566, -0.430727300, -0.430727300, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [{"aum": 0}, {"gross": -1}, {"box": math.nan}, {"sector": -0.1}, {"every": 0}, {"factors": 0}, {"method": "lp"}],
)
def test_limits_that_leave_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**{"aum": 1e7, **wrong})


@pytest.mark.parametrize("name", ["beta", "tradable", "groups"])
def test_shapes_that_differ_are_refused(name: str) -> None:
    inputs = market(rows=6)
    inputs[name] = inputs[name][..., :-1]
    with pytest.raises(ValueError, match=f"{name} has shape"):
        solve(inputs, method="ridge")
