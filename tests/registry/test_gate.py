"""The gate promotes what is shown to be better, and nothing else, whatever it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from windlass.records.evaluation import Evaluation, Leakage
from windlass.records.gate import GatePolicy
from windlass.records.verdict import Comparison, Finding, Ruling, Verdict
from windlass.registry.gate import Sheet, judge
from windlass.registry.scores import Scores

NOW = 1_760_000_000.0
DAY = 86_400.0
CHALLENGER, CHAMPION = "c" * 12, "a" * 12
BENCHMARK: dict[str, Any] = {
    "name": "heldout",
    "data": "heldout.csv",
    "function": "evaluators:reading",
    "metric": "quality",
    "direction": "maximize",
}


def policy(*benchmarks: dict[str, Any], **fields: Any) -> GatePolicy:
    made = [{**BENCHMARK, **benchmark} for benchmark in benchmarks or ({},)]
    return GatePolicy.model_validate({"deployment": "reader", "benchmarks": made, **fields})


def sheet(
    checkpoint: str,
    columns: Mapping[str, Any],
    groups: Mapping[str, Any] | None = None,
    benchmark: str = "heldout",
    ids: Any = None,
    **fields: Any,
) -> Sheet:
    arrays = {name: np.asarray(values, float) for name, values in columns.items()}
    n = len(next(iter(arrays.values())))
    names = np.array([f"e{i:05}" for i in range(n)]) if ids is None else np.asarray(ids)
    texts = {name: np.asarray(values, str) for name, values in (groups or {}).items()}
    known = {"data": "d" * 64, "evaluator": "e" * 64, "scores": f"{checkpoint}{benchmark}", "at": NOW - DAY}
    evaluation = Evaluation(**{"checkpoint": checkpoint, "benchmark": benchmark, "n": n, **known, **fields})
    return Sheet(evaluation, Scores(ids=names, columns=arrays, groups=texts))


def verdict(of: GatePolicy, mine: Sheet | list[Sheet], other: Sheet | list[Sheet] | None, **fields: Any) -> Verdict:
    def by_name(sheets: Sheet | list[Sheet] | None) -> dict[str, Sheet]:
        listed = [] if sheets is None else [sheets] if isinstance(sheets, Sheet) else sheets
        return {one.evaluation.benchmark: one for one in listed}

    known: dict[str, Any] = {"spent": 0.0, "look": 1, "at": NOW}
    champion = None if other is None else CHAMPION
    return judge(of, CHALLENGER, champion, evidence=by_name(mine), baseline=by_name(other), **{**known, **fields})


def pair(seed: int = 0, n: int = 400, better: float = 0.0, alike: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Challenger and champion, normal around the same examples; the mean difference is exactly ``better``."""
    rng = np.random.default_rng(seed)
    examples, noise = rng.normal(size=n), rng.normal(0, alike, n)
    return examples + noise - noise.mean() + better, examples


