from __future__ import annotations

import math
from typing import Any

from windlass.records.content import nest
from windlass.records.run import Failure, FailureKind, MetricSummary, RunRecord, Status
from windlass.space.space import Space
from windlass.worldmodel import trials_of
from worldmodel.problems import make_study

SPACE: dict[str, Any] = {
    "kind": {"type": "categorical", "choices": ["a", "b"]},
    "rate": {"type": "float", "low": 0, "high": 1, "when": {"kind": "a"}},
}
STUDY = make_study(SPACE, guards=[{"metric": "size", "max": 10}], baseline={"kind": "b"})


def run(number: int, params: dict[str, Any], status: Status = Status.COMPLETED, **fields: Any) -> RunRecord:
    metrics = fields.pop("metrics", {"loss": 1.0, "size": 3.0, "other": 7.0})
    values: dict[str, Any] = {
        "id": f"run-{number}",
        "name": "bowl",
        "number": number,
        "status": status,
        "created": 0.0,
        "started": 10.0,
        "ended": 20.0,
        "config": nest(params),
        "metrics": {name: MetricSummary.of(value) for name, value in metrics.items()},
    }
    return RunRecord(**{**values, **fields})


def test_trials_come_by_end_number_and_id_whatever_the_order_given() -> None:
    runs = [run(3, {"kind": "b"}), run(1, {"kind": "b"}, ended=30.0), run(2, {"kind": "b"})]
    for order in (runs, runs[::-1]):
        trials, aside = trials_of(STUDY, Space.of(STUDY), order)
        assert [trial.run_id for trial in trials] == ["run-2", "run-3", "run-1"]
        assert not aside


def test_a_trial_has_declared_metrics_cost_and_active_parameters_alone() -> None:
    (trial,), _ = trials_of(STUDY, Space.of(STUDY), [run(1, {"kind": "b", "rate": 0.3, "epochs": 5})])
    assert trial.metrics == {"loss": 1.0, "size": 3.0}
    assert trial.values == {"kind": "b"}
    assert (trial.cost_s, trial.failure) == (10.0, None)


def test_what_is_not_terminal_or_was_cancelled_teaches_nothing() -> None:
    runs = [run(i, {"kind": "b"}, status) for i, status in enumerate([Status.RUNNING, Status.CANCELLED, Status.QUEUED])]
    assert trials_of(STUDY, Space.of(STUDY), runs) == ([], {})


def test_failures_keep_their_kind_and_lose_their_metrics() -> None:
    failure = Failure(kind=FailureKind.OUT_OF_MEMORY, message="no")
    (trial,), _ = trials_of(STUDY, Space.of(STUDY), [run(1, {"kind": "b"}, Status.FAILED, failure=failure)])
    assert (trial.failure, trial.metrics) == ("out_of_memory", {})


def test_every_kind_of_failure_counts_but_those_that_came_from_outside() -> None:
    """A killed run may have been killed for its memory: it counts."""
    for kind in FailureKind:
        failed = run(1, {"kind": "b"}, Status.FAILED, failure=Failure(kind=kind, message=""))
        trials, aside = trials_of(STUDY, Space.of(STUDY), [failed])
        outside = kind in (FailureKind.LOST, FailureKind.PREEMPTED)
        assert ([trial.failure for trial in trials], aside) == ([] if outside else [str(kind)], {})


def test_a_resumed_run_says_what_it_came_to_and_nothing_about_cost() -> None:
    (trial,), _ = trials_of(STUDY, Space.of(STUDY), [run(1, {"kind": "b"}, attempt=2)])
    assert (trial.cost_s, trial.metrics) == (None, {"loss": 1.0, "size": 3.0})


def test_a_metric_that_is_absent_or_not_finite_is_divergence() -> None:
    runs = [
        run(1, {"kind": "b"}, metrics={"loss": math.nan, "size": 1.0}),
        run(2, {"kind": "b"}, metrics={"loss": 1.0}),
        run(3, {"kind": "b"}, metrics={"loss": 1.0, "size": math.inf}),
    ]
    trials, _ = trials_of(STUDY, Space.of(STUDY), runs)
    assert [(trial.failure, trial.metrics) for trial in trials] == [("diverged", {})] * 3


def test_runs_from_another_space_are_mapped_or_set_aside_with_the_reason() -> None:
    runs = [
        run(1, {"old": 1}),  # the baseline has kind
        run(2, {"kind": "c"}),
        run(3, {"kind": "a"}),
        run(4, {"kind": "a", "rate": 2.0}),
    ]
    trials, aside = trials_of(STUDY, Space.of(STUDY), runs)
    assert [(trial.run_id, trial.values) for trial in trials] == [("run-1", {"kind": "b"})]
    assert "'c'" in aside["run-2"]
    assert "no value for rate" in aside["run-3"]
    assert "from 0.0 to 1.0, not 2.0" in aside["run-4"]
