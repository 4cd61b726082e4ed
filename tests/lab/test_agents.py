"""The director and the proposers: reasons, determinism, coverage, improvement. On a constructed history."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from windlass.agents import PROPOSERS, Situation, direct
from windlass.errors import ConfigRejected
from windlass.history import review
from windlass.records.content import digest, nest
from windlass.records.decision import Mode
from windlass.records.run import Failure, FailureKind, MetricSummary, RunRecord, Status
from windlass.records.study import Study
from windlass.space.generate import ConfigGenerator
from windlass.space.space import Space

STUDY = Study.model_validate(
    {
        "name": "s",
        "trainer": {"command": ["train"]},
        "space": {
            "kind": {"type": "categorical", "choices": ["a", "b"]},
            "x": {"type": "float", "low": -1.0, "high": 1.0},
            "n": {"type": "int", "low": 1, "high": 1000, "log": True, "when": {"kind": "b"}},
            "flags": {"type": "set", "choices": ["p", "q", "r"]},
        },
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "budget": {"runs": 100},
        "seed": 5,
    }
)


def loss(values: dict[str, Any]) -> float:
    return float(abs(values["x"] - 0.3) + (values["kind"] == "a") + 0.1 * len(values["flags"]))


def run(number: int, values: dict[str, Any], failed: bool = False) -> RunRecord:
    return RunRecord(
        id=f"r{number}",
        name="s",
        number=number,
        created=float(number),
        status=Status.FAILED if failed else Status.COMPLETED,
        failure=Failure(kind=FailureKind.ERROR, message="boom") if failed else None,
        config=nest(values),
        metrics={} if failed else {"loss": MetricSummary.of(loss(values))},
    )


def situation(history: list[RunRecord], study: Study = STUDY) -> Situation:
    generator = ConfigGenerator(study)
    known = {digest(r.config) for r in history}

    def acceptable(values: Any) -> bool:
        try:
            return digest(generator.generate(values)) not in known
        except ConfigRejected:
            return False

    return Situation(
        study=study,
        space=Space.of(study),
        progress=review(study, history),
        next_number=len(history) + 1,
        explored=len(history),
        baseline_is_complete=acceptable({}),
        acceptable=acceptable,
    )


def explored(count: int) -> list[RunRecord]:
    proposals = PROPOSERS["explorer"].propose(situation([]), range(1, count + 1))
    return [run(i, dict(p.values)) for i, p in enumerate(proposals, start=1)]


def test_explorer_covers_the_space_evenly_one_by_one_as_in_a_batch() -> None:
    batch = explored(64)
    x = np.array([r.config["x"] for r in batch])
    assert np.histogram(x, bins=8, range=(-1, 1))[0].min() >= 5, "random points leave bins of 8 far emptier"
    history: list[RunRecord] = []
    for number in range(1, 9):
        (proposal,) = PROPOSERS["explorer"].propose(situation(history), [number])
        history.append(run(number, dict(proposal.values)))
    assert [r.config for r in history] == [r.config for r in batch[:8]]


def test_proposals_are_valid_new_and_the_same_to_the_bit_for_the_same_situation() -> None:
    history = explored(20)
    for name in ("explorer", "local"):
        now = situation(history)
        proposals = PROPOSERS[name].propose(now, range(21, 61))
        assert proposals == PROPOSERS[name].propose(now, range(21, 61))
        assert all(now.acceptable(p.values) for p in proposals)
        assert len({digest(dict(p.values)) for p in proposals}) == 40


def test_another_seed_proposes_something_else() -> None:
    other = STUDY.model_copy(update={"seed": 6})
    first, second = (PROPOSERS["explorer"].propose(situation([], s), [1])[0] for s in (STUDY, other))
    assert first.values != second.values


def test_local_exploiter_beats_the_explorer_on_the_same_number_of_runs() -> None:
    history = explored(20)
    best_explored = min(loss(r.config) for r in explored(60))
    for number in range(21, 61):
        (proposal,) = PROPOSERS["local"].propose(situation(history), [number])
        history.append(run(number, dict(proposal.values)))
    assert min(loss(r.config) for r in history if r.status is Status.COMPLETED) < best_explored


def test_what_a_local_step_leaves_alone_stays_to_the_bit() -> None:
    history = explored(12)
    parents = {r.id: r.params for r in history}
    kept = 0
    for p in PROPOSERS["local"].propose(situation(history), range(13, 60)):
        parent = parents[next(i for i in parents if f"run {i}," in p.reason)]
        kept += sum(p.values.get(name) == parent.get(name) for name in ("x", "n") if name in p.values)
    assert kept > 20


@pytest.mark.parametrize(
    ("history", "mode"),
    [
        ([], Mode.EXPLORE),
        (explored(20), Mode.EXPLOIT),
        (
            [*explored(20), *(run(i, {"kind": "a", "x": 0.0, "flags": []}, failed=True) for i in range(21, 27))],
            Mode.RECOVER,
        ),
        ([run(i, {"kind": "a", "x": 0.0, "flags": []}, failed=True) for i in range(1, 30)], Mode.EXPLORE),
    ],
    ids=["start", "results", "failing lately", "nothing works"],
)
def test_director_follows_the_results_and_says_why(history: list[RunRecord], mode: Mode) -> None:
    strategy = direct(situation(history), slots=3)
    assert strategy.mode is mode and strategy.reason and sum(strategy.slots.values()) == 3
    assert strategy.slots.keys() <= PROPOSERS.keys()


def test_the_baseline_comes_first_where_it_is_complete() -> None:
    complete = STUDY.model_copy(update={"baseline": {"kind": "a", "x": 0.5, "flags": []}})
    assert direct(situation([], complete), 2).slots == {"baseline": 1, "explorer": 1}
    assert "baseline" not in direct(situation([]), 2).slots
    assert "baseline" not in direct(replace(situation([], complete), next_number=2), 2).slots
