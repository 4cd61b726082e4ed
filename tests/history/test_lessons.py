"""Everything together: one history, all lessons, in any order the same."""

from __future__ import annotations

import random

import numpy as np

from history.histories import PARAMETERS, SPACE, STUDY, Values, decision, history, make_run, make_study
from windlass.history import learn, review
from windlass.records.decision import Decision, Stance, Vote
from windlass.records.run import FailureKind, RunRecord, Status
from windlass.space.space import Space


def fails(values: Values, rng: np.random.Generator) -> bool | FailureKind:
    if values["batch"] >= 70 and values["width"] >= 64:
        return FailureKind.OUT_OF_MEMORY
    return FailureKind.KILLED if rng.random() < 0.05 else False


def decided(runs: list[RunRecord]) -> list[Decision]:
    votes = (Vote(critic="novelty", stance=Stance.APPROVE, confidence=0.7, reason=""),)
    return [decision(run, ("explorer", "bayesian")[(run.number or 0) % 2], votes) for run in runs]


def test_all_lessons_of_one_history_in_any_order() -> None:
    runs = history(120, seed=1, fails=fails, loss=lambda values: 2.0 * (values["opt"] == "sgd"), noise=0.3)
    decisions = decided(runs)
    lessons = learn(STUDY, SPACE, runs, decisions)
    assert lessons.progress == review(STUDY, runs)
    assert [set(one.constraint.region.root) for one in lessons.constraints] == [{"batch", "width"}]
    assert lessons.constraints[0].kinds == {"out_of_memory": len(lessons.constraints[0].failed)}
    assert lessons.patterns[0].region.contains({"opt": "sgd"}) and -2.3 < lessons.patterns[0].effect < -1.7
    assert lessons.trend is not None and lessons.trend.runs == 20
    assert lessons.stagnation.noise_sd is None
    assert set(lessons.proposers) == {"explorer", "bayesian"} and set(lessons.critics) == {"novelty"}
    assert not lessons.set_aside and not lessons.notes
    shuffle = random.Random(1)
    again = learn(STUDY, SPACE, shuffle.sample(runs, 120), shuffle.sample(decisions, 120))
    assert again == lessons


def test_runs_of_another_space_are_set_aside_and_told() -> None:
    runs = history(30, seed=1)
    changed = make_study(
        space={
            **{name: one for name, one in PARAMETERS.items() if name != "drop"},  # dropped: mapped
            "batch": {"type": "int", "low": 8, "high": 64},  # narrower: what is above is set aside
            "depth": {"type": "int", "low": 1, "high": 4},  # new, with a value in the baseline: mapped
        },
        baseline={"depth": 2},
    )
    lessons = learn(changed, Space.of(changed), runs, [])
    above = {run.id for run in runs if run.params["batch"] > 64}
    assert set(lessons.set_aside) == above != set()
    assert all("batch must be a whole number from 8 to 64" in why for why in lessons.set_aside.values())
    assert lessons.progress.settled == 30
    new = make_study(space={**PARAMETERS, "depth": {"type": "int", "low": 1, "high": 4}})
    lessons = learn(new, Space.of(new), runs, [])
    assert len(lessons.set_aside) == 30
    assert "no value for depth" in lessons.set_aside[runs[0].id]
    assert not lessons.patterns and not lessons.constraints


def test_a_history_of_nothing_of_failures_and_of_open_runs() -> None:
    assert learn(STUDY, SPACE, [], []).progress.settled == 0
    failed = history(20, seed=1, fails=lambda values, rng: True)
    lessons = learn(STUDY, SPACE, failed, decided(failed))
    assert lessons.progress.failed == 20 and not lessons.constraints and lessons.trend is None
    open_runs = [make_run(i, {}, None, status=Status.RUNNING) for i in range(1, 4)]
    lessons = learn(STUDY, SPACE, open_runs, decided(open_runs))
    assert lessons.progress.active == 3 and not lessons.set_aside


def test_the_models_noise_serves_where_nothing_was_repeated() -> None:
    runs = history(30, seed=1)
    assert learn(STUDY, SPACE, runs, [], 0.7).stagnation.noise_sd == 0.7


def test_a_study_that_leaves_nothing_is_told() -> None:
    closed = make_study(constraints=[{"name": "none", "forbid": {"batch": {"min": 8}}}])
    (note,) = learn(closed, Space.of(closed), [], []).notes
    assert "leave none of" in note and "'none' rejects" in note
