"""The panel: the formula, the rules between the thresholds, and what must hold for any votes at all."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.agents.panel import check_weights, needs_person, tally
from windlass.errors import StudyError
from windlass.records.deciding import Panel
from windlass.records.decision import Stance, Vote

NAMES = ("world", "feasibility", "cost", "novelty", "hypothesis")
LADDER = (Stance.REJECT, Stance.REVISE, Stance.APPROVE)
CONFLICTS = ("revise", "cautious", "majority", "ask")


def vote(critic: str, stance: Stance, confidence: float = 1.0) -> Vote:
    return Vote(critic=critic, stance=stance, confidence=confidence, reason="because")


def votes(*stances: tuple[Stance, float]) -> list[Vote]:
    return [vote(name, *one) for name, one in zip(NAMES, stances, strict=False)]


EQUAL = dict.fromkeys(NAMES, 1.0)
YES, NO, AGAIN, NOTHING = Stance.APPROVE, Stance.REJECT, Stance.REVISE, Stance.ABSTAIN


def test_the_formula() -> None:
    counted = tally(
        [vote("world", YES, 0.9), vote("feasibility", NO, 0.5), vote("cost", AGAIN, 0.4), vote("novelty", NOTHING)],
        {"world": 2.0, "feasibility": 2.0, "cost": 1.5, "novelty": 1.0},
        Panel(),
    )
    assert counted.score == pytest.approx((1.8 - 1.0) / (1.8 + 1.0 + 0.6))
    assert counted.active == 3
    assert counted.agreement == pytest.approx(1.8 / 3.4)
    shares = (1.8 / 3.4, 1.0 / 3.4, 0.6 / 3.4)
    assert counted.entropy == pytest.approx(-sum(p * math.log2(p) for p in shares))
    assert counted.stance is Stance.REVISE
    for words in ("+0.235", "+0.66", "world 0.90", "reject: feasibility 0.50", "abstain: novelty"):
        assert words in counted.reason


@pytest.mark.parametrize(
    "cast",
    [
        [],
        votes((YES, 1.0)),
        votes((YES, 1.0), (NOTHING, 1.0)),
        votes((YES, 0.0), (YES, 0.0)),
        votes((YES, 1), (YES, 0)),
    ],
)
def test_fewer_than_two_votes_that_say_something_reject(cast: list[Vote]) -> None:
    for conflict in CONFLICTS:
        rules = Panel(conflict=conflict)
        counted = tally(cast, EQUAL, rules)
        assert counted.stance is Stance.REJECT
        assert counted.active < 2
        assert "too few votes" in counted.reason
        assert not needs_person(counted, rules)


def test_a_critic_without_weight_is_not_active() -> None:
    counted = tally(votes((YES, 1.0), (YES, 1.0)), {"world": 1.0, "feasibility": 0.0}, Panel())
    assert (counted.active, counted.stance) == (1, Stance.REJECT)


def test_thresholds_belong_to_their_side() -> None:
    weights = {"world": 83.0, "feasibility": 17.0}  # a score of 66/100, 0.66 to the bit
    assert tally(votes((YES, 1.0), (NO, 1.0)), weights, Panel()).stance is Stance.APPROVE
    assert tally(votes((NO, 1.0), (YES, 1.0)), weights, Panel()).stance is Stance.REJECT
    assert tally(votes((YES, 1.0), (NO, 1.0)), {**weights, "world": 82.9}, Panel()).stance is Stance.REVISE


@pytest.mark.parametrize(
    ("conflict", "for_it", "even", "against"),
    [
        ("revise", Stance.REVISE, Stance.REVISE, Stance.REVISE),
        ("cautious", Stance.REJECT, Stance.REJECT, Stance.REJECT),
        ("majority", Stance.APPROVE, Stance.REJECT, Stance.REJECT),
        ("ask", Stance.REVISE, Stance.REVISE, Stance.REVISE),
    ],
)
def test_conflict(conflict: Any, for_it: Stance, even: Stance, against: Stance) -> None:
    rules = Panel(conflict=conflict)
    for confidences, expected in (((1.0, 0.5), for_it), ((0.5, 0.5), even), ((0.5, 1.0), against)):
        counted = tally(votes((YES, confidences[0]), (NO, confidences[1])), EQUAL, rules)
        assert counted.stance is expected
        assert conflict in counted.reason
        assert needs_person(counted, rules) is (conflict == "ask")


def test_bugs_are_no_opinions() -> None:
    two = votes((YES, 1.0), (YES, 1.0))
    with pytest.raises(ValueError, match="'feasibility' has no weight"):
        tally(two, {"world": 1.0}, Panel())
    with pytest.raises(ValueError, match="votes twice"):
        tally([*two, two[0]], EQUAL, Panel())
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="weight of 'world'"):
            tally(two, {**EQUAL, "world": weight}, Panel())
    for confidence in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="confidence of 'world'"):
            tally(votes((YES, confidence), (YES, 1.0)), EQUAL, Panel())


def test_misspelt_critics_are_refused() -> None:
    check_weights(Panel(weights={"world": 1.0}), NAMES)
    with pytest.raises(StudyError, match=r"'noveltie'.* Did you mean 'novelty'\?.*world, feasibility"):
        check_weights(Panel(weights={"noveltie": 1.0}), NAMES)


confidences = st.floats(0, 1) | st.sampled_from((0.0, 0.1, 0.5, 1.0))
ballots = st.lists(st.tuples(st.sampled_from(tuple(Stance)), confidences), max_size=len(NAMES)).map(
    lambda cast: votes(*cast)
)
weights = st.fixed_dictionaries(dict.fromkeys(NAMES, st.floats(0, 10) | st.sampled_from((0.0, 1.0, 1.5, 2.0))))
panels = st.builds(
    Panel,
    approve_at=st.floats(0.01, 1) | st.just(0.66),
    reject_at=st.floats(-1, -0.01) | st.just(-0.66),
    conflict=st.sampled_from(CONFLICTS),
)


@given(ballots, weights, panels, st.randoms(use_true_random=False))
def test_the_order_of_votes_is_irrelevant(
    cast: list[Vote], weights: dict[str, float], rules: Panel, random: Any
) -> None:
    shuffled = cast[:]
    random.shuffle(shuffled)
    assert tally(shuffled, weights, rules) == tally(cast, weights, rules)


@given(ballots.filter(bool), weights, panels, st.data())
def test_more_support_never_moves_towards_rejection(
    cast: list[Vote], weights: dict[str, float], rules: Panel, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(cast) - 1))
    one = cast[index]
    if one.stance is Stance.ABSTAIN:
        better = replace(one, stance=Stance.APPROVE)
    elif one.stance is Stance.APPROVE:
        better = replace(one, confidence=data.draw(st.floats(one.confidence, 1)))
    else:
        higher = LADDER[LADDER.index(one.stance) + 1 :]
        better = replace(one, stance=data.draw(st.sampled_from(higher)))
    before = tally(cast, weights, rules)
    after = tally([*cast[:index], better, *cast[index + 1 :]], weights, rules)
    assert LADDER.index(after.stance) >= LADDER.index(before.stance)
    assert after.active >= before.active
    if before.active:
        assert after.score >= before.score


@given(ballots, weights, panels, st.integers(-20, 20))
def test_only_the_ratios_of_weights_count(
    cast: list[Vote], weights: dict[str, float], rules: Panel, power: int
) -> None:
    weights = {name: 0.0 if weight < 1e-250 else weight for name, weight in weights.items()}  # no subnormal loses bits
    scaled = {name: weight * 2.0**power for name, weight in weights.items()}
    assert tally(cast, scaled, rules) == tally(cast, weights, rules)


@given(ballots, weights, panels)
def test_abstentions_are_irrelevant(cast: list[Vote], weights: dict[str, float], rules: Panel) -> None:
    active = [one for one in cast if one.stance is not Stance.ABSTAIN]
    with_all, without = tally(cast, weights, rules), tally(active, weights, rules)
    assert replace(with_all, reason="") == replace(without, reason="")


@given(ballots, weights, panels)
def test_bounds(cast: list[Vote], weights: dict[str, float], rules: Panel) -> None:
    counted = tally(cast, weights, rules)
    assert -1 <= counted.score <= 1
    assert 0 <= counted.entropy <= math.log2(3)
    assert counted.agreement == 0 if not counted.active else 1 / 3 - 1e-12 <= counted.agreement <= 1
    assert counted.stance in LADDER
    if len({v.stance for v in cast if v.stance is not NOTHING and v.confidence and weights[v.critic]}) == 1:
        assert (counted.agreement, counted.entropy) == (1.0, 0.0)
