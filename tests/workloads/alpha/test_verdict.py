"""Clauses, grades, the order of the holdout's tests, and the words."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from windlass.workloads.alpha.gate.verdict import (
    COMMON_DAYS,
    COSTS,
    HOLDOUT_T,
    LIKENESS,
    Clause,
    Evidence,
    Sealed,
    Verdict,
    alike_by_now,
    final,
    likeness,
    provisional,
    searched,
    tried,
)

DAYS = 200


def series(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(DAYS)


def evidence(name: str = "a", t: float = 4.0, seed: int = 0, **changes: object) -> Evidence:
    good = Evidence(name, f"rank({name})", t, 0.01, 0.6, series(seed), 2.5, True, 0.02)
    return replace(good, **changes)


def one(**changes: object) -> Verdict:
    return provisional([evidence(**changes)], trials=200)[0]


GOOD = Sealed(t=2.0, net_sharpe=0.4)


def test_all_clauses_passed_is_provisional() -> None:
    verdict = one()
    assert verdict.grade == "provisional" and verdict.failed == ()
    assert [c.name for c in verdict.clauses] == ["max_t", "net", "timing", "correlation", "truncation", "placebo"]
    assert "400 trials (200 portfolios, bought or sold)" in verdict.words


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"maxt_p": 0.05}, "max_t"),
        ({"maxt_p": math.nan}, "max_t"),
        ({"net_sharpe": 0.0}, "net"),
        ({"timing_t": 1.6}, "timing"),
        ({"timing_t": math.nan}, "timing"),
        ({"net_sharpe": math.nan}, "net"),
        ({"truncation": False}, "truncation"),
    ],
)
def test_each_clause_refuses(changes: dict[str, object], failed: str) -> None:
    verdict = one(**changes)
    assert verdict.grade == "none"
    assert verdict.failed == (failed,)
    assert verdict.words.startswith("Not promoted")


def test_a_proof_that_was_not_tried_is_none() -> None:
    verdict = one(truncation=None)
    assert verdict.grade == "none"
    assert "not tried" in verdict.words


def test_the_first_reason_is_in_the_words_with_its_values() -> None:
    words = one(maxt_p=0.25, net_sharpe=-1.0, t=-2.31).words
    assert "|t| 2.31" in words and "p 0.250" in words and "400 trials" in words
    assert "Sharpe ratio -1.00" in one(net_sharpe=-1.0).words and f"{COSTS} times the costs" in one(net_sharpe=-1).words


def test_what_is_like_a_kept_one_is_refused_and_says_which() -> None:
    kept = {"old": -series(0) + 0.1 * series(1)}
    verdict = provisional([evidence()], trials=5, kept=kept)[0]
    assert verdict.failed == ("correlation",)
    assert "with old" in verdict.words
    assert provisional([evidence(seed=9)], trials=5, kept=kept)[0].grade == "provisional"


def test_one_that_is_kept_already_is_like_itself() -> None:
    assert provisional([evidence("a")], trials=5, kept={"a": series(0)})[0].failed == ("correlation",)


def test_what_was_kept_since_is_looked_at_before_the_holdout() -> None:
    verdict = one()
    assert alike_by_now(verdict, series(0), {"other": series(5)}) == verdict
    late = alike_by_now(verdict, series(0), {"twin": -series(0)})
    assert late.grade == "none" and late.failed == ("correlation",) and "with twin" in late.words
    assert [c.name for c in late.clauses] == [c.name for c in verdict.clauses]


def test_a_holdout_that_was_searched_promotes_nothing() -> None:
    assert searched(one(), 0).grade == "provisional"
    seen = searched(one(), 1200)
    assert seen.grade == "none" and seen.failed == ("unseen",) and "1,200 trials" in seen.words
    assert final([seen], {"a": GOOD})[0].grade == "none"


def test_of_two_alike_the_one_with_the_larger_t_stays() -> None:
    verdicts = provisional([evidence("a", 3.5), evidence("b", -4.5), evidence("c", 3.0, seed=7)], trials=5)
    assert [v.hash for v in verdicts] == ["b", "a", "c"]
    assert [v.grade for v in verdicts] == ["provisional", "none", "provisional"]


def test_a_refused_one_does_not_stand_in_the_way() -> None:
    verdicts = provisional([evidence("a", 3.5), evidence("b", 4.5, net_sharpe=-1.0)], trials=5)
    assert {v.hash: v.grade for v in verdicts} == {"b": "none", "a": "provisional"}


def test_likeness_looks_at_days_that_both_know() -> None:
    mine, other = series(0), series(0)
    other[:50] = np.nan
    assert likeness(mine, {"x": other, "y": series(3)}) == (pytest.approx(1.0), "x")
    assert likeness(mine, {}) == (0.0, "")
    few = np.where(np.arange(DAYS) < COMMON_DAYS - 1, mine, np.nan)
    assert likeness(mine, {"few": few}) == (0.0, "")
    assert likeness(mine, {"x": np.full(DAYS, np.nan), "y": np.zeros(DAYS)}) == (0.0, "")
    assert LIKENESS == 0.7


def test_the_holdout_gives_grade_a_with_the_placebo_and_b_without() -> None:
    assert final([one()], {"a": GOOD})[0].grade == "A"
    for p in (0.05, math.nan):
        verdict = final([one(placebo_p=p)], {"a": GOOD})[0]
        assert verdict.grade == "B" and verdict.failed == ()
        assert "placebo" in verdict.words


@pytest.mark.parametrize(
    ("sealed", "failed"),
    [
        (Sealed(HOLDOUT_T, 0.4), "holdout_t"),
        (Sealed(-3.0, 0.4), "holdout_t"),
        (Sealed(math.nan, 0.4), "holdout_t"),
        (Sealed(2.0, 0.0), "holdout_net"),
    ],
)
def test_each_clause_of_the_holdout_refuses(sealed: Sealed, failed: str) -> None:
    verdict = final([one()], {"a": sealed})[0]
    assert verdict.grade == "none" and verdict.failed == (failed,)
    assert verdict.words.startswith("Not promoted")


def three() -> list[Verdict]:
    return provisional([evidence("c", 3.5, 2), evidence("a", 4.5, 0), evidence("b", -4.0, 1)], trials=5)


def test_the_holdout_is_tested_in_order_up_to_the_first_that_fails() -> None:
    verdicts = final(three(), {"a": GOOD, "b": Sealed(1.0, 0.4), "c": GOOD})
    assert [(v.hash, v.grade) for v in verdicts] == [("a", "A"), ("b", "none"), ("c", "none")]
    untested = verdicts[2].clause("holdout_t")
    assert untested is not None and untested.passed is None and untested.value == 2.0
    assert "not tested" in verdicts[2].words


def test_all_that_hold_are_promoted() -> None:
    assert [v.grade for v in final(three(), {name: GOOD for name in "abc"})] == ["A", "A", "A"]


def test_one_cannot_be_skipped_by_not_opening_it() -> None:
    verdicts = final(three(), {"b": GOOD})
    assert {v.hash: v.grade for v in verdicts} == {"a": "provisional", "b": "none", "c": "provisional"}


def test_a_refused_one_stays_refused_and_does_not_stop_the_others() -> None:
    verdicts = provisional([evidence("a", 9.0, net_sharpe=-1.0), evidence("b", 4.0, 1)], trials=5)
    opened = final(verdicts, {"a": Sealed(5.0, 2.0), "b": GOOD})
    assert {v.hash: v.grade for v in opened} == {"a": "none", "b": "A"}
    assert "for information" in opened[0].words


def test_a_verdict_survives_json() -> None:
    for verdict in (one(), final([one()], {"a": GOOD})[0], one(truncation=None, placebo_p=math.nan)):
        assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict


def test_a_t_without_a_value_comes_last_and_survives_json_as_null() -> None:
    verdicts = provisional([evidence("a", math.nan, maxt_p=math.nan), evidence("b", 0.1, 1, maxt_p=0.9)], trials=5)
    assert [v.hash for v in verdicts] == ["b", "a"]
    assert math.isnan(Verdict.from_dict({**verdicts[1].to_dict(), "t": None}).t)


def test_clauses_are_found_by_name() -> None:
    clause = one().clause("max_t")
    assert isinstance(clause, Clause) and clause.value == 0.01 and clause.limit == 0.05
    assert one().clause("no such") is None


def test_both_sides_are_counted() -> None:
    assert tried(2000) == "4,000 trials (2,000 portfolios, bought or sold)"


def test_what_comes_behind_a_failure_is_told_so_and_stays_unseen() -> None:
    first, second = provisional([evidence("a", t=4.5, seed=0), evidence("b", t=4.0, seed=1)], trials=10)
    assert [one.grade for one in (first, second)] == ["provisional"] * 2
    judged = final([first, second], {"a": Sealed(0.3, 0.4)})
    assert [one.grade for one in judged] == ["none", "none"] and "not tested" in judged[1].words
    assert final([first, second], {"a": GOOD})[1] == second  # not opened, and nothing failed
