"""What the outcomes of a deployment ask for: found from the log alone, by whoever looks, whenever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from windlass.records.deployment import Deployment, Role, Served, ServedOutcome, Stage, Tenure
from windlass.records.gate import GatePolicy
from windlass.registry.outcomes import OutcomeLog
from windlass.registry.tending import Findings, Tender
from windlass.registry.trial import Move

OLD, NEW = "a" * 12, "b" * 12
POLICY = GatePolicy.model_validate(
    {
        "deployment": "reader",
        "benchmarks": [
            {"name": "reading", "data": "x", "function": "e:f", "metric": "hits", "direction": "maximize"},
        ],
        "shadow": {"accepted": 0.8, "detect": 0.1, "failed": 0.1},
        "canary": {"shares": [0.5, 0.75], "worse": 0.2, "failed": 0.1},
        "monitor": {"window": 160, "drop": 0.1},
    }
)


@pytest.fixture
def log(tmp_path: Path) -> OutcomeLog:
    return OutcomeLog(tmp_path / "reader.outcomes.jsonl")


def answers(checkpoint: str, role: Role, accepted: float, count: int, seed: int = 0) -> list[Served]:
    good = np.random.default_rng(seed).random(count) < accepted
    outcomes = [ServedOutcome.ACCEPTED if one else ServedOutcome.REJECTED for one in good]
    return [Served(checkpoint=checkpoint, role=role, outcome=outcome) for outcome in outcomes]


def both(ours: Sequence[Served], theirs: Sequence[Served]) -> list[Served]:
    return [one for pair in zip(ours, theirs, strict=True) for one in pair]


def line(stage: Stage, share: float = 0.0, since: int = 0) -> Deployment:
    return Deployment(
        name="reader",
        tenures=(Tenure(checkpoint=OLD, since=1.0),),
        stages={OLD: Stage.CHAMPION, NEW: stage},
        share=share,
        trial_from=since,
    )


def canary(log: OutcomeLog, accepted: float, count: int = 4000) -> None:
    log.append(both(answers(NEW, Role.CANARY, accepted, count, 1), answers(OLD, Role.CHAMPION, 0.9, count, 2)))


def test_without_a_champion_or_outcomes_there_is_nothing_to_do(log: OutcomeLog) -> None:
    assert Tender(log).look(Deployment(name="reader"), POLICY, POLICY) == Findings()
    found = Tender(log).look(line(Stage.SHADOW), POLICY, POLICY)
    assert found.challenger == NEW and found.advice is not None and found.advice.move is Move.WAIT


@pytest.mark.parametrize(("accepted", "move"), [(0.99, Move.ADVANCE), (0.5, Move.REJECT)])
def test_a_shadow_is_passed_or_failed(log: OutcomeLog, accepted: float, move: Move) -> None:
    log.append(answers(NEW, Role.SHADOW, accepted, 400))
    found = Tender(log).look(line(Stage.SHADOW), POLICY, POLICY)
    assert found.advice is not None and found.advice.move is move


@pytest.mark.parametrize(
    ("share", "accepted", "move"), [(0.5, 0.9, Move.GROW), (0.75, 0.9, Move.PROMOTE), (0.5, 0.3, Move.ROLL_BACK)]
)
def test_a_canary_grows_promotes_or_goes_back(log: OutcomeLog, share: float, accepted: float, move: Move) -> None:
    canary(log, accepted)
    found = Tender(log).look(line(Stage.CANARY, share), POLICY, POLICY)
    assert found.advice is not None and found.advice.move is move


def test_a_late_look_finds_what_looks_on_the_way_found(log: OutcomeLog) -> None:
    watching, on_the_way = Tender(log), []
    for start in range(0, 2000, 250):
        ours, theirs = (answers(one, role, 0.9, 250, start) for one, role in ((NEW, Role.CANARY), (OLD, Role.CHAMPION)))
        log.append(both(ours, theirs))
        on_the_way.append(watching.look(line(Stage.CANARY, 0.5), POLICY, POLICY))
    assert on_the_way[-1].advice == Tender(log).look(line(Stage.CANARY, 0.5), POLICY, POLICY).advice
    assert on_the_way[-1].advice is not None and on_the_way[-1].advice.move is Move.GROW


def test_a_new_step_counts_from_where_it_began(log: OutcomeLog) -> None:
    canary(log, 0.9)
    tender, began = Tender(log), log.end()
    assert tender.look(line(Stage.CANARY, 0.5), POLICY, POLICY).advice is not None
    fresh = tender.look(line(Stage.CANARY, 0.75, since=began), POLICY, POLICY).advice
    assert fresh is not None and (fresh.move, fresh.answers) == (Move.WAIT, 0)
    log.append(answers(NEW, Role.CANARY, 0.2, 300))
    log.append(answers(OLD, Role.CHAMPION, 0.9, 300))
    log.append(both(answers(NEW, Role.CANARY, 0.2, 900, 3), answers(OLD, Role.CHAMPION, 0.9, 900, 4)))
    worse = tender.look(line(Stage.CANARY, 0.75, since=began), POLICY, POLICY).advice
    assert worse is not None and worse.move is Move.ROLL_BACK


def test_a_champion_that_serves_worse_is_found_and_a_later_tenure_begins_anew(log: OutcomeLog) -> None:
    log.append(answers(OLD, Role.CHAMPION, 0.95, 1600))
    alone = line(Stage.RETIRED)
    assert Tender(log).look(alone, POLICY, POLICY).regression is None
    log.append(answers(OLD, Role.CHAMPION, 0.6, 1600, 5))
    found = Tender(log).look(alone, POLICY, POLICY).regression
    assert found is not None and "answers accepted" in found.reason
    again = replace(alone, tenures=(*alone.tenures, Tenure(checkpoint=OLD, since=2.0, outcomes_from=log.end())))
    assert Tender(log).look(again, POLICY, POLICY).regression is None


def test_the_predecessors_answers_stand_in_until_a_champion_has_its_own(log: OutcomeLog) -> None:
    log.append(answers(OLD, Role.CHAMPION, 0.95, 1600))
    new = Tenure(checkpoint=NEW, since=2.0, outcomes_from=log.end())
    replaced = Deployment(name="reader", tenures=(Tenure(checkpoint=OLD, since=1.0, until=2.0), new))
    log.append(answers(NEW, Role.CHAMPION, 0.5, 160, 6))
    assert Tender(log).look(replaced, POLICY, POLICY).regression is not None


def test_a_frozen_deployment_is_left_alone(log: OutcomeLog) -> None:
    canary(log, 0.3)
    assert Tender(log).look(replace(line(Stage.CANARY, 0.5), frozen="r1"), POLICY, POLICY) == Findings()
