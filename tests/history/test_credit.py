"""Credit of proposers and critics, from decisions and what became of their runs."""

from __future__ import annotations

import random

import numpy as np
import pytest

from history.histories import STUDY, decision, make_run
from windlass.history.credit import credit
from windlass.records.decision import Decision, Outcome, Proposal, Stance, Vote
from windlass.records.run import FailureKind, RunRecord


def vote(critic: str, stance: Stance, confidence: float = 0.8) -> Vote:
    return Vote(critic=critic, stance=stance, confidence=confidence, reason="")


def made(
    losses: list[float | None], proposers: list[str], **votes: list[Stance]
) -> tuple[list[RunRecord], list[Decision]]:
    runs = [
        make_run(i, {"batch": 7 + i}, loss, FailureKind.ERROR if loss is None else None)
        for i, loss in enumerate(losses, start=1)
    ]
    decisions = [
        decision(run, proposer, tuple(vote(name, stances[i]) for name, stances in votes.items()))
        for i, (run, proposer) in enumerate(zip(runs, proposers, strict=True))
    ]
    return runs, decisions


def test_a_good_proposer_is_above_a_bad_one() -> None:
    rng = np.random.default_rng(0)
    losses = [float(rng.normal(1.0 if i % 2 else 3.0, 0.5)) for i in range(60)]
    runs, decisions = made(losses, ["good" if i % 2 else "bad" for i in range(60)])
    proposers, _ = credit(STUDY, runs, decisions)
    good, bad = proposers["good"], proposers["bad"]
    assert good.value > bad.value + 2 * (good.sd + bad.sd) / 2
    assert (good.cases, good.facts["proposed"]) == (30, 30)
    assert good.facts["improved"] >= 2 > bad.facts["improved"] >= 1, "the first result of all improved on nothing"
    assert 0 < bad.good < good.good < 30


def test_rewards_by_hand() -> None:
    # 3: first, rank 1/2, improved; 1: beats it, improved; 2: beats one of two; failure: 0
    runs, decisions = made([3.0, 1.0, 2.0, None], ["p"] * 4)
    proposers, _ = credit(STUDY, runs, decisions)
    assert proposers["p"].good == pytest.approx(0.75 + 1.0 + 0.25 + 0.0)
    assert proposers["p"].facts == {
        "proposed": 4,
        "approved": 4,
        "settled": 4,
        "failed": 1,
        "improved": 2,
        "penalty": 0.0,
    }
    assert credit(STUDY, runs, decisions, noise_sd=5.0)[0]["p"].facts["improved"] == 1, "within the noise"


def test_recent_cases_count_more_and_few_say_little() -> None:
    better = [10.0 - i for i in range(10)]
    up, _ = credit(STUDY, *made([None] * 10 + better, ["p"] * 20))
    down, _ = credit(STUDY, *made([*better, *[None] * 10], ["p"] * 20))
    assert up["p"].good == down["p"].good and up["p"].value > 0.5 > down["p"].value
    none, _ = credit(STUDY, *made([1.0], ["p"]))
    assert 0.5 < none["p"].value < 0.65 and none["p"].sd > 0.2


def test_repeats_and_ablations_are_counted_and_not_judged() -> None:
    runs, decisions = made([1.0, 5.0, 5.0], ["p", "p", "ablation"])
    decisions[1] = decision(runs[1], "p", repeats=runs[0].id)
    proposers, _ = credit(STUDY, runs, decisions)
    assert (proposers["p"].cases, proposers["p"].facts["repeats"]) == (1, 1)
    assert (proposers["ablation"].cases, proposers["ablation"].value) == (0, 0.5)
    assert proposers["ablation"].facts["settled"] == 1


def test_rejected_proposals_are_a_small_penalty_and_no_case() -> None:
    runs, decisions = made([1.0, 2.0], ["p", "p"])
    refused = Decision(
        **{
            **{name: getattr(decisions[1], name) for name in ("study", "cycle", "at", "mode", "strategy", "seen")},
            "number": 3,
            "proposal": Proposal(values={}, proposer="p", reason=""),
            "config": {},
            "outcome": Outcome.REJECTED,
            "verdict": "duplicate",
        }
    )
    found = credit(STUDY, runs, [*decisions, refused])[0]["p"]
    assert found.cases == 2 and found.facts["rejected"] == 1
    assert found.facts["penalty"] == pytest.approx(0.1 / 3)


@pytest.mark.parametrize("kind", [FailureKind.LOST, FailureKind.KILLED, FailureKind.PREEMPTED])
def test_a_lost_or_killed_run_is_nobodys_case(kind: FailureKind) -> None:
    run = make_run(1, {"batch": 8}, failure=kind)
    approved = decision(run, "p", (vote("c", Stance.APPROVE),))
    proposers, critics = credit(STUDY, [run], [approved])
    assert proposers["p"].cases == critics["c"].cases == 0


def test_critics_are_right_when_they_tell_good_from_bad() -> None:
    rng = np.random.default_rng(1)
    losses = [None if i % 3 == 2 else float(rng.normal()) for i in range(60)]
    known: list[float] = []
    good = []
    for loss in losses:
        good.append(loss is not None and (not known or loss <= float(np.median(known))))
        known += [] if loss is None else [loss]
    approve, reject = Stance.APPROVE, Stance.REJECT
    runs, decisions = made(
        losses,
        ["p"] * 60,
        right=[approve if one else reject for one in good],
        wrong=[Stance.REVISE if one else approve for one in good],
        yes=[approve] * 60,
        quiet=[Stance.ABSTAIN] * 60,
    )
    _, critics = credit(STUDY, runs, decisions)
    assert critics["right"].good == 60 and critics["wrong"].good == 0
    assert critics["right"].value > 0.9 > critics["yes"].value > critics["wrong"].value < 0.1
    assert critics["yes"].good == sum(good)
    assert critics["right"].facts["brier"] == pytest.approx(0.01)
    assert critics["wrong"].facts["brier"] == pytest.approx(0.81)
    assert (critics["quiet"].cases, critics["quiet"].value) == (0, 0.5) and "brier" not in critics["quiet"].facts


def test_confident_votes_weigh_more() -> None:
    run = make_run(1, {"batch": 8}, failure=FailureKind.ERROR)

    def value(confidence: float) -> float:
        found = credit(STUDY, [run], [decision(run, "p", (vote("c", Stance.APPROVE, confidence),))])
        return found[1]["c"].value

    assert value(1.0) < value(0.5) < value(0.0) == 0.5


def test_the_order_does_not_matter_and_unsettled_runs_do_not_count() -> None:
    runs, decisions = made([3.0, None, 1.0, 2.0], ["a", "b", "a", "b"], c=[Stance.APPROVE] * 4)
    shuffle = random.Random(2)
    found = credit(STUDY, shuffle.sample(runs, 4), shuffle.sample(decisions, 4))
    assert found == credit(STUDY, runs, decisions)
    assert credit(STUDY, runs[:2], decisions)[0]["a"].cases == 1
    assert credit(STUDY, [], []) == ({}, {})
