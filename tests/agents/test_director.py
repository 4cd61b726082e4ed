"""The director on constructed lessons: modes, rules, shares; and the bandit that gives the shares."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proposing import decision_of, drawn, make_lessons, make_run, make_study, situation, stagnation
from windlass.agents.bandit import FLOOR, Prior, shares, turn
from windlass.agents.director import CHALLENGER, LEAD, direct
from windlass.agents.proposers import PROPOSERS
from windlass.agents.situation import Situation
from windlass.records.content import flatten
from windlass.records.decision import Mode
from windlass.records.lessons import Credit, Trend

ALL = tuple(PROPOSERS)
COMPLETE = {"baseline": {"kind": "a", "x": 0.5, "flags": [], "train": 0.5, "test": 0.5}}


def failing(good: int, bad: int) -> Situation:
    runs = drawn(good + bad)
    return situation(
        [*runs[:good], *(make_run(i, flatten(runs[i - 1].config), None) for i in range(good + 1, good + bad + 1))]
    )


def credit(**of: tuple[int, float]) -> dict[str, Credit]:
    """name -> cases, good."""
    return {n: Credit(agent=n, cases=c, good=g, value=(g + 1) / (c + 2), sd=0.1) for n, (c, g) in of.items()}


def over(now: Situation, decisions: int = 200, available: tuple[str, ...] = ALL) -> Counter[str]:
    """Who gets that many decisions, one a cycle, if nothing else changed."""
    counted: Counter[str] = Counter()
    for number in range(now.next_number, now.next_number + decisions):
        counted.update(direct(replace(now, next_number=number), 1, available).slots)
    return counted


# ---------------------------------------------------------------- modes


@pytest.mark.parametrize(
    ("now", "mode", "lead", "words"),
    [
        (situation(), Mode.EXPLORE, "explorer", "0 of the first 10 results"),
        (situation(drawn(9)), Mode.EXPLORE, "explorer", "9 of the first 10 results"),
        (situation(drawn(10)), Mode.EXPLOIT, "bayesian", "after 10 results"),
        (failing(10, 6), Mode.RECOVER, "bayesian", "100% of the recent runs failed"),
        (failing(10, 3), Mode.EXPLOIT, "bayesian", "after 13 results"),
        (failing(2, 12), Mode.RECOVER, "local", "100% of the recent runs failed"),
        (failing(0, 14), Mode.EXPLORE, "explorer", "0 of them count"),
        (situation(drawn(12), usable=False), Mode.EXPLORE, "explorer", "too few for the world model"),
    ],
    ids=["start", "nine", "ten", "failing lately", "half failing", "little works", "nothing works", "no model"],
)
def test_modes_follow_the_results_and_say_why(now: Situation, mode: Mode, lead: str, words: str) -> None:
    strategy = direct(now, 3, ALL)
    assert strategy.mode is mode and words in strategy.reason
    assert sum(strategy.slots.values()) == 3 and strategy.slots.keys() <= PROPOSERS.keys()
    assert over(now).most_common(1)[0][0] == lead
    assert strategy.evidence["settled"] == now.lessons.progress.settled
    assert strategy.evidence["shares"].keys() and strategy == direct(now, 3, ALL)


def test_the_baseline_comes_first_where_it_is_complete() -> None:
    complete = make_study(**COMPLETE)
    assert direct(situation((), complete), 2, ALL).slots == {"baseline": 1, "explorer": 1}
    assert "baseline" not in direct(situation(), 2, ALL).slots
    assert "baseline" not in direct(replace(situation((), complete), next_number=2), 2, ALL).slots


def test_the_world_model_leads_alone_until_the_search_stagnates() -> None:
    assert over(situation(drawn(20))) == {"bayesian": 200}
    counted = over(stagnant(), available=tuple(name for name in ALL if name != "ablation"))
    assert counted["bayesian"] >= 0.6 * 200
    for name in ("local", "pattern"):
        assert FLOOR * 200 / 2 <= counted[name] <= CHALLENGER.ceiling * 200
    assert counted.keys() == {"bayesian", "local", "pattern", "explorer"}


def test_recovery_steps_from_what_works_more_often() -> None:
    shaken = over(failing(14, 6))
    assert 0.15 * 200 < shaken["local"] < shaken["bayesian"] and shaken.keys() == {"bayesian", "local"}


@pytest.mark.parametrize("name", [name for name in ALL if name != "explorer"])
def test_who_stays_out_gets_nothing(name: str) -> None:
    study = make_study(agents={"without": [name]}, **COMPLETE)
    for now in (situation((), study), situation(drawn(20, study), study, lessons={"stagnation": stagnation()})):
        assert name not in over(now) and sum(over(now).values()) == 200
        assert name not in over(now, available=tuple(n for n in ALL if n != name))


# ---------------------------------------------------------------- rules


def stagnant(count: int = 40, runs: int = 200, trend: Trend | None = None) -> Situation:
    study = make_study(budget={"runs": runs})
    return situation(drawn(count, study), study, lessons={"stagnation": stagnation(), "trend": trend})


def test_a_stagnant_search_ablates_and_explores_a_little() -> None:
    counted = over(stagnant(), available=tuple(name for name in ALL if name != "ablation"))
    assert 200 / 10 <= counted["explorer"] <= 200 / 6
    strategy = direct(stagnant(), 1, ALL)
    assert strategy.slots == {"ablation": 1}
    assert "20 runs without an improvement above the noise" in strategy.reason and strategy.evidence["stagnant"]


def test_ablations_are_far_apart() -> None:
    runs = drawn(40)
    decided = [decision_of(run, "ablation" if run.number == 25 else "bayesian") for run in runs]
    now = situation(runs, make_study(budget={"runs": 200}), decided=decided, lessons={"stagnation": stagnation()})
    assert "ablation" not in over(now, 10) and over(now, 20)["ablation"] > 0


def test_nothing_is_tried_for_knowledge_alone_early_late_or_while_scores_rise() -> None:
    rising = stagnant(trend=Trend(slope=0.1, low=0.05, high=0.15, runs=20))
    assert over(rising, 40).keys() == {"bayesian"} == over(stagnant(count=19), 40).keys()
    assert over(stagnant(count=97, runs=100), 40).keys() <= {"bayesian", "local", "pattern"}


def close(count: int, runs: int, noise_sd: float | None = 0.5) -> Situation:
    study = make_study(budget={"runs": runs})
    return situation(drawn(count, study), study, noise_sd=noise_sd, sd=lambda values: 0.5)


def test_close_races_are_repeated_late() -> None:
    late = direct(close(85, 100), 4, ALL)
    assert late.slots["repeat"] == 1 and "likely to be better, at a noise of 0.5" in late.reason
    assert "repeat" not in direct(close(60, 100), 4, ALL).slots
    assert "repeat" not in direct(close(85, 100, noise_sd=1e-9), 4, ALL).slots


def test_without_a_budget_of_runs_repeats_wait_for_stagnation() -> None:
    study = make_study(budget={"concurrent": 2})
    now = situation(drawn(40), study, noise_sd=0.5, sd=lambda values: 0.5)
    assert "repeat" not in direct(now, 1, ALL).slots
    still = replace(now, lessons=make_lessons(study, now.runs, stagnation=stagnation()))
    assert direct(still, 1, ALL).slots == {"repeat": 1}


def test_a_language_model_gets_the_share_it_was_given() -> None:
    study = make_study(agents={"language_model": {"model": "openai:some", "every": 4}})
    available = (*ALL, "language_model")
    for now in (situation(drawn(4), study), situation(drawn(20), study)):
        assert over(now, available=available)["language_model"] == pytest.approx(50, abs=3)
    bad = {"proposers": credit(language_model=(30, 3.0), bayesian=(30, 20.0))}
    confined = over(situation(drawn(20), study, lessons=bad), available=available)["language_model"]
    assert FLOOR * 200 <= confined <= 2 * FLOOR * 200


# ---------------------------------------------------------------- the bandit

ARMS = {
    "bayesian": LEAD,
    "local": CHALLENGER,
    "pattern": CHALLENGER,
    "language_model": Prior(worth=0.5, weight=20, ceiling=0.25),
}
COUNTS = st.tuples(st.integers(0, 500), st.floats(0, 1)).map(lambda one: (one[0], one[0] * one[1]))


@given(st.fixed_dictionaries({}, optional={name: COUNTS for name in ARMS}))
def test_shares_sum_to_one_and_keep_floor_and_ceiling(cases: dict[str, tuple[int, float]]) -> None:
    found = shares(ARMS, "bayesian", credit(**cases))
    assert sum(one.share for one in found.values()) == pytest.approx(1)
    assert found["bayesian"].share >= 0.5
    for name, prior in ARMS.items():
        assert FLOOR <= found[name].share <= prior.ceiling
        assert 0 <= found[name].chance <= 1 and found[name].sd > 0


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
def test_more_credit_never_lowers_a_share(cases: int, one: float, other: float) -> None:
    low, high = sorted((one * cases, other * cases))
    at_low, at_high = (shares(ARMS, "bayesian", credit(bayesian=(50, 25.0), local=(cases, g))) for g in (low, high))
    assert at_low["local"].share <= at_high["local"].share
    assert at_low["bayesian"].share >= at_high["bayesian"].share


def test_credit_moves_an_arm_between_floor_and_ceiling() -> None:
    good = shares(ARMS, "bayesian", credit(bayesian=(60, 20.0), local=(30, 25.0)))["local"]
    bad = shares(ARMS, "bayesian", credit(bayesian=(60, 40.0), local=(30, 3.0)))["local"]
    assert good.share == CHALLENGER.ceiling and bad.share == FLOOR
    assert good.cases == 30 and good.chance > 0.9 > 0.1 > bad.chance


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_every_arm_gets_its_share_of_any_stretch(seed: int) -> None:
    found = shares(ARMS, "bayesian", {})
    for start in (1, 500, 20_000):
        counted = Counter(turn(number, seed, found) for number in range(start, start + 200))
        for name, one in found.items():
            assert counted[name] == pytest.approx(200 * one.share, abs=3)