def answers(wins: int, losses: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """0 and 1; the rest is right for both on two examples of three."""
    rest = (np.arange(n - wins - losses) % 3 > 0).astype(float)
    return np.r_[np.ones(wins), np.zeros(losses), rest], np.r_[np.zeros(wins), np.ones(losses), rest]


def judged(of: GatePolicy, x: Any, y: Any, **fields: Any) -> Verdict:
    return verdict(of, sheet(CHALLENGER, {"quality": x}), sheet(CHAMPION, {"quality": y}), **fields)


def only(found: Verdict, role: str) -> Comparison:
    (one,) = [comparison for comparison in found.comparisons if comparison.role == role]
    return one


# Rulings ------------------------------------------------------------------------------------------------------------


def test_what_is_shown_to_be_better_is_promoted() -> None:
    x, y = pair(better=0.2)
    found = judged(policy({"detect": 0.1}), x, y)
    one = only(found, "better")
    assert found.ruling is Ruling.PROMOTE and one.finding is Finding.PASSED and found.more is None
    assert (one.n, one.threshold, one.level, one.test) == (400, 0.0, 0.0025, "paired bootstrap")
    assert (one.champion, one.challenger, one.delta) == pytest.approx((y.mean(), x.mean(), 0.2))
    assert 0 < one.low < 0.2 < one.high and one.p_value <= one.level
    assert one.power is not None and one.detectable is not None
    assert found.reasons[0] == f"{CHALLENGER} may take the place of {CHAMPION}: better in quality on 'heldout'."
    for told in (f"{x.mean():.4g}", f"{y.mean():.4g}", "better by 0.2", "99.5 %", "level 0.0025, look 1 of 20"):
        assert told in found.reasons[1]
    assert f"probability {one.power:.2f}" in found.reasons[1]


def test_what_is_shown_to_be_no_better_by_what_matters_stays_out() -> None:
    found = judged(policy({"detect": 0.2}), *pair(better=0.01))
    assert found.ruling is Ruling.KEEP and only(found, "better").high < 0.2
    assert found.reasons[0] == f"{CHAMPION} stays: {CHALLENGER} fails in quality on 'heldout'."
    assert "An improvement of 0.2 is ruled out." in found.reasons[1]
    worse = judged(policy(), *pair(better=-0.2))
    assert worse.ruling is Ruling.KEEP and "An improvement of any size is ruled out." in worse.reasons[1]


def test_between_the_two_it_asks_for_more_examples() -> None:
    found = judged(policy(), *pair(better=0.05))
    one = only(found, "better")
    assert found.ruling is Ruling.INCONCLUSIVE and found.more == one.more and one.toward is Finding.PASSED
    assert found.more is not None and 100 < found.more < 2000
    assert f"{found.more:,} more examples of 'heldout' would let it pass" in found.reasons[0]
    nearly_none = judged(policy({"detect": 0.13}), *pair(better=0.02, n=150))
    assert nearly_none.ruling is Ruling.INCONCLUSIVE and only(nearly_none, "better").toward is Finding.BROKEN
    assert "would make it fail" in nearly_none.reasons[0]


def test_no_number_of_examples_settles_what_lies_on_the_threshold() -> None:
    x, y = answers(0, 0, 300)
    found = judged(policy(), x, y)
    assert (found.ruling, found.more) == (Ruling.INCONCLUSIVE, None)
    assert "No number of examples would settle it" in found.reasons[0]


def test_more_than_min_delta_is_asked_for() -> None:
    x, y = pair(better=0.2)
    assert judged(policy({"min_delta": 0.05}), x, y).ruling is Ruling.PROMOTE
    assert judged(policy({"min_delta": 0.19}), x, y).ruling is Ruling.INCONCLUSIVE
    assert judged(policy({"min_delta": 0.4}), x, y).ruling is Ruling.KEEP


def test_scores_of_0_and_1_are_tested_exactly_unless_told_otherwise() -> None:
    x, y = answers(60, 20, 500)
    tests = {test: only(judged(policy({"test": test}), x, y), "better").test for test in ("auto", "exact", "bootstrap")}
    assert tests == {"auto": "exact McNemar", "exact": "exact McNemar", "bootstrap": "paired bootstrap"}
    assert only(judged(policy({"min_delta": 0.01}), x, y), "better").test == "exact unconditional"
    assert only(judged(policy(), *pair()), "better").test == "paired bootstrap"


def test_one_benchmark_may_have_to_be_better_and_another_only_no_worse() -> None:
    both = policy({}, {"name": "recall", "require": "no_worse", "margin": 0.1})
    x, y = pair(better=0.2)

    def of(recall: float) -> Verdict:
        mine, other = pair(seed=1, better=recall)
        return verdict(
            both,
            [sheet(CHALLENGER, {"quality": x}), sheet(CHALLENGER, {"quality": mine}, benchmark="recall")],
            [sheet(CHAMPION, {"quality": y}), sheet(CHAMPION, {"quality": other}, benchmark="recall")],
        )

    assert [of(recall).ruling for recall in (0.0, -0.09, -0.2)] == [
        Ruling.PROMOTE,
        Ruling.INCONCLUSIVE,
        Ruling.KEEP,
    ]
    assert only(of(0.0), "no_worse").level == 0.05  # the correction is for improvements alone
    assert [one.role for one in of(0.0).comparisons] == ["better", "no_worse"]


def test_a_guard_holds_only_when_that_is_shown() -> None:
    guarded = policy({"guards": [{"metric": "toxicity", "direction": "minimize", "margin": 0.05}]})
    x, y = pair(better=0.2)

    def of(rise: float, n: int = 400) -> Verdict:
        mine, other = pair(seed=2, better=rise, n=n)
        return verdict(
            guarded,
            sheet(CHALLENGER, {"quality": x[:n], "toxicity": mine}),
            sheet(CHAMPION, {"quality": y[:n], "toxicity": other}),
        )

    good, open_, broken = of(-0.01), of(0.03), of(0.2)
    assert [one.ruling for one in (good, open_, broken)] == [Ruling.PROMOTE, Ruling.INCONCLUSIVE, Ruling.KEEP]
    assert only(broken, "guard").delta == pytest.approx(-0.2) and only(broken, "guard").challenger > 0.1
    assert broken.reasons[0].endswith("fails in toxicity on 'heldout' (guard).")
    assert open_.more == only(open_, "guard").more is not None


def test_each_slice_is_held_rare_values_together() -> None:
    sliced = policy({"slices": ["language"], "slice_margin": 0.1})
    x, y = pair(better=0.3, n=600)
    languages = np.repeat(["en", "de", "sw", "yo"], [300, 270, 20, 10])
    worse = x - np.where(languages == "de", 1.0, 0.0)

    def of(scores: Any, values: Any) -> Verdict:
        groups = {"language": values}
        mine, other = (sheet(*one, groups) for one in ((CHALLENGER, {"quality": scores}), (CHAMPION, {"quality": y})))
        return verdict(sliced, mine, other)

    good = of(x, languages)
    assert good.ruling is Ruling.PROMOTE
    slices = [one for one in good.comparisons if one.role == "slice"]
    assert {one.group: one.n for one in slices} == {"language=en": 300, "language=de": 270, "language=(rest)": 30}
    assert any("fewer than 30 examples are tested together" in reason for reason in good.reasons)
    bad = of(worse, languages)
    assert bad.ruling is Ruling.KEEP and "where language=de" in bad.reasons[0]


def test_a_slice_too_small_to_show_anything_is_told_and_counts_only_when_it_is_worse() -> None:
    sliced = policy({"slices": ["language"]})
    n, few = 600, 20
    x, y = answers(80, 20, n)

    def of(lost: int) -> Verdict:
        scores = np.r_[x, np.zeros(lost), np.ones(few - lost)]
        languages = np.repeat(["en", "sw"], [n, few])
        return verdict(
            sliced,
            sheet(CHALLENGER, {"quality": scores}, {"language": languages}),
            sheet(CHAMPION, {"quality": np.r_[y, np.ones(few)]}, {"language": languages}),
        )

    small = of(0).comparisons[-1]
    assert of(0).ruling is Ruling.PROMOTE and small.finding is Finding.UNTESTED and small.more is None
    assert any("language=sw has 20 examples" in reason and "takes 59" in reason for reason in of(0).reasons)
    assert of(10).ruling is Ruling.KEEP and of(10).comparisons[-1].finding is Finding.BROKEN


def test_the_first_to_serve_needs_its_evidence_and_the_least_that_may_serve() -> None:
    x, _ = answers(0, 0, 300)  # two thirds are right
    mine = sheet(CHALLENGER, {"quality": x})
    assert verdict(policy(), mine, None).ruling is Ruling.PROMOTE
    assert verdict(policy(), mine, None).comparisons == () and not verdict(policy(), mine, None).tested
    rulings = {least: verdict(policy({"least": least}), mine, None) for least in (0.6, 0.65, 0.8)}
    assert [one.ruling for one in rulings.values()] == [Ruling.PROMOTE, Ruling.INCONCLUSIVE, Ruling.KEEP]
    assert rulings[0.8].reasons[0].startswith("There is still nothing to serve")
    one = only(rulings[0.65], "least")
    assert (one.champion, one.test) == (0.65, "exact binomial") and not rulings[0.65].tested
    assert one.delta == pytest.approx(one.challenger - 0.65) and one.low < 0 < one.high
    assert verdict(policy({"least": 0.6}), [], None).ruling is Ruling.INCONCLUSIVE


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_least_that_may_serve_is_asked_for_beside_a_champion_too(direction: str) -> None:
    x, y = pair(better=0.2 if direction == "maximize" else -0.2)
    limits = (-1.0, 1.0) if direction == "maximize" else (1.0, -1.0)
    rulings = [judged(policy({"least": least, "direction": direction}), x, y).ruling for least in limits]
    assert rulings == [Ruling.PROMOTE, Ruling.KEEP]


def test_least_of_0_and_1_knows_directions() -> None:
    x, _ = answers(0, 0, 300)
    errors = verdict(policy({"least": 0.4, "direction": "minimize"}), sheet(CHALLENGER, {"quality": 1 - x}), None)
    assert errors.ruling is Ruling.PROMOTE and only(errors, "least").delta == pytest.approx(0.4 - 1 / 3)


def test_the_champion_is_kept_against_itself() -> None:
    found = judge(policy(), CHAMPION, CHAMPION, evidence={}, baseline={}, spent=0, look=1, at=NOW)
    assert found.ruling is Ruling.KEEP and not found.tested


# Looks --------------------------------------------------------------------------------------------------------------


def test_challengers_share_alpha() -> None:
    x, y = answers(60, 20, 300)
    assert judged(policy(challengers=20), x, y).level == pytest.approx(0.0025)
    assert judged(policy(challengers=20), x, y, spent=0.04, look=17).level == pytest.approx(0.01 / 4)
    assert judged(policy(challengers=20), x, y, spent=0.0, look=20).level == pytest.approx(0.05)
    levels, spent = [], 0.0
    for look in range(1, 21):
        levels.append(judged(policy(), x, y, spent=spent, look=look).level)
        spent += levels[-1]
    assert spent == pytest.approx(0.05)
    worn = judged(policy(), x, y, spent=spent, look=21)
    assert worn.ruling is Ruling.INCONCLUSIVE and not worn.tested and "worn out" in worn.reasons[0]
    assert "20 challengers" in worn.reasons[0]
    assert judged(policy(), x, y, spent=0.05, look=3).ruling is Ruling.INCONCLUSIVE


def test_a_later_look_needs_no_more_than_an_earlier_one_but_more_than_a_single_one() -> None:
    x, y = pair(better=0.065)
    assert judged(policy(challengers=1), x, y).ruling is Ruling.PROMOTE
    assert judged(policy(challengers=20), x, y).ruling is Ruling.INCONCLUSIVE


# Faults -------------------------------------------------------------------------------------------------------------

Change = Callable[[Sheet], Sheet]


def evaluated(**fields: Any) -> Change:
    return lambda one: Sheet(replace(one.evaluation, **fields), one.scores)


def scored(**columns: Any) -> Change:
    return lambda one: Sheet(one.evaluation, replace(one.scores, columns={**one.scores.columns, **columns}))


def same(one: Sheet) -> Sheet:
    return one


def renamed(one: Sheet) -> Sheet:
    ids = one.scores.ids.copy()
    ids[:5] = [f"other{i}" for i in range(5)]
    return Sheet(one.evaluation, replace(one.scores, ids=ids))


def repeated(one: Sheet) -> Sheet:
    ids = one.scores.ids.copy()
    ids[1] = ids[0]
    return Sheet(one.evaluation, replace(one.scores, ids=ids))


def with_nan(one: Sheet) -> Sheet:
    values = one.scores.columns["quality"].copy()
    values[7] = math.nan
    return scored(quality=values)(one)


def without_column(one: Sheet) -> Sheet:
    return Sheet(one.evaluation, replace(one.scores, columns={"qualty": one.scores.columns["quality"]}))


@pytest.mark.parametrize(
    ("mine", "other", "said"),
    [
        (evaluated(at=NOW - 31 * DAY), same, "31 d old; at most 30 d"),
        (same, evaluated(at=NOW - 40 * DAY), "Champion: evaluation"),
        (evaluated(at=NOW + 3 * 3600), same, "dated 3 h from now: a clock is wrong"),
        (evaluated(imported="theirs.json"), same, "made elsewhere (theirs.json), which the policy refuses"),
        (evaluated(leakage=Leakage(overlap=3, examples=400)), same, "3 of 400 examples were trained on"),
        (evaluated(leakage=Leakage(overlap=None, words="gone", declared=True)), same, "could not be compared"),
        (evaluated(data="f" * 64), same, "other data for the challenger, ffffffffffff, than for the champion"),
        (same, evaluated(evaluator="f" * 64), "another evaluator for the challenger"),
        (renamed, same, "5 ('other0', 'other1', 'other2', ...) are the challenger's alone, 5 ('e00000',"),
        (repeated, same, "examples repeat"),
        (with_nan, same, "'quality' is nan at example 'e00007'"),
        (same, with_nan, "Champion: evaluation"),
        (without_column, same, "no column 'quality'. Did you mean 'qualty'?"),
    ],
)
def test_evidence_that_cannot_be_judged_is_inconclusive(mine: Change, other: Change, said: str) -> None:
    x, y = pair(better=0.5)
    strict = policy({"max_age": "30d"})
    challenger, champion = sheet(CHALLENGER, {"quality": x}), sheet(CHAMPION, {"quality": y})
    assert verdict(strict, challenger, champion).ruling is Ruling.PROMOTE
    found = verdict(strict, mine(challenger), other(champion))
    assert found.ruling is Ruling.INCONCLUSIVE and not found.tested and found.more is None
    assert any(said in reason for reason in found.reasons), found.reasons


def test_a_missing_evaluation_is_named_with_its_side() -> None:
    x, y = pair(better=0.5)
    mine, other = sheet(CHALLENGER, {"quality": x}), sheet(CHAMPION, {"quality": y})
    assert verdict(policy(), [], other).reasons == (f"The challenger {CHALLENGER} has no evaluation on 'heldout'.",)
    assert verdict(policy(), mine, []).reasons == (f"The champion {CHAMPION} has no evaluation on 'heldout'.",)
    two = policy({}, {"name": "recall"})
    assert len(verdict(two, mine, other).reasons) == 2 and not verdict(two, mine, other).tested


def test_a_clock_may_be_a_little_ahead() -> None:
    x, y = pair(better=0.5)
    mine = sheet(CHALLENGER, {"quality": x}, at=NOW + 600)
    assert verdict(policy({"max_age": "1h"}), mine, sheet(CHAMPION, {"quality": y}, at=NOW)).ruling is Ruling.PROMOTE


def test_what_the_policy_accepts_is_marked() -> None:
    x, y = pair(better=0.5)
    lax = policy(imported="accept", leakage="mark")
    leaky = sheet(CHALLENGER, {"quality": x}, imported="theirs.json", leakage=Leakage(overlap=3, examples=400))
    found = verdict(lax, leaky, sheet(CHAMPION, {"quality": y}, leakage=Leakage(overlap=1, examples=400)))
    assert found.ruling is Ruling.PROMOTE
    for said in (
        "made elsewhere: theirs.json",
        "challenger was trained on 3 of 400",
        "champion was trained on 1 of 400",
    ):
        assert any(said in reason for reason in found.reasons)


def test_unknown_leakage_is_told() -> None:
    x, y = pair(better=0.5)
    mine = sheet(CHALLENGER, {"quality": x}, leakage=Leakage(overlap=None, words="no data declared"))
    found = verdict(policy(), mine, sheet(CHAMPION, {"quality": y}, leakage=Leakage(overlap=5, examples=400)))
    assert found.ruling is Ruling.PROMOTE  # the champion's overlap makes it harder to beat
    assert any("is not known: no data declared" in reason for reason in found.reasons)


def test_too_few_examples_are_not_tested() -> None:
    found = judged(policy({"min_examples": 500}), *pair(better=0.5))
    assert (found.ruling, found.more, found.tested) == (Ruling.INCONCLUSIVE, 100, False)
    assert found.reasons == ("'heldout' has 400 examples of the 500 that the policy asks for: 100 more are needed.",)


def test_the_exact_test_takes_nothing_but_0_and_1() -> None:
    found = judged(policy({"test": "exact"}), *pair(better=0.5))
    assert found.ruling is Ruling.INCONCLUSIVE and "takes scores of 0 and 1" in found.reasons[0]


def test_slices_that_differ_between_the_two_are_not_compared() -> None:
    x, y = pair(better=0.5)
    sliced, groups = policy({"slices": ["kind"]}), np.repeat(["a", "b"], 200)
    mine = sheet(CHALLENGER, {"quality": x}, {"kind": groups})
    found = verdict(sliced, mine, sheet(CHAMPION, {"quality": y}, {"kind": groups[::-1]}))
    assert found.ruling is Ruling.INCONCLUSIVE and "400 examples have another 'kind'" in found.reasons[0]
    found = verdict(sliced, mine, sheet(CHAMPION, {"quality": y}))
    assert found.ruling is Ruling.INCONCLUSIVE and "no column 'kind'" in found.reasons[0]


def test_scores_of_another_checkpoint_are_a_mistake_of_the_caller() -> None:
    x, y = pair()
    with pytest.raises(ValueError, match="not of"):
        verdict(policy(), sheet("b" * 12, {"quality": x}), sheet(CHAMPION, {"quality": y}))
    with pytest.raises(ValueError, match="counted from 1"):
        judged(policy(), x, y, look=0)


@pytest.mark.parametrize(
    ("benchmark", "said"),
    [
        ({"require": "no_worse"}, "needs a margin"),
        ({"margin": 0.1}, "a margin is for 'no_worse'"),
        ({"require": "no_worse", "margin": 0.1, "detect": 0.1}, "detect is for 'better'"),
        ({"detect": 0.1, "min_delta": 0.1}, "exceeds min_delta"),
        ({"slices": ["a", "a"]}, "named above"),
        ({"slice_margin": 0}, "greater than 0"),
        ({"guards": [{"metric": "m", "direction": "minimize", "margin": 0}]}, "greater than 0"),
        ({"guards": [{"metric": "m", "direction": "minimize", "margin": 0.1}] * 2}, "holds 'm', too"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(benchmark: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        policy({}, {**benchmark, "name": "other"})


# What always holds --------------------------------------------------------------------------------------------------

LAX = policy(
    {
        "min_examples": 20,
        "min_delta": 0.02,
        "least": -1.0,
        "guards": [{"metric": "cost", "direction": "minimize", "margin": 0.3}],
        "slices": ["kind"],
        "slice_margin": 0.4,
    },
    challengers=2,
)
Case = tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]


@st.composite
def cases(draw: Callable[..., Any]) -> Case:
    """Scores of all kinds: smooth, skewed, tied, 0 and 1; challengers from worse to much better."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n, better = draw(st.sampled_from([24, 60, 120])), draw(st.sampled_from([-0.4, 0.0, 0.2, 0.4, 0.8]))
    kind = draw(st.sampled_from(["smooth", "skewed", "tied", "binary"]))
    y = rng.normal(size=n)
    x = y + rng.normal(better, 0.4, n)
    if kind == "skewed":
        x = y + better + 0.5 - rng.exponential(0.5, n)
    elif kind == "tied":
        y = rng.choice([0.0, 0.25, 0.5, 0.75], n)
        x = np.where(rng.random(n) < abs(better), y + math.copysign(0.25, better), y)
    elif kind == "binary":
        y = (rng.random(n) < 0.3).astype(float)
        x = np.where(rng.random(n) < abs(better), float(better > 0), y)
    cost = rng.normal(size=n)
    mine, other = {"quality": x, "cost": cost + rng.normal(0, 0.2, n)}, {"quality": y, "cost": cost}
    return mine, other, rng.choice(["a", "b"], n)


def judged_case(case: Case, of: GatePolicy = LAX, **fields: Any) -> Verdict:
    mine, other, kind = case
    groups = {"kind": kind}
    return verdict(of, sheet(CHALLENGER, mine, groups), sheet(CHAMPION, other, groups), **fields)


@given(case=cases(), gain=st.floats(0.001, 2))
@settings(max_examples=60, deadline=None)
def test_more_of_the_same_never_turns_promote_into_keep(case: Case, gain: float) -> None:
    mine, other, kind = case
    assume(not np.isin(mine["quality"], (0, 1)).all())  # 0 and 1 plus a constant is another kind of score
    more = {"quality": mine["quality"] + gain, "cost": mine["cost"] - gain}
    before, after = judged_case(case), judged_case((more, other, kind))
    if before.ruling is Ruling.PROMOTE:
        assert after.ruling is Ruling.PROMOTE
    assert not (after.ruling is Ruling.KEEP and before.ruling is not Ruling.KEEP)


@given(case=cases())
@settings(max_examples=40, deadline=None)
def test_two_checkpoints_never_both_beat_each_other(case: Case) -> None:
    mine, other, kind = case
    rulings = [judged_case(case).ruling, judged_case((other, mine, kind)).ruling]
    assert rulings.count(Ruling.PROMOTE) <= 1


@given(case=cases(), seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_the_order_of_examples_changes_nothing(case: Case, seed: int) -> None:
    mine, other, kind = case
    ids = np.array([f"e{i:05}" for i in range(len(kind))])
    orders = [np.random.default_rng(seed + i).permutation(len(kind)) for i in (0, 1)]
    sheets = [
        sheet(checkpoint, {name: v[order] for name, v in columns.items()}, {"kind": kind[order]}, ids=ids[order])
        for checkpoint, columns, order in ((CHALLENGER, mine, orders[0]), (CHAMPION, other, orders[1]))
    ]
    assert verdict(LAX, *sheets) == judged_case(case)


def turned(direction: str) -> dict[str, Any]:
    return LAX.model_dump(mode="json")["benchmarks"][0] | {"direction": direction, "least": 1.0}


@given(case=cases())
@settings(max_examples=40, deadline=None)
def test_less_of_a_loss_is_more_of_a_gain(case: Case) -> None:
    mine, other, kind = case
    assume(not np.isin(mine["quality"], (0, 1)).all())
    losses = [{**columns, "quality": -columns["quality"]} for columns in (mine, other)]
    minimized = policy(turned("minimize"), challengers=2)
    gain, loss = judged_case(case), judged_case((losses[0], losses[1], kind), minimized)
    assert gain.ruling is loss.ruling and gain.more == loss.more
    for a, b in zip(gain.comparisons, loss.comparisons, strict=True):
        assert (a.delta, a.low, a.high, a.p_value, a.finding) == (b.delta, b.low, b.high, b.p_value, b.finding)


@given(case=cases(), power=st.integers(-6, 6).filter(bool))
@settings(max_examples=40, deadline=None)
def test_units_change_no_ruling(case: Case, power: int) -> None:
    mine, other, kind = case
    assume(not np.isin(mine["quality"], (0, 1)).all())
    unit = 10.0**power
    fields = LAX.model_dump(mode="json")["benchmarks"][0]
    scaled = {name: unit * fields[name] for name in ("min_delta", "least", "slice_margin")}
    guards = [{**guard, "margin": unit * guard["margin"]} for guard in fields["guards"]]
    of = policy({**fields, **scaled, "guards": guards}, challengers=2)
    columns = [{name: unit * values for name, values in side.items()} for side in (mine, other)]
    before, after = judged_case(case), judged_case((columns[0], columns[1], kind), of)
    assert before.ruling is after.ruling
    assert [one.finding for one in before.comparisons] == [one.finding for one in after.comparisons]


@given(case=cases(), look=st.integers(1, 2), spent=st.sampled_from([0.0, 0.025]))
@settings(max_examples=40, deadline=None)
def test_the_same_evidence_is_the_same_verdict(case: Case, look: int, spent: float) -> None:
    found = judged_case(case, look=look, spent=spent)
    again = judged_case(case, look=look, spent=spent)
    assert again == found and again.id == found.id
    assert Verdict.from_dict(found.to_dict()) == found
    assert judged_case(case, look=1, at=NOW + 1).id == found.id
    numbers = [value for one in found.comparisons for value in vars_of(one)]
    assert all(math.isfinite(value) for value in numbers)


def vars_of(one: Comparison) -> list[float]:
    return [
        one.champion,
        one.challenger,
        one.delta,
        one.low,
        one.high,
        one.p_value,
        one.power or 0,
        one.detectable or 0,
    ]


@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_a_ruling_is_no_more_than_its_findings(case: Case) -> None:
    found = judged_case(case)
    findings = {one.finding for one in found.comparisons}
    assert (found.ruling is Ruling.PROMOTE) == (findings <= {Finding.PASSED, Finding.UNTESTED})
    assert (found.ruling is Ruling.KEEP) == (Finding.BROKEN in findings)
    for one in found.comparisons:
        assert (one.more is None) or (one.finding is Finding.OPEN and one.more > 0)
        if one.finding is Finding.PASSED:
            assert one.delta > one.threshold and one.p_value <= one.level and one.low >= one.threshold - 1e-12


def test_many_comparisons_have_to_pass_together() -> None:
    names = ("heldout", "recall", "style")
    full = policy(
        *(
            {
                "name": name,
                "slices": ["kind"],
                "guards": [{"metric": "cost", "direction": "minimize", "margin": 0.3}],
            }
            for name in names
        )
    )
    x, y = pair(better=0.3)
    groups = {"kind": np.repeat(["a", "b"], 200)}
    mine = [sheet(CHALLENGER, {"quality": x, "cost": y}, groups, benchmark=name) for name in names]
    other = [sheet(CHAMPION, {"quality": y, "cost": y}, groups, benchmark=name) for name in names]
    found = verdict(full, mine, other)
    assert found.ruling is Ruling.PROMOTE and len(found.comparisons) == 12
    assert {one.benchmark for one in found.comparisons} == set(names)
    costly = sheet(CHALLENGER, {"quality": x, "cost": y + 0.5}, groups, benchmark="style")
    broken = verdict(full, [*mine[:2], costly], other)
    assert broken.ruling is Ruling.KEEP and "cost on 'style' (guard)" in broken.reasons[0]
