"""Shadow and canary: the right step for the right reason, whoever asks and however often."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.errors import StudyError
from windlass.records.deployment import Role, Served, ServedOutcome
from windlass.records.gate import Canary, Shadow
from windlass.registry.outcomes import Tally
from windlass.registry.trial import (
    FIRST,
    Advice,
    Look,
    Move,
    Trial,
    answers_at,
    canary_advice,
    canary_needed,
    first_look,
    shadow_advice,
    shadow_needed,
    spent,
    usual_share,
)
from windlass.registry.wilson import chance_above, chance_below, chance_lower, chance_no_worse

A, B = "a" * 12, "b" * 12
GOOD, BAD, FAILED = ServedOutcome.ACCEPTED, ServedOutcome.REJECTED, ServedOutcome.THREW
USUAL = Tally(accepted=9000, rejected=950, threw=50)


def answer(role: Role, outcome: ServedOutcome, checkpoint: str = "") -> Served:
    return Served(checkpoint=checkpoint or (A if role is Role.CHAMPION else B), role=role, outcome=outcome)


def fold(trial: Trial, answers: Iterable[Served]) -> Trial:
    for one in answers:
        trial.add(one)
    return trial


def shadow(outcomes: Iterable[ServedOutcome], policy: Shadow | None = None) -> Trial:
    trial = Trial(Role.SHADOW, B, A, shadow_needed(policy or Shadow()))
    return fold(trial, (answer(Role.SHADOW, outcome) for outcome in outcomes))


def canary(
    ours: tuple[int, int, int], theirs: tuple[int, int, int], needed: int, order: int = 0, trial: Trial | None = None
) -> Trial:
    """At one look: accepted, rejected, failed answers of either side."""
    trial = trial or Trial(Role.CANARY, B, A, needed)
    tallies = [Tally(accepted=a, rejected=r, threw=f) for a, r, f in (ours, theirs)]
    trial.looks.append(Look(order=order, challenger=tallies[0], champion=tallies[1]))
    return trial


# Looks ---------------------------------------------------------------------------------------------------------------


def test_all_looks_together_spend_no_more_than_the_error() -> None:
    parts = [spent(order) for order in range(-60, 100_000)]
    assert all(part > 0 for part in parts)
    assert 0.999 < sum(parts) <= 1


@given(st.integers(1, 10_000))
def test_looks_double_and_meet_the_needed_count(needed: int) -> None:
    first = first_look(needed)
    counts = [answers_at(order, needed) for order in range(first, 4)]
    assert answers_at(0, needed) == needed and answers_at(3, needed) == 8 * needed
    assert first == 0 or FIRST <= counts[0] < 2 * FIRST
    assert all(a < b <= 2 * a for a, b in itertools.pairwise(counts))


def test_a_look_is_taken_at_its_count_alone() -> None:
    trial = Trial(Role.CANARY, B, A, 40)
    for number in range(1, 200):
        trial.add(answer(Role.CHAMPION, BAD))
        trial.add(answer(Role.CANARY, GOOD))
        trial.add(answer(Role.SHADOW, FAILED))
        trial.add(answer(Role.CANARY, FAILED, checkpoint="c" * 12))
        assert trial.challenger == Tally(accepted=number) and trial.champion == Tally(rejected=number)
    assert [(look.order, look.challenger.n, look.champion.n) for look in trial.looks] == [
        (-2, 10, 10),
        (-1, 20, 20),
        (0, 40, 40),
        (1, 80, 80),
        (2, 160, 160),
    ]
    assert trial.next_look == 320


# Shadow --------------------------------------------------------------------------------------------------------------


def test_the_count_of_a_shadow_gives_its_power() -> None:
    policy = Shadow()
    needed, level = shadow_needed(policy), 0.05 * spent(0)

    def power(n: int) -> float:
        """At least: of missing either limit."""
        counts = np.array([n])
        good = chance_above(counts, 0.9, 0.95, level)[0]
        return float(good + chance_below(counts, 0.05, 1e-12, level)[0] - 1)

    assert power(needed) >= 0.8 > power(needed - 1)
    assert shadow_needed(Shadow(power=0.95)) > needed < shadow_needed(Shadow(confidence=0.99))
    assert shadow_needed(Shadow(accepted=0.98, failed=0.01)) > 0, "better by detect is more than all: without fault"


@pytest.mark.parametrize("policy", [Shadow(), Shadow(accepted=0.5, failed=0.4)])
def test_a_shadow_passes_at_the_needed_count_and_not_before(policy: Shadow) -> None:
    needed = shadow_needed(policy)
    before = shadow_advice(policy, shadow([GOOD] * (needed - 1), policy))
    assert before.move is Move.WAIT and before.needed == needed and before.answers == needed - 1
    assert f"next look at {needed} answers" in before.reason
    advice = shadow_advice(policy, shadow([GOOD] * needed, policy))
    assert advice.move is Move.ADVANCE
    assert f"{needed} of {needed} answers accepted (100 %)" in advice.reason
    assert f"limit {100 * policy.accepted:g} %" in advice.reason


def test_a_shadow_that_plainly_fails_is_rejected_soon() -> None:
    failed = shadow_advice(Shadow(), shadow([FAILED] * 20))
    assert failed.move is Move.REJECT and "shown to be" in failed.reason
    assert failed.evidence["challenger"]["threw"] < 2 * FIRST
    rejected = shadow_advice(Shadow(), shadow([BAD] * 20))
    assert rejected.move is Move.REJECT and "0 of" in rejected.reason and "less than 90 %" in rejected.reason


def test_a_shadow_near_its_limit_waits() -> None:
    needed = shadow_needed(Shadow())
    outcomes = ([GOOD] * 9 + [BAD]) * needed
    advice = shadow_advice(Shadow(), shadow(outcomes[: needed * 4]))
    assert advice.move is Move.WAIT


def test_escalated_answers_are_neither_accepted_nor_failed() -> None:
    advice = shadow_advice(Shadow(), shadow([ServedOutcome.ESCALATED] * 16))
    assert advice.move is Move.REJECT and "accepted" in advice.reason


def test_one_broken_limit_outweighs_an_earlier_pass() -> None:
    needed = shadow_needed(Shadow())
    advice = shadow_advice(Shadow(), shadow([GOOD] * needed + [FAILED] * needed))
    assert advice.move is Move.REJECT


# Canary --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(4))
def test_the_count_of_a_step_gives_its_power(step: int) -> None:
    policy = Canary()
    needed, share = canary_needed(policy, step, USUAL), policy.shares[step]
    level = 0.05 * spent(0)

    def powers(n: int) -> tuple[float, float]:
        theirs = round(n * (1 - share) / share)
        return (
            chance_no_worse(n, theirs, 0.9, 0.9, 0.05, level),
            chance_lower(n, theirs, 0.85, 0.9, level / 8),
        )

    assert min(powers(needed)) >= 0.8 > min(powers(round(needed * 0.98)))


def test_a_champion_that_nobody_knows_is_planned_for_at_its_hardest() -> None:
    assert usual_share(Tally()) == 0.5
    policy = Canary(worse=0.2)
    counts = [canary_needed(policy, 3, before) for before in (Tally(), Tally(accepted=4), Tally(accepted=10**6))]
    assert counts == sorted(counts, reverse=True)
    assert 0 < canary_needed(policy, 3, Tally(rejected=10**6)) < 100, "nobody can be worse than this one by so much"


def test_a_difference_that_is_out_of_reach_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windlass.registry.wilson.MOST", 1000)
    with pytest.raises(StudyError, match=r"shadow: to see a difference of 1e-05 .* answers\nRaise shadow.detect"):
        shadow_needed(Shadow(detect=1e-5))
    with pytest.raises(StudyError, match=r"canary: to see a difference of 0.00015 .* answers\nRaise canary.worse"):
        canary_needed(Canary(worse=0.00015), 0, USUAL)


def test_a_canary_grows_step_by_step_and_is_promoted() -> None:
    policy = Canary()
    for step, share in enumerate((0.05, 0.2, 0.5, None)):
        needed = canary_needed(policy, step, USUAL)
        ours = round(0.9 * needed)
        advice = canary_advice(policy, step, canary((ours, needed - ours, 0), (9000, 1000, 0), needed))
        assert advice.move is (Move.GROW if share else Move.PROMOTE) and advice.share == share
        assert "limit 5 points" in advice.reason and "worse by" in advice.reason


def test_a_canary_does_not_grow_before_the_needed_count() -> None:
    needed = 572
    trial = canary((286, 0, 0), (9000, 1000, 0), needed, order=-1)
    advice = canary_advice(Canary(), 0, trial)
    assert advice.move is Move.WAIT and "a fall by 5 points ruled out" in advice.reason


def test_a_canary_that_is_worse_goes_back() -> None:
    advice = canary_advice(Canary(), 1, canary((480, 120, 0), (9000, 1000, 0), 600))
    assert advice.move is Move.ROLL_BACK and advice.share is None
    assert "480 of 600 answers accepted (80 %), of the champion's 10000 90 %: shown to be worse" in advice.reason
    assert advice.evidence["difference"]["high"] < 0


def test_a_canary_a_little_worse_may_grow_once_a_fall_that_matters_is_ruled_out() -> None:
    n = 572 << 6
    trial = canary((round(0.88 * n), n - round(0.88 * n), 0), (9 * n, n, 0), 572, order=6)
    assert canary_advice(Canary(), 0, trial).move is Move.GROW


def test_a_canary_whose_answers_fail_goes_back_though_more_are_accepted() -> None:
    advice = canary_advice(Canary(), 0, canary((520, 0, 80), (8000, 2000, 0), 600))
    assert advice.move is Move.ROLL_BACK and "80 of 600 failed (13.3 %): shown to be more than 5 %" in advice.reason


def test_a_canary_with_a_few_failures_too_many_waits() -> None:
    advice = canary_advice(Canary(), 0, canary((565, 0, 35), (9000, 1000, 0), 600))
    assert advice.move is Move.WAIT


def test_a_breakdown_is_noticed_within_tens_of_answers() -> None:
    policy, trial = Canary(), Trial(Role.CANARY, B, A, canary_needed(Canary(), 0, USUAL))
    while canary_advice(policy, 0, trial).move is Move.WAIT:
        fold(trial, [answer(Role.CHAMPION, GOOD)] * 99)
        trial.add(answer(Role.CANARY, BAD))
    advice = canary_advice(policy, 0, trial)
    assert advice.move is Move.ROLL_BACK and advice.answers < 2 * FIRST


def test_nothing_is_said_without_answers_of_both() -> None:
    trial = Trial(Role.CANARY, B, A, 100)
    assert "no answers yet" in canary_advice(Canary(), 0, trial).reason
    assert canary_advice(Canary(), 0, canary((100, 0, 0), (0, 0, 0), 100)).move is Move.WAIT


def test_going_back_outweighs_an_earlier_growth() -> None:
    trial = canary((600, 0, 0), (9000, 1000, 0), 600)
    assert canary_advice(Canary(), 0, trial).move is Move.GROW
    canary((600, 600, 0), (18000, 2000, 0), 600, order=1, trial=trial)
    assert canary_advice(Canary(), 0, trial).move is Move.ROLL_BACK


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([GOOD, GOOD, GOOD, BAD, FAILED]), min_size=1, max_size=300),
    st.sampled_from([(0.6, 0.2), (0.8, 0.3), (0.9, 0.2)]),
)
def test_advice_depends_on_the_log_alone_not_on_who_asks_when(
    outcomes: list[ServedOutcome], limits: tuple[float, float]
) -> None:
    policy = Shadow(accepted=limits[0], failed=limits[1], detect=0.1)
    asked, advice = Trial(Role.SHADOW, B, A, shadow_needed(policy)), []
    for outcome in outcomes:
        asked.add(answer(Role.SHADOW, outcome))
        advice.append(shadow_advice(policy, asked))
    late = shadow_advice(policy, shadow(outcomes, policy))
    assert late == advice[-1]
    first: Advice = next((one for one in advice if one.move is not Move.WAIT), late)
    assert late.move in (first.move, Move.REJECT)
    if late.move is first.move:
        assert (late.reason, late.evidence) == (first.reason, first.evidence) or late.move is Move.WAIT


def test_evidence_is_json() -> None:
    needed = shadow_needed(Shadow())
    trials = [shadow([GOOD] * needed), shadow([FAILED] * needed)]
    for evidence in (shadow_advice(Shadow(), trial).evidence for trial in trials):
        assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence
    for ours in ((600, 0, 0), (0, 600, 0)):
        evidence = canary_advice(Canary(), 0, canary(ours, (9000, 1000, 0), 600)).evidence
        assert json.loads(json.dumps(evidence, allow_nan=False)) == evidence


def test_a_canary_as_good_as_the_champion_seldom_goes_back() -> None:
    """All steps and looks, 200 canaries; ``benchmarks/gate/serving.py`` has more, of more kinds."""
    rng, policy, back = np.random.default_rng(3), Canary(), 0
    for _ in range(200):
        for step, share in enumerate(policy.shares):
            trial = Trial(Role.CANARY, B, A, canary_needed(policy, step, USUAL))
            totals = np.zeros((2, 3), int)
            for order in range(-2, 5):
                new = answers_at(order, trial.needed) - totals[0].sum()
                totals += [rng.multinomial(n, [0.9, 0.09, 0.01]) for n in (new, round(new * (1 - share) / share))]
                trial.looks.clear()
                canary(tuple(totals[0].tolist()), tuple(totals[1].tolist()), trial.needed, order, trial)
                move = canary_advice(policy, step, trial).move
                if move is not Move.WAIT:
                    break
            if move is Move.ROLL_BACK:
                back += 1
                break
    assert back <= 0.05 * 200
